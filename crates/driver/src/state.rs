// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether an SMMU works, does not answer, or is asleep: suspended, with its power gone or about to go.
//!
//! *Asleep*: SMMUEN is 0, so no access is translated and nothing is cached, and before it is 1 again its caches are
//! emptied. So whatever it should be told to forget, it need not be told: that is *elided*. Who finds it asleep has made
//! its change to memory before, and who wakes it says so before the SMMU can walk (rule R5):
//!
//! | who unmaps | who wakes it |
//! |---|---|
//! | clears descriptors | says that it works |
//! | `fence(SeqCst)` | `fence(SeqCst)` |
//! | finds that it works, and tells it; or that it sleeps | lets it walk |
//!
//! One of the two sees the other: either it is told, or it walks tables as they are now.
//!
//! While it sleeps its registers may be gone: whoever accesses them, and is not the one that changes the state, is
//! *inside* meanwhile, counted by CPU; putting it to sleep waits until nobody is.

use crate::sync::{AtomicU64, Line, Ordering, fence};

const FAILED: u64 = 1 << 0;
const ASLEEP: u64 = 1 << 1;
/// Added each time the SMMU begins to work: the epoch.
const NEXT: u64 = 1 << 2;
/// Added for each refused command. The topmost field, so that an overflow of it changes nothing else.
const REFUSED: u64 = 1 << 24;

/// Where there are more CPUs than this, several share a count.
const SHARDS: usize = 8;

pub(crate) struct State {
    word: AtomicU64,
    inside: [Line<AtomicU64>; SHARDS],
}

/// The state at a moment. Two are equal if nothing happened in between, that a waiter had to know of: it did not fail, sleep
/// or wake, and refused nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u64);

impl Moment {
    /// A moment that no state ever had.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// How many commands it refused before `later`, and since this.
    pub(crate) const fn refusals_until(self, later: Self) -> u64 {
        (later.0 / REFUSED).wrapping_sub(self.0 / REFUSED) & (u64::MAX / REFUSED)
    }

    /// Whether both are of the same time, whatever it refused in between.
    const fn is_as(self, other: Self) -> bool {
        (self.0 ^ other.0) & (REFUSED - 1) == 0
    }

    /// The SMMU is neither failed nor suspended.
    #[inline]
    pub(crate) const fn works(self) -> bool {
        self.0 & (FAILED | ASLEEP) == 0
    }

    #[inline]
    pub(crate) const fn has_failed(self) -> bool {
        self.0 & FAILED != 0
    }

    /// The SMMU is suspended, and has not failed.
    #[inline]
    pub(crate) const fn is_asleep(self) -> bool {
        self.0 & (FAILED | ASLEEP) == ASLEEP
    }

    /// The SMMU is suspended, failed or not: its registers may be gone.
    #[inline]
    pub(crate) const fn is_off(self) -> bool {
        self.0 & ASLEEP != 0
    }
}

/// See the module: registers may be accessed for as long as this lives.
#[must_use]
pub(crate) struct Inside<'a>(&'a AtomicU64);

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl State {
    /// The state of an SMMU that works.
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0), inside: core::array::from_fn(|_| Line(AtomicU64::new(0))) }
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        Moment(self.word.load(Ordering::Acquire))
    }

    /// Notes that the SMMU has failed.
    pub(crate) fn fail(&self) {
        self.word.fetch_or(FAILED, Ordering::AcqRel);
    }

    /// As [`State::fail`], unless the state has changed since `moment`.
    #[cold]
    #[inline(never)]
    pub(crate) fn fail_since(&self, moment: Moment) {
        // If the state has changed since `moment`, the SMMU was given up already, reset or suspended, and what was seen
        // of it before does not count.
        let mut word = self.word.load(Ordering::Acquire);
        while Moment(word).is_as(moment) {
            let (done, other) = (Ordering::AcqRel, Ordering::Acquire);
            match self.word.compare_exchange(word, word | FAILED, done, other) {
                Ok(_) => return,
                Err(changed) => word = changed,
            }
        }
    }

    /// Whether it has not changed since, whatever it refused.
    pub(crate) fn is_as_at(&self, moment: Moment) -> bool {
        self.now().is_as(moment)
    }

    /// Counts a refused command, before it is noted and the SMMU goes on: whoever finds later commands complete finds
    /// another moment.
    pub(crate) fn refuse(&self) {
        self.word.fetch_add(REFUSED, Ordering::Release);
    }

    /// Whether it is the same moment, for someone who has found since that commands are complete. They were given after
    /// `moment` was looked at.
    #[inline]
    pub(crate) fn is_undisturbed_since(&self, moment: Moment) -> bool {
        // Relaxed is enough: a refusal is counted before the SMMU goes on, and the acquiring read of CONS, ours or that
        // of whoever shared it, came after.
        self.word.load(Ordering::Relaxed) == moment.0
    }

    /// Notes that the SMMU is about to walk tables and take commands, with empty caches. One caller at a time.
    pub(crate) fn work(&self) {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let next = (word & !(FAILED | ASLEEP)).wrapping_add(NEXT);
            let changed =
                self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire);
            match changed {
                Ok(_) => break,
                Err(other) => word = other,
            }
        }
        // R5, before the SMMU walks: pairs with the fence in `elides`; see the module's table.
        fence(Ordering::SeqCst);
    }

    /// Notes that the SMMU is suspended and walks no tables any more: nobody comes in from here on. One caller at a
    /// time.
    pub(crate) fn sleep(&self) {
        self.word.fetch_or(ASLEEP, Ordering::AcqRel);
        // Pairs with the fence of `enter`: that one finds it asleep, or `wait_outside` the count.
        fence(Ordering::SeqCst);
    }

    /// Notes that the SMMU was to sleep, and has failed at that: it was not confirmed off, and has its registers. It
    /// walks no tables before [`State::work`], so what was left out meanwhile was so rightly.
    pub(crate) fn fail_awake(&self) {
        // In this order, that nobody finds that it works.
        self.fail();
        self.word.fetch_and(!ASLEEP, Ordering::AcqRel);
    }

    /// Whether an invalidation can be left out, by someone who has made the change before. The cold half of a look that
    /// found that it does not work.
    #[cold]
    pub(crate) fn elides(&self) -> bool {
        // R5: orders the caller's descriptor stores before the look at the sleep bit; pairs with the fence in `work`.
        fence(Ordering::SeqCst);
        self.now().is_asleep()
    }

    /// Lets the caller access registers; `None` where it sleeps.
    #[inline]
    pub(crate) fn enter(&self, cpu: usize) -> Option<Inside<'_>> {
        let inside = self.arrive(cpu);
        fence(Ordering::SeqCst);
        (!self.now().is_off()).then_some(inside)
    }

    /// As [`State::enter`], for someone who is about to draw a ticket: registers may be accessed if it gets one.
    ///
    /// No fence is needed for that. Whoever puts the SMMU to sleep closes its queues before it looks whether somebody is
    /// inside: of a ticket that is drawn all the same, room was claimed before, and it waits for that ticket, whose draw is a
    /// read-modify-write that passes the count on.
    #[inline]
    pub(crate) fn arrive(&self, cpu: usize) -> Inside<'_> {
        let count = &self.inside[cpu % SHARDS].0;
        count.fetch_add(1, Ordering::Relaxed);
        Inside(count)
    }

    /// Waits until nobody is inside, after [`State::sleep`]. Whoever is has to leave: what it waits for is over.
    pub(crate) fn wait_outside(&self, relax: impl Fn()) {
        for count in &self.inside {
            while count.load(Ordering::Acquire) != 0 {
                relax();
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_a_change_does_not_count_after_it() {
        let state = State::new();
        let before = state.now();
        assert!(before.works() && !before.has_failed() && !before.is_asleep());
        state.sleep();
        state.fail_since(before);
        assert!(state.now().is_asleep() && state.elides());
        state.work();
        assert!(state.now().works() && !state.elides());
        assert_ne!(state.now(), before);
        state.fail_since(before);
        assert!(state.now().works());
        let (before, moment) = (state.now(), state.now());
        state.refuse();
        assert!(!state.is_undisturbed_since(before) && state.is_as_at(before));
        state.refuse();
        assert_eq!(before.refusals_until(state.now()), 2);
        state.fail_since(moment);
        assert!(state.now().has_failed() && !state.is_as_at(before));
        state.work();
        assert!(state.now().works());
    }

    #[test]
    fn who_failed_to_sleep_has_its_registers() {
        let state = State::new();
        state.sleep();
        state.fail_awake();
        assert!(state.now().has_failed() && !state.now().is_off() && !state.elides());
        assert!(state.enter(0).is_some());
    }

    #[test]
    fn who_failed_in_its_sleep_elides_nothing() {
        let state = State::new();
        state.sleep();
        state.fail();
        assert!(state.now().has_failed() && !state.elides() && !state.now().is_asleep());
        assert!(state.enter(0).is_none());
    }

    #[test]
    fn nobody_comes_in_while_it_sleeps_and_it_waits_for_those_inside() {
        let state = State::new();
        let inside = state.enter(3).unwrap();
        state.sleep();
        assert!((0..9).all(|cpu| state.enter(cpu).is_none()));
        let left = core::cell::Cell::new(Some(inside));
        let looked = core::cell::Cell::new(0);
        state.wait_outside(|| {
            looked.set(looked.get() + 1);
            drop((looked.get() == 3).then(|| left.take()));
        });
        assert_eq!(looked.get(), 3);
        assert!(left.take().is_none());
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
