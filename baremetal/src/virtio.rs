// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtio devices: their drivers are the crate `virtio-drivers`, their DMA goes through a space.

use core::ptr::{NonNull, with_exposed_provenance_mut};

use smmuv3::PhysAddr;
use smmuv3_dma::{DmaSpace, VirtioFailure, VirtioHal, VirtioSpace};
use spin::Once;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};

use crate::platform::Kernel;
use crate::println;

/// Vendor of all of them.
pub const VENDOR: u16 = 0x1af4;
/// Device ID of a block device.
pub const BLOCK: u16 = 0x1042;
/// Device ID of a source of random numbers.
pub const ENTROPY: u16 = 0x1044;

/// How many spaces there can be.
pub const SPACES: usize = 3;

/// `Hal` has no `self`, so spaces are statics, and each has a type.
static PLACES: [Once<DmaSpace<Kernel>>; SPACES] = [const { Once::new() }; SPACES];

/// The drivers' access to memory through space `N`.
pub type Hal<const N: usize> = VirtioHal<Spaces<N>>;

/// Space `N`.
pub struct Spaces<const N: usize>;

impl<const N: usize> Spaces<N> {
    /// Puts the space in its place.
    pub fn set(space: DmaSpace<Kernel>) -> &'static DmaSpace<Kernel> {
        let mut fresh = Some(space);
        let place = PLACES[N].call_once(|| fresh.take().unwrap_or_else(|| unreachable!("once")));
        assert!(fresh.is_none(), "space {N} is there already");
        place
    }
}

// SAFETY: registers are mapped as Device memory, at their physical addresses.
unsafe impl<const N: usize> VirtioSpace for Spaces<N> {
    type Platform = Kernel;

    fn space() -> &'static DmaSpace<Kernel> {
        PLACES[N].get().unwrap_or_else(|| panic!("there is no space {N}"))
    }

    unsafe fn mmio(pa: PhysAddr, _: usize) -> NonNull<u8> {
        let pointer = with_exposed_provenance_mut(pa.0 as usize);
        NonNull::new(pointer).unwrap_or_else(|| panic!("registers at 0"))
    }

    fn failed(failure: VirtioFailure) {
        println!("virtio: {failure:?}");
    }
}

/// VIRTIO_F_ACCESS_PLATFORM: the device's memory accesses are translated.
const ACCESS_PLATFORM: u64 = 1 << 33;

/// A transport that accepts [`ACCESS_PLATFORM`], which the drivers do not: a device behind an IOMMU insists on it, and
/// does nothing without.
pub struct Translated(pub PciTransport);

impl Transport for Translated {
    fn write_driver_features(&mut self, features: u64) {
        let offered = self.0.read_device_features() & ACCESS_PLATFORM;
        self.0.write_driver_features(features | offered);
    }

    // All others as they are.

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

    fn read_config_space<T: zerocopy::FromBytes + zerocopy::IntoBytes>(
        &self,
        offset: usize,
    ) -> virtio_drivers::Result<T> {
        self.0.read_config_space(offset)
    }

    fn write_config_space<T: zerocopy::IntoBytes + zerocopy::Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> virtio_drivers::Result<()> {
        self.0.write_config_space(offset, value)
    }
}
