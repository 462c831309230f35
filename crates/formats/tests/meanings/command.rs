// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command fields (§4).

use super::{check, check_single};

const TLBI: &str = "CMD_TLBI_NH_VA";

#[test]
fn configuration() {
    check(&[
        ("CMD_CFGI_STE", &[], "Leaf", &["the first-level descriptor too", "the entry alone"]),
        ("CMD_CFGI_CD", &[], "SSec", &["Non-secure", "Secure"]),
        ("CMD_PREFETCH_CONFIG", &[], "SSV", &["no substream", "with substream"]),
    ]);
    check_single(&[
        ("CMD_CFGI_STE_RANGE", &[], "Range", 31, "every stream (CMD_CFGI_ALL)"),
        ("CMD_CFGI_STE_RANGE", &[("Range", 31)], "SID", 7, "unused (every stream)"),
        // 2^(Range+1), low Range+1 bits of SID ignored.
        ("CMD_CFGI_STE_RANGE", &[("SID", 0x123)], "Range", 3, "16 streams from 0x120"),
        ("CMD_CFGI_STE_RANGE", &[("SID", 0x123)], "Range", 0, "2 streams from 0x122"),
        ("CMD_CFGI_STE", &[], "Opcode", 0x03, "CMD_CFGI_STE"),
        ("CMD_CFGI_STE", &[], "Opcode", 0x00, "reserved"),
        ("CMD_CFGI_STE", &[], "Opcode", 0x80, "implementation defined"),
        ("CMD_PREFETCH_CONFIG", &[], "SSID", 5, "unused (SSV = 0)"),
        ("CMD_PREFETCH_CONFIG", &[("SSV", 1)], "SSID", 5, ""),
        ("CMD_CFGI_CD", &[], "SSID", 5, ""),
    ]);
}

#[test]
fn invalidation() {
    check(&[
        (TLBI, &[], "TG", &["one address, any granule", "4 KiB", "16 KiB", "64 KiB"]),
        (TLBI, &[("TG", 1)], "TTL", &["any level", "level 1", "level 2", "level 3"]),
        (TLBI, &[], "TTL", &["reserved (TG = 0)"; 4]),
        (TLBI, &[], "NUM", &["reserved (TG = 0)"; 2]),
        (TLBI, &[], "Leaf", &["walk caches too", "last-level translations alone"]),
        ("CMD_ATC_INV", &[], "Size", &["4 KiB", "8 KiB", "16 KiB"]),
        ("CMD_ATC_INV", &[], "G", &["no", "yes"]),
    ]);
    check_single(&[
        // A4: {SCALE 0, NUM 4}, {6, 12}, {13, 8}: (NUM + 1) << SCALE pages.
        (TLBI, &[("TG", 1), ("SCALE", 0)], "NUM", 4, "20 KiB: 5 pages"),
        (TLBI, &[("TG", 1), ("NUM", 12)], "SCALE", 6, "3328 KiB: 832 pages"),
        (TLBI, &[("TG", 1), ("NUM", 8)], "SCALE", 13, "288 MiB: 73728 pages"),
        (TLBI, &[("TG", 3), ("SCALE", 0)], "NUM", 0, "64 KiB: 1 page"),
        // SCALE above 39 is 39: 32 << 39 pages of 64 KiB.
        (TLBI, &[("TG", 3), ("NUM", 31)], "SCALE", 63, "1 EiB: 17592186044416 pages"),
        ("CMD_ATC_INV", &[], "Size", 9, "2 MiB"),
        ("CMD_ATC_INV", &[], "Size", 51, "8 EiB"),
        ("CMD_ATC_INV", &[], "Size", 52, "everything"),
        ("CMD_ATC_INV", &[], "Size", 53, "reserved"),
    ]);
}

#[test]
fn answers() {
    check(&[
        ("CMD_PRI_RESP", &[], "Resp", &["Failure", "Invalid Request", "Success", "reserved"]),
        ("CMD_RESUME", &[], "Ac", &["terminate", "retry"]),
        ("CMD_RESUME", &[], "Ab", &["reads give zero, writes are ignored", "abort"]),
        ("CMD_RESUME", &[("Ac", 1)], "Ab", &["unused (retry)"; 2]),
    ]);
}

#[test]
fn synchronisation() {
    check(&[
        (
            "CMD_SYNC",
            &[],
            "CS",
            &[
                "by the consumer index alone",
                "by an interrupt or a message",
                "by an event to waiting processors (SEV)",
                "reserved",
            ],
        ),
        (
            "CMD_SYNC",
            &[("CS", 1)],
            "MSH",
            &["non-shareable", "reserved", "outer shareable", "inner shareable"],
        ),
        ("CMD_SYNC", &[], "MSH", &["unused (no interrupt)"; 4]),
    ]);
    check_single(&[
        ("CMD_SYNC", &[("CS", 1)], "MSIAttr", 0xf, "Normal write-back"),
        ("CMD_SYNC", &[("CS", 1)], "MSIAttr", 0x1, "Device-nGnRE"),
        ("CMD_SYNC", &[("CS", 1)], "MSIAddr", 0, "no message: a wired interrupt"),
        ("CMD_SYNC", &[("CS", 1)], "MSIAddr", 0x8000_1000, ""),
    ]);
}
