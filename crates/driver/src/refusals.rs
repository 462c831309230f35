// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of commands that the SMMU refused (§3.2): noted by whoever recovers the queue, read by whoever waits.

use smmuv3_formats::Command;
use smmuv3_formats::register::cerror;

use crate::sync::{AtomicU64, Ordering, fence};

/// The last `LENGTH` refusals of a queue, in the order of their positions. A waiter looks through those that came since it
/// drew its ticket; if there were more than are remembered, it is told so.
pub(crate) struct Refusals<const LENGTH: usize = 64> {
    /// How many there were, ever.
    count: AtomicU64,
    /// How many of them the interrupt handler has been told of.
    reported: AtomicU64,
    /// Each in the place of its number modulo `LENGTH`: position, error code, the words of the command.
    log: [[AtomicU64; 4]; LENGTH],
}

/// What is known of a run of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// None of its commands was refused.
    None,
    /// This one was, with this `CMDQ_CONS.ERR`.
    Refused(Command, u8),
    /// So many commands were refused since that it is not known any more whether one of these was.
    Forgotten,
}

impl<const LENGTH: usize> Refusals<LENGTH> {
    pub(crate) fn new() -> Self {
        let word = || AtomicU64::new(0);
        let record = |_| [word(), word(), word(), word()];
        Self { count: word(), reported: word(), log: core::array::from_fn(record) }
    }

    /// How many commands were refused, ever.
    #[inline]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Notes that the SMMU refused `command`, at `position`, with `CMDQ_CONS.ERR` = `code`. One caller at a time.
    pub(crate) fn note(&self, position: u64, command: Command, code: u8) {
        let number = self.count.load(Ordering::Relaxed);
        // Pairs with the fence in `get`: a reader that sees a word of the new record also sees the count at which the
        // old one became invalid.
        fence(Ordering::Release);
        let [at, why, low, high] = self.record(number);
        at.store(position, Ordering::Relaxed);
        why.store(code.into(), Ordering::Relaxed);
        low.store(command.0[0], Ordering::Relaxed);
        high.store(command.0[1], Ordering::Relaxed);
        // Release: a reader that finds the new count sees the whole record.
        self.count.store(number + 1, Ordering::Release);
    }

    /// Whether one of the commands from `start` to `end` was refused; no more than `since` says were, of this queue, since
    /// they were placed. What was tried again was not.
    pub(crate) fn find(&self, start: u64, end: u64, since: impl FnOnce() -> u64) -> Finding {
        let count = self.count();
        // `since` is asked after the count was loaded: a refusal is announced before it is noted, so all that are
        // counted are among `since`. The other way round, a refusal in between would push the oldest one out of the
        // range that is searched.
        let before = count.saturating_sub(since());
        // Older records may have been overwritten. Positions only grow, so all records of the run are still there if
        // one was found from before the run.
        let mut all = false;
        for number in before.max(count.saturating_sub(LENGTH as u64))..count {
            match self.get(number) {
                Some((position, command, code))
                    if (start..end).contains(&position) && !is_retried(code) =>
                {
                    return Finding::Refused(command, code);
                }
                Some((position, ..)) => all |= position < start,
                None => all = false,
            }
        }
        if !all && self.count() >= before + LENGTH as u64 {
            Finding::Forgotten
        } else {
            Finding::None
        }
    }

    /// Tells `sink` of all refusals that it was not told of yet, whoever recovered from them: command and code. Returns
    /// how many more there were, which are not remembered.
    pub(crate) fn report(&self, sink: &mut dyn FnMut(Command, u8)) -> u64 {
        let count = self.count();
        let reported = self.reported.fetch_max(count, Ordering::Relaxed).min(count);
        // Older records have been overwritten.
        let oldest = reported.max(count.saturating_sub(LENGTH as u64));
        let mut forgotten = oldest - reported;
        for number in oldest..count {
            match self.get(number) {
                Some((_, command, code)) => sink(command, code),
                None => forgotten += 1,
            }
        }
        forgotten
    }

    /// Position, command and code of a refusal, unless its record has been taken by a later one.
    #[inline]
    fn get(&self, number: u64) -> Option<(u64, Command, u8)> {
        let [at, why, low, high] = self.record(number);
        let position = at.load(Ordering::Relaxed);
        // It was stored from eight bits.
        let code = why.load(Ordering::Relaxed) as u8;
        let command = Command([low.load(Ordering::Relaxed), high.load(Ordering::Relaxed)]);
        // The count is looked at again after the words were read: was the record being replaced meanwhile?
        fence(Ordering::Acquire);
        let replaced = self.count.load(Ordering::Relaxed) >= number + LENGTH as u64;
        (!replaced).then_some((position, command, code))
    }

    fn record(&self, number: u64) -> &[AtomicU64; 4] {
        // The remainder is below the length.
        &self.log[(number % LENGTH as u64) as usize]
    }
}

/// Whether the SMMU does the command after all once the error is acknowledged: the fetch was aborted, or it gives no reason.
pub(crate) fn is_retried(code: u8) -> bool {
    matches!(u64::from(code), cerror::ABT | cerror::NONE)
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const COMMAND: Command = Command([0x7f, 0x1234]);

    #[test]
    fn each_run_finds_its_own_refusals_and_says_when_it_cannot_know() {
        let refusals: Refusals<4> = Refusals::new();
        assert_eq!(refusals.find(0, 100, || 0), Finding::None);
        refusals.note(7, COMMAND, 1);
        assert_eq!(refusals.find(5, 7, || 1), Finding::None);
        assert_eq!(refusals.find(5, 8, || 1), Finding::Refused(COMMAND, 1));
        assert_eq!(refusals.find(5, 8, || 9), Finding::Refused(COMMAND, 1));
        assert_eq!(refusals.find(5, 8, || 0), Finding::None, "noted before it was placed");
        // Three others: the first is still known.
        (8..11).for_each(|position| refusals.note(position, COMMAND, 3));
        assert_eq!(refusals.find(7, 8, || 4), Finding::Forgotten);
        assert_eq!(refusals.find(7, 8, || 3), Finding::None);
        assert_eq!(refusals.find(10, 11, || 3), Finding::Refused(COMMAND, 3));
        // As many as are remembered, or more: those of other queues may be among them.
        assert_eq!(refusals.find(10, 11, || 9), Finding::Refused(COMMAND, 3));
        assert_eq!(refusals.find(11, 12, || 9), Finding::None, "there is an older one");
        assert_eq!(refusals.find(8, 8, || 9), Finding::Forgotten);
    }

    #[test]
    fn an_aborted_fetch_is_reported_but_no_refusal() {
        let refusals: Refusals<4> = Refusals::new();
        refusals.note(7, COMMAND, 2);
        assert_eq!(refusals.find(7, 8, || 1), Finding::None);
        let mut told = Vec::new();
        assert_eq!(refusals.report(&mut |command, code| told.push((command, code))), 0);
        assert_eq!(told, [(COMMAND, 2)]);
    }

    #[test]
    fn each_refusal_is_reported_once_or_counted() {
        let refusals: Refusals<4> = Refusals::new();
        let report = || {
            let mut told = Vec::new();
            let more = refusals.report(&mut |command, code| told.push((command.0[0], code)));
            (told, more)
        };
        assert_eq!(report(), (vec![], 0));
        let note = |position| refusals.note(position, Command([position, 0]), 1);
        (0..2).for_each(note);
        assert_eq!(report(), (vec![(0, 1), (1, 1)], 0));
        assert_eq!(report(), (vec![], 0));
        // The last record of a full log may be the next to be replaced.
        (2..9).for_each(note);
        assert_eq!(report(), (vec![(6, 1), (7, 1), (8, 1)], 4));
        assert_eq!(report(), (vec![], 0));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    /// A record is never a mixture of two, and a refusal is never overlooked: a waiter looks while others are noted.
    fn look_while_others_are_noted(find: fn(&Refusals<2>) -> Finding) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let refusals = Arc::new(Refusals::<2>::new());
            let command = |position| Command([position, position]);
            refusals.note(10, command(10), 10);
            let noting = {
                let refusals = refusals.clone();
                thread::spawn(move || {
                    refusals.note(11, command(11), 11);
                    refusals.note(12, command(12), 12);
                })
            };
            match find(&refusals) {
                Finding::Refused(found, code) => {
                    assert_eq!((found, code), (command(10), 10), "a mixture");
                }
                Finding::Forgotten => {}
                Finding::None => panic!("overlooked"),
            }
            noting.join().unwrap();
        });
    }

    #[test]
    fn loom_a_refusal_is_found_whole_or_known_to_be_forgotten() {
        look_while_others_are_noted(|refusals| refusals.find(10, 11, || u64::MAX));
    }

    /// A waiter whose command was refused asks what became of it, while another one is refused. `find` is given how many
    /// were, since the waiter's was placed, by now.
    fn look_while_another_is_refused(find: fn(&Refusals<4>, &AtomicU64) -> Finding) {
        loom::model(move || {
            let state = Arc::new((Refusals::<4>::new(), AtomicU64::new(0)));
            let refuse = |(refusals, refused): &(Refusals<4>, AtomicU64), position| {
                refused.fetch_add(1, Ordering::AcqRel);
                refusals.note(position, Command([position; 2]), 1);
            };
            refuse(&state, 9);
            let recovering = {
                let state = state.clone();
                thread::spawn(move || refuse(&state, 11))
            };
            let found = find(&state.0, &state.1);
            assert!(matches!(found, Finding::Refused(command, 1) if command.0[0] == 9), "lost");
            recovering.join().unwrap();
        });
    }

    #[test]
    fn loom_a_refusal_is_not_lost_to_one_that_comes_meanwhile() {
        look_while_another_is_refused(|refusals, refused| {
            refusals.find(8, 10, || refused.load(Ordering::Relaxed))
        });
    }

    #[test]
    #[should_panic(expected = "lost")]
    fn loom_twin_that_asks_how_many_first_loses_its_own() {
        look_while_another_is_refused(|refusals, refused| {
            let since = refused.load(Ordering::Relaxed);
            refusals.find(8, 10, || since)
        });
    }

    #[test]
    #[should_panic(expected = "a mixture")]
    fn loom_twin_that_reads_the_count_without_a_fence_takes_a_mixture() {
        look_while_others_are_noted(|refusals| {
            let record = refusals.record(0).each_ref();
            let [position, code, words @ ..] = record.map(|word| word.load(Ordering::Relaxed));
            let replaced = refusals.count.load(Ordering::Relaxed) >= 2;
            if !replaced && position == 10 {
                Finding::Refused(Command(words), code as u8)
            } else {
                Finding::Forgotten
            }
        });
    }

    #[test]
    #[should_panic(expected = "a mixture")]
    fn loom_twin_that_does_not_look_at_the_count_again_takes_a_mixture() {
        look_while_others_are_noted(|refusals| {
            let record = refusals.record(0).each_ref();
            let [position, code, words @ ..] = record.map(|word| word.load(Ordering::Relaxed));
            if position == 10 {
                Finding::Refused(Command(words), code as u8)
            } else {
                Finding::Forgotten
            }
        });
    }
}
