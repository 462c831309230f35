// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bits of a structure as a picture: 32 a row, the high half of a word above its low half.

use smmuv3_formats::Field;
use smmuv3_formats::structure::Structure;

mod svg;
mod text;

pub use super::decode::purpose;
pub use svg::svg;
pub use text::text;

/// Bits of a row.
const ROW: u32 = 32;

/// 32 bits of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    word: usize,
    /// Lowest bit: 32 or 0.
    lo: u32,
    /// From the highest bit to the lowest, without gap.
    cells: Vec<Cell>,
}

/// Bits of one field in a row, or bits that belong to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    hi: u32,
    lo: u32,
    field: Option<&'static Field>,
}

impl Cell {
    fn bits(&self) -> u32 {
        self.hi.saturating_sub(self.lo).saturating_add(1)
    }
}

/// The rows of all words, from word 0 on.
fn rows(structure: &Structure) -> Vec<Row> {
    let halves: &[u32] = if structure.bits == ROW { &[0] } else { &[ROW, 0] };
    let row = |word: usize| halves.iter().map(move |lo| row(structure.fields, word, *lo));
    (0..structure.words).flat_map(row).collect()
}

fn row(fields: &'static [Field], word: usize, lo: u32) -> Row {
    let top = lo.saturating_add(ROW - 1);
    let mut cells: Vec<Cell> = Vec::new();
    // Fields are in the order of their bits.
    let mut next = lo;
    for field in fields.iter().filter(|field| field.word == word) {
        let (from, to) = (field.lo.max(lo), field.hi.min(top));
        if from > to {
            continue;
        }
        if from > next {
            cells.push(Cell { hi: from.saturating_sub(1), lo: next, field: None });
        }
        cells.push(Cell { hi: to, lo: from, field: Some(field) });
        next = to.saturating_add(1);
    }
    if next <= top {
        cells.push(Cell { hi: top, lo: next, field: None });
    }
    cells.reverse();
    Row { word, lo, cells }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smmuv3_formats::structure::{ALL, find};

    #[test]
    fn rows_have_every_bit_once() {
        for structure in ALL {
            let rows = rows(structure);
            assert_eq!(rows.len() as u32 * ROW, structure.bits.max(ROW), "{structure}");
            for row in &rows {
                let mut next = row.lo + ROW;
                for cell in &row.cells {
                    assert_eq!(cell.hi + 1, next, "{structure} w{}", row.word);
                    next = cell.lo;
                }
                assert_eq!(next, row.lo, "{structure}");
            }
            let shown = |field: &Field| {
                let cells =
                    rows.iter().filter(|row| row.word == field.word).flat_map(|row| &row.cells);
                let own = cells.filter(|cell| cell.field == Some(field));
                own.map(Cell::bits).sum::<u32>() == field.hi - field.lo + 1
            };
            assert!(structure.fields.iter().all(shown), "{structure}");
        }
    }

    #[test]
    fn a_small_structure_as_text() {
        let expected = concat!(
            "       3 3 2 2 2 2 2 2 2 2 2 2 1 1 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0 0 0 0\n",
            "       1 0 9 8 7 6 5 4 3 2 1 0 9 8 7 6 5 4 3 2 1 0 9 8 7 6 5 4 3 2 1 0\n",
            "      ┌───────────────────────────────────────────────┬───────┬───────┐\n",
            "w0    │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░│ArchMaj│ArchMin│\n",
            "      │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░│ orRev │ orRev │\n",
            "      └───────────────────────────────────────────────┴───────┴───────┘\n",
        );
        assert_eq!(text(find("AIDR").unwrap()), expected);
    }

    #[test]
    fn pictures_fit_and_name_every_field() {
        for structure in ALL {
            let drawn = text(structure);
            let widest = drawn.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(80), "{structure}: {widest:?}");
            let svg = svg(structure);
            for field in structure.fields {
                let name = format!(">{}</text>", field.name);
                assert!(svg.contains(&name), "{field} of {structure}");
                assert!(svg.contains(&format!("<title>{field}")), "{field} of {structure}");
            }
        }
    }

    /// Every element that is opened is closed, and text is escaped.
    #[test]
    fn svg_is_well_formed() {
        for structure in ALL {
            let drawn = svg(structure);
            let mut open: Vec<&str> = Vec::new();
            for tag in drawn.split('<').skip(1) {
                let (tag, text) = tag.split_once('>').unwrap();
                assert!(!text.contains('>'), "{text}");
                match (tag.strip_prefix('/'), tag.ends_with('/')) {
                    (Some(name), _) => assert_eq!(open.pop(), Some(name), "{structure}"),
                    (None, true) => {}
                    (None, false) => open.push(tag.split([' ', '\n']).next().unwrap()),
                }
                assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            }
            assert!(open.is_empty(), "{structure}: {open:?}");
            assert!(drawn.contains("prefers-color-scheme:dark"));
        }
    }
}
