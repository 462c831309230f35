// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of a real SMMU, over the crate `safe-mmio` (feature `safe-mmio`).

use core::ptr::NonNull;

use safe_mmio::UniqueMmioPointer;
use safe_mmio::fields::ReadPureWrite;

use crate::platform::Mmio;

/// A register, or half of one. No read of any has an effect (§2.2).
type Word = ReadPureWrite<u32>;

/// The 64 KiB register pages of one SMMU, mapped as Device memory: two (§2.1), one where the SMMU has no second
/// ([`Firmware`](crate::Firmware)), and more where its enhanced command queues are to be used (§2.6).
///
/// It has the barriers that [`Mmio`] asks for, on AArch64: one before each write, one after each read. On other
/// architectures they only hold the compiler; that is enough where accesses of registers are ordered with all others
/// by themselves, as on x86-64, and is there for tests.
#[derive(Debug)]
pub struct Registers {
    first: NonNull<Word>,
    bytes: usize,
}

/// The first page, which every SMMU has: what is in it is not looked up.
const PAGE: usize = 1 << 16;

// SAFETY: they are the same from every CPU.
unsafe impl Send for Registers {}

// SAFETY: an access is one aligned load or store of Device memory, which any number of CPUs may do at once. In which
// order they come, the driver sees to where it matters.
unsafe impl Sync for Registers {}

impl Registers {
    /// Registers whose first page is at `pages`, with the others right behind it, `bytes` in all: as firmware has it, or 0x20000
    /// without enhanced queues. What lies beyond is not accessed: reads give 0. Less than a page is taken for one; an SMMU with less than two is not
    /// taken into use ([`Unsupported::Pages`](crate::features::Unsupported::Pages)), unless firmware says that it has one alone
    /// ([`Firmware::page_0_only`](crate::Firmware::page_0_only)).
    ///
    /// # Safety
    /// `bytes`, and 0x10000 at least, from `pages` on, which is aligned to 8 bytes, are mapped to the register pages of an SMMUv3 for as
    /// long as this exists: readable and writable, as Device-nGnRE memory or a stricter kind (nGnRnE). Nobody else
    /// writes to them.
    pub unsafe fn new(pages: NonNull<u8>, bytes: usize) -> Self {
        Self { first: pages.cast(), bytes: (bytes & !3).max(PAGE) }
    }

    /// The register at `offset`, which is a multiple of 4; `None` beyond the pages.
    #[inline(always)]
    fn word(&self, offset: u32) -> Option<UniqueMmioPointer<'_, Word>> {
        let offset = offset as usize & !3;
        if offset >= PAGE && offset >= self.bytes {
            return None;
        }
        // SAFETY: `new` was told that it is mapped as device memory, and nobody else's; all of it may be read and written, and what
        // that does to the SMMU is the driver's affair. It is for one load or store, which is done in one piece whoever else
        // accesses the register meanwhile: nothing is concluded from its being the only one.
        Some(unsafe { UniqueMmioPointer::new(self.first.byte_add(offset)) })
    }
}

impl Mmio for Registers {
    fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Beyond the pages: 0.
    fn read32(&self, offset: u32) -> u32 {
        let Some(word) = self.word(offset) else { return 0 };
        let value = word.read();
        after_read();
        value
    }

    /// Beyond the pages: nothing.
    fn write32(&self, offset: u32, value: u32) {
        let Some(mut word) = self.word(offset) else { return };
        before_write();
        word.write(value);
    }

    // 64-bit registers take both halves by themselves (§2.2). The driver writes them while nothing uses them, and
    // seldom: two barriers do not matter.
}

/// Orders what came before it in front of a write of a register that follows.
///
/// * *Loads and stores before, also those of other CPUs that this one has seen, come first.* A barrier for loads and
///   stores alike: records of the event queue are loaded before CONS says that they may be overwritten, so `dmb oshst`,
///   which is all that Linux's `writel` has, would not do. A barrier between what another CPU stored, and this
///   one has loaded, and the write, is cumulative: the SMMU sees both in that order. (What a non-coherent SMMU is to
///   see was cleaned by `publish`, which waits for it.)
/// * *Outer shareable*, since the SMMU is an observer in that domain whatever attributes it uses; inner shareable
///   memory is part of it, and non-cacheable memory, where its queues may be, is outer shareable by definition.
/// * *A store-release after the write comes after it* by itself: it waits for all accesses before it in program order.
///   So whoever acquires what it stored, and then writes the same register, writes later. Writes of one CPU to
///   one SMMU stay in order, since the memory is nR: not reordered.
///
/// A `dmb` and no `dsb`: the write is to be late enough, not early; whoever waits for what it does looks at another
/// register.
#[inline(always)]
fn before_write() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("dmb osh", options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "aarch64"))]
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

/// Orders a read of a register that came before it in front of what follows: a load after CONS, PROD or an
/// acknowledgement was read finds what the SMMU had stored before it answered, and a store comes after the answer.
///
/// `dmb oshld` orders loads, that of Device memory too, before loads and stores. Linux's `readl` has a branch on the value
/// besides, so that a timer that is read next is late enough; here that would only make a deadline longer by
/// the time of one access.
#[inline(always)]
fn after_read() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "aarch64"))]
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec;

    const BYTES: usize = 0x2_0000;

    #[test]
    fn words_are_where_their_offset_says_and_nothing_is_behind_the_pages() {
        let memory = Box::leak(vec![0u64; BYTES / 8].into_boxed_slice());
        let pages = NonNull::from(&mut *memory).cast();
        // SAFETY: memory of that size, which stays, and stands for registers.
        let registers = unsafe { Registers::new(pages, BYTES) };
        assert_eq!(registers.bytes(), 0x2_0000);
        registers.write32(0x20, 1);
        registers.write64(0x90, 0x4000_0000_0123_4568);
        // The last word of the second page, and the one behind it.
        registers.write32(0x1_fffc, 7);
        registers.write32(0x2_0000, 9);
        registers.write32(u32::MAX, 9);
        assert_eq!(
            [0x20, 0x24, 0x90, 0x94].map(|at| registers.read32(at)),
            [1, 0, 0x0123_4568, 0x4000_0000]
        );
        assert_eq!([0x1_fffc, 0x2_0000, u32::MAX].map(|at| registers.read32(at)), [7, 0, 0]);
        let word = |at: usize| {
            // SAFETY: within the memory, which `registers` accesses on this thread only.
            unsafe { pages.cast::<u32>().add(at / 4).read_volatile() }
        };
        assert_eq!([0x20, 0x90, 0x94, 0x1_fffc].map(word), [1, 0x0123_4568, 0x4000_0000, 7]);
    }
}
