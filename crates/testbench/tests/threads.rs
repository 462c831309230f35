// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver on real threads: pages of one domain are mapped, used and unmapped while masters are attached
//! to it and detached from it, and an adversarial SMMU caches whatever it can.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Interrupt, Iommu, Iova, Master,
    MasterConfig, PhysAddr, Prot, Smmu, StreamId,
};
use smmuv3_testbench::frees::Frees;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestPlatform, World};

const SCENARIO: &str = r#"
name = "threads"
[[instance]]
name = "narrow"
asid-bits = 8
command-queue = 4
[[instance]]
name = "wide"
command-queue = 4
[[instance]]
name = "visited"
command-queue = 4
[[master]]
name = "fixed-a"
instance = "narrow"
streams = [1]
[[master]]
name = "fixed-b"
instance = "wide"
streams = [1]
[[master]]
name = "visitor"
instance = "visited"
streams = [1]
[[domain]]
name = "shared"
[[step]]
attach = { master = "visitor", domain = "shared" }
"#;

const PAGE: u64 = 0x1000;
const WORKERS: u64 = 4;
const ROUNDS: u64 = 5000;

struct Setup {
    machine: Arc<ModelMachine>,
    iommu: Iommu<TestPlatform>,
    smmus: Vec<Smmu<TestPlatform>>,
    masters: Vec<Master<TestPlatform>>,
    world: Arc<World>,
}

fn set_up() -> Setup {
    let machine = Arc::new(ModelMachine::new(&common::parse(SCENARIO), 1).unwrap());
    let world = World::new(machine.clone(), 3);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let enable = |instance| {
        let mut config = InstanceConfig::named("smmu");
        config.command_queue_log2 = 4;
        config.sid_bits = 4;
        common::enable(&iommu, &world, instance, config)
    };
    let smmus: Vec<_> = (0..3).map(enable).collect();
    let masters = smmus
        .iter()
        .map(|smmu| iommu.add_master(smmu, &[StreamId(1)], MasterConfig::default()).unwrap())
        .collect();
    Setup { machine, iommu, smmus, masters, world }
}

/// Maps, uses and unmaps pages of a window of its own, `ROUNDS` times.
fn work(worker: u64, setup: &Setup, domain: &Domain<TestPlatform>, memory: u64) {
    let mut rng = fastrand::Rng::with_seed(worker);
    for round in 0..ROUNDS {
        let pages = rng.u64(1..5);
        // Windows interleave page by page in one table, now and then beyond its end.
        let table = if rng.u8(..) < 32 { 0x20_0000 * (1 + worker) } else { 0 };
        let iova = 0x1000_0000 + table + (worker * 64 + rng.u64(0..32)) * PAGE;
        let (iova, len) = (Iova(iova), pages * PAGE);
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the window is this thread's own, and the memory lives as long as the test.
        unsafe { domain.map(iova, PhysAddr(memory), len, attributes).unwrap() };
        for master in 0..2 {
            let parts =
                setup.machine.dma(master, None, iova.0, Dma::Write(&round.to_le_bytes())).unwrap();
            assert_eq!(parts[0].outcome, Outcome::Reached(memory), "R0, worker {worker}");
        }
        // The visitor may or may not be there.
        let _ = setup.machine.dma(2, None, iova.0, Dma::Read(&mut [0; 8])).unwrap();
        // A range that covers a whole table is this thread's own as well.
        let (start, bytes) =
            if table != 0 { (iova.0 & !0x1f_ffff, 0x20_0000) } else { (iova.0, len) };
        if round % 4 == 0 {
            // SAFETY: as above.
            assert_eq!(unsafe { domain.unmap_deferred(Iova(start), bytes) }, Ok(len));
            domain.invalidate_all().unwrap();
        } else {
            // SAFETY: as above.
            assert_eq!(unsafe { domain.unmap(Iova(start), bytes) }, Ok(len));
        }
        for instance in 0..3 {
            let model = setup.machine.model(instance).unwrap();
            let stale = model
                .tlb_entries()
                .find(|entry| entry.va < iova.0 + len && entry.va + entry.size > iova.0);
            assert_eq!(stale, None, "R1, worker {worker}, round {round}, instance {instance}");
        }
        for master in 0..3 {
            let parts = setup.machine.dma(master, None, iova.0, Dma::Read(&mut [0; 8])).unwrap();
            assert_eq!(parts[0].outcome, Outcome::Refused, "R1, worker {worker}, master {master}");
        }
    }
}

#[test]
fn pages_and_masters_come_and_go_at_the_same_time() {
    let setup = set_up();
    let domain = setup.iommu.create_domain(DomainConfig::default()).unwrap();
    let frees = Frees::watch(&setup.world, 3);
    let memory = setup.world.frames().allocate(WORKERS * 16 * PAGE, PAGE).unwrap();
    setup.iommu.attach(&setup.masters[0], &domain).unwrap();
    setup.iommu.attach(&setup.masters[1], &domain).unwrap();

    let done = AtomicBool::new(false);
    let visits = AtomicU64::new(0);
    let (setup, domain) = (&setup, &domain);
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                threads.spawn(move || work(worker, setup, domain, memory + worker * 16 * PAGE))
            })
            .collect();
        let others = [
            // The visitor comes and goes.
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    setup.iommu.attach(&setup.masters[2], domain).unwrap();
                    std::thread::yield_now();
                    setup.iommu.detach(&setup.masters[2]).unwrap();
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            }),
            // Hardware does what hurts, on its own.
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    setup.machine.act();
                    std::thread::yield_now();
                }
            }),
            // Events are taken while others happen.
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for smmu in &setup.smmus {
                        let _ = setup.iommu.handle_interrupt(smmu, Interrupt::Any, 16, &mut |_| {});
                    }
                    std::thread::yield_now();
                }
            }),
        ];
        // Whatever happens, the other threads must end.
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        for other in others {
            other.join().unwrap();
        }
        for result in results {
            result.unwrap();
        }
    });
    let visits = visits.load(Ordering::Relaxed);
    println!("{visits} visits during {} rounds", WORKERS * ROUNDS);
    assert!(visits > 10);
    frees.finish();
}
