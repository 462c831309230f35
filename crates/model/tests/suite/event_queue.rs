// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event queue: when it is writable, overflow, errors, interrupts (§3.3).

use smmuv3_formats::EventId;
use smmuv3_model::{Access, Dropped, Misuse, Observation};

use crate::machine::*;

/// Provokes one C_BAD_STE for a stream.
fn provoke(machine: &mut Machine, stream: u32) -> bool {
    let refusal = machine.translate(Access::read(stream, 0)).unwrap_err();
    assert_eq!(refusal.event.and_then(|event| event.event()), Some(EventId::CBadSte));
    refusal.recorded
}

fn dropped(machine: &mut Machine) -> Vec<Dropped> {
    let seen = machine.smmu.observations();
    let reasons = seen.into_iter().filter_map(|observation| match observation {
        Observation::EventDropped { because, .. } => Some(because),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn records_arrive_in_order_across_the_wrap() {
    let mut machine = Machine::new(quiet(), 1);
    for round in 0..10 {
        for stream in 0..5 {
            assert!(provoke(&mut machine, stream + round));
        }
        let sids: Vec<_> = machine.events().iter().map(|event| event.sid()).collect();
        assert_eq!(sids, (0..5).map(|n| u64::from(n + round)).collect::<Vec<_>>());
    }
}

#[test]
fn overflow_is_told_once_until_acknowledged_and_does_not_block() {
    let mut machine = Machine::new(quiet(), 1);
    for stream in 0..8 {
        assert!(provoke(&mut machine, stream));
    }
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 8);
    assert!(!provoke(&mut machine, 8));
    assert!(!provoke(&mut machine, 9));
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 8 | 1 << 31);
    assert_eq!(dropped(&mut machine), [Dropped::Full, Dropped::Full]);
    // Room again, overflow not acknowledged: events are recorded.
    machine.smmu.write32(EVENTQ_CONS, 3);
    assert!(provoke(&mut machine, 10));
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 9 | 1 << 31);
    // Acknowledged: the next overflow toggles back.
    machine.smmu.write32(EVENTQ_CONS, 1 | 1 << 31);
    machine.smmu.observations();
    machine.smmu.write32(EVENTQ_CONS, 3 | 1 << 31);
    provoke(&mut machine, 11);
    provoke(&mut machine, 12);
    assert!(!provoke(&mut machine, 13));
    assert_eq!(machine.smmu.read32(EVENTQ_PROD) >> 31, 0);
}

#[test]
fn a_disabled_queue_drops_without_overflow() {
    let mut machine = Machine::new(quiet(), 1);
    machine.switch(0b1001);
    assert!(!provoke(&mut machine, 1));
    assert_eq!(dropped(&mut machine), [Dropped::Disabled]);
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 0);
}

#[test]
fn broken_queue_memory_is_an_error_that_stops_delivery() {
    let mut machine = Machine::new(quiet(), 1);
    machine.ram.break_range(EVENTQ + 16, 8);
    assert!(!provoke(&mut machine, 1));
    assert_eq!(machine.smmu.read32(GERROR), 1 << 2);
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 0);
    machine.ram.repair();
    assert!(!provoke(&mut machine, 2));
    assert_eq!(dropped(&mut machine), [Dropped::Abort, Dropped::Error]);
    let interrupts = machine.smmu.interrupts();
    assert_eq!((interrupts.eventq, interrupts.gerror), (false, true));
    machine.smmu.write32(GERRORN, 1 << 2);
    assert!(provoke(&mut machine, 3));
}

#[test]
fn the_interrupt_tells_that_the_queue_is_no_longer_empty() {
    let mut machine = Machine::new(quiet(), 1);
    provoke(&mut machine, 1);
    assert!(machine.smmu.interrupts().eventq);
    provoke(&mut machine, 2);
    assert!(!machine.smmu.interrupts().eventq);
    machine.events();
    provoke(&mut machine, 3);
    assert!(machine.smmu.interrupts().eventq);
    machine.smmu.write32(IRQ_CTRL, 0);
    machine.events();
    provoke(&mut machine, 4);
    assert!(!machine.smmu.interrupts().eventq);
}

#[test]
fn an_inconsistent_consumer_counts_as_full_and_is_reported() {
    let mut machine = Machine::new(quiet(), 1);
    machine.smmu.observations();
    machine.smmu.write32(EVENTQ_CONS, 1);
    assert_eq!(
        machine.misuses(),
        [Misuse::InconsistentIndex { queue: "EVENTQ", prod: 0, cons: 1 }]
    );
    assert!(!provoke(&mut machine, 1));
}

#[test]
fn a_queue_of_one_entry_holds_one_event() {
    let mut machine = Machine::new(quiet(), 1);
    machine.switch(0b1001);
    machine.smmu.write64(EVENTQ_BASE, EVENTQ);
    machine.switch(0b1101);
    assert!(provoke(&mut machine, 1));
    assert!(!provoke(&mut machine, 2));
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 1 | 1 << 31);
    machine.smmu.write32(EVENTQ_CONS, 1 | 1 << 31);
    assert!(provoke(&mut machine, 3));
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 1 << 31);
}
