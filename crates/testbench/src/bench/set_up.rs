// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bringing the driver up: instances, masters, domains, processes and memories of a scenario.

use crate::inside::Inside as _;
use std::sync::PoisonError;

use smmuv3::{
    AtsMode, InstanceConfig, Iommu, Master, Probe, Smmu, Split, StreamId, StreamTableShape,
};

use super::counters::Counters;
use super::guest::Guest;
use super::{Bench, BenchError, Handle, POOL_BYTES, calls, interrupts};
use crate::machine::MachineError;
use crate::oracle::{Contexts, PAGE, Shape};
use crate::platform::{TestMmio, TestPlatform};
use crate::scenario::{Scenario, StreamTableKind};
use crate::stream_table::StreamTable;
use crate::watch::Limit;

impl Bench {
    pub(super) fn set_up(&mut self) -> Result<(), BenchError> {
        let scenario = self.scenario.clone();
        // Where firmware, which was here before, has it.
        for memory in &scenario.memories {
            if let Some(at) = memory.at {
                let there = self.world.frames().allocate_at(at, memory.size);
                there.ok_or_else(|| BenchError::NoMemory(memory.name.clone()))?;
            }
        }
        for index in 0..scenario.instances.len() {
            self.firmware(index)?;
        }
        for (index, instance) in scenario.instances.iter().enumerate() {
            self.messages.push(interrupts::place(&self.world, instance));
            let smmu = self.bring_up_keeping(index)?;
            let told: Vec<_> = smmu.features().overridden().map(|it| it.counts).collect();
            let other = instance.quirks.firmware_httu.filter(|httu| *httu != instance.walks.httu);
            let expected: Vec<u64> = other.into_iter().map(u64::from).collect();
            if told != expected {
                return Err(BenchError::Driver {
                    doing: format!("tell what firmware says otherwise of {}", instance.name),
                    error: format!("it says {told:?}, which are {expected:?}"),
                });
            }
            let streams = smmu.inside().streams();
            let (base, shape) = (streams.base_register(), streams.config_register());
            let quirks = instance.quirks;
            let mut watch = self.watch();
            watch.add_instance(StreamTable { base, shape });
            watch.limits.push(Limit::of(&quirks));
            if let Some(overrides) = &quirks.while_off {
                watch.oracle.passes_while_off(index, overrides);
            }
            drop(watch);
            self.smmus.push(Handle::new(smmu));
            let counters = Counters::start(
                &self.world,
                &scenario,
                index,
                #[cfg(feature = "mutation")]
                self.config.mutation,
            );
            self.counters.extend(counters.map_err(|error| BenchError::Driver {
                doing: format!("start the counters of {}", instance.name),
                error: error.to_string(),
            })?);
            self.world.machine().health()?;
        }
        self.stray()?;
        self.add_masters(&scenario)?;
        for (number, domain) in scenario.domains.iter().enumerate() {
            let (root, shape) = self.new_domain(number)?;
            let guest = self.new_guest(number)?;
            let root = guest.as_ref().map_or(root, Guest::root);
            self.watch().oracle.add_domain_with(root, shape);
            if let Some(under) = domain.tables.over {
                self.watch().oracle.put_over(under);
            }
            self.guests.push(guest);
        }
        self.world.cpu().set_bits(scenario.cpu_asid_bits);
        for number in 1..=scenario.pasids {
            let pasid = self.iommu.allocate_pasid().map_err(|error| BenchError::Driver {
                doing: format!("allocate PASID {number}"),
                error: error.to_string(),
            })?;
            self.watch().oracle.add_pasid(pasid.0);
        }
        self.add_processes(&scenario)?;
        self.know_kept();
        for memory in &scenario.memories {
            let align = memory.align.max(PAGE).max(scenario.largest_unit());
            let allocate = || self.world.frames().allocate_for_devices(memory.size, align);
            let pa = memory.at.or_else(allocate);
            let pa = pa.ok_or_else(|| BenchError::NoMemory(memory.name.clone()))?;
            if let Some(fill) = memory.fill {
                let bytes = vec![fill; memory.size as usize];
                self.world.machine().ram().write(pa, &bytes).map_err(MachineError::from)?;
            }
            self.memories.push(pa);
        }
        let pool = self.world.frames().allocate_for_devices(POOL_BYTES, 2 << 20);
        self.pool = pool.ok_or_else(|| BenchError::NoMemory("random steps".to_owned()))?;
        Ok(())
    }

    /// Creates the domain of the scenario with this number, the next one; the root of its tables, and what they are like.
    pub(super) fn new_domain(&mut self, number: usize) -> Result<(u64, Shape), BenchError> {
        let Some(domain) = self.scenario.domains.get(number) else {
            return Err(BenchError::NoMemory("no domain".to_owned()));
        };
        let before: Vec<u64> = self.world.frames().live().map(|(start, _)| start).collect();
        let mut config = calls::domain(domain);
        if self.world.machine().model(0).is_none() {
            // What its instances are is not the scenario's to choose: the driver stays within that.
            config.bbml = self.scenario.instances.iter().map(|it| it.walks.bbml).min();
        }
        let created = self.iommu.create_domain(config);
        self.domains.push(created.map_err(|error| BenchError::Driver {
            doing: format!("create {}", domain.name),
            error: error.to_string(),
        })?);
        // All that a new domain takes is the root of its tables.
        let root = self.world.frames().live().find(|(start, _)| !before.contains(start));
        Ok((root.map_or(0, |(start, _)| start), Shape::of(&self.scenario, number)))
    }

    /// What the guest has whose address space the domain with this number is, the last one, if it is a guest's.
    pub(super) fn new_guest(&self, number: usize) -> Result<Option<Guest>, BenchError> {
        let over = self.scenario.domains.get(number).and_then(|domain| domain.tables.over);
        over.map(|under| Guest::new(self, number, under)).transpose()
    }

    /// Takes an instance of the scenario into use.
    pub(super) fn bring_up(&self, index: usize) -> Result<Smmu<TestPlatform>, BenchError> {
        let smmu = self.probe(index)?.enable().map_err(|refused| BenchError::Driver {
            doing: self.enabling(index),
            error: refused.to_string(),
        })?;
        Ok(self.known(index, smmu))
    }

    pub(super) fn enabling(&self, index: usize) -> String {
        let name = self.scenario.instances.get(index).map_or("?", |it| &*it.name);
        format!("enable {name}")
    }

    /// The driver has the instance by now.
    pub(super) fn known(&self, index: usize, smmu: Smmu<TestPlatform>) -> Smmu<TestPlatform> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(smmu.id(), index);
        self.world.enabled(smmu.id(), index);
        smmu
    }

    /// An instance of the scenario, not in use yet.
    pub(super) fn probe(&self, index: usize) -> Result<Probe<TestPlatform>, BenchError> {
        self.probe_by(&self.iommu, index)
    }

    /// As [`Bench::probe`], by another driver.
    pub(super) fn probe_by(
        &self,
        iommu: &Iommu<TestPlatform>,
        index: usize,
    ) -> Result<Probe<TestPlatform>, BenchError> {
        let Some(instance) = self.scenario.instances.get(index) else {
            return Err(BenchError::NoMemory("no instance".to_owned()));
        };
        let mut config = InstanceConfig::named(&instance.name);
        config.asid_bits = instance.asid_bits;
        // Devices of the model answer at once or never.
        config.device_deadline = config.deadline;
        config.sid_bits = instance.sid_bits;
        config.stream_table = match instance.stream_table {
            StreamTableKind::Automatic => StreamTableShape::Automatic,
            StreamTableKind::Linear => StreamTableShape::Linear,
            StreamTableKind::TwoLevel => StreamTableShape::TwoLevel {
                split: match instance.sid_bits {
                    0..=16 => Split::Six,
                    17..=25 => Split::Eight,
                    _ => Split::Ten,
                },
            },
        };
        config.command_queue_log2 = instance.command_queue_log2;
        config.event_queue_log2 = instance.event_queue_log2;
        config.el2_host = self.scenario.el2_host;
        calls::instance(&mut config, instance);
        let page = self.messages.get(index).copied().flatten();
        interrupts::configure(&mut config, instance, page);
        let mmio = TestMmio { world: self.world.clone(), instance: index };
        let probe = iommu.probe(mmio, config);
        probe.map_err(|error| BenchError::Driver {
            doing: self.enabling(index),
            error: error.to_string(),
        })
    }

    /// Makes a master of the scenario known to the driver.
    pub(super) fn new_master(
        &self,
        index: usize,
        smmu: &Smmu<TestPlatform>,
    ) -> Result<Master<TestPlatform>, BenchError> {
        let Some(master) = self.scenario.masters.get(index) else {
            return Err(BenchError::NoMemory("no master".to_owned()));
        };
        let streams: Vec<StreamId> = master.streams.iter().copied().map(StreamId).collect();
        let failed = |error| BenchError::Driver { doing: format!("add {}", master.name), error };
        let added = calls::add_master(&self.iommu, smmu, &streams, master, &self.scenario);
        let added = added.map_err(|error| failed(error.to_string()))?;
        let bits = self.scenario.pasid_bits(index);
        let got = added.pasid_bits();
        if got != bits {
            return Err(failed(format!("it has {got} bits of PASIDs, not {bits}")));
        }
        Ok(added)
    }

    fn add_masters(&mut self, scenario: &Scenario) -> Result<(), BenchError> {
        for (index, master) in scenario.masters.iter().enumerate() {
            let missing = || BenchError::Driver {
                doing: format!("add {}", master.name),
                error: "its instance is missing".to_owned(),
            };
            let smmu = self.smmus.get(master.instance).and_then(Handle::get);
            let smmu = smmu.ok_or_else(missing)?;
            // One that firmware left working is the driver's already.
            self.masters.push(match master.keep {
                Some(_) => Handle::none(),
                None => Handle::new(self.new_master(index, &smmu)?),
            });
            let bits = scenario.pasid_bits(index);
            let two_levels =
                scenario.instances.get(master.instance).is_some_and(|it| it.two_level_contexts);
            // What was said of its streams so far is no word about a master.
            self.watch().collect(&self.world);
            self.watch().oracle.add_master_with(
                master.instance,
                master.streams.clone(),
                Contexts::new(bits, two_levels),
            );
            if two_levels {
                self.watch().oracle.has_two_levels(index);
            }
            let instance = scenario.instances.get(master.instance);
            if let Some(instance) = instance.filter(|_| master.response_pasid) {
                self.watch().oracle.responses_carry(index, instance.ssid_bits);
            }
            if let Some(instance) = instance {
                let room = 1 << instance.page_request_queue_log2;
                self.watch().oracle.has_room_for(master.instance, room);
                self.watch().oracle.outputs(index, instance.oas);
            }
            if master.ats.is_some() {
                self.watch().oracle.keeps_translations(index);
            }
            if master.ats == AtsMode::Always {
                self.watch().oracle.always_keeps(index);
            }
            if master.ats == AtsMode::Split {
                self.watch().oracle.keeps_intermediate(index);
            }
            if instance.is_some_and(|it| it.forced_stalls) {
                self.watch().oracle.stalls_always(index);
            }
            if scenario.stalls(index) {
                self.watch().oracle.may_stall(index);
            }
            if scenario.is_privileged(index) {
                self.watch().oracle.is_privileged(index);
            }
            self.watch().oracle.changes_without_a_hit(index, &master.overrides);
            for stream in &master.streams {
                self.watch().watch_stream(&self.world, master.instance, *stream);
            }
        }
        Ok(())
    }
}
