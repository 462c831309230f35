// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said on the command line.

use std::path::PathBuf;

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

const EXAMPLES: &str = "\
Examples:
  smmuv3                          the built-in scenario on the model
  smmuv3 run mine.toml            a scenario of your own
  smmuv3 run --machine qemu       the built-in scenario on QEMU's SMMUv3
  smmuv3 run --help               more about running scenarios

Exit status: 0 when all rules held; 1 when one did not, with the rule, the step and the shortest
trace; 2 when the input could not be used. Colours only on a terminal; NO_COLOR=1 turns them off.";

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
    fn what_is_not_understood_is_a_usage_error() {
        for wrong in [
            "smmuv3 walk",
            "smmuv3 run --machine arm",
            "smmuv3 run --seed x",
            "smmuv3 run a b",
            "smmuv3 run --fast",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn the_default_in_the_help_is_the_built_in_scenario() {
        assert_eq!(run("smmuv3 run").scenario, crate::source::DEFAULT);
    }
}
