// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lending a buffer: which of its pages devices get, and which are bounced.

use core::ops::Range;
use core::ptr::NonNull;

use smmuv3::{Attributes, Iova, PhysAddr, Unconfirmed, UnmapError as DomainError};

use crate::bounce::{Bounced, Which, copy_again, copy_in, copy_out};
use crate::config::{Lazy, MOST_COPIED, Reclaim};
use crate::error::{MapError, UnmapError};
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

/// A mapping that is there: what it was made of, but for its bounce pages.
#[derive(Clone, Copy)]
struct Found {
    span: Span,
    block: Block,
    /// Of the first page.
    iova: Iova,
}

impl<P: DmaPlatform> DmaSpace<P> {
    /// Lets the devices of the space use `buffer`. Returns the input address of its first byte; the others follow.
    ///
    /// Until [`unmap`](Self::unmap), the driver does not touch the buffer, except between
    /// [`sync_for_cpu`](Self::sync_for_cpu) and [`sync_for_device`](Self::sync_for_device). What it wrote before is
    /// found by a device that is told of the buffer afterwards (telling it needs the barriers of a device driver).
    ///
    /// May be called in interrupt context. Takes bounce pages and frames for tables from the platform; waits for
    /// nothing, unless input addresses or bounce pages run out: then it flushes once.
    ///
    /// # Errors
    /// See [`MapError`]. Nothing is mapped then.
    ///
    /// # Safety
    /// `buffer` is memory, initialised or not, that nobody else uses until `unmap` has returned `Ok`, or has returned
    /// `Unconfirmed` and what is said there has come about: devices read it, and write to it unless `direction` is
    /// [`ToDevice`](Direction::ToDevice). It stays in place physically.
    pub unsafe fn map(
        &self,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<Iova, MapError> {
        let span = Span::of(buffer)?;
        let too_long = MapError::NoIova { pages: span.pages.next_power_of_two() as u64 };
        // At most 64.
        let order = span.order() as u8;
        if order > self.place.order {
            return Err(too_long);
        }
        let which = self.bounces(&span);
        let mut bounced = Bounced::new(which);
        let wanted = which.count(span.pages);
        let block = self.take(order, wanted, &mut bounced.pages);
        if bounced.len() < wanted {
            bounced = self.bounce_less(&span, bounced);
        }
        let Some(block) = block else {
            self.release_pages(bounced.pages.as_slice());
            return Err(too_long);
        };
        if bounced.len() < bounced.which.count(span.pages) {
            self.give(block, &bounced);
            return Err(MapError::NoBouncePage { most: self.config.bounce_pages });
        }
        let iova = self.place.iova(block);
        // SAFETY: the caller's promise for the buffer; the block and the pages are this call's.
        match unsafe { self.fill(iova, &span, direction, &bounced) } {
            Ok(()) => Ok(Iova(iova.0 + span.offset as u64)),
            Err((error, None)) => {
                self.give(block, &bounced);
                Err(error)
            }
            Err((error, Some(_))) => {
                self.hold_all(block, &bounced);
                Err(error)
            }
        }
    }

    /// Takes `buffer` back, which [`map`](Self::map) returned `iova` for, with this direction. What devices wrote is in
    /// it, unless they were not to write. When this has returned `Ok`, no device reaches it any more, whether the space
    /// is strict or lazy.
    ///
    /// May be called in interrupt context. Waits for one invalidation; where the space is lazy and the buffer small,
    /// only for a flush if one is due.
    ///
    /// # Errors
    /// See [`UnmapError`]. [`Unconfirmed`](UnmapError::Unconfirmed) only where pages of the buffer itself had been
    /// lent: until a [`flush`](Self::flush) has returned `Ok`, they are not to be used for anything else. What had only
    /// been bounced is safe whatever an instance does; its bounce pages and input addresses wait.
    ///
    /// # Safety
    /// As said: the buffer, and the direction, that this address was returned for. It was not taken back since, and
    /// nobody uses the buffer meanwhile.
    pub unsafe fn unmap(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<(), UnmapError> {
        // SAFETY: the caller's promise.
        unsafe { self.unmap_or_hold(iova, buffer, direction) }.map_err(|(error, _)| error)
    }

    /// [`unmap`](Self::unmap), with what is to be waited for where that was not confirmed.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn unmap_or_hold(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<(), (UnmapError, Option<Stamp>)> {
        // Filled in place: it is larger than all that is done with it.
        let mut bounced = Bounced::none();
        // SAFETY: the caller's promise.
        let found = unsafe { self.find(iova, buffer, &mut bounced) };
        let (bounced, Found { span, block, iova: start }) = match found {
            Ok(found) => (&bounced, found),
            Err(error) => return Err((error, None)),
        };
        let not_mapped = (UnmapError::NotMapped { iova }, None);
        let is_lazy = matches!(self.config.reclaim, Reclaim::Lazy(_));
        if is_lazy && bounced.len() == span.pages {
            // SAFETY: the mapping is the caller's. Only pages of the space are behind it, which wait for a flush.
            match unsafe { self.domain.unmap_deferred(start, span.bytes()) } {
                Ok(bytes) if bytes == span.bytes() => {}
                Ok(_) => return Err(not_mapped),
                Err(error) => return Err((table_error(error, iova), None)),
            }
            // SAFETY: the caller's promise.
            unsafe { self.to_cpu(&span, bounced, direction) };
            let mut items = List::new();
            list(block, bounced, &mut items);
            self.retire(items.as_slice());
            return Ok(());
        }
        // SAFETY: the mapping is the caller's.
        match unsafe { self.domain.unmap(start, span.bytes()) } {
            Ok(bytes) if bytes == span.bytes() => {
                // SAFETY: the caller's promise.
                unsafe { self.to_cpu(&span, bounced, direction) };
                self.give(block, bounced);
                Ok(())
            }
            Ok(_) => Err(not_mapped),
            Err(DomainError::Unconfirmed(unconfirmed)) => {
                // SAFETY: the caller's promise.
                unsafe { self.to_cpu(&span, bounced, direction) };
                let stamp = self.hold_all(block, bounced);
                if bounced.len() == span.pages {
                    return Ok(());
                }
                Err((UnmapError::Unconfirmed(unconfirmed), Some(stamp)))
            }
            Err(error) => Err((table_error(error, iova), None)),
        }
    }

    /// Lets the driver see what devices have written to a mapped buffer so far. It may use the buffer until
    /// [`sync_for_device`](Self::sync_for_device); devices may be using it all the same, if nothing else keeps them
    /// from it.
    ///
    /// May be called in interrupt context.
    ///
    /// # Errors
    /// As from [`unmap`](Self::unmap), when nothing was changed.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn sync_for_cpu(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<(), UnmapError> {
        let mut bounced = Bounced::none();
        // SAFETY: the caller's promise, for both.
        unsafe {
            let found = self.find(iova, buffer, &mut bounced)?;
            self.to_cpu(&found.span, &bounced, direction);
        }
        Ok(())
    }

    /// Lets devices see what the driver has written to a mapped buffer.
    ///
    /// May be called in interrupt context.
    ///
    /// # Errors
    /// As from [`sync_for_cpu`](Self::sync_for_cpu).
    ///
    /// # Safety
    /// As there.
    pub unsafe fn sync_for_device(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        _direction: Direction,
    ) -> Result<(), UnmapError> {
        let mut bounced = Bounced::none();
        // SAFETY: the caller's promise.
        let Found { span, .. } = unsafe { self.find(iova, buffer, &mut bounced) }?;
        for (index, page) in bounced.iter() {
            let part = span.part(index);
            let copy = self.platform().pointer(page);
            // SAFETY: the part is the caller's, the page the mapping's.
            unsafe { copy_again(copy, part, span.at(part.in_buffer)) };
            if !self.config.coherent {
                self.platform().clean(copy, PAGE);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.clean_lent(&span, &bounced) };
        Ok(())
    }

    /// Whether a buffer is bounced altogether.
    fn is_copied(&self, span: &Span) -> bool {
        match self.config.reclaim {
            Reclaim::Strict => false,
            Reclaim::Lazy(Lazy { copy_up_to, .. }) => {
                span.len() <= copy_up_to && span.pages <= MOST_COPIED
            }
        }
    }

    /// The pages of a buffer that are bounced in any case.
    #[inline]
    fn partial(&self, span: &Span) -> Which {
        let last = span.pages - 1;
        let bounces = !self.config.whole_pages;
        Which::Ends {
            first: bounces && span.is_first_partial(),
            last: (bounces && last > 0 && span.is_last_partial()).then_some(last),
        }
    }

    /// The pages of a buffer that are bounced if there are so many bounce pages.
    #[inline]
    fn bounces(&self, span: &Span) -> Which {
        if self.is_copied(span) { Which::All } else { self.partial(span) }
    }

    /// What is bounced where there are too few bounce pages: a buffer had better be lent, and unmapped strictly, than
    /// not be mapped at all.
    #[cold]
    fn bounce_less(&self, span: &Span, mut more: Bounced) -> Bounced {
        let which = self.partial(span);
        let mut bounced = Bounced::new(which);
        while bounced.len() < which.count(span.pages)
            && let Some(page) = more.pages.pop()
        {
            bounced.pages.push(page);
        }
        self.release_pages(more.pages.as_slice());
        bounced
    }

    /// Copies into bounce pages, then maps everything. On error nothing is mapped; what was not confirmed of that comes
    /// with it.
    ///
    /// # Safety
    /// As for [`map`](Self::map); the input addresses, and the bounce pages, are the caller's.
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
        if bounced.len() == 0
            && let Some((pa, bytes)) = platform.physical(span.start(), span.len())
            && bytes >= span.len()
            && pa.0 & (PAGE as u64 - 1) == span.offset as u64
        {
            // In one piece, as most are.
            let run = Run { iova: iova.0, pa: pa.0 - span.offset as u64, len: span.bytes() };
            // SAFETY: as above; the memory is the caller's.
            return unsafe { self.map_run(iova, &run, attributes) };
        }
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

    /// The mapping of `buffer` at `iova`: which of its pages are bounced is what the table says, and goes to `bounced`,
    /// which has none.
    ///
    /// # Safety
    /// It is the caller's.
    #[inline]
    unsafe fn find(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        bounced: &mut Bounced,
    ) -> Result<Found, UnmapError> {
        let span = Span::of(buffer)?;
        let not_mapped = UnmapError::NotMapped { iova };
        let start = Iova(iova.0.wrapping_sub(span.offset as u64));
        // At most 64.
        let block = self.place.block(start, span.order() as u8).ok_or(not_mapped)?;
        bounced.which = self.bounces(&span);
        for nth in 0..bounced.which.count(span.pages) {
            // SAFETY: the caller's promise.
            let page = unsafe { self.page_at(start, bounced.which.index(nth)) };
            bounced.pages.push(page.ok_or(not_mapped)?);
        }
        if matches!(bounced.which, Which::All) {
            // SAFETY: the caller's promise.
            unsafe { self.leave_lent(&span, bounced) };
        }
        Ok(Found { span, block, iova: start })
    }

    /// Leaves those of a mapping's pages that are bounced. Not all of them are if there were too few bounce pages; then
    /// all that are not partial were lent.
    ///
    /// # Safety
    /// The mapping is the caller's; `bounced` has all its pages.
    unsafe fn leave_lent(&self, span: &Span, bounced: &mut Bounced) {
        let partial = self.partial(span);
        // The first that is not partial, if there is one.
        let index = usize::from(matches!(partial, Which::Ends { first: true, .. }));
        if index + usize::from(matches!(partial, Which::Ends { last: Some(_), .. })) >= span.pages {
            return;
        }
        let part = span.part(index);
        // SAFETY: the caller says that the buffer is memory of one object.
        let own = self.platform().physical(unsafe { span.at(part.in_buffer) }, part.len);
        let own = own.and_then(|(pa, _)| pa.0.checked_sub(part.in_page as u64)).map(PhysAddr);
        if own.is_some() && own == bounced.get(index) {
            let mut left = Bounced::new(partial);
            for nth in 0..partial.count(span.pages) {
                if let Some(page) = bounced.get(partial.index(nth)) {
                    left.pages.push(page);
                }
            }
            *bounced = left;
        }
    }

    /// Where page `index` of a mapping leads.
    ///
    /// # Safety
    /// Nobody unmaps it meanwhile.
    #[inline]
    unsafe fn page_at(&self, start: Iova, index: usize) -> Option<PhysAddr> {
        let at = Iova(start.0 + ((index as u64) << PAGE_SHIFT));
        // SAFETY: the caller's promise.
        unsafe { self.domain.lookup(at) }.map(|mapping| mapping.pa)
    }

    /// Brings what devices wrote to the driver.
    ///
    /// # Safety
    /// The mapping is the caller's, and the buffer, too.
    #[inline]
    unsafe fn to_cpu(&self, span: &Span, bounced: &Bounced, direction: Direction) {
        if !direction.is_written() || self.config.coherent && bounced.len() == 0 {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.bring_to_cpu(span, bounced) };
    }

    /// As [`to_cpu`](Self::to_cpu), where there is something to be done.
    ///
    /// # Safety
    /// As there.
    unsafe fn bring_to_cpu(&self, span: &Span, bounced: &Bounced) {
        let platform = self.platform();
        if !self.config.coherent {
            let (start, len) = span.bytes_of(&Self::lent_pages(span, bounced));
            if len != 0 {
                // SAFETY: a part of the buffer.
                platform.invalidate(unsafe { span.at(start) }, len);
            }
        }
        for (index, page) in bounced.iter() {
            let (part, copy) = (span.part(index), platform.pointer(page));
            if !self.config.coherent {
                platform.invalidate(copy, PAGE);
            }
            // SAFETY: the part is the caller's, the page the mapping's.
            unsafe { copy_out(copy, part, span.at(part.in_buffer)) };
        }
    }

    /// Cleans the caches of what is lent of a buffer itself, where that matters.
    ///
    /// # Safety
    /// The buffer is the caller's.
    unsafe fn clean_lent(&self, span: &Span, bounced: &Bounced) {
        if self.config.coherent {
            return;
        }
        let (start, len) = span.bytes_of(&Self::lent_pages(span, bounced));
        if len != 0 {
            // In every direction: a dirty line must not be written back over what a device has written.
            // SAFETY: a part of the buffer.
            self.platform().clean(unsafe { span.at(start) }, len);
        }
    }

    /// The pages of a buffer that are not bounced: those in the middle, or all, or none.
    fn lent_pages(span: &Span, bounced: &Bounced) -> Range<usize> {
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
    fn hold_all(&self, block: Block, bounced: &Bounced) -> Stamp {
        let mut items = List::new();
        list(block, bounced, &mut items);
        self.hold(items.as_slice())
    }
}

/// What one mapping can be made of.
type List = Stack<Item, { MOST_COPIED + 1 }>;

/// What a mapping was made of, to `items`, which is empty.
fn list(block: Block, bounced: &Bounced, items: &mut List) {
    items.push(Item::Block(block));
    for page in bounced.pages.as_slice() {
        items.push(Item::Page(*page));
    }
}

fn table_error(error: DomainError, iova: Iova) -> UnmapError {
    match error {
        DomainError::Table(error) => UnmapError::Table(error),
        DomainError::Unconfirmed(unconfirmed) => UnmapError::Unconfirmed(unconfirmed),
        _ => UnmapError::NotMapped { iova },
    }
}
