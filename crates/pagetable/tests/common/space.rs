// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an address space is to be: extents of input addresses. And numbers at random.

use std::collections::BTreeMap;

use smmuv3_pagetable::Attributes;

/// Numbers that are the same for the same seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A run of addresses that are mapped alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub bytes: u64,
    pub output: u64,
    pub attributes: Attributes,
}

/// Extents by their start, which do not overlap.
#[derive(Default)]
pub struct Model(BTreeMap<u64, Extent>);

impl Model {
    /// The first address from `start` on, in `bytes` bytes, that is mapped.
    pub fn first(&self, start: u64, bytes: u64) -> Option<u64> {
        if self.find(start).is_some() {
            return Some(start);
        }
        self.0.range(start..start + bytes).next().map(|(&at, _)| at)
    }

    /// Bytes of a range that are mapped.
    pub fn mapped(&self, start: u64, bytes: u64) -> u64 {
        let end = start + bytes;
        let within = self
            .0
            .range(..end)
            .map(|(&at, extent)| (at + extent.bytes).min(end).saturating_sub(at.max(start)));
        within.sum()
    }

    /// Where `at` leads.
    pub fn find(&self, at: u64) -> Option<(u64, Attributes)> {
        let (&start, extent) = self.0.range(..=at).next_back()?;
        let offset = at - start;
        (offset < extent.bytes).then_some((extent.output + offset, extent.attributes))
    }

    pub fn map(&mut self, start: u64, extent: Extent) {
        assert_eq!(self.first(start, extent.bytes), None);
        self.0.insert(start, extent);
    }

    /// Gives how many bytes were mapped.
    pub fn unmap(&mut self, start: u64, bytes: u64) -> u64 {
        self.cut(start);
        self.cut(start + bytes);
        let gone: Vec<u64> = self.0.range(start..start + bytes).map(|(&at, _)| at).collect();
        gone.iter().filter_map(|at| self.0.remove(at)).map(|extent| extent.bytes).sum()
    }

    /// Lets an extent end at `at`.
    fn cut(&mut self, at: u64) {
        let Some((&start, extent)) = self.0.range(..at).next_back() else { return };
        let (extent, left) = (*extent, at - start);
        if left < extent.bytes {
            self.0.insert(start, Extent { bytes: left, ..extent });
            let (bytes, output) = (extent.bytes - left, extent.output + left);
            self.0.insert(at, Extent { bytes, output, ..extent });
        }
    }

    /// The extents, those that follow on each other joined.
    pub fn extents(&self) -> Vec<(u64, Extent)> {
        let mut all: Vec<(u64, Extent)> = Vec::new();
        for (&at, &extent) in &self.0 {
            match all.last_mut() {
                Some((start, last))
                    if *start + last.bytes == at
                        && last.output + last.bytes == extent.output
                        && last.attributes == extent.attributes =>
                {
                    last.bytes += extent.bytes;
                }
                _ => all.push((at, extent)),
            }
        }
        all
    }
}
