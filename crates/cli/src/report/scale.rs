// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs with many of everything.

use smmuv3_testbench::lab::{Cost, Point, ScaleReport};

use super::asid::{WIDE, instances};
use super::table::{Column, table};
use super::text::{BOLD, DIM, DOT, about, count, number, paint, wrap};
use super::{INDENT, section};

/// All of them in lines.
pub fn render(reports: &[ScaleReport], columns: usize) -> String {
    let columns = columns.clamp(40, WIDE);
    let mut lines = Vec::new();
    for report in reports {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        one(report, columns, &mut lines);
    }
    lines.join("\n") + "\n"
}

fn one(report: &ScaleReport, columns: usize, lines: &mut Vec<String>) {
    let title = format!("{} on {}", report.policy, instances(&report.instances));
    lines.push(paint(BOLD, &title));
    let items = [
        count(report.masters, "master"),
        count(report.domains, "domain"),
        format!("{} processes", number(report.processes)),
        format!("seed {}", report.seed),
    ];
    let about_it = items.join(DOT);
    lines.extend(wrap(&about_it, columns, INDENT, INDENT).iter().map(|line| paint(DIM, line)));
    section(lines, "Everything", everything(report));
    section(lines, "One more device", points(report));
    lines.push(String::new());
    lines.extend(wrap(&memory(report), columns, INDENT, INDENT));
    lines.extend(wrap(&verdict(report), columns, INDENT, INDENT));
}

fn everything(report: &ScaleReport) -> Vec<String> {
    let heads = [
        Column::left("what"),
        Column::right("done"),
        Column::right("refused"),
        Column::right("moved").under("tags"),
        Column::right("commands").under("for each"),
        Column::right("SYNCs").under("for each"),
        Column::right("stores").under("for each"),
    ];
    let row = |what: &str, done, refused: u64, moved, cost: &Cost| {
        vec![
            what.to_owned(),
            number(done),
            number(refused),
            number(moved),
            format!("{:.2}", cost.commands),
            format!("{:.2}", cost.syncs),
            format!("{:.1}", cost.stores),
        ]
    };
    let attaches = row(
        "attach",
        report.attaches,
        report.refused.values().sum(),
        report.moved,
        &report.per_attach,
    );
    let binds = row(
        "bind",
        report.binds,
        report.binds_refused.values().sum(),
        report.binds_moved,
        &report.per_bind,
    );
    table(&heads, [attaches, binds].into_iter())
}

fn points(report: &ScaleReport) -> Vec<String> {
    let (attach, detach) = ("to attach it", "to detach it");
    let heads = [
        Column::right("domains"),
        Column::right("processes"),
        Column::right("commands").under(attach),
        Column::right("stores").under(attach),
        Column::right("ms/1000").under(attach),
        Column::right("commands").under(detach),
        Column::right("stores").under(detach),
        Column::right("ms/1000").under(detach),
    ];
    let row = |point: &Point| {
        vec![
            number(point.domains),
            number(point.processes),
            format!("{:.2}", point.per_attach.commands),
            format!("{:.2}", point.per_attach.stores),
            format!("{:.2}", point.attach_ms),
            format!("{:.2}", point.per_detach.commands),
            format!("{:.2}", point.per_detach.stores),
            format!("{:.2}", point.detach_ms),
        ]
    };
    table(&heads, report.points.iter().map(row))
}

fn memory(report: &ScaleReport) -> String {
    let driver = about(report.driver_bytes);
    match report.peak_bytes {
        Some(peak) => format!(
            "Peak memory of the whole run: {}. Tables and queues of the driver: {driver}, of which \
             some was never touched.",
            about(peak)
        ),
        None => format!("Tables and queues of the driver: {driver}."),
    }
}

/// In one sentence.
pub fn verdict(report: &ScaleReport) -> String {
    let (Some(first), Some(last)) = (report.points.first(), report.points.last()) else {
        return "Nothing was measured.".to_owned();
    };
    let few = number(first.domains);
    let many = match last.processes {
        0 => format!("{} domains", number(last.domains)),
        some => format!("{} domains and {} processes", number(last.domains), number(some)),
    };
    let work = |point: &Point| {
        let costs = [point.per_attach, point.per_detach];
        costs.iter().map(|cost| cost.commands + cost.stores).sum::<f64>()
    };
    let most = report.points.iter().map(work).fold(0.0, f64::max);
    if most <= 1.05 * work(first) {
        let off = 100.0 * (most / work(first) - 1.0);
        return format!(
            "One more device costs the same with {many} as with {few}: {off:.1} % off."
        );
    }
    let ratio = most / work(first);
    format!("One more device costs up to {ratio:.2} times as much on the way from {few} to {many}.")
}
