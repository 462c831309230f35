// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far an invalidation is.

use core::mem::MaybeUninit;

use crate::command_queue::Ticket;
use crate::devices::is_of_device;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instances::MOST_INSTANCES;

/// How far an invalidation is. All sets are of instances.
pub(crate) struct Progress {
    /// The tickets of the instances in `told`; the others are not initialised.
    pub(super) tickets: [MaybeUninit<Ticket>; MOST_INSTANCES],
    /// Instances that were given their commands.
    pub(super) told: u64,
    /// Those whose queue had no room.
    pub(super) full: u64,
    /// How many commands the largest batch of those in `full` has.
    pub(super) largest: usize,
    /// How many commands were placed, with the CMD_SYNCs, and how many of these.
    pub(super) commands: u64,
    pub(super) syncs: u64,
    /// Those whose devices have still to be told, one by one.
    pub(super) kept: u64,
    /// Those whose devices' answers are waited for.
    pub(super) asked: u64,
    /// Those with devices in quarantine, which their hardware may not have noticed yet.
    pub(super) silent: u64,
    /// Those that did not confirm, and what was wrong with the first of them.
    pub(super) result: Result<(), Unconfirmed>,
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
            asked: 0,
            silent: 0,
            result: Ok(()),
        }
    }

    /// Begins another round, in which nobody was told yet. What became of this one stays.
    pub(super) const fn again(&mut self) {
        (self.told, self.commands, self.syncs) = (0, 0, 0);
        (self.kept, self.silent) = (0, 0);
    }

    /// An instance was told.
    #[inline(always)]
    pub(super) fn told(&mut self, id: InstanceId, ticket: Ticket) {
        if let Some(slot) = self.tickets.get_mut(id.index()) {
            slot.write(ticket);
            self.told |= id.bit();
        }
    }

    /// Notes what became of a batch for `id`: `count` commands, of which `syncs` are CMD_SYNCs, without the CMD_SYNC
    /// that ends it.
    #[inline(always)]
    pub(super) fn placed(
        &mut self,
        id: InstanceId,
        [count, syncs]: [usize; 2],
        placed: Result<Option<Ticket>, Failure>,
    ) {
        match placed {
            Ok(Some(ticket)) => {
                if cfg!(feature = "counts") {
                    let placed = ticket.commands();
                    self.commands += placed;
                    // An elided ticket has no commands, hence no CMD_SYNCs.
                    self.syncs += if placed == 0 { 0 } else { syncs as u64 + 1 };
                }
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
    #[inline(never)]
    pub(super) fn note(&mut self, id: InstanceId, what: Failure) {
        Unconfirmed::add(&mut self.result, Unconfirmed::new(id, what));
    }

    /// Whether an instance did not do what it was told.
    pub(super) fn has_failed(&self, id: InstanceId) -> bool {
        self.result.is_err_and(|first| first.waiting.contains(id))
    }

    /// The commands of an instance that was told were not all carried out.
    #[cold]
    pub(super) fn is_unconfirmed(&mut self, id: InstanceId, what: Failure) {
        if is_of_device(&what) {
            // Some device did not answer, but which one is not known: all are told again, one by one.
            self.kept |= id.bit();
        } else {
            self.note(id, what);
            if cfg!(feature = "ats") {
                self.kept &= !id.bit();
                self.silent &= !id.bit();
            }
        }
    }
}
