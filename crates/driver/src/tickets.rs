// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may write which slots of the command queue, and who tells the SMMU of them: many producers, without a lock.
//!
//! A producer *draws a ticket*: a run of positions that nobody else has. It writes their slots, and exchanges the *mark* of
//! the first one for the position where the run ends. There is one *baton*, which lies in the mark of the first position that is
//! not published. Whoever finds it there when it marks its run has it: it publishes that run, and all complete ones behind it,
//! for everybody, with one write of CMDQ_PROD, and lays the baton down in the mark behind them; if that run was marked meanwhile,
//! it goes on. All others leave once they have marked their runs: the baton comes to these.
//!
//! So between the ticket and its mark a producer waits for nobody. Only a producer that was stopped between the two holds up
//! those behind it, hence interrupts are masked there. Nothing has to be looked at twice, and no fence is needed: who marks a
//! run and who lays the baton down there change the same word, so one of the two finds the other's.
//!
//! Who has the baton may publish for others for a while: each further turn is for one that left to wait for the SMMU meanwhile.
//! After [`TURNS`] of them it asks for somebody else ([`WANTED`]): one of those who draw from then on *appoints* itself, and does not
//! leave: the baton is laid into its mark, over the run's end, and it waits for that, which is until those before it have marked
//! their runs. So no producer does more than a bounded number of turns.
//!
//! Positions count up and never wrap ([`Size`] makes slots and registers of them). A mark of an earlier lap says nothing of
//! the present position of its slot, so there is nothing to clear; and all being zero, the baton lies at the first.

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

/// Added to `tail` while whoever draws is to take the baton over.
const WANTED: u64 = 1 << 62;

/// Turns that whoever has the baton takes for others before it asks for somebody else: none where each order of steps is tried.
const TURNS: u32 = if cfg!(loom) { 0 } else { 16 };

/// Nobody was ever appointed.
const NOBODY: u64 = u64::MAX;

/// The mark of the first position that is not published, while somebody has the baton who has no run there.
const HELD: u64 = 1 << 63;

/// The mark of the slot of `position`, if the baton lies there.
const fn baton(position: u64) -> u64 {
    2 * position
}

/// The mark of a run that ends at `position`.
const fn filled(position: u64) -> u64 {
    2 * position - 1
}

/// Where the run that begins at `position` ends, by the mark of its slot; `None` if it is not marked yet.
#[inline]
const fn end_in(mark: u64, position: u64) -> Option<u64> {
    if mark & 1 == 1 && mark > baton(position) { Some(mark / 2 + 1) } else { None }
}

/// The positions of one queue.
pub(crate) struct Tickets {
    size: Size,
    producers: Line<Producers>,
    shown: Line<Shown>,
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

/// Words that those who wait change, and all who draw read: seldom.
struct Waiters {
    /// A lower bound of what the SMMU has consumed: at most a queue behind it.
    consumed: AtomicU64,
    /// Where the run of the last one begins that was to take the baton over. Whoever lays the baton down there has left.
    appointed: AtomicU64,
    /// Somebody waits who does not read CMDQ_CONS in each turn, and relies on others to share what they read.
    awaited: AtomicBool,
}

/// Words that the one who has the baton changes.
struct Shown {
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
            shown: Line(Shown { published: AtomicU64::new(0), runs: Plain::new(0) }),
            waiters: Line(Waiters {
                consumed: AtomicU64::new(0),
                appointed: AtomicU64::new(NOBODY),
                awaited: AtomicBool::new(false),
            }),
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
        self.shown.published.load(Ordering::Acquire)
    }

    /// How many runs the SMMU has been told of.
    pub(crate) fn runs(&self) -> u64 {
        self.shown.runs.load(Ordering::Relaxed)
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
        if start & (CLOSED | WANTED) != 0 { self.drawn(start, count) } else { Ok(start) }
    }

    /// Takes a claim of `count` slots back, for which no ticket was drawn.
    #[cold]
    #[inline(never)]
    fn take_back(&self, count: u64) {
        self.producers.claimed.fetch_sub(count, Ordering::Relaxed);
    }

    /// What comes of a ticket of `count` slots that is not an ordinary one.
    #[cold]
    #[inline(never)]
    fn drawn(&self, start: u64, count: u64) -> Result<u64, NoTicket> {
        if start & CLOSED != 0 {
            self.take_back(count);
            return Err(NoTicket::Closed);
        }
        let start = start & !WANTED;
        let appointed = &self.waiters.appointed;
        let last = appointed.load(Ordering::Relaxed);
        // One at a time. The last one has the baton by the time that its run is published, and is nobody's concern any more.
        let over = last == NOBODY || last < self.published();
        // Relaxed is enough: whoever comes to this run finds its mark first, which is set after this.
        let (done, other) = (Ordering::Relaxed, Ordering::Relaxed);
        if over && appointed.compare_exchange(last, start, done, other).is_ok() {
            self.producers.tail.fetch_and(!WANTED, Ordering::AcqRel);
        }
        Ok(start)
    }

    /// Publishes the run from `start` to `end`, whose slots are filled; `tell` writes CMDQ_PROD for a position. Returns up to
    /// where that is known to be published; 0 where others do it.
    #[inline]
    pub(crate) fn publish(
        &self,
        marks: &[AtomicU64],
        start: u64,
        end: u64,
        mut tell: impl FnMut(u64),
    ) -> u64 {
        let Some(mark) = at(marks, start) else { return 0 };
        // Release: whoever publishes this run for us sees its slots before it tells the SMMU. Acquire: where we have the
        // baton, we see those of others, and tell it after others have.
        if mark.swap(filled(end), Ordering::AcqRel) != baton(start) && !self.takes_over(mark, start)
        {
            return 0;
        }
        let Some((to, seen)) = self.follow(marks, end, 1) else { return 0 };
        tell(to);
        if !lay_down(marks, to, seen) {
            self.go_on(marks, to, tell);
        }
        to
    }

    /// To be called by one who found no baton where its run begins, which is marked: whether it has it now, since it was
    /// appointed.
    #[inline]
    fn takes_over(&self, mark: &AtomicU64, start: u64) -> bool {
        self.waiters.appointed.load(Ordering::Relaxed) == start && {
            receive(mark, start);
            true
        }
    }

    /// To be called by the one who has the baton when everything before `to` is complete, but not what begins before that
    /// for the last of `runs` runs: shows all that are complete as published, also behind `to`. Returns where they end, and the
    /// mark that is there.
    #[inline]
    fn follow(&self, marks: &[AtomicU64], mut to: u64, mut runs: u64) -> Option<(u64, u64)> {
        let mut seen = at(marks, to)?.load(Ordering::Acquire);
        while let Some(end) = end_in(seen, to) {
            // That one waits for the baton.
            if self.waiters.appointed.load(Ordering::Relaxed) == to {
                break;
            }
            (to, runs) = (end, runs + 1);
            seen = at(marks, to)?.load(Ordering::Acquire);
        }
        let Shown { published, runs: count } = &self.shown.0;
        // Only the one who has the baton changes it, so a load and a store do.
        count.store(count.load(Ordering::Relaxed).wrapping_add(runs), Ordering::Relaxed);
        // Stored before PROD is written: no position that CONS shows is beyond `published`.
        published.store(to, Ordering::Release);
        Some((to, seen))
    }

    /// Publishes what was completed at `to` and behind it meanwhile, as the one who has the baton, and lays it down.
    #[cold]
    #[inline(never)]
    fn go_on(&self, marks: &[AtomicU64], mut from: u64, mut tell: impl FnMut(u64)) {
        let mut left = TURNS;
        loop {
            if left == 0 {
                self.producers.tail.fetch_or(WANTED, Ordering::AcqRel);
                left = TURNS;
            }
            left = left.saturating_sub(1);
            let Some((to, seen)) = self.follow(marks, from, 0) else { return };
            if to != from {
                tell(to);
            }
            if lay_down(marks, to, seen) {
                return;
            }
            from = to;
        }
    }

    /// Takes the baton where it lies, for someone without a run, and returns that position. While others have it, it does
    /// not; the caller knows why they do not for ever.
    fn take_baton(&self, marks: &[AtomicU64], relax: impl Fn()) -> u64 {
        loop {
            let position = self.published();
            let (taken, other) = (Ordering::Acquire, Ordering::Relaxed);
            if at(marks, position).is_none_or(|mark| {
                mark.compare_exchange(baton(position), HELD, taken, other).is_ok()
            }) {
                return position;
            }
            relax();
        }
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
    /// consumed, now or earlier, is `behind`, and to be published, at least `published`. A register that makes no sense says
    /// nothing.
    #[inline]
    pub(crate) fn has_reached(
        &self,
        end: u64,
        (behind, published): (u64, u64),
        read: impl FnOnce() -> u32,
    ) -> bool {
        let ahead = self.size.ahead(behind, read());
        let position = behind + ahead;
        if position < end {
            return false;
        }
        // The word itself is looked at only where it matters: it is on a cache line of those who publish. Relaxed is enough:
        // it was stored before the PROD write that let the SMMU consume this far.
        if position > published && position > self.shown.published.load(Ordering::Relaxed) {
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
        // This ends soon: whoever has the baton has interrupts masked, and while the SMMU stands still the queue fills
        // up, so that no more runs come.
        let position = self.take_baton(marks, pause);
        change();
        tell(position);
        // A run that was marked here since is ours to publish.
        if !lay_down(marks, position, HELD) {
            self.go_on(marks, position, tell);
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
        let published = &self.shown.published;
        let drawn = tail.fetch_or(CLOSED, Ordering::AcqRel) & !WANTED;
        // If the queue was closed already, everything is published, and `drawn` counts tickets that were refused.
        while drawn & CLOSED == 0 && self.published() != drawn {
            relax();
        }
        // With the baton taken nobody writes CMDQ_PROD any more: every run is marked and published.
        let end = self.take_baton(marks, relax);
        let beginning = end.next_multiple_of(2 * self.size.entries());
        begins(beginning);
        published.store(beginning, Ordering::Release);
        // Added before the gap counts as consumed (in `open`), so that claims under way are never given more room than
        // there is.
        claimed.fetch_add(beginning - end, Ordering::Relaxed);
        if let Some(mark) = at(marks, beginning) {
            mark.store(baton(beginning), Ordering::Release);
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
    /// Where producers' words, what is published, and those who wait have theirs: addresses.
    pub(crate) fn places(&self) -> [core::ops::Range<usize>; 3] {
        fn of<T>(value: &Line<T>) -> core::ops::Range<usize> {
            let first = core::ptr::from_ref(value) as usize;
            first..first + size_of::<Line<T>>()
        }
        [of(&self.producers), of(&self.shown), of(&self.waiters)]
    }
}

/// Whether there is room for `count` slots more, after what was `claimed` less the size of the queue.
#[inline]
fn fits(claimed: u64, count: u64, consumed: u64) -> bool {
    // Positions stay far below 2^63.
    claimed.wrapping_add(count).cast_signed() <= consumed.cast_signed()
}

/// Lays the baton down at `to`, for whoever marks a run there; or for the one who has, and was appointed. False if a run was
/// marked there since its mark was last `seen`: the caller has it still.
#[inline]
fn lay_down(marks: &[AtomicU64], to: u64, seen: u64) -> bool {
    // Release: whoever takes it up tells the SMMU after we have. Acquire: we see the slots of the run that is there.
    let (left, other) = (Ordering::AcqRel, Ordering::Acquire);
    at(marks, to).is_none_or(|mark| mark.compare_exchange(seen, baton(to), left, other).is_ok())
}

/// Waits until the baton lies in the mark of the run that begins at `start`, and takes it up. Whoever was appointed for that
/// has interrupts masked, as those have whom it waits for.
#[cold]
#[inline(never)]
fn receive(mark: &AtomicU64, start: u64) {
    let (taken, other) = (Ordering::Acquire, Ordering::Relaxed);
    while mark.compare_exchange(baton(start), HELD, taken, other).is_err() {
        pause();
    }
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
