// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was done in a stress, how often.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// A range of a domain was mapped, used and unmapped.
    Unmapped,
    /// A range of a process was mapped, used and invalidated.
    Invalidated,
    /// A master was attached, by a substream or without.
    Attached,
    /// A master was detached.
    Detached,
    /// The policy refused an attach or a bind.
    Refused,
    /// A master was bound.
    Bound,
    /// A bond was ended.
    Unbound,
    /// A process was released.
    Released,
    /// A domain had another tag than before, while it was attached.
    Moved,
    /// A device accessed memory.
    Accessed,
    /// An event was taken.
    Reported,
    /// The hardware took a command.
    Commanded,
}

/// As many counters as there are variants.
const COUNTERS: usize = 12;

/// Counters that threads share.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; COUNTERS]);

impl Counters {
    pub fn add(&self, did: Did, count: u64) {
        // One for each variant.
        self.0[did as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// How often so far.
    pub fn counts(&self) -> Counts {
        let of = |did: Did| self.0[did as usize].load(Ordering::Relaxed);
        Counts {
            unmaps: of(Did::Unmapped),
            invalidations: of(Did::Invalidated),
            attaches: of(Did::Attached),
            detaches: of(Did::Detached),
            refusals: of(Did::Refused),
            binds: of(Did::Bound),
            unbinds: of(Did::Unbound),
            releases: of(Did::Released),
            moves: of(Did::Moved),
            accesses: of(Did::Accessed),
            events: of(Did::Reported),
            commands: of(Did::Commanded),
        }
    }
}

/// How often each thing was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Ranges of domains that were mapped, used and unmapped.
    pub unmaps: u64,
    /// Ranges of processes that were mapped, used and invalidated.
    pub invalidations: u64,
    /// Masters that were attached, by a substream or without.
    pub attaches: u64,
    /// Masters that were detached.
    pub detaches: u64,
    /// Attaches and binds that the policy refused.
    pub refusals: u64,
    /// Masters that were bound to a process.
    pub binds: u64,
    /// Bonds that ended.
    pub unbinds: u64,
    /// Processes that were released.
    pub releases: u64,
    /// How often a domain was seen to have another tag, while it was attached. More were changed than were seen.
    pub moves: u64,
    /// Accesses of devices whose outcome was judged.
    pub accesses: u64,
    /// Events that were taken.
    pub events: u64,
    /// Commands that the SMMUs were given.
    pub commands: u64,
}
