// SPDX-License-Identifier: MIT OR Apache-2.0
//! C_BAD_STE: §7.1.

use smmuv3_formats::EventId;
use smmuv3_model::{Access, Reason};

use super::*;
use crate::nested::a3_ste;
use crate::stage_2::a2_ste;

#[derive(Clone, Copy)]
enum Base {
    One,
    Two,
    Both,
}
use Base::{Both, One, Two};

struct Row {
    rule: &'static str,
    base: Base,
    change: Change,
    bad: Edit,
    /// The same instance takes this.
    good: Edit,
}

const fn row(rule: &'static str, base: Base, change: Change, bad: Edit, good: Edit) -> Row {
    Row { rule, base, change, bad, good }
}

const fn eats(value: u64) -> (usize, u64, u64) {
    (1, value << 28, 3 << 28)
}

const fn strw(value: u64) -> (usize, u64, u64) {
    (1, value << 30, 3 << 30)
}

const fn cd_max(value: u64) -> (usize, u64, u64) {
    (0, value << 59, 31 << 59)
}

const fn t0sz_sl0(size: u64, level: u64) -> (usize, u64, u64) {
    (2, size << 32 | level << 38, 0xff << 32)
}

const fn s2_ps(value: u64) -> (usize, u64, u64) {
    (2, value << 48, 7 << 48)
}

const fn s2_tg(value: u64) -> (usize, u64, u64) {
    (2, value << 46, 3 << 46)
}

const fn s2_ttb(value: u64) -> (usize, u64, u64) {
    (3, value, !0xf)
}

const S1_STALLD: (usize, u64, u64) = (1, 1 << 27, 0);
const S2_S: (usize, u64, u64) = (2, 1 << 57, 0);
const LPAE: (usize, u64, u64) = (2, 0, 1 << 51);
const S2_HA: (usize, u64, u64) = (2, 1 << 56, 0);
const S2_HD: (usize, u64, u64) = (2, 1 << 55, 0);
const S2_HAFT: (usize, u64, u64) = (2, 1 << 59, 0);
const S2_ENDI: (usize, u64, u64) = (2, 1 << 52, 0);
const S2_PIE: (usize, u64, u64) = (2, 1 << 60, 0);
const S2_POE: (usize, u64, u64) = (2, 1 << 61, 0);
const S2_DS: (usize, u64, u64) = (3, 1 << 3, 0);
const S2_SL0_2: (usize, u64, u64) = (3, 1 << 2, 0);

fn ats(p: &mut Profile) {
    idr0(p, |it| it.with_ats(true).with_stall_model(0));
}

fn hyp(p: &mut Profile) {
    idr0(p, |it| it.with_hyp(true));
}

fn all_granules(p: &mut Profile) {
    idr5(p, |it| it.with_gran16k(true).with_gran64k(true));
}

fn small(p: &mut Profile) {
    all_granules(p);
    idr3(p, |it| it.with_stt(true));
}

fn wide(p: &mut Profile) {
    all_granules(p);
    idr5(p, |it| it.with_oas(6));
}

fn lpa2(p: &mut Profile) {
    wide(p);
    idr5(p, |it| it.with_ds(true));
}

fn lpae(p: &mut Profile) {
    idr0(p, |it| it.with_ttf(3).with_httu(2));
}

const ROWS: &[Row] = &[
    row("1 V", One, |_| {}, &[(0, 0, 1)], &[]),
    row("1 V", Two, |_| {}, &[(0, 0, 1)], &[]),
    // Without stage 1 or 2, bypass is left.
    row("3 S1P", One, |p| idr0(p, |it| it.with_s1p(false)), &[], &[(0, 0x8, 0xe)]),
    row("3 S2P", Two, |p| idr0(p, |it| it.with_s2p(false)), &[], &[(0, 0x8, 0xe)]),
    row("3 S1P", Both, |p| idr0(p, |it| it.with_s1p(false)), &[], &[(0, 0xc, 0xe)]),
    row("3 S2P", Both, |p| idr0(p, |it| it.with_s2p(false)), &[], &[(0, 0xa, 0xe)]),
    row("4 EATS 2 without stage 2", One, ats, &[eats(2)], &[eats(1)]),
    row("4 EATS 2 without stage 1", Two, ats, &[eats(2)], &[eats(1)]),
    row("4 EATS 2 with S2S", Both, ats, &[eats(2), S2_S], &[eats(2)]),
    row(
        "4 EATS 2 with NS1ATS",
        Both,
        |p| {
            ats(p);
            idr0(p, |it| it.with_ns1ats(true));
        },
        &[eats(2)],
        &[eats(1)],
    ),
    row("4 EATS 1 with S2S", Both, ats, &[eats(1), S2_S], &[S2_S]),
    row("4 EATS 1 with S2S", Two, ats, &[eats(1), S2_S], &[eats(1)]),
    row(
        "4 EATS 3 with STRW",
        One,
        |p| {
            ats(p);
            hyp(p);
            idr3(p, |it| it.with_dpt(true));
        },
        &[eats(3), strw(2)],
        &[eats(3)],
    ),
    row(
        "4 EATS 3 with S2S",
        Two,
        |p| {
            ats(p);
            idr3(p, |it| it.with_dpt(true));
        },
        &[eats(3), S2_S],
        &[eats(3)],
    ),
    row("5 STRW", One, hyp, &[strw(1)], &[strw(0)]),
    row("5 STRW", One, hyp, &[strw(3)], &[strw(2)]),
    row("6a S1STALLD", One, |_| {}, &[S1_STALLD], &[]),
    row("6a S1STALLD", Both, |p| idr0(p, |it| it.with_stall_model(2)), &[S1_STALLD, S2_S], &[S2_S]),
    row("6b S1CDMax", One, |p| idr1(p, |it| it.with_ssidsize(4)), &[cd_max(5)], &[cd_max(4)]),
    row(
        "6c S1Fmt 1",
        One,
        |p| idr1(p, |it| it.with_ssidsize(4)),
        &[cd_max(2), (0, 1 << 4, 0)],
        &[cd_max(0), (0, 1 << 4, 0)],
    ),
    row(
        "6c S1Fmt 2",
        Both,
        |p| idr1(p, |it| it.with_ssidsize(4)),
        &[cd_max(2), (0, 2 << 4, 0)],
        // A reserved code is linear.
        &[cd_max(2), (0, 3 << 4, 0)],
    ),
    row("6d S1ContextPtr", One, |_| {}, &[(0, 1 << 44, 0)], &[(0, 1 << 43, 0)]),
    row("6d S1ContextPtr", Both, |_| {}, &[(0, 1 << 44, 0)], &[(0, 1 << 43, 0)]),
    row("7a S2FWB with LPAE", Two, lpae, &[(1, 1 << 25, 0), LPAE], &[(1, 1 << 25, 0)]),
    row("7b S2S", Two, |_| {}, &[S2_S], &[]),
    row("7b S2S", Both, |_| {}, &[S2_S], &[]),
    row("7b S2S forced", Two, |p| idr0(p, |it| it.with_stall_model(2)), &[], &[S2_S]),
    row("7c S2AA64", Two, |_| {}, &[LPAE], &[]),
    // LPAE alone has 40 bits: T0SZ of its kind.
    row("7c S2AA64", Two, |p| idr0(p, |it| it.with_ttf(1)), &[], &[LPAE, t0sz_sl0(0, 1)]),
    row("7d S2HA with LPAE", Two, lpae, &[LPAE, S2_HA], &[S2_HA]),
    row("7d S2HD with LPAE", Two, lpae, &[LPAE, S2_HD], &[S2_HA, S2_HD]),
    row("7d S2HA", Two, |_| {}, &[S2_HA], &[]),
    row("7d S2HD", Two, |_| {}, &[S2_HD], &[]),
    row("7d S2HD", Both, |p| idr0(p, |it| it.with_httu(1)), &[S2_HA, S2_HD], &[S2_HA]),
    row("7d S2HAFT", Two, |p| idr0(p, |it| it.with_httu(3)), &[S2_HAFT], &[S2_HAFT, S2_HA]),
    row("7e S2TG", Two, |_| {}, &[s2_tg(1), t0sz_sl0(24, 1)], &[]),
    row("7e S2TG", Two, |_| {}, &[s2_tg(2), t0sz_sl0(24, 1)], &[]),
    row("7e S2TG", Two, all_granules, &[s2_tg(3)], &[s2_tg(1)]),
    row(
        "7e S2TG",
        Two,
        |p| idr5(p, |it| it.with_gran4k(false).with_gran64k(true)),
        &[s2_tg(0)],
        &[s2_tg(1)],
    ),
    row("7f S2TTB", Two, |_| {}, &[s2_ttb(1 << 44)], &[s2_ttb(1 << 43)]),
    row("7f S2TTB", Both, |_| {}, &[s2_ps(0), s2_ttb(1 << 32)], &[s2_ps(1), s2_ttb(1 << 32)]),
    row("7f S2TTB, S2PS capped", Two, |_| {}, &[s2_ps(5), s2_ttb(1 << 44)], &[s2_ps(5)]),
    row(
        "7f S2TTB of 48 bits",
        Two,
        wide,
        &[s2_ps(6), s2_ttb(1 << 48)],
        &[s2_ps(6), s2_ttb(1 << 48), s2_tg(1)],
    ),
    row(
        "7f S2TTB of 48 bits",
        Two,
        lpa2,
        &[s2_ps(6), s2_ttb(1 << 48)],
        &[s2_ps(6), s2_ttb(1 << 48), S2_DS],
    ),
    row("7g S2T0SZ above IAS", Two, |_| {}, &[t0sz_sl0(19, 2)], &[t0sz_sl0(20, 2)]),
    row("7g S2T0SZ", Two, |_| {}, &[t0sz_sl0(40, 0)], &[t0sz_sl0(39, 0)]),
    row("7g S2T0SZ, STT", Two, small, &[t0sz_sl0(49, 3)], &[t0sz_sl0(48, 3)]),
    row(
        "7g S2T0SZ, STT, 64K",
        Two,
        small,
        &[s2_tg(1), t0sz_sl0(48, 0)],
        &[s2_tg(1), t0sz_sl0(47, 0)],
    ),
    row("7g S2T0SZ, 48 bits", Two, wide, &[t0sz_sl0(15, 2)], &[t0sz_sl0(16, 2)]),
    row(
        "7g S2T0SZ, 52 bits, 64K",
        Two,
        wide,
        &[s2_tg(1), t0sz_sl0(11, 2)],
        &[s2_tg(1), t0sz_sl0(12, 2)],
    ),
    row(
        "7g S2T0SZ, 52 bits, DS",
        Two,
        lpa2,
        &[S2_DS, S2_SL0_2, t0sz_sl0(11, 0)],
        &[S2_DS, S2_SL0_2, t0sz_sl0(12, 0)],
    ),
    row("7h S2SL0", Two, |_| {}, &[t0sz_sl0(24, 0)], &[t0sz_sl0(24, 2)]),
    row("7h S2SL0", Two, |_| {}, &[t0sz_sl0(20, 1)], &[t0sz_sl0(21, 1)]),
    row("7h S2SL0 without STT", Two, |_| {}, &[t0sz_sl0(39, 3)], &[t0sz_sl0(39, 0)]),
    row("7h S2SL0 of 64K", Two, small, &[s2_tg(1), t0sz_sl0(24, 3)], &[s2_tg(1), t0sz_sl0(24, 1)]),
    row(
        "7h S2SL0 of 16K",
        Two,
        lpa2,
        &[s2_tg(2), t0sz_sl0(16, 3)],
        &[s2_tg(2), t0sz_sl0(16, 3), S2_DS],
    ),
    row("7i S2ENDI", Two, |_| {}, &[S2_ENDI], &[]),
    row("7i S2ENDI", Both, |p| idr0(p, |it| it.with_ttendian(3)), &[], &[S2_ENDI]),
    row(
        "7j S2PIE with LPAE",
        Two,
        |p| {
            lpae(p);
            idr3(p, |it| it.with_s2pi(true));
        },
        &[LPAE, S2_PIE],
        &[S2_PIE],
    ),
    row(
        "7j S2POE without S2PIE",
        Two,
        |p| idr3(p, |it| it.with_s2pi(true).with_s2po(true)),
        &[S2_POE],
        &[S2_POE, S2_PIE],
    ),
    row(
        "7j S2POE with S2HWU",
        Two,
        |p| idr3(p, |it| it.with_s2pi(true).with_s2po(true).with_pbha(true)),
        &[S2_POE, S2_PIE, (1, 1 << 11, 0)],
        &[S2_PIE, (1, 1 << 11, 0)],
    ),
    row(
        "7j S2POI 1",
        Two,
        |p| idr3(p, |it| it.with_s2pi(true).with_s2po(true)),
        &[S2_POE, S2_PIE, (7, 1 << 60, 0)],
        &[S2_POE, S2_PIE, (7, 2 << 60, 0)],
    ),
    row(
        "7j S2POI 5",
        Two,
        |p| idr3(p, |it| it.with_s2pi(true).with_s2po(true)),
        &[S2_POE, S2_PIE, (7, 5, 0)],
        &[S2_PIE, (7, 5, 0)],
    ),
    row("8 S2VMID", One, |_| {}, &[(2, 0x100, 0xffff)], &[(2, 0xff, 0xffff)]),
    row("8 S2VMID", Two, |_| {}, &[(2, 0x8007, 0xffff)], &[(2, 7, 0xffff)]),
    row("8 S2VMID", Both, |_| {}, &[(2, 0x107, 0xffff)], &[(2, 7, 0xffff)]),
    row("8 S2VMID", One, hyp, &[(2, 0x100, 0xffff)], &[strw(2), (2, 0x100, 0xffff)]),
    row(
        "9 VMSPtr",
        Both,
        |p| idr3(p, |it| it.with_mpam(true)),
        &[(1, 1 << 26, 0), (5, 1 << 44, 0)],
        &[(1, 1 << 26, 0), (5, 1 << 43, 0)],
    ),
];

/// What must not be refused, whatever it looks like.
const IGNORED: &[(&str, Base, Change, Edit)] = &[
    ("STRW with stage 2", Both, hyp, &[strw(1)]),
    ("STRW of stage 2", Two, hyp, &[strw(3)]),
    ("STRW without Hyp", One, |_| {}, &[strw(3)]),
    ("EATS without ATS", One, |_| {}, &[eats(2)]),
    ("EATS of bypass", One, ats, &[(0, 0x8, 0xe), eats(2)]),
    ("S1CDMax without substreams", One, |_| {}, &[cd_max(20)]),
    ("S1 fields of stage 2", Two, |_| {}, &[cd_max(31), S1_STALLD, (0, 1 << 54 | 3 << 4, 0)]),
    (
        "S2 fields of stage 1",
        One,
        |_| {},
        &[(2, !0xffff, 0), (3, !0, 0), (7, !0, 0), (1, 1 << 25, 0)],
    ),
    ("S2VMID without stage 2", One, |p| idr0(p, |it| it.with_s2p(false)), &[(2, 0xffff, 0)]),
    ("S2VMID of 16 bits", Two, |p| idr0(p, |it| it.with_vmid16(true)), &[(2, 0x8000, 0)]),
    ("S2VMID of bypass", One, |_| {}, &[(0, 0x8, 0xe), (2, 0xffff, 0)]),
    ("S2HD alone", Two, |p| idr0(p, |it| it.with_httu(2)), &[S2_HD]),
    ("S2HAFT without it", Two, |p| idr0(p, |it| it.with_httu(2)), &[S2_HAFT]),
    ("S2PS above OAS", Two, |_| {}, &[s2_ps(6)]),
    ("S2PIE without it", Two, |_| {}, &[S2_PIE, S2_POE]),
    ("VMSPtr without S1MPAM", Both, |p| idr3(p, |it| it.with_mpam(true)), &[(5, 1 << 44, 0)]),
    (
        "VMSPtr of stage 1",
        One,
        |p| idr3(p, |it| it.with_mpam(true)),
        &[(1, 1 << 26, 0), (5, 1 << 44, 0)],
    ),
    ("CONT", One, |_| {}, &[(1, 0xf << 13, 0)]),
];

fn is_bad(base: Base, change: Change, edit: Edit, name: &str) -> bool {
    let mut machine = Machine::new(profile(change), 1);
    machine.a1();
    let words = match base {
        One => ste_words(CD),
        Two => a2_ste(),
        Both => a3_ste(),
    };
    machine.ste(SID, with(words, edit));
    is_refused(&mut machine, EventId::CBadSte, name)
}

#[test]
fn every_rule_about_entries_is_c_bad_ste() {
    for row in ROWS {
        assert!(
            is_bad(row.base, row.change, row.bad, row.rule),
            "§7.1({}) is not refused",
            row.rule
        );
        assert!(!is_bad(row.base, row.change, row.good, row.rule), "§7.1({}) is legal", row.rule);
    }
}

#[test]
fn what_an_entry_does_not_use_is_never_c_bad_ste() {
    for (name, base, change, edit) in IGNORED {
        assert!(!is_bad(*base, *change, edit, name), "{name}");
    }
}

#[test]
fn entries_that_abort_are_legal_whatever_else_they_say() {
    for config in 0..4 {
        let mut machine = Machine::new(both(), 1);
        machine.ste(SID, [1 | config << 1 | !0xf, !0, !0, !0, !0, !0, !0, !0]);
        let refusal = machine.translate(Access::read(SID, VA)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Config);
        assert_eq!(machine.events(), []);
    }
}
