// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address translation operations (§2.5): what they answer, and that they find what is stale.

use smmuv3_formats::register::{GatosAddr, GatosSid};
use smmuv3_model::{Misuse, Profile};

use crate::machine::*;
use crate::nested::a3;
use crate::stage_2::both;

const CTRL: u32 = 0x100;
const SID_AT: u32 = 0x108;
const ADDR: u32 = 0x110;
const PAR: u32 = 0x118;
const STAGE_1: u64 = 1;
const STAGE_2: u64 = 2;
const BOTH: u64 = 3;

fn profile() -> Profile {
    let mut profile = both();
    profile.idr0 = profile.idr0.with_atos(true);
    profile
}

fn asked(machine: &mut Machine, kind: u64, address: u64) -> u64 {
    let smmu = &mut machine.smmu;
    smmu.write64(SID_AT, GatosSid::default().with_stream_id(SID.into()).0);
    smmu.write64(ADDR, GatosAddr::default().with_addr(address).with_kind(kind).with_rnw(true).0);
    smmu.write32(CTRL, 1);
    for _ in 0..1000 {
        if smmu.read32(CTRL) & 1 == 0 {
            return smmu.read64(PAR);
        }
    }
    panic!("the operation never ended");
}

#[test]
fn a_page_and_a_block_are_answered() {
    let mut machine = Machine::new(profile(), 1);
    machine.a1();
    // Size = 0: 4 KiB.
    assert_eq!(asked(&mut machine, STAGE_1, VA), PA);
    // A block of 2 MiB in the place of the level-3 table: the lowest set bit says 2^(20 + 1).
    machine.put(L0 + 0x2d10, 0xa000_0000 | 0x0060_0000_0000_0f41);
    machine.sync();
    machine.command(tlbi_everything());
    machine.sync();
    assert_eq!(asked(&mut machine, STAGE_1, VA), 0xa000_0000 | 1 << 20 | 1 << 11);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn it_answers_from_what_is_cached_until_that_is_invalidated() {
    let mut machine = Machine::new(profile(), 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine.put(leaf_slot(L0), 0);
    assert_eq!(asked(&mut machine, STAGE_1, VA), PA, "stale");
    machine.command(tlbi_va(5, VA));
    machine.sync();
    // F_TRANSLATION is 0x10, in [11:4].
    assert_eq!(asked(&mut machine, STAGE_1, VA), 0x101);
    // No event: software has its answer.
    assert!(machine.events().is_empty());
}

#[test]
fn stages_that_are_not_there_are_named() {
    let mut machine = Machine::new(profile(), 1);
    machine.a1();
    // INV_STAGE of a stream without stage 2; INV_REQ of no stage at all.
    assert_eq!(asked(&mut machine, STAGE_2, VA), 0xfe1);
    assert_eq!(asked(&mut machine, BOTH, VA), 0xfe1);
    assert_eq!(asked(&mut machine, 0, VA), 0xff1);
    // An illegal entry (stage 2 of AArch32) is its event.
    machine.ste(SID, [CD | 0xf, 0xd4, 0, 0, 0, 0, 0, 0]);
    machine.command(cfgi_ste(SID));
    machine.sync();
    let answer = asked(&mut machine, STAGE_1, VA);
    assert_eq!(answer & 0xff1, 0x41, "C_BAD_STE, {answer:#x}");
}

#[test]
fn both_stages_and_the_second_alone() {
    let mut machine = a3(profile(), 1);
    assert_eq!(asked(&mut machine, BOTH, VA), 0xa000_0000);
    assert_eq!(asked(&mut machine, STAGE_2, PA + 0xff_0000_0000), 0xa000_0000);
    // Stage 2 misses the address of a table: REASON 2, with the intermediate address.
    machine.put(crate::nested::slot_of(L0 + 0x3000), 0);
    machine.command(tlbi_everything());
    machine.sync();
    assert_eq!(
        asked(&mut machine, BOTH, VA),
        (0xff_0000_0000 + L0 + 0x3000) | 0x10 << 4 | 2 << 1 | 1
    );
}

#[test]
fn it_runs_only_while_the_smmu_is_on_and_one_at_a_time() {
    let mut machine = Machine::new(profile(), 1);
    machine.a1();
    machine.smmu.write32(CTRL, 1);
    let value = 1u64;
    // Frozen while it runs: neither again nor with another address.
    machine.smmu.write32(CTRL, 1);
    machine.smmu.write64(ADDR, VA);
    let misuses = machine.misuses();
    assert_eq!(misuses.len(), 2, "{misuses:?}");
    // Off: what runs ends in INTERNAL_ERR, and nothing can be started.
    let mut machine = Machine::new(profile(), 1);
    machine.smmu.write32(CTRL, 1);
    machine.switch(0b1100);
    assert_eq!(machine.smmu.read32(CTRL), 0);
    machine.smmu.write32(CTRL, 1);
    assert_eq!(machine.misuses(), [Misuse::GuardedWrite { offset: CTRL, value }]);
}
