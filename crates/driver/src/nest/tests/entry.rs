// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's STE, field by field.

use super::*;
use smmuv3_formats::PhysAddr;
use std::format;

/// Config = stage 1, a table of 2^5 contexts in leaves of 4 KiB at 0x8002_0000; without a substream the first; WB, ISH.
const BASE: Ste = Ste([5 << 59 | 0x8002_0000 | 1 << 4 | 0b1011, 0xd6, 0, 0, 0, 0, 0, 0]);

/// What the host makes of it: Config = nested, S1STALLD since stalls are not shown, MEV, SHCFG = incoming.
const NESTED: Ste = Ste([
    5 << 59 | 0x8002_0000 | 1 << 4 | 0b1111,
    0xd6 | 1 << 19 | 1 << 27 | 1 << 44,
    0x040c_3558_0000_0007,
    0x8004_0000,
    0,
    0,
    0,
    0,
]);

fn made(ste: Ste) -> Result<Ste, (&'static str, u64)> {
    made_for(&guest(), ste)
}

fn made_for(guest: &Guest, ste: Ste) -> Result<Ste, (&'static str, u64)> {
    match Request::decode(&ste, guest) {
        Ok(request) => Ok(request.encode(guest, BOTH)),
        Err(illegal) => Err((illegal.rule.field, illegal.value)),
    }
}

#[test]
fn the_entry_of_appendix_a3() {
    let guest = guest_of(&qemu(), |_| {});
    let ste = made_for(&guest, Ste([0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0])).unwrap();
    // MEV besides.
    let words = [0x8002_000f, 0xd4 | 1 << 19 | 1 << 44, STAGE_2.0[2], STAGE_2.0[3], 0, 0, 0, 0];
    assert_eq!(ste.0, words);
}

#[test]
fn what_bypasses_is_stage_2_alone_and_what_aborts_aborts() {
    let merged = STAGE_2.with_mev(true);
    assert_eq!(made(Ste::default().with_v(true).with_config(0b100)), Ok(merged));
    assert_eq!(made(Ste::default()), Ok(Ste([1, 0, 0, 0, 0, 0, 0, 0])));
    assert_eq!(Request::decode(&Ste::default(), &guest()), Ok(Request::Invalid));
    // Nothing is looked at but V, and nothing but Config of what aborts (§7.1(1), (2)).
    let all = Ste([u64::MAX; 8]);
    assert_eq!(Request::decode(&all.with_v(false), &guest()), Ok(Request::Invalid));
    for config in 0b000..0b100 {
        assert_eq!(Request::decode(&all.with_config(config), &guest()), Ok(Request::Abort));
    }
    for config in [0b110, 0b111] {
        assert_eq!(made(BASE.with_config(config)), Err(("Config", config)));
    }
}

enum Bit {
    /// The host's entry has it, too.
    Follows,
    /// The host's is the same whatever it is.
    Ignored,
    Refused(&'static str),
    /// The host's entry is this.
    Makes(Ste),
}

/// Every bit of the entry, by word: (highest, lowest, what becomes of another value there).
fn table() -> [&'static [(u32, u32, Bit)]; 8] {
    use Bit::*;
    const ABORT: Ste = Ste([1, 0, 0, 0, 0, 0, 0, 0]);
    const {
        [
            &[
                (0, 0, Makes(ABORT)),
                // 101 -> 100, 111, 001.
                (1, 1, Makes(STAGE_2.with_mev(true))),
                (2, 2, Refused("Config")),
                (3, 3, Makes(ABORT)),
                // S1Fmt 01 -> 00, and 11, which acts as 00.
                (4, 4, Follows),
                (5, 5, Makes(NESTED.with_s1_fmt(0))),
                (39, 6, Follows),
                // The guest's memory has 40 bits.
                (55, 40, Refused("S1ContextPtr")),
                (58, 56, Refused("word 0")),
                // S1CDMax 5 -> 4, 7, 1, then 13 and 21: it has 8 bits of substreams.
                (61, 59, Follows),
                (63, 62, Refused("S1CDMax")),
            ],
            &[
                // S1DSS 10 -> 11, which acts as 00, and 00.
                (0, 0, Makes(NESTED.with_s1_dss(0))),
                (1, 1, Follows),
                (5, 2, Follows),
                // S1CSH 11 -> 10, and 01, which acts as 00.
                (6, 6, Follows),
                (7, 7, Makes(NESTED.with_s1_csh(0))),
                // S2HWU, DRE, CONT, DCP, PPAR, MEV, SW_RESERVED.
                (23, 8, Ignored),
                // S1PIE.
                (24, 24, Follows),
                // S2FWB.
                (25, 25, Ignored),
                (26, 26, Refused("S1MPAM")),
                (27, 27, Refused("S1STALLD")),
                // EATS 00 -> 01, 10.
                (28, 28, Follows),
                (29, 29, Refused("EATS")),
                // STRW, MemAttr, MTCFG, ALLOCCFG.
                (40, 30, Ignored),
                (43, 41, Refused("word 1")),
                // SHCFG, NSCFG, PRIVCFG, INSTCFG.
                (51, 44, Ignored),
                (63, 52, Refused("IMPDEF1")),
            ],
            &[
                (15, 0, Ignored),
                (31, 16, Refused("IMPDEF2")),
                (61, 32, Ignored),
                (63, 62, Refused("DPT_VMATCH")),
            ],
            &[
                (51, 0, Ignored),
                (60, 52, Refused("word 3")),
                (62, 61, Ignored),
                (63, 63, Refused("word 3")),
            ],
            &[
                (15, 0, Refused("IMPDEF4")),
                (31, 16, Refused("PARTID")),
                (39, 32, Ignored),
                (45, 40, Refused("word 4")),
                (47, 46, Ignored),
                (63, 48, Refused("MECID")),
            ],
            &[
                (7, 0, Refused("PMG")),
                (8, 8, Refused("MPAM_NS")),
                (11, 9, Ignored),
                (55, 12, Refused("VMSPtr")),
                (63, 56, Refused("word 5")),
            ],
            &[
                (2, 0, Ignored),
                (3, 3, Refused("word 6")),
                (55, 4, Ignored),
                (60, 56, Refused("word 6")),
                (62, 61, Ignored),
                (63, 63, Refused("word 6")),
            ],
            &[(63, 0, Ignored)],
        ]
    }
}

#[test]
fn every_bit_is_taken_over_masked_or_refused_by_name() {
    assert_eq!(made(BASE), Ok(NESTED));
    let mut seen = 0;
    for (word, rows) in table().into_iter().enumerate() {
        for (hi, lo, expected) in rows {
            for bit in *lo..=*hi {
                seen += 1;
                let flipped = |ste: Ste| {
                    let mut words = ste.0;
                    words[word] ^= 1 << bit;
                    Ste(words)
                };
                let result = made(flipped(BASE));
                let place = format!("bit {bit} of word {word}");
                match expected {
                    Bit::Follows => assert_eq!(result, Ok(flipped(NESTED)), "{place}"),
                    Bit::Ignored => assert_eq!(result, Ok(NESTED), "{place}"),
                    Bit::Makes(ste) => assert_eq!(result, Ok(*ste), "{place}"),
                    Bit::Refused(field) => {
                        let (name, value) = result.expect_err(&place);
                        assert_eq!(name, *field, "{place}");
                        // The field's value, with that bit in it.
                        assert_ne!(value, 0, "{place}");
                    }
                }
            }
        }
    }
    assert_eq!(seen, 512);
}

#[test]
fn values_are_told_with_their_field() {
    assert_eq!(made(BASE.with_s1_cd_max(9)), Err(("S1CDMax", 9)));
    assert_eq!(made(BASE.with_eats(2)), Err(("EATS", 2)));
    assert_eq!(made(BASE.with_eats(3)), Err(("EATS", 3)));
    let far = BASE.with_s1_context_ptr(1 << 40 | 0x40);
    assert_eq!(made(far), Err(("S1ContextPtr", 1 << 40 | 0x40)));
    assert_eq!(made(Ste([BASE.0[0], BASE.0[1] | 0b101 << 41, 0, 0, 0, 0, 0, 0])), {
        Err(("word 1", 0b101 << 41))
    });
    let illegal = Request::decode(&BASE.with_s1_cd_max(9), &guest()).unwrap_err();
    let text = format!("{illegal}");
    assert_eq!(text, "S1CDMax = 0x9: must not exceed SSIDSIZE (§7.1(6b))");
}

#[test]
fn what_the_guest_is_not_shown_counts_as_missing_though_the_host_has_it() {
    let features = rich();
    let without = |change: fn(&mut IdRegisters)| guest_of(&features, change);
    // Without substreams S1CDMax, S1Fmt and S1DSS mean nothing: one context.
    let one = without(|shown| shown.idr1 = shown.idr1.with_ssidsize(0));
    let single = NESTED.with_s1_cd_max(0).with_s1_fmt(0).with_s1_dss(0);
    assert_eq!(made_for(&one, BASE.with_s1_cd_max(31)), Ok(single));
    // Without ATS EATS means nothing.
    let no_ats = without(|shown| shown.idr0 = shown.idr0.with_ats(false));
    for eats in 0..4 {
        assert_eq!(made_for(&no_ats, BASE.with_eats(eats)), Ok(NESTED));
    }
    let linear = without(|shown| shown.idr0 = shown.idr0.with_cd2l(false));
    assert_eq!(made_for(&linear, BASE), Err(("S1Fmt", 1)));
    assert_eq!(made_for(&linear, BASE.with_s1_fmt(0)), Ok(NESTED.with_s1_fmt(0)));
    let direct = without(|shown| shown.idr3 = shown.idr3.with_s1pi(false));
    assert_eq!(made_for(&direct, BASE.with_s1_pie(true)), Err(("S1PIE", 1)));
}

#[test]
fn the_host_limits_ats_and_stalls() {
    let guest = guest_of(&rich(), |shown| {
        shown.idr0 = shown.idr0.with_stall_model(0);
    });
    let made = |ste: Ste, limits| Request::decode(&ste, &guest).unwrap().encode(&guest, limits);
    let none = Limits::default();
    let ats = BASE.with_eats(1);
    assert_eq!(made(ats, BOTH).eats(), 1);
    assert_eq!(made(ats, Limits { ats: AtsMode::Off, ..BOTH }).eats(), 0);
    assert_eq!(made(BASE, BOTH).eats(), 0);
    // No bypass has ATS: the guest's SMMU answers requests by UR (§12.1).
    assert_eq!(made(ats.with_config(0b100), BOTH), STAGE_2.with_mev(true));
    // The guest is shown stalls, and allows them; or does not; or the host does not.
    assert!(!made(BASE, BOTH).s1_stalld());
    assert!(made(BASE.with_s1_stalld(true), BOTH).s1_stalld());
    assert!(made(BASE, none).s1_stalld());
}

/// The guest asks for full ATS and knows of no other; what it takes for physical addresses are intermediate ones.
#[test]
fn a_guests_full_ats_is_the_hosts_split_stage_ats_where_the_host_says_so() {
    let split = Limits { ats: AtsMode::Split, ..BOTH };
    for (ns1ats, eats) in [(false, 2), (true, 0)] {
        let features = rich_but(|r| r.idr0 = r.idr0.with_ns1ats(ns1ats));
        let guest = guest_of(&features, |_| {});
        let request = Request::decode(&BASE.with_eats(1), &guest).unwrap();
        assert_eq!(request.has_ats(&guest, split), eats != 0);
        let ste = request.encode(&guest, split);
        assert_eq!((ste.config(), ste.eats()), (0b111, eats));
        assert_eq!(smmuv3_formats::legality::ste(&ste, &features.implementation()), Ok(()));
        assert_eq!(request.encode(&guest, BOTH).eats(), 1);
        let none = Request::decode(&BASE, &guest).unwrap();
        assert_eq!(none.encode(&guest, split).eats(), 0);
        // By stage 2 alone there is none: EATS = 2 needs both stages (§7.1(4)).
        let bypass = Request::decode(&BASE.with_eats(1).with_config(0b100), &guest).unwrap();
        assert_eq!(bypass.encode(&guest, split).eats(), 0);
    }
}

#[test]
fn stalls_of_stage_2_exclude_ats() {
    let features = rich_but(|r| r.idr0 = r.idr0.with_ns1ats(false));
    let parent = Parent::new(STAGE_2.with_s2_s(true), &features).unwrap();
    let guest = Guest::new(&features, parent, Guest::offer(&features, &parent)).unwrap();
    let request = Request::decode(&BASE.with_eats(1), &guest).unwrap();
    for ats in [AtsMode::Full, AtsMode::Split] {
        let limits = Limits { ats, ..BOTH };
        assert!(!request.has_ats(&guest, limits));
        let ste = request.encode(&guest, limits);
        assert_eq!(ste.eats(), 0);
        assert_eq!(smmuv3_formats::legality::ste(&ste, &features.implementation()), Ok(()));
    }
}

#[test]
fn a_request_is_what_the_entry_says() {
    use crate::context_table::ContextFormat;
    use crate::entry::WithoutSubstream;
    let Ok(Request::Stage1(contexts)) = Request::decode(&BASE.with_eats(1), &guest()) else {
        panic!("refused")
    };
    let expected = Contexts {
        table: PhysAddr(0x8002_0000),
        format: ContextFormat::Leaves4K,
        bits: 5,
        without: WithoutSubstream::First,
        fetch: [1, 1, 3],
        no_stalls: true,
        indirect: false,
        ats: true,
    };
    assert_eq!(contexts, expected);
}
