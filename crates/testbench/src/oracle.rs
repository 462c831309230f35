// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle: knows what devices may reach, sees what they do reach, and names the rule that is broken.
//!
//! It learns what is intended from whoever calls the driver (a range is being mapped, an attach has
//! returned), never from the driver's own tables.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use smmuv3_formats::{EventId, EventRecord};

pub use crate::rule::{Rule, Violation};

/// Bytes of a page of input addresses.
pub const PAGE: u64 = 0x1000;

/// What a master is meant to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nothing.
    Blocked,
    /// All memory.
    Identity,
    /// The domain with this index.
    Domain(usize),
}

/// A page that is meant to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it leads.
    pub pa: u64,
    /// Whether devices may write.
    pub write: bool,
    /// It is being mapped or unmapped right now: it may be reached or not.
    pub changing: bool,
}

#[derive(Clone, Debug, Default)]
struct DomainState {
    pages: BTreeMap<u64, Page>,
    /// Where pages led that are mapped no more.
    gone: BTreeMap<u64, u64>,
    /// Root of its tables: by it the oracle knows the domain's cached translations.
    root: u64,
}

#[derive(Clone, Debug)]
struct MasterState {
    streams: Vec<u32>,
    instance: usize,
    now: Use,
    /// What it is being changed to right now.
    next: Option<Use>,
}

/// What an access may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Physical addresses that it may reach.
    pub reach: Vec<u64>,
    /// It may be refused; with this event, or silently. `None`: it must not be refused.
    pub refused: Option<Refused>,
}

/// How an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Without an event.
    Silently,
    /// With this event.
    With(EventId),
    /// However it comes: configuration is changing.
    Somehow,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    domains: Vec<DomainState>,
    masters: Vec<MasterState>,
    /// Of each instance: events in its queue that were not reported yet.
    recorded: Vec<VecDeque<EventRecord>>,
    /// Of each instance: events that it lost, not reported yet.
    lost: Vec<u64>,
    violation: Option<Violation>,
}

impl Oracle {
    /// An oracle for so many instances.
    pub fn new(instances: usize) -> Self {
        Self {
            recorded: vec![VecDeque::new(); instances],
            lost: vec![0; instances],
            ..Self::default()
        }
    }

    /// Another domain, whose tables start at `root`.
    pub fn add_domain(&mut self, root: u64) {
        self.domains.push(DomainState { root, ..DomainState::default() });
    }

    /// Another master.
    pub fn add_master(&mut self, instance: usize, streams: Vec<u32>) {
        self.masters.push(MasterState { streams, instance, now: Use::Blocked, next: None });
    }

    /// How many domains there are.
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// How many masters there are.
    pub fn masters(&self) -> usize {
        self.masters.len()
    }

    /// Notes that a rule was broken; the first time counts.
    pub fn accuse(&mut self, rule: Rule, text: impl fmt::Display) {
        self.violation.get_or_insert_with(|| Violation { rule, text: text.to_string() });
    }

    /// The first rule that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// What `master` is meant to use.
    pub fn using(&self, master: usize) -> Use {
        self.masters.get(master).map_or(Use::Blocked, |master| master.now)
    }

    /// The instance and streams of `master`.
    pub fn streams(&self, master: usize) -> (usize, &[u32]) {
        self.masters.get(master).map_or((0, &[]), |master| (master.instance, &master.streams))
    }

    /// The master that issues `stream` behind `instance`.
    pub fn master_of(&self, instance: usize, stream: u32) -> Option<usize> {
        self.masters
            .iter()
            .position(|master| master.instance == instance && master.streams.contains(&stream))
    }

    /// The root of the tables of `domain`.
    pub fn root(&self, domain: usize) -> u64 {
        self.domains.get(domain).map_or(0, |domain| domain.root)
    }

    /// Whether a master behind `instance` uses `domain`, or may still.
    pub fn is_used_on(&self, domain: usize, instance: usize) -> bool {
        self.masters.iter().any(|master| {
            master.instance == instance
                && (master.now == Use::Domain(domain) || master.next == Some(Use::Domain(domain)))
        })
    }

    /// Whether `master` is being changed right now.
    pub fn is_changing(&self, master: usize) -> bool {
        self.masters.get(master).is_some_and(|master| master.next.is_some())
    }

    /// Whether `domain` is being attached behind `instance` right now, where nobody used it before.
    pub fn is_joining(&self, domain: usize, instance: usize) -> bool {
        let here = |master: &&MasterState| master.instance == instance;
        let masters = || self.masters.iter().filter(here);
        masters().any(|master| master.next == Some(Use::Domain(domain)))
            && masters().all(|master| master.now != Use::Domain(domain))
    }

    /// The page of `domain` at `iova`.
    pub fn page(&self, domain: usize, iova: u64) -> Option<Page> {
        self.domains.get(domain)?.pages.get(&(iova & !(PAGE - 1))).copied()
    }

    /// The mapped pages of `domain` in `range`.
    pub fn pages(
        &self,
        domain: usize,
        range: std::ops::Range<u64>,
    ) -> impl Iterator<Item = (u64, Page)> {
        self.domains
            .get(domain)
            .into_iter()
            .flat_map(move |domain| domain.pages.range(range.clone()))
            .map(|(iova, page)| (*iova, *page))
    }

    /// The 2 MiB around `iova` if they may be mapped as one block, which must not be cut.
    pub fn block(&self, domain: usize, iova: u64) -> Option<std::ops::Range<u64>> {
        const BLOCK: u64 = 2 << 20;
        let range = iova & !(BLOCK - 1)..(iova & !(BLOCK - 1)) + BLOCK;
        let first = self.page(domain, range.start)?;
        let whole = self.pages(domain, range.clone()).count() as u64 == BLOCK / PAGE;
        (whole && first.pa % BLOCK == 0).then_some(range)
    }

    /// Pages of `domain` in `range` that were mapped once and are not now: input address and where it led.
    pub fn gone(
        &self,
        domain: usize,
        range: std::ops::Range<u64>,
    ) -> impl Iterator<Item = (u64, u64)> {
        self.domains
            .get(domain)
            .into_iter()
            .flat_map(move |domain| domain.gone.range(range.clone()))
            .map(|(iova, pa)| (*iova, *pa))
    }

    /// Pages of `domain` in `range` are being mapped, contiguously from `pa` on.
    pub fn map_begins(&mut self, domain: usize, range: std::ops::Range<u64>, pa: u64, write: bool) {
        let Some(domain) = self.domains.get_mut(domain) else { return };
        for iova in range.clone().step_by(PAGE as usize) {
            let page = Page { pa: pa + (iova - range.start), write, changing: true };
            domain.pages.insert(iova, page);
        }
    }

    /// The mapping of `range` is complete, or was undone.
    pub fn map_ends(&mut self, domain: usize, range: std::ops::Range<u64>, mapped: bool) {
        let Some(domain) = self.domains.get_mut(domain) else { return };
        for iova in range.step_by(PAGE as usize) {
            if mapped {
                domain.gone.remove(&iova);
                if let Some(page) = domain.pages.get_mut(&iova) {
                    page.changing = false;
                }
            } else {
                domain.pages.remove(&iova);
            }
        }
    }

    /// Pages of `domain` in `range` are being unmapped.
    pub fn unmap_begins(&mut self, domain: usize, range: std::ops::Range<u64>) {
        let Some(domain) = self.domains.get_mut(domain) else { return };
        for (_, page) in domain.pages.range_mut(range) {
            page.changing = true;
        }
    }

    /// The unmap of `range` has returned; `removed` when it did what it was asked.
    pub fn unmap_ends(&mut self, domain: usize, range: std::ops::Range<u64>, removed: bool) {
        let Some(domain) = self.domains.get_mut(domain) else { return };
        let pages: Vec<u64> = domain.pages.range(range).map(|(iova, _)| *iova).collect();
        for iova in pages {
            if !removed {
                if let Some(page) = domain.pages.get_mut(&iova) {
                    page.changing = false;
                }
            } else if let Some(page) = domain.pages.remove(&iova) {
                domain.gone.insert(iova, page.pa);
            }
        }
    }

    /// `master` is being changed to `next`.
    pub fn attach_begins(&mut self, master: usize, next: Use) {
        if let Some(master) = self.masters.get_mut(master) {
            master.next = Some(next);
        }
    }

    /// The change of `master` has returned; `done` when it did what it was asked.
    pub fn attach_ends(&mut self, master: usize, done: bool) {
        if let Some(master) = self.masters.get_mut(master)
            && let Some(next) = master.next.take()
            && done
        {
            master.now = next;
        }
    }

    /// What an access of `master` at `iova` may do now.
    pub fn expected(&self, master: usize, iova: u64, write: bool) -> Expected {
        let mut expected = Expected { reach: Vec::new(), refused: None };
        let Some(state) = self.masters.get(master) else { return expected };
        for candidate in [Some(state.now), state.next].into_iter().flatten() {
            let refused = match candidate {
                Use::Blocked => Some(Refused::Silently),
                Use::Identity => {
                    expected.reach.push(iova);
                    None
                }
                Use::Domain(domain) => match self.page(domain, iova) {
                    None => Some(Refused::With(EventId::FTranslation)),
                    Some(page) => {
                        let permitted = page.write || !write;
                        if permitted {
                            expected.reach.push(page.pa + iova % PAGE);
                        }
                        if page.changing {
                            Some(Refused::Somehow)
                        } else {
                            (!permitted).then_some(Refused::With(EventId::FPermission))
                        }
                    }
                },
            };
            expected.refused = expected.refused.or(refused);
        }
        if state.next.is_some() {
            // On its way from one configuration to another a master may be blocked for a moment.
            expected.refused = Some(Refused::Somehow);
        }
        expected
    }

    /// Judges an access of `master` that reached `pa`.
    pub fn reached(&mut self, master: usize, iova: u64, write: bool, pa: u64, how: &str) {
        let expected = self.expected(master, iova, write);
        if expected.reach.contains(&pa) {
            return;
        }
        let access = if write { "write" } else { "read" };
        let should = match expected.reach.first() {
            Some(right) => format!("it is mapped to {right:#x}"),
            None => "it must be refused".to_owned(),
        };
        self.accuse(
            Rule::R1,
            format_args!("master {master}: {how} {access} at {iova:#x} reached {pa:#x}; {should}"),
        );
    }

    /// Judges an access of `master` that was refused.
    pub fn refused(&mut self, master: usize, iova: u64, write: bool, how: &str) {
        if self.expected(master, iova, write).refused.is_none() {
            let access = if write { "write" } else { "read" };
            self.accuse(
                Rule::R0,
                format_args!(
                    "master {master}: {how} {access} at {iova:#x} was refused, but it is mapped"
                ),
            );
        }
    }

    /// An SMMU wrote `event` to its queue.
    pub fn recorded(&mut self, instance: usize, event: EventRecord) {
        if let Some(queue) = self.recorded.get_mut(instance) {
            queue.push_back(event);
        }
    }

    /// An SMMU lost an event because its queue was full.
    pub fn lost(&mut self, instance: usize) {
        if let Some(lost) = self.lost.get_mut(instance) {
            *lost += 1;
        }
    }

    /// The driver reported `event`.
    pub fn reported(&mut self, instance: usize, event: EventRecord) {
        let Some(queue) = self.recorded.get_mut(instance) else { return };
        match queue.pop_front() {
            Some(next) if next == event => {}
            Some(next) => {
                self.accuse(Rule::R9, format_args!("{event} was reported, but {next} was first"));
            }
            None => self.accuse(Rule::R9, format_args!("{event} was reported, but never recorded")),
        }
    }

    /// The driver reported that events were lost.
    pub fn reported_loss(&mut self, instance: usize) {
        if let Some(lost) = self.lost.get_mut(instance) {
            *lost = 0;
        }
    }

    /// The driver says that it reported everything of `instance`.
    pub fn all_reported(&mut self, instance: usize) {
        if let Some(event) = self.recorded.get(instance).and_then(|queue| queue.front()) {
            let event = *event;
            self.accuse(Rule::R9, format_args!("{event} was never reported"));
        }
        if self.lost.get(instance).is_some_and(|lost| *lost > 0) {
            self.accuse(Rule::R9, "events were lost, and nobody was told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle() -> Oracle {
        let mut oracle = Oracle::new(1);
        oracle.add_domain(0x1000);
        oracle.add_domain(0x2000);
        oracle.add_master(0, vec![7]);
        oracle.attach_begins(0, Use::Domain(0));
        oracle.attach_ends(0, true);
        oracle.map_begins(0, 0x10000..0x12000, 0x8000_0000, false);
        oracle.map_ends(0, 0x10000..0x12000, true);
        oracle
    }

    fn broken(oracle: &Oracle) -> Option<Rule> {
        oracle.violation().map(|violation| violation.rule)
    }

    #[test]
    fn a_mapped_page_must_be_reached_where_it_leads() {
        let mut oracle = oracle();
        oracle.reached(0, 0x11010, false, 0x8000_1010, "a");
        assert_eq!(broken(&oracle), None);
        oracle.refused(0, 0x11010, false, "a");
        assert_eq!(broken(&oracle), Some(Rule::R0));
    }

    #[test]
    fn an_unmapped_or_forbidden_page_must_be_refused() {
        let mut oracle = oracle();
        oracle.refused(0, 0x12000, false, "a");
        oracle.refused(0, 0x10000, true, "a");
        assert_eq!(broken(&oracle), None);
        oracle.reached(0, 0x10000, true, 0x8000_0000, "a");
        assert_eq!(broken(&oracle), Some(Rule::R1));
    }

    #[test]
    fn while_something_changes_both_sides_are_right_and_afterwards_one() {
        let mut oracle = oracle();
        oracle.unmap_begins(0, 0x10000..0x11000);
        oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
        oracle.refused(0, 0x10000, false, "a");
        assert_eq!(broken(&oracle), None);
        oracle.unmap_ends(0, 0x10000..0x11000, true);
        assert_eq!(oracle.gone(0, 0..u64::MAX).next(), Some((0x10000, 0x8000_0000)));
        oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
        assert_eq!(broken(&oracle), Some(Rule::R1));

        let mut oracle = self::oracle();
        oracle.attach_begins(0, Use::Domain(1));
        oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
        oracle.refused(0, 0x10000, false, "a");
        oracle.attach_ends(0, true);
        oracle.refused(0, 0x10000, false, "a");
        assert_eq!(broken(&oracle), None);
        oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
        assert_eq!(broken(&oracle), Some(Rule::R1));
    }

    #[test]
    fn events_must_be_reported_once_in_order_and_completely() {
        let event = |id| EventRecord::default().with_id(id);
        let mut oracle = oracle();
        oracle.recorded(0, event(0x10));
        oracle.recorded(0, event(0x13));
        oracle.reported(0, event(0x10));
        oracle.reported(0, event(0x13));
        oracle.all_reported(0);
        assert_eq!(broken(&oracle), None);
        oracle.recorded(0, event(0x10));
        oracle.all_reported(0);
        assert_eq!(broken(&oracle), Some(Rule::R9));
        let mut oracle = self::oracle();
        oracle.lost(0);
        oracle.reported_loss(0);
        oracle.all_reported(0);
        assert_eq!(broken(&oracle), None);
        oracle.reported(0, event(0x10));
        assert_eq!(broken(&oracle), Some(Rule::R9));
    }
}
