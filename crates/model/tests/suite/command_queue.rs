// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue: order, wrapping, errors and recovery (§3.1, §3.2, §4).

use smmuv3_formats::command::{AtcInv, Sync, completion};
use smmuv3_formats::{Command, Opcode};
use smmuv3_model::{Adversary, Interrupts, Misuse, Observation};

use crate::machine::*;

/// CMDQ_CONS, read often enough to be up to date.
fn cons(machine: &mut Machine) -> u32 {
    machine.smmu.read32(CMDQ_CONS);
    machine.smmu.read32(CMDQ_CONS)
}

fn consumed(machine: &mut Machine) -> Vec<(u64, u32)> {
    machine
        .smmu
        .observations()
        .into_iter()
        .filter_map(|observation| match observation {
            Observation::Command { position, index, .. } => Some((position, index)),
            _ => None,
        })
        .collect()
}

#[test]
fn queues_of_every_size_wrap() {
    for bits in [0, 1, 4, 8] {
        let mut machine = Machine::new(quiet(), 1);
        machine.switch(0);
        machine.smmu.write64(CMDQ_BASE, CMDQ | bits);
        machine.smmu.write32(CMDQ_PROD, 0);
        machine.smmu.write32(CMDQ_CONS, 0);
        machine.switch(0b1000);
        machine.smmu.observations();
        let entries = 1u32 << bits;
        let mut prod = 0;
        for round in 0..5 {
            for _ in 0..entries {
                let slot = CMDQ + 16 * u64::from(prod & (entries - 1));
                machine.put(slot, 0x46);
                machine.put(slot + 8, 0);
                prod = (prod + 1) & (2 * entries - 1);
            }
            // Full: all slots may be used.
            machine.smmu.write32(CMDQ_PROD, prod);
            assert_eq!(machine.smmu.waiting_commands(), entries);
            assert_eq!(machine.smmu.run(usize::MAX), entries as usize, "round {round}");
            assert_eq!(cons(&mut machine), prod);
        }
        assert_eq!(machine.misuses(), []);
    }
}

#[test]
fn the_size_is_capped_by_idr1() {
    let mut machine = Machine::reset(quiet().queues(2, 2), 1);
    machine.smmu.write64(CMDQ_BASE, CMDQ | 19);
    machine.smmu.write32(CMDQ_PROD, 0);
    machine.smmu.write32(CMDQ_CONS, 0);
    machine.switch(0b1000);
    for slot in 0..4 {
        machine.put(CMDQ + 16 * slot, 0x46);
    }
    machine.smmu.write32(CMDQ_PROD, 4);
    assert_eq!(machine.smmu.run(usize::MAX), 4);
    assert_eq!(cons(&mut machine), 4);
}

#[test]
fn nothing_is_consumed_until_asked_and_no_more_than_asked() {
    let mut machine = Machine::new(quiet(), 1);
    for _ in 0..3 {
        machine.queue(Sync::new());
    }
    assert_eq!(cons(&mut machine), 0);
    assert_eq!(machine.smmu.run(2), 2);
    assert_eq!(cons(&mut machine), 2);
    assert_eq!(consumed(&mut machine), [(0, 0), (1, 1)]);
}

#[test]
fn an_eager_instance_needs_no_asking() {
    let mut machine = Machine::new(quiet().eager(true), 1);
    machine.queue(Sync::new());
    assert_eq!(cons(&mut machine), 1);
}

#[test]
fn a_lazy_consumer_index_lags_but_arrives() {
    let profile = quiet().adversary(Adversary { lazy_cons: true, ..Adversary::NONE });
    let mut lagged = 0;
    for seed in 0..16 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.sync();
        lagged += u32::from(machine.smmu.read32(CMDQ_CONS) == 0);
        assert_eq!(machine.smmu.read32(CMDQ_CONS), 1);
    }
    assert!((1..16).contains(&lagged));
}

#[test]
fn illegal_commands_stop_the_queue_until_acknowledged() {
    let illegal = [
        Command([0, 0]),
        Command([0xff, 0]),
        Command([0x80, 0]),
        // SSec on the Non-secure queue.
        Command([0x03 | 1 << 10, 0]),
        // SYNC with CS = 3.
        Command([0x46 | 3 << 12, 0]),
        // Features that are absent, Secure and EL3 opcodes.
        Command([Opcode::TlbiEl2All as u64, 0]),
        Command([Opcode::TlbiS12Vmall as u64, 0]),
        Command([Opcode::PriResp as u64, 0]),
        Command([Opcode::Resume as u64, 0]),
        Command([Opcode::TlbiEl3All as u64, 0]),
        Command([Opcode::TlbiSnhAll as u64, 0]),
        AtcInv::new().into(),
        // Range of one page without level hint.
        Command([0x12, 1 << 10]),
    ];
    for command in illegal {
        let mut machine = Machine::new(quiet(), 1);
        machine.sync();
        machine.queue(command);
        machine.queue(Sync::new());
        machine.smmu.run(usize::MAX);
        assert_eq!(machine.smmu.read32(CMDQ_CONS), 1 | 1 << 24, "{command}");
        assert_eq!(machine.smmu.read32(GERROR), 1);
        assert!(machine.smmu.interrupts().gerror);
        assert_eq!(machine.smmu.run(usize::MAX), 0, "nothing is consumed meanwhile");
        assert_eq!(machine.smmu.read32(GERROR), 1, "no second toggle");
        // Replace it, and acknowledge: no write of PROD is needed.
        machine.put(CMDQ + 16, 0x46);
        machine.put(CMDQ + 24, 0);
        machine.smmu.write32(GERRORN, 1);
        assert_eq!(machine.smmu.run(usize::MAX), 2);
        assert_eq!(machine.smmu.read32(CMDQ_CONS) & 0xf_ffff, 3);
        assert_eq!(machine.misuses(), []);
    }
}

#[test]
fn commands_in_broken_memory_are_cerror_abt() {
    let mut machine = Machine::new(quiet(), 1);
    machine.ram.break_range(CMDQ + 16, 8);
    machine.smmu.write32(CMDQ_PROD, 0);
    machine.queue(Sync::new());
    machine.smmu.write32(CMDQ_PROD, 2);
    assert_eq!(machine.smmu.run(usize::MAX), 1);
    assert_eq!(machine.smmu.read32(CMDQ_CONS), 1 | 2 << 24);
    machine.ram.repair();
    machine.put(CMDQ + 16, 0x46);
    machine.smmu.write32(GERRORN, 1);
    assert_eq!(machine.smmu.run(usize::MAX), 1);
}

#[test]
fn the_second_error_toggles_back() {
    let mut machine = Machine::new(quiet(), 1);
    for expected in [1, 0, 1] {
        machine.smmu.fail_next_command(1);
        machine.queue(Sync::new());
        machine.smmu.run(usize::MAX);
        assert_eq!(machine.smmu.read32(GERROR), expected);
        machine.smmu.write32(GERRORN, expected);
        assert_eq!(machine.smmu.run(usize::MAX), 1);
    }
}

#[test]
fn an_inconsistent_producer_stops_the_queue_and_is_reported() {
    let mut machine = Machine::new(quiet(), 1);
    machine.smmu.observations();
    // 17 entries in a queue of 16.
    machine.smmu.write32(CMDQ_PROD, 17);
    assert_eq!(machine.smmu.run(usize::MAX), 0);
    assert_eq!(machine.misuses(), [Misuse::InconsistentIndex { queue: "CMDQ", prod: 17, cons: 0 }]);
}

#[test]
fn the_producer_may_go_back_only_while_the_queue_stands() {
    let mut machine = Machine::new(quiet(), 1);
    for _ in 0..3 {
        machine.queue(Sync::new());
    }
    machine.smmu.observations();
    machine.smmu.write32(CMDQ_PROD, 1);
    assert_eq!(machine.misuses(), [Misuse::ProducerMovedBack { from: 3, to: 1 }]);
    machine.smmu.write32(CMDQ_PROD, 3);
    machine.smmu.fail_next_command(1);
    machine.smmu.run(usize::MAX);
    machine.smmu.observations();
    machine.smmu.write32(CMDQ_PROD, 1);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn a_command_written_after_the_producer_passed_it_may_be_missed() {
    let profile = quiet().adversary(Adversary { prefetch_commands: true, ..Adversary::NONE });
    let mut missed = 0;
    for seed in 0..16 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.put(CMDQ, 0x46);
        machine.smmu.write32(CMDQ_PROD, 1);
        machine.put(CMDQ, cfgi_ste(1).0[0]);
        machine.smmu.run(usize::MAX);
        missed += u32::from(machine.misuses() == [Misuse::CommandRewritten { index: 0 }]);
    }
    assert!((1..16).contains(&missed));
}

#[test]
fn prefetched_commands_are_dropped_on_an_error() {
    let profile = quiet().adversary(Adversary { prefetch_commands: true, ..Adversary::NONE });
    for seed in 0..8 {
        let mut machine = Machine::new(profile.clone(), seed);
        machine.put(CMDQ, 0);
        machine.put(CMDQ + 16, 0);
        machine.smmu.write32(CMDQ_PROD, 2);
        machine.smmu.run(usize::MAX);
        machine.put(CMDQ, 0x46);
        machine.put(CMDQ + 16, 0x46);
        machine.smmu.write32(GERRORN, 1);
        assert_eq!(machine.smmu.run(usize::MAX), 2);
        assert_eq!(machine.misuses(), []);
    }
}

#[test]
fn a_sync_that_asks_for_it_interrupts() {
    let mut machine = Machine::new(quiet(), 1);
    machine.sync();
    assert!(!machine.smmu.interrupts().cmd_sync);
    machine.command(Sync::new().with_cs(completion::IRQ));
    assert!(machine.smmu.interrupts().cmd_sync);
    assert!(!machine.smmu.interrupts().cmd_sync, "an edge is seen once");
    machine.command(Sync::new().with_cs(completion::SEV));
    assert_eq!(machine.smmu.interrupts(), Interrupts::default(), "as if nothing was asked for");
}

#[test]
fn a_sync_that_asks_for_it_sends_an_event_where_there_are_events() {
    let mut machine = Machine::new(quiet().sev(true), 1);
    machine.sync();
    machine.command(Sync::new().with_cs(completion::IRQ));
    assert!(!machine.smmu.interrupts().event);
    machine.command(Sync::new().with_cs(completion::SEV));
    let told = Interrupts { event: true, ..Interrupts::default() };
    assert_eq!(machine.smmu.interrupts(), told);
    assert_eq!(machine.smmu.interrupts(), Interrupts::default());
    assert_eq!(cons(&mut machine), 3);
}

#[test]
fn a_full_queue_that_gets_room_sends_an_event() {
    for sev in [false, true] {
        let mut machine = Machine::new(quiet().sev(sev), 1);
        let size = 1 << CMDQ_BITS;
        for _ in 0..size - 1 {
            machine.queue(Sync::new());
        }
        machine.smmu.run(1);
        assert!(!machine.smmu.interrupts().event, "it was not full");
        machine.queue(Sync::new());
        machine.queue(Sync::new());
        assert_eq!(machine.smmu.waiting_commands(), size);
        machine.smmu.run(1);
        assert_eq!(machine.smmu.interrupts().event, sev);
        machine.smmu.run(1);
        assert!(!machine.smmu.interrupts().event, "it has room already");
    }
}

#[test]
fn a_sync_writes_its_message_where_there_are_messages() {
    let mut machine = Machine::new(quiet().msi(true), 1);
    let sync = Sync::new().with_cs(completion::IRQ).with_msi_data(0xcafe);
    machine.command(sync.with_msi_addr(0x8000_1000));
    assert_eq!(machine.get(0x8000_1000), 0xcafe);
    machine.command(sync.with_msi_addr(0x1000));
    assert_eq!(machine.smmu.read32(GERROR), 1 << 4, "MSI_CMDQ_ABT_ERR");
    assert_eq!(cons(&mut machine), 2, "it completed all the same");
}

#[test]
fn wedged_queues_stand_still() {
    let mut machine = Machine::new(quiet(), 1);
    machine.smmu.wedge_after(Some(1));
    for _ in 0..3 {
        machine.queue(Sync::new());
    }
    assert_eq!(machine.smmu.run(usize::MAX), 1);
    assert_eq!(machine.smmu.run(usize::MAX), 0);
    machine.smmu.wedge_after(None);
    assert_eq!(machine.smmu.run(usize::MAX), 2);
}

#[test]
fn reserved_bits_are_reported_and_otherwise_ignored() {
    let mut machine = Machine::new(quiet(), 1);
    machine.smmu.observations();
    let command = Command([0x46 | 1 << 20, 0]);
    machine.command(command);
    assert_eq!(machine.misuses(), [Misuse::ReservedCommandBits { command }]);
}

#[test]
fn disabling_the_queue_stops_it_at_a_command() {
    let mut machine = Machine::new(quiet(), 1);
    machine.queue(Sync::new());
    machine.switch(0b0101);
    assert_eq!(machine.smmu.run(usize::MAX), 0);
    machine.switch(0b1101);
    assert_eq!(machine.smmu.run(usize::MAX), 1);
}
