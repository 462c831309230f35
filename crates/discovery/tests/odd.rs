// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host bridge's node says beyond its map.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use common::tree::Tree;
use smmuv3_discovery::{Device, InstanceIndex, LookupError, Region, Topology, What};

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
    assert_eq!(topology.dma_of(Device::pci(0, 1, 0)), Ok((Some(34), false)));
    assert_eq!(topology.dma_of(Device::Path("/soc/bus/dma")), Ok((Some(30), false)));
    let odd = |what: &What| matches!(what, What::Value { .. } | What::Length { .. });
    assert!(!topology.check().iter().any(|finding| odd(&finding.what)));
}

#[test]
fn what_is_behind_a_host_bridge_reaches_what_the_bus_above_passes_on() {
    let topology = tree(|tree| {
        tree.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.cells("dma-ranges", &[0x1000_0000, 0, 0x1000_0000, 0x2000_0000]);
        // Nothing, no limit, a limit of its own, and nothing with a bus between.
        host(tree, "pcie@0", 0).close();
        host(tree, "pcie@1", 0x100).bytes("dma-ranges", &[]).close();
        host(tree, "pcie@2", 0x200).cells("#address-cells", &[3]).cells("#size-cells", &[2]);
        tree.cells("dma-ranges", &[0x0200_0000, 0, 0, 0, 0, 0x1000_0000]).close();
        tree.open("bus").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.bytes("dma-ranges", &[]);
        host(tree, "pcie@3", 0x300).close().close();
        tree.close();
        host(tree, "pcie@4", 0x400).close();
    });
    let below = Region { base: 0, len: 0x1000_0000 };
    let above = Region { base: 0x3000_0000, len: 0x1000_0000 };
    let of = |segment| {
        let device = Device::Pci { segment, bus: 0, device: 1, function: 0 };
        let (bits, _) = topology.dma_of(device).unwrap();
        (bits, topology.reserved_for(device).unwrap())
    };
    let bus = (Some(30), vec![below, above]);
    assert_eq!((of(0), of(1), of(3)), (bus.clone(), bus.clone(), bus));
    assert_eq!((of(2), of(4)), ((Some(28), vec![]), (None, vec![])));
    let odd = |what: &What| matches!(what, What::Value { .. } | What::Length { .. });
    assert!(!topology.check().iter().any(|finding| odd(&finding.what)));
}

#[test]
fn what_is_reserved_is_whole_pages() {
    let topology = tree(|tree| {
        host(tree, "pcie@1", 0).cells("#address-cells", &[3]).cells("#size-cells", &[2]);
        // What lies between, 0x1_0800 to 0x1_1800, ends within pages.
        let low = [0x0200_0000, 0, 0, 0, 0, 0, 0x1_0800];
        let high = [0x0200_0000, 0, 0x1_1800, 0, 0x1_1800, 0, 0xfffe_e800];
        tree.cells("dma-ranges", &[low, high].concat());
        // A window of nothing, one of bytes, and one that ends with the address space.
        let nothing = [0x0200_0000, 0, 0x5000_0000, 0, 0x5000_0000, 0, 0];
        let bytes = [0x0200_0000, 0, 0x6000_0010, 0, 0x6000_0010, 0, 0x10];
        let end = [0x0300_0000, 0xffff_ffff, 0xffff_0000, 0, 0x7000_0000, 0, 0x1_0000];
        tree.cells("ranges", &[nothing, bytes, end].concat());
        tree.cells("linux,pci-domain", &[0]).cells("phandle", &[7]).close();
        tree.open("dma").cells("iommus", &[1, 0x200]).cells("phandle", &[8]).close();
        tree.open("reserved-memory").bytes("ranges", &[]).open("r");
        // Within a page; over the end of one; that and the next, so that they touch; the last bytes of 64 bits.
        let of = |device, base, len| [device, 0, base, 0, len];
        let mine = [of(8, 0x3_0010, 0x20), of(8, 0x5_0ff8, 0x10), of(8, 0x5_2000, 0x1000)];
        let last = [8, 0xffff_ffff, 0xffff_f800, 0, 0x800];
        let all = [mine.concat(), last.to_vec(), of(7, 0x6000_0f00, 0x200).to_vec()];
        tree.cells("iommu-addresses", &all.concat()).close().close();
    });
    let region = |base, end| Region { base, len: end - base };
    let dma = topology.reserved_for(Device::Path("/dma")).unwrap();
    assert_eq!(dma, [region(0x3_0000, 0x3_1000), region(0x5_0000, 0x5_3000)]);
    let (end, last) = (0xffff_ffff_ffff_0000, 0xffff_ffff_ffff_f000);
    let gap = region(0x1_0000, 0x1_2000);
    let pci = topology.reserved_for(Device::pci(0, 1, 0)).unwrap();
    assert_eq!(pci, [gap, region(0x6000_0000, 0x6000_2000), region(end, last)]);
    // As firmware has it.
    assert_eq!(topology.roots()[0].reserved[0], region(0x1_0800, 0x1_1800));
}

#[test]
fn how_devices_access_memory() {
    let topology = tree(|tree| {
        host(tree, "pcie@1", 0).bytes("dma-coherent", &[]).cells("bus-range", &[0, 0]);
        tree.cells("linux,pci-domain", &[0]).close();
        // Two that have the same buses.
        for (name, high, coherent) in [("pcie@2", 0x10, "dma-coherent"), ("pcie@3", 1, "other")] {
            host(tree, name, 0x100).cells("#address-cells", &[3]).cells("#size-cells", &[2]);
            tree.cells("dma-ranges", &[0x0300_0000, 0, 0, 0, 0, high, 0]);
            tree.cells("linux,pci-domain", &[3]).bytes(coherent, &[]).close();
        }
        tree.open("gpu").cells("iommus", &[1, 0x200]).bytes("dma-coherent", &[]).close();
        tree.open("bus").cells("iommu-map", &[0, 1, 0x300, 1]).close();
    });
    let coherent = Ok((None, true));
    assert_eq!(topology.dma_of(Device::pci(0, 1, 0)), coherent);
    assert_eq!(topology.dma_of(Device::Path("/gpu")), coherent);
    assert_eq!(topology.dma_of(Device::OnBus { path: "/bus", id: 0 }), Ok((None, false)));
    let both = Device::Pci { segment: 3, bus: 0, device: 1, function: 0 };
    assert_eq!(topology.dma_of(both), Ok((Some(32), false)));
    let unknown = Err(LookupError::UnknownDevice);
    assert_eq!(topology.dma_of(Device::pci(1, 1, 0)), unknown);
    assert_eq!(topology.dma_of(Device::pci(0, 32, 0)), unknown);
    assert_eq!(topology.dma_of(Device::Path("/cpu")), unknown);
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
    assert_eq!(streams, Err(LookupError::NotBehindAnSmmu));
}
