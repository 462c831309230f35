// SPDX-License-Identifier: MIT OR Apache-2.0
//! The JSON object form of Chrome's trace-event format, written event by event.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

/// What an event says besides its name.
pub(crate) type Args = Map<String, Value>;

/// The operands that are worth telling, by name.
pub(crate) fn args<const N: usize>(pairs: [(&str, Value); N]) -> Args {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An address, a tag or a stream, as people write it.
pub(super) fn hex(value: impl Into<u64>) -> Value {
    format!("{:#x}", value.into()).into()
}

/// One event; `ph` is its phase: a complete span (X), an instant (i), or metadata (M).
#[derive(Debug, Serialize)]
struct Event<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    ph: char,
    /// Microseconds.
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u64,
    tid: u64,
    /// Of an instant: that it belongs to its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<char>,
    args: &'a Args,
}

/// A track: process and thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) pid: u64,
    pub(super) tid: u64,
}

/// Where events go.
pub(super) struct File {
    out: Box<dyn Write + Send>,
    /// Why nothing more is written.
    failed: Option<io::Error>,
    begun: bool,
    empty: bool,
}

impl File {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, failed: None, begun: false, empty: true }
    }

    /// Begins the object; `about` says what the trace is of.
    pub(super) fn begin(&mut self, about: &Args) {
        self.begun = true;
        let about = json(about);
        self.write(
            format!("{{\"displayTimeUnit\":\"ns\",\"otherData\":{about},\"traceEvents\":[")
                .as_bytes(),
        );
    }

    /// From `begin` to `end`, in nanoseconds.
    pub(super) fn span(&mut self, at: Ids, name: &str, cat: &str, time: [u64; 2], args: &Args) {
        let [begin, end] = time;
        let dur = Some(micros(end.saturating_sub(begin)));
        let Ids { pid, tid } = at;
        self.event(&Event { name, cat, ph: 'X', ts: micros(begin), dur, pid, tid, s: None, args });
    }

    /// At one moment, in nanoseconds.
    pub(super) fn instant(&mut self, at: Ids, name: &str, cat: &str, time: u64, args: &Args) {
        let (Ids { pid, tid }, ts, s) = (at, micros(time), Some('t'));
        self.event(&Event { name, cat, ph: 'i', ts, dur: None, pid, tid, s, args });
    }

    /// Something about a process or a thread.
    pub(super) fn metadata(&mut self, at: Ids, name: &str, args: &Args) {
        let Ids { pid, tid } = at;
        self.event(&Event { name, cat: "", ph: 'M', ts: 0.0, dur: None, pid, tid, s: None, args });
    }

    fn event(&mut self, event: &Event<'_>) {
        let separator: &[u8] = if self.empty { b"\n" } else { b",\n" };
        self.empty = false;
        self.write(separator);
        self.write(json(event).as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
    }

    /// Completes the object.
    ///
    /// # Errors
    /// The first one there was.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begin(&Args::new());
        }
        self.write(b"\n]}\n");
        match self.failed.take() {
            None => self.out.flush(),
            Some(error) => Err(error),
        }
    }
}

fn json(value: &impl Serialize) -> String {
    // Only maps with other keys than text, and types that fail by themselves, cannot be serialised.
    serde_json::to_string(value).unwrap_or_default()
}

/// The format's unit. Exact to the nanosecond for the first hundred days.
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}
