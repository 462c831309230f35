// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams as aligned runs: what a CFGI_STE_RANGE covers (§4.2).

use smmuv3_formats::command::{CfgiSte, CfgiSteRange};
use smmuv3_formats::{Command, StreamId};

/// log2 of the longest run that one command is given for: its Range has five bits, of which all ones are every stream.
const LONGEST: u32 = 30;

/// The commands that make hardware read the entries of streams anew, and what leads to contexts through them: one for each
/// run of neighbours, in the order given, that is a power of two long and aligned to that. No other streams are named.
#[derive(Clone)]
pub(crate) struct Runs<'a> {
    streams: &'a [StreamId],
    /// Only the entry itself has changed, no descriptor that leads to it.
    leaf: bool,
    left: usize,
}

impl<'a> Runs<'a> {
    #[inline]
    pub(crate) fn new(streams: &'a [StreamId], leaf: bool) -> Self {
        let (mut left, mut rest) = (0, streams);
        while let Some((_, _, others)) = first(rest) {
            (left, rest) = (left + 1, others);
        }
        Self { streams, leaf, left }
    }
}

/// The first run: where it starts, log2 of its length, and what follows.
#[inline]
fn first(streams: &[StreamId]) -> Option<(StreamId, u32, &[StreamId])> {
    let start = *streams.first()?;
    if let [_] = streams { Some((start, 0, &[])) } else { Some(first_of_many(start, streams)) }
}

/// As [`first`], of several streams that begin with `start`.
#[inline(never)]
fn first_of_many(start: StreamId, streams: &[StreamId]) -> (StreamId, u32, &[StreamId]) {
    let mut log2 = 0;
    // Whether the stream at index `at` is the `at`th after `start`.
    let is =
        |at: usize| streams.get(at).is_some_and(|it| u64::from(it.0) == start.0 as u64 + at as u64);
    while log2 < LONGEST && start.0.trailing_zeros() > log2 {
        let half = 1_usize << log2;
        if !(half..2 * half).all(is) {
            break;
        }
        log2 += 1;
    }
    (start, log2, streams.get(1 << log2..).unwrap_or(&[]))
}

impl Iterator for Runs<'_> {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        let (start, log2, others) = first(self.streams)?;
        (self.streams, self.left) = (others, self.left.saturating_sub(1));
        let sid = u64::from(start.0);
        Some(match log2.checked_sub(1) {
            None => CfgiSte::new().with_sid(sid).with_leaf(self.leaf).into(),
            // CFGI_STE_RANGE has no Leaf: it always includes the level-1 descriptors.
            Some(range) => CfgiSteRange::new().with_sid(sid).with_range(range.into()).into(),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Runs<'_> {}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// First stream and number of each run.
    fn runs(streams: &[u32]) -> Vec<(u64, u64)> {
        let streams: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
        let commands = Runs::new(&streams, true);
        let promised = commands.len();
        let found: Vec<(u64, u64)> = commands
            .map(|Command([low, high])| {
                let many = match low & 0xff {
                    0x03 => {
                        assert_eq!(high, 1, "Leaf");
                        1
                    }
                    // Range, [4:0] of the second word: 2^(Range + 1) streams.
                    0x04 => 2 << high,
                    opcode => panic!("{opcode:#x}"),
                };
                (low >> 32, many)
            })
            .collect();
        assert_eq!(found.len(), promised);
        // All of them, and no others.
        let named: Vec<u64> =
            found.iter().flat_map(|(start, many)| *start..*start + *many).collect();
        assert_eq!(named, streams.iter().map(|it| u64::from(it.0)).collect::<Vec<_>>());
        found
    }

    #[test]
    fn runs_are_aligned_and_end_with_the_streams() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[7]), [(7, 1)]);
        assert_eq!(runs(&[0]), [(0, 1)]);
        assert_eq!(runs(&[6, 7]), [(6, 2)]);
        assert_eq!(runs(&[5, 6, 7, 8]), [(5, 1), (6, 2), (8, 1)]);
        assert_eq!(runs(&[0, 1, 2, 3, 4]), [(0, 4), (4, 1)]);
        assert_eq!(runs(&[0, 1, 2, 3, 4, 5, 6]), [(0, 4), (4, 2), (6, 1)]);
        // A hole, another order, the last stream of all.
        assert_eq!(runs(&[8, 9, 11, 10]), [(8, 2), (11, 1), (10, 1)]);
        assert_eq!(runs(&[9, 8]), [(9, 1), (8, 1)]);
        assert_eq!(runs(&[u32::MAX - 1, u32::MAX]), [(0xffff_fffe, 2)]);
        let many: Vec<u32> = (0x400..0x800).collect();
        assert_eq!(runs(&many), [(0x400, 0x400)]);
        let many: Vec<u32> = (0x3ff..0x7ff).collect();
        assert_eq!(runs(&many).len(), 11);
    }
}
