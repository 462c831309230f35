// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups of performance monitors, as firmware describes them.

use alloc::string::String;

use crate::device::InstanceIndex;
use crate::instance::{Line, Region};

/// Bytes of a page of a group's registers (§18).
pub(crate) const MONITOR_PAGE: u64 = 0x1000;

/// A group of performance monitors (§18): with its pages mapped, it becomes a [`smmuv3::pmcg::Group`].
///
/// ```
/// use smmuv3::Mmio;
/// use smmuv3::pmcg::{Group, PmcgError};
/// use smmuv3_discovery::{Monitor, Region};
///
/// fn open<M: Mmio>(monitor: &Monitor, map: impl Fn(Region) -> M) -> Result<Group<M>, PmcgError> {
///     Group::new(map(monitor.page_0), monitor.page_1.map(map))
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Monitor {
    /// Path in the device tree, or `PMCG at offset 0x48`, in the IORT.
    pub name: String,
    /// Its first page. It may lie within the registers of an SMMU ([`Instance::registers`](crate::Instance::registers)),
    /// where the architecture leaves room for it.
    pub page_0: Region,
    /// Its second page, where firmware says that there is one.
    pub page_1: Option<Region>,
    /// Its wired interrupt, of overflows.
    pub interrupt: Option<Line>,
    /// Where its interrupt goes if it is a message, and as which device: see [`crate::Msi`].
    pub msi: Option<crate::Msi>,
    /// What it watches.
    pub watches: Watched,
}

impl Monitor {
    /// The number of the group's page, by which Linux names it: `smmuv3_pmcg_2b402`.
    #[must_use]
    pub const fn page_number(&self) -> u64 {
        self.page_0.base >> 12
    }
}

/// What a group of performance monitors watches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Watched {
    /// Firmware does not say: so it is in a device tree.
    Unknown,
    /// An SMMU.
    Smmu(InstanceIndex),
    /// A root complex with a part of an SMMU of its own: its index in [`Topology::roots`](crate::Topology::roots).
    Root(usize),
    /// A device with a part of an SMMU of its own: its index in [`Topology::devices`](crate::Topology::devices).
    Device(usize),
    /// Another node, such as an SMMU that is not driven: what it is and where, `SMMUv1/v2 at offset 0x264`.
    Node(String),
}
