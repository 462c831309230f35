// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of one SMMU of a QEMU.

use std::sync::Arc;

use super::Shared;
use super::error::QemuError;
use super::qtest::Qtest;
use super::topology::REGISTERS;

/// A handle to one instance's registers: two 64 KiB pages (§6). Cloning is cheap.
///
/// The first error of any handle is kept for [`super::Qemu::health`]. A handle does not keep QEMU
/// running: after its [`super::Qemu`] was dropped it gives [`QemuError::Stopped`].
#[derive(Clone)]
pub struct QemuMmio {
    pub(super) shared: Arc<Shared>,
    pub(super) instance: usize,
    /// The physical address of the first register.
    pub(super) base: u64,
}

impl QemuMmio {
    /// Reads the 32-bit register at `offset` in bytes.
    ///
    /// # Errors
    /// [`QemuError::NoRegister`] outside the pages or unaligned; otherwise QEMU's failure.
    pub fn read32(&self, offset: u32) -> Result<u32, QemuError> {
        self.access(offset, 32, |qtest, address| qtest.readl(address))
    }

    /// Writes the 32-bit register at `offset` in bytes. Whatever the SMMU does because of it (consume
    /// commands, for example) is done when this returns.
    ///
    /// # Errors
    /// As for [`QemuMmio::read32`].
    pub fn write32(&self, offset: u32, value: u32) -> Result<(), QemuError> {
        self.access(offset, 32, |qtest, address| qtest.writel(address, value))
    }

    /// Reads the 64-bit register at `offset` in bytes, in one access.
    ///
    /// # Errors
    /// As for [`QemuMmio::read32`].
    pub fn read64(&self, offset: u32) -> Result<u64, QemuError> {
        self.access(offset, 64, |qtest, address| qtest.readq(address))
    }

    /// Writes the 64-bit register at `offset` in bytes, in one access.
    ///
    /// # Errors
    /// As for [`QemuMmio::read32`].
    pub fn write64(&self, offset: u32, value: u64) -> Result<(), QemuError> {
        self.access(offset, 64, |qtest, address| qtest.writeq(address, value))
    }

    fn access<T>(
        &self,
        offset: u32,
        bits: u32,
        access: impl FnOnce(&mut Qtest, u64) -> Result<T, QemuError>,
    ) -> Result<T, QemuError> {
        let mut inner = self.shared.lock();
        let result = if offset < REGISTERS && offset.is_multiple_of(bits / 8) {
            access(&mut inner.qtest, self.base + u64::from(offset))
        } else {
            Err(QemuError::NoRegister { instance: self.instance, offset, bits })
        };
        if let Err(error) = &result {
            inner.first_error.get_or_insert_with(|| error.clone());
        }
        result
    }
}

impl core::fmt::Debug for QemuMmio {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "QemuMmio(instance {} at {:#x})", self.instance, self.base)
    }
}
