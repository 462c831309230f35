// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was walked, for people: an indented path, and how it ends.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use smmuv3_formats::EventRecord;
use smmuv3_walk::reach::{Severity, Space, Survey};
use smmuv3_walk::{Access, Outcome, Step, Walk, What, size};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// One access; `known` are the ID registers.
pub fn walk(walk: &Walk, known: bool) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{BOLD}{}{BOLD:#}\n", asked(&walk.access));
    for each in &walk.steps {
        step(&mut out, each);
    }
    outcome(&mut out, &walk.outcome, known);
    out
}

/// `stream 0x8, read of 0x1000`.
fn asked(access: &Access) -> String {
    let mut text = format!("stream {:#x}", access.stream);
    if let Some(substream) = access.substream {
        text += &format!(", substream {substream:#x}");
    }
    let kind = match (access.write, access.instruction) {
        (true, _) => "write to",
        (false, true) => "instruction fetch from",
        (false, false) => "read of",
    };
    let privileged = if access.privileged { "privileged " } else { "" };
    format!("{text}, {privileged}{kind} {:#x}", access.address)
}

/// `STE`, or `L2` for a descriptor.
fn label(step: &Step) -> String {
    match (step.what, step.level) {
        (What::Descriptor(stage), Some(level)) => format!("S{} L{level}", stage as u8 + 1),
        (what, _) => what.name().to_owned(),
    }
}

fn step(out: &mut String, step: &Step) {
    let indent = "  ".repeat(step.depth);
    let place = match (step.ipa, step.address) {
        (Some(ipa), Some(address)) => format!("IPA {ipa:#x} → {address:#x}"),
        (Some(ipa), None) => format!("IPA {ipa:#x}"),
        (None, Some(address)) => format!("{address:#x}"),
        (None, None) => String::new(),
    };
    let _ = write!(out, "{indent}{BOLD}{}{BOLD:#}[{:#x}] at {place}", label(step), step.index);
    if let [word] = step.words.as_slice() {
        let _ = write!(out, ": {word:#018x}");
    }
    if step.meaning.is_empty() {
        out.push('\n');
    } else {
        let _ = writeln!(out, "  {}", step.meaning);
    }
    if step.words.len() > 1 {
        // Words at the end that are zero say nothing.
        let used = step.words.iter().rposition(|word| *word != 0).map_or(1, |last| last + 1);
        for (index, pair) in step.words.get(..used).unwrap_or(&[]).chunks(4).enumerate() {
            let words: Vec<String> = pair.iter().map(|word| format!("{word:016x}")).collect();
            let _ = writeln!(out, "{indent}  {DIM}{:02x}: {}{DIM:#}", index * 32, words.join(" "));
        }
    }
}

fn outcome(out: &mut String, outcome: &Outcome, known: bool) {
    out.push('\n');
    match outcome {
        Outcome::Translated(found) => {
            let _ = writeln!(
                out,
                "{GOOD}→ {:#x}{GOOD:#}  in a mapping of {}, {}, {}",
                found.address,
                size(found.bytes_log2),
                found.permissions,
                found.attributes,
            );
            for update in &found.updates {
                let _ = writeln!(out, "  {update}");
            }
        }
        Outcome::Fault(fault) => {
            let name = fault.id.name();
            let _ = writeln!(out, "{BAD}{name}{BAD:#}: {}", fault.why);
            if let Some(rule) = fault.rule {
                let _ = writeln!(out, "  {rule}");
            }
            event(out, &fault.event);
            let recorded = if fault.recorded { "recorded" } else { "not recorded" };
            let _ = writeln!(out, "  the event is {recorded}; {}", fault.ending);
            if fault.rule.is_some() && !known {
                let _ = writeln!(
                    out,
                    "  judged for an SMMU with every feature: --idr gives the registers of yours"
                );
            }
        }
        Outcome::Silent { why } => {
            let _ = writeln!(out, "{BAD}aborted{BAD:#}: {why}");
        }
        Outcome::Missing { address, what, event: record } => {
            let _ = writeln!(
                out,
                "{BAD}the image does not have {address:#x}{BAD:#}, where the {} is",
                what.name(),
            );
            out.push_str("  if nothing answers at that address, hardware raises:\n");
            event(out, record);
            out.push_str(
                "  give another image with --memory, or say --whole if this is all of memory\n",
            );
        }
        Outcome::Unsupported { what } => {
            let _ = writeln!(out, "{BAD}not followed{BAD:#}: {what}");
        }
    }
}

fn event(out: &mut String, record: &EventRecord) {
    let words: Vec<String> = record.0.iter().map(|word| format!("{word:#018x}")).collect();
    let _ = writeln!(out, "  {record}\n  {}", words.join(" "));
}

/// What of a survey is printed.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Lines of streams, ranges and findings, each.
    pub limit: usize,
    /// The one stream that was asked for.
    pub only: Option<u32>,
    /// What streams reach, rather than the streams alone.
    pub tables: bool,
}

/// Everything that streams reach.
pub fn survey(survey: &Survey, shown: Shown) -> String {
    let mut out = String::new();
    let mut lines = shown.limit;
    for stream in survey.streams.iter().take(shown.limit) {
        let _ = writeln!(
            out,
            "{BOLD}{}{BOLD:#}  {}  {DIM}STE at {:#x}{DIM:#}",
            streams(stream.stream, stream.last),
            stream.meaning,
            stream.address
        );
        for each in &stream.spaces {
            space(&mut out, each, &mut lines);
        }
    }
    if survey.streams.is_empty() {
        let _ = match shown.only {
            Some(stream) => {
                writeln!(out, "stream {stream:#x} has no valid entry: its accesses abort")
            }
            None => writeln!(out, "no stream has a valid entry"),
        };
    }
    let hidden = survey.streams.len().saturating_sub(shown.limit) as u64 + survey.streams_left_out;
    if hidden != 0 {
        let _ = writeln!(out, "{DIM}… and {hidden} streams or substreams more{DIM:#}");
    }
    findings(&mut out, survey, shown);
    out
}

/// `stream 0x8`, or `streams 0x8-0xf`.
pub fn streams(first: u32, last: u32) -> String {
    if first == last {
        format!("stream {first:#x}")
    } else {
        format!("streams {first:#x}-{last:#x}")
    }
}

fn space(out: &mut String, space: &Space, lines: &mut usize) {
    let name = space.substream.map_or(String::new(), |one| format!("substream {one:#x}: "));
    let _ = write!(out, "  {name}{}", space.meaning);
    if let Some((stream, substream)) = space.same_as {
        let substream = substream.map_or(String::new(), |one| format!(", substream {one:#x}"));
        let _ = writeln!(out, "  (the same as stream {stream:#x}{substream})");
        return;
    }
    let _ = writeln!(out, "  reaches {}", bytes(space.bytes));
    for range in space.ranges.iter().take(*lines) {
        let to = if range.input == range.output {
            "itself".to_owned()
        } else {
            format!("{:#x}", range.output)
        };
        let _ = writeln!(
            out,
            "    {range} → {to}  {}, {}  {DIM}{}{DIM:#}",
            range.permissions,
            range.attributes,
            bytes(range.bytes)
        );
    }
    let hidden = space.ranges.len().saturating_sub(*lines);
    *lines = lines.saturating_sub(space.ranges.len());
    if hidden != 0 {
        let _ = writeln!(out, "    {DIM}… and {hidden} ranges more (--limit){DIM:#}");
    }
}

/// `1.5 MiB`: whole numbers where they are.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (0..7).rev().find(|unit| bytes >> (10 * unit) != 0).unwrap_or(0);
    let name = UNITS.get(unit).copied().unwrap_or("B");
    let (whole, rest) = (bytes >> (10 * unit), bytes & ((1 << (10 * unit)) - 1));
    if rest == 0 {
        format!("{whole} {name}")
    } else {
        // Tenths, rounded down: only what is exact looks exact.
        format!("{whole}.{} {name}", (rest as u128 * 10) >> (10 * unit))
    }
}

fn findings(out: &mut String, survey: &Survey, shown: Shown) {
    if !survey.findings.is_empty() {
        out.push('\n');
    }
    let mut sorted: Vec<_> = survey.findings.iter().collect();
    // The worst first; otherwise as they were found.
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
    for finding in sorted.iter().take(shown.limit) {
        let style = match finding.kind.severity() {
            Severity::Wrong => BAD,
            Severity::Risk => AnsiColor::Yellow.on_default().bold(),
            Severity::Note => DIM,
        };
        let mut whose = finding
            .stream
            .map_or(String::new(), |stream| streams(stream, finding.last_stream.unwrap_or(stream)));
        if let Some(substream) = finding.substream {
            whose += &format!(", substream {substream:#x}");
        }
        let whose = if whose.is_empty() { whose } else { whose + ": " };
        let at = finding.address.map_or(String::new(), |at| format!("  {DIM}[{at:#x}]{DIM:#}"));
        let name = finding.kind.name();
        let _ = writeln!(out, "{style}{name}{style:#}  {whose}{}{at}", finding.text);
    }
    let hidden =
        survey.findings.len().saturating_sub(shown.limit) as u64 + survey.findings_left_out;
    if hidden != 0 {
        let _ = writeln!(out, "{DIM}… and {hidden} findings more (--limit){DIM:#}");
    }
    let mut limits = Vec::new();
    if survey.ranges_left_out != 0 {
        limits.push(format!("{} ranges were not kept", survey.ranges_left_out));
    }
    if survey.cut_short {
        limits.push("a limit of entries, descriptors or ranges was reached".to_owned());
    }
    if survey.streams_left_out != 0 {
        limits.push(format!("{} streams or substreams were not kept", survey.streams_left_out));
    }
    if survey.missing() {
        limits.push("the image lacks memory that would have to be read".to_owned());
    }
    if !limits.is_empty() {
        let _ = writeln!(out, "\nThis is not everything: {}.", limits.join("; "));
    } else if shown.tables && survey.findings.is_empty() && !survey.streams.is_empty() {
        let _ = writeln!(
            out,
            "\n{GOOD}Nothing is wrong{GOOD:#} with {} descriptors.",
            survey.descriptors
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_or_say_that_they_are_not() {
        for (number, text) in [
            (0, "0 B"),
            (4096, "4 KiB"),
            (0x1800, "6 KiB"),
            (1536 << 10, "1.5 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (1 << 52, "4 PiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
