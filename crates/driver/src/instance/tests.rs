// SPDX-License-Identifier: MIT OR Apache-2.0
//! What probing says of registers that do not reach as far as those of an SMMU (§2.1).

use core::ptr::NonNull;

use std::string::ToString as _;

use smmuv3_formats::PhysAddr;
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

use super::*;
use crate::platform::{Frames, Mmio, RawMutex};

/// The ID registers of QEMU's, and so many bytes of registers.
struct Short(u64);

impl Mmio for Short {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            Idr0::OFFSET => 0x0d44_101b,
            Idr1::OFFSET => 0x0273_0010,
            Idr3::OFFSET => 0x1414,
            Idr5::OFFSET => 0x74,
            Aidr::OFFSET => 1,
            _ => 0,
        }
    }

    fn write32(&self, offset: u32, _: u32) {
        panic!("{offset:#x} was written");
    }

    fn bytes(&self) -> u64 {
        self.0
    }
}

/// A platform with such registers.
struct WithShort;

// SAFETY: never used by two.
unsafe impl RawMutex for WithShort {
    fn new() -> Self {
        Self
    }
    fn lock(&self) {}
    unsafe fn unlock(&self) {}
}

// SAFETY: it has no frames.
unsafe impl Frames for WithShort {
    fn allocate(&self, _: usize, _: usize) -> Option<PhysAddr> {
        None
    }
    unsafe fn free(&self, _: PhysAddr, _: usize, _: usize) {}
    fn pointer(&self, _: PhysAddr) -> NonNull<u8> {
        unreachable!("there is no memory")
    }
    fn publish(&self, _: PhysAddr, _: usize) {}
}

// SAFETY: it has no memory, and runs what is critical once.
unsafe impl Platform for WithShort {
    type Mmio = Short;
    type Mutex = Self;
    fn allocate_coherent(&self, _: usize, _: usize) -> Option<PhysAddr> {
        None
    }
    unsafe fn free_coherent(&self, _: PhysAddr, _: usize, _: usize) {}
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }
    fn relax(&self) {}
    fn now(&self) -> u64 {
        0
    }
}

#[test]
fn registers_without_page_1_are_refused_unless_firmware_says_that_there_is_none() {
    let probed = |bytes, page_0_only| {
        let mut config = InstanceConfig::named("smmu");
        config.firmware.page_0_only = page_0_only;
        Probed::<WithShort>::new(Short(bytes), config).map(drop)
    };
    for bytes in [0, 0x1_0000, 0x1_fffc] {
        assert_eq!(probed(bytes, false), Err(Unsupported::Pages { bytes }));
        assert_eq!(probed(bytes, true), Ok(()));
    }
    for bytes in [0x2_0000, 0x4_0000] {
        assert_eq!(probed(bytes, false), Ok(()));
    }
    assert!(Unsupported::Pages { bytes: 0x1_0000 }.to_string().contains("0x10000"));
}
