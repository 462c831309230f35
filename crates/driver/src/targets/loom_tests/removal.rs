// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of an instance that is removed, and those who came by it while they read targets.

use crate::state::State;

use super::*;

/// An instance that is removed, by whoever has the mutex, while an unmap is under way that came by it as a reader: `leave`
/// is how that leaves the targets, with what says that it is still at the instance; `reclaim` waits for it.
fn remove_while(
    leave: impl Fn(&Waited, &dyn Fn()) + Send + Sync + Copy + 'static,
    reclaim: impl Fn(&Waited) + Send + Sync + Copy + 'static,
) {
    explore(OF_TWO, move || {
        let waited = Arc::new(Waited {
            readers: Readers::new(1).unwrap(),
            waiters: Readers::new(1).unwrap(),
            state: State::new(),
            targets: Snapshot::new(Box::new(true)),
            freed: AtomicBool::new(false),
        });
        let unmap = {
            let waited = waited.clone();
            thread::spawn(move || {
                let look = || {
                    assert!(!waited.freed.load(Ordering::Relaxed), "freed while it was waited for");
                };
                leave(&waited, &look);
            })
        };
        // Its last master leaves.
        let retired = waited.targets.replace(Box::new(false));
        // It is off: whoever waits finds that it has failed.
        waited.state.fail();
        reclaim(&waited);
        waited.freed.store(true, Ordering::Relaxed);
        unmap.join().unwrap();
        Retired::free([Some(retired)], &waited.readers, thread::yield_now);
    });
}

struct Waited {
    readers: Readers,
    waiters: Readers,
    state: State,
    /// Whether the instance is among them.
    targets: Snapshot<bool>,
    freed: AtomicBool,
}

/// As `Space::wait_for` and others: says that it stays while it is a reader, and looks again afterwards.
fn stays(waited: &Waited, look: &dyn Fn()) {
    let section = waited.readers.section(0, &waited.targets);
    if *section {
        let stay = waited.waiters.stay(0);
        drop(section);
        look();
        drop(stay);
    }
}

/// As `Space::forget_pages`: is at the registers, once.
fn looks_once(waited: &Waited, look: &dyn Fn()) {
    let section = waited.readers.section(0, &waited.targets);
    if *section {
        let inside = waited.state.arrive(0);
        drop(section);
        look();
        drop(inside);
    }
}

/// The same, if that look is not enough: it says that it stays while it is at the registers, and not as a reader.
fn looks_and_stays(waited: &Waited, look: &dyn Fn()) {
    let section = waited.readers.section(0, &waited.targets);
    if *section {
        let inside = waited.state.arrive(0);
        drop(section);
        let stay = waited.waiters.stay(0);
        drop(inside);
        look();
        drop(stay);
    }
}

/// As `Core::reclaim`.
fn reclaim(waited: &Waited) {
    waited.readers.grace(&thread::yield_now);
    waited.state.wait_outside(thread::yield_now);
    waited.waiters.grace(&thread::yield_now);
}

#[test]
fn loom_an_instance_outlives_those_who_wait_for_it() {
    remove_while(stays, reclaim);
}

#[test]
fn loom_an_instance_outlives_those_who_look_once() {
    remove_while(looks_once, reclaim);
}

#[test]
fn loom_an_instance_outlives_those_who_look_and_then_wait() {
    remove_while(looks_and_stays, reclaim);
}

#[test]
#[should_panic(expected = "freed while it was waited for")]
fn loom_twin_that_waits_for_those_who_look_last_frees_what_they_wait_for() {
    remove_while(looks_and_stays, |waited| {
        waited.readers.grace(&thread::yield_now);
        waited.waiters.grace(&thread::yield_now);
        waited.state.wait_outside(thread::yield_now);
    });
}

#[test]
#[should_panic(expected = "freed while it was waited for")]
fn loom_twin_that_waits_for_readers_last_frees_what_is_waited_for() {
    remove_while(stays, |waited| {
        waited.state.wait_outside(thread::yield_now);
        waited.waiters.grace(&thread::yield_now);
        waited.readers.grace(&thread::yield_now);
    });
}

#[test]
#[should_panic(expected = "freed while it was waited for")]
fn loom_twin_that_says_too_late_that_it_stays_loses_the_instance() {
    let stays_late = |waited: &Waited, look: &dyn Fn()| {
        let section = waited.readers.section(0, &waited.targets);
        if *section {
            drop(section);
            let stay = waited.waiters.stay(0);
            look();
            drop(stay);
        }
    };
    remove_while(stays_late, reclaim);
}

#[test]
#[should_panic(expected = "freed while it was waited for")]
fn loom_twin_that_does_not_wait_outside_frees_what_is_looked_at() {
    remove_while(looks_once, |waited| {
        waited.readers.grace(&thread::yield_now);
        waited.waiters.grace(&thread::yield_now);
    });
}
