// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that devices write to behind the compiler's back, and patterns to know it by.

use core::ptr::NonNull;

use smmuv3::PhysAddr;

use crate::heap::FRAMES;

const ALIGN: usize = 4096;

/// Owned memory, whole pages, physically contiguous.
pub struct Buffer {
    memory: NonNull<u8>,
    bytes: usize,
}

// SAFETY: memory that belongs to this value; from a shared one it is accessed by single volatile loads and stores.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// The 64-bit word at `index` of the pattern `seed`: different for each of both.
pub fn word(seed: u64, index: usize) -> u64 {
    (seed << 32 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Buffer {
    /// Zeroed memory.
    pub fn new(bytes: usize) -> Self {
        let memory = FRAMES.allocate(bytes, ALIGN);
        Self { memory: memory.unwrap_or_else(|| panic!("no {bytes} bytes of frames")), bytes }
    }

    /// Where it is.
    pub fn address(&self) -> PhysAddr {
        PhysAddr(self.memory.as_ptr().expose_provenance() as u64)
    }

    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Fills it with the pattern `seed`.
    pub fn fill(&self, seed: u64) {
        for index in 0..self.bytes / 8 {
            self.write(index, word(seed, index));
        }
    }

    /// The word at `index`.
    pub fn read(&self, index: usize) -> u64 {
        assert!(index < self.bytes / 8, "no word {index}");
        // SAFETY: inside of the memory, which is aligned and ours.
        unsafe { self.memory.cast::<u64>().add(index).read_volatile() }
    }

    /// Stores the word at `index`.
    pub fn write(&self, index: usize, word: u64) {
        assert!(index < self.bytes / 8, "no word {index}");
        // SAFETY: inside of the memory, which is aligned and ours.
        unsafe { self.memory.cast::<u64>().add(index).write_volatile(word) };
    }

    /// How many words are not those of the pattern `seed`.
    pub fn differences(&self, seed: u64) -> usize {
        self.differences_from(seed, 0)
    }

    /// The same, of a piece of the pattern that begins with its word `first`.
    pub fn differences_from(&self, seed: u64, first: usize) -> usize {
        let wrong = |index: &usize| self.read(*index) != word(seed, first + *index);
        (0..self.bytes / 8).filter(wrong).count()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: from there, with the same size. Whoever let a device have it took it back.
        unsafe { FRAMES.free(self.memory, self.bytes, ALIGN) };
    }
}
