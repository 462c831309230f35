// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory: a heap for Rust, and frames for devices and the tables they are translated by. Both are buddy allocators.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::NonNull;

use buddy_system_allocator::Heap;

use crate::lock::Lock;
use crate::verdict::Outcome;
use crate::{ensure, memory};

/// Bytes of the heap.
const HEAP: usize = 16 << 20;

/// Blocks of up to 1 GiB.
const ORDERS: usize = 31;

#[global_allocator]
static ALLOCATOR: Pool = Pool(Lock::new(Heap::new()));

/// Frames.
pub static FRAMES: Pool = Pool(Lock::new(Heap::new()));

/// Memory to allocate from. Usable in interrupt handlers.
pub struct Pool(Lock<Heap<ORDERS>>);

/// How much of a pool is used.
pub struct Usage {
    /// Bytes handed out.
    pub used: usize,
    /// Bytes that there are.
    pub total: usize,
}

/// Shares out the RAM behind the image.
pub fn init(ram: &Range<usize>) {
    let start = memory::image().end.next_multiple_of(1 << 21);
    let end = ram.end.min(memory::mapped().end);
    let frames = start + HEAP;
    assert!(ram.contains(&start) && frames < end, "RAM of {ram:#x?} is too small");
    // SAFETY: RAM that is mapped and behind the image, which is all that uses memory so far: the device tree is
    // before it. It is given away once.
    unsafe {
        ALLOCATOR.0.with(|heap| heap.init(start, HEAP));
        FRAMES.0.with(|heap| heap.init(frames, end - frames));
    }
}

impl Pool {
    /// Zeroed memory, aligned to its size or to `align`, whichever is larger.
    pub fn allocate(&self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let layout = Layout::from_size_align(size, align).ok()?;
        let memory = self.0.with(|heap| heap.alloc(layout)).ok()?;
        // SAFETY: `size` bytes that nobody else has.
        unsafe { memory.write_bytes(0, size) };
        Some(memory)
    }

    /// Takes back what `allocate` returned.
    ///
    /// # Safety
    /// It came from this pool with this `size` and `align`, and nobody uses it any more.
    pub unsafe fn free(&self, memory: NonNull<u8>, size: usize, align: usize) {
        let Ok(layout) = Layout::from_size_align(size, align) else { return };
        // SAFETY: the caller's promise.
        self.0.with(|heap| unsafe { heap.dealloc(memory, layout) });
    }

    /// How much is in use.
    pub fn usage(&self) -> Usage {
        self.0
            .with(|heap| Usage { used: heap.stats_alloc_actual(), total: heap.stats_total_bytes() })
    }
}

/// How much of the heap is in use.
pub fn usage() -> Usage {
    ALLOCATOR.usage()
}

/// Carries a check out, after which heap and frames must be as they were.
pub fn as_before(check: impl FnOnce() -> Outcome) -> Outcome {
    let used = || (usage().used, FRAMES.usage().used);
    let before = used();
    let outcome = check()?;
    // Its text is on the heap.
    let kept = outcome.capacity();
    let after = used();
    ensure!(after.1 == before.1, "{} bytes of frames, and {} before", after.1, before.1);
    let heap = after.0.saturating_sub(before.0);
    ensure!(heap <= kept.next_power_of_two(), "{heap} bytes of the heap are not given back");
    Ok(outcome)
}

// SAFETY: the buddy allocator hands out disjoint, aligned blocks.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.with(|heap| heap.alloc(layout)).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(memory) = NonNull::new(memory) else { return };
        // SAFETY: the caller's promise.
        self.0.with(|heap| unsafe { heap.dealloc(memory, layout) });
    }
}
