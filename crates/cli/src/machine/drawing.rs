// SPDX-License-Identifier: MIT OR Apache-2.0
//! A topology as a picture (SVG): devices on the left, SMMUs on the right, and a line for each range of streams.

use std::fmt::Write;

use super::view::{Map, View};

/// Edges of the columns.
const LEFT: f64 = 24.0;
const DEVICE: f64 = 380.0;
const SMMU_LEFT: f64 = 720.0;
const SMMU: f64 = 330.0;
/// Height of a line of text.
const LINE: f64 = 18.0;
/// Room around text in a box, and between boxes.
const PAD: f64 = 10.0;
const GAP: f64 = 18.0;
/// Letters that fit in the width of a box, fonts being what they are.
const LETTERS: usize = 46;
/// Lines from one device that are drawn.
const MOST_MAPPINGS: usize = 8;

/// A box with lines of text.
struct Block {
    class: &'static str,
    x: f64,
    y: f64,
    width: f64,
    lines: Vec<String>,
    /// Lines that begin at it, for which there has to be room.
    streams: usize,
}

impl Block {
    fn height(&self) -> f64 {
        2.0 * PAD + LINE * self.lines.len().max(self.streams) as f64
    }

    fn draw(&self, svg: &mut String) {
        let Self { class, x, y, width, lines, .. } = self;
        let height = self.height();
        put(
            svg,
            format_args!(
                r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>"#
            ),
        );
        for (at, line) in lines.iter().enumerate() {
            let class = if at == 0 { "name" } else { "more" };
            let base = y + PAD + LINE * (at as f64 + 1.0) - 5.0;
            let line = escaped(&cut(line));
            put(
                svg,
                format_args!(
                    r#"<text class="{class}" x="{:.1}" y="{base:.1}">{line}</text>"#,
                    x + PAD
                ),
            );
        }
    }
}

/// Draws `view`.
pub fn draw(view: &View) -> String {
    let mut svg = String::new();
    let (mut left, mut right) = (64.0, 64.0);
    let mut targets = Vec::new();
    for smmu in &view.smmus {
        let registers = super::tree::extent(&smmu.registers);
        let coherent = if smmu.coherent { "coherent" } else { "not coherent" };
        let lines =
            vec![format!("SMMU {}: {}", smmu.index, smmu.name), registers, coherent.to_owned()];
        targets.push(place("smmu", SMMU_LEFT, SMMU, &mut right, lines, 0));
    }
    let nowhere = view
        .roots
        .iter()
        .map(|root| &root.mappings)
        .chain(view.devices.iter().flat_map(|device| [&device.mappings, &device.streams]));
    if nowhere.flatten().any(|map| map.smmu.is_none()) {
        let lines = vec!["No SMMU that is driven here".to_owned()];
        targets.push(place("none", SMMU_LEFT, SMMU, &mut right, lines, 0));
    }
    let sources: Vec<(Block, Vec<&Map>)> = devices(view)
        .into_iter()
        .map(|(class, lines, maps)| {
            (place(class, LEFT, DEVICE, &mut left, lines, maps.len()), maps)
        })
        .collect();
    let bottom = left.max(right);
    // Lines first, what they are over them, and boxes over all.
    let mut labels = String::new();
    for (block, maps) in &sources {
        connect((&mut svg, &mut labels), block, maps, &targets, view.smmus.len());
    }
    svg.push_str(&labels);
    targets.iter().chain(sources.iter().map(|(block, _)| block)).for_each(|it| it.draw(&mut svg));
    let findings = view.findings.iter().filter(|finding| finding.severity != "note").count();
    let mut y = bottom + 8.0;
    if findings != 0 {
        let word = if findings == 1 { "finding" } else { "findings" };
        let text = format!("{findings} {word} that do not fit: smmuv3 tells them without --svg");
        put(&mut svg, format_args!(r#"<text class="wrong" x="{LEFT}" y="{y:.1}">{text}</text>"#));
        y += LINE;
    }
    let (width, title) = (SMMU_LEFT + SMMU + LEFT, escaped(&crate::report::printable(&view.about)));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {y:.0}\" width=\"{width:.0}\" \
         height=\"{y:.0}\" role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"36\">{title}</text>\n{svg}</svg>\n"
    )
}

/// What is on the left: its class, its text, and where it leads to.
fn devices(view: &View) -> Vec<(&'static str, Vec<String>, Vec<&Map>)> {
    let mut all = Vec::new();
    for root in &view.roots {
        let [first, last] = root.buses;
        let title = format!("PCI segment {:#x}, buses {first:02x}-{last:02x}", root.segment);
        all.push(("root", vec![title, root.name.clone()], root.mappings.iter().collect()));
    }
    for device in &view.devices {
        let maps = device.streams.iter().chain(&device.mappings).collect();
        all.push(("device", vec![device.name.clone()], maps));
    }
    for kept in &view.kept {
        let mut lines = vec![format!("kept: {}", kept.name)];
        lines.extend(kept.regions.iter().take(MOST_MAPPINGS).map(super::tree::extent));
        all.push(("kept", lines, kept.streams.iter().collect()));
    }
    all
}

/// A box below those that are there.
fn place(
    class: &'static str,
    x: f64,
    width: f64,
    y: &mut f64,
    lines: Vec<String>,
    streams: usize,
) -> Block {
    let block = Block { class, x, y: *y, width, lines, streams: streams.min(MOST_MAPPINGS) };
    *y += block.height() + GAP;
    block
}

/// The lines of one box, each with its streams.
fn connect(
    (svg, labels): (&mut String, &mut String),
    from: &Block,
    maps: &[&Map],
    targets: &[Block],
    smmus: usize,
) {
    let shown = maps.len().min(MOST_MAPPINGS);
    for (at, map) in maps.iter().take(shown).enumerate() {
        let Some(target) = targets.get(map.smmu.unwrap_or(smmus)) else { continue };
        let share = (at as f64 + 1.0) / (shown as f64 + 1.0);
        let (x, y) = (from.x + from.width, from.y + from.height() * share);
        let (to_x, to_y) = (target.x, target.y + target.height() * share);
        let middle = (x + to_x) / 2.0;
        let class = if map.smmu.is_some() { "line" } else { "loose" };
        let text = label(map, at + 1 == shown && maps.len() > shown);
        put(
            svg,
            format_args!(
                "<path class=\"{class}\" d=\"M{x:.1} {y:.1}C{middle:.1} {y:.1} {middle:.1} {to_y:.1} \
                 {to_x:.1} {to_y:.1}\"><title>{text}</title></path>"
            ),
        );
        put(
            labels,
            format_args!(
                r#"<text class="streams" x="{:.1}" y="{:.1}">{text}</text>"#,
                x + 6.0,
                y - 4.0
            ),
        );
    }
}

fn label(map: &Map, more: bool) -> String {
    let [first, last] = map.to;
    let text = if first == last {
        format!("{:#x}", first.0)
    } else {
        format!("{:#x}-{:#x}", first.0, last.0)
    };
    let what = if map.smmu.is_some() { "streams " } else { "ids " };
    format!("{what}{text}{}", if more { ", and more" } else { "" })
}

/// What fits in a box, without what no picture can show.
fn cut(text: &str) -> String {
    let text = crate::report::printable(text).replace('\n', " ");
    match text.char_indices().nth(LETTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{element}");
}

const STYLE: &str = "\
text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#333}\
.page{fill:#fff}.title{font-size:14px;font-weight:600}.name{font-weight:600}.more{fill:#555}\
.streams{font-size:11px;fill:#0b5c8e;paint-order:stroke;stroke:#fff;stroke-width:3px}.wrong{fill:#b3261e;font-weight:600}\
rect{stroke-width:1.2}.smmu{fill:#e6f0f8;stroke:#0072b2}.none{fill:#f3f3f3;stroke:#999;stroke-dasharray:4 3}\
.root{fill:#e7f4ef;stroke:#009e73}.device{fill:#f6f1e4;stroke:#b48a2c}.kept{fill:#f7e9f1;stroke:#a8477f}\
path{fill:none;stroke-width:1.4}.line{stroke:#6f8ba3}.loose{stroke:#999;stroke-dasharray:4 3}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_none_is_markup() {
        let long = "a".repeat(60);
        assert_eq!(cut(&long).chars().count(), LETTERS + 1);
        assert_eq!(cut("é\n\u{7}"), "é \u{fffd}");
        let mut svg = String::new();
        let lines = vec!["<script>".to_owned()];
        Block { class: "root", x: 0.0, y: 0.0, width: 1.0, lines, streams: 0 }.draw(&mut svg);
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script>"), "{svg}");
    }
}
