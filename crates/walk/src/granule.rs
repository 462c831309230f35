// SPDX-License-Identifier: MIT OR Apache-2.0
//! Granules, and what follows from their size (§15.1, §15.4).

use core::fmt;

/// Size of the smallest page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl fmt::Display for Granule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", (1u32 << self.shift()) >> 10)
    }
}

impl Granule {
    /// log2 of the bytes of a page.
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// log2 of the bytes that one descriptor at `level` (-1 to 3) covers.
    pub const fn span(self, level: i8) -> u32 {
        let above = if level >= 3 { 0 } else { 3i8.saturating_sub(level) as u32 };
        self.shift() + above * (self.shift() - 3)
    }

    /// The level at which stage 1 begins for `input` address bits (§15.4).
    pub const fn start_level(self, input: u32) -> i8 {
        let tables = input.saturating_sub(self.shift()).div_ceil(self.shift() - 3);
        // At most 64 / 9, so it fits; an address within one page still has a table.
        let tables = if tables == 0 { 1 } else { tables as i8 };
        4 - tables
    }

    /// Whether a block may stand at `level`: `ds` is LPA2, `wide` physical addresses of more than 48 bits
    /// (§15.1).
    pub const fn has_block(self, level: i8, ds: bool, wide: bool) -> bool {
        match (self, level) {
            (Self::K4, 1 | 2) | (Self::K16 | Self::K64, 2) => true,
            (Self::K4, 0) | (Self::K16, 1) => ds,
            (Self::K64, 1) => wide,
            _ => false,
        }
    }

    /// log2 of the entries of a contiguous group at `level`; `None` where the bit is reserved (§15.1).
    pub const fn contiguous(self, level: i8) -> Option<u32> {
        match (self, level) {
            (Self::K4, 1..=3) => Some(4),
            (Self::K16, 3) => Some(7),
            (Self::K16, 2) | (Self::K64, 2 | 3) => Some(5),
            _ => None,
        }
    }

    /// The granule of CD.TG0 and STE.S2TG (§5.2, §6); `None` for the reserved code.
    pub const fn from_tg0(code: u64) -> Option<Self> {
        match code {
            0 => Some(Self::K4),
            1 => Some(Self::K64),
            2 => Some(Self::K16),
            _ => None,
        }
    }

    /// The granule of CD.TG1, whose codes differ (§6); `None` for the reserved code.
    pub const fn from_tg1(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::K16),
            2 => Some(Self::K4),
            3 => Some(Self::K64),
            _ => None,
        }
    }

    /// The level that S2SL0, with S2SL0_2 as bit 2, names (§15.4); `None` for a reserved code.
    pub const fn stage_2_start(self, sl0: u64, ds: bool) -> Option<i8> {
        Some(match (self, sl0) {
            (Self::K4, 4) if ds => -1,
            (Self::K4, 2) | (Self::K16, 3) => 0,
            (Self::K4, 1) | (Self::K16 | Self::K64, 2) => 1,
            (Self::K4, 0) | (Self::K16 | Self::K64, 1) => 2,
            (Self::K4, 3) | (Self::K16 | Self::K64, 0) => 3,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges of T0SZ of §15.4, and the level at which they begin.
    #[test]
    fn start_levels_are_those_of_the_table() {
        let rows: [(Granule, &[(u32, u32, i8)]); 3] = [
            (Granule::K4, &[(12, 15, -1), (16, 24, 0), (25, 33, 1), (34, 42, 2), (43, 48, 3)]),
            (Granule::K16, &[(12, 15, 0), (16, 16, 0), (17, 27, 1), (28, 38, 2), (39, 48, 3)]),
            (Granule::K64, &[(12, 15, 1), (16, 21, 1), (22, 34, 2), (35, 47, 3)]),
        ];
        for (granule, rows) in rows {
            for (first, last, level) in rows {
                for txsz in *first..=*last {
                    assert_eq!(granule.start_level(64 - txsz), *level, "{granule} {txsz}");
                }
            }
        }
    }

    #[test]
    fn blocks_have_the_sizes_of_the_table() {
        let gib = 30;
        assert_eq!(Granule::K4.span(1), gib);
        assert_eq!(Granule::K4.span(2), 21);
        assert_eq!(Granule::K4.span(0), gib + 9);
        assert_eq!(Granule::K4.span(-1), 48);
        assert_eq!(Granule::K16.span(2), 25);
        assert_eq!(Granule::K16.span(1), 36);
        assert_eq!(Granule::K64.span(2), 29);
        assert_eq!(Granule::K64.span(1), 42);
        assert!(!Granule::K4.has_block(0, false, true) && Granule::K4.has_block(0, true, false));
        assert!(!Granule::K16.has_block(1, false, true) && Granule::K64.has_block(1, false, true));
        assert!(!Granule::K64.has_block(1, false, false) && !Granule::K4.has_block(3, true, true));
    }
}
