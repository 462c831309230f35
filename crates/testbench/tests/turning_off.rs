// SPDX-License-Identifier: MIT OR Apache-2.0
//! ECMDQ_PROD holds the bit that turns an enhanced queue on, beside the index that producers write (§2.6): whoever turns
//! one off does so when nobody writes it any more, and nothing that comes late turns it on again.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use smmuv3::{Config, Failure, InstanceConfig, Iommu, Platform as _, Smmu, Trace};
use smmuv3_formats::Command;
use smmuv3_model::Observation;
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};

/// PROD of the first enhanced queue; EN is its top bit.
const FIRST_PROD: u32 = 0x2_0008;
/// What others may need, on the clock of the driver, to come as far as they can.
const LATER: u64 = 10_000_000;
/// Real time after which a test goes on in any case.
const BOUND: Duration = Duration::from_secs(10);
/// The same where somebody waits who does not show it.
const SHORT_BOUND: Duration = Duration::from_millis(200);

struct Setup {
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
}

impl Setup {
    /// One SMMU with two enhanced queues, on a CPU that uses the first of them.
    fn new() -> Self {
        let text = "name = \"turning off\"\ninstance = [{ name = \"smmu0\" }]\n\
                    master = [{ name = \"nic\", instance = \"smmu0\", streams = [1] }]";
        let scenario = common::parse(text);
        let machine =
            ModelMachine::with_profiles(&scenario, 1, |instance| profile(instance).ecmdq(Some(1)));
        let world = World::new(Arc::new(machine.unwrap()), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mut config = InstanceConfig::named("smmu0");
        config.command_queue_log2 = 4;
        config.sid_bits = 4;
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
        let setup = Self { world, iommu, smmu };
        assert_eq!(setup.smmu.inside().commands().lanes(), 3);
        while setup.iommu.platform().cpu() != 1 {
            setup.world.pass(Duration::from_micros(1));
        }
        setup
    }

    fn is_on(&self) -> bool {
        is_on(&self.world)
    }

    fn misuse(&self) -> Vec<Observation> {
        let misuse = |seen: &Observation| matches!(seen, Observation::Misuse(_));
        self.world.observations(0).unwrap().into_iter().filter(misuse).collect()
    }
}

fn is_on(world: &World) -> bool {
    world.machine().read32(0, FIRST_PROD) >> 31 == 1
}

/// Waits until something is so; whether it was within `bound`.
fn wait_for(bound: Duration, is_so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < bound {
        if is_so() {
            return true;
        }
        thread::yield_now();
    }
    false
}

/// Waits until the driver's clock shows `LATER` more than now.
fn give_others_time(world: &World) {
    let end = world.time() + LATER;
    wait_for(BOUND, || world.time() >= end);
}

/// Notes whenever the first enhanced queue is turned on or off.
struct Switch {
    world: Arc<World>,
    seen: Mutex<Vec<bool>>,
}

impl Switch {
    fn of(setup: &Setup) -> Arc<Self> {
        let switch = Arc::new(Self { world: setup.world.clone(), seen: Mutex::default() });
        setup.world.set_observer(Some(switch.clone()));
        switch
    }

    fn seen(&self) -> Vec<bool> {
        self.world.set_observer(None);
        self.seen.lock().unwrap().clone()
    }
}

impl Observer for Switch {
    fn at(&self, _: Point, _: bool) {
        let mut seen = self.seen.lock().unwrap();
        let on = is_on(&self.world);
        if seen.last() != Some(&on) {
            seen.push(on);
        }
    }
}

/// Somebody has drawn a ticket and has not published it, while `end` turns the SMMU off.
fn turned_while_publishing(setup: &Setup, end: impl FnOnce() + Send) -> Vec<bool> {
    let (platform, mmio) = (setup.iommu.platform(), setup.smmu.inside().mmio());
    let commands = setup.smmu.inside().commands();
    let switch = Switch::of(setup);
    let (begin, begun) = mpsc::channel();
    // The ticket is drawn when commands are asked for. Whoever waits for it lets time pass.
    let late = move || {
        begin.send(()).unwrap();
        give_others_time(&setup.world);
        Command::cfgi_all()
    };
    thread::scope(|threads| {
        threads.spawn(move || {
            begun.recv().unwrap();
            end();
        });
        let mut commands_later = std::iter::once_with(late);
        let ticket = commands.submit(platform, mmio, &mut commands_later).unwrap();
        assert_eq!(commands.wait(platform, mmio, ticket), Err(Failure::Failed));
    });
    switch.seen()
}

/// One CPU deals with an error of the first enhanced queue, and is slow, while `end` turns the SMMU off.
fn turned_while_recovering(setup: &Setup, end: impl FnOnce() + Send) -> Vec<bool> {
    setup.world.machine().model(0).unwrap().fail_next_command_of(1, 1);
    let switch = Switch::of(setup);
    let (refused, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (told, ends) = (refused.clone(), ended.clone());
    let (world, smmu) = (setup.world.clone(), setup.smmu.clone());
    setup.world.set_hook(Some(Arc::new(move |event: &Trace<'_>| {
        if let Trace::Refused { .. } = event {
            told.store(true, Ordering::Release);
            let commands = smmu.inside().commands();
            let is_given_up = || commands.has_failed() || commands.is_asleep();
            ends.store(wait_for(BOUND, is_given_up), Ordering::Release);
            if wait_for(SHORT_BOUND, || !is_on(&world)) {
                give_others_time(&world);
            }
        }
    })));
    thread::scope(|threads| {
        threads.spawn(|| {
            wait_for(BOUND, || refused.load(Ordering::Acquire));
            end();
        });
        let commands = vec![Command::cfgi_all()];
        let given = setup.smmu.inside().carry_out(setup.iommu.platform(), commands);
        assert!(given.is_err(), "{given:?}");
    });
    assert!(ended.load(Ordering::Acquire), "the SMMU is turned off meanwhile");
    setup.world.set_hook(None);
    switch.seen()
}

#[test]
fn a_reset_turns_a_queue_off_when_nobody_publishes_in_it() {
    let setup = Setup::new();
    let turned = turned_while_publishing(&setup, || setup.iommu.reset(&setup.smmu).unwrap());
    assert_eq!(turned, [true, false, true]);
    assert_eq!(setup.misuse(), []);
}

#[test]
fn a_reset_turns_a_queue_off_when_nobody_deals_with_its_errors() {
    let setup = Setup::new();
    let turned = turned_while_recovering(&setup, || setup.iommu.reset(&setup.smmu).unwrap());
    assert_eq!(turned, [true, false, true]);
    assert_eq!(setup.misuse(), []);
}

/// The memory of a queue is given back, so it has to stay off.
#[test]
fn a_queue_of_an_smmu_that_is_removed_stays_off() {
    for publishing in [true, false] {
        let setup = Setup::new();
        let remove = || setup.iommu.remove(setup.smmu.clone()).unwrap();
        let turned = if publishing {
            turned_while_publishing(&setup, remove)
        } else {
            turned_while_recovering(&setup, remove)
        };
        assert_eq!(turned, [true, false]);
        assert!(!setup.is_on());
        assert_eq!(setup.misuse(), []);
    }
}
