// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices wrote to a domain's memory, as hardware marks it (§14): for who migrates a guest.

use core::fmt;

use smmuv3_formats::Iova;
use smmuv3_pagetable::{Gather, HarvestError};

use crate::domain::Domain;
use crate::error::Unconfirmed;
use crate::platform::Platform;
use crate::space::Which;
use crate::tables::dispatch;

/// Why it is not known what devices wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirtyError {
    /// The range makes no sense, an end of it cuts a block, or hardware does not mark what is written
    /// ([`DomainConfig::dirty`](crate::DomainConfig::dirty)). Nothing was changed.
    Table(HarvestError),
    /// What was reported was written, but an instance did not confirm that it marks what comes: until it was reset,
    /// devices behind it may write without another mark.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for DirtyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(error) => error.fmt(f),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for DirtyError {}

impl<P: Platform> Domain<P> {
    /// Tells `report` what devices have written in the `len` bytes from `iova` on since it was last asked, or mapped: starts
    /// and bytes, of whole pages, within the range. Holes are allowed.
    ///
    /// When it has returned `Ok`, all of that is clean: the next write to it marks it again. The memory may be looked at,
    /// or copied, from then on, not in `report`.
    ///
    /// May be called in interrupt context. Never waits for an attach, and allocates nothing.
    ///
    /// # Errors
    /// See [`DirtyError`].
    ///
    /// # Safety
    /// No other operation of the domain touches an overlapping range meanwhile.
    pub unsafe fn read_and_clear_dirty(
        &self,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), DirtyError> {
        let platform = &self.space.core.platform;
        let granule = self.own().granule_shift();
        let mut gather = Gather::<4>::sized();
        dispatch!(self.table(), table => {
            // SAFETY: the caller's promise; the frames are those that the table was made with.
            let harvest = unsafe { table.read_and_clear_dirty(platform, iova, len) };
            let mut harvest = harvest.map_err(DirtyError::Table)?;
            while harvest.step(&mut gather, &mut *report) {}
        });
        #[cfg(feature = "mutation")]
        if self.space.core.leaves_out(crate::Mutation::NoDirtyTlbi) {
            return Ok(());
        }
        if gather.is_empty() {
            return Ok(());
        }
        // A TLB that holds a leaf as written lets writes pass without a mark.
        let told = self.space.invalidate(Self::scope(&gather, granule), Which::All);
        told.map_err(|(unconfirmed, _)| DirtyError::Unconfirmed(unconfirmed))
    }

    /// As [`Domain::read_and_clear_dirty`], but leaves it as it is: what is reported will be reported again. What an end
    /// of the range cuts is reported as far as it lies in the range.
    ///
    /// # Errors
    /// [`DirtyError::Table`].
    ///
    /// # Safety
    /// As for [`Domain::read_and_clear_dirty`].
    pub unsafe fn read_dirty(
        &self,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), DirtyError> {
        let platform = &self.space.core.platform;
        let mut gather = Gather::<4>::sized();
        dispatch!(self.table(), table => {
            // SAFETY: the caller's promise; the frames are those that the table was made with.
            let harvest = unsafe { table.read_dirty(platform, iova, len) };
            let mut harvest = harvest.map_err(DirtyError::Table)?;
            while harvest.step(&mut gather, &mut *report) {}
        });
        Ok(())
    }
}
