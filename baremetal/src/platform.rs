// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver needs from this kernel: memory, a lock, a clock.

use core::ptr::NonNull;

use aarch64_cpu::asm::wfe;
use smmuv3::hardware::{Registers, order_stores};
use smmuv3::{Frames, PhysAddr, Platform, SpinMutex};
use smmuv3_dma::DmaPlatform;

use crate::heap::FRAMES;
use crate::{cpu, memory, time};

/// This kernel, as the driver sees it. RAM is mapped at its physical addresses, and SMMUs snoop the caches.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// How many CPUs there are.
    pub cpus: usize,
}

// SAFETY: the pool hands out disjoint, aligned, zeroed memory that stays mapped, at its physical address.
unsafe impl Frames for Kernel {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let memory = FRAMES.allocate(size, align)?;
        Some(PhysAddr(memory.as_ptr().expose_provenance() as u64))
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { FRAMES.free(self.pointer(frame), size, align) };
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        /// Takes the address, not a reference to it, which would have to be in memory each time.
        #[cold]
        fn absent(pa: PhysAddr) -> ! {
            panic!("there is no memory at {pa}")
        }
        let pointer = core::ptr::with_exposed_provenance_mut(pa.0 as usize);
        NonNull::new(pointer).unwrap_or_else(|| absent(pa))
    }

    /// The SMMU snoops: what is stored before is seen before what is stored after.
    fn publish(&self, _: PhysAddr, _: usize) {
        order_stores();
    }
}

// SAFETY: as for `Frames`; `mask_irqs` runs its argument once.
unsafe impl Platform for Kernel {
    type Mmio = Registers;
    /// There are no threads that could sleep.
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocate(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.free(memory, size, align) };
    }

    #[inline(always)]
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        cpu::mask_irqs(critical)
    }

    fn cpu(&self) -> usize {
        cpu::number()
    }

    fn max_cpus(&self) -> usize {
        self.cpus
    }

    /// Until an SMMU tells of completed commands (its handler does `sev`), or for 100 us: [`cpu::init`].
    fn relax(&self) {
        wfe();
    }

    fn now(&self) -> u64 {
        time::now()
    }
}

// SAFETY: RAM is mapped at its physical addresses, and devices may use all of it.
unsafe impl DmaPlatform for Kernel {
    fn physical(&self, start: NonNull<u8>, len: usize) -> Option<(PhysAddr, usize)> {
        let (first, mapped) = (start.as_ptr().expose_provenance(), memory::mapped());
        let inside = mapped.contains(&first) && len <= mapped.end - first;
        inside.then_some((PhysAddr(first as u64), len))
    }
}
