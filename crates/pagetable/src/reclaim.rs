// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reclaiming: unlinks tables that became empty. Mappings stay.

use core::sync::atomic::Ordering;

use smmuv3_formats::{Iova, PhysAddr};

use crate::ends::covers;
use crate::error::RangeError;
use crate::gather::{Detached, Gather};
use crate::geometry::Geometry;
use crate::leaf::is_table;
use crate::table::entry;
use crate::{Frames, Table};

/// A reclaim at work; used as [`Unmap`](crate::Unmap) is.
#[must_use = "nothing is reclaimed before `next` is called"]
pub struct Reclaim<'t, F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8, const WIDE: bool> {
    table: &'t Table<SHIFT, STAGE, WIDE>,
    frames: &'t F,
    start: u64,
    at: u64,
    end: u64,
    reclaimed: u64,
}

/// Tables that one step may unlink: one of each level below the first.
const STEP: usize = 4;

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Starts to unlink the empty tables that lie wholly in the `len` bytes from `iova`. The first table
    /// is never one of them.
    ///
    /// # Errors
    /// [`RangeError`], before anything is stored.
    ///
    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped.
    pub unsafe fn reclaim<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
    ) -> Result<Reclaim<'t, F, SHIFT, STAGE, WIDE>, RangeError> {
        let end = self.check_range(iova, len)?;
        let start = self.offset(iova);
        Ok(Reclaim { table: self, frames, start, at: start, end, reclaimed: 0 })
    }
}

impl<F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8, const WIDE: bool>
    Reclaim<'_, F, SHIFT, STAGE, WIDE>
{
    /// Goes on until the range is done or the gather is full. `true` when the gather holds something to
    /// invalidate: do that, free its tables, clear it, and call again. `false` when all is done.
    pub fn next<const TABLES: usize>(&mut self, gather: &mut Gather<TABLES>) -> bool {
        while self.at != self.end && gather.room() >= STEP {
            self.step(gather);
        }
        !gather.is_empty()
    }

    /// Tables unlinked so far.
    pub const fn reclaimed(&self) -> u64 {
        self.reclaimed
    }

    /// Walks to `at`, unlinks from the bottom up the tables that end there, and moves on. A table is
    /// looked at once, when the last entry below it has been dealt with.
    fn step<const TABLES: usize>(&mut self, gather: &mut Gather<TABLES>) {
        // The entries on the way to `at`, first table first: {table, index}.
        let mut path = [(PhysAddr(0), 0_usize); 5];
        let mut depth = 0;
        let mut shift = self.table.root_shift();
        let mut table = self.table.root();
        let mut index = self.table.index(self.at, shift);
        loop {
            path[depth] = (table, index);
            if shift == SHIFT {
                break;
            }
            // SAFETY: the root, or read from its parent's descriptor for `at`; nobody else unlinks it while
            // the range is ours. The index is masked, or bounded by the input size.
            let value =
                unsafe { entry(self.frames, table, index).as_ref() }.load(Ordering::Acquire);
            if !is_table(value) {
                break;
            }
            // At most four times: the root is of level -1 or later.
            depth += 1;
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
            shift -= Geometry::<SHIFT, WIDE>::BITS;
            index = self.table.index(self.at, shift);
        }
        let here = self.at;
        // A level-3 table is looked at as a whole, others entry by entry.
        let done = if shift == SHIFT { SHIFT + Geometry::<SHIFT, WIDE>::BITS } else { shift };
        self.at = (((here >> done) + 1) << done).min(self.end);
        while depth > 0 {
            // Span of the table at `path[depth]`: that of its parent's entry.
            shift += Geometry::<SHIFT, WIDE>::BITS;
            let ends_here = self.at & ((1 << shift) - 1) == 0;
            if !ends_here || !covers(here, shift, self.start, self.end) {
                break;
            }
            let (table, _) = path[depth];
            // SAFETY: live, full, and all its span is ours.
            if !unsafe { is_unused::<F, SHIFT, WIDE>(self.frames, table) } {
                break;
            }
            depth -= 1;
            self.unlink(path[depth], here, shift, table, gather);
        }
    }

    /// Unlinks `table`, to which the entry `parent`, spanning `1 << shift` bytes around `at`, points.
    fn unlink<const TABLES: usize>(
        &mut self,
        (parent, index): (PhysAddr, usize),
        at: u64,
        shift: u32,
        table: PhysAddr,
        gather: &mut Gather<TABLES>,
    ) {
        // SAFETY: on the path of `step`, so live and with that index.
        unsafe { entry(self.frames, parent, index).as_ref() }.store(0, Ordering::Relaxed);
        self.frames.publish(PhysAddr(parent.0 + index as u64 * 8), 8);
        let first = at >> shift << shift;
        gather.add(self.table.at(first).0, self.table.at(first + (1 << shift)).0, 0);
        let span = shift - Geometry::<SHIFT, WIDE>::BITS;
        gather.push_table(Detached::new(table, span, (SHIFT, WIDE)));
        self.reclaimed += 1;
    }
}

/// Whether every descriptor of a table below the first is empty.
///
/// # Safety
/// The table is live, and full.
unsafe fn is_unused<F: Frames + ?Sized, const SHIFT: u32, const WIDE: bool>(
    frames: &F,
    table: PhysAddr,
) -> bool {
    (0..Geometry::<SHIFT, WIDE>::ENTRIES).all(|index| {
        // SAFETY: the caller's promise; the index is below the number of entries.
        unsafe { entry(frames, table, index).as_ref() }.load(Ordering::Relaxed) == 0
    })
}
