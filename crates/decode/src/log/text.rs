// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records and summaries for people.

use smmuv3_formats::{EventId, meaning, structure};

use super::cause::Certainty;
use super::event::CLASSES;
use super::record::{Detail, Fields, Hex, Kind, Record, Value};
use super::summary::{Group, Place, Summary};

/// How a line is meant, for whoever paints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What it is about.
    Title,
    /// A fact.
    Plain,
    /// Something odd.
    Warning,
    /// A likely cause.
    Cause,
    /// Something in passing.
    Faint,
}

/// Groups of a table that are printed.
const SHOWN: usize = 12;

/// Lines about a record, and how they are meant.
pub fn of_record(record: &Record) -> Vec<(Tone, String)> {
    let mut lines = vec![(Tone::Title, title(record))];
    let mut say = |tone, text: String| lines.push((tone, text));
    match &record.detail {
        Detail::Event { words, fields, section, meaning, bdf, client, disagreements } => {
            say(Tone::Plain, format!("  {meaning} (§{section})"));
            for line in event(record, fields, bdf.as_deref(), client.as_deref()) {
                say(Tone::Plain, line);
            }
            if !words.is_empty() {
                say(Tone::Faint, format!("  words       {}", joined(words)));
            }
            for text in disagreements {
                say(Tone::Warning, format!("  disagrees: {text}"));
            }
        }
        Detail::Gerror { value, meaning, .. } => {
            say(Tone::Plain, format!("  GERROR {value}: {meaning} (§2.4)"));
        }
        Detail::CmdqError { index, meaning, .. } => {
            let at = index.map_or(String::new(), |index| format!(", at index {index}"));
            say(Tone::Plain, format!("  {meaning}{at} (§3.2)"));
        }
        Detail::Command { words, meaning, .. } => {
            say(Tone::Plain, format!("  {meaning} (§4.1)"));
            say(Tone::Faint, format!("  words       {}", joined(words)));
        }
        Detail::SyncTimeout { index, prod, cons, diagnosis } => {
            let show =
                |value: &Option<Hex>| value.map_or("?".to_owned(), |value| value.to_string());
            say(
                Tone::Plain,
                format!("  CMD_SYNC at {}, PROD {}, CONS {}", show(index), show(prod), show(cons)),
            );
            say(Tone::Plain, format!("  {diagnosis} (§3.1, §3.2)"));
        }
        Detail::Suppressed { messages, meaning } => {
            say(Tone::Plain, format!("  {messages} messages: {meaning}"));
        }
        Detail::Overflow { meaning } => say(Tone::Plain, format!("  {meaning} (§3)")),
        Detail::PageRequest { fields } => {
            for line in request(fields) {
                say(Tone::Plain, line);
            }
        }
        Detail::Set { value, set, ias, oas } => {
            let size = |name: &str, bits: &Option<u64>| {
                bits.map_or(String::new(), |bits| format!("{name} {bits} bits, "))
            };
            let names = if set.is_empty() { "none".to_owned() } else { set.join(" ") };
            say(
                Tone::Plain,
                format!("  {}{}{value}: {names}", size("input", ias), size("output", oas)),
            );
        }
        Detail::Queue { entries } => say(Tone::Plain, format!("  {entries} entries")),
        Detail::Text { text } => say(Tone::Plain, format!("  {}", printable(text))),
    }
    for text in &record.violations {
        say(Tone::Warning, format!("  odd: {text}"));
    }
    for cause in &record.causes {
        let (tone, word) = match cause.certainty {
            Certainty::Certain => (Tone::Cause, "cause"),
            Certainty::Likely => (Tone::Cause, "likely"),
            Certainty::Possible => (Tone::Plain, "possible"),
        };
        say(tone, format!("  {word:<9}{}: {}", cause.id, cause.why));
        say(Tone::Faint, format!("           {}", cause.next));
    }
    for (_, line) in &mut lines {
        *line = printable(line);
    }
    lines
}

/// A line about a record that is like one before it.
pub fn in_short(record: &Record) -> String {
    let mut line = title(record);
    if let Some(cause) = record.causes.first() {
        line.push_str(&format!(" ({})", cause.id));
    }
    printable(&line)
}

/// `line 12 [7.471] smmu0: F_TRANSLATION, stream 0x100, write 0xffffe040`.
fn title(record: &Record) -> String {
    let mut line = format!("line {}", record.line);
    if let Some(time) = &record.time {
        line.push_str(&format!(" [{time}]"));
    }
    if let Some(instance) = &record.instance {
        line.push_str(&format!(" {instance}"));
    }
    line.push_str(": ");
    let code = record.id.filter(|_| record.kind == Kind::Event);
    line.push_str(&match (record.kind, code) {
        (Kind::Event, Some(code)) => format!("event {code:#04x} {}", record.name),
        (Kind::Event, None) => format!("event {}", record.name),
        (Kind::Gerror, _) => format!("global error {}", record.name),
        (Kind::CmdqError, _) => format!("command queue error {}", record.name),
        (Kind::SkippedCommand, _) => format!("skipped command {}", record.name),
        (Kind::SyncTimeout, _) => "CMD_SYNC timeout".to_owned(),
        (Kind::QueueTimeout, _) => "command queue timeout".to_owned(),
        (Kind::Overflow, _) => format!("{} overflow", record.name),
        (Kind::Suppressed, _) => format!("messages of {} kept back", record.name),
        (Kind::PageRequest, _) => "page request".to_owned(),
        (Kind::Features | Kind::Options, _) => record.name.clone(),
        (Kind::Queue, _) => format!("queue {}", record.name),
        (Kind::Probe, _) => record.name.clone(),
    });
    if let Some(sid) = record.sid() {
        line.push_str(&format!(", stream {sid:#x}"));
    }
    if let (Kind::Event | Kind::PageRequest, Some(address)) = (record.kind, record.address()) {
        let direction = match record.fields().and_then(|fields| fields.get("rnw")) {
            Some(Value::Bool(true)) => "read ",
            Some(Value::Bool(false)) => "write ",
            _ => "",
        };
        line.push_str(&format!(", {direction}{address:#x}"));
    }
    if record.count > 1 {
        line.push_str(&format!(", {} times", record.count));
    }
    line
}

fn joined(words: &[Hex]) -> String {
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The fields of an event with their meaning.
fn event(record: &Record, fields: &Fields, bdf: Option<&str>, client: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let id = record.id.and_then(EventId::from_code);
    let words = words_of(fields, id);
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<12}{value}"));
    for (name, value) in &fields.0 {
        // NSIPA says something of Secure streams alone.
        if *value == Value::Null || name == "nsipa" && *value == Value::Bool(false) {
            continue;
        }
        let meaning = meaning(name, &words, id);
        match name.as_str() {
            "sid" => {
                let client =
                    client.map_or(String::new(), |client| format!("; the kernel says {client}"));
                let function = bdf.map_or(String::new(), |bdf| note(bdf, value));
                line("StreamID", format!("{value}{function}{client}"));
            }
            _ => line(label(name), format!("{value}{meaning}")),
        }
    }
    lines
}

/// What a StreamID is on PCI.
fn note(bdf: &str, sid: &Value) -> String {
    let wide = sid.number().is_some_and(|sid| sid >= 0x1_0000);
    if wide {
        format!(" = PCI {bdf}: bits above 16 are a segment or an offset that firmware adds")
    } else {
        format!(" = PCI {bdf}, if StreamIDs are requester IDs")
    }
}

fn label(name: &str) -> &str {
    match name {
        "ssid" => "SubstreamID",
        "ssv" => "SSV",
        "rnw" => "RnW",
        "pnu" => "PnU",
        "ind" => "InD",
        "s2" => "S2",
        "class" => "CLASS",
        "stall" => "Stall",
        "stag" => "STAG",
        "addr" => "InputAddr",
        "ipa" => "IPA",
        "fetch_addr" => "FetchAddr",
        "reason" => "Reason",
        "gpcf" => "GPCF",
        "ttrnw" => "TTRnW",
        "nsipa" => "NSIPA",
        "span" => "Span",
        "ux" => "uX",
        "uw" => "uW",
        "ur" => "uR",
        "px" => "pX",
        "pw" => "pW",
        "pr" => "pR",
        other => other,
    }
}

/// What a value means, with what sets it off.
fn meaning(name: &str, words: &[u64; 4], id: Option<EventId>) -> String {
    let Some(structure) = id.map(structure::event) else { return String::new() };
    let Some(field) = structure.field(label(name)) else { return String::new() };
    let what = meaning::field(structure, field);
    let value = field.extract(words.get(field.word).copied().unwrap_or_default());
    let text = meaning::of(structure, field, words).map(|text| text.to_string());
    match text.as_deref() {
        // By themselves these say too little.
        Some(text @ ("yes" | "no")) => format!("  {what}: {text}"),
        Some("reserved") => String::new(),
        Some(text) => format!("  {text}"),
        None if field.mask().count_ones() > 1 => format!("  {what}"),
        None => format!("  {what}: {}", if value == 0 { "no" } else { "yes" }),
    }
}

/// The words that fields make, also where the log had the fields alone.
fn words_of(fields: &Fields, id: Option<EventId>) -> [u64; 4] {
    let mut words = [0; 4];
    for field in id.map_or(&[][..], EventId::fields) {
        let known = fields.0.iter().find(|(name, _)| label(name) == field.name);
        let value = match known.map(|(_, value)| *value) {
            Some(Value::Text(class)) => CLASSES.iter().position(|c| *c == class).map(|c| c as u64),
            Some(value) => value.number(),
            None => None,
        };
        if let (Some(word), Some(value)) = (words.get_mut(field.word), value) {
            // What does not fit is a number that the kernel printed wrong: its meaning is left out.
            *word = field.insert(*word, value).unwrap_or(*word);
        }
    }
    words
}

fn request(fields: &Fields) -> Vec<String> {
    let shown = fields.0.iter().filter(|(_, value)| *value != Value::Null);
    let text: Vec<String> = shown.map(|(name, value)| format!("{name}={value}")).collect();
    vec![format!("  {} (§13)", text.join(" "))]
}

/// Lines about a whole log.
pub fn of_summary(summary: &Summary) -> Vec<(Tone, String)> {
    let mut lines = Vec::new();
    let mut say = |tone, text: String| lines.push((tone, printable(&text)));
    let count =
        |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let filtered = match summary.left_out {
        0 => String::new(),
        left_out => format!(
            ", of those that --only and --since let through; {} left out",
            count(left_out, "record")
        ),
    };
    say(
        Tone::Title,
        format!(
            "summary: {} in {}, {}{filtered}",
            count(summary.problems, "problem"),
            count(summary.lines, "line"),
            count(summary.events, "event"),
        ),
    );
    if summary.records == 0 && summary.left_out == 0 {
        let advice =
            "nothing about an SMMU was found; for one structure: smmuv3 decode ste - < FILE";
        say(Tone::Plain, format!("  {advice}"));
    }
    if summary.overflows > 0 {
        say(
            Tone::Warning,
            format!(
                "  {}: there were more events or requests than are counted here",
                count(summary.overflows, "overflow")
            ),
        );
    }
    if summary.suppressed > 0 {
        say(
            Tone::Warning,
            format!("  {} kept back by the kernel", count(summary.suppressed, "message")),
        );
    }
    let tables = [
        ("instance", &summary.by_instance),
        ("stream", &summary.by_stream),
        ("event", &summary.by_event),
        ("page", &summary.by_page),
    ];
    for (name, table) in tables {
        // One record was told in full: its tables would say it once more, each.
        if table.groups().is_empty() || summary.records == 1 {
            continue;
        }
        say(Tone::Plain, format!("  by {name}"));
        for group in table.groups().iter().take(SHOWN) {
            say(
                Tone::Plain,
                format!(
                    "  {:>8}  {}, {}",
                    group.count,
                    what(group),
                    when(&group.first, &group.last)
                ),
            );
        }
        let rest: u64 = table.groups().iter().skip(SHOWN).map(|group| group.count).sum();
        if rest + table.others > 0 {
            let groups = table.groups().len().saturating_sub(SHOWN);
            let more = if table.others > 0 {
                format!("{groups} others and what there was no room to count apart")
            } else {
                format!("{groups} others")
            };
            say(Tone::Faint, format!("  {:>8}  {more}", rest + table.others));
        }
    }
    if !summary.advice.is_empty() {
        say(Tone::Plain, "  what to do next".to_owned());
        for (place, advice) in summary.advice.iter().take(SHOWN).enumerate() {
            say(
                Tone::Cause,
                format!(
                    "  {:>2}. {} [{}, {}, first in line {}]",
                    place + 1,
                    advice.text,
                    advice.id,
                    count(advice.count, "record"),
                    advice.first.line
                ),
            );
        }
    }
    lines
}

fn what(group: &Group) -> String {
    let mut parts = Vec::new();
    if let Some(name) = &group.name {
        // The names of other kinds say little by themselves.
        match group.kind {
            None | Some(Kind::Event) => parts.push(name.clone()),
            Some(Kind::Overflow) => parts.push(format!("{name} overflow")),
            Some(Kind::Probe) => parts.push(format!("at start: {name}")),
            Some(Kind::Gerror) => parts.push(format!("global error {name}")),
            Some(Kind::CmdqError) => parts.push(format!("command queue error {name}")),
            Some(Kind::SkippedCommand) => parts.push(format!("skipped command {name}")),
            Some(Kind::SyncTimeout | Kind::QueueTimeout) => parts.push(format!("{name} timeout")),
            Some(Kind::Suppressed) => parts.push(format!("kept back: {name}")),
            Some(_) => parts.push(format!("page request {name}")),
        }
    }
    match (&group.instance, group.sid.is_some()) {
        (Some(Some(name)), _) => parts.push(name.clone()),
        (Some(None), false) => parts.push("(instance not named)".to_owned()),
        _ => {}
    }
    if let Some(sid) = group.sid {
        let bdf = group.bdf.as_ref().map_or(String::new(), |bdf| format!(" ({bdf})"));
        parts.push(format!("stream {sid}{bdf}"));
    }
    if let Some(page) = group.page {
        let access = match group.rnw {
            Some(true) => "reads of ",
            Some(false) => "writes to ",
            None => "",
        };
        parts.push(format!("{access}page {page}"));
    }
    parts.join(" ")
}

fn when(first: &Place, last: &Place) -> String {
    let place = |place: &Place| match &place.time {
        Some(time) => format!("line {} [{time}]", place.line),
        None => format!("line {}", place.line),
    };
    if first == last { place(first) } else { format!("{} to {}", place(first), place(last)) }
}

/// Text of a log can have anything in it, also what moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
