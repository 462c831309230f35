// SPDX-License-Identifier: MIT OR Apache-2.0
//! That what is retired is used again only after a flush that began after it, in every interleaving that loom finds
//! within a bound of preemptions. Twins in which a step is missing or out of place must fail.
//!
//! The SMMU is a stand-in: an invalidation forgets what is cached, and caches at once what a walk finds then.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use super::{Begun, Flushes, Stamp};

const PREEMPTIONS: usize = 5;

/// A page that is mapped, and what the SMMU has cached of that.
struct Machine {
    flushes: Flushes,
    descriptor: AtomicU64,
    cached: AtomicU64,
}

/// How the steps are done.
#[derive(Clone, Copy)]
struct Steps {
    /// Clears, and gives the stamp.
    retire: fn(&Machine) -> Stamp,
    begin: fn(&Flushes) -> Begun,
    is_over: fn(&Flushes, Stamp) -> bool,
}

fn clear(machine: &Machine) {
    machine.descriptor.store(0, Ordering::Relaxed);
}

const RIGHT: Steps = Steps {
    retire: |machine| {
        clear(machine);
        machine.flushes.stamp()
    },
    begin: Flushes::begin,
    is_over: Flushes::is_over,
};

/// A CPU unmaps a page and looks whether it may use it again, while another flushes twice.
fn explore(steps: Steps) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        let machine = Arc::new(Machine {
            flushes: Flushes::new(),
            descriptor: AtomicU64::new(1),
            cached: AtomicU64::new(1),
        });
        let flusher = {
            let machine = machine.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let flush = (steps.begin)(&machine.flushes);
                    let walked = machine.descriptor.load(Ordering::Relaxed);
                    machine.cached.store(walked, Ordering::Relaxed);
                    machine.flushes.confirm(flush);
                }
            })
        };
        let stamp = (steps.retire)(&machine);
        for _ in 0..2 {
            if (steps.is_over)(&machine.flushes, stamp) {
                let cached = machine.cached.load(Ordering::Relaxed);
                assert_eq!(cached, 0, "used again while a device reaches it");
                break;
            }
        }
        flusher.join().unwrap();
        // Whatever has happened: one more flush is enough.
        let flush = machine.flushes.begin();
        machine.flushes.confirm(flush);
        assert!(machine.flushes.is_over(stamp));
    });
}

#[test]
fn loom_what_is_retired_waits_for_a_flush_that_began_after_it() {
    explore(RIGHT);
}

/// A third CPU, which neither unmapped the page nor flushed, is told the stamp, and asks.
fn ask_elsewhere(is_over: fn(&Flushes, Stamp) -> bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let flushes = Flushes::new();
        let (descriptor, cached) = (AtomicU64::new(1), AtomicU64::new(1));
        let machine = Arc::new(Machine { flushes, descriptor, cached });
        let told = Arc::new(AtomicU64::new(u64::MAX));
        let flusher = {
            let machine = machine.clone();
            thread::spawn(move || {
                let flush = machine.flushes.begin();
                let walked = machine.descriptor.load(Ordering::Relaxed);
                machine.cached.store(walked, Ordering::Relaxed);
                machine.flushes.confirm(flush);
            })
        };
        let asker = {
            let (machine, told) = (machine.clone(), told.clone());
            thread::spawn(move || {
                let stamp = Stamp(told.load(Ordering::Acquire));
                if is_over(&machine.flushes, stamp) {
                    let cached = machine.cached.load(Ordering::Relaxed);
                    assert_eq!(cached, 0, "used again while a device reaches it");
                }
            })
        };
        told.store((RIGHT.retire)(&machine).0, Ordering::Release);
        flusher.join().unwrap();
        asker.join().unwrap();
        assert!(machine.flushes.is_over(Stamp::PAST));
    });
}

#[test]
fn loom_whoever_is_told_the_stamp_may_ask() {
    ask_elsewhere(Flushes::is_over);
}

#[test]
#[should_panic(expected = "used again while a device reaches it")]
fn loom_an_answer_that_orders_nothing_is_caught() {
    ask_elsewhere(|flushes, stamp| flushes.confirmed.load(Ordering::Relaxed) > stamp.0);
}

#[test]
#[should_panic(expected = "used again while a device reaches it")]
fn loom_a_stamp_from_before_the_clearing_is_caught() {
    let retire = |machine: &Machine| {
        let stamp = machine.flushes.stamp();
        clear(machine);
        stamp
    };
    explore(Steps { retire, ..RIGHT });
}

#[test]
#[should_panic(expected = "used again while a device reaches it")]
fn loom_a_flush_that_had_begun_before_is_caught() {
    let is_over = |flushes: &Flushes, stamp: Stamp| {
        flushes.confirmed.load(Ordering::Acquire) >= stamp.0.max(2)
    };
    explore(Steps { is_over, ..RIGHT });
}

#[test]
#[should_panic(expected = "used again while a device reaches it")]
fn loom_a_stamp_without_its_fence_is_caught() {
    let retire = |machine: &Machine| {
        clear(machine);
        Stamp(machine.flushes.started.load(Ordering::Relaxed))
    };
    explore(Steps { retire, ..RIGHT });
}

#[test]
#[should_panic(expected = "used again while a device reaches it")]
fn loom_a_flush_that_begins_without_its_fence_is_caught() {
    let begin = |flushes: &Flushes| Begun(flushes.started.fetch_add(1, Ordering::Relaxed) + 1);
    explore(Steps { begin, ..RIGHT });
}

#[test]
#[should_panic(expected = "used again while a device reaches it")]
fn loom_a_flush_that_counts_itself_after_the_invalidation_is_caught() {
    // Its number is drawn when it is over.
    let begin = |flushes: &Flushes| {
        fence(Ordering::SeqCst);
        Begun(flushes.started.load(Ordering::Relaxed) + 1)
    };
    explore(Steps { begin, ..RIGHT });
}
