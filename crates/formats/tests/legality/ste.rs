// SPDX-License-Identifier: MIT OR Apache-2.0
//! §7.1, rule by rule, but for those about stage 2.

use super::bench::{
    BYPASS, Case, NESTED, STAGE_1, STAGE_2, capable, expect_none, hardware, judge, ste,
};
use smmuv3_formats::{Ste, legality};

#[track_caller]
pub(super) fn check(cases: &[(Ste, &[Case])]) {
    let mut found = Vec::new();
    for (base, cases) in cases {
        for (title, settings, changes, verdict) in *cases {
            let answer = legality::ste(&ste(*base, changes), &hardware(settings));
            let title = format!("Config={:03b}: {title}", base.config());
            found.extend(judge(&title, "7.1", answer, *verdict));
        }
    }
    expect_none(found);
}

#[test]
fn the_legal_entries_are_legal() {
    for entry in [STAGE_1, STAGE_2, NESTED, BYPASS, Ste([1, 0, 0, 0, 0, 0, 0, 0])] {
        assert_eq!(legality::ste(&entry, &capable()), Ok(()), "{entry:?}");
    }
}

#[test]
fn rule_1_an_invalid_entry_is_rejected_whatever_it_holds() {
    check(&[
        (STAGE_1, &[("V=0", &[], &[("V", 0)], Some(("1", "V")))]),
        (Ste([0; 8]), &[("zeros", &[], &[], Some(("1", "V")))]),
        (Ste([!1; 8]), &[("ones but V", &[], &[], Some(("1", "V")))]),
    ]);
}

#[test]
fn rule_2_an_aborting_entry_is_legal_whatever_else_it_holds() {
    for config in 0b000..=0b011 {
        let entry = ste(Ste([u64::MAX; 8]), &[("Config", config)]);
        assert_eq!(legality::ste(&entry, &capable()), Ok(()), "Config={config:03b}");
        assert_eq!(legality::ste(&entry, &Default::default()), Ok(()), "Config={config:03b}");
    }
}

#[test]
fn rule_3_a_stage_that_does_not_exist_is_rejected() {
    let wrong = Some(("3", "Config"));
    check(&[
        (
            STAGE_1,
            &[("S1P=0", &[("IDR0.S1P", 0)], &[], wrong), ("S2P=0", &[("IDR0.S2P", 0)], &[], None)],
        ),
        (
            STAGE_2,
            &[("S1P=0", &[("IDR0.S1P", 0)], &[], None), ("S2P=0", &[("IDR0.S2P", 0)], &[], wrong)],
        ),
        (
            NESTED,
            &[("S1P=0", &[("IDR0.S1P", 0)], &[], wrong), ("S2P=0", &[("IDR0.S2P", 0)], &[], wrong)],
        ),
        (BYPASS, &[("no stage", &[("IDR0.S1P", 0), ("IDR0.S2P", 0)], &[], None)]),
    ]);
}

#[test]
fn rule_4_eats_must_suit_the_stages() {
    let wrong = Some(("4", "EATS"));
    check(&[
        (
            STAGE_1,
            &[
                ("full ATS", &[], &[("EATS", 1)], None),
                ("split-stage ATS", &[], &[("EATS", 2)], wrong),
                ("no ATS", &[("IDR0.ATS", 0)], &[("EATS", 2)], None),
                ("full ATS, S2S ignored", &[], &[("EATS", 1), ("S2S", 1)], None),
                ("EATS=3 without DPT acts as 0", &[], &[("EATS", 3), ("STRW", 2)], None),
                ("EATS=3, STRW=0", &[("IDR3.DPT", 1)], &[("EATS", 3)], None),
                ("EATS=3, STRW=2", &[("IDR3.DPT", 1)], &[("EATS", 3), ("STRW", 2)], wrong),
                (
                    "EATS=3, STRW=2 without Hyp",
                    &[("IDR3.DPT", 1), ("IDR0.Hyp", 0)],
                    &[("EATS", 3), ("STRW", 2)],
                    None,
                ),
                (
                    "EATS=3, DPT but no ATS",
                    &[("IDR3.DPT", 1), ("IDR0.ATS", 0)],
                    &[("EATS", 3), ("STRW", 2)],
                    None,
                ),
            ],
        ),
        (
            STAGE_2,
            &[
                ("full ATS", &[], &[("EATS", 1)], None),
                ("full ATS with stalls", &[], &[("EATS", 1), ("S2S", 1)], wrong),
                ("split-stage ATS", &[], &[("EATS", 2)], wrong),
                ("EATS=3 without DPT, stalls", &[], &[("EATS", 3), ("S2S", 1)], None),
                ("EATS=3", &[("IDR3.DPT", 1)], &[("EATS", 3)], None),
                ("EATS=3 with stalls", &[("IDR3.DPT", 1)], &[("EATS", 3), ("S2S", 1)], wrong),
            ],
        ),
        (
            NESTED,
            &[
                ("full ATS", &[], &[("EATS", 1)], None),
                ("full ATS with stalls", &[], &[("EATS", 1), ("S2S", 1)], wrong),
                ("split-stage ATS", &[], &[("EATS", 2)], None),
                ("split-stage ATS with stalls", &[], &[("EATS", 2), ("S2S", 1)], wrong),
                ("NS1ATS=1", &[("IDR0.NS1ATS", 1)], &[("EATS", 2)], wrong),
                ("NS1ATS=1, full ATS", &[("IDR0.NS1ATS", 1)], &[("EATS", 1)], None),
                ("no ATS", &[("IDR0.ATS", 0)], &[("EATS", 1), ("S2S", 1)], None),
                (
                    "no ATS, NS1ATS=1",
                    &[("IDR0.ATS", 0), ("IDR0.NS1ATS", 1)],
                    &[("EATS", 2), ("S2S", 1)],
                    None,
                ),
                ("EATS=3 with stalls", &[("IDR3.DPT", 1)], &[("EATS", 3), ("S2S", 1)], wrong),
            ],
        ),
        (
            BYPASS,
            &[
                ("EATS=1", &[], &[("EATS", 1)], None),
                ("EATS=2", &[], &[("EATS", 2)], None),
                ("EATS=3", &[("IDR3.DPT", 1)], &[("EATS", 3)], None),
            ],
        ),
    ]);
}

#[test]
fn rule_5_the_stream_world_is_el1_or_el2() {
    let wrong = Some(("5", "STRW"));
    check(&[
        (
            STAGE_1,
            &[
                ("STRW=1", &[], &[("STRW", 1)], wrong),
                ("STRW=2", &[], &[("STRW", 2)], None),
                ("STRW=3", &[], &[("STRW", 3)], wrong),
                ("STRW=1 without Hyp", &[("IDR0.Hyp", 0)], &[("STRW", 1)], None),
                ("STRW=3 without Hyp", &[("IDR0.Hyp", 0)], &[("STRW", 3)], None),
            ],
        ),
        (STAGE_2, &[("STRW=1 is ignored", &[], &[("STRW", 1)], None)]),
        (NESTED, &[("STRW=3 is ignored", &[], &[("STRW", 3)], None)]),
        (BYPASS, &[("STRW=3 is ignored", &[], &[("STRW", 3)], None)]),
    ]);
}

#[test]
fn rule_6a_stalls_can_be_forbidden_only_where_they_can_be_chosen() {
    let wrong = Some(("6a", "S1STALLD"));
    check(&[
        (
            STAGE_1,
            &[
                ("STALL_MODEL=0", &[], &[("S1STALLD", 1)], None),
                ("STALL_MODEL=1", &[("IDR0.STALL_MODEL", 1)], &[("S1STALLD", 1)], wrong),
                ("STALL_MODEL=2", &[("IDR0.STALL_MODEL", 2)], &[("S1STALLD", 1)], wrong),
                ("STALL_MODEL=1, clear", &[("IDR0.STALL_MODEL", 1)], &[], None),
                ("STALL_MODEL=2, clear", &[("IDR0.STALL_MODEL", 2)], &[], None),
            ],
        ),
        (
            NESTED,
            &[
                ("STALL_MODEL=0", &[], &[("S1STALLD", 1)], None),
                ("STALL_MODEL=1", &[("IDR0.STALL_MODEL", 1)], &[("S1STALLD", 1)], wrong),
            ],
        ),
        (STAGE_2, &[("ignored", &[("IDR0.STALL_MODEL", 1)], &[("S1STALLD", 1)], None)]),
        (BYPASS, &[("ignored", &[("IDR0.STALL_MODEL", 1)], &[("S1STALLD", 1)], None)]),
    ]);
}

#[test]
fn rule_6b_the_cd_table_has_at_most_the_implemented_substreams() {
    let wrong = Some(("6b", "S1CDMax"));
    let narrow: &[(&str, u64)] = &[("IDR1.SSIDSIZE", 8)];
    check(&[
        (
            STAGE_1,
            &[
                ("20 of 20 bits", &[], &[("S1CDMax", 20)], None),
                ("21 of 20 bits", &[], &[("S1CDMax", 21)], wrong),
                ("8 of 8 bits", narrow, &[("S1CDMax", 8)], None),
                ("9 of 8 bits", narrow, &[("S1CDMax", 9)], wrong),
                ("no substreams", &[("IDR1.SSIDSIZE", 0)], &[("S1CDMax", 31)], None),
            ],
        ),
        (NESTED, &[("21 of 20 bits", &[], &[("S1CDMax", 21)], wrong)]),
        (STAGE_2, &[("ignored", &[], &[("S1CDMax", 21)], None)]),
    ]);
}

#[test]
fn rule_6c_two_level_cd_tables_need_cd2l() {
    let wrong = Some(("6c", "S1Fmt"));
    let linear: &[(&str, u64)] = &[("IDR0.CD2L", 0)];
    check(&[
        (
            STAGE_1,
            &[
                ("4 KiB leaves", &[], &[("S1CDMax", 8), ("S1Fmt", 1)], None),
                ("64 KiB leaves", &[], &[("S1CDMax", 8), ("S1Fmt", 2)], None),
                ("S1Fmt=3 acts as 0", &[], &[("S1CDMax", 8), ("S1Fmt", 3)], None),
                ("linear without CD2L", linear, &[("S1CDMax", 8), ("S1Fmt", 0)], None),
                ("4 KiB without CD2L", linear, &[("S1CDMax", 8), ("S1Fmt", 1)], wrong),
                ("64 KiB without CD2L", linear, &[("S1CDMax", 8), ("S1Fmt", 2)], wrong),
                ("S1Fmt=3 without CD2L", linear, &[("S1CDMax", 8), ("S1Fmt", 3)], None),
                ("one CD without CD2L", linear, &[("S1Fmt", 1)], None),
                (
                    "no substreams",
                    &[("IDR0.CD2L", 0), ("IDR1.SSIDSIZE", 0)],
                    &[("S1CDMax", 8), ("S1Fmt", 1)],
                    None,
                ),
            ],
        ),
        (NESTED, &[("4 KiB without CD2L", linear, &[("S1CDMax", 8), ("S1Fmt", 1)], wrong)]),
        (STAGE_2, &[("ignored", linear, &[("S1CDMax", 8), ("S1Fmt", 1)], None)]),
    ]);
}

#[test]
fn rule_6d_the_cd_table_is_inside_the_address_space() {
    let wrong = Some(("6d", "S1ContextPtr"));
    check(&[
        (
            STAGE_1,
            &[
                ("OAS=52", &[], &[("S1ContextPtr", 0x000f_ffff_ffff_ffc0)], None),
                ("bit 52", &[], &[("S1ContextPtr", 1 << 52)], wrong),
                ("OAS=44", &[("IDR5.OAS", 4)], &[("S1ContextPtr", 0x0fff_ffff_ffc0)], None),
                ("bit 44", &[("IDR5.OAS", 4)], &[("S1ContextPtr", 1 << 44)], wrong),
                ("OAS=32", &[("IDR5.OAS", 0)], &[("S1ContextPtr", 0xffff_ffc0)], None),
                ("bit 32", &[("IDR5.OAS", 0)], &[("S1ContextPtr", 1 << 32)], wrong),
                ("bit 36", &[("IDR5.OAS", 1)], &[("S1ContextPtr", 1 << 36)], wrong),
            ],
        ),
        // With both stages it is an IPA: LPAE gives 40 bits even where the output has 36.
        (NESTED, &[("IAS=40", &[("IDR5.OAS", 1)], &[("S1ContextPtr", 1 << 39)], None)]),
        (STAGE_2, &[("ignored", &[], &[("S1ContextPtr", 1 << 55)], None)]),
    ]);
}

#[test]
fn rule_9_the_vms_is_inside_the_address_space() {
    let oas: &[(&str, u64)] = &[("IDR5.OAS", 4)];
    check(&[
        (
            NESTED,
            &[
                ("last page", oas, &[("S1MPAM", 1), ("VMSPtr", 0xfff_ffff_f000)], None),
                ("bit 44", oas, &[("S1MPAM", 1), ("VMSPtr", 1 << 44)], Some(("9", "VMSPtr"))),
                ("not used", oas, &[("S1MPAM", 0), ("VMSPtr", 1 << 44)], None),
                (
                    "no MPAM",
                    &[("IDR5.OAS", 4), ("IDR3.MPAM", 0)],
                    &[("S1MPAM", 1), ("VMSPtr", 1 << 44)],
                    None,
                ),
            ],
        ),
        (STAGE_1, &[("ignored", oas, &[("S1MPAM", 1), ("VMSPtr", 1 << 44)], None)]),
        (STAGE_2, &[("ignored", oas, &[("S1MPAM", 1), ("VMSPtr", 1 << 44)], None)]),
    ]);
}

#[test]
fn stage_1_fields_are_ignored_without_stage_1() {
    for base in [STAGE_2, BYPASS] {
        let entry = ste(
            base,
            &[
                ("S1Fmt", 1),
                ("S1ContextPtr", 0x00ff_ffff_ffff_ffc0),
                ("S1CDMax", 31),
                ("S1DSS", 3),
                ("S1CIR", 3),
                ("S1COR", 3),
                ("S1CSH", 1),
                ("S1STALLD", 1),
                ("S1PIE", 1),
                ("STRW", 3),
            ],
        );
        let here = hardware(&[("IDR0.STALL_MODEL", 1), ("IDR0.CD2L", 0)]);
        assert_eq!(legality::ste(&entry, &here), Ok(()), "{entry:?}");
    }
}

/// §7.1: effective values that are not errors.
#[test]
fn reserved_codes_with_fallbacks_are_legal() {
    for (field, values) in [
        ("S1DSS", 4),
        ("S1CIR", 4),
        ("S1COR", 4),
        ("S1CSH", 4),
        ("SHCFG", 4),
        ("PRIVCFG", 4),
        ("INSTCFG", 4),
        ("MemAttr", 16),
        ("ALLOCCFG", 16),
        ("NSCFG", 4),
        ("MTCFG", 2),
        ("CONT", 16),
        ("S1Fmt", 4),
    ] {
        for value in 0..values {
            for base in [STAGE_1, NESTED, BYPASS] {
                let entry = ste(base, &[("S1CDMax", 8), (field, value)]);
                assert_eq!(legality::ste(&entry, &capable()), Ok(()), "{field}={value}");
            }
        }
    }
    for (field, values) in [("S2SH0", 4), ("S2IR0", 4), ("S2OR0", 4), ("S2PS", 8)] {
        for value in 0..values {
            for base in [STAGE_2, NESTED] {
                let entry = ste(base, &[(field, value)]);
                assert_eq!(legality::ste(&entry, &capable()), Ok(()), "{field}={value}");
                let small = hardware(&[("IDR5.OAS", 2)]);
                assert_eq!(legality::ste(&entry, &small), Ok(()), "{field}={value}, OAS=40");
            }
        }
    }
    // Policy bits are nobody's business.
    for field in ["DRE", "DCP", "PPAR", "MEV", "S1PIE", "S2AFFD", "S2PTW", "S2R", "SW_RESERVED"] {
        for value in [0, 1] {
            let entry = ste(NESTED, &[(field, value)]);
            assert_eq!(legality::ste(&entry, &capable()), Ok(()), "{field}={value}");
        }
    }
}
