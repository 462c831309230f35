// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices wrote to a domain's memory, and what they accessed, as hardware marks it (§14): for who migrates a guest,
//! or looks for memory that nobody uses.
//!
//! Hardware marks a leaf by one atomic exchange, and only if it is still what was walked to. So a leaf that was taken by an
//! exchange has said all that will ever be marked in it: a TLB that has it as not yet written can mark it no more, and a
//! write through that faults; one that has it as written wrote a mark before, or was told of it by an invalidation since.

use core::fmt;

use smmuv3_formats::Iova;
use smmuv3_pagetable::{Dirty, Gather, HarvestError};

use crate::domain::{Domain, UnmapError};
use crate::error::Unconfirmed;
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::space::Which;
use crate::statistics::Counted;
use crate::tables::dispatch;

/// Why it is not known what devices wrote, or accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirtyError {
    /// The range makes no sense, an end of it cuts a block, or hardware does not mark what is written
    /// ([`DomainConfig::dirty`](crate::DomainConfig::dirty)) or accessed
    /// ([`DomainConfig::access_flags`](crate::DomainConfig::access_flags)). Nothing was changed.
    Table(HarvestError),
    /// What was reported was written, or accessed, but an instance did not confirm that it marks what comes: until it was
    /// reset, devices behind it may write, or access, without another mark.
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

/// Which marks.
#[derive(Clone, Copy)]
enum Marks {
    Dirty,
    Accessed,
}

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
        // SAFETY: the caller's promise.
        unsafe { self.read_and_clear(Marks::Dirty, iova, len, report) }
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
        // SAFETY: the caller's promise.
        unsafe { self.read(Marks::Dirty, iova, len, report) }
    }

    /// Tells `report` what devices have accessed in the `len` bytes from `iova` on since it was last asked, or mapped, as
    /// [`Domain::read_and_clear_dirty`] does of what they wrote
    /// ([`DomainConfig::access_flags`](crate::DomainConfig::access_flags)).
    ///
    /// When it has returned `Ok`, the next access to any of that marks it again: translations that were used have been
    /// invalidated, without which accesses through them would leave no mark (§14). That makes those that come slower for a
    /// while. What is not reported was not accessed; what is may not have been, as hardware may mark what it only
    /// expects.
    ///
    /// May be called in interrupt context. Never waits for an attach, and allocates nothing.
    ///
    /// # Errors
    /// See [`DirtyError`].
    ///
    /// # Safety
    /// No other operation of the domain touches an overlapping range meanwhile.
    pub unsafe fn read_and_clear_accessed(
        &self,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), DirtyError> {
        // SAFETY: the caller's promise.
        unsafe { self.read_and_clear(Marks::Accessed, iova, len, report) }
    }

    /// As [`Domain::read_and_clear_accessed`], but leaves it as it is, as [`Domain::read_dirty`] does.
    ///
    /// # Errors
    /// [`DirtyError::Table`].
    ///
    /// # Safety
    /// As for [`Domain::read_and_clear_dirty`].
    pub unsafe fn read_accessed(
        &self,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), DirtyError> {
        // SAFETY: the caller's promise.
        unsafe { self.read(Marks::Accessed, iova, len, report) }
    }

    /// # Safety
    /// As for [`Domain::read_and_clear_dirty`].
    unsafe fn read_and_clear(
        &self,
        marks: Marks,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), DirtyError> {
        let platform = &self.space.core.platform;
        let granule = self.own().granule_shift();
        let mut gather = Gather::<4>::sized();
        dispatch!(self.table(), table => {
            let harvest = match marks {
                // SAFETY: the caller's promise; the frames are those that the table was made with.
                Marks::Dirty => unsafe { table.read_and_clear_dirty(platform, iova, len) },
                // SAFETY: as above.
                Marks::Accessed => unsafe { table.read_and_clear_accessed(platform, iova, len) },
            };
            let mut harvest = harvest.map_err(DirtyError::Table)?;
            while harvest.step(&mut gather, &mut *report) {}
        });
        if self.space.core.leaves_out(match marks {
            Marks::Dirty => Mutation::NoDirtyTlbi,
            Marks::Accessed => Mutation::NoAccessedTlbi,
        }) {
            return Ok(());
        }
        if gather.is_empty() {
            return Ok(());
        }
        // Invalidated, because a TLB that holds a leaf as written, or accessed, lets further accesses pass without a
        // mark.
        let told = self.space.invalidate(Self::scope(&gather, granule), Which::All);
        told.map_err(DirtyError::Unconfirmed)
    }

    /// # Safety
    /// As for [`Domain::read_and_clear_dirty`].
    unsafe fn read(
        &self,
        marks: Marks,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), DirtyError> {
        let platform = &self.space.core.platform;
        let mut gather = Gather::<4>::sized();
        dispatch!(self.table(), table => {
            let harvest = match marks {
                // SAFETY: the caller's promise; the frames are those that the table was made with.
                Marks::Dirty => unsafe { table.read_dirty(platform, iova, len) },
                // SAFETY: as above.
                Marks::Accessed => unsafe { table.read_accessed(platform, iova, len) },
            };
            let mut harvest = harvest.map_err(DirtyError::Table)?;
            while harvest.step(&mut gather, &mut *report) {}
        });
        Ok(())
    }

    /// As [`Domain::unmap`], and tells `report` what devices had written there since it was last asked, or mapped: starts
    /// and bytes, of whole pages, within the range ([`DomainConfig::dirty`](crate::DomainConfig::dirty)).
    ///
    /// No write is lost: whatever devices have written through these addresses by the time it has returned `Ok` is in
    /// this report, or was in an earlier one. That includes what they wrote while it was at work. Each page is unmapped by
    /// the same atomic step that reads its mark, and a write that passes afterwards, until the invalidation is complete,
    /// passes through a translation that had the page as written before, so that it is in the report; a write to a page that
    /// was clean until then faults. More may be reported than was written: all of a block or a group of contiguous pages,
    /// and what was never clean ([`Dirty::Born`](crate::Dirty::Born)).
    ///
    /// [`Domain::read_and_clear_dirty`] and then [`Domain::unmap`] is not the same: what is written between them is lost.
    ///
    /// The memory may be looked at, or copied, once this has returned `Ok`, not in `report`.
    ///
    /// May be called in interrupt context, as [`Domain::unmap`].
    ///
    /// # Errors
    /// As [`Domain::unmap`], and [`UnmapError::Untracked`]. With [`UnmapError::Unconfirmed`] the report is complete, but an
    /// instance that did not answer may let devices go on writing to what it says. Where a
    /// [`Domain::read_and_clear_dirty`] before was not confirmed, and the instance not reset since, what devices
    /// behind that have written since may be missing.
    ///
    /// # Safety
    /// As for [`Domain::unmap`].
    pub unsafe fn unmap_reporting(
        &self,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<u64, UnmapError> {
        let unmapped = dispatch!(self.table(), table => {
            if table.dirty() == Dirty::Untracked {
                return Err(UnmapError::Untracked);
            }
            if self.space.core.leaves_out(Mutation::DirtyBeforeUnmap) {
                // SAFETY: the caller's promise, for both.
                return unsafe {
                    let _ = self.read_and_clear_dirty(iova, len, report);
                    self.unmap(iova, len)
                };
            }
            let granule = self.own().granule_shift();
            // SAFETY: the caller's promise.
            let (mut cursor, split) = unsafe { self.cursor(self.own(), table, iova, len) }?;
            let result = self
                .settle_each(granule, |gather| cursor.next_reporting(gather, &mut *report));
            let result = Unconfirmed::both(split, result);
            result.map(|()| cursor.unmapped()).map_err(UnmapError::Unconfirmed)
        })?;
        self.count_bytes([Counted::Unmaps, Counted::Unmapped], unmapped);
        Ok(unmapped)
    }

    /// As [`Domain::unmap_deferred`], and tells `report` what devices had written there, as
    /// [`Domain::unmap_reporting`] does. Until the invalidation devices may go on writing to what was reported, and to
    /// nothing else of the range.
    ///
    /// May be called in interrupt context, as [`Domain::unmap_deferred`].
    ///
    /// # Errors
    /// As [`Domain::unmap_deferred`], and [`UnmapError::Untracked`].
    ///
    /// # Safety
    /// As for [`Domain::unmap_deferred`].
    pub unsafe fn unmap_deferred_reporting(
        &self,
        iova: Iova,
        len: u64,
        report: &mut dyn FnMut(Iova, u64),
    ) -> Result<u64, UnmapError> {
        let platform = &self.space.core.platform;
        let unmapped = dispatch!(self.table(), table => {
            if table.dirty() == Dirty::Untracked {
                return Err(UnmapError::Untracked);
            }
            // SAFETY: the caller's promise; the frames are those that the table was made with.
            unsafe { table.clear_reporting(platform, iova, len, report) }
        });
        let unmapped = unmapped.map_err(UnmapError::Table)?;
        self.count_bytes([Counted::Unmaps, Counted::Unmapped], unmapped);
        Ok(unmapped)
    }
}
