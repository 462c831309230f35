// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking over an SMMU that goes on translating meanwhile: all but its stream table, which stays (§2.1).

use smmuv3_formats::register::{Cr0, Cr1, Cr2, IrqCtrl};

use super::{EnableError, Instance, NotStarted, Probed};
use crate::adopt::OldRequests;
use crate::platform::{Mmio, Platform};

impl<P: Platform> Probed<P> {
    pub(crate) fn mmio(&self) -> &P::Mmio {
        &self.mmio
    }

    /// Limits the features to what `cr2` says: CR2 cannot be changed while the SMMU translates.
    pub(crate) fn adopted(&mut self, cr2: Cr2) {
        self.features = self.features.adopted(cr2);
    }

    /// The features anew, without the limits of [`Probed::adopted`]: the SMMU is off, or is turned off before anything
    /// else.
    pub(crate) fn reconfigured(mut self) -> Self {
        if cfg!(feature = "hand-over") {
            self.features = self.features.anew(&self.config);
        }
        self
    }
}

impl<P: Platform> Instance<P> {
    /// Starts the SMMU for the first time, without turning it off. `requests` are those for pages that nobody has read, which
    /// fail; `block` makes entries abort that are not to go on. If that fails it is told to be off, as by
    /// [`Instance::start_first`], and to abort.
    pub(crate) fn start_adopting(
        &self,
        platform: &P,
        requests: Option<OldRequests>,
        block: impl FnOnce(&Self) -> Result<(), EnableError>,
    ) -> Result<(), NotStarted> {
        self.commands.give_up();
        self.take_over(platform, requests).and_then(|()| block(self)).map_err(|error| {
            self.commands.give_up();
            self.not_started(platform, error, true)
        })
    }

    fn take_over(
        &self,
        platform: &P,
        mut requests: Option<OldRequests>,
    ) -> Result<(), EnableError> {
        let mmio = &self.mmio;
        self.write_irq_ctrl(platform, IrqCtrl::default())?;
        // The queues are turned off; SMMUEN stays, and translation goes on.
        let mut cr0 = Cr0(mmio.read32(Cr0::OFFSET));
        cr0 = cr0.with_cmdqen(false).with_eventqen(false).with_priqen(false);
        self.write_cr0(platform, cr0)?;
        self.commands.stop(platform);
        self.disable_others(platform)?;
        if let Some(requests) = &mut requests {
            requests.read(platform, self);
        }
        let errors = self.commands.forget_errors(platform, mmio);
        if errors.eventq_abt_err() {
            self.events.aborted(platform);
        }
        if let Some(queue) = self.page_requests.as_ref().filter(|_| errors.priq_abt_err()) {
            queue.aborted(platform);
        }
        // Only the attributes of queues are changed: those of tables cannot be while SMMUEN is 1, and were compared.
        let (old, new) = (Cr1(mmio.read32(Cr1::OFFSET)), super::cr1(&self.features));
        let cr1 = old.with_queue_ic(new.queue_ic()).with_queue_oc(new.queue_oc());
        mmio.write32(Cr1::OFFSET, cr1.with_queue_sh(new.queue_sh()).0);

        self.commands.restart(platform, mmio, &mut |_| ());
        // ATSCHK as in `bring_up`: no adopted stream has ATS. It is set before the caches are emptied, since entries
        // may be cached together with what ATSCHK was when they were read (§2.4).
        let checks = self.features.checks_translated();
        cr0 = cr0.with_cmdqen(true).with_atschk(checks || cr0.atschk());
        self.write_cr0(platform, cr0)?;
        self.enable_others(platform)?;
        self.commands.resume(platform);
        // From here on nothing that is cached is older than what is in memory.
        self.forget_all(platform)?;
        // Before the new queue is on: no device can ask again yet.
        let answered = requests.map_or(Ok(()), |requests| requests.answer(platform, self));
        answered.map_err(EnableError::Commands)?;

        self.events.restart(platform, mmio);
        cr0 = cr0.with_eventqen(true);
        self.write_cr0(platform, cr0)?;
        if let Some(queue) = &self.page_requests {
            // The new queue is empty. From here on devices may ask, even those that the predecessor allowed to.
            queue.restart(platform, mmio, &mut |_| ());
            cr0 = cr0.with_priqen(true);
            self.write_cr0(platform, cr0)?;
        }
        self.wire(platform)?;
        // GBPA, for when the SMMU is turned off later.
        self.set_while_off(platform)
    }
}
