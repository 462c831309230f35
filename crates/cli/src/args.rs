// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said on the command line.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use smmuv3_testbench::lab::{AsidPolicy, MOST_INSTANCES};

use crate::source::BUILT_IN;

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
    #[command(after_help = run_examples())]
    Run(Run),
    /// Draw the trace of a short scenario as a picture (SVG), on standard output
    #[command(after_help = PICTURE_EXAMPLES)]
    Picture(Picture),
    /// Try random scenarios on the model until a rule breaks, and write the shortest one that breaks it
    #[command(after_help = FUZZ_EXAMPLES)]
    Fuzz(Fuzz),
    /// Compare the ASID policies: the same domains, devices and processes under each, on the model
    #[command(after_help = ASID_EXAMPLES)]
    Asid(Asid),
    /// Let many threads do everything at once on the model, and look at each return whether the rules hold
    #[command(after_help = STRESS_EXAMPLES)]
    Stress(Stress),
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
    /// A scenario file (TOML), `-` for standard input, or the name of a built-in scenario of those
    /// below
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
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
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
    #[arg(long, value_name = "A..B", value_parser = seeds, allow_negative_numbers = true, default_value = "0..100")]
    pub seeds: Range<u64>,

    /// Random operations of each seed
    #[arg(long, value_name = "N", value_parser = steps, allow_negative_numbers = true)]
    #[arg(default_value_t = 2000)]
    pub steps: u64,

    /// Begin no other seed after so many minutes; may be a fraction [default: no limit]
    #[arg(long, value_name = "M", value_parser = minutes, allow_negative_numbers = true)]
    pub minutes: Option<Duration>,

    /// How many seeds are tried at once [default: as many as there are CPUs]
    #[arg(long, value_name = "N", value_parser = jobs, allow_negative_numbers = true)]
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

/// Operands of `asid`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Asid {
    /// A policy to try; may be given several times [default: all, or banked with --scale]
    #[arg(long = "policy", value_name = "P", value_parser = policies())]
    pub policies: Vec<AsidPolicy>,

    /// Bits of the ASIDs of each instance, 8 or 16; 4x8 stands for 8,8,8,8 [default: 8,16,16, or
    /// 32x8,32x16 with --scale]. All have 8-bit VMIDs
    #[arg(long, value_name = "LIST", value_parser = widths, allow_negative_numbers = true)]
    pub instances: Option<Widths>,

    /// How many domains. A..B: attached ones are counted at steps from A to B [default: 500, or
    /// 65000 with --scale]. Each joins one to three instances, in an order drawn from the seed
    #[arg(long, value_name = "N|A..B", value_parser = domains, allow_negative_numbers = true)]
    pub domains: Option<Domains>,

    /// Masters of each instance, which take turns; a further domain of a master has a PASID
    /// [default: one for each time that a domain joins the instance, or 256 with --scale]
    #[arg(long, value_name = "N", value_parser = few, allow_negative_numbers = true)]
    pub masters: Option<usize>,

    /// Processes; each is bound on every instance after the domains were attached [default: 0, or
    /// 4096 with --scale]. Each has a 16-bit ASID on the CPUs, which the platform pins
    #[arg(long, value_name = "N", value_parser = few, allow_negative_numbers = true)]
    pub processes: Option<usize>,

    /// Instances that take part in the CPUs' broadcasts, counted from 0: where ASIDs have 16 bits
    /// they use the CPUs' for processes
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = few)]
    #[arg(allow_negative_numbers = true)]
    pub broadcast: Vec<usize>,

    /// After that, detach a random master and attach it to a random domain, so many times
    /// [default: 0]
    #[arg(long, value_name = "N", value_parser = few, allow_negative_numbers = true, conflicts_with = "scale")]
    pub churn: Option<usize>,

    /// Where everything random starts; decimal or 0x…
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true, default_value_t = 1)]
    pub seed: u64,

    /// With many of everything, measure what one more device costs at 10, 1000, 10000 and all
    /// domains, and how much memory there was in use at most
    #[arg(long)]
    pub scale: bool,

    /// Print what was found as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Draw domains attached against domains asked for, a line a policy, to FILE (SVG)
    #[arg(long, value_name = "FILE", conflicts_with = "scale")]
    pub plot: Option<PathBuf>,
}

/// Bits of the ASIDs of each instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widths(pub Vec<u32>);

/// Numbers of domains: the least of interest, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domains {
    /// The least; `None` where only one number was given.
    pub first: Option<usize>,
    /// All.
    pub last: usize,
}

/// Operands of `stress`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Stress {
    /// How long, all policies together: at least 1; may be a fraction
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true, default_value = "30")]
    pub seconds: Duration,

    /// Threads that call the driver
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    #[arg(allow_negative_numbers = true)]
    #[arg(default_value_t = 8)]
    pub threads: u8,

    /// SMMUs; every other one has 8-bit ASIDs, the others take part in broadcasts of CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=16))]
    #[arg(allow_negative_numbers = true)]
    #[arg(default_value_t = 4)]
    pub instances: u8,

    /// What each thread does, though not when; decimal or 0x…
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true, default_value = "1")]
    pub seed: u64,

    /// How ASIDs are chosen [default: each of them in turn]
    #[arg(long, value_name = "P", value_parser = policies())]
    pub policy: Option<AsidPolicy>,

    /// Print what was done as one JSON object
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
        Some(_) => return Err("a seed is a whole number such as 7 or 0x1f, from 0 on".to_owned()),
        None => digits.parse(),
    };
    number.map_err(|error| match error.kind() {
        core::num::IntErrorKind::PosOverflow => format!("the largest seed is {}", u64::MAX),
        _ => "a seed is a whole number such as 7 or 0x1f, from 0 on".to_owned(),
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
    let minutes: f64 =
        minutes.ok_or("minutes are a number such as 10 or 0.5, from 0 to 525600 (a year)")?;
    Ok(Duration::from_secs_f64(60.0 * minutes))
}

/// The policies by their names.
fn policies() -> impl TypedValueParser<Value = AsidPolicy> {
    let names = PossibleValuesParser::new(AsidPolicy::ALL.map(AsidPolicy::name));
    // One of them.
    names.map(|name| AsidPolicy::ALL.into_iter().find(|one| one.name() == name).unwrap_or_default())
}

/// A list such as `8,2x16`.
fn widths(text: &str) -> Result<Widths, String> {
    let right = "instances are a list of the bits of their ASIDs, such as 8,16,16 or 32x8,32x16";
    let mut widths = Vec::new();
    for part in text.split(',') {
        let (count, bits) = part.split_once('x').unwrap_or(("1", part));
        let count: usize = count.trim().parse().map_err(|_| right)?;
        let bits: u32 = bits.trim().parse().map_err(|_| right)?;
        if !matches!(bits, 8 | 16) {
            return Err(format!("ASIDs have 8 or 16 bits, not {bits}; {right}"));
        }
        if !(1..=MOST_INSTANCES).contains(&count) || widths.len() + count > MOST_INSTANCES {
            return Err(format!("there can be 1 to {MOST_INSTANCES} instances; {right}"));
        }
        widths.extend(std::iter::repeat_n(bits, count));
    }
    Ok(Widths(widths))
}

/// A number such as `400`, or a range with its end, such as `1..70000`.
fn domains(text: &str) -> Result<Domains, String> {
    let number = |text: &str| match few(text) {
        Ok(0) => Err("at least one domain is needed".to_owned()),
        other => other,
    };
    let Some((first, last)) = text.split_once("..") else {
        return Ok(Domains { first: None, last: number(text)? });
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("domains are a range such as 1..70000; {last} is less than {first}"));
    }
    Ok(Domains { first: Some(first), last })
}

/// A number up to a million.
fn few(text: &str) -> Result<usize, String> {
    let number = text.replace('_', "").parse().ok();
    let number = number.filter(|number| *number <= 1_000_000);
    number.ok_or_else(|| "it is a whole number from 0 to 1000000".to_owned())
}

/// Operations of a seed.
fn steps(text: &str) -> Result<u64, String> {
    let number = text.replace('_', "").parse().ok();
    let number = number.filter(|number| (1..=10_000_000).contains(number));
    number.ok_or_else(|| "steps are a whole number from 1 to 10000000".to_owned())
}

/// Seeds at once.
fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "jobs are a whole number, at least 1".to_owned())
}

/// Seconds, at most a year. In less than one, nothing that is worth a verdict happens.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (1.0..=31_536_000.0).contains(seconds));
    let right = "seconds are a number such as 30 or 1.5, at least 1 and at most 31536000 (a year)";
    let seconds: f64 = seconds.ok_or(right)?;
    Ok(Duration::from_secs_f64(seconds))
}

const EXAMPLES: &str = "\
Examples:
  smmuv3                          the built-in scenario on the model
  smmuv3 run mine.toml            a scenario of your own
  smmuv3 run --machine qemu       the built-in scenario on QEMU's SMMUv3
  smmuv3 run --help               more about running scenarios
  smmuv3 fuzz                     a hundred random scenarios on the model
  smmuv3 asid                     what each ASID policy refuses, moves and costs
  smmuv3 stress                   eight threads at once, for half a minute

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

const ASID_EXAMPLES: &str = "\
What is counted: *attached* domains are those of which every attach succeeded. *Moved* is each tag
{instance, VMID, ASID} of a live domain that was given up for another one, as the SMMU was told (a
CMD_TLBI_NH_ASID in an attach of something idle). *Work* is counted in commands, in CMD_SYNCs among
them, each of which is waited for, and in stores: words of STEs, CDs and tables that were published
to SMMUs. That of moves is part of the attach that needed them. Nothing does DMA.

Examples:
  smmuv3 asid                                      8, 16 and 16 bits, 500 domains, all policies
  smmuv3 asid --domains 1..70000 --plot asid.svg   how many domains each policy can attach
  smmuv3 asid --policy banked --instances 8 --domains 65025
  smmuv3 asid --processes 300 --broadcast 1 --churn 10000
  smmuv3 asid --scale                              64 instances, 16384 masters, 65000 domains

Exit status: 0 when it was measured, whatever was refused; 1 when an SMMU was told something wrong,
or ASIDs were lost; 2 when the input could not be used. docs/asid.md says what it is about.";

const STRESS_EXAMPLES: &str = "\
Examples:
  smmuv3 stress                                    each policy for five seconds
  smmuv3 stress --policy shared-min-move           one policy, for half a minute
  smmuv3 stress --seconds 3600 --seed 7            a long one, with other choices
  smmuv3 stress --threads 16 --instances 8         more of everything
  smmuv3 stress --json | jq .runs[].counts         what was done, for programs

Pages are mapped, used and unmapped, masters attached and detached, with PASIDs and without,
processes bound and released, and tags of live domains changed. Judged are R0 to R3, and R8 where an
attach is refused. A run is not deterministic: the seed says what each thread does, not when.

Exit status: 0 when these rules held; 1 when something did not; 2 when the input could not be used.
docs/stress.md says what the threads do, what is judged, and how to repeat a failure.";

/// With the scenarios that there are.
fn run_examples() -> String {
    let names =
        BUILT_IN.iter().map(|built_in| format!("  {:<18}{}\n", built_in.name, built_in.words));
    format!("Built-in scenarios:\n{}\n{RUN_EXAMPLES}", names.collect::<String>())
}

const RUN_EXAMPLES: &str = "\
Examples:
  smmuv3 run                                       the built-in scenario on the model
  smmuv3 run the-fix                               another one
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
    fn every_operand_of_the_laboratory_is_understood() {
        let asid = |line: &str| match parse(line).unwrap().command {
            Some(Command::Asid(asid)) => asid,
            other => panic!("{line}: {other:?}"),
        };
        let bare = asid("smmuv3 asid");
        assert_eq!((bare.policies.len(), bare.seed, bare.scale), (0, 1, false));
        let all = asid(
            "smmuv3 asid --policy banked --policy shared-8 --instances 8,2x16 --domains 1..70_000 \
             --masters 9 --processes 3 --broadcast 1,2 --churn 5 --seed 0x10 --json --plot a.svg",
        );
        let expected = Asid {
            policies: vec![AsidPolicy::Banked, AsidPolicy::Shared8],
            instances: Some(Widths(vec![8, 16, 16])),
            domains: Some(Domains { first: Some(1), last: 70_000 }),
            masters: Some(9),
            processes: Some(3),
            broadcast: vec![1, 2],
            churn: Some(5),
            seed: 16,
            scale: false,
            json: true,
            plot: Some(PathBuf::from("a.svg")),
        };
        assert_eq!(all, expected);
        assert_eq!(asid("smmuv3 asid --domains 7").domains, Some(Domains { first: None, last: 7 }));
        for wrong in [
            "--policy best",
            "--instances 12",
            "--instances 65x8",
            "--instances 0x8",
            "--instances 8,,8",
            "--domains 0",
            "--domains 9..3",
            "--domains 1..",
            "--domains 1000001",
            "--masters -1",
            "--broadcast one",
            "--scale --plot a.svg",
            "--scale --churn 1",
        ] {
            let line = format!("smmuv3 asid {wrong}");
            assert_eq!(parse(&line).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    fn stress(line: &str) -> Stress {
        match parse(line).unwrap().command {
            Some(Command::Stress(stress)) => stress,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_stress_has_defaults_and_every_operand_of_it_is_understood() {
        let bare = stress("smmuv3 stress");
        assert_eq!((bare.seconds, bare.threads, bare.instances), (Duration::from_secs(30), 8, 4));
        assert_eq!((bare.seed, bare.policy, bare.json), (1, None, false));
        let all = "smmuv3 stress --seconds 1.5 --threads 64 --instances 16 --seed 0x10 \
                   --policy banked --json";
        assert_eq!(
            stress(all),
            Stress {
                seconds: Duration::from_millis(1500),
                threads: 64,
                instances: 16,
                seed: 16,
                policy: Some(AsidPolicy::Banked),
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
            "smmuv3 stress --seconds 0",
            "smmuv3 stress --seconds 0.9",
            "smmuv3 stress --seconds -1",
            "smmuv3 stress --seconds inf",
            "smmuv3 stress --threads 0",
            "smmuv3 stress --threads 65",
            "smmuv3 stress --instances 1",
            "smmuv3 stress --policy shared",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    /// `-1` is a number that is too small, not an option.
    #[test]
    fn a_negative_number_is_told_the_range() {
        for (line, range) in [
            ("asid --processes -1", "from 0 to 1000000"),
            ("asid --masters -1", "from 0 to 1000000"),
            ("asid --churn -1", "from 0 to 1000000"),
            ("asid --domains -1", "from 0 to 1000000"),
            ("asid --broadcast -1", "from 0 to 1000000"),
            ("asid --instances -8", "bits of their ASIDs, such as 8,16,16"),
            ("asid --seed -1", "from 0 on"),
            ("stress --seconds -1", "at least 1 and at most"),
            ("stress --threads -1", "-1 is not in 1..=64"),
            ("stress --instances -1", "-1 is not in 2..=16"),
            ("stress --seed -1", "from 0 on"),
            ("fuzz --minutes -0.5", "from 0 to 525600"),
            ("fuzz --seeds -1", "seeds are a range"),
            ("fuzz --steps -1", "from 1 to 10000000"),
            ("fuzz --jobs -1", "at least 1"),
            ("run --seed -1", "from 0 on"),
        ] {
            let error = parse(&format!("smmuv3 {line}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(range), "{line}: {error}");
        }
    }

    #[test]
    fn the_default_in_the_help_is_the_built_in_scenario() {
        assert_eq!(run("smmuv3 run").scenario, crate::source::DEFAULT);
    }
}
