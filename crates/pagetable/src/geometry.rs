// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shape of tables for a granule of `1 << SHIFT` bytes: levels, indices, block sizes, and where a
//! descriptor holds its address (§15.1 to §15.5). `WIDE` tables have addresses of up to 52 bits: those of LPA2
//! with 4 and 16 KiB, those of LPA with 64 KiB. Work that is not done for each call is left to
//! [`smmuv3_formats::granule`].

use core::ops::RangeInclusive;

use smmuv3_formats::granule::{Granule, Tables};

/// The constants. A namespace, never a value.
pub(crate) struct Geometry<const SHIFT: u32, const WIDE: bool>;

impl<const SHIFT: u32, const WIDE: bool> Geometry<SHIFT, WIDE> {
    pub(crate) const GRANULE: Granule = match SHIFT {
        12 => Granule::K4,
        14 => Granule::K16,
        _ => {
            assert!(SHIFT == 16, "granules are 4K, 16K and 64K");
            Granule::K64
        }
    };
    /// Whether descriptors are those of LPA2, which have no shareability.
    pub(crate) const LPA2: bool = WIDE && SHIFT != 16;
    /// Input and output address widths, in bits, that a table can have.
    pub(crate) const WIDTHS: RangeInclusive<u32> = 32..=if WIDE { 52 } else { 48 };
    /// Index bits of a full table.
    pub(crate) const BITS: u32 = Self::GRANULE.bits_per_level();
    /// Descriptors in a full table.
    pub(crate) const ENTRIES: usize = 1 << Self::BITS;
    /// Bytes that a level-3 table spans.
    pub(crate) const SPAN: u64 = 1 << Self::shift(2);
    /// Mask of an index into a full table.
    pub(crate) const MASK: usize = Self::ENTRIES - 1;
    /// The first level that there can be.
    pub(crate) const FIRST: i8 = Self::GRANULE.first_level(WIDE);
    /// Level of the largest blocks.
    const LARGEST: i8 = {
        let mut level = 2;
        while level > Self::FIRST && Self::has_block(level - 1) {
            level -= 1;
        }
        level
    };
    /// Sizes of leaves, smallest first: how many, and they.
    const SIZES: [u64; 4] = {
        let mut sizes = [0; 4];
        let mut level = 3;
        while level >= Self::LARGEST {
            sizes[3 - level as usize] = 1 << Self::shift(level);
            level -= 1;
        }
        sizes
    };
    /// Sizes of leaves, smallest first.
    pub(crate) const LEAVES: &'static [u64] = Self::SIZES.split_at(4 - Self::LARGEST as usize).0;
    /// Address bits that a descriptor holds in their places: from the granule up to this, exclusive.
    const IN_PLACE: u32 = in_place((SHIFT, WIDE));

    /// Whether a block may stand at `level`. Wide tables are for instances whose output has 52 bits.
    const fn has_block(level: i8) -> bool {
        Self::GRANULE.has_block(level, WIDE, if WIDE { 52 } else { 48 })
    }

    /// log2 of the span of one entry at `level`.
    pub(crate) const fn shift(level: i8) -> u32 {
        SHIFT + (3 - level) as u32 * Self::BITS
    }

    /// Whether there are leaves of `1 << shift` bytes, as many as an entry of a level spans.
    #[inline(always)]
    pub(crate) const fn has_leaves(shift: u32) -> bool {
        Self::level(shift) >= Self::LARGEST
    }

    /// The index of `address` in its table whose entries span `1 << shift` bytes, if the first table is of the first level
    /// that there can be: no address has bits above the index in that.
    #[inline(always)]
    pub(crate) const fn straight_index(address: u64, shift: u32) -> usize {
        let index = (address >> shift) as usize;
        if shift == Self::shift(Self::FIRST) { index } else { index & Self::MASK }
    }

    /// The level whose entries span `1 << shift` bytes.
    pub(crate) const fn level(shift: u32) -> i8 {
        // At most 4 levels are above the last.
        3 - ((shift - SHIFT) / Self::BITS) as i8
    }

    /// The address in a descriptor of a table; of a leaf too, once its low bits are dropped, which may be others.
    #[inline(always)]
    pub(crate) const fn address(descriptor: u64) -> u64 {
        next_table(descriptor, (SHIFT, WIDE))
    }

    /// The descriptor bits that hold `address`, a multiple of the granule.
    #[inline(always)]
    pub(crate) const fn bits(address: u64) -> u64 {
        let low = address & ((1 << Self::IN_PLACE) - 1);
        match (WIDE, SHIFT) {
            (false, _) => address,
            (true, 16) => low | (address >> 48) << 12,
            (true, _) => low | (address >> 50) << 8,
        }
    }

    /// The bits of a block that hold its address, and `nT`.
    pub(crate) const ADDRESS_BITS: u64 =
        Self::bits((1 << if WIDE { 52 } else { 48 }) - (1 << SHIFT));

    /// Bytes from `address` on to where [`bits`](Self::bits) stops growing as the address does; no table's worth of
    /// leaves reaches so far unless tables are wide.
    #[inline(always)]
    pub(crate) const fn straight(address: u64) -> u64 {
        if WIDE {
            (1 << Self::IN_PLACE) - (address & ((1 << Self::IN_PLACE) - 1))
        } else {
            u64::MAX
        }
    }

    /// log2 of the largest leaf that fits at addresses whose bits, joined, are `aligned` (multiples of
    /// the granule), with `left` bytes to go (§15.1), in tables whose first one has entries of `1 << root` bytes.
    #[inline(always)]
    pub(crate) const fn leaf_shift(aligned: u64, left: u64, root: u32) -> u32 {
        let block = Self::shift(2);
        // Inputs are at least 32 bits wide: with other granules, the first table is of level 2 or earlier.
        if aligned & ((1 << block) - 1) != 0 || left < 1 << block || SHIFT == 16 && root < block {
            return SHIFT;
        }
        if Self::LARGEST == 2 || !Self::fits(1, aligned, left, root) {
            return block;
        }
        if Self::LARGEST == 1 || !Self::fits(0, aligned, left, root) {
            return Self::shift(1);
        }
        Self::shift(0)
    }

    #[inline(always)]
    const fn fits(level: i8, aligned: u64, left: u64, root: u32) -> bool {
        let shift = Self::shift(level);
        aligned & ((1 << shift) - 1) == 0 && left >= 1 << shift && root >= shift
    }

    /// Level of the first table of stage 1 (§15.4); inputs are among [`WIDTHS`](Self::WIDTHS).
    pub(crate) const fn stage_1(input_bits: u32) -> Option<i8> {
        match Tables::stage_1(Self::GRANULE, 64 - input_bits as u64) {
            Some(tables) => Some(tables.start_level()),
            None => None,
        }
    }

    /// Level of the first table of stage 2 (§15.4): as early as can be, or the one that is `chosen`. It may not be a level that
    /// the output size rules out; then, as for a later one that is chosen, up to 16 tables are concatenated.
    pub(crate) fn stage_2(input_bits: u32, output_bits: u32, chosen: Option<i8>) -> Option<i8> {
        let refused = |level| {
            output_bits
                < match (SHIFT, level) {
                    (12, -1) | (14, 0) => 52,
                    (12, 0) | (16, 1) => 44,
                    (14, 1) => 42,
                    _ => 0,
                }
        };
        (Self::FIRST..=3).find(|&level| {
            let sl0 = Self::sl0(level).into();
            let size = u64::from(64 - input_bits);
            !refused(level)
                && chosen.is_none_or(|chosen| chosen == level)
                && Tables::stage_2(Self::GRANULE, sl0, size, WIDE, false).is_some()
        })
    }

    /// The code of a start level of stage 2: S2SL0_2 and S2SL0 (§15.4).
    pub(crate) const fn sl0(level: i8) -> u8 {
        match (SHIFT, level) {
            (12, -1) => 0b100,
            (12, 3) => 3,
            (12, level) => (2 - level) as u8,
            (_, level) => (3 - level) as u8,
        }
    }
}

/// Up to which bit, exclusive, descriptors of that granule and width hold addresses in their places.
const fn in_place((granule, wide): (u32, bool)) -> u32 {
    if wide && granule != 16 { 50 } else { 48 }
}

/// The table that `descriptor` points to, of that granule and width, where these are no constants.
#[inline(always)]
pub(crate) const fn next_table(descriptor: u64, (granule, wide): (u32, bool)) -> u64 {
    let low = descriptor & ((1 << in_place((granule, wide))) - (1 << granule));
    match (wide, granule) {
        (false, _) => low,
        (true, 16) => low | (descriptor >> 12 & 0xf) << 48,
        (true, _) => low | (descriptor >> 8 & 0b11) << 50,
    }
}

/// Runs a block for each level above 3 of a table whose first one is of the first level that there can be, with the log2
/// of what an entry spans.
macro_rules! straight_levels {
    ($granule:ident, $wide:ident, $shift:ident => $body:block) => {
        if $crate::geometry::Geometry::<$granule, $wide>::FIRST == -1 {
            let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(-1);
            $body
        }
        if $crate::geometry::Geometry::<$granule, $wide>::FIRST <= 0 {
            let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(0);
            $body
        }
        // Every granule has levels 1 and 2.
        let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(1);
        $body
        let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(2);
        $body
    };
}
pub(crate) use straight_levels;

/// Runs a block for each level above 3 from that of the first table on, whose entries span `1 << $root`
/// bytes, with the log2 of what an entry spans. Written out so that each copy works with constants: a loop
/// over levels costs twice as many instructions a level. Without shorter ways it is one, for a third of the code.
macro_rules! upper_levels {
    ($granule:ident, $wide:ident, $root:expr, $shift:ident => $body:block) => {
        if !$crate::FAST {
            let mut next = $root;
            while next > $granule {
                let $shift = next;
                next -= $crate::geometry::Geometry::<$granule, $wide>::BITS;
                $body
            }
        } else {
            $crate::geometry::each_upper_level!($granule, $wide, $root, $shift => $body);
        }
    };
}
pub(crate) use upper_levels;

/// As [`upper_levels`], written out.
macro_rules! each_upper_level {
    ($granule:ident, $wide:ident, $root:expr, $shift:ident => $body:block) => {
        if $wide && $granule == 12 {
            let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(-1);
            if $root >= $shift {
                $body
            }
        }
        let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(0);
        if $root >= $shift {
            $body
        } else {
            // Almost all tables are for as many addresses as there can be.
            core::hint::cold_path();
        }
        let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(1);
        if $root >= $shift {
            $body
        } else {
            core::hint::cold_path();
        }
        // Inputs are at least 32 bits wide: only with 64 KiB, and if one chooses, is the first table of level 3.
        let $shift = $crate::geometry::Geometry::<$granule, $wide>::shift(2);
        if $granule != 16 || $root >= $shift {
            $body
        }
    };
}
pub(crate) use each_upper_level;
