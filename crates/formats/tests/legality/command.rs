// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a Non-secure command queue answers with CERROR_ILL: the last column of §4.1.

use super::bench::{Changes, capable, expect_none, hardware};
use smmuv3_formats::{Command, legality};

/// Legal on [`capable`], with the change of hardware that makes the code illegal (§4.1); an empty list:
/// nothing does.
const VALID: &[(u64, &str, Changes)] = &[
    (0x01, "PREFETCH_CONFIG", &[]),
    (0x02, "PREFETCH_ADDR", &[]),
    (0x03, "CFGI_STE", &[]),
    (0x04, "CFGI_STE_RANGE", &[]),
    (0x05, "CFGI_CD", &[("IDR0.S1P", 0)]),
    (0x06, "CFGI_CD_ALL", &[("IDR0.S1P", 0)]),
    (0x07, "CFGI_VMS_PIDM", &[("IDR3.MPAM", 0)]),
    (0x10, "TLBI_NH_ALL", &[("IDR0.S1P", 0)]),
    (0x11, "TLBI_NH_ASID", &[("IDR0.S1P", 0)]),
    (0x12, "TLBI_NH_VA", &[("IDR0.S1P", 0)]),
    (0x13, "TLBI_NH_VAA", &[("IDR0.S1P", 0)]),
    (0x20, "TLBI_EL2_ALL", &[("IDR0.Hyp", 0)]),
    (0x21, "TLBI_EL2_ASID", &[("IDR0.Hyp", 0)]),
    (0x22, "TLBI_EL2_VA", &[("IDR0.Hyp", 0)]),
    (0x23, "TLBI_EL2_VAA", &[("IDR0.Hyp", 0)]),
    (0x28, "TLBI_S12_VMALL", &[("IDR0.S2P", 0)]),
    (0x2a, "TLBI_S2_IPA", &[("IDR0.S2P", 0)]),
    (0x30, "TLBI_NSNH_ALL", &[]),
    (0x40, "ATC_INV", &[("IDR0.ATS", 0)]),
    (0x41, "PRI_RESP", &[("IDR0.PRI", 0)]),
    (0x44, "RESUME", &[("IDR0.STALL_MODEL", 1)]),
    (0x45, "STALL_TERM", &[("IDR0.STALL_MODEL", 1)]),
    (0x46, "SYNC", &[]),
];

/// For other queues only.
const NOT_NON_SECURE: [u64; 9] = [0x18, 0x1a, 0x50, 0x51, 0x52, 0x53, 0x58, 0x5a, 0x60];

/// Range parameters: NUM, SCALE, TTL and TG at their bits, on the codes that take them.
const RANGE_CODES: [u64; 5] = [0x12, 0x13, 0x22, 0x23, 0x2a];

fn range(code: u64, num: u64, scale: u64, ttl: u64, tg: u64) -> Command {
    Command([code | num << 12 | scale << 20, 0x8000_0000 | ttl << 8 | tg << 10])
}

fn field_of(command: Command, settings: Changes) -> Option<&'static str> {
    let rule = legality::command(&command, &hardware(settings)).err()?;
    assert!(["4.1", "4.2"].contains(&rule.section), "{command}: {}", rule.section);
    Some(rule.field)
}

#[test]
fn each_command_of_the_non_secure_queue_is_legal_on_capable_hardware() {
    for (code, name, _) in VALID {
        assert_eq!(legality::command(&Command([*code, 0]), &capable()), Ok(()), "{name}");
    }
}

#[test]
fn commands_for_a_missing_feature_are_illegal() {
    let mut found = Vec::new();
    let features = [
        ("IDR0.S1P", 0),
        ("IDR0.S2P", 0),
        ("IDR0.ATS", 0),
        ("IDR0.PRI", 0),
        ("IDR0.STALL_MODEL", 1),
        ("IDR3.MPAM", 0),
    ];
    for (code, name, needs) in VALID {
        // EL2 commands without stage 1 are left out: EL2 without stage 1 does not exist.
        for missing in features {
            if missing.0 == "IDR0.S1P" && (0x20..0x24).contains(code) {
                continue;
            }
            let expected = needs.contains(&missing).then_some("Opcode");
            let answer = field_of(Command([*code, 0]), &[missing]);
            if answer != expected {
                found.push(format!("{name} with {missing:?}: {answer:?}, not {expected:?}"));
            }
        }
        let expected = needs.contains(&("IDR0.Hyp", 0)).then_some("Opcode");
        let answer = field_of(Command([*code, 0]), &[("IDR0.Hyp", 0)]);
        if answer != expected {
            found.push(format!("{name} without Hyp: {answer:?}, not {expected:?}"));
        }
    }
    expect_none(found);
}

/// Stalls that are forced (STALL_MODEL 2) need RESUME all the more.
#[test]
fn forced_stalls_have_resume() {
    for code in [0x44, 0x45] {
        assert_eq!(field_of(Command([code, 0]), &[("IDR0.STALL_MODEL", 2)]), None);
    }
}

#[test]
fn commands_of_other_queues_are_illegal() {
    for code in NOT_NON_SECURE {
        assert_eq!(field_of(Command([code, 0]), &[]), Some("Opcode"), "{code:#04x}");
    }
}

#[test]
fn device_permission_table_commands_need_dpt() {
    assert_eq!(field_of(Command([0x70, 0]), &[]), Some("Opcode"));
    assert_eq!(field_of(Command([0x70, 0]), &[("IDR3.DPT", 1)]), None);
    assert_eq!(field_of(Command([0x73, 0]), &[]), Some("Opcode"));
}

/// §4.1: DPTI_PA exists where IDR3.DPT says so.
#[test]
fn dpti_pa_is_legal_with_dpt() {
    assert_eq!(field_of(Command([0x73, 0]), &[("IDR3.DPT", 1)]), None);
}

/// §4.1: an implementation may define these; this one defines none.
#[test]
fn implementation_defined_codes_are_illegal_and_named_so() {
    for code in 0x80..=0x8f {
        let rule = legality::command(&Command([code, 0]), &capable()).unwrap_err();
        assert_eq!((rule.field, rule.text), ("Opcode", "is implementation defined"));
        assert_eq!(Command([code, 0]).name(), "implementation defined");
    }
    for code in [0x00, 0x7f, 0x90] {
        let rule = legality::command(&Command([code, 0]), &capable()).unwrap_err();
        assert_eq!((rule.field, rule.text), ("Opcode", "is reserved"));
        assert_eq!(Command([code, 0]).name(), "reserved");
    }
}

/// 80 to 8f have a test of their own.
#[test]
fn reserved_codes_are_illegal() {
    for code in (0..=0xff).filter(|code| !(0x80..=0x8f).contains(code)) {
        let known = code == 0x70
            || code == 0x73
            || VALID.iter().any(|entry| entry.0 == code)
            || NOT_NON_SECURE.contains(&code);
        if !known {
            assert_eq!(field_of(Command([code, 0]), &[]), Some("Opcode"), "{code:#04x}");
        }
    }
}

#[test]
fn ssec_is_zero_on_the_non_secure_queue() {
    for code in [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x44, 0x45] {
        assert_eq!(field_of(Command([code | 1 << 10, 0]), &[]), Some("SSec"), "{code:#04x}");
    }
}

#[test]
fn a_sync_signals_in_three_ways() {
    for (cs, expected) in [(0, None), (1, None), (2, None), (3, Some("CS"))] {
        assert_eq!(field_of(Command([0x46 | cs << 12, 0]), &[]), expected, "CS={cs}");
        // Without SEV, 2 acts as 0.
        assert_eq!(field_of(Command([0x46 | cs << 12, 0]), &[("IDR0.SEV", 0)]), expected);
    }
}

#[test]
fn a_page_response_has_three_codes() {
    for (resp, expected) in [(0, None), (1, None), (2, None), (3, Some("Resp"))] {
        assert_eq!(field_of(Command([0x41, resp << 12]), &[]), expected, "Resp={resp}");
    }
}

/// §4.2: a granule with neither a range nor a level is reserved. Which of its four fields is named is
/// open.
#[test]
fn a_granule_without_range_and_level_is_illegal() {
    for code in RANGE_CODES {
        for tg in 1..=3 {
            let answer = field_of(range(code, 0, 0, 0, tg), &[]);
            assert!(
                answer.is_some_and(|field| ["TG", "NUM", "SCALE", "TTL"].contains(&field)),
                "{code:#04x} TG={tg}: {answer:?}"
            );
            assert_eq!(field_of(range(code, 1, 0, 0, tg), &[]), None, "NUM=1");
            assert_eq!(field_of(range(code, 0, 1, 0, tg), &[]), None, "SCALE=1");
            assert_eq!(field_of(range(code, 0, 0, 2, tg), &[]), None, "TTL=2");
            assert_eq!(field_of(range(code, 0, 0, 3, tg), &[]), None, "TTL=3");
            assert_eq!(field_of(range(code, 31, 31, 3, tg), &[]), None, "all");
        }
        for ttl in 0..=3 {
            assert_eq!(field_of(range(code, 0, 0, ttl, 0), &[]), None, "one address, TTL={ttl}");
        }
    }
}

/// §4.2: level 1 with 16 KiB exists only with DS; else it counts as no level.
#[test]
fn level_1_of_16_kib_needs_ds() {
    for code in RANGE_CODES {
        assert!(field_of(range(code, 0, 0, 1, 2), &[("IDR5.DS", 0)]).is_some(), "{code:#04x}");
        assert_eq!(field_of(range(code, 0, 0, 1, 2), &[("IDR5.DS", 1)]), None);
        assert_eq!(field_of(range(code, 1, 0, 1, 2), &[("IDR5.DS", 0)]), None);
        for tg in [1, 3] {
            assert_eq!(field_of(range(code, 0, 0, 1, tg), &[("IDR5.DS", 0)]), None);
        }
    }
}

/// §4.1 and appendix A4: what the reference gives as examples is legal.
#[test]
fn the_examples_are_legal() {
    for words in [
        [0x0000_0100_0000_0003, 1],
        [0x0000_0000_0000_0004, 0x1f],
        [0x0005_0000_0000_0011, 0],
        [0x46, 0],
        [0x0000_0000_0fc0_1046, 0x0000_0000_8000_1000],
        [0x0000_0008_0000_1044, 3],
        [0x0000_0008_0000_2044, 3],
        [0x0000_0100_0000_1841, 0x2005],
        [0x0000_0100_0000_0040, 0x34],
        [0x0005_0000_0000_4012, 0x0000_0000_0100_0701],
        [0x0005_0000_0060_c012, 0x0000_0000_0100_5701],
        [0x0005_0000_00d0_8012, 0x0000_0000_0134_5701],
        [0x0005_0000_0000_0012, 0x0000_0012_3456_7701],
    ] {
        assert_eq!(legality::command(&Command(words), &capable()), Ok(()), "{words:x?}");
    }
}

fn reserved(command: Command, settings: Changes) -> Vec<&'static str> {
    let mut fields = Vec::new();
    legality::command_reserved(&command, Some(&hardware(settings)), &mut |rule| {
        fields.push(rule.field);
    });
    fields
}

/// §4: unlisted bits are RES0, with whatever hardware.
#[test]
fn reserved_bits_of_commands_are_told_by_their_word() {
    let nothing = Vec::<&str>::new();
    for (code, name, _) in VALID {
        assert_eq!(reserved(Command([*code, 0]), &[]), nothing, "{name}");
    }
    assert_eq!(reserved(Command([0x30 | 1 << 40, 0]), &[]), ["word 0"]);
    assert_eq!(reserved(Command([0x03, 1 << 20]), &[]), ["word 1"]);
    assert_eq!(reserved(Command([0x7f, u64::MAX]), &[]), nothing);
    let mut told = 0;
    legality::command_reserved(&Command([0x30 | 1 << 40, 0]), None, &mut |_| told += 1);
    assert_eq!(told, 1);
}

/// §4.2: what an SMMU lacks must be 0, or the command need not invalidate anything.
#[test]
fn operands_that_an_smmu_lacks_are_told() {
    let nothing = Vec::<&str>::new();
    let small = |name, value| [(name, value)];
    let told = |command, (name, value): (&'static str, u64), fields: &[&'static str]| {
        assert_eq!(reserved(command, &[]), nothing, "{command} on all there is");
        assert_eq!(
            reserved(command, &small(name, value)),
            fields,
            "{command} with {name} = {value}"
        );
    };
    let ranged = Command([0x12 | 3 << 12 | 2 << 20, 0x8000_0000 | 3 << 8 | 1 << 10]);
    told(ranged, ("IDR3.RIL", 0), &["TG", "NUM", "SCALE", "TTL"]);
    told(Command([0x11 | 0x100 << 48, 0]), ("IDR0.ASID16", 0), &["ASID"]);
    told(Command([0x10 | 0x100 << 32, 0]), ("IDR0.VMID16", 0), &["VMID"]);
    told(Command([0x10 | 7 << 32, 0]), ("IDR0.S2P", 0), &["VMID"]);
    told(Command([0x40 | 1 << 11 | 1 << 12, 0x34]), ("IDR1.SSIDSIZE", 0), &["SSV", "SSID", "SSID"]);
    told(Command([0x05 | 0x40 << 12, 0]), ("IDR1.SSIDSIZE", 6), &["SSID"]);
    told(Command([0x03 | 0x100 << 32, 0]), ("IDR1.SIDSIZE", 8), &["SID"]);
    told(range(0x12, 1, 32, 0, 1), ("IDR5.DS", 0), &["SCALE"]);
}

/// §4.2: a range that is not aligned is UNPREDICTABLE; one address may be anywhere.
#[test]
fn ranges_are_aligned_to_the_leaves_of_their_level() {
    let at = |address: u64, ttl: u64, tg: u64| {
        reserved(Command([0x12 | 1 << 12, address | ttl << 8 | tg << 10]), &[("IDR5.DS", 1)])
    };
    let nothing = Vec::<&str>::new();
    for (tg, ttl, bits) in [
        (1, 1, 30),
        (1, 2, 21),
        (1, 3, 12),
        (2, 1, 36),
        (2, 2, 25),
        (2, 3, 14),
        (2, 0, 14),
        (3, 1, 42),
        (3, 2, 29),
        (3, 3, 16),
    ] {
        assert_eq!(at(1 << bits, ttl, tg), nothing, "TG {tg}, TTL {ttl}");
        if bits > 12 {
            assert_eq!(at(1 << (bits - 1), ttl, tg), ["Addr"], "TG {tg}, TTL {ttl}");
        }
    }
    assert_eq!(reserved(Command([0x12, 0x1000]), &[]), nothing);
    assert_eq!(reserved(Command([0x12 | 1 << 12, 0x1000]), &[]), ["NUM"]);
    assert_eq!(reserved(Command([0x40, 53]), &[]), ["Size"]);
}
