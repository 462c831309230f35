// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report for people: what there is, what was done, what the SMMUs were told, and the verdict.

mod asid;
mod campaign;
mod instances;
mod scale;
mod steps;
mod stress;
mod summary;
mod table;
pub mod text;
mod told;
mod verdict;

use smmuv3_testbench::report::Report;

pub use asid::{instances, render as render_policies};
pub use campaign::{Outcome, progress, render as render_campaign};
pub use scale::render as render_scale;
pub use stress::{Stressed, progress as stress_progress, render as render_stress};
use text::{BOLD, DIM, count, paint, prose};
pub use text::{number, printable};
pub use verdict::one_line;

/// Where and how a report is shown.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Columns of the terminal.
    pub columns: usize,
    /// What messages call the scenario's file.
    pub file: String,
    /// The command line that does the same again.
    pub again: String,
}

/// Left of everything but the titles.
const INDENT: &str = "  ";

/// The report as text with colours as escape sequences, for a writer that removes them where they
/// are not wanted.
pub fn render(report: &Report, setting: &Setting) -> String {
    let columns = setting.columns.max(40);
    let mut lines = vec![paint(BOLD, &text::clean(&report.scenario))];
    lines.extend(prose(&report.description, columns.min(100), INDENT));
    lines.push(paint(
        DIM,
        &format!(
            "{INDENT}on {} · seed {} · {}",
            text::clean(&report.machine),
            report.seed,
            count(report.steps.len() as u64, "step"),
        ),
    ));
    section(&mut lines, "Instances", instances::lines(&report.instances, columns));
    section(&mut lines, "Steps", steps::lines(report, columns));
    section(&mut lines, "Summary", summary::lines(report, columns));
    lines.push(String::new());
    lines.extend(verdict::lines(report, setting, columns));
    let mut text = String::new();
    for line in &lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn section(lines: &mut Vec<String>, title: &str, of: Vec<String>) {
    if !of.is_empty() {
        lines.push(String::new());
        lines.push(paint(BOLD, title));
        lines.extend(of);
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
