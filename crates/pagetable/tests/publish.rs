// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where walks are not coherent: `publish` is called for every store that the walker reads, in the order in which it must
//! see them, and not once more; also when two CPUs want the same new table.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use common::{Arena, unmap};
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const M2: u64 = 0x20_0000;
const G1: u64 = 0x4000_0000;
/// Frames are given out from here on, upwards: the root is the first.
const BASE: u64 = 0x8000_0000;

const fn frame(nth: u64) -> u64 {
    BASE + nth * K4
}

fn setup() -> (Arc<Arena>, Arc<Stage1Table4K>) {
    let arena = Arena::new(BASE);
    let table = Stage1Table4K::new(&arena, 48, 48).unwrap();
    assert_eq!(arena.take_log(), [(frame(0), 4096)]);
    (Arc::new(arena), Arc::new(table))
}

/// Maps one page, to the address that it is input with.
fn map_page(table: &Stage1Table4K, arena: &Arena, iova: u64) {
    // SAFETY: each address is one CPU's, and the memory nobody's.
    unsafe { table.map(arena, Iova(iova), PhysAddr(iova), K4, RW) }.unwrap();
    // When a map returns, walks find it, whoever made the tables.
    assert_eq!(arena.walk(table, iova).map(|found| found.0), Some(iova));
}

#[test]
fn a_new_table_is_published_before_its_descriptor_and_a_run_once() {
    let (arena, table) = setup();
    map_page(&table, &arena, G1 + M2 + 5 * K4);
    // For each level the zeros, then the descriptor that leads there; at last the page's.
    let expected = [
        (frame(1), 4096),
        (frame(0), 8),
        (frame(2), 4096),
        (frame(1) + 8, 8),
        (frame(3), 4096),
        (frame(2) + 8, 8),
        (frame(3) + 5 * 8, 8),
    ];
    assert_eq!(arena.take_log(), expected);
    // A run in a table that is there: one call, whatever its length.
    // SAFETY: one thread, here and below.
    unsafe { table.map(&*arena, Iova(G1 + M2 + 6 * K4), PhysAddr(0), 7 * K4, RW) }.unwrap();
    assert_eq!(arena.take_log(), [(frame(3) + 6 * 8, 7 * 8)]);
    // SAFETY: as above.
    unsafe { table.map(&*arena, Iova(G1 + 4 * M2), PhysAddr(0), 3 * M2, RW) }.unwrap();
    assert_eq!(arena.take_log(), [(frame(2) + 4 * 8, 3 * 8)]);
    // What was found there is not touched, and not published: only what was stored before it.
    // SAFETY: as above.
    let error = unsafe { table.map(&*arena, Iova(G1 + M2 + 3 * K4), PhysAddr(0), 3 * K4, RW) };
    assert_eq!(error.unwrap_err().mapped, 2 * K4);
    assert_eq!(arena.take_log(), [(frame(3) + 3 * 8, 2 * 8)]);
    // SAFETY: as above.
    let error = unsafe { table.map(&*arena, Iova(G1 + M2 + 3 * K4), PhysAddr(0), K4, RW) };
    assert!(error.is_err());
    assert_eq!((arena.take_log(), arena.wasted(), arena.unpublished()), (vec![], vec![], vec![]));
}

#[test]
fn what_is_cleared_or_unlinked_is_published_once_a_table() {
    let (arena, table) = setup();
    for page in [1, 2, 4] {
        map_page(&table, &arena, page * K4);
    }
    map_page(&table, &arena, M2);
    map_page(&table, &arena, 3 * M2);
    arena.take_log();
    // From the first to the last that was mapped, with the hole between them.
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, 0, 100 * K4).unwrap().0, 3 * K4);
    assert_eq!(arena.take_log(), [(frame(3) + 8, 4 * 8)]);
    // Nothing mapped, nothing stored, nothing published.
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, 0, 100 * K4).unwrap().0, 0);
    assert_eq!(arena.take_log(), []);
    // Tables that are unlinked by one call, with the hole between them: their descriptors, and nothing of their own.
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, M2, 3 * M2).unwrap().0, 2 * K4);
    assert_eq!(arena.take_log(), [(frame(2) + 8, 3 * 8)]);
    // An empty one: its descriptor.
    let mut gather = Gather::<4>::sized();
    // SAFETY: one thread.
    let mut cursor = unsafe { table.reclaim(&*arena, Iova(0), M2) }.unwrap();
    while cursor.next(&mut gather) {
        // SAFETY: no hardware.
        unsafe { gather.free_tables(&*arena) };
        gather.clear();
    }
    assert_eq!(arena.take_log(), [(frame(2), 8)]);
    assert_eq!((arena.wasted(), arena.unpublished()), (vec![], vec![]));
}

/// Two CPUs map pages that need the same last-level table, `MINE` and `OTHERS`; the levels above are there.
const MINE: u64 = 7 * K4;
const OTHERS: u64 = 9 * K4;

/// As [`setup`], with tables down to level 2, whose descriptor at 0 is to lead to the new table.
fn above() -> (Arc<Arena>, Arc<Stage1Table4K>) {
    let (arena, table) = setup();
    map_page(&table, &arena, M2);
    arena.take_log();
    (arena, table)
}

/// The descriptor of the new table, and the frames of whoever allocates first and second.
const LINK: (u64, usize) = (frame(2), 8);
const FIRST: u64 = frame(4);
const SECOND: u64 = frame(5);

const fn leaf(table: u64, iova: u64) -> (u64, usize) {
    (table + iova / K4 * 8, 8)
}

/// Runs `other` once, when `at` is about to be published.
fn once_at(arena: &Arena, at: (u64, usize), other: impl Fn() + Send + Sync + 'static) {
    let count = AtomicU64::new(0);
    arena.on_publish(move |pa, bytes| {
        if (pa, bytes) == at && count.fetch_add(1, Ordering::Relaxed) == 0 {
            other();
        }
    });
}

#[test]
fn who_comes_too_late_with_a_new_table_publishes_nothing_of_it_any_more() {
    let (arena, table) = above();
    // The other CPU maps from start to end while this one has its table ready, and not linked.
    let (theirs, tables) = (Arc::downgrade(&arena), table.clone());
    once_at(&arena, (FIRST, 4096), move || {
        map_page(&tables, &theirs.upgrade().unwrap(), OTHERS);
    });
    map_page(&table, &arena, MINE);
    // The loser's table was published before it could be linked. Afterwards: its page, in the winner's table, which is
    // known to be published.
    let expected = [(FIRST, 4096), (SECOND, 4096), LINK, leaf(SECOND, OTHERS), leaf(SECOND, MINE)];
    assert_eq!(arena.take_log(), expected);
    assert_eq!((arena.wasted(), arena.unpublished()), (vec![], vec![]));
    assert_eq!(arena.live(), 5, "the loser's table was freed");
}

#[test]
fn who_finds_a_table_that_is_linked_and_not_published_publishes_its_descriptor() {
    let (arena, table) = above();
    // The other CPU comes between the store and the publication of the descriptor.
    let (theirs, tables) = (Arc::downgrade(&arena), table.clone());
    once_at(&arena, LINK, move || map_page(&tables, &theirs.upgrade().unwrap(), OTHERS));
    map_page(&table, &arena, MINE);
    // The descriptor twice: it cannot be known that the other's call has come to its end.
    let expected = [(FIRST, 4096), LINK, LINK, leaf(FIRST, OTHERS), leaf(FIRST, MINE)];
    assert_eq!(arena.take_log(), expected);
    assert_eq!(arena.wasted(), [], "none of them when it was called");
    assert_eq!(arena.unpublished(), []);
}

#[test]
fn who_loses_to_a_table_that_is_not_published_yet_publishes_its_descriptor_and_no_more() {
    let (arena, table) = above();
    let (ready, is_ready) = channel();
    let (linked, is_linked) = channel();
    let (done, is_done) = channel();
    // One lock each: who waits holds it.
    let gates = [is_linked, is_done].map(std::sync::Mutex::new);
    let loser = thread::current().id();
    arena.on_publish(move |pa, bytes| {
        let mine = thread::current().id() == loser;
        match (pa, bytes) {
            // This CPU has its table ready, and waits until the other one has linked its own.
            (FIRST, 4096) if mine => {
                ready.send(()).unwrap();
                gates[0].lock().unwrap().recv().unwrap();
            }
            // The other has linked, and stops before it can publish that, until this one has returned.
            LINK if !mine => {
                linked.send(()).unwrap();
                gates[1].lock().unwrap().recv().unwrap();
            }
            _ => {}
        }
    });
    let winner = {
        let (arena, table) = (arena.clone(), table.clone());
        thread::spawn(move || {
            is_ready.recv().unwrap();
            map_page(&table, &arena, OTHERS);
        })
    };
    map_page(&table, &arena, MINE);
    let expected = [(FIRST, 4096), (SECOND, 4096), LINK, LINK, leaf(SECOND, MINE)];
    assert_eq!(arena.take_log(), expected);
    done.send(()).unwrap();
    winner.join().unwrap();
    assert_eq!(arena.take_log(), [leaf(SECOND, OTHERS)]);
    assert_eq!(arena.unpublished(), []);
    assert_eq!(arena.live(), 5);
}

/// The fake can tell: a store that is not published, and a publication of nothing new.
#[test]
fn what_is_forgotten_and_what_is_done_twice_is_noticed() {
    let (arena, table) = setup();
    map_page(&table, &arena, 0);
    assert_eq!((arena.unpublished(), arena.wasted()), (vec![], vec![]));
    arena.publish(PhysAddr(frame(3)), 8);
    assert_eq!(arena.wasted(), [(frame(3), 8)]);
    let cell = arena.pointer(PhysAddr(frame(3) + 8)).cast::<AtomicU64>();
    // SAFETY: a descriptor of a live table.
    unsafe { cell.as_ref() }.store(0x1000_0703, Ordering::Relaxed);
    assert_eq!(arena.unpublished(), [frame(3) + 8]);
    // One that begins before what was stored is more than is needed.
    arena.publish(PhysAddr(frame(3)), 16);
    assert_eq!((arena.unpublished(), arena.wasted().len()), (vec![], 2));
}
