// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands (§4.1): the codes, the field tables against the reference's list, golden images and the
//! reference's byte examples.
//!
//! The reference marks as uncertain: PREFETCH_ADDR's Stride and NS, CFGI_VMS_PIDM's VMID, and the NS bit of
//! TLBI_S_S2_IPA.

mod common;

use common::{Row, differences, disorder, expect_none, golden, words};
use smmuv3_formats::command::*;
use smmuv3_formats::{Command, Opcode};

words!(array PrefetchConfig, PrefetchAddr, CfgiSte, CfgiSteRange, CfgiCd, CfgiCdAll, CfgiVmsPidm, TlbiNhAll, TlbiNhAsid, TlbiNhVa, TlbiNhVaa, TlbiEl3All, TlbiEl3Va, TlbiEl2All, TlbiEl2Asid, TlbiEl2Va, TlbiEl2Vaa, TlbiS12Vmall, TlbiS2Ipa, TlbiNsnhAll, AtcInv, PriResp, Resume, StallTerm, Sync, TlbiSEl2All, TlbiSEl2Asid, TlbiSEl2Va, TlbiSEl2Vaa, TlbiSS12Vmall, TlbiSS2Ipa, TlbiSnhAll, DptiAll);

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

/// §4.1.
#[test]
fn images_of_prefetch_config() {
    golden!(PrefetchConfig, [0xf878_7879_d2d2_dc01, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x1;
        ssec with_ssec "SSec" = true;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0xd2d2d;
        sid with_sid "SID" = 0xf8787879;
    });
    golden!(PrefetchConfig, [0x6918_0b23_386c_f401, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x1;
        ssec with_ssec "SSec" = true;
        ssv with_ssv "SSV" = false;
        ssid with_ssid "SSID" = 0x386cf;
        sid with_sid "SID" = 0x69180b23;
    });
    assert_eq!(PrefetchConfig::new().0, [0x01, 0]);
}

/// §4.1.
#[test]
fn images_of_prefetch_addr() {
    golden!(PrefetchAddr, [0xf878_7879_d2d2_dc02, 0xa5a5_a5a5_a5a5_b3f3], {
        opcode with_opcode "Opcode" = 0x2;
        ssec with_ssec "SSec" = true;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0xd2d2d;
        sid with_sid "SID" = 0xf8787879;
        size with_size "Size" = 0x13;
        stride with_stride "Stride" = 0x1f;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(PrefetchAddr, [0x6918_0b23_386c_f402, 0x5e35_e35e_35e0_3155], {
        opcode with_opcode "Opcode" = 0x2;
        ssec with_ssec "SSec" = true;
        ssv with_ssv "SSV" = false;
        ssid with_ssid "SSID" = 0x386cf;
        sid with_sid "SID" = 0x69180b23;
        size with_size "Size" = 0x15;
        stride with_stride "Stride" = 0xa;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(PrefetchAddr::new().0, [0x02, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_ste() {
    golden!(CfgiSte, [0xe1e1_e1e1_0000_0403, 0x0000_0000_0000_0001], {
        opcode with_opcode "Opcode" = 0x3;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1;
        leaf with_leaf "Leaf" = true;
    });
    golden!(CfgiSte, [0x1af1_af01_0000_0403, 0x0000_0000_0000_0001], {
        opcode with_opcode "Opcode" = 0x3;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01;
        leaf with_leaf "Leaf" = true;
    });
    assert_eq!(CfgiSte::new().0, [0x03, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_ste_range() {
    golden!(CfgiSteRange, [0xe1e1_e1e1_0000_0404, 0x0000_0000_0000_001d], {
        opcode with_opcode "Opcode" = 0x4;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1;
        range with_range "Range" = 0x1d;
    });
    golden!(CfgiSteRange, [0x1af1_af01_0000_0404, 0x0000_0000_0000_0015], {
        opcode with_opcode "Opcode" = 0x4;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01;
        range with_range "Range" = 0x15;
    });
    assert_eq!(CfgiSteRange::new().0, [0x04, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_cd() {
    golden!(CfgiCd, [0xad2d_2d2d_9e1e_1405, 0x0000_0000_0000_0001], {
        opcode with_opcode "Opcode" = 0x5;
        ssec with_ssec "SSec" = true;
        ssid with_ssid "SSID" = 0x9e1e1;
        sid with_sid "SID" = 0xad2d2d2d;
        leaf with_leaf "Leaf" = true;
    });
    golden!(CfgiCd, [0x6f53_86cf_1af0_1405, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x5;
        ssec with_ssec "SSec" = true;
        ssid with_ssid "SSID" = 0x1af01;
        sid with_sid "SID" = 0x6f5386cf;
        leaf with_leaf "Leaf" = false;
    });
    assert_eq!(CfgiCd::new().0, [0x05, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_cd_all() {
    golden!(CfgiCdAll, [0xe1e1_e1e1_0000_0406, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x6;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1;
    });
    golden!(CfgiCdAll, [0x1af1_af01_0000_0406, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x6;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01;
    });
    assert_eq!(CfgiCdAll::new().0, [0x06, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_vms_pidm() {
    golden!(CfgiVmsPidm, [0x0000_e1e1_0000_0407, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x7;
        ssec with_ssec "SSec" = true;
        vmid with_vmid "VMID" = 0xe1e1;
    });
    golden!(CfgiVmsPidm, [0x0000_af01_0000_0407, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x7;
        ssec with_ssec "SSec" = true;
        vmid with_vmid "VMID" = 0xaf01;
    });
    assert_eq!(CfgiVmsPidm::new().0, [0x07, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_all() {
    golden!(TlbiNhAll, [0x0000_9697_0000_0010, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x10;
        vmid with_vmid "VMID" = 0x9697;
    });
    golden!(TlbiNhAll, [0x0000_62e9_0000_0010, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x10;
        vmid with_vmid "VMID" = 0x62e9;
    });
    assert_eq!(TlbiNhAll::new().0, [0x10, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_asid() {
    golden!(TlbiNhAsid, [0xe1e1_9697_0000_0011, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x11;
        vmid with_vmid "VMID" = 0x9697;
        asid with_asid "ASID" = 0xe1e1;
    });
    golden!(TlbiNhAsid, [0xaf01_62e9_0000_0011, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x11;
        vmid with_vmid "VMID" = 0x62e9;
        asid with_asid "ASID" = 0xaf01;
    });
    assert_eq!(TlbiNhAsid::new().0, [0x11, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_va() {
    golden!(TlbiNhVa, [0xf879_ad2d_0211_7012, 0x8f0f_0f0f_0f0f_1f81], {
        opcode with_opcode "Opcode" = 0x12;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        vmid with_vmid "VMID" = 0xad2d;
        asid with_asid "ASID" = 0xf879;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0x8f0f_0f0f_0f0f_1000;
    });
    golden!(TlbiNhVa, [0x0b23_86cf_02a1_5012, 0x2158_f215_8f26_1901], {
        opcode with_opcode "Opcode" = 0x12;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        vmid with_vmid "VMID" = 0x86cf;
        asid with_asid "ASID" = 0xb23;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false;
        ttl with_ttl "TTL" = 0x1;
        tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x2158_f215_8f26_1000;
    });
    assert_eq!(TlbiNhVa::new().0, [0x12, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_vaa() {
    golden!(TlbiNhVaa, [0x0000_ad2d_0211_7013, 0xda5a_5a5a_5a5a_5f81], {
        opcode with_opcode "Opcode" = 0x13;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        vmid with_vmid "VMID" = 0xad2d;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xda5a_5a5a_5a5a_5000;
    });
    golden!(TlbiNhVaa, [0x0000_86cf_02a1_5013, 0x951d_840c_b73e_f680], {
        opcode with_opcode "Opcode" = 0x13;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        vmid with_vmid "VMID" = 0x86cf;
        leaf with_leaf "Leaf" = false;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1;
        addr with_addr "Addr" = 0x951d_840c_b73e_f000;
    });
    assert_eq!(TlbiNhVaa::new().0, [0x13, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el3_all() {
    golden!(TlbiEl3All, [0x0000_0000_0000_0018, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x18;
    });
    golden!(TlbiEl3All, [0x0000_0000_0000_0018, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x18;
    });
    assert_eq!(TlbiEl3All::new().0, [0x18, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el3_va() {
    golden!(TlbiEl3Va, [0x0000_0000_0211_701a, 0xa5a5_a5a5_a5a5_bf81], {
        opcode with_opcode "Opcode" = 0x1a;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(TlbiEl3Va, [0x0000_0000_02a1_501a, 0x5e35_e35e_35e0_3901], {
        opcode with_opcode "Opcode" = 0x1a;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false;
        ttl with_ttl "TTL" = 0x1;
        tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(TlbiEl3Va::new().0, [0x1a, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_all() {
    golden!(TlbiEl2All, [0x0000_0000_0000_0020, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x20;
    });
    golden!(TlbiEl2All, [0x0000_0000_0000_0020, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x20;
    });
    assert_eq!(TlbiEl2All::new().0, [0x20, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_asid() {
    golden!(TlbiEl2Asid, [0x9697_0000_0000_0021, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x21;
        asid with_asid "ASID" = 0x9697;
    });
    golden!(TlbiEl2Asid, [0x62e9_0000_0000_0021, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x21;
        asid with_asid "ASID" = 0x62e9;
    });
    assert_eq!(TlbiEl2Asid::new().0, [0x21, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_va() {
    golden!(TlbiEl2Va, [0xad2d_0000_0211_7022, 0xda5a_5a5a_5a5a_5f81], {
        opcode with_opcode "Opcode" = 0x22;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        asid with_asid "ASID" = 0xad2d;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xda5a_5a5a_5a5a_5000;
    });
    golden!(TlbiEl2Va, [0x86cf_0000_02a1_5022, 0x951d_840c_b73e_f680], {
        opcode with_opcode "Opcode" = 0x22;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        asid with_asid "ASID" = 0x86cf;
        leaf with_leaf "Leaf" = false;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1;
        addr with_addr "Addr" = 0x951d_840c_b73e_f000;
    });
    assert_eq!(TlbiEl2Va::new().0, [0x22, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_vaa() {
    golden!(TlbiEl2Vaa, [0x0000_0000_0211_7023, 0xa5a5_a5a5_a5a5_bf81], {
        opcode with_opcode "Opcode" = 0x23;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(TlbiEl2Vaa, [0x0000_0000_02a1_5023, 0x5e35_e35e_35e0_3901], {
        opcode with_opcode "Opcode" = 0x23;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false;
        ttl with_ttl "TTL" = 0x1;
        tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(TlbiEl2Vaa::new().0, [0x23, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s12_vmall() {
    golden!(TlbiS12Vmall, [0x0000_9697_0000_0028, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x28;
        vmid with_vmid "VMID" = 0x9697;
    });
    golden!(TlbiS12Vmall, [0x0000_62e9_0000_0028, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x28;
        vmid with_vmid "VMID" = 0x62e9;
    });
    assert_eq!(TlbiS12Vmall::new().0, [0x28, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s2_ipa() {
    golden!(TlbiS2Ipa, [0x0000_ad2d_0211_702a, 0x00da_5a5a_5a5a_5f01], {
        opcode with_opcode "Opcode" = 0x2a;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        vmid with_vmid "VMID" = 0xad2d;
        leaf with_leaf "Leaf" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0x00da_5a5a_5a5a_5000;
    });
    golden!(TlbiS2Ipa, [0x0000_86cf_02a1_502a, 0x001d_840c_b73e_f600], {
        opcode with_opcode "Opcode" = 0x2a;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        vmid with_vmid "VMID" = 0x86cf;
        leaf with_leaf "Leaf" = false;
        ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1;
        addr with_addr "Addr" = 0x001d_840c_b73e_f000;
    });
    assert_eq!(TlbiS2Ipa::new().0, [0x2a, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nsnh_all() {
    golden!(TlbiNsnhAll, [0x0000_0000_0000_0030, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x30;
    });
    golden!(TlbiNsnhAll, [0x0000_0000_0000_0030, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x30;
    });
    assert_eq!(TlbiNsnhAll::new().0, [0x30, 0]);
}

/// §4.1.
#[test]
fn images_of_atc_inv() {
    golden!(AtcInv, [0xf878_7879_d2d2_da40, 0xf0f0_f0f0_f0f0_f023], {
        opcode with_opcode "Opcode" = 0x40;
        global with_global "G" = true;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0xd2d2d;
        sid with_sid "SID" = 0xf8787879;
        size with_size "Size" = 0x23;
        addr with_addr "Addr" = 0xf0f0_f0f0_f0f0_f000;
    });
    golden!(AtcInv, [0x6918_0b23_386c_f240, 0x7da0_97da_097c_d015], {
        opcode with_opcode "Opcode" = 0x40;
        global with_global "G" = true;
        ssv with_ssv "SSV" = false;
        ssid with_ssid "SSID" = 0x386cf;
        sid with_sid "SID" = 0x69180b23;
        size with_size "Size" = 0x15;
        addr with_addr "Addr" = 0x7da0_97da_097c_d000;
    });
    assert_eq!(AtcInv::new().0, [0x40, 0]);
}

/// §4.1.
#[test]
fn images_of_pri_resp() {
    golden!(PriResp, [0xad2d_2d2d_9e1e_1841, 0x0000_0000_0000_3179], {
        opcode with_opcode "Opcode" = 0x41;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0x9e1e1;
        sid with_sid "SID" = 0xad2d2d2d;
        prg_index with_prg_index "PRGIndex" = 0x179;
        resp with_resp "Resp" = 0x3;
    });
    golden!(PriResp, [0x6f53_86cf_1af0_1841, 0x0000_0000_0000_1123], {
        opcode with_opcode "Opcode" = 0x41;
        ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0x1af01;
        sid with_sid "SID" = 0x6f5386cf;
        prg_index with_prg_index "PRGIndex" = 0x123;
        resp with_resp "Resp" = 0x1;
    });
    assert_eq!(PriResp::new().0, [0x41, 0]);
}

/// §4.1.
#[test]
fn images_of_resume() {
    golden!(Resume, [0xf878_7879_0000_3444, 0x0000_0000_0000_c3c3], {
        opcode with_opcode "Opcode" = 0x44;
        ssec with_ssec "SSec" = true;
        ac with_ac "Ac" = true;
        ab with_ab "Ab" = true;
        sid with_sid "SID" = 0xf8787879;
        stag with_stag "STAG" = 0xc3c3;
    });
    golden!(Resume, [0x6918_0b23_0000_2444, 0x0000_0000_0000_3a2d], {
        opcode with_opcode "Opcode" = 0x44;
        ssec with_ssec "SSec" = true;
        ac with_ac "Ac" = false;
        ab with_ab "Ab" = true;
        sid with_sid "SID" = 0x69180b23;
        stag with_stag "STAG" = 0x3a2d;
    });
    assert_eq!(Resume::new().0, [0x44, 0]);
}

/// §4.1.
#[test]
fn images_of_stall_term() {
    golden!(StallTerm, [0xe1e1_e1e1_0000_0445, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x45;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1;
    });
    golden!(StallTerm, [0x1af1_af01_0000_0445, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x45;
        ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01;
    });
    assert_eq!(StallTerm::new().0, [0x45, 0]);
}

/// §4.1.
#[test]
fn images_of_sync() {
    golden!(Sync, [0xf878_7879_0bc0_3046, 0x008f_0f0f_0f0f_0f0c], {
        opcode with_opcode "Opcode" = 0x46;
        cs with_cs "CS" = 0x3;
        msh with_msh "MSH" = 0x3;
        msi_attr with_msi_attr "MSIAttr" = 0xb;
        msi_data with_msi_data "MSIData" = 0xf8787879;
        msi_addr with_msi_addr "MSIAddr" = 0x008f_0f0f_0f0f_0f0c;
    });
    golden!(Sync, [0x6918_0b23_0580_1046, 0x003d_f9a4_602c_e8b4], {
        opcode with_opcode "Opcode" = 0x46;
        cs with_cs "CS" = 0x1;
        msh with_msh "MSH" = 0x2;
        msi_attr with_msi_attr "MSIAttr" = 0x5;
        msi_data with_msi_data "MSIData" = 0x69180b23;
        msi_addr with_msi_addr "MSIAddr" = 0x003d_f9a4_602c_e8b4;
    });
    assert_eq!(Sync::new().0, [0x46, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_all() {
    golden!(TlbiSEl2All, [0x0000_0000_0000_0050, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x50;
    });
    golden!(TlbiSEl2All, [0x0000_0000_0000_0050, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x50;
    });
    assert_eq!(TlbiSEl2All::new().0, [0x50, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_asid() {
    golden!(TlbiSEl2Asid, [0x9697_0000_0000_0051, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x51;
        asid with_asid "ASID" = 0x9697;
    });
    golden!(TlbiSEl2Asid, [0x62e9_0000_0000_0051, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x51;
        asid with_asid "ASID" = 0x62e9;
    });
    assert_eq!(TlbiSEl2Asid::new().0, [0x51, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_va() {
    golden!(TlbiSEl2Va, [0xad2d_0000_0211_7052, 0xda5a_5a5a_5a5a_5f81], {
        opcode with_opcode "Opcode" = 0x52;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        asid with_asid "ASID" = 0xad2d;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xda5a_5a5a_5a5a_5000;
    });
    golden!(TlbiSEl2Va, [0x86cf_0000_02a1_5052, 0x951d_840c_b73e_f680], {
        opcode with_opcode "Opcode" = 0x52;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        asid with_asid "ASID" = 0x86cf;
        leaf with_leaf "Leaf" = false;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1;
        addr with_addr "Addr" = 0x951d_840c_b73e_f000;
    });
    assert_eq!(TlbiSEl2Va::new().0, [0x52, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_vaa() {
    golden!(TlbiSEl2Vaa, [0x0000_0000_0211_7053, 0xa5a5_a5a5_a5a5_bf81], {
        opcode with_opcode "Opcode" = 0x53;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(TlbiSEl2Vaa, [0x0000_0000_02a1_5053, 0x5e35_e35e_35e0_3901], {
        opcode with_opcode "Opcode" = 0x53;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false;
        ttl with_ttl "TTL" = 0x1;
        tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(TlbiSEl2Vaa::new().0, [0x53, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_s12_vmall() {
    golden!(TlbiSS12Vmall, [0x0000_9697_0000_0058, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x58;
        vmid with_vmid "VMID" = 0x9697;
    });
    golden!(TlbiSS12Vmall, [0x0000_62e9_0000_0058, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x58;
        vmid with_vmid "VMID" = 0x62e9;
    });
    assert_eq!(TlbiSS12Vmall::new().0, [0x58, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_s2_ipa() {
    golden!(TlbiSS2Ipa, [0x0000_ad2d_0211_705a, 0x00da_5a5a_5a5a_5f01], {
        opcode with_opcode "Opcode" = 0x5a;
        num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21;
        vmid with_vmid "VMID" = 0xad2d;
        leaf with_leaf "Leaf" = true;
        ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0x00da_5a5a_5a5a_5000;
    });
    golden!(TlbiSS2Ipa, [0x0000_86cf_02a1_505a, 0x001d_840c_b73e_f600], {
        opcode with_opcode "Opcode" = 0x5a;
        num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a;
        vmid with_vmid "VMID" = 0x86cf;
        leaf with_leaf "Leaf" = false;
        ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1;
        addr with_addr "Addr" = 0x001d_840c_b73e_f000;
    });
    assert_eq!(TlbiSS2Ipa::new().0, [0x5a, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_snh_all() {
    golden!(TlbiSnhAll, [0x0000_0000_0000_0060, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x60;
    });
    golden!(TlbiSnhAll, [0x0000_0000_0000_0060, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x60;
    });
    assert_eq!(TlbiSnhAll::new().0, [0x60, 0]);
}

/// §4.1.
#[test]
fn images_of_dpti_all() {
    golden!(DptiAll, [0x0000_0000_0000_0070, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x70;
    });
    golden!(DptiAll, [0x0000_0000_0000_0070, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x70;
    });
    assert_eq!(DptiAll::new().0, [0x70, 0]);
}
