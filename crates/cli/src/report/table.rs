// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables: columns as wide as they must be, neighbours under a common title.

use super::INDENT;
use super::text::{DIM, pad, paint, width};

/// Between columns.
const GAP: &str = "  ";

/// A column's head.
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    /// What it has in common with its neighbours, or stands above its name.
    title: &'static str,
    right: bool,
}

impl Column {
    /// Of words.
    pub fn left(name: impl Into<String>) -> Self {
        Self { name: name.into(), title: "", right: false }
    }

    /// Of numbers.
    pub fn right(name: impl Into<String>) -> Self {
        Self { name: name.into(), title: "", right: true }
    }

    /// What it says.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Under `title`, with neighbours that are, too.
    #[must_use]
    pub fn under(mut self, title: &'static str) -> Self {
        self.title = title;
        self
    }
}

/// `rows` in columns; nothing if there are no rows.
pub fn table(columns: &[Column], rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let widest = |at: usize| rows.iter().filter_map(|row| Some(width(row.get(at)?))).max();
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| width(&column.name).max(widest(at).unwrap_or(0)))
        .collect();
    let mut titles = String::new();
    let mut at = 0;
    for group in columns.chunk_by(|one, next| !one.title.is_empty() && one.title == next.title) {
        let own = &mut widths[at..at + group.len()];
        let span = own.iter().sum::<usize>() + width(GAP) * (group.len() - 1);
        let title = group[0].title;
        // A title that is longer takes its room before the first column.
        own[0] += width(title).saturating_sub(span);
        let gap = if at == 0 { "" } else { GAP };
        titles.push_str(&format!("{gap}{}{title}", pad(title, span)));
        at += group.len();
    }
    let line = |cells: &mut dyn Iterator<Item = &String>| {
        let mut line = String::new();
        for ((column, columns), cell) in columns.iter().zip(&widths).zip(cells) {
            let gap = if line.is_empty() { "" } else { GAP };
            let space = pad(cell, *columns);
            line.push_str(&match column.right {
                true => format!("{gap}{space}{cell}"),
                false => format!("{gap}{cell}{space}"),
            });
        }
        line.trim_end().to_owned()
    };
    let mut lines = Vec::new();
    if !titles.trim().is_empty() {
        lines.push(paint(DIM, &format!("{INDENT}{}", titles.trim_end())));
    }
    let names = line(&mut columns.iter().map(|column| &column.name));
    lines.push(paint(DIM, &format!("{INDENT}{names}")));
    lines.extend(rows.iter().map(|row| format!("{INDENT}{}", line(&mut row.iter()))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let columns = [
            Column::left("name"),
            Column::right("a").under("some"),
            Column::right("b").under("some"),
            Column::right("c").under("long title"),
        ];
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = [row(["x", "1", "2", "3"]), row(["longer", "10", "2,000", "3"])];
        let lines: Vec<String> = table(&columns, rows.into_iter())
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        let expected = [
            "               some  long title",
            "  name     a      b           c",
            "  x        1      2           3",
            "  longer  10  2,000           3",
        ];
        assert_eq!(lines, expected);
        assert!(table(&columns, std::iter::empty()).is_empty());
    }
}
