// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's calls for substreams and processes.

use crate::keeping::keeping;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use smmuv3::{
    AddMasterError, AttachError, Config, Dirty, DomainConfig, InstanceConfig, InstanceId, Iommu,
    Master, MasterConfig, PhysAddr, ProcessConfig, Smmu, Stage, StreamId, SubstreamId, Target,
    Vmids, WhileOff,
};
use smmuv3_formats::register::address_size_code_for;
use smmuv3_model::{Broadcast, Granule, Pages, Tlbi};
use smmuv3_pagetable::{MAIR, Stage1Table4K};

use super::Bench;
use super::guest::Guest;
use crate::oracle::{PAGE, Use};
use crate::platform::{TestPlatform, World};
use crate::scenario::{self, Refusal, Scenario};
use crate::watch::OwnedTag;

/// A process, as the driver has it.
pub(super) type Process = smmuv3::Process<TestPlatform>;
/// A process that is bound to a master.
pub(super) type Bond = smmuv3::Bond<TestPlatform>;

/// The driver's configuration.
pub(super) fn config(scenario: &Scenario) -> Config {
    let mut config = Config::default();
    config.asid_policy = scenario.asid_policy;
    if let Some((first, last)) = scenario.banks {
        config.banks = Vmids { first, last };
    }
    config.cpu.asid_bits = scenario.cpu_asid_bits;
    config.cpu.el2_host = scenario.el2_host;
    // Whatever a domain says was the hypervisor's to choose; the rest is the driver's.
    let chosen = || scenario.domains.iter().filter_map(|domain| domain.tables.vmid);
    if let (Some(first), Some(last)) = (chosen().min(), chosen().max()) {
        config.hypervisor_vmids = Vmids { first, last };
    }
    config
}

/// A domain's shape.
pub(super) fn domain(domain: &scenario::Domain) -> DomainConfig {
    let scenario::Tables { stage_2, granule, output_bits, .. } = domain.tables;
    let mut config = DomainConfig::default().with_input_bits(domain.input_bits);
    config.stage = if stage_2 { Stage::Two } else { Stage::One };
    config.granule = granule;
    config.output_bits = output_bits;
    config.start_level = domain.tables.start_level;
    config.contiguous = domain.tables.contiguous;
    config.splitting = domain.tables.splitting;
    config.statistics = cfg!(feature = "counts");
    config.vmid = domain.tables.vmid;
    if domain.tables.dirty {
        config.dirty = if domain.tables.splitting { Dirty::Born } else { Dirty::Clean };
    }
    config.upper = domain.tables.upper;
    config.access_flags = domain.tables.access_flags;
    config.all_attributes = domain.tables.all_attributes;
    config.forced_types = domain.tables.forced_types;
    config.guests = domain.tables.guests;
    config
}

/// What an instance is told beyond what all have.
pub(super) fn instance(config: &mut InstanceConfig, instance: &scenario::Instance) {
    config.broadcast = instance.btm;
    config.firmware = instance.quirks.firmware();
    config.firmware.repeated_invalidation = instance.repeated_invalidation;
    if let Some(overrides) = instance.quirks.while_off {
        // SAFETY: devices of a test only touch what the scenario tells them to.
        config.while_off = unsafe { WhileOff::bypass(overrides) };
    }
    // Fewer than can be stalled, so that some find no room.
    config.stalls = instance.stalls - instance.stalls / 4;
}

/// How many requests a stream of `instance` may have under way, so that the queue has room for all: as many as the driver
/// grants.
fn credits(scenario: &Scenario, instance: usize) -> u32 {
    let of_it = scenario.masters.iter().filter(|it| it.pri && it.instance == instance);
    let streams: usize = of_it.map(|it| it.streams.len()).sum();
    let log2 = scenario.instances.get(instance).map_or(0, |it| it.page_request_queue_log2);
    let entries = 1u32 << log2.min(7);
    // One more is for its word that it uses a PASID no more.
    (entries / streams.max(1) as u32).saturating_sub(1).max(1)
}

/// What a master is, but for what its devices keep and ask for.
pub(super) fn master(master: &scenario::Master) -> MasterConfig {
    let config = MasterConfig::default().with_pasid_bits(master.pasid_bits);
    let config = if master.stalls { config.with_stalls() } else { config };
    config.with_overrides(master.overrides)
}

pub(super) fn add_master(
    iommu: &Iommu<TestPlatform>,
    smmu: &Smmu<TestPlatform>,
    streams: &[StreamId],
    master: &scenario::Master,
    scenario: &Scenario,
) -> Result<Master<TestPlatform>, AddMasterError> {
    let config = keeping(self::master(master), master.ats);
    let config = match master.pri {
        true => {
            config.with_page_requests(credits(scenario, master.instance), master.response_pasid)
        }
        false => config,
    };
    iommu.add_master(smmu, streams, config)
}

/// Why the driver refused something, in the scenario's words.
pub(super) fn refusal(error: &AttachError) -> Option<Refusal> {
    match error {
        AttachError::AsidWidth { .. } => Some(Refusal::AsidWidth),
        AttachError::NoAsid { .. } => Some(Refusal::IdsExhausted),
        // Of a guest's space: the instance cannot nest, or stalls always and the guest is shown no stalls.
        AttachError::Mismatch { .. } | AttachError::Illegal(_) => Some(Refusal::Mismatch),
        AttachError::PasidRange { .. } => Some(Refusal::PasidRange),
        AttachError::PasidStage { .. } => Some(Refusal::PasidStage),
        AttachError::NoVmid { .. }
        | AttachError::VmidWidth { .. }
        | AttachError::VmidTaken { .. } => Some(Refusal::Vmid),
        AttachError::Released => Some(Refusal::Released),
        AttachError::PinnedTwice { .. } => Some(Refusal::PinnedTwice),
        _ => None,
    }
}

/// The instance's bits and the live ASID, when that is too wide.
pub(super) fn too_wide(error: &AttachError) -> Option<(u32, u16)> {
    match error {
        AttachError::AsidWidth { bits, asid, .. } => Some((*bits, *asid)),
        _ => None,
    }
}

impl Bench {
    /// Which of the scenario's instances the driver calls so, or did before that was taken into use again.
    pub(super) fn index_of(&self, instance: InstanceId) -> usize {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(&instance).copied().unwrap_or(usize::MAX)
    }

    pub(super) fn tag(&self, space: usize, target: &Target) -> OwnedTag {
        OwnedTag {
            space,
            instance: self.index_of(target.instance),
            vmid: target.tag.vmid,
            asid: target.tag.asid,
            shared: target.shared,
        }
    }

    pub(super) fn call_attach(
        &self,
        master: &Master<TestPlatform>,
        substream: Option<u32>,
        to: Use,
    ) -> Option<Result<(), AttachError>> {
        match (substream, to) {
            (None, Use::Blocked) => Some(self.iommu.detach(master).map_err(Into::into)),
            // SAFETY: devices of a test only touch what the scenario tells them to.
            (None, Use::Identity) => Some(unsafe { self.iommu.attach_identity(master) }),
            (None, Use::Domain(domain)) if let Some(guest) = self.guest(domain) => {
                Some(guest.attach(self, master))
            }
            (None, Use::Domain(domain)) => {
                Some(self.iommu.attach(master, self.domains.get(domain)?))
            }
            (Some(pasid), Use::Blocked) => {
                let ended = self.iommu.detach_pasid(master, SubstreamId(pasid));
                Some(ended.map_err(Into::into))
            }
            (Some(pasid), Use::Domain(domain)) => {
                // A guest's is over one of stage 2, which has no PASIDs.
                let domain = self.guest(domain).map_or(domain, Guest::under);
                let domain = self.domains.get(domain)?;
                Some(self.iommu.attach_pasid(master, SubstreamId(pasid), domain))
            }
            // Neither steps nor randomness ask for these.
            (Some(_), Use::Identity) | (_, Use::Process(_) | Use::Kept(_)) => None,
        }
    }
}

/// A process with the tables of `table`, as a CPU's registers would describe them (TCR_EL1).
pub(super) fn add_process(
    iommu: &Iommu<TestPlatform>,
    table: &Stage1Table4K,
    cookie: u64,
) -> Result<Process, String> {
    let t0sz = u64::from(64 - table.input_bits());
    let ips = address_size_code_for(table.output_bits()).unwrap_or(0);
    // Write-back, inner shareable; no walks of the upper half.
    let tcr = t0sz | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | ips << 32;
    let config = ProcessConfig::new(PhysAddr(table.root().0), tcr, MAIR);
    // SAFETY: the tables live until the process was closed, and whoever unmaps tells the CPUs and the driver.
    unsafe { iommu.add_process(config, cookie) }.map_err(|error| error.to_string())
}

/// The CPUs' TLBI of a range of a process, by virtual address, to every SMMU that takes part.
pub(super) fn broadcast(world: &Arc<World>, el2_host: bool, asid: u16, range: &Range<u64>) {
    let regime = if el2_host { smmuv3_model::World::El2E2h } else { smmuv3_model::World::El1 };
    let pages = Pages {
        va: range.start,
        count: (range.end - range.start) / PAGE,
        granule: Granule::K4,
        last_level: false,
    };
    for instance in 0.. {
        let Some(mut model) = world.machine().model(instance) else { break };
        let tlbi = Tlbi::Va { asid, pages };
        model.broadcast(Broadcast { world: regime, vmid: 0, tlbi });
    }
}
