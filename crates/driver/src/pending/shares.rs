// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of the room for what waits each guest has.
//!
//! One guest may have as many as there is room left for others, and no more: alone it has half of all, and beside others that
//! do the same, as much as each of them, and as much again is left. So neither the host nor another guest finds none, however many
//! stalls one guest causes before any of them is shown to it, or answered.

use crate::sync::{AtomicU64, Ordering};

/// Guests that are told apart; those beyond share with others. Few where each is explored.
const GUESTS: usize = if cfg!(loom) { 2 } else { 64 };

pub(crate) struct Shares {
    /// All that wait, whose ever.
    used: AtomicU64,
    guests: [AtomicU64; GUESTS],
}

/// A guest, as far as shares are concerned: by the VMID of its translations, of which one guest has one on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharer(u16);

impl Sharer {
    /// Where a word has it: above what the substream takes, 0 for the host.
    const SHIFT: u32 = 32;

    pub(crate) const fn new(vmid: u16) -> Self {
        Self(vmid % GUESTS as u16)
    }

    /// Beside a substream.
    pub(super) fn beside(sharer: Option<Self>, substream: u32) -> u64 {
        let sharer = sharer.map_or(0, |Self(at)| u64::from(at) + 1);
        sharer << Self::SHIFT | u64::from(substream)
    }

    /// The reverse.
    pub(super) fn of(word: u64) -> Option<Self> {
        // At most `GUESTS`.
        Some(Self((word >> Self::SHIFT).checked_sub(1)? as u16))
    }
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { used: AtomicU64::new(0), guests: core::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Whether `sharer` may have another one of `all`. One caller at a time; others only give back meanwhile.
    pub(super) fn allow(&self, sharer: Sharer, all: usize) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        let own = self.of(sharer).map_or(0, |count| count.load(Ordering::Relaxed));
        own < (all as u64).saturating_sub(used)
    }

    /// There is another one.
    pub(super) fn take(&self, sharer: Option<Sharer>) {
        self.used.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = sharer.and_then(|sharer| self.of(sharer)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There is one less.
    pub(super) fn give_back(&self, sharer: Option<Sharer>) {
        self.used.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = sharer.and_then(|sharer| self.of(sharer)) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn of(&self, Sharer(at): Sharer) -> Option<&AtomicU64> {
        self.guests.get(usize::from(at))
    }
}
