// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random workloads: what a scenario says of them.

/// A random workload over all masters, domains and processes of the scenario. It maps memory of its own in a
/// window of addresses of its own (the same window in every address space). When it is through, its mappings
/// are gone and every master is where it was before.
#[derive(Clone, Debug)]
pub struct Random {
    /// How many operations.
    pub steps: u64,
    /// Where its randomness starts; without, from the scenario's seed.
    pub seed: Option<u64>,
    /// First input address of the window; a multiple of [`PAGE`](super::PAGE).
    pub iova: u64,
    /// Pages in the window, an address space; at least 4.
    pub pages: u64,
    /// The most pages that are mapped or unmapped at once, but for blocks and whole tables.
    pub longest: u64,
    /// How often each operation is chosen.
    pub weights: Weights,
}

/// How often each operation of [`Random`] is chosen, relative to the sum of all. What a scenario lacks the
/// things for is never chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Map a free run of pages.
    pub map: u32,
    /// Unmap a run of pages.
    pub unmap: u32,
    /// Attach a master to another domain.
    pub attach: u32,
    /// Detach a master.
    pub detach: u32,
    /// Let a master reach all of memory, untranslated.
    pub identity: u32,
    /// Read where that is allowed.
    pub read: u32,
    /// Write where that is allowed.
    pub write: u32,
    /// DMA where something was mapped lately and no longer is.
    pub stale: u32,
    /// DMA where nothing is mapped or the mapping does not allow it.
    pub fault: u32,
    /// Attach a PASID of a master to a domain.
    pub attach_pasid: u32,
    /// Detach a PASID of a master.
    pub detach_pasid: u32,
    /// Bind a process to a master.
    pub bind: u32,
    /// Unbind a process from a master.
    pub unbind: u32,
    /// Release a process; one that was released already is replaced by another.
    pub release: u32,
    /// Answer a transaction that has stalled.
    pub answer: u32,
    /// Ask an instance where an address leads.
    pub translate: u32,
    /// Ask for pages.
    pub ask: u32,
    /// Answer a group of page requests.
    pub grant: u32,
    /// Suspend an instance, or resume one that is suspended.
    pub power: u32,
    /// Reset an instance.
    pub reset: u32,
    /// Remove an instance, and take it into use again.
    pub replug: u32,
    /// Unmap a run of pages and tell no instance, or tell all of what was unmapped so.
    pub defer: u32,
    /// A device with ATS answers in time no more; or it is reset, and used again.
    pub mute: u32,
    /// Make a command queue stop at a command.
    pub command_error: u32,
    /// Let a guest do what its SMMU does not accept.
    pub misbehave: u32,
    /// Let another kernel take over, or end what it took over.
    pub hand_over: u32,
}

impl Random {
    /// [`Random::longest`] where nothing else is said.
    pub const LONGEST: u64 = 8;
}

impl Weights {
    /// The sum of those that any scenario has the things for.
    pub const fn always(self) -> u32 {
        self.map
            + self.unmap
            + self.attach
            + self.detach
            + self.identity
            + self.read
            + self.write
            + self.stale
            + self.fault
    }

    /// The sum of all.
    pub const fn sum(self) -> u32 {
        self.always()
            + self.attach_pasid
            + self.detach_pasid
            + self.bind
            + self.unbind
            + self.release
            + self.answer
            + self.translate
            + self.ask
            + self.grant
            + self.power
            + self.reset
            + self.replug
            + self.defer
            + self.mute
            + self.command_error
            + self.misbehave
            + self.hand_over
    }
}

impl Default for Weights {
    /// A mix with plenty of hits, faults and stale attempts.
    fn default() -> Self {
        Self {
            map: 16,
            unmap: 12,
            attach: 6,
            detach: 2,
            identity: 0,
            read: 22,
            write: 22,
            stale: 12,
            fault: 8,
            attach_pasid: 6,
            detach_pasid: 2,
            bind: 6,
            unbind: 3,
            release: 1,
            answer: 8,
            translate: 8,
            ask: 10,
            grant: 8,
            power: 0,
            reset: 0,
            replug: 0,
            defer: 0,
            mute: 0,
            command_error: 0,
            misbehave: 0,
            hand_over: 0,
        }
    }
}
