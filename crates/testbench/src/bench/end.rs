// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking everything down: nothing may be left of it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Bench, BenchError, Handle, POOL_BYTES};
use smmuv3::SubstreamId;

use crate::oracle::{Use, User, Violation};
use crate::platform::{Observer, Point, World};
use crate::scenario::{Answer, AsidPolicy, Substream};
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
        self.clear();
        self.check_tags_left().map_err(|error| failed("end the run", error))?;
        self.look(|watch| watch.collect(&self.world));
        self.world.set_observer(None);
        let bench = Arc::try_unwrap(self)
            .map_err(|_| failed("end the run", "it is still in use".to_owned()))?;
        let Self {
            world,
            iommu,
            smmus,
            ids: _,
            masters,
            domains,
            processes,
            memories,
            pool,
            scenario,
            watch,
        } = bench;
        let rest = Arc::new(Rest { world: world.clone(), watch });
        world.set_observer(Some(rest.clone() as Arc<dyn Observer>));
        for slot in processes {
            slot.close(&world).map_err(|error| failed("close a process", error))?;
        }
        let pasids: Vec<u32> = {
            let watch = rest.watch.lock().unwrap_or_else(PoisonError::into_inner);
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
        for domain in domains {
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
        let mut frames = world.frames();
        for (pa, memory) in memories.iter().zip(&scenario.memories) {
            frames.free(*pa, memory.size);
        }
        frames.free(pool, POOL_BYTES);
        let (left, bad) = (frames.live_bytes(), frames.bad_frees());
        if left != 0 || bad != 0 {
            let error = format!("{left} bytes were never freed, {bad} frees were wrong");
            return Err(failed("end the run", error));
        }
        let watch = rest.watch.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(watch.oracle.violation().cloned())
    }

    /// Takes everything from masters.
    fn clear(&self) {
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
            let (Some(master), Some(domain)) = (master, self.domains.first()) else { continue };
            let instance = smmu.instance();
            let last = (1u32 << instance.features().asid_bits) - 1;
            self.attach(master, None, Use::Domain(0), Answer::Done);
            let tag = domain.targets().iter().map(|target| u32::from(target.tag.asid)).next();
            self.attach(master, None, Use::Blocked, Answer::Done);
            // Those that serve all instances may be as wide as another instance's.
            let shared = self.scenario.asid_policy != AsidPolicy::PerInstance;
            let ends = [1, last, if shared { 0xff } else { last }];
            if tag.is_none_or(|tag| !ends.contains(&tag)) {
                return Err(format!("instance {index} gave out {tag:?}: a tag was not given back"));
            }
        }
        Ok(())
    }
}

/// What is left of a run while it is taken down.
struct Rest {
    world: Arc<World>,
    watch: Mutex<Watch>,
}

impl Observer for Rest {
    fn at(&self, point: Point, _interruptible: bool) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).at(&self.world, point);
    }
}
