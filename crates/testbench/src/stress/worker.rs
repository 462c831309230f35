// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread that maps, unmaps, attaches and detaches, and knows what must be true of what it owns: its masters, and its
//! pages of everybody's domains.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use smmuv3::{AsidPolicy, AttachError, Iova, PhysAddr, SubstreamId};

use super::counts::{Counters, Did};
use super::cpu::Cpus;
use super::process::{Bound, Own};
use super::setup::{ATTRIBUTES, Board, PAGE, Setup, TABLE, Who, anchor_of, stream, window_of};
use super::{Stress, Until};
use crate::machine::Machine;

pub struct Worker<'a> {
    pub setup: &'a Setup,
    pub id: usize,
    pub rng: fastrand::Rng,
    policy: AsidPolicy,
    counters: &'a Counters,
    slots: Vec<Slot>,
    /// Domains that it made for its own board.
    generation: u64,
    pub bounds: Vec<Bound>,
    pub own: Option<Own>,
}

/// A master, by a substream or without, and what it is attached to.
struct Slot {
    instance: usize,
    substream: Option<SubstreamId>,
    at: Option<Arc<Board>>,
    /// Tags that the domain had there.
    seen: Vec<smmuv3::invalidate::Tag>,
}

impl<'a> Worker<'a> {
    pub fn new(
        stress: &Stress,
        policy: AsidPolicy,
        setup: &'a Setup,
        counters: &'a Counters,
        id: usize,
    ) -> Self {
        let seed = stress.seed.wrapping_add(id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            setup,
            id,
            rng,
            policy,
            counters,
            slots: Vec::new(),
            generation: 0,
            bounds: Vec::new(),
            own: None,
        }
    }

    /// Works until it is time to stop, then gives everything back.
    pub fn run(mut self, until: Until, started: Instant, stop: &AtomicBool) -> Result<(), String> {
        Cpus::run_as(self.id);
        for instance in 0..self.setup.smmus.len() {
            let with = self.setup.pasids[self.id].iter().copied().map(Some);
            for substream in std::iter::once(None).chain(with) {
                self.slots.push(Slot { instance, substream, at: None, seen: Vec::new() });
            }
        }
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            match until {
                Until::Rounds(rounds) if round >= rounds => break,
                Until::Time(limit) if started.elapsed() >= limit => break,
                _ => {}
            }
            round += 1;
            self.step()?;
        }
        while !self.bounds.is_empty() {
            self.unbind()?;
        }
        self.end_process()?;
        for slot in 0..self.slots.len() {
            self.detach(slot)?;
        }
        Ok(())
    }

    pub fn did(&self, did: Did) {
        self.counters.add(did, 1);
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.u8(0..64) {
            0..24 => self.pages(),
            24..38 => self.attach(),
            38..44 => {
                let slot = self.rng.usize(0..self.slots.len());
                self.detach(slot)
            }
            44..46 => self.renew(),
            46..48 => self.look_at_tags(),
            _ => self.process_step(),
        }
    }

    /// One of the boards: its own, one of nobody, or one of somebody else.
    fn board(&mut self) -> Arc<Board> {
        let boards = &self.setup.boards;
        let own = boards.len() - self.setup.workers + self.id;
        // Neighbours meet more often than others.
        let index = match self.rng.u8(0..4) {
            0 => own,
            1 => (own + 1).min(boards.len() - 1),
            2 => 0,
            _ => self.rng.usize(0..boards.len()),
        };
        boards[index].read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A master of this worker, by a substream or without.
    pub fn who(&self, instance: usize, substream: Option<SubstreamId>) -> Who {
        Who { instance, stream: stream(self.id).0, substream: substream.map(|pasid| pasid.0) }
    }

    /// R0.
    pub fn must_reach(&self, who: Who, iova: u64, pa: u64) -> Result<Option<u64>, String> {
        self.did(Did::Accessed);
        match self.setup.access(who, iova, false, false) {
            Ok(translation) if translation.pa == pa => Ok(translation.entry),
            Ok(other) => {
                Err(format!("R1: {who:?} at {iova:#x} reached {:#x}, not {pa:#x}", other.pa))
            }
            Err(refusal) => {
                Err(format!("R0: {who:?} at {iova:#x} was refused: {:?}", refusal.reason))
            }
        }
    }

    /// Addresses belong to one space: who reaches anything reaches this.
    pub fn may_reach(&self, who: Who, iova: u64, pa: u64) -> Result<(), String> {
        self.did(Did::Accessed);
        match self.setup.access(who, iova, false, false) {
            Ok(other) if other.pa != pa => {
                Err(format!("R1: {who:?} at {iova:#x} reached {:#x}, not {pa:#x}", other.pa))
            }
            _ => Ok(()),
        }
    }

    /// R1, after `what` has returned.
    pub fn must_not_reach(&self, who: Who, iova: u64, what: &str) -> Result<(), String> {
        self.did(Did::Accessed);
        match self.setup.access(who, iova, false, false) {
            Ok(translation) => {
                let pa = translation.pa;
                Err(format!("R1: {what} has returned, but {who:?} at {iova:#x} reached {pa:#x}"))
            }
            Err(_) => Ok(()),
        }
    }

    /// Nothing of a master of this worker is under way after `what` has returned.
    pub fn nothing_held(&self, who: Who, what: &str) -> Result<(), String> {
        let Some(model) = self.setup.machine.model(who.instance) else { return Ok(()) };
        let own = |held: &&smmuv3_model::Held| {
            held.access.stream == who.stream && held.access.substream == who.substream
        };
        match model.held().find(own) {
            Some(held) => {
                let at = held.access.address;
                Err(format!(
                    "R1: {what} has returned, but an access of {who:?} to {at:#x} is under way"
                ))
            }
            None => Ok(()),
        }
    }

    /// Maps, uses and unmaps pages of its own in a domain.
    fn pages(&mut self) -> Result<(), String> {
        let setup = self.setup;
        let board = self.board();
        let (pages, own_table) = (self.rng.u64(1..5), self.rng.u8(..) < 48);
        let window = window_of(board.index, self.id, own_table);
        let start = window + self.rng.u64(0..32) * PAGE;
        let (bytes, (pa, _)) = (pages * PAGE, setup.memory_of(self.id));
        // SAFETY: the window is this worker's own, and the memory lives until the end.
        unsafe { board.domain.map(Iova(start), PhysAddr(pa), bytes, ATTRIBUTES) }
            .map_err(|error| format!("map: {error}"))?;
        let last = (pages - 1) * PAGE;
        let (held, write) = (self.rng.u8(..) < 64, self.rng.bool());
        let mut tried = Vec::new();
        for slot in &self.slots {
            if slot.at.as_ref().is_some_and(|at| Arc::ptr_eq(at, &board)) {
                let who = self.who(slot.instance, slot.substream);
                self.must_reach(who, start + last, pa + last)?;
                if held {
                    let _ = setup.access(who, start, write, true);
                }
                tried.push(who);
            }
        }
        for _ in 0..3 {
            let (worker, instance) =
                (self.rng.usize(0..setup.workers), self.rng.usize(0..setup.smmus.len()));
            let pasid = self.rng.choice(&setup.pasids[worker]).filter(|_| self.rng.bool());
            let substream = pasid.map(|pasid| pasid.0);
            let who = Who { instance, stream: stream(worker).0, substream };
            self.may_reach(who, start, pa)?;
            tried.push(who);
        }
        let (at, len) = if own_table { (window, TABLE) } else { (start, bytes) };
        // SAFETY: as above.
        let unmapped = unsafe { board.domain.unmap(Iova(at), len) };
        if unmapped != Ok(bytes) {
            return Err(format!("unmap of {bytes:#x} bytes at {at:#x}: {unmapped:?}"));
        }
        self.did(Did::Unmapped);
        if let Some(left) = setup.left_of(start..start + bytes) {
            return Err(format!("R1: an unmap has returned, but {left}"));
        }
        for who in tried {
            self.must_not_reach(who, start, "unmap")?;
        }
        setup.retire(board)
    }

    /// Attaches a master to a domain, instead of what it used before.
    fn attach(&mut self) -> Result<(), String> {
        let setup = self.setup;
        let (board, slot) = (self.board(), self.rng.usize(0..self.slots.len()));
        let Slot { instance, substream, .. } = self.slots[slot];
        let master = &setup.masters[instance][self.id];
        let result = match substream {
            None => setup.iommu.attach(master, &board.domain),
            Some(pasid) => setup.iommu.attach_pasid(master, pasid, &board.domain),
        };
        let who = self.who(instance, substream);
        let before = self.slots[slot].at.clone();
        match result {
            Ok(()) => {
                self.did(Did::Attached);
                let entry = self.must_reach(who, anchor_of(board.index), board.anchor)?;
                setup.learn_root(&board, instance, entry);
                self.slots[slot].seen = self.tags(&board, instance)?;
                self.slots[slot].at = Some(board);
                match before {
                    Some(before) if !self.is_at(slot, before.index) => {
                        self.must_not_reach(who, anchor_of(before.index), "attach")?;
                        setup.retire(before)
                    }
                    Some(before) => setup.retire(before),
                    None => Ok(()),
                }
            }
            Err(error) if is_policy(&error) => {
                self.did(Did::Refused);
                // R8: as it was.
                match before {
                    Some(before) => {
                        self.must_reach(who, anchor_of(before.index), before.anchor)?;
                        drop(before);
                    }
                    None => self.must_not_reach(who, anchor_of(board.index), "a refused attach")?,
                }
                setup.retire(board)
            }
            Err(error) => Err(format!("attach of {who:?}: {error}")),
        }
    }

    /// Whether a slot is attached to whatever is, or was, a board.
    fn is_at(&self, slot: usize, index: usize) -> bool {
        self.slots[slot].at.as_ref().is_some_and(|at| at.index == index)
    }

    fn detach(&mut self, slot: usize) -> Result<(), String> {
        let setup = self.setup;
        let Slot { instance, substream, .. } = self.slots[slot];
        let master = &setup.masters[instance][self.id];
        match substream {
            None => setup.iommu.detach(master),
            Some(pasid) => setup.iommu.detach_pasid(master, pasid),
        }
        .map_err(|error| format!("detach: {error}"))?;
        let Some(board) = self.slots[slot].at.take() else { return Ok(()) };
        self.did(Did::Detached);
        let who = self.who(instance, substream);
        self.must_not_reach(who, anchor_of(board.index), "detach")?;
        self.nothing_held(who, "detach")?;
        setup.retire(board)
    }

    /// A new domain takes the place of its own, which ends when the last master has left it.
    fn renew(&mut self) -> Result<(), String> {
        let setup = self.setup;
        let index = setup.boards.len() - setup.workers + self.id;
        self.generation += 1;
        let board = setup.new_board(index, self.generation)?;
        let mut place = setup.boards[index].write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, board);
        drop(place);
        for slot in 0..self.slots.len() {
            if self.slots[slot].at.as_ref().is_some_and(|at| Arc::ptr_eq(at, &old)) {
                self.detach(slot)?;
            }
        }
        setup.retire(old)
    }

    /// The tags by which `instance` knows a domain that masters use there. Checks what the policy says of them.
    fn tags(&self, board: &Board, instance: usize) -> Result<Vec<smmuv3::invalidate::Tag>, String> {
        let targets = board.domain.targets().unwrap_or_default();
        let used = || targets.iter().filter(|target| target.masters != 0);
        let common = !matches!(self.policy, AsidPolicy::PerInstance | AsidPolicy::Banked);
        let first = used().next().map(|target| target.tag.asid);
        for target in used() {
            let wide = target.instance.index() & 1 == 1;
            if !wide && target.tag.asid > 0xff {
                return Err(format!("R2: {} is too wide for {}", target.tag.asid, target.instance));
            }
            if common && Some(target.tag.asid) != first {
                return Err(format!("{}, but the tags {targets:?}", self.policy));
            }
        }
        let here = used().filter(|target| target.instance.index() == instance);
        Ok(here.map(|target| target.tag).collect())
    }

    /// Looks whether tags were changed under masters of this worker.
    fn look_at_tags(&mut self) -> Result<(), String> {
        for slot in 0..self.slots.len() {
            let Some(board) = self.slots[slot].at.clone() else { continue };
            let tags = self.tags(&board, self.slots[slot].instance)?;
            if tags.is_empty() {
                return Err("a domain has no tag where a master is attached to it".to_owned());
            }
            if !self.slots[slot].seen.iter().any(|tag| tags.contains(tag)) {
                self.did(Did::Moved);
            }
            self.slots[slot].seen = tags;
        }
        Ok(())
    }
}

/// Whether the policy, and nothing else, is why there was no ASID.
pub fn is_policy(error: &AttachError) -> bool {
    matches!(error, AttachError::NoAsid { .. } | AttachError::AsidWidth { .. })
}
