// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queues that are measured on the model: that it carries out what they give it, and takes the time that it is to take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use smmuv3::Mmio;
use smmuv3_formats::Command;
use smmuv3_formats::command::{Sync, TlbiNhVa};
use smmuv3_formats::register::{CmdqBase, CmdqCons, CmdqProd};
use smmuv3_model::{Memory, Observation};
use smmuv3_perf::bytes::Bytes;
use smmuv3_perf::scaling::{Account, Clock, Cpus, Modelled, Owned, Queue, together};

const BYTES: usize = 1 << 20;

/// A queue on a model, that queue's SMMU again, and its memory.
fn machine(
    queue: Queue,
    threads: usize,
    latency: u64,
    clock: Clock,
) -> (Owned, Modelled, Arc<Bytes>) {
    let cpus = Cpus::new(threads, BYTES);
    let memory = cpus.bytes();
    let smmu = Modelled::new(memory.clone(), latency, clock);
    let work = queue.on(cpus, smmu.clone());
    // Whatever the set-up had it do.
    assert_eq!(smmu.account().wrong, []);
    (work, smmu, memory)
}

fn no_time() -> Clock {
    Box::new(|| 0)
}

/// A clock that goes on by a nanosecond whenever somebody looks at it, and what it shows next.
fn ticking() -> (Clock, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(0));
    let own = time.clone();
    (Box::new(move || own.fetch_add(1, Ordering::Relaxed)), time)
}

/// A clock that shows what it is set to.
fn still() -> (Clock, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(0));
    let own = time.clone();
    (Box::new(move || own.load(Ordering::Relaxed)), time)
}

fn expected(operations: u64) -> Account {
    Account { syncs: operations, invalidations: operations, ..Account::default() }
}

#[test]
fn the_model_carries_out_what_threads_give_each_queue() {
    // Several laps of the queue.
    const EACH: u64 = 500;
    for queue in Queue::ALL {
        for threads in [1, 3] {
            let (once, smmu, _) = machine(queue, threads, 0, no_time());
            together(threads, |thread| (0..EACH).for_each(|count| once(thread, count)));
            let account = smmu.account();
            assert_eq!(account, expected(threads as u64 * EACH), "{queue:?}, {threads} threads");
            assert_eq!(smmu.account(), expected(0), "what was told of is not told of again");
        }
    }
}

#[test]
fn nobody_returns_before_its_cmd_sync_has_taken_its_time() {
    const LATENCY: u64 = 1_000;
    for queue in Queue::ALL {
        let (clock, time) = ticking();
        let (once, smmu, _) = machine(queue, 1, LATENCY, clock);
        for count in 0..300 {
            let before = time.load(Ordering::Relaxed);
            once(0, count);
            let taken = time.load(Ordering::Relaxed) - before;
            // It is looked at a few times more.
            assert!((LATENCY..LATENCY + 8).contains(&taken), "{queue:?}: {taken} ns");
        }
        assert_eq!(smmu.account(), expected(300));
    }
}

#[test]
fn threads_that_wait_for_cmd_syncs_take_turns_in_their_time() {
    const LATENCY: u64 = 50;
    const EACH: u64 = 40;
    for queue in Queue::ALL {
        let (clock, time) = ticking();
        let (once, smmu, _) = machine(queue, 2, LATENCY, clock);
        let before = time.load(Ordering::Relaxed);
        together(2, |thread| (0..EACH).for_each(|count| once(thread, count)));
        assert_eq!(smmu.account(), expected(2 * EACH));
        let taken = time.load(Ordering::Relaxed) - before;
        assert!(taken >= 2 * EACH * LATENCY, "{queue:?}: {taken} ns");
    }
}

/// Writes `commands` from the first slot on.
fn write(smmu: &Modelled, memory: &Bytes, commands: &[Command]) {
    let base = u64::from(smmu.read32(CmdqBase::OFFSET)) & !0x1f;
    for (slot, command) in (base..).step_by(16).zip(commands) {
        for (pa, word) in (slot..).step_by(8).zip(command.0) {
            memory.write64(pa, word).expect("memory");
        }
    }
}

/// Does that, tells the SMMU of them, and says what CONS shows.
fn give(smmu: &Modelled, memory: &Bytes, commands: &[Command]) -> u32 {
    write(smmu, memory, commands);
    smmu.write32(CmdqProd::OFFSET, commands.len() as u32);
    smmu.read32(CmdqCons::OFFSET)
}

#[test]
fn times_of_cmd_syncs_add_up_and_nothing_behind_one_starts_before_it_is_complete() {
    let (clock, time) = still();
    let (_work, smmu, memory) = machine(Queue::Lock, 1, 1_000, clock);
    let tlbi = Command::from(TlbiNhVa::new().with_asid(5).with_leaf(true).with_addr(0x1000));
    let sync = Command::from(Sync::new());
    let look_at = |now| {
        time.store(now, Ordering::Relaxed);
        (smmu.read32(CmdqCons::OFFSET), smmu.account().invalidations)
    };
    assert_eq!(give(&smmu, &memory, &[tlbi, tlbi, sync, tlbi, sync]), 2);
    assert_eq!(look_at(0), (2, 2));
    assert_eq!(look_at(999), (2, 0));
    assert_eq!(look_at(1_000), (4, 1));
    assert_eq!(smmu.account().waiting, 1);
    assert_eq!(look_at(1_999), (4, 0));
    assert_eq!(look_at(2_000), (5, 0));
    assert_eq!(smmu.account().waiting, 0);
}

#[test]
fn an_smmu_goes_on_whether_somebody_looks_or_not() {
    let (clock, time) = still();
    let (_work, smmu, memory) = machine(Queue::Lock, 1, 1_000, clock);
    let sync = Command::from(Sync::new());
    let look_at = |now| {
        time.store(now, Ordering::Relaxed);
        smmu.read32(CmdqCons::OFFSET)
    };
    // Told of at 500: they are complete at 1,500, 2,500 and 3,500.
    time.store(500, Ordering::Relaxed);
    assert_eq!(give(&smmu, &memory, &[sync, sync, sync]), 0);
    assert_eq!(look_at(2_600), 2);
    // Told of at 3,000, when the third still stands: complete at 4,500.
    time.store(3_000, Ordering::Relaxed);
    assert_eq!(give(&smmu, &memory, &[sync; 4]), 2);
    assert_eq!(look_at(4_499), 3);
    assert_eq!(look_at(4_500), 4);
    // Told of at 9,000, when there is nothing to do: complete at 10,000, and the next, told of at 9,999, at 11,000.
    time.store(9_000, Ordering::Relaxed);
    assert_eq!(give(&smmu, &memory, &[sync; 5]), 4);
    time.store(9_999, Ordering::Relaxed);
    assert_eq!(give(&smmu, &memory, &[sync; 6]), 4);
    assert_eq!(look_at(10_999), 5);
    assert_eq!(look_at(11_000), 6);
    // Two told of at 20,000, and another at 21,500, before somebody looks: that one does not hold up the second.
    time.store(20_000, Ordering::Relaxed);
    assert_eq!(give(&smmu, &memory, &[sync; 8]), 6);
    time.store(21_500, Ordering::Relaxed);
    assert_eq!(give(&smmu, &memory, &[sync; 9]), 7);
    assert_eq!(look_at(21_999), 7);
    assert_eq!(look_at(22_000), 8);
    assert_eq!(look_at(23_000), 9);
    assert_eq!(smmu.account().wrong, []);
}

#[test]
fn who_lets_the_model_go_on_does_what_others_add_meanwhile() {
    let time = Arc::new(AtomicU64::new(0));
    // Until somebody adds commands, and whose SMMU it is.
    let (looks, others) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::<Modelled>::new()));
    let clock = {
        let (time, looks, others) = (time.clone(), looks.clone(), others.clone());
        move || {
            let left = looks.load(Ordering::Relaxed);
            looks.store(left.saturating_sub(1), Ordering::Relaxed);
            if let (1, Some(smmu)) = (left, others.get()) {
                smmu.write32(CmdqProd::OFFSET, 4);
            }
            time.load(Ordering::Relaxed)
        }
    };
    let (_work, smmu, memory) = machine(Queue::Lock, 1, 1_000, Box::new(clock));
    assert!(others.set(smmu.clone()).is_ok());
    let tlbi = Command::from(TlbiNhVa::new().with_asid(5).with_leaf(true));
    let sync = Command::from(Sync::new());
    write(&smmu, &memory, &[sync, sync, tlbi, tlbi]);
    smmu.write32(CmdqProd::OFFSET, 1);
    assert_eq!(smmu.read32(CmdqCons::OFFSET), 0);
    // Nobody looks until both are due. The clock is looked at whether it is time, and for each CMD_SYNC: with the last of
    // that, the model is at the second.
    time.store(2_000, Ordering::Relaxed);
    smmu.write32(CmdqProd::OFFSET, 2);
    time.store(9_000, Ordering::Relaxed);
    looks.store(3, Ordering::Relaxed);
    assert_eq!(smmu.read32(CmdqCons::OFFSET), 4);
    assert_eq!(smmu.account(), Account { syncs: 2, invalidations: 2, ..Account::default() });
}

#[test]
#[should_panic = "the model refused a command"]
fn a_queue_that_stops_at_an_illegal_command_ends_what_is_measured() {
    let (_work, smmu, memory) = machine(Queue::Lock, 1, 0, no_time());
    give(&smmu, &memory, &[Command([0xff, 0])]);
}

#[test]
fn what_the_model_has_to_say_of_a_command_is_in_its_account() {
    let (_work, smmu, memory) = machine(Queue::Lock, 1, 0, no_time());
    // An address that is none.
    let odd = TlbiNhVa::new().with_asid(5).with_addr(1 << 60);
    assert_eq!(give(&smmu, &memory, &[odd.into()]), 1);
    let account = smmu.account();
    assert!(matches!(account.wrong.as_slice(), [Observation::Misuse(_)]), "{account:?}");
    assert_eq!(account.invalidations, 0);
}

#[test]
fn an_smmu_reads_and_writes_memory_of_the_machine_alone() {
    let memory = Cpus::<Modelled>::new(1, BYTES).bytes();
    let (first, end) = (0x8000_0000, 0x8000_0000 + BYTES as u64);
    for pa in [0, first - 8, first + 4, end, u64::MAX - 7] {
        assert!(memory.read64(pa).is_err() && memory.write64(pa, 1).is_err(), "{pa:#x}");
    }
    assert_eq!(memory.write64(end - 8, 0x0102_0304_0506_0708), Ok(()));
    assert_eq!(memory.compare_exchange64(end - 8, 0, 1), Ok(0x0102_0304_0506_0708));
    let mut bytes = [0; 3];
    assert_eq!(memory.read(end - 3, &mut bytes), Ok(()));
    assert_eq!(bytes, [3, 2, 1]);
    assert_eq!(memory.write(end - 9, &[0xaa, 0xbb]), Ok(()));
    assert_eq!(memory.read64(end - 16), Ok(0xaa << 56));
    assert_eq!(memory.read64(end - 8), Ok(0x0102_0304_0506_07bb));
    assert!(memory.read(end - 1, &mut bytes).is_err());
}
