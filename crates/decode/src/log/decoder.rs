// SPDX-License-Identifier: MIT OR Apache-2.0
//! From lines to records.

use super::assembly::{Open, What, may_begin_event};
use super::cause::{self, Cause};
use super::event::Known;
use super::history::History;
use super::kernel::Tail;
use super::line::{self, Line};
use super::made;
use super::message::{self, Message};
use super::number::Run;
use super::queue;
use super::record::{Detail, Hex, Kind, Record};
use super::stamp::{Key, Stamp};
use super::summary::{Place, Summary};
use super::{LINE, Options, features, scan, wrap};

/// Records that are being put together at once.
const OPEN: usize = 64;
/// Lines after which a record that is not whole is given up.
const LONG: u64 = 2000;
/// Lines within which the kernel's decoding follows the words.
const SOON: u64 = 16;
/// Lines within which numbers without a header belong together.
const NEAR: u64 = 2;

/// Reads a log line by line.
#[derive(Debug, Default)]
pub struct Decoder {
    options: Options,
    line: u64,
    open: Vec<Open>,
    held: Option<Held>,
    /// The last line, if it may go on in the next one: a terminal's copy has long lines wrapped.
    cut: Option<Vec<u8>>,
    history: History,
    summary: Summary,
    /// GERROR of the last line about it, whose bits the lines behind it repeat in words.
    gerror: Option<(Option<String>, u32, u64)>,
}

/// The last record, which may be repeated.
#[derive(Debug)]
struct Held {
    record: Record,
    key: Option<Key>,
    last: Place,
    last_key: Option<Key>,
}

/// Where a line is.
struct Here<'a> {
    instance: &'a Option<String>,
    stamp: &'a Option<Stamp>,
    unbound: bool,
    tagged: bool,
}

impl Decoder {
    /// At the start of a log.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.line
    }

    /// Counts lines in which there is nothing.
    pub fn skip(&mut self, lines: u64) {
        self.line += lines;
    }

    /// Reads a line, without its end. Records that are complete go to `out`.
    pub fn line(&mut self, raw: &[u8], out: &mut dyn FnMut(Record)) {
        self.line += 1;
        let raw = raw.get(..LINE).unwrap_or(raw);
        let cut = self.cut.take();
        if cut.is_none() && !scan::interesting(raw) {
            return;
        }
        let cleaned = line::clean(raw);
        if let Some(cut) = cut {
            let whole = wrap::joined(&cut, &cleaned);
            let joined = whole.is_some();
            self.line -= 1;
            self.cleaned(&whole.unwrap_or(cut), None, out);
            self.line += 1;
            if joined || !scan::interesting(raw) {
                return;
            }
        }
        if wrap::is_cut(&cleaned) {
            self.cut = Some(cleaned.into_owned());
            return;
        }
        if let Some((text, stamp)) = line::unpacked(&cleaned) {
            for part in text.split(|byte| *byte == b'\n') {
                self.cleaned(part, stamp.as_ref(), out);
            }
        } else {
            self.cleaned(&cleaned, None, out);
        }
    }

    fn cleaned(&mut self, text: &[u8], outer: Option<&Stamp>, out: &mut dyn FnMut(Record)) {
        let line = Line::split(text);
        let Some(message) = message::read(line.payload(), line.tagged) else { return };
        self.expire(out);
        let stamp = line.stamp.clone().or_else(|| outer.cloned());
        let here = Here {
            instance: &line.instance,
            stamp: &stamp,
            unbound: line.unbound,
            tagged: line.tagged,
        };
        self.message(message, &here, line.payload(), out);
    }

    /// Whether the next line must be read, whatever is in it.
    pub(super) fn wants_next(&self) -> bool {
        self.cut.is_some()
    }

    /// Reads the line that was held back, since no other follows.
    fn release_cut(&mut self, out: &mut dyn FnMut(Record)) {
        if let Some(cut) = self.cut.take() {
            self.cleaned(&cut, None, out);
        }
    }

    /// Gives out what is complete, though it might still be repeated or explained: for somebody who watches
    /// a log while it is written.
    pub fn flush(&mut self, out: &mut dyn FnMut(Record)) {
        self.release_cut(out);
        let (whole, rest) = std::mem::take(&mut self.open).into_iter().partition(Open::is_whole);
        self.open = rest;
        for open in whole {
            self.close(open, out);
        }
        self.release(out);
    }

    /// The end of the log: what is left, and the summary.
    pub fn finish(mut self, out: &mut dyn FnMut(Record)) -> Summary {
        self.release_cut(out);
        for open in std::mem::take(&mut self.open) {
            self.close(open, out);
        }
        self.release(out);
        self.summary.finish(self.line);
        self.summary
    }

    fn message(
        &mut self,
        message: Message,
        here: &Here<'_>,
        text: &[u8],
        out: &mut dyn FnMut(Record),
    ) {
        match message {
            Message::Event(code, name, bytes) => {
                self.begin(What::Event, here, out);
                if let Some(open) = self.open.last_mut() {
                    open.code = code;
                    open.name = name;
                    open.bytes = bytes;
                    open.bytes.truncate(32);
                }
            }
            Message::Skipping => self.begin(What::Command, here, out),
            Message::Run(run) => self.run(run, here, out),
            Message::Part(index, value) => self.part(index, value, here),
            Message::Stream => {}
            Message::Broken => {
                let place = self.find(here, |open| !open.is_whole());
                if let Some(open) = place.and_then(|place| self.open.get_mut(place)) {
                    open.broken = true;
                }
            }
            Message::Said(said) => {
                let place =
                    self.find(here, |open| open.what != What::Command && open.said.is_none());
                match place.and_then(|place| self.open.get_mut(place)) {
                    Some(open) => open.said = Some(said),
                    None => {
                        self.begin(What::Event, here, out);
                        if let Some(open) = self.open.last_mut() {
                            open.said = Some(said);
                        }
                    }
                }
                self.touch(here);
            }
            Message::Tail(tail) => self.tail(tail, here, out),
            Message::Ram(first, last) => self.history.add_ram(first, last, self.line),
            other => {
                // Another CPU may print this between the words of an event: they still belong to it.
                self.close_whole(here, out);
                self.single(other, here, text, out);
            }
        }
    }

    /// The open record of this SMMU that fits; where a line does not name its SMMU, the last one.
    fn find(&self, here: &Here<'_>, fits: impl Fn(&Open) -> bool) -> Option<usize> {
        self.open.iter().rposition(|open| {
            (open.instance == *here.instance || here.instance.is_none()) && fits(open)
        })
    }

    fn touch(&mut self, here: &Here<'_>) {
        let line = self.line;
        if let Some(open) = self.find(here, |_| true).and_then(|place| self.open.get_mut(place)) {
            open.last = line;
        }
    }

    /// Closes what this SMMU has open, and opens something new.
    fn begin(&mut self, what: What, here: &Here<'_>, out: &mut dyn FnMut(Record)) {
        self.close_of(here, out);
        if self.open.len() >= OPEN {
            let oldest = self.open.remove(0);
            self.close(oldest, out);
        }
        self.open.push(Open {
            instance: here.instance.clone(),
            what,
            line: self.line,
            last: self.line,
            stamp: here.stamp.clone(),
            code: None,
            name: None,
            bytes: Vec::new(),
            swapped: None,
            strict: false,
            said: None,
            broken: false,
            parts: 0,
        });
    }

    /// Bytes of an event or a command, or the start of one.
    fn run(&mut self, run: Run, here: &Here<'_>, out: &mut dyn FnMut(Record)) {
        let line = self.line;
        let near = |open: &Open| open.what != What::Raw || line - open.last <= NEAR;
        if self.find(here, |open| open.broken && open.instance.is_some()).is_some() {
            // What follows a damaged word belongs to that record, but nobody knows where.
            return;
        }
        let place = self
            .find(here, |open| open.bytes.len() < open.size() && open.said.is_none() && near(open));
        let mut bytes = &run.bytes[..];
        let mut swapped = run.swapped.as_deref();
        if let Some(open) = place.and_then(|place| self.open.get_mut(place)) {
            let (now, later) = bytes.split_at(bytes.len().min(open.size() - open.bytes.len()));
            open.bytes.extend_from_slice(now);
            match (&mut open.swapped, swapped) {
                (Some(whole), Some(swapped)) => whole.extend(swapped.iter().take(now.len())),
                (whole, _) => *whole = None,
            }
            swapped = swapped.and_then(|swapped| swapped.get(now.len()..));
            open.last = line;
            bytes = later;
            if open.what == What::Command && open.is_whole() {
                self.close_of(here, out);
            }
        }
        while !bytes.is_empty() {
            let size = bytes.len().min(32);
            let first = |bytes: &[u8]| super::number::words(bytes).0[0];
            let begins = bytes.len() >= 8 && may_begin_event(first(bytes))
                || swapped.is_some_and(|s| s.len() >= 8 && may_begin_event(first(s)));
            let other = swapped.and_then(|swapped| swapped.get(..size)).map(<[u8]>::to_vec);
            if begins {
                self.begin(What::Raw, here, out);
                if let Some(open) = self.open.last_mut() {
                    open.bytes = bytes.get(..size).unwrap_or(bytes).to_vec();
                    open.swapped = other;
                    // What an SMMU's driver printed, or somebody pasted, is surely meant.
                    open.strict = !(here.tagged || run.plain);
                }
            }
            bytes = bytes.get(size..).unwrap_or(&[]);
            swapped = swapped.and_then(|swapped| swapped.get(size..));
        }
    }

    /// A 32-bit word by its index.
    fn part(&mut self, index: usize, value: u32, here: &Here<'_>) {
        let line = self.line;
        let place =
            self.find(here, |open| open.what == What::Event && open.parts >> index & 1 == 0);
        let Some(open) = place.and_then(|place| self.open.get_mut(place)) else { return };
        open.bytes.resize(32, 0);
        if let Some(bytes) = open.bytes.get_mut(index * 4..index * 4 + 4) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        open.parts |= 1 << index;
        open.last = line;
    }

    /// The second line of the kernel's decoding ends an event.
    fn tail(&mut self, tail: Tail, here: &Here<'_>, out: &mut dyn FnMut(Record)) {
        let place =
            self.find(here, |open| open.said.as_ref().is_some_and(|said| said.tail.is_none()));
        let Some(place) = place else { return };
        let mut open = self.open.remove(place);
        if let Some(said) = &mut open.said {
            said.tail = Some(tail);
        }
        self.close(open, out);
    }

    /// Closes what is open for this SMMU.
    fn close_of(&mut self, here: &Here<'_>, out: &mut dyn FnMut(Record)) {
        while let Some(place) = self.open.iter().position(|open| open.instance == *here.instance) {
            let open = self.open.remove(place);
            self.close(open, out);
        }
    }

    /// Closes what is complete for this SMMU; all that is open where nobody names it.
    fn close_whole(&mut self, here: &Here<'_>, out: &mut dyn FnMut(Record)) {
        let named = here.instance.is_some();
        while let Some(place) = self.open.iter().position(|open| {
            let done = open.is_whole() || open.what == What::Raw || !named;
            open.instance == *here.instance && done
        }) {
            let open = self.open.remove(place);
            self.close(open, out);
        }
    }

    /// Gives up what has waited too long.
    fn expire(&mut self, out: &mut dyn FnMut(Record)) {
        while let Some(place) = self.open.iter().position(|open| {
            let patience = match (open.what, open.is_whole()) {
                (What::Raw, _) if open.instance.is_none() => NEAR,
                (_, true) => SOON,
                _ => LONG,
            };
            self.line - open.last > patience
        }) {
            let open = self.open.remove(place);
            self.close(open, out);
        }
    }

    fn close(&mut self, open: Open, out: &mut dyn FnMut(Record)) {
        let mut record = match open.what {
            What::Command => made::command(&open),
            _ => match open.event() {
                Some(known) => known.record(open.instance.clone()),
                None => return,
            },
        };
        record.line = open.line;
        let place = Self::place(&open);
        self.give(record, open.stamp, Some(place), out);
    }

    fn place(open: &Open) -> Place {
        Place { line: open.line, time: open.stamp.as_ref().map(|stamp| stamp.text.clone()) }
    }

    /// Everything that is on one line.
    fn single(
        &mut self,
        message: Message,
        here: &Here<'_>,
        text: &[u8],
        out: &mut dyn FnMut(Record),
    ) {
        let line = self.line;
        let instance = here.instance.clone();
        let known = self.history.instance(&instance);
        let unbound = here.unbound;
        let record = |kind, name: &str, problem, detail, causes: Vec<Cause>| Record {
            kind,
            name: name.to_owned(),
            id: None,
            instance: instance.clone(),
            line,
            count: 1,
            time: None,
            problem,
            detail,
            violations: Vec::new(),
            causes,
        };
        let note = |history: &mut History, note: &dyn Fn(&mut super::history::Instance)| {
            if let Some(known) = history.instance_mut(&instance) {
                note(known);
            }
        };
        let made = match message {
            Message::Gerror(value) => {
                self.gerror = Some((instance.clone(), value, line));
                made::gerror(value, &record)
            }
            Message::GerrorBit(value) => {
                // In words what the line before said in numbers.
                if let Some((of, bits, at)) = &self.gerror
                    && *of == instance
                    && bits & value == value
                    && line - at < 32
                {
                    return;
                }
                made::gerror(value, &record)
            }
            Message::CommandError(cons) => {
                let code = cons.map(|cons| cons >> 24 & 0x7f);
                if code == Some(3) {
                    note(&mut self.history, &|known| known.atc_timeout = Some(line));
                }
                let (name, meaning) =
                    code.map_or(("unknown", "the log does not say which"), queue::command_error);
                let index = cons.map(|cons| Hex::short(u64::from(cons & 0xf_ffff)));
                let detail = Detail::CmdqError { code, index, meaning: meaning.to_owned() };
                record(Kind::CmdqError, name, true, detail, cause::command_error(code))
            }
            Message::SyncTimeout(indices) => {
                note(&mut self.history, &|known| {
                    known.timeout = Some(line);
                    if unbound {
                        known.unbound = Some(line);
                    }
                });
                let diagnosis = indices
                    .map(|[at, prod, cons]| queue::diagnose(at, prod, cons, known.cmdq_log2));
                let stuck = diagnosis.as_ref().map(|diagnosis| diagnosis.stuck);
                let atc = known.atc_timeout.filter(|at| line - at < 200);
                let hex =
                    |place: usize| indices.and_then(|i| i.get(place).copied()).map(Hex::register);
                let detail = Detail::SyncTimeout {
                    index: hex(0),
                    prod: hex(1),
                    cons: hex(2),
                    diagnosis: diagnosis
                        .map_or("the log does not show PROD and CONS".to_owned(), |diagnosis| {
                            diagnosis.text
                        }),
                };
                let causes = cause::sync_timeout(stuck, unbound, atc, known.has("ATS"));
                record(Kind::SyncTimeout, "CMD_SYNC", true, detail, causes)
            }
            Message::QueueTimeout => {
                let meaning = "the command queue stayed full".to_owned();
                record(
                    Kind::QueueTimeout,
                    "CMDQ",
                    true,
                    Detail::Overflow { meaning },
                    cause::queue_timeout(),
                )
            }
            Message::Overflow(name) => {
                note(&mut self.history, &|known| known.overflow = Some(line));
                made::overflow(name, &record)
            }
            Message::Suppressed(count, name) => {
                let meaning = "the kernel kept back messages that came too fast: there were more of them than \
                               this log shows";
                let detail = Detail::Suppressed { messages: count, meaning: meaning.to_owned() };
                record(Kind::Suppressed, &name, true, detail, made::suppressed())
            }
            Message::PageRequest => return,
            Message::Request(request) => made::page_request(&request, &record),
            Message::Features(ias, oas, value) => {
                let (set, odd) = features::features(value, self.options.kernel);
                note(&mut self.history, &|known| {
                    known.started = Some(line);
                    known.oas = oas;
                    known.features = Some(set.clone());
                });
                let detail = Detail::Set { value: Hex::register(value), set, ias, oas };
                let mut made = record(Kind::Features, "features", false, detail, Vec::new());
                made.violations = odd;
                made
            }
            Message::Options(value) => {
                let set = features::options(value);
                let detail =
                    Detail::Set { value: Hex::short(u64::from(value)), set, ias: None, oas: None };
                record(Kind::Options, "options", false, detail, Vec::new())
            }
            Message::Allocated(entries, name) => {
                if name == "cmdq" && entries.is_power_of_two() {
                    note(&mut self.history, &|known| {
                        known.cmdq_log2 = Some(entries.trailing_zeros())
                    });
                }
                record(Kind::Queue, name, false, Detail::Queue { entries }, Vec::new())
            }
            Message::Guest(iova, name, region) => {
                let known = Known { name: Some(name), address: Some(iova), ..Known::default() };
                let mut made = known.record(region.or(instance));
                made.line = line;
                made.violations.clear();
                made
            }
            Message::Probe(probe) => {
                if probe.id == "firmware-left-running" {
                    note(&mut self.history, &|known| known.was_enabled = Some(line));
                }
                made::probe(probe, text, &record)
            }
            // These are not on one line.
            Message::Event(..)
            | Message::Run(_)
            | Message::Broken
            | Message::Part(..)
            | Message::Stream
            | Message::Said(_)
            | Message::Tail(_)
            | Message::Skipping
            | Message::Ram(..) => return,
        };
        self.give(made, here.stamp.clone(), None, out);
    }

    /// Holds a record back until the next one is another.
    fn give(
        &mut self,
        mut record: Record,
        stamp: Option<Stamp>,
        place: Option<Place>,
        out: &mut dyn FnMut(Record),
    ) {
        let key = stamp.as_ref().map(|stamp| stamp.key);
        record.time = stamp.map(|stamp| stamp.text);
        let place = place.unwrap_or_else(|| Place { line: record.line, time: record.time.clone() });
        if let Some(held) = &mut self.held
            && held.record.repeats(&record)
        {
            held.record.count += 1;
            held.last = place;
            held.last_key = key;
            return;
        }
        self.release(out);
        self.held = Some(Held { record, key, last: place, last_key: key });
    }

    fn release(&mut self, out: &mut dyn FnMut(Record)) {
        let Some(mut held) = self.held.take() else { return };
        if held.record.kind == Kind::Event {
            held.record.causes = cause::of(&held.record, &self.history);
        }
        self.history.note(&held.record, held.last_key.or(held.key));
        if self.options.filter.wants(&held.record, held.last_key.or(held.key)) {
            self.summary.add(&held.record, &held.last);
            out(held.record);
        } else {
            self.summary.left_out += 1;
        }
    }
}
