// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUEN = 0, and on the way there: what passes, what is under way, what commands still do (§2.4); and the handshake
//! of the other fields of CR0.

use smmuv3_model::{Access, Adversary, Misuse, Profile, Reason, Reference, Transfer};

use crate::machine::*;

const BUFFER: u64 = 0x8070_0000;
const OFF: u32 = 0b1100;
const ON: u32 = 0b1101;

fn gbpa(machine: &mut Machine, value: u32) {
    machine.smmu.write32(GBPA, 1 << 31 | value);
    for _ in 0..100 {
        if machine.smmu.read32(GBPA) >> 31 == 0 {
            return;
        }
    }
    panic!("GBPA.Update never became 0");
}

#[test]
fn everything_passes_or_aborts_whatever_its_configuration() {
    let mut machine = Machine::new(quiet().ssidsize(4), 1);
    machine.a1();
    machine.ste(6, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.switch(OFF);
    // Streams that translate, that abort, and that do not exist; substreams are ignored.
    for stream in [SID, 6, 7, 0x1_0000] {
        for access in [
            Access::read(stream, VA),
            Access::write(stream, VA | 8),
            Access { substream: Some(0xf_ffff), ..Access::read(stream, 0) },
        ] {
            let found = machine.translate(access).unwrap();
            assert_eq!((found.pa, found.entry, found.tlb_hit), (access.address, None, false));
        }
    }
    gbpa(&mut machine, 1 << 20);
    for stream in [SID, 6, 7, 0x1_0000] {
        let refusal = machine.translate(Access::read(stream, VA)).unwrap_err();
        assert_eq!((refusal.reason, refusal.event), (Reason::Disabled, None));
    }
    assert_eq!(machine.events(), []);
    assert_eq!(machine.smmu.cached_stes(), []);
    // GBPA means nothing while it is on.
    machine.switch(ON);
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn gbpa_counts_once_update_is_0() {
    let mut profile = quiet();
    profile.ack_delay = 8;
    for seed in 0..8 {
        let mut machine = Machine::reset(profile.clone(), seed);
        machine.smmu.write32(GBPA, 1 << 31 | 1 << 20);
        assert!(machine.translate(Access::read(1, 0)).is_ok(), "not yet");
        while machine.smmu.read32(GBPA) >> 31 != 0 {}
        assert!(machine.translate(Access::read(1, 0)).is_err());
    }
}

#[test]
fn nothing_is_fetched_ahead_while_it_is_off() {
    for seed in 0..16 {
        let mut machine = Machine::new(Profile::default(), seed);
        machine.a1();
        machine.switch(OFF);
        let _ = machine.read(VA);
        machine.command(smmuv3_formats::command::PrefetchAddr::new().with_sid(5).with_addr(VA));
        for _ in 0..200 {
            machine.smmu.act();
        }
        assert_eq!(machine.smmu.cached_stes().len() + machine.smmu.cached_cds().len(), 0);
        assert_eq!(machine.smmu.tlb_entries().count(), 0);
    }
}

#[test]
fn transfers_that_were_translated_go_on_and_syncs_wait_for_them() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(leaf_slot(L0), BUFFER | LEAF);
    machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![5; 8])).unwrap();
    machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![6; 8])).unwrap();
    machine.switch(OFF);
    gbpa(&mut machine, 1 << 20);
    // Disabling did not end them, and ABORT is for what comes later.
    assert!(machine.translate(Access::read(SID, VA)).is_err());
    assert_eq!(machine.smmu.held().count(), 2);
    let id = machine.smmu.held().next().unwrap().id;
    assert_eq!(machine.smmu.perform(id).unwrap().pa, BUFFER);
    assert_eq!(machine.get(BUFFER), 0x0505_0505_0505_0505);
    machine.sync();
    assert_eq!(machine.smmu.held().count(), 1, "nothing was invalidated");
    machine.command(tlbi_all());
    machine.sync();
    assert_eq!(machine.smmu.held().count(), 0);
    assert_eq!(machine.get(BUFFER), 0x0606_0606_0606_0606);
}

#[test]
fn what_is_cached_survives_and_is_invalidated_while_off() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine.switch(OFF);
    machine.put(leaf_slot(L0), (PA + 0x1000) | LEAF);
    machine.switch(ON);
    assert_eq!(machine.read(VA), Some(PA), "stale");
    machine.switch(OFF);
    machine.command(tlbi_everything());
    machine.command(smmuv3_formats::Command::cfgi_all());
    machine.sync();
    assert_eq!(machine.smmu.tlb_entries().count() + machine.smmu.cached_stes().len(), 0);
    machine.switch(ON);
    assert_eq!(machine.read(VA), Some(PA + 0x1000));
}

#[test]
fn a_transfer_that_has_still_to_mark_its_leaf_keeps_the_table_in_use() {
    const DBM: u64 = 1 << 51;
    const READ_ONLY: u64 = 1 << 7;
    let habits = Adversary { late_dirty: true, ..Adversary::NONE };
    let mut machine = Machine::new(quiet().httu(2).adversary(habits), 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    // HA, HD.
    cd[0] |= 1 << 43 | 1 << 42;
    machine.cd_at(CD, cd);
    let leaf = BUFFER | LEAF | DBM | READ_ONLY;
    machine.put(leaf_slot(L0), leaf);
    machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![7; 8])).unwrap();
    let id = machine.smmu.held().next().unwrap().id;
    machine.switch(OFF);
    machine.command(tlbi_all());
    machine.command(cfgi_ste(SID));
    // Consumed, but not complete.
    assert_eq!(machine.smmu.tlb_entries().count(), 0);
    let slot = leaf_slot(L0);
    assert_eq!(machine.smmu.references(slot, 8), Some(Reference::Flag { id }));
    assert_eq!(machine.smmu.references(slot + 8, 8), None);
    machine.sync();
    assert_eq!(machine.smmu.references(slot, 8), None);
    assert_eq!(machine.get(slot), leaf & !READ_ONLY);
    assert_eq!(machine.get(BUFFER), 0x0707_0707_0707_0707);
}

#[test]
fn fields_of_cr0_are_there_where_their_feature_is_and_follow_one_by_one() {
    const PRIQEN: u32 = 1 << 1;
    const ATSCHK: u32 = 1 << 4;
    const VMW: u32 = 7 << 6;
    const PRIQ_BASE: u32 = 0xc0;
    let with = |change: fn(&mut Profile)| {
        let mut profile = quiet().s2p(true);
        change(&mut profile);
        profile
    };
    let nothing = with(|_| {});
    let pri = with(|p| p.idr0 = p.idr0.with_pri(true).with_ats(true));
    let ats = with(|p| p.idr0 = p.idr0.with_ats(true));
    let vmw = with(|p| p.idr0 = p.idr0.with_vmw(true));
    for (profile, bits) in [(nothing, 0), (pri, PRIQEN | ATSCHK), (ats, ATSCHK), (vmw, VMW)] {
        let mut machine = Machine::reset(profile.clone(), 1);
        if bits & PRIQEN != 0 {
            // A queue where it may be.
            machine.smmu.write64(PRIQ_BASE, EVENTQ);
        }
        machine.smmu.write32(CR0, PRIQEN | ATSCHK | VMW);
        assert_eq!(machine.smmu.read32(CR0), bits);
        assert_eq!(machine.smmu.read32(CR0ACK), bits);
        let reserved = (PRIQEN | ATSCHK | VMW) & !bits;
        let told = Misuse::ReservedRegisterBits { offset: CR0, bits: reserved };
        assert_eq!(machine.misuses(), if reserved == 0 { vec![] } else { vec![told] });
    }
    // Each follows on its own, all of VMW at once, and none may change again before.
    let mut profile = with(|p| p.idr0 = p.idr0.with_pri(true).with_ats(true).with_vmw(true));
    profile.ack_delay = 8;
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let mut machine = Machine::reset(profile.clone(), seed);
        machine.smmu.write64(PRIQ_BASE, EVENTQ);
        machine.smmu.write32(CR0, PRIQEN | ATSCHK | 3 << 6);
        machine.smmu.write32(CR0, PRIQEN | ATSCHK | 4 << 6);
        assert_eq!(machine.misuses(), [Misuse::PendingUpdate { offset: CR0 }]);
        seen.extend((0..12).map(|_| machine.smmu.read32(CR0ACK)));
        assert_eq!(machine.smmu.read32(CR0ACK), PRIQEN | ATSCHK | 3 << 6);
        machine.smmu.write32(CR0, ATSCHK | 3 << 6);
        for _ in 0..12 {
            machine.smmu.read32(CR0ACK);
        }
        assert_eq!(machine.smmu.read32(CR0ACK), ATSCHK | 3 << 6);
    }
    for alone in [PRIQEN, ATSCHK, 3 << 6] {
        assert!(seen.contains(&alone), "{seen:?}");
    }
    assert!(seen.iter().all(|ack| matches!(ack & VMW, 0 | 0xc0)), "{seen:?}");
}

#[test]
fn while_it_is_being_disabled_a_transaction_finds_it_on_or_off() {
    let profile = quiet().adversary(Adversary { early_disable: true, ..Adversary::NONE });
    let mut seen = [0; 2];
    for seed in 0..32 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        machine.smmu.set_stuck(true);
        machine.smmu.write32(CR0, OFF);
        match machine.read(VA) {
            Some(PA) => seen[0] += 1,
            Some(VA) => seen[1] += 1,
            other => panic!("{other:x?}"),
        }
        machine.smmu.set_stuck(false);
        machine.switch(OFF);
        assert_eq!(machine.read(VA), Some(VA));
    }
    assert!(seen.iter().all(|count| *count > 4), "{seen:?}");
}

#[test]
fn while_it_is_being_enabled_a_transaction_finds_it_off_and_then_on() {
    let profile = quiet().adversary(Adversary { early_enable: true, ..Adversary::NONE });
    let mut seen = [0; 2];
    for seed in 0..32 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.a1();
        let on = machine.smmu.read32(CR0);
        machine.switch(OFF);
        machine.smmu.set_stuck(true);
        machine.smmu.write32(CR0, on);
        let found: Vec<_> = (0..4).map(|_| machine.read(VA)).collect();
        assert!(found.iter().all(|pa| [Some(PA), Some(VA)].contains(pa)), "{found:x?}");
        assert!(found.is_sorted_by_key(|pa| *pa == Some(PA)), "{found:x?}");
        seen[usize::from(found[0] == Some(PA))] += 1;
        assert_eq!(machine.smmu.read32(CR0ACK), OFF);
        machine.smmu.set_stuck(false);
        machine.switch(on);
        assert_eq!(machine.read(VA), Some(PA));
    }
    assert!(seen.iter().all(|count| *count > 4), "{seen:?}");
    // Who is not so eager is off until it says that it is on.
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let on = machine.smmu.read32(CR0);
    machine.switch(OFF);
    machine.smmu.set_stuck(true);
    machine.smmu.write32(CR0, on);
    assert_eq!(machine.read(VA), Some(VA));
}

#[test]
fn the_consumer_index_is_final_once_the_command_queue_is_off() {
    let profile = quiet().adversary(Adversary { lazy_cons: true, ..Adversary::NONE });
    for seed in 0..16 {
        let mut machine = Machine::new(profile.clone(), seed);
        for _ in 0..3 {
            machine.command(tlbi_all());
        }
        machine.switch(0b0101);
        assert_eq!(machine.smmu.read32(CMDQ_CONS), 3);
    }
}
