// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that is mapped into this process, which pages of it anybody has written, and what is handed on to the next run.

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::{Ram, RamError};

/// Memory mapped into this process, unmapped on drop.
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    len: usize,
    pub(super) file: Option<OwnedFd>,
    /// A bit for each page of [`Ram::PAGE`] that somebody may have written.
    written: Box<[AtomicU64]>,
}

// SAFETY: a mapping belongs to the process, not to a thread, and is accessed by atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// What was handed on, zeroed.
static SPARE: Mutex<Vec<Arc<Mapping>>> = Mutex::new(Vec::new());
/// How many of them are kept: about as many as run at once.
const SPARES: usize = 16;

/// Memory of so many bytes that was handed on.
pub(super) fn inherit(len: usize) -> Option<Arc<Mapping>> {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let at = spare.iter().position(|mapping| mapping.len == len)?;
    Some(spare.swap_remove(at))
}

/// Hands `mapping`, which nobody looks at any more, on to the next one that wants as much.
pub(super) fn hand_on(mapping: Arc<Mapping>) {
    mapping.clear();
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.len() < SPARES && !spare.iter().any(|other| Arc::ptr_eq(other, &mapping)) {
        spare.push(mapping);
    } else {
        drop(spare);
        mapping.discard();
    }
}

impl Mapping {
    pub(super) fn anonymous(len: usize) -> Result<Self, RamError> {
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
        let start =
            unsafe { rustix::mm::mmap_anonymous(core::ptr::null_mut(), len, protection, flags) };
        let mapping = Self::new(start, len, None)?;
        let start = mapping.start.as_ptr().cast();
        // SAFETY: the range is our mapping, whose content this does not change. It is only advice: most of what a short run
        // costs are the page faults of its tables.
        let _ = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxHugepage) };
        Ok(mapping)
    }

    pub(super) fn file(len: usize) -> Result<Self, RamError> {
        let no_memory = |errno| RamError::NoMemory { len, errno };
        let file =
            rustix::fs::memfd_create("smmuv3-ram", MemfdFlags::CLOEXEC).map_err(no_memory)?;
        rustix::fs::ftruncate(&file, len as u64).map_err(no_memory)?;
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses. The file
        // is ours and never shrinks; a child that shrank it could only end this process (SIGBUS).
        let start =
            unsafe { rustix::mm::mmap(core::ptr::null_mut(), len, protection, flags, &file, 0) };
        Self::new(start, len, Some(file))
    }

    fn new(
        start: Result<*mut core::ffi::c_void, Errno>,
        len: usize,
        file: Option<OwnedFd>,
    ) -> Result<Self, RamError> {
        let start = start.map_err(|errno| RamError::NoMemory { len, errno })?;
        let start =
            NonNull::new(start.cast()).ok_or(RamError::NoMemory { len, errno: Errno::NOMEM })?;
        // Another process may write what this one does not know of.
        let bits = if file.is_some() { u64::MAX } else { 0 };
        let pages = len.div_ceil(Ram::PAGE);
        let written = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(bits)).collect();
        Ok(Self { start, len, file, written })
    }

    /// The page that holds the byte at `offset` is about to be written.
    #[inline]
    pub(super) fn write(&self, offset: usize) {
        let page = offset / Ram::PAGE;
        let bit = 1 << (page % 64);
        // Relaxed: who hands memory out holds the allocator's lock, and what is written elsewhere is written by mistake.
        if let Some(bits) = self.written.get(page / 64)
            && bits.load(Ordering::Relaxed) & bit == 0
        {
            bits.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Those that hold `bytes` bytes from `offset` on are.
    pub(super) fn write_all(&self, offset: usize, bytes: usize) {
        for page in offset / Ram::PAGE..(offset + bytes).div_ceil(Ram::PAGE) {
            self.write(page * Ram::PAGE);
        }
    }

    /// The parts of `range` that are in pages that somebody may have written.
    pub(super) fn written(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut page = range.start / Ram::PAGE;
        let end = range.end.div_ceil(Ram::PAGE);
        core::iter::from_fn(move || {
            while page < end {
                let bits = self.written.get(page / 64)?.load(Ordering::Relaxed) >> (page % 64);
                if bits == 0 {
                    page = (page / 64 + 1) * 64;
                    continue;
                }
                let first = page + bits.trailing_zeros() as usize;
                let run = (bits >> bits.trailing_zeros()).trailing_ones() as usize;
                page = first + run;
                let (first, last) = (first * Ram::PAGE, page * Ram::PAGE);
                let part = first.max(range.start)..last.min(range.end);
                if !part.is_empty() {
                    return Some(part);
                }
            }
            None
        })
    }

    /// Zeroes all pages that were written; nobody has written any then.
    fn clear(&self) {
        for part in self.written(0..self.len) {
            for offset in part.step_by(8) {
                // SAFETY: inside, by the range that was asked about, and aligned, since pages are; everybody uses atomics.
                let word = unsafe { self.start.add(offset).cast::<AtomicU64>().as_ref() };
                word.store(0, Ordering::Relaxed);
            }
        }
        self.written.iter().for_each(|bits| bits.store(0, Ordering::Relaxed));
    }

    /// Gives the memory back to the operating system; it reads as zeros from then on.
    pub(super) fn discard(&self) {
        // SAFETY: the range is our mapping, and nobody has a Rust reference into it: everybody uses atomics.
        // Whoever reads on finds old words or zeros.
        let _ = unsafe {
            let start = self.start.as_ptr().cast();
            rustix::mm::madvise(start, self.len, rustix::mm::Advice::LinuxDontNeed)
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that was mapped, once; every `Ram` on it is gone.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of a mapping that is ours: {unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_in_runs_of_pages_within_what_is_asked_for() {
        let mapping = Mapping::anonymous(200 * Ram::PAGE).unwrap();
        let written = |range| {
            let parts = mapping.written(range).map(|part| (part.start, part.end));
            parts.collect::<Vec<_>>()
        };
        assert_eq!(written(0..200 * Ram::PAGE), []);
        mapping.write(3 * Ram::PAGE + 8);
        mapping.write_all(62 * Ram::PAGE + 4000, 2 * Ram::PAGE);
        mapping.write(199 * Ram::PAGE);
        let page = |number| number * Ram::PAGE;
        // A run ends where the bits of one word do.
        let all = [(3, 4), (62, 64), (64, 65), (199, 200)];
        assert_eq!(written(0..page(200)), all.map(|(start, end)| (page(start), page(end))));
        assert_eq!(written(page(3) + 16..page(3) + 24), [(page(3) + 16, page(3) + 24)]);
        assert_eq!(written(page(4)..page(62)), []);
        assert_eq!(written(page(62) - 8..page(63) - 8), [(page(62), page(63) - 8)]);
        mapping.clear();
        assert_eq!(written(0..page(200)), []);
    }

    #[test]
    fn what_is_handed_on_is_zero_and_is_had_by_one() {
        // A length that nobody else has.
        const LEN: usize = 37 * Ram::PAGE;
        const BASE: u64 = 0x4000_0000;
        let first = Ram::inherited(BASE, LEN).unwrap();
        first.write64(BASE + 0x5008, 7).unwrap();
        first.write(BASE + 0x7fff, &[1, 2]).unwrap();
        let start = first.pointer(BASE);
        first.hand_on();
        // It is there once.
        first.hand_on();
        let second = Ram::inherited(BASE, LEN).unwrap();
        assert_eq!(second.pointer(BASE), start);
        assert_eq!(second.find64(BASE, 1, 0, 0), None);
        assert!((0..LEN as u64 / 8).all(|word| second.read64(BASE + 8 * word) == Some(0)));
        let third = Ram::inherited(BASE, LEN).unwrap();
        assert_ne!(third.pointer(BASE), start);
    }
}
