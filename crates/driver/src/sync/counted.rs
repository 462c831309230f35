// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shuttle's atomics, which count what is done with them: the cost of an algorithm, whatever it runs on.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use shuttle::sync::atomic as shuttled;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Read-modify-writes.
    pub(crate) changes: u64,
    /// Compare-and-exchanges among them that found another value.
    pub(crate) refused: u64,
    /// Fences.
    pub(crate) fences: u64,
    /// Turns in which one waits for another CPU with interrupts masked.
    pub(crate) turns: u64,
}

std::thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { changes: 0, refused: 0, fences: 0, turns: 0 }) };
}

/// What was done since the last call.
#[cfg(test)]
pub(crate) fn take_counts() -> Counts {
    COUNTS.take()
}

/// Goes on from what [`take_counts`] returned: what was done since then is not counted.
#[cfg(test)]
pub(crate) fn put_back(counts: Counts) {
    COUNTS.set(counts);
}

fn count(change: impl FnOnce(&mut Counts)) {
    let mut counts = COUNTS.get();
    change(&mut counts);
    COUNTS.set(counts);
}

/// One turn of a loop that waits for another CPU, which has interrupts masked.
pub(crate) fn pause() {
    count(|counts| counts.turns += 1);
    shuttle::hint::spin_loop();
}

pub(crate) fn fence(order: Ordering) {
    count(|counts| counts.fences += 1);
    shuttled::fence(order);
}

macro_rules! counted {
    ($name:ident$(<$parameter:ident>)?, $value:ty, $($operation:ident),*) => {
        pub(crate) struct $name$(<$parameter>)?(shuttled::$name$(<$parameter>)?);

        #[allow(dead_code, reason = "each algorithm uses some of them")]
        impl$(<$parameter>)? $name$(<$parameter>)? {
            pub(crate) fn new(value: $value) -> Self {
                Self(shuttled::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, order);
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let result = self.0.compare_exchange(old, new, success, failure);
                count(|counts| {
                    counts.changes += 1;
                    counts.refused += u64::from(result.is_err());
                });
                result
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(old, new, success, failure)
            }

            $(pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                count(|counts| counts.changes += 1);
                self.0.$operation(value, order)
            })*
        }
    };
}

counted!(AtomicBool, bool, swap);
counted!(AtomicUsize, usize, fetch_add, fetch_sub);
counted!(AtomicPtr<T>, *mut T, swap);
counted!(AtomicU64, u64, swap, fetch_add, fetch_sub, fetch_and, fetch_or, fetch_xor, fetch_max);
