// SPDX-License-Identifier: MIT OR Apache-2.0
//! What could still make the hardware read some memory.

use smmuv3_formats::command::{CfgiCd, CfgiSte};
use smmuv3_model::{Access, Adversary, Reference};

use crate::context_table::*;
use crate::machine::*;

#[test]
fn enabled_queues_and_tables_are_in_use() {
    let mut machine = Machine::new(quiet(), 1);
    let of = |machine: &Machine, pa| machine.smmu.references(pa, 8);
    assert_eq!(of(&machine, CMDQ + 255), Some(Reference::CommandQueue));
    assert_eq!(of(&machine, CMDQ + 256), None);
    assert_eq!(of(&machine, EVENTQ + 8), Some(Reference::EventQueue));
    assert_eq!(of(&machine, STRTAB + 4095), Some(Reference::StreamTable));
    assert_eq!(of(&machine, STRTAB + 4096), None);
    assert!(machine.smmu.references(0, u64::MAX).is_some());
    assert_eq!(machine.smmu.references(CMDQ, 0), None);
    machine.switch(0);
    assert_eq!(of(&machine, CMDQ), None);
    assert_eq!(of(&machine, STRTAB), None);
}

#[test]
fn live_tables_are_found_without_any_access() {
    let machine = Machine::new(quiet(), 1);
    machine.a1();
    let contexts = machine.smmu.references(CD, 64);
    assert_eq!(contexts, Some(Reference::Contexts { stream: SID, cached: false }));
    for level in 0..4i8 {
        let found = machine.smmu.references(L0 + 0x1000 * level as u64, 0x1000);
        let table = Reference::Table { stream: SID, substream: 0, level, cached: false };
        assert_eq!(found, Some(table));
    }
    assert_eq!(machine.smmu.references(L0 + 0x4000, 0x1000), None);
    assert_eq!(machine.smmu.references(PA, 0x1000), None, "data is no table");
}

#[test]
fn cached_state_keeps_memory_in_use_until_it_is_invalidated() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    // Unlink the level-3 table.
    let table = L0 + 0x3000;
    machine.put(L0 + 0x2d10, 0);
    let found = machine.smmu.references(table, 0x1000);
    assert!(matches!(found, Some(Reference::WalkEntry { level: 3, .. })), "{found:?}");
    machine.command(tlbi_va(5, VA).with_leaf(true));
    machine.sync();
    assert!(machine.smmu.references(table, 0x1000).is_some());
    machine.command(tlbi_va(5, VA));
    machine.sync();
    assert_eq!(machine.smmu.references(table, 0x1000), None);
    // Detach: the cached configuration still leads to the context and the tables.
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.command(tlbi_all());
    machine.sync();
    let stale = machine.smmu.references(CD, 64);
    assert_eq!(stale, Some(Reference::Contexts { stream: SID, cached: true }));
    let stale = machine.smmu.references(L0 + 0x1000, 64);
    let below = Reference::Table { stream: SID, substream: 0, level: 1, cached: true };
    assert_eq!(stale, Some(below));
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!(machine.smmu.references(CD, 64), None);
    assert_eq!(machine.smmu.references(L0, 0x4000), None);
}

#[test]
fn an_array_of_entries_is_in_use_while_a_descriptor_leads_there_in_memory_or_cached() {
    let mut machine = Machine::new(quiet(), 1);
    machine.switch(0b1100);
    let (l1, l2) = (0x8030_0000, 0x8031_0000);
    machine.smmu.write64(STRTAB_BASE, l1);
    // 2^8 streams, SPLIT 6.
    machine.smmu.write32(STRTAB_BASE_CFG, 8 | 6 << 6 | 1 << 16);
    machine.switch(0b1101);
    let of = |machine: &Machine| machine.smmu.references(l2 + 63 * 64, 64);
    let found = Some(Reference::StreamTableLeaf { index: 1 });
    // With Span 0 it leads nowhere, whatever else it says.
    machine.put(l1 + 8, l2);
    assert_eq!(of(&machine), None);
    machine.put(l1 + 8, l2 | 7);
    assert_eq!(of(&machine), found, "in memory");
    assert!(machine.translate(Access::read(64, VA)).is_err());
    machine.put(l1 + 8, 0);
    assert_eq!(of(&machine), found, "cached");
    machine.switch(0b1100);
    assert_eq!(of(&machine), None, "off");
    machine.switch(0b1101);
    assert_eq!(of(&machine), found, "cached still");
    machine.command(CfgiSte::new().with_sid(64));
    machine.sync();
    assert_eq!(of(&machine), None);
}

#[test]
fn a_fetch_under_way_keeps_what_it_has_seen_in_use() {
    let habits = Adversary { split_fetches: true, ..Adversary::NONE };
    let mut kept = 0;
    for seed in 0..64 {
        let mut machine = Machine::new(quiet().adversary(habits), seed);
        machine.a1();
        machine.read(VA);
        machine.command(cfgi_ste(SID));
        machine.command(tlbi_all());
        machine.sync();
        for _ in 0..3 {
            machine.smmu.act();
        }
        // Detached in memory, but nothing was said yet.
        machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
        kept += u32::from(machine.smmu.references(CD, 64).is_some());
        machine.command(cfgi_ste(SID));
        machine.sync();
        assert_eq!(machine.smmu.references(CD, 64), None);
    }
    assert!(kept > 8, "{kept}");
}

/// Four leaves of 64 CDs; substream 0x47 has A1's tables.
fn two_level() -> Machine {
    let machine = Machine::new(wide(), 1);
    machine.tables_a1(L0, PA);
    machine.ste(SID, substream_ste(L1, SMALL_LEAVES, 8));
    machine.put(L1 + 8, LEAF_A | 1);
    machine.cd_at(LEAF_A + 7 * 64, cd_words(5, L0));
    machine
}

#[test]
fn a_linear_table_is_in_use_with_all_its_contexts() {
    let mut machine = Machine::new(wide(), 1);
    machine.tables_a1(L0, PA);
    // 2^12 CDs: 256 KiB.
    let table = 0x8040_0000;
    machine.ste(SID, substream_ste(table, 0, 12));
    machine.cd_at(table + 0xffe * 64, cd_words(5, L0));
    let of = |machine: &Machine, pa| machine.smmu.references(pa, 8);
    let found = Some(Reference::Contexts { stream: SID, cached: false });
    assert_eq!(of(&machine, table), found);
    assert_eq!(of(&machine, table + 0x3_fff8), found);
    assert_eq!(of(&machine, table + 0x4_0000), None);
    let below = Reference::Table { stream: SID, substream: 0xffe, level: 3, cached: false };
    assert_eq!(of(&machine, L0 + 0x3000), Some(below));
    // EPD0: there is no way to the tables any more.
    let mut quiet = cd_words(5, L0);
    quiet[0] |= 1 << 14;
    machine.cd_at(table + 0xffe * 64, quiet);
    assert_eq!(of(&machine, L0 + 0x3000), None);
    machine.switch(0b1100);
    assert_eq!(of(&machine, table), None, "off");
}

#[test]
fn leaves_and_the_tables_below_are_in_use_through_descriptors_in_memory() {
    let machine = two_level();
    let of = |machine: &Machine, pa| machine.smmu.references(pa, 8);
    let first = Some(Reference::Contexts { stream: SID, cached: false });
    assert_eq!(
        [of(&machine, L1), of(&machine, L1 + 24), of(&machine, L1 + 32)],
        [first, first, None]
    );
    let leaf = Some(Reference::ContextLeaf { stream: SID, index: 1, cached: false });
    assert_eq!([of(&machine, LEAF_A), of(&machine, LEAF_A + 0xff8)], [leaf, leaf]);
    assert_eq!(of(&machine, LEAF_A + 0x1000), None);
    for level in 0..4i8 {
        let table = Reference::Table { stream: SID, substream: 0x47, level, cached: false };
        assert_eq!(of(&machine, L0 + 0x1000 * level as u64), Some(table));
    }
    // Unlinked in memory, and never looked at.
    machine.put(L1 + 8, LEAF_A);
    assert_eq!([of(&machine, LEAF_A), of(&machine, L0)], [None; 2]);
    // A large leaf: 64 KiB, of which 2^8 CDs have a number.
    machine.put(L1, LEAF_B | 1);
    machine.ste(SID, substream_ste(L1, LARGE_LEAVES, 8));
    let leaf = Some(Reference::ContextLeaf { stream: SID, index: 0, cached: false });
    assert_eq!([of(&machine, LEAF_B + 0x3ff8), of(&machine, LEAF_B + 0x4000)], [leaf, None]);
}

#[test]
fn a_cached_descriptor_keeps_its_leaf_in_use_until_leaf_0() {
    let mut machine = two_level();
    // Looked at for another substream, so that the CD itself is not cached.
    assert!(machine.translate(through(SID, 0x46, VA)).is_err());
    machine.put(L1 + 8, 0);
    let of = |machine: &Machine, pa| machine.smmu.references(pa, 8);
    let leaf = Some(Reference::ContextLeaf { stream: SID, index: 1, cached: true });
    let table = Reference::Table { stream: SID, substream: 0x47, level: 2, cached: false };
    let cfgi = CfgiCd::new().with_sid(SID.into()).with_ssid(0x46);
    for command in [cfgi.with_leaf(true), cfgi.with_ssid(0x86)] {
        machine.command(command);
        machine.sync();
        assert_eq!(of(&machine, LEAF_A + 7 * 64), leaf);
        assert_eq!(of(&machine, L0 + 0x2000), Some(table), "its CDs are still to be had");
    }
    machine.command(cfgi);
    machine.sync();
    assert_eq!([of(&machine, LEAF_A), of(&machine, L0 + 0x2000)], [None; 2]);
}

#[test]
fn a_cached_entry_leads_to_contexts_that_nobody_looked_at_yet() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine.command(CfgiCd::new().with_sid(SID.into()).with_leaf(true));
    machine.command(tlbi_all());
    machine.sync();
    // The STE is detached in memory only.
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    let table = Reference::Table { stream: SID, substream: 0, level: 1, cached: false };
    assert_eq!(machine.smmu.references(L0 + 0x1000, 8), Some(table));
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn a_fetch_through_a_descriptor_ends_with_it() {
    let habits = Adversary { split_fetches: true, ..Adversary::NONE };
    let (mut kept, leaf) = (0, LEAF_A);
    for seed in 0..64 {
        let mut machine = Machine::new(wide().adversary(habits), seed);
        machine.ste(SID, substream_ste(L1, SMALL_LEAVES, 6));
        machine.put(L1, leaf | 1);
        machine.cd_at(leaf + 7 * 64, cd_words(5, L0));
        let _ = machine.translate(through(SID, 7, VA));
        machine.command(CfgiCd::new().with_sid(SID.into()).with_ssid(7));
        machine.sync();
        for _ in 0..6 {
            machine.smmu.act();
        }
        machine.put(L1, 0);
        kept += u32::from(machine.smmu.references(leaf, 4096).is_some());
        // Any substream of the span, that of the fetch or not.
        machine.command(CfgiCd::new().with_sid(SID.into()).with_ssid(9));
        machine.sync();
        assert_eq!(machine.smmu.references(leaf, 4096), None);
    }
    assert!(kept > 8, "{kept}");
}
