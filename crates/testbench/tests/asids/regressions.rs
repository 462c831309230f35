// SPDX-License-Identifier: MIT OR Apache-2.0
//! What went wrong in "Install domain onto multiple smmus" (2023), so that it does not here: its patches sorted the
//! masters of a domain by SMMU, walked them with a cursor that was used past the end of the list, told the first SMMU of an
//! invalidation again and again and the second never, left the commands of the last master in the batch, refused SMMUs
//! that were compatible, and chose an ASID whose width could be out of date when it was written (see `races`).

use smmuv3::{AsidPolicy, AttachError, DomainConfig, Mismatch};
use smmuv3_formats::{Command, Opcode};
use smmuv3_testbench::machine::Machine;

use crate::allocator::driver;
use crate::setup::{NARROW, PAGE, Setup, WIDE};

/// All orders of `items`.
fn orders(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with = |at: usize| {
        let mut rest = items.to_vec();
        let first = rest.remove(at);
        orders(&rest).into_iter().map(move |mut order| {
            order.insert(0, first);
            order
        })
    };
    (0..items.len()).flat_map(with).collect()
}

/// Masters of three SMMUs join and leave in every order; each SMMU is told once of an unmap, exactly while one of its
/// masters is there.
#[test]
fn every_smmu_is_told_once_in_whatever_order_its_masters_came() {
    for policy in [AsidPolicy::PerInstance, AsidPolicy::SharedMinMove] {
        let mut setup = Setup::new(policy, &[WIDE, NARROW, WIDE]);
        let domain = setup.domain_of(2000);
        // Two behind the first, one behind the second, two behind the third.
        let instances = [0, 0, 1, 2, 2];
        let devices: Vec<usize> = instances
            .iter()
            .zip(1..)
            .map(|(instance, at)| setup.device(*instance, &[at]))
            .collect();
        let mut page = 0;
        let mut told = |setup: &Setup, present: &[usize], why: &str| {
            setup.world.take_commands();
            assert_eq!(setup.unmap(domain, page), Ok(PAGE));
            let given = setup.world.take_commands();
            for instance in 0..3 {
                let here = given.iter().filter(|(at, _)| *at == instance);
                let opcodes: Vec<_> =
                    here.map(|(_, command): &(usize, Command)| command.opcode().unwrap()).collect();
                let is_there = present.iter().any(|device| instances[*device] == instance);
                let expected = if is_there { &[Opcode::TlbiNhVa, Opcode::Sync][..] } else { &[] };
                assert_eq!(opcodes, expected, "{why}: {present:?}, instance {instance}");
            }
            page += 1;
        };
        for order in orders(&[0, 1, 2, 3, 4]) {
            let why = format!("{policy}: {order:?}");
            for count in 0..order.len() {
                setup.attach(devices[order[count]], 0, domain).unwrap();
                told(&setup, &order[..=count], &why);
            }
            for count in 0..order.len() {
                setup.detach(devices[order[count]], 0).unwrap();
                told(&setup, &order[count + 1..], &why);
            }
        }
        setup.check(&policy);
        setup.tear_down(&policy);
    }
}

/// The last in the list, and the last command of it, are as good as the first: nothing is left over for the next call.
#[test]
fn nothing_of_the_last_smmu_stays_behind() {
    for count in 1..=6 {
        let mut setup = Setup::new(AsidPolicy::PerInstance, &vec![WIDE; count]);
        let domain = setup.domain();
        let devices: Vec<usize> =
            (0..count).map(|instance| setup.device(instance, &[7, 8])).collect();
        for device in &devices {
            setup.attach(*device, 0, domain).unwrap();
            assert!(setup.dma(*device, 0, 0).is_some());
            setup.hold(*device, 0, 0);
        }
        assert_eq!(setup.unmap(domain, 0), Ok(PAGE));
        for instance in 0..count {
            assert_eq!(
                setup.machine.model(instance).unwrap().waiting_commands(),
                0,
                "{instance} of {count}"
            );
        }
        setup.check_unmapped(domain, 0, None, &count);
        for device in devices {
            assert_eq!(setup.dma(device, 0, 0), None, "{device} of {count}");
        }
        setup.check(&count);
        setup.tear_down(&count);
    }
}

/// An SMMU that can walk the tables is accepted, one that cannot is not, and then nothing was changed.
#[test]
fn compatible_smmus_are_accepted_and_others_refused() {
    for policy in AsidPolicy::ALL {
        let mut setup = Setup::new(policy, &[WIDE, NARROW]);
        let (wide, narrow) = (setup.device(0, &[1]), setup.device(1, &[1]));
        let fitting = setup.domain();
        setup.attach(narrow, 0, fitting).unwrap();
        setup.attach(wide, 0, fitting).unwrap();
        // The model has 44 bits of output.
        let config = DomainConfig::default().with_output_bits(48);
        let large = driver(|| setup.iommu.create_domain(config).unwrap());
        let before = (setup.free(0), setup.free(1), setup.world.frames().live_bytes());
        setup.world.take_commands();
        for device in [wide, narrow] {
            let master = &setup.devices[device].master;
            let instance = master.instance();
            let result = driver(|| setup.iommu.attach(master, &large));
            let what = Mismatch::Output { domain: 48, instance: 44 };
            assert_eq!(result, Err(AttachError::Mismatch { instance, what }), "{policy}");
        }
        assert_eq!(setup.world.take_commands(), [], "{policy}");
        let after = (setup.free(0), setup.free(1), setup.world.frames().live_bytes());
        assert_eq!(after, before, "{policy}");
        for device in [wide, narrow] {
            assert_eq!(setup.dma(device, 0, 0), Some(setup.memory(fitting, 0)), "{policy}");
        }
        assert!(driver(|| large.close().is_ok()));
        setup.tear_down(&policy);
    }
}

/// A domain that is left by its first SMMU lives on behind the others, and comes back.
#[test]
fn no_smmu_is_a_domains_own() {
    for policy in AsidPolicy::ALL {
        let mut setup = Setup::new(policy, &[NARROW, WIDE, NARROW]);
        let devices = [0, 1, 2].map(|instance| setup.device(instance, &[1]));
        let domain = setup.domain();
        for turn in 0..6 {
            let why = format!("{policy}, turn {turn}");
            let (comes, goes) = (devices[turn % 3], devices[(turn + 2) % 3]);
            setup.attach(comes, 0, domain).unwrap();
            if turn > 0 {
                setup.detach(goes, 0).unwrap();
                assert_eq!(setup.dma(goes, 0, 0), None, "{why}");
            }
            let page = turn as u64;
            assert_eq!(setup.dma(comes, 0, page), Some(setup.memory(domain, page)), "{why}");
            assert_eq!(setup.unmap(domain, page), Ok(PAGE), "{why}");
            assert_eq!(setup.dma(comes, 0, page), None, "{why}");
            setup.check(&why);
        }
        setup.tear_down(&policy);
    }
}
