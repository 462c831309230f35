// SPDX-License-Identifier: MIT OR Apache-2.0
//! When it is noticed that a device does not answer, and by whom.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3::{Config, DomainConfig, InstanceConfig, Iommu, StreamId, Trace};
use smmuv3_formats::{Command, Opcode};
use smmuv3_model::{Answers, Observation};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};

use super::pair::{DISK, IOVA, NIC, PAGE, Pair, answer, reads};
use super::parse;

/// Rule R7: the unmap that finds out that a device does not answer may be slow to say so.
#[test]
fn nothing_is_said_about_its_stream_when_a_detach_has_returned() {
    for seed in 0..8 {
        let pair = Pair::new(seed);
        let found_out = |trace: &Trace<'_>| matches!(trace, Trace::Completed { result: Err(_), count, .. } if *count < 3);
        pair.once_when(found_out, |pair| {
            pair.iommu.detach(&pair.masters[NIC]).unwrap();
            assert!(!reads(&pair.world, NIC, IOVA + PAGE));
            // What was said until now.
            pair.world.observations(0);
        });
        pair.unmap(0);
        let said: Vec<_> = pair.world.observations(0).unwrap();
        let commands = said.iter().filter_map(|seen| match seen {
            Observation::Command { command, .. } => Some(*command),
            _ => None,
        });
        let commands: Vec<_> = commands.collect();
        // The other device is told on.
        let about = |stream: u64| {
            let named =
                |it: &&Command| it.opcode() != Some(Opcode::Sync) && it.0[0] >> 32 == stream;
            commands.iter().find(named)
        };
        assert_eq!((about(5), about(6).is_some()), (None, true), "seed {seed}: {commands:?}");
        assert!(!reads(&pair.world, DISK, IOVA));
        assert!(reads(&pair.world, DISK, IOVA + PAGE));
        pair.world.set_hook(None);
    }
}

/// An SMMU that is taken away and comes back is another one for the driver, by its old number or, where a handle of the former
/// is left, by another; its devices are the same.
#[test]
fn the_switch_of_a_device_is_found_behind_an_smmu_that_came_back() {
    const TWO: &str = r#"
name = "two"
instance = [{ name = "one", ats = true }, { name = "other", ats = true }]
master = [
    { name = "nic", instance = "one", streams = [5], ats = true },
    { name = "disk", instance = "other", streams = [5], ats = true },
]
"#;
    let machine = ModelMachine::new(&parse(TWO), 1).unwrap();
    let world = World::new(Arc::new(machine), 2);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let enable = |instance| {
        let mmio = TestMmio { world: world.clone(), instance };
        let smmu = iommu.probe(mmio, InstanceConfig::named("smmu")).unwrap().enable().unwrap();
        world.enabled(smmu.id(), instance);
        smmu
    };
    let (first, other) = (enable(0), enable(1));
    let handles = (first.clone(), other.clone());
    assert!(iommu.remove(first).is_ok() && iommu.remove(other).is_ok());
    let (_other, again) = (enable(1), enable(0));
    assert_eq!(again.id().index(), 3);
    drop(handles);
    assert!(iommu.remove(again).is_ok());
    let again = enable(0);
    assert_eq!((again.id().index(), again.id().generation()), (0, 1));
    let config = smmuv3_testbench::keeping::trusted();
    let master = iommu.add_master(&again, &[StreamId(5)], config).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    let on = || [0, 1].map(|it| world.machine().model(it).unwrap().endpoint(5).unwrap().ats);
    iommu.attach(&master, &domain).unwrap();
    assert_eq!(on(), [true, false]);
    iommu.detach(&master).unwrap();
    assert_eq!(on(), [false, false]);
}

/// The entry says it, and hardware has not noticed yet: another CPU's unmap comes.
struct Between(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Observer for Between {
    fn at(&self, point: Point, _interruptible: bool) {
        if matches!(point, Point::Published { bytes: 8, .. }) {
            let call = self.0.lock().unwrap().take();
            call.into_iter().for_each(|call| call());
        }
    }
}

/// Rule R1.
#[test]
fn another_unmap_that_finds_it_in_quarantine_waits_until_hardware_has_noticed() {
    for seed in 0..8 {
        let pair = Pair::new(seed);
        pair.once_when(
            |trace| matches!(trace, Trace::Quarantined { .. }),
            |pair| {
                let other = pair.clone();
                let call = move || {
                    other.unmap(1);
                    assert!(!reads(&other.world, NIC, IOVA + PAGE), "it has returned");
                    assert!(!reads(&other.world, DISK, IOVA + PAGE));
                };
                let between = Between(Mutex::new(Some(Box::new(call))));
                pair.world.set_observer(Some(Arc::new(between)));
            },
        );
        pair.unmap(0);
        pair.world.set_observer(None);
        pair.world.set_hook(None);
        for page in 0..4 {
            assert!(!reads(&pair.world, NIC, IOVA + page * PAGE));
            assert_eq!(reads(&pair.world, DISK, IOVA + page * PAGE), page > 1);
        }
    }
}

/// An SMMU that has to be told twice of what it is to forget is told twice of that entry, too, also if it is the second
/// time that finds out.
#[test]
fn where_invalidations_are_repeated_so_is_that_of_its_entry() {
    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    let mut found = 0;
    for seed in 0..16 {
        let mut config = InstanceConfig::named("smmu");
        config.firmware.repeated_invalidation = true;
        let pair = Pair::within(seed, config);
        answer(&pair.world, 5, Answers::InTime);
        ROUNDS.store(0, Ordering::Relaxed);
        let world = pair.world.clone();
        let hook = move |trace: &Trace<'_>| {
            let told = matches!(trace, Trace::Invalidation { .. });
            if told && ROUNDS.fetch_add(1, Ordering::Relaxed) == 1 {
                answer(&world, 5, Answers::Never);
            }
        };
        pair.world.set_hook(Some(Arc::new(hook)));
        pair.world.take_commands();
        pair.unmap(0);
        pair.world.set_hook(None);
        let told = pair.world.take_commands().into_iter();
        let told = told.filter(|(_, command)| command.opcode() == Some(Opcode::CfgiSte));
        let expected = if pair.masters[NIC].is_quarantined() { 2 } else { 0 };
        assert_eq!(told.count(), expected, "seed {seed}");
        found += expected;
    }
    assert!(found > 0, "on no seed was it the second time");
}
