// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each policy hands out, in which order, and what it refuses.

use smmuv3::{AsidPolicy, AttachError, Quarantined};
use smmuv3_formats::{Cd, Opcode};
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::machine::Machine;

use crate::setup::{NARROW, PAGE, Setup, TINY, WIDE, failure};

use AsidPolicy::{Banked, PerInstance, Shared8, Shared8OnMove, SharedMinMove, SharedMinRefuse};

/// Instances of most tests.
const N: usize = 0;
const W: usize = 1;

/// A narrow and a wide instance with so many masters each, which are even behind the narrow one.
fn pair(policy: AsidPolicy, masters: u32) -> Setup {
    let mut setup = Setup::new(policy, &[NARROW, WIDE]);
    for stream in 0..masters {
        setup.device(N, &[stream]);
        setup.device(W, &[stream]);
    }
    setup
}

/// Device `index` behind the narrow instance, and behind the wide one.
const fn n(index: usize) -> usize {
    2 * index
}

const fn w(index: usize) -> usize {
    2 * index + 1
}

/// All ASIDs of the contexts of a device, read from memory as hardware does.
fn context_of(setup: &Setup, device: usize) -> u16 {
    let device = &setup.devices[device];
    let instance = setup.smmus[device.instance].inside();
    let platform = setup.iommu.platform();
    let entry = instance.streams().entry(platform, smmuv3::StreamId(device.streams[0])).unwrap();
    let contexts = smmuv3_formats::Ste(entry.load(platform)).s1_context_ptr();
    let words = |index: u64| setup.world.machine().ram().read64(contexts + 8 * index).unwrap();
    Cd(std::array::from_fn(|index| words(index as u64))).asid() as u16
}

#[test]
fn names_are_those_of_the_documentation() {
    let names = AsidPolicy::ALL.map(|policy| policy.to_string());
    let all = "per-instance shared-8 shared-8-on-move shared-min-refuse shared-min-move banked";
    assert_eq!(names.join(" "), all);
    assert_eq!(AsidPolicy::default(), PerInstance);
}

#[test]
fn narrow_instances_count_up_and_wide_ones_down() {
    for policy in AsidPolicy::ALL {
        let mut setup = pair(policy, 3);
        let domains = [0; 3].map(|_| setup.domain());
        for (index, domain) in domains.into_iter().enumerate() {
            setup.attach(w(index), 0, domain).unwrap();
        }
        let wide = domains.map(|domain| setup.asid(domain, W));
        let down = [0xffff, 0xfffe, 0xfffd];
        assert_eq!(wide, if policy == Shared8 { [1, 2, 3] } else { down }, "{policy}");
        let contexts = [0, 1, 2].map(|index| context_of(&setup, w(index)));
        assert_eq!(contexts, wide, "{policy}");
        for (index, domain) in domains.into_iter().enumerate() {
            setup.detach(w(index), 0).unwrap();
            setup.attach(n(index), 0, domain).unwrap();
        }
        assert_eq!(domains.map(|domain| setup.asid(domain, N)), [1, 2, 3], "{policy}");
        setup.tear_down(&policy);
    }
}

#[test]
fn a_number_is_common_to_all_instances_or_each_has_its_own() {
    for policy in AsidPolicy::ALL {
        let mut setup = pair(policy, 1);
        let domain = setup.domain();
        setup.attach(n(0), 0, domain).unwrap();
        setup.attach(w(0), 0, domain).unwrap();
        let own = matches!(policy, PerInstance | Banked);
        let expected = if own { (1, 0xffff) } else { (1, 1) };
        assert_eq!((setup.asid(domain, N), setup.asid(domain, W)), expected, "{policy}");
        assert_eq!((context_of(&setup, n(0)), context_of(&setup, w(0))), expected, "{policy}");
        setup.tear_down(&policy);
    }
}

/// A domain that is in use behind a wide instance is attached behind a narrow one.
#[test]
fn a_narrow_instance_is_refused_or_served_as_the_policy_says() {
    for policy in AsidPolicy::ALL {
        let mut setup = pair(policy, 2);
        let domain = setup.domain();
        setup.attach(w(0), 0, domain).unwrap();
        setup.attach(w(1), 0, domain).unwrap();
        assert!(setup.dma(w(0), 0, 0).is_some());
        let before = (setup.domains[domain].targets().unwrap(), setup.world.frames().live_bytes());
        setup.world.take_commands();
        let result = setup.attach(n(0), 0, domain);
        match policy {
            Shared8OnMove | SharedMinRefuse => {
                let instance = setup.smmus[N].id();
                let refused = AttachError::AsidWidth { instance, bits: 8, asid: 0xffff };
                assert_eq!(result, Err(refused), "{policy}");
                let text = "instance 0: ASID 65535 of the domain has more than 8 bits";
                assert_eq!(refused.to_string(), text);
                let after =
                    (setup.domains[domain].targets().unwrap(), setup.world.frames().live_bytes());
                assert_eq!(after, before, "{policy}");
                assert_eq!(setup.world.take_commands(), [], "{policy}");
                assert_eq!(setup.dma(n(0), 0, 0), None);
                // Another domain may be.
                let other = setup.domain();
                assert_eq!(setup.attach(n(0), 0, other), Ok(()), "{policy}");
                assert_eq!(setup.asid(other, N), 1);
                // And this one when the wide instance has let go of it.
                setup.detach(w(0), 0).unwrap();
                assert!(setup.attach(n(1), 0, domain).is_err(), "{policy}: one master is left");
                setup.detach(w(1), 0).unwrap();
                assert_eq!(setup.attach(n(1), 0, domain), Ok(()), "{policy}");
                assert_eq!(setup.asid(domain, N), 2, "{policy}");
            }
            SharedMinMove => {
                assert_eq!(result, Ok(()));
                assert_eq!((setup.asid(domain, N), setup.asid(domain, W)), (1, 1));
                for device in [n(0), w(0), w(1)] {
                    assert_eq!(context_of(&setup, device), 1);
                }
            }
            _ => {
                assert_eq!(result, Ok(()), "{policy}");
                let wide = if policy == Shared8 { 1 } else { 0xffff };
                assert_eq!((setup.asid(domain, N), setup.asid(domain, W)), (1, wide), "{policy}");
            }
        }
        for device in [n(0), w(0), w(1)] {
            let used = setup.domains[domain].targets().unwrap().len() > 1;
            let reached = setup.dma(device, 0, 1);
            assert!(!used || reached == Some(setup.memory(domain, 1)), "{policy}");
        }
        setup.check(&policy);
        setup.tear_down(&policy);
    }
}

/// The narrower the instance that joins, the narrower the number: of 6 bits after one of 8.
#[test]
fn a_live_number_is_changed_once_for_each_narrower_instance() {
    let mut setup = Setup::new(SharedMinMove, &[WIDE, NARROW, TINY, WIDE]);
    let devices = [0, 1, 2, 3].map(|instance| setup.device(instance, &[7]));
    let domain = setup.domain();
    // Takes the numbers of 6 bits, so that one of 8 is more than that.
    let fill: Vec<usize> = (0..63).map(|_| setup.domain_of(1)).collect();
    let fillers: Vec<usize> = (100..163).map(|stream| setup.device(2, &[stream])).collect();
    for (device, domain) in fillers.iter().zip(&fill) {
        setup.attach(*device, 0, *domain).unwrap();
    }
    setup.attach(devices[0], 0, domain).unwrap();
    setup.attach(devices[3], 0, domain).unwrap();
    assert_eq!(setup.asid(domain, 0), 0xffff);
    setup.attach(devices[1], 0, domain).unwrap();
    assert_eq!([0, 1, 3].map(|instance| setup.asid(domain, instance)), [64; 3]);
    let none = AttachError::NoAsid { instance: setup.smmus[2].id(), bits: 6 };
    assert_eq!(setup.attach(devices[2], 0, domain), Err(none));
    assert_eq!([0, 1, 3].map(|instance| setup.asid(domain, instance)), [64; 3]);
    setup.detach(fillers[41], 0).unwrap();
    setup.attach(devices[2], 0, domain).unwrap();
    assert_eq!([0, 1, 2, 3].map(|instance| setup.asid(domain, instance)), [42; 4]);
    for device in devices {
        assert_eq!(setup.dma(device, 0, 3), Some(setup.memory(domain, 3)));
    }
    setup.check(&"narrower and narrower");
    // A wide one that joins now changes nothing, and the number is free when all have gone.
    for device in devices {
        setup.detach(device, 0).unwrap();
    }
    setup.attach(fillers[41], 0, domain).unwrap();
    assert_eq!(setup.asid(domain, 2), 42);
    setup.tear_down(&"narrower and narrower");
}

#[test]
fn shared_8_has_255_domains_and_no_more_wherever_they_are() {
    for first in [N, W] {
        let mut setup = Setup::new(Shared8, &[NARROW, WIDE]);
        let domains: Vec<usize> = (0..256).map(|_| setup.domain_of(1)).collect();
        // Half of them behind each.
        let devices: Vec<usize> =
            (0..256).map(|at| setup.device((first + at as usize) % 2, &[at])).collect();
        for index in 0..255 {
            setup.attach(devices[index], 0, domains[index]).unwrap();
        }
        let mut asids: Vec<u16> =
            (0..255).map(|index| setup.asid(domains[index], (first + index) % 2)).collect();
        assert_eq!(asids, (1..256).collect::<Vec<u16>>());
        asids.dedup();
        assert_eq!(asids.len(), 255);
        assert_eq!((setup.free(N), setup.free(W)), (0, 0));
        let last = (first + 255) % 2;
        let none = AttachError::NoAsid { instance: setup.smmus[last].id(), bits: 8 };
        let before = setup.world.frames().live_bytes();
        setup.world.take_commands();
        assert_eq!(setup.attach(devices[255], 0, domains[255]), Err(none));
        assert!(none.to_string().ends_with("all ASIDs of 8 bits are in use"), "{none}");
        assert_eq!(setup.world.take_commands(), []);
        assert_eq!(setup.world.frames().live_bytes(), before);
        assert_eq!(setup.domains[domains[255]].targets().unwrap(), []);
        // Domains that have a number go on.
        setup.attach(devices[255], 0, domains[17]).unwrap();
        setup.detach(devices[255], 0).unwrap();
        setup.detach(devices[100], 0).unwrap();
        setup.attach(devices[255], 0, domains[255]).unwrap();
        assert_eq!(setup.asid(domains[255], last), 101);
        setup.check(&first);
        setup.tear_down(&first);
    }
}

/// A narrow instance that is full is full for new domains only, and limits no other.
#[test]
fn own_numbers_are_limited_by_their_instance_alone() {
    for policy in [PerInstance, Banked] {
        let mut setup = Setup::new(policy, &[TINY, WIDE, NARROW]);
        let domains: Vec<usize> = (0..65).map(|_| setup.domain_of(1)).collect();
        let tiny: Vec<usize> = (0..65).map(|stream| setup.device(0, &[stream])).collect();
        let wide: Vec<usize> = (0..65).map(|stream| setup.device(1, &[stream])).collect();
        for index in 0..65 {
            setup.attach(wide[index], 0, domains[index]).unwrap();
        }
        for index in 0..63 {
            setup.attach(tiny[index], 0, domains[index]).unwrap();
        }
        let none = AttachError::NoAsid { instance: setup.smmus[0].id(), bits: 6 };
        for index in [63, 64] {
            assert_eq!(setup.attach(tiny[index], 0, domains[index]), Err(none), "{policy}");
            assert_eq!(setup.domains[domains[index]].targets().unwrap().len(), 1);
        }
        let third = setup.device(2, &[1]);
        setup.attach(third, 0, domains[64]).unwrap();
        assert_eq!((setup.free(0), setup.free(1), setup.free(2)), (0, 65535 - 65, 254));
        setup.detach(tiny[30], 0).unwrap();
        setup.attach(tiny[64], 0, domains[64]).unwrap();
        assert_eq!(setup.asid(domains[64], 0), 31);
        setup.check(&policy);
        setup.tear_down(&policy);
    }
}

#[test]
fn a_number_is_free_when_the_last_master_has_left_and_not_before() {
    for policy in AsidPolicy::ALL {
        let mut setup = pair(policy, 3);
        let (first, second) = (setup.domain(), setup.domain());
        let free = || (setup.free(N), setup.free(W));
        let all = free();
        setup.attach(n(0), 0, first).unwrap();
        setup.attach(w(0), 0, first).unwrap();
        setup.attach(w(1), 0, first).unwrap();
        let taken = free();
        assert_eq!(taken, (all.0 - 1, all.1 - 1), "{policy}");
        setup.detach(w(0), 0).unwrap();
        assert_eq!(free(), taken, "{policy}");
        setup.attach(n(1), 0, second).unwrap();
        let asid = setup.asid(first, N);
        assert_ne!(setup.asid(second, N), asid, "{policy}");
        setup.detach(n(0), 0).unwrap();
        let common = !matches!(policy, PerInstance | Banked);
        // Where it is common, the wide instance still has it.
        setup.attach(n(2), 0, second).unwrap();
        setup.attach(n(1), 0, first).unwrap();
        assert_eq!(setup.asid(first, N), asid, "{policy}");
        setup.detach(n(1), 0).unwrap();
        setup.detach(w(1), 0).unwrap();
        let expected = if common { (all.0 - 1, all.1 - 1) } else { (all.0 - 1, all.1) };
        assert_eq!(free(), expected, "{policy}");
        setup.tear_down(&policy);
    }
}

/// Two domains in turn: the second gets the number of the first only after its TLBI has been confirmed.
#[test]
fn a_number_is_used_again_only_after_its_flush() {
    for policy in AsidPolicy::ALL {
        let mut setup = Setup::new(policy, &[TINY]);
        let domains: Vec<usize> = (0..64).map(|_| setup.domain_of(1)).collect();
        let devices: Vec<usize> = (0..63).map(|stream| setup.device(0, &[stream])).collect();
        for index in 0..63 {
            setup.attach(devices[index], 0, domains[index]).unwrap();
            assert!(setup.dma(devices[index], 0, 0).is_some());
        }
        // One that has to be used again: all others are in use.
        setup.world.take_commands();
        setup.detach(devices[9], 0).unwrap();
        let commands = setup.commands(0);
        let flush = commands.iter().rposition(|command| {
            command.opcode() == Some(Opcode::TlbiNhAsid) && command.0[0] >> 48 == 10
        });
        let sync = commands.iter().rposition(|command| command.opcode() == Some(Opcode::Sync));
        assert!(flush.is_some() && sync > flush, "{policy}: {commands:?}");
        let model = setup.machine.model(0).unwrap();
        assert!(model.tlb_entries().all(|entry| entry.tag.asid != 10), "{policy}");
        assert!(model.walk_entries().all(|entry| entry.tag.asid != 10), "{policy}");
        drop(model);
        setup.attach(devices[9], 0, domains[63]).unwrap();
        assert_eq!(setup.asid(domains[63], 0), 10, "{policy}");
        assert_eq!(setup.dma(devices[9], 0, 0), Some(setup.memory(domains[63], 0)));
        setup.check(&policy);
        setup.tear_down(&policy);
    }
}

/// The flush of a common number is refused on one instance: it is given to nobody, on no instance, before that one's
/// reset, and the domain itself can be used on.
#[test]
fn a_number_that_was_not_flushed_is_held_everywhere() {
    for policy in AsidPolicy::ALL {
        let mut setup = Setup::new(policy, &[TINY, TINY]);
        let common = !matches!(policy, PerInstance | Banked);
        let domains: Vec<usize> = (0..65).map(|_| setup.domain_of(1)).collect();
        let devices: Vec<usize> = (0..64).map(|stream| setup.device(0, &[stream])).collect();
        let other = setup.device(1, &[0]);
        setup.attach(devices[0], 0, domains[0]).unwrap();
        setup.attach(other, 0, domains[0]).unwrap();
        assert!(setup.dma(other, 0, 0).is_some());
        // Entry, the rest of it, and the flush.
        setup.refuse(1, 2);
        assert_eq!(failure(setup.detach(other, 0)).0, 1, "{policy}");
        setup.machine.behave();
        let held = Quarantined::Asid { instance: setup.smmus[1].id(), asid: 1 };
        assert_eq!(setup.quarantined(), [held], "{policy}");
        setup.detach(devices[0], 0).unwrap();
        assert_eq!(setup.free(0), if common { 62 } else { 63 }, "{policy}");
        assert_eq!(setup.free(1), 62, "{policy}");
        // Everything else can be had.
        let count = if common { 62 } else { 63 };
        for index in 1..=count {
            setup.attach(devices[index], 0, domains[index]).unwrap();
            assert_eq!(setup.asid(domains[index], 0) == 1, !common && index == 1, "{policy}");
        }
        let none = AttachError::NoAsid { instance: setup.smmus[0].id(), bits: 6 };
        assert_eq!(setup.attach(devices[0], 0, domains[64]), Err(none), "{policy}");
        // An unmap still reaches the instance that was not flushed.
        setup.world.take_commands();
        assert_eq!(setup.unmap(domains[0], 0), Ok(PAGE));
        assert_eq!(setup.commands(1).len(), 2, "{policy}");
        setup.check_unmapped(domains[0], 0, None, &policy);
        setup.reset(1);
        assert_eq!(setup.quarantined(), [], "{policy}");
        if common {
            setup.attach(devices[0], 0, domains[64]).unwrap();
            assert_eq!(setup.asid(domains[64], 0), 1, "{policy}");
        }
        setup.check(&policy);
        setup.tear_down(&policy);
    }
}

/// A domain whose wide number is only held, because the wide instance did not confirm, is used behind a narrow
/// instance, and then behind the wide one again: the number is the same there.
#[test]
fn a_domain_with_a_held_number_gets_one_that_is_common_again() {
    for policy in [Shared8OnMove, SharedMinRefuse, SharedMinMove] {
        let mut setup = pair(policy, 1);
        let domain = setup.domain();
        setup.attach(w(0), 0, domain).unwrap();
        assert!(setup.dma(w(0), 0, 0).is_some());
        setup.refuse(W, 2);
        assert_eq!(failure(setup.detach(w(0), 0)).0, W, "{policy}");
        setup.machine.behave();
        assert_eq!(setup.asid(domain, W), 0xffff, "{policy}");
        // Nobody uses the wide number any more: there is nothing to refuse, or to move.
        setup.attach(n(0), 0, domain).unwrap();
        assert_eq!(setup.asid(domain, N), 1, "{policy}");
        setup.attach(w(0), 0, domain).unwrap();
        assert_eq!(context_of(&setup, w(0)), 1, "{policy}");
        assert_eq!(setup.dma(w(0), 0, 0), Some(setup.memory(domain, 0)), "{policy}");
        assert_eq!(setup.tags(domain, W).len(), 2, "{policy}: the old one is held");
        // And the old one is not in the way of anything.
        assert_eq!(setup.unmap(domain, 0), Ok(PAGE));
        setup.check_unmapped(domain, 0, None, &policy);
        setup.reset(W);
        assert_eq!(setup.asid(domain, W), 1, "{policy}");
        setup.check(&policy);
        setup.tear_down(&policy);
    }
}
