// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables that one map has filled: what an unmap of the whole says of them, and that whatever takes a page out of one
//! takes the mark away first. And what is unmapped at once.

mod common;

use common::{Arena, Round, round, unmap};
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const M2: u64 = 0x20_0000;

/// A table with 2 MiB of pages at 2 MiB, whose level-2 descriptor is at the address given.
fn full(config: TableConfig) -> (Arena, Stage1Table4K, u64) {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::with(&arena, &config).unwrap();
    // SAFETY: one thread, here and below.
    unsafe { table.map(&arena, Iova(M2), PhysAddr(M2 + K4), M2, RW) }.unwrap();
    (arena, table, 0x8000_2008)
}

fn config() -> TableConfig {
    TableConfig::new(48, 48)
}

#[cfg(feature = "fast-paths")]
#[test]
fn the_mark_is_where_hardware_looks_at_nothing() {
    let (arena, table, at) = full(config());
    // Bits 58:51 of a table's descriptor are ignored (§15.2).
    assert_eq!((FULL, SYNCED), (1 << 56, 1 << 55));
    assert_eq!(arena.read(at), 0x8000_3003 | FULL);
    assert_eq!(arena.walk(&table, M2 + K4).unwrap().0, M2 + 2 * K4);
    // Neither that nor its end is published: it means nothing to the walker.
    arena.take_log();
    // SAFETY: one thread.
    assert!(unsafe { table.map(&arena, Iova(M2), PhysAddr(0), K4, RW) }.is_err());
    assert_eq!((arena.read(at), arena.take_log()), (0x8000_3003 | FULL, vec![]));
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, M2 + K4, K4).unwrap().0, K4);
    assert_eq!(arena.read(at), 0x8000_3003 | SYNCED);
    assert_eq!(arena.take_log(), [(0x8000_3008, 8)]);
    // A page alone makes it full, but not known to be.
    // SAFETY: as above.
    unsafe { table.map(&arena, Iova(M2 + K4), PhysAddr(0), K4, RW) }.unwrap();
    assert_eq!(arena.read(at), 0x8000_3003 | SYNCED);
}

#[test]
fn a_map_that_finds_something_marks_nothing() {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::new(&arena, 48, 48).unwrap();
    // SAFETY: one thread.
    unsafe { table.map(&arena, Iova(2 * M2 - K4), PhysAddr(0), K4, RW) }.unwrap();
    // SAFETY: as above.
    let error = unsafe { table.map(&arena, Iova(M2), PhysAddr(M2 + K4), M2, RW) }.unwrap_err();
    assert_eq!(error.mapped, M2 - K4);
    assert_eq!(arena.read(0x8000_2008), 0x8000_3003 | SYNCED);
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, M2, M2).unwrap().0, M2);
}

#[test]
fn all_of_a_full_table_is_known_without_looking() {
    let (arena, table, _) = full(config());
    let (bytes, rounds) = unmap::<4, _, _, _>(&table, &arena, 0, 4 * M2).unwrap();
    let tables = vec![(0x8000_3000, 3)];
    assert_eq!(bytes, M2);
    assert_eq!(rounds, [Round { range: M2..2 * M2, leaf_size: Some(K4), tables }]);
    // And below a table that goes as a whole.
    let (arena, table, _) = full(config());
    let (bytes, rounds) = unmap::<4, _, _, _>(&table, &arena, 0, 0x4000_0000).unwrap();
    assert_eq!((bytes, rounds[0].leaf_size, arena.live()), (M2, Some(K4), 2));
}

/// What takes pages out of a table.
type Take = fn(&Stage1Table4K, &Arena, u64, u64) -> u64;

#[test]
fn whatever_takes_a_part_is_missed_in_the_whole() {
    let ways: [(TableConfig, Take); 7] = [
        (config(), |table, arena, iova, len| {
            unmap::<4, _, _, _>(table, arena, iova, len).unwrap().0
        }),
        (config(), |table, arena, iova, len| {
            // SAFETY: one thread, here and below.
            let pages = unsafe { table.unmap_pages(arena, Iova(iova), len, &mut Gather::new()) };
            if cfg!(feature = "fast-paths") {
                return pages.unwrap();
            }
            assert_eq!(pages, None);
            unmap::<4, _, _, _>(table, arena, iova, len).unwrap().0
        }),
        (config(), |table, arena, iova, len| {
            // SAFETY: as above.
            unsafe { table.clear(arena, Iova(iova), len) }.unwrap()
        }),
        // From the table before on.
        (config(), |table, arena, iova, len| {
            unmap::<4, _, _, _>(table, arena, 0, iova + len).unwrap().0
        }),
        (config(), |table, arena, iova, len| {
            // SAFETY: as above.
            unsafe { table.clear(arena, Iova(0), iova + len) }.unwrap()
        }),
        (config().with_contiguous(Bbml::Two), |table, arena, iova, len| {
            unmap::<4, _, _, _>(table, arena, iova, len).unwrap().0
        }),
        (config().with_dirty(Dirty::Born), |table, arena, iova, len| {
            // SAFETY: as above.
            unsafe { table.clear_reporting(arena, Iova(iova), len, |_, _| {}) }.unwrap()
        }),
    ];
    for (nth, (config, take)) in ways.into_iter().enumerate() {
        for len in [K4, 5 * K4] {
            let (arena, table, at) = full(config);
            assert_eq!(take(&table, &arena, M2, len), len, "{nth}");
            assert_eq!(arena.read(at), 0x8000_3003 | SYNCED, "{nth}");
            assert_eq!(arena.unpublished(), []);
            assert_eq!(unmap::<4, _, _, _>(&table, &arena, M2, M2).unwrap().0, M2 - len, "{nth}");
        }
    }
}

#[test]
fn leaves_that_are_taken_before_their_table_are_not_counted_twice() {
    let (arena, table, _) = full(config().with_dirty(Dirty::Born));
    let mut gather = Gather::<4>::sized();
    // SAFETY: one thread.
    let mut cursor = unsafe { table.unmap(&arena, Iova(M2), M2) }.unwrap();
    while cursor.next_reporting(&mut gather, |_, _| {}) {
        // SAFETY: no hardware.
        unsafe { gather.free_tables(&arena) };
        gather.clear();
    }
    assert_eq!(cursor.unmapped(), M2);
}

#[test]
fn one_page_is_unmapped_and_nothing_else_is_touched() {
    let (arena, table, _) = full(config());
    // SAFETY: one thread, here and below.
    unsafe { table.map(&arena, Iova(4 * M2), PhysAddr(4 * M2), M2, RW) }.unwrap();
    let page = |iova, gather: &mut Gather| {
        // SAFETY: as above.
        unsafe { table.unmap_page(&arena, Iova(iova), gather) }
    };
    let mut gather = Gather::new();
    let image = arena.image();
    // A block; nothing; unaligned; beyond the input.
    for iova in [4 * M2, 0, 1 << 40, M2 + 1, (1 << 48) + M2, u64::MAX - 0xFFF] {
        assert!(!page(iova, &mut gather), "{iova:#x}");
    }
    // A full table, where that is marked.
    assert!(!cfg!(feature = "fast-paths") || !page(M2, &mut gather));
    assert_eq!((arena.image(), gather.is_empty()), (image, true));
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, M2, K4).unwrap().0, K4);
    assert!(!page(M2, &mut gather), "nothing is left");
    assert!(page(M2 + 2 * K4, &mut gather) && page(M2 + K4, &mut gather));
    let expected = Round { range: M2 + K4..M2 + 3 * K4, leaf_size: Some(K4), tables: vec![] };
    assert_eq!(round(&gather), expected);
    assert_eq!((arena.wasted(), arena.unpublished()), (vec![], vec![]));
}

#[test]
fn a_page_with_the_hint_needs_more() {
    let (arena, table, _) = full(config().with_contiguous(Bbml::Two));
    // A group, and a page alone.
    let mut gather = Gather::new();
    for (iova, len) in [(4 * M2, 16 * K4), (4 * M2 + 16 * K4, K4)] {
        // SAFETY: one thread, here and below.
        unsafe { table.map(&arena, Iova(iova), PhysAddr(iova), len, RW) }.unwrap();
    }
    // SAFETY: as above.
    assert!(!unsafe { table.unmap_page(&arena, Iova(4 * M2), &mut gather) });
    // SAFETY: as above.
    assert!(unsafe { table.unmap_page(&arena, Iova(4 * M2 + 16 * K4), &mut gather) });
    // One that had it, too: a TLB may still keep the group.
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, 4 * M2, K4).unwrap().0, K4);
    // SAFETY: as above.
    assert!(!unsafe { table.unmap_page(&arena, Iova(4 * M2 + K4), &mut gather) });
}

#[cfg(feature = "fast-paths")]
#[test]
fn a_block_is_unmapped_at_once() {
    let (arena, table, _) = full(config());
    let at_once = |iova, len| {
        let mut gather = Gather::<4>::sized();
        // SAFETY: one thread, here and below.
        let bytes = unsafe { table.unmap_at_once(&arena, Iova(iova), len, &mut gather) };
        (bytes, gather.range(), gather.leaf_size(), gather.leaf_only())
    };
    // SAFETY: as above.
    unsafe { table.map(&arena, Iova(4 * M2), PhysAddr(4 * M2), 3 * M2, RW) }.unwrap();
    let image = arena.image();
    // A table; two blocks; a part of one; nothing; a whole table of them; beyond the input.
    let g1 = 512 * M2;
    for (iova, len) in
        [(M2, M2), (4 * M2, 2 * M2), (4 * M2, K4), (8 * M2, M2), (0, g1), (1 << 48, M2)]
    {
        assert_eq!(at_once(iova, len), (None, 0..0, None, true), "{iova:#x}");
    }
    assert_eq!(arena.image(), image);
    assert_eq!(at_once(5 * M2, M2), (Some(M2), 5 * M2..6 * M2, Some(M2), true));
    assert_eq!(arena.walk(&table, 4 * M2).unwrap().0, 4 * M2);
    assert!(arena.walk(&table, 5 * M2).is_none());
    assert_eq!(arena.walk(&table, 6 * M2).unwrap().0, 6 * M2);
    assert_eq!((arena.wasted(), arena.unpublished()), (vec![], vec![]));
}
