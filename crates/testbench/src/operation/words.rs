// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations in words.

use std::fmt;

use super::{Operation, Source};
use crate::bytes::Bytes;
use crate::oracle::{PAGE, Use};
use crate::scenario::{CommandError, Scenario, Substream};

/// An operation, with the names of its scenario.
pub(super) struct Described<'a> {
    pub(super) operation: &'a Operation,
    pub(super) scenario: &'a Scenario,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = self.scenario;
        let master = |index: usize| scenario.masters.get(index).map_or("?", |master| &*master.name);
        let process = |index: usize| scenario.space(scenario.domains.len() + index);
        let user = |index: usize, substream: Substream| match substream {
            Substream::None => master(index).to_owned(),
            Substream::Pasid(pasid) => format!("{} PASID {pasid}", master(index)),
            Substream::Process(of) => format!("{} for {}", master(index), process(of)),
        };
        match self.operation {
            Operation::Attach { master: index, pasid, to, .. } => {
                let user = user(*index, pasid.map_or(Substream::None, Substream::Pasid));
                match to {
                    Use::Blocked => write!(f, "detach {user}"),
                    Use::Identity => write!(f, "let {user} reach all memory"),
                    Use::Domain(to) => write!(f, "attach {user} to {}", scenario.space(*to)),
                    Use::Process(to) => write!(f, "attach {user} to {}", process(*to)),
                    Use::Kept(_) => write!(f, "leave {user} as it is"),
                }
            }
            Operation::Bind { process: of, master: to, .. } => {
                write!(f, "bind {} to {}", process(*of), master(*to))
            }
            Operation::Unbind { process: of, master: from } => {
                write!(f, "unbind {} from {}", process(*of), master(*from))
            }
            Operation::Release { process: of } => write!(f, "release {}", process(*of)),
            Operation::Change { instance, change } => {
                let of = scenario.instances.get(*instance).map_or("?", |it| &*it.name);
                write!(f, "{} {of}", change.name())
            }
            Operation::Claim { master: of } => {
                write!(f, "claim {}, which firmware left working", master(*of))
            }
            Operation::CommandError { instance, error } => {
                let of = scenario.instances.get(*instance).map_or("?", |it| &*it.name);
                match error {
                    CommandError::Illegal => write!(f, "give {of} a command that does not exist"),
                    CommandError::Abort => write!(f, "let memory refuse {of} a command once"),
                }
            }
            Operation::Misbehave { domain, seed } => {
                write!(f, "the guest of {} misbehaves ({seed})", scenario.space(*domain))
            }
            Operation::Mute { master: of, late: true } => {
                write!(f, "{} answers too late", master(*of))
            }
            Operation::Mute { master: of, .. } => write!(f, "{} answers no more", master(*of)),
            Operation::Readmit { master: of } => {
                write!(f, "reset the device of {}, and readmit it", master(*of))
            }
            Operation::Replace { process: of } => write!(f, "replace {}", process(*of)),
            Operation::HandOver { lost } => {
                f.write_str("another kernel takes over")?;
                let separators = [", without "].into_iter().chain(std::iter::repeat(", "));
                lost.iter()
                    .zip(separators)
                    .try_for_each(|(of, before)| write!(f, "{before}{}", master(*of)))
            }
            Operation::Map { space, iova, bytes, source, write, .. } => {
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
                write!(f, " at {iova:#x} in {}{access}", scenario.space(*space))
            }
            Operation::Unmap { space, iova, bytes } => {
                write!(f, "unmap {} at {iova:#x} in {}", Bytes(*bytes), scenario.space(*space))
            }
            Operation::Cut { domain, iova, bytes, .. } => {
                let (bytes, of) = (Bytes(*bytes), scenario.space(*domain));
                write!(f, "unmap {bytes} at {iova:#x} in {of}, which may cut a block")
            }
            Operation::Defer { domain, iova, bytes } => {
                let (bytes, of) = (Bytes(*bytes), scenario.space(*domain));
                write!(f, "unmap {bytes} at {iova:#x} in {of}, and tell nobody yet")
            }
            Operation::Flush { domain } => {
                write!(f, "tell all of what was unmapped in {}", scenario.space(*domain))
            }
            Operation::Take { domain, iova, bytes } => {
                let (bytes, of) = (Bytes(*bytes), scenario.space(*domain));
                write!(f, "unmap {bytes} at {iova:#x} in {of}, and read what was written there")
            }
            Operation::Reclaim { domain, iova, bytes } => {
                let (bytes, of) = (Bytes(*bytes), scenario.space(*domain));
                write!(f, "free empty tables of {bytes} at {iova:#x} in {of}")
            }
            Operation::Dirty { domain, iova, bytes } => {
                let (bytes, of) = (Bytes(*bytes), scenario.space(*domain));
                write!(f, "read what was written in {bytes} at {iova:#x} of {of}")
            }
            Operation::Accessed { domain, iova, bytes } => {
                let (bytes, of) = (Bytes(*bytes), scenario.space(*domain));
                write!(f, "read what was accessed in {bytes} at {iova:#x} of {of}")
            }
            Operation::Answer { master: of, reply } => {
                write!(f, "answer what has stalled of {}: {}", master(*of), reply.name())
            }
            Operation::Ask { master, substream, iova, pages, write, unfinished } => {
                let user = user(*master, *substream);
                let (bytes, to) = (Bytes(pages * PAGE), if *write { " to write" } else { "" });
                let end = if *unfinished { ", without an end" } else { "" };
                write!(f, "{user} asks for {bytes} at {iova:#x}{to}{end}")
            }
            Operation::Grant { master: of, grant } => {
                write!(f, "answer what {} asked for: {}", master(*of), grant.name())
            }
            Operation::Stop { master, substream } => {
                write!(f, "{} is used no more by its device", user(*master, *substream))
            }
            Operation::Translate { master, substream, iova, write } => {
                let user = user(*master, *substream);
                let access = if *write { "write" } else { "read" };
                write!(f, "ask where {user} would {access} at {iova:#x}")
            }
            Operation::Write { master, substream, iova, data } => {
                let (user, bytes) = (user(*master, *substream), Bytes(data.len() as u64));
                write!(f, "{user} writes {bytes} to {iova:#x}")
            }
            Operation::Read { master, substream, iova, bytes, instruction } => {
                let (user, bytes) = (user(*master, *substream), Bytes(*bytes as u64));
                let what = if *instruction { " of instructions" } else { "" };
                write!(f, "{user} reads {bytes}{what} from {iova:#x}")
            }
        }
    }
}
