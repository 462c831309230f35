// SPDX-License-Identifier: MIT OR Apache-2.0
//! What processors invalidate, and what they do not reach (§8.3).

use smmuv3_model::{
    Access, Broadcast, Granule, Misuse, Observation, Pages, Profile, Tlbi, Transfer, World,
};

use crate::machine::*;

const SHARED: bool = false;
const PRIVATE: bool = true;
/// CD.ASET, STE and CD of the reference's A1 have it set.
const ASET: u64 = 1 << 47;

fn btm() -> Profile {
    quiet().btm(true)
}

/// A1 with the page cached, through a CD with this ASET.
fn cached(profile: Profile, aset: bool) -> Machine {
    cached_with_leaf(profile, aset, PA | LEAF)
}

fn cached_with_leaf(profile: Profile, aset: bool, leaf: u64) -> Machine {
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    machine.put(leaf_slot(L0), leaf);
    let mut cd = cd_words(5, L0);
    cd[0] = cd[0] & !ASET | if aset { ASET } else { 0 };
    machine.cd_at(CD, cd);
    assert_eq!(machine.read(VA), Some(PA));
    machine.smmu.observations();
    machine
}

/// Cached leaves and table descriptors.
fn counts(machine: &Machine) -> (usize, usize) {
    (machine.smmu.tlb_entries().count(), machine.smmu.walk_entries().count())
}

fn one(asid: u16, va: u64) -> Tlbi {
    Tlbi::Va { asid, pages: Pages::one(va) }
}

fn send(machine: &mut Machine, tlbi: Tlbi) -> Option<usize> {
    machine.smmu.broadcast(Broadcast { world: World::El1, vmid: 0, tlbi })
}

fn pages(va: u64, count: u64, granule: Granule) -> Pages {
    Pages { va, count, granule, last_level: false }
}

#[test]
fn shared_entries_are_hit_and_private_ones_only_where_no_asid_is_named() {
    let leaf = Pages { last_level: true, ..Pages::one(VA) };
    let rows = [
        (one(5, VA), (0, 0), (1, 3)),
        (one(5, VA | 0xfff), (0, 0), (1, 3)),
        (Tlbi::Va { asid: 5, pages: leaf }, (0, 3), (1, 3)),
        (one(6, VA), (1, 3), (1, 3)),
        (one(5, VA + 0x1000), (1, 0), (1, 3)),
        (Tlbi::Asid { asid: 5 }, (0, 0), (1, 3)),
        (Tlbi::Asid { asid: 6 }, (1, 3), (1, 3)),
        (Tlbi::Vaa { pages: Pages::one(VA) }, (0, 0), (0, 0)),
        (Tlbi::Vaa { pages: leaf }, (0, 3), (0, 3)),
        (Tlbi::Vaa { pages: Pages::one(VA + (1 << 39)) }, (1, 3), (1, 3)),
        (Tlbi::All, (0, 0), (0, 0)),
    ];
    for (tlbi, shared, private) in rows {
        for (aset, left) in [(SHARED, shared), (PRIVATE, private)] {
            let mut machine = cached(btm(), aset);
            let removed = send(&mut machine, tlbi);
            assert_eq!(counts(&machine), left, "{tlbi:?} ASET {aset}");
            assert_eq!(removed, Some(4 - left.0 - left.1));
            assert_eq!(machine.smmu.cached_cds().len(), 1, "configuration is none of its business");
        }
    }
}

#[test]
fn global_entries_are_hit_by_address_unless_they_are_private() {
    let global = PA | LEAF & !(1 << 11);
    let rows = [
        // The tables have the ASID of the CD whatever the leaf says.
        (one(9, VA), (0, 3), (1, 3)),
        (one(5, VA), (0, 0), (1, 3)),
        (Tlbi::Asid { asid: 5 }, (1, 0), (1, 3)),
        (Tlbi::Vaa { pages: Pages::one(VA) }, (0, 0), (0, 0)),
        (Tlbi::All, (0, 0), (0, 0)),
    ];
    for (tlbi, shared, private) in rows {
        for (aset, left) in [(SHARED, shared), (PRIVATE, private)] {
            let mut machine = cached_with_leaf(btm(), aset, global);
            send(&mut machine, tlbi);
            assert_eq!(counts(&machine), left, "{tlbi:?} ASET {aset}");
        }
    }
}

#[test]
fn commands_do_not_look_at_aset() {
    for aset in [SHARED, PRIVATE] {
        let mut machine = cached(btm(), aset);
        machine.command(tlbi_asid(5));
        machine.sync();
        assert_eq!(counts(&machine), (0, 0));
    }
}

#[test]
fn an_entry_keeps_the_aset_that_it_was_walked_with() {
    // Not global: ASET plays no part in the lookup, so that a private CD uses a shared entry.
    let mut machine = cached(btm(), SHARED);
    machine.cd_at(CD + 64, cd_words(5, L0));
    machine.ste(6, ste_words(CD + 64));
    let hit = machine.translate(Access::read(6, VA)).unwrap();
    assert!(hit.tlb_hit);
    assert!(matches!(machine.misuses()[..], [Misuse::TagDisagreement { stream: 6, .. }]));
    assert!(machine.smmu.tlb_entries().all(|entry| !entry.aset));
    assert!(machine.smmu.walk_entries().all(|entry| !entry.aset));
    send(&mut machine, Tlbi::Asid { asid: 5 });
    assert_eq!(counts(&machine), (0, 0));
    // And now the other way round.
    assert!(machine.translate(Access::read(6, VA)).is_ok());
    send(&mut machine, Tlbi::Asid { asid: 5 });
    assert_eq!(counts(&machine), (1, 3));
}

#[test]
fn ranges_end_where_they_say_and_never_leave_their_half() {
    let low = VA - 0xf000;
    let rows = [
        (pages(low, 15, Granule::K4), true, 1),
        (pages(low, 16, Granule::K4), true, 0),
        (pages(VA, 1 << 50, Granule::K4), true, 0),
        (pages(VA, u64::MAX, Granule::K4), true, 0),
        (pages(VA, 0, Granule::K4), true, 1),
        // A range is one of a granule; a single page is not, and without RIL there are only such.
        (pages(VA, 2, Granule::K64), true, 1),
        (pages(VA, 1, Granule::K64), true, 0),
        (pages(VA, 2, Granule::K64), false, 0),
        // Bit 55 decides: the top byte may hold anything.
        (pages(VA | 0xab << 56, 1, Granule::K4), true, 0),
        (pages(VA | 0xff << 48, 1 << 50, Granule::K4), true, 1),
        (pages(1 << 63, u64::MAX, Granule::K4), true, 0),
    ];
    for (at, ril, left) in rows {
        let mut machine = cached(btm().ril(ril), SHARED);
        send(&mut machine, Tlbi::Va { asid: 5, pages: at });
        assert_eq!(counts(&machine).0, left, "{at:?} RIL {ril}");
    }
    // From the bottom, everything of the lower half; the upper half stays.
    let mut machine = cached(btm(), SHARED);
    let mut cd = cd_words(5, L0);
    cd[0] = cd[0] & !(ASET | 1 << 30) | 2 << 22 | 16 << 16;
    cd[2] = L0;
    machine.cd_at(CD, cd);
    machine.command(cfgi_cd(SID));
    machine.sync();
    assert_eq!(machine.read(VA | 0xffff << 48), Some(PA));
    send(&mut machine, Tlbi::Va { asid: 5, pages: pages(0, u64::MAX, Granule::K4) });
    let left: Vec<_> = machine.smmu.tlb_entries().map(|entry| entry.va).collect();
    assert_eq!(left, [VA | 0xffff << 48]);
}

#[test]
fn without_stage_2_only_vmid_0_is_heard() {
    for (vmid, left) in [(0, 0), (1, 1), (0x100, 1)] {
        let mut machine = cached(btm(), SHARED);
        machine.smmu.broadcast(Broadcast { world: World::El1, vmid, tlbi: Tlbi::All });
        assert_eq!(counts(&machine).0, left, "{vmid}");
    }
}

#[test]
fn with_stage_2_the_vmid_is_compared_and_the_wildcard_applies() {
    let mut profile = btm().s2p(true).vmid16(true);
    profile.idr0 = profile.idr0.with_vmw(true);
    for tlbi in [one(5, VA), Tlbi::Asid { asid: 5 }, Tlbi::All] {
        let mut machine = Machine::new(profile.clone(), 1);
        machine.a1();
        let mut cd = cd_words(5, L0);
        cd[0] &= !ASET;
        machine.cd_at(CD, cd);
        let mut ste = ste_words(CD);
        ste[2] = 0x305;
        machine.ste(SID, ste);
        assert_eq!(machine.read(VA), Some(PA));
        for vmid in [0, 5, 0x304, 0x205] {
            machine.smmu.broadcast(Broadcast { world: World::El1, vmid, tlbi });
            assert_eq!(counts(&machine), (1, 3), "{vmid:#x}");
        }
        // VMW = 1 ignores the lowest bit.
        machine.switch(0b1101 | 1 << 6);
        machine.smmu.broadcast(Broadcast { world: World::El1, vmid: 0x304, tlbi });
        assert_eq!(counts(&machine), (0, 0));
    }
}

#[test]
fn narrow_instances_compare_the_low_byte_and_may_hit_with_another_upper_one() {
    for tlbi in [one(0x105, VA), Tlbi::Asid { asid: 0x105 }] {
        // 16 bits: another ASID.
        let mut machine = cached(btm(), SHARED);
        send(&mut machine, tlbi);
        assert_eq!(counts(&machine), (1, 3));
        // 8 bits: both are seen.
        let mut hits = 0;
        let mut machine = cached(btm().asid16(false), SHARED);
        for _ in 0..64 {
            send(&mut machine, tlbi);
            let (leaves, tables) = counts(&machine);
            assert!((leaves, tables) == (1, 3) || (leaves, tables) == (0, 0));
            hits += 1 - leaves;
            assert_eq!(machine.read(VA), Some(PA));
        }
        assert!((8..56).contains(&hits), "{hits}");
    }
    let mut machine = cached(btm().asid16(false), SHARED);
    send(&mut machine, Tlbi::Asid { asid: 6 });
    assert_eq!(counts(&machine), (1, 3));
    send(&mut machine, Tlbi::Asid { asid: 5 });
    assert_eq!(counts(&machine), (0, 0));
    // VMIDs alike.
    let mut hits = 0;
    let mut machine = cached(btm().s2p(true), SHARED);
    for _ in 0..64 {
        machine.smmu.broadcast(Broadcast { world: World::El1, vmid: 0x100, tlbi: Tlbi::All });
        hits += 1 - counts(&machine).0;
        assert_eq!(machine.read(VA), Some(PA));
    }
    assert!((8..56).contains(&hits), "{hits}");
}

#[test]
fn ptm_counts_from_the_next_enabling_on() {
    let mut machine = cached(btm(), SHARED);
    // Guarded while SMMUEN is 1.
    machine.smmu.write32(CR2, 0b110);
    assert_eq!(machine.misuses(), [Misuse::GuardedWrite { offset: CR2, value: 0b110 }]);
    assert_eq!(machine.smmu.read32(CR2), 0b010);
    machine.switch(0b1100);
    machine.smmu.write32(CR2, 0b110);
    assert_eq!(machine.smmu.read32(CR2), 0b110);
    assert_eq!(send(&mut machine, one(6, VA)), Some(0), "not in effect yet");
    machine.switch(0b1101);
    for tlbi in [one(5, VA), Tlbi::Asid { asid: 5 }, Tlbi::Vaa { pages: Pages::one(VA) }, Tlbi::All]
    {
        assert_eq!(send(&mut machine, tlbi), None, "{tlbi:?}");
    }
    assert_eq!(counts(&machine), (1, 3));
    // And back.
    machine.switch(0b1100);
    machine.smmu.write32(CR2, 0b010);
    assert_eq!(send(&mut machine, Tlbi::All), None);
    machine.switch(0b1101);
    assert_eq!(send(&mut machine, Tlbi::All), Some(4));
}

#[test]
fn without_btm_nothing_is_heard() {
    let mut machine = cached(quiet(), SHARED);
    assert_eq!(send(&mut machine, Tlbi::All), None);
    assert_eq!(counts(&machine), (1, 3));
    assert_eq!(machine.smmu.statistics().broadcasts, 0);
}

#[test]
fn a_broadcast_is_complete_when_it_returns_with_the_transfers_that_it_reached() {
    for seed in 0..16 {
        // However late commands are.
        let mut machine = Machine::new(Profile::default().btm(true), seed);
        machine.a1();
        machine.put(leaf_slot(L0), 0x8070_0000 | LEAF);
        let mut cd = cd_words(5, L0);
        cd[0] &= !ASET;
        machine.cd_at(CD, cd);
        let write = || Transfer::Write(vec![7; 8]);
        machine.smmu.hold(Access::write(SID, VA), write()).unwrap();
        machine.put(leaf_slot(L0), 0);
        send(&mut machine, one(6, VA));
        send(&mut machine, one(5, VA + 0x1000));
        assert_eq!(machine.smmu.held().count(), 1);
        send(&mut machine, one(5, VA));
        assert_eq!(machine.smmu.held().count(), 0);
        let finished = machine.smmu.finished();
        assert_eq!((finished.len(), finished[0].drained), (1, true));
        assert_eq!(machine.get(0x8070_0000), 0x0707_0707_0707_0707);
        assert_eq!(machine.read(VA), None);
    }
}

#[test]
fn every_broadcast_is_told() {
    let mut machine = cached(btm(), SHARED);
    let broadcast = Broadcast { world: World::El1, vmid: 0, tlbi: Tlbi::Asid { asid: 5 } };
    assert_eq!(machine.smmu.broadcast(broadcast), Some(4));
    let told = machine.smmu.observations();
    assert_eq!(told, [Observation::Broadcast { broadcast, removed: Some(4) }]);
    assert_eq!(machine.smmu.statistics().broadcasts, 1);
    let texts = [
        (Tlbi::Asid { asid: 5 }, "TLBI ASIDE1IS asid 0x5 vmid 0x3"),
        (Tlbi::All, "TLBI VMALLE1IS vmid 0x3"),
        (one(5, 0x1000), "TLBI VAE1IS va 0x1000 pages 0x1 asid 0x5 vmid 0x3"),
        (
            Tlbi::Vaa { pages: Pages { count: 2, last_level: true, ..Pages::one(0x1000) } },
            "TLBI RVAALE1IS va 0x1000 pages 0x2 vmid 0x3",
        ),
    ];
    for (tlbi, text) in texts {
        assert_eq!(Broadcast { world: World::El1, vmid: 3, tlbi }.to_string(), text);
    }
}
