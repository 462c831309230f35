// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocation of small numbers (ASIDs): a bitmap, and above it a bitmap of its words that are full.

use alloc::vec::Vec;

use crate::shared::NoMemory;

/// Which free number is given out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The lowest.
    Ascending,
    /// The highest, so that the low ones stay free for whoever cannot use others.
    Descending,
}

/// The numbers 1 to 2^bits - 1, each free or taken. 0 is never given out.
pub(crate) struct Ids {
    /// A bit a number: taken.
    taken: Vec<u64>,
    /// A bit a word of `taken`: all its numbers are taken.
    full: Vec<u64>,
    order: Order,
}

impl Ids {
    /// For numbers of `bits` bits, 6 to 16.
    pub(crate) fn new(bits: u32, order: Order) -> Result<Self, NoMemory> {
        let words = 1usize << (bits.clamp(6, 16) - 6);
        let mut ids = Self { taken: zeroed(words)?, full: zeroed(words.div_ceil(64))?, order };
        // Words that do not exist have no free number.
        if let (Some(last), rest @ 1..) = (ids.full.last_mut(), words % 64) {
            *last = u64::MAX << rest;
        }
        ids.set(0, true);
        Ok(ids)
    }

    /// A free number, taken from now on.
    pub(crate) fn allocate(&mut self) -> Option<u16> {
        let find = |map: &[u64]| match self.order {
            Order::Ascending => map
                .iter()
                .position(|word| *word != u64::MAX)
                .map(|index| index * 64 + map[index].trailing_ones() as usize),
            Order::Descending => map
                .iter()
                .rposition(|word| *word != u64::MAX)
                .map(|index| index * 64 + 63 - map[index].leading_ones() as usize),
        };
        let word = find(&self.full)?;
        let bit = find(self.taken.get(word..=word)?)?;
        // At most 16 bits: `taken` has at most 1024 words.
        let id = (word * 64 + bit) as u16;
        self.set(id, true);
        Some(id)
    }

    /// Gives `id` back. Nothing may carry it any more.
    pub(crate) fn release(&mut self, id: u16) {
        debug_assert!(id != 0);
        self.set(id, false);
    }

    fn set(&mut self, id: u16, taken: bool) {
        let (word, bit) = (usize::from(id) / 64, id % 64);
        let Some(entry) = self.taken.get_mut(word) else { return };
        *entry = *entry & !(1 << bit) | u64::from(taken) << bit;
        let full = *entry == u64::MAX;
        if let Some(summary) = self.full.get_mut(word / 64) {
            *summary = *summary & !(1 << (word % 64)) | u64::from(full) << (word % 64);
        }
    }
}

fn zeroed(words: usize) -> Result<Vec<u64>, NoMemory> {
    let mut map = Vec::new();
    map.try_reserve_exact(words).map_err(|_| NoMemory)?;
    map.extend(core::iter::repeat_n(0, words));
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_number_but_zero_is_given_out_once() {
        for (bits, order) in [
            (6, Order::Ascending),
            (8, Order::Ascending),
            (8, Order::Descending),
            (16, Order::Descending),
        ] {
            let mut ids = Ids::new(bits, order).unwrap();
            let all: Vec<u16> = core::iter::from_fn(|| ids.allocate()).collect();
            assert_eq!(all.len(), (1 << bits) - 1);
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            assert!(all.iter().all(|id| *id != 0 && u32::from(*id) < 1 << bits));
            assert_eq!(ids.allocate(), None);
            ids.release(all[7]);
            assert_eq!(ids.allocate(), Some(all[7]));
        }
    }

    #[test]
    fn wide_instances_leave_the_low_numbers_free() {
        let mut ids = Ids::new(16, Order::Descending).unwrap();
        assert_eq!((ids.allocate(), ids.allocate()), (Some(0xffff), Some(0xfffe)));
        let mut ids = Ids::new(8, Order::Ascending).unwrap();
        assert_eq!((ids.allocate(), ids.allocate()), (Some(1), Some(2)));
    }
}
