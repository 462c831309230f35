// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unmapping: a cursor that clears runs of leaves and unlinks tables that lie wholly in the range.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::{Iova, PhysAddr};

use crate::error::UnmapError;
use crate::gather::{Detached, Gather};
use crate::geometry::{Geometry, upper_levels};
use crate::leaf::is_table;
use crate::table::entry;
use crate::{Frames, Table};

/// An unmap at work. Dropping it unfinished leaves the rest of the range mapped; what was gathered must be
/// invalidated all the same.
#[must_use = "nothing is unmapped before `next` is called"]
pub struct Unmap<'t, F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8> {
    table: &'t Table<SHIFT, STAGE>,
    frames: &'t F,
    at: u64,
    end: u64,
    /// Where the walk for `at` ended, when that is known.
    found: Option<Place>,
    unmapped: u64,
}

/// The table in which a walk for a range ends: at a leaf, an empty entry, or a table wholly in the range.
#[derive(Clone, Copy)]
struct Place {
    table: PhysAddr,
    /// log2 of the span of an entry of `table`.
    shift: u32,
}

impl<const SHIFT: u32, const STAGE: u8> Table<SHIFT, STAGE> {
    /// Starts to unmap `len` bytes from `iova`; holes are allowed. A table whose whole span is in the range
    /// is unlinked, whatever it holds.
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
    ) -> Result<Unmap<'t, F, SHIFT, STAGE>, UnmapError> {
        let end = self.check_range(iova, len)?;
        let span = Geometry::<SHIFT>::shift(2);
        let mut at = iova.0;
        let found = if len < 1 << span && (iova.0 ^ (end - 1)) >> span == 0 {
            // A part of one level-3 table: there is nothing to unlink, and one walk sees both ends.
            let mut table = self.root();
            'walk: {
                upper_levels!(SHIFT, shift => {
                    if self.root_shift() >= shift {
                        // SAFETY: `table` is the root or was read from its parent's descriptor for `at`,
                        // and can't be unlinked by others meanwhile.
                        let value = unsafe { self.load(frames, table, at, shift) };
                        if !is_table(value) {
                            if value != 0 {
                                return Err(straddle(at, shift));
                            }
                            at = end;
                            break 'walk None;
                        }
                        table = PhysAddr(value & Geometry::<SHIFT>::ADDRESS);
                    }
                });
                Some(Place { table, shift: SHIFT })
            }
        } else {
            // SAFETY: the caller's contract.
            Some(unsafe { self.check_ends(frames, at, end) }?)
        };
        Ok(Unmap { table: self, frames, at, end, found, unmapped: 0 })
    }

    /// Refuses a block that reaches over an end of the range. Gives the place of its start.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range.
    #[inline(never)]
    unsafe fn check_ends<F: Frames + ?Sized>(
        &self,
        frames: &F,
        start: u64,
        end: u64,
    ) -> Result<Place, UnmapError> {
        // SAFETY: the caller's contract, for this and the next.
        let (first, value) = unsafe { self.place(frames, start, start, end) };
        refuse_straddle::<SHIFT>(first, value, start, start, end)?;
        // SAFETY: as above.
        let (last, value) = unsafe { self.place(frames, end - 1, start, end) };
        refuse_straddle::<SHIFT>(last, value, end - 1, start, end)?;
        Ok(first)
    }

    /// Walks to the place of `at` for an unmap of `start..end`; gives what is there, too.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range, which holds `at`.
    #[inline(always)]
    unsafe fn place<F: Frames + ?Sized>(
        &self,
        frames: &F,
        at: u64,
        start: u64,
        end: u64,
    ) -> (Place, u64) {
        let mut shift = self.root_shift();
        let mut table = self.root();
        loop {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `at`, and can't be
            // unlinked by others meanwhile.
            let value = unsafe { self.load(frames, table, at, shift) };
            if shift == SHIFT || !is_table(value) || covers(at, shift, start, end) {
                return (Place { table, shift }, value);
            }
            table = PhysAddr(value & Geometry::<SHIFT>::ADDRESS);
            shift -= Geometry::<SHIFT>::BITS;
        }
    }
}

/// Whether `start..end` holds all that the entry for `at` spans.
#[inline(always)]
pub(crate) const fn covers(at: u64, shift: u32, start: u64, end: u64) -> bool {
    let first = at >> shift << shift;
    first >= start && end - first >= 1 << shift
}

/// An error if `value`, at the place of `at`, is a leaf that reaches beyond `start..end`.
fn refuse_straddle<const SHIFT: u32>(
    place: Place,
    value: u64,
    at: u64,
    start: u64,
    end: u64,
) -> Result<(), UnmapError> {
    // A page can't: the range is aligned. A table at its place is within the range.
    if place.shift == SHIFT || value == 0 || covers(at, place.shift, start, end) {
        return Ok(());
    }
    Err(straddle(at, place.shift))
}

/// The block of `1 << shift` bytes around `at` is in the way.
#[cold]
const fn straddle(at: u64, shift: u32) -> UnmapError {
    UnmapError::Straddle { block: Iova(at >> shift << shift), size: 1 << shift }
}

impl<F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8> Unmap<'_, F, SHIFT, STAGE> {
    /// Goes on until the range is done or the gather is full. `true` when the gather holds something to
    /// invalidate: do that, free its tables, clear it, and call again. `false` when all is done.
    ///
    /// A gather that is not cleared between calls is added to; once it is full nothing more is unlinked.
    #[inline]
    pub fn next<const TABLES: usize>(&mut self, gather: &mut Gather<TABLES>) -> bool {
        if let Some(Place { table, shift }) = self.found
            && shift == SHIFT
        {
            self.found = None;
            self.clear_pages(table, gather);
        }
        if self.at != self.end {
            self.rest(gather);
        }
        !gather.is_empty()
    }

    /// [`next`](Self::next) for ranges of more than one table.
    #[inline(never)]
    fn rest<const TABLES: usize>(&mut self, gather: &mut Gather<TABLES>) {
        while self.at != self.end {
            let place = match self.found.take() {
                Some(place) => place,
                // SAFETY: the contract of `Table::unmap` holds as long as `self` lives; `at` is in the
                // range.
                None => unsafe { self.table.place(self.frames, self.at, self.at, self.end) }.0,
            };
            if place.shift == SHIFT {
                self.clear_pages(place.table, gather);
            } else if !self.clear_entries(place, gather) {
                break;
            }
        }
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

    /// Clears the pages of the range in `table`, the level-3 table on the walk for `at`.
    #[inline(always)]
    fn clear_pages<const TABLES: usize>(&mut self, table: PhysAddr, gather: &mut Gather<TABLES>) {
        let index = self.table.index(self.at, SHIFT);
        let room = Geometry::<SHIFT>::ENTRIES - (index & Geometry::<SHIFT>::MASK);
        let count = (((self.end - self.at) >> SHIFT) as usize).min(room);
        // SAFETY: the walk found the table live; it can't be unlinked by others while the range is ours.
        let cells = unsafe { entry(self.frames, table, index) };
        // SAFETY: `count` entries from `index` on are in the table: `room` says so, and for a shorter
        // first table the input size, which `end` is within.
        let run = unsafe { clear(cells, count) };
        if run.cleared != 0 {
            let first = self.at + ((run.first as u64) << SHIFT);
            let end = self.at + ((run.last as u64 + 1) << SHIFT);
            gather.add(first, end, 1 << SHIFT);
            self.unmapped += (run.cleared as u64) << SHIFT;
            let at = PhysAddr(table.0 + (index + run.first) as u64 * 8);
            self.frames.publish(at, (run.last - run.first + 1) * 8);
        }
        self.at += (count as u64) << SHIFT;
    }

    /// Clears blocks and unlinks tables of the range in the table at `place`, not of level 3, up to an
    /// entry that must be walked into or the table's end. `false` when the gather is full.
    fn clear_entries<const TABLES: usize>(
        &mut self,
        place: Place,
        gather: &mut Gather<TABLES>,
    ) -> bool {
        let Place { table, shift } = place;
        let size = 1_u64 << shift;
        // First and last entry that was stored to.
        let mut stored: Option<(usize, usize)> = None;
        let mut going = true;
        let mut index = self.table.index(self.at, shift);
        loop {
            // SAFETY: `place` found the table live, and it stays so while the range is ours. The index
            // started in the table and the loop ends where the table or the range does.
            let cell = unsafe { entry(self.frames, table, index).as_ref() };
            let value = cell.load(Ordering::Acquire);
            let first = self.at >> shift << shift;
            let covered = covers(self.at, shift, self.at, self.end);
            if value != 0 {
                if !covered {
                    // A table is to be walked into. A leaf can't be here: the ends were checked.
                    if is_table(value) {
                        break;
                    }
                } else if is_table(value) {
                    if gather.is_full() {
                        going = false;
                        break;
                    }
                    let below = PhysAddr(value & Geometry::<SHIFT>::ADDRESS);
                    cell.store(0, Ordering::Relaxed);
                    // SAFETY: the table's span is in the range, so that only this call may use it; it is
                    // freed later, out of the gather.
                    let (bytes, sizes) = unsafe {
                        survey::<F, SHIFT>(self.frames, below, shift - Geometry::<SHIFT>::BITS)
                    };
                    let level = Geometry::<SHIFT>::level(shift) + 1;
                    gather.push_table(Detached::new(below, level, SHIFT));
                    gather.add(first, first + size, sizes);
                    self.unmapped += bytes;
                    stored = Some((stored.map_or(index, |(first, _)| first), index));
                } else {
                    cell.store(0, Ordering::Relaxed);
                    gather.add(first, first + size, size);
                    self.unmapped += size;
                    stored = Some((stored.map_or(index, |(first, _)| first), index));
                }
            }
            // No overflow: addresses are below 2^48.
            self.at = (first + size).min(self.end);
            index += 1;
            if self.at == self.end || index & Geometry::<SHIFT>::MASK == 0 {
                break;
            }
        }
        if let Some((first, last)) = stored {
            let at = PhysAddr(table.0 + first as u64 * 8);
            self.frames.publish(at, (last - first + 1) * 8);
        }
        going
    }
}

/// What [`clear`] did: how many, and, when there were any, the first and last, relative to its start.
struct Run {
    cleared: usize,
    first: usize,
    last: usize,
}

/// Clears `count` descriptors from `cells` on.
///
/// # Safety
/// They are in one live table.
#[inline(always)]
unsafe fn clear(cells: NonNull<AtomicU64>, count: usize) -> Run {
    // As a rule there are no holes: then nothing has to be counted.
    let mut solid = 0;
    while solid < count {
        // SAFETY: the caller's promise.
        let cell = unsafe { cells.add(solid).as_ref() };
        if cell.load(Ordering::Relaxed) == 0 {
            break;
        }
        cell.store(0, Ordering::Relaxed);
        solid += 1;
    }
    let mut run = Run { cleared: solid, first: 0, last: solid.wrapping_sub(1) };
    for i in solid..count {
        // SAFETY: the caller's promise.
        let cell = unsafe { cells.add(i).as_ref() };
        if cell.load(Ordering::Relaxed) != 0 {
            cell.store(0, Ordering::Relaxed);
            if run.cleared == 0 {
                run.first = i;
            }
            run.cleared += 1;
            run.last = i;
        }
    }
    run
}

/// How many bytes the leaves of a table and all below it map, and the union of their sizes.
///
/// # Safety
/// The table is live, is a full one whose entries span `1 << shift` bytes, and no other thread stores to
/// it or to tables below.
unsafe fn survey<F: Frames + ?Sized, const SHIFT: u32>(
    frames: &F,
    table: PhysAddr,
    shift: u32,
) -> (u64, u64) {
    let entries = Geometry::<SHIFT>::ENTRIES;
    // SAFETY: the caller says that the table is live.
    let cells = unsafe { entry(frames, table, 0) }.cast::<u64>();
    // SAFETY: a full table has that many entries; no CPU stores to them meanwhile, and the SMMU never
    // does: these tables are not used with hardware updates (§14). So these need not be atomic loads, which
    // lets the count be vectorised.
    let values = unsafe { core::slice::from_raw_parts(cells.as_ptr(), entries) };
    if shift == SHIFT {
        let bytes = values.iter().map(|&value| u64::from(value != 0)).sum::<u64>() << SHIFT;
        return (bytes, if bytes == 0 { 0 } else { 1 << SHIFT });
    }
    let (mut bytes, mut sizes) = (0, 0);
    for &value in values {
        if is_table(value) {
            let below = PhysAddr(value & Geometry::<SHIFT>::ADDRESS);
            // SAFETY: live, as the table that points to it is; all it spans is the caller's.
            let (b, s) =
                unsafe { survey::<F, SHIFT>(frames, below, shift - Geometry::<SHIFT>::BITS) };
            bytes += b;
            sizes |= s;
        } else if value != 0 {
            bytes += 1 << shift;
            sizes |= 1 << shift;
        }
    }
    (bytes, sizes)
}
