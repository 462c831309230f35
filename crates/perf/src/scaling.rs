// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many threads: what the driver does in a second when several CPUs want something of it at once, beside baselines.
//!
//! The SMMU here takes time ([`Timed`]): what it is told is done so many nanoseconds later, and until then CONS says so.

mod baseline;
mod driver;
mod timed;

use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

pub use driver::{Arrangement, Overlap, arranged, enhanced, overlapped};
pub use timed::{Cpus, Timed};

/// How long one case runs.
const CASE: Duration = Duration::from_millis(10);
/// How often; the median counts.
const TIMES: usize = 21;
/// Nanoseconds after which a thread was stopped by something else: runs in which one was are left out where they are the
/// fewer, and there is a processor for each thread.
const STOPPED: f64 = 500_000.0;

/// How many threads there are at once.
pub const THREADS: [usize; 4] = [1, 2, 4, 8];
/// Nanoseconds that the SMMU takes.
pub const LATENCIES: [u64; 3] = [0, 1_000, 10_000];

/// What threads did that all wanted the same.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Operations in a second, of all threads.
    pub rate: f64,
    /// Those of the thread with the fewest, of those of the one with the most.
    pub fairness: f64,
    /// The longest that one took, in nanoseconds.
    pub worst: f64,
}

/// What each thread does over and over, given which it is, and how often it has done it before.
type Work<'a> = &'a (dyn Fn(usize, u64) + Sync);

/// Several kinds of work, by turns: processors of one machine are now near each other, now not, and what is compared with
/// each other has to meet both.
fn rates<const KINDS: usize>(threads: usize, kinds: [Work<'_>; KINDS]) -> [Rate; KINDS] {
    let mut runs = kinds.map(|_| Vec::new());
    for _ in 0..TIMES {
        for (runs, once) in runs.iter_mut().zip(kinds) {
            runs.push(run(threads, once));
        }
    }
    runs.map(|mut runs| {
        let undisturbed = runs.iter().filter(|run| run.worst < STOPPED).count();
        if !timed::is_shared() && undisturbed > TIMES / 2 {
            runs.retain(|run| run.worst < STOPPED);
        }
        runs.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        runs[runs.len() / 2]
    })
}

/// Has `threads` do `once` over and over for a while; it is told which thread it is, and how often that has done it before.
fn run(threads: usize, once: Work<'_>) -> Rate {
    timed::share(threads);
    let (start, common) = (Barrier::new(threads), OnceLock::new());
    let (start, common) = (&start, &common);
    let processors = core_affinity::get_core_ids().unwrap_or_default();
    let processors = &processors;
    let work = |thread: usize| {
        move || {
            timed::be(thread);
            // Else two may share one, and nobody disturbs the other.
            if let Some(&processor) = processors.iter().cycle().nth(thread) {
                core_affinity::set_for_current(processor);
            }
            // Whatever is slow only the first time.
            once(thread, 0);
            start.wait();
            // One for all: a thread that gets a processor later has less time.
            let begun = *common.get_or_init(Instant::now);
            let mut last = begun.elapsed();
            let (mut worst, mut count) = (last, 0u64);
            while last < CASE {
                count += 1;
                once(thread, count);
                let now = begun.elapsed();
                worst = worst.max(now - last);
                last = now;
            }
            (count as f64, worst.as_nanos() as f64, last.as_secs_f64())
        }
    };
    let done: Vec<(f64, f64, f64)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let most = |of: fn(&(f64, f64, f64)) -> f64| done.iter().map(of).fold(0.0, f64::max);
    let least = done.iter().map(|(count, ..)| *count).fold(f64::MAX, f64::min);
    let sum: f64 = done.iter().map(|(count, ..)| *count).sum();
    Rate { rate: sum / most(|it| it.2), fairness: least / most(|it| it.0), worst: most(|it| it.1) }
}

/// A command queue that threads share: gives one command and a CMD_SYNC, and waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// The driver's.
    Tickets,
    /// A lock around the next free slot.
    Lock,
    /// The compare-and-exchange loop, owners, shared lock and valid bits of Linux, written from its description.
    Exchange,
}

impl Queue {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tickets, Self::Lock, Self::Exchange];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tickets => "tickets (this driver)",
            Self::Lock => "spin lock",
            Self::Exchange => "compare-and-exchange loop",
        }
    }

    /// How each of [`Queue::ALL`] does with so many threads, on an SMMU that takes so many nanoseconds.
    pub fn measure(threads: usize, latency: u64) -> [Rate; 3] {
        let tickets = driver::Ticketed::new(Timed::new(latency), threads, 1);
        let locked = baseline::Locked::new(Timed::new(latency));
        let exchanged = baseline::Exchanged::new(Timed::new(latency));
        let [tickets, locked, exchanged]: [Work<'_>; 3] =
            [&|_, count| tickets.carry_out(count), &|_, _| locked.carry_out(2), &|_, _| {
                exchanged.carry_out(2)
            }];
        rates(threads, [tickets, locked, exchanged])
    }
}
