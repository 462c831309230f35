// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading the steps of a scenario.

mod answer;
mod attachment;
mod dma;
mod hand_over;
mod mapping;
mod pages;
mod translate;

use std::cell::Cell;

use super::error::did_you_mean;
use super::read::{Names, lookup};
use super::source::Fields;
use super::{
    Action, Change, CommandError, PAGE, Random, Scenario, Step, Substream, Target, Weights,
};
use dma::Before;

/// IOVA of a random workload's window, if it is not given: it fits into every domain.
const RANDOM_WINDOW: u64 = 0xC000_0000;

/// Pages of the memory that random workloads map.
const LONGEST: u64 = crate::bench::POOL_BYTES / PAGE;

type Read = fn(&Reader<'_>, &Fields<'_>) -> Option<Action>;

const ACTIONS: [(&str, Read); 37] = [
    ("attach", |reader, fields| reader.attach(fields)),
    ("detach", |reader, fields| reader.detach(fields)),
    ("bind", |reader, fields| reader.bind(fields)),
    ("unbind", |reader, fields| reader.unbind(fields)),
    ("release", |reader, fields| reader.release(fields)),
    ("replace", |reader, fields| reader.replace(fields)),
    ("suspend", |reader, fields| reader.change(fields, Change::Suspend)),
    ("resume", |reader, fields| reader.change(fields, Change::Resume)),
    ("reset", |reader, fields| reader.change(fields, Change::Reset)),
    ("replug", |reader, fields| reader.change(fields, Change::Replug)),
    ("hand-over", |reader, fields| reader.hand_over(fields)),
    ("end-adoption", |reader, fields| reader.change(fields, Change::EndAdoption)),
    ("map", |reader, fields| reader.map(fields)),
    ("unmap", |reader, fields| reader.unmap(fields)),
    ("unmap-deferred", |reader, fields| reader.unmap_deferred(fields)),
    ("invalidate-all", |reader, fields| reader.invalidate_all(fields)),
    ("reclaim", |reader, fields| reader.reclaim(fields)),
    ("dirty", |reader, fields| reader.dirty(fields)),
    ("accessed", |reader, fields| reader.accessed(fields)),
    ("process-map", |reader, fields| reader.process_map(fields)),
    ("process-unmap", |reader, fields| reader.process_unmap(fields)),
    ("write", |reader, fields| reader.write(fields)),
    ("read", |reader, fields| reader.read(fields)),
    ("answer", |reader, fields| reader.answer_stall(fields)),
    ("translate", |reader, fields| reader.translate(fields)),
    ("ask", |reader, fields| reader.ask(fields)),
    ("grant", |reader, fields| reader.grant(fields)),
    ("stop", |reader, fields| reader.stop(fields)),
    ("mute", |reader, fields| reader.mute(fields)),
    ("readmit", |reader, fields| reader.readmit(fields)),
    ("claim", |reader, fields| reader.claim(fields)),
    ("command-error", |reader, fields| reader.command_error(fields)),
    ("misbehave", |reader, fields| reader.misbehave(fields)),
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
        reader.before = reader.before.after(step.as_ref().map(|step| &step.action));
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
            // In the upper half, the same place; its last page is left out.
            let base = self.scenario.base(space);
            let pages = if base == 0 { pages } else { pages - 1 };
            self.inside(fields, space, base | iova, pages * PAGE)?;
        }
        Some(Action::Random(Random { steps: steps?, seed, iova, pages, longest, weights }))
    }

    fn change(&self, fields: &Fields<'_>, change: Change) -> Option<Action> {
        let value = fields.need("instance", "\"smmu0\"")?;
        let instance = lookup(fields, "instance", &self.names.instances, value)?;
        Some(Action::Change { instance, change })
    }

    fn claim(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields)?;
        let it = self.scenario.masters.get(master)?;
        if it.keep.is_none() {
            let message = format!("firmware left nothing of master \"{}\"; give it keep", it.name);
            fields.source.wrong_at(fields.places().of("master"), message);
            return None;
        }
        Some(Action::Claim { master })
    }

    fn command_error(&self, fields: &Fields<'_>) -> Option<Action> {
        let value = fields.need("instance", "\"smmu0\"")?;
        let instance = lookup(fields, "instance", &self.names.instances, value)?;
        let error = fields.word("error", &CommandError::WORDS);
        if error.is_none() && fields.get("error").is_none() {
            fields.need("error", "\"illegal\"");
        }
        Some(Action::CommandError { instance, error: error? })
    }

    fn misbehave(&self, fields: &Fields<'_>) -> Option<Action> {
        let domain = self.domain(fields)?;
        let seed = fields.number("seed", 0..=u64::from(u32::MAX)).unwrap_or(0) as u32;
        let it = self.scenario.domains.get(domain)?;
        if it.tables.over.is_none() {
            let message = format!("domain \"{}\" is no guest's; name one with over", it.name);
            fields.source.wrong_at(fields.places().of("domain"), message);
            return None;
        }
        Some(Action::Misbehave { domain, seed })
    }

    fn mute(&self, fields: &Fields<'_>) -> Option<Action> {
        let late = fields.flag("late").unwrap_or(false);
        Some(Action::Mute { master: self.keeping(fields)?, late })
    }

    fn readmit(&self, fields: &Fields<'_>) -> Option<Action> {
        Some(Action::Readmit { master: self.keeping(fields)? })
    }

    /// A master that keeps translations.
    fn keeping(&self, fields: &Fields<'_>) -> Option<usize> {
        let master = self.master(fields)?;
        let it = self.scenario.masters.get(master)?;
        if it.ats.is_some() {
            return Some(master);
        }
        let message = format!("master \"{}\" needs ats = true for that", it.name);
        fields.source.wrong_at(fields.places().of("master"), message);
        None
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

    /// Whether the range lies within the input addresses of an address space.
    fn inside(&self, fields: &Fields<'_>, space: usize, iova: u64, length: u64) -> Option<()> {
        let kind = if space < self.names.domains.len() { "domain" } else { "process" };
        let input_bits = self.scenario.input_bits(space);
        let (base, end) = (self.scenario.base(space), 1u64 << input_bits);
        let last = iova.checked_sub(base).and_then(|iova| iova.checked_add(length));
        // No range can say that it ends where all addresses do.
        if last.is_some_and(|last| last <= end && (base == 0 || last < end)) {
            return Some(());
        }
        if base != 0 {
            fields.source.wrong_at(
                fields.places().of("iova"),
                format!(
                    "{length:#x} bytes at {iova:#x} leave domain \"{}\", whose upper half begins at {base:#x} \
                     and ends before the last page",
                    self.scenario.space(space)
                ),
            );
            return None;
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
        answer: weight("answer", default.answer),
        translate: weight("translate", default.translate),
        ask: weight("ask", default.ask),
        grant: weight("grant", default.grant),
        power: weight("power", default.power),
        reset: weight("reset", default.reset),
        replug: weight("replug", default.replug),
        defer: weight("defer", default.defer),
        mute: weight("mute", default.mute),
        command_error: weight("command-error", default.command_error),
        misbehave: weight("misbehave", default.misbehave),
        hand_over: weight("hand-over", default.hand_over),
    };
    if weights.always() == 0 {
        fields.source.wrong(fields.span.clone(), "all weights are 0; leave one of them out");
    }
    let source = fields.source;
    fields.finish();
    (source.mistakes() == mistakes).then_some(weights)
}
