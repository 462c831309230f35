// SPDX-License-Identifier: MIT OR Apache-2.0
//! §7.2, rule by rule.

use super::bench::{
    CONTEXT, Case, Changes, NESTED, STAGE_1, capable, cd, expect_none, hardware, judge, ste,
};
use smmuv3_formats::{Cd, Ste, legality};

/// A legal CD in the older format: no table is walked, so that its sizes don't matter.
const LPAE: Changes = &[("AA64", 0), ("EPD0", 1), ("EPD1", 1)];

#[track_caller]
fn check(stream: Ste, cases: &[Case]) {
    let mut found = Vec::new();
    for (title, settings, changes, verdict) in cases {
        let answer = legality::cd(&cd(CONTEXT, changes), &stream, &hardware(settings));
        found.extend(judge(title, "7.2", answer, *verdict));
    }
    expect_none(found);
}

fn el2() -> Ste {
    ste(STAGE_1, &[("STRW", 2)])
}

#[test]
fn the_legal_context_is_legal() {
    for stream in [STAGE_1, NESTED, el2()] {
        assert_eq!(legality::cd(&CONTEXT, &stream, &capable()), Ok(()));
        assert_eq!(legality::cd(&CONTEXT, &stream, &hardware(&[("E2H", 1)])), Ok(()));
    }
    assert_eq!(legality::cd(&cd(CONTEXT, LPAE), &STAGE_1, &capable()), Ok(()));
}

#[test]
fn rule_1_an_invalid_context_is_rejected() {
    check(STAGE_1, &[("V=0", &[], &[("V", 0)], Some(("1", "V")))]);
    let zeros = legality::cd(&Cd([0; 8]), &STAGE_1, &capable()).unwrap_err();
    assert_eq!((zeros.section, zeros.field), ("7.2(1)", "V"));
}

#[test]
fn rule_2_a_stream_can_forbid_stalls() {
    let forbidden = ste(STAGE_1, &[("S1STALLD", 1)]);
    check(forbidden, &[("S=1", &[], &[("S", 1)], Some(("2", "S"))), ("S=0", &[], &[], None)]);
    check(STAGE_1, &[("S=1", &[], &[("S", 1)], None)]);
}

#[test]
fn rule_3_where_faults_can_only_abort_they_must() {
    let abort_only: Changes = &[("IDR0.TERM_MODEL", 1)];
    check(
        STAGE_1,
        &[
            ("TERM_MODEL=1, A=0", abort_only, &[("A", 0)], Some(("3", "A"))),
            ("TERM_MODEL=1, A=1", abort_only, &[], None),
            ("TERM_MODEL=0, A=0", &[], &[("A", 0)], None),
        ],
    );
}

#[test]
fn rule_4_stalls_follow_the_stall_model() {
    let wrong = Some(("4", "S"));
    check(
        STAGE_1,
        &[
            ("STALL_MODEL=1, S=1", &[("IDR0.STALL_MODEL", 1)], &[("S", 1)], wrong),
            ("STALL_MODEL=1, S=0", &[("IDR0.STALL_MODEL", 1)], &[], None),
            ("STALL_MODEL=2, S=1", &[("IDR0.STALL_MODEL", 2)], &[("S", 1)], None),
            ("STALL_MODEL=2, S=0", &[("IDR0.STALL_MODEL", 2)], &[], wrong),
        ],
    );
}

#[test]
fn rule_5_tables_have_an_implemented_endianness() {
    let wrong = Some(("5", "ENDI"));
    let little: Changes = &[("IDR0.TTENDIAN", 2)];
    let big: Changes = &[("IDR0.TTENDIAN", 3)];
    check(
        STAGE_1,
        &[
            ("mixed, big", &[], &[("ENDI", 1)], None),
            ("little only, big", little, &[("ENDI", 1)], wrong),
            ("little only, little", little, &[], None),
            ("big only, little", big, &[], wrong),
            ("big only, big", big, &[("ENDI", 1)], None),
            ("nothing is walked", little, &[("ENDI", 1), ("EPD0", 1), ("EPD1", 1)], None),
            ("nothing is walked, big only", big, &[("EPD0", 1), ("EPD1", 1)], None),
            (
                "TTB1 alone is walked",
                little,
                &[("ENDI", 1), ("EPD0", 1), ("EPD1", 0), ("T1SZ", 16), ("TG1", 2)],
                wrong,
            ),
        ],
    );
    // EPD0 and EPD1 have no effect in EL2.
    check(el2(), &[("EL2", little, &[("ENDI", 1), ("EPD0", 1), ("EPD1", 1)], wrong)]);
}

#[test]
fn rule_6_the_table_format_is_implemented() {
    let wrong = Some(("6", "AA64"));
    check(
        STAGE_1,
        &[
            ("LPAE", &[], LPAE, None),
            ("LPAE, 64-bit only", &[("IDR0.TTF", 2)], LPAE, wrong),
            ("64-bit, 64-bit only", &[("IDR0.TTF", 2)], &[], None),
            ("64-bit, LPAE only", &[("IDR0.TTF", 1)], &[], wrong),
            ("LPAE, LPAE only", &[("IDR0.TTF", 1)], LPAE, None),
        ],
    );
    check(el2(), &[("LPAE, EL2-E2H", &[("E2H", 1)], LPAE, wrong)]);
    let lpae_stage_2 = ste(NESTED, &[("S2AA64", 0)]);
    check(
        lpae_stage_2,
        &[("64-bit over LPAE", &[], &[], wrong), ("LPAE over LPAE", &[], LPAE, None)],
    );
    check(NESTED, &[("LPAE over 64-bit", &[], LPAE, None)]);
    // S2AA64 is ignored without stage 2: STAGE_1 has it clear, and 64-bit contexts are legal.
    check(ste(STAGE_1, &[("S2AA64", 0)]), &[("stage 1 alone", &[], &[], None)]);
}

#[test]
fn rule_7_flag_updates_are_implemented() {
    let dirty = Some(("7", "HD"));
    check(
        STAGE_1,
        &[
            ("AF, HTTU=0", &[("IDR0.HTTU", 0)], &[("HA", 1)], Some(("7", "HA"))),
            ("AF, HTTU=1", &[("IDR0.HTTU", 1)], &[("HA", 1)], None),
            ("dirty alone, HTTU=0", &[("IDR0.HTTU", 0)], &[("HD", 1)], dirty),
            ("dirty alone, HTTU=1", &[("IDR0.HTTU", 1)], &[("HD", 1)], dirty),
            ("AF and dirty, HTTU=1", &[("IDR0.HTTU", 1)], &[("HA", 1), ("HD", 1)], dirty),
            ("AF and dirty, HTTU=2", &[("IDR0.HTTU", 2)], &[("HA", 1), ("HD", 1)], None),
            ("dirty alone acts as off, HTTU=2", &[("IDR0.HTTU", 2)], &[("HD", 1)], None),
            ("dirty alone acts as off, HTTU=3", &[], &[("HD", 1)], None),
            ("tables alone, HTTU=3", &[], &[("HAFT", 1)], Some(("7", "HAFT"))),
            ("tables and AF, HTTU=3", &[], &[("HAFT", 1), ("HA", 1)], None),
            ("tables alone, HTTU=2", &[("IDR0.HTTU", 2)], &[("HAFT", 1)], None),
            (
                "LPAE",
                &[("IDR0.HTTU", 0)],
                &[("AA64", 0), ("EPD0", 1), ("EPD1", 1), ("HA", 1)],
                None,
            ),
        ],
    );
}

#[test]
fn rule_8_asids_have_the_implemented_width_where_they_exist() {
    let wrong = Some(("8", "ASID"));
    let narrow: Changes = &[("IDR0.ASID16", 0)];
    let narrow_e2h: Changes = &[("IDR0.ASID16", 0), ("E2H", 1)];
    let cases: &[Case] = &[
        ("16 of 16 bits", &[], &[("ASID", 0xffff)], None),
        ("8 of 8 bits", narrow, &[("ASID", 0xff)], None),
        ("bit 8", narrow, &[("ASID", 0x105)], wrong),
        ("bit 15", narrow, &[("ASID", 0x8000)], wrong),
    ];
    check(STAGE_1, cases);
    check(NESTED, cases);
    check(
        STAGE_1,
        &[(
            "LPAE counts the full width",
            narrow,
            &[("AA64", 0), ("EPD0", 1), ("EPD1", 1), ("ASID", 0x100)],
            wrong,
        )],
    );
    check(
        el2(),
        &[
            ("EL2", narrow, &[("ASID", 0x105)], None),
            ("EL2-E2H", narrow_e2h, &[("ASID", 0x105)], wrong),
            ("EL2-E2H, 8 bits", narrow_e2h, &[("ASID", 0xff)], None),
            (
                "STRW without Hyp is EL1",
                &[("IDR0.ASID16", 0), ("IDR0.Hyp", 0)],
                &[("ASID", 0x105)],
                wrong,
            ),
        ],
    );
}

#[test]
fn rule_9_the_granules_are_implemented() {
    let low = Some(("9", "TG0"));
    let high = Some(("9", "TG1"));
    let upper = |tg1| [("EPD0", 1), ("EPD1", 0), ("T1SZ", 16), ("TG1", tg1)];
    check(
        STAGE_1,
        &[
            ("TG0=64K", &[], &[("TG0", 1)], None),
            ("TG0=16K", &[], &[("TG0", 2)], None),
            ("TG0=3", &[], &[("TG0", 3)], low),
            ("TG0=4K without", &[("IDR5.GRAN4K", 0)], &[], low),
            ("TG0=64K without", &[("IDR5.GRAN64K", 0)], &[("TG0", 1)], low),
            ("TG0=16K without", &[("IDR5.GRAN16K", 0)], &[("TG0", 2)], low),
            ("TG0=64K without 16K", &[("IDR5.GRAN16K", 0)], &[("TG0", 1)], None),
            ("TG0=16K without 64K", &[("IDR5.GRAN64K", 0)], &[("TG0", 2)], None),
            ("TG0=3 with EPD0", &[], &[("TG0", 3), ("EPD0", 1)], None),
            ("TG1=0", &[], &upper(0), high),
            ("TG1=16K", &[], &upper(1), None),
            ("TG1=4K", &[], &upper(2), None),
            ("TG1=64K", &[], &upper(3), None),
            ("TG1=16K without", &[("IDR5.GRAN16K", 0)], &upper(1), high),
            ("TG1=4K without", &[("IDR5.GRAN4K", 0)], &upper(2), high),
            ("TG1=64K without", &[("IDR5.GRAN64K", 0)], &upper(3), high),
        ],
    );
}

#[test]
fn rule_9_the_tables_are_inside_the_output_size() {
    let low = Some(("9", "TTB0"));
    let upper = |ips, ttb| {
        [("EPD0", 1), ("EPD1", 0), ("T1SZ", 16), ("TG1", 2), ("IPS", ips), ("TTB1", ttb)]
    };
    check(
        STAGE_1,
        &[
            ("IPS=44, last", &[], &[("TTB0", 0xfff_ffff_f000)], None),
            ("IPS=44, bit 44", &[], &[("TTB0", 1 << 44)], low),
            ("IPS=32, bit 32", &[], &[("IPS", 0), ("TTB0", 1 << 32)], low),
            ("OAS=40 caps", &[("IDR5.OAS", 2)], &[("IPS", 5), ("TTB0", 1 << 40)], low),
            ("OAS=48 caps", &[("IDR5.OAS", 5)], &[("IPS", 7), ("TTB0", 1 << 47)], None),
            ("4 KiB has 48 bits", &[], &[("IPS", 6), ("TTB0", 1 << 48)], low),
            ("16 KiB has 48 bits", &[], &[("IPS", 6), ("TG0", 2), ("TTB0", 1 << 48)], low),
            ("4 KiB has 52 with DS", &[], &[("IPS", 6), ("DS", 1), ("TTB0", 1 << 51)], None),
            ("64 KiB has 52", &[], &[("IPS", 6), ("TG0", 1), ("TTB0", 1 << 51)], None),
            ("64 KiB, IPS=48", &[], &[("IPS", 5), ("TG0", 1), ("TTB0", 1 << 48)], low),
            ("not walked", &[], &[("EPD0", 1), ("TTB0", 1 << 50), ("T0SZ", 0)], None),
            ("TTB1, last", &[], &upper(4, 0xfff_ffff_f000), None),
            ("TTB1, bit 44", &[], &upper(4, 1 << 44), Some(("9", "TTB1"))),
            ("TTB1, 4 KiB has 48 bits", &[], &upper(6, 1 << 48), Some(("9", "TTB1"))),
            ("TTB1 is not walked", &[], &[("TTB1", 1 << 50), ("T1SZ", 63), ("TG1", 0)], None),
        ],
    );
}

/// §7.2(9): LPAE tables ignore IPS, their addresses have 40 bits whatever OAS is. All their codes of TxSZ are
/// legal.
#[test]
fn rule_9_lpae_tables_are_inside_40_bits() {
    let small: Changes = &[("IDR5.OAS", 1)];
    let low = |ttb| [("AA64", 0), ("IPS", 0), ("TTB0", ttb)];
    let high = |ttb| [("AA64", 0), ("EPD0", 1), ("EPD1", 0), ("TTB1", ttb)];
    check(
        STAGE_1,
        &[
            ("TTB0, last", small, &low(0xff_ffff_fff0), None),
            ("TTB0, bit 40", &[], &low(1 << 40), Some(("9", "TTB0"))),
            ("TTB1, last", small, &high(0xff_ffff_fff0), None),
            ("TTB1, bit 40", &[], &high(1 << 40), Some(("9", "TTB1"))),
            ("not walked", small, &[LPAE, &[("TTB0", 1 << 50)]].concat(), None),
            ("any size", &[], &[("AA64", 0), ("T0SZ", 0), ("TG0", 3)], None),
        ],
    );
}

/// §7.2: EPDx has no effect in EL2, where TTB1 doesn't exist. That its fields are not checked there is
/// marked uncertain in the reference.
#[test]
fn el2_walks_ttb0_alone_and_always() {
    let small = Some(("9", "T0SZ"));
    let off: Changes = &[("EPD0", 1), ("T0SZ", 0)];
    let upper: Changes = &[("EPD1", 0), ("T1SZ", 0), ("TG1", 2), ("TTB1", 1 << 50)];
    check(
        STAGE_1,
        &[("EPD0 in EL1", &[], off, None), ("TTB1 in EL1", &[], upper, Some(("9", "T1SZ")))],
    );
    check(
        el2(),
        &[
            ("EPD0 in EL2", &[], off, small),
            ("EPD0 in EL2-E2H", &[("E2H", 1)], off, None),
            ("TTB1 in EL2", &[], upper, None),
            ("TTB1 in EL2-E2H", &[("E2H", 1)], upper, Some(("9", "T1SZ"))),
        ],
    );
}

#[test]
fn rule_10_permission_indirection_has_no_reserved_codes() {
    let enabled = ste(STAGE_1, &[("S1PIE", 1)]);
    let with = |field, value| [("PIE", 1), (field, value)];
    let both = |piip, piiu| [("PIE", 1), ("PIIP", piip), ("PIIU", piiu)];
    check(
        enabled,
        &[
            ("PIE", &[], &[("PIE", 1)], None),
            ("PIIP code 4 first", &[], &with("PIIP", 4), Some(("10", "PIIP"))),
            ("PIIP code 6 first", &[], &with("PIIP", 6), Some(("10", "PIIP"))),
            ("PIIP code 4 last", &[], &with("PIIP", 4 << 45), Some(("10", "PIIP"))),
            ("PIIP code 6 last", &[], &with("PIIP", 6 << 45), Some(("10", "PIIP"))),
            ("PIIU code 4 first", &[], &with("PIIU", 4), Some(("10", "PIIU"))),
            ("PIIU code 6 last", &[], &with("PIIU", 6 << 45), Some(("10", "PIIU"))),
            // 100 across two codes is no code.
            ("codes are aligned", &[], &with("PIIU", 0b010_000), None),
            // Privileged execution (x1x) of what is unprivileged writable (1xx), at one index.
            ("both", &[], &both(0b010 << 45, 0b101 << 45), Some(("10", "PIIP"))),
            ("both, all rights", &[], &both(0b111, 0b111), Some(("10", "PIIP"))),
            ("not at one index", &[], &both(0b010 << 45, 0b101), None),
            ("read alone", &[], &both(0b011, 0b011), None),
            ("no execution", &[], &both(0b101, 0b111), None),
            ("CD.PIE=0", &[], &[("PIIP", 4)], None),
            ("no S1PI", &[("IDR3.S1PI", 0)], &with("PIIP", 4), None),
            ("LPAE", &[], &[("AA64", 0), ("EPD0", 1), ("EPD1", 1), ("PIE", 1), ("PIIP", 4)], None),
        ],
    );
    check(STAGE_1, &[("STE.S1PIE=0", &[], &with("PIIP", 4), None)]);
    // A world with one privilege has no unprivileged permissions.
    let el2 = el2().with_s1_pie(true);
    check(
        el2,
        &[
            ("PIIP in EL2", &[], &with("PIIP", 4), Some(("10", "PIIP"))),
            ("PIIU in EL2", &[], &with("PIIU", 4), None),
            ("both in EL2", &[], &both(0b111, 0b111), None),
            ("PIIU in EL2-E2H", &[("E2H", 1)], &with("PIIU", 4), Some(("10", "PIIU"))),
        ],
    );
}

/// §7: anything else must not reject.
#[test]
fn other_fields_never_reject() {
    for (field, values) in [
        ("IR0", 4),
        ("OR0", 4),
        ("SH0", 4),
        ("IR1", 4),
        ("OR1", 4),
        ("SH1", 4),
        ("IPS", 8),
        ("AFFD", 2),
        ("WXN", 2),
        ("UWXN", 2),
        ("TBI0", 2),
        ("TBI1", 2),
        ("PAN", 2),
        ("R", 2),
        ("A", 2),
        ("ASET", 2),
        ("HAD0", 2),
        ("HAD1", 2),
        ("E0PD0", 2),
        ("E0PD1", 2),
        ("EPAN", 2),
        ("AIE", 2),
        ("HWU059", 2),
        ("PARTID", 2),
    ] {
        for value in 0..values {
            let entry = cd(CONTEXT, &[(field, value)]);
            assert_eq!(legality::cd(&entry, &STAGE_1, &capable()), Ok(()), "{field}={value}");
        }
    }
    let mut entry = CONTEXT;
    entry.0[3] = u64::MAX;
    entry.0[4] = u64::MAX;
    assert_eq!(legality::cd(&entry, &STAGE_1, &capable()), Ok(()), "any MAIR, any AMAIR");
}
