// SPDX-License-Identifier: MIT OR Apache-2.0
//! What somebody pasted without saying what it is.

use smmuv3_decode::structure::{Decoded, Kind, Options, read};

/// Kinds that a number of words may be, the likeliest first.
const KINDS: [&str; 5] = ["event", "ste", "cd", "cmd", "pri"];

/// The kind of `text`: `log`, or the kind of structure that its words make the most sense as; `None` where it is
/// numbers that nothing tells apart.
pub fn detect(text: &str) -> Option<&'static str> {
    // Prose makes a log: a dump has addresses, words and perhaps a column of characters.
    let lower = text.to_ascii_lowercase();
    if lower.contains("idr0") || lower.contains("idr1") || lower.contains("idr5") {
        return Some("idr");
    }
    let is_log = ["smmu", "event", "received", "kernel", "iommu", "timeout", "error"];
    if is_log.iter().any(|word| lower.contains(word)) {
        return Some("log");
    }
    let numbers = text.split_whitespace().count();
    let read = |name: &&'static str| {
        let decoded = read(Kind::find(name).ok()?, text, &Options::default()).ok()?;
        // Eight numbers are eight words, if they can be, rather than halves of four.
        let split = 3 * usize::from(decoded.words.len() != numbers);
        Some((doubt(&decoded) + split, *name))
    };
    let best = KINDS.iter().filter_map(read).min_by_key(|(doubt, _)| *doubt);
    match best {
        Some((_, name)) => Some(name),
        None if lower.split_whitespace().any(is_prose) => Some("log"),
        None => None,
    }
}

/// How little sense the words make as what they were taken for.
fn doubt(decoded: &Decoded) -> usize {
    let unknown = decoded.described.is_empty() || decoded.name.contains("unknown");
    let zero = decoded.words.iter().all(|word| *word == 0);
    let rejected = 4 * usize::from(decoded.illegal.is_some());
    100 * usize::from(unknown) + 50 * usize::from(zero) + rejected + decoded.violations.len()
}

/// A word that is no number, address or byte.
fn is_prose(word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    letters >= 3 && !word.trim_start_matches("0x").chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_for_what_they_make_sense_as() {
        for (text, kind) in [
            ("0x0000018000000010 0x0000020100000000 0xffffe040 0xffffe000", Some("event")),
            ("0x8002000b 0x08000054 0 0 0 0 0 0", Some("ste")),
            ("0x0005000580c01910 0x82345000 0 0xff 0 0 0 0", Some("cd")),
            ("0x0005000000000012 0xffffe001", Some("cmd")),
            ("12 34", Some("pri")),
            ("IDR0: 0x0d5c2e1b", Some("idr")),
            ("arm-smmu-v3 smmu0: event 0x10 received:", Some("log")),
            ("nothing of interest happened", Some("log")),
            ("0x12345", None),
            ("", None),
        ] {
            assert_eq!(detect(text), kind, "{text}");
        }
    }
}
