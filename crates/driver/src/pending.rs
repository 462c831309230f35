// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalled transactions that wait for an answer of the caller, without a lock: whoever answers one, and a detach that
//! ends it, may run on any CPU, and in interrupt context.
//!
//! A slot goes from free to waiting, and on from there once only: by whoever answers, or by whoever sweeps. What an
//! answer names is its generation, so that one that comes late finds nothing.

use alloc::vec::Vec;

use smmuv3_formats::{StreamId, SubstreamId};

use crate::shared::NoMemory;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The transactions of one SMMU.
pub(crate) struct Pending {
    slots: Vec<Slot>,
    /// Some answers may be there that found no room in the command queue.
    owed: AtomicBool,
    /// The SMMU, or its reset, is about to end all that wait: no more stalls are to come, and answers are kept.
    closed: AtomicBool,
}

struct Slot {
    /// Generation, and what is in it: see the codes below.
    state: AtomicU64,
    /// StreamID and STAG. Written before `state` says that there is something.
    key: AtomicU64,
    substream: AtomicU64,
}

const FREE: u64 = 0;
/// Its words are being written.
const FILLING: u64 = 1;
/// Nobody has answered.
const WAITING: u64 = 2;
/// Its command is being placed, with interrupts masked: not for long.
const GIVING: u64 = 3;
/// Answered, but there was no room for the command yet; and above, with what.
const OWED: u64 = 4;
const CODES: u64 = 0xff;
const NEXT: u64 = CODES + 1;

/// What an answer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    slot: usize,
    generation: u64,
}

/// What hardware knows a stalled transaction by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) stream: StreamId,
    pub(crate) stag: u16,
    /// 0 where it has none.
    pub(crate) substream: SubstreamId,
}

/// What came of an attempt to place the command of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// It is placed.
    Placed,
    /// There is no room; it is owed.
    Full,
    /// Somebody else has ended the transaction, or is about to.
    Late,
}

impl Pending {
    /// Room for `most`.
    pub(crate) fn new(most: usize) -> Result<Self, NoMemory> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(most).map_err(|_| NoMemory)?;
        for _ in 0..most {
            let [state, key, substream] = [0, 0, 0].map(AtomicU64::new);
            slots.push(Slot { state, key, substream });
        }
        Ok(Self { slots, owed: AtomicBool::new(false), closed: AtomicBool::new(false) })
    }

    /// No more stalls are to be inserted by whoever begins to from here on, and answers are kept for whoever ends what
    /// waits ([`crate::answer`]), until [`Pending::open`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether one of which `which` says so waits for an answer, or for room for the one that was given. One whose command
    /// is being placed does not: hardware may have carried it out by now, and its numbers may be another's already.
    pub(crate) fn waits(&self, which: impl Fn(Key) -> bool) -> bool {
        let waits = |slot: &Slot| {
            let code = slot.state.load(Ordering::Acquire) & CODES;
            code >= WAITING && code != GIVING
        };
        self.slots.iter().any(|slot| waits(slot) && which(slot.key()))
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        let of = |slot: &&Slot| slot.state.load(Ordering::Relaxed) & CODES >= WAITING;
        self.slots.iter().filter(of).count()
    }

    /// One that has stalled; `None` when there is no room. One caller at a time.
    pub(crate) fn insert(&self, key: Key) -> Option<Handle> {
        let free = |(_, slot): &(usize, &Slot)| {
            let state = slot.state.load(Ordering::Relaxed);
            // Acquire: whoever freed it has read its words before.
            state & CODES == FREE && slot.swap(state, state | FILLING)
        };
        let (index, slot) = self.slots.iter().enumerate().find(free)?;
        let generation = slot.state.load(Ordering::Relaxed) & !CODES;
        let (stream, stag) = (u64::from(key.stream.0), u64::from(key.stag));
        slot.key.store(stream << 32 | stag, Ordering::Relaxed);
        slot.substream.store(u64::from(key.substream.0), Ordering::Relaxed);
        slot.state.store(generation | WAITING, Ordering::Release);
        Some(Handle { slot: index, generation })
    }

    /// Decides the answer to one that waits; false when it waits no more.
    pub(crate) fn decide(&self, handle: Handle, answer: u8) -> bool {
        let Handle { slot, generation } = handle;
        let owed = generation | (OWED + u64::from(answer));
        self.slots.get(slot).is_some_and(|slot| slot.swap(generation | WAITING, owed))
    }

    /// Decides the same answer to all that wait and that `which` says; whether there were any. They are to be given by
    /// [`Pending::give_owed`].
    pub(crate) fn decide_all(&self, which: impl Fn(Key) -> bool, answer: u8) -> bool {
        let mut any = false;
        for slot in &self.slots {
            let state = slot.state.load(Ordering::Acquire);
            // The generation is still the same when it is swapped, so the key is its. Where it is not, somebody else
            // has just answered.
            if state & CODES == WAITING && which(slot.key()) {
                let owed = state & !CODES | (OWED + u64::from(answer));
                any |= slot.swap(state, owed);
            }
        }
        any
    }

    /// Gives the answer that was decided, by `place`, which says whether there was room for the command. Called with
    /// interrupts masked, so that nobody waits long for it.
    pub(crate) fn give(&self, handle: Handle, place: impl FnOnce(Key, u8) -> bool) -> Given {
        let Some(slot) = self.slots.get(handle.slot) else { return Given::Late };
        let state = slot.state.load(Ordering::Relaxed);
        if state & !CODES != handle.generation || state & CODES < OWED {
            return Given::Late;
        }
        slot.give(state, place)
    }

    /// Some answer is owed, and whoever comes by is to try again: [`Pending::give_owed`].
    pub(crate) fn set_owed(&self) {
        self.owed.store(true, Ordering::Release);
    }

    /// Whether some may be owed.
    pub(crate) fn is_owed(&self) -> bool {
        self.owed.load(Ordering::Relaxed)
    }

    /// Tries all answers that are owed, as [`Pending::give`]; whether there was room for all.
    pub(crate) fn give_owed(&self, mut place: impl FnMut(Key, u8) -> bool) -> bool {
        if !self.owed.swap(false, Ordering::Acquire) {
            return true;
        }
        for slot in &self.slots {
            let state = slot.state.load(Ordering::Relaxed);
            if state & CODES >= OWED && slot.give(state, &mut place) == Given::Full {
                self.set_owed();
                return false;
            }
        }
        true
    }

    /// Gives the answer to the one in slot `at`, as [`Pending::give`], if it waits for one and `which` says so: that which was
    /// decided, or `answer`. `Late` where another is giving one: to be looked at again. `None` beyond the last slot.
    pub(crate) fn give_at(
        &self,
        at: usize,
        which: impl FnOnce(Key) -> bool,
        answer: u8,
        place: impl FnOnce(Key, u8) -> bool,
    ) -> Option<Given> {
        let slot = self.slots.get(at)?;
        let state = slot.state.load(Ordering::Acquire);
        let (generation, code) = (state & !CODES, state & CODES);
        if code == FREE || code == FILLING || !which(slot.key()) {
            return Some(Given::Placed);
        }
        if code == GIVING {
            return Some(Given::Late);
        }
        let owed = if code == WAITING { generation | (OWED + u64::from(answer)) } else { state };
        // The generation is still the same, so the key was its.
        if code == WAITING && !slot.swap(state, owed) {
            return Some(Given::Late);
        }
        Some(slot.give(owed, place))
    }

    /// Ends all that `ends` says and that have no command yet, and hands each to `ended`, with the answer that it is owed,
    /// if one was decided. When it returns, those that
    /// were being answered have their commands. Of what is inserted meanwhile, nothing is known.
    pub(crate) fn sweep(
        &self,
        relax: impl Fn(),
        ends: impl Fn(Key) -> bool,
        mut ended: impl FnMut(Key, Option<u8>),
    ) {
        for slot in &self.slots {
            loop {
                let state = slot.state.load(Ordering::Acquire);
                let code = state & CODES;
                // Most are free, and have no key to look at.
                if code == FREE || code == FILLING {
                    break;
                }
                let key = slot.key();
                if !ends(key) {
                    break;
                }
                if code == GIVING {
                    relax();
                    continue;
                }
                // The generation is still the same, so `key` is its.
                if slot.swap(state, (state & !CODES) + NEXT) {
                    // What is owed has less than 8 bits.
                    ended(key, code.checked_sub(OWED).map(|answer| answer as u8));
                    break;
                }
            }
        }
    }
}

impl Slot {
    fn swap(&self, from: u64, to: u64) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn key(&self) -> Key {
        let key = self.key.load(Ordering::Relaxed);
        // The halves fit.
        Key {
            stream: StreamId((key >> 32) as u32),
            stag: key as u16,
            substream: SubstreamId(self.substream.load(Ordering::Relaxed) as u32),
        }
    }

    /// Gives the answer that `state`, which was just read, owes.
    fn give(&self, state: u64, place: impl FnOnce(Key, u8) -> bool) -> Given {
        let generation = state & !CODES;
        if !self.swap(state, generation | GIVING) {
            // Somebody gives the same answer, or it was ended.
            return Given::Late;
        }
        // What is owed has less than 8 bits.
        let answer = ((state & CODES) - OWED) as u8;
        if place(self.key(), answer) {
            self.state.store(generation + NEXT, Ordering::Release);
            Given::Placed
        } else {
            self.state.store(state, Ordering::Release);
            Given::Full
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
