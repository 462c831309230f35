// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event queue: when it is writable, overflow, errors, interrupts (§3.3).

use smmuv3_formats::EventId;
use smmuv3_model::{Access, Adversary, Dropped, Misuse, Observation};

use crate::machine::*;

/// Provokes one C_BAD_STE for a stream.
fn provoke(machine: &mut Machine, stream: u32) -> bool {
    let refusal = machine.translate(Access::read(stream, 0)).unwrap_err();
    assert_eq!(refusal.event.and_then(|event| event.event()), Some(EventId::CBadSte));
    refusal.recorded
}

/// What was said of losses: whether the queue could not be written; and why each event was dropped.
fn losses(machine: &mut Machine) -> (Vec<bool>, Vec<Dropped>) {
    let seen = machine.smmu.observations();
    let said = seen.iter().filter_map(|observation| match observation {
        Observation::EventsLost { aborted } => Some(*aborted),
        _ => None,
    });
    let reasons = seen.iter().filter_map(|observation| match observation {
        Observation::EventDropped { because, .. } => Some(*because),
        _ => None,
    });
    (said.collect(), reasons.collect())
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
    assert_eq!(losses(&mut machine), (vec![false], vec![Dropped::Full, Dropped::Full]));
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
    assert_eq!(losses(&mut machine), (vec![false], vec![Dropped::Full]));
}

#[test]
fn a_disabled_queue_drops_without_overflow() {
    let mut machine = Machine::new(quiet(), 1);
    machine.switch(0b1001);
    assert!(!provoke(&mut machine, 1));
    assert_eq!(losses(&mut machine), (vec![], vec![Dropped::Disabled]));
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
    assert_eq!(losses(&mut machine), (vec![true], vec![Dropped::Abort, Dropped::Error]));
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

/// Of what comes again, as long as nobody has read it: how many records there are, merged ones and repeated ones.
fn again(machine: &mut Machine, accesses: &[Access]) -> (u32, usize, usize) {
    machine.smmu.observations();
    let before = machine.smmu.read32(EVENTQ_PROD);
    for access in accesses {
        assert!(machine.translate(*access).unwrap_err().recorded);
    }
    let seen = machine.smmu.observations();
    let count = |of: fn(&Observation) -> bool| seen.iter().filter(|it| of(it)).count();
    (
        machine.smmu.read32(EVENTQ_PROD) - before,
        count(|it| matches!(it, Observation::EventMerged(_))),
        count(|it| matches!(it, Observation::EventRepeated(_))),
    )
}

/// §10.1: one page, in one direction, is one record, until it has been read.
#[test]
fn events_that_say_the_same_are_merged_where_the_entry_allows_it() {
    const MEV: u64 = 1 << 19;
    const ELSEWHERE: u64 = VA + 0x5000;
    let page = [0, 8, 0xff8].map(|offset| Access::read(SID, ELSEWHERE + offset));
    for (merges, allowed, expected) in
        [(true, true, (1, 2, 0)), (true, false, (3, 0, 2)), (false, true, (3, 0, 0))]
    {
        let habits = Adversary { merged_events: merges, ..Adversary::NONE };
        let mut machine = Machine::new(quiet().adversary(habits), 1);
        machine.a1();
        let mut entry = ste_words(CD);
        entry[1] |= if allowed { MEV } else { 0 };
        machine.ste(SID, entry);
        assert_eq!(again(&mut machine, &page), expected, "{merges} {allowed}");
        // Another page, another direction, and no record but what is in the queue.
        let others = [Access::read(SID, ELSEWHERE + 0x1000), Access::write(SID, ELSEWHERE)];
        assert_eq!(again(&mut machine, &others), (2, 0, 0));
        let prod = machine.smmu.read32(EVENTQ_PROD);
        machine.smmu.write32(EVENTQ_CONS, prod);
        assert_eq!(again(&mut machine, &page[..1]), (1, 0, 0), "it was read");
    }
}

#[test]
fn an_entry_that_is_illegal_is_told_of_once_whatever_it_says() {
    let habits = Adversary { merged_events: true, ..Adversary::NONE };
    let mut machine = Machine::new(quiet().adversary(habits), 1);
    let one = [Access::read(3, 0), Access::write(3, 0x1000)];
    assert_eq!(again(&mut machine, &one), (1, 1, 0));
    assert_eq!(again(&mut machine, &[Access::read(4, 0)]), (1, 0, 0), "of another stream");
}
