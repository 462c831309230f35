// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that commands are given, `-` for standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The name of standard input on a command line.
pub const STANDARD_INPUT: &str = "-";

/// Why there is nothing to work with.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is no such file.
    #[error("there is no file {0}; give the path of {1}, or - for standard input")]
    Missing(String, &'static str),
    /// It is a folder.
    #[error("{0} is a folder; name {1} in it")]
    Folder(String, &'static str),
    /// It can't be opened or read.
    #[error("{0} can't be read: {1}")]
    Unreadable(String, io::Error),
    /// It does not end.
    #[error("{0} is larger than {mib} MiB; that is not {1}", mib = .2 >> 20)]
    TooLarge(String, &'static str, u64),
    /// It is not text.
    #[error("{0} is not UTF-8 text: byte {2} is none; give {1}")]
    NotText(String, &'static str, usize),
}

/// What messages call `name`.
pub fn called(name: &str) -> &str {
    if name == STANDARD_INPUT { "standard input" } else { name }
}

/// The bytes of the file `name`, which should be `what` (`an IORT`), of at most `most` bytes.
///
/// # Errors
/// [`InputError`], which says what to give instead.
pub fn bytes(name: &str, what: &'static str, most: u64) -> Result<Vec<u8>, InputError> {
    if name == STANDARD_INPUT {
        return read(io::stdin().lock(), name, what, most);
    }
    let path = Path::new(name);
    if path.is_dir() {
        return Err(InputError::Folder(name.to_owned(), what));
    }
    match File::open(path) {
        Ok(file) => read(file, name, what, most),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(InputError::Missing(name.to_owned(), what))
        }
        Err(reason) => Err(InputError::Unreadable(name.to_owned(), reason)),
    }
}

/// As [`bytes`], of text.
///
/// # Errors
/// [`InputError`], which says what to give instead.
pub fn text(name: &str, what: &'static str, most: u64) -> Result<String, InputError> {
    String::from_utf8(bytes(name, what, most)?).map_err(|error| {
        InputError::NotText(called(name).to_owned(), what, error.utf8_error().valid_up_to())
    })
}

fn read(from: impl Read, name: &str, what: &'static str, most: u64) -> Result<Vec<u8>, InputError> {
    let name = called(name).to_owned();
    let mut bytes = Vec::new();
    match from.take(most.saturating_add(1)).read_to_end(&mut bytes) {
        Err(reason) => Err(InputError::Unreadable(name, reason)),
        Ok(_) if bytes.len() as u64 > most => Err(InputError::TooLarge(name, what, most)),
        Ok(_) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_with_what_to_give() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let told = |name: &str| bytes(name, "an IORT", 1 << 20).unwrap_err().to_string();
        assert_eq!(told(path), format!("{path} is a folder; name an IORT in it"));
        let none = format!("{path}/none");
        assert_eq!(
            told(&none),
            format!("there is no file {none}; give the path of an IORT, or - for standard input")
        );
        let endless = read(io::repeat(b' '), "-", "an IORT", 1 << 20).unwrap_err().to_string();
        assert_eq!(endless, "standard input is larger than 1 MiB; that is not an IORT");
        let file = folder.path().join("file");
        std::fs::write(&file, b"ab\xff").unwrap();
        let name = file.to_str().unwrap();
        assert_eq!(bytes(name, "words", 3).unwrap(), b"ab\xff");
        let told = text(name, "words", 3).unwrap_err().to_string();
        assert_eq!(told, format!("{name} is not UTF-8 text: byte 2 is none; give words"));
    }
}
