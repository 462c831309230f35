// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that is walked.

use std::collections::BTreeMap;

/// Why a word cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gap {
    /// Nothing answers at that address: hardware gets an external abort (§9).
    Abort,
    /// The image does not hold that address: what hardware would have read is not known.
    Missing,
}

/// Physical memory at one moment. Words are little-endian numbers of 64 bits at aligned addresses.
pub trait Memory {
    /// The word at `pa`, a multiple of 8.
    ///
    /// # Errors
    /// [`Gap`].
    fn read64(&self, pa: u64) -> Result<u64, Gap>;

    /// Fills `words` from `pa` on, a multiple of 8.
    ///
    /// # Errors
    /// [`Gap`] with the address of the first word that cannot be read; what comes before is filled.
    fn read_words(&self, pa: u64, words: &mut [u64]) -> Result<(), (u64, Gap)> {
        for (at, word) in (pa..=u64::MAX).step_by(8).zip(words) {
            *word = self.read64(at).map_err(|gap| (at, gap))?;
        }
        Ok(())
    }

    /// The first address from `pa` on and below `end` that may hold anything but zero, so that holes cost
    /// little; `None` where there is none. What cannot be read is passed by.
    fn data_from(&self, pa: u64, end: u64) -> Option<u64> {
        (pa < end).then_some(pa)
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    fn read64(&self, pa: u64) -> Result<u64, Gap> {
        (**self).read64(pa)
    }
    fn read_words(&self, pa: u64, words: &mut [u64]) -> Result<(), (u64, Gap)> {
        (**self).read_words(pa, words)
    }
    fn data_from(&self, pa: u64, end: u64) -> Option<u64> {
        (**self).data_from(pa, end)
    }
}

/// Memory made of single words; every other word is a [`Gap`], or zero within ranges that are said to be
/// there. For tests and examples.
#[derive(Clone, Debug, Default)]
pub struct Words {
    words: BTreeMap<u64, u64>,
    present: Vec<(u64, u64)>,
    aborting: Vec<(u64, u64)>,
}

impl Words {
    /// Memory that has nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, the `bytes` bytes from `base` on are there, zero until written.
    #[must_use]
    pub fn with_range(mut self, base: u64, bytes: u64) -> Self {
        self.present.push((base, base.saturating_add(bytes)));
        self
    }

    /// From now on, nothing answers in the `bytes` bytes from `base` on.
    #[must_use]
    pub fn with_abort(mut self, base: u64, bytes: u64) -> Self {
        self.aborting.push((base, base.saturating_add(bytes)));
        self
    }

    /// Writes the word at `pa`, rounded down to a multiple of 8.
    pub fn write64(&mut self, pa: u64, word: u64) {
        self.words.insert(pa & !7, word);
    }

    /// Writes `words` from `pa` on.
    pub fn write_words(&mut self, pa: u64, words: &[u64]) {
        for (at, word) in (pa..=u64::MAX).step_by(8).zip(words) {
            self.write64(at, *word);
        }
    }
}

impl Memory for Words {
    fn read64(&self, pa: u64) -> Result<u64, Gap> {
        let within =
            |ranges: &[(u64, u64)]| ranges.iter().any(|(from, to)| (*from..*to).contains(&pa));
        if within(&self.aborting) {
            return Err(Gap::Abort);
        }
        match self.words.get(&pa) {
            Some(word) => Ok(*word),
            None if within(&self.present) => Ok(0),
            None => Err(Gap::Missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_what_aborts_and_what_is_not_known_differ() {
        let mut memory = Words::new().with_range(0x1000, 0x100).with_abort(0x1080, 8);
        memory.write_words(0x1010, &[1, 2]);
        assert_eq!(memory.read64(0x1010), Ok(1));
        assert_eq!(memory.read64(0x1020), Ok(0));
        assert_eq!(memory.read64(0x1080), Err(Gap::Abort));
        assert_eq!(memory.read64(0x1100), Err(Gap::Missing));
        let mut words = [0; 4];
        assert_eq!(memory.read_words(0x10f0, &mut words), Err((0x1100, Gap::Missing)));
        assert_eq!(memory.read_words(0x1008, &mut words), Ok(()));
        assert_eq!(words, [0, 1, 2, 0]);
    }
}
