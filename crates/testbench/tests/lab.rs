// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laboratory: what policies refuse, move and say, and that it is counted right.

use smmuv3::{Attributes, Iova, PhysAddr, Prot};
use smmuv3_formats::Opcode;
use smmuv3_testbench::lab::{
    self, AsidPolicy, LabReport, PolicyReport, Reason, Rig, Setup, SetupError, Touch,
};

fn compare(setup: &Setup, policies: &[AsidPolicy]) -> LabReport {
    lab::compare(setup, policies, &mut |_| ()).unwrap()
}

fn of(report: &LabReport, policy: AsidPolicy) -> &PolicyReport {
    report.policies.iter().find(|one| one.policy == policy.name()).unwrap()
}

fn refused(report: &LabReport, policy: AsidPolicy) -> Vec<(Reason, u64)> {
    of(report, policy).refused.clone().into_iter().collect()
}

#[test]
fn the_seeds_case_tells_the_policies_apart() {
    let report = compare(&Setup::default(), &AsidPolicy::ALL);
    let again = compare(&Setup::default(), &AsidPolicy::ALL);
    assert_eq!(report, again, "the same seed, the same report");
    let other = compare(&Setup { seed: 2, ..Setup::default() }, &[AsidPolicy::Shared8]);
    assert_ne!(other.policies[0], *of(&report, AsidPolicy::Shared8));

    // The narrow instance has 255 ASIDs, whoever hands them out.
    let narrow = report.attaches - 255;
    for policy in [AsidPolicy::PerInstance, AsidPolicy::SharedMinMove] {
        let [(Reason::IdsExhausted, count)] = refused(&report, policy)[..] else { panic!() };
        assert!(count > 0 && count < narrow, "{policy}");
        assert_eq!(of(&report, policy).refused_on, [count, 0, 0]);
        assert_eq!(of(&report, policy).ids_free[0], 0);
    }
    assert_eq!(of(&report, AsidPolicy::Shared8).attached, 255);
    assert_eq!(of(&report, AsidPolicy::Shared8).ids_free, [0; 3]);
    for policy in [AsidPolicy::Shared8OnMove, AsidPolicy::SharedMinRefuse] {
        assert!(matches!(refused(&report, policy)[..], [(Reason::AsidWidth, 1..)]), "{policy}");
    }
    assert_eq!(refused(&report, AsidPolicy::Banked), []);
    assert_eq!(of(&report, AsidPolicy::Banked).attached, report.domains);
    for policy in &report.policies {
        let moves = policy.policy == AsidPolicy::SharedMinMove.name();
        assert_eq!(policy.moved != 0, moves, "{}", policy.policy);
        assert_eq!(policy.commands.contains_key("CMD_TLBI_NH_ASID"), moves, "{}", policy.policy);
        assert_eq!(policy.refusals() + policy.attaches, report.attaches);
        let unmap = &policy.per_unmap;
        assert_eq!((unmap.invalidations, unmap.syncs), (unmap.instances, unmap.instances));
        let last = [report.domains, policy.attached];
        assert_eq!(policy.steps.last(), Some(&last));
    }
}

/// What is counted as moved, by hand: an ASID of 16 bits on two instances, changed because a third has 8.
#[test]
fn tags_that_were_moved_are_those_that_targets_no_longer_name() {
    let setup =
        Setup { instances: vec![16, 16, 8], domains: 1, masters: Some(1), ..Setup::default() };
    let rig = Rig::new(&setup, AsidPolicy::SharedMinMove).unwrap();
    let domain = rig.domain().unwrap();
    let tags = || -> Vec<_> { domain.targets().unwrap().iter().map(|target| target.tag).collect() };
    for instance in [0, 1] {
        rig.iommu.attach(&rig.masters[instance][0], &domain).unwrap();
    }
    let before = tags();
    assert_eq!(rig.counters.of(Opcode::TlbiNhAsid), 0);
    rig.iommu.attach(&rig.masters[2][0], &domain).unwrap();
    let after = tags();
    let gone = before.iter().filter(|tag| !after.contains(tag)).count();
    assert_eq!((gone, after.len()), (2, 3));
    assert_eq!(rig.counters.of(Opcode::TlbiNhAsid), 2);
    assert_eq!(rig.counters.trouble(), None);
}

#[test]
fn banks_hold_more_domains_than_a_narrow_instance_has_asids() {
    let setup = Setup { instances: vec![8], first: 200, domains: 600, ..Setup::default() };
    let report = compare(&setup, &[AsidPolicy::PerInstance, AsidPolicy::Banked]);
    assert_eq!(of(&report, AsidPolicy::PerInstance).attached, 255);
    let steps = &of(&report, AsidPolicy::PerInstance).steps;
    assert!(steps.iter().all(|[asked, attached]| *attached == (*asked).min(255)), "{steps:?}");
    assert_eq!(steps[0], [200, 200]);
    // 255 in each of 256 banks.
    assert_eq!(of(&report, AsidPolicy::Banked).ids_free, [256 * 255 - 600]);
    assert_eq!(of(&report, AsidPolicy::Banked).moved, 0);
}

#[test]
fn masters_with_many_domains_change_their_bank() {
    let setup = Setup { instances: vec![8], domains: 600, masters: Some(20), ..Setup::default() };
    let report = compare(&setup, &[AsidPolicy::PerInstance, AsidPolicy::Banked]);
    let banked = of(&report, AsidPolicy::Banked);
    assert_eq!((banked.attached, banked.refusals()), (600, 0));
    assert!(banked.moved > 0);
    assert_eq!(of(&report, AsidPolicy::PerInstance).attached, 255);
}

#[test]
fn processes_have_the_cpus_asid_where_broadcasts_arrive() {
    let setup = Setup {
        domains: 100,
        processes: 50,
        broadcast: vec![0, 1],
        churn: 500,
        ..Setup::default()
    };
    let report = compare(&setup, &AsidPolicy::ALL);
    let alone = of(&report, AsidPolicy::PerInstance).processes.as_ref().unwrap();
    assert_eq!((alone.bound, alone.binds), (50, 150));
    // Instance 0 has 8-bit ASIDs, and takes no part; 2 is not told.
    assert_eq!(alone.shared, 50);
    // A TLBI and a CMD_SYNC on each of the other two.
    assert_eq!(alone.per_invalidate.commands, 4.0);
    for policy in &report.policies {
        let churn = policy.churn.as_ref().unwrap();
        assert_eq!(churn.attaches, 500);
        // CMD_CFGI, CMD_SYNC, and where the last master went CMD_TLBI_NH_ASID and CMD_SYNC.
        assert!(churn.per_detach.commands > 2.0, "{policy:?}");
    }
    let none = compare(&Setup { broadcast: vec![], ..setup }, &[AsidPolicy::PerInstance]);
    assert_eq!(none.policies[0].processes.as_ref().unwrap().shared, 0);
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let setup = Setup { broadcast: vec![7], ..Setup::default() };
    let error = lab::compare(&setup, &AsidPolicy::ALL, &mut |_| ()).unwrap_err();
    let expected = SetupError::Broadcast { index: 7, count: 3 };
    assert_eq!(error.to_string(), expected.to_string());
}

/// Attaches a domain to the only master of each of 64 instances, some in another bank, and unmaps a page.
fn unmap_on_64(policy: AsidPolicy) -> (Vec<Touch>, u64, u64) {
    let setup = Setup {
        instances: [[8; 32], [16; 32]].concat(),
        domains: 1,
        masters: Some(2),
        ..Setup::default()
    };
    let rig = Rig::new(&setup, policy).unwrap();
    let domain = rig.domain().unwrap();
    for masters in &rig.masters {
        rig.iommu.attach(&masters[0], &domain).unwrap();
    }
    let attributes = Attributes::normal(Prot::READ);
    // SAFETY: nothing does DMA.
    unsafe { domain.map(Iova(0x5000), PhysAddr(0x8000_0000), 0x1000, attributes) }.unwrap();
    let told = |opcode| rig.counters.of(opcode);
    let before = [Opcode::TlbiNhVa, Opcode::Sync].map(told);
    rig.counters.watch();
    // SAFETY: as above.
    assert_eq!(unsafe { domain.unmap(Iova(0x5000), 0x1000) }, Ok(0x1000));
    let touches = rig.counters.touches();
    let after = [Opcode::TlbiNhVa, Opcode::Sync].map(told);
    assert_eq!(rig.counters.trouble(), None);
    (touches, after[0] - before[0], after[1] - before[1])
}

#[test]
fn an_unmap_tells_64_instances_before_it_waits_for_the_first() {
    for policy in [AsidPolicy::PerInstance, AsidPolicy::Banked] {
        let (touches, invalidations, syncs) = unmap_on_64(policy);
        assert_eq!((invalidations, syncs), (64, 64), "{policy}");
        let told: Vec<Touch> = (0..64).map(Touch::Told).collect();
        assert_eq!(touches[..64], told, "{policy}");
        let looked = &touches[64..];
        assert!(looked.iter().all(|touch| matches!(touch, Touch::Looked(_))), "{policy}");
        let mut instances: Vec<Touch> = looked.to_vec();
        instances.dedup();
        assert_eq!(instances, (0..64).map(Touch::Looked).collect::<Vec<_>>(), "{policy}");
    }
}

/// Under `banked` there is one TLBI for each {instance, bank}.
#[test]
fn an_unmap_names_every_bank() {
    let setup =
        Setup { instances: vec![8, 16], domains: 1, masters: Some(300), ..Setup::default() };
    let rig = Rig::new(&setup, AsidPolicy::Banked).unwrap();
    let shared = rig.domain().unwrap();
    // Fill the first bank of the narrow instance but for one number, which the domain gets.
    let mut domains = Vec::new();
    for master in &rig.masters[0][..254] {
        let domain = rig.domain().unwrap();
        rig.iommu.attach(master, &domain).unwrap();
        domains.push(domain);
    }
    rig.iommu.attach(&rig.masters[0][254], &shared).unwrap();
    // This one has to be in the second bank, and then joins the domain, too.
    let other = rig.domain().unwrap();
    let master = &rig.masters[0][255];
    rig.iommu.attach(master, &other).unwrap();
    assert_eq!(other.targets().unwrap()[0].tag.vmid, 1);
    assert_eq!(shared.targets().unwrap()[0].tag.vmid, 0);
    rig.iommu.attach(master, &shared).unwrap();
    rig.iommu.attach(&rig.masters[1][0], &shared).unwrap();
    let banks = shared.targets().unwrap().len() as u64;
    let attributes = Attributes::normal(Prot::READ);
    // SAFETY: nothing does DMA.
    unsafe { shared.map(Iova(0x5000), PhysAddr(0x8000_0000), 0x1000, attributes) }.unwrap();
    let before = (rig.counters.of(Opcode::TlbiNhVa), rig.counters.of(Opcode::Sync));
    // SAFETY: as above.
    unsafe { shared.unmap(Iova(0x5000), 0x1000) }.unwrap();
    assert_eq!(rig.counters.of(Opcode::TlbiNhVa) - before.0, banks);
    assert_eq!(rig.counters.of(Opcode::Sync) - before.1, 2);
    assert_eq!(banks, 3);
    assert_eq!(rig.counters.trouble(), None);
}

#[test]
fn one_more_device_costs_the_same_however_many_domains_there_are() {
    let setup = Setup {
        instances: vec![8, 8, 16, 16],
        domains: 2000,
        masters: Some(64),
        processes: 32,
        ..Setup::default()
    };
    for policy in [AsidPolicy::PerInstance, AsidPolicy::Banked] {
        let report = lab::measure(&setup, policy, &mut |_| ()).unwrap();
        let numbers: Vec<u64> = report.points.iter().map(|point| point.domains).collect();
        assert_eq!(numbers, [10, 1000, 2000, 2000]);
        assert_eq!(report.points[3].processes, 32);
        for point in &report.points {
            let (attach, detach) = (point.per_attach, point.per_detach);
            // CMD_CFGI_STE, CMD_SYNC, for each of two steps; and CMD_TLBI_NH_ASID, CMD_SYNC.
            assert_eq!((attach.commands, attach.syncs), (4.0, 2.0), "{point:?}");
            assert_eq!((detach.commands, detach.syncs), (6.0, 3.0), "{point:?}");
            // Three words of the context, two of the entry, and one more where the VMID is not 0.
            assert!((5.0..=6.0).contains(&attach.stores), "{point:?}");
        }
        assert!(report.driver_bytes > 2000 * 4096);
        if policy == AsidPolicy::Banked {
            assert!(report.refused.is_empty() && report.binds_refused.is_empty());
            assert_eq!(report.binds, 128);
        }
    }
}
