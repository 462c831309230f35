// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is found, and its form in JSON (docs/decode.schema.json).

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::cause::Cause;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A record of the event queue (§10).
    Event,
    /// A global error (§2.4).
    Gerror,
    /// The command queue stopped (§3.2).
    CmdqError,
    /// The command at which it stopped.
    SkippedCommand,
    /// A CMD_SYNC that did not complete in time.
    SyncTimeout,
    /// The command queue stayed full.
    QueueTimeout,
    /// An output queue was full: what came after that is lost (§3.3, §3.4).
    Overflow,
    /// The kernel kept back messages.
    Suppressed,
    /// A page request that nobody expected (§13).
    PageRequest,
    /// What an SMMU can do.
    Features,
    /// Workarounds and choices of the driver.
    Options,
    /// The size of a queue.
    Queue,
    /// Something else that a driver says while it starts.
    Probe,
}

/// One thing that a log says about an SMMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// What it is about.
    pub kind: Kind,
    /// `F_TRANSLATION`, `CMDQ_ERR`, `CERROR_ILL`, `EVTQ`...
    pub name: String,
    /// The event's or the command's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u8>,
    /// The SMMU, as the log names it.
    pub instance: Option<String>,
    /// Where it begins, counted from 1.
    pub line: u64,
    /// The same so many times in a row.
    pub count: u64,
    /// When, as the log says it.
    pub time: Option<String>,
    /// Whether something is wrong, or this only tells what there is.
    pub problem: bool,
    /// What depends on the kind.
    #[serde(flatten)]
    pub detail: Detail,
    /// What the architecture does not allow, or is missing. Never a reason not to decode.
    pub violations: Vec<String>,
    /// Why, most likely first.
    pub causes: Vec<Cause>,
}

/// What depends on the kind of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// An event.
    Event {
        /// Its words; fewer than four where the log was cut, none where it has none.
        words: Vec<Hex>,
        /// Its fields.
        fields: Fields,
        /// Section of the architecture reference.
        section: &'static str,
        /// What it means, in a few words.
        meaning: String,
        /// The stream as `bus:device.function`, if StreamIDs are PCI requester IDs; with a note.
        bdf: Option<String>,
        /// The device, as the kernel says it.
        client: Option<String>,
        /// Where the kernel's own decoding differs from the words.
        disagreements: Vec<String>,
    },
    /// Global errors.
    Gerror {
        /// Bits that are active.
        value: Hex,
        /// Their names.
        set: Vec<String>,
        /// What they mean.
        meaning: String,
    },
    /// The command queue stopped.
    CmdqError {
        /// CMDQ_CONS.ERR.
        code: Option<u32>,
        /// CMDQ_CONS.RD.
        index: Option<Hex>,
        /// What it means.
        meaning: String,
    },
    /// A command.
    Command {
        /// Its words.
        words: Vec<Hex>,
        /// Its fields.
        fields: Fields,
        /// In short.
        meaning: String,
    },
    /// A CMD_SYNC.
    SyncTimeout {
        /// Where it is in the queue.
        index: Option<Hex>,
        /// CMDQ_PROD.
        prod: Option<Hex>,
        /// CMDQ_CONS.
        cons: Option<Hex>,
        /// What these say.
        diagnosis: String,
    },
    /// A queue that was full.
    Overflow {
        /// What is lost.
        meaning: String,
    },
    /// Messages that were kept back.
    Suppressed {
        /// How many.
        messages: u64,
        /// What that means.
        meaning: String,
    },
    /// A page request.
    PageRequest {
        /// Its fields.
        fields: Fields,
    },
    /// Features or options.
    Set {
        /// The bits.
        value: Hex,
        /// Names of those that are set.
        set: Vec<String>,
        /// Bits of input addresses.
        #[serde(skip_serializing_if = "Option::is_none")]
        ias: Option<u64>,
        /// Bits of output addresses.
        #[serde(skip_serializing_if = "Option::is_none")]
        oas: Option<u64>,
    },
    /// A queue.
    Queue {
        /// Its length.
        entries: u64,
    },
    /// A message.
    Text {
        /// As the log has it.
        text: String,
    },
}

/// A number that is written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex {
    /// The number.
    pub value: u64,
    /// Digits, at least.
    pub digits: usize,
}

impl Hex {
    /// A 64-bit word.
    pub const fn word(value: u64) -> Self {
        Self { value, digits: 16 }
    }

    /// A 32-bit register.
    pub fn register(value: u32) -> Self {
        Self { value: u64::from(value), digits: 8 }
    }

    /// Without leading zeros.
    pub const fn short(value: u64) -> Self {
        Self { value, digits: 1 }
    }
}

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#0width$x}", self.value, width = self.digits + 2)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Not valid, or not there.
    Null,
    /// One bit.
    Bool(bool),
    /// A number of at most 32 bits that is neither an address nor an ID.
    Number(u64),
    /// An address or an ID.
    Hex(Hex),
    /// A code with a name.
    Text(&'static str),
}

impl Value {
    /// The number, where it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(value) => Some(*value),
            Self::Hex(hex) => Some(hex.value),
            Self::Bool(bit) => Some(u64::from(*bit)),
            Self::Null | Self::Text(_) => None,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("-"),
            Self::Bool(bit) => write!(f, "{}", u8::from(*bit)),
            Self::Number(value) => write!(f, "{value}"),
            Self::Hex(hex) => write!(f, "{hex}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Fields by name, in the order of the architecture; in JSON an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, Value)>);

impl Fields {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Record {
    /// Whether `other` says the same of the same SMMU.
    pub fn repeats(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.name == other.name
            && self.instance == other.instance
            && self.detail == other.detail
    }

    /// The stream that it is about.
    pub fn sid(&self) -> Option<u64> {
        self.fields()?.get("sid")?.number()
    }

    /// The fields of a structure.
    pub fn fields(&self) -> Option<&Fields> {
        match &self.detail {
            Detail::Event { fields, .. }
            | Detail::Command { fields, .. }
            | Detail::PageRequest { fields } => Some(fields),
            _ => None,
        }
    }

    /// The address that the device gave.
    pub fn address(&self) -> Option<u64> {
        match self.kind {
            Kind::Event | Kind::PageRequest => self.fields()?.get("addr")?.number(),
            _ => None,
        }
    }
}
