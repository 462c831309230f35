// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run sees of the hardware while the driver works: every store, every free, every observation of the
//! model; and what interrupts the driver.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Range;

use smmuv3::Report;
use smmuv3_formats::command::{ALL_STREAMS, CfgiCd, CfgiSte, CfgiSteRange};
use smmuv3_formats::{Command, EventId, Opcode};
use smmuv3_model::{Access, Dropped, Misuse, Observation, Transfer};

use crate::bench::{Bench, Busy, FaultKey};
use crate::mixture::{History, Kind};
use crate::oracle::{Oracle, PAGE, Rule, Use};
use crate::platform::{Observer, Point, World};
use crate::stream_table::StreamTable;

/// The eyes of a run.
pub struct Watch {
    /// The judge.
    pub oracle: Oracle,
    /// Whether the driver is interrupted.
    pub interfering: bool,
    /// What the operation under way has to itself.
    pub(crate) busy: Busy,
    /// How deep interruptions are nested.
    depth: u32,
    rng: fastrand::Rng,
    /// The stream table of each instance.
    tables: Vec<StreamTable>,
    /// By instance, stream and structure.
    histories: BTreeMap<(usize, u32, Kind), History>,
    /// Faults that the operation under way must cause.
    expected: Vec<FaultKey>,
    /// Faults that interruptions caused.
    caused: Vec<FaultKey>,
    /// Operations that interrupted another one.
    pub interruptions: u64,
    /// What hardware did during the operation under way: instance and observation.
    log: VecDeque<(usize, Observation)>,
    /// Instances with a TLBI that no CMD_SYNC has completed.
    unfinished: BTreeSet<usize>,
    /// The machine has models, which observe.
    models: bool,
    /// Calls that the driver refused although nothing was wrong with them.
    pub refusal: Option<String>,
}

/// Observations kept of one operation.
const LOG_LENGTH: usize = 48;

impl Watch {
    /// For so many instances; `seed` is that of interruptions.
    pub fn new(instances: usize, seed: u64) -> Self {
        Self {
            oracle: Oracle::new(instances),
            interfering: false,
            busy: None,
            depth: 0,
            rng: fastrand::Rng::with_seed(seed),
            tables: Vec::new(),
            histories: BTreeMap::new(),
            expected: Vec::new(),
            caused: Vec::new(),
            interruptions: 0,
            log: VecDeque::new(),
            unfinished: BTreeSet::new(),
            models: false,
            refusal: None,
        }
    }

    /// The driver is at `point`: notes it, lets hardware act, and takes what hardware did.
    pub fn at(&mut self, world: &World, point: Point) {
        match point {
            Point::Published { pa, bytes: 8 } => self.stored(world, pa),
            Point::Freeing { pa, bytes } => self.freeing(world, pa, bytes),
            Point::Published { .. } | Point::Idle => {}
        }
        world.machine().act();
        self.collect(world);
    }

    /// Another operation begins: starts the randomness of interruptions anew, so that one operation does not
    /// depend on those before.
    pub fn begin(&mut self, seed: u64) {
        self.log.clear();
        self.rng = fastrand::Rng::with_seed(seed);
    }

    /// Another instance, with its stream table.
    pub fn add_instance(&mut self, table: StreamTable) {
        self.tables.push(table);
    }

    /// Follows the entry of `stream` from its present content on.
    pub fn watch_stream(&mut self, world: &World, instance: usize, stream: u32) {
        let entry = |table: &StreamTable| table.entry(world.machine().ram(), stream);
        let Some(pa) = self.tables.get(instance).and_then(entry) else { return };
        let history = History::new(Kind::Ste, pa, words(world, pa));
        self.histories.insert((instance, stream, Kind::Ste), history);
    }

    /// Notes a call that failed although it should not have.
    pub(crate) fn refuse(&mut self, text: impl fmt::Display) {
        self.refusal.get_or_insert_with(|| text.to_string());
    }

    /// The operation under way must cause `fault`.
    pub(crate) fn expect(&mut self, fault: FaultKey) {
        self.expected.push(fault);
    }

    /// The access of `master` at `iova` must cause `event`.
    pub(crate) fn expect_fault(&mut self, master: usize, event: EventId, iova: u64, write: bool) {
        let (instance, streams) = self.oracle.streams(master);
        let Some(stream) = streams.first().copied() else { return };
        let page = iova & !(PAGE - 1);
        self.expect(FaultKey { instance, stream, event, page, write });
    }

    /// Compares the faults that were reported with those that had to come, and leaves the latter.
    pub(crate) fn settle_faults(&mut self, reported: &mut Vec<FaultKey>) {
        let mut expected = std::mem::take(&mut self.expected);
        expected.sort_unstable();
        expected.dedup();
        let caused = std::mem::take(&mut self.caused);
        for missing in expected.iter().filter(|fault| !reported.contains(fault)) {
            let text = format!(
                "{} of stream {:#x} at {:#x} was not reported",
                missing.event.name(),
                missing.stream,
                missing.page
            );
            self.oracle.accuse(Rule::R9, text);
        }
        reported.retain(|fault| {
            expected.contains(fault)
                || !caused.iter().any(|other| {
                    (other.instance, other.stream) == (fault.instance, fault.stream)
                        && (other.page == fault.page && other.write == fault.write
                            || !fault.event.is_translation_fault())
                })
        });
        if let Some(extra) = reported.iter().find(|fault| !expected.contains(fault)) {
            let text = format!(
                "{} of stream {:#x} at {:#x} was reported, but nothing was wrong",
                extra.event.name(),
                extra.stream,
                extra.page
            );
            self.oracle.accuse(Rule::R0, text);
        }
    }

    /// The driver reported something of `instance`.
    pub(crate) fn report(&mut self, instance: usize, report: &Report) {
        match report {
            Report::Event(record) => {
                if self.models {
                    self.oracle.reported(instance, *record);
                }
            }
            Report::EventsLost(_) => self.oracle.reported_loss(instance),
            other => self.refuse(format_args!("instance {instance} reported {other:?}")),
        }
    }

    /// Takes what the models observed.
    pub fn collect(&mut self, world: &World) {
        for instance in 0..self.tables.len() {
            let Some(observations) = world.observations(instance) else { return };
            self.models = true;
            for observation in observations {
                self.observe(instance, observation);
            }
        }
    }

    /// What hardware did last, in words.
    pub(crate) fn log(&self) -> Vec<String> {
        let line = |(instance, observation): &(usize, Observation)| {
            format!("instance {instance}: {observation:x?}")
        };
        self.log.iter().map(line).collect()
    }

    fn observe(&mut self, instance: usize, observation: Observation) {
        if self.oracle.violation().is_none() {
            if self.log.len() == LOG_LENGTH {
                self.log.pop_front();
            }
            self.log.push_back((instance, observation.clone()));
        }
        match observation {
            Observation::Command { command, .. } => {
                self.order(instance, command);
                self.told(instance, command);
            }
            Observation::SyncCompleted { .. } => {
                self.unfinished.remove(&instance);
                self.synchronised(instance);
            }
            Observation::EventRecorded(event) => self.oracle.recorded(instance, event),
            Observation::EventDropped { because: Dropped::Full, .. } => self.oracle.lost(instance),
            Observation::Performed { access, pa, .. } => {
                if let Some(master) = self.oracle.master_of(instance, access.stream) {
                    let Access { address, write, .. } = access;
                    self.oracle.reached(master, address, write, pa, "a delayed");
                }
            }
            Observation::TagConflict { tag, ttb_old, ttb_new, stream } => {
                let text = format!(
                    "{tag} was given to the tables at {ttb_new:#x} (stream {stream:#x}) while caches \
                     still hold it for those at {ttb_old:#x}"
                );
                self.oracle.accuse(Rule::R2, text);
            }
            Observation::Misuse(misuse) => {
                let rule = match misuse {
                    Misuse::AsidTooWide { .. }
                    | Misuse::VmidTooWide { .. }
                    | Misuse::TagDisagreement { .. } => Rule::R2,
                    _ => Rule::Misuse,
                };
                self.oracle.accuse(rule, misuse);
            }
            Observation::Unsupported(what) => {
                self.oracle.accuse(Rule::Misuse, format_args!("the model does not have {what}"));
            }
            _ => {}
        }
    }

    /// Rule R7: translations are gone before device caches are, and nothing is said about a stream any more
    /// that was detached.
    fn order(&mut self, instance: usize, command: Command) {
        let name = command.name();
        if name.starts_with("CMD_TLBI") {
            self.unfinished.insert(instance);
        }
        if command.opcode() == Some(Opcode::AtcInv) && self.unfinished.contains(&instance) {
            let text = format!("instance {instance} got {command} before the TLBI was complete");
            self.oracle.accuse(Rule::R7, text);
        }
        let one_stream = matches!(
            command.opcode(),
            Some(Opcode::CfgiSte | Opcode::CfgiCd | Opcode::CfgiCdAll | Opcode::AtcInv)
        );
        let stream = CfgiSte(command.0).sid() as u32;
        if one_stream
            && let Some(master) = self.oracle.master_of(instance, stream)
            && self.oracle.using(master) == Use::Blocked
            && !self.oracle.is_changing(master)
        {
            let text = format!("instance {instance} got {command}, but the stream was detached");
            self.oracle.accuse(Rule::R7, text);
        }
    }

    fn told(&mut self, instance: usize, command: Command) {
        let streams: Range<u64> = match command.opcode() {
            Some(Opcode::CfgiSte) => one(CfgiSte(command.0).sid()),
            Some(Opcode::CfgiCd) => one(CfgiCd(command.0).sid()),
            Some(Opcode::CfgiCdAll) => one(CfgiSte(command.0).sid()),
            Some(Opcode::CfgiSteRange) => {
                let range = CfgiSteRange(command.0);
                if range.range() == ALL_STREAMS {
                    0..u64::MAX
                } else {
                    let count = 2u64 << range.range();
                    let first = range.sid() & !(count - 1);
                    first..first + count
                }
            }
            _ => return,
        };
        let contexts_only = matches!(command.opcode(), Some(Opcode::CfgiCd | Opcode::CfgiCdAll));
        for ((at, stream, kind), history) in &mut self.histories {
            if *at == instance
                && streams.contains(&u64::from(*stream))
                && (*kind == Kind::Cd || !contexts_only)
            {
                history.told();
            }
        }
    }

    fn synchronised(&mut self, instance: usize) {
        let mut mixtures = Vec::new();
        for ((at, stream, kind), history) in &mut self.histories {
            if *at == instance
                && let Err(words) = history.synchronised()
            {
                mixtures.push((*stream, *kind, words));
            }
        }
        for (stream, kind, words) in mixtures {
            let text = format!(
                "hardware could read the {kind:?} of stream {stream:#x} as {words:#x?}, which is \
                 neither its old nor its new content"
            );
            self.oracle.accuse(Rule::R4, text);
        }
        self.forget_unreachable(instance);
    }

    /// Contexts that no entry leads to any more cannot be read.
    fn forget_unreachable(&mut self, instance: usize) {
        let reachable: Vec<(u32, Vec<u64>)> = self
            .histories
            .iter()
            .filter(|((at, _, kind), _)| *at == instance && *kind == Kind::Ste)
            .map(|((_, stream, _), history)| (*stream, history.contexts()))
            .collect();
        for (stream, contexts) in reachable {
            let key = (instance, stream, Kind::Cd);
            if self.histories.get(&key).is_some_and(|history| !contexts.contains(&history.pa)) {
                self.histories.remove(&key);
            }
        }
    }

    /// A word of memory that hardware reads was stored.
    fn stored(&mut self, world: &World, pa: u64) {
        let Some(value) = world.machine().ram().read64(pa) else { return };
        let mut linked = Vec::new();
        for ((instance, stream, kind), history) in &mut self.histories {
            if (history.pa..history.pa + 64).contains(&pa) {
                history.stored(((pa - history.pa) / 8) as usize, value);
                if *kind == Kind::Ste {
                    linked
                        .extend(history.contexts().into_iter().map(|pa| (*instance, *stream, pa)));
                }
            }
        }
        for (instance, stream, pa) in linked {
            let key = (instance, stream, Kind::Cd);
            if self.histories.get(&key).is_none_or(|history| history.pa != pa) {
                self.histories.insert(key, History::new(Kind::Cd, pa, words(world, pa)));
            }
        }
    }

    /// Memory is about to be freed.
    fn freeing(&mut self, world: &World, pa: u64, bytes: u64) {
        for instance in 0..self.tables.len() {
            let Some(model) = world.machine().model(instance) else { return };
            if let Some(reference) = model.references(pa, bytes) {
                drop(model);
                let text = format!(
                    "{bytes} bytes at {pa:#x} are freed while instance {instance} can still read \
                     them: {reference}"
                );
                self.oracle.accuse(Rule::R3, text);
            }
        }
    }

    /// After an unmap of `range` has returned: no instance holds any of it.
    pub fn after_unmap(&mut self, world: &World, domain: usize, range: &Range<u64>) {
        let root = self.oracle.root(domain);
        for instance in 0..self.tables.len() {
            let Some(model) = world.machine().model(instance) else { return };
            let stale = model.tlb_entries().find(|entry| {
                entry.ttb == root && entry.va < range.end && entry.va + entry.size > range.start
            });
            let stale = stale.map(|entry| {
                format!("{} still leads {:#x} to {:#x}", entry.tag, entry.va, entry.pa)
            });
            let held = model.held().find(|held| {
                held.entry.as_ref().is_some_and(|entry| entry.ttb == root)
                    && range.contains(&held.access.address)
            });
            let held = held.map(|held| {
                format!(
                    "an access to {:#x} is still on its way to {:#x}",
                    held.access.address, held.pa
                )
            });
            drop(model);
            if let Some(what) = stale.or(held) {
                let text = format!(
                    "unmap of {:#x}..{:#x} has returned, but on instance {instance} {what}",
                    range.start, range.end
                );
                // An instance that the domain is just being attached on was missed by both sides.
                let joining = self.oracle.is_joining(domain, instance);
                self.oracle.accuse(if joining { Rule::R5 } else { Rule::R1 }, text);
            }
        }
    }

    /// After a change of `master` has returned: its instance uses the new configuration, and nothing is left of
    /// a domain that it was the last to use.
    pub fn after_attach(&mut self, world: &World, master: usize, before: Use) {
        let (instance, streams) = self.oracle.streams(master);
        let streams = streams.to_vec();
        for stream in &streams {
            for kind in [Kind::Ste, Kind::Cd] {
                let history = self.histories.get(&(instance, *stream, kind));
                if self.models && history.is_some_and(|history| !history.is_settled()) {
                    let text = format!(
                        "the {kind:?} of stream {stream:#x} was changed without a completed CFGI and SYNC"
                    );
                    self.oracle.accuse(Rule::R4, text);
                }
            }
        }
        let Some(model) = world.machine().model(instance) else { return };
        let cached = model.cached_stes().into_iter().chain(model.cached_cds());
        let stale = cached
            .filter(|entry| streams.contains(&entry.stream) && entry.complete && entry.differs)
            .map(|entry| (entry.stream, entry.substream.is_some()))
            .next();
        let held = model
            .held()
            .filter(|held| streams.contains(&held.access.stream))
            .map(|held| (held.access, held.pa))
            .collect::<Vec<_>>();
        let root = match before {
            Use::Domain(domain) if !self.oracle.is_used_on(domain, instance) => {
                Some(self.oracle.root(domain))
            }
            _ => None,
        };
        let left = root.and_then(|root| {
            let translation = model.tlb_entries().find(|entry| entry.ttb == root);
            let walk = model.walk_entries().find(|entry| entry.ttb == root);
            translation.map(|entry| entry.tag).or(walk.map(|entry| entry.tag))
        });
        drop(model);
        if let Some((stream, context)) = stale {
            let rule = if before == Use::Blocked { Rule::R0 } else { Rule::R1 };
            let what = if context { "context" } else { "stream table entry" };
            let text = format!(
                "the change of stream {stream:#x} has returned, but instance {instance} still uses \
                 its old {what}"
            );
            self.oracle.accuse(rule, text);
        }
        for (access, pa) in held {
            self.oracle.reached(master, access.address, access.write, pa, "a delayed");
        }
        if let Some(tag) = left {
            let text =
                format!("{tag} was given back on instance {instance} while its TLB holds it");
            self.oracle.accuse(Rule::R2, text);
        }
    }

    /// Chooses an access of a device at a moment when the driver is at work.
    fn choose_access(&mut self) -> Option<(usize, u64, bool)> {
        let master = self.rng.usize(0..self.oracle.masters().max(1));
        let Use::Domain(domain) = self.oracle.using(master) else {
            return Some((master, 0xc000_0000 + PAGE * self.rng.u64(0..64), self.rng.bool()));
        };
        let mapped = self.oracle.pages(domain, 0..u64::MAX).count();
        let gone = self.oracle.gone(domain, 0..u64::MAX).count();
        let write = self.rng.bool();
        let iova = if mapped > 0 && (gone == 0 || self.rng.u8(..) < 200) {
            let nth = self.rng.usize(0..mapped);
            self.oracle.pages(domain, 0..u64::MAX).nth(nth)?.0
        } else if gone > 0 {
            let nth = self.rng.usize(0..gone);
            self.oracle.gone(domain, 0..u64::MAX).nth(nth)?.0
        } else {
            return None;
        };
        Some((master, iova + 8 * self.rng.u64(0..PAGE / 8), write))
    }

    /// A device accesses memory at a moment when the driver is at work.
    pub fn interrupt_by_access(&mut self, world: &World) {
        let Some((master, iova, write)) = self.choose_access() else { return };
        let (instance, streams) = self.oracle.streams(master);
        let Some(stream) = self.rng.choice(streams).copied() else { return };
        let delayed = self.rng.u8(..) < 128;
        let Some(mut model) = world.machine().model(instance) else { return };
        let access = if write { Access::write(stream, iova) } else { Access::read(stream, iova) };
        let outcome = if delayed {
            let transfer =
                if write { Transfer::Write(vec![self.rng.u8(..); 8]) } else { Transfer::Read(8) };
            model.hold(access, transfer)
        } else {
            model.translate(access)
        };
        drop(model);
        self.interruptions += 1;
        match outcome {
            Ok(translation) => {
                self.oracle.reached(master, iova, write, translation.pa, "an interrupting");
            }
            Err(_) => {
                self.oracle.refused(master, iova, write, "an interrupting");
                let (event, page) = (EventId::FTranslation, iova & !(PAGE - 1));
                self.caused.push(FaultKey { instance, stream, event, page, write });
            }
        }
    }

    /// Chooses a run of mapped pages that nobody is changing, to be unmapped.
    fn choose_unmap(&mut self) -> Option<(usize, u64, u64)> {
        let domain = self.rng.usize(0..self.oracle.domains().max(1));
        let free = |iova: u64| {
            self.busy.as_ref().is_none_or(|(busy, range)| *busy != domain || !range.contains(&iova))
        };
        let pages: Vec<u64> = self
            .oracle
            .pages(domain, Bench::WINDOW..u64::MAX)
            .filter(|(iova, page)| !page.changing && free(*iova))
            .map(|(iova, _)| iova)
            .collect();
        let first = self.rng.choice(&pages)?;
        if let Some(block) = self.oracle.block(domain, *first) {
            let whole = block.clone().step_by(PAGE as usize).all(|iova| pages.contains(&iova));
            return whole.then_some((domain, block.start, block.end - block.start));
        }
        let run = pages
            .iter()
            .skip_while(|iova| *iova < first)
            .zip(0u64..self.rng.u64(1..5))
            .take_while(|(iova, index)| {
                **iova == first + index * PAGE && self.oracle.block(domain, **iova).is_none()
            })
            .count();
        Some((domain, *first, run as u64 * PAGE))
    }
}

fn one(stream: u64) -> Range<u64> {
    stream..stream + 1
}

fn words(world: &World, pa: u64) -> [u64; 8] {
    std::array::from_fn(|index| world.machine().ram().read64(pa + 8 * index as u64).unwrap_or(0))
}

impl Bench {
    /// Interruptions only unmap from here on: below are the mappings of a scenario's own steps.
    pub(crate) const WINDOW: u64 = 0xc000_0000;
}

impl Observer for Bench {
    fn at(&self, point: Point, interruptible: bool) {
        let mut watch = self.watch();
        watch.at(&self.world, point);
        if !watch.interfering {
            return;
        }
        if watch.rng.u8(..) < 24 {
            watch.interrupt_by_access(&self.world);
        }
        if interruptible && watch.depth == 0 && watch.rng.u8(..) < 4 {
            let Some((domain, iova, bytes)) = watch.choose_unmap() else { return };
            watch.depth += 1;
            watch.interruptions += 1;
            drop(watch);
            self.unmap(domain, iova, bytes);
            self.watch().depth -= 1;
        }
    }
}
