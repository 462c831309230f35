// SPDX-License-Identifier: MIT OR Apache-2.0
//! §15.4 and the size rules of §7.1(7g, 7h) and §7.2(9): every TxSZ with every start level.

use super::bench::{CONTEXT, NESTED, STAGE_1, STAGE_2, cd, expect_none, hardware, ste};
use smmuv3_formats::legality;

/// A row of §15.4's stage-2 table: granule code of S2TG, SL0 with bit 2 from S2SL0_2, T0SZ for a single
/// first table, T0SZ with concatenated ones (a range that ends below the first), and what it needs.
struct StartLevel {
    tg: u64,
    sl0: u64,
    single: (u64, u64),
    concatenated: (u64, u64),
    needs_ds: bool,
    needs_stt: bool,
}

const fn row(
    tg: u64,
    sl0: u64,
    single: (u64, u64),
    concatenated: (u64, u64),
    needs_ds: bool,
    needs_stt: bool,
) -> StartLevel {
    StartLevel { tg, sl0, single, concatenated, needs_ds, needs_stt }
}

const NO: (u64, u64) = (1, 0);

/// §15.4, row by row. T0SZ below 16 needs DS with 4 and 16 KiB: that is the range rule, not this table.
const START_LEVELS: [StartLevel; 11] = [
    row(0, 0b100, (12, 15), NO, true, false),
    row(0, 2, (16, 24), (12, 15), false, false),
    row(0, 1, (25, 33), (21, 24), false, false),
    row(0, 0, (34, 42), (30, 33), false, false),
    row(0, 3, (43, 48), (39, 42), false, true),
    row(2, 3, (12, 16), NO, true, false),
    row(2, 2, (17, 27), (13, 16), false, false),
    row(2, 1, (28, 38), (24, 27), false, false),
    row(2, 0, (39, 48), (35, 38), false, false),
    row(1, 2, (12, 21), NO, false, false),
    row(1, 1, (22, 34), (18, 21), false, false),
];

/// 64 KiB, level 3: the twelfth row.
const LAST: StartLevel = row(1, 0, (35, 47), (31, 34), false, false);

fn largest_t0sz(tg: u64, stt: bool) -> u64 {
    match (stt, tg) {
        (false, _) => 39,
        (true, 1) => 47,
        (true, _) => 48,
    }
}

/// Whether §15.4 lists the combination.
fn listed(tg: u64, sl0: u64, t0sz: u64, ds: bool, stt: bool) -> bool {
    START_LEVELS.iter().chain([&LAST]).any(|r| {
        let inside = |(low, high)| (low..=high).contains(&t0sz);
        r.tg == tg
            && r.sl0 == sl0
            && (!r.needs_ds || ds)
            && (!r.needs_stt || stt)
            && (inside(r.single) || inside(r.concatenated))
    })
}

/// Tries every T0SZ with every SL0 at an intermediate size of `ias` bits.
fn try_every_start_level(oas: u64, ias: u64, ttf: u64) {
    let mut found = Vec::new();
    let mut accepted = 0;
    for (tg, granule) in [(0, "4K"), (1, "64K"), (2, "16K")] {
        for (ds, stt) in [(false, false), (false, true), (true, false), (true, true)] {
            // S2SL0_2 means something only for 4 KiB with DS.
            let levels = if tg == 0 && ds { 8 } else { 4 };
            for (sl0, t0sz) in (0..levels).flat_map(|sl0| (0..64).map(move |t0sz| (sl0, t0sz))) {
                let least = if tg == 1 || ds { 12 } else { 16 }.max(64 - ias);
                let in_range = (least..=largest_t0sz(tg, stt)).contains(&t0sz);
                let expected = match (in_range, listed(tg, sl0, t0sz, ds, stt)) {
                    (false, _) => Some(("7.1(7g)", "S2T0SZ")),
                    (true, false) => Some(("7.1(7h)", "S2SL0")),
                    (true, true) => None,
                };
                let here =
                    hardware(&[("IDR3.STT", stt.into()), ("IDR5.OAS", oas), ("IDR0.TTF", ttf)]);
                for base in [STAGE_2, NESTED] {
                    let entry = ste(
                        base,
                        &[
                            ("S2TG", tg),
                            ("S2DS", ds.into()),
                            ("S2SL0", sl0 & 3),
                            ("S2SL0_2", sl0 >> 2),
                            ("S2T0SZ", t0sz),
                        ],
                    );
                    let answer = legality::ste(&entry, &here).err().map(|r| (r.section, r.field));
                    accepted += usize::from(answer.is_none());
                    if answer != expected {
                        found.push(format!(
                            "{granule} SL0={sl0} T0SZ={t0sz} DS={ds} STT={stt} OAS={oas} TTF={ttf}: \
                             {answer:?}, expected {expected:?}"
                        ));
                    }
                }
            }
        }
    }
    assert!(accepted > 100, "{accepted} accepted");
    expect_none(found);
}

#[test]
fn stage_2_start_levels_with_52_bit_addresses() {
    try_every_start_level(6, 52, 2);
}

/// Up to 48 bits the least T0SZ follows the intermediate size; LPAE makes that 40 bits at least.
#[test]
fn stage_2_start_levels_with_48_bit_addresses() {
    try_every_start_level(5, 48, 2);
}

#[test]
fn stage_2_start_levels_with_40_bit_intermediate_addresses() {
    try_every_start_level(0, 40, 3);
}

/// Appendix A2: a 40-bit IPA can start at level 0 too; a 44-bit one cannot start at level 1.
#[test]
fn the_examples_of_start_levels() {
    let here = hardware(&[("IDR5.OAS", 4), ("IDR0.TTF", 2)]);
    let verdict = |t0sz, sl0| {
        legality::ste(&ste(STAGE_2, &[("S2T0SZ", t0sz), ("S2SL0", sl0)]), &here)
            .map_err(|r| r.field)
    };
    assert_eq!(verdict(24, 1), Ok(()));
    assert_eq!(verdict(24, 2), Ok(()));
    assert_eq!(verdict(20, 2), Ok(()));
    assert_eq!(verdict(20, 1), Err("S2SL0"));
    assert_eq!(verdict(19, 2), Err("S2T0SZ"));
    assert_eq!(verdict(16, 2), Err("S2T0SZ"));
}

/// §7.2(9): TxSZ, with each granule, DS, STT and VA size, for both halves.
#[test]
fn stage_1_input_sizes() {
    let mut found = Vec::new();
    // Codes of TG0 and TG1: they differ.
    for (tg0, tg1, granule) in [(0, 2, "4K"), (1, 3, "64K"), (2, 1, "16K")] {
        for bits in 0..16_u64 {
            let [ds, has_ds, stt, vax] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let large = vax && (granule == "64K" || ds && has_ds);
            let least = if large { 12 } else { 16 };
            let most = largest_t0sz(u64::from(granule == "64K"), stt);
            let here = hardware(&[
                ("IDR3.STT", stt.into()),
                ("IDR5.VAX", vax.into()),
                ("IDR5.DS", has_ds.into()),
            ]);
            for txsz in 0..64 {
                let legal = (least..=most).contains(&txsz);
                let low = cd(CONTEXT, &[("TG0", tg0), ("T0SZ", txsz), ("DS", ds.into())]);
                let high = cd(
                    CONTEXT,
                    &[
                        ("EPD0", 1),
                        ("EPD1", 0),
                        ("TG1", tg1),
                        ("T1SZ", txsz),
                        ("TTB1", 0x8001_0000),
                        ("DS", ds.into()),
                    ],
                );
                for (entry, field) in [(low, "T0SZ"), (high, "T1SZ")] {
                    let answer = legality::cd(&entry, &STAGE_1, &here).err();
                    let answer = answer.map(|r| (r.section, r.field));
                    let expected = (!legal).then_some(("7.2(9)", field));
                    if answer != expected {
                        found.push(format!(
                            "{granule} {field}={txsz} DS={ds} IDR5.DS={has_ds} STT={stt} VAX={vax}: \
                             {answer:?}, expected {expected:?}"
                        ));
                    }
                }
            }
        }
    }
    expect_none(found);
}
