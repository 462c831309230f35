// SPDX-License-Identifier: MIT OR Apache-2.0
//! What parts do wrong, by what their IIDR says (§19): each wrong often enough to be noticed, and right where it is right.

use smmuv3_formats::command::{CfgiSte, PrefetchConfig, Sync};
use smmuv3_formats::register::Iidr;
use smmuv3_model::{Broadcast, Errata, Memory, Pages, Profile, Tlbi, World};

use crate::machine::*;

/// r`variant`p`revision` of a product of Arm's.
fn part(product: u64, variant: u64, revision: u64) -> Iidr {
    let iidr = Iidr::default().with_implementer(0x43b).with_product_id(product);
    iidr.with_variant(variant).with_revision(revision)
}

fn with(iidr: Iidr) -> Profile {
    Profile { iidr, ..quiet() }
}

#[test]
fn each_part_has_its_errata_from_its_first_to_its_last_revision() {
    // {events lost, broadcasts lost, both stages, largest batch}
    for (product, variant, revision, expected) in [
        (0x483, 0, 0, (true, false, true, None)),
        (0x483, 0, 2, (true, false, true, None)),
        (0x483, 0, 3, (false, false, true, None)),
        (0x483, 1, 0, (false, false, true, None)),
        (0x483, 2, 0, (false, false, false, None)),
        (0x487, 0, 1, (false, true, true, Some(62))),
        (0x487, 1, 0, (false, true, true, Some(62))),
        (0x487, 1, 1, (false, true, false, None)),
        (0x48a, 0, 0, (false, true, false, None)),
        (0x498, 3, 1, (false, true, false, None)),
        (0x484, 0, 0, (false, false, false, None)),
    ] {
        let has = Errata::of(part(product, variant, revision));
        let Errata { lost_events, lost_broadcasts, nested_invalidations, largest_batch } = has;
        let has = (lost_events, lost_broadcasts, nested_invalidations, largest_batch);
        assert_eq!(has, expected, "{product:#x} r{variant}p{revision}");
    }
    assert_eq!(Errata::of(part(0x487, 0, 0).with_implementer(0x36b)), Errata::default());
}

/// A1 with the page cached.
fn cached(machine: &mut Machine) {
    machine.put(leaf_slot(L0), PA | LEAF);
    assert_eq!(machine.read(VA), Some(PA));
}

/// How many of 32 pages that were unmapped are still reached once `forget` was done.
fn kept(profile: Profile, forget: impl Fn(&mut Machine)) -> usize {
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    // Of all ASIDs: entries that broadcasts hit.
    let mut cd = cd_words(5, L0);
    cd[0] &= !(1 << 47);
    machine.cd_at(CD, cd);
    let round = |_: &usize| {
        cached(&mut machine);
        machine.put(leaf_slot(L0), 0);
        forget(&mut machine);
        let kept = machine.read(VA).is_some();
        // Whatever became of that, the next round begins without it.
        while machine.read(VA).is_some() {
            machine.command(tlbi_va(5, VA));
            machine.sync();
        }
        kept
    };
    (0..32).filter(round).count()
}

#[test]
fn parts_that_broadcasts_do_not_reach_may_miss_one() {
    let tlbi = Tlbi::Va { asid: 5, pages: Pages::one(VA) };
    let broadcast = |machine: &mut Machine| {
        let taken = machine.smmu.broadcast(Broadcast { world: World::El1, vmid: 0, tlbi });
        assert!(taken.is_some(), "nobody is told");
    };
    for product in [0x487, 0x48a, 0x498] {
        let missed = kept(with(part(product, 1, 1)).btm(true), broadcast);
        assert!((4..29).contains(&missed), "{product:#x}: {missed}");
    }
    assert_eq!(kept(with(part(0x483, 0, 0)).btm(true), broadcast), 0);
    // Commands reach it.
    let command = |machine: &mut Machine| {
        machine.command(tlbi_va(5, VA));
        machine.sync();
    };
    assert_eq!(kept(with(part(0x487, 1, 1)), command), 0);
}

#[test]
fn an_early_mmu_700_may_forget_nothing_of_what_comes_after_too_many_commands() {
    // The queue of the test is short: they come one by one.
    let after = |others: usize| {
        move |machine: &mut Machine| {
            machine.sync();
            for _ in 0..others {
                machine.command(tlbi_va(6, VA));
            }
            machine.command(tlbi_va(5, VA));
            machine.sync();
        }
    };
    let early = with(part(0x487, 0, 1));
    assert_eq!(kept(early.clone(), after(61)), 0);
    let missed = kept(early, after(62));
    assert!((4..29).contains(&missed), "{missed}");
    assert_eq!(kept(with(part(0x487, 1, 1)), after(62)), 0);
}

#[test]
fn invalidations_may_come_to_nothing_while_both_stages_are_on_for_a_stream() {
    let forget = |machine: &mut Machine| {
        machine.command(tlbi_va(5, VA));
        machine.sync();
    };
    // Another stream with both stages, which somebody uses.
    let nested = |machine: &mut Machine| {
        let mut ste = ste_words(CD);
        (ste[0], ste[2], ste[3]) = (ste[0] | 2 << 1, 0x040c_3558_0000_0007, 0x8004_0000);
        machine.ste(SID + 1, ste);
        let _ = machine.translate(smmuv3_model::Access::read(SID + 1, VA));
        forget(machine);
        machine.ste(SID + 1, [0; 8]);
        machine.command(CfgiSte::new().with_sid((SID + 1).into()).with_leaf(true));
        machine.sync();
    };
    for (product, variant) in [(0x483, 1), (0x487, 0)] {
        let profile = with(part(product, variant, 0)).s2p(true);
        let missed = kept(profile.clone(), nested);
        assert!((4..29).contains(&missed), "{product:#x}: {missed}");
        assert_eq!(kept(profile, forget), 0, "{product:#x}");
    }
    assert_eq!(kept(with(part(0x483, 2, 0)).s2p(true), nested), 0);
}

#[test]
fn an_early_mmu_600_completes_a_cmd_sync_without_the_event_that_it_asks_for() {
    // CS = SEV.
    let event = |iidr| {
        let mut machine = Machine::new(with(iidr).sev(true), 1);
        machine.smmu.interrupts();
        machine.command(Sync::new().with_cs(2));
        assert_eq!(machine.smmu.waiting_commands(), 0);
        machine.smmu.interrupts().event
    };
    assert!(event(Iidr::default()) && event(part(0x483, 0, 3)));
    assert!(!event(part(0x483, 0, 2)));
}

#[test]
fn who_must_not_be_told_to_prefetch_stands_still_after_it() {
    for broken in [false, true] {
        let mut machine = Machine::new(Profile { broken_prefetch: broken, ..quiet() }, 1);
        machine.command(PrefetchConfig::new().with_sid(SID.into()));
        machine.sync();
        assert_eq!(machine.smmu.waiting_commands(), u32::from(broken));
    }
}

#[test]
fn a_wide_message_writes_zeros_behind_its_data() {
    const WORD: u64 = RAM + 0x1000;
    for (wide, expected) in [(false, 0xffff_ffff_0000_0042), (true, 0x42)] {
        let mut machine = Machine::new(Profile { wide_messages: wide, ..quiet() }.msi(true), 1);
        machine.put(WORD, u64::MAX);
        // CS = IRQ.
        let sync = Sync::new().with_cs(1).with_msi_addr(WORD).with_msi_data(0x42);
        machine.command(sync);
        assert_eq!(machine.ram.read64(WORD), Ok(expected));
    }
}
