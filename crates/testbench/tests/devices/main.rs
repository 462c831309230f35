// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that keep translations of their own, with the whole driver: the scenario, random operations, and steps left
//! out.

mod ghost;
mod noticed;
mod pair;
mod silent;

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
    { name = "nic", instance = "narrow", streams = [0x900, 0x901], pasid-bits = 6, ats = true },
    { name = "gpu", instance = "wide", streams = [0x1100, 0x1108, 0x1110], pasid-bits = 8, ats = true },
    { name = "npu", instance = "wide", streams = [0x1200], pasid-bits = 7 },
    { name = "disk", instance = "other", streams = [0xa00], ats = true },
]
domain = [{ name = "first" }, { name = "second" }, { name = "third" }]
process = [{ name = "shell", asid = 0xffff }, { name = "editor" }]
[[step]]
random = { steps = 1500 }
"#;

#[test]
fn the_story_of_ats_is_true_on_every_seed() {
    let scenario = parse(include_str!("../../../../scenarios/ats.toml"));
    for seed in 0..8 {
        let options = Options { machine: Choice::Model, seed: Some(seed), ..Options::default() };
        let (verdict, failure) = verdict(&scenario, options);
        assert_eq!(verdict, "ok", "seed {seed}: {failure}");
    }
}

#[test]
fn a_process_can_be_unbound_from_a_device_that_falls_silent_while_it_is_bound() {
    let scenario = parse(
        r#"
name = "silent-bind"
instance = [{ name = "smmu", ats = true, ssid-bits = 13 }]
master = [{ name = "gpu", instance = "smmu", streams = [5], pasid-bits = 8, ats = true }]
process = [{ name = "shell" }]
step = [
    { mute = { master = "gpu", late = true } },
    { bind = { process = "shell", master = "gpu", refused = "maybe" } },
    { bind = { process = "shell", master = "gpu", refused = "maybe" } },
    { replace = { process = "shell" } },
]
"#,
    );
    let (verdict, failure) = verdict(&scenario, Options::default());
    assert_eq!(verdict, "ok", "{failure}");
}

/// The entry of a stream that is cut off is changed, too: an SMMU that has to be told everything twice is told so of that, by
/// the host and in a guest's name.
#[test]
fn an_smmu_that_is_told_twice_is_told_twice_of_a_device_that_is_cut_off() {
    let scenario = parse(
        r#"
name = "cut-off-twice"
instance = [{ name = "smmu", ats = true, repeated-invalidation = true }]
domain = [{ name = "space" }, { name = "memory", stage = 2 }, { name = "driver", over = "memory" }]
memory = [{ name = "ram", size = "64K" }]
master = [
    { name = "nic", instance = "smmu", streams = [5, 6, 7], ats = true },
    { name = "disk", instance = "smmu", streams = [8] },
]
step = [
    { map = { domain = "space", iova = 0x40000000, memory = "ram" } },
    { map = { domain = "memory", iova = 0x40000000, memory = "ram" } },
    { map = { domain = "driver", iova = 0x40000000, memory = "ram" } },
    { attach = { master = "nic", domain = "space" } },
    { read = { master = "nic", iova = 0x40000000, length = 8 } },
    { mute = { master = "nic" } },
    { unmap = { domain = "space", iova = 0x40000000, length = "4K" } },
    { attach = { master = "disk", domain = "space" } },
    { readmit = { master = "nic" } },
    { attach = { master = "nic", domain = "driver" } },
    { read = { master = "nic", iova = 0x40000000, length = 8 } },
    { mute = { master = "nic", late = true } },
    { unmap = { domain = "driver", iova = 0x40000000, length = "4K" } },
    { attach = { master = "disk", domain = "memory" } },
]
"#,
    );
    for seed in 0..64 {
        let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
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
