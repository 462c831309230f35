// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMIDs of what is taken over: they are not given out, and those of a hypervisor are nobody's to take.

use smmuv3::{Stage, Vmids};
use smmuv3_testbench::inside::Inside as _;

use super::*;

/// VMIDs of a hypervisor.
const PINNED: Vmids = Vmids { first: 8, last: 15 };

/// A stage-2 domain with `vmid`, or one that the driver chooses.
fn guest(iommu: &Iommu<TestPlatform>, vmid: Option<u16>, pa: u64) -> Domain<TestPlatform> {
    let mut config = DomainConfig::default().with_input_bits(40);
    (config.stage, config.vmid) = (Stage::Two, vmid);
    let domain = iommu.create_domain(config).unwrap();
    map(&domain, pa);
    domain
}

fn successor(crashed: &Crashed, hypervisor_vmids: Vmids) -> Iommu<TestPlatform> {
    let mut config = Config::default();
    config.hypervisor_vmids = hypervisor_vmids;
    Iommu::new(TestPlatform(crashed.world.clone()), config).unwrap()
}

/// As [`crash`], with stream `NET` in a domain of stage 2 that has `vmid`, or the driver's first.
fn crash_in_stage_2(vmid: Option<u16>) -> Crashed {
    let crashed = crash(21, |profile| profile);
    // Another kernel, which knows that VMIDs of a hypervisor are in use, and crashes too.
    let iommu = successor(&crashed, if vmid.is_some() { PINNED } else { Vmids::NONE });
    let smmu = common::enable(&iommu, &crashed.world, 0, config());
    let master = iommu.add_master(&smmu, &[StreamId(NET)], MasterConfig::default()).unwrap();
    let domain = guest(&iommu, vmid, crashed.memory);
    iommu.attach(&master, &domain).unwrap();
    let streams = smmu.inside().streams();
    let table = (streams.base_register(), streams.config_register());
    std::mem::forget((iommu, smmu, master, domain));
    assert_eq!(crashed.reach(NET), Some(crashed.memory));
    Crashed { table, ..crashed }
}

fn vmid(domain: &Domain<TestPlatform>) -> u16 {
    domain.targets().unwrap()[0].tag.vmid
}

#[test]
fn a_vmid_of_a_hypervisor_is_not_taken_over() {
    let crashed = crash_in_stage_2(Some(9));
    let iommu = successor(&crashed, PINNED);
    let mut probe = iommu.probe(crashed.mmio(), config()).unwrap();
    // SAFETY: RAM stays as long as the world, and nobody else is left.
    assert_eq!(unsafe { probe.adopt(&crashed.everything()) }, Ok(1));
    let refused = probe.enable().map(drop).unwrap_err();
    assert_eq!(refused.error, EnableError::Tag { vmid: 9, asid: None });
    // It was not touched, and is not taken over by another attempt either.
    assert_eq!(crashed.reach(NET), Some(crashed.memory));
    let smmu = refused.value.enable().unwrap();
    assert_eq!(crashed.reach(NET), None);
    // The number is the hypervisor's still: whoever names it has it.
    let master = iommu.add_master(&smmu, &[StreamId(NET)], MasterConfig::default()).unwrap();
    let domain = guest(&iommu, Some(9), crashed.memory + PAGE);
    iommu.attach(&master, &domain).unwrap();
    assert_eq!((vmid(&domain), crashed.reach(NET)), (9, Some(crashed.memory + PAGE)));
    crashed.no_misuse();
}

/// Who does without the stream is not kept from the rest by its number, which is the hypervisor's at once.
#[test]
fn a_stream_with_a_vmid_of_a_hypervisor_can_be_given_up() {
    let crashed = crash_in_stage_2(Some(9));
    let iommu = successor(&crashed, PINNED);
    let (count, smmu) = adopted(&crashed, &iommu, |stream| stream.0 != NET);
    assert_eq!((count, crashed.reach(NET)), (0, None));
    let master = iommu.add_master(&smmu, &[StreamId(IDLE)], MasterConfig::default()).unwrap();
    let domain = guest(&iommu, Some(9), crashed.memory + PAGE);
    iommu.attach(&master, &domain).unwrap();
    assert_eq!((vmid(&domain), crashed.reach(IDLE)), (9, Some(crashed.memory + PAGE)));
    crashed.no_misuse();
}

/// The successor has no hypervisor: then it is a number like others, and is not given out while it is in use.
#[test]
fn a_vmid_that_is_in_use_is_not_given_out_before_the_adoption_is_ended() {
    let crashed = crash_in_stage_2(None);
    let iommu = successor(&crashed, PINNED);
    let (count, smmu) = adopted(&crashed, &iommu, |_| true);
    assert_eq!(count, 1);
    let add = |stream| iommu.add_master(&smmu, &[StreamId(stream)], MasterConfig::default());
    let idle = add(IDLE).unwrap();
    let first = guest(&iommu, None, crashed.memory + PAGE);
    iommu.attach(&idle, &first).unwrap();
    assert_eq!(vmid(&first), 2, "1 is in use since before");
    assert_eq!(crashed.reach(NET), Some(crashed.memory));
    assert_eq!(crashed.reach(IDLE), Some(crashed.memory + PAGE));
    // Attached to something else, it is not given out either: caches may hold it.
    let net = add(NET).unwrap();
    assert_eq!(iommu.end_adoption(&smmu), Err(EnableError::Claimed));
    iommu.attach(&net, &first).unwrap();
    let second = guest(&iommu, None, crashed.memory + 2 * PAGE);
    iommu.detach(&net).unwrap();
    iommu.attach(&net, &second).unwrap();
    assert_eq!(vmid(&second), 3);
    assert_eq!(iommu.end_adoption(&smmu), Ok(0));
    iommu.detach(&net).unwrap();
    let third = guest(&iommu, None, crashed.memory + 3 * PAGE);
    iommu.attach(&net, &third).unwrap();
    assert_eq!((vmid(&third), crashed.reach(NET)), (1, Some(crashed.memory + 3 * PAGE)));
    crashed.no_misuse();
}

/// Two streams with one VMID are taken over, the number once.
#[test]
fn a_vmid_that_two_streams_have_is_reserved_once() {
    let crashed = crash_in_stage_2(None);
    // IDLE is in the same domain.
    for word in (0..8).rev() {
        crashed.put(crashed.entry(IDLE) + 8 * word, crashed.get(crashed.entry(NET) + 8 * word));
    }
    let iommu = successor(&crashed, Vmids::NONE);
    let mut probe = iommu.probe(crashed.mmio(), config()).unwrap();
    // SAFETY: RAM stays as long as the world, and nobody else is left.
    assert_eq!(unsafe { probe.adopt(&crashed.everything()) }, Ok(2));
    // SAFETY: as above.
    assert_eq!(unsafe { probe.adopt(&crashed.everything()) }, Err(AdoptError::Twice));
    let smmu = probe.enable().unwrap();
    assert_eq!([NET, IDLE].map(|it| crashed.reach(it)), [Some(crashed.memory); 2]);
    assert_eq!(iommu.end_adoption(&smmu), Ok(2));
    assert_eq!([NET, IDLE].map(|it| crashed.reach(it)), [None; 2]);
    // Once ended there is nothing left to end, or to give back.
    assert_eq!(iommu.end_adoption(&smmu), Ok(0));
    crashed.no_misuse();
}

/// Where numbers are common to all instances, those of one that is gone are nobody's.
#[test]
fn asids_of_what_was_taken_over_are_free_once_the_instance_is_removed() {
    for policy in [AsidPolicy::Shared8OnMove, AsidPolicy::SharedMinMove] {
        let crashed = crash(3, |profile| profile);
        let iommu = crashed.successor(policy);
        let (count, smmu) = adopted(&crashed, &iommu, |_| true);
        assert_eq!((count, iommu.free_asids(&smmu)), (3, 0xffff - 2), "{policy:?}");
        iommu.remove(smmu.clone()).map_err(|refused| refused.error).unwrap();
        assert_eq!(iommu.free_asids(&smmu), 0xffff, "{policy:?}");
        crashed.no_misuse();
    }
}
