// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mapping: one walk per run of leaves, check and store in one pass.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::descriptor::TABLE_OR_PAGE;
use smmuv3_formats::{Iova, PhysAddr};

use crate::contiguous::HINT;
use crate::error::{MapError, MapErrorKind};
use crate::geometry::{Geometry, upper_levels};
use crate::leaf::{is_table, kind};
use crate::sync::{SYNCED, close, install, settle};
use crate::table::entry;
use crate::{Attributes, FAST, Frames, Table};

/// The part of a map that is the same for all its runs.
struct Request {
    /// Output minus input, modulo 2^64.
    delta: u64,
    /// End of the input range, exclusive.
    end: u64,
    /// Descriptor bits without address; the type may be among them in part.
    leaf: u64,
}

/// Pages to be put into one table.
struct Run {
    table: PhysAddr,
    /// Index of the first descriptor.
    index: usize,
    count: usize,
    /// What the first descriptor is to hold.
    first: u64,
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Maps `len` bytes from `iova` to `pa`, with the largest pages and blocks that fit. A block is only
    /// put where nothing is: where a table exists already, even an empty one, smaller pages go into it.
    ///
    /// On return every walk that starts later sees the mapping.
    ///
    /// # Errors
    /// [`MapError`]. What it says is mapped, the caller must unmap; new tables may stay.
    ///
    /// # Safety
    /// The contract of [`Table`]. And for as long as the range is mapped, the caller lets devices use the
    /// output range in the ways that `attributes` permits.
    #[inline(always)]
    pub unsafe fn map<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        // SAFETY: the caller's contract.
        if FAST && len == Self::granule() && unsafe { self.map_page(frames, iova, pa, attributes) }
        {
            return Ok(());
        }
        // Everything else takes more work, out of line, so that the way of a single page needs few registers.
        core::hint::cold_path();
        let mut result = Ok(());
        // SAFETY: as above.
        if unsafe { Self::map_more(frames, iova, pa, len, attributes, self, &mut result) } {
            return Ok(());
        }
        result
    }

    /// Maps ranges of any shape. Returns whether it did; if not, the error is in `result`, which was `Ok`. The order of
    /// the arguments spares the caller moving any of them on the way of one page.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    #[cfg_attr(feature = "fast-paths", inline(never))]
    unsafe fn map_more<F: Frames + ?Sized>(
        frames: &F,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
        table: &Self,
        result: &mut Result<(), MapError>,
    ) -> bool {
        if !FAST {
            // All goes the general way.
        } else if len >= Geometry::<SHIFT, WIDE>::SPAN {
            // SAFETY: the caller's contract.
            if unsafe { table.map_block(frames, iova, pa, len, attributes) } {
                return true;
            }
        // SAFETY: as above.
        } else if let Some(run) = unsafe { table.in_table(frames, iova, pa, len, attributes) } {
            let Run { table, index, count, first } = run;
            let here = descriptor(table, index);
            // SAFETY: a live table, since it was found on the walk for `iova`, and a run that does not leave it.
            let stored = unsafe { fill_pages::<SHIFT>(entry(frames, table, index), count, first) };
            if stored != count {
                *result = Self::taken(frames, here, iova, stored);
                return false;
            }
            frames.publish(here, count * 8);
            return true;
        }
        // SAFETY: as above.
        *result = unsafe { table.map_anywhere(frames, iova, pa, len, attributes) };
        result.is_ok()
    }

    /// The run of a map that lies in one level-3 table, which exists. `None` for all else: wrong arguments too.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    #[inline(always)]
    unsafe fn in_table<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
    ) -> Option<Run> {
        let (index, count) = self.within_a_table(iova, len, pa.0)?;
        // A range shorter than a group gets no contiguous hint, and can be mapped here.
        if self.has_contiguous() && Self::group_shift(SHIFT).is_some_and(|group| len >> group != 0)
        {
            return None;
        }
        let leaf = self.encoding.short(attributes)?;
        // No underflow: `len` is below what a level-3 table spans, which is less than any output size.
        if pa.0 > self.output_end() - len || len > Geometry::<SHIFT, WIDE>::straight(pa.0) {
            return None;
        }
        let mut table = self.root();
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was linked where `iova` belongs. A table is unlinked only by
            // a call whose range covers all it spans, hence `iova`: not meanwhile.
            let value = unsafe { self.load(frames, table, iova.0, shift) };
            // SYNCED is set in table descriptors only, so this is neither empty nor a block.
            if value & SYNCED == 0 {
                return None;
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        let first = leaf | Geometry::<SHIFT, WIDE>::bits(pa.0) | kind(true);
        self.judge_run(first, count, iova.0, SHIFT);
        Some(Run { table, index, count, first })
    }

    /// The error of a map that stored only so many pages, from the descriptor `here` on: then one is taken.
    #[cold]
    #[inline(never)]
    fn taken<F: Frames + ?Sized>(
        frames: &F,
        here: PhysAddr,
        iova: Iova,
        stored: usize,
    ) -> Result<(), MapError> {
        if stored != 0 {
            frames.publish(here, stored * 8);
        }
        let mapped = (stored as u64) << SHIFT;
        Err(MapError { mapped, kind: MapErrorKind::Overlap { at: Iova(iova.0 + mapped) } })
    }

    /// Maps ranges of any shape, run by run.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    #[cfg_attr(feature = "fast-paths", inline(never))]
    unsafe fn map_anywhere<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let ordinary = if FAST { self.ordinary(iova, pa, len, attributes) } else { None };
        let (start, request) = match ordinary {
            Some(request) => (iova.0, request),
            None => match self.request(iova, pa, len, attributes) {
                Ok(request) => request,
                Err(kind) => return Err(MapError { mapped: 0, kind }),
            },
        };
        let mut at = start;
        while at != request.end {
            // SAFETY: the caller's contract; `at` is in the range.
            match unsafe { self.map_run(frames, at, &request) } {
                Ok(next) => at = next,
                Err(kind) => return Err(MapError { mapped: at - start, kind }),
            }
        }
        Ok(())
    }

    /// What [`request`](Self::request) makes of most arguments, in a few instructions: of those that are right, in a lower
    /// half, with ordinary attributes.
    #[inline(always)]
    fn ordinary(
        &self,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
    ) -> Option<Request> {
        // 0 for an upper half, whose ranges are all refused here.
        let end = self.direct_end();
        let most = self.output_end.min(end);
        if (iova.0 | pa.0 | len) & (Self::granule() - 1) != 0
            // Also refuses `len == 0`, which wraps.
            || len.wrapping_sub(1) >= most
            || iova.0 > end - len
            || pa.0 > self.output_end - len
        {
            return None;
        }
        let leaf = self.encoding.short(attributes)?;
        Some(Request { delta: pa.0.wrapping_sub(iova.0), end: iova.0 + len, leaf })
    }

    /// Checks all that can be refused without looking at the tables. Also returns the offset of the start.
    #[cfg_attr(feature = "fast-paths", cold, inline(never))]
    fn request(
        &self,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
    ) -> Result<(u64, Request), MapErrorKind> {
        let end = self.check_range(iova, len).map_err(MapErrorKind::Range)?;
        let start = self.offset(iova);
        let granule = Self::granule();
        if pa.0 & (granule - 1) != 0 {
            return Err(MapErrorKind::UnalignedOutput { pa, granule });
        }
        if !self.reaches(pa, len) {
            return Err(MapErrorKind::BeyondOutput { pa, len, output_bits: self.output_bits() });
        }
        let leaf = match self.encoding.short(attributes) {
            Some(leaf) if FAST => leaf,
            _ => self.encoding.encode(attributes)?,
        };
        Ok((start, Request { delta: pa.0.wrapping_sub(start), end, leaf }))
    }

    /// Walks to where `at` belongs and maps from there as far as one table goes. Gives where it stopped.
    ///
    /// # Safety
    /// As for [`map`](Self::map); `at` is in the range, before its end, and aligned to the granule.
    #[inline]
    unsafe fn map_run<F: Frames + ?Sized>(
        &self,
        frames: &F,
        at: u64,
        request: &Request,
    ) -> Result<u64, MapErrorKind> {
        let pa = at.wrapping_add(request.delta);
        let left = request.end - at;
        let mut shift = Geometry::<SHIFT, WIDE>::leaf_shift(at | pa, left, self.root_shift());
        let mut table = self.root();
        // The descriptor that leads to the present table: a level-3 table that gets filled is marked there.
        let mut above = None;
        upper_levels!(SHIFT, WIDE, self.root_shift(), level => {
            if level > shift {
                let index = self.index(at, level);
                // SAFETY: `table` is the root or was linked where `at` belongs. A table is unlinked only by
                // a call whose range covers all it spans, hence `at`: not meanwhile.
                let cell = unsafe { entry(frames, table, index).as_ref() };
                let value = cell.load(Ordering::Acquire);
                // SYNCED is set in table descriptors only, so this is neither empty nor a block.
                table = if value & SYNCED != 0 {
                    PhysAddr(Geometry::<SHIFT, WIDE>::address(value))
                } else {
                    self.enter(frames, cell, descriptor(table, index), value, (at, level))?
                };
                above = Some(cell);
            }
        });
        loop {
            let index = self.index(at, shift);
            let room = Geometry::<SHIFT, WIDE>::ENTRIES - (index & Geometry::<SHIFT, WIDE>::MASK);
            let straight = left.min(Geometry::<SHIFT, WIDE>::straight(pa));
            let count = ((straight >> shift) as usize).min(room);
            let first = request.leaf | Geometry::<SHIFT, WIDE>::bits(pa) | kind(shift == SHIFT);
            // SAFETY: as above.
            let cells = unsafe { entry(frames, table, index) };
            // SAFETY: `count` entries from `index` on are within the table: `room` says so, and for a
            // shorter first table the input size, which the range is within.
            let stored = if self.has_contiguous() {
                // SAFETY: as above.
                unsafe { self.fill_groups(cells, count, first, shift, at ^ pa, at) }
            } else {
                self.judge_run(first, count, at, shift);
                // SAFETY: as above.
                unsafe { Self::fill(cells, count, first, shift) }
            };
            let here = descriptor(table, index);
            if stored != 0 {
                frames.publish(here, stored * 8);
                let all = FAST && shift == SHIFT && stored == Geometry::<SHIFT, WIDE>::ENTRIES;
                if let Some(above) = above.filter(|_| all) {
                    close(above, above.load(Ordering::Relaxed));
                }
                return Ok(at + ((stored as u64) << shift));
            }
            // Nothing was stored: the place of a block is taken by a table, which is walked into, or by a leaf. SAFETY:
            // as above.
            let cell = unsafe { cells.as_ref() };
            let value = cell.load(Ordering::Acquire);
            if shift == SHIFT || !is_table(value) {
                return Err(MapErrorKind::Overlap { at: self.at(at) });
            }
            settle(value, || frames.publish(here, 8));
            (table, above) = (PhysAddr(Geometry::<SHIFT, WIDE>::address(value)), Some(cell));
            shift -= Geometry::<SHIFT, WIDE>::BITS;
        }
    }

    /// As [`fill`], and gives the hint to the groups that it fills. `at` is the input of the first leaf; `differs` are the bits
    /// in which its output is another.
    ///
    /// # Safety
    /// As for [`fill`].
    #[cold]
    unsafe fn fill_groups(
        &self,
        cells: NonNull<AtomicU64>,
        count: usize,
        first: u64,
        shift: u32,
        differs: u64,
        at: u64,
    ) -> usize {
        let group = Self::group_shift(shift).filter(|&group| differs & ((1 << group) - 1) == 0);
        let Some(group) = group else {
            self.judge_run(first, count, at, shift);
            // SAFETY: the caller's promise.
            return unsafe { Self::fill(cells, count, first, shift) };
        };
        let members = 1 << (group - shift);
        let mut stored = 0;
        while stored != count {
            let done = (stored as u64) << shift;
            let (here, left) = (at + done, count - stored);
            let within = (here >> shift) as usize & (members - 1);
            let run = left.min(members - within);
            // SAFETY: the caller's promise.
            let cells = unsafe { cells.add(stored) };
            // A TLB may keep the whole group as soon as one member with the hint is stored, so the hint is set only if
            // all members can be. SAFETY: the caller's promise, for a run alone.
            let hint = if run == members && unsafe { are_empty(cells, run) } { HINT } else { 0 };
            self.judge_run((first + done) | hint, run, here, shift);
            // SAFETY: as above.
            let got = unsafe { Self::fill(cells, run, (first + done) | hint, shift) };
            stored += got;
            if got != run {
                break;
            }
        }
        stored
    }

    /// Stores leaves of `1 << shift` bytes from `cells` on, each so much further than the one before, until `count` are stored
    /// or one is not empty. Gives how many.
    ///
    /// # Safety
    /// `cells` and the `count - 1` descriptors after it are in one live table.
    #[inline(always)]
    unsafe fn fill(cells: NonNull<AtomicU64>, count: usize, first: u64, shift: u32) -> usize {
        if FAST && shift == SHIFT {
            // SAFETY: the caller's promise.
            return unsafe { fill_pages::<SHIFT>(cells, count, first) };
        }
        // SAFETY: the caller's promise.
        unsafe { fill_slowly(cells, count, first, 1 << shift, 0) }
    }

    /// The table behind `cell`, in which `value` was found: not a table that is known to be published.
    #[cfg_attr(feature = "fast-paths", cold, inline(never))]
    fn enter<F: Frames + ?Sized>(
        &self,
        frames: &F,
        cell: &AtomicU64,
        here: PhysAddr,
        value: u64,
        place: (u64, u32),
    ) -> Result<PhysAddr, MapErrorKind> {
        if value == 0 {
            return self.add_table(frames, cell, here, place);
        }
        if !is_table(value) {
            return Err(MapErrorKind::Overlap { at: self.at(place.0) });
        }
        settle(value, || frames.publish(here, 8));
        Ok(PhysAddr(Geometry::<SHIFT, WIDE>::address(value)))
    }

    /// Links a new table at `cell`, which was empty, and gives it, or another thread's that was faster. `cell` is for
    /// `at`, and spans `1 << shift` bytes.
    fn add_table<F: Frames + ?Sized>(
        &self,
        frames: &F,
        cell: &AtomicU64,
        here: PhysAddr,
        (at, shift): (u64, u32),
    ) -> Result<PhysAddr, MapErrorKind> {
        let size = Self::granule() as usize;
        let frame =
            frames.allocate(size, size).ok_or(MapErrorKind::NoFrames { at: self.at(at) })?;
        let result = if !self.reaches(frame, size as u64) {
            Err(MapErrorKind::FrameBeyondOutput { frame, output_bits: self.output_bits() })
        } else {
            // The SMMU must see the zeros before the descriptor that points to them.
            frames.publish(frame, size);
            let new = Geometry::<SHIFT, WIDE>::bits(frame.0) | TABLE_OR_PAGE;
            self.judge(new, at, shift);
            match install(cell, 0, new, || frames.publish(here, 8)) {
                Ok(()) => return Ok(frame),
                Err(winner) if is_table(winner) => {
                    Ok(PhysAddr(Geometry::<SHIFT, WIDE>::address(winner)))
                }
                // A leaf can be here only if another caller breaks the contract.
                Err(_) => Err(MapErrorKind::Overlap { at: self.at(at) }),
            }
        };
        // SAFETY: allocated above with these values, and never linked.
        unsafe { frames.free(frame, size, size) };
        result
    }
}

/// Address of the descriptor at `index` of `table`. Tables are below 2^52.
#[inline(always)]
pub(crate) const fn descriptor(table: PhysAddr, index: usize) -> PhysAddr {
    PhysAddr(table.0 + index as u64 * 8)
}

/// Descriptors that are looked at together, before any is stored.
const CHUNK: usize = 8;

/// Whether `count` descriptors from `cells` on are empty.
///
/// # Safety
/// The descriptors are in one live table.
#[inline(always)]
unsafe fn are_empty(cells: NonNull<AtomicU64>, count: usize) -> bool {
    // SAFETY: the caller's promise.
    let load = |nth| unsafe { cells.add(nth).as_ref() }.load(Ordering::Relaxed);
    (0..count).fold(0, |any, nth| any | load(nth)) == 0
}

/// Stores leaves of pages from `cells` on, each a page further than the one before, until `count` are stored or
/// one is not empty. Gives how many.
///
/// # Safety
/// `cells` and the `count - 1` descriptors after it are in one live table.
#[inline(never)]
unsafe fn fill_pages<const SHIFT: u32>(
    cells: NonNull<AtomicU64>,
    count: usize,
    first: u64,
) -> usize {
    let mut stored = 0;
    // The range is the caller's alone: what was found empty stays so.
    while count - stored >= CHUNK {
        // SAFETY: less than `count`.
        let chunk = unsafe { cells.add(stored) };
        // SAFETY: as many are left.
        if !unsafe { are_empty(chunk, CHUNK) } {
            break;
        }
        let first = first.wrapping_add((stored as u64) << SHIFT);
        for nth in 0..CHUNK {
            // SAFETY: as above.
            let cell = unsafe { chunk.add(nth).as_ref() };
            cell.store(first.wrapping_add((nth as u64) << SHIFT), Ordering::Relaxed);
        }
        stored += CHUNK;
    }
    // SAFETY: the caller's promise.
    unsafe { fill_slowly(cells, count, first, 1 << SHIFT, stored) }
}

/// Stores leaves from `cells` on, each `step` further than the one before, of which `stored` are stored already, until
/// `count` are or one is not empty. Gives how many.
///
/// # Safety
/// `cells` and the `count - 1` descriptors after it are in one live table.
#[inline(always)]
unsafe fn fill_slowly(
    cells: NonNull<AtomicU64>,
    count: usize,
    first: u64,
    step: u64,
    mut stored: usize,
) -> usize {
    // The output range was checked: this wraps at most beyond the last leaf.
    let mut descriptor = first.wrapping_add((stored as u64).wrapping_mul(step));
    while stored != count {
        // SAFETY: the caller's promise.
        let cell = unsafe { cells.add(stored).as_ref() };
        if cell.load(Ordering::Relaxed) != 0 {
            break;
        }
        cell.store(descriptor, Ordering::Relaxed);
        descriptor = descriptor.wrapping_add(step);
        stored += 1;
    }
    stored
}
