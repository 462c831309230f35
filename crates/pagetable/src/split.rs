// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splitting blocks, so that a range can be unmapped that cuts them (§8.2).
//!
//! A block gives way to a table of leaves that say the same. No translation changes by it, only the size of one, which
//! break-before-make would be needed for at BBML 0: DMA to the rest of the block would fault meanwhile, so there it is
//! refused. At BBML 1 the block is first marked (nT), and what TLBs keep of it invalidated; at BBML 2 the table takes
//! its place at once. In both cases what TLBs keep is invalidated afterwards.
//!
//! Callers with neighbouring parts of one block may split it at the same time. Each exchanges what it found for its
//! table; who comes second finds the other's, and goes on with that. At BBML 1 each has marked the block, and
//! invalidated it, before. Until the first one's invalidation is complete a TLB may still keep the block, for which
//! an invalidation that names the size of a page is of no use: so unmaps of a table that allows splits name none.
//!
//! A TLB may also keep the whole group of contiguous blocks that the block is a member of, and then it takes an
//! invalidation of the group (§8.2). Pages in the block's place know nothing of that group: so it is cut, and
//! invalidated, before the block gives way.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::descriptor::TABLE_OR_PAGE;
use smmuv3_formats::{Iova, PhysAddr};

use crate::contiguous::HAD_HINT;
use crate::error::{RangeError, SplitError};
use crate::gather::{Gather, NON_LEAF};
use crate::geometry::{Geometry, upper_levels};
use crate::leaf::{is_table, kind};
use crate::sync::{install, settle};
use crate::table::entry;
use crate::{Frames, Table};

/// `nT` of a block (§15.3): it is about to be replaced by a table.
const NT: u64 = 1 << 16;

/// A split at work. Dropping it unfinished leaves blocks as they are.
#[must_use = "nothing is split before `next` is called"]
pub struct Split<
    't,
    F: Frames + ?Sized,
    const SHIFT: u32,
    const STAGE: u8,
    const WIDE: bool = false,
> {
    table: &'t Table<SHIFT, STAGE, WIDE>,
    frames: &'t F,
    start: u64,
    end: u64,
    /// The first offset and the log2 of the bytes of the block that was marked, and cut out of its group, and that was
    /// invalidated since. The first block of a table begins where the block did in whose place the table came.
    ready: Option<(u64, u32)>,
}

/// A block that an end of the range cuts.
struct Block {
    /// The table that holds it, and where.
    table: PhysAddr,
    index: usize,
    /// Its first offset.
    first: u64,
    /// log2 of its bytes.
    shift: u32,
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Starts to split the blocks that an end of the `len` bytes from `iova` cuts, so that the range can be unmapped. Holes
    /// are allowed. Translations stay as they are, also when it is not finished.
    ///
    /// # Errors
    /// [`RangeError`].
    ///
    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped.
    pub unsafe fn split<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
    ) -> Result<Split<'t, F, SHIFT, STAGE, WIDE>, RangeError> {
        let end = self.check_range(iova, len)?;
        Ok(Split { table: self, frames, start: self.offset(iova), end, ready: None })
    }

    /// The block that covers `at` and reaches over an end of `start..end`.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range, which holds `at`.
    #[allow(unused_assignments, reason = "the macro's last level has none below")]
    unsafe fn block<F: Frames + ?Sized>(
        &self,
        frames: &F,
        at: u64,
        start: u64,
        end: u64,
    ) -> Option<Block> {
        let mut table = self.root;
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `at`, and can't be
            // unlinked by others meanwhile.
            let value = unsafe { self.load(frames, table, at, shift) };
            if !is_table(value) {
                let (first, index) = (at >> shift << shift, self.index(at, shift));
                let cut = value != 0 && (first < start || end - first < 1 << shift);
                return cut.then_some(Block { table, index, first, shift });
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        None
    }
}

impl<F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8, const WIDE: bool>
    Split<'_, F, SHIFT, STAGE, WIDE>
{
    /// Goes on. `Ok(true)` when the gather holds something to invalidate (not for leaves only, where it says so): do that,
    /// clear it, and call again. `Ok(false)` when all is done.
    ///
    /// # Errors
    /// [`SplitError`]. What was split before stays so; what the gather holds must be invalidated all the same.
    pub fn next<const TABLES: usize>(
        &mut self,
        gather: &mut Gather<TABLES>,
    ) -> Result<bool, SplitError> {
        let Self { table, frames, start, end, .. } = *self;
        for at in [start, end - 1] {
            // SAFETY: the contract of `Table::split` holds as long as `self` lives.
            while let Some(block) = unsafe { table.block(frames, at, start, end) } {
                if !table.splits() {
                    let (block, size) = (table.at(block.first), 1 << block.shift);
                    return Err(SplitError::NotAllowed { block, size });
                }
                if self.step(&block, at, gather)? {
                    return Ok(true);
                }
            }
        }
        Ok(!gather.is_empty())
    }

    /// Takes the next step for a block. Returns whether that has to be invalidated before the next one.
    fn step<const TABLES: usize>(
        &mut self,
        block: &Block,
        at: u64,
        gather: &mut Gather<TABLES>,
    ) -> Result<bool, SplitError> {
        let Self { table, frames, start, end, ready } = *self;
        let here = PhysAddr(block.table.0 + block.index as u64 * 8);
        // SAFETY: the table is live while a part of what it spans is ours, and it has that index.
        let cell = unsafe { entry(frames, block.table, block.index).as_ref() };
        let gathered = |gather: &mut Gather<TABLES>| {
            let (first, last) = (block.first, block.first + (1 << block.shift));
            gather.add(table.at(first).0, table.at(last).0, NON_LEAF);
        };
        let this = Some((block.first, block.shift));
        let mut waits = false;
        if table.has_contiguous() && ready != this {
            // SAFETY: the block is on the walk for `at`, which is in the range.
            let cut = unsafe { table.cut(frames, (block.table, block.shift), at, (start, end)) };
            if let Some(cut) = cut {
                gather.add(table.at(cut.start).0, table.at(cut.end).0, NON_LEAF);
                waits = true;
            }
        }
        let value = cell.load(Ordering::Acquire);
        if is_table(value) {
            settle(value, || frames.publish(here, 8));
            return Ok(false);
        }
        if table.marks_blocks && ready != this {
            // The exchange fails if hardware or a neighbouring caller has changed the block meanwhile: then the step is
            // repeated.
            let new = value | NT;
            table.judge(new, block.first, block.shift);
            if cell.compare_exchange(value, new, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                return Ok(false);
            }
            frames.publish(here, 8);
            gathered(gather);
            waits = true;
        }
        if waits {
            self.ready = this;
            return Ok(true);
        }
        if self.replace(cell, here, block, value)? {
            gathered(gather);
            return Ok(true);
        }
        Ok(false)
    }

    /// Puts a table in the place of a block that was found to be `value`. `false` if it is not that any more.
    fn replace(
        &self,
        cell: &AtomicU64,
        here: PhysAddr,
        block: &Block,
        value: u64,
    ) -> Result<bool, SplitError> {
        let Self { table, frames, .. } = *self;
        let size = Table::<SHIFT, STAGE, WIDE>::granule() as usize;
        let at = table.at(block.first);
        let frame = frames.allocate(size, size).ok_or(SplitError::NoFrames { at })?;
        if !table.reaches(frame, size as u64) {
            // SAFETY: allocated above with these values, and never linked.
            unsafe { frames.free(frame, size, size) };
            let output_bits = table.output_bits();
            return Err(SplitError::FrameBeyondOutput { frame, output_bits });
        }
        let below = block.shift - Geometry::<SHIFT, WIDE>::BITS;
        let output = Geometry::<SHIFT, WIDE>::address(value) >> block.shift << block.shift;
        // The block has lost its hint, and the invalidation of its group was waited for.
        let rest = value & !Geometry::<SHIFT, WIDE>::ADDRESS_BITS & !HAD_HINT & !0b11;
        let rest = rest | kind(below == SHIFT);
        let first = rest | Geometry::<SHIFT, WIDE>::bits(output);
        table.judge_run(first, Geometry::<SHIFT, WIDE>::ENTRIES, block.first, below);
        for nth in 0..Geometry::<SHIFT, WIDE>::ENTRIES {
            let bits = Geometry::<SHIFT, WIDE>::bits(output + ((nth as u64) << below));
            // SAFETY: a table of that many entries, which nobody else knows.
            unsafe { entry(frames, frame, nth).as_ref() }.store(rest | bits, Ordering::Relaxed);
        }
        // The SMMU must see the leaves before the descriptor that points to them.
        frames.publish(frame, size);
        let new = Geometry::<SHIFT, WIDE>::bits(frame.0) | TABLE_OR_PAGE;
        table.judge(new, block.first, block.shift);
        if install(cell, value, new, || frames.publish(here, 8)).is_err() {
            // SAFETY: as above.
            unsafe { frames.free(frame, size, size) };
            return Ok(false);
        }
        Ok(true)
    }
}
