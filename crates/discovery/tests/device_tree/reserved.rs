// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/reserved-memory` with `iommu-addresses`.

use smmuv3::{Memory, StreamId};
use smmuv3_discovery::{Device, InstanceIndex, Region, Topology, What};

use super::common::tree::Tree;
use super::{findings, read, tree};

/// A display of phandle 8, with streams 7 and 9 of the second SMMU, and a child of `/reserved-memory`.
fn reserved(properties: impl FnOnce(&mut Tree)) -> Topology {
    read(&tree(|tree| {
        tree.open("display").cells("iommus", &[3, 7, 3, 9]).cells("phandle", &[8]).close();
        tree.open("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        tree.bytes("ranges", &[]).open("frame");
        properties(tree);
        tree.close().close();
    }))
}

#[test]
fn a_frame_buffer_is_kept() {
    let topology = reserved(|tree| {
        tree.cells("reg", &[0, 0x8000_0000, 0, 0x80_0000]);
        tree.cells("iommu-addresses", &[8, 0, 0x8000_0000, 0, 0x80_0000]);
    });
    assert_eq!(findings(&topology), [""; 0]);
    let [kept] = topology.kept() else { panic!("{topology:?}") };
    let region = Region { base: 0x8000_0000, len: 0x80_0000 };
    assert_eq!((kept.name.as_str(), &kept.regions[..]), ("/reserved-memory/frame", &[region][..]));
    let stream = |id| (InstanceIndex(1), StreamId(id), StreamId(id));
    assert_eq!(kept.streams, [stream(7), stream(9)]);
    // The display is not coherent.
    assert_eq!(kept.memory, Memory::NormalNonCacheable);
    // Once, though it is both named and kept.
    assert_eq!(topology.reserved_for(Device::Path("/display")).unwrap(), [region]);
}

#[test]
fn addresses_without_memory_are_reserved_only() {
    let topology = reserved(|tree| {
        tree.cells("iommu-addresses", &[8, 0, 0x1000, 0, 0x2000]);
    });
    assert_eq!(findings(&topology), [""; 0]);
    assert!(topology.kept().is_empty());
    let region = Region { base: 0x1000, len: 0x2000 };
    assert_eq!(topology.devices()[0].reserved, [region]);
}

#[test]
fn memory_that_is_seen_elsewhere_is_not_kept() {
    let topology = reserved(|tree| {
        tree.cells("reg", &[0, 0x8000_0000, 0, 0x1000]);
        tree.cells("iommu-addresses", &[8, 0, 0x1000, 0, 0x1000]);
    });
    assert!(topology.kept().is_empty());
    assert_eq!(topology.devices()[0].reserved.len(), 1);
    let what = What::KeptElsewhere { iova: 0x1000, address: 0x8000_0000 };
    assert_eq!(topology.check()[0].what, what);
}

#[test]
fn more_than_the_memory_that_there_is() {
    let topology = reserved(|tree| {
        tree.cells("reg", &[0, 0x8000_0000, 0, 0x1000]);
        tree.cells("iommu-addresses", &[8, 0, 0x8000_0000, 0, 0x2000]);
    });
    assert!(topology.kept().is_empty());
}

#[test]
fn parts_of_pages() {
    let topology = reserved(|tree| {
        tree.cells("reg", &[0, 0x8000_0800, 0, 0x1000]);
        tree.cells("iommu-addresses", &[8, 0, 0x8000_0800, 0, 0x1000]);
    });
    assert_eq!(topology.kept()[0].regions, [Region { base: 0x8000_0000, len: 0x2000 }]);
    let what = What::KeptUnaligned { base: 0x8000_0800, len: 0x1000 };
    assert_eq!(topology.check()[0].what, what);
}

#[test]
fn addresses_that_cannot_be() {
    let found = |cells: &[u32]| {
        let topology = reserved(|tree| {
            tree.cells("iommu-addresses", cells);
        });
        assert!(topology.kept().is_empty());
        let mut all = topology.into_findings();
        assert_eq!(all.len(), 1);
        all.remove(0).what
    };
    assert_eq!(found(&[77, 0, 0, 0, 0x1000]), What::Nowhere { reference: 77 });
    // The GIC uses no SMMU.
    assert_eq!(found(&[1, 0, 0, 0, 0x1000]), What::KeptByNobody);
    assert_eq!(found(&[8, 0, 0, 0, 0]), What::KeptRange { base: 0, len: 0 });
    let (base, len) = (u64::MAX - 0xfff, 0x2000);
    assert_eq!(found(&[8, u32::MAX, 0xffff_f000, 0, 0x2000]), What::KeptRange { base, len });
    let property = "iommu-addresses";
    assert_eq!(found(&[8, 0, 0]), What::Length { property, len: 12, unit: 20 });
}
