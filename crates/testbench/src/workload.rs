// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations: chosen from what the oracle says is mapped, attached and gone.

use crate::bench::POOL_BYTES;
use crate::operation::{Operation, Source};
use crate::oracle::{Oracle, PAGE, Use};
use crate::scenario::{Device, MemoryKind, Random, Scenario};

/// Chooses operations for one random step.
pub struct Workload<'a> {
    scenario: &'a Scenario,
    random: &'a Random,
    rng: fastrand::Rng,
    /// Makes what devices write differ from what was written before.
    serial: u32,
    /// Pages that were accessed last, which devices tend to access again.
    hot: Vec<(usize, u64)>,
}

/// Most bytes of a random access.
const MOST_BYTES: u64 = 64;
/// Pages that devices tend to access again.
const HOT_PAGES: usize = 4;
/// Pages of a level-3 table.
const TABLE_PAGES: u64 = 512;

impl<'a> Workload<'a> {
    /// For `random`, a step of `scenario`.
    pub fn new(scenario: &'a Scenario, random: &'a Random, seed: u64) -> Self {
        Self { scenario, random, rng: fastrand::Rng::with_seed(seed), serial: 0, hot: Vec::new() }
    }

    /// The next operation, and whether it is an attempt at something stale.
    pub fn next(&mut self, oracle: &Oracle) -> (Operation, bool) {
        loop {
            let weights = self.random.weights;
            let mut at = self.rng.u32(0..weights.sum().max(1));
            let mut choose = |weight: u32| {
                let chosen = at < weight;
                at = at.wrapping_sub(weight);
                chosen
            };
            let (operation, stale) = if choose(weights.map) {
                (self.map(oracle), false)
            } else if choose(weights.unmap) {
                (self.unmap(oracle), false)
            } else if choose(weights.attach) {
                (self.attach(), false)
            } else if choose(weights.detach) {
                (self.detach(), false)
            } else if choose(weights.identity) {
                (self.identity(), false)
            } else if choose(weights.read) {
                (self.access(oracle, false), false)
            } else if choose(weights.write) {
                (self.access(oracle, true), false)
            } else if choose(weights.stale) {
                (self.stale(oracle), true)
            } else {
                (self.fault(oracle), false)
            };
            if let Some(operation) = operation {
                return (operation, stale);
            }
            // Nothing to unmap, or to access: something else, in the end a map.
            if self.rng.u8(..) < 64
                && let Some(operation) = self.map(oracle)
            {
                return (operation, false);
            }
        }
    }

    /// Operations that bring everything back to where it was before: mappings of the window gone, masters
    /// where `before` says.
    pub fn undo(&self, oracle: &Oracle, before: &[Use]) -> Vec<Operation> {
        let window = self.window();
        let mut operations: Vec<Operation> = (0..self.scenario.domains.len())
            .filter(|domain| oracle.pages(*domain, window.clone()).next().is_some())
            .map(|domain| {
                let (iova, bytes) = (window.start, window.end - window.start);
                Operation::Unmap { domain, iova, bytes }
            })
            .collect();
        for (master, to) in before.iter().enumerate() {
            if oracle.using(master) != *to {
                operations.push(Operation::Attach { master, to: *to });
            }
        }
        operations
    }

    fn window(&self) -> std::ops::Range<u64> {
        self.random.iova..self.random.iova + self.random.pages * PAGE
    }

    fn domain(&mut self) -> Option<usize> {
        let domains = self.scenario.domains.len();
        (domains > 0).then(|| self.rng.usize(0..domains))
    }

    fn master(&mut self) -> Option<usize> {
        let masters = self.scenario.masters.len();
        (masters > 0).then(|| self.rng.usize(0..masters))
    }

    /// A master that uses a domain.
    fn attached(&mut self, oracle: &Oracle) -> Option<(usize, usize)> {
        let attached: Vec<(usize, usize)> = (0..self.scenario.masters.len())
            .filter_map(|master| match oracle.using(master) {
                Use::Domain(domain) => Some((master, domain)),
                Use::Blocked | Use::Identity => None,
            })
            .collect();
        self.rng.choice(attached)
    }

    fn map(&mut self, oracle: &Oracle) -> Option<Operation> {
        let domain = self.domain()?;
        let free = |first: u64, pages: u64| {
            let range = first..first + pages * PAGE;
            oracle.pages(domain, range).next().is_none()
        };
        let write = self.rng.u8(..) < 208;
        let kind = MemoryKind::Normal;
        // A block, where the window has room for one.
        let block = TABLE_PAGES * PAGE;
        let first_block = self.random.iova.next_multiple_of(block);
        if first_block + block <= self.window().end && self.rng.u8(..) < 16 {
            let blocks = (self.window().end - first_block) / block;
            let iova = first_block + block * self.rng.u64(0..blocks);
            let source = Source::Pool(block * self.rng.u64(0..POOL_BYTES / block));
            if free(iova, TABLE_PAGES) {
                return Some(Operation::Map { domain, iova, bytes: block, source, write, kind });
            }
        }
        for _ in 0..8 {
            let longest = self.longest();
            let pages = 1 + self.rng.u64(0..longest).min(self.random.pages - 1);
            let iova = self.random.iova + PAGE * self.rng.u64(0..=self.random.pages - pages);
            if free(iova, pages) {
                let mut offset = PAGE * self.rng.u64(0..=POOL_BYTES / PAGE - pages);
                if pages > TABLE_PAGES && self.rng.bool() {
                    // Blocks with pages before and after them, where there is memory for that.
                    let fitting = offset & !(block - 1) | iova & (block - 1);
                    offset = if fitting + pages * PAGE <= POOL_BYTES { fitting } else { offset };
                }
                let source = Source::Pool(offset);
                return Some(Operation::Map {
                    domain,
                    iova,
                    bytes: pages * PAGE,
                    source,
                    write,
                    kind,
                });
            }
        }
        None
    }

    /// The most pages of what comes next: long runs fill the window, so they are not always chosen.
    fn longest(&mut self) -> u64 {
        let longest = self.random.longest;
        if longest > Random::LONGEST && self.rng.bool() { Random::LONGEST } else { longest }
    }

    fn unmap(&mut self, oracle: &Oracle) -> Option<Operation> {
        let domain = self.domain()?;
        let table = TABLE_PAGES * PAGE;
        let roll = self.rng.u8(..);
        if roll < 40 {
            // Whole tables, where nothing but the window lies in them: they are unlinked, or, if empty, freed.
            let start = self.random.iova & !(table - 1);
            let bytes = self.window().end.next_multiple_of(table) - start;
            let foreign = |(iova, _): (u64, _)| !self.window().contains(&iova);
            if oracle.pages(domain, start..start + bytes).any(foreign) {
                return None;
            }
            return Some(if roll < 24 {
                Operation::Unmap { domain, iova: start, bytes }
            } else {
                Operation::Reclaim { domain, iova: start, bytes }
            });
        }
        let mapped: Vec<u64> = oracle.pages(domain, self.window()).map(|(iova, _)| iova).collect();
        let first = self.rng.choice(&mapped).copied()?;
        // Holes are allowed, but blocks must not be cut.
        let longest = self.longest();
        let mut range = first..first + PAGE * self.rng.u64(1..=longest);
        for iova in [range.start, range.end - PAGE] {
            if let Some(block) = oracle.block(domain, iova) {
                range = range.start.min(block.start)..range.end.max(block.end);
            }
        }
        let end = range.end.min(self.window().end);
        Some(Operation::Unmap { domain, iova: range.start, bytes: end - range.start })
    }

    fn attach(&mut self) -> Option<Operation> {
        let (master, domain) = (self.master()?, self.domain()?);
        Some(Operation::Attach { master, to: Use::Domain(domain) })
    }

    fn detach(&mut self) -> Option<Operation> {
        Some(Operation::Attach { master: self.master()?, to: Use::Blocked })
    }

    fn identity(&mut self) -> Option<Operation> {
        Some(Operation::Attach { master: self.master()?, to: Use::Identity })
    }

    fn access(&mut self, oracle: &Oracle, write: bool) -> Option<Operation> {
        if let Some((master, page)) = self.rng.choice(&self.hot).copied()
            && self.rng.bool()
            && let Use::Domain(domain) = oracle.using(master)
            && oracle.page(domain, page).is_some_and(|page| page.write || !write)
        {
            return self.dma(master, page, write);
        }
        let (master, domain) = self.attached(oracle)?;
        let pages: Vec<u64> = oracle
            .pages(domain, self.window())
            .filter(|(_, page)| page.write || !write)
            .map(|(iova, _)| iova)
            .collect();
        let page = self.rng.choice(&pages).copied()?;
        if self.hot.len() == HOT_PAGES {
            self.hot.remove(0);
        }
        self.hot.push((master, page));
        self.dma(master, page, write)
    }

    fn stale(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, domain) = self.attached(oracle)?;
        let gone: Vec<u64> = oracle
            .gone(domain, self.window())
            .map(|(iova, _)| iova)
            .filter(|iova| oracle.page(domain, *iova).is_none())
            .collect();
        let page = self.rng.choice(&gone).copied()?;
        let write = self.rng.bool();
        self.dma(master, page, write)
    }

    fn fault(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, domain) = self.attached(oracle)?;
        let pages = self.random.pages;
        for _ in 0..8 {
            let iova = self.random.iova + PAGE * self.rng.u64(0..pages);
            match oracle.page(domain, iova) {
                None => {
                    let write = self.rng.bool();
                    return self.dma(master, iova, write);
                }
                Some(page) if !page.write => return self.dma(master, iova, true),
                Some(_) => {}
            }
        }
        None
    }

    /// An access within one page.
    fn dma(&mut self, master: usize, page: u64, write: bool) -> Option<Operation> {
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
            return Some(Operation::Write { master, iova, data });
        }
        Some(Operation::Read { master, iova, bytes: bytes as usize })
    }
}
