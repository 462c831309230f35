// SPDX-License-Identifier: MIT OR Apache-2.0
//! The streams of a stream table (§5.1), past its holes.

use smmuv3_formats::{L1Std, STE_BYTES, Ste};

use super::Surveyor;
use super::finding::{Holds, Kind};
use super::tables::MOST_VISITS;
use crate::memory::{Gap, Memory};
use crate::stream_table::{NoArray, array, place};

impl<M: Memory> Surveyor<'_, M> {
    /// Looks at the stream in the scope, or at all of them.
    pub(super) fn streams(&mut self) {
        let (base, raw) = (self.smmu.stream_table(), self.smmu.strtab_base.addr());
        if base != raw {
            self.findings.add(Kind::Misaligned, None, Some(raw), None, || {
                format!("STRTAB_BASE is {raw:#x}, and hardware uses {base:#x}")
            });
        }
        let bits = self.smmu.stream_bits();
        self.node(0, "stream table".to_owned(), base, &format!("2^{bits} streams"));
        if self.smmu.beyond_output(base) {
            self.findings.add(Kind::BeyondSize, None, Some(base), None, || {
                "the stream table is beyond the output size".to_owned()
            });
            return;
        }
        let split = self.smmu.split();
        let entries = 1u64 << bits.saturating_sub(split.unwrap_or(0));
        let bytes = if split.is_some() { 8 } else { STE_BYTES as u64 };
        self.structures.add(base, entries * bytes, Holds::StreamTable);
        let first = self.scope.stream.map_or(0, |stream| u64::from(stream) >> split.unwrap_or(0));
        let end = self.scope.stream.map_or(entries, |_| entries.min(first + 1));
        if first >= end {
            return;
        }
        match split {
            None => self.array(0, place(self.smmu, 0), first, end),
            Some(split) => self.level_1(split, first, end),
        }
    }

    /// The level-1 descriptors `first..end`.
    fn level_1(&mut self, split: u32, first: u64, end: u64) {
        let mut index = first;
        while index < end && self.another() {
            let at = place(self.smmu, index);
            let word = match self.memory.read64(at) {
                Ok(word) => word,
                Err(gap) => {
                    index = self.past_gap(at, gap, index, end, 8);
                    continue;
                }
            };
            if word == 0 {
                index = self.past_zeros(at + 8, index + 1, end, 8);
                continue;
            }
            let descriptor = L1Std([word]);
            match array(descriptor, split) {
                Ok((table, log2)) => {
                    if table != descriptor.l2_ptr() {
                        self.findings.add(Kind::Misaligned, None, Some(at), None, || {
                            let pointer = descriptor.l2_ptr();
                            format!("L2Ptr is {pointer:#x}, and hardware uses {table:#x}")
                        });
                    }
                    self.leaf(index << split, table, log2, at);
                }
                Err(NoArray::Invalid) => {}
                Err(NoArray::BadSpan) => {
                    self.findings.add(Kind::BadLevel1, None, Some(at), None, || {
                        let span = descriptor.span();
                        format!(
                            "Span {span} of a level-1 descriptor is out of range: no stream is here"
                        )
                    });
                }
            }
            index += 1;
        }
    }

    /// The array of a level-1 descriptor.
    fn leaf(&mut self, first: u64, table: u64, log2: u32, at: u64) {
        if self.smmu.beyond_output(table) {
            self.findings.add(Kind::BeyondSize, None, Some(at), None, || {
                format!("L2Ptr {table:#x} is beyond the output size")
            });
            return;
        }
        let count = 1u64 << log2;
        let visits = self.arrays.entry(table).or_insert(0);
        *visits += 1;
        if *visits > 1 {
            self.findings.add(Kind::Shared, None, Some(table), None, || {
                format!("the array of STEs at {table:#x} is reached again, for streams from {first:#x} on")
            });
        }
        if *visits > MOST_VISITS {
            self.survey.streams_left_out += count;
            return;
        }
        self.structures.add(table, count * STE_BYTES as u64, Holds::StreamTable);
        let (begin, end) = match self.scope.stream.map(u64::from) {
            None => (0, count),
            // One beyond the array is no stream.
            Some(stream) => (stream - first, count.min(stream - first + 1)),
        };
        self.array(first, table, begin, end);
    }

    /// STEs `begin..end` of an array whose first is for stream `first`.
    fn array(&mut self, first: u64, table: u64, begin: u64, end: u64) {
        let bytes = STE_BYTES as u64;
        let mut index = begin;
        while index < end && self.another() {
            let at = table + index * bytes;
            let mut words = [0; 8];
            if let Err((_, gap)) = self.memory.read_words(at, &mut words) {
                index = self.past_gap(at, gap, index, end, bytes);
                continue;
            }
            if words == [0; 8] {
                index = self.past_zeros(at + bytes, index + 1, end, bytes);
                continue;
            }
            let ste = Ste(words);
            if ste.v() {
                // Streams have at most 32 bits.
                self.stream((first + index) as u32, at, ste);
            }
            index += 1;
        }
    }

    /// The index, at least `index`, that holds the first byte from `at` on that is not zero.
    fn past_zeros(&mut self, at: u64, index: u64, end: u64, bytes: u64) -> u64 {
        /// Bytes between two words about progress: a table may have 2^38.
        const PIECE: u64 = 1 << 28;
        let last = at.saturating_add(end.saturating_sub(index).saturating_mul(bytes));
        let mut from = at;
        while from < last {
            let to = last.min(from.saturating_add(PIECE));
            if let Some(data) = self.memory.data_from(from, to) {
                return end.min(index.saturating_add(data.saturating_sub(at) / bytes));
            }
            self.done.skipped += to - from;
            if to != last {
                (self.progress)(self.done);
            }
            from = to;
        }
        end
    }

    /// Tells that a part of the stream table cannot be read; the index after it.
    fn past_gap(&mut self, at: u64, gap: Gap, index: u64, end: u64, bytes: u64) -> u64 {
        let kind = if gap == Gap::Abort { Kind::Unreachable } else { Kind::Missing };
        self.findings.add(kind, None, Some(at), None, || match gap {
            Gap::Abort => format!("nothing answers at {at:#x}, in the stream table"),
            Gap::Missing => format!("the image does not have {at:#x}, in the stream table"),
        });
        // Data at `at` itself is a word that is not all there.
        self.past_zeros(at + bytes, index + 1, end, bytes)
    }
}
