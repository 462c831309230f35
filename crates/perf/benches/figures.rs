// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench`: the workloads against the clock, by divan. With `--count`: their instructions, by callgrind; and memory.
//!
//! A line of what is counted is a name, a figure and its unit, in columns. Of what is timed, `item/s` are units of a workload:
//! pages, blocks, addresses or whole operations; `cargo xtask perf` reads both.
//!
//! Why callgrind is called from here, and not by a crate: those that are kept well (gungraun, which was iai-callgrind)
//! need a second program of exactly their version installed beside them, and the difference of two runs, which is free of
//! start and set-up without any marks in the code, is a line here.

use std::env;
use std::fmt;
use std::process::{Command, ExitCode};

use divan::counter::ItemsCount;
use divan::{Bencher, Divan};
use smmuv3_perf::{Workload, counted, idle_domain, memory, rated};

const HELP: &str = "\
Usage: cargo bench -p smmuv3-perf --bench figures -- --count [WORD]...

Counts instructions of every workload whose name contains all WORDs, under valgrind's callgrind, and bytes.
";

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let mut words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [command, name, rounds] = words.as_slice()
        && command == "--run"
    {
        return run(name, rounds);
    }
    let before = words.len();
    words.retain(|word| word != "--count");
    if words.len() == before {
        Divan::from_args().main();
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word.starts_with('-')) {
        print!("{HELP}");
        return ExitCode::from(2);
    }
    match count(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A workload, under its name.
struct Case(Workload);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

fn cases(workloads: Vec<Workload>) -> Vec<Case> {
    workloads.into_iter().map(Case).collect()
}

// Samples of one run each, for half a second, of which set-up is a part.
#[divan::bench(args = cases(counted()), sample_size = 1, sample_count = 1_000_000, max_time = 0.5)]
fn operations(bencher: Bencher, case: &Case) {
    time(bencher, &case.0);
}

#[divan::bench(args = cases(rated()), sample_size = 1, sample_count = 1_000_000, max_time = 0.5)]
fn translations(bencher: Bencher, case: &Case) {
    time(bencher, &case.0);
}

/// A run of as many rounds as one set-up allows.
fn time(bencher: Bencher, workload: &Workload) {
    let rounds = 2 * workload.rounds;
    bencher
        .counter(ItemsCount::new(rounds * workload.units))
        .with_inputs(workload.prepare)
        .bench_local_refs(|run| run(rounds));
}

/// Counts what has all `words` in its name.
fn count(words: &[String]) -> Result<(), String> {
    let wanted = |name: &str| words.iter().all(|word| name.contains(word));
    for workload in counted().iter().filter(|workload| wanted(workload.name)) {
        show(workload.name, instructions(workload)?, "instructions");
    }
    let idle = "domain without mappings, beyond its first table";
    if wanted(idle) {
        show(idle, idle_domain() as f64, "bytes");
    }
    for taken in memory::taken() {
        if wanted(taken.name) {
            show(&format!("heap: {}", taken.name), taken.heap, "bytes");
            show(&format!("memory: {}", taken.name), taken.memory, "bytes");
        }
    }
    Ok(())
}

fn show(name: &str, figure: f64, unit: &str) {
    // Below one the first decimal says nothing.
    let decimals = if figure < 1.0 { 3 } else { 1 };
    println!("{name:<55} {figure:>8.decimals$}  {unit}");
}

/// What callgrind watches: one set-up, and some rounds.
fn run(name: &str, rounds: &str) -> ExitCode {
    let workload = counted().into_iter().find(|workload| workload.name == name);
    let (Some(workload), Ok(rounds)) = (workload, rounds.parse()) else {
        return ExitCode::from(2);
    };
    (workload.prepare)()(rounds);
    ExitCode::SUCCESS
}

/// Instructions of one unit: of twice the rounds, less those of the rounds.
fn instructions(workload: &Workload) -> Result<f64, String> {
    let [once, twice] =
        [workload.rounds, 2 * workload.rounds].map(|rounds| total(workload, rounds));
    Ok((twice? - once?) / (workload.rounds * workload.units) as f64)
}

/// Instructions of a whole process that does some rounds.
fn total(workload: &Workload, rounds: u64) -> Result<f64, String> {
    let me = env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(me)
        .args(["--run", workload.name, &rounds.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind, which counts instructions: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split_once("Collected : "));
    match collected.and_then(|(_, count)| count.trim().parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("valgrind failed on `{}`, {}:\n{told}", workload.name, output.status)),
    }
}
