// SPDX-License-Identifier: MIT OR Apache-2.0
//! Event records (§10): the codes, the field tables against the reference's list, golden images and the
//! reference's byte examples.
//!
//! The reference marks as uncertain: SSV and SubstreamID of F_STREAM_DISABLED and F_TRANSL_FORBIDDEN, the
//! request flags and the span of F_BAD_ATS_TREQ, and F_PERMISSION's bits of v3.4. NSIPA is for Secure
//! streams.

mod common;

use common::{Row, differences, disorder, expect_none, golden, words};
use smmuv3_formats::event::record::*;
use smmuv3_formats::{EventId, EventRecord};

words!(array EventRecord, FUut, CBadStreamId, FSteFetch, CBadSte, FBadAtsTreq, FStreamDisabled, FTranslForbidden, CBadSubstreamId, FCdFetch, CBadCd, FWalkEabt, FTranslation, FAddrSize, FAccess, FPermission, FTlbConflict, FCfgConflict, EPageRequest, FVmsFetch);

/// Code, name, fields, and fields that may be left out.
type Entry = (u8, &'static str, &'static [Row], &'static [Row]);

/// §10.1 and §10.2, row by row.
const EVENTS: &[Entry] = &[
    (
        0x01,
        "F_UUT",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("Reason", 1, 15, 0),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("InputAddr", 2, 63, 0),
        ],
        &[],
    ),
    (
        0x02,
        "C_BAD_STREAMID",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
        ],
        &[],
    ),
    (
        0x03,
        "F_STE_FETCH",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("Reason", 1, 15, 0),
            ("GPCF", 1, 16, 16),
            ("FetchAddr", 3, 55, 3),
        ],
        &[],
    ),
    (
        0x04,
        "C_BAD_STE",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
        ],
        &[],
    ),
    (
        0x05,
        "F_BAD_ATS_TREQ",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("InputAddr", 2, 63, 0),
        ],
        &[],
    ),
    (
        0x06,
        "F_STREAM_DISABLED",
        &[("EventID", 0, 7, 0), ("StreamID", 0, 63, 32)],
        &[("SSV", 0, 11, 11), ("SubstreamID", 0, 31, 12)],
    ),
    (
        0x07,
        "F_TRANSL_FORBIDDEN",
        &[
            ("EventID", 0, 7, 0),
            ("StreamID", 0, 63, 32),
            ("RnW", 1, 35, 35),
            ("InputAddr", 2, 63, 0),
        ],
        &[("SSV", 0, 11, 11), ("SubstreamID", 0, 31, 12)],
    ),
    (
        0x08,
        "C_BAD_SUBSTREAMID",
        &[("EventID", 0, 7, 0), ("SubstreamID", 0, 31, 12), ("StreamID", 0, 63, 32)],
        &[],
    ),
    (
        0x09,
        "F_CD_FETCH",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("Reason", 1, 15, 0),
            ("GPCF", 1, 16, 16),
            ("FetchAddr", 3, 55, 3),
        ],
        &[],
    ),
    (
        0x0a,
        "C_BAD_CD",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
        ],
        &[],
    ),
    (
        0x0b,
        "F_WALK_EABT",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("Reason", 1, 15, 0),
            ("GPCF", 1, 16, 16),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("S2", 1, 39, 39),
            ("CLASS", 1, 41, 40),
            ("InputAddr", 2, 63, 0),
            ("FetchAddr", 3, 55, 3),
        ],
        &[("NSIPA", 1, 38, 38)],
    ),
    (
        0x10,
        "F_TRANSLATION",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("STAG", 1, 15, 0),
            ("Stall", 1, 31, 31),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("S2", 1, 39, 39),
            ("CLASS", 1, 41, 40),
            ("InputAddr", 2, 63, 0),
            ("IPA", 3, 55, 12),
        ],
        &[("NSIPA", 1, 38, 38)],
    ),
    (
        0x11,
        "F_ADDR_SIZE",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("STAG", 1, 15, 0),
            ("Stall", 1, 31, 31),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("S2", 1, 39, 39),
            ("CLASS", 1, 41, 40),
            ("InputAddr", 2, 63, 0),
            ("IPA", 3, 55, 12),
        ],
        &[("NSIPA", 1, 38, 38)],
    ),
    (
        0x12,
        "F_ACCESS",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("STAG", 1, 15, 0),
            ("Stall", 1, 31, 31),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("S2", 1, 39, 39),
            ("CLASS", 1, 41, 40),
            ("InputAddr", 2, 63, 0),
            ("IPA", 3, 55, 12),
        ],
        &[("NSIPA", 1, 38, 38)],
    ),
    (
        0x13,
        "F_PERMISSION",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("STAG", 1, 15, 0),
            ("Stall", 1, 31, 31),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("S2", 1, 39, 39),
            ("CLASS", 1, 41, 40),
            ("TTRnW", 1, 44, 44),
            ("InputAddr", 2, 63, 0),
            ("IPA", 3, 55, 12),
        ],
        &[("NSIPA", 1, 38, 38)],
    ),
    (
        0x20,
        "F_TLB_CONFLICT",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("Reason", 1, 15, 0),
            ("PnU", 1, 33, 33),
            ("InD", 1, 34, 34),
            ("RnW", 1, 35, 35),
            ("S2", 1, 39, 39),
            ("InputAddr", 2, 63, 0),
            ("IPA", 3, 55, 12),
        ],
        &[("NSIPA", 1, 38, 38)],
    ),
    (
        0x21,
        "F_CFG_CONFLICT",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("Reason", 1, 15, 0),
        ],
        &[],
    ),
    (
        0x24,
        "E_PAGE_REQUEST",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("uX", 1, 33, 33),
            ("uW", 1, 34, 34),
            ("uR", 1, 35, 35),
            ("pX", 1, 37, 37),
            ("pW", 1, 38, 38),
            ("pR", 1, 39, 39),
            ("Span", 1, 51, 44),
            ("InputAddr", 2, 63, 12),
        ],
        &[],
    ),
    (
        0x25,
        "F_VMS_FETCH",
        &[
            ("EventID", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SubstreamID", 0, 31, 12),
            ("StreamID", 0, 63, 32),
            ("Reason", 1, 15, 0),
            ("GPCF", 1, 16, 16),
            ("FetchAddr", 3, 55, 3),
        ],
        &[],
    ),
];

#[test]
fn each_event_has_the_listed_code_and_name() {
    for (code, name, ..) in EVENTS {
        let id = EventId::from_code(*code).unwrap_or_else(|| panic!("{code:#04x} is {name}"));
        assert_eq!(id.name(), *name);
        assert_eq!(id as u8, *code);
        assert!(!id.meaning().is_empty());
    }
}

#[test]
fn every_other_code_is_reserved_or_implementation_defined() {
    for code in 0..=u8::MAX {
        if !EVENTS.iter().any(|entry| entry.0 == code) {
            assert_eq!(EventId::from_code(code), None, "{code:#04x}");
            assert_eq!(EventRecord([u64::from(code), 0, 0, 0]).event(), None);
        }
    }
    assert_eq!(EventId::ALL.len(), EVENTS.len());
    assert!(EventId::ALL.iter().all(|id| EVENTS.iter().any(|entry| entry.0 == *id as u8)));
}

/// §0 and §5.4: stalls and CD.A, R and S concern exactly four events.
#[test]
fn four_events_are_translation_related() {
    for id in EventId::ALL {
        assert_eq!(
            id.is_translation_fault(),
            (0x10..=0x13).contains(&(*id as u8)),
            "{}",
            id.name()
        );
    }
}

#[test]
fn each_event_has_the_listed_fields() {
    let mut found = Vec::new();
    for (code, name, required, optional) in EVENTS {
        let fields = EventId::from_code(*code).map_or(&[][..], EventId::fields);
        if *name == "F_BAD_ATS_TREQ" {
            // The rest of this record is marked uncertain: only what is certain must be there.
            let certain: Vec<_> =
                fields.iter().copied().filter(|f| required.iter().any(|r| r.0 == f.name)).collect();
            found.extend(differences(name, &certain, required, optional));
        } else {
            found.extend(differences(name, fields, required, optional));
        }
        found.extend(disorder(name, fields, 4, 64));
    }
    expect_none(found);
}

/// §10.2, the reference's examples.
#[test]
fn the_byte_examples_decode() {
    let write = EventRecord([0x0000_0200_0000_0010, 0x0000_0200_0000_0000, 0xdead_b000, 0]);
    assert_eq!(write.event(), Some(EventId::FTranslation));
    assert_eq!((write.sid(), write.ssv(), write.ssid()), (0x200, false, 0));
    assert_eq!((write.rnw(), write.pnu(), write.ind()), (false, false, false));
    assert_eq!((write.s2(), write.class(), write.stall(), write.stag()), (false, 2, false, 0));
    assert_eq!(write.input_addr(), 0xdead_b000);

    let read = EventRecord([0x0000_0200_0000_0010, 0x0000_0208_0000_0000, 0, 0]);
    assert_eq!((read.rnw(), read.s2(), read.class()), (true, false, 2));

    let nested = EventRecord([0x0000_0200_0000_0010, 0x0000_0080_0000_0000, 0, 0]);
    assert_eq!((nested.rnw(), nested.s2(), nested.class()), (false, true, 0));

    let tagged = EventRecord([0x0000_0200_0000_0010, 0x0000_0200_8000_beef, 0, 0]);
    assert_eq!((tagged.stall(), tagged.stag()), (true, 0xbeef));
}

/// §10.2: w1 of E_PAGE_REQUEST follows from absolute bits 103, 102, 101, 99, 98, 97 and 115:108.
#[test]
fn page_request_flags_are_at_their_absolute_bits() {
    let bits = [(103, "pR"), (102, "pW"), (101, "pX"), (99, "uR"), (98, "uW"), (97, "uX")];
    for (bit, name) in bits {
        let field = EventId::EPageRequest.fields().iter().find(|f| f.name == name).unwrap();
        assert_eq!(field.word as u32 * 64 + field.lo, bit, "{name}");
    }
    let span = EventId::EPageRequest.fields().iter().find(|f| f.name == "Span").unwrap();
    assert_eq!((span.word as u32 * 64 + span.hi, span.word as u32 * 64 + span.lo), (115, 108));
}

/// §10.1: the union of all records.
#[test]
fn images_of_the_common_record() {
    golden!(EventRecord, [0xad2d_2d2d_9e1e_18cb, 0x0000_13ce_8001_f879, 0xa969_6969_6969_6969, 0x00a5_a5a5_a5a5_a5a8], {
        id with_id "EventID" = 0xcb;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879;
        gpcf with_gpcf "GPCF" = true;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        nsipa with_nsipa "NSIPA" = true;
        s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3;
        ttrnw with_ttrnw "TTRnW" = true;
        input_addr with_input_addr "InputAddr" = 0xa969696969696969;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00a5_a5a5_a5a5_a5a8;
    });
    golden!(EventRecord, [0x6f53_86cf_1af0_18aa, 0x0000_128a_0001_0b23, 0xb9fd_314a_8ec2_0675, 0x007d_a097_da09_7cd8], {
        id with_id "EventID" = 0xaa;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23;
        gpcf with_gpcf "GPCF" = true;
        stall with_stall "Stall" = false;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = false;
        rnw with_rnw "RnW" = true;
        nsipa with_nsipa "NSIPA" = false;
        s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x2;
        ttrnw with_ttrnw "TTRnW" = true;
        input_addr with_input_addr "InputAddr" = 0xb9fd314a8ec20675;
        fetch_addr with_fetch_addr "FetchAddr" = 0x007d_a097_da09_7cd8;
    });
}

/// §10.2.
#[test]
fn images_of_f_uut() {
    golden!(FUut, [0xad2d_2d2d_9e1e_1801, 0x0000_000e_0000_f879, 0xe5a5_a5a5_a5a5_a5a5, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x1;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        input_addr with_input_addr "InputAddr" = 0xe5a5a5a5a5a5a5a5;
    });
    golden!(FUut, [0x6f53_86cf_1af0_1801, 0x0000_000a_0000_0b23, 0xa629_51d8_40cb_73ef, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x1;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = false;
        rnw with_rnw "RnW" = true;
        input_addr with_input_addr "InputAddr" = 0xa62951d840cb73ef;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_streamid() {
    golden!(CBadStreamId, [0xad2d_2d2d_9e1e_1802, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x2;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(CBadStreamId, [0x6f53_86cf_1af0_1802, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x2;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_ste_fetch() {
    golden!(FSteFetch, [0xad2d_2d2d_9e1e_1803, 0x0000_0000_0001_f879, 0x0000_0000_0000_0000, 0x00f8_7878_7878_7878], {
        id with_id "EventID" = 0x3;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
        gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f8_7878_7878_7878;
    });
    golden!(FSteFetch, [0x6f53_86cf_1af0_1803, 0x0000_0000_0001_0b23, 0x0000_0000_0000_0000, 0x00be_d04b_ed04_be68], {
        id with_id "EventID" = 0x3;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
        gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00be_d04b_ed04_be68;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_ste() {
    golden!(CBadSte, [0xad2d_2d2d_9e1e_1804, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x4;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(CBadSte, [0x6f53_86cf_1af0_1804, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x4;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_bad_ats_treq() {
    golden!(FBadAtsTreq, [0xad2d_2d2d_9e1e_1805, 0x0000_0000_0000_0000, 0xb878_7878_7878_7879, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x5;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        input_addr with_input_addr "InputAddr" = 0xb878787878787879;
    });
    golden!(FBadAtsTreq, [0x6f53_86cf_1af0_1805, 0x0000_0000_0000_0000, 0xad5c_4f7e_6918_0b23, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x5;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        input_addr with_input_addr "InputAddr" = 0xad5c4f7e69180b23;
    });
}

/// §10.2.
#[test]
fn images_of_f_stream_disabled() {
    golden!(FStreamDisabled, [0xad2d_2d2d_0000_0006, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x6;
        sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(FStreamDisabled, [0x6f53_86cf_0000_0006, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x6;
        sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_transl_forbidden() {
    golden!(FTranslForbidden, [0xad2d_2d2d_0000_0007, 0x0000_0008_0000_0000, 0xc3c3_c3c3_c3c3_c3c3, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x7;
        sid with_sid "StreamID" = 0xad2d2d2d;
        rnw with_rnw "RnW" = true;
        input_addr with_input_addr "InputAddr" = 0xc3c3c3c3c3c3c3c3;
    });
    golden!(FTranslForbidden, [0x6f53_86cf_0000_0007, 0x0000_0000_0000_0000, 0x5c4f_7e69_180b_3a2d, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x7;
        sid with_sid "StreamID" = 0x6f5386cf;
        rnw with_rnw "RnW" = false;
        input_addr with_input_addr "InputAddr" = 0x5c4f7e69180b3a2d;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_substreamid() {
    golden!(CBadSubstreamId, [0xe1e1_e1e1_e969_7008, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x8;
        ssid with_ssid "SubstreamID" = 0xe9697;
        sid with_sid "StreamID" = 0xe1e1e1e1;
    });
    golden!(CBadSubstreamId, [0x1af1_af01_a62e_9008, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x8;
        ssid with_ssid "SubstreamID" = 0xa62e9;
        sid with_sid "StreamID" = 0x1af1af01;
    });
}

/// §10.2.
#[test]
fn images_of_f_cd_fetch() {
    golden!(FCdFetch, [0xad2d_2d2d_9e1e_1809, 0x0000_0000_0001_f879, 0x0000_0000_0000_0000, 0x00f8_7878_7878_7878], {
        id with_id "EventID" = 0x9;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
        gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f8_7878_7878_7878;
    });
    golden!(FCdFetch, [0x6f53_86cf_1af0_1809, 0x0000_0000_0001_0b23, 0x0000_0000_0000_0000, 0x00be_d04b_ed04_be68], {
        id with_id "EventID" = 0x9;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
        gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00be_d04b_ed04_be68;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_cd() {
    golden!(CBadCd, [0xad2d_2d2d_9e1e_180a, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0xa;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(CBadCd, [0x6f53_86cf_1af0_180a, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0xa;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_walk_eabt() {
    golden!(FWalkEabt, [0xad2d_2d2d_9e1e_180b, 0x0000_038e_0001_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00f0_f0f0_f0f0_f0e8], {
        id with_id "EventID" = 0xb;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
        gpcf with_gpcf "GPCF" = true;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3;
        input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f0_f0f0_f0f0_f0e8;
    });
    golden!(FWalkEabt, [0x6f53_86cf_1af0_180b, 0x0000_0104_0001_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0008_196e_7f4c_5d28], {
        id with_id "EventID" = 0xb;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
        gpcf with_gpcf "GPCF" = true;
        pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = false;
        s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1;
        input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        fetch_addr with_fetch_addr "FetchAddr" = 0x0008_196e_7f4c_5d28;
    });
}

/// §10.2.
#[test]
fn images_of_f_translation() {
    golden!(FTranslation, [0xad2d_2d2d_9e1e_1810, 0x0000_038e_8000_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00e1_e1e1_e1e1_d000], {
        id with_id "EventID" = 0x10;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3;
        input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        ipa with_ipa "IPA" = 0x00e1_e1e1_e1e1_d000;
    });
    golden!(FTranslation, [0x6f53_86cf_1af0_1810, 0x0000_0104_8000_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0032_dcfe_98ba_5000], {
        id with_id "EventID" = 0x10;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = false;
        s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1;
        input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        ipa with_ipa "IPA" = 0x0032_dcfe_98ba_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_addr_size() {
    golden!(FAddrSize, [0xad2d_2d2d_9e1e_1811, 0x0000_038e_8000_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00e1_e1e1_e1e1_d000], {
        id with_id "EventID" = 0x11;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3;
        input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        ipa with_ipa "IPA" = 0x00e1_e1e1_e1e1_d000;
    });
    golden!(FAddrSize, [0x6f53_86cf_1af0_1811, 0x0000_0104_8000_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0032_dcfe_98ba_5000], {
        id with_id "EventID" = 0x11;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = false;
        s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1;
        input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        ipa with_ipa "IPA" = 0x0032_dcfe_98ba_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_access() {
    golden!(FAccess, [0xad2d_2d2d_9e1e_1812, 0x0000_038e_8000_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00e1_e1e1_e1e1_d000], {
        id with_id "EventID" = 0x12;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3;
        input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        ipa with_ipa "IPA" = 0x00e1_e1e1_e1e1_d000;
    });
    golden!(FAccess, [0x6f53_86cf_1af0_1812, 0x0000_0104_8000_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0032_dcfe_98ba_5000], {
        id with_id "EventID" = 0x12;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = false;
        s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1;
        input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        ipa with_ipa "IPA" = 0x0032_dcfe_98ba_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_permission() {
    golden!(FPermission, [0xad2d_2d2d_9e1e_1813, 0x0000_138e_8000_f879, 0x9e1e_1e1e_1e1e_1e1d, 0x0096_9696_9696_9000], {
        id with_id "EventID" = 0x13;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3;
        ttrnw with_ttrnw "TTRnW" = true;
        input_addr with_input_addr "InputAddr" = 0x9e1e1e1e1e1e1e1d;
        ipa with_ipa "IPA" = 0x0096_9696_9696_9000;
    });
    golden!(FPermission, [0x6f53_86cf_1af0_1813, 0x0000_0104_8000_0b23, 0x4761_032d_cfe9_8ba5, 0x0014_a8ec_2067_5000], {
        id with_id "EventID" = 0x13;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23;
        stall with_stall "Stall" = true;
        pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = false;
        s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1;
        ttrnw with_ttrnw "TTRnW" = false;
        input_addr with_input_addr "InputAddr" = 0x4761032dcfe98ba5;
        ipa with_ipa "IPA" = 0x0014_a8ec_2067_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_tlb_conflict() {
    golden!(FTlbConflict, [0xad2d_2d2d_9e1e_1820, 0x0000_008e_0000_f879, 0xfc3c_3c3c_3c3c_3c3b, 0x00f8_7878_7878_7000], {
        id with_id "EventID" = 0x20;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true;
        input_addr with_input_addr "InputAddr" = 0xfc3c3c3c3c3c3c3b;
        ipa with_ipa "IPA" = 0x00f8_7878_7878_7000;
    });
    golden!(FTlbConflict, [0x6f53_86cf_1af0_1820, 0x0000_008a_0000_0b23, 0xa460_2ceb_5713_df89, 0x00ef_cd23_0164_7000], {
        id with_id "EventID" = 0x20;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
        pnu with_pnu "PnU" = true;
        ind with_ind "InD" = false;
        rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true;
        input_addr with_input_addr "InputAddr" = 0xa4602ceb5713df89;
        ipa with_ipa "IPA" = 0x00ef_cd23_0164_7000;
    });
}

/// §10.2.
#[test]
fn images_of_f_cfg_conflict() {
    golden!(FCfgConflict, [0xad2d_2d2d_9e1e_1821, 0x0000_0000_0000_f879, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x21;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
    });
    golden!(FCfgConflict, [0x6f53_86cf_1af0_1821, 0x0000_0000_0000_0b23, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x21;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
    });
}

/// §10.2.
#[test]
fn images_of_e_page_request() {
    golden!(EPageRequest, [0xad2d_2d2d_9e1e_1824, 0x000b_b0ee_0000_0000, 0xf878_7878_7878_7000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x24;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        u_x with_u_x "uX" = true;
        u_w with_u_w "uW" = true;
        u_r with_u_r "uR" = true;
        p_x with_p_x "pX" = true;
        p_w with_p_w "pW" = true;
        p_r with_p_r "pR" = true;
        span with_span "Span" = 0xbb;
        input_addr with_input_addr "InputAddr" = 0xf878_7878_7878_7000;
    });
    golden!(EPageRequest, [0x6f53_86cf_1af0_1824, 0x000a_a0a4_0000_0000, 0x89ef_cd23_0164_7000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x24;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        u_x with_u_x "uX" = false;
        u_w with_u_w "uW" = true;
        u_r with_u_r "uR" = false;
        p_x with_p_x "pX" = true;
        p_w with_p_w "pW" = false;
        p_r with_p_r "pR" = true;
        span with_span "Span" = 0xaa;
        input_addr with_input_addr "InputAddr" = 0x89ef_cd23_0164_7000;
    });
}

/// §10.2.
#[test]
fn images_of_f_vms_fetch() {
    golden!(FVmsFetch, [0xad2d_2d2d_9e1e_1825, 0x0000_0000_0001_f879, 0x0000_0000_0000_0000, 0x00f8_7878_7878_7878], {
        id with_id "EventID" = 0x25;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1;
        sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
        gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f8_7878_7878_7878;
    });
    golden!(FVmsFetch, [0x6f53_86cf_1af0_1825, 0x0000_0000_0001_0b23, 0x0000_0000_0000_0000, 0x00be_d04b_ed04_be68], {
        id with_id "EventID" = 0x25;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01;
        sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
        gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00be_d04b_ed04_be68;
    });
}
