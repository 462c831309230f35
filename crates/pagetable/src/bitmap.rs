// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bitmap of pages, as those who migrate guests keep it.

use smmuv3_formats::Iova;

/// A bit for each page from an input address on, in words of the caller's: the lowest bit of the first word is the
/// first page.
///
/// ```
/// use smmuv3_pagetable::{Bitmap, Iova};
///
/// let mut words = [0; 2];
/// let mut bitmap = Bitmap::new(Iova(0x10_0000), 0x1000, &mut words);
/// bitmap.set(Iova(0x10_3000), 0x2000);
/// assert_eq!(words, [0b11000, 0]);
/// ```
#[derive(Debug)]
pub struct Bitmap<'w> {
    first: u64,
    /// log2 of the bytes of a page.
    shift: u32,
    words: &'w mut [u64],
}

impl<'w> Bitmap<'w> {
    /// A bitmap of pages of `page` bytes, of which the first begins at `first`. A page size that is no power of two is
    /// made one: the next smaller.
    pub const fn new(first: Iova, page: u64, words: &'w mut [u64]) -> Self {
        let shift = if page == 0 { 0 } else { page.ilog2() };
        Self { first: first.0, shift, words }
    }

    /// Sets the bits of all pages that the `bytes` bytes from `start` touch. What is beyond the bitmap is left out.
    pub fn set(&mut self, start: Iova, bytes: u64) {
        let Some(last) = bytes.checked_sub(1).map(|more| start.0.saturating_add(more)) else {
            return;
        };
        if last < self.first {
            return;
        }
        let begin = start.0.saturating_sub(self.first) >> self.shift;
        let end = (last - self.first) >> self.shift;
        let (skipped, below) = ((begin / 64) as usize, (end / 64) as usize);
        let words = self.words.iter_mut().enumerate().take(below.saturating_add(1));
        for (nth, word) in words.skip(skipped) {
            let low = if nth == skipped { begin % 64 } else { 0 };
            let high = if nth == below { end % 64 } else { 63 };
            *word |= (u64::MAX >> (63 - high)) & (u64::MAX << low);
        }
    }
}
