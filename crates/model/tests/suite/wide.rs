// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tables of stage 1 can be besides those of appendix A1: 52-bit addresses, both halves, contiguous groups,
//! overridden privileges (§5.2, §8.2, §15, §16).

use std::collections::BTreeSet;

use smmuv3_formats::EventId;
use smmuv3_model::{Access, Adversary, Misuse, Profile, Reason};

use crate::machine::*;

/// DS of word 2, and IPS = 52 bits.
const DS: u64 = 1 << 58;
const IPS: u64 = 7 << 32;
const IPS_52: u64 = 6 << 32;
const TABLES: u64 = 0x8060_0000;

fn large() -> Profile {
    quiet().granules(true, true, true).oas(52).lpa2(true).wide_addresses(true)
}

/// A1's context with other bits 7:0 (T0SZ and TG0), 52-bit outputs, and tables at `TABLES`.
fn wide_cd(low: u64, ds: u64) -> [u64; 8] {
    let mut cd = cd_words(5, TABLES);
    cd[0] = cd[0] & !0xff & !IPS | low | IPS_52;
    cd[2] = ds;
    cd
}

#[test]
fn lpa2_begins_at_level_minus_one_and_has_two_address_bits_in_place_of_sh() {
    // 4 KiB, T0SZ = 12. Address bits 51:48 choose one of 16 descriptors.
    let va = 0x000a_9012_3456_7000;
    let build = |machine: &Machine, cd| {
        machine.a1();
        machine.cd_at(CD, cd);
        machine.put(TABLES + 8 * 0xa, (TABLES + 0x1000) | 3);
        machine.put(TABLES + 0x1000 + 8 * (va >> 39 & 0x1ff), (TABLES + 0x2000) | 3);
        machine.put(TABLES + 0x2000 + 8 * (va >> 30 & 0x1ff), (TABLES + 0x3000) | 3);
        machine.put(TABLES + 0x3000 + 8 * (va >> 21 & 0x1ff), (TABLES + 0x4000) | 3);
        // Output 0x000d_8000_9000_0000: bits 51:50 are 11, bits 49:48 are 01.
        let leaf = 0x0060_0000_0000_0c43 | 0x0001_8000_9000_0000 | 0b11 << 8;
        machine.put(TABLES + 0x4000 + 8 * (va >> 12 & 0x1ff), leaf);
    };
    let mut machine = Machine::new(large(), 1);
    build(&machine, wide_cd(12, DS));
    assert_eq!(machine.read(va | 0x123), Some(0x000d_8000_9000_0123));
    let walks: Vec<_> = machine.smmu.walk_entries().map(|entry| entry.level).collect();
    assert_eq!(walks.iter().min(), Some(&-1), "{walks:?}");
    // The next address differs in bit 51 alone, which has to be looked at.
    assert_eq!(machine.read(va ^ 1 << 51), None);

    // Without DS such an input size is illegal, on any instance.
    for (profile, cd) in [(large(), wide_cd(12, 0)), (large().lpa2(false), wide_cd(12, DS))] {
        let mut machine = Machine::new(profile, 1);
        build(&machine, cd);
        let refusal = machine.translate(Access::read(SID, va)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Event(EventId::CBadCd));
    }
}

#[test]
fn lpa2_has_larger_blocks() {
    // A block of 512 GiB at level 0, and one of 64 GiB at level 1 of 16 KiB (TG0 = 2, T0SZ = 17).
    for (low, ds, slot, size) in [
        (16, DS, TABLES + 8 * (VA >> 39), 1u64 << 39),
        (17 | 2 << 6, DS, TABLES + 8 * (VA >> 36), 1 << 36),
    ] {
        let mut machine = Machine::new(large(), 1);
        machine.a1();
        machine.cd_at(CD, wide_cd(low, ds));
        machine.put(slot, 0x0003_0000_0000_0000 | LEAF & !2 & !(3 << 8));
        let found = machine.translate(Access::read(SID, VA)).unwrap();
        assert_eq!((found.pa, found.size), (0x0003_0000_0000_0000 | VA & (size - 1), size));
        // Without DS there is no such block.
        let mut machine = Machine::new(large(), 1);
        machine.a1();
        machine.cd_at(CD, wide_cd(low, 0));
        machine.put(slot, LEAF & !2);
        assert_eq!(machine.read(VA), None);
        assert_eq!(machine.events()[0].id(), 0x10);
    }
}

#[test]
fn pages_of_64k_have_four_more_address_bits_where_outputs_have_52() {
    let mut machine = Machine::new(large(), 1);
    machine.a1();
    machine.cd_at(CD, wide_cd(22 | 1 << 6, 0));
    machine.put(TABLES + 8 * (VA >> 29), (TABLES + 0x1_0000) | 3);
    // Bits 15:12 of the descriptor are address bits 51:48.
    machine.put(TABLES + 0x1_0000 + 8 * (VA >> 16 & 0x1fff), PA | LEAF | 0x9000);
    assert_eq!(machine.read(VA), Some(0x0009_0000_0000_0000 | PA | VA & 0xffff));
    // Where IPS is smaller, that is too much.
    let mut cd = wide_cd(22 | 1 << 6, 0);
    cd[0] = cd[0] & !IPS | 5 << 32;
    machine.cd_at(CD, cd);
    machine.command(cfgi_cd(SID));
    machine.command(tlbi_all());
    machine.sync();
    assert_eq!(machine.read(VA), None);
    assert_eq!(machine.events()[0].id(), 0x11);
    // Where outputs have 48 bits, they are reserved, and ignored.
    let mut machine = Machine::new(large().lpa2(false).oas(48), 1);
    machine.a1();
    machine.cd_at(CD, wide_cd(22 | 1 << 6, 0));
    machine.put(TABLES + 8 * (VA >> 29), (TABLES + 0x1_0000) | 3);
    machine.put(TABLES + 0x1_0000 + 8 * (VA >> 16 & 0x1fff), PA | LEAF | 0x9000);
    assert_eq!(machine.read(VA), Some(PA | VA & 0xffff));
}

#[test]
fn each_half_ignores_its_own_top_bytes() {
    // TBI1 alone, and both halves by A1's tables.
    let mut cd = cd_words(5, L0);
    cd[0] = cd[0] & !(1 << 30) | 2 << 22 | 16 << 16 | 1 << 39;
    cd[2] = L0;
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.cd_at(CD, cd);
    let upper = VA | 0xffff << 48;
    assert_eq!(machine.read(upper), Some(PA));
    assert_eq!(machine.read(upper & !(0xff << 56)), Some(PA), "bit 55 chooses the half");
    assert_eq!(machine.read(upper & !(0xff << 48)), None, "bits 55:48 count");
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(machine.read(VA | 0xab << 56), None, "TBI0 is 0");
    // E0PD1: unprivileged accesses of the upper half fault, cached or not.
    cd[2] |= 1 << 2;
    let mut profile = quiet();
    profile.idr3 = profile.idr3.with_e0pd(true);
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    machine.cd_at(CD, cd);
    assert_eq!(machine.read(upper), None);
    let privileged = Access { privileged: true, ..Access::read(SID, upper) };
    assert!(machine.translate(privileged).is_ok());
    assert_eq!(machine.read(upper), None);
}

#[test]
fn any_part_of_a_contiguous_group_may_be_cached() {
    let profile = quiet().adversary(Adversary { contiguous_spans: true, ..Adversary::NONE });
    let group = leaf_slot(L0) & !0x7f;
    let mut sizes = BTreeSet::new();
    for seed in 0..64 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.a1();
        for n in 0..16 {
            machine.put(group + 8 * n, (PA + 0x1000 * n) | LEAF | 1 << 52);
        }
        // Flags of members may differ, and members may be invalid.
        machine.put(group, PA | LEAF | 1 << 52 | 1 << 7);
        machine.put(group + 8 * 15, 0);
        let found = machine.translate(Access::read(SID, VA)).unwrap();
        assert_eq!(found.pa, PA + (VA & 0xf000));
        sizes.insert(found.size);
        assert_eq!(machine.misuses(), []);
    }
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [0x1000, 0x2000, 0x4000, 0x8000, 0x1_0000]);
}

#[test]
fn a_group_whose_members_disagree_is_reported() {
    let profile = quiet().adversary(Adversary { contiguous_spans: true, ..Adversary::NONE });
    let group = leaf_slot(L0) & !0x7f;
    // Another output, no hint, another type; and all of them shifted by a page.
    for (member, wrong) in [(3, 0x10_0000), (3, 1 << 52), (3, 1 << 2), (16, 0x1000)] {
        let mut machine = Machine::new(profile.clone(), 1);
        machine.a1();
        for n in 0..16 {
            let word = (PA + 0x1000 * n) | LEAF | 1 << 52;
            machine.put(group + 8 * n, if n == member { word ^ wrong } else { word });
        }
        if member == 16 {
            for n in 0..16 {
                machine.put(group + 8 * n, (PA + 0x1000 * (n + 1)) | LEAF | 1 << 52);
            }
        }
        let found = machine.translate(Access::read(SID, VA)).unwrap();
        assert_eq!(found.size, 0x1000);
        let misuses = machine.misuses();
        assert!(matches!(misuses[..], [Misuse::BrokenGroup { .. }]), "{misuses:?}");
    }
}

#[test]
fn the_entry_may_override_privilege_and_kind() {
    // Privileged only, and executable without privilege only: AP = 00, PXN.
    let leaf = PA | LEAF & !(1 << 6) & !(1 << 54);
    let mut profile = quiet();
    profile.idr1 = profile.idr1.with_attr_perms_ovr(true);
    // (PRIVCFG, INSTCFG, privileged, instruction) -> permitted, for a read.
    for (privcfg, instcfg, privileged, instruction, permitted) in [
        (0, 0, false, false, false),
        (0, 0, true, false, true),
        (3, 0, false, false, true),
        (2, 0, true, false, false),
        (0, 3, false, false, true),
        (0, 2, false, true, false),
        (3, 3, false, false, false),
        (2, 3, true, false, true),
    ] {
        let mut machine = Machine::new(profile.clone(), 1);
        machine.a1();
        machine.put(leaf_slot(L0), leaf);
        let mut ste = ste_words(CD);
        ste[1] |= privcfg << 48 | instcfg << 50;
        machine.ste(SID, ste);
        let access = Access { privileged, instruction, ..Access::read(SID, VA) };
        let found = machine.translate(access);
        assert_eq!(found.is_ok(), permitted, "{privcfg} {instcfg} {privileged} {instruction}");
        if let Err(refusal) = found {
            // What the event says is what counted.
            let event = refusal.event.unwrap();
            assert_eq!(event.pnu(), privcfg == 3 || privcfg == 0 && privileged);
            assert_eq!(event.ind(), instcfg == 3 || instcfg == 0 && instruction);
        }
    }
    // Writes are always data; and an entry that does not translate overrides as well.
    let mut machine = Machine::new(profile, 1);
    machine.ste(SID, [0x9, 1 << 44 | 3 << 48 | 3 << 50, 0, 0, 0, 0, 0, 0]);
    let refusal = machine.translate(Access::write(SID, 1 << 50)).unwrap_err();
    let event = refusal.event.unwrap();
    assert_eq!((event.id(), event.pnu(), event.ind()), (0x11, true, false));
}
