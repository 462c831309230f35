// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that make devices forget translations that they keep (CMD_ATC_INV, §4.2).
//!
//! A span is a power of two of pages, around an address that is a multiple of it. Each command costs a device a round
//! trip, and what it forgets without need it asks for again: a range is covered by **at most two spans, which together
//! are less than twice as long** as the range, and by one where that is at most twice as long.
//!
//! None of them is global (G, with a PASID): an SMMU grants no translation as global (§12.1), so that devices keep none for
//! all PASIDs at once, whatever the tables say. One that a guest gives is passed on as it is ([`crate::nest`]).

use smmuv3_formats::command::{AtcInv, Sync};
use smmuv3_formats::{Command, StreamId};

use crate::invalidate::Scope;

/// What a command names: 2^`log2` pages of 4 KiB from `first` on, or everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First address, a multiple of the span.
    pub first: u64,
    /// log2 of the pages; [`EVERYTHING`] for all addresses.
    pub log2: u32,
}

/// [`Span::log2`] of all addresses (§4.2).
pub const EVERYTHING: u32 = 52;
/// log2 of the unit of spans.
const PAGE: u32 = 12;

/// One span or two, which together cover what devices are to forget (§4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    spans: [Span; 2],
    count: usize,
}

impl Spans {
    /// Everything.
    pub const ALL: Self = Self::one(Span { first: 0, log2: EVERYTHING });

    const fn one(span: Span) -> Self {
        Self { spans: [span; 2], count: 1 }
    }

    /// The spans that cover `scope`, for devices whose smallest unit (STU) is 2^`unit` bytes, `unit` being at least 12.
    /// An empty range is covered by everything.
    pub const fn of(scope: Scope, unit: u32) -> Self {
        let Scope::Range(range) = scope else { return Self::ALL };
        let unit = if unit < PAGE { PAGE } else { unit };
        let Some(length) = range.bytes.checked_sub(1) else { return Self::ALL };
        let Some(last) = range.start.checked_add(length) else { return Self::ALL };
        let inside = (1 << unit) - 1;
        Self::between(range.start & !inside, last | inside)
    }

    /// The spans that cover all addresses from `first` to `last`, the first one of a unit and the last one of a unit.
    const fn between(first: u64, last: u64) -> Self {
        // The bits up to the highest in which both differ: those within the smallest span around both.
        let bits = u64::BITS - (first ^ last).leading_zeros();
        let Some(top) = bits.checked_sub(1) else { return Self::ALL };
        if last - first >= (1 << top) - 1 {
            // The range is at least half of that span, so one span is enough.
            return Self::one(span(first, bits));
        }
        // One span on each side of the middle, both touching it.
        let middle = last & !((1 << top) - 1);
        let (below, above) = (log2_up(middle - first), log2_up(last - middle + 1));
        Self { spans: [span(middle - (1 << below), below), span(middle, above)], count: 2 }
    }

    /// The spans.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Span> + Clone + '_ {
        self.spans.iter().take(self.count).copied()
    }

    /// How many there are: 1 or 2.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The one at `index`, below [`Spans::count`].
    #[must_use]
    pub const fn get(&self, index: usize) -> Span {
        if index == 0 { self.spans[0] } else { self.spans[1] }
    }
}

/// The span of 2^`bits` bytes around `address`.
const fn span(address: u64, bits: u32) -> Span {
    if bits >= u64::BITS {
        return Span { first: 0, log2: EVERYTHING };
    }
    Span { first: address & !((1 << bits) - 1), log2: bits.saturating_sub(PAGE) }
}

/// The smallest power of two that is not below `bytes`, which is at most 2^63, as its exponent.
const fn log2_up(bytes: u64) -> u32 {
    bytes.next_power_of_two().trailing_zeros()
}

/// Whose translations: those that a stream asked for with a substream, or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// The stream.
    pub stream: StreamId,
    /// The substream; without, what the stream asked for with any goes as well, since PCIe cannot tell them apart.
    pub substream: Option<u32>,
}

impl Kept {
    /// The command that makes the device forget `span`.
    pub fn command(self, span: Span) -> Command {
        let command = AtcInv::new()
            .with_sid(u64::from(self.stream.0))
            .with_size(u64::from(span.log2))
            .with_addr(span.first);
        match self.substream {
            // It has 20 bits.
            Some(substream) => {
                command.with_ssv(true).with_ssid(u64::from(substream & 0xf_ffff)).into()
            }
            None => command.into(),
        }
    }
}

/// What makes an SMMU forget, then the devices behind it: the commands of the former, a CMD_SYNC that completes them,
/// those of the latter (rule R7). Another CMD_SYNC is to follow.
#[derive(Clone, Debug)]
pub struct Batch<T, K> {
    translations: T,
    /// The CMD_SYNC in between is still to come.
    sync: bool,
    kept: K,
    /// The device that is being told, and how many of its spans were.
    current: Option<Kept>,
    named: usize,
    spans: Spans,
    /// Commands to come.
    left: usize,
}

impl<T, K> Batch<T, K>
where
    T: ExactSizeIterator<Item = Command>,
    K: Iterator<Item = Kept> + Clone,
{
    /// With `translations`, then `spans` of each of `kept`.
    pub fn new(translations: T, kept: K, spans: Spans) -> Self {
        let (first, devices) = (translations.len(), kept.clone().count());
        let sync = first != 0 && devices != 0;
        let left = first + usize::from(sync) + devices * spans.count();
        Self { translations, sync, kept, current: None, named: 0, spans, left }
    }

    /// How many CMD_SYNCs the batch has, without the one that ends it.
    pub(crate) fn syncs(&self) -> usize {
        usize::from(self.sync)
    }

    /// Whether there are devices behind those that have been told, or were to be: more than there were at first.
    pub(crate) fn leaves_any_out(&self) -> bool {
        self.kept.clone().next().is_some()
    }

    /// Without the CMD_SYNC in between: for a driver that is wrong on purpose.
    pub(crate) fn out_of_order(&mut self) {
        self.left -= usize::from(core::mem::take(&mut self.sync));
    }
}

impl<T, K> Iterator for Batch<T, K>
where
    T: ExactSizeIterator<Item = Command>,
    K: Iterator<Item = Kept>,
{
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        self.left = self.left.checked_sub(1)?;
        if let Some(command) = self.translations.next() {
            return Some(command);
        }
        if core::mem::take(&mut self.sync) {
            return Some(Sync::new().into());
        }
        if self.current.is_none() || self.named == self.spans.count() {
            (self.current, self.named) = (Some(self.kept.next()?), 0);
        }
        let span = self.spans.get(self.named);
        self.named += 1;
        self.current.map(|kept| kept.command(span))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T, K> ExactSizeIterator for Batch<T, K>
where
    T: ExactSizeIterator<Item = Command>,
    K: Iterator<Item = Kept>,
{
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::invalidate::Range;

    fn range(start: u64, bytes: u64) -> Scope {
        let (granule_shift, leaf_shift, leaf_only) = (12, None, true);
        Scope::Range(Range { start, bytes, granule_shift, leaf_shift, leaf_only })
    }

    /// {page, log2} of each span for `pages` pages from page `first` on.
    fn spans(first: u64, pages: u64) -> Vec<(u64, u32)> {
        let spans = Spans::of(range(first << 12, pages << 12), 12);
        spans.iter().map(|span| (span.first >> 12, span.log2)).collect()
    }

    #[test]
    fn spans_are_these() {
        assert_eq!(spans(8, 4), [(8, 2)]);
        // One span would be of 16 pages.
        assert_eq!(spans(7, 4), [(7, 0), (8, 2)]);
        assert_eq!(spans(0x12345, 1), [(0x12345, 0)]);
        assert_eq!(spans(0xfff, 2), [(0xfff, 0), (0x1000, 0)]);
        // 32 pages for 16.
        assert_eq!(spans(0x12345, 0x10), [(0x12340, 5)]);
        // 32 are too many for 15: 16 from the middle down, and 4 up.
        assert_eq!(spans(0x12345, 0xf), [(0x12340, 4), (0x12350, 2)]);
        assert_eq!(spans(1, 2), [(0, 2)]);
        assert_eq!(spans(3, 2), [(3, 0), (4, 0)]);
        assert_eq!(spans(1, 6), [(0, 3)]);
        assert_eq!(spans(0, 3), [(0, 2)]);
        assert_eq!(spans(3, 0x7fff), [(0, 15), (0x8000, 1)]);
        let all = [Span { first: 0, log2: 52 }];
        assert_eq!(Spans::of(Scope::All, 12).iter().collect::<Vec<_>>(), all);
        assert_eq!(Spans::of(range(0, 0), 12).iter().collect::<Vec<_>>(), all);
        // The last page of all, and the upper half.
        assert_eq!(spans(0xf_ffff_ffff_ffff, 1), [(0xf_ffff_ffff_ffff, 0)]);
        assert_eq!(spans(1 << 51, 1 << 51), [(1 << 51, 51)]);
    }

    #[test]
    fn a_range_is_covered_by_two_spans_at_most_that_are_less_than_twice_as_long() {
        for first in 0u64..70 {
            for pages in 1..200 {
                let found = spans(first, pages);
                let end = first + pages;
                let covered = |page: u64| {
                    found.iter().any(|(start, log2)| (*start..*start + (1 << log2)).contains(&page))
                };
                assert!((first..end).all(covered), "{first} {pages}: {found:?}");
                assert!(found.iter().all(|(start, log2)| start % (1 << log2) == 0), "{found:?}");
                let sum: u64 = found.iter().map(|(_, log2)| 1 << log2).sum();
                let most = if found.len() == 1 { 2 * pages } else { 2 * pages - 1 };
                assert!(sum <= most, "{first} {pages}: {found:?}");
                assert!(found.len() <= 2);
                // One is enough where it is not too long.
                let one = (0..12).find(|log2| first >> log2 == (end - 1) >> log2).unwrap();
                assert_eq!(found.len() == 1, 1 << one <= 2 * pages, "{first} {pages}");
            }
        }
    }

    #[test]
    fn spans_are_of_whole_units() {
        let found = |scope| Spans::of(scope, 16).iter().collect::<Vec<_>>();
        assert_eq!(found(range(0x1_5000, 0x1000)), [Span { first: 0x1_0000, log2: 4 }]);
        assert_eq!(
            found(range(0xf_f000, 0x2000)),
            [Span { first: 0xf_0000, log2: 4 }, Span { first: 0x10_0000, log2: 4 }]
        );
    }

    #[test]
    fn translations_are_complete_before_devices_are_told() {
        let tlbi = [Command([0x11, 0])];
        let one = |stream, substream| Kept { stream: StreamId(stream), substream };
        let kept = [one(1, None), one(2, Some(3))];
        let spans = Spans::of(range(0xfff << 12, 2 << 12), 12);
        let batch = Batch::new(tlbi.into_iter(), kept.into_iter(), spans);
        let promised = batch.len();
        let words: Vec<_> = batch.map(|command| command.0).collect();
        let [first, second] = [0xff_f000, 0x100_0000];
        let mut expected = Vec::from([[0x11, 0], [0x46, 0]]);
        for head in [0x1_0000_0040, 0x2_0000_3840] {
            expected.extend([[head, first], [head, second]]);
        }
        assert_eq!((words.len(), words), (promised, expected));
        // Either alone needs no CMD_SYNC in between.
        let batch = Batch::new(tlbi.into_iter(), [].into_iter(), spans);
        assert_eq!(batch.map(|command| command.0).collect::<Vec<_>>(), [[0x11, 0]]);
        let batch = Batch::new([].into_iter(), kept.into_iter().take(1), Spans::ALL);
        assert_eq!(batch.map(|command| command.0).collect::<Vec<_>>(), [[0x1_0000_0040, 0x34]]);
    }

    #[test]
    fn commands_are_as_the_architecture_prints_them() {
        let kept = |substream| Kept { stream: StreamId(0x100), substream };
        let [all] = [Spans::ALL.get(0)];
        assert_eq!(kept(None).command(all), Command([0x0000_0100_0000_0040, 0x34]));
        // SSV 11, SSID [31:12]; Size [5:0], Addr [63:12].
        let span = Span { first: 0x4000_0000, log2: 3 };
        let words = [0x0000_0100_0000_5840, 0x4000_0003];
        assert_eq!(kept(Some(5)).command(span), Command(words));
    }
}
