// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a descriptor is at its place (§15.1 to §15.3).

use core::fmt;

use crate::Field;
use crate::field::mask;
use crate::granule::Granule;
use crate::permission::Limits;
use crate::structure::{Structure, descriptor_row};

use super::{BLOCK, Stage1Page, TABLE_OR_PAGE};

/// A stage of translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Stage 1: configured by a CD.
    One,
    /// Stage 2: configured by an STE.
    Two,
}

/// `stage 1`.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "stage 1",
            Self::Two => "stage 2",
        })
    }
}

/// All that decides how a descriptor is read: where it was found, and how its tables are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Of which stage its table is.
    pub stage: Stage,
    /// The granule of its table.
    pub granule: Granule,
    /// The level of its table: -1 to 3.
    pub level: i8,
    /// Whether the tables are those of LPA2: CD.DS or STE.S2DS where IDR5.DS is. Means nothing with 64 KiB.
    pub ds: bool,
    /// Bits of the largest address that the instance can output (IDR5.OAS), not those that it is configured
    /// for: with 64 KiB and more than 48 of them, descriptors have room for 52.
    pub output_bits: u32,
    /// Whether permissions are indirect: CD.PIE or STE.S2PIE where they count.
    pub pie: bool,
    /// Whether stage 2 forces types (STE.S2FWB where IDR3.FWB is): MemAttr loses its highest bit.
    pub fwb: bool,
}

/// What a descriptor is. Addresses may be larger than configured: that is F_ADDR_SIZE, for the reader to
/// check against [`granule::output_bits`](crate::granule::output_bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Valid is 0: nothing is mapped.
    Invalid,
    /// A block or page where none can be (or a level that the granule lacks): as [`Meaning::Invalid`].
    Reserved,
    /// The next level's table.
    Table {
        /// Its address.
        next: u64,
        /// What it takes from everything below, unless CD.HADx is 1. None at stage 2.
        limits: Limits,
    },
    /// Memory: a block or a page.
    Leaf {
        /// Where it begins.
        address: u64,
        /// log2 of its bytes.
        bytes_log2: u32,
        /// log2 of the bytes of the contiguous group that it says to belong to; `None` without the hint, and
        /// where the hint is reserved.
        group_log2: Option<u32>,
    },
}

/// What a valid descriptor can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Block,
    Page,
}

impl Form {
    /// A form of 4 KiB granule and 48-bit addresses: change what differs.
    pub const fn new(stage: Stage, level: i8) -> Self {
        let granule = Granule::K4;
        Self { stage, granule, level, ds: false, output_bits: 48, pie: false, fwb: false }
    }

    /// What `descriptor` is here.
    #[inline]
    pub const fn read(&self, descriptor: u64) -> Meaning {
        if descriptor & 1 == 0 {
            return Meaning::Invalid;
        }
        match self.kind(descriptor) {
            None => Meaning::Reserved,
            Some(Kind::Table) => Meaning::Table {
                next: self.address(descriptor, self.granule.shift()),
                limits: match self.stage {
                    Stage::One => Limits::of_table(descriptor),
                    Stage::Two => Limits::NONE,
                },
            },
            Some(Kind::Block | Kind::Page) => {
                let bytes_log2 = self.granule.span(self.level);
                let contiguous = Stage1Page([descriptor]).contiguous();
                let group_log2 = match self.granule.contiguous(self.level) {
                    Some(entries) if contiguous => Some(bytes_log2 + entries),
                    _ => None,
                };
                let address = self.address(descriptor, bytes_log2);
                Meaning::Leaf { address, bytes_log2, group_log2 }
            }
        }
    }

    /// The layout that `descriptor` has here; `None` where nothing but its type matters: it is invalid or
    /// reserved.
    pub fn structure(&self, descriptor: u64) -> Option<&'static Structure> {
        let leaf = match self.kind(descriptor)? {
            Kind::Table => None,
            Kind::Block => Some(false),
            Kind::Page => Some(true),
        };
        let width = if self.lpa2() { 1 } else { usize::from(self.wide()) * 2 };
        descriptor_row(self.stage == Stage::Two, leaf, width, self.pie)
    }

    /// The fields that `descriptor` has here; none where it is invalid or reserved.
    pub fn fields(&self, descriptor: u64) -> &'static [Field] {
        self.structure(descriptor).map_or(&[], |structure| structure.fields)
    }

    /// Bits that are set although they are reserved here: outside of fields, low bits of an address that the
    /// granule or a block's size excludes, the contiguous hint where there is none, `MemAttr[3]` with FWB.
    /// None for what is invalid or reserved as a whole.
    pub fn reserved(&self, descriptor: u64) -> u64 {
        let Some(structure) = self.structure(descriptor) else {
            return 0;
        };
        let [outside, ..] = structure.reserved(&[descriptor]);
        // Descriptor bits 15:12 are address bits 51:48; bit 16 of a block is nT.
        let elsewhere = if self.wide() { 0xf000 } else { 0 };
        let below = |bits: u32| mask(bits - 1, 0) & !0xfff & !elsewhere;
        let more = match self.kind(descriptor) {
            Some(Kind::Block) => below(self.granule.span(self.level)) & !(1 << 16),
            _ => below(self.granule.shift()),
        };
        let leaf = matches!(self.read(descriptor), Meaning::Leaf { .. });
        let hint = if leaf && self.granule.contiguous(self.level).is_none() { 1 << 52 } else { 0 };
        let fwb = if leaf && self.stage == Stage::Two && self.fwb { 1 << 5 } else { 0 };
        outside | descriptor & (more | hint | fwb)
    }

    /// `None` for what is invalid or reserved.
    #[inline]
    const fn kind(&self, descriptor: u64) -> Option<Kind> {
        if self.level < self.granule.first_level(self.lpa2()) || self.level > 3 {
            return None;
        }
        match descriptor & 0b11 {
            TABLE_OR_PAGE if self.level == 3 => Some(Kind::Page),
            TABLE_OR_PAGE => Some(Kind::Table),
            BLOCK if self.granule.has_block(self.level, self.lpa2(), self.output_bits) => {
                Some(Kind::Block)
            }
            _ => None,
        }
    }

    /// The address in `descriptor` from bit `low` on.
    #[inline]
    const fn address(&self, descriptor: u64, low: u32) -> u64 {
        if self.lpa2() {
            descriptor & mask(49, low) | (descriptor >> 8 & 0b11) << 50
        } else if self.wide() {
            descriptor & mask(47, low) | (descriptor >> 12 & 0xf) << 48
        } else {
            descriptor & mask(47, low)
        }
    }

    /// Whether address bits 51:50 are in bits 9:8.
    #[inline]
    pub(crate) const fn lpa2(&self) -> bool {
        self.ds && !matches!(self.granule, Granule::K64)
    }

    /// Whether address bits 51:48 are in bits 15:12.
    #[inline]
    const fn wide(&self) -> bool {
        matches!(self.granule, Granule::K64) && self.output_bits > 48
    }
}
