// SPDX-License-Identifier: MIT OR Apache-2.0
//! The input addresses of a space: a window of them, given out in blocks of 2^n pages, each at a multiple of its size.
//!
//! A buddy system of bitmaps: a bit for each block of each size, set while that block is free as a whole. Everything is
//! allocated when the window is made; taking and giving back is a few words for each size passed.

use alloc::vec::Vec;
use core::ops::Range;

use smmuv3::{Iova, NoMemory};

use crate::error::ReserveError;
use crate::span::{PAGE, PAGE_SHIFT};

/// Ranges that can be reserved.
pub(crate) const MOST_RESERVED: usize = 64;

/// 2^`order` pages from page `page` of the window on, a multiple of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) page: u32,
    pub(crate) order: u8,
}

impl Block {
    /// Pages.
    pub(crate) const fn pages(self) -> u64 {
        1 << self.order
    }
}

/// Where a window is. Its start is a multiple of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// First address.
    pub(crate) start: u64,
    /// log2 of the pages, at most 20.
    pub(crate) order: u8,
}

impl Place {
    /// The first address of `block`.
    pub(crate) const fn iova(self, block: Block) -> Iova {
        Iova(self.start + ((block.page as u64) << PAGE_SHIFT))
    }

    /// The block of 2^`order` pages that begins at `iova`, if that can be one.
    pub(crate) fn block(self, iova: Iova, order: u8) -> Option<Block> {
        if order > self.order {
            return None;
        }
        let offset = iova.0.checked_sub(self.start)?;
        let page = offset >> PAGE_SHIFT;
        // No order is above 20.
        let aligned = offset & (((PAGE as u64) << order) - 1) == 0;
        // Within the window, hence 20 bits.
        (page >> self.order == 0 && aligned).then_some(Block { page: page as u32, order })
    }
}

/// The window: which of its blocks are free.
pub(crate) struct Window {
    place: Place,
    /// For each order: which blocks are free as a whole.
    free: Vec<Bits>,
    free_pages: u64,
    /// What was taken out, whether within the window or not.
    reserved: Vec<Range<u64>>,
    reserved_pages: u64,
}

impl Window {
    /// All pages of `place` are free.
    pub(crate) fn new(place: Place) -> Result<Self, NoMemory> {
        let mut free = Vec::new();
        free.try_reserve_exact(usize::from(place.order) + 1).map_err(|_| NoMemory)?;
        for order in 0..=place.order {
            free.push(Bits::new(1 << (place.order - order))?);
        }
        let mut reserved = Vec::new();
        reserved.try_reserve_exact(MOST_RESERVED).map_err(|_| NoMemory)?;
        if let Some(all) = free.last_mut() {
            all.set(0);
        }
        Ok(Self { place, free, free_pages: 1 << place.order, reserved, reserved_pages: 0 })
    }

    /// Pages that are given out, be it to a cache.
    pub(crate) fn taken_pages(&self) -> u64 {
        (1u64 << self.place.order) - self.free_pages - self.reserved_pages
    }

    /// The lowest free block of 2^`order` pages, cut out of the smallest that has one.
    pub(crate) fn take(&mut self, order: u8) -> Option<u32> {
        let sizes = self.free.iter_mut().enumerate().skip(usize::from(order));
        let (from, index) =
            sizes.filter_map(|(from, bits)| bits.first().map(|index| (from, index))).next()?;
        self.free.get_mut(from)?.clear(index);
        let mut index = index;
        // The upper half of each larger block stays free.
        for smaller in self.free.get_mut(usize::from(order)..from)?.iter_mut().rev() {
            index *= 2;
            smaller.set(index + 1);
        }
        self.free_pages -= 1 << order;
        // Less than the pages of a window.
        Some((index << order) as u32)
    }

    /// Gives a block back, and joins it with what is free beside it.
    pub(crate) fn give(&mut self, block: Block) {
        debug_assert_eq!(self.free_block(block.page), None, "given back twice");
        self.free_pages += block.pages();
        self.put(block);
    }

    fn put(&mut self, block: Block) {
        let mut index = block.page as usize >> block.order;
        let mut sizes = self.free.iter_mut().skip(usize::from(block.order)).peekable();
        while let Some(bits) = sizes.next() {
            let is_last = sizes.peek().is_none();
            if is_last || !bits.get(index ^ 1) {
                return bits.set(index);
            }
            bits.clear(index ^ 1);
            index /= 2;
        }
    }

    /// The free block that holds `page`.
    fn free_block(&self, page: u32) -> Option<Block> {
        let order = self
            .free
            .iter()
            .zip(0u8..)
            .find_map(|(bits, order)| bits.get(page as usize >> order).then_some(order))?;
        Some(Block { page: page >> order << order, order })
    }

    /// Takes `ranges` out for good, all or none; they may overlap each other, and what is reserved already.
    pub(crate) fn reserve(&mut self, ranges: &[Range<u64>]) -> Result<(), ReserveError> {
        if ranges.len() > MOST_RESERVED - self.reserved.len() {
            return Err(ReserveError::TooMany { most: MOST_RESERVED });
        }
        for range in ranges {
            self.check(range)?;
        }
        for range in ranges {
            self.take_out(range.clone());
        }
        Ok(())
    }

    /// Whether `range` is whole pages of which none is given out.
    fn check(&self, range: &Range<u64>) -> Result<(), ReserveError> {
        let Range { start, end } = *range;
        if start >= end || (start | end) & (PAGE as u64 - 1) != 0 {
            return Err(ReserveError::Range { start: Iova(start), end });
        }
        let pages = self.pages_of(start..end);
        let mut page = pages.start;
        while page < pages.end {
            page = match (self.free_block(page), self.reserved_until(page)) {
                (Some(block), _) => block.page + (1 << block.order),
                (None, Some(end)) => end,
                (None, None) => {
                    return Err(ReserveError::InUse {
                        iova: self.place.iova(Block { page, order: 0 }),
                    });
                }
            };
        }
        Ok(())
    }

    /// Takes out a range that was checked, and for which there is room.
    fn take_out(&mut self, range: Range<u64>) {
        let pages = self.pages_of(range.clone());
        let mut page = pages.start;
        while page < pages.end {
            let Some(block) = self.free_block(page) else {
                // Reserved before.
                page = self.reserved_until(page).unwrap_or(pages.end);
                continue;
            };
            let (index, order) = (block.page as usize >> block.order, usize::from(block.order));
            if let Some(bits) = self.free.get_mut(order) {
                bits.clear(index);
            }
            let end = block.page + (1 << block.order);
            if block.page >= pages.start && end <= pages.end {
                self.free_pages -= block.pages();
                self.reserved_pages += block.pages();
                page = end;
            } else if let Some(halves) = self.free.get_mut(order.wrapping_sub(1)) {
                // A block that reaches beyond has more than one page.
                halves.set(index * 2);
                halves.set(index * 2 + 1);
            }
        }
        self.reserved.push(range);
    }

    /// The pages of the window that lie in a range of addresses.
    fn pages_of(&self, range: Range<u64>) -> Range<u32> {
        let last = 1u64 << self.place.order;
        let page = |address: u64| {
            // At most 2^20.
            (address.saturating_sub(self.place.start) >> PAGE_SHIFT).min(last) as u32
        };
        page(range.start)..page(range.end)
    }

    /// The end of what is reserved at `page`.
    fn reserved_until(&self, page: u32) -> Option<u32> {
        let ranges = self.reserved.iter().map(|range| self.pages_of(range.clone()));
        ranges.filter(|range| range.contains(&page)).map(|range| range.end).max()
    }
}

/// A set of small numbers of which the least is found at once: a bitmap, and twice a bitmap of the words below that
/// are not zero.
struct Bits {
    words: Vec<u64>,
    /// Where the bitmaps of words begin.
    above: [usize; 2],
}

impl Bits {
    fn new(bits: usize) -> Result<Self, NoMemory> {
        let words = bits.div_ceil(64);
        let first = words.div_ceil(64);
        let second = first.div_ceil(64);
        let mut all = Vec::new();
        all.try_reserve_exact(words + first + second).map_err(|_| NoMemory)?;
        all.extend(core::iter::repeat_n(0, words + first + second));
        Ok(Self { words: all, above: [words, words + first] })
    }

    /// Where the bits of `index` are, from the lowest map up.
    fn places(&self, index: usize) -> [(usize, u32); 3] {
        let [first, second] = self.above;
        [
            (index / 64, index as u32 % 64),
            (first + index / (64 * 64), (index / 64) as u32 % 64),
            (second + index / (64 * 64 * 64), (index / (64 * 64)) as u32 % 64),
        ]
    }

    fn get(&self, index: usize) -> bool {
        index / 64 < self.above[0]
            && self.words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    fn set(&mut self, index: usize) {
        for (at, bit) in self.places(index) {
            if let Some(word) = self.words.get_mut(at) {
                *word |= 1 << bit;
            }
        }
    }

    fn clear(&mut self, index: usize) {
        for (at, bit) in self.places(index) {
            let Some(word) = self.words.get_mut(at) else { return };
            *word &= !(1 << bit);
            if *word != 0 {
                return;
            }
        }
    }

    fn first(&self) -> Option<usize> {
        let [first, second] = self.above;
        let least = |word: &u64| (*word != 0).then_some(word.trailing_zeros() as usize);
        let top = self.words.get(second..)?;
        let (at, bit) =
            top.iter().enumerate().find_map(|(at, word)| least(word).map(|bit| (at, bit)))?;
        let middle = at * 64 + bit;
        let low = middle * 64 + least(self.words.get(first + middle)?)?;
        Some(low * 64 + least(self.words.get(low)?)?)
    }
}

#[cfg(test)]
mod tests;
