// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a descriptor is in the tables that hold it (§15.1 to §15.3).

use crate::granule::Granule;
use crate::smmu::low;
use crate::tables::Tables;

/// A descriptor at its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Bit 0 is clear.
    Invalid,
    /// Valid, in an encoding that does not exist: faults as if it were invalid.
    Reserved,
    /// Of a table at this address.
    Table(u64),
    /// Of memory from this address on, as long as the level's span.
    Leaf(u64),
}

impl Tables {
    /// What `word` is at `level`.
    pub(crate) fn entry(&self, word: u64, level: i8) -> Entry {
        match word & 0b11 {
            0b11 if level < 3 => Entry::Table(self.address(word, self.granule.shift())),
            0b11 => Entry::Leaf(self.address(word, self.granule.shift())),
            0b01 if self.granule.has_block(level, self.ds, self.wide) => {
                Entry::Leaf(self.address(word, self.granule.span(level)))
            }
            0b01 => Entry::Reserved,
            _ => Entry::Invalid,
        }
    }

    /// The address in `word`, aligned to 2^`align` bytes.
    pub(crate) fn address(&self, word: u64, align: u32) -> u64 {
        let (in_place, high) = match self.granule {
            Granule::K64 if self.wide => (48, (word >> 12 & 0xf) << 48),
            Granule::K64 => (48, 0),
            _ if self.ds => (50, (word >> 8 & 0b11) << 50),
            _ => (48, 0),
        };
        (word & low(in_place) & !low(align)) | high
    }

    /// Address bits of a leaf at `level` that its size does not let it have.
    pub(crate) fn misaligned(&self, word: u64, level: i8) -> u64 {
        // nT is the one bit below the address of a block that has a meaning.
        let nt = 1 << 16;
        let between = low(self.granule.span(level)) & !low(self.granule.shift());
        word & between & !if level < 3 { nt } else { 0 }
    }

    /// Bits of a valid descriptor that are reserved where it stands, and set.
    pub(crate) fn reserved_bits(&self, word: u64, level: i8) -> u64 {
        let high = match (self.granule, self.ds) {
            (Granule::K4 | Granule::K16, true) => 0,
            // Output addresses end at bit 47.
            _ => 0b11 << 48,
        };
        let low_bits = match self.granule {
            Granule::K16 => 0b11 << 12,
            Granule::K64 if !self.wide => 0xf << 12,
            _ => 0,
        };
        let table = level < 3 && word & 0b11 == 0b11;
        let others = match (self.stage, table) {
            (Stage::Two, true) => 0xf << 59,
            (Stage::One, true) => 0,
            (Stage::Two, false) => 1 << 63 | 1 << 50 | 1 << 11,
            (Stage::One, false) => 0,
        };
        word & (high | low_bits | others)
    }
}

use crate::tables::Stage;

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(granule: Granule, ds: bool, wide: bool) -> Tables {
        Tables {
            stage: Stage::One,
            granule,
            input_bits: 48,
            start: 0,
            root: 0,
            output_bits: 52,
            ds,
            wide,
            big_endian: false,
            access_flag_faults: true,
            access: false,
            dirty: false,
        }
    }

    #[test]
    fn addresses_are_where_granule_and_size_put_them() {
        let word = 0x000f_ffff_ffff_ffff;
        let page = |granule, ds, wide| match tables(granule, ds, wide).entry(word, 3) {
            Entry::Leaf(address) => address,
            other => panic!("{other:?}"),
        };
        assert_eq!(page(Granule::K4, false, true), 0x0000_ffff_ffff_f000);
        assert_eq!(page(Granule::K4, true, true), 0x000f_ffff_ffff_f000);
        assert_eq!(page(Granule::K16, true, true), 0x000f_ffff_ffff_c000);
        assert_eq!(page(Granule::K64, false, false), 0x0000_ffff_ffff_0000);
        assert_eq!(page(Granule::K64, false, true), 0x000f_ffff_ffff_0000);
        // LPA2: bits 51:50 are descriptor bits 9:8.
        let lpa2 = tables(Granule::K4, true, true);
        assert_eq!(lpa2.entry(0x0000_0000_8000_0203, 0), Entry::Table(0x0008_0000_8000_0000));
        let k64 = tables(Granule::K64, false, true);
        assert_eq!(k64.entry(0x0000_0000_8001_a003, 1), Entry::Table(0x000a_0000_8001_0000));
    }

    #[test]
    fn encodings_that_do_not_exist_are_reserved() {
        let plain = tables(Granule::K4, false, false);
        assert_eq!(plain.entry(0x8000_0001, 3), Entry::Reserved);
        assert_eq!(plain.entry(0x8000_0001, 0), Entry::Reserved);
        assert_eq!(plain.entry(0x8000_0001, 1), Entry::Leaf(0x8000_0000));
        assert_eq!(plain.entry(0x8000_0002, 1), Entry::Invalid);
        assert_eq!(tables(Granule::K4, true, false).entry(0x1, 0), Entry::Leaf(0));
    }

    #[test]
    fn low_bits_of_blocks_are_misaligned_but_for_nt() {
        let plain = tables(Granule::K4, false, false);
        assert_eq!(plain.misaligned(0x8000_1001, 2), 0x1000);
        assert_eq!(plain.misaligned(0x8001_0001, 2), 0);
        assert_eq!(plain.misaligned(0x8000_1003, 3), 0);
    }
}
