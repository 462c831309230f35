// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks, in order. Each prints what it found, and fails for itself.

mod board;
mod cpus;
mod deliberate;
mod disk;
mod dma;
mod figures;
mod shared;
mod stress;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::ops::Range;

#[cfg(feature = "mutation")]
use smmuv3::Mutation;
use smmuv3::{Completion, Config, Master, Report as Told, StreamId};
use smmuv3_discovery::MasterError;

use crate::arguments::Arguments;
use crate::bring_up::{self, Smmus};
use crate::faults::Faults;
use crate::fw_cfg::FwCfg;
use crate::machine::Machine;
use crate::pci::{Device, Pci};
use crate::platform::Kernel;
#[cfg(feature = "mutation")]
use crate::println;
use crate::verdict::Report;

/// What the checks work on.
struct Bench {
    smmus: Arc<Smmus>,
    faults: Arc<Faults>,
    pci: Pci,
}

impl Bench {
    /// The master that `device` is.
    fn master(&self, device: &Device) -> Result<Master<Kernel>, MasterError> {
        self.smmus.master(device.name())
    }

    /// The one stream of `device`.
    fn stream(&self, device: &Device) -> Result<StreamId, Box<dyn Error>> {
        let (_, streams) = self.smmus.topology().streams_of(device.name())?;
        match streams[..] {
            [stream] => Ok(stream),
            _ => Err(alloc::format!("{device} has {} streams", streams.len()).into()),
        }
    }
}

/// Runs all checks, and ends the machine with the verdict.
pub fn run(machine: &Machine, arguments: Arguments, blob: &[u8], ram: &Range<usize>) -> ! {
    let mut report = Report::default();
    if let Some(how) = arguments.text("fail-by") {
        deliberate::fail(how, &mut report);
    }
    report.note("machine", board::memory(machine, blob, ram));
    report.note("cpus", board::cpus(machine));
    let mut pci = Pci::scan(&machine.host);
    report.note("pci", board::devices(&pci));
    let kernel = Kernel { cpus: machine.cpus.len() };
    let completion = match arguments.text("completion") {
        Some("poll") => Completion::Poll,
        _ => Completion::Interrupt,
    };
    let iort = || FwCfg::new(machine.fw_cfg?).acpi_table(*b"IORT");
    let found = bring_up::discover(blob, iort).map_err(Into::into);
    match found.and_then(|found| bring_up::bring_up(kernel, config(arguments), found, completion)) {
        Err(error) => {
            report.note("enable", Err(error));
        }
        Ok(smmus) => {
            let faults = Arc::new(Faults::new());
            bring_up::attach_interrupts(&smmus, &faults);
            pci.enable_dma();
            let bench = Bench { smmus, faults, pci };
            report.note("enable", board::instances(&bench.smmus));
            if arguments.number("count", 0) == 1 {
                figures::run(&mut report, &bench);
                report.close();
            }
            // Alone, to see that it finds by itself what the others find before.
            if arguments.text("only") == Some("stress") {
                report.note("stress", stress::run(&bench, arguments.number("seconds", 5)));
                report.close();
            }
            dma::run(&mut report, &bench);
            if bench.smmus.smmus().count() > 1 {
                report.note("one domain", shared::run(&bench));
            }
            // Drivers of others may wait for ever for a device that reads what it should not.
            if report.is_good() {
                disk::run(&mut report, &bench);
                report.note("all cpus", cpus::map_and_unmap(&bench));
                report.note("stress", stress::run(&bench, arguments.number("seconds", 5)));
                report.note("quiet", board::quiet(&bench.faults));
            }
        }
    }
    report.close()
}

/// Settings of the driver: its own, unless a step is to be left out, by `leave-out=`.
fn config(arguments: Arguments) -> Config {
    let config = Config::default();
    let Some(step) = arguments.text("leave-out") else { return config };
    #[cfg(feature = "mutation")]
    let config = {
        let named = |mutation: &&Mutation| alloc::format!("{mutation:?}") == step;
        let Some(mutation) = Mutation::ALL.iter().find(named) else {
            panic!("leave-out={step}: one of {:?}", Mutation::ALL);
        };
        println!("the driver leaves a step out: {mutation:?}");
        let mut config = config;
        config.mutation = Some(*mutation);
        config
    };
    #[cfg(not(feature = "mutation"))]
    if !step.is_empty() {
        panic!("leave-out={step}: this image has no feature `mutation`");
    }
    config
}

/// The events among `told`, all of which must be events of `stream`.
fn events_of(
    stream: StreamId,
    told: &[Told<Kernel>],
) -> Result<Vec<smmuv3::formats::EventRecord>, alloc::string::String> {
    told.iter()
        .map(|report| match report {
            Told::Event(event) if event.sid() == u64::from(stream.0) => Ok(**event),
            other => Err(alloc::format!("not an event of stream {stream}: {other:?}")),
        })
        .collect()
}
