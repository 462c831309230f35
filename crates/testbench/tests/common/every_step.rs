// SPDX-License-Identifier: MIT OR Apache-2.0
//! An unmap at every single moment of another call of the driver.

use std::sync::Arc;

use smmuv3_testbench::bench::{Bench, Settings};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::operation::Operation;
use smmuv3_testbench::oracle::Violation;
use smmuv3_testbench::scenario::Scenario;

/// More moments than any call has.
const MOST: u64 = 10_000;

/// What is done: on a fresh machine each time, so that nothing but the moment differs.
pub struct EveryStep<'a> {
    /// The machine.
    pub scenario: &'a Scenario,
    /// How the driver is set up.
    pub settings: Settings,
    /// What was done before.
    pub before: &'a [Operation],
    /// The call that is interrupted.
    pub call: &'a Operation,
    /// The unmap that interrupts it.
    pub unmap: &'a Operation,
    /// Where the randomness of hardware starts.
    pub seed: u64,
}

impl EveryStep<'_> {
    /// Lets the unmap interrupt the call at its first moment, its second, and so on until it has no more. What
    /// the oracle says of each; a call that is refused, or cannot be taken down, fails the test.
    pub fn verdicts(&self) -> Vec<Option<Violation>> {
        let mut verdicts = Vec::new();
        for moment in 0..MOST {
            match self.at(moment) {
                Some(verdict) => verdicts.push(verdict),
                None => return verdicts,
            }
        }
        panic!("{:?} has no end", self.call);
    }

    /// What comes of the unmap at this moment; `None` when the call was over before.
    fn at(&self, moment: u64) -> Option<Option<Violation>> {
        let machine = Arc::new(ModelMachine::new(self.scenario, self.seed).unwrap());
        let bench = Bench::new(self.scenario, machine, self.seed, self.settings.clone()).unwrap();
        for operation in self.before {
            bench.perform(operation).unwrap();
        }
        let sound = |bench: &Bench| {
            assert_eq!(bench.refusal(), None, "moment {moment}");
            bench.oracle(|oracle| oracle.violation().cloned())
        };
        assert_eq!(sound(&bench), None, "before the call");
        bench.interrupt_at(moment, self.unmap.clone());
        bench.perform(self.call).unwrap();
        if bench.call_off() {
            return None;
        }
        let verdict = sound(&bench);
        if verdict.is_some() {
            // What cannot be taken down is forgotten with its memory.
            bench.world().set_observer(None);
            return Some(verdict);
        }
        Some(bench.tear_down().unwrap())
    }
}
