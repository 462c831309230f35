// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splitting blocks, and what has to be invalidated in which order.

mod common;

use common::run::run;
use common::{Arena, unmap};
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const M2: u64 = 0x20_0000;
const G1: u64 = 0x4000_0000;
const NT: u64 = 1 << 16;

fn setup(bbml: Bbml) -> (Arena, Stage1Table4K) {
    let arena = Arena::new(0x8000_0000);
    let config = TableConfig::new(48, 48).with_splitting(bbml);
    let table = Stage1Table4K::with(&arena, &config).unwrap();
    (arena, table)
}

fn map(table: &Stage1Table4K, arena: &Arena, iova: u64, pa: u64, len: u64) {
    // SAFETY: one thread.
    unsafe { table.map(arena, Iova(iova), PhysAddr(pa), len, RW) }.unwrap();
}

/// One round: what it gathered, if anything.
fn round(split: &mut Split<'_, Arena, 12, 1>) -> Option<std::ops::Range<u64>> {
    let mut gather = Gather::new();
    let more = split.next(&mut gather).unwrap();
    assert_eq!(more, !gather.is_empty());
    assert!(!more || !gather.leaf_only() && gather.leaf_size().is_none());
    more.then(|| gather.range())
}

#[test]
fn at_bbml_2_a_table_takes_the_place_of_the_block() {
    let (arena, table) = setup(Bbml::Two);
    map(&table, &arena, 0, G1, M2);
    let cut = unmap::<4, _, _, _>(&table, &arena, K4, K4).map(drop);
    assert_eq!(cut, Err(UnmapError::Straddle { block: Iova(0), size: M2 }));
    arena.take_log();
    // SAFETY: one thread.
    let mut split = unsafe { table.split(&arena, Iova(K4), K4) }.unwrap();
    assert_eq!(round(&mut split), Some(0..M2));
    // The leaves, then the descriptor that leads to them.
    let log = arena.take_log();
    assert_eq!((log.len(), log[0].1, log[1].1), (2, 4096, 8));
    assert_eq!(round(&mut split), None);
    for page in [0, 1, 511] {
        let (pa, size, leaf) = arena.walk(&table, page * K4).unwrap();
        assert_eq!((pa, size, leaf), (G1 + page * K4, K4, 0x60_0000_4000_0F43 + page * K4));
    }
    let (bytes, rounds) = unmap::<4, _, _, _>(&table, &arena, K4, K4).unwrap();
    // Another caller's invalidation of the block may not be complete: no size is named.
    assert_eq!((bytes, rounds[0].range.clone(), rounds[0].leaf_size), (K4, K4..2 * K4, None));
    assert_eq!(arena.unpublished(), []);
    assert_eq!(arena.wasted(), []);
}

#[test]
fn at_bbml_1_the_block_is_marked_and_invalidated_before() {
    let (arena, table) = setup(Bbml::One);
    map(&table, &arena, 0, G1, G1);
    // SAFETY: one thread.
    let mut split = unsafe { table.split(&arena, Iova(0), M2 + K4) }.unwrap();
    let leaf =
        || arena.walk(&table, M2 + K4).map(|(_, size, leaf)| (size, leaf & NT != 0)).unwrap();
    // Each size in two rounds: the mark, then the table.
    for (range, size, marked) in
        [(0..G1, G1, true), (0..G1, M2, false), (M2..2 * M2, M2, true), (M2..2 * M2, K4, false)]
    {
        assert_eq!(round(&mut split), Some(range));
        assert_eq!(leaf(), (size, marked));
        // Translations are as they were.
        assert_eq!(arena.walk(&table, M2 + K4).unwrap().0, G1 + M2 + K4);
    }
    assert_eq!(round(&mut split), None);
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, 0, M2 + K4).unwrap().0, M2 + K4);
}

#[test]
fn who_comes_second_marks_for_itself_and_uses_the_table() {
    let (arena, table) = setup(Bbml::One);
    map(&table, &arena, 0, G1, M2);
    // SAFETY: the ranges are disjoint.
    let mut first = unsafe { table.split(&arena, Iova(0), K4) }.unwrap();
    // SAFETY: as above.
    let mut second = unsafe { table.split(&arena, Iova(K4), K4) }.unwrap();
    assert_eq!(round(&mut first), Some(0..M2));
    // The other's invalidation of the mark may not be complete.
    assert_eq!(round(&mut second), Some(0..M2));
    let before = arena.live();
    assert_eq!(round(&mut second), Some(0..M2));
    assert_eq!(round(&mut first), None);
    assert_eq!(round(&mut second), None);
    assert_eq!(arena.live(), before + 1);
}

/// The first block of what took the place of a block begins where that did, and is not the one that was marked.
#[test]
fn what_another_split_is_marked_once_more_at_each_size() {
    let (arena, table) = setup(Bbml::One);
    map(&table, &arena, 0, G1, G1);
    // SAFETY: the ranges are disjoint.
    let mut first = unsafe { table.split(&arena, Iova(0), K4) }.unwrap();
    // SAFETY: as above.
    let mut second = unsafe { table.split(&arena, Iova(K4), K4) }.unwrap();
    // Each its mark; the second's table.
    assert_eq!(round(&mut first), Some(0..G1));
    assert_eq!(round(&mut second), Some(0..G1));
    assert_eq!(round(&mut second), Some(0..G1));
    let leaf = || arena.walk(&table, K4).map(|(_, size, leaf)| (size, leaf & NT != 0)).unwrap();
    assert_eq!(leaf(), (M2, false));
    for found in [(M2, true), (K4, false)] {
        assert_eq!(round(&mut first), Some(0..M2));
        assert_eq!(leaf(), found);
    }
    assert_eq!(round(&mut first), None);
}

/// §8.2: for any page of it a TLB may keep the group of blocks, of which only what is invalidated as a whole is sure to
/// go. So nothing smaller is there before it has gone.
#[test]
fn a_group_of_blocks_is_invalidated_before_one_of_them_is_split() {
    const M32: u64 = 16 * M2;
    for bbml in [Bbml::One, Bbml::Two] {
        let arena = Arena::new(0x8000_0000);
        let config = TableConfig::new(48, 48).with_splitting(bbml).with_contiguous(bbml);
        let table = Stage1Table4K::with(&arena, &config).unwrap();
        map(&table, &arena, 0, G1, M32);
        let at = 3 * M2;
        let leaf = |iova| arena.walk(&table, iova).map(|(_, size, leaf)| (size, leaf >> 52 & 1));
        assert_eq!(leaf(at), Some((M2, 1)));
        // SAFETY: the ranges are disjoint.
        let mut first = unsafe { table.split(&arena, Iova(at), K4) }.unwrap();
        // SAFETY: as above.
        let mut second = unsafe { table.split(&arena, Iova(at + K4), K4) }.unwrap();
        // The other's invalidation may not be complete: the second needs its own.
        for split in [&mut first, &mut second] {
            assert_eq!(round(split), Some(0..M32));
            assert_eq!([leaf(at), leaf(0)], [Some((M2, 0)); 2]);
        }
        assert_eq!(round(&mut second), Some(at..at + M2));
        assert_eq!([leaf(at), leaf(0)], [Some((K4, 0)), Some((M2, 0))]);
        assert_eq!((round(&mut first), round(&mut second)), (None, None));
        // Pages were never in a group; the rest of the blocks were.
        for (start, bytes, range) in
            [(at + M2 - K4, K4, at + M2 - K4..at + M2), (5 * M2, M2, 0..M32)]
        {
            let (unmapped, rounds) = unmap::<4, _, _, _>(&table, &arena, start, bytes).unwrap();
            assert_eq!((unmapped, rounds.len()), (bytes, 1));
            assert_eq!((rounds[0].range.clone(), rounds[0].leaf_size), (range, None));
        }
        assert_eq!(arena.unpublished(), []);
    }
}

#[test]
fn a_split_that_is_not_allowed_or_has_no_frames_changes_nothing() {
    let denied = |config: TableConfig| {
        let arena = Arena::new(0x8000_0000);
        let table = Stage1Table4K::with(&arena, &config).unwrap();
        map(&table, &arena, 0, G1, 2 * M2);
        let before = arena.image();
        // SAFETY: one thread.
        let mut split = unsafe { table.split(&arena, Iova(M2), K4) }.unwrap();
        let error = split.next(&mut Gather::new()).unwrap_err();
        assert_eq!(error, SplitError::NotAllowed { block: Iova(M2), size: M2 });
        assert_eq!(arena.image(), before);
    };
    denied(TableConfig::new(48, 48));
    denied(TableConfig::new(48, 48).with_splitting(Bbml::Zero));
    let (arena, table) = setup(Bbml::Two);
    map(&table, &arena, 0, G1, M2);
    let before = arena.image();
    arena.limit(Some(0));
    // SAFETY: one thread.
    let mut split = unsafe { table.split(&arena, Iova(0), K4) }.unwrap();
    assert_eq!(split.next(&mut Gather::new()), Err(SplitError::NoFrames { at: Iova(0) }));
    assert_eq!(arena.image(), before);
}

/// In all geometries, with and without groups, with a TLB that lets go of nothing unless it must.
#[test]
fn random_ranges_cut_blocks() {
    let mut splits = 0;
    for seed in 0..5 {
        for bbml in [Bbml::One, Bbml::Two] {
            let narrow = TableConfig::new(48, 48).with_splitting(bbml);
            let wide = TableConfig::new(52, 52).with_splitting(bbml);
            let groups = |config: TableConfig| config.with_contiguous(bbml);
            for (.., seen) in [
                run::<12, 1, false>(narrow, seed, 48),
                run::<12, 1, false>(groups(narrow), seed, 48),
                run::<14, 1, false>(groups(narrow), seed, 48),
                run::<16, 2, false>(narrow, seed, 48),
                run::<12, 2, false>(narrow, seed, 48),
                run::<12, 1, false>(narrow.for_upper_half(), seed, 48),
                run::<12, 1, true>(groups(wide), seed, 48),
                run::<14, 2, true>(wide, seed, 48),
                run::<16, 1, true>(groups(wide), seed, 48),
            ] {
                splits += seen;
            }
        }
    }
    assert!(splits > 100, "{splits}");
}
