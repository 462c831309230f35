// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices wrote and accessed, marked by hardware that does the worst that it may.

mod common;

use common::Arena;
use smmuv3_pagetable::*;

const R: Attributes = Attributes::normal(Prot::READ);
const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const K64: u64 = 0x1_0000;
const M2: u64 = 0x20_0000;
const PA: u64 = 0x40_0000_0000;

fn map<const STAGE: u8>(
    table: &Table<12, STAGE>,
    arena: &Arena,
    iova: u64,
    len: u64,
    with: Attributes,
) {
    // SAFETY: one thread.
    unsafe { table.map(arena, Iova(iova), PhysAddr(PA + iova), len, with) }.unwrap();
}

fn setup<const STAGE: u8>(config: TableConfig) -> (Arena, Table<12, STAGE>) {
    let arena = Arena::new(0x8000_0000);
    let table = Table::with(&arena, &config).unwrap();
    (arena, table)
}

fn config(dirty: Dirty) -> TableConfig {
    TableConfig::new(48, 48).with_dirty(dirty)
}

/// What is reported, and the range to invalidate.
type Told = (Vec<(u64, u64)>, core::ops::Range<u64>);

fn all<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
    harvest: Result<Harvest<'_, Arena, SHIFT, STAGE, WIDE>, HarvestError>,
) -> Result<Told, HarvestError> {
    let (mut harvest, mut gather, mut told) = (harvest?, Gather::new(), Vec::new());
    while harvest.step(&mut gather, |at, bytes| told.push((at.0, bytes))) {}
    assert!(harvest.is_done() && gather.tables().is_empty());
    Ok((told, gather.range()))
}

#[test]
fn leaves_say_that_hardware_may_mark_them() {
    // Appendix A of the architecture's reference: 0x0060_0000_0000_0F43 is a stage-1 page that may be read and
    // written, from memory that is write-back; DBM is bit 51, AP[2] and S2AP[1] are bit 7.
    let leaf = |arena: &Arena, table: &Table<12, 1>| arena.walk(table, K4).unwrap().2 - PA - K4;
    for (config, expected) in [
        (TableConfig::new(48, 48), 0x0060_0000_0000_0F43),
        (config(Dirty::Clean), 0x0068_0000_0000_0FC3),
        (config(Dirty::Born), 0x0068_0000_0000_0F43),
        (config(Dirty::Clean).with_access_flags(), 0x0068_0000_0000_0BC3),
    ] {
        let (arena, table) = setup::<1>(config);
        map(&table, &arena, K4, K4, RW);
        assert_eq!(leaf(&arena, &table), expected, "{config:?}");
        // SAFETY: one thread.
        let found = unsafe { table.lookup(&arena, Iova(K4)) }.unwrap();
        assert_eq!(found.attributes, RW);
        assert_eq!(table.dirty(), config.dirty);
        assert_eq!(table.has_access_flags(), config.access_flags);
    }
    // What can't be written is never marked.
    let (arena, table) = setup::<1>(config(Dirty::Clean));
    map(&table, &arena, K4, K4, R);
    assert_eq!(leaf(&arena, &table), 0x0060_0000_0000_0FC3);
    for (dirty, expected) in
        [(Dirty::Untracked, 0x0040_0000_0000_07FF), (Dirty::Clean, 0x0048_0000_0000_077F)]
    {
        let (arena, table) = setup::<2>(config(dirty));
        map(&table, &arena, K4, K4, RW);
        assert_eq!(arena.walk(&table, K4).unwrap().2 - PA - K4, expected);
    }
}

#[test]
fn what_is_dirty_is_told_once_and_invalidated() {
    let (arena, table) = setup::<2>(config(Dirty::Born));
    map(&table, &arena, 0, M2, RW);
    map(&table, &arena, M2, 3 * K4, RW);
    map(&table, &arena, M2 + 4 * K4, K4, R);
    // SAFETY: one thread.
    let read = || all(unsafe { table.read_dirty(&arena, Iova(0), 2 * M2) });
    // SAFETY: one thread.
    let clear = |at, len| all(unsafe { table.read_and_clear_dirty(&arena, Iova(at), len) });
    assert_eq!(read(), Ok((vec![(0, M2), (M2, 3 * K4)], 0..0)));
    // Of a block, a part can be told but not cleared.
    // SAFETY: one thread.
    let part = all(unsafe { table.read_dirty(&arena, Iova(K4), K4) });
    assert_eq!(part, Ok((vec![(K4, K4)], 0..0)));
    assert_eq!(clear(K4, K4), Err(HarvestError::Straddle { block: Iova(0), size: M2 }));
    assert_eq!(clear(M2 + K4, K4), Ok((vec![(M2 + K4, K4)], M2 + K4..M2 + 2 * K4)));
    assert_eq!(read(), Ok((vec![(0, M2), (M2, K4), (M2 + 2 * K4, K4)], 0..0)));
    assert_eq!(clear(0, 2 * M2).unwrap().1, 0..M2 + 3 * K4);
    assert_eq!(clear(0, 2 * M2), Ok((vec![], 0..0)));
    assert_eq!(arena.unpublished(), []);
}

#[test]
fn of_a_table_that_is_not_marked_nothing_is_read() {
    let (arena, table) = setup::<1>(TableConfig::new(48, 48));
    // SAFETY: one thread.
    let read = |len| all(unsafe { table.read_dirty(&arena, Iova(0), len) });
    assert_eq!(read(M2), Err(HarvestError::Untracked));
    assert_eq!(read(0), Err(HarvestError::Range(RangeError::Empty)));
    // SAFETY: one thread.
    let accessed = all(unsafe { table.read_and_clear_accessed(&arena, Iova(0), M2) });
    assert_eq!(accessed, Err(HarvestError::Untracked));
}

#[test]
fn an_unmap_tells_what_is_dirty() {
    let (arena, table) = setup::<1>(config(Dirty::Born));
    map(&table, &arena, 0, M2, RW);
    map(&table, &arena, M2 + K4, M2 - K4, RW);
    map(&table, &arena, 2 * M2, K64, R);
    let (mut gather, mut told) = (Gather::new(), Vec::new());
    // SAFETY: one thread.
    let mut unmap = unsafe { table.unmap(&arena, Iova(0), 3 * M2) }.unwrap();
    assert!(unmap.next_reporting(&mut gather, |at, bytes| told.push((at.0, bytes))));
    assert_eq!((told, unmap.unmapped()), (vec![(0, M2), (M2 + K4, M2 - K4)], 2 * M2 - K4 + K64));
    assert_eq!((gather.range(), gather.tables().len()), (0..3 * M2, 2));
    assert!(unmap.is_done());
    // SAFETY: no hardware.
    unsafe { gather.free_tables(&arena) };
    // One block alone, and pages of one table.
    for (at, len) in [(4 * M2, M2), (5 * M2, 3 * K4)] {
        map(&table, &arena, at, len, RW);
        let (mut gather, mut told) = (Gather::new(), Vec::new());
        // SAFETY: one thread.
        let mut unmap = unsafe { table.unmap(&arena, Iova(at), len) }.unwrap();
        assert!(unmap.next_reporting(&mut gather, |at, bytes| told.push((at.0, bytes))));
        assert_eq!((told, unmap.unmapped(), unmap.is_done()), (vec![(at, len)], len, true));
        assert_eq!(gather.range(), at..at + len);
    }
    map(&table, &arena, M2, K64, RW);
    let mut told = Vec::new();
    // SAFETY: one thread.
    let bytes = unsafe {
        table.clear_reporting(&arena, Iova(0), 3 * M2, |at, bytes| told.push((at.0, bytes)))
    };
    assert_eq!((bytes, told), (Ok(K64), vec![(M2, K64)]));
    assert_eq!(arena.unpublished(), []);
}

/// A group of 16 pages, one of which another caller has just unmapped: its invalidation is to come.
#[test]
fn of_a_group_that_is_cut_all_is_dirty_and_invalidated() {
    let (arena, table) = setup::<1>(config(Dirty::Clean).with_contiguous(Bbml::Two));
    map(&table, &arena, 0, 3 * K64, RW);
    // SAFETY: one thread.
    let clear = |at, len| all(unsafe { table.read_and_clear_dirty(&arena, Iova(at), len) });
    assert_eq!(clear(0, 3 * K64), Ok((vec![], 0..0)));
    assert_eq!(clear(0, K64 + K4), Err(HarvestError::Straddle { block: Iova(K64), size: K64 }));
    let mut gather = Gather::new();
    // SAFETY: the ranges are disjoint.
    let mut other = unsafe { table.unmap(&arena, Iova(K64 + 5 * K4), K4) }.unwrap();
    let mut told = Vec::new();
    assert!(other.next_reporting(&mut gather, |at, bytes| told.push((at.0, bytes))));
    // A mark of a neighbour may have been meant for it.
    assert_eq!((told, gather.range()), (vec![(K64 + 5 * K4, K4)], K64..2 * K64));
    // The mark of this page may still come to stand in another.
    assert_eq!(clear(K64, K4), Ok((vec![(K64, K4)], K64..2 * K64)));
    assert_eq!(clear(K64, K4), Ok((vec![], 0..0)));
    let rest = (vec![(K64 + K4, 4 * K4), (K64 + 6 * K4, 10 * K4)], K64..2 * K64);
    assert_eq!(clear(0, 3 * K64), Ok(rest));
    // Of a group that is whole, one page is enough.
    let group = arena.descriptor(&table, 2 * K64 + 7 * K4);
    assert!(arena.exchange(group, arena.read(group), arena.read(group) & !(1 << 7)));
    assert_eq!(clear(0, 3 * K64), Ok((vec![(2 * K64, K64)], 2 * K64..3 * K64)));
    // SAFETY: one thread.
    let read = all(unsafe { table.read_dirty(&arena, Iova(2 * K64), K4) });
    assert_eq!(read, Ok((vec![], 0..0)));
}

#[test]
fn what_comes_of_a_block_is_as_dirty_and_names_no_size() {
    for dirty in [Dirty::Clean, Dirty::Born] {
        let (arena, table) = setup::<2>(config(dirty).with_splitting(Bbml::Two));
        map(&table, &arena, 0, M2, RW);
        let mut gather = Gather::new();
        // SAFETY: one thread.
        let mut split = unsafe { table.split(&arena, Iova(K4), K4) }.unwrap();
        assert_eq!(split.next(&mut gather), Ok(true));
        gather.clear();
        // SAFETY: one thread.
        let harvest = unsafe { table.read_and_clear_dirty(&arena, Iova(K4), K4) };
        let (mut harvest, mut told) = (harvest.unwrap(), vec![]);
        assert!(!harvest.step(&mut gather, |at, bytes| told.push((at.0, bytes))));
        // Another caller's invalidation of the block may not be complete.
        assert_eq!(gather.leaf_size(), None);
        assert!(gather.leaf_only());
        if dirty == Dirty::Born {
            assert_eq!((told, gather.range()), (vec![(K4, K4)], K4..2 * K4));
        } else {
            assert_eq!((told, gather.is_empty()), (vec![], true));
        }
    }
}

#[test]
fn what_is_accessed_is_told_too() {
    let (arena, table) = setup::<2>(TableConfig::new(48, 48).with_access_flags());
    map(&table, &arena, 0, M2, R);
    map(&table, &arena, M2, 3 * K4, RW);
    // SAFETY: one thread.
    let clear = |at, len| all(unsafe { table.read_and_clear_accessed(&arena, Iova(at), len) });
    assert_eq!(clear(0, 2 * M2), Ok((vec![], 0..0)));
    for at in [0, M2 + K4] {
        let leaf = arena.descriptor(&table, at);
        assert!(arena.exchange(leaf, arena.read(leaf), arena.read(leaf) | 1 << 10));
    }
    // SAFETY: one thread.
    let read = all(unsafe { table.read_accessed(&arena, Iova(0), 2 * M2) });
    assert_eq!(read, Ok((vec![(0, M2), (M2 + K4, K4)], 0..0)));
    assert_eq!(clear(0, 2 * M2), Ok((vec![(0, M2), (M2 + K4, K4)], 0..M2 + 2 * K4)));
    assert_eq!(clear(0, 2 * M2), Ok((vec![], 0..0)));
    // SAFETY: one thread.
    let dirty = all(unsafe { table.read_dirty(&arena, Iova(0), M2) });
    assert_eq!(dirty, Err(HarvestError::Untracked));
}

#[test]
fn a_bitmap_has_a_bit_for_each_page_that_is_touched() {
    let mut words = [0; 3];
    let mut bitmap = Bitmap::new(Iova(M2), K4, &mut words);
    bitmap.set(Iova(M2), K4);
    bitmap.set(Iova(M2 + 62 * K4), 4 * K4);
    // Beyond both ends; a part of a page.
    bitmap.set(Iova(0), M2);
    bitmap.set(Iova(0), M2 + 2 * K4);
    bitmap.set(Iova(M2 + 4 * K4 + 1), 1);
    bitmap.set(Iova(M2 + 191 * K4), u64::MAX);
    bitmap.set(Iova(M2 + 192 * K4), K4);
    bitmap.set(Iova(M2), 0);
    assert_eq!(words, [0b1_0011 | 0b11 << 62, 0b11, 1 << 63]);
}
