// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said on the command line.

mod decode;
mod explore;
mod generated;
mod help;
mod machine;
mod sid;
mod structure;
mod tlbi;
mod update;
mod values;
mod walk;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use smmuv3_testbench::lab::AsidPolicy;

pub use decode::Decode;
pub use explore::Explore;
pub use generated::{Completions, Man};
pub use machine::Machine;
pub use sid::Sid;
pub use structure::{Encode, Fields, WordFormat};
pub use tlbi::Tlbi;
pub use update::{EntryKind, Update};
pub use walk::{ImageName, Walk};

use explore::EXPLORE_EXAMPLES;
use help::{
    ASID_EXAMPLES, DECODE_EXAMPLES, EXAMPLES, FUZZ_EXAMPLES, PICTURE_EXAMPLES, STRESS_EXAMPLES,
    run_examples,
};
use values::{domains, few, jobs, minutes, policies, seconds, seed, seeds, steps, widths};

/// Tools for Arm's SMMUv3: what logs, tables and registers say, and the driver tried out on a modelled or emulated one.
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
    /// Explain a kernel log or one structure: every SMMU event and error, likely causes, what to do next
    #[command(after_help = DECODE_EXAMPLES)]
    Decode(Decode),
    /// Make the words of one structure from its fields
    #[command(after_help = structure::ENCODE_EXAMPLES)]
    Encode(Encode),
    /// List all structures, or show the fields of one as a table and a picture of its bits
    #[command(after_help = structure::FIELDS_EXAMPLES)]
    Fields(Fields),
    /// Follow an access, or everything that a stream can reach, through an image of memory
    #[command(after_help = walk::WALK_EXAMPLES)]
    Walk(Walk),
    /// Plan the update of a live STE or CD: each store and CFGI, and what hardware may see in between
    #[command(after_help = update::EXAMPLES)]
    Update(Update),
    /// Show and check which SMMUs a machine has, and what is behind them, from its ACPI table IORT
    #[command(after_help = machine::IORT_EXAMPLES)]
    Iort(Machine),
    /// Show and check which SMMUs a machine has, and what is behind them, from its device tree blob
    #[command(after_help = machine::DT_EXAMPLES)]
    Dt(Machine),
    /// Tell which StreamID a PCI device has, and which device a StreamID is
    #[command(after_help = sid::EXAMPLES)]
    Sid(Sid),
    /// List the commands that invalidate a range of addresses, with range invalidation and without
    #[command(after_help = tlbi::EXAMPLES)]
    Tlbi(Tlbi),
    /// Explain logs and structures in a page in the browser, which sends nothing anywhere
    #[command(after_help = EXPLORE_EXAMPLES)]
    Explore(Explore),
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
    /// Print what a shell needs to complete command lines of smmuv3
    #[command(after_help = generated::COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Print the manual page of smmuv3 or of a command of it, or write all of them
    #[command(after_help = generated::MAN_EXAMPLES)]
    Man(Man),
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
    /// Which seeds: from A up to, not including, B. Each is a machine of its own, or several
    #[arg(long, value_name = "A..B", value_parser = seeds, allow_negative_numbers = true, default_value = "0..100")]
    pub seeds: Range<u64>,

    /// Random operations of each seed. More than 2,000 may be done on several machines, one after the other
    #[arg(long, value_name = "N", value_parser = steps, allow_negative_numbers = true)]
    #[arg(default_value_t = 2000)]
    pub steps: u64,

    /// Begin no other seed, or machine of one, after so many minutes; may be a fraction [default: no limit]
    #[arg(long, value_name = "M", value_parser = minutes, allow_negative_numbers = true)]
    pub minutes: Option<Duration>,

    /// How many seeds are tried at once [default: as many as there are CPUs]
    #[arg(long, value_name = "N", value_parser = jobs, allow_negative_numbers = true)]
    pub jobs: Option<NonZeroUsize>,

    /// Go on after a rule was broken
    #[arg(long)]
    pub keep_going: bool,

    /// Do not look for the shortest sequence that breaks the same rule: of a long run that takes minutes
    #[arg(long)]
    pub no_shrink: bool,

    /// Where scenarios that break a rule are written, as fuzz-SEED.toml
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,

    /// Print how often each operation came with each feature, in a table of more than 300 columns
    #[arg(long)]
    pub coverage: bool,

    /// Print what was found as one JSON object, with those counts
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

#[cfg(test)]
mod tests;
