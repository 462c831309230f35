// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happened in all: commands, faults, DMA, coverage.

use std::collections::BTreeMap;

use smmuv3_testbench::report::{Coverage, DmaCounts, Report};

use super::INDENT;
use super::text::{DIM, about, count, flow, number, paint};
use super::told::by_count;

const COLUMN: usize = 10;

/// A line each of commands, DMA, faults, random steps.
pub fn lines(report: &Report, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let total = report.commands.values().sum();
    let mut commands = by_count(&report.commands);
    if commands.is_empty() {
        commands.push("none".to_owned());
    } else {
        commands.insert(0, format!("{} in all", number(total)));
    }
    row(&mut lines, "commands", commands, columns);
    row(&mut lines, "DMA", dma(&report.dma), columns);
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    for fault in &report.faults {
        *events.entry(fault.event.to_owned()).or_default() += 1;
    }
    if !events.is_empty() {
        row(&mut lines, "faults", by_count(&events), columns);
    }
    if let Some(coverage) = &report.coverage {
        row(&mut lines, "random", random(coverage), columns);
    }
    lines
}

fn row(lines: &mut Vec<String>, name: &str, items: Vec<String>, columns: usize) {
    let head = format!("{INDENT}{name:<COLUMN$}");
    let mut flowed = flow(&head, &items, columns).into_iter();
    if let Some(first) = flowed.next() {
        let (name, rest) = first.split_at(head.len().min(first.len()));
        lines.push(format!("{}{rest}", paint(DIM, name)));
    }
    lines.extend(flowed);
}

fn dma(dma: &DmaCounts) -> Vec<String> {
    let mut items = vec![count(dma.transfers, "transfer"), format!("{} moved", about(dma.bytes))];
    if dma.faults_expected > 0 {
        let had = if dma.faults_expected == 1 { "it" } else { "they" };
        items.push(format!("{} refused, as {had} had to be", number(dma.faults_expected)));
    }
    items
}

fn random(coverage: &Coverage) -> Vec<String> {
    let mut items = vec![
        count(coverage.operations, "operation"),
        format!("{} of them DMA", number(coverage.accesses)),
    ];
    items.push(match coverage.tlb_hits {
        Some(share) => format!("{share:.1} % TLB hits"),
        None => "TLB hits are not counted here".to_owned(),
    });
    items.push(format!("{:.1} % faults", coverage.faults));
    items.push(format!("{:.1} % stale attempts", coverage.stale_attempts));
    if coverage.interruptions > 0 {
        items.push(format!("driver interrupted {}", count(coverage.interruptions, "time")));
    }
    items
}
