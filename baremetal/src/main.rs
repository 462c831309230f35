// SPDX-License-Identifier: MIT OR Apache-2.0
//! An AArch64 image that runs the smmuv3 driver on registers, under QEMU: `cargo xtask boot`.
//!
//! It runs at EL1 and at EL2, on any number of CPUs. It prints what it does, a line for each check, and ends the
//! machine with the verdict as exit status.
#![no_std]
#![no_main]
#![deny(warnings)]

extern crate alloc;

mod arguments;
mod bring_up;
mod buffer;
mod checks;
mod console;
mod copying;
mod counter;
mod cpu;
mod edu;
mod exceptions;
mod faults;
mod fw_cfg;
mod heap;
mod interrupts;
mod lock;
mod machine;
mod memory;
mod nvme;
mod pci;
mod platform;
mod registers;
mod semihosting;
mod testdev;
mod time;
mod verdict;
mod virtio;

use aarch64_rt::entry;
use dtoolkit::fdt::Fdt;

use crate::arguments::Arguments;
use crate::machine::Machine;

entry!(main);

/// Seconds that everything may take, on a slow machine, too; another number by `limit=`.
const LIMIT: u64 = 300;

fn main(device_tree: u64, _: u64, _: u64, _: u64) -> ! {
    println!("smmuv3 {} on registers, EL{}", env!("CARGO_PKG_VERSION"), cpu::exception_level());
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
    let arguments = Arguments::of(tree);
    time::watch(arguments.number("limit", LIMIT));
    cpu::init();
    checks::run(&machine, arguments, blob, &ram)
}
