// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose events are.

use super::*;
use crate::nest::event::{blamed, owner};
use smmuv3_formats::EventRecord;

/// Stream 0x11 of the guest.
const SID: u64 = 0x3_0000 << 32;
const TOLD: u64 = 0x11 << 32;
/// Substream 5.
const SSID: u64 = 5 << 12 | 1 << 11;

fn told(words: [u64; 4]) -> Result<[u64; 4], Cause> {
    match owner(&EventRecord(words), &guest(), &STREAMS) {
        Owner::Guest(record) => Ok(record.0),
        Owner::Host(cause) => Err(cause),
    }
}

#[test]
fn a_fault_of_stage_1_is_the_guests_by_its_own_number() {
    // F_TRANSLATION of a write, then of a privileged read of an instruction; CLASS = IN.
    for w1 in [0x0200_0000_0000, 0x020e_0000_0000] {
        let words = |sid| [sid | SSID | 0x10, w1, 0xffff_0000_1234_5678, 0];
        assert_eq!(told(words(SID)), Ok(words(TOLD)));
    }
    for id in [0x11, 0x12, 0x13] {
        let words = |sid| [sid | id, 0x0200_0000_0000, 0x1234_5678, 0];
        assert_eq!(told(words(SID)), Ok(words(TOLD)));
    }
}

#[test]
fn what_is_unknown_or_the_hosts_is_not_told() {
    // STAG without Stall, an IPA without S2, TTRnW without a table, SSID without SSV; reserved bits, too.
    let noise = [SID | 7 << 12 | 1 << 9 | 0x13, 0x1200_0000_abcd, 0x1234_5678, 0x00ff_ffff_f000];
    assert_eq!(told(noise), Ok([TOLD | 0x13, 0x0200_0000_0000, 0x1234_5678, 0]));
    // The physical address, the reason and GPCF of a fetch that was aborted: of a context, of a table.
    let fetch = [SID | SSID | 0x09, 0x1_1234, 0, 0xdead_0000];
    assert_eq!(told(fetch), Ok([TOLD | SSID | 0x09, 0, 0, 0]));
    let walk = [SID | 0x0b, 0x0108_0001_1234, 0x5678, 0xdead_0000];
    assert_eq!(told(walk), Ok([TOLD | 0x0b, 0x0108_0000_0000, 0x5678, 0]));
    // The reason of F_UUT and of F_TLB_CONFLICT.
    assert_eq!(told([SID | 0x01, 0x0a_0000_1234, 0x5678, 0]), {
        Ok([TOLD | 0x01, 0x0a_0000_0000, 0x5678, 0])
    });
    let conflict = [SID | 0x20, 0x08_0000_1234, 0x5678, 0xdead_0000];
    assert_eq!(told(conflict), Ok([TOLD | 0x20, 0x08_0000_0000, 0x5678, 0]));
}

#[test]
fn events_about_its_tables_are_the_guests() {
    // C_BAD_CD, F_STREAM_DISABLED, C_BAD_SUBSTREAMID: no SSV, its substream always counts.
    assert_eq!(told([SID | SSID | 0x0a, 0, 0, 0]), Ok([TOLD | SSID | 0x0a, 0, 0, 0]));
    assert_eq!(told([SID | 0x06, 0, 0, 0]), Ok([TOLD | 0x06, 0, 0, 0]));
    for substream in [9 << 12, 0x100 << 12] {
        let words = |sid| [sid | substream | 0x08, 0, 0, 0];
        assert_eq!(told(words(SID)), Ok(words(TOLD)));
    }
    // ATS, which it is shown.
    assert_eq!(told([SID | SSID | 0x05, 0, 0x7000, 0]), Ok([TOLD | SSID | 0x05, 0, 0x7000, 0]));
    // What its device took for translated was the host's address, or may have been.
    let forbidden = |sid, address| [sid | 0x07, 0x08_0000_0000, address, 0];
    assert_eq!(told(forbidden(SID, 0x7000)), Ok(forbidden(TOLD, 0)));
}

#[test]
fn faults_of_stage_2_are_the_hosts() {
    // Of the input, of a table, of a context; each TRF, a walk that was aborted, a conflict.
    for id in [0x0b, 0x10, 0x11, 0x12, 0x13, 0x20] {
        for class in 0..3 {
            let words = [SID | id, class << 40 | 1 << 39, 0x1234_5678, 0x8000_1000];
            assert_eq!(told(words), Err(Cause::Stage2), "{id:#x}");
        }
    }
}

#[test]
fn events_about_the_hosts_tables_and_of_unknown_kind_are_the_hosts() {
    for id in [0x02, 0x03, 0x04, 0x21, 0x25] {
        assert_eq!(told([SID | id, 0, 0, 0]), Err(Cause::Configuration), "{id:#x}");
    }
    for id in [0x00, 0x0c, 0x30, 0xe0, 0xff] {
        assert_eq!(told([SID | id, 0, 0, 0]), Err(Cause::Unknown), "{id:#x}");
    }
}

#[test]
fn streams_of_others_are_nobodys_business() {
    for stream in [0, 0x11, 0x80, 0x3_0001] {
        let words = [stream << 32 | 0x10, 0x0200_0000_0000, 0x1234_5678, 0];
        assert_eq!(told(words), Err(Cause::Stream), "{stream:#x}");
    }
}

#[test]
fn the_guest_is_told_nothing_that_its_smmu_could_not_report() {
    // A stall, although it is shown none: whoever holds the transaction has to end it.
    let stall = [SID | 0x10, 0x0200_8000_0003, 0x1234_5678, 0];
    assert_eq!(told(stall), Err(Cause::Unknown));
    // A substream beyond its 8 bits that was translated; a page request, with PRI not shown.
    let wide = 0x100 << 12 | 1 << 11;
    assert_eq!(told([SID | wide | 0x10, 0x0200_0000_0000, 0, 0]), Err(Cause::Unknown));
    assert_eq!(told([SID | 0x24, 0x88_0000_0000, 0x7000, 0]), Err(Cause::Unknown));
    // ATS, not shown.
    let plain = guest_of(&rich(), |shown| shown.idr0 = shown.idr0.with_ats(false));
    let request = EventRecord([SID | 0x05, 0, 0x7000, 0]);
    assert_eq!(owner(&request, &plain, &STREAMS), Owner::Host(Cause::Unknown));
}

#[test]
fn stalls_and_page_requests_are_handed_on_where_they_are_shown() {
    let guest = guest_of(&rich(), |shown| {
        shown.idr0 = shown.idr0.with_stall_model(0).with_pri(true);
    });
    let told = |words| owner(&EventRecord(words), &guest, &STREAMS);
    let stall = |sid| [sid | SSID | 0x10, 0x0200_8000_0003, 0x1234_5678, 0];
    assert_eq!(told(stall(SID)), Owner::Guest(EventRecord(stall(TOLD))));
    // A stall of stage 2 all the same is not.
    let mut lower = stall(SID);
    lower[1] |= 1 << 39;
    assert_eq!(told(lower), Owner::Host(Cause::Stage2));
    // pR, uR, Span 3.
    let request = |sid| [sid | SSID | 0x24, 3 << 44 | 1 << 39 | 1 << 35, 0x1234_5000, 0];
    assert_eq!(told(request(SID)), Owner::Guest(EventRecord(request(TOLD))));
}

#[test]
fn a_hole_in_the_guests_memory_is_an_abort_of_its_own_tables() {
    let blame = |words| blamed(&EventRecord(words), &guest(), &STREAMS).map(|record| record.0);
    // F_TRANSLATION, S2, privileged read; IPA 0x8000_1000. CLASS = CD is F_CD_FETCH, TT is F_WALK_EABT of stage 1.
    let words = |class: u64| [SID | SSID | 0x10, class << 40 | 0x8a_0000_0000, 0x5678, 0x8000_1000];
    assert_eq!(blame(words(0)), Some([TOLD | SSID | 0x09, 0, 0, 0x8000_1000]));
    let walk = [TOLD | SSID | 0x0b, 0x010a_0000_0000, 0x5678, 0x8000_1000];
    assert_eq!(blame(words(1)), Some(walk));
    // Of what its device accesses, it sees an abort and no event.
    assert_eq!(blame(words(2)), None);
    // No fault of stage 2.
    assert_eq!(blame([SID | 0x10, 0x0200_0000_0000, 0x5678, 0]), None);
    assert_eq!(blame([SID | 0x0b, 1 << 39, 0x5678, 0xdead_0000]), None);
    assert_eq!(blame([0x999 << 32 | 0x10, 0x80_0000_0000, 0, 0]), None);
}
