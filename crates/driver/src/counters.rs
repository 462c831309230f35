// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts that any CPU may raise at any time without disturbing the others: each CPU has its own cache lines, and who
//! reads adds them up.

use core::slice;

use smmuv3_formats::PhysAddr;
use smmuv3_pagetable::Frames;

use crate::platform::Platform;
use crate::queue::at;
use crate::sync::Ordering;
use crate::sync::plain::AtomicU64;

/// Bytes of the lines of one CPU: some CPUs fetch cache lines of 64 bytes in pairs.
const LINE: usize = 128;
const WORDS: usize = LINE / size_of::<u64>();
/// The most lines: further CPUs share those of others.
const MOST: usize = 4096;

/// Whether anything is counted: not by an `Iommu` without the feature `counts`, which is known when the driver is compiled.
pub(crate) const COUNTS: bool = cfg!(any(feature = "counts", not(feature = "alloc")));

/// Up to 16 counts.
pub(crate) struct Counters {
    memory: PhysAddr,
    /// A power of two, of lines.
    shards: usize,
}

impl Counters {
    /// All zero; `None` when there is no memory.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub(crate) unsafe fn new<P: Platform>(platform: &P) -> Option<Self> {
        if !COUNTS {
            return Some(Self { memory: PhysAddr(0), shards: 0 });
        }
        // Does not overflow: at most `MOST`.
        let shards = platform.max_cpus().clamp(1, MOST).next_power_of_two();
        let memory = platform.allocate(shards * LINE, LINE)?;
        Some(Self { memory, shards })
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// Nobody uses them any more.
    pub(crate) unsafe fn free<P: Platform>(self, platform: &P) {
        if !COUNTS {
            return;
        }
        // SAFETY: allocated in `new` with this size; `self` is consumed.
        unsafe { platform.free(self.memory, self.shards * LINE, LINE) };
    }

    /// Raises the count number `which` by `by`, on the lines of this CPU.
    pub(crate) fn add<P: Platform>(&self, platform: &P, which: usize, by: u64) {
        if !COUNTS {
            return;
        }
        let shard = platform.cpu() & (self.shards - 1);
        if let Some(word) = self.words(platform).get(shard * WORDS + which) {
            // An atomic addition: an interrupt, or a CPU with the same `cpu()`, may count on the same line.
            word.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// The count number `which`: at least what was counted before this was called.
    pub(crate) fn sum<P: Platform>(&self, platform: &P, which: usize) -> u64 {
        if !COUNTS {
            return 0;
        }
        let lines = self.words(platform).chunks_exact(WORDS);
        let of =
            |line: &[AtomicU64]| at(line, which as u64).map(|word| word.load(Ordering::Relaxed));
        lines.filter_map(of).fold(0, u64::wrapping_add)
    }

    fn words<'a>(&'a self, platform: &'a impl Frames) -> &'a [AtomicU64] {
        let words = platform.pointer(self.memory).cast::<AtomicU64>();
        // SAFETY: `new` allocated so many words, zeroed and aligned, which live until `free` consumes this, and are
        // accessed as atomic words only.
        unsafe { slice::from_raw_parts(words.as_ptr(), self.shards * WORDS) }
    }
}
