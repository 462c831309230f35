// SPDX-License-Identifier: MIT OR Apache-2.0
//! A master whose move to another bank was not confirmed, and whose device keeps translations.

use std::sync::Arc;

use smmuv3::{
    AsidPolicy, AttachError, Config, DomainConfig, InstanceConfig, Iommu, MasterConfig, PhysAddr,
    ProcessConfig, StreamId,
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
    let process = unsafe { iommu.add_process(ProcessConfig::new(PhysAddr(tables), tcr, 0xff), 0) };
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
