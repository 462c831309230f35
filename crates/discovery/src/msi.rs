// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where interrupt messages go: frames and ITSs, and what devices are called there.

use alloc::string::String;

use crate::instance::Region;

/// What takes interrupt messages.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Doorbell {
    /// Path in the device tree, or `ITS 3`.
    pub name: String,
    /// What it is.
    pub kind: DoorbellKind,
    /// The page that devices write to, which has to be mapped for them: see [`Doorbell::register`]. An IORT does not
    /// say (the MADT does): [`Topology::place_its`](crate::Topology::place_its).
    pub page: Option<Region>,
}

/// Which kind of doorbell it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DoorbellKind {
    /// A GICv2m frame: the device writes the SPI's number.
    GicV2m,
    /// An ITS, by its number in ACPI, which is 0 in a device tree.
    Its {
        /// GIC ITS ID.
        id: u32,
    },
}

impl Doorbell {
    /// The register that messages are written to: MSI_SETSPI_NS of the frame, GITS_TRANSLATER of the ITS. Both are at
    /// 0x40 of their page.
    #[must_use]
    pub fn register(&self) -> Option<u64> {
        Some(self.page?.base.saturating_add(0x40))
    }
}

/// A place in [`Topology::doorbells`](crate::Topology::doorbells).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DoorbellIndex(pub usize);

/// Where messages of a device go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// The doorbell; of a group of ITSs the first.
    pub doorbell: DoorbellIndex,
    /// The device's ID there: the DeviceID of an ITS; nothing to a frame.
    pub device_id: u32,
}

/// A range of IDs and what the device is called where its messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MsiMapping {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) output: u32,
    pub(crate) doorbell: DoorbellIndex,
}

impl MsiMapping {
    pub(crate) fn map(&self, id: u32) -> Option<Msi> {
        let device_id = (self.first..=self.last)
            .contains(&id)
            .then(|| self.output.wrapping_add(id - self.first));
        Some(Msi { doorbell: self.doorbell, device_id: device_id? })
    }
}
