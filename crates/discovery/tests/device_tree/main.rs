// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device trees: written by hand, right ones and wrong ones.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

#[path = "../common/mod.rs"]
mod common;

mod blob;
mod devices;
mod monitors;
mod reserved;
mod smmus;

use common::tree::Tree;
use smmuv3_discovery::{Device, LookupError, Topology};

/// A tree with two SMMUs, of phandles 2 and 3, and a GIC with an ITS of phandle 4; `rest` adds nodes.
fn tree(rest: impl FnOnce(&mut Tree)) -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.cells("interrupt-parent", &[1]);
    tree.open("gic@8000000").text("compatible", "arm,gic-v3").cells("phandle", &[1]);
    tree.cells("#interrupt-cells", &[3]).cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.bytes("ranges", &[]);
    tree.open("its@8080000").text("compatible", "arm,gic-v3-its").cells("phandle", &[4]);
    tree.cells("#msi-cells", &[1]).cells("reg", &[0, 0x808_0000, 0, 0x2_0000]).close();
    tree.close();
    for (name, base, phandle) in [("iommu@1", 0x905_0000, 2), ("iommu@2", 0x908_0000, 3)] {
        tree.open(name);
        smmu(&mut tree, base, phandle).close();
    }
    rest(&mut tree);
    tree.close().blob()
}

/// Properties of an SMMU.
fn smmu(tree: &mut Tree, base: u32, phandle: u32) -> &mut Tree {
    tree.text("compatible", "arm,smmu-v3").cells("reg", &[0, base, 0, 0x2_0000]);
    tree.cells("phandle", &[phandle]).cells("#iommu-cells", &[1]).bytes("dma-coherent", &[]);
    tree.cells("interrupts", &[0, 74, 1, 0, 77, 4]).bytes("interrupt-names", b"eventq\0gerror\0")
}

/// Properties of a host bridge.
fn host<'a>(tree: &'a mut Tree, name: &str, segment: u32) -> &'a mut Tree {
    tree.open(name).text("device_type", "pci").cells("linux,pci-domain", &[segment]);
    tree.cells("#address-cells", &[3]).cells("#size-cells", &[2])
}

fn read(blob: &[u8]) -> Topology {
    Topology::from_device_tree(blob).unwrap()
}

fn findings(topology: &Topology) -> Vec<String> {
    topology.check().iter().map(ToString::to_string).collect()
}

fn streams(topology: &Topology, device: Device<'_>) -> Result<(usize, Vec<u32>), LookupError> {
    let (instance, streams) = topology.streams_of(device)?;
    Ok((instance.0, streams.iter().map(|stream| stream.0).collect()))
}
