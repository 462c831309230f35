// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host whose kernel runs in EL2 with E2H: its SMMU is told so, and is given the commands of that world (§1, §4.2).

mod common;

use std::sync::Arc;

use smmuv3::{
    Attributes, Config, DomainConfig, InstanceConfig, Iommu, Iova, MasterConfig, Mmio, PhysAddr,
    Prot, StreamId, Tag,
};
use smmuv3_formats::register::Cr2;
use smmuv3_formats::{Command, Opcode};
use smmuv3_model::{Access, World as Regime};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

const PAGE: u64 = 0x1000;
const IOVA: u64 = 0x1000_0000;
const STREAM: u32 = 1;

fn scenario() -> Scenario {
    common::parse(include_str!("../../../scenarios/hypervisor.toml"))
}

fn verdicts(options: &Options) -> Vec<String> {
    let scenario = scenario();
    let verdict = |seed| {
        let options = Options { seed: Some(seed), no_shrink: true, ..options.clone() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        if let Some(failure) = &report.failure {
            println!("seed {seed}: line {}: {}", failure.line, failure.text);
        }
        report.verdict
    };
    (0..20).map(verdict).collect()
}

#[test]
fn the_scenario_holds_all_rules_on_every_seed() {
    let verdicts = verdicts(&Options::default());
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
    let again = common::parse(&scenario().to_toml());
    assert_eq!((again.el2_host, again.in_el2(0), again.in_el2(1)), (true, true, false));
}

#[cfg(feature = "mutation")]
#[test]
fn commands_of_el1_in_their_place_are_caught_on_nearly_every_seed() {
    let mutation = Some(smmuv3::Mutation::El2AsEl1);
    let verdicts = verdicts(&Options { mutation, ..Options::default() });
    let caught = verdicts.iter().filter(|verdict| *verdict != "ok" && *verdict != "driver").count();
    assert!(caught >= 19, "{caught} seeds only: {verdicts:?}");
}

/// The host's world, then whether the SMMU follows it, then a domain of stage 1 and one of stage 2: which opcodes an unmap
/// of a page, an unmap of a table and a detach have, and where translations are.
#[test]
fn each_world_has_its_entries_and_its_commands() {
    use Opcode as Op;
    const EL2: [Op; 2] = [Op::TlbiEl2Va, Op::TlbiEl2Asid];
    const EL1: [Op; 2] = [Op::TlbiNhVa, Op::TlbiNhAsid];
    const STAGE_2: [Op; 2] = [Op::TlbiS2Ipa, Op::TlbiS12Vmall];
    for (host, hyp, stage_2, opcodes, regime) in [
        (true, true, false, EL2, Regime::El2E2h),
        (true, false, false, EL1, Regime::El1),
        (false, true, false, EL1, Regime::El1),
        (true, true, true, STAGE_2, Regime::El1),
    ] {
        let context = format!("host {host}, SMMU {hyp}, stage 2 {stage_2}");
        let text = format!(
            "name = \"el2\"\ninstance = [{{ name = \"smmu\", hyp = {hyp} }}]\n\
             master = [{{ name = \"nic\", instance = \"smmu\", streams = [{STREAM}] }}]"
        );
        let machine = ModelMachine::new(&common::parse(&text), 1).unwrap();
        let world = World::new(Arc::new(machine), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mut config = InstanceConfig::named("smmu");
        (config.sid_bits, config.el2_host) = (4, host);
        let smmu = common::enable(&iommu, &world, 0, config);
        let in_el2 = regime == Regime::El2E2h;
        assert_eq!(smmu.features().el2_host, host && hyp, "{context}");
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        assert_eq!(Cr2(mmio.read32(Cr2::OFFSET)).e2h(), host && hyp, "{context}");
        // What was there at power-up goes, in both worlds.
        let told = opcodes_of(&world);
        assert_eq!(told.contains(&Op::TlbiEl2All), hyp, "{context}");
        assert!(told.contains(&Op::TlbiNsnhAll), "{context}");

        let mut config = DomainConfig::default();
        if stage_2 {
            config = config.with_stage_2().with_input_bits(40);
        }
        let domain = iommu.create_domain(config).unwrap();
        let stream = [StreamId(STREAM)];
        let master = iommu.add_master(&smmu, &stream, MasterConfig::default()).unwrap();
        iommu.attach(&master, &domain).unwrap();
        let target = domain.targets().unwrap().first().copied().unwrap();
        let tag = target.tag;
        match (in_el2, stage_2) {
            (true, _) => assert_eq!(tag, Tag::el2(tag.asid), "{context}"),
            (false, true) => assert_eq!(tag, Tag::stage_2(tag.vmid), "{context}"),
            (false, false) => assert_eq!(tag, Tag::el1(0, tag.asid), "{context}"),
        }
        let memory = world.frames().allocate(PAGE, PAGE).unwrap();
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the test is alone, and its memory stays.
        unsafe { domain.map(Iova(IOVA), PhysAddr(memory), PAGE, attributes) }.unwrap();
        let reached = || {
            let found = world.machine().model(0).unwrap().access(Access::read(STREAM, IOVA));
            found.ok().map(|found| found.pa)
        };
        assert_eq!(reached(), Some(memory), "{context}");
        let cached: Vec<Regime> = {
            let model = world.machine().model(0).unwrap();
            model.tlb_entries().map(|entry| entry.tag.world).collect()
        };
        assert!(
            !cached.is_empty() && cached.iter().all(|it| *it == regime),
            "{context}: {cached:?}"
        );
        world.take_commands();
        // SAFETY: as above.
        unsafe { domain.unmap(Iova(IOVA), PAGE) }.unwrap();
        assert_eq!(opcodes_of(&world), [opcodes[0], Op::Sync], "{context}");
        assert_eq!(reached(), None, "{context}");
        iommu.detach(&master).unwrap();
        let flushes = opcodes_of(&world);
        let flushes: Vec<Op> = flushes.into_iter().filter(|it| opcodes.contains(it)).collect();
        assert_eq!(flushes, [opcodes[1]], "{context}");
    }
}

/// Opcodes of what the driver has said since the last time.
fn opcodes_of(world: &World) -> Vec<Opcode> {
    let opcode = |(_, command): (usize, Command)| command.opcode().unwrap();
    world.take_commands().into_iter().map(opcode).collect()
}
