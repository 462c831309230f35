// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices wrote, and what they accessed: reading the marks of hardware, and taking them (§14).
//!
//! Who migrates a guest reads and clears what is dirty, invalidates, and only then copies: until the invalidation is
//! complete, a TLB that holds a leaf as dirty lets writes pass without a mark. Writes after it mark the leaf again; a
//! mark that is made meanwhile is found next time.
//!
//! Of a group of contiguous leaves hardware may mark any one for a write through any other, so all of a group are dirty
//! if one is, and are cleared together. A group or a block that an end of the range cuts can't be cleared, since the rest
//! would be lost: that is refused before anything is stored. When a group loses its hint, or a block gives way to a table, what
//! comes of it is dirty if it may have been.

use core::sync::atomic::Ordering;

use smmuv3_formats::{Iova, PhysAddr};

use crate::config::Dirty;
use crate::contiguous::{HAD_HINT, HINT};
use crate::ends::covers;
use crate::error::{HarvestError, RangeError, UnmapError};
use crate::flags::{Flag, Sweep, Swept};
use crate::gather::Gather;
use crate::geometry::{Geometry, upper_levels};
use crate::leaf::is_table;
use crate::sync::is_full;
use crate::table::entry;
use crate::{Frames, Table, Unmap};

/// A reading of marks at work. Dropping it unfinished leaves the rest as it is; what was gathered must be invalidated
/// all the same.
#[must_use = "nothing is read before `step` is called"]
pub struct Harvest<
    't,
    F: Frames + ?Sized,
    const SHIFT: u32,
    const STAGE: u8,
    const WIDE: bool = false,
> {
    table: &'t Table<SHIFT, STAGE, WIDE>,
    frames: &'t F,
    sweep: Sweep,
    at: u64,
    end: u64,
}

/// Joins adjacent runs of what devices wrote, or accessed, and reports each as one.
struct Told<R: FnMut(Iova, u64)> {
    report: R,
    start: Iova,
    bytes: u64,
}

impl<R: FnMut(Iova, u64)> Told<R> {
    const fn new(report: R) -> Self {
        Self { report, start: Iova(0), bytes: 0 }
    }

    fn add(&mut self, start: Iova, bytes: u64) {
        if self.bytes != 0 && self.start.0.wrapping_add(self.bytes) == start.0 {
            self.bytes += bytes;
            return;
        }
        self.tell();
        (self.start, self.bytes) = (start, bytes);
    }

    fn tell(&mut self) {
        if self.bytes != 0 {
            (self.report)(self.start, self.bytes);
            self.bytes = 0;
        }
    }
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Whether hardware marks what devices write: CD.HA and CD.HD, or STE.S2HA and STE.S2HD, must be as this says.
    pub const fn dirty(&self) -> Dirty {
        self.encoding.dirty()
    }

    /// Whether hardware marks what devices access: then CD.HA, or STE.S2HA, must be 1.
    pub const fn has_access_flags(&self) -> bool {
        self.encoding.has_access_flags()
    }

    /// Starts to read what devices have written in the `len` bytes from `iova`, and to make it clean. Holes are allowed.
    ///
    /// The memory may be looked at when what was gathered has been invalidated: see [`Harvest::step`].
    ///
    /// # Errors
    /// [`HarvestError`], before anything is stored.
    ///
    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped.
    pub unsafe fn read_and_clear_dirty<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
    ) -> Result<Harvest<'t, F, SHIFT, STAGE, WIDE>, HarvestError> {
        // SAFETY: the caller's contract.
        unsafe { self.harvest(frames, iova, len, Sweep::Clear(Flag::Dirty)) }
    }

    /// Starts to read what devices have written, and leaves it as it is. A block or a group of which the range is only
    /// a part is told as that part.
    ///
    /// # Errors
    /// [`HarvestError`].
    ///
    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped.
    pub unsafe fn read_dirty<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
    ) -> Result<Harvest<'t, F, SHIFT, STAGE, WIDE>, HarvestError> {
        // SAFETY: the caller's contract.
        unsafe { self.harvest(frames, iova, len, Sweep::Read(Flag::Dirty)) }
    }

    /// As [`read_and_clear_dirty`](Self::read_and_clear_dirty), of what devices have accessed. That is a hint: hardware may
    /// access in advance, and uses what a TLB holds without a mark until that is invalidated.
    ///
    /// # Errors
    /// [`HarvestError`], before anything is stored.
    ///
    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped.
    pub unsafe fn read_and_clear_accessed<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
    ) -> Result<Harvest<'t, F, SHIFT, STAGE, WIDE>, HarvestError> {
        // SAFETY: the caller's contract.
        unsafe { self.harvest(frames, iova, len, Sweep::Clear(Flag::Accessed)) }
    }

    /// As [`read_dirty`](Self::read_dirty), of what devices have accessed.
    ///
    /// # Errors
    /// [`HarvestError`].
    ///
    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped.
    pub unsafe fn read_accessed<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
    ) -> Result<Harvest<'t, F, SHIFT, STAGE, WIDE>, HarvestError> {
        // SAFETY: the caller's contract.
        unsafe { self.harvest(frames, iova, len, Sweep::Read(Flag::Accessed)) }
    }

    /// # Safety
    /// The contract of [`Table`], until the cursor is dropped.
    unsafe fn harvest<'t, F: Frames + ?Sized>(
        &'t self,
        frames: &'t F,
        iova: Iova,
        len: u64,
        sweep: Sweep,
    ) -> Result<Harvest<'t, F, SHIFT, STAGE, WIDE>, HarvestError> {
        let end = self.check_range(iova, len)?;
        let start = self.offset(iova);
        let tracked = match sweep {
            Sweep::Read(Flag::Accessed) | Sweep::Clear(Flag::Accessed) => self.has_access_flags(),
            _ => self.dirty() != Dirty::Untracked,
        };
        if !tracked {
            return Err(HarvestError::Untracked);
        }
        if matches!(sweep, Sweep::Clear(_)) {
            // SAFETY: the caller's contract.
            unsafe { self.check_cuts(frames, start, end) }.map_err(|error| match error {
                UnmapError::Range(error) => HarvestError::Range(error),
                UnmapError::Straddle { block, size } => HarvestError::Straddle { block, size },
            })?;
            if self.has_contiguous() {
                // If another caller is just cutting one of these groups, some of its leaves may keep the hint for a
                // moment; the invalidation that follows a clearing covers that. SAFETY: as above; the range cuts no
                // block.
                unsafe { self.cut_ends(frames, start, end, |_| {}) };
            }
        }
        Ok(Harvest { table: self, frames, sweep, at: start, end })
    }

    /// As [`clear`](Self::clear), and reports what devices have written: their starts, and bytes. Until the invalidation
    /// devices may write there, as far as it is dirty.
    ///
    /// # Errors
    /// [`UnmapError`], before anything is stored.
    ///
    /// # Safety
    /// As for [`clear`](Self::clear).
    pub unsafe fn clear_reporting<F: Frames + ?Sized>(
        &self,
        frames: &F,
        iova: Iova,
        len: u64,
        report: impl FnMut(Iova, u64),
    ) -> Result<u64, UnmapError> {
        // SAFETY: the caller's contract, here and below.
        unsafe { self.check_ends(frames, iova, len)? };
        let start = self.offset(iova);
        // No overflow: the range was found to be within the input size.
        let end = start + len;
        if self.has_contiguous() {
            // SAFETY: as above.
            unsafe { self.cut_ends(frames, start, end, |_| {}) };
        }
        let mut unused = Gather::<4>::sized();
        // SAFETY: as above; nothing is cut any more.
        Ok(unsafe { self.take(frames, start, end, &mut unused, report) })
    }

    /// Unmaps all leaves of `at..end`, but unlinks no table. Gives the bytes that were mapped.
    ///
    /// # Safety
    /// The contract of [`Table`] for the range, which is not empty and cuts neither a block nor a group.
    pub(crate) unsafe fn take<F: Frames + ?Sized, const TABLES: usize>(
        &self,
        frames: &F,
        mut at: u64,
        end: u64,
        gather: &mut Gather<TABLES>,
        report: impl FnMut(Iova, u64),
    ) -> u64 {
        let (mut bytes, mut told) = (0, Told::new(report));
        while at != end {
            // SAFETY: the caller's contract.
            let (next, taken) =
                unsafe { self.sweep(frames, (at, end), Sweep::Take, gather, &mut told) };
            (at, bytes) = (next, bytes + taken);
        }
        told.tell();
        bytes
    }

    /// Goes over the leaves from `at` on in the table in which the walk for it ends, up to that table's end, `end`, or an
    /// entry that must be walked into. Gives where it stopped, and the bytes that were unmapped.
    ///
    /// # Safety
    /// The contract of [`Table`] for `at..end`, which is not empty. Unless leaves are only read, it cuts no block
    /// and no group.
    unsafe fn sweep<F: Frames + ?Sized, const TABLES: usize, R: FnMut(Iova, u64)>(
        &self,
        frames: &F,
        (at, end): (u64, u64),
        sweep: Sweep,
        gather: &mut Gather<TABLES>,
        told: &mut Told<R>,
    ) -> (u64, u64) {
        let mut table = self.root();
        upper_levels!(SHIFT, WIDE, self.root_shift(), shift => {
            // SAFETY: `table` is the root or was read from its parent's descriptor for `at`. A table is unlinked
            // only by a call whose range covers all it spans, hence `at`: not meanwhile.
            let value = unsafe { self.load(frames, table, at, shift) };
            if !is_table(value) {
                // SAFETY: as above.
                return unsafe {
                    self.sweep_table(frames, (table, shift), (at, end), sweep, gather, told)
                };
            }
            if shift == Geometry::<SHIFT, WIDE>::shift(2) && is_full(value) && sweep == Sweep::Take {
                // SAFETY: as above.
                unsafe { self.open(frames, at) };
            }
            table = PhysAddr(Geometry::<SHIFT, WIDE>::address(value));
        });
        // SAFETY: as above.
        unsafe { self.sweep_table(frames, (table, SHIFT), (at, end), sweep, gather, told) }
    }

    /// Bytes of the pages from `at` on, in `table`, of level 3, that have no flag and never had a hint.
    ///
    /// # Safety
    /// As for [`sweep`](Self::sweep), where the walk has ended.
    unsafe fn pass_over<F: Frames + ?Sized>(
        &self,
        frames: &F,
        table: PhysAddr,
        (at, end): (u64, u64),
        flag: Flag,
    ) -> u64 {
        let index = self.index(at, SHIFT);
        let room = Geometry::<SHIFT, WIDE>::ENTRIES - (index & Geometry::<SHIFT, WIDE>::MASK);
        let count = (((end - at) >> SHIFT) as usize).min(room);
        // SAFETY: the table is live while the range is ours, and has that index.
        let cells = unsafe { entry(frames, table, index) };
        let passed = (0..count).take_while(|&nth| {
            // SAFETY: the table has `room` entries from there on, or ends with the input size.
            let value = unsafe { cells.add(nth).as_ref() }.load(Ordering::Acquire);
            value & (HINT | HAD_HINT) == 0 && !flag.is_set::<STAGE>(value)
        });
        (passed.count() as u64) << SHIFT
    }

    /// As [`sweep`](Self::sweep), where the walk has ended: in `table`, whose entries span `1 << shift` bytes.
    ///
    /// # Safety
    /// As for [`sweep`](Self::sweep).
    unsafe fn sweep_table<F: Frames + ?Sized, const TABLES: usize, R: FnMut(Iova, u64)>(
        &self,
        frames: &F,
        (table, shift): (PhysAddr, u32),
        (mut at, end): (u64, u64),
        sweep: Sweep,
        gather: &mut Gather<TABLES>,
        told: &mut Told<R>,
    ) -> (u64, u64) {
        let size = 1_u64 << shift;
        let mut unmapped = 0;
        // The addresses whose leaves were stored to.
        let mut stored: Option<(u64, u64)> = None;
        loop {
            if let (Sweep::Read(flag) | Sweep::Clear(flag), true) = (sweep, shift == SHIFT) {
                // SAFETY: as below.
                let passed = unsafe { self.pass_over(frames, table, (at, end), flag) };
                at += passed;
                let next_table = self.index(at, shift) & Geometry::<SHIFT, WIDE>::MASK == 0;
                if at == end || passed != 0 && next_table {
                    break;
                }
            }
            // SAFETY: the table is live while the range is ours. `at` started in the table, and the loop ends where the
            // table or the range does.
            let cell = unsafe { entry(frames, table, self.index(at, shift)).as_ref() };
            let value = cell.load(Ordering::Acquire);
            if shift != SHIFT && is_table(value) {
                break;
            }
            if !self.has_contiguous() || value & (HINT | HAD_HINT) == 0 {
                // A single leaf, or an empty entry.
                let start = at >> shift << shift;
                // No overflow: offsets are below 2^52.
                let next = (start + size).min(end);
                // A leaf that is not covered is only read: the ends were checked.
                if value != 0 && (next - at == size || matches!(sweep, Sweep::Read(_))) {
                    let Swept { bytes, set } = sweep.leaf::<_, STAGE>(cell, size);
                    unmapped += bytes;
                    if set {
                        told.add(self.at(at), next - at);
                    }
                    if sweep.stores(set) {
                        gather.add(self.at(at).0, self.at(next).0, size);
                        stored = Some((stored.map_or(start, |(first, _)| first), next));
                    }
                }
                at = next;
                if at == end || self.index(at, shift) & Geometry::<SHIFT, WIDE>::MASK == 0 {
                    break;
                }
                continue;
            }
            let hint = value & HINT != 0;
            let span = Self::group_shift(shift).filter(|_| hint).unwrap_or(shift);
            let start = at >> span << span;
            // No overflow: offsets are below 2^52. A first table may end before its group would.
            let last = (start + (1 << span)).min(1 << self.input_bits());
            let mut swept = Swept::default();
            // A leaf that is not covered is only read: the ends were checked.
            if matches!(sweep, Sweep::Read(_)) || covers(at, shift, at, end) {
                for leaf in (start..last).step_by(1 << shift) {
                    // SAFETY: a group lies in one table, which is live while a part of it is ours.
                    let cell = unsafe { entry(frames, table, self.index(leaf, shift)).as_ref() };
                    let Swept { bytes, set } = sweep.leaf::<_, STAGE>(cell, size);
                    swept.bytes += bytes;
                    swept.set |= set;
                }
            }
            let next = last.min(end);
            if swept.set {
                told.add(self.at(at), next - at);
            }
            unmapped += swept.bytes;
            if sweep.stores(swept.set) {
                // A TLB may keep the whole of a group that was cut, until the invalidation of that cut, perhaps another
                // caller's, is complete.
                let had = value & HAD_HINT != 0;
                let kept = Self::group_shift(shift).filter(|_| had).unwrap_or(span);
                let first = at >> kept << kept;
                let end = (first + (1 << kept)).min(1 << self.input_bits());
                gather.add(self.at(first).0, self.at(end).0, size);
                stored = Some((stored.map_or(start, |(first, _)| first), last));
            }
            at = next;
            if at == end || self.index(at, shift) & Geometry::<SHIFT, WIDE>::MASK == 0 {
                break;
            }
        }
        if let Some((first, last)) = stored {
            let here = PhysAddr(table.0 + self.index(first, shift) as u64 * 8);
            frames.publish(here, ((last - first) >> shift) as usize * 8);
        }
        (at, unmapped)
    }
}

impl<F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8, const WIDE: bool>
    Harvest<'_, F, SHIFT, STAGE, WIDE>
{
    /// Goes over the leaves of one table at most: a step takes as long as that. `report` is told the start and the bytes of
    /// every run that is dirty, or accessed; they lie in the range, and are of whole pages. A [`Bitmap`](crate::Bitmap) takes
    /// them as they are.
    ///
    /// Leaves that lost their mark are added to the gather, which never gets a table. It may be invalidated after
    /// any step, and must be before
    /// * the memory of what was reported is copied: a write that passes before the invalidation is complete leaves
    ///   no other mark than the one that was reported, and one that passes later leaves a new one;
    /// * a group or a block in the range is unmapped in parts.
    ///
    /// A final reading, of devices that have been stopped, has every mark if a CMD_SYNC was waited for after they
    /// stopped (§14).
    ///
    /// `true` until the range is done.
    ///
    /// ```
    /// # use smmuv3_pagetable::{Bitmap, Frames, Gather, HarvestError, Iova, Table};
    /// # fn invalidate(_gather: &Gather) {}
    /// fn dirty_pages<F: Frames>(
    ///     table: &Table<12, 2>, frames: &F, start: Iova, len: u64, words: &mut [u64],
    /// ) -> Result<(), HarvestError> {
    ///     let (mut gather, mut bitmap) = (Gather::new(), Bitmap::new(start, 0x1000, words));
    ///     // SAFETY: nobody else maps or unmaps in this range.
    ///     let mut harvest = unsafe { table.read_and_clear_dirty(frames, start, len)? };
    ///     while harvest.step(&mut gather, |start, bytes| bitmap.set(start, bytes)) {}
    ///     if !gather.is_empty() {
    ///         invalidate(&gather);
    ///     }
    ///     // Now the pages can be copied.
    ///     Ok(())
    /// }
    /// ```
    pub fn step<const TABLES: usize>(
        &mut self,
        gather: &mut Gather<TABLES>,
        report: impl FnMut(Iova, u64),
    ) -> bool {
        if self.at != self.end {
            let Self { table, frames, sweep, at, end } = *self;
            if table.splits() && matches!(sweep, Sweep::Clear(_)) {
                gather.name_no_size();
            }
            let mut told = Told::new(report);
            // SAFETY: the contract of `Table::harvest` holds as long as `self` lives, and the range was checked.
            (self.at, _) = unsafe { table.sweep(frames, (at, end), sweep, gather, &mut told) };
            told.tell();
        }
        self.at != self.end
    }

    /// Whether the whole range has been dealt with (if not invalidated).
    pub const fn is_done(&self) -> bool {
        self.at == self.end
    }
}

impl From<RangeError> for HarvestError {
    fn from(error: RangeError) -> Self {
        Self::Range(error)
    }
}

impl<F: Frames + ?Sized, const SHIFT: u32, const STAGE: u8, const WIDE: bool>
    Unmap<'_, F, SHIFT, STAGE, WIDE>
{
    /// As [`next`](Self::next), and reports what devices have written, as [`Harvest::step`] does: no mark is lost, since each
    /// leaf is read in the moment in which it is unmapped. Nothing is reported twice, and nothing by calls of
    /// [`next`](Self::next).
    ///
    /// The memory of what was reported is at rest when what was gathered has been invalidated.
    pub fn next_reporting<const TABLES: usize>(
        &mut self,
        gather: &mut Gather<TABLES>,
        report: impl FnMut(Iova, u64),
    ) -> bool {
        self.take_leaves(gather, report);
        self.next(gather)
    }
}
