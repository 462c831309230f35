// SPDX-License-Identifier: MIT OR Apache-2.0
//! TOML tables whose keys are asked for one by one, with every mistake noted where it stands.

use core::cell::RefCell;
use core::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::Places;
use super::error::{Mistakes, Position, did_you_mean};

/// A value of the file and where it stands.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// The file: turns byte offsets into lines and columns, and takes mistakes.
pub(super) struct Source<'a> {
    text: &'a str,
    /// Offset of each line's first byte; the first is 0.
    lines: Vec<usize>,
    mistakes: RefCell<Mistakes>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, file: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = core::iter::once(0).chain(ends).collect();
        Self { text, lines, mistakes: RefCell::new(Mistakes::of(file)) }
    }

    pub(super) fn position(&self, span: Range<usize>) -> Position {
        // Line 1 starts at 0, so there is always a line before the place.
        let line = self.lines.partition_point(|start| *start <= span.start);
        let before = self.text.get(self.lines[line - 1]..span.start).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    pub(super) fn wrong(&self, span: Range<usize>, message: impl Into<String>) {
        self.wrong_at(self.position(span), message);
    }

    pub(super) fn wrong_at(&self, at: Position, message: impl Into<String>) {
        self.mistakes.borrow_mut().add(at, message);
    }

    pub(super) fn mistakes(&self) -> usize {
        self.mistakes.borrow().count()
    }

    pub(super) fn into_mistakes(self) -> Mistakes {
        self.mistakes.into_inner()
    }
}

/// A table: remembers which keys were asked for, so that [`finish`](Self::finish) can name the
/// others.
pub(super) struct Fields<'a> {
    pub(super) source: &'a Source<'a>,
    /// What messages call it: `instance "smmu0"`.
    pub(super) what: String,
    pub(super) span: Range<usize>,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        what: impl Into<String>,
        span: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Self {
        Self { source, what: what.into(), span, table, asked: RefCell::default() }
    }

    /// The table in `value`; a mistake if it is something else.
    pub(super) fn of(source: &'a Source<'a>, what: &str, value: &'a Value<'a>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(source, what, value.span(), table)),
            other => {
                let found = describe(other);
                source.wrong(value.span(), format!("{what} must be a table {{ … }}, not {found}"));
                None
            }
        }
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a Value<'a>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    /// The value of `key`; a mistake that shows `example` if it is not there.
    pub(super) fn need(&self, key: &'static str, example: &str) -> Option<&'a Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            let what = &self.what;
            let message = format!("{what} has no {key}; write for example {key} = {example}");
            self.source.wrong(self.span.clone(), message);
        }
        value
    }

    pub(super) fn wrong(&self, value: &Value<'_>, message: impl Into<String>) {
        self.source.wrong(value.span(), message);
    }

    fn wrong_type(&self, key: &str, value: &Value<'_>, right: &str) {
        let found = describe(value.get_ref());
        self.wrong(value, format!("{key} of {} must be {right}, not {found}", self.what));
    }

    /// A string.
    pub(super) fn text(&self, key: &'static str, value: &'a Value<'a>) -> Option<&'a str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a string");
        }
        text
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        flag
    }

    /// `true` or `false`, or one of some words.
    pub(super) fn flag_or<T: Copy>(
        &self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<Result<bool, T>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(Ok(*flag)),
            DeValue::String(text) => self.pick(key, value, text, words).map(Err),
            _ => {
                let names: Vec<String> =
                    words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                let right = format!("true, false or {}", names.join(", "));
                self.wrong_type(key, value, &right);
                None
            }
        }
    }

    /// A whole number in `range`.
    pub(super) fn number(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let right = format!("a {}", span_text(&range).replace("numbers", "number"));
        match value.get_ref() {
            DeValue::Integer(integer) => {
                let number = integer_value(integer).filter(|number| range.contains(number));
                if number.is_none() {
                    let what = &self.what;
                    self.wrong(value, format!("{key} = {integer} in {what}; it must be {right}"));
                }
                number
            }
            _ => {
                self.wrong_type(key, value, &right);
                None
            }
        }
    }

    /// Bytes: a whole number, or a string with a unit such as `"64K"`.
    pub(super) fn bytes(&self, key: &'static str, value: &'a Value<'a>) -> Option<u64> {
        let bytes = match value.get_ref() {
            DeValue::Integer(integer) => integer_value(integer),
            DeValue::String(text) => parse_bytes(text),
            _ => None,
        };
        if bytes.is_none() {
            let found = describe(value.get_ref());
            self.wrong(
                value,
                format!(
                    "{key} of {} must be bytes like 65536, 0x10000 or \"64K\" (K, M, G: 1024 each), \
                     not {found}",
                    self.what
                ),
            );
        }
        bytes
    }

    /// Bytes that are a multiple of `unit`.
    pub(super) fn multiple(
        &self,
        key: &'static str,
        unit: u64,
        value: &'a Value<'a>,
    ) -> Option<u64> {
        let bytes = self.bytes(key, value)?;
        if bytes.is_multiple_of(unit) {
            return Some(bytes);
        }
        let below = bytes - bytes % unit;
        let near = below.checked_add(unit).map_or(format!("{below:#x}"), |above| {
            if below == 0 { format!("{above:#x}") } else { format!("{below:#x} or {above:#x}") }
        });
        let what = &self.what;
        self.wrong(
            value,
            format!(
                "{key} = {bytes:#x} in {what} is no multiple of 4 KiB, so no page begins or ends there; \
                 near it are {near}"
            ),
        );
        None
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.get(key)?;
        let text = self.text(key, value)?;
        self.pick(key, value, text, words)
    }

    /// What `text` stands for.
    pub(super) fn pick<T: Copy>(
        &self,
        key: &str,
        value: &Value<'_>,
        text: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let names: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let guess = did_you_mean(text, words.iter().map(|(word, _)| *word));
        let what = &self.what;
        self.wrong(
            value,
            format!("unknown {key} \"{text}\" in {what}; it is one of {}{guess}", names.join(", ")),
        );
        None
    }

    /// The elements of an array.
    pub(super) fn list(&self, key: &'static str, value: &'a Value<'a>) -> Option<&'a [Value<'a>]> {
        let array = value.get_ref().as_array();
        if array.is_none() {
            self.wrong_type(key, value, "an array [ … ]");
        }
        array.map(|array| &array[..])
    }

    /// A list of whole numbers in `range`.
    pub(super) fn numbers(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        value: &'a Value<'a>,
    ) -> Option<Vec<(u64, &'a Value<'a>)>> {
        let before = self.source.mistakes();
        let mut numbers = Vec::new();
        for element in self.list(key, value)? {
            let number = match element.get_ref() {
                DeValue::Integer(integer) => integer_value(integer),
                _ => None,
            };
            match number.filter(|number| range.contains(number)) {
                Some(number) => numbers.push((number, element)),
                None => {
                    let found = describe(element.get_ref());
                    let what = &self.what;
                    let right = span_text(&range);
                    self.wrong(element, format!("{key} of {what} has {found}; they are {right}"));
                }
            }
        }
        (self.source.mistakes() == before).then_some(numbers)
    }

    /// Keys of the table, as they stand there.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> + use<'a> {
        self.table.iter().map(|(key, _)| (key.get_ref().as_ref(), key.span()))
    }

    /// Where the table and its keys stand.
    pub(super) fn places(&self) -> Places {
        let place =
            |(key, span): (&str, Range<usize>)| (key.to_owned(), self.source.position(span));
        Places {
            whole: self.source.position(self.span.clone()),
            keys: self.keys().map(place).collect(),
        }
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        let unknown = |key: &str| !asked.contains(&key);
        for (key, span) in self.keys().filter(|(key, _)| unknown(key)) {
            let guess = did_you_mean(key, asked.iter().copied());
            let (what, known) = (&self.what, asked.join(", "));
            let message = format!("unknown key {key} in {what}; keys are {known}{guess}");
            self.source.wrong(span, message);
        }
    }
}

/// `whole numbers from 1 to 16`
fn span_text(range: &RangeInclusive<u64>) -> String {
    match (*range.start(), *range.end()) {
        (low, u64::MAX) => format!("whole numbers from {low} up"),
        (low, high) if high > 0xFFFF => format!("whole numbers from {low} to {high:#x}"),
        (low, high) => format!("whole numbers from {low} to {high}"),
    }
}

/// A whole number that fits 64 bits and is not negative.
pub(super) fn integer_value(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// `64K`, `64KiB`, `0x1000`, `4096`, `2 M`: K, M and G are 1024 each.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let number = text.trim_end_matches("iB");
    let (digits, shift) = match number.char_indices().next_back()? {
        (at, 'K') => (&number[..at], 10),
        (at, 'M') => (&number[..at], 20),
        (at, 'G') => (&number[..at], 30),
        _ if number.len() == text.len() => (number, 0),
        _ => return None,
    };
    let digits = digits.trim();
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<u64>().ok()?,
    };
    value.checked_mul(1 << shift)
}

/// A value as messages show it.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{text}\""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(parse_bytes("64K"), Some(65536));
        assert_eq!(parse_bytes("64 KiB"), Some(65536));
        assert_eq!(parse_bytes("2M"), Some(2 << 20));
        assert_eq!(parse_bytes("4G"), Some(4 << 30));
        assert_eq!(parse_bytes("0x1000"), Some(4096));
        assert_eq!(parse_bytes("12"), Some(12));
        for wrong in ["", "K", "64KB", "64iB", "-1", "1.5M", "17179869184G", "0xG", "+1 1"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let source = Source::new("é = 1\nab = 2", "f");
        assert_eq!(source.position(0..1), Position { line: 1, column: 1 });
        assert_eq!(source.position(3..4), Position { line: 1, column: 3 });
        assert_eq!(source.position(10..11), Position { line: 2, column: 4 });
        assert_eq!(source.position(99..100).line, 2);
    }
}
