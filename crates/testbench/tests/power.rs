// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU is suspended, loses its power, and is resumed: whatever happens meanwhile holds when it is back, and nobody
//! misses anything at any moment of it (rules R0, R1, R5).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use smmuv3::{
    Attributes, Config, DomainConfig, EnableError, Failure, InstanceConfig, Interrupt, Iommu, Iova,
    MasterConfig, PhysAddr, Prot, StreamId, SuspendError,
};
use smmuv3_model::Observation;
use smmuv3_testbench::bench::{Bench, Settings};
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::operation::{Operation, Source};
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::{TestPlatform, World};
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::{Change, MemoryKind, Rights, Scenario, Substream};

use common::every_step::EveryStep;
use common::pair::pair;
use common::parse;

const IOVA: u64 = 0x1_0000;
const BYTES: u64 = 0x2000;
const PAGE: u64 = 0x1000;
/// Masters, each behind the instance of that number.
const NARROW: usize = 0;
const WIDE: usize = 1;
const NET: usize = 0;
const VIDEO: usize = 1;

fn scenario() -> Scenario {
    parse(&pair("asid-policy = \"per-instance\"\npasids = 2", ""))
}

fn map(space: usize, offset: u64) -> Operation {
    let (source, kind) = (Source::Memory { memory: 0, offset }, MemoryKind::Normal);
    Operation::Map {
        space,
        iova: IOVA,
        bytes: BYTES,
        source,
        write: true,
        kind,
        rights: Rights::Data,
    }
}

const fn unmap(space: usize) -> Operation {
    Operation::Unmap { space, iova: IOVA, bytes: BYTES }
}

const fn change(instance: usize, change: Change) -> Operation {
    Operation::Change { instance, change }
}

fn attach(master: usize, to: Use) -> Operation {
    Operation::attach(master, to)
}

fn write(master: usize) -> Operation {
    let (substream, data) = (Substream::None, vec![7; 16]);
    Operation::Write { master, substream, iova: IOVA, data }
}

/// How many accesses of each operation were refused. No rule breaks, and nothing is left.
fn done(seed: u64, operations: &[Operation]) -> Vec<usize> {
    let machine = Arc::new(ModelMachine::new(&scenario(), seed).unwrap());
    let bench = Bench::new(&scenario(), machine, seed, Settings::default()).unwrap();
    let mut refused = Vec::new();
    for operation in operations {
        refused.push(bench.perform(operation).unwrap().refused);
        let violation = bench.oracle(|oracle| oracle.violation().cloned());
        assert_eq!(violation, None, "seed {seed}, {operation:?}");
        assert_eq!(bench.refusal(), None, "seed {seed}, {operation:?}");
    }
    assert_eq!(bench.tear_down().unwrap(), None, "seed {seed}");
    refused
}

#[test]
fn what_is_done_while_it_sleeps_holds_when_it_wakes() {
    for seed in 0..16 {
        let refused = done(
            seed,
            &[
                map(NET, 0),
                map(VIDEO, 0x8000),
                attach(NARROW, Use::Domain(NET)),
                attach(WIDE, Use::Domain(NET)),
                write(NARROW),
                write(WIDE),
                change(NARROW, Change::Suspend),
                write(NARROW),
                write(WIDE),
                // It had the translation cached.
                unmap(NET),
                write(WIDE),
                map(NET, 0x4000),
                attach(WIDE, Use::Domain(VIDEO)),
                change(NARROW, Change::Resume),
                write(NARROW),
                // Its tag is given back, and to another, while it sleeps.
                change(NARROW, Change::Suspend),
                attach(NARROW, Use::Domain(VIDEO)),
                attach(NARROW, Use::Blocked),
                attach(NARROW, Use::Domain(VIDEO)),
                change(NARROW, Change::Resume),
                write(NARROW),
                // Asleep at the end.
                change(WIDE, Change::Suspend),
            ],
        );
        let at = |index: usize| refused[index];
        assert_eq!([at(4), at(5), at(7), at(8), at(10)], [0, 0, 1, 0, 1], "seed {seed}");
        assert_eq!([at(14), at(20)], [0, 0], "seed {seed}");
    }
}

#[test]
fn a_reset_wakes_it_too_and_what_is_so_already_stays_so() {
    for seed in 0..8 {
        let refused = done(
            seed,
            &[
                change(NARROW, Change::Resume),
                map(NET, 0),
                attach(NARROW, Use::Domain(NET)),
                write(NARROW),
                change(NARROW, Change::Suspend),
                change(NARROW, Change::Suspend),
                change(NARROW, Change::Reset),
                write(NARROW),
                change(NARROW, Change::Reset),
                write(NARROW),
            ],
        );
        assert_eq!(refused, [0; 10], "seed {seed}");
    }
}

/// The unmap at every moment of the call.
fn holds(before: &[Operation], call: &Operation) {
    let scenario = &scenario();
    for seed in 0..3 {
        let (settings, unmap) = (Settings::default(), &unmap(NET));
        let verdicts = EveryStep { scenario, settings, before, call, unmap, seed }.verdicts();
        for (moment, verdict) in verdicts.iter().enumerate() {
            assert_eq!(*verdict, None, "seed {seed}, moment {moment}");
        }
        assert!(verdicts.len() >= 20, "{} moments", verdicts.len());
    }
}

#[test]
fn an_unmap_at_any_moment_of_a_suspend_or_resume_misses_nothing() {
    let attached = [map(NET, 0), attach(NARROW, Use::Domain(NET)), write(NARROW)];
    holds(&attached, &change(NARROW, Change::Suspend));
    let asleep = [&attached[..], &[change(NARROW, Change::Suspend)]].concat();
    holds(&asleep, &change(NARROW, Change::Resume));
    let both = [&attached[..], &[attach(WIDE, Use::Domain(NET)), write(WIDE)]].concat();
    holds(&both, &change(WIDE, Change::Suspend));
}

/// Without the oracle: threads that unmap while others suspend and resume, and an SMMU that answers nobody while it has
/// no power.
#[test]
fn an_smmu_sleeps_while_others_unmap() {
    const WORKERS: u64 = 3;
    const NAPS: u64 = 400;
    /// Accesses that get through, at least.
    const REACHED: u64 = NAPS / 8;
    let text = r#"
name = "naps"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
domain = [{ name = "domain" }]
"#;
    let machine = Arc::new(ModelMachine::new(&parse(text), 5).unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.command_queue_log2 = 3;
    config.event_queue_log2 = 3;
    config.sid_bits = 4;
    let smmu = common::enable(&iommu, &world, 0, config);
    let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&master, &domain).unwrap();
    let memory = world.frames().allocate(WORKERS * PAGE, PAGE).unwrap();
    let (done, reached) = (AtomicBool::new(false), AtomicU64::new(0));
    let work = |worker: u64| {
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        let (iova, pa) = (0x1000_0000 + worker * PAGE, memory + worker * PAGE);
        while !done.load(Ordering::Relaxed) {
            // SAFETY: the page is this thread's own, and the memory lives as long as the test.
            unsafe { domain.map(Iova(iova), PhysAddr(pa), PAGE, attributes).unwrap() };
            let outcome = machine.dma(0, None, iova, Dma::Write(&[1; 8])).unwrap()[0].outcome;
            reached.fetch_add(u64::from(outcome == Outcome::Reached(pa)), Ordering::Relaxed);
            // SAFETY: as above.
            assert_eq!(unsafe { domain.unmap(Iova(iova), PAGE) }, Ok(PAGE));
            let outcome = machine.dma(0, None, iova, Dma::Write(&[1; 8])).unwrap()[0].outcome;
            assert_eq!(outcome, Outcome::Refused, "R1");
        }
    };
    std::thread::scope(|threads| {
        let work = &work;
        let workers: Vec<_> =
            (0..WORKERS).map(|worker| threads.spawn(move || work(worker))).collect();
        let events = threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = iommu.handle_interrupt(&smmu, Interrupt::Any, 3, &mut |_| {});
                machine.act();
                std::thread::yield_now();
            }
        });
        let (mut result, mut naps) = (Ok(()), 0);
        // More of them where threads had no turn while it was awake.
        while naps < NAPS || reached.load(Ordering::Relaxed) <= REACHED && naps < 100 * NAPS {
            naps += 1;
            if let Err(error) = iommu.suspend(&smmu, &mut |_| ()) {
                result = Err(format!("{error}"));
                break;
            }
            machine.model(0).unwrap().power_off();
            std::thread::yield_now();
            machine.model(0).unwrap().power_on(true);
            if let Err(error) = iommu.resume(&smmu) {
                result = Err(format!("{error}"));
                break;
            }
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        let results: Vec<_> = workers.into_iter().chain([events]).map(|one| one.join()).collect();
        assert_eq!(result, Ok(()));
        for result in results {
            result.unwrap();
        }
    });
    assert!(reached.into_inner() > REACHED);
    let mut seen = machine.model(0).unwrap().observations();
    seen.retain(|seen| matches!(seen, Observation::Misuse(_) | Observation::TagConflict { .. }));
    assert_eq!(seen, []);
    iommu.quarantined(&mut |item| panic!("{item:?} is kept"));
}

#[test]
fn what_cannot_sleep_is_an_error() {
    let text = r#"
name = "error"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
domain = [{ name = "domain" }]
"#;
    let machine = Arc::new(ModelMachine::new(&parse(text), 5).unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.deadline = Duration::from_micros(200);
    config.device_deadline = config.deadline;
    config.sid_bits = 4;
    let smmu = common::enable(&iommu, &world, 0, config);
    assert!(!iommu.is_suspended(&smmu));
    machine.model(0).unwrap().set_stuck(true);
    assert!(matches!(iommu.suspend(&smmu, &mut |_| ()), Err(SuspendError::Hardware(_))));
    assert!(!iommu.is_suspended(&smmu));
    machine.model(0).unwrap().set_stuck(false);
    // Only GBPA was not confirmed: it works as before.
    iommu.suspend(&smmu, &mut |_| ()).unwrap();
    assert!(iommu.is_suspended(&smmu));
    // One that did not come up is no more awake the second time, and can be tried again.
    machine.model(0).unwrap().set_stuck(true);
    for _ in 0..2 {
        assert!(matches!(iommu.resume(&smmu), Err(EnableError::Handshake { .. })));
        assert!(
            !iommu.handle_interrupt(&smmu, Interrupt::Any, 3, &mut |report| panic!("{report:?}"))
        );
    }
    machine.model(0).unwrap().set_stuck(false);
    iommu.resume(&smmu).unwrap();
    // One that works is left alone.
    iommu.resume(&smmu).unwrap();
    iommu.suspend(&smmu, &mut |_| ()).unwrap();
    machine.model(0).unwrap().power_off();
    // Without power: nothing is accessed.
    assert!(!iommu.handle_interrupt(&smmu, Interrupt::Any, 3, &mut |_| ()));
    let gone = smmu.clone();
    iommu.remove(smmu).unwrap();
    assert_eq!(iommu.suspend(&gone, &mut |_| ()), Err(SuspendError::Removed));
    let seen = machine.model(0).unwrap().observations();
    let misuse = seen.iter().find(|seen| matches!(seen, Observation::Misuse(_)));
    assert_eq!(misuse, None);
}

/// Of two CPUs that resume, one comes late: what was not confirmed since then stays kept.
#[test]
fn a_resume_that_comes_late_lets_go_of_nothing() {
    let text = r#"
name = "late"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
domain = [{ name = "domain" }]
"#;
    let machine = Arc::new(ModelMachine::new(&parse(text), 5).unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    let smmu = common::enable(&iommu, &world, 0, config);
    let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&master, &domain).unwrap();
    let pa = PhysAddr(world.frames().allocate(PAGE, PAGE).unwrap());
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the memory is used by nobody, and lives as long as the test.
    unsafe { domain.map(Iova(IOVA), pa, PAGE, attributes) }.unwrap();
    iommu.suspend(&smmu, &mut |_| ()).unwrap();
    iommu.resume(&smmu).unwrap();
    let kept = || {
        let mut kept = Vec::new();
        iommu.quarantined(&mut |item| kept.push(item));
        kept
    };
    // It works on, without the TLBI.
    machine.model(0).unwrap().fail_next_command(1);
    // SAFETY: no other call works on the page.
    assert!(unsafe { domain.unmap(Iova(IOVA), PAGE) }.is_err());
    let range = kept();
    assert!(!range.is_empty());
    iommu.resume(&smmu).unwrap();
    assert_eq!(kept(), range);
    // One that has failed is not resumed, however often.
    machine.model(0).unwrap().wedge_after(Some(0));
    assert!(domain.invalidate_all().is_err());
    machine.model(0).unwrap().wedge_after(None);
    let all = kept();
    assert!(!all.is_empty());
    for _ in 0..2 {
        assert_eq!(iommu.resume(&smmu), Err(EnableError::Commands(Failure::Failed)));
        assert_eq!(kept(), all);
    }
    iommu.reset(&smmu).unwrap();
    assert_eq!(kept(), []);
}

/// The scenarios of the program that show it, on some seeds.
#[test]
fn scenarios_of_power_and_removal_hold_all_rules() {
    for text in [
        include_str!("../../../scenarios/power.toml"),
        include_str!("../../../scenarios/removal.toml"),
    ] {
        let scenario = parse(text);
        for seed in 0..8 {
            let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
            let report = run(&scenario, &options, &mut |_| ()).unwrap();
            assert_eq!(report.verdict, "ok", "{} {seed}: {:#?}", scenario.name, report.failure);
            let again = Scenario::parse(&scenario.to_toml(), "written").unwrap();
            assert_eq!(again.steps.len(), scenario.steps.len());
        }
    }
}

/// On QEMU an SMMU that is suspended keeps its power, and aborts (GBPA), until all are: then the machine is reset before one
/// wakes. Where all but one let pass what comes while they are off, that holds behind those.
#[test]
fn scenarios_of_power_and_removal_hold_all_rules_on_qemu() {
    let Some(path) = common::qemu_or_skip() else { return };
    for text in [
        include_str!("../../../scenarios/power.toml"),
        include_str!("../../../scenarios/removal.toml"),
    ] {
        let scenario = parse(text);
        for seed in 0..4 {
            common::agree(path.clone(), &scenario, seed);
        }
        let mut scenario = scenario;
        scenario.steps.drain(..scenario.steps.len() - 1);
        for instance in scenario.instances.iter_mut().skip(1) {
            instance.quirks.while_off = Some(smmuv3::Overrides::NONE);
        }
        for seed in 4..6 {
            common::agree(path.clone(), &scenario, seed);
        }
    }
}
