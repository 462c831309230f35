// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a whole log comes to: by instance, stream, event and page, and what to do next.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use super::cause::Certainty;
use super::event::bus_device_function;
use super::record::{Detail, Hex, Kind, Record, Value};

/// Groups of each table; what comes after that is counted together.
const MOST: usize = 1024;

/// The last record of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines of the log.
    pub lines: u64,
    /// Records that were reported, repetitions counted once.
    pub records: u64,
    /// Events, with repetitions.
    pub events: u64,
    /// How many records are problems, with repetitions.
    pub problems: u64,
    /// Records that the filter left out, repetitions counted once: nothing else here counts them.
    pub left_out: u64,
    /// Overflows of the event queue and the PRI queue: records were lost, nobody knows how many.
    pub overflows: u64,
    /// Messages that the kernel kept back.
    pub suppressed: u64,
    /// By SMMU.
    pub by_instance: Table,
    /// By stream.
    pub by_stream: Table,
    /// By kind and name.
    pub by_event: Table,
    /// By stream, event, page and direction.
    pub by_page: Table,
    /// What to do, most important first.
    pub advice: Vec<Advice>,
}

/// Groups, by their order in the log until they are sorted by size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    groups: Vec<Group>,
    index: HashMap<Key, usize>,
    /// What had no room.
    pub others: u64,
}

/// What the records of a group share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    instance: Option<Option<String>>,
    sid: Option<u64>,
    kind: Option<Kind>,
    name: Option<String>,
    page: Option<u64>,
    read: Option<bool>,
}

/// A place in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, counted from 1.
    pub line: u64,
    /// Time, as the log says it.
    pub time: Option<String>,
}

/// Records that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The SMMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Option<String>>,
    /// The stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<Hex>,
    /// The stream as a PCI function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bdf: Option<String>,
    /// The kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The page: the address without its lowest 12 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<Hex>,
    /// A read, or a write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rnw: Option<bool>,
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Place,
    /// The last.
    pub last: Place,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The cause that it is against.
    pub id: &'static str,
    /// What to do.
    pub text: &'static str,
    /// Records that speak for it.
    pub count: u64,
    /// The first of them.
    pub first: Place,
    #[serde(skip)]
    weight: u32,
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.groups.serialize(serializer)
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            kind: &'static str,
            lines: u64,
            records: u64,
            events: u64,
            problems: u64,
            left_out: u64,
            overflows: u64,
            suppressed: u64,
            by_instance: &'a Table,
            by_stream: &'a Table,
            by_event: &'a Table,
            by_page: &'a Table,
            others: Others,
            advice: &'a [Advice],
        }
        #[derive(Serialize)]
        struct Others {
            by_instance: u64,
            by_stream: u64,
            by_event: u64,
            by_page: u64,
        }
        Line {
            kind: "summary",
            lines: self.lines,
            records: self.records,
            events: self.events,
            problems: self.problems,
            left_out: self.left_out,
            overflows: self.overflows,
            suppressed: self.suppressed,
            by_instance: &self.by_instance,
            by_stream: &self.by_stream,
            by_event: &self.by_event,
            by_page: &self.by_page,
            others: Others {
                by_instance: self.by_instance.others,
                by_stream: self.by_stream.others,
                by_event: self.by_event.others,
                by_page: self.by_page.others,
            },
            advice: &self.advice,
        }
        .serialize(serializer)
    }
}

impl Table {
    /// The groups, largest first once the summary is finished.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    fn add(&mut self, key: Key, record: &Record, last: &Place) {
        if let Some(group) = self.index.get(&key).and_then(|place| self.groups.get_mut(*place)) {
            group.count += record.count;
            // A record that was cut is complete only when later ones are.
            if last.line > group.last.line {
                group.last = last.clone();
            }
            if record.line < group.first.line {
                group.first = Place { line: record.line, time: record.time.clone() };
            }
        } else if self.groups.len() < MOST {
            self.index.insert(key.clone(), self.groups.len());
            self.groups.push(Group {
                instance: key.instance,
                sid: key.sid.map(Hex::short),
                bdf: key.sid.map(bus_device_function),
                kind: key.kind,
                name: key.name,
                page: key.page.map(Hex::short),
                rnw: key.read,
                count: record.count,
                first: Place { line: record.line, time: record.time.clone() },
                last: last.clone(),
            });
        } else {
            self.others += record.count;
        }
    }

    fn sort(&mut self) {
        self.index.clear();
        self.groups.sort_by(|a, b| b.count.cmp(&a.count).then(a.first.line.cmp(&b.first.line)));
    }
}

impl Summary {
    /// Counts a record. `last` is where its last repetition is.
    pub fn add(&mut self, record: &Record, last: &Place) {
        self.records += 1;
        if !record.problem {
            return;
        }
        self.problems += record.count;
        if record.kind == Kind::Overflow {
            self.overflows += record.count;
        }
        if let Detail::Suppressed { messages, .. } = &record.detail {
            self.suppressed = self.suppressed.saturating_add(messages.saturating_mul(record.count));
        }
        let instance = Some(record.instance.clone());
        self.by_instance.add(Key { instance: instance.clone(), ..Key::default() }, record, last);
        let kind = Some(record.kind);
        let name = Some(record.name.clone());
        self.by_event.add(Key { kind, name: name.clone(), ..Key::default() }, record, last);
        let sid = record.sid();
        if matches!(record.kind, Kind::Event | Kind::PageRequest) {
            if record.kind == Kind::Event {
                self.events += record.count;
            }
            if sid.is_some() {
                let key = Key { instance: instance.clone(), sid, ..Key::default() };
                self.by_stream.add(key, record, last);
            }
            if let Some(address) = record.address() {
                let read = match record.fields().and_then(|fields| fields.get("rnw")) {
                    Some(Value::Bool(read)) => Some(read),
                    _ => None,
                };
                let page = Some(address & !0xfff);
                self.by_page.add(Key { instance, sid, kind: None, name, page, read }, record, last);
            }
        }
        self.advise(record);
    }

    /// The first cause is what should be done about; others only if they are as likely.
    fn advise(&mut self, record: &Record) {
        let Some(best) = record.causes.first() else { return };
        let alike = record.causes.iter().filter(|cause| {
            cause.certainty == best.certainty && cause.certainty < Certainty::Possible
        });
        let several = alike.take(2);
        let alone = (best.certainty == Certainty::Possible).then_some(best);
        for cause in several.chain(alone) {
            let weight = weight(cause.id);
            if weight == 0 {
                continue;
            }
            if let Some(advice) =
                self.advice.iter_mut().find(|a| a.id == cause.id && a.text == cause.next)
            {
                advice.count += record.count;
            } else if self.advice.len() < 64 {
                self.advice.push(Advice {
                    id: cause.id,
                    text: cause.next,
                    count: record.count,
                    first: Place { line: record.line, time: record.time.clone() },
                    weight,
                });
            }
        }
    }

    /// Sorts what was counted.
    pub fn finish(&mut self, lines: u64) {
        self.lines = lines;
        for table in
            [&mut self.by_instance, &mut self.by_stream, &mut self.by_event, &mut self.by_page]
        {
            table.sort();
        }
        self.advice.sort_by(|a, b| {
            b.weight
                .cmp(&a.weight)
                .then(b.count.cmp(&a.count))
                .then(a.first.line.cmp(&b.first.line))
        });
    }
}

/// What must be repaired first: an SMMU that does not work at all before its queues, these before one device.
fn weight(id: &str) -> u32 {
    match id {
        "smmu-unpowered" | "service-failure" | "registers-unreadable" | "smmu-reset" => 5,
        "driver-unbound" | "bad-firmware" | "unsupported-hardware" | "no-memory" => 4,
        "hung-endpoint" | "illegal-command" | "memory-not-accessible" | "command-queue-stuck" => 3,
        "firmware-left-running" | "granule-protection" | "no-interrupt" => 2,
        "page-request-hint" | "command-queue-stopped" | "suppressed" => 0,
        _ => 1,
    }
}
