// SPDX-License-Identifier: MIT OR Apache-2.0
//! The atomics of the lock-free algorithms: the language's own, loom's where their interleavings are explored, and
//! ones that count where their cost is (`--cfg loom`, `--cfg shuttle`). In the crate's own tests the language's say which lines of
//! memory they write.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use core::sync::atomic::fence;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use plain::{AtomicBool, AtomicU64};
#[cfg(all(not(any(loom, shuttle)), feature = "alloc"))]
pub(crate) use plain::{AtomicPtr, AtomicUsize};

pub(crate) use core::sync::atomic::Ordering;

/// Those that nothing takes the place of, of what an unmap may come by: in tests they say what lines they write.
#[allow(unused_imports, reason = "some are of what features leave out")]
pub(crate) mod plain {
    #[cfg(any(not(test), loom, shuttle))]
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) use super::recorded::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
}

#[cfg(shuttle)]
mod counted;
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod recorded;
#[cfg(shuttle)]
pub(crate) use counted::*;

/// A value on cache lines of its own (128 bytes: some CPUs fetch pairs of 64).
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> core::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
