// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is: the machine, its devices, its SMMUs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::Range;

use crate::bring_up::Smmus;
use crate::faults::Faults;
use crate::machine::Machine;
use crate::pci::Pci;
use crate::verdict::Outcome;
use crate::{cpu, ensure, heap, memory, time};

/// How long CPUs may take to start.
const START: u64 = 10_000_000_000;

/// RAM, image, device tree.
pub fn memory(machine: &Machine, blob: &[u8], ram: &Range<usize>) -> Outcome {
    let image = memory::image();
    ensure!(!machine.cpus.is_empty(), "no CPU in the device tree");
    ensure!(ram.contains(&image.start) && ram.contains(&image.end), "the image is not in RAM");
    Ok(format!(
        "{} MiB of RAM at {:#x}, image {} KiB, device tree {} KiB, heap {} MiB, frames {} MiB",
        ram.len() >> 20,
        ram.start,
        image.len() >> 10,
        blob.len() >> 10,
        heap::usage().total >> 20,
        heap::FRAMES.usage().total >> 20,
    ))
}

/// All CPUs run.
pub fn cpus(machine: &Machine) -> Outcome {
    let want = machine.cpus.len();
    cpu::start_others(machine).map_err(|error| format!("PSCI: {error}"))?;
    time::wait(START, || cpu::online() == want);
    let online = cpu::online();
    ensure!(online == want, "{online} of {want} run");
    Ok(format!("{online} at EL{}, PSCI by {:?}", cpu::exception_level(), machine.conduit))
}

/// PCI devices.
pub fn devices(pci: &Pci) -> Outcome {
    ensure!(!pci.devices.is_empty(), "no device");
    let shown: Vec<String> = pci.devices.iter().map(|device| format!("{device}")).collect();
    Ok(shown.join(" · "))
}

/// The SMMUs, which are enabled.
pub fn instances(smmus: &Smmus) -> Outcome {
    let mut text = String::new();
    for (_, found, smmu) in smmus.smmus() {
        let features = smmu.features();
        ensure!(features.coherent, "it does not snoop, and this image cleans no caches");
        let registers = &features.registers;
        if !text.is_empty() {
            text.push_str(" · ");
        }
        write!(
            text,
            "{} at {:#x}: IDR0 {:#x} IDR1 {:#x} IDR5 {:#x}: ASID {} bits, SID {} bits, OAS {} bits{}",
            smmu.name(),
            found.registers.base,
            registers.idr0.0,
            registers.idr1.0,
            registers.idr5.0,
            features.asid_bits,
            features.sid_bits,
            features.output_bits,
            if features.range_invalidation { ", range invalidation" } else { "" },
        )?;
    }
    ensure!(!text.is_empty(), "the device tree names no SMMU");
    Ok(text)
}

/// Nothing was reported that no check has asked for.
pub fn quiet(faults: &Faults) -> Outcome {
    let (reports, interrupts) = faults.take(0);
    ensure!(
        reports.is_empty(),
        "{} reports that nobody expected, the first {:?}",
        reports.len(),
        reports.first()
    );
    ensure!(interrupts == 0, "{interrupts} interrupts that nobody expected");
    let completions = faults.completions();
    let (heap, frames) = (heap::usage(), heap::FRAMES.usage());
    Ok(format!(
        "nothing else was reported; {completions} interrupts of completed commands; heap {} KiB, frames {} KiB in use",
        heap.used >> 10,
        frames.used >> 10
    ))
}
