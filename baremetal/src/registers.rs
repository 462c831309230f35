// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers of devices, mapped as Device memory, accessed in order with memory.

use core::arch::asm;
use core::ptr::NonNull;

use safe_mmio::UniqueMmioPointer;
use safe_mmio::fields::ReadPureWrite;

/// A range of registers, accessed at byte offsets. Copies are the same registers.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    base: usize,
    bytes: usize,
}

impl Registers {
    /// The registers at `base`.
    ///
    /// # Safety
    /// `bytes` bytes of registers are mapped there as Device memory, for ever; accesses break no promise of
    /// anybody who uses them by another way.
    pub const unsafe fn new(base: usize, bytes: usize) -> Self {
        Self { base, bytes }
    }

    /// Reads 32 bits. What comes after it happens after it.
    pub fn read32(&self, offset: usize) -> u32 {
        let value = self.at::<u32>(offset).read();
        load_barrier();
        value
    }

    /// Writes 32 bits. What came before it happens before it.
    pub fn write32(&self, offset: usize, value: u32) {
        barrier();
        self.at::<u32>(offset).write(value);
    }

    /// Reads 64 bits, as [`Registers::read32`].
    pub fn read64(&self, offset: usize) -> u64 {
        let value = self.at::<u64>(offset).read();
        load_barrier();
        value
    }

    /// Writes 64 bits, as [`Registers::write32`].
    pub fn write64(&self, offset: usize, value: u64) {
        barrier();
        self.at::<u64>(offset).write(value);
    }

    /// Reads 8 bits, as [`Registers::read32`].
    pub fn read8(&self, offset: usize) -> u8 {
        let value = self.at::<u8>(offset).read();
        load_barrier();
        value
    }

    /// Writes 16 bits, as [`Registers::write32`].
    pub fn write16(&self, offset: usize, value: u16) {
        barrier();
        self.at::<u16>(offset).write(value);
    }

    fn at<T>(&self, offset: usize) -> UniqueMmioPointer<'_, ReadPureWrite<T>> {
        let inside = offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.bytes;
        assert!(inside, "no register at {offset:#x} of {self:x?}");
        let pointer = core::ptr::with_exposed_provenance_mut(self.base + offset);
        let Some(pointer) = NonNull::new(pointer) else { panic!("registers at 0") };
        // SAFETY: inside of what `new` was promised. Several CPUs may use one register at once: each access is one
        // instruction, and no reference is made.
        unsafe { UniqueMmioPointer::new(pointer) }
    }
}

/// Loads and stores before it come before loads and stores after it, as devices see them.
fn barrier() {
    // SAFETY: a barrier breaks nothing.
    unsafe { asm!("dmb osh", options(nostack, preserves_flags)) };
}

/// Loads before it come before whatever comes after it.
fn load_barrier() {
    // SAFETY: a barrier breaks nothing.
    unsafe { asm!("dmb oshld", options(nostack, preserves_flags)) };
}
