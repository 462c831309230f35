// SPDX-License-Identifier: MIT OR Apache-2.0
//! The atomics of the lock-free algorithms: the language's own, loom's where their interleavings are explored, and
//! ones that count where their cost is (`--cfg loom`, `--cfg shuttle`).

#[cfg(not(any(loom, shuttle)))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, fence};
#[cfg(all(not(any(loom, shuttle)), feature = "alloc"))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicUsize};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};

pub(crate) use core::sync::atomic::Ordering;

#[cfg(shuttle)]
mod counted;
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
