// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may write which slots of the command queue, and who tells the SMMU of them: many producers, without a lock.
//!
//! A producer *draws a ticket*: a run of positions that nobody else has, and fills their slots. There is one *baton*: whoever has
//! it publishes all complete runs from the first that is not published on, for everybody, with one write of CMDQ_PROD.
//!
//! The word that tickets are drawn from also counts the runs that were drawn and are not published. Who draws the *first* of
//! them has the baton: no other producer is there. It publishes its run and takes it off the count, and if that is 0 then, the
//! queue is at rest: alone, a producer makes three read-modify-writes, of that word and of its claim of room.
//!
//! Who draws *behind* others exchanges the *mark* of its run's first slot for the position where the run ends, and leaves: the
//! baton comes there. For whoever has it goes on for as long as the next run is marked, and if that is not, and the count says
//! that there is one, lays the baton down in its mark. Then the one who marks that run finds it there, and has it.
//!
//! So between the ticket and its mark a producer waits for nobody. Only a producer that was stopped between the two holds up
//! those behind it, hence interrupts are masked there. Nothing has to be looked at twice, and no fence is needed: who marks a
//! run and who lays the baton down there change the same word, so one of the two finds the other's.
//!
//! Who has the baton may publish for others for a while: each further turn is for one that left to wait for the SMMU meanwhile.
//! After [`TURNS`] of them it asks for somebody else ([`WANTED`]): who draws from then on is *appointed*, says so in its mark, and
//! does not leave: the baton is laid into that mark, and it waits for that, which is until those before it have marked
//! their runs. So no producer does more than a bounded number of turns.
//!
//! Positions count up and never wrap ([`Size`] makes slots and registers of them). A mark of an earlier lap says nothing of
//! the present position of its slot, so there is nothing to clear.

mod mark;
mod poller;

use crate::queue::{Size, at};
use crate::sync::plain::AtomicU64 as Plain;
use crate::sync::{AtomicBool, AtomicU64, Line, Ordering};

use mark::{HELD, awaits, baton, comes_to, end_in, lay_down};
pub(crate) use poller::{Poller, give_way};

/// Why there is no ticket. None was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTicket {
    /// There is no room, or others have just claimed it.
    Full,
    /// The queue is being reset.
    Closed,
}

/// Added to `claimed` while nobody may draw: no claim fits.
const CLOSED: u64 = 1 << 62;

/// Of `tail`: one run that was drawn, and is not published, or was and is not off the count: at most one for each slot of either
/// kind, and one that stands for somebody without a run.
const RUN: u64 = 1;
/// Of `tail`: how many these are.
const RUNS: u64 = WANTED - 1;
/// Of `tail`: whoever draws is to take the baton over.
const WANTED: u64 = 1 << 21;
/// Of `tail`: from here on the next position to be drawn, as much of it as there is room for.
const POSITION_SHIFT: u32 = 22;

/// Turns that whoever has the baton takes for others before it asks for somebody else: none where each order of steps is tried.
const TURNS: u32 = if cfg!(loom) { 0 } else { 16 };

/// A ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// Its first position.
    pub(crate) start: u64,
    turn: Turn,
}

/// What becomes of a run when it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is the first that is not published: whoever drew it has the baton.
    First,
    /// The baton comes to it.
    Behind,
    /// The same, and whoever drew it takes it over.
    Appointed,
}

/// The positions of one queue.
pub(crate) struct Tickets {
    size: Size,
    producers: Line<Producers>,
    waiters: Line<Waiters>,
    /// The SMMU wakes those who wait when commands are complete (interrupt or event), so that each turn is worth a
    /// look.
    pub(crate) told: bool,
}

/// Words that each producer changes, the last two of them where it has the baton.
struct Producers {
    /// Room that was asked for: of all tickets drawn, and of claims that are being made or taken back. Less the size of the
    /// queue, so that it is compared with what was consumed: negative at first. And [`CLOSED`].
    claimed: AtomicU64,
    /// The next position to be drawn, [`WANTED`], and how many runs were drawn that are not published.
    tail: AtomicU64,
    /// The position up to which the SMMU has been told of commands, or is just being told: an upper bound of what it
    /// has consumed. Changed by whoever has the baton.
    published: AtomicU64,
    /// How many runs were published. Statistics alone, so not an atomic that loom explores.
    runs: Plain,
}

/// Words that those who wait change, and all who draw read: seldom.
struct Waiters {
    /// A lower bound of what the SMMU has consumed: at most a queue behind it.
    consumed: AtomicU64,
    /// Somebody waits who does not read CMDQ_CONS in each turn, and relies on others to share what they read.
    awaited: AtomicBool,
}

impl Tickets {
    pub(crate) fn new(size: Size) -> Self {
        Self {
            size,
            producers: Line(Producers {
                claimed: AtomicU64::new(0u64.wrapping_sub(size.entries())),
                tail: AtomicU64::new(0),
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
        self.producers.published.load(Ordering::Acquire)
    }

    /// How many runs the SMMU has been told of.
    pub(crate) fn runs(&self) -> u64 {
        self.producers.runs.load(Ordering::Relaxed)
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

    /// Draws a ticket for `count` slots. Whoever has one fills them, of which the SMMU has
    /// consumed all that was there, and calls [`Tickets::publish`], without waiting for anything.
    #[inline]
    pub(crate) fn draw(&self, count: u64) -> Result<Drawn, NoTicket> {
        let consumed = self.consumed();
        // A load before the addition: producers that find no room do not take the cache line from those that have some.
        let claimed = self.producers.claimed.load(Ordering::Relaxed);
        if !fits(claimed, count, consumed) {
            return Err(why_not(claimed));
        }
        self.draw_at_once(count, consumed)
    }

    /// As [`Tickets::draw`], for someone who will draw with more care if there is no room, and knows that so much is
    /// `consumed`.
    #[inline]
    pub(crate) fn draw_at_once(&self, count: u64, consumed: u64) -> Result<Drawn, NoTicket> {
        debug_assert!(count != 0, "a run that nobody could publish");
        let Producers { claimed, tail, .. } = &self.producers.0;
        // A claim that stays was within the room together with all that stayed before it, so all tickets together are,
        // in whatever order they are drawn. (Claims are apart from positions because a position, once drawn, cannot be
        // given back.) Acquire: after a reset, what it began with is what we draw from.
        let before = claimed.fetch_add(count, Ordering::AcqRel);
        if !fits(before, count, consumed) {
            return Err(self.take_back(before, count));
        }
        // AcqRel: a producer that drew before us passes on what it knew to be consumed when it claimed its room; and who had
        // the baton before us, if we have it now, what it told the SMMU.
        let drawn = tail.fetch_add(count << POSITION_SHIFT | RUN, Ordering::AcqRel);
        let start = position_in(drawn, consumed);
        let turn = match drawn & (WANTED | RUNS) {
            0 => Turn::First,
            _ => self.turn(drawn),
        };
        Ok(Drawn { start, turn })
    }

    /// Takes a claim of `count` slots back, for which no ticket was drawn, and says why.
    #[cold]
    #[inline(never)]
    fn take_back(&self, before: u64, count: u64) -> NoTicket {
        self.producers.claimed.fetch_sub(count, Ordering::AcqRel);
        why_not(before)
    }

    /// Whose turn a ticket is that was not simply the first.
    #[cold]
    #[inline(never)]
    fn turn(&self, drawn: u64) -> Turn {
        if drawn & WANTED != 0 {
            // If others find it as well, there is more than one, each of whom the baton comes to.
            self.producers.tail.fetch_and(!WANTED, Ordering::AcqRel);
        }
        match (drawn & RUNS, drawn & WANTED) {
            (0, _) => Turn::First,
            (_, 0) => Turn::Behind,
            _ => Turn::Appointed,
        }
    }

    /// Publishes the run of `drawn`, which goes on to `end`, and whose slots are filled; `tell` writes CMDQ_PROD for a
    /// position. Returns up to where that is known to be published; 0 where others do it.
    #[inline]
    pub(crate) fn publish(
        &self,
        marks: &[AtomicU64],
        drawn: Drawn,
        end: u64,
        mut tell: impl FnMut(u64),
    ) -> u64 {
        // A look alone: if others draw now, the count says so in the end. The way where others are is one for whoever is
        // alone as well.
        if !cfg!(feature = "fast-paths")
            || drawn.turn != Turn::First
            || self.producers.tail.load(Ordering::Relaxed) & RUNS != RUN
        {
            return self.publish_among(marks, drawn, end, tell);
        }
        self.show(end, 1);
        tell(end);
        if !self.rests_after(1) {
            self.go_on(marks, end, tell);
        }
        end
    }

    /// As [`Tickets::publish`], where others are.
    #[cold]
    #[inline(never)]
    fn publish_among(
        &self,
        marks: &[AtomicU64],
        drawn: Drawn,
        end: u64,
        mut tell: impl FnMut(u64),
    ) -> u64 {
        if drawn.turn != Turn::First && !comes_to(marks, drawn, end) {
            return 0;
        }
        let Reached { to, runs, .. } = self.follow(marks, end, 1);
        tell(to);
        if !self.rests_after(runs) {
            self.go_on(marks, to, tell);
        }
        to
    }

    /// To be called by the one who has the baton when everything before `to` is complete, but not what begins before that
    /// for the last of `runs` runs: shows all that are complete as published, also behind `to`.
    fn follow(&self, marks: &[AtomicU64], mut to: u64, mut runs: u64) -> Reached {
        // There are marks.
        let look = |position| at(marks, position).map_or(0, |mark| mark.load(Ordering::Acquire));
        let mut seen = look(to);
        while let Some(end) = end_in(seen, to)
            && seen != awaits(end)
        {
            (to, runs) = (end, runs + 1);
            seen = look(to);
        }
        self.show(to, runs);
        Reached { to, seen, runs }
    }

    /// Shows everything before `to` as published, the last of it so many runs.
    #[inline]
    fn show(&self, to: u64, runs: u64) {
        let Producers { published, runs: count, .. } = &self.producers.0;
        // Only the one who has the baton changes it, so a load and a store do.
        count.store(count.load(Ordering::Relaxed).wrapping_add(runs), Ordering::Relaxed);
        // Stored before PROD is written: no position that CONS shows is beyond `published`.
        published.store(to, Ordering::Release);
    }

    /// Takes so many runs off the count, by the one who has the baton and has published them. Whether the queue is at rest
    /// then, and whoever draws next has the baton; else there is a run, marked or not, that it has to come to.
    #[inline]
    fn rests_after(&self, runs: u64) -> bool {
        // Release: whoever has the baton next tells the SMMU after we have.
        self.producers.tail.fetch_sub(runs, Ordering::AcqRel) & RUNS == runs
    }

    /// Publishes what was completed at `from` and behind it meanwhile, as the one who has the baton and has taken what it has
    /// published off the count, and lays it down: there are others.
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
            let reached = self.follow(marks, from, 0);
            if reached.to != from {
                tell(reached.to);
                if self.rests_after(reached.runs) {
                    return;
                }
            }
            if lay_down(marks, reached) {
                return;
            }
            from = reached.to;
        }
    }

    /// Takes the baton where it lies, for someone without a run. While others have it, it does not; the caller knows why they do
    /// not for ever. Returns the position up to which everything is published, and how many runs of the count stand
    /// for the caller.
    fn take_baton(&self, marks: &[AtomicU64], relax: impl Fn()) -> (u64, u64) {
        let tail = &self.producers.tail;
        let (taken, other) = (Ordering::AcqRel, Ordering::Relaxed);
        loop {
            let drawn = tail.load(Ordering::Relaxed);
            if drawn & RUNS == 0 {
                if tail.compare_exchange(drawn, drawn + RUN, taken, other).is_ok() {
                    return (self.published(), RUN);
                }
            } else {
                let position = self.published();
                if at(marks, position).is_none_or(|mark| {
                    mark.compare_exchange(baton(position), HELD, taken, other).is_ok()
                }) {
                    return (position, 0);
                }
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
    /// that makes no sense; the register is read now and then anyway. `published` is as in [`Tickets::observe`].
    #[inline]
    pub(crate) fn hear(&self, published: &mut u64, read: impl FnOnce() -> u32) -> u64 {
        // Loaded before the message: what a later one says is ahead of it, by less than 2^31.
        let behind = self.consumed();
        let ahead = read().wrapping_sub(behind as u32).cast_signed();
        let position = behind + u64::from(ahead.max(0).cast_unsigned());
        if position > *published {
            // As in `observe`.
            *published = self.published();
        }
        if position <= *published { position } else { behind }
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
        if position > published && position > self.producers.published.load(Ordering::Relaxed) {
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
        // This ends soon: whoever has the baton has interrupts masked (also a reset, in `begin`), and while the SMMU stands still
        // the queue fills up, so that no more runs come.
        let (position, counted) = self.take_baton(marks, pause);
        change();
        tell(position);
        // Runs that were marked here since are ours to publish.
        if !self.rests_after(counted) {
            self.go_on(marks, position, tell);
        }
    }

    /// Lets no tickets be drawn, and waits until those that were are published. One caller at a time.
    pub(crate) fn close(&self, relax: impl Fn()) {
        let Producers { claimed, tail, .. } = &self.producers.0;
        if !self.is_closed() {
            claimed.fetch_add(CLOSED, Ordering::AcqRel);
        }
        // No claim fits from here on, so those that did become tickets, and are published; others are taken back. Acquire: all
        // that whoever drew a ticket did before is seen.
        loop {
            let all = claimed.load(Ordering::Acquire).wrapping_sub(CLOSED);
            let all = all.wrapping_add(self.size.entries());
            let drawn = tail.load(Ordering::Acquire);
            if drawn >> POSITION_SHIFT == all << POSITION_SHIFT >> POSITION_SHIFT
                && self.published() == all
            {
                return;
            }
            relax();
        }
    }

    /// After [`Tickets::close`], for an SMMU that is off, or about to be: waits until nobody writes CMDQ_PROD any more, and has what
    /// comes after [`Tickets::open`] begin at a position at which PROD and CONS both show 0. `begins` is told of it
    /// before anything up to it can count as consumed. The position after the last ticket is returned. Interrupts are masked.
    pub(crate) fn begin(&self, marks: &[AtomicU64], begins: impl FnOnce(u64)) -> u64 {
        let Producers { claimed, tail, published, .. } = &self.producers.0;
        // With the baton taken nobody writes CMDQ_PROD: every run is published, but whoever did it may be about to say so.
        let (end, _) = self.take_baton(marks, pause);
        let beginning = self.size.after(end, 0);
        begins(beginning);
        published.store(beginning, Ordering::Release);
        // The gap counts as claimed, as it will count as consumed (in `open`).
        claimed.fetch_add(beginning - end, Ordering::AcqRel);
        // At rest.
        tail.store(beginning << POSITION_SHIFT, Ordering::Release);
        end
    }

    /// Whether nobody may draw. Not to be asked while somebody closes or opens it.
    pub(crate) fn is_closed(&self) -> bool {
        why_not(self.producers.claimed.load(Ordering::Relaxed)) == NoTicket::Closed
    }

    /// Lets tickets be drawn again after [`Tickets::close`]. CMDQ_PROD and CMDQ_CONS are 0.
    pub(crate) fn open(&self) {
        // `consumed` is raised only after CONS was written as 0: a waiter that loads the new value and then reads CONS
        // reads it of the new epoch.
        self.waiters.consumed.fetch_max(self.published(), Ordering::AcqRel);
        // Release: whoever claims room from now on draws from what `close` has left.
        self.producers.claimed.fetch_sub(CLOSED, Ordering::AcqRel);
    }
}

/// What the one who has the baton has published.
#[derive(Clone, Copy)]
struct Reached {
    /// Up to where.
    to: u64,
    /// The mark that it saw there.
    seen: u64,
    /// How many runs these were, which are not off the count.
    runs: u64,
}

#[cfg(all(test, not(any(loom, shuttle))))]
impl Tickets {
    /// Where producers' words are, and those of who waits: addresses.
    pub(crate) fn places(&self) -> [core::ops::Range<usize>; 2] {
        fn of<T>(value: &Line<T>) -> core::ops::Range<usize> {
            let first = core::ptr::from_ref(value) as usize;
            first..first + size_of::<Line<T>>()
        }
        [of(&self.producers), of(&self.waiters)]
    }
}

/// Whether there is room for `count` slots more, after what was `claimed` less the size of the queue.
#[inline]
fn fits(claimed: u64, count: u64, consumed: u64) -> bool {
    // Positions stay far below 2^63.
    claimed.wrapping_add(count).cast_signed() <= consumed.cast_signed()
}

/// Why a claim does not fit, by what was claimed before.
#[inline]
fn why_not(claimed: u64) -> NoTicket {
    // Positions stay far below.
    if claimed.cast_signed() < (CLOSED / 2).cast_signed() {
        NoTicket::Full
    } else {
        NoTicket::Closed
    }
}

/// The position in a `tail`, by one that is not ahead of it, and less than 2^42 behind.
#[inline]
const fn position_in(tail: u64, behind: u64) -> u64 {
    behind + (tail.wrapping_sub(behind << POSITION_SHIFT) >> POSITION_SHIFT)
}

/// One turn of a loop that waits for another CPU, which has interrupts masked.
fn pause() {
    #[cfg(not(any(loom, shuttle)))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    crate::sync::pause();
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, shuttle))]
mod contention;
#[cfg(all(test, loom))]
mod loom_tests;
