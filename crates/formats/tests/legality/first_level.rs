// SPDX-License-Identifier: MIT OR Apache-2.0
//! What first-level descriptors (§5.1, §6) and reserved bits (§7) break.

use smmuv3_formats::legality::{self, Implementation};
use smmuv3_formats::{Cd, L1Cd, L1Std, Ste};

use super::bench::{BYPASS, CONTEXT, NESTED, STAGE_1, STAGE_2, hardware, ste};

fn l1_std(word: u64, split: Option<u64>, hardware: Option<&Implementation>) -> Vec<&'static str> {
    let mut found = Vec::new();
    legality::l1_std(&L1Std([word]), split, hardware, &mut |rule| found.push(rule.field));
    found
}

fn l1_cd(word: u64, ste: Option<&Ste>, hardware: Option<&Implementation>) -> Vec<&'static str> {
    let mut found = Vec::new();
    legality::l1_cd(&L1Cd([word]), ste, hardware, &mut |rule| found.push(rule.field));
    found
}

#[test]
fn level_1_stream_table_descriptors() {
    for (word, split, expected) in [
        // 256 STEs are 16 KiB.
        (0x8000_4009, Some(8), &[][..]),
        (0x8000_4009, None, &[]),
        (0x8000_2009, None, &["L2Ptr"]),
        // One STE is 64 bytes: any L2Ptr is aligned.
        (0x8000_0041, None, &[]),
        (0x8000_0042, None, &["L2Ptr"]),
        // Span up to SPLIT + 1; 11 is the largest there is.
        (0x8000_000a, Some(8), &["Span"]),
        (0x8001_000b, Some(10), &[]),
        (0x8001_000b, None, &[]),
        (0x8000_0008, Some(6), &["Span"]),
        // Splits that are reserved behave as 6.
        (0x8000_0008, Some(7), &["Span"]),
        (0x8000_000c, Some(10), &["Span"]),
        (0x8000_001f, None, &["Span"]),
        // Reserved: 5 and 63:56.
        (0x8000_4029, None, &["word 0"]),
        (0x0100_0000_8000_4009, None, &["word 0"]),
        // Nothing counts with Span = 0.
        (0xffff_ffff_ffff_ffe0, Some(8), &[]),
    ] {
        assert_eq!(l1_std(word, split, None), expected, "{word:#x} {split:?}");
    }
    let far = 1 << 44 | 9;
    assert_eq!(l1_std(far, None, Some(&hardware(&[("IDR5.OAS", 4)]))), ["L2Ptr"]);
    assert_eq!(l1_std(far, None, Some(&hardware(&[]))), [""; 0]);
}

#[test]
fn level_1_context_descriptors() {
    let small = ste(STAGE_1, &[("S1CDMax", 8), ("S1Fmt", 1)]);
    let large = ste(STAGE_1, &[("S1CDMax", 12), ("S1Fmt", 2)]);
    for (word, ste, expected) in [
        (0x8000_1001, None, &[][..]),
        (0x8000_1001, Some(&small), &[]),
        (0x8000_1001, Some(&large), &["L2Ptr"]),
        (0x8001_0001, Some(&large), &[]),
        // Reserved: 11:1 and 63:56.
        (0x8000_1003, None, &["word 0"]),
        (0x8000_1801, None, &["word 0"]),
        (0x8000_0000_0000_1001, None, &["word 0"]),
        // Nothing counts with V = 0.
        (0xffff_ffff_ffff_fffe, Some(&large), &[]),
    ] {
        assert_eq!(l1_cd(word, ste, None), expected, "{word:#x}");
    }
    // An intermediate address may have 40 bits with LPAE although OAS is 36.
    let narrow = hardware(&[("IDR5.OAS", 1), ("IDR0.TTF", 3)]);
    let nested = ste(NESTED, &[("S1CDMax", 8), ("S1Fmt", 1)]);
    let far = 1 << 38 | 1;
    assert_eq!(l1_cd(far, Some(&small), Some(&narrow)), ["L2Ptr"]);
    assert_eq!(l1_cd(far, Some(&nested), Some(&narrow)), [""; 0]);
    assert_eq!(l1_cd(far, None, Some(&narrow)), [""; 0]);
    assert_eq!(l1_cd(1 << 40 | 1, None, Some(&narrow)), ["L2Ptr"]);
}

#[test]
fn reserved_bits_of_entries() {
    let in_ste = |ste: Ste, implementation: Option<&Implementation>| {
        let mut found = Vec::new();
        legality::ste_reserved(&ste, implementation, &mut |rule| found.push(rule.field));
        found
    };
    for clean in [STAGE_1, STAGE_2, NESTED, BYPASS] {
        assert_eq!(in_ste(clean, None), [""; 0]);
    }
    let mut dirty = STAGE_1;
    (dirty.0[0], dirty.0[1], dirty.0[6]) = (dirty.0[0] | 1 << 56, dirty.0[1] | 1 << 41, 1 << 3);
    assert_eq!(in_ste(dirty, None), ["word 0", "word 1", "word 6"]);
    dirty.0[0] &= !1;
    assert_eq!(in_ste(dirty, None), [""; 0], "V = 0: the rest is ignored");
    // §5.2: S2TTB reaches bit 55 with 128-bit tables.
    let mut large = STAGE_2;
    large.0[3] |= 1 << 53;
    assert_eq!(in_ste(large, None), ["word 3"]);
    assert_eq!(in_ste(large, Some(&hardware(&[]))), ["word 3"]);
    assert_eq!(in_ste(large, Some(&hardware(&[("IDR5.D128", 1)]))), [""; 0]);

    let in_cd = |cd: Cd, implementation: Option<&Implementation>| {
        let mut found = Vec::new();
        legality::cd_reserved(&cd, implementation, &mut |rule| found.push(rule.field));
        found
    };
    assert_eq!(in_cd(CONTEXT, None), [""; 0]);
    let mut dirty = CONTEXT;
    (dirty.0[1], dirty.0[2], dirty.0[7]) = (dirty.0[1] | 1 << 52, 1 << 57, 1 << 48);
    assert_eq!(in_cd(dirty, None), ["word 1", "word 2", "word 7"]);
    assert_eq!(in_cd(dirty, Some(&hardware(&[("IDR5.D128", 1)]))), ["word 2", "word 7"]);
    dirty.0[0] &= !(1 << 31);
    assert_eq!(in_cd(dirty, None), [""; 0], "V = 0: the rest is ignored");
}
