// SPDX-License-Identifier: MIT OR Apache-2.0
//! Range invalidations, level hints and granules, against leaves of every level (§4.2); and ranges of streams.

use smmuv3_formats::Command;
use smmuv3_formats::command::{CfgiCdAll, CfgiSte, CfgiSteRange, CfgiVmsPidm, TlbiNhVa, TlbiS2Ipa};
use smmuv3_model::{Access, Misuse, Observation, Profile};

use crate::context_table::{L1, LEAF_A, SMALL_LEAVES, substream_ste, through, wide};
use crate::machine::*;
use crate::stage_2::{A2_W1, A2_W2, both, page};

/// First address of the leaf at level 1, 2 and 3.
const AT: [u64; 3] = [0x4000_0000, 0x8020_0000, 0x8040_1000];

/// Tables from `L0` on with a leaf at each level, all of which were looked at: three leaves, and table descriptors
/// at levels 0, 1 and 2 that lead to the last.
fn leaves() -> Machine {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(L0, (L0 + 0x1000) | 3);
    machine.put(L0 + 0x1000 + 8, 0x40_0000_0000 | LEAF & !2);
    machine.put(L0 + 0x1000 + 8 * 2, (L0 + 0x2000) | 3);
    machine.put(L0 + 0x2000 + 8, 0x50_0000_0000 | LEAF & !2);
    machine.put(L0 + 0x2000 + 8 * 2, (L0 + 0x3000) | 3);
    machine.put(L0 + 0x3000 + 8, 0x60_0000_0000 | LEAF);
    for address in AT {
        assert!(machine.read(address).is_some());
    }
    machine.smmu.observations();
    assert_eq!(left(&machine), (vec![1, 2, 3], vec![0, 1, 2]));
    machine
}

/// Levels of what is cached: leaves, and table descriptors.
fn left(machine: &Machine) -> (Vec<i8>, Vec<i8>) {
    let mut leaves: Vec<_> = machine.smmu.tlb_entries().map(|entry| entry.level).collect();
    let mut tables: Vec<_> = machine.smmu.walk_entries().map(|entry| entry.level).collect();
    leaves.sort_unstable();
    tables.sort_unstable();
    (leaves, tables)
}

#[test]
fn a_level_hint_hits_leaves_of_that_level_and_tables_above() {
    // 4 GiB from 0 on, so that everything is inside: NUM + 1 = 32 times 2^15 pages.
    let all = TlbiNhVa::new().with_asid(5).with_tg(1).with_num(31).with_scale(15);
    let cases: [(u64, bool, &[i8], &[i8]); 8] = [
        (0, true, &[], &[0, 1, 2]),
        (0, false, &[], &[]),
        (1, true, &[2, 3], &[0, 1, 2]),
        (1, false, &[2, 3], &[1, 2]),
        (2, true, &[1, 3], &[0, 1, 2]),
        (2, false, &[1, 3], &[2]),
        (3, true, &[1, 2], &[0, 1, 2]),
        (3, false, &[1, 2], &[]),
    ];
    for (ttl, leaf, leaves_left, tables_left) in cases {
        let mut machine = leaves();
        machine.command(all.with_ttl(ttl).with_leaf(leaf));
        machine.sync();
        let expected = (leaves_left.to_vec(), tables_left.to_vec());
        assert_eq!(left(&machine), expected, "TTL {ttl}, Leaf {leaf}");
        assert_eq!(machine.misuses(), []);
    }
    // Entries of another granule stay, whatever the hint.
    for tg in [2, 3] {
        for ttl in 0..4 {
            let mut machine = leaves();
            machine.command(all.with_tg(tg).with_ttl(ttl));
            machine.sync();
            assert_eq!(left(&machine), (vec![1, 2, 3], vec![0, 1, 2]), "TG {tg}, TTL {ttl}");
        }
    }
}

#[test]
fn an_address_without_granule_hits_the_leaf_that_covers_it() {
    for (index, address) in AT.into_iter().enumerate() {
        let inside = [0x3fff_f000, 0x1f_f000, 0][index];
        let mut machine = leaves();
        machine.command(tlbi_va(5, address + inside).with_leaf(true));
        machine.sync();
        let mut expected = vec![1, 2, 3];
        expected.remove(index);
        assert_eq!(left(&machine).0, expected);
    }
}

#[test]
fn a_range_ends_where_num_and_scale_say() {
    let page = 0x1000u64;
    // First page, NUM, SCALE; whether the page at 0x8040_1000 is within.
    for (first, num, scale, hit) in [
        (AT[2], 0, 1, true),
        (AT[2] - page, 0, 1, true),
        (AT[2] - 2 * page, 0, 1, false),
        (AT[2] - 2 * page, 2, 0, true),
        (AT[2] - 2 * page, 1, 0, false),
        (AT[2] - 31 * page, 30, 0, false),
        (AT[2] - 31 * page, 31, 0, true),
        (AT[2] - 6 * page, 2, 1, false),
        (AT[2] - 6 * page, 3, 1, true),
        (AT[2] + page, 31, 31, false),
        (0, 0, 20, true),
        (0, 0, 19, false),
        (0, 1, 19, true),
    ] {
        let mut machine = leaves();
        let command = TlbiNhVa::new().with_asid(5).with_tg(1).with_leaf(true).with_addr(first);
        machine.command(command.with_num(num).with_scale(scale));
        machine.sync();
        assert_eq!(!left(&machine).0.contains(&3), hit, "{first:#x}, {num}, {scale}");
        assert_eq!(machine.misuses(), []);
    }
}

#[test]
fn a_range_does_not_leave_its_half() {
    let mut machine = leaves();
    let top = TlbiNhVa::new().with_asid(5).with_tg(1).with_addr(!0 << 13);
    machine.command(top.with_num(31).with_scale(31));
    machine.sync();
    assert_eq!(left(&machine).0, [1, 2, 3], "past the top there is no address 0");
}

/// Alignment that TG and TTL demand, and combinations without meaning.
#[test]
fn ranges_that_mean_nothing_leave_everything() {
    let profile = |ds: bool| {
        let profile = quiet().granules(true, true, true);
        if ds { profile.lpa2(true).oas(52) } else { profile }
    };
    // DS, TG, TTL, and the lowest address bit that may be set.
    let alignments = [
        (false, 1, 0, 12),
        (false, 1, 1, 30),
        (false, 1, 2, 21),
        (false, 1, 3, 12),
        (false, 2, 0, 14),
        (false, 2, 1, 14),
        (false, 2, 2, 25),
        (false, 2, 3, 14),
        (true, 2, 1, 36),
        (false, 3, 0, 16),
        (false, 3, 1, 42),
        (false, 3, 2, 29),
        (false, 3, 3, 16),
    ];
    for (ds, tg, ttl, bit) in alignments {
        let command = TlbiNhVa::new().with_asid(5).with_num(1).with_tg(tg).with_ttl(ttl);
        let mut machine = Machine::new(profile(ds), 1);
        machine.command(command.with_addr(1 << bit));
        assert_eq!(machine.misuses(), [], "TG {tg}, TTL {ttl}");
        if bit > 12 {
            let command = Command::from(command.with_addr(1 << (bit - 1)));
            machine.command(command);
            assert_eq!(machine.misuses(), [Misuse::BadRange { command }], "TG {tg}, TTL {ttl}");
        }
    }
    // SCALE has a sixth bit with DS alone; what is above 39 counts as 39.
    for (ds, fine) in [(false, false), (true, true)] {
        let mut machine = Machine::new(profile(ds), 1);
        machine.command(TlbiNhVa::new().with_asid(5).with_tg(1).with_scale(32));
        machine.command(TlbiNhVa::new().with_asid(5).with_tg(1).with_scale(63));
        assert_eq!(machine.misuses().is_empty(), fine);
    }
    // TTL128 is of tables that are not there; without RIL, nothing of it is.
    let va = TlbiNhVa::new().with_asid(5).with_addr(AT[2]);
    let bad: [(Profile, TlbiNhVa); 6] = [
        (quiet(), va.with_tg(1).with_num(1).with_ttl128(true)),
        (quiet(), va.with_ttl(3)),
        (quiet(), va.with_scale(1)),
        (quiet().ril(false), va.with_tg(1)),
        (quiet().ril(false), va.with_ttl(3)),
        (quiet().ril(false), va.with_scale(1)),
    ];
    for (profile, command) in bad {
        let mut machine = Machine::new(profile, 1);
        let command = Command::from(command);
        machine.command(command);
        assert_eq!(machine.misuses(), [Misuse::BadRange { command }], "{command}");
    }
}

#[test]
fn hints_count_at_stage_2_as_well() {
    // A block of 2 MiB at level 2 of stage 2: A2 with its last table left out.
    let ipa = 0xff_1220_0000u64;
    let s2 = |command: TlbiS2Ipa| command.with_vmid(7).with_addr(ipa);
    let cases = [
        (s2(TlbiS2Ipa::new()).with_tg(1).with_ttl(2).with_leaf(true), (0, 1)),
        (s2(TlbiS2Ipa::new()).with_tg(1).with_ttl(2), (0, 0)),
        (s2(TlbiS2Ipa::new()).with_tg(1).with_ttl(3), (1, 0)),
        (s2(TlbiS2Ipa::new()).with_tg(1).with_ttl(1).with_addr(ipa & !0x3fff_ffff), (1, 1)),
        (s2(TlbiS2Ipa::new()).with_tg(2).with_num(1), (1, 1)),
        (s2(TlbiS2Ipa::new()).with_tg(1).with_num(1).with_vmid(6), (1, 1)),
        (s2(TlbiS2Ipa::new()).with_tg(1).with_num(1).with_addr(ipa + 0x20_0000), (1, 0)),
    ];
    for (command, expected) in cases {
        let mut machine = Machine::new(both(), 1);
        machine.ste(SID, [0xd, A2_W1, A2_W2, 0x8004_0000, 0, 0, 0, 0]);
        machine.put(0x8004_0000 + 8 * (ipa >> 30), 0x8004_2003);
        machine.put(0x8004_2000 + 8 * (ipa >> 21 & 0x1ff), page(PA) & !2);
        assert_eq!(machine.read(ipa), Some(PA));
        machine.command(command);
        machine.sync();
        let (leaves, tables) = left(&machine);
        assert_eq!((leaves.len(), tables.len()), expected, "{command:?}");
        assert_eq!(machine.misuses(), []);
    }
}

#[test]
fn a_range_of_streams_is_aligned_to_its_size() {
    for range in 0..6u64 {
        for sid in [0u32, 1, 5, 21, 63] {
            let mut machine = Machine::new(quiet(), 1);
            for stream in 0..64 {
                machine.ste(stream, ste_words(CD));
                let _ = machine.translate(Access::read(stream, VA));
            }
            assert_eq!(machine.smmu.cached_stes().len(), 64);
            assert_eq!(machine.smmu.cached_cds().len(), 64);
            machine.command(CfgiSteRange::new().with_sid(sid.into()).with_range(range));
            machine.sync();
            let size = 2u32 << range;
            let gone = sid / size * size..sid / size * size + size;
            let left = machine.smmu.cached_stes();
            assert!(left.iter().all(|entry| !gone.contains(&entry.stream)));
            assert_eq!(left.len() as u32, 64 - size);
            assert_eq!(machine.smmu.cached_cds().len() as u32, 64 - size);
        }
    }
    // 31 is everything, whatever the stream.
    let mut machine = Machine::new(quiet(), 1);
    let _ = machine.read(VA);
    machine.command(CfgiSteRange::new().with_sid(0x1_0000).with_range(31));
    assert_eq!(machine.smmu.cached_stes().len(), 0);
}

#[test]
fn descriptors_of_streams_go_with_leaf_0_and_with_ranges() {
    let (l1, l2) = (0x8030_0000, 0x8031_0000);
    for (command, gone) in [
        (Command::from(CfgiSte::new().with_sid(64).with_leaf(true)), false),
        (CfgiSte::new().with_sid(128).into(), false),
        (CfgiSte::new().with_sid(70).into(), true),
        (CfgiSteRange::new().with_sid(0).with_range(5).into(), false),
        (CfgiSteRange::new().with_sid(0).with_range(6).into(), true),
        (CfgiSteRange::new().with_sid(127).with_range(0).into(), true),
        (Command::cfgi_all(), true),
    ] {
        let mut machine = Machine::new(quiet(), 1);
        machine.switch(0b1100);
        machine.smmu.write64(STRTAB_BASE, l1);
        // 2^8 streams, SPLIT 6.
        machine.smmu.write32(STRTAB_BASE_CFG, 8 | 6 << 6 | 1 << 16);
        machine.switch(0b1101);
        machine.put(l1 + 8, l2 | 7);
        let _ = machine.translate(Access::read(64, VA));
        machine.put(l1 + 8, 0);
        machine.command(command);
        machine.sync();
        assert_eq!(machine.smmu.references(l2, 64).is_none(), gone, "{command}");
    }
}

#[test]
fn all_contexts_of_a_stream_go_with_what_leads_to_them() {
    let mut machine = Machine::new(wide(), 1);
    machine.tables_a1(L0, PA);
    machine.put(L1, LEAF_A | 1);
    for stream in [SID, 6] {
        machine.ste(stream, substream_ste(L1, SMALL_LEAVES, 8));
        for substream in 1..4 {
            machine.cd_at(LEAF_A + 64 * u64::from(substream), cd_words(5, L0));
            assert!(machine.translate(through(stream, substream, VA)).is_ok());
        }
    }
    assert_eq!((machine.smmu.cached_cds().len(), machine.smmu.cached_l1_cds().len()), (6, 2));
    machine.command(CfgiCdAll::new().with_sid(SID.into()));
    machine.sync();
    assert!(machine.smmu.cached_cds().iter().all(|entry| entry.stream == 6));
    assert_eq!((machine.smmu.cached_cds().len(), machine.smmu.cached_l1_cds().len()), (3, 1));
    assert_eq!(machine.smmu.cached_stes().len(), 2);
    assert_eq!(left(&machine).0.len(), 1, "nor any translation");
}

#[test]
fn maps_of_partids_are_not_cached() {
    let mut profile = both();
    profile.idr3 = profile.idr3.with_mpam(true);
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine.smmu.observations();
    machine.command(CfgiVmsPidm::new().with_vmid(0));
    let told = machine.smmu.observations();
    assert!(told.contains(&Observation::Applied { position: 0, removed: 0 }), "{told:?}");
    assert_eq!(machine.smmu.cached_stes().len(), 1);
}
