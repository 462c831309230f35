// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices access: what they may, what is gone, and what they may not.

use super::Workload;
use crate::operation::Operation;
use crate::oracle::{AccessKind, Life, Oracle, PAGE, Page, Use, User};
use crate::scenario::{Device, Substream};

/// Most bytes of a random access.
const MOST_BYTES: u64 = 64;
/// Pages that devices tend to access again.
const HOT_PAGES: usize = 4;

impl Workload<'_> {
    pub(super) fn access(&mut self, oracle: &Oracle, write: bool) -> Option<Operation> {
        let space = |user: User| oracle.goes_through(user);
        if let Some((master, substream, page)) = self.rng.choice(&self.hot).copied()
            && self.rng.bool()
            && let Some(number) = oracle.substream(substream)
            && let Some(space) = space(User { master, substream: number })
            && oracle.life(space) == Life::Live
            && oracle
                .page(space, page)
                .is_some_and(|it| self.is_open(oracle, (master, space), &it, write.into()))
        {
            let kind = self.read_of(oracle, (master, number, space), page, write);
            return self.dma(master, substream, page, kind);
        }
        let (master, substream, space) = self.attached(oracle)?;
        if oracle.life(space) != Life::Live {
            return None;
        }
        let open = self.open(oracle, (master, space), write.into());
        let pages = oracle
            .pages(space, self.window(space))
            .filter(|(_, page)| open(page))
            .map(|(iova, _)| iova);
        let page = self.one_page(pages)?;
        if self.hot.len() == HOT_PAGES {
            self.hot.remove(0);
        }
        self.hot.push((master, substream, page));
        let number = oracle.substream(substream)?;
        let kind = self.read_of(oracle, (master, number, space), page, write);
        self.dma(master, substream, page, kind)
    }

    pub(super) fn stale(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, substream, space) = self.attached(oracle)?;
        let released = oracle.life(space) == Life::Released;
        let gone = oracle
            .gone(space, self.window(space))
            .map(|(iova, _)| iova)
            .filter(|iova| oracle.page(space, *iova).is_none());
        // Of a process that was released everything is gone.
        let left = oracle.pages(space, self.window(space)).map(|(iova, _)| iova);
        let page = self.one_page(gone.chain(left.filter(|_| released)))?;
        let write = self.rng.bool();
        self.dma(master, substream, page, write.into())
    }

    pub(super) fn fault(&mut self, oracle: &Oracle) -> Option<Operation> {
        if self.weights.attach_pasid + self.weights.bind > 0 && self.rng.u8(..) < 64 {
            return self.unattached(oracle);
        }
        let (master, substream, space) = self.attached(oracle)?;
        let fetches = oracle.fetches(master, oracle.substream(substream)?);
        for _ in 0..8 {
            let iova = self.any_page(space);
            let kind = match oracle.page(space, iova) {
                None => self.rng.bool().into(),
                Some(page) if !self.is_open(oracle, (master, space), &page, AccessKind::Read) => {
                    self.rng.bool().into()
                }
                Some(page) if !page.write => AccessKind::Write,
                // What may be read is seldom to be executed.
                Some(page)
                    if fetches
                        && self.fetches
                        && self.apart.bool()
                        && !self.is_open(oracle, (master, space), &page, AccessKind::Fetch) =>
                {
                    AccessKind::Fetch
                }
                Some(_) => continue,
            };
            return self.dma(master, substream, iova, kind);
        }
        None
    }

    /// An access with a substream, or without, that has nothing to use.
    fn unattached(&mut self, oracle: &Oracle) -> Option<Operation> {
        let master = self.master_with_substreams()?;
        let mut substreams = vec![Substream::None];
        substreams.extend((1..=self.scenario.pasids).map(Substream::Pasid));
        substreams.extend((0..self.scenario.processes.len()).map(Substream::Process));
        substreams.retain(|substream| {
            oracle
                .substream(*substream)
                .is_some_and(|substream| oracle.using(User { master, substream }) == Use::Blocked)
        });
        let substream = self.rng.choice(substreams)?;
        let page = self.any_page(usize::MAX);
        let write = self.rng.bool();
        self.dma(master, substream, page, write.into())
    }

    /// About what is mapped, was mapped lately, or is not; also of what is blocked.
    pub(super) fn translate(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, substream, space) = if self.rng.u8(..) < 224 {
            let (master, substream, space) = self.attached(oracle)?;
            (master, substream, Some(space))
        } else {
            (self.master()?, Substream::None, None)
        };
        if !self.scenario.answers(master) {
            return None;
        }
        let gone = self.rng.u8(..) < 64;
        // Somewhere, where no space is.
        let any = self.any_page(space.unwrap_or(usize::MAX));
        let known = match space.map(|space| (space, self.window(space))) {
            Some((space, window)) if gone => {
                self.one_page(oracle.gone(space, window).map(|(iova, _)| iova))
            }
            Some((space, window)) => {
                self.one_page(oracle.pages(space, window).map(|(iova, _)| iova))
            }
            None => None,
        };
        let page = known.filter(|_| self.rng.u8(..) < 240);
        let iova = page.unwrap_or(any) + 4 * self.rng.u64(0..PAGE / 4);
        let write = self.rng.bool();
        Some(Operation::Translate { master, substream, iova, write })
    }

    /// An access within one page.
    fn dma(
        &mut self,
        master: usize,
        substream: Substream,
        page: u64,
        kind: AccessKind,
    ) -> Option<Operation> {
        let write = kind == AccessKind::Write;
        let device = self.scenario.masters.get(master)?.device;
        let bytes = 4 * self.rng.u64(1..=MOST_BYTES / 4);
        let iova = page + 4 * self.rng.u64(0..=(PAGE - bytes) / 4);
        if write || device == Device::TestDevice {
            self.serial += 1;
            let word = match device {
                Device::TestDevice => Device::TEST_PATTERN,
                // Never zero, and never what an earlier write left.
                Device::Edu => 0x8000_0000 | self.serial,
            };
            let data = word.to_le_bytes().into_iter().cycle().take(bytes as usize).collect();
            return Some(Operation::Write { master, substream, iova, data });
        }
        let (bytes, instruction) = (bytes as usize, kind == AccessKind::Fetch);
        Some(Operation::Read { master, substream, iova, bytes, instruction })
    }

    /// As what a device reads a page that it may read, or writes it: mostly instructions, where it may execute them.
    fn read_of(
        &mut self,
        oracle: &Oracle,
        (master, substream, space): (usize, Option<u32>, usize),
        page: u64,
        write: bool,
    ) -> AccessKind {
        let open = |page: Page| self.is_open(oracle, (master, space), &page, AccessKind::Fetch);
        let executes = !write
            && self.fetches
            && oracle.fetches(master, substream)
            && oracle.page(space, page).is_some_and(open);
        match executes && self.apart.u8(..) < 160 {
            true => AccessKind::Fetch,
            false => write.into(),
        }
    }

    /// Whether a master may access a page of a space.
    fn is_open(&self, oracle: &Oracle, of: (usize, usize), page: &Page, kind: AccessKind) -> bool {
        self.open(oracle, of, kind)(page)
    }

    /// Which pages of a space a master may access.
    fn open(
        &self,
        oracle: &Oracle,
        (master, space): (usize, usize),
        kind: AccessKind,
    ) -> impl Fn(&Page) -> bool + use<> {
        let kind = oracle.taken_as(master, kind);
        let (stage_2, privileged) = (oracle.is_stage_2(space), self.scenario.is_privileged(master));
        move |page| kind.is_permitted(page, stage_2, privileged)
    }
}
