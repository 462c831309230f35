// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a CPU keeps for itself, so that mapping and unmapping shares no lock with other CPUs: some free input addresses
//! of each small size, some bounce pages, and its flush queue.
//!
//! Which CPU runs is a hint only, so each of these has a lock; it is free unless the hint was wrong, or another CPU
//! collects everything.

use core::mem::MaybeUninit;

use smmuv3::{NoMemory, PhysAddr};

use crate::flush::Flushes;
use crate::iova::Block;
use crate::retired::{Item, Retired};

/// Sizes of blocks that are kept: 1 to 128 pages.
pub(crate) const ORDERS: usize = 8;
/// Blocks of one page that are kept; of two pages half as many, and so on: as many pages of each size.
pub(crate) const BLOCKS: usize = 128;
/// Bounce pages that are kept.
pub(crate) const PAGES: usize = 128;

/// At most `N` things, last in, first out.
pub(crate) struct Stack<T, const N: usize> {
    /// The first `len` are initialised: filling the others takes longer than all that is done with a stack.
    things: [MaybeUninit<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> Stack<T, N> {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { things: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        let things = self.things.as_ptr().cast::<T>();
        // SAFETY: `len` is at most `N`, and so many were written by `push`.
        unsafe { core::slice::from_raw_parts(things, self.len) }
    }

    /// False if it is full: then it is the caller's still.
    #[inline]
    #[must_use = "what found no room is in no list"]
    pub(crate) fn push(&mut self, thing: T) -> bool {
        let Some(place) = self.things.get_mut(self.len) else { return false };
        place.write(thing);
        self.len += 1;
        true
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let thing = *self.as_slice().last()?;
        self.len -= 1;
        Some(thing)
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len == N
    }
}

/// Of one CPU.
pub(crate) struct Local {
    /// First pages of blocks: a stack for each order, one behind the other.
    blocks: [u32; 2 * BLOCKS],
    /// How many there are in each.
    kept: [u8; ORDERS],
    pub(crate) pages: Stack<PhysAddr, PAGES>,
    pub(crate) retired: Retired,
}

/// How many blocks of an order are kept.
pub(crate) const fn most(order: u8) -> usize {
    BLOCKS >> order
}

/// Where the stack of an order begins: behind `BLOCKS`, `BLOCKS / 2`, and so on.
const fn base(order: u8) -> usize {
    2 * BLOCKS - ((2 * BLOCKS) >> order)
}

impl Local {
    /// With a flush queue for `retired` entries.
    pub(crate) fn new(retired: usize) -> Result<Self, NoMemory> {
        let retired = Retired::new(retired)?;
        Ok(Self { blocks: [0; 2 * BLOCKS], kept: [0; ORDERS], pages: Stack::new(), retired })
    }

    /// A free block, if one of that size is kept.
    #[inline]
    pub(crate) fn take_block(&mut self, order: u8) -> Option<Block> {
        let kept = self.kept.get_mut(usize::from(order))?;
        let top = kept.checked_sub(1)?;
        let page = *self.blocks.get(base(order) + usize::from(top))?;
        *kept = top;
        Some(Block { page, order })
    }

    /// Pages of the blocks that are kept.
    pub(crate) fn cached_pages(&self) -> u64 {
        self.kept.iter().zip(0..).map(|(kept, order)| u64::from(*kept) << order).sum()
    }

    /// Keeps a free block; false if it is not kept: then it is the caller's still.
    #[inline]
    #[must_use = "a block that was not kept is in no list"]
    pub(crate) fn give_block(&mut self, block: Block) -> bool {
        let Some(kept) = self.kept.get_mut(usize::from(block.order)) else { return false };
        if usize::from(*kept) >= most(block.order) {
            return false;
        }
        let Some(place) = self.blocks.get_mut(base(block.order) + usize::from(*kept)) else {
            return false;
        };
        *place = block.page;
        *kept += 1;
        true
    }

    /// Takes what is kept of a size down to half of what may be, into `spill`, as far as there is room.
    pub(crate) fn halve<const N: usize>(&mut self, order: u8, spill: &mut Stack<Item, N>) {
        let kept = self.kept.get(usize::from(order)).map_or(0, |kept| usize::from(*kept));
        for _ in most(order) / 2..kept {
            if spill.is_full() {
                return;
            }
            let Some(block) = self.take_block(order) else { return };
            // It is not full.
            let _ = spill.push(Item::Block(block));
        }
    }

    /// Makes room for `count` entries in the flush queue, as far as a flush has released some: puts those to use here, and
    /// what finds no room into `spill`. Whether there is.
    #[inline]
    pub(crate) fn make_room<const N: usize>(
        &mut self,
        count: usize,
        flushes: &Flushes,
        spill: &mut Stack<Item, N>,
    ) -> bool {
        while self.retired.room() < count {
            if spill.is_full() {
                return false;
            }
            let Some(item) = self.retired.pop(flushes) else { return false };
            if !self.keep(item) {
                // It is not full.
                let _ = spill.push(item);
            }
        }
        true
    }

    /// Puts something to use here; false if there is no room: then it is the caller's still.
    #[inline]
    #[must_use = "what was not kept is in no list"]
    fn keep(&mut self, item: Item) -> bool {
        match item {
            Item::Block(block) => self.give_block(block),
            Item::Page(page) => self.pages.push(page),
            Item::Memory { .. } => false,
        }
    }

    /// How many blocks of that size are kept.
    pub(crate) fn blocks(&self, order: u8) -> usize {
        self.kept.get(usize::from(order)).map_or(0, |kept| usize::from(*kept))
    }

    /// A free block, if one of that size is kept, or has been released by a flush and nothing is before it for which there is no
    /// room here.
    #[inline]
    pub(crate) fn take_block_or_released(&mut self, order: u8, flushes: &Flushes) -> Option<Block> {
        match self.take_block(order) {
            None => self.released_block(order, flushes),
            kept => kept,
        }
    }

    /// The same of bounce pages.
    #[inline]
    pub(crate) fn take_page_or_released(&mut self, flushes: &Flushes) -> Option<PhysAddr> {
        match self.pages.pop() {
            None => self.released_page(flushes),
            kept => kept,
        }
    }

    /// Not inlined: where all is strict, there is never any.
    #[inline(never)]
    fn released_block(&mut self, order: u8, flushes: &Flushes) -> Option<Block> {
        loop {
            match self.retired.first(flushes)? {
                Item::Block(block) if block.order == order => {
                    self.retired.advance();
                    return Some(block);
                }
                other if self.keep(other) => self.retired.advance(),
                // There is no room for it, so it stays.
                _ => return None,
            }
        }
    }

    #[inline(never)]
    fn released_page(&mut self, flushes: &Flushes) -> Option<PhysAddr> {
        loop {
            match self.retired.first(flushes)? {
                Item::Page(page) => {
                    self.retired.advance();
                    return Some(page);
                }
                other if self.keep(other) => self.retired.advance(),
                // There is no room for it, so it stays.
                _ => return None,
            }
        }
    }

    /// Puts what a flush has released to use here until it is `enough`, and what finds no room into `spill`. Whether there
    /// may be more, and more is wanted.
    pub(crate) fn collect<const N: usize>(
        &mut self,
        flushes: &Flushes,
        spill: &mut Stack<Item, N>,
        enough: impl Fn(&Self) -> bool,
    ) -> bool {
        while !spill.is_full() {
            if enough(self) {
                return false;
            }
            let Some(item) = self.retired.pop(flushes) else { return false };
            if !self.keep(item) {
                // It is not full.
                let _ = spill.push(item);
            }
        }
        true
    }

    /// Takes everything that is kept into `spill`, as far as there is room.
    pub(crate) fn empty<const N: usize>(&mut self, spill: &mut Stack<Item, N>) {
        for (order, _) in (0u8..).zip([(); ORDERS]) {
            while !spill.is_full() {
                let Some(block) = self.take_block(order) else { break };
                // It is not full.
                let _ = spill.push(Item::Block(block));
            }
        }
        while !spill.is_full() {
            let Some(page) = self.pages.pop() else { break };
            // As above.
            let _ = spill.push(Item::Page(page));
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
