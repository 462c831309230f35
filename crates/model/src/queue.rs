// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ring arithmetic of the queues (§3.1).

/// Size of a ring: 2^`bits` entries, `bits` at most 19; indices carry one more bit, the wrap bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    bits: u32,
}

impl Ring {
    /// The ring that LOG2SIZE asks for, capped by the ID register's size (§2.5).
    pub(crate) fn new(log2size: u64, limit: u64) -> Self {
        // At most 19, so it fits and every shift below is in range.
        Self { bits: log2size.min(limit).min(19) as u32 }
    }

    pub(crate) const fn entries(self) -> u32 {
        1 << self.bits
    }

    const fn mask(self) -> u32 {
        (1 << (self.bits + 1)) - 1
    }

    /// An index without the bits above the wrap bit.
    pub(crate) const fn index(self, raw: u32) -> u32 {
        raw & self.mask()
    }

    /// The slot that an index names.
    pub(crate) const fn slot(self, index: u32) -> u32 {
        index & (self.entries() - 1)
    }

    pub(crate) const fn next(self, index: u32) -> u32 {
        self.index(self.index(index) + 1)
    }

    /// Entries between two indices; `None` for an inconsistent pair.
    pub(crate) const fn used(self, prod: u32, cons: u32) -> Option<u32> {
        let used = self.index(prod).wrapping_sub(self.index(cons)) & self.mask();
        if used <= self.entries() { Some(used) } else { None }
    }

    /// Bytes of the whole ring.
    pub(crate) const fn bytes(self, entry: u64) -> u64 {
        (self.entries() as u64) * entry
    }

    /// The base that hardware uses: aligned to the ring, at least to 32 bytes.
    pub(crate) const fn base(self, addr: u64, entry: u64) -> u64 {
        let bytes = self.bytes(entry);
        addr & !(if bytes < 32 { 32 } else { bytes } - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_any_size_wraps_after_twice_its_entries() {
        for bits in 0..=19 {
            let ring = Ring::new(bits, 31);
            let mut index = 0;
            for step in 0..2 * ring.entries() {
                assert_eq!(index, step);
                index = ring.next(index);
            }
            assert_eq!(index, 0);
            assert_eq!(ring.used(0, 0), Some(0));
            assert_eq!(ring.used(ring.entries(), 0), Some(ring.entries()));
            assert_eq!(ring.used(0, ring.entries()), Some(ring.entries()));
            assert_eq!(ring.slot(ring.entries()), 0);
        }
    }

    #[test]
    fn a_producer_behind_its_consumer_is_inconsistent() {
        let ring = Ring::new(2, 19);
        assert_eq!(ring.used(1, 2), None, "behind, wrap bits equal");
        assert_eq!(ring.used(0b101, 0b000), None, "more entries than the ring has");
        assert_eq!(ring.used(0b1000, 0), Some(0), "bits above the wrap bit are ignored");
    }

    #[test]
    fn sizes_are_capped_and_bases_aligned_to_the_ring() {
        assert_eq!(Ring::new(31, 8).entries(), 256);
        assert_eq!(Ring::new(31, 31).entries(), 1 << 19);
        assert_eq!(Ring::new(0, 8).base(0x1_0030, 16), 0x1_0020);
        assert_eq!(Ring::new(8, 8).base(0x1_1fe0, 16), 0x1_1000);
    }
}
