// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line a step, and beneath it what the SMMUs were told and what they refused.

use smmuv3_testbench::report::{Fault, Report, Step, TagOf};

use super::INDENT;
use super::text::{BAD, DIM, GOOD, REFUSED, clean, flow, number, pad, paint, prose, width, wrap};
use super::told;

/// Outcomes begin at most this far right of the steps' texts.
const MOST_FOR_TEXT: usize = 56;
/// Faults of a step that are listed; the rest is counted.
const MOST_FAULTS: usize = 6;

/// Of more domains with new tags the first are named.
const MOST_TAGGED: usize = 4;

/// All steps with their notes.
pub fn lines(report: &Report, columns: usize) -> Vec<String> {
    let last = report.steps.iter().map(|step| step.number).max().unwrap_or(0);
    let digits = last.to_string().len();
    // Left of a step's text: the indentation, its number, two spaces.
    let left = width(INDENT) + digits + 2;
    let widest = report.steps.iter().map(|step| width(&clean(&step.text))).max().unwrap_or(0);
    let names = report.instances.iter().map(|instance| width(&clean(&instance.name)));
    let show = Show {
        columns,
        digits,
        left,
        text: widest.min(MOST_FOR_TEXT).min(columns.saturating_sub(left) * 3 / 5),
        name: names.max().unwrap_or(0),
    };
    let failed = report.failure.as_ref().map(|failure| failure.step);
    let mut lines = Vec::new();
    for (index, step) in report.steps.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| report.steps.get(before));
        let known = before.map_or(&[][..], |before| &before.tags);
        lines.extend(show.step(step, known, failed == Some(index)));
    }
    lines
}

/// How wide things are.
struct Show {
    columns: usize,
    digits: usize,
    left: usize,
    text: usize,
    name: usize,
}

impl Show {
    /// `known` are the tags that the reader has seen.
    fn step(&self, step: &Step, known: &[TagOf], failed: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(note) = &step.note {
            lines.push(String::new());
            lines.extend(prose(note, self.columns.min(100), INDENT));
        }
        lines.extend(self.head(step, failed));
        lines.extend(self.beneath(step, known));
        lines
    }

    /// Number, text and outcome: on one line where they fit.
    fn head(&self, step: &Step, failed: bool) -> Vec<String> {
        let number = format!("{INDENT}{:>digits$}  ", step.number, digits = self.digits);
        let number = if failed { paint(BAD, &number) } else { paint(DIM, &number) };
        let (text, outcome) = (clean(&step.text), clean(&step.outcome));
        let colour = if failed {
            BAD
        } else if step.faults.is_empty() && !outcome.starts_with("refused") {
            GOOD
        } else {
            REFUSED
        };
        if outcome.is_empty() && self.left + width(&text) <= self.columns {
            return vec![number + &text];
        }
        // In a column of its own, or at least on the same line.
        for gap in [pad(&text, self.text) + "  ", "  ".to_owned()] {
            if self.left + width(&text) + width(&gap) + width(&outcome) <= self.columns {
                return vec![format!("{number}{text}{gap}{}", paint(colour, &outcome))];
            }
        }
        let indent = " ".repeat(self.left);
        let mut lines = wrap(&text, self.columns, &indent, &format!("{indent}  "));
        if let Some(first) = lines.first_mut() {
            *first = format!("{number}{}", first.trim_start());
        }
        let outcome = wrap(&outcome, self.columns, &format!("{indent}= "), &format!("{indent}  "));
        lines.extend(outcome.iter().map(|line| paint(colour, line)));
        lines
    }

    /// Faults, tags, and what each instance was told.
    fn beneath(&self, step: &Step, known: &[TagOf]) -> Vec<String> {
        let indent = " ".repeat(self.left + 2);
        let mut lines = Vec::new();
        let faults = faults(&step.faults);
        for (event, words) in faults.iter().take(MOST_FAULTS) {
            let head = format!("{indent}{event}  ");
            let wrapped = wrap(words, self.columns, &head, &format!("{indent}  "));
            lines.extend(wrapped.iter().map(|line| paint(REFUSED, line)));
        }
        if faults.len() > MOST_FAULTS {
            let more = faults.len() - MOST_FAULTS;
            lines.push(paint(REFUSED, &format!("{indent}and {more} more like these")));
        }
        let mut dim = Vec::new();
        let known = tags(known);
        let new = tags(&step.tags);
        let new: Vec<_> = new.iter().filter(|tags| !known.contains(tags)).collect();
        for (domain, tags) in new.iter().take(MOST_TAGGED) {
            dim.extend(flow(&format!("{indent}{domain}: "), tags, self.columns));
        }
        if new.len() > MOST_TAGGED {
            let more = number(new.len() as u64 - MOST_TAGGED as u64);
            dim.push(format!("{indent}and tags of {more} more, which --json shows"));
        }
        let mut instances: Vec<&str> = Vec::new();
        for told in &step.commands {
            if !instances.contains(&told.instance.as_str()) {
                instances.push(&told.instance);
            }
        }
        for instance in instances {
            let name = clean(instance);
            let head = format!("{indent}{name}{}  ", pad(&name, self.name));
            let told = step.commands.iter().filter(|told| told.instance == instance);
            dim.extend(flow(&head, &told::items(told), self.columns));
        }
        lines.extend(dim.iter().map(|line| paint(DIM, line)));
        lines
    }
}

/// Tags by domain, in the order in which they came.
fn tags(tags: &[TagOf]) -> Vec<(String, Vec<String>)> {
    let mut domains: Vec<(String, Vec<String>)> = Vec::new();
    for tag in tags {
        let domain = clean(&tag.domain);
        let bank = if tag.vmid == 0 { String::new() } else { format!(" vmid {:#x}", tag.vmid) };
        let cpu = if tag.shared { " (the CPU's)" } else { "" };
        let text = format!("{}{bank} asid {:#x}{cpu}", clean(&tag.instance), tag.asid);
        match domains.iter_mut().find(|(name, _)| *name == domain) {
            Some((_, tags)) => tags.push(text),
            None => domains.push((domain, vec![text])),
        }
    }
    domains
}

/// Faults, each the event's name and words; those of pages that follow each other are one.
fn faults(faults: &[Fault]) -> Vec<(String, String)> {
    let mut runs: Vec<(&Fault, u64)> = Vec::new();
    for fault in faults {
        match runs.last_mut() {
            Some((first, pages)) if follows(first, *pages, fault) => *pages += 1,
            _ => runs.push((fault, 1)),
        }
    }
    runs.iter().map(|(fault, pages)| in_words(fault, *pages)).collect()
}

fn follows(first: &Fault, pages: u64, next: &Fault) -> bool {
    let expected = first.page.checked_add(pages << 12);
    let moved = Fault { page: next.page, ..first.clone() };
    expected == Some(next.page) && moved == *next
}

fn in_words(fault: &Fault, pages: u64) -> (String, String) {
    let to = match pages {
        1 => String::new(),
        // The run's pages are addresses of 64 bits: the sum does not wrap.
        _ => format!(" to {:#x}", fault.page + (pages << 12) - 1),
    };
    let Fault { master, stream, access, page, meaning, event, .. } = fault;
    let substream = fault.substream.map_or(String::new(), |ssid| format!(" ssid {ssid:#x}"));
    // These say no address and no direction.
    let configuration = event.starts_with("C_BAD_") || *event == "F_STREAM_DISABLED";
    let what = if configuration { String::new() } else { format!(" {access} {page:#x}{to}") };
    (clean(event), format!("{master} (sid {stream:#x}{substream}){what}: {meaning}"))
}
