// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who reads CMDQ_CONS: those that the SMMU comes to next, each for itself; those further behind look at what these find.
//! Messages in memory are looked at by everybody.

use super::{Tickets, pause};
use crate::sync::Ordering;

/// Slots before one's own that the SMMU has not come to, up to which one reads the register in each turn.
const NEAR: u64 = 8;
/// Turns after which one who is further behind reads the register.
const TURNS_PER_OWN_READ: u32 = 8;
/// Turns between two looks at the global errors, which stop the queue. A multiple of the above.
const TURNS_PER_ERROR_CHECK: u32 = 16;

/// Turns of a loop, less than a microsecond.
const TURNS_FOR_OTHERS: u32 = 48;

/// Lets others do what they are at, for one that has left the publishing of its run to them. Whoever looks at CMDQ_CONS and draws
/// its next ticket at once takes the cache lines from them that they publish by, and everybody gets less done; whoever stays away
/// for so long finds its run complete, if the SMMU is quick.
pub(crate) fn give_way() {
    (0..TURNS_FOR_OTHERS).for_each(|_| pause());
}

/// One who waits for the SMMU. As long as nobody is far behind, those who wait write nothing, and disturb nobody.
///
/// Who is far behind says so, and looks at what those in front share from then on; only now and then for itself, since
/// they may be interrupts of its own.
pub(crate) struct Poller<'a> {
    tickets: &'a Tickets,
    /// The position at which the awaited run begins, or which has to be consumed for there to be room.
    start: u64,
    turn: u32,
    /// Whether this waiter has set `awaited`.
    is_far: bool,
    /// The position up to which this waiter itself has found commands consumed.
    found: u64,
    /// A lower bound of what is published.
    published: u64,
}

impl<'a> Poller<'a> {
    /// For one who waits for a run that begins at `start`, or for everything before that to be consumed, and knows of so much
    /// that it is published.
    #[inline]
    pub(crate) fn new(tickets: &'a Tickets, start: u64, published: u64) -> Self {
        Self { tickets, start, turn: 0, is_far: false, found: 0, published }
    }

    /// The position up to which commands are known to be consumed.
    #[inline]
    pub(crate) fn consumed(&self) -> u64 {
        self.found.max(self.tickets.consumed())
    }

    /// Whether everything that was published is consumed, as far as this one knows.
    #[inline]
    pub(crate) fn is_idle(&mut self) -> bool {
        let consumed = self.consumed();
        if consumed >= self.published {
            self.published = self.tickets.published();
        }
        consumed >= self.published
    }

    /// Learns what the SMMU has consumed, from the register or from whoever reads it. Returns whether it is time
    /// for this one to look at the errors too.
    ///
    /// # Errors
    /// As [`Tickets::observe`].
    #[inline]
    pub(crate) fn turn(&mut self, read: impl FnOnce() -> u32) -> Result<bool, u32> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        // Where a turn comes because the SMMU woke this CPU, each turn reads the register: nobody is woken by another
        // CPU's having read it.
        let check = if self.tickets.told { turn != 0 } else { self.is_time_to_check(turn) };
        if self.tickets.told
            || turn == 0
            || self.is_near()
            || turn.is_multiple_of(TURNS_PER_OWN_READ)
        {
            self.found = self.tickets.observe(&mut self.published, read)?;
            if self.tickets.waiters.awaited.load(Ordering::Relaxed) {
                self.tickets.share_if_ahead(self.found, NEAR / 2);
            }
        }
        Ok(check)
    }

    /// Whether the SMMU is about to reach this waiter's run. If not, those in front are asked to share what they find.
    #[inline]
    fn is_near(&mut self) -> bool {
        let awaited = &self.tickets.waiters.awaited;
        let is_near = self.start <= self.consumed() + NEAR;
        if !is_near {
            self.is_far = true;
            // Every waiter that is far behind sets it, again after another one cleared it: it is a hint, and guards
            // nothing.
            if !awaited.load(Ordering::Relaxed) {
                awaited.store(true, Ordering::Relaxed);
            }
        } else if self.is_far {
            self.is_far = false;
            awaited.store(false, Ordering::Relaxed);
        }
        is_near
    }

    const fn is_time_to_check(&self, turn: u32) -> bool {
        turn != 0 && turn.is_multiple_of(TURNS_PER_ERROR_CHECK)
    }

    /// As [`Poller::turn`], where each CMD_SYNC writes a message, which `read` reads. That costs little, so every
    /// waiter does it in every turn. Returns whether it is time to look at the registers: messages can be lost.
    #[inline]
    pub(crate) fn turn_by_message(&mut self, read: impl FnOnce() -> u32) -> bool {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        self.found = self.tickets.hear(&mut self.published, read);
        turn % TURNS_PER_ERROR_CHECK == TURNS_PER_ERROR_CHECK - 1
    }
}

impl Drop for Poller<'_> {
    #[inline]
    fn drop(&mut self) {
        self.tickets.share_if_much(self.found);
        if self.is_far {
            self.tickets.waiters.awaited.store(false, Ordering::Relaxed);
        }
    }
}
