// SPDX-License-Identifier: MIT OR Apache-2.0
//! What descriptors mean at their place, held to §15.1 to §15.3.

use smmuv3_formats::descriptor::{Form, Meaning, Stage};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::permission::Limits;

use Granule::{K4, K16, K64};

fn form(granule: Granule, level: i8) -> Form {
    Form { granule, ..Form::new(Stage::One, level) }
}

fn leaf(address: u64, bytes_log2: u32) -> Meaning {
    Meaning::Leaf { address, bytes_log2, group_log2: None }
}

fn table(next: u64) -> Meaning {
    Meaning::Table { next, limits: Limits::NONE }
}

#[test]
fn the_worked_vectors() {
    // A1: three tables and a page.
    for (level, descriptor, next) in [
        (0, 0x8001_1003, 0x8001_1000),
        (1, 0x8001_2003, 0x8001_2000),
        (2, 0x8001_3003, 0x8001_3000),
    ] {
        assert_eq!(form(K4, level).read(descriptor), table(next));
    }
    assert_eq!(form(K4, 3).read(0x0060_0000_9000_0f43), leaf(0x9000_0000, 12));
}

/// Bits 1:0 at every level of every granule: with the 48-bit form, with DS, with 52-bit output.
#[test]
fn types_by_level() {
    // One letter for each of the types 01 and 11: block, table, page, or - reserved.
    let rows: [(Granule, i8, [&str; 3]); 14] = [
        (K4, -1, ["--", "-t", "--"]),
        (K4, 0, ["-t", "bt", "-t"]),
        (K4, 1, ["bt", "bt", "bt"]),
        (K4, 2, ["bt", "bt", "bt"]),
        (K4, 3, ["-p", "-p", "-p"]),
        (K4, 4, ["--", "--", "--"]),
        (K16, 0, ["-t", "-t", "-t"]),
        (K16, 1, ["-t", "bt", "-t"]),
        (K16, 2, ["bt", "bt", "bt"]),
        (K16, 3, ["-p", "-p", "-p"]),
        (K64, 0, ["--", "--", "--"]),
        (K64, 1, ["-t", "-t", "bt"]),
        (K64, 2, ["bt", "bt", "bt"]),
        (K64, 3, ["-p", "-p", "-p"]),
    ];
    for (granule, level, expected) in rows {
        let plain = form(granule, level);
        let forms = [plain, Form { ds: true, ..plain }, Form { output_bits: 52, ..plain }];
        for (form, expected) in forms.iter().zip(expected) {
            let letter = |kind: u64| match (form.read(kind), form.structure(kind)) {
                (Meaning::Reserved, None) => '-',
                (Meaning::Table { .. }, Some(s)) if s.name.contains(" table ") => 't',
                (Meaning::Leaf { .. }, Some(s)) if s.name.contains(" block ") => 'b',
                (Meaning::Leaf { .. }, Some(s)) if s.name.contains(" page ") => 'p',
                other => panic!("{other:?}"),
            };
            let found: String = [0b01, 0b11].map(letter).iter().collect();
            assert_eq!(found, expected, "{granule} level {level} {form:?}");
            for invalid in [0, 0b10, 0x9000_0f42] {
                assert_eq!(form.read(invalid), Meaning::Invalid);
                assert_eq!(form.structure(invalid).map(|s| s.name), None);
            }
        }
    }
}

#[test]
fn addresses_of_48_bits_begin_at_the_granule_or_block() {
    let ones = !0b10u64 & !(1 << 52);
    for (granule, level, address, bytes_log2) in [
        (K4, 1, 0x0000_ffff_c000_0000, 30),
        (K4, 2, 0x0000_ffff_ffe0_0000, 21),
        (K16, 2, 0x0000_ffff_fe00_0000, 25),
        (K64, 2, 0x0000_ffff_e000_0000, 29),
    ] {
        assert_eq!(form(granule, level).read(ones), leaf(address, bytes_log2));
    }
    let ones = ones | 0b10;
    for (granule, address, bytes_log2) in [
        (K4, 0x0000_ffff_ffff_f000, 12),
        (K16, 0x0000_ffff_ffff_c000, 14),
        (K64, 0x0000_ffff_ffff_0000, 16),
    ] {
        assert_eq!(form(granule, 3).read(ones), leaf(address, bytes_log2));
        let Meaning::Table { next, .. } = form(granule, 2).read(ones) else { panic!() };
        assert_eq!(next, address, "a table is as large as a page");
    }
}

/// §15.2, §15.3: with DS bits 49:48 are in place and 51:50 in bits 9:8, without SH.
#[test]
fn addresses_of_lpa2() {
    let form = |granule, level| Form { ds: true, output_bits: 52, ..form(granule, level) };
    let descriptor = 0x0002_1234_5678_4203 | 1 << 10;
    assert_eq!(form(K4, 3).read(descriptor), leaf(0x000a_1234_5678_4000, 12));
    assert_eq!(form(K16, 3).read(descriptor), leaf(0x000a_1234_5678_4000, 14));
    assert_eq!(form(K4, 2).read(descriptor), table(0x000a_1234_5678_4000));
    // 512 GiB at level 0; 64 GiB at level 1 of 16 KiB.
    let block = 0x0003_ff80_0000_0301 | 1 << 10;
    assert_eq!(form(K4, 0).read(block), leaf(0x000f_ff80_0000_0000, 39));
    assert_eq!(form(K16, 1).read(block), leaf(0x000f_ff80_0000_0000, 36));
    let names = |form: Form, d| form.structure(d).unwrap().name;
    assert_eq!(names(form(K4, 0), block), "S1 block descriptor (LPA2)");
    assert!(form(K4, 3).fields(descriptor).iter().all(|field| field.name != "SH"));
    // 64 KiB does not know DS.
    let with_64k = Form { output_bits: 48, ..form(K64, 3) };
    assert_eq!(with_64k.read(0x0003_0000_1234_0303), leaf(0x1234_0000, 16));
    assert_eq!(names(with_64k, 3), "S1 page descriptor");
}

/// §15.2, §15.3: with 64 KiB and 52 bits, bits 15:12 are address bits 51:48.
#[test]
fn addresses_of_64_kib_with_52_bits() {
    let form = |level| Form { output_bits: 52, ..form(K64, level) };
    assert_eq!(form(3).read(0x1234_5678_a703), leaf(0x000a_1234_5678_0000, 16));
    assert_eq!(form(2).read(0x1234_5678_a003), table(0x000a_1234_5678_0000));
    // 4 TiB at level 1.
    assert_eq!(form(1).read(0xfc00_0000_f701), leaf(0x000f_fc00_0000_0000, 42));
    assert_eq!(form(1).structure(1).unwrap().name, "S1 block descriptor (64K, 52-bit)");
    // Other granules keep 48 bits.
    let other = Form { output_bits: 52, ..self::form(K4, 3) };
    assert_eq!(other.read(0x1234_5678_a703), leaf(0x1234_5678_a000, 12));
}

#[test]
fn contiguous_groups() {
    // §15.1; reserved (ignored here) at 4K level 0, 16K and 64K level 1.
    let group = |form: Form, kind| match form.read(1 << 52 | 1 << 10 | kind) {
        Meaning::Leaf { group_log2, .. } => group_log2,
        other => panic!("{other:?}"),
    };
    let wide = |granule, level| Form { ds: true, output_bits: 52, ..form(granule, level) };
    for (granule, level, kind, bytes_log2) in [
        (K4, 3, 3, Some(16)),
        (K4, 2, 1, Some(25)),
        (K4, 1, 1, Some(34)),
        (K4, 0, 1, None),
        (K16, 3, 3, Some(21)),
        (K16, 2, 1, Some(30)),
        (K16, 1, 1, None),
        (K64, 3, 3, Some(21)),
        (K64, 2, 1, Some(34)),
        (K64, 1, 1, None),
    ] {
        assert_eq!(group(wide(granule, level), kind), bytes_log2, "{granule} level {level}");
        let hint = wide(granule, level).reserved(1 << 52 | 1 << 10 | kind);
        assert_eq!(hint == 1 << 52, bytes_log2.is_none(), "{granule} level {level}");
    }
}

#[test]
fn tables_of_stage_1_take_rights_and_those_of_stage_2_none() {
    // APTable = 01, UXNTable | APTable = 10, PXNTable.
    let none = Limits::NONE;
    let rows = [
        (1 << 61, Limits { no_unprivileged: true, ..none }),
        (1 << 62 | 1 << 60, Limits { no_write: true, uxn: true, ..none }),
        (1 << 59, Limits { pxn: true, ..none }),
    ];
    for (bits, limits) in rows {
        let descriptor = 0x8001_1003 | bits;
        let stage_1 = Form::new(Stage::One, 1);
        let stage_2 = Form::new(Stage::Two, 1);
        assert_eq!(stage_1.read(descriptor), Meaning::Table { next: 0x8001_1000, limits });
        assert_eq!(stage_2.read(descriptor), table(0x8001_1000));
        // §15.2: bits 62:59 are reserved at stage 2.
        assert_eq!((stage_1.reserved(descriptor), stage_2.reserved(descriptor)), (0, bits));
    }
}

/// Bits that §15.3 lists for nothing at that place.
#[test]
fn reserved_bits_of_leaves() {
    let one = form(K4, 3);
    let two = Form::new(Stage::Two, 3);
    let wide = |form: Form| Form { ds: true, output_bits: 52, ..form };
    let ones = u64::MAX;
    let block = !0b10u64;
    for (form, descriptor, reserved) in [
        // 49:48.
        (one, ones, 0x0003_0000_0000_0000),
        (wide(one), ones, 0),
        // 63, 50:48, 11.
        (two, ones, 0x8007_0000_0000_0800),
        (wide(two), ones, 0x8004_0000_0000_0800),
        (Form { fwb: true, ..two }, ones, 0x8007_0000_0000_0820),
        // A page of 64 KiB leaves 15:12 zero, unless they are address bits.
        (form(K64, 3), ones, 0x0003_0000_0000_f000),
        (wide(form(K64, 3)), ones, 0x0003_0000_0000_0000),
        // Blocks leave everything below their size zero, but for nT (16).
        (form(K4, 2), block, 0x0003_0000_001e_f000),
        (form(K4, 1), block, 0x0003_0000_3ffe_f000),
        (form(K64, 2), block, 0x0003_0000_1ffe_f000),
        (wide(form(K64, 2)), block, 0x0003_0000_1ffe_0000),
        (wide(form(K4, 0)), block & !(1 << 52), 0x0000_007f_fffe_f000),
        // Tables are aligned to their size.
        (form(K16, 2), 0x8000_3003, 0x3000),
        (form(K64, 2), 0x8000_1003, 0x1000),
        (wide(form(K64, 2)), 0x8000_1003, 0),
        // Nothing counts in what is invalid or reserved as a whole.
        (one, ones & !1, 0),
        (one, block, 0),
    ] {
        let found = form.reserved(descriptor);
        assert_eq!(found, reserved, "{found:#018x} of {form:?}");
    }
}

/// §15.3: PIIndex is bits 54, 53, 51, 6; bit 7 is nDirty at stage 1 and Dirty at stage 2.
#[test]
fn indirect_permissions_have_their_own_fields() {
    for (stage, dirty) in [(Stage::One, "nDirty"), (Stage::Two, "Dirty")] {
        for ds in [false, true] {
            for level in [2, 3] {
                let kind = if level == 3 { 3 } else { 1 };
                let form = Form { pie: true, ds, ..Form::new(stage, level) };
                let place = |name: &str| {
                    let field = form.fields(kind).iter().find(|field| field.name == name);
                    field.map(|field| (field.hi, field.lo))
                };
                let index = ["PIIndex_0", "PIIndex_1", "PIIndex_2", "PIIndex_3"].map(place);
                assert_eq!(index, [Some((6, 6)), Some((51, 51)), Some((53, 53)), Some((54, 54))]);
                assert_eq!(place(dirty), Some((7, 7)));
                for gone in ["AP", "S2AP", "DBM", "PXN", "UXN", "XN"] {
                    assert_eq!(place(gone), None);
                }
            }
        }
    }
}

/// Every combination has the layout that its name says.
#[test]
fn structures_are_named_after_the_form() {
    for (stage, short) in [(Stage::One, "S1"), (Stage::Two, "S2")] {
        for (granule, ds, output_bits, width) in [
            (K4, false, 48, ""),
            (K4, true, 52, "LPA2"),
            (K16, true, 52, "LPA2"),
            (K64, true, 48, ""),
            (K64, false, 52, "64K, 52-bit"),
        ] {
            for (level, descriptor, kind) in [(2, 3, "table"), (2, 1, "block"), (3, 3, "page")] {
                for pie in [false, true] {
                    let form = Form { stage, granule, level, ds, output_bits, pie, fwb: false };
                    let indirect = if pie && kind != "table" { "indirect" } else { "" };
                    let more = match (width, indirect) {
                        ("", "") => String::new(),
                        ("", one) | (one, "") => format!(" ({one})"),
                        (one, two) => format!(" ({one}, {two})"),
                    };
                    let name = format!("{short} {kind} descriptor{more}");
                    assert_eq!(form.structure(descriptor).unwrap().name, name);
                }
            }
        }
    }
}

/// Over all forms and many descriptors: a layout exists for what has a meaning, and its address fields put
/// together are the address, but for the bits below it that are reserved.
#[test]
fn layouts_and_meanings_agree() {
    // xorshift64, from a fixed seed.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut leaves = 0;
    for stage in [Stage::One, Stage::Two] {
        for granule in Granule::ALL {
            for level in -1..=3 {
                for bits in 0..16u32 {
                    let [ds, wide, pie, fwb] = [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1);
                    let output_bits = if wide { 52 } else { 48 };
                    let form = Form { stage, granule, level, ds, output_bits, pie, fwb };
                    for _ in 0..64 {
                        let descriptor = random();
                        let structure = form.structure(descriptor);
                        let high = |name: &str, shift: u32| {
                            let field = structure.and_then(|s| s.field(name));
                            field.map_or(0, |field| field.extract(descriptor) << shift)
                        };
                        let expected = match form.read(descriptor) {
                            Meaning::Invalid | Meaning::Reserved => {
                                assert_eq!(structure, None);
                                assert_eq!(form.reserved(descriptor), 0);
                                continue;
                            }
                            Meaning::Table { next, .. } => {
                                let low = (1 << granule.shift()) - 1;
                                let address = high("NextTable", 0) & !low
                                    | high("NextTable_51_50", 50)
                                    | high("NextTable_51_48", 48);
                                (next, address)
                            }
                            Meaning::Leaf { address, bytes_log2, .. } => {
                                leaves += 1;
                                let low = (1u64 << bytes_log2) - 1;
                                let oa = high("OA", 0) & !low
                                    | high("OA_51_50", 50)
                                    | high("OA_51_48", 48);
                                (address, oa)
                            }
                        };
                        assert_eq!(expected.0, expected.1, "{descriptor:#x} {form:?}");
                        // What is reserved changes nothing.
                        let clean = descriptor & !form.reserved(descriptor);
                        assert_eq!(form.reserved(clean), 0, "{descriptor:#x} {form:?}");
                        if descriptor >> 52 & 1 == 0 {
                            assert_eq!(form.read(clean), form.read(descriptor));
                        }
                    }
                }
            }
        }
    }
    assert!(leaves > 2000, "{leaves}");
}
