// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a master is not attached.

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
    SubstreamStage {
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
    SubstreamRange {
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
    /// [`Master::is_quarantined`](crate::Master::is_quarantined). If it was found to be so only now, the change was made,
    /// which counts once it is readmitted; else nothing was changed. [`Process::bind`](crate::Process::bind) tells only
    /// of what was known before.
    Quarantined {
        /// The instance.
        instance: InstanceId,
        /// The stream.
        stream: StreamId,
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
    /// is blocked and stays so until the instance is reset. With [`Failed`](crate::Failure::Failed) the instance, or the
    /// master, was waiting for a reset already: then nothing was changed, as a rule.
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
            Self::SubstreamStage { instance, pasid } => {
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
            Self::SubstreamRange { instance, pasid, bits: 0 } => {
                write!(f, "{instance}: PASID {pasid}, but the master has no substreams")
            }
            Self::SubstreamRange { instance, pasid, bits } => {
                write!(f, "{instance}: PASID {pasid} has more than the master's {bits} bits")
            }
            Self::PasidUnknown { pasid } => write!(f, "PASID {pasid} was not allocated"),
            Self::Adopted { instance } => {
                write!(f, "{instance}: the master works as it was adopted, with all its PASIDs")
            }
            Self::Quarantined { instance, stream } => {
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
