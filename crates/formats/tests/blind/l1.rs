// SPDX-License-Identifier: MIT OR Apache-2.0
//! Level-1 descriptors (§5.1, §6): what software must not store there. Hardware takes any of them, and then
//! finds nothing, or drops bits.

use smmuv3_formats::legality::{Implementation, Rule};
use smmuv3_formats::{L1Cd, L1Std, Ste, legality};

use crate::ste::{NESTED, S1};
use crate::{OAS44, OAS48, changed, implementation, set};

/// What, the word, SPLIT, and whether something is told where addresses have 44 bits.
const STREAMS: &[(&str, u64, u64, bool)] = &[
    ("nothing", 0, 8, false),
    ("Span 1: one STE", 0x8002_0041, 8, false),
    ("Span 2: two, aligned", 0x8002_0082, 8, false),
    ("Span 2: two, not aligned", 0x8002_0042, 8, true),
    ("Span 9 of SPLIT 8: full, 16 KiB", 0x8002_4009, 8, false),
    ("Span 9: aligned to 8 KiB alone", 0x8002_2009, 8, true),
    ("Span 10 of SPLIT 8", 0x8002_000A, 8, true),
    ("Span 7 of SPLIT 6: full, 4 KiB", 0x8002_1007, 6, false),
    ("Span 8 of SPLIT 6", 0x8002_0008, 6, true),
    ("Span 11 of SPLIT 10: full, 64 KiB", 0x8002_000B, 10, false),
    ("Span 11: aligned to 32 KiB alone", 0x8002_800B, 10, true),
    ("Span 11 of SPLIT 8", 0x8002_000B, 8, true),
    ("Span 12 is as 0", 0x8002_000C, 10, true),
    ("Span 31 is as 0", 0x8002_001F, 10, true),
    ("bit 43 of 44", 0x0800_8002_0041, 8, false),
    ("bit 44 of 44", 0x1000_8002_0041, 8, true),
    ("bit 55 of 44", 0x0080_0000_8002_0041, 8, true),
    ("reserved bit 5", 0x8002_0061, 8, true),
    ("reserved bit 56", 0x0100_0000_8002_0041, 8, true),
    ("reserved bit 63", 0x8000_0000_8002_0041, 8, true),
];

#[test]
fn streams() {
    for &(what, word, split, expected) in STREAMS {
        let mut told = Vec::new();
        let smmu = implementation(&[OAS44]);
        legality::l1_std(&L1Std([word]), Some(split), Some(&smmu), &mut |rule| told.push(rule));
        assert_eq!(!told.is_empty(), expected, "{what}: {told:?}");
    }
}

/// With what an SMMU can output, bit 44 is an address like any other.
#[test]
fn streams_of_a_wider_smmu() {
    let mut told = false;
    let smmu = implementation(&[OAS48]);
    let std = L1Std([0x1000_8002_0041]);
    legality::l1_std(&std, Some(8), Some(&smmu), &mut |_| told = true);
    assert!(!told);
}

/// `S1` and `NESTED` with 2^12 CDs behind leaves of 4 or of 64 KiB.
fn leaves(ste: [u64; 8], format: u64) -> Ste {
    Ste(changed(ste, &[set(0, 63, 59, 12), set(0, 5, 4, format)]))
}

fn told(word: u64, ste: &Ste, smmu: &Implementation) -> Vec<Rule> {
    let mut told = Vec::new();
    legality::l1_cd(&L1Cd([word]), Some(ste), Some(smmu), &mut |rule| told.push(rule));
    told
}

/// What, the word, S1Fmt, and whether something is told where addresses have 44 bits.
const CONTEXTS: &[(&str, u64, u64, bool)] = &[
    ("nothing", 0, 1, false),
    ("not valid: the rest is software's", 0xFFFF_FFFF_FFFF_FFFE, 1, false),
    ("4 KiB", 0x8002_1001, 1, false),
    ("64 KiB", 0x8002_0001, 2, false),
    ("64 KiB, bit 12", 0x8002_1001, 2, true),
    ("64 KiB, bit 15", 0x8002_8001, 2, true),
    ("4 KiB, bit 15", 0x8002_8001, 1, false),
    ("bit 43 of 44", 0x0800_8002_1001, 1, false),
    ("bit 44 of 44", 0x1000_8002_1001, 1, true),
    ("bit 55 of 44", 0x0080_0000_8002_1001, 1, true),
    ("reserved bit 1", 0x8002_1003, 1, true),
    ("reserved bit 11", 0x8002_1801, 1, true),
    ("reserved bit 56", 0x0100_0000_8002_1001, 1, true),
    ("reserved bit 63", 0x8000_0000_8002_1001, 1, true),
];

#[test]
fn contexts() {
    for &(what, word, format, expected) in CONTEXTS {
        for ste in [S1, NESTED] {
            let told = told(word, &leaves(ste, format), &implementation(&[OAS44]));
            assert_eq!(!told.is_empty(), expected, "{what}: {told:?}");
        }
    }
}

/// Behind both stages L2Ptr is an IPA (§6). IAS is 40 bits with LPAE where OAS is 36 (§2.3).
#[test]
fn contexts_behind_stage_2_have_intermediate_addresses() {
    let smmu = implementation(&[crate::OAS36]);
    let bit_39 = 0x80_8002_1001;
    assert!(told(bit_39, &leaves(NESTED, 1), &smmu).is_empty());
    assert!(!told(bit_39, &leaves(S1, 1), &smmu).is_empty());
    let bit_40 = 0x100_8002_1001;
    assert!(!told(bit_40, &leaves(NESTED, 1), &smmu).is_empty());
}
