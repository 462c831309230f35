// SPDX-License-Identifier: MIT OR Apache-2.0
//! Features together: what stalls, or keeps translations, behind several command queues and with tables of stage 2.

mod common;

use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::keeping::trusted;
use std::ops::Range;
use std::sync::Arc;

use smmuv3::{
    AddMasterError, Attributes, Config, Domain, DomainConfig, InstanceConfig, Interrupt, Iommu,
    Iova, Master, MasterConfig, NestConfig, PhysAddr, Prot, Report, Response, Smmu, StreamId,
};
use smmuv3_formats::Ste;
use smmuv3_formats::command::{AtcInv, CfgiCd};
use smmuv3_model::{Access, Observation, Profile, Reason};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

const PAGE: u64 = 0x1000;
const IOVA: Iova = Iova(0x1000_0000);
const STREAM: StreamId = StreamId(1);
const FORCED: u32 = 2;

struct Setup {
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
}

impl Setup {
    /// One SMMU, with five command queues.
    fn new(change: impl Fn(Profile) -> Profile) -> Self {
        Self::with_commands(8, change)
    }

    /// The same, whose queue for answers holds 2^`log2` commands.
    fn with_commands(log2: u32, change: impl Fn(Profile) -> Profile) -> Self {
        let text = "name = \"interplay\"\ninstance = [{ name = \"smmu0\", ats = true }]\n\
                    master = [{ name = \"nic\", instance = \"smmu0\", streams = [1], ats = true }]";
        let scenario = common::parse(text);
        let machine = ModelMachine::with_profiles(&scenario, 1, |instance| {
            change(profile(instance).ecmdq(Some(2)))
        });
        let world = World::new(Arc::new(machine.unwrap()), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mut config = InstanceConfig::named("smmu0");
        (config.sid_bits, config.stalls, config.command_queue_log2) = (4, 8, log2);
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
        assert_eq!(smmu.inside().commands().lanes(), 4);
        Self { world, iommu, smmu }
    }

    fn master(&self, config: MasterConfig) -> Result<Master<TestPlatform>, AddMasterError> {
        self.iommu.add_master(&self.smmu, &[STREAM], config)
    }

    fn domain(&self, config: DomainConfig) -> Domain<TestPlatform> {
        self.iommu.create_domain(config).unwrap()
    }

    /// The device's access waits.
    fn stall(&self) {
        self.stall_at(IOVA.0);
    }

    fn stall_at(&self, iova: u64) {
        let mut model = self.world.machine().model(0).unwrap();
        // Those of before are over, also for the SMMU.
        model.settle_stalls();
        let refused = model.translate(Access::read(STREAM.0, iova));
        let reason = refused.err().map(|refusal| refusal.reason);
        assert!(matches!(reason, Some(Reason::Stalled(_))), "{reason:?}");
    }

    fn reports(&self) -> Vec<Report<TestPlatform>> {
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        while self.iommu.handle_interrupt(&self.smmu, Interrupt::Events, 8, &mut sink) {}
        reports
    }

    /// A stuck SMMU does all that it was told.
    fn machine_goes_on(&self) {
        let mut model = self.world.machine().model(0).unwrap();
        model.set_stuck(false);
        model.run(usize::MAX);
        model.settle_stalls();
    }

    /// Commands that no queue has consumed, and transactions that wait.
    fn waiting(&self) -> (u32, usize) {
        let model = self.world.machine().model(0).unwrap();
        (model.waiting_commands(), model.stalled().count())
    }

    fn misuse(&self) -> Vec<Observation> {
        let mut seen = self.world.observations(0).unwrap();
        seen.retain(|seen| matches!(seen, Observation::Misuse(_)));
        seen
    }
}

/// CPUs have queues of their own, which have no order: an answer that is consumed after the detach would be to
/// whatever has the same STAG by then.
#[test]
fn no_answer_is_on_its_way_when_a_detach_has_returned() {
    for model in [0, FORCED] {
        let setup = Setup::new(|profile| profile.stalls(model, 16));
        let master = setup.master(MasterConfig::default().with_stalls()).unwrap();
        let domains = [
            setup.domain(DomainConfig::default()),
            setup.domain(DomainConfig::default().with_stage_2().with_input_bits(40)),
        ];
        for round in 0..60 {
            setup.iommu.attach(&master, &domains[round % 2]).unwrap();
            setup.stall();
            let mut reports = setup.reports();
            let Some(Report::Stalled(fault)) = reports.pop() else { panic!("{reports:?}") };
            match round % 3 {
                0 => assert_eq!(fault.respond(Response::Abort), Ok(true)),
                1 => drop(fault),
                _ => {
                    setup.iommu.detach(&master).unwrap();
                    assert_eq!(fault.respond(Response::Abort), Ok(false));
                }
            }
            setup.iommu.detach(&master).unwrap();
            assert_eq!(setup.waiting(), (0, 0), "round {round}");
            assert_eq!(setup.misuse(), [], "round {round}");
        }
    }
}

/// Between tables of one stage or of both: each attach ends what waited before, and nothing that comes after.
#[test]
fn what_stalled_ends_with_its_domain() {
    let setup = Setup::new(|profile| profile.stalls(0, 16));
    let master = setup.master(MasterConfig::default().with_stalls()).unwrap();
    let first = setup.domain(DomainConfig::default());
    let second = setup.domain(DomainConfig::default().with_stage_2().with_input_bits(40));
    let third = setup.domain(DomainConfig::default().with_stage_2().with_input_bits(36));
    let fourth = setup.domain(DomainConfig::default());
    let order = [&first, &second, &third, &first, &fourth, &first, &third, &second];
    for (round, domain) in order.iter().enumerate() {
        setup.iommu.attach(&master, domain).unwrap();
        assert_eq!(setup.waiting().1, 0, "round {round}");
        setup.stall();
        assert_eq!(setup.waiting().1, 1, "round {round}");
    }
    // SAFETY: there is no device.
    unsafe { setup.iommu.attach_identity(&master) }.unwrap();
    assert_eq!(setup.waiting(), (0, 0));
    assert_eq!(setup.misuse(), []);
    let stalled = setup.reports().into_iter().any(|report| matches!(report, Report::Stalled(_)));
    assert!(!stalled, "they are over");
}

/// STE.S2S excludes EATS (§7.1).
#[test]
fn what_keeps_translations_does_not_stall() {
    let both = trusted().with_stalls();
    let setup = Setup::new(|profile| profile.ats(true).stalls(0, 16));
    assert_eq!(setup.master(both).err(), Some(AddMasterError::AtsStalls));
    setup.master(trusted()).unwrap().close().unwrap();
    setup.master(MasterConfig::default().with_stalls()).unwrap();
    let setup = Setup::new(|profile| profile.ats(true).stalls(FORCED, 16));
    let refused = setup.master(trusted()).err();
    assert_eq!(refused, Some(AddMasterError::AtsStalls));
    // Where there is no ATS, asking for it changes nothing.
    let setup = Setup::new(|profile| profile.ats(false).stalls(0, 16));
    setup.master(both).unwrap();
}

/// What other CPUs told a device just before (rule R7).
#[test]
fn no_invalidation_of_a_device_is_on_its_way_when_a_detach_has_returned() {
    let setup = Setup::new(|profile| profile.ats(true));
    let master = setup.master(trusted()).unwrap();
    let domains = [
        setup.domain(DomainConfig::default()),
        setup.domain(DomainConfig::default().with_stage_2().with_input_bits(40)),
    ];
    let memory = setup.world.frames().allocate(PAGE, PAGE).unwrap();
    for domain in &domains {
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the test is alone, and its memory stays.
        unsafe { domain.map(IOVA, PhysAddr(memory), PAGE, attributes) }.unwrap();
    }
    let (platform, mmio) = (setup.iommu.platform(), setup.smmu.inside().mmio());
    for round in 0..60 {
        setup.iommu.attach(&master, &domains[round % 2]).unwrap();
        let found = setup.world.machine().model(0).unwrap().access(Access::read(STREAM.0, IOVA.0));
        assert_eq!(found.map(|found| found.pa), Ok(memory));
        for _ in 0..4 {
            let command = AtcInv::new().with_sid(STREAM.0.into()).with_size(52).into();
            let commands = &mut [command].into_iter();
            let _ = setup.smmu.inside().commands().submit(platform, mmio, commands).unwrap();
        }
        // The next attach is a detach as well.
        if round % 4 != 0 {
            setup.iommu.detach(&master).unwrap();
            assert_eq!(setup.waiting().0, 0, "round {round}");
        }
    }
    assert_eq!(setup.misuse(), []);
}

/// What other CPUs carried over for the guest just before: each placed it while the stream was still given to the guest. One
/// queue has stopped at a command of its own, until somebody waits for that queue.
#[test]
fn no_command_of_a_guest_is_on_its_way_when_its_master_has_left() {
    let setup = Setup::new(|profile| profile.ats(false));
    let master = setup.master(MasterConfig::default()).unwrap();
    let shape = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let domain = setup.domain(shape);
    let plain = setup.domain(DomainConfig::default());
    let config = NestConfig::new().with_snooped();
    let nest = setup.iommu.nest(&setup.smmu, &domain, config).unwrap();
    let (platform, mmio) = (setup.iommu.platform(), setup.smmu.inside().mmio());
    let ste = Ste([0x4000_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
    for round in 0..80 {
        nest.attach(&master, &[StreamId(0x20)], &ste).unwrap();
        let queue = round / 4 % 4;
        while setup.world.machine().model(0).unwrap().waiting_in(queue) == 0 {
            let command = CfgiCd::new().with_sid(STREAM.0.into()).with_leaf(true).into();
            let commands = &mut [command].into_iter();
            let _ = setup.smmu.inside().commands().submit(platform, mmio, commands).unwrap();
        }
        setup.world.machine().model(0).unwrap().fail_next_command_of(queue, 1);
        match round % 4 {
            0 => setup.iommu.detach(&master).unwrap(),
            // The entries alone change.
            1 => setup.iommu.attach(&master, &domain).unwrap(),
            2 => setup.iommu.attach(&master, &plain).unwrap(),
            // SAFETY: there is no device.
            _ => unsafe { setup.iommu.attach_identity(&master) }.unwrap(),
        }
        assert_eq!(setup.waiting().0, 0, "round {round}");
    }
    assert_eq!(setup.misuse(), []);
}

fn holds(text: &str, seeds: Range<u64>) {
    let scenario = Scenario::parse(text, "interplay").unwrap_or_else(|errors| panic!("{errors}"));
    for seed in seeds {
        let options = Options { seed: Some(seed), ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert!(report.is_ok(), "seed {seed}: {:#?}", report.failure);
    }
}

/// Devices that stall, or keep translations, behind several queues, with tables of both stages.
const RANDOM: &str = r#"
name = "interplay"
pasids = 3
instance = [
    { name = "smmu0", stalls = 8, httu = 2, ecmdq = 4, ats = true, ssid-bits = 4, command-queue = 3 },
    { name = "smmu1", stalls = 4, forced-stalls = true, httu = 2, ecmdq = 2, completion = "msi", msi = true },
]
master = [
    { name = "accelerator", instance = "smmu0", streams = [0x40], stalls = true, pasid-bits = 4 },
    { name = "nic", instance = "smmu0", streams = [0x41, 0x42], ats = true, pasid-bits = 4 },
    { name = "other", instance = "smmu1", streams = [0x40, 0x41] },
]
domain = [
    { name = "first", dirty = true },
    { name = "second", stage = 2, dirty = true },
    { name = "third", stage = 2 },
]
[[step]]
random = { steps = 1500, pages = 16, weights = { answer = 16, fault = 20, attach = 12, detach = 8, identity = 3 } }
"#;

#[test]
fn random_operations_hold_all_rules() {
    holds(RANDOM, 0..16);
}

/// What stalls behind one instance is tried again, and recorded, also while the events of the others are being read.
const LATE: &str = r#"
name = "late"
pasids = 2
instance = [{ name = "smmu0", stalls = 2, ssid-bits = 4 }, { name = "smmu1" }, { name = "smmu2" }]
master = [
    { name = "accelerator", instance = "smmu0", streams = [0x40], stalls = true, pasid-bits = 4 },
    { name = "other", instance = "smmu0", streams = [0x41], stalls = true, pasid-bits = 4 },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { answer = 16, fault = 20, attach = 12, detach = 8, identity = 3 } }
"#;

#[test]
fn events_recorded_late_belong_to_the_operation_that_caused_them() {
    holds(LATE, 40..56);
    holds(LATE, 68..76);
}

/// The same for a host in EL2, which one of the SMMUs follows there.
#[test]
fn random_operations_of_a_host_in_el2_hold_all_rules() {
    let text = RANDOM.replace("name = \"smmu0\",", "name = \"smmu0\", hyp = true, btm = true,");
    let world = "pasids = 3\nworld = \"el2-e2h\"\nprocess = [{ name = \"shell\" }]";
    holds(&text.replace("pasids = 3", world), 0..16);
}

/// A drop waits for nothing: where there is no room in the command queue, the next look gives the answer.
#[test]
fn stalls_that_are_dropped_are_answered_at_once_or_at_the_next_look() {
    let setup = Setup::with_commands(2, |profile| profile.stalls(0, 16));
    let master = setup.master(MasterConfig::default().with_stalls()).unwrap();
    let domain = setup.domain(DomainConfig::default());
    setup.iommu.attach(&master, &domain).unwrap();
    let faults: Vec<_> = (0..6)
        .map(|index| {
            setup.stall_at(IOVA.0 + index * PAGE);
            let mut reports = setup.reports();
            let Some(Report::Stalled(fault)) = reports.pop() else { panic!("{reports:?}") };
            fault
        })
        .collect();
    setup.world.machine().model(0).unwrap().set_stuck(true);
    // More than the four that the command queue holds.
    faults.into_iter().for_each(drop);
    assert!(!setup.smmu.has_failed(), "somebody waited for it");
    setup.machine_goes_on();
    assert!(setup.waiting().1 > 0, "there was room for all");
    let mut sink = |report| panic!("{report:?}");
    let which = Interrupt::Events;
    // As long as it says that there is more.
    let mut look = || setup.iommu.handle_interrupt(&setup.smmu, which, 8, &mut sink);
    let looks = (0..6).take_while(|_| look()).map(|_| setup.machine_goes_on()).count();
    assert!(looks < 6);
    setup.machine_goes_on();
    assert_eq!(setup.waiting().1, 0);
}
