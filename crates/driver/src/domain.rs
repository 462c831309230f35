// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address spaces: page tables, and who must be told when they change.

use alloc::vec::Vec;
use core::ops;
use core::sync::atomic::Ordering;

use smmuv3_formats::{Iova, PhysAddr};
#[cfg(doc)]
use smmuv3_pagetable::MapErrorKind;
use smmuv3_pagetable::UnmapError as TableUnmapError;
use smmuv3_pagetable::{Attributes, Detached, Gather, Mapping, SplitError, Table, Unmap};

use crate::compatibility::Stage;
use crate::configuration::Configuration;
use crate::error::{StillAttached, Unconfirmed};
use crate::invalidate::{Range, Scope};
use crate::iommu::Core;
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::refused::Refused;
use crate::shared::NoMemory;
use crate::shared::{Shared, try_box};
use crate::space::{ONE, Space, Tables, Target, Targets, Which, pages};
use crate::statistics::{Counted, Counters, DomainStatistics};
use crate::tables::{Own, PageTable, dispatch};
use crate::targets::Snapshot;
use crate::trace::InstanceSet;

mod config;
mod error;

pub use config::DomainConfig;
pub use error::{CreateError, MapError, ReclaimError, UnmapError};

/// An address space that masters behind any number of SMMUs can be attached to.
///
/// Dropping a domain that masters are attached to, or guests have SMMUs over, changes nothing for them; its memory is freed
/// with the last of them.
pub struct Domain<P: Platform> {
    pub(crate) space: Shared<Space<P>>,
}

impl<P: Platform> Domain<P> {
    /// An empty one, for the instances that there are: under the mutex, so that none of them goes meanwhile.
    pub(crate) fn new(
        core: Shared<Core<P>>,
        configuration: &mut Configuration<P>,
        config: DomainConfig,
    ) -> Result<Self, CreateError> {
        configuration.domains += 1;
        let (id, removed) = (configuration.domains - 1, configuration.asids.removed());
        if let Some(vmid) = config.vmid {
            if config.stage != Stage::Two {
                return Err(CreateError::VmidStage { vmid });
            }
            if !core.config.is_hypervisors(vmid) {
                return Err(CreateError::Vmid { vmid });
            }
        }
        let present = core.instances.iter(configuration).filter(|(id, _)| removed & id.bit() == 0);
        let features = present.map(|(_, instance)| instance.features());
        let targets = try_box(Targets::new())?;
        let cpus = core.platform.max_cpus();
        let counts = cfg!(feature = "counts") && config.statistics;
        let counters = counts.then(|| Counters::new(cpus)).transpose()?;
        let mut own = Own::new(&core.platform, &config, features)?;
        if counters.is_some() {
            core.faults_count.store(true, Ordering::Relaxed);
        }
        own.counters = counters;
        #[cfg(feature = "mutation")]
        own.spoil(core.config.mutation);
        // If there is no memory, dropping the space frees the table.
        let space = Space::new(core, id, Tables::Own(own), Snapshot::new(targets));
        Ok(Self { space: Shared::new(space)? })
    }

    /// What happened so far, as far as it was counted ([`DomainConfig::statistics`]), and who uses it.
    pub fn statistics(&self) -> DomainStatistics {
        let core = &self.space.core;
        let (masters, tags) = core.configuration.with(|configuration| {
            if self.own().counters().is_some() {
                for (id, _) in core.instances.iter(configuration) {
                    configuration.settle_faults(core, id);
                }
            }
            (self.space.users(configuration), self.space.targets.for_writer().len())
        });
        let counted = self.own().counters().map(Counters::sums);
        DomainStatistics { masters, tags, counted }
    }

    /// Adds one to the count `which`, if the domain counts.
    #[inline(always)]
    fn count(&self, which: Counted) {
        self.count_of(self.own(), which);
    }

    /// As [`Domain::count`], of what is the domain's own.
    #[inline(always)]
    fn count_of(&self, own: &Own, which: Counted) {
        if let Some(counters) = own.counters() {
            counters.add(self.space.core.platform.cpu(), which, 1);
        }
    }

    /// Adds one to the first count of `which` and `bytes` to the second, if the domain counts.
    #[inline(always)]
    pub(crate) fn count_bytes(&self, which: [Counted; 2], bytes: u64) {
        if let Some(counters) = self.own().counters() {
            Self::count_in(&self.space.core.platform, counters, which, bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn count_in(platform: &P, counters: &Counters, [which, of]: [Counted; 2], bytes: u64) {
        let cpu = platform.cpu();
        counters.add(cpu, which, 1);
        counters.add(cpu, of, bytes);
    }

    /// A number that no other domain of the `Iommu` has had.
    pub fn id(&self) -> usize {
        self.space.id
    }

    /// The tags by which instances know it: one for each instance that it is attached on, and more where it is
    /// in several banks, or while its tag is being changed. Takes the operating system's lock.
    ///
    /// # Errors
    /// [`NoMemory`] for a list of them.
    pub fn targets(&self) -> Result<Vec<Target>, NoMemory> {
        self.space.targets()
    }

    #[inline(always)]
    pub(crate) fn table(&self) -> &PageTable {
        &self.own().tables
    }

    #[inline(always)]
    pub(crate) fn own(&self) -> &Own {
        match self.space.own() {
            Some(own) => own,
            // `new` makes the space with tables of its own, which never change into a process's.
            None => unreachable!("a domain has tables"),
        }
    }

    /// Lets devices reach `len` bytes at `pa` by the input addresses from `iova` on.
    ///
    /// May be called in interrupt context. Never waits for an attach; allocates frames for tables only.
    ///
    /// # Errors
    /// See [`MapErrorKind`]. On error nothing of the range is mapped: what had been was removed again,
    /// with its invalidation. Devices may have used it in between, and written: that is told nowhere. With
    /// [`MapError::unconfirmed`] an instance did not confirm the removal: neither the range nor the memory may be used again before
    /// it was reset, as after [`UnmapError::Unconfirmed`].
    ///
    /// # Safety
    /// The caller owns the memory for as long as it is mapped. No other operation of the domain touches an
    /// overlapping range meanwhile.
    pub unsafe fn map(
        &self,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let platform = &self.space.core.platform;
        let result = dispatch!(self.table(), table => {
            // SAFETY: the caller's promise; the frames are those that the table was made with.
            unsafe { table.map(platform, iova, pa, len, attributes) }
        });
        let Err(error) = result else {
            self.count_bytes([Counted::Maps, Counted::Mapped], len);
            return Ok(());
        };
        let mut unconfirmed = None;
        if error.mapped > 0 {
            self.count_bytes([Counted::Maps, Counted::Mapped], error.mapped);
            // SAFETY: a part of the range that the caller has to itself.
            match unsafe { self.unmap(iova, error.mapped) } {
                Err(UnmapError::Unconfirmed(failure)) => unconfirmed = Some(failure),
                // Does not happen: what was just mapped is whole pages and blocks from `iova` on, so none straddles its
                // end.
                Err(UnmapError::Table(_) | UnmapError::Split { .. } | UnmapError::Untracked)
                | Ok(_) => {}
            }
        }
        Err(MapError { kind: error.kind, unconfirmed })
    }

    /// Takes `len` bytes of input addresses from devices; holes are allowed. Once it has returned `Ok`, no
    /// device reaches the memory through them. Returns how many bytes had been mapped.
    ///
    /// What hardware marked in them goes with them: who must know what devices wrote ([`DomainConfig::dirty`]) calls
    /// [`Domain::unmap_reporting`].
    ///
    /// May be called in interrupt context. Never waits for an attach, and allocates nothing, unless it has to split a
    /// block ([`DomainConfig::splitting`]).
    ///
    /// # Errors
    /// [`UnmapError::Table`] when the range is unaligned, too large, or cuts a block that is not to be split: nothing was
    /// changed. [`UnmapError::Split`] when there is no memory to split it: nothing was unmapped, though an instance
    /// may have failed before.
    /// [`UnmapError::Unconfirmed`] when an instance did not answer: the range is unmapped and must not be
    /// used again before the instance was reset, nor the memory behind it.
    ///
    /// # Safety
    /// No other operation of the domain touches an overlapping range meanwhile.
    pub unsafe fn unmap(&self, iova: Iova, len: u64) -> Result<u64, UnmapError> {
        let own = self.own();
        let result = dispatch!(&own.tables, table => {
            // SAFETY: the caller's promise.
            unsafe { self.unmap_of(own, table, iova, len) }
        });
        if self.space.core.leaves_out(Mutation::UncountedUnmaps) {
            return result;
        }
        if let (Ok(unmapped), Some(counters)) = (result, own.counters()) {
            let which = [Counted::Unmaps, Counted::Unmapped];
            Self::count_in(&self.space.core.platform, counters, which, unmapped);
        }
        result
    }

    /// As [`Domain::unmap`], of the domain's tables.
    #[inline(always)]
    unsafe fn unmap_of<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        &self,
        own: &Own,
        table: &Table<SHIFT, STAGE, WIDE>,
        iova: Iova,
        len: u64,
    ) -> Result<u64, UnmapError> {
        let platform = &self.space.core.platform;
        // The fast way for most unmaps: pages in one table, which stays, so that nothing is gathered but the range.
        // Not asked at all without shorter ways of the driver's own: the tables may have theirs all the same, for another's sake.
        // SAFETY: the caller's promise; the frames are those that the table was made with.
        let pages = || unsafe { table.unmap_pages(platform, iova, len, &mut Gather::<4>::sized()) };
        if cfg!(feature = "fast-paths")
            && let Some(unmapped) = pages()
        {
            if unmapped != 0
                && let Err(unconfirmed) = self.settle_pages(own, iova.0, len, SHIFT)
            {
                return Err(UnmapError::Unconfirmed(unconfirmed));
            }
            return Ok(unmapped);
        }
        // SAFETY: as above.
        unsafe { self.unmap_by_cursor(own, table, iova, len) }
    }

    /// As [`Domain::unmap_of`], for ranges of any shape.
    #[inline(never)]
    unsafe fn unmap_by_cursor<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        &self,
        own: &Own,
        table: &Table<SHIFT, STAGE, WIDE>,
        iova: Iova,
        len: u64,
    ) -> Result<u64, UnmapError> {
        // SAFETY: the caller's promise.
        let (mut cursor, split) = unsafe { self.cursor(own, table, iova, len) }?;
        let result =
            Unconfirmed::both(split, self.settle_each(SHIFT, |gather| cursor.next(gather)));
        result.map(|()| cursor.unmapped()).map_err(UnmapError::Unconfirmed)
    }

    /// The cursor that unmaps the range, after blocks that its ends cut were split; and whether the invalidations of
    /// that split were confirmed.
    ///
    /// # Safety
    /// As for [`Domain::unmap`], until the cursor is dropped.
    #[inline(always)]
    pub(crate) unsafe fn cursor<'a, const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        &'a self,
        own: &Own,
        table: &'a Table<SHIFT, STAGE, WIDE>,
        iova: Iova,
        len: u64,
    ) -> Result<(Unmap<'a, P, SHIFT, STAGE, WIDE>, Result<(), Unconfirmed>), UnmapError> {
        let platform = &self.space.core.platform;
        let mut result = Ok(());
        // SAFETY: the caller's promise; the frames are those that the table was made with.
        let cursor = match unsafe { table.unmap(platform, iova, len) } {
            Err(cut @ TableUnmapError::Straddle { .. })
                if cfg!(feature = "resizing") && own.splits =>
            {
                // SAFETY: as above.
                result = unsafe { self.split(table, iova, len, cut) }?;
                // SAFETY: as above.
                unsafe { table.unmap(platform, iova, len) }
            }
            cursor => cursor,
        }
        .map_err(UnmapError::Table)?;
        Ok((cursor, result))
    }

    /// Splits the blocks that an end of the range cuts, which an unmap refused because of `cut`. What an instance did not
    /// confirm of that does not keep the range from being unmapped: the instance counts as failed, and the block
    /// is in quarantine.
    #[cold]
    unsafe fn split<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        &self,
        table: &Table<SHIFT, STAGE, WIDE>,
        iova: Iova,
        len: u64,
        cut: TableUnmapError,
    ) -> Result<Result<(), Unconfirmed>, UnmapError> {
        let platform = &self.space.core.platform;
        // SAFETY: the caller's promise; the frames are those that the table was made with.
        let cursor = unsafe { table.split(platform, iova, len) };
        let mut cursor = cursor.map_err(|error| UnmapError::Table(error.into()))?;
        let mut gather = Gather::new();
        let mut result = Ok(());
        loop {
            let step = cursor.next(&mut gather);
            if !gather.is_empty()
                && let Err(then) = self.settle(&mut gather, SHIFT)
            {
                Unconfirmed::add(&mut result, then);
            }
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(result),
                Err(SplitError::NotAllowed { .. }) => return Err(UnmapError::Table(cut)),
                Err(error) => {
                    return Err(UnmapError::Split { error, unconfirmed: result.err() });
                }
            }
        }
    }

    /// Takes `len` bytes of input addresses out of the tables, as [`Domain::unmap`], but tells no instance: devices that
    /// have used them may go on reaching the memory, until a [`Domain::invalidate_all`] that *began after* this call
    /// returned has returned `Ok`. One of those serves any number of these. Returns how many bytes had been mapped.
    ///
    /// Descriptors are cleared and published, so that no walk that begins afterwards finds them. Tables stay, even
    /// those that became empty, for [`Domain::reclaim`]. Accesses under way meanwhile reach the memory or fault.
    ///
    /// A [`Domain::unmap`] of the same addresses afterwards finds nothing mapped, tells nobody of them, and so is none of
    /// those invalidations. What hardware marked goes, as there: [`Domain::unmap_deferred_reporting`] tells of it.
    ///
    /// May be called in interrupt context. Never waits for anything, and allocates and frees nothing.
    ///
    /// # Errors
    /// [`UnmapError::Table`] as from [`Domain::unmap`]: nothing was changed. No other.
    ///
    /// # Safety
    /// No other operation of the domain touches an overlapping range meanwhile. Until the invalidation is confirmed,
    /// the memory stays the device's, as if it were mapped, and nothing is mapped in the range.
    pub unsafe fn unmap_deferred(&self, iova: Iova, len: u64) -> Result<u64, UnmapError> {
        let platform = &self.space.core.platform;
        let cleared = dispatch!(self.table(), table => {
            // SAFETY: the caller's promise; the frames are those that the table was made with.
            unsafe { table.clear(platform, iova, len) }
        });
        if let Ok(unmapped) = cleared {
            self.count_bytes([Counted::Unmaps, Counted::Unmapped], unmapped);
        }
        cleared.map_err(UnmapError::Table)
    }

    /// Makes every instance forget all translations of the domain, and waits until accesses that used them are over.
    /// Once it has returned `Ok`, no device reaches what had been taken out by a [`Domain::unmap_deferred`] that
    /// returned, on whichever CPU, before this call began. One that returns while this call is under way is not covered:
    /// its memory waits for the next.
    ///
    /// "Before" is the caller's to establish, when the two are on different CPUs: what tells this one that the other
    /// has returned must be read with Acquire, and have been written with Release (a lock will do). A master that
    /// is attached meanwhile, or whose tag is changed, needs no care: either its tag is among those that are
    /// invalidated, or its first walk finds the descriptors cleared (rules R5 and R6).
    ///
    /// All instances are told before the first is waited for: one command for each tag. Nothing is freed by it, and
    /// tables that [`Domain::unmap`] unlinked do not wait for it (rule R3).
    ///
    /// May be called in interrupt context, and by several CPUs at once. Never waits for an attach, and allocates
    /// nothing.
    ///
    /// # Errors
    /// [`Unconfirmed`] when an instance did not answer: the whole of the domain is in quarantine until that is reset,
    /// and what had been taken out stays the devices' as before. Another call that returns `Ok`, after the reset, ends
    /// that.
    pub fn invalidate_all(&self) -> Result<(), Unconfirmed> {
        let core = &self.space.core;
        self.count(Counted::Invalidations);
        self.space.invalidate(Scope::All, Which::All).inspect_err(|unconfirmed| {
            self.count(Counted::Unconfirmed);
            let all = 0..u64::MAX;
            core.quarantine.keep(&core.platform, unconfirmed.waiting.0, self.space.id, all, &[]);
        })
    }

    /// Frees empty tables that translate `iova..iova + len`; returns their number. Tables become empty by
    /// [`Domain::unmap`] in parts, and by [`Domain::unmap_deferred`].
    ///
    /// # Errors
    /// As [`Domain::unmap`].
    ///
    /// # Safety
    /// No other operation of the domain touches the range meanwhile, extended to whole tables (2 MiB; with 16 and 64
    /// KiB pages 32 and 512 MiB).
    pub unsafe fn reclaim(&self, iova: Iova, len: u64) -> Result<u64, ReclaimError> {
        let platform = &self.space.core.platform;
        let granule = self.own().granule_shift();
        dispatch!(self.table(), table => {
            // SAFETY: the caller's promise; the frames are those that the table was made with.
            let cursor = unsafe { table.reclaim(platform, iova, len) };
            let mut cursor = cursor.map_err(ReclaimError::Range)?;
            let result = self.settle_each(granule, |gather| cursor.next(gather));
            result.map(|()| cursor.reclaimed()).map_err(ReclaimError::Unconfirmed)
        })
    }

    /// The mapping of `iova`, if there is one.
    ///
    /// # Safety
    /// No other operation of the domain unmaps a range with `iova` meanwhile.
    pub unsafe fn lookup(&self, iova: Iova) -> Option<Mapping> {
        let platform = &self.space.core.platform;
        dispatch!(self.table(), table => {
            // SAFETY: the caller's promise; the frames are those that the table was made with.
            unsafe { table.lookup(platform, iova) }
        })
    }

    /// Ends the domain and frees its tables, those that an SMMU did not let go of when that is reset. No master can be
    /// attached to it afterwards.
    ///
    /// # Errors
    /// The domain, while masters are attached to it, or guests have SMMUs over it ([`Iommu::nest`](crate::Iommu::nest)).
    pub fn close(self) -> Result<(), Refused<Self, StillAttached>> {
        let configuration = &self.space.core.configuration;
        // Both are read under the mutex: a nest that is gone by then attaches nothing more, and all that it attached is
        // counted among the users.
        let (masters, nests) = configuration
            .with(|configuration| (self.space.users(configuration), self.own().live_nests()));
        match (masters, nests) {
            (0, 0) => Ok(()),
            (masters, nests) => {
                Err(Refused { value: self, error: StillAttached { masters, nests } })
            }
        }
    }

    /// The scope of the invalidation that is due for `gather`.
    #[inline(always)]
    pub(crate) fn scope<const TABLES: usize>(gather: &Gather<TABLES>, granule_shift: u32) -> Scope {
        let range = gather.range();
        Scope::Range(Range {
            start: range.start,
            bytes: range.end - range.start,
            granule_shift,
            leaf_shift: gather.leaf_size().map(u64::trailing_zeros),
            leaf_only: gather.leaf_only(),
        })
    }

    /// Invalidates `len` bytes of pages of 2^`shift` bytes from `start` on, whose table stays.
    #[inline(always)]
    fn settle_pages(&self, own: &Own, start: u64, len: u64, shift: u32) -> Result<(), Unconfirmed> {
        if own.counters().is_some() {
            self.count_pages(own);
        }
        let result = if own.guests {
            self.space.forget(pages(start, len, shift))
        } else {
            self.space.forget_pages(start, len, shift)
        };
        result.inspect_err(|unconfirmed| {
            self.quarantine(unconfirmed.waiting, start..start + len, &[]);
        })
    }

    /// Counts an invalidation of pages, with the commands that [`Space::forget_pages`] leaves to its caller to count.
    #[cold]
    #[inline(never)]
    fn count_pages(&self, own: &Own) {
        self.count_of(own, Counted::Invalidations);
        if !own.guests {
            let [commands, syncs] = ONE;
            self.space.count_commands(commands, syncs);
        }
    }

    /// Puts what `instances` did not confirm into quarantine.
    #[cold]
    #[inline(never)]
    fn quarantine(&self, waiting: InstanceSet, range: ops::Range<u64>, tables: &[Detached]) {
        let core = &self.space.core;
        self.count(Counted::Unconfirmed);
        core.quarantine.keep(&core.platform, waiting.0, self.space.id, range, tables);
    }

    /// Settles what `next` gathers, until it says that there is nothing more.
    #[inline(always)]
    pub(crate) fn settle_each(
        &self,
        granule_shift: u32,
        mut next: impl FnMut(&mut Gather) -> bool,
    ) -> Result<(), Unconfirmed> {
        let mut gather = Gather::new();
        let mut result = Ok(());
        while next(&mut gather) {
            if let Err(then) = self.settle(&mut gather, granule_shift) {
                Unconfirmed::add(&mut result, then);
            }
        }
        result
    }

    /// Invalidates what `gather` holds, frees the unlinked tables, and empties it. What cannot be freed goes
    /// into quarantine.
    #[inline(always)]
    pub(crate) fn settle(
        &self,
        gather: &mut Gather,
        granule_shift: u32,
    ) -> Result<(), Unconfirmed> {
        let core = &self.space.core;
        if core.leaves_out(Mutation::FreeBeforeSync) {
            // SAFETY: none: this is what the oracle must notice.
            unsafe { gather.free_tables(&core.platform) };
        }
        let range = gather.range();
        let scope = Self::scope(gather, granule_shift);
        let scope = core.wrong_scope(scope);
        self.count(Counted::Invalidations);
        let result = match self.space.forget(scope) {
            Ok(()) => {
                // SAFETY: the invalidation is complete on every instance that the domain is attached on, and
                // whoever attaches it later walks tables in which these are not linked (rule R5).
                unsafe { gather.free_tables(&core.platform) };
                Ok(())
            }
            Err(unconfirmed) => {
                self.quarantine(unconfirmed.waiting, range, gather.tables());
                Err(unconfirmed)
            }
        };
        gather.clear();
        result
    }
}
