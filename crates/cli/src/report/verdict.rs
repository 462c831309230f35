// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict, and when it is not `ok`: what was broken, where, and how to see it again.

use smmuv3_testbench::report::{Failure, Report};

use super::text::{BAD, BOLD, DIM, GOOD, clean, paint, wrap};
use super::{INDENT, Setting};

/// The verdict's line first.
pub fn lines(report: &Report, setting: &Setting, columns: usize) -> Vec<String> {
    let machine = clean(&report.machine);
    match &report.failure {
        None => {
            let held = if machine.starts_with("model") {
                "Rules R0-R5, R7-R9 held"
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
    let headline = format!("verdict: {}.", headline(failure));
    let place = place(failure, report, &setting.file);
    let mut lines =
        vec![format!("{} In {place}, on {machine}, seed {}", paint(BAD, &headline), report.seed)];
    let meaning = format!("{}: {}", clean(&failure.rule), clean(&failure.meaning));
    lines.push(String::new());
    lines.extend(wrap(&meaning, columns, INDENT, "      "));
    if let Some(step) = report.steps.get(failure.step) {
        let step = format!("step {}: {}", step.number, step.text);
        lines.extend(wrap(&step, columns, INDENT, "      "));
    }
    for paragraph in failure.text.lines().filter(|line| !line.trim().is_empty()) {
        lines.extend(wrap(paragraph, columns, INDENT, "      "));
    }
    if !failure.trace.is_empty() {
        lines.push(String::new());
        lines.push(paint(BOLD, "The shortest trace that was found to end the same way"));
        let digits = failure.trace.len().to_string().len();
        for (number, operation) in (1..).zip(&failure.trace) {
            let head = format!("{INDENT}{number:>digits$}  ");
            lines.extend(wrap(operation, columns, &head, &" ".repeat(head.len() + 2)));
        }
    }
    lines.push(String::new());
    lines.push(paint(DIM, &format!("To see it again: {}", setting.again)));
    lines
}

fn headline(failure: &Failure) -> String {
    match failure.rule.as_str() {
        "misuse" => "the driver did what the architecture does not define".to_owned(),
        "expectation" => "the scenario expected something else".to_owned(),
        "driver" => "a call of the driver failed".to_owned(),
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
