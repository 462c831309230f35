// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists that grow where that can fail, and nowhere else: room first, then what there is room for.

use alloc::alloc::{alloc, realloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};

use crate::shared::NoMemory;

/// What lists do that never allocate unasked.
pub(crate) trait Room<T> {
    /// Makes room for `more` elements beside those that are there. Where it has to grow, it at least doubles, and has room for
    /// four: others will follow.
    fn room(&mut self, more: usize) -> Result<(), NoMemory>;

    /// As [`Room::room`], for lists that are not to grow further: with no room for others that may follow.
    fn room_exact(&mut self, more: usize) -> Result<(), NoMemory>;

    /// Adds `value`, for which there is [room](Room::room). Without, which is a mistake of the caller's, it is dropped: nothing is
    /// allocated here.
    fn put(&mut self, value: T);

    /// Adds `values`, for which there is [room](Room::room).
    fn put_all(&mut self, values: impl Iterator<Item = T>);

    /// Puts `value`, for which there is [room](Room::room), before the element at `at`, or at the end.
    fn put_at(&mut self, at: usize, value: T);
}

impl<T> Room<T> for Vec<T> {
    #[inline]
    fn room(&mut self, more: usize) -> Result<(), NoMemory> {
        // There are never more elements than there is room for; elements without bytes have room for all.
        if more <= self.capacity() - self.len() { Ok(()) } else { grow(self, more, false) }
    }

    #[inline]
    fn room_exact(&mut self, more: usize) -> Result<(), NoMemory> {
        if more <= self.capacity() - self.len() { Ok(()) } else { grow(self, more, true) }
    }

    #[inline]
    fn put(&mut self, value: T) {
        debug_assert!(self.len() < self.capacity(), "no room was made");
        if self.len() < self.capacity() {
            self.push(value);
        }
    }

    #[inline]
    fn put_all(&mut self, values: impl Iterator<Item = T>) {
        values.for_each(|value| self.put(value));
    }

    fn put_at(&mut self, at: usize, value: T) {
        self.put(value);
        let mut end = self.len().saturating_sub(1);
        while end > at {
            self.swap(end - 1, end);
            end -= 1;
        }
    }
}

/// As [`Room::room`], or [`Room::room_exact`], of a list that is too small for `more`.
#[cold]
fn grow<T>(list: &mut Vec<T>, more: usize, exact: bool) -> Result<(), NoMemory> {
    let (len, capacity) = (list.len(), list.capacity());
    // Of all that was allocated, not of the elements that are there. It is never null.
    let Some(pointer) = NonNull::new(list.as_mut_ptr().cast::<u8>()) else { return Err(NoMemory) };
    // SAFETY: the list's memory, with room for `capacity` elements, of which there are `len`.
    let grown = unsafe { memory(pointer, len, capacity, more, exact, Layout::new::<T>()) };
    let Some((pointer, capacity)) = grown else { return Err(NoMemory) };
    // SAFETY: memory of the global allocator, with room for so many elements, and the list's. What the list had took its
    // place, so that the list is overwritten, and not dropped.
    unsafe { ptr::write(list, Vec::from_raw_parts(pointer.cast().as_ptr(), len, capacity)) };
    Ok(())
}

/// Memory for more elements of the layout `one`, with what is in that at `pointer`, which it takes the place of: there are
/// `len` of `capacity`, and room for `more` is wanted. Also gives for how many it is. `None` leaves all as it is. Compiled
/// once for all lists.
///
/// # Safety
/// `pointer` is the global allocator's, for `capacity` elements, unless that is 0. Elements have bytes, and it is too small.
#[cold]
#[inline(never)]
unsafe fn memory(
    pointer: NonNull<u8>,
    len: usize,
    capacity: usize,
    more: usize,
    exact: bool,
    one: Layout,
) -> Option<(NonNull<u8>, usize)> {
    let least = if exact { 0 } else { capacity.saturating_mul(2).max(4) };
    let wanted = len.checked_add(more)?.max(least);
    let bytes = wanted.checked_mul(one.size())?;
    let layout = Layout::from_size_align(bytes, one.align()).ok()?;
    let memory = if capacity == 0 {
        // SAFETY: elements have bytes, and at least one is wanted.
        unsafe { alloc(layout) }
    } else {
        // SAFETY: a smaller layout than one that there is.
        let former =
            unsafe { Layout::from_size_align_unchecked(capacity * one.size(), one.align()) };
        // SAFETY: the caller's promise; `bytes` is not 0, and is a size for that alignment.
        unsafe { realloc(pointer.as_ptr(), former, bytes) }
    };
    Some((NonNull::new(memory)?, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_the_room_that_was_made_and_what_it_had() {
        let mut list = Vec::new();
        list.room(0).unwrap();
        assert_eq!(list.capacity(), 0);
        for round in 1..=100_u16 {
            list.room(1).unwrap();
            let pointer = list.as_ptr();
            list.put([round; 3]);
            assert_eq!(list.as_ptr(), pointer);
        }
        assert!(list.iter().copied().eq((1..=100).map(|round| [round; 3])));
        // It doubles, so it is not moved each time.
        assert_eq!(list.capacity(), 128);
        list.room(400).unwrap();
        assert_eq!(list.capacity(), 500);
        list.put_all([[0; 3]; 400].into_iter());
        assert_eq!((list.len(), list.capacity()), (500, 500));
        let (mut some, mut one) = (Vec::new(), Vec::new());
        some.room(1).unwrap();
        one.room_exact(1).unwrap();
        some.put(0_u8);
        one.put(0_u8);
        assert_eq!((some.capacity(), one.capacity()), (4, 1));
    }

    #[test]
    fn a_list_stays_as_it_is_where_there_is_no_memory() {
        let mut list = Vec::new();
        list.room(2).unwrap();
        list.put_all([1_u64, 2].into_iter());
        for more in [usize::MAX, usize::MAX / 8, usize::MAX / 16] {
            assert_eq!(list.room(more), Err(NoMemory));
            assert_eq!(list, [1, 2]);
        }
        let mut nothing: Vec<()> = Vec::new();
        nothing.room(usize::MAX).unwrap();
        nothing.put(());
        assert_eq!(nothing.len(), 1);
    }

    #[test]
    fn what_is_put_in_between_moves_the_others_up() {
        let mut list = Vec::new();
        list.room(4).unwrap();
        for (at, value) in [(0, 'd'), (0, 'a'), (1, 'c'), (1, 'b')] {
            list.put_at(at, value);
        }
        assert_eq!(list, ['a', 'b', 'c', 'd']);
    }
}
