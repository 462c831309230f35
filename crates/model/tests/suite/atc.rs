// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices keep, which CMD_ATC_INV makes them forget it, and what a CMD_SYNC waits for (§4.2, §3.2).

use smmuv3_formats::command::{AtcInv, CfgiSte};
use smmuv3_formats::{Command, EventId};
use smmuv3_model::{
    Access, Adversary, Answers, AtcEntry, Endpoint, Misuse, Observation, Profile, Reason, Transfer,
};

use crate::ats::{CHECKED, EATS_FULL, EATS_SPLIT, a1_ats, ats};
use crate::context_table::substream_ste;
use crate::machine::*;
use crate::nested::{OFFSET, OUTPUT, OUTPUT_SLOT, a3, a3_ste};
use crate::stage_2::both;

const BUFFER: u64 = 0x8070_0000;

pub fn on() -> Endpoint {
    Endpoint::default().ats(true)
}

/// A1 with a device that has ATS on.
fn with_device(profile: Profile) -> Machine {
    let mut machine = a1_ats(profile);
    machine.smmu.plug(SID, on());
    machine
}

fn entries(machine: &Machine) -> Vec<AtcEntry> {
    machine.smmu.endpoint(SID).unwrap().atc().iter().copied().collect()
}

/// Where the device's read goes.
fn reads(machine: &mut Machine, address: u64) -> Result<u64, Reason> {
    let found = machine.smmu.access(Access::read(SID, address));
    found.map(|found| found.pa).map_err(|refusal| refusal.reason)
}

pub fn atc_inv(addr: u64, size: u64) -> AtcInv {
    AtcInv::new().with_sid(SID.into()).with_addr(addr).with_size(size)
}

#[test]
fn what_was_granted_is_kept_and_used_until_the_device_is_told() {
    let mut machine = with_device(quiet());
    assert_eq!(reads(&mut machine, VA | 8), Ok(PA | 8));
    assert_eq!(entries(&machine).len(), 1);
    // Unmapped, and the TLB told: the device does not know.
    machine.put(leaf_slot(L0), 0);
    machine.command(tlbi_asid(5));
    machine.sync();
    assert_eq!(reads(&mut machine, VA | 8), Ok(PA | 8));
    // Nor does it forget while it is switched off.
    machine.smmu.endpoint_mut(SID).unwrap().ats = false;
    assert!(matches!(reads(&mut machine, VA), Err(Reason::Event(EventId::FTranslation))));
    machine.smmu.endpoint_mut(SID).unwrap().ats = true;
    assert_eq!(reads(&mut machine, VA | 8), Ok(PA | 8));
    machine.command(atc_inv(VA, 0));
    machine.sync();
    assert_eq!(entries(&machine), []);
    assert_eq!(reads(&mut machine, VA | 8), Err(Reason::NotGranted));
}

#[test]
fn more_rights_are_asked_for_and_nothing_is_kept_of_a_refusal() {
    let mut machine = with_device(quiet());
    machine.put(leaf_slot(L0), PA | LEAF | 1 << 7);
    assert_eq!(reads(&mut machine, VA), Ok(PA));
    let write = machine.smmu.access(Access::write(SID, VA)).unwrap_err();
    assert_eq!(write.reason, Reason::NotGranted);
    assert_eq!(reads(&mut machine, VA + 0x1000), Err(Reason::NotGranted));
    assert_eq!(entries(&machine).len(), 1);
    machine.put(leaf_slot(L0), PA | LEAF);
    machine.command(tlbi_asid(5));
    machine.sync();
    assert_eq!(machine.smmu.access(Access::write(SID, VA)).map(|found| found.pa), Ok(PA));
    assert_eq!(machine.events(), []);
}

#[test]
fn a_span_is_a_power_of_two_of_pages_around_its_address() {
    // Bytes of the span from VA & !0xffff on: 4 KiB << Size.
    for (addr, size, gone) in [
        (VA, 0, true),
        (VA + 0x1000, 0, false),
        // 0x12_3456_6000 and 7000.
        (VA - 0x1000, 1, true),
        (VA + 0x1000, 1, false),
        (VA & !0xffff, 4, true),
        (VA ^ 0x10000, 4, false),
        (VA ^ 0x10000, 5, true),
        (u64::MAX << 12, 51, false),
        (u64::MAX << 12, 52, true),
        (0, 52, true),
    ] {
        let mut machine = with_device(quiet());
        reads(&mut machine, VA).unwrap();
        machine.command(atc_inv(addr, size));
        machine.sync();
        assert_eq!(entries(&machine).is_empty(), gone, "{addr:#x} {size}");
        assert_eq!(machine.misuses(), []);
    }
    // A block goes when a span is anywhere in it.
    let mut machine = with_device(quiet());
    machine.put(L0 + 0x2d10, PA | LEAF & !2);
    reads(&mut machine, VA).unwrap();
    machine.command(atc_inv(VA ^ 0x10000, 0));
    machine.sync();
    assert_eq!(entries(&machine), []);
}

#[test]
fn spans_that_mean_nothing_are_reported_and_others_streams_are_not_meant() {
    let mut machine = with_device(quiet());
    reads(&mut machine, VA).unwrap();
    machine.smmu.observations();
    machine.command(atc_inv(0, 53));
    machine.command(atc_inv(0, 52).with_ssv(true).with_ssid(1));
    machine.command(AtcInv::new().with_sid(1 << 20).with_size(52));
    machine.command(AtcInv::new().with_sid(u64::from(SID) + 1).with_size(52));
    machine.sync();
    let misuses = machine.misuses();
    assert!(
        matches!(
            misuses[..],
            [
                Misuse::BadRange { .. },
                Misuse::NoSuchStream { stream: SID, substream: 1 },
                Misuse::NoSuchStream { stream: 0x10_0000, .. },
            ]
        ),
        "{misuses:?}"
    );
    assert_eq!(entries(&machine).len(), 1);
    // Smaller than the smallest unit.
    let mut machine = Machine::new(ats(quiet().granules(false, false, true)), 1);
    machine.command(atc_inv(0, 3));
    assert!(matches!(machine.misuses()[..], [Misuse::BadRange { .. }]));
    machine.command(atc_inv(0, 4));
    assert_eq!(machine.misuses(), []);
    // Ignored while SMMUEN is 0, and illegal without ATS even then.
    let mut machine = with_device(quiet());
    reads(&mut machine, VA).unwrap();
    machine.switch(CHECKED & !1);
    machine.command(atc_inv(0, 52));
    machine.sync();
    assert_eq!(entries(&machine).len(), 1);
    let mut machine = Machine::new(quiet(), 1);
    machine.switch(0b1100);
    machine.command(atc_inv(0, 52));
    assert_eq!(machine.smmu.read32(CMDQ_CONS) >> 24 & 0x7f, 1, "CERROR_ILL");
}

#[test]
fn substreams_are_named_one_by_one_or_all_at_once() {
    let whole = AtcInv::new().with_sid(SID.into()).with_size(52);
    let own = |ssid| whole.with_ssv(true).with_ssid(ssid);
    // Left over of: none, 1, 2.
    for (command, left) in [
        (whole, vec![]),
        (own(1), vec![None, Some(2)]),
        (own(3), vec![None, Some(1), Some(2)]),
        (own(0), vec![None, Some(1), Some(2)]),
        (own(1).with_global(true), vec![None]),
        (own(3).with_global(true), vec![None]),
    ] {
        let mut machine = Machine::new(ats(quiet().ssidsize(4)), 1);
        machine.tables_a1(L0, PA);
        for index in 0..3 {
            machine.cd_at(CD + 64 * index, cd_words(5, L0));
        }
        let mut ste = substream_ste(CD, 0, 4);
        ste[1] |= EATS_FULL | 2;
        machine.ste(SID, ste);
        machine.switch(CHECKED);
        machine.smmu.plug(SID, on());
        for substream in [None, Some(1), Some(2)] {
            let access = Access { substream, ..Access::read(SID, VA) };
            assert_eq!(machine.smmu.access(access).map(|found| found.pa), Ok(PA));
        }
        machine.command(command);
        machine.sync();
        let found: Vec<_> = entries(&machine).iter().map(|entry| entry.substream).collect();
        assert_eq!(found, left, "{:x?}", Command::from(command));
    }
}

#[test]
fn a_device_obeys_by_the_next_sync_and_not_before_it_must() {
    let habits = Adversary { late_invalidation: true, ..Adversary::NONE };
    let mut late = 0;
    for seed in 0..16 {
        let mut machine = with_device(quiet().adversary(habits));
        for _ in 0..seed {
            machine.smmu.act();
        }
        reads(&mut machine, VA).unwrap();
        machine.command(atc_inv(VA, 0));
        late += entries(&machine).len();
        machine.sync();
        assert_eq!(entries(&machine), []);
    }
    assert!((1..16).contains(&late), "{late}");
}

#[test]
fn a_device_that_never_answers_stops_the_queue_at_the_sync_once() {
    let mut machine = with_device(quiet());
    reads(&mut machine, VA).unwrap();
    machine.smmu.endpoint_mut(SID).unwrap().answers = Answers::Never;
    machine.smmu.observations();
    machine.command(atc_inv(0, 52));
    let at = machine.smmu.read32(CMDQ_CONS);
    machine.sync();
    // CERROR_ATC_INV_SYNC, at the CMD_SYNC, which did not complete.
    assert_eq!(machine.smmu.read32(CMDQ_CONS), at | 3 << 24);
    assert_eq!(machine.smmu.read32(GERROR), 1);
    let seen = machine.smmu.observations();
    assert!(!seen.iter().any(|seen| matches!(seen, Observation::SyncCompleted { .. })));
    assert!(seen.contains(&Observation::Unanswered { stream: SID }));
    machine.smmu.write32(GERRORN, 1);
    machine.smmu.run(usize::MAX);
    let seen = machine.smmu.observations();
    assert!(seen.iter().any(|seen| matches!(seen, Observation::SyncCompleted { .. })));
    // The failed invalidation is forgotten, what it named is not.
    assert_eq!(entries(&machine).len(), 1);
    assert_eq!(reads(&mut machine, VA), Ok(PA));
    // Only EATS = 0 keeps such a device out.
    machine.ste(SID, ste_words(CD));
    machine.command(CfgiSte::new().with_sid(SID.into()).with_leaf(true));
    machine.sync();
    let forbidden = Err(Reason::Event(EventId::FTranslForbidden));
    assert_eq!(reads(&mut machine, VA), forbidden);
}

#[test]
fn a_device_that_answers_too_late_forgets_what_nobody_waits_for_any_more() {
    let mut machine = with_device(quiet());
    reads(&mut machine, VA).unwrap();
    machine.smmu.endpoint_mut(SID).unwrap().answers = Answers::TooLate;
    machine.command(atc_inv(0, 52));
    machine.sync();
    // As if it never would.
    assert_eq!(machine.smmu.read32(GERROR), 1);
    assert_eq!(machine.smmu.read32(CMDQ_CONS) >> 24, 3);
    assert_eq!(entries(&machine).len(), 1);
    machine.smmu.write32(GERRORN, 1);
    machine.smmu.run(usize::MAX);
    machine.smmu.observations();
    assert!(machine.smmu.answer_too_late());
    assert_eq!(entries(&machine), []);
    // Nothing completes by that, and nothing is wrong with it; and it comes once.
    assert_eq!((machine.smmu.observations(), machine.smmu.answer_too_late()), (vec![], false));
    // A device that was reset owes nothing.
    reads(&mut machine, VA).unwrap();
    machine.command(atc_inv(0, 52));
    machine.sync();
    machine.smmu.reset_device(SID);
    assert_eq!((entries(&machine).len(), machine.smmu.answer_too_late()), (0, false));
}

#[test]
fn what_was_sent_with_a_translation_is_in_memory_when_its_invalidation_is_complete() {
    for (command, drained) in [
        (Command::from(atc_inv(VA, 0)), true),
        (atc_inv(VA + 0x1000, 0).into(), false),
        (AtcInv::new().with_sid(6).with_size(52).into(), false),
        // The SMMU translated nothing, but it looked at the STE.
        (tlbi_asid(5).into(), false),
        (cfgi_ste(SID).into(), true),
    ] {
        let mut machine = with_device(quiet());
        machine.put(leaf_slot(L0), BUFFER | LEAF);
        let bytes = Transfer::Write(vec![7; 8]);
        let found = machine.smmu.hold_access(Access::write(SID, VA | 8), bytes).unwrap();
        assert_eq!((found.pa, found.size), (BUFFER | 8, 0x1000));
        let held: Vec<_> = machine.smmu.held().map(|held| (held.access, held.atc)).collect();
        assert_eq!(held, [(Access::write(SID, VA | 8), Some(entries(&machine)[0].id))]);
        machine.command(command);
        assert_eq!(machine.get(BUFFER | 8), 0);
        machine.sync();
        assert_eq!(machine.get(BUFFER | 8) != 0, drained, "{command}");
        assert_eq!(machine.smmu.finished().len(), usize::from(drained));
    }
}

#[test]
fn a_split_stage_entry_still_obeys_stage_2() {
    let mut machine = a3(ats(both()), 1);
    let mut ste = a3_ste();
    ste[1] |= EATS_SPLIT;
    machine.ste(SID, ste);
    machine.switch(CHECKED);
    machine.smmu.plug(SID, on());
    assert_eq!(reads(&mut machine, VA | 4), Ok(OUTPUT | 4));
    assert_eq!(entries(&machine)[0].granted.address, OFFSET + PA);
    machine.put(OUTPUT_SLOT, 0);
    machine.command(smmuv3_formats::command::TlbiS12Vmall::new().with_vmid(7));
    machine.sync();
    // Whatever the device keeps.
    assert_eq!(reads(&mut machine, VA), Err(Reason::Event(EventId::FTranslation)));
}

#[test]
fn devices_ask_for_what_may_be_needed_and_refill_from_a_stale_tlb() {
    // ATC_INV before the CMD_SYNC that completes the TLBI is too early.
    let habits = Adversary { late_invalidation: true, device_requests: true, ..Adversary::NONE };
    let stale = (0..256).filter(|seed| {
        let mut machine = with_device(quiet().adversary(habits));
        for _ in 0..*seed {
            machine.smmu.act();
        }
        let _ = reads(&mut machine, VA);
        machine.put(leaf_slot(L0), 0);
        machine.command(tlbi_va(5, VA));
        machine.command(atc_inv(VA, 0));
        for _ in 0..8 {
            machine.smmu.act();
        }
        machine.sync();
        !entries(&machine).is_empty()
    });
    let stale = stale.count();
    assert!(stale > 4, "{stale}");
    for seed in 0..64 {
        let mut machine = with_device(quiet().adversary(habits));
        for _ in 0..seed {
            machine.smmu.act();
        }
        let _ = reads(&mut machine, VA);
        machine.put(leaf_slot(L0), 0);
        for command in [tlbi_va(5, VA).into(), Command::from(atc_inv(VA, 0))] {
            machine.command(command);
            for _ in 0..8 {
                machine.smmu.act();
            }
            machine.sync();
        }
        assert_eq!(entries(&machine), []);
    }
}

/// A device that sends nothing untranslated: without ATS, and where its stream has none, it reaches nothing.
#[test]
fn who_needs_translations_sends_nothing_without() {
    let mut machine = with_device(quiet());
    machine.smmu.plug(SID, on().needs_ats(true));
    assert_eq!(reads(&mut machine, VA | 8), Ok(PA | 8));
    machine.smmu.plug(SID, on().needs_ats(true).ats(false));
    assert_eq!(reads(&mut machine, VA | 8), Err(Reason::NotGranted));
    let held = machine.smmu.hold_access(Access::write(SID, VA), Transfer::Write(vec![1]));
    assert_eq!(held.map_err(|refusal| refusal.reason), Err(Reason::NotGranted));
    assert_eq!(machine.events(), []);
    // A plain bypass.
    machine.smmu.plug(SID, on().needs_ats(true));
    machine.ste(SID, [0b1001, 1 << 44, 0, 0, 0, 0, 0, 0]);
    machine.command(CfgiSte::new().with_sid(SID.into()).with_leaf(true));
    machine.sync();
    assert_eq!(reads(&mut machine, VA | 8), Err(Reason::NotGranted));
    machine.smmu.plug(SID, on());
    assert_eq!(reads(&mut machine, VA | 8), Ok(VA | 8));
}
