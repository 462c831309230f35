// SPDX-License-Identifier: MIT OR Apache-2.0
//! A heap that fails at each possible moment, on the driver's own allocations and no others: a typed error, nothing
//! leaked, and the same call works afterwards. What may be called in interrupt context allocates nothing.

#[path = "common/allocator.rs"]
mod allocator;

use smmuv3::IommuError;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use smmuv3::{
    AddMasterError, AttachError, Attributes, Config, CreateError, Domain, DomainConfig,
    EnableError, Frames, InstanceConfig, Interrupt, Iommu, Iova, KeepError, Master, MasterConfig,
    Mmio, PhysAddr, Platform, Prot, Refused, Region, Smmu, Split, StreamId, StreamTableShape,
    UnmapError,
};
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{SpinMutex, TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;

use allocator::{as_here, counted, driver, failing, platform, start_counting};

/// The test's platform; what it allocates for itself does not count.
struct Apart(TestPlatform);

struct ApartMmio(TestMmio);

// SAFETY: the inner one's promises.
unsafe impl Frames for Apart {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        platform(|| self.0.allocate(size, align))
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        platform(|| unsafe { self.0.free(frame, size, align) })
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        platform(|| self.0.pointer(pa))
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        platform(|| self.0.publish(pa, bytes))
    }
}

// SAFETY: the inner one's promises.
unsafe impl Platform for Apart {
    type Mmio = ApartMmio;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        platform(|| self.0.allocate_coherent(size, align))
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        platform(|| unsafe { self.0.free_coherent(memory, size, align) })
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        // The driver's code, with the platform's around it.
        let critical = as_here(critical);
        platform(|| self.0.mask_irqs(critical))
    }

    fn max_cpus(&self) -> usize {
        3
    }

    fn relax(&self) {
        platform(|| self.0.relax())
    }

    fn now(&self) -> u64 {
        platform(|| self.0.now())
    }
}

impl Mmio for ApartMmio {
    fn read32(&self, offset: u32) -> u32 {
        platform(|| self.0.read32(offset))
    }

    fn write32(&self, offset: u32, value: u32) {
        platform(|| self.0.write32(offset, value))
    }

    fn write64(&self, offset: u32, value: u64) {
        platform(|| self.0.write64(offset, value))
    }
}

const SCENARIO: &str = r#"
name = "heap"
[[instance]]
name = "smmu"
asid-bits = 8
[[master]]
name = "nic"
instance = "smmu"
streams = [1]
[[domain]]
name = "d"
[[step]]
attach = { master = "nic", domain = "d" }
"#;

const IOVA: Iova = Iova(0x1000_0000);
const PAGE: u64 = 0x1000;

struct Setup {
    machine: Arc<ModelMachine>,
    world: Arc<World>,
}

impl Setup {
    fn new() -> Self {
        assert_eq!(allocator::live(), 0, "left over from before");
        let scenario =
            Scenario::parse(SCENARIO, "heap").unwrap_or_else(|errors| panic!("{errors}"));
        let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
        let world = World::new(machine.clone(), 1);
        Self { machine, world }
    }

    fn iommu(&self) -> Result<Iommu<Apart>, IommuError> {
        let apart = Apart(TestPlatform(self.world.clone()));
        driver(|| Iommu::new(apart, Config::default()))
    }

    fn enable(&self, iommu: &Iommu<Apart>) -> Smmu<Apart> {
        let mmio = ApartMmio(TestMmio { world: self.world.clone(), instance: 0 });
        driver(|| iommu.probe(mmio, config()).unwrap().enable().unwrap())
    }

    /// Bytes live: the driver's on the heap, and frames.
    fn live(&self) -> (isize, u64) {
        (allocator::live(), self.world.frames().live_bytes())
    }

    /// Closes everything; nothing is left.
    fn tear_down(
        self,
        iommu: Iommu<Apart>,
        smmu: Smmu<Apart>,
        masters: Vec<Master<Apart>>,
        domains: Vec<Domain<Apart>>,
    ) {
        for master in masters {
            driver(|| {
                iommu.detach(&master).unwrap();
                assert!(master.close().is_ok());
            });
        }
        for domain in domains {
            driver(|| assert!(domain.close().is_ok()));
        }
        driver(|| {
            assert!(iommu.remove(smmu).is_ok());
            drop(iommu);
        });
        assert_eq!(self.live(), (0, 0));
    }
}

fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    config.stream_table = StreamTableShape::TwoLevel { split: Split::Six };
    config.deadline = Duration::from_micros(200);
    config.device_deadline = config.deadline;
    config
}

/// Runs `test` on a fresh machine for each allocation that may fail, until it says that none failed; how many did.
fn each(mut test: impl FnMut(Setup, u64) -> bool) -> u64 {
    (1..).find(|nth| !test(Setup::new(), *nth)).unwrap() - 1
}

#[test]
fn an_iommu_without_heap_is_not_made() {
    let failures = each(|setup, nth| {
        let apart = Apart(TestPlatform(setup.world.clone()));
        let (result, failed) = failing(nth, || driver(|| Iommu::new(apart, Config::default())));
        if failed {
            assert_eq!(result.err(), Some(IommuError::NoMemory));
            assert_eq!(setup.live(), (0, 0), "allocation {nth}");
            driver(|| drop(setup.iommu().unwrap()));
        } else {
            driver(|| drop(result.unwrap()));
        }
        assert_eq!(setup.live(), (0, 0), "allocation {nth}");
        failed
    });
    let what =
        "readers, those who wait, quarantine (a list, a block), PASIDs (two bitmaps), the core";
    assert_eq!(failures, 7, "{what}");
}

#[test]
#[expect(clippy::result_large_err, reason = "boxing it would allocate")]
fn an_smmu_without_heap_is_not_touched_and_can_be_enabled_later() {
    let failures = each(|setup, nth| {
        let iommu = setup.iommu().unwrap();
        let mmio = ApartMmio(TestMmio { world: setup.world.clone(), instance: 0 });
        let probe = driver(|| iommu.probe(mmio, config()).unwrap());
        let (result, failed) = failing(nth, || driver(|| probe.enable()));
        let smmu = match result {
            Ok(smmu) => smmu,
            Err(Refused { value: probe, error }) => {
                assert_eq!(error, EnableError::NoMemory);
                assert_eq!(setup.live().1, 0, "allocation {nth}");
                driver(|| probe.enable().unwrap())
            }
        };
        setup.tear_down(iommu, smmu, vec![], vec![]);
        failed
    });
    assert!(failures >= 3, "tags, their place, the instance: {failures}");
}

#[test]
#[expect(clippy::result_large_err, reason = "boxing it would allocate")]
fn streams_are_kept_or_not_and_what_cannot_be_had_for_that_is_given_back() {
    let failures = each(|setup, nth| {
        let iommu = setup.iommu().unwrap();
        let memory = setup.world.frames().allocate(PAGE, PAGE).unwrap();
        let mmio = ApartMmio(TestMmio { world: setup.world.clone(), instance: 0 });
        let mut probe = driver(|| iommu.probe(mmio, config()).unwrap());
        let (streams, regions) = ([StreamId(1)], [Region::normal(PhysAddr(memory), PAGE)]);
        let live = setup.live().1;
        // SAFETY: the memory is the test's.
        let mut keep = || unsafe { probe.keep(&streams, MasterConfig::default(), &regions) };
        let (result, mut failed) = failing(nth, || driver(&mut keep));
        let counted = counted();
        if let Err(error) = result {
            let expected = [
                KeepError::Master(AddMasterError::NoMemory),
                KeepError::Domain(CreateError::NoMemory),
            ];
            assert!(expected.contains(&error), "allocation {nth}: {error}");
            assert_eq!(setup.live().1, live, "allocation {nth}");
            driver(keep).unwrap();
        }
        let live = setup.live().1;
        let mut enabled = if failed {
            driver(|| probe.enable())
        } else {
            // The ones after those of `keep`.
            let (enabled, later) = failing(nth - counted, || driver(|| probe.enable()));
            failed = later;
            enabled
        };
        if let Err(Refused { value: probe, error }) = enabled {
            assert_eq!((error, setup.live().1), (EnableError::NoMemory, live), "allocation {nth}");
            enabled = driver(|| probe.enable());
        }
        let smmu = enabled.unwrap();
        let (master, domain) = driver(|| iommu.take_kept(&smmu, StreamId(1)).unwrap());
        driver(|| iommu.detach(&master).unwrap());
        setup.world.frames().free(memory, PAGE);
        setup.tear_down(iommu, smmu, vec![master], vec![domain]);
        failed
    });
    assert!(failures >= 12, "of `keep` and of `enable`: {failures}");
}

#[test]
fn a_master_without_heap_is_not_added() {
    let failures = each(|setup, nth| {
        let iommu = setup.iommu().unwrap();
        let smmu = setup.enable(&iommu);
        let frames = setup.live().1;
        let add = || iommu.add_master(&smmu, &[StreamId(1), StreamId(2)], MasterConfig::default());
        let (result, failed) = failing(nth, || driver(add));
        let master = result.unwrap_or_else(|error| {
            assert_eq!(error, AddMasterError::NoMemory);
            assert_eq!(setup.live().1, frames, "allocation {nth}");
            driver(|| add().unwrap())
        });
        setup.tear_down(iommu, smmu, vec![master], vec![]);
        failed
    });
    assert_eq!(failures, 4, "its streams, twice, those of all, its slot");
}

#[test]
fn a_domain_without_heap_is_not_created() {
    let failures = each(|setup, nth| {
        let iommu = setup.iommu().unwrap();
        let smmu = setup.enable(&iommu);
        let before = setup.live();
        let (result, failed) =
            failing(nth, || driver(|| iommu.create_domain(DomainConfig::default())));
        let domain = result.unwrap_or_else(|error| {
            assert_eq!(error, CreateError::NoMemory);
            assert_eq!(setup.live(), before, "allocation {nth}");
            driver(|| iommu.create_domain(DomainConfig::default()).unwrap())
        });
        setup.tear_down(iommu, smmu, vec![], vec![domain]);
        failed
    });
    assert_eq!(failures, 2, "targets, the domain");
}

/// With the memory of the domains.
type Prepared = (Iommu<Apart>, Smmu<Apart>, Master<Apart>, Vec<Domain<Apart>>, u64);

/// A master, and two domains in which the same page leads to two places.
fn prepare(setup: &Setup) -> Prepared {
    let iommu = setup.iommu().unwrap();
    let smmu = setup.enable(&iommu);
    let master =
        driver(|| iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap());
    let memory = setup.world.frames().allocate(2 * PAGE, PAGE).unwrap();
    let domains: Vec<_> = [0, PAGE]
        .into_iter()
        .map(|offset| {
            driver(|| {
                let domain = iommu.create_domain(DomainConfig::default()).unwrap();
                let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
                // SAFETY: the memory lives as long as the test.
                unsafe { domain.map(IOVA, PhysAddr(memory + offset), PAGE, attributes).unwrap() };
                domain
            })
        })
        .collect();
    (iommu, smmu, master, domains, memory)
}

/// Where the device's access goes.
fn reaches(setup: &Setup) -> Option<u64> {
    use smmuv3_testbench::machine::Outcome;
    let parts = setup.machine.dma(0, None, IOVA.0, Dma::Write(&[1; 8])).unwrap();
    match parts[0].outcome {
        Outcome::Reached(pa) => Some(pa),
        _ => None,
    }
}

#[test]
fn a_master_that_cannot_be_attached_or_detached_for_lack_of_heap_stays_as_it_is() {
    // From the domain with the first index to that with the second; `None` is blocked.
    // Room for the place, which stays; its users; the targets with it, and those without the one that is left: two each.
    let changes = [(None, Some(0), 4), (Some(1), Some(0), 5), (Some(0), None, 2)];
    for (from, to, expected) in changes {
        let failures = each(|setup, nth| {
            let (iommu, smmu, master, domains, memory) = prepare(&setup);
            let place = |domain: Option<usize>| domain.map(|domain| memory + domain as u64 * PAGE);
            let change = |to: Option<usize>| match to {
                Some(domain) => iommu.attach(&master, &domains[domain]),
                None => iommu.detach(&master).map_err(Into::into),
            };
            let targets = || [0, 1].map(|domain: usize| domains[domain].targets().unwrap());
            driver(|| change(from).unwrap());
            assert_eq!(reaches(&setup), place(from));
            let before = (targets(), setup.live().1);
            let commands = setup.world.take_commands().len();
            assert!(from.is_none() || commands > 0);
            let (result, failed) = failing(nth, || driver(|| change(to)));
            if let Err(error) = result {
                assert_eq!(error, AttachError::NoMemory);
                assert_eq!((targets(), setup.live().1), before, "allocation {nth}");
                assert_eq!(setup.world.take_commands(), [], "allocation {nth}");
                assert_eq!(reaches(&setup), place(from), "allocation {nth}");
                driver(|| change(to).unwrap());
            }
            assert_eq!(reaches(&setup), place(to), "allocation {nth}");
            setup.world.frames().free(memory, 2 * PAGE);
            setup.tear_down(iommu, smmu, vec![master], domains);
            failed
        });
        assert_eq!(failures, expected, "{from:?} to {to:?}");
    }
}

#[test]
fn a_list_of_targets_without_heap_is_an_error_and_not_an_empty_one() {
    let failures = each(|setup, nth| {
        let (iommu, smmu, master, domains, memory) = prepare(&setup);
        driver(|| iommu.attach(&master, &domains[0]).unwrap());
        let (targets, failed) = failing(nth, || driver(|| domains[0].targets()));
        match targets {
            Ok(targets) => {
                assert_eq!(targets.len(), 1);
                driver(|| drop(targets));
            }
            Err(error) => assert_eq!(error, smmuv3::NoMemory),
        }
        setup.world.frames().free(memory, 2 * PAGE);
        setup.tear_down(iommu, smmu, vec![master], domains);
        failed
    });
    assert_eq!(failures, 1);
}

#[test]
fn a_reset_without_heap_gives_back_what_it_can_and_the_next_one_the_rest() {
    let failures = each(|setup, nth| {
        let (iommu, smmu, master, domains, memory) = prepare(&setup);
        driver(|| iommu.attach(&master, &domains[0]).unwrap());
        assert!(reaches(&setup).is_some());
        setup.machine.model(0).unwrap().wedge_after(Some(0));
        let moved = driver(|| iommu.attach(&master, &domains[1]));
        assert!(matches!(moved, Err(AttachError::Unconfirmed(_))), "{moved:?}");
        setup.machine.model(0).unwrap().wedge_after(None);
        let (result, failed) = failing(nth, || driver(|| iommu.reset(&smmu)));
        assert_eq!(result, if failed { Err(EnableError::NoMemory) } else { Ok(()) });
        let listed = || {
            let mut count = 0;
            iommu.quarantined(&mut |_| count += 1);
            count
        };
        assert_eq!(listed() != 0, failed, "allocation {nth}");
        assert_eq!(reaches(&setup), None);
        driver(|| iommu.reset(&smmu).unwrap());
        assert_eq!(listed(), 0, "allocation {nth}");
        driver(|| iommu.attach(&master, &domains[1]).unwrap());
        assert_eq!(reaches(&setup), Some(memory + PAGE));
        setup.world.frames().free(memory, 2 * PAGE);
        setup.tear_down(iommu, smmu, vec![master], domains);
        failed
    });
    assert!(failures >= 2, "{failures}");
}

#[test]
fn what_interrupt_handlers_may_call_allocates_nothing() {
    let setup = Setup::new();
    let (iommu, smmu, master, domains, memory) = prepare(&setup);
    driver(|| iommu.attach(&master, &domains[0]).unwrap());
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    let domain = &domains[0];
    let block = 2 << 20;
    let large = setup.world.frames().allocate(4 * block, block).unwrap();
    start_counting();
    for round in 0..4 {
        // Tables of all levels come and go; a part is undone; blocks; events.
        for (iova, pa, len) in [
            (0x2_0000_0000, memory, PAGE),
            (0x4000_0000 - block, large, 3 * block),
            (0x3_0000_0000, large + PAGE, 2 * block),
        ] {
            // SAFETY: the memory lives as long as the test, which is alone.
            driver(|| unsafe {
                domain.map(Iova(iova), PhysAddr(pa), len, attributes).unwrap();
                let overlapping =
                    domain.map(Iova(iova - PAGE), PhysAddr(memory), 2 * PAGE, attributes);
                assert!(overlapping.is_err());
                assert!(domain.lookup(Iova(iova)).is_some());
                let unmap = if round % 2 == 0 { Domain::unmap } else { Domain::unmap_deferred };
                assert_eq!(unmap(domain, Iova(iova), len), Ok(len));
                domain.invalidate_all().unwrap();
                domain.reclaim(Iova(0), 1 << 40).unwrap();
            });
        }
        let refused = setup.machine.dma(0, None, 0x7000_0000, Dma::Read(&mut [0; 64])).unwrap();
        assert_eq!(refused.len(), 1);
        let mut events = 0;
        driver(|| iommu.handle_interrupt(&smmu, Interrupt::Any, 8, &mut |_| events += 1));
        assert_eq!((events, counted()), (1, 0), "round {round}");
    }
    // Not even when the SMMU stops, and what it may reach has to be kept.
    setup.machine.model(0).unwrap().wedge_after(Some(0));
    for round in 0..400 {
        let iova = Iova(0x2_0000_0000 + 2 * block * round);
        // SAFETY: as above.
        driver(|| unsafe {
            domain.map(iova, PhysAddr(large), block, attributes).unwrap();
            assert!(matches!(domain.unmap(iova, block), Err(UnmapError::Unconfirmed(_))));
            assert!(domain.invalidate_all().is_err());
        });
        assert_eq!(counted(), 0, "round {round}");
    }
    setup.machine.model(0).unwrap().wedge_after(None);
    driver(|| iommu.reset(&smmu).unwrap());
    setup.world.frames().free(memory, 2 * PAGE);
    setup.world.frames().free(large, 4 * block);
    setup.tear_down(iommu, smmu, vec![master], domains);
}
