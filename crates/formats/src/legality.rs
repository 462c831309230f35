// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the architecture rejects (§7 and the last column of §4.1): one function an entry type, [`ste()`],
//! [`cd()`] and [`command()`], which names the first rule that is broken.
//!
//! What nothing rejects, but nothing should hold either, is told rule by rule: [`event()`], [`page_request`],
//! [`l1_std`], [`l1_cd`], [`registers()`], [`descriptor()`] of translation tables, and reserved bits: [`ste_reserved`],
//! [`cd_reserved`], [`command_reserved`]. Hardware may ignore reserved bits. Where the architecture lets hardware choose
//! between rejection and something else, the entry is rejected: TxSZ out of range (v3.0), S1ContextPtr out of
//! range with both stages (§7.1(6d)).
//!
//! The reference does not give what is needed for these, which are not checked:
//! * tables in the AArch32 (LPAE) format: T0SZ, SL0 and T1SZ (§7.1(7g, 7h), §7.2(9)), whose encodings
//!   it has for VMSAv8-64 alone; S2PS and IPS, of which it doesn't say whether they count. A TTB must lie
//!   within OAS in either format;
//! * 128-bit tables (IDR5.D128): they are judged as the AArch32 format that they share AA64 = 0 with;
//! * the limit that OAS may put on the start level (§15.4), which is marked uncertain there.

use core::fmt;

use crate::Ste;
use crate::register::{Aidr, Idr0, Idr1, Idr3, Idr5, address_bits};
use crate::ste::config;
use crate::structure::{MOST_WORDS, Structure};

mod cd;
mod command;
mod descriptor;
mod first_level;
mod record;
mod registers;
mod sizes;
mod ste;

pub use cd::cd;
pub use command::{command, command_reserved};
pub use descriptor::{Place, descriptor};
pub use first_level::{cd_reserved, l1_cd, l1_std, ste_reserved};
pub use record::{event, page_request};
pub use registers::{IdRegisters, registers};
pub use ste::ste;

/// The ID registers and the settings that legality depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Implementation {
    /// IDR0.
    pub idr0: Idr0,
    /// IDR1.
    pub idr1: Idr1,
    /// IDR3.
    pub idr3: Idr3,
    /// IDR5.
    pub idr5: Idr5,
    /// AIDR. No rule asks for it: what v3.0 leaves to the implementation (to clamp TxSZ, for one) is rejected
    /// as v3.1 and later must.
    pub aidr: Aidr,
    /// CR2.E2H.
    pub e2h: bool,
}

impl Implementation {
    /// Bits of the largest physical address that the SMMU can output (§2.3); 48 for a reserved code.
    pub fn output_bits(&self) -> u32 {
        address_bits(self.idr5.oas()).unwrap_or(48)
    }

    /// Bits of the largest intermediate address (§2.3).
    pub fn intermediate_bits(&self) -> u32 {
        let lpae = if self.idr0.ttf() & 0b01 != 0 { 40 } else { 0 };
        let aarch64 = if self.idr0.ttf() & 0b10 != 0 { self.output_bits() } else { 0 };
        lpae.max(aarch64)
    }

    /// Whether `STE.STRW` means anything; else the stream is in EL1 (§1).
    fn strw_used(&self, ste: &Ste) -> bool {
        ste.config() == config::STAGE_1 && self.idr0.s1p() && self.idr0.hyp()
    }

    /// The StreamWorld of a stream that translates (§1).
    fn world(&self, ste: &Ste) -> World {
        match (self.strw_used(ste), ste.strw(), self.e2h) {
            (true, 2, true) => World::El2E2h,
            (true, 2, false) => World::El2,
            _ => World::El1,
        }
    }
}

/// StreamWorlds of Non-secure streams (§1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum World {
    El1,
    /// One table, and neither ASIDs nor VMIDs.
    El2,
    /// Two tables and ASIDs, without VMIDs.
    El2E2h,
}

/// A rule of the architecture, named by the structure's field and the section that states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Section of the architecture reference, with the rule's number: `7.1(6b)`.
    pub section: &'static str,
    /// The field that is wrong; `word 2` for reserved bits of a word.
    pub field: &'static str,
    /// What must hold.
    pub text: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (§{})", self.field, self.text, self.section)
    }
}

const fn rule(section: &'static str, field: &'static str, text: &'static str) -> Rule {
    Rule { section, field, text }
}

/// Tells in which words of a structure reserved bits are set; [`Structure::reserved`] has the bits.
fn reserved_bits(structure: &Structure, words: &[u64], found: &mut dyn FnMut(Rule)) {
    const WORDS: [&str; MOST_WORDS] =
        ["word 0", "word 1", "word 2", "word 3", "word 4", "word 5", "word 6", "word 7"];
    for (bits, word) in structure.reserved(words).iter().zip(WORDS) {
        if *bits != 0 {
            found(rule(structure.section, word, "has reserved bits that are set"));
        }
    }
}

macro_rules! check {
    ($broken:expr, $section:literal, $field:expr, $text:literal) => {
        if $broken {
            return Err($crate::legality::rule($section, $field, $text));
        }
    };
}
use check;
