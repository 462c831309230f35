// SPDX-License-Identifier: MIT OR Apache-2.0
//! A random step of a run.

use super::{FIRST_RANDOM, Progress, Run, Wrong};
use crate::bench::{BenchError, Done};
use crate::coverage::Counter;
use crate::report;
use crate::scenario::Random;
use crate::workload::{State, Workload};

impl Run<'_> {
    /// A random step.
    pub(super) fn random(
        &mut self,
        line: usize,
        random: &Random,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Done, Option<Wrong>), BenchError> {
        let seed = random.seed.unwrap_or(self.seed ^ line as u64);
        let mut workload = Workload::new(self.scenario, random, seed);
        // QEMU's SMMUs know no privilege ([`NO_PRIVILEGE`](crate::qemu::deviation::NO_PRIVILEGE)); and nor may what is
        // compared with them.
        workload.privilege = self.interfere;
        // And its devices read data alone.
        workload.fetches = self.interfere;
        let before = self.bench.oracle(|oracle| State::of(oracle, self.scenario));
        let translations = self.machine.translations();
        let interruptions = self.bench.watch().interruptions;
        let mut counter = Counter::new(self.scenario);
        let (mut accesses, mut refused, mut stale_attempts) = (0usize, 0usize, 0usize);
        let mut result = Done::default();
        for number in 0..random.steps {
            if number % 64 == 0 {
                progress(Progress::Random { done: number, of: random.steps });
            }
            let (operation, stale, concerned) = self.bench.oracle(|oracle| {
                let (operation, stale) = workload.next(oracle);
                let concerned = counter.concerned(&operation, oracle);
                (operation, stale, concerned)
            });
            let id = FIRST_RANDOM + self.random_operations;
            self.random_operations += 1;
            let done = self.operate(id, &operation)?;
            counter.count(concerned, &operation, &done);
            accesses += done.accesses;
            refused += done.refused;
            let faults =
                done.faults.iter().map(|fault| self.describe_fault(number as usize, fault));
            let faults: Vec<_> = faults.collect();
            self.report.random_faults.extend(faults);
            stale_attempts += if stale { done.accesses } else { 0 };
            if let Some(mut wrong) = self.broken() {
                wrong.text = format!(
                    "in random operation {} ({}): {}",
                    number + 1,
                    operation.describe(self.scenario),
                    wrong.text
                );
                result.outcome = format!("failed at operation {}", number + 1);
                return Ok((result, Some(wrong)));
            }
        }
        let undo = self.bench.oracle(|oracle| workload.undo(oracle, &before));
        for operation in undo {
            let id = FIRST_RANDOM + self.random_operations;
            self.random_operations += 1;
            self.operate(id, &operation)?;
        }
        // What was written before belongs to no expectation.
        self.last = None;
        let percent = |part: usize| 100.0 * part as f64 / accesses.max(1) as f64;
        let hits = translations.zip(self.machine.translations()).map(|(before, after)| {
            let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
            100.0 * hits as f64 / (hits + misses).max(1) as f64
        });
        self.report.coverage = Some(report::Coverage {
            operations: random.steps,
            accesses: accesses as u64,
            tlb_hits: hits,
            faults: percent(refused),
            stale_attempts: percent(stale_attempts),
            interruptions: self.bench.watch().interruptions - interruptions,
            pairs: counter.pairs(),
        });
        result.outcome = format!("{accesses} accesses, {refused} refused as they had to be");
        Ok((result, None))
    }
}
