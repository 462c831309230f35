// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layouts of all structures, for pictures of their bits.

use serde::Serialize;
use smmuv3_formats::meaning;
use smmuv3_formats::structure::{ALL, Class, Structure};

/// The layout of a structure.
#[derive(Serialize)]
pub struct Layout {
    name: &'static str,
    class: &'static str,
    section: &'static str,
    words: usize,
    bits: u32,
    code: Option<u8>,
    offset: Option<u32>,
    fields: Vec<Part>,
}

/// A field of one.
#[derive(Serialize)]
struct Part {
    name: &'static str,
    word: usize,
    hi: u32,
    lo: u32,
    /// What it is, in a few words.
    #[serde(skip_serializing_if = "str::is_empty")]
    about: &'static str,
}

/// Those of every structure, command, event and register, in the reference's order.
pub fn all() -> Vec<Layout> {
    ALL.iter().map(Layout::of).collect()
}

impl Layout {
    fn of(structure: &Structure) -> Self {
        let part = |field: &smmuv3_formats::Field| Part {
            name: field.name,
            word: field.word,
            hi: field.hi,
            lo: field.lo,
            about: meaning::field(structure, field),
        };
        Self {
            name: structure.name,
            class: match structure.class {
                Class::Entry => "entry",
                Class::Command => "command",
                Class::Event => "event",
                Class::Request => "request",
                Class::Descriptor => "descriptor",
                Class::Register => "register",
            },
            section: structure.section,
            words: structure.words,
            bits: structure.bits,
            code: structure.code,
            offset: structure.offset,
            fields: structure.fields.iter().map(part).collect(),
        }
    }
}
