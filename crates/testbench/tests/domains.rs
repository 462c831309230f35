// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains of both stages and every granule: whole runs of their scenarios, on the model and on QEMU.

mod common;

use smmuv3_testbench::report::Report;
use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::Scenario;

fn scenario(name: &str) -> Scenario {
    let path = format!("{}/../../scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Scenario::parse(&text, &path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn run_on(machine: Choice, scenario: &Scenario, seed: u64) -> Report {
    let options = Options { machine, seed: Some(seed), ..Options::default() };
    run(scenario, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"))
}

fn holds_on_the_model(name: &str) {
    let scenario = scenario(name);
    for seed in 1..=5 {
        let report = run_on(Choice::Model, &scenario, seed);
        assert!(report.is_ok(), "{name} seed {seed}: {:#?}", report.failure);
    }
    let again = Scenario::parse(&scenario.to_toml(), name);
    let again = again.unwrap_or_else(|errors| panic!("{errors}\n{}", scenario.to_toml()));
    assert_eq!(again.to_toml(), scenario.to_toml());
}

fn holds_on_qemu(name: &str) {
    let Some(path) = common::qemu_or_skip() else { return };
    let scenario = scenario(name);
    let report = run_on(Choice::Qemu(Some(path)), &scenario, 1);
    assert!(report.is_ok(), "{name}: {:#?}", report.failure);
}

#[test]
fn stage_2_on_the_model() {
    holds_on_the_model("stage-2");
}

#[test]
fn stage_2_on_qemu() {
    holds_on_qemu("stage-2");
}
