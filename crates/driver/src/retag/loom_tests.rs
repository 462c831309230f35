// SPDX-License-Identifier: MIT OR Apache-2.0
//! A change of tags and whoever works at the same time, under every interleaving that loom finds within a bound of
//! preemptions. The order of the steps, the snapshot of the targets, its readers and the mutex are the driver's; the
//! SMMU is a stand-in that uses what it once read of an entry until it is told otherwise. Each test has twins in which
//! a step is missing or out of place, and which must fail.

use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use super::{Steps, in_order};
use crate::ids::{Ids, Order};
use crate::mutex::loom_lock::Lock;
use crate::targets::{Readers, Retired, Snapshot};

/// Preemptions of three threads.
const OF_THREE: usize = 3;
/// Preemptions of two threads.
const OF_TWO: usize = 5;

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// The tag before, and the one after.
const OLD: usize = 0;
const NEW: usize = 1;
/// The stream whose tag is changed, and one that keeps it when its master is in another bank.
const MOVED: usize = 0;
const OTHER: usize = 1;

/// What the SMMU holds. Whatever it does, it does with this locked: a walk is over before a command is complete.
#[derive(Default)]
struct Smmu {
    /// Of each stream: the tag in its entry, or its context, as it was read.
    entries: [Option<usize>; 2],
    /// By tag: it has a translation of the page, by way of the table that is unmapped.
    tlb: [bool; 2],
}

/// An SMMU, and an address space that two streams use, of which a table is unmapped.
struct Machine {
    smmu: Mutex<Smmu>,
    /// Of each stream: the tag in its entry, or its context, in memory.
    entries: [AtomicUsize; 2],
    /// The descriptor that links the table.
    link: AtomicBool,
    /// std's, which loom does not see, so that it orders nothing.
    freed: std::sync::atomic::AtomicBool,
    broken: std::sync::Mutex<Vec<&'static str>>,
    readers: Readers,
    /// Which tags are targets.
    targets: Snapshot<[bool; 2]>,
}

impl Machine {
    fn new() -> Self {
        Self {
            smmu: Mutex::new(Smmu { entries: [None; 2], tlb: [true, false] }),
            entries: [AtomicUsize::new(OLD), AtomicUsize::new(OLD)],
            link: AtomicBool::new(true),
            freed: std::sync::atomic::AtomicBool::new(false),
            broken: std::sync::Mutex::default(),
            readers: Readers::new(1).unwrap(),
            targets: Snapshot::new(Box::new([true, false])),
        }
    }

    fn rule(&self, holds: bool, rule: &'static str) {
        if !holds {
            self.broken.lock().unwrap().push(rule);
        }
    }

    /// A device behind `stream` accesses the page.
    fn walk(&self, stream: usize) {
        let mut smmu = self.smmu.lock().unwrap();
        // It walks the tables that the entry leads to: what it reads there comes after.
        let read = || self.entries[stream].load(Ordering::Acquire);
        let tag = *smmu.entries[stream].get_or_insert_with(read);
        if smmu.tlb[tag] || self.link.load(Ordering::Relaxed) {
            smmu.tlb[tag] = true;
            self.rule(!self.freed.load(Ordering::Relaxed), "R1: what was unmapped is reached");
        }
    }

    /// CFGI and its SYNC.
    fn forget_entry(&self, stream: usize) {
        self.smmu.lock().unwrap().entries[stream] = None;
    }

    /// TLBI and its SYNC.
    fn forget(&self, tag: usize) {
        self.smmu.lock().unwrap().tlb[tag] = false;
    }

    /// As `Domain::unmap`: the table is unlinked, and freed when nobody can reach it.
    fn unmap(&self) {
        self.link.store(false, Ordering::Relaxed);
        self.readers.read(0, &self.targets, |targets| {
            for tag in [OLD, NEW].into_iter().filter(|tag| targets[*tag]) {
                self.forget(tag);
            }
        });
        let smmu = self.smmu.lock().unwrap();
        self.rule(!smmu.tlb[OLD], "R6: the unmap missed the old tag");
        self.rule(!smmu.tlb[NEW], "R6: the unmap missed the new tag");
        self.freed.store(true, Ordering::Relaxed);
    }
}

/// The change of the tag of `MOVED`, with the driver's steps at their smallest.
struct Move<'a> {
    machine: &'a Machine,
    retired: Vec<Option<Retired<[bool; 2]>>>,
    /// Nobody uses the old tag afterwards.
    left: bool,
}

impl Move<'_> {
    fn store_entry(&self) {
        self.machine.entries[MOVED].swap(NEW, Ordering::Release);
    }
}

impl Steps for Move<'_> {
    fn publish(&mut self) {
        self.retired.push(Some(self.machine.targets.replace(Box::new([true, true]))));
    }

    fn rewrite(&mut self) {
        self.store_entry();
        self.machine.forget_entry(MOVED);
    }

    fn flush(&mut self) {
        if self.left {
            self.machine.forget(OLD);
        }
    }

    fn withdraw(&mut self) {
        if self.left {
            self.retired.push(Some(self.machine.targets.replace(Box::new([false, true]))));
        }
        let retired = core::mem::take(&mut self.retired);
        Retired::free(retired, &self.machine.readers, thread::yield_now);
    }
}

/// An unmap, a change of tags, and the SMMU, which is the first thread: it is where it is wanted without a preemption.
fn unmap_and_move(
    streams: &'static [usize],
    left: bool,
    order: impl Fn(&mut Move<'_>) + Send + Sync + Copy + 'static,
) {
    explore(OF_THREE, move || {
        let machine = Arc::new(Machine::new());
        let unmap = {
            let machine = machine.clone();
            thread::spawn(move || machine.unmap())
        };
        let moving = {
            let machine = machine.clone();
            thread::spawn(move || {
                order(&mut Move { machine: &machine, retired: Vec::new(), left });
                // The old tag is given to somebody else.
                let smmu = machine.smmu.lock().unwrap();
                let clean = smmu.entries[MOVED] != Some(OLD) && (!left || !smmu.tlb[OLD]);
                machine.rule(clean, "R2: a tag that is in a cache is given back");
            })
        };
        for stream in streams {
            machine.walk(*stream);
            thread::yield_now();
        }
        unmap.join().unwrap();
        moving.join().unwrap();
        for stream in streams {
            machine.walk(*stream);
        }
        let broken = machine.broken.lock().unwrap();
        assert!(broken.is_empty(), "{broken:?}");
    });
}

/// Devices go on, before, while and after their tag is changed.
const ONE: &[usize] = &[MOVED, MOVED];

#[test]
fn loom_an_unmap_reaches_both_tags_while_one_becomes_the_other() {
    unmap_and_move(ONE, true, |change| in_order(change));
}

#[test]
#[should_panic(expected = "R6: the unmap missed the new tag")]
fn loom_twin_that_publishes_after_the_rewrite_is_missed_under_the_new_tag() {
    unmap_and_move(ONE, true, |change| {
        change.rewrite();
        change.publish();
        change.flush();
        change.withdraw();
    });
}

#[test]
#[should_panic(expected = "R6: the unmap missed the old tag")]
fn loom_twin_that_withdraws_before_the_flush_is_missed_under_the_old_tag() {
    unmap_and_move(ONE, true, |change| {
        change.publish();
        change.rewrite();
        change.withdraw();
        change.flush();
    });
}

#[test]
#[should_panic(expected = "R6: the unmap missed the old tag")]
fn loom_twin_that_flushes_before_the_rewrite_is_walked_once_more_under_the_old_tag() {
    unmap_and_move(ONE, true, |change| {
        change.publish();
        change.flush();
        change.rewrite();
        change.withdraw();
    });
}

#[test]
#[should_panic(expected = "R2: a tag that is in a cache is given back")]
fn loom_twin_that_does_not_wait_for_the_rewrite_gives_back_what_is_in_use() {
    unmap_and_move(ONE, true, |change| {
        change.publish();
        change.store_entry();
        change.flush();
        change.withdraw();
    });
}

/// A change of bank: the stream of another master keeps the tag.
const TWO: &[usize] = &[MOVED, OTHER];

#[test]
fn loom_an_unmap_reaches_both_tags_where_another_master_keeps_the_old_one() {
    unmap_and_move(TWO, false, |change| in_order(change));
}

#[test]
#[should_panic(expected = "R6: the unmap missed the old tag")]
fn loom_twin_that_withdraws_what_another_master_keeps_is_missed_under_the_old_tag() {
    unmap_and_move(TWO, false, |change| {
        change.publish();
        change.rewrite();
        change.left = true;
        change.flush();
        change.withdraw();
    });
}

/// An address space that is given another tag from two sides at once.
struct Twice {
    configuration: crate::mutex::Mutex<Lock, ()>,
    /// What the configuration mutex guards. loom does not see this lock: it orders nothing.
    asids: std::sync::Mutex<Ids>,
    /// The tag of the space, as the configuration has it, and as its context has it.
    place: AtomicUsize,
    context: AtomicUsize,
    readers: Readers,
    targets: Snapshot<Vec<usize>>,
    broken: std::sync::Mutex<Vec<&'static str>>,
}

const FREE: usize = 63;

impl Twice {
    fn new() -> Self {
        let mut asids = Ids::new(6).unwrap();
        let tag = asids.allocate(6, Order::Ascending).unwrap() as usize;
        Self {
            configuration: crate::mutex::Mutex::new(()),
            asids: std::sync::Mutex::new(asids),
            place: AtomicUsize::new(tag),
            context: AtomicUsize::new(tag),
            readers: Readers::new(1).unwrap(),
            targets: Snapshot::new(Box::new(std::vec![tag])),
            broken: std::sync::Mutex::default(),
        }
    }

    fn change(&self, free: bool) {
        self.change_from(self.place.load(Ordering::Relaxed), free);
    }

    fn change_from(&self, from: usize, free: bool) {
        let to = self.asids.lock().unwrap().allocate(6, Order::Ascending).unwrap() as usize;
        in_order(&mut Once { twice: self, from, to, free, retired: Vec::new() });
        self.place.swap(to, Ordering::Relaxed);
        let mut asids = self.asids.lock().unwrap();
        if asids.is_free(from as u32) {
            self.broken.lock().unwrap().push("R2: a tag was given back twice");
        }
        asids.release(from as u32);
    }
}

struct Once<'a> {
    twice: &'a Twice,
    from: usize,
    to: usize,
    /// Replaced targets are freed. They leak where somebody else may be copying them.
    free: bool,
    retired: Vec<Option<Retired<Vec<usize>>>>,
}

impl Once<'_> {
    fn replace(&mut self, change: impl FnOnce(&mut Vec<usize>)) {
        let mut targets = self.twice.targets.for_writer().clone();
        change(&mut targets);
        self.retired.push(Some(self.twice.targets.replace(Box::new(targets))));
    }
}

impl Steps for Once<'_> {
    fn publish(&mut self) {
        let to = self.to;
        self.replace(|targets| targets.push(to));
    }

    fn rewrite(&mut self) {
        self.twice.context.swap(self.to, Ordering::Release);
    }

    fn flush(&mut self) {}

    fn withdraw(&mut self) {
        let from = self.from;
        self.replace(|targets| targets.retain(|tag| *tag != from));
        let retired = core::mem::take(&mut self.retired);
        if self.free {
            Retired::free(retired, &self.twice.readers, thread::yield_now);
        }
    }
}

fn move_twice(change: impl Fn(&Twice) + Send + Sync + Copy + 'static) {
    explore(OF_TWO, move || {
        let twice = Arc::new(Twice::new());
        let other = {
            let twice = twice.clone();
            thread::spawn(move || change(&twice))
        };
        change(&twice);
        other.join().unwrap();
        let tag = twice.context.load(Ordering::Relaxed);
        let broken = twice.broken.lock().unwrap();
        assert!(broken.is_empty(), "{broken:?}");
        assert_eq!(*twice.targets.for_writer(), [tag], "R6: a tag was lost");
        let asids = twice.asids.lock().unwrap();
        assert!(!asids.is_free(tag as u32) && asids.free() == FREE - 1, "R2: a tag was lost");
    });
}

#[test]
fn loom_of_two_changes_of_one_space_no_tag_is_lost_and_none_given_back_twice() {
    move_twice(|twice| twice.configuration.with(|()| twice.change(true)));
}

#[test]
#[should_panic(expected = "R6: a tag was lost")]
fn loom_twin_without_the_mutex_loses_a_tag() {
    move_twice(|twice| twice.change(false));
}

#[test]
#[should_panic(expected = "R6: a tag was lost")]
fn loom_twin_that_looks_at_the_old_tag_before_it_has_the_mutex_loses_the_new_one() {
    move_twice(|twice| {
        let from = twice.place.load(Ordering::Relaxed);
        twice.configuration.with(|()| twice.change_from(from, true));
    });
}
