// SPDX-License-Identifier: MIT OR Apache-2.0
//! For a page: SVG that stands alone, on light and dark grounds.

use std::fmt::Write;

use smmuv3_formats::Field;
use smmuv3_formats::structure::Structure;

use super::super::decode::purpose;
use super::{Cell, ROW, Row, rows};

/// Width of a bit.
const BIT: f64 = 27.0;
/// Left of the bits: the word.
const LEFT: f64 = 46.0;
const MARGIN: f64 = 14.0;
/// Height of a cell whose name is not turned.
const CELL: f64 = 34.0;
/// Height of the numbers above a row.
const NUMBERS: f64 = 16.0;
/// Between rows of a word, and between words.
const NEAR: f64 = 8.0;
const FAR: f64 = 16.0;
/// Width of a letter of a name, roughly: fonts differ.
const LETTER: f64 = 6.9;

/// The bits of `structure` as an SVG document.
pub fn svg(structure: &Structure) -> String {
    let mut drawing = Drawing { body: String::new(), y: MARGIN + 16.0 };
    drawing.title(structure);
    let mut last = 0;
    for row in rows(structure) {
        drawing.y += if row.word == last { NEAR } else { FAR };
        last = row.word;
        drawing.row(structure, &row);
    }
    drawing.legend(structure);
    let (width, height) = (MARGIN + LEFT + f64::from(ROW) * BIT + MARGIN, drawing.y + MARGIN);
    let mut document = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        document,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img" aria-label="{name}, bit by bit">
<style>{STYLE}</style>
<defs><pattern id="none" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="hatch" d="M0 0V6"/></pattern></defs>
<rect class="ground" width="100%" height="100%"/>
{body}</svg>
"#,
        name = escaped(structure.name),
        body = drawing.body,
    );
    document
}

const STYLE: &str = "\
svg{--ground:#fff;--ink:#1d2733;--soft:#5d6b7a;--line:#8796a5;--hatch:#c9d2db;--flag:#e3f3e8;--number:#eef1f5;\
--address:#dcebfb}\
@media(prefers-color-scheme:dark){svg{--ground:#12171d;--ink:#e8edf2;--soft:#9aa8b6;--line:#5c6b7a;\
--hatch:#36424f;--flag:#1d3a2a;--number:#26303b;--address:#1b3553}}\
text{font:12px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:var(--ink)}\
.ground{fill:var(--ground)}.title{font-size:16px;font-weight:700}.soft,.bit,.word{fill:var(--soft)}\
.bit{font-size:10px;text-anchor:middle}.name{text-anchor:middle}.word{text-anchor:end}\
rect.cell{stroke:var(--line);stroke-width:1}.flag{fill:var(--flag)}.number{fill:var(--number)}\
.address{fill:var(--address)}.none{fill:url(#none)}.hatch{stroke:var(--hatch);stroke-width:2}";

struct Drawing {
    body: String,
    /// Where the next thing goes.
    y: f64,
}

impl Drawing {
    fn title(&mut self, structure: &Structure) {
        let y = self.y;
        let name = escaped(structure.name);
        let size = match structure.bits {
            32 => "32-bit register".to_owned(),
            bits => format!("{} bytes", bits / 8),
        };
        let place = match (structure.offset, structure.code) {
            (Some(offset), _) => format!(" · offset {offset:#x}"),
            (_, Some(code)) => format!(" · code {code:#04x}"),
            _ => String::new(),
        };
        let section = structure.section;
        self.put(format_args!(
            r#"<text x="{MARGIN}" y="{y:.1}"><tspan class="title">{name}</tspan><tspan class="soft" dx="12">{size}{place} · §{section}</tspan></text>"#
        ));
        self.y += 6.0;
    }

    fn row(&mut self, structure: &Structure, row: &Row) {
        let turned = row.cells.iter().filter_map(|cell| turned(cell));
        let longest = turned.map(|name| name.len()).max().unwrap_or(0);
        let height = CELL.max(longest as f64 * LETTER + 12.0);
        self.y += NUMBERS;
        let (top, middle) = (self.y, self.y + height / 2.0);
        let word = if structure.words > 1 { format!("w{}", row.word) } else { String::new() };
        let right = MARGIN + LEFT - 10.0;
        self.put(format_args!(
            r#"<text class="word" x="{right:.1}" y="{:.1}">{word}</text>"#,
            middle + 4.0
        ));
        for cell in &row.cells {
            self.cell(structure, row, cell, top, height);
        }
        self.y += height;
    }

    fn cell(&mut self, structure: &Structure, row: &Row, cell: &Cell, top: f64, height: f64) {
        let left = |bit: u32| {
            let from_left = row.lo.saturating_add(ROW - 1).saturating_sub(bit);
            MARGIN + LEFT + f64::from(from_left) * BIT
        };
        let (x, width) = (left(cell.hi), f64::from(cell.bits()) * BIT);
        let (centre, middle) = (x + width / 2.0, top + height / 2.0);
        // The numbers of the outer bits.
        let above = top - 4.0;
        let mut bits = vec![cell.hi];
        if cell.hi != cell.lo {
            bits.push(cell.lo);
        }
        for bit in bits {
            let at = left(bit) + BIT / 2.0;
            self.put(format_args!(r#"<text class="bit" x="{at:.1}" y="{above:.1}">{bit}</text>"#));
        }
        let (class, hint) = match cell.field {
            None => ("none", "reserved".to_owned()),
            Some(field) => (class(field), hint(structure, field)),
        };
        self.put(format_args!(
            r#"<g><title>{}</title><rect class="cell {class}" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"/>"#,
            escaped(&hint)
        ));
        if let Some(field) = cell.field {
            let name = escaped(field.name);
            let turn = match turned(cell) {
                Some(_) => format!(r#" transform="rotate(-90 {centre:.1} {middle:.1})""#),
                None => String::new(),
            };
            let base = middle + 4.0;
            self.put(format_args!(
                r#"<text class="name" x="{centre:.1}" y="{base:.1}"{turn}>{name}</text>"#
            ));
        }
        self.put(format_args!("</g>"));
    }

    /// What the colours mean, as far as they are used.
    fn legend(&mut self, structure: &Structure) {
        self.y += 28.0;
        let used = |kind: &str| structure.fields.iter().any(|field| class(field) == kind);
        let all = [("flag", "one bit"), ("number", "number"), ("address", "address, in place")];
        let mut shown: Vec<(&str, &str)> = all.into_iter().filter(|(kind, _)| used(kind)).collect();
        shown.push(("none", "reserved"));
        let mut x = MARGIN + LEFT;
        for (kind, text) in shown {
            let (top, base) = (self.y - 11.0, self.y);
            self.put(format_args!(
                r#"<rect class="cell {kind}" x="{x:.1}" y="{top:.1}" width="14" height="14"/><text class="soft" x="{:.1}" y="{:.1}">{text}</text>"#,
                x + 21.0,
                base
            ));
            x += 21.0 + 7.4 * text.len() as f64 + 26.0;
        }
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// The name, if it is written upwards: where the cell is too narrow for it.
fn turned(cell: &Cell) -> Option<&'static str> {
    let name = cell.field?.name;
    let room = f64::from(cell.bits()) * BIT - 6.0;
    (name.len() as f64 * (LETTER + 0.4) > room).then_some(name)
}

fn class(field: &Field) -> &'static str {
    match field.address {
        true => "address",
        false if field.hi == field.lo => "flag",
        false => "number",
    }
}

/// What a browser shows when the pointer is on it.
fn hint(structure: &Structure, field: &Field) -> String {
    match purpose(structure, field) {
        "" => field.to_string(),
        purpose => format!("{field}: {purpose}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
