// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why something was not done with a domain.

use core::fmt;

use smmuv3_pagetable::UnmapError as TableUnmapError;
use smmuv3_pagetable::{MapErrorKind, RangeError, SplitError, TableError};

use crate::error::Unconfirmed;
use crate::shared::NoMemory;
#[cfg(doc)]
use crate::{Domain, DomainConfig};

/// Why a domain could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// No heap memory.
    NoMemory,
    /// No first table, or sizes that no table has.
    Table(TableError),
    /// Tables of that kind were left out of the driver.
    LeftOut {
        /// The first of the features that it lacks for them: `stage-2`, `granules`, `wide`, `dirty`, `counts`.
        feature: &'static str,
    },
    /// It is not a VMID that the hypervisor has for itself
    /// ([`Config::hypervisor_vmids`](crate::Config::hypervisor_vmids)).
    Vmid {
        /// The VMID.
        vmid: u16,
    },
    /// A VMID was chosen ([`DomainConfig::vmid`]) for a domain of stage 1, whose VMID is the instance's.
    VmidStage {
        /// The VMID.
        vmid: u16,
    },
}

impl From<NoMemory> for CreateError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory"),
            Self::Table(error) => error.fmt(f),
            Self::LeftOut { feature } => {
                write!(f, "the driver was built without such tables (feature `{feature}`)")
            }
            Self::Vmid { vmid } => write!(f, "VMID {vmid:#x} is not the hypervisor's"),
            Self::VmidStage { vmid } => {
                write!(f, "VMID {vmid:#x} was chosen for stage 1, which has no choice")
            }
        }
    }
}

impl core::error::Error for CreateError {}

/// Why a range was not mapped. Nothing of it is mapped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapError {
    /// What was wrong.
    pub kind: MapErrorKind,
    /// Set when a part had been mapped, was removed again, and an instance did not confirm that: devices may still reach the
    /// memory. It is in quarantine, and neither it nor the range may be used again before the instance was reset.
    pub unconfirmed: Option<Unconfirmed>,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match &self.unconfirmed {
            Some(unconfirmed) => write!(f, "; while undoing a part: {unconfirmed}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for MapError {}

/// Why an unmap is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmapError {
    /// The range cannot be unmapped. Nothing was changed.
    Table(TableUnmapError),
    /// A block that an end of the range cuts could not be split. Nothing was unmapped.
    Split {
        /// Why.
        error: SplitError,
        /// Set when an instance did not confirm what was done of it: it counts as failed, and may go on with what it had, which is
        /// as it was.
        unconfirmed: Option<Unconfirmed>,
    },
    /// What devices wrote was to be told ([`Domain::unmap_reporting`]), and hardware does not mark that
    /// ([`DomainConfig::dirty`]). Nothing was changed.
    Untracked,
    /// The range is unmapped, but an instance may still reach the memory; it is in quarantine.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(error) => error.fmt(f),
            Self::Split { error, unconfirmed: None } => error.fmt(f),
            Self::Split { error, unconfirmed: Some(unconfirmed) } => {
                write!(f, "{error}; before that: {unconfirmed}")
            }
            Self::Untracked => f.write_str("hardware does not mark what devices write there"),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for UnmapError {}

/// Why tables were not reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReclaimError {
    /// The range makes no sense. Nothing was changed.
    Range(RangeError),
    /// Tables were unlinked, but an instance may still read them; they are in quarantine.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for ReclaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(error) => error.fmt(f),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for ReclaimError {}
