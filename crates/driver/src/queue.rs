// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arithmetic of circular queues, once for all of them (§3.1).
//!
//! A *position* counts entries since the queue began and never wraps. The hardware's PROD and CONS are
//! positions modulo twice the size: index bits and, above them, the wrap bit.

/// The size of a queue: 2^log2 entries, 1 to 2^19.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The bits of a slot: a power of two, less one.
    slot: u32,
    /// Those of a register: one more.
    register: u32,
}

impl Size {
    /// A queue of 2^`log2` entries; `None` above 2^19 (§2.3).
    pub const fn new(log2: u32) -> Option<Self> {
        if log2 > 19 {
            return None;
        }
        Some(Self { slot: (1 << log2) - 1, register: (2 << log2) - 1 })
    }

    /// log2 of the number of entries, as the base registers take it.
    #[inline]
    pub const fn log2(self) -> u32 {
        self.slot.trailing_ones()
    }

    /// Number of entries.
    #[inline]
    pub const fn entries(self) -> u64 {
        self.slot as u64 + 1
    }

    /// What a register shows for `position`: index and wrap bit.
    #[inline]
    pub const fn register(self, position: u64) -> u32 {
        self.shown().at(position)
    }

    /// The mask that [`Size::register`] needs, in one word.
    #[inline]
    pub(crate) const fn shown(self) -> Shown {
        Shown(self.register)
    }

    /// The slot of `position`.
    #[inline]
    pub const fn slot(self, position: u64) -> usize {
        // At most 19 bits are left.
        (position & self.slot as u64) as usize
    }

    /// The first position from `behind` on that shows as `register`: less than two queues ahead.
    #[inline]
    pub const fn after(self, behind: u64, register: u32) -> u64 {
        behind + self.ahead(behind, register)
    }

    /// By how much [`Size::after`] is ahead of `behind`.
    #[inline]
    pub(crate) const fn ahead(self, behind: u64, register: u32) -> u64 {
        (register as u64).wrapping_sub(behind) & self.register as u64
    }

    /// A quarter of the entries, less one where that has no remainder: what costs least to find out.
    #[inline]
    pub(crate) const fn quarter(self) -> u64 {
        (self.slot >> 2) as u64
    }

    /// The position that `register` shows, given a `behind` that is not ahead of it and not more than one
    /// queue behind.
    ///
    /// # Errors
    /// [`Inconsistent`] when no position from `behind` to `behind` + entries shows as `register`.
    #[inline]
    pub const fn position(self, behind: u64, register: u32) -> Result<u64, Inconsistent> {
        let position = self.after(behind, register);
        if position - behind > self.entries() {
            return Err(Inconsistent { expected: self.register(behind), register });
        }
        Ok(position)
    }
}

/// See [`Size::shown`].
#[derive(Clone, Copy)]
pub(crate) struct Shown(u32);

impl Shown {
    /// As [`Size::register`].
    #[inline]
    pub(crate) const fn at(self, position: u64) -> u32 {
        // At most 20 bits are left.
        (position & self.0 as u64) as u32
    }
}

/// The element of `position` in a ring of 2^n elements; `None` in an empty one.
#[inline]
pub(crate) fn at<T>(ring: &[T], position: u64) -> Option<&T> {
    let last = ring.len().checked_sub(1)?;
    // What is cut off by a narrow `usize` is masked out anyway.
    // SAFETY: at most `last`, which is an index.
    Some(unsafe { ring.get_unchecked(position as usize & last) })
}

/// An index register shows what no consistent queue can show (§3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inconsistent {
    /// The last value that made sense.
    pub expected: u32,
    /// The value read.
    pub register: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_every_wrap_of_every_size() {
        for log2 in [0, 1, 2, 5, 19] {
            let size = Size::new(log2).unwrap();
            let laps = if log2 > 10 { 3 } else { 5 * size.entries() };
            for behind in (0..laps).map(|lap| lap * size.entries().max(1) / 2) {
                for ahead in [0, 1, size.entries() / 2, size.entries()] {
                    let register = size.register(behind + ahead);
                    assert_eq!(size.position(behind, register), Ok(behind + ahead));
                }
            }
        }
    }

    #[test]
    fn a_register_that_ran_ahead_of_the_producer_is_inconsistent() {
        let size = Size::new(2).unwrap();
        assert_eq!(size.position(0, 5), Err(Inconsistent { expected: 0, register: 5 }));
        // Going back is the same as being nearly two queues ahead.
        assert!(size.position(3, 2).is_err());
        assert_eq!(Size::new(20), None);
    }

    #[test]
    fn a_queue_of_one_entry_has_only_the_wrap_bit() {
        let size = Size::new(0).unwrap();
        assert_eq!((size.register(0), size.register(1), size.register(2)), (0, 1, 0));
        assert_eq!(size.slot(7), 0);
    }
}
