// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields of events (§10), page requests (§13) and descriptors (§15, §16).

use super::{check, check_single};

#[test]
fn events() {
    check(&[
        ("F_TRANSLATION", &[], "SSV", &["no substream", "with substream"]),
        ("F_TRANSLATION", &[], "PnU", &["unprivileged", "privileged"]),
        ("F_TRANSLATION", &[], "InD", &["data", "instruction"]),
        ("F_TRANSLATION", &[], "RnW", &["write", "read"]),
        ("F_TRANSLATION", &[], "S2", &["stage 1", "stage 2"]),
        ("F_TRANSLATION", &[], "Stall", &["terminated", "stalled"]),
        (
            "F_TRANSLATION",
            &[],
            "CLASS",
            &["context descriptor", "stage-1 translation table", "the input address", "reserved"],
        ),
        ("F_PERMISSION", &[("CLASS", 1)], "TTRnW", &["written", "read"]),
        ("F_PERMISSION", &[("CLASS", 2)], "TTRnW", &["not valid (CLASS is not a table)"; 2]),
        ("F_STE_FETCH", &[], "GPCF", &["no", "yes"]),
    ]);
    check_single(&[
        ("event record", &[], "EventID", 0x10, "F_TRANSLATION"),
        ("event record", &[], "EventID", 0xe3, "implementation defined"),
        ("event record", &[], "EventID", 0x26, "reserved"),
        ("F_TRANSLATION", &[], "SubstreamID", 5, "not valid (SSV = 0)"),
        ("F_TRANSLATION", &[("SSV", 1)], "SubstreamID", 5, ""),
        // §10.1: valid always, although there is no SSV.
        ("C_BAD_SUBSTREAMID", &[], "SubstreamID", 5, ""),
        ("F_TRANSLATION", &[], "STAG", 5, "not valid (Stall = 0)"),
        ("F_TRANSLATION", &[("Stall", 1)], "STAG", 5, ""),
        ("F_TRANSLATION", &[], "IPA", 0x1000, "not valid (S2 = 0)"),
        ("F_TRANSLATION", &[("S2", 1)], "IPA", 0x1000, ""),
        ("E_PAGE_REQUEST", &[], "Span", 3, "12 KiB: 3 pages"),
    ]);
}

#[test]
fn page_requests() {
    check(&[
        ("PPR", &[], "Priv", &["unprivileged", "privileged"]),
        ("PPR", &[("R", 1)], "Last", &["more will follow", "the last: an answer is due"]),
        ("PPR", &[], "R", &["no", "yes"]),
    ]);
    check_single(&[
        ("PPR", &[("SSV", 1)], "Last", 1, "stop marker: no answer"),
        ("PPR", &[("SSV", 1), ("W", 1)], "Last", 1, "the last: an answer is due"),
        // Without a PASID it is an ordinary request.
        ("PPR", &[], "Last", 1, "the last: an answer is due"),
        ("PPR", &[], "SSID", 1, "not valid (SSV = 0)"),
    ]);
}

#[test]
fn descriptors() {
    check(&[
        ("S1 page descriptor", &[], "Type", &["invalid", "reserved: invalid", "invalid", "page"]),
        ("S2 block descriptor", &[], "Type", &["invalid", "block", "invalid", "table"]),
        ("S1 table descriptor", &[], "Type", &["invalid", "block", "invalid", "table"]),
        (
            "S1 page descriptor",
            &[],
            "AP",
            &["privileged read-write", "read-write", "privileged read-only", "read-only"],
        ),
        (
            "S2 page descriptor",
            &[],
            "S2AP",
            &["no access", "read-only", "write-only", "read-write"],
        ),
        (
            "S2 page descriptor",
            &[],
            "XN",
            &[
                "executable",
                "unprivileged execution alone (executable without XNX)",
                "not executable",
                "privileged execution alone (not executable without XNX)",
            ],
        ),
        ("S1 page descriptor", &[], "nG", &["global", "this ASID"]),
        (
            "S1 page descriptor",
            &[],
            "SH",
            &["non-shareable", "reserved", "outer shareable", "inner shareable"],
        ),
        (
            "S1 table descriptor",
            &[],
            "APTable",
            &[
                "nothing taken",
                "no unprivileged access",
                "no writes",
                "no writes, no unprivileged access",
            ],
        ),
    ]);
    check_single(&[
        ("S2 page descriptor", &[], "MemAttr", 0b1111, "Normal write-back"),
        ("S2 page descriptor", &[], "MemAttr", 0b0101, "Normal non-cacheable"),
        ("S2 page descriptor", &[], "MemAttr", 0b0001, "Device-nGnRE"),
        ("S2 page descriptor", &[], "MemAttr", 0b0100, "reserved"),
    ]);
}
