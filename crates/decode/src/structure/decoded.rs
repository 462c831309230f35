// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known about a structure after it was read.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use smmuv3_formats::Field;
use smmuv3_formats::legality::Rule;

/// A structure, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Decoded {
    /// Which kind: `event`, `ste`, ..., or the register's name in lower case.
    pub kind: String,
    /// The architecture's name: `STE`, `CMD_CFGI_STE`, `F_TRANSLATION`.
    pub name: String,
    /// Section of the architecture reference that lists it.
    pub section: String,
    /// What it is or says, in one sentence, where there is more to say than the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// 64-bit words, or 32-bit registers.
    #[serde(serialize_with = "hex_words")]
    pub words: Vec<u64>,
    /// Bits of each word, 64 or 32.
    #[serde(skip)]
    pub word_bits: u32,
    /// Every field by its name in lower case, in the order of word and bit.
    #[serde(rename = "fields", serialize_with = "by_name")]
    pub(super) by_name: Vec<(String, Value)>,
    /// The same with place and meaning.
    pub described: Vec<Described>,
    /// What the architecture does not allow in it, all of it. Hardware may accept it.
    pub violations: Vec<String>,
    /// The first rule for which hardware rejects it.
    pub illegal: Option<Illegal>,
    /// Errors that it reports, each with what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What was assumed in reading it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
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

fn hex_words<S: Serializer>(words: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(words.iter().map(|word| format!("{word:#x}")))
}

fn by_name<S: Serializer>(fields: &[(String, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for (name, value) in fields {
        map.serialize_entry(name, value)?;
    }
    map.end()
}
