// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is unmapped but may still be reached by devices, in the order in which it was retired.

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
}

impl Retired {
    /// For `most` entries.
    pub(crate) fn new(most: usize) -> Result<Self, NoMemory> {
        let mut entries = VecDeque::new();
        entries.try_reserve_exact(most).map_err(|_| NoMemory)?;
        Ok(Self { entries, most })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many more it takes.
    pub(crate) fn room(&self) -> usize {
        self.most - self.entries.len()
    }

    /// Pages of the input addresses in it.
    pub(crate) fn block_pages(&self) -> u64 {
        let blocks = self.entries.iter().filter(|entry| matches!(entry.item, Item::Block(_)));
        blocks.map(|entry| entry.item.pages()).sum()
    }

    /// Whether the oldest entry can be popped.
    #[inline]
    pub(crate) fn is_ready(&self, flushes: &Flushes) -> bool {
        self.entries.front().is_some_and(|entry| flushes.is_over(entry.stamp))
    }

    /// When the oldest entry was retired.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.at)
    }

    /// Appends `item`, for which there must be room; gives it back if there is none. Stamps never decrease: they are
    /// read while the queue is locked.
    #[inline]
    pub(crate) fn push(&mut self, item: Item, stamp: Stamp, at: u64) -> Result<(), Item> {
        if self.room() == 0 {
            return Err(item);
        }
        // Within what was reserved.
        self.entries.push_back(Entry { item, stamp, at });
        Ok(())
    }

    /// The oldest entry, if a flush that began after it is over.
    #[inline]
    pub(crate) fn pop(&mut self, flushes: &Flushes) -> Option<Item> {
        let oldest = self.entries.front()?;
        if !flushes.is_over(oldest.stamp) {
            return None;
        }
        self.entries.pop_front().map(|entry| entry.item)
    }
}
