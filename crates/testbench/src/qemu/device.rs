// SPDX-License-Identifier: MIT OR Apache-2.0
//! What QEMU has to be a master: two PCI devices that do DMA when told to.

use core::fmt;

/// A PCI device that does DMA through an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// `edu`: reads and writes any data, and never says whether the SMMU let it.
    Edu,
    /// `iommu-testdev` (QEMU 11): writes one fixed pattern, and says whether it arrived.
    Testdev,
}

/// What a master can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// It can read memory.
    pub reads: bool,
    /// It writes whatever it is given; otherwise [`super::testdev::pattern`] only.
    pub arbitrary_data: bool,
    /// It says whether a write was refused; otherwise only the event queue and the memory tell.
    pub reports_refusal: bool,
}

/// What a master says about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaStatus {
    /// All of it was written.
    Completed,
    /// The SMMU, or the bus behind it, refused at least a part.
    Refused,
    /// This master does not say.
    Unreported,
}

impl DeviceKind {
    /// What such a master can do.
    #[must_use]
    pub fn capabilities(self) -> Capabilities {
        match self {
            Self::Edu => Capabilities { reads: true, arbitrary_data: true, reports_refusal: false },
            Self::Testdev => {
                Capabilities { reads: false, arbitrary_data: false, reports_refusal: true }
            }
        }
    }

    /// The `-device` argument, without the bus.
    pub(super) fn argument(self) -> &'static str {
        match self {
            // By default it cuts addresses to 28 bits.
            Self::Edu => "edu,dma_mask=0xffffffffffffffff",
            Self::Testdev => "iommu-testdev",
        }
    }

    /// The first word of its configuration space: device ID, vendor ID.
    pub(super) fn pci_id(self) -> u32 {
        match self {
            Self::Edu => 0x11e8_1234,
            Self::Testdev => 0x0005_1b36,
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edu => "edu",
            Self::Testdev => "iommu-testdev",
        })
    }
}
