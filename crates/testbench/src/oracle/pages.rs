// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R9 for pages that devices ask for: each request is reported, and each group answered exactly once, also by a
//! detach.

use std::collections::BTreeSet;

use smmuv3_formats::PageRequest;

use super::{Caused, Oracle, Power, Rule, Use, User};

/// What names a group: stream, substream, and PRGIndex.
pub type Group = (u32, Option<u32>, u16);

/// A complete group that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name, which may come back once it was answered,
    pub group: Group,
    /// and which one of its instance's it is.
    pub serial: u64,
}

/// Who got a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// A group that waited for it.
    Waiting,
    /// A device that was reset since it asked, and does not know of that group any more.
    InVain,
    /// Nobody waited for it.
    Nobody,
}

/// The requests of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// Those in its queue that were not reported yet, in order.
    queue: Vec<Request>,
    /// Groups of which some may be forgotten, which was reported.
    incomplete: BTreeSet<Group>,
    /// For so many groups that wait there is room, where that is known.
    room: Option<usize>,
    /// Of those that wait the ones beyond it: what they are denied by, nobody remembers.
    beyond: BTreeSet<Group>,
    /// Complete groups that nobody has answered, in order.
    waiting: Vec<Waiting>,
    /// Those that waited when their device was reset: nobody does any more, but answers may be on their way.
    in_vain: Vec<Waiting>,
    /// How many groups were complete by now.
    completed: u64,
    /// Those that did not fit, not reported yet.
    lost: u64,
    /// How often the queue was full, and could not be written, not reported yet.
    gaps: [u64; 2],
    /// Under what the last request was recorded of the group that was reported last.
    reported: Option<Caused>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    record: PageRequest,
    /// Under what it was recorded.
    caused: Option<Caused>,
    /// What it was asked of has gone since: it need not be reported.
    over: bool,
}

/// The group that a request belongs to.
fn group(request: &PageRequest) -> Group {
    // The fields have 32, 20 and 9 bits.
    let substream = request.ssv().then_some(request.ssid() as u32);
    (request.sid() as u32, substream, request.prg_index() as u16)
}

/// What a request asks for.
const fn asked(request: &PageRequest) -> (u64, bool, bool) {
    (request.addr(), request.read(), request.write())
}

impl Requests {
    /// Nothing was asked so far, of another kernel.
    pub(super) fn forget(&mut self) {
        *self = Self { room: self.room, ..Self::default() };
    }

    /// Where in the queue the requests of a group are: of each that is complete, as the number may have come back.
    fn complete(&self, of: Group) -> Vec<Vec<usize>> {
        let (mut complete, mut begun) = (Vec::new(), Vec::new());
        for (at, Request { record, .. }) in self.queue.iter().enumerate() {
            if group(record) == of && !record.is_stop_marker() {
                begun.push(at);
                if record.last() {
                    complete.push(std::mem::take(&mut begun));
                }
            }
        }
        complete
    }

    /// Nothing of what is in the queue need be reported.
    fn throw_away(&mut self) {
        for request in &mut self.queue {
            request.over = true;
            self.incomplete.insert(group(&request.record));
        }
    }

    /// Removes requests from the queue, whose positions are in order.
    fn remove(&mut self, positions: &[usize]) {
        for at in positions.iter().rev() {
            self.queue.remove(*at);
        }
    }
}

impl Oracle {
    /// A device asked for a page, or said that it uses a PASID no more.
    pub fn asked(&mut self, instance: usize, request: PageRequest, queued: bool) {
        let of = group(&request);
        let due =
            request.last() && !request.is_stop_marker() && self.can_answer(instance, of.0, of.1);
        let caused = self.under_what(instance, of.0);
        let Some(requests) = self.requests.get_mut(instance) else { return };
        if !queued {
            requests.lost += 1;
            return;
        }
        requests.queue.push(Request { record: request, caused, over: false });
        if due {
            requests.completed += 1;
            if requests.room.is_some_and(|room| requests.waiting.len() >= room) {
                requests.beyond.insert(of);
            }
            requests.waiting.push(Waiting { group: of, serial: requests.completed });
        }
    }

    /// A device got a response from the driver; whether some group waited for that.
    pub fn granted(&mut self, instance: usize, stream: u32, index: u16) -> Granted {
        let Some(requests) = self.requests.get_mut(instance) else { return Granted::Nobody };
        let named = |it: &Waiting| (it.group.0, it.group.2) == (stream, index);
        if let Some(at) = requests.waiting.iter().position(named) {
            let answered = requests.waiting.remove(at);
            requests.beyond.remove(&answered.group);
            return Granted::Waiting;
        }
        match requests.in_vain.iter().position(named) {
            Some(at) => {
                requests.in_vain.remove(at);
                Granted::InVain
            }
            None => Granted::Nobody,
        }
    }

    /// The device of `master` was reset, which has forgotten what it asked for: no answer is due, and what nobody has read of
    /// that need not be reported. Those who do not know of it yet may answer until [`Oracle::readmitted`].
    pub fn device_was_reset(&mut self, master: usize) {
        let (instance, streams) = self.streams(master);
        let streams = streams.to_vec();
        let Some(requests) = self.requests.get_mut(instance) else { return };
        for request in &mut requests.queue {
            let of = group(&request.record);
            if streams.contains(&of.0) && !request.record.is_stop_marker() {
                request.over = true;
                requests.incomplete.insert(of);
            }
        }
        let its = |it: &mut Waiting| streams.contains(&it.group.0);
        requests.in_vain.extend(requests.waiting.extract_if(.., its));
    }

    /// The driver lets the device of `master` work again: no answer to what it asked for before it was reset is on its way
    /// any more, since the device may take it for that to something else.
    pub fn readmitted(&mut self, master: usize) {
        self.set_mute(master, false);
        let (instance, streams) = self.streams(master);
        let streams = streams.to_vec();
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.in_vain.retain(|it| !streams.contains(&it.group.0));
    }

    /// The driver reported a group with these pages, each with whether it is to be read, and written.
    pub fn reported_group(&mut self, instance: usize, of: Group, pages: &[(u64, bool, bool)]) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        let whole = !requests.incomplete.remove(&of);
        let complete = requests.complete(of);
        let asked_for = |positions: &Vec<usize>| -> Vec<(u64, bool, bool)> {
            let records = positions.iter().filter_map(|at| requests.queue.get(*at));
            records.map(|request| asked(&request.record)).collect()
        };
        let fits = |over: bool| {
            complete.iter().find(|positions| {
                let known = asked_for(positions);
                let last = positions.last().and_then(|at| requests.queue.get(*at));
                last.is_some_and(|last| last.over == over)
                    && (known == pages || !whole && known.ends_with(pages))
            })
        };
        // What need not be reported may look the same.
        if let Some(positions) = fits(false).or_else(|| fits(true)) {
            let last = positions.last().and_then(|at| requests.queue.get(*at));
            requests.reported = last.and_then(|last| last.caused);
            return requests.remove(positions);
        }
        requests.reported = None;
        let known: Vec<_> = complete.iter().map(asked_for).collect();
        let text = format!("{of:x?} was reported with {pages:x?}, but asked for {known:x?}");
        self.accuse(Rule::R9, text);
    }

    /// The driver denied a page, the last of its group or not.
    pub fn reported_denial(&mut self, instance: usize, of: Group, iova: u64, last: bool) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        let is_it = |request: &&Request, over: bool| {
            let Request { record, .. } = request;
            group(record) == of
                && (record.addr(), record.last(), request.over) == (iova, last, over)
        };
        let find = |over| requests.queue.iter().position(|request| is_it(&request, over));
        match find(false).or_else(|| find(true)) {
            Some(at) if last => {
                // What it had of the group goes, too.
                let positions = requests.complete(of).into_iter().find(|them| them.contains(&at));
                requests.remove(&positions.unwrap_or_default());
                requests.incomplete.remove(&of);
            }
            Some(at) => {
                requests.queue.remove(at);
                requests.incomplete.insert(of);
            }
            None => {
                self.accuse(
                    Rule::R9,
                    format!("{of:x?} did not ask for {iova:#x}, which was denied"),
                );
            }
        }
    }

    /// The driver reported that a device uses a PASID no more.
    pub fn reported_stop(&mut self, instance: usize, stream: u32, substream: u32) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        let of_it = |request: &Request| {
            let (of, with, _) = group(&request.record);
            (of, with) == (stream, Some(substream))
        };
        let marker = |request: &Request| of_it(request) && request.record.is_stop_marker();
        let Some(at) = requests.queue.iter().position(marker) else {
            let text =
                format!("stream {stream:#x} stopped substream {substream:#x}, but said nothing");
            return self.accuse(Rule::R9, text);
        };
        // What was before it of that substream has no end.
        let mut index = 0;
        requests.queue.retain(|request| {
            index += 1;
            index > at + 1 || !of_it(request)
        });
    }

    /// Behind `instance` there is room for so many groups that wait.
    pub fn has_room_for(&mut self, instance: usize, groups: usize) {
        if let Some(requests) = self.requests.get_mut(instance) {
            requests.room = Some(groups);
        }
    }

    /// The driver reported that it forgot what it had of a group.
    pub fn reported_forgetting(&mut self, instance: usize, of: Group) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.incomplete.insert(of);
    }

    /// An SMMU loses requests from here on, and says so, because its queue is full, or as it could not write to it.
    pub fn lost_requests(&mut self, instance: usize, aborted: bool) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.gaps[usize::from(aborted)] += 1;
    }

    /// The driver reported that requests were lost, as the queue could not be written, or a reset threw them away, and, if
    /// `overflow`, others had been lost before; it forgot all that had begun.
    pub fn reported_requests_lost(&mut self, instance: usize, reset: bool, overflow: bool) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.lost = 0;
        requests.incomplete.extend(requests.queue.iter().map(|it| group(&it.record)));
        let [full, aborted] = &mut requests.gaps;
        let gap = if reset && *aborted == 0 { full } else { aborted };
        if overflow && *gap == 0 {
            self.accuse(Rule::R9, "page requests were said to be lost, but none was");
        } else if overflow {
            *gap -= 1;
        }
    }

    /// The driver reported that the queue was full, and that so many groups had `begun`. It has read all that was in it: no
    /// group that has begun will have an end, since the number of one whose end was lost is another's from here on.
    pub fn reported_overflow(&mut self, instance: usize, begun: usize) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        let known = requests.queue.iter().map(|it| group(&it.record));
        let known = known.chain(requests.incomplete.iter().copied()).collect::<BTreeSet<_>>().len();
        let [full, _] = &mut requests.gaps;
        if *full == 0 {
            self.accuse(Rule::R9, "the queue of page requests was said to be full, but never was");
        } else if begun > known {
            let text = format!("{begun} groups of page requests had begun, but there are {known}");
            self.accuse(Rule::R9, text);
        } else {
            *full -= 1;
        }
        // While something is taken away, what was asked of it may be over already.
        if !self.is_any_changing() && self.power(instance) == Power::On {
            self.all_groups_handed_out(instance);
        }
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.lost = 0;
        requests.queue.clear();
        requests.incomplete.clear();
    }

    /// Under what the group was asked for that was reported last.
    pub(crate) fn cause_of_group(&self, instance: usize) -> Option<Caused> {
        self.requests.get(instance)?.reported
    }

    /// The group of that name that waits for an answer.
    pub fn waiting_group(&self, instance: usize, of: Group) -> Option<Waiting> {
        self.requests.get(instance)?.waiting.iter().find(|it| it.group == of).copied()
    }

    /// All groups behind `instance` that wait for an answer.
    pub fn all_asking(&self, instance: usize) -> Vec<Waiting> {
        self.requests.get(instance).map(|requests| requests.waiting.clone()).unwrap_or_default()
    }

    /// Its guest's answer was carried out: it waits no more.
    pub fn must_be_granted(&mut self, instance: usize, it: &Waiting) {
        let requests = self.requests.get(instance);
        if requests.is_some_and(|requests| requests.waiting.contains(it)) {
            let of = it.group;
            self.accuse(Rule::R9, format_args!("{of:x?}: its guest answered, and it waits on"));
        }
    }

    /// Whether a change of `user` under way is to or from a guest's entry: it ends all that the stream has asked for, by whichever
    /// PASID.
    pub fn is_change_of_guest(&self, user: User) -> bool {
        let Some(state) = self.masters.get(user.master) else { return false };
        let of_guest = |after| {
            let space = self.space(state.uses(None, after));
            space.and_then(|space| self.over(space)).is_some()
        };
        user.substream.is_none() && (of_guest(false) || of_guest(true))
    }

    /// The groups of a user that wait for an answer, or of the `whole` of its streams.
    pub fn asking(&self, user: User, whole: bool) -> Vec<Waiting> {
        let (instance, streams) = self.streams(user.master);
        let Some(requests) = self.requests.get(instance) else { return Vec::new() };
        let of_user = |it: &&Waiting| {
            let (stream, substream, _) = it.group;
            streams.contains(&stream) && (whole || substream == user.substream)
        };
        requests.waiting.iter().filter(of_user).copied().collect()
    }

    /// After what `user` used, or the `whole` of its streams, was taken from it: none of the groups that waited `before` waits any
    /// more, and what nobody has read of them need not be reported.
    pub fn groups_are_over(&mut self, user: User, before: &[Waiting], whole: bool) {
        let left = self.asking(user, whole);
        if let Some(it) = left.iter().find(|it| before.contains(it)) {
            let of = it.group;
            let text = format!("{user}: what it used is gone, but {of:x?} was never answered");
            self.accuse(Rule::R9, text);
        }
        let (instance, streams) = self.streams(user.master);
        let streams = streams.to_vec();
        let translates = |(of, now): (User, Use)| {
            of.master == user.master && !matches!(now, Use::Blocked | Use::Identity)
        };
        // Its devices ask for nothing any more, whatever the substream.
        let silent = whole || !self.users().any(translates);
        let Some(requests) = self.requests.get_mut(instance) else { return };
        for request in &mut requests.queue {
            let of = group(&request.record);
            if streams.contains(&of.0)
                && (silent || of.1 == user.substream)
                && !request.record.is_stop_marker()
            {
                request.over = true;
                requests.incomplete.insert(of);
            }
        }
    }

    /// The driver says that it reported everything of `instance`.
    pub fn all_groups_reported(&mut self, instance: usize) {
        self.all_groups_handed_out(instance);
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.queue.retain(|request| !request.over);
        if requests.lost > 0 {
            self.accuse(Rule::R9, "page requests were lost, and nobody was told");
        }
    }

    fn all_groups_handed_out(&mut self, instance: usize) {
        let Some(requests) = self.requests.get(instance) else { return };
        let left = requests.queue.iter().find(|request| request.record.last() && !request.over);
        if let Some(request) = left {
            let text = format!("{:x?} was never reported", group(&request.record));
            self.accuse(Rule::R9, text);
        }
    }

    /// `instance` was suspended: what was asked of it was answered while it could be.
    pub fn no_group_outlives(&mut self, instance: usize) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.throw_away();
        if let Some(Waiting { group: of, .. }) = requests.waiting.first().copied() {
            self.accuse(Rule::R9, format_args!("{of:x?} was not answered before a suspend"));
        }
    }

    /// `instance` was reset: what was in its queue is gone, and answered, unless the reset failed.
    pub fn groups_were_reset(&mut self, instance: usize, done: bool) {
        let Some(requests) = self.requests.get_mut(instance) else { return };
        requests.throw_away();
        let beyond = std::mem::take(&mut requests.beyond);
        let mut left = std::mem::take(&mut requests.waiting);
        // A device that asks for more than it may, and whose denial the reset threw away, goes without.
        left.retain(|it| !beyond.contains(&it.group));
        if let Some(Waiting { group: of, .. }) = left.first().filter(|_| done) {
            self.accuse(Rule::R9, format_args!("{of:x?} was not answered by a reset"));
        }
    }

    /// At the end nothing waits.
    pub fn no_group_is_left(&mut self) {
        let left = self.requests.iter().flat_map(|requests| &requests.waiting).next().copied();
        if let Some(Waiting { group: of, .. }) = left {
            self.accuse(Rule::R9, format_args!("{of:x?} was never answered"));
        }
    }
}
