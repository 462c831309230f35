// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a scenario comes from: a file, standard input, or this program.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The built-in scenario that runs when none is named.
pub const DEFAULT: &str = "two-instances";

/// Scenarios that are part of the program: name, file in the repository, text.
const BUILT_IN: &[(&str, &str, &str)] = &[
    (
        DEFAULT,
        "scenarios/two-instances.toml",
        include_str!("../../../scenarios/two-instances.toml"),
    ),
    (
        "one-instance",
        "scenarios/one-instance.toml",
        include_str!("../../../scenarios/one-instance.toml"),
    ),
    ("random", "scenarios/random.toml", include_str!("../../../scenarios/random.toml")),
    (
        "random-short",
        "scenarios/random-short.toml",
        include_str!("../../../scenarios/random-short.toml"),
    ),
    ("option-1", "scenarios/option-1.toml", include_str!("../../../scenarios/option-1.toml")),
    ("option-2", "scenarios/option-2.toml", include_str!("../../../scenarios/option-2.toml")),
    ("the-patch", "scenarios/the-patch.toml", include_str!("../../../scenarios/the-patch.toml")),
    ("the-fix", "scenarios/the-fix.toml", include_str!("../../../scenarios/the-fix.toml")),
    ("banks", "scenarios/banks.toml", include_str!("../../../scenarios/banks.toml")),
    ("process", "scenarios/process.toml", include_str!("../../../scenarios/process.toml")),
    (
        "random-processes",
        "scenarios/random-processes.toml",
        include_str!("../../../scenarios/random-processes.toml"),
    ),
];

/// More than any scenario, and little enough to stop soon when given an endless file.
const MOST_BYTES: u64 = 16 << 20;

/// A scenario's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call the file.
    pub file: String,
    /// The TOML.
    pub text: String,
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing has this name.
    #[error(
        "there is no file {0}; give the path of a scenario, - for standard input, or the name of a \
         built-in one: {names}", names = names()
    )]
    Missing(String),
    /// It can't be opened or read.
    #[error("{file} can't be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: io::Error,
    },
    /// It is a folder.
    #[error("{0} is a folder; name the scenario file in it")]
    Folder(String),
    /// It is not text.
    #[error("{file} is not UTF-8 text: byte {at} is none; a scenario is a TOML file")]
    NotText {
        /// The file.
        file: String,
        /// Bytes that are text.
        at: usize,
    },
    /// It does not end.
    #[error("{0} is larger than 16 MiB; that is no scenario")]
    TooLarge(String),
}

/// Reads the scenario that is called `name` on the command line. A file is preferred to a built-in
/// scenario of the same name, since only the file's name could have been chosen otherwise.
///
/// # Errors
/// [`SourceError`], which says what to give instead.
pub fn read(name: &str) -> Result<Source, SourceError> {
    if name == "-" {
        return text("standard input", io::stdin().lock());
    }
    let path = Path::new(name);
    if !path.is_file()
        && let Some((_, file, text)) = BUILT_IN.iter().find(|(built_in, ..)| *built_in == name)
    {
        return Ok(Source { file: (*file).to_owned(), text: (*text).to_owned() });
    }
    if path.is_dir() {
        return Err(SourceError::Folder(name.to_owned()));
    }
    match File::open(path) {
        Ok(file) => text(name, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SourceError::Missing(name.to_owned()))
        }
        Err(reason) => Err(SourceError::Unreadable { file: name.to_owned(), reason }),
    }
}

fn text(file: &str, from: impl Read) -> Result<Source, SourceError> {
    let file = file.to_owned();
    let mut bytes = Vec::new();
    match from.take(MOST_BYTES + 1).read_to_end(&mut bytes) {
        Err(reason) => Err(SourceError::Unreadable { file, reason }),
        Ok(_) if bytes.len() as u64 > MOST_BYTES => Err(SourceError::TooLarge(file)),
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Source { file, text }),
            Err(error) => Err(SourceError::NotText { file, at: error.utf8_error().valid_up_to() }),
        },
    }
}

fn names() -> String {
    BUILT_IN.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use smmuv3_testbench::scenario::{Capabilities, Scenario};

    use super::*;

    #[test]
    fn built_in_scenarios_have_their_names_and_run_on_the_model() {
        for (name, ..) in BUILT_IN {
            let source = read(name).unwrap();
            let scenario = Scenario::parse(&source.text, &source.file).unwrap();
            assert_eq!(scenario.name, *name);
            scenario.check_for(&Capabilities::model()).unwrap();
        }
    }

    #[test]
    fn a_file_is_read_and_called_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "name = \"mine\"").unwrap();
        let name = path.to_str().unwrap();
        let expected = Source { file: name.to_owned(), text: "name = \"mine\"".to_owned() };
        assert_eq!(read(name).unwrap(), expected);
    }

    #[test]
    fn what_is_no_scenario_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path().to_str().unwrap()).unwrap_err();
        assert!(matches!(error, SourceError::Folder(_)), "{error}");
        let error = read("two-instance").unwrap_err();
        assert!(
            error.to_string().contains("built-in one: two-instances, one-instance, random"),
            "{error}"
        );
        let error = text("x", &b"abc\xff"[..]).unwrap_err();
        assert!(matches!(error, SourceError::NotText { at: 3, .. }), "{error}");
        let error = text("x", io::repeat(b' ')).unwrap_err();
        assert!(matches!(error, SourceError::TooLarge(_)), "{error}");
    }
}
