// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Linux's own decoding of an event says (6.13 and later), and where the words say something else.

use memchr::memmem;
use smmuv3_formats::EventRecord;

use super::number::leading;

/// `event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0x1000 ipa: 0x0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The event; `UNKNOWN` where Linux has no name for it.
    pub name: String,
    /// The device; `None` for `(unassigned sid)`.
    pub client: Option<String>,
    /// StreamID.
    pub sid: Option<u64>,
    /// SubstreamID.
    pub ssid: Option<u64>,
    /// Input address.
    pub iova: Option<u64>,
    /// Intermediate address.
    pub ipa: Option<u64>,
    /// The address of a failed fetch.
    pub fetch: Option<u64>,
    /// The second line.
    pub tail: Option<Tail>,
}

/// `unpriv data write s1 "Input address caused fault" stag: 0x0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Privileged.
    pub privileged: bool,
    /// An instruction fetch.
    pub instruction: bool,
    /// A read.
    pub read: bool,
    /// Of stage 2.
    pub s2: bool,
    /// What was accessed, in words.
    pub class: String,
    /// The access to a table was a read, where it is said.
    pub table_read: Option<bool>,
    /// The transaction waits.
    pub stall: bool,
    /// The tag of a stalled transaction.
    pub stag: Option<u64>,
}

fn after<'a>(text: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    text.get(memmem::find(text, needle)? + needle.len()..)
}

fn owned(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Said {
    /// From a message.
    pub fn read(text: &[u8]) -> Option<Self> {
        let rest = after(text, b"event: ")?;
        let name = rest.split(|byte| byte.is_ascii_whitespace()).next()?;
        let upper = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
        if name.len() < 5 || !name.iter().all(upper) {
            return None;
        }
        let client = after(rest, b"client: ")?;
        let number = |key: &[u8]| leading(after(rest, key)?).map(|(value, _)| value);
        // The client's name may have spaces: it ends where the next key begins.
        let end = memmem::find(client, b" sid:").unwrap_or(client.len());
        let client = client.get(..end).filter(|client| !client.starts_with(b"("));
        Some(Self {
            name: owned(name),
            client: client.map(owned),
            sid: number(b" sid: "),
            ssid: number(b" ssid: "),
            iova: number(b" iova: "),
            ipa: number(b" ipa: "),
            fetch: number(b" fetch_addr: "),
            tail: None,
        })
    }

    /// What this says and `record`, of which the first `whole` words are known, does not.
    pub fn disagreements(&self, record: &EventRecord, name: &str, whole: usize) -> Vec<String> {
        let mut found = Vec::new();
        if self.name != "UNKNOWN" && self.name != name {
            found.push(format!("the kernel calls it {}, the words say {name}", self.name));
        }
        let mut number = |what: &str, said: Option<u64>, word: usize, is: u64| {
            if let Some(said) = said
                && word < whole
                && said != is
            {
                found.push(format!("the kernel says {what} {said:#x}, the words {is:#x}"));
            }
        };
        number("sid", self.sid, 0, record.sid());
        // Linux prints the field whatever SSV says.
        number("ssid", self.ssid, 0, record.ssid());
        number("iova", self.iova, 2, record.input_addr());
        number("ipa", self.ipa, 3, record.0[3] & 0x00ff_ffff_ffff_f000);
        number("fetch_addr", self.fetch, 3, record.fetch_addr());
        if let Some(tail) = self.tail.as_ref().filter(|_| whole > 1) {
            found.extend(tail.disagreements(record));
        }
        found
    }
}

/// Linux's names of CLASS.
const CLASSES: [&str; 4] =
    ["CD fetch", "Stage 1 translation table fetch", "Input address caused fault", "Reserved"];

impl Tail {
    /// From a message.
    pub fn read(text: &[u8]) -> Option<Self> {
        let stag = memmem::find(text, b"stag: ")?;
        let start = [&b"unpriv "[..], b"priv "].into_iter().find_map(|w| memmem::find(text, w))?;
        let mut words = text.get(start..)?.splitn(5, |byte| *byte == b' ');
        let mut choice = |yes: &[u8], no: &[u8]| match words.next()? {
            word if word == yes => Some(true),
            word if word == no => Some(false),
            _ => None,
        };
        let privileged = choice(b"priv", b"unpriv")?;
        let instruction = choice(b"inst", b"data")?;
        let read = choice(b"read", b"write")?;
        let s2 = choice(b"s2", b"s1")?;
        let mut quoted = words.next()?.split(|byte| *byte == b'"');
        let (_, class, rest) = (quoted.next()?, quoted.next()?, quoted.next()?);
        let has = |word| memmem::find(rest, word).is_some();
        Some(Self {
            privileged,
            instruction,
            read,
            s2,
            class: owned(class),
            table_read: has(b"ttd_read").then_some(true).or(has(b"ttd_write").then_some(false)),
            stall: has(b" stall"),
            stag: leading(text.get(stag + 6..)?).map(|(value, _)| value),
        })
    }

    fn disagreements(&self, record: &EventRecord) -> Vec<String> {
        let mut found = Vec::new();
        let mut bit = |said: bool, is: bool, words: [&str; 2]| {
            if said != is {
                let name = |value: bool| words[usize::from(value)];
                found.push(format!("the kernel says {}, the words {}", name(said), name(is)));
            }
        };
        bit(self.privileged, record.pnu(), ["unprivileged", "privileged"]);
        bit(self.instruction, record.ind(), ["data", "instruction"]);
        bit(self.read, record.rnw(), ["write", "read"]);
        bit(self.s2, record.s2(), ["stage 1", "stage 2"]);
        bit(self.stall, record.stall(), ["terminated", "stalled"]);
        if let Some(stag) = self.stag.filter(|stag| *stag != record.stag()) {
            found.push(format!("the kernel says stag {stag:#x}, the words {:#x}", record.stag()));
        }
        let class = CLASSES[record.class() as usize & 3];
        if CLASSES.contains(&self.class.as_str()) && self.class != class {
            found.push(format!("the kernel says {:?}, the words {class:?}", self.class));
        }
        found
    }

    /// CLASS by its number.
    pub fn class_number(&self) -> Option<u64> {
        CLASSES.iter().position(|class| *class == self.class).map(|place| place as u64)
    }
}
