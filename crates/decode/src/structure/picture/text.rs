// SPDX-License-Identifier: MIT OR Apache-2.0
//! For a terminal, with box drawing: 72 columns.

use smmuv3_formats::structure::Structure;

use super::{Cell, ROW, Row, rows};

/// Columns before a row: the word and the half.
const LEFT: usize = 6;
/// Most lines of a name that is written downwards; a longer one gets a letter and stands below.
const MOST_LINES: usize = 12;

/// The bits of `structure`, a line each, none of more than 80 columns.
pub fn text(structure: &Structure) -> String {
    let mut drawing = Drawing::default();
    for row in rows(structure) {
        drawing.row(&row);
    }
    let Drawing { mut text, legend } = drawing;
    for (letter, name) in legend {
        text.push_str(&format!("{letter:>LEFT$}  {name}\n"));
    }
    text
}

#[derive(Default)]
struct Drawing {
    text: String,
    /// Names that are too long for their bits.
    legend: Vec<(char, &'static str)>,
}

impl Drawing {
    fn row(&mut self, row: &Row) {
        self.numbers(row);
        self.border(row, '┌', '┬', '┐');
        let names: Vec<Vec<String>> = row.cells.iter().map(|cell| self.name(cell)).collect();
        let height = names.iter().map(Vec::len).max().unwrap_or(1);
        for line in 0..height {
            let head = match line {
                0 if row.lo == 0 => format!("w{}", row.word),
                0 => format!("w{} hi", row.word),
                _ => String::new(),
            };
            let mut text = format!("{head:<LEFT$}│");
            for (cell, name) in row.cells.iter().zip(&names) {
                let width = width(cell);
                let blank = if cell.field.is_none() { "░" } else { " " };
                // Names stand in the middle of their cells.
                let above = height.saturating_sub(name.len()) / 2;
                let part = line.checked_sub(above).and_then(|at| name.get(at));
                let part = part.map_or("", String::as_str);
                let room = width.saturating_sub(part.chars().count());
                let before = room / 2;
                text.push_str(&blank.repeat(before));
                text.push_str(part);
                text.push_str(&blank.repeat(room.saturating_sub(before)));
                text.push('│');
            }
            self.line(&text);
        }
        self.border(row, '└', '┴', '┘');
    }

    /// The numbers of the bits, their tens above their ones.
    fn numbers(&mut self, row: &Row) {
        let bits = || (row.lo..row.lo.saturating_add(ROW)).rev();
        for digit in [|bit: u32| bit / 10, |bit: u32| bit % 10] {
            let digits: Vec<String> = bits().map(|bit| digit(bit).to_string()).collect();
            self.line(&format!("{}{}", " ".repeat(LEFT + 1), digits.join(" ")));
        }
    }

    fn border(&mut self, row: &Row, left: char, between: char, right: char) {
        let lines: Vec<String> = row.cells.iter().map(|cell| "─".repeat(width(cell))).collect();
        let lines = lines.join(&between.to_string());
        self.line(&format!("{}{left}{lines}{right}", " ".repeat(LEFT)));
    }

    /// The name in lines that the cell has room for.
    fn name(&mut self, cell: &Cell) -> Vec<String> {
        let Some(field) = cell.field else { return vec![String::new()] };
        let letters: Vec<char> = field.name.chars().collect();
        let lines: Vec<String> =
            letters.chunks(width(cell).max(1)).map(|chunk| chunk.iter().collect()).collect();
        if lines.len() <= MOST_LINES {
            return lines;
        }
        let known =
            self.legend.iter().find(|(_, name)| *name == field.name).map(|(letter, _)| *letter);
        let letter = known.unwrap_or_else(|| {
            let count = u8::try_from(self.legend.len()).unwrap_or(u8::MAX);
            let letter = char::from(b'a'.saturating_add(count.min(25)));
            self.legend.push((letter, field.name));
            letter
        });
        vec![letter.to_string()]
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

/// Columns of a cell: two a bit, one of which is a border.
fn width(cell: &Cell) -> usize {
    (2 * cell.bits() as usize).saturating_sub(1)
}
