// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a device tree to masters, on modelled SMMUs.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::sync::Arc;

use common::tree::Tree;
use smmuv3::{
    AddMasterError, Attributes, Coherence, Completion, Config, DomainConfig, InstanceConfig,
    Interrupt, Iommu, Iova, KeepError, Message, PhysAddr, Prot, StreamId,
};
use smmuv3_discovery::iort::Iort;
use smmuv3_discovery::{
    BringUpError, Device, InstanceIndex, LookupError, MasterError, NotKept, System, Topology,
};
use smmuv3_formats::register::IrqCtrl;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;

/// Two SMMUs; a network device on PCI behind the first, one with a node of its own behind the second.
fn two() -> String {
    let masters: [(_, _, &[u32]); 2] = [("nic", "smmu0", &[0x10]), ("dma", "smmu1", &[7, 9])];
    common::machine(&["smmu0", "smmu1"], &masters)
}

/// The same machine as a device tree says it.
fn tree() -> Vec<u8> {
    tree_with(true, false)
}

fn tree_with(coherent: bool, sync: bool) -> Vec<u8> {
    tree_of_two([coherent; 2], sync)
}

fn tree_of_two(coherent: [bool; 2], sync: bool) -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.cells("interrupt-parent", &[1]);
    tree.open("gic@8000000").text("compatible", "arm,gic-v3").cells("phandle", &[1]);
    tree.cells("#interrupt-cells", &[3]).close();
    let smmus = [("iommu@9050000", 0x905_0000, 2, 74), ("iommu@9080000", 0x908_0000, 3, 90)];
    for ((name, base, phandle, spi), coherent) in smmus.into_iter().zip(coherent) {
        tree.open(name).text("compatible", "arm,smmu-v3").cells("reg", &[0, base, 0, 0x2_0000]);
        tree.cells("phandle", &[phandle]).cells("#iommu-cells", &[1]);
        if coherent {
            tree.bytes("dma-coherent", &[]);
        }
        if sync {
            tree.cells("interrupts", &[0, spi, 1, 0, spi + 1, 1, 0, spi + 20, 1]);
            tree.bytes("interrupt-names", b"eventq\0gerror\0cmdq-sync\0").close();
        } else {
            tree.cells("interrupts", &[0, spi, 1, 0, spi + 1, 1]);
            tree.bytes("interrupt-names", b"eventq\0gerror\0").close();
        }
    }
    tree.open("pcie@10000000").text("device_type", "pci").cells("bus-range", &[0, 0]);
    tree.cells("linux,pci-domain", &[0]).cells("iommu-map", &[0, 2, 0, 0x100]).close();
    tree.open("dma@1000").cells("iommus", &[3, 7, 3, 9]).close();
    tree.close().blob()
}

struct Rig {
    machine: Arc<ModelMachine>,
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
}

fn rig(machine: &str) -> Rig {
    let scenario = Scenario::parse(machine, "test").unwrap_or_else(|errors| panic!("{errors}"));
    let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
    let world = World::new(machine.clone(), scenario.instances.len());
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    Rig { machine, world, iommu }
}

impl Rig {
    fn bring_up(&self, tree: &[u8], without: &[u64]) -> System<TestPlatform> {
        let topology = Topology::from_device_tree(tree).unwrap();
        assert_eq!(topology.check(), []);
        let bases = [0x905_0000, 0x908_0000];
        let system = topology.bring_up(
            &self.iommu,
            |smmu| {
                let base = smmu.registers.base;
                let instance = bases.iter().position(|at| *at == base)?;
                let mmio = TestMmio { world: self.world.clone(), instance };
                (!without.contains(&base)).then_some(mmio)
            },
            |_, config| config.event_queue_log2 = 5,
        );
        system.unwrap()
    }
}

#[test]
fn a_device_of_either_kind_becomes_a_master_that_does_dma() {
    let rig = rig(&two());
    let system = rig.bring_up(&tree(), &[]);
    assert_eq!((system.smmus().count(), system.failures().count()), (2, 0));
    let smmu = system.smmu(InstanceIndex(0)).unwrap();
    assert_eq!((smmu.name(), smmu.config().event_queue_log2), ("iommu@9050000", 5));

    // 00:02.0 is stream 0x10.
    let nic = system.master(Device::pci(0, 2, 0)).unwrap();
    let dma = system.master(Device::Path("/dma@1000")).unwrap();
    let domain = rig.iommu.create_domain(DomainConfig::default()).unwrap();
    let buffer = PhysAddr(rig.machine.ram().base() + 0x80_0000);
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: nothing else uses that memory of the machine, nor these input addresses.
    unsafe { domain.map(Iova(0x1_0000), buffer, 0x1000, attributes).unwrap() };
    for (device, master) in [(0, &nic), (1, &dma)] {
        let write = |iova| rig.machine.dma(device, None, iova, Dma::Write(&[1, 2, 3, 4])).unwrap();
        assert_eq!(write(0x1_0000)[0].outcome, Outcome::Refused, "device {device}");
        rig.iommu.attach(master, &domain).unwrap();
        assert_eq!(write(0x1_0000)[0].outcome, Outcome::Reached(buffer.0), "device {device}");
        assert_eq!(write(0x2_0000)[0].outcome, Outcome::Refused, "device {device}");
    }
}

#[test]
fn interrupts_that_nobody_is_told_of_are_not_asked_for() {
    let rig = rig(&two());
    let topology = Topology::from_device_tree(&tree_with_memory()).unwrap();
    let mmio = |instance| TestMmio { world: rig.world.clone(), instance };
    let with = Topology::from_device_tree(&tree()).unwrap();
    for (topology, instance, enabled) in [(topology, 0, false), (with, 1, true)] {
        let mut mmio = Some(mmio(instance));
        let system = topology.bring_up(
            &rig.iommu,
            |_| mmio.take(),
            |_, config| config.completion = Completion::Interrupt,
        );
        let system = system.unwrap();
        let config = *system.smmu(InstanceIndex(0)).unwrap().config();
        // The tree with lines has one for events and one for errors, and none for CMD_SYNC.
        assert_eq!((config.interrupts, config.completion), (enabled, Completion::Poll));
    }
}

/// Firmware need not name wires for what is told by messages.
#[test]
fn interrupts_that_are_messages_need_no_wires() {
    let rig = rig(&two().replace("[[instance]]\n", "[[instance]]\nmsi = true\n"));
    let frame = rig.world.frames().allocate(0x1000, 0x1000).unwrap();
    let configure = |_: &_, config: &mut InstanceConfig| {
        // SAFETY: the frame is the test's, and nobody else's.
        let message = unsafe { Message::new(PhysAddr(frame), 7) };
        config.messages.errors = Some(message);
        config.messages.sync = Some(message);
        config.completion = Completion::Interrupt;
    };
    let topology = Topology::from_device_tree(&tree_with_memory()).unwrap();
    let mut mmio = Some(TestMmio { world: rig.world.clone(), instance: 0 });
    let system = topology.bring_up(&rig.iommu, |_| mmio.take(), configure).unwrap();
    let smmu = system.smmu(InstanceIndex(0)).unwrap();
    let config = smmu.config();
    assert_eq!((config.interrupts, config.completion), (true, Completion::Interrupt));
    assert!(IrqCtrl(rig.machine.read32(0, IrqCtrl::OFFSET)).gerror());
    assert_eq!(system.smmu(InstanceIndex(9)).err(), Some(BringUpError::NoSuchInstance));
}

#[test]
fn a_device_becomes_a_master_once() {
    let rig = rig(&two());
    let system = rig.bring_up(&tree(), &[]);
    let dma = system.master(Device::Path("/dma@1000")).unwrap();
    let taken = AddMasterError::Taken { stream: StreamId(7) };
    assert_eq!(system.master(Device::Path("/dma@1000")).err(), Some(MasterError::Add(taken)));
    dma.close().unwrap();
    assert!(system.master(Device::Path("/dma@1000")).is_ok());
}

#[test]
fn devices_that_firmware_does_not_have_behind_an_smmu_become_no_masters() {
    let rig = rig(&two());
    let system = rig.bring_up(&tree(), &[]);
    let why = |device| match system.master(device) {
        Err(MasterError::Lookup(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{device} is a master"),
    };
    assert_eq!(why(Device::Path("/dma@2000")), LookupError::UnknownDevice);
    assert_eq!(why(Device::pci(1, 0, 0)), LookupError::UnknownDevice);
    let other = Device::Pci { segment: 1, bus: 0, device: 2, function: 0 };
    assert_eq!(why(other), LookupError::UnknownDevice);
    assert_eq!(why(Device::pci(0, 32, 0)), LookupError::UnknownDevice);
}

#[test]
fn an_smmu_that_is_left_out_does_not_keep_the_others_down() {
    let rig = rig(&two());
    let system = rig.bring_up(&tree(), &[0x905_0000]);
    let failures: Vec<_> = system.failures().map(|(index, _, why)| (index, why)).collect();
    assert_eq!(failures, [(InstanceIndex(0), BringUpError::NoRegisters)]);
    assert!(system.master(Device::Path("/dma@1000")).is_ok());
    let down = MasterError::Down { instance: InstanceIndex(0), why: BringUpError::NoRegisters };
    assert_eq!(system.master(Device::pci(0, 2, 0)).err(), Some(down));
}

/// What firmware says of coherence counts, either way.
#[test]
fn an_smmu_is_as_coherent_as_firmware_says() {
    for (cohacc, firmware) in [(true, true), (true, false), (false, true), (false, false)] {
        let names = format!("name = \"smmu0\"\ncoherent = {cohacc}");
        let rig = rig(&two().replacen("name = \"smmu0\"", &names, 1));
        let mut topology = Topology::from_device_tree(&tree()).unwrap();
        if !firmware {
            topology = Topology::from_device_tree(&tree_with(false, false)).unwrap();
        }
        let mut mmio = Some(TestMmio { world: rig.world.clone(), instance: 0 });
        let system = topology.bring_up(&rig.iommu, |_| mmio.take(), |_, _| ()).unwrap();
        let features = system.smmu(InstanceIndex(0)).unwrap().features();
        assert_eq!((features.registers.idr0.cohacc(), features.coherent), (cohacc, firmware));
        // Where both differ, people are told.
        let told: Vec<_> = system.overridden().map(|(of, _, it)| (of.0, it.field)).collect();
        assert_eq!(told.contains(&(0, "IDR0.COHACC")), cohacc != firmware);
        assert_eq!(told.len(), usize::from(cohacc != firmware));
    }
}

/// The platform's memory is uncached if one of them needs that, which the others must not access as cacheable.
#[test]
fn an_smmu_beside_one_that_is_not_coherent_is_not_used_as_coherent() {
    // Tables and queues write-back, inner shareable; or non-cacheable.
    const CR1: u32 = 0x28;
    for (coherent, cr1) in [([true, true], 0xd75), ([true, false], 0), ([false, true], 0)] {
        let mut machine = two();
        for (name, cohacc) in ["smmu0", "smmu1"].into_iter().zip(coherent) {
            let name = format!("[[instance]]\nname = {name:?}\n");
            machine = machine.replacen(&name, &format!("{name}coherent = {cohacc}\n"), 1);
        }
        let rig = rig(&machine);
        let system = rig.bring_up(&tree_of_two(coherent, false), &[]);
        assert_eq!(system.topology().coherent(), coherent == [true, true]);
        let cohacc = |(_, _, smmu): (_, _, &smmuv3::Smmu<_>)| {
            (smmu.features().registers.idr0.cohacc(), smmu.features().coherent)
        };
        let of: Vec<_> = system.smmus().map(cohacc).collect();
        assert_eq!(of, coherent.map(|one| (one, cr1 != 0)));
        assert_eq!([0, 1].map(|instance| rig.machine.read32(instance, CR1)), [cr1; 2]);
    }
}

/// An IORT always says something of HTTU, which counts.
#[test]
fn what_the_iort_says_of_hardware_flags_counts_and_people_are_told() {
    for (registers, firmware) in [(0u64, 0u8), (2, 0), (1, 2), (2, 2)] {
        let names = format!("name = \"smmu0\"\nhttu = {registers}");
        let rig = rig(&two().replacen("name = \"smmu0\"", &names, 1));
        let flags = format!("{:02x}000000 00000000 0000000000000000", 1 | firmware << 1);
        let node = RMR.lines().take(4).collect::<Vec<_>>().join("\n");
        let node = node.replace("01000000 00000000 0000000000000000", &flags);
        let table = common::table::table(1, &node);
        let topology = Topology::from_iort(&Iort::new(&table).unwrap()).unwrap();
        let mut mmio = Some(TestMmio { world: rig.world.clone(), instance: 0 });
        let system = topology.bring_up(&rig.iommu, |_| mmio.take(), |_, _| ()).unwrap();
        let features = system.smmu(InstanceIndex(0)).unwrap().features();
        assert_eq!((features.access_flag, features.dirty_state), (firmware >= 1, firmware >= 2));
        let told: Vec<_> = system.overridden().map(|(of, _, it)| (of.0, it.to_string())).collect();
        let text = format!("IDR0.HTTU is {registers}, but {firmware} counts");
        let expected = if registers == u64::from(firmware) { vec![] } else { vec![(0, text)] };
        assert_eq!(told, expected);
    }
}

#[test]
fn whoever_configures_an_smmu_has_the_last_word_on_coherence() {
    let rig = rig(&two());
    let topology = Topology::from_device_tree(&tree_of_two([true, false], false)).unwrap();
    let mut mmio = Some(TestMmio { world: rig.world.clone(), instance: 0 });
    let configure = |_: &_, config: &mut InstanceConfig| {
        assert_eq!(config.coherent, Coherence::No);
        config.coherent = Coherence::Yes;
    };
    let system = topology.bring_up(&rig.iommu, |_| mmio.take(), configure).unwrap();
    assert!(system.smmu(InstanceIndex(0)).unwrap().features().coherent);
}

#[test]
fn an_event_leads_to_the_device_that_caused_it() {
    let rig = rig(&two());
    let system = rig.bring_up(&tree(), &[]);
    let ids: Vec<_> = system.smmus().map(|(_, _, smmu)| smmu.id()).collect();
    let of = |instance: usize, stream| system.device_of(ids[instance], StreamId(stream));
    assert_eq!(of(0, 0x10), Some(Device::pci(0, 2, 0)));
    assert_eq!(of(0, 0xff), Some(Device::pci(0, 31, 7)));
    assert_eq!((of(0, 0x100), of(0, 7)), (None, Some(Device::pci(0, 0, 7))));
    assert_eq!(
        (of(1, 7), of(1, 9)),
        (Some(Device::Path("/dma@1000")), Some(Device::Path("/dma@1000")))
    );
    assert_eq!((of(1, 8), of(1, 0x10)), (None, None));
}

#[test]
fn the_line_that_tells_of_completed_commands_is_listed_where_it_is_used() {
    for (completion, which) in
        [(Completion::Interrupt, Some(Interrupt::Sync)), (Completion::Poll, None)]
    {
        let rig = rig(&two());
        let topology = Topology::from_device_tree(&tree_with(true, true)).unwrap();
        let mut mmio = Some(TestMmio { world: rig.world.clone(), instance: 0 });
        let configure = |_: &_, config: &mut InstanceConfig| config.completion = completion;
        let system = topology.bring_up(&rig.iommu, |_| mmio.take(), configure).unwrap();
        // SPI 94 of the first SMMU, besides 74 and 75.
        assert_eq!(system.raised_by(32 + 94).map(|(_, which)| which).next(), which);
        let lines: Vec<_> =
            system.lines().map(|(line, _, which)| (line.intid - 32, which)).collect();
        let both = [(74, Interrupt::Events), (75, Interrupt::Error)];
        assert_eq!(
            lines,
            both.into_iter().chain(which.map(|which| (94, which))).collect::<Vec<_>>()
        );
        for (_, smmu, which) in system.lines().filter(|(_, _, which)| *which == Interrupt::Sync) {
            assert!(
                !rig.iommu.handle_interrupt(smmu, which, 1, &mut |report| panic!("{report:?}"))
            );
        }
    }
}

#[test]
fn an_interrupt_leads_to_the_smmu_that_raised_it() {
    let rig = rig(&two());
    let system = rig.bring_up(&tree(), &[]);
    let raised = |intid| -> Vec<_> {
        system.raised_by(intid).map(|(smmu, which)| (smmu.id().index(), which)).collect()
    };
    assert_eq!(raised(32 + 74), [(0, Interrupt::Events)]);
    assert_eq!(raised(32 + 75), [(0, Interrupt::Error)]);
    assert_eq!(raised(32 + 90), [(1, Interrupt::Events)]);
    assert_eq!(raised(32), []);
}

/// [`tree`], with memory that the device with a node of its own is using: at 8 and 12 MiB of RAM, one page each, which
/// two nodes say of the first, and which both must be one master.
fn tree_with_memory() -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    for (name, base, phandle) in [("iommu@1", 0x905_0000, 2), ("iommu@2", 0x908_0000, 3)] {
        tree.open(name).text("compatible", "arm,smmu-v3").cells("reg", &[0, base, 0, 0x2_0000]);
        tree.cells("interrupt-parent", &[9]).bytes("interrupt-names", &[]);
        tree.cells("phandle", &[phandle]).cells("#iommu-cells", &[1]).bytes("dma-coherent", &[]);
        tree.close();
    }
    tree.open("dma").cells("iommus", &[3, 7, 3, 9]).cells("phandle", &[8]).close();
    tree.open("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.bytes("ranges", &[]);
    for (name, low, len) in [("one", 0x8080_0000, 0x2000), ("two", 0x80c0_0000, 0x1000)] {
        tree.open(name).cells("reg", &[8, low, 0, len]);
        tree.cells("iommu-addresses", &[8, 8, low, 0, len]).close();
    }
    tree.open("again").cells("reg", &[8, 0x8080_1000, 0, 0x2000]);
    tree.cells("iommu-addresses", &[8, 8, 0x8080_1000, 0, 0x2000]).close();
    tree.close().close().blob()
}

/// What became of a write by the second device, at an offset in RAM that is its input address, too.
fn written(rig: &Rig, offset: u64) -> bool {
    let at = rig.machine.ram().base() + offset;
    let parts = rig.machine.dma(1, None, at, Dma::Write(&[1, 2, 3, 4])).unwrap();
    match parts[0].outcome {
        Outcome::Reached(pa) => {
            assert_eq!(pa, at);
            true
        }
        Outcome::Refused | Outcome::Stalled | Outcome::NotGranted => false,
        Outcome::Unknown => panic!("the model knows"),
    }
}

fn bring_up_with_memory(rig: &Rig, claim: bool) -> System<TestPlatform> {
    let mut topology = Topology::from_device_tree(&tree_with_memory()).unwrap();
    assert_eq!(topology.kept().len(), 3);
    if claim {
        // SAFETY: nothing uses that memory of the machine: its allocator begins elsewhere.
        unsafe { topology.claim_kept(|_| true) };
    }
    let mmio = |instance| TestMmio { world: rig.world.clone(), instance };
    let registers = |smmu: &smmuv3_discovery::Instance| {
        Some(mmio(usize::from(smmu.registers.base != 0x905_0000)))
    };
    topology.bring_up(&rig.iommu, registers, |_, _| ()).unwrap()
}

#[test]
fn memory_that_is_claimed_is_reached_from_the_start_and_nothing_else() {
    let rig = rig(&two());
    let system = bring_up_with_memory(&rig, true);
    assert_eq!((system.smmus().count(), system.not_kept().count()), (2, 0));
    for (offset, reached) in [
        (0x80_0000, true),
        (0x80_1000, true),
        (0x80_2000, true),
        (0x80_3000, false),
        (0x7f_f000, false),
        (0xc0_0000, true),
        (0xc0_1000, false),
    ] {
        assert_eq!(written(&rig, offset), reached, "{offset:#x}");
    }
    // It is a master already, which is to be had once.
    let dma = Device::Path("/dma");
    let taken = AddMasterError::Taken { stream: StreamId(7) };
    assert_eq!(system.master(dma).err(), Some(MasterError::Add(taken)));
    let (master, domain) = system.take_kept(dma).unwrap().unwrap();
    assert!(system.take_kept(dma).unwrap().is_none());
    rig.iommu.detach(&master).unwrap();
    assert!(!written(&rig, 0x80_0000) && !written(&rig, 0xc0_0000));
    drop(domain);
}

#[test]
fn memory_that_nobody_claims_is_refused() {
    let rig = rig(&two());
    let system = bring_up_with_memory(&rig, false);
    let why: Vec<_> =
        system.not_kept().map(|(of, kept, why)| (of.0, kept.name.as_str(), why)).collect();
    let name = |name: &'static str| (1, name, NotKept::NotClaimed);
    assert_eq!(
        why,
        ["/reserved-memory/one", "/reserved-memory/two", "/reserved-memory/again"].map(name)
    );
    assert!(!written(&rig, 0x80_0000));
    assert!(system.take_kept(Device::Path("/dma")).unwrap().is_none());
    assert!(system.master(Device::Path("/dma")).is_ok());
}

#[test]
fn what_cannot_be_kept_does_not_keep_the_smmu_down() {
    let rig = rig(&two());
    let mut topology = Topology::from_device_tree(&tree_with_memory()).unwrap();
    // SAFETY: as above.
    unsafe { topology.claim_kept(|_| true) };
    let mmio = |instance| TestMmio { world: rig.world.clone(), instance };
    let system = topology.bring_up(
        &rig.iommu,
        |smmu| Some(mmio(usize::from(smmu.registers.base != 0x905_0000))),
        // Streams 7 and 9 are beyond.
        |_, config| config.sid_bits = 2,
    );
    let system = system.unwrap();
    assert_eq!(system.smmus().count(), 2);
    let why: Vec<_> = system.not_kept().map(|(of, kept, why)| (of.0, &kept.name, why)).collect();
    assert_eq!(why.len(), 3);
    for (instance, _, why) in why {
        let NotKept::Refused(KeepError::Master(AddMasterError::OutOfRange { .. })) = why else {
            panic!("{why}")
        };
        assert_eq!(instance, 1);
    }
    assert!(!written(&rig, 0x80_0000));
}

/// An IORT with one SMMU, and memory at 8 MiB of RAM for streams 7 to 9 and at 12 MiB for stream 9.
const RMR: &str = "
04 4400 01 01000000 00000000 00000000
0000050900000000 01000000 00000000 0000000000000000 00000000
6a000000 6b000000 6d000000 6c000000 00000000 00000000
06 4400 03 02000000 01000000 1c000000
14000000 01000000 30000000
00000000 02000000 07000000 30000000 00000000
0000808008000000 0000010000000000 00000000
06 4400 03 03000000 01000000 1c000000
14000000 01000000 30000000
00000000 00000000 09000000 30000000 01000000
0000c08008000000 0000010000000000 00000000
";

#[test]
fn streams_of_several_entries_reach_what_those_say_and_not_more() {
    let masters: [(_, _, &[u32]); 2] = [("seven", "smmu0", &[7]), ("nine", "smmu0", &[9])];
    let rig = rig(&common::machine(&["smmu0"], &masters));
    let table = common::table::table(3, RMR);
    let mut topology = Topology::from_iort(&Iort::new(&table).unwrap()).unwrap();
    assert_eq!(topology.check(), []);
    // SAFETY: as above.
    unsafe { topology.claim_kept(|_| true) };
    let mmio = TestMmio { world: rig.world.clone(), instance: 0 };
    let mut mmio = Some(mmio);
    let system = topology.bring_up(&rig.iommu, |_| mmio.take(), |_, _| ()).unwrap();
    assert_eq!((system.smmus().count(), system.not_kept().count()), (1, 0));
    let reaches = |device, offset| {
        let at = rig.machine.ram().base() + offset;
        let parts = rig.machine.dma(device, None, at, Dma::Write(&[1])).unwrap();
        parts[0].outcome == Outcome::Reached(at)
    };
    assert!(reaches(0, 0x80_0000) && reaches(1, 0x80_0000) && reaches(1, 0xc0_0000));
    assert!(!reaches(0, 0xc0_0000), "stream 7 is not in the second entry");
}

/// A tree of SMMUs with these registers.
fn tree_of(registers: &[(u32, u32)]) -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    for (base, len) in registers {
        tree.open("iommu").text("compatible", "arm,smmu-v3").cells("reg", &[*base, *len]).close();
    }
    tree.close().blob()
}

#[test]
fn registers_that_an_smmu_cannot_have_are_not_asked_for() {
    let rig = rig(&two());
    let registers = [
        (0x100_0000, 0x2_0000),
        // One byte less, aligned to less, the second page of the first, and of the one aligned to less.
        (0x200_0000, 0x1_ffff),
        (0x300_8000, 0x2_0000),
        (0x101_0000, 0x2_0000),
        (0x400_0000, 0x4_0000),
    ];
    let topology = Topology::from_device_tree(&tree_of(&registers)).unwrap();
    let mut asked = Vec::new();
    let map = |smmu: &smmuv3_discovery::Instance| {
        asked.push(smmu.registers.base);
        None::<TestMmio>
    };
    let system = topology.bring_up(&rig.iommu, map, |_, _| ()).unwrap();
    let why: Vec<_> = system.failures().map(|(_, _, why)| why).collect();
    let odd =
        |(base, len): (u32, u32)| BringUpError::Registers { base: base.into(), len: len.into() };
    let twice = BringUpError::RegistersTwice { other: InstanceIndex(0) };
    let none = BringUpError::NoRegisters;
    assert_eq!(why, [none, odd(registers[1]), odd(registers[2]), twice, none]);
    assert_eq!(asked, [0x100_0000, 0x400_0000]);
}

#[test]
fn memory_of_many_entries_in_many_combinations_is_limited() {
    let rig = rig(&two());
    // One entry of 3,000 regions for streams 0 to 9, and one for each of those: ten masters that reach all of them.
    let word = |word: u32| format!("{:08x} ", word.swap_bytes());
    let smmu = RMR.lines().take(4).collect::<Vec<_>>().join("\n");
    let first = 28 + 3_000 * 20;
    let many = format!("06 {} 03 02000000 01000000 {}", &word(first + 20)[..4], word(first))
        + &format!("00000000 {} 1c000000", word(3_000))
        + &"0000808008000000 0000010000000000 00000000".repeat(3_000)
        + "00000000 09000000 00000000 30000000 00000000";
    let one = |stream: u32| {
        format!("06 4400 03 {} 01000000 1c000000 00000000 01000000 30000000", word(3 + stream))
            + &format!("00000000 00000000 {} 30000000 01000000", word(stream))
            + "0000c08008000000 0000010000000000 00000000"
    };
    let nodes = smmu + &many + &(0..10).map(one).collect::<String>();
    let mut topology =
        Topology::from_iort(&Iort::new(&common::table::table(12, &nodes)).unwrap()).unwrap();
    assert_eq!(topology.kept().len(), 11);
    // SAFETY: as above.
    unsafe { topology.claim_kept(|_| true) };
    let mut mmio = Some(TestMmio { world: rig.world.clone(), instance: 0 });
    let system = topology.bring_up(&rig.iommu, |_| mmio.take(), |_, _| ()).unwrap();
    assert_eq!(system.smmus().count(), 1);
    let why: Vec<_> = system.not_kept().map(|(_, kept, why)| (kept.regions.len(), why)).collect();
    let limit = NotKept::TooManyRegions { limit: 4096 };
    // What all have, and what belongs to the nine that there is no room for.
    assert_eq!(why.iter().filter(|why| **why == (3_000, limit)).count(), 1);
    assert_eq!(why.iter().filter(|why| **why == (1, limit)).count(), 9);
    assert_eq!(why.len(), 10);
}
