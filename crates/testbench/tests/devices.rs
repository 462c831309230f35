// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that keep translations of their own, with the whole driver: the scenario, random operations, and steps left
//! out.

use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::Scenario;

fn parse(text: &str) -> Scenario {
    Scenario::parse(text, "devices").unwrap_or_else(|errors| panic!("{errors}"))
}

fn verdict(scenario: &Scenario, options: Options) -> (String, String) {
    let report = run(scenario, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"));
    (report.verdict.clone(), format!("{:#?}", report.failure))
}

/// Devices with and without ATS, with substreams and processes, behind instances of every kind.
pub const RANDOM: &str = r#"
name = "random-devices"
pasids = 12
instance = [
    { name = "narrow", asid-bits = 8, ssid-bits = 8, ats = true },
    { name = "wide", ssid-bits = 12, two-level-contexts = true, btm = true, ats = true, command-queue = 2 },
    { name = "other", range-invalidation = false, ats = true },
]
master = [
    { name = "nic", instance = "narrow", streams = [0x900, 0x901], substream-bits = 6, ats = true },
    { name = "gpu", instance = "wide", streams = [0x1100, 0x1108, 0x1110], substream-bits = 8, ats = true },
    { name = "npu", instance = "wide", streams = [0x1200], substream-bits = 7 },
    { name = "disk", instance = "other", streams = [0xa00], ats = true },
]
domain = [{ name = "first" }, { name = "second" }, { name = "third" }]
process = [{ name = "shell", asid = 0xffff }, { name = "editor" }]
[[step]]
random = { steps = 1500 }
"#;

#[test]
fn the_story_of_ats_is_true_on_every_seed() {
    let scenario = parse(include_str!("../../../scenarios/ats.toml"));
    for seed in 0..8 {
        let options = Options { machine: Choice::Model, seed: Some(seed), ..Options::default() };
        let (verdict, failure) = verdict(&scenario, options);
        assert_eq!(verdict, "ok", "seed {seed}: {failure}");
    }
}

#[test]
fn random_operations_hold_all_rules_with_devices_that_keep_translations() {
    let scenario = parse(RANDOM);
    for seed in 0..20 {
        let options = Options { seed: Some(seed), ..Options::default() };
        let (verdict, failure) = verdict(&scenario, options);
        assert_eq!(verdict, "ok", "seed {seed}: {failure}");
    }
}
