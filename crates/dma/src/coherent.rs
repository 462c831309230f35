// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that driver and device use at the same time: rings, descriptors.

use core::ptr::NonNull;

use smmuv3::{Iova, PhysAddr, Refused, UnmapError as DomainError};

use crate::config::Reclaim;
use crate::error::{BufferError, MapError, UnmapError};
use crate::iova::Block;
use crate::platform::{Direction, DmaPlatform};
use crate::retired::Item;
use crate::space::DmaSpace;
use crate::span::{PAGE, PAGE_SHIFT};

/// Memory that the driver and the devices of a space see alike, without anybody synchronising it. Whole pages, zeroed
/// when it was allocated, contiguous for both. [`DmaSpace::free`] gives it back.
///
/// Plain data, without a reference to the space. Dropped, the memory is leaked and stays mapped.
#[derive(Debug)]
#[must_use = "dropped, the memory is leaked and stays mapped"]
pub struct Coherent {
    pub(crate) iova: Iova,
    pub(crate) pointer: NonNull<u8>,
    pub(crate) pa: PhysAddr,
    pub(crate) pages: u32,
    pub(crate) space: u64,
}

// SAFETY: it owns the memory, and gives out no more than pointers to it.
unsafe impl Send for Coherent {}
// SAFETY: as above.
unsafe impl Sync for Coherent {}

impl Coherent {
    /// The input address of its first byte.
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Its first byte, for the driver. Valid until the memory is freed, for volatile or atomic accesses: devices read
    /// and write it.
    pub fn pointer(&self) -> NonNull<u8> {
        self.pointer
    }

    /// The allocation of `space` at `iova`.
    ///
    /// # Safety
    /// There is one of that many pages, which nobody else frees; `pointer` is its pointer.
    #[cfg(feature = "virtio-drivers")]
    pub(crate) unsafe fn of<P: DmaPlatform>(
        space: &DmaSpace<P>,
        iova: Iova,
        pointer: NonNull<u8>,
        pages: usize,
    ) -> Option<Self> {
        // SAFETY: the caller's promise: nobody unmaps it meanwhile.
        let pa = unsafe { space.domain.lookup(iova) }?.pa;
        Some(Self { iova, pointer, pa, pages: u32::try_from(pages).ok()?, space: space.id })
    }

    /// Its bytes, a multiple of 4096.
    pub fn len(&self) -> usize {
        self.pages as usize * PAGE
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }
}

impl<P: DmaPlatform> DmaSpace<P> {
    /// Allocates `len` bytes, rounded up to pages, that driver and devices use at the same time: zeroed, and mapped.
    /// Devices can read all of it, and write to it unless `direction` is [`ToDevice`](Direction::ToDevice).
    ///
    /// May be called in interrupt context if the platform's allocator may.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn allocate(&self, len: usize, direction: Direction) -> Result<Coherent, MapError> {
        let pages = len.div_ceil(PAGE);
        if pages == 0 {
            return Err(MapError::Buffer(BufferError::Empty));
        }
        let order = pages.checked_next_power_of_two().map_or(u32::MAX, usize::trailing_zeros);
        let too_long = MapError::NoIova { pages: pages as u64 };
        if order > u32::from(self.place.order) {
            return Err(too_long);
        }
        // A window has at most 2^20 pages.
        let (order, size) = (order as u8, pages * PAGE);
        let platform = self.platform();
        let memory = match self.config.coherent {
            true => platform.allocate(size, PAGE),
            false => platform.allocate_uncached(size, PAGE),
        };
        let pa = memory.ok_or(MapError::NoMemory { size })?;
        let Some(block) = self.take_block(order) else {
            // SAFETY: it was just allocated.
            unsafe { self.free_memory(pa, size) };
            return Err(too_long);
        };
        let iova = self.place.iova(block);
        let items = [Item::Block(block), Item::Memory { pa, pages: pages as u32 }];
        let attributes = self.attributes(direction);
        // SAFETY: the block and the memory are this call's.
        match unsafe { self.domain.map(iova, pa, size as u64, attributes) } {
            Ok(()) => {
                let pointer = platform.pointer(pa);
                Ok(Coherent { iova, pointer, pa, pages: pages as u32, space: self.id })
            }
            Err(error) => {
                match error.unconfirmed {
                    None => self.release(&items),
                    Some(_) => {
                        self.hold(&items);
                    }
                }
                Err(MapError::Domain(error))
            }
        }
    }

    /// Frees what was allocated: at once where the space is strict, after a flush where it is lazy or deferred. What an instance
    /// does not confirm is freed after a later flush. What somebody has unmapped by hand is lost, and
    /// [counted](crate::Usage::lost_pages).
    ///
    /// May be called in interrupt context if the platform's allocator may.
    ///
    /// # Errors
    /// The memory, with [`UnmapError::OtherSpace`], when it belongs to another space.
    pub fn free(&self, memory: Coherent) -> Result<(), Refused<Coherent, UnmapError>> {
        if memory.space != self.id {
            return Err(Refused { value: memory, error: UnmapError::OtherSpace });
        }
        let Coherent { iova, pa, pages, .. } = memory;
        // At most 32.
        let order = pages.next_power_of_two().trailing_zeros() as u8;
        let Some(block) = self.place.block(iova, order) else { return Ok(()) };
        let items = [Item::Block(block), Item::Memory { pa, pages }];
        let len = u64::from(pages) << PAGE_SHIFT;
        match self.config.reclaim {
            Reclaim::Lazy(_) | Reclaim::Deferred(_) => {
                // SAFETY: the handle is gone. The memory waits for a flush.
                if unsafe { self.domain.unmap_deferred(iova, len) } == Ok(len) {
                    self.put_off(&items);
                } else {
                    self.lose(block, pages as usize);
                }
            }
            // SAFETY: the handle is gone.
            Reclaim::Strict => match unsafe { self.domain.unmap(iova, len) } {
                Ok(bytes) if bytes == len => {
                    self.free_quiet(block, pa, len as usize);
                }
                Err(DomainError::Unconfirmed(_)) => {
                    self.hold(&items);
                }
                _ => self.lose(block, pages as usize),
            },
        }
        Ok(())
    }

    fn free_quiet(&self, block: Block, pa: PhysAddr, size: usize) {
        self.give_block(block);
        // SAFETY: it was unmapped, which every instance has confirmed, and its handle is gone.
        unsafe { self.free_memory(pa, size) };
    }

    /// Gives coherent memory back to the platform.
    ///
    /// # Safety
    /// It came from there with this size, and neither a CPU nor a device can reach it.
    pub(crate) unsafe fn free_memory(&self, pa: PhysAddr, size: usize) {
        let platform = self.platform();
        // SAFETY: the caller's promise, for both.
        unsafe {
            match self.config.coherent {
                true => platform.free(pa, size, PAGE),
                false => platform.free_uncached(pa, size, PAGE),
            }
        }
    }
}
