// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters of performance counters by StreamID (§18): one StreamID, or with a span a power of two of them.
//!
//! With a span, the lowest bit of the value that is 0, and the bits below it, are not compared; the others have to be
//! equal. So no span has a single StreamID, and all ones are all StreamIDs.

use serde::Serialize;

use super::name::{Function, Name, read};
use crate::report::text::{BOLD, count, paint};

/// All that was asked.
#[derive(Debug, Serialize)]
pub struct Spans {
    spans: Vec<Span>,
}

/// A value and what it lets through, or a range and what lets it through.
#[derive(Debug, Serialize)]
struct Span {
    asked: String,
    /// The value with filter_span=1, or the fewest filters that let exactly the range through.
    filters: Vec<Filter>,
    /// Where several are needed: the one that lets more through, too.
    covering: Option<Filter>,
}

impl Spans {
    /// Values, ranges with their end (`0x40-0x4f`), and ranges of a length (`0x40+16`).
    ///
    /// # Errors
    /// Something that is none of them.
    pub fn of(asked: &[String]) -> Result<Self, String> {
        let spans = asked.iter().map(|asked| {
            let range = match (asked.split_once('-'), asked.split_once('+')) {
                (Some((first, last)), _) => Some((stream(first)?, stream(last)?)),
                (None, Some((first, many))) => Some((stream(first)?, end(first, many)?)),
                (None, None) => None,
            };
            let (filters, covering) = match range {
                None => (vec![Filter::span(stream(asked)?)], None),
                Some((first, last)) => {
                    if last < first {
                        return Err(format!("{asked}: the last StreamID is below the first"));
                    }
                    let filters = exact(first, last);
                    let several = filters.len() > 1;
                    (filters, several.then(|| covering(first, last)))
                }
            };
            Ok(Span { asked: asked.clone(), filters, covering })
        });
        Ok(Self { spans: spans.collect::<Result<_, String>>()? })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for Span { asked, filters, covering } in &self.spans {
            let title = match (covering, filters.as_slice()) {
                (None, [one]) if asked.contains(['-', '+']) => {
                    format!("{asked}: {} pass", streams(one))
                }
                (None, _) => format!("{asked} with filter_span=1"),
                (Some(_), all) => {
                    let all = count(all.len() as u64, "filter");
                    format!(
                        "{asked}: {all}, each for a counter of its own, unless the group has one filter \
                         (CFGR.SID_FILTER_TYPE)"
                    )
                }
            };
            lines.push(paint(BOLD, &title));
            lines.extend(filters.iter().map(|filter| format!("  {filter}")));
            if let Some(one) = covering {
                let other = "or one filter, which lets others through, too";
                lines.push(format!("  {other}:\n  {one}"));
            }
        }
        lines
            .push("perf stat -e smmuv3_pmcg_ADDRESS/transaction,FILTER/ counts with it".to_owned());
        lines.join("\n") + "\n"
    }
}

/// A StreamID, or a PCI function whose requester ID is taken for one.
fn stream(text: &str) -> Result<u32, String> {
    match read(text)? {
        Name::Stream(stream) => Ok(stream),
        Name::Function(function) => Ok(function.requester().into()),
        Name::Path(_) => {
            Err(format!("{text} is no StreamID; ask for it with --iort or --dt first"))
        }
    }
}

/// The last of so many.
fn end(first: &str, many: &str) -> Result<u32, String> {
    let wrong =
        || format!("{first}+{many}: a length is a number, at least 1, that stays within 32 bits");
    let many = match read(many) {
        Ok(Name::Stream(many)) => many.checked_sub(1),
        _ => None,
    };
    stream(first)?.checked_add(many.ok_or_else(wrong)?).ok_or_else(wrong)
}

/// `16 StreamIDs, 0x40 to 0x4f`.
fn streams(filter: &Filter) -> String {
    let many = u64::from(filter.last - filter.first) + 1;
    let all = count(many, "StreamID");
    if many == 1 {
        return format!("{all}, {:#x}", filter.first);
    }
    format!("{all}, {:#x} to {:#x}", filter.first, filter.last)
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}  {}", self.perf(), streams(self))?;
        let function = |stream| u16::try_from(stream).ok().map(Function::of_requester);
        match (function(self.first), function(self.last)) {
            (Some(first), Some(last)) if first != last => write!(f, " ({first} to {last})"),
            (Some(first), _) => write!(f, " ({first})"),
            _ => Ok(()),
        }
    }
}

/// A filter, as Linux's `perf` names its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// The value.
    #[serde(serialize_with = "crate::hex::serialize")]
    pub filter_stream_id: u32,
    /// Whether it stands for more than itself.
    pub filter_span: bool,
    /// The first StreamID that passes.
    #[serde(serialize_with = "crate::hex::serialize")]
    pub first: u32,
    /// The last one.
    #[serde(serialize_with = "crate::hex::serialize")]
    pub last: u32,
}

impl Filter {
    /// With filter_span=1: what `value` lets through.
    pub const fn span(value: u32) -> Self {
        // Bits that are not compared: the ones from bit 0 on, and the 0 above them.
        let ignored = value ^ value.wrapping_add(1);
        let (first, last) = (value & !ignored, value | ignored);
        Self { filter_stream_id: value, filter_span: true, first, last }
    }

    /// The 2^`log2` StreamIDs from `first` on, a multiple of as much.
    const fn block(first: u32, log2: u32) -> Self {
        match log2 {
            0 => Self { filter_stream_id: first, filter_span: false, first, last: first },
            1..=31 => Self::span(first | ((1 << (log2 - 1)) - 1)),
            _ => Self::span(u32::MAX),
        }
    }

    /// As an event of `perf` has it.
    pub fn perf(&self) -> String {
        format!(
            "filter_enable=1,filter_span={},filter_stream_id={:#x}",
            u8::from(self.filter_span),
            self.filter_stream_id
        )
    }
}

/// The fewest filters that let exactly `first` to `last` through.
pub fn exact(first: u32, last: u32) -> Vec<Filter> {
    let mut filters = Vec::new();
    let (mut at, end) = (u64::from(first), u64::from(last) + 1);
    while at < end {
        let fits = (end - at).ilog2();
        let log2 = at.trailing_zeros().min(fits);
        // At most 32 bits: it is before the end.
        filters.push(Filter::block(at as u32, log2));
        at += 1 << log2;
    }
    filters
}

/// The one filter of fewest StreamIDs that lets all of `first` to `last` through.
pub fn covering(first: u32, last: u32) -> Filter {
    let log2 = u32::BITS - (first ^ last).leading_zeros();
    let mask = if log2 == u32::BITS { 0 } else { u32::MAX << log2 };
    Filter::block(first & mask, log2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ignores_its_trailing_ones_and_the_zero_above() {
        let of = |value| (Filter::span(value).first, Filter::span(value).last);
        // Section 6 of the log samples, and the form `…0111` of §18, which ignores 4 bits.
        assert_eq!(of(0x42), (0x42, 0x43));
        assert_eq!(of(0x47), (0x40, 0x4f));
        assert_eq!(of(0), (0, 1));
        assert_eq!(of(0x7d7f), (0x7d00, 0x7dff));
        assert_eq!(of(u32::MAX >> 1), (0, u32::MAX));
        assert_eq!(of(u32::MAX), (0, u32::MAX));
    }

    #[test]
    fn ranges_have_their_end_or_their_length() {
        let filters =
            |asked: &str| Spans::of(&[asked.to_owned()]).map(|it| it.spans[0].filters.clone());
        assert_eq!(filters("0x40-0x4f"), Ok(vec![Filter::span(0x47)]));
        assert_eq!(filters("01:00.0+8"), Ok(vec![Filter::span(0x103)]));
        assert_eq!(filters("0x47"), Ok(vec![Filter::span(0x47)]));
        for wrong in ["5-4", "5+0", "0xffffffff+2", "5+01:00.0", "5-", r"\\_SB.DMA0"] {
            assert!(filters(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_are_as_few_filters_as_can_be() {
        let all = |first, last| {
            let filters = exact(first, last);
            filters.iter().map(|f| (f.filter_stream_id, f.filter_span)).collect::<Vec<_>>()
        };
        assert_eq!(all(0x42, 0x42), [(0x42, false)]);
        assert_eq!(all(0x42, 0x43), [(0x42, true)]);
        assert_eq!(all(0x40, 0x4f), [(0x47, true)]);
        assert_eq!(all(0x41, 0x44), [(0x41, false), (0x42, true), (0x44, false)]);
        assert_eq!(all(0, u32::MAX), [(u32::MAX, true)]);
        assert_eq!(all(1 << 31, u32::MAX), [(0xbfff_ffff, true)]);
        assert_eq!(all(u32::MAX, u32::MAX), [(u32::MAX, false)]);
        assert_eq!(exact(1, u32::MAX - 1).len(), 62);
    }

    #[test]
    fn exact_filters_let_through_what_they_are_for_each_once() {
        for first in 0..40 {
            for last in first..80 {
                let filters = exact(first, last);
                let through: Vec<u32> = filters.iter().flat_map(|f| f.first..=f.last).collect();
                assert_eq!(through, (first..=last).collect::<Vec<_>>());
                let one = covering(first, last);
                assert!(one.first <= first && last <= one.last, "{first} {last} {one:?}");
                assert!(
                    one.first == one.last || filters.len() == 1 || {
                        // Half of it would not do.
                        let half = one.first + (one.last - one.first) / 2;
                        first <= half && half < last
                    }
                );
            }
        }
        assert_eq!(covering(0x41, 0x44), Filter::span(0x43));
        assert_eq!(covering(0x7fff_ffff, 0x8000_0000), Filter::span(u32::MAX));
        assert_eq!(covering(5, 5), Filter::block(5, 0));
    }
}
