// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields by their names, and values by numbers or names.

use smmuv3_formats::structure::{MOST_WORDS, Structure};
use smmuv3_formats::{Field, meaning};

use super::super::nearest::nearest;
use super::EncodeError;

/// Names that records have for fields whose architected name is longer.
const SHORT: &[(&str, &str)] = &[
    ("sid", "StreamID"),
    ("ssid", "SubstreamID"),
    ("addr", "InputAddr"),
    ("id", "EventID"),
    ("fetch_addr", "FetchAddr"),
];

/// The field called `name`: case does not matter, nor `_` and `-`.
pub(super) fn field(
    structure: &'static Structure,
    name: &str,
) -> Result<&'static Field, EncodeError> {
    let bare = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let wanted = name.trim();
    let short = SHORT.iter().find(|(short, _)| short.eq_ignore_ascii_case(wanted));
    let short = short.and_then(|(_, long)| structure.field(long));
    let loose = || structure.fields.iter().find(|field| bare(field.name) == bare(wanted));
    structure.field(wanted).or(short).or_else(loose).ok_or_else(|| {
        let names = structure.fields.iter().map(|field| field.name.to_owned());
        let nearest = nearest(wanted, names);
        EncodeError::UnknownField { structure: structure.name, field: wanted.to_owned(), nearest }
    })
}

/// A number: decimal, `0x`, `0b`, with `_`.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.trim().replace('_', "").to_ascii_lowercase();
    if text.starts_with(['+', '-']) {
        return None;
    }
    let (digits, base) = match (text.strip_prefix("0x"), text.strip_prefix("0b")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 2),
        _ => (text.as_str(), 10),
    };
    (!digits.starts_with('+')).then(|| u64::from_str_radix(digits, base).ok())?
}

/// `true`, `yes` and `on`, or their opposites.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Largest field, in bits, whose values may have names.
const MOST_NAMED: u32 = 6;

/// Fields that make others count: shareability where memory is cacheable, shapes of tables where there is one.
const COMPANIONS: [&str; 11] =
    ["S1CDMax", "S1CIR", "S2IR0", "MTCFG", "IR0", "IR1", "QUEUE_IC", "TABLE_IC", "FMT", "TG", "CS"];

/// The words in which values of `field` have their own names, with `field` zero.
fn companions(structure: &Structure, field: &Field) -> [u64; MOST_WORDS] {
    let mut words = [0; MOST_WORDS];
    let others = structure.fields.iter().filter(|other| other.name != field.name);
    for other in others.filter(|other| COMPANIONS.contains(&other.name)) {
        if let Some(word) = words.get_mut(other.word) {
            *word = other.insert(*word, 1).unwrap_or(*word);
        }
    }
    words
}

/// What `text` says that `field` should be.
pub(super) fn value(
    structure: &Structure,
    field: &'static Field,
    text: &str,
) -> Result<u64, EncodeError> {
    if let Some(value) = number(text) {
        return Ok(value);
    }
    if let Some(bit) = truth(text) {
        return Ok(u64::from(bit));
    }
    let bits = field.hi.saturating_sub(field.lo).saturating_add(1);
    let named: Vec<(u64, String)> = if bits <= MOST_NAMED && !field.address {
        let values = 0..1u64 << bits;
        let others = companions(structure, field);
        let name = |value| {
            let mut words = others;
            let word = words.get_mut(field.word)?;
            *word = field.insert(*word, value).ok()?;
            meaning::of(structure, field, &words).map(|name| name.to_string())
        };
        values.filter_map(|value| Some((value, name(value)?))).collect()
    } else {
        Vec::new()
    };
    let bare = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let wanted = bare(text);
    let by = |fits: &dyn Fn(&str) -> bool| {
        let mut fitting = named.iter().filter(|(_, name)| fits(&bare(name)));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(first.0)
    };
    let alias = aliases(field.name).find(|(_, alias, _)| *alias == wanted);
    if let Some((.., value)) = alias.filter(|_| !wanted.is_empty()) {
        return Ok(*value);
    }
    let found = if wanted.is_empty() {
        None
    } else {
        by(&|name| name == wanted).or_else(|| by(&|name| name.starts_with(&wanted)))
    };
    found.ok_or_else(|| {
        let names: Vec<String> =
            named.iter().map(|(value, name)| format!("{value} ({name})")).take(8).collect();
        let short: Vec<&str> = aliases(field.name).map(|(_, alias, _)| *alias).collect();
        let mut clause = String::new();
        if !names.is_empty() {
            clause = format!(", or the beginning of a name: {}", names.join(", "));
        }
        if !short.is_empty() {
            clause.push_str(&format!("; or in short {}", short.join(", ")));
        }
        EncodeError::Value { field: field.name, value: text.to_owned(), names: clause }
    })
}

/// The short names that values of the field called `name` have.
fn aliases(name: &str) -> impl Iterator<Item = &'static (&'static str, &'static str, u64)> {
    ALIASES.iter().filter(move |(field, ..)| *field == name)
}

/// Short names of values: field, name without case and marks, value.
const ALIASES: &[(&str, &str, u64)] = &[
    ("Config", "abort", 0b000),
    ("Config", "bypass", 0b100),
    ("Config", "s1", 0b101),
    ("Config", "stage1", 0b101),
    ("Config", "s2", 0b110),
    ("Config", "stage2", 0b110),
    ("Config", "s1s2", 0b111),
    ("Config", "nested", 0b111),
    ("S2TG", "4k", 0),
    ("S2TG", "64k", 1),
    ("S2TG", "16k", 2),
    ("TG0", "4k", 0),
    ("TG0", "64k", 1),
    ("TG0", "16k", 2),
    ("TG1", "16k", 1),
    ("TG1", "4k", 2),
    ("TG1", "64k", 3),
    ("TG", "4k", 1),
    ("TG", "16k", 2),
    ("TG", "64k", 3),
];
