// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench -p smmuv3-testbench`: random operations a second, every one of them judged by the oracle. A long scenario, on
//! one thread and on one for each processor; and many short ones of a campaign, whose set-up is included. Of one thread, what counts
//! is the time of the CPU, where Linux tells: others that are at work do not make it longer. `cargo xtask perf` reads the first two.

#![allow(missing_docs, reason = "a program")]

use std::error::Error;
use std::fs;
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

use smmuv3_testbench::campaign;
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

/// How often each is run: the least time counts.
const ROUNDS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let long = Scenario::parse(include_str!("../../../scenarios/random.toml"), "random")?;
    show("random operations, judged, on one thread", slice::from_ref(&long))?;
    show_together("random operations, judged, a thread for each processor", &long)?;
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
    tell(name, operations, least);
    Ok(())
}

/// Runs the scenario on each processor, and prints how many operations were done in a second by all of them.
fn show_together(name: &str, scenario: &Scenario) -> Result<(), Box<dyn Error>> {
    let threads = thread::available_parallelism()?.get();
    let (mut least, mut operations) = (Duration::MAX, 0);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let work = || -> Result<u64, String> {
            let report = run(scenario, &Options::default(), &mut |_| ());
            let report = report.map_err(|error| error.to_string())?;
            Ok(report.coverage.map_or(0, |coverage| coverage.operations))
        };
        let done = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let done = threads.into_iter().map(|it| it.join().map_err(|_| "a thread panicked")?);
            done.sum::<Result<u64, String>>()
        });
        operations = done?;
        least = least.min(begun.elapsed());
    }
    tell(name, operations, least);
    Ok(())
}

fn tell(name: &str, operations: u64, time: Duration) {
    println!("{name:<55} {:>8.1}  thousand/s", operations as f64 / 1e3 / time.as_secs_f64());
}

/// How long this thread has been running.
fn cpu_time() -> Option<Duration> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
