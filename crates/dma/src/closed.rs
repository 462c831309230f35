// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is left of a space that was closed: enough to give back what had been unmapped in it.

use core::fmt;
use core::ptr::NonNull;

use smmuv3::Iommu;

use crate::buffer::{Buffer, Lent};
use crate::config::DmaConfig;
use crate::platform::{Direction, DmaPlatform};
use crate::retiring::Later;
use crate::unmap::forget_lines;

/// A space that is no more: [`DmaSpace::close`](crate::DmaSpace::close) returns it. What was unmapped in it and not given
/// back can be had still, for the space was flushed after that. To be dropped where there is no such buffer.
///
/// Keeps the [`Iommu`] alive, which has the platform.
pub struct Closed<P: DmaPlatform> {
    /// The space's, which no other has: not one made later, either.
    pub(crate) id: u64,
    pub(crate) iommu: Iommu<P>,
    pub(crate) config: DmaConfig,
}

impl<P: DmaPlatform> fmt::Debug for Closed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<P: DmaPlatform> Closed<P> {
    /// The buffer, with all that devices have written to it: [retiring](crate::Retiring), or a [`Lent`] that an instance
    /// had not confirmed ([`UnmapError::Unconfirmed`](crate::UnmapError::Unconfirmed), and of
    /// [`lend`](crate::DmaSpace::lend) [`MapError::Unconfirmed`](crate::MapError::Unconfirmed)).
    ///
    /// May be called in interrupt context. Waits for nothing.
    ///
    /// # Errors
    /// The same again, if it is another space's.
    pub fn recover<B: Buffer>(&self, waiting: impl Into<Lent<B>>) -> Result<B, Lent<B>> {
        let lent = waiting.into();
        let Some(stamp) = lent.waits.filter(|_| lent.space == self.id) else {
            // Of this space there is none that does not wait: with anything mapped, it was not closed.
            return Err(lent);
        };
        // SAFETY: of this space, and over: when that was closed, nobody else had it to unmap anything in it, so that its last
        // flush began after this stamp.
        Ok(unsafe { lent.give_back(self.iommu.platform(), &self.config, stamp) })
    }

    /// Makes `buffer` the caller's again, if it was this space's: whether it was. As
    /// [`DmaSpace::regain`](crate::DmaSpace::regain), for which everything is out of reach now.
    ///
    /// May be called in interrupt context. Waits for nothing.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn regain(&self, later: Later, buffer: NonNull<[u8]>, direction: Direction) -> bool {
        if later.space != self.id {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe {
            forget_lines(self.iommu.platform(), &self.config, later.stamp, buffer, direction);
        }
        true
    }
}
