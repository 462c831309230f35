// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contiguous hint, in every granule and at every level that has it, and what becomes of a group that is cut.

mod common;

use common::run::run;
use common::{Arena, unmap};
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const K64: u64 = 0x1_0000;
const M2: u64 = 0x20_0000;
const HINT: u64 = 1 << 52;

fn config(bbml: Bbml) -> TableConfig {
    TableConfig::new(48, 48).with_contiguous(bbml)
}

fn setup(bbml: Bbml) -> (Arena, Stage1Table4K) {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::with(&arena, &config(bbml)).unwrap();
    (arena, table)
}

fn map(table: &Stage1Table4K, arena: &Arena, iova: u64, pa: u64, len: u64) {
    // SAFETY: one thread.
    unsafe { table.map(arena, Iova(iova), PhysAddr(pa), len, RW) }.unwrap();
}

fn hinted(table: &Stage1Table4K, arena: &Arena, iova: u64) -> Option<bool> {
    arena.walk(table, iova).map(|(_, _, leaf)| leaf & HINT != 0)
}

#[test]
fn a_map_hints_at_the_groups_that_it_fills() {
    let (arena, table) = setup(Bbml::Two);
    // A page, two groups, three pages.
    map(&table, &arena, K64 - K4, 0x9000_F000, 2 * K64 + 4 * K4);
    assert_eq!(hinted(&table, &arena, K64 - K4), Some(false));
    for page in 0..32 {
        assert_eq!(hinted(&table, &arena, K64 + page * K4), Some(true));
    }
    assert_eq!(hinted(&table, &arena, 3 * K64), Some(false));
    // An output that is aligned otherwise; a group that is filled bit by bit.
    map(&table, &arena, 16 * K64, 0x9000_1000, K64);
    assert_eq!(hinted(&table, &arena, 16 * K64), Some(false));
    for page in 0..16 {
        map(&table, &arena, 17 * K64 + page * K4, 0x9001_0000 + page * K4, K4);
    }
    assert_eq!(hinted(&table, &arena, 17 * K64), Some(false));
    // Blocks: 16 of 2 MiB.
    map(&table, &arena, 32 * M2, 64 * M2, 17 * M2);
    assert_eq!(hinted(&table, &arena, 47 * M2), Some(true));
    assert_eq!(hinted(&table, &arena, 48 * M2), Some(false));
    let block = arena.walk(&table, 32 * M2).unwrap().2;
    assert_eq!(block, 0x0070_0000_0800_0F41);
}

#[test]
fn cutting_a_group_takes_the_hint_of_all_and_gathers_all() {
    let (arena, table) = setup(Bbml::One);
    map(&table, &arena, 0, 0x9000_0000, 3 * K64);
    arena.take_log();
    let (bytes, rounds) = unmap::<4, _, _, _>(&table, &arena, K64 + 5 * K4, 2 * K4).unwrap();
    assert_eq!(bytes, 2 * K4);
    let [round] = rounds.as_slice() else { panic!("{rounds:?}") };
    assert_eq!((round.range.clone(), round.leaf_size), (K64..2 * K64, Some(K4)));
    // The hints go before the pages do.
    let next = |table: u64| arena.read(table) & 0xFFFF_F000;
    let pages = next(next(next(0x8000_0000)));
    assert_eq!(arena.take_log(), [(pages + 16 * 8, 16 * 8), (pages + 21 * 8, 2 * 8)]);
    for page in 0..16 {
        let expected = if matches!(page, 5 | 6) { None } else { Some(false) };
        assert_eq!(hinted(&table, &arena, K64 + page * K4), expected);
        assert_eq!(hinted(&table, &arena, page * K4), Some(true));
    }
    assert_eq!(hinted(&table, &arena, 2 * K64), Some(true));
    // Whoever goes on with the group invalidates all of it: the first may still be at it.
    let (_, rounds) = unmap::<4, _, _, _>(&table, &arena, K64 + 7 * K4, K4).unwrap();
    assert_eq!(rounds[0].range, K64..2 * K64);
    // A range that cuts two, one on each side.
    let (_, rounds) = unmap::<4, _, _, _>(&table, &arena, K4, 3 * K64 - 2 * K4).unwrap();
    assert_eq!(rounds[0].range, 0..3 * K64);
    // The same without an invalidation: the caller's affair.
    map(&table, &arena, 4 * K64, 0x9000_0000, K64);
    // SAFETY: one thread.
    unsafe { table.clear(&arena, Iova(4 * K64), K4) }.unwrap();
    assert_eq!(hinted(&table, &arena, 5 * K64 - K4), Some(false));
    assert_eq!(arena.unpublished(), []);
}

#[test]
fn at_bbml_0_a_group_goes_as_a_whole() {
    let (arena, table) = setup(Bbml::Zero);
    map(&table, &arena, 0, 0x9000_0000, 2 * K64);
    map(&table, &arena, 32 * M2, 64 * M2, 16 * M2);
    let before = arena.image();
    let group = |block, size| Err(UnmapError::Straddle { block: Iova(block), size });
    let refused = |iova, len| unmap::<4, _, _, _>(&table, &arena, iova, len).map(drop);
    assert_eq!(refused(K4, K4), group(0, K64));
    assert_eq!(refused(0, K64 + K4), group(K64, K64));
    assert_eq!(refused(K64 - K4, K64 + K4), group(0, K64));
    assert_eq!(refused(33 * M2, M2), group(32 * M2, 16 * M2));
    // SAFETY: one thread.
    assert_eq!(unsafe { table.clear(&arena, Iova(0), K4) }.map(drop), group(0, K64));
    assert_eq!(arena.image(), before);
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, 0, K64).unwrap().0, K64);
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, 32 * M2, 16 * M2).unwrap().0, 16 * M2);
}

#[test]
fn a_map_that_fails_leaves_no_group_over_what_was_there() {
    let (arena, table) = setup(Bbml::Two);
    map(&table, &arena, K64 + 9 * K4, 0x5000, K4);
    // SAFETY: one thread.
    let error = unsafe { table.map(&arena, Iova(0), PhysAddr(0x9000_0000), 2 * K64, RW) };
    let kind = MapErrorKind::Overlap { at: Iova(K64 + 9 * K4) };
    assert_eq!(error, Err(MapError { mapped: K64 + 9 * K4, kind }));
    assert_eq!(hinted(&table, &arena, 0), Some(true));
    assert_eq!(hinted(&table, &arena, K64), Some(false));
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, 0, K64 + 9 * K4).unwrap().0, K64 + 9 * K4);
}

/// In all geometries, with a TLB that keeps groups.
#[test]
fn nothing_of_a_group_is_left_in_a_tlb() {
    let (mut groups, mut cuts) = (0, 0);
    for seed in 0..6 {
        for bbml in [Bbml::Zero, Bbml::One, Bbml::Two] {
            let wide = TableConfig::new(52, 52).with_contiguous(bbml);
            for (seen, cut, _) in [
                run::<12, 1, false>(config(bbml), seed, 48),
                run::<14, 1, false>(config(bbml), seed, 48),
                run::<16, 1, false>(config(bbml), seed, 48),
                run::<12, 2, false>(config(bbml), seed, 48),
                run::<12, 1, false>(config(bbml).for_upper_half(), seed, 48),
                run::<12, 1, true>(wide, seed, 48),
                run::<14, 2, true>(wide, seed, 48),
                run::<16, 1, true>(wide, seed, 48),
            ] {
                groups += seen;
                cuts += cut;
                assert!(bbml != Bbml::Zero || cut == 0);
            }
        }
    }
    assert!(groups > 1000 && cuts > 30, "{groups} {cuts}");
}

/// Both ends of a range cut a group, at different levels, and the groups have the same number at each: `[page, block]` of the two
/// levels and `[small, large]` of their groups, in bytes.
fn cut_two_of_one_number<const SHIFT: u32>([page, block]: [u64; 2], [small, large]: [u64; 2]) {
    let dirty = config(Bbml::One).with_dirty(Dirty::Clean);
    for way in 0..4 {
        let arena = Arena::new(0x8000_0000);
        let table = Table::<SHIFT, 1>::with(&arena, &dirty).unwrap();
        let map = |iova, len| {
            // SAFETY: one thread.
            unsafe { table.map(&arena, Iova(iova), PhysAddr(1 << 40 | iova), len, RW) }.unwrap();
        };
        let hinted = |iova| arena.walk(&table, iova).map(|(_, _, leaf)| leaf & HINT != 0);
        map(small, small);
        map(large, large);
        assert_eq!([small, large].map(hinted), [Some(true); 2], "{page:#x}");
        // Without the first page of the first one, up to the first block of the second one.
        let (start, end) = (small + page, large + block);
        let (iova, len) = (Iova(start), end - start);
        let (mut gather, mut told) = (Gather::<8>::sized(), 0);
        let mut covered: Option<core::ops::Range<u64>> = None;
        let mut cover = |range: core::ops::Range<u64>| {
            let before = covered.take().unwrap_or(range.clone());
            covered = Some(before.start.min(range.start)..before.end.max(range.end));
        };
        // SAFETY: one thread.
        let removed = unsafe {
            match way {
                0 => table.clear(&arena, iova, len).unwrap(),
                1 => {
                    let tell = |_, bytes| told += bytes;
                    table.clear_reporting(&arena, iova, len, tell).unwrap()
                }
                _ => {
                    let mut unmap = table.unmap(&arena, iova, len).unwrap();
                    while match way {
                        2 => unmap.next(&mut gather),
                        _ => unmap.next_reporting(&mut gather, |_, bytes| told += bytes),
                    } {
                        cover(gather.range());
                        gather.free_tables(&arena);
                        gather.clear();
                    }
                    unmap.unmapped()
                }
            }
        };
        assert_eq!(removed, small - page + block, "{page:#x}, way {way}");
        assert!(told <= removed, "{page:#x}, way {way}");
        assert_eq!(hinted(small), Some(false), "{page:#x}, way {way}");
        assert_eq!(hinted(large), None, "{page:#x}, way {way}");
        for at in (end..2 * large).step_by(block as usize) {
            assert_eq!(hinted(at), Some(false), "{page:#x}, way {way}: {at:#x}");
        }
        if let Some(covered) = covered {
            assert!(covered.start <= small && covered.end >= 2 * large, "{covered:x?}");
        }
    }
}

#[test]
fn two_groups_of_one_number_at_two_levels_are_both_cut() {
    const G1: u64 = 1 << 30;
    cut_two_of_one_number::<12>([K4, M2], [K64, 16 * M2]);
    cut_two_of_one_number::<12>([M2, G1], [16 * M2, 16 * G1]);
    // 128 pages, 32 blocks; 32 of each.
    cut_two_of_one_number::<14>([0x4000, 32 << 20], [M2, G1]);
    cut_two_of_one_number::<16>([K64, 512 << 20], [M2, 16 * G1]);
}
