// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue under stress: eight threads on sixteen slots, and an SMMU that takes its time.

mod common;

use smmuv3_testbench::inside::Inside as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smmuv3::{Config, Failure, InstanceConfig, Iommu};
use smmuv3_formats::command::TlbiNhAsid;
use smmuv3_formats::{Command, Opcode};
use smmuv3_model::Observation;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestPlatform, World};

const SCENARIO: &str = r#"
name = "command queue"
[[instance]]
name = "smmu"
command-queue = 4
[[master]]
name = "nic"
instance = "smmu"
streams = [1]
[[domain]]
name = "domain"
[[step]]
attach = { master = "nic", domain = "domain" }
"#;

const THREADS: u64 = 8;
const ROUNDS: u64 = 1500;
const ILL: u8 = 1;

/// The command of a thread's round: a tag that nobody else names.
fn command(thread: u64, round: u64) -> Command {
    TlbiNhAsid::new().with_asid(thread + 1).with_vmid(round).into()
}

/// What the SMMU has carried out, in order.
#[derive(Default)]
struct Seen(Mutex<Vec<(u64, u64)>>);

impl Seen {
    /// Takes what the model observed, and returns the rounds of `thread`.
    fn rounds(&self, machine: &ModelMachine, thread: u64) -> Vec<u64> {
        let mut seen = self.0.lock().unwrap();
        for observation in machine.model(0).unwrap().observations() {
            match observation {
                Observation::Command { command, .. }
                    if command.opcode() == Some(Opcode::TlbiNhAsid) =>
                {
                    let tag = TlbiNhAsid(command.0);
                    seen.push((tag.asid() - 1, tag.vmid()));
                }
                Observation::Misuse(misuse) => panic!("{misuse:?}"),
                _ => {}
            }
        }
        seen.iter().filter(|(of, _)| *of == thread).map(|(_, round)| *round).collect()
    }
}

/// Each thread gives batches of one to three commands and waits for them: when the wait returns, they were carried
/// out, in order, once. Now and then one is illegal: its own waiter is told, and nobody else. `latency` is
/// what the SMMU takes for each command.
fn stress(latency: Duration) {
    let machine = Arc::new(ModelMachine::new(&common::parse(SCENARIO), 1).unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.command_queue_log2 = 4;
    config.sid_bits = 4;
    let smmu = common::enable(&iommu, &world, 0, config);
    let instance = smmu.inside();
    let (queue, platform) = (instance.commands(), iommu.platform());
    let (seen, done) = (Seen::default(), AtomicBool::new(false));

    let work = |thread: u64| {
        let mut rng = fastrand::Rng::with_seed(thread);
        let (mut round, mut refused, mut forgotten) = (0, 0u64, 0u64);
        let mut given = Vec::new();
        while round < ROUNDS {
            let count = rng.u64(1..4).min(ROUNDS - round);
            let mut batch: Vec<Command> =
                (round..round + count).map(|round| command(thread, round)).collect();
            given.extend(round..round + count);
            round += count;
            // An opcode of its own, so that it is told from others'.
            let illegal = (rng.u8(..) < 8).then(|| Command([0xc0 + thread, 0]));
            if let Some(illegal) = illegal {
                batch.insert(rng.usize(0..=batch.len()), illegal);
            }
            let mut commands = batch.into_iter();
            let submitted = queue.submit_unjudged(platform, instance.mmio(), &mut commands);
            let ticket = submitted.unwrap();
            assert_eq!(commands.len(), 0);
            let result = instance.wait(platform, ticket);
            match illegal {
                // A thread that slept while others had many refused cannot know.
                _ if result == Err(Failure::Forgotten) => forgotten += 1,
                None => assert_eq!(result, Ok(()), "thread {thread}"),
                Some(command) => {
                    refused += 1;
                    assert_eq!(result, Err(Failure::Refused { command, code: ILL }));
                }
            }
            // Looked at now and then: it takes the lock that the SMMU needs.
            if rng.u8(..) < 16 || round == ROUNDS {
                assert_eq!(seen.rounds(&machine, thread), given, "thread {thread}");
            }
        }
        (refused, forgotten)
    };
    let results: Vec<(u64, u64)> = std::thread::scope(|threads| {
        let (work, machine, done) = (&work, &machine, &done);
        let smmu = threads.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let ran = machine.model(0).unwrap().run(1) != 0;
                let begun = Instant::now();
                while ran && begun.elapsed() < latency {
                    std::hint::spin_loop();
                }
                if !ran {
                    std::thread::yield_now();
                }
            }
        });
        let workers: Vec<_> =
            (0..THREADS).map(|thread| threads.spawn(move || work(thread))).collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        smmu.join().unwrap();
        results.into_iter().map(|result| result.unwrap()).collect()
    });
    let refused: u64 = results.iter().map(|(refused, _)| refused).sum();
    let forgotten: u64 = results.iter().map(|(_, forgotten)| forgotten).sum();
    println!(
        "{latency:?}: {} commands, {refused} others refused, {forgotten} unsure",
        THREADS * ROUNDS
    );
    assert!(refused > 10 * forgotten);
    for thread in 0..THREADS {
        assert_eq!(seen.rounds(&machine, thread).len() as u64, ROUNDS);
    }
    assert!(!queue.has_failed());
}

#[test]
fn an_smmu_that_takes_no_time_carries_out_every_command_once() {
    stress(Duration::ZERO);
}

#[test]
fn an_smmu_that_takes_a_microsecond_carries_out_every_command_once() {
    stress(Duration::from_micros(1));
}

#[test]
fn an_smmu_that_takes_ten_microseconds_carries_out_every_command_once() {
    stress(Duration::from_micros(10));
}
