// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a device tree to masters, on modelled SMMUs.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::sync::Arc;

use common::tree::Tree;
use smmuv3::{
    AddMasterError, Attributes, Config, DomainConfig, Interrupt, Iommu, Iova, PhysAddr, Prot,
    StreamId,
};
use smmuv3_discovery::{
    BringUpError, Device, InstanceIndex, LookupError, MasterError, System, Topology,
};
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;

/// Two SMMUs; a network device on PCI behind the first, one with a node of its own behind the second.
const MACHINE: &str = r#"
name = "two"
[[instance]]
name = "smmu0"
[[instance]]
name = "smmu1"
[[master]]
name = "nic"
instance = "smmu0"
streams = [0x10]
[[master]]
name = "dma"
instance = "smmu1"
streams = [7, 9]
[[domain]]
name = "shared"
[[memory]]
name = "buffer"
size = "64K"
"#;

/// The same machine as a device tree says it.
fn tree() -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.cells("interrupt-parent", &[1]);
    tree.open("gic@8000000").text("compatible", "arm,gic-v3").cells("phandle", &[1]);
    tree.cells("#interrupt-cells", &[3]).close();
    for (name, base, phandle, spi) in
        [("iommu@9050000", 0x905_0000, 2, 74), ("iommu@9080000", 0x908_0000, 3, 90)]
    {
        tree.open(name).text("compatible", "arm,smmu-v3").cells("reg", &[0, base, 0, 0x2_0000]);
        tree.cells("phandle", &[phandle]).cells("#iommu-cells", &[1]).bytes("dma-coherent", &[]);
        tree.cells("interrupts", &[0, spi, 1, 0, spi + 1, 1]);
        tree.bytes("interrupt-names", b"eventq\0gerror\0").close();
    }
    tree.open("pcie@10000000").text("device_type", "pci").cells("bus-range", &[0, 0]);
    tree.cells("linux,pci-domain", &[0]).cells("iommu-map", &[0, 2, 0, 0x100]).close();
    tree.open("dma@1000").cells("iommus", &[3, 7, 3, 9]).close();
    tree.close().blob()
}

struct Rig {
    machine: Arc<ModelMachine>,
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
}

fn rig(machine: &str) -> Rig {
    let scenario = Scenario::parse(machine, "test").unwrap_or_else(|errors| panic!("{errors}"));
    let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
    let world = World::new(machine.clone(), scenario.instances.len());
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    Rig { machine, world, iommu }
}

impl Rig {
    fn bring_up(&self, tree: &[u8], without: &[u64]) -> System<TestPlatform> {
        let topology = Topology::from_device_tree(tree).unwrap();
        assert_eq!(topology.check(), []);
        let bases = [0x905_0000, 0x908_0000];
        let system = topology.bring_up(
            &self.iommu,
            |smmu| {
                let base = smmu.registers.base;
                let instance = bases.iter().position(|at| *at == base)?;
                let mmio = TestMmio { world: self.world.clone(), instance };
                (!without.contains(&base)).then_some(mmio)
            },
            |_, config| config.event_queue_log2 = 5,
        );
        system.unwrap()
    }
}

#[test]
fn a_device_of_either_kind_becomes_a_master_that_does_dma() {
    let rig = rig(MACHINE);
    let system = rig.bring_up(&tree(), &[]);
    assert_eq!((system.smmus().count(), system.failures().count()), (2, 0));
    let smmu = system.smmu(InstanceIndex(0)).unwrap();
    assert_eq!(smmu.instance().unwrap().config().name, "smmu0");
    assert_eq!(smmu.instance().unwrap().config().event_queue_log2, 5);

    // 00:02.0 is stream 0x10.
    let nic = system.master(Device::pci(0, 2, 0)).unwrap();
    let dma = system.master(Device::Path("/dma@1000")).unwrap();
    let domain = rig.iommu.create_domain(DomainConfig::default()).unwrap();
    let buffer = PhysAddr(rig.machine.ram().base() + 0x80_0000);
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: nothing else uses that memory of the machine, nor these input addresses.
    unsafe { domain.map(Iova(0x1_0000), buffer, 0x1000, attributes).unwrap() };
    for (device, master) in [(0, &nic), (1, &dma)] {
        let write = |iova| rig.machine.dma(device, None, iova, Dma::Write(&[1, 2, 3, 4])).unwrap();
        assert_eq!(write(0x1_0000)[0].outcome, Outcome::Refused, "device {device}");
        rig.iommu.attach(master, &domain).unwrap();
        assert_eq!(write(0x1_0000)[0].outcome, Outcome::Reached(buffer.0), "device {device}");
        assert_eq!(write(0x2_0000)[0].outcome, Outcome::Refused, "device {device}");
    }
}

#[test]
fn a_device_becomes_a_master_once() {
    let rig = rig(MACHINE);
    let system = rig.bring_up(&tree(), &[]);
    let dma = system.master(Device::Path("/dma@1000")).unwrap();
    let taken = AddMasterError::Taken { stream: StreamId(7) };
    assert_eq!(system.master(Device::Path("/dma@1000")).err(), Some(MasterError::Add(taken)));
    dma.close().map_err(|_| ()).unwrap();
    assert!(system.master(Device::Path("/dma@1000")).is_ok());
}

#[test]
fn devices_that_firmware_does_not_have_behind_an_smmu_become_no_masters() {
    let rig = rig(MACHINE);
    let system = rig.bring_up(&tree(), &[]);
    let why = |device| match system.master(device) {
        Err(MasterError::Lookup(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{device} is a master"),
    };
    assert_eq!(why(Device::Path("/dma@2000")), LookupError::UnknownDevice);
    assert_eq!(why(Device::pci(1, 0, 0)), LookupError::UnknownDevice);
    let other = Device::Pci { segment: 1, bus: 0, device: 2, function: 0 };
    assert_eq!(why(other), LookupError::UnknownDevice);
    assert_eq!(why(Device::pci(0, 32, 0)), LookupError::UnknownDevice);
}

#[test]
fn an_smmu_that_is_left_out_does_not_keep_the_others_down() {
    let rig = rig(MACHINE);
    let system = rig.bring_up(&tree(), &[0x905_0000]);
    let failures: Vec<_> = system.failures().map(|(index, _, why)| (index, why)).collect();
    assert_eq!(failures, [(InstanceIndex(0), BringUpError::NoRegisters)]);
    assert!(system.master(Device::Path("/dma@1000")).is_ok());
    let down = MasterError::Down { instance: InstanceIndex(0), why: BringUpError::NoRegisters };
    assert_eq!(system.master(Device::pci(0, 2, 0)).err(), Some(down));
}

#[test]
fn an_smmu_that_is_not_as_coherent_as_firmware_says_is_left_alone() {
    let machine = MACHINE.replacen("name = \"smmu0\"", "name = \"smmu0\"\ncoherent = false", 1);
    let rig = rig(&machine);
    let system = rig.bring_up(&tree(), &[]);
    let failures: Vec<_> = system.failures().map(|(index, _, why)| (index, why)).collect();
    assert_eq!(failures, [(InstanceIndex(0), BringUpError::Coherence)]);
    // CR0: nothing was enabled.
    assert_eq!(rig.machine.read32(0, 0x20), 0);
}

#[test]
fn an_interrupt_leads_to_the_smmu_that_raised_it() {
    let rig = rig(MACHINE);
    let system = rig.bring_up(&tree(), &[]);
    let raised = |intid| -> Vec<_> {
        system.raised_by(intid).map(|(smmu, which)| (smmu.id().index(), which)).collect()
    };
    assert_eq!(raised(32 + 74), [(0, Interrupt::Events)]);
    assert_eq!(raised(32 + 75), [(0, Interrupt::Error)]);
    assert_eq!(raised(32 + 90), [(1, Interrupt::Events)]);
    assert_eq!(raised(32), []);
}
