// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run does, one after the other: a scenario's steps, and those that randomness chose.

mod words;

use std::fmt;

use crate::oracle::Use;
use crate::scenario::{
    Access, Action, Answer, Change, CommandError, Grant, MemoryKind, Reply, Rights, Scenario,
    Substream, Target,
};

use words::Described;

/// Memory to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A memory of the scenario, from this offset on.
    Memory {
        /// Index of the memory.
        memory: usize,
        /// Bytes from its start.
        offset: u64,
    },
    /// The memory that random steps use, from this offset on.
    Pool(u64),
}

/// One thing that is done to the driver or by a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Attach a master, or block it.
    Attach {
        /// Index of the master.
        master: usize,
        /// For its accesses with this PASID of the scenario only.
        pasid: Option<u32>,
        /// What it is to use.
        to: Use,
        /// What that comes to.
        answer: Answer,
    },
    /// Bind a process to a master.
    Bind {
        /// Index of the process.
        process: usize,
        /// Index of the master.
        master: usize,
        /// What that comes to.
        answer: Answer,
    },
    /// Undo one `Bind`.
    Unbind {
        /// Index of the process.
        process: usize,
        /// Index of the master.
        master: usize,
    },
    /// A process ends, and devices may still use it.
    Release {
        /// Index of the process.
        process: usize,
    },
    /// A process goes for good, and another one comes in its place.
    Replace {
        /// Index of the process.
        process: usize,
    },
    /// Change an instance as a whole.
    Change {
        /// Index of the instance.
        instance: usize,
        /// What becomes of it.
        change: Change,
    },
    /// A device does not answer invalidations in time from now on.
    Mute {
        /// Index of the master.
        master: usize,
        /// It answers too late, rather than never.
        late: bool,
    },
    /// A device was reset, and is used again.
    Readmit {
        /// Index of the master.
        master: usize,
    },
    /// The kernel crashes, and another one takes over what runs: no domain and no mapping of before is known any more.
    HandOver {
        /// Masters whose streams do not go on, in order.
        lost: Vec<usize>,
    },
    /// Map memory.
    Map {
        /// Number of the address space: the domains come first, the processes after them.
        space: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
        /// What is mapped.
        source: Source,
        /// Devices may write.
        write: bool,
        /// Type of the memory.
        kind: MemoryKind,
        /// What else is permitted.
        rights: Rights,
    },
    /// Unmap a range.
    Unmap {
        /// Number of the address space.
        space: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Unmap a range that may cut a block, which is refused then, and changes nothing.
    Cut {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
        /// Whether it cuts one for certain.
        must: bool,
    },
    /// Unmap a range of a domain, and tell no instance yet.
    Defer {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Unmap a range of a domain, and read what devices have written there.
    Take {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Tell all instances of a domain what was unmapped so.
    Flush {
        /// Index of the domain.
        domain: usize,
    },
    /// Free the empty tables of a range.
    Reclaim {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Read what devices have written in a range of a domain, and make it clean.
    Dirty {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Read what devices have accessed in a range of a domain, and forget that they did.
    Accessed {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
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
    /// A guest does what its SMMU does not accept.
    Misbehave {
        /// Index of a domain of the guest's.
        domain: usize,
        /// Which of all that it could do wrong.
        seed: u32,
    },
    /// Ask an instance where an access of a master would go.
    Translate {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// The input address.
        iova: u64,
        /// Whether it is a write.
        write: bool,
    },
    /// A device writes.
    Write {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// What it writes.
        data: Vec<u8>,
    },
    /// A device reads.
    Read {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: usize,
        /// They are instructions.
        instruction: bool,
    },
}

impl Operation {
    /// A master is attached, or blocked, for its accesses without a substream.
    pub const fn attach(master: usize, to: Use) -> Self {
        Self::Attach { master, pasid: None, to, answer: Answer::Done }
    }

    /// The scenario's PASID that it names.
    pub const fn pasid(&self) -> Option<u32> {
        match self {
            Self::Attach { pasid, .. } => *pasid,
            Self::Write { substream: Substream::Pasid(pasid), .. }
            | Self::Read { substream: Substream::Pasid(pasid), .. }
            | Self::Ask { substream: Substream::Pasid(pasid), .. }
            | Self::Translate { substream: Substream::Pasid(pasid), .. }
            | Self::Stop { substream: Substream::Pasid(pasid), .. } => Some(*pasid),
            _ => None,
        }
    }

    /// What a step of `scenario` does; `None` for expectations and random steps.
    pub fn of(action: &Action, scenario: &Scenario) -> Option<Self> {
        let space = |process: &usize| scenario.domains.len() + process;
        Some(match action {
            Action::Attach { master, pasid, domain, answer } => {
                let to = match domain {
                    Target::Domain(domain) => Use::Domain(*domain),
                    Target::Identity => Use::Identity,
                    Target::Blocked => Use::Blocked,
                };
                Self::Attach { master: *master, pasid: *pasid, to, answer: *answer }
            }
            Action::Detach { master, pasid } => {
                let (to, answer) = (Use::Blocked, Answer::Done);
                Self::Attach { master: *master, pasid: *pasid, to, answer }
            }
            Action::Bind { process, master, answer } => {
                Self::Bind { process: *process, master: *master, answer: *answer }
            }
            Action::Unbind { process, master } => {
                Self::Unbind { process: *process, master: *master }
            }
            Action::Release { process } => Self::Release { process: *process },
            Action::Change { instance, change } => {
                Self::Change { instance: *instance, change: *change }
            }
            Action::Claim { master } => Self::Claim { master: *master },
            Action::CommandError { instance, error } => {
                Self::CommandError { instance: *instance, error: *error }
            }
            Action::Misbehave { domain, seed } => Self::Misbehave { domain: *domain, seed: *seed },
            Action::Mute { master, late } => Self::Mute { master: *master, late: *late },
            Action::Readmit { master } => Self::Readmit { master: *master },
            Action::Replace { process } => Self::Replace { process: *process },
            Action::HandOver { lost } => Self::HandOver { lost: lost.clone() },
            Action::Map { domain, iova, memory, offset, length, access, kind, rights } => {
                Self::Map {
                    space: *domain,
                    iova: *iova,
                    bytes: *length,
                    source: Source::Memory { memory: *memory, offset: *offset },
                    write: *access == Access::ReadWrite,
                    kind: *kind,
                    rights: *rights,
                }
            }
            Action::ProcessMap { process, iova, memory, offset, length, access, rights } => {
                Self::Map {
                    rights: *rights,
                    space: space(process),
                    iova: *iova,
                    bytes: *length,
                    source: Source::Memory { memory: *memory, offset: *offset },
                    write: *access == Access::ReadWrite,
                    kind: MemoryKind::Normal,
                }
            }
            Action::Unmap { domain, iova, length } => {
                Self::Unmap { space: *domain, iova: *iova, bytes: *length }
            }
            Action::ProcessUnmap { process, iova, length } => {
                Self::Unmap { space: space(process), iova: *iova, bytes: *length }
            }
            Action::Cut { domain, iova, length, must } => {
                Self::Cut { domain: *domain, iova: *iova, bytes: *length, must: *must }
            }
            Action::Defer { domain, iova, length } => {
                Self::Defer { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Flush { domain } => Self::Flush { domain: *domain },
            Action::Take { domain, iova, length, .. } => {
                Self::Take { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Reclaim { domain, iova, length } => {
                Self::Reclaim { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Dirty { domain, iova, length, .. } => {
                Self::Dirty { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Accessed { domain, iova, length, .. } => {
                Self::Accessed { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Answer { master, reply } => Self::Answer { master: *master, reply: *reply },
            Action::Translate { master, substream, iova, write, .. } => {
                let (master, substream, iova, write) = (*master, *substream, *iova, *write);
                Self::Translate { master, substream, iova, write }
            }
            Action::Ask { master, substream, iova, pages, write, unfinished } => Self::Ask {
                master: *master,
                substream: *substream,
                iova: *iova,
                pages: *pages,
                write: *write,
                unfinished: *unfinished,
            },
            Action::Grant { master, grant } => Self::Grant { master: *master, grant: *grant },
            Action::Stop { master, substream } => {
                Self::Stop { master: *master, substream: *substream }
            }
            Action::Write { master, substream, iova, data } => Self::Write {
                master: *master,
                substream: *substream,
                iova: *iova,
                data: data.clone(),
            },
            Action::Read { master, substream, iova, length, instruction, .. } => Self::Read {
                instruction: *instruction,
                master: *master,
                substream: *substream,
                iova: *iova,
                bytes: *length as usize,
            },
            Action::ExpectFault { .. }
            | Action::ExpectBlocked { .. }
            | Action::ExpectData { .. }
            | Action::Random(_) => return None,
        })
    }

    /// The step that does it, in `scenario`, whose memory `pool` stands for the one of random steps.
    pub fn action(&self, scenario: &Scenario, pool: usize) -> Action {
        match self {
            Self::Attach { master, pasid, to, answer } => {
                let domain = match to {
                    Use::Domain(domain) => Target::Domain(*domain),
                    Use::Identity => Target::Identity,
                    Use::Blocked | Use::Process(_) | Use::Kept(_) => Target::Blocked,
                };
                Action::Attach { master: *master, pasid: *pasid, domain, answer: *answer }
            }
            Self::Bind { process, master, answer } => {
                Action::Bind { process: *process, master: *master, answer: *answer }
            }
            Self::Unbind { process, master } => {
                Action::Unbind { process: *process, master: *master }
            }
            Self::Release { process } => Action::Release { process: *process },
            Self::Change { instance, change } => {
                Action::Change { instance: *instance, change: *change }
            }
            Self::Claim { master } => Action::Claim { master: *master },
            Self::CommandError { instance, error } => {
                Action::CommandError { instance: *instance, error: *error }
            }
            Self::Misbehave { domain, seed } => Action::Misbehave { domain: *domain, seed: *seed },
            Self::Mute { master, late } => Action::Mute { master: *master, late: *late },
            Self::Readmit { master } => Action::Readmit { master: *master },
            Self::Replace { process } => Action::Replace { process: *process },
            Self::HandOver { lost } => Action::HandOver { lost: lost.clone() },
            Self::Map { space, iova, bytes, source, write, kind, rights } => {
                let (memory, offset) = match source {
                    Source::Memory { memory, offset } => (*memory, *offset),
                    Source::Pool(offset) => (pool, *offset),
                };
                let access = if *write { Access::ReadWrite } else { Access::ReadOnly };
                let (iova, length, rights) = (*iova, *bytes, *rights);
                match space.checked_sub(scenario.domains.len()) {
                    Some(process) => {
                        Action::ProcessMap { process, iova, memory, offset, length, access, rights }
                    }
                    None => Action::Map {
                        domain: *space,
                        iova,
                        memory,
                        offset,
                        length,
                        access,
                        kind: *kind,
                        rights,
                    },
                }
            }
            Self::Unmap { space, iova, bytes } => {
                let (iova, length) = (*iova, *bytes);
                match space.checked_sub(scenario.domains.len()) {
                    Some(process) => Action::ProcessUnmap { process, iova, length },
                    None => Action::Unmap { domain: *space, iova, length },
                }
            }
            Self::Cut { domain, iova, bytes, must } => {
                Action::Cut { domain: *domain, iova: *iova, length: *bytes, must: *must }
            }
            Self::Defer { domain, iova, bytes } => {
                Action::Defer { domain: *domain, iova: *iova, length: *bytes }
            }
            Self::Flush { domain } => Action::Flush { domain: *domain },
            Self::Take { domain, iova, bytes } => {
                let (domain, iova, length) = (*domain, *iova, *bytes);
                Action::Take { domain, iova, length, expect: None }
            }
            Self::Reclaim { domain, iova, bytes } => {
                Action::Reclaim { domain: *domain, iova: *iova, length: *bytes }
            }
            Self::Dirty { domain, iova, bytes } => {
                let (domain, iova, length) = (*domain, *iova, *bytes);
                Action::Dirty { domain, iova, length, expect: None }
            }
            Self::Accessed { domain, iova, bytes } => {
                let (domain, iova, length) = (*domain, *iova, *bytes);
                Action::Accessed { domain, iova, length, expect: None }
            }
            Self::Answer { master, reply } => Action::Answer { master: *master, reply: *reply },
            Self::Translate { master, substream, iova, write } => {
                let (master, substream, iova, write) = (*master, *substream, *iova, *write);
                Action::Translate { master, substream, iova, write, refused: None }
            }
            Self::Ask { master, substream, iova, pages, write, unfinished } => Action::Ask {
                master: *master,
                substream: *substream,
                iova: *iova,
                pages: *pages,
                write: *write,
                unfinished: *unfinished,
            },
            Self::Grant { master, grant } => Action::Grant { master: *master, grant: *grant },
            Self::Stop { master, substream } => {
                Action::Stop { master: *master, substream: *substream }
            }
            Self::Write { master, substream, iova, data } => Action::Write {
                master: *master,
                substream: *substream,
                iova: *iova,
                data: data.clone(),
            },
            Self::Read { master, substream, iova, bytes, instruction } => Action::Read {
                instruction: *instruction,
                master: *master,
                substream: *substream,
                iova: *iova,
                length: *bytes as u64,
                expect: None,
            },
        }
    }

    /// The operation in words, with the names of `scenario`.
    pub fn describe<'a>(&'a self, scenario: &'a Scenario) -> impl fmt::Display + 'a {
        Described { operation: self, scenario }
    }
}
