// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the parser reads in a table with one of everything.

use smmuv3_discovery::iort::{Body, IdMapping, Iort, IortError, Node, NodeKind, Range};

use crate::common::table::{golden, summed};

fn node(table: &[u8], offset: u32) -> Node<'_> {
    Iort::new(table).unwrap().node_at(offset).unwrap()
}

fn mappings(node: &Node<'_>) -> Vec<(u32, u32, u32, u32, bool)> {
    let list = |m: IdMapping| (m.input, m.count, m.output, m.reference, m.single());
    node.mappings().unwrap().map(list).collect()
}

#[test]
fn the_header() {
    let table = golden();
    assert_eq!(table.len(), 0x2c4);
    let iort = Iort::new(&table).unwrap();
    assert_eq!((iort.revision(), iort.len(), iort.count()), (6, 0x2c4, 11));
    assert_eq!(iort.oem(), (*b"FIRMWA", *b"GOLDEN  ", 2));
    let longer = [&table[..], &[1, 2, 3]].concat();
    assert_eq!(Iort::new(&longer).unwrap().len(), 0x2c4);
}

#[test]
fn nodes_come_in_order_with_their_offsets() {
    let table = golden();
    let iort = Iort::new(&table).unwrap();
    let nodes: Vec<_> = iort.nodes().map(Result::unwrap).collect();
    let all: Vec<_> =
        nodes.iter().map(|n| (n.offset(), n.kind(), n.revision(), n.identifier())).collect();
    assert_eq!(
        all,
        [
            (0x30, NodeKind::ItsGroup, 1, 1),
            (0x4c, NodeKind::SmmuV3, 5, 2),
            (0xcc, NodeKind::SmmuV3, 1, 3),
            (0x110, NodeKind::RootComplex, 4, 4),
            (0x160, NodeKind::RootComplex, 0, 5),
            (0x194, NodeKind::NamedComponent, 4, 6),
            (0x1e4, NodeKind::Rmr, 3, 7),
            (0x23c, NodeKind::Pmcg, 1, 8),
            (0x264, NodeKind::SmmuV1V2, 3, 9),
            (0x278, NodeKind::NamedComponent, 2, 10),
            (0x2b4, NodeKind::Other(9), 0, 11),
        ]
    );
    assert_eq!(nodes[1].to_string(), "SMMUv3 at offset 0x4c");
    assert!(iort.node_at(0x50).is_none());
}

#[test]
fn an_its_group() {
    let table = golden();
    let Body::ItsGroup(group) = node(&table, 0x30).body().unwrap() else { panic!() };
    assert_eq!(group.ids().collect::<Vec<_>>(), [5, 3]);
    assert_eq!(node(&table, 0x30).mappings().unwrap().len(), 0);
}

#[test]
fn an_smmu_of_revision_5() {
    let table = golden();
    let node = node(&table, 0x4c);
    let Body::SmmuV3(smmu) = node.body().unwrap() else { panic!() };
    assert_eq!((smmu.base, smmu.vatos, smmu.model), (0x2b40_0000, 0x2b42_0000, 0));
    assert_eq!((smmu.flags, smmu.coherent(), smmu.httu()), (0x1d, true, 2));
    assert_eq!((smmu.event, smmu.pri, smmu.gerror, smmu.sync), (106, 0, 109, 108));
    assert_eq!((smmu.proximity, smmu.own_mapping), (Some(7), Some(2)));
    assert_eq!(
        mappings(&node),
        [
            (0, 0xffff, 0x1_0000, 0x30, false),
            (0x1_0000, 0xff, 0x9_0000, 0x30, false),
            (0, 0, 0xabcd, 0x30, true)
        ]
    );
}

#[test]
fn the_own_mapping_of_an_smmu_depends_on_its_revision() {
    let own = |revision: u8, flags: u8, pri: u8| {
        let mut table = golden();
        (table[0x4c + 3], table[0x4c + 24], table[0x4c + 48]) = (revision, flags, pri);
        let table = summed(table);
        let Body::SmmuV3(smmu) = node(&table, 0x4c).body().unwrap() else { panic!() };
        (smmu.own_mapping, smmu.proximity)
    };
    // With the flag from revision 5 on; before, unless all interrupts are lines; never in revision 0.
    assert_eq!(own(5, 0x18, 0), (Some(2), Some(7)));
    assert_eq!(own(5, 0, 0), (None, None));
    assert_eq!(own(5, 0x10, 1), (Some(2), None));
    assert_eq!(own(4, 0x10, 1), (None, None));
    assert_eq!(own(4, 0, 0), (Some(2), None));
    assert_eq!(own(0, 0x18, 0), (None, None));
}

#[test]
fn root_complexes_of_several_revisions() {
    let table = golden();
    let Body::RootComplex(root) = node(&table, 0x110).body().unwrap() else { panic!() };
    assert_eq!((root.segment, root.ats, root.coherent()), (1, 1, true));
    assert_eq!((root.address_bits, root.pasid_bits, root.flags), (Some(48), Some(20), Some(1)));
    assert_eq!(
        mappings(&node(&table, 0x110)),
        [(0, 0xff, 0x100, 0x4c, false), (0x100, 0xff, 0x100, 0x30, false)]
    );
    let Body::RootComplex(root) = node(&table, 0x160).body().unwrap() else { panic!() };
    assert_eq!((root.segment, root.coherent()), (0, false));
    assert_eq!((root.address_bits, root.pasid_bits, root.flags), (None, None, None));
}

#[test]
fn a_named_component() {
    let table = golden();
    let node = node(&table, 0x194);
    let Body::NamedComponent(component) = node.body().unwrap() else { panic!() };
    assert_eq!((component.name, component.address_bits), (r"\_SB.DMA0", 32));
    assert_eq!((component.can_stall(), component.pasid_bits()), (true, 20));
    assert!(!component.coherent());
    assert_eq!(mappings(&node), [(0, 0, 0x77, 0x4c, true), (0x10, 0xf, 0x200, 0x4c, false)]);
}

#[test]
fn reserved_memory() {
    let table = golden();
    let node = node(&table, 0x1e4);
    let Body::Rmr(rmr) = node.body().unwrap() else { panic!() };
    assert_eq!((rmr.may_move(), rmr.privileged(), rmr.attributes()), (false, true, 5));
    let ranges: Vec<_> = rmr.ranges().collect();
    assert_eq!(
        ranges,
        [Range { base: 0x8000_0000, len: 0x1_0000 }, Range { base: 0x9000_0000, len: 0x2_0000 }]
    );
    assert_eq!(mappings(&node), [(0, 0, 0x77, 0x4c, true)]);
}

#[test]
fn the_rest() {
    let table = golden();
    let Body::Pmcg(pmcg) = node(&table, 0x23c).body().unwrap() else { panic!() };
    assert_eq!((pmcg.page0, pmcg.page1), (0x2b40_2000, Some(0x2b41_2000)));
    assert_eq!((pmcg.overflow, pmcg.reference), (110, 0x4c));
    let Body::Raw(raw) = node(&table, 0x264).body().unwrap() else { panic!() };
    assert_eq!(raw, [0xef, 0xbe, 0xad, 0xde]);
    let Body::Raw(raw) = node(&table, 0x2b4).body().unwrap() else { panic!() };
    assert!(raw.is_empty());
}

#[test]
fn the_checksum_counts_unless_it_is_left_out() {
    let mut table = golden();
    table[9] = table[9].wrapping_add(3);
    assert_eq!(Iort::new(&table).err(), Some(IortError::Checksum { sum: 3 }));
    assert_eq!(Iort::unsummed(&table).unwrap().nodes().count(), 11);
}
