// SPDX-License-Identifier: MIT OR Apache-2.0
//! The safe way: a buffer is given away, and taken back.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use smmuv3::{Iova, Refused};

use crate::config::DmaConfig;
use crate::error::{MapError, UnmapError};
use crate::flush::Stamp;
use crate::platform::{Direction, DmaPlatform};
use crate::space::DmaSpace;
use crate::unmap::forget_lines;

/// Something that owns memory, which can be lent to devices.
///
/// # Safety
/// Implementation safety: [`memory`](Self::memory) gives the same bytes on every call until the value is dropped or
/// used otherwise, also when the value has been moved. They are initialised, and may be read and written by whoever has
/// the value, whatever bytes they then hold; nobody else uses them.
pub unsafe trait Buffer {
    /// The memory.
    fn memory(&mut self) -> NonNull<[u8]>;
}

// SAFETY: a box owns its bytes, which stay in place.
unsafe impl Buffer for Box<[u8]> {
    fn memory(&mut self) -> NonNull<[u8]> {
        NonNull::from(&mut **self)
    }
}

// SAFETY: as for a box; its length and place do not change while nobody uses it.
unsafe impl Buffer for Vec<u8> {
    fn memory(&mut self) -> NonNull<[u8]> {
        NonNull::from(&mut **self)
    }
}

// SAFETY: a unique reference for ever.
unsafe impl Buffer for &'static mut [u8] {
    fn memory(&mut self) -> NonNull<[u8]> {
        NonNull::from(&mut **self)
    }
}

/// A buffer that devices have. [`DmaSpace::take_back`] gives it back.
///
/// Plain data, without a reference to the space. Dropped, it stays lent: the buffer is leaked and stays mapped, and
/// [`Usage::mapped_pages`](crate::Usage::mapped_pages) counts it.
#[must_use = "dropped, the buffer is leaked and stays mapped"]
pub struct Lent<B> {
    /// Not used while devices have it, and a type whose references the compiler makes nothing of.
    buffer: MaybeUninit<B>,
    iova: Iova,
    len: usize,
    direction: Direction,
    pub(crate) space: u64,
    /// It is unmapped, and waits for a flush: an instance did not confirm it, or it is [retiring](crate::Retiring).
    pub(crate) waits: Option<Stamp>,
}

impl<B> Lent<B> {
    /// The input address of its first byte.
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a buffer has bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What devices may do with it.
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

impl<B: Buffer> Lent<B> {
    /// The buffer, with what devices have written to it.
    ///
    /// # Safety
    /// It waited for `stamp`, and that is over, in its space, whose the platform and the settings are.
    pub(crate) unsafe fn give_back<P: DmaPlatform>(
        mut self,
        platform: &P,
        config: &DmaConfig,
        stamp: Stamp,
    ) -> B {
        // SAFETY: written in `lend`.
        let memory = unsafe { self.buffer.assume_init_mut() }.memory();
        // SAFETY: it is the buffer that was lent, which is put away here.
        unsafe { forget_lines(platform, config, stamp, memory, self.direction) };
        // SAFETY: written in `lend`, and given out only here and in `take_back`, where the handle ends.
        unsafe { self.buffer.assume_init_read() }
    }
}

impl<B> fmt::Debug for Lent<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent")
            .field("iova", &self.iova)
            .field("len", &self.len)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}

impl<P: DmaPlatform> DmaSpace<P> {
    /// Gives `buffer` to the devices of the space: [`map`](Self::map), but safe.
    ///
    /// # Errors
    /// The buffer, and why not: see [`MapError`]. If that is `Unconfirmed`, a device may still reach the buffer, so that it
    /// is lent all the same, to be [taken back](Self::take_back) after the instance was reset.
    #[expect(clippy::type_complexity, reason = "either of two, and why")]
    pub fn lend<B: Buffer>(
        &self,
        buffer: B,
        direction: Direction,
    ) -> Result<Lent<B>, Refused<Result<B, Lent<B>>, MapError>> {
        // From here on: should the platform panic, devices may have some of it.
        let mut buffer = MaybeUninit::new(buffer);
        // SAFETY: just written.
        let memory = unsafe { buffer.assume_init_mut() }.memory();
        let lent = |buffer, iova, waits| Lent {
            buffer,
            iova,
            len: memory.len(),
            direction,
            space: self.id,
            waits,
        };
        // SAFETY: the buffer's owner is put away until it was taken back, and the memory stays where it is.
        let (error, waits) = match unsafe { self.map_or_hold(memory, direction) } {
            Ok(iova) => return Ok(lent(buffer, iova, None)),
            Err(refused) => refused,
        };
        let value = match waits {
            // SAFETY: written above, and given out only here.
            None => Ok(unsafe { buffer.assume_init() }),
            Some((iova, stamp)) => Err(lent(buffer, iova, Some(stamp))),
        };
        Err(Refused { value, error })
    }

    /// Takes a buffer back: [`unmap`](Self::unmap), but safe. It holds what devices wrote. Where the space is
    /// [deferred](crate::Reclaim::Deferred), whoever made it so has promised that devices have finished with the buffer by now.
    /// One that was [retiring](crate::Retiring) is flushed for, wherever it is.
    ///
    /// # Errors
    /// What is still lent, and why: see [`UnmapError`]. If that is `Unconfirmed`, to be tried again after the instance
    /// was reset; it flushes then.
    pub fn take_back<B: Buffer>(
        &self,
        mut lent: Lent<B>,
    ) -> Result<B, Refused<Lent<B>, UnmapError>> {
        if lent.space != self.id {
            return Err(Refused { value: lent, error: UnmapError::OtherSpace });
        }
        if let Some(stamp) = lent.waits {
            if !self.flushes.is_over(stamp)
                && let Err(unconfirmed) = self.flush()
            {
                let error = UnmapError::Unconfirmed(unconfirmed);
                return Err(Refused { value: lent, error });
            }
            // SAFETY: of this space, and no device reaches it any more.
            return Ok(unsafe { lent.give_back(self.platform(), &self.config, stamp) });
        }
        // SAFETY: written in `lend`.
        let memory = unsafe { lent.buffer.assume_init_mut() }.memory();
        // SAFETY: it is the mapping of this buffer, which is put away in `lent`.
        match unsafe { self.unmap_or_hold(lent.iova, memory, lent.direction, false) } {
            // SAFETY: written in `lend`, and given out only here and in `give_back`, where `lent` ends.
            Ok(_) => Ok(unsafe { lent.buffer.assume_init_read() }),
            Err((error, stamp)) => {
                lent.waits = stamp;
                Err(Refused { value: lent, error })
            }
        }
    }

    /// Unmaps a buffer of this space, but does not wait: it is the caller's once its stamp is over. Nothing if it waits
    /// already.
    pub(crate) fn unmap_lent<B: Buffer>(&self, lent: &mut Lent<B>) -> Result<(), UnmapError> {
        if lent.waits.is_some() {
            return Ok(());
        }
        // SAFETY: written in `lend`.
        let memory = unsafe { lent.buffer.assume_init_mut() }.memory();
        // SAFETY: it is the mapping of this buffer, which is put away in `lent` until its stamp is over.
        lent.waits = Some(unsafe { self.unmap_or_wait(lent.iova, memory, lent.direction) }?);
        Ok(())
    }

    /// Copies what devices have written so far, from the byte at `offset` on, into `target`.
    ///
    /// # Errors
    /// As from [`sync_for_cpu`](Self::sync_for_cpu); [`NotMapped`](UnmapError::NotMapped) also when it has not so many
    /// bytes.
    pub fn read<B: Buffer>(
        &self,
        lent: &mut Lent<B>,
        offset: usize,
        target: &mut [u8],
    ) -> Result<(), UnmapError> {
        let memory = self.memory_of(lent, offset, target.len())?;
        // SAFETY: `lent` is borrowed, and a mapping of this space.
        unsafe { self.sync_for_cpu(lent.iova, memory, lent.direction) }?;
        // SAFETY: the bytes lie within the buffer, which nobody has a reference to. What a device writes meanwhile is
        // copied or not.
        unsafe {
            let from = memory.cast::<u8>().add(offset);
            NonNull::from(&mut *target).cast().copy_from_nonoverlapping(from, target.len());
        }
        Ok(())
    }

    /// Copies `source` to the buffer, from the byte at `offset` on, where devices find it. What they write to the
    /// buffer while this runs may be lost.
    ///
    /// # Errors
    /// As from [`read`](Self::read).
    pub fn write<B: Buffer>(
        &self,
        lent: &mut Lent<B>,
        offset: usize,
        source: &[u8],
    ) -> Result<(), UnmapError> {
        let memory = self.memory_of(lent, offset, source.len())?;
        // What devices have written beside it stays.
        // SAFETY: as in `read`.
        unsafe {
            self.sync_for_cpu(lent.iova, memory, lent.direction)?;
            let to = memory.cast::<u8>().add(offset);
            to.copy_from_nonoverlapping(NonNull::from(source).cast(), source.len());
            self.sync_for_device(lent.iova, memory, lent.direction)
        }
    }

    /// The buffer behind a mapping of this space, if it has `len` bytes from `offset` on.
    fn memory_of<B: Buffer>(
        &self,
        lent: &mut Lent<B>,
        offset: usize,
        len: usize,
    ) -> Result<NonNull<[u8]>, UnmapError> {
        if lent.space != self.id {
            return Err(UnmapError::OtherSpace);
        }
        if lent.waits.is_some() || offset.checked_add(len).is_none_or(|end| end > lent.len) {
            return Err(UnmapError::NotMapped { iova: lent.iova });
        }
        // SAFETY: written in `lend`.
        Ok(unsafe { lent.buffer.assume_init_mut() }.memory())
    }
}
