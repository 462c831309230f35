// SPDX-License-Identifier: MIT OR Apache-2.0
//! One address space: its shape, its first table, looking up, and its end.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::{Iova, PhysAddr};

use crate::error::{RangeError, TableError};
use crate::gather::free_subtree;
use crate::geometry::{Geometry, WIDTHS, upper_levels};
use crate::leaf::{decode, is_table};
use crate::{Attributes, Frames};

/// Stage 1, 4 KiB pages.
pub type Stage1Table4K = Table<12, 1>;
/// Stage 1, 16 KiB pages.
pub type Stage1Table16K = Table<14, 1>;
/// Stage 1, 64 KiB pages.
pub type Stage1Table64K = Table<16, 1>;
/// Stage 2, 4 KiB pages.
pub type Stage2Table4K = Table<12, 2>;
/// Stage 2, 16 KiB pages.
pub type Stage2Table16K = Table<14, 2>;
/// Stage 2, 64 KiB pages.
pub type Stage2Table64K = Table<16, 2>;

/// A translation table of granule `1 << SHIFT` bytes (12, 14 or 16) for stage `STAGE` (1 or 2), for
/// addresses of at most 48 bits (§15).
///
/// Dropping it leaks its frames: hardware may still be walking them. [`destroy`](Self::destroy) frees.
///
/// # Contract of the unsafe methods
/// * `frames` is the object that [`new`](Self::new) got.
/// * While a call (or the cursor it returned) is at work on a range, no other call works on an address
///   in it. Calls on disjoint ranges may run at the same time, whatever tables they share.
#[derive(Debug)]
pub struct Table<const SHIFT: u32, const STAGE: u8> {
    root: PhysAddr,
    /// The first address that is too wide, 2 to the power of the input bits.
    input_end: u64,
    /// As well, for the output.
    output_end: u64,
    /// log2 of the span of an entry of the first table.
    root_shift: u32,
}

/// What an address translates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The output address of exactly the address that was looked up.
    pub pa: PhysAddr,
    /// Bytes of the page or block that maps it.
    pub size: u64,
    /// Its permissions and memory type.
    pub attributes: Attributes,
}

impl<const SHIFT: u32, const STAGE: u8> Table<SHIFT, STAGE> {
    /// Sizes of pages and blocks in bytes, smallest first (§15.1).
    pub const LEAF_SIZES: &'static [u64] = Geometry::<SHIFT>::LEAVES;

    /// An empty table for inputs of `input_bits` and outputs of `output_bits` bits, each 32 to 48.
    ///
    /// # Errors
    /// [`TableError`]; nothing stays allocated then.
    pub fn new<F: Frames + ?Sized>(
        frames: &F,
        input_bits: u32,
        output_bits: u32,
    ) -> Result<Self, TableError> {
        const { assert!(STAGE == 1 || STAGE == 2, "there are two stages") };
        if !WIDTHS.contains(&input_bits) {
            return Err(TableError::InputBits(input_bits));
        }
        if !WIDTHS.contains(&output_bits) {
            return Err(TableError::OutputBits(output_bits));
        }
        let level = Geometry::<SHIFT>::start_level(STAGE, input_bits, output_bits);
        // More than 16 concatenated tables can't be walked (§15.4).
        if Geometry::<SHIFT>::root_bits(level, input_bits) > Geometry::<SHIFT>::BITS + 4 {
            return Err(TableError::InputBits(input_bits));
        }
        let root_shift = Geometry::<SHIFT>::shift(level);
        let (input_end, output_end) = (1 << input_bits, 1 << output_bits);
        let mut table = Self { root: PhysAddr(0), input_end, output_end, root_shift };
        let size = table.root_bytes();
        table.root = frames.allocate(size, size).ok_or(TableError::NoFrames { size })?;
        if !table.reaches(table.root, size as u64) {
            // SAFETY: allocated two lines above with these values, and nobody else knows it.
            unsafe { frames.free(table.root, size, size) };
            return Err(TableError::FrameBeyondOutput { frame: table.root, output_bits });
        }
        frames.publish(table.root, size);
        Ok(table)
    }

    /// Address of the first table: `TTB0` of a CD, or `S2TTB` of an STE.
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// Bytes, and alignment, of the first table: concatenated tables count as one.
    pub const fn root_bytes(&self) -> usize {
        let bits = self.input_bits() - self.root_shift;
        // A base address has no bits below 64 bytes (§15.4).
        if bits < 3 { 64 } else { 8 << bits }
    }

    /// Level of the first table, 0 to 3 (§15.4).
    pub const fn start_level(&self) -> u32 {
        Geometry::<SHIFT>::level(self.root_shift)
    }

    /// Width of the addresses that devices issue: 64 - `T0SZ`.
    pub const fn input_bits(&self) -> u32 {
        self.input_end.trailing_zeros()
    }

    /// Width of the addresses that come out: `IPS`, `S2PS`.
    pub const fn output_bits(&self) -> u32 {
        self.output_end.trailing_zeros()
    }

    /// Bytes of a page, and of a table below the first.
    pub const fn granule() -> u64 {
        Geometry::<SHIFT>::GRANULE
    }

    /// Translates `iova`; `None` when nothing is mapped there, or it is beyond the input size.
    ///
    /// # Safety
    /// The contract of [`Table`], for the one address.
    #[inline]
    pub unsafe fn lookup<F: Frames + ?Sized>(&self, frames: &F, iova: Iova) -> Option<Mapping> {
        if iova.0 >= self.input_end {
            return None;
        }
        let mut table = self.root;
        upper_levels!(SHIFT, self.root_shift, shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `iova`. A table is
            // unlinked only by a call whose range covers all it spans, hence `iova`: not meanwhile.
            let value = unsafe { self.load(frames, table, iova.0, shift) };
            if !is_table(value) {
                return Self::mapping(value, iova, shift);
            }
            table = PhysAddr(value & Geometry::<SHIFT>::ADDRESS);
        });
        // SAFETY: as above.
        Self::mapping(unsafe { self.load(frames, table, iova.0, SHIFT) }, iova, SHIFT)
    }

    /// What a leaf that spans `1 << shift` bytes, or an empty entry, makes of `iova`.
    #[inline(always)]
    fn mapping(leaf: u64, iova: Iova, shift: u32) -> Option<Mapping> {
        let below = (1 << shift) - 1;
        let pa = PhysAddr(leaf & Geometry::<SHIFT>::ADDRESS & !below | iova.0 & below);
        (leaf != 0).then(|| Mapping { pa, size: below + 1, attributes: decode::<STAGE>(leaf) })
    }

    /// Frees every table, the first too.
    ///
    /// # Safety
    /// The contract of [`Table`], for all addresses. No SMMU can reach the tables any more: no CD or STE
    /// points to [`root`](Self::root), and the invalidation of its tag has completed.
    pub unsafe fn destroy<F: Frames + ?Sized>(self, frames: &F) {
        let size = self.root_bytes();
        let entries = 1 << (self.input_bits() - self.root_shift);
        // SAFETY: the caller says that nobody can reach the tables; `root` was allocated in `new` with
        // this size and alignment and has that many entries; `self` is consumed, so it is freed once.
        unsafe { free_subtree(frames, self.root, self.root_shift, SHIFT, entries, size) };
    }

    /// The end (exclusive) of a range that may be worked on.
    #[inline]
    pub(crate) fn check_range(&self, iova: Iova, len: u64) -> Result<u64, RangeError> {
        if len == 0 {
            return Err(RangeError::Empty);
        }
        let granule = Self::granule();
        if (iova.0 | len) & (granule - 1) != 0 {
            return Err(RangeError::Unaligned { iova, len, granule });
        }
        match iova.0.checked_add(len) {
            Some(end) if end <= self.input_end => Ok(end),
            _ => Err(RangeError::BeyondInput { iova, len, input_bits: self.input_bits() }),
        }
    }

    /// Whether all of an output range can be addressed.
    #[inline]
    pub(crate) fn reaches(&self, pa: PhysAddr, len: u64) -> bool {
        pa.0.checked_add(len).is_some_and(|end| end <= self.output_end)
    }

    /// The index of `iova` in its level-3 table and the count of pages, for a range that is a part of what
    /// one such table spans; `None` for all of it or more, for wrong ranges, and if `aligned` is not.
    #[inline(always)]
    pub(crate) fn within_a_table(
        &self,
        iova: Iova,
        len: u64,
        aligned: u64,
    ) -> Option<(usize, usize)> {
        let index = self.index(iova.0, SHIFT);
        let count = len >> SHIFT;
        let entries = Geometry::<SHIFT>::ENTRIES as u64;
        // The first refuses 0 too. A start within the input is enough: that ends with a table.
        if count.wrapping_sub(1) >= entries - index as u64
            || count == entries
            || (iova.0 | len | aligned) & (Self::granule() - 1) != 0
            || iova.0 >= self.input_end
        {
            return None;
        }
        // At most a table's entries.
        Some((index, count as usize))
    }

    /// The first output address that is too wide.
    #[inline(always)]
    pub(crate) const fn output_end(&self) -> u64 {
        self.output_end
    }

    /// log2 of the span of an entry of the first table.
    #[inline(always)]
    pub(crate) const fn root_shift(&self) -> u32 {
        self.root_shift
    }

    /// Index of `address`, within the input size, in its table whose entries span `1 << shift` bytes.
    #[inline(always)]
    pub(crate) const fn index(&self, address: u64, shift: u32) -> usize {
        let index = (address >> shift) as usize;
        // At level 0 no address has bits above the index. Concatenated first tables, of stage 2, are indexed
        // as one (§15.5).
        let first = shift == Geometry::<SHIFT>::shift(0) || STAGE == 2 && shift == self.root_shift;
        if first { index } else { index & Geometry::<SHIFT>::MASK }
    }

    /// The descriptor for `address` in the table at `table`, whose entries span `1 << shift` bytes.
    ///
    /// # Safety
    /// That is a live table of this tree, on the walk for `address`, which is within the input size.
    #[inline(always)]
    pub(crate) unsafe fn load<F: Frames + ?Sized>(
        &self,
        frames: &F,
        table: PhysAddr,
        address: u64,
        shift: u32,
    ) -> u64 {
        // SAFETY: the table is live, and has an entry for every address that is walked through it.
        let cell = unsafe { entry(frames, table, self.index(address, shift)).as_ref() };
        // Acquire: the zeros of a table that another thread has just linked.
        cell.load(Ordering::Acquire)
    }
}

/// The descriptor at `index` of the table at `table`. The pointer may be moved to other entries of the
/// table, and may be used for as long as the table is live: only atomically while another thread may
/// use the descriptor.
///
/// # Safety
/// The table is live and has more than `index` entries.
#[inline(always)]
pub(crate) unsafe fn entry<F: Frames + ?Sized>(
    frames: &F,
    table: PhysAddr,
    index: usize,
) -> NonNull<AtomicU64> {
    // SAFETY: the caller says that the table is live and large enough; `Frames` then gives a pointer to
    // all of it, aligned as the table is (at least 64 bytes).
    unsafe { frames.pointer(table).cast::<AtomicU64>().add(index) }
}
