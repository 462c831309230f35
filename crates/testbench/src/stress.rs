// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver on real threads, with everything at once: pages come and go while masters are attached and detached,
//! tags of live domains are changed, processes are bound and die, SMMUs do whatever is allowed, and events are taken.
//!
//! Each worker owns pages, masters and a process, so it knows what must be true of them, and looks at once: after a
//! map, whatever is attached reaches exactly its memory (R0); after an unmap, detach, unbind or release nobody does
//! (R1), nothing is left in a TLB (R2) or under way, and what is freed cannot be read any more (R3). An attach that the policy refuses leaves
//! its master as it was (R8). At the end all memory is given back. A run is not deterministic: the seed says what each worker does, not when.

mod counts;
mod cpu;
mod hardware;
mod process;
mod setup;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
pub use smmuv3::AsidPolicy;

pub use counts::Counts;

use crate::panics;
use counts::Counters;
use setup::Setup;
use worker::Worker;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Stress {
    /// Workers, 1 to 64. Two threads more are hardware, and a CPU that takes events.
    pub threads: usize,
    /// SMMUs, 2 to 16: every other one has 8-bit ASIDs; of the others each takes part in broadcasts.
    pub instances: usize,
    /// Where everything random starts.
    pub seed: u64,
    /// When each worker stops.
    pub until: Until,
    /// The driver leaves a step out.
    #[cfg(feature = "mutation")]
    pub mutation: Option<smmuv3::Mutation>,
}

/// Eight workers and four SMMUs, for half a minute.
impl Default for Stress {
    fn default() -> Self {
        Self {
            threads: 8,
            instances: 4,
            seed: 1,
            until: Until::Time(Duration::from_secs(30)),
            #[cfg(feature = "mutation")]
            mutation: None,
        }
    }
}

/// When a worker stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so many operations.
    Rounds(u64),
    /// After so long.
    Time(Duration),
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The policy.
    pub policy: &'static str,
    /// The seed.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// What was done.
    pub counts: Counts,
    /// What was wrong first.
    pub failure: Option<String>,
}

impl Stress {
    /// Most workers.
    pub const MOST_THREADS: usize = 64;
    /// Most SMMUs.
    pub const MOST_INSTANCES: usize = 16;

    /// Does it with `policy`, and tells now and then how far it is.
    pub fn run(&self, policy: AsidPolicy, tell: &mut dyn FnMut(&Counts)) -> Outcome {
        let started = Instant::now();
        let counters = Counters::default();
        let failure = self.checked().and_then(|()| self.work(policy, &counters, started, tell));
        Outcome {
            policy: policy.name(),
            seed: self.seed,
            seconds: started.elapsed().as_secs_f64(),
            counts: counters.counts(),
            failure: failure.err(),
        }
    }

    fn checked(&self) -> Result<(), String> {
        let (threads, instances) = (1..=Self::MOST_THREADS, 2..=Self::MOST_INSTANCES);
        if !threads.contains(&self.threads) || !instances.contains(&self.instances) {
            return Err(format!("it takes {threads:?} threads and {instances:?} instances"));
        }
        Ok(())
    }

    fn work(
        &self,
        policy: AsidPolicy,
        counters: &Counters,
        started: Instant,
        tell: &mut dyn FnMut(&Counts),
    ) -> Result<(), String> {
        let setup = panics::catch(|| Setup::new(self, policy)).and_then(|setup| setup)?;
        // Whatever is wrong, all stop.
        let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (done, dones) = mpsc::channel();
        let guard = |work: &dyn Fn() -> Result<(), String>| {
            let result = panics::catch(work).unwrap_or_else(|said| Err(format!("panic: {said}")));
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            result
        };
        let result = thread::scope(|scope| {
            let (setup, stop, over, guard) = (&setup, &stop, &over, &guard);
            for id in 0..self.threads {
                let done = done.clone();
                scope.spawn(move || {
                    let worker = || {
                        let worker = Worker::new(self, policy, setup, counters, id);
                        worker.run(self.until, started, stop)
                    };
                    let _ = done.send(guard(&worker));
                });
            }
            let hardware = scope.spawn(|| guard(&|| hardware::act(setup, over)));
            let reports = scope.spawn(|| guard(&|| hardware::report(setup, counters, over)));
            let mut result = Ok(());
            let mut left = self.threads;
            while left > 0 {
                match dones.recv_timeout(Duration::from_millis(100)) {
                    Ok(of_one) => {
                        left -= 1;
                        result = result.and(of_one);
                    }
                    Err(_) => tell(&counters.counts()),
                }
            }
            over.store(true, Ordering::Relaxed);
            for other in [hardware, reports] {
                let of_one = other.join().unwrap_or_else(|_| Err("panic".to_owned()));
                result = result.and(of_one);
            }
            result
        });
        match result {
            Ok(()) => panics::catch(|| setup.tear_down()).and_then(|result| result),
            // What is half done is left alone.
            Err(failure) => {
                std::mem::forget(setup);
                Err(failure)
            }
        }
    }
}
