// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bind and the end of the process at once, under every interleaving that loom finds within a bound of preemptions.
//! The mutex is the driver's; contexts are words that an SMMU reads whenever it likes.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::mutex::loom_lock::Lock;

/// What a context can say.
const INVALID: usize = 0;
const LIVE: usize = 1;
const QUIET: usize = 2;

/// A process, and the contexts of two masters for it.
struct Machine {
    /// How many masters are bound.
    configuration: crate::mutex::Mutex<Lock, usize>,
    /// The process is gone. Relaxed, as in the driver: the mutex is what orders it. There, whoever asks must show that
    /// it is held ([`crate::process::Registers::life`]).
    released: AtomicBool,
    contexts: [AtomicUsize; 2],
    /// The kernel has the process's tables back.
    gone: AtomicBool,
}

impl Machine {
    fn install(&self, bound: &mut usize) {
        self.contexts[*bound].swap(LIVE, Ordering::Release);
        *bound += 1;
    }

    fn set_released(&self) {
        self.released.swap(true, Ordering::Relaxed);
    }

    /// As `Process::bind`; whether it did.
    fn bind(&self) -> bool {
        self.configuration.with(|bound| {
            let may = !self.released.load(Ordering::Relaxed);
            if may {
                self.install(bound);
            }
            may
        })
    }

    fn bind_after_a_look(&self) -> bool {
        let may = !self.released.load(Ordering::Relaxed);
        if may {
            self.configuration.with(|bound| self.install(bound));
        }
        may
    }

    /// As `Process::release`.
    fn release(&self) {
        self.configuration.with(|bound| {
            self.set_released();
            for context in self.contexts.iter().take(*bound) {
                context.swap(QUIET, Ordering::Release);
            }
        });
        self.gone.store(true, Ordering::Release);
    }

    /// The flag is set when it is too late for those who came meanwhile.
    fn release_before_the_flag(&self) {
        self.configuration.with(|bound| {
            for context in self.contexts.iter().take(*bound) {
                context.swap(QUIET, Ordering::Release);
            }
        });
        self.configuration.with(|_| self.set_released());
        self.gone.store(true, Ordering::Release);
    }

    /// The SMMU looks at the contexts.
    fn look(&self) {
        if self.gone.load(Ordering::Acquire) {
            for context in &self.contexts {
                let live = context.load(Ordering::Relaxed) == LIVE;
                assert!(!live, "R1: a context is live after the release has returned");
            }
        }
    }
}

/// A second master is bound while the process ends. The SMMU is the first thread.
fn bind_and_release(
    bind: impl Fn(&Machine) -> bool + Send + Sync + Copy + 'static,
    release: impl Fn(&Machine) + Send + Sync + Copy + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let machine = Arc::new(Machine {
            configuration: crate::mutex::Mutex::new(0),
            released: AtomicBool::new(false),
            contexts: [AtomicUsize::new(INVALID), AtomicUsize::new(INVALID)],
            gone: AtomicBool::new(false),
        });
        assert!(bind(&machine));
        let binding = {
            let machine = machine.clone();
            thread::spawn(move || bind(&machine))
        };
        let releasing = {
            let machine = machine.clone();
            thread::spawn(move || release(&machine))
        };
        machine.look();
        let bound = binding.join().unwrap();
        machine.look();
        releasing.join().unwrap();
        machine.look();
        let contexts = [0, 1].map(|master| machine.contexts[master].load(Ordering::Relaxed));
        assert_eq!(contexts, [QUIET, if bound { QUIET } else { INVALID }]);
        assert!(!bind(&machine), "bound to a process that is gone");
    });
}

#[test]
fn loom_no_context_is_live_after_a_release_whoever_binds_meanwhile() {
    bind_and_release(Machine::bind, Machine::release);
}

#[test]
#[should_panic(expected = "R1: a context is live after the release has returned")]
fn loom_twin_whose_bind_looks_at_the_flag_before_it_has_the_mutex_leaves_a_live_context() {
    bind_and_release(Machine::bind_after_a_look, Machine::release);
}

#[test]
#[should_panic(expected = "R1: a context is live after the release has returned")]
fn loom_twin_whose_release_sets_the_flag_in_a_section_of_its_own_leaves_a_live_context() {
    bind_and_release(Machine::bind, Machine::release_before_the_flag);
}
