// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `smmuv3 sid`: which StreamID a device has, and which device a StreamID is.

mod lookup;
mod name;
mod span;

use std::io;

use crate::args::Sid;
use crate::firmware::{self, Asker, Firmware, FirmwareError};
use crate::input::{self, InputError, STANDARD_INPUT};
use crate::output::show;
use crate::{BROKEN, Failure, HELD, columns};

pub use lookup::{runs, stream_runs, why};
pub use name::{Name, read};
#[cfg(test)]
pub use span::Spans;

/// More names than anybody asks for at once.
const MOST_BYTES: u64 = 16 << 20;

/// Why nothing can be answered.
#[derive(Debug, thiserror::Error)]
enum SidError {
    /// Standard input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// What firmware says can't be read.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// A name is none.
    #[error("{0}")]
    Name(String),
    /// Both the names and the table come from standard input.
    #[error("standard input can't be both the names and the table; give one of them as it is")]
    Twice,
    /// A name that only firmware knows.
    #[error(
        "only firmware knows {0}; add --iort or --dt, with /sys/firmware/acpi/tables/IORT or /sys/firmware/fdt"
    )]
    Path(String),
}

impl From<SidError> for Failure {
    fn from(error: SidError) -> Self {
        Self::Other(Box::new(error))
    }
}

/// Answers; the exit status.
///
/// # Errors
/// [`Failure`], when something can't be read.
pub fn execute(sid: &Sid) -> Result<u8, Failure> {
    let table = sid.iort.as_deref().or(sid.dt.as_deref());
    let from_input = |text: &str| text == STANDARD_INPUT;
    if table.is_some_and(from_input) && sid.ids.iter().any(|id| from_input(id)) {
        return Err(SidError::Twice.into());
    }
    let names = names(&sid.ids)?;
    if sid.span {
        let spans = span::Spans::of(&names).map_err(SidError::Name)?;
        show(sid.json, &spans, || spans.text())?;
        return Ok(HELD);
    }
    let firmware: Option<Firmware> = match (&sid.iort, &sid.dt) {
        (Some(name), _) => Some(firmware::iort(name, Asker::Option)),
        (None, Some(name)) => Some(firmware::device_tree(name, Asker::Option)),
        (None, None) => None,
    }
    .transpose()
    .map_err(SidError::Firmware)?;
    let asked: Result<Vec<(String, Name)>, String> =
        names.into_iter().map(|name| Ok((name.clone(), read(&name)?))).collect();
    let asked = asked.map_err(SidError::Name)?;
    let answers = match &firmware {
        Some(firmware) => lookup::Answers::by(firmware, &asked),
        None => lookup::Answers::alike(&asked).map_err(SidError::Path)?,
    };
    show(sid.json, &answers, || answers.text(columns()))?;
    Ok(if answers.all_found() { HELD } else { BROKEN })
}

/// The names, those of standard input in the place of `-`.
fn names(ids: &[String]) -> Result<Vec<String>, SidError> {
    let mut names = Vec::new();
    for id in ids {
        if id == STANDARD_INPUT {
            let text = input::text(id, "StreamIDs and PCI functions", MOST_BYTES)?;
            names.extend(text.split_whitespace().map(str::to_owned));
        } else {
            names.push(id.clone());
        }
    }
    if names.is_empty() {
        let reason = io::Error::other("it is empty; give StreamIDs and PCI functions");
        return Err(InputError::Unreadable("standard input".to_owned(), reason).into());
    }
    Ok(names)
}
