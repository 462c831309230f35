// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration mutex: the operating system's lock around a value.

use core::cell::UnsafeCell;

use crate::platform::RawMutex;

pub(crate) struct Mutex<M, T> {
    lock: M,
    value: UnsafeCell<T>,
}

// SAFETY: `with` hands out the value to one caller at a time, by the contract of `RawMutex`.
unsafe impl<M: RawMutex, T: Send> Sync for Mutex<M, T> {}

impl<M: RawMutex, T> Mutex<M, T> {
    pub(crate) fn new(value: T) -> Self {
        Self { lock: M::new(), value: UnsafeCell::new(value) }
    }

    /// Runs `change` alone. It must not take the lock again.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        struct Held<'a, M: RawMutex>(&'a M);
        impl<M: RawMutex> Drop for Held<'_, M> {
            fn drop(&mut self) {
                // SAFETY: taken below, by this caller.
                unsafe { self.0.unlock() }
            }
        }
        self.lock.lock();
        let _held = Held(&self.lock);
        // SAFETY: the lock is held until `_held` is dropped, so nobody else has a reference.
        change(unsafe { &mut *self.value.get() })
    }
}

#[cfg(all(test, loom))]
pub(crate) mod loom_lock;
