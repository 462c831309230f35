// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run does, one after the other: a scenario's steps, and those that randomness chose.

use std::fmt;

use crate::oracle::Use;
use crate::scenario::{Access, Action, MemoryKind, Scenario, Target};

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
        /// What it is to use.
        to: Use,
    },
    /// Map memory.
    Map {
        /// Index of the domain.
        domain: usize,
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
    },
    /// Unmap a range.
    Unmap {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: u64,
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
    /// A device writes.
    Write {
        /// Index of the master.
        master: usize,
        /// First input address.
        iova: u64,
        /// What it writes.
        data: Vec<u8>,
    },
    /// A device reads.
    Read {
        /// Index of the master.
        master: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        bytes: usize,
    },
}

impl Operation {
    /// What a step of a scenario does; `None` for expectations and random steps.
    pub fn of(action: &Action) -> Option<Self> {
        Some(match action {
            Action::Attach { master, domain } => {
                let to = match domain {
                    Target::Domain(domain) => Use::Domain(*domain),
                    Target::Identity => Use::Identity,
                    Target::Blocked => Use::Blocked,
                };
                Self::Attach { master: *master, to }
            }
            Action::Detach { master } => Self::Attach { master: *master, to: Use::Blocked },
            Action::Map { domain, iova, memory, offset, length, access, kind } => Self::Map {
                domain: *domain,
                iova: *iova,
                bytes: *length,
                source: Source::Memory { memory: *memory, offset: *offset },
                write: *access == Access::ReadWrite,
                kind: *kind,
            },
            Action::Unmap { domain, iova, length } => {
                Self::Unmap { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Reclaim { domain, iova, length } => {
                Self::Reclaim { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Write { master, iova, data } => {
                Self::Write { master: *master, iova: *iova, data: data.clone() }
            }
            Action::Read { master, iova, length, .. } => {
                Self::Read { master: *master, iova: *iova, bytes: *length as usize }
            }
            Action::ExpectFault { .. }
            | Action::ExpectBlocked { .. }
            | Action::ExpectData { .. }
            | Action::Random(_) => return None,
        })
    }

    /// The step that does it, in a scenario whose memory `pool` stands for the one of random steps.
    pub fn action(&self, pool: usize) -> Action {
        match self {
            Self::Attach { master, to } => {
                let domain = match to {
                    Use::Domain(domain) => Target::Domain(*domain),
                    Use::Identity => Target::Identity,
                    Use::Blocked => Target::Blocked,
                };
                Action::Attach { master: *master, domain }
            }
            Self::Map { domain, iova, bytes, source, write, kind } => {
                let (memory, offset) = match source {
                    Source::Memory { memory, offset } => (*memory, *offset),
                    Source::Pool(offset) => (pool, *offset),
                };
                Action::Map {
                    domain: *domain,
                    iova: *iova,
                    memory,
                    offset,
                    length: *bytes,
                    access: if *write { Access::ReadWrite } else { Access::ReadOnly },
                    kind: *kind,
                }
            }
            Self::Unmap { domain, iova, bytes } => {
                Action::Unmap { domain: *domain, iova: *iova, length: *bytes }
            }
            Self::Reclaim { domain, iova, bytes } => {
                Action::Reclaim { domain: *domain, iova: *iova, length: *bytes }
            }
            Self::Write { master, iova, data } => {
                Action::Write { master: *master, iova: *iova, data: data.clone() }
            }
            Self::Read { master, iova, bytes } => {
                Action::Read { master: *master, iova: *iova, length: *bytes as u64, expect: None }
            }
        }
    }

    /// The operation in words, with the names of `scenario`.
    pub fn describe<'a>(&'a self, scenario: &'a Scenario) -> impl fmt::Display + 'a {
        Described { operation: self, scenario }
    }
}

struct Described<'a> {
    operation: &'a Operation,
    scenario: &'a Scenario,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = self.scenario;
        let master = |index: usize| scenario.masters.get(index).map_or("?", |master| &*master.name);
        let domain = |index: usize| scenario.domains.get(index).map_or("?", |domain| &*domain.name);
        match self.operation {
            Operation::Attach { master: index, to: Use::Blocked } => {
                write!(f, "detach {}", master(*index))
            }
            Operation::Attach { master: index, to: Use::Identity } => {
                write!(f, "let {} reach all memory", master(*index))
            }
            Operation::Attach { master: index, to: Use::Domain(to) } => {
                write!(f, "attach {} to {}", master(*index), domain(*to))
            }
            Operation::Map { domain: index, iova, bytes, source, write, .. } => {
                write!(f, "map {} of ", Bytes(*bytes))?;
                match source {
                    Source::Memory { memory, offset } => {
                        let memory = scenario.memories.get(*memory);
                        write!(f, "{}", memory.map_or("?", |memory| &*memory.name))?;
                        if *offset != 0 {
                            write!(f, "+{offset:#x}")?;
                        }
                    }
                    Source::Pool(offset) => write!(f, "memory {offset:#x}")?,
                }
                let access = if *write { "" } else { ", read-only" };
                write!(f, " at {iova:#x} in {}{access}", domain(*index))
            }
            Operation::Unmap { domain: index, iova, bytes } => {
                write!(f, "unmap {} at {iova:#x} in {}", Bytes(*bytes), domain(*index))
            }
            Operation::Reclaim { domain: index, iova, bytes } => {
                write!(
                    f,
                    "free empty tables of {} at {iova:#x} in {}",
                    Bytes(*bytes),
                    domain(*index)
                )
            }
            Operation::Write { master: index, iova, data } => {
                write!(f, "{} writes {} to {iova:#x}", master(*index), Bytes(data.len() as u64))
            }
            Operation::Read { master: index, iova, bytes } => {
                write!(f, "{} reads {} from {iova:#x}", master(*index), Bytes(*bytes as u64))
            }
        }
    }
}

/// A number of bytes as people write it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            1 => f.write_str("1 byte"),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
