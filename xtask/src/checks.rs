// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of `cargo xtask test`, in the order in which they are run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use crate::bare::{self, Libraries};
use crate::boot;
use crate::environment::{self, Workspace};
use crate::mutation;
use crate::parsers;
use crate::perf;
use crate::qemu::{self, Qemu, Surroundings};
use crate::report::{Report, Step, Verdict};
use crate::size;
use crate::tally::{Tally, TestRun};
use crate::wasm;

/// The packages that must build without `std`.
const BARE_PACKAGES: [&str; 5] =
    ["smmuv3-formats", "smmuv3-pagetable", "smmuv3", "smmuv3-dma", "smmuv3-discovery"];

/// Their features that are not on by default.
const BARE_FEATURES: &str = "smmuv3/safe-mmio,smmuv3-dma/virtio-drivers";

/// What the driver is also built and tested with: none of the parts that can be left out, and each alone.
const FEATURES: [&str; 19] = [
    "alloc",
    "alloc,nested",
    "sva",
    "alloc,ats",
    "alloc,pmcg",
    "alloc,stage-2",
    "alloc,granules,wide",
    "alloc,resizing",
    "alloc,fast-paths",
    "alloc,pasids",
    "alloc,two-level",
    "removal",
    "alloc,policies",
    "alloc,stalls",
    "hand-over",
    "hand-over,policies",
    "dirty",
    "alloc,ecmdq,sync-messages",
    "counts",
];

/// Runs every check and prints the report; `qemu` is the value of `--qemu`.
pub fn run_all(qemu: Option<PathBuf>, require_qemu: bool) -> Result<Tally> {
    let workspace = Workspace::find()?;
    let surroundings = Surroundings::look(&workspace, qemu);
    let mut report = Report::new(workspace.target.join("xtask"))?;
    introduce(&report, &workspace);

    report.step("tools", "rustfmt and clippy are installed", |step| tools(step, &workspace));
    report.step("fmt", "cargo fmt --all --check", |step| {
        let arguments = ["fmt", "--all", "--check", "--", "--color", "never"];
        let verdict = step.check(&mut workspace.cargo(arguments))?;
        if verdict.tally.failed > 0 {
            return Ok(verdict);
        }
        let verdict = step.check(&mut boot::fmt(&workspace))?;
        if verdict.tally.failed > 0 {
            return Ok(verdict);
        }
        step.check(&mut parsers::fmt(&workspace))
    });
    let mut libraries = None;
    report.step("target", boot::WHAT_TARGET, |step| {
        let (obtained, verdict) = bare::obtain(step, &workspace);
        libraries = obtained;
        // Whoever insists on QEMU wants the image booted on it.
        Ok(if require_qemu { boot::required(verdict) } else { verdict })
    });
    report.step("wasm", wasm::WHAT, |step| Ok(wasm::obtain(step, &workspace)));
    clippy(&mut report, &workspace, libraries.as_ref());
    report.step("msrv", "builds with the oldest supported Rust", |step| msrv(step, &workspace));

    let mut found = None;
    report.step("qemu", "find or install QEMU", |step| {
        let (qemu, verdict) = qemu::obtain(step, &workspace, &surroundings, require_qemu);
        found = qemu;
        Ok(verdict)
    });

    report.step("size", size::WHAT, |step| match &libraries {
        Some(libraries) => size::check(step, &workspace, libraries),
        None => Ok(Verdict::skipped(format!("no core for {}", bare::TARGET))),
    });
    boot::check(&mut report, &workspace, libraries.as_ref(), found.as_ref());

    let built = report.step("build", "cargo test --workspace --no-run", |step| {
        step.check(&mut workspace.cargo(["test", "--workspace", "--no-run"]))
    });
    if built {
        check_what_was_built(&mut report, &workspace, found.as_ref());
    } else {
        for name in [
            "test",
            "mutation",
            "left-out",
            "loom",
            "contention",
            "doc",
            "run",
            "fuzz",
            "parsers",
            "stress",
            "perf",
        ] {
            report.step(name, "not run", |_| Ok(Verdict::skipped("the workspace does not build")));
        }
    }
    Ok(report.close())
}

fn check_what_was_built(report: &mut Report, workspace: &Workspace, qemu: Option<&Qemu>) {
    report.step("test", "cargo test --workspace (unit, property, doc, QEMU)", |step| {
        // All failures are to be seen, not only those of the first binary that has one.
        let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
        run_tests(step, with_qemu(&mut command, qemu))
    });
    report.step("mutation", "a driver with a step left out is caught", |step| {
        let mut command = workspace.cargo(["test", "-p", "smmuv3-testbench"]);
        command.args(["--features", "mutation", "--test", "mutation"]);
        run_tests(step, with_qemu(&mut command, qemu))
    });
    report.step("left-out", mutation::WHAT, |step| {
        mutation::check(step, workspace, |step, command| run_tests(step, with_qemu(command, qemu)))
    });
    report
        .step("loom", "loom tests, every interleaving within bounds", |step| loom(step, workspace));
    report.step("contention", "the command queue under shuttle, sixteen CPUs", |step| {
        run_tests(step, &mut contention(workspace))
    });
    report.step("doc", "cargo doc --workspace --no-deps, no warnings", |step| doc(step, workspace));
    report.step("run", "cargo run --release, the default scenario", |step| {
        step.check(&mut workspace.cargo(["run", "--release"]))
    });
    report.step("fuzz", "random scenarios of a fixed slice of seeds", |step| {
        let mut command = workspace.cargo(["run", "--release", "--", "fuzz", "--keep-going"]);
        command.args(["--seeds", "0..40", "--steps", "1000", "--out"]);
        step.check(command.arg(workspace.target.join("xtask").join("fuzz")))
    });
    report.step("parsers", parsers::WHAT, |step| {
        let campaign = parsers::Campaign { targets: Vec::new(), runs: None, seed: 1 };
        parsers::run(step, workspace, &campaign)
    });
    report.step("stress", "the driver on eight threads for 30 seconds, under its rules", |step| {
        let mut command = workspace.cargo(["run", "--release", "--", "stress"]);
        step.check(command.args(["--seconds", "30", "--seed", "1"]))
    });
    report.step("perf", perf::WHAT, |step| perf::check(step, workspace));
}

fn introduce(report: &Report, workspace: &Workspace) {
    let rustc = environment::output_of(Command::new("rustc").arg("--version"));
    let rustc = rustc.as_deref().map_or("rustc not found", str::trim);
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let logs = workspace.target.join("xtask");
    let logs = logs.strip_prefix(&workspace.root).unwrap_or(&logs);
    report.say(&format!("{rustc}, {cpus} CPUs, logs in {}/", logs.display()));
}

/// Installs rustfmt and clippy through rustup where they are missing.
fn tools(step: &mut Step, workspace: &Workspace) -> Result<Verdict> {
    let missing: Vec<&str> = [("rustfmt", "fmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(_, command)| !environment::succeeds(&mut workspace.cargo([command, "--version"])))
        .map(|(component, _)| component)
        .collect();
    if missing.is_empty() {
        return Ok(Verdict::passed(""));
    }
    let names = missing.join(" and ");
    if environment::find_on_path("rustup").is_none() {
        return Ok(Verdict::failed(format!("{names} missing, and no rustup to install it with")));
    }
    let mut command = Command::new("rustup");
    workspace.prepare(command.args(["component", "add"]).args(&missing));
    Ok(if step.run(&mut command)?.success() {
        Verdict::passed(format!("installed {names}"))
    } else {
        Verdict::failed(format!("{names} missing, and rustup could not install it"))
    })
}

/// Clippy with warnings as errors: the workspace, the driver without its heap layer, and the
/// `no_std` packages for a target that has no `std` to lean on by mistake.
fn clippy(report: &mut Report, workspace: &Workspace, libraries: Option<&Libraries>) {
    const DENY: [&str; 3] = ["--", "-D", "warnings"];
    report.step("clippy", "cargo clippy --workspace --all-targets", |step| {
        let arguments = ["clippy", "--workspace", "--all-targets"].into_iter().chain(DENY);
        step.check(&mut workspace.cargo(arguments))
    });
    report.step(
        "clippy-core",
        "cargo clippy -p smmuv3 --no-default-features --all-targets",
        |step| {
            let arguments = ["clippy", "-p", "smmuv3", "--no-default-features", "--all-targets"];
            let arguments = arguments.into_iter().chain(DENY);
            step.check(&mut workspace.cargo(arguments))
        },
    );
    report.step(
        "features",
        "cargo clippy and test of the driver, without a part or with one alone",
        |step| features(step, workspace),
    );
    let absent = || Ok(Verdict::skipped(format!("no core for {}", bare::TARGET)));
    report.step("clippy-bare", "cargo clippy of the no_std packages, bare target", |step| {
        let Some(libraries) = libraries else { return absent() };
        let packages = BARE_PACKAGES.iter().flat_map(|package| ["-p", *package]);
        let arguments = ["clippy", "--target", bare::TARGET, "--features", BARE_FEATURES];
        let mut command = workspace.cargo(arguments.into_iter().chain(packages).chain(DENY));
        libraries.apply(&mut command);
        step.check(&mut command)
    });
    report.step("clippy-image", "cargo clippy of baremetal/", |step| {
        let Some(libraries) = libraries else { return absent() };
        // Each by itself: together they would share the driver's features.
        for package in ["smmuv3-baremetal", "smmuv3-firmware", "smmuv3-size"] {
            let mut command = boot::cargo(workspace, libraries, "clippy");
            let verdict = step.check(command.args(["--package", package]).args(DENY))?;
            if verdict.tally.failed > 0 {
                return Ok(verdict);
            }
        }
        Ok(Verdict::passed(""))
    });
}

/// Clippy, the unit tests, and the test on the model, of the driver with none of the parts that can be left out, and with each
/// alone; all tests of page tables whose general way does everything; and random runs, judged by the oracle, of a driver of
/// which that is so, also where the tables have shorter ways that it does not take.
fn features(step: &mut Step, workspace: &Workspace) -> Result<Verdict> {
    let general = ["-p", "smmuv3-pagetable", "--no-default-features", "--features", "resizing"];
    let clippy =
        ["clippy"].into_iter().chain(general).chain(["--all-targets", "--", "-D", "warnings"]);
    let verdict = step.check(&mut workspace.cargo(clippy))?;
    if verdict.tally.failed > 0 {
        return Ok(verdict);
    }
    let judged = ["test", "-p", "smmuv3-testbench", "--no-default-features", "--test", "runs"];
    let beside = judged.into_iter().chain(["--features", "smmuv3-pagetable/fast-paths"]);
    let tables = ["test"].into_iter().chain(general);
    let mut last = run_tests(step, &mut workspace.cargo(tables))?;
    if last.tally.failed > 0 {
        return Ok(last);
    }
    for mut command in [workspace.cargo(judged), workspace.cargo(beside)] {
        last = run_tests(step, &mut command)?;
        if last.tally.failed > 0 {
            return Ok(last);
        }
    }
    for features in FEATURES {
        let driver = ["-p", "smmuv3", "--no-default-features", "--features", features];
        let clippy =
            ["clippy"].into_iter().chain(driver).chain(["--all-targets", "--", "-D", "warnings"]);
        let verdict = step.check(&mut workspace.cargo(clippy))?;
        if verdict.tally.failed > 0 {
            return Ok(verdict);
        }
        let tests = ["--lib", "--test", "story"];
        let test = ["test"].into_iter().chain(driver).chain(tests);
        // With those before it: the step has one log.
        last = run_tests(step, &mut workspace.cargo(test))?;
        if last.tally.failed > 0 {
            break;
        }
    }
    Ok(last)
}

/// Builds with the `rust-version` of Cargo.toml, where this toolchain is a newer one.
fn msrv(step: &mut Step, workspace: &Workspace) -> Result<Verdict> {
    let manifest = fs::read_to_string(workspace.root.join("Cargo.toml"))?;
    let oldest = rust_version(&manifest).context("Cargo.toml states no rust-version")?;
    let rustc = environment::output_of(Command::new("rustc").arg("--version"))
        .context("`rustc --version` fails")?;
    let current = rustc.split_whitespace().nth(1).context("`rustc --version` prints no version")?;
    if is_release_of(current, &oldest) {
        return Ok(Verdict::passed(format!("{oldest}, as all checks: this is Rust {current}")));
    }

    // Named in full or in short, as it was installed.
    let names = [oldest.clone(), format!("{oldest}.0")];
    let installed = |name: &&String| {
        let mut probe = Command::new("rustup");
        environment::succeeds(probe.args(["run", name, "rustc", "--version"]))
    };
    let Some(toolchain) = names.iter().find(installed) else {
        return Ok(Verdict::skipped(format!(
            "this is Rust {current}, and {oldest} is not installed"
        )));
    };
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo", "check", "--workspace", "--all-targets"]);
    workspace.prepare(&mut command);
    // Both would lead back to the newer toolchain.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    command.env("CARGO_TARGET_DIR", workspace.target.join("msrv"));
    step.check(&mut command)
}

/// The value of the first `rust-version = "..."` of a manifest.
fn rust_version(manifest: &str) -> Option<String> {
    manifest.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "rust-version").then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Whether the version `current` (`1.95.0`) is a release of `series` (`1.95` or `1.95.0`).
fn is_release_of(current: &str, series: &str) -> bool {
    current.strip_prefix(series).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Tells tests which QEMU to use, or that there is none.
fn with_qemu<'a>(command: &'a mut Command, qemu: Option<&Qemu>) -> &'a mut Command {
    for variable in ["SMMUV3_QEMU", "SMMUV3_REQUIRE_QEMU"] {
        command.env_remove(variable);
    }
    if let Some(qemu) = qemu {
        command.env("SMMUV3_QEMU", &qemu.path).env("SMMUV3_REQUIRE_QEMU", "1");
    }
    command
}

/// Runs tests and counts them; a test that skips itself adds a line to `$SMMUV3_SKIPPED`.
fn run_tests(step: &mut Step, command: &mut Command) -> Result<Verdict> {
    let skips_file = step.file("skipped");
    fs::write(&skips_file, "").with_context(|| format!("cannot write {}", skips_file.display()))?;
    let status = step.run(command.env("SMMUV3_SKIPPED", &skips_file))?;

    let skips = fs::read_to_string(&skips_file)
        .with_context(|| format!("cannot read {}", skips_file.display()))?;
    let skips: Vec<String> =
        skips.lines().filter(|line| !line.is_empty()).map(Into::into).collect();
    let run = TestRun::parse(&step.output()?).corrected(status.success(), skips.len());
    let summary = match run.doc_tests {
        0 => run.tally.to_string(),
        count => format!("{}, {count} of them doc tests", run.tally),
    };
    let mut verdict = Verdict::new(run.tally, summary);
    verdict.skipped_tests = skips;
    if verdict.tally == Tally::default() {
        return Ok(Verdict::failed("no test was run"));
    }
    Ok(verdict)
}

fn loom(step: &mut Step, workspace: &Workspace) -> Result<Verdict> {
    let mut command =
        with_atomics_of(workspace, "loom", &["smmuv3", "smmuv3-pagetable", "smmuv3-dma"]);
    run_tests(step, command.arg("loom"))
}

/// Counts what the command queue costs under shuttle, and prints it as a table.
pub fn contention(workspace: &Workspace) -> Command {
    let mut command = with_atomics_of(workspace, "shuttle", &["smmuv3"]);
    command.args(["contention", "--nocapture"]);
    command
}

/// `cargo test` of the libraries `packages` with the atomics of `tool`, which takes their place in the whole build:
/// hence a folder of its own. The test's name is to be added.
fn with_atomics_of(workspace: &Workspace, tool: &str, packages: &[&str]) -> Command {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(&format!(" --cfg {tool} -D warnings"));
    let packages = packages.iter().flat_map(|package| ["-p", *package]);
    let mut command = workspace.cargo(["test"].into_iter().chain(packages));
    command.args(["--lib", "--release", "--"]);
    command.env("RUSTFLAGS", flags.trim()).env("CARGO_TARGET_DIR", workspace.target.join(tool));
    command
}

fn doc(step: &mut Step, workspace: &Workspace) -> Result<Verdict> {
    let mut command =
        workspace.cargo(["doc", "--workspace", "--no-deps", "--features", BARE_FEATURES]);
    let verdict = step.check(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    // Cargo's own warnings (two crates whose pages overwrite each other) are not errors to rustdoc.
    let warned = step.output()?.lines().any(|line| line.starts_with("warning: "));
    Ok(if verdict.tally.failed == 0 && warned { Verdict::failed("cargo warned") } else { verdict })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may not be called in the libraries is the same in all of them; clippy looks for it beside each.
    #[test]
    fn the_lists_of_banned_calls_are_alike() {
        let root = Workspace::find().unwrap().root;
        let read =
            |name: &str| fs::read_to_string(root.join("crates").join(name).join("clippy.toml"));
        let driver = read("driver").unwrap();
        for name in ["dma", "discovery"] {
            assert!(read(name).unwrap() == driver, "crates/{name}/clippy.toml");
        }
    }

    #[test]
    fn the_oldest_rust_is_read_from_the_manifest() {
        let manifest = "[workspace.package]\nedition = \"2024\"\nrust-version = \"1.95\"\n";
        assert_eq!(rust_version(manifest).as_deref(), Some("1.95"));
        assert_eq!(rust_version("rust-version.workspace = true\n"), None);
    }

    #[test]
    fn a_release_belongs_to_its_series_only() {
        assert!(is_release_of("1.95.0", "1.95"));
        assert!(is_release_of("1.95.0", "1.95.0"));
        assert!(!is_release_of("1.96.0", "1.95"));
        assert!(!is_release_of("1.950.0", "1.95"));
        assert!(!is_release_of("1.95.0", "1.9"));
    }
}
