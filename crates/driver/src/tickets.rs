// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may write which slots of the command queue, and who tells the SMMU of them: many producers, without a lock.
//!
//! A producer *draws a ticket*: a run of positions that nobody else has. It writes their slots, leaves a *mark* at
//! the first one, which says where the run ends, and *calls*: calls are counted. Whoever makes the first one has the
//! bell: it follows the marks from the last published position on and publishes everything that is complete, for
//! everybody, with one write of CMDQ_PROD. Then it takes the calls back that were made before it looked; if there are others
//! by then, it looks once more, and only who leaves none gives the bell back. All others leave once they have called.
//!
//! So between the ticket and its mark a producer waits for nobody. Only a
//! producer that was stopped between the two holds up those behind it, hence interrupts are masked there. Who has
//! the bell may publish for others for a while: each further turn is for one that left to wait for the SMMU meanwhile.
//! After [`TURNS`] of them it *offers* the bell, looks once more, for all that had called by then, and leaves: if nobody has
//! called since, the bell is free. Else there is one that found the offer when it called, and takes it over: it waits until the
//! other has left, which is for that one look, and goes on. So no producer does more than a bounded number of turns.
//!
//! Nothing has to be looked at twice, and no fence is needed: the count is changed by read-modify-writes alone, so who
//! makes a call and who takes calls back agree on which came first. A call that came before is one whose mark is seen; one
//! that came after leaves a count behind. A run whose predecessor is not marked yet is published when that calls.
//!
//! Positions count up and never wrap ([`Size`] makes slots and registers of them). The marks are one word a slot, zero
//! at the start: where the run that was last marked there ends. That of an earlier lap is never beyond the present
//! position of its slot, so there is nothing to clear.

mod poller;

use crate::queue::{Size, at};
use crate::sync::plain::AtomicU64 as Plain;
use crate::sync::{AtomicBool, AtomicU64, Line, Ordering};

pub(crate) use poller::Poller;

/// Why there is no ticket. None was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTicket {
    /// There is no room, or others have just claimed it.
    Full,
    /// The queue is being reset.
    Closed,
}

/// Added to `tail` while nobody may draw.
const CLOSED: u64 = 1 << 63;

/// Turns that whoever has the bell takes for others before it offers it: none where each order of steps is tried.
const TURNS: u32 = if cfg!(loom) { 0 } else { 16 };

/// Added to `calls` while the bell is for whoever calls.
const OFFERED: u64 = 1 << 62;

/// Added to `calls` when the one who offered the bell has left it to those who have called since.
const LEFT: u64 = 1 << 63;

/// The positions of one queue.
pub(crate) struct Tickets {
    size: Size,
    producers: Line<Producers>,
    bell: Line<Bell>,
    waiters: Line<Waiters>,
    /// The SMMU wakes those who wait when commands are complete (interrupt or event), so that each turn is worth a
    /// look.
    pub(crate) told: bool,
}

/// Words that each producer changes.
struct Producers {
    /// Room that was asked for: of all tickets drawn, and of claims that are being made or taken back. Less the size of the
    /// queue, so that it is compared with what was consumed: negative at first.
    claimed: AtomicU64,
    /// The next position to be drawn, and [`CLOSED`].
    tail: AtomicU64,
}

/// Words that those who wait change.
struct Waiters {
    /// A lower bound of what the SMMU has consumed: at most a queue behind it.
    consumed: AtomicU64,
    /// Somebody waits who does not read CMDQ_CONS in each turn, and relies on others to share what they read.
    awaited: AtomicBool,
}

/// Words that callers, and the one who has the bell, change.
struct Bell {
    /// Calls that are not taken back yet, [`OFFERED`] and [`LEFT`]. The first one takes the bell, and it is free when there are
    /// none.
    calls: AtomicU64,
    /// The position up to which the SMMU has been told of commands, or is just being told: an upper bound of what it
    /// has consumed.
    published: AtomicU64,
    /// How many runs were published. Statistics alone, so not an atomic that loom explores.
    runs: Plain,
}

impl Tickets {
    pub(crate) fn new(size: Size) -> Self {
        Self {
            size,
            producers: Line(Producers {
                claimed: AtomicU64::new(0u64.wrapping_sub(size.entries())),
                tail: AtomicU64::new(0),
            }),
            bell: Line(Bell {
                calls: AtomicU64::new(0),
                published: AtomicU64::new(0),
                runs: Plain::new(0),
            }),
            waiters: Line(Waiters { consumed: AtomicU64::new(0), awaited: AtomicBool::new(false) }),
            told: false,
        }
    }

    #[inline]
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// A lower bound of what the SMMU has consumed; what it read of these slots may be overwritten.
    #[inline]
    pub(crate) fn consumed(&self) -> u64 {
        self.waiters.consumed.load(Ordering::Acquire)
    }

    /// The position up to which the SMMU has been told of commands.
    #[inline]
    pub(crate) fn published(&self) -> u64 {
        self.bell.published.load(Ordering::Acquire)
    }

    /// How many runs the SMMU has been told of.
    pub(crate) fn runs(&self) -> u64 {
        self.bell.runs.load(Ordering::Relaxed)
    }

    /// Whether a ticket for `count` slots could be drawn just now.
    #[inline]
    pub(crate) fn has_room(&self, count: u64) -> bool {
        let consumed = self.consumed();
        fits(self.producers.claimed.load(Ordering::Relaxed), count, consumed)
    }

    /// The position that has to be consumed before there is room for `count` more slots, if others claim none.
    pub(crate) fn room_is_at(&self, count: u64) -> u64 {
        let claimed = self.producers.claimed.load(Ordering::Relaxed);
        claimed.wrapping_add(count).cast_signed().max(0).cast_unsigned()
    }

    /// Draws a ticket for `count` slots: its first position. Whoever has one fills its slots, which the SMMU has
    /// consumed by then, and calls [`Tickets::publish`], without waiting for anything.
    #[inline]
    pub(crate) fn draw(&self, count: u64) -> Result<u64, NoTicket> {
        let consumed = self.consumed();
        // A load before the addition: producers that find no room do not take the cache line from those that have some.
        if !fits(self.producers.claimed.load(Ordering::Relaxed), count, consumed) {
            return Err(NoTicket::Full);
        }
        self.draw_at_once(count, consumed)
    }

    /// As [`Tickets::draw`], for someone who will draw with more care if there is no room, and knows that so much is
    /// `consumed`.
    #[inline]
    pub(crate) fn draw_at_once(&self, count: u64, consumed: u64) -> Result<u64, NoTicket> {
        let Producers { claimed, tail } = &self.producers.0;
        // A claim that stays was within the room together with all that stayed before it, so all tickets together are,
        // in whatever order they are drawn. (Claims are apart from positions because a position, once drawn, cannot be
        // given back.)
        if !fits(claimed.fetch_add(count, Ordering::Relaxed), count, consumed) {
            self.take_back(count);
            return Err(NoTicket::Full);
        }
        // AcqRel: a producer that drew before us passes on what it knew to be consumed when it claimed its room.
        let start = tail.fetch_add(count, Ordering::AcqRel);
        if start & CLOSED != 0 {
            self.take_back(count);
            return Err(NoTicket::Closed);
        }
        Ok(start)
    }

    /// Takes a claim of `count` slots back, for which no ticket was drawn.
    #[cold]
    #[inline(never)]
    fn take_back(&self, count: u64) {
        self.producers.claimed.fetch_sub(count, Ordering::Relaxed);
    }

    /// Publishes the run from `start` to `end`, whose slots are filled; `tell` writes CMDQ_PROD for a position.
    #[inline]
    pub(crate) fn publish(
        &self,
        marks: &[AtomicU64],
        start: u64,
        end: u64,
        mut tell: impl FnMut(u64),
    ) {
        self.mark(marks, start, end);
        match self.call() {
            0 => {}
            others if others & OFFERED == 0 => return,
            _ => return self.take_over(marks, tell),
        }
        if self.bell.published.load(Ordering::Relaxed) != start {
            return self.ring(marks, 1, tell);
        }
        // This run begins where publication stands, as it does whenever no other producer is at work.
        self.announce(marks, end, &mut tell);
        if let Some(calls) = self.take_calls_back(1) {
            self.ring(marks, calls, tell);
        }
    }

    #[inline]
    fn mark(&self, marks: &[AtomicU64], start: u64, end: u64) {
        // Release: whoever publishes this run for us sees its slots before it tells the SMMU.
        if let Some(mark) = at(marks, start) {
            mark.store(end, Ordering::Release);
        }
    }

    /// Says that a run was marked, and is to be published. Returns the count of calls before this one: with 0, the
    /// caller has the bell now.
    #[inline]
    fn call(&self) -> u64 {
        self.bell.calls.fetch_add(1, Ordering::AcqRel)
    }

    /// To be called by the one who has the bell: takes back the `calls` that came before its last look. Returns how
    /// many came since; with none, the bell is free.
    #[inline]
    fn take_calls_back(&self, calls: u64) -> Option<u64> {
        let all = self.bell.calls.fetch_sub(calls, Ordering::AcqRel);
        if all == calls { None } else { Some(all - calls) }
    }

    /// Publishes what is complete, as whoever has the bell, for so many calls, and gives it back.
    #[cold]
    #[inline(never)]
    fn ring(&self, marks: &[AtomicU64], mut calls: u64, mut tell: impl FnMut(u64)) {
        for _ in 0..TURNS {
            self.look(marks, &mut tell);
            match self.take_calls_back(calls) {
                Some(more) => calls = more,
                None => return,
            }
        }
        // Whoever calls from here on finds the offer; this last look publishes the runs of those who called before.
        let calls = self.bell.calls.fetch_or(OFFERED, Ordering::AcqRel);
        self.look(marks, &mut tell);
        self.leave(calls);
    }

    /// Publishes what is complete, as whoever has the bell.
    fn look(&self, marks: &[AtomicU64], tell: &mut impl FnMut(u64)) {
        let from = self.bell.published.load(Ordering::Relaxed);
        if let Some(end) = self.end_of(marks, from) {
            self.announce(marks, end, tell);
        }
    }

    /// To be called by the one who offered the bell when there were `calls` calls, and has looked since: gives the bell
    /// back, or leaves it to one of those who have called since.
    fn leave(&self, calls: u64) {
        let (count, free) = (&self.bell.calls, Ordering::AcqRel);
        // The count only grows until then: further calls are added to it, and whoever takes the bell over adds one.
        if count.compare_exchange(calls | OFFERED, 0, free, Ordering::Relaxed).is_err() {
            count.fetch_add(LEFT.wrapping_sub(calls), Ordering::AcqRel);
        }
    }

    /// To be called by one who found the bell offered when it called: publishes what is complete, unless another caller
    /// took the bell over first.
    #[cold]
    #[inline(never)]
    fn take_over(&self, marks: &[AtomicU64], tell: impl FnMut(u64)) {
        let count = &self.bell.calls;
        // Adds one to the count: its own call may be taken back by the one who offered the bell, and the count must not
        // become 0 while this one has the bell.
        let (taken, other) = (Ordering::AcqRel, Ordering::Relaxed);
        let mut calls = count.load(Ordering::Relaxed);
        while calls & OFFERED != 0 {
            match count.compare_exchange_weak(calls, calls - OFFERED + 1, taken, other) {
                Ok(_) => break,
                Err(now) => calls = now,
            }
        }
        if calls & OFFERED == 0 {
            return;
        }
        // Short: the one who offered the bell has interrupts masked, and only looks once more.
        while count.load(Ordering::Acquire) & LEFT == 0 {
            pause();
        }
        let calls = count.fetch_and(!LEFT, Ordering::AcqRel) & !LEFT;
        self.ring(marks, calls, tell);
    }

    /// Publishes the complete run that ends at `end`, and all that are complete behind it, as whoever has the bell. What
    /// comes before it is published.
    #[inline]
    fn announce(&self, marks: &[AtomicU64], end: u64, tell: &mut impl FnMut(u64)) {
        let Bell { published, runs, .. } = &self.bell.0;
        // Only the one who has the bell changes `runs`, so a load and a store do.
        let mut count = runs.load(Ordering::Relaxed).wrapping_add(1);
        let mut to = end;
        while let Some(end) = self.end_of(marks, to) {
            (to, count) = (end, count.wrapping_add(1));
        }
        runs.store(count, Ordering::Relaxed);
        // Stored before PROD is written: no position that CONS shows is beyond `published`.
        published.store(to, Ordering::Release);
        tell(to);
    }

    /// The end of the run that begins at `position`, if it is complete.
    #[inline]
    fn end_of(&self, marks: &[AtomicU64], position: u64) -> Option<u64> {
        let end = at(marks, position)?.load(Ordering::Acquire);
        (end > position).then_some(end)
    }

    /// What the SMMU has consumed; `read` reads CMDQ_CONS.RD. Others do not learn of it: see [`Tickets::share`].
    /// `published` is a lower bound of what is published, of which the caller keeps a better one.
    ///
    /// # Errors
    /// The register's value when it is ahead of what was published.
    #[inline]
    pub(crate) fn observe(
        &self,
        published: &mut u64,
        read: impl FnOnce() -> u32,
    ) -> Result<u64, u32> {
        // Loaded before the register is read, so that the register is not behind it. When others were faster the
        // register may be more than a queue ahead; the position that comes out of it is then too low, never too high.
        let behind = self.consumed();
        let register = read();
        let position = self.size.after(behind, register);
        if position > *published {
            // `published` is loaded only when needed: those who wait do not take its cache line from those who publish
            // at each look.
            *published = self.published();
        }
        if position > *published { Err(register) } else { Ok(position) }
    }

    /// The position up to which the SMMU has consumed commands, by the message of a CMD_SYNC, which is the low half of
    /// the position after it.
    ///
    /// The message may be an old one, if later ones were lost: then nothing is learnt from it. Nor is a value believed
    /// that makes no sense; the register is read now and then anyway.
    #[inline]
    pub(crate) fn hear(&self, read: impl FnOnce() -> u32) -> u64 {
        // Loaded before the message: what a later one says is ahead of it, by less than 2^31.
        let behind = self.consumed();
        let ahead = read().wrapping_sub(behind as u32).cast_signed();
        let position = behind + u64::from(ahead.max(0).cast_unsigned());
        if position <= self.published() { position } else { behind }
    }

    /// Lets others know that the SMMU has consumed everything before `position`, as one of them found: those who wait
    /// for it, or for room.
    #[inline]
    pub(crate) fn share(&self, position: u64) {
        if position > self.consumed() {
            self.waiters.consumed.fetch_max(position, Ordering::AcqRel);
        }
    }

    /// As [`Tickets::share`], if `position` is more than `slots` ahead of what is known.
    #[inline]
    fn share_if_ahead(&self, position: u64, slots: u64) {
        if position > self.consumed() + slots {
            self.share(position);
        }
    }

    /// As [`Tickets::share`], only if those who draw might miss the room otherwise.
    #[inline]
    pub(crate) fn share_if_much(&self, position: u64) {
        self.share_if_ahead(position, self.much());
    }

    /// Slots that are a good part of the queue.
    #[inline]
    fn much(&self) -> u64 {
        self.size.quarter()
    }

    /// Whether the SMMU has consumed everything before `end`, as `read`, which reads CMDQ_CONS.RD, says. What is known to be
    /// consumed, now or earlier, is `behind`. A register that makes no sense says nothing.
    #[inline]
    pub(crate) fn has_reached(&self, end: u64, behind: u64, read: impl FnOnce() -> u32) -> bool {
        let ahead = self.size.ahead(behind, read());
        let position = behind + ahead;
        // Relaxed is enough: `published` was stored before the PROD write that let the SMMU consume this far.
        if position < end || position > self.bell.published.load(Ordering::Relaxed) {
            return false;
        }
        // `consumed` is read by every producer, so it is written seldom.
        if ahead > self.much() {
            // If the exchange fails, a later look stores it. None comes too late: nobody draws more than a queue beyond
            // `consumed`.
            let (done, other) = (Ordering::AcqRel, Ordering::Relaxed);
            let known = &self.waiters.consumed;
            let _ = known.compare_exchange_weak(behind, position, done, other);
        }
        true
    }

    /// Writes CMDQ_PROD once more, although there may be nothing new to tell, because of what `change` changes of the
    /// value that `tell` writes: no write is under way meanwhile. Interrupts are masked.
    pub(crate) fn tell_again(
        &self,
        marks: &[AtomicU64],
        change: impl FnOnce(),
        mut tell: impl FnMut(u64),
    ) {
        // This ends soon: whoever has the bell has interrupts masked, and while the SMMU stands still the queue fills
        // up, so that no more calls come.
        self.take_bell(pause);
        change();
        tell(self.bell.published.load(Ordering::Relaxed));
        // Those who have called since found the bell taken and left: their runs are ours to publish.
        if let Some(calls) = self.take_calls_back(1) {
            self.ring(marks, calls, tell);
        }
    }

    /// Takes the bell when it is free, by a call of its own. While others call it is not; the caller knows why they do not for
    /// ever.
    fn take_bell(&self, relax: impl Fn()) {
        let calls = &self.bell.calls;
        while calls.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            relax();
        }
    }

    /// Closes the queue once every ticket is published, for an SMMU that is off: what comes after [`Tickets::open`]
    /// begins at a position at which PROD and CONS both show 0. `begins` is told of it before anything up to it
    /// can count as consumed. One caller at a time. The position after the last ticket is returned.
    pub(crate) fn close(
        &self,
        marks: &[AtomicU64],
        relax: impl Fn(),
        begins: impl FnOnce(u64),
    ) -> u64 {
        let Producers { claimed, tail } = &self.producers.0;
        let published = &self.bell.published;
        let drawn = tail.fetch_or(CLOSED, Ordering::AcqRel);
        let mut end = self.published();
        // If the queue was closed already, everything is published, and `drawn` counts tickets that were refused.
        while drawn & CLOSED == 0 && end != drawn {
            match self.end_of(marks, end) {
                Some(next) => end = next,
                None => relax(),
            }
        }
        // With the bell taken nobody writes CMDQ_PROD any more: every run is marked, and those that still call only add
        // to the count.
        self.take_bell(relax);
        let beginning = end.next_multiple_of(2 * self.size.entries());
        begins(beginning);
        published.store(beginning, Ordering::Release);
        // Added before the gap counts as consumed (in `open`), so that claims under way are never given more room than
        // there is.
        claimed.fetch_add(beginning - end, Ordering::Relaxed);
        // The runs of those who call this late are before `end`, and are abandoned with this reset: their calls are
        // taken back without a look at the marks.
        let mut calls = 1;
        while let Some(more) = self.take_calls_back(calls) {
            calls = more;
        }
        end
    }

    /// Whether nobody may draw. Not to be asked while somebody closes or opens it.
    pub(crate) fn is_closed(&self) -> bool {
        self.producers.tail.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Lets tickets be drawn again after [`Tickets::close`]. CMDQ_PROD and CMDQ_CONS are 0.
    pub(crate) fn open(&self) {
        // `consumed` is raised only after CONS was written as 0: a waiter that loads the new value and then reads CONS
        // reads it of the new epoch.
        self.waiters.consumed.fetch_max(self.published(), Ordering::AcqRel);
        // A read-modify-write, so that it is ordered with the draws that were refused; what they added to the tail is
        // overwritten.
        self.producers.tail.swap(self.published(), Ordering::AcqRel);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
impl Tickets {
    /// Where producers' words, the bell's, and those who wait have theirs: addresses.
    pub(crate) fn places(&self) -> [core::ops::Range<usize>; 3] {
        fn of<T>(value: &Line<T>) -> core::ops::Range<usize> {
            let first = core::ptr::from_ref(value) as usize;
            first..first + size_of::<Line<T>>()
        }
        [of(&self.producers), of(&self.bell), of(&self.waiters)]
    }
}

/// Whether there is room for `count` slots more, after what was `claimed` less the size of the queue.
#[inline]
fn fits(claimed: u64, count: u64, consumed: u64) -> bool {
    // Positions stay far below 2^63.
    claimed.wrapping_add(count).cast_signed() <= consumed.cast_signed()
}

/// One turn of a loop that waits for another CPU, which has interrupts masked.
fn pause() {
    #[cfg(not(any(loom, shuttle)))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::hint::spin_loop();
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, shuttle))]
mod contention;
#[cfg(all(test, loom))]
mod loom_tests;
