// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shape of a table for a granule of `1 << SHIFT` bytes: levels, indices and block sizes (§15.1,
//! §15.4, §15.5). Levels run from 0 to 3: addresses are at most 48 bits wide.

/// Input and output address widths, in bits, that a table can have.
pub(crate) const WIDTHS: core::ops::RangeInclusive<u32> = 32..=48;

/// The granule's constants. A namespace, never a value.
pub(crate) struct Geometry<const SHIFT: u32>;

impl<const SHIFT: u32> Geometry<SHIFT> {
    /// Index bits of a full table.
    pub(crate) const BITS: u32 = {
        assert!(SHIFT == 12 || SHIFT == 14 || SHIFT == 16, "granules are 4K, 16K and 64K");
        SHIFT - 3
    };
    /// Descriptors in a full table.
    pub(crate) const ENTRIES: usize = 1 << Self::BITS;
    /// Mask of an index into a full table.
    pub(crate) const MASK: usize = Self::ENTRIES - 1;
    /// Bytes of a page and of a full table.
    pub(crate) const GRANULE: u64 = 1 << SHIFT;
    /// The address in a table descriptor, or in a leaf: bits 47 down to the granule.
    pub(crate) const ADDRESS: u64 = (1 << 48) - Self::GRANULE;
    /// Sizes of leaves, smallest first.
    pub(crate) const LEAVES: &'static [u64] = if SHIFT == 12 {
        &[1 << SHIFT, 1 << (2 * SHIFT - 3), 1 << (3 * SHIFT - 6)]
    } else {
        &[1 << SHIFT, 1 << (2 * SHIFT - 3)]
    };

    /// log2 of the span of one entry at `level`.
    pub(crate) const fn shift(level: u32) -> u32 {
        SHIFT + (3 - level) * Self::BITS
    }

    /// The level whose entries span `1 << shift` bytes.
    pub(crate) const fn level(shift: u32) -> u32 {
        3 - (shift - SHIFT) / Self::BITS
    }

    /// log2 of the largest leaf that fits at addresses whose bits, joined, are `aligned` (multiples of
    /// the granule), with `left` bytes to go (§15.1). Never more than an entry of a first table spans,
    /// since inputs are at least 32 bits wide.
    #[inline(always)]
    pub(crate) const fn leaf_shift(aligned: u64, left: u64) -> u32 {
        let block = Self::shift(2);
        if aligned & ((1 << block) - 1) != 0 || left < 1 << block {
            return SHIFT;
        }
        let large = Self::shift(1);
        if SHIFT == 12 && aligned & ((1 << large) - 1) == 0 && left >= 1 << large {
            large
        } else {
            block
        }
    }

    /// Level of the first table (§15.4). Stage 2 may not start at a level that the output size rules
    /// out; then up to 16 tables of the next level are concatenated.
    pub(crate) const fn start_level(stage: u8, input_bits: u32, output_bits: u32) -> u32 {
        let level = 4 - (input_bits - SHIFT).div_ceil(Self::BITS);
        let refused = match (SHIFT, level) {
            (12, 0) => output_bits < 44,
            (14, 0) => true,
            (14, 1) => output_bits < 42,
            (16, 1) => output_bits < 44,
            _ => false,
        };
        if stage == 2 && refused { level + 1 } else { level }
    }

    /// Index bits of the first table.
    pub(crate) const fn root_bits(level: u32, input_bits: u32) -> u32 {
        input_bits - Self::shift(level)
    }
}

/// Runs a block for each level above 3 from that of the first table on, whose entries span `1 << $root`
/// bytes, with the log2 of what an entry spans. Written out so that each copy works with constants: a loop
/// over levels costs twice as many instructions a level.
macro_rules! upper_levels {
    ($granule:ident, $root:expr, $shift:ident => $body:block) => {
        let $shift = $crate::geometry::Geometry::<$granule>::shift(0);
        if $root >= $shift {
            $body
        } else {
            // Almost all tables are for as many addresses as there can be.
            core::hint::cold_path();
        }
        let $shift = $crate::geometry::Geometry::<$granule>::shift(1);
        if $root >= $shift {
            $body
        } else {
            core::hint::cold_path();
        }
        // Inputs are at least 32 bits wide: no first table is of level 3.
        let $shift = $crate::geometry::Geometry::<$granule>::shift(2);
        $body
    };
}
pub(crate) use upper_levels;
