// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instances, masters and an `Iommu` under one policy.

use std::sync::Arc;

use smmuv3::{
    AsidPolicy, AttachError, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master,
    MasterConfig, PhysAddr, Process, ProcessConfig, Smmu, StreamId, SubstreamId,
};
use smmuv3_formats::Opcode;
use smmuv3_model::Profile;
use smmuv3_pagetable::Frames;
use thiserror::Error;

use crate::lab::cost::Work;
use crate::lab::machine::{Counters, LabPlatform};
use crate::lab::plan::{Plan, Setup, SetupError};
use crate::lab::report::Reason;

/// Bits of StreamIDs: more masters of one instance than anybody asks for.
const STREAM_BITS: u32 = 20;
/// T0SZ for 48 bits, write-back tables, inner shareable, 4 KiB granule, 44-bit output (§6).
const TCR: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 32;
/// Attribute 0 is normal write-back memory.
const MAIR: u64 = 0xff;
const PAGE: usize = 4096;

/// Why there is no result.
#[derive(Debug, Error)]
pub enum LabError {
    /// It cannot be tried.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// This computer has too little memory.
    #[error("not enough memory for {what}; ask for fewer domains, masters or processes")]
    Memory {
        /// What it would have been for.
        what: &'static str,
    },
    /// The driver, or an SMMU, did what it should not.
    #[error("under {policy}, {what}")]
    Broken {
        /// The policy.
        policy: AsidPolicy,
        /// What happened.
        what: String,
    },
}

/// A place for one address space in a master: without a PASID, or with one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) instance: usize,
    pub(crate) master: usize,
    pub(crate) pasid: Option<SubstreamId>,
}

/// What a call came to: why it was refused, if it was; what it cost, and how many live tags it changed.
pub(crate) struct Outcome {
    pub(crate) refused: Option<Reason>,
    pub(crate) work: Work,
    pub(crate) moved: u64,
}

/// Instances, masters and an `Iommu` under one policy.
pub struct Rig {
    /// Under that policy.
    pub iommu: Iommu<LabPlatform>,
    /// The instances, in their order.
    pub smmus: Vec<Smmu<LabPlatform>>,
    /// The masters of each.
    pub masters: Vec<Vec<Master<LabPlatform>>>,
    /// What SMMUs were told.
    pub counters: Arc<Counters>,
    pub(crate) policy: AsidPolicy,
    /// For domains beyond the first of a master.
    pasids: Vec<SubstreamId>,
    /// Free ASIDs of each instance while nothing is attached.
    free: Vec<usize>,
}

impl Rig {
    /// What `setup` asks for, with nothing attached.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn new(setup: &Setup, policy: AsidPolicy) -> Result<Self, LabError> {
        setup.check()?;
        Self::with_plan(setup, &Plan::draw(setup), policy)
    }

    pub(crate) fn with_plan(
        setup: &Setup,
        plan: &Plan,
        policy: AsidPolicy,
    ) -> Result<Self, LabError> {
        let memory = |what| LabError::Memory { what };
        let platform = LabPlatform::new(bytes(setup, plan), plan.asids.clone())
            .map_err(|_| memory("the machine"))?;
        let counters = platform.counters().clone();
        let mut config = Config::default();
        (config.asid_policy, config.pasid_bits) = (policy, 20);
        let iommu = Iommu::new(platform, config).map_err(|_| memory("the driver"))?;
        let mut rig = Self {
            iommu,
            smmus: Vec::new(),
            masters: Vec::new(),
            counters,
            policy,
            pasids: Vec::new(),
            free: Vec::new(),
        };
        for (index, bits) in setup.instances.iter().enumerate() {
            let smmu = rig.instance(index, *bits, setup.broadcast.contains(&index))?;
            rig.smmus.push(smmu);
        }
        // Before any process: those of masters are the lowest.
        for _ in 1..plan.domains_of_a_master() {
            rig.pasids.push(rig.iommu.allocate_pasid().map_err(|error| rig.broken(error))?);
        }
        let most = rig.pasids.len() + setup.processes;
        let bits = usize::BITS - most.leading_zeros();
        for index in 0..setup.instances.len() {
            let masters = (0..plan.masters[index]).map(|stream| {
                let config = MasterConfig::default().with_pasid_bits(bits);
                // Few enough, or adding it fails.
                let stream = StreamId(u32::try_from(stream).unwrap_or(u32::MAX));
                rig.iommu.add_master(&rig.smmus[index], &[stream], config)
            });
            let masters: Result<Vec<_>, _> = masters.collect();
            rig.masters.push(masters.map_err(|_| memory("so many masters"))?);
        }
        rig.free = rig.free();
        Ok(rig)
    }

    fn instance(
        &self,
        index: usize,
        bits: u32,
        broadcast: bool,
    ) -> Result<Smmu<LabPlatform>, LabError> {
        let profile = Profile::default()
            .asid16(bits == 16)
            .s2p(true)
            .btm(broadcast)
            .two_level_contexts(true)
            .ssidsize(20)
            .sidsize(STREAM_BITS);
        let mut config = InstanceConfig::named("smmu");
        (config.sid_bits, config.broadcast) = (STREAM_BITS, broadcast);
        let registers = self.iommu.platform().smmu(index, profile);
        let probe = self.iommu.probe(registers, config).map_err(|error| self.broken(error))?;
        probe.enable().map_err(|refused| self.broken(refused))
    }

    pub(crate) fn broken(&self, what: impl ToString) -> LabError {
        LabError::Broken { policy: self.policy, what: what.to_string() }
    }

    /// An empty domain.
    ///
    /// # Errors
    /// [`LabError::Memory`].
    pub fn domain(&self) -> Result<Domain<LabPlatform>, LabError> {
        let domain = self.iommu.create_domain(DomainConfig::default());
        domain.map_err(|_| LabError::Memory { what: "so many domains" })
    }

    /// A process with an empty table; `cookie` is its number.
    pub(crate) fn process(&self, cookie: usize) -> Result<Process<LabPlatform>, LabError> {
        let memory = || LabError::Memory { what: "so many processes" };
        let root = self.iommu.platform().allocate(PAGE, PAGE).ok_or_else(memory)?;
        let config = ProcessConfig::new(root, TCR, MAIR);
        // SAFETY: the table is empty, and stays so until the machine's memory goes.
        unsafe { self.iommu.add_process(config, cookie as u64) }.map_err(|error| self.broken(error))
    }

    /// Where the `nth` address space of `instance` goes: masters take turns.
    pub(crate) fn slot(&self, instance: usize, nth: usize) -> Slot {
        let masters = self.masters[instance].len();
        let pasid = (nth / masters).checked_sub(1).map(|nth| self.pasids[nth]);
        Slot { instance, master: nth % masters, pasid }
    }

    /// Attaches `slot`, which is blocked, to `domain`.
    pub(crate) fn attach(
        &self,
        slot: Slot,
        domain: &Domain<LabPlatform>,
    ) -> Result<Outcome, LabError> {
        let master = &self.masters[slot.instance][slot.master];
        self.measured(|| match slot.pasid {
            None => self.iommu.attach(master, domain),
            Some(pasid) => self.iommu.attach_pasid(master, pasid, domain),
        })
    }

    /// Blocks `slot`; what that cost.
    pub(crate) fn detach(&self, slot: Slot) -> Result<Work, LabError> {
        let master = &self.masters[slot.instance][slot.master];
        let before = self.counters.work();
        let detached = match slot.pasid {
            None => self.iommu.detach(master),
            Some(pasid) => self.iommu.detach_pasid(master, pasid),
        };
        detached.map_err(|error| self.broken(error))?;
        Ok(self.counters.work() - before)
    }

    /// What `call` came to, which puts an address space where there was none. Nothing leaves by that: each ASID that is
    /// invalidated is one that was changed.
    pub(crate) fn measured(
        &self,
        call: impl FnOnce() -> Result<(), AttachError>,
    ) -> Result<Outcome, LabError> {
        let counted = || (self.counters.work(), self.counters.of(Opcode::TlbiNhAsid));
        let (work, flushed) = counted();
        let result = call();
        let (work_then, flushed_then) = counted();
        let refused = match result {
            Ok(()) => None,
            Err(error) => Some(Reason::of(&error).ok_or_else(|| self.broken(error))?),
        };
        Ok(Outcome { refused, work: work_then - work, moved: flushed_then - flushed })
    }

    /// Maps a page in `domain`, and unmaps it; what the unmap cost, and how many invalidations by address there were.
    pub(crate) fn unmap(&self, domain: &Domain<LabPlatform>) -> Result<(Work, u64), LabError> {
        const IOVA: Iova = Iova(0x12_3456_7000);
        const MEMORY: PhysAddr = PhysAddr(0x8000_0000);
        let attributes = smmuv3::Attributes::normal(smmuv3::Prot::READ);
        // SAFETY: nothing does DMA, and nobody else maps here.
        let mapped = unsafe { domain.map(IOVA, MEMORY, PAGE as u64, attributes) };
        mapped.map_err(|error| self.broken(error))?;
        let (work, told) = (self.counters.work(), self.counters.of(Opcode::TlbiNhVa));
        // SAFETY: as above.
        let unmapped = unsafe { domain.unmap(IOVA, PAGE as u64) };
        unmapped.map_err(|error| self.broken(error))?;
        Ok((self.counters.work() - work, self.counters.of(Opcode::TlbiNhVa) - told))
    }

    /// Free ASIDs of each instance, as far as the policy may use them.
    pub fn free(&self) -> Vec<usize> {
        self.smmus.iter().map(|smmu| self.iommu.free_asids(smmu)).collect()
    }

    /// Whether everything is as it was before anything was attached, and no SMMU complained.
    pub(crate) fn check(&self) -> Result<(), LabError> {
        if let Some(trouble) = self.counters.trouble() {
            return Err(self.broken(trouble));
        }
        let (free, before) = (self.free(), &self.free);
        if free != *before {
            return Err(self.broken(format_args!(
                "ASIDs were lost: {free:?} are free, {before:?} were in the beginning"
            )));
        }
        Ok(())
    }
}

/// Address space for the machine's memory; what is not touched takes none.
fn bytes(setup: &Setup, plan: &Plan) -> usize {
    let (masters, instances) = (plan.masters.iter().sum::<usize>(), setup.instances.len());
    // Queues and stream tables; a first table each; what a sample of domains maps; and contexts, of which each may be in
    // a leaf of its own below a first level of 16 KiB at most.
    let pages = instances * (256 + setup.processes)
        + 4 * (setup.domains + setup.processes)
        + plan.attaches()
        + 5 * masters
        + 4096;
    pages * PAGE
}
