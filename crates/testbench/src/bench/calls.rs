// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's calls for substreams and processes.

use std::ops::Range;
use std::sync::Arc;

use smmuv3::{
    AddMasterError, AttachError, Config, InstanceConfig, Iommu, Master, Smmu, StreamId, Target,
};
use smmuv3_pagetable::Stage1Table4K;

use super::Bench;
use crate::oracle::Use;
use crate::platform::{TestPlatform, World};
use crate::scenario::{self, Refusal, Scenario};
use crate::watch::OwnedTag;

const NOT_YET: &str = "the driver does not have it yet";

/// The driver's configuration.
pub(super) fn config(_scenario: &Scenario) -> Config {
    Config::default()
}

/// What an instance is told beyond what all have.
pub(super) fn instance(_config: &mut InstanceConfig, _instance: &scenario::Instance) {}

pub(super) fn add_master(
    iommu: &Iommu<TestPlatform>,
    smmu: &Smmu<TestPlatform>,
    streams: &[StreamId],
    _master: &scenario::Master,
) -> Result<Master<TestPlatform>, AddMasterError> {
    iommu.add_master(smmu, streams)
}

pub(super) fn substream_bits(_master: &Master<TestPlatform>) -> u32 {
    0
}

pub(super) fn tag(space: usize, target: &Target) -> OwnedTag {
    OwnedTag {
        space,
        instance: target.instance.index(),
        vmid: target.tag.vmid,
        asid: target.tag.asid,
        shared: false,
    }
}

pub(super) fn allocate_pasid(_iommu: &Iommu<TestPlatform>) -> Result<u32, String> {
    Err(NOT_YET.to_owned())
}

pub(super) fn free_pasid(_iommu: &Iommu<TestPlatform>, _pasid: u32) -> Result<(), String> {
    Err(NOT_YET.to_owned())
}

/// Why the driver refused something, in the scenario's words.
pub(super) fn refusal(error: &AttachError) -> Option<Refusal> {
    match error {
        AttachError::Mismatch { .. } => Some(Refusal::Mismatch),
        AttachError::NoAsid { .. } => Some(Refusal::IdsExhausted),
        _ => None,
    }
}

/// The instance's bits and the live ASID, when that is too wide.
pub(super) fn too_wide(_error: &AttachError) -> Option<(u32, u16)> {
    None
}

impl Bench {
    pub(super) fn call_attach(
        &self,
        master: &Master<TestPlatform>,
        substream: Option<u32>,
        to: Use,
    ) -> Option<Result<(), AttachError>> {
        match (substream, to) {
            (None, Use::Blocked) => Some(self.iommu.detach(master)),
            // SAFETY: devices of a test only touch what the scenario tells them to.
            (None, Use::Identity) => Some(unsafe { self.iommu.attach_identity(master) }),
            (None, Use::Domain(domain)) => {
                let domain = self.domains.get(domain)?;
                Some(self.iommu.attach(master, domain))
            }
            _ => None,
        }
    }
}

/// A process, as the driver has it.
pub(super) struct Process;

/// A process that is bound to a master.
pub(super) struct Bond;

pub(super) struct Pasid(pub(super) u32);

impl Process {
    pub(super) fn pasid(&self) -> Pasid {
        Pasid(0)
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    pub(super) fn bind(&self, _master: &Master<TestPlatform>) -> Result<Bond, AttachError> {
        Ok(Bond)
    }

    pub(super) fn release(&self) -> Result<(), AttachError> {
        Ok(())
    }

    pub(super) fn invalidate(&self, _iova: smmuv3::Iova, _bytes: u64) -> Result<(), AttachError> {
        Ok(())
    }

    pub(super) fn close(self) -> Result<(), (Self, usize)> {
        Ok(())
    }
}

impl Bond {
    pub(super) fn unbind(self) -> Result<(), (Self, AttachError)> {
        Ok(())
    }
}

pub(super) fn add_process(
    _iommu: &Iommu<TestPlatform>,
    _table: &Stage1Table4K,
    _cookie: u64,
) -> Result<Process, String> {
    Err(NOT_YET.to_owned())
}

/// The CPUs' TLBI of a range of a process, by virtual address, to every SMMU that takes part.
pub(super) fn broadcast(_world: &Arc<World>, _asid: u16, _range: &Range<u64>) {}
