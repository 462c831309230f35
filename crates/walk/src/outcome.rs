// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a walk passes through, and how it ends.

use core::fmt;

use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::legality::Rule;
use smmuv3_formats::permission::Permissions;
use smmuv3_formats::{EventId, EventRecord};

use crate::access::Access;
use crate::attributes::Attributes;

/// A walk, from the StreamID to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// What was asked.
    pub access: Access,
    /// Everything that was read, as a tree: a step is followed by those that are below it, one deeper.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
}

/// What is read in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A level-1 descriptor of the stream table.
    L1Std,
    /// A stream table entry.
    Ste,
    /// A virtual machine structure.
    Vms,
    /// A level-1 descriptor of the contexts.
    L1Cd,
    /// A context descriptor.
    Cd,
    /// A descriptor of a translation table.
    Descriptor(Stage),
}

impl What {
    /// The architecture's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1Std => "L1STD",
            Self::Ste => "STE",
            Self::Vms => "VMS",
            Self::L1Cd => "L1CD",
            Self::Cd => "CD",
            Self::Descriptor(Stage::One) => "stage-1 descriptor",
            Self::Descriptor(Stage::Two) => "stage-2 descriptor",
        }
    }
}

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is.
    pub what: What,
    /// How deep in the tree: what stage 2 reads on behalf of a step is one deeper than that.
    pub depth: usize,
    /// Level of a descriptor, -1 to 3.
    pub level: Option<i8>,
    /// Which entry of its table.
    pub index: u64,
    /// The intermediate address, where stage 2 translates it.
    pub ipa: Option<u64>,
    /// The physical address; `None` where stage 2 does not lead there.
    pub address: Option<u64>,
    /// The words there; none where they could not be read.
    pub words: Vec<u64>,
    /// What they mean.
    pub meaning: String,
}

/// How a walk ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The access goes to memory.
    Translated(Translation),
    /// The access is terminated, or stalls, for a reason that is an event (§10).
    Fault(Fault),
    /// The access is terminated and nobody is told (§9).
    Silent {
        /// Why.
        why: String,
    },
    /// The image does not hold what has to be read.
    Missing {
        /// First address that is missing.
        address: u64,
        /// What was to be read there.
        what: What,
        /// What hardware would raise if nothing answers at that address.
        event: EventRecord,
    },
    /// Something is configured whose meaning is not known here.
    Unsupported {
        /// What.
        what: &'static str,
    },
}

/// An access that goes to memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the access.
    pub address: u64,
    /// log2 of the bytes of the mapping that leads there: the smaller of both stages.
    pub bytes_log2: u32,
    /// What the mapping allows.
    pub permissions: Permissions,
    /// What the memory system is told, for a device that says nothing by itself.
    pub attributes: Attributes,
    /// Which descriptors hardware writes on the way (§14).
    pub updates: Vec<String>,
}

/// What becomes of an access that is not translated (§5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The device gets an abort.
    Abort,
    /// Reads give zero and writes are ignored.
    Ignored,
    /// The access waits for CMD_RESUME.
    Stall,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Abort => "the access is aborted",
            Self::Ignored => "a read gives zero, a write is ignored",
            Self::Stall => "the access stalls until CMD_RESUME",
        })
    }
}

/// An access that is not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which event.
    pub id: EventId,
    /// The record, complete but for what the implementation chooses (STAG, Reason).
    pub event: EventRecord,
    /// Whether it is written to the event queue.
    pub recorded: bool,
    /// What the device sees.
    pub ending: Ending,
    /// The rule that is broken, for C_BAD_STE and C_BAD_CD.
    pub rule: Option<Rule>,
    /// Why.
    pub why: &'static str,
}
