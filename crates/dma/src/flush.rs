// SPDX-License-Identifier: MIT OR Apache-2.0
//! When what was unmapped may be used again: after a flush that *began after* it was unmapped has been confirmed.
//!
//! Flushes are numbered as they begin. Whoever retires something, after its descriptors were cleared, reads the number
//! of the last flush that had begun. A flush with a greater number began afterwards, so its invalidation comes after
//! the clearing; one with that number or a smaller one may have begun before, even if it ends later.

use crate::sync::{AtomicU64, Ordering, fence};

/// The number of the last flush that had begun when something was retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(pub(crate) u64);

impl Stamp {
    /// Of what no device could reach at the time: nothing has to be waited for.
    pub(crate) const PAST: Self = Self(0);
}

/// A flush under way.
#[must_use = "a flush that is not confirmed releases nothing"]
pub(crate) struct Begun(u64);

/// The flushes of a space.
pub(crate) struct Flushes {
    started: AtomicU64,
    /// The greatest number of a flush that was confirmed. Smaller ones need not have been: whatever waits for one of
    /// those has waited for the greater one as well.
    confirmed: AtomicU64,
}

impl Flushes {
    pub(crate) fn new() -> Self {
        // As after a first flush, behind which `Stamp::PAST` lies.
        Self { started: AtomicU64::new(1), confirmed: AtomicU64::new(1) }
    }

    /// The stamp of what the caller has cleared. Whoever is told it may ask whether it is over, on any CPU.
    pub(crate) fn stamp(&self) -> Stamp {
        // Pairs with the fence of `begin`: if the load below does not see that flush, the flush's invalidation comes
        // after the descriptors that the caller has cleared.
        fence(Ordering::SeqCst);
        Stamp(self.started.load(Ordering::Relaxed))
    }

    /// To be called before the invalidation is given to any instance.
    pub(crate) fn begin(&self) -> Begun {
        // 64 bits do not overflow.
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        // See `stamp`.
        fence(Ordering::SeqCst);
        Begun(number)
    }

    /// Every instance has confirmed the invalidation.
    pub(crate) fn confirm(&self, flush: Begun) {
        // Release: whoever finds it confirmed uses memory that devices were using.
        self.confirmed.fetch_max(flush.0, Ordering::Release);
    }

    /// Whether what has this stamp may be used again.
    #[inline]
    pub(crate) fn is_over(&self, stamp: Stamp) -> bool {
        self.confirmed.load(Ordering::Acquire) > stamp.0
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
