// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench`: the workloads against the clock. With `--count`: their instructions, by callgrind.
//!
//! Each line is a name, a figure and its unit, in columns.

use std::env;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use smmuv3_perf::{Workload, counted, idle_domain, memory, rated};

/// How long a workload is timed, set-up included.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

const HELP: &str = "\
Usage: cargo bench -p smmuv3-perf [-- [--count] [WORD]...]

Times every workload whose name contains all WORDs: the least of many runs, a descriptor or operation.
  --count   count instructions instead, under valgrind's callgrind
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
    let count = words.len() != before;
    if words.iter().any(|word| word.starts_with('-')) {
        print!("{HELP}");
        return ExitCode::from(2);
    }
    let wanted = |name: &str| words.iter().all(|word| name.contains(word));
    for workload in counted().iter().filter(|workload| wanted(workload.name)) {
        if count {
            match instructions(workload) {
                Ok(instructions) => show(workload.name, instructions, "instructions"),
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        } else {
            show(workload.name, nanoseconds(workload), "ns");
        }
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
    for workload in rated().iter().filter(|workload| !count && wanted(workload.name)) {
        show(workload.name, 1e3 / nanoseconds(workload), "million/s");
    }
    ExitCode::SUCCESS
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

/// The least time of one unit in many runs.
fn nanoseconds(workload: &Workload) -> f64 {
    let rounds = 2 * workload.rounds;
    let begun = Instant::now();
    let mut least = Duration::MAX;
    while begun.elapsed() < LONG_ENOUGH {
        let mut run = (workload.prepare)();
        let start = Instant::now();
        run(rounds);
        least = least.min(start.elapsed());
    }
    least.as_nanos() as f64 / (rounds * workload.units) as f64
}
