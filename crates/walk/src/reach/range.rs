// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ranges of input addresses and where they lead, merged.

use core::fmt;

use smmuv3_formats::permission::Permissions;

use crate::attributes::{Attributes, Shareability};

/// A range of addresses that a stream can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First input address.
    pub input: u64,
    /// Bytes.
    pub bytes: u64,
    /// First output address.
    pub output: u64,
    /// What is allowed.
    pub permissions: Permissions,
    /// What the memory system is told.
    pub attributes: Attributes,
    /// MemAttr and shareability of stage 2, of which the attributes are made.
    pub(crate) second: Option<(u8, Shareability)>,
}

impl Range {
    /// The last byte's input address.
    pub fn last(&self) -> u64 {
        self.input.saturating_add(self.bytes.saturating_sub(1))
    }

    /// The range as far as it is within `bytes` bytes from `input` on, if any of it is.
    pub(super) fn within(&self, input: u64, bytes: u64) -> Option<Self> {
        let from = self.input.max(input);
        let last = self.last().min(input.saturating_add(bytes - 1));
        let length = last.checked_sub(from)?.saturating_add(1);
        Some(Self {
            input: from,
            bytes: length,
            output: self.output + (from - self.input),
            ..*self
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.input, self.last())
    }
}

/// Ranges in the order of their input addresses.
#[derive(Debug)]
pub(super) struct Ranges {
    ranges: Vec<Range>,
    most: usize,
    left_out: u64,
    bytes: u64,
}

impl Ranges {
    /// Keeps at most `most` of them.
    pub(super) const fn new(most: usize) -> Self {
        Self { ranges: Vec::new(), most, left_out: 0, bytes: 0 }
    }

    /// Adds a range behind the others, or to the last one.
    pub(super) fn push(&mut self, range: Range) {
        self.bytes = self.bytes.saturating_add(range.bytes);
        if let Some(last) = self.ranges.last_mut()
            && last.input.checked_add(last.bytes) == Some(range.input)
            && last.output.checked_add(last.bytes) == Some(range.output)
            && (last.permissions, last.attributes, last.second)
                == (range.permissions, range.attributes, range.second)
        {
            last.bytes = last.bytes.saturating_add(range.bytes);
        } else if self.ranges.len() < self.most {
            self.ranges.push(range);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Those that overlap `bytes` bytes from `input` on, cut to that.
    pub(super) fn within(&self, input: u64, bytes: u64) -> impl Iterator<Item = Range> {
        let first = self.ranges.partition_point(|range| range.last() < input);
        let rest = self.ranges.get(first..).unwrap_or(&[]);
        rest.iter().map_while(move |range| range.within(input, bytes))
    }

    pub(super) fn take(self) -> (Vec<Range>, u64) {
        (self.ranges, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::ALL;

    fn range(input: u64, bytes: u64, output: u64) -> Range {
        let attributes = Attributes::INCOMING;
        Range { input, bytes, output, permissions: ALL, attributes, second: None }
    }

    #[test]
    fn neighbours_are_merged_where_everything_goes_on() {
        let mut ranges = Ranges::new(3);
        ranges.push(range(0x1000, 0x1000, 0x8000));
        ranges.push(range(0x2000, 0x1000, 0x9000));
        ranges.push(range(0x3000, 0x1000, 0x8000));
        ranges.push(range(0x5000, 0x1000, 0x9000));
        ranges.push(range(0x6000, 0x1000, 0x1000));
        assert_eq!(ranges.bytes(), 0x5000);
        let middle: Vec<_> =
            ranges.within(0x2800, 0x1000).map(|r| (r.input, r.bytes, r.output)).collect();
        assert_eq!(middle, [(0x2800, 0x800, 0x9800), (0x3000, 0x800, 0x8000)]);
        assert_eq!(ranges.within(0x4000, 0x1000).count(), 0);
        let (kept, left_out) = ranges.take();
        assert_eq!((kept.len(), left_out), (3, 1));
        assert_eq!(kept[0].bytes, 0x2000);
    }
}
