// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page requests of an SMMU until their group is answered, in storage that was taken when it was enabled (§13).
//!
//! Requests of groups come in any mixture, so those of a group are kept until its last one. There is room for as many
//! as the queue has entries, which is more than devices that keep to their credits have under way. One that does not,
//! and begins groups without an end, finds that its oldest ones are forgotten, rather than those of others.
//! Forgetting costs a device no more than asking again, since it does that for whatever is not there when its group was
//! answered.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use smmuv3_formats::{Iova, StreamId, SubstreamId};

use crate::page_request::{Group, Page};
use crate::pending::{Key, Pending};
use crate::platform::Platform;
use crate::shared::NoMemory;
use crate::spin::SpinLock;
use crate::statistics::PageStatistics;

/// The requests of one SMMU.
pub(crate) struct Gather {
    /// Groups that are complete, and wait for an answer.
    pub(crate) pending: Pending,
    pub(crate) counts: Counts,
    nodes: Vec<Node>,
    state: SpinLock<State>,
}

/// Room for a page. It belongs to whoever has its chain.
struct Node {
    /// Address, and the flags below.
    page: AtomicU64,
    next: AtomicU32,
}

struct State {
    /// First of the free nodes; [`NONE`] if there is none.
    free: u32,
    /// Groups that have begun, oldest first: each has a node at least, so that there is always room.
    begun: Vec<(Group, Chain)>,
}

/// Pages of a group, in the order in which they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    first: u32,
    last: u32,
    count: u32,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) fate: Fate,
    /// A group that had begun was forgotten, to make room.
    pub(crate) forgotten: Option<Group>,
}

/// See [`Added`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Others of its group will come.
    Begun,
    /// Its group is complete.
    Complete(Chain),
    /// There is no room: all of it is with groups that wait for an answer.
    Full,
}

/// What was handed over so far, in numbers. By one handler at a time, as a rule.
#[derive(Default)]
pub(crate) struct Counts([AtomicU64; 4]);

/// What is counted.
#[derive(Clone, Copy)]
pub(crate) enum Counted {
    Groups,
    Denied,
    Stops,
    Gaps,
}

impl Counts {
    pub(crate) fn add(&self, which: Counted) {
        if let Some(count) = self.0.get(which as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn statistics(&self) -> PageStatistics {
        let [groups, denied, stops, gaps] =
            self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        PageStatistics { groups, denied, stops, gaps }
    }
}

const NONE: u32 = u32::MAX;
const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;
const PRIVILEGED: u64 = 8;
const FLAGS: u64 = 0xfff;

impl Chain {
    pub(crate) const EMPTY: Self = Self { first: NONE, last: NONE, count: 0 };

    /// How many pages.
    pub(crate) const fn len(self) -> usize {
        self.count as usize
    }
}

impl Gather {
    /// Room for `most` pages, and as many groups.
    pub(crate) fn new(most: u32) -> Result<Self, NoMemory> {
        let (mut nodes, mut begun) = (Vec::new(), Vec::new());
        nodes.try_reserve_exact(most as usize).map_err(|_| NoMemory)?;
        begun.try_reserve_exact(most as usize).map_err(|_| NoMemory)?;
        for index in 0..most {
            let next = if index + 1 == most { NONE } else { index + 1 };
            nodes.push(Node { page: AtomicU64::new(0), next: AtomicU32::new(next) });
        }
        let free = if most == 0 { NONE } else { 0 };
        let state = SpinLock::new(State { free, begun });
        let pending = Pending::new(most as usize)?;
        Ok(Self { pending, counts: Counts::default(), nodes, state })
    }

    /// Adds a page to its group.
    pub(crate) fn add<P: Platform>(&self, platform: &P, page: &Page) -> Added {
        self.state.with(platform, |state| {
            let mut forgotten = None;
            if state.free == NONE {
                forgotten = self.make_room(state, page.group.stream);
            }
            let of_group = |(group, _): &(Group, Chain)| *group == page.group;
            let Some(node) = self.allocate(state, page) else {
                return Added { fate: Fate::Full, forgotten };
            };
            let at = state.begun.iter().position(of_group);
            let before = at.and_then(|at| state.begun.get(at)).map(|(_, chain)| *chain);
            let chain = self.append(before.unwrap_or(Chain::EMPTY), node);
            let fate = match (at, page.last) {
                (Some(at), true) => {
                    state.begun.remove(at);
                    Fate::Complete(chain)
                }
                (None, true) => Fate::Complete(chain),
                (Some(at), false) => {
                    if let Some(begun) = state.begun.get_mut(at) {
                        begun.1 = chain;
                    }
                    Fate::Begun
                }
                (None, false) => {
                    // There is room: there are as many as nodes, and each has one.
                    state.begun.push((page.group, chain));
                    Fate::Begun
                }
            };
            Added { fate, forgotten }
        })
    }

    /// Gives the room of `chain` back.
    pub(crate) fn release<P: Platform>(&self, platform: &P, chain: Chain) {
        if chain != Chain::EMPTY {
            self.state.with(platform, |state| self.free(state, chain));
        }
    }

    /// Forgets the groups that have begun and that `which` says; how many there were.
    pub(crate) fn forget<P: Platform>(
        &self,
        platform: &P,
        which: impl Fn(&Group) -> bool,
    ) -> usize {
        self.state.with(platform, |state| {
            let mut begun = core::mem::take(&mut state.begun);
            let before = begun.len();
            begun.retain(|(group, chain)| {
                let goes = which(group);
                if goes {
                    self.free(state, *chain);
                }
                !goes
            });
            let count = before - begun.len();
            state.begun = begun;
            count
        })
    }

    /// The pages of a chain, which belongs to the caller.
    pub(crate) fn pages(&self, group: Group, chain: Chain) -> impl Iterator<Item = Page> + '_ {
        let mut next = chain.first;
        (0..chain.count).map_while(move |index| {
            let node = self.node(next)?;
            let word = node.page.load(Ordering::Relaxed);
            next = node.next.load(Ordering::Relaxed);
            Some(Page {
                group,
                iova: Iova(word & !FLAGS),
                read: word & READ != 0,
                write: word & WRITE != 0,
                execute: word & EXECUTE != 0,
                privileged: word & PRIVILEGED != 0,
                last: index + 1 == chain.count,
            })
        })
    }

    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// Forgets a group that has begun, for a page of `stream`: the oldest of whoever has most of the room. That is found
    /// by a vote among the pages, which nobody wins who has less than half of them: then it is somebody's.
    fn make_room(&self, state: &mut State, stream: StreamId) -> Option<Group> {
        let pages = |stream| {
            let of_stream = state.begun.iter().filter(move |(group, _)| group.stream == stream);
            of_stream.map(|(_, chain)| chain.count).sum::<u32>()
        };
        let (mut most, mut votes) = (stream, 0u32);
        for (group, chain) in &state.begun {
            if group.stream == most {
                votes += chain.count;
            } else if votes >= chain.count {
                votes -= chain.count;
            } else {
                (most, votes) = (group.stream, chain.count - votes);
            }
        }
        let victim = if pages(stream) >= pages(most) { stream } else { most };
        let at = state.begun.iter().position(|(group, _)| group.stream == victim)?;
        let (group, chain) = state.begun.remove(at);
        self.free(state, chain);
        Some(group)
    }

    fn allocate(&self, state: &mut State, page: &Page) -> Option<u32> {
        let index = state.free;
        let node = self.node(index)?;
        state.free = node.next.load(Ordering::Relaxed);
        let flags = [
            (page.read, READ),
            (page.write, WRITE),
            (page.execute, EXECUTE),
            (page.privileged, PRIVILEGED),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum::<u64>();
        node.page.store(page.iova.0 & !FLAGS | flags, Ordering::Relaxed);
        node.next.store(NONE, Ordering::Relaxed);
        Some(index)
    }

    fn append(&self, chain: Chain, node: u32) -> Chain {
        match self.node(chain.last) {
            Some(last) => {
                last.next.store(node, Ordering::Relaxed);
                Chain { last: node, count: chain.count + 1, ..chain }
            }
            None => Chain { first: node, last: node, count: 1 },
        }
    }

    fn free(&self, state: &mut State, chain: Chain) {
        if let Some(last) = self.node(chain.last) {
            last.next.store(state.free, Ordering::Relaxed);
            state.free = chain.first;
        }
    }
}

/// Above the number of a group in [`Key::stag`]: answers carry its PASID, and it has one.
const WITH_PASID: u16 = 1 << 15;
const HAS_PASID: u16 = 1 << 14;

/// What a group that waits for an answer is known by; and whether answers carry its PASID.
pub(crate) fn key(group: Group, with_pasid: bool) -> Key {
    let with = if with_pasid { WITH_PASID } else { 0 };
    let has = if group.pasid.is_some() { HAS_PASID } else { 0 };
    Key {
        stream: group.stream,
        stag: group.index & 0x1ff | with | has,
        substream: group.pasid.unwrap_or(SubstreamId(0)),
    }
}

/// What [`key`] was made of.
pub(crate) fn group(key: Key) -> (Group, bool) {
    let pasid = (key.stag & HAS_PASID != 0).then_some(key.substream);
    let group = Group { stream: key.stream, pasid, index: key.stag & 0x1ff };
    (group, key.stag & WITH_PASID != 0)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
