// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R9 for transactions that stall: each is answered exactly once, and none is left behind by a detach.

use smmuv3_formats::EventRecord;

use super::{Oracle, Rule, User};

/// Those of an instance whose events are in its queue, or were, and that nobody has answered.
pub(super) type Stalls = Vec<Stalled>;

/// A transaction that waits for an answer. When it is tried again and stalls anew, that is another with the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    event: EventRecord,
    /// How many had stalled before, behind any instance.
    number: u64,
}

/// What an answer names.
const fn name(event: &EventRecord) -> (u32, u16) {
    // The fields have 32 and 16 bits.
    (event.sid() as u32, event.stag() as u16)
}

impl Oracle {
    /// The event of a transaction that stalls is in the queue.
    pub(super) fn stalled(&mut self, instance: usize, event: EventRecord) {
        if let Some(stalls) = self.stalls.get_mut(instance) {
            stalls.push(Stalled { event, number: self.stalled });
            self.stalled += 1;
        }
    }

    /// Hardware took an answer.
    pub fn answered(&mut self, instance: usize, stream: u32, stag: u16) {
        let Some(stalls) = self.stalls.get_mut(instance) else { return };
        match stalls.iter().position(|it| name(&it.event) == (stream, stag)) {
            Some(at) => drop(stalls.remove(at)),
            None => {
                let text = format!(
                    "stream {stream:#x}: the answer with STAG {stag:#x} is to no transaction that waits"
                );
                self.accuse(Rule::R9, text);
            }
        }
    }

    /// The one with that event that waits for an answer.
    pub fn waiting(&self, instance: usize, event: &EventRecord) -> Option<Stalled> {
        self.stalls.get(instance)?.iter().find(|it| it.event == *event).copied()
    }

    /// Its answer was carried out: it waits no more.
    pub fn must_be_answered(&mut self, instance: usize, stalled: &Stalled) {
        let waits = self.stalls.get(instance).is_some_and(|stalls| stalls.contains(stalled));
        if waits {
            let event = stalled.event;
            self.accuse(Rule::R9, format_args!("{event}: its guest answered, and it waits on"));
        }
    }

    /// The transactions of a user that wait for an answer.
    pub fn pending(&self, user: User) -> Vec<Stalled> {
        let (instance, streams) = self.streams(user.master);
        let Some(stalls) = self.stalls.get(instance) else { return Vec::new() };
        let of_user = |it: &&Stalled| {
            let event = it.event;
            let substream = event.ssv().then_some(event.ssid() as u32);
            streams.contains(&(event.sid() as u32)) && substream == user.substream
        };
        stalls.iter().filter(of_user).copied().collect()
    }

    /// All transactions behind `instance` that wait for an answer.
    pub fn all_waiting(&self, instance: usize) -> Vec<Stalled> {
        self.stalls.get(instance).cloned().unwrap_or_default()
    }

    /// After what `user` used was taken from it: none of the transactions that waited `before` waits any more, and none
    /// at all when nothing took its place.
    pub fn stalls_are_over(&mut self, user: User, before: &[Stalled], blocked: bool) {
        let left = self.pending(user);
        let left = left.iter().find(|it| blocked || before.contains(it));
        if let Some(Stalled { event, .. }) = left {
            let text = format!("{user}: what it used is gone, but {event} was never answered");
            self.accuse(Rule::R9, text);
        }
    }

    /// The device of `master` answers invalidations no more, or does again: until it does, the driver may block it.
    pub fn set_mute(&mut self, master: usize, mute: bool) {
        if let Some(state) = self.masters.get_mut(master) {
            state.mute = mute;
            state.was_mute |= mute;
        }
    }

    /// Whether there has been any behind `instance` that does not.
    pub fn is_any_mute(&self, instance: usize) -> bool {
        self.masters.iter().any(|state| state.instance == instance && state.was_mute)
    }

    /// Whether it does not answer.
    pub fn is_mute(&self, master: usize) -> bool {
        self.masters.get(master).is_some_and(|state| state.mute)
    }

    /// All that `master` does is privileged.
    pub fn is_privileged(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.privileged = true;
        }
    }

    /// Whatever is refused to `master` stalls, also what would be refused silently otherwise.
    pub fn stalls_always(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.stalls_always = true;
        }
    }

    /// The SMMU of `master` puts out addresses of so many bits.
    pub fn outputs(&mut self, master: usize, bits: u32) {
        if let Some(state) = self.masters.get_mut(master) {
            state.output_bits = bits;
        }
    }

    /// At the end nothing waits.
    pub fn no_stall_is_left(&mut self) {
        if let Some(Stalled { event, .. }) = self.stalls.iter().flatten().next().copied() {
            self.accuse(Rule::R9, format_args!("{event} was never answered"));
        }
    }
}
