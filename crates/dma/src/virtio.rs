// SPDX-License-Identifier: MIT OR Apache-2.0
//! `virtio_drivers::Hal` over a space.
//!
//! `Hal` is static, and `share` and `unshare` cannot fail. So the space is found through a static of the kernel's; a
//! buffer that could not be mapped is said to be [`NOWHERE`], and what went wrong is told to [`VirtioSpace::failed`].

use core::error::Error;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
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
    /// There is no space: [`VirtioSpace::space`]. A buffer that was to be mapped is [`NOWHERE`]; one that was to be
    /// unmapped has gone with the space, or is still lent if that was only hidden.
    NoSpace,
}

impl VirtioFailure {
    /// Whether the device may still reach memory that the driver, or whoever uses it, is about to use for something else.
    pub const fn leaves_memory_reachable(&self) -> bool {
        matches!(self, Self::Share(MapError::Unconfirmed(_)) | Self::Unshare(_))
    }
}

impl fmt::Display for VirtioFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(error) => write!(f, "a buffer was not mapped: {error}"),
            Self::Unshare(error) => write!(f, "a buffer was not unmapped: {error}"),
            Self::Allocate(error) => write!(f, "a queue was not mapped: {error}"),
            Self::NoSpace => f.write_str("there is no space"),
        }
    }
}

impl Error for VirtioFailure {}

/// Where the buffers of virtio drivers are mapped.
///
/// # Safety
/// Implementation safety: [`mmio`](Self::mmio) does what `Hal::mmio_phys_to_virt` asks for, and [`failed`](Self::failed)
/// returns only when it may. While there are drivers over it, [`space`](Self::space) gives the same space.
pub unsafe trait VirtioSpace {
    /// The platform of the space.
    type Platform: DmaPlatform;
    /// How the space is held while it is used: `&'static DmaSpace<_>` for one that is never ended, an `Arc` or a guard of
    /// a lock for one that is.
    type Space: Deref<Target = DmaSpace<Self::Platform>>;

    /// The space that the devices are attached to. The same for as long as there are drivers over it; `None` before and
    /// after that.
    fn space() -> Option<Self::Space>;

    /// The CPU's pointer to registers of a device: `size` bytes at `pa`.
    ///
    /// # Safety
    /// They are a device's registers.
    unsafe fn mmio(pa: PhysAddr, size: usize) -> NonNull<u8>;

    /// Something failed that the driver is not told. Called in the context of the driver.
    ///
    /// The driver goes on when this returns. So if `failure` [leaves memory
    /// reachable](VirtioFailure::leaves_memory_reachable), it does not return before the SMMU was reset and a
    /// [flush](DmaSpace::flush) has returned `Ok`; a kernel that cannot wait for that here stops.
    fn failed(failure: VirtioFailure);
}

/// A `virtio_drivers::Hal` that maps everything in the space of `T`, and nothing else is reached by the devices.
///
/// The ten lines that a kernel adds to its `DmaPlatform`, here called `Kernel`:
///
/// ```
#[doc = include_str!("virtio/kernel.txt")]
/// # use core::ptr::NonNull;
/// # use std::sync::OnceLock;
/// # use kernel::{Kernel, map_device};
/// # use smmuv3::PhysAddr;
/// # use smmuv3_dma::{DmaSpace, Translated, VirtioFailure, VirtioHal, VirtioSpace};
/// # use virtio_drivers::{device::blk::VirtIOBlk, transport::Transport};
/// static SPACE: OnceLock<DmaSpace<Kernel>> = OnceLock::new(); // set at boot; the disk's master is attached to it
///
/// struct Virtio;
///
/// // SAFETY: `map_device` maps registers as Device memory, where nothing else is; `failed` stops if it has to.
/// unsafe impl VirtioSpace for Virtio {
///     type Platform = Kernel;
///     type Space = &'static DmaSpace<Kernel>;
///     fn space() -> Option<&'static DmaSpace<Kernel>> {
///         SPACE.get()
///     }
///     unsafe fn mmio(pa: PhysAddr, size: usize) -> NonNull<u8> {
///         map_device(pa, size)
///     }
///     fn failed(failure: VirtioFailure) {
///         assert!(!failure.leaves_memory_reachable(), "{failure}"); // or reset the SMMU, and flush
///     }
/// }
///
/// type Disk<T> = VirtIOBlk<VirtioHal<Virtio>, Translated<T>>;
///
/// fn disk<T: Transport>(transport: T) -> Result<Disk<T>, Box<dyn std::error::Error>> {
///     let transport = Translated::new(transport)?; // or the device never starts
///     VirtIOBlk::new(transport).map_err(|error| error.to_string().into())
/// }
/// ```
///
/// # More than one space, and an end
/// `Hal` has no `self`, so each space is a static *and a type*. A number makes as many types as there are statics; held
/// as an `Arc`, a space can be taken out of its static when the drivers over it are gone, and closed:
///
/// ```
#[doc = include_str!("virtio/kernel.txt")]
/// # use core::ptr::NonNull;
/// # use std::error::Error;
/// # use std::sync::{Arc, Mutex};
/// # use kernel::{Kernel, map_device};
/// # use smmuv3::{Master, PhysAddr};
/// # use smmuv3_dma::{DmaSpace, Translated, VirtioFailure, VirtioHal, VirtioSpace};
/// # use virtio_drivers::{device::blk::VirtIOBlk, transport::Transport};
/// static SPACES: [Mutex<Option<Arc<DmaSpace<Kernel>>>>; 8] = [const { Mutex::new(None) }; 8];
///
/// struct Nth<const N: usize>;
///
/// // SAFETY: `map_device` maps registers as Device memory, where nothing else is; `failed` stops if it has to.
/// unsafe impl<const N: usize> VirtioSpace for Nth<N> {
///     type Platform = Kernel;
///     type Space = Arc<DmaSpace<Kernel>>;
///     fn space() -> Option<Arc<DmaSpace<Kernel>>> {
///         SPACES[N].lock().ok()?.clone()
///     }
///     unsafe fn mmio(pa: PhysAddr, size: usize) -> NonNull<u8> {
///         map_device(pa, size)
///     }
///     fn failed(failure: VirtioFailure) {
///         assert!(!failure.leaves_memory_reachable(), "{failure}"); // or reset the SMMU, and flush
///     }
/// }
///
/// fn end<const N: usize, T: Transport>(
///     disk: VirtIOBlk<VirtioHal<Nth<N>>, Translated<T>>,
///     master: Master<Kernel>,
/// ) -> Result<(), Box<dyn Error>> {
///     drop(disk); // gives its rings back
///     let space = SPACES[N].lock().map_err(|_| "poisoned")?.take();
///     let space = space.and_then(Arc::into_inner).ok_or("in use")?;
///     space.detach(&master)?;
///     space.close()?;
///     master.close()?;
///     Ok(())
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
        let len = pages.saturating_mul(PAGE);
        let memory = with_space::<T, _>(|space| {
            space.allocate(len, direction.into()).map_err(VirtioFailure::Allocate)
        });
        match memory {
            Some(memory) => (memory.iova().0, memory.pointer()),
            // What the drivers take for a failure.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(paddr: u64, vaddr: NonNull<u8>, pages: usize) -> i32 {
        with_space::<T, _>(|space| {
            // SAFETY: the caller says that it is an allocation of this space's, and gives it back.
            if let Some(memory) = unsafe { Coherent::of(space, Iova(paddr), vaddr, pages) } {
                // It is of this space. What an instance does not confirm is freed later.
                let _ = space.free(memory);
            }
            Ok(())
        });
        // The drivers panic at anything else.
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: u64, size: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise.
        unsafe { T::mmio(PhysAddr(paddr), size) }
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> u64 {
        let iova = with_space::<T, _>(|space| {
            // SAFETY: the drivers leave a shared buffer alone until they unshare it.
            unsafe { space.map(buffer, direction.into()) }.map_err(VirtioFailure::Share)
        });
        iova.unwrap_or(NOWHERE).0
    }

    unsafe fn unshare(paddr: u64, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if paddr == NOWHERE.0 {
            return;
        }
        let iova = Iova(paddr);
        with_space::<T, _>(|space| {
            // SAFETY: the drivers unshare what they shared, once, and use the buffer afterwards.
            unsafe { space.unmap(iova, buffer, direction.into()) }.map_err(VirtioFailure::Unshare)
        });
    }
}

/// What `work` does with the space, if there is one; a failure is told.
#[inline]
fn with_space<T: VirtioSpace, R>(
    work: impl FnOnce(&DmaSpace<T::Platform>) -> Result<R, VirtioFailure>,
) -> Option<R> {
    let result = match T::space() {
        Some(space) => work(&space),
        None => Err(VirtioFailure::NoSpace),
    };
    result.map_err(T::failed).ok()
}
