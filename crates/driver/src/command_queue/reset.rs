// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command queue that the SMMU does not use, or not any more: made empty, enabled, silenced, put to sleep.

use core::sync::atomic::Ordering;

use smmuv3_formats::Command;
use smmuv3_formats::command::Sync;
use smmuv3_formats::register::{Gerror, Gerrorn};

use super::CommandQueue;
use super::lane::{Lane, Run, SHOWS};
use crate::error::Failure;
use crate::platform::{Mmio, Platform};
use crate::tickets::NoTicket;

impl CommandQueue {
    /// Lets nobody use the queues, before an SMMU is told to use none of them: they count as failed until
    /// [`CommandQueue::resume`], and whoever still waits for an earlier ticket is told so. [`CommandQueue::restart`] comes next.
    pub(crate) fn stop<P: Platform>(&self, platform: &P) {
        // Those who wait for a suspended SMMU do not really wait, so there is nobody to be told of a failure.
        let asleep = self.common.state.now().is_asleep();
        if !asleep {
            self.give_up();
        }
        self.stop_all(platform, !asleep);
    }

    fn stop_all<P: Platform>(&self, platform: &P, failed: bool) {
        debug_assert!(!self.common.state.now().works());
        for lane in self.all(platform) {
            if !lane.stop(platform, failed) {
                // Somebody submitted a batch after `silence`: its message may still be on its way.
                self.silent.store(false, Ordering::Release);
            }
        }
    }

    /// Makes the queues empty after [`CommandQueue::stop`], for an SMMU that uses none of them and whose PROD and CONS are
    /// about to be 0. What an SMMU has not come to that lost nothing is shown to `unheard`. One caller at a time.
    pub(crate) fn restart<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        unheard: &mut dyn FnMut(Command),
    ) {
        // What a suspended SMMU has not come to counts as done, and its registers may show anything: no command is unheard.
        let shows = SHOWS && !self.common.state.now().is_asleep();
        for lane in self.all(platform) {
            let unheard = shows.then_some(&mut *unheard as &mut dyn FnMut(Command));
            lane.restart(platform, mmio, unheard);
        }
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
        // Under the lock: a handler may be acknowledging an error of another kind, which is in the same register.
        self.main.recovery.with(platform, |_| {
            let errors = mmio.read32(Gerror::OFFSET);
            let active = Gerror(errors ^ mmio.read32(Gerrorn::OFFSET));
            mmio.write32(Gerrorn::OFFSET, errors);
            active
        })
    }

    /// Waits until no message of a CMD_SYNC is on its way any more, before the queues are disabled: for good, when nobody
    /// else uses them, or until the SMMU wakes. Where that fails, the memory that messages are written to is never given back.
    pub(crate) fn silence<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        if self.words().is_none() || self.has_failed() {
            return;
        }
        // This CMD_SYNC completes when the messages of all earlier ones have been written (§4.2), and sends none
        // itself.
        let last = Sync::new().into();
        let silent = self.all(platform).zip(0..).try_for_each(|(lane, number)| {
            let moment = self.common.state.now();
            let ticket = loop {
                let push = |run: &mut Run<'_, P, false>| run.push(last);
                match lane.place(platform, mmio, 1, (number, moment), push) {
                    Ok(ticket) => break ticket,
                    Err(NoTicket::Full) => {}
                    Err(NoTicket::Closed) => return Err(Failure::Failed),
                }
                lane.wait_for_room(&self.common, platform, mmio, 1)?;
                platform.relax();
            };
            lane.wait(&self.common, platform, mmio, &ticket, None)?;
            lane.silenced(ticket);
            Ok::<_, Failure>(())
        });
        self.silent.store(silent.is_ok(), Ordering::Release);
    }

    /// Lets the queues be used again: the SMMU reads them.
    pub(crate) fn resume<P: Platform>(&self, platform: &P) {
        debug_assert!(!self.common.state.now().works());
        self.silent.store(false, Ordering::Release);
        self.all(platform).for_each(Lane::open);
        self.common.state.work();
    }

    /// Lets nobody use the queues or their registers any more, for an SMMU whose SMMUEN is 0, and whose caches were emptied since:
    /// what it was given and has not completed, what it is given now, and what is still on the way, counts as complete. They
    /// are emptied again before SMMUEN is 1. Until [`CommandQueue::resume`]; one caller at a time.
    pub(crate) fn sleep<P: Platform>(&self, platform: &P) {
        self.common.state.sleep();
        self.stop_all(platform, false);
        self.wait_outside(platform);
    }

    /// Waits until nobody is at the registers of an SMMU that sleeps, or of one that has failed for good and that nobody comes
    /// to any more.
    pub(crate) fn wait_outside<P: Platform>(&self, platform: &P) {
        self.common.state.wait_outside(|| platform.relax());
    }
}
