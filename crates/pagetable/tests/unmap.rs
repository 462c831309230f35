// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unmapping, what it gathers, reclaiming and the end of a table.

mod common;

use common::{Arena, Round, round, unmap};
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const M2: u64 = 0x20_0000;
const G1: u64 = 0x4000_0000;
const G512: u64 = 512 * G1;

fn setup() -> (Arena, Stage1Table4K) {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::new(&arena, 48, 48).unwrap();
    (arena, table)
}

fn map(table: &Stage1Table4K, arena: &Arena, iova: u64, pa: u64, len: u64) {
    // SAFETY: one thread, one arena.
    unsafe { table.map(arena, Iova(iova), PhysAddr(pa), len, RW) }.unwrap();
}

/// Maps with 4 KiB pages only.
fn map_pages(table: &Stage1Table4K, arena: &Arena, iova: u64, len: u64) {
    map(table, arena, iova, iova + K4, len);
}

fn destroy(table: Stage1Table4K, arena: &Arena) {
    // SAFETY: one thread, no hardware.
    unsafe { table.destroy(arena) };
    assert_eq!(arena.live(), 0);
}

/// Reclaims to the end with a gather for four tables; gives what each round gathered.
fn reclaim(table: &Stage1Table4K, arena: &Arena, iova: u64, len: u64) -> Vec<Round> {
    let mut gather = Gather::<4>::sized();
    let mut rounds = Vec::new();
    // SAFETY: one thread.
    let mut cursor = unsafe { table.reclaim(arena, Iova(iova), len) }.unwrap();
    while cursor.next(&mut gather) {
        rounds.push(round(&gather));
        // SAFETY: there is no hardware that could hold on to the tables.
        unsafe { gather.free_tables(arena) };
        gather.clear();
    }
    let tables: usize = rounds.iter().map(|round| round.tables.len()).sum();
    assert_eq!(cursor.reclaimed(), tables as u64);
    rounds
}

#[test]
fn a_run_is_gathered_from_its_first_to_its_last_page() {
    let (arena, table) = setup();
    map(&table, &arena, 3 * K4, 0, 2 * K4);
    map(&table, &arena, 7 * K4, 0, K4);
    let (unmapped, rounds) = unmap::<4, _, _, _>(&table, &arena, K4, 100 * K4).unwrap();
    assert_eq!(unmapped, 3 * K4);
    let expected = Round { range: 3 * K4..8 * K4, leaf_size: Some(K4), tables: vec![] };
    assert_eq!(rounds, [expected]);
    assert_eq!(arena.walk(&table, 3 * K4), None);
    // Nothing is left, and the tables stay.
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, K4, 100 * K4).unwrap(), (0, vec![]));
    assert_eq!(arena.live(), 4);
    destroy(table, &arena);
}

#[test]
fn neighbours_of_the_range_stay_mapped() {
    let (arena, table) = setup();
    map_pages(&table, &arena, M2 - 10 * K4, 20 * K4);
    let (unmapped, _) = unmap::<4, _, _, _>(&table, &arena, M2 - 9 * K4, 18 * K4).unwrap();
    assert_eq!(unmapped, 18 * K4);
    for page in -10_i64..10 {
        let iova = M2.wrapping_add_signed(page * 0x1000);
        let expected = (page == -10 || page == 9).then_some(iova + K4);
        assert_eq!(arena.walk(&table, iova).map(|found| found.0), expected);
    }
}

#[test]
fn leaves_of_several_sizes_are_said_to_have_none_in_common() {
    let (arena, table) = setup();
    map(&table, &arena, M2 - K4, M2 - K4, K4 + M2);
    let (unmapped, rounds) = unmap::<4, _, _, _>(&table, &arena, M2 - K4, M2 + K4).unwrap();
    assert_eq!(unmapped, M2 + K4);
    let expected = Round { range: M2 - K4..2 * M2, leaf_size: None, tables: vec![] };
    assert_eq!(rounds, [expected]);
    // Blocks alone have theirs, and are one run.
    map(&table, &arena, 4 * M2, 0, 8 * M2);
    let before = arena.publishes();
    let (unmapped, rounds) = unmap::<4, _, _, _>(&table, &arena, 3 * M2, 10 * M2).unwrap();
    assert_eq!(unmapped, 8 * M2);
    let expected = Round { range: 4 * M2..12 * M2, leaf_size: Some(M2), tables: vec![] };
    assert_eq!(rounds, [expected]);
    assert_eq!(arena.publishes() - before, 1);
    destroy(table, &arena);
}

#[test]
fn a_block_over_either_end_is_refused_before_any_store() {
    let (arena, table) = setup();
    map(&table, &arena, M2, M2, M2);
    map(&table, &arena, G1, G1, G1);
    map_pages(&table, &arena, 2 * G1, 2 * M2);
    map_pages(&table, &arena, M2 - K4, K4);
    map_pages(&table, &arena, G1 - K4, K4);
    let (m2, g1) = ((M2, M2), (G1, G1));
    for (start, end, (block, size)) in [
        // The start in a block, the end in one, both in the same one, both in different ones.
        (M2 + K4, G1, m2),
        (2 * M2 - K4, 2 * M2 + K4, m2),
        (0, M2 + K4, m2),
        (M2 - K4, 2 * M2 - K4, m2),
        (M2 + K4, M2 + 2 * K4, m2),
        (M2 + K4, G1 + M2, m2),
        (0, G1 + K4, g1),
        (0, 2 * G1 - M2, g1),
        (G1 + M2, 2 * G1 + M2, g1),
        (G1, 2 * G1 - K4, g1),
        (G1 + M2, G1 + 2 * M2, g1),
    ] {
        let image = arena.image();
        let publishes = arena.publishes();
        let error = UnmapError::Straddle { block: Iova(block), size };
        assert_eq!(
            unmap::<4, _, _, _>(&table, &arena, start, end - start),
            Err(error),
            "{start:#x}"
        );
        assert_eq!(arena.image(), image);
        assert_eq!(arena.publishes(), publishes);
    }
    let (unmapped, _) = unmap::<4, _, _, _>(&table, &arena, 0, 3 * G1).unwrap();
    assert_eq!(unmapped, M2 + G1 + 2 * M2 + 2 * K4);
}

#[test]
fn wrong_ranges_are_refused() {
    let (arena, table) = setup();
    map(&table, &arena, 0, 0, K4);
    let image = arena.image();
    let last = u64::MAX - 0xFFF;
    let (top, granule, input_bits) = (1 << 48, K4, 48);
    let beyond = |iova, len| RangeError::BeyondInput { iova: Iova(iova), len, input_bits };
    for (iova, len, error) in [
        (0, 0, RangeError::Empty),
        (1, K4, RangeError::Unaligned { iova: Iova(1), len: K4, granule }),
        (0, K4 + 1, RangeError::Unaligned { iova: Iova(0), len: K4 + 1, granule }),
        (0, top + K4, beyond(0, top + K4)),
        (top, K4, beyond(top, K4)),
        (last, K4, beyond(last, K4)),
        (last, last, beyond(last, last)),
    ] {
        let got = unmap::<4, _, _, _>(&table, &arena, iova, len);
        assert_eq!(got, Err(UnmapError::Range(error)), "{error}");
        // SAFETY: one thread.
        let got = unsafe { table.reclaim(&arena, Iova(iova), len) }.map(drop);
        assert_eq!(got, Err(error));
    }
    assert_eq!(arena.image(), image);
}

#[test]
fn a_table_whose_whole_span_is_unmapped_is_unlinked() {
    let (arena, table) = setup();
    map_pages(&table, &arena, M2 - K4, M2 + 2 * K4);
    assert_eq!(arena.live(), 3 + 3);
    let leaf_table = arena.read(0x8000_2008) & 0xFFFF_F000;
    let (unmapped, rounds) = unmap::<4, _, _, _>(&table, &arena, M2 - K4, M2 + 2 * K4).unwrap();
    assert_eq!(unmapped, M2 + 2 * K4);
    let range = M2 - K4..2 * M2 + K4;
    let expected = Round { range, leaf_size: Some(K4), tables: vec![(leaf_table, 3)] };
    assert_eq!(rounds, [expected]);
    assert_eq!(arena.live(), 5);
    assert_eq!(arena.walk(&table, M2), None);
    // What has gone can be mapped as a block.
    map(&table, &arena, M2, M2, M2);
    assert_eq!(arena.walk(&table, M2).unwrap().1, M2);
    destroy(table, &arena);
}

#[test]
fn an_unlinked_table_takes_everything_below_with_it() {
    let (arena, table) = setup();
    map_pages(&table, &arena, G1, G1);
    map(&table, &arena, 3 * G1, 3 * G1, G1);
    let live = arena.live();
    assert_eq!(live, 2 + 1 + 512);
    // One level-2 table with 512 of level 3, a hole, and a block of 1 GiB.
    let (unmapped, rounds) = unmap::<4, _, _, _>(&table, &arena, G1, 3 * G1).unwrap();
    assert_eq!(unmapped, 2 * G1);
    let (range, tables) = (G1..4 * G1, vec![(0x8000_2000, 2)]);
    assert_eq!(rounds, [Round { range, leaf_size: None, tables }]);
    assert_eq!(arena.live(), 2);
    destroy(table, &arena);
}

#[test]
fn all_of_the_input_can_be_unmapped_and_only_the_root_stays() {
    let (arena, table) = setup();
    map_pages(&table, &arena, 0, K4);
    map_pages(&table, &arena, 7 * G512 - M2, 2 * M2);
    map(&table, &arena, 9 * G512, 0, 3 * G1);
    map(&table, &arena, (1 << 48) - K4, 0, K4);
    let (unmapped, rounds) = unmap::<4, _, _, _>(&table, &arena, 0, 1 << 48).unwrap();
    assert_eq!(unmapped, 2 * K4 + 2 * M2 + 3 * G1);
    // Five level-1 tables through a gather for four.
    assert_eq!(rounds.iter().map(|r| r.tables.len()).collect::<Vec<_>>(), [4, 1]);
    assert!(rounds.iter().flat_map(|r| &r.tables).all(|&(_, level)| level == 1));
    assert_eq!(rounds[0].range, 0..10 * G512);
    assert_eq!(rounds[1].range, (1 << 48) - G512..1 << 48);
    assert_eq!(arena.live(), 1);
    assert!(arena.image().is_empty());
    destroy(table, &arena);
}

#[test]
fn a_full_gather_stops_the_cursor_and_nothing_is_lost() {
    let (arena, table) = setup();
    // One page too many at the front, so that the level-2 table is not wholly in the range.
    map_pages(&table, &arena, G1, G1);
    let mut gather = Gather::<4>::sized();
    let (start, len) = (G1 + K4, G1 - K4);
    // SAFETY: one thread.
    let mut cursor = unsafe { table.unmap(&arena, Iova(start), len) }.unwrap();
    let mut rounds = 0;
    let mut reached = start;
    while cursor.next(&mut gather) {
        rounds += 1;
        let range = gather.range();
        assert_eq!(range.start, reached, "no gap between rounds");
        reached = range.end;
        // Exactly what was gathered is unmapped, in the walker's view, and nothing is freed yet.
        assert_eq!(arena.walk(&table, range.end - 1), None);
        let next = arena.walk(&table, range.end).map(|found| found.0);
        assert_eq!(next, (range.end != 2 * G1).then_some(range.end + K4));
        assert_eq!(cursor.unmapped(), range.end - start);
        let live = arena.live();
        let tables = gather.tables().len();
        assert!(tables == 4 && gather.is_full() || cursor.is_done());
        // SAFETY: there is no hardware.
        unsafe { gather.free_tables(&arena) };
        assert_eq!(arena.live(), live - tables);
        assert!(gather.tables().is_empty() && !gather.is_empty());
        gather.clear();
    }
    // 511 tables: 127 rounds of four and one of three.
    assert_eq!(rounds, 128);
    assert_eq!((reached, cursor.unmapped()), (2 * G1, len));
    assert_eq!(arena.live(), 2 + 1 + 1);
    assert_eq!(arena.walk(&table, G1).unwrap().0, G1 + K4);
    destroy(table, &arena);
}

#[test]
fn a_full_gather_that_is_not_cleared_stays_as_it_is() {
    let (arena, table) = setup();
    map_pages(&table, &arena, K4, 6 * M2);
    let mut gather = Gather::<4>::sized();
    // SAFETY: one thread.
    let mut cursor = unsafe { table.unmap(&arena, Iova(K4), 7 * M2) }.unwrap();
    assert!(cursor.next(&mut gather));
    let (before, image) = (round(&gather), arena.image());
    assert!(cursor.next(&mut gather) && !cursor.is_done());
    assert_eq!(round(&gather), before);
    assert_eq!(arena.image(), image);
    // Dropping the cursor leaves the rest mapped; copies of the tables can be freed by themselves.
    let kept = gather.tables().to_vec();
    gather.clear();
    for table in kept {
        assert_eq!(table.size(), 0x1000);
        // SAFETY: there is no hardware, and the gather has forgotten them.
        unsafe { table.free(&arena) };
    }
    assert_eq!(arena.walk(&table, before.range.end).unwrap().0, before.range.end + K4);
    destroy(table, &arena);
}

#[test]
fn several_unmaps_may_share_a_gather() {
    let (arena, table) = setup();
    map_pages(&table, &arena, 0, 8 * K4);
    let mut gather = Gather::new();
    assert!(gather.is_empty() && gather.range() == (0..0));
    for page in [5, 2] {
        // SAFETY: one thread.
        assert!(unsafe { table.unmap(&arena, Iova(page * K4), K4) }.unwrap().next(&mut gather));
    }
    let expected = Round { range: 2 * K4..6 * K4, leaf_size: Some(K4), tables: vec![] };
    assert_eq!(round(&gather), expected);
    assert_eq!(arena.walk(&table, 3 * K4).unwrap().0, 4 * K4);
}

#[cfg(feature = "fast-paths")]
#[test]
fn a_part_of_one_table_is_unmapped_at_once_and_all_else_is_left_alone() {
    let (arena, table) = setup();
    let at_once = |iova, len| {
        let mut gather = Gather::<4>::sized();
        // SAFETY: one thread.
        let bytes = unsafe { table.unmap_pages(&arena, Iova(iova), len, &mut gather) };
        (bytes, gather.range(), gather.leaf_size())
    };
    map(&table, &arena, M2, M2, M2);
    map_pages(&table, &arena, 2 * M2, 2 * M2);
    let image = arena.image();
    // In a block; a whole table; over two tables; nothing; unaligned; beyond the input.
    for (iova, len) in [
        (M2 + K4, K4),
        (M2, M2),
        (2 * M2, M2),
        (3 * M2 - K4, 2 * K4),
        (3 * M2, 0),
        (3 * M2, 1),
        (3 * M2 + 1, K4),
        ((1 << 48) + 2 * M2, K4),
        (u64::MAX - 0xFFF, K4),
        (u64::MAX - 0xFFF, 2 * K4),
    ] {
        assert_eq!(at_once(iova, len), (None, 0..0, None), "{iova:#x}");
    }
    assert_eq!(arena.image(), image);
    assert_eq!(at_once(G1, K4), (Some(0), 0..0, None));
    let (iova, len) = (2 * M2 + K4, 511 * K4);
    assert_eq!(at_once(iova + 8 * K4, K4).0, Some(K4));
    assert_eq!(at_once(iova, 16 * K4), (Some(15 * K4), iova..iova + 16 * K4, Some(K4)));
    assert_eq!(at_once(iova, 17 * K4), (Some(K4), iova + 16 * K4..iova + 17 * K4, Some(K4)));
    assert_eq!(at_once(iova, len), (Some(494 * K4), iova + 17 * K4..iova + len, Some(K4)));
    assert_eq!(at_once(iova, len), (Some(0), 0..0, None));
    assert_eq!(arena.walk(&table, 2 * M2).unwrap().0, 2 * M2 + K4);
    assert_eq!(arena.walk(&table, 3 * M2).unwrap().0, 3 * M2 + K4);
    destroy(table, &arena);
}

#[test]
fn reclaim_unlinks_empty_tables_and_no_others() {
    let (arena, table) = setup();
    // In one level-2 table: pages that are unmapped singly, pages that stay, a block that stays.
    map_pages(&table, &arena, 0, K4);
    map_pages(&table, &arena, M2, K4);
    map_pages(&table, &arena, 2 * M2 + 511 * K4, K4);
    map(&table, &arena, 4 * M2, 0, M2);
    // A level-2 table and a level-1 table that become empty as a whole.
    map_pages(&table, &arena, 5 * G1, 4 * M2);
    map_pages(&table, &arena, 3 * G512 + 7 * G1, K4);
    map_pages(&table, &arena, 3 * G512 + 9 * G1, K4);
    for iova in [0, M2, 3 * G512 + 7 * G1, 3 * G512 + 9 * G1] {
        unmap::<4, _, _, _>(&table, &arena, iova, K4).unwrap();
    }
    for iova in (5 * G1..5 * G1 + 4 * M2).step_by(0x1000) {
        unmap::<4, _, _, _>(&table, &arena, iova, K4).unwrap();
    }
    assert_eq!(arena.live(), 2 + 1 + 3 + 1 + 4 + 1 + 2 + 2);
    // A table that is only in part in the range stays: a neighbour may be using it.
    assert_eq!(reclaim(&table, &arena, K4, M2 - K4), []);
    assert_eq!(reclaim(&table, &arena, 0, M2 - K4), []);
    let rounds = reclaim(&table, &arena, 0, M2);
    assert_eq!(rounds.len(), 1);
    assert_eq!((rounds[0].range.clone(), rounds[0].leaf_size), (0..M2, None));
    assert_eq!(rounds[0].tables.len(), 1);
    // All the rest, in steps.
    let rounds = reclaim(&table, &arena, 0, 1 << 48);
    let mut levels: Vec<u32> =
        rounds.iter().flat_map(|r| r.tables.iter().map(|&(_, level)| level)).collect();
    levels.sort_unstable();
    assert_eq!(levels, [1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3]);
    // Root, level 1, level 2, and the table of the page that stayed.
    assert_eq!(arena.live(), 4);
    assert_eq!(arena.walk(&table, 3 * M2 - K4).unwrap().0, 3 * M2);
    assert_eq!(arena.walk(&table, 4 * M2).unwrap().1, M2);
    assert_eq!(reclaim(&table, &arena, 0, 1 << 48), []);
    // Where a table was, a block fits again.
    map(&table, &arena, 5 * G1, 0, G1);
    assert_eq!(arena.walk(&table, 5 * G1).unwrap().1, G1);
    destroy(table, &arena);
}

#[test]
fn reclaim_of_a_table_that_starts_at_level_1_keeps_the_root() {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::new(&arena, 32, 48).unwrap();
    map_pages(&table, &arena, 0, 4 * G1);
    for gib in 0..4 {
        // Each page but one by itself, so that tables stay.
        for iova in (gib * G1..(gib + 1) * G1).step_by(M2 as usize) {
            unmap::<4, _, _, _>(&table, &arena, iova, K4).unwrap();
            unmap::<4, _, _, _>(&table, &arena, iova + K4, M2 - K4).unwrap();
        }
    }
    assert_eq!(arena.live(), 1 + 4 + 4 * 512);
    let rounds = reclaim(&table, &arena, 0, 4 * G1);
    assert_eq!(rounds.iter().map(|round| round.tables.len()).sum::<usize>(), 4 + 4 * 512);
    assert_eq!(arena.live(), 1);
    destroy(table, &arena);
}

#[test]
fn destroy_frees_every_table() {
    let (arena, table) = setup();
    for (iova, len) in [(0, K4), (G1, 3 * G1), (9 * G512 + K4, 5 * M2)] {
        map_pages(&table, &arena, iova, len);
    }
    assert!(arena.live() > 1500);
    destroy(table, &arena);
}
