// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict, and when it is not `ok`: what was broken, where, and how to see it again.

use smmuv3_testbench::report::{Failure, Report};

use super::text::{BAD, BOLD, DIM, GOOD, clean, number, paint, wrap};
use super::{INDENT, Setting};

/// The title of a trace.
pub(super) const SHORTEST: &str = "The shortest trace that was found to end the same way";
/// That of a trace that was not made shorter.
pub(super) const LAST: &str = "The last that was done";

/// Of a longer list the middle is left out.
const MOST_LISTED: usize = 80;

/// The verdict's line first.
pub fn lines(report: &Report, setting: &Setting, columns: usize) -> Vec<String> {
    let machine = clean(&report.machine);
    match &report.failure {
        None => {
            let held = if machine.starts_with("model") {
                "Rules R0-R9 held"
            } else {
                // A machine that is not the model does not show its caches.
                "Every rule that can be seen from outside held"
            };
            let words = format!("{held} on {machine}, seed {}", report.seed);
            vec![format!("{} {words}", paint(GOOD, "verdict: ok."))]
        }
        Some(failure) => broken(failure, report, &machine, setting, columns),
    }
}

/// The failure in one line without colours: `R1 broken in step 34 (x.toml:182)`.
pub fn one_line(failure: &Failure, report: &Report, file: &str) -> String {
    format!("{} in {}", headline(failure), place(failure, report, file))
}

fn broken(
    failure: &Failure,
    report: &Report,
    machine: &str,
    setting: &Setting,
    columns: usize,
) -> Vec<String> {
    let columns = columns.min(100);
    let headline = paint(BAD, &format!("verdict: {}", headline(failure)));
    let mut lines = vec![format!("{headline}, on {machine}, seed {}", report.seed)];
    let mut place = place(failure, report, &setting.file);
    if let Some(step) = report.steps.get(failure.step) {
        place = format!("{place}: {}", step.text);
    }
    lines.extend(row("rule", &failure.meaning, columns));
    lines.extend(row("where", &place, columns));
    let mut name = "what";
    for paragraph in failure.text.lines().filter(|line| !line.trim().is_empty()) {
        lines.extend(row(core::mem::take(&mut name), paragraph, columns));
    }
    lines.extend(listed(SHORTEST, &failure.trace, columns));
    lines.extend(listed("What the hardware did in the end", &failure.hardware, columns));
    lines.push(String::new());
    lines.push(format!("{} {}", paint(DIM, "To see it again:"), clean(&setting.again)));
    lines
}

/// What happened one after the other, with numbers; of very much the first and the last.
pub(super) fn listed(title: &str, items: &[String], columns: usize) -> Vec<String> {
    if items.is_empty() {
        return Vec::new();
    }
    let digits = items.len().to_string().len();
    let hidden = match items.len() {
        0..=MOST_LISTED => 0..0,
        len => MOST_LISTED / 4..len - MOST_LISTED * 3 / 4,
    };
    let mut lines = vec![String::new(), paint(BOLD, title)];
    for (index, item) in items.iter().enumerate() {
        if index == hidden.start && !hidden.is_empty() {
            let more = number(hidden.len() as u64);
            lines.push(paint(DIM, &format!("{INDENT}… {more} more, which --json shows")));
        }
        if !hidden.contains(&index) {
            let head = format!("{INDENT}{:>digits$}  ", index + 1);
            lines.extend(wrap(item, columns, &head, &" ".repeat(head.len() + 2)));
        }
    }
    lines
}

/// A name, and a text beside it.
pub(super) fn row(name: &str, text: &str, columns: usize) -> Vec<String> {
    let head = format!("{INDENT}{name:<7}");
    let rest = " ".repeat(head.len());
    let mut lines = wrap(text, columns, &head, &rest);
    if let Some(first) = lines.first_mut() {
        let (name, text) = first.split_at(head.len().min(first.len()));
        *first = format!("{}{text}", paint(DIM, name));
    }
    lines
}

fn headline(failure: &Failure) -> String {
    headline_of(&failure.rule)
}

/// What went wrong, by the rule's name.
pub(super) fn headline_of(rule: &str) -> String {
    match rule {
        "misuse" => "the driver did what the architecture does not define".to_owned(),
        "expectation" => "the scenario expected something else".to_owned(),
        "driver" => "a call of the driver failed".to_owned(),
        "panic" => "the driver or the model panicked".to_owned(),
        rule => format!("{} is broken", clean(rule)),
    }
}

/// `step 34 (two-instances.toml:182)`; the start and the end of a run have no line.
fn place(failure: &Failure, report: &Report, file: &str) -> String {
    let number = report.steps.get(failure.step).map_or(failure.step + 1, |step| step.number);
    match failure.line {
        0 => format!("step {number}"),
        line => format!("step {number} ({file}:{line})"),
    }
}
