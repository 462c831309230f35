// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slots of which memory is taken for all at once, and each is made when it is first needed: an SMMU may stall tens of
//! thousands of transactions, and few ever do. Who looks through them looks at those that were made.

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::Deref;

use super::Slot;
use crate::room::Room;
use crate::shared::NoMemory;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// As a slice: those that were made.
pub(super) struct Slots {
    memory: Vec<UnsafeCell<MaybeUninit<Slot>>>,
    /// How many were made: the first ones.
    made: AtomicU64,
    /// Somebody makes one.
    making: AtomicBool,
}

// SAFETY: what was made is shared, and is atomics; the rest is reached by whoever makes one alone, who says so by `making`.
unsafe impl Sync for Slots {}

impl Slots {
    /// Memory for `most`, none of which is made.
    pub(super) fn new(most: usize) -> Result<Self, NoMemory> {
        let mut memory = Vec::new();
        memory.room_exact(most)?;
        // SAFETY: the capacity is at least that, and what is there need not be anything.
        unsafe { memory.set_len(most) };
        Ok(Self { memory, made: AtomicU64::new(0), making: AtomicBool::new(false) })
    }

    /// How many there can be.
    pub(super) const fn most(&self) -> usize {
        self.memory.len()
    }

    /// All that were made, with their numbers; also those that are while somebody looks through them.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, &Slot)> {
        (0..).map_while(|at| Some((at, self.get(at)?)))
    }

    /// One more, with `slot` in it, if there can be: its number. One caller at a time: who comes while another makes one gets
    /// none.
    pub(super) fn make(&self, slot: Slot) -> Option<usize> {
        // Acquire: whoever made the one before has counted it.
        if self.making.swap(true, Ordering::Acquire) {
            return None;
        }
        let made = self.made.load(Ordering::Relaxed);
        let place = self.memory.get(made as usize);
        if let Some(place) = place {
            // SAFETY: nobody else makes one, and nobody looks at what is not made.
            unsafe { (*place.get()).write(slot) };
            // Release: whoever finds that it was made finds it.
            self.made.store(made + 1, Ordering::Release);
        }
        self.making.store(false, Ordering::Release);
        place.map(|_| made as usize)
    }
}

impl Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        let made = self.made.load(Ordering::Acquire) as usize;
        // SAFETY: so many were made, which are never moved or changed but by their own atomics; the cells have the layout of what
        // is in them.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr().cast(), made) }
    }
}
