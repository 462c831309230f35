// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes: address spaces that belong to the CPU, and to the testbench as its operating system.

use super::Places;

/// A process: stage-1 tables with the 4 KiB granule that the operating system owns.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its name, unique among domains and processes.
    pub name: String,
    /// Bits of its addresses: 32 to 48.
    pub input_bits: u32,
    /// The ASID that the CPU pins for it; 0 when it cannot be pinned, `None` for any.
    pub asid: Option<u16>,
    /// Where it stands in the file.
    pub places: Places,
}
