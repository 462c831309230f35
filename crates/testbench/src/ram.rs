// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guest RAM: memory at a physical address that this process shares with a software model or
//! with QEMU.
//!
//! Everybody reads and writes it at once: the driver's threads, the model, another process. So
//! every access that [`Ram`] makes is one atomic access to one aligned 64-bit word. Words only,
//! because atomics of different sizes that overlap would be a data race in Rust's memory model.

mod mapping;

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use mapping::Mapping;

/// RAM that a machine has at a range of physical addresses. Cloning is cheap: clones are the same memory.
#[derive(Clone)]
pub struct Ram {
    mapping: Arc<Mapping>,
    /// Where this part begins within the mapping, in bytes; a multiple of [`Ram::PAGE`].
    offset: usize,
    /// Where that is in this process.
    start: NonNull<u8>,
    base: u64,
    len: usize,
}

// SAFETY: the pointer goes into the mapping, which is sent and shared with it, and is accessed by atomics only.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

/// Why RAM could not be made, or an access to it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RamError {
    /// The base address or the length is not a multiple of [`Ram::PAGE`], or the length is zero.
    #[error("RAM at {base:#x} with {len:#x} bytes: both must be multiples of 4096, and not empty")]
    Shape {
        /// The physical address that was asked for.
        base: u64,
        /// The length in bytes that was asked for.
        len: usize,
    },
    /// The last byte would lie beyond the 64-bit physical address space.
    #[error("RAM at {base:#x} with {len:#x} bytes ends beyond the physical address space")]
    Beyond {
        /// The physical address that was asked for.
        base: u64,
        /// The length in bytes that was asked for.
        len: usize,
    },
    /// The operating system gave no memory.
    #[error("no memory for {len:#x} bytes of RAM: {errno}")]
    NoMemory {
        /// The length in bytes that was asked for.
        len: usize,
        /// What the operating system answered.
        errno: Errno,
    },
    /// An access outside the RAM.
    #[error("{len:#x} bytes at physical address {pa:#x} are not RAM")]
    NotRam {
        /// The physical address of the first byte.
        pa: u64,
        /// The number of bytes.
        len: usize,
    },
}

/// Words that are looked at together: most are empty, so that all of them at once are not what is wanted.
const SEVERAL: usize = 16;

/// The first of `count` words that is `wanted`, which stays so with more bits.
#[inline(always)]
fn among(count: usize, load: impl Fn(usize) -> u64, wanted: impl Fn(u64) -> bool) -> Option<usize> {
    let first = |mut numbers: Range<usize>| numbers.find(|number| wanted(load(*number)));
    let mut next = 0;
    while next + SEVERAL <= count {
        if wanted((0..SEVERAL).fold(0, |all, number| all | load(next + number)))
            && let found @ Some(_) = first(next..next + SEVERAL)
        {
            return found;
        }
        next += SEVERAL;
    }
    first(next..count)
}

impl Ram {
    /// The unit of base addresses and lengths, in bytes.
    pub const PAGE: usize = 4096;

    /// Zeroed RAM of this process alone: `len` bytes at physical address `base`, both multiples of [`Ram::PAGE`].
    ///
    /// # Errors
    /// [`RamError`]: a base or length that is not in pages, or no memory.
    pub fn heap(base: u64, len: usize) -> Result<Self, RamError> {
        check_shape(base, len)?;
        Ok(Self::all(Arc::new(Mapping::anonymous(len)?), base, len))
    }

    /// As [`Ram::heap`], in memory that was [handed on](Ram::hand_on), if there is some of that length: most of what a short
    /// run costs are the page faults of its tables.
    ///
    /// # Errors
    /// As for [`Ram::heap`].
    pub fn inherited(base: u64, len: usize) -> Result<Self, RamError> {
        check_shape(base, len)?;
        match mapping::inherit(len) {
            Some(mapping) => Ok(Self::all(mapping, base, len)),
            None => Self::heap(base, len),
        }
    }

    /// Zeroed RAM in a memory file that a child process can map as well: see [`Ram::as_fd`].
    ///
    /// # Errors
    /// As for [`Ram::heap`].
    pub fn shared(base: u64, len: usize) -> Result<Self, RamError> {
        check_shape(base, len)?;
        Ok(Self::all(Arc::new(Mapping::file(len)?), base, len))
    }

    /// The part of this RAM that has `len` bytes at `pa`: the same memory, with narrower limits.
    ///
    /// # Errors
    /// [`RamError::Shape`] when the part is not in pages, [`RamError::NotRam`] when it is not inside.
    pub fn part(&self, pa: u64, len: usize) -> Result<Self, RamError> {
        check_shape(pa, len)?;
        let inside = self.offset_of(pa, len).ok_or(RamError::NotRam { pa, len })?;
        // SAFETY: `len` bytes from there on are inside this part, which is inside the mapping.
        let start = unsafe { self.start.add(inside) };
        let mapping = Arc::clone(&self.mapping);
        Ok(Self { mapping, offset: self.offset + inside, start, base: pa, len })
    }

    /// All of `mapping`, which has `len` bytes.
    fn all(mapping: Arc<Mapping>, base: u64, len: usize) -> Self {
        Self { offset: 0, start: mapping.start, mapping, base, len }
    }

    /// The physical address of the first byte.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "RAM is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether all `len` bytes at `pa` are inside. No bytes are inside anywhere within, or right after, the RAM.
    #[must_use]
    #[inline]
    pub fn contains(&self, pa: u64, len: usize) -> bool {
        self.offset_of(pa, len).is_some()
    }

    /// The memory file of [`Ram::shared`] (of the whole, also for a [`Ram::part`]), for a child process.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.mapping.file.as_ref().map(AsFd::as_fd)
    }

    /// Where the byte at `pa` is in this process, valid as long as any clone of this `Ram`
    /// lives. Others read and write there at any time: use atomics.
    #[must_use]
    #[inline]
    pub fn pointer(&self, pa: u64) -> Option<NonNull<u8>> {
        let offset = self.offset_of(pa, 1)?;
        self.mapping.write(self.offset + offset);
        // SAFETY: `offset` is below `len`, and this part's `len` bytes from its start on lie
        // inside the mapping (checked when the part was made), so the result does too.
        Some(unsafe { self.start.add(offset) })
    }

    /// Gives the memory of [`Ram::heap`] back to the operating system, all of it, for whoever is through with
    /// it while others still refer to it. It reads as zeros from then on.
    pub fn discard(&self) {
        self.mapping.discard();
    }

    /// Hands the memory of [`Ram::inherited`] on, zeroed, to the next one. Nobody looks at it any more, although others may
    /// still refer to it: what they would find there is somebody else's.
    pub fn hand_on(&self) {
        mapping::hand_on(Arc::clone(&self.mapping));
    }

    /// The 64-bit little-endian word at `pa`; `None` outside the RAM or when `pa` is not a multiple of 8.
    ///
    /// An acquire load: who sees a word that [`Ram::write64`] announced (a valid bit, a pointer to
    /// a table) also sees what was written before it.
    #[must_use]
    #[inline]
    pub fn read64(&self, pa: u64) -> Option<u64> {
        Some(u64::from_le(self.word(pa)?.load(Ordering::Acquire)))
    }

    /// As [`smmuv3_model::Memory::find64`].
    #[must_use]
    pub fn find64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
        self.find(pa, stride, count, |word| word & bits == bits)
    }

    /// As [`smmuv3_model::Memory::find_any64`].
    #[must_use]
    pub fn find_any64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
        self.find(pa, stride, count, |word| word & bits != 0)
    }

    /// The first of `count` words, `stride` bytes apart from `pa` on, that is `wanted`, or that is no word of this RAM.
    /// What is wanted stays so with more bits.
    fn find(&self, pa: u64, stride: u64, count: u64, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let found = |word: &AtomicU64| wanted(u64::from_le(word.load(Ordering::Acquire)));
        let all = count.checked_sub(1)?.checked_mul(stride).and_then(|last| last.checked_add(8));
        let inside = all.is_some_and(|all| {
            usize::try_from(all).is_ok_and(|all| self.contains(pa, all))
                && pa.is_multiple_of(8)
                && stride.is_multiple_of(8)
        });
        let Some(first) = self.word(pa).filter(|_| inside) else {
            let at = |number: u64| pa.wrapping_add(number.wrapping_mul(stride));
            return (0..count).find(|number| self.word(at(*number)).is_none_or(found));
        };
        let (first, count) = (core::ptr::from_ref(first), count as usize);
        // SAFETY: all of them are inside, as was checked above, and are words as [`Ram::word`] gives them.
        let word = |at: usize| unsafe { &*first.byte_add(at) };
        let load = |at: usize| u64::from_le(word(at).load(Ordering::Acquire));
        let number = match stride as usize {
            // Most are side by side.
            8 => among(count, |number| load(8 * number), wanted),
            stride => among(count, |number| load(stride * number), wanted),
        };
        number.map(|number| number as u64)
    }

    /// Writes `value` to `count` words from `pa` on, as [`Ram::write64`] does one by one; `None` as there.
    #[must_use = "outside the RAM nothing is written"]
    pub fn fill64(&self, pa: u64, count: usize, value: u64) -> Option<()> {
        let Some(last) = count.checked_sub(1) else { return Some(()) };
        let first = core::ptr::from_ref(self.word(pa)?);
        let bytes = last.checked_mul(8)?.checked_add(8)?;
        let offset = self.offset_of(pa, bytes)?;
        self.mapping.write_all(self.offset + offset, bytes);
        for number in 0..count {
            // SAFETY: all of them are inside, as was checked above, and are words as [`Ram::word`] gives them.
            unsafe { &*first.add(number) }.store(value.to_le(), Ordering::Release);
        }
        Some(())
    }

    /// Makes `count` words from `pa` on zero, which are about to be handed out; `None` as for [`Ram::write64`]. Pages that
    /// nobody has had or written are: the operating system need not find memory for them yet. From then on all of them
    /// count as written: whoever has them has pointers.
    #[must_use = "outside the RAM nothing is written"]
    pub(crate) fn zero64(&self, pa: u64, count: usize) -> Option<()> {
        self.zero_written64(pa, count)?;
        self.mapping.write_all(self.offset + self.offset_of(pa, 8 * count)?, 8 * count);
        Some(())
    }

    /// The same for those who have no pointers, and go through this type.
    #[must_use = "outside the RAM nothing is written"]
    pub(crate) fn zero_written64(&self, pa: u64, count: usize) -> Option<()> {
        let bytes = count.checked_mul(8)?;
        let offset = self.offset + self.offset_of(pa, bytes)?;
        let start = pa - offset as u64;
        for written in self.mapping.written(offset..offset + bytes) {
            self.fill64(start + written.start as u64, written.len().div_ceil(8), 0)?;
        }
        Some(())
    }

    /// Writes the 64-bit little-endian word at `pa` in one access, a release store; `None`,
    /// and nothing written, outside the RAM or when `pa` is not a multiple of 8.
    #[must_use = "outside the RAM nothing is written"]
    #[inline]
    pub fn write64(&self, pa: u64, value: u64) -> Option<()> {
        let word = self.word(pa)?;
        self.touched(pa);
        word.store(value.to_le(), Ordering::Release);
        Some(())
    }

    /// Writes `new` to the word at `pa` if it is `current`, in one access; what it was. `None` as for
    /// [`Ram::write64`].
    #[must_use = "outside the RAM nothing is written"]
    pub fn compare_exchange64(&self, pa: u64, current: u64, new: u64) -> Option<u64> {
        let (current, new) = (current.to_le(), new.to_le());
        let word = self.word(pa)?;
        self.touched(pa);
        let seen = word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire);
        Some(u64::from_le(seen.unwrap_or_else(|seen| seen)))
    }

    /// Copies the bytes at `pa` into `buffer`, word by word: a concurrent writer's words arrive
    /// whole, but old and new words may be mixed.
    ///
    /// # Errors
    /// [`RamError::NotRam`]; then `buffer` is unchanged.
    pub fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), RamError> {
        for (word, bytes, places) in self.pieces(pa, buffer.len())? {
            // Relaxed: payload is ordered by whatever announced it, never by itself.
            let value = word.load(Ordering::Relaxed).to_ne_bytes();
            // `pieces` gives equally long ranges, within the word and within the buffer.
            buffer[places].copy_from_slice(&value[bytes]);
        }
        Ok(())
    }

    /// Copies `data` to `pa`, word by word; the other bytes of the first and last word keep
    /// whatever a concurrent writer gives them.
    ///
    /// # Errors
    /// [`RamError::NotRam`]; then nothing was written.
    pub fn write(&self, pa: u64, data: &[u8]) -> Result<(), RamError> {
        for (word, bytes, places) in self.pieces(pa, data.len())? {
            self.touched(pa + places.start as u64);
            // As in `read`: equally long ranges, within both.
            let new = &data[places];
            if let Ok(whole) = <[u8; 8]>::try_from(new) {
                word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
                continue;
            }
            let merge = |old: u64| {
                let mut merged = old.to_ne_bytes();
                merged[bytes.clone()].copy_from_slice(new);
                Some(u64::from_ne_bytes(merged))
            };
            // Always `Ok`: `merge` never gives up.
            let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, merge);
        }
        Ok(())
    }

    /// Makes the whole of this part zero again, for every process that maps it.
    ///
    /// # Errors
    /// [`RamError::NoMemory`] when the operating system refuses.
    pub(crate) fn clear(&self) -> Result<(), RamError> {
        let no_memory = |errno| RamError::NoMemory { len: self.len, errno };
        if let Some(file) = &self.mapping.file {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            return rustix::fs::fallocate(file, hole, self.offset as u64, self.len as u64)
                .map_err(no_memory);
        }
        for offset in (0..self.len as u64).step_by(8) {
            // Inside by the loop's bounds.
            let _ = self.write64(self.base + offset, 0);
        }
        Ok(())
    }

    /// The word that holds the byte at `pa`, which is inside, is about to be written.
    #[inline]
    fn touched(&self, pa: u64) {
        // Inside, so it fits.
        self.mapping.write(self.offset + (pa - self.base) as usize);
    }

    /// How far `pa` is from the base, when `len` bytes from there are inside.
    #[inline]
    fn offset_of(&self, pa: u64, len: usize) -> Option<usize> {
        let offset = usize::try_from(pa.checked_sub(self.base)?).ok()?;
        (offset.checked_add(len)? <= self.len).then_some(offset)
    }

    #[inline]
    fn word(&self, pa: u64) -> Option<&AtomicU64> {
        if !pa.is_multiple_of(8) {
            return None;
        }
        let offset = self.offset_of(pa, 8)?;
        // SAFETY: eight bytes at `offset` are inside this part, which is inside the mapping, and
        // the mapping lives as long as `self`. It starts on a page, parts and bases are in pages
        // and `pa` is a multiple of 8, so the word is aligned. The memory is initialised (the
        // kernel zeroes it), and this process accesses it only by atomics.
        Some(unsafe { self.start.add(offset).cast::<AtomicU64>().as_ref() })
    }

    /// The words that `len` bytes at `pa` lie in: each word, the range of bytes within it, and
    /// the range of the copied bytes that belong there.
    fn pieces(
        &self,
        pa: u64,
        len: usize,
    ) -> Result<
        impl Iterator<Item = (&AtomicU64, core::ops::Range<usize>, core::ops::Range<usize>)>,
        RamError,
    > {
        if !self.contains(pa, len) {
            return Err(RamError::NotRam { pa, len });
        }
        let mut done = 0;
        Ok(core::iter::from_fn(move || {
            if done == len {
                return None;
            }
            // No overflow: `pa + len` is inside, as checked above.
            let at = pa + done as u64;
            let skip = (at % 8) as usize;
            let count = (8 - skip).min(len - done);
            // Inside, because `len` and `base` are multiples of 8, so a word with one byte
            // inside is inside as a whole.
            let word = self.word(at - skip as u64)?;
            let places = done..done + count;
            done += count;
            Some((word, skip..skip + count, places))
        }))
    }
}

impl core::fmt::Debug for Ram {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ram({:#x}, {:#x} bytes)", self.base, self.len)
    }
}

fn check_shape(base: u64, len: usize) -> Result<(), RamError> {
    if len == 0 || !len.is_multiple_of(Ram::PAGE) || !base.is_multiple_of(Ram::PAGE as u64) {
        return Err(RamError::Shape { base, len });
    }
    match base.checked_add(len as u64 - 1) {
        Some(_) => Ok(()),
        None => Err(RamError::Beyond { base, len }),
    }
}

#[cfg(test)]
mod tests;
