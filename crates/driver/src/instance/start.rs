// SPDX-License-Identifier: MIT OR Apache-2.0
//! Turning an SMMU on, for the first time or again, and off (§17).

use core::sync::atomic::Ordering;

use smmuv3_formats::Command;
use smmuv3_formats::command::{TlbiEl2All, TlbiNsnhAll};
use smmuv3_formats::register::{
    Cr0, Cr0Ack, Cr1, Cr2, EcmdqCons, Gbpa, IrqCtrl, IrqCtrlAck, PriqIrqCfg2, StrtabBase,
    StrtabBaseCfg,
};

use super::{EnableError, Instance, Probed};
use crate::ecmdq::{self, Slots};
use crate::features::Features;
use crate::mutation::Mutation;
use crate::overrides::WhileOff;
use crate::platform::{Mmio, Platform};

/// An SMMU was not started.
pub(crate) struct NotStarted {
    /// Why.
    pub(crate) error: EnableError,
    /// It confirmed that it is off. Otherwise it may go on reading whatever its stream table leads to.
    pub(crate) off: bool,
}

impl<P: Platform> Instance<P> {
    /// Resets the SMMU and enables it, with empty queues and caches. Entries of the stream table count from
    /// then on.
    ///
    /// # Errors
    /// See [`EnableError`].
    pub fn start(&self, platform: &P) -> Result<(), EnableError> {
        self.start_as(platform, false)
    }

    /// Starts the SMMU for the first time. If that fails it is told to be off, and [`NotStarted::off`] says whether it is.
    ///
    /// When it is `keeping` streams, whose entries lead to what they are to reach already, GBPA is left as it is until
    /// the SMMU is on: it decides what transactions do meanwhile. If it cannot be started, that stays so where it was
    /// off before; where firmware had it on, with tables that devices were confined by, it aborts.
    pub(crate) fn start_first(&self, platform: &P, keeping: bool) -> Result<(), NotStarted> {
        let aborts = !keeping || Cr0(self.mmio.read32(Cr0::OFFSET)).smmuen();
        let started = self.start_as(platform, keeping);
        started.map_err(|error| self.not_started(platform, error, aborts))
    }

    /// Turns the SMMU off after a start that failed with `error`. It is to abort what comes from then on, or else GBPA is left
    /// alone.
    #[cold]
    pub(super) fn not_started(&self, platform: &P, error: EnableError, aborts: bool) -> NotStarted {
        if aborts {
            // A failure here is ignored: the first error is what is returned, and whether memory can be freed depends
            // on SMMUEN alone.
            let _ = self.abort_while_off(platform);
        }
        let off = self.write_cr0(platform, Cr0::default()).is_ok()
            && self.disable_others(platform).is_ok();
        if off {
            let _ = self.write_irq_ctrl(platform, IrqCtrl::default());
        }
        NotStarted { error, off }
    }

    /// What the instance was made of, and its memory given back, if the SMMU is `off`. Otherwise tables and queues are never
    /// freed: hardware may be using them.
    ///
    /// # Safety
    /// `off` where the SMMU was never told of the instance, or has confirmed that it is off ([`NotStarted`]). All methods of
    /// the instance, and of its parts, are given the same platform. No entry of its stream table is used from here on.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn unbuild(self, platform: &P, off: bool) -> Probed<P> {
        let (features, config) = (self.features, self.config);
        // SAFETY: all enables of CR0 were acknowledged as 0, or the SMMU knows of nothing. The memory was taken by `build`,
        // and the caller uses no entry.
        let mmio = if off { unsafe { self.dismantle(platform) } } else { self.mmio };
        Probed { mmio, features, config }
    }

    fn start_as(&self, platform: &P, keeping: bool) -> Result<(), EnableError> {
        // It counts as failed until it works, so that nobody waits for it meanwhile.
        self.commands.give_up();
        let result = self.bring_up(platform, keeping);
        if result.is_err() {
            self.commands.give_up();
        }
        result
    }

    pub(super) fn bring_up(&self, platform: &P, keeping: bool) -> Result<(), EnableError> {
        let mmio = &self.mmio;
        if !keeping || self.leaves_out(Mutation::AbortKept) {
            self.abort_while_off(platform)?;
        }
        self.switch_off(platform)?;
        self.write_irq_ctrl(platform, IrqCtrl::default())?;
        self.commands.stop(platform);
        self.disable_others(platform)?;
        // Errors from before are acknowledged, and reported only where they concern queues that this driver had in use.
        let errors = self.commands.forget_errors(platform, mmio);
        if errors.eventq_abt_err() {
            self.events.aborted(platform);
        }
        if let Some(queue) = self.page_requests.as_ref().filter(|_| errors.priq_abt_err()) {
            queue.aborted(platform);
        }

        mmio.write32(Cr1::OFFSET, super::cr1(&self.features).0);
        // PTM: the SMMU ignores the TLB maintenance that CPUs broadcast.
        let private = !self.features.broadcast;
        let cr2 = Cr2::default().with_ptm(private).with_recinvsid(true);
        mmio.write32(Cr2::OFFSET, cr2.with_e2h(self.features.e2h).0);
        mmio.write64(StrtabBase::OFFSET, self.streams.base_register().0);
        mmio.write32(StrtabBaseCfg::OFFSET, self.streams.config_register().0);

        // Before commands are carried out again: an answer to an old stall must not reach the new queue.
        self.events.restart(platform, mmio);
        #[cfg(feature = "alloc")]
        crate::stall::forget(platform, &self.pending);
        #[cfg(feature = "alloc")]
        crate::page_group::restart(platform, self);
        #[cfg(not(feature = "alloc"))]
        if let Some(queue) = &self.page_requests {
            queue.restart(platform, mmio, &mut |_| ());
        }
        self.commands.restart(platform, mmio, &mut |command| self.unheard(platform, command));
        let mut cr0 = Cr0::default().with_cmdqen(true);
        self.write_cr0(platform, cr0)?;
        self.enable_others(platform)?;
        self.commands.resume(platform);

        if !self.leaves_out(Mutation::NoWakeFlush) {
            self.forget_all(platform)?;
        }

        cr0 = cr0.with_eventqen(true);
        self.write_cr0(platform, cr0)?;
        if self.page_requests.is_some() {
            cr0 = cr0.with_priqen(true);
            self.write_cr0(platform, cr0)?;
        }

        self.wire(platform)?;
        if self.features.checks_translated() {
            // ATSCHK is set before SMMUEN, and never cleared (§8.2). Even if the driver lets no device use ATS: without
            // it, accesses that a device calls translated would pass blocked entries (§12.2).
            cr0 = cr0.with_atschk(true);
            self.write_cr0(platform, cr0)?;
        }
        self.write_cr0(platform, cr0.with_smmuen(true))?;
        // GBPA for when the SMMU is turned off later. During the start it is abort, whatever the configuration says.
        if keeping || !self.config.while_off.aborts() {
            self.set_while_off(platform)?;
        }
        #[cfg(feature = "alloc")]
        crate::page_group::answer_all(platform, self).map_err(EnableError::Commands)?;
        Ok(())
    }

    /// A command that the SMMU did not come to before the reset: answers to page requests are given again.
    #[cfg_attr(not(feature = "alloc"), expect(unused_variables, reason = "nobody gives answers"))]
    fn unheard(&self, platform: &P, command: Command) {
        #[cfg(feature = "alloc")]
        crate::page_group::unheard(platform, self, command);
    }

    /// Sets interrupts up, which are off, and enables them.
    pub(super) fn wire(&self, platform: &P) -> Result<(), EnableError> {
        let mmio = &self.mmio;
        // The message registers can be changed only while the interrupts are off.
        if self.features.messages && !self.leaves_out(Mutation::LateMessages) {
            self.config.messages.write(&self.features, mmio);
        }
        let (enabled, requests) = (self.config.interrupts, self.page_requests.is_some());
        let queues = enabled && !self.leaves_out(Mutation::NoQueueInterrupts);
        if requests && self.config.messages.page_requests.is_none() {
            // LO is unknown after reset. 0: an interrupt when the queue stops being empty, not with each group (§2.4).
            mmio.write32(PriqIrqCfg2::OFFSET, 0);
        }
        self.write_irq_ctrl(
            platform,
            IrqCtrl::default()
                .with_gerror(enabled)
                .with_eventq(queues)
                .with_priq(queues && requests),
        )?;
        if self.features.messages && self.leaves_out(Mutation::LateMessages) {
            self.config.messages.write(&self.features, mmio);
        }
        Ok(())
    }

    /// Empties all caches, and waits until that is complete.
    pub(crate) fn forget_all(&self, platform: &P) -> Result<(), EnableError> {
        // Configuration first: cached entries could otherwise refill the TLB after it was emptied.
        self.carry_out_calmly(platform, &[Command::cfgi_all()])?;
        let all = [TlbiNsnhAll::new().into(), TlbiEl2All::new().into()];
        let worlds = if self.features.el2 { 2 } else { 1 };
        self.carry_out_calmly(platform, all.get(..worlds).unwrap_or(&[]))
    }

    /// Carries `commands` out by the shared, slower way: saves code where speed does not matter.
    fn carry_out_calmly(&self, platform: &P, commands: &[Command]) -> Result<(), EnableError> {
        let commands = commands.iter().copied();
        let done = self.commands.carry_out_later(platform, &self.mmio, commands);
        done.map_err(EnableError::Commands)
    }

    /// Turns the SMMU off; transactions abort from then on, or do what [`InstanceConfig::while_off`] says. One that is
    /// suspended is off already, and is not accessed. This does not wait for others who are at its registers, such as
    /// [`Instance::ask`]: they are to have returned before its power goes.
    ///
    /// [`InstanceConfig::while_off`]: super::InstanceConfig::while_off
    ///
    /// # Errors
    /// [`EnableError::Handshake`] when it does not confirm: it may still be using its tables and queues. It
    /// counts as failed in any case.
    pub fn stop(&self, platform: &P) -> Result<(), EnableError> {
        // One that was to be resumed, and failed, is not.
        let off = self.confirmed_off.load(Ordering::Relaxed);
        if !off {
            self.commands.silence(platform, &self.mmio);
        }
        self.commands.give_up();
        if off {
            #[cfg(feature = "alloc")]
            crate::page_group::forget(platform, self);
            return Ok(());
        }
        // Nobody writes PROD of a queue that is turned off below.
        self.commands.stop(platform);
        // A failure is ignored: turning the SMMU off matters more.
        let _ = self.set_while_off(platform);
        self.switch_off(platform)?;
        #[cfg(feature = "alloc")]
        crate::stall::forget(platform, &self.pending);
        #[cfg(feature = "alloc")]
        crate::page_group::forget(platform, self);
        self.disable_others(platform)?;
        self.write_irq_ctrl(platform, IrqCtrl::default())
    }

    /// Turns every enhanced command queue off, whoever turned it on: an SMMU that uses one keeps its attributes (CR1), and
    /// may read its memory. CR0.CMDQEN has nothing to do with them.
    pub(super) fn disable_others(&self, platform: &P) -> Result<(), EnableError> {
        let Some(slots) = Slots::of(&self.features) else { return Ok(()) };
        slots.offsets(&self.mmio).try_for_each(|(_, slot)| {
            let cons = ecmdq::disable(&self.mmio, slot);
            self.poll(platform, "ECMDQ_PROD", cons, EcmdqCons::default().with_enack(true).0, 0)
        })
    }

    /// Turns on the enhanced queues that are lanes of the command queue, and the control pages that they are in.
    pub(super) fn enable_others(&self, platform: &P) -> Result<(), EnableError> {
        let slots = Slots::of(&self.features).filter(|_| cfg!(feature = "ecmdq"));
        let Some(slots) = slots else { return Ok(()) };
        let used = slots.offsets(&self.mmio).take(self.commands.lanes() - 1);
        let mut before = None;
        for (page, _) in used {
            if before.replace(page) == Some(page) {
                continue;
            }
            slots.enable(&self.mmio, page, |status, enabled| {
                self.poll(platform, "CMDQ_CONTROL_PAGE_CFG", status, enabled, enabled)
            })?;
        }
        self.commands.enable_others(platform, &self.mmio, |cons| {
            let enabled = EcmdqCons::default().with_enack(true).0;
            self.poll(platform, "ECMDQ_PROD", cons, enabled, enabled)
        })
    }

    /// Makes transactions abort while SMMUEN is 0 (§2.4).
    fn abort_while_off(&self, platform: &P) -> Result<(), EnableError> {
        self.write_gbpa(platform, WhileOff::ABORT)
    }

    /// Makes transactions do while SMMUEN is 0 what the configuration says.
    pub(super) fn set_while_off(&self, platform: &P) -> Result<(), EnableError> {
        let while_off = match self.leaves_out(Mutation::NoGbpaAttributes) {
            true => self.config.while_off.without_attributes(),
            false => self.config.while_off,
        };
        self.write_gbpa(platform, while_off)
    }

    /// Changes GBPA: once no update is on its way, with Update, until that is 0 again.
    #[inline(never)]
    fn write_gbpa(&self, platform: &P, while_off: WhileOff) -> Result<(), EnableError> {
        let settles = || {
            let update = Gbpa::default().with_update(true);
            self.poll(platform, "GBPA", Gbpa::OFFSET, update.0, 0)
        };
        settles()?;
        let gbpa = while_off.on(Gbpa(self.mmio.read32(Gbpa::OFFSET)));
        self.mmio.write32(Gbpa::OFFSET, gbpa.with_update(true).0);
        settles()
    }

    /// Turns everything off that CR0 enables, the command queue first: an answer that is consumed while SMMUEN is 0 does
    /// nothing (§4.2), and is found in no queue afterwards. Once CMDQEN is acknowledged as 0, CMDQ_CONS is final (§2.4).
    fn switch_off(&self, platform: &P) -> Result<(), EnableError> {
        let cr0 = Cr0(self.mmio.read32(Cr0::OFFSET));
        // All ones: the registers are not there any more.
        if cr0.cmdqen() && cr0.0 != u32::MAX {
            // A failure is ignored: turning the SMMU off matters more.
            let _ = self.write_cr0(platform, cr0.with_cmdqen(false));
        }
        self.write_cr0(platform, Cr0::default())
    }

    #[inline(never)]
    pub(super) fn write_cr0(&self, platform: &P, cr0: Cr0) -> Result<(), EnableError> {
        self.acknowledged(platform, "CR0", [Cr0::OFFSET, Cr0Ack::OFFSET], cr0.0)
    }

    #[inline(never)]
    pub(super) fn write_irq_ctrl(&self, platform: &P, ctrl: IrqCtrl) -> Result<(), EnableError> {
        self.acknowledged(platform, "IRQ_CTRL", [IrqCtrl::OFFSET, IrqCtrlAck::OFFSET], ctrl.0)
    }

    /// Writes a register and waits until the one that acknowledges it shows the same (§2.4).
    fn acknowledged(
        &self,
        platform: &P,
        register: &'static str,
        [offset, acknowledgement]: [u32; 2],
        value: u32,
    ) -> Result<(), EnableError> {
        // A field whose last change is not acknowledged yet must not be changed again.
        let before = self.mmio.read32(offset);
        self.poll(platform, register, acknowledgement, before ^ value, before)?;
        self.mmio.write32(offset, value);
        self.poll(platform, register, acknowledgement, u32::MAX, value)
    }

    /// Reads what is at `offset` until its bits of `mask` are as `expected`, after `register` was written.
    #[inline(never)]
    fn poll(
        &self,
        platform: &P,
        register: &'static str,
        offset: u32,
        mask: u32,
        expected: u32,
    ) -> Result<(), EnableError> {
        let (begun, deadline) = (platform.now(), self.commands.deadline());
        loop {
            let read = self.mmio.read32(offset);
            if (read ^ expected) & mask == 0 {
                return Ok(());
            }
            if platform.now().saturating_sub(begun) > deadline {
                return Err(EnableError::Handshake { register, expected, read });
            }
            platform.relax();
        }
    }
}

/// Attributes with which an SMMU accesses queues and the stream table.
pub(crate) fn cr1(features: &Features) -> Cr1 {
    const WRITE_BACK: u64 = 1;
    const INNER_SHAREABLE: u64 = 3;
    if !features.coherent {
        return Cr1::default();
    }
    Cr1::default()
        .with_queue_ic(WRITE_BACK)
        .with_queue_oc(WRITE_BACK)
        .with_queue_sh(INNER_SHAREABLE)
        .with_table_ic(WRITE_BACK)
        .with_table_oc(WRITE_BACK)
        .with_table_sh(INNER_SHAREABLE)
}
