// SPDX-License-Identifier: MIT OR Apache-2.0
//! What QEMU's own firmware tables say, as its machine really is.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::sync::Arc;

use common::qemu;
use smmuv3::{Attributes, Config, DomainConfig, Iommu, Iova, PhysAddr, Prot};
use smmuv3_discovery::iort::Iort;
use smmuv3_discovery::{
    Device, DoorbellKind, Interrupts, Line, LookupError, Model, Region, Space, Topology, Trigger,
};
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::machine_qemu::QemuMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::qemu::testdev;
use smmuv3_testbench::scenario::Scenario;

/// Four edge-triggered lines, from the first: event queue, PRI, CMD_SYNC, errors.
fn lines(first: u32) -> Interrupts {
    let line = |n| Some(Line { intid: first + n, trigger: Trigger::Edge });
    Interrupts { event: line(0), pri: line(1), sync: line(2), gerror: line(3) }
}

fn streams(topology: &Topology, device: Device<'_>) -> Result<(usize, Vec<u32>), LookupError> {
    let (instance, streams) = topology.streams_of(device)?;
    Ok((instance.0, streams.iter().map(|stream| stream.0).collect()))
}

#[test]
fn the_device_tree_of_one_smmu() {
    let Some(binary) = qemu::any() else { return };
    let topology =
        Topology::from_device_tree(&qemu::device_tree(&binary, qemu::ONE, "one")).unwrap();
    assert_eq!(topology.check(), []);
    let [smmu] = topology.instances() else { panic!("{topology:?}") };
    assert_eq!(smmu.name, "/smmuv3@9050000");
    assert_eq!(smmu.registers, Region { base: 0x0905_0000, len: 0x2_0000 });
    assert!(smmu.coherent && topology.coherent());
    // SPIs 74 to 77.
    assert_eq!(smmu.interrupts, lines(106));
    assert_eq!((smmu.model, smmu.msi), (Model::Generic, None));

    let [root] = topology.roots() else { panic!("{topology:?}") };
    assert_eq!((root.segment, root.buses, root.coherent), (0, (0, 255), true));
    assert_eq!(root.ecam, Some(Region { base: 0x40_1000_0000, len: 0x1000_0000 }));
    let windows: Vec<_> = root.windows.iter().map(|w| (w.space, w.pci, w.cpu, w.len)).collect();
    assert_eq!(
        windows,
        [
            (Space::Io, 0, 0x3eff_0000, 0x1_0000),
            (Space::Memory32, 0x1000_0000, 0x1000_0000, 0x2eff_0000),
            (Space::Memory64, 0x80_0000_0000, 0x80_0000_0000, 0x80_0000_0000),
        ]
    );
    assert_eq!(streams(&topology, Device::pci(0, 1, 0)), Ok((0, vec![8])));
    assert_eq!(streams(&topology, Device::pci(255, 31, 7)), Ok((0, vec![0xffff])));

    let [its] = topology.doorbells() else { panic!("{topology:?}") };
    assert_eq!(its.kind, DoorbellKind::Its { id: 0 });
    // GITS_TRANSLATER.
    assert_eq!(its.register(), Some(0x0809_0040));
    let msi = topology.msi_of(Device::pci(3, 2, 1)).unwrap().unwrap();
    assert_eq!((msi.doorbell.0, msi.device_id), (0, 0x311));

    let reserved = topology.reserved_for(Device::pci(0, 1, 0)).unwrap();
    assert_eq!(
        reserved,
        [
            Region { base: 0x1000_0000, len: 0x2eff_0000 },
            Region { base: 0x80_0000_0000, len: 0x80_0000_0000 }
        ]
    );
}

#[test]
fn a_gicv2m_frame_takes_messages_where_there_is_no_its() {
    let Some(binary) = qemu::any() else { return };
    let machine = ["-M", "virt,iommu=smmuv3,gic-version=2"];
    let topology =
        Topology::from_device_tree(&qemu::device_tree(&binary, &machine, "frame")).unwrap();
    assert_eq!(topology.check(), []);
    let [frame] = topology.doorbells() else { panic!("{topology:?}") };
    assert_eq!(frame.kind, DoorbellKind::GicV2m);
    assert_eq!(frame.page, Some(Region { base: 0x0802_0000, len: 0x1000 }));
    assert_eq!(frame.register(), Some(0x0802_0040));
    assert!(topology.msi_of(Device::pci(0, 1, 0)).unwrap().is_some());
}

#[test]
fn the_device_tree_of_three_smmus_knows_the_first_only() {
    let Some(binary) = qemu::several() else { return };
    let topology =
        Topology::from_device_tree(&qemu::device_tree(&binary, qemu::THREE, "three")).unwrap();
    // QEMU says itself that it describes no other in a device tree.
    let [smmu] = topology.instances() else { panic!("{topology:?}") };
    assert_eq!(smmu.registers, Region { base: 0x0c00_0000, len: 0x2_0000 });
    assert_eq!(smmu.interrupts, lines(144));
    assert_eq!(topology.check(), []);
}

/// The IORT of a machine, and what is odd about it.
fn iort(binary: &std::path::PathBuf, machine: &[&str], buses: &[u64]) -> (Topology, Vec<String>) {
    let table = qemu::iort(binary, machine, buses);
    let topology = Topology::from_iort(&Iort::new(&table).unwrap()).unwrap();
    let findings = topology.check().iter().map(ToString::to_string).collect();
    (topology, findings)
}

#[test]
fn the_iort_of_one_smmu() {
    let Some(binary) = qemu::any() else { return };
    let (topology, findings) = iort(&binary, qemu::ONE, &[]);
    // QEMU gives the ITS group and the SMMU the same one, up to 11.1 at least.
    let same = "note: SMMUv3 at offset 0x48: another node has the identifier 0 as well";
    assert!(findings.iter().all(|finding| finding == same), "{findings:?}");
    let [smmu] = topology.instances() else { panic!("{topology:?}") };
    assert_eq!(smmu.registers, Region { base: 0x0905_0000, len: 0x2_0000 });
    assert!(smmu.coherent && topology.coherent());
    assert_eq!(smmu.interrupts, lines(106));
    assert_eq!((smmu.model, smmu.httu, smmu.vatos), (Model::Generic, Some(0), None));
    let [root] = topology.roots() else { panic!("{topology:?}") };
    assert_eq!((root.segment, root.address_bits), (0, Some(64)));
    assert_eq!(streams(&topology, Device::pci(0, 1, 0)), Ok((0, vec![8])));
    // Behind the SMMU and the ITS, both of which leave the ID as it is.
    let msi = topology.msi_of(Device::pci(0, 1, 0)).unwrap().unwrap();
    assert_eq!((msi.doorbell.0, msi.device_id), (0, 8));
    let [its] = topology.doorbells() else { panic!("{topology:?}") };
    assert_eq!((its.kind, its.page), (DoorbellKind::Its { id: 0 }, None));
}

#[test]
fn the_iort_of_three_smmus() {
    let Some(binary) = qemu::several() else { return };
    let (mut topology, findings) = iort(&binary, qemu::THREE, &[8, 16]);
    assert_eq!(findings, [""; 0]);
    let bases: Vec<_> = topology.instances().iter().map(|smmu| smmu.registers.base).collect();
    assert_eq!(bases, [0x0c00_0000, 0x0c02_0000, 0x0c04_0000]);
    let first: Vec<_> = topology.instances().iter().map(|smmu| smmu.interrupts).collect();
    assert_eq!(first, [lines(144), lines(148), lines(152)]);
    assert_eq!(streams(&topology, Device::pci(0, 1, 0)), Ok((0, vec![0x8])));
    // Behind the second, and behind a root port of the third.
    assert_eq!(streams(&topology, Device::pci(8, 1, 0)), Ok((1, vec![0x808])));
    assert_eq!(streams(&topology, Device::pci(17, 31, 7)), Ok((2, vec![0x11ff])));
    // Buses that nobody has.
    assert_eq!(streams(&topology, Device::pci(10, 0, 0)), Err(LookupError::NotBehindAnSmmu));
    // Messages go to the ITS, one way or the other.
    for (bus, id) in [(8, 0x808), (10, 0xa08)] {
        let msi = topology.msi_of(Device::pci(bus, 1, 0)).unwrap().unwrap();
        assert_eq!(msi.device_id, id);
    }
    assert!(topology.place_its(0, 0x0808_0000) && !topology.place_its(1, 0));
    assert_eq!(topology.doorbells()[0].register(), Some(0x0809_0040));
}

#[test]
fn before_buses_are_numbered_qemu_contradicts_itself_and_nothing_is_guessed() {
    let Some(binary) = qemu::several() else { return };
    let (topology, findings) = iort(&binary, qemu::THREE, &[]);
    // The bus behind a root port is 0 until then, and so each host bridge has buses from 0 on.
    assert_eq!(findings.len(), 2, "{findings:?}");
    let overlap = "error: root complex at offset 0x150: several mappings have ids 0x0 to ";
    assert!(findings.iter().all(|finding| finding.starts_with(overlap)), "{findings:?}");
    let ambiguous = |id| Err(LookupError::Ambiguous { id });
    assert_eq!(streams(&topology, Device::pci(0, 1, 0)), ambiguous(8));
    assert_eq!(streams(&topology, Device::pci(8, 1, 0)), ambiguous(0x808));
}

#[test]
fn a_device_issues_the_stream_that_the_iort_says_to_the_smmu_that_it_says() {
    let Some(binary) = qemu::several() else { return };
    let (topology, _) = iort(&binary, qemu::THREE, &[8, 16]);
    // Behind the second and the third SMMU, by StreamID, as the testbench builds it: behind a root port of the root complex
    // whose number is one lower.
    let masters: [(_, _, &[u32]); 2] = [("second", "s1", &[0x900]), ("third", "s2", &[0x1100])];
    let devices = common::machine(&["s0", "s1", "s2"], &masters);
    let scenario = Scenario::parse(&devices, "test").unwrap_or_else(|errors| panic!("{errors}"));
    let machine = Arc::new(QemuMachine::start(&scenario, binary).unwrap());
    let world = World::new(machine.clone(), 3);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let registers = |smmu: &smmuv3_discovery::Instance| {
        let instance = ((smmu.registers.base - 0x0c00_0000) / 0x2_0000) as usize;
        Some(TestMmio { world: world.clone(), instance })
    };
    let system = topology.bring_up(&iommu, registers, |_, _| ()).unwrap();
    assert_eq!(system.failures().count(), 0);
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    let buffer = machine.ram().base() + 0x80_0000;
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: nothing else uses that memory of the machine, nor these input addresses.
    unsafe { domain.map(Iova(0x1_0000), PhysAddr(buffer), 0x1000, attributes).unwrap() };
    for (device, bus) in [(0, 9), (1, 17)] {
        let master = system.master(Device::pci(bus, 0, 0)).unwrap();
        // Every byte of the pattern that these devices can write, in order.
        let data: Vec<u8> = (0..16).map(testdev::pattern).collect();
        let written = || {
            machine.ram().write(buffer, &[0; 16]).unwrap();
            machine.dma(device, None, 0x1_0000, Dma::Write(&data)).unwrap();
            let mut found = [0; 16];
            machine.ram().read(buffer, &mut found).unwrap();
            found == data[..]
        };
        assert!(!written(), "device {device} is blocked");
        iommu.attach(&master, &domain).unwrap();
        assert!(written(), "device {device} is attached");
    }
}
