// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers (§2): offsets, the field tables against the reference's lists, golden images and ID registers
//! of public platforms.

mod common;

use common::{Row, differences, disorder, expect_none, golden, words};
use smmuv3_formats::Layout;
use smmuv3_formats::register::*;

words!(u32: Idr0, Idr1, Idr2, Idr3, Idr4, Idr5, Idr6, Iidr, Aidr, Cr0, Cr0Ack, Cr1, Cr2, Statusr, Gbpa, IrqCtrl, IrqCtrlAck, Gerror, Gerrorn, GerrorIrqCfg1, GerrorIrqCfg2, EventqIrqCfg1, EventqIrqCfg2, PriqIrqCfg1, PriqIrqCfg2, StrtabBaseCfg, CmdqProd, CmdqCons, EventqProd, EventqCons, PriqProd, PriqCons, GatosCtrl, VatosSel, CmdqControlPageCfg, CmdqControlPageStatus, EcmdqProd, EcmdqCons);
words!(u64: GerrorIrqCfg0, EventqIrqCfg0, PriqIrqCfg0, StrtabBase, CmdqBase, EventqBase, PriqBase, GatosSid, GatosAddr, GatosPar, GatosParFault, CmdqControlPageBase);

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
    found.extend(check!(EcmdqProd 32 "ECMDQ_PROD" at 0x00008: &[("WR", 0, 19, 0), ("ERRACK", 0, 23, 23), ("EN", 0, 31, 31)], &[]));
    found.extend(check!(EcmdqCons 32 "ECMDQ_CONS" at 0x0000c: &[("RD", 0, 19, 0), ("ERR", 0, 23, 23), ("ERR_REASON", 0, 26, 24), ("ENACK", 0, 31, 31)], &[]));
    expect_none(found);
}

#[test]
fn images_of_idr0() {
    golden!(Idr0, [0x5fff_ffff], {
        s2p with_s2p "S2P" = true;
        s1p with_s1p "S1P" = true;
        ttf with_ttf "TTF" = 0x3;
        cohacc with_cohacc "COHACC" = true;
        btm with_btm "BTM" = true;
        httu with_httu "HTTU" = 0x3;
        dormhint with_dormhint "DORMHINT" = true;
        hyp with_hyp "Hyp" = true;
        ats with_ats "ATS" = true;
        ns1ats with_ns1ats "NS1ATS" = true;
        asid16 with_asid16 "ASID16" = true;
        msi with_msi "MSI" = true;
        sev with_sev "SEV" = true;
        atos with_atos "ATOS" = true;
        pri with_pri "PRI" = true;
        vmw with_vmw "VMW" = true;
        vmid16 with_vmid16 "VMID16" = true;
        cd2l with_cd2l "CD2L" = true;
        vatos with_vatos "VATOS" = true;
        ttendian with_ttendian "TTENDIAN" = 0x3;
        atsrecerr with_atsrecerr "ATSRECERR" = true;
        stall_model with_stall_model "STALL_MODEL" = 0x3;
        term_model with_term_model "TERM_MODEL" = true;
        st_level with_st_level "ST_LEVEL" = 0x3;
        rme_impl with_rme_impl "RME_IMPL" = true;
    });
    golden!(Idr0, [0x092a_aa5a], {
        s2p with_s2p "S2P" = false;
        s1p with_s1p "S1P" = true;
        ttf with_ttf "TTF" = 0x2;
        cohacc with_cohacc "COHACC" = true;
        btm with_btm "BTM" = false;
        httu with_httu "HTTU" = 0x1;
        dormhint with_dormhint "DORMHINT" = false;
        hyp with_hyp "Hyp" = true;
        ats with_ats "ATS" = false;
        ns1ats with_ns1ats "NS1ATS" = true;
        asid16 with_asid16 "ASID16" = false;
        msi with_msi "MSI" = true;
        sev with_sev "SEV" = false;
        atos with_atos "ATOS" = true;
        pri with_pri "PRI" = false;
        vmw with_vmw "VMW" = true;
        vmid16 with_vmid16 "VMID16" = false;
        cd2l with_cd2l "CD2L" = true;
        vatos with_vatos "VATOS" = false;
        ttendian with_ttendian "TTENDIAN" = 0x1;
        atsrecerr with_atsrecerr "ATSRECERR" = false;
        stall_model with_stall_model "STALL_MODEL" = 0x1;
        term_model with_term_model "TERM_MODEL" = false;
        st_level with_st_level "ST_LEVEL" = 0x1;
        rme_impl with_rme_impl "RME_IMPL" = false;
    });
}

#[test]
fn images_of_idr1() {
    golden!(Idr1, [0xff3d_8deb], {
        sidsize with_sidsize "SIDSIZE" = 0x2b;
        ssidsize with_ssidsize "SSIDSIZE" = 0x17;
        priqs with_priqs "PRIQS" = 0x11;
        eventqs with_eventqs "EVENTQS" = 0x1d;
        cmdqs with_cmdqs "CMDQS" = 0x19;
        attr_perms_ovr with_attr_perms_ovr "ATTR_PERMS_OVR" = true;
        attr_types_ovr with_attr_types_ovr "ATTR_TYPES_OVR" = true;
        rel with_rel "REL" = true;
        queues_preset with_queues_preset "QUEUES_PRESET" = true;
        tables_preset with_tables_preset "TABLES_PRESET" = true;
        ecmdq with_ecmdq "ECMDQ" = true;
    });
    golden!(Idr1, [0x5555_556a], {
        sidsize with_sidsize "SIDSIZE" = 0x2a;
        ssidsize with_ssidsize "SSIDSIZE" = 0x15;
        priqs with_priqs "PRIQS" = 0xa;
        eventqs with_eventqs "EVENTQS" = 0x15;
        cmdqs with_cmdqs "CMDQS" = 0xa;
        attr_perms_ovr with_attr_perms_ovr "ATTR_PERMS_OVR" = true;
        attr_types_ovr with_attr_types_ovr "ATTR_TYPES_OVR" = false;
        rel with_rel "REL" = true;
        queues_preset with_queues_preset "QUEUES_PRESET" = false;
        tables_preset with_tables_preset "TABLES_PRESET" = true;
        ecmdq with_ecmdq "ECMDQ" = false;
    });
}

#[test]
fn images_of_idr2() {
    golden!(Idr2, [0x0000_034b], {
        ba_vatos with_ba_vatos "BA_VATOS" = 0x34b;
    });
    golden!(Idr2, [0x0000_0367], {
        ba_vatos with_ba_vatos "BA_VATOS" = 0x367;
    });
}

#[test]
fn images_of_idr3() {
    golden!(Idr3, [0x00ff_ffbc], {
        had with_had "HAD" = true;
        pbha with_pbha "PBHA" = true;
        xnx with_xnx "XNX" = true;
        pps with_pps "PPS" = true;
        mpam with_mpam "MPAM" = true;
        fwb with_fwb "FWB" = true;
        stt with_stt "STT" = true;
        ril with_ril "RIL" = true;
        bbml with_bbml "BBML" = 0x3;
        e0pd with_e0pd "E0PD" = true;
        ptwnnc with_ptwnnc "PTWNNC" = true;
        dpt with_dpt "DPT" = true;
        pasidtt with_pasidtt "PASIDTT" = true;
        epan with_epan "EPAN" = true;
        s1pi with_s1pi "S1PI" = true;
        s2pi with_s2pi "S2PI" = true;
        s2po with_s2po "S2PO" = true;
        the with_the "THE" = true;
        mteperm with_mteperm "MTEPERM" = true;
        aie with_aie "AIE" = true;
    });
    golden!(Idr3, [0x00aa_b528], {
        had with_had "HAD" = false;
        pbha with_pbha "PBHA" = true;
        xnx with_xnx "XNX" = false;
        pps with_pps "PPS" = true;
        mpam with_mpam "MPAM" = false;
        fwb with_fwb "FWB" = true;
        stt with_stt "STT" = false;
        ril with_ril "RIL" = true;
        bbml with_bbml "BBML" = 0x2;
        e0pd with_e0pd "E0PD" = true;
        ptwnnc with_ptwnnc "PTWNNC" = false;
        dpt with_dpt "DPT" = true;
        pasidtt with_pasidtt "PASIDTT" = false;
        epan with_epan "EPAN" = true;
        s1pi with_s1pi "S1PI" = false;
        s2pi with_s2pi "S2PI" = true;
        s2po with_s2po "S2PO" = false;
        the with_the "THE" = true;
        mteperm with_mteperm "MTEPERM" = false;
        aie with_aie "AIE" = true;
    });
}

#[test]
fn images_of_idr5() {
    golden!(Idr5, [0xda5b_0df5], {
        oas with_oas "OAS" = 0x5;
        gran4k with_gran4k "GRAN4K" = true;
        gran16k with_gran16k "GRAN16K" = true;
        gran64k with_gran64k "GRAN64K" = true;
        ds with_ds "DS" = true;
        d128 with_d128 "D128" = true;
        vax with_vax "VAX" = 0x3;
        stall_max with_stall_max "STALL_MAX" = 0xda5b;
    });
    golden!(Idr5, [0x5e03_0952], {
        oas with_oas "OAS" = 0x2;
        gran4k with_gran4k "GRAN4K" = true;
        gran16k with_gran16k "GRAN16K" = false;
        gran64k with_gran64k "GRAN64K" = true;
        ds with_ds "DS" = false;
        d128 with_d128 "D128" = true;
        vax with_vax "VAX" = 0x2;
        stall_max with_stall_max "STALL_MAX" = 0x5e03;
    });
}

#[test]
fn images_of_idr6() {
    golden!(Idr6, [0x0b09_0000], {
        log2_num_q with_log2_num_q "CMDQ_CONTROL_PAGE_LOG2NUMQ" = 0x9;
        log2_num_p with_log2_num_p "CMDQ_CONTROL_PAGE_LOG2NUMP" = 0xb;
    });
    golden!(Idr6, [0x050a_0000], {
        log2_num_q with_log2_num_q "CMDQ_CONTROL_PAGE_LOG2NUMQ" = 0xa;
        log2_num_p with_log2_num_p "CMDQ_CONTROL_PAGE_LOG2NUMP" = 0x5;
    });
}

#[test]
fn images_of_iidr() {
    golden!(Iidr, [0xd2d9_bb4b], {
        implementer with_implementer "Implementer" = 0xb4b;
        revision with_revision "Revision" = 0xb;
        variant with_variant "Variant" = 0x9;
        product_id with_product_id "ProductID" = 0xd2d;
    });
    golden!(Iidr, [0x6cfa_5367], {
        implementer with_implementer "Implementer" = 0x367;
        revision with_revision "Revision" = 0x5;
        variant with_variant "Variant" = 0xa;
        product_id with_product_id "ProductID" = 0x6cf;
    });
}

#[test]
fn images_of_aidr() {
    golden!(Aidr, [0x0000_00b9], {
        minor with_minor "ArchMinorRev" = 0x9;
        major with_major "ArchMajorRev" = 0xb;
    });
    golden!(Aidr, [0x0000_005a], {
        minor with_minor "ArchMinorRev" = 0xa;
        major with_major "ArchMajorRev" = 0x5;
    });
}

#[test]
fn images_of_cr0() {
    golden!(Cr0, [0x0000_05df], {
        smmuen with_smmuen "SMMUEN" = true;
        priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = true;
        cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = true;
        vmw with_vmw "VMW" = 0x7;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = true;
    });
    golden!(Cr0, [0x0000_014a], {
        smmuen with_smmuen "SMMUEN" = false;
        priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = false;
        cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = false;
        vmw with_vmw "VMW" = 0x5;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = false;
    });
}

#[test]
fn images_of_cr0ack() {
    golden!(Cr0Ack, [0x0000_05df], {
        smmuen with_smmuen "SMMUEN" = true;
        priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = true;
        cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = true;
        vmw with_vmw "VMW" = 0x7;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = true;
    });
    golden!(Cr0Ack, [0x0000_014a], {
        smmuen with_smmuen "SMMUEN" = false;
        priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = false;
        cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = false;
        vmw with_vmw "VMW" = 0x5;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = false;
    });
}

#[test]
fn images_of_cr1() {
    golden!(Cr1, [0x0000_0fff], {
        queue_ic with_queue_ic "QUEUE_IC" = 0x3;
        queue_oc with_queue_oc "QUEUE_OC" = 0x3;
        queue_sh with_queue_sh "QUEUE_SH" = 0x3;
        table_ic with_table_ic "TABLE_IC" = 0x3;
        table_oc with_table_oc "TABLE_OC" = 0x3;
        table_sh with_table_sh "TABLE_SH" = 0x3;
    });
    golden!(Cr1, [0x0000_0666], {
        queue_ic with_queue_ic "QUEUE_IC" = 0x2;
        queue_oc with_queue_oc "QUEUE_OC" = 0x1;
        queue_sh with_queue_sh "QUEUE_SH" = 0x2;
        table_ic with_table_ic "TABLE_IC" = 0x1;
        table_oc with_table_oc "TABLE_OC" = 0x2;
        table_sh with_table_sh "TABLE_SH" = 0x1;
    });
}

#[test]
fn images_of_cr2() {
    golden!(Cr2, [0x0000_000f], {
        e2h with_e2h "E2H" = true;
        recinvsid with_recinvsid "RECINVSID" = true;
        ptm with_ptm "PTM" = true;
        rec_cfg_ats with_rec_cfg_ats "REC_CFG_ATS" = true;
    });
    golden!(Cr2, [0x0000_000a], {
        e2h with_e2h "E2H" = false;
        recinvsid with_recinvsid "RECINVSID" = true;
        ptm with_ptm "PTM" = false;
        rec_cfg_ats with_rec_cfg_ats "REC_CFG_ATS" = true;
    });
}

#[test]
fn images_of_statusr() {
    golden!(Statusr, [0x0000_0001], {
        dormant with_dormant "DORMANT" = true;
    });
    golden!(Statusr, [0x0000_0000], {
        dormant with_dormant "DORMANT" = false;
    });
}

#[test]
fn images_of_gbpa() {
    golden!(Gbpa, [0x801f_3919], {
        mem_attr with_mem_attr "MemAttr" = 0x9;
        mt_cfg with_mt_cfg "MTCFG" = true;
        alloc_cfg with_alloc_cfg "ALLOCCFG" = 0x9;
        sh_cfg with_sh_cfg "SHCFG" = 0x3;
        priv_cfg with_priv_cfg "PRIVCFG" = 0x3;
        inst_cfg with_inst_cfg "INSTCFG" = 0x3;
        abort with_abort "ABORT" = true;
        update with_update "Update" = true;
    });
    golden!(Gbpa, [0x8006_1a1a], {
        mem_attr with_mem_attr "MemAttr" = 0xa;
        mt_cfg with_mt_cfg "MTCFG" = true;
        alloc_cfg with_alloc_cfg "ALLOCCFG" = 0xa;
        sh_cfg with_sh_cfg "SHCFG" = 0x1;
        priv_cfg with_priv_cfg "PRIVCFG" = 0x2;
        inst_cfg with_inst_cfg "INSTCFG" = 0x1;
        abort with_abort "ABORT" = false;
        update with_update "Update" = true;
    });
}

#[test]
fn images_of_irq_ctrl() {
    golden!(IrqCtrl, [0x0000_0007], {
        gerror with_gerror "GERROR_IRQEN" = true;
        priq with_priq "PRIQ_IRQEN" = true;
        eventq with_eventq "EVENTQ_IRQEN" = true;
    });
    golden!(IrqCtrl, [0x0000_0002], {
        gerror with_gerror "GERROR_IRQEN" = false;
        priq with_priq "PRIQ_IRQEN" = true;
        eventq with_eventq "EVENTQ_IRQEN" = false;
    });
}

#[test]
fn images_of_irq_ctrlack() {
    golden!(IrqCtrlAck, [0x0000_0007], {
        gerror with_gerror "GERROR_IRQEN" = true;
        priq with_priq "PRIQ_IRQEN" = true;
        eventq with_eventq "EVENTQ_IRQEN" = true;
    });
    golden!(IrqCtrlAck, [0x0000_0002], {
        gerror with_gerror "GERROR_IRQEN" = false;
        priq with_priq "PRIQ_IRQEN" = true;
        eventq with_eventq "EVENTQ_IRQEN" = false;
    });
}

#[test]
fn images_of_gerror() {
    golden!(Gerror, [0x0000_07fd], {
        cmdq_err with_cmdq_err "CMDQ_ERR" = true;
        eventq_abt_err with_eventq_abt_err "EVENTQ_ABT_ERR" = true;
        priq_abt_err with_priq_abt_err "PRIQ_ABT_ERR" = true;
        msi_cmdq_abt_err with_msi_cmdq_abt_err "MSI_CMDQ_ABT_ERR" = true;
        msi_eventq_abt_err with_msi_eventq_abt_err "MSI_EVENTQ_ABT_ERR" = true;
        msi_priq_abt_err with_msi_priq_abt_err "MSI_PRIQ_ABT_ERR" = true;
        msi_gerror_abt_err with_msi_gerror_abt_err "MSI_GERROR_ABT_ERR" = true;
        sfm_err with_sfm_err "SFM_ERR" = true;
        cmdqp_err with_cmdqp_err "CMDQP_ERR" = true;
        dpt_err with_dpt_err "DPT_ERR" = true;
    });
    golden!(Gerror, [0x0000_0554], {
        cmdq_err with_cmdq_err "CMDQ_ERR" = false;
        eventq_abt_err with_eventq_abt_err "EVENTQ_ABT_ERR" = true;
        priq_abt_err with_priq_abt_err "PRIQ_ABT_ERR" = false;
        msi_cmdq_abt_err with_msi_cmdq_abt_err "MSI_CMDQ_ABT_ERR" = true;
        msi_eventq_abt_err with_msi_eventq_abt_err "MSI_EVENTQ_ABT_ERR" = false;
        msi_priq_abt_err with_msi_priq_abt_err "MSI_PRIQ_ABT_ERR" = true;
        msi_gerror_abt_err with_msi_gerror_abt_err "MSI_GERROR_ABT_ERR" = false;
        sfm_err with_sfm_err "SFM_ERR" = true;
        cmdqp_err with_cmdqp_err "CMDQP_ERR" = false;
        dpt_err with_dpt_err "DPT_ERR" = true;
    });
}

#[test]
fn images_of_gerrorn() {
    golden!(Gerrorn, [0x0000_07fd], {
        cmdq_err with_cmdq_err "CMDQ_ERR" = true;
        eventq_abt_err with_eventq_abt_err "EVENTQ_ABT_ERR" = true;
        priq_abt_err with_priq_abt_err "PRIQ_ABT_ERR" = true;
        msi_cmdq_abt_err with_msi_cmdq_abt_err "MSI_CMDQ_ABT_ERR" = true;
        msi_eventq_abt_err with_msi_eventq_abt_err "MSI_EVENTQ_ABT_ERR" = true;
        msi_priq_abt_err with_msi_priq_abt_err "MSI_PRIQ_ABT_ERR" = true;
        msi_gerror_abt_err with_msi_gerror_abt_err "MSI_GERROR_ABT_ERR" = true;
        sfm_err with_sfm_err "SFM_ERR" = true;
        cmdqp_err with_cmdqp_err "CMDQP_ERR" = true;
        dpt_err with_dpt_err "DPT_ERR" = true;
    });
    golden!(Gerrorn, [0x0000_0554], {
        cmdq_err with_cmdq_err "CMDQ_ERR" = false;
        eventq_abt_err with_eventq_abt_err "EVENTQ_ABT_ERR" = true;
        priq_abt_err with_priq_abt_err "PRIQ_ABT_ERR" = false;
        msi_cmdq_abt_err with_msi_cmdq_abt_err "MSI_CMDQ_ABT_ERR" = true;
        msi_eventq_abt_err with_msi_eventq_abt_err "MSI_EVENTQ_ABT_ERR" = false;
        msi_priq_abt_err with_msi_priq_abt_err "MSI_PRIQ_ABT_ERR" = true;
        msi_gerror_abt_err with_msi_gerror_abt_err "MSI_GERROR_ABT_ERR" = false;
        sfm_err with_sfm_err "SFM_ERR" = true;
        cmdqp_err with_cmdqp_err "CMDQP_ERR" = false;
        dpt_err with_dpt_err "DPT_ERR" = true;
    });
}

#[test]
fn images_of_gerror_irq_cfg0() {
    golden!(GerrorIrqCfg0, [0x00ad_2d2d_2d2d_2d2c], {
        addr with_addr "ADDR" = 0x00ad_2d2d_2d2d_2d2c;
    });
    golden!(GerrorIrqCfg0, [0x000d_ea70_dea7_0d9c], {
        addr with_addr "ADDR" = 0x000d_ea70_dea7_0d9c;
    });
}

#[test]
fn images_of_gerror_irq_cfg1() {
    golden!(GerrorIrqCfg1, [0xcb4b_4b4b], {
        data with_data "DATA" = 0xcb4b4b4b;
    });
    golden!(GerrorIrqCfg1, [0x37a9_c367], {
        data with_data "DATA" = 0x37a9c367;
    });
}

#[test]
fn images_of_gerror_irq_cfg2() {
    golden!(GerrorIrqCfg2, [0x0000_0039], {
        mem_attr with_mem_attr "MemAttr" = 0x9;
        sh with_sh "SH" = 0x3;
    });
    golden!(GerrorIrqCfg2, [0x0000_001a], {
        mem_attr with_mem_attr "MemAttr" = 0xa;
        sh with_sh "SH" = 0x1;
    });
}

#[test]
fn images_of_eventq_irq_cfg0() {
    golden!(EventqIrqCfg0, [0x00ad_2d2d_2d2d_2d2c], {
        addr with_addr "ADDR" = 0x00ad_2d2d_2d2d_2d2c;
    });
    golden!(EventqIrqCfg0, [0x000d_ea70_dea7_0d9c], {
        addr with_addr "ADDR" = 0x000d_ea70_dea7_0d9c;
    });
}

#[test]
fn images_of_eventq_irq_cfg1() {
    golden!(EventqIrqCfg1, [0xcb4b_4b4b], {
        data with_data "DATA" = 0xcb4b4b4b;
    });
    golden!(EventqIrqCfg1, [0x37a9_c367], {
        data with_data "DATA" = 0x37a9c367;
    });
}

#[test]
fn images_of_eventq_irq_cfg2() {
    golden!(EventqIrqCfg2, [0x0000_0039], {
        mem_attr with_mem_attr "MemAttr" = 0x9;
        sh with_sh "SH" = 0x3;
    });
    golden!(EventqIrqCfg2, [0x0000_001a], {
        mem_attr with_mem_attr "MemAttr" = 0xa;
        sh with_sh "SH" = 0x1;
    });
}

#[test]
fn images_of_priq_irq_cfg0() {
    golden!(PriqIrqCfg0, [0x00ad_2d2d_2d2d_2d2c], {
        addr with_addr "ADDR" = 0x00ad_2d2d_2d2d_2d2c;
    });
    golden!(PriqIrqCfg0, [0x000d_ea70_dea7_0d9c], {
        addr with_addr "ADDR" = 0x000d_ea70_dea7_0d9c;
    });
}

#[test]
fn images_of_priq_irq_cfg1() {
    golden!(PriqIrqCfg1, [0xcb4b_4b4b], {
        data with_data "DATA" = 0xcb4b4b4b;
    });
    golden!(PriqIrqCfg1, [0x37a9_c367], {
        data with_data "DATA" = 0x37a9c367;
    });
}

#[test]
fn images_of_priq_irq_cfg2() {
    golden!(PriqIrqCfg2, [0x8000_0039], {
        mem_attr with_mem_attr "MemAttr" = 0x9;
        sh with_sh "SH" = 0x3;
        lo with_lo "LO" = true;
    });
    golden!(PriqIrqCfg2, [0x0000_001a], {
        mem_attr with_mem_attr "MemAttr" = 0xa;
        sh with_sh "SH" = 0x1;
        lo with_lo "LO" = false;
    });
}

#[test]
fn images_of_strtab_base() {
    golden!(StrtabBase, [0x40d2_d2d2_d2d2_d2c0], {
        addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2c0;
        ra with_ra "RA" = true;
    });
    golden!(StrtabBase, [0x40de_a70d_ea70_d9c0], {
        addr with_addr "ADDR" = 0x00de_a70d_ea70_d9c0;
        ra with_ra "RA" = true;
    });
}

#[test]
fn images_of_strtab_base_cfg() {
    golden!(StrtabBaseCfg, [0x0003_05eb], {
        log2size with_log2size "LOG2SIZE" = 0x2b;
        split with_split "SPLIT" = 0x17;
        fmt with_fmt "FMT" = 0x3;
    });
    golden!(StrtabBaseCfg, [0x0002_056a], {
        log2size with_log2size "LOG2SIZE" = 0x2a;
        split with_split "SPLIT" = 0x15;
        fmt with_fmt "FMT" = 0x2;
    });
}

#[test]
fn images_of_cmdq_base() {
    golden!(CmdqBase, [0x40d2_d2d2_d2d2_d2fb], {
        log2size with_log2size "LOG2SIZE" = 0x1b;
        addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2e0;
        ra with_ra "RA" = true;
    });
    golden!(CmdqBase, [0x0008_196e_7f4c_5d2a], {
        log2size with_log2size "LOG2SIZE" = 0xa;
        addr with_addr "ADDR" = 0x0008_196e_7f4c_5d20;
        ra with_ra "RA" = false;
    });
}

#[test]
fn images_of_cmdq_prod() {
    golden!(CmdqProd, [0x000b_4b4b], {
        wr with_wr "WR" = 0xb4b4b;
    });
    golden!(CmdqProd, [0x0009_c367], {
        wr with_wr "WR" = 0x9c367;
    });
}

#[test]
fn images_of_cmdq_cons() {
    golden!(CmdqCons, [0x570b_4b4b], {
        rd with_rd "RD" = 0xb4b4b;
        err with_err "ERR" = 0x57;
    });
    golden!(CmdqCons, [0x5509_c367], {
        rd with_rd "RD" = 0x9c367;
        err with_err "ERR" = 0x55;
    });
}

#[test]
fn images_of_eventq_base() {
    golden!(EventqBase, [0x40d2_d2d2_d2d2_d2fb], {
        log2size with_log2size "LOG2SIZE" = 0x1b;
        addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2e0;
        wa with_wa "WA" = true;
    });
    golden!(EventqBase, [0x0008_196e_7f4c_5d2a], {
        log2size with_log2size "LOG2SIZE" = 0xa;
        addr with_addr "ADDR" = 0x0008_196e_7f4c_5d20;
        wa with_wa "WA" = false;
    });
}

#[test]
fn images_of_eventq_prod() {
    golden!(EventqProd, [0x800b_4b4b], {
        wr with_wr "WR" = 0xb4b4b;
        ovflg with_ovflg "OVFLG" = true;
    });
    golden!(EventqProd, [0x8009_c367], {
        wr with_wr "WR" = 0x9c367;
        ovflg with_ovflg "OVFLG" = true;
    });
}

#[test]
fn images_of_eventq_cons() {
    golden!(EventqCons, [0x800b_4b4b], {
        rd with_rd "RD" = 0xb4b4b;
        ovackflg with_ovackflg "OVACKFLG" = true;
    });
    golden!(EventqCons, [0x8009_c367], {
        rd with_rd "RD" = 0x9c367;
        ovackflg with_ovackflg "OVACKFLG" = true;
    });
}

#[test]
fn images_of_priq_base() {
    golden!(PriqBase, [0x40d2_d2d2_d2d2_d2fb], {
        log2size with_log2size "LOG2SIZE" = 0x1b;
        addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2e0;
        wa with_wa "WA" = true;
    });
    golden!(PriqBase, [0x0008_196e_7f4c_5d2a], {
        log2size with_log2size "LOG2SIZE" = 0xa;
        addr with_addr "ADDR" = 0x0008_196e_7f4c_5d20;
        wa with_wa "WA" = false;
    });
}

#[test]
fn images_of_priq_prod() {
    golden!(PriqProd, [0x800b_4b4b], {
        wr with_wr "WR" = 0xb4b4b;
        ovflg with_ovflg "OVFLG" = true;
    });
    golden!(PriqProd, [0x8009_c367], {
        wr with_wr "WR" = 0x9c367;
        ovflg with_ovflg "OVFLG" = true;
    });
}

#[test]
fn images_of_priq_cons() {
    golden!(PriqCons, [0x800b_4b4b], {
        rd with_rd "RD" = 0xb4b4b;
        ovackflg with_ovackflg "OVACKFLG" = true;
    });
    golden!(PriqCons, [0x8009_c367], {
        rd with_rd "RD" = 0x9c367;
        ovackflg with_ovackflg "OVACKFLG" = true;
    });
}

#[test]
fn images_of_gatos_ctrl() {
    golden!(GatosCtrl, [0x0000_0001], {
        run with_run "RUN" = true;
    });
    golden!(GatosCtrl, [0x0000_0000], {
        run with_run "RUN" = false;
    });
}

#[test]
fn images_of_gatos_sid() {
    golden!(GatosSid, [0x001e_9697_cb4b_4b4b], {
        stream_id with_stream_id "STREAMID" = 0xcb4b4b4b;
        substream_id with_substream_id "SUBSTREAMID" = 0xe9697;
        ssid_valid with_ssid_valid "SSID_VALID" = true;
    });
    golden!(GatosSid, [0x000a_62e9_37a9_c367], {
        stream_id with_stream_id "STREAMID" = 0x37a9c367;
        substream_id with_substream_id "SUBSTREAMID" = 0xa62e9;
        ssid_valid with_ssid_valid "SSID_VALID" = false;
    });
}

#[test]
fn images_of_gatos_addr() {
    golden!(GatosAddr, [0xbc3c_3c3c_3c3c_3fc0], {
        httui with_httui "HTTUI" = true;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true;
        pnu with_pnu "PnU" = true;
        kind with_kind "TYPE" = 0x3;
        addr with_addr "ADDR" = 0xbc3c_3c3c_3c3c_3000;
    });
    golden!(GatosAddr, [0xf7e6_9180_b3a2_da80], {
        httui with_httui "HTTUI" = false;
        ind with_ind "InD" = true;
        rnw with_rnw "RnW" = false;
        pnu with_pnu "PnU" = true;
        kind with_kind "TYPE" = 0x2;
        addr with_addr "ADDR" = 0xf7e6_9180_b3a2_d000;
    });
}

#[test]
fn images_of_gatos_par() {
    golden!(GatosPar, [0xf9d2_d2d2_d2d2_db01], {
        fault with_fault "FAULT" = true;
        sh with_sh "SH" = 0x3;
        size with_size "Size" = true;
        addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d000;
        attr with_attr "ATTR" = 0xf9;
    });
    golden!(GatosPar, [0xaa53_86f5_386c_f100], {
        fault with_fault "FAULT" = false;
        sh with_sh "SH" = 0x1;
        size with_size "Size" = false;
        addr with_addr "ADDR" = 0x0053_86f5_386c_f000;
        attr with_attr "ATTR" = 0xaa;
    });
}

#[test]
fn images_of_gatos_par_fault() {
    golden!(GatosParFault, [0x00d2_d2d2_d2d2_de17], {
        fault with_fault "FAULT" = true;
        reason with_reason "REASON" = 0x3;
        fault_code with_fault_code "FAULTCODE" = 0xe1;
        faddr with_faddr "FADDR" = 0x00d2_d2d2_d2d2_d000;
    });
    golden!(GatosParFault, [0x0053_86f5_386c_faa2], {
        fault with_fault "FAULT" = false;
        reason with_reason "REASON" = 0x1;
        fault_code with_fault_code "FAULTCODE" = 0xaa;
        faddr with_faddr "FADDR" = 0x0053_86f5_386c_f000;
    });
}

#[test]
fn images_of_vatos_sel() {
    golden!(VatosSel, [0x0000_cb4b], {
        vmid with_vmid "VMID" = 0xcb4b;
    });
    golden!(VatosSel, [0x0000_c367], {
        vmid with_vmid "VMID" = 0xc367;
    });
}

#[test]
fn images_of_cmdq_control_page_base0() {
    golden!(CmdqControlPageBase, [0x00e1_e1e1_e1e1_0007], {
        preset with_preset "CMDQ_CONTROL_PAGE_PRESET" = true;
        gs with_gs "CMDQGS" = 0x3;
        addr with_addr "ADDR" = 0x00e1_e1e1_e1e1_0000;
    });
    golden!(CmdqControlPageBase, [0x00af_1af1_af01_0002], {
        preset with_preset "CMDQ_CONTROL_PAGE_PRESET" = false;
        gs with_gs "CMDQGS" = 0x1;
        addr with_addr "ADDR" = 0x00af_1af1_af01_0000;
    });
}

#[test]
fn images_of_cmdq_control_page_cfg0() {
    golden!(CmdqControlPageCfg, [0x0000_0001], {
        en with_en "EN" = true;
    });
    golden!(CmdqControlPageCfg, [0x0000_0000], {
        en with_en "EN" = false;
    });
}

#[test]
fn images_of_cmdq_control_page_status0() {
    golden!(CmdqControlPageStatus, [0x0000_0001], {
        enack with_enack "ENACK" = true;
    });
    golden!(CmdqControlPageStatus, [0x0000_0000], {
        enack with_enack "ENACK" = false;
    });
}

#[test]
fn images_of_ecmdq_prod() {
    golden!(EcmdqProd, [0x808b_4b4b], {
        wr with_wr "WR" = 0xb4b4b;
        errack with_errack "ERRACK" = true;
        en with_en "EN" = true;
    });
    golden!(EcmdqProd, [0x0089_c367], {
        wr with_wr "WR" = 0x9c367;
        errack with_errack "ERRACK" = true;
        en with_en "EN" = false;
    });
}

#[test]
fn images_of_ecmdq_cons() {
    golden!(EcmdqCons, [0x858b_4b4b], {
        rd with_rd "RD" = 0xb4b4b;
        err with_err "ERR" = true;
        err_reason with_err_reason "ERR_REASON" = 0x5;
        enack with_enack "ENACK" = true;
    });
    golden!(EcmdqCons, [0x8289_c367], {
        rd with_rd "RD" = 0x9c367;
        err with_err "ERR" = true;
        err_reason with_err_reason "ERR_REASON" = 0x2;
        enack with_enack "ENACK" = true;
    });
}

/// §2.3: codes of output sizes, both ways.
#[test]
fn output_size_codes_stand_for_32_to_56_bits() {
    let sizes = [(0, 32), (1, 36), (2, 40), (3, 42), (4, 44), (5, 48), (6, 52), (7, 56)];
    for (code, bits) in sizes {
        assert_eq!(address_bits(code), Some(bits));
        assert_eq!(address_size_code(bits), Some(code));
    }
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
