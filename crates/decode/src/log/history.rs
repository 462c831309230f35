// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a log has said so far, as evidence for what comes. Everything here is bounded.

use std::collections::HashMap;

use super::record::{Kind, Record, Value};
use super::stamp::Key;

/// Instances, streams and pages that are remembered at most.
const INSTANCES: usize = 64;
const STREAMS: usize = 4096;
const PAGES: usize = 4096;
/// Ranges of RAM.
const RANGES: usize = 64;

/// What happened before.
#[derive(Debug, Default)]
pub struct History {
    instances: HashMap<Option<String>, Instance>,
    streams: HashMap<(Option<String>, u64), Stream>,
    pages: HashMap<u64, (Option<String>, u64)>,
    ram: Vec<(u64, u64, u64)>,
}

/// What is known of one SMMU.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// Events so far.
    pub events: u64,
    /// Line of the last overflow of the event queue.
    pub overflow: Option<u64>,
    /// Line of the last CMD_SYNC timeout.
    pub timeout: Option<u64>,
    /// Line of the last ATC invalidation that was not answered.
    pub atc_timeout: Option<u64>,
    /// Line that says that firmware left the SMMU on.
    pub was_enabled: Option<u64>,
    /// Line that says what the SMMU can do: it was started there.
    pub started: Option<u64>,
    /// Bits of output addresses.
    pub oas: Option<u64>,
    /// Names of the features.
    pub features: Option<Vec<String>>,
    /// log2 of the command queue's length.
    pub cmdq_log2: Option<u32>,
    /// No driver was bound any more.
    pub unbound: Option<u64>,
}

impl Instance {
    /// Whether the SMMU has a feature, where the log says.
    pub fn has(&self, feature: &str) -> Option<bool> {
        self.features.as_ref().map(|set| set.iter().any(|name| name == feature))
    }
}

/// What is known of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    /// Its events so far.
    pub events: u64,
    /// Line of its first event.
    pub first: u64,
    /// The page of the last event.
    pub page: Option<u64>,
    /// How many events before were each on the page behind the one before.
    pub run: u64,
    /// The last page of which offset 0x040 was written, and how often it was another one before.
    pub doorbell: Option<(u64, u64)>,
    /// The first event's and the last event's time.
    pub times: Option<(Key, Key)>,
}

impl Stream {
    /// Whether the stream wrote offset 0x040 of so many pages that `page` is no doorbell: a device has one or
    /// two, and writes them again and again.
    pub fn roams(&self, page: u64) -> bool {
        self.doorbell.is_some_and(|(last, others)| others + u64::from(last != page) >= 3)
    }

    /// Events a second, where times are known and far enough apart.
    pub fn rate(&self) -> Option<u64> {
        let (first, last) = self.times?;
        let micros = match (first, last) {
            (Key::Boot(a), Key::Boot(b))
            | (Key::Wall(a), Key::Wall(b))
            | (Key::Yearless(a), Key::Yearless(b)) => b.checked_sub(a)?,
            _ => return None,
        };
        (self.events > 1).then(|| (self.events - 1).saturating_mul(1_000_000) / micros.max(1))
    }
}

impl History {
    /// What is known of an SMMU.
    pub fn instance(&self, name: &Option<String>) -> Instance {
        self.instances.get(name).cloned().unwrap_or_default()
    }

    /// For something new of an SMMU; `None` when there are too many.
    pub fn instance_mut(&mut self, name: &Option<String>) -> Option<&mut Instance> {
        if self.instances.len() >= INSTANCES && !self.instances.contains_key(name) {
            return None;
        }
        Some(self.instances.entry(name.clone()).or_default())
    }

    /// What is known of the stream of a record.
    pub fn stream(&self, record: &Record) -> Stream {
        let Some(sid) = record.sid() else { return Stream::default() };
        self.streams.get(&(record.instance.clone(), sid)).copied().unwrap_or_default()
    }

    /// Another stream that had an event on the same page.
    pub fn other_stream(&self, record: &Record) -> Option<u64> {
        let (instance, sid) = self.pages.get(&(record.address()? >> 12))?;
        (*instance == record.instance && Some(*sid) != record.sid()).then_some(*sid)
    }

    /// The line that lists RAM at an address.
    pub fn ram(&self, address: u64) -> Option<u64> {
        let found = self.ram.iter().find(|(first, last, _)| (*first..=*last).contains(&address));
        found.map(|(_, _, line)| *line)
    }

    /// RAM that the kernel lists at boot.
    pub fn add_ram(&mut self, first: u64, last: u64, line: u64) {
        if self.ram.len() < RANGES {
            self.ram.push((first, last, line));
        }
    }

    /// An event happened.
    pub fn note(&mut self, record: &Record, key: Option<Key>) {
        if record.kind != Kind::Event {
            return;
        }
        if let Some(instance) = self.instance_mut(&record.instance) {
            instance.events += record.count;
        }
        let Some(sid) = record.sid() else { return };
        let place = (record.instance.clone(), sid);
        if self.streams.len() < STREAMS || self.streams.contains_key(&place) {
            let stream = self.streams.entry(place).or_default();
            if stream.events == 0 {
                stream.first = record.line;
            }
            stream.events += record.count;
            if let Some(key) = key {
                stream.times = Some((stream.times.map_or(key, |(first, _)| first), key));
            }
            if let Some(address) = record.address() {
                let page = address >> 12;
                let next = stream.page.is_some_and(|last| last.wrapping_add(1) == page);
                let same = stream.page == Some(page);
                if next {
                    stream.run += 1;
                } else if !same {
                    stream.run = 0;
                }
                stream.page = Some(page);
                let fields = record.fields();
                let write = fields.and_then(|fields| fields.get("rnw")) == Some(Value::Bool(false));
                if write && address & 0xfff == 0x040 {
                    stream.doorbell = Some(match stream.doorbell {
                        Some((last, others)) => (page, others + u64::from(last != page)),
                        None => (page, 0),
                    });
                }
            }
        }
        if let Some(address) = record.address()
            && (self.pages.len() < PAGES || self.pages.contains_key(&(address >> 12)))
        {
            self.pages.insert(address >> 12, (record.instance.clone(), sid));
        }
    }
}
