// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is mapped: registers as Device memory, RAM as Normal memory, each at its physical address.

use core::ops::Range;

use aarch64_rt::{InitialPagetable, initial_pagetable};

/// What a descriptor of the first level maps.
const GIB: usize = 1 << 30;

const BLOCK: usize = 0b01;
const ACCESSED: usize = 1 << 10;
const INNER_SHAREABLE: usize = 0b11 << 8;
/// Not to be executed: UXN and PXN at EL1, XN and a reserved bit at EL2.
const NO_EXECUTE: usize = 0b11 << 53;
/// Index of Device-nGnRE in aarch64-rt's MAIR.
const DEVICE: usize = BLOCK | ACCESSED | NO_EXECUTE;
/// Index of Normal write-back memory. AP\[1\] stays 0: at EL1 it would open the memory to EL0, and what EL0 may write is
/// never executed at EL1; at EL2, where it should be 1, it is ignored.
const NORMAL: usize = BLOCK | ACCESSED | INNER_SHAREABLE | 1 << 2;

/// Registers of the machine, and PCI memory space, below RAM.
const LOW: usize = 0;
/// RAM; what is beyond the first GiB of it is not used.
const RAM: usize = 1;
/// PCI configuration space, of 256 MiB at 0x40_1000_0000.
const HIGH: usize = 256;

/// The table of the first level: it maps 512 GiB, and is the same at EL1 and EL2.
const fn identity() -> [usize; 512] {
    let mut table = [0; 512];
    table[LOW] = (LOW * GIB) | DEVICE;
    table[RAM] = (RAM * GIB) | NORMAL;
    table[HIGH] = (HIGH * GIB) | DEVICE;
    table
}

initial_pagetable!(InitialPagetable(identity()));

unsafe extern "C" {
    /// The linker's: the first byte after the image, its data and its first stack.
    static dma_region: u8;
    /// The linker's: the first byte of the image.
    static text_begin: u8;
}

/// Where the image is, with its data and stack.
pub fn image() -> Range<usize> {
    (&raw const text_begin).addr()..(&raw const dma_region).addr()
}

/// The part of RAM that is mapped.
pub const fn mapped() -> Range<usize> {
    RAM * GIB..(RAM + 1) * GIB
}
