// SPDX-License-Identifier: MIT OR Apache-2.0
//! A queue that stopped at an error, and goes on.

use smmuv3_formats::command::Sync;
use smmuv3_formats::register::cerror;
use smmuv3_formats::{Command, Opcode};

use super::super::Common;
use super::super::port::Stop;
use super::{Lane, write};
use crate::error::Failure;
use crate::platform::Platform;
use crate::queue::at;
use crate::refusals::is_retried;
use crate::sync::Ordering;

/// Aborted fetches of one command that are retried before the queue is given up.
const FETCH_RETRIES: u32 = 3;

/// How often in a row the SMMU could not fetch the command at one position.
#[derive(Clone, Copy, Default)]
pub(in crate::command_queue) struct Aborts {
    position: u64,
    count: u32,
}

impl Lane {
    /// If the queue stopped at an error: notes which command failed, makes it harmless, and lets the SMMU
    /// go on (§3.2). A command that could not be fetched is tried again; so is a CMD_SYNC before which devices did
    /// not answer.
    ///
    /// # Errors
    /// See [`CommandQueue::recover`](crate::CommandQueue::recover).
    pub(in crate::command_queue) fn recover<P: Platform>(
        &self,
        common: &Common,
        platform: &P,
        mmio: &P::Mmio,
    ) -> Result<(), Failure> {
        if self.port.stopped(mmio).is_none() {
            return Ok(());
        }
        self.recovery.with(platform, |aborts| {
            // Somebody else may have dealt with it before we had the lock. What is left of a failed SMMU is
            // acknowledged by its reset.
            let epoch = common.state.now();
            if !epoch.works() {
                return Ok(());
            }
            let Some(Stop { register, code }) = self.port.stopped(mmio) else { return Ok(()) };
            let register = self.size().register(register.into());
            let position = self.size().after(self.tickets.consumed(), register);
            let slot = at(self.slots(platform, self.size()), position);
            // Slots that are not published belong to whoever fills them.
            let (true, Some(slot)) = (position < self.tickets.published(), slot) else {
                common.state.fail_since(epoch);
                return Err(Failure::Index { register });
            };
            let words = slot.each_ref().map(|word| u64::from_le(word.load(Ordering::Relaxed)));
            let command = Command(words);
            if is_retried(code) {
                let count = if aborts.position == position { aborts.count } else { 0 };
                *aborts = Aborts { position, count: count + 1 };
                if aborts.count > FETCH_RETRIES {
                    common.state.fail_since(epoch);
                    return Err(Failure::Unreadable);
                }
            } else if u64::from(code) != cerror::ATC_INV_SYNC {
                // The SMMU fetches this slot again: it must find something that it accepts.
                let ends = command.is(Opcode::Sync);
                write(slot, if ends { self.sync(position + 1) } else { Sync::new().into() });
            }
            // Counted before it is noted: a reader that finds the note finds the count raised as well.
            common.refused(platform, position, command, code);
            self.refusals.note(position, command, code);
            self.port.acknowledge(mmio, |toggle| {
                let tell = |position| self.port.tell(mmio, self.size().register(position));
                let marks = self.marks(platform, self.size());
                self.tickets.tell_again(marks, toggle, tell);
            });
            Ok(())
        })
    }
}
