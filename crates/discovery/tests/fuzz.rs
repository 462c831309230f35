// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables and trees with flipped bits, cut off and spliced: nothing panics, and everything ends.
//!
//! The same ones each time: seeds are fixed.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use common::table::{golden, table};
use common::tree::Tree;
use fastrand::Rng;
use smmuv3_discovery::iort::{Body, Iort};
use smmuv3_discovery::{Device, LookupError, Region, Topology};

/// Mutants of each kind.
const ROUNDS: usize = 200_000;

/// Values that lengths, counts and offsets are wrong with.
const ODD: [u32; 10] =
    [0, 1, 3, 0x10, 0x30, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_fffe, 0xffff_ffff];

/// A mutant of one of `seeds`. Words are written in the order that `bytes` gives.
fn mutate(rng: &mut Rng, seeds: &[Vec<u8>], bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let mut one = rng.choice(seeds).unwrap().clone();
    // Half of them stay as long as they are.
    let kinds = if rng.bool() { 5 } else { 8 };
    for _ in 0..rng.usize(1..kinds - 2) {
        if one.is_empty() {
            break;
        }
        let at = rng.usize(0..one.len());
        match rng.usize(0..kinds) {
            0 => one[at] ^= 1 << rng.u8(0..8),
            1 => one[at] = rng.u8(..),
            2 | 3 => {
                let aligned = at & !3;
                if let Some(word) = one.get_mut(aligned..aligned + 4) {
                    word.copy_from_slice(&bytes(*rng.choice(&ODD).unwrap()));
                }
            }
            4 => {
                // A word from elsewhere: an offset, or a phandle, that means something.
                let from = rng.usize(0..one.len()) & !3;
                let word: Option<[u8; 4]> =
                    one.get(from..from + 4).map(|word| word.try_into().unwrap());
                if let (Some(word), Some(to)) = (word, one.get_mut(at & !3..(at & !3) + 4)) {
                    to.copy_from_slice(&word);
                }
            }
            5 if rng.bool() => one.truncate(at),
            6 => {
                // The end of another.
                let other = rng.choice(seeds).unwrap();
                let from = rng.usize(0..other.len()) & !3;
                one.truncate(at & !3);
                one.extend(&other[from..]);
            }
            _ => {
                let (len, to) = (rng.usize(1..64) & !3, rng.usize(0..one.len()) & !3);
                let part: Vec<u8> = one[at & !3..].iter().take(len).copied().collect();
                one.splice(to..to, part);
            }
        }
    }
    one
}

/// Looks at everything in a topology. Returns how many steps that took.
fn look(topology: &Topology) -> usize {
    let mut steps = topology.check().iter().map(|finding| finding.to_string().len()).sum();
    for segment in [0, 1, u32::MAX] {
        for bus in [0, 1, 8, 255] {
            let device = Device::Pci { segment, bus, device: 1, function: 0 };
            if let Ok((instance, streams)) = topology.streams_of(device) {
                assert!(!streams.is_empty());
                for stream in streams.iter() {
                    // Another, if several have it; nothing is known if mappings contradict each other.
                    let Some(found) = topology.device_of(instance, *stream) else { continue };
                    if let Ok((behind, its)) = topology.streams_of(found) {
                        assert!(behind == instance && its.contains(stream), "{device}, {found}");
                    }
                }
            }
            let _ = topology.msi_of(device);
            let reserved = topology.reserved_for(device).unwrap_or_default();
            for region in &reserved {
                assert!(region.len != 0 && region.base.checked_add(region.len).is_some());
                assert_eq!((region.base | region.len) & 0xfff, 0, "{region:?}");
            }
            let apart = |pair: &[Region]| pair[0].base + pair[0].len < pair[1].base;
            assert!(reserved.windows(2).all(apart), "{reserved:?}");
            assert_eq!(
                topology.dma_of(device).is_err(),
                topology.streams_of(device) == Err(LookupError::UnknownDevice)
            );
            steps += reserved.len();
        }
    }
    for named in topology.devices() {
        if let Ok((instance, streams)) = topology.streams_of(Device::Path(&named.name)) {
            assert!(instance.0 < topology.instances().len() && !streams.is_empty());
        }
        let _ = topology.streams_of(Device::OnBus { path: &named.name, id: 0x10 });
        let _ = topology.msi_of(Device::Path(&named.name));
        assert!(topology.dma_of(Device::Path(&named.name)).is_ok());
        steps += 1;
    }
    for kept in topology.kept() {
        for region in &kept.regions {
            assert!(region.len != 0 && region.base.checked_add(region.len).is_some());
            assert_eq!((region.base | region.len) & 0xfff, 0);
        }
    }
    steps
}

fn look_at_iort(bytes: &[u8]) -> bool {
    let Ok(iort) = Iort::unsummed(bytes) else { return false };
    let mut steps = 0;
    for node in iort.nodes() {
        let Ok(node) = node else { break };
        steps += 1;
        assert!(node.offset() as usize + node.bytes().len() <= bytes.len());
        if let Ok(mappings) = node.mappings() {
            steps += mappings.count();
        }
        match node.body() {
            Ok(Body::ItsGroup(group)) => steps += group.ids().count(),
            Ok(Body::Rmr(rmr)) => steps += rmr.ranges().count(),
            Ok(Body::NamedComponent(named)) => assert!(!named.name.is_empty()),
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    // No byte is read as more than one thing, but for those that lists of one node share.
    assert!(steps <= bytes.len(), "{steps} steps for {} bytes", bytes.len());
    let Ok(topology) = Topology::from_iort(&iort) else { return false };
    look(&topology);
    true
}

#[test]
fn mutants_of_an_iort() {
    let another = "
00 1800 01 01000000 00000000 00000000 01000000 00000000
04 5800 04 02000000 01000000 44000000
0000050900000000 01000000 00000000 0000000000000000 00000000
6a000000 6b000000 6d000000 6c000000 00000000 00000000
00000000 ffff0000 00000000 30000000 00000000
02 3800 03 03000000 01000000 24000000
01000000 00 0000 03 00000000 00000000 40 000000
00000000 ffff0000 00000000 48000000 00000000";
    let seeds = [golden(), table(3, another)];
    assert!(seeds.iter().all(|seed| look_at_iort(seed)));
    let mut rng = Rng::with_seed(0x1011);
    let mut read = 0;
    for _ in 0..ROUNDS {
        read += usize::from(look_at_iort(&mutate(&mut rng, &seeds, u32::to_le_bytes)));
    }
    // Most of them are still a table, or the mutations are too rough to get anywhere.
    assert!(read > ROUNDS / 4, "{read}");
}

/// A tree with one of everything.
fn everything() -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.cells("interrupt-parent", &[1]);
    tree.open("gic").text("compatible", "arm,gic-v3").cells("phandle", &[1]);
    tree.cells("#interrupt-cells", &[3]).cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    tree.cells("ranges", &[0, 0, 0x800_0000, 0x100_0000]);
    tree.open("its").text("compatible", "arm,gic-v3-its").cells("phandle", &[4]);
    tree.cells("#msi-cells", &[1]).cells("reg", &[0x8_0000, 0x2_0000]).close();
    tree.open("v2m").text("compatible", "arm,gic-v2m-frame").cells("phandle", &[5]);
    tree.cells("reg", &[0x2_0000, 0x1000]).close().close();
    tree.open("iommu@1")
        .text("compatible", "arm,smmu-v3")
        .cells("reg", &[0, 0x905_0000, 0, 0x2_0000]);
    tree.cells("phandle", &[2]).cells("#iommu-cells", &[1]).bytes("dma-coherent", &[]);
    tree.cells("interrupts", &[0, 74, 1, 0, 75, 1, 0, 76, 1, 0, 77, 1]);
    tree.bytes("interrupt-names", b"eventq\0priq\0cmdq-sync\0gerror\0").close();
    tree.open("iommu@2")
        .text("compatible", "arm,smmu-v3")
        .cells("reg", &[0, 0x908_0000, 0, 0x2_0000]);
    tree.cells("phandle", &[3]).cells("#iommu-cells", &[1]).cells("msi-parent", &[4, 9]);
    tree.cells("interrupts-extended", &[1, 0, 90, 4]).text("interrupt-names", "combined").close();
    tree.open("pcie").text("device_type", "pci").text("compatible", "pci-host-ecam-generic");
    tree.cells("reg", &[0x40, 0x1000_0000, 0, 0x1000_0000]).cells("bus-range", &[0, 255]);
    tree.cells("#address-cells", &[3]).cells("#size-cells", &[2]);
    tree.cells("iommu-map", &[0, 2, 0, 0x800, 0x800, 3, 0, 0xf800]);
    tree.cells("linux,pci-domain", &[0]);
    tree.cells("iommu-map-mask", &[0xffff]).cells("msi-map", &[0, 4, 0, 0x1_0000]);
    tree.cells("dma-ranges", &[0x0300_0000, 0, 0x8000_0000, 0, 0x8000_0000, 1, 0]);
    tree.cells("ranges", &[0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000]).close();
    tree.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]).bytes("ranges", &[]);
    tree.cells("dma-ranges", &[0x4000_0000, 0, 0x4000_0000, 0x8000_0000]);
    tree.open("dma").cells("iommus", &[2, 0x7700, 2, 0x7701]).cells("phandle", &[8]).close();
    tree.open("mc").cells("iommu-map", &[0, 3, 0x1_0000, 0x10]).cells("msi-parent", &[5]).close();
    tree.close().open("reserved-memory").cells("#address-cells", &[2]);
    tree.cells("#size-cells", &[2]).bytes("ranges", &[]).open("frame");
    tree.cells("reg", &[0, 0x8000_0000, 0, 0x10_0000]);
    tree.cells("iommu-addresses", &[8, 0x8000_0000, 0x10_0000]).close().close();
    tree.close().blob()
}

/// The strings and structure of a tree with their sizes as they are now: what is mutated is not only headers.
fn mended(mut blob: Vec<u8>) -> Vec<u8> {
    let total = (blob.len() as u32).to_be_bytes();
    if let Some(size) = blob.get_mut(4..8) {
        size.copy_from_slice(&total);
    }
    blob
}

#[test]
fn mutants_of_a_device_tree() {
    let seeds = [everything()];
    let topology = Topology::from_device_tree(&seeds[0]).unwrap();
    assert_eq!((topology.instances().len(), topology.roots().len()), (2, 1));
    assert_eq!((topology.devices().len(), topology.doorbells().len()), (2, 2));
    assert_eq!((topology.kept().len(), topology.check()), (1, &[][..]));
    let mut rng = Rng::with_seed(0x2022);
    let mut read = 0;
    for round in 0..ROUNDS {
        let mut blob = mutate(&mut rng, &seeds, u32::to_be_bytes);
        if round % 2 == 0 {
            blob = mended(blob);
        }
        if let Ok(topology) = Topology::from_device_tree(&blob) {
            look(&topology);
            read += 1;
        }
    }
    assert!(read > ROUNDS / 8, "{read}");
}

#[test]
fn every_beginning_of_a_table_and_of_a_tree() {
    let (table, tree) = (golden(), everything());
    for len in 0..table.len() {
        assert!(Iort::new(&table[..len]).is_err());
        // As if it ended there.
        let mut cut = table[..len].to_vec();
        if let Some(field) = cut.get_mut(4..8) {
            field.copy_from_slice(&(len as u32).to_le_bytes());
        }
        look_at_iort(&cut);
    }
    for len in 0..tree.len() {
        assert!(Topology::from_device_tree(&tree[..len]).is_err());
        assert!(Topology::from_device_tree(&mended(tree[..len].to_vec())).is_err());
    }
}

#[test]
fn every_word_of_a_table_and_of_a_tree_odd() {
    let (table, tree) = (golden(), everything());
    for value in ODD {
        for at in (0..table.len() - 3).step_by(2) {
            let mut table = table.clone();
            table[at..at + 4].copy_from_slice(&value.to_le_bytes());
            look_at_iort(&table);
        }
        for at in (0..tree.len() - 3).step_by(4) {
            let mut tree = tree.clone();
            tree[at..at + 4].copy_from_slice(&value.to_be_bytes());
            if let Ok(topology) = Topology::from_device_tree(&tree) {
                look(&topology);
            }
        }
    }
}

/// A table of about 1 MB, of `count` nodes that `node` makes.
fn large(count: u32, node: impl Fn(u32) -> String) -> Vec<u8> {
    let nodes: String = (0..count).map(node).collect();
    table(count, &nodes)
}

#[test]
fn large_tables_of_one_thing_take_no_time_to_speak_of() {
    let word = |word: u32| format!("{:08x} ", word.swap_bytes());
    // Components with one name and stream; roots with one segment; roots with the most mappings there can be, all of
    // them alike; ITS groups; and memory to be kept, all of the same stream. Behind each, an SMMU.
    let smmu = "04 4400 01 00000000 00000000 00000000".to_owned() + &"00".repeat(52);
    let many = |one: &str, smmus: usize, count: u32| {
        large(count, |index| if (index as usize) < smmus { smmu.clone() } else { one.to_owned() })
    };
    let component = "01 3400 04 00000000 01000000 20000000".to_owned()
        + &"00".repeat(13)
        + "410000 00000000 00000000 07000000 30000000 01000000";
    let root = "02 3400 00 00000000 01000000 20000000".to_owned()
        + &"00".repeat(16)
        + "00000000 ffff0000 00000000 30000000 00000000";
    let mappings = "00000000 ffffffff 00000000 30000000 00000000".repeat(3000);
    let wide =
        format!("02 {} 00 00000000 {} 20000000", "80ea", word(3000)) + &"00".repeat(16) + &mappings;
    let kept = "06 4400 03 00000000 01000000 1c000000 00000000 01000000 30000000 \
                00000000 ff1f0000 00000000 30000000 00000000 \
                0000008000000000 0000010000000000 00000000";
    let group = "00 f0ff 01 00000000 00000000 00000000 f73f0000".to_owned() + &"00".repeat(0xffdc);
    for table in [
        many(&component, 1, 20_000),
        many(&root, 1, 20_000),
        many(&wide, 1, 16),
        many(kept, 1, 15_000),
        many(&group, 1, 16),
        many("", 15_000, 15_000),
    ] {
        assert!(look_at_iort(&table));
    }
}

#[test]
fn large_trees_of_one_thing_take_no_time_to_speak_of() {
    let large = |count: u32, node: &dyn Fn(&mut Tree, u32)| {
        let mut tree = Tree::new();
        tree.open("").cells("phandle", &[1]).cells("#iommu-cells", &[1]);
        for index in 0..count {
            tree.open("n");
            node(&mut tree, index);
            tree.close();
        }
        look(&Topology::from_device_tree(&tree.close().blob()).unwrap());
    };
    large(10_000, &|tree, _| {
        tree.text("compatible", "arm,smmu-v3").cells("reg", &[0, 0, 0]);
    });
    large(10_000, &|tree, _| {
        tree.text("device_type", "pci");
    });
    large(10_000, &|tree, _| {
        tree.cells("iommus", &[1, 7]);
    });
    large(10_000, &|tree, _| {
        tree.cells("phandle", &[1]);
    });
    large(10_000, &|tree, _| {
        tree.text("compatible", "arm,gic-v3-its").cells("reg", &[0, 0, 0]);
    });
    large(4, &|tree, _| {
        tree.cells("iommus", &[1, 7].repeat(50_000));
    });
    large(4, &|tree, _| {
        tree.cells("iommu-map", &[0, 1, 0, 0xffff_ffff].repeat(20_000));
    });
    // As deep as it goes, with a bus above all.
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    for _ in 0..30 {
        tree.open(&"x".repeat(15)).cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.cells("ranges", &[1, 1, 1].repeat(1000)).text("compatible", "arm,gic-v2m-frame");
        tree.cells("reg", &[2, 0]);
    }
    (0..2000).for_each(|_| {
        tree.open("n").text("compatible", "arm,gic-v2m-frame").cells("reg", &[2, 0]).close();
    });
    (0..31).for_each(|_| {
        tree.close();
    });
    assert_eq!(Topology::from_device_tree(&tree.blob()).unwrap().doorbells().len(), 2030);
}
