// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operating system of a stress: a platform that pins ASIDs, and CPUs that broadcast.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmuv3::{Frames, PhysAddr, Platform};
use smmuv3_model::{Broadcast, Pages, Tlbi};

use crate::platform::{SpinMutex, TestMmio, TestPlatform, World};

thread_local! {
    /// The number of the CPU that this thread is.
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// The driver's surroundings, with processes.
#[derive(Clone)]
pub struct Cpus {
    test: TestPlatform,
    count: usize,
    processes: Arc<Mutex<Processes>>,
}

#[derive(Default)]
struct Processes {
    next: u64,
    /// By cookie.
    live: BTreeMap<u64, Numbers>,
}

/// What a CPU knows of a process.
struct Numbers {
    asid: u16,
    /// The driver may use it.
    may_pin: bool,
    pins: u32,
}

/// The largest ASID of CPUs.
const LARGEST: u16 = u16::MAX;

impl Cpus {
    /// `count` of them.
    pub fn new(world: &Arc<World>, count: usize) -> Self {
        Self { test: TestPlatform(world.clone()), count, processes: Arc::default() }
    }

    /// This thread is a CPU of its own.
    pub fn run_as(cpu: usize) {
        CPU.set(cpu);
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process begins: its cookie and its ASID. That is one of the largest, which wide instances give out
    /// first: `choose` says which, so that it often belongs to a domain already.
    pub fn begin(&self, choose: u16, may_pin: bool) -> (u64, u16) {
        let mut processes = self.processes();
        let mut asid = LARGEST - choose;
        while processes.live.values().any(|process| process.asid == asid) {
            asid -= 1;
        }
        processes.next += 1;
        let cookie = processes.next;
        processes.live.insert(cookie, Numbers { asid, may_pin, pins: 0 });
        (cookie, asid)
    }

    /// A process is over; whether its ASID was given back.
    pub fn end(&self, cookie: u64) -> bool {
        self.processes().live.remove(&cookie).is_some_and(|process| process.pins == 0)
    }

    /// How many processes there are.
    pub fn live(&self) -> usize {
        self.processes().live.len()
    }

    /// Invalidates `count` pages from `va` on in all TLBs, as a process with `asid`, and waits for that.
    pub fn broadcast(&self, instances: usize, asid: u16, va: u64, count: u64) {
        let pages = Pages { count, ..Pages::one(va) };
        for instance in 0..instances {
            if let Some(mut model) = self.test.0.machine().model(instance) {
                let (world, tlbi) = (smmuv3_model::World::El1, Tlbi::Va { asid, pages });
                model.broadcast(Broadcast { world, vmid: 0, tlbi });
            }
        }
    }
}

// SAFETY: as `TestPlatform`, which does it all.
unsafe impl Frames for Cpus {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.test.allocate(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.test.free(frame, size, align) };
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.test.pointer(pa)
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        self.test.publish(pa, bytes);
    }
}

// SAFETY: as above.
unsafe impl Platform for Cpus {
    type Mmio = TestMmio;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.test.allocate_coherent(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.test.free_coherent(memory, size, align) };
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        self.test.mask_irqs(critical)
    }

    fn pin_asid(&self, cookie: u64) -> Option<u16> {
        let mut processes = self.processes();
        let process = processes.live.get_mut(&cookie).filter(|process| process.may_pin)?;
        process.pins += 1;
        Some(process.asid)
    }

    fn unpin_asid(&self, cookie: u64, asid: u16) {
        let mut processes = self.processes();
        let process = processes.live.get_mut(&cookie).filter(|process| process.asid == asid);
        let process = process.unwrap_or_else(|| panic!("ASID {asid:#x} of nobody is unpinned"));
        let left = process.pins.checked_sub(1);
        process.pins = left.unwrap_or_else(|| panic!("ASID {asid:#x} is unpinned once too often"));
    }

    fn cpu(&self) -> usize {
        CPU.get()
    }

    fn max_cpus(&self) -> usize {
        self.count
    }

    fn relax(&self) {
        self.test.relax();
    }

    fn now(&self) -> u64 {
        self.test.now()
    }
}
