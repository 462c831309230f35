// SPDX-License-Identifier: MIT OR Apache-2.0
//! What events (§10) and page requests (§13) break.

use smmuv3_formats::legality::{self, Implementation};
use smmuv3_formats::{EventRecord, PageRequest};

use super::bench::hardware;

fn event(words: [u64; 4], implementation: Option<&Implementation>) -> Vec<&'static str> {
    let mut found = Vec::new();
    legality::event(&EventRecord(words), implementation, &mut |rule| found.push(rule.field));
    found
}

fn request(words: [u64; 2], implementation: Option<&Implementation>) -> Vec<&'static str> {
    let mut found = Vec::new();
    legality::page_request(&PageRequest(words), implementation, &mut |rule| found.push(rule.field));
    found
}

const NONE: [&str; 0] = [];

// Word 1: RnW 35, InD 34, S2 39, CLASS 41:40.
const READ: u64 = 1 << 35;
const INSTRUCTION: u64 = 1 << 34;
const STAGE_2: u64 = 1 << 39;
const TABLE: u64 = 1 << 40;
const INPUT: u64 = 2 << 40;
const STALL: u64 = 1 << 31;

#[test]
fn what_hardware_may_write_breaks_nothing() {
    for words in [
        // §10.2's examples.
        [0x0000_0200_0000_0010, 0x0000_0200_0000_0000, 0, 0],
        [0x0000_0200_0000_0010, 0x0000_0208_0000_0000, 0x1000, 0],
        // Read from 0x7ffd105a00.
        [0x0000_0900_0000_0010, 0x0000_0208_0000_0000, 0x0000_007f_fd10_5a00, 0],
        // C_BAD_STREAMID, C_BAD_SUBSTREAMID.
        [0x0000_c900_0000_0002, 0, 0, 0],
        [0x0000_0001_0000_0008, 0, 0, 0],
        // SubstreamID without SSV, STAG without Stall, IPA without S2: unknown, not zero.
        [0x0000_0200_1234_5010, INPUT | READ | 0x80, 0xffff_e040, 0xffff_e000],
        // A stall; stage 2 on a context descriptor, a table, its input.
        [0x0000_0200_0000_5810, INPUT | STALL | 7, 0x1000, 0],
        [0x0000_0200_0000_0010, STAGE_2, 0x1000, 0x8002_0000],
        [0x0000_0200_0000_0010, STAGE_2 | TABLE | READ, 0x1000, 0x8001_0000],
        [0x0000_0200_0000_0012, STAGE_2 | INPUT | READ | INSTRUCTION, 0x1000, 0x1000],
        // F_WALK_EABT of stage 1 has CLASS = TT.
        [0x0000_0200_0000_000b, TABLE | READ | 0x1_ffff, 0x1000, 0x8001_1248],
        // F_UUT shows what came in: an instruction write.
        [0x0000_0200_0000_0001, INSTRUCTION, 0x1000, 0],
        // Uncertain places.
        [0x0000_0200_0000_5806, 0, 0, 0],
        [0x0000_0200_0000_5807, READ, 0x1000, 0],
        [0x0000_0200_0000_0005, u64::MAX, 0x1000, 0],
        [0x0000_0200_0000_0013, INPUT | 1 << 44 | 1 << 50, 0x1000, 0],
        // Implementation defined.
        [!0x1f, u64::MAX, u64::MAX, u64::MAX],
    ] {
        assert_eq!(event(words, None), NONE, "{words:#x?}");
    }
}

#[test]
fn what_it_may_not_write_is_named() {
    for (words, expected) in [
        // Bit 32 and bit 44 of word 1, both seen on real machines, and the low bits of the IPA.
        ([0x0000_0180_0000_0010, 0x0000_0201_0000_0000, 0xffff_e040, 0xffff_e000], &["word 1"][..]),
        ([0x0000_7900_0000_0010, 0x0000_1208_0000_0080, 0, 0], &["word 1"]),
        ([0x0000_7900_0000_0110, INPUT, 0, 0x1008], &["word 0", "word 3"]),
        // C_BAD_SUBSTREAMID has no SSV, and only two fields.
        ([0x0000_0001_0000_0808, 1, 1, 1], &["word 0", "word 1", "word 2", "word 3"]),
        // FetchAddr is aligned to 8 bytes.
        ([0x0000_0200_0000_0003, 0, 0, 0x8002_0004], &["word 3"]),
        // CLASS: 3; CD and TT at stage 1; IN for an abort of a walk at stage 1.
        ([0x0000_0200_0000_0010, 3 << 40 | STAGE_2, 0, 0], &["CLASS"]),
        ([0x0000_0200_0000_0010, 0, 0, 0], &["CLASS"]),
        ([0x0000_0200_0000_0013, TABLE, 0, 0], &["CLASS"]),
        ([0x0000_0200_0000_000b, INPUT, 0, 0], &["CLASS"]),
        // InD of a write, also of a stalled one.
        ([0x0000_0200_0000_0012, INPUT | INSTRUCTION | STALL, 0, 0], &["InD"]),
        ([0x0000_0200_0000_0020, INSTRUCTION, 0, 0], &["InD"]),
        // NSIPA is of Secure streams.
        ([0x0000_0200_0000_0010, STAGE_2 | INPUT | 1 << 38, 0, 0x1000], &["NSIPA"]),
        // What never stalls; once, not as a reserved bit too.
        ([0x0000_0200_0000_000a, STALL, 0, 0], &["Stall"]),
        ([0x0000_0200_0000_0024, STALL, 0, 0], &["Stall"]),
        ([0x0000_0200_0000_000b, STALL | TABLE, 0, 0], &["Stall"]),
        // No event.
        ([0, 0, 0, 0], &["EventID"]),
        ([0x26, u64::MAX, u64::MAX, u64::MAX], &["EventID"]),
        ([0xf0, 0, 0, 0], &["EventID"]),
    ] {
        assert_eq!(event(words, None), expected, "{words:#x?}");
    }
}

#[test]
fn events_that_an_instance_cannot_have() {
    let translation = |w0: u64, w1: u64, ipa: u64| [0x0000_0200_0000_0010 | w0, w1, 0x1000, ipa];
    let plain = translation(0, INPUT, 0);
    for (changes, words, expected) in [
        (&[][..], plain, &[][..]),
        (&[("IDR0.S2P", 0)], plain, &[]),
        (&[("IDR0.S2P", 0)], translation(0, INPUT | STAGE_2, 0), &["S2"]),
        (&[("IDR0.S1P", 0)], plain, &["CLASS"]),
        (&[("IDR0.S1P", 0)], translation(0, INPUT | STAGE_2, 0), &[]),
        (&[("IDR0.S1P", 0)], translation(0, TABLE | STAGE_2, 0), &["CLASS"]),
        // An input too large for a stage 1 that is not there.
        (&[("IDR0.S1P", 0)], [0x0000_0200_0000_0011, INPUT, 1 << 60, 0], &[]),
        (&[("IDR0.S1P", 0)], [0x0000_0200_0000_000a, 0, 0, 0], &["EventID"]),
        (&[("IDR0.S1P", 0)], [0x0000_0200_0000_0009, 0, 0, 0], &["EventID"]),
        (&[("IDR0.ATS", 0)], [0x0000_0200_0000_0005, 0, 0, 0], &["EventID"]),
        (&[("IDR0.ATS", 0)], [0x0000_0200_0000_0007, 0, 0, 0], &["EventID"]),
        (&[("IDR3.MPAM", 0)], [0x0000_0200_0000_0025, 0, 0, 0], &["EventID"]),
        (&[], [0x0000_0200_0000_0003, 1 << 16, 0, 0], &["GPCF"]),
        (&[("IDR0.RME_IMPL", 1)], [0x0000_0200_0000_0003, 1 << 16, 0, 0], &[]),
        (&[("IDR0.STALL_MODEL", 1)], translation(0, INPUT | STALL, 0), &["Stall"]),
        (&[("IDR0.STALL_MODEL", 2)], translation(0, INPUT | STALL, 0), &[]),
        // 52 bits, and 44.
        (&[], translation(0, INPUT | STAGE_2, 1 << 51), &[]),
        (&[("IDR5.OAS", 4)], translation(0, INPUT | STAGE_2, 1 << 44), &["IPA"]),
        (&[("IDR5.OAS", 4)], translation(0, INPUT, 1 << 44), &[]),
        // SID 0x200 has ten bits; SSID 5 three.
        (&[("IDR1.SIDSIZE", 9)], plain, &["StreamID"]),
        (&[("IDR1.SIDSIZE", 10)], plain, &[]),
        (&[("IDR1.SSIDSIZE", 2)], translation(0x5800, INPUT, 0), &["SubstreamID"]),
        (&[("IDR1.SSIDSIZE", 2)], translation(0x5000, INPUT, 0), &[]),
        (&[("IDR1.SSIDSIZE", 3)], translation(0x5800, INPUT, 0), &[]),
        (&[("IDR1.SSIDSIZE", 0)], [0x0000_0200_0000_5808, 0, 0, 0], &["word 0"]),
    ] {
        assert_eq!(event(words, Some(&hardware(changes))), expected, "{changes:?} {words:#x?}");
    }
}

#[test]
fn page_requests() {
    const SSV: u64 = 1 << 63;
    const LAST: u64 = 1 << 62;
    const EXECUTE: u64 = 1 << 59;
    const PRIVILEGED: u64 = 1 << 58;
    for (words, expected) in [
        ([SSV | LAST | EXECUTE | PRIVILEGED | 5 << 32 | 0x100, 0x1005], &[][..]),
        // A stop marker; the same without PASID is a request.
        ([SSV | LAST | 5 << 32 | 0x100, 0], &[]),
        ([LAST | 0x100, 0x1000], &[]),
        // The SubstreamID is unknown without SSV.
        ([5 << 32 | 0x100, 0x1000], &[]),
        ([EXECUTE | 0x100, 0x1000], &["X"]),
        ([EXECUTE | PRIVILEGED | 0x100, 0x1000], &["X", "Priv"]),
        // Reserved: 57:52, and 11:9 of word 1.
        ([1 << 52 | 1 << 57, 0x1000], &["word 0"]),
        ([0x100, 0x1200], &["word 1"]),
    ] {
        assert_eq!(request(words, None), expected, "{words:#x?}");
    }
    let plain = [SSV | 5 << 32 | 0x100, 0x1000];
    for (changes, words, expected) in [
        (&[][..], plain, &[][..]),
        (&[("IDR0.PRI", 0)], plain, &["PRI"]),
        (&[("IDR1.SSIDSIZE", 0)], plain, &["SSV"]),
        (&[("IDR1.SSIDSIZE", 0)], [5 << 32 | 0x100, 0x1000], &[]),
        (&[("IDR1.SSIDSIZE", 2)], plain, &["SSID"]),
        (&[("IDR1.SIDSIZE", 8)], plain, &["SID"]),
        (&[("IDR1.SIDSIZE", 9)], plain, &[]),
    ] {
        assert_eq!(request(words, Some(&hardware(changes))), expected, "{changes:?} {words:#x?}");
    }
}
