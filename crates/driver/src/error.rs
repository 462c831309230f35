// SPDX-License-Identifier: MIT OR Apache-2.0
//! What hardware can do to a call that has begun to change it.

use core::fmt;

use smmuv3_formats::Command;

use crate::trace::InstanceSet;

/// Number of an instance within its `Iommu`, in order of enabling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub(crate) u8);

impl InstanceId {
    /// The number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The instance's bit in a set of instances.
    #[cfg(feature = "alloc")]
    pub(crate) const fn bit(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {}", self.0)
    }
}

/// Why an instance did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Failure {
    /// It did not answer in time. It is considered failed from now on.
    Timeout {
        /// Nanoseconds waited.
        waited: u64,
    },
    /// It had failed before; nothing was waited for.
    Failed,
    /// It refused a command; the others of the batch were carried out. With code 3 (§3.2) devices did not answer
    /// before the CMD_SYNC: any ATC invalidation of the batch may have failed.
    Refused {
        /// The command.
        command: Command,
        /// `CMDQ_CONS.ERR` (§3.2).
        code: u8,
    },
    /// It cannot fetch its commands, even when asked again (`CERROR_ABT`). It is considered failed from now on.
    Unreadable,
    /// It refused so many commands since that it is not known any more whether one of these was among them.
    Forgotten,
    /// It is in service failure mode (GERROR.SFM_ERR) until it is reset.
    Service,
    /// An index register shows an impossible value.
    Index {
        /// The value read.
        register: u32,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { waited } => write!(f, "no answer within {} us", waited / 1000),
            Self::Failed => f.write_str("it had failed before"),
            Self::Refused { command, code } => {
                write!(f, "it refused `{command}` with error {code}")
            }
            Self::Unreadable => f.write_str("it cannot fetch its commands"),
            Self::Forgotten => f.write_str("it refused too many commands to tell which"),
            Self::Service => f.write_str("it is in service failure mode"),
            Self::Index { register } => {
                write!(f, "an index register shows the impossible value {register:#x}")
            }
        }
    }
}

impl core::error::Error for Failure {}

/// A change was made, but an instance did not confirm it (rule R8).
///
/// What the call removed stays removed, and streams that it was changing are blocked. Whatever these instances
/// could still reach is kept in quarantine until they have been reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unconfirmed {
    /// The instance; the first, when several failed.
    pub instance: InstanceId,
    /// What it did.
    pub what: Failure,
    /// All that did not confirm, that one among them. Others may have failed in other calls:
    /// [`Smmu::has_failed`](crate::Smmu::has_failed).
    pub waiting: InstanceSet,
}

impl Unconfirmed {
    /// One instance did not confirm.
    #[cold]
    pub(crate) const fn new(instance: InstanceId, what: Failure) -> Self {
        Self { instance, what, waiting: InstanceSet(1 << instance.0) }
    }

    /// `first`, and what came after it: the first that was not confirmed, with the instances of both.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(crate) fn both(first: Result<(), Self>, then: Result<(), Self>) -> Result<(), Self> {
        match (first, then) {
            (Ok(()), then) => then,
            (first, Ok(())) => first,
            (Err(first), Err(then)) => {
                let waiting = InstanceSet(first.waiting.0 | then.waiting.0);
                Err(Self { waiting, ..first })
            }
        }
    }
}

impl fmt::Display for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} did not confirm: {}", self.instance, self.what)?;
        let mut others = self.waiting.iter().filter(|id| *id != self.instance);
        others.try_for_each(|id| write!(f, "; nor did {id}"))
    }
}

impl core::error::Error for Unconfirmed {}

/// An address space that was to end is still used.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StillAttached {
    /// How many masters are attached to it, or bound.
    pub masters: usize,
    /// How many SMMUs of guests there are over it ([`Iommu::nest`](crate::Iommu::nest)): each may attach masters to it at
    /// any time.
    pub nests: usize,
}

#[cfg(feature = "alloc")]
impl fmt::Display for StillAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { masters, nests } = self;
        write!(f, "masters still use it: {masters}")?;
        match nests {
            0 => Ok(()),
            nests => write!(f, "; SMMUs of guests are over it: {nests}"),
        }
    }
}

#[cfg(feature = "alloc")]
impl core::error::Error for StillAttached {}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_with_the_instances_of_all() {
        let failed = |id, what| Err(Unconfirmed::new(InstanceId(id), what));
        let (one, other) = (failed(3, Failure::Service), failed(5, Failure::Failed));
        assert_eq!(Unconfirmed::both(Ok(()), other), other);
        assert_eq!(Unconfirmed::both(one, Ok(())), one);
        assert_eq!(Unconfirmed::both(Ok(()), Ok(())), Ok(()));
        let both = Unconfirmed::both(one, other).unwrap_err();
        assert_eq!((both.instance, both.what), (InstanceId(3), Failure::Service));
        assert_eq!(both.waiting, InstanceSet(1 << 3 | 1 << 5));
    }
}
