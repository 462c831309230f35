// SPDX-License-Identifier: MIT OR Apache-2.0
//! A platform that takes as little room as one can, so that the driver is what is weighed.

#[cfg(feature = "alloc")]
use core::alloc::{GlobalAlloc, Layout};
use core::hint::{black_box, spin_loop};
use core::panic::PanicInfo;
use core::ptr::NonNull;

use smmuv3::{Frames, Mmio, PhysAddr, Platform, SpinMutex};

/// The operating system.
pub struct Board;

/// Registers of the SMMU.
pub struct Registers;

/// Memory that nobody knows anything of.
#[inline(never)]
fn memory(bytes: usize) -> usize {
    black_box(bytes)
}

// SAFETY: nothing is run.
unsafe impl Frames for Board {
    fn allocate(&self, size: usize, _: usize) -> Option<PhysAddr> {
        Some(PhysAddr(memory(size) as u64))
    }

    unsafe fn free(&self, _: PhysAddr, size: usize, _: usize) {
        memory(size);
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        let pointer = core::ptr::with_exposed_provenance_mut(pa.0 as usize);
        // SAFETY: as above.
        unsafe { NonNull::new_unchecked(pointer) }
    }

    fn publish(&self, _: PhysAddr, _: usize) {
        smmuv3::hardware::order_stores();
    }
}

// SAFETY: nothing is run.
unsafe impl Platform for Board {
    type Mmio = Registers;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocate(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: as above.
        unsafe { self.free(memory, size, align) };
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }

    fn relax(&self) {
        spin_loop();
    }

    fn now(&self) -> u64 {
        memory(0) as u64
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        memory(offset as usize) as u32
    }

    fn write32(&self, offset: u32, value: u32) {
        memory((offset + value) as usize);
    }
}

#[cfg(feature = "alloc")]
struct Heap;

#[cfg(feature = "alloc")]
#[global_allocator]
static HEAP: Heap = Heap;

#[cfg(feature = "alloc")]
// SAFETY: nothing is run.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(memory(layout.size()))
    }

    unsafe fn dealloc(&self, _: *mut u8, layout: Layout) {
        memory(layout.size());
    }
}

/// The end.
pub fn stop() -> ! {
    loop {
        spin_loop();
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    stop()
}
