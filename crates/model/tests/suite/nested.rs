// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage 1 over stage 2: appendix A3, whose fault it is, what is cached of both, and what makes it go (§4.2, §8.1,
//! §9, §10.2).

use smmuv3_formats::EventId;
use smmuv3_formats::command::{TlbiNsnhAll, TlbiS2Ipa, TlbiS12Vmall};
use smmuv3_model::{Access, Adversary, Misuse, Profile, Reason, Stages, Transfer};

use crate::machine::*;
use crate::stage_2::{A2_W1, A2_W2, S2_L1, S2_L2, S2_L3, both, page};

/// Intermediate addresses are the physical ones plus this, but for the output.
pub const OFFSET: u64 = 0xff_0000_0000;
pub const OUTPUT: u64 = 0xa000_0000;
/// The stage-2 leaf for the output.
pub const OUTPUT_SLOT: u64 = 0x8004_4000;
const VMID: u64 = 7;

pub const fn a3_ste() -> [u64; 8] {
    [(OFFSET + CD) | 0xf, 0xd4 | A2_W1, A2_W2, S2_L1, 0, 0, 0, 0]
}

/// The stage-2 leaf for one of the pages of A1.
pub fn slot_of(pa: u64) -> u64 {
    S2_L3 + 8 * (pa >> 12 & 0x1ff)
}

/// A1's tables and context over A2's.
pub fn a3(profile: Profile, seed: u64) -> Machine {
    let machine = Machine::new(profile, seed);
    machine.ste(SID, a3_ste());
    machine.cd_at(CD, cd_words(5, OFFSET + L0));
    machine.put(L0, (OFFSET + L0 + 0x1000) | 3);
    machine.put(L0 + 0x1240, (OFFSET + L0 + 0x2000) | 3);
    machine.put(L0 + 0x2d10, (OFFSET + L0 + 0x3000) | 3);
    machine.put(leaf_slot(L0), (OFFSET + PA) | LEAF);
    machine.put(S2_L1 + 8 * 0x3fe, S2_L2 | 3);
    machine.put(S2_L2, S2_L3 | 3);
    for pa in [L0, L0 + 0x1000, L0 + 0x2000, L0 + 0x3000, CD] {
        machine.put(slot_of(pa), page(pa));
    }
    machine.put(S2_L2 + 8 * 0x80, OUTPUT_SLOT | 3);
    machine.put(OUTPUT_SLOT, page(OUTPUT));
    machine
}

fn only_event(machine: &mut Machine) -> [u64; 4] {
    let events = machine.events();
    assert_eq!(events.len(), 1, "{events:?}");
    events[0].0
}

fn words(id: u64, w1: u64, ipa: u64) -> [u64; 4] {
    [id | u64::from(SID) << 32, w1, VA, ipa]
}

fn s2_ipa(ipa: u64) -> TlbiS2Ipa {
    TlbiS2Ipa::new().with_vmid(VMID).with_addr(ipa)
}

#[test]
fn the_worked_example_is_translated_twice() {
    let mut machine = a3(both(), 1);
    let found = machine.translate(Access::write(SID, VA | 0x10)).unwrap();
    assert_eq!((found.pa, found.size, found.tlb_hit), (OUTPUT + 0x10, 0x1000, false));
    let tag = found.tag.unwrap();
    assert_eq!((tag.vmid, tag.asid), (Some(7), 5));
    // CD, L0 to L3 and the output through stage 2: three descriptors each at most, and four of stage 1.
    let stages: Vec<_> = machine.smmu.tlb_entries().map(|entry| entry.stages).collect();
    assert_eq!(stages.iter().filter(|stages| **stages == Stages::Both).count(), 1);
    assert_eq!(stages.iter().filter(|stages| **stages == Stages::Two).count(), 6);
    let entry = *machine.smmu.tlb_entries().find(|it| it.stages == Stages::Both).unwrap();
    assert_eq!((entry.va, entry.pa, entry.ttb), (VA, OUTPUT, OFFSET + L0));
    let second = entry.second.unwrap();
    assert_eq!((second.ipa, second.ttb), (OFFSET + PA, S2_L1));
    assert!(entry.uses(S2_L1, OFFSET + PA + 5, OFFSET + PA + 5));
    assert!(entry.uses(OFFSET + L0, VA, VA) && !entry.uses(S2_L1, VA, VA));
    assert!(machine.translate(Access::read(SID, VA)).unwrap().tlb_hit);
    assert_eq!(machine.events(), []);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn the_smaller_leaf_counts() {
    // A block of 2 MiB at stage 1, pages at stage 2; and the other way round.
    let mut machine = a3(both(), 1);
    machine.put(L0 + 0x2d10, (OFFSET + 0x9000_0000) | LEAF & !2);
    machine.put(OUTPUT_SLOT + 8 * (VA >> 12 & 0x1ff), page(OUTPUT));
    let found = machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!((found.pa, found.size), (OUTPUT, 0x1000));
    assert_eq!(machine.read(VA + 0x1000), None, "stage 2 has nothing there");
    let mut machine = a3(both(), 1);
    machine.put(S2_L2 + 8 * 0x80, page(0xa000_0000) & !2);
    let found = machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!((found.pa, found.size), (0xa000_0000, 0x1000));
    // Both blocks.
    machine.put(L0 + 0x2d10, (OFFSET + 0x9000_0000) | LEAF & !2);
    machine.command(tlbi_all().with_vmid(VMID));
    machine.sync();
    let found = machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!((found.pa, found.size), (0xa000_0000 | VA & 0x1f_ffff, 2 << 20));
}

/// Whoever has the stage 1 names a leaf of it once, at whatever address, and knows nothing of the pages below.
#[test]
fn a_block_that_is_cached_in_parts_goes_as_a_whole() {
    let mut machine = a3(both(), 1);
    machine.put(L0 + 0x2d10, (OFFSET + 0x9000_0000) | LEAF & !2);
    let other = VA ^ 0x3000;
    for va in [VA, other] {
        machine.put(OUTPUT_SLOT + 8 * (va >> 12 & 0x1ff), page(OUTPUT));
        assert_eq!(machine.read(va), Some(OUTPUT));
    }
    machine.command(tlbi_va(5, VA ^ 0x10_0000).with_vmid(VMID).with_leaf(true));
    machine.sync();
    for va in [VA, other] {
        assert!(!machine.translate(Access::read(SID, va)).unwrap().tlb_hit);
    }
    // One beside the block is another leaf.
    machine.command(tlbi_va(5, VA ^ 0x20_0000).with_vmid(VMID).with_leaf(true));
    machine.sync();
    assert!(machine.translate(Access::read(SID, VA)).unwrap().tlb_hit);
}

#[test]
fn faults_of_stage_2_say_what_was_being_fetched() {
    for (at, class, ipa) in [
        (slot_of(CD), 0, OFFSET + CD),
        (slot_of(L0), 1, OFFSET + L0),
        (slot_of(L0 + 0x2000), 1, OFFSET + L0 + 0x2000),
        (OUTPUT_SLOT, 2, OFFSET + PA),
    ] {
        let mut machine = a3(both(), 1);
        let word = machine.get(at);
        machine.put(at, 0);
        assert_eq!(machine.read(VA), None);
        assert_eq!(only_event(&mut machine), words(0x10, 0x88_0000_0000 | class << 40, ipa));
        // AF.
        machine.put(at, word & !(1 << 10));
        assert_eq!(machine.read(VA), None);
        assert_eq!(only_event(&mut machine), words(0x12, 0x88_0000_0000 | class << 40, ipa));
        // Nothing of it was cached.
        machine.put(at, word);
        assert_eq!(machine.read(VA), Some(OUTPUT));
        // The abort of a descriptor of stage 2 has its address.
        let mut machine = a3(both(), 1);
        machine.ram.break_range(at, 8);
        assert_eq!(machine.read(VA), None);
        assert_eq!(only_event(&mut machine), words(0x0b, 0x88_0000_0000 | class << 40, at));
    }
    // Stage 1 faults as if it were alone, and aborts on its tables have physical addresses.
    let mut machine = a3(both(), 1);
    machine.put(leaf_slot(L0), 0);
    assert_eq!(machine.read(VA), None);
    assert_eq!(only_event(&mut machine), words(0x10, 0x208_0000_0000, 0));
    machine.ram.break_range(leaf_slot(L0), 8);
    assert_eq!(machine.read(VA), None);
    assert_eq!(only_event(&mut machine), words(0x0b, 0x108_0000_0000, leaf_slot(L0)));
    // The context itself can't be read.
    let mut machine = a3(both(), 1);
    machine.ram.break_range(CD, 8);
    assert_eq!(machine.read(VA), None);
    assert_eq!(only_event(&mut machine), [0x0000_0005_0000_0009, 0, 0, CD]);
}

#[test]
fn permissions_of_both_stages_count_cached_or_not() {
    // Read-only at stage 2, then at stage 1: the stage that refuses has the fault, and does on a hit as well.
    for (at, bit, expected) in [
        (OUTPUT_SLOT, 1 << 7, words(0x13, 0x280_0000_0000, OFFSET + PA)),
        (leaf_slot(L0), 1 << 7, words(0x13, 0x200_0000_0000, 0)),
    ] {
        let mut machine = a3(both(), 1);
        machine.put(at, machine.get(at) ^ bit);
        for _ in 0..2 {
            assert!(machine.translate(Access::write(SID, VA)).is_err());
            assert_eq!(only_event(&mut machine), expected);
            assert_eq!(machine.read(VA), Some(OUTPUT));
        }
    }
    // A table that stage 2 does not let be read: TTRnW is set, for a write too.
    let mut machine = a3(both(), 1);
    machine.put(slot_of(L0 + 0x1000), page(L0 + 0x1000) & !(1 << 6));
    assert!(machine.translate(Access::write(SID, VA)).is_err());
    let expected = words(0x13, 0x180_0000_0000 | 1 << 44, OFFSET + L0 + 0x1000);
    assert_eq!(only_event(&mut machine), expected);
}

#[test]
fn tables_and_contexts_in_device_memory_fault_with_s2ptw() {
    for (pa, class) in [(L0 + 0x1000, 1u64), (CD, 0)] {
        let mut machine = a3(both(), 1);
        machine.put(slot_of(pa), page(pa) & !(0b1111 << 2));
        assert_eq!(machine.read(VA), Some(OUTPUT));
        let mut machine = a3(both(), 1);
        machine.put(slot_of(pa), page(pa) & !(0b1111 << 2));
        let mut ste = a3_ste();
        ste[2] |= 1 << 54;
        machine.ste(SID, ste);
        assert_eq!(machine.read(VA), None);
        let event = only_event(&mut machine);
        assert_eq!((event[0] & 0xff, event[1] >> 39 & 7), (0x13, 1 | class << 1));
    }
    // What the device itself accesses may be Device memory.
    let mut machine = a3(both(), 1);
    machine.put(OUTPUT_SLOT, page(OUTPUT) & !(0b1111 << 2));
    let mut ste = a3_ste();
    ste[2] |= 1 << 54;
    machine.ste(SID, ste);
    assert_eq!(machine.read(VA), Some(OUTPUT));
}

#[test]
fn the_combination_outlives_invalidations_of_stage_2() {
    let moved = 0xb000_0000;
    let mut machine = a3(both(), 1);
    assert_eq!(machine.read(VA), Some(OUTPUT));
    machine.put(OUTPUT_SLOT, 0);
    machine.command(s2_ipa(OFFSET + PA));
    machine.sync();
    machine.put(OUTPUT_SLOT, page(moved));
    assert_eq!(machine.read(VA), Some(OUTPUT), "S2_IPA alone need not hit it");
    machine.command(tlbi_all().with_vmid(6));
    machine.sync();
    assert_eq!(machine.read(VA), Some(OUTPUT), "another VMID");
    machine.command(tlbi_all().with_vmid(VMID));
    machine.sync();
    assert_eq!(machine.read(VA), Some(moved));
    // The other way round: without S2_IPA, what is cached of stage 2 is combined again.
    machine.put(OUTPUT_SLOT, page(OUTPUT));
    machine.command(tlbi_all().with_vmid(VMID));
    machine.sync();
    assert_eq!(machine.read(VA), Some(moved), "NH_ALL leaves stage 2");
    for all in [0, 1] {
        let mut machine = a3(both(), 1);
        assert_eq!(machine.read(VA), Some(OUTPUT));
        match all {
            0 => machine.command(TlbiS12Vmall::new().with_vmid(VMID)),
            _ => machine.command(TlbiNsnhAll::new()),
        }
        assert_eq!(machine.smmu.tlb_entries().count() + machine.smmu.walk_entries().count(), 0);
    }
}

#[test]
fn commands_of_stage_1_need_the_vmid() {
    for (vmid, asid, gone) in [(7, 5, true), (0, 5, false), (7, 6, false)] {
        let mut machine = a3(both(), 1);
        assert_eq!(machine.read(VA), Some(OUTPUT));
        machine.command(tlbi_asid(asid).with_vmid(vmid));
        machine.sync();
        let left = machine.smmu.tlb_entries().filter(|it| it.stages == Stages::Both).count();
        assert_eq!(left, usize::from(!gone), "{vmid} {asid}");
        let stage_2 = machine.smmu.tlb_entries().filter(|it| it.stages == Stages::Two).count();
        assert_eq!(stage_2, 6, "never those of stage 2");
        let walks = machine.smmu.walk_entries().filter(|it| it.stages() == Stages::Both).count();
        assert_eq!(walks, if gone { 0 } else { 3 });
    }
}

#[test]
fn cached_tables_of_stage_1_stay_where_stage_2_had_them() {
    // The last table moves: another page of memory at the same intermediate address.
    let moved = L0 + 0x10_0000;
    let table = L0 + 0x3000;
    for (pairs, expected) in [(false, Some(OUTPUT)), (true, None)] {
        let mut machine = a3(both(), 1);
        assert_eq!(machine.read(VA), Some(OUTPUT));
        assert!(machine.smmu.references(table, 8).is_some());
        machine.put(leaf_slot(L0) + 8, (OFFSET + PA) | LEAF);
        machine.put(slot_of(table), 0);
        machine.command(s2_ipa(OFFSET + table));
        if pairs {
            machine.command(tlbi_all().with_vmid(VMID));
        }
        machine.sync();
        // While the combined table is cached, its old memory is read.
        assert_eq!(machine.smmu.references(table, 8).is_some(), !pairs);
        machine.put(slot_of(table), page(moved));
        assert_eq!(machine.read(VA + 0x1000), expected);
    }
}

#[test]
fn a_table_is_cached_as_one_only_where_one_translation_covers_it() {
    // 64 KiB granule at stage 1 (T0SZ 22, TG0 1), over pages of 4 KiB: each page of the table goes elsewhere.
    let mut machine = a3(both().granules(true, true, true), 1);
    let root = 0x8050_0000;
    let mut cd = cd_words(5, OFFSET + root);
    cd[0] = cd[0] & !0xff | 22 | 1 << 6;
    machine.cd_at(CD, cd);
    // Of the root and of the last table, only the pages that are needed.
    let (first, last) = (8 * (VA >> 29), 8 * (VA >> 16 & 0x1fff));
    let l3 = 0x8051_0000;
    machine.put(S2_L2 + 8 * 2, (S2_L3 + 0x5000) | 3);
    let leaf = |at: u64| S2_L3 + 0x5000 + 8 * (at >> 12 & 0x1ff);
    machine.put(leaf(root + first), page(0x8060_0000));
    machine.put(leaf(l3 + last), page(0x8060_1000));
    machine.put(0x8060_0000 + (first & 0xfff), (OFFSET + l3) | 3);
    machine.put(0x8060_1000 + (last & 0xfff), (OFFSET + 0x9000_0000) | LEAF);
    machine.put(OUTPUT_SLOT + 8 * (VA >> 12 & 0xf), page(OUTPUT));
    assert_eq!(machine.read(VA), Some(OUTPUT));
    assert!(machine.smmu.walk_entries().all(|entry| entry.stages() == Stages::Two));
}

#[test]
fn stage_1_may_be_skipped() {
    // S1CDMax = 1, S1DSS = 1: without substream, stage 2 alone.
    let mut machine = a3(both().ssidsize(4), 1);
    let mut ste = a3_ste();
    ste[0] |= 1 << 59;
    ste[1] |= 1;
    machine.ste(SID, ste);
    machine.cd_at(CD + 64, cd_words(5, OFFSET + L0));
    let found = machine.translate(Access::read(SID, OFFSET + PA)).unwrap();
    assert_eq!((found.pa, found.tag.unwrap().vmid), (OUTPUT, Some(7)));
    let with = Access { substream: Some(1), ..Access::read(SID, VA) };
    assert_eq!(machine.translate(with).unwrap().pa, OUTPUT);
    // Beyond IAS that is a fault of stage 1, beyond S2T0SZ one of stage 2.
    for (address, event) in [(1 << 44, [0x11, 0x208_0000_0000]), (1 << 40, [0x10, 0x288_0000_0000])]
    {
        assert!(machine.translate(Access::read(SID, address)).is_err());
        let words = only_event(&mut machine);
        assert_eq!([words[0] & 0xff, words[1]], event);
    }
}

#[test]
fn contexts_in_two_levels_are_behind_stage_2_as_well() {
    let mut machine = a3(both().ssidsize(10).two_level_contexts(true), 1);
    let (l1, leaf) = (L0 + 0x3000, CD);
    let mut ste = a3_ste();
    // S1Fmt = 1, 2^10 contexts; the L1CDs are in the page of the last table, beyond its entry.
    ste[0] = (OFFSET + l1) & !0xfff | 0xf | 1 << 4 | 10 << 59;
    machine.ste(SID, ste);
    machine.put(l1 + 8, (OFFSET + leaf) | 1);
    machine.cd_at(leaf + 64 * 7, cd_words(5, OFFSET + L0));
    let access = Access { substream: Some(0x47), ..Access::read(SID, VA) };
    assert_eq!(machine.translate(access).unwrap().pa, OUTPUT);
    // An L1CD that leads to where stage 2 has nothing: CLASS = CD, the address of the context.
    machine.put(l1 + 16, (OFFSET + 0x8055_0000) | 1);
    assert!(machine.translate(Access { substream: Some(0x81), ..access }).is_err());
    let event = only_event(&mut machine);
    assert_eq!(event[3], OFFSET + 0x8055_0000);
    assert_eq!((event[0] & 0xff, event[1] >> 39 & 7), (0x10, 1));
    assert_eq!(machine.smmu.cached_l1_cds().len(), 2);
}

#[test]
fn a_context_pointer_beyond_intermediate_addresses_is_illegal() {
    let mut machine = a3(both(), 1);
    let mut ste = a3_ste();
    ste[0] |= 1 << 44;
    machine.ste(SID, ste);
    let refusal = machine.translate(Access::read(SID, VA)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::CBadSte));
}

#[test]
fn streams_with_and_without_stage_2_must_not_share_a_vmid() {
    for (vmid, shared) in [(7, true), (6, false)] {
        let mut machine = a3(both(), 1);
        assert_eq!(machine.read(VA), Some(OUTPUT));
        let mut alone = ste_words(CD + 64);
        alone[2] = vmid;
        machine.ste(6, alone);
        machine.cd_at(CD + 64, cd_words(5, L0 + 0x8_0000));
        machine.smmu.observations();
        let found = machine.translate(Access::read(6, VA));
        // It hits what is not its own.
        assert_eq!(found.map(|found| found.pa).ok(), shared.then_some(OUTPUT));
        let reported = machine.misuses().contains(&Misuse::VmidOfBoth { vmid: 7, stream: 6 });
        assert_eq!(reported, shared);
    }
}

#[test]
fn it_fetches_ahead_of_need_through_both_stages() {
    let mut machine = a3(Profile::default().s2p(true), 3);
    assert_eq!(machine.read(VA), Some(OUTPUT));
    machine.command(TlbiS12Vmall::new().with_vmid(VMID));
    machine.command(cfgi_ste(SID));
    machine.sync();
    let mut ahead = false;
    for _ in 0..400 {
        machine.smmu.act();
        ahead |= machine.smmu.tlb_entries().any(|entry| entry.va == VA);
    }
    assert!(ahead);
    assert_eq!(machine.events(), []);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn a_context_that_is_being_fetched_is_not_fetched_from_where_stage_2_led_before() {
    let habits = Adversary { split_fetches: true, ..Adversary::NONE };
    let moved = L0 + 0x10_0000;
    let (mut begun, mut under_way) = (0, 0);
    for seed in 0..64 {
        let mut machine = a3(both().adversary(habits), seed);
        // The entry is known, and the fetch of the context has begun, or not.
        let _ = machine.read(VA);
        machine.command(smmuv3_formats::command::CfgiCd::new().with_sid(SID.into()));
        machine.sync();
        for _ in 0..seed % 8 {
            machine.smmu.act();
        }
        if !machine.smmu.cached_cds().iter().all(|cd| !cd.complete) {
            continue;
        }
        begun += usize::from(!machine.smmu.cached_cds().is_empty());
        machine.put(slot_of(CD), 0);
        machine.command(s2_ipa(OFFSET + CD));
        machine.sync();
        // The old memory is another's by now.
        machine.cd_at(CD, [u64::MAX; 8]);
        machine.cd_at(moved, cd_words(5, OFFSET + L0));
        machine.put(slot_of(CD), page(moved));
        under_way += usize::from(!machine.smmu.cached_cds().is_empty());
        for _ in 0..64 {
            machine.smmu.act();
        }
        assert_eq!(machine.read(VA), Some(OUTPUT), "seed {seed}");
    }
    assert!(begun > 8, "{begun}");
    assert_eq!(under_way, 0, "it is not under way any more");
}

#[test]
fn transfers_through_both_stages_wait_for_invalidations_of_stage_1() {
    // A pure invalidation of stage 2 covers the SMMU's own fetches; the transaction needs the other (§4.2).
    for (with_stage_1, ipa, drained) in
        [(false, OFFSET + PA, false), (false, VA, false), (true, OFFSET + PA, true)]
    {
        let mut machine = a3(both(), 1);
        machine.put(OUTPUT_SLOT, page(0x8070_0000));
        machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![7; 8])).unwrap();
        machine.command(s2_ipa(ipa));
        machine.sync();
        if with_stage_1 {
            machine.command(tlbi_all().with_vmid(VMID));
            machine.sync();
        }
        assert_eq!(machine.get(0x8070_0000) != 0, drained);
    }
}

#[test]
fn a_combination_is_as_old_as_the_older_of_its_parts() {
    let habits = Adversary { late_invalidation: true, ..Adversary::NONE };
    let moved = 0xb000_0000;
    let mut late = 0;
    for seed in 0..64 {
        let mut machine = a3(both().adversary(habits), seed);
        assert_eq!(machine.read(VA), Some(OUTPUT));
        machine.command(tlbi_all().with_vmid(VMID));
        machine.sync();
        // Of stage 2 all is cached; it changes, and what invalidates it may be late.
        machine.put(OUTPUT_SLOT, 0);
        machine.command(TlbiS12Vmall::new().with_vmid(VMID));
        late += u32::from(machine.read(VA) == Some(OUTPUT));
        machine.sync();
        machine.put(OUTPUT_SLOT, page(moved));
        assert_eq!(machine.read(VA), Some(moved), "seed {seed}");
    }
    assert!((8..56).contains(&late), "{late}");
}
