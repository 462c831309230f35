// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hardware that stops or refuses at every command of a change of tags, and memory that runs out at every allocation
//! (rule R8): a typed error, no tag lost or given out twice, unmaps correct or unconfirmed, and after a reset all works.

use smmuv3::{AttachError, Failure, Quarantined, UnmapError};

use crate::allocator::failing;
use crate::moves::{CAUSES, Cause, Scene};
use crate::setup::{PAGE, failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It stops after so many commands.
    Stops,
    /// It refuses the first command of a batch.
    Refuses,
}

/// Changes a tag while `instance` fails at its `nth` command or batch; whether the call noticed.
fn fail_at(cause: Cause, fault: Fault, instance: usize, nth: u64) -> bool {
    let why = format!("{cause:?}, instance {instance} {fault:?} at {nth}");
    let scene = Scene::new(cause, nth);
    let setup = &scene.setup;
    scene.check_seats(false, &[], &why);
    match fault {
        Fault::Stops => setup.wedge(instance, Some(nth)),
        Fault::Refuses => setup.refuse(instance, nth),
    }
    let result = scene.run();
    setup.machine.behave();
    if result.is_ok() {
        setup.wedge(instance, None);
        scene.check_change(&why);
        scene.check_seats(true, &[], &why);
        setup.check(&why);
        scene.tear_down(&why);
        return false;
    }
    let (at, what) = failure(result);
    assert_eq!(at, instance, "{why}");
    match fault {
        Fault::Stops => assert!(matches!(what, Failure::Timeout { .. }), "{why}: {what}"),
        Fault::Refuses => assert!(matches!(what, Failure::Refused { .. }), "{why}: {what}"),
    }
    // Whoever worked goes on.
    scene.check_survivors(&[], &why);
    setup.check(&why);
    assert_ne!(setup.quarantined(), [], "{why}");

    // Unmaps reach every tag.
    let mut gone = Vec::new();
    for domain in scene.domains() {
        let there = setup.domains[domain].targets().unwrap();
        let there = there.iter().any(|target| target.instance.index() == instance);
        let stopped = there && fault == Fault::Stops;
        match setup.unmap(domain, 2) {
            Ok(bytes) => assert!(bytes == PAGE && !stopped, "{why}: domain {domain}"),
            Err(UnmapError::Unconfirmed(unconfirmed)) => {
                assert!(stopped, "{why}: domain {domain}: {unconfirmed}");
                assert_eq!(unconfirmed.instance.index(), instance, "{why}");
                let id = setup.domains[domain].id();
                let listed = setup
                    .quarantined()
                    .iter()
                    .any(|item| matches!(item, Quarantined::Range { domain, .. } if *domain == id));
                assert!(listed, "{why}: domain {domain}");
            }
            Err(error) => panic!("{why}: {error}"),
        }
        setup.check_unmapped(domain, 2, stopped.then_some(instance), &why);
        gone.push((domain, 2));
    }
    if fault == Fault::Refuses {
        scene.check_survivors(&gone, &why);
        // It goes on with others, who get tags that nothing carries.
        for (device, domain) in &scene.spares {
            assert_eq!(setup.attach(*device, 0, *domain), Ok(()), "{why}");
            assert_eq!(setup.dma(*device, 0, 0), Some(setup.memory(*domain, 0)), "{why}");
        }
        scene.check_survivors(&gone, &why);
        setup.check(&why);
        for (device, _) in &scene.spares {
            assert_eq!(setup.detach(*device, 0), Ok(()), "{why}");
        }
    } else {
        let (device, domain) = scene.spares[instance];
        let refused = failure(setup.attach(device, 0, domain));
        assert_eq!(refused, (instance, Failure::Failed), "{why}");
    }
    setup.check(&why);

    setup.wedge(instance, None);
    setup.reset(instance);
    assert_eq!(setup.quarantined(), [], "{why}");
    for (domain, page) in &gone {
        setup.check_unmapped(*domain, *page, None, &why);
    }
    scene.check_seats(false, &gone, &why);
    setup.check(&why);
    assert_eq!(scene.run(), Ok(()), "{why}");
    scene.check_change(&why);
    scene.check_seats(true, &gone, &why);
    setup.check(&why);
    scene.tear_down(&why);
    true
}

fn fail_everywhere(cause: Cause) {
    for fault in [Fault::Stops, Fault::Refuses] {
        let mut noticed = 0;
        for instance in cause.instances() {
            noticed += (0..).find(|nth| !fail_at(cause, fault, instance, *nth)).unwrap();
        }
        assert!(noticed >= 4, "{cause:?} {fault:?}: {noticed}");
    }
}

#[test]
fn an_smmu_may_fail_at_any_command_of_a_narrow_join() {
    fail_everywhere(Cause::Narrow);
}

#[test]
fn an_smmu_may_fail_at_any_command_of_a_change_of_bank() {
    fail_everywhere(Cause::Bank);
}

#[test]
fn an_smmu_may_fail_at_any_command_of_making_way_for_a_process() {
    fail_everywhere(Cause::Process);
    fail_everywhere(Cause::Common);
}

/// Changes a tag while an allocation fails; whether it did.
fn without_memory(cause: Cause, nth: u64, frames: bool) -> bool {
    let why = format!("{cause:?}, allocation {nth} (of frames: {frames})");
    let scene = Scene::new(cause, nth);
    let setup = &scene.setup;
    scene.check_seats(false, &[], &why);
    // The memory for a context may stay with its master.
    let state = || (scene.targets(), setup.free(0));
    let before = state();
    setup.world.take_commands();
    let (result, failed) = if frames {
        let count = setup.world.frames().count();
        setup.world.frames().fail(Some(nth));
        let result = scene.run();
        setup.world.frames().fail(None);
        (result, setup.world.frames().count() - count >= nth)
    } else {
        failing(nth, || scene.run())
    };
    if failed {
        assert_eq!(result, Err(AttachError::NoMemory), "{why}");
        assert_eq!(state(), before, "{why}");
        assert_eq!(setup.world.take_commands(), [], "{why}");
        scene.check_seats(false, &[], &why);
        setup.check(&why);
        scene.run().unwrap();
    } else {
        assert_eq!(result, Ok(()), "{why}");
    }
    scene.check_change(&why);
    scene.check_seats(true, &[], &why);
    setup.check(&why);
    scene.tear_down(&why);
    failed
}

#[test]
fn a_change_without_memory_is_not_begun() {
    for cause in CAUSES {
        let heap = (1..).find(|nth| !without_memory(cause, *nth, false)).unwrap() - 1;
        assert!(heap >= 10, "{cause:?}: {heap}");
    }
    // The context of whoever joins.
    let frames = (1..).find(|nth| !without_memory(Cause::Narrow, *nth, true)).unwrap() - 1;
    assert_eq!(frames, 1);
}
