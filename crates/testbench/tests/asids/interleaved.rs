// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices work, and an unmap runs, at every moment at which the world may change while a tag is changed (rules R0, R1 and
//! R6): no access is refused, and what was unmapped is gone, whichever tag its translations carried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use smmuv3_testbench::machine::Machine;

use crate::moves::{CAUSES, Cause, Scene};
use crate::setup::PAGE;

/// Changes a tag with an unmap at its `nth` point; whether there is such a point.
fn unmap_at(cause: Cause, nth: usize, seed: u64) -> bool {
    let why = format!("{cause:?}, point {nth}, seed {seed}");
    let scene = Arc::new(Scene::new(cause, seed));
    scene.check_seats(false, &[], &why);
    // A page of one domain after the other.
    let domains: Vec<usize> = scene.seats.iter().map(|(.., domain)| *domain).collect();
    let gone = (domains[nth % domains.len()], 3);
    let points = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    {
        let (scene, points, done, why) = (scene.clone(), points.clone(), done.clone(), why.clone());
        let seen = scene.clone();
        seen.setup.hook(move |_, interruptible| {
            let setup = &scene.setup;
            setup.machine.act();
            for (device, pasid, domain) in &scene.seats {
                let expected = Some(setup.memory(*domain, 1));
                assert_eq!(setup.dma(*device, *pasid, 1), expected, "{why}");
            }
            let point = points.fetch_add(1, Ordering::Relaxed);
            if point == nth && interruptible {
                for (device, pasid, _) in &scene.seats {
                    setup.dma(*device, *pasid, gone.1);
                    setup.hold(*device, *pasid, gone.1);
                }
                assert_eq!(setup.unmap(gone.0, gone.1), Ok(PAGE), "{why}");
                setup.check_unmapped(gone.0, gone.1, None, &why);
                done.store(true, Ordering::Relaxed);
            }
            if done.load(Ordering::Relaxed) {
                setup.check_unmapped(gone.0, gone.1, None, &why);
                scene.check_seats(false, &[gone], &why);
            }
        });
    }
    let result = scene.run();
    scene.setup.unhook();
    assert_eq!(result, Ok(()), "{why}");
    let gone = if done.load(Ordering::Relaxed) { vec![gone] } else { vec![] };
    scene.check_change(&why);
    scene.check_seats(true, &gone, &why);
    scene.setup.check(&why);
    let Ok(scene) = Arc::try_unwrap(scene) else { panic!("the hook is gone") };
    scene.tear_down(&why);
    points.load(Ordering::Relaxed) > nth
}

fn unmap_everywhere(cause: Cause) {
    for seed in [1, 2] {
        let points = (0..).find(|nth| !unmap_at(cause, *nth, seed)).unwrap();
        assert!(points > 20, "{cause:?}: {points}");
    }
}

#[test]
fn an_unmap_at_any_moment_of_a_narrow_join_leaves_nothing() {
    unmap_everywhere(Cause::Narrow);
}

#[test]
fn an_unmap_at_any_moment_of_a_change_of_bank_leaves_nothing() {
    unmap_everywhere(Cause::Bank);
}

#[test]
fn an_unmap_at_any_moment_of_making_way_for_a_process_leaves_nothing() {
    unmap_everywhere(Cause::Process);
    unmap_everywhere(Cause::Common);
}

/// While the tag is changed, nobody else is given either of the two: masters of other domains come as soon as they can.
#[test]
fn both_tags_are_taken_until_the_old_one_is_in_no_cache() {
    for cause in CAUSES {
        let scene = Scene::new(cause, 3);
        let why = format!("{cause:?}");
        scene.check_seats(false, &[], &why);
        let before = scene.targets();
        scene.run().unwrap();
        // Those that were given up are flushed; whoever gets them now is alone with them.
        for (device, domain) in &scene.spares {
            scene.setup.attach(*device, 0, *domain).unwrap();
            let expected = Some(scene.setup.memory(*domain, 0));
            assert_eq!(scene.setup.dma(*device, 0, 0), expected, "{why}");
        }
        scene.check_seats(true, &[], &why);
        scene.setup.check(&why);
        assert_ne!(scene.targets(), before, "{why}");
        scene.tear_down(&why);
    }
}
