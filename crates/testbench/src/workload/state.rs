// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all masters use at some moment, to be brought back to.

use std::collections::BTreeMap;

use crate::operation::Operation;
use crate::oracle::{Life, Oracle, Use};
use crate::scenario::{Answer, Scenario, Substream};

/// See the module.
pub struct State {
    /// Without a substream, by master.
    plain: Vec<Use>,
    /// By master and PASID.
    pasids: BTreeMap<(usize, u32), Use>,
    /// How often each process is bound to each master.
    bonds: BTreeMap<(usize, usize), usize>,
    /// Which processes were released.
    released: Vec<bool>,
}

impl State {
    /// As it is now.
    pub fn of(oracle: &Oracle, scenario: &Scenario) -> Self {
        let masters = 0..scenario.masters.len();
        let processes = 0..scenario.processes.len();
        let mut pasids = BTreeMap::new();
        for (user, use_) in oracle.users() {
            if let Some(Substream::Pasid(pasid)) = oracle.substream_name(user.substream) {
                pasids.insert((user.master, pasid), use_);
            }
        }
        let pairs = processes.clone().flat_map(|process| {
            masters.clone().map(move |master| ((process, master), oracle.bonds(master, process)))
        });
        let released = |process| oracle.life(oracle.process_space(process)) == Life::Released;
        Self {
            plain: masters.clone().map(|master| oracle.using(master)).collect(),
            pasids,
            bonds: pairs.filter(|(_, bonds)| *bonds > 0).collect(),
            released: processes.map(released).collect(),
        }
    }

    /// Operations that take everything away that has a PASID.
    pub fn leave(&self) -> Vec<Operation> {
        let pasids =
            self.pasids.keys().map(|(master, pasid)| attach(*master, *pasid, Use::Blocked));
        let bonds = self.bonds.iter().flat_map(|((process, master), bonds)| {
            let unbind = Operation::Unbind { process: *process, master: *master };
            std::iter::repeat_n(unbind, *bonds)
        });
        pasids.chain(bonds).collect()
    }

    /// Operations that bring everything back to this, from how it is `now`.
    pub fn restore(&self, now: &Self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (master, to) in self.plain.iter().enumerate() {
            if now.plain.get(master) != Some(to) {
                let (to, answer) = (*to, Answer::Judged);
                operations.push(Operation::Attach { master, pasid: None, to, answer });
            }
        }
        for (master, pasid) in now.pasids.keys().filter(|user| !self.pasids.contains_key(user)) {
            operations.push(attach(*master, *pasid, Use::Blocked));
        }
        for (user, to) in self.pasids.iter().filter(|(user, to)| now.pasids.get(user) != Some(to)) {
            operations.push(attach(user.0, user.1, *to));
        }
        for (process, released) in self.released.iter().enumerate() {
            let is_released = now.released.get(process) == Some(&true);
            // Nobody comes back to life.
            let replaced = is_released && !released;
            if replaced {
                operations.push(Operation::Replace { process });
            }
            for master in 0..self.plain.len() {
                let before = self.bonds.get(&(process, master)).copied().unwrap_or(0);
                let left = now.bonds.get(&(process, master)).copied().unwrap_or(0);
                let left = if replaced { 0 } else { left };
                let unbind = Operation::Unbind { process, master };
                operations.extend(std::iter::repeat_n(unbind, left.saturating_sub(before)));
                // Who was released cannot be bound again.
                if !is_released || replaced {
                    let bind = Operation::Bind { process, master, answer: Answer::Judged };
                    operations.extend(std::iter::repeat_n(bind, before.saturating_sub(left)));
                }
            }
            if *released && !is_released {
                operations.push(Operation::Release { process });
            }
        }
        operations
    }
}

fn attach(master: usize, pasid: u32, to: Use) -> Operation {
    let answer = if to == Use::Blocked { Answer::Done } else { Answer::Judged };
    Operation::Attach { master, pasid: Some(pasid), to, answer }
}
