// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things that keep their index for as long as they are there.

use alloc::vec::Vec;

use crate::room::Room;
use crate::shared::NoMemory;

pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    /// Indices of empty slots; with room for all of them.
    vacant: Vec<usize>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new() }
    }

    /// Makes room for `count` more.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), NoMemory> {
        self.slots.room(count)?;
        let slots = self.slots.len() + count;
        self.vacant.room(slots - self.vacant.len())
    }

    /// Puts `value` where there is room ([`Slab::reserve`]); its index.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        let index = self.vacant.pop().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.put(None);
        }
        // One that is vacant is empty.
        if let Some(slot @ None) = self.slots.get_mut(index) {
            *slot = Some(value);
        }
        index
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        let value = self.slots.get_mut(index)?.take()?;
        self.vacant.put(index);
        Some(value)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.slots.get(index)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    /// One more than the largest index ever used.
    pub(crate) fn end(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
