// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of the room for what waits each guest has.
//!
//! A guest is given room only if as much is left for others afterwards as it has itself then, and an eighth of all besides whoever
//! has the rest, at least for one. So one guest alone has half at most, beside others less and less, each half of what those before
//! it left; and however many there are, that eighth is there for the host: neither it nor, while there are few, another guest finds
//! none, however many stalls a guest causes before any of them is shown to it, or answered. Where there is room for one alone, that
//! is the host's.

use crate::sync::{AtomicU64, Ordering};

/// Guests that can have something wait at once, each counted by itself; those beyond share with others. Few where each is explored.
const GUESTS: usize = if cfg!(loom) { 2 } else { 64 };
/// The part of the room that no guest takes.
const RESERVED: u64 = 8;

pub(crate) struct Shares {
    /// All that wait, whose ever.
    used: AtomicU64,
    /// How many wait of a guest, and above that which guest's they are. With none, it is anybody's.
    guests: [AtomicU64; GUESTS],
}

/// Where a word of [`Shares`] has the guest.
const SHIFT: u32 = 32;
const COUNT: u64 = (1 << SHIFT) - 1;

/// A guest, as far as shares are concerned: by the VMID of its translations, of which one guest has one on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharer(u16);

/// Where a guest is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u16);

impl Sharer {
    pub(crate) const fn new(vmid: u16) -> Self {
        Self(vmid)
    }
}

impl Place {
    /// Beside a substream, in one word: above what that takes, 0 for the host.
    pub(super) fn beside(place: Option<Self>, substream: u32) -> u64 {
        let place = place.map_or(0, |Self(at)| u64::from(at) + 1);
        place << u32::BITS | u64::from(substream)
    }

    /// The reverse.
    pub(super) fn of(word: u64) -> Option<Self> {
        // At most `GUESTS`.
        Some(Self((word >> u32::BITS).checked_sub(1)? as u16))
    }
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { used: AtomicU64::new(0), guests: core::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Where `sharer` is counted if it may have another one of `all`; it is to be taken at once. One caller at a time; others only
    /// give back meanwhile.
    pub(super) fn allow(&self, sharer: Sharer, all: usize) -> Option<Place> {
        let all = all as u64;
        let (place, own) = self.place(sharer)?;
        let left = all.saturating_sub(self.used.load(Ordering::Relaxed) + 1);
        (left >= (own + 1).max(all.div_ceil(RESERVED))).then_some(place)
    }

    /// Where `sharer` is counted, and how many of its own, or counted as those, wait.
    fn place(&self, Sharer(vmid): Sharer) -> Option<(Place, u64)> {
        // As a rule it is found at once.
        let home = usize::from(vmid) % GUESTS;
        let (mut free, mut first) = (None, None);
        for at in (home..GUESTS).chain(0..home) {
            let word = self.guests.get(at)?.load(Ordering::Relaxed);
            let (whose, count) = (word >> SHIFT, word & COUNT);
            // There are `GUESTS` of them.
            let place = Place(at as u16);
            if count == 0 {
                free = free.or(Some(place));
            } else if whose == u64::from(vmid) {
                return Some((place, count));
            }
            first = first.or(Some((place, count)));
        }
        let Some(place) = free else { return first };
        // Nothing is counted there, so that nobody gives it back meanwhile.
        self.of(place)?.store(u64::from(vmid) << SHIFT, Ordering::Relaxed);
        Some((place, 0))
    }

    /// There is another one.
    pub(super) fn take(&self, place: Option<Place>) {
        self.used.fetch_add(1, Ordering::Relaxed);
        if let Some(word) = place.and_then(|place| self.of(place)) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There is one less.
    pub(super) fn give_back(&self, place: Option<Place>) {
        self.used.fetch_sub(1, Ordering::Relaxed);
        if let Some(word) = place.and_then(|place| self.of(place)) {
            word.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn of(&self, Place(at): Place) -> Option<&AtomicU64> {
        self.guests.get(usize::from(at))
    }
}
