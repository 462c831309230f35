// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffers of a scenario.

use super::Places;

/// A buffer, contiguous in physical memory.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Its name, unique among memories.
    pub name: String,
    /// Bytes; a multiple of [`PAGE`](super::PAGE), not 0.
    pub size: u64,
    /// Alignment of its physical address, bytes; a power of two, at least [`PAGE`](super::PAGE).
    pub align: u64,
    /// Its physical address, where the scenario says; a multiple of [`PAGE`](super::PAGE).
    pub at: Option<u64>,
    /// The byte it is filled with at the start; zeros without.
    pub fill: Option<u8>,
    /// Where it stands in the file.
    pub places: Places,
}
