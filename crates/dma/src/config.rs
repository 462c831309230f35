// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a space is to work.

use core::time::Duration;

use smmuv3::{DomainConfig, Iova};

use crate::error::NewError;
use crate::iova::Place;
use crate::span::{PAGE, PAGE_SHIFT};

/// Pages that a mapping may copy.
pub(crate) const MOST_COPIED: usize = 16;
/// Pages of a mapping that are bounced because a buffer has only a part of them.
const MOST_ENDS: usize = 2;
/// Bits of a window, at least and at most.
const WINDOW_BITS: core::ops::RangeInclusive<u32> = 16..=32;

/// By default, after how long what waits is flushed.
const AGE: Duration = Duration::from_millis(10);

/// Settings of a [`DmaSpace`](crate::DmaSpace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DmaConfig {
    /// Input addresses are below 2 to the power of this: 32 for masters with 32 address lines; up to 48.
    pub limit_bits: u32,
    /// log2 of the bytes of input addresses that buffers are given, 16 to 32. The space's bookkeeping takes 2 bits of
    /// heap a page: 32 KiB for the default of 29.
    pub window_bits: u32,
    /// Where they begin, a multiple of their size; by default as high as the limit allows. Page 0 is never given out.
    pub window: Option<Iova>,
    /// When devices lose what is unmapped, and when it is used again.
    pub reclaim: Reclaim,
    /// Whether devices see what CPUs have in their caches. Where not, caches are cleaned and invalidated by the
    /// platform, and devices get Normal non-cacheable mappings.
    pub coherent: bool,
    /// Lends devices all of the first and the last page of a buffer, with whatever else there is in them. Faster for
    /// buffers that begin or end inside a page, and no protection for their neighbours. By default those two pages
    /// are bounced. Refused for devices that are not coherent.
    pub whole_pages: bool,
    /// Bounce pages that there may be, of 4 KiB each. Memory for each is taken when it is first needed, and kept until
    /// [`DmaSpace::trim`](crate::DmaSpace::trim) or the space is closed.
    pub bounce_pages: usize,
    /// Entries for what an instance did not confirm. What finds them full is lost, and counted.
    pub held: usize,
    /// The domain's sizes.
    pub domain: DomainConfig,
}

/// When devices lose what is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// Before `unmap` returns: one invalidation a buffer.
    Strict,
    /// Small buffers are copied to and from bounce pages, and devices may go on reaching *those* for a while after
    /// `unmap`; bounce pages and input addresses are used again after a flush that serves many. Large buffers are
    /// unmapped strictly. Either way, no device reaches the caller's memory when `unmap` has returned. Those that are
    /// [retired](crate::DmaSpace::retire) wait for such a flush instead, and the caller for them.
    Lazy(Lazy),
    /// Buffers are lent, and nothing is waited for: until a flush, which serves many, devices **may go on reaching the
    /// caller's memory** by the translations that they or SMMUs have kept. Input addresses are used again after that
    /// flush. Only for devices that are trusted, which [`Deferred::trusting`] is about.
    Deferred(Deferred),
}

impl Reclaim {
    /// Entries of a CPU's flush queue, and the age at which they are flushed, where unmaps wait in one.
    pub(crate) const fn bounds(&self) -> Option<(usize, Duration)> {
        match *self {
            Self::Strict => None,
            Self::Lazy(Lazy { queue, age, .. }) | Self::Deferred(Deferred { queue, age }) => {
                Some((queue, age))
            }
        }
    }

    /// Buffers of at most so many bytes are copied altogether.
    pub(crate) const fn copied(&self) -> usize {
        match self {
            Self::Lazy(bounds) => bounds.copy_up_to,
            Self::Strict | Self::Deferred(_) => 0,
        }
    }

    /// Whether the caller's own pages wait for a flush as well.
    #[inline]
    pub(crate) const fn is_deferred(&self) -> bool {
        matches!(self, Self::Deferred(_))
    }
}

/// The bounds of lazy unmapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lazy {
    /// Buffers of at most so many bytes are copied; 64 KiB and 16 pages at most. On a single CPU, a copy there and back is
    /// worth its while only where it takes less time than an SMMU does to answer. With 0 nothing is copied but partial pages:
    /// for buffers that are [retired](crate::DmaSpace::retire).
    pub copy_up_to: usize,
    /// Entries of each CPU's flush queue: one a mapping and one a bounce page.
    pub queue: usize,
    /// After how long the next unmap on that CPU flushes, whether the queue is full or not; or the next
    /// [`DmaSpace::tick`](crate::DmaSpace::tick).
    pub age: Duration,
}

/// Copies up to 16 KiB; 256 entries a CPU; 10 ms.
impl Default for Lazy {
    fn default() -> Self {
        Self { copy_up_to: 4 * PAGE, queue: 256, age: AGE }
    }
}

impl Lazy {
    /// Copies buffers of at most `bytes`.
    #[must_use]
    pub const fn with_copy_up_to(mut self, bytes: usize) -> Self {
        self.copy_up_to = bytes;
        self
    }

    /// With flush queues of `entries`.
    #[must_use]
    pub const fn with_queue(mut self, entries: usize) -> Self {
        self.queue = entries;
        self
    }

    /// Flushes what has waited for `age`.
    #[must_use]
    pub const fn with_age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }
}

/// The bounds of deferred unmapping. That there is a value is a promise: see [`Deferred::trusting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deferred {
    /// Entries of each CPU's flush queue: one a mapping and one a bounce page, of which there are two at most.
    pub queue: usize,
    /// After how long the next unmap on that CPU flushes, whether the queue is full or not; or the next
    /// [`DmaSpace::tick`](crate::DmaSpace::tick).
    pub age: Duration,
}

impl Deferred {
    /// 256 entries a CPU; 10 ms.
    ///
    /// # Safety
    /// Of every space that is made with this value or a copy of it, and of every master that is ever attached to one:
    /// once [`unmap`](crate::DmaSpace::unmap) or [`take_back`](crate::DmaSpace::take_back) is called for a buffer, the
    /// device has finished with it, as far as its writes have reached memory, and it does not access the buffer's input
    /// addresses until they are returned by another [`map`](crate::DmaSpace::map) or [`lend`](crate::DmaSpace::lend).
    /// So the device, its firmware and its driver keep to what they were told, and drivers take nothing back before they
    /// know that the device is done; who lets others attach masters, or take buffers back, answers for them, too.
    ///
    /// What a device does otherwise, up to a flush, is done to memory that is in use for something else. What was
    /// *not* in the buffer, such as its neighbours in a page, is out of reach all the same, and so is everything after the flush.
    #[must_use]
    pub const unsafe fn trusting() -> Self {
        Self { queue: 256, age: AGE }
    }

    /// With flush queues of `entries`.
    #[must_use]
    pub const fn with_queue(mut self, entries: usize) -> Self {
        self.queue = entries;
        self
    }

    /// Flushes what has waited for `age`.
    #[must_use]
    pub const fn with_age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }
}

/// 512 MiB of input addresses that end at 4 GiB, strict, coherent, partial pages bounced, 1,024 bounce pages at most.
impl Default for DmaConfig {
    fn default() -> Self {
        Self {
            limit_bits: 32,
            window_bits: 29,
            window: None,
            reclaim: Reclaim::Strict,
            coherent: true,
            whole_pages: false,
            bounce_pages: 1024,
            held: 256,
            domain: DomainConfig::default(),
        }
    }
}

impl DmaConfig {
    /// Strict, as [`DmaConfig::default`].
    pub fn strict() -> Self {
        Self::default()
    }

    /// Lazy, with the bounds of [`Lazy::default`].
    pub fn lazy() -> Self {
        Self::default().with_reclaim(Reclaim::Lazy(Lazy::default()))
    }

    /// Deferred, with the bounds of [`Deferred::trusting`].
    ///
    /// # Safety
    /// As for [`Deferred::trusting`]: devices leave buffers alone that were taken back.
    pub unsafe fn deferred() -> Self {
        // SAFETY: the caller's promise.
        Self::default().with_reclaim(Reclaim::Deferred(unsafe { Deferred::trusting() }))
    }

    /// With input addresses of `bits` bits: at least those of the window, 48 at most.
    #[must_use]
    pub const fn with_limit_bits(mut self, bits: u32) -> Self {
        self.limit_bits = bits;
        self
    }

    /// With 2^`bits` bytes of input addresses from `start` on.
    #[must_use]
    pub const fn with_window(mut self, start: Iova, bits: u32) -> Self {
        self.window = Some(start);
        self.window_bits = bits;
        self
    }

    /// With this way of unmapping.
    #[must_use]
    pub const fn with_reclaim(mut self, reclaim: Reclaim) -> Self {
        self.reclaim = reclaim;
        self
    }

    /// For devices that are coherent, or are not.
    #[must_use]
    pub const fn with_coherent(mut self, coherent: bool) -> Self {
        self.coherent = coherent;
        self
    }

    /// Lends whole pages: see [`DmaConfig::whole_pages`].
    #[must_use]
    pub const fn with_whole_pages(mut self, whole_pages: bool) -> Self {
        self.whole_pages = whole_pages;
        self
    }

    /// With at most so many bounce pages, of 4 KiB each.
    #[must_use]
    pub const fn with_bounce_pages(mut self, pages: usize) -> Self {
        self.bounce_pages = pages;
        self
    }

    /// With a domain of these sizes.
    #[must_use]
    pub const fn with_domain(mut self, domain: DomainConfig) -> Self {
        self.domain = domain;
        self
    }

    /// Where the window is, if all settings make sense.
    pub(crate) fn check(&self) -> Result<Place, NewError> {
        if self.whole_pages && !self.coherent {
            return Err(NewError::WholePages);
        }
        if let Reclaim::Lazy(Lazy { copy_up_to: bytes, .. }) = self.reclaim {
            let most = MOST_COPIED * PAGE;
            if bytes > most {
                return Err(NewError::CopyUpTo { bytes, most });
            }
        }
        if let Some((entries, _)) = self.reclaim.bounds() {
            // Addresses, and the bounce pages that one mapping can have.
            let least = 1 + if self.reclaim.is_deferred() { MOST_ENDS } else { MOST_COPIED };
            if entries < least {
                return Err(NewError::Queue { entries, least });
            }
        }
        let (bits, limit_bits) = (self.window_bits, self.limit_bits);
        let wrong = |start| NewError::Window { start, bits, limit_bits };
        if !WINDOW_BITS.contains(&bits) || !(bits..=48).contains(&limit_bits) {
            return Err(wrong(self.window.unwrap_or(Iova(0))));
        }
        let (size, limit) = (1u64 << bits, 1u64 << limit_bits);
        let start = self.window.unwrap_or(Iova(limit - size));
        if start.0 & (size - 1) != 0 || start.0 > limit - size {
            return Err(wrong(start));
        }
        // At most 20.
        Ok(Place { start: start.0, order: (bits - PAGE_SHIFT) as u8 })
    }
}
