// SPDX-License-Identifier: MIT OR Apache-2.0
//! The snapshot and its readers under every interleaving that loom finds within a bound of preemptions. Each test
//! has twins in which one step is missing or out of place, and which must fail. The SMMU is a stand-in; what the
//! assertions need to know of it is in std's atomics, which loom does not see, so that they order nothing.

use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool as Note;
use std::vec::Vec;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use super::{Readers, Retired, Snapshot};

mod joining;
mod removal;

/// Preemptions of two threads.
const OF_TWO: usize = 5;
/// Preemptions of three threads.
const OF_THREE: usize = 4;

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// `Readers::read` of a value that is never freed, without its fence.
fn read_without_fence<T, R>(
    readers: &Readers,
    snapshot: &Snapshot<T>,
    read: impl FnOnce(&T) -> R,
) -> R {
    let count = &readers.shards[0].0[readers.phase.load(Ordering::Relaxed) & 1];
    count.fetch_add(1, Ordering::Relaxed);
    let result = read(snapshot.for_writer());
    count.fetch_sub(1, Ordering::Release);
    result
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
    explore(OF_TWO, move || {
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
        readers.flip(&thread::yield_now);
        pretend_to_free(&retired);
    });
}

/// Rule R5: unmap clears the descriptor, then loads the targets; attach stores the targets, then lets the
/// hardware walk. One of them must see the other.
fn unmap_or_walk(
    read: impl Fn(&Readers, &Snapshot<usize>) -> usize + Send + Sync + Copy + 'static,
    replace: impl Fn(&Snapshot<usize>) -> Retired<usize> + Send + Sync + 'static,
) {
    explore(OF_TWO, move || {
        let descriptor = Arc::new(AtomicUsize::new(1));
        let readers = Arc::new(Readers::new(1).unwrap());
        let snapshot = Arc::new(Snapshot::new(Box::new(0usize)));
        let unmap = {
            let (descriptor, readers, snapshot) =
                (descriptor.clone(), readers.clone(), snapshot.clone());
            thread::spawn(move || {
                descriptor.store(0, Ordering::Relaxed);
                read(&readers, &snapshot)
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

fn targets(readers: &Readers, snapshot: &Snapshot<usize>) -> usize {
    readers.read(0, snapshot, |targets| *targets)
}

#[test]
fn loom_unmap_finds_the_new_target_or_hardware_finds_the_new_tables() {
    unmap_or_walk(targets, |snapshot| snapshot.replace(Box::new(1)));
}

#[test]
#[should_panic(expected = "a stale translation that nobody invalidates")]
fn loom_twin_without_the_fence_of_attach_misses_the_instance() {
    unmap_or_walk(targets, |snapshot| snapshot.swap(Box::new(1)));
}

#[test]
#[should_panic(expected = "a stale translation that nobody invalidates")]
fn loom_twin_without_the_fence_of_unmap_misses_the_instance() {
    unmap_or_walk(
        |readers, snapshot| read_without_fence(readers, snapshot, |targets| *targets),
        |snapshot| snapshot.replace(Box::new(1)),
    );
}

/// One CPU clears the descriptor and says so; another one, that has heard it, loads the targets for an invalidation of all
/// (`Domain::unmap_deferred`, `Domain::invalidate_all`). An attach meanwhile is either among these, or walks the cleared
/// descriptor: that the load is another CPU's takes nothing away from rule R5.
fn defer_then_flush(
    say: Ordering,
    read: impl Fn(&Readers, &Snapshot<usize>) -> usize + Send + Sync + Copy + 'static,
) {
    explore(OF_THREE, move || {
        let descriptor = Arc::new(AtomicUsize::new(1));
        let deferred = Arc::new(AtomicBool::new(false));
        let readers = Arc::new(Readers::new(1).unwrap());
        let snapshot = Arc::new(Snapshot::new(Box::new(0usize)));
        let unmap = {
            let (descriptor, deferred) = (descriptor.clone(), deferred.clone());
            thread::spawn(move || {
                descriptor.store(0, Ordering::Relaxed);
                deferred.store(true, say);
            })
        };
        let flush = {
            let (deferred, readers, snapshot) =
                (deferred.clone(), readers.clone(), snapshot.clone());
            thread::spawn(move || {
                deferred.load(Ordering::Acquire).then(|| read(&readers, &snapshot))
            })
        };
        let retired = snapshot.replace(Box::new(1));
        let walked = descriptor.load(Ordering::Relaxed);
        unmap.join().unwrap();
        let told = flush.join().unwrap();
        assert!(
            told.is_none_or(|told| told == 1 || walked == 0),
            "a stale translation that nobody invalidates"
        );
        Retired::free([Some(retired)], &readers, thread::yield_now);
    });
}

#[test]
fn loom_an_invalidation_on_another_cpu_serves_an_unmap_that_it_has_heard_of() {
    defer_then_flush(Ordering::Release, targets);
}

#[test]
#[should_panic(expected = "a stale translation that nobody invalidates")]
fn loom_twin_that_has_not_properly_heard_of_the_unmap_misses_an_instance() {
    defer_then_flush(Ordering::Relaxed, targets);
}

#[test]
#[should_panic(expected = "a stale translation that nobody invalidates")]
fn loom_twin_without_the_fence_of_the_invalidation_misses_an_instance() {
    defer_then_flush(Ordering::Release, |readers, snapshot| {
        read_without_fence(readers, snapshot, |targets| *targets)
    });
}

/// Two instances on which one domain is attached, one after the other, while a table of it is unmapped.
struct Two {
    /// The configuration mutex.
    configuration: Mutex<()>,
    /// A descriptor of the domain.
    descriptor: AtomicBool,
    readers: Readers,
    targets: Snapshot<[bool; 2]>,
}

impl Two {
    /// The targets with `instance` among them.
    fn with(&self, instance: usize) -> Box<[bool; 2]> {
        let mut targets = *self.targets.for_writer();
        targets[instance] = true;
        Box::new(targets)
    }

    /// The driver's way. Each way to attach says whether the instance, which walks as soon as it can, found the
    /// descriptor.
    fn attach(&self, instance: usize) -> bool {
        let _configuration = self.configuration.lock().unwrap();
        let retired = self.targets.replace(self.with(instance));
        let walked = self.descriptor.load(Ordering::Relaxed);
        Retired::free([Some(retired)], &self.readers, thread::yield_now);
        walked
    }

    fn attach_without_fence(&self, instance: usize) -> bool {
        let _configuration = self.configuration.lock().unwrap();
        let retired = self.targets.swap(self.with(instance));
        let walked = self.descriptor.load(Ordering::Relaxed);
        Retired::free([Some(retired)], &self.readers, thread::yield_now);
        walked
    }

    /// What was replaced leaks, since somebody else may be copying it.
    fn attach_without_mutex(&self, instance: usize) -> bool {
        let _leaked = self.targets.replace(self.with(instance));
        self.descriptor.load(Ordering::Relaxed)
    }
}

fn attach_twice(attach: impl Fn(&Two, usize) -> bool + Send + Sync + Copy + 'static) {
    explore(OF_THREE, move || {
        let two = Arc::new(Two {
            configuration: Mutex::new(()),
            descriptor: AtomicBool::new(true),
            readers: Readers::new(1).unwrap(),
            targets: Snapshot::new(Box::new([false; 2])),
        });
        let unmap = {
            let two = two.clone();
            thread::spawn(move || {
                two.descriptor.store(false, Ordering::Relaxed);
                two.readers.read(0, &two.targets, |targets| *targets)
            })
        };
        let other = {
            let two = two.clone();
            thread::spawn(move || attach(&two, 1))
        };
        let walked = [attach(&two, 0), other.join().unwrap()];
        let told = unmap.join().unwrap();
        for instance in [0, 1] {
            let missed = walked[instance] && !told[instance];
            assert!(!missed, "a stale translation that nobody invalidates");
        }
        assert_eq!(*two.targets.for_writer(), [true; 2], "a target was lost");
    });
}

#[test]
fn loom_unmap_misses_neither_of_two_instances() {
    attach_twice(Two::attach);
}

#[test]
#[should_panic(expected = "a stale translation that nobody invalidates")]
fn loom_twin_in_which_one_of_two_attaches_has_no_fence_misses_that_instance() {
    attach_twice(|two, instance| match instance {
        0 => two.attach(0),
        _ => two.attach_without_fence(1),
    });
}

#[test]
#[should_panic(expected = "a target was lost")]
fn loom_twin_with_attaches_that_are_not_serialised_loses_a_target() {
    attach_twice(Two::attach_without_mutex);
}

/// An SMMU and a domain on it, whose table the SMMU has in its walk cache.
struct Machine {
    /// Whether the stream's entry leads to the domain. Whatever the SMMU does, it does with this locked: a walk
    /// is over before a command is complete.
    attached: Mutex<bool>,
    /// The descriptor that links the table.
    link: AtomicBool,
    cached: Note,
    freed: Note,
    detached: Note,
    broken: std::sync::Mutex<Vec<&'static str>>,
    readers: Readers,
    /// Whether the SMMU is a target.
    target: Snapshot<bool>,
}

impl Machine {
    fn rule(&self, holds: bool, rule: &'static str) {
        if !holds {
            self.broken.lock().unwrap().push(rule);
        }
    }

    /// The SMMU walks through the table, if it still can, and remembers that.
    fn walk(&self) {
        let attached = self.attached.lock().unwrap();
        if *attached && self.link.load(Ordering::Relaxed) {
            self.cached.store(true, Ordering::Relaxed);
            self.rule(!self.freed.load(Ordering::Relaxed), "R3: a freed table is walked");
        }
    }

    /// A TLBI and its SYNC.
    fn invalidate(&self) {
        let _idle = self.attached.lock().unwrap();
        let detached = self.detached.load(Ordering::Relaxed);
        self.rule(!detached, "R7: a command after the detach has returned");
        self.cached.store(false, Ordering::Relaxed);
    }

    /// The stream's entry is changed; CFGI and its SYNC.
    fn block(&self) {
        *self.attached.lock().unwrap() = false;
    }

    /// The SMMU is no target any more, and no unmap takes it for one.
    fn leave(&self) {
        let retired = self.target.replace(Box::new(false));
        Retired::free([Some(retired)], &self.readers, thread::yield_now);
    }

    /// As `Domain::unmap`: the table is unlinked, and freed when nobody can reach it.
    fn unmap(&self, read: impl Fn(&Self, &dyn Fn(&bool))) {
        self.link.store(false, Ordering::Relaxed);
        read(self, &|target| {
            if *target {
                self.invalidate();
            }
        });
        let cached = self.cached.load(Ordering::Relaxed);
        self.rule(!cached, "R3: a table is freed while the SMMU can reach it");
        self.freed.store(true, Ordering::Relaxed);
    }

    fn read(&self, tell: &dyn Fn(&bool)) {
        self.readers.read(0, &self.target, tell);
    }
}

/// An unmap, a detach and the SMMU. After the detach the tag is given to somebody else, and the tables may go.
/// Commands are carried out as they are submitted: later would only keep whoever waits for them.
fn unmap_and_detach(
    read: impl Fn(&Machine, &dyn Fn(&bool)) + Send + Sync + Copy + 'static,
    detach: impl Fn(&Machine) + Send + Sync + 'static,
) {
    explore(OF_THREE, move || {
        let machine = Arc::new(Machine {
            attached: Mutex::new(true),
            link: AtomicBool::new(true),
            cached: Note::new(true),
            freed: Note::new(false),
            detached: Note::new(false),
            broken: std::sync::Mutex::default(),
            readers: Readers::new(1).unwrap(),
            target: Snapshot::new(Box::new(true)),
        });
        let unmap = {
            let machine = machine.clone();
            thread::spawn(move || machine.unmap(read))
        };
        let smmu = {
            let machine = machine.clone();
            thread::spawn(move || machine.walk())
        };
        detach(&machine);
        machine.detached.store(true, Ordering::Relaxed);
        machine.walk();
        let cached = machine.cached.load(Ordering::Relaxed);
        machine.rule(!cached, "R1: the detach has returned, and the SMMU reaches the table");
        unmap.join().unwrap();
        smmu.join().unwrap();
        let broken = machine.broken.lock().unwrap();
        assert!(broken.is_empty(), "{broken:?}");
    });
}

/// The steps of `Iommu::detach`.
#[test]
fn loom_nothing_is_reached_after_an_unmap_and_a_detach_at_once() {
    unmap_and_detach(Machine::read, |machine| {
        machine.block();
        machine.invalidate();
        machine.leave();
    });
}

/// The queue is full when the unmap first looks at the targets: it lets go of them, waits for room, and looks again.
/// Whatever has left them meanwhile was flushed.
#[test]
fn loom_nothing_is_reached_after_a_detach_while_an_unmap_waits_for_room() {
    let read = |machine: &Machine, tell: &dyn Fn(&bool)| {
        machine.read(&|_| ());
        machine.read(tell);
    };
    unmap_and_detach(read, |machine| {
        machine.block();
        machine.invalidate();
        machine.leave();
    });
}

/// Targets that were kept are those of before: the detach has returned, and the unmap still speaks of its stream.
#[test]
#[should_panic(expected = "R7: a command after the detach has returned")]
fn loom_twin_that_keeps_the_targets_while_it_waits_for_room_is_followed_by_a_command() {
    let read = |machine: &Machine, tell: &dyn Fn(&bool)| {
        let kept = machine.readers.read(0, &machine.target, |target| *target);
        tell(&kept);
    };
    unmap_and_detach(read, |machine| {
        machine.block();
        machine.invalidate();
        machine.leave();
    });
}

#[test]
#[should_panic(expected = "R3: a table is freed while the SMMU can reach it")]
fn loom_twin_that_removes_the_target_before_the_flush_lets_an_unmap_free_too_early() {
    unmap_and_detach(Machine::read, |machine| {
        machine.block();
        machine.leave();
        machine.invalidate();
    });
}

#[test]
#[should_panic(expected = "R3: a table is freed while the SMMU can reach it")]
fn loom_twin_that_flushes_before_the_entry_is_changed_is_walked_once_more() {
    unmap_and_detach(Machine::read, |machine| {
        machine.invalidate();
        machine.block();
        machine.leave();
    });
}

#[test]
#[should_panic(expected = "R1: the detach has returned, and the SMMU reaches the table")]
fn loom_twin_that_detaches_without_a_flush_leaves_a_translation() {
    unmap_and_detach(Machine::read, |machine| {
        machine.block();
        machine.leave();
    });
}

#[test]
#[should_panic(expected = "R7: a command after the detach has returned")]
fn loom_twin_that_detaches_without_a_grace_period_is_followed_by_a_command() {
    unmap_and_detach(Machine::read, |machine| {
        machine.block();
        machine.invalidate();
        let _leaked = machine.target.replace(Box::new(false));
    });
}

#[test]
#[should_panic(expected = "R7: a command after the detach has returned")]
fn loom_twin_whose_unmap_has_no_fence_is_not_waited_for() {
    let read = |machine: &Machine, tell: &dyn Fn(&bool)| {
        read_without_fence(&machine.readers, &machine.target, tell);
    };
    unmap_and_detach(read, |machine| {
        machine.block();
        machine.invalidate();
        let _leaked = machine.target.replace(Box::new(false));
        machine.readers.grace(&thread::yield_now);
    });
}
