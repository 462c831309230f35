// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who uses which address space, and which go.

use super::Workload;
use crate::operation::Operation;
use crate::oracle::{Life, Oracle, Use, User};
use crate::scenario::{Answer, ContextLayout, Substream};

impl Workload<'_> {
    pub(super) fn attach(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, any) = (self.master()?, self.domain()?);
        let domain = self.guest_for(oracle, master).unwrap_or(any);
        if matches!(oracle.using(master), Use::Kept(_)) && self.rng.bool() {
            return Some(Operation::Claim { master });
        }
        let (to, answer) = (Use::Domain(domain), Answer::Judged);
        Some(Operation::Attach { master, pasid: None, to, answer })
    }

    /// A guest's space, now and then, where there are any: one that the instance of `master` can walk.
    fn guest_for(&mut self, oracle: &Oracle, master: usize) -> Option<usize> {
        let instance = self.scenario.masters.get(master)?.instance;
        let guests = (0..self.scenario.domains.len()).filter(|it| oracle.over(*it).is_some());
        let guests = guests.filter(|it| !self.scenario.is_misfit(*it, instance));
        let guests: Vec<usize> = guests.collect();
        // Without, nothing is drawn.
        if guests.is_empty() || self.rng.u8(..) < 144 {
            return None;
        }
        self.rng.choice(guests)
    }

    pub(super) fn detach(&mut self) -> Option<Operation> {
        Some(Operation::attach(self.master()?, Use::Blocked))
    }

    pub(super) fn identity(&mut self) -> Option<Operation> {
        Some(Operation::attach(self.master()?, Use::Identity))
    }

    /// One of the scenario's PASIDs, mostly one that `master` can use.
    fn pasid(&mut self, oracle: &Oracle, master: usize) -> Option<u32> {
        let bits = self.scenario.pasid_bits(master);
        // A guest has contexts for some of them.
        let guest = oracle.guest_of(master).is_some();
        let bits = if guest { bits.min(ContextLayout::MOST_BITS) } else { bits };
        let fits = |number: &u32| {
            let pasid = oracle.substream(Substream::Pasid(*number)).flatten();
            pasid.is_some_and(|pasid| u64::from(pasid) >> bits == 0)
        };
        let fitting: Vec<u32> = (1..=self.scenario.pasids).filter(fits).collect();
        if self.rng.u8(..) < 240 && !fitting.is_empty() {
            return self.rng.choice(fitting);
        }
        (self.scenario.pasids > 0).then(|| self.rng.u32(1..=self.scenario.pasids))
    }

    pub(super) fn attach_pasid(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, any) = (self.master_with_substreams()?, self.domain()?);
        let of_guests: Vec<usize> =
            (0..oracle.masters()).filter(|it| oracle.guest_of(*it).is_some()).collect();
        let master = match of_guests.is_empty() || self.rng.bool() {
            true => master,
            false => self.rng.choice(of_guests)?,
        };
        let pasid = Some(self.pasid(oracle, master)?);
        // Of a guest's device the guest disposes, mostly.
        let guest = oracle.guest_of(master);
        let own = (0..self.scenario.domains.len())
            .filter(|it| guest.is_some() && oracle.over(*it) == guest);
        let own = self.rng.choice(own.collect::<Vec<usize>>());
        let domain = own.filter(|_| self.rng.u8(..) < 224).unwrap_or(any);
        let (to, answer) = (Use::Domain(domain), Answer::Judged);
        Some(Operation::Attach { master, pasid, to, answer })
    }

    pub(super) fn detach_pasid(&mut self, oracle: &Oracle) -> Option<Operation> {
        let attached: Vec<(usize, u32)> = oracle
            .users()
            .filter_map(|(User { master, substream }, _)| {
                match oracle.substream_name(substream)? {
                    Substream::Pasid(pasid) => Some((master, pasid)),
                    Substream::None | Substream::Process(_) => None,
                }
            })
            .collect();
        let (master, pasid) = self.rng.choice(attached)?;
        let (to, answer) = (Use::Blocked, Answer::Done);
        Some(Operation::Attach { master, pasid: Some(pasid), to, answer })
    }

    pub(super) fn bind(&mut self) -> Option<Operation> {
        let master = self.master_with_substreams()?;
        let process = self.rng.usize(0..self.scenario.processes.len().max(1));
        Some(Operation::Bind { process, master, answer: Answer::Judged })
    }

    pub(super) fn unbind(&mut self, oracle: &Oracle) -> Option<Operation> {
        let bound: Vec<(usize, usize)> = oracle
            .users()
            .filter_map(|(user, use_)| match use_ {
                Use::Process(process) => Some((process, user.master)),
                Use::Blocked | Use::Identity | Use::Domain(_) | Use::Kept(_) => None,
            })
            .collect();
        let (process, master) = self.rng.choice(bound)?;
        Some(Operation::Unbind { process, master })
    }

    pub(super) fn release(&mut self, oracle: &Oracle) -> Option<Operation> {
        let process = self.rng.usize(0..self.scenario.processes.len().max(1));
        let is_live = oracle.life(oracle.process_space(process)) == Life::Live;
        Some(if is_live && self.rng.u8(..) < 192 {
            Operation::Release { process }
        } else {
            Operation::Replace { process }
        })
    }
}
