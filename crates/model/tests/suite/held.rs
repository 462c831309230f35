// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transfers between translation and memory, and which CMD_SYNC must wait for them (§4.2).

use smmuv3_model::{Access, Adversary, Observation, Reason, Transfer};

use crate::machine::*;

const BUFFER: u64 = 0x8070_0000;

/// A1 mapped to RAM, for two streams with different ASIDs, and one write held on each.
fn with_two_held(profile: smmuv3_model::Profile, seed: u64) -> Machine {
    let mut machine = Machine::new(profile, seed);
    machine.a1();
    machine.put(leaf_slot(L0), BUFFER | LEAF);
    machine.tables_a1(0x8005_0000, BUFFER + 0x1000);
    machine.cd_at(CD + 64, cd_words(6, 0x8005_0000));
    machine.ste(6, ste_words(CD + 64));
    for stream in [SID, 6] {
        let bytes = Transfer::Write(vec![stream as u8; 8]);
        machine.smmu.hold(Access::read(stream, VA), bytes).unwrap();
    }
    machine.smmu.observations();
    machine
}

fn written(machine: &Machine) -> [bool; 2] {
    [BUFFER, BUFFER + 0x1000].map(|pa| machine.get(pa) != 0)
}

#[test]
fn a_held_transfer_reaches_memory_when_it_is_performed() {
    let mut machine = with_two_held(quiet(), 1);
    assert_eq!(written(&machine), [false, false]);
    let ids: Vec<_> = machine.smmu.held().map(|held| held.id).collect();
    let performed = machine.smmu.perform(ids[0]).unwrap();
    assert_eq!((performed.pa, performed.result, performed.drained), (BUFFER, Ok(vec![]), false));
    assert_eq!(machine.get(BUFFER), 0x0505_0505_0505_0505);
    assert_eq!(machine.smmu.perform(ids[0]), None);
    machine.put(BUFFER, 0x1122_3344_5566_7788);
    machine.smmu.hold(Access::read(SID, VA + 1), Transfer::Read(3)).unwrap();
    let id = machine.smmu.held().last().unwrap().id;
    assert_eq!(machine.smmu.perform(id).unwrap().result, Ok(vec![0x77, 0x66, 0x55]));
}

#[test]
fn a_sync_drains_exactly_what_the_invalidations_before_it_hit() {
    for (command, expected) in [
        (None, [false, false]),
        (Some(tlbi_va(5, VA).into()), [true, false]),
        (Some(smmuv3_formats::Command::from(tlbi_asid(6))), [false, true]),
        (Some(tlbi_va(7, VA).into()), [false, false]),
        (Some(tlbi_va(5, VA + 0x1000).into()), [false, false]),
        (Some(tlbi_all().into()), [true, true]),
        (Some(cfgi_ste(SID).into()), [true, false]),
        (Some(cfgi_cd(6).into()), [false, true]),
    ] {
        for profile in
            [quiet(), quiet().adversary(Adversary { late_invalidation: true, ..Adversary::NONE })]
        {
            for seed in 0..4 {
                let mut machine = with_two_held(profile.clone(), seed);
                if let Some(command) = command {
                    machine.command(command);
                }
                assert_eq!(written(&machine), [false, false], "only the SYNC drains");
                machine.sync();
                assert_eq!(written(&machine), expected, "{command:?}");
                let drained = machine.smmu.finished();
                assert_eq!(drained.len(), expected.iter().filter(|done| **done).count());
                assert!(drained.iter().all(|performed| performed.drained));
            }
        }
    }
}

#[test]
fn a_transfer_translated_after_the_invalidation_is_not_drained_by_it() {
    let mut machine = with_two_held(quiet(), 1);
    machine.command(tlbi_va(5, VA));
    let bytes = Transfer::Write(vec![9; 8]);
    machine.smmu.hold(Access::read(SID, VA + 64), bytes).unwrap();
    machine.sync();
    assert_eq!(written(&machine), [true, false]);
    assert_eq!(machine.get(BUFFER + 64), 0);
    assert_eq!(machine.smmu.held().count(), 2);
}

#[test]
fn a_drained_transfer_is_reported_before_the_sync_completes() {
    let mut machine = with_two_held(quiet(), 1);
    machine.command(tlbi_va(5, VA));
    machine.sync();
    let seen = machine.smmu.observations();
    let at = |wanted: fn(&Observation) -> bool| seen.iter().position(wanted).unwrap();
    let performed = at(|o| matches!(o, Observation::Performed { drained: true, pa: BUFFER, .. }));
    assert!(performed < at(|o| matches!(o, Observation::SyncCompleted { .. })));
}

#[test]
fn payloads_stay_within_one_mapping() {
    let mut machine = with_two_held(quiet(), 1);
    let refusal = machine.smmu.hold(Access::read(SID, VA + 0xffd), Transfer::Read(4)).unwrap_err();
    assert_eq!(refusal.reason, Reason::CrossesPage);
    assert!(machine.smmu.hold(Access::read(SID, VA + 0xffc), Transfer::Read(4)).is_ok());
    // The direction is the payload's: this is a write to a read-only page.
    machine.put(leaf_slot(0x8005_0000), BUFFER | LEAF | 1 << 7);
    machine.command(tlbi_asid(6));
    machine.sync();
    assert!(machine.smmu.hold(Access::read(6, VA), Transfer::Write(vec![0; 4])).is_err());
}
