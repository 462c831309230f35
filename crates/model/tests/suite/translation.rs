// SPDX-License-Identifier: MIT OR Apache-2.0
//! Appendix A1 end to end, its negative results, and the order and contents of events (§9, §10, §15, §16).

use smmuv3_formats::EventId;
use smmuv3_model::{Access, Observation, Profile, Reason};

use crate::machine::*;

/// The only event in the queue, and that nothing else happened.
fn only_event(machine: &mut Machine) -> [u64; 4] {
    let events = machine.events();
    assert_eq!(events.len(), 1, "{events:?}");
    events[0].0
}

/// Word 1 of a fault: read or write, CLASS = IN.
const READ: u64 = 0x0000_0208_0000_0000;
const WRITE: u64 = 0x0000_0200_0000_0000;

fn fault_words(id: u64, w1: u64, address: u64) -> [u64; 4] {
    [id | u64::from(SID) << 32, w1, address, 0]
}

#[test]
fn the_worked_example_translates() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    assert_eq!(machine.get(L0), 0x8001_1003);
    assert_eq!(machine.get(leaf_slot(L0)), 0x0060_0000_9000_0f43);
    assert_eq!(cd_words(5, L0)[0], 0x0005_e204_c000_3510);
    assert_eq!(ste_words(CD)[0], 0x8002_000b);
    let first = machine.translate(Access::write(SID, VA + 0x123)).unwrap();
    assert_eq!((first.pa, first.size, first.tlb_hit), (PA + 0x123, 0x1000, false));
    let tag = first.tag.unwrap();
    assert_eq!((tag.vmid, tag.asid), (None, 5));
    let second = machine.translate(Access::read(SID, VA)).unwrap();
    assert!(second.tlb_hit);
    assert_eq!(second.entry, first.entry);
    assert_eq!(machine.events(), []);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn every_walk_is_told_once_and_a_hit_is_silent() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let walks = |machine: &mut Machine| {
        let walk = |seen| match seen {
            Observation::Walked { stream: SID, va, descriptors, fault, speculative: false } => {
                Some((va, descriptors, fault))
            }
            _ => None,
        };
        machine.smmu.observations().into_iter().filter_map(walk).collect::<Vec<_>>()
    };
    machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!(walks(&mut machine), [(VA, 4, None)]);
    machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!(machine.smmu.observations(), []);
    machine.translate(Access::read(SID, VA + 0x1000)).unwrap_err();
    // The three tables are cached: only the leaf is read.
    assert_eq!(walks(&mut machine), [(VA + 0x1000, 1, Some(EventId::FTranslation))]);
}

#[test]
fn an_invalid_context_is_c_bad_cd() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    cd[0] &= !(1 << 31);
    machine.cd_at(CD, cd);
    let refusal = machine.translate(Access::read(SID, VA)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::CBadCd));
    assert!(refusal.recorded);
    assert_eq!(only_event(&mut machine), [0x0000_0005_0000_000a, 0, 0, 0]);
}

#[test]
fn a_wide_asid_is_c_bad_cd_on_a_narrow_instance_only() {
    for (profile, fine) in [(quiet(), true), (quiet().asid16(false), false)] {
        let mut machine = Machine::new(profile, 1);
        machine.a1();
        machine.cd_at(CD, cd_words(0x105, L0));
        assert_eq!(machine.read(VA), fine.then_some(PA));
        let ids: Vec<_> = machine.events().iter().map(|event| event.id()).collect();
        assert_eq!(ids, if fine { vec![] } else { vec![0x0a] });
    }
}

#[test]
fn a_clear_access_flag_is_f_access_unless_affd() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 10));
    assert_eq!(machine.read(VA), None);
    assert_eq!(only_event(&mut machine), fault_words(0x12, READ, VA));
    // It was not cached: setting the flag needs no invalidation.
    machine.put(leaf_slot(L0), PA | LEAF);
    assert_eq!(machine.read(VA), Some(PA));

    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    cd[0] |= 1 << 35;
    machine.cd_at(CD, cd);
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 10));
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn a_write_to_a_read_only_page_is_f_permission() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(leaf_slot(L0), PA | LEAF | 1 << 7);
    assert!(machine.translate(Access::write(SID, VA + 8)).is_err());
    assert_eq!(only_event(&mut machine), fault_words(0x13, WRITE, VA + 8));
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn addresses_outside_the_tables_are_f_translation() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    for address in [0x0001_0000_0000_0000, 0xffff_ffff_ffff_f000, VA + 0x1000, VA ^ 1 << 40] {
        assert_eq!(machine.read(address), None);
        assert_eq!(only_event(&mut machine), fault_words(0x10, READ, address));
    }
}

#[test]
fn outputs_beyond_ips_are_f_addr_size_at_every_level() {
    for slot in [L0, L0 + 0x1240, L0 + 0x2d10, leaf_slot(L0)] {
        let mut machine = Machine::new(quiet().oas(48), 1);
        machine.a1();
        machine.put(slot, machine.get(slot) | 1 << 44);
        assert_eq!(machine.read(VA), None);
        assert_eq!(only_event(&mut machine), fault_words(0x11, READ, VA));
        // Never cached.
        machine.put(slot, machine.get(slot) & !(1 << 44));
        assert_eq!(machine.read(VA), Some(PA));
    }
}

#[test]
fn unreadable_structures_are_fetch_events_with_the_address() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let ste = STRTAB + 64 * u64::from(SID);
    let sid = u64::from(SID) << 32;
    for (pa, expected) in [
        (ste, [sid | 0x03, 0, 0, ste]),
        (CD, [sid | 0x09, 0, 0, CD]),
        // Stage 1 only: S2 = 0, CLASS = TT.
        (L0 + 0x1240, [sid | 0x0b, 0x0000_0108_0000_0000, VA, L0 + 0x1240]),
    ] {
        machine.ram.break_range(pa, 8);
        assert_eq!(machine.read(VA), None);
        assert_eq!(only_event(&mut machine), expected);
        // A failed fetch is not cached.
        machine.ram.repair();
    }
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn blocks_translate_where_the_granule_has_them() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(L0 + 0x2d10, 0x4000_0000 | LEAF & !2);
    let found = machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!((found.pa, found.size), (0x4000_0000 | VA & 0x1f_ffff, 2 << 20));

    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(L0 + 0x1240, 0x4000_0000 | LEAF & !2);
    let found = machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!((found.pa, found.size), (0x4000_0000 | VA & 0x3fff_ffff, 1 << 30));

    // Level 0 has none, and a "block" at level 3 is reserved.
    for slot in [L0, leaf_slot(L0)] {
        let mut machine = Machine::new(quiet(), 1);
        machine.a1();
        machine.put(slot, machine.get(slot) & !2);
        assert_eq!(machine.read(VA), None);
        assert_eq!(only_event(&mut machine)[0] & 0xff, 0x10);
    }
}

#[test]
fn permissions_follow_ap_xn_and_the_tables_above() {
    // (leaf bits changed, table bits, CD bits) -> unprivileged r, w, x; privileged r, w, x
    const AP0: u64 = 1 << 6;
    const RO: u64 = 1 << 7;
    const XN: u64 = 1 << 54 | 1 << 53;
    const WXN: u64 = 1 << 36;
    const PAN: u64 = 1 << 40;
    let cases = [
        (0, 0, 0, "rw-rw-"),
        (AP0, 0, 0, "---rw-"),
        (RO, 0, 0, "r--r--"),
        (AP0 | RO, 0, 0, "---r--"),
        (XN, 0, 0, "rwxrw-"),
        (XN | AP0, 0, 0, "--xrwx"),
        (XN | RO, 0, 0, "r-xr-x"),
        (XN, 0, WXN, "rw-rw-"),
        (XN | AP0, 0, WXN, "--xrw-"),
        (XN | RO, 0, WXN, "r-xr-x"),
        (0, 0, PAN, "rw----"),
        (AP0, 0, PAN, "---rw-"),
        (0, 1 << 61, 0, "---rw-"),
        (0, 2 << 61, 0, "r--r--"),
        (0, 3 << 61, 0, "---r--"),
        (XN | RO, 1 << 60, 0, "r--r-x"),
        (XN | RO, 1 << 59, 0, "r-xr--"),
    ];
    for (leaf, table, cd_bits, expected) in cases {
        for level in [L0, L0 + 0x1240, L0 + 0x2d10] {
            let mut machine = Machine::new(quiet(), 1);
            machine.a1();
            let mut cd = cd_words(5, L0);
            cd[0] |= cd_bits;
            machine.cd_at(CD, cd);
            machine.put(leaf_slot(L0), (PA | LEAF) ^ leaf);
            machine.put(level, machine.get(level) | table);
            let mut found = String::new();
            for privileged in [false, true] {
                for (kind, write, instruction) in
                    [('r', false, false), ('w', true, false), ('x', false, true)]
                {
                    let access = Access { write, instruction, privileged, ..Access::read(SID, VA) };
                    let allowed = machine.translate(access).is_ok();
                    found.push(if allowed { kind } else { '-' });
                    for event in machine.events() {
                        let w1 = 0x200_0000_0000
                            | u64::from(privileged) << 33
                            | u64::from(instruction) << 34
                            | u64::from(!write) << 35;
                        assert_eq!(event.0, fault_words(0x13, w1, VA));
                    }
                }
            }
            assert_eq!(found, expected, "{leaf:#x} {table:#x} {cd_bits:#x}");
        }
    }
}

#[test]
fn hierarchical_permissions_are_ignored_with_had() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    cd[1] |= 2;
    machine.cd_at(CD, cd);
    machine.put(L0, machine.get(L0) | 3 << 61);
    assert!(machine.translate(Access::write(SID, VA)).is_ok());
}

#[test]
fn the_access_flag_is_checked_before_permissions() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 10) | 1 << 7);
    assert!(machine.translate(Access::write(SID, VA)).is_err());
    assert_eq!(only_event(&mut machine)[0] & 0xff, 0x12);
}

#[test]
fn the_upper_half_has_tables_of_its_own() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    // EPD1 = 0, TG1 = 4K, T1SZ = 16; the tables of A1 serve both halves.
    cd[0] = cd[0] & !(1 << 30) | 2 << 22 | 16 << 16;
    cd[2] = L0;
    machine.cd_at(CD, cd);
    let upper = VA | 0xffff << 48;
    assert_eq!(machine.read(upper), Some(PA));
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(machine.read(VA | 1 << 48), None);
    let entries: Vec<_> = machine.smmu.tlb_entries().map(|entry| entry.va).collect();
    assert!(entries.contains(&upper) && entries.contains(&VA));
    // With TBI0 the top byte is not looked at.
    cd[0] |= 1 << 38;
    machine.cd_at(CD, cd);
    machine.command(cfgi_cd(SID));
    assert_eq!(machine.read(VA | 0xab << 56), Some(PA));
}

#[test]
fn coarse_granules_walk_their_own_tables() {
    // 16 KiB, 47 bits: levels 1 to 3. TG0 = 2.
    let mut machine = Machine::new(quiet().granules(true, true, true), 1);
    machine.a1();
    let mut cd = cd_words(5, 0x8010_4000);
    cd[0] = cd[0] & !0xff | 17 | 2 << 6;
    machine.cd_at(CD, cd);
    machine.put(0x8010_4000 + 8 * (VA >> 36), 0x8010_8003);
    machine.put(0x8010_8000 + 8 * (VA >> 25 & 0x7ff), 0x8010_c003);
    machine.put(0x8010_c000 + 8 * (VA >> 14 & 0x7ff), PA | LEAF);
    let found = machine.translate(Access::read(SID, VA + 5)).unwrap();
    assert_eq!((found.pa, found.size), (PA + (VA & 0x3fff) + 5, 0x4000));

    // 64 KiB, 42 bits: levels 2 and 3. TG0 = 1.
    let mut machine = Machine::new(quiet().granules(true, true, true), 1);
    machine.a1();
    let mut cd = cd_words(5, 0x8011_0000);
    cd[0] = cd[0] & !0xff | 22 | 1 << 6;
    machine.cd_at(CD, cd);
    machine.put(0x8011_0000 + 8 * (VA >> 29), 0x8012_0003);
    machine.put(0x8012_0000 + 8 * (VA >> 16 & 0x1fff), PA | LEAF);
    let found = machine.translate(Access::read(SID, VA)).unwrap();
    assert_eq!((found.pa, found.size), (PA + (VA & 0xffff), 0x1_0000));

    // Granules that are not there make the context illegal.
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.cd_at(CD, cd);
    assert_eq!(machine.read(VA), None);
    assert_eq!(only_event(&mut machine)[0] & 0xff, 0x0a);
}

#[test]
fn silent_contexts_record_nothing() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    cd[0] &= !(1 << 45);
    machine.cd_at(CD, cd);
    let refusal = machine.translate(Access::read(SID, VA + 0x1000)).unwrap_err();
    assert_eq!((refusal.event, refusal.recorded), (None, false));
    assert_eq!(refusal.reason, Reason::Event(EventId::FTranslation));
    assert_eq!(machine.events(), []);
}

#[test]
fn a_context_without_abort_is_illegal_with_term_model_and_raz_wi_without() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    cd[0] &= !(1 << 46);
    machine.cd_at(CD, cd);
    assert_eq!(machine.read(VA), None);
    assert_eq!(only_event(&mut machine)[0] & 0xff, 0x0a);

    let mut profile = quiet();
    profile.idr0 = profile.idr0.with_term_model(false);
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    machine.cd_at(CD, cd);
    let refusal = machine.translate(Access::read(SID, VA + 0x1000)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Ignored(EventId::FTranslation));
    assert_eq!(only_event(&mut machine)[0] & 0xff, 0x10);
}

#[test]
fn what_is_not_modelled_is_said_and_aborts() {
    let mut profile = quiet();
    profile.idr3 = profile.idr3.with_aie(true);
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    let mut cd = cd_words(5, L0);
    // AIE.
    cd[2] = 1 << 3;
    machine.cd_at(CD, cd);
    let refusal = machine.translate(Access::read(SID, VA)).unwrap_err();
    assert!(matches!(refusal.reason, Reason::Unsupported(_)));
    assert_eq!(refusal.event, None);
    let said = machine.smmu.observations();
    assert!(said.iter().any(|o| matches!(o, Observation::Unsupported(_))), "{said:?}");
}

#[test]
fn entries_are_tagged_with_the_vmid_where_stage_2_exists() {
    let mut machine = Machine::new(quiet().s2p(true), 1);
    machine.a1();
    let mut other = ste_words(CD + 0x40);
    other[2] = 9;
    machine.ste(6, other);
    // The same ASID over other tables: no conflict, since the VMIDs differ.
    machine.tables_a1(L0 + 0x10_0000 * 4, PA + 0x1000);
    machine.cd_at(CD + 0x40, cd_words(5, L0 + 0x10_0000 * 4));
    assert_eq!(machine.read(VA), Some(PA));
    let found = machine.translate(Access::read(6, VA)).unwrap();
    assert_eq!(found.pa, PA + 0x1000);
    assert_eq!(found.tag.unwrap().vmid, Some(9));
    let said = machine.smmu.observations();
    assert!(!said.iter().any(|o| matches!(o, Observation::TagConflict { .. })), "{said:?}");
}

#[test]
fn substreams_select_contexts_of_a_linear_table() {
    let mut machine = Machine::new(quiet().ssidsize(4), 1);
    machine.a1();
    let table = CD + 0x100;
    let mut ste = ste_words(table);
    ste[0] |= 2 << 59;
    // S1DSS = 0: no traffic without substream.
    machine.ste(SID, ste);
    machine.cd_at(table + 3 * 64, cd_words(5, L0));
    let with = |substream| Access { substream, ..Access::read(SID, VA) };
    assert_eq!(machine.translate(with(Some(3))).map(|t| t.pa).ok(), Some(PA));
    assert!(machine.translate(with(Some(4))).is_err());
    assert_eq!(only_event(&mut machine), [0x0000_0005_0000_4008, 0, 0, 0]);
    assert!(machine.translate(with(None)).is_err());
    assert_eq!(only_event(&mut machine), [0x0000_0005_0000_0006, 0, 0, 0]);
    // Without substreams, any is bad.
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    assert!(machine.translate(with(Some(0))).is_err());
    assert_eq!(only_event(&mut machine), [0x0000_0005_0000_0008, 0, 0, 0]);
}

#[test]
fn events_of_substreams_carry_them() {
    let mut machine = Machine::new(quiet().ssidsize(4), 1);
    machine.a1();
    let mut ste = ste_words(CD);
    ste[0] |= 1 << 59;
    machine.ste(SID, ste);
    machine.cd_at(CD + 64, cd_words(5, L0));
    let access = Access { substream: Some(1), ..Access::read(SID, VA + 0x1000) };
    assert!(machine.translate(access).is_err());
    assert_eq!(only_event(&mut machine), [0x0000_0005_0000_1810, READ, VA + 0x1000, 0]);
}

#[test]
fn a_narrow_instance_and_a_wide_one_walk_the_same_tables() {
    for profile in [Profile::default(), Profile::small_asid()] {
        let mut machine = Machine::new(profile, 7);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
    }
}
