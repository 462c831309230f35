// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer that lies in one page, which is bounced: most small ones. The steps are those of larger ones, without lists of pages.

use smmuv3::{Iova, PhysAddr};

use crate::bounce::{Bounced, Which, copy_in, copy_out};
use crate::config::Reclaim;
use crate::error::{MapError, UnmapError};
use crate::flush::Stamp;
use crate::iova::Block;
use crate::map::NotMapped;
use crate::platform::{Direction, DmaPlatform};
use crate::retired::Item;
use crate::space::DmaSpace;
use crate::span::{PAGE, Span};
use crate::unmap::{Found, is_all};

impl<P: DmaPlatform> DmaSpace<P> {
    /// [`map_or_hold`](Self::map_or_hold) for such a buffer, if this CPU has an address and a page for it. `None`, and
    /// nothing done, if not.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn map_single(
        &self,
        span: &Span,
        direction: Direction,
    ) -> Option<Result<Iova, NotMapped>> {
        let platform = self.platform();
        let taken = self.local().with(platform, |local| {
            let Some(block) = local.take_block_or_released(0, &self.flushes) else {
                return Err(None);
            };
            let Some(page) = local.take_page_or_released(&self.flushes) else {
                // On the way to a page, released blocks may have taken all the room, also the block's own.
                return Err((!local.give_block(block)).then_some(block));
            };
            Ok((block, page))
        });
        let (block, page) = match taken {
            Ok(taken) => taken,
            Err(left) => {
                if let Some(block) = left {
                    self.give_to_all(Some(block), &Bounced::none(), 0);
                }
                return None;
            }
        };
        let copy = platform.pointer(page);
        // SAFETY: the buffer is the caller's, and nobody else has the page.
        unsafe { copy_in(copy, span.part(0), span.start()) };
        if !self.config.coherent {
            platform.clean(copy, PAGE);
        }
        let (iova, attributes) = (self.place.iova(block), self.attributes(direction));
        // SAFETY: the block and the page are this call's.
        match unsafe { self.domain.map(iova, page, PAGE as u64, attributes) } {
            Ok(()) => Some(Ok(Iova(iova.0 + span.offset as u64))),
            Err(error) => {
                let bounced = only(page);
                // Whatever a device reaches, it is not the buffer.
                match error.unconfirmed {
                    None => self.give(block, &bounced),
                    Some(_) => {
                        self.hold_all(block, &bounced);
                    }
                }
                Some(Err((MapError::Domain(error), None)))
            }
        }
    }

    /// [`unmap_or_hold`](Self::unmap_or_hold) for such a buffer. `None`, and nothing done, if it is not mapped, or was lent
    /// for want of pages.
    ///
    /// # Safety
    /// As there; `found` is its mapping.
    pub(crate) unsafe fn unmap_single(
        &self,
        iova: Iova,
        found: &Found,
        direction: Direction,
    ) -> Option<Result<(), (UnmapError, Option<Stamp>)>> {
        let Found { ref span, block, iova: start, .. } = *found;
        let platform = self.platform();
        // SAFETY: the caller's promise.
        let page = unsafe { self.page_at(start, 0) }?;
        if Which::partial(span, &self.config).is_none() {
            let (own, _) = platform.physical(span.start(), span.len())?;
            if own.0 == page.0 + span.offset as u64 {
                return None;
            }
        }
        let bytes = PAGE as u64;
        let waits = !matches!(self.config.reclaim, Reclaim::Strict);
        // SAFETY: the mapping is the caller's. Only a page of the space is behind it, which waits for a flush if it is not strict.
        let unmapped = unsafe {
            match waits {
                true => self.domain.unmap_deferred(start, bytes),
                false => self.domain.unmap(start, bytes),
            }
        };
        if !is_all(&unmapped, bytes) {
            // SAFETY: the caller's promise.
            return Some(unsafe {
                self.not_unmapped(unmapped, iova, found, &only(page), direction)
            });
        }
        if direction.is_written() {
            let copy = platform.pointer(page);
            if !self.config.coherent {
                platform.invalidate(copy, PAGE);
            }
            // SAFETY: the buffer is the caller's, the page the mapping's.
            unsafe { copy_out(copy, span.part(0), span.start()) };
        }
        match waits {
            true => {
                self.put_off(&[Item::Block(block), Item::Page(page)]);
            }
            false => self.give_single(block, page),
        }
        Some(Ok(()))
    }

    /// As [`give`](Self::give), of one page.
    fn give_single(&self, block: Block, page: PhysAddr) {
        let kept = self.local().with(self.platform(), |local| {
            let kept = local.pages.push(page);
            (local.give_block(block), kept)
        });
        if kept != (true, true) {
            let (kept_block, kept_page) = kept;
            self.give_to_all((!kept_block).then_some(block), &only(page), usize::from(kept_page));
        }
    }
}

/// The bounce pages of such a buffer.
fn only(page: PhysAddr) -> Bounced {
    let mut bounced = Bounced::new(Which::All);
    // There is room for one.
    let _ = bounced.pages.push(page);
    bounced
}
