// SPDX-License-Identifier: MIT OR Apache-2.0
//! Event records (§10): the codes, the field tables against the reference's list, golden images and the
//! reference's byte examples.
//!
//! The reference marks as uncertain: SSV and SubstreamID of F_STREAM_DISABLED and F_TRANSL_FORBIDDEN, the
//! request flags and the span of F_BAD_ATS_TREQ, and F_PERMISSION's bits of v3.4. NSIPA is for Secure
//! streams.

mod common;

use common::{Row, differences, disorder, expect_none};
use smmuv3_formats::{EventId, EventRecord};

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
    }
    expect_none(found);
}

#[test]
fn the_fields_of_each_event_are_in_order_and_apart() {
    let mut found = Vec::new();
    for (code, name, ..) in EVENTS {
        let fields = EventId::from_code(*code).map_or(&[][..], EventId::fields);
        found.extend(disorder(name, fields, 4, 64));
    }
    expect_none(found);
}

/// §10.1: the substream counts where SSV is set, and always in C_BAD_SUBSTREAMID, which has no SSV.
#[test]
fn a_record_is_printed_with_its_substream() {
    let text = |words| EventRecord(words).to_string();
    let bad_substream = text([0x0000_0200_0000_5008, 0, 0, 0]);
    assert!(bad_substream.contains("ssid 0x5"), "{bad_substream}");
    let with = text([0x0000_0200_0000_5802, 0, 0, 0]);
    assert!(with.contains("ssid 0x5"), "{with}");
    let without = text([0x0000_0200_0000_5002, 0, 0, 0]);
    assert!(!without.contains("ssid"), "{without}");
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
