// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver at work, whatever was left out of it: with any of its features beside `alloc`, or none, it keeps devices to what
//! they were given, on SMMUs that are models.
//!
//! The testbench tries far more, and turns most features on.

#![cfg(all(feature = "alloc", not(any(loom, shuttle))))]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod failing;
mod memory;
mod platform;
mod reaching;
mod sharing;
#[cfg(feature = "hand-over")]
mod taking_over;
mod world;

use smmuv3_model::{Adversary, Profile};

/// Runs `story` for each seed; which one it was is said if it fails.
fn tell(what: &str, seeds: std::ops::Range<u64>, story: impl Fn(u64)) {
    /// Says where it was when it is dropped by a panic.
    struct Where<'a>(&'a str, u64);
    impl Drop for Where<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("{}, seed {}", self.0, self.1);
            }
        }
    }
    for seed in seeds {
        let _where = Where(what, seed);
        story(seed);
    }
}

/// SMMUs that differ in what the driver has to do otherwise, also in what most drivers here have no part for.
fn kinds() -> [(&'static str, Profile); 10] {
    let usual = || Profile::default().sidsize(8);
    let quiet = usual().adversary(Adversary::NONE);
    [
        ("16-bit ASIDs and ranges", usual()),
        ("8-bit ASIDs, no ranges", Profile::small_asid().sidsize(8).ril(false)),
        ("no habits", quiet.clone()),
        ("eager, without ranges", quiet.eager(true).ril(false)),
        ("a linear stream table", usual().two_level_stream_table(false)),
        ("walks that look into no cache", usual().cohacc(false)),
        ("slow, and small queues", Profile { ack_delay: 3, ..usual().queues(2, 3) }),
        ("what is invalidated twice", Profile { repeated_invalidation: true, ..usual() }),
        ("faults that can stall", usual().stalls(0, 16)),
        ("everything", everything()),
    ]
}

/// What only some drivers have parts for.
fn everything() -> Profile {
    let smmu = Profile::default().sidsize(8).s2p(true).vmid16(true).ssidsize(8).httu(2).hyp(true);
    let smmu = smmu.two_level_contexts(true).stalls(0, 16).ats(true).pri(5).btm(true);
    smmu.msi(true).sev(true).lpa2(true).wide_addresses(true).granules(true, true, true)
}
