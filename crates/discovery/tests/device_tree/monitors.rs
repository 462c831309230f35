// SPDX-License-Identifier: MIT OR Apache-2.0
//! `arm,smmu-v3-pmcg` nodes.

use smmuv3_discovery::{Line, Region, Trigger, Watched};

use super::common::tree::Tree;
use super::{findings, read, tree};

/// A tree with such a node, with `properties`.
fn one(properties: impl FnOnce(&mut Tree)) -> smmuv3_discovery::Topology {
    read(&tree(|tree| {
        tree.open("pmu@9052000").bytes("compatible", b"arm,mmu-600-pmcg\0arm,smmu-v3-pmcg\0");
        properties(tree);
        tree.close();
    }))
}

const PAGES: [u32; 8] = [0, 0x905_2000, 0, 0x1000, 0, 0x906_2000, 0, 0x1000];

#[test]
fn registers_interrupt_and_messages() {
    let topology = one(|tree| {
        tree.cells("reg", &PAGES).cells("interrupts", &[0, 80, 1]).cells("msi-parent", &[4, 0x55]);
    });
    let [group] = topology.monitors() else { panic!() };
    assert_eq!(group.name, "/pmu@9052000");
    assert_eq!(group.page_0, Region { base: 0x905_2000, len: 0x1000 });
    assert_eq!(group.page_1, Some(Region { base: 0x906_2000, len: 0x1000 }));
    assert_eq!(group.interrupt, Some(Line { intid: 112, trigger: Trigger::Edge }));
    assert_eq!(group.msi.map(|msi| (msi.doorbell.0, msi.device_id)), Some((0, 0x55)));
    assert_eq!((&group.watches, group.page_number()), (&Watched::Unknown, 0x9052));
    assert_eq!(findings(&topology), [""; 0]);
}

#[test]
fn one_page_and_nothing_else() {
    let topology = one(|tree| {
        tree.cells("reg", &PAGES[..4]);
    });
    let [group] = topology.monitors() else { panic!() };
    assert_eq!((group.page_1, group.interrupt, group.msi), (None, None, None));
    assert_eq!(findings(&topology), [""; 0]);
}

#[test]
fn what_makes_no_sense_is_left_out_and_told() {
    let topology = one(|tree| {
        tree.cells("reg", &PAGES[..4]).cells("interrupts", &[7, 80, 1]);
    });
    assert_eq!(topology.monitors()[0].interrupt, None);
    assert_eq!(findings(&topology).len(), 1);
    // No registers; no whole page; none that begins where one does.
    for reg in [None, Some([0, 0x905_2000, 0, 0x800]), Some([0, 0x905_2800, 0, 0x1000])] {
        let topology = one(|tree| {
            if let Some(reg) = reg {
                tree.cells("reg", &reg);
            }
        });
        assert!(topology.monitors().is_empty(), "{reg:?}");
        assert_eq!(findings(&topology).len(), 1, "{reg:?}");
    }
    let topology = one(|tree| {
        tree.cells("reg", &PAGES).text("status", "disabled");
    });
    assert!(topology.monitors().is_empty());
}
