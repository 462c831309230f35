// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who uses which address space, and which go.

use super::Workload;
use crate::operation::Operation;
use crate::oracle::{Life, Oracle, Use, User};
use crate::scenario::{Answer, Substream};

impl Workload<'_> {
    pub(super) fn attach(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, domain) = (self.master()?, self.domain()?);
        if matches!(oracle.using(master), Use::Kept(_)) && self.rng.bool() {
            return Some(Operation::Claim { master });
        }
        let (to, answer) = (Use::Domain(domain), Answer::Judged);
        Some(Operation::Attach { master, pasid: None, to, answer })
    }

    pub(super) fn detach(&mut self) -> Option<Operation> {
        Some(Operation::attach(self.master()?, Use::Blocked))
    }

    pub(super) fn identity(&mut self) -> Option<Operation> {
        Some(Operation::attach(self.master()?, Use::Identity))
    }

    /// One of the scenario's PASIDs, mostly one that `master` can use.
    fn pasid(&mut self, oracle: &Oracle, master: usize) -> Option<u32> {
        let bits = self.scenario.substream_bits(master);
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
        let (master, domain) = (self.master_with_substreams()?, self.domain()?);
        let pasid = Some(self.pasid(oracle, master)?);
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
