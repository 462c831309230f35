// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices of a scenario: which streams they have, and what they can do.

use smmuv3::{AtsMode, Overrides};

use super::Places;

/// A device: one or more streams behind one instance.
#[derive(Clone, Debug)]
pub struct Master {
    /// Its name, unique among masters.
    pub name: String,
    /// Index of its instance.
    pub instance: usize,
    /// Its StreamIDs, at least one, no other master of the instance has them. DMA uses the first.
    pub streams: Vec<u32>,
    /// Bits of the PASIDs that it may use; 0 without substreams.
    pub pasid_bits: u32,
    /// Its faults stall, until they are answered.
    pub stalls: bool,
    /// Whether, and how, it keeps translations, if it may (PCIe ATS).
    pub ats: AtsMode,
    /// It asks for pages, if it may (PCIe PRI).
    pub pri: bool,
    /// It needs the PASID in answers to that ("PRG Response PASID Required").
    pub response_pasid: bool,
    /// Attributes of its accesses that its instance overrides.
    pub overrides: Overrides,
    /// Index of the memory that firmware left it to reach, by its physical addresses, while the driver takes its instance
    /// into use, and until it is claimed. With it no substreams, stalls or ATS.
    pub keep: Option<usize>,
    /// What it is where devices are real.
    pub device: Device,
    /// Where it stands in the file.
    pub places: Places,
}

/// Which device does the DMA on a machine with real devices; the model's can do what `Edu` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// QEMU's `edu`: reads and writes, up to 4 KiB a transfer.
    #[default]
    Edu,
    /// QEMU's `iommu-testdev`: writes the pattern [`Device::TEST_PATTERN`], reads nothing.
    TestDevice,
}

impl Device {
    /// The only data that [`Device::TestDevice`] writes: this word, little-endian, again and again.
    pub const TEST_PATTERN: u32 = 0x1234_5678;

    /// The word that scenarios and QEMU have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edu => "edu",
            Self::TestDevice => "testdev",
        }
    }
}
