// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtio devices: their drivers are the crate `virtio-drivers`, their DMA goes through a space.

use alloc::sync::Arc;
use core::ptr::{NonNull, with_exposed_provenance_mut};

use smmuv3::PhysAddr;
use smmuv3_dma::{DmaSpace, VirtioFailure, VirtioHal, VirtioSpace};

use crate::lock::Lock;
use crate::platform::Kernel;
use crate::println;

/// Vendor of all of them.
pub const VENDOR: u16 = 0x1af4;
/// Device ID of a block device.
pub const BLOCK: u16 = 0x1042;
/// Device ID of a source of random numbers.
pub const ENTROPY: u16 = 0x1044;

/// How many spaces there can be.
const SPACES: usize = 3;

type Space = Arc<DmaSpace<Kernel>>;

/// `Hal` has no `self`, so spaces are in statics, and each has a type.
static PLACES: [Lock<Option<Space>>; SPACES] = [const { Lock::new(None) }; SPACES];

/// The drivers' access to memory through space `N`.
pub type Hal<const N: usize> = VirtioHal<Spaces<N>>;

/// Space `N`.
pub struct Spaces<const N: usize>;

impl<const N: usize> Spaces<N> {
    /// Puts the space in its place.
    pub fn set(space: DmaSpace<Kernel>) -> Space {
        let space = Arc::new(space);
        let before = PLACES[N].with(|place| place.replace(space.clone()));
        assert!(before.is_none(), "space {N} is there already");
        space
    }

    /// Takes it out again, from where nobody uses it any more, nor has it from [`set`](Self::set).
    pub fn take() -> Option<DmaSpace<Kernel>> {
        PLACES[N].with(Option::take).and_then(Arc::into_inner)
    }
}

// SAFETY: registers are mapped as Device memory, at their physical addresses.
unsafe impl<const N: usize> VirtioSpace for Spaces<N> {
    type Platform = Kernel;
    type Space = Space;

    fn space() -> Option<Space> {
        PLACES[N].with(|place| place.clone())
    }

    unsafe fn mmio(pa: PhysAddr, _: usize) -> NonNull<u8> {
        let pointer = with_exposed_provenance_mut(pa.0 as usize);
        NonNull::new(pointer).unwrap_or_else(|| panic!("registers at 0"))
    }

    fn failed(failure: VirtioFailure) {
        assert!(!failure.leaves_memory_reachable(), "virtio: {failure}");
        println!("virtio: {failure}");
    }
}
