// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that are all in one lane, the first: each comes after those that anybody has placed before, and a CMD_SYNC
//! completes all of them. For what nobody waits for, and a later command must not overtake.

use smmuv3_formats::Command;

use super::{CommandQueue, Ticket};
use crate::error::Failure;
use crate::platform::Platform;
use crate::tickets::NoTicket;

const FIRST: u32 = 0;

impl CommandQueue {
    /// As [`CommandQueue::try_submit`].
    pub(crate) fn try_submit_first<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut impl ExactSizeIterator<Item = Command>,
    ) -> Result<Option<Ticket>, Failure> {
        let count = (commands.len() as u64).min(self.common.largest_batch);
        let slots = self.slots_for(count);
        match self.place_in(FIRST, platform, mmio, slots, |run| run.fill(commands, count)) {
            Ok(ticket) => Ok(Some(ticket)),
            Err(NoTicket::Full) => Ok(None),
            Err(NoTicket::Closed) => self.elide(commands),
        }
    }

    /// Looks once for room, for those who do not wait for it.
    pub(crate) fn look_for_first_room<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        let inside = self.enter(platform);
        if inside.is_some() && !self.has_failed() {
            // An index that makes no sense is left to those who wait for completion: they give the SMMU up.
            let _ = self.main.observe(platform, mmio).map(|consumed| self.main.share(consumed));
        }
    }

    /// As [`CommandQueue::wait_for_room`].
    pub(crate) fn wait_for_first_room<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: usize,
    ) -> Result<(), Failure> {
        let slots = self.slots_for((commands as u64).min(self.common.largest_batch));
        self.main.wait_for_room(&self.common, platform, mmio, slots)
    }

    /// As [`CommandQueue::carry_out`]; also completes what others have placed before.
    pub(crate) fn carry_out_first<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        mut commands: impl ExactSizeIterator<Item = Command>,
    ) -> Result<(), Failure> {
        loop {
            let before = commands.len();
            let ticket = loop {
                if let Some(ticket) = self.try_submit_first(platform, mmio, &mut commands)? {
                    break ticket;
                }
                self.wait_for_first_room(platform, mmio, commands.len())?;
                platform.relax();
            };
            self.wait_calmly(platform, mmio, &ticket)?;
            // `len() == before`: an iterator whose `len()` does not shrink would keep this loop going for ever.
            if commands.len() == 0 || commands.len() == before {
                return Ok(());
            }
        }
    }
}
