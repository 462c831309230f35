// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a master is not attached, or not detached.

use core::fmt;

use smmuv3_formats::{StreamId, SubstreamId};

use crate::compatibility::Mismatch;
use crate::error::{InstanceId, Unconfirmed};
#[cfg(feature = "nested")]
use crate::nest::Illegal;
use crate::shared::NoMemory;

/// Why a master was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// The instance cannot walk the tables. Nothing was changed.
    Mismatch {
        /// The instance.
        instance: InstanceId,
        /// What does not fit.
        what: Mismatch,
    },
    /// No ASID is left that the policy allows on the instance: in no bank, where there are banks. Nothing was
    /// changed.
    NoAsid {
        /// The instance.
        instance: InstanceId,
        /// Bits of the ASID that it would have to be.
        bits: u32,
    },
    /// The policy wants the domain to have the same ASID on all instances, and this instance has narrower ones.
    /// Nothing was changed.
    AsidWidth {
        /// The instance.
        instance: InstanceId,
        /// Bits of its ASIDs.
        bits: u32,
        /// The domain's ASID.
        asid: u16,
    },
    /// No VMID is left for a domain of stage 2 on the instance
    /// ([`Config::stage_2_vmids`](crate::Config::stage_2_vmids)). Nothing was changed.
    NoVmid {
        /// The instance.
        instance: InstanceId,
        /// Bits of its VMIDs.
        bits: u32,
    },
    /// The domain's VMID is too wide for the instance. Nothing was changed.
    VmidWidth {
        /// The instance.
        instance: InstanceId,
        /// Bits of its VMIDs.
        bits: u32,
        /// The VMID.
        vmid: u16,
    },
    /// Another domain has the same VMID of the hypervisor's, and is used on the instance, or waits for its reset. Nothing
    /// was changed.
    VmidTaken {
        /// The instance.
        instance: InstanceId,
        /// The VMID.
        vmid: u16,
    },
    /// A master whose accesses without a PASID are translated by stage 2 has none, and accesses with a PASID are not
    /// translated by stage 2 alone (§5.2). Nothing was changed.
    PasidStage {
        /// The instance.
        instance: InstanceId,
        /// The PASID.
        pasid: SubstreamId,
    },
    /// What a guest asks for is illegal (C_BAD_STE). Nothing was changed.
    #[cfg(feature = "nested")]
    Illegal(Illegal),
    /// The guest's SMMU is on another instance than the master. Nothing was changed.
    NestInstance {
        /// The master's instance.
        instance: InstanceId,
        /// That of the guest's SMMU.
        nest: InstanceId,
    },
    /// A guest has another number of streams for the master than it has. Nothing was changed.
    GuestStreams {
        /// The instance.
        instance: InstanceId,
        /// How many streams the master has.
        streams: usize,
    },
    /// A guest has two masters with that number of a stream. Nothing was changed.
    GuestStream {
        /// The instance.
        instance: InstanceId,
        /// The guest's stream.
        stream: StreamId,
    },
    /// The PASID is beyond those of the master. Nothing was changed.
    PasidRange {
        /// The instance.
        instance: InstanceId,
        /// The PASID.
        pasid: SubstreamId,
        /// Bits of the master's PASIDs; 0 if it has none.
        bits: u32,
    },
    /// The PASID was not allocated, or is that of a process. Nothing was changed.
    PasidUnknown {
        /// The PASID.
        pasid: SubstreamId,
    },
    /// The master's streams work as they were [adopted](crate::Probe::adopt), by contexts that are not this driver's, of whatever
    /// PASIDs: none of them is blocked by itself, but all by [`Iommu::detach`](crate::Iommu::detach), or by any attach. Nothing
    /// was changed.
    Adopted {
        /// The instance.
        instance: InstanceId,
    },
    /// The master is in quarantine, since a device of its did not answer: see
    /// [`Master::is_quarantined`](crate::Master::is_quarantined).
    Quarantined {
        /// The instance.
        instance: InstanceId,
        /// The stream.
        stream: StreamId,
        /// It was found to be so only now: the change was made, which counts once it is readmitted. Else nothing was changed.
        /// [`Process::bind`](crate::Process::bind) tells only of what was known before.
        changed: bool,
    },
    /// The master works with physical addresses alone ([`MasterConfig::identity_only`](crate::MasterConfig::identity_only)).
    /// Nothing was changed.
    IdentityOnly {
        /// The instance.
        instance: InstanceId,
    },
    /// The process is gone. Nothing was changed.
    Released,
    /// The platform pinned an ASID that belongs to another process already. Nothing was changed.
    PinnedTwice {
        /// The instance.
        instance: InstanceId,
        /// The ASID.
        asid: u16,
    },
    /// No heap memory. Nothing was changed.
    NoMemory,
    /// Master and domain are not of the same `Iommu`. Nothing was changed.
    Foreign,
    /// Tags of others, or the master's bank, had to be changed first to make room, and an instance did not confirm
    /// that, or what is in the way waits for its reset. The master was not attached: it goes on with what it uses. If
    /// it was being moved to another bank, it cannot be changed before the reset.
    MakingRoom(Unconfirmed),
    /// The change was made, but the master's instance did not confirm it. If it was switching streams, the master
    /// is blocked and stays so until the instance is reset. With [`Failed`](crate::Failure::Failed) nothing was changed if the
    /// instance, or the master, was waiting for a reset before this call; if the instance failed meanwhile, by another call, it is
    /// as with any other failure.
    Unconfirmed(Unconfirmed),
}

impl From<NoMemory> for AttachError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { instance, what } => write!(f, "{instance}: {what}"),
            Self::NoAsid { instance, bits } => {
                write!(f, "{instance}: all ASIDs of {bits} bits are in use")
            }
            Self::AsidWidth { instance, bits, asid } => {
                write!(f, "{instance}: ASID {asid} of the domain has more than {bits} bits")
            }
            Self::NoVmid { instance, bits } => {
                write!(f, "{instance}: all VMIDs of {bits} bits for stage 2 are in use")
            }
            Self::VmidWidth { instance, bits, vmid } => {
                write!(f, "{instance}: VMID {vmid} of the domain has more than {bits} bits")
            }
            Self::VmidTaken { instance, vmid } => {
                write!(f, "{instance}: another domain has VMID {vmid}")
            }
            Self::PasidStage { instance, pasid } => {
                write!(f, "{instance}: PASID {pasid} does not go with stage 2")
            }
            #[cfg(feature = "nested")]
            Self::Illegal(illegal) => illegal.fmt(f),
            Self::NestInstance { instance, nest } => {
                write!(f, "{instance}: the guest's SMMU is on {nest}")
            }
            Self::GuestStreams { instance, streams } => {
                write!(
                    f,
                    "{instance}: the master has {streams} streams, the guest gives other numbers"
                )
            }
            Self::GuestStream { instance, stream } => {
                write!(f, "{instance}: the guest has stream {stream} already")
            }
            Self::PasidRange { instance, pasid, bits: 0 } => {
                write!(f, "{instance}: PASID {pasid}, but the master has no PASIDs")
            }
            Self::PasidRange { instance, pasid, bits } => {
                write!(f, "{instance}: PASID {pasid} has more than the master's {bits} bits")
            }
            Self::PasidUnknown { pasid } => write!(f, "PASID {pasid} was not allocated"),
            Self::Adopted { instance } => {
                write!(f, "{instance}: the master works as it was adopted, with all its PASIDs")
            }
            Self::Quarantined { instance, stream, .. } => {
                write!(f, "{instance}: stream {stream} is in quarantine: its device did not answer")
            }
            Self::IdentityOnly { instance } => {
                write!(f, "{instance}: the master works with physical addresses alone")
            }
            Self::Released => f.write_str("the process is gone"),
            Self::PinnedTwice { instance, asid } => {
                write!(f, "{instance}: ASID {asid} was pinned for two processes")
            }
            Self::NoMemory => f.write_str("no memory"),
            Self::Foreign => f.write_str("master and domain belong to different Iommus"),
            Self::MakingRoom(unconfirmed) => write!(f, "while room was made: {unconfirmed}"),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for AttachError {}

/// Why a master was not detached, a bond not ended ([`Bond::unbind`](crate::Bond::unbind)), or a process not released
/// ([`Process::release`](crate::Process::release)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetachError {
    /// No heap memory. Nothing was changed.
    NoMemory,
    /// An instance did not confirm it. The master is blocked all the same, and stays so until the instance is reset; with
    /// [`Failed`](crate::Failure::Failed) nothing was changed if the instance, or the master, was waiting for a reset before this
    /// call. A process that was to be released may still be reached until then.
    Unconfirmed(Unconfirmed),
    /// [`Iommu::detach_pasid`](crate::Iommu::detach_pasid) alone: the PASID was not allocated, or is that of a process.
    /// Nothing was changed.
    PasidUnknown {
        /// The PASID.
        pasid: SubstreamId,
    },
    /// [`Iommu::detach_pasid`](crate::Iommu::detach_pasid) alone: the PASID is beyond those of the master, so that it is
    /// attached to nothing. Nothing was changed.
    PasidRange {
        /// The instance.
        instance: InstanceId,
        /// The PASID.
        pasid: SubstreamId,
        /// Bits of the master's PASIDs; 0 if it has none.
        bits: u32,
    },
    /// [`Iommu::detach_pasid`](crate::Iommu::detach_pasid) alone: as [`AttachError::Adopted`]. Nothing was changed.
    Adopted {
        /// The instance.
        instance: InstanceId,
    },
}

impl DetachError {
    /// That of a change that ends something, and begins nothing.
    pub(super) fn of(error: &AttachError) -> Self {
        match *error {
            AttachError::Unconfirmed(unconfirmed) => Self::Unconfirmed(unconfirmed),
            AttachError::PasidUnknown { pasid } => Self::PasidUnknown { pasid },
            AttachError::PasidRange { instance, pasid, bits } => {
                Self::PasidRange { instance, pasid, bits }
            }
            AttachError::Adopted { instance } => Self::Adopted { instance },
            AttachError::NoMemory => Self::NoMemory,
            // All others are about what is entered: tables, tags, a guest's entry. They would say that nothing was
            // changed, as this does.
            other => {
                debug_assert!(false, "a detach ended with {other:?}");
                Self::NoMemory
            }
        }
    }
}

impl From<NoMemory> for DetachError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// For whoever attaches after a detach.
impl From<DetachError> for AttachError {
    fn from(error: DetachError) -> Self {
        match error {
            DetachError::NoMemory => Self::NoMemory,
            DetachError::Unconfirmed(unconfirmed) => Self::Unconfirmed(unconfirmed),
            DetachError::PasidUnknown { pasid } => Self::PasidUnknown { pasid },
            DetachError::PasidRange { instance, pasid, bits } => {
                Self::PasidRange { instance, pasid, bits }
            }
            DetachError::Adopted { instance } => Self::Adopted { instance },
        }
    }
}

impl fmt::Display for DetachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        AttachError::from(*self).fmt(f)
    }
}

impl core::error::Error for DetachError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use std::string::ToString;

    #[test]
    fn what_ends_a_detach_is_said_in_the_same_words() {
        let (instance, pasid) = (InstanceId::first(1), SubstreamId(7));
        for error in [
            DetachError::NoMemory,
            DetachError::Unconfirmed(Unconfirmed::new(instance, Failure::Failed)),
            DetachError::PasidUnknown { pasid },
            DetachError::PasidRange { instance, pasid, bits: 2 },
            DetachError::Adopted { instance },
        ] {
            let as_attach = AttachError::from(error);
            assert_eq!(DetachError::of(&as_attach), error);
            assert_eq!(error.to_string(), as_attach.to_string());
        }
    }
}
