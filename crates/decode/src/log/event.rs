// SPDX-License-Identifier: MIT OR Apache-2.0
//! One event: its fields, what is odd about it, and what the kernel said of it.

use smmuv3_formats::{EventId, EventRecord, legality, structure};

use super::cause;
use super::history::History;
use super::kernel::Said;
use super::record::{Detail, Fields, Hex, Kind, Record, Value};

/// An event as far as the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its code, from the words or from the line before them.
    pub code: Option<u8>,
    /// Its name, where neither words nor code are there.
    pub name: Option<String>,
    /// The words, the missing ones zero.
    pub words: [u64; 4],
    /// How many words there are.
    pub whole: usize,
    /// What the kernel said of it.
    pub said: Option<Said>,
    /// The input address, where the log has nothing else.
    pub address: Option<u64>,
    /// The code that the header names.
    pub header: Option<u8>,
}

/// An event from its four words, as if it were all of a log.
pub fn event(words: [u64; 4]) -> Record {
    let known = Known { code: Some(words[0] as u8), words, whole: 4, ..Known::default() };
    let mut record = known.record(None);
    record.line = 1;
    record.causes = cause::of(&record, &History::default());
    record
}

/// A StreamID as a PCI function, if StreamIDs are requester IDs; a segment or an offset stands above 16 bits.
pub fn bus_device_function(sid: u64) -> String {
    let (bus, device, function) = (sid >> 8 & 0xff, sid >> 3 & 0x1f, sid & 7);
    let above = sid >> 16;
    if above == 0 {
        format!("{bus:02x}:{device:02x}.{function}")
    } else {
        format!("{above:x}+{bus:02x}:{device:02x}.{function}")
    }
}

/// CLASS by its number.
pub const CLASSES: [&str; 4] = ["CD", "TT", "IN", "reserved"];

impl Known {
    /// The event that the architecture defines.
    pub fn id(&self) -> Option<EventId> {
        let by_name = |name: &str| EventId::ALL.iter().copied().find(|id| id.name() == name);
        match self.code {
            Some(code) => EventId::from_code(code),
            None => self.name.as_deref().and_then(by_name),
        }
    }

    /// A record without causes; line and time are the caller's.
    pub fn record(&self, instance: Option<String>) -> Record {
        let id = self.id();
        let code = self.code.or(id.map(|id| id as u8));
        let name = match (id, code, &self.name) {
            (Some(id), _, _) => id.name().to_owned(),
            (None, Some(0xe0..=0xef), _) => "IMPDEF".to_owned(),
            (None, Some(_), _) => "reserved".to_owned(),
            (None, None, Some(name)) => name.clone(),
            (None, None, None) => "unknown".to_owned(),
        };
        let meaning = match (id, code) {
            (Some(id), _) => id.meaning().to_owned(),
            (None, Some(0xe0..=0xef)) => "defined by the implementation".to_owned(),
            (None, Some(code)) => format!("the architecture has no event {code:#04x}"),
            (None, None) => "not an event of the architecture".to_owned(),
        };
        let fields = self.fields(id);
        let sid = fields.get("sid").and_then(|sid| sid.number());
        let record = EventRecord(self.words);
        let disagreements = match &self.said {
            Some(said) if self.whole > 0 => said.disagreements(&record, &name, self.whole),
            _ => Vec::new(),
        };
        Record {
            kind: Kind::Event,
            name,
            id: code,
            instance,
            line: 0,
            count: 1,
            time: None,
            problem: true,
            detail: Detail::Event {
                words: self.words.iter().take(self.whole).map(|word| Hex::word(*word)).collect(),
                fields,
                section: "10.2",
                meaning,
                bdf: sid.map(bus_device_function),
                client: self.said.as_ref().and_then(|said| said.client.clone()),
                disagreements,
            },
            violations: self.violations(id),
            causes: Vec::new(),
        }
    }

    /// The fields; those of words that are missing are taken from what the kernel said.
    fn fields(&self, id: Option<EventId>) -> Fields {
        let layout = id.map_or(&[][..], EventId::fields);
        let get = |name: &str| {
            let field = layout.iter().find(|field| field.name == name)?;
            (field.word < self.whole).then(|| field.extract(self.words[field.word]))
        };
        let said = self.said.as_ref().filter(|_| self.whole < 4);
        let tail = said.and_then(|said| said.tail.as_ref());
        let bit = |name, said: Option<bool>| {
            get(name).map(|value| value == 1).or(said).map_or(Value::Null, Value::Bool)
        };
        let hex = |name, said: Option<u64>| {
            get(name).or(said).map_or(Value::Null, |value| Value::Hex(Hex::short(value)))
        };
        // Also an event without a name has a stream where all events have it.
        let sid = if id.is_none() && self.whole > 0 { Some(self.words[0] >> 32) } else { None };
        let s2 = bit("S2", tail.map(|tail| tail.s2));
        let always = id == Some(EventId::CBadSubstreamId);
        let ssv = bit("SSV", None);
        let ssid = match (always || ssv == Value::Bool(true), said) {
            (true, _) => hex("SubstreamID", None),
            (false, Some(said)) if self.whole == 0 => {
                hex("SubstreamID", said.ssid.filter(|s| *s != 0))
            }
            _ => Value::Null,
        };
        let class = get("CLASS").or(tail.and_then(|tail| tail.class_number()));
        let class = class.and_then(|class| CLASSES.get(class as usize)).copied();
        let ipa = match s2 {
            Value::Bool(true) => hex("IPA", said.and_then(|said| said.ipa)),
            _ => Value::Null,
        };
        let mut fields = vec![
            ("sid", hex("StreamID", sid.or(said.and_then(|said| said.sid)))),
            ("ssid", ssid),
            ("ssv", ssv),
            ("rnw", bit("RnW", tail.map(|tail| tail.read))),
            ("pnu", bit("PnU", tail.map(|tail| tail.privileged))),
            ("ind", bit("InD", tail.map(|tail| tail.instruction))),
            ("s2", s2),
            ("class", class.map_or(Value::Null, Value::Text)),
            ("stall", bit("Stall", tail.map(|tail| tail.stall))),
            ("stag", hex("STAG", tail.and_then(|tail| tail.stag))),
            ("addr", hex("InputAddr", said.and_then(|said| said.iova).or(self.address))),
            ("ipa", ipa),
        ];
        // What only some events have stands behind what all records have.
        let has = |name: &str| layout.iter().any(|field| field.name == name);
        if has("FetchAddr") {
            fields.push(("fetch_addr", hex("FetchAddr", said.and_then(|said| said.fetch))));
        }
        for (name, key) in [("Reason", "reason"), ("Span", "span")] {
            if has(name) {
                fields.push((key, get(name).map_or(Value::Null, Value::Number)));
            }
        }
        for (name, key) in [
            ("GPCF", "gpcf"),
            ("TTRnW", "ttrnw"),
            ("NSIPA", "nsipa"),
            ("uX", "ux"),
            ("uW", "uw"),
            ("uR", "ur"),
            ("pX", "px"),
            ("pW", "pw"),
            ("pR", "pr"),
        ] {
            // How a table was accessed says nothing where none was.
            let said = tail.and_then(|tail| tail.table_read).filter(|_| name == "TTRnW");
            if has(name) {
                let valid = name != "TTRnW" || class == Some("TT");
                fields.push((key, if valid { bit(name, said) } else { Value::Null }));
            }
        }
        Fields(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// What the architecture does not allow (§10), and what is missing.
    fn violations(&self, id: Option<EventId>) -> Vec<String> {
        let mut found = Vec::new();
        if let (Some(header), Some(code)) = (self.header, self.code)
            && header != code
        {
            found.push(format!("the line before says event {header:#04x}, the words {code:#04x}"));
        }
        if self.whole < 4 && self.said.is_none() {
            found.push(match self.whole {
                0 => "the words are missing: the log was cut, or filtered".to_owned(),
                one => format!("{} of 4 words are missing: the log was cut", 4 - one),
            });
        }
        if self.whole == 0 {
            return found;
        }
        // Reserved bits are told with their values.
        if let Some(id) = id {
            let reserved = structure::event(id).reserved(&self.words);
            for (place, bits) in reserved.into_iter().enumerate().take(self.whole) {
                if bits != 0 {
                    found.push(format!(
                        "word {place} has bits {bits:#x} set, which are reserved in {}",
                        id.name()
                    ));
                }
            }
        }
        // Without all words only the code can be judged.
        if self.whole == 4 || id.is_none() {
            legality::event(&EventRecord(self.words), None, &mut |rule| {
                if !rule.field.starts_with("word ") {
                    found.push(rule.to_string());
                }
            });
        }
        found
    }
}
