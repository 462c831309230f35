// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions that stall, under random operations: each is answered once, also through detach, release and what
//! interrupts them (rule R9).

use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

const SEEDS: std::ops::Range<u64> = 0..16;

/// Short queues: events of stalls wait for room, and so do answers.
const SHORT: &str = r#"
name = "stalls"
instance = [{ name = "smmu0", stalls = 8, event-queue = 2, command-queue = 2 }]
master = [
    { name = "accelerator", instance = "smmu0", streams = [0x40], stalls = true },
    { name = "other", instance = "smmu0", streams = [0x41, 0x42], stalls = true },
    { name = "disk", instance = "smmu0", streams = [0x43] },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { answer = 16, fault = 20, attach = 8, detach = 6, identity = 2 } }
"#;

/// PASIDs of processes that come and go.
const PROCESSES: &str = r#"
name = "stalls of processes"
pasids = 3
instance = [
    { name = "smmu0", stalls = 16, ssid-bits = 8, two-level-contexts = true },
    { name = "smmu1", stalls = 4, ssid-bits = 8, FORCED event-queue = 3 },
]
master = [
    { name = "accelerator", instance = "smmu0", streams = [0x40], pasid-bits = 8, stalls = true },
    { name = "other", instance = "smmu1", streams = [0x40, 0x41], pasid-bits = 8, stalls = true },
]
domain = [{ name = "first" }, { name = "second" }]
process = [{ name = "shell" }, { name = "editor" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { answer = 16, fault = 24, bind = 8, unbind = 6, release = 4 } }
"#;

/// What has stalled, and goes on, is marked when it arrives (§14), which may be late.
const WRITTEN: &str = r#"
name = "stalls of what is written"
instance = [{ name = "smmu0", stalls = 8, httu = 2 }]
master = [
    { name = "accelerator", instance = "smmu0", streams = [0x40], stalls = true },
    { name = "other", instance = "smmu0", streams = [0x41], stalls = true },
]
domain = [{ name = "first", dirty = true }, { name = "second", dirty = true }]
[[step]]
random = { steps = 800, pages = 16, weights = { answer = 16, fault = 12, unmap = 24 } }
"#;

fn holds(text: &str) {
    let scenario = Scenario::parse(text, "stalls").unwrap_or_else(|errors| panic!("{errors}"));
    for seed in SEEDS {
        let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert!(report.is_ok(), "seed {seed}: {:#?}", report.failure);
    }
}

#[test]
fn short_queues_lose_no_stall() {
    holds(SHORT);
}

#[test]
fn what_stalled_and_was_written_is_reported_once_it_has_arrived() {
    holds(WRITTEN);
}

#[test]
fn what_stalled_at_stage_2_and_was_written_is_reported_too() {
    let second = r#"{ name = "second", dirty = true }"#;
    assert!(WRITTEN.contains(second));
    holds(&WRITTEN.replace(second, r#"{ name = "second", stage = 2, dirty = true }"#));
}

#[test]
fn stalls_of_pasids_end_with_what_they_are_subject_to() {
    holds(&PROCESSES.replace("FORCED", ""));
}

#[test]
fn where_they_are_forced_processes_stall_on_after_their_end() {
    holds(&PROCESSES.replace("FORCED", "forced-stalls = true,"));
}
