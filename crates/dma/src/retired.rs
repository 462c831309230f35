// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is unmapped but may still be reached by devices, in the order in which it was retired. What a flush has released
//! stays at the front until somebody wants it, or its place.

use alloc::collections::VecDeque;

use smmuv3::{NoMemory, PhysAddr};

use crate::flush::{Flushes, Stamp};
use crate::iova::Block;

/// Something that waits for a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Input addresses.
    Block(Block),
    /// A bounce page.
    Page(PhysAddr),
    /// A coherent allocation.
    Memory {
        /// Its first byte.
        pa: PhysAddr,
        /// Its pages.
        pages: u32,
    },
}

impl Item {
    /// Its pages.
    pub(crate) const fn pages(&self) -> u64 {
        match self {
            Self::Block(block) => block.pages(),
            Self::Page(_) => 1,
            Self::Memory { pages, .. } => *pages as u64,
        }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    item: Item,
    stamp: Stamp,
    /// When it was retired, ns.
    at: u64,
}

/// A bounded queue of such things.
pub(crate) struct Retired {
    entries: VecDeque<Entry>,
    most: usize,
    /// So many at the front are known to be released.
    released: usize,
    /// Coherent allocations among the entries.
    memories: usize,
}

impl Retired {
    /// For `most` entries.
    pub(crate) fn new(most: usize) -> Result<Self, NoMemory> {
        let mut entries = VecDeque::new();
        entries.try_reserve_exact(most).map_err(|_| NoMemory)?;
        Ok(Self { entries, most, released: 0, memories: 0 })
    }

    /// Entries, released ones among them.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries that no flush has released.
    pub(crate) fn waiting(&mut self, flushes: &Flushes) -> usize {
        self.look(flushes);
        self.entries.len() - self.released
    }

    /// How many more it takes.
    pub(crate) fn room(&self) -> usize {
        self.most - self.entries.len()
    }

    /// Pages of the input addresses in it, released ones among them.
    pub(crate) fn block_pages(&self) -> u64 {
        let blocks = self.entries.iter().filter(|entry| matches!(entry.item, Item::Block(_)));
        blocks.map(|entry| entry.item.pages()).sum()
    }

    /// Whether there are coherent allocations, which had better not stay.
    pub(crate) const fn has_memory(&self) -> bool {
        self.memories != 0
    }

    /// Looks what has been released since the last time.
    #[inline]
    fn look(&mut self, flushes: &Flushes) {
        while self.entries.get(self.released).is_some_and(|entry| flushes.is_over(entry.stamp)) {
            self.released += 1;
        }
    }

    /// When the oldest entry was retired that no flush has released.
    #[inline]
    pub(crate) fn oldest(&mut self, flushes: &Flushes) -> Option<u64> {
        self.look(flushes);
        self.entries.get(self.released).map(|entry| entry.at)
    }

    /// Whether released entries had better not stay where nobody takes them out: there is coherent memory among them, or the
    /// first was retired `age` ns before `now`, or earlier. Only as far as was looked the last time.
    pub(crate) fn is_stale(&self, now: u64, age: u64) -> bool {
        let mut released = self.entries.iter().take(self.released);
        let is_old = |first: &Entry| now.saturating_sub(first.at) >= age;
        released.clone().next().is_some_and(is_old)
            || (self.has_memory()
                && released.any(|entry| matches!(entry.item, Item::Memory { .. })))
    }

    /// Appends `item`, for which there must be room; gives it back if there is none. Stamps never decrease: they are
    /// read while the queue is locked.
    #[inline]
    pub(crate) fn push(&mut self, item: Item, stamp: Stamp, at: u64) -> Result<(), Item> {
        if self.room() == 0 {
            return Err(item);
        }
        self.memories += usize::from(matches!(item, Item::Memory { .. }));
        // Within what was reserved.
        self.entries.push_back(Entry { item, stamp, at });
        Ok(())
    }

    /// The oldest entry, which stays, if a flush that began after it is over.
    #[inline]
    pub(crate) fn first(&mut self, flushes: &Flushes) -> Option<Item> {
        if self.released == 0 {
            self.look(flushes);
        }
        let first = self.entries.front()?;
        (self.released != 0).then_some(first.item)
    }

    /// Takes out what [`first`](Self::first) gave, which is not coherent memory.
    #[inline]
    pub(crate) fn advance(&mut self) {
        if self.entries.pop_front().is_some() {
            self.released = self.released.saturating_sub(1);
        }
    }

    /// The oldest entry, if a flush that began after it is over.
    #[inline]
    pub(crate) fn pop(&mut self, flushes: &Flushes) -> Option<Item> {
        if self.released == 0 {
            self.look(flushes);
        }
        // What is released once stays so.
        self.released = self.released.checked_sub(1)?;
        let item = self.entries.pop_front()?.item;
        self.memories -= usize::from(matches!(item, Item::Memory { .. }));
        Some(item)
    }
}
