// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation granules, and what follows from their size (§15.1, §15.4, §15.5).

/// Page size of a translation table.
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
    /// log2 of the page size in bytes.
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// Input address bits that one table resolves.
    pub const fn stride(self) -> u32 {
        self.shift() - 3
    }

    /// log2 of the bytes that one descriptor at `level` (0 to 3) covers.
    pub const fn span(self, level: u8) -> u32 {
        let above = if level > 3 { 0 } else { 3 - level as u32 };
        self.shift() + above * self.stride()
    }

    /// Level of the first table for `input` address bits (16 to 52): 0 to 3.
    pub(crate) const fn start_level(self, input: u32) -> u8 {
        let tables = input.saturating_sub(self.shift()).div_ceil(self.stride());
        // At most 4 tables resolve 52 bits of the 64 KiB and 48 of the other granules.
        4u32.saturating_sub(if tables == 0 { 1 } else { tables }) as u8
    }

    /// Bytes of the first table for `input` address bits.
    pub(crate) const fn first_table_bytes(self, input: u32) -> u64 {
        let resolved = input.saturating_sub(self.span(self.start_level(input)));
        8 << (if resolved > 16 { 16 } else { resolved })
    }

    /// Whether a block may stand at `level`, with outputs of `output` bits.
    pub(crate) const fn has_block(self, level: u8, output: u32) -> bool {
        match self {
            Self::K4 => matches!(level, 1 | 2),
            Self::K16 => level == 2,
            Self::K64 => level == 2 || level == 1 && output > 48,
        }
    }

    /// log2 of the entries of a contiguous group at `level`; 0 where there are none.
    pub(crate) const fn contiguous(self, level: u8) -> u32 {
        match (self, level) {
            (Self::K4, 1..=3) => 4,
            (Self::K16, 3) => 7,
            (Self::K16, 2) => 5,
            (Self::K64, 2 | 3) => 5,
            _ => 0,
        }
    }

    /// The granule of a command's TG field (§4.2).
    pub(crate) const fn from_command(tg: u64) -> Option<Self> {
        Some(match tg {
            1 => Self::K4,
            2 => Self::K16,
            3 => Self::K64,
            _ => return None,
        })
    }

    /// The granule of CD.TG0 (§6).
    pub(crate) const fn from_tg0(tg: u64) -> Option<Self> {
        Some(match tg {
            0 => Self::K4,
            1 => Self::K64,
            2 => Self::K16,
            _ => return None,
        })
    }

    /// The granule of CD.TG1 (§6).
    pub(crate) const fn from_tg1(tg: u64) -> Option<Self> {
        Some(match tg {
            1 => Self::K16,
            2 => Self::K4,
            3 => Self::K64,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_levels_follow_the_input_size() {
        let table = [
            (Granule::K4, [(16, 0), (24, 0), (25, 1), (33, 1), (34, 2), (42, 2), (43, 3), (48, 3)]),
            (
                Granule::K16,
                [(16, 0), (17, 1), (27, 1), (28, 2), (38, 2), (39, 3), (48, 3), (48, 3)],
            ),
            (
                Granule::K64,
                [(12, 1), (16, 1), (21, 1), (22, 2), (34, 2), (35, 3), (47, 3), (47, 3)],
            ),
        ];
        for (granule, rows) in table {
            for (txsz, level) in rows {
                assert_eq!(granule.start_level(64 - txsz), level, "{granule:?} T0SZ {txsz}");
            }
        }
    }

    #[test]
    fn the_first_table_has_one_descriptor_for_each_span() {
        assert_eq!(Granule::K4.first_table_bytes(48), 4096);
        assert_eq!(Granule::K4.first_table_bytes(40), 16);
        assert_eq!(Granule::K16.first_table_bytes(48), 16);
        assert_eq!(Granule::K64.first_table_bytes(48), 512);
        assert_eq!(Granule::K64.first_table_bytes(42), 65536);
    }
}
