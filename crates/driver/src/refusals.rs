// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of commands that the SMMU refused (§3.2): noted by whoever recovers the queue, read by whoever waits.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use smmuv3_formats::{Command, PhysAddr};

use crate::platform::Platform;
use crate::queue::Size;

/// A record for each slot of a command queue, in memory of the platform: the position and the error code, and the two
/// words of the command. So nothing is forgotten before the slot is used again, however late the waiter looks.
pub(crate) struct Refusals {
    base: PhysAddr,
    size: Size,
    /// How many there were, ever.
    count: AtomicU32,
}

/// Bytes of a record.
const RECORD_BYTES: usize = 24;
/// Above the position in the first word of a record.
const CODE_SHIFT: u32 = 56;

impl Refusals {
    /// Bytes of memory that a queue of `size` needs, aligned to 8.
    pub(crate) const fn bytes(size: Size) -> usize {
        size.entries() as usize * RECORD_BYTES
    }

    /// In the memory at `base`, which is zeroed.
    pub(crate) const fn new(base: PhysAddr, size: Size) -> Self {
        Self { base, size, count: AtomicU32::new(0) }
    }

    /// How many commands were refused, ever (modulo 2^32).
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Notes that the SMMU refused `command`, at `position`, with `CMDQ_CONS.ERR` = `code`. One caller at a time.
    pub(crate) fn note<P: Platform>(
        &self,
        platform: &P,
        position: u64,
        command: Command,
        code: u8,
    ) {
        let [head, words @ ..] = self.record(platform, position);
        for (word, value) in words.iter().zip(command.0) {
            word.store(value, Ordering::Relaxed);
        }
        // Whoever finds the position has the words.
        head.store(pack(position, code), Ordering::Release);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// The first of the commands from `start` to `end` that was refused. A record of a later command in the same
    /// slot may have taken the place of ours, so it counts as ours.
    pub(crate) fn find<P: Platform>(
        &self,
        platform: &P,
        start: u64,
        end: u64,
    ) -> Option<(Command, u8)> {
        (start..end).find_map(|position| {
            let [head, words @ ..] = self.record(platform, position);
            let code = code_of(head.load(Ordering::Acquire), position)?;
            Some((Command(words.each_ref().map(|word| word.load(Ordering::Relaxed))), code))
        })
    }

    fn record<'p, P: Platform>(&self, platform: &'p P, position: u64) -> &'p [AtomicU64; 3] {
        let offset = (self.size.slot(position) * RECORD_BYTES) as u64;
        let record = platform.pointer(PhysAddr(self.base.0 + offset)).cast::<[AtomicU64; 3]>();
        // SAFETY: `slot` is below the number of entries, so this lies in the memory that the queue was made with,
        // 8-byte aligned, and is only ever accessed as atomic words.
        unsafe { record.as_ref() }
    }
}

/// The first word of a record: position + 1, so that zeroed memory is no record.
const fn pack(position: u64, code: u8) -> u64 {
    (position + 1) & (u64::MAX >> 8) | (code as u64) << CODE_SHIFT
}

const fn code_of(head: u64, position: u64) -> Option<u8> {
    if head & (u64::MAX >> 8) > position { Some((head >> CODE_SHIFT) as u8) } else { None }
}
