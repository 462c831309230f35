// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalled transactions that wait for an answer of the caller, without a lock: whoever answers one, and a detach that
//! ends it, may run on any CPU, and in interrupt context.
//!
//! A slot goes from free to waiting, and on from there once only: by whoever answers, or by whoever sweeps. What an
//! answer names is its generation, so that one that comes late finds nothing. One may be handed on to a guest, and then waits
//! for its answer, and for its handle's no more (`shown`).

use smmuv3_formats::{StreamId, SubstreamId};

use crate::shared::NoMemory;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

mod slots;

use slots::Slots;

/// The transactions of one SMMU.
pub(crate) struct Pending {
    slots: Slots,
    /// The first of the slots that are free again; [`NONE`] if there is none. Whoever frees one puts it here, once it is free;
    /// one caller at a time takes them, so that the next one is that for as long as this is the first.
    free: AtomicU64,
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
    /// Of a free one, the next.
    next: AtomicU64,
}

const NONE: u64 = u64::MAX;

/// Also while its words are being written.
const FREE: u64 = 0;
/// Nobody has answered.
const WAITING: u64 = 2;
/// Its command is being placed, with interrupts masked: not for long.
const GIVING: u64 = 3;
/// Nobody has answered, and a guest is to.
#[cfg(feature = "nested")]
const SHOWN: u64 = 4;
/// Answered, but there was no room for the command yet; and above, with what.
const OWED: u64 = 5;
const CODES: u64 = 0xff;
const NEXT: u64 = CODES + 1;

/// What an answer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    slot: usize,
    generation: u64,
}

impl Handle {
    /// Its slot, which may be another's by now.
    pub(crate) const fn slot(self) -> usize {
        self.slot
    }
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
        let (slots, free) = (Slots::new(most)?, AtomicU64::new(NONE));
        Ok(Self { slots, free, owed: AtomicBool::new(false), closed: AtomicBool::new(false) })
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

    /// Who has the slot `at`, if it waits for an answer, or for room for the one that was given. One whose command is being
    /// placed does not: hardware may have carried it out by now, and its numbers may be another's already.
    #[cfg(any(test, feature = "ats"))]
    pub(crate) fn waiting(&self, at: usize) -> Option<Handle> {
        let state = self.slots.get(at)?.state.load(Ordering::Acquire);
        let (generation, code) = (state & !CODES, state & CODES);
        (code >= WAITING && code != GIVING).then_some(Handle { slot: at, generation })
    }

    /// Whether the command of the answer to the one in the slot `at` is being placed: if there is no room, it waits again.
    #[cfg(any(test, feature = "ats"))]
    pub(crate) fn is_being_given(&self, at: usize) -> bool {
        self.slots.get(at).is_some_and(|slot| slot.state.load(Ordering::Acquire) & CODES == GIVING)
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        let of = |slot: &&Slot| slot.state.load(Ordering::Relaxed) & CODES >= WAITING;
        self.slots.iter().filter(of).count()
    }

    /// One that has stalled; `None` when there is no room. One caller at a time.
    pub(crate) fn insert(&self, key: Key) -> Option<Handle> {
        let (index, slot) = self.take_free()?;
        let generation = slot.state.load(Ordering::Relaxed) & !CODES;
        let (stream, stag) = (u64::from(key.stream.0), u64::from(key.stag));
        slot.key.store(stream << 32 | stag, Ordering::Relaxed);
        slot.substream.store(u64::from(key.substream.0), Ordering::Relaxed);
        slot.state.store(generation | WAITING, Ordering::Release);
        Some(Handle { slot: index, generation })
    }

    /// A free slot, if there is one.
    fn take_free(&self) -> Option<(usize, &Slot)> {
        loop {
            // Acquire: whoever freed it has read its words before.
            let first = self.free.load(Ordering::Acquire);
            let Some(slot) = self.slots.get(first as usize) else { return self.make() };
            let next = slot.next.load(Ordering::Relaxed);
            let taken =
                self.free.compare_exchange(first, next, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return Some((first as usize, slot));
            }
        }
    }

    /// One that nothing was ever in, if there is one.
    fn make(&self) -> Option<(usize, &Slot)> {
        let at = self.slots.make(Slot::new())?;
        Some((at, self.slots.get(at)?))
    }

    /// The slot `at`, which was just freed, is there for the next one.
    fn put_free(&self, at: usize) {
        let Some(slot) = self.slots.get(at) else { return };
        let mut first = self.free.load(Ordering::Relaxed);
        loop {
            slot.next.store(first, Ordering::Relaxed);
            let order = (Ordering::Release, Ordering::Relaxed);
            match self.free.compare_exchange(first, at as u64, order.0, order.1) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
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
        for (_, slot) in self.slots.each() {
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
        self.give_from(handle.slot, slot, state, place)
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
        for (at, slot) in self.slots.each() {
            let state = slot.state.load(Ordering::Relaxed);
            if state & CODES >= OWED && self.give_from(at, slot, state, &mut place) == Given::Full {
                self.set_owed();
                return false;
            }
        }
        true
    }

    /// Gives the answer to the one in slot `at`, as [`Pending::give`], if it waits for one and `which` says so: that which was
    /// decided, or `answer`. `Late` where another is giving one: to be looked at again. `None` beyond the last slot that was made.
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
        if code == FREE || !which(slot.key()) {
            return Some(Given::Placed);
        }
        if code == GIVING {
            return Some(Given::Late);
        }
        let undecided = code < OWED;
        let owed = if undecided { generation | (OWED + u64::from(answer)) } else { state };
        // The generation is still the same, so the key was its.
        if undecided && !slot.swap(state, owed) {
            return Some(Given::Late);
        }
        Some(self.give_from(at, slot, owed, place))
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
        for (at, slot) in self.slots.each() {
            loop {
                let state = slot.state.load(Ordering::Acquire);
                let code = state & CODES;
                // Most are free, and have no key to look at.
                if code == FREE {
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
                    self.put_free(at);
                    // What is owed has less than 8 bits.
                    ended(key, code.checked_sub(OWED).map(|answer| answer as u8));
                    break;
                }
            }
        }
    }
}

impl Pending {
    /// Gives the answer that `state` of `slot`, which was just read, owes.
    fn give_from(
        &self,
        at: usize,
        slot: &Slot,
        state: u64,
        place: impl FnOnce(Key, u8) -> bool,
    ) -> Given {
        let generation = state & !CODES;
        if !slot.swap(state, generation | GIVING) {
            // Somebody gives the same answer, or it was ended.
            return Given::Late;
        }
        // What is owed has less than 8 bits.
        let answer = ((state & CODES) - OWED) as u8;
        if place(slot.key(), answer) {
            slot.state.store(generation + NEXT, Ordering::Release);
            self.put_free(at);
            Given::Placed
        } else {
            slot.state.store(state, Ordering::Release);
            Given::Full
        }
    }
}

impl Slot {
    fn new() -> Self {
        let [state, key, substream, next] = [FREE, 0, 0, NONE].map(AtomicU64::new);
        Self { state, key, substream, next }
    }

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
}

#[cfg(feature = "nested")]
mod shown;

#[cfg(feature = "nested")]
pub(crate) use shown::Showing;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
