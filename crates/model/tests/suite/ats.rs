// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation requests and translated transactions: the tables of §12.1 and §12.2, row by row.

use smmuv3_formats::EventId;
use smmuv3_model::{
    Access, Completion, Granted, Misuse, Profile, Reason, Stages, TranslationRequest,
};

use crate::context_table::substream_ste;
use crate::machine::*;
use crate::nested::{OFFSET, OUTPUT, OUTPUT_SLOT, a3, a3_ste, slot_of};
use crate::stage_2::both;

pub const EATS_FULL: u64 = 1 << 28;
pub const EATS_SPLIT: u64 = 2 << 28;
/// SMMUEN, EVENTQEN, CMDQEN, ATSCHK.
pub const CHECKED: u32 = 0b1_1101;

pub fn ats(profile: Profile) -> Profile {
    profile.ats(true)
}

/// A1 with ATS, checked.
pub fn a1_ats(profile: Profile) -> Machine {
    let mut machine = Machine::new(ats(profile), 1);
    machine.a1();
    let mut ste = ste_words(CD);
    ste[1] |= EATS_FULL;
    machine.ste(SID, ste);
    machine.switch(CHECKED);
    machine
}

pub fn ask(address: u64) -> TranslationRequest {
    TranslationRequest::new(SID, address)
}

fn granted(address: u64, size: u64, read: bool, write: bool) -> Completion {
    let privileged = false;
    Completion::Success(Granted { address, size, read, write, execute: false, privileged })
}

const NOTHING: Completion = Completion::Success(Granted {
    address: 0,
    size: 0x1000,
    read: false,
    write: false,
    execute: false,
    privileged: false,
});

fn ids(machine: &mut Machine) -> Vec<EventId> {
    machine.events().iter().filter_map(|event| event.event()).collect()
}

#[test]
fn a_page_is_granted_as_it_is_mapped() {
    let mut machine = a1_ats(quiet());
    assert_eq!(machine.smmu.request(ask(VA | 0x123)), granted(PA, 0x1000, true, true));
    // Read-only, then a block of 2 MiB.
    machine.put(leaf_slot(L0), PA | LEAF | 1 << 7);
    machine.command(tlbi_asid(5));
    machine.sync();
    assert_eq!(machine.smmu.request(ask(VA)), granted(PA, 0x1000, true, false));
    machine.put(L0 + 0x2d10, PA | LEAF & !2);
    machine.command(tlbi_asid(5));
    machine.sync();
    assert_eq!(machine.smmu.request(ask(VA)), granted(PA, 0x20_0000, true, true));
    assert_eq!((machine.events(), machine.misuses()), (vec![], vec![]));
}

#[test]
fn without_ats_a_request_is_unsupported_and_recorded() {
    let mut machine = a1_ats(quiet());
    let refused = |machine: &mut Machine| {
        assert_eq!(machine.smmu.request(ask(VA | 0x123)), Completion::Unsupported);
        let words = machine.events().iter().map(|event| event.0).collect::<Vec<_>>();
        // Only the identity and the address are certain (§10.2).
        assert_eq!(words, [[u64::from(SID) << 32 | 0x05, 0, VA | 0x123, 0]]);
    };
    for config in [[ste_words(CD)[0], ste_words(CD)[1]], [0x9, 1 << 44 | EATS_FULL]] {
        machine.ste(SID, [config[0], config[1], 0, 0, 0, 0, 0, 0]);
        machine.command(cfgi_ste(SID));
        machine.sync();
        refused(&mut machine);
    }
    // EATS = 3 without DPT acts as 0.
    machine.ste(SID, [ste_words(CD)[0], 0xd4 | 3 << 28, 0, 0, 0, 0, 0, 0]);
    machine.command(cfgi_ste(SID));
    machine.sync();
    refused(&mut machine);
    machine.switch(CHECKED & !1);
    refused(&mut machine);
    // Config = 0xx: nothing is said.
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.switch(CHECKED);
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!(machine.smmu.request(ask(VA)), Completion::Unsupported);
    assert_eq!(machine.events(), []);
}

#[test]
fn broken_configuration_aborts_a_request_and_is_recorded_if_that_is_wanted() {
    for recorded in [false, true] {
        type Row = (EventId, fn(&mut Machine));
        let rows: [Row; 4] = [
            (EventId::CBadSte, |machine| machine.ste(SID, [0; 8])),
            (EventId::CBadCd, |machine| machine.put(CD, 0)),
            (EventId::FCdFetch, |machine| machine.ram.break_range(CD, 8)),
            (EventId::FWalkEabt, |machine| machine.ram.break_range(L0 + 0x1240, 8)),
        ];
        for (id, spoil) in rows {
            let mut machine = a1_ats(quiet());
            machine.switch(CHECKED & !1);
            machine.smmu.write32(CR2, if recorded { 0b1010 } else { 0b10 });
            machine.switch(CHECKED);
            spoil(&mut machine);
            assert_eq!(machine.smmu.request(ask(VA)), Completion::Aborted);
            assert_eq!(ids(&mut machine), if recorded { vec![id] } else { vec![] }, "{id:?}");
        }
        let mut machine = a1_ats(quiet());
        machine.switch(CHECKED & !1);
        machine.smmu.write32(CR2, if recorded { 0b1010 } else { 0b10 });
        machine.switch(CHECKED);
        let far = TranslationRequest::new(64, VA);
        assert_eq!(machine.smmu.request(far), Completion::Aborted);
        let wanted = if recorded { vec![EventId::CBadStreamId] } else { vec![] };
        assert_eq!(ids(&mut machine), wanted);
        // A substream where there is none.
        let mut substream = ask(VA);
        substream.substream = Some(1);
        assert_eq!(machine.smmu.request(substream), Completion::Aborted);
        let wanted = if recorded { vec![EventId::CBadSubstreamId] } else { vec![] };
        assert_eq!(ids(&mut machine), wanted);
    }
}

#[test]
fn what_is_not_mapped_is_granted_nothing_and_nobody_is_told() {
    let mut machine = a1_ats(quiet());
    assert_eq!(machine.smmu.request(ask(VA + 0x1000)), NOTHING);
    assert_eq!(machine.smmu.request(ask(1 << 50)), NOTHING);
    // F_ADDR_SIZE: beyond 44 bits; then F_ACCESS.
    machine.put(leaf_slot(L0), 1 << 45 | LEAF);
    assert_eq!(machine.smmu.request(ask(VA)), NOTHING);
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 10));
    assert_eq!(machine.smmu.request(ask(VA)), NOTHING);
    // Privileged only.
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 6));
    assert_eq!(machine.smmu.request(ask(VA)), NOTHING);
    assert_eq!(machine.events(), []);
}

#[test]
fn substreams_have_rights_to_execute_and_privileged_ones() {
    let mut machine = Machine::new(ats(quiet().ssidsize(4)), 1);
    machine.tables_a1(L0, PA);
    // Executable by both.
    machine.put(leaf_slot(L0), PA | LEAF & !(0b11 << 53) | 1 << 7);
    machine.cd_at(CD + 64, cd_words(5, L0));
    let mut ste = substream_ste(CD, 0, 4);
    ste[1] = ste[1] & !3 | EATS_FULL | 1;
    machine.ste(SID, ste);
    machine.switch(CHECKED);
    let request = TranslationRequest { substream: Some(1), execute: true, ..ask(VA) };
    let expected = |execute, privileged| {
        let (address, size, read) = (PA, 0x1000, true);
        Completion::Success(Granted { address, size, read, write: false, execute, privileged })
    };
    assert_eq!(machine.smmu.request(request), expected(true, false));
    let plain = TranslationRequest { execute: false, ..request };
    assert_eq!(machine.smmu.request(plain), expected(false, false));
    let privileged = TranslationRequest { privileged: true, ..request };
    assert_eq!(machine.smmu.request(privileged), expected(true, true));
    // S1DSS = 1: without substream, everything is as it is, and Exe means nothing.
    let none = TranslationRequest { substream: None, ..privileged };
    assert_eq!(machine.smmu.request(none), granted(0, 1 << 44, true, true));
}

#[test]
fn only_who_says_that_it_may_write_marks_what_is_writable_and_clean() {
    for (no_write, write) in [(true, false), (false, true)] {
        let mut machine = a1_ats(quiet().httu(2));
        // HA, HD; DBM, AP[2] = 1.
        machine.cd_at(CD, {
            let mut cd = cd_words(5, L0);
            cd[0] |= 0b11 << 42;
            cd
        });
        let clean = PA | LEAF | 1 << 51 | 1 << 7;
        machine.put(leaf_slot(L0), clean);
        let request = TranslationRequest { no_write, ..ask(VA) };
        assert_eq!(machine.smmu.request(request), granted(PA, 0x1000, true, write));
        let marked = if write { clean & !(1 << 7) } else { clean };
        assert_eq!(machine.get(leaf_slot(L0)), marked);
    }
}

/// A3 with ATS of one kind, checked or not.
fn a3_ats(eats: u64, cr0: u32) -> Machine {
    let mut machine = a3(ats(both()), 1);
    let mut ste = a3_ste();
    ste[1] |= eats;
    machine.ste(SID, ste);
    machine.switch(cr0);
    machine
}

#[test]
fn over_stage_2_a_device_gets_physical_or_intermediate_addresses() {
    let mut machine = a3_ats(EATS_FULL, CHECKED);
    assert_eq!(machine.smmu.request(ask(VA)), granted(OUTPUT, 0x1000, true, true));
    let mut machine = a3_ats(EATS_SPLIT, CHECKED);
    assert_eq!(machine.smmu.request(ask(VA)), granted(OFFSET + PA, 0x1000, true, true));
    // Split-stage ATS needs ATSCHK.
    let mut machine = a3_ats(EATS_SPLIT, CHECKED & !(1 << 4));
    assert_eq!(machine.smmu.request(ask(VA)), Completion::Unsupported);
    assert_eq!(ids(&mut machine), [EventId::FBadAtsTreq]);
    // That it was not set is known until the STE is fetched again.
    machine.switch(CHECKED);
    assert_eq!(machine.smmu.request(ask(VA)), Completion::Unsupported);
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!(machine.smmu.request(ask(VA)), granted(OFFSET + PA, 0x1000, true, true));
    // What stage 2 does not permit is not granted; what it lacks, on the way there as well, grants nothing.
    for (at, change, expected) in [
        (OUTPUT_SLOT, 1 << 7, granted(OUTPUT, 0x1000, true, false)),
        (OUTPUT_SLOT, 1, NOTHING),
        (slot_of(CD), 1, NOTHING),
        (slot_of(L0), 1 << 6, NOTHING),
    ] {
        let mut machine = a3_ats(EATS_FULL, CHECKED);
        machine.put(at, machine.get(at) ^ change);
        assert_eq!(machine.smmu.request(ask(VA)), expected, "{at:#x} {change:#x}");
        assert_eq!(machine.events(), []);
    }
}

#[test]
fn translated_traffic_passes_where_ats_is_on_and_is_forbidden_elsewhere() {
    let forbidden = |machine: &mut Machine, write: bool| {
        let access = if write { Access::write(SID, PA) } else { Access::read(SID, PA) };
        let refusal = machine.smmu.translated(access).unwrap_err();
        assert_eq!(refusal.reason, Reason::Event(EventId::FTranslForbidden));
        let words = machine.events().iter().map(|event| event.0).collect::<Vec<_>>();
        let rnw = if write { 0 } else { 1 << 35 };
        assert_eq!(words, [[u64::from(SID) << 32 | 0x07, rnw, PA, 0]]);
    };
    let mut machine = a1_ats(quiet());
    let there = Access::write(SID, PA | 0x10);
    assert_eq!(machine.smmu.translated(there).map(|found| found.pa), Ok(PA | 0x10));
    // Beyond 44 bits.
    let refusal = machine.smmu.translated(Access::read(SID, 1 << 44)).unwrap_err();
    assert_eq!((refusal.event, refusal.reason), (None, Reason::Disabled));
    for words in [ste_words(CD), [0x9, 1 << 44 | EATS_FULL, 0, 0, 0, 0, 0, 0]] {
        machine.ste(SID, words);
        machine.command(cfgi_ste(SID));
        machine.sync();
        forbidden(&mut machine, true);
        forbidden(&mut machine, false);
    }
    // Config = 0xx aborts without a word, a broken entry too.
    for words in [[1, 0, 0, 0, 0, 0, 0, 0], [0; 8]] {
        machine.ste(SID, words);
        machine.command(cfgi_ste(SID));
        machine.sync();
        assert!(machine.smmu.translated(there).is_err());
        assert_eq!(machine.events(), []);
    }
    // Unchecked, all of it passes; with SMMUEN = 0 none does.
    machine.switch(CHECKED & !(1 << 4));
    assert_eq!(machine.smmu.translated(there).map(|found| found.pa), Ok(PA | 0x10));
    assert!(machine.smmu.translated(Access::read(64, PA)).is_ok());
    machine.switch(CHECKED & !(1 << 4 | 1));
    forbidden(&mut machine, true);
}

#[test]
fn a_split_stage_address_goes_through_stage_2() {
    let mut machine = a3_ats(EATS_SPLIT, CHECKED);
    let there = Access::write(SID, OFFSET + PA + 8);
    assert_eq!(machine.smmu.translated(there).map(|found| found.pa), Ok(OUTPUT + 8));
    let stages: Vec<_> = machine.smmu.tlb_entries().map(|entry| entry.stages).collect();
    assert_eq!(stages, [Stages::Two]);
    // Faults are recorded as those of stage 2 always are; its class is IN.
    let gone = Access { privileged: true, substream: Some(3), ..Access::read(SID, 0xff_0000_1000) };
    assert!(machine.smmu.translated(gone).is_err());
    let words = machine.events()[0].0;
    let id = u64::from(SID) << 32 | 0x10;
    assert_eq!(words, [id, 1 << 35 | 1 << 39 | 2 << 40, 0xff_0000_1000, 0xff_0000_1000]);
    // Beyond the intermediate addresses, a fault of stage 1.
    assert!(machine.smmu.translated(Access::read(SID, 1 << 44)).is_err());
    assert_eq!(ids(&mut machine), [EventId::FAddrSize]);
    assert_eq!(machine.misuses(), Vec::<Misuse>::new());
}
