// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle: knows what devices may reach, sees what they do reach, and names the rule that is broken.
//!
//! It learns what is intended from whoever calls the driver (a range is being mapped, an attach has
//! returned), never from the driver's own tables.

mod access;
mod attributes;
mod contexts;
mod dirty;
mod events;
mod expected;
mod hand_over;
mod paged;
mod pages;
mod power;
mod refusal;
mod space;
mod stalls;
#[cfg(test)]
mod tests;
mod told;
mod user;

use std::collections::BTreeMap;
use std::fmt;

use smmuv3::Overrides;

pub use crate::rule::{Rule, Violation};
pub use access::AccessKind;
use events::Events;
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
    /// Of each instance.
    events: Vec<Events>,
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
            events: vec![Events::default(); instances],
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
}
