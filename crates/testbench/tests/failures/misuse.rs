// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callers that ask for what cannot be: a typed error, nothing changed, and what was handed in is handed back.

use smmuv3::{
    AddMasterError, AttachError, Attributes, CloseMasterError, Config, DomainConfig, Interrupt,
    Iommu, Iova, MasterConfig, PhysAddr, Prot, Refused, RemoveError, StreamId,
};
use smmuv3_formats::register::Cr0;
use smmuv3_model::Profile;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::{TestMmio, TestPlatform};

use crate::setup::{DISK, GPU, NARROW, NIC, PAGE, Setup, WIDE, config, world};

const IOVA: u64 = 0x1000_0000;

#[test]
fn masters_domains_and_instances_of_another_iommu_are_foreign() {
    let (machine, world) = world(2, |profile| profile);
    let other = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mmio = TestMmio { world: world.clone(), instance: NARROW };
    let smmu = other.probe(mmio, config()).unwrap().enable().unwrap();
    let domain = other.create_domain(DomainConfig::default()).unwrap();
    let master = other.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();

    let setup = Setup::new(1);
    let count = setup.world.frames().count();
    let refused = setup.iommu.attach(&setup.masters[NIC], &domain);
    assert_eq!(refused, Err(AttachError::Foreign));
    let refused = setup.iommu.attach(&master, &setup.domains[0]);
    assert_eq!(refused, Err(AttachError::Foreign));
    let refused = setup.iommu.add_master(&smmu, &[StreamId(9)], MasterConfig::default()).err();
    assert_eq!(refused, Some(AddMasterError::NoInstance));
    assert_eq!(setup.world.frames().count(), count);

    // Whatever concerns one SMMU concerns that one, whichever `Iommu` is asked: not ours of the same number.
    let writes = setup.machine.writes();
    let _ =
        setup.iommu.handle_interrupt(&smmu, Interrupt::Any, 8, &mut |report| panic!("{report:?}"));
    assert_eq!(setup.iommu.reset(&smmu), Ok(()));
    let Err(Refused { value: smmu, error }) = setup.iommu.remove(smmu) else {
        panic!("it has a master")
    };
    assert_eq!(error, RemoveError::InUse { masters: 1 });
    assert!(master.close().is_ok() && domain.close().is_ok());
    assert!(setup.iommu.remove(smmu).is_ok());
    assert_eq!(setup.machine.writes(), writes, "ours was touched");
    assert_eq!(machine.read32(NARROW, Cr0::OFFSET), 0, "theirs is off");
    drop(other);
    assert_eq!(world.frames().live_bytes(), 0);
    setup.tear_down("after foreign objects");
}

#[test]
fn what_is_attached_is_not_closed_but_handed_back() {
    let mut setup = Setup::new(1);
    setup.map(0, IOVA, 0, PAGE).unwrap();
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    let domain = setup.domains.remove(0);
    let Err(Refused { value: domain, error }) = domain.close() else {
        panic!("two masters are attached")
    };
    assert_eq!((error.masters, error.nests), (2, 0));
    assert_eq!(error.to_string(), "masters still use it: 2");
    setup.domains.insert(0, domain);
    let gpu = setup.masters.remove(GPU);
    let Err(Refused { value: gpu, error: CloseMasterError::Attached }) = gpu.close() else {
        panic!("it is attached")
    };
    setup.masters.insert(GPU, gpu);
    assert_eq!(setup.dma(GPU, IOVA), Some(setup.memory));
    let wide = setup.smmus.remove(WIDE);
    let Err(Refused { value: wide, error }) = setup.iommu.remove(wide) else {
        panic!("it has a master")
    };
    assert_eq!(error, RemoveError::InUse { masters: 1 });
    setup.smmus.insert(WIDE, wide);
    assert_eq!(setup.dma(GPU, IOVA), Some(setup.memory));
    setup.check("after closes that were refused");
    setup.tear_down("after closes that were refused");
}

#[test]
fn a_master_needs_streams_of_its_own_within_the_table() {
    let setup = Setup::new(1);
    let before = setup.live_bytes();
    let streams = |ids: &[u32]| ids.iter().copied().map(StreamId).collect::<Vec<_>>();
    let add = |ids: &[u32]| {
        setup.iommu.add_master(&setup.smmus[NARROW], &streams(ids), MasterConfig::default())
    };
    let out = |id| AddMasterError::OutOfRange { stream: StreamId(id), bits: 4 };
    let taken = |id| AddMasterError::Taken { stream: StreamId(id) };
    for (ids, error) in [
        (&[][..], AddMasterError::NoStream),
        (&[16], out(16)),
        (&[9, u32::MAX], out(u32::MAX)),
        (&[9, 10, 9], taken(9)),
        (&[3], taken(3)),
        (&[9, 1], taken(1)),
    ] {
        assert_eq!(add(ids).err(), Some(error), "{ids:?}");
    }
    assert_eq!(setup.live_bytes(), before);
    // Another instance has streams of its own.
    let same = setup
        .iommu
        .add_master(&setup.smmus[WIDE], &streams(&[2]), MasterConfig::default())
        .unwrap();
    assert!(same.close().is_ok());
    // What is closed is free again.
    let master = add(&[0, 15]).unwrap();
    assert_eq!(add(&[15]).err(), Some(taken(15)));
    assert!(master.close().is_ok());
    assert!(add(&[15]).unwrap().close().is_ok());
    setup.tear_down("after streams");
}

#[test]
fn attaching_a_domain_that_the_narrow_instance_has_no_asid_for_changes_nothing() {
    let mut wide = config();
    wide.sid_bits = 9;
    let setup = Setup::with(1, wide, |profile| profile);
    setup.map(0, IOVA, 0, PAGE).unwrap();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    let (mut masters, mut small) = (Vec::new(), Vec::new());
    for stream in 0..255 {
        let stream = StreamId(256 + stream);
        let master = setup
            .iommu
            .add_master(&setup.smmus[NARROW], &[stream], MasterConfig::default())
            .unwrap();
        let domain = setup.iommu.create_domain(DomainConfig::default()).unwrap();
        assert_eq!(setup.iommu.attach(&master, &domain), Ok(()), "{stream}");
        masters.push(master);
        small.push(domain);
    }
    let mut tags: Vec<u16> =
        small.iter().map(|domain| domain.targets().unwrap()[0].tag.asid).collect();
    tags.sort_unstable();
    assert_eq!(tags, (1..=255).collect::<Vec<u16>>());

    let instance = setup.smmus[NARROW].id();
    let error = AttachError::NoAsid { instance, bits: 8 };
    let full = Err(error);
    let before = (setup.live_bytes(), setup.domains[0].targets().unwrap());
    let _ = setup.world.take_commands();
    assert_eq!(setup.attach(NIC, Use::Domain(0)), full);
    assert_eq!(error.to_string(), "instance 0: all ASIDs of 8 bits are in use");
    // A master that is attached elsewhere stays there.
    assert_eq!(setup.iommu.attach(&masters[7], &setup.domains[0]), full);
    assert_eq!(small[7].targets().unwrap()[0].masters, 1);
    assert_eq!((setup.live_bytes(), setup.domains[0].targets().unwrap()), before);
    assert_eq!(setup.world.take_commands(), []);
    assert_eq!(setup.dma(NIC, IOVA), None);
    // The wide instance is not concerned, nor is a domain that has a tag.
    setup.attach(GPU, Use::Domain(1)).unwrap();
    // The oracle does not know that domain: DISK does no DMA meanwhile.
    setup.watch().oracle.attach_begins(DISK, Use::Blocked);
    assert_eq!(setup.iommu.attach(&setup.masters[DISK], &small[0]), Ok(()));
    assert_eq!(setup.iommu.detach(&setup.masters[DISK]), Ok(()));
    setup.watch().collect(&setup.world);
    setup.watch().oracle.attach_ends(DISK, true);
    // One that becomes free is enough.
    assert_eq!(setup.iommu.detach(&masters[7]), Ok(()));
    assert_eq!(setup.attach(NIC, Use::Domain(0)), Ok(()));
    assert_eq!(setup.dma(NIC, IOVA), Some(setup.memory));
    for master in masters {
        assert_eq!(setup.iommu.detach(&master), Ok(()));
        assert!(master.close().is_ok());
    }
    for domain in small {
        assert!(domain.close().is_ok());
    }
    setup.check("after all ASIDs");
    setup.tear_down("after all ASIDs");
}

#[test]
fn a_domain_dropped_while_masters_use_it_works_until_the_last_has_left() {
    let mut setup = Setup::new(1);
    setup.map(1, IOVA, 0, 4 * PAGE).unwrap();
    setup.attach(NIC, Use::Domain(1)).unwrap();
    setup.attach(GPU, Use::Domain(1)).unwrap();
    let live = setup.live_bytes();
    drop(setup.domains.remove(1));
    assert_eq!(setup.live_bytes(), live);
    let reached = Some(setup.memory + PAGE);
    assert_eq!((setup.dma(NIC, IOVA + PAGE), setup.dma(GPU, IOVA + PAGE)), (reached, reached));
    setup.attach(NIC, Use::Blocked).unwrap();
    assert_eq!((setup.live_bytes(), setup.dma(GPU, IOVA + PAGE)), (live, reached));
    setup.attach(GPU, Use::Domain(0)).unwrap();
    assert_eq!(setup.live_bytes(), live - 4 * PAGE, "root and three tables");
    setup.check("after a dropped domain");
    setup.tear_down("after a dropped domain");
}

#[test]
fn a_removed_instance_no_longer_limits_new_domains() {
    let small = |profile: Profile| if profile.idr0.asid16() { profile.oas(40) } else { profile };
    let mut setup = Setup::with(1, config(), small);
    // A new domain reaches 40 bits as long as the wide instance, which has no more, is there.
    let reaches = |setup: &Setup, pa: u64| {
        let domain = setup.iommu.create_domain(DomainConfig::default()).unwrap();
        let attributes = Attributes::normal(Prot::READ);
        // SAFETY: no device uses the domain.
        unsafe { domain.map(Iova(IOVA), PhysAddr(pa), PAGE, attributes) }.is_ok()
    };
    assert!(!reaches(&setup, 1 << 41) && reaches(&setup, 1 << 39));
    let gpu = setup.masters.pop().unwrap();
    assert!(gpu.close().is_ok());
    let wide = setup.smmus.pop().unwrap();
    let clone = wide.clone();
    assert!(setup.iommu.remove(wide).is_ok());
    assert_eq!(setup.machine.read32(WIDE, Cr0::OFFSET), 0);
    assert!(reaches(&setup, 1 << 41));
    // The same hardware can be taken into use again.
    let mmio = TestMmio { world: setup.world.clone(), instance: WIDE };
    let again = setup.iommu.probe(mmio, config()).unwrap().enable();
    let again = again.unwrap();
    assert_eq!(again.id().index(), 2, "numbers are not used again");
    let master = setup.iommu.add_master(&again, &[StreamId(1)], MasterConfig::default()).unwrap();
    // Whoever still has a handle of the one that was removed does not get at the hardware.
    assert_eq!(clone.name(), again.name());
    let added = setup.iommu.add_master(&clone, &[StreamId(2)], MasterConfig::default());
    assert_eq!(added.err(), Some(AddMasterError::NoInstance));
    assert!(
        !setup
            .iommu
            .handle_interrupt(&clone, Interrupt::Any, 8, &mut |report| panic!("{report:?}"))
    );
    assert!(setup.iommu.reset(&clone).is_ok() && setup.iommu.remove(clone).is_ok());
    assert_ne!(setup.machine.read32(WIDE, Cr0::OFFSET), 0);
    // For the oracle it is GPU, by its stream.
    setup.watch().oracle.attach_begins(GPU, Use::Blocked);
    assert_eq!(setup.iommu.attach(&master, &setup.domains[0]), Ok(()));
    assert_eq!(setup.iommu.detach(&master), Ok(()));
    assert!(master.close().is_ok());
    setup.smmus.push(again);
    setup.watch().collect(&setup.world);
    setup.watch().oracle.attach_ends(GPU, true);
    setup.tear_down("after an instance that came back");
}
