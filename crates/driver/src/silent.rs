// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that were cut off since they did not answer ([`crate::devices`]), of whom the caller was not told yet
//! ([`Report::Quarantined`](crate::Report::Quarantined)).
//!
//! Whoever finds out may be an unmap, which allocates nothing: there is room for every stream that may keep translations,
//! made when its master is added.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use smmuv3_formats::StreamId;

use crate::platform::Platform;
use crate::shared::NoMemory;
use crate::spin::SpinLock;

pub(crate) struct Silent {
    /// In the order in which they were cut off, each once.
    streams: SpinLock<Vec<StreamId>>,
    /// Whether there are any: interrupts are frequent, and these are not.
    any: AtomicBool,
}

impl Silent {
    pub(crate) const fn new() -> Self {
        Self { streams: SpinLock::new(Vec::new()), any: AtomicBool::new(false) }
    }

    /// Makes room where `streams` of them may be cut off, beside those that wait to be told of: they may have no master
    /// any more.
    pub(crate) fn reserve<P: Platform>(
        &self,
        platform: &P,
        streams: usize,
    ) -> Result<(), NoMemory> {
        let wanted = self.streams.with(platform, |list| {
            let wanted = list.len().saturating_add(streams);
            (list.capacity() < wanted).then_some(wanted)
        });
        let Some(wanted) = wanted else { return Ok(()) };
        // Neither allocated nor freed under the lock. Meanwhile none can be cut off that was not counted.
        let mut larger = Vec::new();
        larger.try_reserve_exact(wanted).map_err(|_| NoMemory)?;
        self.streams.with(platform, |list| {
            if list.len() <= larger.capacity() {
                larger.extend(list.iter().copied());
                core::mem::swap(&mut larger, list);
            }
        });
        Ok(())
    }

    /// `stream` was cut off. Not to be called where targets are read: it takes a lock.
    pub(crate) fn note<P: Platform>(&self, platform: &P, stream: StreamId) {
        self.streams.with(platform, |list| {
            // There is room for every one of them, once.
            if !list.contains(&stream) && list.len() < list.capacity() {
                list.push(stream);
            }
        });
        self.any.store(true, Ordering::Release);
    }

    /// The next to tell of.
    pub(crate) fn take<P: Platform>(&self, platform: &P) -> Option<StreamId> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.streams.with(platform, |list| {
            if list.is_empty() {
                // Who notes one later says so after this.
                self.any.store(false, Ordering::Release);
                return None;
            }
            Some(list.remove(0))
        })
    }
}
