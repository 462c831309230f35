// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known about a structure after it was read.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use smmuv3_formats::Field;
use smmuv3_formats::legality::Rule;

use crate::log::Record;

/// A structure, explained.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Which kind: `event`, `ste`, ..., or the register's name in lower case.
    pub kind: String,
    /// The architecture's name: `STE`, `CMD_CFGI_STE`, `F_TRANSLATION`.
    pub name: String,
    /// Section of the architecture reference that lists it.
    pub section: String,
    /// What it is or says, in one sentence, where there is more to say than the name.
    pub summary: Option<String>,
    /// 64-bit words, or 32-bit registers.
    pub words: Vec<u64>,
    /// Bits of each word, 64 or 32.
    pub word_bits: u32,
    /// Every field by its name in lower case, in the order of word and bit.
    pub(super) by_name: Fields,
    /// The same with place and meaning.
    pub described: Vec<Described>,
    /// What the architecture does not allow in it, all of it. Hardware may accept it.
    pub violations: Vec<String>,
    /// The first rule for which hardware rejects it.
    pub illegal: Option<Illegal>,
    /// Errors that it reports, each with what to do.
    pub problems: Vec<Problem>,
    /// What was assumed in reading it.
    pub assumed: Vec<String>,
    /// Of an event, what a log that has it is explained with: also likely causes.
    pub record: Option<Record>,
}

/// `kind`, `name`, `section`, `words` (all their digits), `fields` by name, `described`, `violations` and `illegal`
/// always; `set` of features and GERROR, the names that are; `summary`, `problems`, `assumed`, and `record` of an event where there are any.
impl Serialize for Decoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = if self.word_bits == 32 { 10 } else { 18 };
        let words: Vec<String> =
            self.words.iter().map(|word| format!("{word:#0digits$x}")).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("section", &self.section)?;
        if let Some(summary) = &self.summary {
            map.serialize_entry("summary", summary)?;
        }
        map.serialize_entry("words", &words)?;
        map.serialize_entry("fields", &self.by_name)?;
        let set: Option<Vec<&String>> = match self.kind.as_str() {
            "features" => Some(self.described.iter().map(|field| &field.name).collect()),
            "gerror" => Some(self.problems.iter().map(|problem| &problem.name).collect()),
            _ => None,
        };
        if let Some(set) = set {
            map.serialize_entry("set", &set)?;
        }
        map.serialize_entry("described", &self.described)?;
        map.serialize_entry("violations", &self.violations)?;
        map.serialize_entry("illegal", &self.illegal)?;
        if !self.problems.is_empty() {
            map.serialize_entry("problems", &self.problems)?;
        }
        if !self.assumed.is_empty() {
            map.serialize_entry("assumed", &self.assumed)?;
        }
        if let Some(record) = &self.record {
            map.serialize_entry("record", record)?;
        }
        map.end()
    }
}

/// Fields by name, in the order of word and bit: in JSON an object.
#[derive(Clone, Debug)]
pub(super) enum Fields {
    /// The architecture's names in lower case.
    Own(Vec<(String, Value)>),
    /// The short names that records of logs have.
    Log(crate::log::Fields),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = match self {
            Self::Own(fields) => fields,
            Self::Log(fields) => return fields.serialize(serializer),
        };
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A field with its place, value and meaning.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// The register that it belongs to, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structure: Option<&'static str>,
    /// The architecture's name.
    pub name: String,
    /// Index of the word.
    pub word: usize,
    /// Highest bit.
    pub hi: u32,
    /// Lowest bit.
    pub lo: u32,
    /// Its value.
    pub value: Value,
    /// What the value means, where that is known.
    pub meaning: Option<String>,
}

/// A field's value: in JSON `true`, a number, or a string such as `"0x8002000b"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// One bit.
    Bit(bool),
    /// A number.
    Number(u64),
    /// An address, an ID, or what may have more than 32 bits.
    Hex(u64),
}

impl Value {
    /// The value of a field in the form that its kind has.
    pub fn of(field: &Field, value: u64) -> Self {
        let bits = field.hi.saturating_sub(field.lo).saturating_add(1);
        if field.address || bits > 32 || is_id(field.name) {
            Self::Hex(value)
        } else if bits == 1 {
            Self::Bit(value != 0)
        } else {
            Self::Number(value)
        }
    }

    /// As a number; a bit is 0 or 1.
    pub const fn number(self) -> u64 {
        match self {
            Self::Bit(bit) => bit as u64,
            Self::Number(value) | Self::Hex(value) => value,
        }
    }
}

/// Whether numbers of this name tell one thing from others, and are written as hexadecimal.
fn is_id(name: &str) -> bool {
    const IDS: &[&str] = &["STAG", "Opcode", "Implementer", "PRGIndex", "MAIR", "Reason"];
    (name.ends_with("ID") && name.len() > 2 && name != "SSID_VALID") || IDS.contains(&name)
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bit(bit) => serializer.serialize_bool(*bit),
            Self::Number(value) => serializer.serialize_u64(*value),
            Self::Hex(value) => serializer.collect_str(&format_args!("{value:#x}")),
        }
    }
}

/// A bit is 0 or 1, a number decimal, all else hexadecimal.
impl core::fmt::Display for Value {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bit(bit) => write!(f, "{}", u8::from(*bit)),
            Self::Number(value) => write!(f, "{value}"),
            Self::Hex(value) => write!(f, "{value:#x}"),
        }
    }
}

/// A rule that is broken so that hardware rejects the structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Illegal {
    /// Section with the rule's number: `7.1(6b)`.
    pub section: String,
    /// The field that is wrong.
    pub field: String,
    /// What must hold.
    pub text: String,
}

impl From<Rule> for Illegal {
    fn from(rule: Rule) -> Self {
        let Rule { section, field, text } = rule;
        Self { section: section.to_owned(), field: field.to_owned(), text: text.to_owned() }
    }
}

/// `STRW: must be 0 (EL1) or 2 (EL2) (§7.1(5))`.
impl core::fmt::Display for Illegal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {} (§{})", self.field, self.text, self.section)
    }
}

/// An error that a register reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The architecture's name of it.
    pub name: String,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

impl Decoded {
    /// Whether nothing is wrong with it: hardware accepts it, no bit is set that must not be, and it reports
    /// no error.
    pub const fn is_fine(&self) -> bool {
        self.illegal.is_none() && self.violations.is_empty() && self.problems.is_empty()
    }

    /// The value of a field, by the architecture's name in any case.
    pub fn value(&self, name: &str) -> Option<Value> {
        let named = |field: &&Described| field.name.eq_ignore_ascii_case(name);
        self.described.iter().find(named).map(|field| field.value)
    }
}
