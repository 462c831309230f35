// SPDX-License-Identifier: MIT OR Apache-2.0
//! An entry in memory of its own, and all that the driver stores to it.

use std::convert::Infallible;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use smmuv3::update::{self, Entry, Kind, Updated, Words};
use smmuv3::{Frames, Mmio, PhysAddr, Platform, SpinMutex};

/// What the driver did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A word was stored.
    Store {
        /// Which.
        index: usize,
        /// What.
        value: u64,
    },
    /// Hardware was told to read the entry anew, and has.
    Sync,
}

/// Lets the driver bring an entry from one content to the other: what it did, in order, and what it says of it.
pub fn record<K: Kind>(from: &Words, to: &Words) -> (Vec<Act>, Updated) {
    let recorder = Recorder::new(from);
    // SAFETY: the eight words of the recorder, aligned as they must be and alive as long as it is; only this call writes
    // them.
    let entry = unsafe { Entry::new(ENTRY) };
    let sync = || {
        recorder.note(Act::Sync);
        Ok::<_, Infallible>(())
    };
    // SAFETY: no hardware reads it.
    let Ok(updated) = unsafe { update::update::<_, K, _>(&recorder, entry, to, sync) };
    (recorder.acts.into_inner().unwrap_or_else(PoisonError::into_inner), updated)
}

/// Where the entry is, as far as the driver knows.
const ENTRY: PhysAddr = PhysAddr(0x1000);

/// The memory of an entry.
#[repr(align(64))]
struct Memory([AtomicU64; 8]);

/// A platform that has an entry and nothing else.
struct Recorder {
    memory: Box<Memory>,
    acts: Mutex<Vec<Act>>,
}

impl Recorder {
    fn new(words: &Words) -> Self {
        let memory = Box::new(Memory(words.map(|word| AtomicU64::new(word.to_le()))));
        Self { memory, acts: Mutex::new(Vec::new()) }
    }

    fn note(&self, act: Act) {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner).push(act);
    }
}

// SAFETY: the only live allocation is the entry, which is a box that stays where it is until the recorder goes. Nothing
// is allocated or freed, pointers lead into those 64 bytes, aligned as the address is, and `publish` reads them as
// atomic words.
unsafe impl Frames for Recorder {
    fn allocate(&self, _: usize, _: usize) -> Option<PhysAddr> {
        None
    }

    unsafe fn free(&self, _: PhysAddr, _: usize, _: usize) {}

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        // An address in the entry; one that is none would lead to it as well.
        let offset = (pa.0 & 63) as usize;
        // SAFETY: below 64, the size of what is pointed to.
        unsafe { NonNull::from(&*self.memory).cast::<u8>().add(offset) }
    }

    fn publish(&self, pa: PhysAddr, _: usize) {
        let index = ((pa.0 >> 3) & 7) as usize;
        let value = u64::from_le(self.memory.0[index].load(Ordering::Relaxed));
        self.note(Act::Store { index, value });
    }
}

/// There are no registers.
struct NoRegisters;

impl Mmio for NoRegisters {
    fn read32(&self, _: u32) -> u32 {
        0
    }

    fn write32(&self, _: u32, _: u32) {}
}

// SAFETY: no coherent memory is given out, and `mask_irqs` runs its argument once: there are no interrupts here.
unsafe impl Platform for Recorder {
    type Mmio = NoRegisters;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, _: usize, _: usize) -> Option<PhysAddr> {
        None
    }

    unsafe fn free_coherent(&self, _: PhysAddr, _: usize, _: usize) {}

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }

    fn relax(&self) {}

    fn now(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smmuv3::update::SteKind;

    #[test]
    fn stores_and_syncs_come_as_the_driver_makes_them() {
        let bypass = [0b1001, 1 << 44, 0, 0, 0, 0, 0, 0];
        let abort = [1, 0, 0, 0, 0, 0, 0, 0];
        let (acts, updated) = record::<SteKind>(&abort, &bypass);
        let store = |index, value| Act::Store { index, value };
        assert_eq!(acts, [store(1, 1 << 44), Act::Sync, store(0, 0b1001), Act::Sync]);
        assert_eq!(updated, Updated { hitless: true, syncs: 2 });
        assert_eq!(record::<SteKind>(&abort, &abort).0, []);
    }
}
