// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a buffer back, and looking at it meanwhile: what was lent of it, and what was bounced.

use core::ptr::NonNull;

use smmuv3::{Iova, PhysAddr, UnmapError as DomainError};

use crate::bounce::{Bounced, Which, copy_again, copy_out};
use crate::config::DmaConfig;
use crate::error::UnmapError;
use crate::flush::Stamp;
use crate::iova::Block;
use crate::map::{List, list};
use crate::platform::{Direction, DmaPlatform};
use crate::retired::Item;
use crate::space::DmaSpace;
use crate::span::{PAGE, PAGE_SHIFT, Span};

/// Where a mapping is.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) span: Span,
    pub(crate) block: Block,
    /// Of the first page.
    pub(crate) iova: Iova,
    /// What is bounced of it, if there were enough bounce pages.
    which: Which,
}

impl<P: DmaPlatform> DmaSpace<P> {
    /// Takes `buffer` back, which [`map`](Self::map) returned `iova` for, with this direction. What devices wrote is in
    /// it, unless they were not to write. When this has returned `Ok`, no device reaches it any more, whether the space
    /// is strict or lazy. Where it is [deferred](crate::Reclaim::Deferred), devices may reach it until a flush, and leave
    /// it alone by [what was promised](crate::Deferred::trusting): they have finished with it.
    ///
    /// May be called in interrupt context. Waits for one invalidation; where the space is lazy and the buffer small, or
    /// where it is deferred, only for a flush if one is due.
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
        match unsafe { self.unmap_or_hold(iova, buffer, direction, false) } {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error),
        }
    }

    /// [`unmap`](Self::unmap), with what is to be waited for where that was not confirmed; or, where it may be `later`,
    /// without waiting for the flush that the result tells of: unless the space is strict.
    ///
    /// # Safety
    /// As there; where it may be `later`, as for [`unmap_later`](Self::unmap_later).
    pub(crate) unsafe fn unmap_or_hold(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        direction: Direction,
        later: bool,
    ) -> Result<Stamp, (UnmapError, Option<Stamp>)> {
        let found = match self.find(iova, buffer) {
            Ok(found) => found,
            Err(error) => return Err((error, None)),
        };
        // Taken apart, so that it is in memory only where somebody else is told of it.
        let Found { span, block, iova: start, which } = found;
        if !which.is_none() {
            let found = Found { span, block, iova: start, which };
            if span.pages == 1
                // SAFETY: the caller's promise.
                && let Some(unmapped) = unsafe { self.unmap_single(iova, &found, direction) }
            {
                // Nothing of the buffer itself was ever reached.
                return unmapped.map(|()| Stamp::PAST);
            }
            // SAFETY: the caller's promise.
            return unsafe { self.unmap_bounced(iova, &found, direction, later) };
        }
        let waits = self.waits(later);
        // SAFETY: the mapping is the caller's. Where it waits for a flush, the buffer is nobody's until then, or devices leave
        // it alone, which is promised by `Deferred::trusting`; its addresses are not given out.
        let unmapped = unsafe {
            match waits {
                true => self.domain.unmap_deferred(start, span.bytes()),
                false => self.domain.unmap(start, span.bytes()),
            }
        };
        if !is_all(&unmapped, span.bytes()) {
            let found = Found { span, block, iova: start, which };
            // SAFETY: the caller's promise.
            let done =
                unsafe { self.not_unmapped(unmapped, iova, &found, &Bounced::none(), direction) };
            return done.map(|()| Stamp::PAST);
        }
        // What may be later is invalidated when it is the caller's: until then devices write, and CPUs read lines ahead.
        if direction.is_written() && !self.config.coherent && !(later && waits) {
            self.platform().invalidate(span.start(), span.len());
        }
        if waits {
            return Ok(self.put_off(&[Item::Block(block)]));
        }
        self.give_block(block);
        Ok(Stamp::PAST)
    }

    /// Whether what was lent of a buffer waits for a flush, where the caller lets that be.
    #[inline]
    fn waits(&self, later: bool) -> bool {
        match later {
            // Only where there are flush queues.
            true => self.age.is_some(),
            false => self.config.reclaim.is_deferred(),
        }
    }

    /// [`unmap_or_hold`](Self::unmap_or_hold) for a buffer that is bounced in part, or altogether.
    ///
    /// # Safety
    /// As there; `found` is its mapping.
    #[inline(never)]
    unsafe fn unmap_bounced(
        &self,
        iova: Iova,
        found: &Found,
        direction: Direction,
        later: bool,
    ) -> Result<Stamp, (UnmapError, Option<Stamp>)> {
        let Found { ref span, block, iova: start, .. } = *found;
        // Filled in place: it is larger than all that is done with it.
        let mut bounced = Bounced::none();
        // SAFETY: the caller's promise.
        if !unsafe { self.find_pages(found, &mut bounced) } {
            return Err((UnmapError::NotMapped { iova }, None));
        }
        let is_copied = bounced.len() == span.pages;
        // Pages of the space can always wait, if it has where.
        if self.waits(later || is_copied) {
            // SAFETY: the mapping is the caller's. Behind it are pages of the space, which wait for a flush, and perhaps the
            // caller's: those are nobody's until then, or devices leave them alone, which is promised by `Deferred::trusting`.
            let unmapped = unsafe { self.domain.unmap_deferred(start, span.bytes()) };
            if !is_all(&unmapped, span.bytes()) {
                // SAFETY: the caller's promise.
                let done = unsafe { self.not_unmapped(unmapped, iova, found, &bounced, direction) };
                return done.map(|()| Stamp::PAST);
            }
            // What was bounced is copied now: what devices write to those pages from here on is nobody's. What was lent, and
            // may be later, is invalidated when it is the caller's.
            // SAFETY: the caller's promise.
            unsafe {
                match later {
                    true => self.copies_to_cpu(span, &bounced, direction),
                    false => self.to_cpu(span, &bounced, direction),
                }
            }
            let mut items = List::new();
            list(block, &bounced, &mut items);
            let stamp = self.put_off(items.as_slice());
            return Ok(if is_copied { Stamp::PAST } else { stamp });
        }
        // SAFETY: the mapping is the caller's.
        let unmapped = unsafe { self.domain.unmap(start, span.bytes()) };
        if !is_all(&unmapped, span.bytes()) {
            // SAFETY: the caller's promise.
            let done = unsafe { self.not_unmapped(unmapped, iova, found, &bounced, direction) };
            return done.map(|()| Stamp::PAST);
        }
        // SAFETY: the caller's promise.
        unsafe { self.to_cpu(span, &bounced, direction) };
        self.give(block, &bounced);
        Ok(Stamp::PAST)
    }

    /// What becomes of a mapping of which the unmap was not what it should be.
    ///
    /// # Safety
    /// The mapping is the caller's, and the buffer, too.
    #[cold]
    pub(crate) unsafe fn not_unmapped(
        &self,
        unmapped: Result<u64, DomainError>,
        iova: Iova,
        Found { span, block, .. }: &Found,
        bounced: &Bounced,
        direction: Direction,
    ) -> Result<(), (UnmapError, Option<Stamp>)> {
        match unmapped {
            Ok(bytes) => {
                // Devices may reach still what somebody else has unmapped of it.
                if bytes != 0 {
                    self.lose(*block, bounced.len());
                }
                Err((UnmapError::NotMapped { iova }, None))
            }
            Err(DomainError::Unconfirmed(unconfirmed)) => {
                // SAFETY: the caller's promise.
                unsafe { self.to_cpu(span, bounced, direction) };
                let stamp = self.hold_all(*block, bounced);
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
        let (found, mut bounced) = (self.find(iova, buffer)?, Bounced::none());
        // SAFETY: the caller's promise.
        if !unsafe { self.find_pages(&found, &mut bounced) } {
            return Err(UnmapError::NotMapped { iova });
        }
        // SAFETY: the caller's promise.
        unsafe { self.to_cpu(&found.span, &bounced, direction) };
        Ok(())
    }

    /// Lets devices see what the driver has written to a mapped buffer. All of the buffer's bytes in a bounced page are
    /// copied again, whatever the direction: what a device has written there since the last
    /// [`sync_for_cpu`](Self::sync_for_cpu) is lost. So who only looks whether a device has written calls that, and not
    /// this.
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
        let (found, mut bounced) = (self.find(iova, buffer)?, Bounced::none());
        // SAFETY: the caller's promise.
        if !unsafe { self.find_pages(&found, &mut bounced) } {
            return Err(UnmapError::NotMapped { iova });
        }
        let span = found.span;
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

    /// Where the mapping of `buffer` at `iova` is, if there is one.
    #[inline]
    fn find(&self, iova: Iova, buffer: NonNull<[u8]>) -> Result<Found, UnmapError> {
        let span = Span::of(buffer)?;
        let start = Iova(iova.0.wrapping_sub(span.offset as u64));
        // At most 52: pages of an address space.
        match self.place.block(start, span.order() as u8) {
            Some(block) => Ok(Found { span, block, iova: start, which: self.bounces(&span) }),
            None => Err(UnmapError::NotMapped { iova }),
        }
    }

    /// The bounce pages of a mapping, to `bounced`, which has none: what the table says. False if it is not mapped.
    ///
    /// # Safety
    /// It is the caller's.
    unsafe fn find_pages(&self, found: &Found, bounced: &mut Bounced) -> bool {
        let Found { span, iova, which, .. } = found;
        bounced.which = *which;
        for nth in 0..which.count(span.pages) {
            // SAFETY: the caller's promise.
            let page = unsafe { self.page_at(*iova, which.index(nth)) };
            let Some(page) = page else { return false };
            // At most as many as are copied of a mapping, for which there is room.
            let _ = bounced.pages.push(page);
        }
        if matches!(which, Which::All) {
            // SAFETY: the caller's promise.
            unsafe { self.leave_lent(span, bounced) };
        }
        true
    }

    /// Leaves those of a mapping's pages that are bounced. Not all of them are if there were too few bounce pages; then
    /// all that are not partial were lent.
    ///
    /// # Safety
    /// The mapping is the caller's; `bounced` has all its pages.
    #[inline]
    unsafe fn leave_lent(&self, span: &Span, bounced: &mut Bounced) {
        let partial = Which::partial(span, &self.config);
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
                    // At most two.
                    let _ = left.pages.push(page);
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
    pub(crate) unsafe fn page_at(&self, start: Iova, index: usize) -> Option<PhysAddr> {
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
        // SAFETY: the caller's promise.
        unsafe { self.copies_to_cpu(span, bounced, Direction::Both) };
    }

    /// As [`to_cpu`](Self::to_cpu), of what was bounced.
    ///
    /// # Safety
    /// As there.
    unsafe fn copies_to_cpu(&self, span: &Span, bounced: &Bounced, direction: Direction) {
        if !direction.is_written() {
            return;
        }
        let platform = self.platform();
        for (index, page) in bounced.iter() {
            let (part, copy) = (span.part(index), platform.pointer(page));
            if !self.config.coherent {
                platform.invalidate(copy, PAGE);
            }
            // SAFETY: the part is the caller's, the page the mapping's.
            unsafe { copy_out(copy, part, span.at(part.in_buffer)) };
        }
    }
}

/// Drops what caches hold of the pages that were lent of a buffer, now that the flush is over which it waited for since `stamp`:
/// devices went on reaching them after the unmap, and CPUs may have read lines ahead meanwhile.
///
/// # Safety
/// The buffer is the caller's, and that is its stamp.
#[inline]
pub(crate) unsafe fn forget_lines<P: DmaPlatform>(
    platform: &P,
    config: &DmaConfig,
    stamp: Stamp,
    buffer: NonNull<[u8]>,
    direction: Direction,
) {
    // Of what had never been reached, or was waited for, the lines are right, and may not have been written back yet.
    if config.coherent || stamp == Stamp::PAST || !direction.is_written() {
        return;
    }
    let Ok(span) = Span::of(buffer) else { return };
    let (first, last) = match Which::partial(&span, config) {
        Which::All => return,
        Which::Ends { first, last } => (usize::from(first), usize::from(last.is_some())),
    };
    let (start, len) = span.bytes_of(&(first..span.pages - last));
    if len != 0 {
        // SAFETY: a part of the buffer.
        platform.invalidate(unsafe { span.at(start) }, len);
    }
}

/// Whether all `bytes` were unmapped.
#[inline]
pub(crate) fn is_all(unmapped: &Result<u64, DomainError>, bytes: u64) -> bool {
    matches!(unmapped, Ok(unmapped) if *unmapped == bytes)
}

fn table_error(error: DomainError, iova: Iova) -> UnmapError {
    match error {
        DomainError::Table(error) => UnmapError::Table(error),
        DomainError::Unconfirmed(unconfirmed) => UnmapError::Unconfirmed(unconfirmed),
        _ => UnmapError::NotMapped { iova },
    }
}
