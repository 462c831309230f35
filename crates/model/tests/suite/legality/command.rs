// SPDX-License-Identifier: MIT OR Apache-2.0
//! CERROR_ILL: the last column of §4.1, and §4.2.

use smmuv3_formats::Command;

use super::*;

/// Whether the only command of the queue is answered with CERROR_ILL; it is consumed otherwise.
fn is_ill(change: Change, words: [u64; 2]) -> bool {
    let mut machine = Machine::new(profile(change), 1);
    machine.command(Command(words));
    let stopped = machine.smmu.read32(GERROR) & 1 != 0;
    let cons = machine.smmu.read32(CMDQ_CONS);
    match stopped {
        true => assert_eq!(cons, 1 << 24, "{words:x?}: ERR = 1, RD at the command"),
        false => assert_eq!(cons, 1, "{words:x?}"),
    }
    stopped
}

fn nothing(_: &mut Profile) {}

fn hyp(p: &mut Profile) {
    idr0(p, |it| it.with_hyp(true));
}

fn stalls(p: &mut Profile) {
    idr0(p, |it| it.with_stall_model(0));
}

fn ats(p: &mut Profile) {
    idr0(p, |it| it.with_ats(true));
}

fn pri(p: &mut Profile) {
    idr0(p, |it| it.with_ats(true).with_pri(true));
}

fn no_stage_1(p: &mut Profile) {
    idr0(p, |it| it.with_s1p(false));
}

fn no_stage_2(p: &mut Profile) {
    idr0(p, |it| it.with_s2p(false));
}

/// A command, and where it is legal and where not.
const BY_FEATURE: &[(u64, Change, Change)] = &[
    (0x05, nothing, no_stage_1),
    (0x06, nothing, no_stage_1),
    (0x07, |p| idr3(p, |it| it.with_mpam(true)), nothing),
    (0x10, nothing, no_stage_1),
    (0x11, nothing, no_stage_1),
    (0x12, nothing, no_stage_1),
    (0x13, nothing, no_stage_1),
    (0x20, hyp, nothing),
    (0x21, hyp, nothing),
    (0x22, hyp, nothing),
    (0x23, hyp, nothing),
    (0x28, nothing, no_stage_2),
    (0x2a, nothing, no_stage_2),
    (0x40, ats, nothing),
    (0x41, pri, ats),
    (0x44, stalls, nothing),
    (0x45, stalls, nothing),
    (0x44, |p| idr0(p, |it| it.with_stall_model(2)), nothing),
    (0x70, |p| idr3(p, |it| it.with_dpt(true)), nothing),
];

/// Everything that this instance could take.
fn everything(p: &mut Profile) {
    idr0(p, |it| it.with_hyp(true).with_ats(true).with_pri(true).with_stall_model(0));
    idr3(p, |it| it.with_mpam(true).with_dpt(true));
}

#[test]
fn commands_of_features_that_are_missing_are_ill() {
    for (opcode, with, without) in BY_FEATURE {
        assert!(!is_ill(*with, [*opcode, 0]), "{opcode:#x} is legal");
        assert!(is_ill(*without, [*opcode, 0]), "{opcode:#x}");
    }
    // The ones of EL2 need stage 1 as well.
    for opcode in 0x20..0x24 {
        let without: Change = |p| {
            hyp(p);
            no_stage_1(p);
        };
        assert!(is_ill(without, [opcode, 0]), "{opcode:#x}");
    }
    // Always there.
    for opcode in [0x01, 0x02, 0x03, 0x04, 0x30, 0x46] {
        for change in [no_stage_1 as Change, no_stage_2] {
            assert!(!is_ill(change, [opcode, 0]), "{opcode:#x}");
        }
    }
}

#[test]
fn reserved_opcodes_and_those_of_other_queues_are_ill() {
    let known = [
        0x01..=0x07u64,
        0x10..=0x13,
        0x20..=0x23,
        0x28..=0x28,
        0x2a..=0x2a,
        0x30..=0x30,
        0x40..=0x41,
        0x44..=0x46,
        0x70..=0x70,
        // Of which the reference has no fields.
        0x73..=0x73,
        // For the implementation.
        0x80..=0x8f,
    ];
    for opcode in 0..0x100 {
        if !known.iter().any(|some| some.contains(&opcode)) {
            assert!(is_ill(everything, [opcode, 0]), "{opcode:#x}");
        }
    }
}

#[test]
fn reserved_values_are_ill() {
    // SSec, where there is one.
    for opcode in [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x44, 0x45] {
        assert!(is_ill(everything, [opcode | 1 << 10, 0]), "SSec of {opcode:#x}");
    }
    // CS of a CMD_SYNC, Resp of a CMD_PRI_RESP.
    for code in 0..3 {
        assert!(!is_ill(nothing, [0x46 | code << 12, 0]));
        assert!(!is_ill(pri, [0x41, code << 12]));
    }
    assert!(is_ill(nothing, [0x46 | 3 << 12, 0]));
    assert!(is_ill(pri, [0x41, 3 << 12]));
}

#[test]
fn a_range_of_one_page_of_any_level_is_ill() {
    let all: Change = |p| {
        hyp(p);
        idr5(p, |it| it.with_gran16k(true).with_gran64k(true));
    };
    let lpa2: Change = |p| {
        hyp(p);
        idr5(p, |it| it.with_gran16k(true).with_ds(true).with_oas(6));
    };
    for opcode in [0x12, 0x13, 0x22, 0x23, 0x2a] {
        for tg in 1..4 {
            assert!(is_ill(all, [opcode, tg << 10]), "{opcode:#x}");
            // NUM, SCALE, TTL.
            assert!(!is_ill(all, [opcode | 1 << 12, tg << 10]), "{opcode:#x}");
            assert!(!is_ill(all, [opcode | 1 << 20, tg << 10]), "{opcode:#x}");
            assert!(!is_ill(all, [opcode, tg << 10 | 3 << 8]), "{opcode:#x}");
        }
        // Level 1 of 16 KiB is no level without DS.
        assert!(is_ill(all, [opcode, 2 << 10 | 1 << 8]), "{opcode:#x}");
        assert!(!is_ill(lpa2, [opcode, 2 << 10 | 1 << 8]), "{opcode:#x}");
        assert!(!is_ill(all, [opcode, 0]), "{opcode:#x}");
    }
}
