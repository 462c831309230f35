// SPDX-License-Identifier: MIT OR Apache-2.0
//! Heap memory whose allocation can fail.

use alloc::alloc::alloc;
use alloc::boxed::Box;
use core::alloc::Layout;
use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::fence;

use crate::sync::Ordering;
use crate::sync::plain::AtomicUsize;

/// There is no heap memory left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory")
    }
}

impl core::error::Error for NoMemory {}

/// `Box::new` that fails instead of aborting.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>, NoMemory> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        // SAFETY: a box of a type without bytes is a dangling, aligned pointer.
        return Ok(unsafe { Box::from_raw(NonNull::<T>::dangling().as_ptr()) });
    }
    // SAFETY: the layout has bytes.
    let memory = unsafe { alloc(layout) }.cast::<T>();
    if memory.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: `memory` is a fresh allocation of `T`'s layout from the global allocator, as a box's is, and
    // holds a value after the write.
    unsafe {
        memory.write(value);
        Ok(Box::from_raw(memory))
    }
}

/// A reference-counted value: `Arc`, but its allocation can fail.
pub(crate) struct Shared<T> {
    counted: NonNull<Counted<T>>,
}

struct Counted<T> {
    holders: AtomicUsize,
    value: T,
}

// SAFETY: as for `Arc`: holders on several threads share `&T`, and the last one drops `T`.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above; a `&Shared` can be cloned into a `Shared`.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Result<Self, NoMemory> {
        let counted = try_box(Counted { holders: AtomicUsize::new(1), value })?;
        Ok(Self { counted: NonNull::from(Box::leak(counted)) })
    }

    /// Whether both are the same value.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.counted == other.counted
    }

    /// Ends the value.
    ///
    /// # Safety
    /// The last holder calls this, and does not use the value any more.
    #[inline(never)]
    unsafe fn end(&self) {
        // Whatever other holders did with the value comes before its end.
        fence(Ordering::Acquire);
        // SAFETY: nobody has the value any more, and the pointer came from a box.
        drop(unsafe { Box::from_raw(self.counted.as_ptr()) });
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: the value lives until its last holder is dropped, and `self` is one.
        unsafe { self.counted.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // Relaxed: a holder exists already, so the value cannot be dropped meanwhile. The count cannot
        // overflow: every holder takes at least a pointer's bytes of memory.
        self.counted().holders.fetch_add(1, Ordering::Relaxed);
        Self { counted: self.counted }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    #[inline(never)]
    fn drop(&mut self) {
        if self.counted().holders.fetch_sub(1, Ordering::Release) == 1 {
            // SAFETY: this was the last holder.
            unsafe { self.end() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_holder_drops_the_value() {
        struct Dropped<'a>(&'a AtomicUsize);
        impl Drop for Dropped<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let drops = AtomicUsize::new(0);
        let first = Shared::new(Dropped(&drops)).unwrap();
        let second = first.clone();
        assert!(first.is(&second));
        drop(first);
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        assert_eq!(second.0.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_value_without_bytes_can_be_boxed() {
        let () = *try_box(()).unwrap();
    }
}
