// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fields [KIND]`: what structures are made of.

use std::io;

use serde::Serialize;
use smmuv3_decode::structure::{Kind, NAMED, picture};
use smmuv3_formats::structure::{self, Class, Structure};

use crate::args::Fields;
use crate::report::text::{BOLD, DIM, pad, paint, width, wrap};
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
    let shown = match &fields.kind {
        None => structure::ALL.iter().collect(),
        Some(name) => structures(Kind::find(name).map_err(StructureError::Kind)?),
    };
    if fields.svg {
        let text = match &shown[..] {
            [one] => picture::svg(one),
            several => return Err(StructureError::Several(names(several)).into()),
        };
        write_out(&text, io::stdout().lock()).map_err(Failure::Output)?;
        return Ok(HELD);
    }
    if fields.json {
        let rows: Vec<Row> = shown.iter().flat_map(|structure| rows(structure)).collect();
        let text =
            serde_json::to_string_pretty(&rows).map_err(|error| Failure::Output(error.into()))?;
        write_out(&(text + "\n"), io::stdout().lock()).map_err(Failure::Output)?;
        return Ok(HELD);
    }
    let text = if fields.kind.is_some() {
        shown.iter().map(|structure| one(structure)).collect::<Vec<_>>().join("\n")
    } else {
        list(columns())
    };
    write_out(&text, anstream::stdout().lock()).map_err(Failure::Output)?;
    Ok(HELD)
}

/// The structures that a kind stands for.
fn structures(kind: Kind) -> Vec<&'static Structure> {
    let of = |class: Class| structure::ALL.iter().filter(move |one| one.class == class);
    let named = |names: &[&str]| names.iter().filter_map(|name| structure::find(name)).collect();
    match kind {
        Kind::One(structure) => vec![structure],
        Kind::Event => of(Class::Event).filter(|one| one.code.is_none()).collect(),
        Kind::Command => of(Class::Command).collect(),
        Kind::Descriptor => of(Class::Descriptor).collect(),
        Kind::Idr => {
            named(&["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IDR6", "IIDR", "AIDR"])
        }
        Kind::Gerror => named(&["GERROR"]),
        Kind::CmdqCons => named(&["CMDQ_CONS"]),
        Kind::Features => Vec::new(),
    }
}

fn names(structures: &[&Structure]) -> String {
    let names: Vec<&str> = structures.iter().map(|one| one.name).take(6).collect();
    if structures.is_empty() { "none".to_owned() } else { names.join(", ") }
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

/// What there is, by its class.
fn list(columns: usize) -> String {
    let mut lines = vec![paint(BOLD, "Kinds of smmuv3 decode")];
    let widest = NAMED.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    lines.extend(NAMED.iter().map(|(name, what)| format!("  {name}{}  {what}", pad(name, widest))));
    for (class, title) in [
        (Class::Entry, "Table entries"),
        (Class::Command, "Commands"),
        (Class::Event, "Events"),
        (Class::Request, "Page requests"),
        (Class::Descriptor, "Descriptors"),
        (Class::Register, "Registers"),
    ] {
        lines.push(String::new());
        lines.push(paint(BOLD, title));
        let names = structure::ALL.iter().filter(|one| one.class == class).map(|one| one.name);
        let names: Vec<String> = names.map(|name| name.replace(' ', "\u{a0}")).collect();
        lines.extend(
            wrap(&names.join(", "), columns, "  ", "  ")
                .iter()
                .map(|line| line.replace('\u{a0}', " ")),
        );
    }
    lines.push(String::new());
    lines.push(paint(DIM, "smmuv3 fields NAME shows one; case does not matter, nor CMD_"));
    lines.join("\n") + "\n"
}

/// A table of the fields, and the picture.
fn one(structure: &'static Structure) -> String {
    let size = match structure.bits {
        32 => "32-bit register".to_owned(),
        64 if structure.class == Class::Register => "64-bit register".to_owned(),
        bits => format!("{} bytes", bits / 8),
    };
    let place = match (structure.offset, structure.code) {
        (Some(offset), _) => format!(", offset {offset:#x}"),
        (_, Some(code)) => format!(", code {code:#04x}"),
        _ => String::new(),
    };
    let facts = paint(DIM, &format!("  {size}{place}, §{}", structure.section));
    let mut lines = vec![format!("{}{facts}", paint(BOLD, structure.name)), String::new()];
    let place = |field: &smmuv3_formats::Field| {
        let bits = if field.hi == field.lo {
            field.lo.to_string()
        } else {
            format!("{}:{}", field.hi, field.lo)
        };
        if structure.words > 1 { format!("w{} {bits}", field.word) } else { bits }
    };
    let widest = structure.fields.iter().map(|field| width(&place(field))).max().unwrap_or(0);
    let longest = structure.fields.iter().map(|field| width(field.name)).max().unwrap_or(0);
    for field in structure.fields {
        let (bits, name) = (place(field), field.name);
        let what = picture::purpose(structure, field);
        let line = format!("  {bits}{}  {name}{}  {what}", pad(&bits, widest), pad(name, longest));
        lines.push(line.trim_end().to_owned());
    }
    if structure.fields.is_empty() {
        lines.push("  The reference does not give its fields.".to_owned());
    }
    lines.push(String::new());
    lines.join("\n") + "\n" + &picture::text(structure)
}
