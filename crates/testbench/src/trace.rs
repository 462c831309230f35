// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run in time: what the driver was asked to do, what it told each SMMU and how long it waited, and what the
//! SMMUs did. In Chrome's trace-event format, which Perfetto and browsers open; docs/trace.md describes it.

mod file;

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use smmuv3::{Change, Completion, Report};
use smmuv3_formats::{Command, EventRecord, Opcode};
use smmuv3_model::{Dropped, Interrupts, Observation};

use crate::platform::TestPlatform;
use crate::scenario::Scenario;
use crate::trace::file::{File, Ids, hex};

pub(crate) use crate::trace::file::{Args, args};

/// Nanoseconds of a moment. The world's clock only moves while the driver waits or looks at it: without the
/// moments that everything noted takes on top of that, what happens in between would lie on one spot.
const MOMENT: u64 = 100;
/// Moments of a command, of an STE or CD that is fetched, of a descriptor that a walk reads, and of an event record
/// that is written.
const COMMAND: u64 = 4;
const FETCH: u64 = 2;
const DESCRIPTOR: u64 = 2;
const RECORD: u64 = 8;
/// Nanoseconds that spans keep away from what is beside and around them: viewers round.
const GAP: u64 = 20;

/// A handle to the trace of a run.
#[derive(Clone)]
pub struct Tracer(Arc<Mutex<Trace>>);

impl Tracer {
    /// Traces to `out`, which gets many small writes: a [`std::io::BufWriter`] is best.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Trace {
            file: File::new(Box::new(out)),
            clock: 0,
            moments: 0,
            calls: Vec::new(),
            instances: Vec::new(),
            observed: false,
            retags: None,
        })))
    }

    /// Completes the file. What is under way ends here.
    ///
    /// # Errors
    /// The first error of the writer; nothing was written after it.
    pub fn finish(&self) -> io::Result<()> {
        self.with(|trace| {
            while !trace.calls.is_empty() {
                trace.end("unfinished", "call", &Args::new());
            }
            for instance in 0..trace.instances.len() {
                trace.end_waits(instance, false, |_| true);
            }
            trace.file.end()
        })
    }

    /// Notes something at `clock` nanoseconds.
    pub(crate) fn at(&self, clock: u64, note: impl FnOnce(&mut Trace)) {
        self.with(|trace| {
            trace.clock = trace.clock.max(clock);
            note(trace);
        });
    }

    fn with<R>(&self, action: impl FnOnce(&mut Trace) -> R) -> R {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

/// The trace so far: what is under way. All else is in the file already.
pub(crate) struct Trace {
    file: File,
    clock: u64,
    /// Moments that passed on top of the clock.
    moments: u64,
    /// When each step and call under way began, innermost last.
    calls: Vec<u64>,
    instances: Vec<Instance>,
    /// The machine tells what its SMMUs do.
    observed: bool,
    /// When each change of a tag under way began; what has a track is shown on it.
    retags: Option<Vec<(Change, u64)>>,
}

/// What is under way on one SMMU.
#[derive(Debug, Default)]
struct Instance {
    name: String,
    /// CMD_SYNCs write messages.
    messages: bool,
    /// CMD_SYNCs that are waited for, each on a track of its own: waits overlap, spans of a track may not.
    waits: Vec<Option<Wait>>,
    /// What the walk under way has read: name and operands.
    walk: Vec<(String, Args)>,
}

/// A wait for a CMD_SYNC.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Its slot, with the wrap bit.
    index: u32,
    /// Its queue, and log2 of that one's length.
    queue: usize,
    log2: u32,
    begin: u64,
}

impl Wait {
    /// Whether the SMMU is past it when CMDQ_CONS.RD is `cons` (§3.1).
    const fn is_over(&self, cons: u32) -> bool {
        let size = 1u32 << self.log2;
        let ahead = cons.wrapping_sub(self.index) & (2 * size - 1);
        1 <= ahead && ahead <= size
    }
}

/// A track of the trace. The driver is one process, each SMMU another.
#[derive(Clone, Copy, Debug)]
enum Track {
    /// Steps of the scenario, and the driver's calls in them.
    Calls,
    /// What the driver reported.
    Reports,
    /// What the driver does within a call, and cannot be seen from without.
    Inside,
    Waits(usize, usize),
    Commands(usize),
    Walks(usize),
    Events(usize),
}

impl Track {
    fn ids(self) -> Ids {
        // Some viewers give processes 0 and threads that two processes share a meaning of their own.
        let (pid, thread) = match self {
            Self::Calls => (1, 1),
            Self::Reports => (1, 2),
            Self::Inside => (1, 3),
            Self::Commands(instance) => (instance + 2, 1),
            Self::Walks(instance) => (instance + 2, 2),
            Self::Events(instance) => (instance + 2, 3),
            Self::Waits(instance, lane) => (instance + 2, 10 + lane),
        };
        Ids { pid: pid as u64, tid: (pid * 1000 + thread) as u64 }
    }

    fn name(self) -> String {
        match self {
            Self::Calls => "steps and calls".to_owned(),
            Self::Reports => "reports".to_owned(),
            Self::Inside => "changes within calls".to_owned(),
            Self::Waits(_, 0) => "SYNC waits".to_owned(),
            Self::Waits(_, lane) => format!("SYNC waits {}", lane + 1),
            Self::Commands(_) => "commands".to_owned(),
            Self::Walks(_) => "fetches and walks".to_owned(),
            Self::Events(_) => "events".to_owned(),
        }
    }

    /// Where it is shown below its process.
    const fn order(self) -> usize {
        match self {
            Self::Calls => 0,
            Self::Reports => 1,
            Self::Inside => 2,
            Self::Waits(_, lane) => 10 + lane,
            Self::Commands(_) => 1000,
            Self::Walks(_) => 1001,
            Self::Events(_) => 1002,
        }
    }
}

/// What the driver, or a device, is at.
impl Trace {
    /// Begins the trace of `scenario`; `observed` says whether the machine's SMMUs tell what they do.
    pub(crate) fn open(&mut self, scenario: &Scenario, machine: &str, seed: u64, observed: bool) {
        self.observed = observed;
        self.file.begin(&args([
            ("scenario", scenario.name.as_str().into()),
            ("machine", machine.into()),
            ("seed", seed.into()),
        ]));
        self.process(Track::Calls, "driver");
        self.thread(Track::Calls);
        self.thread(Track::Reports);
        for (index, instance) in scenario.instances.iter().enumerate() {
            let messages = instance.queues.completion == Completion::Message
                && instance.msi
                && instance.coherent;
            let name = instance.name.clone();
            self.instances.push(Instance { name, messages, ..Instance::default() });
            self.process(Track::Commands(index), &instance.name);
            self.thread(Track::Commands(index));
            if observed {
                self.thread(Track::Walks(index));
                self.thread(Track::Events(index));
            }
        }
    }

    /// A moment passes: the driver made a store visible, or touched a register.
    pub(crate) fn pass(&mut self) {
        self.moments += 1;
    }

    /// A step or a call begins; it lies within the one that began before it.
    pub(crate) fn begin(&mut self) {
        let now = self.take(1);
        self.calls.push(now);
    }

    /// The step or call that began last ends.
    pub(crate) fn end(&mut self, name: &str, cat: &str, args: &Args) {
        let Some(begin) = self.calls.pop() else { return };
        let end = self.take(1);
        self.file.span(Track::Calls.ids(), name, cat, [begin, end], args);
    }

    /// The driver reported something of `instance`.
    pub(crate) fn report(&mut self, instance: usize, report: &Report<TestPlatform>) {
        let name = self.instances.get(instance).map_or("", |instance| &instance.name);
        let smmu = Value::from(name);
        let (name, mut args) = match report {
            Report::Event(record) | Report::Aborted(record) => event(record),
            Report::Stalled(fault) => event(&fault.record()),
            Report::EventsLost(lost) => ("events lost", args([("what", lost.to_string().into())])),
            Report::Pages(group) => (
                "pages asked for",
                args([
                    ("stream", hex(group.group().stream.0)),
                    ("pages", (group.len() as u64).into()),
                ]),
            ),
            Report::PageDenied { page, why } => (
                "page denied",
                args([("stream", hex(page.group.stream.0)), ("why", format!("{why:?}").into())]),
            ),
            Report::PasidStopped { stream, pasid } => {
                ("PASID stopped", args([("stream", hex(stream.0)), ("PASID", pasid.0.into())]))
            }
            Report::PagesLost(lost) => {
                ("page requests lost", args([("what", lost.to_string().into())]))
            }
            Report::CommandError { command, code } => (
                "command error",
                args([("command", command.to_string().into()), ("code", (*code).into())]),
            ),
            Report::GlobalError(error) => ("global error", args([("GERROR", hex(error.0))])),
            other => ("failed", args([("why", format!("{other:?}").into())])),
        };
        args.insert("instance".to_owned(), smmu);
        let now = self.take(1);
        self.file.instant(Track::Reports.ids(), name, "report", now, &args);
    }

    /// The driver did something within a call. Commands, waits and reports are noted where they show themselves.
    pub(crate) fn driver(&mut self, event: &smmuv3::Trace<'_>) {
        let tag = |tag: smmuv3::Tag| Value::from(format!("{tag:?}"));
        match *event {
            smmuv3::Trace::Begun(change @ Change::Retag { .. }) => {
                let now = self.take(1);
                self.inside().push((change, now));
            }
            smmuv3::Trace::Ended { change, done } => {
                let Change::Retag { instance, space, from, to } = change else { return };
                let begun = self.inside().iter().rposition(|(known, _)| *known == change);
                let Some(begun) = begun.map(|at| self.inside().swap_remove(at).1) else { return };
                let now = self.take(1);
                let args = args([
                    ("instance", self.name(instance.index()).into()),
                    ("space", space.into()),
                    ("from", tag(from)),
                    ("to", tag(to)),
                    ("done", done.into()),
                ]);
                self.file.span(Track::Inside.ids(), "change a tag", "change", [begun, now], &args);
            }
            smmuv3::Trace::Quarantined { instance, stream } => {
                self.inside();
                let args = args([("instance", instance.as_str().into()), ("sid", hex(stream.0))]);
                self.instant(Track::Inside, "cut a device off", "change", &args);
            }
            smmuv3::Trace::Held { space, start, bytes, waiting } => {
                self.inside();
                let names: Vec<Value> =
                    waiting.iter().map(|index| self.name(index).into()).collect();
                let args = args([
                    ("space", space.into()),
                    ("address", hex(start)),
                    ("bytes", hex(bytes)),
                    ("until these are reset", names.into()),
                ]);
                self.instant(Track::Inside, "keep a range from use", "change", &args);
            }
            _ => {}
        }
    }

    fn name(&self, instance: usize) -> String {
        self.instances.get(instance).map(|instance| instance.name.clone()).unwrap_or_default()
    }

    /// The changes of tags under way; from the first on they have a track.
    fn inside(&mut self) -> &mut Vec<(Change, u64)> {
        if self.retags.is_none() {
            self.thread(Track::Inside);
        }
        self.retags.get_or_insert_default()
    }

    /// The driver gave `instance` a command in slot `index` (with the wrap bit) of a queue of 2^`log2`.
    pub(crate) fn given(
        &mut self,
        (instance, queue): (usize, usize),
        log2: u32,
        index: u32,
        command: Command,
    ) {
        if !self.observed {
            self.command(instance, index, command);
        }
        if command.opcode() != Some(Opcode::Sync) {
            return;
        }
        let begin = self.now();
        let Some(state) = self.instances.get_mut(instance) else { return };
        let free = state.waits.iter().position(Option::is_none);
        let lane = free.unwrap_or(state.waits.len());
        let wait = Some(Wait { index, queue, log2, begin });
        match state.waits.get_mut(lane) {
            Some(place) => *place = wait,
            None => {
                state.waits.push(wait);
                self.thread(Track::Waits(instance, lane));
            }
        }
    }

    /// The driver read CONS of a queue of `instance`: this is where it learns that a CMD_SYNC is complete.
    pub(crate) fn consumer(&mut self, (instance, queue): (usize, usize), cons: u32) {
        self.end_waits(instance, true, |wait| wait.queue == queue && wait.is_over(cons));
    }

    /// A CMD_SYNC is complete. Where it writes a message, the driver learns of it by that, and reads no register.
    fn told(&mut self, instance: usize, queue: usize) {
        let Some(state) = self.instances.get(instance).filter(|state| state.messages) else {
            return;
        };
        let waits = state.waits.iter().flatten().filter(|wait| wait.queue == queue);
        if let Some(first) = waits.map(|wait| (wait.begin, wait.index)).min() {
            self.end_waits(instance, true, |wait| {
                wait.queue == queue && (wait.begin, wait.index) == first
            });
        }
    }

    /// A command queue of `instance` begins anew, or nobody looks at it any more.
    pub(crate) fn abandon(&mut self, (instance, queue): (usize, usize)) {
        self.end_waits(instance, false, |wait| wait.queue == queue);
    }

    fn end_waits(&mut self, instance: usize, complete: bool, over: impl Fn(&Wait) -> bool) {
        let end = self.now();
        let Some(state) = self.instances.get_mut(instance) else { return };
        for (lane, place) in state.waits.iter_mut().enumerate() {
            if let Some(wait) = place.take_if(|wait| over(wait)) {
                let track = Track::Waits(instance, lane).ids();
                let args = args([("slot", hex(wait.index)), ("complete", complete.into())]);
                // It is a moment old at least.
                let end = end.max(wait.begin + MOMENT);
                self.file.span(track, "wait for CMD_SYNC", "wait", [wait.begin, end], &args);
            }
        }
        self.moments += 1;
    }
}

/// What an SMMU does.
impl Trace {
    /// The model of `instance` did this.
    pub(crate) fn observe(&mut self, instance: usize, observation: &Observation) {
        match observation {
            Observation::Command { index, command, .. } => self.command(instance, *index, *command),
            Observation::SyncCompleted { queue, .. } => self.told(instance, *queue),
            Observation::Applied { removed, .. } => {
                let args = args([("entries", (*removed).into())]);
                self.instant(Track::Commands(instance), "invalidated", "command", &args);
            }
            Observation::SteFetched { stream, pa, speculative, .. } => {
                let args = args([("sid", hex(*stream)), ("pa", hex(*pa))]);
                let name = if *speculative { "prefetch STE" } else { "fetch STE" };
                self.fetch(instance, name, &args);
            }
            Observation::CdFetched { stream, substream, pa, speculative, .. } => {
                let args =
                    args([("sid", hex(*stream)), ("ssid", hex(*substream)), ("pa", hex(*pa))]);
                let name = if *speculative { "prefetch CD" } else { "fetch CD" };
                self.fetch(instance, name, &args);
            }
            Observation::WalkedTo { level, table, .. } => {
                let args = args([("table", hex(*table))]);
                self.walk_part(instance, format!("level {level}"), args);
            }
            Observation::TlbFilled { tag, va, pa, size, .. } => {
                let args = args([
                    ("tag", tag.to_string().into()),
                    ("va", hex(*va)),
                    ("pa", hex(*pa)),
                    ("bytes", hex(*size)),
                ]);
                self.walk_part(instance, "leaf".to_owned(), args);
            }
            Observation::Walked { stream, va, descriptors, fault, speculative } => {
                let mut args = args([
                    ("sid", hex(*stream)),
                    ("address", hex(*va)),
                    ("descriptors", (*descriptors).into()),
                ]);
                if let Some(fault) = fault {
                    args.insert("fault".to_owned(), fault.name().into());
                }
                let name = if *speculative { "prefetch walk" } else { "walk" };
                self.walked(instance, name, *descriptors, &args);
            }
            Observation::EventRecorded(record) => {
                let (name, args) = event(record);
                self.instant(Track::Events(instance), name, "event", &args);
                self.moments += RECORD;
            }
            Observation::EventMerged(record) => {
                let (name, args) = event(record);
                self.instant(Track::Events(instance), &format!("{name} merged"), "event", &args);
            }
            Observation::EventDropped { event: record, because } => {
                let (name, mut args) = event(record);
                let because = match because {
                    Dropped::Disabled => "the event queue is disabled",
                    Dropped::Full => "the event queue is full",
                    Dropped::Error => "the event queue had an error",
                    Dropped::Abort => "the event queue cannot be written",
                    Dropped::Late => "it did not arrive in the event queue",
                };
                args.insert("lost".to_owned(), because.into());
                self.instant(Track::Events(instance), &format!("{name} lost"), "lost", &args);
            }
            Observation::Performed { access, pa, drained, .. } => {
                let args = args([
                    ("sid", hex(access.stream)),
                    ("address", hex(access.address)),
                    ("pa", hex(*pa)),
                    ("forced by a CMD_SYNC", (*drained).into()),
                ]);
                let name = if access.write { "delayed write" } else { "delayed read" };
                self.instant(Track::Walks(instance), name, "dma", &args);
            }
            Observation::Gerror(error) => {
                let args = args([("GERROR", hex(error.0))]);
                self.instant(Track::Events(instance), "global error", "event", &args);
            }
            // What a judge wants to know takes no time; it is in the report.
            _ => {}
        }
    }

    /// Wired interrupts of `instance` became pending.
    pub(crate) fn interrupts(&mut self, instance: usize, pending: Interrupts) {
        let Interrupts { eventq, gerror, .. } = pending;
        for (name, pending) in [("EVENTQ interrupt", eventq), ("GERROR interrupt", gerror)] {
            if pending {
                self.instant(Track::Events(instance), name, "interrupt", &Args::new());
            }
        }
    }

    fn command(&mut self, instance: usize, index: u32, command: Command) {
        let mut args = args([("slot", hex(index))]);
        for field in command.opcode().map_or(&[][..], Opcode::fields).iter().skip(1) {
            let value = command.field(field.name).unwrap_or(0);
            if value != 0 || matches!(field.name, "SID" | "ASID" | "Addr") {
                args.insert(field.name.to_owned(), hex(value));
            }
        }
        let begin = self.take(COMMAND);
        let time = [begin, begin + COMMAND * MOMENT - GAP];
        self.file.span(Track::Commands(instance).ids(), command.name(), "command", time, &args);
    }

    fn walk_part(&mut self, instance: usize, name: String, args: Args) {
        if let Some(state) = self.instances.get_mut(instance) {
            state.walk.push((name, args));
        }
    }

    /// A walk ended: it takes a moment for each descriptor.
    fn walked(&mut self, instance: usize, name: &str, descriptors: u64, args: &Args) {
        let Some(state) = self.instances.get_mut(instance) else { return };
        let parts = std::mem::take(&mut state.walk);
        let moments = DESCRIPTOR * descriptors.max(parts.len() as u64).max(1);
        let begin = self.take(moments);
        let track = Track::Walks(instance).ids();
        self.file.span(track, name, "walk", [begin, begin + moments * MOMENT - GAP], args);
        let part = DESCRIPTOR * MOMENT;
        for ((name, args), begin) in parts.iter().zip((begin..).step_by(part as usize)) {
            let time = [begin + GAP, begin + part - 2 * GAP];
            self.file.span(track, name, "walk", time, args);
        }
    }
}

impl Trace {
    fn now(&self) -> u64 {
        self.clock + self.moments * MOMENT
    }

    /// Now, and so many moments pass.
    fn take(&mut self, moments: u64) -> u64 {
        let now = self.now();
        self.moments += moments;
        now
    }

    fn fetch(&mut self, instance: usize, name: &str, args: &Args) {
        let begin = self.take(FETCH);
        let time = [begin, begin + FETCH * MOMENT - GAP];
        self.file.span(Track::Walks(instance).ids(), name, "fetch", time, args);
    }

    fn instant(&mut self, track: Track, name: &str, cat: &str, args: &Args) {
        let now = self.take(1);
        self.file.instant(track.ids(), name, cat, now, args);
    }

    fn process(&mut self, track: Track, name: &str) {
        let Ids { pid, .. } = track.ids();
        let at = Ids { pid, tid: 0 };
        self.file.metadata(at, "process_name", &args([("name", name.into())]));
        self.file.metadata(at, "process_sort_index", &args([("sort_index", pid.into())]));
    }

    fn thread(&mut self, track: Track) {
        let (at, order) = (track.ids(), track.order());
        self.file.metadata(at, "thread_name", &args([("name", track.name().into())]));
        self.file.metadata(at, "thread_sort_index", &args([("sort_index", order.into())]));
    }
}

/// The name and the operands of an event record.
fn event(record: &EventRecord) -> (&'static str, Args) {
    let mut args = args([("sid", hex(record.sid()))]);
    let Some(id) = record.event() else {
        args.insert("record".to_owned(), format!("{:x?}", record.0).into());
        return ("unknown event", args);
    };
    args.insert("meaning".to_owned(), id.meaning().into());
    let has = |name| id.fields().iter().any(|field| field.name == name);
    if has("RnW") {
        let access = if record.rnw() { "read" } else { "write" };
        args.insert("access".to_owned(), access.into());
    }
    if has("InputAddr") {
        args.insert("address".to_owned(), hex(record.input_addr()));
    }
    (id.name(), args)
}

/// The operands of something that `who` does to, or with, a range of input addresses.
pub(crate) fn range(who: (&str, &str), iova: u64, bytes: u64) -> Args {
    args([(who.0, who.1.into()), ("iova", hex(iova)), ("bytes", hex(bytes))])
}
