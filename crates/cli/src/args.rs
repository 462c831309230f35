// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said on the command line.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The driver for Arm's SMMUv3, tried out: scenarios on a modelled or emulated SMMU.
///
/// Without a command, runs the scenario `two-instances` on the embedded model: one address space
/// shared by devices behind two SMMUs that differ. Every access is watched, and the report says
/// what each SMMU was told and whether all rules held.
#[derive(Debug, PartialEq, Eq, Parser)]
#[command(name = "smmuv3", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What to do; `run` with its defaults when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A command.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run a scenario, watch every access, and report whether all rules held
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Draw the trace of a short scenario as a picture (SVG), on standard output
    #[command(after_help = PICTURE_EXAMPLES)]
    Picture(Picture),
    /// Try random scenarios on the model until a rule breaks, and write the shortest one that breaks it
    #[command(after_help = FUZZ_EXAMPLES)]
    Fuzz(Fuzz),
}

/// Operands of `picture`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct Picture {
    /// A file that `run --trace` wrote
    pub trace: PathBuf,
}

/// Operands of `run`.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct Run {
    /// A scenario file (TOML), `-` for standard input, or the name of a built-in scenario:
    /// two-instances
    #[arg(default_value = "two-instances")]
    pub scenario: String,

    /// What to run it on [default: model, or qemu when --qemu is given]
    #[arg(long)]
    pub machine: Option<MachineName>,

    /// The program qemu-system-aarch64, 10.0 or later, best 11.1 [default: $SMMUV3_QEMU, then the
    /// one on PATH]
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,

    /// Where everything random starts; decimal or 0x… [default: the scenario's]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u64>,

    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Write what happened in time to FILE, in Chrome's trace-event format, for ui.perfetto.dev: a
    /// track for each SMMU's commands, SYNC waits, walks and faults, and for the driver's calls.
    /// QEMU does not tell what its SMMUs do: there it is calls, reports, commands as given, and waits
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// Operands of `fuzz`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Fuzz {
    /// Which seeds: from A up to, not including, B. Each is a scenario of its own
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..100")]
    pub seeds: Range<u64>,

    /// Random operations of each seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    #[arg(default_value_t = 2000)]
    pub steps: u64,

    /// Begin no other seed after so many minutes; may be a fraction [default: no limit]
    #[arg(long, value_name = "M", value_parser = minutes)]
    pub minutes: Option<Duration>,

    /// How many seeds are tried at once [default: as many as there are CPUs]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// Go on after a rule was broken
    #[arg(long)]
    pub keep_going: bool,

    /// Where scenarios that break a rule are written, as fuzz-SEED.toml
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,

    /// Print what was found as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MachineName {
    /// The SMMUv3 in this program: any number of instances, any features, as hostile as is allowed
    Model,
    /// QEMU's SMMUv3 with QEMU's PCI devices
    Qemu,
}

impl Run {
    /// What `run` does when nothing is said.
    pub fn bare() -> Self {
        Self { scenario: crate::source::DEFAULT.to_owned(), ..Self::default() }
    }

    /// The machine that was meant: naming a QEMU is asking for it.
    ///
    /// # Errors
    /// A QEMU was named for the model.
    pub fn machine(&self) -> Result<MachineName, clap::Error> {
        match (self.machine, &self.qemu) {
            (Some(MachineName::Model), Some(_)) => Err(clap::Error::raw(
                clap::error::ErrorKind::ArgumentConflict,
                "--qemu names the program of --machine qemu, but this is --machine model; leave one \
                 of them out\n",
            )),
            (Some(machine), _) => Ok(machine),
            (None, Some(_)) => Ok(MachineName::Qemu),
            (None, None) => Ok(MachineName::Model),
        }
    }
}

/// A number as the scenarios have it: `7`, `0x1f`, `1_000`.
fn seed(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        Some(_) => return Err("a seed is a whole number such as 7 or 0x1f".to_owned()),
        None => digits.parse(),
    };
    number.map_err(|error| match error.kind() {
        core::num::IntErrorKind::PosOverflow => format!("the largest seed is {}", u64::MAX),
        _ => "a seed is a whole number such as 7 or 0x1f".to_owned(),
    })
}

/// A range as Rust has it: `0..100`.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let right = "seeds are a range such as 0..100, without its end";
    let (first, end) = text.split_once("..").ok_or(right)?;
    let range = seed(first)?..seed(end)?;
    if range.is_empty() { Err(format!("no seed is in {text}; {right}")) } else { Ok(range) }
}

/// Minutes, at most a year.
fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.0..=525_600.0).contains(minutes));
    let minutes: f64 = minutes.ok_or("minutes are a number such as 10 or 0.5")?;
    Ok(Duration::from_secs_f64(60.0 * minutes))
}

const EXAMPLES: &str = "\
Examples:
  smmuv3                          the built-in scenario on the model
  smmuv3 run mine.toml            a scenario of your own
  smmuv3 run --machine qemu       the built-in scenario on QEMU's SMMUv3
  smmuv3 run --help               more about running scenarios
  smmuv3 fuzz                     a hundred random scenarios on the model

Exit status: 0 when all rules held; 1 when one did not, with the rule, the step and the shortest
trace; 2 when the input could not be used. Colours only on a terminal; NO_COLOR=1 turns them off.";

const FUZZ_EXAMPLES: &str = "\
Examples:
  smmuv3 fuzz                                      seeds 0 to 99, 2000 operations each
  smmuv3 fuzz --seeds 100..10000 --minutes 30      as many of them as half an hour allows
  smmuv3 fuzz --keep-going --out found             all that break a rule, not only the first
  smmuv3 fuzz --seeds 17..18 --steps 500           one seed
  smmuv3 run fuzz-17.toml                          what was written about it, step by step

Exit status: 0 when all rules held; 1 when one did not, with the rule, the shortest trace and the
file that breaks it again; 2 when the input could not be used or there is nowhere to write to.";

const RUN_EXAMPLES: &str = "\
Examples:
  smmuv3 run                                       the built-in scenario on the model
  smmuv3 run mine.toml                             a scenario of your own
  smmuv3 run mine.toml --seed 7                    the same with other random choices
  smmuv3 run mine.toml --machine qemu              the same on QEMU's SMMUv3
  smmuv3 run --qemu ~/qemu/qemu-system-aarch64     on a QEMU that is not on PATH
  smmuv3 run --json | jq .dma                      a report for programs
  smmuv3 run --trace trace.json                    a timeline; open it in ui.perfetto.dev
  sed s/16/8/ mine.toml | smmuv3 run -             a scenario from standard input

Exit status: 0 when all rules held; 1 when one did not, with the rule (R0 to R9), the step and the
shortest trace; 2 when the input could not be used. docs/scenarios.md describes scenario files,
docs/trace.md traces.";

const PICTURE_EXAMPLES: &str = "\
Examples:
  smmuv3 run docs/trace.toml --trace trace.json
  smmuv3 picture trace.json > docs/trace.svg

Exit status: 0 when it was drawn; 2 when the input could not be used. docs/trace.md shows one.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn run(line: &str) -> Run {
        match parse(line).unwrap().command {
            Some(Command::Run(run)) => run,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn fuzz(line: &str) -> Fuzz {
        match parse(line).unwrap().command {
            Some(Command::Fuzz(fuzz)) => fuzz,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_is_run_with_the_defaults() {
        assert_eq!(parse("smmuv3").unwrap().command, None);
        assert_eq!(run("smmuv3 run"), Run::bare());
        assert_eq!(Run::bare().machine().unwrap(), MachineName::Model);
    }

    #[test]
    fn every_operand_is_understood() {
        let all = run("smmuv3 run a.toml --machine qemu --qemu /q --seed 0x10 --json --trace t");
        assert_eq!(
            all,
            Run {
                scenario: "a.toml".to_owned(),
                machine: Some(MachineName::Qemu),
                qemu: Some(PathBuf::from("/q")),
                seed: Some(16),
                json: true,
                trace: Some(PathBuf::from("t")),
            }
        );
        assert_eq!(run("smmuv3 run -").scenario, "-");
    }

    #[test]
    fn naming_a_qemu_asks_for_qemu() {
        assert_eq!(run("smmuv3 run --qemu /q").machine().unwrap(), MachineName::Qemu);
        let contradiction = run("smmuv3 run --machine model --qemu /q").machine().unwrap_err();
        assert_eq!(contradiction.exit_code(), 2);
        assert!(contradiction.to_string().contains("leave one of them out"), "{contradiction}");
    }

    #[test]
    fn seeds_are_whole_numbers_in_either_base() {
        assert_eq!(seed("7"), Ok(7));
        assert_eq!(seed("0xff"), Ok(255));
        assert_eq!(seed("1_000"), Ok(1000));
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        for wrong in ["", "-1", "seven", "0x", "0x+1", "1.5", "18446744073709551616"] {
            assert!(seed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_campaign_has_defaults_and_every_operand_of_it_is_understood() {
        let bare = fuzz("smmuv3 fuzz");
        assert_eq!((bare.seeds, bare.steps, bare.minutes, bare.jobs), (0..100, 2000, None, None));
        let all = "smmuv3 fuzz --seeds 0x10..18 --steps 5 --minutes 0.5 --jobs 2 --keep-going \
                   --out found --json";
        assert_eq!(
            fuzz(all),
            Fuzz {
                seeds: 16..18,
                steps: 5,
                minutes: Some(Duration::from_secs(30)),
                jobs: NonZeroUsize::new(2),
                keep_going: true,
                out: PathBuf::from("found"),
                json: true,
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_a_usage_error() {
        for wrong in [
            "smmuv3 walk",
            "smmuv3 run --machine arm",
            "smmuv3 run --seed x",
            "smmuv3 run a b",
            "smmuv3 run --fast",
            "smmuv3 fuzz --seeds 7",
            "smmuv3 fuzz --seeds 7..7",
            "smmuv3 fuzz --seeds 0..=7",
            "smmuv3 fuzz --steps 0",
            "smmuv3 fuzz --jobs 0",
            "smmuv3 fuzz --minutes -1",
            "smmuv3 fuzz --minutes inf",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn the_default_in_the_help_is_the_built_in_scenario() {
        assert_eq!(run("smmuv3 run").scenario, crate::source::DEFAULT);
    }
}
