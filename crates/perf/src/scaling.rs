// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many threads: what the driver does in a second when several CPUs want something of it at once, beside baselines.
//!
//! The SMMU here takes time. Of [`Timed`], what it is told is done so many nanoseconds later, and until then CONS says so;
//! [`Modelled`] carries it out, too.

mod baseline;
mod cpus;
mod driver;
mod modelled;
mod timed;

use std::hint::black_box;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use smmuv3::Mmio;
use smmuv3_formats::command::Sync as CmdSync;

use baseline::{Exchanged, Locked};
pub use cpus::Cpus;
pub use driver::{Arrangement, Overlap, arranged, enhanced, overlapped};
use driver::{Ticketed, invalidation};
pub use modelled::{Account, Clock, Modelled};
pub use timed::Timed;

/// How long one case runs.
const CASE: Duration = Duration::from_millis(10);
/// How often; the median counts.
const TIMES: usize = 21;
/// On how many machines queues are measured; the median counts.
const MACHINES: usize = 5;
/// Memory of a machine with one SMMU and no domain.
const BYTES: usize = 1 << 20;
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

/// The same, with all that it needs.
pub type Owned = Box<dyn Fn(usize, u64) + Send + Sync>;

/// Several kinds of work, by turns: processors of one machine are now near each other, now not, and what is compared with
/// each other has to meet both.
fn rates<const KINDS: usize>(threads: usize, kinds: [Work<'_>; KINDS]) -> [Rate; KINDS] {
    judged(threads, kinds, |_, _| ())
}

/// The same; after each run `judge` is told which kind it was of, and how often its work was done.
fn judged<const KINDS: usize>(
    threads: usize,
    kinds: [Work<'_>; KINDS],
    judge: impl Fn(usize, u64),
) -> [Rate; KINDS] {
    let mut runs = kinds.map(|_| Vec::new());
    for _ in 0..TIMES {
        for (kind, (runs, once)) in runs.iter_mut().zip(kinds).enumerate() {
            let (rate, count) = run(threads, once);
            judge(kind, count);
            runs.push(rate);
        }
    }
    runs.map(|mut runs| {
        let undisturbed = runs.iter().filter(|run| run.worst < STOPPED).count();
        if !cpus::is_shared() && undisturbed > TIMES / 2 {
            runs.retain(|run| run.worst < STOPPED);
        }
        median(runs)
    })
}

fn median(mut rates: Vec<Rate>) -> Rate {
    rates.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    rates[rates.len() / 2]
}

/// What comes of `measure`, each time with a machine of its own: where its memory lies stays so for as long as it is there, and makes
/// one queue or the other faster by some per cent.
fn on_machines<const KINDS: usize>(measure: impl Fn() -> [Rate; KINDS]) -> [Rate; KINDS] {
    let all: Vec<_> = (0..MACHINES).map(|_| measure()).collect();
    std::array::from_fn(|kind| median(all.iter().map(|rates| rates[kind]).collect()))
}

/// Has so many threads do `work` at the same time, which is told which of them it is: what came of each.
pub fn together<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    cpus::share(threads);
    let processors = core_affinity::get_core_ids().unwrap_or_default();
    let (processors, work) = (&processors, &work);
    let begin = |thread: usize| {
        move || {
            cpus::be(thread);
            // Else two may share one, and nobody disturbs the other.
            if let Some(&processor) = processors.iter().cycle().nth(thread) {
                core_affinity::set_for_current(processor);
            }
            work(thread)
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(begin(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// Has `threads` do `once` over and over for a while; it is told which thread it is, and how often that has done it before.
/// How they did, and how often it was done.
fn run(threads: usize, once: Work<'_>) -> (Rate, u64) {
    let (start, common) = (Barrier::new(threads), OnceLock::new());
    let done = together(threads, |thread| {
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
        (count, worst.as_nanos() as f64, last.as_secs_f64())
    });
    let counts = || done.iter().map(|(count, ..)| *count);
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let sum: u64 = counts().sum();
    let time = done.iter().map(|it| it.2).fold(0.0, f64::max);
    let rate = Rate {
        rate: sum as f64 / time,
        fairness: least as f64 / most as f64,
        worst: done.iter().map(|it| it.1).fold(0.0, f64::max),
    };
    (rate, sum + threads as u64)
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

    /// One of an SMMU and its memory: has one TLBI and a CMD_SYNC carried out, and waits for them. It is told by which thread,
    /// and how often that has done it before.
    pub fn on<M: Mmio + 'static>(self, cpus: Cpus<M>, smmu: M) -> Owned {
        match self {
            Self::Tickets => {
                let queue = Ticketed::new(cpus, smmu, 1);
                Box::new(move |_, count| queue.carry_out(invalidation(count)))
            }
            Self::Lock => {
                let queue = Locked::new(cpus, smmu);
                Box::new(move |_, count| queue.carry_out(&[invalidation(count)]))
            }
            Self::Exchange => {
                let queue = Exchanged::new(cpus, smmu);
                Box::new(move |_, count| queue.carry_out(&[invalidation(count)]))
            }
        }
    }

    /// How each of [`Queue::ALL`] does with so many threads, on an SMMU that takes so many nanoseconds ([`Timed`]).
    pub fn measure(threads: usize, latency: u64) -> [Rate; 3] {
        on_machines(|| {
            let queues = Self::ALL.map(|it| it.on(Cpus::new(threads, BYTES), Timed::new(latency)));
            rates(threads, queues.each_ref().map(|queue| &**queue as Work<'_>))
        })
    }

    /// The same, carried out by the model, where each CMD_SYNC takes so many nanoseconds ([`Modelled`]).
    ///
    /// # Panics
    /// When the model did anything else than it was to do in one of the runs: then what was measured is worth nothing.
    pub fn measure_on_model(threads: usize, latency: u64) -> [Rate; 3] {
        on_machines(|| Self::once_on_model(threads, latency))
    }

    fn once_on_model(threads: usize, latency: u64) -> [Rate; 3] {
        let machines = Self::ALL.map(|queue| {
            let cpus = Cpus::new(threads, BYTES);
            let smmu = Modelled::new(cpus.bytes(), latency, clock());
            (queue.on(cpus, smmu.clone()), smmu)
        });
        for (_, smmu) in &machines {
            // Of the set-up.
            assert_eq!(smmu.account().wrong, []);
        }
        let works = machines.each_ref().map(|(queue, _)| &**queue as Work<'_>);
        judged(threads, works, |kind, count| {
            let expected = Account { syncs: count, invalidations: count, ..Account::default() };
            assert_eq!(machines[kind].1.account(), expected);
        })
    }
}

/// The time since now.
fn clock() -> Clock {
    let begun = Instant::now();
    Box::new(move || begun.elapsed().as_nanos() as u64)
}

/// Nanoseconds that [`Modelled`] takes for a command on one thread, as many TLBIs as CMD_SYNCs, with no time of their own:
/// the median of many batches.
pub fn of_a_command() -> f64 {
    const PAIRS: u64 = 64;
    const BATCHES: usize = 1001;
    let cpus = Cpus::new(1, BYTES);
    let smmu = Modelled::new(cpus.bytes(), 0, clock());
    let queue = Locked::new(cpus, smmu);
    let pairs = (0..PAIRS).flat_map(|count| [invalidation(count), CmdSync::new().into()]);
    let mut commands: Vec<_> = pairs.collect();
    // The queue adds the last.
    commands.pop();
    let mut times = together(1, |_| {
        let timed = (0..BATCHES).map(|_| {
            let begun = Instant::now();
            queue.carry_out(black_box(&commands));
            begun.elapsed().as_nanos() as f64 / (2 * PAIRS) as f64
        });
        timed.collect::<Vec<_>>()
    })
    .remove(0);
    times.sort_by(f64::total_cmp);
    times[BATCHES / 2]
}
