// SPDX-License-Identifier: MIT OR Apache-2.0
//! The removal of an SMMU, for good.

use core::fmt;

use crate::instance::EnableError;
use crate::iommu::{Iommu, Smmu};
use crate::master::MasterState;
use crate::platform::Platform;
use crate::refused::Refused;
use crate::trace::{Change, Trace};

/// Why an instance was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoveError {
    /// It has masters.
    InUse {
        /// How many.
        masters: usize,
    },
    /// The SMMU did not confirm that it is off.
    Hardware(EnableError),
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { masters } => write!(f, "{masters} masters are still registered"),
            Self::Hardware(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RemoveError {}

impl<P: Platform> Iommu<P> {
    /// Turns `smmu` off and forgets it; transactions abort from then on, unless
    /// [`InstanceConfig::while_off`](crate::InstanceConfig::while_off) says otherwise. One that is suspended is not
    /// accessed: it needs no power. Clones of `smmu` then say what
    /// it was, and nothing is done through them: it takes no masters, is not reset, answers and reports nothing. A handler that
    /// has one, and [`Smmu::ask`], may be at work until then: this waits for them, and when it has returned no register
    /// is accessed any more, so that its power may go. As for [`Iommu::suspend`], whoever uses the layer below sees to that
    /// by itself.
    ///
    /// Its memory, and its number among the 64 that an `Iommu` may have at once, are given back when no handle of it is left:
    /// of itself, or of a [`Fault`](crate::Fault), a [`PageGroup`](crate::PageGroup) or a guest's part of it. That is now, or when
    /// another instance is enabled or removed next.
    ///
    /// # Errors
    /// [`RemoveError::InUse`] while it has masters, [`RemoveError::Hardware`] when it does not confirm, or there is no
    /// memory to forget what it had not confirmed before: to be called again.
    pub fn remove(&self, smmu: Smmu<P>) -> Result<(), Refused<Smmu<P>, RemoveError>> {
        let core = &smmu.core;
        let change = Change::Remove { instance: smmu.id };
        core.platform.trace(&Trace::Begun(change));
        let result = core.configuration.with(|configuration| {
            if configuration.asids.removed() & smmu.id.bit() != 0 {
                return Ok(());
            }
            let of_it = |(_, state): &(usize, &MasterState)| state.instance == smmu.id;
            let masters = configuration.masters.iter().filter(of_it).count();
            if masters != 0 {
                return Err(RemoveError::InUse { masters });
            }
            smmu.hardware().stop(&core.platform).map_err(RemoveError::Hardware)?;
            // The instance is off for good, and reaches nothing any more.
            core.quarantine.remove(&core.platform, smmu.id);
            configuration.let_go(core, smmu.id).map_err(RemoveError::Hardware)?;
            // Adopted streams do not work any more either, and the numbers of their contexts are free.
            configuration.disown(smmu.id);
            configuration.asids.remove(smmu.id);
            core.instances.remove(smmu.id);
            // Whoever has a handle may be asking it something, or be in its handler.
            let commands = smmu.hardware().commands();
            if !commands.is_off() {
                commands.sleep(&core.platform);
            }
            Ok(())
        });
        core.platform.trace(&Trace::Ended { change, done: result.is_ok() });
        if let Err(error) = result {
            return Err(Refused { value: smmu, error });
        }
        let core = core.clone();
        drop(smmu);
        core.configuration.with(|_| core.reclaim());
        Ok(())
    }
}
