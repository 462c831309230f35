// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why an access is not translated, and the event that says so (§5.4, §10).

use smmuv3_formats::event::class;
use smmuv3_formats::{EventId, EventRecord};

use crate::context::Context;
use crate::transaction::{Access, Reason};

/// Why there is no translation.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    pub(crate) event: Option<EventRecord>,
    /// The transaction is to stall, if it can.
    pub(crate) stall: bool,
}

/// A walk that found no mapping, or one that does not permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkFault {
    pub(crate) event: EventId,
    /// Address of the descriptor that could not be read.
    pub(crate) fetch: u64,
    /// For stage 2.
    pub(crate) second: Option<Second>,
}

/// What stage 2 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Second {
    /// `CLASS`: the context, a table of stage 1, or the output of stage 1.
    pub(crate) class: u64,
    pub(crate) ipa: u64,
    /// A table of stage 1 was to be written.
    pub(crate) update: bool,
}

impl WalkFault {
    /// Of stage 1.
    pub(crate) const fn first(event: EventId) -> Self {
        Self { event, fetch: 0, second: None }
    }
}

/// The record of an event about stage 1, or about neither stage, with the fields that its kind has (§10.2).
pub(crate) fn event(id: EventId, access: &Access) -> EventRecord {
    let substream = u64::from(access.substream.unwrap_or(0)) & 0xf_ffff;
    let mut record = EventRecord::default().with_id(id as u64).with_sid(access.stream.into());
    match id {
        EventId::CBadSubstreamId => record = record.with_ssid(substream),
        EventId::FStreamDisabled => {}
        _ if access.substream.is_some() => record = record.with_ssv(true).with_ssid(substream),
        _ => {}
    }
    if id.is_translation_fault() || id == EventId::FWalkEabt {
        let class = if id == EventId::FWalkEabt { class::TABLE } else { class::INPUT };
        record = record
            .with_rnw(!access.write)
            .with_ind(access.instruction && !access.write)
            .with_pnu(access.privileged)
            .with_class(class)
            .with_input_addr(access.address);
    }
    record
}

impl Stop {
    pub(crate) const fn silent(reason: Reason) -> Self {
        Self { reason, event: None, stall: false }
    }

    /// An error that is always recorded and aborts.
    pub(crate) fn recorded(id: EventId, access: &Access) -> Self {
        Self { reason: Reason::Event(id), event: Some(event(id, access)), stall: false }
    }

    /// An error with the address of what could not be read.
    pub(crate) fn fetch_abort(id: EventId, access: &Access, pa: u64) -> Self {
        const FETCH_ADDR: u64 = ((1 << 56) - 1) & !0b111;
        let record = event(id, access).with_fetch_addr(pa & FETCH_ADDR);
        Self { reason: Reason::Event(id), event: Some(record), stall: false }
    }

    /// A translation fault of stage 1, as CD.A, CD.R and CD.S want it (§5.4).
    pub(crate) fn first(id: EventId, access: &Access, context: &Context) -> Self {
        let reason = if context.abort { Reason::Event(id) } else { Reason::Ignored(id) };
        let stall = context.stall;
        let event = (context.record || stall).then(|| event(id, access));
        Self { reason, event, stall }
    }

    /// A fault of stage 2, which aborts; translation faults are recorded, or stall, as STE.S2R and STE.S2S want it
    /// (§5.4).
    pub(crate) fn second(
        fault: &WalkFault,
        second: &Second,
        access: &Access,
        (record, stall): (bool, bool),
    ) -> Self {
        const IPA: u64 = ((1 << 56) - 1) & !0xfff;
        let id = fault.event;
        let mut stop = match id {
            EventId::FWalkEabt => Self::fetch_abort(id, access, fault.fetch),
            _ => Self::recorded(id, access),
        };
        stop.stall = stall && id.is_translation_fault();
        let record = record || stop.stall || !id.is_translation_fault();
        stop.event = stop.event.filter(|_| record).map(|event| {
            let mut event = event.with_s2(true).with_class(second.class);
            if id.is_translation_fault() {
                event = event.with_fetch_addr(second.ipa & IPA);
            }
            // Whether the table was read or written, where the table is what the fault is about (§10.1).
            let about_table = id == EventId::FPermission && second.class == class::TABLE;
            event.with_ttrnw(about_table && !second.update)
        });
        stop
    }
}
