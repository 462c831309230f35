// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that keep translations of their own, with the whole driver: the scenario, random operations, and steps left
//! out.

use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::Scenario;

fn parse(text: &str) -> Scenario {
    Scenario::parse(text, "devices").unwrap_or_else(|errors| panic!("{errors}"))
}

fn verdict(scenario: &Scenario, options: Options) -> (String, String) {
    let report = run(scenario, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"));
    (report.verdict.clone(), format!("{:#?}", report.failure))
}

/// Devices with and without ATS, with substreams and processes, behind instances of every kind.
pub const RANDOM: &str = r#"
name = "random-devices"
pasids = 12
instance = [
    { name = "narrow", asid-bits = 8, ssid-bits = 8, ats = true },
    { name = "wide", ssid-bits = 12, two-level-contexts = true, btm = true, ats = true, command-queue = 2 },
    { name = "other", range-invalidation = false, ats = true },
]
master = [
    { name = "nic", instance = "narrow", streams = [0x900, 0x901], pasid-bits = 6, ats = true },
    { name = "gpu", instance = "wide", streams = [0x1100, 0x1108, 0x1110], pasid-bits = 8, ats = true },
    { name = "npu", instance = "wide", streams = [0x1200], pasid-bits = 7 },
    { name = "disk", instance = "other", streams = [0xa00], ats = true },
]
domain = [{ name = "first" }, { name = "second" }, { name = "third" }]
process = [{ name = "shell", asid = 0xffff }, { name = "editor" }]
[[step]]
random = { steps = 1500 }
"#;

#[test]
fn the_story_of_ats_is_true_on_every_seed() {
    let scenario = parse(include_str!("../../../scenarios/ats.toml"));
    for seed in 0..8 {
        let options = Options { machine: Choice::Model, seed: Some(seed), ..Options::default() };
        let (verdict, failure) = verdict(&scenario, options);
        assert_eq!(verdict, "ok", "seed {seed}: {failure}");
    }
}

#[test]
fn a_process_can_be_unbound_from_a_device_that_falls_silent_while_it_is_bound() {
    let scenario = parse(
        r#"
name = "silent-bind"
instance = [{ name = "smmu", ats = true, ssid-bits = 13 }]
master = [{ name = "gpu", instance = "smmu", streams = [5], pasid-bits = 8, ats = true }]
process = [{ name = "shell" }]
step = [
    { mute = { master = "gpu", late = true } },
    { bind = { process = "shell", master = "gpu", refused = "maybe" } },
    { bind = { process = "shell", master = "gpu", refused = "maybe" } },
    { replace = { process = "shell" } },
]
"#,
    );
    let (verdict, failure) = verdict(&scenario, Options::default());
    assert_eq!(verdict, "ok", "{failure}");
}

/// The entry of a stream that is cut off is changed, too: an SMMU that has to be told everything twice is told so of that, by
/// the host and in a guest's name.
#[test]
fn an_smmu_that_is_told_twice_is_told_twice_of_a_device_that_is_cut_off() {
    let scenario = parse(
        r#"
name = "cut-off-twice"
instance = [{ name = "smmu", ats = true, repeated-invalidation = true }]
domain = [{ name = "space" }, { name = "memory", stage = 2 }, { name = "driver", over = "memory" }]
memory = [{ name = "ram", size = "64K" }]
master = [
    { name = "nic", instance = "smmu", streams = [5, 6, 7], ats = true },
    { name = "disk", instance = "smmu", streams = [8] },
]
step = [
    { map = { domain = "space", iova = 0x40000000, memory = "ram" } },
    { map = { domain = "memory", iova = 0x40000000, memory = "ram" } },
    { map = { domain = "driver", iova = 0x40000000, memory = "ram" } },
    { attach = { master = "nic", domain = "space" } },
    { read = { master = "nic", iova = 0x40000000, length = 8 } },
    { mute = { master = "nic" } },
    { unmap = { domain = "space", iova = 0x40000000, length = "4K" } },
    { attach = { master = "disk", domain = "space" } },
    { readmit = { master = "nic" } },
    { attach = { master = "nic", domain = "driver" } },
    { read = { master = "nic", iova = 0x40000000, length = 8 } },
    { mute = { master = "nic", late = true } },
    { unmap = { domain = "driver", iova = 0x40000000, length = "4K" } },
    { attach = { master = "disk", domain = "memory" } },
]
"#,
    );
    for seed in 0..64 {
        let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
        let (verdict, failure) = verdict(&scenario, options);
        assert_eq!(verdict, "ok", "seed {seed}: {failure}");
    }
}

#[test]
fn random_operations_hold_all_rules_with_devices_that_keep_translations() {
    let scenario = parse(RANDOM);
    for seed in 0..20 {
        let options = Options { seed: Some(seed), ..Options::default() };
        let (verdict, failure) = verdict(&scenario, options);
        assert_eq!(verdict, "ok", "seed {seed}: {failure}");
    }
}

mod silent {
    //! A device that never answers: its stream is put in quarantine, and all else goes on.

    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use smmuv3::{
        AttachError, Attributes, Config, Domain, DomainConfig, InstanceConfig, Interrupt, Iommu,
        Iova, Master, MasterConfig, PhysAddr, Platform as _, Prot, Report, Smmu, StreamId, Trace,
    };
    use smmuv3_formats::{Command, Opcode};
    use smmuv3_model::{Answers, Observation};
    use smmuv3_testbench::machine::{Dma, Outcome};
    use smmuv3_testbench::machine_model::ModelMachine;
    use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};

    use super::parse;

    const MACHINE: &str = r#"
name = "silent"
instance = [{ name = "smmu", ats = true }]
master = [
    { name = "nic", instance = "smmu", streams = [5], ats = true },
    { name = "disk", instance = "smmu", streams = [6], ats = true },
]
"#;
    const NIC: usize = 0;
    const DISK: usize = 1;
    const IOVA: u64 = 0x10_0000;
    const PAGE: u64 = 0x1000;

    /// Whether a device can read there.
    fn reads(world: &World, master: usize, iova: u64) -> bool {
        let mut buffer = [0; 8];
        let parts = world.machine().dma(master, None, iova, Dma::Read(&mut buffer)).unwrap();
        matches!(parts[0].outcome, Outcome::Reached(_))
    }

    fn answer(world: &World, stream: u32, answers: Answers) {
        let mut model = world.machine().model(0).unwrap();
        model.endpoint_mut(stream).unwrap().answers = answers;
    }

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

    /// Two devices of one domain, both of which keep where its first pages lead; the first never answers.
    struct Pair {
        world: Arc<World>,
        iommu: Iommu<TestPlatform>,
        domain: Domain<TestPlatform>,
        masters: [Master<TestPlatform>; 2],
        smmu: Smmu<TestPlatform>,
    }

    impl Pair {
        fn new(seed: u64) -> Arc<Self> {
            Self::within(seed, InstanceConfig::named("smmu"))
        }

        fn within(seed: u64, config: InstanceConfig) -> Arc<Self> {
            let machine = ModelMachine::new(&parse(MACHINE), seed).unwrap();
            let world = World::new(Arc::new(machine), 1);
            let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
            let mmio = TestMmio { world: world.clone(), instance: 0 };
            let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
            let masters = [5, 6].map(|stream| {
                let config = smmuv3_testbench::keeping::trusted();
                iommu.add_master(&smmu, &[StreamId(stream)], config).unwrap()
            });
            let domain = iommu.create_domain(DomainConfig::default()).unwrap();
            let memory = world.frames().allocate(16 * PAGE, 16 * PAGE).unwrap();
            let prot = Attributes::normal(Prot::READ | Prot::WRITE);
            // SAFETY: the memory is the test's; nothing else works on the range.
            unsafe { domain.map(Iova(IOVA), PhysAddr(memory), 16 * PAGE, prot).unwrap() };
            for master in &masters {
                iommu.attach(master, &domain).unwrap();
            }
            for page in 0..4 {
                assert!(reads(&world, NIC, IOVA + page * PAGE));
                assert!(reads(&world, DISK, IOVA + page * PAGE));
            }
            answer(&world, 5, Answers::Never);
            Arc::new(Self { world, iommu, domain, masters, smmu })
        }

        fn unmap(&self, page: u64) {
            // SAFETY: nothing else works on the page.
            let unmapped = unsafe { self.domain.unmap(Iova(IOVA + page * PAGE), PAGE) };
            assert_eq!(unmapped, Ok(PAGE));
        }

        /// Lets `call` come once, when the driver tells that it does `what`.
        fn once_when(self: &Arc<Self>, what: fn(&Trace<'_>) -> bool, call: fn(&Arc<Self>)) {
            let (pair, over) = (self.clone(), AtomicBool::new(false));
            let hook = move |trace: &Trace<'_>| {
                if what(trace) && !over.swap(true, Ordering::Relaxed) {
                    call(&pair);
                }
            };
            self.world.set_hook(Some(Arc::new(hook)));
        }
    }

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
}

mod ghost {
    //! A master whose move to another bank was not confirmed, and whose device keeps translations.

    use std::sync::Arc;

    use smmuv3::{
        AsidPolicy, AttachError, Config, DomainConfig, InstanceConfig, Iommu, MasterConfig,
        PhysAddr, ProcessConfig, StreamId,
    };
    use smmuv3_formats::Opcode;
    use smmuv3_formats::command::AtcInv;
    use smmuv3_model::Observation;
    use smmuv3_testbench::keeping::trusted;
    use smmuv3_testbench::machine_model::ModelMachine;
    use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

    use super::parse;

    const MACHINE: &str = r#"
name = "ghost"
instance = [{ name = "smmu", ats = true, ssid-bits = 7 }]
master = [
    { name = "gpu", instance = "smmu", streams = [5], ats = true },
    { name = "filler", instance = "smmu", streams = [6] },
]
"#;
    const PAGE: u64 = 0x1000;

    /// What stays in its former place is nobody's: no device has ever heard of its number.
    #[test]
    fn the_release_of_a_process_tells_no_device_of_a_ghost() {
        let world = World::new(Arc::new(ModelMachine::new(&parse(MACHINE), 1).unwrap()), 1);
        let mut config = Config::default();
        config.asid_policy = AsidPolicy::Banked;
        let iommu = Iommu::new(TestPlatform(world.clone()), config).unwrap();
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let config = InstanceConfig::named("smmu").with_asid_bits(6);
        let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
        let gpu = iommu.add_master(&smmu, &[StreamId(5)], trusted().with_pasid_bits(7)).unwrap();
        let config = MasterConfig::default().with_pasid_bits(7);
        let filler = iommu.add_master(&smmu, &[StreamId(6)], config).unwrap();
        let tables = world.frames().allocate(PAGE, PAGE).unwrap();
        // T0SZ 16, write-back, inner shareable, 44 bits out (§6).
        let tcr = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 32;
        // SAFETY: the tables stay, and are empty.
        let process =
            unsafe { iommu.add_process(ProcessConfig::new(PhysAddr(tables), tcr, 0xff), 0) };
        let process = process.unwrap();
        let bond = process.bind(&gpu).unwrap();
        // The other 62 numbers of the first bank.
        let domains: Vec<_> = (0..62)
            .map(|_| {
                let domain = iommu.create_domain(DomainConfig::default()).unwrap();
                let pasid = iommu.allocate_pasid().unwrap();
                iommu.attach_pasid(&filler, pasid, &domain).unwrap();
                domain
            })
            .collect();
        let another = iommu.create_domain(DomainConfig::default()).unwrap();
        world.machine().model(0).unwrap().fail_next_command(1);
        let refused = iommu.attach(&gpu, &another).unwrap_err();
        assert!(matches!(refused, AttachError::MakingRoom(_)), "{refused:?}");
        assert_eq!(process.targets().unwrap().len(), 2, "the former place, and the next");
        world.observations(0);
        process.release().unwrap();
        let told = world.observations(0).unwrap().into_iter().filter_map(|seen| match seen {
            Observation::Command { command, .. } if command.opcode() == Some(Opcode::AtcInv) => {
                Some(AtcInv(command.0).ssid())
            }
            _ => None,
        });
        let told: Vec<u64> = told.collect();
        assert!(
            !told.is_empty() && told.iter().all(|it| *it == u64::from(process.pasid().0)),
            "{told:x?}"
        );
        drop((bond, domains));
    }
}
