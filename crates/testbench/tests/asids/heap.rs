// SPDX-License-Identifier: MIT OR Apache-2.0
//! A platform that says which use of the heap is the driver's, and pins ASIDs of processes.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use smmuv3::{Frames, Mmio, PhysAddr, Platform};
use smmuv3_testbench::platform::{SpinMutex, TestMmio, TestPlatform};

use crate::allocator::{as_here, platform};

/// The ASIDs of processes on the CPUs, and how often each is pinned.
#[derive(Default)]
pub struct Pins(Mutex<BTreeMap<u64, (u16, usize)>>);

impl Pins {
    /// The process known as `cookie` has `asid`.
    pub fn add(&self, cookie: u64, asid: u16) {
        self.0.lock().unwrap().insert(cookie, (asid, 0));
    }

    /// How often the ASID of `cookie` is pinned.
    pub fn count(&self, cookie: u64) -> usize {
        self.0.lock().unwrap()[&cookie].1
    }
}

/// The test's platform; what it allocates for itself does not count.
pub struct Apart {
    pub inner: TestPlatform,
    pub pins: Arc<Pins>,
}

pub struct ApartMmio(pub TestMmio);

// SAFETY: the inner one's promises.
unsafe impl Frames for Apart {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        platform(|| self.inner.allocate(size, align))
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        platform(|| unsafe { self.inner.free(frame, size, align) })
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        platform(|| self.inner.pointer(pa))
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        platform(|| self.inner.publish(pa, bytes))
    }
}

// SAFETY: the inner one's promises.
unsafe impl Platform for Apart {
    type Mmio = ApartMmio;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        platform(|| self.inner.allocate_coherent(size, align))
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        platform(|| unsafe { self.inner.free_coherent(memory, size, align) })
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        // The driver's code, with the platform's around it.
        let critical = as_here(critical);
        platform(|| self.inner.mask_irqs(critical))
    }

    fn pin_asid(&self, process: u64) -> Option<u16> {
        platform(|| {
            let mut pins = self.pins.0.lock().unwrap();
            let (asid, count) = pins.get_mut(&process)?;
            *count += 1;
            Some(*asid)
        })
    }

    fn unpin_asid(&self, process: u64, asid: u16) {
        platform(|| {
            let mut pins = self.pins.0.lock().unwrap();
            let (pinned, count) = pins.get_mut(&process).unwrap();
            assert_eq!(*pinned, asid);
            *count -= 1;
        });
    }

    fn max_cpus(&self) -> usize {
        self.inner.max_cpus()
    }

    fn relax(&self) {
        platform(|| self.inner.relax())
    }

    fn now(&self) -> u64 {
        platform(|| self.inner.now())
    }
}

impl Mmio for ApartMmio {
    fn read32(&self, offset: u32) -> u32 {
        platform(|| self.0.read32(offset))
    }

    fn write32(&self, offset: u32, value: u32) {
        platform(|| self.0.write32(offset, value))
    }

    fn write64(&self, offset: u32, value: u64) {
        platform(|| self.0.write64(offset, value))
    }
}
