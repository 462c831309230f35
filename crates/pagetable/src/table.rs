// SPDX-License-Identifier: MIT OR Apache-2.0
//! One address space: its shape, looking up, and its end.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::{Iova, PhysAddr};

use crate::error::RangeError;
use crate::gather::free_subtree;
use crate::geometry::{Geometry, straight_levels, upper_levels};
use crate::leaf::{Encoding, is_table, short};
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

/// Stage 1, 4 KiB pages, 52-bit addresses: LPA2 (CD.DS = 1).
pub type Stage1Table4KLpa2 = Table<12, 1, true>;
/// Stage 1, 16 KiB pages, 52-bit addresses: LPA2 (CD.DS = 1).
pub type Stage1Table16KLpa2 = Table<14, 1, true>;
/// Stage 1, 64 KiB pages, 52-bit addresses: LPA (IDR5.OAS = 6).
pub type Stage1Table64KLpa = Table<16, 1, true>;
/// Stage 2, 4 KiB pages, 52-bit addresses: LPA2 (STE.S2DS = 1).
pub type Stage2Table4KLpa2 = Table<12, 2, true>;
/// Stage 2, 16 KiB pages, 52-bit addresses: LPA2 (STE.S2DS = 1).
pub type Stage2Table16KLpa2 = Table<14, 2, true>;
/// Stage 2, 64 KiB pages, 52-bit addresses: LPA (IDR5.OAS = 6).
pub type Stage2Table64KLpa = Table<16, 2, true>;

/// A translation table of granule `1 << SHIFT` bytes (12, 14 or 16) for stage `STAGE` (1 or 2) (§15). Addresses
/// have at most 48 bits, or 52 if it is `WIDE`: then descriptors are those of LPA2 (4 and 16 KiB), which leave
/// shareability to CD.SHx or STE.S2SH0, or of LPA (64 KiB).
///
/// Dropping it leaks its frames: hardware may still be walking them. [`destroy`](Self::destroy) frees.
///
/// # Contract of the unsafe methods
/// * `frames` is the object that [`new`](Self::new) or [`with`](Self::with) got.
/// * While a call (or the cursor it returned) is at work on a range, no other call works on an address
///   in it. Calls on disjoint ranges may run at the same time, whatever tables they share.
//
// Input addresses are counted from the start of the half within the crate: an *offset*. In the lower half the two
// are the same.
#[derive(Debug)]
pub struct Table<const SHIFT: u32, const STAGE: u8, const WIDE: bool = false> {
    pub(crate) root: PhysAddr,
    /// As [`direct_end`](Self::direct_end), or 0 if the first table is not of the first level that there can be. Addresses
    /// below it may be walked straight: with constants only.
    pub(crate) straight_end: u64,
    /// As `straight_end`, or 0 if the table may hold leaves that are not plain.
    pub(crate) plain_end: u64,
    /// The first output address that is too wide.
    pub(crate) output_end: u64,
    /// Width of the input addresses.
    pub(crate) input_bits: u8,
    /// log2 of the span of an entry of the first table.
    pub(crate) root_shift: u8,
    /// Whether the table is for the upper half.
    pub(crate) upper: bool,
    /// Whether parts of a level-3 table, and blocks, can be unmapped by only clearing descriptors.
    pub(crate) unmaps_parts: bool,
    /// Leaves with one of these bits take more to unmap than clearing them.
    pub(crate) special: u64,
    pub(crate) contiguous: bool,
    /// Whether blocks may be split.
    pub(crate) splits: bool,
    /// Whether nT is set in a block before it is split.
    pub(crate) marks_blocks: bool,
    /// A range must not cut a group of contiguous leaves.
    pub(crate) refuses_cuts: bool,
    pub(crate) encoding: Encoding<STAGE>,
    #[cfg(feature = "mutation")]
    pub(crate) wrong: Option<crate::Wrong>,
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

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Sizes of pages and blocks in bytes, smallest first (§15.1).
    pub const LEAF_SIZES: &'static [u64] = Geometry::<SHIFT, WIDE>::LEAVES;

    /// Blocks may be split.
    #[inline(always)]
    pub(crate) const fn splits(&self) -> bool {
        cfg!(feature = "resizing") && self.splits
    }

    /// Address of the first table: `TTB0` or `TTB1` of a CD, or `S2TTB` of an STE.
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// Bytes, and alignment, of the first table: concatenated tables count as one.
    pub const fn root_bytes(&self) -> usize {
        let bits = self.input_bits() - self.root_shift();
        // Tables are aligned to at least 64 bytes (§15.4).
        if bits < 3 { 64 } else { 8 << bits }
    }

    /// Level of the first table: -1 to 3 (§15.4).
    pub const fn start_level(&self) -> i8 {
        Geometry::<SHIFT, WIDE>::level(self.root_shift())
    }

    /// What an STE calls the start level of stage 2: S2SL0, and as bit 2 S2SL0_2 (§15.4).
    pub const fn sl0(&self) -> u8 {
        Geometry::<SHIFT, WIDE>::sl0(self.start_level())
    }

    /// Width of the addresses that devices issue: 64 - `T0SZ`.
    pub const fn input_bits(&self) -> u32 {
        self.input_bits as u32
    }

    /// The first input address: 0, or that of the upper half.
    pub const fn base(&self) -> Iova {
        Iova(self.base_offset())
    }

    /// The first address that is too wide to be an offset: 2 to the power of the input bits. In an upper half no
    /// address is an offset: 0.
    #[inline(always)]
    pub(crate) const fn direct_end(&self) -> u64 {
        if self.upper { 0 } else { self.half() }
    }

    /// The address that is offset 0.
    #[inline(always)]
    pub(crate) const fn base_offset(&self) -> u64 {
        if self.upper { self.half().wrapping_neg() } else { 0 }
    }

    /// No range ends beyond this offset: the size of the half, a page less if that is the upper one.
    #[inline(always)]
    pub(crate) const fn input_end(&self) -> u64 {
        if self.upper { self.half() - Self::granule() } else { self.half() }
    }

    /// The size of the half.
    const fn half(&self) -> u64 {
        1 << self.input_bits
    }

    /// Width of the addresses that come out: `IPS`, `S2PS`.
    pub const fn output_bits(&self) -> u32 {
        self.output_end.trailing_zeros()
    }

    /// Bytes of a page, and of a table below the first.
    pub const fn granule() -> u64 {
        1 << SHIFT
    }

    /// Translates `iova`; `None` when nothing is mapped there, or it is beyond the input size.
    ///
    /// # Safety
    /// The contract of [`Table`], for the one address.
    #[inline(always)]
    pub unsafe fn lookup<F: Frames + ?Sized>(&self, frames: &F, iova: Iova) -> Option<Mapping> {
        if iova.0 >= self.plain_end {
            // SAFETY: the caller's contract.
            return unsafe { Self::lookup_any(frames, iova, self) };
        }
        // As `leaf`, unrolled: constants only, and a return of its own at each level.
        let mut table = self.root;
        straight_levels!(SHIFT, WIDE, shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `iova`. A table is
            // unlinked only by a call whose range covers all it spans, hence `iova`: not meanwhile.
            let value = unsafe { self.load_straight(frames, table, iova.0, shift) };
            if !is_table(value) {
                return Self::plain_mapping(value, iova, shift);
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        // SAFETY: as above.
        let value = unsafe { self.load_straight(frames, table, iova.0, SHIFT) };
        Self::plain_mapping(value, iova, SHIFT)
    }

    /// What a plain leaf that spans `1 << shift` bytes, or an empty entry, makes of `iova`.
    #[inline(always)]
    fn plain_mapping(leaf: u64, iova: Iova, shift: u32) -> Option<Mapping> {
        if leaf == 0 {
            return None;
        }
        let pa = Self::output(leaf, iova, shift);
        Some(Mapping { pa, size: 1 << shift, attributes: short::<STAGE>(leaf) })
    }

    /// Looks up any address in any table. The order of the arguments spares the caller moving any of them on the usual
    /// way.
    ///
    /// # Safety
    /// As for [`lookup`](Self::lookup).
    #[inline(never)]
    unsafe fn lookup_any<F: Frames + ?Sized>(
        frames: &F,
        iova: Iova,
        table: &Self,
    ) -> Option<Mapping> {
        let offset = Iova(table.offset(iova));
        if offset.0 >= table.input_end() {
            return None;
        }
        // SAFETY: the caller's contract; the address is within the input.
        let (leaf, shift) = unsafe { table.leaf(frames, offset.0) };
        if !table.encoding.has_all() {
            return Self::plain_mapping(leaf, offset, shift);
        }
        let attributes = table.encoding.decode(leaf);
        let pa = Self::output(leaf, offset, shift);
        (leaf != 0).then_some(Mapping { pa, size: 1 << shift, attributes })
    }

    /// The leaf for an offset or the empty entry, and log2 of the bytes that it spans.
    ///
    /// # Safety
    /// As for [`lookup`](Self::lookup).
    #[inline]
    unsafe fn leaf<F: Frames + ?Sized>(&self, frames: &F, offset: u64) -> (u64, u32) {
        let mut table = self.root;
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `offset`. A table is
            // unlinked only by a call whose range covers all it spans, hence `offset`: not meanwhile.
            let value = unsafe { self.load(frames, table, offset, shift) };
            if !is_table(value) {
                return (value, shift);
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        // SAFETY: as above.
        (unsafe { self.load(frames, table, offset, SHIFT) }, SHIFT)
    }

    /// The output address of `iova` by a leaf that spans `1 << shift` bytes.
    #[inline(always)]
    const fn output(leaf: u64, iova: Iova, shift: u32) -> PhysAddr {
        let below = (1 << shift) - 1;
        PhysAddr(Geometry::<SHIFT, WIDE>::address(leaf) & !below | iova.0 & below)
    }

    /// Frees every table, the first too.
    ///
    /// # Safety
    /// The contract of [`Table`], for all addresses. No SMMU can reach the tables any more: no CD or STE
    /// points to [`root`](Self::root), and the invalidation of its tag has completed.
    pub unsafe fn destroy<F: Frames + ?Sized>(self, frames: &F) {
        let size = self.root_bytes();
        let entries = 1 << (self.input_bits() - self.root_shift());
        // SAFETY: the caller says that nobody can reach the tables; `root` was allocated in `new` with
        // this size and alignment and has that many entries; `self` is consumed, so it is freed once.
        unsafe {
            free_subtree(frames, self.root, self.root_shift(), (SHIFT, WIDE), entries, size);
        }
    }

    /// The offset at which a range that may be worked on ends. It starts at that of `iova`.
    #[inline(always)]
    pub(crate) fn check_range(&self, iova: Iova, len: u64) -> Result<u64, RangeError> {
        if len == 0 {
            return Err(RangeError::Empty);
        }
        let granule = Self::granule();
        if (iova.0 | len) & (granule - 1) != 0 {
            return Err(RangeError::Unaligned { iova, len, granule });
        }
        let start = self.offset(iova);
        // No underflow: `start <= end` comes first.
        let end = self.input_end();
        if start <= end && len <= end - start {
            return Ok(start + len);
        }
        Err(RangeError::BeyondInput { iova, len, input_bits: self.input_bits() })
    }

    /// The offset of an input address; too large if that is not in the half.
    #[inline(always)]
    pub(crate) const fn offset(&self, iova: Iova) -> u64 {
        iova.0.wrapping_sub(self.base_offset())
    }

    /// The input address of an offset.
    #[inline(always)]
    pub(crate) const fn at(&self, offset: u64) -> Iova {
        Iova(self.base_offset().wrapping_add(offset))
    }

    /// Whether all of an output range can be addressed.
    #[inline]
    pub(crate) fn reaches(&self, pa: PhysAddr, len: u64) -> bool {
        pa.0.checked_add(len).is_some_and(|end| end <= self.output_end)
    }

    /// The index of `iova` in its level-3 table and the count of pages, for a range that is a part of what one such table
    /// spans; `None` for all of it or more, for wrong ranges, and if `aligned` is not. Where it gives something, `iova` is
    /// an offset too.
    #[inline(always)]
    pub(crate) fn within_a_table(
        &self,
        iova: Iova,
        len: u64,
        aligned: u64,
    ) -> Option<(usize, usize)> {
        let first = iova.0 & (Geometry::<SHIFT, WIDE>::SPAN - 1);
        // The first comparison also refuses `len == 0`. It is enough that the start is within the input size, which
        // ends with a table.
        if len.wrapping_sub(1) >= Geometry::<SHIFT, WIDE>::SPAN - first
            || len == Geometry::<SHIFT, WIDE>::SPAN
            || (iova.0 | len | aligned) & (Self::granule() - 1) != 0
            || iova.0 >= self.straight_end && iova.0 >= self.direct_end()
        {
            return None;
        }
        // If the first tables are concatenated ones of level 3, which only 64 KiB pages can have, the index has more
        // bits. The count is at most one table's entries.
        Some((self.index(iova.0, SHIFT), (len >> SHIFT) as usize))
    }

    /// The first output address that is too wide.
    #[inline(always)]
    pub(crate) const fn output_end(&self) -> u64 {
        self.output_end
    }

    /// log2 of the span of an entry of the first table.
    #[inline(always)]
    pub(crate) const fn root_shift(&self) -> u32 {
        self.root_shift as u32
    }

    /// Index of `address`, within the input size, in its table whose entries span `1 << shift` bytes.
    #[inline(always)]
    pub(crate) const fn index(&self, address: u64, shift: u32) -> usize {
        let index = (address >> shift) as usize;
        // At the first level no offset has bits above the index. Concatenated first tables, of stage 2, are indexed
        // as one (§15.5).
        let first = shift == Geometry::<SHIFT, WIDE>::shift(Geometry::<SHIFT, WIDE>::FIRST)
            || STAGE == 2 && shift == self.root_shift();
        if first { index } else { index & Geometry::<SHIFT, WIDE>::MASK }
    }

    /// The descriptor for `address` in the table at `table`, whose entries span `1 << shift` bytes.
    ///
    /// # Safety
    /// `table` is a live table of this tree, on the walk for `address`, which is within the input size.
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

    /// As [`load`](Self::load), with constants only.
    ///
    /// # Safety
    /// As for [`load`](Self::load); `address` is below `straight_end`.
    #[inline(always)]
    pub(crate) unsafe fn load_straight<F: Frames + ?Sized>(
        &self,
        frames: &F,
        table: PhysAddr,
        address: u64,
        shift: u32,
    ) -> u64 {
        let index = Geometry::<SHIFT, WIDE>::straight_index(address, shift);
        // SAFETY: the table is live, and has an entry for every address that is walked through it: the first one, which
        // is of the first level, for all below the input size, and the others for every index of `BITS` bits.
        let cell = unsafe { entry(frames, table, index).as_ref() };
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
