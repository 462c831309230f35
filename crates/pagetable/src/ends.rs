// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an end of a range cuts: blocks, for which that is refused, and groups of contiguous leaves, which lose their hint.

use smmuv3_formats::{Iova, PhysAddr};

use crate::contiguous::{Cut, HINT};
use crate::error::UnmapError;
use crate::gather::Gather;
use crate::geometry::{Geometry, upper_levels};
use crate::leaf::is_table;
use crate::sync::is_full;
use crate::{Frames, Table};

/// The table in which a walk for a range ends: at a leaf, an empty entry, or a table wholly in the range.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) table: PhysAddr,
    /// log2 of the span of an entry of `table`.
    pub(crate) shift: u32,
    /// The table is marked as full.
    pub(crate) full: bool,
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Refuses a wrong range, and a block that reaches over an end of it. Gives the place of its start.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range.
    #[cfg_attr(feature = "fast-paths", inline(never))]
    pub(crate) unsafe fn check_ends<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
    ) -> Result<Place, UnmapError> {
        let end = self.check_range(iova, len)?;
        let start = self.offset(iova);
        if self.refuses_cuts && self.has_contiguous() {
            // SAFETY: the caller's contract.
            return unsafe { self.check_cuts(frames, start, end) };
        }
        // SAFETY: as above.
        unsafe { self.check_blocks(frames, start, end) }
    }

    /// Refuses a block that reaches over an end of the range. Gives the place of its start.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range, which is not empty.
    #[inline(always)]
    unsafe fn check_blocks<F: Frames + ?Sized>(
        &self,
        frames: &F,
        start: u64,
        end: u64,
    ) -> Result<Place, UnmapError> {
        // SAFETY: the caller's contract, for this and the next.
        let (first, value) = unsafe { self.place(frames, start, start, end) };
        self.refuse_straddle(first, value, start, start, end)?;
        let last = end - 1;
        if (start ^ last) >> first.shift != 0 {
            // SAFETY: as above.
            let (place, value) = unsafe { self.place(frames, last, start, end) };
            self.refuse_straddle(place, value, last, start, end)?;
        }
        Ok(first)
    }

    /// Walks to the place of `at` for an unmap of `start..end`; gives what is there, too.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range, which holds `at`.
    #[cfg_attr(feature = "fast-paths", inline(always))]
    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    pub(crate) unsafe fn place<F: Frames + ?Sized>(
        &self,
        frames: &F,
        at: u64,
        start: u64,
        end: u64,
    ) -> (Place, u64) {
        let mut table = self.root();
        let mut full = false;
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `at`, and can't be
            // unlinked by others meanwhile.
            let value = unsafe { self.load(frames, table, at, shift) };
            if !is_table(value) || covers(at, shift, start, end) {
                return (Place { table, shift, full: false }, value);
            }
            full = shift == Geometry::<SHIFT, WIDE>::shift(2) && is_full(value);
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        // SAFETY: as above.
        let value = unsafe { self.load(frames, table, at, SHIFT) };
        (Place { table, shift: SHIFT, full }, value)
    }

    /// An error if `value`, at the place of `at`, is a leaf that reaches beyond `start..end`.
    #[inline(always)]
    fn refuse_straddle(
        &self,
        place: Place,
        value: u64,
        at: u64,
        start: u64,
        end: u64,
    ) -> Result<(), UnmapError> {
        // A page never does, since the range is aligned to pages; a table that the walk ended at lies wholly in the
        // range.
        if place.shift == SHIFT || value == 0 || covers(at, place.shift, start, end) {
            return Ok(());
        }
        Err(self.straddle(at, place.shift))
    }

    /// As [`check_blocks`](Self::check_blocks), and refuses to cut a group of contiguous leaves.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range, which is not empty.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn check_cuts<F: Frames + ?Sized>(
        &self,
        frames: &F,
        start: u64,
        end: u64,
    ) -> Result<Place, UnmapError> {
        for at in [start, end - 1] {
            // SAFETY: the caller's contract.
            let (place, value) = unsafe { self.place(frames, at, start, end) };
            // A block that is cut itself is reported by `check_blocks`, with its own size.
            if value & HINT == 0 || !covers(at, place.shift, start, end) {
                continue;
            }
            match Self::group_shift(place.shift) {
                Some(group) if !covers(at, group, start, end) => {
                    return Err(self.straddle(at, group));
                }
                _ => {}
            }
        }
        // SAFETY: as above.
        unsafe { self.check_blocks(frames, start, end) }
    }

    /// As [`cut_ends`](Self::cut_ends), into a gather.
    ///
    /// # Safety
    /// As for [`cut_ends`](Self::cut_ends).
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn gather_cuts<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        start: u64,
        end: u64,
        gather: &mut Gather<TABLES>,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            self.cut_ends(frames, start, end, |cut| {
                gather.add(self.at(cut.start).0, self.at(cut.end).0, 1 << cut.shift);
            });
        }
    }

    /// Takes the hint from the groups that an end of the range cuts; `gather` what is to be invalidated because of that.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range, which is not empty and cuts no block.
    #[cold]
    pub(crate) unsafe fn cut_ends<F: Frames + ?Sized>(
        &self,
        frames: &F,
        start: u64,
        end: u64,
        mut gather: impl FnMut(Cut),
    ) {
        let mut done = None;
        for at in [start, end - 1] {
            // SAFETY: the caller's contract.
            let (place, value) = unsafe { self.place(frames, at, start, end) };
            // A table that the walk ended at lies wholly in the range: no group of it is cut.
            // The ends may lie at different levels, where groups of the same number are others.
            let group = Self::group_shift(place.shift).map(|group| (group, at >> group));
            if (place.shift == SHIFT || !is_table(value)) && group != done {
                done = group;
                // SAFETY: as above.
                let cut = unsafe { self.cut(frames, (place.table, place.shift), at, (start, end)) };
                cut.into_iter().for_each(&mut gather);
            }
        }
    }

    /// The block of `1 << shift` bytes around `at` is in the way.
    #[cold]
    pub(crate) const fn straddle(&self, at: u64, shift: u32) -> UnmapError {
        UnmapError::Straddle { block: self.at(at >> shift << shift), size: 1 << shift }
    }
}

/// Whether `start..end` holds all that the entry for `at` spans.
#[inline(always)]
pub(crate) const fn covers(at: u64, shift: u32, start: u64, end: u64) -> bool {
    let first = at >> shift << shift;
    first >= start && end - first >= 1 << shift
}
