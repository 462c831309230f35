// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices: one or more streams behind one SMMU.

use alloc::vec::Vec;
use core::fmt;

use smmuv3_formats::StreamId;

use crate::ats::{AtsMode, NoAtsAlwaysOn, NoSplitAts};
use crate::context_table::ContextTable;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instance::Instance;
use crate::iommu::{Core, Smmu};
use crate::mutation::Mutation;
use crate::others::Others;
use crate::overrides::OverrideError;
use crate::page_group;
use crate::place::Slot;
use crate::platform::Platform;
use crate::refused::Refused;
use crate::room::Room;
use crate::shared::{NoMemory, Shared};

mod config;
mod state;

pub use config::MasterConfig;
pub(crate) use state::MasterState;

/// A device that can be attached to a domain.
///
/// Dropping it leaves it as it is, attached or not; [`Master::close`] forgets a blocked one.
pub struct Master<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) index: usize,
    instance: InstanceId,
    pasid_bits: u32,
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
    /// It is to have ATS always on ([`AtsMode::Always`]), which the instance does not have.
    NoAtsAlwaysOn(NoAtsAlwaysOn),
    /// No memory.
    NoMemory,
    /// Its entries in the stream table were made, and abort, but the instance did not confirm that it has
    /// noticed. No master was added; the entries stay. With [`Failure::Failed`] nothing was changed if the instance had failed
    /// before this call; if it failed meanwhile, the entries stay.
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
            Self::NoAtsAlwaysOn(error) => error.fmt(f),
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
    /// It was detached, but its instance did not confirm that, and has to be reset first.
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
        // Of another `Iommu` the handle keeps nothing here.
        let instance = smmu.core.is(core).then(|| core.instances.get(smmu.id)).flatten();
        let Some(instance) = instance else { return Err(AddMasterError::NoInstance) };
        core.configuration.with(|configuration| {
            if configuration.asids.removed() & smmu.id.bit() != 0 {
                return Err(AddMasterError::NoInstance);
            }
            let (stalls, ats) = config.on(instance.features())?;
            let ats = core.wrong_ats(ats);
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
                    || configuration.owners.of(smmu.id, *stream).is_some()
                {
                    return Err(AddMasterError::Taken { stream: *stream });
                }
            }
            if ats.is_some() {
                let reserved = instance.silent().reserve(&core.platform, streams);
                reserved.map_err(|NoMemory| AddMasterError::NoMemory)?;
            }
            let unconfirmed = |what| AddMasterError::Unconfirmed(Unconfirmed::new(smmu.id, what));
            if instance.streams().split().is_some() && instance.commands().has_failed() {
                return Err(unconfirmed(Failure::Failed));
            }
            let (mut own, mut cut_off) = (Vec::new(), Vec::new());
            if own.room_exact(streams.len()).is_err()
                || cfg!(feature = "ats") && cut_off.room_exact(streams.len()).is_err()
                || configuration.owners.reserve(streams.len()).is_err()
                || configuration.masters.reserve(1).is_err()
            {
                return Err(AddMasterError::NoMemory);
            }
            own.put_all(streams.iter().copied());
            let (platform, features) = (&core.platform, instance.features());
            let bits = config.pasid_bits.min(ContextTable::most_bits(features));
            // A single context is allocated here, and a table of contexts that identity needs; any other only when it is needed.
            let mut table = None;
            if bits == 0 || ats == AtsMode::Always {
                // SAFETY: there is one platform only.
                let made = unsafe { ContextTable::new(platform, features, ats.context_bits(bits)) };
                table = Some(made.ok_or(AddMasterError::NoMemory)?);
            }
            let made = make_entries(core, instance, streams);
            let made = made.map_err(|error| error.map_or(AddMasterError::NoMemory, unconfirmed));
            let missing =
                |stream: &&StreamId| instance.streams().entry(platform, **stream).is_none();
            let made = made.and_then(|()| match streams.iter().find(missing).copied() {
                // An adopted leaf ends before this stream.
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
            let adopted = configuration.claim_adopted(smmu.id, streams);
            let index = configuration.masters.insert(MasterState {
                instance: smmu.id,
                streams: own,
                cut_off,
                bits,
                table,
                overrides: config.overrides,
                identity_only: config.identity_only,
                // No stage 2 has this VMID, should entries lead to contexts before any is used.
                vmid: configuration.asids.home(smmu.id),
                stage_2: None,
                nested: None,
                nest: None,
                former: None,
                adrift: false,
                ats,
                page_requests: config.page_requests,
                response_pasid: config.page_requests != 0 && config.response_pasid,
                asking: false,
                on: false,
                own: Slot::Blocked,
                others: Others::new(),
                stalls,
                adopted,
                kept: false,
            });
            // Reserved above.
            configuration.owners.add(smmu.id, streams, index);
            Ok(Self { core: core.clone(), index, instance: smmu.id, pasid_bits: bits })
        })
    }

    /// The handle of a master that has none, by its index.
    pub(crate) fn of(core: &Shared<Core<P>>, index: usize, state: &MasterState) -> Self {
        let (instance, pasid_bits) = (state.instance, state.bits);
        Self { core: core.clone(), index, instance, pasid_bits }
    }

    /// A number that no other master of the `Iommu` has as long as there is this one: what [`Iommu::master_of`] finds.
    ///
    /// [`Iommu::master_of`]: crate::Iommu::master_of
    pub fn id(&self) -> usize {
        self.index
    }

    /// Its streams, as they were named when it was added. Takes the operating system's lock.
    ///
    /// # Errors
    /// [`NoMemory`] for a list of them.
    pub fn streams(&self) -> Result<Vec<StreamId>, NoMemory> {
        self.core.configuration.with(|configuration| {
            let mut copy = Vec::new();
            // A handle's master is there.
            if let Some(state) = configuration.masters.get(self.index) {
                copy.room_exact(state.streams.len())?;
                copy.put_all(state.streams.iter().copied());
            }
            Ok(copy)
        })
    }

    /// The instance that it is behind.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Bits of the PASIDs that it may use; 0 for none.
    pub fn pasid_bits(&self) -> u32 {
        self.pasid_bits
    }

    /// Forgets the master, which must be blocked, with all its PASIDs.
    ///
    /// # Errors
    /// The master, with [`CloseMasterError`].
    pub fn close(self) -> Result<(), Refused<Self, CloseMasterError>> {
        let closed = self.core.configuration.with(|configuration| {
            // The master of a handle always exists.
            let Some(state) = configuration.masters.get(self.index) else { return Ok(None) };
            let given = state.has_guest() || state.is_adopted();
            if !matches!(state.own, Slot::Blocked) || !state.others.is_empty() || given {
                return Err(match state.is_stuck() {
                    true => CloseMasterError::Unconfirmed,
                    false => CloseMasterError::Attached,
                });
            }
            let Some(state) = configuration.masters.remove(self.index) else { return Ok(None) };
            configuration.owners.remove(state.instance, &state.streams);
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

/// Makes entries for `streams`, which abort, and makes the instance notice. The error is `None` if there is no memory:
/// then nothing was changed.
fn make_entries<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    streams: &[StreamId],
) -> Result<(), Option<Failure>> {
    let platform = &core.platform;
    // SAFETY: the configuration mutex is held, and nobody else makes room; there is one platform only.
    unsafe { instance.streams().make_room(platform, instance.features(), streams) }.ok_or(None)?;
    if core.leaves_out(Mutation::NoL1Cfgi) {
        return Ok(());
    }
    // Even if no leaf is new: an earlier call may have made one without being confirmed.
    instance.forget_descriptors(platform, streams).map_err(Some)
}
