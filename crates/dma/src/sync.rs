// SPDX-License-Identifier: MIT OR Apache-2.0
//! The atomics of what CPUs share: the language's own, or loom's where their interleavings are explored (`--cfg loom`).

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};

pub(crate) use core::sync::atomic::Ordering;

/// Called in a loop that waits for another CPU: a spin hint, or, under loom, a turn for the others.
pub(crate) fn spin() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// A value on cache lines of its own (128 bytes: some CPUs fetch pairs of 64).
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> core::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
