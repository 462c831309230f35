// SPDX-License-Identifier: MIT OR Apache-2.0
//! The physical memory allocator of a test: finds leaks, poisons what is freed, and fails on demand.

use std::collections::BTreeMap;

use crate::ram::Ram;

/// Smallest unit of an allocation.
const UNIT: u64 = 64;
/// What freed memory is filled with: as a descriptor it is valid, as an entry it is nonsense.
const POISON: u8 = 0xfb;

/// First-fit allocation from a range of RAM.
#[derive(Debug)]
pub struct FrameAllocator {
    ram: Ram,
    /// Free ranges: start and bytes.
    free: BTreeMap<u64, u64>,
    /// Live allocations: start and bytes.
    live: BTreeMap<u64, u64>,
    /// Allocations so far, failed ones included.
    count: u64,
    /// The allocation (from 1) that fails.
    fail: Option<u64>,
    /// Frees of what was not allocated like that.
    bad_frees: u64,
}

impl FrameAllocator {
    /// All of `ram` is free.
    pub fn new(ram: Ram) -> Self {
        let free = BTreeMap::from([(ram.base(), ram.len() as u64)]);
        Self { ram, free, live: BTreeMap::new(), count: 0, fail: None, bad_frees: 0 }
    }

    /// `size` zeroed bytes at a multiple of `align`.
    pub fn allocate(&mut self, size: u64, align: u64) -> Option<u64> {
        let at = self.take(size, align)?;
        // Inside the RAM: the range was free.
        let _ = self.ram.zero64(at, (Self::units(size) / 8) as usize);
        Some(at)
    }

    /// The same for those who write there only by what [`Ram`] has for that, and by no pointers: devices, and whoever plays
    /// their part. What is written of it is known then, and the rest need not be zeroed again.
    pub(crate) fn allocate_for_devices(&mut self, size: u64, align: u64) -> Option<u64> {
        let at = self.take(size, align)?;
        // As above.
        let _ = self.ram.zero_written64(at, (Self::units(size) / 8) as usize);
        Some(at)
    }

    /// Bytes that an allocation of `size` takes.
    fn units(size: u64) -> u64 {
        size.max(1).next_multiple_of(UNIT)
    }

    /// `size` bytes at a multiple of `align`, as they are.
    fn take(&mut self, size: u64, align: u64) -> Option<u64> {
        self.count += 1;
        if self.fail == Some(self.count) {
            return None;
        }
        let size = Self::units(size);
        let align = align.max(UNIT);
        let (start, bytes, at) = self.free.iter().find_map(|(start, bytes)| {
            let at = start.next_multiple_of(align);
            (at + size <= start + bytes).then_some((*start, *bytes, at))
        })?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        if at + size < start + bytes {
            self.free.insert(at + size, start + bytes - at - size);
        }
        self.live.insert(at, size);
        Some(at)
    }

    /// `size` zeroed bytes at `at`, both multiples of the smallest unit, if they are free.
    pub fn allocate_at(&mut self, at: u64, size: u64) -> Option<u64> {
        let end = at.checked_add(size)?;
        let (start, bytes) = self.free.range(..=at).next_back().map(|(at, bytes)| (*at, *bytes))?;
        let fits = at.is_multiple_of(UNIT) && size.is_multiple_of(UNIT);
        if size == 0 || !fits || end > start + bytes {
            return None;
        }
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        if end < start + bytes {
            self.free.insert(end, start + bytes - end);
        }
        self.live.insert(at, size);
        // As above.
        let _ = self.ram.zero64(at, (size / 8) as usize);
        Some(at)
    }

    /// Takes an allocation back, and poisons it.
    pub fn free(&mut self, at: u64, size: u64) {
        if self.free_at_the_end(at, size) {
            self.fill(at, Self::units(size), POISON);
        }
    }

    /// Takes an allocation back at a moment when nobody is left who could read it; whether there was such a one.
    pub(crate) fn free_at_the_end(&mut self, at: u64, size: u64) -> bool {
        let size = Self::units(size);
        if self.live.get(&at) != Some(&size) {
            self.bad_frees += 1;
            return false;
        }
        self.live.remove(&at);
        let (mut start, mut bytes) = (at, size);
        if let Some((before, length)) = self.free.range(..at).next_back()
            && before + length == at
        {
            (start, bytes) = (*before, length + size);
        }
        if let Some(length) = self.free.remove(&(at + size)) {
            bytes += length;
        }
        self.free.insert(start, bytes);
        true
    }

    /// Makes the `nth` allocation from now on fail (1 is the next one), or none.
    pub fn fail(&mut self, nth: Option<u64>) {
        self.fail = nth.map(|nth| self.count + nth);
    }

    /// Allocations so far, failed ones included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes allocated now.
    pub fn live_bytes(&self) -> u64 {
        self.live.values().sum()
    }

    /// Live allocations: start and bytes.
    pub fn live(&self) -> impl Iterator<Item = (u64, u64)> {
        self.live.iter().map(|(start, bytes)| (*start, *bytes))
    }

    /// Frees of what was not allocated, or not with that size.
    pub fn bad_frees(&self) -> u64 {
        self.bad_frees
    }

    fn fill(&self, at: u64, size: u64, byte: u8) {
        // Inside the RAM: the range was free.
        let _ = self.ram.fill64(at, (size / 8) as usize, u64::from_ne_bytes([byte; 8]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_aligned_disjoint_zeroed_and_joined_again() {
        let ram = Ram::heap(0x4000_0000, 1 << 20).unwrap();
        let mut frames = FrameAllocator::new(ram.clone());
        let small = frames.allocate(64, 64).unwrap();
        let page = frames.allocate(4096, 4096).unwrap();
        let large = frames.allocate(65536, 65536).unwrap();
        assert_eq!((page % 4096, large % 65536), (0, 0));
        assert_eq!(ram.read64(page), Some(0));
        assert_eq!(frames.live_bytes(), 64 + 4096 + 65536);
        frames.free(page, 4096);
        assert_eq!(ram.read64(page), Some(0xfbfb_fbfb_fbfb_fbfb));
        frames.free(small, 64);
        frames.free(large, 65536);
        assert_eq!((frames.live_bytes(), frames.free.len(), frames.bad_frees()), (0, 1, 0));
        frames.free(page, 4096);
        assert_eq!(frames.bad_frees(), 1);
    }

    #[test]
    fn what_is_free_can_be_had_where_it_is() {
        let mut frames = FrameAllocator::new(Ram::heap(0x4000_0000, 1 << 20).unwrap());
        assert_eq!(frames.allocate_at(0x4000_8000, 0x1000), Some(0x4000_8000));
        assert_eq!(frames.allocate_at(0x4000_8fc0, 0x1000), None);
        assert_eq!(frames.allocate_at(0x400f_f000, 0x2000), None);
        assert_eq!(frames.allocate(0x8000, 64), Some(0x4000_0000));
        assert_eq!(frames.allocate(64, 64), Some(0x4000_9000));
        frames.free(0x4000_8000, 0x1000);
        assert_eq!((frames.live_bytes(), frames.bad_frees()), (0x8040, 0));
    }

    #[test]
    fn the_nth_allocation_fails_once() {
        let mut frames = FrameAllocator::new(Ram::heap(0x4000_0000, 1 << 20).unwrap());
        frames.fail(Some(2));
        assert!(frames.allocate(64, 64).is_some());
        assert!(frames.allocate(64, 64).is_none());
        assert!(frames.allocate(64, 64).is_some());
    }
}
