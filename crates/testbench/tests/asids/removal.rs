// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instances that are reset or removed while they hold something: what they cannot let go of is an error, and the next
//! call finishes; what was kept for one that is gone is freed.

use std::sync::{Arc, Mutex};

use smmuv3::{AsidPolicy, EnableError, Failure, Refused, RemoveError};
use smmuv3_formats::Opcode;

use crate::allocator::{driver, failing};
use crate::setup::{PAGE, Setup, WIDE, failure};

/// A domain that a device of instance 0 uses, and whose tag on instance 1 was not flushed when its device there left,
/// which is gone.
fn held() -> (Setup, usize, usize) {
    let mut setup = Setup::new(AsidPolicy::PerInstance, &[WIDE, WIDE]);
    let domain = setup.domain();
    let here = setup.device(0, &[1]);
    let there = setup.device(1, &[1]);
    for device in [here, there] {
        setup.attach(device, 0, domain).unwrap();
        assert!(setup.dma(device, 0, 0).is_some());
    }
    // Entry, the rest of it, and the flush.
    setup.refuse(1, 2);
    assert_eq!(failure(setup.detach(there, 0)).0, 1);
    setup.machine.behave();
    assert_eq!(setup.quarantined().len(), 1);
    let left = setup.devices.pop().unwrap();
    assert!(driver(|| left.master.close().is_ok()));
    assert_eq!(setup.domains[domain].targets().unwrap().len(), 2);
    (setup, here, domain)
}

#[test]
fn a_removal_without_memory_is_an_error_and_the_next_one_finishes() {
    let mut failed = 0;
    for nth in 1.. {
        let (mut setup, here, domain) = held();
        let smmu = setup.smmus.pop().unwrap();
        let (result, hit) = failing(nth, || driver(|| setup.iommu.remove(smmu)));
        if let Err(Refused { value: smmu, error }) = result {
            assert!(hit, "allocation {nth}: {error}");
            assert_eq!(error, RemoveError::Hardware(EnableError::NoMemory), "allocation {nth}");
            failed += 1;
            driver(|| setup.iommu.remove(smmu)).unwrap();
        }
        assert_eq!(setup.quarantined(), [], "allocation {nth}");
        assert_eq!(setup.domains[domain].targets().unwrap().len(), 1, "allocation {nth}");
        assert_eq!(setup.unmap(domain, 0), Ok(PAGE), "allocation {nth}");
        assert_eq!(setup.dma(here, 0, 0), None, "allocation {nth}");
        setup.forget_last();
        setup.tear_down(&format!("allocation {nth}"));
        if !hit {
            break;
        }
    }
    assert!(failed > 0);
}

#[test]
fn a_reset_whose_entry_is_refused_is_an_error_and_the_next_one_finishes() {
    let mut entries = 0;
    for nth in 0.. {
        let why = &format!("batch {nth}");
        let mut setup = Setup::new(AsidPolicy::PerInstance, &[WIDE]);
        let domains = [setup.domain(), setup.domain()];
        let device = setup.device(0, &[1, 2]);
        setup.attach(device, 0, domains[0]).unwrap();
        assert!(setup.dma(device, 0, 0).is_some());
        setup.refuse(0, 0);
        assert_eq!(failure(setup.attach(device, 0, domains[1])).0, 0, "{why}");
        setup.machine.behave();
        assert!(!setup.quarantined().is_empty(), "{why}");
        setup.refuse(0, nth);
        let result = driver(|| setup.iommu.reset(&setup.smmus[0]));
        setup.machine.behave();
        if let Err(error) = result {
            let EnableError::Commands(Failure::Refused { command, .. }) = error else {
                panic!("{why}: {error}")
            };
            let of_entry = command.opcode() == Some(Opcode::CfgiSte);
            entries += u64::from(of_entry);
            assert!(!setup.quarantined().is_empty(), "{why}");
            if of_entry {
                let again = failure(setup.attach(device, 0, domains[1]));
                assert_eq!(again, (0, Failure::Failed), "{why}");
            }
            setup.reset(0);
        }
        assert_eq!(setup.quarantined(), [], "{why}");
        assert_eq!(setup.dma(device, 0, 0), None, "{why}");
        setup.attach(device, 0, domains[1]).unwrap();
        assert_eq!(setup.dma(device, 0, 0), Some(setup.memory(domains[1], 0)), "{why}");
        setup.check(why);
        setup.tear_down(why);
        if result.is_ok() {
            break;
        }
    }
    assert!(entries > 0);
}

/// Its removal did not end, and then it is used again: what it does not confirm waits for its next reset, as ever.
#[test]
fn an_instance_that_is_reset_instead_of_removed_is_waited_for() {
    let (mut setup, _, domain) = held();
    let smmu = setup.smmus.pop().unwrap();
    let (result, _) = failing(1, || driver(|| setup.iommu.remove(smmu)));
    let Err(Refused { value: smmu, error }) = result else { panic!("there was memory") };
    assert_eq!(error, RemoveError::Hardware(EnableError::NoMemory));
    setup.smmus.push(smmu);
    setup.reset(1);
    assert_eq!(setup.quarantined(), []);
    let device = setup.device(1, &[77]);
    setup.attach(device, 0, domain).unwrap();
    assert!(setup.dma(device, 0, 0).is_some());
    setup.wedge(1, Some(0));
    assert!(setup.unmap(domain, 0).is_err());
    assert_ne!(setup.quarantined(), [], "nobody keeps what it may still reach");
    setup.wedge(1, None);
    setup.reset(1);
    assert_eq!(setup.quarantined(), []);
    let why = &"a reset instead of a removal";
    setup.check(why);
    setup.tear_down(why);
}

/// The instance is removed in the middle of an unmap that it does not confirm. Without memory, so that the removal does
/// not wait for the unmap, which is under it here.
#[test]
fn what_an_unmap_keeps_for_an_instance_that_is_gone_is_freed() {
    let (mut setup, here, domain) = held();
    // It fails.
    setup.wedge(1, Some(0));
    assert!(setup.unmap(domain, 1).is_err());
    assert!(!setup.quarantined().is_empty());
    setup.wedge(1, None);
    let smmu = Arc::new(Mutex::new(setup.smmus.pop()));
    let setup = Arc::new(setup);
    {
        let (inner, smmu) = (setup.clone(), smmu.clone());
        setup.hook(move |_, interruptible| {
            let mut place = smmu.lock().unwrap();
            if interruptible && let Some(smmu) = place.take() {
                let (result, _) = failing(1, || driver(|| inner.iommu.remove(smmu)));
                let Err(Refused { value: smmu, error }) = result else {
                    panic!("there was memory")
                };
                assert_eq!(error, RemoveError::Hardware(EnableError::NoMemory));
                REMOVED.with(|removed| removed.set(Some(smmu)));
            }
        });
    }
    let unmapped = setup.unmap(domain, 2);
    setup.unhook();
    let smmu = REMOVED.with(std::cell::Cell::take).expect("no moment to remove it");
    assert!(unmapped.is_err(), "{unmapped:?}");
    let ranges = setup.quarantined();
    let range = |item: &smmuv3::Quarantined| matches!(item, smmuv3::Quarantined::Range { .. });
    assert!(!ranges.iter().any(range), "{ranges:?}");
    driver(|| setup.iommu.remove(smmu)).unwrap();
    assert_eq!(setup.quarantined(), []);
    assert_eq!(setup.dma(here, 0, 2), None);
    assert_eq!(setup.unmap(domain, 0), Ok(PAGE));
    let mut setup = Arc::into_inner(setup).expect("the hook is gone");
    setup.forget_last();
    setup.tear_down(&"removed during an unmap");
}

thread_local! {
    /// The instance that could not be removed.
    static REMOVED: std::cell::Cell<Option<smmuv3::Smmu<crate::heap::Apart>>> =
        const { std::cell::Cell::new(None) };
}
