// SPDX-License-Identifier: MIT OR Apache-2.0
//! What sets of ID registers break (§2.3).

use smmuv3_formats::legality::{self, IdRegisters};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr2, Idr3, Idr5, Idr6};

use super::bench::{Changes, hardware};

fn judge(set: &IdRegisters) -> Vec<&'static str> {
    let mut found = Vec::new();
    legality::registers(set, &mut |rule| {
        assert_eq!(rule.section, "2.3");
        found.push(rule.field);
    });
    found
}

/// What breaks no rule: everything of v3.4 with both stages.
fn consistent(changes: Changes) -> IdRegisters {
    let mut all = vec![("IDR3.E0PD", 1), ("IDR3.PTWNNC", 1), ("IDR3.EPAN", 1), ("IDR3.MTEPERM", 1)];
    all.extend_from_slice(changes);
    IdRegisters::from(&hardware(&all))
}

#[test]
fn instances_that_exist_break_nothing() {
    // Appendix A5 (the base model; IDR3 and IDR5 were not read) and QEMU 7.2, 10.0, 11.1, by stage.
    let base = IdRegisters {
        idr0: Some(Idr0(0x080f_e6bf)),
        idr1: Some(Idr1(0x0e73_9d20)),
        ..IdRegisters::default()
    };
    assert_eq!(judge(&base), [""; 0]);
    for (idr0, idr3) in
        [(0x0d40_101a, 0x1404), (0x0d44_101a, 0x1404), (0x0d44_1019, 0x1410), (0x0d44_101b, 0x1414)]
    {
        let qemu = IdRegisters {
            idr0: Some(Idr0(idr0)),
            idr1: Some(Idr1(0x0273_0010)),
            idr2: Some(Idr2(0)),
            idr3: Some(Idr3(idr3)),
            idr5: Some(Idr5(0x74)),
            idr6: Some(Idr6(0)),
            aidr: Some(Aidr(1)),
        };
        assert_eq!(judge(&qemu), [""; 0], "{idr0:#x}");
    }
    assert_eq!(judge(&consistent(&[])), [""; 0]);
    assert_eq!(judge(&IdRegisters::default()), [""; 0]);
}

#[test]
fn each_rule_is_found_alone() {
    // What is changed, and all that is broken then.
    let rows: &[(Changes, &[&str])] = &[
        (&[("IDR0.TTF", 0)], &["IDR0.TTF"]),
        (&[("IDR0.TTENDIAN", 1)], &["IDR0.TTENDIAN"]),
        (&[("IDR0.STALL_MODEL", 3)], &["IDR0.STALL_MODEL"]),
        (&[("IDR0.ST_LEVEL", 2)], &["IDR0.ST_LEVEL"]),
        (&[("IDR0.ST_LEVEL", 0)], &["IDR0.ST_LEVEL"]),
        (&[("IDR0.ST_LEVEL", 0), ("IDR1.SIDSIZE", 6)], &[]),
        (&[("IDR0.ST_LEVEL", 0), ("IDR1.SIDSIZE", 7)], &["IDR0.ST_LEVEL"]),
        (&[("IDR0.ATSRECERR", 1)], &[]),
        (&[("IDR0.ATS", 0)], &["IDR0.PRI"]),
        (&[("IDR0.ATS", 0), ("IDR0.PRI", 0), ("IDR0.ATSRECERR", 1)], &["IDR0.ATSRECERR"]),
        (&[("IDR0.ATS", 0), ("IDR0.PRI", 0), ("IDR0.NS1ATS", 1)], &["IDR0.NS1ATS"]),
        (&[("IDR0.NS1ATS", 1)], &[]),
        (&[("IDR0.VATOS", 1)], &["IDR0.VATOS"]),
        (&[("IDR0.VATOS", 1), ("IDR0.ATOS", 1)], &[]),
        (&[("IDR0.Hyp", 0)], &["IDR0.Hyp"]),
        (&[("IDR0.Hyp", 0), ("AIDR.ArchMinorRev", 1)], &[]),
        (&[("IDR1.SIDSIZE", 33)], &["IDR1.SIDSIZE"]),
        (&[("IDR1.SSIDSIZE", 21)], &["IDR1.SSIDSIZE"]),
        (&[("IDR1.CMDQS", 20)], &["IDR1.CMDQS"]),
        (&[("IDR1.EVENTQS", 20)], &["IDR1.EVENTQS"]),
        (&[("IDR1.PRIQS", 20)], &["IDR1.PRIQS"]),
        (&[("IDR1.PRIQS", 20), ("IDR0.PRI", 0)], &[]),
        (&[("IDR1.REL", 1)], &["IDR1.REL"]),
        (&[("IDR1.REL", 1), ("IDR1.TABLES_PRESET", 1)], &[]),
        (&[("IDR1.ECMDQ", 1)], &[]),
        (&[("IDR1.ECMDQ", 1), ("IDR1.QUEUES_PRESET", 1)], &["IDR1.ECMDQ"]),
        (&[("IDR1.ECMDQ", 1), ("IDR0.COHACC", 0)], &["IDR1.ECMDQ"]),
        (&[("IDR1.ECMDQ", 1), ("IDR0.MSI", 0)], &["IDR1.ECMDQ"]),
        (&[("IDR3.BBML", 3)], &["IDR3.BBML"]),
        (&[("IDR3.BBML", 0)], &["IDR3.BBML"]),
        (&[("IDR3.BBML", 0), ("AIDR.ArchMinorRev", 1)], &[]),
        (&[("IDR3.HAD", 0)], &["IDR3.PBHA", "IDR3.HAD"]),
        (&[("IDR3.XNX", 0)], &["IDR3.XNX"]),
        (
            &[
                ("IDR3.XNX", 0),
                ("IDR3.PBHA", 0),
                ("AIDR.ArchMinorRev", 0),
                ("IDR5.OAS", 5),
                ("IDR5.VAX", 0),
                ("IDR5.DS", 0),
            ],
            &[],
        ),
        (&[("IDR3.FWB", 0)], &["IDR3.FWB"]),
        (&[("IDR3.FWB", 0), ("AIDR.ArchMinorRev", 1)], &[]),
        (&[("IDR3.RIL", 0)], &["IDR3.RIL"]),
        (&[("IDR3.E0PD", 0)], &["IDR3.E0PD"]),
        (&[("IDR3.E0PD", 0), ("AIDR.ArchMinorRev", 2)], &[]),
        (&[("IDR3.PTWNNC", 0)], &["IDR3.PTWNNC"]),
        (&[("IDR3.EPAN", 0)], &["IDR3.EPAN"]),
        (&[("IDR3.EPAN", 0), ("AIDR.ArchMinorRev", 3)], &[]),
        (&[("IDR3.S2PI", 0)], &["IDR3.S2PO"]),
        (&[("IDR3.S2PI", 0), ("IDR3.S2PO", 0), ("IDR3.THE", 1)], &["IDR3.THE"]),
        (&[("IDR3.DPT", 1)], &["IDR3.DPT"]),
        (&[("IDR3.DPT", 1), ("IDR0.TTF", 2)], &[]),
        (&[("IDR3.PASIDTT", 1), ("IDR1.SSIDSIZE", 0)], &["IDR3.PASIDTT"]),
        (&[("IDR3.PPS", 1), ("IDR1.SSIDSIZE", 0)], &["IDR3.PPS"]),
        (&[("IDR3.PPS", 1), ("IDR0.PRI", 0)], &["IDR3.PPS"]),
        (&[("IDR5.VAX", 3)], &["IDR5.VAX"]),
        (&[("IDR5.VAX", 2)], &["IDR5.VAX"]),
        (&[("IDR5.VAX", 0)], &["IDR5.DS"]),
        (&[("IDR5.VAX", 0), ("IDR5.DS", 0)], &[]),
        (&[("IDR5.GRAN64K", 0)], &[]),
        (&[("IDR5.GRAN64K", 0), ("IDR5.DS", 0)], &["IDR5.VAX", "IDR5.OAS"]),
        (&[("IDR5.GRAN4K", 0)], &["IDR5.GRAN4K"]),
        (&[("IDR5.GRAN4K", 0), ("IDR0.TTF", 2)], &[]),
        (&[("IDR5.GRAN4K", 0), ("IDR5.GRAN16K", 0), ("IDR0.TTF", 2)], &["IDR5.DS"]),
        (&[("IDR5.OAS", 7)], &["IDR5.OAS"]),
        (&[("IDR5.OAS", 7), ("IDR5.D128", 1), ("IDR0.TTF", 2)], &[]),
        (&[("IDR5.D128", 1)], &["IDR5.D128"]),
        (&[("IDR5.D128", 1), ("IDR0.TTF", 1)], &["IDR5.D128", "IDR5.D128"]),
        (&[("AIDR.ArchMajorRev", 1)], &["AIDR.ArchMajorRev"]),
        (&[("AIDR.ArchMinorRev", 0)], &["IDR3.XNX", "IDR3.PBHA", "IDR5.OAS", "IDR5.VAX"]),
    ];
    for (changes, expected) in rows {
        assert_eq!(judge(&consistent(changes)), *expected, "{changes:?}");
    }
}

#[test]
fn one_stage_has_not_what_needs_both() {
    let stage_2: Changes = &[("IDR0.S1P", 0)];
    assert_eq!(
        judge(&consistent(stage_2)),
        ["IDR0.Hyp", "IDR3.HAD", "IDR3.S1PI"],
        "without stage 1"
    );
    let stage_1: Changes = &[("IDR0.S2P", 0), ("IDR0.VMW", 1)];
    assert_eq!(
        judge(&consistent(stage_1)),
        ["IDR0.Hyp", "IDR0.VMW", "IDR3.S2PI", "IDR3.MTEPERM", "IDR3.PTWNNC"],
        "without stage 2"
    );
}

#[test]
fn unknown_registers_are_not_judged() {
    // SIDSIZE 32 demands ST_LEVEL of an IDR0 that is not there; BA_VATOS and IDR6 need others.
    let some = IdRegisters {
        idr1: Some(Idr1(0x8000_0020)),
        idr2: Some(Idr2(1)),
        idr6: Some(Idr6(1 << 16)),
        ..IdRegisters::default()
    };
    assert_eq!(judge(&some), [""; 0]);
    let more = IdRegisters { idr0: Some(Idr0(0x8)), idr1: Some(Idr1(0x6)), ..some };
    assert_eq!(judge(&more), ["IDR2.BA_VATOS", "IDR6"]);
}
