// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address spaces as they are meant to be: what is mapped, what was, and whether they are still there.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Oracle, PAGE};

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
    pub(super) pages: BTreeMap<u64, Page>,
    /// Where pages led that are mapped no more.
    gone: BTreeMap<u64, u64>,
    /// Root of its tables: by it the oracle knows its cached translations.
    root: u64,
    pub(super) life: Life,
    /// The PASID of a process.
    pub(super) pasid: Option<u32>,
}

/// Address spaces are numbered: the domains come first, the processes after them.
impl Oracle {
    /// Another domain, whose tables start at `root`. All domains come before the first process.
    pub fn add_domain(&mut self, root: u64) {
        self.domains += 1;
        self.spaces.push(SpaceState { root, ..SpaceState::default() });
    }

    /// Another process, whose tables start at `root` and whose accesses have `pasid`.
    pub fn add_process(&mut self, root: u64, pasid: u32) {
        self.spaces.push(SpaceState { root, pasid: Some(pasid), ..SpaceState::default() });
    }

    /// In the place of a process that nobody uses any more comes another one.
    pub fn replace_process(&mut self, process: usize, root: u64, pasid: u32) {
        let space = self.domains + process;
        let Some(space) = self.spaces.get_mut(space) else { return };
        let gone = std::mem::take(&mut space.gone);
        let left = std::mem::take(&mut space.pages).into_iter().map(|(iova, page)| (iova, page.pa));
        // What the old one mapped is still worth an attempt.
        let gone = gone.into_iter().chain(left).collect();
        *space = SpaceState { root, pasid: Some(pasid), gone, ..SpaceState::default() };
    }

    /// How many domains there are.
    pub fn domains(&self) -> usize {
        self.domains
    }

    /// How many address spaces there are.
    pub fn spaces(&self) -> usize {
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
        self.spaces.get(space)?.pages.get(&(iova & !(PAGE - 1))).copied()
    }

    /// The mapped pages of `space` in `range`.
    pub fn pages(&self, space: usize, range: Range<u64>) -> impl Iterator<Item = (u64, Page)> {
        self.spaces
            .get(space)
            .into_iter()
            .flat_map(move |space| space.pages.range(range.clone()))
            .map(|(iova, page)| (*iova, *page))
    }

    /// The 2 MiB around `iova` if they may be mapped as one block, which must not be cut.
    pub fn block(&self, space: usize, iova: u64) -> Option<Range<u64>> {
        const BLOCK: u64 = 2 << 20;
        let range = iova & !(BLOCK - 1)..(iova & !(BLOCK - 1)) + BLOCK;
        let first = self.page(space, range.start)?;
        let whole = self.pages(space, range.clone()).count() as u64 == BLOCK / PAGE;
        (whole && first.pa % BLOCK == 0).then_some(range)
    }

    /// Pages of `space` in `range` that were mapped once and are not now: input address and where it led.
    pub fn gone(&self, space: usize, range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        self.spaces
            .get(space)
            .into_iter()
            .flat_map(move |space| space.gone.range(range.clone()))
            .map(|(iova, pa)| (*iova, *pa))
    }

    /// Pages of `space` in `range` are being mapped, contiguously from `pa` on.
    pub fn map_begins(&mut self, space: usize, range: Range<u64>, pa: u64, write: bool) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        for iova in range.clone().step_by(PAGE as usize) {
            let page = Page { pa: pa + (iova - range.start), write, changing: true };
            space.pages.insert(iova, page);
        }
    }

    /// The mapping of `range` is complete, or was undone.
    pub fn map_ends(&mut self, space: usize, range: Range<u64>, mapped: bool) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        for iova in range.step_by(PAGE as usize) {
            if mapped {
                space.gone.remove(&iova);
                if let Some(page) = space.pages.get_mut(&iova) {
                    page.changing = false;
                }
            } else {
                space.pages.remove(&iova);
            }
        }
    }

    /// Pages of `space` in `range` are being unmapped.
    pub fn unmap_begins(&mut self, space: usize, range: Range<u64>) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        for (_, page) in space.pages.range_mut(range) {
            page.changing = true;
        }
    }

    /// The unmap of `range` has returned; `removed` when it did what it was asked.
    pub fn unmap_ends(&mut self, space: usize, range: Range<u64>, removed: bool) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        let pages: Vec<u64> = space.pages.range(range).map(|(iova, _)| *iova).collect();
        for iova in pages {
            if !removed {
                if let Some(page) = space.pages.get_mut(&iova) {
                    page.changing = false;
                }
            } else if let Some(page) = space.pages.remove(&iova) {
                space.gone.insert(iova, page.pa);
            }
        }
    }
}
