// SPDX-License-Identifier: MIT OR Apache-2.0
//! One page, or one block, in a table that exists: the straight way, which most calls go. It is for tables of lower halves
//! whose first one is of the first level that there can be, works with constants only, and leaves all that is not so,
//! and whatever is wrong, to the general way.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::{Iova, PhysAddr};

use crate::gather::Gather;
use crate::geometry::{Geometry, straight_levels, upper_levels};
use crate::leaf::{is_table, kind};
use crate::map::descriptor;
use crate::sync::SYNCED;
use crate::table::entry;
use crate::{Attributes, FAST, Frames, Table};

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Maps one page, in a table that exists, where nothing is yet: most maps, and less than a third of the
    /// instructions of the general way. `false`, and nothing done, for all else: wrong arguments too.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    #[inline(always)]
    pub(crate) unsafe fn map_page<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        pa: PhysAddr,
        attributes: Attributes,
    ) -> bool {
        if (iova.0 | pa.0) & (Self::granule() - 1) != 0
            || iova.0 >= self.straight_end
            || pa.0 >= self.output_end
        {
            return false;
        }
        let Some(leaf) = self.encoding.short(attributes) else { return false };
        let mut table = self.root();
        straight_levels!(SHIFT, WIDE, shift => {
            // SAFETY: `table` is the root or was linked where `iova` belongs. A table is unlinked only by
            // a call whose range covers all it spans, hence `iova`: not meanwhile.
            let value = unsafe { self.load_straight(frames, table, iova.0, shift) };
            // SYNCED is set in table descriptors only, so this is neither empty nor a block.
            if value & SYNCED == 0 {
                return false;
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        // SAFETY: as above.
        let (cell, here) = unsafe { Self::page_cell(frames, table, iova.0) };
        if cell.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let page = leaf | Geometry::<SHIFT, WIDE>::bits(pa.0) | kind(true);
        self.judge(page, iova.0, SHIFT);
        cell.store(page, Ordering::Relaxed);
        frames.publish(here, 8);
        true
    }

    /// Maps one block, where nothing is yet, in a table that exists. `false`, and nothing done, for all else: wrong
    /// arguments too.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    #[inline(always)]
    pub(crate) unsafe fn map_block<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
    ) -> bool {
        // `len` is compared with the spans of entries below: only a power of two can be equal to one.
        if (iova.0 | pa.0) & len.wrapping_sub(1) != 0
            || iova.0 >= self.straight_end
            || len > self.output_end
            || pa.0 > self.output_end - len
        {
            return false;
        }
        let Some(leaf) = self.encoding.short(attributes) else { return false };
        let mut table = self.root();
        straight_levels!(SHIFT, WIDE, shift => {
            let index = Geometry::<SHIFT, WIDE>::straight_index(iova.0, shift);
            // SAFETY: `table` is the root or was linked where `iova` belongs. A table is unlinked only by
            // a call whose range covers all it spans, hence `iova`: not meanwhile. It has the index, as for `load_straight`.
            let cell = unsafe { entry(frames, table, index).as_ref() };
            let value = cell.load(Ordering::Acquire);
            if Geometry::<SHIFT, WIDE>::has_leaves(shift) && len == 1 << shift {
                if value != 0 {
                    return false;
                }
                let block = leaf | Geometry::<SHIFT, WIDE>::bits(pa.0) | kind(false);
                self.judge(block, iova.0, shift);
                cell.store(block, Ordering::Relaxed);
                frames.publish(descriptor(table, index), 8);
                return true;
            }
            // SYNCED is set in table descriptors only, so this is neither empty nor a block.
            if value & SYNCED == 0 {
                return false;
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        // Reached only if no level has blocks of `len` bytes.
        let _ = table;
        false
    }

    /// Unmaps at once, without a cursor, what is only a part of one level-3 table: most unmaps. Gives the
    /// bytes that were mapped and are not any more; adds to the gather as [`Unmap::next`](crate::Unmap::next) does, though
    /// never a table. `None`, and nothing done, for all that needs [`unmap`](Self::unmap), errors too; without the feature
    /// `fast-paths` that is everything.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap).
    #[inline(always)]
    pub unsafe fn unmap_pages<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
        gather: &mut Gather<TABLES>,
    ) -> Option<u64> {
        if !FAST || len >= Geometry::<SHIFT, WIDE>::SPAN {
            return None;
        }
        // SAFETY: the caller's contract.
        unsafe { self.unmap_at_once(frames, iova, len, gather) }
    }

    /// As [`unmap_pages`](Self::unmap_pages), and also what is all of one block.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap).
    #[inline(always)]
    pub unsafe fn unmap_at_once<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
        gather: &mut Gather<TABLES>,
    ) -> Option<u64> {
        if !FAST {
            return None;
        }
        // SAFETY: the caller's contract.
        if len == Self::granule() && unsafe { self.unmap_page(frames, iova, gather) } {
            return Some(len);
        }
        core::hint::cold_path();
        // SAFETY: as above.
        unsafe { self.unmap_few(frames, iova, len, gather) }
    }

    /// Unmaps one page: the first thing to try where there is just one, in less than half of the instructions. Adds it to the
    /// gather. `false`, and nothing done, where no page is mapped, and for all that needs more:
    /// [`unmap_at_once`](Self::unmap_at_once) or [`unmap`](Self::unmap), errors too.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap).
    #[inline(always)]
    pub unsafe fn unmap_page<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        iova: Iova,
        gather: &mut Gather<TABLES>,
    ) -> bool {
        // SAFETY: the caller's contract.
        let Some(table) = (unsafe { self.page_table(frames, iova) }) else { return false };
        // SAFETY: as above.
        unsafe { self.clear_page(frames, table, iova, gather) }
    }

    /// The level-3 table for a page, if leaves of it may be cleared at once; `None` for wrong addresses too.
    ///
    /// # Safety
    /// The contract of [`Table`] for the page.
    #[inline(always)]
    pub(crate) unsafe fn page_table<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
    ) -> Option<PhysAddr> {
        if iova.0 & (Self::granule() - 1) != 0 || iova.0 >= self.straight_end {
            return None;
        }
        let mut table = self.root();
        straight_levels!(SHIFT, WIDE, shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `iova`, and can't
            // be unlinked by others meanwhile.
            let value = unsafe { self.load_straight(frames, table, iova.0, shift) };
            // Table descriptors have SYNCED, or FULL in its place, which only those of level-3 tables can have: a full
            // one takes the general way.
            let leads = if shift == Geometry::<SHIFT, WIDE>::shift(2) {
                value & SYNCED != 0
            } else {
                is_table(value)
            };
            if !leads {
                return None;
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        Some(table)
    }

    /// Unmaps the page at `iova`, and gathers it. False, and nothing done, if it was not mapped, or takes more than
    /// that.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap), and [`page_table`](Self::page_table) gave the table.
    #[inline(always)]
    pub(crate) unsafe fn clear_page<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        table: PhysAddr,
        iova: Iova,
        gather: &mut Gather<TABLES>,
    ) -> bool {
        // SAFETY: the table is live while the page is ours.
        let (cell, here) = unsafe { Self::page_cell(frames, table, iova.0) };
        let leaf = cell.load(Ordering::Relaxed);
        if leaf == 0 || leaf & self.special != 0 {
            return false;
        }
        cell.store(0, Ordering::Relaxed);
        gather.add(iova.0, iova.0 + Self::granule(), Self::granule());
        self.publish_cleared(frames, here, 8);
        true
    }

    /// The table with the block that is all of the range, in a lower half; `None` for other ranges, and where blocks need more
    /// care.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range.
    #[inline(always)]
    pub(crate) unsafe fn whole_block<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
    ) -> Option<PhysAddr> {
        if !len.is_power_of_two()
            || iova.0 & (len - 1) != 0
            || iova.0 >= self.straight_end && iova.0 >= self.direct_end()
            || !self.unmaps_parts
        {
            return None;
        }
        let mut table = self.root();
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `iova`, and can't
            // be unlinked by others meanwhile.
            let value = unsafe { self.load(frames, table, iova.0, shift) };
            if len == 1 << shift {
                return (value != 0 && !is_table(value)).then_some(table);
            }
            if !is_table(value) {
                return None;
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        // Reached only if no level has blocks of `len` bytes.
        let _ = table;
        None
    }

    /// Unmaps the block in `table` that is all of the range; gives its bytes.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap), and [`whole_block`](Self::whole_block) gave the table.
    #[inline]
    pub(crate) unsafe fn clear_block<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        table: PhysAddr,
        (at, end): (u64, u64),
        gather: &mut Gather<TABLES>,
    ) -> u64 {
        let index = self.index(at, (end - at).trailing_zeros());
        // SAFETY: the table has the index of all addresses that are walked through it, and is live while the range
        // is ours.
        unsafe { entry(frames, table, index).as_ref() }.store(0, Ordering::Relaxed);
        gather.add(at, end, end - at);
        self.publish_cleared(frames, PhysAddr(table.0 + index as u64 * 8), 8);
        end - at
    }

    /// The descriptor for `address` in its level-3 table, and where it is.
    ///
    /// # Safety
    /// As for [`load_straight`](Self::load_straight). The reference may be used for as long as the table is live.
    #[inline(always)]
    pub(crate) unsafe fn page_cell<'a, F: Frames + ?Sized>(
        frames: &F,
        table: PhysAddr,
        address: u64,
    ) -> (&'a AtomicU64, PhysAddr) {
        let index = Geometry::<SHIFT, WIDE>::straight_index(address, SHIFT);
        let here = PhysAddr(table.0 + index as u64 * 8);
        // SAFETY: the table is live, and a full one, which has every index: the pointer is to its inside, and aligned
        // as that is.
        (unsafe { frames.pointer(here).cast::<AtomicU64>().as_ref() }, here)
    }
}
