// SPDX-License-Identifier: MIT OR Apache-2.0
//! From fields to words.

use serde::Serialize;
use smmuv3_formats::structure::{self, Class, Structure};
use smmuv3_formats::{DoesNotFit, EventId, Field, Opcode, meaning};

use super::decode::{DecodeError, Options, decode};
use super::decoded::Decoded;
use super::kind::{self, Kind};
use super::nearest::nearest;

/// The words of a structure, and what is to be said of them.
#[derive(Clone, Debug, Serialize)]
pub struct Encoded {
    /// All that is known of it, as of words that were read.
    #[serde(flatten)]
    pub decoded: Decoded,
    /// As they lie in memory, two digits a byte.
    pub bytes: String,
}

impl Encoded {
    /// The 64-bit words, or the register of 32 bits.
    pub fn words(&self) -> &[u64] {
        &self.decoded.words
    }
}

/// Why there are no words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The kind has no one layout.
    #[error("{name} has more than one layout; {advice}")]
    Which {
        /// The kind.
        name: String,
        /// What to say instead.
        advice: String,
    },
    /// There is no such field.
    #[error("{structure} has no field {field:?}{}; smmuv3 fields {} lists all", .nearest.as_ref().map(|name| format!(", did you mean {name}?")).unwrap_or_default(), kind::plain(.structure))]
    UnknownField {
        /// The structure.
        structure: &'static str,
        /// What was given.
        field: String,
        /// The field that is most like it.
        nearest: Option<String>,
    },
    /// A field is given twice.
    #[error("{0} is given twice; give it once")]
    Twice(&'static str),
    /// A value is no number and no name.
    #[error(
        "{value:?} is no value of {field}; give a number such as 5, 0x5 or 0b101, true or false{names}"
    )]
    Value {
        /// The field.
        field: &'static str,
        /// What was given.
        value: String,
        /// The names that values of the field have, as a clause.
        names: String,
    },
    /// A value has too many bits, or an address bits below its field.
    #[error("{}", too_large(.0))]
    DoesNotFit(DoesNotFit),
    /// The code of a command or event is given, and another one.
    #[error("{field} of {structure} is {code:#04x}; leave it out, or encode another structure")]
    Code {
        /// The structure.
        structure: &'static str,
        /// `Opcode` or `EventID`.
        field: &'static str,
        /// Its code.
        code: u8,
    },
    /// What was encoded could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

fn too_large(DoesNotFit { field, value }: &DoesNotFit) -> String {
    let bits = field.hi.saturating_sub(field.lo).saturating_add(1);
    if field.address {
        let align = 1u64.checked_shl(field.lo).unwrap_or(0);
        return format!(
            "{value:#x} does not fit in {field}: it is an address below {:#x}, aligned to {align:#x} bytes",
            u128::from(field.mask()) + u128::from(align)
        );
    }
    let max = field.mask() >> field.lo;
    format!("{value:#x} does not fit in {field}: it has {bits} bits, at most {max} ({max:#x})")
}

/// The words of `kind` with the named fields set and all others 0; of a certain command or event also its code.
/// Fields have the architecture's names, in any case, or those of [`Decoded`]; values are decimal,
/// `0x` or `0b` numbers, `true`, `false`, or the beginning of what a value means (`config=stage-1`).
///
/// # Errors
/// [`EncodeError`]. That hardware would reject the words is none: [`Decoded::illegal`] says it.
pub fn encode(
    kind: Kind,
    fields: &[(String, String)],
    options: &Options,
) -> Result<Encoded, EncodeError> {
    let (structure, code) = layout(kind, fields)?;
    let mut words = vec![0u64; structure.words];
    let code_field = match structure.class {
        Class::Event => Some("EventID"),
        Class::Command => Some("Opcode"),
        _ => None,
    };
    if let (Some(code), Some(first)) = (structure.code, words.first_mut()) {
        *first = u64::from(code);
    }
    let mut seen: Vec<&'static str> = Vec::new();
    for (name, text) in fields {
        let field = field(structure, name)?;
        if seen.contains(&field.name) {
            return Err(EncodeError::Twice(field.name));
        }
        seen.push(field.name);
        if code_field == Some(field.name) {
            // It chose the layout, or it is the layout's own.
            if let (None, Some(own)) = (code, structure.code)
                && number(text) != Some(u64::from(own))
            {
                let structure = structure.name;
                return Err(EncodeError::Code { structure, field: field.name, code: own });
            }
            continue;
        }
        let value = value(structure, field, text)?;
        if let Some(word) = words.get_mut(field.word) {
            *word = field.insert(*word, value).map_err(EncodeError::DoesNotFit)?;
        }
    }
    let decoded = decode(read_as(kind, structure), &words, options)?;
    let bytes = words.iter().flat_map(|word| {
        let bytes = word.to_le_bytes();
        bytes.into_iter().take(if structure.bits == 32 { 4 } else { 8 })
    });
    let bytes = bytes.map(|byte| format!("{byte:02x}")).collect();
    Ok(Encoded { decoded, bytes })
}

/// The kind that decodes what was encoded.
fn read_as(kind: Kind, structure: &'static Structure) -> Kind {
    match kind {
        Kind::Event | Kind::Command | Kind::Gerror | Kind::CmdqCons => kind,
        _ => Kind::One(structure),
    }
}

/// The layout of `kind`, for commands and events with the code that `fields` give.
fn layout(
    kind: Kind,
    fields: &[(String, String)],
) -> Result<(&'static Structure, Option<u8>), EncodeError> {
    let which = |advice: &str| EncodeError::Which { name: kind.name(), advice: advice.to_owned() };
    let table = |name: &str| structure::find(name).ok_or_else(|| which("give a structure's name"));
    let given = |names: &[&str]| {
        let named =
            |(name, _): &&(String, String)| names.iter().any(|one| kind::plain(name) == *one);
        fields.iter().find(named).map(|(_, text)| text.as_str())
    };
    match kind {
        Kind::One(structure) => Ok((structure, None)),
        Kind::Gerror => Ok((table("GERROR")?, None)),
        Kind::CmdqCons => Ok((table("CMDQ_CONS")?, None)),
        Kind::Command => {
            let advice = "name the command: smmuv3 encode cmd opcode=0x03 ..., or smmuv3 encode cfgi_ste ...";
            let text = given(&["opcode"]).ok_or_else(|| which(advice))?;
            let named = structure::find(text).filter(|one| one.class == Class::Command);
            let coded = number(text).and_then(|code| Opcode::from_code(u8::try_from(code).ok()?));
            let found = coded.map(structure::command).or(named).ok_or_else(|| which(advice))?;
            Ok((found, found.code))
        }
        Kind::Event => {
            let advice = "name the event: smmuv3 encode event eventid=0x10 ..., or smmuv3 encode f_translation ...";
            let text = given(&["eventid", "id"]).ok_or_else(|| which(advice))?;
            let named = structure::find(text).filter(|one| one.class == Class::Event);
            let coded = number(text).and_then(|code| EventId::from_code(u8::try_from(code).ok()?));
            let found = coded.map(structure::event).or(named).ok_or_else(|| which(advice))?;
            Ok((found, found.code))
        }
        Kind::Descriptor => Err(which(
            "name it: s1-page-descriptor, s1-block-descriptor, s1-table-descriptor, or s2-... of them",
        )),
        Kind::Idr => Err(which("encode one register: idr0, idr1, ..., iidr or aidr")),
        Kind::Features => Err(which("it is what Linux prints and has no fields")),
    }
}

/// Names that records have for fields whose architected name is longer.
const SHORT: &[(&str, &str)] = &[
    ("sid", "StreamID"),
    ("ssid", "SubstreamID"),
    ("addr", "InputAddr"),
    ("id", "EventID"),
    ("fetch_addr", "FetchAddr"),
];

fn field(structure: &'static Structure, name: &str) -> Result<&'static Field, EncodeError> {
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
fn number(text: &str) -> Option<u64> {
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

/// Largest field, in bits, whose values may have names.
const MOST_NAMED: u32 = 6;

fn value(structure: &Structure, field: &'static Field, text: &str) -> Result<u64, EncodeError> {
    if let Some(value) = number(text) {
        return Ok(value);
    }
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => return Ok(1),
        "false" | "no" | "off" => return Ok(0),
        _ => {}
    }
    let bits = field.hi.saturating_sub(field.lo).saturating_add(1);
    let named: Vec<(u64, String)> = if bits <= MOST_NAMED && !field.address {
        let values = 0..1u64 << bits;
        let name =
            |value| meaning::of_value(structure, field, value).ok()?.map(|name| name.to_string());
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
    let alias = ALIASES.iter().find(|(name, alias, _)| *name == field.name && *alias == wanted);
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
        let names = if names.is_empty() {
            String::new()
        } else {
            format!(", or the beginning of a name: {}", names.join(", "))
        };
        EncodeError::Value { field: field.name, value: text.to_owned(), names }
    })
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
