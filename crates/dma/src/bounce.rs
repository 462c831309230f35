// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bounce pages: pages of the space's own that stand in for pages of which a buffer has only a part, or that are not to
//! be lent at all. Beside the buffer's bytes they hold zeros.

use alloc::vec::Vec;
use core::ptr::NonNull;

use smmuv3::{NoMemory, PhysAddr};

use crate::config::{DmaConfig, MOST_COPIED};
use crate::local::Stack;
use crate::platform::DmaPlatform;
use crate::span::{PAGE, Part, Span};
use crate::spin::SpinLock;
use crate::sync::{AtomicUsize, Ordering};

/// All bounce pages of a space that no CPU has for itself.
pub(crate) struct Pool {
    spare: SpinLock<Vec<PhysAddr>>,
    /// Pages that were allocated and not freed.
    allocated: AtomicUsize,
    most: usize,
}

impl Pool {
    /// For at most `most` pages. None is allocated yet.
    pub(crate) fn new(most: usize) -> Result<Self, NoMemory> {
        let mut spare = Vec::new();
        spare.try_reserve_exact(most).map_err(|_| NoMemory)?;
        Ok(Self { spare: SpinLock::new(spare), allocated: AtomicUsize::new(0), most })
    }

    /// Pages that there are, in use or not.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Up to `count` spare pages, each to `give`; how many.
    pub(crate) fn take<P: DmaPlatform>(
        &self,
        platform: &P,
        count: usize,
        mut give: impl FnMut(PhysAddr),
    ) -> usize {
        self.spare.with(platform, |spare| {
            let from = spare.len().saturating_sub(count);
            let taken = spare.len() - from;
            spare.drain(from..).for_each(&mut give);
            taken
        })
    }

    /// A page from the platform, if there may be one more.
    pub(crate) fn allocate<P: DmaPlatform>(&self, platform: &P) -> Option<PhysAddr> {
        // Relaxed: a bound, which orders nothing.
        let more = |pages: usize| (pages < self.most).then_some(pages + 1);
        self.allocated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let page = platform.allocate(PAGE, PAGE);
        if page.is_none() {
            self.allocated.fetch_sub(1, Ordering::Relaxed);
        }
        page
    }

    /// Takes pages that no device can reach.
    pub(crate) fn give<P: DmaPlatform>(&self, platform: &P, pages: impl Iterator<Item = PhysAddr>) {
        // Room for every page that there may be was reserved.
        self.spare.with(platform, |spare| pages.for_each(|page| spare.push(page)));
    }

    /// Frees spare pages; how many.
    pub(crate) fn trim<P: DmaPlatform>(&self, platform: &P) -> usize {
        let mut freed = 0;
        while let Some(page) = self.spare.with(platform, Vec::pop) {
            // SAFETY: it came from `allocate`, and spare pages are reached by nobody.
            unsafe { platform.free(page, PAGE, PAGE) };
            self.allocated.fetch_sub(1, Ordering::Relaxed);
            freed += 1;
        }
        freed
    }
}

/// Bounce pages for one mapping.
pub(crate) type Pages = Stack<PhysAddr, MOST_COPIED>;

/// The bounce pages of one mapping: of all its pages, or of the first and the last, or one of them, or none.
pub(crate) struct Bounced {
    pub(crate) pages: Pages,
    pub(crate) which: Which,
}

/// For which pages of a buffer.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    All,
    Ends {
        first: bool,
        /// The index of the last page, if that is another one and is bounced.
        last: Option<usize>,
    },
}

impl Which {
    /// None of them.
    pub(crate) const NONE: Self = Self::Ends { first: false, last: None };

    /// Those of a buffer that are bounced in any case.
    #[inline]
    pub(crate) fn partial(span: &Span, config: &DmaConfig) -> Self {
        let last = span.pages - 1;
        let bounces = !config.whole_pages;
        Self::Ends {
            first: bounces && span.is_first_partial(),
            last: (bounces && last > 0 && span.is_last_partial()).then_some(last),
        }
    }

    /// Whether it is none.
    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        matches!(self, Self::Ends { first: false, last: None })
    }

    /// How many, of a buffer of `pages`.
    #[inline]
    pub(crate) fn count(self, pages: usize) -> usize {
        match self {
            Self::All => pages,
            Self::Ends { first, last } => usize::from(first) + usize::from(last.is_some()),
        }
    }

    /// The page that the `nth` stands in for.
    pub(crate) fn index(self, nth: usize) -> usize {
        match self {
            Self::All => nth,
            Self::Ends { first: true, .. } if nth == 0 => 0,
            Self::Ends { last, .. } => last.unwrap_or(0),
        }
    }
}

impl Bounced {
    #[inline]
    pub(crate) const fn new(which: Which) -> Self {
        Self { pages: Pages::new(), which }
    }

    /// None.
    pub(crate) const fn none() -> Self {
        Self::new(Which::NONE)
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.pages.len()
    }

    /// Each with the index of the page that it stands in for.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, PhysAddr)> + '_ {
        let pages = self.pages.as_slice().iter().enumerate();
        pages.map(|(nth, page)| (self.which.index(nth), *page))
    }

    /// The page that stands in for page `index`.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<PhysAddr> {
        match self.which {
            Which::All => self.pages.as_slice().get(index).copied(),
            Which::Ends { first: true, .. } if index == 0 => self.pages.as_slice().first().copied(),
            Which::Ends { last: Some(last), .. } if index == last => {
                self.pages.as_slice().last().copied()
            }
            Which::Ends { .. } => None,
        }
    }
}

/// Fills a bounce page with a part of a buffer, and zeros.
///
/// # Safety
/// The part is memory at `buffer`; the page is one of the space's, and no device can reach it.
pub(crate) unsafe fn copy_in(page: NonNull<u8>, part: Part, buffer: NonNull<u8>) {
    // SAFETY: a part lies within its page, and the caller has the page and the buffer.
    unsafe {
        if part.in_page != 0 {
            page.write_bytes(0, part.in_page);
        }
        page.add(part.in_page).copy_from_nonoverlapping(buffer, part.len);
        let end = part.in_page + part.len;
        if end != PAGE {
            page.add(end).write_bytes(0, PAGE - end);
        }
    }
}

/// Copies a part of a buffer into a bounce page that has been filled before, and leaves the rest of it.
///
/// # Safety
/// As for [`copy_in`]; a device may be using the page.
pub(crate) unsafe fn copy_again(page: NonNull<u8>, part: Part, buffer: NonNull<u8>) {
    // SAFETY: as in `copy_in`. What a device reads meanwhile is old or new bytes.
    unsafe { page.add(part.in_page).copy_from_nonoverlapping(buffer, part.len) };
}

/// Copies a part of a buffer out of its bounce page.
///
/// # Safety
/// As for [`copy_again`].
pub(crate) unsafe fn copy_out(page: NonNull<u8>, part: Part, buffer: NonNull<u8>) {
    // SAFETY: as in `copy_in`. The page is never seen by a Rust reference; what a device that still writes to it makes
    // the copy is the device's own data.
    unsafe { buffer.copy_from_nonoverlapping(page.add(part.in_page), part.len) };
}
