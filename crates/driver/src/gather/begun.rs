// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups that have begun: found by what they are called, and the oldest of whichever stream has most pages in them.

use alloc::vec::Vec;

use super::index::Index;
use super::{Chain, NONE, Of, group_of, name_of};
use crate::page_request::Group;
use crate::room::Room;
use crate::shared::NoMemory;

/// Groups that have begun. A group's number is that of its first node, so there are at most as many as nodes.
pub(crate) struct Begun {
    groups: Index,
    of: Vec<One>,
    streams: Vec<Stream>,
    /// Streams with a group, as a heap by their pages, and behind them those that are free.
    order: Vec<u32>,
    /// How many streams have a group.
    active: usize,
}

struct One {
    chain: Chain,
    /// Index of its stream in `streams`, and the numbers of the next older and the next newer group of that stream.
    stream: u32,
    older: u32,
    newer: u32,
}

struct Stream {
    /// Pages in all its groups.
    pages: u32,
    oldest: u32,
    newest: u32,
    /// Index of the stream in `order`.
    at: u32,
}

impl Begun {
    /// Room for `most` groups.
    pub(crate) fn new(most: u32) -> Result<Self, NoMemory> {
        let groups = Index::new(most)?;
        let (mut of, mut streams, mut order) = (Vec::new(), Vec::new(), Vec::new());
        of.room_exact(most as usize)?;
        streams.room_exact(most as usize)?;
        order.room_exact(most as usize)?;
        for number in 0..most {
            of.put(One { chain: Chain::EMPTY, stream: NONE, older: NONE, newer: NONE });
            streams.put(Stream { pages: 0, oldest: NONE, newest: NONE, at: number });
            order.put(number);
        }
        Ok(Self { groups, of, streams, order, active: 0 })
    }

    /// The number of `group`, if it has begun.
    pub(crate) fn find(&self, group: Group) -> Option<u32> {
        self.groups.find(name_of(group), u64::BITS)
    }

    /// The number of one of the groups `of`, if there is any.
    pub(crate) fn any(&self, of: Of) -> Option<u32> {
        let (name, bits) = of.prefix();
        self.groups.find(name, bits)
    }

    /// The pages of group `number`.
    pub(crate) fn chain(&self, number: u32) -> Chain {
        self.of.get(number as usize).map_or(Chain::EMPTY, |one| one.chain)
    }

    /// `group` begins with one page.
    pub(crate) fn begin(&mut self, group: Group, chain: Chain) {
        let number = chain.first;
        let stream = match self.any(Of::Stream(group.stream)) {
            Some(sibling) => self.of.get(sibling as usize).map(|one| one.stream),
            None => {
                // There is a free one: as many streams as groups.
                let stream = self.order.get(self.active).copied();
                self.active += 1;
                stream
            }
        };
        let Some(stream) = stream else { return };
        let Some(state) = self.streams.get_mut(stream as usize) else { return };
        let older = core::mem::replace(&mut state.newest, number);
        if state.oldest == NONE {
            state.oldest = number;
        }
        if let Some(before) = self.of.get_mut(older as usize) {
            before.newer = number;
        }
        if let Some(one) = self.of.get_mut(number as usize) {
            *one = One { chain, stream, older, newer: NONE };
        }
        self.groups.insert(name_of(group), number);
        self.grow(stream, chain.count);
    }

    /// Group `number` has another page, the last one of `chain`.
    pub(crate) fn extend(&mut self, number: u32, chain: Chain) {
        let Some(one) = self.of.get_mut(number as usize) else { return };
        one.chain = chain;
        let stream = one.stream;
        self.grow(stream, 1);
    }

    /// Takes the group with `number` out, and returns it with its pages.
    pub(crate) fn take(&mut self, number: u32) -> Option<(Group, Chain)> {
        let name = self.groups.key(number)?;
        self.groups.remove(name)?;
        let One { chain, stream, older, newer } = *self.of.get(number as usize)?;
        match self.of.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.streams.get_mut(stream as usize)?.oldest = newer,
        }
        match self.of.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.streams.get_mut(stream as usize)?.newest = older,
        }
        let state = self.streams.get_mut(stream as usize)?;
        state.pages -= chain.count;
        let (at, left) = (state.at as usize, state.pages);
        if left == 0 {
            self.active -= 1;
            self.swap(at, self.active);
            // The stream that took its place may belong above or below.
            self.rise(at);
        }
        self.sink(at);
        Some((group_of(name), chain))
    }

    /// The group to forget, so that there is room for a page of `group`'s stream: the oldest of the stream that has
    /// most pages, or of `group`'s own stream if that has as many.
    pub(crate) fn victim(&self, group: Group) -> Option<u32> {
        let own = self.any(Of::Stream(group.stream)).and_then(|one| self.of.get(one as usize));
        let own = own.and_then(|one| self.streams.get(one.stream as usize));
        let most = self.order.first().filter(|_| self.active != 0);
        let most = most.and_then(|stream| self.streams.get(*stream as usize))?;
        Some(own.filter(|own| own.pages >= most.pages).unwrap_or(most).oldest)
    }

    fn grow(&mut self, stream: u32, pages: u32) {
        if let Some(state) = self.streams.get_mut(stream as usize) {
            state.pages += pages;
            let at = state.at as usize;
            self.rise(at);
        }
    }

    /// Pages of the stream at index `at` of the heap; 0 beyond its end.
    fn pages(&self, at: usize) -> u32 {
        let stream = self.order.get(at).filter(|_| at < self.active);
        stream.and_then(|stream| self.streams.get(*stream as usize)).map_or(0, |it| it.pages)
    }

    fn rise(&mut self, mut at: usize) {
        while at != 0 && at < self.active {
            let above = (at - 1) / 2;
            if self.pages(above) >= self.pages(at) {
                break;
            }
            self.swap(above, at);
            at = above;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let below = if self.pages(right) > self.pages(left) { right } else { left };
            if self.pages(below) <= self.pages(at) {
                break;
            }
            self.swap(at, below);
            at = below;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        if one.max(other) < self.order.len() {
            self.order.swap(one, other);
        }
        for at in [one, other] {
            let stream = self.order.get(at).copied();
            if let Some(state) = stream.and_then(|stream| self.streams.get_mut(stream as usize)) {
                // Below the number of streams.
                state.at = at as u32;
            }
        }
    }
}
