// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run found, for people and for machines.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::coverage::Pairs;

/// Everything about one run of a scenario. As JSON, one object.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// Its description.
    pub description: String,
    /// Name of the machine: `model`, or `qemu` with its version.
    pub machine: String,
    /// Seed of everything random, the model's choices included.
    pub seed: u64,
    /// `ok`, or the rule that was broken: `R0` to `R9`, or `misuse` (the driver did what the architecture leaves
    /// unpredictable), `expectation` (the scenario expected something else), `driver` (a call failed),
    /// `panic` (the driver or the model panicked).
    pub verdict: String,
    /// What was wrong, when something was.
    pub failure: Option<Failure>,
    /// The SMMUs.
    pub instances: Vec<Instance>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Commands by name, over all instances.
    pub commands: BTreeMap<String, u64>,
    /// What the driver counted on each instance, without taking it down; nothing when the run failed.
    pub statistics: Vec<Counted>,
    /// What the driver counted of each domain, likewise.
    pub domains: Vec<CountedOf>,
    /// Faults that steps of the scenario caused (those of random steps are only counted).
    pub faults: Vec<Fault>,
    /// Faults that random steps caused; `step` is the number of the operation.
    #[serde(skip)]
    pub random_faults: Vec<Fault>,
    /// A digest of everything that devices read, and of where it went wrong: equal for equal runs.
    #[serde(skip)]
    pub data: u64,
    /// What devices did.
    pub dma: DmaCounts,
    /// Random steps and what they covered, when there were any.
    pub coverage: Option<Coverage>,
}

impl Report {
    /// Whether nothing was wrong.
    pub fn is_ok(&self) -> bool {
        self.failure.is_none()
    }
}

/// What was wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// As [`Report::verdict`].
    pub rule: String,
    /// What the rule says, in a sentence.
    pub meaning: String,
    /// What happened.
    pub text: String,
    /// Index into [`Report::steps`] of the step in which it was noticed.
    pub step: usize,
    /// Line of that step in the scenario file.
    pub line: usize,
    /// The shortest sequence of operations found that still breaks the same rule.
    pub trace: Vec<String>,
    /// What hardware did, as far as the machine tells, from the beginning of the operation that broke the rule.
    pub hardware: Vec<String>,
}

/// One SMMU.
#[derive(Clone, Debug, Serialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Bits of the ASIDs that the driver uses on it.
    pub asid_bits: u32,
    /// Bits of a StreamID.
    pub sid_bits: u32,
    /// Bits of a physical address.
    pub output_bits: u32,
    /// Translates in stage 1.
    pub stage_1: bool,
    /// Translates in stage 2.
    pub stage_2: bool,
    /// Granules, as `4K`, `16K`, `64K`.
    pub granules: Vec<String>,
    /// Commands can invalidate ranges.
    pub range_invalidation: bool,
    /// It snoops the CPUs' caches.
    pub coherent: bool,
    /// Commands that its queue holds.
    pub commands: u64,
    /// ID registers IDR0, IDR1, IDR3, IDR5 and AIDR.
    pub id_registers: BTreeMap<String, u32>,
    /// The masters behind it: name and streams.
    pub masters: BTreeMap<String, Vec<u32>>,
}

/// What the driver counted on one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Name of the instance.
    pub instance: String,
    /// Commands that it was given, CMD_SYNCs among them.
    pub commands: u64,
    /// Batches of them.
    pub batches: u64,
    /// CMD_SYNCs among them.
    pub syncs: u64,
    /// Waits for completion or for room that were not over at the first look.
    pub waits: u64,
    /// Turns of these.
    pub turns: u64,
    /// Those that found the queue full.
    pub full: u64,
    /// Commands at which a queue stopped.
    pub refused: u64,
    /// Events that were reported.
    pub events: u64,
    /// Gaps in these.
    pub gaps: u64,
    /// What its performance monitors counted, by name.
    pub counters: BTreeMap<String, u64>,
}

/// What the driver counted of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountedOf {
    /// Name of the domain.
    pub domain: String,
    /// Ranges that were mapped.
    pub maps: u64,
    /// Bytes of these.
    pub mapped: u64,
    /// Ranges that were unmapped.
    pub unmaps: u64,
    /// Bytes of these that had been mapped.
    pub unmapped: u64,
    /// Invalidations.
    pub invalidations: u64,
    /// Those that an instance did not confirm.
    pub unconfirmed: u64,
    /// Commands that these took.
    pub commands: u64,
    /// Those of them that are CMD_SYNCs.
    pub syncs: u64,
    /// Waits for them that were not over at the first look.
    pub waits: u64,
    /// Faults of devices that use it.
    pub faults: u64,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Number, from 1.
    pub number: usize,
    /// Line in the scenario file; 0 for the start and the end of the run.
    pub line: usize,
    /// What the step does, in words.
    pub text: String,
    /// The scenario's note about it.
    pub note: Option<String>,
    /// What came of it, in words.
    pub outcome: String,
    /// What the SMMUs were told during it, in order.
    pub commands: Vec<Told>,
    /// The tags of domains that it changed or used: instance and ASID.
    pub tags: Vec<TagOf>,
    /// Faults that it caused.
    pub faults: Vec<Fault>,
}

/// A command that an SMMU was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Name of the instance.
    pub instance: String,
    /// The command with its operands.
    pub command: String,
    /// How many times in a row.
    pub times: u64,
}

/// A tag of a domain or a process on an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TagOf {
    /// Name of the domain or the process.
    pub domain: String,
    /// Name of the instance.
    pub instance: String,
    /// Its VMID there; 0, and not said, where that is no bank.
    #[serde(skip_serializing_if = "is_zero")]
    pub vmid: u16,
    /// Its ASID there.
    pub asid: u16,
    /// The ASID is the one that CPUs have for the process; not said where it is not.
    #[serde(skip_serializing_if = "is_not")]
    pub shared: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_not(flag: &bool) -> bool {
    !*flag
}

/// A fault that an SMMU reported. A DMA that is refused piece by piece counts once a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// Number of the step.
    pub step: usize,
    /// Name of the instance.
    pub instance: String,
    /// Name of the master.
    pub master: String,
    /// StreamID.
    pub stream: u32,
    /// SubstreamID, where the event says one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substream: Option<u32>,
    /// Name of the event.
    pub event: &'static str,
    /// The event in words.
    pub meaning: &'static str,
    /// First address of the page that was accessed.
    pub page: u64,
    /// `read` or `write`.
    pub access: &'static str,
}

/// What devices did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DmaCounts {
    /// Transfers, random ones included.
    pub transfers: u64,
    /// Bytes that reached memory or the device.
    pub bytes: u64,
    /// Transfers that had to be refused, and were.
    pub faults_expected: u64,
}

/// What random steps covered. Shares are of the accesses that random steps made, in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Operations.
    pub operations: u64,
    /// Accesses of devices.
    pub accesses: u64,
    /// Answered from a TLB; `None` where the machine does not count them.
    pub tlb_hits: Option<f64>,
    /// Refused.
    pub faults: f64,
    /// To addresses that had been mapped before and were not any more.
    pub stale_attempts: f64,
    /// Operations that interrupted the driver in the middle of another one.
    pub interruptions: u64,
    /// How often each operation was done with each feature.
    pub pairs: Pairs,
}
