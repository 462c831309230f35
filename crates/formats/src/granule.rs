// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation granules, and the shape of the tables that follows from granule and size (§15.1, §15.4, §15.5).

use core::fmt;

use crate::field::mask;
use crate::register::{Idr5, address_bits};

/// Size of the smallest page, which is that of a table too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl Granule {
    /// All three, by size.
    pub const ALL: [Self; 3] = [Self::K4, Self::K16, Self::K64];

    /// By `CD.TG0` (§6) and `STE.S2TG` (§5.2), which agree; `None` for a reserved code.
    pub const fn from_tg0(code: u64) -> Option<Self> {
        match code {
            0 => Some(Self::K4),
            1 => Some(Self::K64),
            2 => Some(Self::K16),
            _ => None,
        }
    }

    /// By `CD.TG1` (§6), whose codes are others than TG0's; `None` for a reserved code.
    pub const fn from_tg1(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::K16),
            2 => Some(Self::K4),
            3 => Some(Self::K64),
            _ => None,
        }
    }

    /// By `TG` of an invalidation command (§4.2), which has a third encoding; `None` where no granule is
    /// given (0).
    pub const fn from_tlbi(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::K4),
            2 => Some(Self::K16),
            3 => Some(Self::K64),
            _ => None,
        }
    }

    /// Whether an instance with this IDR5 has it (§2.3).
    pub const fn is_implemented(self, idr5: &Idr5) -> bool {
        match self {
            Self::K4 => idr5.gran4k(),
            Self::K16 => idr5.gran16k(),
            Self::K64 => idr5.gran64k(),
        }
    }

    /// log2 of the bytes of a page (§15.1).
    #[inline]
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// Input bits that one table resolves (§15.1).
    #[inline]
    pub const fn bits_per_level(self) -> u32 {
        self.shift() - 3
    }

    /// log2 of the bytes that one descriptor of `level` (-1 to 3) covers; at most 63, which only levels that
    /// the granule does not have would exceed.
    #[inline]
    pub const fn span(self, level: i8) -> u32 {
        // Levels beyond either end count as that.
        let level = if level < -1 { -1 } else { level };
        let below = if level > 3 { 0 } else { (3 - level) as u32 };
        let span = self.shift() + below * self.bits_per_level();
        if span > 63 { 63 } else { span }
    }

    /// The first level that can exist: -1 for 4 KiB with `ds` (LPA2), 1 for 64 KiB, else 0 (§15.4).
    pub const fn first_level(self, ds: bool) -> i8 {
        match self {
            Self::K4 if ds => -1,
            Self::K4 | Self::K16 => 0,
            Self::K64 => 1,
        }
    }

    /// Whether a block may stand at `level` (§15.1), with `ds` (LPA2) or not, on an instance that outputs
    /// `output_bits`.
    pub const fn has_block(self, level: i8, ds: bool, output_bits: u32) -> bool {
        match (self, level) {
            (Self::K4, 1 | 2) | (Self::K16 | Self::K64, 2) => true,
            (Self::K4, 0) | (Self::K16, 1) => ds,
            (Self::K64, 1) => output_bits > 48,
            _ => false,
        }
    }

    /// log2 of the entries of a contiguous group at `level`; `None` where the hint is reserved (§15.1).
    pub const fn contiguous(self, level: i8) -> Option<u32> {
        match (self, level) {
            (Self::K4, 1..=3) => Some(4),
            (Self::K16, 3) => Some(7),
            (Self::K16, 2) | (Self::K64, 2 | 3) => Some(5),
            _ => None,
        }
    }
}

/// `4 KiB`.
impl fmt::Display for Granule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::K4 => "4 KiB",
            Self::K16 => "16 KiB",
            Self::K64 => "64 KiB",
        })
    }
}

/// Bits of the output addresses that tables of `granule` can use under the size code `code` (CD.IPS, STE.S2PS)
/// on an instance that outputs `oas` bits (§15.3).
pub const fn output_bits(code: u64, oas: u32, granule: Granule, ds: bool) -> u32 {
    let configured = match address_bits(code) {
        Some(bits) if bits < oas => bits,
        _ => oas,
    };
    if configured > 48 && !matches!(granule, Granule::K64) && !ds { 48 } else { configured }
}

/// The tables of one half of the stage-1 addresses, or of stage 2: how an address walks through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    granule: Granule,
    input_bits: u32,
    start: i8,
}

impl Tables {
    /// Stage 1 (§15.4): the start level follows from `txsz`. `None` where no level resolves that size: TxSZ
    /// is not within 12..=48 (..=47 for 64 KiB). What an instance accepts is a matter of
    /// [`legality::cd`](crate::legality::cd).
    #[inline]
    pub const fn stage_1(granule: Granule, txsz: u64) -> Option<Self> {
        if txsz < 12 || txsz > 48 {
            return None;
        }
        let input_bits = 64 - txsz as u32;
        let mut start = 3i8;
        while granule.span(start) + granule.bits_per_level() < input_bits {
            start -= 1;
        }
        if input_bits <= granule.shift() { None } else { Some(Self { granule, input_bits, start }) }
    }

    /// Stage 2 (§15.4): `sl0` is S2SL0 with S2SL0_2 as bit 2 (which counts with 4 KiB and `ds` alone), `ds` S2DS
    /// where the instance has it, `small` IDR3.STT. `None` where the start level does not go with the size, which makes an STE illegal (§7.1(7h)).
    pub const fn stage_2(
        granule: Granule,
        sl0: u64,
        t0sz: u64,
        ds: bool,
        small: bool,
    ) -> Option<Self> {
        use Granule as G;
        let sl0 = if ds && matches!(granule, G::K4) { sl0 } else { sl0 & 0b11 };
        // Row by row, single first tables together with the concatenated ones.
        let (start, least, most) = match (granule, sl0) {
            (G::K4, 0b100) if ds => (-1, 12, 15),
            (G::K4, 2) => (0, 12, 24),
            (G::K4, 1) => (1, 21, 33),
            (G::K4, 0) => (2, 30, 42),
            (G::K4, 3) if small => (3, 39, 48),
            (G::K16, 3) if ds => (0, 12, 16),
            (G::K16, 2) => (1, 13, 27),
            (G::K16, 1) => (2, 24, 38),
            (G::K16, 0) => (3, 35, 48),
            (G::K64, 2) => (1, 12, 21),
            (G::K64, 1) => (2, 18, 34),
            (G::K64, 0) => (3, 31, 47),
            _ => return None,
        };
        let wide = ds || matches!(granule, G::K64);
        if t0sz < least || t0sz > most || t0sz < 16 && !wide || t0sz > 39 && !small {
            return None;
        }
        Some(Self { granule, input_bits: 64 - t0sz as u32, start })
    }

    /// The granule.
    #[inline]
    pub const fn granule(&self) -> Granule {
        self.granule
    }

    /// Bits of the input addresses that the tables resolve.
    #[inline]
    pub const fn input_bits(&self) -> u32 {
        self.input_bits
    }

    /// Level of the first table: -1 to 3.
    #[inline]
    pub const fn start_level(&self) -> i8 {
        self.start
    }

    /// log2 of the descriptors in the first table, or in all concatenated ones.
    #[inline]
    pub const fn first_entries_log2(&self) -> u32 {
        // Both constructors choose a start level whose span is less than the input.
        self.input_bits.saturating_sub(self.granule.span(self.start))
    }

    /// How many tables stand side by side at the start level: 1, or for stage 2 up to 16.
    pub const fn concatenated(&self) -> u32 {
        1 << self.first_entries_log2().saturating_sub(self.granule.bits_per_level())
    }

    /// Bytes of the first table, or of all concatenated ones.
    #[inline]
    pub const fn first_bytes(&self) -> u64 {
        8 << self.first_entries_log2()
    }

    /// Alignment of the table base, in bytes: hardware drops lower bits (§15.4). `output_bits` are those of
    /// [`output_bits`].
    pub const fn alignment(&self, output_bits: u32) -> u64 {
        let bytes = self.first_bytes();
        if output_bits > 48 && bytes < 64 { 64 } else { bytes }
    }

    /// The base that hardware uses for the address in TTBx or S2TTB.
    pub const fn base(&self, ttb: u64, output_bits: u32) -> u64 {
        ttb & !(self.alignment(output_bits) - 1)
    }

    /// Index into the table of `level` (the start level to 3) for an input address (§15.5). Bits above the
    /// input size are ignored.
    pub const fn index(&self, address: u64, level: i8) -> u64 {
        let low = self.granule.span(level);
        let above =
            if level <= self.start { self.input_bits } else { self.granule.span(level - 1) };
        let top = if above < self.input_bits { above } else { self.input_bits };
        if top <= low { 0 } else { (address & mask(top - 1, low)) >> low }
    }
}
