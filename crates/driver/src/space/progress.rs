// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far an invalidation is.

use core::mem::MaybeUninit;

use crate::command_queue::Ticket;
use crate::devices::is_of_device;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instances::MOST_INSTANCES;

/// How far an invalidation is. All sets are of instances.
pub(crate) struct Progress {
    /// Of those of `told`.
    pub(super) tickets: [MaybeUninit<Ticket>; MOST_INSTANCES],
    /// Those that were told.
    pub(super) told: u64,
    /// Those that have no room for it now.
    pub(super) full: u64,
    /// The commands of the largest batch among theirs.
    pub(super) largest: usize,
    /// What they were told, CMD_SYNCs among that, and how many these were.
    pub(super) commands: u64,
    pub(super) syncs: u64,
    /// Those whose devices have still to be told, one by one.
    pub(super) kept: u64,
    /// Those with devices in quarantine, which their hardware may not have noticed yet.
    pub(super) silent: u64,
    /// Those that did not confirm, and what was wrong with the first of them.
    pub(super) failed: u64,
    pub(super) first: Option<Unconfirmed>,
}

impl Progress {
    #[inline(always)]
    pub(super) const fn new() -> Self {
        let tickets = [const { MaybeUninit::uninit() }; MOST_INSTANCES];
        Self {
            tickets,
            told: 0,
            full: 0,
            largest: 0,
            commands: 0,
            syncs: 0,
            kept: 0,
            silent: 0,
            failed: 0,
            first: None,
        }
    }

    /// An instance was told.
    #[inline(always)]
    pub(super) fn told(&mut self, id: InstanceId, ticket: Ticket) {
        if let Some(slot) = self.tickets.get_mut(id.index()) {
            slot.write(ticket);
            self.told |= id.bit();
        }
    }

    /// What became of a batch of `count` commands for `id`, so many of them CMD_SYNCs, and the one at its end.
    #[inline(always)]
    pub(super) fn placed(
        &mut self,
        id: InstanceId,
        [count, syncs]: [usize; 2],
        placed: Result<Option<Ticket>, Failure>,
    ) {
        match placed {
            Ok(Some(ticket)) => {
                let placed = ticket.commands();
                self.commands += placed;
                // None for one that sleeps.
                self.syncs += if placed == 0 { 0 } else { syncs as u64 + 1 };
                self.told(id, ticket);
            }
            Ok(None) => {
                self.full |= id.bit();
                self.largest = self.largest.max(count);
            }
            Err(what) => self.note(id, what),
        }
    }

    /// An instance did not do what it was told.
    #[cold]
    pub(super) fn note(&mut self, id: InstanceId, what: Failure) {
        self.first.get_or_insert(Unconfirmed::new(id, what));
        self.failed |= id.bit();
    }

    /// The commands of an instance that was told were not all carried out.
    #[cold]
    pub(super) fn is_unconfirmed(&mut self, id: InstanceId, what: Failure) {
        if is_of_device(&what) {
            // Which of them is not known.
            self.kept |= id.bit();
        } else {
            self.note(id, what);
            self.kept &= !id.bit();
            self.silent &= !id.bit();
        }
    }
}
