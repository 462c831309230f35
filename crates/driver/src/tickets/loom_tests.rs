// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tickets under every interleaving that loom finds with a few preemptions. Each test has twins in which one
//! step is missing, and which must fail. The SMMU is the main thread, or nobody.

use std::sync::Arc;
use std::vec::Vec;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::thread;

mod enhanced;
mod looking;

use super::{CLOSED, LEFT, NoTicket, OFFERED, Producers, Tickets, fits};
use crate::queue::Size;
use crate::sync::{AtomicU64, Ordering};

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
        let consumed = self.tickets.observe(&mut 0, || self.cons.load(Ordering::Acquire)).unwrap();
        self.tickets.share(consumed);
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

/// Calls, and does what comes of that as [`Tickets::publish`] does, but looks for its own run as for others.
fn call_and_ring(queue: &Queue) {
    let Queue { tickets, marks, .. } = queue;
    match tickets.call() {
        0 => tickets.ring(marks, 1, |position| queue.tell(position)),
        before if before & OFFERED != 0 => tickets.take_over(marks, |it| queue.tell(it)),
        _ => {}
    }
}

fn called(tickets: &Tickets) -> bool {
    tickets.call() == 0
}

/// Publishes a run as [`Tickets::publish`] does, with other calls.
fn publish_by(
    queue: &Queue,
    (start, end): (u64, u64),
    call: fn(&Tickets) -> bool,
    take_calls_back: fn(&Tickets, u64) -> Option<u64>,
) {
    let Queue { tickets, marks, .. } = queue;
    tickets.mark(marks, start, end);
    if call(tickets) {
        let mut calls = Some(1);
        while let Some(heard) = calls {
            let from = tickets.bell.published.load(Ordering::Relaxed);
            if let Some(end) = tickets.end_of(marks, from) {
                tickets.announce(marks, end, &mut |position| queue.tell(position));
            }
            calls = take_calls_back(tickets, heard);
        }
    }
}

#[test]
fn loom_no_doorbell_is_lost_if_own_runs_are_followed_as_others_are() {
    everything_is_offered(|queue, start, end| {
        let Queue { tickets, marks, .. } = queue;
        tickets.mark(marks, start, end);
        call_and_ring(queue);
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_calls_before_it_marks_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        let Queue { tickets, marks, .. } = queue;
        let first = tickets.call() == 0;
        tickets.mark(marks, start, end);
        if first {
            tickets.ring(marks, 1, |position| queue.tell(position));
        }
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_does_not_release_its_call_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        let call = |tickets: &Tickets| tickets.bell.calls.fetch_add(1, Ordering::Acquire) == 0;
        publish_by(queue, (start, end), call, Tickets::take_calls_back);
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_takes_calls_back_without_acquire_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        publish_by(queue, (start, end), called, |tickets, calls| {
            let all = tickets.bell.calls.fetch_sub(calls, Ordering::Release);
            (all != calls).then(|| all - calls)
        });
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_takes_calls_back_without_a_look_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        publish_by(queue, (start, end), called, |tickets, _| {
            tickets.bell.calls.swap(0, Ordering::AcqRel);
            None
        });
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_does_not_look_again_loses_a_doorbell() {
    everything_is_offered(|queue, start, end| {
        publish_by(queue, (start, end), called, |tickets, mut calls| {
            while let Some(more) = tickets.take_calls_back(calls) {
                calls = more;
            }
            None
        });
    });
}

/// Four producers, the first of which has the bell, and hands it over as soon as there are others. Then a fifth, alone.
fn the_bell_is_handed_over(hand_over: fn(&Queue, u64), take_over: fn(&Queue)) -> bool {
    let taken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let result = taken.clone();
    explore(2, move || {
        let queue = Queue::new(3);
        let publish = |queue: &Queue, start: u64| {
            let Queue { tickets, marks, .. } = queue;
            queue.fill(start);
            tickets.mark(marks, start, start + 1);
            let before = tickets.call();
            (before == 0, before & OFFERED != 0)
        };
        let start = queue.tickets.draw(1).unwrap();
        assert_eq!(publish(&queue, start), (true, false));
        let producers = [0, 1].map(|_| {
            let (queue, taken) = (queue.clone(), taken.clone());
            thread::spawn(move || {
                let start = queue.tickets.draw(1).unwrap();
                match publish(&queue, start) {
                    (true, _) => queue.tickets.ring(&queue.marks, 1, |it| queue.tell(it)),
                    (false, true) => {
                        taken.store(true, Ordering::Relaxed);
                        take_over(&queue);
                    }
                    (false, false) => {}
                }
            })
        });
        hand_over(&queue, 1);
        for producer in producers {
            producer.join().unwrap();
        }
        let calls = queue.tickets.bell.calls.load(Ordering::Relaxed);
        assert_eq!(queue.prod.load(Ordering::Relaxed), 3, "a doorbell was lost");
        assert_eq!(calls, 0, "the bell is free");
    });
    result.load(Ordering::Relaxed)
}

fn hand_over(queue: &Queue, calls: u64) {
    queue.tickets.ring(&queue.marks, calls, |position| queue.tell(position));
}

fn take_over(queue: &Queue) {
    queue.tickets.take_over(&queue.marks, |position| queue.tell(position));
}

#[test]
fn loom_no_doorbell_is_lost_when_the_bell_is_handed_over() {
    assert!(the_bell_is_handed_over(hand_over, take_over), "nobody took it over");
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_leaves_without_a_last_look_loses_a_doorbell() {
    the_bell_is_handed_over(
        |queue, _| {
            let calls = queue.tickets.bell.calls.fetch_or(OFFERED, Ordering::AcqRel);
            queue.tickets.leave(calls);
        },
        take_over,
    );
}

#[test]
#[should_panic]
fn loom_twin_that_does_not_wait_for_the_one_before_it() {
    the_bell_is_handed_over(hand_over, |queue| {
        let calls = &queue.tickets.bell.calls;
        if calls.fetch_and(!OFFERED, Ordering::AcqRel) & OFFERED != 0 {
            let calls = calls.fetch_and(!LEFT, Ordering::AcqRel) & !LEFT;
            queue.tickets.ring(&queue.marks, calls, |position| queue.tell(position));
        }
    });
}

#[test]
#[should_panic]
fn loom_twin_whose_call_does_not_acquire_does_not_know_what_is_published() {
    everything_is_offered(|queue, start, end| {
        let call = |tickets: &Tickets| tickets.bell.calls.fetch_add(1, Ordering::Release) == 0;
        publish_by(queue, (start, end), call, Tickets::take_calls_back);
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
        let Producers { claimed, tail } = &queue.tickets.producers.0;
        let claimed = claimed.load(Ordering::Relaxed).wrapping_add(queue.tickets.size().entries());
        let drawn = tail.load(Ordering::Relaxed);
        assert_eq!((claimed, drawn), (submitted, submitted), "a claim was lost, or stayed");
        most.fetch_max(submitted, Ordering::Relaxed);
    });
    result.load(Ordering::Relaxed)
}

#[test]
fn loom_every_command_arrives_once_in_its_place() {
    assert_eq!(every_command_arrives(draw, publish), 3, "the queue never wrapped");
}

#[test]
fn loom_every_command_arrives_also_if_it_is_drawn_at_once() {
    let draw = |queue: &Queue| queue.tickets.draw_at_once(1, queue.tickets.consumed());
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
            let Producers { claimed, tail } = &queue.tickets.producers.0;
            let consumed = queue.tickets.consumed();
            if !fits(claimed.fetch_add(1, Ordering::Relaxed), 1, consumed) {
                claimed.fetch_sub(1, Ordering::Relaxed);
                return Err(NoTicket::Full);
            }
            Ok(tail.fetch_add(1, Ordering::Relaxed))
        },
        publish,
    );
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_whose_mark_does_not_release_shows_an_unwritten_slot() {
    every_command_arrives(draw, |queue, start, end| {
        let Queue { tickets, marks, .. } = queue;
        // What a call releases is no help to those who follow the mark without having heard it.
        marks[tickets.size().slot(start)].store(end, Ordering::Relaxed);
        call_and_ring(queue);
    });
}

/// A reset of the SMMU, which is off.
type Reset = fn(&Queue);

fn reset(queue: &Queue) {
    queue.tickets.close(&queue.marks, thread::yield_now, |_| ());
    queue.prod.store(0, Ordering::Release);
    queue.cons.store(0, Ordering::Release);
    queue.tickets.open();
}

/// Two producers while the queue, of two slots, is reset under them: their commands come before the reset, after it, or
/// never, but whole, and never more than fit. Each wants `count` slots.
fn a_reset_meets_producers(count: u64, reset: Reset) {
    explore(3, move || {
        let queue = Queue::new(1);
        let size = queue.tickets.size();
        assert!(queue.submit(draw, publish));
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let Ok(start) = queue.tickets.draw(count) else { return None };
                    (start..start + count).for_each(|position| queue.fill(position));
                    publish(&queue, start, start + count);
                    Some(start)
                })
            })
            .collect();
        reset(&queue);
        let beginning = queue.tickets.consumed();
        let starts = producers.into_iter().filter_map(|producer| producer.join().unwrap());
        let after = starts.filter(|start| *start >= beginning).count() as u64 * count;
        assert!(after <= size.entries(), "more than fits was drawn");
        let drawn = queue.tickets.producers.tail.load(Ordering::Relaxed);
        let claimed = queue.tickets.producers.claimed.load(Ordering::Relaxed);
        let claimed = claimed.wrapping_add(size.entries());
        assert_eq!((drawn & CLOSED, claimed), (0, drawn), "claims and tickets disagree");
        assert_eq!(drawn, beginning + after);
        assert_eq!(queue.prod.load(Ordering::Relaxed), size.register(drawn));
        for position in beginning..drawn {
            // SAFETY: all threads have ended.
            queue.slots[size.slot(position)].with(|slot| assert_eq!(unsafe { *slot }, position));
        }
    });
}

#[test]
fn loom_a_reset_waits_for_every_ticket_and_loses_no_claim() {
    a_reset_meets_producers(1, reset);
    a_reset_meets_producers(2, reset);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_of_a_reset_that_makes_room_before_it_counts_claims_gives_too_much() {
    a_reset_meets_producers(2, |queue| {
        // Counts no claims when it is closed, and makes up for it after it has made room.
        let claimed = &queue.tickets.producers.claimed;
        queue.tickets.close(&queue.marks, thread::yield_now, |beginning| {
            claimed.fetch_sub(beginning - 1, Ordering::Relaxed);
        });
        let beginning = queue.tickets.published();
        queue.prod.store(0, Ordering::Release);
        queue.cons.store(0, Ordering::Release);
        queue.tickets.waiters.consumed.fetch_max(beginning, Ordering::AcqRel);
        claimed.fetch_add(beginning - 1, Ordering::Relaxed);
        queue.tickets.open();
    });
}

#[test]
#[should_panic]
fn loom_twin_of_a_reset_that_does_not_wait_meets_a_late_producer() {
    a_reset_meets_producers(1, |queue| {
        let tickets = &queue.tickets;
        let end = tickets.producers.tail.fetch_or(CLOSED, Ordering::AcqRel);
        let beginning = end.next_multiple_of(2 * tickets.size().entries());
        tickets.bell.published.store(beginning, Ordering::Release);
        tickets.producers.claimed.fetch_add(beginning - end, Ordering::Relaxed);
        queue.prod.store(0, Ordering::Release);
        tickets.open();
    });
}

/// One who waits looks at CONS while the queue is reset; afterwards a command is given, which the SMMU does not take.
fn a_reset_meets_a_waiter(reset: Reset) {
    explore(3, move || {
        let queue = Queue::new(1);
        assert!(queue.submit(draw, publish));
        queue.consume(&mut 0);
        let waiter = {
            let queue = queue.clone();
            // What it finds may be in vain, as that of an SMMU that was reset.
            thread::spawn(move || {
                let cons = || queue.cons.load(Ordering::Acquire);
                let _ = queue.tickets.observe(&mut 0, cons).map(|it| queue.tickets.share(it));
            })
        };
        reset(&queue);
        let beginning = queue.tickets.consumed();
        assert!(queue.submit(draw, publish));
        waiter.join().unwrap();
        assert_eq!(queue.tickets.consumed(), beginning, "the SMMU took nothing");
    });
}

#[test]
fn loom_a_look_at_the_register_of_before_a_reset_completes_nothing_after_it() {
    a_reset_meets_a_waiter(reset);
}

#[test]
#[should_panic(expected = "the SMMU took nothing")]
fn loom_twin_of_a_reset_that_begins_before_the_registers_do_completes_what_was_not_taken() {
    a_reset_meets_a_waiter(|queue| {
        queue.tickets.close(&queue.marks, thread::yield_now, |_| ());
        queue.tickets.waiters.consumed.fetch_max(queue.tickets.published(), Ordering::AcqRel);
        queue.prod.store(0, Ordering::Release);
        queue.cons.store(0, Ordering::Release);
        queue.tickets.open();
    });
}

/// A producer that uses room of which only another one's look at CONS told it. The SMMU is the main thread. Returns
/// whether that ever came about.
fn room_that_another_one_found(observe: fn(&Queue)) -> bool {
    let used = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let result = used.clone();
    explore(3, move || {
        let queue = Queue::new(0);
        assert!(queue.submit(draw, publish));
        let (first, second) = (queue.clone(), queue.clone());
        let observer = thread::spawn(move || observe(&first));
        let producer = thread::spawn(move || {
            let start = second.tickets.draw(1);
            start.iter().for_each(|start| second.fill(*start));
            start.is_ok()
        });
        queue.consume(&mut 0);
        observer.join().unwrap();
        used.fetch_or(producer.join().unwrap(), Ordering::Relaxed);
    });
    result.load(Ordering::Relaxed)
}

#[test]
fn loom_what_one_observes_as_consumed_another_may_overwrite() {
    assert!(room_that_another_one_found(Queue::observe), "there never was room");
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_observes_without_release_lets_a_slot_be_overwritten_while_it_is_read() {
    room_that_another_one_found(|queue| {
        let behind = queue.tickets.consumed();
        let register = queue.cons.load(Ordering::Acquire);
        let position = queue.tickets.size().after(behind, register);
        queue.tickets.waiters.consumed.fetch_max(position, Ordering::Relaxed);
    });
}
