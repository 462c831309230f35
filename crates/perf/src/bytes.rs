// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that processors and an SMMU share, as one allocation.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use smmuv3_model::{Abort, Memory};

/// Where memory begins.
pub(crate) const BASE: u64 = 0x8000_0000;
const WORD: u64 = 8;

/// All bytes of a machine, from physical address 0x8000_0000 on. Whoever shares some of them with others uses them as
/// atomic words.
#[derive(Debug)]
pub struct Bytes {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned, parts of it are handed out once, and its content is used atomically.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// So many, a multiple of 8 that is not 0, of which all have been touched: 0. They are aligned as their addresses, up to
    /// 64 KiB.
    pub(crate) fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 1 << 16).expect("less than the address space");
        // SAFETY: the caller asks for some bytes.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: just allocated with that size.
        unsafe { start.write_bytes(0, layout.size()) };
        Self { start, layout }
    }

    /// Where they are for processors.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many.
    pub(crate) const fn len(&self) -> usize {
        self.layout.size()
    }

    /// The word with the byte at `pa`.
    fn word(&self, pa: u64) -> Result<&AtomicU64, Abort> {
        let offset = pa.checked_sub(BASE).and_then(|offset| usize::try_from(offset).ok());
        let offset = offset.filter(|offset| *offset < self.layout.size()).ok_or(Abort { pa })?;
        // SAFETY: inside of the allocation, whose size is a multiple of words, and which lives as long as this. Who shares a
        // word uses it atomically.
        Ok(unsafe { self.start.add(offset & !7).cast().as_ref() })
    }

    fn aligned(&self, pa: u64) -> Result<&AtomicU64, Abort> {
        if pa.is_multiple_of(WORD) { self.word(pa) } else { Err(Abort { pa }) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// What an SMMU sees of it.
impl Memory for Bytes {
    #[inline]
    fn read64(&self, pa: u64) -> Result<u64, Abort> {
        Ok(self.aligned(pa)?.load(Ordering::Acquire))
    }

    fn write64(&self, pa: u64, value: u64) -> Result<(), Abort> {
        self.aligned(pa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn compare_exchange64(&self, pa: u64, current: u64, new: u64) -> Result<u64, Abort> {
        let (done, not) = (Ordering::AcqRel, Ordering::Acquire);
        let seen = self.aligned(pa)?.compare_exchange(current, new, done, not);
        Ok(seen.unwrap_or_else(|seen| seen))
    }

    fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), Abort> {
        for (at, byte) in (pa..=u64::MAX).zip(buffer) {
            *byte = (self.word(at)?.load(Ordering::Acquire) >> (8 * (at % WORD))) as u8;
        }
        Ok(())
    }

    fn write(&self, pa: u64, bytes: &[u8]) -> Result<(), Abort> {
        for (at, byte) in (pa..=u64::MAX).zip(bytes) {
            let shift = 8 * (at % WORD);
            let change = |word: u64| Some(word & !(0xff << shift) | u64::from(*byte) << shift);
            // The closure never declines, so the update cannot fail.
            let _ = self.word(at)?.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        }
        Ok(())
    }
}
