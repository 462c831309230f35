// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines: wrapping, columns, colours, numbers.

use anstyle::{AnsiColor, Style};
use textwrap::{Options, WordSplitter};
use unicode_width::UnicodeWidthStr;

/// Titles, and what a step does.
pub const BOLD: Style = Style::new().bold();
/// What is there to be looked up.
pub const DIM: Style = Style::new().dimmed();
/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What was refused.
pub const REFUSED: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// Between the items of a list.
pub const DOT: &str = " · ";

/// `text` in `style`.
pub fn paint(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Spaces that make `text` as wide as `columns`.
pub fn pad(text: &str, columns: usize) -> String {
    " ".repeat(columns.saturating_sub(width(text)))
}

/// `text` without control characters, which could be a scenario's way to draw over the report; white
/// space is a single space each.
pub fn clean(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    printable(&words.join(" "))
}

/// `text` with its lines, without other control characters.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// `text` in lines of at most `columns` after an indentation; words are not cut.
pub fn wrap(text: &str, columns: usize, first: &str, rest: &str) -> Vec<String> {
    let options = Options::new(columns)
        .initial_indent(first)
        .subsequent_indent(rest)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::wrap(&clean(text), options).into_iter().map(|line| line.into_owned()).collect()
}

/// Paragraphs (parted by empty lines) in lines of at most `columns`.
pub fn prose(text: &str, columns: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let text = text.replace("\r\n", "\n");
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(wrap(paragraph, columns, indent, indent));
    }
    lines
}

/// `head`, then items with dots between; an item is cut only where a line of its own is too short
/// for it. Lines after the first begin below the first item.
pub fn flow(head: &str, items: &[String], columns: usize) -> Vec<String> {
    let hanging = " ".repeat(width(head));
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    let mut empty = true;
    for item in items {
        if !empty && width(&line) + width(DOT) + width(item) > columns {
            lines.push(core::mem::replace(&mut line, hanging.clone()));
            empty = true;
        }
        if empty && width(&line) + width(item) > columns {
            let further = format!("{hanging}  ");
            let mut parts = wrap(item, columns, &line, &further);
            line = parts.pop().unwrap_or_default();
            lines.extend(parts);
        } else {
            if !empty {
                line.push_str(DOT);
            }
            line.push_str(item);
        }
        empty = false;
    }
    lines.push(line);
    lines
}

/// A whole number, its thousands set apart.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 thing` or `2 things`.
pub fn count(value: u64, thing: &str) -> String {
    format!("{} {thing}{}", number(value), if value == 1 { "" } else { "s" })
}

/// A size as the architecture's tools write it, if that is exact: `64K`, `2M`, else bytes.
pub fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes:#x}")
}

/// About how many bytes: `1.2 MiB`.
pub fn about(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift != 0 {
            // Two significant digits are shown, so that rounding to a float's precision is unseen.
            return format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64);
        }
    }
    count(bytes, "byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_whole_while_a_line_has_room_for_one() {
        let items = ["one two".to_owned(), "three".to_owned(), "four".to_owned()];
        assert_eq!(flow("x  ", &items, 80), ["x  one two · three · four"]);
        assert_eq!(flow("x  ", &items, 18), ["x  one two · three", "   four"]);
        assert_eq!(flow("x  ", &items, 8), ["x  one", "     two", "   three", "   four"]);
        assert_eq!(flow("x  ", &[], 8), ["x  "]);
    }

    #[test]
    fn prose_is_wrapped_and_names_are_not_cut_at_hyphens() {
        let text = "all about\ndisk-only\n\nmore";
        assert_eq!(prose(text, 12, "  "), ["  all about", "  disk-only", "", "  more"]);
    }

    #[test]
    fn a_scenario_cannot_draw_over_the_report() {
        assert_eq!(clean("a\x1b[2Jb\n c\u{9b}"), "a\u{fffd}[2Jb c\u{fffd}");
        assert_eq!(printable("a\nb\r\x07"), "a\nb\u{fffd}\u{fffd}");
    }

    #[test]
    fn numbers_and_sizes_are_short() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(1, "byte"), "1 byte");
        assert_eq!(size(0), "0x0");
        assert_eq!(size(0x8000), "32K");
        assert_eq!(size(0x4000_0000), "1G");
        assert_eq!(size(0x1001), "0x1001");
        assert_eq!(about(1023), "1,023 bytes");
        assert_eq!(about(0x1_3333), "76.8 KiB");
        assert_eq!(about(u64::MAX), "17179869184.0 GiB");
    }
}
