// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first word of an entry that others put in quarantine.

use core::ptr::NonNull;
use std::sync::Mutex;

use super::*;
use crate::platform::{Frames, Mmio, RawMutex};

/// One entry, and somebody else who acts at the last moment before a lock is taken.
#[repr(C, align(64))]
struct Memory {
    words: [AtomicU64; 8],
    others: Mutex<Option<fn(&Memory)>>,
}

impl Memory {
    fn beside(&self, others: fn(&Self)) {
        *self.others.lock().unwrap() = Some(others);
    }

    fn others(&self) -> Option<fn(&Self)> {
        self.others.lock().unwrap().take()
    }
}

impl Mmio for Memory {
    fn read32(&self, _: u32) -> u32 {
        0
    }
    fn write32(&self, _: u32, _: u32) {}
}

struct Unlocked;

// SAFETY: used by one thread.
unsafe impl RawMutex for Unlocked {
    fn new() -> Self {
        Self
    }
    fn lock(&self) {}
    unsafe fn unlock(&self) {}
}

// SAFETY: it has one entry, and gives no frames.
unsafe impl Frames for Memory {
    fn allocate(&self, _: usize, _: usize) -> Option<PhysAddr> {
        None
    }
    unsafe fn free(&self, _: PhysAddr, _: usize, _: usize) {}
    fn pointer(&self, address: PhysAddr) -> NonNull<u8> {
        NonNull::from(&self.words[address.0 as usize / 8]).cast()
    }
    fn publish(&self, _: PhysAddr, _: usize) {}
}

// SAFETY: it gives no memory, and runs what is critical once.
unsafe impl Platform for Memory {
    type Mmio = Self;
    type Mutex = Unlocked;
    fn allocate_coherent(&self, _: usize, _: usize) -> Option<PhysAddr> {
        None
    }
    unsafe fn free_coherent(&self, _: PhysAddr, _: usize, _: usize) {}
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        if let Some(others) = self.others() {
            others(self);
        }
        critical()
    }
    fn relax(&self) {}
    fn now(&self) -> u64 {
        0
    }
}

const ABORTS: u64 = 0b0001;
const TRANSLATES: u64 = 0b1011;

fn memory(first: u64) -> Memory {
    let words = core::array::from_fn(|index| AtomicU64::new(if index == 0 { first } else { 0 }));
    Memory { words, others: Mutex::new(None) }
}

fn entry(first: &FirstWords) -> Entry<'_> {
    // SAFETY: all that `Memory` has, used by one thread.
    unsafe { Entry::guarded(PhysAddr(0), first) }
}

/// Puts the entry in quarantine, as an unmap on another CPU would. It has found the lock free.
fn silent(memory: &Memory) {
    entry(&FirstWords::new(())).quarantine(memory);
}

#[cfg(feature = "ats")]
#[test]
fn a_store_looks_for_a_quarantine_with_the_lock_taken_and_takes_no_other_atomic_step() {
    let first = FirstWords::new(());
    let memory = memory(ABORTS);
    memory.beside(silent);
    entry(&first).write(&memory, 0, TRANSLATES);
    assert!(memory.others().is_none(), "the lock was taken");
    assert_eq!(entry(&first).load(&memory)[0], 0b0011);
    // The other words are nobody else's.
    memory.beside(silent);
    entry(&first).write(&memory, 1, 5);
    assert!(memory.others().is_some(), "no lock was taken");
    assert_eq!(entry(&first).load(&memory)[1], 5);
}

#[test]
fn what_nobody_puts_in_quarantine_is_stored_without_a_lock() {
    let memory = memory(0b0011);
    memory.beside(|_| panic!("a lock was taken"));
    // SAFETY: as above.
    let context = unsafe { Entry::new(PhysAddr(0)) };
    context.write(&memory, 0, 7);
    assert_eq!(context.load(&memory)[0], 7);
}

/// An unmap on another CPU has cut it off, and hardware may still go by the first word of before: with that, none of the
/// others may become another.
#[cfg(feature = "ats")]
#[test]
fn what_was_cut_off_stays_as_it_is_until_hardware_has_noticed() {
    let stage_2 = [0xd, 1 << 44, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0];
    let stage_1 = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];
    for (before, target) in
        [(stage_2, stage_1), (stage_1, stage_2), (stage_2, [1, 0, 0, 0, 0, 0, 0, 0])]
    {
        let first = FirstWords::new(());
        let memory = memory(0);
        for (word, value) in memory.words.iter().zip(before) {
            word.store(value, Ordering::Relaxed);
        }
        assert!(entry(&first).quarantine(&memory));
        let mut noticed = 0;
        let entries = core::iter::once(entry(&first));
        let updated = update_all::<_, SteKind, ()>(&memory, entries, &target, || {
            if noticed == 0 {
                assert_eq!(entry(&first).load(&memory)[1..], before[1..]);
            }
            noticed += 1;
            Ok(())
        });
        assert_eq!(updated, Ok(()));
        assert!(noticed > 0, "hardware was not told");
        assert!(entry(&first).is_quarantined(&memory));
        let sync = || {
            assert_eq!(entry(&first).load(&memory)[1..], before[1..]);
            noticed = 0;
            Ok(())
        };
        // SAFETY: no hardware reads it.
        let updated = unsafe { update::<_, SteKind, ()>(&memory, entry(&first), &target, sync) };
        assert_eq!((updated.is_ok(), noticed), (true, 0), "hardware was not told");
    }
}

#[cfg(feature = "ats")]
#[test]
fn readmission_judges_what_it_replaces() {
    let first = FirstWords::new(());
    for (before, after) in [(0b0011, ABORTS), (TRANSLATES, TRANSLATES)] {
        let memory = memory(before);
        entry(&first).readmit(&memory);
        assert_eq!(entry(&first).load(&memory)[0], after);
    }
    // It was let out by another call, which has gone on.
    let memory = memory(0b0011);
    memory.beside(|memory| memory.words[0].store(TRANSLATES, Ordering::Relaxed));
    entry(&first).readmit(&memory);
    assert_eq!(entry(&first).load(&memory)[0], TRANSLATES);
}

#[cfg(feature = "ats")]
#[test]
fn no_store_of_another_thread_ends_a_quarantine() {
    let (memory, first) = (memory(ABORTS), FirstWords::new(()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 0..200_000u64 {
                entry(&first).write(&memory, 0, value << 8 | TRANSLATES);
            }
        });
        for _ in 0..2_000 {
            entry(&first).quarantine(&memory);
            for _ in 0..20 {
                assert!(entry(&first).is_quarantined(&memory));
            }
            entry(&first).readmit(&memory);
        }
    });
}

/// The kernel before had ATS, and this one has not: nobody would ever let its streams out again.
#[cfg(not(feature = "ats"))]
#[test]
fn what_was_cut_off_before_is_an_entry_that_aborts() {
    let first = FirstWords::new(());
    let memory = memory(0b0011);
    let target = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];
    let entries = core::iter::once(entry(&first));
    let updated = update_all::<_, SteKind, ()>(&memory, entries, &target, || Ok(()));
    assert_eq!((updated, entry(&first).load(&memory)), (Ok(()), target));
}
