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
