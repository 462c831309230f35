// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who reads CMDQ_CONS: one for all who wait. Messages in memory are looked at by everybody.

use super::Tickets;
use crate::sync::Ordering;

/// Turns after which one who waits reads the register although somebody else does.
const TURNS_PER_OWN_READ: u32 = 8;
/// Turns between two looks at the global errors, which stop the queue. A multiple of the above.
const TURNS_PER_ERROR_CHECK: u32 = 16;

/// One who waits for the SMMU. The first to come back for a second turn reads the register in each of them, until its
/// wait is over; the others look at what it finds, and only now and then for themselves, since they may
/// be an interrupt of that one.
pub(crate) struct Poller<'a> {
    tickets: &'a Tickets,
    turn: u32,
    elected: bool,
}

impl<'a> Poller<'a> {
    #[inline]
    pub(crate) fn new(tickets: &'a Tickets) -> Self {
        Self { tickets, turn: 0, elected: false }
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
        if turn == 0 {
            return self.tickets.observe(read).map(|()| false);
        }
        if self.tickets.told {
            // Turns come when the SMMU tells: each is worth a look, and nobody is woken because somebody else has looked.
            return self.tickets.observe(read).map(|()| true);
        }
        if !self.elected {
            let polled = &self.tickets.polled;
            // Nothing is guarded by it: two who read the register are one too many, no more.
            self.elected = !polled.load(Ordering::Relaxed) && !polled.swap(true, Ordering::Relaxed);
            if !self.elected && !turn.is_multiple_of(TURNS_PER_OWN_READ) {
                return Ok(false);
            }
        }
        self.tickets.observe(read)?;
        Ok(turn.is_multiple_of(TURNS_PER_ERROR_CHECK))
    }

    /// The same where each CMD_SYNC writes a message, which `read` reads. Looking there costs little, so everybody does.
    /// Returns whether it is time to look at the registers: messages can be lost.
    #[inline]
    pub(crate) fn turn_by_message(&mut self, read: impl FnOnce() -> u32) -> bool {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        self.tickets.hear(read);
        turn % TURNS_PER_ERROR_CHECK == TURNS_PER_ERROR_CHECK - 1
    }
}

impl Drop for Poller<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.elected {
            self.tickets.polled.store(false, Ordering::Relaxed);
        }
    }
}
