// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench -p smmuv3-testbench`: random operations a second, every one of them judged by the oracle, on one
//! thread. A long scenario, and many short ones of a campaign, whose set-up is included. Counted is the time of the
//! CPU, where Linux tells: others that are at work do not make it longer.

#![allow(missing_docs, reason = "a program")]

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use smmuv3_testbench::campaign;
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

/// How often each is run: the least time counts.
const ROUNDS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let long = Scenario::parse(include_str!("../../../scenarios/random.toml"), "random")?;
    show("scenario `random`, 10000 operations", &[long])?;
    let short: Vec<_> = (1..21).map(|seed| campaign::scenario(seed, 400)).collect();
    show("campaign, 20 seeds of 400 operations", &short)?;
    Ok(())
}

/// Runs the scenarios one after the other, and prints how many of their operations were done in a second.
fn show(name: &str, scenarios: &[Scenario]) -> Result<(), Box<dyn Error>> {
    let (mut least, mut operations) = (Duration::MAX, 0);
    for _ in 0..ROUNDS {
        let (begun, clock) = (Instant::now(), cpu_time());
        operations = 0;
        for scenario in scenarios {
            let report = run(scenario, &Options::default(), &mut |_| ())?;
            operations += report.coverage.map_or(0, |coverage| coverage.operations);
        }
        let taken = clock.zip(cpu_time()).map(|(before, after)| after.saturating_sub(before));
        least = least.min(taken.unwrap_or_else(|| begun.elapsed()));
    }
    println!("{name:<55} {:>8.0}  operations/s", operations as f64 / least.as_secs_f64());
    Ok(())
}

/// How long this thread has been running.
fn cpu_time() -> Option<Duration> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
