// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unmapping: a cursor that clears runs of leaves and unlinks tables that lie wholly in the range.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::{Iova, PhysAddr};

use crate::ends::{Place, covers};
use crate::error::UnmapError;
use crate::gather::{Detached, Gather};
use crate::geometry::{Geometry, upper_levels};
use crate::leaf::is_table;
use crate::map::descriptor;
use crate::sync::{is_full, open};
use crate::table::entry;
use crate::{FAST, Frames, Table};

/// An unmap at work. Dropping it unfinished leaves the rest of the range mapped; what was gathered must be
/// invalidated all the same.
#[must_use = "nothing is unmapped before `next` is called"]
pub struct Unmap<'t, F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8, const WIDE: bool> {
    table: &'t Table<SHIFT, STAGE, WIDE>,
    frames: &'t F,
    /// The level-3 table that the whole range lies in, or the table whose one block is the range; `None` once that is
    /// done, and for all other ranges.
    only: Option<PhysAddr>,
    at: u64,
    end: u64,
    /// The place at which the walk for `at` has ended, if that is known.
    found: Option<Place>,
    unmapped: u64,
    /// Whether `take_leaves` has unmapped the leaves already.
    taken: bool,
}

/// The fields of a new [`Unmap`] that depend on what the tables hold.
struct Start {
    at: u64,
    end: u64,
    only: Option<PhysAddr>,
    found: Option<Place>,
}

/// What a walk finds for a range that may be a part of one level-3 table. If it is, no table is to be unlinked, and one
/// walk sees both ends.
enum Found {
    /// The level-3 table of which the range is a part.
    Pages(PhysAddr),
    /// No table, so no mapping.
    Nothing,
    /// A block of `1 << shift` bytes, larger than the range.
    Block(u32),
    /// The range is larger, or wrong.
    More,
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Starts to unmap `len` bytes from `iova`; holes are allowed. A table whose whole span is in the range
    /// is unlinked, whatever it holds. Where an end of the range cuts a group of contiguous leaves, the gather has all of
    /// that group.
    ///
    /// # Errors
    /// [`UnmapError`], before anything is stored.
    ///
    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped. The memory that was mapped may only be used
    /// for something else when what the cursor gathered has been invalidated.
    #[inline]
    pub unsafe fn unmap<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
    ) -> Result<Unmap<'t, F, SHIFT, STAGE, WIDE>, UnmapError> {
        let page = if FAST && len == Self::granule() && self.unmaps_parts {
            // SAFETY: the caller's contract.
            unsafe { self.page_table(frames, iova) }
        } else {
            None
        };
        let Start { at, end, only, found } = match page {
            Some(_) => Start { at: iova.0, end: iova.0 + len, only: page, found: None },
            // SAFETY: as above.
            None => unsafe { self.start(frames, iova, len) }?,
        };
        Ok(Unmap { table: self, frames, only, at, end, found, unmapped: 0, taken: false })
    }

    /// How an unmap of any range starts.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap).
    #[cfg_attr(feature = "fast-paths", inline(never))]
    unsafe fn start<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
    ) -> Result<Start, UnmapError> {
        // May wrap for a wrong range, for which it is not used.
        let end = iova.0.wrapping_add(len);
        // SAFETY: the caller's contract.
        let found = if FAST { unsafe { self.find(frames, iova, len) } } else { Found::More };
        let (at, end, only, found) = match found {
            Found::Pages(table) => (iova.0, end, Some(table), None),
            Found::Nothing => (end, end, None, None),
            Found::Block(shift) => return Err(self.straddle(iova.0, shift)),
            Found::More => {
                let block = match FAST {
                    // SAFETY: as above.
                    true => unsafe { self.whole_block(frames, iova, len) },
                    false => None,
                };
                if let Some(table) = block {
                    (iova.0, end, Some(table), None)
                } else {
                    // SAFETY: as above.
                    let first = unsafe { self.check_ends(frames, iova, len) }?;
                    (self.offset(iova), self.offset(Iova(end)), None, Some(first).filter(|_| FAST))
                }
            }
        };
        Ok(Start { at, end, only, found })
    }

    /// The rest of [`unmap_at_once`](Self::unmap_at_once), for more than a single page.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap).
    #[inline(never)]
    pub(crate) unsafe fn unmap_few<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
        gather: &mut Gather<TABLES>,
    ) -> Option<u64> {
        if len >= Geometry::<SHIFT, WIDE>::SPAN {
            // SAFETY: the caller's contract.
            let table = unsafe { self.whole_block(frames, iova, len) }?;
            // SAFETY: as above.
            return Some(unsafe {
                self.clear_block(frames, table, (iova.0, iova.0 + len), gather)
            });
        }
        // SAFETY: the caller's contract.
        match unsafe { self.find(frames, iova, len) } {
            // SAFETY: the table spans all of the range, and the caller's contract.
            Found::Pages(table) => Some(unsafe {
                self.clear_pages(frames, table, iova.0, (len >> SHIFT) as usize, 0, gather)
            }),
            Found::Nothing => Some(0),
            Found::Block(_) | Found::More => None,
        }
    }

    /// Looks for the level-3 table of which the range is a part.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range.
    #[inline(always)]
    unsafe fn find<F: Frames + ?Sized>(&self, frames: &F, iova: Iova, len: u64) -> Found {
        if !self.unmaps_parts || self.within_a_table(iova, len, 0).is_none() {
            return Found::More;
        }
        let mut table = self.root();
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `iova`, and can't
            // be unlinked by others meanwhile.
            let value = unsafe { self.load(frames, table, iova.0, shift) };
            if !is_table(value) {
                return if value == 0 { Found::Nothing } else { Found::Block(shift) };
            }
            if shift == Geometry::<SHIFT, WIDE>::shift(2) && is_full(value) {
                // SAFETY: as above.
                unsafe { self.open(frames, iova.0) };
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        Found::Pages(table)
    }
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Takes the mark [`FULL`] from the descriptor of the level-3 table for `at`.
    ///
    /// # Safety
    /// The contract of [`Table`] for `at`.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn open<F: Frames + ?Sized>(&self, frames: &F, at: u64) {
        let mut table = self.root();
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `at`, and can't be
            // unlinked by others meanwhile.
            let cell = unsafe { entry(frames, table, self.index(at, shift)).as_ref() };
            let value = cell.load(Ordering::Acquire);
            if !is_table(value) {
                return;
            }
            open(cell, value);
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        let _ = table;
    }
}

impl<F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8, const WIDE: bool>
    Unmap<'_, F, SHIFT, STAGE, WIDE>
{
    /// Goes on until the range is done or the gather is full. `true` when the gather holds something to
    /// invalidate: do that, free its tables, clear it, and call again. `false` when all is done.
    ///
    /// A gather that is not cleared between calls is added to; once it is full nothing more is unlinked.
    #[inline]
    pub fn next<const TABLES: usize>(&mut self, gather: &mut Gather<TABLES>) -> bool {
        if let Some(table) = self.only.take().filter(|_| FAST) {
            self.next_at_once(table, gather);
        } else if self.at != self.end {
            self.next_step(gather);
        }
        !gather.is_empty()
    }

    /// Unmaps the whole range, which lies in `table`.
    #[inline(never)]
    fn next_at_once<const TABLES: usize>(&mut self, table: PhysAddr, gather: &mut Gather<TABLES>) {
        let Self { at, end, .. } = *self;
        self.at = end;
        let count = ((end - at) >> SHIFT) as usize;
        self.unmapped += if count == 1
            && at < self.table.straight_end
            // SAFETY: `unmap` found this table on the walk for the page, which is ours as long as the cursor lives.
            && unsafe { self.table.clear_page(self.frames, table, Iova(at), gather) }
        {
            Table::<SHIFT, STAGE, WIDE>::granule()
        } else if count < Geometry::<SHIFT, WIDE>::ENTRIES {
            // SAFETY: `unmap` found this table on the walk for the range, all of which it spans, and the
            // range is ours as long as the cursor lives.
            unsafe { self.table.clear_pages(self.frames, table, at, count, 0, gather) }
        } else {
            // SAFETY: as above; that is the size of a block or more, and never of what is a part of a table.
            unsafe { self.table.clear_block(self.frames, table, (at, end), gather) }
        };
    }

    /// Goes on as far as the gather has room.
    #[cfg_attr(feature = "fast-paths", inline(never))]
    fn next_step<const TABLES: usize>(&mut self, gather: &mut Gather<TABLES>) {
        let Self { table, frames, at, end, .. } = *self;
        if table.splits() {
            gather.name_no_size();
        }
        if table.has_contiguous() {
            // SAFETY: the contract of `Table::unmap` holds as long as `self` lives.
            unsafe { table.gather_cuts(frames, at, end, gather) };
        }
        // SAFETY: as above.
        let (at, bytes) = unsafe { table.unmap_on(frames, at, end, self.found.take(), gather) };
        self.at = at;
        self.unmapped += bytes;
    }

    /// Unmaps all leaves that are left, once, and reports those that are dirty.
    pub(crate) fn take_leaves<const TABLES: usize>(
        &mut self,
        gather: &mut Gather<TABLES>,
        report: impl FnMut(Iova, u64),
    ) {
        let Self { table, frames, at, end, .. } = *self;
        if self.taken || at == end {
            return;
        }
        self.taken = true;
        // `next` only has to unlink tables from here on.
        self.only = None;
        if table.splits() {
            gather.name_no_size();
        }
        if table.has_contiguous() {
            // SAFETY: the contract of `Table::unmap` holds as long as `self` lives.
            unsafe { table.gather_cuts(frames, at, end, gather) };
        }
        // SAFETY: as above; neither a block nor, now, a group is cut.
        self.unmapped += unsafe { table.take(frames, at, end, gather, report) };
    }

    /// Bytes that were mapped and are not any more.
    #[inline]
    pub const fn unmapped(&self) -> u64 {
        self.unmapped
    }

    /// Whether the whole range has been dealt with (if not invalidated).
    #[inline]
    pub const fn is_done(&self) -> bool {
        self.at == self.end
    }
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Goes on with an unmap of `at..end` until it is done or the gather is full; `found` is the place of
    /// `at`, where that is known. Gives where it stopped, and the bytes that were mapped.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range.
    #[cfg_attr(feature = "fast-paths", inline(never))]
    unsafe fn unmap_on<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        mut at: u64,
        end: u64,
        mut found: Option<Place>,
        gather: &mut Gather<TABLES>,
    ) -> (u64, u64) {
        let mut unmapped = 0;
        while at != end {
            let place = match found.take() {
                Some(place) => place,
                // SAFETY: the caller's contract; `at` is in the range.
                None => unsafe { self.place(frames, at, at, end) }.0,
            };
            let begun = at;
            if FAST && place.full {
                // SAFETY: the caller's contract.
                unsafe { self.open(frames, at) };
            }
            if FAST && place.shift == SHIFT {
                let index = self.index(at, SHIFT);
                let room =
                    Geometry::<SHIFT, WIDE>::ENTRIES - (index & Geometry::<SHIFT, WIDE>::MASK);
                let count = (((end - at) >> SHIFT) as usize).min(room);
                // SAFETY: the table is on the walk for `at`, and has `room` entries from there on, or ends
                // with the input size, which the range is within.
                let base = self.base_offset();
                // SAFETY: as above.
                unmapped +=
                    unsafe { self.clear_pages(frames, place.table, at, count, base, gather) };
                at += (count as u64) << SHIFT;
            } else {
                // SAFETY: the table is on the walk for `at`.
                let (next, bytes) = unsafe { self.clear_entries(frames, place, at, end, gather) };
                (at, unmapped) = (next, unmapped + bytes);
            }
            // No progress: the gather has no room for a table.
            if at == begun {
                break;
            }
        }
        (at, unmapped)
    }

    /// Clears `count` pages from `at` on in `table`; gives the bytes that were mapped. `base` is that of the half.
    ///
    /// # Safety
    /// `table` is the level-3 table on the walk for `at`, and has `count` entries from there on, in a range
    /// for which the contract of [`Table`] holds.
    #[inline(always)]
    pub(crate) unsafe fn clear_pages<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        table: PhysAddr,
        at: u64,
        count: usize,
        base: u64,
        gather: &mut Gather<TABLES>,
    ) -> u64 {
        let index = self.index(at, SHIFT);
        // SAFETY: the table is live: it can't be unlinked by others while the range is ours.
        let cells = unsafe { entry(frames, table, index) };
        let bytes = (count as u64) << SHIFT;
        let mut cleared = Cleared { start: at, end: at + bytes, bytes };
        // The fast way for runs without holes, which need not be counted. SAFETY: the caller's promise.
        let solid = if FAST { unsafe { clear_solid(cells, count) } } else { 0 };
        if solid != count {
            // SAFETY: the caller's promise, for the entries left.
            cleared = unsafe { clear_sparse::<SHIFT>(cells, at, solid, count) };
        }
        let Cleared { start, end, bytes } = cleared;
        if bytes != 0 {
            gather.add(base.wrapping_add(start), base.wrapping_add(end), 1 << SHIFT);
            let first = PhysAddr(table.0 + self.index(start, SHIFT) as u64 * 8);
            self.publish_cleared(frames, first, ((end - start) >> SHIFT) as usize * 8);
        }
        bytes
    }

    /// Clears leaves and unlinks tables of `at..end` in the table at `place`, up to an entry that must be walked
    /// into, the table's end, or a table for which the gather has no room. Gives where it stopped, and the bytes
    /// that were mapped.
    ///
    /// # Safety
    /// `place` is on the walk for `at`, and the contract of [`Table`] holds for the range.
    unsafe fn clear_entries<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        place: Place,
        mut at: u64,
        end: u64,
        gather: &mut Gather<TABLES>,
    ) -> (u64, u64) {
        let Place { table, shift, .. } = place;
        let size = 1_u64 << shift;
        // From the first to the last entry that was stored to.
        let mut stored: Option<(u64, u64)> = None;
        let (mut unmapped, mut sizes) = (0, 0);
        let mut index = self.index(at, shift);
        loop {
            // SAFETY: the table is live while the range is ours. The index started in the table, and the
            // loop ends where the table or the range does.
            let cell = unsafe { entry(frames, table, index).as_ref() };
            let value = cell.load(Ordering::Acquire);
            let start = at >> shift << shift;
            let leads = shift != SHIFT && is_table(value);
            // Holes are passed over. A leaf that is not covered would be as well, but the ends were checked.
            if value != 0 && covers(at, shift, at, end) {
                let mut found = (size, size);
                if leads {
                    if gather.is_full() {
                        break;
                    }
                    let below = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
                    let span = shift - Geometry::<SHIFT, WIDE>::BITS;
                    gather.push_table(Detached::new(below, span, (SHIFT, WIDE)));
                    // SAFETY: the table's span is in the range, so that only this call may use it; it is
                    // freed later, out of the gather.
                    found = unsafe { contents::<F, SHIFT, WIDE>(frames, value, shift) };
                }
                cell.store(0, Ordering::Relaxed);
                (unmapped, sizes) = (unmapped + found.0, sizes | found.1);
                stored = Some((stored.map_or(start, |(first, _)| first), start + size));
            } else if leads {
                // This table is only partly in the range: it has to be walked into.
                break;
            }
            // No overflow: offsets are below 2^52.
            at = (start + size).min(end);
            index += 1;
            if at == end || index & Geometry::<SHIFT, WIDE>::MASK == 0 {
                break;
            }
        }
        if let Some((start, end)) = stored {
            gather.add(self.at(start).0, self.at(end).0, sizes);
            let here = descriptor(table, self.index(start, shift));
            self.publish_cleared(frames, here, ((end - start) >> shift) as usize * 8);
        }
        (at, unmapped)
    }

    /// Lets hardware see descriptors that were cleared.
    #[inline(always)]
    pub(crate) fn publish_cleared<F: Frames + ?Sized>(
        &self,
        frames: &F,
        here: PhysAddr,
        bytes: usize,
    ) {
        #[cfg(feature = "mutation")]
        if self.wrong == Some(crate::Wrong::Unpublished) {
            return;
        }
        frames.publish(here, bytes);
    }
}

/// Pages that were cleared.
struct Cleared {
    /// The pages that were cleared lie in `start..end`.
    start: u64,
    end: u64,
    bytes: u64,
}

/// Descriptors that are looked at together, before any is cleared.
const CHUNK: usize = 8;

/// Clears pages whose descriptors begin at `cells`, up to `count` of them or to a hole. Gives how many.
///
/// # Safety
/// The descriptors are in one live table, and the caller has their addresses to itself.
#[inline(never)]
unsafe fn clear_solid(cells: NonNull<AtomicU64>, count: usize) -> usize {
    let mut cleared = 0;
    // SAFETY: the caller's promise; it is called for less than `count`.
    let cell = |nth| unsafe { cells.add(nth).as_ref() };
    // The range is the caller's alone: what was found mapped stays so.
    while count - cleared >= CHUNK {
        let load = |nth| cell(cleared + nth).load(Ordering::Relaxed);
        // Bit 0 is set in every page's descriptor.
        if (0..CHUNK).fold(1, |all, nth| all & load(nth)) == 0 {
            break;
        }
        (0..CHUNK).for_each(|nth| cell(cleared + nth).store(0, Ordering::Relaxed));
        cleared += CHUNK;
    }
    while cleared != count && cell(cleared).load(Ordering::Relaxed) != 0 {
        cell(cleared).store(0, Ordering::Relaxed);
        cleared += 1;
    }
    cleared
}

/// Clears what is left of `count` pages from `at` on, whose descriptors begin at `cells`. The first `solid`
/// are cleared already.
///
/// # Safety
/// The descriptors are in one live table, and the caller has their addresses to itself.
#[cold]
#[inline(never)]
unsafe fn clear_sparse<const SHIFT: u32>(
    cells: NonNull<AtomicU64>,
    at: u64,
    solid: usize,
    count: usize,
) -> Cleared {
    let bytes = |pages: usize| (pages as u64) << SHIFT;
    let mut cleared = Cleared { start: at, end: at + bytes(solid), bytes: bytes(solid) };
    for i in solid..count {
        // SAFETY: the caller's promise.
        let cell = unsafe { cells.add(i).as_ref() };
        if cell.load(Ordering::Relaxed) != 0 {
            cell.store(0, Ordering::Relaxed);
            if cleared.bytes == 0 {
                cleared.start = at + bytes(i);
            }
            cleared.bytes += bytes(1);
            cleared.end = at + bytes(i + 1);
        }
    }
    cleared
}

/// How many bytes are mapped by all that hangs below `descriptor`, of a table, which spans `1 << shift` bytes; and the union
/// of the sizes of its leaves.
///
/// # Safety
/// As for [`survey`], of the table that it points to.
#[inline(always)]
unsafe fn contents<F: Frames + ?Sized, const SHIFT: u32, const WIDE: bool>(
    frames: &F,
    descriptor: u64,
    shift: u32,
) -> (u64, u64) {
    if is_full(descriptor) {
        return (1 << shift, 1 << SHIFT);
    }
    let below = PhysAddr(Geometry::<SHIFT, WIDE>::address(descriptor));
    // SAFETY: the caller's promise.
    unsafe { survey::<F, SHIFT, WIDE>(frames, below, shift - Geometry::<SHIFT, WIDE>::BITS) }
}

/// How many bytes the leaves of a table and all below it map, and the union of their sizes.
///
/// # Safety
/// The table is live, is a full one whose entries span `1 << shift` bytes, and no other thread stores to
/// it or to tables below.
unsafe fn survey<F: Frames + ?Sized, const SHIFT: u32, const WIDE: bool>(
    frames: &F,
    table: PhysAddr,
    shift: u32,
) -> (u64, u64) {
    let entries = Geometry::<SHIFT, WIDE>::ENTRIES;
    // SAFETY: the caller says that the table is live.
    let cells = unsafe { entry(frames, table, 0) };
    // SAFETY: a full table has that many entries. Hardware may still mark them (§14).
    let cells = unsafe { core::slice::from_raw_parts(cells.as_ptr(), entries) };
    let values = cells.iter().map(|cell| cell.load(Ordering::Relaxed));
    if FAST && shift == SHIFT {
        let bytes = values.map(|value| u64::from(value != 0)).sum::<u64>() << SHIFT;
        return (bytes, if bytes == 0 { 0 } else { 1 << SHIFT });
    }
    let (mut bytes, mut sizes) = (0, 0);
    for value in values {
        if shift != SHIFT && is_table(value) {
            // SAFETY: live, as the table that points to it is; all it spans is the caller's.
            let (b, s) = unsafe { contents::<F, SHIFT, WIDE>(frames, value, shift) };
            bytes += b;
            sizes |= s;
        } else if value != 0 {
            bytes += 1 << shift;
            sizes |= 1 << shift;
        }
    }
    (bytes, sizes)
}
