// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reader counters under every interleaving that loom finds with two preemptions.

use std::boxed::Box;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::thread;

use super::{Readers, Retired, Snapshot};

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(test);
}

/// A snapshot that knows whether it was freed; the flag outlives it.
struct Guarded {
    freed: Arc<AtomicBool>,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.freed.store(true, Ordering::Relaxed);
    }
}

fn freed_while_read(grace: impl Fn(&Readers) + Send + Sync + Copy + 'static) {
    explore(move || {
        let freed = Arc::new(AtomicBool::new(false));
        let first = Box::new(Guarded { freed: freed.clone() });
        let readers = Arc::new(Readers::new(1).unwrap());
        let snapshot = Arc::new(Snapshot::new(first));
        let reader = {
            let (readers, snapshot, freed) = (readers.clone(), snapshot.clone(), freed.clone());
            thread::spawn(move || {
                readers.read(0, &snapshot, |value| {
                    // The old value, still here or replaced but not freed.
                    if Arc::ptr_eq(&value.freed, &freed) {
                        assert!(!freed.load(Ordering::Relaxed), "freed while it was being read");
                    }
                });
            })
        };
        let second = Box::new(Guarded { freed: Arc::new(AtomicBool::new(false)) });
        let Retired(old) = snapshot.replace(second);
        grace(&readers);
        drop(std::mem::ManuallyDrop::into_inner(old));
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_snapshot_outlives_its_readers() {
    freed_while_read(|readers| readers.grace(thread::yield_now));
}

#[test]
#[should_panic]
fn loom_twin_without_a_grace_period_frees_what_is_read() {
    freed_while_read(|_| {});
}

/// Rule R5: unmap clears the descriptor, then loads the targets; attach stores the targets, then lets the
/// hardware walk. One of them must see the other.
fn unmap_or_walk(attach_fence: bool) {
    explore(move || {
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
        let retired = snapshot.replace(Box::new(1));
        if attach_fence {
            fence(Ordering::SeqCst);
        }
        // The entry is stored, and the SMMU walks at once.
        let walked = descriptor.load(Ordering::Relaxed);
        let told = unmap.join().unwrap();
        assert!(told == 1 || walked == 0, "a stale translation that nobody invalidates");
        Retired::free([Some(retired)], &readers, thread::yield_now);
    });
}

#[test]
fn loom_unmap_finds_the_new_target_or_hardware_finds_the_new_tables() {
    unmap_or_walk(true);
}

#[test]
#[should_panic]
fn loom_twin_without_the_fence_of_attach_misses_the_instance() {
    unmap_or_walk(false);
}
