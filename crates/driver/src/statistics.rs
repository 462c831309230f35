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
    pub batches: u64,
    /// CMD_SYNCs: of each batch the one that ends it, and of one that is for devices, too, another within. Without those that took
    /// the place of commands that were refused.
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
    /// Faults that are in no domain's [`DomainCounts::faults`], though they may be one's: more streams and PASIDs faulted than
    /// are told apart. Only where a domain counts.
    pub untold: u64,
}

/// What a queue of page requests handed over; nothing where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageStatistics {
    /// Groups of pages.
    pub groups: u64,
    /// Pages that were denied ([`Denied`](crate::Denied)).
    pub denied: u64,
    /// PASIDs that a device said it uses no more.
    pub stops: u64,
    /// Reports that requests were lost, or forgotten ([`PagesLost`](crate::PagesLost)).
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
    /// Of its queue of page requests.
    pub pages: PageStatistics,
    /// Groups of pages that are complete, and whose answer the SMMU was not given.
    pub groups: usize,
    /// Stalled transactions that were handed out, and whose answer the SMMU was not given.
    pub stalls: usize,
    /// Stalled transactions that were aborted ([`Report::Aborted`](crate::Report::Aborted)), as there was no room for another, or
    /// none for another of the same guest.
    pub refused_stalls: u64,
    /// Masters.
    pub masters: usize,
    /// Tags in use, one for each address space in each bank.
    pub tags: usize,
    /// ASIDs, as far as the policy may use them there; of policies with one number for all instances, those of all.
    pub asids: Numbers,
    /// VMIDs that domains of stage 2 may have, as far as they are nobody else's; 0 used and 0 free until the first is asked for.
    pub vmids: Numbers,
    /// PASIDs, of all instances: a process has the same behind each. They are used by processes, and by callers
    /// ([`Iommu::allocate_pasid`](crate::Iommu::allocate_pasid)), whether or not a master is attached by them.
    pub pasids: Numbers,
    /// PASIDs by which masters behind it are attached; one counts again for each master.
    pub attached_pasids: usize,
}

/// What a domain did, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainStatistics {
    /// Masters that use it; one counts again for each PASID that it uses it with.
    pub masters: usize,
    /// Tags by which instances know it.
    pub tags: usize,
    /// What was counted since it was made, if that was asked for.
    pub counted: Option<DomainCounts>,
}

/// What a domain counts. While calls are under way these are no snapshot: of each, a part may be counted, or commands that
/// are not given in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainCounts {
    /// Ranges that were mapped; of one that failed, what had been, and was unmapped again.
    pub maps: u64,
    /// Bytes of these.
    pub mapped: u64,
    /// Ranges that were unmapped, and confirmed; those that are deferred, too.
    pub unmaps: u64,
    /// Bytes that had been mapped of these. Never to be taken from `mapped` without saturating: a map is counted once it is
    /// done, and may be unmapped by then. What an unmap took out that was not confirmed is not among them, and never will be.
    pub unmapped: u64,
    /// Invalidations: of a range, or of the whole, on however many instances.
    pub invalidations: u64,
    /// Those that an instance did not confirm.
    pub unconfirmed: u64,
    /// Commands that these took, CMD_SYNCs among them: of the tables of the domain, and for devices that keep
    /// translations.
    pub commands: u64,
    /// Those of them that are CMD_SYNCs.
    pub syncs: u64,
    /// Waits for an instance to carry them out, or to have room for them, that were not over at the first look.
    pub waits: u64,
    /// Faults of translation of devices that use it, stalled or not, that were read from event queues: F_TRANSLATION,
    /// F_ADDR_SIZE, F_ACCESS and F_PERMISSION. Those are the domain's that a device uses when they are counted: as long as it
    /// uses the same one, always this. Not what guests cause in their own stage 1; nor, while more than 32 streams and PASIDs
    /// of an instance fault between two calls that ask, or change a master, all that comes from the streams with most PASIDs, or
    /// from more than 32 streams: how many that are is told of the instance ([`EventStatistics::untold`]).
    pub faults: u64,
}

#[cfg(feature = "alloc")]
pub(crate) use domain::{Counted, Counters};

#[cfg(feature = "alloc")]
mod domain {
    use super::DomainCounts;
    use crate::room::Room;
    use crate::shared::NoMemory;
    use crate::sync::plain::AtomicU64;
    use crate::sync::{Line, Ordering};
    use alloc::vec::Vec;

    /// What is counted of a domain.
    #[derive(Clone, Copy)]
    pub(crate) enum Counted {
        Maps,
        Mapped,
        Unmaps,
        Unmapped,
        Invalidations,
        Unconfirmed,
        Commands,
        Syncs,
        Waits,
        Faults,
    }

    const KINDS: usize = Counted::Faults as usize + 1;

    /// The counts of a domain, on each CPU's own cache lines.
    pub(crate) struct Counters(Vec<Line<[AtomicU64; KINDS]>>);

    impl Counters {
        /// All zero, for so many CPUs.
        pub(crate) fn new(cpus: usize) -> Result<Self, NoMemory> {
            let count = cpus.checked_next_power_of_two().ok_or(NoMemory)?;
            let mut lines = Vec::new();
            lines.room_exact(count)?;
            lines.put_all((0..count).map(|_| Line([const { AtomicU64::new(0) }; KINDS])));
            Ok(Self(lines))
        }

        pub(crate) fn add(&self, cpu: usize, which: Counted, by: u64) {
            let line = self.0.get(cpu & self.0.len().wrapping_sub(1));
            if let Some(count) = line.and_then(|line| line.get(which as usize)) {
                // An atomic addition: an interrupt, or a CPU with the same `cpu()`, may count on the same line.
                count.fetch_add(by, Ordering::Relaxed);
            }
        }

        pub(crate) fn sums(&self) -> DomainCounts {
            let counts = |which| self.0.iter().filter_map(move |line| line.get(which as usize));
            let sum = |which: Counted| {
                let all = counts(which).map(|count| count.load(Ordering::Relaxed));
                let sum = all.fold(0, u64::wrapping_add);
                // May be negative: a count may have been taken back on one line after the line that it was counted on
                // was read.
                if sum.cast_signed() < 0 { 0 } else { sum }
            };
            DomainCounts {
                maps: sum(Counted::Maps),
                mapped: sum(Counted::Mapped),
                unmaps: sum(Counted::Unmaps),
                unmapped: sum(Counted::Unmapped),
                invalidations: sum(Counted::Invalidations),
                unconfirmed: sum(Counted::Unconfirmed),
                commands: sum(Counted::Commands),
                syncs: sum(Counted::Syncs),
                waits: sum(Counted::Waits),
                faults: sum(Counted::Faults),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn counts_of_all_cpus_are_added_up_whatever_their_numbers() {
            let counters = Counters::new(3).unwrap_or_else(|_| panic!("memory"));
            for cpu in [0, 1, 2, 3, 4, usize::MAX] {
                counters.add(cpu, Counted::Unmapped, 1 << cpu.min(10));
            }
            counters.add(7, Counted::Maps, 5);
            counters.add(7, Counted::Faults, 6);
            let sums =
                DomainCounts { maps: 5, unmapped: 0x41f, faults: 6, ..DomainCounts::default() };
            assert_eq!(counters.sums(), sums);
        }
    }
}
