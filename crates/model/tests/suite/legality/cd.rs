// SPDX-License-Identifier: MIT OR Apache-2.0
//! C_BAD_CD: §7.2. What needs a stage 2 in AArch32 format (rule 6) or 128-bit tables, the model does not have.

use smmuv3_formats::EventId;

use super::*;

struct Row {
    rule: &'static str,
    change: Change,
    ste: Edit,
    bad: Edit,
    /// The same instance, with the same STE, takes this.
    good: Edit,
}

const fn row(rule: &'static str, change: Change, ste: Edit, bad: Edit, good: Edit) -> Row {
    Row { rule, change, ste, bad, good }
}

const S: (usize, u64, u64) = (0, 1 << 44, 0);
const NO_A: (usize, u64, u64) = (0, 0, 1 << 46);
const ENDI: (usize, u64, u64) = (0, 1 << 15, 0);
const EPD0: (usize, u64, u64) = (0, 1 << 14, 0);
/// The upper half on, as the lower one: 4 KiB, 48 bits.
const UPPER: (usize, u64, u64) = (0, 16 << 16 | 2 << 22, 1 << 30 | 0xff << 16);
const LPAE: (usize, u64, u64) = (0, 0, 1 << 41);
const HA: (usize, u64, u64) = (0, 1 << 43, 0);
const HD: (usize, u64, u64) = (0, 1 << 42, 0);
const HAFT: (usize, u64, u64) = (1, 1 << 3, 0);
const DS: (usize, u64, u64) = (2, 1 << 58, 0);
const PIE: (usize, u64, u64) = (2, 1 << 59, 0);
const STRW_2: (usize, u64, u64) = (1, 2 << 30, 0);

const fn asid(value: u64) -> (usize, u64, u64) {
    (0, value << 48, 0xffff << 48)
}

const fn t0sz(value: u64) -> (usize, u64, u64) {
    (0, value, 0x3f)
}

const fn t1sz(value: u64) -> (usize, u64, u64) {
    (0, value << 16, 0x3f << 16)
}

const fn tg0(value: u64) -> (usize, u64, u64) {
    (0, value << 6, 3 << 6)
}

const fn tg1(value: u64) -> (usize, u64, u64) {
    (0, value << 22, 3 << 22)
}

const fn ips(value: u64) -> (usize, u64, u64) {
    (0, value << 32, 7 << 32)
}

const fn ttb(half: usize, value: u64) -> (usize, u64, u64) {
    (1 + half, value, ((1 << 52) - 1) & !0xf)
}

fn stalls(p: &mut Profile) {
    idr0(p, |it| it.with_stall_model(0));
}

fn big(p: &mut Profile) {
    idr0(p, |it| it.with_ttendian(3));
}

fn hyp(p: &mut Profile) {
    idr0(p, |it| it.with_hyp(true).with_ttf(3).with_asid16(false));
}

fn all_granules(p: &mut Profile) {
    idr5(p, |it| it.with_gran16k(true).with_gran64k(true));
}

fn small(p: &mut Profile) {
    all_granules(p);
    idr3(p, |it| it.with_stt(true));
}

fn vax(p: &mut Profile) {
    all_granules(p);
    idr5(p, |it| it.with_oas(6).with_vax(1));
}

fn lpa2(p: &mut Profile) {
    vax(p);
    idr5(p, |it| it.with_ds(true));
}

fn indirect(p: &mut Profile) {
    idr3(p, |it| it.with_s1pi(true));
}

const ROWS: &[Row] = &[
    row("1 V", |_| {}, &[], &[(0, 0, 1 << 31)], &[]),
    row("2 S with S1STALLD", stalls, &[(1, 1 << 27, 0)], &[S], &[]),
    row("3 A", |_| {}, &[], &[NO_A], &[]),
    row("4 S", |_| {}, &[], &[S], &[]),
    row("4 S forced", |p| idr0(p, |it| it.with_stall_model(2)), &[], &[], &[S]),
    row("5 ENDI", |_| {}, &[], &[ENDI], &[ENDI, EPD0]),
    row("5 ENDI", |_| {}, &[], &[ENDI, EPD0, UPPER], &[EPD0, UPPER]),
    row("5 ENDI", big, &[], &[], &[ENDI]),
    row("6 AA64", |_| {}, &[], &[LPAE], &[]),
    row("6 AA64", |p| idr0(p, |it| it.with_ttf(1)), &[], &[], &[LPAE, t0sz(0), ips(2)]),
    row("7 HA", |_| {}, &[], &[HA], &[]),
    row("7 HD", |_| {}, &[], &[HD], &[]),
    row("7 HD", |p| idr0(p, |it| it.with_httu(1)), &[], &[HA, HD], &[HA]),
    row("7 HAFT", |p| idr0(p, |it| it.with_httu(3)), &[], &[HAFT], &[HAFT, HA]),
    row("8 ASID", |p| idr0(p, |it| it.with_asid16(false)), &[], &[asid(0x100)], &[asid(0xff)]),
    row("9 T0SZ", |_| {}, &[], &[t0sz(40)], &[t0sz(39)]),
    row("9 T0SZ", |_| {}, &[], &[t0sz(15)], &[t0sz(16)]),
    row("9 T0SZ, STT", small, &[], &[t0sz(49)], &[t0sz(48)]),
    row("9 T0SZ, STT, 64K", small, &[], &[tg0(1), t0sz(48)], &[tg0(1), t0sz(47)]),
    row("9 T0SZ, VAX, 64K", vax, &[], &[tg0(1), t0sz(11)], &[tg0(1), t0sz(12)]),
    row("9 T0SZ, VAX, 4K", vax, &[], &[t0sz(15)], &[tg0(1), t0sz(15)]),
    row("9 T0SZ, DS", lpa2, &[], &[t0sz(15)], &[DS, t0sz(12)]),
    row("9 T0SZ, 64K", all_granules, &[], &[tg0(1), t0sz(15)], &[tg0(1), t0sz(16)]),
    row("9 TG0", |_| {}, &[], &[tg0(1)], &[]),
    row("9 TG0", |_| {}, &[], &[tg0(2)], &[]),
    row("9 TG0", small, &[], &[tg0(3)], &[tg0(2)]),
    row("9 TTB0", |_| {}, &[], &[ttb(0, 1 << 44)], &[ttb(0, 1 << 43)]),
    row("9 TTB0, IPS", |_| {}, &[], &[ips(0), ttb(0, 1 << 32)], &[ips(1), ttb(0, 1 << 32)]),
    row("9 TTB0, IPS capped", |_| {}, &[], &[ips(6), ttb(0, 1 << 44)], &[ips(6)]),
    row("9 TTB0 of 48 bits", lpa2, &[], &[ips(6), ttb(0, 1 << 48)], &[ips(6), DS, ttb(0, 1 << 48)]),
    row("9 T1SZ", |_| {}, &[], &[UPPER, t1sz(40)], &[UPPER, t1sz(39)]),
    row("9 T1SZ", |_| {}, &[], &[UPPER, t1sz(15)], &[UPPER]),
    row("9 TG1", |_| {}, &[], &[UPPER, tg1(0)], &[UPPER]),
    row("9 TG1", |_| {}, &[], &[UPPER, tg1(3)], &[UPPER]),
    row("9 TG1", |_| {}, &[], &[UPPER, tg1(1)], &[UPPER]),
    row("9 TTB1", |_| {}, &[], &[UPPER, ttb(1, 1 << 44)], &[UPPER, ttb(1, 1 << 43)]),
    // STE.S1PIE. Entries are of three bits.
    row("10 PIIP 4", indirect, &[(1, 1 << 24, 0)], &[PIE, (7, 4 << 45, 0)], &[(7, 4 << 45, 0)]),
    row("10 PIIP 6", indirect, &[(1, 1 << 24, 0)], &[PIE, (7, 6, 0)], &[PIE]),
    row("10 PIIU 4", indirect, &[(1, 1 << 24, 0)], &[PIE, (6, 4, 0)], &[PIE, (6, 1, 0)]),
    row("10 PIIU 6", indirect, &[(1, 1 << 24, 0)], &[PIE, (6, 6 << 3, 0)], &[PIE, (6, 1 << 3, 0)]),
];

/// Rules about other StreamWorlds: the STE has STRW = 2; whether CR2.E2H is 1.
const WORLDS: &[(&str, bool, Edit, Edit)] = &[
    ("6 AA64 of EL2-E2H", true, &[LPAE, t0sz(0), ips(2)], &[]),
    ("8 ASID of EL2-E2H", true, &[asid(0x100)], &[asid(0xff)]),
    // EPD0 counts as 0, and ASIDs mean nothing.
    ("9 T0SZ of EL2 with EPD0", false, &[EPD0, t0sz(40)], &[EPD0, asid(0x100)]),
];

/// What must not be refused, whatever it looks like.
const IGNORED: &[(&str, Change, Edit)] = &[
    ("a half that is off", |_| {}, &[t1sz(63), tg1(0), ttb(1, 1 << 51)]),
    ("a half that is off", |_| {}, &[EPD0, UPPER, t0sz(63), tg0(3), ttb(0, 1 << 51)]),
    ("HD alone", |p| idr0(p, |it| it.with_httu(2)), &[HD]),
    ("HAFT without it", |p| idr0(p, |it| it.with_httu(2)), &[HAFT]),
    ("A without TERM_MODEL", |p| idr0(p, |it| it.with_term_model(false)), &[NO_A]),
    ("S with both", stalls, &[S]),
    ("indices without PIE", indirect, &[(6, 4, 0), (7, 6, 0)]),
    ("indices without S1PI", |_| {}, &[PIE, (6, 4, 0), (7, 6, 0)]),
    ("indices without STE.S1PIE", indirect, &[PIE, (6, 4, 0)]),
    ("ENDI of mixed endianness", |p| idr0(p, |it| it.with_ttendian(0)), &[ENDI]),
    ("IPS above OAS", |_| {}, &[ips(6)]),
];

fn is_bad(mut machine: Machine, ste: Edit, cd: Edit, name: &str) -> bool {
    machine.a1();
    machine.ste(SID, with(ste_words(CD), ste));
    machine.cd_at(CD, with(cd_words(5, L0), cd));
    is_refused(&mut machine, EventId::CBadCd, name)
}

#[test]
fn every_rule_about_contexts_is_c_bad_cd() {
    for row in ROWS {
        let machine = || Machine::new(profile(row.change), 1);
        let Row { rule, ste, .. } = row;
        assert!(is_bad(machine(), ste, row.bad, rule), "§7.2({rule}) is not refused");
        assert!(!is_bad(machine(), ste, row.good, rule), "§7.2({rule}) is legal");
    }
}

#[test]
fn contexts_of_other_worlds_have_their_own_rules() {
    for (rule, e2h, bad, good) in WORLDS {
        let machine = || {
            let mut machine = Machine::new(profile(hyp), 1);
            machine.switch(0b1100);
            machine.smmu.write32(CR2, 0b10 | u32::from(*e2h));
            machine.switch(0b1101);
            machine
        };
        assert!(is_bad(machine(), &[STRW_2], bad, rule), "§7.2({rule}) is not refused");
        assert!(!is_bad(machine(), &[STRW_2], good, rule), "§7.2({rule}) is legal");
    }
}

#[test]
fn what_a_context_does_not_use_is_never_c_bad_cd() {
    for (name, change, cd) in IGNORED {
        assert!(!is_bad(Machine::new(profile(*change), 1), &[], cd, name), "{name}");
    }
}
