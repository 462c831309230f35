// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who reads CMDQ_CONS: one for all who wait.

use super::Tickets;
use crate::sync::Ordering;

/// Turns after which one who waits reads the register although somebody else does.
const TURNS_PER_OWN_READ: u32 = 8;

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

    /// Learns what the SMMU has consumed, from the register or from whoever reads it.
    ///
    /// # Errors
    /// As [`Tickets::observe`].
    #[inline]
    pub(crate) fn turn(&mut self, read: impl FnOnce() -> u32) -> Result<(), u32> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        if turn != 0 && !self.elected {
            let polled = &self.tickets.polled;
            // Nothing is guarded by it: two who read the register are one too many, no more.
            self.elected = !polled.load(Ordering::Relaxed) && !polled.swap(true, Ordering::Relaxed);
            if !self.elected && !turn.is_multiple_of(TURNS_PER_OWN_READ) {
                return Ok(());
            }
        }
        self.tickets.observe(read)
    }

    /// Turns taken.
    #[inline]
    pub(crate) fn turns(&self) -> u32 {
        self.turn
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
