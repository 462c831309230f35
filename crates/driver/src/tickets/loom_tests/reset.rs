// SPDX-License-Identifier: MIT OR Apache-2.0
//! A queue that is reset under those who give commands and those who wait. Each with twins that must fail.

use super::*;

/// A reset of the SMMU, which is off.
type Reset = fn(&Queue);

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
                    let Ok(drawn) = queue.tickets.draw(count) else { return None };
                    let start = drawn.start;
                    (start..start + count).for_each(|position| queue.fill(position));
                    publish(&queue, drawn, start + count);
                    Some(start)
                })
            })
            .collect();
        reset(&queue);
        let beginning = queue.tickets.consumed();
        let starts = producers.into_iter().filter_map(|producer| producer.join().unwrap());
        let after = starts.filter(|start| *start >= beginning).count() as u64 * count;
        assert!(after <= size.entries(), "more than fits was drawn");
        let (drawn, left) = (queue.drawn(), queue.left());
        let claimed = queue.tickets.producers.claimed.load(Ordering::Relaxed);
        let claimed = claimed.wrapping_add(size.entries());
        assert_eq!((left, claimed), (0, drawn), "claims and tickets disagree");
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

/// A reset in its steps: it waits until `is_over`, and lets tickets be drawn again by `open`, from the given position on.
fn reset_by(queue: &Queue, is_over: fn(&Queue) -> bool, open: fn(&Queue, u64)) {
    let Queue { tickets, .. } = queue;
    let Producers { claimed, published, .. } = &tickets.producers.0;
    claimed.fetch_add(CLOSED, Ordering::AcqRel);
    while !is_over(queue) {
        thread::yield_now();
    }
    let end = queue.drawn();
    let beginning = end.next_multiple_of(2 * tickets.size().entries());
    published.store(beginning, Ordering::Release);
    claimed.fetch_add(beginning - end, Ordering::AcqRel);
    queue.prod.store(0, Ordering::Release);
    queue.cons.store(0, Ordering::Release);
    open(queue, beginning);
}

fn open_at(queue: &Queue, beginning: u64) {
    let tail = &queue.tickets.producers.tail;
    tail.store(beginning << POSITION_SHIFT, Ordering::Release);
    queue.tickets.open();
}

/// Nothing was drawn that is not published, and no claim is being made or taken back.
fn is_all_published(queue: &Queue) -> bool {
    let Producers { claimed, tail, .. } = &queue.tickets.producers.0;
    let all = claimed.load(Ordering::Acquire).wrapping_sub(CLOSED);
    let all = all.wrapping_add(queue.tickets.size().entries());
    tail.load(Ordering::Acquire) == all << POSITION_SHIFT
}

#[test]
fn loom_a_reset_waits_for_every_ticket_step_by_step() {
    a_reset_meets_producers(1, |queue| reset_by(queue, is_all_published, open_at));
}

#[test]
#[should_panic(expected = "claims and tickets disagree")]
fn loom_twin_of_a_reset_that_does_not_wait_meets_a_late_producer() {
    a_reset_meets_producers(1, |queue| reset_by(queue, |_| true, open_at));
}

/// Who has claimed room, and has no ticket yet, is not among those that were drawn.
#[test]
#[should_panic(expected = "claims and tickets disagree")]
fn loom_twin_of_a_reset_that_looks_at_no_claims_meets_a_late_producer() {
    a_reset_meets_producers(1, |queue| {
        let is_at_rest =
            |queue: &Queue| queue.tickets.producers.tail.load(Ordering::Acquire) & RUNS == 0;
        reset_by(queue, is_at_rest, open_at);
    });
}

#[test]
#[should_panic(expected = "claims and tickets disagree")]
fn loom_twin_of_a_reset_that_begins_after_others_draw_takes_their_tickets_away() {
    a_reset_meets_producers(1, |queue| {
        reset_by(queue, is_all_published, |queue, beginning| {
            queue.tickets.open();
            let tail = &queue.tickets.producers.tail;
            tail.store(beginning << POSITION_SHIFT, Ordering::Release);
        });
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
        close(queue);
        queue.tickets.waiters.consumed.fetch_max(queue.tickets.published(), Ordering::AcqRel);
        queue.prod.store(0, Ordering::Release);
        queue.cons.store(0, Ordering::Release);
        queue.tickets.open();
    });
}
