// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes in a scenario: text, a list, hex digits or a pattern.

use toml::de::DeValue;

use super::source::{Fields, Value, describe};

/// The most bytes that a step can hold. What one DMA can carry depends on the machine.
pub(super) const LIMIT: u64 = 1 << 20;

const FORMS: &str =
    "\"text\", [1, 2, 3], { hex = \"de ad\" } or { pattern = 0x12345678, length = 64 }";

/// The bytes of `value`, at least one.
pub(super) fn data<'a>(
    fields: &Fields<'a>,
    key: &'static str,
    value: &'a Value<'a>,
) -> Option<Vec<u8>> {
    let bytes = match value.get_ref() {
        DeValue::String(text) => text.as_bytes().to_vec(),
        DeValue::Array(_) => {
            let numbers = fields.numbers(key, 0..=255, value)?;
            numbers.into_iter().map(|(number, _)| number as u8).collect()
        }
        DeValue::Table(_) => table(Fields::of(fields.source, key, value)?)?,
        other => {
            let (found, what) = (describe(other), &fields.what);
            fields.wrong(value, format!("{key} of {what} must be {FORMS}, not {found}"));
            return None;
        }
    };
    if bytes.is_empty() {
        fields.wrong(value, format!("{key} of {} is empty; write {FORMS}", fields.what));
        return None;
    }
    Some(bytes)
}

fn table(fields: Fields<'_>) -> Option<Vec<u8>> {
    let source = fields.source;
    let mistakes = source.mistakes();
    let bytes = match (fields.get("hex"), fields.get("pattern"), fields.get("length")) {
        (Some(value), None, None) => hex(&fields, value),
        (None, Some(_), Some(_)) => pattern(&fields),
        _ => {
            let message = format!("{} has the wrong keys; it is {FORMS}", fields.what);
            source.wrong(fields.span.clone(), message);
            None
        }
    };
    fields.finish();
    bytes.filter(|_| source.mistakes() == mistakes)
}

fn hex(fields: &Fields<'_>, value: &Value<'_>) -> Option<Vec<u8>> {
    let text = value.get_ref().as_str()?;
    let digits: Option<Vec<u32>> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => {
            // Two hexadecimal digits fit a byte.
            Some(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
        }
        _ => {
            fields.wrong(value, format!("hex = \"{text}\" is not pairs of hexadecimal digits"));
            None
        }
    }
}

/// A 32-bit word, little-endian, again and again.
fn pattern(fields: &Fields<'_>) -> Option<Vec<u8>> {
    let word = fields.number("pattern", 0..=u64::from(u32::MAX))? as u32;
    let length = fields.number("length", 1..=LIMIT)?;
    Some(word.to_le_bytes().into_iter().cycle().take(length as usize).collect())
}
