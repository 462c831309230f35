// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tickets under every interleaving that loom finds with a few preemptions. Each test has twins in which one
//! step is missing, and which must fail. The SMMU is the main thread, or nobody.

use std::sync::Arc;
use std::vec::Vec;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::thread;

use super::{CLOSED, NoTicket, Tickets};
use crate::queue::Size;
use crate::sync::{AtomicU64, Ordering, fence};

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// Draws a ticket for one slot.
type Draw = fn(&Queue) -> Result<u64, NoTicket>;
/// Publishes a run.
type Publish = fn(&Queue, u64, u64);

/// A queue in memory: loom notices when a slot is read and written at once.
struct Queue {
    tickets: Tickets,
    marks: Vec<AtomicU64>,
    slots: Vec<UnsafeCell<u64>>,
    prod: AtomicU32,
    cons: AtomicU32,
}

// SAFETY: loom checks the accesses to the slots.
unsafe impl Sync for Queue {}
// SAFETY: as above.
unsafe impl Send for Queue {}

impl Queue {
    fn new(log2: u32) -> Arc<Self> {
        let size = Size::new(log2).unwrap();
        let slots = 0..size.entries();
        Arc::new(Self {
            tickets: Tickets::new(size),
            marks: slots.clone().map(|_| AtomicU64::new(0)).collect(),
            slots: slots.map(|_| UnsafeCell::new(u64::MAX)).collect(),
            prod: AtomicU32::new(0),
            cons: AtomicU32::new(0),
        })
    }

    /// Writes CMDQ_PROD, as the contract of `Mmio` orders it.
    fn tell(&self, position: u64) {
        self.prod.store(self.tickets.size().register(position), Ordering::Release);
    }

    fn fill(&self, position: u64) {
        // SAFETY: the slot belongs to the ticket; loom checks it.
        self.slots[self.tickets.size().slot(position)].with_mut(|slot| unsafe { *slot = position });
    }

    /// A producer: one command in a slot of its own; false when there is no room, not even when asked again.
    fn submit(&self, draw: Draw, publish: Publish) -> bool {
        for _ in 0..2 {
            match draw(self) {
                Ok(start) => {
                    self.fill(start);
                    publish(self, start, start + 1);
                    return true;
                }
                Err(NoTicket::Full) => self.observe(),
                Err(NoTicket::Closed) => break,
            }
        }
        false
    }

    fn observe(&self) {
        self.tickets.observe(|| self.cons.load(Ordering::Acquire)).unwrap();
    }

    /// The SMMU: consumes from `at` on what it is told of; each command must be the one for its position.
    fn consume(&self, at: &mut u64) {
        let size = self.tickets.size();
        let register = self.prod.load(Ordering::Acquire);
        while size.register(*at) != register {
            // SAFETY: the slot was published; loom checks it.
            self.slots[size.slot(*at)].with(|slot| assert_eq!(unsafe { *slot }, *at));
            *at += 1;
            self.cons.store(size.register(*at), Ordering::Release);
        }
    }
}

fn draw(queue: &Queue) -> Result<u64, NoTicket> {
    queue.tickets.draw(1)
}

fn publish(queue: &Queue, start: u64, end: u64) {
    queue.tickets.publish(&queue.marks, start, end, |position| queue.tell(position));
}

/// Three producers of a command each, no SMMU: at the end everything must have been offered to it.
fn everything_is_offered(publish: Publish) {
    explore(3, move || {
        let queue = Queue::new(2);
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || assert!(queue.submit(draw, publish)))
            })
            .collect();
        assert!(queue.submit(draw, publish));
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(queue.prod.load(Ordering::Relaxed), 3, "a doorbell was lost");
    });
}

#[test]
fn loom_no_doorbell_is_lost() {
    everything_is_offered(publish);
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_without_the_fence_after_the_mark_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        queue.tickets.mark(&queue.marks, start, end);
        queue.tickets.ring(&queue.marks, |position| queue.tell(position));
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_without_the_fence_after_the_bell_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        let Queue { tickets, marks, .. } = queue;
        tickets.mark(marks, start, end);
        fence(Ordering::SeqCst);
        while tickets.announce(marks, |position| queue.tell(position)) {
            let published = tickets.bell.published.load(Ordering::Relaxed);
            if tickets.follow(marks, published) == published {
                return;
            }
        }
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_does_not_look_again_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        queue.tickets.mark(&queue.marks, start, end);
        fence(Ordering::SeqCst);
        queue.tickets.announce(&queue.marks, |position| queue.tell(position));
    });
}

/// Two producers of two commands and of one, on a queue of two slots, which wraps, and the SMMU, which consumes at two
/// moments and at the end. Returns the most commands that found room.
fn every_command_arrives(draw: Draw, publish: Publish) -> u64 {
    let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let result = most.clone();
    explore(3, move || {
        let queue = Queue::new(1);
        let producers = [2, 1].map(|commands| {
            let queue = queue.clone();
            thread::spawn(move || {
                (0..commands).map(|_| u64::from(queue.submit(draw, publish))).sum::<u64>()
            })
        });
        let mut at = 0;
        queue.consume(&mut at);
        queue.consume(&mut at);
        let submitted = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        queue.consume(&mut at);
        queue.observe();
        assert_eq!((at, queue.tickets.consumed()), (submitted, submitted));
        most.fetch_max(submitted, Ordering::Relaxed);
    });
    result.load(Ordering::Relaxed)
}

#[test]
fn loom_every_command_arrives_once_in_its_place() {
    assert_eq!(every_command_arrives(draw, publish), 3, "the queue never wrapped");
}

#[test]
#[should_panic]
fn loom_twin_that_draws_without_room_overwrites_commands() {
    every_command_arrives(
        |queue| Ok(queue.tickets.producers.tail.fetch_add(1, Ordering::AcqRel)),
        publish,
    );
}

#[test]
#[should_panic]
fn loom_twin_that_draws_on_a_look_alone_overwrites_commands() {
    every_command_arrives(
        |queue| {
            if !queue.tickets.has_room(1) {
                return Err(NoTicket::Full);
            }
            queue.tickets.producers.claimed.fetch_add(1, Ordering::Relaxed);
            Ok(queue.tickets.producers.tail.fetch_add(1, Ordering::AcqRel))
        },
        publish,
    );
}

#[test]
#[should_panic]
fn loom_twin_whose_draw_passes_nothing_on_overwrites_commands() {
    every_command_arrives(
        |queue| {
            let super::Producers { claimed, tail } = &queue.tickets.producers.0;
            let room = queue.tickets.consumed() + queue.tickets.size().entries();
            if claimed.fetch_add(1, Ordering::Relaxed) + 1 > room {
                claimed.fetch_sub(1, Ordering::Relaxed);
                return Err(NoTicket::Full);
            }
            Ok(tail.fetch_add(1, Ordering::Relaxed))
        },
        publish,
    );
}

#[test]
#[should_panic]
fn loom_twin_whose_mark_does_not_release_shows_an_unwritten_slot() {
    every_command_arrives(draw, |queue, start, end| {
        let Queue { tickets, marks, .. } = queue;
        marks[tickets.size().slot(start)].store(end, Ordering::Relaxed);
        tickets.ring(marks, |position| queue.tell(position));
    });
}

/// A producer while the queue is reset under it: its command comes before the reset, after it, or never, but
/// whole. Afterwards the queue works.
fn a_reset_meets_a_producer(close: fn(&Queue)) {
    explore(3, move || {
        let queue = Queue::new(1);
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || queue.submit(draw, publish))
            })
            .collect();
        close(&queue);
        let beginning = queue.tickets.published();
        // The SMMU is off; its registers and its view of the slots start anew.
        queue.prod.store(0, Ordering::Release);
        for slot in &queue.slots {
            // SAFETY: nobody has a ticket; loom checks it.
            slot.with_mut(|slot| unsafe { *slot = u64::MAX });
        }
        queue.tickets.open();
        for producer in producers {
            producer.join().unwrap();
        }
        let drawn = queue.tickets.producers.tail.load(Ordering::Relaxed);
        let claimed = queue.tickets.producers.claimed.load(Ordering::Relaxed);
        assert_eq!((drawn & CLOSED, claimed), (0, drawn), "claims and tickets disagree");
        assert!((beginning..=beginning + 2).contains(&drawn));
        assert_eq!(queue.prod.load(Ordering::Relaxed), queue.tickets.size().register(drawn));
        for position in beginning..drawn {
            // SAFETY: all threads have ended.
            queue.slots[queue.tickets.size().slot(position)]
                .with(|slot| assert_eq!(unsafe { *slot }, position));
        }
    });
}

#[test]
fn loom_a_reset_waits_for_every_ticket_and_loses_no_claim() {
    a_reset_meets_a_producer(|queue| {
        queue.tickets.close(&queue.marks, thread::yield_now, |_| ());
    });
}

#[test]
#[should_panic]
fn loom_twin_of_a_reset_that_does_not_wait_meets_a_late_producer() {
    a_reset_meets_a_producer(|queue| {
        let tickets = &queue.tickets;
        let end = tickets.producers.tail.fetch_or(CLOSED, Ordering::AcqRel);
        let beginning = end.next_multiple_of(2 * tickets.size().entries());
        tickets.bell.published.store(beginning, Ordering::Release);
        tickets.consumed.fetch_max(beginning, Ordering::AcqRel);
        tickets.producers.claimed.fetch_add(beginning - end, Ordering::Relaxed);
    });
}
