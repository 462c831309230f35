// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands (§4.1): the codes, the field tables against the reference's list, golden images and the
//! reference's byte examples.
//!
//! The reference marks as uncertain: PREFETCH_ADDR's Stride and NS, CFGI_VMS_PIDM's VMID, and the NS bit of
//! TLBI_S_S2_IPA.

mod common;

use common::{Row, differences, disorder, expect_none};
use smmuv3_formats::command::*;
use smmuv3_formats::{Command, Opcode};

/// Code, name, fields, and fields that may be left out.
type Entry = (u8, &'static str, &'static [Row], &'static [Row]);

/// §4.1, row by row.
const COMMANDS: &[Entry] = &[
    (
        0x01,
        "CMD_PREFETCH_CONFIG",
        &[
            ("Opcode", 0, 7, 0),
            ("SSec", 0, 10, 10),
            ("SSV", 0, 11, 11),
            ("SSID", 0, 31, 12),
            ("SID", 0, 63, 32),
        ],
        &[],
    ),
    (
        0x02,
        "CMD_PREFETCH_ADDR",
        &[
            ("Opcode", 0, 7, 0),
            ("SSec", 0, 10, 10),
            ("SSV", 0, 11, 11),
            ("SSID", 0, 31, 12),
            ("SID", 0, 63, 32),
            ("Size", 1, 4, 0),
            ("Stride", 1, 9, 5),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (
        0x03,
        "CMD_CFGI_STE",
        &[("Opcode", 0, 7, 0), ("SSec", 0, 10, 10), ("SID", 0, 63, 32), ("Leaf", 1, 0, 0)],
        &[],
    ),
    (
        0x04,
        "CMD_CFGI_STE_RANGE",
        &[("Opcode", 0, 7, 0), ("SSec", 0, 10, 10), ("SID", 0, 63, 32), ("Range", 1, 4, 0)],
        &[],
    ),
    (
        0x05,
        "CMD_CFGI_CD",
        &[
            ("Opcode", 0, 7, 0),
            ("SSec", 0, 10, 10),
            ("SSID", 0, 31, 12),
            ("SID", 0, 63, 32),
            ("Leaf", 1, 0, 0),
        ],
        &[],
    ),
    (0x06, "CMD_CFGI_CD_ALL", &[("Opcode", 0, 7, 0), ("SSec", 0, 10, 10), ("SID", 0, 63, 32)], &[]),
    (
        0x07,
        "CMD_CFGI_VMS_PIDM",
        &[("Opcode", 0, 7, 0), ("SSec", 0, 10, 10), ("VMID", 0, 47, 32)],
        &[],
    ),
    (0x10, "CMD_TLBI_NH_ALL", &[("Opcode", 0, 7, 0), ("VMID", 0, 47, 32)], &[]),
    (
        0x11,
        "CMD_TLBI_NH_ASID",
        &[("Opcode", 0, 7, 0), ("VMID", 0, 47, 32), ("ASID", 0, 63, 48)],
        &[],
    ),
    (
        0x12,
        "CMD_TLBI_NH_VA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("VMID", 0, 47, 32),
            ("ASID", 0, 63, 48),
            ("Leaf", 1, 0, 0),
            ("TTL128", 1, 7, 7),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (
        0x13,
        "CMD_TLBI_NH_VAA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("VMID", 0, 47, 32),
            ("Leaf", 1, 0, 0),
            ("TTL128", 1, 7, 7),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (0x18, "CMD_TLBI_EL3_ALL", &[("Opcode", 0, 7, 0)], &[]),
    (
        0x1a,
        "CMD_TLBI_EL3_VA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("Leaf", 1, 0, 0),
            ("TTL128", 1, 7, 7),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (0x20, "CMD_TLBI_EL2_ALL", &[("Opcode", 0, 7, 0)], &[]),
    (0x21, "CMD_TLBI_EL2_ASID", &[("Opcode", 0, 7, 0), ("ASID", 0, 63, 48)], &[]),
    (
        0x22,
        "CMD_TLBI_EL2_VA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("ASID", 0, 63, 48),
            ("Leaf", 1, 0, 0),
            ("TTL128", 1, 7, 7),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (
        0x23,
        "CMD_TLBI_EL2_VAA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("Leaf", 1, 0, 0),
            ("TTL128", 1, 7, 7),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (0x28, "CMD_TLBI_S12_VMALL", &[("Opcode", 0, 7, 0), ("VMID", 0, 47, 32)], &[]),
    (
        0x2a,
        "CMD_TLBI_S2_IPA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("VMID", 0, 47, 32),
            ("Leaf", 1, 0, 0),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 55, 12),
        ],
        &[("TTL128", 1, 7, 7)],
    ),
    (0x30, "CMD_TLBI_NSNH_ALL", &[("Opcode", 0, 7, 0)], &[]),
    (
        0x40,
        "CMD_ATC_INV",
        &[
            ("Opcode", 0, 7, 0),
            ("G", 0, 9, 9),
            ("SSV", 0, 11, 11),
            ("SSID", 0, 31, 12),
            ("SID", 0, 63, 32),
            ("Size", 1, 5, 0),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (
        0x41,
        "CMD_PRI_RESP",
        &[
            ("Opcode", 0, 7, 0),
            ("SSV", 0, 11, 11),
            ("SSID", 0, 31, 12),
            ("SID", 0, 63, 32),
            ("PRGIndex", 1, 8, 0),
            ("Resp", 1, 13, 12),
        ],
        &[],
    ),
    (
        0x44,
        "CMD_RESUME",
        &[
            ("Opcode", 0, 7, 0),
            ("SSec", 0, 10, 10),
            ("Ac", 0, 12, 12),
            ("Ab", 0, 13, 13),
            ("SID", 0, 63, 32),
            ("STAG", 1, 15, 0),
        ],
        &[],
    ),
    (0x45, "CMD_STALL_TERM", &[("Opcode", 0, 7, 0), ("SSec", 0, 10, 10), ("SID", 0, 63, 32)], &[]),
    (
        0x46,
        "CMD_SYNC",
        &[
            ("Opcode", 0, 7, 0),
            ("CS", 0, 13, 12),
            ("MSH", 0, 23, 22),
            ("MSIAttr", 0, 27, 24),
            ("MSIData", 0, 63, 32),
            ("MSIAddr", 1, 55, 2),
        ],
        &[("MSI_NS", 1, 63, 63)],
    ),
    (0x50, "CMD_TLBI_S_EL2_ALL", &[("Opcode", 0, 7, 0)], &[]),
    (0x51, "CMD_TLBI_S_EL2_ASID", &[("Opcode", 0, 7, 0), ("ASID", 0, 63, 48)], &[]),
    (
        0x52,
        "CMD_TLBI_S_EL2_VA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("ASID", 0, 63, 48),
            ("Leaf", 1, 0, 0),
            ("TTL128", 1, 7, 7),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (
        0x53,
        "CMD_TLBI_S_EL2_VAA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("Leaf", 1, 0, 0),
            ("TTL128", 1, 7, 7),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 63, 12),
        ],
        &[],
    ),
    (0x58, "CMD_TLBI_S_S12_VMALL", &[("Opcode", 0, 7, 0), ("VMID", 0, 47, 32)], &[]),
    (
        0x5a,
        "CMD_TLBI_S_S2_IPA",
        &[
            ("Opcode", 0, 7, 0),
            ("NUM", 0, 16, 12),
            ("SCALE", 0, 25, 20),
            ("VMID", 0, 47, 32),
            ("Leaf", 1, 0, 0),
            ("TTL", 1, 9, 8),
            ("TG", 1, 11, 10),
            ("Addr", 1, 55, 12),
        ],
        &[("TTL128", 1, 7, 7)],
    ),
    (0x60, "CMD_TLBI_SNH_ALL", &[("Opcode", 0, 7, 0)], &[]),
    (0x70, "CMD_DPTI_ALL", &[("Opcode", 0, 7, 0)], &[]),
];

#[test]
fn each_command_has_the_listed_code_and_name() {
    for (code, name, ..) in COMMANDS {
        let opcode = Opcode::from_code(*code).unwrap_or_else(|| panic!("{code:#04x} is {name}"));
        assert_eq!(opcode.name(), *name);
        assert_eq!(opcode as u8, *code);
    }
}

/// §4.1: DPTI_PA has a code and a name; the places of its operands are marked uncertain.
#[test]
fn dpti_pa_is_code_73() {
    assert_eq!(Opcode::from_code(0x73).map(Opcode::name), Some("CMD_DPTI_PA"));
}

#[test]
fn every_other_code_is_reserved_or_implementation_defined() {
    for code in 0..=u8::MAX {
        let listed = code == 0x73 || COMMANDS.iter().any(|entry| entry.0 == code);
        if !listed {
            assert_eq!(Opcode::from_code(code), None, "{code:#04x}");
            assert_eq!(Command([u64::from(code), 0]).opcode(), None);
        }
    }
}

#[test]
fn all_lists_every_command_once_in_order_of_code() {
    let codes: Vec<u8> = Opcode::ALL.iter().map(|opcode| *opcode as u8).collect();
    assert!(codes.is_sorted_by(|a, b| a < b));
    for opcode in Opcode::ALL {
        assert_eq!(Opcode::from_code(*opcode as u8), Some(*opcode));
        let is = |code: u8| Command([u64::from(code) | 0xff00, 0]).is(*opcode);
        assert!((0..=u8::MAX).all(|code| is(code) == (code == *opcode as u8)));
    }
    assert!(COMMANDS.iter().all(|entry| codes.contains(&entry.0)));
}

#[test]
fn each_command_has_the_listed_fields() {
    let mut found = Vec::new();
    for (code, name, required, optional) in COMMANDS {
        let fields = Opcode::from_code(*code).map_or(&[][..], Opcode::fields);
        found.extend(differences(name, fields, required, optional));
        found.extend(disorder(name, fields, 2, 64));
    }
    expect_none(found);
}

/// A field alone in a command is the only one that decodes as non-zero, and none of it is reserved.
#[test]
fn each_field_alone_decodes_alone() {
    for (code, name, required, _) in COMMANDS {
        for row in required.iter().skip(1) {
            let mut words = [u64::from(*code), 0];
            words[row.1] |= common::mask(row);
            let command = Command(words);
            for other in required.iter().skip(1) {
                let value = command.field(other.0).unwrap_or_else(|| panic!("{name}.{}", other.0));
                assert_eq!(value != 0, other == row, "{name}.{} with only {}", other.0, row.0);
            }
            assert_eq!(command.reserved_bits(), [0, 0], "{name} with only {}", row.0);
        }
    }
}

/// Whoever looks at many commands of a kind looks through the layout of one of them.
#[test]
fn operands_are_at_one_place_in_all_commands_that_have_them() {
    let names =
        ["SSec", "SID", "SSID", "VMID", "ASID", "NUM", "SCALE", "TTL", "TTL128", "TG", "Leaf"];
    for name in names {
        let all = Opcode::ALL.iter().flat_map(|opcode| opcode.fields());
        let mut places =
            all.filter(|field| field.name == name).map(|field| (field.word, field.hi, field.lo));
        let first = places.next().unwrap();
        assert!(places.all(|place| place == first), "{name}");
    }
}

/// Bits outside the listed fields are reserved (§4): all of them are reported.
#[test]
fn bits_outside_the_fields_are_reserved() {
    for (code, name, ..) in COMMANDS {
        let opcode = Opcode::from_code(*code).unwrap();
        let mut reserved = [u64::MAX; 2];
        for field in opcode.fields() {
            reserved[field.word] &= !field.mask();
        }
        let mut words = [u64::MAX; 2];
        words[0] = words[0] & !0xff | u64::from(*code);
        assert_eq!(Command(words).reserved_bits(), reserved, "{name}");
    }
}

/// §4.1, the reference's byte examples.
#[test]
fn the_byte_examples_come_out() {
    let examples: &[(Command, [u64; 2])] = &[
        (CfgiSte::new().with_sid(0x100).with_leaf(true).into(), [0x0000_0100_0000_0003, 1]),
        (Command::cfgi_all(), [0x0000_0000_0000_0004, 0x1f]),
        (TlbiNhAsid::new().with_vmid(0).with_asid(5).into(), [0x0005_0000_0000_0011, 0]),
        (Sync::new().into(), [0x46, 0]),
        (
            Sync::new()
                .with_cs(completion::IRQ)
                .with_msh(3)
                .with_msi_attr(0xf)
                .with_msi_data(0)
                .with_msi_addr(0x8000_1000)
                .into(),
            [0x0000_0000_0fc0_1046, 0x0000_0000_8000_1000],
        ),
        (
            Resume::new().with_sid(8).with_stag(3).with_ac(true).into(),
            [0x0000_0008_0000_1044, 0x0000_0000_0000_0003],
        ),
        (Resume::new().with_sid(8).with_ab(true).into(), [0x0000_0008_0000_2044, 0]),
        (
            PriResp::new()
                .with_sid(0x100)
                .with_ssv(true)
                .with_ssid(1)
                .with_prg_index(5)
                .with_resp(2)
                .into(),
            [0x0000_0100_0000_1841, 0x0000_0000_0000_2005],
        ),
        (
            AtcInv::new().with_sid(0x100).with_size(52).into(),
            [0x0000_0100_0000_0040, 0x0000_0000_0000_0034],
        ),
    ];
    for (command, words) in examples {
        assert_eq!(command.0, *words, "{command}");
        assert_eq!(command.reserved_bits(), [0, 0], "{command}");
    }
    assert_eq!(Command::cfgi_all().name(), "CMD_CFGI_ALL");
    assert_eq!(Command([0x04, 30]).name(), "CMD_CFGI_STE_RANGE");
}
