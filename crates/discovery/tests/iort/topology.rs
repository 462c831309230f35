// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the golden table means.

use smmuv3::{Completion, Memory, StreamId};
use smmuv3_discovery::iort::Iort;
use smmuv3_discovery::{
    Device, DoorbellKind, InstanceIndex, Interrupts, Line, LookupError, Model, Region, Severity,
    Target, Topology, Trigger, Watched, What,
};

use crate::common::table::{golden, summed};

fn topology() -> Topology {
    Topology::from_iort(&Iort::new(&golden()).unwrap()).unwrap()
}

fn streams(device: Device<'_>) -> Result<(usize, Vec<u32>), LookupError> {
    let topology = topology();
    let (instance, streams) = topology.streams_of(device)?;
    Ok((instance.0, streams.iter().map(|stream| stream.0).collect()))
}

fn line(intid: u32) -> Option<Line> {
    Some(Line { intid, trigger: Trigger::Edge })
}

#[test]
fn what_is_odd_about_it() {
    let topology = topology();
    let all: Vec<_> = topology.check().iter().map(ToString::to_string).collect();
    assert_eq!(
        all,
        [
            r"note: named component at offset 0x278: it is behind SMMUv1/v2 at offset 0x264, which is not driven here: it cannot be attached"
        ]
    );
    assert_eq!(topology.check()[0].severity(), Severity::Note);
}

#[test]
fn both_smmus() {
    let topology = topology();
    let [first, second] = topology.instances() else { panic!() };
    assert_eq!(first.registers, Region { base: 0x2b40_0000, len: 0x2_0000 });
    assert_eq!((first.coherent, first.httu, first.model), (true, Some(2), Model::Generic));
    assert_eq!((first.vatos, first.proximity), (Some(0x2b42_0000), Some(7)));
    assert_eq!((first.firmware().httu, second.firmware().page_0_only), (Some(2), true));
    let interrupts = Interrupts { event: line(106), pri: None, sync: line(108), gerror: line(109) };
    assert_eq!(first.interrupts, interrupts);
    let own = first.msi.unwrap();
    assert_eq!(own.device_id, 0xabcd);
    assert_eq!(topology.doorbells()[own.doorbell.0].kind, DoorbellKind::Its { id: 5 });

    // One page only, one line for all, and no messages.
    assert_eq!(second.registers, Region { base: 0x2b60_0000, len: 0x1_0000 });
    assert_eq!((second.coherent, second.model), (false, Model::Cn99xx));
    assert_eq!(second.interrupts, Interrupts::combined(line(144).unwrap()));
    assert_eq!(second.interrupts.lines(Completion::Interrupt).count(), 1);
    assert_eq!(second.msi, None);
    assert!(!topology.coherent());
}

#[test]
fn monitors() {
    let topology = topology();
    let [group] = topology.monitors() else { panic!() };
    let page = |base| Region { base, len: 0x1000 };
    assert_eq!((group.page_0, group.page_1), (page(0x2b40_2000), Some(page(0x2b41_2000))));
    assert_eq!((group.page_number(), group.interrupt), (0x2b402, line(110)));
    assert_eq!((&group.watches, group.msi), (&Watched::Smmu(InstanceIndex(0)), None));
    assert_eq!(group.name, "PMCG at offset 0x23c");
}

/// The golden table, with a word of its only group of monitors changed; and what is odd about that group.
fn with_monitor(at: usize, value: u32) -> (Topology, Vec<String>) {
    let mut table = golden();
    table[0x23c + at..][..4].copy_from_slice(&value.to_le_bytes());
    let topology = Topology::from_iort(&Iort::new(&summed(table)).unwrap()).unwrap();
    let odd = topology.check().iter().filter(|finding| finding.place.starts_with("PMCG"));
    let odd = odd.map(|finding| finding.what.to_string()).collect();
    (topology, odd)
}

#[test]
fn monitors_with_less_and_of_others() {
    // One page, and no interrupt.
    for base in [0, 0x2b40_2000] {
        let (topology, odd) = with_monitor(32, base);
        assert_eq!((topology.monitors()[0].page_1, odd), (None, Vec::new()));
    }
    assert_eq!(with_monitor(24, 0).0.monitors()[0].interrupt, None);
    // Of each root complex and device; of an SMMU that is not driven.
    for (reference, name) in [
        (0x110, "root complex at offset 0x110"),
        (0x194, r"\_SB.DMA0"),
        (0x264, "SMMUv1/v2 at offset 0x264"),
    ] {
        let (topology, odd) = with_monitor(28, reference);
        let watched = match &topology.monitors()[0].watches {
            Watched::Root(index) => &topology.roots()[*index].name,
            Watched::Device(index) => &topology.devices()[*index].name,
            Watched::Node(name) if reference == 0x264 => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(watched, name);
        assert_eq!(odd, [""; 0]);
    }
}

#[test]
fn monitors_that_make_no_sense() {
    let (topology, odd) = with_monitor(28, 0x111);
    assert_eq!(topology.monitors()[0].watches, Watched::Unknown);
    assert_eq!(odd, [What::Nowhere { reference: 0x111 }.to_string()]);
    // The first page is none: left out. The second is none: without it.
    for base in [0u32, 0x2b40_2100] {
        let (topology, odd) = with_monitor(16, base);
        assert!(topology.monitors().is_empty());
        assert_eq!(odd, [What::Registers { base: base.into(), len: 0x1000 }.to_string()]);
    }
    let (topology, odd) = with_monitor(32, 0x2b41_2004);
    assert_eq!(topology.monitors()[0].page_1, None);
    assert_eq!(odd, [What::Registers { base: 0x2b41_2004, len: 0x1000 }.to_string()]);
}

#[test]
fn pci_functions_of_both_segments() {
    let pci = |segment, bus, device, function| Device::Pci { segment, bus, device, function };
    assert_eq!(streams(pci(1, 0, 0, 0)), Ok((0, vec![0x100])));
    assert_eq!(streams(pci(1, 0, 31, 7)), Ok((0, vec![0x1ff])));
    // Past the SMMU, and in no mapping at all.
    assert_eq!(streams(pci(1, 1, 0, 0)), Err(LookupError::NotBehindAnSmmu));
    assert_eq!(streams(pci(1, 2, 0, 0)), Err(LookupError::NotBehindAnSmmu));
    assert_eq!(streams(pci(0, 2, 0, 0)), Ok((1, vec![0x200])));
    assert_eq!(streams(pci(2, 0, 0, 0)), Err(LookupError::UnknownDevice));
}

#[test]
fn a_component_and_what_is_on_its_bus() {
    assert_eq!(streams(Device::Path(r"\_SB.DMA0")), Ok((0, vec![0x77])));
    let on_bus = |id| streams(Device::OnBus { path: r"\_SB.DMA0", id });
    assert_eq!(on_bus(0x10), Ok((0, vec![0x200])));
    assert_eq!(on_bus(0x1f), Ok((0, vec![0x20f])));
    assert_eq!(on_bus(0xf), Err(LookupError::NotBehindAnSmmu));
    assert_eq!(on_bus(0x20), Err(LookupError::NotBehindAnSmmu));
    assert_eq!(streams(Device::Path(r"\_SB.GPU0")), Err(LookupError::NotBehindAnSmmu));
    assert_eq!(streams(Device::Path(r"\_SB.DMA")), Err(LookupError::UnknownDevice));
    let topology = topology();
    let device_of = |stream| topology.device_of(InstanceIndex(0), StreamId(stream));
    assert_eq!(device_of(0x77), Some(Device::Path(r"\_SB.DMA0")));
    assert_eq!(device_of(0x20f), Some(Device::OnBus { path: r"\_SB.DMA0", id: 0x1f }));
    assert_eq!((device_of(0x210), device_of(0x78)), (None, None));
    let [dma, gpu] = topology.devices() else { panic!() };
    assert_eq!((dma.can_stall, dma.pasid_bits, dma.address_bits), (true, 20, Some(32)));
    assert!(gpu.coherent && !dma.coherent);
    assert_eq!(gpu.own[0].target, Target::Foreign);
}

#[test]
fn how_devices_access_memory() {
    let pci = |segment| Device::Pci { segment, bus: 0, device: 1, function: 0 };
    let topology = topology();
    let of = |device| topology.dma_of(device);
    assert_eq!((of(pci(0)), of(pci(1))), (Ok((None, false)), Ok((Some(48), true))));
    assert_eq!(of(pci(2)), Err(LookupError::UnknownDevice));
    assert_eq!(of(Device::Path(r"\_SB.DMA0")), Ok((Some(32), false)));
    assert_eq!(of(Device::OnBus { path: r"\_SB.DMA0", id: 0x10 }), Ok((Some(32), false)));
    // Behind no SMMU that is driven.
    assert_eq!(of(Device::Path(r"\_SB.GPU0")), Ok((Some(40), true)));
}

#[test]
fn of_several_roots_the_one_that_can_do_least_counts() {
    let pci = Device::Pci { segment: 1, bus: 0, device: 1, function: 0 };
    // The other root is of segment 1, too, and not coherent; the first one has 48 bits, or 64, which are no limit.
    for (at, to, expected) in [(0, 0, Some(48)), (0x130, 64, None), (0x130, 0xff, None)] {
        let mut table = golden();
        table[0x17c] = 1;
        if at != 0 {
            table[at] = to;
        }
        let table = summed(table);
        let topology = Topology::from_iort(&Iort::new(&table).unwrap()).unwrap();
        assert_eq!(topology.roots().iter().filter(|root| root.segment == 1).count(), 2);
        assert_eq!(topology.dma_of(pci), Ok((expected, false)));
    }
}

#[test]
fn messages_pass_two_mappings() {
    let topology = topology();
    let msi = |device| topology.msi_of(device).unwrap().map(|msi| msi.device_id);
    let pci = |segment, bus, device| Device::Pci { segment, bus, device, function: 0 };
    // Requester 8, stream 0x108, DeviceID 0x10108.
    assert_eq!(msi(pci(1, 0, 1)), Some(0x1_0108));
    // Requester 0x108 reaches the ITS past the SMMU.
    assert_eq!(msi(pci(1, 1, 1)), Some(0x108));
    assert_eq!(msi(Device::Path(r"\_SB.DMA0")), Some(0x1_0077));
    // The second SMMU leads to no ITS.
    assert_eq!(msi(pci(0, 0, 1)), None);
}

#[test]
fn memory_that_is_in_use() {
    let topology = topology();
    let [kept] = topology.kept() else { panic!() };
    assert_eq!(kept.streams, [(InstanceIndex(0), StreamId(0x77), StreamId(0x77))]);
    let regions =
        [Region { base: 0x8000_0000, len: 0x1_0000 }, Region { base: 0x9000_0000, len: 0x2_0000 }];
    assert_eq!(kept.regions, regions);
    assert_eq!((kept.may_move, kept.privileged), (false, true));
    assert_eq!(kept.memory, Memory::NormalCacheable);
    assert_eq!(topology.reserved_for(Device::Path(r"\_SB.DMA0")).unwrap(), regions);
    let on_bus = Device::OnBus { path: r"\_SB.DMA0", id: 0x10 };
    assert_eq!(topology.reserved_for(on_bus).unwrap(), []);
    let ranges: Vec<_> = regions.iter().map(Region::range).collect();
    assert_eq!(ranges, [0x8000_0000..0x8001_0000, 0x9000_0000..0x9002_0000]);
    assert_eq!(Region { base: u64::MAX - 0xfff, len: 0x1000 }.range().end, u64::MAX);
}

#[test]
fn firmware_that_counts_ids_whole() {
    let mut table = golden();
    table[10..24].copy_from_slice(b"HISI  HIP07   ");
    table[24..28].copy_from_slice(&[0; 4]);
    let topology = Topology::from_iort(&Iort::new(&summed(table)).unwrap()).unwrap();
    let pci = |function| Device::Pci { segment: 1, bus: 0, device: 31, function };
    assert!(topology.streams_of(pci(6)).is_ok());
    // The range of 0xff IDs ends at 0xfe.
    assert_eq!(topology.streams_of(pci(7)).err(), Some(LookupError::NotBehindAnSmmu));
}

#[test]
fn two_roots_that_claim_the_same_streams() {
    let mut table = golden();
    // The root of segment 0 leads to the first SMMU as well.
    table[0x160 + 0x20 + 12..][..4].copy_from_slice(&0x4c_u32.to_le_bytes());
    let topology = Topology::from_iort(&Iort::new(&summed(table)).unwrap()).unwrap();
    let of_root = "root complex at offset 0x160";
    let all = topology.check().iter().filter(
        |finding| matches!(&finding.what, What::StreamsTwice { other, .. } if other == of_root),
    );
    let all: Vec<_> = all.map(|finding| finding.place.as_str()).collect();
    assert_eq!(all, [r"\_SB.DMA0", "root complex at offset 0x110", r"\_SB.DMA0"]);
    assert!(all.len() < topology.check().len());
    let worst = topology.check().iter().map(|finding| finding.severity()).max();
    assert_eq!(worst, Some(Severity::Error));
}
