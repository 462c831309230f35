// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lending a buffer: which of its pages devices get, and which are bounced.

use core::ops::Range;
use core::ptr::NonNull;

use smmuv3::{Attributes, Iova, PhysAddr, Unconfirmed, UnmapError as DomainError};

use crate::bounce::{Bounced, Which, copy_in};
use crate::config::MOST_COPIED;
use crate::error::MapError;
use crate::flush::Stamp;
use crate::iova::Block;
use crate::local::Stack;
use crate::platform::{Direction, DmaPlatform};
use crate::retired::Item;
use crate::space::DmaSpace;
use crate::span::{PAGE, PAGE_SHIFT, Span};

/// A run of pages that is to be mapped at once.
struct Run {
    iova: u64,
    pa: u64,
    len: u64,
}

/// Why a buffer was not mapped, and if a part of it may be reached all the same, where and since when.
pub(crate) type NotMapped = (MapError, Option<(Iova, Stamp)>);

impl<P: DmaPlatform> DmaSpace<P> {
    /// Lets the devices of the space use `buffer`. Returns the input address of its first byte; the others follow.
    ///
    /// Until [`unmap`](Self::unmap), the driver does not touch the buffer, except between
    /// [`sync_for_cpu`](Self::sync_for_cpu) and [`sync_for_device`](Self::sync_for_device). What it wrote before is
    /// found by a device that is told of the buffer afterwards (telling it needs the barriers of a device driver).
    ///
    /// May be called in interrupt context. Takes bounce pages and frames for tables from the platform; waits for
    /// nothing, unless input addresses or bounce pages run out: then it flushes once, and looks what other CPUs keep.
    ///
    /// # Errors
    /// See [`MapError`]. Nothing is mapped then; after [`Unconfirmed`](MapError::Unconfirmed), devices may reach a part of
    /// the buffer all the same.
    ///
    /// # Safety
    /// `buffer` is memory, initialised or not, that nobody else uses until `unmap` has returned `Ok`, or one of both has
    /// returned `Unconfirmed` and what is said there has come about: devices read it, and write to it unless `direction`
    /// is [`ToDevice`](Direction::ToDevice). It stays in place physically.
    #[inline]
    pub unsafe fn map(
        &self,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<Iova, MapError> {
        // SAFETY: the caller's promise.
        unsafe { self.map_or_hold(buffer, direction) }.map_err(|(error, _)| error)
    }

    /// [`map`](Self::map), with what is to be waited for where a part was mapped, and an instance did not confirm that it
    /// is not any more: the address at which the buffer was to be, and when it was held.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn map_or_hold(
        &self,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<Iova, NotMapped> {
        let span = match Span::of(buffer) {
            Ok(span) => span,
            Err(error) => return Err((error.into(), None)),
        };
        // At most 52: pages of an address space.
        let order = span.order() as u8;
        if order > self.place.order {
            return Err((MapError::NoIova { pages: 1 << order }, None));
        }
        let which = self.bounces(&span);
        if span.pages == 1
            && !which.is_none()
            // SAFETY: the caller's promise.
            && let Some(mapped) = unsafe { self.map_single(&span, direction) }
        {
            return mapped;
        }
        let piece = if which.is_none() { self.in_one_piece(span) } else { None };
        let Some(pa) = piece else {
            // SAFETY: the caller's promise.
            return unsafe { self.map_in_pieces(buffer, order, which, direction) };
        };
        // As it is, as most are.
        let Some(block) = self.take_block(order) else {
            return Err((MapError::NoIova { pages: 1 << order }, None));
        };
        if !self.config.coherent {
            // In every direction: a dirty line must not be written back over what a device has written.
            self.platform().clean(span.start(), span.len());
        }
        let (iova, attributes) = (self.place.iova(block), self.attributes(direction));
        // SAFETY: the caller's promise; the block is this call's.
        match unsafe { self.domain.map(iova, pa, span.bytes(), attributes) } {
            Ok(()) => Ok(Iova(iova.0 + span.offset as u64)),
            Err(error) => {
                let Some(unconfirmed) = error.unconfirmed else {
                    self.give_block(block);
                    return Err((MapError::Domain(error), None));
                };
                let stamp = self.hold(&[Item::Block(block)]);
                let at = Iova(iova.0 + span.offset as u64);
                Err((MapError::Unconfirmed(unconfirmed), Some((at, stamp))))
            }
        }
    }

    /// The first page of a buffer, if those behind it follow in physical memory.
    #[inline]
    fn in_one_piece(&self, span: Span) -> Option<PhysAddr> {
        let (pa, bytes) = self.platform().physical(span.start(), span.len())?;
        let in_page = span.offset as u64;
        let is_whole = bytes >= span.len() && pa.0 & (PAGE as u64 - 1) == in_page;
        is_whole.then(|| PhysAddr(pa.0 - in_page))
    }

    /// [`map_or_hold`](Self::map_or_hold) for a buffer that is bounced in part, or altogether, or that is scattered.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    unsafe fn map_in_pieces(
        &self,
        buffer: NonNull<[u8]>,
        order: u8,
        which: Which,
        direction: Direction,
    ) -> Result<Iova, NotMapped> {
        let span = &match Span::of(buffer) {
            Ok(span) => span,
            Err(error) => return Err((error.into(), None)),
        };
        let mut bounced = Bounced::new(which);
        let wanted = which.count(span.pages);
        let block = self.take(order, wanted, &mut bounced.pages);
        if bounced.len() < wanted {
            bounced = self.bounce_less(span, bounced);
        }
        let Some(block) = block else {
            self.release_pages(bounced.pages.as_slice());
            return Err((MapError::NoIova { pages: 1 << order }, None));
        };
        if bounced.len() < bounced.which.count(span.pages) {
            self.give(block, &bounced);
            return Err((MapError::NoBouncePage { most: self.config.bounce_pages }, None));
        }
        let start = self.place.iova(block);
        let iova = Iova(start.0 + span.offset as u64);
        // SAFETY: the caller's promise for the buffer; the block and the pages are this call's.
        match unsafe { self.fill(start, span, direction, &bounced) } {
            Ok(()) => Ok(iova),
            Err((error, None)) => {
                self.give(block, &bounced);
                Err((error, None))
            }
            Err((error, Some(unconfirmed))) => {
                let stamp = self.hold_all(block, &bounced);
                if bounced.len() == span.pages {
                    // Whatever a device reaches, it is not the buffer.
                    return Err((error, None));
                }
                Err((MapError::Unconfirmed(unconfirmed), Some((iova, stamp))))
            }
        }
    }

    /// Whether a buffer is bounced altogether.
    fn is_copied(&self, span: &Span) -> bool {
        // It has a byte at least.
        span.len() <= self.copied && span.pages <= MOST_COPIED
    }

    /// The pages of a buffer that are bounced if there are so many bounce pages.
    #[inline]
    pub(crate) fn bounces(&self, span: &Span) -> Which {
        if self.is_copied(span) { Which::All } else { Which::partial(span, &self.config) }
    }

    /// What is bounced where there are too few bounce pages: a buffer had better be lent, and unmapped strictly, than
    /// not be mapped at all.
    #[cold]
    fn bounce_less(&self, span: &Span, mut more: Bounced) -> Bounced {
        let which = Which::partial(span, &self.config);
        let mut bounced = Bounced::new(which);
        while bounced.len() < which.count(span.pages)
            && let Some(page) = more.pages.pop()
        {
            // At most two.
            let _ = bounced.pages.push(page);
        }
        self.release_pages(more.pages.as_slice());
        bounced
    }

    /// Copies into bounce pages, then maps everything. On error nothing is mapped; what was not confirmed of that comes
    /// with it.
    ///
    /// # Safety
    /// As for [`map`](Self::map); the input addresses, and the bounce pages, are the caller's.
    #[expect(
        clippy::result_large_err,
        reason = "two failures of hardware at most, on the stack of who fails"
    )]
    unsafe fn fill(
        &self,
        iova: Iova,
        span: &Span,
        direction: Direction,
        bounced: &Bounced,
    ) -> Result<(), (MapError, Option<Unconfirmed>)> {
        let platform = self.platform();
        // Before anything is mapped: the pages hold what was in other buffers. And whatever the direction: a device
        // need not write all of a buffer, and the rest of it stays as it is.
        for (index, page) in bounced.iter() {
            let (part, copy) = (span.part(index), platform.pointer(page));
            // SAFETY: the part is the caller's, and nobody else has the page.
            unsafe { copy_in(copy, part, span.at(part.in_buffer)) };
            if !self.config.coherent {
                platform.clean(copy, PAGE);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.clean_lent(span, bounced) };
        let attributes = self.attributes(direction);
        let mut run = Run { iova: iova.0, pa: 0, len: 0 };
        let mut index = 0;
        while index < span.pages {
            let (pa, pages) = match bounced.get(index) {
                Some(page) => (page, 1),
                None => match self.lent(span, index, bounced) {
                    Ok(found) => found,
                    // SAFETY: up to the run, the addresses were mapped here.
                    Err(error) => return Err((error, unsafe { self.undo(iova, run.iova) })),
                },
            };
            let len = (pages as u64) << PAGE_SHIFT;
            if run.len != 0 && run.pa.checked_add(run.len) == Some(pa.0) {
                run.len += len;
            } else {
                // SAFETY: as above; the memory is the caller's, or a bounce page of the mapping.
                unsafe { self.map_run(iova, &run, attributes) }?;
                run = Run { iova: run.iova + run.len, pa: pa.0, len };
            }
            index += pages;
        }
        // SAFETY: as above.
        unsafe { self.map_run(iova, &run, attributes) }
    }

    /// Where the page `index` of the buffer itself is, and how many follow it there.
    fn lent(
        &self,
        span: &Span,
        index: usize,
        bounced: &Bounced,
    ) -> Result<(PhysAddr, usize), MapError> {
        let part = span.part(index);
        // A bounced page ends what is lent; only the last one can.
        let end = if bounced.get(span.pages - 1).is_some() { span.pages - 1 } else { span.pages };
        let (_, len) = span.bytes_of(&(index..end));
        // SAFETY: the caller of `map` says that the buffer is memory of one object.
        let start = unsafe { span.at(part.in_buffer) };
        let nowhere = MapError::NotMemory { address: start.as_ptr().addr() };
        let (pa, bytes) = self.platform().physical(start, len).ok_or(nowhere)?;
        let in_page = pa.0 & (PAGE as u64 - 1);
        if bytes < part.len || in_page != part.in_page as u64 {
            return Err(nowhere);
        }
        // The end of the buffer counts as the end of its page.
        let pages = match bytes.min(len) {
            bytes if bytes == len => end - index,
            bytes => (part.in_page + bytes) / PAGE,
        };
        Ok((PhysAddr(pa.0 - in_page), pages))
    }

    /// Maps a run; on error, nothing from `iova` on is mapped.
    ///
    /// # Safety
    /// As for `Domain::map`; from `iova` to the run, everything was mapped by the caller.
    #[inline]
    #[expect(
        clippy::result_large_err,
        reason = "two failures of hardware at most, on the stack of who fails"
    )]
    unsafe fn map_run(
        &self,
        iova: Iova,
        run: &Run,
        attributes: Attributes,
    ) -> Result<(), (MapError, Option<Unconfirmed>)> {
        if run.len == 0 {
            return Ok(());
        }
        let (start, pa) = (Iova(run.iova), PhysAddr(run.pa));
        // SAFETY: the caller's promise.
        unsafe { self.domain.map(start, pa, run.len, attributes) }.map_err(|error| {
            // SAFETY: the caller's promise.
            let undone = unsafe { self.undo(iova, run.iova) };
            (MapError::Domain(error), error.unconfirmed.or(undone))
        })
    }

    /// Unmaps what a failed call had mapped.
    ///
    /// # Safety
    /// Those addresses are the caller's.
    #[cold]
    unsafe fn undo(&self, iova: Iova, end: u64) -> Option<Unconfirmed> {
        if end == iova.0 {
            return None;
        }
        // SAFETY: the caller's promise.
        match unsafe { self.domain.unmap(iova, end - iova.0) } {
            Err(DomainError::Unconfirmed(unconfirmed)) => Some(unconfirmed),
            // Whole runs were mapped, so nothing straddles.
            _ => None,
        }
    }

    /// Cleans the caches of what is lent of a buffer itself, where that matters.
    ///
    /// # Safety
    /// The buffer is the caller's.
    pub(crate) unsafe fn clean_lent(&self, span: &Span, bounced: &Bounced) {
        if self.config.coherent {
            return;
        }
        let (start, len) = span.bytes_of(&Self::lent_pages(span, bounced));
        if len != 0 {
            // In every direction, as in `map`.
            // SAFETY: a part of the buffer.
            self.platform().clean(unsafe { span.at(start) }, len);
        }
    }

    /// The pages of a buffer that are not bounced: those in the middle, or all, or none.
    pub(crate) fn lent_pages(span: &Span, bounced: &Bounced) -> Range<usize> {
        if bounced.len() == span.pages {
            return 0..0;
        }
        let first = usize::from(bounced.get(0).is_some());
        first..span.pages - usize::from(bounced.get(span.pages - 1).is_some())
    }

    #[cold]
    fn release_pages(&self, pages: &[PhysAddr]) {
        for page in pages {
            self.release(&[Item::Page(*page)]);
        }
    }

    #[cold]
    pub(crate) fn hold_all(&self, block: Block, bounced: &Bounced) -> Stamp {
        let mut items = List::new();
        list(block, bounced, &mut items);
        self.hold(items.as_slice())
    }
}

/// What one mapping can be made of.
pub(crate) type List = Stack<Item, { MOST_COPIED + 1 }>;

/// What a mapping was made of, to `items`, which is empty.
pub(crate) fn list(block: Block, bounced: &Bounced, items: &mut List) {
    // There is room for a block and as many pages as a mapping has.
    let _ = items.push(Item::Block(block));
    for page in bounced.pages.as_slice() {
        let _ = items.push(Item::Page(*page));
    }
}
