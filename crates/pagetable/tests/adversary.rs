// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random calls, while hardware does the worst that it may with the marks (§14): it acts before every access to a
//! descriptor, keeps leaves and groups in a TLB for as long as nobody makes it forget them, writes without a mark
//! where it holds them as dirty, and for a write through a group marks whichever member it likes.
//!
//! The caller migrates: what is reported it copies when the invalidation is complete. No write may be missing then.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;

use common::Arena;
use common::space::Random;
use smmuv3_formats::granule::Granule;
use smmuv3_pagetable::*;

const HINT: u64 = 1 << 52;
const DBM: u64 = 1 << 51;
const AF: u64 = 1 << 10;
const WRITE: u64 = 1 << 7;
/// Output minus input.
const DELTA: u64 = 0x40_0000_0000;

/// What a TLB keeps.
#[derive(Clone, Copy, Debug)]
struct Kept {
    start: u64,
    bytes: u64,
    /// Bytes of a leaf.
    leaf: u64,
    /// Of the descriptor of the first leaf.
    descriptor: u64,
    /// Writes need no mark.
    dirty: bool,
    writable: bool,
}

/// A table's memory, and an SMMU with one device at it.
struct Hardware {
    arena: Arena,
    state: RefCell<State>,
}

struct State {
    random: Random,
    tlb: Vec<Kept>,
    granule: Granule,
    stage: u8,
    root: u64,
    level: i8,
    /// Pages that the device may like.
    pages: Vec<u64>,
    /// Pages with writes that have not been copied.
    written: BTreeSet<u64>,
    /// Pages that were accessed since the last time that somebody wanted to know.
    accessed: BTreeSet<u64>,
    /// Pages that were ever written.
    ever: BTreeSet<u64>,
    marks: u64,
    unmarked: u64,
}

// SAFETY: the arena's promise.
unsafe impl Frames for Hardware {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.arena.allocate(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.arena.free(frame, size, align) };
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.act(8);
        self.arena.pointer(pa)
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        self.act(2);
        self.arena.publish(pa, bytes);
    }
}

impl Hardware {
    /// Does something, once in so many times.
    fn act(&self, seldom: u64) {
        let mut state = self.state.borrow_mut();
        if !state.pages.is_empty() && state.random.one_in(seldom) {
            let pages = std::mem::take(&mut state.pages);
            let page = state.random.one_of(&pages);
            let write = state.random.one_in(2);
            state.pages = pages;
            state.access(&self.arena, page, write);
        }
    }
}

impl State {
    fn is_dirty(&self, leaf: u64) -> bool {
        leaf & DBM != 0 && (leaf & WRITE == 0) == (self.stage == 1)
    }

    fn is_writable(&self, leaf: u64) -> bool {
        leaf & DBM != 0 || (leaf & WRITE == 0) == (self.stage == 1)
    }

    /// The descriptor for an address that is mapped: where it is, and log2 of what it spans.
    fn walk(&self, arena: &Arena, address: u64) -> Option<(u64, u64, u32)> {
        let (mut table, mut level) = (self.root, self.level);
        loop {
            let span = self.granule.span(level);
            let entries = 1 << self.granule.bits_per_level();
            let descriptor = table + (address >> span) % entries * 8;
            let value = arena.read(descriptor);
            match value & 0b11 {
                0b00 => return None,
                0b11 if level != 3 => table = value & 0xFFFF_FFFF_F000,
                _ => return Some((descriptor, value, span)),
            }
            level += 1;
        }
    }

    /// What the device does to a page, if it may.
    fn access(&mut self, arena: &Arena, page: u64, write: bool) {
        let hits: Vec<usize> = (0..self.tlb.len())
            .filter(|&nth| {
                (self.tlb[nth].start..self.tlb[nth].start + self.tlb[nth].bytes).contains(&page)
            })
            .collect();
        if !hits.is_empty() && !self.random.one_in(4) {
            let nth = self.random.one_of(&hits);
            let kept = self.tlb[nth];
            if !write || kept.writable && kept.dirty {
                self.unmarked += u64::from(write);
                self.done(page, write);
                return;
            }
            if kept.writable && self.mark(arena, kept, page) {
                self.tlb[nth].dirty = true;
                self.done(page, true);
                return;
            }
            // It has changed: hardware looks again.
            self.tlb.remove(nth);
        }
        let Some((descriptor, mut value, span)) = self.walk(arena, page) else { return };
        if value & AF == 0 {
            assert!(arena.exchange(descriptor, value, value | AF));
            value |= AF;
        }
        let level = (0..=3).find(|&level| self.granule.span(level) == span).unwrap();
        let group = self.granule.contiguous(level).filter(|_| value & HINT != 0);
        let bits = span + group.unwrap_or(0);
        let start = page >> bits << bits;
        let mut kept = Kept {
            start,
            bytes: 1 << bits,
            leaf: 1 << span,
            descriptor: descriptor - ((page - start) >> span) * 8,
            dirty: self.is_dirty(value),
            writable: self.is_writable(value),
        };
        if write && !kept.writable {
            return;
        }
        if write && !kept.dirty {
            assert!(self.mark(arena, kept, page));
            kept.dirty = true;
        }
        self.tlb.push(kept);
        self.done(page, write);
    }

    fn done(&mut self, page: u64, write: bool) {
        self.accessed.insert(page);
        if write {
            self.written.insert(page);
            self.ever.insert(page);
        }
    }

    /// Marks what is kept as clean, for a write to a page: any leaf of it that is still there, or that page's.
    fn mark(&mut self, arena: &Arena, kept: Kept, page: u64) -> bool {
        let some = self.random.below(kept.bytes / kept.leaf);
        for nth in [some, (page - kept.start) / kept.leaf] {
            let descriptor = kept.descriptor + nth * 8;
            let value = arena.read(descriptor);
            let is_leaf = value & DBM != 0
                && value & 0b11 == if kept.leaf == 1 << self.granule.shift() { 3 } else { 1 };
            if is_leaf {
                let marked = if self.stage == 1 { value & !WRITE } else { value | WRITE };
                self.marks += u64::from(marked != value);
                return arena.exchange(descriptor, value, marked | AF);
            }
        }
        false
    }

    /// An invalidation of what was gathered.
    fn forget(&mut self, range: core::ops::Range<u64>, size: Option<u64>) {
        self.tlb.retain(|kept| {
            let end = kept.start + kept.bytes;
            if size.is_some_and(|size| size != kept.leaf) {
                true
            } else if kept.bytes != kept.leaf {
                kept.start < range.start || end > range.end
            } else {
                end <= range.start || kept.start >= range.end
            }
        });
    }
}

struct Run<const SHIFT: u32, const STAGE: u8> {
    hardware: Hardware,
    table: Table<SHIFT, STAGE>,
    config: TableConfig,
    random: Random,
    /// Whether what is mapped may be written, by page.
    pages: BTreeMap<u64, bool>,
    /// Where ranges begin and end.
    units: Vec<u64>,
    reported: u64,
    splits: u64,
}

impl<const SHIFT: u32, const STAGE: u8> Run<SHIFT, STAGE> {
    const PAGE: u64 = 1 << SHIFT;
    const BLOCK: u64 = 1 << (2 * SHIFT - 3);

    fn new(config: TableConfig, seed: u64) -> Self {
        let arena = Arena::new(0x8000_0000);
        let table = Table::with(&arena, &config).unwrap();
        let granule = [Granule::K4, Granule::K16, Granule::K64][(SHIFT as usize - 12) / 2];
        let state = State {
            random: Random(!seed),
            tlb: Vec::new(),
            granule,
            stage: STAGE,
            root: table.root().0,
            level: table.start_level(),
            pages: Vec::new(),
            written: BTreeSet::new(),
            accessed: BTreeSet::new(),
            ever: BTreeSet::new(),
            marks: 0,
            unmarked: 0,
        };
        let group = Self::PAGE << granule.contiguous(3).unwrap();
        let units = vec![Self::PAGE, group, Self::BLOCK];
        let hardware = Hardware { arena, state: RefCell::new(state) };
        let random = Random(seed);
        Self {
            hardware,
            table,
            config,
            random,
            pages: BTreeMap::new(),
            units,
            reported: 0,
            splits: 0,
        }
    }

    fn state(&self) -> std::cell::RefMut<'_, State> {
        self.hardware.state.borrow_mut()
    }

    /// A range in a few blocks.
    fn range(&mut self) -> (u64, u64) {
        let unit = self.random.one_of(&self.units);
        let start = self.random.below(3 * Self::BLOCK) / unit * unit;
        let unit = self.random.one_of(&self.units);
        (start, unit * (1 + self.random.below(3)))
    }

    fn within(&self, start: u64, len: u64) -> Vec<u64> {
        self.pages.range(start..start + len).map(|(&page, _)| page).collect()
    }

    fn step(&mut self) {
        let (start, len) = self.range();
        match self.random.below(8) {
            0..3 => self.map(start, len),
            3 => self.unmap(start, len),
            4..6 => self.clear_dirty(start, len),
            6 if self.config.access_flags => self.clear_accessed(start, len),
            _ => self.look(start, len),
        }
        let mapped: Vec<u64> = self.pages.keys().copied().collect();
        let mut state = self.state();
        state.pages = (0..32.min(mapped.len())).map(|_| state.random.one_of(&mapped)).collect();
        drop(state);
        for _ in 0..4 {
            self.hardware.act(1);
        }
    }

    fn map(&mut self, start: u64, len: u64) {
        if !self.within(start, len).is_empty() {
            return;
        }
        let writable = !self.random.one_in(4);
        let prot = if writable { Prot::READ | Prot::WRITE } else { Prot::READ };
        let attributes = Attributes::normal(prot);
        let pa = PhysAddr(start + DELTA);
        // SAFETY: one thread.
        unsafe { self.table.map(&self.hardware, Iova(start), pa, len, attributes) }.unwrap();
        self.pages.extend((start..start + len).step_by(1 << SHIFT).map(|page| (page, writable)));
    }

    /// All pages of what is reported, which are mapped and may be written.
    fn told(&mut self, told: &[(Iova, u64)], start: u64, len: u64, dirty: bool) -> BTreeSet<u64> {
        let mut pages = BTreeSet::new();
        for &(at, bytes) in told {
            assert!(bytes != 0 && at.0 >= start && at.0 + bytes <= start + len);
            for page in (at.0..at.0 + bytes).step_by(1 << SHIFT) {
                let writable = self.pages[&page];
                assert!(writable || !dirty, "{page:#x} can't be dirty");
                assert!(pages.insert(page), "{page:#x} is told twice");
            }
        }
        self.reported += pages.len() as u64;
        pages
    }

    fn clear_dirty(&mut self, start: u64, len: u64) {
        let iova = Iova(start);
        // SAFETY: one thread.
        let harvest = unsafe { self.table.read_and_clear_dirty(&self.hardware, iova, len) };
        let mut harvest = match harvest {
            Ok(harvest) => harvest,
            Err(HarvestError::Straddle { block, size }) => {
                self.is_cut(start, len, block.0, size);
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let (mut gather, mut told) = (Gather::new(), Vec::new());
        while harvest.step(&mut gather, |at, bytes| told.push((at, bytes))) {}
        let told = self.told(&told, start, len, true);
        let mut state = self.state();
        if self.config.dirty == Dirty::Clean && !self.config.contiguous && !self.config.splitting {
            for page in &told {
                let (_, _, span) = state.walk(&self.hardware.arena, *page).unwrap();
                let first = page >> span << span;
                let mut written = state.ever.range(first..first + (1 << span));
                assert!(written.next().is_some(), "{page:#x} is clean");
            }
        }
        state.forget(gather.range(), gather.leaf_size());
        state.written.retain(|page| !told.contains(page));
    }

    fn clear_accessed(&mut self, start: u64, len: u64) {
        let iova = Iova(start);
        // SAFETY: one thread.
        let harvest = unsafe { self.table.read_and_clear_accessed(&self.hardware, iova, len) };
        let Ok(mut harvest) = harvest else { return };
        let (mut gather, mut told) = (Gather::new(), Vec::new());
        while harvest.step(&mut gather, |at, bytes| told.push((at, bytes))) {}
        let told = self.told(&told, start, len, false);
        let mut state = self.state();
        state.forget(gather.range(), gather.leaf_size());
        state.accessed.retain(|page| !told.contains(page));
    }

    /// Nothing that was written or accessed is missing where marks are only read.
    fn look(&mut self, start: u64, len: u64) {
        let pages = std::mem::take(&mut self.state().pages);
        let read = |accessed: bool| {
            let (iova, hardware) = (Iova(start), &self.hardware);
            let mut told = Vec::new();
            let mut gather = Gather::new();
            let harvest = if accessed {
                // SAFETY: one thread.
                unsafe { self.table.read_accessed(hardware, iova, len) }
            } else {
                // SAFETY: one thread.
                unsafe { self.table.read_dirty(hardware, iova, len) }
            };
            let mut harvest = harvest.unwrap();
            while harvest.step(&mut gather, |at, bytes| told.push((at, bytes))) {}
            assert!(gather.is_empty());
            told
        };
        let dirty = read(false);
        let accessed = self.config.access_flags.then(|| read(true));
        let dirty = self.told(&dirty, start, len, true);
        let accessed = accessed.map(|accessed| self.told(&accessed, start, len, false));
        let mut state = self.state();
        state.pages = pages;
        for page in state.written.range(start..start + len) {
            assert!(dirty.contains(page), "{page:#x} was written");
        }
        if let Some(accessed) = accessed {
            for page in state.accessed.range(start..start + len) {
                assert!(accessed.contains(page), "{page:#x} was accessed");
            }
        }
    }

    fn is_cut(&self, start: u64, len: u64, block: u64, size: u64) {
        let over = |edge| block < edge && edge < block + size;
        assert!(over(start) || over(start + len), "{start:x} {len:x}: {block:x} {size:x}");
    }

    fn unmap(&mut self, start: u64, len: u64) {
        let iova = Iova(start);
        let reports = !self.random.one_in(4);
        let mut told = Vec::new();
        if reports && self.random.one_in(3) {
            let report = |at, bytes| told.push((at, bytes));
            // SAFETY: one thread.
            let got = unsafe { self.table.clear_reporting(&self.hardware, iova, len, report) };
            match got {
                Ok(bytes) => {
                    assert_eq!(bytes, (self.within(start, len).len() as u64) << SHIFT);
                    // A whole invalidation.
                    self.state().tlb.clear();
                    self.gone(start, len, Some(&told));
                }
                Err(error) => self.refused(start, len, error),
            }
            return;
        }
        // SAFETY: one thread.
        let unmap = unsafe { self.table.unmap(&self.hardware, iova, len) };
        let mut unmap = match unmap {
            Ok(unmap) => unmap,
            Err(error) => {
                self.refused(start, len, error);
                return;
            }
        };
        let mut gather = Gather::<4>::sized();
        loop {
            let more = if reports {
                unmap.next_reporting(&mut gather, |at, bytes| told.push((at, bytes)))
            } else {
                unmap.next(&mut gather)
            };
            if !more {
                break;
            }
            self.hardware.act(1);
            self.state().forget(gather.range(), gather.leaf_size());
            // SAFETY: the TLB has no tables.
            unsafe { gather.free_tables(&self.hardware) };
            gather.clear();
        }
        assert_eq!(unmap.unmapped(), (self.within(start, len).len() as u64) << SHIFT);
        self.gone(start, len, reports.then_some(&told));
    }

    fn gone(&mut self, start: u64, len: u64, told: Option<&Vec<(Iova, u64)>>) {
        let told = told.map(|told| self.told(told, start, len, true));
        let pages = self.within(start, len);
        let mut state = self.state();
        for page in &pages {
            let held =
                state.tlb.iter().find(|kept| (kept.start..kept.start + kept.bytes).contains(page));
            assert!(held.is_none(), "{page:#x} is unmapped: {held:x?}");
            if let Some(told) = &told {
                assert!(
                    !state.written.contains(page) || told.contains(page),
                    "{page:#x} was written"
                );
            }
            state.written.remove(page);
            state.accessed.remove(page);
            state.ever.remove(page);
        }
        drop(state);
        self.pages.retain(|page, _| !pages.contains(page));
    }

    fn refused(&mut self, start: u64, len: u64, error: UnmapError) {
        let UnmapError::Straddle { block, size } = error else { panic!("{error}") };
        self.is_cut(start, len, block.0, size);
        if !self.config.splitting {
            return;
        }
        let mut gather = Gather::<4>::sized();
        // SAFETY: one thread.
        let mut split = unsafe { self.table.split(&self.hardware, Iova(start), len) }.unwrap();
        while split.next(&mut gather).unwrap() {
            self.hardware.act(1);
            self.splits += 1;
            self.state().forget(gather.range(), None);
            gather.clear();
        }
        self.unmap(start, len);
    }

    /// The device is stopped; what is left is copied.
    fn finish(mut self) -> [u64; 4] {
        self.state().pages.clear();
        self.look(0, 8 * Self::BLOCK);
        self.clear_dirty(0, 8 * Self::BLOCK);
        let state = self.state();
        assert_eq!(state.written, BTreeSet::new());
        let seen = [state.marks, state.unmarked, self.reported, self.splits];
        drop(state);
        // SAFETY: one thread, no hardware any more.
        unsafe { self.table.destroy(&self.hardware.arena) };
        assert_eq!(self.hardware.arena.live(), 0);
        seen
    }
}

fn run<const SHIFT: u32, const STAGE: u8>(config: TableConfig, seed: u64, steps: u32) -> [u64; 4] {
    let mut run = Run::<SHIFT, STAGE>::new(config, seed);
    for _ in 0..steps {
        run.step();
    }
    run.finish()
}

fn total(seeds: u64, run: impl Fn(u64) -> [u64; 4]) -> [u64; 4] {
    (0..seeds).map(run).fold([0; 4], |sum, seen| std::array::from_fn(|nth| sum[nth] + seen[nth]))
}

#[test]
fn no_write_is_lost() {
    for dirty in [Dirty::Clean, Dirty::Born] {
        let config = TableConfig::new(48, 48).with_dirty(dirty);
        let [marks, unmarked, reported, _] = total(12, |seed| run::<12, 1>(config, seed, 120));
        assert!(marks > 100 && unmarked > 100 && reported > 100, "{marks} {unmarked} {reported}");
        total(12, |seed| run::<12, 2>(config.with_access_flags(), seed, 120));
        total(2, |seed| run::<14, 1>(config, seed, 60));
    }
}

#[test]
fn no_write_through_a_group_is_lost() {
    for bbml in [Bbml::Zero, Bbml::One, Bbml::Two] {
        let config = TableConfig::new(48, 48).with_dirty(Dirty::Clean).with_contiguous(bbml);
        let [marks, unmarked, ..] = total(16, |seed| run::<12, 1>(config, seed, 120));
        assert!(marks > 100 && unmarked > 100, "{marks} {unmarked}");
        total(16, |seed| run::<12, 2>(config.with_access_flags(), seed, 120));
        total(2, |seed| run::<14, 2>(config, seed, 60));
    }
}

#[test]
fn no_write_to_what_is_split_is_lost() {
    for bbml in [Bbml::One, Bbml::Two] {
        let config = TableConfig::new(48, 48).with_dirty(Dirty::Clean).with_splitting(bbml);
        let [.., splits] = total(48, |seed| run::<12, 1>(config, seed, 120));
        assert!(splits > 20, "{splits}");
        total(16, |seed| run::<12, 2>(config.with_access_flags(), seed, 120));
        total(16, |seed| run::<12, 1>(config.with_contiguous(bbml), seed, 120));
    }
}
