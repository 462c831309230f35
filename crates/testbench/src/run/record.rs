// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing down what happened, for the report.

use crate::inside::Inside as _;
use std::collections::BTreeMap;

use super::Run;
use crate::bench::{Bench, Done, FaultKey, Handle};
use crate::report;
use crate::scenario::Scenario;
use crate::trace;

impl Run<'_> {
    /// Adds a step to the report.
    pub(super) fn note_step(
        &mut self,
        line: usize,
        note: Option<String>,
        text: String,
        done: Done,
    ) {
        let number = self.report.steps.len() + 1;
        let mut commands: Vec<report::Told> = Vec::new();
        let given = self.bench.world().take_commands();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, command) in &given {
            *counts.entry(command.name()).or_default() += 1;
        }
        for (name, count) in counts {
            *self.report.commands.entry(name.to_owned()).or_default() += count;
        }
        // Of random steps, which are thousands, they are counted, not listed.
        let listed = self.random_operations == 0 || !text.contains("random");
        for (instance, command) in given.into_iter().filter(|_| listed) {
            let told = report::Told {
                instance: self.instance_name(instance),
                command: command.to_string(),
                times: 1,
            };
            match commands.last_mut() {
                Some(last) if last.instance == told.instance && last.command == told.command => {
                    last.times += 1;
                }
                _ => commands.push(told),
            }
        }
        let faults: Vec<report::Fault> =
            done.faults.iter().map(|fault| self.describe_fault(number, fault)).collect();
        self.report.faults.extend(faults.iter().cloned());
        let tags = self
            .bench
            .tags()
            .into_iter()
            .map(|tag| report::TagOf {
                domain: self.scenario.space(tag.space).to_owned(),
                instance: self.instance_name(tag.instance),
                vmid: tag.vmid,
                asid: tag.asid,
                shared: tag.shared,
            })
            .collect();
        let outcome = done.outcome;
        self.bench.world().trace(|trace| {
            let operands = [("number", number.into()), ("outcome", outcome.as_str().into())];
            trace.end(&text, "step", &trace::args(operands));
        });
        self.report.steps.push(report::Step {
            number,
            line,
            text,
            note,
            outcome,
            commands,
            tags,
            faults,
        });
    }

    fn instance_name(&self, instance: usize) -> String {
        self.scenario.instances.get(instance).map_or("?", |it| &it.name).to_owned()
    }

    pub(super) fn describe_fault(&self, step: usize, fault: &FaultKey) -> report::Fault {
        let master = self.bench.oracle(|oracle| oracle.master_of(fault.instance, fault.stream));
        let master = master.and_then(|index| self.scenario.masters.get(index));
        report::Fault {
            step,
            instance: self.instance_name(fault.instance),
            master: master.map_or("nobody", |master| &master.name).to_owned(),
            stream: fault.stream,
            substream: fault.substream,
            event: fault.event.name(),
            meaning: fault.event.meaning(),
            page: fault.page,
            access: if fault.write { "write" } else { "read" },
        }
    }
}

/// What the SMMU with this index can do, and who is behind it.
pub(super) fn instance(
    scenario: &Scenario,
    bench: &Bench,
    index: usize,
    name: &str,
) -> report::Instance {
    let masters = scenario
        .masters
        .iter()
        .filter(|master| master.instance == index)
        .map(|master| (master.name.clone(), master.streams.clone()))
        .collect();
    let mut described = report::Instance {
        name: name.to_owned(),
        asid_bits: 0,
        sid_bits: 0,
        output_bits: 0,
        stage_1: false,
        stage_2: false,
        granules: Vec::new(),
        range_invalidation: false,
        coherent: false,
        commands: 0,
        id_registers: BTreeMap::new(),
        masters,
    };
    if let Some(smmu) = bench.smmus.get(index).and_then(Handle::get) {
        let instance = smmu.inside();
        let features = instance.features();
        let registers = &features.registers;
        described.asid_bits = features.asid_bits;
        described.sid_bits = instance.streams().log2();
        described.output_bits = features.output_bits;
        described.stage_1 = features.stage_1;
        described.stage_2 = features.stage_2;
        described.granules = [(12, "4K"), (14, "16K"), (16, "64K")]
            .iter()
            .filter(|(shift, _)| features.has_granule(*shift))
            .map(|(_, name)| (*name).to_owned())
            .collect();
        described.range_invalidation = features.range_invalidation;
        described.coherent = features.coherent;
        described.commands = instance.commands().size().entries();
        described.id_registers = [
            ("IDR0", registers.idr0.0),
            ("IDR1", registers.idr1.0),
            ("IDR3", registers.idr3.0),
            ("IDR5", registers.idr5.0),
            ("AIDR", registers.aidr.0),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    }
    described
}
