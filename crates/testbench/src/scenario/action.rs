// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done in a scenario, step by step.

use smmuv3_formats::EventId;

use super::{
    Access, Answer, Change, CommandError, Grant, MemoryKind, Random, Reply, Rights, Substream,
};

/// One thing that is done.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line of the file, from 1.
    pub line: usize,
    /// What the reader of the report is told about it.
    pub note: Option<String>,
    /// Devices and unmaps interrupt the driver during this step, as they do in random steps; the number is
    /// where that randomness starts. Whether its DMA is refused is up to them, and judged all the same.
    pub interrupt: Option<u32>,
    /// It is one of the steps that a step with `count` stands for, but not the first.
    pub again: bool,
    /// What is done.
    pub action: Action,
}

/// What a step does. IOVAs, offsets and lengths of `Map` and `Unmap` are multiples of [`PAGE`](super::PAGE); no
/// length is 0 and no sum of an address and a length overflows or leaves the domain or the memory.
#[derive(Clone, Debug)]
pub enum Action {
    /// Give a master an address space; replaces what it had.
    Attach {
        /// Index of the master.
        master: usize,
        /// For its accesses with this PASID only; a number of the scenario's.
        pasid: Option<u32>,
        /// What it gets. With a PASID a domain, or nothing.
        domain: Target,
        /// What it comes to.
        answer: Answer,
    },
    /// Take the master's address space away: it is blocked afterwards, as it is at the start.
    Detach {
        /// Index of the master.
        master: usize,
        /// For its accesses with this PASID only.
        pasid: Option<u32>,
    },
    /// Let the master use the address space of a process, with the PASID of that process.
    Bind {
        /// Index of the process.
        process: usize,
        /// Index of the master.
        master: usize,
        /// What it comes to.
        answer: Answer,
    },
    /// Undo one `Bind`.
    Unbind {
        /// Index of the process.
        process: usize,
        /// Index of the master.
        master: usize,
    },
    /// The process ends: its address space is taken from all masters, which stay bound.
    Release {
        /// Index of the process.
        process: usize,
    },
    /// The process goes for good, with whatever is still bound, and another one takes its name.
    Replace {
        /// Index of the process.
        process: usize,
    },
    /// The kernel crashes, and another one takes over what runs: it knows no domain and no mapping of before.
    HandOver {
        /// Masters whose streams do not go on, in order.
        lost: Vec<usize>,
    },
    /// Change an instance as a whole.
    Change {
        /// Index of the instance.
        instance: usize,
        /// What becomes of it.
        change: Change,
    },
    /// The device does not answer invalidations in time from now on.
    Mute {
        /// Index of the master.
        master: usize,
        /// It answers too late, rather than never.
        late: bool,
    },
    /// The device was reset, and is used again.
    Readmit {
        /// Index of the master.
        master: usize,
    },
    /// Map a part of a memory in a process.
    ProcessMap {
        /// Index of the process.
        process: usize,
        /// First address.
        iova: u64,
        /// Index of the memory.
        memory: usize,
        /// Bytes from the start of the memory.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What devices may do there.
        access: Access,
        /// What else is permitted.
        rights: Rights,
    },
    /// Remove all mappings of a range of a process; holes are allowed.
    ProcessUnmap {
        /// Index of the process.
        process: usize,
        /// First address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Map a part of a memory.
    Map {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Index of the memory.
        memory: usize,
        /// Bytes from the start of the memory.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What devices may do there.
        access: Access,
        /// As what kind of memory.
        kind: MemoryKind,
        /// What else is permitted.
        rights: Rights,
    },
    /// Remove all mappings of a range; holes are allowed.
    Unmap {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Remove all mappings of a range that may cut a block, which is refused then.
    Cut {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// Whether it cuts one for certain.
        must: bool,
    },
    /// Remove all mappings of a range, and tell no instance yet.
    Defer {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Tell all instances what was removed of a domain.
    Flush {
        /// Index of the domain.
        domain: usize,
    },
    /// Remove all mappings of a range, and read what devices have written there.
    Take {
        /// Index of the domain, in which that is marked.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// The pages that must be reported, and no others.
        expect: Option<Vec<u64>>,
    },
    /// Free the tables of a range that have become empty.
    Reclaim {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Read what devices have written in a range, and make it clean.
    Dirty {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// The 4 KiB pages that must be reported, and no others; their first addresses.
        expect: Option<Vec<u64>>,
    },
    /// Read what devices have accessed in a range, and forget that they did.
    Accessed {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// The 4 KiB pages that must be reported, and no others; their first addresses.
        expect: Option<Vec<u64>>,
    },
    /// The device writes to memory.
    Write {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// What it writes, not empty.
        data: Vec<u8>,
    },
    /// The device reads from memory.
    Read {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// They are instructions.
        instruction: bool,
        /// What it must get, `length` bytes.
        expect: Option<Vec<u8>>,
    },
    /// The DMA before this step (of the same master; other expectations may lie between) must have
    /// been refused with this event.
    ExpectFault {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// An address in that DMA; its page is what must have been reported.
        iova: u64,
        /// The event.
        event: EventId,
        /// Whether it was a write.
        write: bool,
        /// It stalled, and waits for an answer.
        stalled: bool,
    },
    /// The DMA before this step (as for `ExpectFault`) must have been refused without any event:
    /// the master is blocked (STE.Config = 0, §5.2), or the process was released.
    ExpectBlocked {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
    },
    /// Answer the oldest transaction of a master that has stalled, if there is one.
    Answer {
        /// Index of the master.
        master: usize,
        /// By what.
        reply: Reply,
    },
    /// A device asks for pages, as one group.
    Ask {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// How many.
        pages: u64,
        /// It means to write.
        write: bool,
        /// It never says which is the last.
        unfinished: bool,
    },
    /// Answer the oldest group of page requests of a master that waits, if there is one.
    Grant {
        /// Index of the master.
        master: usize,
        /// By what.
        grant: Grant,
    },
    /// A device says that it uses a substream no more.
    Stop {
        /// Index of the master.
        master: usize,
        /// Which.
        substream: Substream,
    },
    /// Ask the instance where an access of a master would go.
    Translate {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// The input address.
        iova: u64,
        /// Whether it is a write.
        write: bool,
        /// The event that it must be refused with; `None`: whatever is right.
        refused: Option<EventId>,
    },
    /// The driver of a device that firmware left working takes it over.
    Claim {
        /// Index of the master.
        master: usize,
    },
    /// A command queue stops at a command.
    CommandError {
        /// Index of the instance.
        instance: usize,
        /// Why.
        error: CommandError,
    },
    /// A guest gives commands and entries that its SMMU does not accept, and names what is others'.
    Misbehave {
        /// Index of a domain of the guest's.
        domain: usize,
        /// Which of all that it could do wrong.
        seed: u32,
    },
    /// A memory must hold these bytes.
    ExpectData {
        /// Index of the memory.
        memory: usize,
        /// Bytes from its start.
        offset: u64,
        /// What must be there, not empty.
        data: Vec<u8>,
    },
    /// Random operations.
    Random(Random),
}

impl Action {
    /// The scenario's PASID that the step names.
    pub fn pasid(&self) -> Option<u32> {
        match self {
            Self::Attach { pasid, .. } | Self::Detach { pasid, .. } => *pasid,
            Self::Write { substream: Substream::Pasid(pasid), .. }
            | Self::Read { substream: Substream::Pasid(pasid), .. }
            | Self::Ask { substream: Substream::Pasid(pasid), .. }
            | Self::Translate { substream: Substream::Pasid(pasid), .. }
            | Self::Stop { substream: Substream::Pasid(pasid), .. } => Some(*pasid),
            _ => None,
        }
    }

    /// What about the step needs substreams.
    pub(super) fn with_substream(&self) -> Option<&'static str> {
        match self {
            Self::Bind { .. } | Self::Unbind { .. } => Some("a bind"),
            Self::Attach { pasid: Some(_), .. } | Self::Detach { pasid: Some(_), .. } => {
                Some("an attach with a PASID")
            }
            Self::Write { substream, .. }
            | Self::Read { substream, .. }
            | Self::Translate { substream, .. }
                if *substream != Substream::None =>
            {
                Some("a DMA with a PASID")
            }
            Self::Ask { substream, .. } | Self::Stop { substream, .. }
                if *substream != Substream::None =>
            {
                Some("a page request with a PASID")
            }
            _ => None,
        }
    }
}

/// What a master is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The domain with this index.
    Domain(usize),
    /// All of memory, untranslated.
    Identity,
    /// Nothing.
    Blocked,
}
