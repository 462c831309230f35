// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bit that a virtio device behind an SMMU insists on.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use smmuv3_dma::{NotTranslated, Translated};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// virtio 1.2, 6: VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_RESET.
const VERSION: u64 = 0x1_0000_0000;
const ACCESS_PLATFORM: u64 = 0x2_0000_0000;
const RING_RESET: u64 = 0x100_0000_0000;

/// What a device was told.
#[derive(Default)]
struct Told {
    status: Cell<DeviceStatus>,
    /// Call by call.
    calls: RefCell<Vec<String>>,
}

/// A device that insists on the bit, if it offers it.
struct Fake {
    offers: u64,
    accepted: u64,
    told: Rc<Told>,
}

impl Fake {
    fn new(offers: u64) -> (Self, Rc<Told>) {
        let told = Rc::<Told>::default();
        (Self { offers, accepted: 0, told: told.clone() }, told)
    }

    fn called(&self, what: String) {
        self.told.calls.borrow_mut().push(what);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.called("dropped".into());
    }
}

impl Transport for Fake {
    fn device_type(&self) -> DeviceType {
        DeviceType::EntropySource
    }

    fn read_device_features(&mut self) -> u64 {
        self.offers
    }

    fn write_driver_features(&mut self, features: u64) {
        self.accepted = features;
        self.called(format!("accepts {features:#x}"));
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        16 + u32::from(queue)
    }

    fn notify(&mut self, queue: u16) {
        self.called(format!("notify {queue}"));
    }

    fn get_status(&self) -> DeviceStatus {
        self.told.status.get()
    }

    fn set_status(&mut self, mut status: DeviceStatus) {
        // As virtio 1.2 allows in 6.2, and QEMU does.
        if self.offers & !self.accepted & ACCESS_PLATFORM != 0 {
            status.remove(DeviceStatus::FEATURES_OK);
        }
        self.told.status.set(status);
    }

    fn set_guest_page_size(&mut self, size: u32) {
        self.called(format!("page size {size}"));
    }

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(&mut self, queue: u16, size: u32, descriptors: u64, driver: u64, device: u64) {
        assert!(device.is_multiple_of(PAGE_SIZE as u64));
        self.called(format!("queue {queue} of {size}, {}", driver - descriptors));
    }

    fn queue_unset(&mut self, queue: u16) {
        self.called(format!("no queue {queue}"));
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        queue == 7
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT
    }

    fn read_config_generation(&self) -> u32 {
        0x9e4
    }

    fn read_config_space<T: FromBytes + IntoBytes>(
        &self,
        offset: usize,
    ) -> virtio_drivers::Result<T> {
        let bytes: Vec<u8> = (0..size_of::<T>()).map(|at| (offset + at) as u8).collect();
        T::read_from_bytes(&bytes).map_err(|_| virtio_drivers::Error::IoError)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> virtio_drivers::Result<()> {
        self.called(format!("config {offset}: {:?}", value.as_bytes()));
        Ok(())
    }
}

/// Memory for queues, which this device does not use.
struct Pages;

impl Pages {
    fn layout(pages: usize) -> Layout {
        Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).unwrap()
    }
}

// SAFETY: the allocator's memory is zeroed, and aligned as asked for.
unsafe impl Hal for Pages {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (u64, NonNull<u8>) {
        // SAFETY: no layout of pages is empty.
        let memory = NonNull::new(unsafe { alloc_zeroed(Self::layout(pages)) }).unwrap();
        (memory.as_ptr().addr() as u64, memory)
    }

    unsafe fn dma_dealloc(_: u64, memory: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: the caller says that it is from above.
        unsafe { dealloc(memory.as_ptr(), Self::layout(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(_: u64, _: usize) -> NonNull<u8> {
        unreachable!("there are no registers")
    }

    unsafe fn share(_: NonNull<[u8]>, _: BufferDirection) -> u64 {
        unreachable!("nothing is asked for")
    }

    unsafe fn unshare(_: u64, _: NonNull<[u8]>, _: BufferDirection) {}
}

#[test]
fn a_driver_alone_does_not_accept_the_bit_and_the_device_does_not_start() {
    let (fake, told) = Fake::new(VERSION | ACCESS_PLATFORM);
    let _driver = VirtIORng::<Pages, _>::new(fake).unwrap();
    assert!(!told.status.get().contains(DeviceStatus::FEATURES_OK));
    assert_eq!(told.calls.borrow()[0], format!("accepts {VERSION:#x}"));
}

#[test]
fn through_the_wrapper_the_device_starts() {
    let (fake, told) = Fake::new(VERSION | ACCESS_PLATFORM | RING_RESET);
    let driver = VirtIORng::<Pages, _>::new(Translated::new(fake).unwrap()).unwrap();
    let all = DeviceStatus::ACKNOWLEDGE
        | DeviceStatus::DRIVER
        | DeviceStatus::FEATURES_OK
        | DeviceStatus::DRIVER_OK;
    assert_eq!(told.status.get(), all);
    drop(driver);
    // What neither the driver nor the wrapper knows is not accepted.
    let wanted = [
        format!("accepts {:#x}", VERSION | ACCESS_PLATFORM),
        "page size 4096".into(),
        // 8 descriptors of 16 bytes, then the driver's part.
        "queue 0 of 8, 128".into(),
        "no queue 0".into(),
        "dropped".into(),
    ];
    assert_eq!(told.calls.borrow()[..], wanted);
}

#[test]
fn a_device_whose_accesses_are_not_translated_is_refused() {
    let (fake, told) = Fake::new(VERSION | RING_RESET);
    let refused = Translated::new(fake).err();
    assert_eq!(refused, Some(NotTranslated { offered: VERSION | RING_RESET }));
    assert_eq!(told.calls.borrow()[..], ["dropped"]);
    assert_eq!(
        refused.unwrap().to_string(),
        "the device's accesses are not translated (it offers features 0x10100000000)"
    );
}

#[test]
fn all_else_is_passed_on() {
    let (fake, told) = Fake::new(ACCESS_PLATFORM);
    let mut translated = Translated::new(fake).unwrap();
    assert_eq!(translated.device_type(), DeviceType::EntropySource);
    assert_eq!(translated.read_device_features(), ACCESS_PLATFORM);
    assert_eq!(translated.max_queue_size(3), 19);
    assert!(!translated.requires_legacy_layout());
    assert!(translated.queue_used(7) && !translated.queue_used(6));
    let interrupt = translated.ack_interrupt();
    assert!(interrupt == InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
    assert_eq!(translated.read_config_generation(), 0x9e4);
    assert_eq!(translated.read_config_space::<u16>(0x20).unwrap().to_le(), 0x2120);
    translated.write_config_space(4, [1u8, 2]).unwrap();
    translated.notify(5);
    assert_eq!(told.calls.borrow()[..], ["config 4: [1, 2]", "notify 5"]);
}
