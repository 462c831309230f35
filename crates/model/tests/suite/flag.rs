// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access and dirty flags that hardware sets, at both stages (§14).

use smmuv3_formats::EventId;
use smmuv3_formats::command::{TlbiS2Ipa, TlbiS12Vmall};
use smmuv3_model::{
    Access, Adversary, Memory, Observation, Profile, Reason, Transfer, Translation,
};

use crate::machine::*;
use crate::nested::{OFFSET, a3, a3_ste, slot_of};
use crate::stage_2::{IPA, S2_L1, S2_L2, S2_L3, a2_ste, both, page};

const AF: u64 = 1 << 10;
const DBM: u64 = 1 << 51;
/// `AP[2]` and `S2AP[1]`.
const BIT_7: u64 = 1 << 7;
const HA: u64 = 1 << 43;
const HD: u64 = 1 << 42;
const AFFD: u64 = 1 << 35;
const S2HD: u64 = 1 << 55;
const S2HA: u64 = 1 << 56;

/// A1 with other bits in its context and this leaf.
fn a1(profile: Profile, bits: u64, leaf: u64) -> Machine {
    let machine = Machine::new(profile, 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    cd[0] |= bits;
    machine.cd_at(CD, cd);
    machine.put(leaf_slot(L0), leaf);
    machine
}

fn write(machine: &mut Machine) -> Option<Translation> {
    machine.translate(Access::write(SID, VA)).ok()
}

fn updates(machine: &mut Machine) -> usize {
    let seen = machine.smmu.observations();
    seen.iter().filter(|it| matches!(it, Observation::Updated { .. })).count()
}

#[test]
fn the_access_flag_is_set_where_it_would_be_a_fault() {
    let mut machine = a1(quiet().httu(1), HA, PA | LEAF & !AF);
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(machine.get(leaf_slot(L0)), PA | LEAF);
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!((updates(&mut machine), machine.smmu.statistics().updates), (1, 1));
    // It is not set for what is not permitted, and AFFD does not matter.
    let mut machine = a1(quiet().httu(1), HA | AFFD, PA | LEAF & !AF | BIT_7);
    assert_eq!(write(&mut machine), None);
    assert_eq!(machine.events()[0].id(), EventId::FPermission as u64);
    assert_eq!(machine.get(leaf_slot(L0)) & AF, 0);
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(machine.get(leaf_slot(L0)) & AF, AF);
    // AFFD alone sets nothing.
    let mut machine = a1(quiet().httu(1), AFFD, PA | LEAF & !AF);
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(machine.get(leaf_slot(L0)) & AF, 0);
}

#[test]
fn what_the_instance_lacks_is_illegal_to_ask_for() {
    for (level, bits, legal) in
        [(0, HA, false), (1, HA, true), (1, HA | HD, false), (2, HA | HD, true), (2, HD, true)]
    {
        let mut machine = a1(quiet().httu(level), bits, PA | LEAF);
        let found = machine.translate(Access::read(SID, VA)).map_err(|refusal| refusal.reason);
        match legal {
            true => assert!(found.is_ok(), "{level} {bits:#x}"),
            false => assert_eq!(found, Err(Reason::Event(EventId::CBadCd))),
        }
    }
}

#[test]
fn a_write_marks_a_page_whose_dbm_is_set() {
    let clean = PA | LEAF | BIT_7 | DBM;
    let mut machine = a1(quiet().httu(2), HA | HD, clean);
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(machine.get(leaf_slot(L0)), clean, "reads do not");
    let found = write(&mut machine).unwrap();
    assert!(found.tlb_hit, "what is cached is enough");
    assert_eq!(machine.get(leaf_slot(L0)), clean & !BIT_7);
    assert!(write(&mut machine).is_some());
    assert_eq!(updates(&mut machine), 1);
    // Cleaned by software, without invalidation: what is cached is not clean any more, and the write goes unseen.
    machine.put(leaf_slot(L0), clean);
    assert!(write(&mut machine).is_some());
    assert_eq!(machine.get(leaf_slot(L0)), clean);
    machine.command(tlbi_va(5, VA));
    machine.sync();
    assert!(write(&mut machine).is_some());
    assert_eq!(machine.get(leaf_slot(L0)), clean & !BIT_7);
    // AF and dirty at once, without a cached leaf.
    let mut machine = a1(quiet().httu(2), HA | HD, clean & !AF);
    assert!(write(&mut machine).is_some());
    assert_eq!((machine.get(leaf_slot(L0)), updates(&mut machine)), (clean & !BIT_7, 1));
}

#[test]
fn what_is_read_only_for_another_reason_stays_so() {
    let clean = PA | LEAF | BIT_7 | DBM;
    // Without DBM; with HD alone, or HA alone; by APTable.
    for (bits, leaf, table) in
        [(HA | HD, clean & !DBM, 0), (HD, clean, 0), (HA, clean, 0), (HA | HD, clean, 2 << 61)]
    {
        let mut machine = a1(quiet().httu(2), bits, leaf);
        machine.put(L0, machine.get(L0) | table);
        assert_eq!(write(&mut machine), None);
        assert_eq!(machine.events()[0].id(), EventId::FPermission as u64);
        assert_eq!(machine.get(leaf_slot(L0)), leaf);
    }
}

#[test]
fn a_write_never_goes_through_what_is_cached_of_a_leaf_that_is_another() {
    let clean = PA | LEAF | BIT_7 | DBM;
    let mut machine = a1(quiet().httu(2), HA | HD, clean);
    assert_eq!(machine.read(VA), Some(PA));
    // Unmapped, and not invalidated: reads still hit, a write can't mark and finds nothing.
    machine.put(leaf_slot(L0), 0);
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(write(&mut machine), None);
    assert_eq!(machine.events()[0].id(), EventId::FTranslation as u64);
    assert_eq!(machine.get(leaf_slot(L0)), 0);
    // Bits of software may change; they stay.
    let mut machine = a1(quiet().httu(2), HA | HD, clean);
    assert_eq!(machine.read(VA), Some(PA));
    machine.put(leaf_slot(L0), clean | 0xf << 55);
    assert!(write(&mut machine).is_some());
    assert_eq!(machine.get(leaf_slot(L0)), (clean | 0xf << 55) & !BIT_7);
}

/// A2 with S2HA, S2HD and this leaf.
fn a2(bits: u64, leaf: u64) -> Machine {
    let machine = Machine::new(both().httu(2), 1);
    let mut ste = a2_ste();
    ste[2] |= bits;
    machine.ste(SID, ste);
    machine.put(S2_L1 + 0x1fe0, S2_L2 | 3);
    machine.put(S2_L2 + 8 * 0x91, S2_L3 | 3);
    machine.put(S2_L3 + 8 * 0x145, leaf);
    machine
}

#[test]
fn stage_2_has_flags_of_its_own() {
    let slot = S2_L3 + 8 * 0x145;
    let clean = page(PA) & !BIT_7 | DBM;
    let mut machine = a2(S2HA | S2HD, clean & !AF);
    assert_eq!(machine.read(IPA), Some(PA));
    assert_eq!(machine.get(slot), clean);
    assert!(machine.translate(Access::write(SID, IPA)).unwrap().tlb_hit);
    assert_eq!(machine.get(slot), clean | BIT_7);
    // S2HA alone.
    let mut machine = a2(S2HA, clean & !AF);
    assert!(machine.translate(Access::write(SID, IPA)).is_err());
    assert_eq!(machine.get(slot), clean & !AF, "not for what is not permitted");
    assert_eq!(machine.read(IPA), Some(PA));
    assert_eq!(machine.get(slot), clean);
}

/// A3 with these bits in context and entry.
fn nested(cd_bits: u64, ste_bits: u64) -> Machine {
    let machine = a3(both().httu(2), 1);
    let mut cd = cd_words(5, OFFSET + L0);
    cd[0] |= cd_bits;
    machine.cd_at(CD, cd);
    let mut ste = a3_ste();
    ste[2] |= ste_bits;
    machine.ste(SID, ste);
    machine
}

#[test]
fn an_update_of_stage_1_is_a_write_at_stage_2() {
    let table = L0 + 0x3000;
    let read_only = page(table) & !BIT_7;
    for (leaf, access) in [
        ((OFFSET + PA) | LEAF & !AF, Access::read(SID, VA)),
        ((OFFSET + PA) | LEAF | BIT_7 | DBM, Access::write(SID, VA)),
    ] {
        let mut machine = nested(HA | HD, 0);
        machine.put(leaf_slot(L0), leaf);
        machine.put(slot_of(table), read_only);
        assert!(machine.translate(access).is_err());
        let events = machine.events();
        // CLASS = TT, TTRnW = 0, the descriptor's intermediate address.
        let w1 = 0x180_0000_0000 | u64::from(!access.write) << 35;
        assert_eq!(events[0].0, [0x0000_0005_0000_0013, w1, VA, OFFSET + table]);
        assert_eq!(machine.get(leaf_slot(L0)), leaf);
        // Writable by marking it: that page of stage 2 is written, too.
        let mut machine = nested(HA | HD, S2HA | S2HD);
        machine.put(leaf_slot(L0), leaf);
        machine.put(slot_of(table), read_only | DBM);
        assert!(machine.translate(access).is_ok());
        assert_eq!(machine.get(slot_of(table)), page(table) | DBM);
        assert_ne!(machine.get(leaf_slot(L0)), leaf);
        assert_eq!(updates(&mut machine), 2);
    }
}

#[test]
fn fetches_set_access_flags_of_stage_2_and_never_mark() {
    let mut machine = nested(0, S2HA | S2HD);
    let pages = [L0, L0 + 0x1000, L0 + 0x2000, L0 + 0x3000, CD];
    for pa in pages {
        machine.put(slot_of(pa), page(pa) & !AF & !BIT_7 | DBM);
    }
    assert!(machine.translate(Access::write(SID, VA)).is_ok());
    for pa in pages {
        assert_eq!(machine.get(slot_of(pa)), page(pa) & !BIT_7 | DBM);
    }
}

#[test]
fn a_cached_combination_marks_both_leaves() {
    let output = 0x8004_4000;
    let mut machine = nested(HA | HD, S2HA | S2HD);
    machine.put(leaf_slot(L0), (OFFSET + PA) | LEAF | BIT_7 | DBM);
    machine.put(output, machine.get(output) & !BIT_7 | DBM);
    assert!(machine.read(VA).is_some());
    assert_eq!(updates(&mut machine), 0);
    assert!(write(&mut machine).unwrap().tlb_hit);
    assert_eq!(machine.get(leaf_slot(L0)), (OFFSET + PA) | LEAF | DBM);
    assert_eq!(machine.get(output) & BIT_7, BIT_7);
    assert_eq!(updates(&mut machine), 2);
    // One of them is another by now: it is looked up again.
    let mut machine = nested(HA | HD, S2HA | S2HD);
    machine.put(output, machine.get(output) & !BIT_7 | DBM);
    assert!(machine.read(VA).is_some());
    machine.put(output, 0);
    machine.command(TlbiS2Ipa::new().with_vmid(7).with_addr(OFFSET + PA));
    machine.sync();
    assert!(machine.read(VA).is_some(), "the combination is still there");
    assert_eq!(write(&mut machine), None);
    assert_eq!(machine.events()[0].id(), EventId::FTranslation as u64);
    assert_eq!(machine.get(output), 0);
}

/// A write on its way, to a clean page of RAM.
fn held() -> Machine {
    let habits = Adversary { late_dirty: true, ..Adversary::NONE };
    let clean = 0x8070_0000 | LEAF | BIT_7 | DBM;
    let mut machine = a1(quiet().httu(2).adversary(habits), HA | HD, clean);
    machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![7; 8])).unwrap();
    assert_eq!(machine.get(leaf_slot(L0)), clean, "not marked yet");
    machine
}

#[test]
fn a_write_under_way_is_marked_before_it_reaches_memory() {
    let mut machine = held();
    // A SYNC without an invalidation need not wait for it; with one it must.
    machine.sync();
    assert_eq!(machine.get(leaf_slot(L0)) & BIT_7, BIT_7);
    machine.command(tlbi_va(5, VA));
    machine.sync();
    assert_eq!(machine.get(leaf_slot(L0)), 0x8070_0000 | LEAF | DBM);
    assert_eq!(machine.get(0x8070_0000), 0x0707_0707_0707_0707);
    // Without the habit, it is marked at once.
    let clean = 0x8070_0000 | LEAF | BIT_7 | DBM;
    let mut machine = a1(quiet().httu(2), HA | HD, clean);
    machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![7; 8])).unwrap();
    assert_eq!(machine.get(leaf_slot(L0)), clean & !BIT_7);
}

#[test]
fn a_write_under_way_to_what_was_unmapped_meanwhile_does_not_reach_memory() {
    // Software took the leaf away and saw a clean page: nothing may be written to it after that.
    let mut machine = held();
    machine.put(leaf_slot(L0), 0);
    machine.command(tlbi_va(5, VA));
    machine.sync();
    assert_eq!(machine.get(0x8070_0000), 0);
    let finished = machine.smmu.finished();
    assert!(matches!(&finished[..], [one] if one.result.is_err() && one.drained), "{finished:?}");
    assert_eq!(machine.events()[0].id(), EventId::FTranslation as u64);
    // Where another page is mapped by then, it goes there.
    let mut machine = held();
    machine.put(leaf_slot(L0), 0x8071_0000 | LEAF);
    let id = machine.smmu.held().next().unwrap().id;
    assert_eq!(machine.smmu.perform(id).unwrap().pa, 0x8071_0000);
    assert_eq!((machine.get(0x8070_0000), machine.get(0x8071_0000)), (0, 0x0707_0707_0707_0707));
}

#[test]
fn flags_of_what_is_fetched_ahead_of_need_are_set_but_nothing_is_marked() {
    let clean = PA | LEAF & !AF | BIT_7 | DBM;
    let mut machine = a1(quiet().httu(2), HA | HD, clean);
    machine.smmu.prefetch(Access::write(SID, VA));
    assert_eq!(machine.get(leaf_slot(L0)), clean | AF);
    let mut machine = nested(HA | HD, S2HA | S2HD);
    machine.put(leaf_slot(L0), (OFFSET + PA) | LEAF & !AF | BIT_7 | DBM);
    machine.put(0x8004_4000, machine.get(0x8004_4000) & !AF & !BIT_7 | DBM);
    machine.smmu.prefetch(Access::write(SID, VA));
    assert_eq!(machine.get(leaf_slot(L0)), (OFFSET + PA) | LEAF | BIT_7 | DBM);
    assert_eq!(machine.get(0x8004_4000) & (AF | BIT_7), AF);
    assert_eq!(machine.events(), []);
    // Then a write is marked at both.
    assert!(write(&mut machine).unwrap().tlb_hit);
    assert_eq!(updates(&mut machine), 4);
    machine.command(TlbiS12Vmall::new().with_vmid(7));
    machine.sync();
    assert_eq!(machine.misuses(), []);
}

#[test]
fn more_may_be_set_than_was_needed() {
    let habits = Adversary { prefetch: true, ..Adversary::NONE };
    let (mut set, mut marked) = (0, 0);
    for seed in 0..64 {
        // The access flag of a leaf that does not permit.
        let mut machine = Machine::new(quiet().httu(1).adversary(habits), seed);
        machine.a1();
        let mut cd = cd_words(5, L0);
        cd[0] |= HA;
        machine.cd_at(CD, cd);
        machine.put(leaf_slot(L0), PA | LEAF & !AF | BIT_7);
        assert_eq!(write(&mut machine), None);
        assert_eq!(machine.events()[0].id(), EventId::FPermission as u64);
        set += u32::from(machine.get(leaf_slot(L0)) & AF != 0);
        // A page of tables that are only read.
        let mut machine = a3(both().httu(2).adversary(habits), seed);
        let mut ste = a3_ste();
        ste[2] |= S2HA | S2HD;
        machine.ste(SID, ste);
        let table = L0 + 0x3000;
        for pa in [table, CD] {
            machine.put(slot_of(pa), page(pa) & !BIT_7 | DBM);
        }
        assert!(machine.read(VA).is_some());
        marked += u32::from(machine.get(slot_of(table)) & BIT_7 != 0);
        assert_eq!(machine.get(slot_of(CD)) & BIT_7, 0, "never for a context");
    }
    assert!((8..56).contains(&set) && (4..60).contains(&marked), "{set} {marked}");
}

#[test]
fn updates_and_changes_by_processors_do_not_undo_each_other() {
    const PAGES: u64 = 256;
    let clean = PA | LEAF & !AF | BIT_7 | DBM;
    let machine = a1(quiet().httu(2), HA | HD, clean);
    let first = L0 + 0x3000;
    for n in 0..PAGES {
        machine.put(first + 8 * n, (clean & !0xf_f000) + (n << 12));
    }
    // The model is not for several threads: its memory is.
    let ram = std::sync::Arc::new(smmuv3_model::Ram::new(RAM, RAM_BYTES));
    for at in (RAM..RAM + RAM_BYTES as u64).step_by(8) {
        let word = machine.get(at);
        if word != 0 {
            ram.write64(at, word).unwrap();
        }
    }
    let processor = std::sync::Arc::clone(&ram);
    let thread = std::thread::spawn(move || {
        for n in 0..PAGES {
            let at = first + 8 * n;
            let mut seen = processor.read64(at).unwrap();
            loop {
                let was = processor.compare_exchange64(at, seen, seen | 1 << 55).unwrap();
                if was == seen {
                    break;
                }
                seen = was;
            }
        }
    });
    let mut smmu = smmuv3_model::Model::new(quiet().httu(2), ram.clone(), 1);
    smmu.write64(STRTAB_BASE, STRTAB);
    smmu.write32(STRTAB_BASE_CFG, 6);
    smmu.write32(CR2, 0);
    smmu.write32(CR0, 1);
    while smmu.read32(CR0ACK) == 0 {}
    for n in 0..PAGES {
        let address = VA & !0x1f_ffff | n << 12;
        assert!(smmu.translate(Access::write(SID, address)).is_ok());
    }
    thread.join().unwrap();
    for n in 0..PAGES {
        let expected = ((clean & !0xf_f000) + (n << 12)) | AF | 1 << 55;
        assert_eq!(ram.read64(first + 8 * n), Ok(expected & !BIT_7));
    }
}
