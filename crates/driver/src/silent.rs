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
use crate::room::Room;
use crate::shared::NoMemory;
use crate::spin::SpinLock;

pub(crate) struct Silent {
    streams: SpinLock<Streams>,
    /// Whether a stream may be waiting: spares interrupts, which are frequent, the lock.
    any: AtomicBool,
}

struct Streams {
    /// The streams that there is room for, in sorted runs, each at least twice as long as the next. So there are at most
    /// [`RUNS`], and a stream is copied from one run into another a few times only, however many masters are added.
    runs: Vec<Run>,
    /// Those are in `waiting` whose mark is this. At least 1, and another whenever `waiting` begins anew: no more often than
    /// there are streams.
    mark: u32,
    /// Streams that were put in quarantine and not reported, in that order, each once. There is room for all of
    /// `runs`.
    waiting: VecDeque<StreamId>,
    /// While room is made: what waited before, which comes before `waiting`. Empty otherwise.
    before: VecDeque<StreamId>,
}

/// Streams in order, and their marks.
type Run = Vec<(StreamId, u32)>;

/// The mark of a stream that does not wait.
const NONE: u32 = 0;

/// Most runs, of fewer than 2^33 streams altogether.
const RUNS: usize = 33;

/// How many entries are copied at once, with interrupts masked.
const AT_ONCE: usize = 32;

impl Silent {
    pub(crate) const fn new() -> Self {
        Self {
            streams: SpinLock::new(Streams {
                runs: Vec::new(),
                mark: NONE + 1,
                waiting: VecDeque::new(),
                before: VecDeque::new(),
            }),
            any: AtomicBool::new(false),
        }
    }

    /// Makes room for `streams`, no two alike, which are about to have a master that may have ATS. One caller at a time: the
    /// configuration mutex is held. Of all calls together, with N streams, that is some N log² N steps, and one
    /// a call for each that waits.
    pub(crate) fn reserve<P: Platform>(
        &self,
        platform: &P,
        streams: &[StreamId],
    ) -> Result<(), NoMemory> {
        let is_new = |stream: &&StreamId| {
            self.streams.with(platform, |state| state.find(**stream).is_none())
        };
        let new = streams.iter().filter(is_new).count();
        if new == 0 {
            return Ok(());
        }
        // Memory is allocated and freed outside the lock, and entries are copied a few at a time. `runs` do not
        // change meanwhile: the configuration mutex is held.
        let (kept, taken, needed, has_room) = self.streams.with(platform, |state| {
            let (kept, taken) = state.joined_by(new);
            let needed = state.count().saturating_add(new);
            (kept, taken, needed, state.waiting.capacity() >= needed)
        });
        let mut run = Run::new();
        run.room_exact(taken.saturating_add(new))?;
        let joined = self.streams.with(platform, |state| state.runs.len()) - kept;
        for number in (kept..).take(joined) {
            let mut from = 0;
            while self.streams.with(platform, |state| {
                let run_before = state.runs.get(number).map_or(&[][..], Vec::as_slice);
                let next = run_before.iter().skip(from).take(AT_ONCE);
                run.put_all(next.map(|(stream, _)| (*stream, NONE)));
                from += AT_ONCE;
                from < run_before.len()
            }) {}
        }
        run.put_all(streams.iter().filter(is_new).map(|stream| (*stream, NONE)));
        run.sort_unstable_by_key(|(stream, _)| *stream);
        let mut runs = Vec::new();
        if self.streams.with(platform, |state| state.runs.capacity() == 0) {
            runs.room_exact(RUNS)?;
        }
        // What waits has to move where its marks are lost, or where there is too little room; where it moves to has room
        // for more than is needed now, so that memory is not taken each time.
        let moves = joined != 0 || !has_room;
        let mut room = VecDeque::new();
        if moves && self.streams.with(platform, |state| state.before.capacity()) < needed {
            room.try_reserve_exact(needed.saturating_mul(2)).map_err(|_| NoMemory)?;
        }
        let _old = self.streams.with(platform, |state| {
            if room.capacity() != 0 {
                core::mem::swap(&mut state.before, &mut room);
            }
            if moves {
                // Streams that wait go on waiting, in `before`, and are reported to whoever looks meanwhile. (One that is
                // put in quarantine again just then may be reported twice.)
                core::mem::swap(&mut state.before, &mut state.waiting);
                state.mark = state.mark.wrapping_add(1).max(NONE + 1);
            }
            if runs.capacity() != 0 {
                core::mem::swap(&mut state.runs, &mut runs);
            }
            state.join(kept, run)
        });
        while moves
            && self.streams.with(platform, |state| match state.before.pop_front() {
                Some(stream) => {
                    state.add(stream);
                    true
                }
                None => false,
            })
        {}
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
                if let Some(mark) = state.find(stream) {
                    *mark = NONE;
                }
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
    /// How many there is room for.
    fn count(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// Where a run of `new` streams comes, and how many are in the runs from there on, which it is to take in.
    fn joined_by(&self, new: usize) -> (usize, usize) {
        let mut taken = 0usize;
        let mut kept = self.runs.len();
        for run in self.runs.iter().rev() {
            if run.len() / 2 >= taken.saturating_add(new) {
                break;
            }
            taken = taken.saturating_add(run.len());
            kept -= 1;
        }
        (kept, taken)
    }

    /// Puts `run` in the place of all from number `kept` on, and returns these, of which there are at most as many as `runs`
    /// has room for.
    fn join(&mut self, kept: usize, run: Run) -> [Run; RUNS] {
        let mut old = [const { Run::new() }; RUNS];
        let left = self.runs.drain(kept.min(self.runs.len())..);
        old.iter_mut().zip(left).for_each(|(old, run)| *old = run);
        // Allocates nothing: there is room for as many as there can be.
        self.runs.put(run);
        old
    }

    /// The mark of `stream`.
    fn find(&mut self, stream: StreamId) -> Option<&mut u32> {
        self.runs.iter_mut().find_map(|run| {
            let at = run.binary_search_by_key(&stream, |(known, _)| *known).ok()?;
            run.get_mut(at).map(|(_, mark)| mark)
        })
    }

    /// Puts `stream` into `waiting`, unless it is there.
    fn add(&mut self, stream: StreamId) {
        let waits = self.mark;
        let mark = self.find(stream);
        // Allocates nothing: there is room for every known stream, once.
        if mark.is_some_and(|mark| core::mem::replace(mark, waits) != waits) {
            self.waiting.push_back(stream);
        }
    }

    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
