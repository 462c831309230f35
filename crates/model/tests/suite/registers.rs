// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers: access rules, handshakes, guards (§2).

use smmuv3_model::{Misuse, Observation, Profile};

use crate::machine::*;

#[test]
fn id_registers_are_read_only() {
    let mut machine = Machine::reset(quiet(), 1);
    let profile = machine.smmu.profile().clone();
    let expected =
        [(0x00, profile.idr0.0), (0x04, profile.idr1.0), (0x08, 0), (0x0c, profile.idr3.0)];
    for (offset, value) in expected.into_iter().chain([(0x14, profile.idr5.0), (0x1c, 2)]) {
        assert_eq!(machine.smmu.read32(offset), value);
        machine.smmu.write32(offset, !value);
        assert_eq!(machine.smmu.read32(offset), value);
        assert_eq!(machine.misuses(), [Misuse::NotWritable { offset }]);
    }
    let cidr: Vec<_> = (0..4).map(|n| machine.smmu.read32(0xff0 + 4 * n)).collect();
    assert_eq!(cidr, [0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn wide_registers_have_two_halves() {
    let mut machine = Machine::reset(quiet(), 1);
    machine.smmu.write64(STRTAB_BASE, 0x4000_0012_3456_7fc0);
    assert_eq!(machine.smmu.read32(STRTAB_BASE), 0x3456_7fc0);
    assert_eq!(machine.smmu.read32(STRTAB_BASE + 4), 0x4000_0012);
    machine.smmu.write32(STRTAB_BASE + 4, 0x56);
    assert_eq!(machine.smmu.read64(STRTAB_BASE), 0x56_3456_7fc0);
    machine.smmu.write32(CMDQ_BASE, 0x1009);
    machine.smmu.write32(CMDQ_BASE + 4, 1);
    assert_eq!(machine.smmu.read64(CMDQ_BASE), 0x1_0000_1009);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn odd_accesses_read_zero_and_are_reported() {
    let mut machine = Machine::reset(quiet(), 1);
    assert_eq!(machine.smmu.read64(0x00), 0);
    assert_eq!(machine.smmu.read32(0x02), 0);
    machine.smmu.write64(0x20, 1);
    assert_eq!(
        machine.misuses(),
        [
            Misuse::BadAccess { offset: 0x00, bytes: 8 },
            Misuse::BadAccess { offset: 0x02, bytes: 4 },
            Misuse::BadAccess { offset: 0x20, bytes: 8 },
        ]
    );
    assert_eq!(machine.smmu.read32(CR0), 0);
    // The event queue's indices live on page 1 alone.
    assert_eq!(machine.smmu.read32(0xa8), 0);
    machine.smmu.write32(0xac, 1);
    assert_eq!(machine.misuses(), [Misuse::NotWritable { offset: 0xac }]);
}

#[test]
fn most_registers_are_unknown_after_reset() {
    let mut bases = Vec::new();
    for seed in 0..4 {
        let mut machine = Machine::reset(quiet(), seed);
        for offset in [CR0, CR0ACK, IRQ_CTRL, IRQ_CTRLACK, GERROR, GERRORN] {
            assert_eq!(machine.smmu.read32(offset), 0);
        }
        bases.push(machine.smmu.read64(STRTAB_BASE));
    }
    bases.dedup();
    assert_eq!(bases.len(), 4);
}

#[test]
fn cr0_is_acknowledged_field_by_field_and_not_before_its_time() {
    let mut profile = quiet();
    profile.ack_delay = 8;
    let mut orders = Vec::new();
    for seed in 0..32 {
        let mut machine = Machine::reset(profile.clone(), seed);
        for (base, value) in [(CMDQ_BASE, CMDQ | 4), (EVENTQ_BASE, EVENTQ | 3)] {
            machine.smmu.write64(base, value);
        }
        for index in [CMDQ_PROD, CMDQ_CONS, EVENTQ_PROD, EVENTQ_CONS] {
            machine.smmu.write32(index, 0);
        }
        machine.smmu.write32(CR0, 0b1100);
        assert_eq!(machine.smmu.read32(CR0), 0b1100, "readable at once");
        let mut seen: Vec<_> = (0..10).map(|_| machine.smmu.read32(CR0ACK)).collect();
        assert_eq!(seen.last(), Some(&0b1100));
        seen.dedup();
        orders.push(seen);
    }
    assert!(orders.iter().any(|seen| seen.contains(&0b0100)), "{orders:?}");
    assert!(orders.iter().any(|seen| seen.contains(&0b1000)), "{orders:?}");
}

#[test]
fn that_the_event_queue_is_off_is_seen_once_it_is_acknowledged() {
    let mut profile = quiet();
    profile.ack_delay = 8;
    let mut machine = Machine::new(profile, 1);
    machine.smmu.observations();
    machine.smmu.write32(CR0, 0b1001);
    while machine.smmu.read32(CR0ACK) != 0b1001 {
        assert_eq!(machine.smmu.observations(), []);
    }
    assert_eq!(machine.smmu.observations(), [Observation::EventQueueOff]);
}

#[test]
fn a_field_that_changes_again_before_its_acknowledgement_keeps_its_value() {
    let mut profile = quiet();
    profile.ack_delay = 100;
    let mut machine = Machine::reset(profile, 1);
    machine.smmu.write32(CR0, 0b0100);
    machine.smmu.write32(CR0, 0b0100);
    assert_eq!(machine.misuses(), []);
    machine.smmu.write32(CR0, 0b1000);
    assert_eq!(machine.misuses(), [Misuse::PendingUpdate { offset: CR0 }]);
    assert_eq!(machine.smmu.read32(CR0), 0b1100);
}

#[test]
fn a_stuck_instance_acknowledges_nothing() {
    let mut profile = quiet();
    profile.stuck = true;
    let mut machine = Machine::reset(profile, 1);
    machine.smmu.write32(CR0, 1);
    machine.smmu.write32(IRQ_CTRL, 1);
    machine.smmu.write32(GBPA, 1 << 31 | 1 << 20);
    for _ in 0..1000 {
        assert_eq!(machine.smmu.read32(CR0ACK), 0);
        assert_eq!(machine.smmu.read32(IRQ_CTRLACK), 0);
        assert_eq!(machine.smmu.read32(GBPA) >> 31, 1);
    }
    machine.smmu.set_stuck(false);
    machine.smmu.read32(GBPA);
    assert_eq!(machine.smmu.read32(CR0ACK), 1);
    assert_eq!(machine.smmu.read32(GBPA), 1 << 20);
}

#[test]
fn gbpa_changes_only_by_its_protocol() {
    let mut profile = quiet();
    profile.ack_delay = 4;
    let mut machine = Machine::reset(profile, 3);
    let before = machine.smmu.read32(GBPA);
    machine.smmu.write32(GBPA, 1 << 20);
    assert_eq!(machine.smmu.read32(GBPA), before);
    assert_eq!(machine.misuses(), [Misuse::GbpaWithoutUpdate]);
    machine.smmu.write32(GBPA, 1 << 31 | 1 << 20);
    machine.smmu.write32(GBPA, 1 << 31);
    assert_eq!(machine.misuses(), [Misuse::GbpaWithoutUpdate]);
    let read: Vec<_> = (0..6).map(|_| machine.smmu.read32(GBPA)).collect();
    assert_eq!(read.last(), Some(&(1 << 20)), "{read:x?}");
}

#[test]
fn registers_in_use_ignore_writes() {
    let mut machine = Machine::new(quiet(), 1);
    machine.smmu.observations();
    let wide = [STRTAB_BASE, CMDQ_BASE, EVENTQ_BASE];
    let narrow = [CR2, STRTAB_BASE_CFG, CMDQ_CONS, EVENTQ_PROD];
    for offset in wide {
        let before = machine.smmu.read64(offset);
        machine.smmu.write64(offset, before ^ 1 << 20);
        assert_eq!(machine.smmu.read64(offset), before);
        machine.smmu.write64(offset, before);
    }
    for offset in narrow {
        let before = machine.smmu.read32(offset);
        machine.smmu.write32(offset, before ^ 0b100);
        assert_eq!(machine.smmu.read32(offset), before);
    }
    let misuses = machine.misuses();
    assert_eq!(misuses.len(), wide.len() + narrow.len(), "{misuses:?}");
    assert!(misuses.iter().all(|misuse| matches!(misuse, Misuse::GuardedWrite { .. })));
}

#[test]
fn cr1_is_guarded_by_what_uses_each_half() {
    let mut machine = Machine::new(quiet(), 1);
    machine.switch(0b1100);
    machine.smmu.observations();
    machine.smmu.write32(CR1, 0);
    assert_eq!(machine.smmu.read32(CR1), 0xd75 & 0x3f, "queues are in use, tables are not");
    assert_eq!(machine.misuses(), [Misuse::GuardedWrite { offset: CR1, value: 0 }]);
    machine.switch(0);
    machine.smmu.write32(CR1, 0);
    assert_eq!(machine.smmu.read32(CR1), 0);
}

#[test]
fn bits_of_absent_features_do_not_stick() {
    let mut machine = Machine::reset(quiet(), 1);
    // ATSCHK and PRIQEN without ATS and PRI.
    machine.smmu.write32(CR0, 0b1_0010);
    assert_eq!(machine.smmu.read32(CR0), 0);
    assert_eq!(machine.misuses(), [Misuse::ReservedRegisterBits { offset: CR0, bits: 0b1_0010 }]);
    // No MSIs: their registers read zero, and writing zero is fine.
    machine.smmu.write64(0xb0, 0);
    machine.smmu.write32(0xb8, 0);
    assert_eq!(machine.misuses(), []);
    machine.smmu.write64(0xb0, 0x1000);
    assert_eq!(machine.smmu.read64(0xb0), 0);
    assert_eq!(machine.misuses(), [Misuse::NotWritable { offset: 0xb0 }]);
}

#[test]
fn messages_are_guarded_by_their_interrupt_enable() {
    let mut machine = Machine::reset(quiet().msi(true), 1);
    machine.smmu.write64(0x68, 0x8000_1004);
    machine.smmu.write32(0x70, 7);
    assert_eq!(machine.smmu.read64(0x68), 0x8000_1004);
    machine.smmu.write32(IRQ_CTRL, 1);
    machine.smmu.write32(0x70, 8);
    assert_eq!(machine.smmu.read32(0x70), 7);
    assert_eq!(machine.misuses(), [Misuse::GuardedWrite { offset: 0x70, value: 8 }]);
}

#[test]
fn acknowledging_an_inactive_error_is_ignored_and_reported() {
    let mut machine = Machine::reset(Profile::default(), 1);
    machine.smmu.write32(GERRORN, 1);
    assert_eq!(machine.smmu.read32(GERRORN), 0);
    assert_eq!(machine.misuses(), [Misuse::InactiveError { bits: 1 }]);
}
