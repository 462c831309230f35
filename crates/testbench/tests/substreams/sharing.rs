// SPDX-License-Identifier: MIT OR Apache-2.0
//! By which ASID a master uses a process: the table of outcomes. The first column is who has the CPU's number on the
//! instance.
//!
//! | owner | outcome | test |
//! |---|---|---|
//! | nobody | the CPU's number | `nobody_has_the_number` |
//! | the process itself | the same number; no second pin is kept | `the_process_has_it_already` |
//! | another process | `PinnedTwice` | `another_process_has_it` |
//! | a domain | the domain gets another (R6) | `a_domain_has_it` |
//! | a domain, and there is no other number | `NoAsid` | `a_domain_has_it_and_there_is_no_other` |
//! | - (it cannot be pinned) | a number of the instance's | `it_cannot_be_pinned` |
//!
//! The last row departs from the old table, where a failed pin was an error: devices can use the process all the same,
//! as where nothing is broadcast. What is more, an unpinned domain may keep a number that nobody flushed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smmuv3::{AsidPolicy, AttachError, Config, Iova, Quarantined};
use smmuv3_model::{Broadcast, Profile, World};

use crate::setup::{IOVA, PAGE, Setup, failure, hardware, noticeable, sharing, unbind};

const ASET: u64 = 1 << 47;

/// The ASID in the context of a substream, and whether it is the CPU's (ASET = 0).
fn cd(setup: &Setup, master: usize, substream: u32) -> (u16, bool) {
    let word = setup.cd(master, substream)[0];
    ((word >> 48) as u16, word & ASET == 0)
}

/// Pins held, and calls of either kind.
fn pins(setup: &Setup, cookie: u64) -> (u32, [usize; 2]) {
    let pins = setup.iommu.platform().pins();
    (pins.held.get(&cookie).copied().unwrap_or(0), pins.calls)
}

#[test]
fn nobody_has_the_number() {
    let setup = Setup::new(&[sharing()], &[(0, &[1, 2], 8)]);
    let free = setup.iommu.free_asids(&setup.smmus[0]);
    let (process, tables) = setup.process(7, Some(0x1234), 0);
    assert_eq!(pins(&setup, 7), (0, [0, 0]), "not before it is bound");
    let bond = process.bind(&setup.masters[0]).unwrap();
    let pasid = process.pasid();
    assert_eq!(cd(&setup, 0, pasid.0), (0x1234, true));
    let targets = process.targets().unwrap();
    assert_eq!((targets.len(), targets[0].tag.asid, targets[0].shared), (1, 0x1234, true));
    assert_eq!(setup.iommu.free_asids(&setup.smmus[0]), free - 1);
    assert_eq!(pins(&setup, 7), (1, [1, 0]));
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(0)));
    unbind(bond);
    assert_eq!(setup.dma(0, Some(pasid)), None);
    assert_eq!(setup.model(0).tlb_entries().count(), 0, "flushed before it is unpinned");
    assert_eq!(pins(&setup, 7), (0, [1, 1]));
    assert_eq!(setup.iommu.free_asids(&setup.smmus[0]), free);
    setup.tear_down(vec![], vec![(process, tables)]);
}

#[test]
fn the_process_has_it_already() {
    let masters: &[(usize, &[u32], u32)] = &[(0, &[1], 8), (0, &[2, 3], 8), (1, &[1], 8)];
    let setup = Setup::new(&[sharing(), sharing()], masters);
    let (process, tables) = setup.process(7, Some(9), 0);
    let pasid = process.pasid();
    let mut bonds: Vec<_> =
        setup.masters.iter().map(|master| process.bind(master).unwrap()).collect();
    for master in 0..3 {
        assert_eq!(cd(&setup, master, pasid.0), (9, true));
        assert_eq!(setup.dma(master, Some(pasid)), Some(setup.page(0)));
    }
    // Whatever was pinned besides is unpinned.
    assert_eq!(pins(&setup, 7).0, 1);
    let targets = process.targets().unwrap();
    let masters: Vec<_> = targets.iter().map(|target| (target.tag.asid, target.masters)).collect();
    assert_eq!(masters, [(9, 2), (9, 1)]);
    // The number is the process's until the last of all instances leaves.
    for (left, bond) in [2, 1, 0].into_iter().zip(bonds.drain(..)) {
        unbind(bond);
        assert_eq!(pins(&setup, 7).0, u32::from(left != 0));
    }
    setup.tear_down(vec![], vec![(process, tables)]);
}

#[test]
fn another_process_has_it() {
    let masters: &[(usize, &[u32], u32)] = &[(0, &[1], 8), (0, &[2], 8)];
    let setup = Setup::new(&[sharing()], masters);
    let (first, tables) = setup.process(7, Some(9), 0);
    let (second, others) = setup.process(8, Some(9), 16);
    let bond = first.bind(&setup.masters[0]).unwrap();
    let instance = setup.smmus[0].id();
    for master in 0..2 {
        let (result, steps) = setup.steps(|| second.bind(&setup.masters[master]).err());
        assert_eq!(result, Some(AttachError::PinnedTwice { instance, asid: 9 }));
        assert_eq!((noticeable(steps), second.targets().unwrap()), (vec![], vec![]));
        assert_eq!(pins(&setup, 8).0, 0);
    }
    assert_eq!(setup.dma(0, Some(first.pasid())), Some(setup.page(0)));
    // It is the other's once the first has gone.
    unbind(bond);
    let bond = second.bind(&setup.masters[0]).unwrap();
    assert_eq!(setup.dma(0, Some(second.pasid())), Some(setup.page(16)));
    unbind(bond);
    setup.tear_down(vec![], vec![(first, tables), (second, others)]);
}

/// A domain of two masters, one of them with a PASID, loses its number while devices work and an unmap comes at every
/// moment.
#[test]
fn a_domain_has_it() {
    let mut unmapped_meanwhile = 0;
    for moment in 0.. {
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1, 2], 8), (0, &[3], 8), (0, &[4], 8)];
        let setup = Setup::new(&[sharing()], masters);
        let domain = Arc::new(setup.domain(0));
        let pasid = setup.pasid();
        setup.iommu.attach(&setup.masters[0], &domain).unwrap();
        setup.iommu.attach_pasid(&setup.masters[1], pasid, &domain).unwrap();
        let users: [(usize, &[u32], _); 2] = [(0, &[1, 2], None), (1, &[3], Some(pasid))];
        for (master, _, pasid) in users {
            for page in 0..4 {
                let there = setup.dma_at(master, pasid, IOVA + page * PAGE);
                assert_eq!(there, Ok(setup.page(page)));
            }
        }
        let old = Setup::asid(&domain.targets().unwrap(), 0);
        let (process, tables) = setup.process(7, Some(old), 32);
        let count = Arc::new(AtomicU64::new(0));
        let done = Arc::new(AtomicU64::new(0));
        let (machine, unmapper, memory) = (setup.machine.clone(), domain.clone(), setup.memory);
        let (counter, flag) = (count.clone(), done.clone());
        setup.eyes.hook(Some(Arc::new(move |interruptible| {
            for (_, streams, pasid) in users {
                let there = crate::setup::device(&machine, 0, streams, pasid, IOVA);
                assert_eq!(there, Ok(memory), "R0");
            }
            // Not while this one unmaps.
            if !interruptible || flag.load(Ordering::Relaxed) == 1 {
                return;
            }
            if counter.fetch_add(1, Ordering::Relaxed) == moment {
                flag.store(1, Ordering::Relaxed);
                // SAFETY: nobody else works on this page.
                unsafe { unmapper.unmap(Iova(IOVA + 3 * PAGE), PAGE).unwrap() };
                flag.store(2, Ordering::Relaxed);
            }
            if flag.load(Ordering::Relaxed) == 2 {
                for (_, streams, pasid) in users {
                    let there = crate::setup::device(&machine, 0, streams, pasid, IOVA + 3 * PAGE);
                    assert!(there.is_err(), "R6: at {moment}, still at {there:x?}");
                }
            }
        })));
        let bond = process.bind(&setup.masters[2]).unwrap();
        setup.eyes.hook(None);
        assert_eq!(cd(&setup, 2, process.pasid().0), (old, true));
        let new = Setup::asid(&domain.targets().unwrap(), 0);
        assert_ne!(new, old);
        assert_eq!((cd(&setup, 0, 0), cd(&setup, 1, pasid.0)), ((new, false), (new, false)));
        assert_eq!(domain.targets().unwrap()[0].masters, 2);
        for (master, _, pasid) in users {
            assert_eq!(setup.dma(master, pasid), Some(setup.page(0)));
        }
        assert_eq!(setup.dma(2, Some(process.pasid())), Some(setup.page(32)));
        // Nothing of the domain carries the old number.
        let model = setup.model(0);
        let stale =
            model.tlb_entries().find(|entry| entry.tag.asid == old && entry.ttb != tables.root());
        assert_eq!(stale, None, "R2");
        drop(model);
        // An unmap after it reaches the new number.
        // SAFETY: the test is alone.
        unsafe { domain.unmap(Iova(IOVA + 2 * PAGE), PAGE).unwrap() };
        for (master, _, pasid) in users {
            assert!(setup.dma_at(master, pasid, IOVA + 2 * PAGE).is_err());
        }
        unbind(bond);
        setup.iommu.detach(&setup.masters[0]).unwrap();
        setup.iommu.detach_pasid(&setup.masters[1], pasid).unwrap();
        let meanwhile = done.load(Ordering::Relaxed) == 2;
        setup.eyes.check("a domain has it");
        setup.tear_down(vec![Arc::into_inner(domain).unwrap()], vec![(process, tables)]);
        unmapped_meanwhile += u64::from(meanwhile);
        if !meanwhile {
            break;
        }
    }
    assert!(unmapped_meanwhile > 20, "{unmapped_meanwhile}");
}

/// With a policy of one number for all instances the domain moves on all of them.
#[test]
fn a_domain_has_it_on_all_instances() {
    for policy in AsidPolicy::ALL {
        let mut config = Config::default();
        config.asid_policy = policy;
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1], 8), (1, &[1], 8), (0, &[2], 8)];
        let setup = Setup::with(config, &[sharing(), hardware(8, true)], masters);
        let domain = setup.domain(0);
        for master in 0..2 {
            setup.iommu.attach(&setup.masters[master], &domain).unwrap();
            assert_eq!(setup.dma(master, None), Some(setup.page(0)));
        }
        let old = domain.targets().unwrap()[0].tag.asid;
        let (process, tables) = setup.process(7, Some(old), 32);
        let pasid = process.pasid();
        let memory = setup.memory;
        let bond = setup.during(
            || process.bind(&setup.masters[2]).unwrap(),
            move |machine| {
                for instance in 0..2 {
                    let there = crate::setup::device(machine, instance, &[1], None, IOVA);
                    assert_eq!(there, Ok(memory), "R0");
                }
            },
        );
        assert_eq!(cd(&setup, 2, pasid.0), (old, true), "{policy}");
        let here: Vec<u16> =
            domain.targets().unwrap().iter().map(|target| target.tag.asid).collect();
        assert_ne!(here[0], old, "{policy}");
        let common = !matches!(policy, AsidPolicy::PerInstance | AsidPolicy::Banked);
        assert_eq!(here[0] == here[1], common, "{policy}: {here:x?}");
        assert_eq!(here[1] == old, !common, "{policy}: {here:x?}");
        // On the other instance the process is private.
        let second = process.bind(&setup.masters[1]).unwrap();
        let (asid, shared) = cd(&setup, 1, pasid.0);
        assert!(asid != old && asid != here[1] && !shared, "{policy}: {asid:#x}");
        for (master, pasid, page) in
            [(0, None, 0), (1, None, 0), (2, Some(pasid), 32), (1, Some(pasid), 32)]
        {
            assert_eq!(setup.dma(master, pasid), Some(setup.page(page)), "{policy}: {master}");
        }
        unbind(second);
        unbind(bond);
        for master in 0..2 {
            setup.iommu.detach(&setup.masters[master]).unwrap();
        }
        setup.tear_down(vec![domain], vec![(process, tables)]);
    }
}

#[test]
fn a_domain_has_it_and_there_is_no_other() {
    // CPUs with 8 bits, so that 255 domains take all numbers.
    let mut config = Config::default();
    config.cpu.asid_bits = 8;
    let narrow = Profile::small_asid().ssidsize(10).two_level_contexts(true).btm(true);
    let setup = Setup::with(config, &[narrow], &[(0, &[1], 10), (0, &[2], 10)]);
    let domains: Vec<_> = (0..255).map(|at| setup.domain(at)).collect();
    let pasids: Vec<_> = domains
        .iter()
        .map(|domain| {
            let pasid = setup.pasid();
            setup.iommu.attach_pasid(&setup.masters[0], pasid, domain).unwrap();
            pasid
        })
        .collect();
    assert_eq!(setup.iommu.free_asids(&setup.smmus[0]), 0);
    let (process, tables) = setup.process(7, Some(100), 300);
    let instance = setup.smmus[0].id();
    let (error, steps) = setup.steps(|| process.bind(&setup.masters[1]).err());
    assert_eq!(error, Some(AttachError::NoAsid { instance, bits: 8 }));
    assert_eq!((noticeable(steps), process.targets().unwrap()), (vec![], vec![]));
    assert_eq!(pins(&setup, 7), (0, [1, 1]));
    for (at, pasid) in pasids.iter().enumerate() {
        assert_eq!(setup.dma(0, Some(*pasid)), Some(setup.page(at as u64)));
    }
    // One goes, and then it works: it takes the place of the one that has 100.
    setup.iommu.detach_pasid(&setup.masters[0], pasids[9]).unwrap();
    let bond = process.bind(&setup.masters[1]).unwrap();
    assert_eq!(cd(&setup, 1, process.pasid().0), (100, true));
    for (at, pasid) in pasids.iter().enumerate().filter(|(at, _)| *at != 9) {
        assert_eq!(setup.dma(0, Some(*pasid)), Some(setup.page(at as u64)));
    }
    unbind(bond);
    for pasid in pasids {
        setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
    }
    setup.tear_down(domains, vec![(process, tables)]);
}

/// In the bank of the CPU there is no other, but there are more banks.
#[test]
fn a_domain_has_it_and_there_is_room_in_another_bank() {
    let mut config = Config::default();
    (config.cpu.asid_bits, config.asid_policy) = (8, AsidPolicy::Banked);
    let narrow = Profile::small_asid().s2p(true).ssidsize(10).two_level_contexts(true).btm(true);
    let setup = Setup::with(config, &[narrow], &[(0, &[1], 10), (0, &[2], 10)]);
    let domains: Vec<_> = (0..255).map(|at| setup.domain(at)).collect();
    let attach = |domain| {
        let pasid = setup.pasid();
        setup.iommu.attach_pasid(&setup.masters[0], pasid, domain).unwrap();
        pasid
    };
    let pasids: Vec<_> = domains.iter().map(attach).collect();
    let (process, tables) = setup.process(7, Some(100), 300);
    let bond = process.bind(&setup.masters[1]).unwrap();
    let [target] = process.targets().unwrap()[..] else {
        panic!("{:?}", process.targets().unwrap())
    };
    assert!(!target.shared && target.tag.vmid == 1, "{target:?}");
    assert_eq!(pins(&setup, 7), (0, [1, 1]));
    assert_eq!(setup.dma(1, Some(process.pasid())), Some(setup.page(300)));
    unbind(bond);
    for pasid in pasids {
        setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
    }
    setup.tear_down(domains, vec![(process, tables)]);
}

/// See the module for where this departs from the table.
#[test]
fn it_cannot_be_pinned() {
    let narrow_config = |bits: u32| {
        let mut config = Config::default();
        config.cpu.asid_bits = bits;
        config
    };
    let narrow = Profile::small_asid().ssidsize(8).two_level_contexts(true).btm(true);
    // The pin fails, gives 0, or gives what the instance has not as many bits for.
    for (config, profile, answer, calls) in [
        (narrow_config(16), sharing(), None, [0, 0]),
        (narrow_config(16), sharing(), Some(0), [1, 1]),
        (narrow_config(8), narrow.clone(), Some(256), [1, 1]),
        // The instance is too narrow for CPUs, or takes no broadcasts: nobody asks.
        (narrow_config(16), narrow, Some(9), [0, 0]),
        (narrow_config(16), hardware(8, true), Some(9), [0, 0]),
    ] {
        let setup = Setup::with(config, &[profile], &[(0, &[1, 2], 8)]);
        let (process, tables) = setup.process(7, answer, 0);
        let bond = process.bind(&setup.masters[0]).unwrap();
        let (asid, shared) = cd(&setup, 0, process.pasid().0);
        assert!(!shared && asid != 0 && Some(asid) != answer, "{answer:?}: {asid}");
        assert!(!process.targets().unwrap()[0].shared);
        assert_eq!(setup.dma(0, Some(process.pasid())), Some(setup.page(0)));
        assert_eq!(pins(&setup, 7), (0, calls), "{answer:?}");
        // The operating system has to say what it changed.
        tables.unmap(IOVA);
        process.invalidate(Iova(IOVA), PAGE).unwrap();
        assert_eq!(setup.dma(0, Some(process.pasid())), None);
        unbind(bond);
        setup.tear_down(vec![], vec![(process, tables)]);
    }
}

/// CPUs at another VMID, or under a kernel in EL2 where streams are in EL1, or the other way round, do not reach these
/// streams' translations.
#[test]
fn a_number_is_shared_only_where_broadcasts_would_hit() {
    for (el2_host, hyp, vmid, s2p, shared) in [
        (false, false, 0, false, true),
        (false, false, 0, true, true),
        (true, false, 0, true, false),
        (false, true, 0, true, false),
        (true, true, 0, true, true),
        (true, true, 0, false, true),
        // In EL2 there are no VMIDs.
        (true, true, 5, true, true),
        (false, false, 5, true, true),
        (false, false, 5, false, false),
        (false, false, 0x100, true, false),
    ] {
        let mut config = Config::default();
        (config.cpu.el2_host, config.cpu.vmid) = (el2_host, vmid);
        let context = format!("{el2_host} {hyp} {vmid} {s2p}");
        let setup = Setup::with(config, &[sharing().s2p(s2p).hyp(hyp)], &[(0, &[1], 8)]);
        let (process, tables) = setup.process(7, Some(0x1234), 0);
        let bond = process.bind(&setup.masters[0]).unwrap();
        assert_eq!(cd(&setup, 0, process.pasid().0).1, shared, "{context}");
        if shared {
            // The master is in the CPUs' VMID, or in EL2 as they are.
            let own = if el2_host { (2, 0) } else { (0, u64::from(vmid)) };
            assert_eq!((setup.ste(0).strw(), setup.ste(0).s2_vmid()), own, "{context}");
            assert_eq!(setup.dma(0, Some(process.pasid())), Some(setup.page(0)));
            let pages = smmuv3_model::Pages::one(IOVA);
            let tlbi = smmuv3_model::Tlbi::Va { asid: 0x1234, pages };
            tables.unmap(IOVA);
            let [other, world] = match el2_host {
                true => [World::El1, World::El2E2h],
                false => [World::El2E2h, World::El1],
            };
            let sent = |world| setup.model(0).broadcast(Broadcast { world, vmid, tlbi });
            assert_eq!(sent(other), Some(0), "{context}");
            let removed = sent(world);
            assert!(removed.is_some_and(|removed| removed != 0), "{context}");
            assert_eq!(setup.dma(0, Some(process.pasid())), None, "{context}");
        }
        unbind(bond);
        setup.tear_down(vec![], vec![(process, tables)]);
    }
}

/// The flush of a number that a domain left was refused. Until the reset nobody gets it, and processes do without.
#[test]
fn a_number_that_was_not_flushed_is_not_shared_before_the_reset() {
    for policy in [AsidPolicy::PerInstance, AsidPolicy::SharedMinMove] {
        let mut config = Config::default();
        config.asid_policy = policy;
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1], 8), (0, &[2], 8), (1, &[1], 8)];
        let setup = Setup::with(config, &[sharing(), sharing()], masters);
        let domain = setup.domain(0);
        setup.iommu.attach(&setup.masters[0], &domain).unwrap();
        setup.iommu.attach(&setup.masters[2], &domain).unwrap();
        assert_eq!(setup.dma(0, None), Some(setup.page(0)));
        let old = Setup::asid(&domain.targets().unwrap(), 0);
        let (process, tables) = setup.process(7, Some(old), 32);
        // Two batches for the entry, then the flush.
        setup.refuse(0, 2);
        let (instance, _) = failure(setup.iommu.detach(&setup.masters[0]));
        assert_eq!(instance, 0);
        setup.machine.behave();
        let asid = Quarantined::Asid { instance: setup.smmus[0].id(), asid: old };
        assert_eq!(setup.quarantined(), [asid]);
        let stale = |setup: &Setup| {
            let model = setup.model(0);
            model.tlb_entries().filter(|entry| entry.ttb != tables.root()).count()
        };
        assert_ne!(stale(&setup), 0, "it was not flushed");
        let bond = process.bind(&setup.masters[1]).unwrap();
        let (private, shared) = cd(&setup, 1, process.pasid().0);
        assert!(private != old && !shared, "{policy}: {private:#x}");
        assert_eq!(setup.iommu.platform().pins().held.get(&7), Some(&0), "{policy}");
        assert_eq!(setup.dma(1, Some(process.pasid())), Some(setup.page(32)));
        assert_eq!(setup.dma(2, None), Some(setup.page(0)));
        unbind(bond);
        // A reset takes nothing from those who work.
        setup.iommu.reset(&setup.smmus[0]).unwrap();
        assert_eq!((stale(&setup), setup.quarantined()), (0, vec![]), "{policy}");
        let bond = process.bind(&setup.masters[1]).unwrap();
        assert_eq!(cd(&setup, 1, process.pasid().0), (old, true), "{policy}");
        assert_eq!(setup.dma(1, Some(process.pasid())), Some(setup.page(32)));
        assert_eq!(setup.dma(2, None), Some(setup.page(0)));
        unbind(bond);
        setup.iommu.detach(&setup.masters[2]).unwrap();
        setup.tear_down(vec![domain], vec![(process, tables)]);
    }
}

/// A master that is in a bank of its own, for its other address spaces, is out of reach of broadcasts.
#[test]
fn a_number_is_not_shared_in_a_bank() {
    let mut config = Config::default();
    (config.asid_policy, config.cpu.asid_bits) = (AsidPolicy::Banked, 8);
    let narrow = Profile::small_asid().s2p(true).ssidsize(10).two_level_contexts(true).btm(true);
    let masters: &[(usize, &[u32], u32)] = &[(0, &[1], 10), (0, &[2], 10), (0, &[3], 10)];
    let setup = Setup::with(config, &[narrow], masters);
    let domains: Vec<_> = (0..256).map(|at| setup.domain(at)).collect();
    let pasids: Vec<_> = (0..255).map(|_| setup.pasid()).collect();
    for (pasid, domain) in pasids.iter().zip(&domains) {
        setup.iommu.attach_pasid(&setup.masters[0], *pasid, domain).unwrap();
    }
    setup.iommu.attach(&setup.masters[1], &domains[255]).unwrap();
    let vmid = domains[255].targets().unwrap()[0].tag.vmid;
    assert_ne!(vmid, 0);
    let (process, tables) = setup.process(7, Some(100), 300);
    let private = process.bind(&setup.masters[1]).unwrap();
    assert!(!cd(&setup, 1, process.pasid().0).1);
    assert_eq!((process.targets().unwrap()[0].tag.vmid, pins(&setup, 7)), (vmid, (0, [0, 0])));
    // Once there is room for who has its number, it is shared where nothing else is used.
    setup.iommu.detach_pasid(&setup.masters[0], pasids[0]).unwrap();
    let shared = process.bind(&setup.masters[2]).unwrap();
    assert_eq!(cd(&setup, 2, process.pasid().0), (100, true));
    assert_eq!(setup.ste(2).s2_vmid(), 0);
    let kinds: Vec<_> =
        process.targets().unwrap().iter().map(|target| (target.tag.vmid, target.shared)).collect();
    assert_eq!(kinds, [(0, true), (vmid, false)]);
    for (master, pasid, page) in
        [(1, None, 255), (1, Some(process.pasid()), 300), (2, Some(process.pasid()), 300)]
    {
        assert_eq!(setup.dma(master, pasid), Some(setup.page(page)), "{master}");
    }
    for (at, pasid) in pasids.iter().enumerate().skip(1) {
        assert_eq!(setup.dma(0, Some(*pasid)), Some(setup.page(at as u64)));
    }
    // The driver tells the private one alone.
    tables.unmap(IOVA);
    process.invalidate(Iova(IOVA), PAGE).unwrap();
    assert_eq!(setup.dma(1, Some(process.pasid())), None);
    assert_eq!(setup.dma(2, Some(process.pasid())), Some(setup.page(300)));
    unbind(private);
    unbind(shared);
    for pasid in pasids {
        setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
    }
    setup.iommu.detach(&setup.masters[1]).unwrap();
    setup.tear_down(domains, vec![(process, tables)]);
}
