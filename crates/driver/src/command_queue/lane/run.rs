// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slots of a ticket, until they are published.

use core::ops::Range;

use smmuv3_formats::Command;

use super::super::port::Port;
use super::{Lane, write};
use crate::platform::Platform;
use crate::queue::{Size, at};
use crate::sync::plain::AtomicU64;
use crate::tickets::Drawn;

/// The slots of a ticket. However it ends, they are filled and published. `DIRECT` for the command queue itself, where no
/// CMD_SYNC sends a message, and each batch has one.
pub(in crate::command_queue) struct Run<'a, P: Platform, const DIRECT: bool> {
    pub(super) lane: &'a Lane,
    pub(super) platform: &'a P,
    pub(super) mmio: &'a P::Mmio,
    pub(super) size: Size,
    pub(super) slots: &'a [[AtomicU64; 2]],
    pub(super) drawn: Drawn,
    pub(super) next: u64,
    pub(super) end: u64,
}

impl<P: Platform, const DIRECT: bool> Run<'_, P, DIRECT> {
    /// The next of `commands`, `count` of them at most: no more than there are slots.
    #[inline(always)]
    pub(in crate::command_queue) fn fill(
        &mut self,
        commands: &mut impl Iterator<Item = Command>,
        count: u64,
    ) {
        let end = self.drawn.start + count;
        while self.next != end
            && let Some(command) = commands.next()
        {
            self.push(command);
        }
    }

    /// As [`Run::fill`], of commands that nobody judges.
    pub(in crate::command_queue) fn fill_unjudged(
        &mut self,
        commands: &mut impl Iterator<Item = Command>,
        count: u64,
    ) {
        commands.take(count as usize).for_each(|command| self.push_unjudged(command));
    }

    /// The next command, for a slot before the end.
    #[inline(always)]
    pub(in crate::command_queue) fn push(&mut self, command: Command) {
        // Every command passes here, but the CMD_SYNCs that end batches: those were judged when they were made
        // (`Lane::judge_by`).
        let command = self.lane.left_out.given(command);
        self.lane.judge.accept(&command);
        self.push_unjudged(command);
    }

    #[inline(always)]
    fn push_unjudged(&mut self, command: Command) {
        if let Some(slot) = at(self.slots, self.next) {
            write(slot, command);
        }
        self.next += 1;
    }

    /// Publishes the run, and returns what [`Tickets::publish`](crate::tickets::Tickets::publish) does. A CMD_SYNC ends the batch, and takes the place of commands that were promised and did not come.
    #[inline(always)]
    pub(super) fn close(&mut self) -> u64 {
        let Self { lane, platform, mmio, size, drawn, end, .. } = *self;
        // The SMMU sees the commands before the index that covers them: `Mmio`'s contract. `size` and `mmio` are
        // captured by value, so that publishing loads neither from memory.
        let marks = lane.marks(platform, size);
        if DIRECT {
            // The last slot is never filled by `fill`: there is one command less than slots.
            if let Some(slot) = at(self.slots, end - 1) {
                write(slot, lane.sync);
            }
            if self.next != end - 1 {
                make_up(self.slots, self.next..end, lane.sync);
            }
            let shown = size.shown();
            let tell = move |position| Port::tell_main(mmio, shown.at(position));
            lane.tickets.publish(marks, drawn, end, tell)
        } else {
            while self.next != end {
                self.push_unjudged(lane.sync(self.next + 1));
            }
            let tell = move |position| lane.port.tell(mmio, size.register(position));
            lane.tickets.publish(marks, drawn, end, tell)
        }
    }
}

/// Puts a CMD_SYNC into each slot of `positions`, in place of commands that an iterator promised and did not give.
#[cold]
#[inline(never)]
fn make_up(slots: &[[AtomicU64; 2]], positions: Range<u64>, sync: Command) {
    for slot in positions.filter_map(|position| at(slots, position)) {
        write(slot, sync);
    }
}

impl<P: Platform, const DIRECT: bool> Drop for Run<'_, P, DIRECT> {
    /// Reached only when `fill` has panicked: the run is published all the same, or the queue would stand still for
    /// ever.
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        self.close();
    }
}
