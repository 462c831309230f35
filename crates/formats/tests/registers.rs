// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers (§2): offsets, the field tables against the reference's lists, golden images and ID registers
//! of public platforms.

mod common;

use common::{Row, differences, disorder, expect_none};
use smmuv3_formats::Layout;
use smmuv3_formats::register::*;

/// Every difference of a register's table and offset from the reference.
fn check<T: Layout>(
    offset: (u32, u32),
    bits: u32,
    required: &[Row],
    optional: &[Row],
) -> Vec<String> {
    let mut found = differences(T::NAME, T::FIELDS, required, optional);
    found.extend(disorder(T::NAME, T::FIELDS, 1, bits));
    if offset.0 != offset.1 {
        found.push(format!("{}: at {:#x}, not {:#x}", T::NAME, offset.0, offset.1));
    }
    if T::WORDS != 1 {
        found.push(format!("{}: {} words", T::NAME, T::WORDS));
    }
    found
}

macro_rules! check {
    ($t:ident $bits:literal $name:literal at $offset:literal: $required:expr, $optional:expr) => {{
        assert_eq!($t::NAME, $name);
        assert_eq!(size_of::<$t>() * 8, $bits, "width of {}", $name);
        check::<$t>(($t::OFFSET, $offset), $bits, $required, $optional)
    }};
}

#[test]
fn identification_registers_have_the_listed_fields() {
    let mut found = Vec::new();
    found.extend(check!(Idr0 32 "IDR0" at 0x00000: &[("S2P", 0, 0, 0), ("S1P", 0, 1, 1), ("TTF", 0, 3, 2), ("COHACC", 0, 4, 4), ("BTM", 0, 5, 5), ("HTTU", 0, 7, 6), ("DORMHINT", 0, 8, 8), ("Hyp", 0, 9, 9), ("ATS", 0, 10, 10), ("NS1ATS", 0, 11, 11), ("ASID16", 0, 12, 12), ("MSI", 0, 13, 13), ("SEV", 0, 14, 14), ("ATOS", 0, 15, 15), ("PRI", 0, 16, 16), ("VMW", 0, 17, 17), ("VMID16", 0, 18, 18), ("CD2L", 0, 19, 19), ("VATOS", 0, 20, 20), ("TTENDIAN", 0, 22, 21), ("ATSRECERR", 0, 23, 23), ("STALL_MODEL", 0, 25, 24), ("TERM_MODEL", 0, 26, 26), ("ST_LEVEL", 0, 28, 27), ("RME_IMPL", 0, 30, 30)], &[]));
    found.extend(check!(Idr1 32 "IDR1" at 0x00004: &[("SIDSIZE", 0, 5, 0), ("SSIDSIZE", 0, 10, 6), ("PRIQS", 0, 15, 11), ("EVENTQS", 0, 20, 16), ("CMDQS", 0, 25, 21), ("ATTR_PERMS_OVR", 0, 26, 26), ("ATTR_TYPES_OVR", 0, 27, 27), ("REL", 0, 28, 28), ("QUEUES_PRESET", 0, 29, 29), ("TABLES_PRESET", 0, 30, 30), ("ECMDQ", 0, 31, 31)], &[]));
    found.extend(check!(Idr2 32 "IDR2" at 0x00008: &[("BA_VATOS", 0, 9, 0)], &[]));
    found.extend(check!(Idr3 32 "IDR3" at 0x0000c: &[("HAD", 0, 2, 2), ("PBHA", 0, 3, 3), ("XNX", 0, 4, 4), ("PPS", 0, 5, 5), ("MPAM", 0, 7, 7), ("FWB", 0, 8, 8), ("STT", 0, 9, 9), ("RIL", 0, 10, 10), ("BBML", 0, 12, 11), ("E0PD", 0, 13, 13), ("PTWNNC", 0, 14, 14), ("DPT", 0, 15, 15), ("PASIDTT", 0, 16, 16), ("EPAN", 0, 17, 17), ("S1PI", 0, 18, 18), ("S2PI", 0, 19, 19), ("S2PO", 0, 20, 20), ("THE", 0, 21, 21), ("MTEPERM", 0, 22, 22), ("AIE", 0, 23, 23)], &[]));
    found.extend(check!(Idr4 32 "IDR4" at 0x00010: &[], &[("IMPDEF", 0, 31, 0)]));
    found.extend(check!(Idr5 32 "IDR5" at 0x00014: &[("OAS", 0, 2, 0), ("GRAN4K", 0, 4, 4), ("GRAN16K", 0, 5, 5), ("GRAN64K", 0, 6, 6), ("DS", 0, 7, 7), ("D128", 0, 8, 8), ("VAX", 0, 11, 10), ("STALL_MAX", 0, 31, 16)], &[]));
    found.extend(check!(Idr6 32 "IDR6" at 0x00190: &[("CMDQ_CONTROL_PAGE_LOG2NUMQ", 0, 19, 16), ("CMDQ_CONTROL_PAGE_LOG2NUMP", 0, 27, 24)], &[]));
    found.extend(check!(Iidr 32 "IIDR" at 0x00018: &[("Implementer", 0, 11, 0), ("Revision", 0, 15, 12), ("Variant", 0, 19, 16), ("ProductID", 0, 31, 20)], &[]));
    found.extend(check!(Aidr 32 "AIDR" at 0x0001c: &[("ArchMinorRev", 0, 3, 0), ("ArchMajorRev", 0, 7, 4)], &[]));
    expect_none(found);
}

#[test]
fn control_registers_have_the_listed_fields() {
    let mut found = Vec::new();
    found.extend(check!(Cr0 32 "CR0" at 0x00020: &[("SMMUEN", 0, 0, 0), ("PRIQEN", 0, 1, 1), ("EVENTQEN", 0, 2, 2), ("CMDQEN", 0, 3, 3), ("ATSCHK", 0, 4, 4), ("VMW", 0, 8, 6), ("DPT_WALK_EN", 0, 10, 10)], &[]));
    found.extend(check!(Cr0Ack 32 "CR0ACK" at 0x00024: &[("SMMUEN", 0, 0, 0), ("PRIQEN", 0, 1, 1), ("EVENTQEN", 0, 2, 2), ("CMDQEN", 0, 3, 3), ("ATSCHK", 0, 4, 4), ("VMW", 0, 8, 6), ("DPT_WALK_EN", 0, 10, 10)], &[]));
    found.extend(check!(Cr1 32 "CR1" at 0x00028: &[("QUEUE_IC", 0, 1, 0), ("QUEUE_OC", 0, 3, 2), ("QUEUE_SH", 0, 5, 4), ("TABLE_IC", 0, 7, 6), ("TABLE_OC", 0, 9, 8), ("TABLE_SH", 0, 11, 10)], &[]));
    found.extend(check!(Cr2 32 "CR2" at 0x0002c: &[("E2H", 0, 0, 0), ("RECINVSID", 0, 1, 1), ("PTM", 0, 2, 2), ("REC_CFG_ATS", 0, 3, 3)], &[]));
    found.extend(check!(Statusr 32 "STATUSR" at 0x00040: &[("DORMANT", 0, 0, 0)], &[]));
    found.extend(check!(Gbpa 32 "GBPA" at 0x00044: &[("MemAttr", 0, 3, 0), ("MTCFG", 0, 4, 4), ("ALLOCCFG", 0, 11, 8), ("SHCFG", 0, 13, 12), ("PRIVCFG", 0, 17, 16), ("INSTCFG", 0, 19, 18), ("ABORT", 0, 20, 20), ("Update", 0, 31, 31)], &[]));
    found.extend(check!(Agbpa 32 "AGBPA" at 0x00048: &[], &[("IMPDEF", 0, 31, 0)]));
    found.extend(check!(IrqCtrl 32 "IRQ_CTRL" at 0x00050: &[("GERROR_IRQEN", 0, 0, 0), ("PRIQ_IRQEN", 0, 1, 1), ("EVENTQ_IRQEN", 0, 2, 2)], &[]));
    found.extend(check!(IrqCtrlAck 32 "IRQ_CTRLACK" at 0x00054: &[("GERROR_IRQEN", 0, 0, 0), ("PRIQ_IRQEN", 0, 1, 1), ("EVENTQ_IRQEN", 0, 2, 2)], &[]));
    found.extend(check!(Gerror 32 "GERROR" at 0x00060: &[("CMDQ_ERR", 0, 0, 0), ("EVENTQ_ABT_ERR", 0, 2, 2), ("PRIQ_ABT_ERR", 0, 3, 3), ("MSI_CMDQ_ABT_ERR", 0, 4, 4), ("MSI_EVENTQ_ABT_ERR", 0, 5, 5), ("MSI_PRIQ_ABT_ERR", 0, 6, 6), ("MSI_GERROR_ABT_ERR", 0, 7, 7), ("SFM_ERR", 0, 8, 8), ("CMDQP_ERR", 0, 9, 9), ("DPT_ERR", 0, 10, 10)], &[]));
    found.extend(check!(Gerrorn 32 "GERRORN" at 0x00064: &[("CMDQ_ERR", 0, 0, 0), ("EVENTQ_ABT_ERR", 0, 2, 2), ("PRIQ_ABT_ERR", 0, 3, 3), ("MSI_CMDQ_ABT_ERR", 0, 4, 4), ("MSI_EVENTQ_ABT_ERR", 0, 5, 5), ("MSI_PRIQ_ABT_ERR", 0, 6, 6), ("MSI_GERROR_ABT_ERR", 0, 7, 7), ("SFM_ERR", 0, 8, 8), ("CMDQP_ERR", 0, 9, 9), ("DPT_ERR", 0, 10, 10)], &[]));
    expect_none(found);
}

#[test]
fn interrupt_configuration_registers_have_the_listed_fields() {
    let mut found = Vec::new();
    found.extend(check!(GerrorIrqCfg0 64 "GERROR_IRQ_CFG0" at 0x00068: &[("ADDR", 0, 55, 2)], &[]));
    found.extend(check!(GerrorIrqCfg1 32 "GERROR_IRQ_CFG1" at 0x00070: &[("DATA", 0, 31, 0)], &[]));
    found.extend(check!(GerrorIrqCfg2 32 "GERROR_IRQ_CFG2" at 0x00074: &[("MemAttr", 0, 3, 0), ("SH", 0, 5, 4)], &[]));
    found.extend(check!(EventqIrqCfg0 64 "EVENTQ_IRQ_CFG0" at 0x000b0: &[("ADDR", 0, 55, 2)], &[]));
    found.extend(check!(EventqIrqCfg1 32 "EVENTQ_IRQ_CFG1" at 0x000b8: &[("DATA", 0, 31, 0)], &[]));
    found.extend(check!(EventqIrqCfg2 32 "EVENTQ_IRQ_CFG2" at 0x000bc: &[("MemAttr", 0, 3, 0), ("SH", 0, 5, 4)], &[]));
    found.extend(check!(PriqIrqCfg0 64 "PRIQ_IRQ_CFG0" at 0x000d0: &[("ADDR", 0, 55, 2)], &[]));
    found.extend(check!(PriqIrqCfg1 32 "PRIQ_IRQ_CFG1" at 0x000d8: &[("DATA", 0, 31, 0)], &[]));
    found.extend(check!(PriqIrqCfg2 32 "PRIQ_IRQ_CFG2" at 0x000dc: &[("MemAttr", 0, 3, 0), ("SH", 0, 5, 4), ("LO", 0, 31, 31)], &[]));
    expect_none(found);
}

#[test]
fn table_and_queue_registers_have_the_listed_fields() {
    let mut found = Vec::new();
    found.extend(check!(StrtabBase 64 "STRTAB_BASE" at 0x00080: &[("ADDR", 0, 55, 6), ("RA", 0, 62, 62)], &[]));
    found.extend(check!(StrtabBaseCfg 32 "STRTAB_BASE_CFG" at 0x00088: &[("LOG2SIZE", 0, 5, 0), ("SPLIT", 0, 10, 6), ("FMT", 0, 17, 16)], &[]));
    found.extend(check!(CmdqBase 64 "CMDQ_BASE" at 0x00090: &[("LOG2SIZE", 0, 4, 0), ("ADDR", 0, 55, 5), ("RA", 0, 62, 62)], &[]));
    found.extend(check!(CmdqProd 32 "CMDQ_PROD" at 0x00098: &[("WR", 0, 19, 0)], &[]));
    found.extend(
        check!(CmdqCons 32 "CMDQ_CONS" at 0x0009c: &[("RD", 0, 19, 0), ("ERR", 0, 30, 24)], &[]),
    );
    found.extend(check!(EventqBase 64 "EVENTQ_BASE" at 0x000a0: &[("LOG2SIZE", 0, 4, 0), ("ADDR", 0, 55, 5), ("WA", 0, 62, 62)], &[]));
    found.extend(check!(EventqProd 32 "EVENTQ_PROD" at 0x100a8: &[("WR", 0, 19, 0), ("OVFLG", 0, 31, 31)], &[]));
    found.extend(check!(EventqCons 32 "EVENTQ_CONS" at 0x100ac: &[("RD", 0, 19, 0), ("OVACKFLG", 0, 31, 31)], &[]));
    found.extend(check!(PriqBase 64 "PRIQ_BASE" at 0x000c0: &[("LOG2SIZE", 0, 4, 0), ("ADDR", 0, 55, 5), ("WA", 0, 62, 62)], &[]));
    found.extend(
        check!(PriqProd 32 "PRIQ_PROD" at 0x100c8: &[("WR", 0, 19, 0), ("OVFLG", 0, 31, 31)], &[]),
    );
    found.extend(check!(PriqCons 32 "PRIQ_CONS" at 0x100cc: &[("RD", 0, 19, 0), ("OVACKFLG", 0, 31, 31)], &[]));
    expect_none(found);
}

#[test]
fn address_translation_operation_registers_have_the_listed_fields() {
    let mut found = Vec::new();
    found.extend(check!(GatosCtrl 32 "GATOS_CTRL" at 0x00100: &[("RUN", 0, 0, 0)], &[]));
    found.extend(check!(GatosSid 64 "GATOS_SID" at 0x00108: &[("STREAMID", 0, 31, 0), ("SUBSTREAMID", 0, 51, 32), ("SSID_VALID", 0, 52, 52)], &[]));
    found.extend(check!(GatosAddr 64 "GATOS_ADDR" at 0x00110: &[("HTTUI", 0, 6, 6), ("InD", 0, 7, 7), ("RnW", 0, 8, 8), ("PnU", 0, 9, 9), ("TYPE", 0, 11, 10), ("ADDR", 0, 63, 12)], &[]));
    found.extend(check!(GatosPar 64 "GATOS_PAR" at 0x00118: &[("FAULT", 0, 0, 0), ("SH", 0, 9, 8), ("Size", 0, 11, 11), ("ADDR", 0, 55, 12), ("ATTR", 0, 63, 56)], &[]));
    found.extend(check!(GatosParFault 64 "GATOS_PAR (fault)" at 0x00118: &[("FAULT", 0, 0, 0), ("REASON", 0, 2, 1), ("FAULTCODE", 0, 11, 4), ("FADDR", 0, 55, 12)], &[]));
    found.extend(check!(VatosCtrl 32 "VATOS_CTRL" at 0xa00: &[("RUN", 0, 0, 0)], &[]));
    found.extend(check!(VatosSid 64 "VATOS_SID" at 0xa08: &[("STREAMID", 0, 31, 0), ("SUBSTREAMID", 0, 51, 32), ("SSID_VALID", 0, 52, 52)], &[]));
    found.extend(check!(VatosAddr 64 "VATOS_ADDR" at 0xa10: &[("HTTUI", 0, 6, 6), ("InD", 0, 7, 7), ("RnW", 0, 8, 8), ("PnU", 0, 9, 9), ("TYPE", 0, 11, 10), ("ADDR", 0, 63, 12)], &[]));
    found.extend(check!(VatosPar 64 "VATOS_PAR" at 0xa18: &[("FAULT", 0, 0, 0), ("SH", 0, 9, 8), ("Size", 0, 11, 11), ("ADDR", 0, 55, 12), ("ATTR", 0, 63, 56)], &[]));
    found.extend(check!(VatosParFault 64 "VATOS_PAR (fault)" at 0xa18: &[("FAULT", 0, 0, 0), ("REASON", 0, 2, 1), ("FAULTCODE", 0, 11, 4), ("FADDR", 0, 55, 12)], &[]));
    found.extend(check!(VatosSel 32 "VATOS_SEL" at 0x00180: &[("VMID", 0, 15, 0)], &[]));
    expect_none(found);
}

#[test]
fn enhanced_command_queue_registers_have_the_listed_fields() {
    let mut found = Vec::new();
    found.extend(check!(CmdqControlPageBase 64 "CMDQ_CONTROL_PAGE_BASE0" at 0x04000: &[("CMDQ_CONTROL_PAGE_PRESET", 0, 0, 0), ("CMDQGS", 0, 2, 1), ("ADDR", 0, 55, 16)], &[]));
    found.extend(
        check!(CmdqControlPageCfg 32 "CMDQ_CONTROL_PAGE_CFG0" at 0x04008: &[("EN", 0, 0, 0)], &[]),
    );
    found.extend(check!(CmdqControlPageStatus 32 "CMDQ_CONTROL_PAGE_STATUS0" at 0x0400c: &[("ENACK", 0, 0, 0)], &[]));
    found.extend(check!(EcmdqBase 64 "ECMDQ_BASE" at 0x00000: &[("LOG2SIZE", 0, 4, 0), ("ADDR", 0, 55, 5), ("RA", 0, 62, 62)], &[]));
    found.extend(check!(EcmdqProd 32 "ECMDQ_PROD" at 0x00008: &[("WR", 0, 19, 0), ("ERRACK", 0, 23, 23), ("EN", 0, 31, 31)], &[]));
    found.extend(check!(PmcgEvtyper 32 "PMCG_EVTYPER0" at 0x00400: &[("EVENT", 0, 15, 0), ("FILTER_SID_SPAN", 0, 29, 29)], &[]));
    found.extend(check!(PmcgSmr 32 "PMCG_SMR0" at 0x00a00: &[("STREAMID", 0, 31, 0)], &[]));
    found.extend(check!(PmcgCfgr 32 "PMCG_CFGR" at 0x00e00: &[("NCTR", 0, 5, 0), ("SIZE", 0, 13, 8), ("RELOC_CTRS", 0, 20, 20), ("MSI", 0, 21, 21), ("CAPTURE", 0, 22, 22), ("SID_FILTER_TYPE", 0, 23, 23)], &[]));
    found.extend(check!(PmcgCr 32 "PMCG_CR" at 0x00e04: &[("E", 0, 0, 0)], &[]));
    found.extend(check!(PmcgIrqCtrl 32 "PMCG_IRQ_CTRL" at 0x00e50: &[("IRQEN", 0, 0, 0)], &[]));
    found.extend(
        check!(PmcgIrqCtrlAck 32 "PMCG_IRQ_CTRLACK" at 0x00e54: &[("IRQEN", 0, 0, 0)], &[]),
    );
    found.extend(check!(PmcgIrqCfg0 64 "PMCG_IRQ_CFG0" at 0x00e58: &[("ADDR", 0, 55, 2)], &[]));
    found.extend(check!(EcmdqCons 32 "ECMDQ_CONS" at 0x0000c: &[("RD", 0, 19, 0), ("ERR", 0, 23, 23), ("ERR_REASON", 0, 26, 24), ("ENACK", 0, 31, 31)], &[]));
    expect_none(found);
}

/// §2.2: the VATOS page follows the two fixed pages and BA_VATOS others.
#[test]
fn the_vatos_page_is_where_idr2_says() {
    assert_eq!(vatos_page(Idr2(0).ba_vatos()), 0x2_0000);
    assert_eq!(vatos_page(Idr2(3).ba_vatos()), 0x5_0000);
    assert_eq!(vatos_page(Idr2(u32::MAX).ba_vatos()), 0x2_0000 + 0x3ff * 0x1_0000);
}

/// §2.2: registers that are known by address alone, and the identification that all implementations show.
#[test]
fn registers_without_fields_are_at_the_listed_offsets() {
    let [s2pii, mpamidr, gmpam, gbpmpam] =
        [offset::S2PII, offset::MPAMIDR, offset::GMPAM, offset::GBPMPAM];
    assert_eq!([s2pii, mpamidr, gmpam, gbpmpam], [0x30, 0x130, 0x138, 0x13c]);
    assert_eq!(
        [offset::DPT_BASE, offset::DPT_BASE_CFG, offset::DPT_CFG_FAR],
        [0x200, 0x208, 0x210]
    );
    assert_eq!((offset::PIDR4, offset::PIDR), (0xfd0, [0xfe0, 0xfe4, 0xfe8, 0xfec]));
    assert_eq!(offset::CIDR, [0xff0, 0xff4, 0xff8, 0xffc]);
    assert_eq!(offset::CIDR_VALUES, [0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!(CONTROL_PAGE_STRIDE, 32);
}

/// §2.3: codes of output sizes, both ways.
#[test]
fn output_size_codes_stand_for_32_to_56_bits() {
    let sizes = [(0, 32), (1, 36), (2, 40), (3, 42), (4, 44), (5, 48), (6, 52), (7, 56)];
    for (code, bits) in sizes {
        assert_eq!(address_bits(code), Some(bits));
        assert_eq!(address_size_code(bits), Some(code));
        assert_eq!(address_size_code_for(bits), Some(code));
        // All of them, and one bit more takes the next.
        assert_eq!(address_size_code_for(bits + 1), (code < 7).then_some(code + 1));
    }
    assert_eq!([1, 39, 47, 57].map(address_size_code_for), [Some(0), Some(2), Some(5), None]);
    assert_eq!(address_bits(8), None);
    assert_eq!(address_size_code(31), None);
    assert_eq!(address_size_code(39), Some(1));
    assert_eq!(address_size_code(43), Some(3));
    assert_eq!(address_size_code(64), Some(7));
}

/// §3.2: the codes of CMDQ_CONS.ERR.
#[test]
fn command_queue_error_codes() {
    assert_eq!([cerror::NONE, cerror::ILL, cerror::ABT, cerror::ATC_INV_SYNC], [0, 1, 2, 3]);
    let names = [0, 1, 2, 3, 4].map(cerror::name);
    let known = ["CERROR_NONE", "CERROR_ILL", "CERROR_ABT", "CERROR_ATC_INV_SYNC"].map(Some);
    assert_eq!((&names[..4], names[4]), (&known[..], None));
}

/// The ID registers that QEMU 10.0 and 11.1 show with both stages, and what they mean.
#[test]
fn the_id_registers_of_qemu_decode() {
    let idr0 = Idr0(0x0d44_101b);
    assert!(idr0.s1p() && idr0.s2p() && idr0.cohacc() && idr0.asid16() && idr0.vmid16());
    assert_eq!((idr0.ttf(), idr0.httu(), idr0.ttendian()), (2, 0, 2));
    assert_eq!((idr0.stall_model(), idr0.term_model(), idr0.st_level()), (1, true, 1));
    let absent = [
        idr0.btm(),
        idr0.hyp(),
        idr0.ats(),
        idr0.ns1ats(),
        idr0.msi(),
        idr0.sev(),
        idr0.atos(),
        idr0.pri(),
        idr0.vmw(),
        idr0.cd2l(),
        idr0.vatos(),
        idr0.dormhint(),
        idr0.atsrecerr(),
        idr0.rme_impl(),
    ];
    assert_eq!(absent, [false; 14]);

    let idr1 = Idr1(0x0273_0010);
    assert_eq!((idr1.sidsize(), idr1.ssidsize()), (16, 0));
    assert_eq!((idr1.cmdqs(), idr1.eventqs(), idr1.priqs()), (19, 19, 0));
    let absent = [
        idr1.attr_perms_ovr(),
        idr1.attr_types_ovr(),
        idr1.rel(),
        idr1.queues_preset(),
        idr1.tables_preset(),
        idr1.ecmdq(),
    ];
    assert_eq!(absent, [false; 6]);

    let idr3 = Idr3(0x1414);
    assert!(idr3.had() && idr3.xnx() && idr3.ril());
    assert_eq!((idr3.bbml(), idr3.stt(), idr3.pps(), idr3.fwb()), (2, false, false, false));

    let idr5 = Idr5(0x74);
    assert_eq!(address_bits(idr5.oas()), Some(44));
    assert!(idr5.gran4k() && idr5.gran16k() && idr5.gran64k());
    assert_eq!((idr5.vax(), idr5.stall_max(), idr5.ds()), (0, 0, false));
    assert_eq!((Aidr(1).minor(), Aidr(1).major()), (1, 0));
    assert_eq!(Gbpa(0x1000), Gbpa::default().with_sh_cfg(1));
}

/// The stages that QEMU offers by property, and by version.
#[test]
fn the_stages_of_qemu_decode() {
    let stages = |value| (Idr0(value).s1p(), Idr0(value).s2p());
    assert_eq!(stages(0x0d44_101a), (true, false));
    assert_eq!(stages(0x0d44_1019), (false, true));
    assert_eq!(stages(0x0d44_101b), (true, true));
    assert_eq!(stages(0x0d40_101a), (true, false));
    assert!(!Idr0(0x0d40_101a).vmid16());
    assert!(!Idr3(0x1404).xnx() && Idr3(0x1414).xnx());
}

/// QEMU keeps only the bits of CR0 that it knows: ffffffff reads back as 5df.
#[test]
fn the_bits_of_cr0_that_qemu_keeps_are_its_fields() {
    let cr0 = Cr0(0x5df);
    assert!(cr0.smmuen() && cr0.priqen() && cr0.eventqen() && cr0.cmdqen() && cr0.atschk());
    assert_eq!((cr0.vmw(), cr0.dpt_walk_en()), (7, true));
    let all = Cr0::FIELDS.iter().fold(0, |bits, field| bits | field.mask());
    assert_eq!(all, 0x5df);
}
