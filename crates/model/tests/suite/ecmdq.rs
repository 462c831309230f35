// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enhanced command queues (§2.6), and messages of CMD_SYNCs (§4.2).

use smmuv3_formats::Command;
use smmuv3_formats::command::{AtcInv, Sync};
use smmuv3_model::{Access, Adversary, Answers, Endpoint, Misuse, Observation, Profile, Reference};

use crate::machine::*;

const PAGE: u32 = 0x2_0000;
/// log2 of the queues, and bytes from one to the next.
const LOG2: u32 = 2;
const SLOT: u32 = 0x4000;
/// log2 of the entries of each.
const BITS: u64 = 2;
const EN: u32 = 1 << 31;
const ERR: u32 = 1 << 23;
const GERROR_CMDQP: u32 = 1 << 9;
const WORD: u64 = 0x8030_0000;

const fn prod(queue: u32) -> u32 {
    PAGE + queue * SLOT + 8
}

const fn cons(queue: u32) -> u32 {
    PAGE + queue * SLOT + 12
}

const fn ring(queue: u32) -> u64 {
    0x8040_0000 + 0x1000 * queue as u64
}

fn enhanced() -> Profile {
    quiet().ecmdq(Some(LOG2)).msi(true)
}

/// All queues enabled.
fn machine(profile: Profile) -> Machine {
    seeded(profile, 1)
}

fn seeded(profile: Profile, seed: u64) -> Machine {
    let mut machine = Machine::new(profile, seed);
    for queue in 0..1 << LOG2 {
        machine.smmu.write64(PAGE + queue * SLOT, ring(queue) | BITS);
        machine.smmu.write32(prod(queue), 0);
        machine.smmu.write32(cons(queue), 0);
        machine.smmu.write32(prod(queue), EN);
        assert_eq!(machine.smmu.read32(cons(queue)), EN);
    }
    assert_eq!(machine.misuses(), []);
    machine
}

/// Queues a command in one of them; the model has not looked at it yet.
fn give(machine: &mut Machine, queue: u32, command: impl Into<Command>) {
    let command: Command = command.into();
    let at = machine.smmu.read32(prod(queue));
    let slot = ring(queue) + 16 * u64::from(at & ((1 << BITS) - 1));
    machine.put(slot, command.0[0]);
    machine.put(slot + 8, command.0[1]);
    let next = ((at & 7) + 1) & 7;
    machine.smmu.write32(prod(queue), at & !7 | next);
}

#[test]
fn registers_say_where_the_queues_are() {
    let mut machine = Machine::reset(enhanced(), 1);
    assert_eq!(machine.smmu.read32(0x004) >> 31, 1, "IDR1.ECMDQ");
    assert_eq!(machine.smmu.read32(0x190), 0x0002_0000, "IDR6: one page of four");
    // Offset 0x20000, 64 KiB, preset.
    assert_eq!(machine.smmu.read64(0x4000), 0x2_0003);
    assert_eq!(machine.smmu.read32(0x400c), 1);
    machine.smmu.write32(0x4008, 1);
    assert_eq!(machine.misuses(), []);
    machine.smmu.write32(0x4008, 0);
    assert_eq!(machine.misuses(), [Misuse::NotWritable { offset: 0x4008 }]);
    let mut without = Machine::reset(quiet(), 1);
    assert_eq!(without.smmu.read32(0x4000), 0);
    without.smmu.write32(prod(0), EN);
    assert_eq!(without.misuses(), [Misuse::NotWritable { offset: prod(0) }]);
}

#[test]
fn each_is_consumed_by_itself_in_no_order_among_them() {
    let mut orders = Vec::new();
    for seed in 0..20 {
        let mut machine = machine(enhanced());
        // The randomness of the choice goes on from here.
        (0..seed).for_each(|_| machine.smmu.act());
        machine.smmu.observations();
        (0..4).for_each(|queue| (0..4).for_each(|_| give(&mut machine, queue, Sync::new())));
        assert_eq!(machine.smmu.waiting_commands(), 16);
        assert_eq!(machine.smmu.run(usize::MAX), 16);
        let order: Vec<(usize, u32)> = machine
            .smmu
            .observations()
            .into_iter()
            .filter_map(|seen| match seen {
                Observation::Command { queue, index, .. } => Some((queue, index)),
                _ => None,
            })
            .collect();
        for queue in 1..=4 {
            let of: Vec<u32> =
                order.iter().filter(|(of, _)| *of == queue).map(|(_, index)| *index).collect();
            assert_eq!(of, [0, 1, 2, 3], "in order by itself");
        }
        orders.push(order);
    }
    orders.sort_unstable();
    orders.dedup();
    assert!(orders.len() > 10, "{}", orders.len());
}

/// By hand: a TLBI in one queue, and its CMD_SYNC in another. The translation stays, and so does what used it.
#[test]
fn a_sync_completes_commands_of_its_own_queue_alone() {
    let habits = Adversary { late_invalidation: true, ..Adversary::NONE };
    let mut wrong = 0;
    for seed in 0..20 {
        let mut machine = seeded(enhanced().adversary(habits), seed);
        machine.a1();
        assert_eq!(machine.read(VA), Some(PA));
        machine.put(leaf_slot(L0), 0);
        give(&mut machine, 0, asid_5());
        give(&mut machine, 1, Sync::new());
        assert_eq!(machine.smmu.run(usize::MAX), 2);
        wrong += u32::from(machine.read(VA).is_some());
        give(&mut machine, 0, Sync::new());
        machine.smmu.run(usize::MAX);
        assert_eq!(machine.read(VA), None, "its own");
    }
    // It may take effect at once.
    assert!((5..20).contains(&wrong), "{wrong}");
}

/// The same of what a device was told: of another queue, a CMD_SYNC neither completes it nor finds that it timed out.
#[test]
fn a_sync_waits_for_devices_that_its_own_queue_told() {
    let habits = Adversary { late_invalidation: true, ..Adversary::NONE };
    let kept = |machine: &Machine| machine.smmu.endpoint(SID).unwrap().atc().iter().count();
    let everything = || AtcInv::new().with_sid(SID.into()).with_size(52);
    let mut wrong = 0;
    for seed in 0..20 {
        let mut machine = seeded(crate::ats::ats(enhanced()).adversary(habits), seed);
        machine.a1();
        let mut ste = ste_words(CD);
        ste[1] |= crate::ats::EATS_FULL;
        machine.ste(SID, ste);
        machine.smmu.plug(SID, Endpoint::default().ats(true));
        assert!(machine.smmu.access(Access::read(SID, VA)).is_ok());
        assert_eq!(kept(&machine), 1);
        give(&mut machine, 0, everything());
        give(&mut machine, 1, Sync::new());
        assert_eq!(machine.smmu.run(usize::MAX), 2);
        wrong += kept(&machine);
        give(&mut machine, 0, Sync::new());
        machine.smmu.run(usize::MAX);
        assert_eq!(kept(&machine), 0, "its own");

        machine.smmu.endpoint_mut(SID).unwrap().answers = Answers::Never;
        give(&mut machine, 0, everything());
        machine.smmu.run(usize::MAX);
        give(&mut machine, 1, Sync::new());
        give(&mut machine, 0, Sync::new());
        machine.smmu.run(usize::MAX);
        let stopped = |queue| machine.smmu.waiting_in(queue) != 0;
        assert_eq!([1, 2].map(stopped), [true, false]);
    }
    // It may take effect at once.
    assert!((5..20).contains(&wrong), "{wrong}");
}

fn asid_5() -> Command {
    Command([0x0005_0000_0000_0011, 0])
}

#[test]
fn an_error_stops_its_queue_until_it_is_acknowledged_there() {
    let mut machine = machine(enhanced());
    give(&mut machine, 2, Sync::new());
    give(&mut machine, 2, Command([0, 0]));
    give(&mut machine, 0, Sync::new());
    machine.smmu.run(usize::MAX);
    machine.smmu.read32(cons(2));
    // RD at the command, ERR toggled, reason 1 (§3.2).
    assert_eq!(machine.smmu.read32(cons(2)), EN | 1 << 24 | ERR | 1);
    assert_eq!(machine.smmu.read32(cons(0)) & 7, 1, "the others go on");
    assert_eq!(machine.smmu.read32(GERROR), GERROR_CMDQP);
    assert_eq!(machine.smmu.run(usize::MAX), 0);
    // GERRORN alone does not let it go on.
    machine.smmu.write32(GERRORN, GERROR_CMDQP);
    assert_eq!(machine.smmu.run(usize::MAX), 0);
    machine.put(ring(2) + 16, 0x46);
    machine.smmu.write32(prod(2), EN | ERR | 2);
    assert_eq!(machine.smmu.run(usize::MAX), 1);
    assert_eq!(machine.misuses(), []);
    // The next one toggles back.
    give(&mut machine, 2, Command([0, 0]));
    machine.smmu.run(usize::MAX);
    machine.smmu.read32(cons(2));
    assert_eq!(machine.smmu.read32(cons(2)) & ERR, 0);
    assert_eq!(machine.smmu.read32(GERROR), 0);
    assert_eq!(machine.smmu.read32(GERRORN), GERROR_CMDQP);
}

/// By hand: what must not be done to them.
#[test]
fn wrong_sequences_are_told() {
    type Case = (fn(&mut Machine), Misuse);
    let cases: [Case; 5] = [
        (
            |machine| machine.smmu.write64(PAGE, ring(1) | BITS),
            Misuse::GuardedWrite { offset: PAGE, value: ring(1) | BITS },
        ),
        (
            |machine| machine.smmu.write32(cons(0), 1),
            Misuse::GuardedWrite { offset: cons(0), value: 1 },
        ),
        // Acknowledges an error that is not there.
        (|machine| machine.smmu.write32(prod(0), EN | ERR), Misuse::InactiveError { bits: ERR }),
        // The attributes of queues are in use (§2.4), although CR0 says that none is.
        (
            |machine| {
                machine.switch(0);
                machine.smmu.write32(CR1, 0xd70);
            },
            Misuse::GuardedWrite { offset: CR1, value: 0xd70 },
        ),
        (
            |machine| machine.smmu.write32(prod(0), EN | 5),
            Misuse::InconsistentIndex { queue: "ECMDQ", prod: 5, cons: 0 },
        ),
    ];
    for (wrong, misuse) in cases {
        let mut machine = machine(enhanced());
        wrong(&mut machine);
        assert_eq!(machine.misuses(), [misuse]);
    }
}

#[test]
fn one_that_is_enabled_late_is_told_of_twice_in_vain() {
    let profile = Profile { ack_delay: 5, ..enhanced() };
    let mut machine = Machine::reset(profile, 1);
    machine.smmu.write64(PAGE, ring(0) | BITS);
    machine.smmu.write32(prod(0), 0);
    machine.smmu.write32(cons(0), 0);
    machine.smmu.write32(prod(0), EN);
    machine.smmu.write32(prod(0), 0);
    assert_eq!(machine.misuses(), [Misuse::PendingUpdate { offset: prod(0) }]);
    let shown = (0..10).position(|_| machine.smmu.read32(cons(0)) & EN != 0);
    assert!(shown.is_some_and(|reads| reads < 5), "{shown:?}");
}

/// CS = IRQ, write-back, to [`WORD`].
fn message(data: u64) -> Command {
    Command([data << 32 | 0x0fc0_1046, WORD])
}

#[test]
fn a_message_may_be_late_but_not_later_than_the_next_sync() {
    let habits = Adversary { late_messages: true, ..Adversary::NONE };
    let mut machine = machine(enhanced().adversary(habits));
    let mut late = 0;
    for data in 1..50 {
        give(&mut machine, 1, message(data));
        machine.smmu.run(usize::MAX);
        // The one before at least.
        let shown = machine.get(WORD);
        assert!(shown == data || shown + 1 == data, "{shown} after {data}");
        if shown != data {
            late += 1;
            let way = machine.smmu.references(WORD, 4);
            assert_eq!(way, Some(Reference::Message));
        }
    }
    assert!(late > 5, "{late}");
    // One without a message brings the last.
    give(&mut machine, 1, Sync::new());
    machine.smmu.run(usize::MAX);
    assert_eq!(machine.get(WORD), 49);
    assert_eq!(machine.smmu.references(WORD, 4), None);
}

#[test]
fn a_lost_message_is_an_error_and_the_sync_is_complete_all_the_same() {
    let mut machine = machine(enhanced());
    machine.smmu.observations();
    machine.smmu.lose_messages(1);
    give(&mut machine, 1, message(7));
    assert_eq!(machine.smmu.run(usize::MAX), 1);
    assert_eq!((machine.get(WORD), machine.smmu.read32(GERROR)), (0, 1 << 4));
    let sent: Vec<Observation> = machine.smmu.observations();
    let lost = Observation::Message { pa: WORD, data: 7, aborted: true };
    assert!(sent.contains(&lost), "{sent:?}");
    give(&mut machine, 1, message(8));
    machine.smmu.run(usize::MAX);
    assert_eq!(machine.get(WORD), 8);
}
