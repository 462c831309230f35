// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random sequences against a map of pages. After each step the walker's view is compared with it.

mod common;

use std::collections::BTreeMap;

use common::{Arena, unmap};
use proptest::prelude::*;
use smmuv3_pagetable::*;

/// Pages are numbered; the window spans two tables of every level around 512 GiB.
const MIDDLE: u64 = 1 << 39;

#[derive(Clone, Debug)]
enum Step {
    Map { at: u64, pages: u64, pa: u64, attributes: Attributes },
    Unmap { at: u64, pages: u64 },
    Reclaim { at: u64, pages: u64 },
}

/// Page numbers relative to the window's start: near a boundary of a page, block or table.
fn page(bits: u32) -> impl Strategy<Value = u64> {
    let block = 1_u64 << bits;
    prop_oneof![
        4 => (0..8_u64, 0..4_u64).prop_map(move |(unit, page)| unit * block + page),
        2 => (1..8_u64, 1..4_u64).prop_map(move |(unit, page)| unit * block - page),
        1 => 0..8 * block,
    ]
}

fn length(bits: u32) -> impl Strategy<Value = u64> {
    let block = 1_u64 << bits;
    prop_oneof![
        3 => 1..5_u64,
        2 => (1..4_u64).prop_map(move |blocks| blocks * block),
        1 => 1..3 * block,
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let memory = prop_oneof![
        Just(Memory::NormalCacheable),
        Just(Memory::NormalNonCacheable),
        Just(Memory::Device),
    ];
    (0..8_u8, memory).prop_map(|(prot, memory)| {
        let extra = Prot::from_bits(prot << 1 & 0xE);
        Attributes { prot: Prot::READ | extra, memory }
    })
}

fn step(bits: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (page(bits), length(bits), page(bits), attributes(), any::<bool>()).prop_map(
            |(at, pages, pa, attributes, same)| {
                let pa = if same { at } else { pa };
                Step::Map { at, pages, pa, attributes }
            }
        ),
        3 => (page(bits), length(bits)).prop_map(|(at, pages)| Step::Unmap { at, pages }),
        1 => (page(bits), length(bits)).prop_map(|(at, pages)| Step::Reclaim { at, pages }),
    ]
}

/// What one page of the model maps to, and the leaf it is part of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    pa: u64,
    attributes: Attributes,
}

struct Run<const SHIFT: u32> {
    arena: Arena,
    table: Table<SHIFT, 1>,
    start: u64,
    pages: BTreeMap<u64, Page>,
}

impl<const SHIFT: u32> Run<SHIFT> {
    fn new() -> Self {
        let arena = Arena::new(0x8000_0000);
        let table = Table::new(&arena, 48, 48).unwrap();
        let start = MIDDLE - (4 << (SHIFT - 3 + SHIFT));
        Self { arena, table, start, pages: BTreeMap::new() }
    }

    fn iova(&self, page: u64) -> u64 {
        self.start + (page << SHIFT)
    }

    fn step(&mut self, step: &Step) {
        let (table, arena) = (&self.table, &self.arena);
        match *step {
            Step::Map { at, pages, pa, attributes } => {
                let (iova, len) = (self.iova(at), pages << SHIFT);
                let first = (at..at + pages).find(|page| self.pages.contains_key(page));
                // SAFETY: one thread.
                let got =
                    unsafe { table.map(arena, Iova(iova), PhysAddr(pa << SHIFT), len, attributes) };
                match (got, first) {
                    (Ok(()), None) => {
                        for i in 0..pages {
                            let pa = (pa + i) << SHIFT;
                            self.pages.insert(at + i, Page { pa, attributes });
                        }
                    }
                    (
                        Err(MapError { mapped, kind: MapErrorKind::Overlap { at: found } }),
                        Some(first),
                    ) => {
                        assert!(mapped <= (first - at) << SHIFT && found.0 == iova + mapped);
                        // A block that does not fit is refused at its start.
                        assert!(found.0 <= self.iova(first));
                        if mapped != 0 {
                            let (unmapped, _) =
                                unmap::<4, _, _, _>(table, arena, iova, mapped).unwrap();
                            assert_eq!(unmapped, mapped);
                        }
                    }
                    (got, first) => panic!("{got:?}, but the first overlap is at {first:?}"),
                }
            }
            Step::Unmap { at, pages } => {
                let (iova, len) = (self.iova(at), pages << SHIFT);
                // Every other time in the short way, where it can be; now and then without unlinking tables.
                let mut gather = Gather::<4>::sized();
                let short = (at % 2 == 0)
                    // SAFETY: one thread.
                    .then(|| unsafe { table.unmap_pages(arena, Iova(iova), len, &mut gather) });
                let unmapped = match short.flatten() {
                    Some(unmapped) => Ok((unmapped, vec![])),
                    // SAFETY: one thread.
                    None if at % 4 == 1 => unsafe { table.clear(arena, Iova(iova), len) }
                        .map(|cleared| (cleared, vec![])),
                    None => unmap::<4, _, _, _>(table, arena, iova, len),
                };
                match unmapped {
                    Ok((unmapped, _)) => {
                        let before = self.pages.len();
                        self.pages.retain(|page, _| !(at..at + pages).contains(page));
                        assert_eq!(unmapped, ((before - self.pages.len()) as u64) << SHIFT);
                    }
                    Err(UnmapError::Straddle { block, size }) => {
                        let (start, end) = (block.0, block.0 + size);
                        let over = |edge| start < edge && edge < end;
                        assert!(over(iova) || over(iova + len));
                        assert_eq!(arena.walk(table, start).unwrap().1, size);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Reclaim { at, pages } => {
                let mut gather = Gather::<4>::sized();
                // SAFETY: one thread.
                let cursor = unsafe { table.reclaim(arena, Iova(self.iova(at)), pages << SHIFT) };
                let mut cursor = cursor.unwrap();
                while cursor.next(&mut gather) {
                    // SAFETY: no hardware.
                    unsafe { gather.free_tables(arena) };
                    gather.clear();
                }
            }
        }
    }

    /// Compares what was touched, and its surroundings, with the model.
    fn compare(&self, step: &Step) {
        let (Step::Map { at, pages, .. } | Step::Unmap { at, pages } | Step::Reclaim { at, pages }) =
            *step;
        for page in at.saturating_sub(2)..at + pages + 2 {
            let iova = self.iova(page);
            let expected = self.pages.get(&page);
            let walked = self.arena.walk(&self.table, iova + 0x123);
            assert_eq!(walked.map(|found| found.0), expected.map(|page| page.pa + 0x123));
            // SAFETY: one thread.
            let found = unsafe { self.table.lookup(&self.arena, Iova(iova + 0x123)) };
            assert_eq!(found.map(|found| found.pa.0), walked.map(|found| found.0));
            assert_eq!(found.map(|found| found.size), walked.map(|found| found.1));
            assert_eq!(found.map(|found| found.attributes), expected.map(|page| page.attributes));
        }
    }

    /// What is stored is published, and nothing for nothing: each run begins and ends with news.
    fn published(&self) {
        assert_eq!(self.arena.unpublished(), []);
        assert_eq!(self.arena.wasted(), []);
    }

    /// Unmaps all, reclaims nothing: only the root may be left.
    fn finish(self) {
        let (unmapped, _) = unmap::<4, _, _, _>(&self.table, &self.arena, 0, 1 << 48).unwrap();
        assert_eq!(unmapped, (self.pages.len() as u64) << SHIFT);
        assert_eq!(self.arena.live(), 1);
        // SAFETY: one thread, no hardware.
        unsafe { self.table.destroy(&self.arena) };
        assert_eq!(self.arena.live(), 0);
    }
}

fn check<const SHIFT: u32>(steps: &[Step]) {
    let mut run = Run::<SHIFT>::new();
    for step in steps {
        run.step(step);
        run.compare(step);
        run.published();
    }
    run.finish();
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x5353),
        failure_persistence: None,
        cases,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn tables_of_4k_do_as_a_map_of_pages_does(steps in proptest::collection::vec(step(9), 1..40)) {
        check::<12>(&steps);
    }
}

proptest! {
    #![proptest_config(config(8))]

    #[test]
    fn tables_of_16k_do_as_a_map_of_pages_does(steps in proptest::collection::vec(step(11), 1..20)) {
        check::<14>(&steps);
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn no_range_makes_a_call_panic(
        iova: u64, pa: u64, len: u64, aligned: bool, input in 32..=48_u32, output in 32..=48_u32,
        shift in 0..64_u32,
    ) {
        let mask = if aligned { !0xFFF } else { !0 };
        // Short enough that a range that fits takes few tables.
        let len = (len >> shift & mask) % (1 << 32);
        let (iova, pa) = (iova >> shift & mask, pa >> shift & mask);
        let arena = Arena::new(0x8000_0000);
        let table = Stage1Table4K::new(&arena, input, output).unwrap();
        let attributes = Attributes::normal(Prot::READ);
        // SAFETY: one thread.
        let mapped = unsafe { table.map(&arena, Iova(iova), PhysAddr(pa), len, attributes) };
        let fits = len != 0 && (iova | pa | len) & 0xFFF == 0
            && iova.checked_add(len).is_some_and(|end| end <= 1 << input)
            && pa.checked_add(len).is_some_and(|end| end <= 1 << output);
        prop_assert_eq!(mapped.is_ok(), fits);
        let unmapped = unmap::<4, _, _, _>(&table, &arena, iova, len);
        if fits {
            prop_assert_eq!(unmapped.unwrap().0, len);
        }
        // SAFETY: one thread.
        prop_assert_eq!(unsafe { table.lookup(&arena, Iova(iova)) }, None);
        // SAFETY: one thread, no hardware.
        unsafe { table.destroy(&arena) };
        prop_assert_eq!(arena.live(), 0);
    }
}
