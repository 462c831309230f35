// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clearing leaves for an invalidation that comes later: tables stay linked.

use core::sync::atomic::Ordering;

use smmuv3_formats::{Iova, PhysAddr};

use crate::ends::covers;
use crate::error::UnmapError;
use crate::gather::Gather;
use crate::geometry::{Geometry, upper_levels};
use crate::leaf::is_table;
use crate::sync::is_full;
use crate::table::entry;
use crate::{Frames, Table};

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Clears and publishes every page and block in `len` bytes from `iova` on; holes are allowed. Unlike
    /// [`unmap`](Self::unmap) it unlinks no table, and gathers nothing: which translations hardware is to
    /// forget, and when, is the caller's affair. Gives the bytes that were mapped and are not any more.
    ///
    /// # Errors
    /// [`UnmapError`], before anything is stored.
    ///
    /// # Safety
    /// The contract of [`Table`] meanwhile. Until an invalidation of the range, and of the groups of contiguous
    /// leaves of which it is a part, that began afterwards has
    /// completed on every instance that could walk the table, the memory that was mapped is used for nothing
    /// else, and nothing is mapped in the range.
    #[inline]
    pub unsafe fn clear<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
    ) -> Result<u64, UnmapError> {
        // The gather is not used: the caller invalidates later, and no table is unlinked.
        let mut unused = Gather::<4>::sized();
        // SAFETY: the caller's contract.
        if let Some(bytes) = unsafe { self.unmap_at_once(frames, iova, len, &mut unused) } {
            return Ok(bytes);
        }
        // SAFETY: as above.
        unsafe { self.clear_anything(frames, iova, len) }
    }

    /// Clears ranges of any shape.
    ///
    /// # Safety
    /// As for [`clear`](Self::clear).
    #[inline(never)]
    unsafe fn clear_anything<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
    ) -> Result<u64, UnmapError> {
        // SAFETY: the caller's contract, here and below.
        unsafe { self.check_ends(frames, iova, len)? };
        let mut at = self.offset(iova);
        // No overflow: the range was found to be within the input size.
        let (end, mut cleared) = (at + len, 0);
        if self.has_contiguous() {
            // SAFETY: as above.
            unsafe { self.cut_ends(frames, at, end, |_| {}) };
        }
        while at != end {
            // SAFETY: as above; `at` is in the range.
            let (next, bytes) = unsafe { self.clear_run(frames, at, end) };
            (at, cleared) = (next, cleared + bytes);
        }
        Ok(cleared)
    }

    /// Clears from `at` on in the table in which its walk ends, up to that table's end, `end`, or an entry that must
    /// be walked into. Gives where it stopped, which is later than `at`, and the bytes that were mapped.
    ///
    /// # Safety
    /// The contract of [`Table`] for `at..end`, which is not empty and cuts no block.
    unsafe fn clear_run<F: Frames + ?Sized>(&self, frames: &F, at: u64, end: u64) -> (u64, u64) {
        let mut table = self.root();
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `at`. A table is unlinked
            // only by a call whose range covers all it spans, hence `at`: not meanwhile.
            let value = unsafe { self.load(frames, table, at, shift) };
            if !is_table(value) {
                // SAFETY: as above.
                return unsafe { self.clear_blocks(frames, table, shift, at, end) };
            }
            if shift == Geometry::<SHIFT, WIDE>::shift(2) && is_full(value) {
                // SAFETY: as above.
                unsafe { self.open(frames, at) };
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        let room = Geometry::<SHIFT, WIDE>::ENTRIES
            - (self.index(at, SHIFT) & Geometry::<SHIFT, WIDE>::MASK);
        let count = (((end - at) >> SHIFT) as usize).min(room);
        let mut unused = Gather::<4>::sized();
        // SAFETY: the table is on the walk for `at`, and has `room` entries from there on, or ends with the input
        // size, which the range is within.
        let bytes = unsafe { self.clear_pages(frames, table, at, count, 0, &mut unused) };
        (at + ((count as u64) << SHIFT), bytes)
    }

    /// Clears the blocks of `at..end` in `table`, whose entries span `1 << shift` bytes, up to a table in it. The
    /// first entry is no table.
    ///
    /// # Safety
    /// `table` is on the walk for `at`; otherwise as for [`clear_run`](Self::clear_run).
    unsafe fn clear_blocks<F: Frames + ?Sized>(
        &self,
        frames: &F,
        table: PhysAddr,
        shift: u32,
        mut at: u64,
        end: u64,
    ) -> (u64, u64) {
        let mut index = self.index(at, shift);
        // First and last entry that was stored to.
        let mut stored: Option<(usize, usize)> = None;
        let mut bytes = 0;
        loop {
            // SAFETY: the table is live while the range is ours. The index started in the table, and the loop ends
            // where the table or the range does.
            let cell = unsafe { entry(frames, table, index).as_ref() };
            let value = cell.load(Ordering::Acquire);
            if is_table(value) {
                break;
            }
            // A block that is not covered would be left, but the ends were checked.
            if value != 0 && covers(at, shift, at, end) {
                cell.store(0, Ordering::Relaxed);
                bytes += 1 << shift;
                stored = Some((stored.map_or(index, |(first, _)| first), index));
            }
            // No overflow: offsets are below 2^52.
            at = ((at >> shift << shift) + (1 << shift)).min(end);
            index += 1;
            if at == end || index & Geometry::<SHIFT, WIDE>::MASK == 0 {
                break;
            }
        }
        if let Some((first, last)) = stored {
            let here = PhysAddr(table.0 + first as u64 * 8);
            self.publish_cleared(frames, here, (last - first + 1) * 8);
        }
        (at, bytes)
    }
}
