// SPDX-License-Identifier: MIT OR Apache-2.0
//! `decode KIND WORDS`: one structure, explained.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use smmuv3_decode::log::Kernel;
use smmuv3_decode::structure::words::{self, Order, WordsError};
use smmuv3_decode::structure::{
    DecodeError, Decoded, EncodeError, Instance, InstanceError, Kind, Options, UnknownKind, read,
};

use crate::args::Decode;
use crate::decode_log::LogError;
use crate::{BROKEN, Failure, HELD, columns, decode_log, write_out};

mod text;

pub use text::render;

/// Why there is no structure.
#[derive(Debug, thiserror::Error)]
pub enum StructureError {
    /// There is no such kind.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// Several words are given, and the first is no kind.
    #[error(
        "{0}. Say what the words are, as in smmuv3 decode event {name} ..., or give one log file",
        name = .0.name
    )]
    NoKind(UnknownKind),
    /// No words are given.
    #[error("no words of {0} are given; give them after it, or - for standard input")]
    NoWords(String),
    /// The words cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The fields make no words.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The instance is not known.
    #[error("--idr: {0}")]
    Instance(#[from] InstanceError),
    /// The STE cannot be read.
    #[error("--ste: {0}")]
    Ste(WordsError),
    /// A picture has room for one structure.
    #[error("--svg draws one structure, but this stands for several ({0}, ...); name one of them")]
    Several(String),
    /// An argument of `encode` is no field with a value.
    #[error("{0:?} is no field with a value; give fields as NAME=VALUE, such as sid=0x100")]
    Assignment(String),
    /// A file or standard input cannot be read.
    #[error("{path} can't be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
}

/// Explains a structure, or a log where the first word names no kind.
///
/// # Errors
/// It cannot be read.
pub fn decode(decode: &Decode) -> Result<u8, Failure> {
    let Some((first, rest)) = decode.what.split_first() else {
        return decode_log::execute(decode);
    };
    let kind = match Kind::find(first) {
        Ok(kind) => kind,
        Err(unknown) if rest.iter().any(|word| is_word(word)) => {
            return Err(StructureError::NoKind(unknown).into());
        }
        Err(_) => return decode_log::execute(decode),
    };
    let options = options(decode.idr.as_deref(), decode.ste.as_deref(), decode.order)?;
    let kernel = match &decode.kernel {
        Some(text) => Kernel::parse(text).ok_or_else(|| LogError::Kernel(text.clone()))?,
        None => Kernel::default(),
    };
    let options = Options { place: decode.place.place(), kernel, ..options };
    let text = match rest {
        [] if io::stdin().is_terminal() => {
            return Err(StructureError::NoWords(first.clone()).into());
        }
        [] => standard_input()?,
        [only] if only == "-" => standard_input()?,
        words => words.join(" "),
    };
    let decoded = read(kind, &text, &options).map_err(StructureError::Decode)?;
    show(&decoded, decode.json)
}

/// Whether an argument is rather a word of a structure than the name of a log.
fn is_word(argument: &str) -> bool {
    let digits = argument.strip_prefix("0x").unwrap_or(argument);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Prints it; the exit status.
fn show(decoded: &Decoded, json: bool) -> Result<u8, Failure> {
    let written = if json {
        // An event is the record that it is in a log.
        let line = match &decoded.record {
            Some(record) => serde_json::to_string(record),
            None => serde_json::to_string(decoded),
        };
        let line = line.map_err(|error| Failure::Output(error.into()))?;
        write_out(&(line + "\n"), io::stdout().lock())
    } else {
        write_out(&render(decoded, columns()), anstream::stdout().lock())
    };
    written.map_err(Failure::Output)?;
    // Whoever looks at an event has a problem, as in a log.
    let faulted = decoded.record.as_ref().is_some_and(|record| record.problem);
    Ok(if decoded.is_fine() && !faulted { HELD } else { BROKEN })
}

/// What words are judged by, from the options of the command line.
///
/// # Errors
/// The instance or the STE cannot be read.
pub fn options(
    idr: Option<&str>,
    ste: Option<&str>,
    order: Order,
) -> Result<Options, StructureError> {
    let instance = match idr {
        None => Instance::default(),
        Some(text) => Instance::parse(&text_or_file(text)?)?,
    };
    let ste = match ste {
        None => None,
        Some(text) => {
            let shape = words::Shape { name: "an STE", bytes: 64, plausible: None };
            let words = words::parse(&text_or_file(text)?, &shape, Order::Auto);
            words.map_err(StructureError::Ste)?.words.try_into().ok()
        }
    };
    Ok(Options { instance, ste, order, ..Options::default() })
}

/// What is in the file called `text`, if there is one, else `text`.
fn text_or_file(text: &str) -> Result<String, StructureError> {
    if Instance::preset(text).is_some() || !Path::new(text).is_file() {
        return Ok(text.to_owned());
    }
    let unreadable = |reason| StructureError::Unreadable { path: PathBuf::from(text), reason };
    File::open(text).and_then(bounded).map_err(unreadable)
}

/// What standard input has, bytes that are no text replaced.
///
/// # Errors
/// It cannot be read.
pub fn standard_input() -> Result<String, StructureError> {
    let unreadable =
        |reason| StructureError::Unreadable { path: PathBuf::from("standard input"), reason };
    bounded(io::stdin().lock()).map_err(unreadable)
}

/// At most a little more than can be used, so that too much is seen.
fn bounded(source: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    source.take(words::MOST_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
