// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happened so far, in numbers: of an instance ([`Smmu::statistics`](crate::Smmu::statistics)), and of a domain
//! ([`Domain::statistics`](crate::Domain::statistics)).
//!
//! Nothing is counted on the way of an unmap that is not written there anyway: how many commands there were follows from
//! positions in the queues, and how many batches is noted by the one that tells the SMMU of them, where it notes how far
//! it came. What happens seldom is counted on each CPU's own cache lines (`counters`). What a domain would count on
//! each unmap it counts only if asked to ([`DomainConfig::with_statistics`](crate::DomainConfig::with_statistics)), in the
//! same way.
//!
//! All counts begin at 0 when the instance is taken into use, go on over resets, and wrap after 2^64. Those that are read
//! together need not be of the same moment.

/// What a command queue, with its enhanced ones, was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandStatistics {
    /// Commands that the SMMU was told of, CMD_SYNCs among them.
    pub commands: u64,
    /// Batches of them: each ends in a CMD_SYNC.
    pub syncs: u64,
    /// Waits for a batch, or for room, that were not over at the first look.
    pub waits: u64,
    /// Turns of these: calls of [`Platform::relax`](crate::Platform::relax).
    pub turns: u64,
    /// Those of the waits that found the queue full.
    pub full: u64,
    /// Commands that a queue stopped at (§3.2), each time that it did.
    pub refused: u64,
}

/// What an event queue handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventStatistics {
    /// Events.
    pub events: u64,
    /// Gaps between them: of each at least one is missing ([`Lost`](crate::Lost)).
    pub gaps: u64,
}

/// How many of a kind of numbers are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Numbers {
    /// By somebody.
    pub used: usize,
    /// By nobody.
    pub free: usize,
}

/// What an instance did, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceStatistics {
    /// Of its command queue.
    pub commands: CommandStatistics,
    /// Of its event queue.
    pub events: EventStatistics,
    /// Stalled transactions that were handed out, and whose answer the SMMU was not given.
    pub stalls: usize,
    /// Masters.
    pub masters: usize,
    /// Tags in use, one for each address space in each bank.
    pub tags: usize,
    /// ASIDs, as far as the policy may use them there; of policies with one number for all instances, those of all.
    pub asids: Numbers,
    /// VMIDs of domains of stage 2, as far as they are nobody else's; none of either until the first is asked for.
    pub vmids: Numbers,
}

/// What a domain did, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainStatistics {
    /// Masters that use it; one counts again for each substream that it uses it with.
    pub masters: usize,
    /// Tags by which instances know it.
    pub tags: usize,
    /// What was counted since it was made, if that was asked for.
    pub counted: Option<DomainCounts>,
}

/// What a domain counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainCounts {
    /// Ranges that were mapped.
    pub maps: u64,
    /// Bytes of these.
    pub mapped: u64,
    /// Ranges that were unmapped, and confirmed; those that are deferred, too.
    pub unmaps: u64,
    /// Bytes that had been mapped of these.
    pub unmapped: u64,
    /// Invalidations: of a range, or of the whole, on however many instances.
    pub invalidations: u64,
    /// Those that an instance did not confirm.
    pub unconfirmed: u64,
}

/// Numbers of the counts of a domain.
#[cfg(feature = "alloc")]
pub(crate) mod count {
    pub(crate) const MAPS: usize = 0;
    pub(crate) const MAPPED: usize = 1;
    pub(crate) const UNMAPS: usize = 2;
    pub(crate) const UNMAPPED: usize = 3;
    pub(crate) const INVALIDATIONS: usize = 4;
    pub(crate) const UNCONFIRMED: usize = 5;
}
