// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains of both stages and every granule: whole runs of their scenarios, on the model and on QEMU.

mod common;

use std::sync::{Arc, Mutex};

use smmuv3::pagetable::TableError;
use smmuv3::{
    AttachError, Attributes, Config, CreateError, Dirty, Domain, DomainConfig, Granule,
    InstanceConfig, Iommu, Iova, Master, MasterConfig, Mismatch, PhysAddr, Prot, StreamId, Tag,
    Vmids,
};
use smmuv3_model::{Access, Transfer};
use smmuv3_testbench::campaign::Campaign;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::oracle::{Rule, Shape, Use};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::qemu::{self, deviation};
use smmuv3_testbench::report::Report;
use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::{Action, Answer, Granules, Scenario};
use smmuv3_testbench::watch::Watch;

fn scenario(name: &str) -> Scenario {
    let path = format!("{}/../../scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Scenario::parse(&text, &path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn run_on(machine: Choice, scenario: &Scenario, seed: u64) -> Report {
    let options = Options { machine, seed: Some(seed), ..Options::default() };
    run(scenario, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"))
}

fn holds_on_the_model(name: &str) {
    let scenario = scenario(name);
    for seed in 1..=5 {
        let report = run_on(Choice::Model, &scenario, seed);
        assert!(report.is_ok(), "{name} seed {seed}: {:#?}", report.failure);
    }
    let again = Scenario::parse(&scenario.to_toml(), name);
    let again = again.unwrap_or_else(|errors| panic!("{errors}\n{}", scenario.to_toml()));
    assert_eq!(again.to_toml(), scenario.to_toml());
}

fn holds_on_qemu(name: &str) {
    let Some(path) = common::qemu_or_skip() else { return };
    let mut scenario = scenario(name);
    // QEMU's SMMUs have every granule: what is refused on the model for want of one is done there.
    for instance in &mut scenario.instances {
        instance.granules = Granules::ALL;
    }
    scenario
        .steps
        .retain(|step| !matches!(step.action, Action::Attach { answer: Answer::Refused(_), .. }));
    for seed in 1..=4 {
        let report = run_on(Choice::Qemu(Some(path.clone())), &scenario, seed);
        assert!(report.is_ok(), "{name} seed {seed}: {:#?}", report.failure);
    }
}

#[test]
fn stage_2_on_the_model() {
    holds_on_the_model("stage-2");
}

#[test]
fn stage_2_on_qemu() {
    holds_on_qemu("stage-2");
}

#[test]
fn granules_on_the_model() {
    holds_on_the_model("granules");
}

#[test]
fn wide_on_the_model() {
    holds_on_the_model("wide");
}

#[test]
fn attributes_on_the_model() {
    holds_on_the_model("attributes");
}

#[test]
fn contiguous_on_the_model() {
    holds_on_the_model("contiguous");
}

/// Groups that lose a page, and blocks that are cut as their instances bear it: by the word that no TLB is to keep them on
/// one (BBML 1), at once on both (BBML 2).
#[test]
fn contiguous_on_qemu() {
    let Some(path) = common::qemu_or_skip() else { return };
    let mut scenario = scenario("contiguous");
    for seed in 1..=3 {
        common::agree(path.clone(), &scenario, seed);
    }
    for instance in &mut scenario.instances {
        instance.walks.bbml = 2;
    }
    for seed in 4..=6 {
        common::agree(path.clone(), &scenario, seed);
    }
}

#[test]
fn straddle_on_the_model() {
    holds_on_the_model("straddle");
}

#[test]
fn straddle_on_qemu() {
    holds_on_qemu("straddle");
}

/// Without BBML a group of contiguous pages is whole, too: one end that cuts it, the other, and what lies around it.
#[test]
fn groups_are_not_cut_without_leave() {
    let text = r#"
name = "groups"
instance = [{ name = "smmu", range-invalidation = false }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
domain = [{ name = "groups", contiguous = true }]
memory = [{ name = "ram", size = "128K", align = "64K" }]
step = [
    { attach = { master = "nic", domain = "groups" } },
    { map = { domain = "groups", iova = 0x50000000, memory = "ram", length = "68K" } },
    { unmap = { domain = "groups", iova = 0x5000f000, length = "8K", refused = "straddle" } },
    { unmap = { domain = "groups", iova = 0x50000000, length = "60K", refused = "straddle" } },
    { write = { master = "nic", iova = 0x5000f000, data = "there" } },
    { write = { master = "nic", iova = 0x50010000, data = "there" } },
    { unmap = { domain = "groups", iova = 0x50010000, length = "4K" } },
    { read = { master = "nic", iova = 0x50010000, length = 8 } },
    { expect-fault = { master = "nic", event = "F_TRANSLATION" } },
    { unmap = { domain = "groups", iova = 0x50000000, length = "64K" } },
]
"#;
    let options = Options { no_shrink: true, ..Options::default() };
    let report = run(&common::parse(text), &options, &mut |_| ()).unwrap();
    assert!(report.is_ok(), "{:#?}", report.failure);
    // The word means something: where groups may be cut, that they are is a failure.
    let report =
        run(&common::parse(&text.replace("false", "true")), &options, &mut |_| ()).unwrap();
    assert!(report.failure.is_some());
}

#[test]
fn invalidation_on_the_model() {
    holds_on_the_model("invalidation");
    holds_on_the_model("invalidation-el2");
}

#[test]
fn invalidation_on_qemu() {
    holds_on_qemu("invalidation");
}

#[test]
fn nested_on_the_model() {
    holds_on_the_model("nested");
}

/// A guest's stage 1 under a random workload, with an SMMU that others wrote.
#[test]
fn nested_on_qemu() {
    holds_on_qemu("nested");
}

#[test]
fn errata_on_the_model() {
    holds_on_the_model("errata");
}

#[test]
fn overrides_on_the_model() {
    holds_on_the_model("overrides");
}

#[test]
fn random_scenarios_hold_all_rules() {
    let options = Options::default();
    let campaign =
        Campaign { seeds: 0..60, steps: 200, jobs: 1, limit: None, keep_going: true, options };
    let summary = campaign.run(&|_| ()).unwrap();
    for finding in &summary.findings {
        println!("seed {}: {}\n{}", finding.seed, finding.rule, finding.toml);
    }
    assert!(summary.findings.is_empty());
}

#[test]
fn dirty_on_the_model() {
    holds_on_the_model("dirty");
}

#[test]
fn granules_on_qemu() {
    holds_on_qemu("granules");
}

/// [`deviation::SILENT_CACHED_WRITES`]: the write after a read is refused, and nobody is told.
#[test]
fn qemu_says_nothing_of_a_write_that_its_tlb_refuses_at_stage_2() {
    let Some(path) = common::qemu_or_skip() else { return };
    let silent = deviation::SILENT_CACHED_WRITES.holds(qemu::version(&path).unwrap());
    let text = r#"
name = "silent"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [0x900] }]
domain = [{ name = "guest", stage = 2 }]
memory = [{ name = "ram", size = "4K", fill = 7 }]
step = [
    { attach = { master = "nic", domain = "guest" } },
    { map = { domain = "guest", iova = 0, memory = "ram", access = "ro" } },
    { write = { master = "nic", iova = 0, data = "no!!" } },
    { expect-fault = { master = "nic", event = "F_PERMISSION" } },
    { read = { master = "nic", iova = 0, expect = { pattern = 0x07070707, length = 8 } } },
    { write = { master = "nic", iova = 0, data = "no!!" } },
    { expect-fault = { master = "nic", event = "F_PERMISSION" } },
]
"#;
    let scenario = Scenario::parse(text, "silent").unwrap_or_else(|errors| panic!("{errors}"));
    let model = run_on(Choice::Model, &scenario, 1);
    assert!(model.is_ok(), "{:#?}", model.failure);
    let report = run_on(Choice::Qemu(Some(path)), &scenario, 1);
    assert_eq!(report.is_ok(), !silent, "{:#?}", report.failure);
    assert_eq!(model.faults.len() - report.faults.len(), usize::from(silent));
}

/// An SMMU that has everything, a device, and a page of memory.
struct Setup {
    machine: Arc<ModelMachine>,
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    master: Master<TestPlatform>,
    memory: u64,
}

const ATTRIBUTES: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
/// A page of the largest granule.
const PAGE: u64 = 0x1_0000;

impl Setup {
    fn new(instance: &str, config: Config) -> Self {
        let text = format!(
            "name = \"one\"\ninstance = [{{ name = \"smmu\", sid-bits = 4, {instance} }}]\n\
             master = [{{ name = \"nic\", instance = \"smmu\", streams = [1] }}]\n"
        );
        let scenario = Scenario::parse(&text, "one").unwrap_or_else(|errors| panic!("{errors}"));
        let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
        let world = World::new(machine.clone(), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), config).unwrap();
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, InstanceConfig::named("smmu")).unwrap().enable().unwrap();
        let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
        let memory = world.frames().allocate(PAGE, PAGE).unwrap();
        Self { machine, world, iommu, master, memory }
    }

    /// Where a write of the device at `iova` arrives.
    fn write(&self, iova: u64) -> Outcome {
        self.machine.dma(0, None, iova, Dma::Write(&[1; 8])).unwrap()[0].outcome
    }

    /// A domain like that, in which the page at `iova` reaches the memory, until it is unmapped.
    fn page_works(&self, config: DomainConfig, iova: u64) -> Domain<TestPlatform> {
        let domain = self.iommu.create_domain(config).unwrap();
        self.iommu.attach(&self.master, &domain).unwrap();
        assert_eq!(self.write(iova), Outcome::Refused, "{config:?}");
        let (at, pa) = (Iova(iova), PhysAddr(self.memory));
        // SAFETY: this test alone uses the domain; the device only touches the page.
        unsafe { domain.map(at, pa, PAGE, ATTRIBUTES).unwrap() };
        assert_eq!(self.write(iova + 8), Outcome::Reached(self.memory + 8), "{config:?}");
        // SAFETY: as above.
        unsafe {
            assert_eq!(domain.lookup(at).map(|mapping| mapping.pa), Some(pa));
            assert_eq!(domain.unmap(at, PAGE), Ok(PAGE));
        }
        assert_eq!(self.write(iova + 8), Outcome::Refused, "{config:?}");
        domain
    }
}

/// A write waits with its mark, too (§14), so who asks between need not be told: it has not arrived.
#[test]
fn a_write_that_is_on_its_way_when_an_attach_returns_is_not_owed() {
    let setup = Setup::new("httu = 2", Config::default());
    let config = DomainConfig::default().with_dirty(Dirty::Clean);
    let domain = setup.iommu.create_domain(config).unwrap();
    setup.iommu.attach(&setup.master, &domain).unwrap();
    let (iova, memory) = (0x10_0000, setup.memory);
    // SAFETY: this test alone uses the domain; the device only touches the page.
    unsafe { domain.map(Iova(iova), PhysAddr(memory), PAGE, ATTRIBUTES).unwrap() };
    let range = iova..iova + PAGE;
    let mut watch = Watch::new(1, 1);
    let oracle = &mut watch.oracle;
    oracle.add_domain_with(0, Shape { dirty: true, ..Shape::default() });
    oracle.add_master(0, vec![1]);
    oracle.attach_begins(0, Use::Domain(0));
    oracle.attach_ends(0, true);
    oracle.map_begins(0, range.clone(), memory, true);
    oracle.map_ends(0, range.clone(), true);
    let model = || setup.machine.model(0).unwrap();
    model().hold(Access::write(1, iova), Transfer::Write(vec![1; 8])).unwrap();
    let id = model().held().next().unwrap().id;
    watch.after_attach(&setup.world, 0, Use::Domain(0));
    let read = || {
        let mut told = Vec::new();
        let mut report = |start: Iova, bytes| told.push((start.0, bytes));
        // SAFETY: as above.
        unsafe { domain.read_and_clear_dirty(Iova(iova), PAGE, &mut report) }.unwrap();
        told
    };
    watch.oracle.harvest_begins(0, &range);
    assert_eq!(read(), [], "it is not marked");
    watch.oracle.harvest_ends(0, &range, &[]);
    assert_eq!(watch.oracle.violation(), None);
    // Then it arrives.
    assert_eq!(model().perform(id).unwrap().pa, memory);
    watch.oracle.reached(0, iova, true, memory, "a delayed");
    assert_eq!(read(), [(iova, 0x1000)]);
    watch.oracle.harvest_begins(0, &range);
    watch.oracle.harvest_ends(0, &range, &[]);
    assert_eq!(watch.oracle.violation().map(|broken| broken.rule), Some(Rule::R9));
}

const WIDE: &str = "oas = 52, lpa2 = true, wide-input = true";

#[test]
fn every_shape_of_tables_leads_to_memory_until_it_is_unmapped() {
    let setup = Setup::new(WIDE, Config::default());
    for granule in Granule::ALL {
        let plain = DomainConfig::default().with_granule(granule);
        let wide = plain.with_input_bits(52).with_output_bits(52);
        setup.page_works(plain, 0xffff_ffff_0000);
        setup.page_works(wide, 0xf_ffff_ffff_0000);
        setup.page_works(plain.with_stage_2(), 0xffff_ffff_0000);
        setup.page_works(wide.with_stage_2(), 0xf_ffff_ffff_0000);
        setup.page_works(plain.with_all_attributes(), 0x10_0000);
        // TTB1: the last page cannot be mapped.
        for (config, base) in [(plain, 0xffff_u64 << 48), (wide, 0xfff << 52)] {
            let upper = config.with_upper_half();
            setup.page_works(upper, base);
            let domain = setup.page_works(upper, u64::MAX - 2 * PAGE + 1);
            // SAFETY: as above.
            let lower = unsafe { domain.map(Iova(0), PhysAddr(setup.memory), PAGE, ATTRIBUTES) };
            assert!(lower.is_err());
            assert_eq!(setup.write(0), Outcome::Refused);
        }
    }
    // §15.4: 40 bits begin at level 0, or with two tables side by side at level 1.
    let guest = DomainConfig::default().with_granule(Granule::K4).with_stage_2();
    for level in [0, 1] {
        setup.page_works(guest.with_input_bits(40).with_start_level(level), 0xff_ffff_0000);
    }
    let refused = setup.iommu.create_domain(guest.with_input_bits(40).with_start_level(2)).err();
    assert_eq!(refused, Some(CreateError::Table(TableError::StartLevel(2))));
}

#[test]
fn what_an_instance_cannot_walk_is_refused_and_changes_nothing() {
    let setup = Setup::new("oas = 44, granules = [\"4K\", \"64K\"], bbml = 1", Config::default());
    let mapped = setup.iommu.create_domain(DomainConfig::default()).unwrap();
    setup.iommu.attach(&setup.master, &mapped).unwrap();
    let (at, pa) = (Iova(0x10_0000), PhysAddr(setup.memory));
    // SAFETY: this test alone uses the domain; the device only touches the page.
    unsafe { mapped.map(at, pa, PAGE, ATTRIBUTES).unwrap() };
    let plain = DomainConfig::default().with_input_bits(44).with_output_bits(44);
    let (small, large) = (plain.with_granule(Granule::K4), plain.with_granule(Granule::K64));
    for (config, what) in [
        (plain.with_granule(Granule::K16), Mismatch::Granule { shift: 14 }),
        (small.with_output_bits(48), Mismatch::Output { domain: 48, instance: 44 }),
        (small.with_input_bits(52), Mismatch::Input { domain: 52, instance: 48 }),
        (small.with_output_bits(52), Mismatch::Output { domain: 52, instance: 44 }),
        (
            small.with_stage_2().with_input_bits(48).with_output_bits(48),
            Mismatch::Input { domain: 48, instance: 44 },
        ),
        (large.with_splitting().with_bbml(2), Mismatch::BreakBeforeMake { domain: 2, instance: 1 }),
        (small.with_dirty(Dirty::Clean), Mismatch::AccessFlag),
    ] {
        let domain = setup.iommu.create_domain(config).unwrap();
        let instance = setup.master.instance();
        let refused = setup.iommu.attach(&setup.master, &domain);
        assert_eq!(refused, Err(AttachError::Mismatch { instance, what }), "{config:?}");
        assert_eq!(setup.write(at.0), Outcome::Reached(setup.memory));
        assert_eq!(domain.targets().unwrap(), []);
    }
}

#[test]
fn a_hypervisors_vmid_is_had_by_one_domain_an_instance_and_by_none_that_is_given_one() {
    let mut config = Config::default();
    config.hypervisor_vmids = Vmids { first: 1, last: 9 };
    config.stage_2_vmids = Vmids { first: 1, last: 11 };
    let setup = Setup::new("vmid-bits = 8", config);
    let guest = DomainConfig::default().with_stage_2();
    let create = |config| setup.iommu.create_domain(config);
    for (config, error) in [
        (guest.with_vmid(10), CreateError::Vmid { vmid: 10 }),
        (guest.with_vmid(0), CreateError::Vmid { vmid: 0 }),
        (DomainConfig::default().with_vmid(3), CreateError::VmidStage { vmid: 3 }),
    ] {
        assert_eq!(create(config).err(), Some(error));
    }
    let tag = |domain: &Domain<TestPlatform>| domain.targets().unwrap()[0].tag;
    let attach = |domain| setup.iommu.attach(&setup.master, domain);
    let pinned = create(guest.with_vmid(3)).unwrap();
    attach(&pinned).unwrap();
    assert_eq!(tag(&pinned), Tag::stage_2(3));
    let (instance, vmid) = (setup.master.instance(), 3);
    let again = create(guest.with_vmid(3)).unwrap();
    assert_eq!(attach(&again), Err(AttachError::VmidTaken { instance, vmid }));
    let free = create(guest).unwrap();
    attach(&free).unwrap();
    assert_eq!(tag(&free), Tag::stage_2(10), "those before are the hypervisor's");
    // It is free since the other left.
    attach(&again).unwrap();
    assert_eq!(tag(&again), Tag::stage_2(3));
}

/// IPS and S2PS have six sizes; a domain can have any. What it maps, up to its last bit, is reached.
#[test]
fn all_of_an_output_size_between_two_of_the_architectures_is_reached() {
    let text = r#"
name = "sizes"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
"#;
    let scenario = Scenario::parse(text, "sizes").unwrap();
    let world = World::new(Arc::new(ModelMachine::new(&scenario, 5).unwrap()), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    let smmu = common::enable(&iommu, &world, 0, config);
    let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    // The tables themselves are above 32 GiB; the SMMU has 44 bits.
    for bits in 36..=44 {
        for config in [DomainConfig::default(), DomainConfig::default().with_stage_2()] {
            let domain = iommu.create_domain(config.with_output_bits(bits)).unwrap();
            let (last, attributes) = ((1 << bits) - 0x1000, Attributes::normal(Prot::READ));
            // SAFETY: there is no memory, and nobody accesses it.
            let map = |pa| unsafe { domain.map(Iova(0x4000), PhysAddr(pa), 0x1000, attributes) };
            assert!(map(1 << bits).is_err(), "{bits}");
            map(last).unwrap();
            iommu.attach(&master, &domain).unwrap();
            let reached = world.machine().model(0).unwrap().translate(Access::read(1, 0x4000));
            assert_eq!(reached.map(|it| it.pa), Ok(last), "{bits} bits");
        }
    }
}

/// Blocks of every level that has them (§15), by both stages: the driver makes one, and hardware finds all of it.
#[test]
fn blocks_of_every_level_are_reached_from_end_to_end() {
    let text = r#"
name = "blocks"
instance = [{ name = "smmu", lpa2 = true, wide-input = true, oas = 52 }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
"#;
    const K: u64 = 1 << 10;
    let levels: [(Granule, u32, &[u64]); 5] = [
        (Granule::K4, 48, &[4 * K, 2 * K * K, K * K * K]),
        (Granule::K4, 52, &[4 * K, 2 * K * K, K * K * K, 512 * K * K * K]),
        (Granule::K16, 48, &[16 * K, 32 * K * K]),
        (Granule::K16, 52, &[16 * K, 32 * K * K, 64 * K * K * K]),
        (Granule::K64, 52, &[64 * K, 512 * K * K, 4 * K * K * K * K]),
    ];
    let scenario = Scenario::parse(text, "blocks").unwrap();
    let world = World::new(Arc::new(ModelMachine::new(&scenario, 6).unwrap()), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    let smmu = common::enable(&iommu, &world, 0, config);
    let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    for (granule, bits, sizes) in levels {
        for kind in [DomainConfig::default(), DomainConfig::default().with_stage_2()] {
            let kind = kind.with_granule(granule).with_input_bits(bits).with_output_bits(bits);
            let domain = iommu.create_domain(kind).unwrap();
            iommu.attach(&master, &domain).unwrap();
            for &size in sizes {
                let (iova, pa, attributes) = (size, 3 * size, Attributes::normal(Prot::READ));
                // SAFETY: there is no memory, and nobody accesses it.
                unsafe { domain.map(Iova(iova), PhysAddr(pa), size, attributes) }.unwrap();
                let of = format!("{granule:?}, {bits} bits, {:?}: {size:#x}", kind.stage);
                // SAFETY: as above.
                let found = unsafe { domain.lookup(Iova(iova)) };
                assert_eq!(found.map(|it| it.size), Some(size), "{of}");
                for offset in [0, size / 2, size - 4 * K] {
                    let access = Access::read(1, iova + offset);
                    let reached = world.machine().model(0).unwrap().translate(access);
                    assert_eq!(reached.map(|it| it.pa), Ok(pa + offset), "{of}");
                }
                // SAFETY: as above.
                assert_eq!(unsafe { domain.unmap(Iova(iova), size) }, Ok(size), "{of}");
                let access = Access::read(1, iova + size - 4 * K);
                assert!(world.machine().model(0).unwrap().translate(access).is_err(), "{of}");
            }
        }
    }
}

/// What a device reaches at every moment, of one read after the other; `None` is refused.
struct Reads(Arc<World>, Mutex<Vec<Option<u64>>>);

impl Observer for Reads {
    fn at(&self, _: Point, _: bool) {
        let outcome = self.0.machine().model(0).unwrap().access(Access::read(1, 0x4000));
        self.1.lock().unwrap().push(outcome.ok().map(|it| it.pa));
    }
}

/// Every change of what a master uses, while its device works: by one word of its entry where that can be (§8.2), and
/// with a moment in which it is refused only between two translations of which one is of stage 2, and the other is tagged
/// with a VMID as well.
#[test]
fn a_change_of_what_a_master_uses_refuses_nothing_where_one_word_can_make_it() {
    for el2_host in [false, true] {
        every_change_of_use(el2_host);
    }
}

fn every_change_of_use(el2_host: bool) {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Use {
        Blocked,
        Identity,
        Domain(usize),
    }
    let text = r#"
name = "pairs"
instance = [{ name = "smmu", hyp = true }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
"#;
    let scenario = Scenario::parse(text, "pairs").unwrap();
    let world = World::new(Arc::new(ModelMachine::new(&scenario, 3).unwrap()), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    config.el2_host = el2_host;
    let smmu = common::enable(&iommu, &world, 0, config);
    let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    let pages = [0, 1, 2, 3].map(|_| world.frames().allocate(0x1000, 0x1000).unwrap());
    let domains = [0, 1, 2, 3].map(|index| {
        let config = DomainConfig::default();
        let config = if index < 2 { config } else { config.with_stage_2() };
        let domain = iommu.create_domain(config).unwrap();
        let attributes = Attributes::normal(Prot::READ);
        // SAFETY: nobody else uses the memory.
        unsafe { domain.map(Iova(0x4000), PhysAddr(pages[index]), 0x1000, attributes) }.unwrap();
        domain
    });
    let attach = |to| match to {
        Use::Blocked => iommu.detach(&master).map_err(smmuv3::AttachError::from),
        // SAFETY: the device only reads.
        Use::Identity => unsafe { iommu.attach_identity(&master) },
        Use::Domain(index) => iommu.attach(&master, &domains[index]),
    };
    let reaches = |to| match to {
        Use::Blocked => None,
        Use::Identity => Some(0x4000),
        Use::Domain(index) => Some(pages[index]),
    };
    let all = [Use::Blocked, Use::Identity].into_iter().chain((0..4).map(Use::Domain));
    for before in all.clone() {
        for after in all.clone() {
            attach(before).unwrap();
            let reads = Arc::new(Reads(world.clone(), Mutex::default()));
            world.set_observer(Some(reads.clone()));
            attach(after).unwrap();
            world.set_observer(None);
            let by_stage_2 = |to| matches!(to, Use::Domain(2 | 3));
            let domains = matches!([before, after], [Use::Domain(_), Use::Domain(_)]);
            let (from, to) = (by_stage_2(before), by_stage_2(after));
            let hit = before != after && domains && if el2_host { from && to } else { from || to };
            let seen = reads.1.lock().unwrap();
            assert!(before == after || seen.len() >= 3, "{before:?} to {after:?}: nobody looked");
            let fine = |it: &&Option<u64>| **it == reaches(before) || **it == reaches(after);
            let others: Vec<_> = seen.iter().filter(|it| !fine(it)).collect();
            let expected = others.iter().all(|it| hit && it.is_none());
            assert!(expected, "{before:?} to {after:?}, EL2 {el2_host}: {others:x?}");
        }
    }
}
