// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalled transactions, and groups of page requests, that wait for an answer of the caller, without a lock: whoever answers one, and a detach that
//! ends it, may run on any CPU, and in interrupt context.
//!
//! A slot goes from free to waiting, and on from there once only: by whoever answers, or by whoever sweeps. What an
//! answer names is its generation, so that one that comes late finds nothing. One may be handed on to a guest, and then waits
//! for its answer, and for its handle's no more (`shown`). ARCHITECTURE.md, "Words inside the driver", has the words: owed, shown.

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
    /// There may be answers that found no room in the command queue ([`OWED`]).
    owed: AtomicBool,
    /// The SMMU, or its reset, is about to end all that wait: no stalls are inserted, and answers are kept instead of
    /// placed.
    closed: AtomicBool,
    /// How many were ended, as there was no room for them.
    refused: AtomicU64,
    #[cfg(feature = "nested")]
    shares: Shares,
}

struct Slot {
    /// Generation, and what is in it: see the codes below.
    state: AtomicU64,
    /// StreamID and STAG. Written before `state` says that there is something.
    key: AtomicU64,
    /// With the guest that it is counted for, if it is one's.
    substream: AtomicU64,
    /// The next free slot, while this one is free.
    next: AtomicU64,
}

const NONE: u64 = u64::MAX;

/// Free, or its words are just being written.
const FREE: u64 = 0;
/// The transaction waits for the caller's answer.
const WAITING: u64 = 2;
/// The command of its answer is being placed. Short: interrupts are masked.
const GIVING: u64 = 3;
/// The transaction was shown to a guest, and waits for its answer.
#[cfg(feature = "nested")]
const SHOWN: u64 = 4;
/// This code plus the answer's: answered, but the command has not been placed yet.
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
    /// Its slot, which by now may hold another transaction.
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
    /// The command is placed.
    Placed,
    /// There is no room for the command: the answer is owed.
    Full,
    /// Somebody else has ended the transaction, or is about to.
    Late,
}

/// What is left of a look at answers that are owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// None are owed any more.
    Nothing,
    /// Other slots are to be looked at.
    Slots,
    /// Answers are: there is no room, or enough were given.
    Answers,
}

/// Slots that are looked at with interrupts masked once.
const AT_ONCE: usize = 32;

impl Pending {
    /// Makes room for `most` transactions.
    pub(crate) fn new(most: usize) -> Result<Self, NoMemory> {
        let (slots, free) = (Slots::new(most)?, AtomicU64::new(NONE));
        let (owed, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        let refused = AtomicU64::new(0);
        #[cfg(feature = "nested")]
        let shares = Shares::new();
        Ok(Self {
            slots,
            free,
            owed,
            closed,
            refused,
            #[cfg(feature = "nested")]
            shares,
        })
    }

    /// From here on nobody begins to insert stalls, and answers are kept for whoever ends what waits
    /// ([`crate::answer`]), until [`Pending::open`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The transaction in slot `at`, if it waits for an answer, or for room for the answer's command. One whose command
    /// is being placed ([`GIVING`]) does not count: hardware may have carried the command out by now, and may have used
    /// its STAG again.
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

    /// How many transactions wait, for an answer or for room for its command.
    pub(crate) fn count(&self) -> usize {
        let of = |slot: &&Slot| slot.state.load(Ordering::Relaxed) & CODES >= WAITING;
        self.slots.iter().filter(of).count()
    }

    /// How many were ended, as there was no room for them.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// One more was, as [`Pending::insert`] found no room for it.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a transaction that has stalled; `None` when there is no room. One caller at a time.
    pub(crate) fn insert(&self, key: Key) -> Option<Handle> {
        self.insert_as(key, u64::from(key.substream.0))
    }

    /// As [`Pending::insert`], of a guest's device: also `None` when the guest has its share.
    #[cfg(feature = "nested")]
    pub(crate) fn insert_for(&self, guest: Sharer, key: Key) -> Option<Handle> {
        let place = self.shares.allow(guest, self.slots.most())?;
        self.insert_as(key, Place::beside(Some(place), key.substream.0))
    }

    /// As [`Pending::insert`], with the word for the substream.
    fn insert_as(&self, key: Key, substream: u64) -> Option<Handle> {
        let (index, slot) = self.take_free()?;
        #[cfg(feature = "nested")]
        self.shares.take(Place::of(substream));
        let generation = slot.state.load(Ordering::Relaxed) & !CODES;
        let (stream, stag) = (u64::from(key.stream.0), u64::from(key.stag));
        slot.key.store(stream << 32 | stag, Ordering::Relaxed);
        slot.substream.store(substream, Ordering::Relaxed);
        slot.state.store(generation | WAITING, Ordering::Release);
        Some(Handle { slot: index, generation })
    }

    /// A free slot, if there is one.
    fn take_free(&self) -> Option<(usize, &Slot)> {
        loop {
            // Acquire: whoever freed the slot has finished reading its words.
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
        #[cfg(feature = "nested")]
        self.shares.give_back(Place::of(slot.substream.load(Ordering::Relaxed)));
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

    /// As [`Pending::decide`], also of one that a guest is to answer.
    #[cfg(feature = "ats")]
    pub(crate) fn decide_for(&self, handle: Handle, answer: u8) -> bool {
        let Handle { slot, generation } = handle;
        let Some(slot) = self.slots.get(slot) else { return false };
        loop {
            let state = slot.state.load(Ordering::Acquire);
            if state & !CODES != generation || !is_undecided(state) {
                return false;
            }
            // It may be handed on to a guest just now, or taken back from one.
            if slot.swap(state, generation | (OWED + u64::from(answer))) {
                return true;
            }
        }
    }

    /// Decides the same answer to all that wait and that `which` says, also to those that guests are to answer; whether there were
    /// any. They are to be given by [`Pending::give_some`].
    pub(crate) fn decide_all(&self, which: impl Fn(Key) -> bool, answer: u8) -> bool {
        let mut any = false;
        for (_, slot) in self.slots.each() {
            loop {
                let state = slot.state.load(Ordering::Acquire);
                if !is_undecided(state) || !which(slot.key()) {
                    break;
                }
                // The swap succeeds only if the generation is unchanged, so the key belongs to it; if not, somebody else has
                // just answered, or it is handed on to a guest just now.
                if slot.swap(state, state & !CODES | (OWED + u64::from(answer))) {
                    any = true;
                    break;
                }
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

    /// Some answer is owed, and whoever comes by is to try again: [`Pending::give_some`].
    pub(crate) fn set_owed(&self) {
        self.owed.store(true, Ordering::Release);
    }

    /// Whether some may be owed.
    pub(crate) fn is_owed(&self) -> bool {
        self.owed.load(Ordering::Relaxed)
    }

    /// Tries answers that are owed, as [`Pending::give`], of a few slots from `at` on, which is 0 at first and goes on; at most
    /// `budget`, which goes down.
    pub(crate) fn give_some(
        &self,
        at: &mut usize,
        budget: &mut usize,
        mut place: impl FnMut(Key, u8) -> bool,
    ) -> Left {
        // Whoever is told of one from here on, before this comes to it or after, says so anew.
        if *at == 0 && !self.owed.swap(false, Ordering::Acquire) {
            return Left::Nothing;
        }
        for _ in 0..AT_ONCE {
            let Some(slot) = self.slots.get(*at) else { return Left::Nothing };
            let state = slot.state.load(Ordering::Relaxed);
            if state & CODES >= OWED {
                let given = match *budget {
                    0 => Given::Full,
                    _ => self.give_from(*at, slot, state, &mut place),
                };
                match given {
                    Given::Full => {
                        self.set_owed();
                        return Left::Answers;
                    }
                    Given::Placed => *budget -= 1,
                    Given::Late => {}
                }
            }
            *at += 1;
        }
        Left::Slots
    }

    /// All that are owed, as [`Pending::give_some`] gives them; whether there was room.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn give_owed(&self, mut place: impl FnMut(Key, u8) -> bool) -> bool {
        let (mut at, mut budget) = (0, usize::MAX);
        loop {
            match self.give_some(&mut at, &mut budget, &mut place) {
                Left::Nothing => return true,
                Left::Slots => {}
                Left::Answers => return false,
            }
        }
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
        // The swap succeeds only if the generation is unchanged, so the key belonged to it.
        if undecided && !slot.swap(state, owed) {
            return Some(Given::Late);
        }
        Some(self.give_from(at, slot, owed, place))
    }

    /// Ends every transaction for which `ends` holds and whose command was not placed yet, and hands it to `ended`,
    /// with the answer that was decided, if one was. When this returns, the commands of those that were just being
    /// answered are placed. What is inserted meanwhile may be missed.
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
                // The swap succeeds only if the generation is unchanged, so `key` belongs to it.
                if slot.swap(state, (state & !CODES) + NEXT) {
                    self.put_free(at);
                    // A code above [`OWED`] is an answer, which has less than 8 bits.
                    ended(key, code.checked_sub(OWED).map(|answer| answer as u8));
                    break;
                }
            }
        }
    }
}

/// Whether what is in a slot with this state waits for an answer: its holder's, or a guest's.
const fn is_undecided(state: u64) -> bool {
    let code = state & CODES;
    code >= WAITING && code != GIVING && code < OWED
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
            // Somebody else is giving this answer, or the transaction was ended.
            return Given::Late;
        }
        // A code above [`OWED`] is an answer, which has less than 8 bits.
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
        // StreamID and STAG were stored from 32 and 16 bits.
        Key {
            stream: StreamId((key >> 32) as u32),
            stag: key as u16,
            // A guest is above it.
            substream: SubstreamId(self.substream.load(Ordering::Relaxed) as u32),
        }
    }
}

#[cfg(feature = "nested")]
mod shares;
#[cfg(feature = "nested")]
mod shown;

#[cfg(feature = "nested")]
pub(crate) use shares::Sharer;
#[cfg(feature = "nested")]
use shares::{Place, Shares};
#[cfg(feature = "nested")]
pub(crate) use shown::Showing;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
