// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that have ATC_INVs to answer: an SMMU that waits for them is not gone (§3.2).

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use super::{CommandQueue, Common};
use crate::platform::nanoseconds;

/// Whether anybody asks devices.
pub(super) const ASKS: bool = cfg!(feature = "ats");

/// Somebody waits for answers of devices.
#[must_use]
pub(crate) struct Asked<'a>(&'a AtomicUsize);

impl Asked<'_> {
    /// Leaves it to the caller to say when it is over: [`CommandQueue::devices_were_asked`].
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Common {
    /// Whether devices may be why the SMMU has stood still for so many nanoseconds: their answers are still to come, or the
    /// error that says that they do not (§3.2).
    #[cold]
    pub(super) fn is_devices_turn(&self, waited: u64) -> bool {
        ASKS && waited <= self.device_deadline && self.asked.load(Ordering::Relaxed) != 0
    }
}

impl CommandQueue {
    /// Lets the SMMU stand still for `deadline` where a device may be why.
    pub(crate) fn wait_for_devices(&mut self, deadline: Duration) {
        if ASKS {
            self.common.device_deadline = nanoseconds(deadline);
        }
    }

    /// Devices are about to be given an ATC_INV: the SMMU waits for their answers at the next CMD_SYNC, for each in turn, and
    /// that is no sign that it is gone. So until the returned value is dropped, when the caller has waited for it.
    #[inline]
    pub(crate) fn devices_are_asked(&self) -> Asked<'_> {
        self.common.asked.fetch_add(1, Ordering::Relaxed);
        Asked(&self.common.asked)
    }

    /// As if a value that was [kept](Asked::keep) were dropped.
    pub(crate) fn devices_were_asked(&self) {
        drop(Asked(&self.common.asked));
    }
}
