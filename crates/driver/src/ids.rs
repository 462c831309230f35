// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocation of small numbers (ASIDs, PASIDs): a bitmap, and above it a bitmap of its words that are full.

use alloc::vec::Vec;

use crate::room::Room;
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
    bits: u32,
    free: usize,
}

impl Ids {
    /// All numbers of `bits` bits, 6 to 20, free.
    pub(crate) fn new(bits: u32) -> Result<Self, NoMemory> {
        let bits = bits.clamp(6, 20);
        let words = 1usize << (bits - 6);
        let (taken, full) = (zeroed(words)?, zeroed(words.div_ceil(64))?);
        let mut ids = Self { taken, full, bits, free: 1 << bits };
        ids.take(0);
        Ok(ids)
    }

    /// How many are free.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// How many somebody has.
    pub(crate) fn used(&self) -> usize {
        // Number 0 counts neither as free nor as used.
        (1 << self.bits) - 1 - self.free
    }

    /// How many of at most `bits` bits (6 at least) are free.
    pub(crate) fn free_within(&self, bits: u32) -> usize {
        if bits >= self.bits {
            return self.free;
        }
        let words = self.taken.iter().take(1 << (bits.max(6) - 6));
        words.map(|word| word.count_zeros() as usize).sum()
    }

    /// Whether nobody has `id`.
    pub(crate) fn is_free(&self, id: u32) -> bool {
        self.taken.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 0)
    }

    /// A free number of at most `bits` bits (6 at least), taken from now on.
    pub(crate) fn allocate(&mut self, bits: u32, order: Order) -> Option<u32> {
        let words = 1usize << (bits.max(6).min(self.bits) - 6);
        // The words of a group that numbers of `bits` bits lie in: fewer than 64 only if there is just one group.
        let counting = if words < 64 { (1u64 << words) - 1 } else { u64::MAX };
        let groups = self.full.get(..words.div_ceil(64))?;
        let available = |(group, full): (usize, &u64)| {
            let free = !full & counting;
            (free != 0).then_some((group, free))
        };
        let mut groups = groups.iter().enumerate();
        let (group, free) = match order {
            Order::Ascending => groups.find_map(available),
            Order::Descending => groups.rev().find_map(available),
        }?;
        // The first of the set bits, in the order asked for.
        let first = |bits: u64| match order {
            Order::Ascending => bits.trailing_zeros(),
            Order::Descending => 63 ^ bits.leading_zeros(),
        };
        let word = group * 64 + first(free) as usize;
        let entry = self.taken.get_mut(word)?;
        // The word is not full, since its bit in `full` is 0.
        let bit = first(!*entry);
        *entry |= 1 << bit;
        self.free -= 1;
        if *entry == u64::MAX {
            *self.full.get_mut(group)? |= 1 << (word % 64);
        }
        // At most 20 bits.
        Some(word as u32 * 64 + bit)
    }

    /// Takes `id`; false when somebody has it already, or it is too large.
    pub(crate) fn take(&mut self, id: u32) -> bool {
        self.set(id, true)
    }

    /// Gives `id` back. Nothing may carry it any more.
    pub(crate) fn release(&mut self, id: u32) {
        debug_assert!(id != 0);
        self.set(id, false);
    }

    /// Marks `id` as taken or free. Returns whether that changed anything.
    fn set(&mut self, id: u32, taken: bool) -> bool {
        let (word, bit) = (id as usize / 64, id % 64);
        let Some(entry) = self.taken.get_mut(word) else { return false };
        let before = *entry;
        *entry = before & !(1 << bit) | u64::from(taken) << bit;
        if *entry == before {
            return false;
        }
        // The bit has changed, so the number was free before, or is now.
        self.free = if taken { self.free - 1 } else { self.free + 1 };
        let full = *entry == u64::MAX;
        if let Some(summary) = self.full.get_mut(word / 64) {
            *summary = *summary & !(1 << (word % 64)) | u64::from(full) << (word % 64);
        }
        true
    }
}

fn zeroed(words: usize) -> Result<Vec<u64>, NoMemory> {
    let mut map = Vec::new();
    map.room_exact(words)?;
    map.put_all(core::iter::repeat_n(0, words));
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_number_but_zero_is_given_out_once() {
        for (width, bits) in [(6, 6), (8, 8), (16, 16), (20, 20), (16, 8), (20, 12), (8, 16)] {
            for order in [Order::Ascending, Order::Descending] {
                let mut ids = Ids::new(width).unwrap();
                let all: Vec<u32> = core::iter::from_fn(|| ids.allocate(bits, order)).collect();
                let most = 1 << bits.min(width);
                assert_eq!(all.len(), most - 1);
                assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
                assert!(all.iter().all(|id| *id != 0 && *id < most as u32));
                assert_eq!(ids.free(), (1 << width) - most);
                ids.release(all[7]);
                assert_eq!(ids.allocate(bits, order), Some(all[7]));
            }
        }
    }

    #[test]
    fn the_order_says_which_end_is_used_first() {
        let mut ids = Ids::new(16).unwrap();
        let mut next = |bits, order| ids.allocate(bits, order);
        assert_eq!(next(16, Order::Descending), Some(0xffff));
        assert_eq!(next(16, Order::Descending), Some(0xfffe));
        assert_eq!(next(8, Order::Descending), Some(0xff));
        assert_eq!(next(8, Order::Ascending), Some(1));
        assert_eq!(next(16, Order::Ascending), Some(2));
    }

    #[test]
    fn a_number_that_is_taken_by_name_is_not_given_out() {
        let mut ids = Ids::new(8).unwrap();
        assert!(ids.take(1) && !ids.take(1) && !ids.take(0) && !ids.take(256));
        assert_eq!(ids.allocate(8, Order::Ascending), Some(2));
        ids.release(1);
        assert_eq!(ids.free(), 254);
        assert_eq!(ids.used(), 1);
        assert!(ids.take(1));
    }

    #[test]
    fn free_numbers_are_counted_up_to_a_width() {
        let mut ids = Ids::new(16).unwrap();
        let counts = |ids: &Ids| [6, 8, 10, 16, 20].map(|bits| ids.free_within(bits));
        assert_eq!(counts(&ids), [63, 255, 1023, 65535, 65535]);
        assert!(ids.take(3) && ids.take(64) && ids.take(256) && ids.take(0xffff));
        assert_eq!(counts(&ids), [62, 253, 1020, 65531, 65531]);
    }
}
