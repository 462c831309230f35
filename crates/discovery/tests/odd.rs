// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host bridge's node says beyond its map.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use common::tree::Tree;
use smmuv3_discovery::{Device, InstanceIndex, Region, Topology, What};

/// A tree with an SMMU, and the rest.
fn tree(rest: impl FnOnce(&mut Tree)) -> Topology {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("smmu@1000000").text("compatible", "arm,smmu-v3");
    tree.cells("reg", &[0, 0x100_0000, 0, 0x2_0000]);
    tree.cells("phandle", &[1]).cells("#iommu-cells", &[1]).close();
    rest(&mut tree);
    tree.close();
    Topology::from_device_tree(&tree.blob()).unwrap()
}

fn host<'a>(tree: &'a mut Tree, name: &str, stream: u32) -> &'a mut Tree {
    tree.open(name).text("device_type", "pci").cells("iommu-map", &[0, 1, stream, 0x100])
}

#[test]
fn addresses_that_are_reserved_for_a_host_bridge_are_for_all_behind_it() {
    let topology = tree(|tree| {
        host(tree, "pcie@2000", 0).cells("phandle", &[7]).cells("linux,pci-domain", &[0]).close();
        tree.open("reserved-memory").bytes("ranges", &[]);
        tree.open("r").cells("iommu-addresses", &[7, 0, 0x800_0000, 0, 0x10_0000]).close();
        tree.close();
    });
    let reserved = topology.reserved_for(Device::pci(0, 1, 0)).unwrap();
    assert_eq!(reserved, [Region { base: 0x800_0000, len: 0x10_0000 }]);
}

#[test]
fn a_segment_that_nobody_gives_is_not_one_that_a_later_bridge_has() {
    let topology = tree(|tree| {
        host(tree, "pcie@1", 0).close();
        host(tree, "pcie@2", 0x100).cells("linux,pci-domain", &[0]).close();
    });
    let (instance, streams) = topology.streams_of(Device::pci(0, 1, 0)).unwrap();
    assert_eq!((instance, streams[0].0), (InstanceIndex(0), 0x108));
}

#[test]
fn what_dma_ranges_leave_out_is_not_handed_out() {
    let topology = tree(|tree| {
        // RAM at 2 and at 12 GiB, which the bridge passes on.
        let ranges = [0x4300_0000, 2, 0x8000_0000, 2, 0x8000_0000, 1, 0x8000_0000];
        let low = [0x0200_0000, 0, 0x8000_0000, 0, 0x8000_0000, 0, 0x4000_0000];
        host(tree, "pcie@1", 0).cells("#address-cells", &[3]).cells("#size-cells", &[2]);
        tree.cells("dma-ranges", &[ranges, low].concat()).close();
        // Everything, which is no limit; a limit of the bus; and that of a bus with another bus in it.
        host(tree, "pcie@2", 0x100).bytes("dma-ranges", &[]).close();
        tree.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.cells("dma-ranges", &[0, 0, 0, 0x4000_0000]);
        tree.open("bus").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.bytes("dma-ranges", &[]).open("dma").cells("iommus", &[1, 0x200]).close().close();
        tree.close();
    });
    let [root, all] = topology.roots() else { panic!("{topology:?}") };
    assert_eq!((root.address_bits, all.address_bits, all.reserved.len()), (Some(34), None, 0));
    let gap = |base, len| Region { base, len };
    let gaps = [gap(0, 0x8000_0000), gap(0xc000_0000, 0x1_c000_0000)];
    assert_eq!(root.reserved, gaps);
    assert_eq!(topology.reserved_for(Device::pci(0, 1, 0)).unwrap(), gaps);
    let [dma] = topology.devices() else { panic!("{topology:?}") };
    assert_eq!((dma.address_bits, dma.reserved.len()), (Some(30), 0));
    let odd = |what: &What| matches!(what, What::Value { .. } | What::Length { .. });
    assert!(!topology.check().iter().any(|finding| odd(&finding.what)));
}

#[test]
fn dma_ranges_that_move_addresses_are_said_to_be_odd() {
    let topology = tree(|tree| {
        tree.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.cells("dma-ranges", &[0, 8, 0, 0x1_0000]);
        tree.open("dma").cells("iommus", &[1, 0x200]).close();
        tree.open("other").cells("iommus", &[1, 0x201]).close().close();
    });
    let what = What::Value { property: "dma-ranges", value: 8 << 32 };
    let found: Vec<_> = topology.check().iter().filter(|finding| finding.what == what).collect();
    assert_eq!((found.len(), found[0].place.as_str()), (1, "/soc"));
    assert_eq!(topology.devices()[0].address_bits, Some(16));
}

#[test]
fn a_map_to_an_smmu_whose_ids_have_two_cells_is_not_guessed() {
    let topology = tree(|tree| {
        tree.open("smmu@2000000").text("compatible", "arm,smmu-v3");
        tree.cells("reg", &[0, 0x200_0000, 0, 0x2_0000]);
        tree.cells("phandle", &[2]).cells("#iommu-cells", &[2]).close();
        tree.open("pcie@1").text("device_type", "pci").cells("linux,pci-domain", &[0]);
        tree.cells("iommu-map", &[0, 2, 0, 0x100]).close();
    });
    let what = What::Value { property: "#iommu-cells", value: 2 };
    assert!(topology.check().iter().any(|finding| finding.what == what));
    let streams = topology.streams_of(Device::pci(0, 1, 0));
    assert_eq!(streams, Err(smmuv3_discovery::LookupError::NotBehindAnSmmu));
}
