// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the DMA layer needs from the operating system beside what the driver does.

use core::ptr::NonNull;

use smmuv3::{PhysAddr, Platform};

/// A [`Platform`] whose memory devices are lent. Only [`physical`](Self::physical) has no default.
///
/// All methods may be called in interrupt context if the space's are; so may those of [`Frames`](smmuv3::Frames) then.
///
/// # Safety
/// Implementation safety. Besides the contract of [`Platform`]:
/// * the bytes that [`physical`](Self::physical) names are the memory behind the pointer, and nothing else is;
/// * memory of `Frames::allocate` may be read and written by devices, too, not only by table walks;
/// * memory of [`allocate_uncached`](Self::allocate_uncached) meets what is said there.
pub unsafe trait DmaPlatform: Platform {
    /// Where the memory at `start` is: the physical address of that byte, and how many of the `len` bytes from there on
    /// follow it in physical memory, too. At least up to the end of its 4 KiB page or of the `len` bytes, whichever
    /// comes first; a kernel whose map of memory is linear answers all of `len` at once. Offsets in a page stay as they
    /// are.
    ///
    /// `None` for what is not memory that devices may be lent.
    fn physical(&self, start: NonNull<u8>, len: usize) -> Option<(PhysAddr, usize)>;

    /// Writes what the caches of CPUs hold of these bytes back to memory (AArch64: `dc cvac` over the lines, then
    /// `dsb`). Called for spaces whose devices are not coherent only, before a device reads or writes the bytes.
    fn clean(&self, start: NonNull<u8>, len: usize) {
        let _ = (start, len);
    }

    /// Drops what the caches of CPUs hold of these bytes (AArch64: `dc ivac`, or `dc civac`, over the lines, then
    /// `dsb`). Called for spaces whose devices are not coherent only, after a device wrote and before a CPU reads.
    ///
    /// The lines hold nothing but a buffer's bytes and what nobody uses, see
    /// [`DmaConfig::whole_pages`](crate::DmaConfig::whole_pages), and were cleaned when the device got them.
    fn invalidate(&self, start: NonNull<u8>, len: usize) {
        let _ = (start, len);
    }

    /// Memory for [`Coherent`](crate::Coherent) allocations of a space whose devices are not coherent: zeroed, at a
    /// multiple of `align`, and not cached where [`Frames::pointer`](smmuv3::Frames::pointer) shows it.
    ///
    /// There is none unless it is overridden: [`Platform::allocate_coherent`] will do where no SMMU snoops caches, and where
    /// it may be called in interrupt context; elsewhere its memory may be cached.
    fn allocate_uncached(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let _ = (size, align);
        None
    }

    /// Gives back what [`allocate_uncached`](Self::allocate_uncached) returned.
    ///
    /// # Safety
    /// It came from there with this `size` and `align`, and neither a CPU nor a device can reach it any more.
    unsafe fn free_uncached(&self, memory: PhysAddr, size: usize, align: usize) {
        // Nothing came from there.
        let _ = (memory, size, align);
    }
}

/// Who moves data through a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The device reads what the driver wrote. It cannot write.
    ToDevice,
    /// The device writes what the driver will read. It can read, too: stage 1 has no permission to write that is not
    /// also one to read (§16.1). What it could find in the buffer is what the driver left there.
    FromDevice,
    /// Both.
    Both,
}

impl Direction {
    /// Whether the device writes.
    pub(crate) const fn is_written(self) -> bool {
        !matches!(self, Self::ToDevice)
    }
}
