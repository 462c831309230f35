// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver tells whoever wants to follow what it does: [`Platform::trace`](crate::Platform::trace).
//!
//! Each [`Trace`] is told at the moment at which it is true, by the CPU that did it, in order on each CPU. They are plain
//! values: nothing is computed for them that the driver does not have at hand, so that without a hook they are not even
//! made.
//!
//! # Where a hook runs
//! In the middle of things: in interrupt context or with interrupts masked, with locks of the driver held or not, and
//! where others wait for the one that is tracing. So it writes to a ring of its own, and is done. It waits for nothing,
//! takes no lock that is held across a call of the driver, allocates nothing through what may, and does not come back
//! to the driver.
//!
//! | event | interrupts | locks held |
//! |---|---|---|
//! | [`Submitted`](Trace::Submitted) | as the caller's; masked for the answer to a stall | as the caller's |
//! | [`Waited`](Trace::Waited), [`Completed`](Trace::Completed), [`Invalidation`](Trace::Invalidation) | as the caller's | none in `unmap`; the configuration mutex in the calls between `Begun` and `Ended` |
//! | [`Quarantined`](Trace::Quarantined) | as the caller's | as above; it has announced itself as a reader of the domain's instances, for which detach and attach wait |
//! | [`Refused`](Trace::Refused) | masked | the recovery of that queue |
//! | [`Event`](Trace::Event), [`Lost`](Trace::Lost) | masked | the event queue |
//! | [`Pages`](Trace::Pages), [`PageDenied`](Trace::PageDenied), [`PasidStopped`](Trace::PasidStopped), [`PagesLost`](Trace::PagesLost) | masked, but for [`PagesLost::Aborted`] | the queue of page requests, but for that |
//! | [`Errors`](Trace::Errors) | as the caller's | none |
//! | [`Held`](Trace::Held) | as the caller's | as the caller's |
//! | [`Begun`](Trace::Begun), [`Ended`](Trace::Ended) | on | the configuration mutex, but around [`Change::Reset`] and [`Change::Remove`] |

use smmuv3_formats::register::Gerror;
use smmuv3_formats::{Command, EventRecord, StreamId, SubstreamId};

use crate::error::{Failure, InstanceId};
use crate::event_queue::Lost;
use crate::invalidate::{Scope, Tag};
use crate::name::Name;
use crate::page_request::{Denied, Group, Page, PagesLost};

/// Something that the driver did, or found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trace<'a> {
    /// A batch was placed in a command queue. The SMMU has been told of it, or is told by whoever rings for all.
    Submitted {
        /// Whose.
        instance: &'a Name,
        /// Which of its queues: 0 is the command queue, enhanced ones follow.
        queue: u32,
        /// Position of the first command: they count up, over resets too.
        first: u64,
        /// How many commands, the CMD_SYNC among them.
        count: u64,
    },
    /// A wait for commands, or for room, is over. Not traced if the first look found it done.
    Waited {
        /// Whose.
        instance: &'a Name,
        /// Calls of [`Platform::relax`](crate::Platform::relax).
        turns: u64,
    },
    /// Whoever waited for a batch knows what became of it.
    Completed {
        /// Whose.
        instance: &'a Name,
        /// Which of its queues.
        queue: u32,
        /// Position of the first command.
        first: u64,
        /// How many commands.
        count: u64,
        /// It was carried out, or not.
        result: Result<(), Failure>,
    },
    /// A queue stopped at a command, and goes on (§3.2).
    Refused {
        /// Whose.
        instance: &'a Name,
        /// Position of the command.
        position: u64,
        /// The command.
        command: Command,
        /// `CMDQ_CONS.ERR`.
        code: u8,
    },
    /// All instances that use an address space have been told to forget some of it; those that had no room are told
    /// next, by another. Each one's `Submitted` came before.
    Invalidation {
        /// Number of the domain or process.
        space: usize,
        /// What.
        scope: Scope,
        /// Which instances.
        told: InstanceSet,
    },
    /// An event is handed to the caller of [`Iommu::handle_interrupt`](crate::Iommu::handle_interrupt).
    Event {
        /// Whose.
        instance: &'a Name,
        /// As the SMMU wrote it.
        record: &'a EventRecord,
        /// It waits for an answer.
        stalled: bool,
    },
    /// Events were lost.
    Lost {
        /// Whose.
        instance: &'a Name,
        /// How.
        lost: Lost,
    },
    /// Global errors other than a refused command were acknowledged.
    Errors {
        /// Whose.
        instance: &'a Name,
        /// Those that were active.
        active: Gerror,
    },
    /// A group of pages that a device asks for is handed to the caller of
    /// [`Iommu::handle_interrupt`](crate::Iommu::handle_interrupt), who is to answer.
    Pages {
        /// Whose.
        instance: &'a Name,
        /// Which group.
        group: Group,
        /// How many pages.
        pages: usize,
    },
    /// A page was denied.
    PageDenied {
        /// Whose.
        instance: &'a Name,
        /// Of which group.
        page: Page,
        /// Why.
        why: Denied,
    },
    /// A device said that it uses a PASID no more.
    PasidStopped {
        /// Whose.
        instance: &'a Name,
        /// The stream.
        stream: StreamId,
        /// The PASID.
        pasid: SubstreamId,
    },
    /// Page requests were lost, or forgotten.
    PagesLost {
        /// Whose.
        instance: &'a Name,
        /// How.
        lost: PagesLost,
    },
    /// A device that did not answer an invalidation is about to be cut off.
    Quarantined {
        /// Whose.
        instance: &'a Name,
        /// Its stream.
        stream: StreamId,
    },
    /// A range, and tables of it, are kept from use: instances did not confirm that they let go of it.
    Held {
        /// Number of the domain or process.
        space: usize,
        /// First input address.
        start: u64,
        /// Bytes.
        bytes: u64,
        /// Which instances.
        waiting: InstanceSet,
    },
    /// A change of who uses what begins. What comes up to its `Ended` on this CPU is part of it, or interrupted it.
    Begun(Change),
    /// It is over.
    Ended {
        /// As it began.
        change: Change,
        /// It was done. After a failure of hardware it may be half done.
        done: bool,
    },
}

/// What takes the configuration mutex, and changes what hardware reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A master is to use an address space, or be bound to it once more.
    Attach {
        /// Of the master.
        instance: InstanceId,
        /// Its first stream.
        stream: StreamId,
        /// For accesses with this PASID alone.
        substream: Option<SubstreamId>,
        /// Number of the domain or process; `None` is all memory.
        space: Option<usize>,
    },
    /// A master's accesses are to be refused, if nobody else has bound it.
    Detach {
        /// Of the master.
        instance: InstanceId,
        /// Its first stream.
        stream: StreamId,
        /// With this PASID alone.
        substream: Option<SubstreamId>,
    },
    /// An address space gets another tag, within the change that needs that.
    Retag {
        /// Where.
        instance: InstanceId,
        /// Number of the domain or process.
        space: usize,
        /// Until then.
        from: Tag,
        /// From then on.
        to: Tag,
    },
    /// A process ends.
    Release {
        /// Its number.
        space: usize,
    },
    /// An instance is reset.
    Reset {
        /// Which.
        instance: InstanceId,
    },
    /// An instance is removed.
    Remove {
        /// Which.
        instance: InstanceId,
    },
}

/// Some instances of an `Iommu`, by their numbers ([`InstanceId::index`]) at the moment that is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceSet(pub(crate) u64);

impl InstanceSet {
    /// Whether `instance` is among them.
    pub const fn contains(self, instance: InstanceId) -> bool {
        self.0 >> instance.index() & 1 == 1
    }

    /// How many they are.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in either.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Their numbers ([`InstanceId::index`]), in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |index| self.0 >> index & 1 == 1)
    }
}

impl From<InstanceId> for InstanceSet {
    fn from(instance: InstanceId) -> Self {
        Self(1 << instance.index())
    }
}

impl FromIterator<InstanceId> for InstanceSet {
    fn from_iter<I: IntoIterator<Item = InstanceId>>(instances: I) -> Self {
        instances.into_iter().fold(Self::default(), |set, id| set.union(id.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_set_of_instances_is_what_its_bits_say() {
        let set = InstanceSet(1 << 63 | 0b101);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2, 63]);
        assert_eq!((set.len(), set.is_empty()), (3, false));
        assert!(!set.contains(InstanceId::first(1)) && InstanceSet::default().is_empty());
        let ids = [0, 2, 63].map(InstanceId::first);
        assert_eq!(ids.into_iter().collect::<InstanceSet>(), set);
        assert_eq!(set.union(InstanceId::first(1).into()), InstanceSet(1 << 63 | 0b111));
    }
}
