// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of EL2, with E2H and without: their tables, their tags, and the commands that are about them (§1, §4.2,
//! §9).

use smmuv3_formats::Command;
use smmuv3_formats::command::{TlbiEl2All, TlbiEl2Asid, TlbiEl2Va, TlbiEl2Vaa, TlbiS12Vmall};
use smmuv3_model::{Access, Broadcast, Misuse, Observation, Pages, Profile, Tlbi, World};

use crate::machine::*;

fn hyp() -> Profile {
    quiet().s2p(true).hyp(true)
}

/// A1, but in EL2.
fn el2(profile: Profile, e2h: bool) -> Machine {
    let mut machine = Machine::new(profile, 1);
    set_e2h(&mut machine, e2h);
    machine.a1();
    machine.ste(SID, el2_ste(CD));
    machine
}

fn set_e2h(machine: &mut Machine, e2h: bool) {
    machine.switch(0b1100);
    machine.smmu.write32(CR2, 0b10 | u32::from(e2h));
    machine.switch(0b1101);
}

/// With STRW = 2, and a VMID that means nothing.
fn el2_ste(cd: u64) -> [u64; 8] {
    let mut words = ste_words(cd);
    words[1] |= 2 << 30;
    words[2] = 3;
    words
}

fn counts(machine: &Machine) -> (usize, usize) {
    (machine.smmu.tlb_entries().count(), machine.smmu.walk_entries().count())
}

#[test]
fn each_world_has_its_own_tag() {
    for (e2h, world, asid) in [(false, World::El2, 0), (true, World::El2E2h, 5)] {
        let mut machine = el2(hyp(), e2h);
        let found = machine.translate(Access::read(SID, VA)).unwrap();
        assert_eq!(found.pa, PA);
        let tag = found.tag.unwrap();
        assert_eq!((tag.world, tag.vmid, tag.asid), (world, None, asid));
        assert!(machine.translate(Access::read(SID, VA)).unwrap().tlb_hit);
        assert!(machine.smmu.walk_entries().all(|entry| entry.tag == tag));
        assert_eq!(machine.misuses(), []);
    }
    let mut machine = el2(hyp(), true);
    machine.ste(SID, ste_words(CD));
    let tag = machine.translate(Access::read(SID, VA)).unwrap().tag.unwrap();
    assert_eq!((tag.world, tag.vmid, tag.asid), (World::El1, Some(0), 5));
}

#[test]
fn worlds_do_not_share_translations() {
    // Neither has a VMID, both have ASID 5; stream 6 has no tables.
    for e2h in [false, true] {
        for el2_first in [false, true] {
            let mut machine = el2(quiet().hyp(true), e2h);
            let (first, other) = match el2_first {
                true => (el2_ste(CD), ste_words(CD + 64)),
                false => (ste_words(CD), el2_ste(CD + 64)),
            };
            machine.ste(SID, first);
            machine.ste(6, other);
            machine.cd_at(CD + 64, cd_words(5, 0x8050_0000));
            assert_eq!(machine.read(VA), Some(PA));
            assert!(machine.translate(Access::read(6, VA)).is_err());
        }
    }
}

#[test]
fn el2_has_one_table_and_one_privilege() {
    let mut machine = el2(hyp(), false);
    // EPD0 counts as 0, and the fields of the upper half mean nothing.
    let mut cd = cd_words(5, L0);
    cd[0] = cd[0] & !(1 << 30 | 0xff << 16) | 1 << 14 | 25 << 16 | 2 << 22;
    cd[2] = L0;
    machine.cd_at(CD, cd);
    // AP[1] = 0: without EL2 that were for privileged transactions alone.
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 6));
    for privileged in [false, true] {
        let access = Access { privileged, ..Access::write(SID, VA) };
        assert_eq!(machine.translate(access).map(|found| found.pa), Ok(PA));
    }
    assert!(machine.translate(Access::read(SID, VA | !0 << 48)).is_err());
    assert_eq!(machine.events()[0].0[0] & 0xff, 0x10, "F_TRANSLATION");
    // XN alone decides about execution.
    let fetch = Access { instruction: true, privileged: true, ..Access::read(SID, VA) };
    assert!(machine.translate(fetch).is_err());
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 54));
    machine.command(TlbiEl2All::new());
    assert!(machine.translate(fetch).is_ok());
    // The same context with E2H: EPD0 is 1, and there is an upper half of 39 bits.
    let mut machine = el2(hyp(), true);
    machine.cd_at(CD, cd);
    assert_eq!(machine.read(VA), None);
    machine.put(L0 + 8 * 4, (L0 + 0x1000) | 3);
    machine.put(L0 + 0x1000, (L0 + 0x3000) | 3);
    machine.put(L0 + 0x3000 + 8, PA | LEAF);
    assert_eq!(machine.read((!0 << 39) | 1 << 32 | 0x1000), Some(PA));
}

#[test]
fn el2_without_e2h_is_one_address_space() {
    let mut machine = el2(hyp(), false);
    assert_eq!(machine.read(VA), Some(PA));
    machine.smmu.observations();
    // Another ASID does not make it another one: the first table is hit.
    machine.cd_at(CD + 64, cd_words(6, 0x8050_0000));
    machine.ste(6, el2_ste(CD + 64));
    assert_eq!(machine.translate(Access::read(6, VA)).map(|found| found.pa), Ok(PA));
    let conflict = machine.smmu.observations().into_iter().find_map(|what| match what {
        Observation::TagConflict { tag, ttb_old, ttb_new, stream } => {
            Some((tag.world, ttb_old, ttb_new, stream))
        }
        _ => None,
    });
    assert_eq!(conflict, Some((World::El2, L0, 0x8050_0000, 6)));
    // Contexts that are the same but for their ASIDs agree.
    machine.cd_at(CD + 128, cd_words(7, L0));
    machine.ste(7, el2_ste(CD + 128));
    assert_eq!(machine.translate(Access::read(7, VA)).map(|found| found.pa), Ok(PA));
    assert!(!machine.misuses().iter().any(|it| matches!(it, Misuse::TagDisagreement { .. })));
}

#[test]
fn commands_hit_their_own_world() {
    let va = |asid| TlbiEl2Va::new().with_asid(asid).with_addr(VA);
    let vaa = TlbiEl2Vaa::new().with_addr(VA);
    let other = VA + (1 << 39);
    // What is left of a leaf and three tables in: EL1 (VMID 3), EL2, EL2-E2H, EL2-E2H where the leaf is global.
    type Left = (usize, usize);
    const ALL: Left = (1, 3);
    const NONE: Left = (0, 0);
    let cases: [(Command, [Left; 4]); 17] = [
        (TlbiEl2All::new().into(), [ALL, NONE, NONE, NONE]),
        (TlbiEl2Asid::new().with_asid(5).into(), [ALL, ALL, NONE, (1, 0)]),
        (TlbiEl2Asid::new().with_asid(0).into(), [ALL; 4]),
        (TlbiEl2Asid::new().with_asid(6).into(), [ALL; 4]),
        (va(5).into(), [ALL, NONE, NONE, NONE]),
        // Without E2H the ASID means nothing.
        (va(6).into(), [ALL, NONE, ALL, (0, 3)]),
        (va(5).with_addr(other).into(), [ALL; 4]),
        (va(5).with_leaf(true).into(), [ALL, (0, 3), (0, 3), (0, 3)]),
        (vaa.into(), [ALL, NONE, NONE, NONE]),
        (vaa.with_leaf(true).into(), [ALL, (0, 3), (0, 3), (0, 3)]),
        (vaa.with_addr(other).into(), [ALL; 4]),
        // A hint that does not match, and a granule that does not.
        (
            vaa.with_tg(1).with_ttl(2).with_addr(VA & !0x1f_ffff).into(),
            [ALL, (1, 1), (1, 1), (1, 1)],
        ),
        (vaa.with_tg(3).with_ttl(3).with_num(1).with_addr(VA & !0xffff).into(), [ALL; 4]),
        (
            va(5).with_tg(1).with_ttl(3).with_num(3).with_leaf(true).into(),
            [ALL, (0, 3), (0, 3), (0, 3)],
        ),
        // Those of EL1.
        (tlbi_everything().into(), [NONE, ALL, ALL, ALL]),
        (tlbi_all().with_vmid(3).into(), [NONE, ALL, ALL, ALL]),
        (tlbi_vaa(VA).with_vmid(3).into(), [NONE, ALL, ALL, ALL]),
    ];
    for (command, expected) in cases {
        for (index, expected) in expected.into_iter().enumerate() {
            let mut machine = el2(hyp(), index >= 2);
            match index {
                0 => {
                    let mut ste = ste_words(CD);
                    ste[2] = 3;
                    machine.ste(SID, ste);
                }
                3 => machine.put(leaf_slot(L0), PA | LEAF & !(1 << 11)),
                _ => {}
            }
            assert_eq!(machine.read(VA), Some(PA));
            assert_eq!(counts(&machine), ALL);
            machine.smmu.observations();
            machine.command(command);
            machine.sync();
            assert_eq!(counts(&machine), expected, "{command} in world {index}");
            assert_eq!(machine.misuses(), [], "{command}");
        }
    }
    let mut machine = el2(hyp(), true);
    assert_eq!(machine.read(VA), Some(PA));
    for vmid in [0, 3] {
        machine.command(TlbiS12Vmall::new().with_vmid(vmid));
        machine.command(tlbi_asid(5).with_vmid(vmid));
        machine.command(tlbi_va(5, VA).with_vmid(vmid));
    }
    assert_eq!(counts(&machine), ALL);
}

#[test]
fn after_a_change_of_e2h_only_el2_all_is_sure() {
    for (command, left) in [
        (Command::from(TlbiEl2Va::new().with_asid(5).with_addr(VA)), 1),
        (TlbiEl2Vaa::new().with_addr(VA).into(), 1),
        (TlbiEl2All::new().into(), 0),
    ] {
        let mut machine = el2(hyp(), true);
        assert_eq!(machine.read(VA), Some(PA));
        machine.switch(0b1100);
        machine.smmu.write32(CR2, 0b10);
        machine.command(command);
        machine.sync();
        assert_eq!(counts(&machine).0, left, "{command}");
    }
    // In effect, they are about the other kind.
    let mut machine = el2(hyp(), true);
    assert_eq!(machine.read(VA), Some(PA));
    set_e2h(&mut machine, false);
    machine.command(TlbiEl2Va::new().with_asid(5).with_addr(VA));
    assert_eq!(counts(&machine).0, 1);
    // What is left of E2H is hit by contexts of EL2 whose ASID, which has no meaning, would have it.
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn what_is_left_of_a_plain_el2_is_hit_with_e2h() {
    let mut machine = el2(hyp(), false);
    assert_eq!(machine.read(VA), Some(PA));
    set_e2h(&mut machine, true);
    let mut cd = cd_words(5, 0x8050_0000);
    cd[0] &= !(1 << 47);
    machine.cd_at(CD, cd);
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!(machine.read(VA), Some(PA), "not told apart");
    machine.command(TlbiEl2All::new());
    machine.sync();
    assert_eq!(machine.read(VA), None);
}

#[test]
fn asids_of_el2_are_as_wide_as_the_others() {
    let mut machine = el2(hyp().asid16(false), true);
    assert_eq!(machine.read(VA), Some(PA));
    machine.smmu.observations();
    for command in [
        Command::from(TlbiEl2Asid::new().with_asid(0x105)),
        TlbiEl2Va::new().with_asid(0x105).with_addr(VA).into(),
    ] {
        machine.command(command);
        assert_eq!(machine.misuses(), [Misuse::AsidTooWide { asid: 0x105 }]);
    }
    assert_eq!(counts(&machine).0, 1);
}

#[test]
fn e2h_is_there_where_el2_is() {
    let mut machine = Machine::reset(quiet(), 1);
    machine.smmu.write32(CR2, 0b11);
    assert_eq!(machine.smmu.read32(CR2), 0b10);
    assert_eq!(machine.misuses(), [Misuse::ReservedRegisterBits { offset: CR2, bits: 1 }]);
    let mut machine = Machine::reset(quiet().hyp(true), 1);
    machine.smmu.write32(CR2, 0b11);
    assert_eq!(machine.smmu.read32(CR2), 0b11);
}

/// Broadcasts are of one world each, and of EL2 they name no VMID (§8.3).
#[test]
fn broadcasts_reach_their_own_world_alone() {
    let va = |asid| Tlbi::Va { asid, pages: Pages::one(VA) };
    // How many of a leaf and three tables go: from EL1 (VMID 3), EL2, EL2-E2H.
    for (world, tlbi, removed) in [
        (World::El1, Tlbi::All, [4, 0, 0]),
        (World::El2, Tlbi::All, [0, 4, 0]),
        (World::El2E2h, Tlbi::All, [0, 0, 4]),
        (World::El2E2h, Tlbi::Asid { asid: 5 }, [0, 0, 4]),
        (World::El2E2h, Tlbi::Asid { asid: 6 }, [0, 0, 0]),
        (World::El2E2h, va(5), [0, 0, 4]),
        (World::El2E2h, va(6), [0, 0, 0]),
        // Without E2H the ASID means nothing.
        (World::El2, va(6), [0, 4, 0]),
    ] {
        for (index, removed) in removed.into_iter().enumerate() {
            let mut machine = el2(hyp().btm(true), index == 2);
            let mut cd = cd_words(5, L0);
            // ASET = 0: shared with processors.
            cd[0] &= !(1 << 47);
            machine.cd_at(CD, cd);
            if index == 0 {
                let mut ste = ste_words(CD);
                ste[2] = 3;
                machine.ste(SID, ste);
            }
            assert_eq!(machine.read(VA), Some(PA));
            let vmid = if world == World::El1 { 3 } else { 0x77 };
            let sent = machine.smmu.broadcast(Broadcast { world, vmid, tlbi });
            assert_eq!(sent, Some(removed), "{world} {tlbi:?} on {index}");
        }
    }
    let text = Broadcast { world: World::El2E2h, vmid: 0, tlbi: va(5) }.to_string();
    assert_eq!(text, format!("TLBI VAE2IS va {VA:#x} pages 0x1 asid 0x5"));
    let text = Broadcast { world: World::El2, vmid: 0, tlbi: Tlbi::All }.to_string();
    assert_eq!(text, "TLBI ALLE2IS");
}
