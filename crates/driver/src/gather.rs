// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page requests of an SMMU until their group is answered, in storage that was taken when it was enabled (§13).
//!
//! Requests of groups come in any mixture, so those of a group are kept until its last one. There is room for as many
//! as the queue has entries, which is more than devices that keep to their credits have under way. One that does not,
//! and begins groups without an end, finds that its oldest ones are forgotten, rather than those of others.
//! Forgetting costs a device no more than asking again, since it does that for whatever is not there when its group was
//! answered.
//!
//! All of it is in the lock of the queue that devices fill, with interrupts masked. So what a record costs does not depend on
//! how many others there are, whatever devices ask for.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use smmuv3_formats::{Iova, StreamId, SubstreamId};

use crate::page_request::{Group, Page};
#[cfg(feature = "nested")]
use crate::pending::Sharer;
use crate::pending::{Handle, Key, Pending};
use crate::platform::Platform;
use crate::room::Room;
use crate::shared::NoMemory;
use crate::spin::SpinLock;
use crate::statistics::PageStatistics;

mod begun;
mod index;

use begun::Begun;
use index::Index;

/// The requests of one SMMU.
pub(crate) struct Gather {
    /// Groups that are complete, and wait for an answer; inserted by [`Gather::wait`] alone.
    pub(crate) pending: Pending,
    pub(crate) counts: Counts,
    nodes: Vec<Node>,
    state: SpinLock<State>,
}

/// Room for one page. Only whoever owns the chain that it is in accesses it.
struct Node {
    /// Address, and the flags below.
    page: AtomicU64,
    next: AtomicU32,
}

struct State {
    /// First of the free nodes; [`NONE`] if there is none.
    free: u32,
    /// Groups that have begun. Each has at least one node, so there are never more groups than nodes.
    begun: Begun,
    /// Of the groups in `pending`, which slots have those of a stream with a number, of whichever PASID; and of a PASID,
    /// with whichever number. A slot that is free may still be there, until it is another's.
    by_number: Index,
    by_pasid: Index,
}

impl State {
    /// `group` waits for an answer in the slot of `handle`.
    fn note(&mut self, group: Group, handle: Handle) {
        // Below the number of nodes.
        let slot = handle.slot() as u32;
        let by_number = (&mut self.by_number, number_of(group));
        for (index, key) in [by_number, (&mut self.by_pasid, name_of(group))] {
            // Drop what the index still has of the slot's former group, and of a former slot with this name.
            index.remove_number(slot);
            index.remove(key);
            index.insert(key, slot);
        }
    }
}

/// Which groups.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    All,
    Stream(StreamId),
    /// The groups of a stream with one PASID, or without.
    Pasid(StreamId, Option<SubstreamId>),
    Group(Group),
}

impl Of {
    /// The prefix that the names of these groups have in common, and its length in bits from above.
    const fn prefix(self) -> (u64, u32) {
        match self {
            Self::All => (0, 0),
            Self::Stream(stream) => (name_of(Group { stream, pasid: None, index: 0 }), STREAM_BITS),
            Self::Pasid(stream, pasid) => {
                (name_of(Group { stream, pasid, index: 0 }), STREAM_BITS + PASID_BITS)
            }
            Self::Group(group) => (name_of(group), u64::BITS),
        }
    }
}

const STREAM_BITS: u32 = 32;
/// A PASID's 20 bits, and above them one that says whether there is a PASID.
const PASID_BITS: u32 = 21;
const NUMBER_BITS: u32 = 9;
/// Bits of a name that are not used.
const REST: u32 = u64::BITS - STREAM_BITS - PASID_BITS - NUMBER_BITS;

const fn pasid_bits(group: Group) -> u64 {
    match group.pasid {
        Some(pasid) => 1 << (PASID_BITS - 1) | (pasid.0 & 0xf_ffff) as u64,
        None => 0,
    }
}

/// A group as a number: its stream, PASID and number, from above.
const fn name_of(group: Group) -> u64 {
    let stream = (group.stream.0 as u64) << (u64::BITS - STREAM_BITS);
    let number = (group.index & 0x1ff) as u64;
    stream | (pasid_bits(group) << NUMBER_BITS | number) << REST
}

/// As [`name_of`], with the number before the PASID.
const fn number_of(group: Group) -> u64 {
    let stream = (group.stream.0 as u64) << (u64::BITS - STREAM_BITS);
    let number = (group.index & 0x1ff) as u64;
    stream | (number << PASID_BITS | pasid_bits(group)) << REST
}

/// The group that [`name_of`] has made this name of.
const fn group_of(name: u64) -> Group {
    let pasid = (name >> (REST + NUMBER_BITS)) as u32;
    let has = pasid >> (PASID_BITS - 1) & 1 != 0;
    Group {
        stream: StreamId((name >> (u64::BITS - STREAM_BITS)) as u32),
        pasid: if has { Some(SubstreamId(pasid & 0xf_ffff)) } else { None },
        index: (name >> REST) as u16 & 0x1ff,
    }
}

/// Pages of a group, in the order in which they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    first: u32,
    last: u32,
    count: u32,
}

/// What became of a page that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) fate: Fate,
    /// A group that had begun was forgotten, to make room.
    pub(crate) forgotten: Option<Group>,
}

/// See [`Added`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its group has begun, and is not complete.
    Begun,
    /// Its group is complete.
    Complete(Chain),
    /// There is no room: all nodes belong to groups that wait for an answer.
    Full,
}

/// How much was handed over so far.
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
        let mut nodes = Vec::new();
        nodes.room_exact(most as usize)?;
        for index in 0..most {
            let next = if index + 1 == most { NONE } else { index + 1 };
            nodes.put(Node { page: AtomicU64::new(0), next: AtomicU32::new(next) });
        }
        let free = if most == 0 { NONE } else { 0 };
        let (by_number, by_pasid) = (Index::new(most)?, Index::new(most)?);
        let begun = Begun::new(most)?;
        let state = SpinLock::new(State { free, begun, by_number, by_pasid });
        let pending = Pending::new(most as usize)?;
        Ok(Self { pending, counts: Counts::default(), nodes, state })
    }

    /// Adds a page to its group.
    pub(crate) fn add<P: Platform>(&self, platform: &P, page: &Page) -> Added {
        self.state.with(platform, |state| {
            let mut forgotten = None;
            if state.free == NONE {
                // A group of the stream that holds most nodes is forgotten, so that one device cannot push out the
                // groups of others.
                let victim = state.begun.victim(page.group);
                forgotten = victim.and_then(|victim| self.drop_begun(state, victim));
            }
            let Some(node) = self.allocate(state, page) else {
                return Added { fate: Fate::Full, forgotten };
            };
            let before = state.begun.find(page.group);
            let chain = before.map_or(Chain::EMPTY, |number| state.begun.chain(number));
            let chain = self.append(chain, node);
            let fate = match before {
                Some(number) if page.last => {
                    state.begun.take(number);
                    Fate::Complete(chain)
                }
                None if page.last => Fate::Complete(chain),
                Some(number) => {
                    state.begun.extend(number, chain);
                    Fate::Begun
                }
                None => {
                    state.begun.begin(page.group, chain);
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

    /// Forgets the groups that have begun and that `which` says, one after the other; how many there were.
    pub(crate) fn forget<P: Platform>(&self, platform: &P, which: Of) -> usize {
        let one = || {
            self.state.with(platform, |state| {
                let number = state.begun.any(which)?;
                self.drop_begun(state, number)
            })
        };
        // Bounded, since devices may begin new groups meanwhile.
        core::iter::from_fn(one).take(self.nodes.len()).count()
    }

    /// `group` is complete, and waits for an answer, which carries its PASID or not; `None` when there is no room.
    pub(crate) fn wait<P: Platform>(
        &self,
        platform: &P,
        group: Group,
        with_pasid: bool,
    ) -> Option<Handle> {
        self.state.with(platform, |state| {
            let handle = self.pending.insert(key(group, with_pasid))?;
            state.note(group, handle);
            Some(handle)
        })
    }

    /// As [`Gather::wait`], of a guest's device: also `None` when the guest has its share.
    #[cfg(feature = "nested")]
    pub(crate) fn wait_for<P: Platform>(
        &self,
        platform: &P,
        guest: Sharer,
        group: Group,
        with_pasid: bool,
    ) -> Option<Handle> {
        self.state.with(platform, |state| {
            let handle = self.pending.insert_for(guest, key(group, with_pasid))?;
            state.note(group, handle);
            Some(handle)
        })
    }

    /// The slot of the group that an answer to `named` may be for: one that waits and has that PASID; and without a PASID one that
    /// has none, or any of that number. Whether it is, [`answered`] says of the key there.
    #[cfg(feature = "nested")]
    pub(crate) fn slot_of<P: Platform>(&self, platform: &P, named: Group) -> Option<usize> {
        self.state.with(platform, |state| {
            let exact = self.find_waiting(state, named, u64::BITS);
            // Where answers carry no PASIDs, one group of a number waits at a time.
            let of_number = STREAM_BITS + NUMBER_BITS;
            exact.or_else(|| match named.pasid {
                Some(_) => None,
                None => self.find_waiting(state, named, of_number),
            })
        })
    }

    /// Whether a group waits whose answer the device could not tell from that to `group`: one of the same number, and,
    /// where answers carry PASIDs, of the same PASID.
    pub(crate) fn is_waiting<P: Platform>(
        &self,
        platform: &P,
        group: Group,
        with_pasid: bool,
    ) -> bool {
        let bits = if with_pasid { u64::BITS } else { STREAM_BITS + NUMBER_BITS };
        self.state.with(platform, |state| self.find_waiting(state, group, bits)).is_some()
    }

    /// The slot of a group that waits and whose stream, number and PASID are the same in the upper `bits`.
    fn find_waiting(&self, state: &mut State, group: Group, bits: u32) -> Option<usize> {
        while let Some(slot) = state.by_number.find(number_of(group), bits) {
            let at = slot as usize;
            if self.pending.waiting(at).is_some() {
                return Some(at);
            }
            if self.pending.is_being_given(at) {
                // It stays in the index: if there is no room for its answer, the group waits again.
                break;
            }
            // Answered already: taken out of the index, so that no later search meets it.
            state.by_number.remove_number(slot);
        }
        None
    }

    /// One of the groups with `pasid` that wait for an answer; each is returned once.
    pub(crate) fn next_waiting<P: Platform>(
        &self,
        platform: &P,
        stream: StreamId,
        pasid: SubstreamId,
    ) -> Option<Handle> {
        let (name, bits) = Of::Pasid(stream, Some(pasid)).prefix();
        self.state.with(platform, |state| {
            while let Some(slot) = state.by_pasid.find(name, bits) {
                state.by_pasid.remove_number(slot);
                if let Some(handle) = self.pending.waiting(slot as usize) {
                    return Some(handle);
                }
            }
            None
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

    /// Forgets the group that has begun with the number `number`.
    fn drop_begun(&self, state: &mut State, number: u32) -> Option<Group> {
        let (group, chain) = state.begun.take(number)?;
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

/// The key of a group that waits for an answer in `pending`, with whether answers carry its PASID.
pub(crate) fn key(group: Group, with_pasid: bool) -> Key {
    let with = if with_pasid { WITH_PASID } else { 0 };
    let has = if group.pasid.is_some() { HAS_PASID } else { 0 };
    Key {
        stream: group.stream,
        stag: group.index & 0x1ff | with | has,
        substream: group.pasid.unwrap_or(SubstreamId(0)),
    }
}

/// The group that [`key`] has made this key of, and whether answers carry its PASID.
pub(crate) fn group(key: Key) -> (Group, bool) {
    let pasid = (key.stag & HAS_PASID != 0).then_some(key.substream);
    let group = Group { stream: key.stream, pasid, index: key.stag & 0x1ff };
    (group, key.stag & WITH_PASID != 0)
}

/// The group as answers to the one with this key name it: with its PASID only where they carry it.
#[cfg(feature = "nested")]
pub(crate) fn answered(key: Key) -> Group {
    let (group, with_pasid) = group(key);
    Group { pasid: group.pasid.filter(|_| with_pasid), ..group }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
