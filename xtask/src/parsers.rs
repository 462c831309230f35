// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz targets of `fuzz/`: built with coverage instrumentation by the stable compiler, and run.
//!
//! The folder is laid out for `cargo fuzz`, which needs a nightly compiler. What that adds are sanitizers, and
//! the crates behind these targets have next to no unsafe code to look for with them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::environment::{self, Workspace};
use crate::report::{Report, Step, Verdict};
use crate::tally::Tally;

/// What the step is for.
pub const WHAT: &str = "fuzz targets, a fixed slice of inputs each";

/// Targets of which tens of thousands of inputs take a second or few.
const QUICK: [&str; 6] = ["device_tree", "image", "iort", "legality", "nest", "structure"];

/// Inputs of `target` in `cargo xtask test`, so that all together take less time than their build.
fn slice(target: &str) -> u64 {
    if QUICK.contains(&target) { 30_000 } else { 2_000 }
}

/// The folder with the targets and their seeds.
const FOLDER: &str = "fuzz";

/// The flags that give libFuzzer its coverage and the comparisons it solves; LLVM's own passes, so stable takes them.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// What to run, as it is said on the command line.
pub struct Campaign {
    /// Targets by name; all when empty.
    pub targets: Vec<String>,
    /// Inputs of each; a fixed slice when `None`.
    pub runs: Option<u64>,
    /// Where what is random starts.
    pub seed: u32,
}

/// Runs the targets, each as a step.
pub fn alone(campaign: &Campaign) -> Result<Tally> {
    let workspace = Workspace::find()?;
    let mut report = Report::new(workspace.target.join("xtask"))?;
    report.step("parsers", WHAT, |step| run(step, &workspace, campaign));
    Ok(report.close())
}

/// Builds all targets and runs those of `campaign`. Skipped without a C++ compiler, which libFuzzer is built with.
pub fn run(step: &mut Step, workspace: &Workspace, campaign: &Campaign) -> Result<Verdict> {
    if ["c++", "g++", "clang++"].iter().all(|name| environment::find_on_path(name).is_none()) {
        return Ok(Verdict::skipped("no C++ compiler to build libFuzzer with"));
    }
    let known = targets(workspace)?;
    let named = if campaign.targets.is_empty() { &known } else { &campaign.targets };
    for name in named {
        ensure!(known.contains(name), "there is no target {name}, but {}", known.join(", "));
    }
    let host = environment::output_of(Command::new("rustc").arg("-vV"))
        .and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        })
        .context("`rustc -vV` prints no host")?;
    let built = workspace.target.join(FOLDER);
    let manifest = workspace.root.join(FOLDER).join("Cargo.toml");
    let mut command = workspace.cargo(["build", "--release", "--target", &host, "--manifest-path"]);
    // A target is named so that build scripts and macros are not instrumented.
    command.arg(manifest).env("CARGO_TARGET_DIR", &built).env("RUSTFLAGS", FLAGS.join(" "));
    let verdict = step.check(&mut command)?;
    if verdict.tally.failed > 0 {
        return Ok(verdict);
    }
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let mut inputs = 0;
    for name in named {
        let mut command = Command::new(built.join(&host).join("release").join(name));
        workspace.prepare(&mut command);
        let found = built.join("found").join(name);
        fs::create_dir_all(&found)?;
        let runs = campaign.runs.unwrap_or_else(|| slice(name));
        inputs += runs;
        command.arg(format!("-runs={runs}")).arg(format!("-seed={}", campaign.seed));
        // A parser that takes ten seconds for a few kilobytes, or a gigabyte of memory, is broken too.
        command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
        command.arg(format!("-max_len={}", longest(name)));
        command.arg(format!("-artifact_prefix={}/", found.display()));
        // The first folder is where inputs that reach something new are kept: one that starts empty, so that each run
        // does the same.
        let corpus = built.join("corpus").join(name);
        if corpus.exists() {
            fs::remove_dir_all(&corpus)?;
        }
        fs::create_dir_all(&corpus)?;
        command.arg(corpus).args(seeds(workspace, name));
        let verdict = step.check(&mut command)?;
        if verdict.tally.failed > 0 {
            wrong.push(format!("{name}, see {}", found.display()));
        }
        tally += verdict.tally;
    }
    let summary = match wrong.is_empty() {
        true => format!("{} targets, {inputs} inputs, seed {}", named.len(), campaign.seed),
        false => wrong.join("; "),
    };
    Ok(Verdict::new(tally, summary))
}

/// `cargo fmt` of the targets, as a check.
pub fn fmt(workspace: &Workspace) -> Command {
    let manifest = workspace.root.join(FOLDER).join("Cargo.toml");
    let mut command = workspace.cargo(["fmt", "--check", "--manifest-path"]);
    command.arg(manifest).args(["--", "--color", "never"]);
    command
}

/// The targets that there are, by name.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join(FOLDER).join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
        if let Some(name) = entry?.file_name().to_string_lossy().strip_suffix(".rs") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The longest input of a target. The longest logs are those of many lines: what is told of one line, a few tell.
fn longest(target: &str) -> u32 {
    if target == "log" { 2048 } else { 8192 }
}

/// Folders with inputs to start from: the target's own, and what the tests read.
fn seeds(workspace: &Workspace, target: &str) -> Vec<PathBuf> {
    let tests = match target {
        "scenario" => Some("scenarios"),
        "log" => Some("crates/decode/tests/corpus"),
        _ => None,
    };
    let own = workspace.root.join(FOLDER).join("seeds").join(target);
    let tests = tests.map(|folder| workspace.root.join(folder));
    [Some(own), tests].into_iter().flatten().filter(|folder| folder.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_built_and_has_inputs_to_start_from() {
        let workspace = Workspace::find().unwrap();
        let manifest = workspace.root.join(FOLDER).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        let targets = targets(&workspace).unwrap();
        for name in &targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
            assert!(!seeds(&workspace, name).is_empty(), "{name}");
        }
        assert!(QUICK.iter().all(|quick| targets.iter().any(|name| name == quick)));
    }
}
