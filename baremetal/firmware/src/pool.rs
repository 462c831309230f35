// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver needs: memory that is handed out once and never taken back, one CPU, and no interrupts.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use smmuv3::hardware::{Registers, order_stores};
use smmuv3::{Frames, PhysAddr, Platform, SpinMutex};

const BYTES: usize = 128 << 10;

/// Aligned as the largest piece of it may have to be.
#[repr(align(0x10000))]
struct Memory(UnsafeCell<[u8; BYTES]>);

// SAFETY: only the pool accesses it, and hands each byte out once.
unsafe impl Sync for Memory {}

/// Zeroed with the rest of `.bss`.
static MEMORY: Memory = Memory(UnsafeCell::new([0; BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// The memory of this firmware, mapped at its physical address.
#[derive(Clone, Copy, Debug)]
pub struct Pool;

impl Pool {
    /// Bytes handed out.
    pub fn used(self) -> usize {
        USED.load(Ordering::Relaxed)
    }

    fn start() -> usize {
        MEMORY.0.get().expose_provenance()
    }
}

// SAFETY: pieces are disjoint, aligned, zeroed, and stay where they are.
unsafe impl Frames for Pool {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let begins = |used: usize| (Self::start() + used).next_multiple_of(align) - Self::start();
        let next = |used| begins(used).checked_add(size).filter(|end| *end <= BYTES);
        let used = USED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(PhysAddr((Self::start() + begins(used)) as u64))
    }

    unsafe fn free(&self, _: PhysAddr, _: usize, _: usize) {}

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        let pointer = core::ptr::with_exposed_provenance_mut(pa.0 as usize);
        NonNull::new(pointer).unwrap_or(NonNull::dangling())
    }

    /// The SMMU snoops.
    fn publish(&self, _: PhysAddr, _: usize) {
        order_stores();
    }
}

// SAFETY: as for `Frames`.
unsafe impl Platform for Pool {
    type Mmio = Registers;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocate(size, align)
    }

    unsafe fn free_coherent(&self, _: PhysAddr, _: usize, _: usize) {}

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn now(&self) -> u64 {
        let (ticks, frequency): (u64, u64);
        // SAFETY: reading a counter breaks nothing.
        unsafe {
            asm!("isb", "mrs {}, cntvct_el0", "mrs {}, cntfrq_el0", out(reg) ticks, out(reg) frequency,
                options(nomem, nostack, preserves_flags));
        }
        (u128::from(ticks) * 1_000_000_000 / u128::from(frequency.max(1))) as u64
    }
}
