// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCI roots, and devices that have a node of their own.

use alloc::string::String;
use alloc::vec::Vec;

use crate::instance::Region;
use crate::mapping::Mapping;
use crate::msi::MsiMapping;

/// A PCI host bridge, or a part of one.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Root {
    /// Path in the device tree, or `root complex at offset 0xa0`, in the IORT.
    pub name: String,
    /// PCI segment.
    pub segment: u32,
    /// First and last bus. The IORT does not say: 0 and 255.
    pub buses: (u8, u8),
    /// Configuration space of all its buses, where it is an ECAM and firmware says where: 1 MiB for each bus, from the
    /// first one. Never from an IORT (the MCFG has it).
    pub ecam: Option<Region>,
    /// What of its addresses reaches PCI devices instead of memory. Never from an IORT.
    pub windows: Vec<Window>,
    /// Only these bits of a requester ID are looked at (`iommu-map-mask`).
    pub mask: u32,
    /// Requester IDs to streams.
    pub mappings: Vec<Mapping>,
    /// Requester IDs to the DeviceIDs of messages. Empty from an IORT, where they follow from the streams: see
    /// [`Topology::msi_of`](crate::Topology::msi_of).
    pub(crate) msi: Vec<MsiMapping>,
    /// As [`Root::mask`], for messages.
    pub(crate) msi_mask: u32,
    /// Devices behind it are coherent with the CPUs' caches.
    pub coherent: bool,
    /// It takes part in ATS, and PRI, as far as firmware says.
    pub ats: bool,
    /// Bits of the addresses that it can issue, where firmware says so (`dma-ranges`: its own, or, where those are no
    /// limit, of the nearest bus above that has some).
    pub address_bits: Option<u8>,
    /// Input addresses that must not be handed out to what is behind it, besides its windows: `iommu-addresses` that
    /// name it, and what is in none of those `dma-ranges`, up to [`Root::address_bits`]. Never from an IORT.
    pub reserved: Vec<Region>,
}

/// What a window is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB, on PCI.
    Memory32,
    /// Memory.
    Memory64,
}

/// A window of a host bridge: CPU addresses that reach PCI devices.
///
/// A device that issues an address within may reach another device, past the SMMU: such addresses are no IOVAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it is for.
    pub space: Space,
    /// Reading it has no effect.
    pub prefetchable: bool,
    /// Address on PCI.
    pub pci: u64,
    /// Address for CPUs.
    pub cpu: u64,
    /// Bytes.
    pub len: u64,
}

impl Window {
    /// The addresses that devices behind the bridge see it at.
    #[must_use]
    pub const fn on_pci(&self) -> Region {
        Region { base: self.pci, len: self.len }
    }
}

/// A device, or a bus of devices, with a node of its own and an IOMMU.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Named {
    /// Path in the device tree, or name in the ACPI name space.
    pub name: String,
    /// The streams that it issues itself: each is one range of outputs. [`Mapping::first`] means nothing.
    pub own: Vec<Mapping>,
    /// Only these bits of an ID on its bus are looked at.
    pub mask: u32,
    /// IDs on its bus to streams.
    pub mappings: Vec<Mapping>,
    /// It is coherent with the CPUs' caches.
    pub coherent: bool,
    /// Its transactions may be stalled (`dma-can-stall`).
    pub can_stall: bool,
    /// Bits of the PASIDs that it issues; 0 for none.
    pub pasid_bits: u8,
    /// Bits of the addresses that it can issue, where firmware says so (`dma-ranges` of the nearest bus that has them).
    pub address_bits: Option<u8>,
    /// Input addresses that must not be handed out to it: as [`Root::reserved`].
    pub reserved: Vec<Region>,
    /// Its messages, in a device tree (`msi-parent`); ID 0 where it issues one only.
    pub(crate) msi: Vec<MsiMapping>,
    /// As [`Named::mask`], for messages.
    pub(crate) msi_mask: u32,
}
