// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clearing leaves without unlinking tables.

mod common;

use common::Arena;
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const M2: u64 = 0x20_0000;
const G1: u64 = 0x4000_0000;

fn setup() -> (Arena, Stage1Table4K) {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::new(&arena, 48, 48).unwrap();
    (arena, table)
}

fn map(table: &Stage1Table4K, arena: &Arena, iova: u64, pa: u64, len: u64) {
    // SAFETY: one thread, one arena.
    unsafe { table.map(arena, Iova(iova), PhysAddr(pa), len, RW) }.unwrap();
}

fn clear(table: &Stage1Table4K, arena: &Arena, iova: u64, len: u64) -> Result<u64, UnmapError> {
    // SAFETY: one thread, and no hardware.
    unsafe { table.clear(arena, Iova(iova), len) }
}

#[test]
fn what_is_cleared_is_gone_for_the_walker_and_tables_stay() {
    let (arena, table) = setup();
    // The end of one table, all of the next by pages, two blocks, the start of another table.
    map(&table, &arena, M2 - 2 * K4, G1, 2 * K4);
    map(&table, &arena, M2, G1 + K4, M2);
    map(&table, &arena, 2 * M2, G1, 2 * M2);
    map(&table, &arena, 4 * M2, G1, 3 * K4);
    let (live, published) = (arena.live(), arena.publishes());
    assert_eq!(clear(&table, &arena, M2 - K4, 3 * M2 + 3 * K4), Ok(3 * M2 + 3 * K4));
    // One run in each of the three tables of pages, and one of blocks.
    assert_eq!((arena.live(), arena.publishes() - published), (live, 4));
    for iova in [M2 - K4, M2, 2 * M2 - K4, 2 * M2, 3 * M2, 4 * M2 - K4, 4 * M2, 4 * M2 + K4] {
        assert_eq!(arena.walk(&table, iova), None, "{iova:#x}");
    }
    assert_eq!(arena.walk(&table, M2 - 2 * K4).map(|found| found.0), Some(G1));
    assert_eq!(arena.walk(&table, 4 * M2 + 2 * K4).map(|found| found.0), Some(G1 + 2 * K4));
    // Nothing is stored where nothing is mapped.
    let published = arena.publishes();
    assert_eq!(clear(&table, &arena, M2 - K4, 3 * M2 + 3 * K4), Ok(0));
    assert_eq!(clear(&table, &arena, 0x10 * G1, 3 * G1), Ok(0));
    assert_eq!(arena.publishes(), published);
    // SAFETY: one thread, no hardware.
    unsafe { table.destroy(&arena) };
    assert_eq!(arena.live(), 0);
}

#[test]
fn holes_of_every_size_are_passed_over() {
    let (arena, table) = setup();
    map(&table, &arena, 5 * K4, 0, K4);
    map(&table, &arena, G1, G1, G1);
    map(&table, &arena, 3 * G1 + M2, 0, M2);
    map(&table, &arena, 3 * G1 + 4 * M2, 0, M2);
    map(&table, &arena, 512 * G1 + K4, 0, K4);
    assert_eq!(clear(&table, &arena, 0, 1024 * G1), Ok(G1 + 2 * M2 + 2 * K4));
    for iova in [5 * K4, G1, 3 * G1 + M2, 3 * G1 + 4 * M2, 512 * G1 + K4] {
        assert_eq!(arena.walk(&table, iova), None, "{iova:#x}");
    }
    // A table is where a block was not: what is mapped again are pages.
    map(&table, &arena, 0, G1, M2);
    assert_eq!(arena.walk(&table, K4).map(|found| (found.0, found.1)), Some((G1 + K4, K4)));
    // SAFETY: one thread, no hardware.
    unsafe { table.destroy(&arena) };
}

#[test]
fn a_wrong_range_or_a_cut_block_changes_nothing() {
    let (arena, table) = setup();
    map(&table, &arena, M2, M2, M2);
    map(&table, &arena, 2 * M2, G1, K4);
    let image = arena.image();
    let straddle = Err(UnmapError::Straddle { block: Iova(M2), size: M2 });
    assert_eq!(clear(&table, &arena, M2, K4), straddle);
    assert_eq!(clear(&table, &arena, 2 * M2 - K4, 2 * K4), straddle);
    assert_eq!(clear(&table, &arena, 0, M2 + K4), straddle);
    let granule = K4;
    let unaligned = RangeError::Unaligned { iova: Iova(8), len: K4, granule };
    assert_eq!(clear(&table, &arena, 8, K4), Err(UnmapError::Range(unaligned)));
    assert_eq!(clear(&table, &arena, 0, 0), Err(UnmapError::Range(RangeError::Empty)));
    let beyond = RangeError::BeyondInput { iova: Iova(K4), len: 1 << 48, input_bits: 48 };
    assert_eq!(clear(&table, &arena, K4, 1 << 48), Err(UnmapError::Range(beyond)));
    assert_eq!(arena.image(), image);
    // SAFETY: one thread, no hardware.
    unsafe { table.destroy(&arena) };
}
