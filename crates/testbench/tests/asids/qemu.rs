// SPDX-License-Identifier: MIT OR Apache-2.0
//! Banks on QEMU's SMMUv3, which others wrote: it tags translations of streams that use stage 1 alone with their VMID, too.

use std::sync::Arc;

use smmuv3::invalidate::Tag;
use smmuv3::{
    AsidPolicy, Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master,
    MasterConfig, PhysAddr, Prot, StreamId,
};
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::machine_qemu::QemuMachine;
use smmuv3_testbench::platform::{TestPlatform, World};

use crate::common::{enable, parse, qemu_or_skip};

const SCENARIO: &str = r#"
name = "banks"
[[instance]]
name = "smmu"
stages = [1, 2]
[[master]]
name = "first"
instance = "smmu"
streams = [0x900]
[[master]]
name = "second"
instance = "smmu"
streams = [0xa00]
[[domain]]
name = "d"
[[step]]
attach = { master = "first", domain = "d" }
"#;

const IOVA: u64 = 0x1000_0000;
const PAGE: u64 = 0x1000;

struct Setup {
    machine: Arc<QemuMachine>,
    memory: [u64; 2],
}

impl Setup {
    /// Lets a master write 4 bytes; look-ups that missed, and whether the bytes are in the memory of each domain.
    fn write(&self, master: usize, page: u64, data: &[u8; 4]) -> (u64, [bool; 2]) {
        let misses = || self.machine.translations().unwrap().misses;
        let before = misses();
        self.machine.dma(master, None, IOVA + page * PAGE, Dma::Write(data)).unwrap();
        let there = self.memory.map(|memory| {
            let mut bytes = [0; 4];
            self.machine.ram().read(memory + page * PAGE, &mut bytes).unwrap();
            bytes == *data
        });
        (misses() - before, there)
    }
}

#[test]
fn two_domains_with_one_asid_in_two_banks_have_nothing_to_do_with_each_other() {
    let Some(binary) = qemu_or_skip() else { return };
    let machine = Arc::new(QemuMachine::start(&parse(SCENARIO), binary).unwrap());
    let world = World::new(machine.clone(), 1);
    let mut config = Config::default();
    config.asid_policy = AsidPolicy::Banked;
    let iommu = Iommu::new(TestPlatform(world.clone()), config).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.asid_bits = 6;
    let smmu = enable(&iommu, &world, 0, config);
    assert!(smmu.features().stage_2);

    let add = |stream: u32| {
        iommu.add_master(&smmu, &[StreamId(stream)], MasterConfig::default()).unwrap()
    };
    let memory = [(); 2].map(|()| world.frames().allocate(4 * PAGE, PAGE).unwrap());
    let create = || iommu.create_domain(DomainConfig::default()).unwrap();
    let (first, second) = (add(0x900), add(0xa00));
    let domains = [create(), create()];
    for (domain, memory) in domains.iter().zip(memory) {
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory lives as long as the test.
        unsafe { domain.map(Iova(IOVA), PhysAddr(memory), 4 * PAGE, attributes).unwrap() };
    }
    iommu.attach(&first, &domains[0]).unwrap();
    // The rest of the first bank.
    let others: Vec<(Master<_>, Domain<_>)> = (0..62).map(|at| (add(at), create())).collect();
    for (master, domain) in &others {
        iommu.attach(master, domain).unwrap();
    }
    iommu.attach(&second, &domains[1]).unwrap();
    let tag = |domain: usize| -> Tag { domains[domain].targets().unwrap()[0].tag };
    assert_eq!(tag(0), Tag::el1(0, 1));
    assert_eq!(tag(1), Tag::el1(1, 1));

    let setup = Setup { machine: machine.clone(), memory };
    // Each has its own memory at the same address, and its own entry: both are hit afterwards.
    for page in 0..4 {
        let (misses, there) = setup.write(0, page, b"1st.");
        assert!(misses > 0 && there == [true, false], "page {page}: {misses} {there:?}");
        let (misses, there) = setup.write(1, page, b"2nd.");
        assert!(misses > 0 && there == [false, true], "page {page}: {misses} {there:?}");
    }
    for page in 0..4 {
        assert_eq!(setup.write(0, page, b"3rd."), (0, [true, false]), "page {page}");
        assert_eq!(setup.write(1, page, b"4th."), (0, [false, true]), "page {page}");
    }
    // By address: of one, and not of the other.
    // SAFETY: the test is alone.
    assert_eq!(unsafe { domains[0].unmap(Iova(IOVA), PAGE) }, Ok(PAGE));
    assert_eq!(setup.write(1, 0, b"5th."), (0, [false, true]));
    let (misses, there) = setup.write(0, 0, b"6th.");
    assert!(misses > 0 && there == [false, false], "{misses} {there:?}");
    // SAFETY: as above.
    assert_eq!(unsafe { domains[1].unmap(Iova(IOVA + PAGE), PAGE) }, Ok(PAGE));
    assert_eq!(setup.write(0, 1, b"7th."), (0, [true, false]));
    let (misses, there) = setup.write(1, 1, b"8th.");
    assert!(misses > 0 && there == [false, false], "{misses} {there:?}");
    // By tag, when the last master leaves.
    iommu.detach(&first).unwrap();
    assert_eq!(setup.write(1, 2, b"9th."), (0, [false, true]));
    assert_eq!(setup.write(0, 2, b"10th"), (0, [false, false]), "it is blocked");
    // The tag is used again: nothing is left of the old one.
    iommu.attach(&first, &domains[1]).unwrap();
    assert_eq!(tag(1), Tag::el1(1, 1), "where the domain is already");
    assert_eq!(setup.write(0, 3, b"11th"), (0, [false, true]), "by the other's entry");
    iommu.detach(&second).unwrap();
    iommu.attach(&second, &domains[0]).unwrap();
    assert_eq!(tag(0), Tag::el1(0, 1));
    let (misses, there) = setup.write(1, 2, b"12th");
    assert!(misses > 0 && there == [true, false], "{misses} {there:?}");
    assert_eq!(setup.write(0, 3, b"13th"), (0, [false, true]));

    for master in [first, second] {
        iommu.detach(&master).unwrap();
        assert!(master.close().is_ok());
    }
    for (master, domain) in others {
        iommu.detach(&master).unwrap();
        assert!(master.close().is_ok() && domain.close().is_ok());
    }
    assert_eq!(iommu.free_asids(&smmu), 63 * 256);
    machine.health().unwrap();
}
