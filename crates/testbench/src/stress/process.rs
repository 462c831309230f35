// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a worker does with processes: its own, whose tables it changes as a kernel does, and those of others.

use std::sync::Arc;
use std::sync::PoisonError;

use smmuv3::pagetable::{Gather, MAIR, Stage1Table4K};
use smmuv3::{AttachError, Bond, Iova, PhysAddr, Process, ProcessConfig};

use super::counts::Did;
use super::cpu::Cpus;
use super::setup::{ATTRIBUTES, PAGE, TABLE, Who, anchor_of, stream, window_of};
use super::worker::{Worker, is_policy};

/// A process that any worker may bind its masters to.
pub struct Shared {
    pub process: Process<Cpus>,
    cookie: u64,
    asid: u16,
    /// What its anchor leads to.
    anchor: u64,
    index: usize,
}

/// The process of a worker.
pub struct Own {
    shared: Arc<Shared>,
    /// Until it is released.
    table: Option<Stage1Table4K>,
    root: u64,
}

/// A master of a worker that is bound to a process.
pub struct Bound {
    instance: usize,
    shared: Arc<Shared>,
    bond: Bond<Cpus>,
}

/// Of the tables of processes.
const INPUT_BITS: u32 = 48;
/// As the instances have.
const OUTPUT_BITS: u32 = 44;
/// T0SZ, write-back Inner Shareable walks, 4 KiB pages, IPS.
const TCR: u64 = (64 - INPUT_BITS) as u64 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 32;

impl Worker<'_> {
    /// Does something that has to do with processes.
    pub fn process_step(&mut self) -> Result<(), String> {
        match self.rng.u8(0..32) {
            _ if self.own.is_none() => self.begin_process(),
            0..16 => self.process_pages(),
            16..21 => self.bind(),
            21..25 => self.bind_to_another(),
            25..29 => self.unbind(),
            29..31 => self.release(),
            _ => self.end_process(),
        }
    }

    fn begin_process(&mut self) -> Result<(), String> {
        let setup = self.setup;
        let (cookie, asid) = setup.cpus.begin(self.rng.u16(0..24), self.rng.u8(..) >= 32);
        let index = setup.boards.len() + self.id;
        let (_, anchor) = setup.memory_of(self.id);
        let table = Stage1Table4K::new(&setup.cpus, INPUT_BITS, OUTPUT_BITS);
        let table = table.map_err(|error| format!("a process's tables: {error}"))?;
        let at = Iova(anchor_of(index));
        // SAFETY: nobody else knows the tables yet.
        unsafe { table.map(&setup.cpus, at, PhysAddr(anchor), PAGE, ATTRIBUTES) }
            .map_err(|error| format!("a process's anchor: {error:?}"))?;
        let root = table.root();
        // SAFETY: each change is followed by an invalidation, and the tables live until the release.
        let process =
            unsafe { setup.iommu.add_process(ProcessConfig::new(root, TCR, MAIR), cookie) };
        let process = process.map_err(|error| format!("a process: {error}"))?;
        let shared = Arc::new(Shared { process, cookie, asid, anchor, index });
        self.publish_process(Some(shared.clone()))?;
        self.own = Some(Own { shared, table: Some(table), root: root.0 });
        Ok(())
    }

    /// Lets others bind to it, or to none any more.
    fn publish_process(&self, process: Option<Arc<Shared>>) -> Result<(), String> {
        let mut slot =
            self.setup.processes[self.id].write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *slot, process);
        drop(slot);
        old.map_or(Ok(()), |old| self.retire_process(old))
    }

    /// Somebody is done with a process. The last one ends it: nothing of it may be left.
    fn retire_process(&self, shared: Arc<Shared>) -> Result<(), String> {
        let Some(Shared { process, cookie, .. }) = Arc::into_inner(shared) else { return Ok(()) };
        let targets = process.targets().unwrap_or_default();
        if !targets.is_empty() {
            return Err(format!("nobody uses a process any more, but it has the tags {targets:?}"));
        }
        process.close().map_err(|refused| format!("a process of nobody: {refused}"))?;
        match self.setup.cpus.end(cookie) {
            true => Ok(()),
            false => Err("a process is over, and its ASID is still pinned".to_owned()),
        }
    }

    /// A master of this worker, as it names a process.
    fn named(&self, instance: usize, shared: &Shared) -> Who {
        self.who(instance, Some(shared.process.pasid()))
    }

    fn bind(&mut self) -> Result<(), String> {
        let Some(Own { shared, table, .. }) = &self.own else { return Ok(()) };
        let (shared, live) = (shared.clone(), table.is_some());
        let instance = self.rng.usize(0..self.setup.smmus.len());
        match shared.process.bind(&self.setup.masters[instance][self.id]) {
            Ok(bond) if live => {
                self.did(Did::Bound);
                let who = self.named(instance, &shared);
                self.must_reach(who, anchor_of(shared.index), shared.anchor)?;
                self.bounds.push(Bound { instance, shared, bond });
                Ok(())
            }
            Ok(_) => Err("R1: a master was bound to a process that was released".to_owned()),
            Err(AttachError::Released) if !live => Ok(()),
            Err(error) if is_policy(&error) => {
                self.did(Did::Refused);
                Ok(())
            }
            Err(error) => Err(format!("bind: {error}")),
        }
    }

    /// Binds to the process of somebody else, who may be releasing it.
    fn bind_to_another(&mut self) -> Result<(), String> {
        let worker = self.rng.usize(0..self.setup.workers);
        if worker == self.id || self.bounds.len() > 8 {
            return Ok(());
        }
        let slot = self.setup.processes[worker].read().unwrap_or_else(PoisonError::into_inner);
        let Some(shared) = slot.clone() else { return Ok(()) };
        drop(slot);
        let instance = self.rng.usize(0..self.setup.smmus.len());
        match shared.process.bind(&self.setup.masters[instance][self.id]) {
            Ok(bond) => {
                self.did(Did::Bound);
                let who = self.named(instance, &shared);
                self.may_reach(who, anchor_of(shared.index), shared.anchor)?;
                self.bounds.push(Bound { instance, shared, bond });
                Ok(())
            }
            Err(AttachError::Released) => self.retire_process(shared),
            Err(error) if is_policy(&error) => {
                self.did(Did::Refused);
                self.retire_process(shared)
            }
            Err(error) => Err(format!("bind to another's process: {error}")),
        }
    }

    pub fn unbind(&mut self) -> Result<(), String> {
        if self.bounds.is_empty() {
            return Ok(());
        }
        let Bound { instance, shared, bond } =
            self.bounds.swap_remove(self.rng.usize(0..self.bounds.len()));
        bond.unbind().map_err(|refused| format!("unbind: {refused}"))?;
        self.did(Did::Unbound);
        let still =
            |other: &Bound| other.instance == instance && Arc::ptr_eq(&other.shared, &shared);
        if !self.bounds.iter().any(still) {
            let who = self.named(instance, &shared);
            self.must_not_reach(who, anchor_of(shared.index), "unbind")?;
            self.nothing_held(who, "unbind")?;
        }
        self.retire_process(shared)
    }

    /// Maps, uses and unmaps pages of the own process.
    fn process_pages(&mut self) -> Result<(), String> {
        let setup = self.setup;
        let Some(Own { shared, table: Some(table), .. }) = &self.own else { return Ok(()) };
        let (pages, own_table) = (self.rng.u64(1..5), self.rng.u8(..) < 64);
        let window = window_of(shared.index, 0, own_table);
        let start = window + self.rng.u64(0..32) * PAGE;
        let range = start..start + pages * PAGE;
        let (pa, _) = setup.memory_of(self.id);
        let bytes = pages * PAGE;
        // SAFETY: only this worker changes these tables, and the memory lives until the end.
        unsafe { table.map(&setup.cpus, Iova(start), PhysAddr(pa), bytes, ATTRIBUTES) }
            .map_err(|error| format!("map of a process: {error:?}"))?;
        let write = self.rng.bool();
        for bound in self.bounds.iter().filter(|bound| Arc::ptr_eq(&bound.shared, shared)) {
            let who = self.named(bound.instance, shared);
            self.must_reach(who, start, pa)?;
            if write {
                let _ = setup.access(who, start, true, true);
            }
        }
        // Whoever else is bound.
        let pasid = shared.process.pasid();
        let others: Vec<Who> = (0..3)
            .map(|_| Who {
                instance: self.rng.usize(0..setup.smmus.len()),
                stream: stream(self.rng.usize(0..setup.workers)).0,
                substream: Some(pasid.0),
            })
            .collect();
        for who in &others {
            self.may_reach(*who, start, pa)?;
        }
        let (at, len) = if own_table { (window, TABLE) } else { (start, bytes) };
        // SAFETY: as above.
        let cursor = unsafe { table.unmap(&setup.cpus, Iova(at), len) };
        let mut cursor = cursor.map_err(|error| format!("unmap of a process: {error:?}"))?;
        let mut gather = Gather::new();
        while cursor.next(&mut gather) {
            let gone = gather.range();
            let len = gone.end - gone.start;
            setup.cpus.broadcast(setup.smmus.len(), shared.asid, gone.start, len / PAGE);
            let told = shared.process.invalidate(Iova(gone.start), len);
            told.map_err(|error| format!("invalidate: {error}"))?;
            // SAFETY: CPUs and SMMUs have forgotten them.
            unsafe { gather.free_tables(&setup.cpus) };
            gather.clear();
        }
        self.did(Did::Invalidated);
        if let Some(left) = setup.left_of(range) {
            return Err(format!("R1: a process's pages were invalidated, but {left}"));
        }
        let own = self.bounds.iter().filter(|bound| Arc::ptr_eq(&bound.shared, shared));
        let own = own.map(|bound| self.named(bound.instance, shared));
        for who in own.chain(others) {
            self.must_not_reach(who, start, "invalidate")?;
        }
        Ok(())
    }

    /// The own process dies, while devices may go on.
    fn release(&mut self) -> Result<(), String> {
        let setup = self.setup;
        let Some(Own { shared, table, root }) = &mut self.own else { return Ok(()) };
        let (shared, root) = (shared.clone(), *root);
        shared.process.release().map_err(|error| format!("release: {error}"))?;
        let Some(table) = table.take() else { return Ok(()) };
        self.did(Did::Released);
        if let Some(left) = setup.left_of_tables(root) {
            return Err(format!("R1: a process was released, but {left}"));
        }
        let pasid = Some(shared.process.pasid());
        for instance in 0..setup.smmus.len() {
            for worker in 0..setup.workers {
                let stream = stream(worker).0;
                let who = Who { instance, stream, substream: pasid.map(|pasid| pasid.0) };
                self.must_not_reach(who, anchor_of(shared.index), "release")?;
            }
        }
        for bound in self.bounds.iter().filter(|bound| Arc::ptr_eq(&bound.shared, &shared)) {
            let who = self.named(bound.instance, &shared);
            self.nothing_held(who, "release")?;
            if let Err(refusal) = setup.access(who, anchor_of(shared.index), false, false)
                && let Some(event) = refusal.event
            {
                return Err(format!("{who:?} goes on after a release and is reported: {event}"));
            }
        }
        // SAFETY: no context leads there any more, and nothing of them is cached.
        unsafe { table.destroy(&setup.cpus) };
        Ok(())
    }

    /// The own process is over.
    pub fn end_process(&mut self) -> Result<(), String> {
        self.release()?;
        let Some(Own { shared, .. }) = self.own.take() else { return Ok(()) };
        self.publish_process(None)?;
        self.retire_process(shared)
    }
}
