// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is mapped and unmapped, and asked of what is mapped.

use super::{Workload, one_of};
use crate::bench::POOL_BYTES;
use crate::operation::{Operation, Source};
use crate::oracle::{Life, Oracle, PAGE};
use crate::scenario::{MemoryKind, Random, Rights};

/// Pages of a level-3 table.
const TABLE_PAGES: u64 = 512;

impl Workload<'_> {
    pub(super) fn map(&mut self, oracle: &Oracle) -> Option<Operation> {
        let space = self.space()?;
        let (window, unit) = self.pages_of(oracle, space);
        let there = window.end.saturating_sub(window.start) / unit;
        if there == 0 {
            return None;
        }
        if oracle.life(space) != Life::Live {
            return None;
        }
        let free = |first: u64, pages: u64| {
            let range = first..first + pages * PAGE;
            oracle.pages(space, range).next().is_none()
        };
        let write = self.rng.u8(..) < 208;
        let (kind, rights) = self.kind(space);
        // A block, or a group that must not be cut, where the window has room for one.
        let block = TABLE_PAGES * PAGE;
        let [_, group] = oracle.shape(space).uncut;
        let whole = self.window(space);
        for bytes in [block, group] {
            let first = whole.start.checked_next_multiple_of(bytes).unwrap_or(whole.end);
            let wholes = whole.end.saturating_sub(first).checked_div(bytes).unwrap_or(0);
            if wholes == 0 || self.rng.u8(..) >= 20 {
                continue;
            }
            let iova = first + bytes * self.rng.u64(0..wholes);
            let source = Source::Pool(bytes * self.rng.u64(0..POOL_BYTES / bytes));
            if free(iova, bytes / PAGE) {
                return Some(Operation::Map { space, iova, bytes, source, write, kind, rights });
            }
        }
        for _ in 0..8 {
            // Counted in pages of the space, then in those of 4 KiB.
            let longest = (self.longest() * PAGE).div_ceil(unit);
            let units = 1 + self.rng.u64(0..longest).min(there - 1);
            let iova = window.start + unit * self.rng.u64(0..=there - units);
            let pages = units * (unit / PAGE);
            if free(iova, pages) {
                let mut offset = unit * self.rng.u64(0..=POOL_BYTES / unit - units);
                let group = oracle.shape(space).group;
                if group != 0 && self.rng.bool() {
                    // Groups of contiguous pages.
                    let fitting = offset & !(group - 1) | iova & (group - 1);
                    offset = if fitting + pages * PAGE <= POOL_BYTES { fitting } else { offset };
                }
                if pages > TABLE_PAGES && self.rng.bool() {
                    // Blocks with pages before and after them, where there is memory for that.
                    let fitting = offset & !(block - 1) | iova & (block - 1);
                    offset = if fitting + pages * PAGE <= POOL_BYTES { fitting } else { offset };
                }
                let source = Source::Pool(offset);
                return Some(Operation::Map {
                    space,
                    iova,
                    bytes: pages * PAGE,
                    source,
                    write,
                    kind,
                    rights,
                });
            }
        }
        None
    }

    /// As what something is mapped: mostly as most things are, else as anything that the tables can say.
    fn kind(&mut self, space: usize) -> (MemoryKind, Rights) {
        // Where a device executes what a guest or a process maps, both have said so.
        let code = if self.apart.u8(..) < 80 { Rights::Code } else { Rights::Data };
        let Some(domain) = self.scenario.domains.get(space) else {
            return (MemoryKind::Normal, code);
        };
        let tables = domain.tables;
        let usual = (MemoryKind::Normal, if tables.guests { code } else { Rights::Data });
        if !self.rng.bool() {
            return usual;
        }
        if tables.over.is_some() {
            return (MemoryKind::Normal, code);
        }
        let all = tables.all_attributes || tables.dirty;
        let mut kinds = vec![MemoryKind::Normal, MemoryKind::Uncached, MemoryKind::Device];
        let mut rights = vec![Rights::Data, Rights::Data, Rights::Data, Rights::Code];
        if tables.all_attributes {
            kinds.push(MemoryKind::StrictDevice);
            if !tables.forced_types {
                kinds.push(MemoryKind::WriteThrough);
            }
        }
        // With descriptors of 52 bits, all that is cached is shared alike.
        let narrow = domain.input_bits <= 48 && tables.output_bits <= 48;
        if tables.forced_types && all && narrow {
            // Few domains can have it.
            kinds.extend([MemoryKind::AsStage1; 4]);
        }
        if !tables.stage_2 && self.privilege {
            rights.push(Rights::Privileged);
        }
        // At stage 2 only where all instances tell who executes (XNX), which those with stage 2 do.
        let by_privilege = match tables.stage_2 {
            true => {
                let instances = &self.scenario.instances;
                tables.all_attributes && instances.iter().all(|instance| instance.stage_2)
            }
            false => all,
        };
        if by_privilege {
            rights.push(Rights::UserCode);
            if self.privilege && self.apart.bool() {
                rights.push(Rights::PrivilegedCode);
            }
        }
        (one_of(&mut self.rng, &kinds), one_of(&mut self.rng, &rights))
    }

    /// The most pages of what comes next: long runs fill the window, so they are not always chosen.
    fn longest(&mut self) -> u64 {
        let longest = self.random.longest;
        if longest > Random::LONGEST && self.rng.bool() { Random::LONGEST } else { longest }
    }

    pub(super) fn unmap(&mut self, oracle: &Oracle) -> Option<Operation> {
        let space = self.space()?;
        let (_, unit) = self.pages_of(oracle, space);
        // What a last-level table spans.
        let table = unit * (unit / 8);
        let roll = self.rng.u8(..);
        let shape = oracle.shape(space);
        if roll >= 208 && (shape.dirty || shape.accessed) {
            return self.harvest(oracle, space);
        }
        if roll < 40 {
            // Whole tables, where nothing but the window lies in them: they are unlinked, or, if empty, freed.
            let whole = self.window(space);
            let start = whole.start & !(table - 1);
            let end = match self.scenario.base(space) {
                0 => 1 << self.scenario.input_bits(space),
                // The last page has no end.
                _ => unit.wrapping_neg(),
            };
            let bytes = whole.end.checked_next_multiple_of(table).unwrap_or(end).min(end) - start;
            let foreign = |(iova, _): (u64, _)| !whole.contains(&iova);
            if oracle.pages(space, start..start + bytes).any(foreign) {
                return None;
            }
            // The tables of a process are the operating system's.
            let is_process = space >= self.scenario.domains.len();
            return Some(if roll < 24 || is_process {
                self.unmap_of(oracle, space, start, bytes)
            } else {
                Operation::Reclaim { domain: space, iova: start, bytes }
            });
        }
        if (40..140).contains(&roll)
            && let Some(cut) = self.cut(oracle, space)
        {
            return Some(cut);
        }
        self.unmap_in(oracle, space)
    }

    /// A run of pages that begins or ends in the middle of what may be a block. One that is, is refused, where blocks are not split.
    fn cut(&mut self, oracle: &Oracle, domain: usize) -> Option<Operation> {
        let tables = self.scenario.domains.get(domain)?.tables;
        if tables.over.is_some() {
            return None;
        }
        let (window, unit) = self.pages_of(oracle, domain);
        let least = oracle.shape(domain).uncut.into_iter().filter(|uncut| *uncut != 0).min()?;
        let mapped = oracle.pages(domain, window).map(|(iova, _)| iova);
        let whole = |iova: u64| oracle.block(domain, iova).filter(|block| block.start == iova);
        let wholes = mapped.filter(|iova| iova.is_multiple_of(least)).filter_map(whole);
        let wholes: Vec<_> = wholes.collect();
        let whole = self.rng.choice(&wholes)?.clone();
        let cut = whole.start + unit * self.rng.u64(1..(whole.end - whole.start) / unit);
        let range = if self.rng.bool() { whole.start..cut } else { cut..whole.end };
        let bytes = range.end - range.start;
        Some(Operation::Cut { domain, iova: range.start, bytes, must: false })
    }

    /// A run of pages, with what must not be cut.
    fn unmap_in(&mut self, oracle: &Oracle, space: usize) -> Option<Operation> {
        let (window, unit) = self.pages_of(oracle, space);
        let mapped = oracle.pages(space, window.clone()).map(|(iova, _)| iova);
        let first = self.one_page(mapped)? & !(unit - 1);
        // Holes are allowed, but blocks must not be cut.
        let longest = self.longest();
        let longest = (longest * PAGE).div_ceil(unit);
        let bytes = unit * self.rng.u64(1..=longest);
        let mut range = first..first.saturating_add(bytes).min(window.end);
        for iova in [range.start, range.end - PAGE] {
            if let Some(block) = oracle.block(space, iova) {
                range = range.start.min(block.start)..range.end.max(block.end);
            }
        }
        let end = range.end.min(window.end);
        Some(self.unmap_of(oracle, space, range.start, end - range.start))
    }

    /// An unmap; half of those that can ask for what was written do.
    fn unmap_of(&mut self, oracle: &Oracle, space: usize, iova: u64, bytes: u64) -> Operation {
        if oracle.shape(space).dirty && self.rng.bool() {
            Operation::Take { domain: space, iova, bytes }
        } else {
            Operation::Unmap { space, iova, bytes }
        }
    }

    /// Unmaps a run of pages of a domain, but tells nobody; or tells what was unmapped so. In domains that split, it may be
    /// refused, since a block would be cut.
    pub(super) fn defer(&mut self, oracle: &Oracle) -> Option<Operation> {
        let domain = self.domain()?;
        let tables = self.scenario.domains.get(domain)?.tables;
        if tables.over.is_some() {
            return None;
        }
        if self.rng.u8(..) < 80 && oracle.is_deferred(domain, &(0..u64::MAX)) {
            return Some(Operation::Flush { domain });
        }
        let (Operation::Unmap { space: domain, iova, bytes }
        | Operation::Take { domain, iova, bytes }) = self.unmap_in(oracle, domain)?
        else {
            return None;
        };
        Some(Operation::Defer { domain, iova, bytes })
    }

    /// Reads what was written, or accessed, in all of the window, or in a part that cuts no block.
    fn harvest(&mut self, oracle: &Oracle, space: usize) -> Option<Operation> {
        let (window, unit) = self.pages_of(oracle, space);
        let block = unit * (unit / 8);
        let mut range = window.clone();
        if self.rng.bool() {
            let start = window.start.checked_next_multiple_of(block).unwrap_or(window.end);
            let blocks = window.end.saturating_sub(start) / block;
            if blocks > 0 {
                let first = self.rng.u64(0..blocks);
                range = start + block * first..start + block * (first + 1);
            }
        }
        let (domain, iova) = (space, range.start);
        let bytes = range.end.checked_sub(iova).filter(|bytes| *bytes > 0)?;
        let shape = oracle.shape(space);
        Some(match shape.accessed && (!shape.dirty || self.rng.bool()) {
            true => Operation::Accessed { domain, iova, bytes },
            false => Operation::Dirty { domain, iova, bytes },
        })
    }
}
