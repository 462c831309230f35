// SPDX-License-Identifier: MIT OR Apache-2.0
//! The SMMUs and what they can do, as a table.

use smmuv3_testbench::report::Instance;

use super::INDENT;
use super::text::{BOLD, DIM, clean, count, flow, pad, paint, width};

const HEAD: [&str; 8] = ["name", "ASID", "stages", "granules", "OAS", "SID", "RIL", "coherent"];
const MASTERS: &str = "masters";

/// Fewer columns than this for the masters, and they get lines of their own.
const LEAST_FOR_MASTERS: usize = 24;

/// A line an instance, with its masters, and its ID registers below.
pub fn lines(instances: &[Instance], columns: usize) -> Vec<String> {
    if instances.is_empty() {
        return Vec::new();
    }
    let rows: Vec<[String; 8]> = instances.iter().map(cells).collect();
    let widths: [usize; 8] = core::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
        cells.chain(HEAD.get(column).map(|head| width(head))).max().unwrap_or(0)
    });
    let row = |cells: &[String]| {
        let mut line = INDENT.to_owned();
        for (cell, columns) in cells.iter().zip(widths) {
            line.push_str(cell);
            line.push_str(&pad(cell, columns + 2));
        }
        line
    };
    let table = width(INDENT) + widths.iter().sum::<usize>() + 2 * widths.len();
    let beside = table + LEAST_FOR_MASTERS <= columns;

    let mut head = row(&HEAD.map(str::to_owned));
    head.push_str(if beside { MASTERS } else { "" });
    let mut lines = vec![paint(DIM, head.trim_end())];
    for (instance, cells) in instances.iter().zip(&rows) {
        let text = row(cells);
        let (name, rest) = text.split_at(INDENT.len() + cells.first().map_or(0, String::len));
        let name = paint(BOLD, name);
        let masters: Vec<String> = instance.masters.iter().map(master).collect();
        if beside {
            // The indentation stands for the cells, so that further masters begin below the first.
            let mut below = flow(&" ".repeat(table), &masters, columns).into_iter();
            let first = below.next().unwrap_or_default();
            lines.push(format!("{name}{rest}{}", first.trim_start()).trim_end().to_owned());
            lines.extend(below);
        } else {
            lines.push(format!("{name}{}", rest.trim_end()));
            if !masters.is_empty() {
                lines.extend(flow(&format!("{INDENT}  {MASTERS}  "), &masters, columns));
            }
        }
        let more = flow(&format!("{INDENT}  "), &details(instance), columns);
        lines.extend(more.iter().map(|line| paint(DIM, line)));
    }
    lines
}

fn cells(instance: &Instance) -> [String; 8] {
    let stages = match (instance.stage_1, instance.stage_2) {
        (true, true) => "1 and 2",
        (true, false) => "1",
        (false, true) => "2",
        (false, false) => "none",
    };
    let yes = |is| if is { "yes" } else { "no" };
    [
        clean(&instance.name),
        format!("{}-bit", instance.asid_bits),
        stages.to_owned(),
        instance.granules.join(" "),
        format!("{}-bit", instance.output_bits),
        format!("{}-bit", instance.sid_bits),
        yes(instance.range_invalidation).to_owned(),
        yes(instance.coherent).to_owned(),
    ]
}

/// The queue, and the ID registers, IDR before others.
fn details(instance: &Instance) -> Vec<String> {
    let mut items = vec![format!("queue of {}", count(instance.commands, "command"))];
    let mut registers: Vec<_> = instance.id_registers.iter().collect();
    registers.sort_by_key(|(name, _)| !name.starts_with("IDR"));
    items.extend(registers.iter().map(|(name, value)| format!("{name} {value:#x}")));
    items
}

/// `nic 0x900 0x902-0x905`.
fn master((name, streams): (&String, &Vec<u32>)) -> String {
    let mut words = vec![clean(name)];
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for stream in streams {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*stream) => *last = *stream,
            _ => runs.push((*stream, *stream)),
        }
    }
    words.extend(runs.iter().map(|(first, last)| {
        if first == last { format!("{first:#x}") } else { format!("{first:#x}-{last:#x}") }
    }));
    words.join(" ")
}
