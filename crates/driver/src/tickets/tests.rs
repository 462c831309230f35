// SPDX-License-Identifier: MIT OR Apache-2.0
//! One producer after the other: every size of queue and batch, at every position, for several laps.

use std::vec::Vec;

use super::*;

fn queue(log2: u32) -> (Tickets, Vec<AtomicU64>) {
    let size = Size::new(log2).unwrap();
    (Tickets::new(size), (0..size.entries()).map(|_| AtomicU64::new(0)).collect())
}

/// Publishes the run, and returns what CMDQ_PROD is told, if it is.
fn publish((tickets, marks): &(Tickets, Vec<AtomicU64>), drawn: Drawn, end: u64) -> Option<u64> {
    let mut told = None;
    let known = tickets.publish(marks, drawn, end, |position| {
        assert_eq!(told.replace(position), None, "two register writes");
    });
    assert_eq!(known, told.unwrap_or(0));
    told
}

/// Draws a ticket that begins at `start`.
fn draw(tickets: &Tickets, count: u64, start: u64) -> Drawn {
    let drawn = tickets.draw(count).unwrap();
    assert_eq!(drawn.start, start);
    drawn
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
                let drawn = draw(tickets, count, position);
                assert_eq!(publish(&queue, drawn, position + count), Some(position + count));
                position += count;
                assert_eq!(tickets.published(), position);
            }
        }
    }
}

#[test]
fn one_register_write_publishes_all_runs_that_became_complete() {
    let queue = queue(3);
    let [first, second, third] = [2, 1, 3].map(|count| queue.0.draw(count).unwrap());
    assert_eq!([first.start, second.start, third.start], [0, 2, 3]);
    assert_eq!([first.turn, second.turn, third.turn], [Turn::First, Turn::Behind, Turn::Behind]);
    // Out of order: the last two wait for the first.
    assert_eq!(publish(&queue, third, 6), None);
    assert_eq!(publish(&queue, second, 3), None);
    assert_eq!(queue.0.published(), 0);
    assert_eq!(publish(&queue, first, 2), Some(6));
    assert_eq!(queue.0.runs(), 3);
    assert_eq!(queue.0.draw(3), Err(NoTicket::Full));
    assert_eq!(draw(&queue.0, 2, 6).turn, Turn::First);
}

/// The first is published before the second is marked: the baton lies in the second's mark then, and comes to the third from there.
#[test]
fn the_baton_lies_where_the_next_run_will_be_marked() {
    let queue = queue(3);
    let [first, second, third] = [1, 1, 1].map(|count| queue.0.draw(count).unwrap());
    assert_eq!(publish(&queue, first, 1), Some(1));
    assert_eq!(publish(&queue, third, 3), None);
    assert_eq!(publish(&queue, second, 2), Some(3));
    // Nobody is there: it lies in no mark.
    assert_eq!(draw(&queue.0, 1, 3).turn, Turn::First);
}

#[test]
fn an_index_ahead_of_what_was_published_is_refused_with_its_value() {
    let queue = queue(2);
    let drawn = draw(&queue.0, 2, 0);
    assert_eq!(observe(&queue.0, 1), Err(1), "nothing is published yet");
    publish(&queue, drawn, 2);
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
    publish(&queue, draw(tickets, 16, 0), 16);
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
            publish(&queue, draw(&queue.0, 1, position), position + 1);
        }
        let mut beginnings = Vec::new();
        for _ in 0..2 {
            queue.0.close(|| panic!("there is nothing to wait for"));
            queue.0.begin(&queue.1, |beginning| beginnings.push(beginning));
            assert!(queue.0.is_closed());
            assert_eq!(queue.0.draw(1), Err(NoTicket::Closed));
            assert_eq!(queue.0.draw_at_once(4, queue.0.consumed()), Err(NoTicket::Closed));
        }
        let beginning = drawn.next_multiple_of(8);
        assert_eq!(beginnings, [beginning; 2]);
        assert_eq!(queue.0.published(), beginning);
        queue.0.open();
        assert!(!queue.0.is_closed());
        assert_eq!(queue.0.consumed(), beginning);
        // All slots are free.
        let drawn = draw(&queue.0, 4, beginning);
        assert_eq!(publish(&queue, drawn, beginning + 4), Some(beginning + 4));
        assert_eq!(queue.0.draw(1), Err(NoTicket::Full));
    }
}

/// The low half of a position: of the present, an old one, one of before a reset, and nonsense.
#[test]
fn a_message_tells_what_is_behind_it_and_nothing_else() {
    let queue = queue(3);
    let tickets = &queue.0;
    for round in 0..1000u64 {
        let start = 4 * round;
        publish(&queue, draw(tickets, 4, start), start + 4);
        tickets.share(tickets.hear(&mut 0, || (start + 2) as u32));
        assert_eq!(tickets.consumed(), start + 2);
        for wrong in [start, start + 1, start + 5, start + 400, start.wrapping_sub(9)] {
            tickets.share(tickets.hear(&mut 0, || wrong as u32));
            assert_eq!(tickets.consumed(), start + 2, "{wrong}");
        }
        tickets.share(tickets.hear(&mut 0, || (start + 4) as u32));
        assert_eq!(tickets.consumed(), start + 4);
    }
}

/// Beyond 2^32 positions the low half begins anew.
#[test]
fn messages_go_on_where_their_number_begins_anew() {
    let queue = queue(3);
    let tickets = &queue.0;
    let first = (1u64 << 32) - 16;
    begin_at(&queue, first);
    for start in (first..first + 32).step_by(4) {
        publish(&queue, draw(tickets, 4, start), start + 4);
        tickets.share(tickets.hear(&mut 0, || (start + 4) as u32));
        assert_eq!(tickets.consumed(), start + 4);
    }
}

/// Has an empty queue go on at `first`, where its registers are zero.
fn begin_at((tickets, marks): &(Tickets, Vec<AtomicU64>), first: u64) {
    let size = tickets.size();
    assert_eq!((tickets.published(), size.register(first)), (0, 0));
    tickets.close(|| ());
    tickets.begin(marks, |_| ());
    let Producers { claimed, tail, published, .. } = &tickets.producers.0;
    claimed.fetch_add(first, Ordering::Relaxed);
    tail.store(first << POSITION_SHIFT, Ordering::Relaxed);
    published.store(first, Ordering::Relaxed);
    tickets.open();
}

/// The word that tickets are drawn from has 42 bits of a position.
#[test]
fn tickets_go_on_where_the_word_that_counts_them_begins_anew() {
    let queue = queue(3);
    let tickets = &queue.0;
    let first = (1u64 << 42) - 16;
    begin_at(&queue, first);
    for start in (first..first + 64).step_by(8) {
        let [one, other] = [start, start + 3].map(|start| draw(tickets, 3, start));
        assert_eq!(publish(&queue, other, start + 6), None);
        assert_eq!(publish(&queue, one, start + 3), Some(start + 6));
        assert_eq!(tickets.draw(3), Err(NoTicket::Full));
        assert_eq!(publish(&queue, draw(tickets, 2, start + 6), start + 8), Some(start + 8));
        assert_eq!(observe(tickets, tickets.size().register(start + 8)), Ok(()));
    }
    tickets.close(|| unreachable!());
    assert_eq!(tickets.begin(&queue.1, |_| ()), first + 64);
}

/// The largest queue, full of runs of one slot, which are all published, consumed, and followed by as many, before the first has
/// taken any of them off the count.
#[test]
fn twice_as_many_runs_as_slots_are_counted() {
    let queue = queue(19);
    let (tickets, marks) = &queue;
    let entries = tickets.size().entries();
    let all = |from: u64| (from..from + entries).map(|start| draw(tickets, 1, start));
    let drawn: Vec<_> = all(0).collect();
    for behind in &drawn[1..] {
        assert_eq!(publish(&queue, *behind, behind.start + 1), None);
    }
    let again = core::cell::RefCell::new(Vec::new());
    let known = tickets.publish(marks, drawn[0], 1, |position| {
        assert_eq!(position, entries);
        assert_eq!(observe(tickets, tickets.size().register(position)), Ok(()));
        *again.borrow_mut() = all(entries).collect();
    });
    assert_eq!(known, entries);
    let again = again.into_inner();
    assert!(again.iter().all(|drawn| drawn.turn == Turn::Behind), "the baton is there twice");
    let told = again.into_iter().filter_map(|drawn| publish(&queue, drawn, drawn.start + 1));
    assert_eq!(told.last(), Some(2 * entries));
    assert_eq!(tickets.producers.tail.load(Ordering::Relaxed) & (RUNS | WANTED), 0);
}

#[test]
fn what_prod_holds_besides_is_changed_by_one_write_of_its_own() {
    let queue = queue(3);
    assert_eq!(publish(&queue, draw(&queue.0, 3, 0), 3), Some(3));
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
    // It is at rest again.
    assert_eq!(draw(&queue.0, 1, 3).turn, Turn::First);
}

/// While somebody has the baton who has no run, others leave theirs to it; and so they do where it was taken out of a mark.
#[test]
fn runs_that_are_marked_while_prod_is_written_once_more_are_published_with_it() {
    let queue = queue(3);
    let (tickets, marks) = &queue;
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |position| told.borrow_mut().push(position);
    let change = || {
        let drawn = tickets.draw(1).unwrap();
        assert_eq!(publish(&queue, drawn, drawn.start + 1), None);
    };
    tickets.tell_again(marks, change, tell);
    assert_eq!(*told.borrow(), [0, 1]);
    let [first, second] = [1, 2].map(|start| draw(tickets, 1, start));
    assert_eq!(publish(&queue, first, 2), Some(2));
    // The baton lies in the second one's mark.
    tickets.tell_again(marks, || assert_eq!(publish(&queue, second, 3), None), tell);
    assert_eq!(*told.borrow(), [0, 1, 2, 3]);
    let [first, second] = [3, 4].map(|start| draw(tickets, 1, start));
    assert_eq!(publish(&queue, first, 4), Some(4));
    // And there it lies again afterwards.
    tickets.tell_again(marks, || (), tell);
    assert_eq!(*told.borrow(), [0, 1, 2, 3, 4]);
    assert_eq!(publish(&queue, second, 5), Some(5));
    assert_eq!((tickets.runs(), draw(tickets, 1, 5).turn), (5, Turn::First));
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
                let drawn = tickets.draw(1).unwrap();
                let tell = |position| told.lock().unwrap().push(position);
                tickets.publish(marks, drawn, drawn.start + 1, tell);
            }
        });
        let drawn = tickets.draw(1).unwrap();
        tickets.publish(marks, drawn, drawn.start + 1, |position| {
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
    assert_eq!(draw(tickets, 1, OTHERS + 1).turn, Turn::First);
}
