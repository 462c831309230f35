// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers by keys of 64 bits that devices choose, in storage that does not grow: a tree of the bits in which keys differ.
//! Whatever keys there are, one is found, added or removed in as many steps as it has bits, at most.

use alloc::vec::Vec;

use crate::room::Room;
use crate::shared::NoMemory;

/// A map from keys to numbers: each number has at most one key.
pub(crate) struct Index {
    /// The key of each number; it means something only if the tree leads to the number.
    keys: Vec<u64>,
    forks: Vec<Fork>,
    /// A fork, or a number with [`LEAF`], or [`NONE`]. So are the children of forks.
    root: u32,
    /// The first fork that is not in use; a free fork's first child is the next free one.
    free: u32,
}

struct Fork {
    /// All keys below are the same above this bit. Forks below are at lower bits.
    bit: u32,
    /// The subtree in which the bit is 0, and the one in which it is 1.
    children: [u32; 2],
}

const NONE: u32 = u32::MAX;
const LEAF: u32 = 1 << 31;

const fn bit_of(key: u64, bit: u32) -> bool {
    key >> bit & 1 != 0
}

impl Fork {
    fn child(&self, side: bool) -> u32 {
        let [zero, one] = self.children;
        if side { one } else { zero }
    }
}

impl Index {
    /// For the numbers below `most`, which is less than 2^31.
    pub(crate) fn new(most: u32) -> Result<Self, NoMemory> {
        let (mut keys, mut forks) = (Vec::new(), Vec::new());
        keys.room_exact(most as usize)?;
        forks.room_exact(most as usize)?;
        for index in 0..most {
            keys.put(0);
            let next = if index + 1 == most { NONE } else { index + 1 };
            forks.put(Fork { bit: 0, children: [next, NONE] });
        }
        Ok(Self { keys, forks, root: NONE, free: if most == 0 { NONE } else { 0 } })
    }

    /// A number whose key has the same upper `bits` as `key`, if there is one.
    pub(crate) fn find(&self, key: u64, bits: u32) -> Option<u32> {
        let number = self.nearest(key)?;
        let differs = (key ^ self.key(number)?).checked_shr(64 - bits).unwrap_or(0);
        (differs == 0).then_some(number)
    }

    /// The key that `number` has, or had last.
    pub(crate) fn key(&self, number: u32) -> Option<u64> {
        self.keys.get(number as usize).copied()
    }

    /// Gives `number`, which has none, the key `key`; false if another has it.
    pub(crate) fn insert(&mut self, key: u64, number: u32) -> bool {
        let leaf = number | LEAF;
        match self.nearest(key).and_then(|nearest| self.key(nearest)) {
            None => self.root = leaf,
            Some(nearest) => {
                let Some(bit) = (key ^ nearest).checked_ilog2() else { return false };
                // There is a free fork: fewer are in use than there are numbers.
                let new = self.free;
                let (mut above, mut at) = (None, self.root);
                while let Some(fork) = self.fork(at).filter(|fork| fork.bit > bit) {
                    (above, at) = (Some(at), fork.child(bit_of(key, fork.bit)));
                }
                let Some(fork) = self.forks.get_mut(new as usize) else { return false };
                self.free = fork.child(false);
                let children = if bit_of(key, bit) { [at, leaf] } else { [leaf, at] };
                *fork = Fork { bit, children };
                self.link(above, key, new);
            }
        }
        if let Some(own) = self.keys.get_mut(number as usize) {
            *own = key;
        }
        true
    }

    /// Takes `key` off, and returns its number.
    pub(crate) fn remove(&mut self, key: u64) -> Option<u32> {
        let (mut above, mut last, mut at) = (None, None, self.root);
        while let Some(fork) = self.fork(at) {
            (above, last, at) = (last, Some(at), fork.child(bit_of(key, fork.bit)));
        }
        let number = (at != NONE).then_some(at & !LEAF)?;
        if self.key(number) != Some(key) {
            return None;
        }
        let Some(index) = last else {
            self.root = NONE;
            return Some(number);
        };
        let free = self.free;
        if let Some(fork) = self.forks.get_mut(index as usize) {
            let other = fork.child(!bit_of(key, fork.bit));
            fork.children = [free, NONE];
            self.free = index;
            self.link(above, key, other);
        }
        Some(number)
    }

    /// Takes the key of `number` off, if it has one.
    pub(crate) fn remove_number(&mut self, number: u32) {
        if let Some(key) = self.key(number)
            && self.find(key, u64::BITS) == Some(number)
        {
            self.remove(key);
        }
    }

    /// The number that the way for `key` leads to: no other key has more upper bits in common with it.
    fn nearest(&self, key: u64) -> Option<u32> {
        let mut at = self.root;
        while let Some(fork) = self.fork(at) {
            at = fork.child(bit_of(key, fork.bit));
        }
        (at != NONE).then_some(at & !LEAF)
    }

    fn fork(&self, at: u32) -> Option<&Fork> {
        // A leaf or [`NONE`] is beyond the number of forks, so that this is `None`.
        self.forks.get(at as usize)
    }

    /// Lets the way to `key` below the fork `above`, or the root, lead to `to`.
    fn link(&mut self, above: Option<u32>, key: u64, to: u32) {
        let Some(above) = above else {
            self.root = to;
            return;
        };
        if let Some(fork) = self.forks.get_mut(above as usize) {
            let [zero, one] = &mut fork.children;
            *(if bit_of(key, fork.bit) { one } else { zero }) = to;
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::*;

    /// The longest way from the root.
    fn depth(index: &Index, at: u32) -> u32 {
        let below = |fork: &Fork| fork.children.map(|child| depth(index, child)).into_iter().max();
        index.fork(at).and_then(below).map_or(0, |below| below + 1)
    }

    #[test]
    fn it_is_a_map_whatever_comes_and_goes() {
        const MOST: u32 = 64;
        let mut index = Index::new(MOST).unwrap();
        let mut expected = BTreeMap::new();
        let mut free: Vec<u32> = (0..MOST).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            // Few keys, so that they meet: dense ones, and ones that differ in any bit.
            let key = if state >> 63 == 0 { state >> 56 & 0x3f } else { 1 << (state >> 56 & 0x3f) };
            if state >> 55 & 1 == 0 {
                if let Some(number) = free.pop() {
                    let new = !expected.contains_key(&key);
                    assert_eq!(index.insert(key, number), new, "{round}");
                    if new {
                        expected.insert(key, number);
                    } else {
                        free.push(number);
                    }
                }
            } else {
                let number = expected.remove(&key);
                assert_eq!(index.remove(key), number, "{round}");
                free.extend(number);
            }
            assert_eq!(index.find(key, 64), expected.get(&key).copied(), "{round}");
            for bits in [0, 1, 20, 61, 63] {
                let same = |other: &u64| (other ^ key).checked_shr(64 - bits).unwrap_or(0) == 0;
                let found = index.find(key, bits).and_then(|number| index.key(number));
                assert_eq!(found.is_some(), expected.keys().any(same), "{round} {bits}");
                assert!(found.is_none_or(|key| same(&key) && expected.contains_key(&key)));
            }
        }
        for number in 0..MOST {
            index.remove_number(number);
            index.remove_number(number);
        }
        assert_eq!(index.find(0, 0), None);
    }

    /// As many steps as keys have bits, at most: also for keys that are chosen for many.
    #[test]
    fn no_way_is_longer_than_a_key() {
        let mut index = Index::new(4096).unwrap();
        for number in 0..4096u32 {
            let key = if number < 64 { 1 << number } else { u64::from(number) * 3 };
            index.insert(key, number);
        }
        assert!(depth(&index, index.root) <= 64);
    }

    #[test]
    fn without_numbers_there_is_nothing() {
        let mut index = Index::new(0).unwrap();
        assert_eq!((index.find(1, 64), index.find(1, 0), index.remove(1)), (None, None, None));
    }
}
