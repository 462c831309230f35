// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a domain tells of where it is used, and how many numbers are left.

use smmuv3::{AsidPolicy, Domain, Refused, StillAttached, Target};

use crate::setup::{BANKS, NARROW, Setup, WIDE};

/// Instance, VMID, ASID and masters of each target.
fn shape(domain: &Domain<crate::heap::Apart>) -> Vec<(usize, u16, u16, usize)> {
    let one = |target: &Target| {
        assert!(!target.shared);
        (target.instance.index(), target.tag.vmid, target.tag.asid, target.masters)
    };
    domain.targets().unwrap().iter().map(one).collect()
}

#[test]
fn targets_are_in_the_order_of_instances_however_they_came() {
    let mut setup = Setup::new(AsidPolicy::PerInstance, &[NARROW, WIDE, NARROW, WIDE]);
    let devices = [0, 1, 2, 3].map(|instance| setup.device(instance, &[1]));
    let expected = [(0, 0, 1, 1), (1, 0, 0xffff, 1), (2, 0, 1, 1), (3, 0, 0xffff, 1)];
    let domain = setup.domain();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        for (count, instance) in order.into_iter().enumerate() {
            setup.attach(devices[instance], 0, domain).unwrap();
            let mut there = expected.to_vec();
            there.retain(|(instance, ..)| order[..=count].contains(instance));
            assert_eq!(shape(&setup.domains[domain]), there, "{order:?}");
        }
        for instance in order {
            setup.detach(devices[instance], 0).unwrap();
        }
        assert_eq!(setup.domains[domain].targets().unwrap(), [], "{order:?}");
    }
    setup.tear_down(&"orders");
}

/// Each {master, PASID} counts, and accesses without one do once more.
#[test]
fn masters_are_counted_once_for_each_way_of_using_a_domain() {
    for policy in AsidPolicy::ALL {
        let mut setup = Setup::new(policy, &[NARROW]);
        let (many, one) = (setup.device_with(0, &[1, 2, 3], 4), setup.device(0, &[4]));
        let (domain, other) = (setup.domain(), setup.domain());
        let pasids = [setup.pasid(), setup.pasid()];
        assert_eq!(pasids, [1, 2]);
        let masters = |domain: usize| shape(&setup.domains[domain]);
        setup.attach(many, 0, domain).unwrap();
        assert_eq!(masters(domain), [(0, 0, 1, 1)], "{policy}: streams do not count");
        setup.attach(many, 1, domain).unwrap();
        setup.attach(many, 2, domain).unwrap();
        setup.attach(one, 0, domain).unwrap();
        assert_eq!(masters(domain), [(0, 0, 1, 4)], "{policy}");
        // Again is once.
        setup.attach(many, 2, domain).unwrap();
        setup.attach(one, 0, domain).unwrap();
        assert_eq!(masters(domain), [(0, 0, 1, 4)], "{policy}");
        setup.attach(many, 1, other).unwrap();
        assert_eq!((masters(domain), masters(other)), (vec![(0, 0, 1, 3)], vec![(0, 0, 2, 1)]));
        for (device, pasid) in [(many, 0), (many, 1), (many, 2), (one, 0)] {
            let domain = if pasid == 1 { other } else { domain };
            assert_eq!(setup.dma(device, pasid, 0), Some(setup.memory(domain, 0)), "{policy}");
        }
        setup.detach(many, 0).unwrap();
        setup.detach(many, 0).unwrap();
        setup.detach(one, 0).unwrap();
        assert_eq!(masters(domain), [(0, 0, 1, 1)], "{policy}");
        assert_eq!(setup.dma(many, 2, 0), Some(setup.memory(domain, 0)), "{policy}");
        let closed = setup.domains.remove(domain).close();
        let Err(Refused { value: back, error: StillAttached { masters, .. } }) = closed else {
            panic!("{policy}: it is in use")
        };
        assert_eq!(masters, 1, "{policy}");
        setup.domains.insert(domain, back);
        setup.detach(many, 2).unwrap();
        setup.detach(many, 1).unwrap();
        assert_eq!(setup.domains[domain].targets().unwrap(), [], "{policy}");
        setup.tear_down(&policy);
    }
}

/// A domain in two banks of one instance has two targets there.
#[test]
fn banks_are_in_the_order_of_their_vmids() {
    let mut setup = Setup::new(AsidPolicy::Banked, &[WIDE, BANKS]);
    let domain = setup.domain();
    let fill: Vec<usize> = (0..62).map(|_| setup.domain_of(1)).collect();
    let first = setup.device(1, &[500]);
    setup.attach(first, 0, domain).unwrap();
    for (stream, domain) in fill.iter().enumerate() {
        let device = setup.device(1, &[stream as u32]);
        setup.attach(device, 0, *domain).unwrap();
    }
    assert_eq!(setup.free(1), 63 * 255);
    // The bank is full: a master that has more than this domain moves to the next with all that it uses.
    let second = setup.device_with(1, &[501], 4);
    setup.attach(second, 0, domain).unwrap();
    let wide = setup.device(0, &[5]);
    setup.attach(wide, 0, domain).unwrap();
    assert_eq!(shape(&setup.domains[domain]), [(0, 0, 0xffff, 1), (1, 0, 1, 2)]);
    let (pasid, more) = (setup.pasid(), setup.domain());
    setup.attach(second, pasid, more).unwrap();
    let expected = [(0, 0, 0xffff, 1), (1, 0, 1, 1), (1, 1, 1, 1)];
    assert_eq!(shape(&setup.domains[domain]), expected);
    assert_eq!(shape(&setup.domains[more]), [(1, 1, 2, 1)]);
    assert_eq!(setup.free(1), 63 * 255 - 2);
    setup.check(&"two banks");
    setup.tear_down(&"two banks");
}

#[test]
fn free_numbers_are_those_that_the_policy_may_use_there() {
    for policy in AsidPolicy::ALL {
        let mut setup = Setup::new(policy, &[NARROW, WIDE, BANKS]);
        let banks = if policy == AsidPolicy::Banked { 256 } else { 1 };
        let most = if policy == AsidPolicy::Shared8 { 255 } else { 65535 };
        let free = |setup: &Setup| [0, 1, 2].map(|instance| setup.free(instance));
        assert_eq!(free(&setup), [255, most, 63 * banks], "{policy}");
        let own = matches!(policy, AsidPolicy::PerInstance | AsidPolicy::Banked);
        let (domain, device) = (setup.domain(), setup.device(0, &[1]));
        setup.attach(device, 0, domain).unwrap();
        let common = usize::from(!own);
        assert_eq!(free(&setup), [254, most - common, 63 * banks - common], "{policy}");
        // A wide number takes none from a narrow instance.
        let (wide, device) = (setup.domain(), setup.device(1, &[1]));
        setup.attach(device, 0, wide).unwrap();
        let narrow = usize::from(policy == AsidPolicy::Shared8);
        let expected = [254 - narrow, most - 1 - common, 63 * banks - common - narrow];
        assert_eq!(free(&setup), expected, "{policy}");
        setup.tear_down(&policy);
    }
}
