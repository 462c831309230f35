// SPDX-License-Identifier: MIT OR Apache-2.0
//! The eight words of an entry, as they are written.

use smmuv3::update::Words;
use smmuv3_decode::structure::{self, Kind, Options};

use crate::input::{self, InputError, STANDARD_INPUT};

/// More than eight words in any form.
const MOST_BYTES: u64 = 1 << 20;

/// Why there are no words.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// The file can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// There are more or fewer.
    #[error(
        "{0} has {1}, not eight; all of an entry is needed: eight hexadecimal words of 64 bits, zeros too"
    )]
    Count(String, String),
    /// Something is no word.
    #[error(
        "{0:?} is no hexadecimal word of 64 bits; an entry is eight of them, such as 8002000b,d4,0,0,0,0,0,0"
    )]
    Word(String),
    /// Both are standard input.
    #[error("standard input can't be both FROM and TO; give one of them as words or as @FILE")]
    Twice,
}

/// Reads both ends.
///
/// # Errors
/// [`WordsError`], which says what to give instead.
pub fn read_both(from: &str, to: &str) -> Result<(Words, Words), WordsError> {
    let is_input = |text: &str| text == STANDARD_INPUT || text == "@-";
    if is_input(from) && is_input(to) {
        return Err(WordsError::Twice);
    }
    Ok((read(from)?, read(to)?))
}

/// Reads one end.
///
/// # Errors
/// [`WordsError`], which says what to give instead.
pub fn read(text: &str) -> Result<Words, WordsError> {
    let (name, bytes) = match (text, text.strip_prefix('@')) {
        (STANDARD_INPUT, _) => (STANDARD_INPUT, input::bytes(STANDARD_INPUT, WHAT, MOST_BYTES)?),
        (_, Some(name)) => (name, input::bytes(name, WHAT, MOST_BYTES)?),
        (_, None) => return words(text, text),
    };
    let name = input::called(name);
    match String::from_utf8(bytes) {
        // Zero bytes are text to some; nobody writes words with them.
        Ok(text) if !text.contains('\0') => {
            words(name, &text).or_else(|wrong| dump(&text).ok_or(wrong))
        }
        Ok(text) => raw(name, text.as_bytes()),
        Err(error) => raw(name, error.as_bytes()),
    }
}

const WHAT: &str = "the words of an entry";

/// An entry as debuggers and dumps print one. STE and CD have as many words, so it does not matter which it is read as.
fn dump(text: &str) -> Option<Words> {
    let decoded = structure::read(Kind::find("ste").ok()?, text, &Options::default()).ok()?;
    decoded.words.try_into().ok()
}

/// The entry as memory holds it.
fn raw(name: &str, bytes: &[u8]) -> Result<Words, WordsError> {
    let (words, rest) = bytes.as_chunks::<8>();
    match <[[u8; 8]; 8]>::try_from(words) {
        Ok(words) if rest.is_empty() => Ok(words.map(u64::from_le_bytes)),
        _ => Err(WordsError::Count(name.to_owned(), format!("{} bytes", bytes.len()))),
    }
}

/// Words in hexadecimal. What follows a `#`, and addresses with a colon behind them, count for nothing.
fn words(name: &str, text: &str) -> Result<Words, WordsError> {
    let text = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let parts = text.flat_map(|line| line.split(|c: char| c == ',' || c.is_whitespace()));
    let parts = parts.filter(|part| !part.is_empty() && !part.ends_with(':'));
    let word = |part: &str| {
        let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")).unwrap_or(part);
        let digits = digits.replace('_', "");
        let hex = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let word = hex.then(|| u64::from_str_radix(&digits, 16).ok()).flatten();
        word.ok_or_else(|| WordsError::Word(part.to_owned()))
    };
    let words: Vec<u64> = parts.map(word).collect::<Result<_, _>>()?;
    let count = words.len();
    let told = || crate::report::text::count(count as u64, "word");
    words.try_into().map_err(|_| WordsError::Count(name.to_owned(), told()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Words = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];

    #[test]
    fn words_are_parted_by_anything() {
        for text in [
            "8002000b,d4,0,0,0,0,0,0",
            "0x8002000b 0x000000d4 0 0 0 0 0 0",
            "0x8002_000b, 0xD4,\n0,0, 0,0,0,0,",
            "80001000: 000000008002000b 00000000000000d4\n80001010: 0 0 # rest\n80001020: 0 0 0 0\n",
        ] {
            assert_eq!(read(text).unwrap(), ENTRY, "{text}");
        }
    }

    #[test]
    fn files_have_words_or_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("entry");
        let name = format!("@{}", file.display());
        std::fs::write(&file, "8002000b d4 0 0 0 0 0 0\n").unwrap();
        assert_eq!(read(&name).unwrap(), ENTRY);
        let bytes: Vec<u8> = ENTRY.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(read(&name).unwrap(), ENTRY);
        std::fs::write(&file, &bytes[1..]).unwrap();
        assert!(read(&name).unwrap_err().to_string().contains("has 63 bytes, not eight"));
    }

    #[test]
    fn what_is_no_entry_is_told() {
        let told = |text: &str| read(text).unwrap_err().to_string();
        assert!(told("1,2").contains("has 2 words, not eight"), "{}", told("1,2"));
        assert!(told("0 0 0 0 0 0 0 0 0").contains("9 words"));
        let crash = "ffff000012345000:  000000008002000b 00000000000000d4   ........\n\
                     ffff000012345010:  0000000000000000 0000000000000000   ........\n\
                     ffff000012345020:  0000000000000000 0000000000000000   ........\n\
                     ffff000012345030:  0000000000000000 0000000000000000   ........\n";
        assert_eq!(dump(crash), Some(ENTRY));
        assert!(told("x,0,0,0,0,0,0,0").starts_with("\"x\" is no hexadecimal word"));
        assert!(told("10000000000000000,0,0,0,0,0,0,0").contains("is no hexadecimal word"));
        assert!(told("").contains("0 words"));
        assert!(told("@none").contains("there is no file none"));
        assert!(read_both("-", "@-").is_err());
    }
}
