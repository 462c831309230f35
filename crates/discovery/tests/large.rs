// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees that would take hours, were anything in them looked at again for each of something else: none has a million
//! times a million steps left in it.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use common::tree::Tree;
use smmuv3_discovery::{Device, LookupError, Region, Topology, What};

const MANY: usize = 400_000;

/// A tree with an SMMU of phandle 1, one cell for addresses and one for sizes.
fn tree(rest: impl FnOnce(&mut Tree)) -> Topology {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    tree.open("smmu").text("compatible", "arm,smmu-v3").cells("reg", &[0x10_0000, 0x2_0000]);
    tree.cells("phandle", &[1]).cells("#iommu-cells", &[1]).close();
    rest(&mut tree);
    tree.close();
    Topology::from_device_tree(&tree.blob()).unwrap()
}

/// Properties that nobody asks for, before and behind those that somebody does.
fn chaff(tree: &mut Tree) {
    for name in ["#a", "zz"] {
        (0..MANY / 2).for_each(|_| {
            tree.bytes(name, &[]);
        });
    }
}

#[test]
fn interrupts_with_names_without_end() {
    for (name, property) in [
        ("eventq\0", "interrupts-extended"),
        ("combined\0", "interrupts-extended"),
        ("combined\0", "interrupts"),
    ] {
        let topology = tree(|tree| {
            tree.open("gic").cells("phandle", &[9]).cells("#interrupt-cells", &[1]);
            tree.bytes("compatible", &[0; MANY]).close();
            tree.open("iommu").text("compatible", "arm,smmu-v3").cells("interrupt-parent", &[9]);
            tree.cells("reg", &[0x20_0000, 0x2_0000]);
            tree.cells(property, &[9, 0].repeat(MANY));
            tree.bytes("interrupt-names", name.repeat(MANY).as_bytes()).close();
        });
        let of = |what: &What| matches!(what, What::Interrupt { index: 0..16 });
        let found = topology.check().iter().filter(|finding| of(&finding.what)).count();
        assert_eq!((topology.instances().len(), found), (2, 16), "{property}");
    }
}

#[test]
fn references_to_a_node_with_properties_without_end() {
    let topology = tree(|tree| {
        tree.open("other").cells("phandle", &[9]).cells("#iommu-cells", &[0]);
        chaff(tree);
        tree.cells("#msi-cells", &[0]).close();
        tree.open("dma").cells("iommus", &vec![9; MANY]).cells("msi-parent", &vec![9; MANY]);
        tree.cells("iommu-map", &[0, 9, 0, 1].repeat(MANY)).close();
    });
    assert_eq!(topology.devices()[0].own.len(), MANY);
    assert_eq!(topology.streams_of(Device::Path("/dma")), Err(LookupError::NotBehindAnSmmu));
    // What there is no room for is not even written.
    assert_eq!(topology.check().len(), 257);
}

#[test]
fn a_bus_with_properties_and_children_without_end() {
    let topology = tree(|tree| {
        tree.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.bytes("ranges", &[]);
        chaff(tree);
        for _ in 0..MANY / 4 {
            tree.open("i").text("compatible", "arm,gic-v3-its").cells("reg", &[0, 0x2_0000]);
            tree.cells("iommus", &[1, 7]).close();
        }
        tree.close();
    });
    assert_eq!((topology.doorbells().len(), topology.devices().len()), (MANY / 4, MANY / 4));
    assert!(topology.doorbells().iter().all(|its| its.page.is_some()));
}

#[test]
fn a_bus_with_ranges_without_end() {
    let topology = tree(|tree| {
        tree.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.cells("ranges", &[5, 5, 1].repeat(MANY)).cells("dma-ranges", &[0, 0, 9].repeat(MANY));
        for _ in 0..MANY / 4 {
            tree.open("i").text("compatible", "arm,gic-v3-its").cells("reg", &[0, 0x2_0000]);
            tree.cells("iommus", &[1, 7]).close();
        }
        tree.close();
    });
    assert!(topology.doorbells().iter().all(|its| its.page.is_none()));
    assert!(topology.devices().iter().all(|device| device.address_bits == Some(4)));
}

#[test]
fn host_bridges_without_end() {
    let topology = tree(|tree| {
        (0..MANY / 2).for_each(|_| {
            tree.open("p").text("device_type", "pci").close();
        });
    });
    let last = topology.roots().last().map(|root| root.segment as usize);
    assert_eq!(last, Some(MANY / 2 - 1));
}

#[test]
fn reserved_addresses_without_end_for_streams_without_end() {
    let topology = tree(|tree| {
        tree.open("dma").cells("phandle", &[9]).cells("iommus", &[1, 7].repeat(MANY)).close();
        tree.open("reserved-memory").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.bytes("ranges", &[]).open("r").cells("reg", &[0x1000, 0x1000]);
        tree.cells("iommu-addresses", &[9, 0x1000, 0x1000].repeat(MANY)).close().close();
    });
    assert_eq!(topology.devices()[0].reserved.len(), MANY);
    let page = Region { base: 0x1000, len: 0x1000 };
    assert_eq!(topology.reserved_for(Device::Path("/dma")).unwrap(), [page]);
    // Each of them names the device, and one of them its streams: as many as can be kept.
    let streams: Vec<usize> = topology.kept().iter().map(|kept| kept.streams.len()).collect();
    assert_eq!((streams.len(), streams.iter().sum::<usize>()), (1024, 8192));
}

#[test]
fn a_stream_that_ids_without_end_have_and_all_of_them_in_doubt() {
    let topology = tree(|tree| {
        // Each ID is both stream 7 and another.
        tree.open("bus").cells("iommu-map", &[0, 1, 7, 2, 0, 1, 8, 2].repeat(MANY / 4)).close();
    });
    let instance = topology.streams_of(Device::OnBus { path: "/bus", id: 0 });
    assert_eq!(instance, Err(LookupError::Ambiguous { id: 0 }));
    let of = smmuv3_discovery::InstanceIndex(0);
    assert_eq!(topology.device_of(of, smmuv3::StreamId(8)), None);
}
