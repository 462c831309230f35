// SPDX-License-Identifier: MIT OR Apache-2.0
//! Register fields (§2, §3.2).

use super::{check, check_single};

#[test]
fn features() {
    check(&[
        ("IDR0", &[], "S1P", &["no", "yes"]),
        (
            "IDR0",
            &[],
            "TTF",
            &["reserved", "AArch32 (LPAE)", "AArch64", "AArch32 (LPAE) and AArch64"],
        ),
        (
            "IDR0",
            &[],
            "HTTU",
            &[
                "none",
                "access flag",
                "access and dirty flag",
                "access and dirty flag, access flag of tables",
            ],
        ),
        // 1 = not supported.
        ("IDR0", &[], "NS1ATS", &["supported", "not supported"]),
        ("IDR0", &[], "ASID16", &["8 bits", "16 bits"]),
        ("IDR0", &[], "VMID16", &["8 bits", "16 bits"]),
        ("IDR0", &[], "TTENDIAN", &["both", "reserved", "little-endian", "big-endian"]),
        (
            "IDR0",
            &[],
            "STALL_MODEL",
            &["stall or terminate, by configuration", "terminate only", "stall always", "reserved"],
        ),
        ("IDR0", &[], "TERM_MODEL", &["abort, or read zero and ignore writes", "abort only"]),
        ("IDR0", &[], "ST_LEVEL", &["linear", "linear and 2-level", "reserved", "reserved"]),
        ("IDR1", &[], "SSIDSIZE", &["no substreams", "1 bit", "2 bits"]),
        ("IDR1", &[], "PRIQS", &["1 entry", "2 entries", "4 entries"]),
        ("IDR3", &[], "RIL", &["no", "yes"]),
        (
            "IDR3",
            &[],
            "BBML",
            &[
                "level 0: break before make",
                "level 1: with the nT bit",
                "level 2: directly",
                "reserved",
            ],
        ),
        (
            "IDR5",
            &[],
            "OAS",
            &[
                "32 bits", "36 bits", "40 bits", "42 bits", "44 bits", "48 bits", "52 bits",
                "56 bits",
            ],
        ),
        ("IDR5", &[], "VAX", &["48 bits", "52 bits", "56 bits", "reserved"]),
    ]);
    check_single(&[
        // A5: IDR1 of the base model and of QEMU.
        ("IDR1", &[], "SIDSIZE", 32, "32 bits"),
        ("IDR1", &[], "SSIDSIZE", 20, "20 bits"),
        ("IDR1", &[], "CMDQS", 19, "524288 entries"),
        ("IDR2", &[], "BA_VATOS", 0, "at 0x20000"),
        ("IDR2", &[], "BA_VATOS", 3, "at 0x50000"),
        ("IDR5", &[], "STALL_MAX", 16, "16 transactions"),
        ("IDR6", &[], "CMDQ_CONTROL_PAGE_LOG2NUMQ", 8, "256 queues"),
        ("IDR6", &[], "CMDQ_CONTROL_PAGE_LOG2NUMP", 0, "1 page"),
        ("IIDR", &[], "Implementer", 0x43b, "Arm"),
        ("IIDR", &[], "Implementer", 0x43c, ""),
        ("IIDR", &[("Implementer", 0x43b)], "ProductID", 0x483, "MMU-600"),
        ("IIDR", &[("Implementer", 0x43b)], "ProductID", 0x487, "MMU-700"),
        ("IIDR", &[("Implementer", 0x43b)], "ProductID", 0x48a, "MMU-L1"),
        ("IIDR", &[("Implementer", 0x43b)], "ProductID", 0x498, "MMU-S3"),
        ("IIDR", &[], "ProductID", 0x483, ""),
        ("AIDR", &[], "ArchMinorRev", 0, "SMMUv3.0"),
        ("AIDR", &[], "ArchMinorRev", 4, "SMMUv3.4"),
        ("AIDR", &[("ArchMajorRev", 1)], "ArchMinorRev", 4, ""),
    ]);
}

#[test]
fn controls() {
    check(&[
        ("CR0", &[], "SMMUEN", &["off: GBPA decides", "on"]),
        ("CR0ACK", &[], "CMDQEN", &["off", "on"]),
        (
            "CR0",
            &[],
            "VMW",
            &[
                "VMIDs match exactly",
                "1 low bit of VMIDs ignored",
                "2 low bits of VMIDs ignored",
                "3 low bits of VMIDs ignored",
                "4 low bits of VMIDs ignored",
                "reserved",
            ],
        ),
        // Not the encoding of walks: 1 is write-back, 2 write-through, 3 as 0.
        (
            "CR1",
            &[],
            "TABLE_IC",
            &["non-cacheable", "write-back", "write-through", "reserved: non-cacheable"],
        ),
        (
            "CR1",
            &[("QUEUE_OC", 1)],
            "QUEUE_SH",
            &["non-shareable", "reserved: non-shareable", "outer shareable", "inner shareable"],
        ),
        ("CR1", &[("TABLE_OC", 1)], "QUEUE_SH", &["outer shareable (non-cacheable)"; 4]),
        ("CR2", &[], "RECINVSID", &["not recorded", "recorded"]),
        ("CR2", &[], "PTM", &["takes part in broadcasts", "may ignore broadcasts"]),
        ("GBPA", &[], "ABORT", &["bypass", "abort"]),
        (
            "STRTAB_BASE_CFG",
            &[],
            "FMT",
            &["linear", "2-level", "reserved: linear", "reserved: linear"],
        ),
        (
            "PRIQ_IRQ_CFG2",
            &[],
            "LO",
            &["when the queue is no longer empty", "on the last of a group"],
        ),
        (
            "CMDQ_CONS",
            &[],
            "ERR",
            &[
                "CERROR_NONE: no error",
                "CERROR_ILL: illegal command",
                "CERROR_ABT: the command could not be read",
                "CERROR_ATC_INV_SYNC: a device did not complete an ATC invalidation in time",
                "unknown",
            ],
        ),
    ]);
    check_single(&[
        ("STRTAB_BASE_CFG", &[], "LOG2SIZE", 16, "65536 streams"),
        ("STRTAB_BASE_CFG", &[("FMT", 1)], "SPLIT", 8, "256 streams"),
        ("STRTAB_BASE_CFG", &[("FMT", 1)], "SPLIT", 10, "1024 streams"),
        // Others behave as 6.
        ("STRTAB_BASE_CFG", &[("FMT", 1)], "SPLIT", 7, "reserved: 64 streams"),
        ("STRTAB_BASE_CFG", &[], "SPLIT", 8, "unused (linear)"),
        ("EVENTQ_BASE", &[], "LOG2SIZE", 7, "128 entries"),
        ("GERROR_IRQ_CFG0", &[], "ADDR", 0, "no message"),
        ("GERROR_IRQ_CFG2", &[], "MemAttr", 1, "Device-nGnRE"),
        ("CMDQ_CONTROL_PAGE_BASE0", &[], "CMDQGS", 1, "64 KiB"),
        ("ECMDQ_CONS", &[], "ERR_REASON", 1, "CERROR_ILL: illegal command"),
        // ECMDQ_CONS.ERR is a toggle.
        ("ECMDQ_CONS", &[], "ERR", 1, ""),
    ]);
}

#[test]
fn translation_operations() {
    check(&[
        (
            "GATOS_ADDR",
            &[],
            "TYPE",
            &[
                "reserved",
                "stage 1: virtual to intermediate",
                "stage 2: intermediate to physical",
                "both stages: virtual to physical",
            ],
        ),
        (
            "GATOS_PAR (fault)",
            &[],
            "REASON",
            &[
                "stage 1, or none",
                "stage 2, on a context descriptor",
                "stage 2, on a stage-1 table",
                "stage 2, on its input",
            ],
        ),
        ("GATOS_PAR", &[], "Size", &["4 KiB", "by the lowest bit set in ADDR"]),
    ]);
    check_single(&[
        ("GATOS_PAR (fault)", &[], "FAULTCODE", 0x10, "F_TRANSLATION"),
        ("GATOS_PAR (fault)", &[], "FAULTCODE", 0xff, "INV_REQ: the request was not valid"),
        ("VATOS_PAR (fault)", &[], "FAULTCODE", 0xfe, "INV_STAGE: the stage does not exist"),
        ("GATOS_PAR (fault)", &[], "FAULTCODE", 0xfd, "INTERNAL_ERR"),
        ("GATOS_PAR", &[], "ATTR", 0xff, "Normal write-back"),
    ]);
}

/// §2.4: which global error is which bit.
#[test]
fn global_errors_say_what_failed() {
    let gerror = smmuv3_formats::structure::find("GERROR").unwrap();
    for (bit, word) in [
        (0, "command"),
        (2, "event queue"),
        (3, "PRI queue"),
        (4, "CMD_SYNC"),
        (5, "event queue"),
        (6, "PRI queue"),
        (7, "global error"),
        (8, "service failure mode"),
        (9, "enhanced command queue"),
        (10, "device permission table"),
    ] {
        let field = gerror.fields.iter().find(|field| field.lo == bit).unwrap();
        let text = smmuv3_formats::meaning::field(gerror, field);
        assert!(text.contains(word), "{field}: {text}");
    }
}
