// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that firmware left working, and that go on while their SMMU is taken into use: a display's, as a rule, which
//! an RMR node of the IORT or a device tree's `iommu-addresses` tells of.
//!
//! All that they need is in memory before the SMMU is told anything: entries, contexts and page tables, which nothing
//! reads while SMMUEN is 0. So there is no step at which one of them could be refused: before the SMMU is on, GBPA
//! decides, as it did before; from then on their entries count.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use smmuv3_formats::granule::Granule;
use smmuv3_formats::{PhysAddr, StreamId, SubstreamId};
use smmuv3_pagetable::{Attributes, MapErrorKind, Prot};

use crate::ats::{AtsMode, NoAtsAlwaysOn};
use crate::attach::fill;
use crate::compatibility::{Mismatch, Stage};
use crate::configuration::{Configuration, spare};
use crate::context_table::ContextTable;
use crate::domain::{CreateError, Domain, DomainConfig};
use crate::error::InstanceId;
use crate::instance::{EnableError, Instance};
use crate::invalidate::Tag;
use crate::iommu::{Core, Iommu, Probe, Smmu};
use crate::master::{AddMasterError, Master, MasterConfig, MasterState};
use crate::others::Others;
use crate::place::{Bound, Place, Slot, User, WITHOUT};
use crate::platform::Platform;
use crate::room::Room;
use crate::shared::{NoMemory, Shared};
use crate::space::Targets;
use crate::stall;
use crate::targets::Retired;

/// Memory that kept streams go on reaching, by input addresses that are the physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address, a multiple of the smallest granule that the SMMU has.
    pub pa: PhysAddr,
    /// Bytes, likewise.
    pub bytes: u64,
    /// How they reach it.
    pub attributes: Attributes,
}

impl Region {
    /// Normal memory that they read and write.
    pub const fn normal(pa: PhysAddr, bytes: u64) -> Self {
        Self { pa, bytes, attributes: Attributes::normal(Prot::READ.union(Prot::WRITE)) }
    }
}

/// Why streams are not kept. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepError {
    /// They make no master: there are none, one is beyond the table or named twice, or there is no memory.
    Master(AddMasterError),
    /// There is no domain for them.
    Domain(CreateError),
    /// The SMMU cannot walk the tables of a domain.
    Mismatch(Mismatch),
    /// The SMMU is to be adopted as it runs ([`Probe::adopt`]), with what works there: these streams, too, if they do.
    Adopted,
    /// A region cannot be mapped. Regions must not overlap.
    Region {
        /// The region.
        region: Region,
        /// Why not.
        error: MapErrorKind,
    },
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(error) => error.fmt(f),
            Self::Domain(error) => error.fmt(f),
            Self::Mismatch(mismatch) => mismatch.fmt(f),
            Self::Adopted => f.write_str("the SMMU is to be adopted as it runs"),
            Self::Region { region: Region { pa, bytes, .. }, error } => {
                write!(f, "{bytes:#x} bytes at {pa}: {error}")
            }
        }
    }
}

impl core::error::Error for KeepError {}

/// All that are to be kept on an SMMU.
pub(crate) type Kept<P> = Vec<Keep<P>>;

/// Streams to be kept: one master, in a domain of its own.
pub(crate) struct Keep<P: Platform> {
    streams: Vec<StreamId>,
    config: MasterConfig,
    domain: Domain<P>,
}

impl<P: Platform> Probe<P> {
    /// Lets `streams` go on reaching `regions`, and nothing else, when the SMMU is enabled: they are those of one master
    /// then, attached to a domain of its own, which [`Iommu::take_kept`] gives. May be called for several masters.
    ///
    /// What is not kept aborts once the SMMU is on. Until then, GBPA stays as firmware left it, and applies to all
    /// streams: kept ones must not be aborted, and the others cannot be told apart from them.
    /// * If the SMMU was off and let everything pass, every stream can reach all memory until [`Probe::enable`] has
    ///   returned, just as before.
    /// * If it was off and aborted everything, kept streams come to life when it is on.
    /// * If it was on, with tables of firmware's, it is off for a moment in `enable`, since the tables can be changed
    ///   only then: at that moment GBPA decides. Kept streams are refused then if it says abort; if it says bypass,
    ///   every stream reaches all memory, more than before. Devices that are not kept should be quiet. Should enable
    ///   fail, it aborts: what firmware's tables confined is not let loose.
    ///
    /// When the SMMU is on, GBPA is set to abort, for when it is turned off. A later [`Iommu::reset`] treats kept
    /// streams as any others: they abort until it is over.
    ///
    /// # Errors
    /// See [`KeepError`]; the probe is as it was.
    ///
    /// # Safety
    /// Devices behind `streams` may access the regions, as they do already, for as long as the domain maps them: nobody
    /// relies on that memory.
    pub unsafe fn keep(
        &mut self,
        streams: &[StreamId],
        config: MasterConfig,
        regions: &[Region],
    ) -> Result<(), KeepError> {
        if self.adopted.is_some() {
            return Err(KeepError::Adopted);
        }
        let own = self.check(streams).map_err(KeepError::Master)?;
        if config.ats() == AtsMode::Always {
            let kept = AddMasterError::NoAtsAlwaysOn(NoAtsAlwaysOn::Kept);
            return Err(KeepError::Master(kept));
        }
        config.on(self.probed.features()).map_err(KeepError::Master)?;
        let no_memory = KeepError::Master(AddMasterError::NoMemory);
        self.kept.room(1).map_err(|NoMemory| no_memory)?;
        let features = self.probed.features();
        // A shape for this instance alone, whatever the others are like.
        let output_bits = features.narrow_output_bits();
        let granule = Granule::ALL.into_iter().find(|it| features.has_granule(it.shift()));
        let mut shape = DomainConfig::default().with_output_bits(output_bits);
        shape.granule = granule;
        shape = if features.stage_1 {
            shape.with_input_bits(features.narrow_input_bits())
        } else {
            shape.with_stage_2().with_input_bits(output_bits)
        };
        let reserved = self.core.quarantine.reserve(&self.core.platform);
        reserved.map_err(|NoMemory| KeepError::Domain(CreateError::NoMemory))?;
        let core = &self.core;
        let new = core
            .configuration
            .with(|configuration| Domain::new(core.clone(), configuration, shape));
        let domain = new.map_err(KeepError::Domain)?;
        domain.space.fits(features).map_err(KeepError::Mismatch)?;
        for region in regions {
            let Region { pa, bytes, attributes } = *region;
            // SAFETY: the caller's promise; nobody else has the domain.
            let mapped = unsafe { domain.map(smmuv3_formats::Iova(pa.0), pa, bytes, attributes) };
            mapped.map_err(|error| KeepError::Region { region: *region, error: error.kind })?;
        }
        // The room was reserved above.
        self.kept.put(Keep { streams: own, config, domain });
        Ok(())
    }

    /// A copy of `streams`, if they can be those of a master.
    fn check(&self, streams: &[StreamId]) -> Result<Vec<StreamId>, AddMasterError> {
        if streams.is_empty() {
            return Err(AddMasterError::NoStream);
        }
        let bits = self.probed.stream_bits();
        for (index, stream) in streams.iter().enumerate() {
            if u64::from(stream.0) >> bits != 0 {
                return Err(AddMasterError::OutOfRange { stream: *stream, bits });
            }
            let mut before = streams.iter().take(index);
            if before.any(|other| other == stream)
                || self.kept.iter().any(|keep| keep.streams.contains(stream))
            {
                return Err(AddMasterError::Taken { stream: *stream });
            }
        }
        let mut own = Vec::new();
        own.room_exact(streams.len()).map_err(|NoMemory| AddMasterError::NoMemory)?;
        own.put_all(streams.iter().copied());
        Ok(own)
    }
}

impl<P: Platform> Iommu<P> {
    /// The master that was kept when `smmu` was enabled and has `stream`, attached, and its domain. Once only: `None` when
    /// it was taken before, or there is none.
    ///
    /// The domain maps the regions of [`Probe::keep`] one to one. The driver of the device unmaps them, or attaches the
    /// master elsewhere, when it has taken over. A kept master that nobody takes stays as it is.
    pub fn take_kept(&self, smmu: &Smmu<P>, stream: StreamId) -> Option<(Master<P>, Domain<P>)> {
        if !smmu.core.is(&self.core) {
            return None;
        }
        self.core.configuration.with(|configuration| {
            let wanted = |state: &MasterState| {
                state.kept && state.instance == smmu.id && state.streams.contains(&stream)
            };
            let index = configuration.masters.iter().find(|(_, state)| wanted(state))?.0;
            let state = configuration.masters.get_mut(index)?;
            // A kept master without a handle cannot have been attached to anything else.
            let place = state.own.bound()?.place;
            let space = configuration.places.get(place)?.space.clone();
            state.kept = false;
            Some((Master::of(&self.core, index, state), Domain { space }))
        })
    }
}

/// A kept master that is complete in memory, and that nobody else knows of yet.
pub(crate) struct Ready<P: Platform> {
    state: MasterState,
    place: Place<P>,
    /// Room for the targets of its domain.
    targets: Box<Targets>,
}

/// Makes entries, contexts and tags for `kept` on `instance`, which was never started and is to be number `id`. When it
/// fails nothing is left of it.
pub(crate) fn prepare<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    id: InstanceId,
    instance: &Instance<P>,
    kept: &[Keep<P>],
) -> Result<Vec<Ready<P>>, EnableError> {
    let no_memory = EnableError::NoMemory;
    let streams = kept.iter().map(|keep| keep.streams.len()).sum();
    let mut all = Vec::new();
    all.room_exact(kept.len()).map_err(|NoMemory| no_memory)?;
    configuration.masters.reserve(kept.len()).map_err(|NoMemory| no_memory)?;
    configuration.places.reserve(kept.len()).map_err(|NoMemory| no_memory)?;
    configuration.owners.reserve(streams).map_err(|NoMemory| no_memory)?;
    for keep in kept {
        match ready(core, configuration, id, instance, keep) {
            // The room was reserved above.
            Ok(ready) => all.put(ready),
            Err(error) => {
                undo(core, configuration, id, all, true);
                return Err(error);
            }
        }
    }
    Ok(all)
}

fn ready<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    id: InstanceId,
    instance: &Instance<P>,
    keep: &Keep<P>,
) -> Result<Ready<P>, EnableError> {
    let (platform, features) = (&core.platform, instance.features());
    let no_memory = EnableError::NoMemory;
    let space = &keep.domain.space;
    let targets = spare(space, 1).map_err(|NoMemory| no_memory)?;
    let (mut streams, mut users) = (Vec::new(), Vec::new());
    streams.room_exact(keep.streams.len()).map_err(|NoMemory| no_memory)?;
    streams.put_all(keep.streams.iter().copied());
    users.room_exact(1).map_err(|NoMemory| no_memory)?;
    // SAFETY: the configuration mutex is held; there is one platform only.
    let room = unsafe { instance.streams().make_room(platform, features, &streams) };
    room.ok_or(no_memory)?;
    let tag = tag(configuration, id, space.stage())?;
    let tables = space.stage_2(tag);
    let without = SubstreamId(WITHOUT);
    // A stand-in, so that `stream` encodes a translating entry; `commit` sets the real seat.
    let seat = Bound { place: usize::MAX, at: 0, bonds: 1, seat: 0 };
    let mut state = MasterState {
        instance: id,
        streams,
        cut_off: Vec::new(),
        bits: keep.config.pasid_bits.min(ContextTable::most_bits(features)),
        table: None,
        overrides: keep.config.overrides,
        // Kept masters are in a domain; this applies to what they are attached to later.
        identity_only: keep.config.identity_only,
        vmid: tag.vmid,
        adrift: false,
        // Kept masters have no ATS: what their devices keep from before is not known.
        ats: AtsMode::Off,
        page_requests: 0,
        response_pasid: false,
        asking: false,
        on: false,
        stage_2: tables,
        nested: None,
        nest: None,
        former: None,
        own: Slot::At(seat),
        others: Others::new(),
        stalls: features.stalls_if(keep.config.stalls),
        adopted: false,
        kept: true,
    };
    if state.make_room(platform, features, without).is_err() {
        configuration.asids.release(id, tag);
        free_contexts(platform, state);
        return Err(no_memory);
    }
    // No hardware reads this before SMMUEN is 1, and the caches are emptied before that.
    if let Some(table) = &state.table {
        table.link(platform, without);
    }
    if let Some(entry) = state.entry(platform, without).filter(|_| tables.is_none()) {
        let context = stall::context(space.context(features, tag, false), state.stalls());
        state.judge(&context.0, features);
        fill(platform, entry, &context.0);
    }
    state.store_streams(platform, instance, state.stream());
    let place = Place { space: space.clone(), instance: id, tag, shared: false, users };
    Ok(Ready { state, place, targets })
}

/// A tag for a space that is used nowhere yet.
fn tag<P: Platform>(
    configuration: &mut Configuration<P>,
    id: InstanceId,
    stage: Stage,
) -> Result<Tag, EnableError> {
    let asids = &mut configuration.asids;
    if stage == Stage::Two {
        let vmid = asids.allocate_vmid(id).map_err(|NoMemory| EnableError::NoMemory)?;
        return Ok(Tag::stage_2(vmid.ok_or(EnableError::NoVmid)?));
    }
    let none = EnableError::NoAsid { bits: asids.bits_of_new(id) };
    let vmid = if asids.policy().is_common() {
        asids.home(id)
    } else {
        asids.bank_with_room(id).map_err(|NoMemory| EnableError::NoMemory)?.ok_or(none)?
    };
    asids.allocate(id, vmid).ok_or(none)
}

/// The instance works: all of `ready` are masters from here on.
///
/// The SMMU may have walked their tables before these are among the targets. That does no harm: nobody else has the
/// domains yet, so nothing can have been unmapped.
pub(crate) fn commit<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    id: InstanceId,
    ready: Vec<Ready<P>>,
) {
    for Ready { state, place, targets } in ready {
        // `prepare` reserved the room, here and below.
        let master = configuration.masters.insert(state);
        if let Some(state) = configuration.masters.get(master) {
            configuration.owners.add(id, &state.streams, master);
        }
        let place = configuration.places.insert(place);
        let bound = configuration.join(place, User { master, substream: WITHOUT });
        if let Some(state) = configuration.masters.get_mut(master) {
            state.set_slot(WITHOUT, Slot::At(bound));
        }
        let retired = configuration.publish(place, targets);
        Retired::free([retired], &core.readers, || core.platform.relax());
    }
}

/// The instance was not enabled. Unless it confirmed that it is `off`, it may be reading contexts and tables for ever.
pub(crate) fn undo<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    id: InstanceId,
    ready: Vec<Ready<P>>,
    off: bool,
) {
    for Ready { state, place, .. } in ready {
        // The ASID can be given back: the SMMU's caches are emptied before it translates anything.
        configuration.asids.release(id, place.tag);
        if off {
            free_contexts(&core.platform, state);
        } else {
            leak(place.space);
        }
    }
}

/// Leaks `shared`: the SMMU may still be reading its tables.
fn leak<T>(shared: Shared<T>) {
    core::mem::forget(shared);
}

fn free_contexts<P: Platform>(platform: &P, state: MasterState) {
    if let Some(table) = state.table {
        // SAFETY: made by `ready`; the only entries that lead to it are of an instance that is off and about to be given
        // up, with its stream table.
        unsafe { table.free(platform) };
    }
}
