// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock for a few instructions: taken with interrupts masked, never held while waiting for hardware.

use crate::platform::Platform;
use crate::sync::Ordering;
use crate::sync::plain::AtomicBool;
use core::cell::UnsafeCell;
use core::fmt;

pub(crate) struct SpinLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}

// SAFETY: `with` hands out the value to one caller at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `critical` alone. Interrupts are masked, so that a handler on this CPU cannot spin for ever.
    pub(crate) fn with<P: Platform, R>(
        &self,
        platform: &P,
        critical: impl FnOnce(&mut T) -> R,
    ) -> R {
        platform.mask_irqs(|| {
            take(&self.taken);
            // SAFETY: `take` found it false, and nobody else returns from there before the store below.
            let result = critical(unsafe { &mut *self.value.get() });
            self.taken.store(false, Ordering::Release);
            result
        })
    }
}

/// Changes `taken` from false to true. Without shorter ways it is compiled once.
#[cfg_attr(feature = "fast-paths", inline)]
#[cfg_attr(not(feature = "fast-paths"), inline(never))]
fn take(taken: &AtomicBool) {
    while taken.swap(true, Ordering::Acquire) {
        // Not the platform's `relax`, which may yield: interrupts are masked, and the lock is free soon.
        core::hint::spin_loop();
    }
}
