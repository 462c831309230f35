// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `smmuv3 tlbi`: the commands that invalidate a range of addresses.

mod atc;
mod notes;
mod plan;
mod range;

use serde::Serialize;

use crate::args::Tlbi;
use crate::input::{self, InputError, STANDARD_INPUT};
use crate::output::show;
use crate::report::table::{Column, table};
use crate::report::text::{BOLD, DIM, about, count, number, paint, printable, size, wrap};
use crate::{Failure, HELD, columns};
pub use plan::Plan;
use plan::Way;

/// More ranges than anybody asks for at once.
const MOST_BYTES: u64 = 16 << 20;

/// Commands that are listed unless all are asked for.
const LISTED: usize = 8;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
enum TlbiError {
    /// Standard input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A range, or what is to be done with it, makes no sense.
    #[error("{0}")]
    Range(String),
}

impl From<TlbiError> for Failure {
    fn from(error: TlbiError) -> Self {
        Self::Other(Box::new(error))
    }
}

#[derive(Serialize)]
struct Plans {
    ranges: Vec<Plan>,
}

/// Lists the commands; the exit status.
///
/// # Errors
/// [`Failure`], when a range can't be read.
pub fn execute(tlbi: &Tlbi) -> Result<u8, Failure> {
    let mut ranges = Vec::new();
    for range in &tlbi.ranges {
        if range == STANDARD_INPUT {
            let text =
                input::text(range, "ranges of addresses", MOST_BYTES).map_err(TlbiError::Input)?;
            ranges.extend(text.split_whitespace().map(str::to_owned));
        } else {
            ranges.push(range.clone());
        }
    }
    let plans: Result<Vec<Plan>, String> =
        ranges.iter().map(|range| Plan::new(range, tlbi)).collect();
    let plans = Plans { ranges: plans.map_err(TlbiError::Range)? };
    show(tlbi.json, &plans, || {
        let texts: Vec<String> = plans.ranges.iter().map(|plan| text(plan, tlbi)).collect();
        texts.join("\n")
    })?;
    Ok(HELD)
}

/// For people.
pub fn text(plan: &Plan, tlbi: &Tlbi) -> String {
    let columns = columns().clamp(40, 100);
    let bytes = plan.pages.saturating_mul(plan.granule);
    let range = format!("{:#x} to {:#x}", plan.first.0, plan.last.0);
    let pages = format!("{} of {}", count(plan.pages, "page"), size(plan.granule));
    let mut lines = vec![
        paint(BOLD, &format!("{}: {range}", printable(&plan.asked))),
        format!("  {pages}, {}; {}", about(bytes), tag(tlbi)),
    ];
    let ril = count(plan.with_ril.commands.len() as u64, "command");
    let mut section = |title: String| {
        lines.push(String::new());
        lines.push(paint(BOLD, &title));
    };
    section(format!("With range invalidation (IDR3.RIL): {ril} and a CMD_SYNC"));
    lines.extend(listed(&plan.with_ril, tlbi.all));
    lines.push(String::new());
    let singles = count(plan.without_ril.exact, "command");
    if plan.without_ril.falls_back {
        let title = format!("Without: {singles}, so the whole address space is named instead");
        lines.push(paint(BOLD, &title));
        lines.push(plan.without_ril.commands.first().unwrap_or(&plan.whole).command.line());
    } else {
        lines.push(paint(BOLD, &format!("Without: {singles} and a CMD_SYNC")));
        lines.extend(listed(&plan.without_ril, tlbi.all));
        lines.push(String::new());
        lines.push(paint(BOLD, "The whole address space: 1 command and a CMD_SYNC"));
        lines.push(plan.whole.command.line());
    }
    lines.push(String::new());
    lines.push(paint(BOLD, "Then, where a device has ATS on: 1 command and a CMD_SYNC"));
    lines.push(plan.atc.command.command.line());
    let (pages, all) = (1u128 << plan.atc.size, plan.atc.size >= atc::ALL);
    let span = if all {
        "Size 52: all addresses".to_owned()
    } else {
        let many = number(pages as u64);
        let more = (pages as u64).saturating_sub(bytes >> 12);
        format!(
            "Size {}: {many} pages of 4K from {:#x} to {:#x}, {} more than asked for; exactly: {}",
            plan.atc.size,
            plan.atc.first.0,
            plan.atc.last.0,
            number(more),
            count(plan.atc.exact.into(), "command"),
        )
    };
    lines.extend(wrap(&span, columns, "  ", "  "));
    lines.push(String::new());
    for note in &plan.notes {
        let wrapped = wrap(&note.text, columns, "  - ", "    ");
        lines.extend(wrapped.iter().map(|line| paint(DIM, line)));
    }
    lines.join("\n") + "\n"
}

/// Whose translations.
fn tag(tlbi: &Tlbi) -> String {
    let what = match (tlbi.leaf, tlbi.ttl) {
        (false, _) => "leaves and tables".to_owned(),
        (true, None) => "leaves".to_owned(),
        (true, Some(level)) => format!("leaves at level {level}"),
    };
    let asid = match tlbi.any_asid {
        true => "any ASID".to_owned(),
        false => format!("ASID {}", tlbi.asid.unwrap_or(0)),
    };
    let vmid = tlbi.vmid.unwrap_or(0);
    match (tlbi.stage, tlbi.el2) {
        (2, _) => format!("{what} of stage 2, VMID {vmid}"),
        (_, true) => format!("{what} of EL2, {asid}"),
        _ => format!("{what} of stage 1, {asid}, VMID {vmid}"),
    }
}

/// The commands of a way.
fn listed(way: &Way, all: bool) -> Vec<String> {
    let columns = [
        Column::right("#"),
        Column::left("command"),
        Column::left("words"),
        Column::right("NUM"),
        Column::right("SCALE"),
        Column::right("TTL"),
        Column::right("pages"),
        Column::left("from"),
        Column::left("to"),
    ];
    let ranges = way.commands.iter().any(|command| command.pages.is_some());
    let shown = if all { way.commands.len() } else { way.commands.len().min(LISTED) };
    let rows = way.commands.iter().take(shown).enumerate().map(|(at, command)| {
        let operand = |name: &str| command.command.operand(name);
        let address = |address: Option<crate::hex::Hex>| {
            address.map_or(String::new(), |address| format!("{:#x}", address.0))
        };
        let [first, second] = command.command.words;
        let words = format!("{:#018x} {:#018x}", first.0, second.0);
        let mut row = vec![(at + 1).to_string(), short(command.command.name), words];
        if ranges {
            row.extend(["NUM", "SCALE", "TTL"].map(operand));
            row.push(command.pages.map_or(String::new(), number));
        }
        row.push(address(command.first));
        if ranges {
            row.push(address(command.last));
        }
        row
    });
    let keep = |column: &&Column| {
        ranges || !matches!(column.name(), "NUM" | "SCALE" | "TTL" | "pages" | "to")
    };
    let columns: Vec<Column> = columns.iter().filter(keep).cloned().collect();
    let mut lines = table(&columns, rows);
    let left = way.commands.len() - shown;
    if left != 0 {
        lines.push(format!("  and {left} more; --all lists them"));
    }
    lines
}

/// Without the prefix that all have.
fn short(name: &str) -> String {
    name.strip_prefix("CMD_").unwrap_or(name).to_owned()
}
