// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream table and context descriptor fields (§5.1, §5.2, §6).

use super::{check, check_single};

#[test]
fn streams() {
    check(&[
        ("STE", &[], "V", &["invalid", "valid"]),
        (
            "STE",
            &[],
            "Config",
            &[
                "abort, silently",
                "abort, silently",
                "abort, silently",
                "abort, silently",
                "bypass",
                "stage 1 translates",
                "stage 2 translates",
                "stage 1 translates, then stage 2",
            ],
        ),
        (
            "STE",
            &[("S1CDMax", 8)],
            "S1Fmt",
            &[
                "linear",
                "2-level, leaves of 4 KiB (64 CDs)",
                "2-level, leaves of 64 KiB (1024 CDs)",
                "reserved: linear",
            ],
        ),
        ("STE", &[], "S1Fmt", &["unused (one context)"; 4]),
        ("STE", &[], "S1CDMax", &["1 CD, no substreams", "2 CDs", "4 CDs", "8 CDs"]),
        (
            "STE",
            &[("S1CDMax", 1)],
            "S1DSS",
            &["terminate", "bypass stage 1", "use CD 0", "reserved: terminate"],
        ),
        ("STE", &[], "S1DSS", &["unused (no substreams)"; 4]),
        (
            "STE",
            &[],
            "S1CIR",
            &[
                "non-cacheable",
                "write-back, read-allocate",
                "write-through, read-allocate",
                "write-back, no allocation",
            ],
        ),
        ("STE", &[], "S1COR", &["non-cacheable", "write-back, read-allocate"]),
        (
            "STE",
            &[("S1CIR", 1)],
            "S1CSH",
            &["non-shareable", "reserved: non-shareable", "outer shareable", "inner shareable"],
        ),
        ("STE", &[], "S1CSH", &["outer shareable (non-cacheable)"; 4]),
        ("STE", &[], "CONT", &["this STE alone", "2 STEs", "4 STEs"]),
        (
            "STE",
            &[],
            "EATS",
            &[
                "off",
                "full",
                "split-stage: the device gets intermediate addresses",
                "full, checked by the device permission table",
            ],
        ),
        ("STE", &[], "STRW", &["EL1", "reserved", "EL2, or EL2-E2H with CR2.E2H", "reserved"]),
    ]);
}

#[test]
fn overrides() {
    check(&[
        ("STE", &[], "MemAttr", &["unused (MTCFG = 0)"; 16]),
        (
            "STE",
            &[("MTCFG", 1)],
            "MemAttr",
            &[
                "Device-nGnRnE",
                "Device-nGnRE",
                "Device-nGRE",
                "Device-GRE",
                "Device-nGnRnE",
                "Normal non-cacheable",
            ],
        ),
        ("STE", &[], "MTCFG", &["as it comes in", "MemAttr"]),
        // 0 is not "incoming".
        (
            "STE",
            &[],
            "SHCFG",
            &["non-shareable", "as it comes in", "outer shareable", "inner shareable"],
        ),
        (
            "GBPA",
            &[],
            "SHCFG",
            &["non-shareable", "as it comes in", "outer shareable", "inner shareable"],
        ),
        ("STE", &[], "NSCFG", &["unused (Non-secure)"; 4]),
        ("STE", &[], "PRIVCFG", &["as it comes in", "reserved", "unprivileged", "privileged"]),
        ("STE", &[], "INSTCFG", &["as it comes in", "reserved", "data", "instruction (reads)"]),
        ("GBPA", &[], "INSTCFG", &["as it comes in", "reserved", "data", "instruction (reads)"]),
        ("STE", &[], "ALLOCCFG", &["as it comes in"; 8]),
    ]);
    // 1RWT.
    check_single(&[
        ("STE", &[], "ALLOCCFG", 0b1000, "no allocation"),
        ("STE", &[], "ALLOCCFG", 0b1001, "no allocation, transient"),
        ("STE", &[], "ALLOCCFG", 0b1010, "write-allocate"),
        ("STE", &[], "ALLOCCFG", 0b1100, "read-allocate"),
        ("GBPA", &[], "ALLOCCFG", 0b1111, "read- and write-allocate, transient"),
        ("STE", &[("MTCFG", 1)], "MemAttr", 0b1111, "Normal write-back"),
    ]);
}

#[test]
fn stage_2() {
    check(&[
        ("STE", &[], "S2TG", &["4 KiB", "64 KiB", "16 KiB", "reserved"]),
        (
            "STE",
            &[],
            "S2PS",
            &[
                "32 bits", "36 bits", "40 bits", "42 bits", "44 bits", "48 bits", "52 bits",
                "56 bits",
            ],
        ),
        (
            "STE",
            &[],
            "S2IR0",
            &[
                "non-cacheable",
                "write-back, read- and write-allocate",
                "write-through, read-allocate",
                "write-back, read-allocate",
            ],
        ),
        (
            "STE",
            &[("S2IR0", 1)],
            "S2SH0",
            &["non-shareable", "reserved: non-shareable", "outer shareable", "inner shareable"],
        ),
        ("STE", &[], "S2AA64", &["AArch32 (LPAE)", "AArch64"]),
        ("STE", &[], "S2ENDI", &["little-endian", "big-endian"]),
        ("STE", &[], "S2S", &["terminate", "stall"]),
        ("STE", &[], "S2R", &["not recorded", "recorded"]),
        ("STE", &[("S2S", 1)], "S2R", &["recorded (stalls always are)"; 2]),
        ("STE", &[], "S2HD", &["off", "off (needs access flags by hardware too)"]),
        ("STE", &[("S2HA", 1)], "S2HD", &["off", "on"]),
        ("STE", &[], "S2AFFD", &["AF = 0 faults", "AF = 0 does not fault"]),
        ("STE", &[("S2HA", 1)], "S2AFFD", &["unused (hardware sets the flag)"; 2]),
        // A2: T0SZ 24 starts at level 1 with two tables, or at level 0; T0SZ 20 at level 0 alone.
        (
            "STE",
            &[("S2AA64", 1), ("S2T0SZ", 24)],
            "S2SL0",
            &[
                "does not go with S2T0SZ and S2TG",
                "level 1, 2 tables side by side",
                "level 0",
                "does not go with S2T0SZ and S2TG",
            ],
        ),
        (
            "STE",
            &[("S2AA64", 1), ("S2T0SZ", 20), ("S2TG", 0)],
            "S2SL0",
            &["does not go with S2T0SZ and S2TG", "does not go with S2T0SZ and S2TG", "level 0"],
        ),
        // LPAE has start levels of its own, which the reference does not give.
        ("STE", &[("S2T0SZ", 24)], "S2SL0", &[""; 4]),
    ]);
    check_single(&[
        ("STE", &[], "S2T0SZ", 24, "40 bits"),
        ("STE", &[], "S2T0SZ", 16, "48 bits"),
        (
            "STE",
            &[("S2AA64", 1), ("S2T0SZ", 12), ("S2DS", 1), ("S2SL0_2", 1)],
            "S2SL0",
            0,
            "level -1",
        ),
    ]);
}

#[test]
fn contexts() {
    check(&[
        ("CD", &[], "V", &["invalid", "valid"]),
        ("CD", &[], "TG0", &["4 KiB", "64 KiB", "16 KiB", "reserved"]),
        ("CD", &[], "TG1", &["reserved", "16 KiB", "4 KiB", "64 KiB"]),
        ("CD", &[("EPD0", 1)], "TG0", &["unused (not walked)"; 4]),
        ("CD", &[("EPD0", 1)], "TG1", &["reserved", "16 KiB"]),
        ("CD", &[("EPD1", 1)], "T1SZ", &["unused (not walked)"; 2]),
        ("CD", &[], "EPD1", &["walked", "not walked: F_TRANSLATION"]),
        ("CD", &[], "IPS", &["32 bits", "36 bits", "40 bits", "42 bits", "44 bits", "48 bits"]),
        (
            "CD",
            &[],
            "OR1",
            &[
                "non-cacheable",
                "write-back, read- and write-allocate",
                "write-through, read-allocate",
                "write-back, read-allocate",
            ],
        ),
        (
            "CD",
            &[("IR1", 1)],
            "SH1",
            &["non-shareable", "reserved: non-shareable", "outer shareable", "inner shareable"],
        ),
        ("CD", &[], "ENDI", &["little-endian", "big-endian"]),
        ("CD", &[], "AA64", &["AArch32 (LPAE)", "AArch64"]),
        // §5.4.
        ("CD", &[], "A", &["reads give zero, writes are ignored", "abort"]),
        ("CD", &[("S", 1)], "A", &["unused (faults stall)"; 2]),
        ("CD", &[], "R", &["not recorded", "recorded"]),
        ("CD", &[], "S", &["terminate", "stall"]),
        ("CD", &[], "HD", &["off", "off (needs access flags by hardware too)"]),
        ("CD", &[], "ASET", &["shared with the processors", "not shared with the processors"]),
        ("L1CD", &[], "V", &["invalid", "valid"]),
    ]);
    check_single(&[
        ("CD", &[], "PIIP", 0b111, ""),
        (
            "CD",
            &[("PIE", 1)],
            "PIIP",
            0b100_011_101_111,
            "0: rwx; 1: rw-; 2: r-x; 3: reserved; 4: ---; 5: ---; 6: ---; 7: ---; 8: ---; 9: ---; \
             10: ---; 11: ---; 12: ---; 13: ---; 14: ---; 15: ---",
        ),
        ("CD", &[], "T0SZ", 16, "48 bits"),
        ("CD", &[], "T1SZ", 25, "39 bits"),
        (
            "CD",
            &[],
            "MAIR",
            0x0000_0000_0004_44ff,
            "0: Normal write-back; 1: Normal non-cacheable; 2: Device-nGnRE; 3: Device-nGnRnE; \
             4: Device-nGnRnE; 5: Device-nGnRnE; 6: Device-nGnRnE; 7: Device-nGnRnE",
        ),
    ]);
}

#[test]
fn spans_of_l1std() {
    check(&[(
        "L1STD",
        &[],
        "Span",
        &[
            "no streams",
            "1 STE",
            "2 STEs",
            "4 STEs",
            "8 STEs",
            "16 STEs",
            "32 STEs",
            "64 STEs",
            "128 STEs",
            "256 STEs",
            "512 STEs",
            "1024 STEs",
            "reserved: no streams",
            "reserved: no streams",
        ],
    )]);
}

/// §5.2: with Config = 1x0 all S1 fields are ignored, with 10x all S2 fields but S2VMID.
#[test]
fn fields_of_a_stage_that_does_not_translate_are_unused() {
    check_single(&[
        ("STE", &[("Config", 5)], "S2T0SZ", 0, "unused (no stage 2)"),
        ("STE", &[("Config", 5)], "S2AA64", 0, "unused (no stage 2)"),
        ("STE", &[("Config", 4)], "S2R", 1, "unused (no stage 2)"),
        ("STE", &[("Config", 6)], "S1DSS", 0, "unused (no stage 1)"),
        ("STE", &[("Config", 6)], "S1CDMax", 3, "unused (no stage 1)"),
        ("STE", &[("Config", 7), ("S1CDMax", 3)], "S1DSS", 0, "terminate"),
        ("STE", &[("Config", 7), ("S2AA64", 1)], "S2T0SZ", 24, "40 bits"),
        // A number has no meaning of its own.
        ("STE", &[("Config", 5)], "S2VMID", 7, ""),
        ("STE", &[("Config", 5)], "S2TTB", 0x1000, ""),
    ]);
}

/// AArch32 tables: S2T0SZ is -8 to 7 in four bits, TxSZ 0 to 7 in three, both from 32 bits; granule and output
/// size are 4 KiB and 40 bits.
#[test]
fn sizes_of_aarch32_tables_are_their_own() {
    let lpae: &[(&str, u64)] = &[("Config", 6)];
    check_single(&[
        ("STE", lpae, "S2T0SZ", 0, "32 bits"),
        ("STE", lpae, "S2T0SZ", 8, "40 bits"),
        ("STE", lpae, "S2T0SZ", 7, "25 bits"),
        ("STE", lpae, "S2T0SZ", 15, "33 bits"),
        ("STE", lpae, "S2PS", 5, "unused (AArch32: 40 bits)"),
        ("STE", lpae, "S2TG", 1, "unused (AArch32: 4 KiB)"),
        ("CD", &[("V", 1)], "T0SZ", 0, "32 bits"),
        ("CD", &[("V", 1)], "T1SZ", 0x3f, "25 bits"),
        ("CD", &[("V", 1)], "IPS", 5, "unused (AArch32: 40 bits)"),
        ("CD", &[("V", 1)], "HA", 1, "unused (AArch32)"),
        ("CD", &[("V", 1), ("AA64", 1)], "T0SZ", 16, "48 bits"),
    ]);
}

/// §5.2, §6: walks of non-cacheable tables are outer shareable whatever SHx says; code 1 acts as 0.
#[test]
fn shareability_of_walks_needs_cacheability() {
    let none = &["outer shareable (non-cacheable)"; 4];
    let each = &["non-shareable", "reserved: non-shareable", "outer shareable", "inner shareable"];
    check(&[
        ("STE", &[], "S2SH0", none),
        ("STE", &[("S2OR0", 1)], "S2SH0", each),
        ("CD", &[("IR1", 1)], "SH0", none),
        ("CD", &[("IR0", 1)], "SH0", each),
        ("CD", &[("OR1", 2)], "SH1", each),
    ]);
}
