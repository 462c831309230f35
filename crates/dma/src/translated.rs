// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a virtio device whose memory accesses are translated.

use core::error::Error;
use core::fmt;

use virtio_drivers::Result as VirtioResult;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// VIRTIO_F_ACCESS_PLATFORM (virtio 1.2, 6): what the device is told are addresses for an IOMMU, not physical ones.
const ACCESS_PLATFORM: u64 = 1 << 33;

/// A transport that accepts VIRTIO_F_ACCESS_PLATFORM (bit 33), as a driver behind an SMMU must.
///
/// The drivers of `virtio-drivers` 0.13 never accept it. A device that insists on it (all that are behind an SMMU:
/// QEMU's with `iommu_platform=on`) then does not set FEATURES_OK, which they do not look at either: it never starts,
/// and the first request never ends. So every [`Transport`] goes through this, on its way to a driver over
/// [`VirtioHal`](crate::VirtioHal).
pub struct Translated<T>(T);

/// The device does not offer VIRTIO_F_ACCESS_PLATFORM: its accesses are not translated, so that an input address which
/// it is told would be a physical one, and somebody else's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTranslated {
    /// The feature bits that it does offer, as VIRTIO numbers them.
    pub offered: u64,
}

impl fmt::Display for NotTranslated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered } = self;
        write!(f, "the device's accesses are not translated (it offers features {offered:#x})")
    }
}

impl Error for NotTranslated {}

impl<T: Transport> Translated<T> {
    /// A transport for a driver that uses input addresses.
    ///
    /// # Errors
    /// [`NotTranslated`]: the device must not be told any. The transport is dropped.
    pub fn new(mut transport: T) -> Result<Self, NotTranslated> {
        match transport.read_device_features() {
            offered if offered & ACCESS_PLATFORM != 0 => Ok(Self(transport)),
            offered => Err(NotTranslated { offered }),
        }
    }
}

/// All as it was, but for one bit.
impl<T: Transport> Transport for Translated<T> {
    fn write_driver_features(&mut self, features: u64) {
        self.0.write_driver_features(features | ACCESS_PLATFORM);
    }

    fn device_type(&self) -> DeviceType {
        self.0.device_type()
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.read_device_features()
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.0.max_queue_size(queue)
    }

    fn notify(&mut self, queue: u16) {
        self.0.notify(queue);
    }

    fn get_status(&self) -> DeviceStatus {
        self.0.get_status()
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.0.set_status(status);
    }

    fn set_guest_page_size(&mut self, size: u32) {
        self.0.set_guest_page_size(size);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.0.requires_legacy_layout()
    }

    fn queue_set(&mut self, queue: u16, size: u32, descriptors: u64, driver: u64, device: u64) {
        self.0.queue_set(queue, size, descriptors, driver, device);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.0.queue_unset(queue);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.queue_used(queue)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.0.ack_interrupt()
    }

    fn read_config_generation(&self) -> u32 {
        self.0.read_config_generation()
    }

    fn read_config_space<V: FromBytes + IntoBytes>(&self, offset: usize) -> VirtioResult<V> {
        self.0.read_config_space(offset)
    }

    fn write_config_space<V: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: V,
    ) -> VirtioResult<()> {
        self.0.write_config_space(offset, value)
    }
}
