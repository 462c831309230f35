// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU reports of its command queues, in GERROR and CONS: queues that stopped at an error, and an index that
//! cannot be.

use smmuv3_formats::Command;
use smmuv3_formats::register::{Gerror, Gerrorn};

use super::counts::REFUSED;
use super::{CommandQueue, Common};
use crate::error::Failure;
use crate::platform::{Mmio, Platform};
use crate::state::Moment;
use crate::trace::Trace;

impl Common {
    /// Counts and traces a command that a queue stopped at, before the lane notes it.
    pub(super) fn refused<P: Platform>(
        &self,
        platform: &P,
        position: u64,
        command: Command,
        code: u8,
    ) {
        self.state.refuse();
        self.counters.add(platform, REFUSED, 1);
        platform.trace(&Trace::Refused { instance: &self.name, position, command, code });
    }

    /// The consumer index showed `register`, which is ahead of what was published.
    #[cold]
    #[inline(never)]
    pub(super) fn ahead(&self, epoch: Moment, register: u32) -> Result<(), Failure> {
        if !self.state.is_as_at(epoch) {
            // The register was read while a reset set PROD, CONS and positions to a new beginning.
            return Ok(());
        }
        self.state.fail_since(epoch);
        Err(Failure::Index { register })
    }
}

impl CommandQueue {
    /// If a queue stopped at an error: notes which command failed, makes it harmless, and lets the SMMU
    /// go on (§3.2). A command that could not be fetched is tried again; so is a CMD_SYNC before which devices did
    /// not answer.
    ///
    /// # Errors
    /// [`Failure::Unreadable`] when the SMMU cannot read the queue, even when retried, [`Failure::Index`] when it stopped
    /// where there is no command: it is then given up.
    pub fn recover<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Result<(), Failure> {
        if self.count() != 0 {
            // CMDQP_ERR is acknowledged before the queues are looked at: one that stops later makes it active anew, and
            // raises another interrupt.
            self.acknowledge_those(platform, mmio, |active| {
                Gerror::default().with_cmdqp_err(active.cmdqp_err())
            });
        }
        self.all(platform).try_for_each(|lane| lane.recover(&self.common, platform, mmio))
    }

    /// Tells `sink` of all errors of commands that it was not told of yet, whoever recovered from them: the command, and
    /// `CMDQ_CONS.ERR` (§3.2). Returns how many more there were, which are not remembered.
    pub fn report_errors<P: Platform>(
        &self,
        platform: &P,
        sink: &mut dyn FnMut(Command, u8),
    ) -> u64 {
        self.all(platform).map(|lane| lane.report_errors(sink)).sum()
    }

    /// Acknowledges every active error other than a refused command, and returns them.
    pub fn acknowledge<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Gerror {
        let commands = |active: Gerror| active.with_cmdq_err(false).with_cmdqp_err(false);
        // If no enhanced queues are used, CMDQP_ERR is acknowledged like any other error.
        let count = self.count();
        self.acknowledge_those(platform, mmio, |active| {
            if count == 0 { active.with_cmdq_err(false) } else { commands(active) }
        })
    }

    /// Acknowledges those of the active errors that `which` chooses, and returns them.
    fn acknowledge_those<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        which: impl FnOnce(Gerror) -> Gerror,
    ) -> Gerror {
        // Under the lock: GERRORN holds the acknowledgement of refused commands too, which must not be undone.
        self.main.recovery.with(platform, |_| {
            let acknowledged = Gerrorn(mmio.read32(Gerrorn::OFFSET));
            let active = which(Gerror(mmio.read32(Gerror::OFFSET) ^ acknowledged.0));
            if active.0 != 0 {
                mmio.write32(Gerrorn::OFFSET, acknowledged.0 ^ active.0);
            }
            active
        })
    }
}
