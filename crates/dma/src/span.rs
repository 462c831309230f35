// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer cut into pages.

use core::ops::Range;
use core::ptr::NonNull;

use crate::error::BufferError;

/// log2 of [`PAGE`].
pub(crate) const PAGE_SHIFT: u32 = 12;
/// Bytes of a page: domains have the 4 KiB granule.
pub(crate) const PAGE: usize = 1 << PAGE_SHIFT;

/// A buffer, and the pages that it touches.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: NonNull<u8>,
    len: usize,
    /// Where in its first page it begins.
    pub(crate) offset: usize,
    /// At least one.
    pub(crate) pages: usize,
}

/// The part of a buffer that lies in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where in the page it begins.
    pub(crate) in_page: usize,
    /// Where in the buffer it begins.
    pub(crate) in_buffer: usize,
    /// 1 to [`PAGE`].
    pub(crate) len: usize,
}

impl Span {
    #[inline]
    pub(crate) fn of(buffer: NonNull<[u8]>) -> Result<Self, BufferError> {
        let (start, len) = (buffer.cast::<u8>(), buffer.len());
        let address = start.as_ptr().addr();
        if len == 0 {
            return Err(BufferError::Empty);
        }
        let offset = address % PAGE;
        // Its last page, too, ends within the address space, and no object has more than half of that.
        if len > isize::MAX as usize - 2 * PAGE
            || address.checked_add(len).is_none_or(|end| end > usize::MAX - PAGE)
        {
            return Err(BufferError::Wraps { address, len });
        }
        Ok(Self { start, len, offset, pages: (offset + len).div_ceil(PAGE) })
    }

    /// The first byte of the buffer.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes of the buffer.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of its pages.
    pub(crate) const fn bytes(&self) -> u64 {
        (self.pages as u64) << PAGE_SHIFT
    }

    /// log2 of the pages, rounded up.
    pub(crate) const fn order(&self) -> u32 {
        self.pages.next_power_of_two().trailing_zeros()
    }

    /// The part in page `index`, which is less than `pages`.
    pub(crate) const fn part(&self, index: usize) -> Part {
        let first = if index == 0 { self.offset } else { 0 };
        let start = index * PAGE + first;
        let end = self.offset + self.len;
        let end = if end < (index + 1) * PAGE { end } else { (index + 1) * PAGE };
        Part { in_page: first, in_buffer: start - self.offset, len: end - start }
    }

    /// The buffer's bytes in `pages`.
    pub(crate) const fn bytes_of(&self, pages: &Range<usize>) -> (usize, usize) {
        if pages.start >= pages.end {
            return (0, 0);
        }
        let (first, last) = (self.part(pages.start), self.part(pages.end - 1));
        (first.in_buffer, last.in_buffer + last.len - first.in_buffer)
    }

    /// Whether some of the first page is not the buffer's.
    pub(crate) const fn is_first_partial(&self) -> bool {
        self.offset != 0 || self.len < PAGE
    }

    /// The same of the last one, which may be the first.
    pub(crate) const fn is_last_partial(&self) -> bool {
        (self.offset + self.len) & (PAGE - 1) != 0 || self.pages == 1 && self.is_first_partial()
    }

    /// The byte at `offset`, which lies in the buffer.
    ///
    /// # Safety
    /// The buffer is memory of one object.
    pub(crate) const unsafe fn at(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: within the buffer, which is one object.
        unsafe { self.start.add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(address: usize, len: usize) -> Result<Span, BufferError> {
        let start = NonNull::new(core::ptr::without_provenance_mut(address)).unwrap();
        Span::of(NonNull::slice_from_raw_parts(start, len))
    }

    #[test]
    fn a_buffer_is_cut_at_pages() {
        let span = span(0x1_0ffd, 0x1005).unwrap();
        assert_eq!((span.offset, span.pages, span.order(), span.bytes()), (0xffd, 3, 2, 0x3000));
        let part = |in_page, in_buffer, len| Part { in_page, in_buffer, len };
        assert_eq!(span.part(0), part(0xffd, 0, 3));
        assert_eq!(span.part(1), part(0, 3, 0x1000));
        assert_eq!(span.part(2), part(0, 0x1003, 2));
        assert!(span.is_first_partial() && span.is_last_partial());
        assert_eq!(span.bytes_of(&(1..3)), (3, 0x1002));
        assert_eq!(span.bytes_of(&(2..2)), (0, 0));
    }

    #[test]
    fn a_page_is_partial_if_some_of_it_is_not_the_buffers() {
        for (address, len, first, last) in [
            (0x1000, 0x1000, false, false),
            (0x1000, 0x3000, false, false),
            (0x1000, 0xfff, true, true),
            (0x1001, 0xfff, true, true),
            (0x1001, 0x1000, true, true),
            (0x1001, 0x1fff, true, false),
            (0x1000, 0x1001, false, true),
        ] {
            let span = span(address, len).unwrap();
            let found = (span.is_first_partial(), span.is_last_partial());
            assert_eq!(found, (first, last), "{address:#x} {len:#x}");
            assert_eq!(found.0, span.part(0).len != PAGE);
            assert_eq!(found.1, span.part(span.pages - 1).len != PAGE);
        }
    }

    #[test]
    fn what_is_no_buffer_is_refused() {
        assert_eq!(span(0x1000, 0).err(), Some(BufferError::Empty));
        for (address, len) in
            [(0x1000, usize::MAX), (usize::MAX - 0x10, 0x20), (1, isize::MAX as usize)]
        {
            assert_eq!(span(address, len).err(), Some(BufferError::Wraps { address, len }));
        }
        assert_eq!(span(0x1fff, 1).unwrap().pages, 1);
    }
}
