// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R9 for events: each record is reported once and in order, and each loss once, where it was, and none that was none.

use std::collections::VecDeque;

use smmuv3::Lost;
use smmuv3_formats::EventRecord;

use super::{Caused, Oracle, Rule};

/// The event queue of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    /// What is in it and was not reported yet, and under what it was recorded.
    queue: VecDeque<(EventRecord, Option<Caused>)>,
    /// Records that are in it no more.
    gone: u64,
    /// Overflows that were not reported yet: how many records had been written before each.
    overflows: VecDeque<u64>,
    /// How often it could not be written, not reported yet.
    aborts: u64,
}

impl Events {
    /// Whatever is in it waits for nobody, but for so many records that came last.
    fn keep(&mut self, records: usize) {
        let over = self.queue.len().saturating_sub(records);
        self.queue.drain(..over);
        self.gone += over as u64;
    }

    /// Another kernel has a queue of its own.
    pub(super) fn forget(&mut self) {
        self.keep(0);
        self.overflows.clear();
        self.aborts = 0;
    }

    /// Another kernel has a queue of its own, with the last `records`, and perhaps an overflow.
    pub(super) fn renew(&mut self, records: usize, full: bool) {
        self.keep(records);
        let over = self.overflows.len().saturating_sub(usize::from(full));
        self.overflows.drain(..over);
        self.aborts = 0;
    }

    /// Takes the first record.
    fn next(&mut self) -> Option<EventRecord> {
        let (event, _) = self.queue.pop_front()?;
        self.gone += 1;
        Some(event)
    }

    /// Under what the first record was written.
    pub(super) fn cause(&self) -> Option<Caused> {
        self.queue.front()?.1
    }

    /// How many records were not reported that had been written before the first overflow; `None` where there was none.
    /// An error where what came after it was reported first.
    fn first_overflow(&self) -> Option<Result<u64, ()>> {
        self.overflows.front().map(|before| before.checked_sub(self.gone).ok_or(()))
    }

    /// What is wrong about this having been reported.
    fn reported(&mut self, lost: Lost) -> Option<String> {
        match lost {
            Lost::Overflow { among } => {
                let there = self.queue.len();
                let (among, before) = (among as u64, self.first_overflow());
                self.overflows.pop_front();
                match before {
                    None => return Some("an overflow was reported, but nothing was lost".into()),
                    Some(Err(())) => {
                        return Some("an overflow was reported after what came later".into());
                    }
                    Some(Ok(before)) if !(before..=there as u64).contains(&among) => {
                        return Some(format!(
                            "an overflow was reported among {among} events, but it came after {before}, and \
                             {there} are there"
                        ));
                    }
                    Some(Ok(_)) => {}
                }
            }
            Lost::Aborted if self.aborts == 0 => {
                return Some("events were said not to be written, but all were".into());
            }
            Lost::Aborted => self.aborts -= 1,
            Lost::Reset { unread, overflow } => {
                let there = self.queue.len();
                if unread > there {
                    self.keep(0);
                    return Some(format!(
                        "a reset threw {unread} events away, but {there} were recorded"
                    ));
                }
                // An overflow of the queue as it is now came after more than these. Where it could not be written, that may
                // have been since.
                let mut lost = overflow && std::mem::take(&mut self.aborts) > 0;
                while self.first_overflow().is_some_and(|it| it.is_ok_and(|it| it <= unread as u64))
                {
                    self.overflows.pop_front();
                    lost = true;
                }
                self.keep(there - unread);
                if lost != overflow {
                    return Some(format!(
                        "a reset said {overflow} of an overflow before it, but there was {lost}"
                    ));
                }
            }
            other => return Some(format!("a loss is not known: {other:?}")),
        }
        None
    }
}

impl Oracle {
    /// An SMMU wrote `event` to its queue.
    pub fn recorded(&mut self, instance: usize, event: EventRecord) {
        if event.stall() {
            self.stalled(instance, event);
        }
        let caused = self.caused(instance, &event);
        if let Some(events) = self.events.get_mut(instance) {
            events.queue.push_back((event, caused));
        }
    }

    /// An SMMU loses events from here on, and says so, because its queue is full, or as it could not write to it.
    pub fn lost(&mut self, instance: usize, aborted: bool) {
        let Some(events) = self.events.get_mut(instance) else { return };
        if aborted {
            events.aborts += 1;
        } else {
            events.overflows.push_back(events.gone + events.queue.len() as u64);
        }
    }

    /// The driver reported `event`; whether its transaction had stalled. One that the driver ends by itself is none any
    /// more.
    pub fn reported(&mut self, instance: usize, event: EventRecord) -> bool {
        let Some(events) = self.events.get_mut(instance) else { return false };
        let next = events.next();
        let stalled = next.is_some_and(|next| next.stall());
        match next {
            Some(next) if next == event => {}
            // It was marked as over: that its answer comes is seen elsewhere.
            Some(next) if next.with_stall(false) == event => {}
            Some(next) => {
                self.accuse(Rule::R9, format_args!("{event} was reported, but {next} was first"));
            }
            None => self.accuse(Rule::R9, format_args!("{event} was reported, but never recorded")),
        }
        stalled
    }

    /// The first event of an instance that was not reported.
    pub fn unreported(&self, instance: usize) -> Option<EventRecord> {
        self.events.get(instance)?.queue.front().map(|(event, _)| *event)
    }

    /// The driver reported that events were lost.
    pub fn reported_loss(&mut self, instance: usize, lost: Lost) {
        let wrong = self.events.get_mut(instance).and_then(|events| events.reported(lost));
        if let Some(text) = wrong {
            self.accuse(Rule::R9, format_args!("instance {instance}: {text}"));
        }
    }

    /// How many events of `instance` were not reported yet.
    pub fn unread(&self, instance: usize) -> usize {
        self.events.get(instance).map_or(0, |events| events.queue.len())
    }

    /// The driver says that it reported everything of `instance`.
    pub fn all_reported(&mut self, instance: usize) {
        if let Some(event) = self.unreported(instance) {
            self.accuse(Rule::R9, format_args!("{event} was never reported"));
        }
        let untold = |events: &Events| !events.overflows.is_empty() || events.aborts > 0;
        if self.events.get(instance).is_some_and(untold) {
            self.accuse(Rule::R9, "events were lost, and nobody was told");
        }
    }
}
