// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callers that ask for what cannot be: a typed error, nothing changed, and what was handed in is handed back.

use smmuv3::{
    AddMasterError, AttachError, Attributes, CloseMasterError, Config, DomainConfig, EnableError,
    Interrupt, Iommu, Iova, MOST_INSTANCES, MasterConfig, PhysAddr, Prot, Refused, RemoveError,
    StreamId,
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
    assert_eq!(again.id().index(), 2, "there is a handle of the one that had the number before");
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
    let former = clone.id();
    assert!(setup.iommu.reset(&clone).is_ok() && setup.iommu.remove(clone).is_ok());
    assert_ne!(setup.machine.read32(WIDE, Cr0::OFFSET), 0);
    // For the oracle it is GPU, by its stream.
    setup.watch().oracle.attach_begins(GPU, Use::Blocked);
    assert_eq!(setup.iommu.attach(&master, &setup.domains[0]), Ok(()));
    assert_eq!(setup.iommu.detach(&master), Ok(()));
    assert!(master.close().is_ok());
    setup.watch().collect(&setup.world);
    setup.watch().oracle.attach_ends(GPU, true);
    // No handle of the first is left: the next has its number, and is another.
    assert!(setup.iommu.remove(again).is_ok());
    setup.watch().remove_instance(WIDE);
    let mmio = TestMmio { world: setup.world.clone(), instance: WIDE };
    let third = setup.iommu.probe(mmio, config()).unwrap().enable().unwrap();
    assert_eq!((third.id().index(), third.id().generation()), (WIDE, 1));
    assert_ne!(third.id(), former);
    setup.smmus.push(third);
    setup.tear_down("after an instance that came back");
}

/// More come and go than there can be at once, while a domain lives on another, and nothing of them is left.
#[test]
fn any_number_of_instances_come_and_go() {
    let mut setup = Setup::new(1);
    let (nic, gpu) = (NIC, setup.masters.pop().unwrap());
    assert!(gpu.close().is_ok());
    assert!(setup.iommu.remove(setup.smmus.pop().unwrap()).is_ok());
    setup.watch().remove_instance(WIDE);
    assert_eq!(setup.attach(nic, Use::Domain(0)), Ok(()));
    let mut former = Vec::new();
    let mut frames = None;
    for turn in 0..2 * MOST_INSTANCES {
        let mmio = TestMmio { world: setup.world.clone(), instance: WIDE };
        let smmu = setup.iommu.probe(mmio, config()).unwrap().enable().unwrap();
        assert_eq!((smmu.id().index(), smmu.id().generation()), (WIDE, turn as u32 + 1));
        assert!(!former.contains(&smmu.id()));
        former.push(smmu.id());
        setup.comes_back(&smmu);
        let added = setup.iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default());
        let master = added.unwrap();
        setup.watch().watch_stream(&setup.world, WIDE, 1);
        setup.watch().oracle.attach_begins(GPU, Use::Domain(0));
        assert_eq!(setup.iommu.attach(&master, &setup.domains[0]), Ok(()));
        setup.watch().collect(&setup.world);
        setup.watch().oracle.attach_ends(GPU, true);
        let targets = setup.domains[0].targets().unwrap();
        assert!(targets.iter().any(|target| target.instance == smmu.id()), "{targets:?}");
        setup.watch().oracle.attach_begins(GPU, Use::Blocked);
        assert_eq!(setup.iommu.detach(&master), Ok(()));
        setup.watch().collect(&setup.world);
        setup.watch().oracle.attach_ends(GPU, true);
        assert!(master.close().is_ok());
        assert!(setup.iommu.remove(smmu).is_ok());
        setup.watch().remove_instance(WIDE);
        // What it had is given back at once, as this was the last handle.
        let now: Vec<_> = setup.world.frames().live().collect();
        assert_eq!(frames.get_or_insert_with(|| now.clone()), &now, "turn {turn}");
    }
    setup.tear_down("after many that came and went");
}

/// As many at once as there can be, none of which is in another's way; one that is gone makes room.
#[test]
fn there_are_64_instances_at_once_at_most() {
    let (_machine, world) = world(2, |profile| profile);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let enable = || {
        // The same hardware is all of them: it does as the last one says.
        let mmio = TestMmio { world: world.clone(), instance: WIDE };
        iommu.probe(mmio, config()).unwrap().enable().map_err(|refused| refused.error)
    };
    let mut all: Vec<_> = (0..MOST_INSTANCES).map(|_| enable().unwrap()).collect();
    let numbers: Vec<_> = all.iter().map(|smmu| smmu.id().index()).collect();
    assert_eq!(numbers, (0..MOST_INSTANCES).collect::<Vec<_>>());
    let full = EnableError::TooManyInstances { largest: MOST_INSTANCES };
    assert_eq!(enable().err(), Some(full));
    let (kept, gone) = (all[20].clone(), all.swap_remove(20));
    assert!(iommu.remove(gone).is_ok());
    assert_eq!(enable().err(), Some(full), "a handle of it is left");
    let former = kept.id();
    drop(kept);
    let next = enable().unwrap();
    assert_eq!((next.id().index(), next.id() == former), (20, false));
}
