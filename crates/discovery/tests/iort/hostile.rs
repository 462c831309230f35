// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables whose lengths, counts and offsets are wrong.

use smmuv3_discovery::iort::{Body, Iort, IortError, NodeKind};
use smmuv3_discovery::{Device, InstanceIndex, LookupError, ReadError, Topology, What};

use crate::common::table::{golden, summed, table};

/// The golden table with these bytes at an offset.
fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut table = golden();
    table[offset..offset + bytes.len()].copy_from_slice(bytes);
    summed(table)
}

/// Why its nodes end before they should.
fn end(table: &[u8]) -> (usize, IortError) {
    let nodes: Vec<_> = Iort::new(table).unwrap().nodes().collect();
    let (good, bad): (Vec<_>, Vec<_>) = nodes.into_iter().partition(Result::is_ok);
    assert_eq!(bad.len(), 1);
    let error = bad.into_iter().find_map(Result::err).unwrap();
    // A table that cannot be walked is no topology.
    let read = Topology::from_iort(&Iort::new(table).unwrap());
    assert_eq!(read.err(), Some(ReadError::Iort(error)));
    (good.len(), error)
}

#[test]
fn what_is_no_table() {
    let new = |bytes: &[u8]| Iort::new(bytes).err();
    assert_eq!(new(&[]), Some(IortError::Short { len: 0, needed: 48 }));
    assert_eq!(new(b"IORT\x30\0\0\0"), Some(IortError::Short { len: 8, needed: 48 }));
    assert_eq!(new(b"FACP\x30\0\0\0"), Some(IortError::Signature { found: *b"FACP" }));
    assert_eq!(new(b"IORT\x2f\0\0\0"), Some(IortError::Length { len: 47 }));
    assert_eq!(new(b"IORT\0\0\0\0"), Some(IortError::Length { len: 0 }));
    let table = golden();
    let needed = table.len();
    assert_eq!(new(&table[..needed - 1]), Some(IortError::Short { len: needed - 1, needed }));
    let huge = with(4, &[0xff; 4]);
    let short = IortError::Short { len: needed, needed: 0xffff_ffff };
    assert_eq!(new(&huge), Some(short));
}

#[test]
fn a_node_without_length_does_not_go_on_for_ever() {
    let error = IortError::NodeLength { index: 1, offset: 0x4c, length: 0 };
    assert_eq!(end(&with(0x4d, &[0, 0])), (1, error));
    let error = IortError::NodeLength { index: 1, offset: 0x4c, length: 15 };
    assert_eq!(end(&with(0x4d, &[15, 0])), (1, error));
}

#[test]
fn a_node_that_is_longer_than_the_table() {
    let error = IortError::NodeLength { index: 9, offset: 0x278, length: 0xffff };
    assert_eq!(end(&with(0x279, &[0xff, 0xff])), (9, error));
}

#[test]
fn more_nodes_than_there_are() {
    let error = IortError::NodeOutside { index: 11, offset: 0x2c4, len: 0x2c4 };
    assert_eq!(end(&with(36, &[0xff; 4])), (11, error));
}

#[test]
fn nodes_outside_the_table_or_in_its_header() {
    let error = IortError::NodeOutside { index: 0, offset: 0xffff_ffff, len: 0x2c4 };
    assert_eq!(end(&with(40, &[0xff; 4])), (0, error));
    let error = IortError::NodeOutside { index: 0, offset: 8, len: 0x2c4 };
    assert_eq!(end(&with(40, &[8, 0, 0, 0])), (0, error));
    let error = IortError::NodeOutside { index: 0, offset: 0x2c0, len: 0x2c4 };
    assert_eq!(end(&with(40, &[0xc0, 2, 0, 0])), (0, error));
}

/// What is odd about a table that can be walked: for each node that is named so.
fn findings(table: &[u8], place: &str) -> Vec<What> {
    let mut topology = Topology::from_iort(&Iort::new(table).unwrap()).unwrap();
    let all = std::mem::take(&mut topology).into_findings();
    let of = all.into_iter().filter(|finding| finding.place == place);
    of.map(|finding| finding.what).collect()
}

#[test]
fn mappings_outside_their_node() {
    let smmu = "SMMUv3 at offset 0x4c";
    for (first, count) in [(0x44, 4), (0x80, 1), (0, 3), (15, 1), (0x44, 0xccc_cccd), (u32::MAX, 1)]
    {
        let table = with(0x4c + 8, &[u32::to_le_bytes(count), u32::to_le_bytes(first)].concat());
        let error = IortError::Mappings { offset: 0x4c, first, count, length: 0x80 };
        let node = Iort::new(&table).unwrap().node_at(0x4c).unwrap();
        assert_eq!(node.mappings().err(), Some(error));
        assert!(findings(&table, smmu).contains(&What::Iort(error)), "{first:#x} {count}");
    }
}

#[test]
fn lists_outside_their_node() {
    // The number of ITSs: 3, and one whose size overflows.
    for count in [3, 0x4000_0001, u32::MAX] {
        let table = with(0x30 + 16, &u32::to_le_bytes(count));
        let error = IortError::List { offset: 0x30, first: 20, count, length: 0x1c };
        let node = Iort::new(&table).unwrap().node_at(0x30).unwrap();
        assert_eq!(node.body().err(), Some(error));
    }
    for (count, first) in [(3, 0x30), (2, 0x31), (1, u32::MAX), (u32::MAX, 0x30), (0x0ccc_cccd, 0)]
    {
        let table = with(0x1e4 + 20, &[u32::to_le_bytes(count), u32::to_le_bytes(first)].concat());
        let error = IortError::List { offset: 0x1e4, first, count, length: 0x58 };
        assert_eq!(findings(&table, "RMR at offset 0x1e4"), [What::Iort(error)]);
    }
}

#[test]
fn a_node_that_is_too_short_for_what_it_is() {
    let short = "04 4300 05 02000000 00000000 00000000";
    let table = table(1, &format!("{short} {}", "00".repeat(0x33)));
    let error =
        IortError::Body { offset: 0x30, kind: NodeKind::SmmuV3, length: 0x43, needed: 0x44 };
    assert_eq!(findings(&table, "SMMUv3 at offset 0x30"), [What::Iort(error)]);
}

#[test]
fn a_name_without_end_or_that_is_none() {
    let error = What::Iort(IortError::Name { offset: 0x30 });
    let component = |name: &str| {
        let header = "01 2000 04 00000000 00000000 00000000 00000000 0000000000000000 40";
        table(1, &format!("{header} {name}"))
    };
    for name in ["414243", "41ff00", "000000"] {
        assert_eq!(
            findings(&component(name), "named component at offset 0x30"),
            [error_copy(&error)]
        );
    }
    let table = component("414200");
    let Body::NamedComponent(named) =
        Iort::new(&table).unwrap().node_at(0x30).unwrap().body().unwrap()
    else {
        panic!()
    };
    assert_eq!(named.name, "AB");
}

fn error_copy(what: &What) -> What {
    match what {
        What::Iort(error) => What::Iort(*error),
        other => panic!("{other}"),
    }
}

/// A reference of the root complex's first mapping to this offset.
fn referring(to: u32) -> Vec<u8> {
    with(0x110 + 0x28 + 12, &to.to_le_bytes())
}

#[test]
fn references_to_nothing_to_itself_and_to_what_is_no_smmu() {
    let root = "root complex at offset 0x110";
    let one = Device::Pci { segment: 1, bus: 0, device: 1, function: 0 };
    let cases = [
        (0, What::Nowhere { reference: 0 }),
        (0x4d, What::Nowhere { reference: 0x4d }),
        (u32::MAX, What::Nowhere { reference: u32::MAX }),
        // Itself, another root, a component, an RMR, a PMCG, something unknown.
        (0x110, What::NotAnSmmu { reference: 0x110 }),
        (0x160, What::NotAnSmmu { reference: 0x160 }),
        (0x194, What::NotAnSmmu { reference: 0x194 }),
        (0x1e4, What::NotAnSmmu { reference: 0x1e4 }),
        (0x23c, What::NotAnSmmu { reference: 0x23c }),
        (0x2b4, What::NotAnSmmu { reference: 0x2b4 }),
        (0x264, What::NotDriven { other: "SMMUv1/v2 at offset 0x264".into() }),
    ];
    for (reference, what) in cases {
        let table = referring(reference);
        let found = findings(&table, root);
        assert!(found.contains(&what), "{reference:#x}: {found:?}");
        let topology = Topology::from_iort(&Iort::new(&table).unwrap()).unwrap();
        assert_eq!(topology.streams_of(one).err(), Some(LookupError::NotBehindAnSmmu));
    }
}

#[test]
fn an_smmu_that_refers_to_itself_or_another() {
    for reference in [0x4c_u32, 0xcc] {
        let table = with(0x4c + 0x44 + 12, &reference.to_le_bytes());
        let found = findings(&table, "SMMUv3 at offset 0x4c");
        assert!(found.contains(&What::NotAnSmmu { reference }), "{found:?}");
    }
}

#[test]
fn mappings_that_pass_32_bits() {
    let place = "root complex at offset 0x110";
    // Input, number of IDs less one, output.
    for (first, more, output) in
        [(0xffff_ff00_u32, 0x100_u32, 0_u32), (0, 0xff, 0xffff_ff01), (1, u32::MAX, 0)]
    {
        let bytes = [first, more, output].map(u32::to_le_bytes).concat();
        let table = with(0x110 + 0x28, &bytes);
        let count = u64::from(more) + 1;
        let what = What::IdsTooWide { first, count, output };
        assert!(findings(&table, place).contains(&what));
    }
    // The whole of 32 bits is not too wide.
    let table = with(0x110 + 0x28, &[0, u32::MAX, 0].map(u32::to_le_bytes).concat());
    let found = findings(&table, place);
    assert!(!found.iter().any(|what| matches!(what, What::IdsTooWide { .. })), "{found:?}");
}

#[test]
fn overlapping_mappings_are_not_chosen_between() {
    let device = |id: u8| Device::Pci { segment: 1, bus: 0, device: id >> 3, function: id & 7 };
    // The second mapping of the root: from 0x80, so that both have 0x80 to 0xff.
    let table = with(0x110 + 0x28 + 20, &0x80_u32.to_le_bytes());
    let what = What::MappingsOverlap { first: 0x80, last: 0xff };
    assert!(findings(&table, "root complex at offset 0x110").contains(&what));
    let topology = Topology::from_iort(&Iort::new(&table).unwrap()).unwrap();
    let streams = |id| topology.streams_of(device(id)).map(|(of, streams)| (of.0, streams[0].0));
    assert_eq!(streams(0x7f), Ok((0, 0x17f)));
    // The second begins there, but the first goes on.
    assert_eq!(streams(0x80), Err(LookupError::Ambiguous { id: 0x80 }));
    assert_eq!(streams(0x81), Err(LookupError::Ambiguous { id: 0x81 }));
}

#[test]
fn a_range_that_is_one_too_long_gives_way_to_the_next() {
    // The first mapping of the root has 0x101 IDs: its last is the first of the second.
    let table = with(0x110 + 0x28 + 4, &0x100_u32.to_le_bytes());
    let topology = Topology::from_iort(&Iort::new(&table).unwrap()).unwrap();
    let device = |bus, function| Device::Pci { segment: 1, bus, device: 0, function };
    // That one leads to the ITS.
    assert_eq!(topology.streams_of(device(1, 0)).err(), Some(LookupError::NotBehindAnSmmu));
    assert_eq!(topology.streams_of(device(0, 7)).unwrap().0, InstanceIndex(0));
}

#[test]
fn the_own_mapping_of_an_smmu_that_is_not_there() {
    let table = with(0x4c + 64, &3_u32.to_le_bytes());
    let found = findings(&table, "SMMUv3 at offset 0x4c");
    // The one that was, is a single mapping now that is not allowed.
    let error = What::Iort(IortError::OwnMapping { offset: 0x4c, index: 3 });
    assert_eq!(found, [What::Single, error]);
}

#[test]
fn a_withdrawn_revision_of_reserved_memory() {
    for revision in [0, 1, 2, 3] {
        let table = with(0x1e4 + 3, &[revision]);
        // The first, and one that was not compatible.
        let withdrawn = matches!(revision, 0 | 2).then_some(What::Revision { revision });
        assert_eq!(findings(&table, "RMR at offset 0x1e4"), Vec::from_iter(withdrawn));
    }
}

#[test]
fn reserved_memory_that_cannot_be_kept() {
    let rmr = "RMR at offset 0x1e4";
    let range =
        |base: u64, len: u64| with(0x1e4 + 0x30, &[base.to_le_bytes(), len.to_le_bytes()].concat());
    for (base, len) in [(0x8000_0000, 0), (u64::MAX - 0xfff, 0x1001), (0x1000, u64::MAX)] {
        assert_eq!(findings(&range(base, len), rmr), [What::KeptRange { base, len }]);
    }
    let (base, len) = (0x8000_0800, 0x1000);
    assert_eq!(findings(&range(base, len), rmr), [What::KeptUnaligned { base, len }]);
    // Into the other one.
    let table = range(0x8fff_0000, 0x2_0000);
    let what = What::KeptTwice { base: 0x9000_0000, other: rmr.into() };
    assert_eq!(findings(&table, rmr), [what]);
    // For no SMMU: its mapping leads to the ITS.
    let table = with(0x1e4 + 0x1c + 12, &0x30_u32.to_le_bytes());
    let found = findings(&table, rmr);
    assert_eq!(found, [What::NotAnSmmu { reference: 0x30 }, What::KeptByNobody]);
}

#[test]
fn reserved_memory_of_more_streams_than_anybody_has() {
    // Not single, and 2^32 of them.
    let bytes = [0, u32::MAX, 0, 0x4c, 0].map(u32::to_le_bytes).concat();
    let table = with(0x1e4 + 0x1c, &bytes);
    let what = What::KeptStreams { first: 0, count: 1 << 32 };
    assert_eq!(findings(&table, "RMR at offset 0x1e4"), [what, What::KeptByNobody]);
}
