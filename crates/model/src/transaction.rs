// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device asks for, and what it gets.

use smmuv3_formats::{EventId, EventRecord};

use crate::tlb::Tag;

/// One untranslated access of a device (§9). Addresses are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// StreamID.
    pub stream: u32,
    /// SubstreamID (PASID), where the device gives one.
    pub substream: Option<u32>,
    /// Address that the device issues.
    pub address: u64,
    /// Whether it writes.
    pub write: bool,
    /// Whether it is privileged (PnU).
    pub privileged: bool,
    /// Whether it fetches instructions (InD); writes are always data.
    pub instruction: bool,
}

impl Access {
    /// An unprivileged data read without substream.
    pub const fn read(stream: u32, address: u64) -> Self {
        Self {
            stream,
            substream: None,
            address,
            write: false,
            privileged: false,
            instruction: false,
        }
    }

    /// An unprivileged write without substream.
    pub const fn write(stream: u32, address: u64) -> Self {
        let mut access = Self::read(stream, address);
        access.write = true;
        access
    }
}

/// Where an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the access.
    pub pa: u64,
    /// Bytes of the mapping that was used: page, block, or whole address space for bypass. A power of two.
    pub size: u64,
    /// Whether a cached translation was used rather than a new walk.
    pub tlb_hit: bool,
    /// Tag of the entry; `None` for bypass.
    pub tag: Option<Tag>,
    /// Number of the entry ([`TlbEntry::id`](crate::TlbEntry::id)); `None` for bypass.
    pub entry: Option<u64>,
}

/// An access that was terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The event that it causes, if its configuration asks for one (§5.4).
    pub event: Option<EventRecord>,
    /// Whether the event is in the event queue.
    pub recorded: bool,
    /// Why.
    pub reason: Reason,
}

/// Why an access was terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SMMUEN is 0 and GBPA.ABORT is 1, or the address exceeds the output size (§9, step 2).
    Disabled,
    /// STE.Config = 0xx (§5.2).
    Config,
    /// The event of this kind (§10.2), recorded or not.
    Event(EventId),
    /// The transaction ended as RAZ/WI instead of an abort: CD.A = 0 (§5.4).
    Ignored(EventId),
    /// It stalled, as this number, and waits for an answer (§11): it is not over.
    Stalled(u64),
    /// Something that the model lacks is configured.
    Unsupported(&'static str),
    /// The device was granted nothing that permits it (§12.1), or its request was aborted.
    NotGranted,
    /// [`Model::hold`](crate::Model::hold) was given bytes that are not all in one mapping.
    CrossesPage,
}

/// The data of an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// These bytes are written.
    Write(Vec<u8>),
    /// This many bytes are read.
    Read(usize),
}

impl Transfer {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Write(bytes) => bytes.len(),
            Self::Read(bytes) => *bytes,
        }
    }

    /// Whether it moves nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
