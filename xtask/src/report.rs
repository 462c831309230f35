// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report: a line for each step with its result and time, all output of those that failed.

use std::env;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tally::Tally;

/// How often a step that is still running says so.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How a step ended.
pub struct Verdict {
    pub tally: Tally,
    /// A few words after the result: counts, the reason.
    pub summary: String,
    /// Names and reasons of the single tests that were skipped.
    pub skipped_tests: Vec<String>,
}

impl Verdict {
    pub fn passed(summary: impl Into<String>) -> Self {
        Self::new(Tally::ONE_PASSED, summary)
    }

    pub fn failed(summary: impl Into<String>) -> Self {
        Self::new(Tally::ONE_FAILED, summary)
    }

    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::new(Tally::ONE_SKIPPED, reason)
    }

    pub fn new(tally: Tally, summary: impl Into<String>) -> Self {
        Self { tally, summary: summary.into(), skipped_tests: Vec::new() }
    }
}

/// A step that failed.
struct Failure {
    /// Its name and summary.
    line: String,
    /// What its commands complained of: the end of a report is often all that is kept of it.
    complaints: Vec<String>,
}

/// How many lines of what a failed step complained of are repeated at the end.
const COMPLAINTS: usize = 24;

/// Prints the steps as they happen and adds up how they ended.
pub struct Report {
    logs: PathBuf,
    colours: bool,
    total: Tally,
    /// The failed steps, repeated at the end.
    failures: Vec<Failure>,
    /// A line for each skipped step and test, repeated at the end.
    skips: Vec<String>,
}

impl Report {
    /// A report whose logs are written to the folder `logs`, emptied first.
    pub fn new(logs: PathBuf) -> Result<Self> {
        if logs.exists() {
            fs::remove_dir_all(&logs)
                .with_context(|| format!("cannot empty {}", logs.display()))?;
        }
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = io::stdout().is_terminal() && !no_color;
        let (failures, skips) = (Vec::new(), Vec::new());
        Ok(Self { logs, colours, total: Tally::default(), failures, skips })
    }

    /// Prints a line that belongs to no step.
    pub fn say(&self, line: &str) {
        put(&format!("{line}\n"));
    }

    /// Runs one step: announces it, does `work`, prints the result, and on failure the whole log.
    ///
    /// An `Err` of `work` is a failure like any other. Returns whether nothing in the step failed.
    pub fn step(
        &mut self,
        name: &'static str,
        what: &str,
        work: impl FnOnce(&mut Step) -> Result<Verdict>,
    ) -> bool {
        put(&format!("{name:<12} {what} ... "));
        let mut step =
            Step { name, log: self.logs.join(format!("{name}.log")), interrupted_line: false };
        let start = Instant::now();
        let verdict = work(&mut step).unwrap_or_else(|error| Verdict::failed(format!("{error:#}")));
        let seconds = start.elapsed().as_secs_f64();

        let again = if step.interrupted_line { format!("{name:<12} ") } else { String::new() };
        let (word, colour) = match verdict.tally {
            Tally { failed: 1.., .. } => ("FAILED", "31;1"),
            Tally { passed: 0, .. } => ("skipped", "33"),
            _ => ("ok", "32"),
        };
        let summary = &verdict.summary;
        let colon = if summary.is_empty() { "" } else { ": " };
        let word_painted = self.paint(word, colour);
        put(&format!("{again}{word_painted} ({seconds:.1} s){colon}{summary}\n"));

        self.total += verdict.tally;
        let line = format!("{name}: {summary}");
        if verdict.tally.failed > 0 {
            self.show_log(&step.log);
            self.failures.push(Failure { line, complaints: step.complaints() });
        } else if verdict.tally == Tally::ONE_SKIPPED && verdict.skipped_tests.is_empty() {
            self.skips.push(line);
        }
        self.skips.extend(verdict.skipped_tests);
        verdict.tally.failed == 0
    }

    /// Repeats what was skipped and what failed, and prints the closing line.
    pub fn close(self) -> Tally {
        put("\n");
        for skip in &self.skips {
            put(&format!("{} {skip}\n", self.paint("skipped", "33")));
        }
        for failure in &self.failures {
            put(&format!("{} {}\n", self.paint("FAILED", "31;1"), failure.line));
            for line in &failure.complaints {
                put(&format!("    {line}\n"));
            }
        }
        // Plain, alone on its line: programs look for it.
        put(&format!("{}\n", self.total));
        self.total
    }

    fn show_log(&self, log: &Path) {
        let Ok(output) = fs::read(log) else { return };
        put(&format!("---- all output, also in {} ----\n", log.display()));
        put(&String::from_utf8_lossy(&output));
        put("---- end of output ----\n");
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A step that is running.
pub struct Step {
    name: &'static str,
    log: PathBuf,
    /// The line that announced the step has been ended by something printed since.
    interrupted_line: bool,
}

impl Step {
    /// Runs `command` with all its output appended to the step's log, and waits for its end.
    pub fn run(&mut self, command: &mut Command) -> Result<ExitStatus> {
        let status = self.run_with(command, None)?;
        status.context("a command without a time limit exceeded it")
    }

    /// As [`Step::run`], but ends the command after `limit`: then there is no status.
    pub fn run_within(
        &mut self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<Option<ExitStatus>> {
        self.run_with(command, Some(limit))
    }

    fn run_with(
        &mut self,
        command: &mut Command,
        limit: Option<Duration>,
    ) -> Result<Option<ExitStatus>> {
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        writeln!(log, "$ {}", shown(command))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        wait(child, limit, &mut |since| self.say_running(since))
    }

    /// Passed when `command` ends with success, failed with its exit status otherwise.
    pub fn check(&mut self, command: &mut Command) -> Result<Verdict> {
        let status = self.run(command)?;
        Ok(if status.success() {
            Verdict::passed("")
        } else {
            Verdict::failed(format!("`{}`: {status}", shown(command)))
        })
    }

    /// Everything that the step's commands have printed so far.
    pub fn output(&self) -> Result<String> {
        let bytes =
            fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What the step's last command complained of: the last line that says it is an error, or the last of all.
    pub fn complaint(&self) -> String {
        let output = self.output().unwrap_or_default();
        let own = output.lines().rev().take_while(|line| !line.starts_with("$ "));
        let lines: Vec<&str> = own.collect();
        let error = lines.iter().find(|line| line.starts_with("error: "));
        error.or(lines.first()).map(|line| (*line).to_owned()).unwrap_or_default()
    }

    /// The lines of the step's log that say what is wrong, each with what explains it; its last lines where none does.
    fn complaints(&self) -> Vec<String> {
        let output = self.output().unwrap_or_default();
        complaints_of(&output.lines().collect::<Vec<&str>>())
    }

    /// A file beside the step's log with another ending, for its commands to write to.
    pub fn file(&self, extension: &str) -> PathBuf {
        self.log.with_extension(extension)
    }

    fn say_running(&mut self, since: Duration) {
        let output = self.output().unwrap_or_default();
        let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let last: String = last.trim().chars().take(70).collect();
        let line_end = if self.interrupted_line { "" } else { "\n" };
        put(&format!("{line_end}{:<12} running for {} s: {last}\n", self.name, since.as_secs()));
        self.interrupted_line = true;
    }
}

/// Of a log: the lines that begin as errors, failed tests and panics do, each with the few behind it; the last ones where
/// there are no such lines.
fn complaints_of(lines: &[&str]) -> Vec<String> {
    /// How many lines explain one that says that something is wrong.
    const BEHIND: usize = 5;
    let failed = |line: &str| line.starts_with("test ") && line.ends_with("FAILED");
    let complains = |line: &str| line.starts_with("error") || line.contains(" panicked at ");
    let mut found: Vec<String> = Vec::new();
    let mut behind = 0;
    for line in lines {
        behind = match (complains(line), failed(line)) {
            (true, _) => BEHIND + 1,
            (false, true) => behind.max(1),
            (false, false) => behind,
        };
        if behind > 0 && !line.trim().is_empty() {
            found.push((*line).to_owned());
        }
        behind = behind.saturating_sub(1);
    }
    if found.is_empty() {
        let last = lines.iter().rev().take(COMPLAINTS / 2).rev();
        return last.map(|line| (*line).to_owned()).collect();
    }
    found.truncate(COMPLAINTS);
    found
}

/// Waits for the end of `child`, and says now and then that it is still running. After `limit` it is ended; then there
/// is no status.
pub fn wait(
    mut child: Child,
    limit: Option<Duration>,
    say_running: &mut dyn FnMut(Duration),
) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut next_heartbeat = HEARTBEAT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if limit.is_some_and(|limit| start.elapsed() >= limit) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
        if start.elapsed() >= next_heartbeat {
            say_running(next_heartbeat);
            next_heartbeat += HEARTBEAT;
        }
    }
}

/// A command as a person would type it, without the folder of its program.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

/// Prints at once. A reader who has gone away (`| head`) must not end the checks half-way.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_step_complained_of_is_found_in_its_log() {
        let log = "$ cargo test\n   Compiling a\nerror: linking failed\n  = note: no space\n\na\nb\nc\nd\ne\n";
        let lines: Vec<&str> = log.lines().collect();
        let found = complaints_of(&lines);
        assert_eq!(found, ["error: linking failed", "  = note: no space", "a", "b", "c"]);
        let tests = ["test a ... ok", "test b ... FAILED", "test c ... ok"];
        assert_eq!(complaints_of(&tests), ["test b ... FAILED"]);
        let many = vec!["error: again"; 3 * COMPLAINTS];
        assert_eq!(complaints_of(&many).len(), COMPLAINTS);
        assert_eq!(complaints_of(&["one", "two"]), ["one", "two"]);
        assert_eq!(complaints_of(&vec!["fine"; 100]).len(), COMPLAINTS / 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_takes_too_long_is_ended_and_has_no_status() {
        let start = Instant::now();
        let child = Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let status = wait(child, Some(Duration::from_millis(50)), &mut |_| {});
        assert!(status.expect("it can be waited for").is_none());
        assert!(start.elapsed() < Duration::from_secs(30));
        let child = Command::new("true").spawn().expect("true starts");
        let status = wait(child, Some(Duration::from_secs(30)), &mut |_| {}).expect("it ends");
        assert!(status.is_some_and(|status| status.success()));
    }
}
