// SPDX-License-Identifier: MIT OR Apache-2.0
//! What enhanced queues and messages need of the tickets: PROD that holds an acknowledgement beside the index, and
//! completion that is heard of by a word in memory. Each with twins that must fail.

use super::*;

/// Beside the index in PROD, which has a bit for wrapping and at most two more here.
const ERRACK: u64 = 1 << 8;

/// Acknowledges an error: changes what PROD holds, and writes it.
type Acknowledge = fn(&Queue, &AtomicU64);

fn tell(queue: &Queue, control: &AtomicU64, position: u64) {
    let register = u64::from(queue.tickets.size().register(position));
    let value = register | control.load(Ordering::Relaxed);
    queue.prod.store(value as u32, Ordering::Release);
}

fn acknowledge(queue: &Queue, control: &AtomicU64) {
    let toggle = || control.store(ERRACK, Ordering::Relaxed);
    queue.tickets.tell_again(&queue.marks, toggle, |position| tell(queue, control, position));
}

/// Two producers of a command each, while one acknowledges an error: at the end PROD holds both commands, and the
/// acknowledgement, which nobody has taken back.
fn an_acknowledgement_meets_producers(acknowledge: Acknowledge) {
    explore(3, move || {
        let queue = Queue::new(2);
        let control = Arc::new(AtomicU64::new(0));
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, control) = (queue.clone(), control.clone());
                thread::spawn(move || {
                    let drawn = queue.tickets.draw(1).unwrap();
                    queue.fill(drawn.start);
                    let tell = |position| tell(&queue, &control, position);
                    queue.tickets.publish(&queue.marks, drawn, drawn.start + 1, tell);
                })
            })
            .collect();
        acknowledge(&queue, &control);
        for producer in producers {
            producer.join().unwrap();
        }
        let prod = u64::from(queue.prod.load(Ordering::Relaxed));
        assert_eq!(prod & ERRACK, ERRACK, "it was taken back");
        assert_eq!(prod & !ERRACK, 2, "a doorbell was lost");
    });
}

#[test]
fn loom_an_acknowledgement_is_not_taken_back_and_loses_no_doorbell() {
    an_acknowledgement_meets_producers(acknowledge);
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_acknowledges_without_the_baton_takes_a_doorbell_back() {
    an_acknowledgement_meets_producers(|queue, control| {
        control.store(ERRACK, Ordering::Relaxed);
        tell(queue, control, queue.tickets.published());
    });
}

#[test]
#[should_panic(expected = "a doorbell was lost")]
fn loom_twin_that_publishes_nothing_after_an_acknowledgement_loses_a_doorbell() {
    an_acknowledgement_meets_producers(|queue, control| {
        let tickets = &queue.tickets;
        let (position, counted) = tickets.take_baton(&queue.marks, thread::yield_now);
        control.store(ERRACK, Ordering::Relaxed);
        tell(queue, control, position);
        if tickets.producers.tail.fetch_sub(counted, Ordering::AcqRel) & RUNS != counted {
            queue.mark(position).store(baton(position), Ordering::Release);
        }
    });
}

/// The SMMU is a thread, which writes how far it has come after it has read the slots. One who waits hears of it, and
/// uses the slot again.
fn a_message_gives_room(hear: fn(&Queue, &AtomicU64)) -> bool {
    let used = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let result = used.clone();
    explore(3, move || {
        let queue = Queue::new(0);
        let word = Arc::new(AtomicU64::new(0));
        assert!(queue.submit(draw, publish));
        let (smmu, message) = (queue.clone(), word.clone());
        let smmu = thread::spawn(move || {
            let mut at = 0;
            smmu.consume(&mut at);
            message.store(at, Ordering::Release);
        });
        hear(&queue, &word);
        if let Ok(drawn) = queue.tickets.draw(1) {
            queue.fill(drawn.start);
            used.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        smmu.join().unwrap();
    });
    result.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn loom_what_a_message_gives_back_may_be_overwritten() {
    let hear = |queue: &Queue, word: &AtomicU64| {
        queue.tickets.share(queue.tickets.hear(&mut 0, || word.load(Ordering::Acquire) as u32));
    };
    assert!(a_message_gives_room(hear), "there never was room");
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_twin_that_reads_a_message_without_acquire_overwrites_what_is_being_read() {
    a_message_gives_room(|queue, word| {
        queue.tickets.share(queue.tickets.hear(&mut 0, || word.load(Ordering::Relaxed) as u32));
    });
}
