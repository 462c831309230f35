// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R9 for guests: an event, and what a device asks for, is told to the guest whose device it was when that was recorded, and
//! to no other.

use std::fmt;

use smmuv3_formats::EventRecord;

use super::{Oracle, Rule, Use};

/// Under what an event was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caused {
    master: usize,
    /// What its accesses without a substream used, and what they were about to.
    uses: [Use; 2],
    /// Changes of the master that had begun.
    changes: u64,
}

impl Oracle {
    /// Under what `event` is recorded now, if it is of a master's stream.
    pub(super) fn caused(&self, instance: usize, event: &EventRecord) -> Option<Caused> {
        // The field has 32 bits.
        self.under_what(instance, event.sid() as u32)
    }

    /// What `stream` is subject to now, if it is a master's.
    pub(super) fn under_what(&self, instance: usize, stream: u32) -> Option<Caused> {
        let master = self.master_of(instance, stream)?;
        let state = self.masters.get(master)?;
        let uses = [state.uses(None, false), state.uses(None, true)];
        Some(Caused { master, uses, changes: state.changes })
    }

    /// Under what the first event of an instance was recorded that was not reported.
    pub(crate) fn cause_of_next(&self, instance: usize) -> Option<Caused> {
        self.events.get(instance)?.cause()
    }

    /// The driver says of an event, or of a group of page requests, that it is that guest's whose memory is the domain `over`.
    pub(crate) fn told(&mut self, over: usize, event: &dyn fmt::Display, caused: &Caused) {
        if !caused.uses.iter().any(|use_| self.is_guest_over(*use_, over)) {
            let text = format!(
                "{event} was told to the guest over domain {over}, which did not have the device when it was recorded"
            );
            self.accuse(Rule::R9, text);
        }
    }

    /// The driver says that it is not, for want of the device.
    pub(crate) fn kept_from(&mut self, over: usize, event: &dyn fmt::Display, caused: &Caused) {
        let Some(state) = self.masters.get(caused.master) else { return };
        // Nothing was changing, and nothing has changed since.
        let same = state.changes == caused.changes && !state.is_changing();
        let [now, next] = caused.uses;
        if same && now == next && self.is_guest_over(now, over) {
            let text =
                format!("{event} was kept from the guest over domain {over}, which has the device");
            self.accuse(Rule::R9, text);
        }
    }

    /// Whether a use is of a guest's stage 1 over that domain.
    fn is_guest_over(&self, use_: Use, over: usize) -> bool {
        self.space(use_).and_then(|space| self.over(space)) == Some(over)
    }
}
