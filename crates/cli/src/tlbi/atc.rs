// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the translations that a device caches are invalidated by: CMD_ATC_INV (§4.2), which names 4 KiB times a power of
//! two, aligned to as much.

use smmuv3_formats::command::AtcInv;

/// log2 of the pages of a span that is everything.
pub const ALL: u32 = 52;

/// A span: its first address and log2 of its 4 KiB pages.
pub type Span = (u64, u32);

/// The smallest span with all of `first` to `last`: more than that, as a rule.
pub const fn covering(first: u64, last: u64) -> Span {
    let (first, last) = (first >> 12, last >> 12);
    let pages_log2 = u64::BITS - (first ^ last).leading_zeros();
    // Page numbers have 52 bits.
    (if pages_log2 >= ALL { 0 } else { (first >> pages_log2 << pages_log2) << 12 }, pages_log2)
}

/// How many spans it would take to name exactly the pages from `first` to `last`.
pub fn exact(first: u64, last: u64) -> u32 {
    let (mut at, end) = (first >> 12, (last >> 12) + 1);
    let mut spans = 0;
    while at < end {
        at += 1 << at.trailing_zeros().min((end - at).ilog2());
        spans += 1;
    }
    spans
}

/// The command for `span` of a stream, and of a substream of it if one is named.
pub const fn command((address, pages_log2): Span, sid: u32, ssid: Option<u32>) -> AtcInv {
    let command =
        AtcInv::new().with_sid(sid as u64).with_size(pages_log2 as u64).with_addr(address);
    match ssid {
        Some(ssid) => command.with_ssv(true).with_ssid(ssid as u64),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_the_linux_reference() {
        // B.6: [8, 11] -> 8, 2; [7, 10] -> 0, 4; one page; two that have nothing in common; a few; everything.
        let of = |first: u64, bytes: u64| covering(first, first + (bytes - 1));
        assert_eq!(of(8 << 12, 4 << 12), (8 << 12, 2));
        assert_eq!(of(7 << 12, 4 << 12), (0, 4));
        assert_eq!(of(0x1234_5000, 0x1000), (0x1234_5000, 0));
        assert_eq!(of(0xff_f000, 0x2000), (0, 13));
        assert_eq!(of(0x1234_5000, 0x1_0000), (0x1234_0000, 5));
        assert_eq!(covering(0, u64::MAX), (0, 52));
    }

    #[test]
    fn exact_spans_are_counted() {
        assert_eq!(exact(8 << 12, (12 << 12) - 1), 1);
        // 7, 8 and 9, 10.
        assert_eq!(exact(7 << 12, (11 << 12) - 1), 3);
        assert_eq!(exact(0xff_f000, 0x100_0fff), 2);
        assert_eq!(exact(0, u64::MAX), 1);
    }

    #[test]
    fn commands_are_those_of_the_reference() {
        // §4.1: all of stream 0x100.
        assert_eq!(command((0, ALL), 0x100, None).0, [0x0000_0100_0000_0040, 0x34]);
        // SSV [11], SSID [31:12].
        assert_eq!(
            command((0x1234_0000, 5), 0x100, Some(3)).0,
            [0x0000_0100_0000_3840, 0x1234_0005]
        );
    }
}
