// SPDX-License-Identifier: MIT OR Apache-2.0
//! A narrower instance is enabled, and a master behind it attached, by another CPU at each moment of an attach: whatever is
//! written to a context fits its instance, and where numbers are common they are the same.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use smmuv3::{AsidPolicy, AttachError, Master, MasterConfig, Smmu, StreamId};
use smmuv3_model::Access;
use smmuv3_testbench::machine::Machine;

use crate::allocator::driver;
use crate::heap::Apart;
use crate::setup::{IOVA, Kind, NARROW, Setup, TINY, WIDE, config};

type Joined = (Smmu<Apart>, Master<Apart>, Result<(), AttachError>);

/// Enables the third instance, and attaches a master of it.
fn join(setup: &Setup, domain: usize) -> Joined {
    let smmu = setup.take_into_use(2);
    driver(|| {
        let streams = [StreamId(1)];
        let master = setup.iommu.add_master(&smmu, &streams, MasterConfig::default()).unwrap();
        let result = setup.iommu.attach(&master, &setup.domains[domain]);
        (smmu, master, result)
    })
}

/// Attaches behind the second instance while the third joins at the `nth` point; whether there is such a point.
fn join_at(policy: AsidPolicy, kinds: &[Kind; 3], nth: usize) -> bool {
    let why = format!("{policy}, {kinds:?}, point {nth}");
    let mut setup = Setup::probed(config(policy), kinds, nth as u64);
    setup.enable();
    setup.enable();
    let (first, second) = (setup.device(0, &[1]), setup.device(1, &[1]));
    let domain = setup.domain();
    setup.attach(first, 0, domain).unwrap();
    assert!(setup.dma(first, 0, 0).is_some());
    let setup = Arc::new(setup);
    let other: Arc<Mutex<Option<JoinHandle<Joined>>>> = Arc::default();
    let mut left = nth;
    {
        let (inside, other) = (setup.clone(), other.clone());
        setup.hook(move |_, _| {
            if left == 0 {
                let setup = inside.clone();
                let thread = std::thread::spawn(move || join(&setup, domain));
                *other.lock().unwrap() = Some(thread);
                // It gets as far as it can.
                for _ in 0..50 {
                    std::thread::yield_now();
                }
            }
            left = left.wrapping_sub(1);
        });
    }
    let mine = setup.attach(second, 0, domain);
    let thread = other.lock().unwrap().take();
    let there = thread.is_some();
    // The hook stays until the other has come to an end: it does nothing more.
    let joined = thread.map(|thread| thread.join().unwrap());
    setup.unhook();

    let widths = kinds.map(|kind| kind.bits);
    let targets = setup.domains[domain].targets().unwrap();
    for target in &targets {
        let instance = target.instance.index();
        assert_eq!(u32::from(target.tag.asid) >> widths[instance], 0, "{why}: {targets:?}");
    }
    let common = !matches!(policy, AsidPolicy::PerInstance | AsidPolicy::Banked);
    if common {
        let same = targets.iter().all(|target| target.tag == targets[0].tag);
        assert!(same, "{why}: {targets:?}");
    }
    let mut results = vec![(1, mine)];
    if let Some((_, _, result)) = &joined {
        results.push((2, *result));
    }
    for (instance, result) in results {
        let access = Access::write(1, IOVA);
        let reached = setup.machine.model(instance).unwrap().translate(access);
        match result {
            Ok(()) => {
                let tag = reached.as_ref().ok().and_then(|translation| translation.tag);
                let named = targets.iter().any(|target| {
                    target.instance.index() == instance
                        && Some(target.tag.asid) == tag.map(|tag| tag.asid)
                });
                assert!(named, "{why}: instance {instance}: {tag:?} {targets:?}");
            }
            Err(AttachError::AsidWidth { instance: at, bits, asid }) => {
                assert!(reached.is_err(), "{why}");
                assert_eq!((at.index(), bits), (instance, widths[instance]), "{why}");
                assert_ne!(asid >> bits, 0, "{why}");
                let refuses = [AsidPolicy::Shared8OnMove, AsidPolicy::SharedMinRefuse];
                let eight = policy == AsidPolicy::Shared8 && widths[instance] < 8;
                assert!(refuses.contains(&policy) || eight, "{why}");
            }
            other => panic!("{why}: instance {instance}: {other:?}"),
        }
    }
    setup.check(&why);

    driver(|| {
        for device in [first, second] {
            setup.iommu.detach(&setup.devices[device].master).unwrap();
        }
        if let Some((smmu, master, _)) = joined {
            setup.iommu.detach(&master).unwrap();
            assert!(master.close().is_ok());
            assert_eq!(setup.iommu.free_asids(&smmu), (1 << widths[2]) - 1, "{why}");
            assert!(setup.iommu.remove(smmu).is_ok());
        }
    });
    assert_eq!(setup.domains[domain].targets().unwrap(), [], "{why}");
    there
}

#[test]
fn a_narrower_instance_may_join_at_any_moment_of_an_attach() {
    for policy in AsidPolicy::ALL {
        for kinds in [[WIDE, WIDE, NARROW], [WIDE, NARROW, TINY]] {
            let points = (0..).find(|nth| !join_at(policy, &kinds, *nth)).unwrap();
            let refused = matches!(policy, AsidPolicy::Shared8OnMove | AsidPolicy::SharedMinRefuse);
            assert!(points > 5 || refused && kinds[1].bits == 8, "{policy}: {points}");
        }
    }
}
