// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random calls on a table of any geometry, each compared with the model, a walk by the independent walker and a
//! look-up; now and then with all that the walker finds in the tables.

use smmuv3_formats::granule::Granule;
use smmuv3_pagetable::*;

use super::oracle::Oracle;
use super::space::{Extent, Model, Random};
use super::{Arena, unmap};

pub struct Run<const SHIFT: u32, const STAGE: u8, const WIDE: bool> {
    pub arena: Arena,
    pub table: Table<SHIFT, STAGE, WIDE>,
    pub config: TableConfig,
    pub random: Random,
    pub model: Model,
    /// Sizes that ranges are likely to be made of: of leaves and their groups.
    units: Vec<u64>,
    /// Where there is something to see.
    edges: Vec<u64>,
    /// What a TLB keeps, the worst: offset, bytes, whether that is a group, and bytes of a leaf. It lets go of a group only
    /// when all of it is invalidated (§8.2), and of nothing if another size is named.
    tlb: Vec<(u64, u64, bool, u64)>,
    granule: Granule,
    /// Groups that were seen, and cut.
    pub groups: u64,
    pub cuts: u64,
    /// Rounds of splitting.
    pub splits: u64,
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Run<SHIFT, STAGE, WIDE> {
    pub fn new(config: TableConfig, seed: u64) -> Self {
        // The frames have all bits that an address may have.
        let top = (1_u64 << config.output_bits) - (64 << 20);
        let arena = Arena::new(top);
        let table = Table::with(&arena, &config).unwrap();
        let granule = [Granule::K4, Granule::K16, Granule::K64][(SHIFT as usize - 12) / 2];
        let mut units = vec![];
        for level in 0..=3 {
            let size = 1 << granule.span(level);
            if Table::<SHIFT, STAGE, WIDE>::LEAF_SIZES.contains(&size) {
                units.push(size);
                units.extend(granule.contiguous(level).map(|log2| size << log2));
            }
        }
        let end = 1_u64 << config.input_bits;
        units.retain(|&unit| unit <= end / 2);
        let edges = vec![0, end - (1 << SHIFT)];
        let (random, model) = (Random(seed), Model::default());
        let tlb = Vec::new();
        Self {
            arena,
            table,
            config,
            random,
            model,
            units,
            edges,
            tlb,
            granule,
            groups: 0,
            cuts: 0,
            splits: 0,
        }
    }

    fn end(&self) -> u64 {
        1 << self.config.input_bits
    }

    /// An offset near a boundary, near one that was used before, or anywhere.
    fn offset(&mut self) -> u64 {
        let page = 1_u64 << SHIFT;
        let near = match self.random.below(8) {
            0 => self.random.next(),
            1 | 2 => self.random.one_of(&[self.end() / 2, self.end() / 4 * 3, 0]),
            _ => self.random.one_of(&self.edges),
        };
        let unit = self.random.one_of(&self.units);
        let at = match self.random.below(4) {
            0 => near,
            1 => near & !(unit - 1),
            2 => near.wrapping_add(unit),
            _ => near.wrapping_sub(unit),
        };
        let few = self.random.below(3) * page;
        let at = if self.random.one_in(2) { at } else { at.wrapping_add(few).wrapping_sub(page) };
        (at % self.end()) & !(page - 1)
    }

    /// A range within the input, as offset and bytes.
    pub fn range(&mut self) -> (u64, u64) {
        let page = 1_u64 << SHIFT;
        let start = self.offset();
        let unit = self.random.one_of(&self.units);
        let len = match self.random.below(4) {
            0 => page * (1 + self.random.below(4)),
            1 => unit,
            2 => unit * (1 + self.random.below(3)),
            _ => unit + page * self.random.below(4),
        };
        // The last page of an upper half has no range.
        let last = self.end() - if self.config.upper { page } else { 0 };
        let len = len.min(last.saturating_sub(start));
        if len == 0 { (0, page) } else { (start, len) }
    }

    fn attributes(&mut self) -> Attributes {
        let memory = self.random.one_of(&[
            Memory::NormalCacheable,
            Memory::NormalNonCacheable,
            Memory::Device,
        ]);
        let most = if STAGE == 1 { 16 } else { 8 };
        let prot = Prot::READ | Prot::from_bits(self.random.below(most) as u8);
        Attributes { prot, memory }
    }

    pub fn iova(&self, offset: u64) -> Iova {
        Iova(self.table.base().0.wrapping_add(offset))
    }

    /// A range whose ends lie at two levels, in groups of the same number.
    fn two_levels(&mut self) {
        let level = self.random.below(3) as i8;
        let number = 1 + self.random.below(3);
        let [large, small] = [level, level + 1].map(|level| {
            let leaf = self.granule.span(level);
            (leaf, self.granule.contiguous(level).map_or(leaf, |log2| leaf + log2))
        });
        if number + 2 > self.end() >> large.1 {
            return;
        }
        for (_, group) in [small, large] {
            self.map(number << group, 1 << group);
            self.edges.push(number << group);
            self.visit(number << group);
        }
        let [start, end] = [small, large].map(|(leaf, group)| {
            (number << group) + (self.random.below(1 << (group - leaf)) << leaf)
        });
        self.unmap(start, end - start);
        self.edges.extend([start, end]);
        for at in [start, end, number << small.1, number << large.1] {
            self.visit(at);
        }
    }

    /// One call at random.
    pub fn step(&mut self) {
        if self.config.contiguous && self.random.one_in(16) {
            return self.two_levels();
        }
        let (start, len) = self.range();
        self.edges.extend([start, start + len]);
        match self.random.below(10) {
            0..5 => self.map(start, len),
            5..9 => self.unmap(start, len),
            _ => self.reclaim(start, len),
        }
        self.visit(start);
        self.visit(start + len);
        for _ in 0..4 {
            let at = self.random.one_of(&self.edges);
            self.visit(at);
        }
    }

    /// Compares a page; the TLB keeps what leads there.
    fn visit(&mut self, offset: u64) {
        self.compare(offset);
        if offset >= self.end() || self.model.find(offset).is_none() {
            return;
        }
        let oracle = Oracle::new(&self.arena, &self.table);
        let iova = self.iova(offset).0;
        let (Some(found), Some(leaf)) = (oracle.walk(iova), oracle.leaf(iova)) else { return };
        let shift = found.bytes_log2;
        let level = (0..=3).find(|&level| self.granule.span(level) == shift).unwrap();
        let hint = leaf >> 52 & 1 == 1;
        let group = self.granule.contiguous(level).filter(|_| hint);
        assert_eq!(group.is_some(), hint, "a hint where there is none");
        let bits = shift + group.unwrap_or(0);
        self.groups += u64::from(hint);
        self.tlb.push((offset >> bits << bits, 1 << bits, hint, 1 << shift));
    }

    /// An invalidation of addresses.
    fn invalidate(&mut self, range: core::ops::Range<u64>, size: Option<u64>) {
        let (start, bytes) = (self.iova(0).0, range.end - range.start);
        let start = range.start - start;
        self.tlb.retain(|&(at, span, group, leaf)| {
            if size.is_some_and(|size| size != leaf) {
                true
            } else if group {
                at < start || at + span > start + bytes
            } else {
                at + span <= start || at >= start + bytes
            }
        });
    }

    fn map(&mut self, start: u64, len: u64) {
        // Blocks need both addresses aligned alike.
        let pages = 1 << (self.config.output_bits - SHIFT);
        let unit = self.random.one_of(&self.units);
        let output = match self.random.below(4) {
            0 => self.random.below(pages) << SHIFT,
            1 => start,
            // Across the places where an address is split between fields.
            2 => (1_u64 << self.random.one_of(&[48, 50])) - unit + start % unit,
            _ => (self.random.below(pages) << SHIFT & !(unit - 1)) + start % unit,
        };
        let output = output % (1 << self.config.output_bits);
        let alike = 1_u64 << (start ^ output).trailing_zeros().min(63);
        let sizes = Table::<SHIFT, STAGE, WIDE>::LEAF_SIZES;
        let size = sizes.iter().rfind(|&&size| size <= alike).unwrap();
        if len / size > 4 << (SHIFT - 3) {
            // Too many pages for a test.
            return;
        }
        let attributes = self.attributes();
        let (iova, pa) = (self.iova(start), PhysAddr(output));
        // SAFETY: one thread.
        let got = unsafe { self.table.map(&self.arena, iova, pa, len, attributes) };
        if output + len > 1 << self.config.output_bits {
            let output_bits = self.config.output_bits;
            let kind = MapErrorKind::BeyondOutput { pa, len, output_bits };
            assert_eq!(got, Err(MapError { mapped: 0, kind }));
            return;
        }
        match (got, self.model.first(start, len)) {
            (Ok(()), None) => self.model.map(start, Extent { bytes: len, output, attributes }),
            (Err(MapError { mapped, kind: MapErrorKind::Overlap { at } }), Some(first)) => {
                // A block that does not fit is refused at its start.
                assert!(at.0 == iova.0 + mapped && start + mapped <= first);
                if mapped != 0 {
                    let got = unmap::<4, _, _, _>(&self.table, &self.arena, iova.0, mapped);
                    let (bytes, rounds) = got.unwrap();
                    assert_eq!(bytes, mapped);
                    rounds
                        .into_iter()
                        .for_each(|round| self.invalidate(round.range, round.leaf_size));
                }
            }
            (got, first) => panic!("{got:?}, the first overlap is at {first:x?}"),
        }
    }

    fn unmap(&mut self, start: u64, len: u64) {
        let iova = self.iova(start);
        let mut gather = Gather::<4>::sized();
        let short = self.random.one_in(2).then(|| {
            // SAFETY: one thread.
            unsafe { self.table.unmap_pages(&self.arena, iova, len, &mut gather) }
        });
        let got = match short.flatten() {
            Some(bytes) => {
                self.invalidate(gather.range(), gather.leaf_size());
                Ok(bytes)
            }
            None if self.random.one_in(4) => {
                // SAFETY: one thread.
                let got = unsafe { self.table.clear(&self.arena, iova, len) };
                // Then all is invalidated, in whatever way.
                if got.is_ok() {
                    self.tlb.clear();
                }
                got
            }
            None => {
                let got = unmap::<4, _, _, _>(&self.table, &self.arena, iova.0, len);
                got.map(|(bytes, rounds)| {
                    for round in rounds {
                        let within = iova.0 <= round.range.start && round.range.end <= iova.0 + len;
                        self.cuts += u64::from(!within);
                        self.invalidate(round.range, round.leaf_size);
                    }
                    bytes
                })
            }
        };
        match got {
            Ok(bytes) => {
                assert_eq!(bytes, self.model.unmap(start, len));
                for &(at, span, ..) in &self.tlb {
                    assert_eq!(self.model.mapped(at, span), span, "stale: {at:#x}, {span:#x}");
                }
            }
            Err(UnmapError::Straddle { .. }) if self.config.splitting => {
                self.split(start, len);
                self.unmap(start, len);
            }
            Err(UnmapError::Straddle { block, size }) => {
                let block = block.0.wrapping_sub(self.table.base().0);
                let over = |edge| block < edge && edge < block + size;
                assert!(over(start) || over(start + len), "{block:x} {size:x}");
                let edge = if over(start) { start } else { start + len };
                // Of the page before the end, too, where the group ends there.
                let oracle = Oracle::new(&self.arena, &self.table);
                let found = oracle.walk(self.iova(edge).0).unwrap();
                if 1 << found.bytes_log2 != size {
                    assert_eq!(self.config.bbml, Bbml::Zero);
                    let hint =
                        oracle.leaf(self.iova(edge).0).is_none_or(|leaf| leaf >> 52 & 1 == 1);
                    assert!(hint && self.units.contains(&size));
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Splits what an end of the range cuts; no translation changes.
    fn split(&mut self, start: u64, len: u64) {
        let iova = self.iova(start);
        let mut gather = Gather::<4>::sized();
        let mut rounds = Vec::new();
        // SAFETY: one thread.
        let mut split = unsafe { self.table.split(&self.arena, iova, len) }.unwrap();
        while split.next(&mut gather).unwrap() {
            assert!(!gather.leaf_only() && gather.leaf_size().is_none());
            rounds.push(gather.range());
            gather.clear();
        }
        self.splits += rounds.len() as u64;
        rounds.into_iter().for_each(|range| self.invalidate(range, None));
        for at in [start, start + len - (1 << SHIFT), start + len] {
            self.compare(at);
        }
    }

    fn reclaim(&mut self, start: u64, len: u64) {
        let mut gather = Gather::<4>::sized();
        // SAFETY: one thread.
        let cursor = unsafe { self.table.reclaim(&self.arena, self.iova(start), len) };
        let mut cursor = cursor.unwrap();
        while cursor.next(&mut gather) {
            // SAFETY: no hardware.
            unsafe { gather.free_tables(&self.arena) };
            gather.clear();
        }
    }

    /// Asks everybody about one page.
    fn compare(&self, offset: u64) {
        if offset >= self.end() {
            return;
        }
        let at = offset + 0x234;
        let (iova, expected) = (self.iova(at), self.model.find(at));
        let walked = Oracle::new(&self.arena, &self.table).walk(iova.0);
        assert_eq!(
            walked.as_ref().map(|found| found.address),
            expected.map(|(pa, _)| pa),
            "{iova} by the walker"
        );
        // SAFETY: one thread.
        let found = unsafe { self.table.lookup(&self.arena, iova) };
        assert_eq!(found.map(|found| (found.pa.0, found.attributes)), expected, "{iova}");
        assert_eq!(
            found.map(|found| found.size.trailing_zeros()),
            walked.map(|found| found.bytes_log2)
        );
        // Another half, or beyond the input: nothing.
        let wrong = Iova(iova.0 ^ 1 << 63);
        // SAFETY: one thread.
        assert_eq!(unsafe { self.table.lookup(&self.arena, wrong) }, None);
    }

    /// Compares all addresses, and what was published.
    pub fn all(&self) {
        assert_eq!(self.arena.unpublished(), []);
        // What had the hint once is published again: that it was cannot be known.
        if !self.config.contiguous {
            assert_eq!(self.arena.wasted(), []);
        }
        let mut found = Vec::<(u64, u64, u64)>::new();
        for range in Oracle::new(&self.arena, &self.table).ranges() {
            let input = range.input.wrapping_sub(self.table.base().0);
            match found.last_mut() {
                Some((start, bytes, output))
                    if *start + *bytes == input && *output + *bytes == range.output =>
                {
                    *bytes += range.bytes;
                }
                _ => found.push((input, range.bytes, range.output)),
            }
        }
        let mut expected = Vec::<(u64, u64, u64)>::new();
        for (at, extent) in self.model.extents() {
            match expected.last_mut() {
                Some((start, bytes, output))
                    if *start + *bytes == at && *output + *bytes == extent.output =>
                {
                    *bytes += extent.bytes;
                }
                _ => expected.push((at, extent.bytes, extent.output)),
            }
        }
        assert_eq!(found, expected);
    }

    /// Unmaps all that can be, and destroys the table.
    pub fn finish(mut self) {
        self.all();
        let len = self.end() - if self.config.upper { 1 << SHIFT } else { 0 };
        let expected = self.model.unmap(0, len);
        let got = unmap::<4, _, _, _>(&self.table, &self.arena, self.iova(0).0, len);
        assert_eq!(got.unwrap().0, expected);
        if !self.config.upper {
            assert_eq!(self.arena.live(), 1);
        }
        // SAFETY: one thread, no hardware.
        unsafe { self.table.destroy(&self.arena) };
        assert_eq!(self.arena.live(), 0);
    }
}

/// A run of `steps` calls; gives how many groups were seen and cut, and rounds of splitting.
pub fn run<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
    config: TableConfig,
    seed: u64,
    steps: u32,
) -> (u64, u64, u64) {
    let mut run = Run::<SHIFT, STAGE, WIDE>::new(config, seed);
    for step in 0..steps {
        run.step();
        if step % 8 == 7 {
            run.all();
        }
    }
    let seen = (run.groups, run.cuts, run.splits);
    run.finish();
    seen
}
