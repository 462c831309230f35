// SPDX-License-Identifier: MIT OR Apache-2.0
//! The snapshot and its readers under every interleaving that loom finds with a few preemptions. Each test has
//! twins in which one step is missing, and which must fail.

use std::boxed::Box;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use super::{Readers, Retired, Snapshot};

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// A value that says when it is freed.
struct Guarded {
    freed: Arc<AtomicBool>,
}

impl Guarded {
    fn new() -> Box<Self> {
        Box::new(Self { freed: Arc::new(AtomicBool::new(false)) })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.freed.store(true, Ordering::Relaxed);
    }
}

/// Says that the value is freed, but keeps its memory: twins let readers look at it.
fn pretend_to_free(retired: &Retired<Guarded>) {
    retired.0.freed.store(true, Ordering::Relaxed);
}

/// One reader, and a writer that replaces the snapshot twice and lets `free` deal with what was replaced. A
/// reader that read the phase long ago is only caught up with by the second grace period.
fn replace_twice(free: impl Fn(Retired<Guarded>, &Readers) + Send + Sync + Copy + 'static) {
    explore(3, move || {
        let readers = Arc::new(Readers::new(1).unwrap());
        let snapshot = Arc::new(Snapshot::new(Guarded::new()));
        let reader = {
            let (readers, snapshot) = (readers.clone(), snapshot.clone());
            thread::spawn(move || {
                readers.read(0, &snapshot, |value| {
                    assert!(!value.freed.load(Ordering::Relaxed), "freed while it was being read");
                });
            })
        };
        free(snapshot.replace(Guarded::new()), &readers);
        free(snapshot.replace(Guarded::new()), &readers);
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_snapshot_outlives_its_readers() {
    replace_twice(|retired, readers| Retired::free([Some(retired)], readers, thread::yield_now));
}

#[test]
#[should_panic(expected = "freed while it was being read")]
fn loom_twin_without_a_grace_period_frees_what_is_read() {
    replace_twice(|retired, _| pretend_to_free(&retired));
}

#[test]
#[should_panic(expected = "freed while it was being read")]
fn loom_twin_with_one_flip_frees_what_is_read() {
    replace_twice(|retired, readers| {
        readers.flip(thread::yield_now);
        pretend_to_free(&retired);
    });
}

/// Rule R5: unmap clears the descriptor, then loads the targets; attach stores the targets, then lets the
/// hardware walk. One of them must see the other.
fn unmap_or_walk(replace: impl Fn(&Snapshot<usize>) -> Retired<usize> + Send + Sync + 'static) {
    explore(3, move || {
        let descriptor = Arc::new(AtomicUsize::new(1));
        let readers = Arc::new(Readers::new(1).unwrap());
        let snapshot = Arc::new(Snapshot::new(Box::new(0usize)));
        let unmap = {
            let (descriptor, readers, snapshot) =
                (descriptor.clone(), readers.clone(), snapshot.clone());
            thread::spawn(move || {
                descriptor.store(0, Ordering::Relaxed);
                readers.read(0, &snapshot, |targets| *targets)
            })
        };
        let retired = replace(&snapshot);
        // The entry is stored, and the SMMU walks at once.
        let walked = descriptor.load(Ordering::Relaxed);
        let told = unmap.join().unwrap();
        assert!(told == 1 || walked == 0, "a stale translation that nobody invalidates");
        Retired::free([Some(retired)], &readers, thread::yield_now);
    });
}

#[test]
fn loom_unmap_finds_the_new_target_or_hardware_finds_the_new_tables() {
    unmap_or_walk(|snapshot| snapshot.replace(Box::new(1)));
}

#[test]
#[should_panic(expected = "a stale translation that nobody invalidates")]
fn loom_twin_without_the_fence_of_attach_misses_the_instance() {
    unmap_or_walk(|snapshot| snapshot.swap(Box::new(1)));
}
