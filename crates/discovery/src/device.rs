// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a device is named, and what it is known by to its SMMU.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use smmuv3::StreamId;

/// A device, as the operating system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device<'a> {
    /// A PCI function: the one whose requester ID its transactions carry. Behind a bridge to conventional PCI that is
    /// the bridge.
    Pci {
        /// PCI segment (`linux,pci-domain`).
        segment: u32,
        /// Bus.
        bus: u8,
        /// Device, 0 to 31.
        device: u8,
        /// Function, 0 to 7.
        function: u8,
    },
    /// A device with a node of its own: the full path in the device tree (`/soc/dma@12340000`), or the full name in
    /// the ACPI name space (`\_SB.DMA0`).
    Path(&'a str),
    /// A device on a bus that is no PCI bus and that has such a path, by its ID on that bus: what `iommu-map`, or the
    /// ranges of a named component, translate.
    OnBus {
        /// The bus.
        path: &'a str,
        /// The device's ID there.
        id: u32,
    },
}

impl Device<'_> {
    /// The PCI function at `bus:device.function` of segment 0.
    #[must_use]
    pub const fn pci(bus: u8, device: u8, function: u8) -> Self {
        Self::Pci { segment: 0, bus, device, function }
    }
}

impl fmt::Display for Device<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci { segment, bus, device, function } => {
                write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function:x}")
            }
            Self::Path(path) => f.write_str(path),
            Self::OnBus { path, id } => write!(f, "{path} id {id:#x}"),
        }
    }
}

/// A place in [`Topology::instances`](crate::Topology::instances).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceIndex(pub usize);

impl fmt::Display for InstanceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SMMU {}", self.0)
    }
}

/// The streams of a device: at least one, each once, in the order in which firmware lists them.
#[derive(Debug, PartialEq, Eq)]
pub struct StreamIds(pub(crate) Vec<StreamId>);

impl Deref for StreamIds {
    type Target = [StreamId];

    fn deref(&self) -> &[StreamId] {
        &self.0
    }
}

/// Why it is not known which streams a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupError {
    /// Firmware does not mention it: no such path, no root of that segment and bus, or no device or function of that
    /// number on PCI.
    UnknownDevice,
    /// Firmware says that it is behind no SMMU that can be used: its DMA reaches memory as it is, or not at all.
    NotBehindAnSmmu,
    /// It issues streams to several SMMUs. A master is behind one.
    SeveralSmmus {
        /// One.
        first: InstanceIndex,
        /// Another.
        second: InstanceIndex,
    },
    /// Mappings contradict each other about this device, so that no answer can be trusted.
    Ambiguous {
        /// Its ID before the mapping.
        id: u32,
    },
    /// It has more streams than anybody lists.
    TooManyStreams {
        /// How many can be had.
        limit: usize,
    },
    /// No memory.
    NoMemory,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownDevice => f.write_str("firmware knows no such device"),
            Self::NotBehindAnSmmu => f.write_str("it is behind no SMMU that can be used"),
            Self::SeveralSmmus { first, second } => {
                write!(f, "it is behind both {first} and {second}")
            }
            Self::Ambiguous { id } => write!(f, "firmware gives id {id:#x} several meanings"),
            Self::TooManyStreams { limit } => write!(f, "it has more than {limit} streams"),
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for LookupError {}

impl From<smmuv3::NoMemory> for LookupError {
    fn from(_: smmuv3::NoMemory) -> Self {
        Self::NoMemory
    }
}
