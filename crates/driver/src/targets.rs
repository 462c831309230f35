// SPDX-License-Identifier: MIT OR Apache-2.0
//! A snapshot that is read without a lock and replaced whole: who must be told of an invalidation.
//!
//! Readers announce themselves in one of two counters of their CPU's shard; which one, the *phase* says. Who
//! replaces a snapshot then waits for a *grace period*, in which every reader of the old one has left: the
//! phase is flipped twice, and after each flip the counters of the phase before run dry. Two flips,
//! since a reader may have read the phase just before the first one and announced itself just after.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use crate::room::Room;
use crate::shared::NoMemory;
use crate::sync::{AtomicPtr, AtomicUsize, Line, Ordering, fence};

/// The counters of all readers of one `Iommu`'s snapshots.
pub(crate) struct Readers {
    phase: AtomicUsize,
    /// A power of two of them.
    shards: Vec<Line<[AtomicUsize; 2]>>,
}

impl Readers {
    /// For so many CPUs.
    pub(crate) fn new(cpus: usize) -> Result<Self, NoMemory> {
        // `None` beyond the largest power of two: there is no memory for so many anyway.
        let count = cpus.checked_next_power_of_two().ok_or(NoMemory)?;
        let mut shards = Vec::new();
        shards.room_exact(count)?;
        for _ in 0..count {
            shards.put(Line([AtomicUsize::new(0), AtomicUsize::new(0)]));
        }
        Ok(Self { phase: AtomicUsize::new(0), shards })
    }

    /// Runs `read` on the snapshot, in a [`Readers::section`].
    #[inline]
    pub(crate) fn read<T, R>(
        &self,
        cpu: usize,
        snapshot: &Snapshot<T>,
        read: impl FnOnce(&T) -> R,
    ) -> R {
        read(&self.section(cpu, snapshot))
    }

    /// The snapshot. Whoever replaces it meanwhile does not free it before what is returned is dropped, and waits for
    /// that: until then the caller takes no lock that is held during a grace period, and waits for nothing.
    ///
    /// What the caller stored before this call is visible to whoever replaces the snapshot after the caller saw
    /// the old one, and the reverse (rule R5): one of the two sees the other.
    #[inline]
    pub(crate) fn section<'a, T>(
        &'a self,
        cpu: usize,
        snapshot: &'a Snapshot<T>,
    ) -> Section<'a, T> {
        let count = self.counted(cpu);
        // Pairs with the fences of `grace`: either it sees the count, or the load below sees its snapshot.
        fence(Ordering::SeqCst);
        // SAFETY: the pointer came from a box; its owner frees it only after a grace period, which waits for
        // the count that was just raised, and is lowered when this is dropped.
        let value = unsafe { &*snapshot.current.load(Ordering::Acquire) };
        Section { value, count }
    }

    /// Says that the caller is here, until what is returned is dropped, to whoever waits for a grace period that comes behind one
    /// of other readers, of whom the caller is one when it calls this.
    #[inline]
    pub(crate) fn stay(&self, cpu: usize) -> Stay<'_> {
        // As in `section`, but without a fence: who waits has seen the end of the caller's section, and so this.
        Stay(self.counted(cpu))
    }

    /// Counts the caller, in the counter that is returned.
    #[cfg_attr(feature = "fast-paths", inline)]
    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    fn counted(&self, cpu: usize) -> &AtomicUsize {
        // There is at least one shard, and their number is a power of two, so this is in range.
        let shard = &self.shards[cpu & (self.shards.len() - 1)];
        let count = &shard.0[self.phase.load(Ordering::Relaxed) & 1];
        count.fetch_add(1, Ordering::Relaxed);
        count
    }

    /// Waits until every `read` that may have seen a replaced snapshot has returned. Only one caller at a
    /// time (under the configuration mutex); `relax` is called while waiting.
    #[inline(never)]
    pub(crate) fn grace(&self, relax: &dyn Fn()) {
        self.flip(relax);
        self.flip(relax);
        fence(Ordering::SeqCst);
    }

    /// Sends new readers to the other counters, and waits for those who use these.
    #[inline(never)]
    fn flip(&self, relax: &dyn Fn()) {
        fence(Ordering::SeqCst);
        let old = self.phase.load(Ordering::Relaxed) & 1;
        self.phase.store(old ^ 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for shard in &self.shards {
            while shard.0[old].load(Ordering::Acquire) != 0 {
                relax();
            }
        }
    }
}

/// A snapshot that is being read.
#[must_use]
pub(crate) struct Section<'a, T> {
    value: &'a T,
    count: &'a AtomicUsize,
}

impl<T> Deref for Section<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Section<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Release);
    }
}

/// See [`Readers::stay`].
#[must_use]
pub(crate) struct Stay<'a>(&'a AtomicUsize);

impl Drop for Stay<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// The current value, behind a pointer.
pub(crate) struct Snapshot<T> {
    current: AtomicPtr<T>,
}

// SAFETY: readers share `&T` between threads, and the last owner may be any thread.
unsafe impl<T: Send + Sync> Sync for Snapshot<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Send for Snapshot<T> {}

impl<T> Snapshot<T> {
    pub(crate) fn new(value: Box<T>) -> Self {
        Self { current: AtomicPtr::new(Box::into_raw(value)) }
    }

    /// Puts `new` in place of the current value, which must outlive a grace period.
    ///
    /// Rule R5: unmap clears descriptors, then reads the snapshot; attach calls this, then lets hardware walk.
    /// Either the unmap finds `new`, or the walk finds the cleared descriptors.
    ///
    /// Only one caller at a time (under the configuration mutex).
    pub(crate) fn replace(&self, new: Box<T>) -> Retired<T> {
        let retired = self.swap(new);
        // Pairs with the fence of `read`: either that reader sees `new`, or what follows here sees what it
        // stored before.
        fence(Ordering::SeqCst);
        retired
    }

    fn swap(&self, new: Box<T>) -> Retired<T> {
        let old = self.current.swap(Box::into_raw(new), Ordering::AcqRel);
        // SAFETY: it came from a box, and the swap made this call its only owner.
        Retired(ManuallyDrop::new(unsafe { Box::from_raw(old) }))
    }

    /// The current value, for the only caller that may replace it (under the configuration mutex).
    pub(crate) fn for_writer(&self) -> &T {
        // SAFETY: it came from a box, and is retired only by the caller itself.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }
}

impl<T> Drop for Snapshot<T> {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and nobody else has a reference to `self` any more.
        drop(unsafe { Box::from_raw(self.current.load(Ordering::Acquire)) });
    }
}

/// A replaced value that readers may still see. It is freed by [`Retired::free`] after a grace period;
/// dropped without, it leaks.
#[must_use]
pub(crate) struct Retired<T>(ManuallyDrop<Box<T>>);

impl<T> Retired<T> {
    /// Waits until nobody can see the values any more, then frees them.
    pub(crate) fn free(
        retired: impl IntoIterator<Item = Option<Self>>,
        readers: &Readers,
        relax: impl Fn(),
    ) {
        readers.grace(&relax);
        for value in retired.into_iter().flatten() {
            drop(ManuallyDrop::into_inner(value.0));
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
