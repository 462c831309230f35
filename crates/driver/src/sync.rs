// SPDX-License-Identifier: MIT OR Apache-2.0
//! The atomics of the lock-free algorithms, replaced by loom's where their interleavings are explored.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
