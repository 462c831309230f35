// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking everything down: nothing may be left of it.

use std::sync::{Arc, PoisonError};

use super::guest::{self, Guest};
use super::keep::Kept;
use super::{Bench, BenchError, Handle, POOL_BYTES};
use smmuv3::SubstreamId;

use crate::lock::Lock;
use crate::oracle::{PAGE, Use, User, Violation};
use crate::platform::{Observer, Point, World};
use crate::scenario::{Answer, AsidPolicy, Change, Substream};
use crate::watch::Watch;

impl Bench {
    /// Takes everything down: masters blocked and closed, domains closed, instances removed, all under the eyes
    /// of the oracle. Nothing may be left of the driver's memory, nor of its tags.
    ///
    /// # Errors
    /// [`BenchError::Driver`] when something cannot be closed, or is left.
    pub fn tear_down(self: Arc<Self>) -> Result<Option<Violation>, BenchError> {
        let failed =
            |doing: &str, error: String| BenchError::Driver { doing: doing.to_owned(), error };
        self.claim_all();
        self.clear();
        self.answer_late();
        if self.left.is_any() {
            for instance in 0..self.smmus.len() {
                // It must be awake for that.
                self.change(instance, Change::Resume);
                let ended = self.end_adoption(instance);
                ended.map_err(|error| failed("end an adoption", error))?;
            }
        }
        self.check_tags_left().map_err(|error| failed("end the run", error))?;
        // Devices that are attached may ask.
        self.grant_late();
        self.check_statistics().map_err(|error| failed("end the run", error))?;
        self.check_counters().map_err(|error| failed("end the run", error))?;
        self.look(|watch| watch.collect(&self.world));
        self.world.set_observer(None);
        let bench = Arc::try_unwrap(self)
            .map_err(|_| failed("end the run", "it is still in use".to_owned()))?;
        let Self {
            world,
            iommu,
            smmus,
            counters,
            ids: _,
            messages,
            masters,
            domains,
            guests,
            contexts: _,
            processes,
            memories,
            pool,
            scenario,
            habits: _,
            watch,
            stalls: _,
            told: _,
            groups: _,
            config: _,
            kept,
            left,
            former_tags: _,
        } = bench;
        drop(counters);
        let rest = Arc::new(Rest { world: world.clone(), watch });
        world.set_observer(Some(rest.clone() as Arc<dyn Observer>));
        for slot in processes {
            slot.close(&world).map_err(|error| failed("close a process", error))?;
        }
        let pasids: Vec<u32> = {
            let watch = rest.watch.lock();
            watch.oracle.pasids().collect()
        };
        for pasid in pasids {
            iommu
                .free_pasid(SubstreamId(pasid))
                .map_err(|error| failed("free a PASID", error.to_string()))?;
        }
        for master in masters.iter().filter_map(Handle::take) {
            master.close().map_err(|refused| failed("close a master", refused.to_string()))?;
        }
        let arenas: Vec<u64> = guests.iter().flatten().map(Guest::memory).collect();
        drop(guests);
        let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        for domain in domains.into_iter().chain(kept.into_iter().filter_map(Kept::domain)) {
            domain.close().map_err(|refused| failed("close a domain", refused.to_string()))?;
        }
        for smmu in smmus.iter().filter_map(Handle::take) {
            iommu
                .remove(smmu)
                .map_err(|refused| failed("remove an instance", refused.to_string()))?;
        }
        drop(iommu);
        let (pinned, wrong) = world.cpu().left();
        if pinned != 0 || wrong != 0 {
            let error = format!("{pinned} ASIDs are still pinned, {wrong} were unpinned wrongly");
            return Err(failed("end the run", error));
        }
        world.set_observer(None);
        left.free(&world).map_err(|error| failed("end the run", error))?;
        let mut frames = world.frames();
        for (pa, memory) in memories.iter().zip(&scenario.memories) {
            frames.free_at_the_end(*pa, memory.size);
        }
        frames.free_at_the_end(pool, POOL_BYTES);
        messages.into_iter().flatten().for_each(|page| {
            frames.free_at_the_end(page, PAGE);
        });
        arenas.into_iter().for_each(|pa| {
            frames.free_at_the_end(pa, guest::BYTES);
        });
        let (left, bad) = (frames.live_bytes(), frames.bad_frees());
        if left != 0 || bad != 0 {
            let error = format!("{left} bytes were never freed, {bad} frees were wrong");
            return Err(failed("end the run", error));
        }
        let watch = rest.watch.lock();
        Ok(watch.oracle.violation().cloned())
    }

    /// Takes everything from masters.
    fn clear(&self) {
        for master in 0..self.masters.len() {
            self.readmit(master);
        }
        let users: Vec<(User, Use)> = self.oracle(|oracle| oracle.users().collect());
        for (User { master, substream }, use_) in users {
            let name = self.oracle(|oracle| oracle.substream_name(substream));
            match (use_, name) {
                (Use::Process(process), _) => {
                    while self.oracle(|oracle| oracle.bonds(master, process)) > 0 {
                        self.unbind(process, master);
                    }
                }
                (_, Some(Substream::Pasid(pasid))) => {
                    self.attach(master, Some(pasid), Use::Blocked, Answer::Done);
                }
                _ => {}
            }
        }
        for master in 0..self.masters.len() {
            self.attach(master, None, Use::Blocked, Answer::Done);
        }
    }

    /// With every master blocked all tags are free: the next one is the first that an instance gives out.
    fn check_tags_left(&self) -> Result<(), String> {
        for (index, smmu) in self.smmus.iter().enumerate() {
            let Some(smmu) = smmu.get() else { continue };
            let of_it = |master: &Handle<smmuv3::Master<_>>| {
                master.get().is_some_and(|master| master.instance() == smmu.id())
            };
            let master = self.masters.iter().position(of_it);
            let Some(master) = master else { continue };
            let last = (1u32 << smmu.features().asid_bits) - 1;
            // Those that serve all instances may be as wide as another instance's.
            let shared = self.scenario.asid_policy != AsidPolicy::PerInstance;
            let ends = [1, last, if shared { 0xff } else { last }];
            for (stage_2, ends) in [(false, &ends[..]), (true, &[self.first_vmid()][..])] {
                let of_it = |domain: &usize| {
                    let tables = self.scenario.domains.get(*domain).map(|it| it.tables);
                    tables.is_some_and(|it| it.stage_2 == stage_2 && it.vmid.is_none())
                        && self.guest(*domain).is_none()
                        && !self.scenario.is_misfit(*domain, index)
                };
                let Some(number) = (0..self.domains.len()).find(of_it) else { continue };
                let answer = if stage_2 { Answer::Judged } else { Answer::Done };
                self.attach(master, None, Use::Domain(number), answer);
                let tags = self.tags_of(number);
                self.attach(master, None, Use::Blocked, Answer::Done);
                let tag = tags.first();
                let tag = tag.map(|tag| u32::from(if stage_2 { tag.vmid } else { tag.asid }));
                // There may be no VMIDs for stage 2.
                let is_first = match tag {
                    Some(tag) => ends.contains(&tag),
                    None => stage_2 && shared,
                };
                if !is_first {
                    let what = format!("instance {index} gave out {tag:?}");
                    return Err(format!("{what}: a tag was not given back"));
                }
            }
        }
        Ok(())
    }

    /// The first VMID that is left for domains of stage 2.
    fn first_vmid(&self) -> u32 {
        let chosen = || self.scenario.domains.iter().filter_map(|domain| domain.tables.vmid);
        let chosen = chosen().min().zip(chosen().max());
        let banks = self.scenario.banks.unwrap_or((1, 255));
        let banks = Some(banks).filter(|_| self.scenario.asid_policy == AsidPolicy::Banked);
        let is_taken = |vmid: u16| {
            let within = |range: &(u16, u16)| (range.0..=range.1).contains(&vmid);
            [chosen, banks].iter().flatten().any(within)
        };
        (1..=u16::MAX).find(|vmid| !is_taken(*vmid)).map_or(0, u32::from)
    }
}

/// What is left of a run while it is taken down.
struct Rest {
    world: Arc<World>,
    watch: Lock<Watch>,
}

impl Observer for Rest {
    fn at(&self, point: Point, _interruptible: bool) {
        self.watch.lock().at(&self.world, point);
    }
}
