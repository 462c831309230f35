// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to instances as a whole.

use super::{Workload, one_of};
use crate::operation::Operation;
use crate::oracle::{Oracle, Power};
use crate::scenario::{Change, CommandError};

impl Workload<'_> {
    /// Suspends an instance, or wakes it: those that sleep are found soon.
    pub(super) fn power(&mut self, oracle: &Oracle) -> Option<Operation> {
        let instance = self.rng.usize(0..self.scenario.instances.len().max(1));
        let asleep = oracle.power(instance) == Power::Off;
        let change = if asleep { Change::Resume } else { Change::Suspend };
        Some(Operation::Change { instance, change })
    }

    /// Another kernel takes over, now and then without some of the masters; or it ends what it took over.
    pub(super) fn hand_over(&mut self, oracle: &Oracle) -> Option<Operation> {
        if oracle.all_spaces() > oracle.spaces() && self.rng.u8(..) < 160 {
            return self.change(Change::EndAdoption);
        }
        let masters = 0..self.scenario.masters.len();
        // With one that waits its instance does not go on: now and then without all of those.
        let without = self.rng.bool();
        let waits = |master: usize| {
            self.scenario.masters.get(master).is_some_and(|it| it.ats.is_some())
                || self.scenario.stalls(master)
        };
        let lost = masters.filter(|it| self.rng.u8(..) < 48 || without && waits(*it)).collect();
        Some(Operation::HandOver { lost })
    }

    pub(super) fn command_error(&mut self) -> Option<Operation> {
        let instance = self.rng.usize(0..self.scenario.instances.len().max(1));
        let error = one_of(&mut self.rng, &[CommandError::Illegal, CommandError::Abort]);
        Some(Operation::CommandError { instance, error })
    }

    pub(super) fn change(&mut self, change: Change) -> Option<Operation> {
        let instance = self.rng.usize(0..self.scenario.instances.len().max(1));
        Some(Operation::Change { instance, change })
    }
}
