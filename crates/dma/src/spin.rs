// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock for a few instructions: taken with interrupts masked, never held while waiting for hardware or while
//! memory is allocated or freed.

#[cfg(not(loom))]
use core::cell::UnsafeCell;
#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, Ordering};

use smmuv3::Platform;

#[cfg(not(loom))]
pub(crate) struct SpinLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `alone` hands out the value to one caller at a time.
#[cfg(not(loom))]
unsafe impl<T: Send> Sync for SpinLock<T> {}

/// A lock whose waiting loom understands.
#[cfg(loom)]
pub(crate) struct SpinLock<T>(loom::sync::Mutex<T>);

impl<T> SpinLock<T> {
    /// Runs `critical` alone. Interrupts are masked, so that a handler on this CPU cannot spin for ever.
    #[inline]
    pub(crate) fn with<P: Platform, R>(
        &self,
        platform: &P,
        critical: impl FnOnce(&mut T) -> R,
    ) -> R {
        platform.mask_irqs(|| self.alone(critical))
    }
}

#[cfg(not(loom))]
impl<T> SpinLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// As [`SpinLock::with`], for a caller that has masked interrupts.
    #[inline]
    pub(crate) fn alone<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        while self.taken.swap(true, Ordering::Acquire) {
            // Not the platform's `relax`, which may yield: interrupts are masked, and the lock is free soon.
            core::hint::spin_loop();
        }
        // SAFETY: the swap found `taken` false, and nobody else passes the loop before the store below.
        let result = critical(unsafe { &mut *self.value.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

#[cfg(loom)]
impl<T> SpinLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn alone<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        // Nobody panics while holding it, but a test that fails.
        critical(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
