// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a run: everything is taken down, and the report is complete.

use super::{Numbered, PANIC, Run, RunError, Wrong};
use crate::operation::Operation;
use crate::oracle::{PAGE, Rule, Use};
use crate::panics;
use crate::report;
use crate::trace::{Args, Trace};
use crate::workload::State;

impl Run<'_> {
    /// Takes everything down and completes the report; also returns what was done.
    pub(super) fn finish(
        mut self,
        failed: Option<(usize, Wrong)>,
    ) -> Result<(report::Report, Vec<Numbered>), RunError> {
        let mut failed = failed;
        if failed.is_none() {
            self.bench.world().trace(Trace::begin);
            self.line = 0;
            failed = self.guarded(Self::clear)?;
        }
        let Self { bench, mut report, operations, .. } = self;
        if failed.is_none() {
            report.statistics = bench.statistics();
            report.domains = bench.domain_statistics();
        }
        let hardware = bench.watch().log();
        let world = bench.world().clone();
        if failed.is_none() {
            let wrong = |rule: Rule, text| Wrong::new(rule.name(), rule.meaning(), text);
            failed = match panics::catch(|| bench.tear_down()) {
                Ok(Ok(broken)) => broken.map(|broken| wrong(broken.rule, broken.text)),
                Ok(Err(error)) => Some(wrong(Rule::R8, error.to_string())),
                Err(said) => {
                    world.set_observer(None);
                    Some(Wrong::panic(said))
                }
            }
            .map(|wrong| (0, wrong));
            for (_, command) in world.take_commands() {
                *report.commands.entry(command.name().to_owned()).or_default() += 1;
            }
            let number = report.steps.len() + 1;
            report.steps.push(report::Step {
                number,
                line: 0,
                text: "take everything down".to_owned(),
                note: None,
                outcome: if failed.is_none() { "nothing is left" } else { "failed" }.to_owned(),
                commands: Vec::new(),
                tags: Vec::new(),
                faults: Vec::new(),
            });
        } else {
            world.set_observer(None);
        }
        if failed.as_ref().is_none_or(|(_, wrong)| wrong.rule != PANIC) {
            // A panic leaves calls under way, and they stay so in the trace.
            world.trace(|trace| trace.end("take everything down", "step", &Args::new()));
        }
        report.failure = failed.map(|(line, wrong)| {
            report.verdict = wrong.rule.clone();
            report::Failure {
                rule: wrong.rule,
                meaning: wrong.meaning,
                text: wrong.text,
                step: report.steps.len().saturating_sub(1),
                line,
                trace: Vec::new(),
                hardware,
            }
        });
        Ok((report, operations))
    }

    /// Unmaps and detaches everything.
    fn clear(&mut self) -> Result<Option<(usize, Wrong)>, RunError> {
        for (space, iova, bytes) in self.mapped() {
            let operation = Operation::Unmap { space, iova, bytes };
            self.perform(u64::from(u32::MAX), &operation)?;
        }
        self.bench.watch().interfering = false;
        let state = self.bench.oracle(|oracle| State::of(oracle, self.scenario));
        for operation in state.leave() {
            self.perform(u64::from(u32::MAX), &operation)?;
        }
        for master in 0..self.scenario.masters.len() {
            let operation = Operation::attach(master, Use::Blocked);
            self.perform(u64::from(u32::MAX), &operation)?;
        }
        Ok(self.broken().map(|wrong| (0, wrong)))
    }

    /// What is still mapped: address space, first address and bytes of each contiguous run.
    fn mapped(&self) -> Vec<(usize, u64, u64)> {
        let mut runs: Vec<(usize, u64, u64)> = Vec::new();
        self.bench.oracle(|oracle| {
            for space in 0..oracle.spaces() {
                for (iova, _) in oracle.pages(space, 0..u64::MAX) {
                    match runs.last_mut() {
                        Some((last, start, bytes)) if *last == space && *start + *bytes == iova => {
                            *bytes += PAGE;
                        }
                        _ => runs.push((space, iova, PAGE)),
                    }
                }
            }
        });
        runs
    }
}
