// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address spaces as they are meant to be: what is mapped, what was, and whether they are still there.

use std::collections::BTreeSet;
use std::ops::Range;

use super::paged::Paged;
use super::{Oracle, PAGE};
use crate::scenario::{ContextLayout, MemoryKind, Rights, Scenario, WithoutPasid};

/// A page that is meant to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it leads.
    pub pa: u64,
    /// Whether devices may write.
    pub write: bool,
    /// As what kind of memory.
    pub kind: MemoryKind,
    /// What else is permitted.
    pub rights: Rights,
    /// It is being mapped or unmapped right now: it may be reached or not.
    pub changing: bool,
}

/// What the tables of an address space are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// They are for stage 2.
    pub stage_2: bool,
    /// Bytes of the smallest thing that can be mapped.
    pub unit: u64,
    /// Bytes of what must not be cut: a block, and a group of contiguous pages. 0 if it may be.
    pub uncut: [u64; 2],
    /// Bytes of a group of contiguous pages; 0 if they have no hint.
    pub group: u64,
    /// Hardware marks what is written.
    pub dirty: bool,
    /// Hardware marks what is accessed.
    pub accessed: bool,
    /// A guest's: how its contexts lie where devices have PASIDs, and what becomes of accesses without one.
    pub contexts: Option<(ContextLayout, WithoutPasid)>,
}

/// Stage 1, 4 KiB.
impl Default for Shape {
    fn default() -> Self {
        let uncut = [2 << 20, 0];
        Self {
            stage_2: false,
            unit: PAGE,
            uncut,
            group: 0,
            dirty: false,
            accessed: false,
            contexts: None,
        }
    }
}

impl Shape {
    /// Of the domain with this index.
    pub fn of(scenario: &Scenario, domain: usize) -> Self {
        let Some(tables) = scenario.domains.get(domain).map(|domain| domain.tables) else {
            return Self::default();
        };
        let granule = scenario.granule(domain);
        let bbml = scenario.instances.iter().map(|instance| instance.walks.bbml).min();
        let bbml = bbml.unwrap_or(0);
        let block = if tables.splitting && bbml > 0 { 0 } else { 1 << granule.span(2) };
        let group = granule.contiguous(3).filter(|_| tables.contiguous);
        let group = group.map_or(0, |log2| 1 << (granule.shift() + log2));
        let uncut = [block, if bbml == 0 { group } else { 0 }];
        // A guest's entry says nothing of the host's substreams.
        let stage_2 = tables.stage_2 || tables.over.is_some();
        let unit = scenario.unit(domain);
        let (dirty, accessed) = (tables.dirty, tables.access_flags);
        let under = tables.over.and_then(|over| scenario.domains.get(over));
        let contexts = under.and_then(|under| under.tables.guest_contexts);
        let contexts = contexts.map(|layout| (layout, tables.without_pasid));
        Self { stage_2, unit, uncut, group, dirty, accessed, contexts }
    }
}

/// Whether an address space is still there. A domain always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// It can be used.
    #[default]
    Live,
    /// Its process is being released right now.
    Releasing,
    /// Its process was released: nothing reaches it, and nothing is reported.
    Released,
}

#[derive(Clone, Debug, Default)]
pub(super) struct SpaceState {
    pub(super) pages: Paged<Page>,
    /// Pages that were written since they were clean; and those that who reads that now must be told.
    pub(super) written: BTreeSet<u64>,
    pub(super) owed: Vec<u64>,
    /// The same of what was accessed.
    pub(super) touched: BTreeSet<u64>,
    pub(super) owed_touched: Vec<u64>,
    /// What is being unmapped by who must be told of all that is written there.
    pub(super) taking: Vec<Range<u64>>,
    /// Where pages led that are mapped no more.
    pub(super) gone: Paged<u64>,
    /// Root of its tables: by it the oracle knows its cached translations.
    pub(super) root: u64,
    pub(super) shape: Shape,
    /// Ranges that were unmapped, of which no instance was told yet. Their pages are changing.
    pub(super) deferred: Vec<Range<u64>>,
    /// A guest's: the space that its addresses are those of.
    pub(super) over: Option<usize>,
    pub(super) life: Life,
    /// The PASID of a process.
    pub(super) pasid: Option<u32>,
}

impl SpaceState {
    /// Where all its pages led, now and before.
    pub(super) fn forgotten(self) -> Paged<u64> {
        let mut gone = self.gone;
        self.pages.range(0..u64::MAX).for_each(|(iova, page)| gone.insert(iova, page.pa));
        gone
    }
}

/// Address spaces are numbered: the domains come first, the processes after them, and last what kernels left that are no
/// more.
impl Oracle {
    /// Another domain, whose tables start at `root`. All domains come before the first process.
    pub fn add_domain(&mut self, root: u64) {
        self.add_domain_with(root, Shape::default());
    }

    /// Another domain, with tables of that shape.
    pub fn add_domain_with(&mut self, root: u64, shape: Shape) {
        self.domains += 1;
        self.spaces.push(SpaceState { root, shape, ..SpaceState::default() });
    }

    /// The last domain is a guest's, over `under`.
    pub fn put_over(&mut self, under: usize) {
        if let Some(last) = self.spaces.last_mut() {
            last.over = Some(under);
        }
    }

    /// The space that a guest's is over.
    pub fn over(&self, space: usize) -> Option<usize> {
        self.spaces.get(space)?.over
    }

    /// Whose tags a space has: its own, or those of what it is over.
    pub fn owner(&self, space: usize) -> usize {
        self.over(space).unwrap_or(space)
    }

    /// What the tables of `space` are like.
    pub fn shape(&self, space: usize) -> Shape {
        self.spaces.get(space).map(|space| space.shape).unwrap_or_default()
    }

    /// Another process, whose tables start at `root` and whose accesses have `pasid`.
    pub fn add_process(&mut self, root: u64, pasid: u32) {
        self.spaces.push(SpaceState { root, pasid: Some(pasid), ..SpaceState::default() });
    }

    /// In the place of a process that nobody uses any more comes another one.
    pub fn replace_process(&mut self, process: usize, root: u64, pasid: u32) {
        let space = self.domains + process;
        let Some(space) = self.spaces.get_mut(space) else { return };
        // What the old one mapped is still worth an attempt.
        let gone = std::mem::take(space).forgotten();
        *space = SpaceState { root, pasid: Some(pasid), gone, ..SpaceState::default() };
    }

    /// How many domains there are.
    pub fn domains(&self) -> usize {
        self.domains
    }

    /// How many address spaces there are, but for those that were left.
    pub fn spaces(&self) -> usize {
        self.spaces.len() - self.kept_spaces
    }

    /// How many address spaces there are, with those that kernels left that are no more.
    pub fn all_spaces(&self) -> usize {
        self.spaces.len()
    }

    /// The number of the address space of a process.
    pub fn process_space(&self, process: usize) -> usize {
        self.domains + process
    }

    /// The root of the tables of `space`.
    pub fn root(&self, space: usize) -> u64 {
        self.spaces.get(space).map_or(0, |space| space.root)
    }

    /// Whether `space` is still there.
    pub fn life(&self, space: usize) -> Life {
        self.spaces.get(space).map_or(Life::Released, |space| space.life)
    }

    /// The process is being released.
    pub fn release_begins(&mut self, process: usize) {
        let space = self.domains + process;
        if let Some(space) = self.spaces.get_mut(space) {
            space.life = Life::Releasing;
        }
    }

    /// The release has returned; `done` when it did what it was asked.
    pub fn release_ends(&mut self, process: usize, done: bool) {
        let space = self.domains + process;
        if let Some(space) = self.spaces.get_mut(space) {
            space.life = if done { Life::Released } else { Life::Live };
        }
    }

    /// The page of `space` at `iova`.
    pub fn page(&self, space: usize, iova: u64) -> Option<Page> {
        self.spaces.get(space)?.pages.get(iova).copied()
    }

    /// The mapped pages of `space` in `range`.
    pub fn pages(&self, space: usize, range: Range<u64>) -> impl Iterator<Item = (u64, Page)> {
        self.spaces
            .get(space)
            .into_iter()
            .flat_map(move |space| space.pages.range(range.clone()))
            .map(|(iova, page)| (iova, *page))
    }

    /// Whether all pages of `space` in `range`, which is in pages, are mapped.
    fn is_full(&self, space: usize, range: &Range<u64>) -> bool {
        let count = self.spaces.get(space).map_or(0, |space| space.pages.count(range));
        count as u64 == (range.end - range.start) / PAGE
    }

    /// How many pages of `space` are mapped, and how many were mapped once and are not now.
    pub(crate) fn counts(&self, space: usize) -> (usize, usize) {
        self.spaces.get(space).map_or((0, 0), |space| (space.pages.len(), space.gone.len()))
    }

    /// What lies around `iova` if it may be mapped as one block, which must not be cut; with 4 KiB, 2 MiB.
    pub fn block(&self, space: usize, iova: u64) -> Option<Range<u64>> {
        self.shape(space).uncut.into_iter().filter(|uncut| *uncut != 0).find_map(|uncut| {
            let start = iova & !(uncut - 1);
            // The last one of the upper half is never whole: no range ends where all addresses do.
            let range = start..start.checked_add(uncut)?;
            let first = self.page(space, start)?;
            (first.pa % uncut == 0 && self.is_full(space, &range)).then_some(range)
        })
    }

    /// Pages of `space` in `range` that were mapped once and are not now: input address and where it led.
    pub fn gone(&self, space: usize, range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        self.spaces
            .get(space)
            .into_iter()
            .flat_map(move |space| space.gone.range(range.clone()))
            .map(|(iova, pa)| (iova, *pa))
    }

    /// Pages of `space` in `range` are being mapped, contiguously from `pa` on.
    pub fn map_begins(&mut self, space: usize, range: Range<u64>, pa: u64, write: bool) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        for iova in range.clone().step_by(PAGE as usize) {
            let (kind, rights) = (MemoryKind::Normal, Rights::Data);
            let pa = pa + (iova - range.start);
            space.pages.insert(iova, Page { pa, write, kind, rights, changing: true });
        }
    }

    /// What is being mapped in `range` is of that kind.
    pub fn map_is(&mut self, space: usize, range: Range<u64>, kind: MemoryKind, rights: Rights) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        space.pages.change(&range, |page| (page.kind, page.rights) = (kind, rights));
    }

    /// The mapping of `range` is complete, or was undone.
    pub fn map_ends(&mut self, space: usize, range: Range<u64>, mapped: bool) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        for iova in range.step_by(PAGE as usize) {
            if mapped {
                space.gone.remove(iova);
                if let Some(page) = space.pages.get_mut(iova) {
                    page.changing = false;
                }
            } else {
                space.pages.remove(iova);
            }
        }
    }

    /// Pages of `space` in `range` were unmapped, but nobody was told: they may be reached, or not.
    pub fn deferred(&mut self, space: usize, range: Range<u64>) {
        self.unmap_begins(space, range.clone());
        if let Some(space) = self.spaces.get_mut(space) {
            space.deferred.push(range);
        }
    }

    /// Nothing was unmapped in `range` after all, since that would have cut a block. All of it can be reached as before.
    pub fn deferred_nothing(&mut self, space: usize, range: &Range<u64>) {
        if let Some(space) = self.spaces.get_mut(space) {
            space.deferred.retain(|of| of != range);
        }
        self.unmap_ends(space, range.clone(), false);
    }

    /// Whether `bytes` from `iova` on may be mapped as one block, or one group of contiguous leaves: all is mapped, and leads to
    /// memory that is as aligned, in order.
    pub fn may_be_one(&self, space: usize, iova: u64, bytes: u64) -> bool {
        let Some(end) = iova.checked_add(bytes) else { return false };
        let Some(first) = self.page(space, iova) else { return false };
        let follows = |(at, page): (u64, Page)| page.pa.checked_sub(first.pa) == Some(at - iova);
        let aligned = bytes.is_power_of_two() && (iova | first.pa).is_multiple_of(bytes);
        aligned && self.is_full(space, &(iova..end)) && self.pages(space, iova..end).all(follows)
    }

    /// Whether anything in `range` of `space` was unmapped of which nobody was told.
    pub fn is_deferred(&self, space: usize, range: &Range<u64>) -> bool {
        let overlaps = |of: &Range<u64>| of.start < range.end && range.start < of.end;
        self.spaces.get(space).is_some_and(|space| space.deferred.iter().any(overlaps))
    }

    /// All instances were told: nobody reaches any more what was unmapped so. Its ranges.
    pub fn flushed(&mut self, space: usize) -> Vec<Range<u64>> {
        let of = self.spaces.get_mut(space).map(|space| std::mem::take(&mut space.deferred));
        let ranges = of.unwrap_or_default();
        for range in &ranges {
            self.unmap_ends(space, range.clone(), true);
        }
        ranges
    }

    /// Pages of `space` in `range` are being unmapped.
    pub fn unmap_begins(&mut self, space: usize, range: Range<u64>) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        space.pages.change(&range, |page| page.changing = true);
    }

    /// The unmap of `range` has returned; `removed` when it did what it was asked.
    pub fn unmap_ends(&mut self, space: usize, range: Range<u64>, removed: bool) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        if !removed {
            space.pages.change(&range, |page| page.changing = false);
            return;
        }
        let SpaceState { pages, written, touched, gone, .. } = space;
        pages.take(&range, |iova, page| {
            // Who unmaps without asking does not want to know.
            written.remove(&iova);
            touched.remove(&iova);
            gone.insert(iova, page.pa);
        });
    }
}
