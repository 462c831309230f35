// SPDX-License-Identifier: MIT OR Apache-2.0
//! `arm,smmu-v3` nodes.

use smmuv3::Firmware;
use smmuv3_discovery::{Interrupts, Line, Model, Region, Topology, Trigger};

use super::common::tree::Tree;
use super::{findings, read, smmu, tree};

/// A tree with a GIC of phandle 1 and one SMMU.
fn one(properties: impl FnOnce(&mut Tree)) -> Topology {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("gic").text("compatible", "arm,gic-400").cells("phandle", &[1]);
    tree.cells("#interrupt-cells", &[3]).close();
    tree.open("other").text("compatible", "acme,intc").cells("phandle", &[9]);
    tree.cells("#interrupt-cells", &[1]).close();
    tree.open("iommu@9050000").text("compatible", "arm,smmu-v3");
    tree.cells("reg", &[0, 0x905_0000, 0, 0x2_0000]);
    properties(&mut tree);
    read(&tree.close().close().blob())
}

fn line(intid: u32, trigger: Trigger) -> Option<Line> {
    Some(Line { intid, trigger })
}

#[test]
fn interrupts_are_found_by_name() {
    let topology = one(|tree| {
        tree.cells("interrupt-parent", &[1]);
        tree.bytes("interrupt-names", b"gerror\0eventq\0cmdq-sync\0priq\0");
        // An SPI, a level-triggered one, a PPI, an extended SPI.
        tree.cells("interrupts", &[0, 5, 1, 0, 6, 4, 1, 3, 1, 2, 7, 1]);
    });
    let expected = Interrupts {
        gerror: line(37, Trigger::Edge),
        event: line(38, Trigger::Level),
        sync: line(19, Trigger::Edge),
        pri: line(4103, Trigger::Edge),
    };
    assert_eq!(topology.instances()[0].interrupts, expected);
    assert!(topology.check().is_empty());
    let of = |interrupts: Interrupts| -> Vec<_> {
        let lines = interrupts.lines(smmuv3::Completion::Interrupt);
        lines.map(|(line, which)| (line.intid, which)).collect()
    };
    use smmuv3::Interrupt as I;
    assert_eq!(
        of(expected),
        [(38, I::Events), (4103, I::PageRequests), (37, I::Error), (19, I::Sync)]
    );
    let two = Interrupts { gerror: expected.pri, sync: expected.event, ..expected };
    assert_eq!(of(two), [(38, I::Events), (4103, I::Any)]);
    let two = Interrupts { pri: expected.event, sync: None, ..expected };
    assert_eq!(of(two), [(38, I::Any), (37, I::Error)]);
}

#[test]
fn one_interrupt_for_everything() {
    let topology = one(|tree| {
        tree.text("interrupt-names", "combined").cells("interrupts-extended", &[1, 0, 5, 4]);
    });
    let combined = Interrupts::combined(line(37, Trigger::Level).unwrap());
    assert_eq!(topology.instances()[0].interrupts, combined);
    let lines: Vec<_> = combined.lines(smmuv3::Completion::Interrupt).collect();
    assert_eq!(lines, [(combined.event.unwrap(), smmuv3::Interrupt::Any)]);
}

#[test]
fn interrupts_of_several_controllers() {
    let topology = one(|tree| {
        tree.bytes("interrupt-names", b"priq\0eventq\0gerror\0");
        tree.cells("interrupts-extended", &[9, 4, 1, 0, 5, 1, 1, 0, 6, 1]);
    });
    let interrupts = topology.instances()[0].interrupts;
    assert_eq!(interrupts.event, line(37, Trigger::Edge));
    assert_eq!(interrupts.gerror, line(38, Trigger::Edge));
    assert_eq!(interrupts.pri, None);
    assert_eq!(
        findings(&topology),
        ["warning: /iommu@9050000: interrupt number 0 of its list is no line of a GIC: left out"]
    );
}

#[test]
fn interrupts_that_cannot_be() {
    for (good, properties) in [
        // Fewer than names, a kind that is none, numbers that are too high, nobody to send them to. Sometimes the first
        // is good.
        (true, &[("interrupt-parent", &[1][..]), ("interrupts", &[0, 5, 1])][..]),
        (false, &[("interrupt-parent", &[1]), ("interrupts", &[7, 5, 1, 4, 5, 1])]),
        (false, &[("interrupt-parent", &[1]), ("interrupts", &[0, 988, 1, 1, 16, 1])]),
        (true, &[("interrupt-parent", &[1]), ("interrupts", &[0, 987, 1, 3, 64, 1])]),
        (false, &[("interrupt-parent", &[1]), ("interrupts", &[2, 1024, 1, 3, 64, 1])]),
        (false, &[("interrupt-parent", &[77]), ("interrupts", &[0, 5, 1, 0, 6, 1])]),
        (false, &[("interrupts", &[0, 5, 1, 0, 6, 1])]),
        (false, &[("interrupts-extended", &[1, 0])]),
        (false, &[("interrupts-extended", &[])]),
    ] {
        let topology = one(|tree| {
            tree.bytes("interrupt-names", b"eventq\0gerror\0");
            properties.iter().for_each(|(name, cells)| {
                tree.cells(name, cells);
            });
        });
        let interrupts = topology.instances()[0].interrupts;
        assert_eq!(interrupts.gerror, None, "{properties:?}");
        assert_eq!(interrupts.event.is_some(), good, "{properties:?}");
        let all = findings(&topology);
        assert!(all.iter().any(|one| one.contains("interrupt number 1")), "{all:?}");
        assert!(all.iter().any(|one| one.contains("have to be polled")), "{all:?}");
    }
}

#[test]
fn options() {
    assert_eq!(one(|_| ()).instances()[0].model, Model::Generic);
    let option = |name: &'static str| {
        let topology = one(|tree| {
            tree.bytes(name, &[]);
        });
        (topology.instances()[0].model, topology.coherent())
    };
    assert_eq!(option("hisilicon,broken-prefetch-cmd"), (Model::Hi161x, false));
    assert_eq!(option("cavium,cn9900-broken-page1-regspace"), (Model::Cn99xx, false));
    assert_eq!(option("dma-coherent"), (Model::Generic, true));
}

#[test]
fn what_firmware_knows_is_what_the_driver_is_told() {
    let told = |name: &'static str| {
        let topology = one(|tree| {
            tree.bytes(name, &[]);
        });
        topology.instances()[0].firmware()
    };
    assert_eq!(told("dma-coherent"), Firmware::NONE);
    assert!(told("hisilicon,broken-prefetch-cmd").no_prefetch);
    let cavium = told("cavium,cn9900-broken-page1-regspace");
    assert!(cavium.page_0_only && !cavium.no_prefetch && !cavium.repeated_invalidation);
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("iommu").text("compatible", "nvidia,tegra264-smmu\0arm,smmu-v3");
    tree.cells("reg", &[0, 0, 0, 0x2_0000]);
    let topology = read(&tree.close().close().blob());
    assert_eq!(topology.instances()[0].model, Model::Tegra264);
    assert!(topology.instances()[0].firmware().repeated_invalidation);
}

#[test]
fn coherence_comes_from_above_unless_it_is_denied() {
    let under = |bus: &[&'static str], own: &[&'static str]| {
        let mut tree = Tree::new();
        tree.open("").open("bus").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        tree.bytes("ranges", &[]);
        bus.iter().for_each(|name| {
            tree.bytes(name, &[]);
        });
        tree.open("iommu").text("compatible", "arm,smmu-v3").cells("reg", &[0, 0, 0, 0x2_0000]);
        own.iter().for_each(|name| {
            tree.bytes(name, &[]);
        });
        read(&tree.close().close().close().blob()).coherent()
    };
    assert!(!under(&[], &[]));
    assert!(under(&["dma-coherent"], &[]));
    assert!(!under(&["dma-coherent"], &["dma-noncoherent"]));
}

#[test]
fn registers_on_a_bus_are_where_cpus_see_them() {
    let at = |ranges: Option<&[u32]>, reg: &[u32]| {
        let mut tree = Tree::new();
        tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        tree.open("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        // All at 2^40.
        tree.cells("ranges", &[0, 0x100, 0, 0x8000_0000]);
        tree.open("bus").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        if let Some(ranges) = ranges {
            tree.cells("ranges", ranges);
        }
        tree.open("iommu").text("compatible", "arm,smmu-v3").cells("reg", reg);
        let topology = read(&tree.close().close().close().close().blob());
        topology.instances().first().map(|smmu| smmu.registers)
    };
    let region = |base| Some(Region { base, len: 0x2_0000 });
    let reg = &[0x1_0000, 0x2_0000];
    assert_eq!(at(Some(&[]), reg), region(0x100_0001_0000));
    assert_eq!(at(Some(&[0, 0x10_0000, 0x3_0000]), reg), region(0x100_0011_0000));
    // The second range; one that ends too early; one that begins too late; none.
    let two = &[0x8_0000, 0, 0x1000, 0x1_0000, 0x20_0000, 0x2_0000];
    assert_eq!(at(Some(two), reg), region(0x100_0020_0000));
    assert_eq!(at(Some(&[0, 0, 0x2_ffff]), reg), None);
    assert_eq!(at(Some(&[0x1_0001, 0, 0x4_0000]), reg), None);
    assert_eq!(at(None, reg), None);
}

#[test]
fn an_smmu_that_is_not_in_use() {
    let status = |status: &'static str| {
        let mut tree = Tree::new();
        tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        tree.open("iommu");
        smmu(&mut tree, 0x905_0000, 2).text("status", status);
        read(&tree.close().close().blob()).instances().len()
    };
    assert_eq!((status("okay"), status("ok")), (1, 1));
    assert_eq!((status("disabled"), status("reserved"), status("")), (0, 0, 0));
}

#[test]
fn registers_that_are_too_small_or_those_of_another() {
    let blob = tree(|tree| {
        tree.open("iommu@3");
        smmu(tree, 0x907_0000, 7).close();
        tree.open("small").text("compatible", "arm,smmu-v3");
        tree.cells("reg", &[0, 0x1000, 0, 0x1000]).close();
        tree.open("none").text("compatible", "arm,smmu-v3").close();
    });
    let topology = read(&blob);
    assert_eq!(topology.instances().len(), 4);
    let all = findings(&topology);
    let wanted = [
        "warning: /none: `reg` is missing",
        "error: /small: registers of 0x1000 bytes at 0x1000: an SMMUv3 has two pages of 64 KiB, aligned to 64 KiB",
    ];
    wanted.iter().for_each(|one| assert!(all.iter().any(|other| other == one), "{all:#?}"));
    // 0x9070000 to 0x908ffff: the second of the tree begins within.
    assert!(
        all.iter().any(|one| one == "error: /iommu@3: its registers are also those of /iommu@2")
    );
}

#[test]
fn more_smmus_than_there_can_be() {
    let blob = tree(|tree| {
        for number in 0..70 {
            tree.open(&format!("more@{number}"));
            smmu(tree, 0x1000_0000 + number * 0x2_0000, 100 + number).close();
        }
    });
    let topology = read(&blob);
    assert_eq!(topology.instances().len(), 64);
    let left_out = findings(&topology);
    assert_eq!(left_out.iter().filter(|one| one.contains("more than the 64 SMMUs")).count(), 8);
}
