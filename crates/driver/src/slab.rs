// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things that keep their index for as long as they are there.

use alloc::vec::Vec;
use core::mem;

use crate::room::Room;
use crate::shared::NoMemory;

pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The slot that is used next: one that is vacant, or the one after the last.
    next: usize,
}

enum Slot<T> {
    Taken(T),
    /// With the slot that is used after it.
    Vacant(usize),
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), next: 0 }
    }

    /// Makes room for `count` more.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), NoMemory> {
        self.slots.room(count)
    }

    /// Puts `value` where there is room ([`Slab::reserve`]); its index.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        let index = self.next;
        debug_assert!(index < self.slots.capacity(), "no room was made");
        if index == self.slots.len() && index < self.slots.capacity() {
            self.slots.push(Slot::Vacant(index + 1));
        }
        if let Some(slot) = self.slots.get_mut(index)
            && let Slot::Vacant(next) = *slot
        {
            // A vacant slot has nothing to drop; plain assignment would compile the drop of a value here.
            mem::forget(mem::replace(slot, Slot::Taken(value)));
            self.next = next;
        }
        index
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        let slot = self.slots.get_mut(index).filter(|slot| slot.taken().is_some())?;
        match mem::replace(slot, Slot::Vacant(mem::replace(&mut self.next, index))) {
            Slot::Taken(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.slots.get(index)?.taken()
    }

    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match self.slots.get_mut(index)? {
            Slot::Taken(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.taken()?)))
    }

    /// One more than the largest index ever used.
    pub(crate) fn end(&self) -> usize {
        self.slots.len()
    }
}

impl<T> Slot<T> {
    fn taken(&self) -> Option<&T> {
        match self {
            Self::Taken(value) => Some(value),
            Self::Vacant(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_last_is_used_first() {
        let mut slab = Slab::new();
        slab.reserve(4).unwrap();
        for index in 0..4 {
            assert_eq!(slab.insert(index), index);
        }
        assert_eq!([2, 0, 3].map(|index| slab.remove(index)), [Some(2), Some(0), Some(3)]);
        slab.reserve(3).unwrap();
        assert_eq!([5, 6, 7].map(|value| slab.insert(value)), [3, 0, 2]);
        slab.reserve(1).unwrap();
        assert_eq!((slab.insert(8), slab.end()), (4, 5));
    }

    #[test]
    fn indices_stay_and_are_used_again() {
        let mut slab = Slab::new();
        slab.reserve(3).unwrap();
        assert_eq!([slab.insert('a'), slab.insert('b'), slab.insert('c')], [0, 1, 2]);
        assert_eq!((slab.remove(1), slab.remove(1), slab.remove(9)), (Some('b'), None, None));
        assert_eq!((slab.get(1), slab.get(2)), (None, Some(&'c')));
        slab.reserve(1).unwrap();
        assert_eq!(slab.insert('d'), 1);
        assert_eq!(slab.iter().map(|(_, value)| *value).collect::<Vec<_>>(), ['a', 'd', 'c']);
        assert_eq!(slab.end(), 3);
    }
}
