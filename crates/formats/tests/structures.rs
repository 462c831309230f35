// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of all structures: complete, orderly, and found by name.

mod common;

use common::{disorder, expect_none};
use smmuv3_formats::structure::{self, ALL, Class, Structure, find, with_code};
use smmuv3_formats::{EventId, Opcode};

fn named(name: &str) -> &'static Structure {
    find(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn fields_lie_inside_in_order_and_apart() {
    let found = ALL.iter().flat_map(|s| {
        let width = if s.class == Class::Register { s.bits } else { 64 };
        let mut found = disorder(s.name, s.fields, s.words, width);
        let whole = if s.class == Class::Register { s.bits } else { 64 * s.words as u32 };
        if s.bits != whole || !(1..=structure::MOST_WORDS).contains(&s.words) {
            found.push(format!("{}: {} bits in {} words", s.name, s.bits, s.words));
        }
        found
    });
    expect_none(found.collect());
}

#[test]
fn names_and_codes_are_unique() {
    let mut found = Vec::new();
    for (i, s) in ALL.iter().enumerate() {
        for t in &ALL[..i] {
            if s.name.eq_ignore_ascii_case(t.name) {
                found.push(format!("two of {}", s.name));
            }
            if s.class == t.class && s.code.is_some() && s.code == t.code {
                found.push(format!("{} and {} have one code", s.name, t.name));
            }
        }
    }
    expect_none(found);
}

#[test]
fn each_class_is_complete() {
    let count = |class| ALL.iter().filter(|s| s.class == class).count();
    assert_eq!(count(Class::Command), Opcode::ALL.len());
    // The union of all events has a row of its own.
    assert_eq!(count(Class::Event), 1 + EventId::ALL.len());
    assert_eq!(count(Class::Entry), 4);
    assert_eq!(count(Class::Request), 1);
    for id in EventId::ALL {
        let event = structure::event(*id);
        assert_eq!(with_code(Class::Event, *id as u8), Some(event));
        assert_eq!((event.name, event.words, event.bits), (id.name(), 4, 256));
        assert_eq!(event.fields, id.fields());
    }
    for opcode in Opcode::ALL {
        let command = structure::command(*opcode);
        assert_eq!(with_code(Class::Command, *opcode as u8), Some(command));
        assert_eq!((command.name, command.words, command.bits), (opcode.name(), 2, 128));
        assert_eq!(command.fields, opcode.fields());
    }
}

/// Every register of the map of page 0 and page 1 (§2.2): name, offset, bits.
#[test]
fn registers_are_where_the_map_has_them() {
    let map: &[(&str, u32, u32)] = &[
        ("IDR0", 0x000, 32),
        ("IDR1", 0x004, 32),
        ("IDR2", 0x008, 32),
        ("IDR3", 0x00c, 32),
        ("IDR4", 0x010, 32),
        ("IDR5", 0x014, 32),
        ("IIDR", 0x018, 32),
        ("AIDR", 0x01c, 32),
        ("CR0", 0x020, 32),
        ("CR0ACK", 0x024, 32),
        ("CR1", 0x028, 32),
        ("CR2", 0x02c, 32),
        ("S2PII", 0x030, 64),
        ("STATUSR", 0x040, 32),
        ("GBPA", 0x044, 32),
        ("AGBPA", 0x048, 32),
        ("IRQ_CTRL", 0x050, 32),
        ("IRQ_CTRLACK", 0x054, 32),
        ("GERROR", 0x060, 32),
        ("GERRORN", 0x064, 32),
        ("GERROR_IRQ_CFG0", 0x068, 64),
        ("GERROR_IRQ_CFG1", 0x070, 32),
        ("GERROR_IRQ_CFG2", 0x074, 32),
        ("STRTAB_BASE", 0x080, 64),
        ("STRTAB_BASE_CFG", 0x088, 32),
        ("CMDQ_BASE", 0x090, 64),
        ("CMDQ_PROD", 0x098, 32),
        ("CMDQ_CONS", 0x09c, 32),
        ("EVENTQ_BASE", 0x0a0, 64),
        ("EVENTQ_IRQ_CFG0", 0x0b0, 64),
        ("EVENTQ_IRQ_CFG1", 0x0b8, 32),
        ("EVENTQ_IRQ_CFG2", 0x0bc, 32),
        ("PRIQ_BASE", 0x0c0, 64),
        ("PRIQ_IRQ_CFG0", 0x0d0, 64),
        ("PRIQ_IRQ_CFG1", 0x0d8, 32),
        ("PRIQ_IRQ_CFG2", 0x0dc, 32),
        ("GATOS_CTRL", 0x100, 32),
        ("GATOS_SID", 0x108, 64),
        ("GATOS_ADDR", 0x110, 64),
        ("GATOS_PAR", 0x118, 64),
        ("MPAMIDR", 0x130, 32),
        ("GMPAM", 0x138, 32),
        ("GBPMPAM", 0x13c, 32),
        ("VATOS_SEL", 0x180, 32),
        ("IDR6", 0x190, 32),
        ("DPT_BASE", 0x200, 64),
        ("DPT_BASE_CFG", 0x208, 32),
        ("DPT_CFG_FAR", 0x210, 64),
        ("PIDR4", 0xfd0, 32),
        ("PIDR0", 0xfe0, 32),
        ("PIDR3", 0xfec, 32),
        ("CIDR0", 0xff0, 32),
        ("CIDR3", 0xffc, 32),
        ("CMDQ_CONTROL_PAGE_BASE0", 0x4000, 64),
        ("CMDQ_CONTROL_PAGE_CFG0", 0x4008, 32),
        ("CMDQ_CONTROL_PAGE_STATUS0", 0x400c, 32),
        ("EVENTQ_PROD", 0x100a8, 32),
        ("EVENTQ_CONS", 0x100ac, 32),
        ("PRIQ_PROD", 0x100c8, 32),
        ("PRIQ_CONS", 0x100cc, 32),
    ];
    for (name, offset, bits) in map {
        let register = named(name);
        assert_eq!(register.class, Class::Register, "{name}");
        assert_eq!((register.offset, register.bits), (Some(*offset), *bits), "{name}");
    }
}

#[test]
fn the_order_is_the_references() {
    let sections: Vec<&str> = ALL.iter().map(|s| s.section).collect();
    let chapters: Vec<u32> =
        sections.iter().map(|s| s.split('.').next().unwrap().parse().unwrap()).collect();
    assert!(chapters.is_sorted(), "{chapters:?}");
    assert_eq!(chapters.first(), Some(&2));
    assert_eq!(chapters.last(), Some(&18));
}

#[test]
fn names_are_found_in_any_case_with_or_without_prefix() {
    for (text, name) in [
        ("ste", "STE"),
        ("L1std", "L1STD"),
        ("cmd_tlbi_nh_va", "CMD_TLBI_NH_VA"),
        ("Tlbi_Nh_Va", "CMD_TLBI_NH_VA"),
        ("CMD_CFGI_ALL", "CMD_CFGI_STE_RANGE"),
        ("f_translation", "F_TRANSLATION"),
        ("smmu_idr0", "IDR0"),
        ("s1 page descriptor", "S1 page descriptor"),
        ("ppr", "PPR"),
        // Codes that only one class has: CMD_SYNC, C_BAD_CD.
        ("0x46", "CMD_SYNC"),
        ("0xa", "C_BAD_CD"),
        ("10", "C_BAD_CD"),
    ] {
        assert_eq!(find(text).map(|s| s.name), Some(name), "{text}");
    }
    // 0x10 is both F_TRANSLATION and CMD_TLBI_NH_ALL; 0xff is nothing.
    for nothing in ["", "cmd_", "0x10", "0xff", "0x100", "STE2", "CMD_STE_", "é"] {
        assert_eq!(find(nothing), None, "{nothing}");
    }
    assert_eq!(with_code(Class::Command, 0x10).unwrap().name, "CMD_TLBI_NH_ALL");
    assert_eq!(with_code(Class::Event, 0x10).unwrap().name, "F_TRANSLATION");
    assert_eq!(with_code(Class::Register, 0x10), None);
}

#[test]
fn fields_are_found_and_read() {
    let ste = named("STE");
    let config = ste.field("config").unwrap();
    assert_eq!((config.name, config.word, config.hi, config.lo), ("Config", 0, 3, 1));
    assert_eq!(ste.field("Confi"), None);
    assert_eq!(ste.value(config, &[0xb]), Some(0b101));
    let ttb = ste.field("S2TTB").unwrap();
    assert_eq!(ste.value(ttb, &[0xb]), None, "word 3 was not given");
    assert_eq!(ste.value(ttb, &[0, 0, 0, 0x8004_0003]), Some(0x8004_0000));
}

/// Bits that §5.1, §5.2, §10.1 and §2.4 list for nothing.
#[test]
fn reserved_bits_are_those_of_no_field() {
    let reserved = |name: &str, words: &[u64]| named(name).reserved(words);
    let ones = [u64::MAX; 8];
    assert_eq!(reserved("L1STD", &ones)[..2], [0xff00_0000_0000_0020, 0]);
    assert_eq!(
        reserved("STE", &ones),
        [
            0x0700_0000_0000_0000, // 58:56
            0x0000_0e00_0000_0000, // 43:41
            0,
            0x9ff0_0000_0000_0000, // 63, 60:52
            0x0000_3f00_0000_0000, // 45:40
            0xff00_0000_0000_0000, // 63:56
            0x9f00_0000_0000_0008, // 63, 60:56, 3
            0,
        ]
    );
    assert_eq!(reserved("STE", &[0, 1 << 41]), [0, 1 << 41, 0, 0, 0, 0, 0, 0]);
    assert_eq!(reserved("C_BAD_STE", &ones)[..5], [0x700, u64::MAX, u64::MAX, u64::MAX, 0]);
    // 63:11, 9, 5: around VMW and DPT_WALK_EN.
    assert_eq!(reserved("CR0", &ones)[..2], [0xffff_ffff_ffff_fa20, 0]);
    // Places that the reference marks as uncertain are not called reserved.
    assert_eq!(reserved("F_STREAM_DISABLED", &ones)[0], 0x700);
    assert_eq!(reserved("F_BAD_ATS_TREQ", &ones)[1], 0);
    assert_eq!(reserved("F_PERMISSION", &ones), [0x700, 0, 0, 0xff00_0000_0000_0fff, 0, 0, 0, 0]);
    assert_eq!(reserved("CMD_DPTI_PA", &ones), [0; 8]);
    assert_eq!(reserved("DPT_BASE", &ones), [0; 8]);
    assert_eq!(reserved("event record", &ones), [0; 8]);
}
