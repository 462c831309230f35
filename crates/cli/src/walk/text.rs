// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was walked, for people: an indented path, and how it ends.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use smmuv3_formats::EventRecord;
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
