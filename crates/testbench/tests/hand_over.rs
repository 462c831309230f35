// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels that take over from each other, in scenarios.

mod common;

use common::parse;
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

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
        let outcome = |text: &str| {
            let of = |step: &&smmuv3_testbench::report::Step| step.text.starts_with(text);
            let step = report.steps.iter().find(of);
            step.map(|step| step.outcome.clone()).unwrap_or_default()
        };
        assert_eq!(
            outcome("another kernel takes over, without disk"),
            "smmu0 goes on with 2 streams; smmu1 goes on with 1 streams"
        );
        assert_eq!(outcome("end-adoption smmu0"), "refused, as masters go on");
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
