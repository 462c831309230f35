// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver counts and what it tells while it works: each thing once, in the order in which it is done, and where
//! the documentation says.

#![cfg(feature = "counts")]

mod common;

use std::sync::{Arc, Mutex};

use smmuv3::{
    Attributes, Change, Config, DomainConfig, InstanceConfig, InstanceStatistics, Interrupt, Iommu,
    Iova, MasterConfig, PhysAddr, Prot, Smmu, StreamId, Trace,
};
use smmuv3_model::{Access, Profile};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Instance;

const PAGE: u64 = 0x1000;
const IOVA: Iova = Iova(0x1000_0000);

fn machine() -> (Arc<World>, Iommu<TestPlatform>, Smmu<TestPlatform>) {
    machine_with(0)
}

/// With so many bits of substreams.
fn machine_with(bits: u32) -> (Arc<World>, Iommu<TestPlatform>, Smmu<TestPlatform>) {
    let text = "name = \"observation\"\ninstance = [{ name = \"smmu0\" }]\n\
                master = [{ name = \"nic\", instance = \"smmu0\", streams = [1] }]";
    let profile = |_: &Instance| Profile::default().ssidsize(bits);
    let machine = ModelMachine::with_profiles(&common::parse(text), 1, profile).unwrap();
    let world = World::new(Arc::new(machine), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let mut config = InstanceConfig::named("smmu0");
    config.sid_bits = 6;
    let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
    (world, iommu, smmu)
}

/// Faults are counted of the domain that the device used when it had them, also with PASIDs, and once.
#[test]
fn faults_are_those_of_the_domain_that_is_used() {
    let (world, iommu, smmu) = machine_with(4);
    let config = MasterConfig::default().with_pasid_bits(4);
    let master = iommu.add_master(&smmu, &[StreamId(1)], config).unwrap();
    let make = || iommu.create_domain(DomainConfig::default().with_statistics()).unwrap();
    let domains = [make(), make(), make()];
    let counted = || domains.each_ref().map(|it| it.statistics().counted.unwrap().faults);
    let pasid = iommu.allocate_pasid().unwrap();
    let fault = |substream, times| {
        for _ in 0..times {
            let access = Access { substream, ..Access::write(1, IOVA.0) };
            world.machine().model(0).unwrap().translate(access).unwrap_err();
        }
        let _ = iommu.handle_interrupt(&smmu, Interrupt::Any, 64, &mut |_| {});
    };
    iommu.attach(&master, &domains[0]).unwrap();
    fault(None, 3);
    assert_eq!(counted(), [3, 0, 0]);
    assert_eq!(counted(), [3, 0, 0]);
    iommu.attach_pasid(&master, pasid, &domains[1]).unwrap();
    fault(Some(pasid.0), 2);
    fault(None, 1);
    // Looked at before the change, not after it.
    iommu.attach(&master, &domains[2]).unwrap();
    fault(None, 1);
    assert_eq!(counted(), [4, 2, 1]);
    // What is no fault of translation: nobody has that PASID.
    fault(Some(9), 1);
    iommu.detach_pasid(&master, pasid).unwrap();
    iommu.detach(&master).unwrap();
    fault(None, 1);
    assert_eq!(counted(), [4, 2, 1]);
}

/// More streams than are told apart: what no domain has is told by the instance.
#[test]
fn faults_that_no_domain_counts_are_told() {
    let (world, iommu, smmu) = machine_with(0);
    let streams: Vec<StreamId> = (0..40).map(StreamId).collect();
    let master = iommu.add_master(&smmu, &streams, MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default().with_statistics()).unwrap();
    iommu.attach(&master, &domain).unwrap();
    for round in 1..=2 {
        for stream in 0..40 {
            let mut model = world.machine().model(0).unwrap();
            model.translate(Access::write(stream, IOVA.0)).unwrap_err();
            drop(model);
            let _ = iommu.handle_interrupt(&smmu, Interrupt::Any, 64, &mut |_| {});
        }
        // Asked between the rounds, so that there is room anew.
        assert_eq!(domain.statistics().counted.unwrap().faults, 32 * round);
        assert_eq!(smmu.statistics().events.untold, 8 * round);
    }
    iommu.detach(&master).unwrap();
}

/// A word for each event, with what it is about.
fn word(event: &Trace<'_>) -> Option<String> {
    Some(match event {
        Trace::Submitted { instance, count, .. } => format!("{instance} given {count}"),
        Trace::Completed { instance, count, result, .. } => {
            format!("{instance} {} {count}", if result.is_ok() { "did" } else { "failed" })
        }
        Trace::Invalidation { space, told, .. } => format!("space {space} told {}", told.len()),
        Trace::Begun(Change::Attach { stream, space, .. }) => {
            format!("attach {} to {}", stream.0, space.unwrap())
        }
        Trace::Begun(Change::Detach { stream, .. }) => format!("detach {}", stream.0),
        Trace::Ended { done, .. } => format!("over: {done}"),
        // How often it waits is the machine's.
        Trace::Waited { .. } => return None,
        other => format!("{other:?}"),
    })
}

#[test]
fn calls_are_traced_in_the_order_of_what_they_do() {
    let (world, iommu, smmu) = machine();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    world.set_hook(Some(Arc::new(move |event: &Trace<'_>| {
        sink.lock().unwrap().extend(word(event));
    })));
    let take = || std::mem::take(&mut *seen.lock().unwrap());

    let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default().with_statistics()).unwrap();
    take();
    iommu.attach(&master, &domain).unwrap();
    let attached = take();
    assert_eq!(attached.first().unwrap(), "attach 1 to 0");
    assert_eq!(attached.last().unwrap(), "over: true");
    let inner = &attached[1..attached.len() - 1];
    // Each step is waited for before the next.
    assert!(!inner.is_empty() && inner.len() % 2 == 0, "{inner:?}");
    for pair in inner.chunks(2) {
        assert!(
            pair[0].starts_with("smmu0 given") && pair[1].starts_with("smmu0 did"),
            "{inner:?}"
        );
    }

    let pa = PhysAddr(world.frames().allocate(PAGE, PAGE).unwrap());
    // SAFETY: the memory is used by nobody.
    unsafe { domain.map(IOVA, pa, PAGE, Attributes::normal(Prot::READ | Prot::WRITE)) }.unwrap();
    assert_eq!(take(), [""; 0], "a map tells nobody");
    // SAFETY: no other call.
    assert_eq!(unsafe { domain.unmap(IOVA, PAGE) }, Ok(PAGE));
    assert_eq!(take(), ["smmu0 given 2", "space 0 told 1", "smmu0 did 2"]);

    iommu.detach(&master).unwrap();
    let detached = take();
    assert_eq!(detached.first().unwrap(), "detach 1");
    assert_eq!(detached.last().unwrap(), "over: true");
    world.set_hook(None);
    iommu.attach(&master, &domain).unwrap();
    assert_eq!(take(), [""; 0], "nobody is told any more");
}

#[test]
fn counts_are_those_of_what_was_done() {
    let (world, iommu, smmu) = machine_with(4);
    let substreams = MasterConfig::default().with_pasid_bits(4);
    let master = iommu.add_master(&smmu, &[StreamId(1)], substreams).unwrap();
    let counted = iommu.create_domain(DomainConfig::default().with_statistics()).unwrap();
    let plain = iommu.create_domain(DomainConfig::default()).unwrap();
    assert_eq!(plain.statistics().counted, None);
    iommu.attach(&master, &counted).unwrap();
    let before = smmu.statistics();
    assert_eq!((before.masters, before.tags, before.asids.used), (1, 1, 1));
    assert_eq!(before.asids.used + before.asids.free, 0xffff);

    let pa = PhysAddr(world.frames().allocate(4 * PAGE, PAGE).unwrap());
    for page in 0..3 {
        let iova = Iova(IOVA.0 + page * PAGE);
        // SAFETY: the memory is used by nobody, and there is no other call.
        unsafe { counted.map(iova, pa, PAGE, Attributes::normal(Prot::READ | Prot::WRITE)) }
            .unwrap();
    }
    // SAFETY: no other call.
    assert_eq!(unsafe { counted.unmap(IOVA, 2 * PAGE) }, Ok(2 * PAGE));
    // SAFETY: as above; the memory is not used again.
    let deferred = unsafe { counted.unmap_deferred(Iova(IOVA.0 + 2 * PAGE), PAGE) };
    assert_eq!(deferred, Ok(PAGE));
    counted.invalidate_all().unwrap();

    let after = smmu.statistics();
    assert_eq!(after.commands.batches - before.commands.batches, 2);
    assert_eq!(after.commands.commands, world.given(0));
    assert_eq!(after.commands.refused, 0);
    let said = counted.statistics();
    assert_eq!((said.masters, said.tags), (1, 1));
    let said = said.counted.unwrap();
    assert_eq!((said.maps, said.mapped), (3, 3 * PAGE));
    assert_eq!((said.unmaps, said.unmapped), (2, 3 * PAGE));
    assert_eq!((said.invalidations, said.unconfirmed), (2, 0));
    // Two batches of one command, each with its CMD_SYNC, and whatever the instance was waited for.
    assert_eq!((said.commands, said.syncs, said.faults), (4, 2, 0));
    assert_eq!(said.waits, after.commands.waits - before.commands.waits);

    let numbers = |smmu: &Smmu<_>| {
        let InstanceStatistics { pasids, attached_pasids, .. } = smmu.statistics();
        (pasids.used, attached_pasids, pasids.used + pasids.free)
    };
    let all = (1 << Config::default().pasid_bits) - 1;
    assert_eq!(numbers(&smmu), (0, 0, all));
    let [pasid, other] = [(); 2].map(|()| iommu.allocate_pasid().unwrap());
    iommu.attach_pasid(&master, pasid, &plain).unwrap();
    assert_eq!(numbers(&smmu), (2, 1, all));
    iommu.detach_pasid(&master, pasid).unwrap();
    assert_eq!(numbers(&smmu), (2, 0, all));
    iommu.free_pasid(pasid).unwrap();
    iommu.free_pasid(other).unwrap();
    assert_eq!(numbers(&smmu), (0, 0, all));

    // What a reset passes over in the queue is no command.
    iommu.reset(&smmu).unwrap();
    assert_eq!(smmu.statistics().commands.commands, world.given(0));
    iommu.detach(&master).unwrap();
    let left = smmu.statistics();
    assert_eq!((left.tags, left.asids.used, left.masters), (0, 0, 1));
}
