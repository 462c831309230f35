// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree of what was read, as a picture (SVG): light or dark as the reader's system is.

use std::fmt::Write;

use smmuv3_walk::reach::Survey;
use smmuv3_walk::{Outcome, Step, Walk, What, size};

/// Height of a node, and from one to the next.
const HEIGHT: f64 = 34.0;
const ROW: f64 = 44.0;
/// How far a level is to the right of the one above.
const INDENT: f64 = 26.0;
const LEFT: f64 = 16.0;
const TOP: f64 = 48.0;
/// Width of a letter, roughly: fonts differ.
const LETTER: f64 = 6.6;
/// Letters of a line; the rest is in its title.
const MOST: usize = 110;

/// A box.
struct Node {
    depth: usize,
    class: &'static str,
    head: String,
    meaning: String,
}

/// One access.
pub fn walk(walk: &Walk) -> String {
    let access = &walk.access;
    let kind = if access.write { "write to" } else { "read of" };
    let substream =
        access.substream.map_or(String::new(), |substream| format!(", substream {substream:#x}"));
    let title = format!("stream {:#x}{substream}, {kind} {:#x}", access.stream, access.address);
    let mut nodes: Vec<Node> = walk.steps.iter().map(step).collect();
    let depth = walk.steps.last().map_or(0, |step| step.depth);
    nodes.push(end(&walk.outcome, depth + 1));
    draw(&title, &nodes)
}

fn step(step: &Step) -> Node {
    let class = match step.what {
        What::Descriptor(stage) if stage as u8 == 0 => "one",
        What::Descriptor(_) => "two",
        _ => "config",
    };
    let label = match step.level {
        Some(level) => format!("{} L{level}", step.what.name().replace(" descriptor", "")),
        None => step.what.name().to_owned(),
    };
    let mut head = format!("{label} [{:#x}]", step.index);
    if let Some(ipa) = step.ipa {
        let _ = write!(head, " IPA {ipa:#x}");
    }
    if let Some(address) = step.address {
        let _ = write!(head, " at {address:#x}");
    }
    if let [word] = step.words.as_slice() {
        let _ = write!(head, ": {word:#018x}");
    }
    Node { depth: step.depth, class, head, meaning: step.meaning.clone() }
}

fn end(outcome: &Outcome, depth: usize) -> Node {
    let (class, head, meaning) = match outcome {
        Outcome::Translated(found) => (
            "good",
            format!("{:#x}", found.address),
            format!(
                "mapping of {}, {}, {}",
                size(found.bytes_log2),
                found.permissions,
                found.attributes
            ),
        ),
        Outcome::Fault(fault) => ("bad", fault.id.name().to_owned(), fault.why.to_owned()),
        Outcome::Silent { why } => ("bad", "aborted without event".to_owned(), why.clone()),
        Outcome::Missing { address, what, .. } => {
            ("bad", format!("the image does not have {address:#x}"), what.name().to_owned())
        }
        Outcome::Unsupported { what } => ("bad", "not followed".to_owned(), (*what).to_owned()),
    };
    Node { depth, class, head, meaning }
}

/// Everything that was read for streams.
pub fn survey(survey: &Survey) -> String {
    let mut nodes: Vec<Node> = survey
        .tree
        .iter()
        .map(|node| Node {
            depth: node.depth,
            class: match node.depth {
                0..=2 => "config",
                _ if node.label.starts_with("S2") => "two",
                _ => "one",
            },
            head: format!("{} at {:#x}", node.label, node.address),
            meaning: node.meaning.clone(),
        })
        .collect();
    if survey.nodes_left_out != 0 {
        let head = format!("… and {} more", survey.nodes_left_out);
        nodes.push(Node { depth: 0, class: "config", head, meaning: String::new() });
    }
    for finding in survey.findings.iter().take(20) {
        let head = match finding.stream {
            Some(stream) => {
                let last = finding.last_stream.unwrap_or(stream);
                format!("{}, {}", finding.kind.name(), super::text::streams(stream, last))
            }
            None => finding.kind.name().to_owned(),
        };
        nodes.push(Node { depth: 0, class: "bad", head, meaning: finding.text.clone() });
    }
    draw("What the streams' tables hold", &nodes)
}

fn draw(title: &str, nodes: &[Node]) -> String {
    let mut body = String::new();
    let mut right = LEFT + LETTER * title.chars().count() as f64 * 1.3;
    // Where the latest node of each depth is, so that a line leads to it.
    let mut above: Vec<f64> = Vec::new();
    for (row, node) in nodes.iter().enumerate() {
        let (x, y) = (LEFT + INDENT * node.depth as f64, TOP + ROW * row as f64);
        // The head is bold, and so wider.
        let head = node.head.chars().count() * 11 / 10;
        let letters = head.max(node.meaning.chars().count()).min(MOST);
        let width = 20.0 + LETTER * letters as f64;
        right = right.max(x + width);
        above.truncate(node.depth);
        if let Some(parent) = above.last() {
            let trunk = x - INDENT + 10.0;
            let middle = y + HEIGHT / 2.0;
            let _ = writeln!(
                body,
                r#"<path class="line" d="M{trunk:.1} {:.1}V{middle:.1}H{x:.1}"/>"#,
                parent + HEIGHT
            );
        }
        above.resize(node.depth, y);
        above.push(y);
        let class = node.class;
        let full = escaped(&format!("{}\n{}", node.head, node.meaning));
        let _ = writeln!(
            body,
            r#"<g class="{class}"><title>{full}</title><rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{HEIGHT}" rx="4"/>"#
        );
        text(&mut body, x + 10.0, y + 14.0, "head", &node.head);
        text(&mut body, x + 10.0, y + 28.0, "meaning", &node.meaning);
        body.push_str("</g>\n");
    }
    let (width, height) = (right + LEFT, TOP + ROW * nodes.len() as f64 + 6.0);
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"28\">{title}</text>\n{body}</svg>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    // Writing to a string cannot fail.
    let _ =
        write!(out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{}</text>"#, escaped(&short));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "\
text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:#222}\
.title{font-size:14px;font-weight:600}.head{font-weight:600}.meaning{fill:#555}\
.page{fill:#fff}.line{fill:none;stroke:#9aa7b4}g rect{fill:#f4f6f8;stroke:#8fa1b3}\
.config rect{fill:#eef1f5;stroke:#5b6b7b}.one rect{fill:#e6f2fa;stroke:#0072b2}\
.two rect{fill:#e5f5ef;stroke:#009e73}.good rect{fill:#dcf3e8;stroke:#00724f;stroke-width:2}\
.bad rect{fill:#fbe5e2;stroke:#d62f1f;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#e6e9ec}.meaning{fill:#aeb8c2}.page{fill:#15191d}\
.line{stroke:#5b6b7b}g rect{fill:#22282e;stroke:#7a8a9a}.config rect{fill:#262d35;stroke:#8fa1b3}\
.one rect{fill:#14293a;stroke:#56b4e9}.two rect{fill:#12302a;stroke:#33c79a}\
.good rect{fill:#123528;stroke:#33c79a}.bad rect{fill:#3d1a16;stroke:#ff7a6b}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_never_markup() {
        let node = |depth, head: &str| Node {
            depth,
            class: "config",
            head: head.to_owned(),
            meaning: "a < b & \"c\"".to_owned(),
        };
        let svg = draw("<script>", &[node(0, "<b>"), node(1, "x")]);
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"));
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert_eq!(svg.matches("class=\"line\"").count(), 1);
    }
}
