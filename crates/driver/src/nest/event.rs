// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose an event is, and what of it a guest may know (§10).
//!
//! | event | owner |
//! |---|---|
//! | of a stream that the guest has not been given; of unknown kind | the host |
//! | a fault of stage 2 (S2 = 1), whatever was being accessed | the host: memory may be missing, or the guest is told ([`blamed`]) |
//! | C_BAD_STREAMID, F_STE_FETCH, C_BAD_STE, F_CFG_CONFLICT, F_VMS_FETCH | the host: its own tables are wrong |
//! | recorded before the stream was the guest's, which [`Nest::owner`](crate::nest::Nest::owner) knows | the host: it is of whoever had it then |
//! | everything else | the guest, by its own number of the stream |
//!
//! A guest is not told physical addresses (so InputAddr of F_TRANSL_FORBIDDEN is 0: a device gives there what it was given by ATS,
//! now or under an entry of before), reasons that are left to the implementation, what the architecture leaves
//! unknown, and anything that the SMMU that it is shown could not report.

use core::fmt;

use smmuv3_formats::event::{class, record};
use smmuv3_formats::{EventId, EventRecord, StreamId, legality, structure};

use crate::nest::{Guest, Streams};

/// Whose an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The guest's: this record is to be put into its event queue, if there is room.
    Guest(EventRecord),
    /// The host's.
    Host(Cause),
}

/// Why an event is the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The stream is not the guest's.
    Stream,
    /// Stage 2 refused an access. If it stalls (S2S), whoever answers it decides; else the access has ended.
    Stage2,
    /// The host's own tables.
    Configuration,
    /// The SMMU that the guest is shown reports no such thing.
    Unknown,
    /// It was a stall, and has ended with what it was subject to.
    Over,
    /// It was recorded before the stream was the guest's: it is of whoever had it then.
    Before,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "the stream is not the guest's",
            Self::Stage2 => "stage 2 refused the access",
            Self::Configuration => "it concerns the host's own tables",
            Self::Unknown => "the SMMU that the guest is shown reports no such thing",
            Self::Over => "the stall is over",
            Self::Before => "it was recorded before the stream was the guest's",
        })
    }
}

impl core::error::Error for Cause {}

/// Whose `host`, an event of the host's SMMU, is.
pub fn owner<S: Streams + ?Sized>(host: &EventRecord, guest: &Guest, streams: &S) -> Owner {
    use EventId as Id;
    // The field has 32 bits.
    let Some(stream) = streams.guest(StreamId(host.sid() as u32)) else {
        return Owner::Host(Cause::Stream);
    };
    let Some(id) = host.event() else { return Owner::Host(Cause::Unknown) };
    match id {
        Id::CBadStreamId | Id::FSteFetch | Id::CBadSte | Id::FCfgConflict | Id::FVmsFetch => {
            return Owner::Host(Cause::Configuration);
        }
        _ => {}
    }
    let has = |name| structure::event(id).field(name).is_some();
    if has("S2") && host.s2() {
        return Owner::Host(Cause::Stage2);
    }
    let mut told = EventRecord::default()
        .with_id(id as u64)
        .with_sid(u64::from(stream.0))
        // SSID is passed on only with SSV: without, the field is unknown.
        .with_ssv(has("SSV") && host.ssv());
    if has("SubstreamID") && (told.ssv() || !has("SSV")) {
        told = told.with_ssid(host.ssid());
    }
    if id.is_translation_fault() && host.stall() {
        told = told.with_stall(true).with_stag(host.stag());
    }
    if has("PnU") {
        told = told.with_pnu(host.pnu()).with_ind(host.ind());
    }
    told = told.with_rnw(has("RnW") && host.rnw());
    if has("CLASS") {
        told = told.with_class(host.class());
    }
    // Of F_TRANSL_FORBIDDEN it is what a device took for translated: of one that has full ATS the host's physical address.
    if has("InputAddr") && id != Id::FTranslForbidden {
        told = told.with_input_addr(host.input_addr());
    }
    if id == Id::EPageRequest {
        // The fields of a page request hint.
        told = EventRecord([told.0[0], host.0[1] & bits_of(id, 1), host.0[2] & bits_of(id, 2), 0]);
    }
    match is_reported(&told, id, guest) {
        true => Owner::Guest(told),
        false => Owner::Host(Cause::Unknown),
    }
}

/// What the guest is to be told of `host`, a fault of stage 2 that nothing can be done about, where its SMMU would have
/// met an address that is not there (§10.2): of its contexts F_CD_FETCH, of its tables F_WALK_EABT, each with the
/// page of the guest's memory. `None` for others: that its device gets an abort is all that a guest would see.
pub fn blamed<S: Streams + ?Sized>(
    host: &EventRecord,
    guest: &Guest,
    streams: &S,
) -> Option<EventRecord> {
    let stream = streams.guest(StreamId(host.sid() as u32))?;
    if !host.event()?.is_translation_fault() || !host.s2() {
        return None;
    }
    let base = EventRecord::default().with_sid(u64::from(stream.0)).with_ssv(host.ssv());
    let base = base.with_ssid(if host.ssv() { host.ssid() } else { 0 });
    // What is an intermediate address to the host is a physical one to the guest.
    let page = record::FTranslation(host.0).ipa();
    let (id, told) = match host.class() {
        class::CD => (EventId::FCdFetch, base.with_fetch_addr(page)),
        class::TABLE => {
            let told = base.with_class(class::TABLE).with_fetch_addr(page);
            let told = told.with_input_addr(host.input_addr()).with_rnw(host.rnw());
            (EventId::FWalkEabt, told.with_pnu(host.pnu()).with_ind(host.ind()))
        }
        _ => return None,
    };
    let told = told.with_id(id as u64);
    is_reported(&told, id, guest).then_some(told)
}

/// The SMMU that the guest is shown may have written `told`.
fn is_reported(told: &EventRecord, id: EventId, guest: &Guest) -> bool {
    let shown = guest.implementation();
    let mut clean = true;
    legality::event(told, Some(&shown), &mut |_| clean = false);
    // An SMMU without PRI reports no hints about page requests either.
    clean && (id != EventId::EPageRequest || shown.idr0.pri())
}

/// The bits of a word that an event has fields in.
fn bits_of(id: EventId, word: usize) -> u64 {
    let fields = structure::event(id).fields.iter().filter(|field| field.word == word);
    fields.fold(0, |all, field| all | field.mask())
}
