// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nesting: a guest's stage 1 over the host's stage 2 (§5.2, Config = 0b111).
//!
//! The SMMU walks the guest's contexts and tables itself, each access of which stage 2 translates. What it does not
//! read by itself, the hypervisor brings to it: the guest's stream table entries, its commands, and the events that
//! are the guest's. The functions here judge and translate those; none keeps anything of the guest's memory.
//!
//! | from | function | to |
//! |---|---|---|
//! | the ID registers that a guest is shown | [`Guest::new`] | a promise that the host's SMMU can keep |
//! | a guest's STE | [`Request::decode`], [`Request::encode`] | a legal STE with the host's stage 2 |
//! | a guest's CD | [`context::check`] | what is wrong with it; the SMMU reads it itself |
//! | a guest's commands | [`Forwarder::forward`] | commands for the host's queue, of this guest's VMID and streams alone |
//! | an event | [`event::owner`] | the guest's event, or none of its business |
//!
//! With the feature `alloc`, [`Nest`] does all that for a guest, and answers what has stalled, and what devices ask for, as the
//! guest says.
//!
//! Whatever is illegal for the SMMU that the guest is shown is refused with the field and its value ([`Illegal`]): the
//! guest is to be told as that SMMU would (C_BAD_STE, C_BAD_CD, CERROR_ILL).

use core::fmt;

use smmuv3_formats::legality::Rule;
use smmuv3_formats::{Field, structure};

#[cfg(feature = "alloc")]
mod answer;
pub mod command;
pub mod context;
pub mod entry;
pub mod event;
mod guest;
#[cfg(feature = "alloc")]
mod handle;
#[cfg(all(feature = "alloc", feature = "ats"))]
mod pages;
mod parent;
#[cfg(feature = "alloc")]
mod stall;
#[cfg(feature = "alloc")]
pub(crate) mod state;
mod streams;
#[cfg(test)]
mod tests;

pub use command::{Forwarded, Forwarder, LARGEST_LOOK, Stop};
pub use entry::{Contexts, Limits, Request};
pub use event::{Cause, Owner};
pub use guest::Guest;
#[cfg(feature = "alloc")]
pub use handle::{LARGEST_FORWARD, Nest, NestConfig, NestError};
pub use parent::Parent;
pub use streams::{Assignment, Streams};

/// What a guest wrote, and its SMMU does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The rule that it breaks, and the field: `word 1` for reserved bits of a word.
    pub rule: Rule,
    /// What the field holds; of reserved bits, those that are set.
    pub value: u64,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule: Rule { section, field, text }, value } = self;
        write!(f, "{field} = {value:#x}: {text} (§{section})")
    }
}

impl core::error::Error for Illegal {}

impl Illegal {
    const fn new(
        section: &'static str,
        field: &'static str,
        text: &'static str,
        value: u64,
    ) -> Self {
        Self { rule: Rule { section, field, text }, value }
    }

    /// `rule`, which `words` with these fields break.
    fn of(rule: Rule, fields: &[Field], words: &[u64]) -> Self {
        let field = fields.iter().find(|field| field.name == rule.field);
        let value = field.and_then(|field| Some(field.extract(*words.get(field.word)?)));
        Self { rule, value: value.unwrap_or(0) }
    }
}

/// Refuses bits that are no field of the structure called `name` (§7).
fn no_reserved_bits(name: &str, words: &[u64]) -> Result<(), Illegal> {
    const WORDS: [&str; structure::MOST_WORDS] =
        ["word 0", "word 1", "word 2", "word 3", "word 4", "word 5", "word 6", "word 7"];
    let Some(structure) = structure::find(name) else { return Ok(()) };
    let reserved = structure.reserved(words).into_iter().zip(WORDS).find(|(bits, _)| *bits != 0);
    match reserved {
        Some((bits, word)) => {
            Err(Illegal::new(structure.section, word, "has reserved bits that are set", bits))
        }
        None => Ok(()),
    }
}

/// Refuses each of `fields` that is not zero: `(what stands there, name)`.
fn none_of(
    section: &'static str,
    text: &'static str,
    fields: &[(u64, &'static str)],
) -> Result<(), Illegal> {
    match fields.iter().find(|(value, _)| *value != 0) {
        Some((value, field)) => Err(Illegal::new(section, field, text, *value)),
        None => Ok(()),
    }
}
