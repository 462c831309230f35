// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU whose power goes for a while: suspend and resume.
//!
//! While it is asleep everything works as before, in memory: masters are attached and detached, domains mapped and
//! unmapped. Only what would tell the SMMU to forget is left out, because it wakes with empty caches; how that is safe
//! against CPUs that unmap meanwhile is told in `state`. Devices behind it are refused, or reach what
//! [`InstanceConfig::while_off`](crate::InstanceConfig::while_off) says, for as long as its power is there.

use core::fmt;

use crate::error::Failure;
use crate::fault::{self, Interrupt, Report};
use crate::instance::EnableError;
use crate::iommu::{Iommu, Smmu};
use crate::platform::Platform;

/// Events that are handed over between two looks at the index.
const BATCH: usize = 64;

/// Why an SMMU was not suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuspendError {
    /// It was removed.
    Removed,
    /// It does not answer, or said at last that it fails: see [`Iommu::reset`] and [`Iommu::remove`].
    Failed,
    /// It did not stop, or did not complete what it had been given. It works as before, perhaps with ATS off in some devices, if
    /// GBPA was not confirmed ([`EnableError::Handshake`] with GBPA), or if it refused a command by which its devices
    /// were told to forget; otherwise it counts as failed.
    Hardware(EnableError),
}

impl fmt::Display for SuspendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("the SMMU was removed"),
            Self::Failed => f.write_str("the SMMU does not answer, and has to be reset"),
            Self::Hardware(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SuspendError {}

impl<P: Platform> Iommu<P> {
    /// Stops `smmu`, so that its power may go (§17.4): no transaction is translated any more, all that were are complete,
    /// and all it had to report was handed to `sink`, which runs as that of [`Iommu::handle_interrupt`] does. When this
    /// has returned no register of it is accessed before [`Iommu::resume`], whatever is called of the [`Iommu`], its
    /// instances, masters and domains, on whichever CPU. (Whoever uses the layer below by itself, [`Smmu::instance`], looks
    /// at [`CommandQueue::is_asleep`](crate::command_queue::CommandQueue::is_asleep).)
    ///
    /// Devices behind it should be quiet: what they do from here on is refused without a report. Those with ATS have it
    /// switched off, until it works again ([`Platform::disable_ats`]). Transactions that have stalled end: answers that
    /// come later do nothing, and what stalled just now is a [`Report::Aborted`]. So do groups of page requests: their devices
    /// are told to try again. Everything of the
    /// driver can be called meanwhile, and none of it is lost. One that is suspended already stays so.
    ///
    /// # Errors
    /// See [`SuspendError`]; its power is to stay on then.
    pub fn suspend(
        &self,
        smmu: &Smmu<P>,
        sink: &mut dyn FnMut(Report<P>),
    ) -> Result<(), SuspendError> {
        let core = &smmu.core;
        core.configuration.with(|configuration| {
            if configuration.asids.removed() & smmu.id.bit() != 0 {
                return Err(SuspendError::Removed);
            }
            let instance = smmu.hardware();
            if instance.commands().has_failed() {
                return Err(SuspendError::Failed);
            }
            if instance.commands().is_asleep() {
                return Ok(());
            }
            // No device may have ATS on while SMMUEN is 0 (§12).
            let quiet = configuration.quiet(core, smmu.id).map_err(EnableError::Commands);
            if let Err(error) = quiet.and_then(|()| instance.suspend(&core.platform)) {
                if !instance.commands().has_failed() {
                    // If that fails ATS stays off, which does no harm.
                    let _ = configuration.switch_on(core, smmu.id);
                }
                return Err(SuspendError::Hardware(error));
            }
            // The SMMU is off and records nothing more, so this loop ends.
            while fault::handle(core, smmu.id, instance, Interrupt::Any, BATCH, sink) {}
            // Among the last reports may be that the SMMU has failed.
            if instance.commands().has_failed() { Err(SuspendError::Failed) } else { Ok(()) }
        })
    }

    /// Lets `smmu` work again, which has power and was suspended: all its registers are written, and its caches emptied
    /// before it translates anything. Its tables are those in memory, as they are by now. One that is not suspended is
    /// left alone.
    ///
    /// Where something had not been confirmed before it was suspended, that is let go of, as by [`Iommu::reset`].
    ///
    /// # Errors
    /// As for [`Iommu::reset`], which may be tried then: it counts as failed, and its power is to stay on. This may be called again
    /// as long as it is suspended; [`Failure::Failed`] for one that is not any more, and has failed.
    pub fn resume(&self, smmu: &Smmu<P>) -> Result<(), EnableError> {
        self.revive(smmu, |instance| {
            let commands = instance.commands();
            match (commands.is_off(), commands.has_failed()) {
                (true, _) => Ok(true),
                (false, true) => Err(EnableError::Commands(Failure::Failed)),
                // The SMMU works: it was not suspended, or another caller has resumed it.
                (false, false) => Ok(false),
            }
        })
    }

    /// Whether `smmu` is suspended.
    pub fn is_suspended(&self, smmu: &Smmu<P>) -> bool {
        smmu.is_suspended()
    }
}
