// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock for systems that have none to offer.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::platform::RawMutex;

/// A [`RawMutex`] that spins: for [`Platform::Mutex`](crate::Platform::Mutex) of systems without locks that sleep, such as
/// firmware, boot code, or a hypervisor that runs to completion, and of those that only use the layer without `alloc`,
/// which takes no lock at all.
///
/// The configuration lock is held while an SMMU is waited for: some microseconds as a rule, and up to
/// [`InstanceConfig::deadline`](crate::InstanceConfig::deadline) for each SMMU that stopped answering. Whoever else wants
/// it spins that long.
///
/// * **Right** where the holder keeps its CPU: no preemption, or none while it calls the driver.
/// * **Slow** where threads are preempted: the others spin until the holder runs again.
/// * **Wrong** where a thread can keep a less urgent one from running for ever: the former spins, the latter holds the
///   lock, and neither goes on. Such systems have a lock that sleeps, with priorities inherited: use that.
///
/// It leaves interrupts as they are, since the driver never takes it in interrupt context.
/// It is not fair, and a thread must not take it twice.
#[derive(Debug, Default)]
pub struct SpinMutex {
    taken: AtomicBool,
}

impl SpinMutex {
    /// An unlocked lock, for a `static`, too.
    pub const fn new() -> Self {
        Self { taken: AtomicBool::new(false) }
    }
}

// SAFETY: `lock` returns to whoever changed `taken` from false to true, and only `unlock`, by that caller, changes it
// back. The store there releases, and the exchange here acquires, what was written before.
unsafe impl RawMutex for SpinMutex {
    fn new() -> Self {
        Self::new()
    }

    // Without shorter ways it is compiled once.
    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    fn lock(&self) {
        while self.taken.swap(true, Ordering::Acquire) {
            // Loads alone do not take the cache line away from the holder.
            while self.taken.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
    }

    unsafe fn unlock(&self) {
        self.taken.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;
    use std::thread;

    #[test]
    fn two_threads_are_never_inside_at_once() {
        static LOCK: SpinMutex = SpinMutex::new();
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        LOCK.lock();
                        // Apart on purpose: increments are lost if somebody else comes between.
                        let before = count.load(Ordering::Relaxed);
                        core::hint::spin_loop();
                        count.store(before + 1, Ordering::Relaxed);
                        // SAFETY: taken above.
                        unsafe { LOCK.unlock() };
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 8_000);
    }
}
