// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that were cut off since they did not answer ([`crate::devices`]), of whom the caller was not told yet
//! ([`Report::Quarantined`](crate::Report::Quarantined)).
//!
//! Whoever finds out may be an unmap, which allocates nothing: there is room for every stream that may keep translations,
//! made when its master is added, and never given up: as with leaves of the stream table, that ends with the number of
//! streams.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use smmuv3_formats::StreamId;

use crate::platform::Platform;
use crate::shared::NoMemory;
use crate::spin::SpinLock;

pub(crate) struct Silent {
    streams: SpinLock<Streams>,
    /// Whether a stream may be waiting: spares interrupts, which are frequent, the lock.
    any: AtomicBool,
}

struct Streams {
    /// The streams that there is room for, sorted, and whether each is in `waiting`.
    known: Vec<(StreamId, bool)>,
    /// Streams that were put in quarantine and not reported, in that order, each once. There is room for all of
    /// `known`.
    waiting: VecDeque<StreamId>,
    /// While room is made: what waited before, which comes before `waiting`. Empty otherwise.
    before: VecDeque<StreamId>,
}

/// How many entries are copied at once, with interrupts masked.
const AT_ONCE: usize = 32;

impl Silent {
    pub(crate) const fn new() -> Self {
        Self {
            streams: SpinLock::new(Streams {
                known: Vec::new(),
                waiting: VecDeque::new(),
                before: VecDeque::new(),
            }),
            any: AtomicBool::new(false),
        }
    }

    /// Makes room for `streams`, which are about to have a master that may have ATS. One caller at a time: the
    /// configuration mutex is held.
    pub(crate) fn reserve<P: Platform>(
        &self,
        platform: &P,
        streams: &[StreamId],
    ) -> Result<(), NoMemory> {
        let is_new =
            |stream: &&StreamId| !self.streams.with(platform, |state| state.find(**stream).is_ok());
        let new = streams.iter().filter(is_new).count();
        if new == 0 {
            return Ok(());
        }
        let had = self.streams.with(platform, |state| state.known.len());
        // Memory is allocated and freed outside the lock, and entries are copied a few at a time. `known` does not
        // change meanwhile: the configuration mutex is held.
        let (mut known, mut waiting) = (Vec::new(), VecDeque::new());
        known.try_reserve_exact(had.saturating_add(new)).map_err(|_| NoMemory)?;
        waiting.try_reserve_exact(had.saturating_add(new)).map_err(|_| NoMemory)?;
        while known.len() < had {
            let from = known.len();
            self.streams.with(platform, |state| {
                let next = state.known.iter().skip(from).take(AT_ONCE);
                known.extend(next.map(|(stream, _)| (*stream, false)));
            });
        }
        known.extend(streams.iter().filter(is_new).map(|stream| (*stream, false)));
        known.sort_unstable_by_key(|(stream, _)| *stream);
        let mut before = VecDeque::new();
        let _known = self.streams.with(platform, |state| {
            // Streams that wait go on waiting, in `before`, and are reported to whoever looks meanwhile. (One that is
            // put in quarantine again just then may be reported twice.)
            state.before = core::mem::replace(&mut state.waiting, waiting);
            core::mem::replace(&mut state.known, known)
        });
        while self.streams.with(platform, |state| match state.before.pop_front() {
            Some(stream) => {
                state.add(stream);
                true
            }
            None => {
                core::mem::swap(&mut state.before, &mut before);
                false
            }
        }) {}
        Ok(())
    }

    /// `stream` was cut off. Not to be called where targets are read: it takes a lock.
    pub(crate) fn note<P: Platform>(&self, platform: &P, stream: StreamId) {
        self.streams.with(platform, |state| state.add(stream));
        self.any.store(true, Ordering::Release);
    }

    /// The next stream to report.
    pub(crate) fn take<P: Platform>(&self, platform: &P) -> Option<StreamId> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.streams.with(platform, |state| {
            let next = state.before.pop_front().or_else(|| {
                let stream = state.waiting.pop_front()?;
                state.mark(stream, false);
                Some(stream)
            });
            if state.is_empty() {
                // Cleared under the lock; `note` sets it after it has released the lock, so that no entry is missed.
                self.any.store(false, Ordering::Release);
            }
            next
        })
    }

    /// Whether a stream may be waiting to be reported.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

impl Streams {
    fn find(&self, stream: StreamId) -> Result<usize, usize> {
        self.known.binary_search_by_key(&stream, |(known, _)| *known)
    }

    /// Notes whether `stream` is in `waiting`. Returns whether that changed.
    fn mark(&mut self, stream: StreamId, waits: bool) -> bool {
        let known = self.find(stream).ok().and_then(|at| self.known.get_mut(at));
        known.is_some_and(|(_, waited)| core::mem::replace(waited, waits) != waits)
    }

    /// Puts `stream` into `waiting`, unless it is there.
    fn add(&mut self, stream: StreamId) {
        // Allocates nothing: there is room for every known stream, once.
        if self.mark(stream, true) {
            self.waiting.push_back(stream);
        }
    }

    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
