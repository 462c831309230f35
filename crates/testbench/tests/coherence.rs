// SPDX-License-Identifier: MIT OR Apache-2.0
//! Firmware's word about coherence against IDR0.COHACC: what the SMMU is told of how to access tables and queues, and that
//! it works, whatever it really does; and an SMMU of QEMU's that has wide VMIDs and no stage 2.

mod common;

use smmuv3_testbench::inside::Inside as _;
use std::sync::Arc;

use smmuv3::{
    Attributes, Coherence, Config, DomainConfig, InstanceConfig, Iommu, Iova, MasterConfig,
    PhysAddr, Prot, StreamId,
};
use smmuv3_formats::register::Cr1;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::machine_qemu::QemuMachine;
use smmuv3_testbench::platform::{TestPlatform, World};

const SCENARIO: &str = r#"
name = "coherence"
[[instance]]
name = "smmu"
coherent = COHACC
[[master]]
name = "nic"
instance = "smmu"
streams = [1]
"#;

const PAGE: u64 = 0x1000;
const IOVA: u64 = 0x1000_0000;

#[test]
fn tables_and_queues_are_accessed_as_firmware_says() {
    for (coherent, cohacc, expected) in [
        (Coherence::Detected, true, true),
        (Coherence::Detected, false, false),
        (Coherence::Yes, true, true),
        // The model does not snoop all the same; this platform cleans whatever it is told.
        (Coherence::Yes, false, true),
        (Coherence::No, true, false),
        (Coherence::No, false, false),
    ] {
        let case = format!("{coherent:?}, COHACC {cohacc}");
        let scenario = common::parse(&SCENARIO.replace("COHACC", &cohacc.to_string()));
        let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
        let world = World::new(machine.clone(), 1);
        let memory = world.frames().allocate(PAGE, PAGE).unwrap();
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mut config = InstanceConfig::named("smmu");
        (config.sid_bits, config.coherent) = (6, coherent);
        let smmu = common::enable(&iommu, &world, 0, config);
        let features = smmu.features();
        assert_eq!(
            (features.registers.idr0.cohacc(), features.coherent),
            (cohacc, expected),
            "{case}"
        );

        let nic = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is the test's.
        unsafe { domain.map(Iova(IOVA), PhysAddr(memory), PAGE, attributes) }.unwrap();
        iommu.attach(&nic, &domain).unwrap();
        let word = |pa| machine.ram().read64(pa).unwrap();
        // CR1: table and queue SH 3, OC and IC 1 (§2.4). STE: S1CIR 1, S1COR 1, S1CSH 3 (§5.2). CD: IR0 1, OR0 1, SH0 3
        // (§6). Or non-cacheable, and outer shareable for walks.
        let ste = smmu.inside().streams().base_register().addr() + 64;
        let context = word(ste) & 0x000f_ffff_ffff_ffc0;
        let told = [
            u64::from(machine.read32(0, Cr1::OFFSET)),
            word(ste + 8) >> 2 & 0x3f,
            word(context) >> 8 & 0x3f,
        ];
        let wanted = if expected { [0xd75, 0x35, 0x35] } else { [0, 0x20, 0x20] };
        assert_eq!(told, wanted, "{case}: {told:x?}");
        let parts = machine.dma(0, None, IOVA, Dma::Write(&[7; 8])).unwrap();
        assert_eq!(parts[0].outcome, Outcome::Reached(memory), "{case}");
    }
}

const STAGE_1_ONLY: &str = r#"
name = "stage 1"
[[instance]]
name = "first"
stages = [1]
[[instance]]
name = "second"
stages = [1]
[[master]]
name = "nic"
instance = "first"
streams = [0x900]
[[master]]
name = "gpu"
instance = "second"
streams = [0x1100]
"#;

/// `-device arm-smmuv3,stage=1` of QEMU 11.1: IDR0 is 0x0d44101a.
#[test]
fn an_smmu_of_qemu_without_stage_2_is_driven_although_its_vmids_are_wide() {
    let Some(binary) = common::qemu_or_skip() else { return };
    let machine = Arc::new(QemuMachine::start(&common::parse(STAGE_1_ONLY), binary).unwrap());
    let world = World::new(machine.clone(), 2);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let memory = world.frames().allocate(PAGE, PAGE).unwrap();
    let smmus = [0, 1].map(|id| common::enable(&iommu, &world, id, InstanceConfig::named("smmu")));
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the memory is the test's.
    unsafe { domain.map(Iova(IOVA), PhysAddr(memory), PAGE, attributes) }.unwrap();
    for (master, (smmu, stream)) in smmus.iter().zip([0x900, 0x1100]).enumerate() {
        let idr0 = smmu.features().registers.idr0;
        assert_eq!((idr0.0, smmu.features().vmid_bits), (0x0d44_101a, 8));
        let added = iommu.add_master(smmu, &[StreamId(stream)], MasterConfig::default()).unwrap();
        iommu.attach(&added, &domain).unwrap();
        let data = [master as u8 + 1; 4];
        machine.dma(master, None, IOVA, Dma::Write(&data)).unwrap();
        let mut bytes = [0; 4];
        machine.ram().read(memory, &mut bytes).unwrap();
        assert_eq!(bytes, data, "{master}");
        iommu.detach(&added).unwrap();
    }
    // SAFETY: as above.
    assert_eq!(unsafe { domain.unmap(Iova(IOVA), PAGE) }, Ok(PAGE));
}
