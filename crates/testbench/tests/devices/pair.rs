// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two devices that keep translations, one of which may fall silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master, PhysAddr, Prot,
    Smmu, StreamId, Trace,
};
use smmuv3_model::Answers;
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

use super::parse;

pub const MACHINE: &str = r#"
name = "silent"
instance = [{ name = "smmu", ats = true }]
master = [
    { name = "nic", instance = "smmu", streams = [5], ats = true },
    { name = "disk", instance = "smmu", streams = [6], ats = true },
]
"#;
pub const NIC: usize = 0;
pub const DISK: usize = 1;
pub const IOVA: u64 = 0x10_0000;
pub const PAGE: u64 = 0x1000;

/// Whether a device can read there.
pub fn reads(world: &World, master: usize, iova: u64) -> bool {
    let mut buffer = [0; 8];
    let parts = world.machine().dma(master, None, iova, Dma::Read(&mut buffer)).unwrap();
    matches!(parts[0].outcome, Outcome::Reached(_))
}

pub fn answer(world: &World, stream: u32, answers: Answers) {
    let mut model = world.machine().model(0).unwrap();
    model.endpoint_mut(stream).unwrap().answers = answers;
}

/// Two devices of one domain, both of which keep where its first pages lead; the first never answers.
pub struct Pair {
    pub world: Arc<World>,
    pub iommu: Iommu<TestPlatform>,
    pub domain: Domain<TestPlatform>,
    pub masters: [Master<TestPlatform>; 2],
    pub smmu: Smmu<TestPlatform>,
}

impl Pair {
    pub fn new(seed: u64) -> Arc<Self> {
        Self::within(seed, InstanceConfig::named("smmu"))
    }

    pub fn within(seed: u64, config: InstanceConfig) -> Arc<Self> {
        let machine = ModelMachine::new(&parse(MACHINE), seed).unwrap();
        let world = World::new(Arc::new(machine), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
        let masters = [5, 6].map(|stream| {
            let config = smmuv3_testbench::keeping::trusted();
            iommu.add_master(&smmu, &[StreamId(stream)], config).unwrap()
        });
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let memory = world.frames().allocate(16 * PAGE, 16 * PAGE).unwrap();
        let prot = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is the test's; nothing else works on the range.
        unsafe { domain.map(Iova(IOVA), PhysAddr(memory), 16 * PAGE, prot).unwrap() };
        for master in &masters {
            iommu.attach(master, &domain).unwrap();
        }
        for page in 0..4 {
            assert!(reads(&world, NIC, IOVA + page * PAGE));
            assert!(reads(&world, DISK, IOVA + page * PAGE));
        }
        answer(&world, 5, Answers::Never);
        Arc::new(Self { world, iommu, domain, masters, smmu })
    }

    pub fn unmap(&self, page: u64) {
        // SAFETY: nothing else works on the page.
        let unmapped = unsafe { self.domain.unmap(Iova(IOVA + page * PAGE), PAGE) };
        assert_eq!(unmapped, Ok(PAGE));
    }

    /// Lets `call` come once, when the driver tells that it does `what`.
    pub fn once_when(self: &Arc<Self>, what: fn(&Trace<'_>) -> bool, call: fn(&Arc<Self>)) {
        let (pair, over) = (self.clone(), AtomicBool::new(false));
        let hook = move |trace: &Trace<'_>| {
            if what(trace) && !over.swap(true, Ordering::Relaxed) {
                call(&pair);
            }
        };
        self.world.set_hook(Some(Arc::new(hook)));
    }
}
