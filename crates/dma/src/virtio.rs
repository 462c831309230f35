// SPDX-License-Identifier: MIT OR Apache-2.0
//! `virtio_drivers::Hal` over a space.
//!
//! `Hal` is static, and `share` and `unshare` cannot fail. So the space is a static of the kernel's; a buffer that
//! could not be mapped is said to be [`NOWHERE`], and what went wrong is told to [`VirtioSpace::failed`].

use core::marker::PhantomData;
use core::ptr::NonNull;

use smmuv3::{Iova, PhysAddr};
use virtio_drivers::{BufferDirection, Hal};

use crate::coherent::Coherent;
use crate::error::{MapError, UnmapError};
use crate::platform::{Direction, DmaPlatform};
use crate::space::DmaSpace;
use crate::span::PAGE;

/// Where a buffer is said to be that could not be mapped. No input address is so wide, so whatever a device does there
/// faults (F_TRANSLATION), however long the buffer is; its low 32 bits are 0, where nothing is mapped by default
/// either. The request fails or never ends, and no memory is touched.
pub const NOWHERE: Iova = Iova(1 << 54);

/// What `Hal` has no way to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioFailure {
    /// A buffer was not mapped; the device was told [`NOWHERE`]. If that is [`MapError::Unconfirmed`], it may reach a part
    /// of the buffer all the same, as below.
    Share(MapError),
    /// A buffer was not unmapped with certainty. If that is [`UnmapError::Unconfirmed`], the device may still reach
    /// the buffer, which the driver is about to use again: the SMMU has to be reset, or the kernel to stop. It does not
    /// happen to buffers that a lazy space [copies](crate::Lazy::copy_up_to), or that fit in two pages and fill
    /// neither.
    Unshare(UnmapError),
    /// No memory for a queue was mapped; the driver gets `Error::DmaError`.
    Allocate(MapError),
}

/// Where the buffers of virtio drivers are mapped.
///
/// # Safety
/// Implementation safety: [`mmio`](Self::mmio) does what `Hal::mmio_phys_to_virt` asks for.
pub unsafe trait VirtioSpace {
    /// The platform of the space.
    type Platform: DmaPlatform + 'static;

    /// The space that the devices are attached to: always the same.
    fn space() -> &'static DmaSpace<Self::Platform>;

    /// The CPU's pointer to registers of a device: `size` bytes at `pa`.
    ///
    /// # Safety
    /// They are a device's registers.
    unsafe fn mmio(pa: PhysAddr, size: usize) -> NonNull<u8>;

    /// Something failed that the driver is not told. Called in the context of the driver; does nothing unless
    /// overridden.
    fn failed(failure: VirtioFailure) {
        let _ = failure;
    }
}

/// A `virtio_drivers::Hal` that maps everything in the space of `T`, and nothing else is reached by the devices.
///
/// The ten lines that a kernel adds to its `DmaPlatform`, here called `Kernel`:
///
/// ```
/// # mod kernel {
/// #     use core::ptr::NonNull;
/// #     use smmuv3::{Frames, Mmio, PhysAddr, Platform, RawMutex};
/// #     pub struct Kernel;
/// #     unsafe impl Frames for Kernel {
/// #         fn allocate(&self, _: usize, _: usize) -> Option<PhysAddr> { None }
/// #         unsafe fn free(&self, _: PhysAddr, _: usize, _: usize) {}
/// #         fn pointer(&self, _: PhysAddr) -> NonNull<u8> { todo!() }
/// #         fn publish(&self, _: PhysAddr, _: usize) {}
/// #     }
/// #     unsafe impl Platform for Kernel {
/// #         type Mmio = Registers;
/// #         type Mutex = Lock;
/// #         fn allocate_coherent(&self, _: usize, _: usize) -> Option<PhysAddr> { None }
/// #         unsafe fn free_coherent(&self, _: PhysAddr, _: usize, _: usize) {}
/// #         fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R { critical() }
/// #         fn relax(&self) {}
/// #         fn now(&self) -> u64 { 0 }
/// #     }
/// #     unsafe impl smmuv3_dma::DmaPlatform for Kernel {
/// #         fn physical(&self, _: NonNull<u8>, _: usize) -> Option<(PhysAddr, usize)> { None }
/// #     }
/// #     pub struct Registers;
/// #     impl Mmio for Registers {
/// #         fn read32(&self, _: u32) -> u32 { 0 }
/// #         fn write32(&self, _: u32, _: u32) {}
/// #     }
/// #     pub struct Lock;
/// #     unsafe impl RawMutex for Lock {
/// #         fn new() -> Self { Self }
/// #         fn lock(&self) {}
/// #         unsafe fn unlock(&self) {}
/// #     }
/// #     pub fn map_device(_: PhysAddr, _: usize) -> NonNull<u8> { NonNull::dangling() }
/// # }
/// # use core::ptr::NonNull;
/// # use std::sync::OnceLock;
/// # use kernel::{Kernel, map_device};
/// # use smmuv3::PhysAddr;
/// # use smmuv3_dma::{DmaSpace, VirtioHal, VirtioSpace};
/// # use virtio_drivers::{Error, device::blk::VirtIOBlk, transport::Transport};
/// static SPACE: OnceLock<DmaSpace<Kernel>> = OnceLock::new(); // set at boot; the disk's master is attached to it
///
/// struct Virtio;
///
/// // SAFETY: `map_device` maps registers as Device memory, where nothing else is.
/// unsafe impl VirtioSpace for Virtio {
///     type Platform = Kernel;
///     fn space() -> &'static DmaSpace<Kernel> {
///         SPACE.get().expect("set at boot")
///     }
///     unsafe fn mmio(pa: PhysAddr, size: usize) -> NonNull<u8> {
///         map_device(pa, size)
///     }
/// }
///
/// fn disk<T: Transport>(transport: T) -> Result<VirtIOBlk<VirtioHal<Virtio>, T>, Error> {
///     VirtIOBlk::new(transport)
/// }
/// ```
pub struct VirtioHal<T>(PhantomData<T>);

impl From<BufferDirection> for Direction {
    fn from(direction: BufferDirection) -> Self {
        match direction {
            BufferDirection::DriverToDevice => Self::ToDevice,
            BufferDirection::DeviceToDriver => Self::FromDevice,
            BufferDirection::Both => Self::Both,
        }
    }
}

// SAFETY: `dma_alloc` returns zeroed whole pages that nobody else has until they are freed; `mmio` is promised by
// whoever implements `VirtioSpace`.
unsafe impl<T: VirtioSpace> Hal for VirtioHal<T> {
    fn dma_alloc(pages: usize, direction: BufferDirection) -> (u64, NonNull<u8>) {
        // No allocation is so large that this overflows and what is left is small.
        let memory = T::space().allocate(pages.saturating_mul(PAGE), direction.into());
        match memory {
            Ok(memory) => (memory.iova().0, memory.pointer()),
            Err(error) => {
                T::failed(VirtioFailure::Allocate(error));
                // What the drivers take for a failure.
                (0, NonNull::dangling())
            }
        }
    }

    unsafe fn dma_dealloc(paddr: u64, vaddr: NonNull<u8>, pages: usize) -> i32 {
        let space = T::space();
        // SAFETY: the caller says that it is an allocation of this space's, and gives it back.
        if let Some(memory) = unsafe { Coherent::of(space, Iova(paddr), vaddr, pages) } {
            // It is of this space. What an instance does not confirm is freed later.
            let _ = space.free(memory);
        }
        // The drivers panic at anything else.
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: u64, size: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise.
        unsafe { T::mmio(PhysAddr(paddr), size) }
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> u64 {
        // SAFETY: the drivers leave a shared buffer alone until they unshare it.
        match unsafe { T::space().map(buffer, direction.into()) } {
            Ok(iova) => iova.0,
            Err(error) => {
                T::failed(VirtioFailure::Share(error));
                NOWHERE.0
            }
        }
    }

    unsafe fn unshare(paddr: u64, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if paddr == NOWHERE.0 {
            return;
        }
        // SAFETY: the drivers unshare what they shared, once, and use the buffer afterwards.
        if let Err(error) = unsafe { T::space().unmap(Iova(paddr), buffer, direction.into()) } {
            T::failed(VirtioFailure::Unshare(error));
        }
    }
}
