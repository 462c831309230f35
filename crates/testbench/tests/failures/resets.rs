// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU is reset while other threads map, unmap and take events: what returns `Ok` holds, what does not is kept
//! until the next reset, and hardware never sees a register or a queue in the wrong state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smmuv3::{
    Attributes, Config, DomainConfig, Failure, InstanceConfig, Interrupt, Iommu, Iova,
    MasterConfig, PhysAddr, Prot, StreamId, UnmapError,
};
use smmuv3_model::Observation;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::platform::{TestMmio, TestPlatform};

use crate::setup::{NARROW, NIC, PAGE, WIDE, world};

const WORKERS: u64 = 3;
const RESETS: u64 = 5_000;

#[test]
fn an_smmu_is_reset_while_others_use_it() {
    let (machine, world) = world(1, |profile| profile);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let enable = |instance| {
        let mut config = InstanceConfig::named("smmu");
        config.command_queue_log2 = 4;
        config.event_queue_log2 = 3;
        config.sid_bits = 4;
        let mmio = TestMmio { world: world.clone(), instance };
        iommu.probe(mmio, config).unwrap().enable().unwrap()
    };
    let smmus = [NARROW, WIDE].map(enable);
    let masters = smmus
        .each_ref()
        .map(|smmu| iommu.add_master(smmu, &[StreamId(1)], MasterConfig::default()).unwrap());
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    for master in &masters {
        iommu.attach(master, &domain).unwrap();
    }
    let memory = world.frames().allocate(WORKERS * PAGE, PAGE).unwrap();
    let done = AtomicBool::new(false);
    let (confirmed, unconfirmed) = (AtomicU64::new(0), AtomicU64::new(0));

    let work = |worker: u64| {
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        let (iova, pa) = (0x1000_0000 + worker * PAGE, memory + worker * PAGE);
        while !done.load(Ordering::Relaxed) {
            // SAFETY: the page is this thread's own, and the memory lives as long as the test.
            unsafe { domain.map(Iova(iova), PhysAddr(pa), PAGE, attributes).unwrap() };
            let parts = machine.dma(NIC, None, iova, Dma::Write(&[1; 8])).unwrap();
            assert!(
                matches!(parts[0].outcome, Outcome::Reached(at) if at == pa)
                    || parts[0].outcome == Outcome::Refused
            );
            // SAFETY: as above.
            match unsafe { domain.unmap(Iova(iova), PAGE) } {
                Ok(bytes) => {
                    assert_eq!(bytes, PAGE);
                    confirmed.fetch_add(1, Ordering::Relaxed);
                    for instance in [NARROW, WIDE] {
                        let model = machine.model(instance).unwrap();
                        let stale = model.tlb_entries().find(|entry| entry.va == iova).copied();
                        assert_eq!(stale, None, "instance {instance}");
                    }
                    let parts = machine.dma(NIC, None, iova, Dma::Write(&[1; 8])).unwrap();
                    assert_eq!(parts[0].outcome, Outcome::Refused, "R1");
                }
                Err(UnmapError::Unconfirmed(error)) => {
                    assert_eq!((error.instance, error.what), (smmus[NARROW].id(), Failure::Failed));
                    unconfirmed.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    std::thread::scope(|threads| {
        let work = &work;
        let workers: Vec<_> =
            (0..WORKERS).map(|worker| threads.spawn(move || work(worker))).collect();
        let events = threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for smmu in &smmus {
                    let _ = iommu.handle_interrupt(smmu, Interrupt::Any, 3, &mut |_| {});
                }
                machine.act();
                std::thread::yield_now();
            }
        });
        let mut result = Ok(());
        for _ in 0..RESETS {
            result = result.and(iommu.reset(&smmus[NARROW]));
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        let results: Vec<_> = workers.into_iter().chain([events]).map(|one| one.join()).collect();
        assert_eq!(result, Ok(()));
        for result in results {
            result.unwrap();
        }
    });
    let counts = (confirmed.into_inner(), unconfirmed.into_inner());
    println!("{RESETS} resets, {} unmaps confirmed, {} not", counts.0, counts.1);
    assert!(counts.0 > RESETS);
    for instance in [NARROW, WIDE] {
        let mut seen = machine.model(instance).unwrap().observations();
        seen.retain(|seen| {
            matches!(seen, Observation::Misuse(_) | Observation::TagConflict { .. })
        });
        assert_eq!(seen, [], "instance {instance}");
    }

    iommu.reset(&smmus[NARROW]).unwrap();
    iommu.quarantined(&mut |item| panic!("{item:?} is still kept"));
    for master in masters {
        iommu.detach(&master).unwrap();
        assert!(master.close().is_ok());
    }
    assert!(domain.close().is_ok());
    for smmu in smmus {
        assert!(iommu.remove(smmu).is_ok());
    }
    drop(iommu);
    world.frames().free(memory, WORKERS * PAGE);
    assert_eq!(world.frames().live_bytes(), 0);
}
