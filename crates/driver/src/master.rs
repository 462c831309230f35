// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices: one or more streams behind one SMMU.

use alloc::vec::Vec;
use core::fmt;

use smmuv3_formats::{PhysAddr, Ste, StreamId, SubstreamId};

use crate::ats::{AtsMode, NoSplitAts};
use crate::attach::{before_split, fill, write, write_all};
use crate::compatibility::Stage;
use crate::context_table::{ContextFormat, ContextTable};
use crate::entry::{Stage2, Stream, WithoutSubstream};
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::features::Features;
use crate::instance::Instance;
use crate::iommu::{Core, Smmu};
use crate::legal;
#[cfg(feature = "mutation")]
use crate::mutation::Mutation;
use crate::nest::state::NestState;
use crate::overrides::{OverrideError, Overrides};
use crate::page_group;
use crate::place::{Bound, Slot, WITHOUT};
use crate::platform::Platform;
use crate::refused::Refused;
use crate::shared::{NoMemory, Shared};
use crate::stall;
use crate::update::{CdKind, Entry, SteKind, Words, critical};

/// How a master is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MasterConfig {
    /// Bits of the PASIDs that it may use; 0 for none. Fewer where the instance has fewer (IDR1.SSIDSIZE), and 10 at
    /// most where it has linear context tables only.
    pub substream_bits: u32,
    /// Its translation faults stall: each is reported as a [`Fault`](crate::Fault) that the caller answers.
    pub stalls: bool,
    /// Whether, and how, its streams may keep translations (PCIe ATS) while the master is attached: the driver switches them
    /// on and off by [`Platform::enable_ats`] and [`Platform::disable_ats`]. At first they are off.
    ///
    /// Not together with [`MasterConfig::stalls`], nor where the SMMU stalls always.
    ///
    /// A device with [`AtsMode::Full`], which counts for nothing where the instance has no ATS, is trusted: with an address
    /// that it says was translated, it reaches any memory. One with [`AtsMode::Split`] is not, and reaches no more than its
    /// guest has.
    pub ats: AtsMode,
    /// Each of its streams may ask for pages (PCIe PRI), and have so many requests under way; 0 for none. Each request
    /// is reported ([`Report::Pages`](crate::Report::Pages)) for the caller to answer. The driver switches that on and
    /// off with ATS, by [`Platform::enable_page_requests`] and [`Platform::disable_page_requests`].
    pub page_requests: u32,
    /// Its devices need the PASID in answers to requests with one ("PRG Response PASID Required"); else they need answers
    /// without.
    pub response_pasid: bool,
    /// Attributes of its accesses that the SMMU overrides.
    pub overrides: Overrides,
}

impl MasterConfig {
    /// With translations that its streams keep, of all stages ([`AtsMode::Full`]), or without.
    #[must_use]
    pub const fn with_ats(mut self, ats: bool) -> Self {
        self.ats = if ats { AtsMode::Full } else { AtsMode::Off };
        self
    }

    /// With translations that its streams keep of a guest's stage 1 alone ([`AtsMode::Split`]). Not for devices that take
    /// what they are given for physical addresses on a link of their own, as those of CXL.cache do (§12.2).
    #[must_use]
    pub const fn with_split_ats(mut self) -> Self {
        self.ats = AtsMode::Split;
        self
    }

    /// With requests for pages, `credits` for each of its streams, which also need translations that they keep
    /// ([`MasterConfig::with_ats`], [`MasterConfig::with_split_ats`]); and whether devices need the PASID in answers.
    #[must_use]
    pub const fn with_page_requests(mut self, credits: u32, response_pasid: bool) -> Self {
        self.page_requests = credits;
        self.response_pasid = response_pasid;
        self
    }

    /// With PASIDs of `bits` bits.
    #[must_use]
    pub const fn with_substream_bits(mut self, bits: u32) -> Self {
        self.substream_bits = bits;
        self
    }

    /// With faults that stall until the caller answers them, for devices that can wait: those of a platform, whose
    /// firmware says so. Never for PCIe, where an access that waits may stop those that the answer depends on. Where the
    /// SMMU stalls always ([`Stalls::Forced`](crate::features::Stalls)), all masters do.
    #[must_use]
    pub const fn with_stalls(mut self) -> Self {
        self.stalls = true;
        self
    }

    /// With attributes overridden.
    #[must_use]
    pub const fn with_overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }
}

/// A device that can be attached to a domain.
///
/// Dropping it leaves it as it is, attached or not; [`Master::close`] forgets a blocked one.
pub struct Master<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) index: usize,
    instance: InstanceId,
    substream_bits: u32,
}

/// What a master is, under the configuration mutex.
pub(crate) struct MasterState {
    pub(crate) instance: InstanceId,
    pub(crate) streams: Vec<StreamId>,
    /// Room for those of them that are being let out of quarantine.
    pub(crate) cut_off: Vec<StreamId>,
    /// Bits of a substream.
    pub(crate) bits: u32,
    /// Its contexts, once one was needed. Hardware reads them while its entries say that stage 1 translates.
    pub(crate) table: Option<ContextTable>,
    /// Attributes that its entries override.
    pub(crate) overrides: Overrides,
    /// The bank that it is in, while it uses any address space.
    pub(crate) vmid: u16,
    /// What its entries say if its own accesses are translated by stage 2.
    pub(crate) stage_2: Option<Stage2>,
    /// And what they say instead, if a guest has a say in it.
    pub(crate) nested: Option<Ste>,
    /// That guest's, as long as it may be reached by its commands.
    pub(crate) nest: Option<Shared<NestState>>,
    /// Another's, which it was being taken from when the instance did not confirm that.
    pub(crate) former: Option<Shared<NestState>>,
    /// The instance did not confirm that bank: whatever the master does may still be tagged as in the one before.
    pub(crate) adrift: bool,
    /// How its streams may keep translations,
    pub(crate) ats: AtsMode,
    /// and whether their devices have that on.
    pub(crate) on: bool,
    /// Requests for pages that each of them may have under way; 0 for none.
    pub(crate) page_requests: u32,
    /// Answers to those carry their PASID.
    pub(crate) response_pasid: bool,
    /// Its accesses without a substream.
    pub(crate) own: Slot,
    /// Those with substreams that are not blocked, in order.
    pub(crate) others: Vec<(u32, Slot)>,
    /// Its translation faults stall.
    pub(crate) stalls: bool,
    /// Its entries are as they were adopted.
    pub(crate) adopted: bool,
    /// Its streams were kept when its instance was enabled, and nobody has a handle of it yet.
    pub(crate) kept: bool,
}

/// Why a master was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddMasterError {
    /// A master needs at least one stream.
    NoStream,
    /// The instance's stream table does not reach that far; or a leaf of it that was adopted ([`Probe::adopt`]).
    ///
    /// [`Probe::adopt`]: crate::Probe::adopt
    OutOfRange {
        /// The stream.
        stream: StreamId,
        /// Bits of a StreamID in the table.
        bits: u32,
    },
    /// The stream belongs to a master already, or was named twice.
    Taken {
        /// The stream.
        stream: StreamId,
    },
    /// The instance cannot override what [`MasterConfig::overrides`] says.
    Overrides(OverrideError),
    /// The instance was removed, or belongs to another `Iommu`.
    NoInstance,
    /// Faults are to stall, and the instance only terminates (IDR0.STALL_MODEL = 1).
    NoStalls,
    /// Devices are to ask for pages, and the instance takes no requests (IDR0.PRI,
    /// [`InstanceConfig::page_request_queue_log2`](crate::InstanceConfig::page_request_queue_log2)), or the master is to
    /// have no ATS.
    NoPageRequests,
    /// Its devices are to have more requests for pages under way than the instance's queue has room for, beside those of
    /// other masters.
    NoCredits {
        /// How many it has room for. Each stream takes its credits, and one more.
        free: u64,
    },
    /// It is to keep translations (ATS), and its faults stall: by its configuration, or since the instance always stalls
    /// (IDR0.STALL_MODEL = 2). Stage 2 excludes that (§7.1), and what waits for a fault would hold up what it asks for.
    AtsStalls,
    /// It is to keep translations of a guest's stage 1 alone ([`AtsMode::Split`]), which the instance does not have.
    NoSplitAts(NoSplitAts),
    /// No memory.
    NoMemory,
    /// Its entries in the stream table were made, and abort, but the instance did not confirm that it has
    /// noticed. No master was added; the entries stay. With [`Failure::Failed`] the instance was waiting for a
    /// reset already, and nothing was changed: unless it failed in another call after this one had found it well
    /// and before it told it; then the entries stay, too.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for AddMasterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStream => f.write_str("a master needs at least one stream"),
            Self::OutOfRange { stream, bits } => {
                write!(f, "stream {stream} is beyond the table of {bits}-bit streams")
            }
            Self::Taken { stream } => write!(f, "stream {stream} belongs to a master already"),
            Self::Overrides(error) => error.fmt(f),
            Self::NoInstance => f.write_str("the instance is not one of this Iommu"),
            Self::NoStalls => f.write_str("the instance cannot stall faults"),
            Self::NoPageRequests => f.write_str("the instance takes no requests for pages"),
            Self::NoCredits { free } => {
                write!(f, "the instance has room for {free} more requests for pages")
            }
            Self::AtsStalls => f.write_str("a device that keeps translations cannot stall"),
            Self::NoSplitAts(error) => error.fmt(f),
            Self::NoMemory => f.write_str("no memory"),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for AddMasterError {}

/// Why a master was not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseMasterError {
    /// It is attached, by itself or with a PASID: see [`Iommu::detach`](crate::Iommu::detach),
    /// [`Iommu::detach_pasid`](crate::Iommu::detach_pasid) and [`Bond::unbind`](crate::Bond::unbind).
    Attached,
    /// Its instance did not confirm that it is not, and has to be reset.
    Unconfirmed,
}

impl fmt::Display for CloseMasterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attached => "the master is attached",
            Self::Unconfirmed => "the master was detached, but its SMMU did not confirm that",
        })
    }
}

impl core::error::Error for CloseMasterError {}

impl<P: Platform> Master<P> {
    pub(crate) fn add(
        core: &Shared<Core<P>>,
        smmu: &Smmu<P>,
        streams: &[StreamId],
        config: MasterConfig,
    ) -> Result<Self, AddMasterError> {
        if streams.is_empty() {
            return Err(AddMasterError::NoStream);
        }
        let instance = core.instances.get(smmu.id).filter(|_| smmu.core.is(core));
        let Some(instance) = instance else { return Err(AddMasterError::NoInstance) };
        config.overrides.fits(instance.features()).map_err(AddMasterError::Overrides)?;
        core.configuration.with(|configuration| {
            if configuration.asids.removed() & smmu.id.bit() != 0 {
                return Err(AddMasterError::NoInstance);
            }
            let stalls = instance.features().stalls_if(config.stalls);
            if config.stalls && !stalls {
                return Err(AddMasterError::NoStalls);
            }
            let ats = instance.features().ats_if(config.ats);
            let ats = ats.map_err(AddMasterError::NoSplitAts)?;
            if stalls && ats.is_some() {
                return Err(AddMasterError::AtsStalls);
            }
            if config.page_requests != 0 {
                let queue = instance.page_requests().filter(|_| config.ats.is_some());
                let Some(queue) = queue else { return Err(AddMasterError::NoPageRequests) };
                let masters = configuration.masters.iter().map(|(_, state)| state);
                let taken = page_group::taken(masters.filter(|state| state.instance == smmu.id));
                let free = queue.size().entries().saturating_sub(taken);
                if page_group::share(streams.len(), config.page_requests) > free {
                    return Err(AddMasterError::NoCredits { free });
                }
            }
            for (index, stream) in streams.iter().enumerate() {
                if !instance.streams().reaches(*stream) {
                    let bits = instance.streams().log2();
                    return Err(AddMasterError::OutOfRange { stream: *stream, bits });
                }
                let before = streams.iter().take(index);
                if before.into_iter().any(|other| other == stream)
                    || configuration.streams.binary_search(&(smmu.id, *stream)).is_ok()
                {
                    return Err(AddMasterError::Taken { stream: *stream });
                }
            }
            if ats.is_some() {
                let masters = configuration.masters.iter().map(|(_, state)| state);
                let here = masters.filter(|it| it.instance == smmu.id && it.ats.is_some());
                let others: usize = here.map(|state| state.streams.len()).sum();
                let all = others.saturating_add(streams.len());
                let reserved = instance.silent().reserve(&core.platform, all);
                reserved.map_err(|NoMemory| AddMasterError::NoMemory)?;
            }
            let unconfirmed =
                |what| AddMasterError::Unconfirmed(Unconfirmed { instance: smmu.id, what });
            if instance.streams().split().is_some() && instance.commands().has_failed() {
                return Err(unconfirmed(Failure::Failed));
            }
            let (mut own, mut cut_off) = (Vec::new(), Vec::new());
            if own.try_reserve_exact(streams.len()).is_err()
                || cut_off.try_reserve_exact(streams.len()).is_err()
                || configuration.streams.try_reserve(streams.len()).is_err()
                || configuration.masters.reserve(1).is_err()
            {
                return Err(AddMasterError::NoMemory);
            }
            own.extend(streams.iter().copied());
            let (platform, features) = (&core.platform, instance.features());
            let bits = config.substream_bits.min(ContextTable::most_bits(features));
            // A single context is made here; a table when it is needed.
            let mut table = None;
            if bits == 0 {
                // SAFETY: there is one platform only.
                let one = unsafe { ContextTable::new(platform, features, 0) };
                table = Some(one.ok_or(AddMasterError::NoMemory)?);
            }
            let made = make_entries(core, instance, streams);
            let made = made.map_err(|error| error.map_or(AddMasterError::NoMemory, unconfirmed));
            let missing =
                |stream: &&StreamId| instance.streams().entry(platform, **stream).is_none();
            let made = made.and_then(|()| match streams.iter().find(missing).copied() {
                // A leaf that was adopted ends before it.
                Some(stream) => {
                    Err(AddMasterError::OutOfRange { stream, bits: instance.streams().log2() })
                }
                None => Ok(()),
            });
            if let Err(error) = made {
                if let Some(table) = table {
                    // SAFETY: allocated just now; no entry leads to it.
                    unsafe { table.free(platform) };
                }
                return Err(error);
            }
            for stream in streams {
                let key = (smmu.id, *stream);
                let at = configuration.streams.partition_point(|other| *other < key);
                // There is room.
                configuration.streams.insert(at, key);
            }
            let adopted = configuration.claim_adopted(smmu.id, streams);
            let index = configuration.masters.insert(MasterState {
                instance: smmu.id,
                streams: own,
                cut_off,
                bits,
                table,
                overrides: config.overrides,
                vmid: 0,
                stage_2: None,
                nested: None,
                nest: None,
                former: None,
                adrift: false,
                ats,
                page_requests: config.page_requests,
                response_pasid: config.page_requests != 0 && config.response_pasid,
                on: false,
                own: Slot::Blocked,
                others: Vec::new(),
                stalls,
                adopted,
                kept: false,
            });
            Ok(Self { core: core.clone(), index, instance: smmu.id, substream_bits: bits })
        })
    }

    /// The handle of a master that has none, by its index.
    pub(crate) fn of(core: &Shared<Core<P>>, index: usize, state: &MasterState) -> Self {
        let (instance, substream_bits) = (state.instance, state.bits);
        Self { core: core.clone(), index, instance, substream_bits }
    }

    /// The instance that it is behind.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Bits of the PASIDs that it may use; 0 for none.
    pub fn substream_bits(&self) -> u32 {
        self.substream_bits
    }

    /// Forgets the master, which must be blocked, with all its PASIDs.
    ///
    /// # Errors
    /// The master, with [`CloseMasterError`].
    pub fn close(self) -> Result<(), Refused<Self, CloseMasterError>> {
        let closed = self.core.configuration.with(|configuration| {
            // A handle's master is there.
            let Some(state) = configuration.masters.get(self.index) else { return Ok(None) };
            let given = state.nest.is_some() || state.former.is_some() || state.adopted;
            if !matches!(state.own, Slot::Blocked) || !state.others.is_empty() || given {
                return Err(match state.is_stuck() {
                    true => CloseMasterError::Unconfirmed,
                    false => CloseMasterError::Attached,
                });
            }
            let Some(state) = configuration.masters.remove(self.index) else { return Ok(None) };
            for stream in &state.streams {
                if let Ok(at) = configuration.streams.binary_search(&(state.instance, *stream)) {
                    configuration.streams.remove(at);
                }
            }
            Ok(state.table)
        });
        match closed {
            Err(error) => Err(Refused { value: self, error }),
            Ok(None) => Ok(()),
            Ok(Some(table)) => {
                // SAFETY: allocated for this master; the streams' entries abort, which every instance confirmed
                // before the master counted as blocked, so no SMMU reads the contexts.
                unsafe { table.free(&self.core.platform) };
                Ok(())
            }
        }
    }
}

impl MasterState {
    /// A change is waiting for a reset.
    pub(crate) fn is_stuck(&self) -> bool {
        self.adrift || self.slots().any(|slot| matches!(slot, Slot::Stuck(_)))
    }

    /// It uses an address space, or may.
    pub(crate) fn is_occupied(&self) -> bool {
        self.slots().any(|slot| matches!(slot, Slot::At(_) | Slot::Stuck(_)))
    }

    /// Its accesses without a substream are translated by stage 2, and those with one refused.
    pub(crate) fn uses_stage_2(&self) -> bool {
        matches!(self.own, Slot::At(_)) && self.stage_2.is_some()
    }

    /// The substream that keeps it from using tables of `stage` with `substream`: a stream's entry says either that
    /// stage 2 translates, or that contexts do.
    pub(crate) fn clash(&self, substream: u32, stage: Stage) -> Option<u32> {
        match stage {
            Stage::Two if substream == WITHOUT => self.others.first().map(|(other, _)| *other),
            Stage::Two => Some(substream),
            Stage::One => (substream != WITHOUT && self.uses_stage_2()).then_some(substream),
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        core::iter::once(&self.own).chain(self.others.iter().map(|(_, slot)| slot))
    }

    /// Its seats.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = Bound> {
        self.slots().filter_map(Slot::bound)
    }

    pub(crate) fn slot(&self, substream: u32) -> Slot {
        if substream == WITHOUT {
            return self.own;
        }
        let at = self.others.binary_search_by_key(&substream, |(substream, _)| *substream);
        at.ok().and_then(|at| self.others.get(at)).map_or(Slot::Blocked, |(_, slot)| *slot)
    }

    /// A change that waits for a reset, with the seats that it was between.
    pub(crate) fn stuck_slot(&self) -> Option<(u32, [Option<Bound>; 2])> {
        let own = core::iter::once((WITHOUT, self.own));
        own.chain(self.others.iter().copied()).find_map(|(substream, slot)| match slot {
            Slot::Stuck(bounds) => Some((substream, bounds)),
            Slot::Blocked | Slot::Identity | Slot::At(_) => None,
        })
    }

    /// Seats that a failed change was between.
    pub(crate) fn stuck(&self) -> impl Iterator<Item = Bound> {
        self.slots()
            .filter_map(|slot| match slot {
                Slot::Stuck(bounds) => Some(*bounds),
                Slot::Blocked | Slot::Identity | Slot::At(_) => None,
            })
            .flatten()
            .flatten()
    }

    /// Room for the slot of `substream`.
    pub(crate) fn reserve(&mut self, substream: u32) -> Result<(), NoMemory> {
        if substream == WITHOUT {
            return Ok(());
        }
        self.others.try_reserve(1).map_err(|_| NoMemory)
    }

    /// There is room ([`MasterState::reserve`]).
    pub(crate) fn set_slot(&mut self, substream: u32, slot: Slot) {
        if substream == WITHOUT {
            self.own = slot;
            return;
        }
        let at = self.others.binary_search_by_key(&substream, |(substream, _)| *substream);
        match (at, slot) {
            (Ok(at), Slot::Blocked) => {
                self.others.remove(at);
            }
            (Err(_), Slot::Blocked) => {}
            (Ok(at), _) => {
                if let Some(place) = self.others.get_mut(at) {
                    place.1 = slot;
                }
            }
            (Err(at), _) => self.others.insert(at, (substream, slot)),
        }
    }

    /// What is not blocked of it.
    pub(crate) fn slot_mut(&mut self, substream: u32) -> Option<&mut Slot> {
        if substream == WITHOUT {
            return Some(&mut self.own);
        }
        let at = self.others.binary_search_by_key(&substream, |(substream, _)| *substream);
        Some(&mut self.others.get_mut(at.ok()?)?.1)
    }

    /// Its seat at `place`.
    pub(crate) fn bound_mut(&mut self, substream: u32, place: usize) -> Option<&mut Bound> {
        match self.slot_mut(substream)? {
            Slot::At(bound) => Some(bound),
            Slot::Stuck(bounds) => bounds.iter_mut().flatten().find(|bound| bound.place == place),
            Slot::Blocked | Slot::Identity => None,
        }
    }

    /// What the entries of its streams are to say.
    pub(crate) fn stream(&self) -> Stream {
        if let (Slot::At(_), Some(tables)) = (self.own, self.stage_2) {
            return self.nested.map_or(Stream::Stage2(tables), Stream::Nested);
        }
        let without = match self.own {
            Slot::At(_) => WithoutSubstream::First,
            Slot::Identity => WithoutSubstream::Bypass,
            Slot::Blocked | Slot::Stuck(_) => WithoutSubstream::Terminate,
        };
        let used = self.others.iter().any(|(_, slot)| matches!(slot, Slot::At(_)));
        match (&self.table, without) {
            (Some(table), without) if used || without == WithoutSubstream::First => {
                Stream::Stage1 {
                    contexts: table.base(),
                    format: table.format(),
                    bits: table.bits(),
                    without,
                    vmid: self.vmid,
                }
            }
            (_, WithoutSubstream::Bypass) => Stream::Identity,
            _ => Stream::Blocked,
        }
    }

    /// The context of `substream`, where there is memory for it.
    pub(crate) fn entry<P: Platform>(
        &self,
        platform: &P,
        substream: SubstreamId,
    ) -> Option<Entry<'static>> {
        self.table.as_ref()?.entry(platform, substream)
    }

    /// Sees to it that there is memory for the context of `substream`. Hardware does not see it yet.
    pub(crate) fn make_room<P: Platform>(
        &mut self,
        platform: &P,
        features: &Features,
        substream: SubstreamId,
    ) -> Result<(), NoMemory> {
        if self.table.is_none() {
            // SAFETY: there is one platform only.
            self.table =
                Some(unsafe { ContextTable::new(platform, features, self.bits) }.ok_or(NoMemory)?);
        }
        let table = self.table.as_ref().ok_or(NoMemory)?;
        table.make_room(platform, substream).ok_or(NoMemory)
    }

    /// Sees to it that the context of `substream` can become another without a moment in between, where hardware may be
    /// reading it. Without memory for that there is such a moment.
    pub(crate) fn make_copy<P: Platform>(&mut self, platform: &P, substream: u32) {
        let changes = self.slot(substream).bound().is_some() && !self.stalls;
        if let Some(table) = self.table.as_mut().filter(|_| changes) {
            let _ = table.reserve_copy(platform);
        }
    }

    /// Where `context` is to be written for `pasid`, beside the one that hardware may be reading: where the two differ in
    /// more than a word, nothing stalls, which would have to be told apart by a moment without one, and the bank stays.
    pub(crate) fn copy_for<P: Platform>(
        &self,
        platform: &P,
        was_read: bool,
        context: &Words,
        (pasid, vmid): (SubstreamId, u16),
    ) -> Option<Entry<'static>> {
        let bound = self.slot(pasid.0).bound();
        bound.filter(|_| was_read && !self.stalls && self.vmid == vmid)?;
        let table = self.table.as_ref()?;
        let current = table.entry(platform, pasid)?.load(platform);
        let differ = critical::<CdKind>(&current, context);
        let words = differ.iter().filter(|word| **word != 0).count();
        if words > 1 { table.copy(platform, pasid) } else { None }
    }

    /// The entry that makes a stream of its do so, with the attributes that are overridden.
    fn encode(&self, stream: Stream, features: &Features) -> Words {
        let bypass = match stream {
            Stream::Identity => true,
            Stream::Stage1 { bits, without, .. } => {
                bits != 0 && without == WithoutSubstream::Bypass
            }
            Stream::Blocked | Stream::Stage2(_) | Stream::Nested(_) => false,
        };
        // Under a guest as well: a guest is shown no overrides, and has none of its own.
        let ste = self.overrides.on(stream.encode(features), bypass);
        let ste = stall::entry(ste, self.stalls);
        // Also of one that is blocked: what it asked for before is still to be answered.
        let ste = if self.response_pasid { ste.with_ppar(true) } else { ste };
        // What does not translate does not look at it. Over a guest's stage 1 it was said with the rest.
        let said = matches!(stream, Stream::Nested(_));
        if self.keeps(stream) && !said { ste.with_eats(self.ats.eats()).0 } else { ste.0 }
    }

    /// Whether its devices keep translations while its entries say `stream`.
    #[inline]
    pub(crate) const fn keeps(&self, stream: Stream) -> bool {
        self.ats.is_on(stream)
    }

    /// Makes all its streams do as `stream` says: step by step, each a step of all of them and one CMD_SYNC.
    pub(crate) fn write_streams<P: Platform>(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        stream: Stream,
    ) -> Result<(), Failure> {
        let target = self.encode(stream, instance.features());
        legal::ste(&target, instance.features());
        #[cfg(feature = "mutation")]
        let target = core.entry_of(target);
        let forget = || instance.forget_streams(&core.platform, &self.streams);
        // Made when the master was added, and never taken away.
        let entry = |stream: &StreamId| instance.streams().entry(&core.platform, *stream);
        let entries = self.streams.iter().filter_map(entry);
        if self.ats == AtsMode::Split {
            before_split(core, entries.clone(), &target, forget)?;
        }
        write_all::<P, SteKind>(core, entries, &target, forget)
    }

    /// Stores the entries of its streams, without a word to an instance that does not answer.
    pub(crate) fn store_streams<P: Platform>(
        &self,
        platform: &P,
        instance: &Instance<P>,
        stream: Stream,
    ) {
        let target = self.encode(stream, instance.features());
        legal::ste(&target, instance.features());
        for stream in &self.streams {
            if let Some(entry) = instance.streams().entry(platform, *stream) {
                fill(platform, entry, &target);
            }
        }
    }

    /// Blocks its streams in memory, without a word to an instance that did not confirm what was changed before: by the
    /// word that decides, since hardware may have read that already and the others not yet.
    pub(crate) fn block_streams<P: Platform>(&self, platform: &P, instance: &Instance<P>) {
        let [decides, ..] = Stream::Blocked.encode(instance.features()).0;
        for stream in &self.streams {
            if let Some(entry) = instance.streams().entry(platform, *stream) {
                entry.store(platform, 0, decides);
            }
        }
    }

    /// Judges a context of its before it is stored.
    pub(crate) fn judge(&self, context: &Words, features: &Features) {
        if !cfg!(debug_assertions) {
            return;
        }
        // What the entry says that leads there, or will, and that counts for the context's legality.
        let (contexts, format) = (PhysAddr(0), ContextFormat::Linear);
        let (bits, without, vmid) = (0, WithoutSubstream::First, 0);
        let entry = Stream::Stage1 { contexts, format, bits, without, vmid };
        legal::cd(context, &self.encode(entry, features), features);
    }

    /// Changes a context that hardware may read.
    pub(crate) fn write_context<P: Platform>(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        entry: Entry<'_>,
        substream: SubstreamId,
        target: &Words,
    ) -> Result<(), Failure> {
        self.judge(target, instance.features());
        let forget = || instance.forget_contexts(&core.platform, &self.streams, substream);
        write::<P, CdKind>(core, entry, target, forget)
    }
}

/// Makes the entries of `streams`, which abort, and lets the instance notice. `None` is that there is no memory:
/// nothing was changed then.
fn make_entries<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    streams: &[StreamId],
) -> Result<(), Option<Failure>> {
    let platform = &core.platform;
    // SAFETY: the configuration mutex is held, and nobody else makes room; there is one platform only.
    unsafe { instance.streams().make_room(platform, instance.features(), streams) }.ok_or(None)?;
    #[cfg(feature = "mutation")]
    if core.leaves_out(Mutation::NoL1Cfgi) {
        return Ok(());
    }
    // Also where nothing was new: an earlier call may have made it without being confirmed.
    instance.forget_descriptors(platform, streams).map_err(Some)
}
