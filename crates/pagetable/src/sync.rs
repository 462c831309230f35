// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a table is linked while other threads link one to the same place.
//!
//! The one shared store of a map is the descriptor of an intermediate table. Whoever exchanges zero for
//! it wins; the others use the winner's table. Where table walks are not coherent the winner's store may
//! still sit in a cache when another thread sees it, maps below it and returns: the walker would then
//! fault on a mapping that was reported done. So the winner sets [`SYNCED`] *after* it has published the
//! descriptor, and whoever meets a table descriptor without that bit publishes it before going on.

use core::sync::atomic::{AtomicU64, Ordering};

/// Software bit of our table descriptors: the descriptor has been published. Bits 58:51 of a table
/// descriptor are ignored by the hardware (§15.2).
pub const SYNCED: u64 = 1 << 55;

/// A 64-bit descriptor in memory that other threads and the hardware may read.
///
/// A trait only so that the protocol can be run on a checker's atomics.
pub(crate) trait Cell {
    /// Exchanges zero for `value`, releasing what was stored before, or gives what is there.
    fn replace_zero(&self, value: u64) -> Result<(), u64>;
    /// Sets bits, releasing what was done before.
    fn set(&self, bits: u64);
}

impl Cell for AtomicU64 {
    fn replace_zero(&self, value: u64) -> Result<(), u64> {
        // Release: the SMMU and other threads must see the zeroed table before the descriptor that
        // points to it. Acquire on failure: we are about to read the winner's table.
        self.compare_exchange(0, value, Ordering::Release, Ordering::Acquire).map(drop)
    }

    fn set(&self, bits: u64) {
        self.fetch_or(bits, Ordering::Release);
    }
}

/// Links `table`, a descriptor without [`SYNCED`] of a table whose content has been published.
///
/// `Err` is the descriptor of whoever was first; it is published too. `publish` publishes the cell.
pub(crate) fn install<C: Cell>(cell: &C, table: u64, publish: impl Fn()) -> Result<(), u64> {
    match cell.replace_zero(table) {
        Ok(()) => {
            publish();
            cell.set(SYNCED);
            Ok(())
        }
        Err(winner) => {
            settle(winner, publish);
            Err(winner)
        }
    }
}

/// Before a table descriptor that was found is relied on: makes sure that the walker sees it.
#[inline(always)]
pub(crate) fn settle(found: u64, publish: impl Fn()) {
    if found & SYNCED == 0 {
        publish();
    }
}

#[cfg(all(test, loom))]
mod tests {
    //! Two threads map below the same missing table, where walks are not coherent: a store is seen by
    //! the walker only once it has been published.

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::thread;

    use super::{Cell, SYNCED, install, settle};

    impl Cell for AtomicU64 {
        fn replace_zero(&self, value: u64) -> Result<(), u64> {
            self.compare_exchange(0, value, Ordering::Release, Ordering::Acquire).map(drop)
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
            let _ = install(&machine.entry, table, || machine.publish());
        } else {
            settle(found, || machine.publish());
        }
    }

    /// Goes on with a table that it found, published or not.
    fn trusting(machine: &Machine, table: u64) {
        if machine.entry.load(Ordering::Acquire) == 0 {
            let _ = install(&machine.entry, table, || machine.publish());
        }
    }

    /// Says that it has published, then publishes.
    fn early(machine: &Machine, table: u64) {
        let found = machine.entry.load(Ordering::Acquire);
        if found != 0 {
            settle(found, || machine.publish());
        } else if let Err(winner) = machine.entry.replace_zero(table | SYNCED) {
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
}
