// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that never answers: its stream is put in quarantine, and all else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use smmuv3::{
    AttachError, Attributes, Config, DomainConfig, InstanceConfig, Interrupt, Iommu, Iova, Master,
    MasterConfig, PhysAddr, Platform as _, Prot, Report, StreamId, Trace,
};
use smmuv3_model::Answers;
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

use super::pair::{DISK, IOVA, MACHINE, NIC, PAGE, Pair, answer, reads};
use super::parse;

/// The bus gives a device more time than an SMMU has that does nothing for no reason.
#[test]
fn the_smmu_is_not_given_up_while_it_waits_for_one() {
    for (patience, failed) in [(40_000, false), (u64::MAX, true)] {
        let world = World::new(Arc::new(ModelMachine::new(&parse(MACHINE), 1).unwrap()), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mut config = InstanceConfig::named("smmu");
        (config.deadline, config.device_deadline) =
            (Duration::from_micros(1), Duration::from_secs(1));
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
        let ats = smmuv3_testbench::keeping::trusted();
        let nic = iommu.add_master(&smmu, &[StreamId(5)], ats).unwrap();
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let memory = world.frames().allocate(PAGE, PAGE).unwrap();
        let prot = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is the test's; nothing else works on the range.
        unsafe { domain.map(Iova(IOVA), PhysAddr(memory), PAGE, prot).unwrap() };
        iommu.attach(&nic, &domain).unwrap();
        assert!(reads(&world, NIC, IOVA));
        answer(&world, 5, Answers::Never);
        world.machine().model(0).unwrap().wait_for_devices(patience);
        let begun = iommu.platform().now();
        // SAFETY: as above.
        let unmapped = unsafe { domain.unmap(Iova(IOVA), PAGE) };
        let took = iommu.platform().now() - begun;
        assert!(took > 1_000, "{took}");
        assert_eq!(unmapped.is_err(), failed, "{unmapped:?}");
        assert_eq!(smmu.has_failed(), failed);
        assert_eq!(nic.is_quarantined(), !failed);
        assert_eq!(took > 1_000_000_000, failed, "{took}");
    }
}

/// Nor while it waits for one after the other, whoever of several callers has asked them.
#[test]
fn the_smmu_is_not_given_up_while_it_waits_for_many() {
    let text = r#"
name = "silent"
instance = [{ name = "smmu", ats = true }]
master = [
    { name = "a", instance = "smmu", streams = [5], ats = true },
    { name = "b", instance = "smmu", streams = [6], ats = true },
    { name = "c", instance = "smmu", streams = [7], ats = true },
    { name = "d", instance = "smmu", streams = [8], ats = true },
]
"#;
    let world = World::new(Arc::new(ModelMachine::new(&parse(text), 1).unwrap()), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    (config.deadline, config.device_deadline) =
        (Duration::from_micros(1), Duration::from_micros(100));
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    let memory = world.frames().allocate(PAGE, PAGE).unwrap();
    let prot = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the memory is the test's; nothing else works on the range.
    unsafe { domain.map(Iova(IOVA), PhysAddr(memory), PAGE, prot).unwrap() };
    let streams = 5..9;
    let masters: Vec<_> = streams
        .clone()
        .map(|stream| {
            let ats = smmuv3_testbench::keeping::trusted();
            let master = iommu.add_master(&smmu, &[StreamId(stream)], ats).unwrap();
            iommu.attach(&master, &domain).unwrap();
            master
        })
        .collect();
    for (device, stream) in streams.enumerate() {
        assert!(reads(&world, device, IOVA));
        answer(&world, stream, Answers::Never);
    }
    // Of each of them more than half of what one may take.
    world.machine().model(0).unwrap().wait_for_devices(70);
    let begun = iommu.platform().now();
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(IOVA), PAGE).unwrap() };
    let took = iommu.platform().now() - begun;
    assert!(took > 200_000, "{took}");
    assert!(!smmu.has_failed());
    assert!(masters.iter().all(Master::is_quarantined));
}

#[test]
fn it_reaches_nothing_any_more_and_the_others_go_on() {
    for seed in 0..4 {
        for queue in [1, 2, 6] {
            run(seed, queue);
        }
    }
}

fn run(seed: u64, command_queue_log2: u32) {
    let machine = ModelMachine::new(&parse(MACHINE), seed).unwrap();
    let world = World::new(Arc::new(machine), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.command_queue_log2 = command_queue_log2;
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
    let add = |stream| {
        let config = smmuv3_testbench::keeping::trusted();
        iommu.add_master(&smmu, &[StreamId(stream)], config).unwrap()
    };
    let (nic, disk): (Master<_>, Master<_>) = (add(5), add(6));
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    let memory = world.frames().allocate(16 * PAGE, 16 * PAGE).unwrap();
    let prot = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the memory is the test's; nothing else works on the range.
    unsafe { domain.map(Iova(IOVA), PhysAddr(memory), 16 * PAGE, prot).unwrap() };
    for master in [&nic, &disk] {
        iommu.attach(master, &domain).unwrap();
    }
    for page in 0..4 {
        assert!(reads(&world, NIC, IOVA + page * PAGE));
        assert!(reads(&world, DISK, IOVA + page * PAGE));
    }
    // One batch has two CMD_SYNCs: devices are told once the TLB has forgotten.
    let before = smmu.statistics().commands;
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(IOVA + 15 * PAGE), PAGE).unwrap() };
    let after = smmu.statistics().commands;
    let batches = after.batches - before.batches;
    assert_eq!(after.syncs - before.syncs, if batches == 1 { 2 } else { batches });
    answer(&world, 5, Answers::Never);
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(IOVA), PAGE).unwrap() };
    assert!(nic.is_quarantined() && !disk.is_quarantined());
    // What it still keeps is of no use, neither what is gone nor what is not.
    for page in 0..4 {
        assert!(!reads(&world, NIC, IOVA + page * PAGE), "{page}");
        assert_eq!(reads(&world, DISK, IOVA + page * PAGE), page != 0, "{page}");
    }
    // Whichever interrupt comes first tells of it.
    let told = || {
        let mut told = Vec::new();
        for _ in 0..2 {
            let _ = iommu
                .handle_interrupt(&smmu, Interrupt::Events, 8, &mut |report| told.push(report));
        }
        told
    };
    assert_eq!(told(), [Report::Quarantined { stream: StreamId(5) }]);
    let mut codes = Vec::new();
    let mut sink = |report| match report {
        Report::CommandError { code, .. } => codes.push(code),
        other => panic!("{other:?}"),
    };
    let _ = iommu.handle_interrupt(&smmu, Interrupt::Error, 8, &mut sink);
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == 3), "{codes:?}");
    // Later unmaps do not wait for it.
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(IOVA + PAGE), PAGE).unwrap() };
    let mut more = 0;
    let _ = iommu.handle_interrupt(&smmu, Interrupt::Error, 8, &mut |_| more += 1);
    assert_eq!(more, 0);
    let other = iommu.create_domain(DomainConfig::default()).unwrap();
    let refused = iommu.attach(&nic, &other).unwrap_err();
    assert!(matches!(
        refused,
        AttachError::Quarantined { stream: StreamId(5), changed: false, .. }
    ));
    // It was reset, and is what it was.
    answer(&world, 5, Answers::InTime);
    iommu.readmit(&nic).unwrap();
    assert!(!nic.is_quarantined());
    for page in 0..4 {
        assert_eq!(reads(&world, NIC, IOVA + page * PAGE), page > 1, "{page}");
    }
    assert_eq!(told(), []);
    // Once more.
    answer(&world, 5, Answers::Never);
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(IOVA + 2 * PAGE), PAGE).unwrap() };
    answer(&world, 5, Answers::InTime);
    iommu.readmit(&nic).unwrap();
    // One that does not answer can be detached.
    answer(&world, 6, Answers::Never);
    iommu.detach(&disk).unwrap();
    // Both, though the first works again.
    let [nic_was, disk_is] = [5, 6].map(|it| Report::Quarantined { stream: StreamId(it) });
    assert_eq!(told(), [nic_was, disk_is]);
    assert!(!reads(&world, DISK, IOVA + 3 * PAGE));
    iommu.detach(&nic).unwrap();
    assert!(!reads(&world, NIC, IOVA + 3 * PAGE));
    // Whoever has its stream next finds out, also without ATS.
    disk.close().unwrap();
    let disk = iommu.add_master(&smmu, &[StreamId(6)], MasterConfig::default()).unwrap();
    let refused = iommu.attach(&disk, &domain).unwrap_err();
    assert!(matches!(
        refused,
        AttachError::Quarantined { stream: StreamId(6), changed: false, .. }
    ));
    iommu.readmit(&disk).unwrap();
    iommu.attach(&disk, &domain).unwrap();
    assert!(reads(&world, DISK, IOVA + 3 * PAGE));
}

/// However many fall silent at once: one look tells of as many as its budget allows, and says that there are more.
#[test]
fn no_look_tells_of_more_than_its_budget() {
    for which in [Interrupt::Events, Interrupt::Error, Interrupt::Any] {
        let pair = Pair::new(3);
        answer(&pair.world, 5, Answers::Never);
        answer(&pair.world, 6, Answers::Never);
        pair.unmap(0);
        assert!(pair.masters.iter().all(Master::is_quarantined));
        let look = |budget| {
            let mut told = Vec::new();
            let mut sink = |report| match report {
                Report::Quarantined { stream } => told.push(stream.0),
                Report::CommandError { .. } => {}
                other => panic!("{other:?}"),
            };
            let more = pair.iommu.handle_interrupt(&pair.smmu, which, budget, &mut sink);
            (told, more)
        };
        assert_eq!(look(0), (vec![], true), "{which:?}");
        let ((first, more), (second, none)) = (look(1), look(1));
        assert!(more && !none, "{which:?}");
        let mut both = [first, second].concat();
        both.sort_unstable();
        assert_eq!(both, [5, 6], "{which:?}");
        assert_eq!(look(8), (vec![], false), "{which:?}");
    }
}

/// An answer that comes after its time is nobody's: neither what it answers nor what was said since is taken for done.
#[test]
fn an_answer_that_comes_too_late_answers_nothing() {
    for seed in 0..8 {
        let pair = Pair::new(seed);
        answer(&pair.world, 5, Answers::TooLate);
        pair.unmap(0);
        assert!(pair.masters[NIC].is_quarantined(), "seed {seed}");
        let answers_too_late =
            |pair: &Pair| pair.world.machine().model(0).unwrap().answer_too_late();
        while answers_too_late(&pair) {}
        // It is blocked until it is readmitted all the same.
        for page in 0..4 {
            assert!(!reads(&pair.world, NIC, IOVA + page * PAGE), "seed {seed}");
            assert_eq!(reads(&pair.world, DISK, IOVA + page * PAGE), page != 0, "seed {seed}");
        }
        pair.unmap(1);
        // Nor does it do any harm then.
        answer(&pair.world, 5, Answers::InTime);
        pair.iommu.readmit(&pair.masters[NIC]).unwrap();
        assert!(!answers_too_late(&pair), "nothing is left of it");
        for page in 0..4 {
            assert_eq!(reads(&pair.world, NIC, IOVA + page * PAGE), page > 1, "seed {seed}");
        }
        pair.unmap(2);
        assert!(!pair.masters[NIC].is_quarantined(), "seed {seed}");
        assert!(!reads(&pair.world, NIC, IOVA + 2 * PAGE), "seed {seed}");
    }
}

/// Whatever the SMMU does not confirm of a readmission, or refuses: the device stays cut off, which is told, and the call
/// can be repeated.
#[test]
fn a_readmission_that_fails_leaves_it_in_quarantine_and_can_be_repeated() {
    let mut failed = [0, 0];
    for (refuses, count) in [false, true].into_iter().zip(&mut failed) {
        for commands in 0.. {
            let mut config = InstanceConfig::named("smmu");
            config.deadline = Duration::from_micros(200);
            config.device_deadline = config.deadline;
            let pair = Pair::within(1, config);
            let (nic, model) = (&pair.masters[NIC], || pair.world.machine().model(0).unwrap());
            pair.unmap(0);
            answer(&pair.world, 5, Answers::InTime);
            if refuses {
                let (world, left) = (pair.world.clone(), AtomicU64::new(commands));
                pair.world.set_hook(Some(Arc::new(move |trace: &Trace<'_>| {
                    if let Trace::Submitted { .. } = trace
                        && left.fetch_sub(1, Ordering::Relaxed) == 0
                    {
                        world.machine().model(0).unwrap().fail_next_command(1);
                    }
                })));
            } else {
                model().wedge_after(Some(commands));
            }
            let result = pair.iommu.readmit(nic);
            model().wedge_after(None);
            pair.world.set_hook(None);
            if result.is_ok() {
                break;
            }
            *count += 1;
            let what = format!("{refuses}, after {commands}: {result:?}");
            assert!(nic.is_quarantined(), "{what}");
            if !refuses {
                pair.iommu.reset(&pair.smmu).unwrap();
            }
            assert!(nic.is_quarantined(), "{what}");
            assert!(!reads(&pair.world, NIC, IOVA + PAGE), "{what}");
            assert!(reads(&pair.world, DISK, IOVA + PAGE), "{what}");
            pair.iommu.readmit(nic).unwrap();
            assert!(!nic.is_quarantined(), "{what}");
            for page in 0..4 {
                assert_eq!(reads(&pair.world, NIC, IOVA + page * PAGE), page > 0, "{what}");
            }
        }
    }
    assert!(failed.iter().all(|count| *count >= 3), "{failed:?}");
}

/// While an unmap that needs two commands a device waits for the first of them, the device leaves: the next one is told both.
/// Queues that have no room for both at once.
#[test]
fn a_device_that_leaves_takes_nothing_with_it_that_the_next_one_is_to_be_told() {
    // Two pages that no span holds alone.
    const FIRST: u64 = 7;
    let mut left_while_waiting = 0;
    for log2 in [1, 2] {
        for wait in 0.. {
            let mut config = InstanceConfig::named("smmu");
            config.command_queue_log2 = log2;
            let pair = Pair::within(1, config);
            answer(&pair.world, 5, Answers::InTime);
            for page in [FIRST, FIRST + 1] {
                assert!(reads(&pair.world, NIC, IOVA + page * PAGE));
                assert!(reads(&pair.world, DISK, IOVA + page * PAGE));
            }
            let (hooked, waits, left) =
                (pair.clone(), AtomicU64::new(wait), AtomicBool::new(false));
            let left = Arc::new(left);
            let leaves = left.clone();
            pair.world.set_hook(Some(Arc::new(move |trace: &Trace<'_>| {
                if matches!(trace, Trace::Completed { .. })
                    && !leaves.load(Ordering::Relaxed)
                    && waits.fetch_sub(1, Ordering::Relaxed) == 0
                {
                    leaves.store(true, Ordering::Relaxed);
                    hooked.iommu.detach(&hooked.masters[NIC]).unwrap();
                }
            })));
            // SAFETY: nothing else works on the pages.
            let gone = unsafe { pair.domain.unmap(Iova(IOVA + FIRST * PAGE), 2 * PAGE) };
            pair.world.set_hook(None);
            assert_eq!(gone, Ok(2 * PAGE));
            for page in [FIRST, FIRST + 1] {
                let kept = reads(&pair.world, DISK, IOVA + page * PAGE);
                assert!(!kept, "queue of 2^{log2}, wait {wait}, page {page}");
            }
            if !left.load(Ordering::Relaxed) {
                break;
            }
            left_while_waiting += 1;
        }
    }
    assert!(left_while_waiting >= 6, "{left_while_waiting}");
}

/// A change was refused that left a context valid, whose tag is the next reset's to give away: until then the master stays
/// blocked, with all that it does.
#[test]
fn whoever_is_readmitted_before_a_reset_has_let_go_of_it_stays_blocked() {
    let text = MACHINE.replace("ats = true }]\nmaster", "ats = true, ssid-bits = 4 }]\nmaster");
    let world = World::new(Arc::new(ModelMachine::new(&parse(&text), 1).unwrap()), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let smmu = iommu.probe(mmio, InstanceConfig::named("smmu")).unwrap().enable().unwrap();
    let config = smmuv3_testbench::keeping::trusted().with_pasid_bits(4);
    let nic = iommu.add_master(&smmu, &[StreamId(5)], config).unwrap();
    let memory = world.frames().allocate(2 * PAGE, PAGE).unwrap();
    let prot = Attributes::normal(Prot::READ | Prot::WRITE);
    let [domain, other] = [0, 1].map(|page| {
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let memory = PhysAddr(memory + page * PAGE);
        // SAFETY: the memory is the test's; nothing else works on the range.
        unsafe { domain.map(Iova(IOVA), memory, PAGE, prot).unwrap() };
        domain
    });
    let pasid = iommu.allocate_pasid().unwrap();
    iommu.attach(&nic, &domain).unwrap();
    iommu.attach_pasid(&nic, pasid, &other).unwrap();
    let reads = |substream: Option<u32>| {
        let mut buffer = [0; 8];
        let read = Dma::Read(&mut buffer);
        let parts = world.machine().dma(NIC, substream, IOVA, read).unwrap();
        matches!(parts[0].outcome, Outcome::Reached(_))
    };
    // Accesses with PASID 0 would go by the first context, if the entry did not say that it is for those without.
    let all = || [None, Some(0), Some(pasid.0)].map(reads);
    assert_eq!(all(), [true, false, true]);
    answer(&world, 5, Answers::Never);
    // SAFETY: as above.
    unsafe { other.unmap(Iova(IOVA), PAGE).unwrap() };
    assert!(nic.is_quarantined());
    answer(&world, 5, Answers::InTime);
    world.machine().model(0).unwrap().fail_next_command(1);
    assert!(iommu.detach(&nic).is_err());
    iommu.readmit(&nic).unwrap();
    assert!(!nic.is_quarantined());
    assert_eq!(all(), [false; 3], "what the first context leads to is to be given away");
    // SAFETY: as above.
    unsafe { other.map(Iova(IOVA), PhysAddr(memory), PAGE, prot).unwrap() };
    iommu.reset(&smmu).unwrap();
    assert_eq!(all(), [false, false, true]);
}
