// SPDX-License-Identifier: MIT OR Apache-2.0
//! What hardware can do to a call that has begun to change it.

use core::fmt;
use core::time::Duration;

use smmuv3_formats::Command;
use smmuv3_formats::register::cerror;

use crate::platform::nanoseconds;
use crate::trace::InstanceSet;

/// Which instance of its `Iommu`: its number, below 64, and how many others had that number before. The number of one that
/// was removed is given to another once no handle of the former is left, which is then another `InstanceId` all the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(u32);

/// Bits of the number; above them is how many had it before.
const NUMBER_BITS: u32 = 6;
const NUMBER: u32 = (1 << NUMBER_BITS) - 1;

impl InstanceId {
    /// The first instance of a number below 64.
    #[cfg(test)]
    pub(crate) const fn first(number: u8) -> Self {
        Self(number as u32 & NUMBER)
    }

    /// The instance of a number below 64 that so many had before.
    #[cfg(feature = "alloc")]
    pub(crate) const fn new(index: usize, generation: u32) -> Self {
        Self(generation << NUMBER_BITS | index as u32 & NUMBER)
    }

    /// The next instance of the same number. After 2^26 of them it is the first again.
    #[cfg(any(test, feature = "removal"))]
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1 << NUMBER_BITS))
    }

    /// The same, as one word.
    #[cfg(feature = "alloc")]
    pub(crate) const fn raw(self) -> u32 {
        self.0
    }

    /// The number, which no two have at the same time: the smallest that was free when the instance was enabled.
    pub const fn index(self) -> usize {
        (self.0 & NUMBER) as usize
    }

    /// How many instances had this number before.
    pub const fn generation(self) -> u32 {
        self.0 >> NUMBER_BITS
    }

    /// The instance's bit in a set of instances.
    #[cfg(feature = "alloc")]
    pub(crate) const fn bit(self) -> u64 {
        1 << (self.0 & NUMBER)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("InstanceId");
        tuple.field(&self.index());
        if self.generation() != 0 {
            tuple.field(&self.generation());
        }
        tuple.finish()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {}", self.index())
    }
}

/// Why an instance did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Failure {
    /// The SMMU did not answer in time. It counts as failed from now on.
    Timeout {
        /// How long it was waited for, by [`Platform::now`](crate::Platform::now).
        waited: Duration,
    },
    /// The SMMU had failed before; nothing was waited for.
    Failed,
    /// It refused a command; the others of the batch were carried out. With code 3 (§3.2) devices did not answer
    /// before the CMD_SYNC: any ATC invalidation of the batch may have failed.
    Refused {
        /// The command.
        command: Command,
        /// `CMDQ_CONS.ERR` (§3.2).
        code: u8,
    },
    /// The SMMU cannot fetch its commands, even when retried (`CERROR_ABT`). It counts as failed from now on.
    Unreadable,
    /// The SMMU has refused so many commands since that it is not known any more whether one of these was among them.
    Forgotten,
    /// The SMMU is in service failure mode (GERROR.SFM_ERR) until it is reset.
    Service,
    /// An index register shows an impossible value.
    Index {
        /// The value read.
        register: u32,
    },
}

impl Failure {
    /// No answer for so many nanoseconds.
    #[cold]
    pub(crate) const fn timeout(nanoseconds: u64) -> Self {
        Self::Timeout { waited: Duration::from_nanos(nanoseconds) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { waited } => {
                write!(f, "no answer within {} us", nanoseconds(*waited) / 1000)
            }
            Self::Failed => f.write_str("it had failed before"),
            Self::Refused { command, code } => {
                write!(f, "it refused `{command}` with {}", CommandError(*code))
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

/// `CMDQ_CONS.ERR` (§3.2) in words: the architecture's name, or the number of a code that has none.
pub(crate) struct CommandError(pub u8);

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match cerror::name(u64::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// A change was made, but an instance did not confirm it (rule R8).
///
/// What the call removed stays removed, and streams that it was changing are blocked. Whatever these instances
/// could still reach is kept in quarantine until they have been reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unconfirmed {
    /// The instance; the first, when several failed.
    pub instance: InstanceId,
    /// How the instance failed.
    pub what: Failure,
    /// All that did not confirm, that one among them. Others may have failed in other calls:
    /// [`Smmu::has_failed`](crate::Smmu::has_failed).
    pub waiting: InstanceSet,
}

impl Unconfirmed {
    /// One instance did not confirm.
    #[cold]
    pub(crate) const fn new(instance: InstanceId, what: Failure) -> Self {
        Self { instance, what, waiting: InstanceSet(1 << instance.index()) }
    }

    /// As [`Unconfirmed::both`], where the first has been what `result` says, and something else was not confirmed then.
    #[cfg(feature = "alloc")]
    #[cold]
    #[inline(never)]
    pub(crate) fn add(result: &mut Result<(), Self>, then: Self) {
        match result {
            Ok(()) => *result = Err(then),
            Err(first) => first.waiting.0 |= then.waiting.0,
        }
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
        let mut others = self.waiting.iter().filter(|index| *index != self.instance.index());
        others.try_for_each(|index| write!(f, "; nor did instance {index}"))
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
    use std::string::ToString;

    use super::*;

    #[test]
    fn errors_of_commands_have_their_names() {
        let command = Command([0x46, 0]);
        let refused = |code| Failure::Refused { command, code }.to_string();
        assert_eq!(refused(1), "it refused `CMD_SYNC` with CERROR_ILL");
        assert_eq!(refused(3), "it refused `CMD_SYNC` with CERROR_ATC_INV_SYNC");
        assert_eq!(refused(9), "it refused `CMD_SYNC` with error 9");
    }

    #[test]
    fn what_was_waited_for_is_told_in_microseconds_however_long_it_was() {
        let text = |waited| Failure::Timeout { waited }.to_string();
        assert_eq!(text(Duration::from_micros(1234)), "no answer within 1234 us");
        assert_eq!(text(Duration::from_secs(3)), "no answer within 3000000 us");
        // As long as the clock can tell.
        let longest = Duration::from_nanos(u64::MAX);
        assert_eq!(text(Duration::MAX), text(longest));
        assert_eq!(Failure::timeout(5), Failure::Timeout { waited: Duration::from_nanos(5) });
    }

    #[cfg(all(feature = "ats", not(any(loom, shuttle))))]
    #[test]
    fn errors_of_commands_have_their_names_in_reports() {
        type Report = crate::fault::Report<crate::nothing::Nothing>;
        let report = Report::CommandError { command: Command([0x46, 0]), code: 1 }.to_string();
        assert_eq!(report, "the queue stopped at `CMD_SYNC` with CERROR_ILL");
    }

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
