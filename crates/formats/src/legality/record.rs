// SPDX-License-Identifier: MIT OR Apache-2.0
//! What records of hardware break (§10, §13): all of it, since a record has been written and is to be judged.
//!
//! What the architecture leaves UNKNOWN breaks nothing: the SubstreamID with SSV = 0, the IPA with S2 = 0,
//! TTRnW unless CLASS is a table, STAG with Stall = 0. Nor do bits whose place is uncertain.

use super::sizes::beyond;
use super::{Implementation, Rule, reserved_bits, rule};
use crate::event::class;
use crate::{EventId, EventRecord, PageRequest, structure};

/// Tells `found` what an event record breaks (§10.1, §10.2), in itself and, where `implementation` is known, for
/// that instance. Implementation defined events break nothing.
pub fn event(
    record: &EventRecord,
    implementation: Option<&Implementation>,
    found: &mut dyn FnMut(Rule),
) {
    let Some(id) = record.event() else {
        if !matches!(record.id(), 0xe0..=0xef) {
            found(rule("10.2", "EventID", "is reserved (up to SMMUv3.4)"));
        }
        return;
    };
    let structure = structure::event(id);
    let mut bits = record.0;
    let stalls = id.is_translation_fault();
    if !stalls && id != EventId::FBadAtsTreq && record.stall() {
        found(rule("10.2", "Stall", "must be 0: only translation faults stall"));
        // Told already, and not to be told again as a reserved bit.
        bits = EventRecord(bits).with_stall(false).0;
    }
    reserved_bits(structure, &bits, found);
    // F_UUT shows what came in, before an override makes all writes data (§16.1).
    let shows_used = id != EventId::FUut;
    let has = |name| structure.field(name).is_some();
    if shows_used && has("InD") && record.ind() && !record.rnw() {
        found(rule("10.2", "InD", "must be 0 for a write"));
    }
    if has("NSIPA") && record.nsipa() {
        found(rule("10.1", "NSIPA", "must be 0 on the Non-secure event queue"));
    }
    if has("CLASS") {
        class_rules(id, record, found);
    }
    if let Some(implementation) = implementation {
        event_of_instance(id, record, implementation, found);
    }
}

/// What CLASS and S2 may be together.
fn class_rules(id: EventId, record: &EventRecord, found: &mut dyn FnMut(Rule)) {
    if record.class() == 3 {
        found(rule("10.1", "CLASS", "3 is reserved"));
    } else if record.s2() {
        // Any of the three.
    } else if id == EventId::FWalkEabt && record.class() != class::TABLE {
        found(rule("10.2", "CLASS", "must be 1 (TT) for stage 1"));
    } else if id != EventId::FWalkEabt && record.class() != class::INPUT {
        found(rule("10.2", "CLASS", "must be 2 (IN) for stage 1"));
    }
}

/// What an instance with these registers cannot have written.
fn event_of_instance(
    id: EventId,
    record: &EventRecord,
    implementation: &Implementation,
    found: &mut dyn FnMut(Rule),
) {
    use EventId as Id;
    let Implementation { idr0, idr1, idr3, .. } = implementation;
    let structure = structure::event(id);
    let has = |name| structure.field(name).is_some();
    let ats = matches!(id, Id::FBadAtsTreq | Id::FTranslForbidden);
    if ats && !idr0.ats() {
        found(rule("2.3", "EventID", "needs ATS, which the instance does not have"));
    }
    if matches!(id, Id::FCdFetch | Id::CBadCd) && !idr0.s1p() {
        found(rule("2.3", "EventID", "needs stage 1, which the instance does not have"));
    }
    if id == Id::FVmsFetch && !idr3.mpam() {
        found(rule("2.3", "EventID", "needs MPAM, which the instance does not have"));
    }
    if has("GPCF") && record.gpcf() && !idr0.rme_impl() {
        found(rule("2.3", "GPCF", "needs RME, which the instance does not have"));
    }
    if has("S2") && record.s2() && !idr0.s2p() {
        found(rule("2.3", "S2", "must be 0: the instance has no stage 2"));
    }
    // An address too large for a bypassed stage 1 is a stage-1 fault even where there is none (§9).
    let needs_stage_1 = has("CLASS") && (id != Id::FAddrSize || record.class() != class::INPUT);
    if needs_stage_1 && !idr0.s1p() && (!record.s2() || record.class() != class::INPUT) {
        found(rule("2.3", "CLASS", "needs stage 1, which the instance does not have"));
    }
    if id.is_translation_fault() && record.stall() && idr0.stall_model() == 1 {
        found(rule("2.3", "Stall", "must be 0: the instance does not stall (STALL_MODEL = 1)"));
    }
    if has("IPA") && record.s2() && beyond(record.fetch_addr(), implementation.intermediate_bits())
    {
        found(rule("10.1", "IPA", "is beyond the address size"));
    }
    stream_rules(
        ["StreamID", "SubstreamID"],
        record.sid(),
        (has("SSV") && record.ssv()).then_some(record.ssid()),
        idr1.sidsize(),
        idr1.ssidsize(),
        found,
    );
}

/// Tells `found` what a page request breaks (§13), in itself and, where `implementation` is known, for that
/// instance.
pub fn page_request(
    request: &PageRequest,
    implementation: Option<&Implementation>,
    found: &mut dyn FnMut(Rule),
) {
    if let Some(ppr) = structure::find("PPR") {
        reserved_bits(ppr, &request.0, found);
    }
    if !request.ssv() && request.execute() {
        found(rule("13", "X", "must be 0 without a PASID (SSV = 0)"));
    }
    if !request.ssv() && request.privileged() {
        found(rule("13", "Priv", "must be 0 without a PASID (SSV = 0)"));
    }
    let Some(Implementation { idr0, idr1, .. }) = implementation else {
        return;
    };
    if !idr0.pri() {
        found(rule("2.3", "PRI", "the instance takes no page requests"));
    }
    if request.ssv() && idr1.ssidsize() == 0 {
        found(rule("2.3", "SSV", "must be 0: the instance has no substreams (SSIDSIZE = 0)"));
    }
    stream_rules(
        ["SID", "SSID"],
        request.sid(),
        request.ssv().then_some(request.ssid()),
        idr1.sidsize(),
        idr1.ssidsize(),
        found,
    );
}

/// An SMMU cannot represent larger numbers than its sizes allow (§2.3). One without substreams may still be
/// offered one.
fn stream_rules(
    [sid_name, ssid_name]: [&'static str; 2],
    sid: u64,
    ssid: Option<u64>,
    sid_bits: u64,
    ssid_bits: u64,
    found: &mut dyn FnMut(Rule),
) {
    if beyond(sid, sid_bits as u32) {
        found(rule("2.3", sid_name, "is wider than StreamIDs are (SIDSIZE)"));
    }
    if ssid_bits != 0 && ssid.is_some_and(|ssid| beyond(ssid, ssid_bits as u32)) {
        found(rule("2.3", ssid_name, "is wider than SubstreamIDs are (SSIDSIZE)"));
    }
}
