// SPDX-License-Identifier: MIT OR Apache-2.0
//! PASIDs: one allocator for the machine, since a process has the same behind every SMMU.

use core::fmt;

use smmuv3_formats::SubstreamId;

use crate::ids::Order;
use crate::iommu::{Core, Iommu};
use crate::master::MasterState;
use crate::place::Slot;
use crate::platform::Platform;
use crate::room::Room;

/// Why a PASID was not allocated, or not freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasidError {
    /// All are in use.
    Exhausted {
        /// Bits of a PASID.
        bits: u32,
    },
    /// It was not allocated, or is that of a process.
    Unknown {
        /// The PASID.
        pasid: SubstreamId,
    },
    /// Masters are attached by it.
    InUse {
        /// The PASID.
        pasid: SubstreamId,
        /// How many.
        masters: usize,
    },
    /// No heap memory.
    NoMemory,
}

impl fmt::Display for PasidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { bits } => write!(f, "all PASIDs of {bits} bits are in use"),
            Self::Unknown { pasid } => write!(f, "PASID {pasid} was not allocated"),
            Self::InUse { pasid, masters } => {
                write!(f, "{masters} masters are attached by PASID {pasid}")
            }
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for PasidError {}

impl<P: Platform> Iommu<P> {
    /// A PASID for [`Iommu::attach_pasid`], the lowest that is free: no process has it, and no other caller.
    ///
    /// # Errors
    /// [`PasidError::Exhausted`], [`PasidError::NoMemory`].
    pub fn allocate_pasid(&self) -> Result<SubstreamId, PasidError> {
        self.core.configuration.with(|configuration| {
            configuration.lent.room(1).map_err(|_| PasidError::NoMemory)?;
            let bits = self.core.pasid_bits();
            let pasid = self.core.take_pasid().ok_or(PasidError::Exhausted { bits })?;
            let at = configuration.lent.partition_point(|lent| *lent < pasid.0);
            configuration.lent.put_at(at, pasid.0);
            Ok(pasid)
        })
    }

    /// Gives back what [`Iommu::allocate_pasid`] returned.
    ///
    /// # Errors
    /// [`PasidError::InUse`] while a master is attached by it, [`PasidError::Unknown`].
    pub fn free_pasid(&self, pasid: SubstreamId) -> Result<(), PasidError> {
        self.core.configuration.with(|configuration| {
            let at = configuration.lent.binary_search(&pasid.0);
            let at = at.map_err(|_| PasidError::Unknown { pasid })?;
            let used = |state: &MasterState| !matches!(state.slot(pasid.0), Slot::Blocked);
            let masters = configuration.masters.iter().filter(|(_, state)| used(state)).count();
            if masters != 0 {
                return Err(PasidError::InUse { pasid, masters });
            }
            configuration.lent.remove(at);
            self.core.give_back_pasid(pasid);
            Ok(())
        })
    }
}

impl<P: Platform> Core<P> {
    pub(crate) fn pasid_bits(&self) -> u32 {
        self.config.pasid_bits
    }

    /// The lowest free PASID.
    pub(crate) fn take_pasid(&self) -> Option<SubstreamId> {
        let bits = self.pasid_bits();
        let pasid = self.pasids.with(&self.platform, |ids| ids.allocate(bits, Order::Ascending));
        pasid.map(SubstreamId)
    }

    pub(crate) fn give_back_pasid(&self, pasid: SubstreamId) {
        self.pasids.with(&self.platform, |ids| ids.release(pasid.0));
    }
}
