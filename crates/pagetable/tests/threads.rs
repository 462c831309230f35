// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads on disjoint ranges of one table, without a lock.

mod common;

use std::sync::Barrier;
use std::thread;

use common::{Arena, unmap};
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const M2: u64 = 0x20_0000;
const G1: u64 = 0x4000_0000;
const THREADS: u64 = 4;

fn pages(iova: u64, len: u64) -> impl Iterator<Item = u64> {
    (iova..iova + len).step_by(0x1000)
}

fn check(table: &Stage1Table4K, arena: &Arena, iova: u64, pa: Option<u64>) {
    // What a map that returned has stored, the walker must see: also below a table of another thread.
    assert_eq!(arena.walk(table, iova).map(|found| found.0), pa);
    // SAFETY: only the owner of the range looks.
    let found = unsafe { table.lookup(arena, Iova(iova)) };
    assert_eq!(found.map(|found| found.pa.0), pa);
}

#[test]
fn neighbours_in_one_table_do_not_disturb_each_other() {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::new(&arena, 48, 48).unwrap();
    let (table, arena) = (&table, &arena);
    let own = |me: u64| (G1 + me * 13 * K4, 13 * K4);
    thread::scope(|scope| {
        for me in 0..THREADS {
            scope.spawn(move || {
                let (iova, len) = own(me);
                for turn in 0..300 {
                    let pa = (me << 32) + turn * K4;
                    // SAFETY: the range is this thread's.
                    unsafe { table.map(arena, Iova(iova), PhysAddr(pa), len, RW) }.unwrap();
                    for page in pages(iova, len) {
                        check(table, arena, page, Some(page - iova + pa));
                    }
                    let (unmapped, _) = unmap::<4, _, _, _>(table, arena, iova, len).unwrap();
                    assert_eq!(unmapped, len);
                    check(table, arena, iova + len - K4, None);
                }
                // SAFETY: as above.
                unsafe { table.map(arena, Iova(iova), PhysAddr(me << 32), len, RW) }.unwrap();
            });
        }
    });
    for me in 0..THREADS {
        let (iova, len) = own(me);
        for page in pages(iova, len) {
            check(table, arena, page, Some((me << 32) + page - iova));
        }
    }
    check(table, arena, G1 - K4, None);
    check(table, arena, G1 + THREADS * 13 * K4, None);
    assert_eq!(arena.live(), 4);
}

#[test]
fn threads_that_need_the_same_table_agree_on_one() {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::new(&arena, 48, 48).unwrap();
    let barrier = Barrier::new(THREADS as usize);
    {
        let (table, arena, barrier) = (&table, &arena, &barrier);
        thread::scope(|scope| {
            for me in 0..THREADS {
                scope.spawn(move || {
                    for turn in 0..200 {
                        let iova = turn * G1 + me * K4;
                        barrier.wait();
                        // SAFETY: the range is this thread's.
                        unsafe { table.map(arena, Iova(iova), PhysAddr(iova), K4, RW) }.unwrap();
                        check(table, arena, iova, Some(iova));
                    }
                });
            }
        });
    }
    for turn in 0..200 {
        for me in 0..THREADS {
            check(&table, &arena, turn * G1 + me * K4, Some(turn * G1 + me * K4));
        }
    }
    // One root, one level 1, a level 2 and a level 3 a turn: what the losers made is freed.
    assert_eq!(arena.live(), 2 + 200 * 2);
}

#[test]
fn tables_are_unlinked_beside_threads_that_map() {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::new(&arena, 48, 48).unwrap();
    {
        let (table, arena) = (&table, &arena);
        thread::scope(|scope| {
            for me in 0..THREADS {
                scope.spawn(move || {
                    // Ends inside the tables of both neighbours, and has two tables for itself.
                    let iova = G1 - 6 * M2 + me * 3 * M2 + 5 * K4;
                    let len = 3 * M2;
                    for turn in 0..60 {
                        let pa = (me << 32) + (turn % 2) * K4;
                        // SAFETY: the range is this thread's.
                        unsafe { table.map(arena, Iova(iova), PhysAddr(pa), len, RW) }.unwrap();
                        for page in pages(iova, len).step_by(37) {
                            check(table, arena, page, Some(page - iova + pa));
                        }
                        let (unmapped, _) = unmap::<4, _, _, _>(table, arena, iova, len).unwrap();
                        assert_eq!(unmapped, len);
                    }
                });
            }
        });
    }
    let (unmapped, _) = unmap::<4, _, _, _>(&table, &arena, 0, 1 << 48).unwrap();
    assert_eq!((unmapped, arena.live()), (0, 1));
}
