// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the machine: frames, and buffers whose pages are scattered; and how the SMMU sees it.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smmuv3::PhysAddr;
use smmuv3_model::{Abort, Memory};

use super::PAGE;

/// Frames of the platform: CPU and physical addresses alike, but for an offset.
pub(super) const FRAMES: u64 = 0x8_8000_0000;
pub(super) const FRAME_BYTES: usize = 16 << 20;
/// Memory of the tests' buffers, whose pages are scattered in physical memory.
const BUFFERS: u64 = 0x9_0000_0000;
pub(super) const BUFFER_PAGES: usize = 4096;
/// Physical distance of two neighbouring pages of a buffer, in pages, modulo their number; 1 in runs of 4.
const STRIDE: usize = 1237;

/// Memory of the machine.
pub struct Store {
    pub(super) memory: NonNull<u8>,
    pub(super) buffers: NonNull<u8>,
    /// Which page of the buffers each physical one is.
    behind: Vec<usize>,
}

// SAFETY: memory that is owned, and used by pointers.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, PAGE).unwrap()
}

/// The physical page of page `index` of the buffers: groups of four pages stay together.
fn scatter(index: usize) -> usize {
    let group = index / 4 * STRIDE % (BUFFER_PAGES / 4);
    group * 4 + index % 4
}

impl Store {
    pub(super) fn new() -> Self {
        // SAFETY: both have bytes.
        let (memory, buffers) = unsafe {
            (alloc_zeroed(layout(FRAME_BYTES)), alloc_zeroed(layout(BUFFER_PAGES * PAGE)))
        };
        let mut behind = vec![usize::MAX; BUFFER_PAGES];
        (0..BUFFER_PAGES).for_each(|page| behind[scatter(page)] = page);
        assert!(!behind.contains(&usize::MAX));
        let [memory, buffers] = [memory, buffers].map(|start| NonNull::new(start).unwrap());
        Self { memory, buffers, behind }
    }

    /// The byte at `pa`.
    pub(super) fn at(&self, pa: u64) -> Option<NonNull<u8>> {
        if (FRAMES..FRAMES + FRAME_BYTES as u64).contains(&pa) {
            // SAFETY: within the memory.
            return Some(unsafe { self.memory.add((pa - FRAMES) as usize) });
        }
        let offset = pa.checked_sub(BUFFERS)? as usize;
        let page = self.behind.get(offset / PAGE)?;
        // SAFETY: a page of the buffers.
        Some(unsafe { self.buffers.add(page * PAGE + offset % PAGE) })
    }

    pub(super) fn physical(&self, pointer: NonNull<u8>, len: usize) -> Option<(PhysAddr, usize)> {
        let offset = pointer.as_ptr().addr().checked_sub(self.buffers.as_ptr().addr())?;
        if offset >= BUFFER_PAGES * PAGE {
            return None;
        }
        let to_end = 4 * PAGE - offset % (4 * PAGE);
        let pa = BUFFERS + (scatter(offset / PAGE) * PAGE + offset % PAGE) as u64;
        Some((PhysAddr(pa), len.min(to_end)))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with these layouts.
        unsafe {
            dealloc(self.memory.as_ptr(), layout(FRAME_BYTES));
            dealloc(self.buffers.as_ptr(), layout(BUFFER_PAGES * PAGE));
        }
    }
}

/// The memory as the SMMU sees it.
#[derive(Clone)]
pub struct Bus(pub(super) Arc<Store>);

impl Memory for Bus {
    fn read64(&self, pa: u64) -> Result<u64, Abort> {
        let word = self.0.at(pa).ok_or(Abort { pa })?.cast::<AtomicU64>();
        // SAFETY: aligned, since tables are, and within the memory.
        Ok(unsafe { word.as_ref() }.load(Ordering::Acquire))
    }

    fn write64(&self, pa: u64, value: u64) -> Result<(), Abort> {
        let word = self.0.at(pa).ok_or(Abort { pa })?.cast::<AtomicU64>();
        // SAFETY: as above.
        unsafe { word.as_ref() }.store(value, Ordering::Release);
        Ok(())
    }

    fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), Abort> {
        for (byte, at) in buffer.iter_mut().zip(pa..) {
            let from = self.0.at(at).ok_or(Abort { pa: at })?;
            // SAFETY: within the memory.
            *byte = unsafe { from.read_volatile() };
        }
        Ok(())
    }

    fn write(&self, pa: u64, bytes: &[u8]) -> Result<(), Abort> {
        for (byte, at) in bytes.iter().zip(pa..) {
            let to = self.0.at(at).ok_or(Abort { pa: at })?;
            // SAFETY: within the memory.
            unsafe { to.write_volatile(*byte) };
        }
        Ok(())
    }
}
