// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that firmware left doing DMA.

use alloc::string::String;
use alloc::vec::Vec;

use smmuv3::StreamId;

use crate::device::InstanceIndex;
use crate::instance::Region;

/// Memory that firmware has told devices to use, and that they go on using: a frame buffer, the memory of a management
/// controller. It is mapped at its own address, from before the SMMU is enabled.
///
/// An RMR node of the IORT, or a child of `/reserved-memory` with `iommu-addresses` that are its own.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Path in the device tree, or `RMR at offset 0x120`, in the IORT.
    pub name: String,
    /// Who uses it: an SMMU, and first and last stream there.
    pub streams: Vec<(InstanceIndex, StreamId, StreamId)>,
    /// The memory, whole 4 KiB pages.
    pub regions: Vec<Region>,
    /// The operating system may move the memory elsewhere, and map it anew.
    pub may_move: bool,
    /// Accesses are privileged.
    pub privileged: bool,
    /// How it is accessed.
    pub memory: KeptMemory,
}

/// The type of memory that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptMemory {
    /// Device memory, of whatever kind.
    Device,
    /// Normal, not cacheable.
    Uncached,
    /// Normal, write-back.
    WriteBack,
}
