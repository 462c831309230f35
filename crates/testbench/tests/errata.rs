// SPDX-License-Identifier: MIT OR Apache-2.0
//! What firmware knows of an SMMU reaches its registers and its queue (§19).

mod common;

use std::sync::Arc;

use smmuv3::{
    AttachError, Attributes, Config, DomainConfig, Firmware, InstanceConfig, Interrupt, Iommu,
    Iova, MasterConfig, PhysAddr, Prot, Report, StreamId,
};
use smmuv3_formats::Opcode;
use smmuv3_model::{Access, Misuse, Observation, Profile};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{TestPlatform, World};

use common::parse;

const SCENARIO: &str = r#"
name = "errata"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
domain = [{ name = "domain" }]
"#;
const IOVA: u64 = 0x10_0000;
const PAGE: u64 = 0x1000;

/// A page is mapped, accessed, and unmapped; an access before and one after are refused and reported. What the model
/// saw.
fn all_of_it(
    change: fn(Profile) -> Profile,
    firmware: impl FnOnce(&mut Firmware),
) -> (Vec<Observation>, usize) {
    let machine = ModelMachine::with_profiles(&parse(SCENARIO), 3, |it| change(profile(it)));
    let machine = Arc::new(machine.unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    firmware(&mut config.firmware);
    let smmu = common::enable(&iommu, &world, 0, config);
    let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&master, &domain).unwrap();
    let reach = || machine.model(0).unwrap().translate(Access::read(1, IOVA)).is_ok();
    assert!(!reach());
    let attributes = Attributes::normal(Prot::READ);
    let memory = world.frames().allocate(PAGE, PAGE).unwrap();
    // SAFETY: nobody else uses that memory, which lives as long as the test.
    unsafe { domain.map(Iova(IOVA), PhysAddr(memory), PAGE, attributes).unwrap() };
    assert!(reach());
    machine.model(0).unwrap().observations();
    // SAFETY: as above.
    assert_eq!(unsafe { domain.unmap(Iova(IOVA), PAGE) }, Ok(PAGE));
    let seen = machine.model(0).unwrap().observations();
    assert!(!reach());
    let mut events = 0;
    let mut sink = |report| events += usize::from(matches!(report, Report::Event(_)));
    while iommu.handle_interrupt(&smmu, Interrupt::Any, 8, &mut sink) {}
    (seen, events)
}

fn commands(seen: &[Observation]) -> Vec<Opcode> {
    let opcode = |it: &Observation| match it {
        Observation::Command { command, .. } => command.opcode(),
        _ => None,
    };
    seen.iter().filter_map(opcode).collect()
}

#[test]
fn an_invalidation_is_given_once_or_where_firmware_says_so_twice() {
    let (seen, events) = all_of_it(|profile| profile, |_| ());
    assert_eq!((commands(&seen), events), (vec![Opcode::TlbiNhVa, Opcode::Sync], 2));
    let (seen, events) =
        all_of_it(|profile| profile, |firmware| firmware.repeated_invalidation = true);
    let twice = vec![Opcode::TlbiNhVa, Opcode::Sync, Opcode::TlbiNhVa, Opcode::Sync];
    assert_eq!((commands(&seen), events), (twice, 2));
    // The second is given when the first is complete.
    let at = |wanted: fn(&Observation) -> bool| seen.iter().position(wanted).unwrap();
    let complete = at(|it| matches!(it, Observation::SyncCompleted { .. }));
    let last = |it: &Observation| matches!(it, Observation::Command { command, .. } if command.opcode() == Some(Opcode::TlbiNhVa));
    assert!(complete < seen.iter().rposition(last).unwrap());
}

#[test]
fn an_smmu_of_one_page_reports_as_any_other() {
    let one_page = |profile| Profile { page_0_only: true, ..profile };
    let (_, events) = all_of_it(one_page, |firmware| firmware.page_0_only = true);
    assert_eq!(events, 2);
}

#[test]
fn no_queue_is_looked_for_in_a_second_page_that_there_is_not() {
    let machine = ModelMachine::with_profiles(&parse(SCENARIO), 3, |it| {
        Profile { page_0_only: true, ..profile(it) }.ats(true).pri(8)
    });
    let machine = Arc::new(machine.unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.firmware.page_0_only = true;
    let smmu = common::enable(&iommu, &world, 0, config);
    while iommu.handle_interrupt(&smmu, Interrupt::Any, 8, &mut |_| ()) {}
    let seen = machine.model(0).unwrap().observations();
    assert!(!seen.iter().any(|it| matches!(it, Observation::Misuse(_))), "{seen:?}");
}

#[test]
fn the_second_page_of_an_smmu_that_has_one_is_missed() {
    let machine = ModelMachine::with_profiles(&parse(SCENARIO), 3, |it| Profile {
        page_0_only: true,
        ..profile(it)
    });
    let machine = Arc::new(machine.unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let _smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
    let seen = machine.model(0).unwrap().observations();
    let missed = |it: &Observation| {
        matches!(it, Observation::Misuse(Misuse::BadAccess { offset: 0x1_00a8 | 0x1_00ac, .. }))
    };
    assert!(seen.iter().any(missed));
}

/// HiSilicon's PTT works with physical addresses alone: identity or nothing, whatever is asked for.
#[test]
fn a_master_of_physical_addresses_alone_has_identity_or_nothing() {
    let machine = ModelMachine::with_profiles(&parse(SCENARIO), 3, |it| profile(it).ssidsize(4));
    let machine = Arc::new(machine.unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    let smmu = common::enable(&iommu, &world, 0, config);
    let config = MasterConfig::default().with_identity_only().with_pasid_bits(4);
    let master = iommu.add_master(&smmu, &[StreamId(1)], config).unwrap();
    let reach = || {
        let mut model = machine.model(0).unwrap();
        model.translate(Access::read(1, IOVA)).ok().map(|found| found.pa)
    };
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    let guest = iommu.create_domain(DomainConfig::default().with_stage_2()).unwrap();
    let pasid = iommu.allocate_pasid().unwrap();
    let refused = Err(AttachError::IdentityOnly { instance: master.instance() });
    for attached in [None, Some(IOVA)] {
        if attached.is_some() {
            // SAFETY: the device is the test's.
            unsafe { iommu.attach_identity(&master).unwrap() };
        }
        assert_eq!(reach(), attached);
        machine.model(0).unwrap().observations();
        assert_eq!(iommu.attach(&master, &domain), refused);
        assert_eq!(iommu.attach(&master, &guest), refused);
        assert_eq!(iommu.attach_pasid(&master, pasid, &domain), refused);
        // Nothing was changed, and nothing is left.
        assert_eq!(commands(&machine.model(0).unwrap().observations()), []);
        assert_eq!(domain.statistics().masters + smmu.statistics().tags, 0);
        assert_eq!(reach(), attached);
    }
    iommu.detach(&master).unwrap();
    assert_eq!(reach(), None);
    master.close().unwrap();
}
