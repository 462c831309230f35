// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one CPU does while another stands between two steps of a call: where the order of both is chosen, not met by chance.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master, MasterConfig,
    PhysAddr, Prot, Smmu, StreamId,
};
use smmuv3_model::Answers;
use smmuv3_testbench::keeping::trusted;
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{
    Observer, Point, TestMmio, TestPlatform, World, after_unlocking, before_masking,
};

const MACHINE: &str = r#"
name = "beside"
instance = [{ name = "smmu", ats = true, ssid-bits = 4 }]
master = [
    { name = "nic", instance = "smmu", streams = [5], ats = true, pasid-bits = 4 },
    { name = "disk", instance = "smmu", streams = [6], ats = true },
    { name = "plain", instance = "smmu", streams = [7], pasid-bits = 4 },
]
"#;
const NIC: usize = 0;
const DISK: usize = 1;
const PLAIN: usize = 2;
const IOVA: u64 = 0x10_0000;
const PAGE: u64 = 0x1000;

fn reads(world: &World, (master, substream): (usize, Option<u32>), iova: u64) -> bool {
    let mut buffer = [0; 8];
    let parts = world.machine().dma(master, substream, iova, Dma::Read(&mut buffer));
    matches!(parts.unwrap()[0].outcome, Outcome::Reached(_))
}

struct Machine {
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
    domain: Domain<TestPlatform>,
}

impl Machine {
    fn new() -> Self {
        let model = ModelMachine::new(&common::parse(MACHINE), 1).unwrap();
        let world = World::new(Arc::new(model), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, InstanceConfig::named("smmu")).unwrap().enable().unwrap();
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let machine = Self { world, iommu, smmu, domain };
        let memory = machine.world.frames().allocate(4 * PAGE, PAGE).unwrap();
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is the test's; nothing else works on the range.
        unsafe { machine.domain.map(Iova(IOVA), PhysAddr(memory), 4 * PAGE, attributes).unwrap() };
        machine
    }

    fn add(&self, stream: u32, config: MasterConfig) -> Master<TestPlatform> {
        self.iommu.add_master(&self.smmu, &[StreamId(stream)], config).unwrap()
    }

    /// Whether a device can read there.
    fn reads(&self, master: usize, substream: Option<u32>, iova: u64) -> bool {
        reads(&self.world, (master, substream), iova)
    }

    fn answer(&self, stream: u32, answers: Answers) {
        let mut model = self.world.machine().model(0).unwrap();
        model.endpoint_mut(stream).unwrap().answers = answers;
    }

    /// Unmaps the first page on another CPU. Where that has read whom to tell, and told nobody, `other` is done on this one:
    /// to its end, or until it waits for the first. Meanwhile a device reads the page again and again.
    fn unmap_beside(&self, device: (usize, Option<u32>), other: impl FnOnce()) {
        let (stopped, stops) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        thread::scope(|scope| {
            let unmap = scope.spawn(move || {
                before_masking(move || {
                    stopped.send(()).unwrap();
                    goes.recv().unwrap();
                });
                // SAFETY: nobody else works on the page.
                assert_eq!(unsafe { self.domain.unmap(Iova(IOVA), PAGE) }, Ok(PAGE));
            });
            stops.recv().unwrap();
            let waits = Waits {
                world: self.world.clone(),
                device,
                thread: thread::current().id(),
                turns: AtomicU64::new(0),
                go: Mutex::new(go.clone()),
            };
            self.world.set_observer(Some(Arc::new(waits)));
            let go_on = GoOn(go);
            other();
            drop(go_on);
            unmap.join().unwrap();
            self.world.set_observer(None);
        });
    }
}

/// Lets the other CPU go on in the end, and when this one panics.
struct GoOn(Sender<()>);

impl Drop for GoOn {
    fn drop(&mut self) {
        // Unless it has gone on by now, when nobody hears of it.
        let _ = self.0.send(());
    }
}

/// Lets the other CPU go on when this one waits for it.
struct Waits {
    world: Arc<World>,
    device: (usize, Option<u32>),
    thread: ThreadId,
    turns: AtomicU64,
    go: Mutex<Sender<()>>,
}

impl Observer for Waits {
    fn at(&self, _: Point, _: bool) {
        // More than any of these calls takes that waits for nobody.
        const MANY: u64 = 20_000;
        if thread::current().id() != self.thread {
            return;
        }
        reads(&self.world, self.device, IOVA);
        if self.turns.fetch_add(1, Ordering::Relaxed) == MANY {
            let _ = self.go.lock().unwrap().send(());
        }
    }
}

/// What another user of the tag lets the SMMU cache, it may grant a device that asks: whoever unmaps, and did not find the
/// device among those to be told, must be done by then.
#[test]
fn a_device_that_joins_a_domain_keeps_nothing_that_was_unmapped_without_it() {
    let machine = Machine::new();
    let plain = machine.add(7, MasterConfig::default());
    machine.iommu.attach(&plain, &machine.domain).unwrap();
    let nic = machine.add(5, trusted());
    assert!(machine.reads(PLAIN, None, IOVA));
    machine.unmap_beside((NIC, None), || machine.iommu.attach(&nic, &machine.domain).unwrap());
    assert!(!machine.reads(NIC, None, IOVA));
    assert!(machine.reads(NIC, None, IOVA + PAGE));
}

/// The same of a PASID, where the device has ATS on already.
#[test]
fn a_pasid_that_joins_a_domain_keeps_nothing_that_was_unmapped_without_it() {
    let machine = Machine::new();
    let plain = machine.add(7, MasterConfig::default());
    machine.iommu.attach(&plain, &machine.domain).unwrap();
    let mut config = trusted();
    config.pasid_bits = 4;
    let nic = machine.add(5, config);
    let other = machine.iommu.create_domain(DomainConfig::default()).unwrap();
    machine.iommu.attach(&nic, &other).unwrap();
    assert!(machine.reads(PLAIN, None, IOVA));
    let pasid = machine.iommu.allocate_pasid().unwrap();
    machine.unmap_beside((NIC, Some(pasid.0)), || {
        machine.iommu.attach_pasid(&nic, pasid, &machine.domain).unwrap();
    });
    assert!(!machine.reads(NIC, Some(pasid.0), IOVA));
    assert!(machine.reads(NIC, Some(pasid.0), IOVA + PAGE));
}

/// A device in quarantine is left out of an invalidation. While that is counted, and not yet placed, the device is
/// readmitted: none of both keeps what is unmapped.
#[test]
fn a_device_that_is_readmitted_takes_no_other_devices_place() {
    for first in [true, false] {
        let machine = Machine::new();
        let (nic, disk) = (machine.add(5, trusted()), machine.add(6, trusted()));
        for master in [&nic, &disk] {
            machine.iommu.attach(master, &machine.domain).unwrap();
        }
        // The one whose commands would come first, or last.
        let (silent, master, stream) = if first { (NIC, &nic, 5) } else { (DISK, &disk, 6) };
        machine.answer(stream, Answers::Never);
        assert!(machine.reads(silent, None, IOVA + PAGE));
        // SAFETY: nobody else works on the page.
        unsafe { machine.domain.unmap(Iova(IOVA + PAGE), PAGE).unwrap() };
        assert!(master.is_quarantined());
        machine.answer(stream, Answers::InTime);
        // What the SMMU has cached, both could be granted.
        assert!(machine.reads(NIC + DISK - silent, None, IOVA));
        machine.unmap_beside((silent, None), || machine.iommu.readmit(master).unwrap());
        for device in [NIC, DISK] {
            assert!(!machine.reads(device, None, IOVA), "device {device}, silent {silent}");
            assert!(machine.reads(device, None, IOVA + 2 * PAGE));
        }
    }
}

/// Who finds an instance by [`Iommu::smmus`] before whoever enables it has it may remove it.
#[test]
fn an_instance_that_is_removed_while_it_is_enabled_is_there_and_removed() {
    let model = ModelMachine::new(&common::parse(MACHINE), 1).unwrap();
    let world = World::new(Arc::new(model), 1);
    let iommu = Arc::new(Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap());
    let mmio = || TestMmio { world: world.clone(), instance: 0 };
    let probe = iommu.probe(mmio(), InstanceConfig::named("first")).unwrap();
    let removed = Arc::new(AtomicBool::new(false));
    after_unlocking({
        let (iommu, removed) = (iommu.clone(), removed.clone());
        move || {
            let found = iommu.smmus().next().unwrap();
            iommu.remove(found).unwrap();
            removed.store(true, Ordering::Relaxed);
        }
    });
    let smmu = probe.enable().unwrap();
    assert!(removed.load(Ordering::Relaxed));
    assert!(smmu.is_removed());
    assert_eq!(smmu.name(), "first");
    let second = iommu.probe(mmio(), InstanceConfig::named("second")).unwrap().enable().unwrap();
    assert_ne!(second.id(), smmu.id());
    assert_eq!((smmu.name(), second.name()), ("first", "second"));
}
