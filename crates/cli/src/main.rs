// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `smmuv3`: explains what SMMUs and their drivers say, and runs the driver on a modelled or emulated one.
//!
//! Exit status 0: nothing is wrong. 1: something is, or a rule did not hold. 2: the input could not be used.

mod args;
mod asid;
mod command;
mod decode_log;
mod encode;
mod explore;
mod fields;
mod firmware;
mod fuzz;
mod generated;
mod hex;
mod image;
mod input;
mod machine;
mod output;
mod picture;
mod plot;
mod progress;
mod report;
mod sid;
mod source;
mod stress;
mod tlbi;
mod update;

#[cfg(test)]
mod hostile;
mod structure;
mod walk;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use smmuv3_testbench::lab::LabError;
use smmuv3_testbench::report::Report;
use smmuv3_testbench::run::{Choice, Options, RunError};
use smmuv3_testbench::scenario::{Scenario, ScenarioErrors};
use smmuv3_testbench::trace::Tracer;

use crate::args::{Cli, Command, MachineName, Run};
use crate::report::Setting;
use crate::source::SourceError;

/// All rules held.
const HELD: u8 = 0;
/// A rule was broken.
const BROKEN: u8 = 1;
/// The input could not be used.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let status = Cli::try_parse()
        .map_err(Failure::Usage)
        .and_then(|cli| match cli.command {
            None => execute(&Run::bare()),
            Some(Command::Run(run)) => execute(&run),
            Some(Command::Picture(picture)) => draw(&picture.trace),
            Some(Command::Fuzz(fuzz)) => fuzz::execute(&fuzz),
            Some(Command::Asid(asid)) => asid::execute(&asid),
            Some(Command::Stress(stress)) => stress::execute(&stress),
            Some(Command::Sid(sid)) => sid::execute(&sid),
            Some(Command::Tlbi(tlbi)) => tlbi::execute(&tlbi),
            Some(Command::Iort(iort)) => machine::iort(&iort),
            Some(Command::Dt(dt)) => machine::device_tree(&dt),
            Some(Command::Update(update)) => update::execute(&update),
            Some(Command::Completions(completions)) => generated::completions(&completions),
            Some(Command::Man(man)) => generated::man(&man),
            Some(Command::Explore(explore)) => explore::execute(&explore),
            Some(Command::Decode(decode)) => structure::decode(&decode),
            Some(Command::Encode(encode)) => encode::execute(&encode),
            Some(Command::Fields(fields)) => fields::execute(&fields),
            Some(Command::Walk(walk)) => walk::execute(&walk),
        })
        .unwrap_or_else(|failure| failure.tell());
    ExitCode::from(status)
}

/// Why there is no verdict to tell.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The command line is wrong, or asks for help.
    #[error(transparent)]
    Usage(clap::Error),
    /// There is no scenario.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The scenario is wrong, or too much for the machine.
    #[error(transparent)]
    Scenario(#[from] ScenarioErrors),
    /// The machine could not be had, or it broke.
    #[error(transparent)]
    Run(RunError),
    /// The trace could not be written.
    #[error(
        "the trace can't be written to {path}: {reason}; give --trace a file that may be written, in a \
         folder that exists, with room left"
    )]
    Trace {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The trace cannot be read.
    #[error("{path} can't be read: {reason}; give a file that smmuv3 run --trace wrote")]
    NoTrace {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The trace cannot be drawn.
    #[error("{path}: {reason}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: picture::PictureError,
    },
    /// A scenario that was found could not be written.
    #[error("{0} can't be written: {1}")]
    Found(String, io::Error),
    /// What was asked of the laboratory cannot be tried.
    #[error("{0}; see smmuv3 asid --help")]
    Lab(LabError),
    /// The plot could not be drawn, or not written.
    #[error(
        "the plot can't be written to {path}: {reason}; give --plot a file that may be written, in a \
         folder that exists, with room left"
    )]
    Plot {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: io::Error,
    },
    /// What a small command was given can't be used.
    #[error("{0}")]
    Other(Box<dyn std::error::Error>),
    /// The page could neither be served nor written.
    #[error(transparent)]
    Explore(#[from] explore::ExploreError),
    /// A structure could not be read, encoded or found.
    #[error(transparent)]
    Structure(#[from] structure::StructureError),
    /// A log could not be explained.
    #[error(transparent)]
    Log(#[from] decode_log::LogError),
    /// There is nothing to walk.
    #[error(transparent)]
    Walk(walk::WalkError),
    /// The report could not be written.
    #[error("the report can't be written: {0}")]
    Output(io::Error),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Scenario(errors) => Self::Scenario(errors),
            other => Self::Run(other),
        }
    }
}

fn execute(run: &Run) -> Result<u8, Failure> {
    let machine = run.machine().map_err(Failure::Usage)?;
    let source = source::read(&run.scenario)?;
    let scenario = Scenario::parse(&source.text, &source.file)?;
    let options = Options {
        machine: match machine {
            MachineName::Model => Choice::Model,
            MachineName::Qemu => Choice::Qemu(run.qemu.clone()),
        },
        seed: run.seed,
        tracer: run.trace.as_deref().map(tracer).transpose()?,
        ..Options::default()
    };
    let result = {
        let mut bar = progress::Bar::new();
        smmuv3_testbench::run::run(&scenario, &options, &mut |progress| bar.show(&progress))
    };
    // Also what ends early leaves a file that can be opened.
    let traced = options.tracer.as_ref().map_or(Ok(()), Tracer::finish);
    let report = result?;
    if let (Err(reason), Some(path)) = (traced, &run.trace) {
        return Err(Failure::Trace { path: path.clone(), reason });
    }
    let setting =
        Setting { columns: columns(), file: source.file, again: again(run, machine, &report) };
    let wanted = if run.json {
        write_out(&json(&report).map_err(Failure::Output)?, io::stdout().lock())
    } else {
        write_out(&report::render(&report, &setting), anstream::stdout().lock())
    }
    .map_err(Failure::Output)?;
    match &report.failure {
        None => Ok(HELD),
        Some(failure) => {
            // Whoever pipes the report elsewhere is still told what went wrong.
            if run.json || !wanted {
                say(&format!("smmuv3: {}", report::one_line(failure, &report, &setting.file)));
            }
            Ok(BROKEN)
        }
    }
}

/// Draws a trace.
fn draw(path: &Path) -> Result<u8, Failure> {
    let trace = std::fs::read_to_string(path)
        .map_err(|reason| Failure::NoTrace { path: path.to_owned(), reason })?;
    let svg = picture::draw(&trace)
        .map_err(|reason| Failure::Picture { path: path.to_owned(), reason })?;
    write_out(&svg, io::stdout().lock()).map_err(Failure::Output)?;
    Ok(HELD)
}

/// Opens the file at once: better no run than one whose trace cannot be kept.
fn tracer(path: &Path) -> Result<Tracer, Failure> {
    let file = if path.extension().is_some_and(|extension| extension == "toml") {
        // `run --trace mine.toml` forgot a word, and must not cost a scenario.
        Err(io::Error::other("that is the name of a scenario"))
    } else {
        File::create(path)
    };
    match file {
        Ok(file) => Ok(Tracer::new(BufWriter::new(file))),
        Err(reason) => Err(Failure::Trace { path: path.to_owned(), reason }),
    }
}

fn json(report: &impl serde::Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// Writes to standard output; whether anybody wanted all of it. `| head` is no error.
fn write_out(text: &str, mut out: impl Write) -> io::Result<bool> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// A line on standard error, which may be closed.
fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

impl Failure {
    /// Tells it; the exit status.
    fn tell(&self) -> u8 {
        match self {
            Self::Usage(error) => {
                let _ = error.print();
                return if error.use_stderr() { UNUSABLE } else { HELD };
            }
            Self::Scenario(errors) => {
                say(&report::printable(&errors.to_string()));
                let count = errors.errors.len();
                let mistakes = if count == 1 { "mistake" } else { "mistakes" };
                error(&format!(
                    "{count} {mistakes} in the scenario; docs/scenarios.md describes every key"
                ));
            }
            other => error(&other.to_string()),
        }
        UNUSABLE
    }
}

fn error(text: &str) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    say(&format!("{style}error:{style:#} {}", report::printable(text)));
}

/// Columns of the terminal, 100 where there is none.
fn columns() -> usize {
    terminal_size::terminal_size_of(io::stdout()).map_or(100, |(width, _)| usize::from(width.0))
}

/// The command line that does the same again.
fn again(run: &Run, machine: MachineName, report: &Report) -> String {
    let mut words = vec!["smmuv3 run".to_owned(), quoted(&run.scenario)];
    if machine == MachineName::Qemu {
        words.push("--machine qemu".to_owned());
    }
    if let Some(path) = &run.qemu {
        words.push(format!("--qemu {}", quoted(&path.display().to_string())));
    }
    words.push(format!("--seed {}", report.seed));
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_are_quoted_where_they_must_be() {
        assert_eq!(quoted("a/b-c.toml"), "a/b-c.toml");
        assert_eq!(quoted("my file"), "'my file'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
