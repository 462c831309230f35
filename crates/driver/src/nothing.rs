// SPDX-License-Identifier: MIT OR Apache-2.0
//! A platform without anything, for tests of what needs no more than a lock.

use core::cell::Cell;
use core::ptr::NonNull;

use smmuv3_formats::PhysAddr;

use crate::platform::{Frames, Mmio, Platform, RawMutex};

std::thread_local! {
    static MASKED: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread has masked interrupts.
pub(crate) fn masked() -> usize {
    MASKED.get()
}

/// Masks what never comes, and has nothing else.
pub(crate) struct Nothing;

impl Mmio for Nothing {
    fn read32(&self, _: u32) -> u32 {
        0
    }
    fn write32(&self, _: u32, _: u32) {}
}

// SAFETY: never used by two.
unsafe impl RawMutex for Nothing {
    fn new() -> Self {
        Self
    }
    fn lock(&self) {}
    unsafe fn unlock(&self) {}
}

// SAFETY: it has no frames.
unsafe impl Frames for Nothing {
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
unsafe impl Platform for Nothing {
    type Mmio = Self;
    type Mutex = Self;
    fn allocate_coherent(&self, _: usize, _: usize) -> Option<PhysAddr> {
        None
    }
    unsafe fn free_coherent(&self, _: PhysAddr, _: usize, _: usize) {}
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        MASKED.set(MASKED.get() + 1);
        critical()
    }
    fn relax(&self) {}
    fn now(&self) -> u64 {
        0
    }
}
