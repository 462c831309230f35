// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptors of translation tables (§15.1 to §15.3, §16.3, §8.2), each a word written by hand: at its place, and the
//! rule that must answer.

use smmuv3_formats::descriptor::{Form, Stage};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::legality::{Place, descriptor};

use Granule::{K4, K16, K64};

/// Where nothing is there but the tables: 48 bits come out.
const fn place(stage: Stage, granule: Granule, level: i8) -> Place {
    let form = Form { granule, ..Form::new(stage, level) };
    let input = 0x9000_0000;
    Place { form, input, output_bits: 48, one_privilege: false, xnx: false, haft: false, bbml: 0 }
}

const fn s1(granule: Granule, level: i8) -> Place {
    place(Stage::One, granule, level)
}

const fn s2(granule: Granule, level: i8) -> Place {
    place(Stage::Two, granule, level)
}

/// With 52 bits: LPA2, or LPA with 64 KiB.
const fn wide(mut place: Place) -> Place {
    place.form.ds = !matches!(place.form.granule, K64);
    place.form.output_bits = 52;
    Place { output_bits: 52, ..place }
}

const fn indirect(mut place: Place) -> Place {
    place.form.pie = true;
    place
}

const fn forced(mut place: Place) -> Place {
    place.form.fwb = true;
    place
}

const fn el2(place: Place) -> Place {
    Place { one_privilege: true, ..place }
}

const fn out(place: Place, output_bits: u32) -> Place {
    Place { output_bits, ..place }
}

const fn at(place: Place, input: u64) -> Place {
    Place { input, ..place }
}

const fn bbml(place: Place, bbml: u64) -> Place {
    Place { bbml, ..place }
}

/// What, the word, its place, and the section and field that answer.
type Row = (&'static str, u64, Place, Option<(&'static str, &'static str)>);

const RESERVED_TYPE: Option<(&str, &str)> = Some(("15.1", "Type"));
const TABLE_BITS: Option<(&str, &str)> = Some(("15.2", "word 0"));
const LEAF_BITS: Option<(&str, &str)> = Some(("15.3", "word 0"));
const NO_GROUP: Option<(&str, &str)> = Some(("15.1", "Contiguous"));
const GROUP: Option<(&str, &str)> = Some(("8.2", "Contiguous"));
const OUTPUT: Option<(&str, &str)> = Some(("15.3", "OA"));
const NEXT: Option<(&str, &str)> = Some(("15.3", "NextTable"));

/// Appendix A1: AttrIndx 0, AP 01, ISH, AF, nG, PXN, UXN, at 0x9000_0000.
const PAGE: u64 = 0x0060_0000_9000_0F43;
/// The same as a block of 2 MiB, 32 MiB or 512 MiB, at 0x8000_0000.
const BLOCK: u64 = 0x0060_0000_8000_0F41;
/// Stage 2: WB, ISH, read and write, AF.
const PAGE_2: u64 = 0x9000_07FF;
const BLOCK_2: u64 = 0x8000_07FD;

const TYPES: &[Row] = &[
    ("nothing", 0, s1(K4, 3), None),
    ("not valid: the rest is software's", 0xFFFF_FFFF_FFFF_FFFE, s1(K4, 3), None),
    ("A1, level 0", 0x8001_1003, s1(K4, 0), None),
    ("A1, level 3", PAGE, s1(K4, 3), None),
    ("stage 2, level 3", PAGE_2, s2(K4, 3), None),
    ("a block at level 3", BLOCK, s1(K4, 3), RESERVED_TYPE),
    ("4K, level 2", BLOCK, s1(K4, 2), None),
    ("4K, level 1", BLOCK, s1(K4, 1), None),
    ("4K, level 0", 0x0060_0000_0000_0F41, s1(K4, 0), RESERVED_TYPE),
    ("4K, level 0, DS", 0x0060_0000_0000_0C41, wide(s1(K4, 0)), None),
    ("4K, level -1, DS", 0x0060_0000_0000_0C41, wide(s1(K4, -1)), RESERVED_TYPE),
    ("4K, level -1, a table", 0x8001_1003, s1(K4, -1), RESERVED_TYPE),
    ("4K, level -1, a table, DS", 0x8001_1003, wide(s1(K4, -1)), None),
    ("16K, level 2", BLOCK, s1(K16, 2), None),
    ("16K, level 1", 0x0060_0000_0000_0F41, s1(K16, 1), RESERVED_TYPE),
    ("16K, level 1, DS", 0x0060_0000_0000_0C41, wide(s1(K16, 1)), None),
    ("16K, level 0", 0x0060_0000_0000_0C41, wide(s1(K16, 0)), RESERVED_TYPE),
    ("64K, level 2", BLOCK, s1(K64, 2), None),
    ("64K, level 1", 0x0060_0000_0000_0F41, s1(K64, 1), RESERVED_TYPE),
    ("64K, level 1, 52 bits", 0x0060_0000_0000_0F41, wide(s1(K64, 1)), None),
    ("64K, level 0, a table", 0x8001_0003, s1(K64, 0), RESERVED_TYPE),
    ("stage 2, 4K, level 0", 0x7FD, s2(K4, 0), RESERVED_TYPE),
];

const TABLES: &[Row] = &[
    ("software's bits", 0x07F8_0000_8001_1FFF & !0x400, s1(K4, 1), None),
    ("APTable, UXNTable, PXNTable", 0x7800_0000_8001_1003, s1(K4, 1), None),
    ("NSTable", 0x8000_0000_8001_1003, s1(K4, 1), Some(("15.2", "NSTable"))),
    ("bit 59 of stage 2", 0x0800_0000_8001_1003, s2(K4, 1), TABLE_BITS),
    ("bit 62 of stage 2", 0x4000_0000_8001_1003, s2(K4, 1), TABLE_BITS),
    ("AF without HAFT", 0x8001_1403, s1(K4, 1), Some(("15.2", "AF"))),
    ("AF with HAFT", 0x8001_1403, Place { haft: true, ..s1(K4, 1) }, None),
    ("AF with S2HAFT", 0x8001_1403, Place { haft: true, ..s2(K4, 1) }, None),
    ("AF without S2HAFT", 0x8001_1403, s2(K4, 1), Some(("15.2", "AF"))),
    ("bit 48", 0x0001_0000_8001_1003, s1(K4, 1), TABLE_BITS),
    ("bit 48, DS", 0x0001_0000_8001_1003, wide(s1(K4, 1)), None),
    ("bit 50, DS", 0x0004_0000_8001_1003, wide(s1(K4, 1)), TABLE_BITS),
    ("address bits 51:50, DS", 0x8001_1303, wide(s1(K4, 1)), None),
    ("address bit 50, DS, output 50 bits", 0x8001_1103, out(wide(s1(K4, 1)), 50), NEXT),
    ("address bit 48, DS, output 48 bits", 0x0001_0000_8001_1003, out(wide(s1(K4, 1)), 48), NEXT),
    ("address bit 44 of 44", 0x1000_8001_1003, out(s1(K4, 1), 44), NEXT),
    ("address bit 43 of 44", 0x0800_8001_1003, out(s1(K4, 1), 44), None),
    ("address bit 40 of 40, stage 2", 0x0100_8001_1003, out(s2(K4, 1), 40), NEXT),
    ("16K, aligned", 0x8001_4003, s1(K16, 1), None),
    ("16K, bit 12", 0x8001_1003, s1(K16, 1), TABLE_BITS),
    ("64K, aligned", 0x8001_0003, s1(K64, 2), None),
    ("64K, bit 15", 0x8001_8003, s1(K64, 2), TABLE_BITS),
    ("64K, address bit 51", 0x8001_8003, wide(s1(K64, 2)), None),
    ("64K, address bit 48 of 48", 0x8001_1003, out(wide(s1(K64, 2)), 48), NEXT),
];

const LEAVES: &[Row] = &[
    ("software's bits, PBHA, bit 63", 0xFFE0_0000_9000_0F43, s1(K4, 3), None),
    ("GP", 0x0064_0000_9000_0F43, s1(K4, 3), None),
    ("DBM", 0x0068_0000_9000_0F43, s1(K4, 3), None),
    ("AF = 0", 0x0060_0000_9000_0B43, s1(K4, 3), None),
    ("nG = 0", 0x0060_0000_9000_0743, s1(K4, 3), None),
    ("every AttrIndx", 0x0060_0000_9000_0F5F, s1(K4, 3), None),
    ("NS", 0x0060_0000_9000_0F63, s1(K4, 3), Some(("15.3", "NS"))),
    ("SH 1", 0x0060_0000_9000_0D43, s1(K4, 3), Some(("15.3", "SH"))),
    ("SH 0", 0x0060_0000_9000_0C43, s1(K4, 3), None),
    ("SH 2", 0x0060_0000_9000_0E43, s1(K4, 3), None),
    ("SH 1, stage 2", 0x9000_05FF, s2(K4, 3), Some(("15.3", "SH"))),
    ("SH 1, 64K of 52 bits", 0x0060_0000_9000_0D43, wide(s1(K64, 3)), Some(("15.3", "SH"))),
    ("bits 9:8 are an address, DS", 0x0060_0000_9000_0D43, wide(s1(K4, 3)), None),
    ("address bit 50 of 48, DS", 0x0060_0000_9000_0D43, out(wide(s1(K4, 3)), 48), OUTPUT),
    ("bit 48", 0x0061_0000_9000_0F43, s1(K4, 3), LEAF_BITS),
    ("bit 49", 0x0062_0000_9000_0F43, s1(K4, 3), LEAF_BITS),
    ("bit 49, DS", 0x0062_0000_9000_0C43, wide(s1(K4, 3)), None),
    ("bit 43 of 44", 0x0060_0800_9000_0F43, out(s1(K4, 3), 44), None),
    ("bit 44 of 44 (A1)", 0x0060_1000_9000_0F43, out(s1(K4, 3), 44), OUTPUT),
    ("bit 44 of 44, stage 2", 0x1000_9000_07FF, out(s2(K4, 3), 44), OUTPUT),
    ("bit 44 of 44, block", 0x0060_1000_8000_0F41, out(s1(K4, 2), 44), OUTPUT),
    ("64K, address bit 51", 0x0060_0000_9000_8F43, wide(s1(K64, 3)), None),
    ("64K, address bit 48 of 48", 0x0060_0000_9000_1F43, out(wide(s1(K64, 3)), 48), OUTPUT),
    ("64K, bit 15 without 52 bits", 0x0060_0000_9000_8F43, s1(K64, 3), LEAF_BITS),
    ("16K page, bit 12", 0x0060_0000_9000_1F43, s1(K16, 3), LEAF_BITS),
    ("4K page, bit 12", 0x0060_0000_9000_1F43, s1(K4, 3), None),
    ("2 MiB block, bit 20", 0x0060_0000_8010_0F41, s1(K4, 2), LEAF_BITS),
    ("2 MiB block, bit 21", 0x0060_0000_8020_0F41, s1(K4, 2), None),
    ("1 GiB block, bit 29", 0x0060_0000_A000_0F41, s1(K4, 1), LEAF_BITS),
    ("32 MiB block, bit 24", 0x0060_0000_8100_0F41, s1(K16, 2), LEAF_BITS),
    ("512 MiB block, bit 28", 0x0060_0000_9000_0F41, s1(K64, 2), LEAF_BITS),
    ("nT", 0x0060_0000_8001_0F41, bbml(s1(K4, 2), 1), None),
    ("nT, ignored", 0x0060_0000_8001_0F41, bbml(s1(K4, 2), 2), None),
    ("nT without BBML", 0x0060_0000_8001_0F41, s1(K4, 2), Some(("15.3", "nT"))),
    ("nT without BBML, stage 2", 0x8001_07FD, s2(K64, 2), Some(("15.3", "nT"))),
    ("a page's bit 16 is an address", 0x0060_0000_9001_0F43, s1(K4, 3), None),
    ("EL2: XN, AP 01", 0x0040_0000_9000_0743, el2(s1(K4, 3)), None),
    ("EL2: AP[1] = 0", 0x0040_0000_9000_0703, el2(s1(K4, 3)), Some(("15.3", "AP"))),
    ("EL2: AP[1] = 0, read-only", 0x0040_0000_9000_0783, el2(s1(K4, 3)), Some(("15.3", "AP"))),
    ("EL2: PXN", 0x0060_0000_9000_0743, el2(s1(K4, 3)), Some(("15.3", "PXN"))),
    ("EL2: nG", 0x0040_0000_9000_0F43, el2(s1(K4, 3)), Some(("15.3", "nG"))),
    ("EL1: AP[1] = 0", 0x0060_0000_9000_0F03, s1(K4, 3), None),
    (
        "EL2: an index is where AP and PXN are",
        0x0060_0000_9000_0703,
        indirect(el2(s1(K4, 3))),
        None,
    ),
];

const STAGE_2: &[Row] = &[
    ("S2AP 0", 0x9000_073F, s2(K4, 3), None),
    ("a block", BLOCK_2, s2(K4, 2), None),
    ("bit 63", 0x8000_0000_9000_07FF, s2(K4, 3), LEAF_BITS),
    ("bit 50", 0x0004_0000_9000_07FF, s2(K4, 3), LEAF_BITS),
    ("bit 11", 0x9000_0FFF, s2(K4, 3), LEAF_BITS),
    ("software's bits", 0x0780_0000_9000_07FF, s2(K4, 3), None),
    ("XN 2", 0x0040_0000_9000_07FF, s2(K4, 3), None),
    ("XN 1", 0x0020_0000_9000_07FF, s2(K4, 3), Some(("15.3", "XN"))),
    ("XN 3", 0x0060_0000_9000_07FF, s2(K4, 3), Some(("15.3", "XN"))),
    ("XN 1 with XNX", 0x0020_0000_9000_07FF, Place { xnx: true, ..s2(K4, 3) }, None),
    ("XN 3 with XNX", 0x0060_0000_9000_07FF, Place { xnx: true, ..s2(K4, 3) }, None),
    ("an index is where XN is", 0x0020_0000_9000_07FF, indirect(s2(K4, 3)), None),
    ("MemAttr 0000", 0x9000_07C3, s2(K4, 3), None),
    ("MemAttr 0011", 0x9000_07CF, s2(K4, 3), None),
    ("MemAttr 0100", 0x9000_07D3, s2(K4, 3), Some(("16.3", "MemAttr"))),
    ("MemAttr 0101", 0x9000_07D7, s2(K4, 3), None),
    ("MemAttr 1000", 0x9000_07E3, s2(K4, 3), Some(("16.3", "MemAttr"))),
    ("MemAttr 1100", 0x9000_07F3, s2(K4, 3), Some(("16.3", "MemAttr"))),
    ("MemAttr 1101", 0x9000_07F7, s2(K4, 3), None),
    ("FWB 000", 0x9000_07C3, forced(s2(K4, 3)), None),
    ("FWB 011", 0x9000_07CF, forced(s2(K4, 3)), None),
    ("FWB 100", 0x9000_07D3, forced(s2(K4, 3)), Some(("16.3", "MemAttr"))),
    ("FWB 101", 0x9000_07D7, forced(s2(K4, 3)), None),
    ("FWB 110", 0x9000_07DB, forced(s2(K4, 3)), None),
    ("FWB 111", 0x9000_07DF, forced(s2(K4, 3)), None),
    ("FWB, bit 5", 0x9000_07FB, forced(s2(K4, 3)), LEAF_BITS),
];

const GROUPS: &[Row] = &[
    ("4K: first of 64 KiB", 0x0070_0000_9000_0F43, s1(K4, 3), None),
    ("4K: last of 64 KiB", 0x0070_0000_9000_FF43, at(s1(K4, 3), 0x1_F000), None),
    ("4K: output one page off", 0x0070_0000_9000_1F43, s1(K4, 3), GROUP),
    ("4K: input one page off", 0x0070_0000_9000_0F43, at(s1(K4, 3), 0x1000), GROUP),
    ("4K: input and output differ above a group", 0x0070_0000_9001_0F43, at(s1(K4, 3), 0), None),
    ("one page off without the hint", 0x0060_0000_9000_1F43, at(s1(K4, 3), 0), None),
    ("4K: 32 MiB of level 2", 0x0070_0000_8200_0F41, at(s1(K4, 2), 0), None),
    ("4K: 32 MiB of level 2, a block off", 0x0070_0000_8220_0F41, at(s1(K4, 2), 0), GROUP),
    ("4K: 16 GiB of level 1", 0x0070_0004_0000_0F41, at(s1(K4, 1), 0), None),
    ("4K: 16 GiB of level 1, a block off", 0x0070_0004_4000_0F41, at(s1(K4, 1), 0), GROUP),
    ("4K: none at level 0", 0x0070_0000_0000_0C41, at(wide(s1(K4, 0)), 0), NO_GROUP),
    ("16K: 2 MiB of level 3", 0x0070_0000_9020_0F43, at(s1(K16, 3), 0), None),
    ("16K: 2 MiB of level 3, bit 20", 0x0070_0000_9010_0F43, at(s1(K16, 3), 0), GROUP),
    ("16K: 1 GiB of level 2", 0x0070_0000_4000_0F41, at(s1(K16, 2), 0), None),
    ("16K: 1 GiB of level 2, bit 29", 0x0070_0000_2000_0F41, at(s1(K16, 2), 0), GROUP),
    ("16K: none at level 1", 0x0070_0000_0000_0C41, at(wide(s1(K16, 1)), 0), NO_GROUP),
    ("64K: 2 MiB of level 3", 0x0070_0000_9020_0F43, at(s1(K64, 3), 0), None),
    ("64K: 2 MiB of level 3, bit 20", 0x0070_0000_9010_0F43, at(s1(K64, 3), 0), GROUP),
    ("64K: 16 GiB of level 2", 0x0070_0004_0000_0F41, at(s1(K64, 2), 0), None),
    ("64K: 16 GiB of level 2, bit 33", 0x0070_0002_0000_0F41, at(s1(K64, 2), 0), GROUP),
    ("64K: none at level 1", 0x0070_0000_0000_0F41, at(wide(s1(K64, 1)), 0), NO_GROUP),
    ("stage 2", 0x0010_0000_9000_07FF, s2(K4, 3), None),
    ("stage 2, one page off", 0x0010_0000_9000_17FF, s2(K4, 3), GROUP),
];

fn try_all(rows: &[Row]) {
    for (what, word, place, expected) in rows {
        let said = descriptor(*word, place).err().map(|rule| (rule.section, rule.field));
        assert_eq!(said, *expected, "{what}: {word:#018x}");
    }
}

#[test]
fn types() {
    try_all(TYPES);
}

#[test]
fn tables() {
    try_all(TABLES);
}

#[test]
fn leaves() {
    try_all(LEAVES);
}

#[test]
fn leaves_of_stage_2() {
    try_all(STAGE_2);
}

#[test]
fn contiguous_groups() {
    try_all(GROUPS);
}
