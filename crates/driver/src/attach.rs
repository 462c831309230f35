// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching masters to address spaces: with [`crate::retag`] and [`crate::release`] the only code that changes
//! targets, stream table entries and contexts.
//!
//! *Prepare* does all that can fail without a trace; only where the policy changes tags of others, that comes first,
//! complete in itself. *Install* publishes the new space's targets, and only then lets hardware reach its tables: an
//! unmap that runs meanwhile either finds the new target, or has cleared its descriptors before hardware can walk
//! them (rule R5). *Commit* flushes the old space's tag if nobody uses it any more, takes it off the targets, and
//! waits until no unmap uses them.

mod change;
mod error;
mod install;

#[cfg(feature = "pasids")]
use smmuv3_formats::SubstreamId;

use crate::domain::Domain;
use crate::error::Failure;
use crate::instance::Instance;
use crate::invalidate::{self, Tag};
use crate::iommu::{Core, Iommu};
use crate::master::Master;
use crate::place::WITHOUT;
use crate::platform::Platform;

pub(crate) use change::{Goal, change};
pub use error::{AttachError, DetachError};
pub(crate) use install::{before_split, fill, write, write_all};

impl<P: Platform> Iommu<P> {
    /// Lets `master` use `domain`, instead of whatever it used before. When it has returned, DMA is
    /// translated by `domain`, and none reaches the memory of the old one. What it uses with PASIDs stays.
    ///
    /// Accesses with PASID 0 are nobody's. While a master that uses other PASIDs is attached or detached, they may be
    /// treated as those without for a moment.
    ///
    /// From blocked and from identity, no access is refused that `domain` allows; nor between two domains of stage 1 that
    /// both allow it. For that the driver keeps a copy of the master's contexts, or of one leaf of them. Without memory for
    /// it, and between two domains otherwise, the master's context, or if one is of stage 2 its stream table entry, is invalid for a moment: accesses at
    /// that moment are refused. Between the stages of EL1 the architecture leaves no other way: STE.Config and S2VMID are
    /// different words, and translations of the one would be taken for those of the other if they had its VMID for a moment
    /// (§8.2). Stage 1 of EL2 has none, and is left and entered by one word, unless faults stall: what stalled before is told
    /// from what stalls then by a moment in which nothing does.
    ///
    /// Identity with ATS that is always on ([`AtsMode::Always`](crate::AtsMode::Always)) has an entry of stage 1, and so counts as that here.
    ///
    /// What had stalled ([`Fault`](crate::Fault)) when the change began is aborted. Between two domains of stage 1 a
    /// transaction may stall while the change is under way, by the one or by the other: it is handed out as any other, and if
    /// it is tried again when this has returned, it goes by `domain` (§11).
    ///
    /// A master uses a domain of stage 2 with all that it does: it cannot use PASIDs meanwhile.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, master: &Master<P>, domain: &Domain<P>) -> Result<(), AttachError> {
        if !master.core.is(&domain.space.core) {
            return Err(AttachError::Foreign);
        }
        change(&master.core, master.index, WITHOUT, &Goal::Space(&domain.space)).map(drop)
    }

    /// Blocks `master`: when it has returned, all its DMA without a PASID is refused.
    ///
    /// # Errors
    /// [`DetachError::Unconfirmed`], [`DetachError::NoMemory`]. A device that does not answer is none: it is cut off
    /// ([`Master::is_quarantined`]).
    pub fn detach(&self, master: &Master<P>) -> Result<(), DetachError> {
        end(&master.core, master.index, WITHOUT, &Goal::Blocked)
    }

    /// Lets `master` reach all memory, untranslated, where it gives no PASID.
    ///
    /// # Errors
    /// [`AttachError::Unconfirmed`], [`AttachError::NoMemory`], [`AttachError::Quarantined`].
    ///
    /// # Safety
    /// The device behind `master` only accesses memory that it was given.
    pub unsafe fn attach_identity(&self, master: &Master<P>) -> Result<(), AttachError> {
        change(&master.core, master.index, WITHOUT, &Goal::Identity).map(drop)
    }

    /// As [`Iommu::attach`], for accesses of `master` with `pasid` ([`Iommu::allocate_pasid`]) alone.
    ///
    /// # Errors
    /// See [`AttachError`].
    #[cfg(feature = "pasids")]
    pub fn attach_pasid(
        &self,
        master: &Master<P>,
        pasid: SubstreamId,
        domain: &Domain<P>,
    ) -> Result<(), AttachError> {
        if !master.core.is(&domain.space.core) {
            return Err(AttachError::Foreign);
        }
        if pasid.0 == WITHOUT {
            return Err(AttachError::PasidUnknown { pasid });
        }
        change(&master.core, master.index, pasid.0, &Goal::Space(&domain.space)).map(drop)
    }

    /// As [`Iommu::detach`], for accesses of `master` with `pasid` alone.
    ///
    /// # Errors
    /// See [`DetachError`].
    #[cfg(feature = "pasids")]
    pub fn detach_pasid(&self, master: &Master<P>, pasid: SubstreamId) -> Result<(), DetachError> {
        if pasid.0 == WITHOUT {
            return Err(DetachError::PasidUnknown { pasid });
        }
        end(&master.core, master.index, pasid.0, &Goal::Blocked)
    }
}

/// As [`change`], with a `goal` by which nothing is entered: `Blocked` or `Unbind`.
pub(crate) fn end<P: Platform>(
    core: &Core<P>,
    master: usize,
    substream: u32,
    goal: &Goal<'_, P>,
) -> Result<(), DetachError> {
    match &change(core, master, substream, goal) {
        Ok(_) => Ok(()),
        Err(error) => Err(DetachError::of(error)),
    }
}

/// Waits until all commands in all queues of `instance` are complete: no command for a device that has left the targets
/// is under way after that (rule R7).
pub(crate) fn settle<P: Platform>(core: &Core<P>, instance: &Instance<P>) -> Result<(), Failure> {
    instance.commands().settle(&core.platform, instance.mmio())
}

/// Waits until whatever was unmapped by those who did not find a device among the targets is gone from `instance`: what
/// others with the same tag let it cache, it may grant a device that asks, and nobody would tell the device.
#[cold]
#[inline(never)]
pub(crate) fn catch_up<P: Platform>(core: &Core<P>, instance: &Instance<P>) -> Result<(), Failure> {
    core.readers.grace(&|| core.platform.relax());
    settle(core, instance)
}

/// Makes `instance` forget `tag`, which no context carries any more.
pub(crate) fn flush<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    tag: Tag,
) -> Result<(), Failure> {
    let command = [invalidate::whole(tag)];
    let commands = if core.leaves_out_flush(tag) { &[][..] } else { &command };
    instance.carry_out_shared(&core.platform, commands.iter().copied())
}
