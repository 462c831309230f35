// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several instances fail in one call: all are named, and what is kept says for which it waits.

use smmuv3::{
    Attributes, Dirty, DomainConfig, InstanceId, InstanceSet, Iova, PhysAddr, Prot, Quarantined,
    UnmapError,
};
use smmuv3_testbench::machine::Machine as _;
use smmuv3_testbench::oracle::Use;

use crate::setup::{BLOCK, GPU, NARROW, NIC, PAGE, Setup, WIDE, config};

const IOVA: u64 = 0x10_0000;

#[test]
fn all_that_failed_are_named_and_found_by_their_numbers() {
    let setup = Setup::new(1);
    setup.map(0, IOVA, 0, 4 * PAGE).unwrap();
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    let ids: Vec<InstanceId> = setup.iommu.smmus().map(|smmu| smmu.id()).collect();
    assert_eq!(ids, [setup.smmus[NARROW].id(), setup.smmus[WIDE].id()]);
    assert!(setup.iommu.smmus().all(|smmu| !smmu.has_failed() && !smmu.is_suspended()));
    for instance in [NARROW, WIDE] {
        setup.machine.model(instance).unwrap().wedge_after(Some(0));
    }

    let unmapped = setup.unmap(0, IOVA, PAGE);
    let Err(UnmapError::Unconfirmed(unconfirmed)) = unmapped else { panic!("{unmapped:?}") };
    let both: InstanceSet = ids.iter().copied().collect();
    assert_eq!((unconfirmed.instance, unconfirmed.waiting), (ids[0], both));
    let told = unconfirmed.to_string();
    assert!(told.starts_with("instance 0") && told.ends_with("; nor did instance 1"), "{told}");
    let [range @ Quarantined::Range { .. }] = setup.quarantined()[..] else { panic!() };
    assert_eq!(range.waiting(), both);
    let told = range.to_string();
    assert_eq!(
        told,
        "addresses 0x100000 to 0x100fff of domain 0, until a reset of instance 0 and instance 1"
    );

    // What one of them has been reset for waits for the other alone.
    for id in ids.iter().copied().filter(|id| unconfirmed.waiting.contains(*id)) {
        let smmu = setup.iommu.smmu(id).unwrap();
        assert!(smmu.has_failed());
        setup.machine.model(id.index()).unwrap().wedge_after(None);
        let unmapped: &[_] = if id == ids[1] { &[(0, IOVA, PAGE)] } else { &[] };
        setup.reset(id.index(), &[], unmapped);
        assert!(!smmu.has_failed());
        let left: Vec<InstanceSet> = setup.quarantined().iter().map(Quarantined::waiting).collect();
        let rest = (id == ids[0]).then(|| ids[1].into());
        assert_eq!(left, Vec::from_iter(rest));
    }
    setup.tear_down("after two failures");
}

/// One does not confirm that a block was split, the other one confirms that and not that its first page is gone.
#[test]
fn an_unmap_that_splits_and_reports_names_those_of_all_rounds() {
    let mut later = 0;
    for nth in 0..8 {
        let setup = Setup::with(nth, config(), |profile| profile.bbml(2).httu(2));
        let kind = DomainConfig::default().with_splitting().with_dirty(Dirty::Clean);
        let domain = setup.iommu.create_domain(kind).unwrap();
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        let memory = PhysAddr(setup.memory);
        // SAFETY: the memory is the test's, here and below.
        unsafe { domain.map(Iova(0), memory, BLOCK, attributes) }.unwrap();
        for master in [NIC, GPU] {
            setup.iommu.attach(&setup.masters[master], &domain).unwrap();
        }
        setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
        setup.machine.model(WIDE).unwrap().wedge_after(Some(nth));
        // SAFETY: as above.
        let unmapped = unsafe { domain.unmap_reporting(Iova(0), PAGE, &mut |_, _| ()) };
        let Err(UnmapError::Unconfirmed(unconfirmed)) = unmapped else { panic!("{unmapped:?}") };
        let failed = setup.iommu.smmus().filter(|smmu| smmu.has_failed());
        let failed: InstanceSet = failed.map(|smmu| smmu.id()).collect();
        assert_eq!(unconfirmed.waiting, failed, "{nth}");
        later += u32::from(nth > 1 && setup.has_failed(WIDE));
        setup.world.set_observer(None);
        // Its masters are attached to what nobody takes down.
        std::mem::forget((setup, domain));
    }
    assert!(later > 0, "the other one failed in the first round or not at all");
}

/// An instance does not confirm what a split begins with, and there is no memory to go on: both are told.
#[test]
fn a_split_without_memory_tells_of_an_instance_that_failed_before() {
    let setup = Setup::with(3, config(), |profile| profile.bbml(1));
    let domain = setup.iommu.create_domain(DomainConfig::default().with_splitting()).unwrap();
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the memory is the test's, here and below.
    unsafe { domain.map(Iova(0), PhysAddr(setup.memory), BLOCK, attributes) }.unwrap();
    for master in [NIC, GPU] {
        setup.iommu.attach(&setup.masters[master], &domain).unwrap();
    }
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    setup.world.frames().fail(Some(1));
    // SAFETY: as above.
    let unmapped = unsafe { domain.unmap(Iova(PAGE), PAGE) };
    setup.world.frames().fail(None);
    let Err(UnmapError::Split { unconfirmed, .. }) = unmapped else { panic!("{unmapped:?}") };
    let failed = setup.smmus[NARROW].id();
    assert_eq!(unconfirmed.map(|it| (it.instance, it.waiting)), Some((failed, failed.into())));
    setup.world.set_observer(None);
    // Its masters are attached to what nobody takes down.
    std::mem::forget((setup, domain));
}
