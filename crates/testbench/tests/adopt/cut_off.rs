// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that the predecessor cut off, since their device did not answer: they stay so, and the successor is told.

use smmuv3::{AttachError, Interrupt, Report};
use smmuv3_model::{Answers, Endpoint};
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::keeping::trusted;

use super::*;

impl Crashed {
    /// The device behind `NET` is as after a reset, and answers so.
    fn plug(&self, answers: Answers) {
        let mut endpoint = Endpoint::default();
        endpoint.answers = answers;
        self.machine.model(0).unwrap().plug(NET, endpoint);
    }
}

/// What is reported, by two looks.
fn told(iommu: &Iommu<TestPlatform>, smmu: &Smmu<TestPlatform>) -> Vec<u32> {
    let mut told = Vec::new();
    for _ in 0..2 {
        let _ = iommu.handle_interrupt(smmu, Interrupt::Events, 8, &mut |report| match report {
            Report::Quarantined { stream } => told.push(stream.0),
            other => panic!("{other:?}"),
        });
    }
    told
}

/// Two streams of one device, of which the predecessor had cut one off: readmitted, it is blocked, and the other one goes on.
#[test]
fn whoever_is_readmitted_goes_on_with_those_streams_that_were_not_cut_off() {
    let crashed = crash(52, |it| it.ats(true));
    // As the predecessor's quarantine leaves an entry.
    crashed.put(crashed.entry(NET), 0b0011);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (_, smmu) = adopted(&crashed, &iommu, |_| true);
    assert_eq!(told(&iommu, &smmu), [NET]);
    let streams = [StreamId(NET), StreamId(ALL)];
    let both = iommu.add_master(&smmu, &streams, MasterConfig::default()).unwrap();
    assert!(both.is_quarantined());
    assert_eq!([NET, ALL].map(|it| crashed.reach(it)), [None, Some(IOVA)]);
    iommu.readmit(&both).unwrap();
    assert!(!both.is_quarantined());
    assert_eq!([NET, ALL].map(|it| crashed.reach(it)), [None, Some(IOVA)]);
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    map(&domain, crashed.memory);
    iommu.attach(&both, &domain).unwrap();
    assert_eq!([NET, ALL].map(|it| crashed.reach(it)), [Some(crashed.memory); 2]);
    crashed.no_misuse();
}

#[test]
fn who_was_cut_off_before_is_told_of_again_and_stays_so() {
    let crashed = crash(51, |it| it.ats(true));
    crashed.plug(Answers::InTime);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let smmu = common::enable(&iommu, &crashed.world, 0, super::config());
    let net = iommu.add_master(&smmu, &[StreamId(NET)], trusted()).unwrap();
    let all = iommu.add_master(&smmu, &[StreamId(ALL)], MasterConfig::default()).unwrap();
    // SAFETY: the device is the test's.
    unsafe { iommu.attach_identity(&all).unwrap() };
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    map(&domain, crashed.memory);
    iommu.attach(&net, &domain).unwrap();
    crashed.plug(Answers::Never);
    // SAFETY: as in `map`.
    unsafe { domain.unmap(Iova(IOVA), PAGE).unwrap() };
    assert!(net.is_quarantined());
    assert_eq!(told(&iommu, &smmu), [NET]);
    let streams = smmu.inside().streams();
    let table = (streams.base_register(), streams.config_register());
    std::mem::forget((iommu, smmu, net, all, domain));
    let crashed = Crashed { table, ..crashed };

    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (count, smmu) = adopted(&crashed, &iommu, |_| true);
    assert_eq!(count, 1);
    assert_eq!(told(&iommu, &smmu), [NET]);
    assert_eq!([NET, ALL].map(|it| crashed.reach(it)), [None, Some(IOVA)]);
    assert_eq!(crashed.get(crashed.entry(NET)), 0b0011);
    // Whoever is attached to it, that has to be dealt with first.
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    map(&domain, crashed.memory + PAGE);
    let net = iommu.add_master(&smmu, &[StreamId(NET)], trusted()).unwrap();
    assert!(net.is_quarantined());
    let refused = iommu.attach(&net, &domain).unwrap_err();
    assert!(matches!(refused, AttachError::Quarantined { stream: StreamId(NET), .. }));
    // Its device was reset.
    crashed.plug(Answers::InTime);
    iommu.readmit(&net).unwrap();
    iommu.attach(&net, &domain).unwrap();
    assert_eq!(crashed.reach(NET), Some(crashed.memory + PAGE));
    assert!(told(&iommu, &smmu).is_empty());
    crashed.no_misuse();
}
