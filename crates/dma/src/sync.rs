// SPDX-License-Identifier: MIT OR Apache-2.0
//! The atomics of what CPUs share: the language's own, or loom's where their interleavings are explored (`--cfg loom`).

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU64, AtomicUsize, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, fence};

pub(crate) use core::sync::atomic::Ordering;

/// A value on cache lines of its own (128 bytes: some CPUs fetch pairs of 64).
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> core::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
