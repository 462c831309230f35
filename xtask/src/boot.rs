// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask boot`: builds the bare-metal image, boots it under QEMU, and ends with its verdict.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bare::{self, Libraries};
use crate::environment::{self, Workspace};
use crate::figures;
use crate::machine::{self, Machine};
use crate::perf;
use crate::qemu::{self, Qemu, Surroundings};
use crate::registers::{self, Figure};
use crate::report::{self, Report, Step, Verdict};
use crate::tally::Tally;

/// The image's package, in a workspace of its own.
const MANIFEST: &str = "baremetal/Cargo.toml";

/// How long the machine may run. The image gives up by itself before.
const LIMIT: Duration = Duration::from_secs(360);

/// The exit status when the machine was still running then, as of timeout(1).
const TIMED_OUT: u8 = 124;

/// Which image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// That of the checks.
    #[default]
    Checks,
    /// The small one, without a heap; it takes no words.
    Firmware,
    /// That of SMMUs in memory, which only measures.
    Rig,
}

/// How the image is built and what it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Which.
    pub program: Program,
    /// The step of the driver to leave out; such an image has the driver's feature `mutation`.
    pub leave_out: Option<String>,
    /// Words `NAME=VALUE` for the image.
    pub arguments: Vec<String>,
    /// Instructions are counted: time passes by them, and everything is the same each time.
    pub counts: bool,
}

impl Image {
    /// Its package.
    fn package(&self) -> &'static str {
        match self.program {
            Program::Checks | Program::Rig => "smmuv3-baremetal",
            Program::Firmware => "smmuv3-firmware",
        }
    }

    /// Its name.
    fn name(&self) -> &'static str {
        match self.program {
            Program::Checks | Program::Firmware => self.package(),
            Program::Rig => "smmuv3-rig",
        }
    }

    /// Where it is: the one that was built last.
    fn file(&self, workspace: &Workspace) -> PathBuf {
        target(workspace).join(bare::TARGET).join("release").join(self.name())
    }

    /// How it is booted.
    fn command(&self, machine: Machine, qemu: &Qemu, workspace: &Workspace) -> Result<Command> {
        let disk = machine::write_disk(&target(workspace))?;
        let mut command = machine.command(qemu, &disk, &self.file(workspace));
        if self.counts {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        let words = self.words();
        if !words.is_empty() {
            command.args(["-append", &words]);
        }
        Ok(command)
    }

    /// What goes into `bootargs` of the device tree.
    fn words(&self) -> String {
        let leave_out = self.leave_out.iter().map(|step| format!("leave-out={step}"));
        // Whoever waits by an interrupt takes it, too.
        let counts = self.counts.then(|| String::from("count=1 completion=poll"));
        let words = leave_out.chain(counts).chain(self.arguments.iter().cloned());
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The machines that `cargo xtask test` boots on, and the names of its steps.
const MACHINES: [(&str, Machine); 5] = [
    ("boot-el1", Machine { cpus: 1, level: 1, smmus: 1 }),
    ("boot-el1-smp", Machine { cpus: 4, level: 1, smmus: 1 }),
    ("boot-el2", Machine { cpus: 1, level: 2, smmus: 1 }),
    ("boot-el2-smp", Machine { cpus: 4, level: 2, smmus: 1 }),
    ("boot-two", Machine { cpus: 4, level: 1, smmus: 2 }),
];

/// Builds the image and boots it, with its output on the screen; the exit status is the image's.
pub fn alone(machine: Machine, image: &Image, qemu: Option<PathBuf>) -> Result<u8> {
    let workspace = Workspace::find()?;
    let surroundings = Surroundings::look(&workspace, qemu);
    let mut report = Report::new(workspace.target.join("xtask"))?;
    let (libraries, qemu) = set_up(&mut report, &workspace, &surroundings);
    let (Some(libraries), Some(qemu)) = (libraries, qemu) else { return Ok(1) };
    if machine.smmus > 1 {
        ensure!(qemu.has_several_smmus(), "two SMMUs need QEMU 11.1, and this is an older one");
        report.say(
            "QEMU will say that one is for a device tree only: the image reads the ACPI tables",
        );
    }
    let built = report.step("image", WHAT_IMAGE, |step| build(step, &workspace, &libraries, image));
    if !built {
        return Ok(1);
    }
    let mut command = image.command(machine, &qemu, &workspace)?;
    report.say(&format!("boot         {machine}, {}\n", report::shown(&command)));
    let child = command.stdin(Stdio::null()).spawn().context("cannot start QEMU")?;
    let Some(status) = report::wait(child, Some(LIMIT), &mut |_| {})? else {
        report.say(&format!("\nQEMU was still running after {} s", LIMIT.as_secs()));
        return Ok(TIMED_OUT);
    };
    if status.code().is_none() {
        report.say(&format!("\nQEMU died: {status}"));
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Builds the image and boots it, on each machine, in steps of their own.
pub fn check(
    report: &mut Report,
    workspace: &Workspace,
    libraries: Option<&Libraries>,
    qemu: Option<&Qemu>,
) {
    let mut built = false;
    report.step("image", WHAT_IMAGE, |step| {
        let Some(libraries) = libraries else {
            return Ok(Verdict::skipped(format!("no core for {}", bare::TARGET)));
        };
        let verdict = build(step, workspace, libraries, &Image::default())?;
        built = verdict.tally.failed == 0;
        Ok(verdict)
    });
    for (name, machine) in MACHINES {
        report.step(name, &format!("the image on registers, {machine}"), |step| match qemu {
            _ if !built => Ok(Verdict::skipped("there is no image")),
            None => Ok(Verdict::skipped("there is no QEMU")),
            Some(qemu) if machine.smmus > 1 && !qemu.has_several_smmus() => {
                Ok(Verdict::skipped("this QEMU has one SMMU a machine"))
            }
            Some(qemu) => boot(step, workspace, qemu, machine, &Image::default()),
        });
    }
    report.step("firmware", "the image without a heap, at EL1 and EL2", |step| {
        match (libraries, qemu) {
            (Some(libraries), Some(qemu)) => boot_firmware(step, workspace, libraries, qemu),
            (None, _) => Ok(Verdict::skipped("there is no image")),
            (_, None) => Ok(Verdict::skipped("there is no QEMU")),
        }
    });
    report.step("boot-count", WHAT_COMPARE, |step| match (libraries, qemu) {
        (Some(libraries), Some(qemu)) if built => {
            let rig = Image { program: Program::Rig, ..Image::default() };
            let rig = build(step, workspace, libraries, &rig)?;
            if rig.tally.failed > 0 {
                return Ok(rig);
            }
            compare(step, workspace, libraries, qemu)
        }
        (_, Some(_)) => Ok(Verdict::skipped("there is no image")),
        (_, None) => Ok(Verdict::skipped("there is no QEMU")),
    });
    report.step("boot-wrong", "images with a step left out, or that die, say so", |step| {
        match (libraries, qemu) {
            (Some(libraries), Some(qemu)) => boot_wrong(step, workspace, libraries, qemu),
            (None, _) => Ok(Verdict::skipped("there is no image")),
            (_, None) => Ok(Verdict::skipped("there is no QEMU")),
        }
    });
}

/// Boots on each machine, as `cargo xtask test` does.
pub fn check_alone(qemu: Option<PathBuf>) -> Result<Tally> {
    let workspace = Workspace::find()?;
    let surroundings = Surroundings::look(&workspace, qemu);
    let mut report = Report::new(workspace.target.join("xtask"))?;
    let (libraries, qemu) = set_up(&mut report, &workspace, &surroundings);
    check(&mut report, &workspace, libraries.as_ref(), qemu.as_ref());
    Ok(report.close())
}

/// Gets what it takes to build the image and to boot it.
fn set_up(
    report: &mut Report,
    workspace: &Workspace,
    surroundings: &Surroundings,
) -> (Option<Libraries>, Option<Qemu>) {
    let (mut libraries, mut found) = (None, None);
    report.step("target", WHAT_TARGET, |step| {
        let (obtained, verdict) = bare::obtain(step, workspace);
        libraries = obtained;
        Ok(required(verdict))
    });
    report.step("qemu", "find or install QEMU", |step| {
        let (qemu, verdict) = qemu::obtain(step, workspace, surroundings, true);
        found = qemu;
        Ok(verdict)
    });
    (libraries, found)
}

/// Builds the image, counts the instructions of the driver's calls, and shows them. With `write`, docs/performance.md
/// is to have them.
pub fn count(qemu: Option<PathBuf>, write: bool) -> Result<Tally> {
    let workspace = Workspace::find()?;
    let surroundings = Surroundings::look(&workspace, qemu);
    let mut report = Report::new(workspace.target.join("xtask"))?;
    let (libraries, qemu) = set_up(&mut report, &workspace, &surroundings);
    let mut counted = Vec::new();
    if let (Some(libraries), Some(qemu)) = (libraries, qemu) {
        ensure!(!write || libraries.are_optimised(), "{NOT_OPTIMISED}: nothing to be recorded");
        let images = [Image::default(), Image { program: Program::Rig, ..Image::default() }];
        let built = images.iter().all(|image| {
            let build = |step: &mut Step| build(step, &workspace, &libraries, image);
            report.step(image.name(), WHAT_IMAGE, build)
        });
        if built {
            report.step("boot-count", WHAT_COUNT, |step| {
                let (verdict, figures) = count_twice(step, &workspace, &qemu)?;
                counted = figures;
                Ok(verdict)
            });
        }
    }
    for figure in &counted {
        report.say(&figure.to_string());
    }
    if write && !counted.is_empty() {
        let page = registers::replaced(&perf::recorded(&workspace)?, &counted)?;
        perf::record(&workspace, &page)?;
    }
    Ok(report.close())
}

/// CPUs that are measured at once.
const AT_ONCE: [u8; 4] = [1, 2, 3, 4];

/// Builds the image of SMMUs in memory, and has it measure what CPUs do at once; what it printed, without the rest.
fn scale(
    report: &mut Report,
    workspace: &Workspace,
    libraries: &Libraries,
    qemu: &Qemu,
) -> Option<String> {
    let image = Image {
        program: Program::Rig,
        arguments: vec![String::from("scaling=1")],
        ..Image::default()
    };
    if !report.step(image.name(), WHAT_IMAGE, |step| build(step, workspace, libraries, &image)) {
        return None;
    }
    let mut rows = String::new();
    let measured = report.step("boot-scaling", WHAT_SCALE, |step| {
        for cpus in AT_ONCE {
            let before = step.output().map_or(0, |output| output.len());
            let machine = Machine { cpus, level: 1, smmus: 1 };
            let verdict = boot(step, workspace, qemu, machine, &image)?;
            if verdict.tally.failed > 0 {
                return Ok(verdict);
            }
            let output = step.output()?.split_off(before);
            for line in output.lines().filter(|line| line.trim_end().ends_with(RATE)) {
                rows.push_str(line.trim_end());
                rows.push('\n');
            }
        }
        Ok(Verdict::passed(format!("up to {} CPUs", AT_ONCE.len())))
    });
    measured.then_some(rows)
}

/// The unit of such lines.
const RATE: &str = "thousand/s";

/// What the step of [`scale`] is for.
const WHAT_SCALE: &str = "CPUs of QEMU that map and unmap at once";

/// Measures what CPUs do at once, and shows it.
pub fn scaling(qemu: Option<PathBuf>) -> Result<Tally> {
    let workspace = Workspace::find()?;
    let surroundings = Surroundings::look(&workspace, qemu);
    let mut report = Report::new(workspace.target.join("xtask"))?;
    if let (Some(libraries), Some(qemu)) = set_up(&mut report, &workspace, &surroundings)
        && let Some(rows) = scale(&mut report, &workspace, &libraries, &qemu)
    {
        report.say(rows.trim_end());
    }
    Ok(report.close())
}

/// The same, for a page: the rows, if it can be done here.
pub fn rates(workspace: &Workspace) -> Result<Option<String>> {
    let surroundings = Surroundings::look(workspace, None);
    let mut report = Report::new(workspace.target.join("xtask"))?;
    let rows = match set_up(&mut report, workspace, &surroundings) {
        (Some(libraries), Some(qemu)) => scale(&mut report, workspace, &libraries, &qemu),
        _ => None,
    };
    report.close();
    Ok(rows)
}

/// What the step of [`count_twice`] is for.
const WHAT_COUNT: &str = "instructions of the driver's calls, the same twice";

/// Why figures mean nothing with libraries of a folder of their own.
const NOT_OPTIMISED: &str =
    "libraries without bitcode, so the image is not optimised when it is linked";

/// What the step of [`compare`] is for.
const WHAT_COMPARE: &str =
    "instructions on registers, the same twice, are those of docs/performance.md";

/// Has the image count, and compares with the page, where that was made with the same compiler.
fn compare(
    step: &mut Step,
    workspace: &Workspace,
    libraries: &Libraries,
    qemu: &Qemu,
) -> Result<Verdict> {
    let (verdict, figures) = count_twice(step, workspace, qemu)?;
    let page = perf::recorded(workspace)?;
    let [recorded, _] = figures::place_of(&page)?;
    if verdict.tally.failed > 0 {
        return Ok(verdict);
    }
    if !libraries.are_optimised() {
        let summary = format!("{}; not compared: {NOT_OPTIMISED}", verdict.summary);
        return Ok(Verdict::skipped(summary));
    }
    let rustc = environment::output_of(Command::new("rustc").arg("--version"));
    if rustc.as_deref().map(str::trim) != Some(&recorded) {
        let summary = format!("{}; not compared: recorded with {recorded}", verdict.summary);
        return Ok(Verdict::skipped(summary));
    }
    let agreed = registers::check(&page, &figures)?;
    Ok(Verdict::passed(format!("{agreed} figures within 5 %")))
}

/// What counts, in the order of the page, and on how many CPUs.
const COUNTING: [(Program, u8); 2] = [(Program::Checks, 1), (Program::Rig, 1)];

/// Has the images count, twice; what they printed.
fn count_twice(
    step: &mut Step,
    workspace: &Workspace,
    qemu: &Qemu,
) -> Result<(Verdict, Vec<Figure>)> {
    let mut figures = Vec::new();
    for (program, cpus) in COUNTING {
        let machine = Machine { cpus, level: 1, smmus: 1 };
        let image = Image { program, counts: true, ..Image::default() };
        let mut outputs = Vec::new();
        for _ in 0..2 {
            // Nothing was printed before the first.
            let before = step.output().map_or(0, |output| output.len());
            let mut command = image.command(machine, qemu, workspace)?;
            let status = step.run_within(command.stdin(Stdio::null()), LIMIT)?;
            let output = step.output()?.split_off(before);
            let verdict = judge(status, &output);
            if verdict.tally.failed > 0 {
                return Ok((verdict, Vec::new()));
            }
            outputs.push(registers::parse(&output));
        }
        if outputs.first() != outputs.last() {
            let reason = format!("two runs of {} differ", image.name());
            return Ok((Verdict::failed(reason), Vec::new()));
        }
        figures.extend(outputs.pop().unwrap_or_default());
    }
    let verdict = Verdict::passed(format!("{} figures", figures.len()));
    Ok((verdict, figures))
}

/// What the step of [`bare::obtain`] is for.
pub const WHAT_TARGET: &str = "find or install core for the bare-metal target";

/// What the step of [`build`] is for.
const WHAT_IMAGE: &str = "cargo build --release of baremetal/";

/// What must not be skipped.
pub fn required(verdict: Verdict) -> Verdict {
    if verdict.tally.passed == 0 { Verdict::failed(verdict.summary) } else { verdict }
}

/// A cargo command about the image.
pub fn cargo(workspace: &Workspace, libraries: &Libraries, task: &str) -> Command {
    let mut command =
        workspace.cargo([task, "--manifest-path", MANIFEST, "--target", bare::TARGET, "--release"]);
    command.env("CARGO_TARGET_DIR", target(workspace));
    libraries.apply(&mut command);
    command
}

/// `cargo fmt` of both images, as a check.
pub fn fmt(workspace: &Workspace) -> Command {
    let arguments =
        ["fmt", "--all", "--manifest-path", MANIFEST, "--check", "--", "--color", "never"];
    workspace.cargo(arguments)
}

/// Builds the image.
fn build(
    step: &mut Step,
    workspace: &Workspace,
    libraries: &Libraries,
    image: &Image,
) -> Result<Verdict> {
    let mut command = cargo(workspace, libraries, "build");
    // One at a time: together they would share the driver's features.
    command.args(["--package", image.package(), "--bin", image.name()]);
    if image.leave_out.is_some() {
        command.args(["--features", "mutation"]);
    }
    step.check(&mut command)
}

/// The folder that the image is built in.
fn target(workspace: &Workspace) -> PathBuf {
    workspace.target.join("baremetal")
}

/// Boots the image, which is built, as a step.
fn boot(
    step: &mut Step,
    workspace: &Workspace,
    qemu: &Qemu,
    machine: Machine,
    image: &Image,
) -> Result<Verdict> {
    let mut command = image.command(machine, qemu, workspace)?;
    let status = step.run_within(command.stdin(Stdio::null()), LIMIT)?;
    Ok(judge(status, &step.output()?))
}

/// Builds the image without a heap, and boots it at both levels.
fn boot_firmware(
    step: &mut Step,
    workspace: &Workspace,
    libraries: &Libraries,
    qemu: &Qemu,
) -> Result<Verdict> {
    let image = Image { program: Program::Firmware, ..Image::default() };
    let mut verdict = build(step, workspace, libraries, &image)?;
    for level in [1, 2] {
        if verdict.tally.failed == 0 {
            let machine = Machine { cpus: 1, level, smmus: 1 };
            verdict = boot(step, workspace, qemu, machine, &image)?;
        }
    }
    Ok(verdict)
}

/// The exit status of an image of which a check failed.
const CHECK_FAILED: i32 = 1;

/// The exit status of an image that died.
const DIED: i32 = 2;

/// Images that must not pass: how many SMMUs, the step of the driver that is left out, what the image is told, and how it
/// must end.
const WRONG: [(u8, Option<&str>, &str, i32); 9] = [
    (1, Some("NoTlbi"), "limit=120", CHECK_FAILED),
    (1, Some("NoTlbi"), "only=stress limit=120", CHECK_FAILED),
    (1, Some("WrongAsid"), "limit=120", CHECK_FAILED),
    (1, Some("NoCfgi"), "limit=120", CHECK_FAILED),
    (1, Some("NoTagFlush"), "limit=120", CHECK_FAILED),
    (2, Some("OneInstanceOnly"), "limit=120", CHECK_FAILED),
    (1, None, "fail-by=panic", DIED),
    (1, None, "fail-by=exception", DIED),
    (1, None, "fail-by=hang limit=1", DIED),
];

/// Boots images with a step of the driver left out, and some that panic, take an exception, hang: each must say
/// so. They are all one file, with the driver's feature `mutation`.
fn boot_wrong(
    step: &mut Step,
    workspace: &Workspace,
    libraries: &Libraries,
    qemu: &Qemu,
) -> Result<Verdict> {
    let image = |leave_out: Option<&str>, arguments: &str| Image {
        leave_out: leave_out.map(Into::into),
        arguments: arguments.split_whitespace().map(Into::into).collect(),
        ..Image::default()
    };
    let built = build(step, workspace, libraries, &image(Some("any"), ""))?;
    if built.tally.failed > 0 {
        return Ok(built);
    }
    let possible = |smmus: u8| smmus == 1 || qemu.has_several_smmus();
    let mut caught = 0;
    for (smmus, leave_out, arguments, expected) in WRONG.into_iter().filter(|(n, ..)| possible(*n))
    {
        let machine = Machine { cpus: 2, level: 1, smmus };
        let image = image(leave_out, arguments);
        let before = step.output()?.len();
        let mut command = image.command(machine, qemu, workspace)?;
        let status = step.run_within(command.stdin(Stdio::null()), LIMIT)?;
        let status = status.and_then(|status| status.code());
        let output = step.output()?;
        let told = output[before..].lines().any(|line| line.starts_with("verdict: FAILED: "));
        if status != Some(expected) || !told {
            let words = image.words();
            let reason = format!("{words}: exit status {status:?} instead of {expected}");
            return Ok(Verdict::failed(if told { reason } else { reason + ", and no verdict" }));
        }
        caught += 1;
    }
    Ok(Verdict::passed(format!("{caught} images, each caught")))
}

/// What the end of QEMU and the output of the image mean.
fn judge(status: Option<ExitStatus>, output: &str) -> Verdict {
    let Some(status) = status else {
        return Verdict::failed(format!("still running after {} s", LIMIT.as_secs()));
    };
    let starting = |start| output.lines().rev().find(|line| line.starts_with(start));
    match (starting("verdict: "), status.success()) {
        (Some("verdict: ok"), true) => {
            let counts = output.lines().rev().find(|line| line.contains(" checks passed, "));
            Verdict::passed(counts.unwrap_or_default().trim())
        }
        (Some(verdict), _) => Verdict::failed(format!("{}, {status}", verdict.trim())),
        (None, _) => Verdict::failed(format!("no verdict, {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_a_verdict_and_an_exit_status_of_0_together_are_a_pass() {
        use std::os::unix::process::ExitStatusExt;
        let judge = |code: i32, output| judge(Some(ExitStatus::from_raw(code << 8)), output);
        let ok = "15 checks passed, 0 failed; 6 interrupts, 1.0 s\r\nverdict: ok\r\n";
        let passed = judge(0, ok);
        assert_eq!((passed.tally.passed, passed.tally.failed), (1, 0));
        assert_eq!(passed.summary, "15 checks passed, 0 failed; 6 interrupts, 1.0 s");
        for (code, output) in [
            (1, ok),
            (0, ""),
            (0, "verdict: FAILED: unmap\r\n"),
            (1, "verdict: FAILED: unmap\r\n"),
            (2, "qemu: no such device\n"),
        ] {
            assert_eq!(judge(code, output).tally.failed, 1, "{code} {output:?}");
        }
        assert_eq!(super::judge(None, ok).tally.failed, 1);
    }
}
