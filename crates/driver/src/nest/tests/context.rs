// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's CD, field by field.

use super::*;
use crate::nest::context::check;
use smmuv3_formats::Cd;
use std::format;

/// App. A1, with the tables of A3: at 0x8001_0000 of the guest's memory.
const BASE: Cd = Cd([0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0004_44ff, 0, 0, 0, 0]);

fn contexts(guest: &Guest) -> Contexts {
    let ste = Ste([0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
    match Request::decode(&ste, guest) {
        Ok(Request::Stage1(contexts)) => contexts,
        other => panic!("{other:?}"),
    }
}

fn judged(guest: &Guest, cd: Cd) -> Result<(), (&'static str, u64)> {
    check(&cd, &contexts(guest), guest, BOTH).map_err(|illegal| (illegal.rule.field, illegal.value))
}

/// One that is shown as little as v3.1 can be, on an SMMU that has everything.
fn little() -> Guest {
    guest_of(&rich(), |shown| {
        shown.aidr = Aidr(1);
        shown.idr0 = shown.idr0.with_asid16(false).with_httu(0);
        // Stage 1 has HAD from v3.1 on.
        shown.idr3 = Idr3::default().with_had(true);
        shown.idr5 = shown.idr5.with_gran16k(false).with_gran64k(false).with_ds(false).with_vax(0);
    })
}

#[derive(Clone, Copy)]
enum Bit {
    Fine,
    Refused(&'static str),
}

/// Every bit of the descriptor, for [`little`].
const TABLE: [&[(u32, u32, Bit)]; 8] = {
    use Bit::*;
    [
        &[
            // T0SZ 16 -> 17, 18, 20, 24, 0, 48: 16 to 39.
            (3, 0, Fine),
            (5, 4, Refused("T0SZ")),
            // TG0: 4 KiB alone.
            (7, 6, Refused("TG0")),
            // IR0, OR0, SH0.
            (13, 8, Fine),
            // EPD0: nothing is walked.
            (14, 14, Fine),
            (15, 15, Refused("ENDI")),
            // Of the disabled half.
            (29, 16, Fine),
            // EPD1 off: TG1 0 is reserved.
            (30, 30, Refused("TG1")),
            (31, 31, Refused("V")),
            // IPS: capped.
            (34, 32, Fine),
            // AFFD, WXN, UWXN, TBI0, TBI1, PAN.
            (40, 35, Fine),
            (41, 41, Refused("AA64")),
            (42, 42, Refused("HD")),
            (43, 43, Refused("HA")),
            (44, 44, Refused("S")),
            // R; A, where termination can be chosen; ASET.
            (47, 45, Fine),
            (55, 48, Fine),
            (63, 56, Refused("ASID")),
        ],
        &[
            // NSCFG0, HAD0.
            (1, 0, Fine),
            (2, 2, Refused("E0PD0")),
            (3, 3, Refused("HAFT")),
            (39, 4, Fine),
            (51, 40, Refused("TTB0")),
            (57, 52, Refused("word 1")),
            (58, 58, Refused("PnCH")),
            (59, 59, Refused("EPAN")),
            (60, 60, Refused("HWU059")),
            (61, 61, Refused("HWU060")),
            (62, 62, Refused("HWU061")),
            (63, 63, Refused("HWU062")),
        ],
        &[
            (1, 0, Fine),
            (2, 2, Refused("E0PD1")),
            (3, 3, Refused("AIE")),
            // Of the disabled half.
            (51, 4, Fine),
            (57, 52, Refused("word 2")),
            (58, 58, Refused("DS")),
            (59, 59, Refused("PIE")),
            (60, 60, Refused("HWU159")),
            (61, 61, Refused("HWU160")),
            (62, 62, Refused("HWU161")),
            (63, 63, Refused("HWU162")),
        ],
        &[(63, 0, Fine)],
        &[(63, 0, Refused("AMAIR"))],
        &[
            (31, 0, Refused("IMPDEF5")),
            (47, 32, Refused("PARTID")),
            (55, 48, Refused("PMG")),
            (63, 56, Refused("word 5")),
        ],
        &[(47, 0, Refused("PIIU")), (63, 48, Refused("word 6"))],
        &[(47, 0, Refused("PIIP")), (63, 48, Refused("word 7"))],
    ]
};

#[test]
fn every_bit_is_fine_or_refused_by_name() {
    let guest = little();
    // Its ASID is 5 and fits; little-endian tables are all there is to choose where TTENDIAN says so.
    let guest = Guest::new(guest.host(), *guest.parent(), {
        let mut shown = *guest.shown();
        shown.idr0 = shown.idr0.with_ttendian(2);
        shown
    })
    .unwrap();
    assert_eq!(judged(&guest, BASE), Ok(()));
    let mut seen = 0;
    for (word, rows) in TABLE.into_iter().enumerate() {
        for (hi, lo, expected) in rows {
            for bit in *lo..=*hi {
                seen += 1;
                let mut words = BASE.0;
                words[word] ^= 1 << bit;
                let place = format!("bit {bit} of word {word}");
                match expected {
                    Bit::Fine => assert_eq!(judged(&guest, Cd(words)), Ok(()), "{place}"),
                    Bit::Refused(field) => {
                        assert_eq!(judged(&guest, Cd(words)).unwrap_err().0, *field, "{place}");
                    }
                }
            }
        }
    }
    assert_eq!(seen, 512);
}

#[test]
fn what_is_shown_may_be_used() {
    let guest = guest_of(&rich(), |_| {});
    let more = BASE.with_had0(true).with_hwu059(true).with_e0pd0(true).with_epan(true);
    assert_eq!(judged(&guest, more.with_ha(true).with_hd(true).with_asid(0xffff)), Ok(()));
    // 64 KiB pages, 52-bit input.
    assert_eq!(judged(&guest, BASE.with_tg0(1).with_t0sz(12)), Ok(()));
    assert_eq!(judged(&guest, BASE.with_tg0(3)), Err(("TG0", 3)));
    // Both halves.
    let both = BASE.with_epd1(false).with_tg1(2).with_t1sz(16).with_ttb1(0x8003_0000);
    assert_eq!(judged(&guest, both), Ok(()));
    assert_eq!(judged(&guest, both.with_ttb1(1 << 41)), Err(("TTB1", 1 << 41)));
    assert_eq!(judged(&guest, BASE.with_ttb0(1 << 41)), Err(("TTB0", 1 << 41)));
}

#[test]
fn a_context_stalls_where_guest_and_host_let_it() {
    let guest = guest_of(&rich(), |shown| shown.idr0 = shown.idr0.with_stall_model(0));
    let (mut contexts, stalling) = (contexts(&guest), BASE.with_s(true));
    let field = |contexts: &Contexts, limits| {
        check(&stalling, contexts, &guest, limits).err().map(|illegal| illegal.rule.field)
    };
    assert_eq!(field(&contexts, BOTH), None);
    // The host's S1STALLD.
    assert_eq!(field(&contexts, Limits::default()), Some("S"));
    contexts.no_stalls = true;
    assert_eq!(field(&contexts, BOTH), Some("S"));
}
