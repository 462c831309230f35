// SPDX-License-Identifier: MIT OR Apache-2.0
//! A topology as text: tables of what there is, and a tree of what is behind what.

use super::view::{Interrupt, Kept, Map, Monitor, Named, Range, Root, Smmu, View};
use crate::report::printable;
use crate::report::table::{Column, table};
use crate::report::text::{BAD, BOLD, DIM, DOT, GOOD, REFUSED, about, count, paint, size, wrap};

/// Mappings of a node that are listed.
const MOST_MAPPINGS: usize = 12;

/// All of `view`, in lines of `columns` where they can be.
pub fn text(view: &View, columns: usize) -> String {
    let columns = columns.clamp(40, 120);
    let mut lines =
        vec![paint(BOLD, &printable(&view.file)), format!("  {}", printable(&view.about))];
    lines.push(format!("  {}", counts(view)));
    section(&mut lines, "SMMUs", smmus(&view.smmus));
    section(&mut lines, "Behind them", behind(view));
    section(&mut lines, "Interrupt messages go to", doorbells(view));
    section(&mut lines, "Performance monitors", monitors(view));
    section(&mut lines, "Findings", findings(view, columns));
    if view.findings.is_empty() {
        lines.push(String::new());
        lines.push(paint(GOOD, "Nothing odd was found."));
    }
    lines.join("\n") + "\n"
}

fn section(lines: &mut Vec<String>, title: &str, of: Vec<String>) {
    if !of.is_empty() {
        lines.push(String::new());
        lines.push(paint(BOLD, title));
        lines.extend(of);
    }
}

fn counts(view: &View) -> String {
    let of = |severity: &str| view.findings.iter().filter(|one| one.severity == severity).count();
    [
        (view.smmus.len(), "SMMU"),
        (view.roots.len(), "PCI root"),
        (view.devices.len(), "other device"),
        (view.kept.len(), "kept memory node"),
        (of("error"), "error"),
        (of("warning"), "warning"),
        (of("note"), "note"),
    ]
    .into_iter()
    .filter(|(many, what)| *many != 0 || matches!(*what, "SMMU" | "PCI root"))
    .map(|(many, what)| count(many as u64, what))
    .collect::<Vec<_>>()
    .join(DOT)
}

fn smmus(smmus: &[Smmu]) -> Vec<String> {
    let columns = [
        Column::right("#"),
        Column::left("node"),
        Column::left("registers"),
        Column::right("events").under("interrupts"),
        Column::right("PRI").under("interrupts"),
        Column::right("SYNC").under("interrupts"),
        Column::right("errors").under("interrupts"),
        Column::left("coherent"),
        Column::left("else"),
    ];
    let line = |line: &Option<Interrupt>| line.map_or("-".to_owned(), of_line);
    let rows = smmus.iter().map(|smmu| {
        let mut other = Vec::new();
        if smmu.model != "generic" {
            other.push(printable(&smmu.model));
        }
        other.extend(smmu.httu.map(|httu| format!("HTTU {httu}")));
        other.extend(smmu.vatos.map(|base| format!("VATOS {:#x}", base.0)));
        other.extend(smmu.proximity.map(|domain| format!("proximity {domain}")));
        other.extend(smmu.msi.as_ref().map(|msi| {
            format!("messages as {:#x} to {}", msi.device_id.0, printable(&msi.doorbell))
        }));
        let interrupts = &smmu.interrupts;
        vec![
            smmu.index.to_string(),
            printable(&smmu.name),
            extent(&smmu.registers),
            line(&interrupts.event),
            line(&interrupts.pri),
            line(&interrupts.sync),
            line(&interrupts.gerror),
            if smmu.coherent { "yes" } else { "no" }.to_owned(),
            other.join(DOT),
        ]
    });
    table(&columns, rows)
}

/// What is behind each SMMU, and behind none.
fn behind(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    let places = (0..view.smmus.len()).map(Some).chain([None]);
    for place in places {
        let mut branches: Vec<(String, Vec<String>)> = Vec::new();
        for root in &view.roots {
            branches.extend(branch(of_root(root), &root.mappings, &[], place, true));
        }
        for device in &view.devices {
            branches.extend(branch(
                of_device(device),
                &device.mappings,
                &device.streams,
                place,
                false,
            ));
        }
        for kept in &view.kept {
            let of: Vec<String> =
                kept.streams.iter().filter(|it| it.smmu == place).map(own_stream).collect();
            if !of.is_empty() || place.is_none() && kept.streams.is_empty() {
                branches.push((of_kept(kept), of));
            }
        }
        match place {
            Some(index) => {
                let smmu = &view.smmus[index];
                lines.push(format!("  SMMU {index}, {}", printable(&smmu.name)));
                if branches.is_empty() {
                    lines.push(paint(DIM, "  └─ nothing"));
                }
            }
            None if branches.is_empty() => continue,
            None => lines.push("  No SMMU that is driven here".to_owned()),
        }
        let last = branches.len().saturating_sub(1);
        for (at, (head, leaves)) in branches.into_iter().enumerate() {
            let (turn, down) = if at == last { ("└─", "  ") } else { ("├─", "│ ") };
            lines.push(format!("  {turn} {head}"));
            lines.extend(leaves.iter().map(|leaf| paint(DIM, &format!("  {down}   {leaf}"))));
        }
    }
    lines
}

/// A node with those of its mappings that lead to `place`; `None` if it has none.
fn branch(
    head: String,
    mappings: &[Map],
    streams: &[Map],
    place: Option<usize>,
    pci: bool,
) -> Option<(String, Vec<String>)> {
    let here = |map: &&Map| map.smmu == place;
    let nothing = mappings.is_empty() && streams.is_empty();
    if !(mappings.iter().chain(streams).any(|map| map.smmu == place) || place.is_none() && nothing)
    {
        return None;
    }
    let mut leaves: Vec<String> = streams.iter().filter(here).map(own_stream).collect();
    let all: Vec<&Map> = mappings.iter().filter(here).collect();
    leaves.extend(all.iter().take(MOST_MAPPINGS).map(|map| mapped(map, pci)));
    if all.len() > MOST_MAPPINGS {
        leaves.push(format!("and {} more; --json has them", all.len() - MOST_MAPPINGS));
    }
    Some((head, leaves))
}

fn of_root(root: &Root) -> String {
    let [first, last] = root.buses;
    let mut parts = vec![format!("PCI segment {:#x}, buses {first:02x}-{last:02x}", root.segment)];
    parts.push(printable(&root.name));
    if root.ats {
        parts.push("ATS".to_owned());
    }
    parts.extend(root.address_bits.map(|bits| format!("{bits}-bit addresses")));
    if !root.coherent {
        parts.push("not coherent".to_owned());
    }
    parts.join(DOT)
}

fn of_device(device: &Named) -> String {
    let mut parts = vec![printable(&device.name)];
    if device.can_stall {
        parts.push("may stall".to_owned());
    }
    if device.pasid_bits != 0 {
        parts.push(format!("{}-bit PASIDs", device.pasid_bits));
    }
    parts.extend(device.address_bits.map(|bits| format!("{bits}-bit addresses")));
    if !device.coherent {
        parts.push("not coherent".to_owned());
    }
    parts.join(DOT)
}

fn of_kept(kept: &Kept) -> String {
    let regions: Vec<String> = kept.regions.iter().map(extent).collect();
    let mut parts = vec![format!("kept: {}", regions.join(", ")), printable(&kept.name)];
    parts.push(kept.memory.to_owned());
    if kept.privileged {
        parts.push("privileged".to_owned());
    }
    if kept.may_move {
        parts.push("may move".to_owned());
    }
    parts.join(DOT)
}

/// A device's own stream.
fn own_stream(map: &Map) -> String {
    let what = if map.smmu.is_some() { "stream" } else { "id" };
    let [first, last] = map.to;
    match first == last {
        true => format!("{what} {:#x}", first.0),
        false => format!("{what}s {:#x}-{:#x}", first.0, last.0),
    }
}

/// A mapping of a bus.
fn mapped(map: &Map, pci: bool) -> String {
    let [first, last] = map.ids.unwrap_or(map.to);
    let name = |id: u64| match u16::try_from(id) {
        Ok(id) if pci => {
            let [bus, rest] = id.to_be_bytes();
            format!("{bus:02x}:{:02x}.{}", rest >> 3, rest & 7)
        }
        _ => format!("{id:#x}"),
    };
    let from =
        if first == last { name(first.0) } else { format!("{}-{}", name(first.0), name(last.0)) };
    let to = match map.target {
        "smmu" => own_stream(map),
        "its" => format!("ITS at once, {}", own_stream(map)),
        _ => "another IOMMU, or one that is not to be used".to_owned(),
    };
    format!("{from} → {to}")
}

fn doorbells(view: &View) -> Vec<String> {
    let line = |doorbell: &super::view::Doorbell| {
        let kind = if doorbell.kind == "its" { "ITS" } else { "GICv2m frame" };
        let place = doorbell.address.map_or_else(
            || "where, the MADT says".to_owned(),
            |address| format!("written to {:#x}", address.0),
        );
        format!("  {}{DOT}{kind}{DOT}{place}", printable(&doorbell.name))
    };
    view.doorbells.iter().map(line).collect()
}

fn of_line(line: Interrupt) -> String {
    format!("{}{}", line.intid, if line.edge { "" } else { " level" })
}

fn monitors(view: &View) -> Vec<String> {
    let line = |monitor: &Monitor| {
        let registers: Vec<String> = monitor.registers.iter().map(extent).collect();
        let mut parts = vec![printable(&monitor.linux_name), registers.join(", ")];
        parts.extend(monitor.interrupt.map(|line| format!("interrupt {}", of_line(line))));
        parts.extend(monitor.msi.as_ref().map(|msi| {
            format!("messages as {:#x} to {}", msi.device_id.0, printable(&msi.doorbell))
        }));
        parts.push(match (monitor.smmu, &monitor.node) {
            (Some(index), _) => format!("of SMMU {index}"),
            (None, Some(node)) => format!("of {}", printable(node)),
            (None, None) => printable(&monitor.name),
        });
        format!("  {}", parts.join(DOT))
    };
    view.monitors.iter().map(line).collect()
}

fn findings(view: &View, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    // The worst first.
    for severity in ["error", "warning", "note"] {
        let style = match severity {
            "error" => BAD,
            "warning" => REFUSED,
            _ => DIM,
        };
        for finding in view.findings.iter().filter(|finding| finding.severity == severity) {
            let text = format!("{severity}: {}: {}", finding.place, finding.text);
            let wrapped = wrap(&text, columns, "  ", "    ");
            lines.extend(wrapped.iter().map(|line| paint(style, line)));
        }
    }
    lines
}

/// `0x2b400000-0x2b41ffff (128K)`.
pub fn extent(range: &Range) -> String {
    let (base, bytes) = (range.base.0, range.bytes.0);
    if bytes == 0 {
        return format!("{base:#x} (nothing)");
    }
    // What is large and not round is told roughly.
    let many =
        if bytes >> 24 != 0 && bytes.trailing_zeros() < 20 { about(bytes) } else { size(bytes) };
    format!("{base:#x}-{:#x} ({many})", base.saturating_add(bytes - 1))
}
