// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address spaces: page tables, and who must be told when they change.

use alloc::vec::Vec;
use core::{fmt, ops};

use smmuv3_formats::granule::Granule;
use smmuv3_formats::{Iova, PhysAddr};
use smmuv3_pagetable::UnmapError as TableUnmapError;
use smmuv3_pagetable::{
    Attributes, Detached, Dirty, Gather, MapErrorKind, Mapping, RangeError, SplitError, Table,
    TableError, Unmap,
};

use crate::compatibility::Stage;
use crate::error::{StillAttached, Unconfirmed};
use crate::invalidate::{Range, Scope};
use crate::iommu::Core;
#[cfg(feature = "mutation")]
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::refused::Refused;
use crate::shared::{NoMemory, Shared, try_box};
use crate::space::{Space, Tables, Target, Targets, Which, pages};
use crate::statistics::{Counted, Counters, DomainStatistics};
use crate::tables::{Own, PageTable, dispatch};
use crate::targets::Snapshot;

/// The shape of a domain. What is left open follows from the instances that are enabled when it is created; any
/// instance that can walk the tables may come later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainConfig {
    /// Which stage its tables are for.
    pub stage: Stage,
    /// Size of a page, and of a table; `None` for the smallest that every instance with the stage has.
    pub granule: Option<Granule>,
    /// Bits of an input address, 32 to 48; 0 for as many as every instance supports. More, up to 52, take
    /// descriptors for 52-bit addresses (LPA2, or LPA with 64 KiB), which not every instance has.
    pub input_bits: u32,
    /// Bits of an output address, in the same way.
    pub output_bits: u32,
    /// Stage 1: its addresses are those of the upper half, which are sign-extended (TTB1). Accesses to the other half
    /// are refused.
    pub upper: bool,
    /// Stage 2: the level of the first table, where there is a choice (§15.4): a later one takes up to 16 tables side by
    /// side, and one step less to walk.
    pub start_level: Option<i8>,
    /// Maps set the contiguous hint where they store all of a group, so that TLBs need fewer entries.
    pub contiguous: bool,
    /// An [`Domain::unmap`] may cut blocks, where the instances bear it (BBML, §8.2). It may take frames for tables
    /// then. Without it, and on instances of BBML 0, blocks that are cut are an error.
    pub splitting: bool,
    /// With one of the last two: what is done to the tables needs this IDR3.BBML of an instance; `None` for the least of
    /// those enabled.
    pub bbml: Option<u32>,
    /// Mappings may be of every memory type, and have all permissions, that the stage can say. Otherwise they are those
    /// most need, for which maps and look-ups are faster.
    pub all_attributes: bool,
    /// Whether hardware marks what devices write, for [`Domain::read_and_clear_dirty`] and [`Domain::unmap_reporting`]
    /// (HTTU, §14). It takes coherent instances.
    pub dirty: Dirty,
    /// Mappings begin as never accessed, and hardware marks those that devices access, for
    /// [`Domain::read_and_clear_accessed`] (HTTU, §14). It takes coherent instances.
    pub access_flags: bool,
    /// Stage 2: types are those of its mappings, whatever devices say (S2FWB).
    pub forced_types: bool,
    /// Stage 2: the VMID on all instances, one of the hypervisor's ([`Config::hypervisor_vmids`]).
    ///
    /// [`Config::hypervisor_vmids`]: crate::Config::hypervisor_vmids
    pub vmid: Option<u16>,
    /// Counts what is mapped and unmapped, for [`Domain::statistics`], on each CPU's own cache lines.
    pub statistics: bool,
    /// Stage 2: guests may have a stage 1 over it ([`Iommu::nest`](crate::Iommu::nest)). An unmap then takes two rounds of
    /// invalidations, since what is cached of both stages together is not found by an address of the second (§4.2).
    pub guests: bool,
}

impl DomainConfig {
    /// For stage 2.
    #[must_use]
    pub const fn with_stage_2(mut self) -> Self {
        self.stage = Stage::Two;
        self
    }

    /// With that granule.
    #[must_use]
    pub const fn with_granule(mut self, granule: Granule) -> Self {
        self.granule = Some(granule);
        self
    }

    /// With input addresses of `bits` bits.
    #[must_use]
    pub const fn with_input_bits(mut self, bits: u32) -> Self {
        self.input_bits = bits;
        self
    }

    /// With output addresses of `bits` bits.
    #[must_use]
    pub const fn with_output_bits(mut self, bits: u32) -> Self {
        self.output_bits = bits;
        self
    }

    /// For the upper half of the addresses.
    #[must_use]
    pub const fn with_upper_half(mut self) -> Self {
        self.upper = true;
        self
    }

    /// With the first table at `level`.
    #[must_use]
    pub const fn with_start_level(mut self, level: i8) -> Self {
        self.start_level = Some(level);
        self
    }

    /// With the contiguous hint.
    #[must_use]
    pub const fn with_contiguous(mut self) -> Self {
        self.contiguous = true;
        self
    }

    /// With blocks that may be cut.
    #[must_use]
    pub const fn with_splitting(mut self) -> Self {
        self.splitting = true;
        self
    }

    /// For instances of at least that IDR3.BBML.
    #[must_use]
    pub const fn with_bbml(mut self, bbml: u32) -> Self {
        self.bbml = Some(bbml);
        self
    }

    /// With all attributes.
    #[must_use]
    pub const fn with_all_attributes(mut self) -> Self {
        self.all_attributes = true;
        self
    }

    /// With marks of what devices write.
    #[must_use]
    pub const fn with_dirty(mut self, dirty: Dirty) -> Self {
        self.dirty = dirty;
        self
    }

    /// With marks of what devices access.
    #[must_use]
    pub const fn with_access_flags(mut self) -> Self {
        self.access_flags = true;
        self
    }

    /// With forced types.
    #[must_use]
    pub const fn with_forced_types(mut self) -> Self {
        self.forced_types = true;
        self
    }

    /// With counts of what is mapped and unmapped.
    #[must_use]
    pub const fn with_statistics(mut self) -> Self {
        self.statistics = true;
        self
    }

    /// For guests, too.
    #[must_use]
    pub const fn with_guests(mut self) -> Self {
        self.guests = true;
        self
    }

    /// With a VMID of the hypervisor's.
    #[must_use]
    pub const fn with_vmid(mut self, vmid: u16) -> Self {
        self.vmid = Some(vmid);
        self
    }
}

/// Why a domain could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// No heap memory.
    NoMemory,
    /// No first table, or sizes that no table has.
    Table(TableError),
    /// Tables of that kind were left out of the driver (features `stage-2`, `granules`, `wide`).
    LeftOut,
    /// It is not a VMID that the hypervisor has for itself
    /// ([`Config::hypervisor_vmids`](crate::Config::hypervisor_vmids)), or the domain is not for stage 2.
    Vmid {
        /// The VMID.
        vmid: u16,
    },
}

impl From<NoMemory> for CreateError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory"),
            Self::Table(error) => error.fmt(f),
            Self::LeftOut => f.write_str("the driver was built without such tables"),
            Self::Vmid { vmid } => write!(f, "VMID {vmid:#x} is not the hypervisor's"),
        }
    }
}

impl core::error::Error for CreateError {}

/// Why a range was not mapped. Nothing of it is mapped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapError {
    /// What was wrong.
    pub kind: MapErrorKind,
    /// Set when a part had been mapped, was removed again, and an instance did not confirm that.
    pub unconfirmed: Option<Unconfirmed>,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match &self.unconfirmed {
            Some(unconfirmed) => write!(f, "; while undoing a part: {unconfirmed}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for MapError {}

/// Why an unmap is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmapError {
    /// The range cannot be unmapped. Nothing was changed.
    Table(TableUnmapError),
    /// A block that an end of the range cuts could not be split. Nothing was unmapped.
    Split(SplitError),
    /// What devices wrote was to be told ([`Domain::unmap_reporting`]), and hardware does not mark that
    /// ([`DomainConfig::dirty`]). Nothing was changed.
    Untracked,
    /// The range is unmapped, but an instance may still reach the memory; it is in quarantine.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(error) => error.fmt(f),
            Self::Split(error) => error.fmt(f),
            Self::Untracked => f.write_str("hardware does not mark what devices write there"),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for UnmapError {}

/// An address space that masters behind any number of SMMUs can be attached to.
///
/// Dropping a domain that masters are attached to changes nothing for them; its memory is freed with the
/// last of them.
pub struct Domain<P: Platform> {
    pub(crate) space: Shared<Space<P>>,
}

impl<P: Platform> Domain<P> {
    pub(crate) fn new(
        core: Shared<Core<P>>,
        id: usize,
        config: DomainConfig,
        removed: u64,
    ) -> Result<Self, CreateError> {
        if let Some(vmid) = config.vmid
            && (config.stage != Stage::Two || !core.config.is_hypervisors(vmid))
        {
            return Err(CreateError::Vmid { vmid });
        }
        let present = core.instances.iter().filter(|(id, _)| removed & id.bit() == 0);
        let features = present.map(|(_, instance)| instance.features());
        let targets = try_box(Targets::new())?;
        let cpus = core.platform.max_cpus();
        let counters = config.statistics.then(|| Counters::new(cpus)).transpose()?;
        let mut own = Own::new(&core.platform, &config, features)?;
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
            if self.own().counters.is_some() {
                let instances = core.instances.iter().map(|(id, _)| id);
                instances.for_each(|id| configuration.settle_faults(core, id));
            }
            (self.space.users(configuration), self.space.targets.for_writer().len())
        });
        let counted = self.own().counters.as_ref().map(Counters::sums);
        DomainStatistics { masters, tags, counted }
    }

    /// Counts one of what `which` says, if that was asked for.
    #[inline(always)]
    fn count(&self, which: Counted) {
        self.count_of(self.own(), which);
    }

    /// As [`Domain::count`], of what is the domain's own.
    #[inline(always)]
    fn count_of(&self, own: &Own, which: Counted) {
        if let Some(counters) = &own.counters {
            counters.add(self.space.core.platform.cpu(), which, 1);
        }
    }

    /// Counts one of what `which` says, and `bytes` of it, if that was asked for.
    #[inline(always)]
    pub(crate) fn count_bytes(&self, which: [Counted; 2], bytes: u64) {
        if let Some(counters) = &self.own().counters {
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
    /// in several banks, or while its tag is being changed. None if there is no memory for a list of them.
    pub fn targets(&self) -> Vec<Target> {
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
            // `new` makes it with them, and they stay.
            None => unreachable!("a domain has tables"),
        }
    }

    /// Lets devices reach `len` bytes at `pa` by the input addresses from `iova` on.
    ///
    /// May be called in interrupt context. Never waits for an attach; allocates frames for tables only.
    ///
    /// # Errors
    /// See [`MapErrorKind`]. On error nothing of the range is mapped: what had been was removed again,
    /// with its invalidation. Devices may have used it in between, and written: that is told nowhere.
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
                // What was just mapped, page by page from its start, has no block that straddles its end.
                Err(UnmapError::Table(_) | UnmapError::Split(_) | UnmapError::Untracked)
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
    /// changed. [`UnmapError::Split`] when there is no memory to split it: nothing was unmapped.
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
        #[cfg(feature = "mutation")]
        if self.space.core.leaves_out(Mutation::UncountedUnmaps) {
            return result;
        }
        if let (Ok(unmapped), Some(counters)) = (result, &own.counters) {
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
        // Most unmaps are of pages in one table, which stays: what would be gathered is known.
        // SAFETY: the caller's promise; the frames are those that the table was made with.
        let pages = unsafe { table.unmap_pages(platform, iova, len, &mut Gather::<4>::sized()) };
        if let Some(unmapped) = pages {
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

    /// As [`Domain::unmap_of`], of whatever it may be.
    #[inline(never)]
    unsafe fn unmap_by_cursor<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        &self,
        own: &Own,
        table: &Table<SHIFT, STAGE, WIDE>,
        iova: Iova,
        len: u64,
    ) -> Result<u64, UnmapError> {
        let mut gather = Gather::new();
        // SAFETY: the caller's promise.
        let (mut cursor, mut result) = unsafe { self.cursor(own, table, iova, len) }?;
        while cursor.next(&mut gather) {
            result = result.and(self.settle(&mut gather, SHIFT));
        }
        result.map(|()| cursor.unmapped()).map_err(UnmapError::Unconfirmed)
    }

    /// What unmaps the range, of which no block is cut any more; and what became of splitting those.
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
            if !gather.is_empty() {
                result = result.and(self.settle(&mut gather, SHIFT));
            }
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(result),
                Err(SplitError::NotAllowed { .. }) => return Err(UnmapError::Table(cut)),
                Err(error) => return Err(UnmapError::Split(error)),
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
        self.space.invalidate(Scope::All, Which::All).map_err(|(unconfirmed, instances)| {
            self.count(Counted::Unconfirmed);
            let all = 0..u64::MAX;
            core.quarantine.keep(&core.platform, instances, self.space.id, all, &[]);
            unconfirmed
        })
    }

    /// Frees tables below `iova`.. that hold no mapping any more. Returns how many were freed.
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
            let mut gather = Gather::new();
            let mut result = Ok(());
            while cursor.next(&mut gather) {
                result = result.and(self.settle(&mut gather, granule));
            }
            result.map(|()| cursor.reclaimed()).map_err(ReclaimError::Unconfirmed)
        })
    }

    /// What `iova` is mapped to.
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

    /// Ends the domain and frees its tables, those that an SMMU did not let go of when that is reset.
    ///
    /// # Errors
    /// The domain, while masters are attached to it.
    pub fn close(self) -> Result<(), Refused<Self, StillAttached>> {
        let configuration = &self.space.core.configuration;
        let masters = configuration.with(|configuration| self.space.users(configuration));
        match masters {
            0 => Ok(()),
            masters => Err(Refused { value: self, error: StillAttached { masters } }),
        }
    }

    /// What an invalidation of what `gather` holds must cover.
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
        let counted = own.counters.is_some();
        if counted {
            self.count_of(own, Counted::Invalidations);
        }
        let result = match counted {
            _ if own.guests => self.space.forget(pages(start, len, shift)),
            true => self.space.forget_pages::<true>(start, len, shift),
            false => self.space.forget_pages::<false>(start, len, shift),
        };
        result.map_err(|(unconfirmed, instances)| {
            self.quarantine(instances, start..start + len, &[]);
            unconfirmed
        })
    }

    /// Keeps what `instances` did not confirm.
    #[cold]
    #[inline(never)]
    fn quarantine(&self, instances: u64, range: ops::Range<u64>, tables: &[Detached]) {
        let core = &self.space.core;
        self.count(Counted::Unconfirmed);
        core.quarantine.keep(&core.platform, instances, self.space.id, range, tables);
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
        #[cfg(feature = "mutation")]
        if core.leaves_out(Mutation::FreeBeforeSync) {
            // SAFETY: none: this is what the oracle must notice.
            unsafe { gather.free_tables(&core.platform) };
        }
        let range = gather.range();
        let scope = Self::scope(gather, granule_shift);
        #[cfg(feature = "mutation")]
        let scope = core.wrong_scope(scope);
        self.count(Counted::Invalidations);
        let result = match self.space.forget(scope) {
            Ok(()) => {
                // SAFETY: the invalidation is complete on every instance that the domain is attached on, and
                // whoever attaches it later walks tables in which these are not linked (rule R5).
                unsafe { gather.free_tables(&core.platform) };
                Ok(())
            }
            Err((unconfirmed, instances)) => {
                self.quarantine(instances, range, gather.tables());
                Err(unconfirmed)
            }
        };
        gather.clear();
        result
    }
}

/// Why tables were not reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReclaimError {
    /// The range makes no sense. Nothing was changed.
    Range(RangeError),
    /// Tables were unlinked, but an instance may still read them; they are in quarantine.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for ReclaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(error) => error.fmt(f),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for ReclaimError {}
