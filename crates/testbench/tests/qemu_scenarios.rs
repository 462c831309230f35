// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every scenario of `scenarios/` on QEMU's SMMUv3 and on the model, which agree; or what of it QEMU does not have at all.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::{Capabilities, Scenario};

/// What becomes of a scenario on QEMU.
enum How {
    /// It runs as it is.
    AsItIs,
    /// It runs as it is, and may come to something else than on the model, which both may, for this reason.
    Otherwise(&'static str),
    /// It runs with these changes: streams that QEMU has, transfers of whole words, what it lacks left out.
    Changed(&'static [(&'static str, &'static str)]),
    /// It runs with changes that are more than words, in the test of this name.
    Elsewhere(&'static str),
    /// It is about something that QEMU does not have, as its ID registers say: what the refusal names.
    Without(&'static str),
}

use How::{AsItIs, Changed, Elsewhere, Otherwise, Without};

const TABLE: [(&str, How); 40] = [
    ("always-on", Without("ats = true")),
    ("ats", Without("ats = true")),
    ("attributes", Elsewhere("what_a_hypervisor_says_of_guests_memory_on_qemu")),
    ("banks", Without("vmid-bits = 8")),
    ("contiguous", AsItIs),
    ("dirty", Without("httu")),
    ("errata", Without("what it is or firmware says")),
    ("granules", Elsewhere("granules_on_qemu")),
    ("guest-hostile", Changed(HOSTILE)),
    ("guest-pages", Without("ats = true")),
    ("guest-pasids", Without("no PASIDs")),
    ("guest-stall", Without("stalls = true")),
    (
        "hand-over",
        Changed(&[("[0x10, 0x11]", "[0x900]"), ("[0x20]", "[0xa00]"), ("[0x30]", "[0x1100]")]),
    ),
    ("hypervisor", Without("hyp = true")),
    ("invalidation", Otherwise("what is unmapped and not yet invalidated is in a TLB, or not")),
    ("invalidation-el2", Without("hyp = true")),
    ("keep", Changed(KEEP)),
    ("nested", AsItIs),
    ("nested-ats", Without("ats = true")),
    ("observation", Without("atos = true")),
    ("one-instance", AsItIs),
    ("option-1", Without("btm = true")),
    ("option-2", AsItIs),
    ("overrides", Without("what it overrides")),
    ("power", AsItIs),
    ("pri", Without("ats = true")),
    ("process", Without("no PASIDs")),
    ("queues", Without("enhanced command queues")),
    ("random", AsItIs),
    ("random-processes", Without("no PASIDs")),
    ("random-short", AsItIs),
    ("removal", AsItIs),
    ("split", Without("ats = true")),
    ("stage-2", AsItIs),
    ("stall", Without("stalls = true")),
    ("straddle", AsItIs),
    ("the-fix", AsItIs),
    ("the-patch", Changed(&[("still out", "is out.."), ("let in", "let in!!")])),
    ("two-instances", AsItIs),
    ("wide", Without("lpa2, wide-input")),
];

/// Streams and memory that QEMU has, and no errors of commands, which nothing injects there.
const KEEP: &[(&str, &str)] = &[
    ("[0x10, 0x11]", "[0x100]"),
    ("[0x20]", "[0x200]"),
    ("[0x10]", "[0x300]"),
    ("0x884", "0x44"),
    ("0x888", "0x48"),
    (", command-error = 4", ""),
];

/// Without devices that keep translations, and without stalls.
const HOSTILE: &[(&str, &str)] = &[
    ("ats = true\n", ""),
    ("guest-stalls = 4\n", ""),
    ("stalls = 8\n", ""),
    ("stalls = true\n", ""),
    ("[0x1100, 0x1101]", "[0x1100]"),
    ("data = \"stalls\"", "data = \"refused!\""),
    (", stalled = true", ""),
    ("answer = { master = \"gpu\", reply = \"abort\" }", "invalidate-all = { domain = \"host\" }"),
    ("of the host\"", "of the host.\""),
];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.toml"))).unwrap()
}

#[test]
fn each_scenario_runs_on_qemu_or_is_about_what_qemu_does_not_have() {
    let files = std::fs::read_dir(folder()).unwrap();
    let names: BTreeSet<String> = files
        .filter_map(|it| Some(it.unwrap().file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    let known: BTreeSet<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, known);
    let qemu = Capabilities::qemu("QEMU", true);
    for (name, how) in &TABLE {
        let refused = common::parse(&text(name)).check_for(&qemu).err();
        let refused = refused.map(|it| it.to_string());
        match how {
            AsItIs => assert_eq!(refused, None, "{name}"),
            Otherwise(why) => assert_eq!(refused, None, "{name}, where {why}"),
            Changed(_) => assert!(refused.is_some(), "{name} runs as it is"),
            Elsewhere(test) => {
                let head = format!("fn {test}()");
                let sources = [include_str!("domains.rs"), include_str!("qemu_scenarios.rs")];
                assert!(sources.iter().any(|it| it.contains(&head)), "there is no {test}");
            }
            Without(what) => {
                let says = refused.unwrap_or_default();
                assert!(says.contains(what), "{name} is refused for something else: {says}");
            }
        }
    }
}

#[test]
fn scenarios_that_qemu_can_run_come_to_the_same_there_as_on_the_model() {
    let Some(path) = common::qemu_or_skip() else { return };
    for (name, how) in &TABLE {
        let text = match how {
            AsItIs | Otherwise(_) => text(name),
            Changed(changes) => {
                let change = |text: String, (from, to): &(&str, &str)| {
                    assert!(text.contains(from), "{name} has no {from} any more");
                    text.replace(from, to)
                };
                changes.iter().fold(text(name), change)
            }
            Elsewhere(_) | Without(_) => continue,
        };
        let scenario = Scenario::parse(&text, name).unwrap_or_else(|errors| panic!("{errors}"));
        // Those without changes run with more seeds elsewhere.
        let seeds = if matches!(how, Changed(_)) { 1..4 } else { 1..2 };
        for seed in seeds {
            if !matches!(how, Otherwise(_)) {
                common::agree(path.clone(), &scenario, seed);
                continue;
            }
            let machine = Choice::Qemu(Some(path.clone()));
            let options = Options { machine, seed: Some(seed), ..Options::default() };
            let report = run(&scenario, &options, &mut |_| ()).unwrap();
            assert!(report.is_ok(), "{name}, seed {seed}: {:#?}", report.failure);
        }
    }
}

/// VMIDs that a hypervisor has chosen, types of memory, and permissions: of `attributes`, what QEMU has.
#[test]
fn what_a_hypervisor_says_of_guests_memory_on_qemu() {
    let Some(path) = common::qemu_or_skip() else { return };
    let scenario = common::parse(ATTRIBUTES);
    for seed in 1..4 {
        common::agree(path.clone(), &scenario, seed);
    }
}

const ATTRIBUTES: &str = r#"
name = "attributes-on-qemu"
instance = [{ name = "smmu0" }, { name = "smmu1", asid-bits = 8 }]
master = [
    { name = "nic", instance = "smmu0", streams = [0x900] },
    { name = "gpu", instance = "smmu1", streams = [0x1100] },
]
memory = [
    { name = "ram", size = "64K", fill = 0x11 },
    { name = "other", size = "64K", fill = 0x22 },
    { name = "block", size = "2M", align = "2M", fill = 0x33 },
]
[[domain]]
name = "guest"
stage = 2
vmid = 250
[[domain]]
name = "twin"
stage = 2
vmid = 250
[[domain]]
name = "far"
stage = 2
vmid = 300
[[domain]]
name = "given"
stage = 2
all-attributes = true
[[domain]]
name = "process"
all-attributes = true
[[step]]
map = { domain = "guest", iova = 0x40000000, memory = "ram" }
[[step]]
map = { domain = "twin", iova = 0x40000000, memory = "other" }
[[step]]
map = { domain = "far", iova = 0x40000000, memory = "other" }
[[step]]
attach = { master = "nic", domain = "guest" }
[[step]]
note = "Where the guest is, nobody else has its VMID; somewhere else it is free."
attach = { master = "gpu", domain = "twin" }
[[step]]
read = { master = "gpu", iova = 0x40000000, expect = { pattern = 0x22222222, length = 16 } }
[[step]]
read = { master = "nic", iova = 0x40000000, expect = { pattern = 0x11111111, length = 16 } }
[[step]]
attach = { master = "nic", domain = "twin", refused = "vmid" }
[[step]]
attach = { master = "nic", domain = "far" }
[[step]]
attach = { master = "nic", domain = "twin" }
[[step]]
note = "The guest has left it, and nothing of the guest is left in its TLB: 250 is the twin's there."
read = { master = "nic", iova = 0x40000000, expect = { pattern = 0x22222222, length = 16 } }
[[step]]
attach = { master = "gpu", domain = "guest", refused = "vmid" }
[[step]]
attach = { master = "gpu", domain = "given" }
[[step]]
note = "Stage 2: each type, and pages that may be read alone."
map = { domain = "given", iova = 0x40000000, memory = "ram", length = "8K", access = "ro", kind = "uncached" }
[[step]]
map = { domain = "given", iova = 0x40002000, memory = "ram", offset = "8K", length = "4K", kind = "device" }
[[step]]
write = { master = "gpu", iova = 0x40000000, data = "read only..." }
[[step]]
expect-fault = { master = "gpu", event = "F_PERMISSION" }
[[step]]
write = { master = "gpu", iova = 0x40002000, data = "of a device." }
[[step]]
expect-data = { memory = "ram", offset = "8K", data = "of a device." }
[[step]]
note = "Stage 1: code, pages that may be read alone, and a block."
attach = { master = "nic", domain = "process" }
[[step]]
map = { domain = "process", iova = 0x10000, memory = "other", length = "4K", rights = "user-code", access = "ro" }
[[step]]
read = { master = "nic", iova = 0x10000, expect = { pattern = 0x22222222, length = 16 } }
[[step]]
write = { master = "nic", iova = 0x10000, data = "read only..." }
[[step]]
expect-fault = { master = "nic", event = "F_PERMISSION" }
[[step]]
map = { domain = "process", iova = 0x200000, memory = "block", rights = "code", kind = "write-through" }
[[step]]
read = { master = "nic", iova = 0x2ffff0, expect = { pattern = 0x33333333, length = 16 } }
[[step]]
write = { master = "nic", iova = 0x3ffff0, data = "to a block.." }
[[step]]
expect-data = { memory = "block", offset = 0x1ffff0, data = "to a block.." }
[[step]]
unmap = { domain = "process", iova = 0x200000, length = "2M" }
[[step]]
read = { master = "nic", iova = 0x2ffff0, length = 16 }
[[step]]
expect-fault = { master = "nic", event = "F_TRANSLATION" }
[[step]]
note = "All of it, mixed."
random = { steps = 600, pages = 32, weights = { attach = 12, unmap = 16 } }
"#;
