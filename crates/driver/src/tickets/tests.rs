// SPDX-License-Identifier: MIT OR Apache-2.0
//! One producer after the other: every size of queue and batch, at every position, for several laps.

use std::vec::Vec;

use super::*;

fn queue(log2: u32) -> (Tickets, Vec<AtomicU64>) {
    let size = Size::new(log2).unwrap();
    (Tickets::new(size), (0..size.entries()).map(|_| AtomicU64::new(0)).collect())
}

/// Publishes the run, and returns what CMDQ_PROD is told, if it is.
fn publish((tickets, marks): &(Tickets, Vec<AtomicU64>), start: u64, end: u64) -> Option<u64> {
    let mut told = None;
    tickets.publish(marks, start, end, |position| {
        assert_eq!(told.replace(position), None, "two register writes");
    });
    told
}

/// Learns for all what is consumed.
fn observe(tickets: &Tickets, register: u32) -> Result<(), u32> {
    tickets.observe(&mut 0, || register).map(|consumed| tickets.share(consumed))
}

#[test]
fn batches_of_every_size_wrap_at_every_position() {
    for log2 in 0..=4 {
        for (first, second) in (1..=1 << log2).flat_map(|a| (1..=1 << log2).map(move |b| (a, b))) {
            let queue = queue(log2);
            let (tickets, size) = (&queue.0, queue.0.size());
            let mut position = 0;
            // Two sizes in turn meet every position in a few laps.
            for count in [first, second].into_iter().cycle().take(6 << log2) {
                while !tickets.has_room(count) {
                    assert_eq!(tickets.draw(count), Err(NoTicket::Full));
                    // The SMMU takes one more.
                    let register = size.register(tickets.consumed() + 1);
                    assert_eq!(observe(tickets, register), Ok(()));
                }
                assert!(position + count <= tickets.consumed() + size.entries());
                assert_eq!(tickets.draw(count), Ok(position));
                assert_eq!(publish(&queue, position, position + count), Some(position + count));
                position += count;
                assert_eq!(tickets.published(), position);
            }
        }
    }
}

#[test]
fn one_register_write_publishes_all_runs_that_became_complete() {
    let queue = queue(3);
    let starts = [2, 1, 3].map(|count| queue.0.draw(count).unwrap());
    assert_eq!(starts, [0, 2, 3]);
    // Out of order: the last two wait for the first.
    assert_eq!(publish(&queue, 3, 6), None);
    assert_eq!(publish(&queue, 2, 3), None);
    assert_eq!(queue.0.published(), 0);
    assert_eq!(publish(&queue, 0, 2), Some(6));
    assert_eq!(queue.0.draw(3), Err(NoTicket::Full));
    assert_eq!(queue.0.draw(2), Ok(6));
}

#[test]
fn an_index_ahead_of_what_was_published_is_refused_with_its_value() {
    let queue = queue(2);
    let start = queue.0.draw(2).unwrap();
    assert_eq!(observe(&queue.0, 1), Err(1), "nothing is published yet");
    publish(&queue, start, start + 2);
    assert_eq!((observe(&queue.0, 3), observe(&queue.0, 7)), (Err(3), Err(7)));
    assert_eq!((observe(&queue.0, 2), queue.0.consumed()), (Ok(()), 2));
}

#[test]
fn who_is_near_or_is_told_reads_in_each_turn_and_who_is_far_now_and_then() {
    let (tickets, _) = queue(6);
    let turns = |poller: &mut Poller<'_>, turns: usize| {
        let mut reads = 0;
        let mut checks = Vec::new();
        for turn in 0..turns {
            let read = || {
                reads += 1;
                0
            };
            if poller.turn(read).unwrap() {
                checks.push(turn);
            }
        }
        (reads, checks)
    };
    for near in [0, 8] {
        assert_eq!(turns(&mut Poller::new(&tickets, near, 0), 17), (17, std::vec![16]));
        assert!(!tickets.waiters.awaited.load(Ordering::Relaxed));
    }
    let mut far = Poller::new(&tickets, 9, 0);
    assert_eq!(turns(&mut far, 17), (3, std::vec![16]));
    assert!(tickets.waiters.awaited.load(Ordering::Relaxed));
    // The SMMU comes near.
    tickets.share(1);
    assert_eq!(far.turn(|| 0), Err(0), "it reads, and nothing is published");
    assert!(!tickets.waiters.awaited.load(Ordering::Relaxed));
    let mut far = Poller::new(&tickets, 10, 0);
    assert_eq!([far.turn(|| 128), far.turn(|| 128)], [Err(128), Ok(false)]);
    assert!(tickets.waiters.awaited.load(Ordering::Relaxed));
    drop(far);
    assert!(!tickets.waiters.awaited.load(Ordering::Relaxed));
    // A turn is a wake-up: another one's look does not help, if that comes later.
    let (mut tickets, _) = queue(6);
    tickets.told = true;
    for start in [0, 30] {
        let mut poller = Poller::new(&tickets, start, 0);
        assert_eq!(turns(&mut poller, 4), (4, std::vec![1, 2, 3]));
    }
}

/// All who draw read what is known to be consumed: it is written when somebody waits for it, or room is far from known.
#[test]
fn who_looks_for_itself_tells_others_only_of_much() {
    let queue = queue(4);
    let tickets = &queue.0;
    let start = tickets.draw(16).unwrap();
    publish(&queue, start, start + 16);
    assert!(tickets.has_reached(3, (0, 0), || 3) && tickets.consumed() == 0);
    assert!(!tickets.has_reached(4, (0, 0), || 3) && !tickets.has_reached(4, (0, 0), || 17));
    assert!(tickets.has_reached(4, (0, 0), || 5) && tickets.consumed() == 5);
    let turn = |start, register| {
        let mut poller = Poller::new(tickets, start, 0);
        assert_eq!(poller.turn(|| register), Ok(false));
        (poller.consumed(), tickets.consumed(), poller.is_idle())
    };
    assert_eq!((turn(0, 8), tickets.consumed()), ((8, 5, false), 5));
    assert_eq!((turn(0, 10), tickets.consumed()), ((10, 5, false), 10), "it leaves");
    // Somebody waits further behind.
    tickets.waiters.awaited.store(true, Ordering::Relaxed);
    assert_eq!((turn(0, 13), tickets.consumed()), ((13, 10, false), 10));
    assert_eq!(turn(0, 15), (15, 15, false));
    tickets.waiters.awaited.store(false, Ordering::Relaxed);
    assert_eq!(turn(0, 16), (16, 15, true));
}

#[test]
fn a_closed_queue_gives_no_tickets_and_begins_anew_where_both_registers_are_zero() {
    for drawn in 0..=8 {
        let queue = queue(2);
        let size = queue.0.size();
        for position in 0..drawn {
            assert_eq!(observe(&queue.0, size.register(position)), Ok(()));
            assert_eq!(queue.0.draw(1), Ok(position));
            publish(&queue, position, position + 1);
        }
        let mut beginnings = Vec::new();
        for _ in 0..2 {
            queue.0.close(
                &queue.1,
                || panic!("there is nothing to wait for"),
                |beginning| {
                    beginnings.push(beginning);
                },
            );
            assert!(queue.0.draw(1).is_err() && queue.0.draw(4).is_err());
        }
        let beginning = drawn.next_multiple_of(8);
        assert_eq!(beginnings, [beginning; 2]);
        assert_eq!(queue.0.published(), beginning);
        queue.0.open();
        assert_eq!(queue.0.consumed(), beginning);
        assert_eq!(queue.0.draw(4), Ok(beginning), "all slots are free");
        assert_eq!(publish(&queue, beginning, beginning + 4), Some(beginning + 4));
        assert_eq!(queue.0.draw(1), Err(NoTicket::Full));
    }
}

/// The low half of a position: of the present, an old one, one of before a reset, and nonsense.
#[test]
fn a_message_tells_what_is_behind_it_and_nothing_else() {
    let queue = queue(3);
    let tickets = &queue.0;
    for round in 0..1000u64 {
        let start = tickets.draw(4).unwrap();
        assert_eq!(start, 4 * round);
        publish(&queue, start, start + 4);
        tickets.share(tickets.hear(|| (start + 2) as u32));
        assert_eq!(tickets.consumed(), start + 2);
        for wrong in [start, start + 1, start + 5, start + 400, start.wrapping_sub(9)] {
            tickets.share(tickets.hear(|| wrong as u32));
            assert_eq!(tickets.consumed(), start + 2, "{wrong}");
        }
        tickets.share(tickets.hear(|| (start + 4) as u32));
        assert_eq!(tickets.consumed(), start + 4);
    }
}

/// Beyond 2^32 positions the low half begins anew.
#[test]
fn messages_go_on_where_their_number_begins_anew() {
    let queue = queue(3);
    let tickets = &queue.0;
    let first = (1u64 << 32) - 8;
    tickets.close(&queue.1, || (), |_| ());
    tickets.shown.published.store(first, Ordering::Relaxed);
    queue.1[0].store(baton(first), Ordering::Relaxed);
    tickets.producers.claimed.store(first - 8, Ordering::Relaxed);
    tickets.open();
    for start in (first..first + 32).step_by(4) {
        assert_eq!(tickets.draw(4), Ok(start));
        publish(&queue, start, start + 4);
        tickets.share(tickets.hear(|| (start + 4) as u32));
        assert_eq!(tickets.consumed(), start + 4);
    }
}

#[test]
fn what_prod_holds_besides_is_changed_by_one_write_of_its_own() {
    let queue = queue(3);
    let start = queue.0.draw(3).unwrap();
    assert_eq!(publish(&queue, start, start + 3), Some(3));
    let (changed, told) = (core::cell::Cell::new(false), core::cell::Cell::new(None));
    queue.0.tell_again(
        &queue.1,
        || changed.set(true),
        |position| {
            assert!(changed.get());
            assert_eq!(told.replace(Some(position)), None);
        },
    );
    assert_eq!(told.get(), Some(3));
}

/// Others give a command whenever it has published one: after some turns it leaves the rest to them.
#[test]
fn whoever_has_the_baton_hands_it_over_after_a_number_of_turns() {
    const OTHERS: u64 = 200;
    let queue = queue(8);
    let (tickets, marks) = &queue;
    let mark = |position: u64| marks[tickets.size().slot(position)].load(Ordering::Acquire);
    let asked = AtomicU64::new(0);
    let told = std::sync::Mutex::new(Vec::new());
    let mut turns = 0u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for given in 0..OTHERS {
                while asked.load(Ordering::Acquire) <= given {
                    std::thread::yield_now();
                }
                let start = tickets.draw(1).unwrap();
                tickets.publish(marks, start, start + 1, |it| told.lock().unwrap().push(it));
            }
        });
        let start = tickets.draw(1).unwrap();
        tickets.publish(marks, start, start + 1, |position| {
            told.lock().unwrap().push(position);
            turns += 1;
            if asked.fetch_add(1, Ordering::AcqRel) < OTHERS {
                while end_in(mark(position), position).is_none() {
                    std::thread::yield_now();
                }
            }
        });
        // The others go on by themselves.
        asked.store(OTHERS, Ordering::Release);
    });
    assert!((2..=u64::from(TURNS) + 2).contains(&turns), "{turns} turns");
    let told = told.into_inner().unwrap();
    assert!(told.is_sorted() && told.last() == Some(&(OTHERS + 1)), "{told:?}");
    assert_eq!(tickets.published(), OTHERS + 1);
    assert_eq!(mark(OTHERS + 1), baton(OTHERS + 1));
}
