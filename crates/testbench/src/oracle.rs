// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle: knows what devices may reach, sees what they do reach, and names the rule that is broken.
//!
//! It learns what is intended from whoever calls the driver (a range is being mapped, an attach has
//! returned), never from the driver's own tables.

mod access;
mod attributes;
mod contexts;
mod dirty;
mod expected;
mod hand_over;
mod paged;
mod pages;
mod power;
mod space;
mod stalls;
#[cfg(test)]
mod tests;
mod told;
mod user;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use smmuv3::Overrides;
use smmuv3_formats::EventRecord;

pub use crate::rule::{Rule, Violation};
pub use access::AccessKind;
pub use expected::{Expected, Refused};
use pages::Requests;
pub use pages::{Granted, Group, Waiting};
pub use power::Power;
use space::SpaceState;
pub use space::{Life, Page, Shape};
pub use stalls::Stalled;
use stalls::Stalls;
pub use told::Caused;
use user::MasterState;
pub use user::{Contexts, Use, User};

/// Bytes of a page of input addresses.
pub const PAGE: u64 = 0x1000;

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    spaces: Vec<SpaceState>,
    /// How many of them are domains.
    domains: usize,
    /// How many, the last ones, were left by kernels before.
    kept_spaces: usize,
    masters: Vec<MasterState>,
    /// The SubstreamIDs of the scenario's PASIDs, which it counts from 1.
    pasids: Vec<u32>,
    /// Of each instance: events in its queue that were not reported yet, and under what they were recorded.
    recorded: Vec<VecDeque<(EventRecord, Option<Caused>)>>,
    /// Of each instance: events that it lost, not reported yet.
    lost: Vec<u64>,
    /// Of each instance: transactions that have stalled.
    stalls: Vec<Stalls>,
    /// Of each instance: pages that were asked for.
    requests: Vec<Requests>,
    /// Of each instance.
    power: Vec<Power>,
    /// Those behind which all memory is reached while they are off, with these attributes.
    passing: BTreeMap<usize, Overrides>,
    /// How many ever have.
    stalled: u64,
    violation: Option<Violation>,
}

impl Oracle {
    /// An oracle for so many instances.
    pub fn new(instances: usize) -> Self {
        Self {
            recorded: vec![VecDeque::new(); instances],
            lost: vec![0; instances],
            stalls: vec![Stalls::default(); instances],
            requests: vec![Requests::default(); instances],
            power: vec![Power::On; instances],
            ..Self::default()
        }
    }

    /// Notes that a rule was broken; the first time counts.
    pub fn accuse(&mut self, rule: Rule, text: impl fmt::Display) {
        self.violation.get_or_insert_with(|| Violation { rule, text: text.to_string() });
    }

    /// What was accused of is this rule's matter.
    pub(crate) fn accuse_instead(&mut self, rule: Rule) {
        if let Some(violation) = &mut self.violation {
            violation.rule = rule;
        }
    }

    /// The first rule that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// An SMMU wrote `event` to its queue.
    pub fn recorded(&mut self, instance: usize, event: EventRecord) {
        if event.stall() {
            self.stalled(instance, event);
        }
        let caused = self.caused(instance, &event);
        if let Some(queue) = self.recorded.get_mut(instance) {
            queue.push_back((event, caused));
        }
    }

    /// An SMMU lost an event because its queue was full.
    pub fn lost(&mut self, instance: usize) {
        if let Some(lost) = self.lost.get_mut(instance) {
            *lost += 1;
        }
    }

    /// The driver reported `event`; whether its transaction had stalled. One that the driver ends by itself is none any
    /// more.
    pub fn reported(&mut self, instance: usize, event: EventRecord) -> bool {
        let Some(queue) = self.recorded.get_mut(instance) else { return false };
        let next = queue.pop_front().map(|(event, _)| event);
        let stalled = next.is_some_and(|next| next.stall());
        match next {
            Some(next) if next == event => {}
            // It was marked as over: that its answer comes is seen elsewhere.
            Some(next) if next.with_stall(false) == event => {}
            Some(next) => {
                self.accuse(Rule::R9, format_args!("{event} was reported, but {next} was first"));
            }
            None => self.accuse(Rule::R9, format_args!("{event} was reported, but never recorded")),
        }
        stalled
    }

    /// The first event of an instance that was not reported.
    pub fn unreported(&self, instance: usize) -> Option<EventRecord> {
        self.recorded.get(instance)?.front().map(|(event, _)| *event)
    }

    /// The driver reported that events were lost.
    pub fn reported_loss(&mut self, instance: usize) {
        if let Some(lost) = self.lost.get_mut(instance) {
            *lost = 0;
        }
    }

    /// The driver reported that a reset threw so many records away.
    pub fn thrown_away(&mut self, instance: usize, records: usize) {
        let Some(queue) = self.recorded.get_mut(instance) else { return };
        let there = queue.len();
        queue.drain(..records.min(there));
        if records > there {
            let text = format!("a reset threw {records} events away, but {there} were recorded");
            self.accuse(Rule::R9, text);
        }
    }

    /// How many events of `instance` were not reported yet.
    pub fn unread(&self, instance: usize) -> usize {
        self.recorded.get(instance).map_or(0, VecDeque::len)
    }

    /// The driver says that it reported everything of `instance`.
    pub fn all_reported(&mut self, instance: usize) {
        if let Some(event) = self.unreported(instance) {
            self.accuse(Rule::R9, format_args!("{event} was never reported"));
        }
        if self.lost.get(instance).is_some_and(|lost| *lost > 0) {
            self.accuse(Rule::R9, "events were lost, and nobody was told");
        }
    }
}
