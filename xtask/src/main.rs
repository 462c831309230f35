// SPDX-License-Identifier: MIT OR Apache-2.0
//! Set-up and checks of the workspace, in one place: `cargo xtask test`, `cargo xtask boot`,
//! `cargo xtask perf`, `cargo xtask size`, `cargo xtask scaling`,
//! `cargo xtask fuzz`.

mod bare;
mod boot;
mod checks;
mod environment;
mod figures;
mod machine;
#[cfg(test)]
mod map;
mod mutation;
mod parsers;
mod perf;
mod qemu;
mod registers;
mod report;
mod scaling;
mod size;
mod tally;
mod wasm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::tally::Tally;

/// Set-up and checks of the smmuv3 workspace.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:\n  cargo xtask test        run every check, exit 0 when none failed
  cargo xtask boot        boot the bare-metal image under QEMU
  cargo xtask perf        write docs/performance.md"
)]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check: formatting, clippy, tests (also on QEMU), loom, docs, a scenario.
    #[command(
        long_about = "Run every check: formatting, clippy with warnings as errors, unit, property and \
doc tests, the driver on QEMU and in a bare-metal image, with parts and with steps left out, its weight, loom and \
shuttle, `cargo doc` without warnings, the default scenario, random ones, parsers, threads, and counts of \
instructions.\n\nA failed check does not stop the ones after it, except that nothing is run when the \
workspace does not build. Logs are kept in target/xtask/. The last line is \
`N passed, N failed, N skipped`; the exit status is 0 when nothing failed.",
        after_help = "QEMU is taken from the first of these that exists; the first two are final:
  --qemu PATH
  $SMMUV3_QEMU
  ../shared/tools/get-qemu11, beside the checkout, unpacked into target/qemu11
  qemu-system-aarch64 on PATH
  apt-get, as root

Examples:
  cargo xtask test
  cargo xtask test --require-qemu
  cargo xtask test --qemu ~/qemu/build/qemu-system-aarch64"
    )]
    Test(TestOptions),

    /// Boot the bare-metal image under QEMU: the driver on registers, at EL1 or EL2.
    #[command(
        long_about = "Build the bare-metal image of baremetal/ and boot it under QEMU, with its output on the \
screen. It brings up the SMMU, lets devices do DMA through it, and checks what they reach. The exit status is the \
image's: 0 when all its checks passed, 1 when one failed, 2 when it panicked, took an unexpected exception or hung; \
124 when it had to be stopped after six minutes.",
        after_help = "The libraries for aarch64-unknown-none are taken from the first of these that works:
  $SMMUV3_SYSROOT, a folder made by aarch64-sysroot; this one is final
  the toolchain
  rustup target add aarch64-unknown-none
  ../shared/tools/aarch64-sysroot, beside the checkout, into target/sysroot
QEMU is found as by `cargo xtask test`.

Examples:
  cargo xtask boot
  cargo xtask boot --cpus 4 --el 2
  cargo xtask boot --cpus 4 --smmus 2             one domain behind both (QEMU 11.1)
  cargo xtask boot --check
  cargo xtask boot --count
  cargo xtask boot --scaling
  cargo xtask boot --firmware                     every stream under one table, without a heap
  cargo xtask boot --leave-out NoTlbi             unmaps do not invalidate: must fail
  cargo xtask boot -- fail-by=hang limit=5        an image that hangs, and gives up after 5 s
  cargo xtask boot --qemu ~/qemu/build/qemu-system-aarch64"
    )]
    Boot(BootOptions),

    /// Count instructions under valgrind and on QEMU, weigh the code, and write docs/performance.md.
    #[command(
        long_about = "Count the instructions of every workload of crates/perf under valgrind's callgrind, \
time them, weigh the code (`cargo xtask size --write`), count whole calls on registers under QEMU \
(`cargo xtask boot --count --write`), and write docs/performance.md.\n\nWith --check, compare the counts with that page instead: \
each must be within 5 % and its limit. Skipped without valgrind, or where the page was made with another \
compiler; the exit status is 0 when nothing failed.",
        after_help = "Examples:
  cargo xtask perf
  cargo xtask perf --check
  cargo bench -p smmuv3-perf --bench figures -- --count queue    only what has `queue` in its name"
    )]
    Perf {
        /// Compare with docs/performance.md instead of writing it.
        #[arg(long)]
        check: bool,
    },

    /// Measure many threads at once, and CPUs of QEMU, and write docs/scaling.md with its pictures.
    Scaling,

    /// Weigh the code of the driver: the size of `.text` in an AArch64 image that uses it.
    Size {
        /// Put it into docs/performance.md.
        #[arg(long)]
        write: bool,
    },

    /// Run the fuzz targets of fuzz/: parsers, guided by coverage.
    #[command(
        long_about = "Build the fuzz targets of fuzz/ with coverage instrumentation and run each on so many inputs, \
which are made from its seeds. The stable compiler is enough; a C++ compiler is needed for libFuzzer. An input that \
breaks a target is kept in target/fuzz/found/.",
        after_help = "Examples:
  cargo xtask fuzz                              all targets, a million inputs each
  cargo xtask fuzz iort --runs 100000000
  target/fuzz/*/release/iort target/fuzz/found/iort/crash-...    once more"
    )]
    Fuzz {
        /// Targets, by the names of their files in fuzz/fuzz_targets [default: all].
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,

        /// Inputs of each target.
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        runs: u64,

        /// Where what is random starts; same seed, same inputs.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u32,
    },
}

#[derive(Args)]
struct TestOptions {
    /// The qemu-system-aarch64 to run the driver on, 10.0 or newer.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,

    /// Fail when there is no usable QEMU, instead of skipping its tests.
    #[arg(long)]
    require_qemu: bool,
}

#[derive(Args)]
struct BootOptions {
    /// How many CPUs the machine has.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: u8,

    /// The exception level that the image is entered at.
    #[arg(long, value_name = "1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    el: u8,

    /// How many SMMUs the machine has; two need QEMU 11.1.
    #[arg(long, value_name = "1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    smmus: u8,

    /// The qemu-system-aarch64 to boot with, 10.0 or newer.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,

    /// Boot on every machine instead, each as a step, as `cargo xtask test` does.
    #[arg(long, conflicts_with_all = ["cpus", "el", "smmus", "leave_out", "arguments"])]
    check: bool,

    /// Count the instructions of the driver's calls instead, exactly (`-icount`), on one CPU at EL1.
    #[arg(long, conflicts_with_all = ["check", "cpus", "el", "smmus", "leave_out", "arguments"])]
    count: bool,

    /// Measure what one to four CPUs map and unmap at once instead, in operations a second.
    #[arg(long, conflicts_with_all = ["check", "count", "cpus", "el", "smmus", "leave_out", "arguments"])]
    scaling: bool,

    /// Boot the small image instead, which works without a heap.
    #[arg(long, conflicts_with_all = ["check", "count", "scaling", "smmus", "leave_out", "arguments"])]
    firmware: bool,

    /// Put what was counted into docs/performance.md.
    #[arg(long, requires = "count")]
    write: bool,

    /// A step of the driver to leave out: NoTlbi, WrongAsid, NoCfgi, NoTagFlush, and with two SMMUs OneInstanceOnly must be noticed by
    /// the image; what others do cannot be seen on QEMU.
    #[arg(long, value_name = "STEP")]
    leave_out: Option<String>,

    /// Words for the image, NAME=VALUE.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let tally = match CommandLine::parse().task {
        Task::Boot(BootOptions { check: true, qemu, .. }) => boot::check_alone(qemu),
        Task::Boot(BootOptions { count: true, write, qemu, .. }) => boot::count(qemu, write),
        Task::Boot(BootOptions { scaling: true, qemu, .. }) => boot::scaling(qemu),
        Task::Boot(options) => {
            let machine =
                machine::Machine { cpus: options.cpus, level: options.el, smmus: options.smmus };
            let image = boot::Image {
                program: match options.firmware {
                    true => boot::Program::Firmware,
                    false => boot::Program::Checks,
                },
                leave_out: options.leave_out,
                arguments: options.arguments,
                counts: false,
            };
            let status = boot::alone(machine, &image, options.qemu);
            return status.map_or_else(told, ExitCode::from);
        }
        Task::Test(options) => checks::run_all(options.qemu, options.require_qemu),
        Task::Fuzz { targets, runs, seed } => {
            parsers::alone(&parsers::Campaign { targets, runs: Some(runs), seed })
        }
        Task::Scaling => scaling::write().map(|()| Tally::default()),
        Task::Size { write } => size::alone(write),
        Task::Perf { check: true } => perf::check_alone(),
        // The page has all of them.
        Task::Perf { check: false } => perf::write().and_then(|()| {
            let mut tally = size::alone(true)?;
            tally += boot::count(None, true)?;
            Ok(tally)
        }),
    };
    match tally {
        Ok(tally) if tally.failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => told(error),
    }
}

fn told(error: anyhow::Error) -> ExitCode {
    eprintln!("cargo xtask: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::CommandLine::command().debug_assert();
    }
}
