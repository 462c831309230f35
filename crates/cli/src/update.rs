// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `smmuv3 update`: how an entry that hardware may be reading is changed, and what hardware may see.

mod after;
mod plan;
mod recorder;
mod words;

use crate::args::{EntryKind, Update};
use crate::hex::Hex;
use crate::output::show;
use crate::report::text::{BAD, BOLD, DIM, GOOD, REFUSED, count, flow, paint, wrap};
use crate::{BROKEN, Failure, HELD, columns};
pub use plan::Plan;
use plan::{Change, Meaning, Seen, Step, Store};
#[cfg(test)]
pub use words::read;

/// Shows the plan; the exit status.
///
/// # Errors
/// [`Failure`], when an entry can't be read.
pub fn execute(update: &Update) -> Result<u8, Failure> {
    let refuse = |error: Box<dyn std::error::Error>| Failure::Other(error);
    if update.kind == EntryKind::Ste && update.ssid.is_some() {
        return Err(refuse("--ssid names a CD; an STE has none: leave it out".into()));
    }
    let both = words::read_both(&update.from, &update.to);
    let (from, to) = both.map_err(|error| refuse(Box::new(error)))?;
    let (sid, ssid) = (update.sid.unwrap_or(0), update.ssid.unwrap_or(0));
    let plan = Plan::new(update.kind, &from, &to, sid, ssid);
    show(update.json, &plan, || text(&plan, columns().clamp(40, 100)))?;
    Ok(if plan.hitless { HELD } else { BROKEN })
}

/// For people.
pub fn text(plan: &Plan, columns: usize) -> String {
    let [old, new] = plan.ends;
    let title = format!("{}: {old} to {new}", plan.kind);
    let mut lines = vec![paint(BOLD, &title), String::new()];
    for warning in &plan.warnings {
        let wrapped = wrap(&format!("warning: {warning}"), columns, "", "  ");
        lines.extend(wrapped.iter().map(|line| paint(REFUSED, line)));
    }
    if !plan.warnings.is_empty() {
        lines.push(String::new());
    }
    for (at, step) in plan.steps.iter().enumerate() {
        let title = format!("Step {} of {}: {}", at + 1, plan.steps.len(), step.purpose);
        lines.push(paint(BOLD, &title));
        lines.extend(of_step(step, columns));
        lines.push(String::new());
    }
    if plan.steps.is_empty() {
        lines.push("Nothing changes: no store, and no command.".to_owned());
    }
    lines.extend(verdict(plan, columns));
    if !plan.after.is_empty() {
        lines.push(String::new());
        lines.push(paint(BOLD, "Afterwards, each with a CMD_SYNC"));
        for after in &plan.after {
            lines.push(paint(DIM, &after.command.line()));
            lines.extend(wrap(&after.why, columns, "    ", "    "));
        }
    }
    if !plan.notes.is_empty() {
        lines.push(String::new());
        let notes = plan.notes.iter().flat_map(|note| wrap(note, columns, "  - ", "    "));
        lines.extend(notes.map(|line| paint(DIM, &line)));
    }
    lines.join("\n") + "\n"
}

fn of_step(step: &Step, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for Store { word, old, new, fields } in &step.stores {
        let head = format!("  word {word}  {:#018x} -> {:#018x}", old.0, new.0);
        lines.push(head);
        let fields: Vec<String> = fields.iter().map(of_field).collect();
        if !fields.is_empty() {
            lines.extend(flow("          ", &fields, columns));
        }
    }
    lines.extend(step.commands.iter().map(|command| paint(DIM, &command.line())));
    for Seen { meaning, combinations, example, why } in &step.seen {
        let (style, what) = match meaning {
            Meaning::Old => (GOOD, "the old entry"),
            Meaning::New => (GOOD, "the new entry"),
            Meaning::Either => {
                (GOOD, "the entry, the old one and the new one being the same to it")
            }
            Meaning::OldOrNewAts => (GOOD, "one of them but for EATS, which nobody asks for"),
            Meaning::Invalid => (REFUSED, "an invalid entry: transactions abort, and are reported"),
            Meaning::Mixture => (BAD, "something that is neither"),
        };
        let many = count(*combinations as u64, "combination");
        lines.push(paint(style, &format!("  hardware may see {what} ({many})")));
        if *meaning == Meaning::Mixture {
            let words: Vec<String> = example.iter().map(|word| format!("{:#x}", word.0)).collect();
            let example = format!("such as {}", words.join(","));
            lines.extend(wrap(&example, columns, "    ", "    "));
            lines.extend(why.iter().flat_map(|why| wrap(why, columns, "    ", "    ")));
        }
    }
    lines
}

fn of_field(change: &Change) -> String {
    let value = |value: Hex, meaning: &Option<String>| match meaning {
        Some(meaning) => format!("{:#x} ({meaning})", value.0),
        None => format!("{:#x}", value.0),
    };
    let Change { name, old, old_meaning, new, new_meaning, .. } = change;
    format!("{name} {} -> {}", value(*old, old_meaning), value(*new, new_meaning))
}

fn verdict(plan: &Plan, columns: usize) -> Vec<String> {
    if plan.hitless {
        let syncs = count(plan.syncs.into(), "CMD_SYNC");
        let text = format!(
            "Hitless, {syncs}: at every moment hardware finds the old {0} or the new one.",
            plan.kind
        );
        return wrap(&text, columns, "", "").iter().map(|line| paint(GOOD, line)).collect();
    }
    let mixture = |step: &Step| step.seen.iter().any(|seen| seen.meaning == Meaning::Mixture);
    let mut text = format!("Not hitless, {}.", count(plan.syncs.into(), "CMD_SYNC"));
    if plan.steps.iter().any(mixture) {
        text += " Hardware may find something that is neither the old entry nor the new one.";
    }
    if !plan.conflicts.is_empty() {
        text += " Words are read one by one, and these would have to change at once:";
    }
    let mut lines: Vec<String> =
        wrap(&text, columns, "", "").iter().map(|line| paint(BAD, line)).collect();
    let mut words: Vec<usize> = plan.conflicts.iter().map(|change| change.word).collect();
    words.dedup();
    for word in words {
        let of_word = plan.conflicts.iter().filter(|change| change.word == word);
        let fields: Vec<String> = of_word.map(of_field).collect();
        lines.extend(flow(&format!("  word {word}  "), &fields, columns));
    }
    let event = if plan.kind == "STE" { "C_BAD_STE" } else { "C_BAD_CD" };
    if !plan.conflicts.is_empty() {
        let text = format!(
            "So it is made invalid in between, and DMA meanwhile aborts with {event}. Where one of these words \
             could change alone and mean something that is wanted, change them one after the other."
        );
        lines.extend(wrap(&text, columns, "", ""));
    }
    lines
}
