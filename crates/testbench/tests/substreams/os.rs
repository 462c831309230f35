// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test's platform as part of an operating system: it pins ASIDs of processes, and keeps count. What it
//! allocates for itself is not the driver's.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smmuv3::{Frames, Mmio, PhysAddr, Platform};
use smmuv3_testbench::platform::{SpinMutex, TestMmio, TestPlatform};

use crate::allocator::{as_here, platform};

/// What the operating system knows of its processes.
#[derive(Default)]
pub struct Pins {
    /// The ASID that each has on the CPUs, if it can be pinned.
    pub answers: BTreeMap<u64, u16>,
    /// How often each is pinned.
    pub held: BTreeMap<u64, u32>,
    /// Pins and unpins so far.
    pub calls: [usize; 2],
}

/// See the module.
pub struct Os {
    pub inner: TestPlatform,
    pins: Mutex<Pins>,
    /// There is no more memory for tables.
    pub exhausted: AtomicBool,
}

impl Os {
    pub fn new(inner: TestPlatform) -> Self {
        Self { inner, pins: Mutex::default(), exhausted: AtomicBool::new(false) }
    }

    pub fn pins(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: the inner one's promises.
unsafe impl Frames for Os {
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
unsafe impl Platform for Os {
    type Mmio = OsMmio;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let exhausted = self.exhausted.load(Ordering::Relaxed);
        platform(|| if exhausted { None } else { self.inner.allocate_coherent(size, align) })
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
            let mut pins = self.pins();
            let asid = *pins.answers.get(&process)?;
            *pins.held.entry(process).or_default() += 1;
            pins.calls[0] += 1;
            Some(asid)
        })
    }

    fn unpin_asid(&self, process: u64, asid: u16) {
        platform(|| {
            let mut pins = self.pins();
            assert_eq!(pins.answers.get(&process), Some(&asid), "of process {process}");
            let held = pins.held.get_mut(&process).filter(|held| **held != 0);
            *held.unwrap_or_else(|| panic!("{process} is not pinned")) -= 1;
            pins.calls[1] += 1;
        });
    }

    fn max_cpus(&self) -> usize {
        3
    }

    fn relax(&self) {
        platform(|| self.inner.relax())
    }

    fn now(&self) -> u64 {
        platform(|| self.inner.now())
    }
}

/// Registers, whose implementation is the platform's.
pub struct OsMmio(pub TestMmio);

impl Mmio for OsMmio {
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
