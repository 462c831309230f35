// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's `iommu-testdev`, from 11.1 on: a device that writes a fixed pattern, at once, and says whether it arrived.

use crate::pci::Device;
use crate::registers::Registers;

/// Vendor and device.
pub const ID: (u16, u16) = (0x1b36, 0x0005);

/// The word that it writes over and over.
pub const PATTERN: u32 = 0x1234_5678;

/// All was written, and the memory at the physical address has it.
pub const WRITTEN: u32 = 0;
/// A part at least was refused.
pub const REFUSED: u32 = 0xdead_0002;

// Offsets of 32-bit registers.
const TRIGGER: usize = 0x00;
const IOVA: usize = 0x04;
const LENGTH: usize = 0x0c;
const RESULT: usize = 0x10;
const DOORBELL: usize = 0x14;
const PA: usize = 0x1c;

/// Its registers.
pub struct Testdev(Registers);

impl Testdev {
    /// The device at `device`.
    pub fn new(device: &Device) -> Self {
        Self(device.registers())
    }

    /// Writes `count` bytes of the pattern to the address `iova`, reads the memory at `pa` past the SMMU, and returns
    /// what the device says of it.
    pub fn write(&self, iova: u64, count: u32, pa: u64) -> u32 {
        // Halves of 64-bit addresses.
        self.0.write32(IOVA, iova as u32);
        self.0.write32(IOVA + 4, (iova >> 32) as u32);
        self.0.write32(LENGTH, count);
        self.0.write32(PA, pa as u32);
        self.0.write32(PA + 4, (pa >> 32) as u32);
        self.0.write32(DOORBELL, 1);
        // The transfer happens within this read.
        self.0.read32(TRIGGER);
        self.0.read32(RESULT)
    }
}
