// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hardware of an instance did, and what was reported of it, in numbers.

use smmuv3_model::{Dropped, Observation};

/// Numbers of one instance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Commands that it consumed.
    pub(crate) commands: u64,
    /// Those that it was given, and that resets threw away: answers that nobody waited for.
    pub(crate) thrown: u64,
    /// CMD_SYNCs among them.
    pub(crate) thrown_syncs: u64,
    /// CMD_SYNCs that it completed.
    pub(crate) syncs: u64,
    /// Events that it recorded.
    pub(crate) recorded: u64,
    /// Events that found the queue full.
    pub(crate) lost: u64,
    /// Events that were reported.
    pub(crate) reported: u64,
    /// Gaps that were reported.
    pub(crate) gaps: u64,
    /// Commands that do not exist, which it was given.
    pub(crate) illegal: u64,
    /// Commands that memory refused once.
    pub(crate) retried: u64,
    /// Errors of commands that are still to be reported.
    pub(super) errors: u64,
    /// What was reported of page requests.
    pub(crate) pages: Pages,
}

/// What was reported of page requests, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pages {
    pub(crate) groups: u64,
    pub(crate) denied: u64,
    pub(crate) stops: u64,
    pub(crate) gaps: u64,
}

impl Tally {
    pub(super) fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Command { .. } => self.commands += 1,
            Observation::SyncCompleted { .. } => self.syncs += 1,
            Observation::EventRecorded(_) => self.recorded += 1,
            Observation::EventDropped { because: Dropped::Full, .. } => self.lost += 1,
            _ => {}
        }
    }
}
