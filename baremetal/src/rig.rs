// SPDX-License-Identifier: MIT OR Apache-2.0
//! An AArch64 image that counts instructions of the smmuv3 driver on more SMMUs than any machine of QEMU's has:
//! `cargo xtask boot --count`; and what several CPUs do at once: `cargo xtask boot --scaling`. The registers of those SMMUs
//! are memory of the image's own.
//!
//! Apart from the other image, since the driver is in it for another kind of registers.
#![no_std]
#![no_main]
#![deny(warnings)]
#![allow(dead_code, reason = "modules are those of the other image, which uses all of them")]

extern crate alloc;

mod arguments;
mod console;
mod copying;
mod counter;
mod cpu;
mod exceptions;
mod heap;
mod interrupts;
mod lock;
mod machine;
mod memory;
mod platform;
#[path = "rig/figures.rs"]
mod rig_figures;
#[path = "rig/smmu.rs"]
mod rig_smmu;
mod semihosting;
mod time;
mod verdict;

use aarch64_rt::entry;
use dtoolkit::fdt::Fdt;

use crate::arguments::Arguments;
use crate::machine::Machine;
use crate::verdict::Report;

entry!(main);

/// Seconds that everything may take.
const LIMIT: u64 = 300;

fn main(device_tree: u64, _: u64, _: u64, _: u64) -> ! {
    let Some(blob) = machine::device_tree(device_tree) else { panic!("no device tree") };
    let tree = match Fdt::new(blob) {
        Ok(tree) => tree,
        Err(error) => panic!("device tree: {error}"),
    };
    let Some(ram) = machine::ram(tree) else { panic!("no memory in the device tree") };
    heap::init(&ram);
    let machine = match Machine::read(tree) {
        Ok(machine) => machine,
        Err(what) => panic!("device tree: {what}"),
    };
    interrupts::init(&machine);
    time::watch(LIMIT);
    cpu::init();
    let mut report = Report::default();
    match Arguments::of(tree).number("scaling", 0) {
        1 => rig_figures::scaling::run(&mut report, &machine),
        _ => rig_figures::run(&mut report, &machine),
    }
    report.close()
}
