// SPDX-License-Identifier: MIT OR Apache-2.0
//! Banks at their limits.

use smmuv3::{AsidPolicy, AttachError};

use crate::setup::{BANKS, Setup};

/// A master with as many domains as a bank has numbers: no other bank has more.
#[test]
fn a_master_that_fills_a_bank_alone_cannot_have_one_domain_more() {
    let mut setup = Setup::new(AsidPolicy::Banked, &[BANKS]);
    let master = setup.device_with(0, &[1, 2], 6);
    let domains: Vec<usize> = (0..64).map(|_| setup.domain_of(1)).collect();
    for domain in &domains[..62] {
        let pasid = setup.pasid();
        setup.attach(master, pasid, *domain).unwrap();
    }
    setup.attach(master, 0, domains[62]).unwrap();
    let last = setup.pasid();
    let none = AttachError::NoAsid { instance: setup.smmus[0].id(), bits: 6 };
    let state = |setup: &Setup| -> Vec<Vec<smmuv3::Target>> {
        domains.iter().map(|domain| setup.domains[*domain].targets().unwrap()).collect()
    };
    let before = (state(&setup), setup.free(0), setup.world.frames().live_bytes());
    setup.world.take_commands();
    for _ in 0..3 {
        assert_eq!(setup.attach(master, last, domains[63]), Err(none));
        let after = (state(&setup), setup.free(0), setup.world.frames().live_bytes());
        assert_eq!(after, before);
    }
    assert_eq!(setup.world.take_commands(), []);
    setup.detach(master, 7).unwrap();
    setup.attach(master, last, domains[63]).unwrap();
    assert_eq!(setup.tags(domains[63], 0)[0].asid, 7);
    setup.check(&"alone");
    setup.tear_down(&"alone");
}

/// A bank without room is no hindrance for a domain that is in it.
#[test]
fn a_domain_of_a_full_bank_can_be_attached_there() {
    let mut setup = Setup::new(AsidPolicy::Banked, &[BANKS]);
    let (first, second) = (setup.device_with(0, &[1], 6), setup.device_with(0, &[2], 6));
    let domains: Vec<usize> = (0..63).map(|_| setup.domain_of(1)).collect();
    for domain in &domains {
        let pasid = setup.pasid();
        setup.attach(first, pasid, *domain).unwrap();
    }
    for (pasid, domain) in (1..).zip(&domains) {
        setup.attach(second, pasid, *domain).unwrap();
    }
    for (pasid, domain) in (1..).zip(&domains) {
        let targets = setup.domains[*domain].targets().unwrap();
        assert_eq!((targets.len(), targets[0].masters), (1, 2));
        assert_eq!(setup.dma(second, pasid, 0), Some(setup.memory(*domain, 0)));
    }
    assert_eq!(setup.free(0), 63 * 255);
    setup.check(&"a full bank");
    setup.tear_down(&"a full bank");
}
