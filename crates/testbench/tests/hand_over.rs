// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels that take over from each other, in scenarios.

mod common;

use common::parse;
use smmuv3_testbench::report::Report;
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::{AsidPolicy, Scenario};

/// Runs `text`, which breaks no rule.
fn holds(text: &str, seed: u64) -> Report {
    let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
    let report = run(&parse(text), &options, &mut |_| ()).unwrap();
    assert_eq!(report.verdict, "ok", "{seed}: {:#?}", report.failure);
    report
}

/// What came of the first step whose text begins so.
fn outcome(report: &Report, text: &str) -> String {
    let step = report.steps.iter().find(|step| step.text.starts_with(text));
    step.map(|step| step.outcome.clone()).unwrap_or_default()
}

/// The scenario of the program that shows it, on some seeds, and written and read again.
#[test]
fn the_scenario_of_it_holds_all_rules() {
    let scenario = parse(include_str!("../../../scenarios/hand-over.toml"));
    for seed in 0..8 {
        let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert_eq!(report.verdict, "ok", "{seed}: {:#?}", report.failure);
        let again = Scenario::parse(&scenario.to_toml(), "written").unwrap();
        assert_eq!(again.steps.len(), scenario.steps.len());
        assert_eq!(
            outcome(&report, "another kernel takes over, without disk"),
            "smmu0 goes on with 2 streams; smmu1 goes on with 1 streams"
        );
        assert_eq!(outcome(&report, "end-adoption smmu0"), "refused, as masters go on");
    }
}

/// An adoption that has not ended ends with the run, also where the SMMU sleeps then.
#[test]
fn a_run_may_end_while_what_was_taken_over_sleeps() {
    let scenario = parse(
        r#"
name = "asleep"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [5] }]
domain = [{ name = "shared" }]
step = [
    { attach = { master = "nic", domain = "shared" } },
    { hand-over = {} },
    { suspend = { instance = "smmu" } },
]
"#,
    );
    let report = run(&scenario, &Options::default(), &mut |_| ()).unwrap();
    assert_eq!(report.verdict, "ok", "{:#?}", report.failure);
}

/// Two domains that devices behind two SMMUs share. Of the narrow one the adoption ends first.
const SHARED: &str = r#"
name = "shared"
asid-policy = "POLICY"
instance = [{ name = "narrow", asid-bits = 8 }, { name = "wide" }]
master = [
    { name = "nic", instance = "narrow", streams = [0x10] },
    { name = "disk", instance = "narrow", streams = [0x20] },
    { name = "gpu", instance = "wide", streams = [0x30] },
    { name = "cam", instance = "wide", streams = [0x40] },
]
domain = [{ name = "first" }, { name = "second" }]
memory = [{ name = "buffer", size = "64K" }, { name = "other", size = "64K" }]
step = [
    { map = { domain = "first", iova = 0x100000, memory = "buffer", length = "4K" } },
    { attach = { master = "nic", domain = "first" } },
    { attach = { master = "disk", domain = "second" } },
    { attach = { master = "gpu", domain = "first" } },
    { attach = { master = "cam", domain = "second" } },
    { hand-over = {} },
    { write = { master = "nic", iova = 0x100000, data = "d001" } },
    { write = { master = "gpu", iova = 0x100000, data = "d002" } },
    { expect-data = { memory = "buffer", offset = 0, data = "d002" } },
    { detach = { master = "nic" } },
    { detach = { master = "disk" } },
    { end-adoption = { instance = "narrow" } },
    { map = { domain = "second", iova = 0x100000, memory = "other", length = "4K" } },
    { attach = { master = "nic", domain = "second" } },
    { attach = { master = "disk", domain = "first" } },
    { attach = { master = "cam", domain = "second" } },
    { write = { master = "cam", iova = 0x100000, data = "d003" } },
    { expect-data = { memory = "other", offset = 0, data = "d003" } },
    { write = { master = "gpu", iova = 0x100000, data = "d004" } },
    { expect-data = { memory = "buffer", offset = 0, data = "d004" } },
    { detach = { master = "gpu" } },
    { end-adoption = { instance = "wide" } },
    { random = { steps = 400, pages = 32, weights = { hand-over = 6 } } },
]
"#;

/// Two SMMUs have the same number where it is common to all: neither refuses what the other goes on with, and it is
/// given out only when both have let it go.
#[test]
fn all_instances_go_on_whatever_the_policy() {
    for policy in AsidPolicy::ALL {
        let text = SHARED.replace("POLICY", policy.name());
        for seed in 0..4 {
            let report = holds(&text, seed);
            let both = "narrow goes on with 2 streams; wide goes on with 2 streams";
            assert_eq!(outcome(&report, "another kernel"), both, "{policy}");
            assert_eq!(outcome(&report, "end-adoption narrow"), "done", "{policy}");
            assert_eq!(outcome(&report, "end-adoption wide"), "done", "{policy}");
        }
    }
}

/// A device that was moved to another VMID, because the ASIDs of the first were used up, goes on as well.
#[test]
fn what_is_in_a_bank_goes_on() {
    let text = include_str!("../../../scenarios/banks.toml");
    // The gpu is in the second bank by then.
    let (before, after) = text.split_once("[[step]]\nnote = \"Nothing is lost").unwrap();
    assert!(after.contains("guest201"));
    let after = r#"
[[step]]
hand-over = {}
[[step]]
read = { master = "gpu", pasid = 201, iova = 0x10000, expect = "1111" }
[[step]]
note = "54 are left in the first bank, and 55 in the second: the third is opened."
map = { domain = "guest250", iova = 0x20000, memory = "last" }
[[step]]
attach = { master = "gpu", domain = "guest1", pasid = 1, count = 100 }
[[step]]
attach = { master = "gpu", domain = "guest250", pasid = 250 }
[[step]]
read = { master = "gpu", pasid = 250, iova = 0x20000, expect = "9999" }
[[step]]
random = { steps = 100, pages = 16, weights = { hand-over = 3, attach-pasid = 8 } }
"#;
    let report = holds(&format!("{before}{after}"), 1);
    assert_eq!(outcome(&report, "another kernel"), "narrow goes on with 3 streams");
}

/// Who keeps translations, or waits at faults, cannot go on. Its kernel can do without it.
const GIVEN_UP: &str = r#"
name = "given-up"
instance = [{ name = "smmu0", ats = true }, { name = "smmu1", stalls = 8 FORCED }]
master = [
    { name = "nic", instance = "smmu0", streams = [0x10] },
    { name = "disk", instance = "smmu0", streams = [0x20, 0x21], ats = true },
    { name = "cam", instance = "smmu1", streams = [0x30] },
    { name = "gpu", instance = "smmu1", streams = [0x40], stalls = true },
]
domain = [{ name = "first" }, { name = "second" }]
memory = [{ name = "buffer", size = "64K" }]
step = [
    { map = { domain = "first", iova = 0x100000, memory = "buffer", length = "8K" } },
    { attach = { master = "nic", domain = "first" } },
    { attach = { master = "disk", domain = "first" } },
    { attach = { master = "cam", domain = "CAM" } },
    { attach = { master = "gpu", domain = "first" } },
    { write = { master = "disk", iova = 0x100000, data = "d001" } },
    { write = { master = "gpu", iova = 0x101000, data = "d002" } },
    { note = "Nobody ever answers this one.", write = { master = "gpu", iova = 0x500000, data = "d003" } },
    { expect-fault = { master = "gpu", event = "F_TRANSLATION", stalled = true } },
    { hand-over = { lose = ["disk", "gpu"] } },
    { write = { master = "nic", iova = 0x100000, data = "d004" } },
    { expect-data = { memory = "buffer", offset = 0, data = "d004" } },
    { write = { master = "disk", iova = 0x100000, data = "d005" } },
    { expect-blocked = { master = "disk" } },
    { write = { master = "gpu", iova = 0x100000, data = "d006" } },
    { expect-blocked = { master = "gpu" } },
    { map = { domain = "second", iova = 0x100000, memory = "buffer", offset = 0x8000, length = "4K" } },
    { note = "Their tags are free at once.", attach = { master = "disk", domain = "second" } },
    { attach = { master = "gpu", domain = "second" } },
    { write = { master = "gpu", iova = 0x100000, data = "d007" } },
    { expect-data = { memory = "buffer", offset = 0x8000, data = "d007" } },
    { random = { steps = 300, pages = 32, weights = { hand-over = 6 } } },
]
"#;

#[test]
fn who_cannot_go_on_does_not_keep_others_from_it() {
    for (forced, cam) in [("", "first"), (", forced-stalls = true", "identity")] {
        let text = GIVEN_UP.replace("FORCED", forced).replace("CAM", cam);
        for seed in 0..6 {
            let report = holds(&text, seed);
            let both = "smmu0 goes on with 1 streams; smmu1 goes on with 1 streams";
            assert_eq!(outcome(&report, "another kernel"), both, "{forced}");
        }
    }
}

/// What a guest's device keeps of the host of before has the same addresses, and another VMID: an unmap of the guest of the new
/// host is not about that.
#[test]
fn a_guest_of_the_new_host_is_not_that_of_before() {
    let text = r#"
name = "two-guests"
instance = [{ name = "smmu" }]
domain = [{ name = "memory", stage = 2, input-bits = 40 }, { name = "driver", over = "memory" }]
master = [
    { name = "nic", instance = "smmu", streams = [8] },
    { name = "gpu", instance = "smmu", streams = [9] },
]
memory = [{ name = "old", size = "64K" }, { name = "new", size = "64K" }]
step = [
    { map = { domain = "memory", iova = 0x40000000, memory = "old" } },
    { map = { domain = "driver", iova = 0x40000000, memory = "old", length = "8K" } },
    { attach = { master = "nic", domain = "driver" } },
    { hand-over = {} },
    { map = { domain = "memory", iova = 0x40000000, memory = "new" } },
    { map = { domain = "driver", iova = 0x40000000, memory = "new", length = "8K" } },
    { attach = { master = "gpu", domain = "driver" } },
    { write = { master = "nic", iova = 0x40001000, data = "d001" } },
    { write = { master = "gpu", iova = 0x40001000, data = "d002" } },
    { unmap = { domain = "driver", iova = 0x40000000, length = "8K" } },
    { write = { master = "nic", iova = 0x40001000, data = "d003" } },
    { expect-data = { memory = "old", offset = "4K", data = "d003" } },
    { write = { master = "gpu", iova = 0x40001000, data = "d004" } },
    { expect-fault = { master = "gpu", event = "F_TRANSLATION" } },
]
"#;
    for seed in 0..4 {
        let report = holds(text, seed);
        assert_eq!(outcome(&report, "another kernel"), "smmu goes on with 1 streams");
    }
}

/// Of a master that nobody uses the next kernel makes the contexts anew: leaves of its table that the kernel before had are no
/// more.
#[test]
fn contexts_of_before_are_not_those_of_a_master_that_is_used_anew() {
    let text = r#"
name = "new-leaves"
pasids = 100
instance = [{ name = "smmu", ssid-bits = 8, two-level-contexts = true }]
domain = [{ name = "shared" }]
master = [{ name = "nic", instance = "smmu", streams = [8], pasid-bits = 8 }]
memory = [{ name = "buffer", size = "64K" }]
step = [
    { map = { domain = "shared", iova = 0x40000000, memory = "buffer", length = "8K" } },
    { attach = { master = "nic", domain = "shared", pasid = 1 } },
    { attach = { master = "nic", domain = "shared", pasid = 100 } },
    { detach = { master = "nic", pasid = 1 } },
    { note = "There is a leaf, without a context.", write = { master = "nic", pasid = 1, iova = 0x40000000, data = "d001" } },
    { expect-fault = { master = "nic", pasid = 1, event = "C_BAD_CD" } },
    { detach = { master = "nic", pasid = 100 } },
    { hand-over = {} },
    { attach = { master = "nic", domain = "shared", pasid = 100 } },
    { note = "There is none.", write = { master = "nic", pasid = 1, iova = 0x40000000, data = "d002" } },
    { expect-fault = { master = "nic", pasid = 1, event = "C_BAD_SUBSTREAMID" } },
]
"#;
    for seed in 0..4 {
        holds(text, seed);
    }
}

/// A process has two tags where one of its masters was bound when the CPU's number was free and the other when it was not. The
/// number that only a lost master had is free at once, for the process of the next kernel.
#[test]
fn a_tag_that_only_a_lost_master_had_is_free() {
    let text = r#"
name = "lost-tag"
instance = [{ name = "smmu", ssid-bits = 7, btm = true }]
master = [
    { name = "nic", instance = "smmu", streams = [14], pasid-bits = 3 },
    { name = "gpu", instance = "smmu", streams = [0], pasid-bits = 1 },
]
process = [{ name = "shell" }]
step = [
    { bind = { process = "shell", master = "nic" } },
    { hand-over = { lose = ["gpu"] } },
    { note = "Its number is that of the process of before.", bind = { process = "shell", master = "nic" } },
    { end-adoption = { instance = "smmu" } },
    { bind = { process = "shell", master = "gpu" } },
    { hand-over = { lose = ["gpu"] } },
    { bind = { process = "shell", master = "nic" } },
]
"#;
    for seed in 0..4 {
        let report = holds(text, seed);
        assert_eq!(outcome(&report, "end-adoption"), "done");
    }
}

/// The same, with streams that QEMU has.
#[test]
fn the_scenario_of_it_holds_all_rules_on_qemu() {
    let Some(path) = common::qemu_or_skip() else { return };
    let text = include_str!("../../../scenarios/hand-over.toml");
    let text = text.replace("[0x10, 0x11]", "[0x900]");
    let scenario = parse(&text.replace("[0x20]", "[0xa00]").replace("[0x30]", "[0x1100]"));
    for seed in 0..4 {
        let report = common::agree(path.clone(), &scenario, seed);
        let took = report.steps.iter().find(|step| step.text.starts_with("another kernel"));
        let outcome = took.map(|step| &*step.outcome);
        let both = "smmu0 goes on with 1 streams; smmu1 goes on with 1 streams";
        assert_eq!(outcome, Some(both), "{seed}");
    }
}

/// With the first PASID that a new kernel uses, an adopted entry comes to lead to other contexts, and to say otherwise what
/// becomes of accesses without one: two words, so not without a moment in between.
#[test]
fn the_first_pasid_of_a_new_kernel_comes_by_an_invalid_entry() {
    let text = r#"
name = "words"
instance = [{ name = "smmu", ssid-bits = 19, ats = true, repeated-invalidation = true, lpa2 = true, bbml = 1, httu = 1 }]
master = [{ name = "nic", instance = "smmu", streams = [0xffff], pasid-bits = 8 }]
domain = [{ name = "shared", splitting = true }]
memory = [{ name = "pool", size = "8M", align = "2M" }]
step = [
    { attach = { master = "nic", domain = "shared" } },
    { map = { domain = "shared", iova = 0xc000e000, memory = "pool", offset = 0x8d000, length = "28K" } },
    { attach = { master = "nic", pasid = 2, domain = "shared" } },
    { hand-over = {} },
    { map = { domain = "shared", iova = 0xc000f000, memory = "pool", offset = 0x5e3000, length = "16K" } },
    { interrupt = 818, attach = { master = "nic", pasid = 2, domain = "shared" } },
]
"#;
    for seed in 0..64 {
        holds(text, seed);
    }
}
