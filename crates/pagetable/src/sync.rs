// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a table is linked while other threads link one to the same place.
//!
//! The one shared store of a map is the descriptor of an intermediate table. Whoever exchanges zero for
//! it wins; the others use the winner's table. Where table walks are not coherent the winner's store may
//! still sit in a cache when another thread sees it, maps below it and returns: the walker would then
//! fault on a mapping that was reported done. So the winner sets [`SYNCED`] *after* it has published the
//! descriptor, and whoever meets a table descriptor without that bit publishes it before going on.
//!
//! A map that fills a whole level-3 table exchanges the mark for [`FULL`]: then an unmap of the whole knows how much it
//! unmaps without reading it. An unmap of a part exchanges it back before it clears anything. The range of either is the
//! caller's alone, so that no other call works below that descriptor while it is marked; several unmaps of parts may
//! exchange the mark back at once. Without the feature `fast-paths` nothing is marked so.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::FAST;
use crate::leaf::is_table;

/// Software bit of our table descriptors: the descriptor has been published. Bits 58:51 of a table
/// descriptor are ignored by the hardware (§15.2).
pub const SYNCED: u64 = 1 << 55;

/// Software bit of our descriptors of level-3 tables, in the place of [`SYNCED`]: the descriptor has been published, and
/// every entry of the table is a page. Only with the feature `fast-paths`.
pub const FULL: u64 = 1 << 56;

/// A 64-bit descriptor in memory that other threads and the hardware may read.
///
/// A trait only so that the protocol can be run on a checker's atomics.
pub(crate) trait Cell {
    /// Exchanges `old` for `value`, releasing what was stored before, or gives what is there.
    fn replace(&self, old: u64, value: u64) -> Result<(), u64>;
    /// Sets bits, releasing what was done before.
    fn set(&self, bits: u64);
}

impl Cell for AtomicU64 {
    fn replace(&self, old: u64, value: u64) -> Result<(), u64> {
        // Release: the SMMU and other threads must see the zeroed table before the descriptor that
        // points to it. Acquire on failure: we are about to read the winner's table.
        self.compare_exchange(old, value, Ordering::Release, Ordering::Acquire).map(drop)
    }

    fn set(&self, bits: u64) {
        self.fetch_or(bits, Ordering::Release);
    }
}

/// Links `table`, a descriptor without [`SYNCED`] of a table whose content has been published, in the place of `old`:
/// nothing, or a block that the table says the same as.
///
/// `Err` is what is there instead: the descriptor of whoever was first, which is published too, or a block that has
/// changed. `publish` publishes the cell.
pub(crate) fn install<C: Cell>(
    cell: &C,
    old: u64,
    table: u64,
    publish: impl Fn(),
) -> Result<(), u64> {
    match cell.replace(old, table) {
        Ok(()) => {
            publish();
            cell.set(SYNCED);
            Ok(())
        }
        Err(found) => {
            if is_table(found) {
                settle(found, publish);
            }
            Err(found)
        }
    }
}

/// Makes sure that the walker sees the table descriptor `found`, before the caller relies on it.
#[inline(always)]
pub(crate) fn settle(found: u64, publish: impl Fn()) {
    if found & (SYNCED | FULL) == 0 {
        publish();
    }
}

/// Marks the descriptor `found` of a table, all of whose entries the caller has stored, as that of a full one.
#[inline]
pub(crate) fn close<C: Cell>(cell: &C, found: u64) {
    // SYNCED is always set here, since whoever links a table sets it before returning. If the exchange fails the
    // descriptor has changed, and to leave FULL unset is always safe.
    if found & SYNCED != 0 {
        let _ = cell.replace(found, found ^ (SYNCED | FULL));
    }
}

/// Whether the descriptor `found` of a level-3 table says that it is full.
#[inline(always)]
pub(crate) const fn is_full(found: u64) -> bool {
    FAST && found & FULL != 0
}

/// Takes [`FULL`] back, before an entry of the table is cleared.
#[inline]
pub(crate) fn open<C: Cell>(cell: &C, found: u64) {
    if found & FULL != 0 {
        // If the exchange fails, another unmap of a part has taken the mark back already.
        let _ = cell.replace(found, found ^ (SYNCED | FULL));
    }
}

#[cfg(all(test, loom))]
mod tests {
    //! Two threads map below the same missing table, where walks are not coherent: a store is seen by
    //! the walker only once it has been published.

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::thread;

    use super::{Cell, FULL, SYNCED, install, open, settle};

    impl Cell for AtomicU64 {
        fn replace(&self, old: u64, value: u64) -> Result<(), u64> {
            self.compare_exchange(old, value, Ordering::Release, Ordering::Acquire).map(drop)
        }

        fn set(&self, bits: u64) {
            self.fetch_or(bits, Ordering::Release);
        }
    }

    const TABLES: [u64; 2] = [0x1003, 0x2003];

    /// The CPU's memory, and what of it the walker sees.
    #[derive(Default)]
    struct Machine {
        entry: AtomicU64,
        walker_entry: AtomicU64,
        /// Whether the zeros of each mapper's table are published.
        walker_zeros: [AtomicU64; 2],
    }

    impl Machine {
        /// A cache clean, which is complete before whatever follows.
        fn publish(&self) {
            self.walker_entry.store(self.entry.load(Ordering::Relaxed), Ordering::Release);
        }

        /// What a walk sees must be a table, with its zeros.
        fn walk(&self) -> bool {
            let seen = self.walker_entry.load(Ordering::Acquire) & !SYNCED;
            let Some(table) = TABLES.iter().position(|&table| table == seen) else {
                assert_eq!(seen, 0);
                return false;
            };
            assert_eq!(self.walker_zeros[table].load(Ordering::Relaxed), 1, "no zeros");
            true
        }
    }

    type Install = fn(&Machine, u64);

    /// As `map_run` and `add_table` do it.
    fn real(machine: &Machine, table: u64) {
        let found = machine.entry.load(Ordering::Acquire);
        if found == 0 {
            let _ = install(&machine.entry, 0, table, || machine.publish());
        } else {
            settle(found, || machine.publish());
        }
    }

    /// Goes on with a table that it found, published or not.
    fn trusting(machine: &Machine, table: u64) {
        if machine.entry.load(Ordering::Acquire) == 0 {
            let _ = install(&machine.entry, 0, table, || machine.publish());
        }
    }

    /// Says that it has published, then publishes.
    fn early(machine: &Machine, table: u64) {
        let found = machine.entry.load(Ordering::Acquire);
        if found != 0 {
            settle(found, || machine.publish());
        } else if let Err(winner) = machine.entry.replace(0, table | SYNCED) {
            settle(winner, || machine.publish());
        } else {
            machine.publish();
        }
    }

    fn race(install: Install) {
        loom::model(move || {
            let machine = Arc::new(Machine::default());
            let mapper = |me: usize| {
                let machine = machine.clone();
                move || {
                    machine.walker_zeros[me].store(1, Ordering::Relaxed);
                    install(&machine, TABLES[me]);
                    assert!(machine.walk(), "mapped, but the walker does not see it");
                }
            };
            let threads = [thread::spawn(mapper(0)), thread::spawn(mapper(1))];
            machine.walk();
            for thread in threads {
                thread.join().expect("a mapper failed");
            }
            assert!(machine.entry.load(Ordering::Relaxed) & SYNCED != 0);
        });
    }

    #[test]
    fn loom_a_map_that_returned_is_seen_by_the_walker() {
        race(real);
    }

    #[test]
    #[should_panic(expected = "the walker does not see it")]
    fn loom_without_settling_a_map_returns_too_early() {
        race(trusting);
    }

    #[test]
    #[should_panic(expected = "the walker does not see it")]
    fn loom_a_mark_set_before_publishing_is_too_early() {
        race(early);
    }

    /// Two callers each unmap a part of a full table, which nobody may then take for a full one.
    fn race_to_open(open: fn(&AtomicU64, u64)) {
        loom::model(move || {
            let entry = Arc::new(AtomicU64::new(TABLES[0] | FULL));
            let part = || {
                let entry = entry.clone();
                move || {
                    open(&entry, entry.load(Ordering::Acquire));
                    let found = entry.load(Ordering::Acquire);
                    assert_eq!(found, TABLES[0] | SYNCED, "marked while it has a hole");
                }
            };
            let threads = [thread::spawn(part()), thread::spawn(part())];
            for thread in threads {
                thread.join().expect("marked while it has a hole");
            }
        });
    }

    #[test]
    fn loom_a_full_table_that_two_open_stays_open() {
        race_to_open(|entry, found| open(entry, found));
    }

    #[test]
    #[should_panic(expected = "marked while it has a hole")]
    fn loom_marks_that_are_turned_without_looking_come_back() {
        race_to_open(|entry, found| {
            if found & FULL != 0 {
                entry.fetch_xor(SYNCED | FULL, Ordering::AcqRel);
            }
        });
    }

    /// A block, and its flag that hardware sets.
    const BLOCK: u64 = 0x4001;
    const WRITTEN: u64 = 1 << 10;

    /// Two callers split one block, which hardware marks as written meanwhile. `swap` puts a table made from what was
    /// found in its place.
    fn race_to_split(swap: fn(&Machine, u64, u64) -> Result<(), u64>) {
        let mut model = loom::model::Builder::new();
        // With three threads, all interleavings of at most two preemptions.
        model.preemption_bound = Some(2);
        model.check(move || {
            let machine = Arc::new(Machine::default());
            machine.entry.store(BLOCK, Ordering::Relaxed);
            machine.walker_entry.store(BLOCK, Ordering::Relaxed);
            let splitter = |me: usize| {
                let machine = machine.clone();
                move || {
                    let mut found = machine.entry.load(Ordering::Acquire);
                    while found & 2 == 0 {
                        // What the leaves say, and that they are there.
                        machine.walker_zeros[me].store(found, Ordering::Relaxed);
                        match swap(&machine, found, TABLES[me]) {
                            Ok(()) => return,
                            Err(value) => found = value,
                        }
                    }
                    settle(found, || machine.publish());
                }
            };
            let other = thread::spawn(splitter(0));
            let written = {
                let machine = machine.clone();
                thread::spawn(move || machine.entry.replace(BLOCK, BLOCK | WRITTEN).is_ok())
            };
            splitter(1)();
            // Whoever has returned has a table, and the walker sees it.
            let seen = machine.walker_entry.load(Ordering::Acquire) & !SYNCED;
            let table = TABLES.iter().position(|&table| table == seen);
            let table = table.expect("split, but the walker does not see it");
            other.join().expect("a split failed");
            let written = written.join().expect("hardware does not panic");
            let said = machine.walker_zeros[table].load(Ordering::Relaxed);
            assert_eq!(said & WRITTEN != 0, written, "what hardware wrote is lost");
            let entry = machine.entry.load(Ordering::Relaxed);
            assert_eq!(entry, TABLES[table] | SYNCED, "not the table that was seen");
        });
    }

    #[test]
    fn loom_one_of_two_tables_takes_the_place_of_a_block_as_hardware_left_it() {
        race_to_split(|machine, found, table| {
            install(&machine.entry, found, table, || machine.publish())
        });
    }

    #[test]
    #[should_panic(expected = "not the table that was seen")]
    fn loom_a_block_that_is_overwritten_leads_to_two_tables_in_turn() {
        race_to_split(|machine, _, table| {
            machine.entry.store(table, Ordering::Release);
            machine.publish();
            machine.entry.set(SYNCED);
            Ok(())
        });
    }
}
