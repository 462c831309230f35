// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock whose contention loom explores.

use loom::sync::atomic::{AtomicBool, Ordering};

use crate::platform::RawMutex;

pub(crate) struct Lock(AtomicBool);

// SAFETY: the flag is set by one caller at a time, with acquire and release ordering.
unsafe impl RawMutex for Lock {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn lock(&self) {
        while self.0.swap(true, Ordering::Acquire) {
            loom::thread::yield_now();
        }
    }

    unsafe fn unlock(&self) {
        // An exchange: loom keeps plain stores apart from read-modify-writes.
        self.0.swap(false, Ordering::Release);
    }
}
