// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers, a handler that comes by and a detach at once, under every interleaving that loom finds within a bound of
//! preemptions: each stall is answered exactly once, and none after the detach.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use super::*;

const KEY: Key = Key { stream: StreamId(8), stag: 3, substream: SubstreamId(0) };

struct Machine {
    pending: Pending,
    /// Commands for it, and what the sweep ended.
    answers: AtomicUsize,
    /// The detach is over.
    detached: AtomicBool,
}

impl Machine {
    fn place(&self) -> bool {
        assert!(!self.detached.load(Ordering::Acquire), "a command after the detach");
        self.answers.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn respond(&self, handle: Handle) {
        if self.pending.decide(handle, 1) {
            self.pending.give(handle, |key, answer| {
                assert_eq!((key, answer), (KEY, 1));
                self.place()
            });
        }
    }

    fn detach(&self) {
        self.pending.sweep(
            thread::yield_now,
            |key| key.stream == KEY.stream,
            |key, _| {
                assert_eq!(key, KEY);
                self.answers.fetch_add(1, Ordering::Relaxed);
            },
        );
        self.detached.store(true, Ordering::Release);
    }
}

fn explore(body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(body);
}

#[test]
fn a_stall_is_answered_by_its_handler_or_by_the_detach() {
    explore(|| {
        let machine = Arc::new(Machine {
            pending: Pending::new(1).unwrap(),
            answers: AtomicUsize::new(0),
            detached: AtomicBool::new(false),
        });
        let handle = machine.pending.insert(KEY).unwrap();
        let responder = {
            let machine = machine.clone();
            thread::spawn(move || machine.respond(handle))
        };
        machine.detach();
        responder.join().unwrap();
        assert_eq!(machine.answers.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_answer_that_is_owed_is_given_by_one_of_those_who_come_by() {
    explore(|| {
        let machine = Arc::new(Machine {
            pending: Pending::new(1).unwrap(),
            answers: AtomicUsize::new(0),
            detached: AtomicBool::new(false),
        });
        let handle = machine.pending.insert(KEY).unwrap();
        // There was no room.
        assert!(machine.pending.decide(handle, 1));
        machine.pending.set_owed();
        let handler = {
            let machine = machine.clone();
            thread::spawn(move || {
                machine.pending.give_owed(|_, _| machine.place());
            })
        };
        machine.pending.give(handle, |_, _| machine.place());
        handler.join().unwrap();
        assert_eq!(machine.answers.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_late_answer_does_not_reach_the_next_one_in_the_slot() {
    const OTHER: Key = Key { stag: 4, ..KEY };
    explore(|| {
        let pending = Arc::new(Pending::new(1).unwrap());
        let handle = pending.insert(KEY).unwrap();
        let responder = {
            let pending = pending.clone();
            thread::spawn(move || {
                if pending.decide(handle, 1) {
                    pending.give(handle, |key, _| {
                        assert_eq!(key, KEY);
                        true
                    });
                }
            })
        };
        pending.sweep(thread::yield_now, |key| key == KEY, |_, _| ());
        if let Some(next) = pending.insert(OTHER) {
            let mut left = 0;
            pending.sweep(
                thread::yield_now,
                |_| true,
                |key, _| {
                    assert_eq!(key, OTHER);
                    left += 1;
                },
            );
            assert_eq!(left, 1);
            assert!(!pending.decide(next, 1));
        }
        responder.join().unwrap();
    });
}

#[test]
fn a_device_that_stops_and_an_answer_are_one_command() {
    explore(|| {
        let machine = Arc::new(Machine {
            pending: Pending::new(1).unwrap(),
            answers: AtomicUsize::new(0),
            detached: AtomicBool::new(false),
        });
        let handle = machine.pending.insert(KEY).unwrap();
        let responder = {
            let machine = machine.clone();
            thread::spawn(move || machine.respond(handle))
        };
        if machine.pending.decide_all(|key| key == KEY, 1) {
            machine.pending.set_owed();
            machine.pending.give_owed(|key, answer| {
                assert_eq!((key, answer), (KEY, 1));
                machine.place()
            });
        }
        responder.join().unwrap();
        assert_eq!(machine.answers.load(Ordering::Relaxed), 1);
    });
}

/// As a detach or a reset gives them, one by one.
#[test]
fn an_answer_for_all_and_that_of_a_handler_are_one_command() {
    explore(|| {
        let machine = Arc::new(Machine {
            pending: Pending::new(1).unwrap(),
            answers: AtomicUsize::new(0),
            detached: AtomicBool::new(false),
        });
        let handle = machine.pending.insert(KEY).unwrap();
        let responder = {
            let machine = machine.clone();
            thread::spawn(move || machine.respond(handle))
        };
        let give = || machine.pending.give_at(0, |key| key == KEY, 1, |_, _| machine.place());
        while give() == Some(Given::Late) {
            thread::yield_now();
        }
        machine.detached.store(true, Ordering::Release);
        responder.join().unwrap();
        assert_eq!(machine.answers.load(Ordering::Relaxed), 1);
    });
}

/// Whoever hands it on, also where the guest may have no more, and the device that waits no more: it is decided, whatever comes
/// first, and the guest has nothing to answer.
#[cfg(all(feature = "nested", feature = "ats"))]
#[test]
fn what_is_handed_on_to_a_guest_is_decided_by_a_device_that_stops() {
    for (most, all) in [(0, false), (1, false), (0, true), (1, true)] {
        explore(move || {
            let pending = Arc::new(Pending::new(1).unwrap());
            let handle = pending.insert(KEY).unwrap();
            let host = {
                let pending = pending.clone();
                thread::spawn(move || pending.show(handle, most, |key| key == KEY))
            };
            let decided = match all {
                true => pending.decide_all(|key| key == KEY, 1),
                false => pending.decide_for(handle, 1),
            };
            assert!(decided);
            host.join().unwrap();
            assert_eq!(pending.decide_shown(0, |_, _| true, 2), None);
            let mut given = 0;
            pending.give(handle, |key, answer| {
                assert_eq!((key, answer), (KEY, 1));
                given += 1;
                true
            });
            assert_eq!(given, 1);
        });
    }
}

/// Whoever shows it, a guest that answers twice, and a detach: one command, and none after the detach.
#[cfg(feature = "nested")]
#[test]
fn what_a_guest_is_shown_is_answered_by_it_or_by_the_detach() {
    use super::shown::Showing;
    explore(|| {
        let machine = Arc::new(Machine {
            pending: Pending::new(1).unwrap(),
            answers: AtomicUsize::new(0),
            detached: AtomicBool::new(false),
        });
        let handle = machine.pending.insert(KEY).unwrap();
        let guest = {
            let machine = machine.clone();
            thread::spawn(move || {
                let shown = machine.pending.show(handle, 1, |key| key == KEY);
                // The handle is dropped.
                machine.respond(handle);
                let Showing::Shown(stag) = shown else { return };
                for _ in 0..2 {
                    let at = machine.pending.slot_of(stag);
                    let which = |key, name| key == KEY && name == stag;
                    if let Some(handle) = machine.pending.decide_shown(at, which, 1) {
                        machine.pending.give(handle, |_, _| machine.place());
                    }
                }
            })
        };
        machine.detach();
        guest.join().unwrap();
        assert_eq!(machine.answers.load(Ordering::Relaxed), 1);
    });
}

/// Whoever frees a slot may do so while others do, and while one is taken.
#[test]
fn slots_that_are_freed_at_once_are_all_there_again() {
    explore(|| {
        let pending = Arc::new(Pending::new(2).unwrap());
        let [first, second] = [3, 4].map(|stag| {
            let handle = pending.insert(Key { stag, ..KEY }).unwrap();
            assert!(pending.decide(handle, 1));
            handle
        });
        let responder = {
            let pending = pending.clone();
            thread::spawn(move || assert_eq!(pending.give(first, |_, _| true), Given::Placed))
        };
        assert_eq!(pending.give(second, |_, _| true), Given::Placed);
        let third = pending.insert(KEY).unwrap();
        responder.join().unwrap();
        let fourth = pending.insert(KEY).unwrap();
        assert!(third.slot() != fourth.slot() && pending.insert(KEY).is_none());
    });
}

/// One caller at a time inserts; were there two, neither would have the other's slot.
#[test]
fn of_two_that_come_at_once_each_has_a_slot_of_its_own_or_none() {
    explore(|| {
        let pending = Arc::new(Pending::new(2).unwrap());
        let other = {
            let pending = pending.clone();
            thread::spawn(move || pending.insert(KEY).map(Handle::slot))
        };
        let own = pending.insert(KEY).map(Handle::slot);
        let other = other.join().unwrap();
        assert!(own != other, "{own:?} and {other:?}");
        assert_eq!(pending.count(), own.iter().chain(&other).count());
    });
}
