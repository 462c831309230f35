// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stays stale, and what exactly each invalidation hits (§4.2, §8.1).

use smmuv3_formats::Command;
use smmuv3_formats::command::{CfgiCdAll, CfgiSteRange, TlbiNhVa};
use smmuv3_model::{Access, Adversary, Misuse, Observation};

use crate::machine::*;

/// A1 with the page cached.
fn cached(profile: smmuv3_model::Profile) -> Machine {
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine
}

/// Cached leaves and table descriptors.
fn counts(machine: &Machine) -> (usize, usize) {
    (machine.smmu.tlb_entries().count(), machine.smmu.walk_entries().count())
}

#[test]
fn without_tlbi_an_unmapped_page_stays_reachable() {
    let mut machine = cached(quiet());
    machine.put(leaf_slot(L0), 0);
    machine.sync();
    assert_eq!(machine.read(VA), Some(PA));
    machine.command(tlbi_va(5, VA));
    machine.sync();
    assert_eq!(machine.read(VA), None);
}

#[test]
fn who_has_to_be_told_twice_may_forget_only_the_second_time() {
    let mut machine = cached(smmuv3_model::Profile { repeated_invalidation: true, ..quiet() });
    let mut kept = 0;
    for _ in 0..32 {
        machine.put(leaf_slot(L0), PA | LEAF);
        assert_eq!(machine.read(VA), Some(PA));
        machine.put(leaf_slot(L0), 0);
        // Twice before a CMD_SYNC is once.
        for _ in 0..2 {
            machine.command(tlbi_va(5, VA));
        }
        machine.sync();
        kept += usize::from(machine.read(VA).is_some());
        for _ in 0..2 {
            machine.command(tlbi_va(5, VA));
            machine.sync();
        }
        assert_eq!(machine.read(VA), None);
    }
    assert!(kept > 0);
}

#[test]
fn each_tlbi_hits_what_it_must_and_nothing_else() {
    let va = TlbiNhVa::new().with_asid(5);
    let ranges: [(Command, (usize, usize)); 19] = [
        // Wrong ASID, wrong address.
        (tlbi_asid(6).into(), (1, 3)),
        (tlbi_va(6, VA).into(), (1, 3)),
        (tlbi_va(5, VA + 0x1000).into(), (1, 0)),
        (tlbi_vaa(VA + (1 << 39)).into(), (1, 3)),
        (tlbi_va(5, VA).with_leaf(true).into(), (0, 3)),
        (tlbi_va(5, VA).into(), (0, 0)),
        (tlbi_vaa(VA).into(), (0, 0)),
        (tlbi_asid(5).into(), (0, 0)),
        (tlbi_all().into(), (0, 0)),
        (tlbi_everything().into(), (0, 0)),
        // Ranges of 4K pages: level 3 by hint, from 16 pages below on.
        (va.with_tg(1).with_ttl(3).with_leaf(true).with_addr(VA).into(), (0, 3)),
        (va.with_tg(1).with_ttl(3).with_addr(VA).into(), (0, 0)),
        (va.with_tg(1).with_ttl(3).with_num(14).with_addr(VA - 0xf000).into(), (1, 0)),
        (va.with_tg(1).with_ttl(3).with_num(15).with_addr(VA - 0xf000).into(), (0, 0)),
        (va.with_tg(1).with_scale(4).with_addr(VA - 0xf000).into(), (0, 0)),
        (va.with_tg(1).with_scale(3).with_addr(VA - 0x8000).into(), (1, 0)),
        // Level 2: no leaf there, and tables above it only (levels 0 and 1).
        (va.with_tg(1).with_ttl(2).with_addr(VA & !0x1f_ffff).into(), (1, 1)),
        (va.with_tg(1).with_ttl(1).with_addr(VA & !0x3fff_ffff).into(), (1, 2)),
        // Another granule.
        (va.with_tg(3).with_ttl(3).with_num(31).with_addr(VA & !0xf_ffff).into(), (1, 3)),
    ];
    for (command, expected) in ranges {
        let mut machine = cached(quiet());
        assert_eq!(counts(&machine), (1, 3));
        machine.smmu.observations();
        machine.command(command);
        machine.sync();
        assert_eq!(counts(&machine), expected, "{command}");
        assert_eq!(machine.misuses(), []);
    }
}

#[test]
fn leaf_only_leaves_an_unlinked_table_in_use() {
    let mut machine = cached(quiet());
    // Unlink the level-3 table, and say only that a leaf changed.
    machine.put(L0 + 0x2d10, 0);
    machine.command(tlbi_va(5, VA).with_leaf(true));
    machine.sync();
    assert_eq!(machine.read(VA), Some(PA), "the freed table is walked");
    machine.command(tlbi_va(5, VA));
    machine.sync();
    assert_eq!(machine.read(VA), None);
}

#[test]
fn global_entries_survive_their_asid_and_split_by_aset() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(leaf_slot(L0), PA | LEAF & !(1 << 11));
    assert_eq!(machine.read(VA), Some(PA));
    machine.command(tlbi_asid(5));
    machine.sync();
    assert_eq!(counts(&machine).0, 1);
    // Another ASID and table: a global entry of the same ASET hits, whatever the table says.
    machine.cd_at(CD + 64, cd_words(6, 0x8005_0000));
    machine.ste(6, ste_words(CD + 64));
    assert_eq!(machine.translate(Access::read(6, VA)).map(|t| t.pa).ok(), Some(PA));
    let mut shared = cd_words(7, 0x8005_0000);
    shared[0] &= !(1 << 47);
    machine.cd_at(CD + 128, shared);
    machine.ste(7, ste_words(CD + 128));
    assert!(machine.translate(Access::read(7, VA)).is_err());
    // By address, any ASID takes it along.
    machine.command(tlbi_va(9, VA));
    machine.sync();
    assert_eq!(counts(&machine).0, 0);
}

#[test]
fn streams_of_one_asid_share_entries() {
    let mut machine = cached(quiet());
    machine.cd_at(CD + 64, cd_words(5, L0));
    machine.ste(6, ste_words(CD + 64));
    let found = machine.translate(Access::read(6, VA)).unwrap();
    assert!(found.tlb_hit);
    assert_eq!(machine.smmu.statistics().walks, 1);
}

#[test]
fn entries_that_lack_permission_are_cached() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.put(leaf_slot(L0), PA | LEAF | 1 << 7);
    assert!(machine.translate(Access::write(SID, VA)).is_err());
    machine.put(leaf_slot(L0), PA | LEAF);
    assert!(machine.translate(Access::write(SID, VA)).is_err(), "stale");
    machine.command(tlbi_va(5, VA).with_leaf(true));
    machine.sync();
    assert!(machine.translate(Access::write(SID, VA)).is_ok());
}

#[test]
fn invalid_descriptors_are_not_cached() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    for slot in [L0, L0 + 0x1240, L0 + 0x2d10, leaf_slot(L0)] {
        let value = machine.get(slot);
        machine.put(slot, 0);
        assert_eq!(machine.read(VA), None);
        machine.put(slot, value);
    }
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn an_invalid_entry_stays_cached_until_cfgi() {
    let mut machine = Machine::new(quiet(), 1);
    assert_eq!(machine.read(VA), None);
    machine.a1();
    assert_eq!(machine.read(VA), None, "V = 0 is cached");
    let cached = machine.smmu.cached_stes();
    assert_eq!((cached.len(), cached[0].words, cached[0].differs), (1, [0; 8], true));
    assert_eq!(machine.smmu.outdated(&[SID]), cached);
    assert_eq!(machine.smmu.outdated(&[SID + 1]), []);
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn configuration_stays_cached_until_its_own_cfgi() {
    let mut machine = cached(quiet());
    machine.ste(SID, [0; 8]);
    machine.cd_at(CD, [0; 8]);
    let stale = [
        cfgi_ste(SID + 1).into(),
        cfgi_cd(SID + 1).into(),
        Command::from(tlbi_all()),
        tlbi_everything().into(),
        CfgiSteRange::new().with_sid(SID.into()).with_range(0).into(),
    ];
    for (index, command) in stale.into_iter().enumerate() {
        machine.command(command);
        machine.sync();
        // The range 4..=5 does contain the stream.
        assert_eq!(machine.smmu.cached_stes().len(), usize::from(index != 4), "{command}");
    }
    assert_eq!(machine.smmu.cached_cds().len(), 0, "CFGI_STE takes the contexts along");
}

#[test]
fn cfgi_cd_leaves_the_entry_and_the_translations() {
    for command in [cfgi_cd(SID).into(), Command::from(CfgiCdAll::new().with_sid(SID.into()))] {
        let mut machine = cached(quiet());
        machine.command(command);
        machine.sync();
        assert_eq!(machine.smmu.cached_stes().len(), 1);
        assert_eq!(machine.smmu.cached_cds().len(), 0);
        assert_eq!(counts(&machine), (1, 3));
    }
}

#[test]
fn every_stream_of_a_shared_context_needs_its_own_cfgi() {
    let mut machine = cached(quiet());
    machine.ste(6, ste_words(CD));
    assert!(machine.translate(Access::read(6, VA)).is_ok());
    assert_eq!(machine.smmu.cached_cds().len(), 2);
    machine.command(cfgi_cd(SID));
    machine.sync();
    assert_eq!(machine.smmu.cached_cds()[0].stream, 6);
}

#[test]
fn cfgi_all_forgets_all_configuration_and_no_translation() {
    let mut machine = cached(quiet());
    machine.command(Command::cfgi_all());
    machine.sync();
    assert_eq!(machine.smmu.cached_stes().len() + machine.smmu.cached_cds().len(), 0);
    assert_eq!(counts(&machine), (1, 3));
}

#[test]
fn an_asid_that_is_too_wide_invalidates_nothing_and_is_reported() {
    let mut machine = cached(quiet().asid16(false));
    machine.smmu.observations();
    for command in [tlbi_asid(0x105).into(), Command::from(tlbi_va(0x105, VA))] {
        machine.command(command);
        machine.sync();
        assert_eq!(machine.misuses(), [Misuse::AsidTooWide { asid: 0x105 }]);
    }
    assert_eq!(counts(&machine), (1, 3));
}

#[test]
fn the_vmid_counts_only_where_stage_2_exists() {
    let mut machine = cached(quiet());
    machine.smmu.observations();
    machine.command(tlbi_all().with_vmid(3));
    machine.sync();
    assert_eq!(machine.misuses(), [Misuse::VmidTooWide { vmid: 3 }]);
    assert_eq!(counts(&machine).0, 1);

    let mut machine = Machine::new(quiet().s2p(true), 1);
    machine.a1();
    let mut ste = ste_words(CD);
    ste[2] = 3;
    machine.ste(SID, ste);
    assert_eq!(machine.read(VA), Some(PA));
    for (vmid, left) in [(0, 1), (4, 1), (3, 0)] {
        machine.command(tlbi_va(5, VA).with_vmid(vmid));
        machine.sync();
        assert_eq!(counts(&machine).0, left);
    }
}

#[test]
fn unaligned_and_meaningless_ranges_invalidate_nothing_and_are_reported() {
    let va = TlbiNhVa::new().with_asid(5).with_addr(VA);
    for (profile, command) in [
        (quiet(), va.with_tg(1).with_ttl(2)),
        (quiet(), va.with_tg(1).with_ttl(1)),
        (quiet(), va.with_num(1)),
        (quiet(), va.with_tg(1).with_ttl(3).with_scale(40)),
        (quiet().ril(false), va.with_tg(1).with_ttl(3)),
        (quiet().ril(false), va.with_num(3)),
    ] {
        let mut machine = cached(profile);
        machine.smmu.observations();
        machine.command(command);
        machine.sync();
        assert_eq!(counts(&machine).0, 1, "{command:?}");
        let command = command.into();
        assert_eq!(machine.misuses(), [Misuse::BadRange { command }]);
    }
    let mut machine = cached(quiet());
    machine.smmu.observations();
    machine.command(va.with_addr(1 << 50));
    assert!(matches!(machine.misuses()[..], [Misuse::AddressOutOfRange { .. }]));
}

#[test]
fn a_worked_range_covers_exactly_its_pages() {
    // §A4: 0x12345 pages from 0x0100_0000, in three commands.
    let commands = [
        Command([0x0005_0000_0000_4012, 0x0000_0000_0100_0701]),
        Command([0x0005_0000_0060_c012, 0x0000_0000_0100_5701]),
        Command([0x0005_0000_00d0_8012, 0x0000_0000_0134_5701]),
    ];
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let first = 0x0100_0000u64;
    let end = first + 0x1_2345 * 0x1000;
    // One table at level 1 for the lowest GiB, pages where the borders are.
    let pages = [first - 0x1000, first, first + 0x4000, first + 0x5000, end - 0x1000, end];
    machine.put(L0, (L0 + 0x4000) | 3);
    machine.put(L0 + 0x4000, (L0 + 0x5000) | 3);
    for (n, page) in pages.into_iter().enumerate() {
        let slot = L0 + 0x5000 + 8 * (page >> 21);
        if machine.get(slot) == 0 {
            machine.put(slot, 0x8005_0003 + 0x1000 * n as u64);
        }
        let table = machine.get(slot) & !3;
        machine.put(table + 8 * (page >> 12 & 0x1ff), page | LEAF);
    }
    for page in pages {
        assert_eq!(machine.read(page), Some(page));
    }
    for command in commands {
        machine.command(command);
    }
    machine.sync();
    let mut left: Vec<_> = machine.smmu.tlb_entries().map(|entry| entry.va).collect();
    left.sort_unstable();
    assert_eq!(left, [first - 0x1000, end]);
}

#[test]
fn late_invalidations_take_effect_at_the_sync_and_often_not_before() {
    let profile = quiet().adversary(Adversary { late_invalidation: true, ..Adversary::NONE });
    let mut late = 0;
    for seed in 0..32 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        machine.put(leaf_slot(L0), 0);
        machine.command(tlbi_va(5, VA));
        late += u32::from(machine.read(VA).is_some());
        machine.sync();
        assert_eq!(machine.read(VA), None);
    }
    assert!((4..28).contains(&late), "{late}");
}

#[test]
fn a_dropped_sync_completes_nothing() {
    let profile = quiet().adversary(Adversary { late_invalidation: true, ..Adversary::NONE });
    let mut stale = 0;
    for seed in 0..32 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        machine.put(leaf_slot(L0), 0);
        machine.smmu.drop_sync(1);
        machine.command(tlbi_va(5, VA));
        machine.sync();
        stale += u32::from(machine.read(VA).is_some());
        machine.sync();
        assert_eq!(machine.read(VA), None);
    }
    assert!(stale > 0);
}

#[test]
fn a_tlbi_in_one_batch_with_its_cfgi_can_be_undone_by_stale_configuration() {
    // The CD moves to another ASID; CFGI and TLBI without a CMD_SYNC between them.
    let profile = quiet().adversary(Adversary { late_invalidation: true, ..Adversary::NONE });
    let mut left = 0;
    for seed in 0..64 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        machine.put(CD, cd_words(6, L0)[0]);
        machine.command(cfgi_cd(SID));
        machine.command(tlbi_asid(5));
        machine.read(VA);
        machine.sync();
        left += u32::from(machine.smmu.tlb_entries().any(|entry| entry.tag.asid == 5));
    }
    assert!(left > 0, "the old ASID must be found again in some run");
}

#[test]
fn a_cfgi_before_the_store_does_not_count() {
    let profile = quiet();
    let mut machine = cached(profile);
    machine.command(cfgi_ste(SID));
    assert_eq!(machine.read(VA), Some(PA), "refetched, old");
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.sync();
    assert_eq!(machine.read(VA), Some(PA), "stale");
}

#[test]
fn an_asid_reused_over_other_tables_is_a_conflict() {
    let conflict = |machine: &mut Machine| {
        machine.smmu.observations().into_iter().any(|observation| {
            matches!(observation, Observation::TagConflict { tag, ttb_old, ttb_new, .. }
                if tag.asid == 5 && ttb_old == L0 && ttb_new == 0x8005_0000)
        })
    };
    // Entries of the old tables are left.
    let mut machine = cached(quiet());
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.command(cfgi_ste(SID));
    machine.sync();
    machine.cd_at(CD + 64, cd_words(5, 0x8005_0000));
    machine.ste(6, ste_words(CD + 64));
    let _ = machine.translate(Access::read(6, VA));
    assert!(conflict(&mut machine));
    // Flushed before: none.
    let mut machine = cached(quiet());
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.command(cfgi_ste(SID));
    machine.sync();
    machine.command(tlbi_asid(5));
    machine.sync();
    machine.cd_at(CD + 64, cd_words(5, 0x8005_0000));
    machine.ste(6, ste_words(CD + 64));
    let _ = machine.translate(Access::read(6, VA));
    assert!(!conflict(&mut machine));
    // Two live contexts at once.
    machine.cd_at(CD + 128, cd_words(5, L0));
    machine.ste(7, ste_words(CD + 128));
    let _ = machine.translate(Access::read(7, VA));
    let seen = machine.smmu.observations();
    assert!(seen.iter().any(|o| matches!(o, Observation::TagConflict { .. })), "{seen:?}");
}

#[test]
fn a_contiguous_group_may_be_cached_whole() {
    let profile = quiet().adversary(Adversary { contiguous_spans: true, ..Adversary::NONE });
    let mut whole = 0;
    for seed in 0..16 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.a1();
        let group = leaf_slot(L0) & !0x7f;
        for n in 0..16 {
            machine.put(group + 8 * n, (PA + 0x1000 * n) | LEAF | 1 << 52);
        }
        let index = VA >> 12 & 15;
        let found = machine.translate(Access::read(SID, VA)).unwrap();
        assert_eq!(found.pa, PA + 0x1000 * index);
        whole += u32::from(found.size == 0x1_0000);
        // What is cached for several members goes for sure only when all are named.
        let before = counts(&machine).0;
        machine.command(tlbi_va(5, VA ^ 0x1000));
        machine.sync();
        assert_eq!(counts(&machine).0, before);
        machine.command(tlbi_va(5, VA));
        machine.sync();
        assert_eq!(counts(&machine).0, 0);
    }
    assert!((1..16).contains(&whole));
}

#[test]
fn contexts_of_one_asid_and_table_must_agree() {
    let mut machine = cached(quiet());
    let mut other = cd_words(5, L0);
    other[3] = 0xff;
    machine.cd_at(CD + 64, other);
    machine.ste(6, ste_words(CD + 64));
    machine.smmu.observations();
    let _ = machine.translate(Access::read(6, VA));
    assert!(matches!(machine.misuses()[..], [Misuse::TagDisagreement { stream: 6, .. }]));
}

#[test]
fn a_block_over_cached_pages_is_an_overlap_unless_bbml_allows_it() {
    // A block that says the same of the page, and one that leads elsewhere, which nothing allows.
    let same = 0x4000_0000 | VA & 0x1f_f000;
    for (profile, page, reported) in [
        (quiet().ril(false), same, Some("overlap")),
        (quiet(), same, None),
        (quiet().ril(false), PA, Some("without a break")),
        (quiet(), PA, Some("without a break")),
    ] {
        let mut machine = Machine::new(profile, 1);
        machine.a1();
        machine.put(leaf_slot(L0), page | LEAF);
        assert_eq!(machine.read(VA), Some(page));
        machine.smmu.observations();
        machine.put(L0 + 0x2d10, 0x4000_0000 | LEAF & !2);
        // The table descriptor is forgotten, the page is not.
        machine.command(tlbi_va(5, VA + 0x1000));
        machine.sync();
        machine.smmu.observations();
        assert!(machine.read(VA + 0x1000).is_some());
        assert_eq!(machine.read(VA), Some(page), "the older entry is used");
        let misuses: Vec<String> = machine.misuses().iter().map(ToString::to_string).collect();
        assert_eq!(misuses.len(), usize::from(reported.is_some()), "{misuses:?}");
        assert!(misuses.iter().all(|text| text.contains(reported.unwrap())), "{misuses:?}");
    }
}

#[test]
fn a_vmid_wildcard_widens_invalidations_only() {
    let mut profile = quiet().s2p(true);
    profile.idr0 = profile.idr0.with_vmw(true);
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    let mut ste = ste_words(CD);
    ste[2] = 5;
    machine.ste(SID, ste);
    assert_eq!(machine.read(VA), Some(PA));
    machine.command(tlbi_all().with_vmid(4));
    machine.sync();
    assert_eq!(counts(&machine).0, 1);
    // VMW = 1 ignores the lowest bit.
    machine.switch(0b1101 | 1 << 6);
    machine.command(tlbi_all().with_vmid(4));
    machine.sync();
    assert_eq!(counts(&machine).0, 0);
}

#[test]
fn prefetch_commands_fill_the_caches_without_events() {
    use smmuv3_formats::command::{PrefetchAddr, PrefetchConfig};
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.command(PrefetchAddr::new().with_sid(SID.into()).with_addr(VA));
    machine.command(PrefetchAddr::new().with_sid(SID.into()).with_addr(VA + 0x1000));
    machine.command(PrefetchConfig::new().with_sid(7));
    assert_eq!(counts(&machine), (1, 3));
    assert_eq!(machine.smmu.cached_stes().len(), 2);
    assert_eq!(machine.events(), []);
    assert!(machine.translate(Access::read(SID, VA)).unwrap().tlb_hit);
}
