// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine made of [`smmuv3_model`] instances, one a scenario's instance.

use std::sync::atomic::{AtomicBool, Ordering};

use smmuv3::{AtsMode, Completion};
use smmuv3_model::{
    Access, Adversary, Endpoint, Model, Observation, Profile, Reason, Refusal, Transfer,
};

use crate::bench::counters;
use crate::caches::{Caches, SmmuMemory};
use crate::lock::{Guard, Lock};
use crate::machine::{Dma, Machine, MachineError, Outcome, Part, Translations, pages};
use crate::qemu;
use crate::ram::Ram;
use crate::scenario::{self, Instance, Scenario};

/// Where its memory begins: beyond 4 GiB, so that a truncated address is noticed.
pub const RAM_BASE: u64 = 0x8_8000_0000;
/// Where it begins when an SMMU can output 32 bits only.
pub const LOW_RAM_BASE: u64 = 0x8000_0000;
/// Bytes of its memory.
pub const RAM_BYTES: usize = 256 << 20;

/// SMMUs in software, and devices that do DMA at once.
pub struct ModelMachine {
    ram: Ram,
    /// What has reached memory, for the SMMUs that do not snoop, if there are any.
    caches: Option<Caches>,
    smmus: Vec<Lock<Model<SmmuMemory>>>,
    /// Of each master: the instance and its first stream.
    masters: Vec<(usize, u32)>,
    /// Its memory is somebody else's by now.
    gone: AtomicBool,
}

impl ModelMachine {
    /// The machine that `scenario` describes, adversarial in a way that `seed` determines.
    ///
    /// # Errors
    /// [`MachineError::Ram`].
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self, MachineError> {
        Self::with_profiles(scenario, seed, profile)
    }

    /// As [`ModelMachine::new`], with profiles of the caller's making.
    ///
    /// # Errors
    /// [`MachineError::Ram`].
    pub fn with_profiles(
        scenario: &Scenario,
        seed: u64,
        profile: impl Fn(&Instance) -> Profile,
    ) -> Result<Self, MachineError> {
        let ram = Ram::inherited(ram_base(scenario), RAM_BYTES)?;
        let incoherent = scenario.instances.iter().any(|instance| !instance.coherent);
        let caches = incoherent.then(Caches::default);
        let smmus = scenario
            .instances
            .iter()
            .zip(0u64..)
            .map(|(instance, index)| {
                let counters = instance.counters;
                let seed = seed ^ (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let caches = caches.clone().filter(|_| !instance.coherent);
                let memory = SmmuMemory::new(ram.clone(), caches);
                let mut smmu = Model::new(profile(instance), memory, seed);
                if counters > 0 {
                    smmu.set_monitor(counters::monitor(counters, instance.one_filter));
                }
                Lock::new(smmu)
            })
            .collect();
        let stream = |master: &crate::scenario::Master| {
            (master.instance, master.streams.first().copied().unwrap_or(0))
        };
        let masters = scenario.masters.iter().map(stream).collect();
        let machine = Self { ram, caches, smmus, masters, gone: AtomicBool::new(false) };
        for master in scenario.masters.iter().filter(|master| master.ats.is_some()) {
            if let Some(mut smmu) = machine.smmu(master.instance) {
                let needs_ats = master.ats == AtsMode::Always;
                let endpoint = Endpoint::default().needs_ats(needs_ats);
                for stream in &master.streams {
                    smmu.plug(*stream, endpoint.clone().response_pasid(master.response_pasid));
                }
            }
        }
        Ok(machine)
    }

    /// Hands its memory on to the next machine, once.
    fn hand_memory_on(&self) {
        if !self.gone.swap(true, Ordering::Relaxed) {
            self.ram.hand_on();
        }
    }

    fn smmu(&self, instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>> {
        Some(self.smmus.get(instance)?.lock())
    }
}

impl Drop for ModelMachine {
    fn drop(&mut self) {
        self.hand_memory_on();
    }
}

/// Where its memory begins for `scenario`: as on QEMU where the scenario has something there.
pub fn ram_base(scenario: &Scenario) -> u64 {
    let as_qemu = qemu::RAM_BASE..qemu::RAM_BASE + RAM_BYTES as u64;
    if scenario.memories.iter().any(|it| it.at.is_some_and(|at| as_qemu.contains(&at))) {
        return qemu::RAM_BASE;
    }
    let narrow = scenario.instances.iter().any(|instance| instance.oas < 36);
    if narrow { LOW_RAM_BASE } else { RAM_BASE }
}

/// The model's profile for an instance of a scenario.
pub fn profile(instance: &Instance) -> Profile {
    /// Not at once: who does not wait gets the answer to something else.
    const OPERATION_DELAY: u32 = 6;
    let mut profile = Profile::default()
        .asid16(instance.asid_bits == 16)
        .s2p(instance.stage_2)
        .vmid16(instance.stage_2 && instance.vmid_bits == 16)
        .cohacc(instance.coherent)
        .ril(instance.range_invalidation)
        .oas(instance.oas)
        .granules(instance.granules.kib_4, instance.granules.kib_16, instance.granules.kib_64)
        .sidsize(instance.sid_bits)
        .ssidsize(instance.ssid_bits)
        .two_level_contexts(instance.two_level_contexts)
        .btm(instance.btm)
        .msi(instance.msi)
        .atos(instance.atos)
        .hyp(instance.hyp)
        .sev(instance.queues.completion == Completion::Event)
        .ecmdq(instance.queues.enhanced_log2)
        .two_level_stream_table(instance.two_level_streams)
        .queues(instance.command_queue_log2, instance.event_queue_log2)
        .eager(false)
        .adversary(Adversary::ALL);
    if instance.ats {
        profile = profile.ats(true);
    }
    if instance.pri {
        profile = profile.pri(instance.page_request_queue_log2);
    }
    profile.repeated_invalidation = instance.repeated_invalidation;
    let profile = profile
        .s1p(instance.stage_1)
        .lpa2(instance.walks.lpa2)
        .wide_addresses(instance.walks.wide_input)
        .bbml(instance.walks.bbml)
        .httu(instance.walks.httu);
    let quirks = &instance.quirks;
    let mut profile = profile.attr_types_ovr(quirks.type_overrides);
    profile.idr0 = profile.idr0.with_term_model(!quirks.silent_termination);
    profile.idr1 = profile.idr1.with_attr_perms_ovr(quirks.permission_overrides);
    profile.iidr = quirks.part.iidr();
    profile.page_0_only = quirks.one_page;
    profile.broken_prefetch = quirks.forbids_prefetch();
    profile.wide_messages = quirks.part == scenario::Part::Hi161x;
    profile.operation_delay = OPERATION_DELAY;
    match (instance.stalls, instance.forced_stalls) {
        (0, _) => profile,
        // The field has 16 bits, and so have scenarios.
        (most, forced) => profile.stalls(if forced { 2 } else { 0 }, most as u16),
    }
}

impl Machine for ModelMachine {
    fn name(&self) -> String {
        "model".to_owned()
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn read32(&self, instance: usize, offset: u32) -> u32 {
        self.smmu(instance).map_or(0, |mut smmu| smmu.read32(offset))
    }

    fn write32(&self, instance: usize, offset: u32, value: u32) {
        if let Some(mut smmu) = self.smmu(instance) {
            smmu.write32(offset, value);
        }
    }

    fn write64(&self, instance: usize, offset: u32, value: u64) {
        if let Some(mut smmu) = self.smmu(instance) {
            smmu.write64(offset, value);
        }
    }

    fn allocated(&self, pa: u64, bytes: u64) {
        if let Some(caches) = &self.caches {
            caches.allocated(pa, bytes);
        }
    }

    fn freed(&self, pa: u64, bytes: u64) {
        if let Some(caches) = &self.caches {
            caches.freed(pa, bytes);
        }
    }

    fn published(&self, pa: u64, bytes: u64) {
        if let Some(caches) = &self.caches {
            caches.published(&self.ram, pa, bytes);
        }
    }

    fn act(&self) {
        for smmu in &self.smmus {
            smmu.lock().act();
        }
    }

    fn act_and_tell(&self, seen: &mut [Vec<Observation>]) -> bool {
        let mut others = seen.iter_mut();
        for smmu in &self.smmus {
            let mut smmu = smmu.lock();
            smmu.act();
            if let Some(seen) = others.next() {
                smmu.swap_observations(seen);
            }
        }
        !seen.is_empty() && !self.smmus.is_empty()
    }

    fn wait(&self) {
        for smmu in &self.smmus {
            smmu.lock().run(4);
        }
    }

    fn dma(
        &self,
        master: usize,
        substream: Option<u32>,
        iova: u64,
        mut transfer: Dma<'_>,
    ) -> Result<Vec<Part>, MachineError> {
        let (instance, stream) = *self.masters.get(master).ok_or(MachineError::NoMaster(master))?;
        let kind = transfer.kind();
        let mut smmu = self.smmu(instance).ok_or(MachineError::NoMaster(master))?;
        let mut parts = Vec::new();
        for (offset, bytes) in pages(iova, transfer.len()) {
            let iova = iova.wrapping_add(offset as u64);
            let outcome = match smmu.access(Access { substream, ..kind.access(stream, iova) }) {
                Err(Refusal { reason: Reason::Stalled(id), .. }) => {
                    // `pages` gave parts of the transfer.
                    let payload = match &transfer {
                        Dma::Write(data) => Transfer::Write(data[offset..offset + bytes].to_vec()),
                        Dma::Read(_) | Dma::Fetch(_) => Transfer::Read(bytes),
                    };
                    smmu.load(id, payload);
                    Outcome::Stalled
                }
                Err(Refusal { reason: Reason::NotGranted, .. }) => Outcome::NotGranted,
                Err(_) => Outcome::Refused,
                Ok(translation) => {
                    // `pages` gave parts of the transfer.
                    match &mut transfer {
                        Dma::Write(data) => {
                            self.ram.write(translation.pa, &data[offset..offset + bytes])?;
                        }
                        Dma::Read(buffer) | Dma::Fetch(buffer) => {
                            self.ram.read(translation.pa, &mut buffer[offset..offset + bytes])?;
                        }
                    }
                    Outcome::Reached(translation.pa)
                }
            };
            parts.push(Part { iova, bytes, outcome });
        }
        Ok(parts)
    }

    fn model(&self, instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>> {
        self.smmu(instance)
    }

    fn translations(&self) -> Option<Translations> {
        let mut sum = Translations::default();
        for instance in 0..self.smmus.len() {
            let smmu = self.smmu(instance)?;
            sum.hits += smmu.statistics().tlb_hits;
            sum.misses += smmu.statistics().tlb_misses;
        }
        Some(sum)
    }

    fn discard(&self) {
        self.hand_memory_on();
        if let Some(caches) = &self.caches {
            caches.clear();
        }
        for index in 0..self.smmus.len() {
            if let Some(mut smmu) = self.smmu(index) {
                let memory = SmmuMemory::new(self.ram.clone(), None);
                *smmu = Model::new(Profile::default(), memory, 0);
                // With what was reserved for more of them.
                drop(smmu.observations());
            }
        }
    }

    fn health(&self) -> Result<(), MachineError> {
        Ok(())
    }
}
