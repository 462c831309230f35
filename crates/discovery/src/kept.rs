// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that firmware left doing DMA.

use alloc::string::String;
use alloc::vec::Vec;

use smmuv3::{Memory, StreamId};

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
    pub memory: Memory,
    /// See [`Topology::claim_kept`](crate::Topology::claim_kept).
    pub(crate) claimed: bool,
}

/// Bytes of a page that can be kept.
const PAGE: u64 = 0x1000;

/// The pages that `region` is in.
pub(crate) fn whole_pages(region: Region) -> Option<Region> {
    let base = region.base & !(PAGE - 1);
    let len = region.base.checked_add(region.len)?.checked_next_multiple_of(PAGE)? - base;
    Some(Region { base, len })
}
