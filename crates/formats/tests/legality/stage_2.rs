// SPDX-License-Identifier: MIT OR Apache-2.0
//! §7.1, rules 7 and 8: what an entry says of stage 2, and the VMID that tags translations.

use smmuv3_formats::legality;

use super::bench::{BYPASS, NESTED, STAGE_1, STAGE_2, hardware};
use super::ste::check;

#[test]
fn rule_7a_forced_write_back_needs_the_64_bit_format() {
    for base in [STAGE_2, NESTED] {
        check(&[(
            base,
            &[
                ("64-bit", &[], &[("S2FWB", 1)], None),
                ("LPAE alone", &[], &[("S2AA64", 0)], None),
                ("LPAE", &[], &[("S2AA64", 0), ("S2FWB", 1)], Some(("7a", "S2FWB"))),
                ("FWB=0", &[("IDR3.FWB", 0)], &[("S2AA64", 0), ("S2FWB", 1)], None),
            ],
        )]);
    }
    check(&[(STAGE_1, &[("ignored", &[], &[("S2FWB", 1)], None)])]);
}

#[test]
fn rule_7b_stage_2_stalls_follow_the_stall_model() {
    let wrong = Some(("7b", "S2S"));
    for base in [STAGE_2, NESTED] {
        check(&[(
            base,
            &[
                ("STALL_MODEL=0", &[], &[("S2S", 1)], None),
                ("STALL_MODEL=1", &[("IDR0.STALL_MODEL", 1)], &[("S2S", 1)], wrong),
                ("STALL_MODEL=1, S2S=0", &[("IDR0.STALL_MODEL", 1)], &[], None),
                ("STALL_MODEL=2", &[("IDR0.STALL_MODEL", 2)], &[("S2S", 1)], None),
                ("STALL_MODEL=2, S2S=0", &[("IDR0.STALL_MODEL", 2)], &[], wrong),
            ],
        )]);
    }
    check(&[(STAGE_1, &[("ignored", &[("IDR0.STALL_MODEL", 1)], &[("S2S", 1)], None)])]);
}

#[test]
fn rule_7c_the_table_format_is_implemented() {
    let wrong = Some(("7c", "S2AA64"));
    for base in [STAGE_2, NESTED] {
        check(&[(
            base,
            &[
                ("LPAE, 64-bit only", &[("IDR0.TTF", 2)], &[("S2AA64", 0)], wrong),
                ("64-bit, 64-bit only", &[("IDR0.TTF", 2)], &[], None),
                ("64-bit, LPAE only", &[("IDR0.TTF", 1)], &[], wrong),
                ("LPAE, LPAE only", &[("IDR0.TTF", 1)], &[("S2AA64", 0)], None),
            ],
        )]);
    }
    check(&[(STAGE_1, &[("ignored", &[("IDR0.TTF", 2)], &[("S2AA64", 0)], None)])]);
}

#[test]
fn rule_7d_stage_2_flag_updates_are_implemented() {
    let af = Some(("7d", "S2HA"));
    let dirty = Some(("7d", "S2HD"));
    check(&[(
        STAGE_2,
        &[
            ("AF, HTTU=0", &[("IDR0.HTTU", 0)], &[("S2HA", 1)], af),
            ("AF, HTTU=1", &[("IDR0.HTTU", 1)], &[("S2HA", 1)], None),
            ("AF, HTTU=3", &[], &[("S2HA", 1)], None),
            ("dirty alone, HTTU=0", &[("IDR0.HTTU", 0)], &[("S2HD", 1)], dirty),
            ("dirty alone, HTTU=1", &[("IDR0.HTTU", 1)], &[("S2HD", 1)], dirty),
            ("AF and dirty, HTTU=1", &[("IDR0.HTTU", 1)], &[("S2HA", 1), ("S2HD", 1)], dirty),
            ("AF and dirty, HTTU=2", &[("IDR0.HTTU", 2)], &[("S2HA", 1), ("S2HD", 1)], None),
            ("dirty alone acts as off, HTTU=2", &[("IDR0.HTTU", 2)], &[("S2HD", 1)], None),
            ("dirty alone acts as off, HTTU=3", &[], &[("S2HD", 1)], None),
            ("tables alone, HTTU=3", &[], &[("S2HAFT", 1)], Some(("7d", "S2HAFT"))),
            ("tables and AF, HTTU=3", &[], &[("S2HAFT", 1), ("S2HA", 1)], None),
            ("tables alone, HTTU=2", &[("IDR0.HTTU", 2)], &[("S2HAFT", 1)], None),
            ("AF, LPAE", &[], &[("S2AA64", 0), ("S2HA", 1)], af),
            ("dirty, LPAE", &[], &[("S2AA64", 0), ("S2HD", 1)], dirty),
        ],
    )]);
    check(&[
        (NESTED, &[("AF, HTTU=0", &[("IDR0.HTTU", 0)], &[("S2HA", 1)], af)]),
        (STAGE_1, &[("ignored", &[("IDR0.HTTU", 0)], &[("S2HA", 1), ("S2HD", 1)], None)]),
    ]);
}

#[test]
fn rule_7e_the_granule_is_implemented() {
    let wrong = Some(("7e", "S2TG"));
    check(&[(
        STAGE_2,
        &[
            ("64 KiB", &[], &[("S2TG", 1)], None),
            ("16 KiB", &[], &[("S2TG", 2)], None),
            ("3 is reserved", &[], &[("S2TG", 3)], wrong),
            ("no 4 KiB", &[("IDR5.GRAN4K", 0)], &[], wrong),
            ("no 64 KiB", &[("IDR5.GRAN64K", 0)], &[("S2TG", 1)], wrong),
            ("no 16 KiB", &[("IDR5.GRAN16K", 0)], &[("S2TG", 2)], wrong),
            ("64 KiB, no 16 KiB", &[("IDR5.GRAN16K", 0)], &[("S2TG", 1)], None),
            ("16 KiB, no 64 KiB", &[("IDR5.GRAN64K", 0)], &[("S2TG", 2)], None),
            ("LPAE ignores it", &[("IDR5.GRAN4K", 0)], &[("S2AA64", 0), ("S2TG", 3)], None),
        ],
    )]);
}

#[test]
fn rule_7f_the_table_is_inside_the_output_size() {
    let wrong = Some(("7f", "S2TTB"));
    check(&[(
        STAGE_2,
        &[
            ("S2PS=40, last", &[], &[("S2PS", 2), ("S2TTB", 0xff_ffff_e000)], None),
            ("S2PS=40, bit 40", &[], &[("S2PS", 2), ("S2TTB", 1 << 40)], wrong),
            ("S2PS=32, bit 32", &[], &[("S2PS", 0), ("S2TTB", 1 << 32)], wrong),
            ("OAS=40 caps", &[("IDR5.OAS", 2)], &[("S2PS", 5), ("S2TTB", 1 << 40)], wrong),
            ("OAS=48 caps", &[("IDR5.OAS", 5)], &[("S2PS", 6), ("S2TTB", 1 << 47)], None),
            ("4 KiB has 48 bits", &[], &[("S2PS", 6), ("S2TTB", 1 << 48)], wrong),
            ("16 KiB has 48 bits", &[], &[("S2TG", 2), ("S2PS", 6), ("S2TTB", 1 << 48)], wrong),
            ("4 KiB has 52 with DS", &[], &[("S2DS", 1), ("S2PS", 6), ("S2TTB", 1 << 51)], None),
            (
                "16 KiB has 52 with DS",
                &[],
                &[("S2TG", 2), ("S2DS", 1), ("S2PS", 6), ("S2TTB", 1 << 51)],
                None,
            ),
            ("64 KiB has 52", &[], &[("S2TG", 1), ("S2PS", 6), ("S2TTB", 1 << 51)], None),
            ("64 KiB, S2PS=48", &[], &[("S2TG", 1), ("S2PS", 5), ("S2TTB", 1 << 48)], wrong),
        ],
    )]);
    check(&[(STAGE_1, &[("ignored", &[("IDR5.OAS", 2)], &[("S2TTB", 1 << 50)], None)])]);
}

/// §7.1(7f): LPAE tables ignore S2PS, their addresses have 40 bits whatever OAS is. All their sizes of input are
/// legal.
#[test]
fn lpae_tables_are_inside_40_bits() {
    let lpae = |ttb| [("S2AA64", 0), ("S2PS", 0), ("S2TTB", ttb)];
    let small: &[(&str, u64)] = &[("IDR5.OAS", 1)];
    for base in [STAGE_2, NESTED] {
        check(&[(
            base,
            &[
                ("last", small, &lpae(0xff_ffff_fff0), None),
                ("bit 40", &[], &lpae(1 << 40), Some(("7f", "S2TTB"))),
                ("any size", &[], &[("S2AA64", 0), ("S2T0SZ", 0), ("S2SL0", 3)], None),
            ],
        )]);
    }
}

/// §2.3: 52-bit addresses at stage 2 exist where IDR5.DS says so; else S2DS has no effect.
#[test]
fn s2ds_needs_ds() {
    let none: &[(&str, u64)] = &[("IDR5.DS", 0)];
    let ds = |changes: &[(&'static str, u64)]| [&[("S2DS", 1)], changes].concat();
    let large = ds(&[("S2PS", 6), ("S2TTB", 1 << 51)]);
    let top = ds(&[("S2T0SZ", 12), ("S2SL0_2", 1), ("S2SL0", 0)]);
    let start = ds(&[("S2T0SZ", 16), ("S2SL0_2", 1), ("S2SL0", 0)]);
    let level_0 = ds(&[("S2TG", 2), ("S2T0SZ", 16), ("S2SL0", 3)]);
    check(&[(
        STAGE_2,
        &[
            ("large base", &[], &large, None),
            ("large base without", none, &large, Some(("7f", "S2TTB"))),
            ("large input", &[], &top, None),
            ("large input without", none, &top, Some(("7g", "S2T0SZ"))),
            ("level -1 without", none, &start, Some(("7h", "S2SL0"))),
            ("level 0 of 16 KiB", &[], &level_0, None),
            ("level 0 of 16 KiB without", none, &level_0, Some(("7h", "S2SL0"))),
        ],
    )]);
}

#[test]
fn rule_7i_stage_2_tables_have_an_implemented_endianness() {
    let wrong = Some(("7i", "S2ENDI"));
    for base in [STAGE_2, NESTED] {
        check(&[(
            base,
            &[
                ("mixed, big", &[], &[("S2ENDI", 1)], None),
                ("little only, little", &[("IDR0.TTENDIAN", 2)], &[], None),
                ("little only, big", &[("IDR0.TTENDIAN", 2)], &[("S2ENDI", 1)], wrong),
                ("big only, big", &[("IDR0.TTENDIAN", 3)], &[("S2ENDI", 1)], None),
                ("big only, little", &[("IDR0.TTENDIAN", 3)], &[], wrong),
            ],
        )]);
    }
    check(&[(STAGE_1, &[("ignored", &[("IDR0.TTENDIAN", 2)], &[("S2ENDI", 1)], None)])]);
}

#[test]
fn rule_7j_stage_2_permission_indirection_is_consistent() {
    let pie: &[(&str, u64)] = &[("S2PIE", 1), ("S2POE", 1)];
    let with = |field, value| [pie[0], pie[1], (field, value)];
    check(&[(
        STAGE_2,
        &[
            ("indirection", &[], &[("S2PIE", 1)], None),
            ("LPAE", &[], &[("S2AA64", 0), ("S2PIE", 1)], Some(("7j", "S2PIE"))),
            ("LPAE, no S2PI", &[("IDR3.S2PI", 0)], &[("S2AA64", 0), ("S2PIE", 1)], None),
            ("overlay", &[], pie, None),
            ("overlay alone", &[], &[("S2POE", 1)], Some(("7j", "S2POE"))),
            ("overlay alone, no S2PO", &[("IDR3.S2PO", 0)], &[("S2POE", 1)], None),
            ("HWU without overlay", &[], &[("S2HWU59", 1)], None),
            ("HWU59", &[], &with("S2HWU59", 1), Some(("7j", "S2HWU59"))),
            ("HWU60", &[], &with("S2HWU60", 1), Some(("7j", "S2HWU60"))),
            ("HWU61", &[], &with("S2HWU61", 1), Some(("7j", "S2HWU61"))),
            ("HWU62", &[], &with("S2HWU62", 1), Some(("7j", "S2HWU62"))),
            ("HWU, no PBHA", &[("IDR3.PBHA", 0)], &with("S2HWU62", 1), None),
            ("HWU, no S2PO", &[("IDR3.S2PO", 0)], &with("S2HWU62", 1), None),
            ("code 1 first", &[], &with("S2POI", 1), Some(("7j", "S2POI"))),
            ("code 5 first", &[], &with("S2POI", 5), Some(("7j", "S2POI"))),
            ("code 1 last", &[], &with("S2POI", 1 << 60), Some(("7j", "S2POI"))),
            ("code 5 last", &[], &with("S2POI", 5 << 60), Some(("7j", "S2POI"))),
            ("the other codes", &[], &with("S2POI", 0xfedc_ba98_7642_0000), None),
            // 1 and 5 across two codes are no codes.
            ("codes are aligned", &[], &with("S2POI", 0x28), None),
            ("code 3", &[], &with("S2POI", 0x3333), None),
            ("code 1, no overlay", &[], &[("S2PIE", 1), ("S2POI", 0x1111)], None),
            ("code 1, no S2PO", &[("IDR3.S2PO", 0)], &with("S2POI", 0x5555), None),
        ],
    )]);
}

#[test]
fn rule_8_vmids_have_the_implemented_width_wherever_they_tag() {
    let wrong = Some(("8", "S2VMID"));
    let narrow: &[(&str, u64)] = &[("IDR0.VMID16", 0)];
    let wide: &[(&str, u64)] = &[("S2VMID", 0x100)];
    check(&[
        (
            STAGE_1,
            &[
                ("16 of 16 bits", &[], &[("S2VMID", 0xffff)], None),
                ("8 of 8 bits", narrow, &[("S2VMID", 0xff)], None),
                ("bit 8", narrow, wide, wrong),
                ("bit 15", narrow, &[("S2VMID", 0x8000)], wrong),
                ("no stage 2", &[("IDR0.VMID16", 0), ("IDR0.S2P", 0)], wide, None),
                ("EL2", narrow, &[("S2VMID", 0x100), ("STRW", 2)], None),
                (
                    "EL2-E2H",
                    &[("IDR0.VMID16", 0), ("E2H", 1)],
                    &[("S2VMID", 256), ("STRW", 2)],
                    None,
                ),
                (
                    "STRW is not used",
                    &[("IDR0.VMID16", 0), ("IDR0.Hyp", 0)],
                    &[("S2VMID", 0x100), ("STRW", 2)],
                    wrong,
                ),
            ],
        ),
        (
            STAGE_2,
            &[("8 bits", narrow, &[("S2VMID", 0xff)], None), ("9 bits", narrow, wide, wrong)],
        ),
        (
            NESTED,
            &[
                ("9 bits", narrow, wide, wrong),
                ("STRW is not used", narrow, &[("S2VMID", 0x100), ("STRW", 2)], wrong),
            ],
        ),
        (BYPASS, &[("ignored", narrow, wide, None)]),
    ]);
}

#[test]
fn stage_2_fields_are_ignored_without_stage_2() {
    for base in [STAGE_1, BYPASS] {
        let mut entry = base;
        // S2FWB and S2HWUx; all of w2 but the VMID; S2TTB, S2DS and the rest of w3; S2POI.
        entry.0[1] |= 1 << 25 | 0xf << 8;
        entry.0[2] |= 0xffff_ffff_0000_0000;
        entry.0[3] = u64::MAX;
        entry.0[7] = u64::MAX;
        for model in [0, 1, 2] {
            let here = hardware(&[("IDR0.STALL_MODEL", model), ("IDR0.HTTU", 0), ("IDR0.TTF", 2)]);
            assert_eq!(legality::ste(&entry, &here), Ok(()), "{entry:?}");
        }
    }
}
