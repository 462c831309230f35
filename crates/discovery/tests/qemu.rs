// SPDX-License-Identifier: MIT OR Apache-2.0
//! What QEMU's own firmware tables say, as its machine really is.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use common::qemu;
use smmuv3_discovery::{
    Device, DoorbellKind, InstanceIndex, Interrupts, Line, LookupError, Model, Region, Space,
    Target, Topology, Trigger, What,
};

/// Four edge-triggered lines, from the first: event queue, PRI, CMD_SYNC, errors.
fn lines(first: u32) -> Interrupts {
    let line = |n| Some(Line { intid: first + n, trigger: Trigger::Edge });
    let mut interrupts = Interrupts::default();
    (interrupts.event, interrupts.pri) = (line(0), line(1));
    (interrupts.sync, interrupts.gerror) = (line(2), line(3));
    interrupts
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

    let mut reserved = Vec::new();
    topology.reserved_for(Device::pci(0, 1, 0), &mut |region| reserved.push(region)).unwrap();
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
