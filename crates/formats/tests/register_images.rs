// SPDX-License-Identifier: MIT OR Apache-2.0
//! Golden images of the registers (§2): numbers put together from the reference's bit numbers by other
//! means than this crate. In the first image of each every field is non-zero; in the second neighbouring
//! fields have alternating bits.

mod common;

use common::{golden, words};
use smmuv3_formats::register::*;

words!(u32: Idr0, Idr1, Idr2, Idr3, Idr4, Idr5, Idr6, Iidr, Aidr, Cr0, Cr0Ack, Cr1, Cr2, Statusr, Gbpa, IrqCtrl, IrqCtrlAck, Gerror, Gerrorn, GerrorIrqCfg1, GerrorIrqCfg2, EventqIrqCfg1, EventqIrqCfg2, PriqIrqCfg1, PriqIrqCfg2, StrtabBaseCfg, CmdqProd, CmdqCons, EventqProd, EventqCons, PriqProd, PriqCons, GatosCtrl, VatosSel, CmdqControlPageCfg, CmdqControlPageStatus, EcmdqProd, EcmdqCons);
words!(u64: GerrorIrqCfg0, EventqIrqCfg0, PriqIrqCfg0, StrtabBase, CmdqBase, EventqBase, PriqBase, GatosSid, GatosAddr, GatosPar, GatosParFault, CmdqControlPageBase);

#[test]
fn images_of_idr0() {
    golden!(Idr0, [0x5fff_ffff], {
        s2p with_s2p "S2P" = true; s1p with_s1p "S1P" = true; ttf with_ttf "TTF" = 0x3;
        cohacc with_cohacc "COHACC" = true; btm with_btm "BTM" = true; httu with_httu "HTTU" = 0x3;
        dormhint with_dormhint "DORMHINT" = true; hyp with_hyp "Hyp" = true;
        ats with_ats "ATS" = true; ns1ats with_ns1ats "NS1ATS" = true;
        asid16 with_asid16 "ASID16" = true; msi with_msi "MSI" = true; sev with_sev "SEV" = true;
        atos with_atos "ATOS" = true; pri with_pri "PRI" = true; vmw with_vmw "VMW" = true;
        vmid16 with_vmid16 "VMID16" = true; cd2l with_cd2l "CD2L" = true;
        vatos with_vatos "VATOS" = true; ttendian with_ttendian "TTENDIAN" = 0x3;
        atsrecerr with_atsrecerr "ATSRECERR" = true;
        stall_model with_stall_model "STALL_MODEL" = 0x3;
        term_model with_term_model "TERM_MODEL" = true; st_level with_st_level "ST_LEVEL" = 0x3;
        rme_impl with_rme_impl "RME_IMPL" = true;
    });
    golden!(Idr0, [0x092a_aa5a], {
        s2p with_s2p "S2P" = false; s1p with_s1p "S1P" = true; ttf with_ttf "TTF" = 0x2;
        cohacc with_cohacc "COHACC" = true; btm with_btm "BTM" = false; httu with_httu "HTTU" = 0x1;
        dormhint with_dormhint "DORMHINT" = false; hyp with_hyp "Hyp" = true;
        ats with_ats "ATS" = false; ns1ats with_ns1ats "NS1ATS" = true;
        asid16 with_asid16 "ASID16" = false; msi with_msi "MSI" = true; sev with_sev "SEV" = false;
        atos with_atos "ATOS" = true; pri with_pri "PRI" = false; vmw with_vmw "VMW" = true;
        vmid16 with_vmid16 "VMID16" = false; cd2l with_cd2l "CD2L" = true;
        vatos with_vatos "VATOS" = false; ttendian with_ttendian "TTENDIAN" = 0x1;
        atsrecerr with_atsrecerr "ATSRECERR" = false;
        stall_model with_stall_model "STALL_MODEL" = 0x1;
        term_model with_term_model "TERM_MODEL" = false; st_level with_st_level "ST_LEVEL" = 0x1;
        rme_impl with_rme_impl "RME_IMPL" = false;
    });
}

#[test]
fn images_of_idr1() {
    golden!(Idr1, [0xff3d_8deb], {
        sidsize with_sidsize "SIDSIZE" = 0x2b; ssidsize with_ssidsize "SSIDSIZE" = 0x17;
        priqs with_priqs "PRIQS" = 0x11; eventqs with_eventqs "EVENTQS" = 0x1d;
        cmdqs with_cmdqs "CMDQS" = 0x19; attr_perms_ovr with_attr_perms_ovr "ATTR_PERMS_OVR" = true;
        attr_types_ovr with_attr_types_ovr "ATTR_TYPES_OVR" = true; rel with_rel "REL" = true;
        queues_preset with_queues_preset "QUEUES_PRESET" = true;
        tables_preset with_tables_preset "TABLES_PRESET" = true; ecmdq with_ecmdq "ECMDQ" = true;
    });
    golden!(Idr1, [0x5555_556a], {
        sidsize with_sidsize "SIDSIZE" = 0x2a; ssidsize with_ssidsize "SSIDSIZE" = 0x15;
        priqs with_priqs "PRIQS" = 0xa; eventqs with_eventqs "EVENTQS" = 0x15;
        cmdqs with_cmdqs "CMDQS" = 0xa; attr_perms_ovr with_attr_perms_ovr "ATTR_PERMS_OVR" = true;
        attr_types_ovr with_attr_types_ovr "ATTR_TYPES_OVR" = false; rel with_rel "REL" = true;
        queues_preset with_queues_preset "QUEUES_PRESET" = false;
        tables_preset with_tables_preset "TABLES_PRESET" = true; ecmdq with_ecmdq "ECMDQ" = false;
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
        had with_had "HAD" = true; pbha with_pbha "PBHA" = true; xnx with_xnx "XNX" = true;
        pps with_pps "PPS" = true; mpam with_mpam "MPAM" = true; fwb with_fwb "FWB" = true;
        stt with_stt "STT" = true; ril with_ril "RIL" = true; bbml with_bbml "BBML" = 0x3;
        e0pd with_e0pd "E0PD" = true; ptwnnc with_ptwnnc "PTWNNC" = true; dpt with_dpt "DPT" = true;
        pasidtt with_pasidtt "PASIDTT" = true; epan with_epan "EPAN" = true;
        s1pi with_s1pi "S1PI" = true; s2pi with_s2pi "S2PI" = true; s2po with_s2po "S2PO" = true;
        the with_the "THE" = true; mteperm with_mteperm "MTEPERM" = true; aie with_aie "AIE" = true;
    });
    golden!(Idr3, [0x00aa_b528], {
        had with_had "HAD" = false; pbha with_pbha "PBHA" = true; xnx with_xnx "XNX" = false;
        pps with_pps "PPS" = true; mpam with_mpam "MPAM" = false; fwb with_fwb "FWB" = true;
        stt with_stt "STT" = false; ril with_ril "RIL" = true; bbml with_bbml "BBML" = 0x2;
        e0pd with_e0pd "E0PD" = true; ptwnnc with_ptwnnc "PTWNNC" = false;
        dpt with_dpt "DPT" = true; pasidtt with_pasidtt "PASIDTT" = false;
        epan with_epan "EPAN" = true; s1pi with_s1pi "S1PI" = false; s2pi with_s2pi "S2PI" = true;
        s2po with_s2po "S2PO" = false; the with_the "THE" = true;
        mteperm with_mteperm "MTEPERM" = false; aie with_aie "AIE" = true;
    });
}

#[test]
fn images_of_idr5() {
    golden!(Idr5, [0xda5b_0df5], {
        oas with_oas "OAS" = 0x5; gran4k with_gran4k "GRAN4K" = true;
        gran16k with_gran16k "GRAN16K" = true; gran64k with_gran64k "GRAN64K" = true;
        ds with_ds "DS" = true; d128 with_d128 "D128" = true; vax with_vax "VAX" = 0x3;
        stall_max with_stall_max "STALL_MAX" = 0xda5b;
    });
    golden!(Idr5, [0x5e03_0952], {
        oas with_oas "OAS" = 0x2; gran4k with_gran4k "GRAN4K" = true;
        gran16k with_gran16k "GRAN16K" = false; gran64k with_gran64k "GRAN64K" = true;
        ds with_ds "DS" = false; d128 with_d128 "D128" = true; vax with_vax "VAX" = 0x2;
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
        implementer with_implementer "Implementer" = 0xb4b; revision with_revision "Revision" = 0xb;
        variant with_variant "Variant" = 0x9; product_id with_product_id "ProductID" = 0xd2d;
    });
    golden!(Iidr, [0x6cfa_5367], {
        implementer with_implementer "Implementer" = 0x367; revision with_revision "Revision" = 0x5;
        variant with_variant "Variant" = 0xa; product_id with_product_id "ProductID" = 0x6cf;
    });
}

#[test]
fn images_of_aidr() {
    golden!(Aidr, [0x0000_00b9], {
        minor with_minor "ArchMinorRev" = 0x9; major with_major "ArchMajorRev" = 0xb;
    });
    golden!(Aidr, [0x0000_005a], {
        minor with_minor "ArchMinorRev" = 0xa; major with_major "ArchMajorRev" = 0x5;
    });
}

#[test]
fn images_of_cr0() {
    golden!(Cr0, [0x0000_05df], {
        smmuen with_smmuen "SMMUEN" = true; priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = true; cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = true; vmw with_vmw "VMW" = 0x7;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = true;
    });
    golden!(Cr0, [0x0000_014a], {
        smmuen with_smmuen "SMMUEN" = false; priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = false; cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = false; vmw with_vmw "VMW" = 0x5;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = false;
    });
}

#[test]
fn images_of_cr0ack() {
    golden!(Cr0Ack, [0x0000_05df], {
        smmuen with_smmuen "SMMUEN" = true; priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = true; cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = true; vmw with_vmw "VMW" = 0x7;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = true;
    });
    golden!(Cr0Ack, [0x0000_014a], {
        smmuen with_smmuen "SMMUEN" = false; priqen with_priqen "PRIQEN" = true;
        eventqen with_eventqen "EVENTQEN" = false; cmdqen with_cmdqen "CMDQEN" = true;
        atschk with_atschk "ATSCHK" = false; vmw with_vmw "VMW" = 0x5;
        dpt_walk_en with_dpt_walk_en "DPT_WALK_EN" = false;
    });
}

#[test]
fn images_of_cr1() {
    golden!(Cr1, [0x0000_0fff], {
        queue_ic with_queue_ic "QUEUE_IC" = 0x3; queue_oc with_queue_oc "QUEUE_OC" = 0x3;
        queue_sh with_queue_sh "QUEUE_SH" = 0x3; table_ic with_table_ic "TABLE_IC" = 0x3;
        table_oc with_table_oc "TABLE_OC" = 0x3; table_sh with_table_sh "TABLE_SH" = 0x3;
    });
    golden!(Cr1, [0x0000_0666], {
        queue_ic with_queue_ic "QUEUE_IC" = 0x2; queue_oc with_queue_oc "QUEUE_OC" = 0x1;
        queue_sh with_queue_sh "QUEUE_SH" = 0x2; table_ic with_table_ic "TABLE_IC" = 0x1;
        table_oc with_table_oc "TABLE_OC" = 0x2; table_sh with_table_sh "TABLE_SH" = 0x1;
    });
}

#[test]
fn images_of_cr2() {
    golden!(Cr2, [0x0000_000f], {
        e2h with_e2h "E2H" = true; recinvsid with_recinvsid "RECINVSID" = true;
        ptm with_ptm "PTM" = true; rec_cfg_ats with_rec_cfg_ats "REC_CFG_ATS" = true;
    });
    golden!(Cr2, [0x0000_000a], {
        e2h with_e2h "E2H" = false; recinvsid with_recinvsid "RECINVSID" = true;
        ptm with_ptm "PTM" = false; rec_cfg_ats with_rec_cfg_ats "REC_CFG_ATS" = true;
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
        mem_attr with_mem_attr "MemAttr" = 0x9; mt_cfg with_mt_cfg "MTCFG" = true;
        alloc_cfg with_alloc_cfg "ALLOCCFG" = 0x9; sh_cfg with_sh_cfg "SHCFG" = 0x3;
        priv_cfg with_priv_cfg "PRIVCFG" = 0x3; inst_cfg with_inst_cfg "INSTCFG" = 0x3;
        abort with_abort "ABORT" = true; update with_update "Update" = true;
    });
    golden!(Gbpa, [0x8006_1a1a], {
        mem_attr with_mem_attr "MemAttr" = 0xa; mt_cfg with_mt_cfg "MTCFG" = true;
        alloc_cfg with_alloc_cfg "ALLOCCFG" = 0xa; sh_cfg with_sh_cfg "SHCFG" = 0x1;
        priv_cfg with_priv_cfg "PRIVCFG" = 0x2; inst_cfg with_inst_cfg "INSTCFG" = 0x1;
        abort with_abort "ABORT" = false; update with_update "Update" = true;
    });
}

#[test]
fn images_of_irq_ctrl() {
    golden!(IrqCtrl, [0x0000_0007], {
        gerror with_gerror "GERROR_IRQEN" = true; priq with_priq "PRIQ_IRQEN" = true;
        eventq with_eventq "EVENTQ_IRQEN" = true;
    });
    golden!(IrqCtrl, [0x0000_0002], {
        gerror with_gerror "GERROR_IRQEN" = false; priq with_priq "PRIQ_IRQEN" = true;
        eventq with_eventq "EVENTQ_IRQEN" = false;
    });
}

#[test]
fn images_of_irq_ctrlack() {
    golden!(IrqCtrlAck, [0x0000_0007], {
        gerror with_gerror "GERROR_IRQEN" = true; priq with_priq "PRIQ_IRQEN" = true;
        eventq with_eventq "EVENTQ_IRQEN" = true;
    });
    golden!(IrqCtrlAck, [0x0000_0002], {
        gerror with_gerror "GERROR_IRQEN" = false; priq with_priq "PRIQ_IRQEN" = true;
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
        sfm_err with_sfm_err "SFM_ERR" = true; cmdqp_err with_cmdqp_err "CMDQP_ERR" = true;
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
        sfm_err with_sfm_err "SFM_ERR" = true; cmdqp_err with_cmdqp_err "CMDQP_ERR" = false;
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
        sfm_err with_sfm_err "SFM_ERR" = true; cmdqp_err with_cmdqp_err "CMDQP_ERR" = true;
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
        sfm_err with_sfm_err "SFM_ERR" = true; cmdqp_err with_cmdqp_err "CMDQP_ERR" = false;
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
        mem_attr with_mem_attr "MemAttr" = 0x9; sh with_sh "SH" = 0x3;
    });
    golden!(GerrorIrqCfg2, [0x0000_001a], {
        mem_attr with_mem_attr "MemAttr" = 0xa; sh with_sh "SH" = 0x1;
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
        mem_attr with_mem_attr "MemAttr" = 0x9; sh with_sh "SH" = 0x3;
    });
    golden!(EventqIrqCfg2, [0x0000_001a], {
        mem_attr with_mem_attr "MemAttr" = 0xa; sh with_sh "SH" = 0x1;
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
        mem_attr with_mem_attr "MemAttr" = 0x9; sh with_sh "SH" = 0x3; lo with_lo "LO" = true;
    });
    golden!(PriqIrqCfg2, [0x0000_001a], {
        mem_attr with_mem_attr "MemAttr" = 0xa; sh with_sh "SH" = 0x1; lo with_lo "LO" = false;
    });
}

#[test]
fn images_of_strtab_base() {
    golden!(StrtabBase, [0x40d2_d2d2_d2d2_d2c0], {
        addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2c0; ra with_ra "RA" = true;
    });
    golden!(StrtabBase, [0x40de_a70d_ea70_d9c0], {
        addr with_addr "ADDR" = 0x00de_a70d_ea70_d9c0; ra with_ra "RA" = true;
    });
}

#[test]
fn images_of_strtab_base_cfg() {
    golden!(StrtabBaseCfg, [0x0003_05eb], {
        log2size with_log2size "LOG2SIZE" = 0x2b; split with_split "SPLIT" = 0x17;
        fmt with_fmt "FMT" = 0x3;
    });
    golden!(StrtabBaseCfg, [0x0002_056a], {
        log2size with_log2size "LOG2SIZE" = 0x2a; split with_split "SPLIT" = 0x15;
        fmt with_fmt "FMT" = 0x2;
    });
}

#[test]
fn images_of_cmdq_base() {
    golden!(CmdqBase, [0x40d2_d2d2_d2d2_d2fb], {
        log2size with_log2size "LOG2SIZE" = 0x1b; addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2e0;
        ra with_ra "RA" = true;
    });
    golden!(CmdqBase, [0x0008_196e_7f4c_5d2a], {
        log2size with_log2size "LOG2SIZE" = 0xa; addr with_addr "ADDR" = 0x0008_196e_7f4c_5d20;
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
        rd with_rd "RD" = 0xb4b4b; err with_err "ERR" = 0x57;
    });
    golden!(CmdqCons, [0x5509_c367], {
        rd with_rd "RD" = 0x9c367; err with_err "ERR" = 0x55;
    });
}

#[test]
fn images_of_eventq_base() {
    golden!(EventqBase, [0x40d2_d2d2_d2d2_d2fb], {
        log2size with_log2size "LOG2SIZE" = 0x1b; addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2e0;
        wa with_wa "WA" = true;
    });
    golden!(EventqBase, [0x0008_196e_7f4c_5d2a], {
        log2size with_log2size "LOG2SIZE" = 0xa; addr with_addr "ADDR" = 0x0008_196e_7f4c_5d20;
        wa with_wa "WA" = false;
    });
}

#[test]
fn images_of_eventq_prod() {
    golden!(EventqProd, [0x800b_4b4b], {
        wr with_wr "WR" = 0xb4b4b; ovflg with_ovflg "OVFLG" = true;
    });
    golden!(EventqProd, [0x8009_c367], {
        wr with_wr "WR" = 0x9c367; ovflg with_ovflg "OVFLG" = true;
    });
}

#[test]
fn images_of_eventq_cons() {
    golden!(EventqCons, [0x800b_4b4b], {
        rd with_rd "RD" = 0xb4b4b; ovackflg with_ovackflg "OVACKFLG" = true;
    });
    golden!(EventqCons, [0x8009_c367], {
        rd with_rd "RD" = 0x9c367; ovackflg with_ovackflg "OVACKFLG" = true;
    });
}

#[test]
fn images_of_priq_base() {
    golden!(PriqBase, [0x40d2_d2d2_d2d2_d2fb], {
        log2size with_log2size "LOG2SIZE" = 0x1b; addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d2e0;
        wa with_wa "WA" = true;
    });
    golden!(PriqBase, [0x0008_196e_7f4c_5d2a], {
        log2size with_log2size "LOG2SIZE" = 0xa; addr with_addr "ADDR" = 0x0008_196e_7f4c_5d20;
        wa with_wa "WA" = false;
    });
}

#[test]
fn images_of_priq_prod() {
    golden!(PriqProd, [0x800b_4b4b], {
        wr with_wr "WR" = 0xb4b4b; ovflg with_ovflg "OVFLG" = true;
    });
    golden!(PriqProd, [0x8009_c367], {
        wr with_wr "WR" = 0x9c367; ovflg with_ovflg "OVFLG" = true;
    });
}

#[test]
fn images_of_priq_cons() {
    golden!(PriqCons, [0x800b_4b4b], {
        rd with_rd "RD" = 0xb4b4b; ovackflg with_ovackflg "OVACKFLG" = true;
    });
    golden!(PriqCons, [0x8009_c367], {
        rd with_rd "RD" = 0x9c367; ovackflg with_ovackflg "OVACKFLG" = true;
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
        httui with_httui "HTTUI" = true; ind with_ind "InD" = true; rnw with_rnw "RnW" = true;
        pnu with_pnu "PnU" = true; kind with_kind "TYPE" = 0x3;
        addr with_addr "ADDR" = 0xbc3c_3c3c_3c3c_3000;
    });
    golden!(GatosAddr, [0xf7e6_9180_b3a2_da80], {
        httui with_httui "HTTUI" = false; ind with_ind "InD" = true; rnw with_rnw "RnW" = false;
        pnu with_pnu "PnU" = true; kind with_kind "TYPE" = 0x2;
        addr with_addr "ADDR" = 0xf7e6_9180_b3a2_d000;
    });
}

#[test]
fn images_of_gatos_par() {
    golden!(GatosPar, [0xf9d2_d2d2_d2d2_db01], {
        fault with_fault "FAULT" = true; sh with_sh "SH" = 0x3; size with_size "Size" = true;
        addr with_addr "ADDR" = 0x00d2_d2d2_d2d2_d000; attr with_attr "ATTR" = 0xf9;
    });
    golden!(GatosPar, [0xaa53_86f5_386c_f100], {
        fault with_fault "FAULT" = false; sh with_sh "SH" = 0x1; size with_size "Size" = false;
        addr with_addr "ADDR" = 0x0053_86f5_386c_f000; attr with_attr "ATTR" = 0xaa;
    });
}

#[test]
fn images_of_gatos_par_fault() {
    golden!(GatosParFault, [0x00d2_d2d2_d2d2_de17], {
        fault with_fault "FAULT" = true; reason with_reason "REASON" = 0x3;
        fault_code with_fault_code "FAULTCODE" = 0xe1;
        faddr with_faddr "FADDR" = 0x00d2_d2d2_d2d2_d000;
    });
    golden!(GatosParFault, [0x0053_86f5_386c_faa2], {
        fault with_fault "FAULT" = false; reason with_reason "REASON" = 0x1;
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
        preset with_preset "CMDQ_CONTROL_PAGE_PRESET" = true; gs with_gs "CMDQGS" = 0x3;
        addr with_addr "ADDR" = 0x00e1_e1e1_e1e1_0000;
    });
    golden!(CmdqControlPageBase, [0x00af_1af1_af01_0002], {
        preset with_preset "CMDQ_CONTROL_PAGE_PRESET" = false; gs with_gs "CMDQGS" = 0x1;
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
        wr with_wr "WR" = 0xb4b4b; errack with_errack "ERRACK" = true; en with_en "EN" = true;
    });
    golden!(EcmdqProd, [0x0089_c367], {
        wr with_wr "WR" = 0x9c367; errack with_errack "ERRACK" = true; en with_en "EN" = false;
    });
}

#[test]
fn images_of_ecmdq_cons() {
    golden!(EcmdqCons, [0x858b_4b4b], {
        rd with_rd "RD" = 0xb4b4b; err with_err "ERR" = true;
        err_reason with_err_reason "ERR_REASON" = 0x5; enack with_enack "ENACK" = true;
    });
    golden!(EcmdqCons, [0x8289_c367], {
        rd with_rd "RD" = 0x9c367; err with_err "ERR" = true;
        err_reason with_err_reason "ERR_REASON" = 0x2; enack with_enack "ENACK" = true;
    });
}
