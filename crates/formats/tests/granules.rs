// SPDX-License-Identifier: MIT OR Apache-2.0
//! Granules and the shape of tables, held to §15.1, §15.4, §15.5 and the worked vectors.

use smmuv3_formats::granule::{Granule, Tables, output_bits};

use Granule::{K4, K16, K64};

#[test]
fn the_three_encodings_differ() {
    // §6: TG0 is 0 4K, 1 64K, 2 16K; TG1 is 1 16K, 2 4K, 3 64K. §4.2: TG is 1 4K, 2 16K, 3 64K.
    let all = |from: fn(u64) -> Option<Granule>| [0, 1, 2, 3, 4].map(from);
    assert_eq!(all(Granule::from_tg0), [Some(K4), Some(K64), Some(K16), None, None]);
    assert_eq!(all(Granule::from_tg1), [None, Some(K16), Some(K4), Some(K64), None]);
    assert_eq!(all(Granule::from_tlbi), [None, Some(K4), Some(K16), Some(K64), None]);
}

#[test]
fn spans_blocks_and_groups_are_those_listed() {
    const KI: u64 = 1 << 10;
    const MI: u64 = 1 << 20;
    const GI: u64 = 1 << 30;
    const TI: u64 = 1 << 40;
    // Level, bytes, block without and with DS, with 52-bit output, bytes of a contiguous group.
    type Row = (Granule, i8, u64, [bool; 3], Option<u64>);
    let rows: &[Row] = &[
        (K4, 0, 512 * GI, [false, true, false], None),
        (K4, 1, GI, [true; 3], Some(16 * GI)),
        (K4, 2, 2 * MI, [true; 3], Some(32 * MI)),
        (K4, 3, 4 * KI, [false; 3], Some(64 * KI)),
        (K16, 1, 64 * GI, [false, true, false], None),
        (K16, 2, 32 * MI, [true; 3], Some(GI)),
        (K16, 3, 16 * KI, [false; 3], Some(2 * MI)),
        (K64, 1, 4 * TI, [false, false, true], None),
        (K64, 2, 512 * MI, [true; 3], Some(16 * GI)),
        (K64, 3, 64 * KI, [false; 3], Some(2 * MI)),
    ];
    for (granule, level, bytes, blocks, group) in rows {
        let what = format!("{granule} level {level}");
        assert_eq!(1 << granule.span(*level), *bytes, "{what}");
        let block = |ds, output| granule.has_block(*level, ds, output);
        assert_eq!([block(false, 48), block(true, 48), block(false, 52)], *blocks, "{what}");
        let entries = granule.contiguous(*level);
        assert_eq!(entries.map(|entries| bytes << entries), *group, "{what}");
    }
    assert_eq!(
        [-1, 0, 1, 2, 3].map(|level| K4.has_block(level, true, 52)),
        [false, true, true, true, false]
    );
    assert_eq!(K4.span(-1), 48);
    assert_eq!((K4.first_level(false), K4.first_level(true)), (0, -1));
    assert_eq!((K16.first_level(true), K64.first_level(true)), (0, 1));
}

#[test]
fn stage_1_starts_where_the_table_says() {
    // §15.4: granule, level, least and largest TxSZ.
    let rows = [
        (K4, -1, 12, 15),
        (K4, 0, 16, 24),
        (K4, 1, 25, 33),
        (K4, 2, 34, 42),
        (K4, 3, 43, 48),
        (K16, 0, 12, 16),
        (K16, 1, 17, 27),
        (K16, 2, 28, 38),
        (K16, 3, 39, 48),
        (K64, 1, 12, 21),
        (K64, 2, 22, 34),
        (K64, 3, 35, 47),
    ];
    for (granule, level, least, most) in rows {
        for txsz in least..=most {
            let tables = Tables::stage_1(granule, txsz).unwrap();
            assert_eq!(tables.start_level(), level, "{granule} TxSZ {txsz}");
            assert_eq!(tables.input_bits(), 64 - txsz as u32);
            assert_eq!(tables.concatenated(), 1, "{granule} TxSZ {txsz}");
        }
    }
    for (granule, txsz) in [(K4, 11), (K4, 49), (K16, 49), (K64, 48), (K4, 0), (K4, u64::MAX)] {
        assert_eq!(Tables::stage_1(granule, txsz), None, "{granule} TxSZ {txsz}");
    }
}

/// Every cell of the stage-2 table of §15.4, and nothing else, for all 3 × 8 × 64 × 2 × 2 inputs.
#[test]
fn stage_2_starts_where_the_table_says() {
    // Granule, SL0, level, single T0SZ (none where least > most), the T0SZ with 2, 4, 8, 16 tables.
    type Row = (Granule, u64, i8, (u64, u64), &'static [u64]);
    let rows: &[Row] = &[
        (K4, 4, -1, (12, 15), &[]),
        (K4, 2, 0, (16, 24), &[15, 14, 13, 12]),
        (K4, 1, 1, (25, 33), &[24, 23, 22, 21]),
        (K4, 0, 2, (34, 42), &[33, 32, 31, 30]),
        (K4, 3, 3, (43, 48), &[42, 41, 40, 39]),
        (K16, 3, 0, (12, 16), &[]),
        (K16, 2, 1, (17, 27), &[16, 15, 14, 13]),
        (K16, 1, 2, (28, 38), &[27, 26, 25, 24]),
        (K16, 0, 3, (39, 48), &[38, 37, 36, 35]),
        (K64, 2, 1, (12, 21), &[]),
        (K64, 1, 2, (22, 34), &[21, 20, 19, 18]),
        (K64, 0, 3, (35, 47), &[34, 33, 32, 31]),
    ];
    for granule in Granule::ALL {
        for (sl0, t0sz) in (0..8).flat_map(|sl0| (0..64).map(move |t0sz| (sl0, t0sz))) {
            for (ds, small) in [(false, false), (false, true), (true, false), (true, true)] {
                // S2SL0_2 counts with 4 KiB and DS alone.
                let counted = if granule == K4 && ds { sl0 } else { sl0 & 3 };
                let row = rows.iter().find(|row| (row.0, row.1) == (granule, counted));
                let expected = row.and_then(|(_, _, level, single, several)| {
                    // Marked DS or STT in the table.
                    let ds_only = granule == K16 && counted == 3 || t0sz < 16 && granule != K64;
                    let small_only = granule == K4 && counted == 3 || t0sz > 39;
                    if ds_only && !ds || small_only && !small {
                        return None;
                    }
                    let place = several.iter().position(|several| *several == t0sz);
                    match place {
                        Some(place) => Some((*level, 2 << place)),
                        None => (single.0..=single.1).contains(&t0sz).then_some((*level, 1)),
                    }
                });
                let tables = Tables::stage_2(granule, sl0, t0sz, ds, small);
                let found = tables.map(|tables| (tables.start_level(), tables.concatenated()));
                assert_eq!(found, expected, "{granule} SL0 {sl0} T0SZ {t0sz} {ds} {small}");
            }
        }
    }
}

#[test]
fn indices_of_the_worked_vectors() {
    // A1: 48 bits, 4 KiB.
    let tables = Tables::stage_1(K4, 16).unwrap();
    let indices = [0, 1, 2, 3].map(|level| tables.index(0x12_3456_7000, level));
    assert_eq!(indices, [0x000, 0x048, 0x1a2, 0x167]);
    assert_eq!((tables.first_bytes(), tables.alignment(48)), (4096, 4096));
    // A2: 40 bits, 4 KiB, two level-1 tables of 8 KiB together.
    let tables = Tables::stage_2(K4, 1, 24, false, false).unwrap();
    let indices = [1, 2, 3].map(|level| tables.index(0xff_1234_5000, level));
    assert_eq!(indices, [0x3fc, 0x91, 0x145]);
    assert_eq!((tables.first_bytes(), tables.concatenated()), (0x2000, 2));
    assert_eq!(tables.base(0x8004_1fff, 48), 0x8004_0000);
}

#[test]
fn indices_use_the_input_bits_alone() {
    // TTB1's addresses have ones above.
    let tables = Tables::stage_1(K4, 25).unwrap();
    assert_eq!(tables.index(0xffff_ffff_ffff_f000, 1), 0x1ff);
    let tables = Tables::stage_1(K4, 32).unwrap();
    assert_eq!(tables.start_level(), 1);
    assert_eq!(tables.index(u64::MAX, 1), 3, "32 bits: four descriptors");
    assert_eq!(tables.first_bytes(), 32);
    // 48 bits of 16 KiB: one bit at level 0. 52 bits of 64 KiB: ten at level 1; of 4 KiB: four at level -1.
    assert_eq!(Tables::stage_1(K16, 16).unwrap().index(u64::MAX, 0), 1);
    assert_eq!(Tables::stage_1(K64, 12).unwrap().index(u64::MAX, 1), 0x3ff);
    assert_eq!(Tables::stage_1(K4, 12).unwrap().index(u64::MAX, -1), 0xf);
    assert_eq!(Tables::stage_1(K4, 12).unwrap().index(u64::MAX, 0), 0x1ff);
}

#[test]
fn small_tables_are_aligned_to_64_bytes_with_52_bits() {
    let tables = Tables::stage_1(K4, 32).unwrap();
    assert_eq!((tables.alignment(48), tables.alignment(52)), (32, 64));
    assert_eq!(tables.base(0x8000_0060, 48), 0x8000_0060);
    assert_eq!(tables.base(0x8000_0060, 52), 0x8000_0040);
}

#[test]
fn output_sizes_are_capped() {
    // §15.3: min(IPS, OAS), at most 48 without 64 KiB or DS. Codes of §2.3.
    assert_eq!(output_bits(4, 48, K4, false), 44);
    assert_eq!(output_bits(6, 40, K4, true), 40);
    assert_eq!(output_bits(6, 52, K4, false), 48);
    assert_eq!(output_bits(6, 52, K4, true), 52);
    assert_eq!(output_bits(6, 52, K64, false), 52);
    assert_eq!(output_bits(8, 36, K64, false), 36, "a code that does not exist caps nothing");
}
