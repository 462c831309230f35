// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading the steps of a scenario.

use std::cell::Cell;

use smmuv3_formats::EventId;

use super::data::data;
use super::error::did_you_mean;
use super::read::{Names, lookup, unknown};
use super::source::{Fields, Value};
use super::{
    Access, Action, Answer, Device, MemoryKind, PAGE, Random, Refusal, Scenario, Step, Substream,
    Target, Weights,
};

/// IOVA of a random workload's window, if it is not given: it fits into every domain.
const RANDOM_WINDOW: u64 = 0xC000_0000;

/// Pages of the memory that random workloads map.
const LONGEST: u64 = crate::bench::POOL_BYTES / PAGE;

type Read = fn(&Reader<'_>, &Fields<'_>) -> Option<Action>;

const ACTIONS: [(&str, Read); 17] = [
    ("attach", |reader, fields| reader.attach(fields)),
    ("detach", |reader, fields| reader.detach(fields)),
    ("bind", |reader, fields| reader.bind(fields)),
    ("unbind", |reader, fields| reader.unbind(fields)),
    ("release", |reader, fields| reader.release(fields)),
    ("replace", |reader, fields| reader.replace(fields)),
    ("map", |reader, fields| reader.map(fields)),
    ("unmap", |reader, fields| reader.unmap(fields)),
    ("reclaim", |reader, fields| reader.reclaim(fields)),
    ("process-map", |reader, fields| reader.process_map(fields)),
    ("process-unmap", |reader, fields| reader.process_unmap(fields)),
    ("write", |reader, fields| reader.write(fields)),
    ("read", |reader, fields| reader.read(fields)),
    ("expect-fault", |reader, fields| reader.expect_fault(fields)),
    ("expect-blocked", |reader, fields| reader.expect_blocked(fields)),
    ("expect-data", |reader, fields| reader.expect_data(fields)),
    ("random", |reader, fields| reader.random(fields)),
];

/// Actions that never call the driver, or are interrupted anyway.
const UNDISTURBED: [&str; 4] = ["expect-fault", "expect-blocked", "expect-data", "random"];

struct Reader<'s> {
    names: &'s Names,
    scenario: &'s Scenario,
    before: Before,
    /// How many steps the one just read stands for; 0 for one.
    count: Cell<u32>,
}

/// What an expectation is about.
#[derive(Clone, Copy)]
enum Before {
    /// No DMA.
    Nothing,
    /// A step with a mistake in it: anything.
    Unknown,
    /// This DMA.
    Dma(Dma),
}

#[derive(Clone, Copy)]
struct Dma {
    master: usize,
    substream: Substream,
    iova: u64,
    length: u64,
    write: bool,
    expects_data: bool,
}

/// The steps in order; none for a step with a mistake in it.
pub(super) fn steps(
    tables: Vec<Fields<'_>>,
    names: &Names,
    scenario: &Scenario,
) -> Vec<Option<Step>> {
    let mut reader = Reader { names, scenario, before: Before::Nothing, count: Cell::new(0) };
    let mut steps = Vec::new();
    for fields in tables {
        let step = reader.step(fields);
        reader.before = match step.as_ref().map(|step| &step.action) {
            None => Before::Unknown,
            Some(Action::Write { master, substream, iova, data }) => Before::Dma(Dma {
                master: *master,
                substream: *substream,
                iova: *iova,
                length: data.len() as u64,
                write: true,
                expects_data: false,
            }),
            Some(Action::Read { master, substream, iova, length, expect }) => {
                let (master, iova, length) = (*master, *iova, *length);
                Before::Dma(Dma {
                    master,
                    substream: *substream,
                    iova,
                    length,
                    write: false,
                    expects_data: expect.is_some(),
                })
            }
            Some(
                Action::ExpectFault { .. }
                | Action::ExpectBlocked { .. }
                | Action::ExpectData { .. },
            ) => reader.before,
            Some(_) => Before::Nothing,
        };
        let count = reader.count.take();
        let first = step.clone();
        steps.push(step);
        steps.extend((1..count).map(|nth| first.as_ref().map(|step| step.nth(nth))));
    }
    steps
}

impl Step {
    /// The `nth` step after the first that an attach with `count` stands for.
    fn nth(&self, nth: u32) -> Self {
        let mut step = Self { again: true, note: None, ..self.clone() };
        if let Action::Attach { pasid: Some(pasid), domain: Target::Domain(domain), .. } =
            &mut step.action
        {
            *pasid += nth;
            *domain += nth as usize;
        }
        step
    }
}

impl Reader<'_> {
    fn step(&self, fields: Fields<'_>) -> Option<Step> {
        let source = fields.source;
        let mistakes = source.mistakes();
        let line = fields.places().line();
        let note =
            fields.get("note").and_then(|value| fields.text("note", value)).map(str::to_owned);
        let interrupt = fields.number("interrupt", 0..=u64::from(u32::MAX)).map(|n| n as u32);

        let mut action = None;
        let mut seen: Option<&str> = None;
        let options = ["note", "interrupt"];
        for (key, span) in fields.keys().filter(|(key, _)| !options.contains(key)) {
            let Some((name, read)) = ACTIONS.iter().find(|(name, _)| *name == key) else {
                let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
                let guess = did_you_mean(key, names.iter().copied());
                let known = names.join(", ");
                source.wrong(span, format!("unknown action {key}; actions are {known}{guess}"));
                continue;
            };
            if let Some(first) = seen {
                let message =
                    format!("a step does one thing, this does {first} and {key}; write two steps");
                source.wrong(span, message);
            }
            seen = Some(name);
            let value = fields.get(name)?;
            let Some(inner) = Fields::of(source, name, value) else { continue };
            action = read(self, &inner);
            inner.finish();
        }
        if seen.is_none() && source.mistakes() == mistakes {
            let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
            let message = format!("this step does nothing; write one of {}", names.join(", "));
            source.wrong(fields.span.clone(), message);
        }
        if let Some(name) = seen.filter(|name| interrupt.is_some() && UNDISTURBED.contains(name)) {
            source.wrong_at(
                fields.places().of("interrupt"),
                format!("{name} is not interrupted from here; leave interrupt out"),
            );
        }
        let action = action.filter(|_| source.mistakes() == mistakes)?;
        Some(Step { line, note, interrupt, again: false, action })
    }

    fn attach(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let value = fields.need("domain", "\"shared\"");
        let pasid = self.pasid(fields);
        let answer = self.answer(fields);
        let value = value?;
        let domain = match fields.text("domain", value)? {
            "identity" => Target::Identity,
            "blocked" => Target::Blocked,
            name => match self.names.domains.iter().position(|known| known == name) {
                Some(index) => Target::Domain(index),
                None => {
                    let reserved = ["identity", "blocked"];
                    fields.wrong(value, unknown("domain", name, &self.names.domains, &reserved));
                    return None;
                }
            },
        };
        let master = master?;
        if pasid.is_some() && domain == Target::Identity {
            fields.wrong(value, "a PASID can't be attached to identity; attach it to a domain");
        }
        if pasid.is_some() {
            self.has_substreams(fields, master, answer);
        }
        if let Target::Domain(first) = domain {
            self.walks(fields, value, master, "a domain", answer)?;
            self.count(fields, first, pasid);
        }
        Some(Action::Attach { master, pasid, domain, answer })
    }

    /// Notes that this attach stands for several: of that many domains in a row, by as many PASIDs.
    fn count(&self, fields: &Fields<'_>, first: usize, pasid: Option<u32>) {
        let Some(count) = fields.number("count", 1..=u64::from(Substream::MOST_PASIDS)) else {
            return;
        };
        let domains = self.names.domains.len() - first;
        let most = pasid.map_or(0, |pasid| Substream::MOST_PASIDS.saturating_sub(pasid - 1));
        let wrong = if pasid.is_none() {
            Some("count needs pasid: a master has one domain without".to_owned())
        } else if count > domains as u64 {
            Some(format!("count = {count}, but there are {domains} domains from this one on"))
        } else if count > u64::from(most) {
            Some(format!("count = {count}, but there are {most} PASIDs from this one on"))
        } else {
            None
        };
        match wrong {
            Some(wrong) => fields.source.wrong_at(fields.places().of("count"), wrong),
            None => self.count.set(count as u32),
        }
    }

    fn detach(&self, fields: &Fields<'_>) -> Option<Action> {
        let (master, pasid) = (self.master(fields), self.pasid(fields));
        Some(Action::Detach { master: master?, pasid })
    }

    fn bind(&self, fields: &Fields<'_>) -> Option<Action> {
        let process = self.process(fields);
        let master = self.master(fields);
        let answer = self.answer(fields);
        let (process, master) = (process?, master?);
        let value = fields.get("process")?;
        self.has_substreams(fields, master, answer);
        self.walks(fields, value, master, "a process", answer)?;
        let instance = self.scenario.instances.get(self.scenario.masters.get(master)?.instance)?;
        if !instance.coherent && matches!(answer, Answer::Done) {
            fields.wrong(
                value,
                format!(
                    "instance \"{}\" of master \"{}\" is not coherent, which the tables of a process need; \
                     leave coherent out",
                    instance.name, self.names.masters[master]
                ),
            );
        }
        Some(Action::Bind { process, master, answer })
    }

    fn unbind(&self, fields: &Fields<'_>) -> Option<Action> {
        let (process, master) = (self.process(fields), self.master(fields));
        Some(Action::Unbind { process: process?, master: master? })
    }

    fn release(&self, fields: &Fields<'_>) -> Option<Action> {
        Some(Action::Release { process: self.process(fields)? })
    }

    fn replace(&self, fields: &Fields<'_>) -> Option<Action> {
        Some(Action::Replace { process: self.process(fields)? })
    }

    /// One of the scenario's own PASIDs.
    fn pasid(&self, fields: &Fields<'_>) -> Option<u32> {
        let pasid = fields.number("pasid", 1..=u64::from(Substream::MOST_PASIDS))? as u32;
        if pasid > self.scenario.pasids {
            fields.source.wrong_at(
                fields.places().of("pasid"),
                format!(
                    "pasid = {pasid} is beyond pasids = {} of the scenario",
                    self.scenario.pasids
                ),
            );
        }
        Some(pasid)
    }

    /// What an attach or a bind comes to.
    fn answer(&self, fields: &Fields<'_>) -> Answer {
        let refusals = Refusal::NAMES.map(|(name, refusal)| (name, Answer::Refused(refusal)));
        let words = [&refusals[..], &[(Answer::JUDGED, Answer::Judged)]].concat();
        fields.word("refused", &words).unwrap_or_default()
    }

    /// With which substream a DMA is done.
    fn substream(&self, fields: &Fields<'_>) -> Option<Substream> {
        let pasid = self.pasid(fields);
        let Some(value) = fields.get("process") else {
            return Some(pasid.map_or(Substream::None, Substream::Pasid));
        };
        let process = lookup(fields, "process", &self.names.processes, value)?;
        if pasid.is_some() {
            fields.wrong(value, "a DMA has one PASID; leave pasid or process out");
        }
        Some(Substream::Process(process))
    }

    /// Notes a master without substreams.
    fn has_substreams(&self, fields: &Fields<'_>, master: usize, answer: Answer) {
        if self.scenario.substream_bits(master) == 0 && answer == Answer::Done {
            fields.source.wrong_at(
                fields.places().of("master"),
                format!(
                    "master \"{}\" has no substreams; give it substream-bits, and its instance ssid-bits",
                    self.names.masters[master]
                ),
            );
        }
    }

    /// Notes an instance that cannot walk the tables of `what`.
    fn walks(
        &self,
        fields: &Fields<'_>,
        value: &Value<'_>,
        master: usize,
        what: &str,
        answer: Answer,
    ) -> Option<()> {
        let instance = self.scenario.instances.get(self.scenario.masters.get(master)?.instance)?;
        if answer == Answer::Done && !(instance.stage_1 && instance.granules.kib_4) {
            fields.wrong(
                value,
                format!(
                    "instance \"{}\" of master \"{}\" can't walk the tables of {what}; it needs stages \
                     with 1 and granules with \"4K\"",
                    instance.name, self.names.masters[master]
                ),
            );
        }
        Some(())
    }

    fn map(&self, fields: &Fields<'_>) -> Option<Action> {
        let domain = self.domain(fields);
        let kinds = [
            ("normal", MemoryKind::Normal),
            ("uncached", MemoryKind::Uncached),
            ("device", MemoryKind::Device),
        ];
        let mapping = self.mapping(fields, domain);
        let kind = fields.word("kind", &kinds).unwrap_or(MemoryKind::Normal);
        let (iova, memory, offset, length, access) = mapping?;
        Some(Action::Map { domain: domain?, iova, memory, offset, length, access, kind })
    }

    fn process_map(&self, fields: &Fields<'_>) -> Option<Action> {
        let process = self.process(fields);
        let space = process.map(|process| self.names.domains.len() + process);
        let (iova, memory, offset, length, access) = self.mapping(fields, space)?;
        Some(Action::ProcessMap { process: process?, iova, memory, offset, length, access })
    }

    /// What is mapped where, in `space` if that is known.
    fn mapping(
        &self,
        fields: &Fields<'_>,
        space: Option<usize>,
    ) -> Option<(u64, usize, u64, u64, Access)> {
        let iova = self.pages(fields, "iova", "0x10000");
        let memory = fields
            .need("memory", "\"rx\"")
            .and_then(|value| lookup(fields, "memory", &self.names.memories, value));
        let offset = match fields.get("offset") {
            Some(value) => fields.multiple("offset", PAGE, value),
            None => Some(0),
        };
        let length_value = fields.get("length");
        let given = length_value.map(|value| length(fields, value));
        let words = [("ro", Access::ReadOnly), ("rw", Access::ReadWrite)];
        let access = match fields.get("access") {
            Some(value) if value.get_ref().as_str() == Some("wo") => {
                fields.wrong(value, "access \"wo\": stage 1 can't allow writes alone; use \"rw\"");
                None
            }
            Some(_) => fields.word("access", &words),
            None => Some(Access::ReadWrite),
        };

        let (memory, offset) = (memory?, offset?);
        let size = self.scenario.memories.get(memory)?.size;
        let length = match given {
            Some(length) => length?,
            None => size.saturating_sub(offset),
        };
        if length == 0 || offset.checked_add(length).is_none_or(|end| end > size) {
            let name = &self.names.memories[memory];
            fields.source.wrong_at(
                fields.places().of(if length_value.is_some() { "length" } else { "offset" }),
                format!(
                    "map of {length:#x} bytes from offset {offset:#x} leaves memory \"{name}\", which has \
                     {size:#x} bytes"
                ),
            );
            return None;
        }
        let (space, iova) = (space?, iova?);
        self.inside(fields, space, iova, length)?;
        Some((iova, memory, offset, length, access?))
    }

    fn unmap(&self, fields: &Fields<'_>) -> Option<Action> {
        let (domain, iova, length) = self.range(fields)?;
        Some(Action::Unmap { domain, iova, length })
    }

    fn process_unmap(&self, fields: &Fields<'_>) -> Option<Action> {
        let process = self.process(fields);
        let iova = self.pages(fields, "iova", "0x10000");
        let length = fields.need("length", "\"16K\"").and_then(|value| length(fields, value));
        let (process, iova, length) = (process?, iova?, length?);
        self.inside(fields, self.names.domains.len() + process, iova, length)?;
        Some(Action::ProcessUnmap { process, iova, length })
    }

    fn reclaim(&self, fields: &Fields<'_>) -> Option<Action> {
        let (domain, iova, length) = self.range(fields)?;
        Some(Action::Reclaim { domain, iova, length })
    }

    /// A domain, and a range of pages in it.
    fn range(&self, fields: &Fields<'_>) -> Option<(usize, u64, u64)> {
        let domain = self.domain(fields);
        let iova = self.pages(fields, "iova", "0x10000");
        let length = fields.need("length", "\"16K\"").and_then(|value| length(fields, value));
        let (domain, iova, length) = (domain?, iova?, length?);
        self.inside(fields, domain, iova, length)?;
        Some((domain, iova, length))
    }

    fn write(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let substream = self.substream(fields);
        let iova = self.address(fields);
        let value = fields.need("data", "\"hello\"")?;
        let data = data(fields, "data", value)?;
        let (master, iova) = (master?, iova?);
        self.transfer(fields, iova, data.len() as u64)?;
        let device = self.scenario.masters.get(master)?.device;
        let pattern = Device::TEST_PATTERN.to_le_bytes();
        if device == Device::TestDevice && data.chunks(4).any(|chunk| chunk != pattern) {
            fields.wrong(
                value,
                format!(
                    "master \"{}\" is a testdev, which writes only {{ pattern = {:#x}, length = a multiple \
                     of 4 }}",
                    self.names.masters[master],
                    Device::TEST_PATTERN
                ),
            );
        }
        Some(Action::Write { master, substream: substream?, iova, data })
    }

    fn read(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let substream = self.substream(fields);
        let iova = self.address(fields);
        let expect_value = fields.get("expect");
        let expect = expect_value.map(|value| data(fields, "expect", value));
        let given = match fields.get("length") {
            Some(value) => Some(fields.bytes("length", value)?),
            None => None,
        };
        let expect = match expect {
            Some(expect) => Some(expect?),
            None => None,
        };
        let length = match (given, &expect) {
            (Some(length), None) => length,
            (None, Some(data)) => data.len() as u64,
            (Some(length), Some(data)) => {
                if length != data.len() as u64 {
                    fields.source.wrong_at(
                        fields.places().of("length"),
                        format!(
                            "length = {length}, but expect has {} bytes; leave length out",
                            data.len()
                        ),
                    );
                }
                length
            }
            (None, None) => {
                fields.need("length", "64")?;
                return None;
            }
        };
        let (master, iova) = (master?, iova?);
        self.transfer(fields, iova, length)?;
        if self.scenario.masters.get(master)?.device == Device::TestDevice {
            fields.source.wrong_at(
                fields.places().of("master"),
                format!(
                    "master \"{}\" is a testdev, which only writes; give it device = \"edu\"",
                    self.names.masters[master]
                ),
            );
        }
        Some(Action::Read { master, substream: substream?, iova, length, expect })
    }

    fn expect_fault(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let substream = self.substream(fields);
        let iova = match fields.get("iova") {
            Some(value) => Some(fields.bytes("iova", value)?),
            None => None,
        };
        let events: Vec<_> = EventId::ALL.iter().map(|event| (event.name(), *event)).collect();
        let event = match fields.need("event", "\"F_TRANSLATION\"") {
            Some(_) => fields.word("event", &events),
            None => None,
        };
        let write = match fields.get("access") {
            Some(_) => Some(fields.word("access", &[("read", false), ("write", true)])?),
            None => None,
        };
        let (master, substream, event) = (master?, substream?, event?);
        let dma = self.dma_of(fields, master, substream)?;
        if dma.expects_data {
            fields.source.wrong_at(
                fields.places().whole,
                "the read before expects data and a fault; leave one of them out",
            );
        }
        if let Some(iova) = iova.filter(|iova| !(dma.iova..dma.iova + dma.length).contains(iova)) {
            let last = dma.iova + (dma.length - 1);
            fields.source.wrong_at(
                fields.places().of("iova"),
                format!(
                    "{iova:#x} is not in the DMA before, which is {:#x} to {last:#x}",
                    dma.iova
                ),
            );
        }
        if write.is_some_and(|write| write != dma.write) {
            let (is, right) = if dma.write { ("a write", "write") } else { ("a read", "read") };
            fields.source.wrong_at(
                fields.places().of("access"),
                format!("the DMA before is {is}; write access = \"{right}\" or leave it out"),
            );
        }
        Some(Action::ExpectFault {
            master,
            substream,
            iova: iova.unwrap_or(dma.iova),
            event,
            write: dma.write,
        })
    }

    fn expect_blocked(&self, fields: &Fields<'_>) -> Option<Action> {
        let (master, substream) = (self.master(fields), self.substream(fields));
        let (master, substream) = (master?, substream?);
        let dma = self.dma_of(fields, master, substream)?;
        if dma.expects_data {
            fields.source.wrong_at(
                fields.places().whole,
                "the read before expects data and to be blocked; leave one of them out",
            );
        }
        Some(Action::ExpectBlocked { master, substream })
    }

    fn expect_data(&self, fields: &Fields<'_>) -> Option<Action> {
        let memory = fields
            .need("memory", "\"rx\"")
            .and_then(|value| lookup(fields, "memory", &self.names.memories, value));
        let offset = match fields.get("offset") {
            Some(value) => fields.bytes("offset", value),
            None => Some(0),
        };
        let data = fields.need("data", "\"hello\"").and_then(|value| data(fields, "data", value));
        let (memory, offset, data) = (memory?, offset?, data?);
        let size = self.scenario.memories.get(memory)?.size;
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > size) {
            fields.source.wrong_at(
                fields.places().of("offset"),
                format!(
                    "{} bytes from offset {offset:#x} leave memory \"{}\", which has {size:#x} bytes",
                    data.len(),
                    self.names.memories[memory]
                ),
            );
        }
        Some(Action::ExpectData { memory, offset, data })
    }

    fn random(&self, fields: &Fields<'_>) -> Option<Action> {
        fields.need("steps", "500");
        let steps = fields.number("steps", 1..=10_000_000);
        let seed = fields.number("seed", 0..=u64::MAX);
        let pages = fields.number("pages", 4..=65536).unwrap_or(64);
        let longest = fields.number("longest", 1..=LONGEST).unwrap_or(Random::LONGEST);
        let iova = match fields.get("iova") {
            Some(value) => fields.multiple("iova", PAGE, value),
            None => Some(RANDOM_WINDOW),
        };
        let weights = match fields.get("weights") {
            Some(value) => weights(Fields::of(fields.source, "weights", value)?)?,
            None => Weights::default(),
        };
        let iova = iova?;
        if self.names.domains.is_empty() || self.names.masters.is_empty() {
            let right =
                "random works with masters and domains; write a [[master]] and a [[domain]]";
            fields.source.wrong_at(fields.places().whole, right);
        }
        for space in 0..self.scenario.spaces() {
            self.inside(fields, space, iova, pages * PAGE)?;
        }
        Some(Action::Random(Random { steps: steps?, seed, iova, pages, longest, weights }))
    }

    fn master(&self, fields: &Fields<'_>) -> Option<usize> {
        let value = fields.need("master", "\"nic\"")?;
        lookup(fields, "master", &self.names.masters, value)
    }

    fn domain(&self, fields: &Fields<'_>) -> Option<usize> {
        let value = fields.need("domain", "\"shared\"")?;
        lookup(fields, "domain", &self.names.domains, value)
    }

    fn process(&self, fields: &Fields<'_>) -> Option<usize> {
        let value = fields.need("process", "\"shell\"")?;
        lookup(fields, "process", &self.names.processes, value)
    }

    fn pages(&self, fields: &Fields<'_>, key: &'static str, example: &str) -> Option<u64> {
        fields.multiple(key, PAGE, fields.need(key, example)?)
    }

    /// IOVA of a DMA: any address.
    fn address(&self, fields: &Fields<'_>) -> Option<u64> {
        fields.bytes("iova", fields.need("iova", "0x10000")?)
    }

    /// Whether the range lies within the input addresses of an address space.
    fn inside(&self, fields: &Fields<'_>, space: usize, iova: u64, length: u64) -> Option<()> {
        let kind = if space < self.names.domains.len() { "domain" } else { "process" };
        let input_bits = self.scenario.input_bits(space);
        let end = 1u64 << input_bits;
        if iova.checked_add(length).is_some_and(|last| last <= end) {
            return Some(());
        }
        fields.source.wrong_at(
            fields.places().of("iova"),
            format!(
                "{length:#x} bytes at {iova:#x} leave {kind} \"{}\", whose input-bits = {input_bits} end at \
                 {end:#x}",
                self.scenario.space(space)
            ),
        );
        None
    }

    /// Whether a DMA has a length and its addresses fit 64 bits.
    fn transfer(&self, fields: &Fields<'_>, iova: u64, length: u64) -> Option<()> {
        if length == 0 || length > super::data::LIMIT || iova.checked_add(length).is_none() {
            fields.source.wrong_at(
                fields.places().whole,
                format!(
                    "a DMA of {length} bytes at {iova:#x}; it has 1 byte to {} MiB and stays within 64 bits",
                    super::data::LIMIT >> 20
                ),
            );
            return None;
        }
        Some(())
    }

    /// The DMA that an expectation for `master` is about.
    fn dma_of(&self, fields: &Fields<'_>, master: usize, substream: Substream) -> Option<Dma> {
        let wrong = |message: String| {
            fields.source.wrong_at(fields.places().whole, message);
            None
        };
        let (what, name) = (&fields.what, &self.names.masters[master]);
        match self.before {
            Before::Dma(dma) if (dma.master, dma.substream) == (master, substream) => Some(dma),
            Before::Dma(dma) if dma.master == master => wrong(format!(
                "{what} for master \"{name}\", but the DMA before has another PASID; write the same pasid or \
                 process, or none"
            )),
            Before::Dma(dma) => wrong(format!(
                "{what} for master \"{name}\", but the DMA before is of \"{}\"; it must follow a write or \
                 read of \"{name}\"",
                self.names.masters[dma.master]
            )),
            Before::Nothing => wrong(format!(
                "{what} without a DMA before; it must follow a write or read of \"{name}\" (other \
                 expectations may lie between)"
            )),
            // The mistake there was noted; this step may be right.
            Before::Unknown => None,
        }
    }
}

/// The length of a mapping.
fn length(fields: &Fields<'_>, value: &Value<'_>) -> Option<u64> {
    match fields.multiple("length", PAGE, value)? {
        0 => {
            fields.wrong(value, format!("length 0 in {}; the shortest is \"4K\"", fields.what));
            None
        }
        length => Some(length),
    }
}

fn weights(fields: Fields<'_>) -> Option<Weights> {
    let mistakes = fields.source.mistakes();
    let default = Weights::default();
    let weight = |key, default| fields.number(key, 0..=1000).map_or(default, |w| w as u32);
    let weights = Weights {
        map: weight("map", default.map),
        unmap: weight("unmap", default.unmap),
        attach: weight("attach", default.attach),
        detach: weight("detach", default.detach),
        identity: weight("identity", default.identity),
        read: weight("read", default.read),
        write: weight("write", default.write),
        stale: weight("stale", default.stale),
        fault: weight("fault", default.fault),
        attach_pasid: weight("attach-pasid", default.attach_pasid),
        detach_pasid: weight("detach-pasid", default.detach_pasid),
        bind: weight("bind", default.bind),
        unbind: weight("unbind", default.unbind),
        release: weight("release", default.release),
    };
    if weights.always() == 0 {
        fields.source.wrong(fields.span.clone(), "all weights are 0; leave one of them out");
    }
    let source = fields.source;
    fields.finish();
    (source.mistakes() == mistakes).then_some(weights)
}
