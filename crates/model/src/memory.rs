// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that the model shares with processors and devices.

use core::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An access that the memory system refused: an external abort (§9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// First physical address of the refused access.
    pub pa: u64,
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "external abort at {:#x}", self.pa)
    }
}

impl core::error::Error for Abort {}

/// Physical memory. Addresses and lengths are in bytes; 64-bit words are little-endian numbers at aligned
/// addresses and are read and written in one piece (§8.1).
pub trait Memory {
    /// Reads the aligned word at `pa`.
    ///
    /// # Errors
    /// [`Abort`] when nothing answers there.
    fn read64(&self, pa: u64) -> Result<u64, Abort>;

    /// Writes the aligned word at `pa`; what was written before is visible before it.
    ///
    /// # Errors
    /// [`Abort`] when nothing answers there.
    fn write64(&self, pa: u64, value: u64) -> Result<(), Abort>;

    /// Writes `new` to the aligned word at `pa` if it is `current`; what it was. The default is not in one piece,
    /// which matters where processors change descriptors in which hardware sets flags (§14).
    ///
    /// # Errors
    /// [`Abort`] when nothing answers there.
    fn compare_exchange64(&self, pa: u64, current: u64, new: u64) -> Result<u64, Abort> {
        let seen = self.read64(pa)?;
        if seen == current {
            self.write64(pa, new)?;
        }
        Ok(seen)
    }

    /// The first of `count` words, `stride` bytes apart from `pa` on, that has all of `bits`, or that cannot be read: its
    /// number. For looking through tables most of which is empty.
    fn find64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
        let at = |number: u64| pa.wrapping_add(number.wrapping_mul(stride));
        (0..count).find(|number| self.read64(at(*number)).map_or(true, |word| word & bits == bits))
    }

    /// As [`Self::find64`], the first that has any of `bits`.
    fn find_any64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
        let at = |number: u64| pa.wrapping_add(number.wrapping_mul(stride));
        (0..count).find(|number| self.read64(at(*number)).map_or(true, |word| word & bits != 0))
    }

    /// Fills `buffer` from `pa` on, in no particular units.
    ///
    /// # Errors
    /// [`Abort`] when nothing answers somewhere in the range.
    fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), Abort>;

    /// Writes `bytes` from `pa` on, in no particular units.
    ///
    /// # Errors
    /// [`Abort`] when nothing answers somewhere in the range; part of it may have been written.
    fn write(&self, pa: u64, bytes: &[u8]) -> Result<(), Abort>;
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<M: Memory + ?Sized> Memory for $pointer {
            fn read64(&self, pa: u64) -> Result<u64, Abort> {
                (**self).read64(pa)
            }
            fn write64(&self, pa: u64, value: u64) -> Result<(), Abort> {
                (**self).write64(pa, value)
            }
            fn compare_exchange64(&self, pa: u64, current: u64, new: u64) -> Result<u64, Abort> {
                (**self).compare_exchange64(pa, current, new)
            }
            fn find64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
                (**self).find64(pa, stride, count, bits)
            }
            fn find_any64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
                (**self).find_any64(pa, stride, count, bits)
            }
            fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), Abort> {
                (**self).read(pa, buffer)
            }
            fn write(&self, pa: u64, bytes: &[u8]) -> Result<(), Abort> {
                (**self).write(pa, bytes)
            }
        }
    )*};
}
forward!(&M, Rc<M>, Arc<M>, Box<M>);

/// One run of RAM, zero at first; everything outside of it aborts, and so do ranges that were broken on
/// purpose.
#[derive(Debug)]
pub struct Ram {
    base: u64,
    words: Box<[AtomicU64]>,
    broken: Mutex<Vec<(u64, u64)>>,
    /// Whether anything is broken: only then the list is looked at.
    any_broken: AtomicBool,
}

impl Ram {
    /// RAM of `bytes` bytes from physical address `base` on; both are rounded down to 8.
    pub fn new(base: u64, bytes: usize) -> Self {
        let words = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
        Self {
            base: base & !7,
            words,
            broken: Mutex::default(),
            any_broken: AtomicBool::new(false),
        }
    }

    /// From now on, words in `bytes` bytes from `pa` on abort.
    pub fn break_range(&self, pa: u64, bytes: u64) {
        let mut broken = self.broken_ranges();
        broken.push((pa, pa.saturating_add(bytes)));
        self.any_broken.store(true, Ordering::Release);
    }

    /// Nothing is broken any more.
    pub fn repair(&self) {
        let mut broken = self.broken_ranges();
        broken.clear();
        self.any_broken.store(false, Ordering::Release);
    }

    fn broken_ranges(&self) -> std::sync::MutexGuard<'_, Vec<(u64, u64)>> {
        // A list of numbers is valid whatever a panicking holder did to it.
        self.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The word that holds byte `pa`.
    fn slot(&self, pa: u64) -> Result<&AtomicU64, Abort> {
        let broken = self.any_broken.load(Ordering::Acquire)
            && self.broken_ranges().iter().any(|(from, to)| (*from..*to).contains(&pa));
        let index = pa.checked_sub(self.base).map(|offset| offset / 8);
        match index.and_then(|index| self.words.get(usize::try_from(index).ok()?)) {
            Some(word) if !broken => Ok(word),
            _ => Err(Abort { pa }),
        }
    }
}

impl Memory for Ram {
    fn read64(&self, pa: u64) -> Result<u64, Abort> {
        if pa & 7 != 0 {
            return Err(Abort { pa });
        }
        Ok(self.slot(pa)?.load(Ordering::Acquire))
    }

    fn write64(&self, pa: u64, value: u64) -> Result<(), Abort> {
        if pa & 7 != 0 {
            return Err(Abort { pa });
        }
        self.slot(pa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn compare_exchange64(&self, pa: u64, current: u64, new: u64) -> Result<u64, Abort> {
        if pa & 7 != 0 {
            return Err(Abort { pa });
        }
        let word = self.slot(pa)?;
        let seen = word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire);
        Ok(seen.unwrap_or_else(|seen| seen))
    }

    fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), Abort> {
        for (at, byte) in (pa..=u64::MAX).zip(buffer) {
            let word = self.slot(at)?.load(Ordering::Acquire);
            *byte = (word >> (8 * (at & 7))) as u8;
        }
        Ok(())
    }

    fn write(&self, pa: u64, bytes: &[u8]) -> Result<(), Abort> {
        for (at, byte) in (pa..=u64::MAX).zip(bytes) {
            let shift = 8 * (at & 7);
            let change = |word: u64| Some(word & !(0xff << shift) | u64::from(*byte) << shift);
            // The closure never declines, so the update cannot fail.
            let _ = self.slot(at)?.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        }
        Ok(())
    }
}
