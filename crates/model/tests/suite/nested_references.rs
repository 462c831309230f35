// SPDX-License-Identifier: MIT OR Apache-2.0
//! What could still make the hardware read memory of a guest, or of its stage 2: contexts and tables of stage 1 are
//! wherever stage 2 has them.

use smmuv3_formats::command::{TlbiS2Ipa, TlbiS12Vmall};
use smmuv3_model::{Access, Reference};

use crate::machine::*;
use crate::nested::*;
use crate::stage_2::{S2_L2, S2_L3, both, page};

const VMID: u64 = 7;

fn of(machine: &Machine, pa: u64) -> Option<Reference> {
    machine.smmu.references(pa, 8)
}

fn table(level: i8, cached: bool) -> Option<Reference> {
    Some(Reference::Table { stream: SID, substream: 0, level, cached })
}

#[test]
fn a_guests_contexts_and_tables_are_in_use_without_any_access() {
    let machine = a3(both(), 1);
    let contexts = Some(Reference::Contexts { stream: SID, cached: false });
    assert_eq!(of(&machine, CD), contexts);
    assert_eq!(of(&machine, CD + 64), None, "one context");
    for level in 0..4i8 {
        assert_eq!(of(&machine, L0 + 0x1000 * level as u64 + 0xff8), table(level, false));
    }
    assert_eq!(of(&machine, OUTPUT), None, "what the device reads is no table");
    // A table is in use where stage 2 has it, and nowhere else.
    machine.put(slot_of(L0 + 0x3000), page(L0 + 0x9000));
    assert_eq!([of(&machine, L0 + 0x3000), of(&machine, L0 + 0x9000)], [None, table(3, false)]);
    // What stage 2 does not lead to is not in use.
    machine.put(slot_of(L0 + 0x1000), 0);
    assert_eq!([of(&machine, L0 + 0x1000), of(&machine, L0 + 0x2000)], [None; 2]);
    assert_eq!(of(&machine, L0), table(0, false));
    // The tables of stage 2 are, whatever the guest has.
    machine.put(slot_of(CD), 0);
    let stage_2 = Some(Reference::Stage2Table { stream: SID, level: 3, cached: false });
    assert_eq!([of(&machine, L0), of(&machine, S2_L3)], [None, stage_2]);
}

#[test]
fn a_loop_in_a_guests_tables_ends() {
    let machine = a3(both(), 1);
    for index in 0..512 {
        machine.put(L0 + 8 * index, (OFFSET + L0) | 3);
    }
    assert_eq!(of(&machine, L0 + 0x3000), None);
    assert_eq!(of(&machine, L0), table(0, false));
}

#[test]
fn what_is_cached_of_stage_2_leads_to_old_memory() {
    let mut machine = a3(both(), 1);
    // The context and the root alone are looked at: the second table is a hole.
    let entry = machine.get(L0);
    machine.put(L0, 0);
    assert_eq!(machine.read(VA), None);
    machine.put(L0, entry);
    // Unmapped at stage 2, and not invalidated: the cached leaf still leads there.
    machine.put(slot_of(L0), 0);
    assert_eq!(of(&machine, L0), table(0, true));
    machine.command(TlbiS2Ipa::new().with_vmid(VMID).with_addr(OFFSET + L0));
    machine.sync();
    assert_eq!(of(&machine, L0), None);
}

#[test]
fn what_is_cached_of_stage_2_tables_leads_to_old_memory() {
    let mut machine = a3(both(), 1);
    assert_eq!(machine.read(VA), Some(OUTPUT));
    // Another page of contexts, below the same table of stage 2: that is unlinked, but cached. Its stream was
    // never looked at.
    machine.cd_at(CD + 0x1000, cd_words(6, OFFSET + L0));
    let mut ste = a3_ste();
    ste[0] += 0x1000;
    machine.ste(6, ste);
    machine.put(slot_of(CD + 0x1000), page(CD + 0x1000));
    machine.put(S2_L2, 0);
    assert_eq!(of(&machine, CD + 0x1000), Some(Reference::Contexts { stream: 6, cached: false }));
    machine.command(TlbiS12Vmall::new().with_vmid(VMID));
    machine.sync();
    assert_eq!(of(&machine, CD + 0x1000), None);
}

#[test]
fn tables_below_a_combined_descriptor_are_in_use() {
    let mut machine = a3(both(), 1);
    // Two tables of level 2, of which the first was looked at; then the guest unlinks it.
    assert_eq!(machine.read(VA), Some(OUTPUT));
    machine.put(L0 + 0x1240, 0);
    machine.put(L0 + 0x2d10 + 8, (OFFSET + L0 + 0x8000) | 3);
    machine.put(slot_of(L0 + 0x8000), page(L0 + 0x8000));
    let found = of(&machine, L0 + 0x8000);
    assert!(
        matches!(
            found,
            Some(Reference::WalkEntry { level: 2, .. } | Reference::WalkEntry { level: 3, .. })
        ),
        "{found:?}"
    );
    machine.command(tlbi_all().with_vmid(VMID));
    machine.sync();
    assert_eq!(of(&machine, L0 + 0x8000), None);
}

#[test]
fn leaves_of_contexts_are_found_through_both_levels() {
    let mut machine = a3(both().ssidsize(10).two_level_contexts(true), 1);
    let (l1, leaf) = (L0 + 0x3000, CD);
    let mut ste = a3_ste();
    // S1Fmt = 1, 2^10 contexts.
    ste[0] = (OFFSET + l1) & !0xfff | 0xf | 1 << 4 | 10 << 59;
    machine.ste(SID, ste);
    machine.put(l1 + 8, (OFFSET + leaf) | 1);
    // A3's context is the first of that leaf.
    let live = Some(Reference::ContextLeaf { stream: SID, index: 1, cached: false });
    assert_eq!(of(&machine, leaf + 0xff8), live);
    let below = Reference::Table { stream: SID, substream: 0x40, level: 2, cached: false };
    assert_eq!(of(&machine, L0 + 0x2000), Some(below));
    // Looked at for another substream; then unlinked in memory.
    let access = Access { substream: Some(0x46), ..Access::read(SID, VA) };
    assert!(machine.translate(access).is_err());
    machine.put(l1 + 8, 0);
    let cached = Some(Reference::ContextLeaf { stream: SID, index: 1, cached: true });
    assert_eq!([of(&machine, leaf), of(&machine, L0 + 0x2000)], [cached, Some(below)]);
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!([of(&machine, leaf), of(&machine, L0 + 0x2000)], [None; 2]);
}
