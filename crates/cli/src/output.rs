// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where answers go: standard output, as text or as JSON, for whoever reads as much of it as they want.

use std::io;

use serde::Serialize;

use crate::{Failure, json, write_out};

/// Shows `report`: as one JSON object, or as what `text` makes of it. Colours are left out where there is no terminal,
/// and with `NO_COLOR`. A reader that leaves is no error: whether they read all of it.
///
/// # Errors
/// [`Failure::Output`], when it could not be written for another reason.
pub fn show(
    as_json: bool,
    report: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<bool, Failure> {
    let written = if as_json {
        json(report).and_then(|text| write_out(&text, io::stdout().lock()))
    } else {
        write_out(&text(), anstream::stdout().lock())
    };
    written.map_err(Failure::Output)
}
