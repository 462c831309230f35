// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an invalidation must cover, in a fixed size: a range of leaves and the tables that were unlinked.

use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::Ordering;

use smmuv3_formats::PhysAddr;

use crate::geometry::next_table;
use crate::leaf::is_table;
use crate::table::entry;
use crate::{FAST, Frames};

/// A size that no leaf has: others than leaves must be invalidated, and no size may be named.
pub(crate) const NON_LEAF: u64 = 0b11;

/// A size that no leaf has: no size may be named.
pub(crate) const NO_SIZE: u64 = 0b01;

/// A size that no leaf has: something was added.
const SOME: u64 = 0b100;

/// Collects what was unmapped until it is invalidated. `TABLES` (at least 4) is how many unlinked tables
/// it holds; a full one stops the cursor that fills it.
///
/// Forgetting a gather that is not empty leaves devices with access to what was unmapped, and leaks the
/// unlinked tables.
pub struct Gather<const TABLES: usize = 32> {
    /// Cleared addresses lie in `start..end`, which is `u64::MAX..0` before [`SOME`] were; while `sizes` is 0 it says nothing.
    start: u64,
    end: u64,
    /// The union of the sizes that cleared leaves had, and of marks that are no sizes.
    sizes: u64,
    /// The first `used` are initialised.
    tables: [MaybeUninit<Detached>; TABLES],
    used: usize,
}

/// A table that was unlinked, with everything still below it.
///
/// Nothing in it can be reached by a walk once the invalidation of the gather's range, including
/// non-leaf entries, has completed; until then hardware may read all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "its frames leak unless it is freed"]
pub struct Detached {
    frame: PhysAddr,
    /// log2 of the span of an entry.
    shift: u8,
    granule_shift: u8,
    wide: bool,
}

impl Detached {
    /// A table whose entries span `1 << shift` bytes, of tables of that granule and width.
    pub(crate) const fn new(frame: PhysAddr, shift: u32, (granule, wide): (u32, bool)) -> Self {
        // At most a shift: both fit in 8 bits.
        Self { frame, shift: shift as u8, granule_shift: granule as u8, wide }
    }

    /// Address of the table.
    pub const fn frame(&self) -> PhysAddr {
        self.frame
    }

    /// Level of the table's descriptors, 0 to 3. Tables of the levels behind it may hang below.
    pub const fn level(&self) -> u32 {
        let granule = self.granule_shift as u32;
        3 - (self.shift as u32 - granule) / (granule - 3)
    }

    /// Bytes of this table, and of each below it.
    pub const fn size(&self) -> usize {
        1 << self.granule_shift
    }

    /// Frees the table and every table below it.
    ///
    /// # Safety
    /// `frames` is the object that the table came from. The invalidation that was due has completed on
    /// every instance that could walk the table. Neither this value nor a copy of it was freed before.
    pub unsafe fn free<F: Frames + ?Sized>(self, frames: &F) {
        let (shift, granule) = (u32::from(self.shift), u32::from(self.granule_shift));
        // SAFETY: the table was unlinked and only this value knows it; the caller says that hardware
        // doesn't, and that it is not freed twice. Tables below the first are full ones of one granule.
        unsafe {
            let kind = (granule, self.wide);
            free_subtree(frames, self.frame, shift, kind, 1 << (granule - 3), self.size());
        }
    }
}

impl Gather {
    /// An empty gather for 32 tables.
    pub const fn new() -> Self {
        Self::sized()
    }
}

impl<const TABLES: usize> Gather<TABLES> {
    /// An empty gather for `TABLES` tables.
    #[inline]
    pub const fn sized() -> Self {
        const { assert!(TABLES >= 4, "one step of a cursor may unlink a table of each level") };
        Self {
            start: 0,
            end: 0,
            sizes: 0,
            tables: [const { MaybeUninit::uninit() }; TABLES],
            used: 0,
        }
    }

    /// Whether there is nothing to invalidate.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.sizes & SOME == 0
    }

    /// Input addresses to invalidate, end exclusive: from the first to the last that was cleared. Holes
    /// between them are included, and all that an unlinked table spanned. Empty (0..0) when nothing was.
    #[inline]
    pub const fn range(&self) -> Range<u64> {
        if self.is_empty() { 0..0 } else { self.start..self.end }
    }

    /// The size in bytes that every cleared leaf had (for `TTL`, §4.2). `None` when they differed or
    /// there were none.
    #[inline]
    pub const fn leaf_size(&self) -> Option<u64> {
        let sizes = self.sizes & !SOME;
        if sizes.is_power_of_two() && sizes != NO_SIZE { Some(sizes) } else { None }
    }

    /// Whether the invalidation may be for leaves only: no table was unlinked, and no block split.
    #[inline]
    pub const fn leaf_only(&self) -> bool {
        self.used == 0 && self.sizes & NON_LEAF != NON_LEAF
    }

    /// Makes [`leaf_size`](Self::leaf_size) `None` until the gather is cleared.
    pub(crate) const fn name_no_size(&mut self) {
        if self.sizes == 0 {
            (self.start, self.end) = (u64::MAX, 0);
        }
        self.sizes |= NO_SIZE;
    }

    /// The unlinked tables. When there are any, the invalidation must not be for leaves only.
    #[inline]
    pub const fn tables(&self) -> &[Detached] {
        let first = self.tables.as_ptr().cast::<Detached>();
        // SAFETY: the first `used` slots were written by `push_table`, and `used` is at most `TABLES`.
        unsafe { core::slice::from_raw_parts(first, self.used) }
    }

    /// Frees the unlinked tables and all below them, and forgets them. The range stays.
    ///
    /// # Safety
    /// `frames` is the object that the tables came from. The invalidation of [`range`](Self::range), not
    /// for leaves only, has completed on every instance that could walk them. No copy of a [`Detached`]
    /// of [`tables`](Self::tables) is freed elsewhere.
    #[inline]
    pub unsafe fn free_tables<F: Frames + ?Sized>(&mut self, frames: &F) {
        // Never more than `TABLES`, which the compiler need not know.
        let used = core::mem::take(&mut self.used).min(TABLES);
        for table in &self.tables[..used] {
            // SAFETY: initialised: below the old `used`. Freed once: `used` is 0 now. The rest is the
            // caller's promise.
            unsafe { table.assume_init().free(frames) };
        }
    }

    /// Forgets everything, also tables that were not freed: they leak unless the caller keeps a copy.
    #[inline]
    pub const fn clear(&mut self) {
        self.sizes = 0;
        self.used = 0;
    }

    /// Whether another table would not fit.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.used >= TABLES
    }

    /// How many more tables fit.
    #[inline]
    pub(crate) const fn room(&self) -> usize {
        TABLES - self.used
    }

    /// Adds cleared addresses `start..end`, whose leaves had the sizes in `sizes` (their union).
    #[inline(always)]
    pub(crate) fn add(&mut self, start: u64, end: u64, sizes: u64) {
        if self.sizes == 0 {
            // The common case: this is all that the gather gets.
            (self.start, self.end, self.sizes) = (start, end, sizes | SOME);
            return;
        }
        (self.start, self.end) = (self.start.min(start), self.end.max(end));
        self.sizes |= sizes | SOME;
    }

    /// Adds an unlinked table; there must be room.
    #[inline]
    pub(crate) fn push_table(&mut self, table: Detached) {
        self.tables[self.used].write(table);
        self.used += 1;
    }
}

impl<const TABLES: usize> Default for Gather<TABLES> {
    fn default() -> Self {
        Self::sized()
    }
}

impl<const TABLES: usize> fmt::Debug for Gather<TABLES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("range", &format_args!("{:#x?}", self.range()))
            .field("leaf_size", &self.leaf_size())
            .field("tables", &self.tables())
            .finish()
    }
}

/// Frees a table of `entries` descriptors, each of which spans `1 << shift` bytes, in an allocation of
/// `size` bytes, and all tables below it, of granule and width `kind`. Recursion goes as deep as there are levels.
///
/// # Safety
/// The table is live, with that shape, and was allocated from `frames`; no CPU and no hardware can reach
/// it; nor will the caller.
pub(crate) unsafe fn free_subtree<F: Frames + ?Sized>(
    frames: &F,
    table: PhysAddr,
    shift: u32,
    kind: (u32, bool),
    entries: usize,
    size: usize,
) {
    let granule = kind.0;
    if shift > granule {
        for index in 0..entries {
            // SAFETY: the table is live and has `entries` descriptors.
            let value = unsafe { entry(frames, table, index).as_ref() }.load(Ordering::Acquire);
            if is_table(value) {
                let below = PhysAddr(next_table(value, kind));
                let (bits, size) = (granule - 3, 1 << granule);
                if FAST && shift - bits == granule {
                    // Most tables are of the last level: nothing is below.
                    // SAFETY: a table that only this one points to, so that nobody reaches it either. All
                    // tables but the first are one granule.
                    unsafe { frames.free(below, size, size) };
                } else {
                    // SAFETY: as above.
                    unsafe { free_subtree(frames, below, shift - bits, kind, 1 << bits, size) };
                }
            }
        }
    }
    // SAFETY: the caller's promise, and nothing below uses it any more.
    unsafe { frames.free(table, size, size) };
}
