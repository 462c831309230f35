// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of valid descriptors: which need a break, and that its absence is noticed (§8.2).

use smmuv3_formats::command::{TlbiS2Ipa, TlbiS12Vmall};
use smmuv3_model::{Access, Misuse, Profile};

use crate::machine::*;
use crate::nested::{OFFSET, a3};
use crate::stage_2::{both, page};

/// A1 with VA cached; then `slot` is changed to `to`, and everything invalidated. Whether that was wrong.
fn changes(profile: Profile, block: bool, slot: u64, to: u64) -> bool {
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    if block {
        machine.put(L0 + 0x2d10, 0x4000_0000 | LEAF & !2);
    }
    assert!(machine.read(VA).is_some());
    machine.smmu.observations();
    machine.put(slot, to);
    machine.command(tlbi_all());
    machine.sync();
    let misuses = machine.misuses();
    assert!(misuses.iter().all(|it| matches!(it, Misuse::WithoutBreak { .. })), "{misuses:?}");
    assert_eq!(machine.smmu.tlb_entries().count(), 0);
    !misuses.is_empty()
}

const NT: u64 = 1 << 16;

#[test]
fn outputs_and_types_need_a_break_and_permissions_do_not() {
    for bbml in 0..3 {
        let profile = || quiet().ril(bbml != 0).bbml(bbml);
        let page = |to| changes(profile(), false, leaf_slot(L0), to);
        assert!(page((PA + 0x1000) | LEAF), "{bbml}");
        assert!(page(PA | LEAF | 1 << 2), "AttrIndx");
        assert!(page(PA | LEAF & !(1 << 8)), "SH");
        assert!(!page(PA | LEAF | 1 << 7), "AP");
        assert!(!page(PA | LEAF ^ 1 << 54), "UXN");
        assert!(!page(0));
        assert_eq!(page(PA | LEAF | 1 << 52), bbml == 0, "the contiguous hint");
    }
}

#[test]
fn sizes_may_change_as_bbml_says() {
    let slot = L0 + 0x2d10;
    let block = 0x4000_0000 | LEAF & !2;
    let table = (L0 + 0x3000) | 3;
    for (bbml, to_table, to_block, with_nt) in
        [(0, true, true, true), (1, true, true, false), (2, false, false, false)]
    {
        let profile = || quiet().ril(bbml != 0).bbml(bbml);
        assert_eq!(changes(profile(), true, slot, table), to_table, "{bbml}");
        assert_eq!(changes(profile(), false, slot, block), to_block, "{bbml}");
        assert_eq!(changes(profile(), false, slot, block | NT), with_nt, "{bbml}");
    }
}

/// One that stops translating in between has been told nothing new.
#[test]
fn what_changes_while_something_is_translated_needs_a_break_whenever_it_is_invalidated() {
    for (made_before, broken, expected) in
        [(true, false, 1), (true, true, 0), (false, false, 0), (false, true, 0)]
    {
        let mut machine = Machine::new(quiet(), 1);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        if broken {
            machine.put(leaf_slot(L0), 0);
            machine.command(tlbi_all());
            machine.sync();
        }
        machine.smmu.observations();
        if made_before {
            machine.put(leaf_slot(L0), (PA + 0x1000) | LEAF);
        }
        machine.switch(0b1100);
        assert_eq!(machine.misuses().len(), expected, "{made_before} {broken}");
        if !made_before {
            machine.put(leaf_slot(L0), (PA + 0x1000) | LEAF);
        }
        machine.command(tlbi_all());
        machine.sync();
        assert_eq!(machine.misuses(), [], "once");
    }
}

/// Whoever resumes one that slept empties its caches in any order, and tables may be others by then.
#[test]
fn what_changes_while_nothing_is_translated_needs_no_break() {
    for (while_off, on_again, expected) in [(true, false, 0), (true, true, 1), (false, false, 1)] {
        let mut machine = Machine::new(quiet(), 1);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        if while_off {
            machine.switch(0b1100);
        }
        machine.put(leaf_slot(L0), (PA + 0x1000) | LEAF);
        if on_again {
            machine.switch(0b1101);
        }
        machine.smmu.observations();
        machine.command(tlbi_all());
        machine.sync();
        assert_eq!(machine.misuses().len(), expected, "{while_off} {on_again}");
    }
}

#[test]
fn a_break_is_one_only_when_its_invalidation_is_complete() {
    for (synchronised, expected) in [(true, 0), (false, 1)] {
        let mut machine = Machine::new(quiet(), 1);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        machine.put(leaf_slot(L0), 0);
        // Queued; the model has not come to it.
        machine.queue(tlbi_va(5, VA));
        if synchronised {
            machine.sync();
        }
        machine.put(leaf_slot(L0), (PA + 0x1000) | LEAF);
        machine.sync();
        assert_eq!(machine.misuses().len(), expected);
        assert_eq!(machine.read(VA), Some(PA + 0x1000));
    }
}

#[test]
fn what_nobody_uses_any_more_may_be_anything() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.command(cfgi_ste(SID));
    machine.sync();
    // The tag is still cached; another domain's numbers are where its tables were.
    machine.put(leaf_slot(L0), (PA + 0x1000) | LEAF);
    machine.command(tlbi_asid(5));
    machine.sync();
    assert_eq!(machine.misuses(), []);
}

#[test]
fn stage_2_has_the_same_rule() {
    let output = 0x8004_4000;
    for (to, broken, reported) in [
        (page(0xb000_0000), false, true),
        (page(0xb000_0000), true, false),
        // Write permission alone.
        (page(0xa000_0000) & !(1 << 7), false, false),
    ] {
        let mut machine = a3(both(), 1);
        assert!(machine.read(VA).is_some());
        machine.smmu.observations();
        if broken {
            machine.put(output, 0);
            machine.command(TlbiS2Ipa::new().with_vmid(7).with_addr(OFFSET + PA));
            machine.command(tlbi_all().with_vmid(7));
            machine.sync();
        }
        machine.put(output, to);
        machine.command(TlbiS12Vmall::new().with_vmid(7));
        machine.sync();
        let misuses = machine.misuses();
        assert_eq!(!misuses.is_empty(), reported, "{misuses:?}");
        assert_eq!(machine.translate(Access::read(SID, VA)).map(|it| it.pa), Ok(to & 0xffff_f000));
    }
    // The combination that S2_IPA alone has left is one that was not broken either.
    let mut machine = a3(both(), 1);
    assert!(machine.read(VA).is_some());
    machine.smmu.observations();
    machine.put(output, 0);
    machine.command(TlbiS2Ipa::new().with_vmid(7).with_addr(OFFSET + PA));
    machine.sync();
    machine.put(output, page(0xb000_0000));
    machine.command(tlbi_all().with_vmid(7));
    machine.sync();
    assert_eq!(machine.misuses().len(), 1);
}
