// SPDX-License-Identifier: MIT OR Apache-2.0
//! `iommus`, `iommu-map`, and what else devices and host bridges say.

use smmuv3_discovery::{
    Device, DoorbellIndex, InstanceIndex, LookupError, Msi, Region, Severity, Space, What, Window,
};

use super::{findings, host, read, streams, tree};

#[test]
fn a_device_with_several_streams() {
    let topology = read(&tree(|tree| {
        tree.open("soc").open("dma@1000").cells("iommus", &[3, 7, 3, 5, 3, 7]);
        tree.bytes("dma-can-stall", &[]).cells("pasid-num-bits", &[8]).close().close();
    }));
    assert_eq!(streams(&topology, Device::Path("/soc/dma@1000")), Ok((1, vec![7, 5])));
    let device = &topology.devices()[0];
    assert_eq!((device.can_stall, device.pasid_bits, device.coherent), (true, 8, false));
    assert_eq!(findings(&topology), [""; 0]);
}

#[test]
fn a_device_behind_two_smmus_cannot_be_used() {
    let topology = read(&tree(|tree| {
        tree.open("dma").cells("iommus", &[2, 7, 3, 7]).close();
    }));
    let (first, second) = (InstanceIndex(0), InstanceIndex(1));
    let why = LookupError::SeveralSmmus { first, second };
    assert_eq!(streams(&topology, Device::Path("/dma")), Err(why));
    assert_eq!(
        findings(&topology),
        ["error: /dma: it issues streams to both SMMU 0 and SMMU 1: a master is behind one SMMU"]
    );
}

#[test]
fn devices_that_share_streams_are_told_of() {
    let topology = read(&tree(|tree| {
        tree.open("one").cells("iommus", &[2, 7, 2, 0x109]).close();
        tree.open("two").cells("iommus", &[2, 7]).close();
        tree.open("three").cells("iommus", &[3, 7]).close();
        host(tree, "pcie", 0).cells("iommu-map", &[0, 2, 0x100, 0x100]).close();
    }));
    let all = findings(&topology);
    let told = "the devices cannot be told apart";
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(all.iter().all(|one| one.starts_with("error: ") && one.ends_with(told)), "{all:#?}");
    assert!(
        all.iter().any(|one| one.contains("stream 0x109 of SMMU 0 is also one of ")),
        "{all:#?}"
    );
    assert!(all.iter().any(|one| one.contains("stream 0x7 of SMMU 0 is")), "{all:#?}");
}

#[test]
fn references_that_lead_nowhere() {
    let topology = read(&tree(|tree| {
        tree.open("nowhere").cells("iommus", &[99, 7]).close();
        tree.open("gic").cells("iommus", &[1, 7]).close();
        tree.open("old").cells("phandle", &[8]).cells("#iommu-cells", &[2]);
        tree.text("compatible", "arm,mmu-500").close();
        tree.open("behind-old").cells("iommus", &[8, 1, 2, 2, 7]).close();
        tree.open("cut").cells("iommus", &[2]).close();
        tree.open("torn").bytes("iommus", &[0, 0, 0]).close();
    }));
    let look_up = |path| streams(&topology, Device::Path(path));
    for path in ["/nowhere", "/gic", "/behind-old", "/cut", "/torn"] {
        assert_eq!(look_up(path), Err(LookupError::NotBehindAnSmmu), "{path}");
    }
    let of = |place: &str| -> Vec<_> {
        let all = topology.check().iter().filter(|finding| finding.place == place);
        all.map(|finding| &finding.what).collect()
    };
    assert_eq!(of("/nowhere"), [&What::Nowhere { reference: 99 }, &What::NoSmmu]);
    assert_eq!(of("/gic"), [&What::NotAnSmmu { reference: 1 }, &What::NoSmmu]);
    assert_eq!(of("/behind-old"), [&What::NotDriven { other: "/old".into() }]);
    assert_eq!(of("/cut")[0], &What::Length { property: "iommus", len: 4, unit: 8 });
    assert_eq!(of("/torn")[0], &What::Length { property: "iommus", len: 3, unit: 4 });
}

#[test]
fn an_smmu_that_is_off_does_not_translate() {
    let topology = read(&tree(|tree| {
        tree.open("off").text("compatible", "arm,smmu-v3").text("status", "disabled");
        tree.cells("phandle", &[8]).cells("#iommu-cells", &[1]).close();
        tree.open("dma").cells("iommus", &[8, 7]).close();
        tree.open("unused").text("status", "disabled").cells("iommus", &[2, 7]).close();
        tree.open("bus").text("status", "disabled");
        tree.open("below").text("status", "okay").cells("iommus", &[2, 7]).close().close();
    }));
    assert_eq!(streams(&topology, Device::Path("/dma")), Err(LookupError::NotBehindAnSmmu));
    for path in ["/unused", "/bus/below"] {
        assert_eq!(streams(&topology, Device::Path(path)), Err(LookupError::UnknownDevice));
    }
    assert_eq!(topology.check()[0].what, What::NotDriven { other: "/off".into() });
    assert_eq!(topology.check()[0].severity(), Severity::Note);
}

#[test]
fn host_bridges_of_several_segments_and_bus_ranges() {
    let topology = read(&tree(|tree| {
        host(tree, "pcie@1", 0).cells("bus-range", &[0, 0x7f]);
        tree.cells("iommu-map", &[0, 2, 0x1_0000, 0x8000]).close();
        host(tree, "pcie@2", 0).cells("bus-range", &[0x80, 0xff]);
        tree.cells("iommu-map", &[0x8000, 3, 0, 0x7f00]).close();
        host(tree, "pcie@3", 5).cells("iommu-map", &[0x100, 3, 0x2_0000, 0x100]).close();
    }));
    let pci =
        |segment, bus| streams(&topology, Device::Pci { segment, bus, device: 1, function: 2 });
    assert_eq!(pci(0, 0x7f), Ok((0, vec![0x1_7f0a])));
    assert_eq!(pci(0, 0x80), Ok((1, vec![0xa])));
    // Its length was one bus short.
    assert_eq!(pci(0, 0xff), Err(LookupError::NotBehindAnSmmu));
    assert_eq!(pci(5, 0), Err(LookupError::NotBehindAnSmmu));
    assert_eq!(pci(5, 1), Ok((1, vec![0x2_000a])));
    assert_eq!(pci(1, 1), Err(LookupError::UnknownDevice));
    assert_eq!(findings(&topology), [""; 0]);
}

#[test]
fn a_mask_makes_functions_share_a_stream() {
    let topology = read(&tree(|tree| {
        host(tree, "pcie", 0).cells("iommu-map", &[0, 2, 0x40, 0x1_0000]);
        tree.cells("iommu-map-mask", &[0xfff8]).close();
    }));
    let stream = |function| streams(&topology, Device::pci(1, 2, function));
    assert_eq!(stream(0), Ok((0, vec![0x150])));
    assert_eq!(stream(7), stream(0));
}

#[test]
fn mappings_of_a_host_bridge_that_make_no_sense() {
    let topology = read(&tree(|tree| {
        host(tree, "pcie@1", 0).cells("iommu-map-mask", &[0xff00]);
        tree.cells(
            "iommu-map",
            &[8, 2, 0x1000, 1, 0, 2, 0, 0, 0xffff_ffff, 2, 0, 2, 0, 2, 0xffff_ffff, 2],
        );
        tree.close();
        host(tree, "pcie@2", 1).cells("iommu-map", &[0, 2, 0, 0x100, 0x80, 3, 0, 0x100]).close();
        host(tree, "pcie@3", 2).bytes("iommu-map", &[0; 15]).close();
        host(tree, "pcie@4", 3).close();
    }));
    let of = |place: &str| -> Vec<_> {
        let all = topology.check().iter().filter(|finding| finding.place == place);
        all.map(|finding| &finding.what).collect()
    };
    let wide = |first, count, output| What::IdsTooWide { first, count, output };
    assert_eq!(
        of("/pcie@1"),
        [
            &What::Masked { first: 8, mask: 0xff00 },
            &wide(0, 0, 0),
            &wide(0xffff_ffff, 2, 0),
            &wide(0, 2, 0xffff_ffff)
        ]
    );
    assert_eq!(of("/pcie@2"), [&What::MappingsOverlap { first: 0x80, last: 0xff }]);
    let length = What::Length { property: "iommu-map", len: 15, unit: 16 };
    assert_eq!(of("/pcie@3"), [&length, &What::NoSmmu]);
    assert_eq!(of("/pcie@4"), [&What::NoSmmu]);
}

#[test]
fn an_id_that_two_mappings_are_for_alone() {
    let topology = read(&tree(|tree| {
        host(tree, "pcie", 0);
        tree.cells("iommu-map", &[8, 2, 0x100, 1, 8, 2, 0x200, 1, 9, 2, 0x300, 1, 9, 2, 0x300, 1]);
        tree.close();
    }));
    let ambiguous = Err(LookupError::Ambiguous { id: 8 });
    assert_eq!(streams(&topology, Device::pci(0, 1, 0)), ambiguous);
    // These two say the same.
    assert_eq!(streams(&topology, Device::pci(0, 1, 1)), Ok((0, vec![0x300])));
}

#[test]
fn a_bus_that_is_not_pci() {
    let topology = read(&tree(|tree| {
        tree.open("mc").cells("iommu-map", &[0x20, 2, 0x80, 0x10]);
        tree.cells("msi-map", &[0x20, 4, 0x300, 0x10]).close();
    }));
    let on_bus = |id| Device::OnBus { path: "/mc", id };
    assert_eq!(streams(&topology, on_bus(0x2f)), Ok((0, vec![0x8f])));
    assert_eq!(streams(&topology, on_bus(0x30)), Err(LookupError::NotBehindAnSmmu));
    // The bus itself issues none.
    assert_eq!(streams(&topology, Device::Path("/mc")), Err(LookupError::NotBehindAnSmmu));
    let msi = topology.msi_of(on_bus(0x21)).unwrap();
    assert_eq!(msi, Some(Msi { doorbell: DoorbellIndex(0), device_id: 0x301 }));
}

#[test]
fn messages_of_a_device_of_a_bus_without_a_map_and_of_an_smmu() {
    let topology = read(&tree(|tree| {
        tree.open("dma").cells("iommus", &[2, 7]).cells("msi-parent", &[4, 0x55]).close();
        host(tree, "pcie", 0).cells("iommu-map", &[0, 2, 0, 0x1_0000]).cells("msi-parent", &[4, 0]);
        tree.close().open("iommu@3").text("compatible", "arm,smmu-v3");
        tree.cells("reg", &[0, 0xa00_0000, 0, 0x2_0000]).cells("msi-parent", &[4, 0x77]).close();
    }));
    let id = |device| topology.msi_of(device).unwrap().map(|msi| msi.device_id);
    assert_eq!(id(Device::Path("/dma")), Some(0x55));
    assert_eq!(id(Device::pci(1, 0, 3)), Some(0x103));
    assert_eq!(topology.instances()[2].msi.map(|msi| msi.device_id), Some(0x77));
    assert_eq!(topology.instances()[0].msi, None);
}

#[test]
fn windows_are_no_iovas_wherever_the_bus_of_the_bridge_is() {
    let topology = read(&tree(|tree| {
        tree.open("soc").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        tree.cells("ranges", &[0, 0, 0x100, 0, 1, 0]);
        host(tree, "pcie", 0).cells("iommu-map", &[0, 2, 0, 0x1_0000]);
        let memory = [0x4200_0000, 0, 0x8000_0000, 0, 0x1000_0000, 0, 0x1000_0000];
        // Beyond what the bus above has; configuration space.
        let beyond = [0x0300_0000, 1, 0, 2, 0, 0, 0x1000];
        let config = [0, 0, 0, 0, 0x2000_0000, 0, 0x1000];
        tree.cells("ranges", &[memory, beyond, config].concat()).close().close();
    }));
    let window = Window {
        space: Space::Memory32,
        prefetchable: true,
        pci: 0x8000_0000,
        cpu: 0x100_1000_0000,
        len: 0x1000_0000,
    };
    assert_eq!(topology.roots()[0].windows, [window]);
    assert_eq!(
        findings(&topology),
        ["error: /soc/pcie: address 0x200000000 of `ranges` is no address of the CPUs"]
    );
    let reserved = topology.reserved_for(Device::pci(0, 1, 0)).unwrap();
    assert_eq!(reserved, [Region { base: 0x8000_0000, len: 0x1000_0000 }]);
}

#[test]
fn bridges_behind_a_host_bridge_are_no_host_bridges() {
    let topology = read(&tree(|tree| {
        host(tree, "pcie", 0).cells("iommu-map", &[0, 2, 0, 0x1_0000]);
        tree.open("pci@0,0").text("device_type", "pci").close().close();
    }));
    assert_eq!(topology.roots().len(), 1);
}

#[test]
fn segments_that_nobody_gives() {
    let topology = read(&tree(|tree| {
        host(tree, "pcie@1", 1).cells("iommu-map", &[0, 2, 0, 0x1_0000]).close();
        for (name, smmu) in [("pcie@2", 3), ("pcie@3", 3)] {
            tree.open(name).text("device_type", "pci").cells("iommu-map", &[0, smmu, 0, 1]).close();
        }
    }));
    let segments: Vec<_> = topology.roots().iter().map(|root| root.segment).collect();
    assert_eq!(segments, [1, 0, 2]);
    let notes = topology.check().iter().filter(|one| matches!(one.what, What::Segment { .. }));
    assert_eq!(notes.count(), 2);
}

#[test]
fn a_phandle_that_two_nodes_have() {
    let topology = read(&tree(|tree| {
        tree.open("late").cells("phandle", &[2]).cells("#iommu-cells", &[1]).close();
        tree.open("dma").cells("iommus", &[2, 7]).close();
    }));
    assert_eq!(streams(&topology, Device::Path("/dma")), Ok((0, vec![7])));
    assert_eq!(
        findings(&topology),
        [
            "warning: /late: phandle 0x2 belongs to an earlier node, too, which is the one that is taken"
        ]
    );
}
