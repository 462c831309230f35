// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why something happened: causes that the evidence allows, most likely first.
//!
//! A cause says what in this record, or in the log before it, speaks for it. None is certain: a log shows what
//! an SMMU refused, not who meant what.

mod address;
mod configuration;
mod context;
mod errors;
mod fault;

use serde::Serialize;
use smmuv3_formats::EventId;

use super::history::History;
use super::record::{Kind, Record, Value};

pub use errors::{command_error, gerror, queue_timeout, sync_timeout};

/// How much speaks for a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The record says so itself.
    Certain,
    /// The evidence points here.
    Likely,
    /// Nothing speaks against it.
    Possible,
}

/// A reason for a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Names the cause: `msi-doorbell`.
    pub id: &'static str,
    /// The evidence.
    pub why: String,
    /// What to look at or do.
    pub next: &'static str,
    /// How much speaks for it.
    pub certainty: Certainty,
}

impl Cause {
    fn new(
        certainty: Certainty,
        id: &'static str,
        why: impl Into<String>,
        next: &'static str,
    ) -> Self {
        Self { id, why: why.into(), next, certainty }
    }

    pub(super) fn likely(id: &'static str, why: impl Into<String>, next: &'static str) -> Self {
        Self::new(Certainty::Likely, id, why, next)
    }

    pub(super) fn possible(id: &'static str, why: impl Into<String>, next: &'static str) -> Self {
        Self::new(Certainty::Possible, id, why, next)
    }

    pub(super) fn certain(id: &'static str, why: impl Into<String>, next: &'static str) -> Self {
        Self::new(Certainty::Certain, id, why, next)
    }
}

/// An event's fields, as causes ask for them.
#[derive(Clone, Copy, Debug)]
struct View<'a> {
    record: &'a Record,
    history: &'a History,
    sid: Option<u64>,
    ssid: Option<u64>,
    /// A read; `None` where it is not known.
    read: Option<bool>,
    instruction: bool,
    privileged: bool,
    s2: bool,
    class: Option<&'static str>,
    stall: bool,
    address: Option<u64>,
    ipa: Option<u64>,
    fetch: Option<u64>,
    gpcf: bool,
}

impl<'a> View<'a> {
    fn new(record: &'a Record, history: &'a History) -> Self {
        let get = |name: &str| record.fields().and_then(|fields| fields.get(name));
        let bit = |name: &str| match get(name) {
            Some(Value::Bool(bit)) => Some(bit),
            _ => None,
        };
        let number = |name: &str| get(name).and_then(|value| value.number());
        Self {
            record,
            history,
            sid: number("sid"),
            ssid: number("ssid"),
            read: bit("rnw"),
            instruction: bit("ind") == Some(true),
            privileged: bit("pnu") == Some(true),
            s2: bit("s2") == Some(true),
            class: match get("class") {
                Some(Value::Text(class)) => Some(class),
                _ => None,
            },
            stall: bit("stall") == Some(true),
            address: number("addr"),
            ipa: number("ipa"),
            fetch: number("fetch_addr"),
            gpcf: bit("gpcf") == Some(true),
        }
    }

    /// `a write to 0xffffe040`.
    fn access(&self) -> String {
        let what = match (self.read, self.instruction) {
            (_, true) => "an instruction fetch",
            (Some(true), _) => "a read",
            (Some(false), _) => "a write",
            (None, _) => "an access",
        };
        match (self.address, self.read) {
            (Some(address), Some(false)) => format!("{what} to {address:#x}"),
            (Some(address), _) => format!("{what} of {address:#x}"),
            (None, _) => what.to_owned(),
        }
    }
}

/// The causes of an event. `history` is what was said before it.
pub fn of(record: &Record, history: &History) -> Vec<Cause> {
    if record.kind != Kind::Event {
        return record.causes.clone();
    }
    let view = View::new(record, history);
    let id = record.id.and_then(EventId::from_code);
    let mut causes = Vec::new();
    context::before(&view, &mut causes);
    match id {
        Some(
            EventId::FTranslation
            | EventId::FAddrSize
            | EventId::FAccess
            | EventId::FPermission
            | EventId::FWalkEabt
            | EventId::FTlbConflict,
        ) => fault::of(&view, id, &mut causes),
        _ => configuration::of(&view, id, &mut causes),
    }
    context::after(&view, &mut causes);
    // Of what is equally certain, the more special was found first.
    causes.sort_by_key(|cause| cause.certainty);
    once(causes)
}

/// Each cause once: where most speaks for it.
fn once(causes: Vec<Cause>) -> Vec<Cause> {
    let mut kept: Vec<Cause> = Vec::with_capacity(causes.len());
    for cause in causes {
        if kept.iter().all(|other| other.id != cause.id) {
            kept.push(cause);
        }
    }
    kept
}
