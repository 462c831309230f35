// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask perf`: counts instructions, and writes or checks `docs/performance.md`.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::checks;
use crate::environment::{self, Workspace};
use crate::figures::{self, Figure, Measured, Place};
use crate::registers;
use crate::report::{Report, Step, Verdict};
use crate::size;
use crate::tally::Tally;

const PAGE: &str = "docs/performance.md";

/// How to get what counts.
const NO_VALGRIND: &str = "valgrind is not installed (package `valgrind`, on x86-64 or AArch64 Linux); \
`cargo bench` gives times without it";

/// Measures everything, and writes the page.
pub fn write() -> Result<()> {
    let workspace = Workspace::find()?;
    if !has_valgrind() {
        bail!("{NO_VALGRIND}");
    }
    // Written by `cargo xtask boot --count --write`, and `cargo xtask size --write`.
    let page = recorded(&workspace)?;
    let kept = [registers::section_of(&page)?.to_owned(), size::section_of(&page)?.to_owned()];
    let counted = shown(&mut bench(&workspace, &["--count"]))?;
    let timed = shown(&mut bench(&workspace, &[]))?;
    let operations = shown(&mut workspace.cargo(["bench", "-p", "smmuv3-testbench"]))?;
    let rates = figures::parse_rates(&timed);
    let per_unit = |of: fn(f64) -> f64| {
        rates.iter().map(|rate| Figure { name: rate.name.clone(), value: of(rate.value) }).collect()
    };
    let measured = Measured {
        counted: [figures::parse(&counted, "instructions"), figures::parse(&counted, "bytes")]
            .concat(),
        timed: per_unit(|rate| 1e9 / rate),
        rated: [per_unit(|rate| rate / 1e6), figures::parse(&operations, "thousand/s")].concat(),
        contention: table(&shown(&mut checks::contention(&workspace))?),
        kept,
    };
    record(&workspace, &figures::page(&place()?, &measured)?)
}

/// Compares with the page, as `cargo xtask test` does.
pub fn check_alone() -> Result<Tally> {
    let workspace = Workspace::find()?;
    let mut report = Report::new(workspace.target.join("xtask"))?;
    report.step("perf", WHAT, |step| check(step, &workspace));
    Ok(report.close())
}

/// What the step is for.
pub const WHAT: &str = "instruction counts are those of docs/performance.md";

/// Compares what is counted now with the page. Skipped where that means nothing.
pub fn check(step: &mut Step, workspace: &Workspace) -> Result<Verdict> {
    if !has_valgrind() {
        return Ok(Verdict::skipped(NO_VALGRIND));
    }
    let page = recorded(workspace)?;
    let [rustc, host] = figures::place_of(&page)?;
    let here = compiler()?;
    if here != [rustc.clone(), host.clone()] {
        return Ok(Verdict::skipped(format!("recorded with {rustc} for {host}")));
    }
    let status = step.run(&mut bench(workspace, &["--count"]))?;
    let output = step.output()?;
    if !status.success() {
        return Ok(Verdict::failed(format!("counting failed, {status}")));
    }
    let counted =
        [figures::parse(&output, "instructions"), figures::parse(&output, "bytes")].concat();
    let agreed = figures::check(&page, &counted)?;
    Ok(Verdict::passed(format!("{agreed} figures within 5 %")))
}

/// The page.
pub fn recorded(workspace: &Workspace) -> Result<String> {
    fs::read_to_string(workspace.root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))
}

/// Puts `page` in its place.
pub fn record(workspace: &Workspace, page: &str) -> Result<()> {
    fs::write(workspace.root.join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))?;
    println!("\nwritten: {PAGE}");
    Ok(())
}

fn bench(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = workspace.cargo(["bench", "-p", "smmuv3-perf", "--bench", "figures", "--"]);
    command.args(arguments);
    command
}

/// Runs `command`; shows what it prints, line by line, and gives it too.
pub fn shown(command: &mut Command) -> Result<String> {
    use std::io::{BufRead, BufReader};
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut output = String::new();
    if let Some(lines) = child.stdout.take() {
        for line in BufReader::new(lines).lines() {
            let line = line?;
            println!("{line}");
            output.push_str(&line);
            output.push('\n');
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("measuring failed, {status}");
    }
    Ok(output)
}

/// The lines of a table.
fn table(output: &str) -> String {
    let rows = output.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| [row, "\n"]).collect()
}

fn has_valgrind() -> bool {
    environment::find_on_path("valgrind").is_some()
}

/// Version and target of the compiler.
fn compiler() -> Result<[String; 2]> {
    let told =
        environment::output_of(Command::new("rustc").arg("-vV")).context("`rustc -vV` fails")?;
    let version = told.lines().next().unwrap_or_default().to_owned();
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok([version, host.context("`rustc -vV` names no host")?.to_owned()])
}

pub fn place() -> Result<Place> {
    let [rustc, host] = compiler()?;
    let date = environment::output_of(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let date = date.context("`date` fails")?.trim().to_owned();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    Ok(Place { rustc, host, machine: format!("{model}, {cpus} CPUs"), date })
}
