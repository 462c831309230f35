// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that reach memory by translated addresses alone: ATS that is always on, under identity as well (§5.3, §12.1).

mod common;

use std::sync::Arc;

use smmuv3::{
    AddMasterError, AtsMode, AttachError, Attributes, Config, Domain, DomainConfig, InstanceConfig,
    Iommu, Iova, KeepError, Master, MasterConfig, NoAtsAlwaysOn, PhysAddr, Prot, Region, Smmu,
    StreamId,
};
use smmuv3_formats::Ste;
use smmuv3_formats::ste::config;
use smmuv3_model::{Answers, Profile};
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::keeping::keeping;
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::run::{Options, run};

const MACHINE: &str = r#"
name = "always"
instance = [{ name = "smmu", ssid-bits = 4, ats = true }]
master = [{ name = "cache", instance = "smmu", streams = [5], ats = "always" }]
"#;
const CACHE: usize = 0;
const STREAM: StreamId = StreamId(5);
const PAGE: u64 = 0x1000;

/// A device of that kind, a page of memory, and where domains map it: an address that is memory, too.
struct Setup {
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
    cache: Master<TestPlatform>,
    page: u64,
    iova: u64,
}

impl Setup {
    fn new(config: MasterConfig) -> Self {
        let machine = ModelMachine::new(&common::parse(MACHINE), 1).unwrap();
        let world = World::new(Arc::new(machine), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
        let cache = iommu.add_master(&smmu, &[STREAM], keeping(config, AtsMode::Always)).unwrap();
        let page = world.frames().allocate(2 * PAGE, 2 * PAGE).unwrap();
        Self { world, iommu, smmu, cache, page, iova: page + PAGE }
    }

    fn identity(&self) {
        // SAFETY: the device accesses the test's page alone.
        unsafe { self.iommu.attach_identity(&self.cache).unwrap() };
    }

    /// A domain that maps the page.
    fn domain(&self, config: DomainConfig) -> Domain<TestPlatform> {
        let domain = self.iommu.create_domain(config).unwrap();
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is the test's; nothing else works on the range.
        unsafe { domain.map(Iova(self.iova), PhysAddr(self.page), PAGE, attributes).unwrap() };
        domain
    }

    /// Whether the device can read there.
    fn reads(&self, address: u64) -> bool {
        let mut buffer = [0; 8];
        let read = Dma::Read(&mut buffer);
        let parts = self.world.machine().dma(CACHE, None, address, read).unwrap();
        matches!(parts[0].outcome, Outcome::Reached(pa) if pa == self.page)
    }

    /// Whether ATS is on in the device, and how much it keeps.
    fn device(&self) -> (bool, usize) {
        let model = self.world.machine().model(0).unwrap();
        let endpoint = model.endpoint(STREAM.0).unwrap();
        (endpoint.ats, endpoint.atc().iter().count())
    }

    fn entry(&self) -> Ste {
        let platform = self.iommu.platform();
        Ste(self.smmu.inside().streams().entry(platform, STREAM).unwrap().load(platform))
    }
}

/// From §5.2 and §5.3: the contexts are skipped, which takes two; and with EATS the device is given what it asks for.
#[test]
fn identity_is_an_entry_of_stage_1_that_skips_it_and_has_ats() {
    for bits in [0, 4] {
        let setup = Setup::new(MasterConfig::default().with_pasid_bits(bits));
        assert_eq!((setup.device(), setup.reads(setup.page)), ((false, 0), false));
        setup.identity();
        let ste = setup.entry();
        assert_eq!((ste.config(), ste.s1_dss(), ste.eats()), (config::STAGE_1, 1, 1));
        assert_eq!((ste.s1_cd_max(), ste.sh_cfg()), (u64::from(bits.max(1)), 1));
        assert_eq!(setup.cache.pasid_bits(), bits);
        assert!(setup.device().0 && setup.reads(setup.page));
        assert_eq!(setup.device(), (true, 1));
        // The second context is nobody's.
        let pasid = setup.iommu.allocate_pasid().unwrap();
        let domain = setup.domain(DomainConfig::default());
        let attached = setup.iommu.attach_pasid(&setup.cache, pasid, &domain);
        let refused = matches!(attached, Err(AttachError::PasidRange { bits: 0, .. }));
        assert_eq!((attached.is_ok(), refused), (bits != 0, bits == 0), "{attached:?}");
        assert!(setup.reads(setup.page));
    }
}

/// A domain of either stage, and back: each tells the device to forget, and leaves ATS on.
#[test]
fn it_stays_on_between_identity_and_domains_and_is_off_while_blocked() {
    let setup = Setup::new(MasterConfig::default());
    let domains =
        [DomainConfig::default(), DomainConfig::default().with_stage_2().with_input_bits(40)];
    for config in domains {
        let domain = setup.domain(config);
        setup.identity();
        assert!(setup.reads(setup.page));
        setup.iommu.attach(&setup.cache, &domain).unwrap();
        assert_eq!(setup.device(), (true, 0));
        assert!(setup.reads(setup.iova) && !setup.reads(setup.page));
        setup.identity();
        assert_eq!(setup.device(), (true, 0));
        assert!(setup.reads(setup.page) && !setup.reads(setup.iova));
        setup.iommu.detach(&setup.cache).unwrap();
        assert_eq!((setup.device(), setup.entry().config()), ((false, 0), config::ABORT));
        assert!(!setup.reads(setup.page));
    }
}

#[test]
fn it_is_on_again_under_identity_after_suspend_reset_and_quarantine() {
    let setup = Setup::new(MasterConfig::default());
    setup.identity();
    assert!(setup.reads(setup.page));
    setup.iommu.suspend(&setup.smmu, &mut |_| ()).unwrap();
    assert_eq!(setup.device(), (false, 0));
    setup.iommu.resume(&setup.smmu).unwrap();
    assert!(setup.device().0 && setup.reads(setup.page));
    setup.iommu.reset(&setup.smmu).unwrap();
    assert!(setup.device().0 && setup.reads(setup.page));
    let answer = |answers| {
        let mut model = setup.world.machine().model(0).unwrap();
        model.endpoint_mut(STREAM.0).unwrap().answers = answers;
    };
    answer(Answers::Never);
    let domain = setup.domain(DomainConfig::default());
    let error = setup.iommu.attach(&setup.cache, &domain).unwrap_err();
    assert!(matches!(error, AttachError::Quarantined { changed: true, .. }), "{error:?}");
    assert!(!setup.reads(setup.page) && !setup.reads(setup.iova));
    answer(Answers::InTime);
    setup.iommu.readmit(&setup.cache).unwrap();
    assert!(setup.device().0 && setup.reads(setup.iova));
    setup.identity();
    assert!(setup.device().0 && setup.reads(setup.page));
}

/// What an instance lacks is said with the refusal, and nothing was changed.
#[test]
fn an_instance_without_what_it_takes_refuses() {
    let always = keeping(MasterConfig::default(), AtsMode::Always);
    let refused = |change: fn(Profile) -> Profile| {
        let scenario = common::parse(MACHINE);
        let machine = ModelMachine::with_profiles(&scenario, 1, |it| change(profile(it))).unwrap();
        let world = World::new(Arc::new(machine), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
        let error = iommu.add_master(&smmu, &[STREAM], always).err();
        // The stream is still nobody's.
        let again = iommu.add_master(&smmu, &[STREAM], MasterConfig::default());
        assert_eq!(again.is_ok(), error.is_some());
        error
    };
    let lacks = |what| Some(AddMasterError::NoAtsAlwaysOn(what));
    assert_eq!(refused(|it| it), None);
    assert_eq!(refused(|it| it.ats(false)), lacks(NoAtsAlwaysOn::NoAts));
    assert_eq!(refused(|it| it.s1p(false)), lacks(NoAtsAlwaysOn::NoStage1));
    assert_eq!(refused(|it| it.ssidsize(0)), lacks(NoAtsAlwaysOn::NoSubstreams));
    assert_eq!(refused(|it| it.stalls(2, 16)), Some(AddMasterError::AtsStalls));
}

/// Nobody can say what a device keeps that firmware left working.
#[test]
fn what_firmware_left_working_has_none() {
    let machine = ModelMachine::new(&common::parse(MACHINE), 1).unwrap();
    let world = World::new(Arc::new(machine), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let mut probe = iommu.probe(mmio, InstanceConfig::named("smmu")).unwrap();
    let always = keeping(MasterConfig::default(), AtsMode::Always);
    let page = world.frames().allocate(PAGE, PAGE).unwrap();
    let regions = [Region::normal(PhysAddr(page), PAGE)];
    // SAFETY: the page is the test's.
    let kept = unsafe { probe.keep(&[STREAM], always, &regions) };
    let none = AddMasterError::NoAtsAlwaysOn(NoAtsAlwaysOn::Kept);
    assert_eq!(kept, Err(KeepError::Master(none)));
    // SAFETY: likewise.
    assert_eq!(unsafe { probe.keep(&[STREAM], MasterConfig::default(), &regions) }, Ok(()));
}

/// Where VMIDs name banks, and stage 2 has others: which of them an entry has changes while devices work.
const RANDOM: &str = r#"
name = "random-always-on"
pasids = 6
asid-policy = "banked"
instance = [
    { name = "narrow", asid-bits = 8, ssid-bits = 1, ats = true },
    { name = "wide", ssid-bits = 8, two-level-contexts = true, btm = true, ats = true, pri = true },
]
master = [
    { name = "expander", instance = "narrow", streams = [0x900, 0x901], ats = "always" },
    { name = "cache", instance = "wide", streams = [0x1100, 0x1108], pasid-bits = 8, ats = "always", pri = true },
    { name = "nic", instance = "wide", streams = [0x1200], ats = true },
]
domain = [
    { name = "first" },
    { name = "second", stage = 2, input-bits = 40 },
    { name = "third" },
    { name = "guest", over = "second" },
]
process = [{ name = "shell", asid = 0xffff }]
[[step]]
random = { steps = 1500, weights = { identity = 12, attach = 16 } }
"#;

#[test]
fn random_operations_hold_all_rules_and_the_story_is_true() {
    let story = include_str!("../../../scenarios/always-on.toml");
    for (text, seeds) in [(RANDOM, 20), (story, 8)] {
        let scenario = common::parse(text);
        for seed in 0..seeds {
            let options = Options { seed: Some(seed), ..Options::default() };
            let report = run(&scenario, &options, &mut |_| ()).unwrap();
            assert_eq!(report.verdict, "ok", "seed {seed}: {:#?}", report.failure);
        }
    }
}
