// SPDX-License-Identifier: MIT OR Apache-2.0
//! A decoded structure as text.

use anstyle::{AnsiColor, Style};
use smmuv3_decode::log::{Certainty, Detail};
use smmuv3_decode::structure::{Decoded, Described};

use crate::report::text::{BAD, BOLD, DIM, GOOD, REFUSED, pad, paint, width, wrap};

/// Why an event may have happened.
const CAUSE: Style = AnsiColor::Cyan.on_default();

/// `decoded` in at most `columns` where words allow it: what it is, its words, a table of its fields, and what is
/// wrong with it.
pub fn render(decoded: &Decoded, columns: usize) -> String {
    let mut lines = vec![title(decoded)];
    if let Some(summary) = &decoded.summary {
        lines.extend(wrap(summary, columns, "  ", "  "));
    }
    lines.extend(words(decoded, columns));
    if !decoded.described.is_empty() {
        lines.push(String::new());
        lines.extend(table(decoded, columns));
    }
    let below = below(decoded, columns);
    if !below.is_empty() {
        lines.push(String::new());
        lines.extend(below);
    }
    lines.join("\n") + "\n"
}

fn title(decoded: &Decoded) -> String {
    let section = match decoded.section.as_str() {
        "" => String::new(),
        section => paint(DIM, &format!("  §{section}")),
    };
    format!("{}{section}", paint(BOLD, &decoded.name))
}

/// The words, as many in a line as there is room for, two at least.
fn words(decoded: &Decoded, columns: usize) -> Vec<String> {
    let digits = if decoded.word_bits == 32 { 8 } else { 16 };
    let word = |word: &u64| format!("{word:#0digits$x}", digits = digits + 2);
    let room = if columns >= 2 + 4 * (digits + 4) { 4 } else { 2 };
    let line = |words: &[u64]| {
        let words: Vec<String> = words.iter().map(word).collect();
        paint(DIM, &format!("  {}", words.join("  ")))
    };
    decoded.words.chunks(room).map(line).collect()
}

/// Fields of a structure that are shown whatever they say: more have few that matter.
const FEW: usize = 30;

/// Whether a field of 0 says nothing: it has no meaning then, or no use.
fn is_idle(field: &Described) -> bool {
    let meaning = field.meaning.as_deref().unwrap_or_default();
    field.value.number() == 0 && (meaning.is_empty() || meaning.starts_with("unused"))
}

/// A field a line: its place, name, value and meaning. What is 0 is dimmed; of what has many fields, those that say
/// nothing are only counted.
fn table(decoded: &Decoded, columns: usize) -> Vec<String> {
    let all = decoded.described.len() <= FEW;
    let fields: Vec<_> = decoded.described.iter().filter(|field| all || !is_idle(field)).collect();
    let several = decoded.described.iter().any(|field| field.word > 0);
    let place = |field: &Described| {
        let bits = if field.hi == field.lo {
            format!("{}", field.lo)
        } else {
            format!("{}:{}", field.hi, field.lo)
        };
        match (field.structure, several) {
            (Some(register), _) => format!("{register} {bits}"),
            (None, true) => format!("w{} {bits}", field.word),
            (None, false) => bits,
        }
    };
    let rows: Vec<[String; 4]> = fields
        .iter()
        .map(|field| {
            let meaning = field.meaning.clone().unwrap_or_default();
            [place(field), field.name.clone(), field.value.to_string(), meaning]
        })
        .collect();
    let heads = ["bits", "field", "value", "meaning"];
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
        cells.chain(heads.get(at).map(|head| width(head))).max().unwrap_or(0)
    };
    let [places, names, values] = [0, 1, 2].map(widest);
    let meant = rows.iter().any(|row| row.last().is_some_and(|meaning| !meaning.is_empty()));
    let line = |[place, name, value, meaning]: &[String; 4]| {
        format!(
            "  {place}{}  {name}{}  {value}{}  {meaning}",
            pad(place, places),
            pad(name, names),
            pad(value, values),
        )
        .trim_end()
        .to_owned()
    };
    let mut head = heads.map(str::to_owned);
    if !meant {
        head[3] = String::new();
    }
    let mut lines = vec![paint(DIM, &line(&head))];
    let left = 2 + places + 2 + names + 2 + values + 2;
    for (row, field) in rows.iter().zip(&fields) {
        let [place, name, value, meaning] = row;
        // A long meaning goes on below itself.
        let room = columns.saturating_sub(left).max(24);
        let mut parts = wrap(meaning, room, "", "").into_iter();
        let first = parts.next().unwrap_or_default();
        let dim = field.value.number() == 0;
        let whole = line(&[place.clone(), name.clone(), value.clone(), first]);
        lines.push(if dim { paint(DIM, &whole) } else { whole });
        lines.extend(parts.map(|part| {
            let rest = format!("{}{part}", " ".repeat(left));
            if dim { paint(DIM, &rest) } else { rest }
        }));
    }
    let idle = decoded.described.len().saturating_sub(fields.len());
    if idle > 0 {
        lines.push(paint(
            DIM,
            &format!("  and {idle} fields that are 0 and say nothing (--json has them)"),
        ));
    }
    lines
}

/// What is wrong, and what was assumed.
fn below(decoded: &Decoded, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |style, head: &str, text: &str| {
        let wrapped = wrap(&format!("{head}: {text}"), columns, "", "  ");
        lines.extend(wrapped.into_iter().enumerate().map(|(at, line)| match at {
            0 => line.replacen(head, &paint(style, head), 1),
            _ => line,
        }));
    };
    for problem in &decoded.problems {
        say(BAD, &problem.name, &problem.text);
        say(BOLD, "what to do", &problem.advice);
    }
    if let Some(Detail::Event { bdf: Some(bdf), .. }) =
        decoded.record.as_ref().map(|one| &one.detail)
    {
        say(BOLD, "stream", &format!("PCI {bdf}, if StreamIDs are requester IDs"));
    }
    for cause in decoded.record.iter().flat_map(|record| &record.causes) {
        let head = match cause.certainty {
            Certainty::Certain => "cause",
            Certainty::Likely => "likely cause",
            Certainty::Possible => "possible cause",
        };
        say(CAUSE, head, &format!("{} [{}]", cause.why, cause.id));
        say(BOLD, "next", cause.next);
    }
    for violation in &decoded.violations {
        say(REFUSED, "violation", violation);
    }
    match &decoded.illegal {
        Some(rule) => say(BAD, "illegal", &rule.to_string()),
        None if judged(decoded) => {
            say(GOOD, "legal", "no rule of §7 and §4.1 rejects it");
        }
        None => {}
    }
    for text in &decoded.assumed {
        say(DIM, "assumed", text);
    }
    lines
}

/// Whether rules were asked: there are none for what an implementation defines, nor for records and registers.
fn judged(decoded: &Decoded) -> bool {
    matches!(decoded.kind.as_str(), "ste" | "cd" | "cmd") && !decoded.assumed.is_empty()
}
