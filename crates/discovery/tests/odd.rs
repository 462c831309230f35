// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host bridge's node says beyond its map.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use common::tree::Tree;
use smmuv3_discovery::{Device, InstanceIndex, Region, Topology};

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
