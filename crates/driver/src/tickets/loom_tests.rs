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
mod reset;

use super::mark::{HELD, awaits, baton, comes_to, filled, lay_down as lay_it_down};
use super::{
    CLOSED, Drawn, NoTicket, POSITION_SHIFT, Producers, RUN, RUNS, Reached, Tickets, Turn, WANTED,
    fits,
};
use crate::queue::Size;
use crate::sync::{AtomicU64, Ordering};

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// Draws a ticket for one slot.
type Draw = fn(&Queue) -> Result<Drawn, NoTicket>;
/// Publishes a run.
type Publish = fn(&Queue, Drawn, u64);

/// A queue in memory: loom notices when a slot is read and written at once.
struct Queue {
    tickets: Tickets,
    marks: Vec<AtomicU64>,
    slots: Vec<UnsafeCell<u64>>,
    /// Of the one who writes PROD.
    teller: UnsafeCell<u64>,
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
            teller: UnsafeCell::new(0),
            prod: AtomicU32::new(0),
            cons: AtomicU32::new(0),
        })
    }

    /// Writes CMDQ_PROD, as the contract of `Mmio` orders it.
    fn tell(&self, position: u64) {
        // SAFETY: one writes PROD at a time, each after the others; loom checks it.
        self.teller.with_mut(|last| unsafe {
            assert!(*last <= position, "PROD goes back");
            *last = position;
        });
        self.prod.store(self.tickets.size().register(position), Ordering::Release);
    }

    /// The mark of the slot of `position`.
    fn mark(&self, position: u64) -> &AtomicU64 {
        &self.marks[self.tickets.size().slot(position)]
    }

    fn fill(&self, position: u64) {
        // SAFETY: the slot belongs to the ticket; loom checks it.
        self.slots[self.tickets.size().slot(position)].with_mut(|slot| unsafe { *slot = position });
    }

    /// A producer: one command in a slot of its own; false when there is no room, not even when asked again.
    fn submit(&self, draw: Draw, publish: Publish) -> bool {
        for _ in 0..2 {
            match draw(self) {
                Ok(drawn) => {
                    self.fill(drawn.start);
                    publish(self, drawn, drawn.start + 1);
                    return true;
                }
                Err(NoTicket::Full) => self.observe(),
                Err(NoTicket::Closed) => break,
            }
        }
        false
    }

    /// How many runs were drawn and are not published.
    fn left(&self) -> u64 {
        self.tickets.producers.tail.load(Ordering::Relaxed) & RUNS
    }

    /// The next position to be drawn.
    fn drawn(&self) -> u64 {
        self.tickets.producers.tail.load(Ordering::Relaxed) >> POSITION_SHIFT
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
            self.slots[size.slot(*at)].with(|slot| {
                assert_eq!(unsafe { *slot }, *at, "not the command of its place");
            });
            *at += 1;
            self.cons.store(size.register(*at), Ordering::Release);
        }
    }
}

fn draw(queue: &Queue) -> Result<Drawn, NoTicket> {
    queue.tickets.draw(1)
}

fn publish(queue: &Queue, drawn: Drawn, end: u64) {
    queue.tickets.publish(&queue.marks, drawn, end, |position| queue.tell(position));
}

/// Three producers of a command each, no SMMU: at the end everything must have been offered to it, and the queue be at rest.
fn everything_is_offered(draw: Draw, publish: Publish) {
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
        assert_eq!(queue.left(), 0, "the baton is lost");
    });
}

#[test]
fn loom_no_doorbell_is_lost() {
    everything_is_offered(draw, publish);
}

/// How one that is about to publish comes by the baton; and how it lays it down.
type Comes = fn(&Queue, Drawn, u64) -> bool;
type LayDown = fn(&Queue, Reached) -> bool;

/// Publishes a run as [`Tickets::publish`] does, with other steps.
fn publish_by(queue: &Queue, drawn: Drawn, end: u64, comes: Comes, lay_down: LayDown) {
    if drawn.turn != Turn::First && !comes(queue, drawn, end) {
        return;
    }
    let (mut from, mut runs) = (end, 1);
    loop {
        let reached = queue.tickets.follow(&queue.marks, from, runs);
        if reached.to != from || runs != 0 {
            queue.tell(reached.to);
        }
        if lay_down(queue, reached) {
            return;
        }
        (from, runs) = (reached.to, 0);
    }
}

fn comes(queue: &Queue, drawn: Drawn, end: u64) -> bool {
    comes_to(&queue.marks, drawn, end)
}

fn lay_down(queue: &Queue, reached: Reached) -> bool {
    queue.tickets.rests_after(reached.runs) || lay_it_down(&queue.marks, reached)
}

#[test]
fn loom_no_doorbell_is_lost_step_by_step() {
    everything_is_offered(draw, |queue, drawn, end| {
        publish_by(queue, drawn, end, comes, lay_down);
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_looks_for_the_baton_before_it_marks_loses_a_doorbell() {
    everything_is_offered(draw, |queue, drawn, end| {
        let comes = |queue: &Queue, Drawn { start, .. }, end| {
            let found = queue.mark(start).load(Ordering::Acquire) == baton(start);
            queue.mark(start).store(filled(end), Ordering::Release);
            found
        };
        publish_by(queue, drawn, end, comes, lay_down);
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_lays_the_baton_down_without_a_look_loses_a_doorbell() {
    everything_is_offered(draw, |queue, drawn, end| {
        publish_by(queue, drawn, end, comes, |queue, Reached { to, runs, .. }| {
            if queue.tickets.producers.tail.fetch_sub(runs, Ordering::AcqRel) & RUNS != runs {
                queue.mark(to).store(baton(to), Ordering::Release);
            }
            true
        });
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_leaves_the_baton_to_nobody_when_others_are_there_loses_a_doorbell() {
    everything_is_offered(draw, |queue, drawn, end| {
        publish_by(queue, drawn, end, comes, |queue, Reached { runs, .. }| {
            queue.tickets.producers.tail.fetch_sub(runs, Ordering::AcqRel);
            true
        });
    });
}

/// It looks at the count first, and takes its runs off it after: who draws in between leaves its run to nobody.
#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_counts_before_it_leaves_loses_a_doorbell() {
    everything_is_offered(draw, |queue, drawn, end| {
        publish_by(queue, drawn, end, comes, |queue, reached| {
            let Producers { tail, .. } = &queue.tickets.producers.0;
            if tail.load(Ordering::Acquire) & RUNS == reached.runs {
                tail.fetch_sub(reached.runs, Ordering::AcqRel);
                return true;
            }
            lay_down(queue, reached)
        });
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_takes_the_baton_up_without_acquire_meets_the_one_before_it() {
    everything_is_offered(draw, |queue, drawn, end| {
        let comes = |queue: &Queue, Drawn { start, .. }, end| {
            queue.mark(start).swap(filled(end), Ordering::Release) == baton(start)
        };
        publish_by(queue, drawn, end, comes, lay_down);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_lays_the_baton_down_without_release_meets_the_one_after_it() {
    everything_is_offered(draw, |queue, drawn, end| {
        publish_by(queue, drawn, end, comes, |queue, Reached { to, seen, runs }| {
            let Producers { tail, .. } = &queue.tickets.producers.0;
            let (left, other) = (Ordering::Acquire, Ordering::Acquire);
            tail.fetch_sub(runs, Ordering::AcqRel) & RUNS == runs
                || queue.mark(to).compare_exchange(seen, baton(to), left, other).is_ok()
        });
    });
}

/// Who draws when the queue is at rest tells the SMMU after those before it did: by the word that tickets are drawn from.
#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_leaves_the_queue_at_rest_without_release_meets_the_one_after_it() {
    everything_is_offered(draw, |queue, drawn, end| {
        publish_by(queue, drawn, end, comes, |queue, reached| {
            let Producers { tail, .. } = &queue.tickets.producers.0;
            if tail.fetch_sub(reached.runs, Ordering::Acquire) & RUNS == reached.runs {
                return true;
            }
            lay_it_down(&queue.marks, reached)
        });
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_draws_without_acquire_meets_the_one_before_it() {
    everything_is_offered(
        |queue| {
            let Producers { claimed, tail, .. } = &queue.tickets.producers.0;
            claimed.fetch_add(1, Ordering::Relaxed);
            Ok(drawn_from(tail.fetch_add(1 << POSITION_SHIFT | RUN, Ordering::Release)))
        },
        publish,
    );
}

/// The ticket of one who found this, on a queue that has not gone far.
fn drawn_from(tail: u64) -> Drawn {
    let turn = if tail & RUNS == 0 { Turn::First } else { Turn::Behind };
    Drawn { start: tail >> POSITION_SHIFT, turn }
}

/// Three producers, the first of which has the baton, and wants to hand it over as soon as it has turned once. Returns whether
/// somebody was appointed, and whether that one had to wait for it.
fn the_baton_is_handed_over(publish: Publish) -> (bool, bool) {
    let seen = Arc::new([false, false].map(std::sync::atomic::AtomicBool::new));
    let result = seen.clone();
    explore(3, move || {
        let queue = Queue::new(3);
        let Drawn { start, turn } = queue.tickets.draw(1).unwrap();
        assert_eq!(turn, Turn::First);
        queue.fill(start);
        let producers = [0, 1].map(|_| {
            let (queue, seen) = (queue.clone(), seen.clone());
            thread::spawn(move || {
                let drawn = queue.tickets.draw(1).unwrap();
                let start = drawn.start;
                queue.fill(start);
                if drawn.turn == Turn::Appointed {
                    seen[0].store(true, Ordering::Relaxed);
                    let mark = queue.mark(start).load(Ordering::Relaxed);
                    seen[1].fetch_or(mark != baton(start), Ordering::Relaxed);
                }
                publish(&queue, drawn, start + 1);
            })
        });
        let Reached { to, runs, .. } = queue.tickets.follow(&queue.marks, start + 1, 1);
        queue.tell(to);
        if !queue.tickets.rests_after(runs) {
            queue.tickets.go_on(&queue.marks, to, |position| queue.tell(position));
        }
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(queue.prod.load(Ordering::Relaxed), 3, "a doorbell was lost");
        assert_eq!(queue.left(), 0, "the baton is lost");
    });
    let [appointed, waited] = result.each_ref().map(|it| it.load(Ordering::Relaxed));
    (appointed, waited)
}

#[test]
fn loom_no_doorbell_is_lost_when_the_baton_is_handed_over() {
    assert_eq!(the_baton_is_handed_over(publish), (true, true), "nobody took it over");
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_was_appointed_and_leaves_loses_a_doorbell() {
    the_baton_is_handed_over(|queue, drawn, end| {
        let comes = |queue: &Queue, Drawn { start, turn }, end| {
            let appointed = turn == Turn::Appointed;
            let mark = if appointed { awaits(end) } else { filled(end) };
            queue.mark(start).swap(mark, Ordering::AcqRel) == baton(start)
        };
        publish_by(queue, drawn, end, comes, lay_down);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_was_appointed_and_does_not_wait_meets_the_one_before_it() {
    the_baton_is_handed_over(|queue, drawn, end| {
        let comes = |queue: &Queue, Drawn { start, turn }, end| {
            let mark = filled(end);
            let here = queue.mark(start).swap(mark, Ordering::AcqRel) == baton(start);
            here || turn == Turn::Appointed
        };
        publish_by(queue, drawn, end, comes, lay_down);
    });
}

/// One that acknowledges an error takes the baton from where it lies for one that was appointed and waits for it: that one gets it
/// all the same.
#[test]
fn loom_the_baton_is_taken_from_one_who_waits_and_laid_back() {
    let taken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let result = taken.clone();
    explore(4, move || {
        let queue = Queue::new(2);
        let first = queue.tickets.draw(1).unwrap();
        queue.tickets.producers.tail.fetch_or(WANTED, Ordering::AcqRel);
        let producer = {
            let queue = queue.clone();
            thread::spawn(move || assert!(queue.submit(draw, publish)))
        };
        queue.fill(first.start);
        publish(&queue, first, first.start + 1);
        let change = || {
            let held = queue.mark(1).load(Ordering::Relaxed) == HELD;
            taken.fetch_or(held && queue.left() == 1, Ordering::Relaxed);
        };
        queue.tickets.tell_again(&queue.marks, change, |position| queue.tell(position));
        producer.join().unwrap();
        assert_eq!(queue.prod.load(Ordering::Relaxed), 2, "a doorbell was lost");
        assert_eq!(queue.left(), 0, "the baton is lost");
    });
    assert!(result.load(Ordering::Relaxed), "it never was there");
}

/// Of two who draw while somebody is wanted, one at least is appointed, and nobody is wanted any more.
#[test]
fn loom_somebody_is_appointed() {
    explore(3, || {
        let queue = Queue::new(3);
        let first = queue.tickets.draw(1).unwrap();
        queue.tickets.producers.tail.fetch_or(WANTED, Ordering::AcqRel);
        let producers = [0, 1].map(|_| {
            let queue = queue.clone();
            thread::spawn(move || {
                let drawn = queue.tickets.draw(1).unwrap();
                queue.fill(drawn.start);
                publish(&queue, drawn, drawn.start + 1);
                drawn.turn
            })
        });
        queue.fill(first.start);
        publish(&queue, first, first.start + 1);
        let turns = producers.map(|producer| producer.join().unwrap());
        assert!(turns.iter().any(|turn| *turn != Turn::Behind), "nobody was");
        assert_eq!(queue.prod.load(Ordering::Relaxed), 3, "a doorbell was lost");
        let tail = queue.tickets.producers.tail.load(Ordering::Relaxed);
        assert_eq!(tail & RUNS, 0, "the baton is lost");
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
        let claimed = queue.tickets.producers.claimed.load(Ordering::Relaxed);
        let claimed = claimed.wrapping_add(queue.tickets.size().entries());
        assert_eq!((claimed, queue.drawn()), (submitted, submitted), "a claim was lost, or stayed");
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
#[should_panic(expected = "not the command of its place")]
fn loom_twin_that_draws_without_room_overwrites_commands() {
    every_command_arrives(
        |queue| {
            let Producers { tail, .. } = &queue.tickets.producers.0;
            Ok(drawn_from(tail.fetch_add(1 << POSITION_SHIFT | RUN, Ordering::AcqRel)))
        },
        publish,
    );
}

#[test]
#[should_panic(expected = "not the command of its place")]
fn loom_twin_that_draws_on_a_look_alone_overwrites_commands() {
    every_command_arrives(
        |queue| {
            if !queue.tickets.has_room(1) {
                return Err(NoTicket::Full);
            }
            let Producers { claimed, tail, .. } = &queue.tickets.producers.0;
            claimed.fetch_add(1, Ordering::AcqRel);
            Ok(drawn_from(tail.fetch_add(1 << POSITION_SHIFT | RUN, Ordering::AcqRel)))
        },
        publish,
    );
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_whose_draw_passes_nothing_on_overwrites_commands() {
    every_command_arrives(
        |queue| {
            let Producers { claimed, tail, .. } = &queue.tickets.producers.0;
            let consumed = queue.tickets.consumed();
            if !fits(claimed.fetch_add(1, Ordering::Relaxed), 1, consumed) {
                claimed.fetch_sub(1, Ordering::Relaxed);
                return Err(NoTicket::Full);
            }
            Ok(drawn_from(tail.fetch_add(1 << POSITION_SHIFT | RUN, Ordering::Relaxed)))
        },
        publish,
    );
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_whose_mark_does_not_release_shows_an_unwritten_slot() {
    every_command_arrives(draw, |queue, drawn, end| {
        let comes = |queue: &Queue, Drawn { start, .. }, end| {
            queue.mark(start).swap(filled(end), Ordering::Acquire) == baton(start)
        };
        publish_by(queue, drawn, end, comes, lay_down);
    });
}

/// Lets nobody draw, and has the queue begin anew.
fn close(queue: &Queue) {
    queue.tickets.close(thread::yield_now);
    queue.tickets.begin(&queue.marks, |_| ());
}

/// Resets the SMMU, which is off.
fn reset(queue: &Queue) {
    close(queue);
    queue.prod.store(0, Ordering::Release);
    queue.cons.store(0, Ordering::Release);
    queue.tickets.open();
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
            let drawn = second.tickets.draw(1);
            drawn.iter().for_each(|drawn| second.fill(drawn.start));
            drawn.is_ok()
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
