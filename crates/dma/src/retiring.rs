// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffers that are unmapped without waiting, and given back once a flush has made sure that no device reaches them.

use core::fmt;
use core::ptr::NonNull;

use smmuv3::{Iova, Refused};

use crate::buffer::{Buffer, Lent};
use crate::error::UnmapError;
use crate::flush::Stamp;
use crate::platform::{Direction, DmaPlatform};
use crate::space::DmaSpace;
use crate::unmap::forget_lines;

/// When a buffer is out of reach that was unmapped by [`DmaSpace::unmap_later`]: once a flush is over that began after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "until it has come, devices reach the buffer"]
pub struct Later {
    pub(crate) stamp: Stamp,
    pub(crate) space: u64,
}

/// A buffer that is unmapped, and that devices may still reach. [`DmaSpace::recover`] gives it back once they do not, and
/// [`Closed::recover`](crate::Closed::recover) when the space is no more.
///
/// Plain data, without a reference to the space. Dropped, the buffer is leaked; nothing stays mapped. As a [`Lent`], it can be
/// had at once: [`take_back`](DmaSpace::take_back) flushes for it.
#[must_use = "dropped, the buffer is leaked"]
pub struct Retiring<B>(Lent<B>);

impl<B> Retiring<B> {
    /// When it can be had.
    pub fn later(&self) -> Later {
        // It is made of what waits.
        Later { stamp: self.0.waits.unwrap_or(Stamp::PAST), space: self.0.space }
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a buffer has bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<B> fmt::Debug for Retiring<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retiring").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

impl<B> From<Retiring<B>> for Lent<B> {
    fn from(retiring: Retiring<B>) -> Self {
        retiring.0
    }
}

impl<P: DmaPlatform> DmaSpace<P> {
    /// Unmaps a buffer without waiting: [`unmap_later`](Self::unmap_later), but safe. Devices may go on reading and writing what
    /// was lent of it until a flush that begins from now on is over, so that what it holds is known then:
    /// [`recover`](Self::recover).
    ///
    /// May be called in interrupt context. Waits for a flush if one is due; where the space is
    /// [strict](crate::Reclaim::Strict), for the invalidation.
    ///
    /// # Errors
    /// What is still lent, and why: see [`UnmapError`]; never `Unconfirmed`.
    pub fn retire<B: Buffer>(
        &self,
        mut lent: Lent<B>,
    ) -> Result<Retiring<B>, Refused<Lent<B>, UnmapError>> {
        if lent.space != self.id {
            return Err(Refused { value: lent, error: UnmapError::OtherSpace });
        }
        match self.unmap_lent(&mut lent) {
            Ok(()) => Ok(Retiring(lent)),
            Err(error) => Err(Refused { value: lent, error }),
        }
    }

    /// The buffer, with all that devices have written to it, if no device reaches it any more: see
    /// [`is_out_of_reach`](Self::is_out_of_reach).
    ///
    /// May be called in interrupt context. Waits for nothing.
    ///
    /// # Errors
    /// The same again, if a device may reach it, or if it is another space's.
    pub fn recover<B: Buffer>(&self, retiring: Retiring<B>) -> Result<B, Retiring<B>> {
        let later = retiring.later();
        if !self.is_out_of_reach(&later) {
            return Err(retiring);
        }
        // SAFETY: of this space, as the caller has it only from `retire`, and that is over.
        Ok(unsafe { retiring.0.give_back(self.platform(), &self.config, later.stamp) })
    }

    /// Unmaps `buffer` as [`unmap`](Self::unmap), but waits for nothing, whoever the devices are: until what it returns [has
    /// come](Self::is_out_of_reach), they may go on reading and writing the buffer by what they or SMMUs have kept. For pools of
    /// memory that can spare it for a while.
    ///
    /// What was bounced of the buffer is copied now, and what devices write there from now on is lost; what was lent of it
    /// is final when it is out of reach. Where the space is lazy and the buffer was [copied](crate::Lazy::copy_up_to)
    /// altogether, that is now, as it is where the space is strict, which waits for an invalidation here. Where [whole
    /// pages](crate::DmaConfig::whole_pages) are lent, its neighbours in those are reached as long as it is.
    ///
    /// May be called in interrupt context. Waits for a flush if one is due.
    ///
    /// # Errors
    /// See [`UnmapError`]; never [`Unconfirmed`](UnmapError::Unconfirmed). What an instance does not confirm is out of reach
    /// later, after its reset.
    ///
    /// # Safety
    /// As for `unmap`. And until [`regain`](Self::regain) has returned true, or [`Closed::regain`](crate::Closed::regain), or,
    /// where the space is coherent, `is_out_of_reach` has: the buffer stays memory, and nobody uses it. It may be
    /// [mapped](Self::map) in this space again meanwhile, but however that ends, this has to come as well.
    #[inline]
    pub unsafe fn unmap_later(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<Later, UnmapError> {
        // SAFETY: the caller's promise.
        let stamp = unsafe { self.unmap_or_wait(iova, buffer, direction) }?;
        Ok(Later { stamp, space: self.id })
    }

    /// Whether no device reaches a buffer any more that was unmapped by [`unmap_later`](Self::unmap_later) or
    /// [`retire`](Self::retire): a flush that *began after* that is over, and every instance has confirmed it. Flushes are made
    /// as for addresses that wait, by later unmaps, [`tick`](Self::tick) and [`flush`](Self::flush), which makes it true where it
    /// returns `Ok`; in a strict space, where it is not true at once only if an instance did not confirm the unmap, by `flush` alone. Never true of what is another space's.
    ///
    /// May be called in interrupt context. Waits for nothing.
    #[inline]
    pub fn is_out_of_reach(&self, later: &Later) -> bool {
        later.space == self.id && self.flushes.is_over(later.stamp)
    }

    /// Makes `buffer` the caller's again, if it is [out of reach](Self::is_out_of_reach): whether it is. Where devices are not
    /// coherent, the caches of CPUs drop what they hold of the pages that were lent; elsewhere there is nothing else to do.
    ///
    /// May be called in interrupt context. Waits for nothing.
    ///
    /// # Safety
    /// `later` is what [`unmap_later`](Self::unmap_later) returned for this buffer and this direction, and nobody has used the
    /// buffer since. So this has not returned true for it yet, and it is not mapped again.
    pub unsafe fn regain(&self, later: Later, buffer: NonNull<[u8]>, direction: Direction) -> bool {
        if !self.is_out_of_reach(&later) {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { forget_lines(self.platform(), &self.config, later.stamp, buffer, direction) };
        true
    }

    /// [`unmap_later`](Self::unmap_later), and the stamp that is to be waited for.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn unmap_or_wait(
        &self,
        iova: Iova,
        buffer: NonNull<[u8]>,
        direction: Direction,
    ) -> Result<Stamp, UnmapError> {
        // SAFETY: the caller's promise.
        match unsafe { self.unmap_or_hold(iova, buffer, direction, true) } {
            Ok(stamp) => Ok(stamp),
            // It is unmapped, and was held.
            Err((_, Some(stamp))) => Ok(stamp),
            Err((error, None)) => Err(error),
        }
    }
}
