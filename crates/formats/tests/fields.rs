// SPDX-License-Identifier: MIT OR Apache-2.0
//! The field tables of the in-memory structures, against the reference's lists (§5, §6, §13, §15).
//!
//! Each list is a transcription of the reference; fields that it calls implementation defined are
//! allowed and not demanded.

mod common;

use common::{Row, differences, disorder, expect_none};
use smmuv3_formats::descriptor::{
    Stage1Block, Stage1Page, Stage1Table, Stage2Block, Stage2Page, Stage2Table,
};
use smmuv3_formats::{Cd, DoesNotFit, EventRecord, L1Cd, L1Std, Layout, PageRequest, Ste};

/// Compares a structure's table with the reference both ways.
#[track_caller]
fn check<T: Layout>(section: &str, words: usize, required: &[Row], optional: &[Row]) {
    assert_eq!(T::WORDS, words, "words of {}", T::NAME);
    assert_eq!(T::SECTION, section, "section of {}", T::NAME);
    let mut found = differences(T::NAME, T::FIELDS, required, optional);
    found.extend(disorder(T::NAME, T::FIELDS, words, 64));
    expect_none(found);
}

/// §5.1.
#[test]
fn a_level_1_stream_table_descriptor_has_a_span_and_a_pointer() {
    check::<L1Std>("5.1", 1, &[("Span", 0, 4, 0), ("L2Ptr", 0, 55, 6)], &[]);
}

/// §5.2.
#[test]
fn a_stream_table_entry_has_the_listed_fields() {
    check::<Ste>(
        "5.2",
        8,
        &[
            ("V", 0, 0, 0),
            ("Config", 0, 3, 1),
            ("S1Fmt", 0, 5, 4),
            ("S1ContextPtr", 0, 55, 6),
            ("S1CDMax", 0, 63, 59),
            ("S1DSS", 1, 1, 0),
            ("S1CIR", 1, 3, 2),
            ("S1COR", 1, 5, 4),
            ("S1CSH", 1, 7, 6),
            ("S2HWU59", 1, 8, 8),
            ("S2HWU60", 1, 9, 9),
            ("S2HWU61", 1, 10, 10),
            ("S2HWU62", 1, 11, 11),
            ("DRE", 1, 12, 12),
            ("CONT", 1, 16, 13),
            ("DCP", 1, 17, 17),
            ("PPAR", 1, 18, 18),
            ("MEV", 1, 19, 19),
            ("SW_RESERVED", 1, 23, 20),
            ("S1PIE", 1, 24, 24),
            ("S2FWB", 1, 25, 25),
            ("S1MPAM", 1, 26, 26),
            ("S1STALLD", 1, 27, 27),
            ("EATS", 1, 29, 28),
            ("STRW", 1, 31, 30),
            ("MemAttr", 1, 35, 32),
            ("MTCFG", 1, 36, 36),
            ("ALLOCCFG", 1, 40, 37),
            ("SHCFG", 1, 45, 44),
            ("NSCFG", 1, 47, 46),
            ("PRIVCFG", 1, 49, 48),
            ("INSTCFG", 1, 51, 50),
            ("S2VMID", 2, 15, 0),
            ("S2T0SZ", 2, 37, 32),
            ("S2SL0", 2, 39, 38),
            ("S2IR0", 2, 41, 40),
            ("S2OR0", 2, 43, 42),
            ("S2SH0", 2, 45, 44),
            ("S2TG", 2, 47, 46),
            ("S2PS", 2, 50, 48),
            ("S2AA64", 2, 51, 51),
            ("S2ENDI", 2, 52, 52),
            ("S2AFFD", 2, 53, 53),
            ("S2PTW", 2, 54, 54),
            ("S2HD", 2, 55, 55),
            ("S2HA", 2, 56, 56),
            ("S2S", 2, 57, 57),
            ("S2R", 2, 58, 58),
            ("S2HAFT", 2, 59, 59),
            ("S2PIE", 2, 60, 60),
            ("S2POE", 2, 61, 61),
            ("DPT_VMATCH", 2, 63, 62),
            ("S2NSW", 3, 0, 0),
            ("S2NSA", 3, 1, 1),
            ("S2SL0_2", 3, 2, 2),
            ("S2DS", 3, 3, 3),
            ("S2TTB", 3, 51, 4),
            ("S2SKL", 3, 62, 61),
            ("PARTID", 4, 31, 16),
            ("S_S2T0SZ", 4, 37, 32),
            ("S_S2SL0", 4, 39, 38),
            ("S_S2TG", 4, 47, 46),
            ("MECID", 4, 63, 48),
            ("PMG", 5, 7, 0),
            ("MPAM_NS", 5, 8, 8),
            ("AssuredOnly", 5, 9, 9),
            ("TL0", 5, 10, 10),
            ("TL1", 5, 11, 11),
            ("VMSPtr", 5, 55, 12),
            ("S2SW", 6, 0, 0),
            ("S2SA", 6, 1, 1),
            ("S_S2SL0_2", 6, 2, 2),
            ("S_S2TTB", 6, 55, 4),
            ("S_S2SKL", 6, 62, 61),
            ("S2POI", 7, 63, 0),
        ],
        &[("IMPDEF1", 1, 63, 52), ("IMPDEF2", 2, 31, 16), ("IMPDEF4", 4, 15, 0)],
    );
}

/// §6.
#[test]
fn a_level_1_context_descriptor_has_a_valid_bit_and_a_pointer() {
    check::<L1Cd>("6", 1, &[("V", 0, 0, 0), ("L2Ptr", 0, 55, 12)], &[]);
}

/// §6.
#[test]
fn a_context_descriptor_has_the_listed_fields() {
    check::<Cd>(
        "6",
        8,
        &[
            ("T0SZ", 0, 5, 0),
            ("TG0", 0, 7, 6),
            ("IR0", 0, 9, 8),
            ("OR0", 0, 11, 10),
            ("SH0", 0, 13, 12),
            ("EPD0", 0, 14, 14),
            ("ENDI", 0, 15, 15),
            ("T1SZ", 0, 21, 16),
            ("TG1", 0, 23, 22),
            ("IR1", 0, 25, 24),
            ("OR1", 0, 27, 26),
            ("SH1", 0, 29, 28),
            ("EPD1", 0, 30, 30),
            ("V", 0, 31, 31),
            ("IPS", 0, 34, 32),
            ("AFFD", 0, 35, 35),
            ("WXN", 0, 36, 36),
            ("UWXN", 0, 37, 37),
            ("TBI0", 0, 38, 38),
            ("TBI1", 0, 39, 39),
            ("PAN", 0, 40, 40),
            ("AA64", 0, 41, 41),
            ("HD", 0, 42, 42),
            ("HA", 0, 43, 43),
            ("S", 0, 44, 44),
            ("R", 0, 45, 45),
            ("A", 0, 46, 46),
            ("ASET", 0, 47, 47),
            ("ASID", 0, 63, 48),
            ("NSCFG0", 1, 0, 0),
            ("HAD0", 1, 1, 1),
            ("E0PD0", 1, 2, 2),
            ("HAFT", 1, 3, 3),
            ("TTB0", 1, 51, 4),
            ("PnCH", 1, 58, 58),
            ("EPAN", 1, 59, 59),
            ("HWU059", 1, 60, 60),
            ("HWU060", 1, 61, 61),
            ("HWU061", 1, 62, 62),
            ("HWU062", 1, 63, 63),
            ("NSCFG1", 2, 0, 0),
            ("HAD1", 2, 1, 1),
            ("E0PD1", 2, 2, 2),
            ("AIE", 2, 3, 3),
            ("TTB1", 2, 51, 4),
            ("DS", 2, 58, 58),
            ("PIE", 2, 59, 59),
            ("HWU159", 2, 60, 60),
            ("HWU160", 2, 61, 61),
            ("HWU161", 2, 62, 62),
            ("HWU162", 2, 63, 63),
            ("MAIR", 3, 63, 0),
            ("AMAIR", 4, 63, 0),
            ("PARTID", 5, 47, 32),
            ("PMG", 5, 55, 48),
            ("PIIU", 6, 47, 0),
            ("PIIP", 7, 47, 0),
        ],
        &[("IMPDEF5", 5, 31, 0)],
    );
}

/// §13.
#[test]
fn a_page_request_has_the_listed_fields() {
    check::<PageRequest>(
        "13",
        2,
        &[
            ("SID", 0, 31, 0),
            ("SSID", 0, 51, 32),
            ("Priv", 0, 58, 58),
            ("X", 0, 59, 59),
            ("R", 0, 60, 60),
            ("W", 0, 61, 61),
            ("Last", 0, 62, 62),
            ("SSV", 0, 63, 63),
            ("PRGIndex", 1, 8, 0),
            ("Addr", 1, 63, 12),
        ],
        &[],
    );
}

/// §15.2.
#[test]
fn a_stage_1_table_descriptor_has_the_listed_fields() {
    check::<Stage1Table>(
        "15.2",
        1,
        &[
            ("Type", 0, 1, 0),
            ("AF", 0, 10, 10),
            ("NextTable", 0, 47, 12),
            ("PXNTable", 0, 59, 59),
            ("UXNTable", 0, 60, 60),
            ("APTable", 0, 62, 61),
            ("NSTable", 0, 63, 63),
        ],
        &[],
    );
}

/// §15.2. `AF` follows from `S2HAFT` (§14), not from the list.
#[test]
fn a_stage_2_table_descriptor_has_an_address_and_no_permissions() {
    check::<Stage2Table>(
        "15.2",
        1,
        &[("Type", 0, 1, 0), ("NextTable", 0, 47, 12)],
        &[("AF", 0, 10, 10)],
    );
}

/// §15.3.
#[test]
fn a_stage_1_page_descriptor_has_the_listed_fields() {
    check::<Stage1Page>(
        "15.3",
        1,
        &[
            ("Type", 0, 1, 0),
            ("AttrIndx", 0, 4, 2),
            ("NS", 0, 5, 5),
            ("AP", 0, 7, 6),
            ("SH", 0, 9, 8),
            ("AF", 0, 10, 10),
            ("nG", 0, 11, 11),
            ("OA", 0, 47, 12),
            ("GP", 0, 50, 50),
            ("DBM", 0, 51, 51),
            ("Contiguous", 0, 52, 52),
            ("PXN", 0, 53, 53),
            ("UXN", 0, 54, 54),
            ("Software", 0, 58, 55),
            ("PBHA", 0, 62, 59),
        ],
        &[("Software63", 0, 63, 63)],
    );
}

/// §15.3.
#[test]
fn a_stage_1_block_descriptor_has_nt_and_the_address_of_2_mib() {
    check::<Stage1Block>(
        "15.3",
        1,
        &[
            ("Type", 0, 1, 0),
            ("AttrIndx", 0, 4, 2),
            ("NS", 0, 5, 5),
            ("AP", 0, 7, 6),
            ("SH", 0, 9, 8),
            ("AF", 0, 10, 10),
            ("nG", 0, 11, 11),
            ("nT", 0, 16, 16),
            ("OA", 0, 47, 21),
            ("GP", 0, 50, 50),
            ("DBM", 0, 51, 51),
            ("Contiguous", 0, 52, 52),
            ("PXN", 0, 53, 53),
            ("UXN", 0, 54, 54),
            ("Software", 0, 58, 55),
            ("PBHA", 0, 62, 59),
        ],
        &[("Software63", 0, 63, 63)],
    );
}

/// §15.3.
#[test]
fn a_stage_2_page_descriptor_has_the_listed_fields() {
    check::<Stage2Page>(
        "15.3",
        1,
        &[
            ("Type", 0, 1, 0),
            ("MemAttr", 0, 5, 2),
            ("S2AP", 0, 7, 6),
            ("SH", 0, 9, 8),
            ("AF", 0, 10, 10),
            ("OA", 0, 47, 12),
            ("DBM", 0, 51, 51),
            ("Contiguous", 0, 52, 52),
            ("XN", 0, 54, 53),
            ("PBHA", 0, 62, 59),
        ],
        &[("Software", 0, 58, 55)],
    );
}

/// §15.3.
#[test]
fn a_stage_2_block_descriptor_has_nt_and_the_address_of_2_mib() {
    check::<Stage2Block>(
        "15.3",
        1,
        &[
            ("Type", 0, 1, 0),
            ("MemAttr", 0, 5, 2),
            ("S2AP", 0, 7, 6),
            ("SH", 0, 9, 8),
            ("AF", 0, 10, 10),
            ("nT", 0, 16, 16),
            ("OA", 0, 47, 21),
            ("DBM", 0, 51, 51),
            ("Contiguous", 0, 52, 52),
            ("XN", 0, 54, 53),
            ("PBHA", 0, 62, 59),
        ],
        &[("Software", 0, 58, 55)],
    );
}

/// §10.1: the record as a whole has the layout's fields at the places that every event has them.
#[test]
fn an_event_record_has_the_common_fields() {
    check::<EventRecord>(
        "10.1",
        4,
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("STAG", 1, 15, 0),
            ("GPCF", 1, 16, 16),
            ("Stall", 1, 31, 31),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("NSIPA", 1, 38, 38),
            ("S2", 1, 39, 39),
            ("CLASS", 1, 41, 40),
            ("TTRnW", 1, 44, 44),
            ("InputAddr", 2, 63, 0),
            ("FetchAddr", 3, 55, 3),
        ],
        &[],
    );
}

/// A field takes what fits and nothing else, and leaves its neighbours alone.
#[test]
fn values_go_into_fields_and_come_out() {
    fn check<T: Layout>() {
        for field in T::FIELDS {
            let ones = if field.address { field.mask() } else { field.mask() >> field.lo };
            for word in [0, u64::MAX, 0x5555_5555_5555_5555] {
                for value in [0, ones, ones & (1 << field.lo | 1 << field.hi)] {
                    let value = if field.address { value } else { value & ones };
                    let after = field.insert(word, value).unwrap();
                    assert_eq!(field.extract(after), value, "{} {field}", T::NAME);
                    assert_eq!(after & !field.mask(), word & !field.mask(), "{} {field}", T::NAME);
                }
                if ones != u64::MAX {
                    let unfit = !ones & ones.wrapping_add(1);
                    let refused = Err(DoesNotFit { field: *field, value: unfit });
                    assert_eq!(field.insert(word, unfit), refused, "{} {field}", T::NAME);
                }
            }
        }
    }
    check::<L1Std>();
    check::<Ste>();
    check::<L1Cd>();
    check::<Cd>();
    check::<PageRequest>();
    check::<EventRecord>();
    check::<Stage1Table>();
    check::<Stage1Page>();
    check::<Stage1Block>();
    check::<Stage2Table>();
    check::<Stage2Page>();
    check::<Stage2Block>();
}

/// Outside of the words there is nothing.
#[test]
fn words_beyond_the_end_are_zero() {
    let ste = Ste([u64::MAX; 8]);
    assert_eq!((ste.word(7), ste.word(8)), (u64::MAX, 0));
    assert_eq!(L1Std([u64::MAX]).word(1), 0);
}
