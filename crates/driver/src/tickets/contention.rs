// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a command costs when sixteen CPUs give some at once: read-modify-writes, fences, register accesses, and turns
//! in which a CPU waits for another one. Counted under shuttle's random schedules, not timed.
//!
//! Beside the tickets stand two queues that exist only here: one with a spin lock, and one with the
//! compare-and-exchange loop, owners, shared lock and valid bits of Linux, written from their description.
//! Their SMMU is a thread that consumes what it is told of.

use std::sync::Arc;
use std::vec::Vec;
use std::{print, println};

use shuttle::sync::atomic as register;
use shuttle::{hint, thread};

use super::{NoTicket, Poller, Tickets};
use crate::queue::Size;
use crate::sync::{AtomicBool, AtomicU64, Counts, Ordering, fence, put_back, take_counts};

const CPUS: u64 = 16;
const BATCHES: u64 = 8;
const SCHEDULES: usize = 40;
const SEED: u64 = 1;

/// A queue's registers and slots, and what they cost.
struct Hardware {
    size: Size,
    prod: register::AtomicU32,
    cons: register::AtomicU32,
    /// What is in each slot: the position that it was written for.
    slots: Vec<register::AtomicU64>,
    writes: register::AtomicU64,
    reads: register::AtomicU64,
    /// Turns in which a CPU waits for another one with interrupts masked.
    spins: register::AtomicU64,
    /// Turns in which a CPU waits although the SMMU has nothing to do: for another one, with interrupts on.
    waits: register::AtomicU64,
}

impl Hardware {
    fn new(size: Size) -> Self {
        Self {
            size,
            prod: register::AtomicU32::new(0),
            cons: register::AtomicU32::new(0),
            slots: (0..size.entries()).map(|_| register::AtomicU64::new(u64::MAX)).collect(),
            writes: register::AtomicU64::new(0),
            reads: register::AtomicU64::new(0),
            spins: register::AtomicU64::new(0),
            waits: register::AtomicU64::new(0),
        }
    }

    fn write_prod(&self, value: u32) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.prod.store(value, Ordering::SeqCst);
    }

    fn read_cons(&self) -> u32 {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.cons.load(Ordering::SeqCst)
    }

    fn fill(&self, position: u64) {
        self.slots[self.size.slot(position)].store(position, Ordering::Relaxed);
    }

    /// A CPU with interrupts masked can go on only when another one has.
    fn spin(&self) {
        self.spins.fetch_add(1, Ordering::Relaxed);
        hint::spin_loop();
    }

    /// A CPU can go on only when the SMMU has, or if that has nothing to do, another CPU.
    fn wait(&self) {
        if self.prod.load(Ordering::SeqCst) == self.cons.load(Ordering::SeqCst) {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        thread::yield_now();
    }

    /// The SMMU: consumes `count` commands, each of which must be in its place.
    fn consume(&self, count: u64) {
        let mut at = 0;
        while at < count {
            while self.size.register(at) != self.prod.load(Ordering::SeqCst) {
                let found = self.slots[self.size.slot(at)].load(Ordering::Relaxed);
                assert_eq!(
                    found & (2 * self.size.entries() - 1),
                    u64::from(self.size.register(at))
                );
                at += 1;
                self.cons.store(self.size.register(at), Ordering::SeqCst);
            }
            thread::yield_now();
        }
    }
}

/// A command queue: gives a batch of so many slots, and waits until it is consumed.
trait Queue: Send + Sync + 'static {
    fn new(size: Size) -> Self;
    fn hardware(&self) -> &Hardware;
    fn carry_out(&self, slots: u64);
}

/// The driver's.
struct Ticketed {
    hardware: Hardware,
    tickets: Tickets,
    marks: Vec<AtomicU64>,
}

impl Queue for Ticketed {
    fn new(size: Size) -> Self {
        let marks = (0..size.entries()).map(|_| AtomicU64::new(0)).collect();
        Self { hardware: Hardware::new(size), tickets: Tickets::new(size), marks }
    }

    fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    fn carry_out(&self, slots: u64) {
        let Self { hardware, tickets, marks } = self;
        let turn = |poller: &mut Poller<'_>| {
            poller.turn(|| hardware.read_cons()).unwrap();
            hardware.wait();
        };
        let mut poller = Poller::new(tickets, tickets.room_is_at(slots), 0);
        let drawn = loop {
            match tickets.draw(slots) {
                Ok(drawn) => break drawn,
                Err(NoTicket::Full) => {
                    turn(&mut poller);
                    tickets.share(poller.consumed());
                }
                Err(NoTicket::Closed) => unreachable!("nobody resets this queue"),
            }
        };
        drop(poller);
        let (start, end) = (drawn.start, drawn.start + slots);
        (start..end).for_each(|position| hardware.fill(position));
        tickets.publish(marks, drawn, end, |to| hardware.write_prod(hardware.size.register(to)));
        let mut poller = Poller::new(tickets, start, 0);
        while poller.consumed() < end {
            turn(&mut poller);
        }
    }
}

/// A spin lock around the next free slot.
struct Locked {
    hardware: Hardware,
    taken: AtomicBool,
    tail: AtomicU64,
    consumed: AtomicU64,
}

impl Locked {
    fn observe(&self) {
        let behind = self.consumed.load(Ordering::Acquire);
        let position = self.hardware.size.after(behind, self.hardware.read_cons());
        if position > behind {
            self.consumed.fetch_max(position, Ordering::AcqRel);
        }
    }
}

impl Queue for Locked {
    fn new(size: Size) -> Self {
        Self {
            hardware: Hardware::new(size),
            taken: AtomicBool::new(false),
            tail: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
        }
    }

    fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    fn carry_out(&self, slots: u64) {
        let hardware = &self.hardware;
        let end = loop {
            while self.taken.swap(true, Ordering::Acquire) {
                hardware.spin();
            }
            let start = self.tail.load(Ordering::Relaxed);
            let end = start + slots;
            let room = end <= self.consumed.load(Ordering::Acquire) + hardware.size.entries();
            if room {
                (start..end).for_each(|position| hardware.fill(position));
                self.tail.store(end, Ordering::Relaxed);
                fence(Ordering::Release);
                hardware.write_prod(hardware.size.register(end));
            }
            self.taken.store(false, Ordering::Release);
            if room {
                break end;
            }
            self.observe();
            hardware.wait();
        };
        while self.consumed.load(Ordering::Acquire) < end {
            self.observe();
            hardware.wait();
        }
    }
}

/// Producer and consumer index in one word, changed by compare-and-exchange; the producer that finds no owner owns
/// the run that begins with its slots, and publishes what others have added to it meanwhile.
struct Exchanged {
    hardware: Hardware,
    /// PROD in the lower half, with `OWNED`; CONS in the upper one.
    indices: AtomicU64,
    /// Where the next owner may begin.
    owned_from: AtomicU64,
    /// Those who wait for a CMD_SYNC; negative while one copies CONS.
    sharers: AtomicU64,
    /// A bit a slot, flipped in each lap.
    valid: Vec<AtomicU64>,
}

const OWNED: u64 = 1 << 31;
const EXCLUSIVE: u64 = 1 << 63;

impl Exchanged {
    const fn prod(indices: u64) -> u32 {
        (indices & (OWNED - 1)) as u32
    }

    /// Whether there is room for so many slots.
    fn has_room(&self, indices: u64, slots: u64) -> bool {
        let size = self.hardware.size;
        let used = u64::from(Self::prod(indices).wrapping_sub((indices >> 32) as u32));
        (used & (2 * size.entries() - 1)) + slots <= size.entries()
    }

    /// Stores the upper half; the lower one may be changed by others meanwhile.
    fn set_cons(&self, cons: u32) {
        let mut indices = self.indices.load(Ordering::Relaxed);
        loop {
            let new = indices & u64::from(u32::MAX) | u64::from(cons) << 32;
            // In C it is a plain store of half a word: not counted.
            let counts = take_counts();
            let result =
                self.indices.compare_exchange(indices, new, Ordering::Relaxed, Ordering::Relaxed);
            put_back(counts);
            match result {
                Ok(_) => return,
                Err(found) => indices = found,
            }
        }
    }

    fn is_valid(&self, position: u32) -> bool {
        let size = self.hardware.size;
        let slot = size.slot(u64::from(position));
        let lap = u64::from(position) >> size.log2() & 1;
        (self.valid[slot / 64].load(Ordering::Acquire) >> (slot % 64) & 1) == 1 - lap
    }
}

impl Queue for Exchanged {
    fn new(size: Size) -> Self {
        Self {
            hardware: Hardware::new(size),
            indices: AtomicU64::new(0),
            owned_from: AtomicU64::new(0),
            sharers: AtomicU64::new(0),
            valid: (0..size.entries().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    fn carry_out(&self, slots: u64) {
        let hardware = &self.hardware;
        let wrap = |position: u64| hardware.size.register(position);
        // 1: allocate.
        let mut old = self.indices.load(Ordering::Relaxed);
        loop {
            while !self.has_room(old, slots) {
                let (free, taken) = (Ordering::Relaxed, Ordering::Relaxed);
                if self.sharers.compare_exchange(0, EXCLUSIVE, free, taken).is_ok() {
                    self.set_cons(hardware.read_cons());
                    self.sharers.fetch_and(!EXCLUSIVE, Ordering::Release);
                } else {
                    hardware.spin();
                }
                old = self.indices.load(Ordering::Relaxed);
            }
            let prod = wrap(u64::from(Self::prod(old)) + slots);
            let new = old & !u64::from(u32::MAX) | u64::from(prod) | OWNED;
            match self.indices.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(found) => old = found,
            }
        }
        let owner = old & OWNED == 0;
        let start = u64::from(Self::prod(old));
        // 2: write, and keep CONS from being moved until the CMD_SYNC is complete.
        (start..start + slots).for_each(|position| hardware.fill(u64::from(wrap(position))));
        let mut sharers = self.sharers.fetch_add(1, Ordering::Relaxed);
        while sharers & EXCLUSIVE != 0 {
            hardware.spin();
            sharers = self.sharers.load(Ordering::Relaxed);
        }
        // 3: mark as valid, a word of the map at a time.
        fence(Ordering::Release);
        let mut position = start;
        while position < start + slots {
            let slot = hardware.size.slot(position) as u64;
            let run = (start + slots - position).min(64 - slot % 64);
            let bits = (u64::MAX >> (64 - run)) << (slot % 64);
            self.valid[slot as usize / 64].fetch_xor(bits, Ordering::Release);
            position += run;
        }
        // 4: the owner publishes the run.
        if owner {
            while self.owned_from.load(Ordering::Acquire) != start {
                hardware.spin();
            }
            let end = Self::prod(self.indices.fetch_and(!OWNED, Ordering::Relaxed));
            let mut position = start as u32;
            while position != end {
                while !self.is_valid(position) {
                    hardware.spin();
                }
                position = wrap(u64::from(position) + 1);
            }
            hardware.write_prod(end);
            self.owned_from.store(u64::from(end), Ordering::Release);
        }
        // 5: wait for the CMD_SYNC.
        let passed = |cons: u32| {
            let ahead = u64::from(cons).wrapping_sub(start) & (2 * hardware.size.entries() - 1);
            (slots..=hardware.size.entries()).contains(&ahead)
        };
        let cons = loop {
            let cons = hardware.read_cons();
            if passed(cons) {
                break cons;
            }
            hardware.wait();
        };
        if self.sharers.load(Ordering::Relaxed) == 1 {
            self.set_cons(cons);
        }
        self.sharers.fetch_sub(1, Ordering::Release);
    }
}

/// Counts of all commands, in all schedules.
#[derive(Default)]
struct Costs {
    counts: Counts,
    writes: u64,
    reads: u64,
    spins: u64,
    waits: u64,
    commands: u64,
}

/// Measures a queue: CPUs that share it, commands a batch, and log2 of the slots.
type Measure = fn(u64, u64, u32) -> Costs;

fn measure<Q: Queue>(cpus: u64, commands: u64, log2: u32) -> Costs {
    let costs = Arc::new(std::sync::Mutex::new(Costs::default()));
    let sum = costs.clone();
    let schedule = shuttle::scheduler::RandomScheduler::new_from_seed(SEED, SCHEDULES);
    let mut config = shuttle::Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(10_000_000);
    shuttle::Runner::new(schedule, config).run(move || {
        let queue = Arc::new(Q::new(Size::new(log2).unwrap()));
        take_counts();
        let producers: Vec<_> = (0..cpus)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || (0..BATCHES).for_each(|_| queue.carry_out(commands + 1)))
            })
            .collect();
        queue.hardware().consume(cpus * BATCHES * (commands + 1));
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        let counts = take_counts();
        let mut sum = sum.lock().unwrap();
        sum.counts.changes += counts.changes;
        sum.counts.refused += counts.refused;
        sum.counts.fences += counts.fences;
        sum.counts.turns += counts.turns;
        sum.writes += queue.hardware().writes.load(Ordering::Relaxed);
        sum.reads += queue.hardware().reads.load(Ordering::Relaxed);
        sum.spins += queue.hardware().spins.load(Ordering::Relaxed);
        sum.waits += queue.hardware().waits.load(Ordering::Relaxed);
        sum.commands += cpus * BATCHES * (commands + 1);
    });
    let mut costs = costs.lock().unwrap();
    std::mem::take(&mut costs)
}

#[test]
fn contention() {
    println!("{CPUS} CPUs, {BATCHES} batches each, {SCHEDULES} random schedules, seed {SEED}");
    println!(
        "| queue | commands a batch | slots | read-modify-writes | refused exchanges | fences | PROD writes | CONS reads | turns for another CPU, masked | and not masked |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    // CPUs of different queues share nothing of them: what 16 cost with 4 queues is what 4 cost with one.
    let rows: [(&str, u64, Measure); 5] = [
        ("tickets", CPUS, measure::<Ticketed>),
        ("tickets, 4 queues", CPUS / 4, measure::<Ticketed>),
        ("tickets, 16 queues", CPUS / 16, measure::<Ticketed>),
        ("spin lock", CPUS, measure::<Locked>),
        ("compare-and-exchange loop", CPUS, measure::<Exchanged>),
    ];
    for (batch, log2) in [(1, 8), (16, 8), (1, 6)] {
        for (name, cpus, measure) in rows {
            let costs = measure(cpus, batch, log2);
            print!("| {name} | {batch} + CMD_SYNC | {} |", 1 << log2);
            let Costs { counts, writes, reads, spins, waits, commands } = costs;
            let Counts { changes, refused, fences, turns } = counts;
            let spins = spins + turns;
            for count in [changes, refused, fences, writes, reads, spins, waits] {
                print!(" {:.2} |", count as f64 / commands as f64);
            }
            println!();
            if name == "tickets" {
                assert_eq!(spins, 0, "a producer waited with interrupts masked");
                let batches = commands / (batch + 1);
                assert!(writes < batches, "nobody published for another one");
            }
        }
    }
}
