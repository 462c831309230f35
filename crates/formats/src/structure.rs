// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every structure, command, event and register of the crate in one table, for those who print, parse or draw
//! them by name.
//!
//! A type that has a [`Layout`] cannot be left out: the trait asks for a mark that only the lists here
//! (and the macros of commands and events, which have lists of their own) give.

use core::fmt;

use crate::descriptor::*;
use crate::register::*;
use crate::{Cd, EventId, Field, L1Cd, L1Std, Layout, Opcode, PageRequest, Ste};

mod list;

pub use list::ALL;
pub(crate) use list::{Listed, descriptor_row, listed};

/// What kind of thing a structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// An entry of a table that software fills: L1STD, STE, L1CD, CD (§5, §6).
    Entry,
    /// A command (§4).
    Command,
    /// An event record (§10).
    Event,
    /// A page request (§13).
    Request,
    /// A translation table descriptor (§15).
    Descriptor,
    /// A register (§2).
    Register,
}

/// Most 64-bit words that a structure has: those of an STE or a CD.
pub const MOST_WORDS: usize = 8;

/// A structure, and the fields that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// The architecture's name: `STE`, `CMD_TLBI_NH_VA`, `F_TRANSLATION`, `IDR0`, `S1 page descriptor`.
    pub name: &'static str,
    /// What kind of thing it is.
    pub class: Class,
    /// Section of the architecture reference that lists it.
    pub section: &'static str,
    /// 64-bit words it takes (1 for a 32-bit register too).
    pub words: usize,
    /// Bits of the whole: 32 for a 32-bit register.
    pub bits: u32,
    /// Offset in bytes of a register from page 0; of `VATOS_*` but for the selector within their page, of
    /// `ECMDQ_*` within their slot.
    pub offset: Option<u32>,
    /// Code of a command or event.
    pub code: Option<u8>,
    /// Its fields, in order of word and bit, without overlap. Empty where the reference names a register
    /// alone.
    pub fields: &'static [Field],
    /// Bits, word by word, that are no fields here and may yet mean something: the reference marks their
    /// place as uncertain. Absent words have none.
    pub uncertain: &'static [u64],
}

impl Structure {
    /// The table's row of a type.
    pub(crate) const fn of<T: Layout>(class: Class) -> Self {
        Self {
            name: T::NAME,
            class,
            section: T::SECTION,
            words: T::WORDS,
            bits: T::BITS,
            offset: T::AT,
            code: None,
            fields: T::FIELDS,
            uncertain: &[],
        }
    }

    /// The row of a command or event.
    pub(crate) const fn coded<T: Layout>(class: Class, name: &'static str, code: u8) -> Self {
        Self { name, code: Some(code), ..Self::of::<T>(class) }
    }

    pub(crate) const fn with_uncertain(self, uncertain: &'static [u64]) -> Self {
        Self { uncertain, ..self }
    }

    /// A register of which the reference has no fields: any bit may mean something.
    const fn bare(name: &'static str, section: &'static str, bits: u32, offset: u32) -> Self {
        Self {
            name,
            class: Class::Register,
            section,
            words: 1,
            bits,
            offset: Some(offset),
            code: None,
            fields: &[],
            uncertain: &[u64::MAX],
        }
    }

    /// The bits of `words` that are set although the structure has no field there and none is suspected
    /// there ([`Structure::uncertain`]). Words beyond the end are ignored; bits of a 32-bit register's word
    /// beyond its end are not.
    pub fn reserved(&self, words: &[u64]) -> [u64; MOST_WORDS] {
        let mut left = [0; MOST_WORDS];
        for ((left, word), index) in left.iter_mut().zip(words).zip(0..self.words) {
            let uncertain = self.uncertain.get(index).copied().unwrap_or(0);
            let fields = self.fields.iter().filter(|field| field.word == index);
            *left = word & !fields.fold(uncertain, |all, field| all | field.mask());
        }
        left
    }

    /// The field called `name`, in any case.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// The value of `field` in `words`; `None` when they are too few.
    pub fn value(&self, field: &Field, words: &[u64]) -> Option<u64> {
        words.get(field.word).map(|word| field.extract(*word))
    }
}

/// The name.
impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The structure called `name`: in any case, a command with or without `CMD_` (`CFGI_ALL` too), a register
/// with or without `SMMU_`. A number is the code of a command or event; one that both have (`0x10`)
/// is ambiguous and found by [`with_code`] alone.
pub fn find(name: &str) -> Option<&'static Structure> {
    if let Some(code) = code(name) {
        let (command, event) = (with_code(Class::Command, code), with_code(Class::Event, code));
        return if command.is_some() && event.is_some() { None } else { command.or(event) };
    }
    let bare = without(without(name, "SMMU_"), "CMD_");
    if bare.eq_ignore_ascii_case("CFGI_ALL") {
        return Some(command(Opcode::CfgiSteRange));
    }
    ALL.iter().find(|structure| {
        structure.name.eq_ignore_ascii_case(name)
            || without(structure.name, "CMD_").eq_ignore_ascii_case(bare)
    })
}

/// The command or event with this code.
pub fn with_code(class: Class, code: u8) -> Option<&'static Structure> {
    ALL.iter().find(|structure| structure.class == class && structure.code == Some(code))
}

/// The record of an event.
pub const fn event(id: EventId) -> &'static Structure {
    id.structure()
}

/// A command.
pub const fn command(opcode: Opcode) -> &'static Structure {
    opcode.structure()
}

/// A number of at most 8 bits, decimal or with `0x`.
fn code(text: &str) -> Option<u8> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `name` without `prefix`, in any case.
fn without<'a>(name: &'a str, prefix: &str) -> &'a str {
    match (name.get(..prefix.len()), name.get(prefix.len()..)) {
        (Some(start), Some(rest)) if start.eq_ignore_ascii_case(prefix) => rest,
        _ => name,
    }
}
