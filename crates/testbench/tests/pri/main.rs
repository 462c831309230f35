// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that ask for pages, with the whole driver: the story, random operations, and each thing that can go wrong.

mod ends;
mod excess;
mod groups;
mod repeated;
mod setup;

use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

fn parse(text: &str) -> Scenario {
    Scenario::parse(text, "pri").unwrap_or_else(|errors| panic!("{errors}"))
}

fn holds(scenario: &Scenario, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
        let report = run(scenario, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"));
        assert!(report.is_ok(), "seed {seed}: {:#?}", report.failure);
    }
}

/// Short queues: they overflow, and answers wait for room.
const SHORT: &str = r#"
name = "short"
instance = [
    { name = "narrow", asid-bits = 8, ats = true, pri = true, page-request-queue = 3, command-queue = 2, interrupts = "wired" },
    { name = "wide", ats = true, pri = true, page-request-queue = 4 },
]
master = [
    { name = "nic", instance = "narrow", streams = [0x900, 0x901], ats = true, pri = true },
    { name = "disk", instance = "narrow", streams = [0xa00], ats = true },
    { name = "gpu", instance = "wide", streams = [0x1100], ats = true, pri = true, response-pasid = true },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { ask = 24, grant = 20, attach = 8, detach = 6, identity = 2 } }
"#;

/// PASIDs of processes that come and go, with messages for interrupts.
const PROCESSES: &str = r#"
name = "processes"
pasids = 3
instance = [
    { name = "smmu0", ssid-bits = 8, ats = true, pri = true, page-request-queue = 5, msi = true, interrupts = "msi" },
    { name = "smmu1", ssid-bits = 8, two-level-contexts = true, ats = true, pri = true, page-request-queue = 3 },
]
master = [
    { name = "nic", instance = "smmu0", streams = [0x40], pasid-bits = 8, ats = true, pri = true, response-pasid = true },
    { name = "gpu", instance = "smmu1", streams = [0x40, 0x41], pasid-bits = 8, ats = true, pri = true },
]
domain = [{ name = "first" }, { name = "second" }]
process = [{ name = "shell" }, { name = "editor" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { ask = 24, grant = 20, bind = 8, unbind = 6, release = 4 } }
"#;

#[test]
fn the_story_of_page_requests_is_true_on_every_seed() {
    holds(&parse(include_str!("../../../../scenarios/pri.toml")), 0..8);
}

#[test]
fn short_queues_lose_nothing_silently() {
    holds(&parse(SHORT), 0..16);
}

#[test]
fn requests_of_pasids_end_with_what_they_are_asked_of() {
    holds(&parse(PROCESSES), 0..16);
}
