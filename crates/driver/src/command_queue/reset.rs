// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command queue that the SMMU does not use, or not any more: made empty, enabled, silenced.

use core::sync::atomic::Ordering;

use smmuv3_formats::command::Sync;
use smmuv3_formats::register::{Gerror, Gerrorn};

use super::CommandQueue;
use super::lane::Lane;
use crate::error::Failure;
use crate::platform::{Mmio, Platform};

impl CommandQueue {
    /// Makes the queues empty, for an SMMU that uses none of them and whose PROD and CONS are about to be 0. They count
    /// as failed until [`CommandQueue::resume`], so that nobody uses them meanwhile; whoever still waits for an
    /// earlier ticket is told that it failed. One caller at a time.
    pub(crate) fn restart<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        self.give_up();
        self.all(platform).for_each(|lane| lane.restart(platform, mmio));
    }

    /// Asks the SMMU to use each enhanced queue; `enabled` is given the offset of its ECMDQ_CONS, which shows ENACK when it
    /// does.
    pub(crate) fn enable_others<P: Platform, E>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        mut enabled: impl FnMut(u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offsets = self.others(platform).iter().filter_map(|lane| lane.port().enable(mmio));
        offsets.try_for_each(&mut enabled)
    }

    /// Acknowledges every error, for an SMMU whose queue is off and given up: an active one would stop it. Returns
    /// those that were active.
    pub(crate) fn forget_errors<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Gerror {
        // Under the lock: whoever is recovering finishes before, and nobody begins while the queue is given up.
        self.main.recovery.with(platform, |_| {
            let errors = mmio.read32(Gerror::OFFSET);
            let active = Gerror(errors ^ mmio.read32(Gerrorn::OFFSET));
            mmio.write32(Gerrorn::OFFSET, errors);
            active
        })
    }

    /// Waits until no message of a CMD_SYNC is on its way any more, before the queues are disabled for good. Nobody
    /// else uses them. Where that fails, the memory that messages are written to is never given back.
    pub(crate) fn silence<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        if self.words.is_none() || self.has_failed() {
            return;
        }
        // It completes when the messages of those before have arrived (§4.2), and sends none.
        let last = Sync::new().into();
        let silent = self.all(platform).zip(0..).try_for_each(|(lane, number)| {
            match lane.place(platform, mmio, 1, number, move |run| run.push(last))? {
                Some(ticket) => lane.wait(&self.common, platform, mmio, ticket),
                None => Err(Failure::Failed),
            }
        });
        self.silent.store(silent.is_ok(), Ordering::Release);
    }

    /// Lets the queues be used again: the SMMU reads them.
    pub(crate) fn resume<P: Platform>(&self, platform: &P) {
        debug_assert!(self.has_failed());
        self.silent.store(false, Ordering::Release);
        self.all(platform).for_each(Lane::open);
        self.common.epoch.fetch_add(1, Ordering::AcqRel);
    }
}
