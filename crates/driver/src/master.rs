// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices: one or more streams behind one SMMU.

use alloc::vec::Vec;
use core::fmt;

use smmuv3_formats::{CD_BYTES, StreamId};

use crate::attach::{Attachment, MasterState};
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instance::Instance;
use crate::iommu::{Core, Smmu};
#[cfg(feature = "mutation")]
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::shared::Shared;
use crate::update::Entry;

/// A device that can be attached to a domain.
///
/// Dropping it leaves it as it is, attached or not; [`Master::close`] forgets a blocked one.
pub struct Master<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) index: usize,
    instance: InstanceId,
}

/// Why a master was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddMasterError {
    /// A master needs at least one stream.
    NoStream,
    /// The instance's stream table does not reach that far.
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
    /// The instance was removed, or belongs to another `Iommu`.
    NoInstance,
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
            Self::NoInstance => f.write_str("the instance is not one of this Iommu"),
            Self::NoMemory => f.write_str("no memory"),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for AddMasterError {}

impl<P: Platform> Master<P> {
    pub(crate) fn add(
        core: &Shared<Core<P>>,
        smmu: &Smmu<P>,
        streams: &[StreamId],
    ) -> Result<Self, AddMasterError> {
        if streams.is_empty() {
            return Err(AddMasterError::NoStream);
        }
        let instance = core.instances.get(smmu.id).filter(|_| smmu.core.is(core));
        let Some(instance) = instance else { return Err(AddMasterError::NoInstance) };
        core.configuration.with(|configuration| {
            if configuration.tags.get(smmu.id.index()).is_none_or(|tags| tags.removed) {
                return Err(AddMasterError::NoInstance);
            }
            for (index, stream) in streams.iter().enumerate() {
                if !instance.streams().reaches(*stream) {
                    let bits = instance.streams().log2();
                    return Err(AddMasterError::OutOfRange { stream: *stream, bits });
                }
                let owned = |state: &MasterState<P>| {
                    state.instance == smmu.id && state.streams.contains(stream)
                };
                let before = streams.iter().take(index);
                if before.into_iter().any(|other| other == stream)
                    || configuration.masters.iter().flatten().any(owned)
                {
                    return Err(AddMasterError::Taken { stream: *stream });
                }
            }
            let unconfirmed =
                |what| AddMasterError::Unconfirmed(Unconfirmed { instance: smmu.id, what });
            if instance.streams().split().is_some() && instance.commands().has_failed() {
                return Err(unconfirmed(Failure::Failed));
            }
            let mut own = Vec::new();
            let vacant = configuration.masters.iter().position(Option::is_none);
            if own.try_reserve_exact(streams.len()).is_err()
                || configuration.masters.try_reserve(1).is_err()
            {
                return Err(AddMasterError::NoMemory);
            }
            own.extend(streams.iter().copied());
            let platform = &core.platform;
            let memory =
                platform.allocate_coherent(CD_BYTES, CD_BYTES).ok_or(AddMasterError::NoMemory)?;
            if let Err(error) = make_entries(core, instance, streams) {
                // SAFETY: allocated just now; no entry leads to it.
                unsafe { platform.free_coherent(memory, CD_BYTES, CD_BYTES) };
                return Err(error.map_or(AddMasterError::NoMemory, unconfirmed));
            }
            let state = MasterState {
                instance: smmu.id,
                streams: own,
                // SAFETY: just allocated with that size and alignment; only attach code writes it, under the
                // configuration mutex, and it is freed when the master is closed.
                context: unsafe { Entry::new(memory) },
                attachment: Attachment::Blocked,
            };
            let index = vacant.unwrap_or(configuration.masters.len());
            match configuration.masters.get_mut(index) {
                Some(slot) => *slot = Some(state),
                None => configuration.masters.push(Some(state)),
            }
            Ok(Self { core: core.clone(), index, instance: smmu.id })
        })
    }

    /// The instance that it is behind.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Forgets the master, which must be blocked.
    ///
    /// # Errors
    /// The master itself, when it is attached, or when its instance did not confirm that it is not.
    pub fn close(self) -> Result<(), Self> {
        let closed = self.core.configuration.with(|configuration| {
            let slot = configuration.masters.get_mut(self.index)?;
            match slot {
                Some(state) if matches!(state.attachment, Attachment::Blocked) => {
                    let context = state.context.address();
                    *slot = None;
                    Some(context)
                }
                _ => None,
            }
        });
        let Some(context) = closed else { return Err(self) };
        // SAFETY: allocated in `add`; the streams' entries abort, which every instance confirmed before the
        // master counted as blocked, so no SMMU reads the context.
        unsafe { self.core.platform.free_coherent(context, CD_BYTES, CD_BYTES) };
        Ok(())
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
