// SPDX-License-Identifier: MIT OR Apache-2.0
//! One who gives commands and looks once whether they are done, while the SMMU refuses one, or is put to sleep and its power
//! goes. Each with twins that must fail.

use loom::sync::atomic::AtomicBool;

use super::*;
use crate::state::State;

/// A queue, and whether its registers answer.
struct Machine {
    queue: Arc<Queue>,
    state: State,
    powered: AtomicBool,
}

impl Machine {
    fn new() -> Arc<Self> {
        let (queue, state) = (Queue::new(1), State::new());
        Arc::new(Self { queue, state, powered: AtomicBool::new(true) })
    }

    fn access(&self) {
        assert!(self.powered.load(Ordering::Relaxed), "a register was accessed without power");
    }

    /// Places a command at `start` and looks once.
    fn place_and_look(&self, drawn: Drawn, consumed: u64) {
        let Queue { tickets, marks, cons, .. } = &*self.queue;
        let start = drawn.start;
        self.queue.fill(start);
        tickets.publish(marks, drawn, start + 1, |position| {
            self.access();
            self.queue.tell(position);
        });
        tickets.has_reached(start + 1, (consumed, 0), || {
            self.access();
            cons.load(Ordering::Acquire)
        });
    }
}

/// A producer that looks, while the SMMU is put to sleep.
fn power_goes(look: fn(&Machine), sleep: fn(&Machine)) {
    explore(3, move || {
        let machine = Machine::new();
        let producer = {
            let machine = machine.clone();
            thread::spawn(move || look(&machine))
        };
        machine.state.sleep();
        sleep(&machine);
        machine.powered.store(false, Ordering::Relaxed);
        producer.join().unwrap();
    });
}

fn look(machine: &Machine) {
    let _inside = machine.state.arrive(0);
    if machine.state.now().works()
        && let consumed = machine.queue.tickets.consumed()
        && let Ok(drawn) = machine.queue.tickets.draw_at_once(1, consumed)
    {
        machine.place_and_look(drawn, consumed);
    }
}

fn sleep(machine: &Machine) {
    close(&machine.queue);
    machine.state.wait_outside(thread::yield_now);
}

#[test]
fn loom_nobody_who_drew_a_ticket_looks_at_registers_without_power() {
    power_goes(look, sleep);
}

#[test]
#[should_panic(expected = "without power")]
fn loom_twin_that_arrives_after_it_drew_looks_without_power() {
    power_goes(
        |machine| {
            if let Ok(drawn) = machine.queue.tickets.draw(1) {
                let start = drawn.start;
                machine.queue.fill(start);
                let tell = |position| machine.queue.tell(position);
                machine.queue.tickets.publish(&machine.queue.marks, drawn, start + 1, tell);
                let _inside = machine.state.arrive(0);
                machine.queue.tickets.has_reached(start + 1, (0, 0), || {
                    machine.access();
                    machine.queue.cons.load(Ordering::Acquire)
                });
            }
        },
        sleep,
    );
}

#[test]
#[should_panic(expected = "without power")]
fn loom_twin_without_a_ticket_looks_without_power() {
    power_goes(
        |machine| {
            let _inside = machine.state.arrive(0);
            if machine.state.now().works() {
                machine.access();
            }
        },
        sleep,
    );
}

#[test]
#[should_panic(expected = "without power")]
fn loom_twin_whose_draw_passes_nothing_on_looks_without_power() {
    power_goes(
        |machine| {
            let _inside = machine.state.arrive(0);
            let Producers { claimed, tail, .. } = &machine.queue.tickets.producers.0;
            if fits(claimed.fetch_add(1, Ordering::Relaxed), 1, 0) {
                let drawn =
                    drawn_from(tail.fetch_add(1 << POSITION_SHIFT | RUN, Ordering::Relaxed));
                machine.place_and_look(drawn, 0);
            } else {
                claimed.fetch_sub(1, Ordering::Relaxed);
            }
        },
        |machine| {
            // All but what publishing passes on.
            let Producers { claimed, .. } = &machine.queue.tickets.producers.0;
            claimed.fetch_add(CLOSED, Ordering::AcqRel);
            while machine.queue.drawn() != claimed.load(Ordering::Acquire).wrapping_sub(CLOSED - 2)
            {
                thread::yield_now();
            }
            machine.state.wait_outside(thread::yield_now);
        },
    );
}

#[test]
#[should_panic(expected = "without power")]
fn loom_twin_that_looks_who_is_inside_before_it_closes_the_queue_takes_their_power() {
    power_goes(look, |machine| {
        machine.state.wait_outside(thread::yield_now);
        close(&machine.queue);
    });
}

/// A producer that does not look for its command, and so is not among those inside, while the power goes.
fn power_goes_from_one_who_leaves(close: fn(&Queue)) {
    explore(2, move || {
        let queue = Queue::new(1);
        let powered = Arc::new(AtomicBool::new(true));
        let producers = [(); 2].map(|()| {
            let (queue, powered) = (queue.clone(), powered.clone());
            thread::spawn(move || {
                let Ok(drawn) = queue.tickets.draw(1) else { return };
                queue.fill(drawn.start);
                queue.tickets.publish(&queue.marks, drawn, drawn.start + 1, |position| {
                    let power = powered.load(Ordering::Relaxed);
                    assert!(power, "a register was accessed without power");
                    queue.tell(position);
                });
            })
        });
        close(&queue);
        powered.store(false, Ordering::Relaxed);
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

#[test]
fn loom_nobody_tells_an_smmu_without_power() {
    power_goes_from_one_who_leaves(close);
}

/// What is shown as published may be about to be told.
#[test]
#[should_panic(expected = "without power")]
fn loom_twin_that_does_not_wait_for_the_baton_is_told_of_without_power() {
    power_goes_from_one_who_leaves(|queue| queue.tickets.close(thread::yield_now));
}

/// The SMMU refuses the only command, and is let go on; `go_on` does both. One waits for it by the register, as `look` says,
/// and another one by what the first has found out. Returns whether both ever found it complete.
fn a_command_is_refused(look: fn(&Machine) -> bool, go_on: fn(&Machine)) -> [bool; 2] {
    let found = Arc::new([(); 2].map(|()| std::sync::atomic::AtomicBool::new(false)));
    let result = found.clone();
    explore(3, move || {
        let machine = Machine::new();
        let moment = machine.state.now();
        assert!(machine.queue.submit(draw, publish));
        let check = {
            let found = found.clone();
            move |which: usize, machine: &Machine, done: bool| {
                let overlooked = done && machine.state.is_undisturbed_since(moment);
                assert!(!overlooked, "a refusal was overlooked");
                found[which].fetch_or(done, Ordering::Relaxed);
            }
        };
        let waiter = {
            let (machine, check) = (machine.clone(), check.clone());
            thread::spawn(move || check(0, &machine, look(&machine)))
        };
        let other = {
            let machine = machine.clone();
            thread::spawn(move || check(1, &machine, machine.queue.tickets.consumed() >= 1))
        };
        go_on(&machine);
        waiter.join().unwrap();
        other.join().unwrap();
    });
    [0, 1].map(|which| result[which].load(Ordering::Relaxed))
}

fn look_for_it(machine: &Machine) -> bool {
    machine.queue.tickets.has_reached(1, (0, 0), || machine.queue.cons.load(Ordering::Acquire))
}

fn refuse_and_go_on(machine: &Machine) {
    machine.state.refuse();
    machine.queue.cons.store(1, Ordering::Release);
}

#[test]
fn loom_who_finds_a_command_complete_knows_that_one_was_refused() {
    assert_eq!(a_command_is_refused(look_for_it, refuse_and_go_on), [true; 2]);
}

#[test]
#[should_panic(expected = "a refusal was overlooked")]
fn loom_twin_that_goes_on_before_it_says_so_is_overlooked() {
    a_command_is_refused(look_for_it, |machine| {
        machine.queue.cons.store(1, Ordering::Release);
        machine.state.refuse();
    });
}

#[test]
#[should_panic(expected = "a refusal was overlooked")]
fn loom_twin_that_reads_the_register_without_acquire_overlooks_a_refusal() {
    let look = |machine: &Machine| {
        machine.queue.tickets.has_reached(1, (0, 0), || machine.queue.cons.load(Ordering::Relaxed))
    };
    a_command_is_refused(look, refuse_and_go_on);
}

#[test]
#[should_panic(expected = "a refusal was overlooked")]
fn loom_twin_that_tells_others_without_release_lets_them_overlook_a_refusal() {
    let look = |machine: &Machine| {
        let done = machine.queue.cons.load(Ordering::Acquire) == 1;
        let consumed = &machine.queue.tickets.waiters.consumed;
        done && consumed.compare_exchange_weak(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    a_command_is_refused(look, refuse_and_go_on);
}

#[test]
fn loom_what_one_look_reaches_another_may_overwrite() {
    let look = |queue: &Queue| {
        queue.tickets.has_reached(1, (0, 0), || queue.cons.load(Ordering::Acquire));
    };
    assert!(room_that_another_one_found(look), "there never was room");
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_reads_the_register_without_acquire_lets_a_slot_be_overwritten() {
    room_that_another_one_found(|queue| {
        queue.tickets.has_reached(1, (0, 0), || queue.cons.load(Ordering::Relaxed));
    });
}

/// One who looks at CONS while the queue is reset; afterwards a command is given, which the SMMU does not take.
#[test]
fn loom_a_look_during_a_reset_completes_nothing_after_it() {
    explore(3, || {
        let queue = Queue::new(1);
        assert!(queue.submit(draw, publish));
        queue.consume(&mut 0);
        let waiter = {
            let queue = queue.clone();
            thread::spawn(move || {
                queue.tickets.has_reached(1, (0, 0), || queue.cons.load(Ordering::Acquire));
            })
        };
        reset(&queue);
        let beginning = queue.tickets.consumed();
        assert!(queue.submit(draw, publish));
        waiter.join().unwrap();
        assert_eq!(queue.tickets.consumed(), beginning, "the SMMU took nothing");
    });
}

/// A queue of eight, most of which is used: what is consumed is told of when it is a good part of the queue. Two producers give
/// commands, look once whether those are done, and need room that the look of one of them finds. The SMMU is the main thread.
/// Returns whether what is known was ever behind at the end, and whether a command ever went where one was that only a look of that
/// time had found consumed.
fn room_is_told_of_seldom(look: fn(&Queue, u64, u64) -> bool) -> [bool; 2] {
    let found = Arc::new([(); 2].map(|()| std::sync::atomic::AtomicBool::new(false)));
    let result = found.clone();
    explore(2, move || {
        let queue = Queue::new(3);
        let (size, mut at) = (queue.tickets.size(), 0);
        for position in 0..6 {
            assert!(queue.submit(draw, publish));
            if position < 4 {
                queue.consume(&mut at);
                // One at a time is little, and is told of only once there are two.
                assert!(look(&queue, position + 1, queue.tickets.consumed()));
            }
        }
        let known = queue.tickets.consumed();
        assert_eq!((known, at), (4, 4), "as often as a quarter of the queue was consumed");
        // Six places that are known, and two that come when the other two commands are consumed. Each wants two, twice.
        let producers: Vec<_> = [(); 2]
            .into_iter()
            .map(|()| {
                let (queue, found) = (queue.clone(), found.clone());
                thread::spawn(move || {
                    let mut drawn = 0;
                    for _ in 0..2 {
                        let consumed = queue.tickets.consumed();
                        let Ok(ticket) = queue.tickets.draw_at_once(2, consumed) else { break };
                        let start = ticket.start;
                        if start + 2 > known + 8 {
                            // What it has overwritten was only found by a look since.
                            found[1].store(true, Ordering::Relaxed);
                        }
                        queue.fill(start);
                        queue.fill(start + 1);
                        publish(&queue, ticket, start + 2);
                        look(&queue, start + 2, consumed);
                        drawn += 2;
                    }
                    drawn
                })
            })
            .collect();
        queue.consume(&mut at);
        let drawn: u64 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        queue.consume(&mut at);
        assert_eq!(at, 6 + drawn, "a command was lost");
        let known = queue.tickets.consumed();
        assert!(known <= at && at - known <= size.entries(), "{known} of {at}");
        found[0].fetch_or(known < at, Ordering::Relaxed);
        // Whoever finds no room looks for itself, and finds all there is.
        assert!(queue.submit(draw, publish), "room was lost");
        queue.consume(&mut at);
        assert_eq!(at, 7 + drawn);
    });
    [0, 1].map(|which| result[which].load(Ordering::Relaxed))
}

fn look_once(queue: &Queue, end: u64, consumed: u64) -> bool {
    queue.tickets.has_reached(end, (consumed, 0), || queue.cons.load(Ordering::Acquire))
}

#[test]
fn loom_room_that_is_told_of_seldom_is_used_and_never_lost() {
    assert_eq!(room_is_told_of_seldom(look_once), [true; 2]);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_tells_of_room_without_release_lets_a_slot_be_overwritten() {
    room_is_told_of_seldom(|queue, end, consumed| {
        let ahead = queue.tickets.size().ahead(consumed, queue.cons.load(Ordering::Acquire));
        let position = consumed + ahead;
        if position > queue.tickets.producers.published.load(Ordering::Relaxed) {
            return false;
        }
        if ahead > queue.tickets.size().quarter() {
            let (order, known) = (Ordering::Relaxed, &queue.tickets.waiters.consumed);
            let _ = known.compare_exchange_weak(consumed, position, order, order);
        }
        position >= end
    });
}
