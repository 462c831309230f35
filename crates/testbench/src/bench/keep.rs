// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that firmware left working (RMR): they go on at every moment while the driver takes their instance into use, and
//! reach what they may until their own driver claims them.
//!
//! Firmware is another driver that has the instance on, with those streams passing, and with everything passing while it is
//! off. Nobody is left of it; its memory stays as it is, and at the end of the run all of it must still be there.

use std::sync::{Arc, MutexGuard, PoisonError};

use smmuv3::{Domain, Iommu, MasterConfig, PhysAddr, Region, Smmu, StreamId};
use smmuv3_formats::register::Gbpa;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, L1Cd};
use smmuv3_model::Access;

use super::hand_over::{Devices, Probe};
use super::{Bench, BenchError, Done, Handle, calls};
use crate::oracle::{PAGE, Rule, Shape};
use crate::platform::{Observer, TestPlatform};
use crate::scenario::Scenario;
use crate::trace;
use crate::watch::OwnedTag;

/// A master that firmware left working.
pub(super) struct Kept {
    master: usize,
    /// The number of its address space.
    space: usize,
    /// Its address space, once it was claimed.
    domain: Option<Domain<TestPlatform>>,
}

impl Kept {
    pub(super) fn domain(self) -> Option<Domain<TestPlatform>> {
        self.domain
    }
}

impl Bench {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The masters behind an instance that firmware left working, with what they reach.
    fn kept_of(&self, instance: usize) -> Vec<(usize, std::ops::Range<u64>)> {
        let of_it = |(master, _): &(usize, _)| instance_of(&self.scenario, *master) == instance;
        self.scenario.kept().filter(of_it).collect()
    }

    fn kept_streams(&self, master: usize) -> Vec<StreamId> {
        let streams = self.scenario.masters.get(master).map(|it| &it.streams);
        streams.into_iter().flatten().copied().map(StreamId).collect()
    }

    /// Lets firmware take an instance into use, if it leaves anything working there.
    pub(super) fn firmware(&mut self, index: usize) -> Result<(), BenchError> {
        let kept = self.kept_of(index);
        if kept.is_empty() {
            return Ok(());
        }
        let failed = |error: String| BenchError::Driver {
            doing: format!("let firmware use instance {index}"),
            error,
        };
        let before: Vec<(u64, u64)> = self.world.frames().live().collect();
        let config = calls::config(&self.scenario);
        let iommu = Iommu::new(TestPlatform(self.world.clone()), config)
            .map_err(|_| BenchError::NoMemory("firmware".to_owned()))?;
        let smmu = self.probe_by(&iommu, index)?.enable();
        let smmu = smmu.map_err(|refused| failed(refused.to_string()))?;
        for (master, _) in kept {
            let streams = self.kept_streams(master);
            let added = iommu.add_master(&smmu, &streams, MasterConfig::default());
            let added = added.map_err(|error| failed(error.to_string()))?;
            // SAFETY: devices of a test only touch what the scenario tells them to.
            let attached = unsafe { iommu.attach_identity(&added) };
            attached.map_err(|error| failed(error.to_string()))?;
            std::mem::forget(added);
        }
        let machine = self.world.machine();
        let gbpa = Gbpa::default().with_sh_cfg(1).with_update(true);
        machine.write32(index, Gbpa::OFFSET, gbpa.0);
        while Gbpa(machine.read32(index, Gbpa::OFFSET)).update() {}
        // Nobody tells the next owner of it.
        std::mem::forget((iommu, smmu));
        let now = self.world.frames().live().filter(|it| !before.contains(it)).collect::<Vec<_>>();
        self.left.frames.extend(now);
        // What it did is nobody's business.
        self.world.observations(index);
        self.world.forget_given(index);
        self.world.take_commands();
        Ok(())
    }

    /// As [`Bench::bring_up`]; what firmware left working goes on.
    pub(super) fn bring_up_keeping(
        &mut self,
        index: usize,
    ) -> Result<Smmu<TestPlatform>, BenchError> {
        let kept = self.kept_of(index);
        if kept.is_empty() {
            return self.bring_up(index);
        }
        let failed = |doing: String, error: String| BenchError::Driver { doing, error };
        let mut probe = self.probe(index)?;
        let mut probes = Vec::new();
        for (master, memory) in &kept {
            let Some(it) = self.scenario.masters.get(*master) else { continue };
            let region = Region::normal(PhysAddr(memory.start), memory.end - memory.start);
            let config = calls::master(it);
            // SAFETY: the memory is the device's.
            let result = unsafe { probe.keep(&self.kept_streams(*master), config, &[region]) };
            let doing = || format!("keep {}", it.name);
            result.map_err(|error| failed(doing(), error.to_string()))?;
            for stream in &it.streams {
                for pa in [memory.start, memory.end - PAGE] {
                    for access in [Access::read(*stream, pa), Access::write(*stream, pa)] {
                        probes.push(Probe { master: *master, instance: index, access, pa });
                    }
                }
            }
        }
        let devices = Devices::new(&self.world, probes);
        self.world.set_observer(Some(devices.clone() as Arc<dyn Observer>));
        let enabled = probe.enable();
        self.world.set_observer(None);
        for (_, text) in devices.failed() {
            self.look(|watch| watch.oracle.accuse(Rule::R0, text));
        }
        let smmu = enabled.map_err(|refused| failed(self.enabling(index), refused.to_string()))?;
        Ok(self.known(index, smmu))
    }

    /// All address spaces but those of kept masters are there: these come next.
    pub(super) fn know_kept(&mut self) {
        let all: Vec<_> = self.scenario.kept().collect();
        for (master, memory) in all {
            let Some((_, root, shape)) = self.as_left(master, 0) else { continue };
            let mut watch = self.watch();
            let space = watch.oracle.keep(master, root, shape, memory);
            drop(watch);
            self.kept().push(Kept { master, space, domain: None });
        }
    }

    /// What the entry of a master says that nobody has claimed: the tag, which may become another when a process needs it;
    /// the root of its tables, and their shape.
    fn as_left(&self, master: usize, space: usize) -> Option<(OwnedTag, u64, Shape)> {
        let instance = instance_of(&self.scenario, master);
        let stream = self.kept_streams(master).first().copied()?;
        let ste = self.watch().entry(instance, stream.0);
        let stage_2 = ste.config() == config::STAGE_2;
        // Its context is the first, which is in the first leaf where there are two levels.
        let read = |pa: u64| self.world.machine().ram().read64(pa).unwrap_or(0);
        let two_levels = ste.s1_cd_max() != 0 && ste.s1_fmt() != 0;
        let first = match two_levels {
            true => L1Cd([read(ste.s1_context_ptr())]).l2_ptr(),
            false => ste.s1_context_ptr(),
        };
        let word = |at: u64| read(first + 8 * at);
        let context = (!stage_2).then(|| Cd([0, 1, 2, 3, 4, 5, 6, 7].map(word)));
        // The fields have 16 bits.
        let asid = context.map_or(0, |cd| cd.asid() as u16);
        let root = context.map_or(ste.s2_ttb(), |cd| cd.ttb0());
        let has_vmids = self.scenario.instances.get(instance).is_some_and(|it| it.stage_2);
        let vmid = if has_vmids { ste.s2_vmid() as u16 } else { 0 };
        let shape = Shape { stage_2, ..Shape::default() };
        Some((OwnedTag { space, instance, vmid, asid, shared: false }, root, shape))
    }

    /// The driver of a device that firmware left working takes it over. It works as before.
    pub(super) fn claim(&self, master: usize) -> Done {
        let nothing = Done { outcome: "nothing to do".to_owned(), ..Done::default() };
        let instance = instance_of(&self.scenario, master);
        let smmu = self.smmus.get(instance).and_then(Handle::get);
        let (Some(smmu), Some(stream)) = (smmu, self.kept_streams(master).last().copied()) else {
            return nothing;
        };
        let unclaimed = |kept: &Kept| kept.master == master && kept.domain.is_none();
        let Some(at) = self.kept().iter().position(unclaimed) else { return nothing };
        let name = self.scenario.masters.get(master).map_or("?", |it| &*it.name);
        let known = self.as_left(master, self.kept()[at].space).map(|(tag, ..)| tag);
        let operands = || trace::args([("master", name.into())]);
        let taken =
            self.traced("call", "take_kept", operands, || self.iommu.take_kept(&smmu, stream));
        let Some((taken, domain)) = taken else {
            self.look(|watch| watch.refuse(format_args!("{name} was not kept")));
            return nothing;
        };
        let tags: Vec<OwnedTag> = domain
            .targets()
            .unwrap_or_default()
            .iter()
            .map(|target| self.tag(self.kept()[at].space, target))
            .collect();
        self.kept()[at].domain = Some(domain);
        let owned = self.tags();
        self.look(|watch| {
            watch.collect(&self.world);
            if known.as_slice() != tags.as_slice() {
                watch.refuse(format_args!("{name} has {tags:?}, and was kept with {known:?}"));
            }
            watch.check_tags(&self.world, &owned, &self.widths());
        });
        if let Some(handle) = self.masters.get(master) {
            handle.put(taken);
        }
        Done { outcome: "done".to_owned(), acted: true, ..Done::default() }
    }

    /// Claims what is left.
    pub(super) fn claim_all(&self) {
        let left: Vec<usize> = self.kept().iter().map(|kept| kept.master).collect();
        for master in left {
            self.claim(master);
        }
    }

    /// Whether the leaf of the stream table with `stream` was there from the beginning, for what firmware left working.
    pub(super) fn has_leaf_of_kept(&self, instance: usize, stream: u32, split: u32) -> bool {
        let mut streams = self
            .kept_of(instance)
            .into_iter()
            .flat_map(|(master, _)| self.kept_streams(master).into_iter().map(|stream| stream.0));
        streams.any(|kept| kept >> split == stream >> split)
    }

    /// Whether a master behind an instance is still as firmware left it.
    pub(super) fn is_unclaimed(&self, instance: usize) -> bool {
        self.kept().iter().any(|kept| {
            kept.domain.is_none() && instance_of(&self.scenario, kept.master) == instance
        })
    }

    /// The tags of what firmware left working, claimed or not.
    pub(super) fn tags_of_kept(&self) -> Vec<OwnedTag> {
        let mut tags = Vec::new();
        let mut left = Vec::new();
        for kept in self.kept().iter() {
            let Some(domain) = &kept.domain else {
                left.push((kept.master, kept.space));
                continue;
            };
            tags.extend(
                domain
                    .targets()
                    .unwrap_or_default()
                    .iter()
                    .map(|target| self.tag(kept.space, target)),
            );
        }
        tags.extend(left.into_iter().filter_map(|(master, space)| {
            let (tag, ..) = self.as_left(master, space)?;
            Some(tag)
        }));
        tags
    }
}

fn instance_of(scenario: &Scenario, master: usize) -> usize {
    scenario.masters.get(master).map_or(usize::MAX, |it| it.instance)
}
