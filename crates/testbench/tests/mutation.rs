// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver with one step left out is caught by the oracle, under a random scenario.
#![cfg(feature = "mutation")]

mod common;

use smmuv3::Mutation;
use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::Scenario;

const SEEDS: std::ops::Range<u64> = 0..20;
const CAUGHT: usize = 19;

fn scenario() -> Scenario {
    let text = include_str!("../../../scenarios/random.toml").replace("10000", "1500");
    Scenario::parse(&text, "random.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn verdicts(mutation: Option<Mutation>) -> Vec<String> {
    let scenario = scenario();
    SEEDS
        .map(|seed| {
            let options =
                Options { seed: Some(seed), mutation, no_shrink: true, ..Options::default() };
            run(&scenario, &options, &mut |_| ()).unwrap().verdict
        })
        .collect()
}

#[test]
fn the_driver_itself_holds_all_rules_on_every_seed() {
    let verdicts = verdicts(None);
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
}

#[test]
fn every_step_left_out_is_caught_on_nearly_every_seed() {
    for mutation in Mutation::ALL {
        let verdicts = verdicts(Some(mutation));
        let caught =
            verdicts.iter().filter(|verdict| *verdict != "ok" && *verdict != "driver").count();
        println!("{mutation:?}: {caught} of {}: {verdicts:?}", verdicts.len());
        assert!(caught >= CAUGHT, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

/// Without the model's eyes: only what devices reach, and the events that come.
#[test]
fn qemu_alone_catches_what_lets_devices_reach_old_memory() {
    let Some(path) = common::qemu_or_skip() else {
        return;
    };
    // A narrow window: what was unmapped is soon tried again.
    let text = include_str!("../../../scenarios/random-short.toml").replace("= 1024", "= 16");
    let scenario =
        Scenario::parse(&text, "random-short.toml").unwrap_or_else(|errors| panic!("{errors}"));
    // CFGI before the store goes unnoticed there: QEMU does not read an entry again by itself.
    for mutation in
        [Mutation::NoCfgi, Mutation::NoTlbi, Mutation::WrongAsid, Mutation::OneInstanceOnly]
    {
        let verdicts: Vec<String> = (1..9)
            .map(|seed| {
                let options = Options {
                    machine: Choice::Qemu(Some(path.clone())),
                    seed: Some(seed),
                    mutation: Some(mutation),
                    ..Options::default()
                };
                run(&scenario, &options, &mut |_| ()).unwrap().verdict
            })
            .collect();
        println!("{mutation:?} on QEMU: {verdicts:?}");
        assert!(
            verdicts.iter().any(|verdict| verdict.starts_with('R')),
            "{mutation:?}: {verdicts:?}"
        );
    }
}
