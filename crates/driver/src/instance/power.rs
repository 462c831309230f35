// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stopping an SMMU whose power is about to go, and starting it with all registers lost (§17.4, §17.1).

use core::sync::atomic::Ordering;

use smmuv3_formats::register::{Cr0, IrqCtrl};

use super::{EnableError, Instance};
use crate::mutation::Mutation;
use crate::platform::{Mmio, Platform};

impl<P: Platform> Instance<P> {
    /// Stops the SMMU, with what it was given complete and all translated transactions done: its power may go. From then on
    /// invalidations count as done ([`CommandQueue::is_asleep`]), and no register is accessed through the command queue,
    /// until [`Instance::resume`]. Events that it recorded can still be [drained], as long as it has power.
    ///
    /// # Errors
    /// [`EnableError::Handshake`] with GBPA: it works as before. Any other: it counts as failed.
    ///
    /// [`CommandQueue::is_asleep`]: crate::command_queue::CommandQueue::is_asleep
    /// [drained]: crate::event_queue::EventQueue::drain
    pub fn suspend(&self, platform: &P) -> Result<(), EnableError> {
        // GBPA decides while the SMMU is off, so it is set first.
        self.set_while_off(platform)?;
        let stopped = self.stop_walking(platform);
        self.confirmed_off.store(stopped.is_ok(), Ordering::Relaxed);
        if stopped.is_err() {
            // Also after it was put to sleep: its queues may be in use, so it is to be turned off, or started, as any that has
            // failed, and what it has recorded is still to be read.
            self.commands.give_up_awake();
        }
        stopped
    }

    fn stop_walking(&self, platform: &P) -> Result<(), EnableError> {
        if self.leaves_out(Mutation::SleepWhileOn) {
            self.commands.sleep(platform);
        }
        // Stalls are taken back first: the SMMU ends them itself when SMMUEN is 0, and nobody may answer them any more.
        #[cfg(feature = "alloc")]
        crate::stall::close(platform, self).map_err(EnableError::Commands)?;
        // Only SMMUEN is cleared: the queues stay on for now.
        let cr0 = Cr0(self.mmio.read32(Cr0::OFFSET)).with_smmuen(false);
        self.write_cr0(platform, cr0)?;
        // When this is complete, so are all transactions that were translated before. Commands that others gave to other
        // queues need not be, but what they would have emptied is empty.
        self.forget_all(platform)?;
        self.commands.silence(platform, &self.mmio);
        self.commands.sleep(platform);
        // Events that are recorded by now can still be read with the queue disabled (§3.3).
        self.write_cr0(platform, Cr0::default())?;
        self.disable_others(platform)?;
        self.write_irq_ctrl(platform, IrqCtrl::default())
    }

    /// Starts the SMMU again after [`Instance::suspend`], whatever became of its registers and caches. What changed in
    /// memory meanwhile counts. Invalidations are left out until its caches are about to be emptied.
    ///
    /// # Errors
    /// See [`EnableError`]; it counts as failed then.
    pub fn resume(&self, platform: &P) -> Result<(), EnableError> {
        // Its registers are about to be written: it is not confirmed off any more.
        self.confirmed_off.store(false, Ordering::Relaxed);
        self.events.forget_indices(platform);
        if let Some(queue) = &self.page_requests {
            queue.forget_indices(platform);
        }
        let result = self.bring_up(platform, false);
        if result.is_err() {
            // Until it works its registers mean nothing: whoever handles interrupts stays out, as long as it counts as asleep.
            self.commands.give_up();
        }
        result
    }
}
