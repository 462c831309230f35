// SPDX-License-Identifier: MIT OR Apache-2.0
//! An unmap while the SMMU is put to sleep or woken, under every interleaving that loom finds within a bound of
//! preemptions. Descriptors and caches are words; the SMMU walks as soon as it may.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use super::*;

const CLEARED: usize = 0;
const MAPPED: usize = 1;

struct Machine {
    state: State,
    descriptor: AtomicUsize,
    /// The SMMU holds a translation.
    cached: AtomicBool,
    /// Its registers answer.
    powered: AtomicBool,
}

impl Machine {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: State::new(),
            descriptor: AtomicUsize::new(MAPPED),
            cached: AtomicBool::new(true),
            powered: AtomicBool::new(true),
        })
    }

    /// As `Iommu::suspend`: what is in the caches stays there.
    fn suspend(&self) {
        self.state.sleep();
        self.state.wait_outside(thread::yield_now);
        self.powered.store(false, Ordering::Relaxed);
    }

    /// As `Iommu::resume`: empty caches, then it may walk, and does.
    fn resume(&self) {
        self.powered.store(true, Ordering::Relaxed);
        self.state.work();
        self.cached.store(false, Ordering::Release);
        self.walk();
    }

    /// Woken the wrong way round: it walks, and then says so.
    fn resume_too_late(&self) {
        self.powered.store(true, Ordering::Relaxed);
        self.cached.store(false, Ordering::Release);
        self.walk();
        self.state.work();
    }

    fn walk(&self) {
        if self.descriptor.load(Ordering::Relaxed) == MAPPED {
            self.cached.store(true, Ordering::Release);
        }
    }

    /// As `Domain::unmap`; whether it told the SMMU.
    fn unmap(&self) -> bool {
        self.descriptor.store(CLEARED, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        loop {
            if self.state.now().works() {
                return true;
            }
            if self.state.elides() {
                return false;
            }
        }
    }

    /// As whoever waits for a command: reads a register.
    fn look(&self) {
        if let Some(_inside) = self.state.enter(1) {
            assert!(self.powered.load(Ordering::Relaxed), "a register was read without power");
        }
    }
}

fn explore(check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

fn unmap_against(resume: fn(&Machine)) {
    explore(move || {
        let machine = Machine::new();
        machine.suspend();
        let other = machine.clone();
        let waking = thread::spawn(move || resume(&other));
        let told = machine.unmap();
        waking.join().unwrap();
        // What was told is gone; what was elided must not be there.
        assert!(told || !machine.cached.load(Ordering::Acquire), "an elided unmap is cached");
    });
}

#[test]
fn an_unmap_that_is_elided_is_seen_by_the_woken_smmu() {
    unmap_against(Machine::resume);
}

#[test]
#[should_panic = "an elided unmap is cached"]
fn an_smmu_that_walks_before_it_says_so_is_caught() {
    unmap_against(Machine::resume_too_late);
}

#[test]
fn nobody_reads_a_register_of_an_smmu_without_power() {
    explore(|| {
        let machine = Machine::new();
        let other = machine.clone();
        let looking = thread::spawn(move || other.look());
        machine.suspend();
        looking.join().unwrap();
    });
}
