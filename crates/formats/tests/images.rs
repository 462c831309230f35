// SPDX-License-Identifier: MIT OR Apache-2.0
//! Golden images of the in-memory structures (§5, §6, §13, §15): words put together from the
//! reference's bit numbers by other means than this crate. In the first image of each every field is
//! non-zero; in the second neighbouring fields have alternating bits.

mod common;

use common::{golden, words};
use smmuv3_formats::descriptor::{
    Stage1Block, Stage1Page, Stage1Table, Stage2Block, Stage2Page, Stage2Table,
};
use smmuv3_formats::{Cd, L1Cd, L1Std, PageRequest, Ste};

words!(array L1Std, Ste, L1Cd, Cd, PageRequest);
words!(array Stage1Table, Stage1Block, Stage1Page, Stage2Table, Stage2Block, Stage2Page);

/// §5.1.
#[test]
fn level_1_stream_table_descriptors() {
    golden!(L1Std, [0x00a5_a5a5_a5a5_a5db], {
        span with_span "Span" = 0x1b; l2_ptr with_l2_ptr "L2Ptr" = 0x00a5_a5a5_a5a5_a5c0;
    });
    golden!(L1Std, [0x0010_32dc_fe98_ba4a], {
        span with_span "Span" = 0xa; l2_ptr with_l2_ptr "L2Ptr" = 0x0010_32dc_fe98_ba40;
    });
}

/// §5.2.
#[test]
fn stream_table_entries() {
    golden!(Ste, [0xc8cb_4b4b_4b4b_4b7f, 0x000f_f17b_ff9f_3fff, 0xffff_fff5_0000_ffff, 0x600d_a5a5_a5a5_a57f, 0xe967_c0e5_bc39_0000, 0x00d2_d2d2_d2d2_bfb1, 0x60a5_a5a5_a5a5_a577, 0xf0f0_f0f0_f0f0_f0ed], {
        v with_v "V" = true; config with_config "Config" = 0x7; s1_fmt with_s1_fmt "S1Fmt" = 0x3;
        s1_context_ptr with_s1_context_ptr "S1ContextPtr" = 0x00cb_4b4b_4b4b_4b40;
        s1_cd_max with_s1_cd_max "S1CDMax" = 0x19; s1_dss with_s1_dss "S1DSS" = 0x3;
        s1_cir with_s1_cir "S1CIR" = 0x3; s1_cor with_s1_cor "S1COR" = 0x3;
        s1_csh with_s1_csh "S1CSH" = 0x3; s2_hwu59 with_s2_hwu59 "S2HWU59" = true;
        s2_hwu60 with_s2_hwu60 "S2HWU60" = true; s2_hwu61 with_s2_hwu61 "S2HWU61" = true;
        s2_hwu62 with_s2_hwu62 "S2HWU62" = true; dre with_dre "DRE" = true;
        cont with_cont "CONT" = 0x9; dcp with_dcp "DCP" = true; ppar with_ppar "PPAR" = true;
        mev with_mev "MEV" = true; sw_reserved with_sw_reserved "SW_RESERVED" = 0x9;
        s1_pie with_s1_pie "S1PIE" = true; s2_fwb with_s2_fwb "S2FWB" = true;
        s1_mpam with_s1_mpam "S1MPAM" = true; s1_stalld with_s1_stalld "S1STALLD" = true;
        eats with_eats "EATS" = 0x3; strw with_strw "STRW" = 0x3;
        mem_attr with_mem_attr "MemAttr" = 0xb; mt_cfg with_mt_cfg "MTCFG" = true;
        alloc_cfg with_alloc_cfg "ALLOCCFG" = 0xb; sh_cfg with_sh_cfg "SHCFG" = 0x3;
        ns_cfg with_ns_cfg "NSCFG" = 0x3; priv_cfg with_priv_cfg "PRIVCFG" = 0x3;
        inst_cfg with_inst_cfg "INSTCFG" = 0x3; s2_vmid with_s2_vmid "S2VMID" = 0xffff;
        s2_t0sz with_s2_t0sz "S2T0SZ" = 0x35; s2_sl0 with_s2_sl0 "S2SL0" = 0x3;
        s2_ir0 with_s2_ir0 "S2IR0" = 0x3; s2_or0 with_s2_or0 "S2OR0" = 0x3;
        s2_sh0 with_s2_sh0 "S2SH0" = 0x3; s2_tg with_s2_tg "S2TG" = 0x3;
        s2_ps with_s2_ps "S2PS" = 0x7; s2_aa64 with_s2_aa64 "S2AA64" = true;
        s2_endi with_s2_endi "S2ENDI" = true; s2_affd with_s2_affd "S2AFFD" = true;
        s2_ptw with_s2_ptw "S2PTW" = true; s2_hd with_s2_hd "S2HD" = true;
        s2_ha with_s2_ha "S2HA" = true; s2_s with_s2_s "S2S" = true; s2_r with_s2_r "S2R" = true;
        s2_haft with_s2_haft "S2HAFT" = true; s2_pie with_s2_pie "S2PIE" = true;
        s2_poe with_s2_poe "S2POE" = true; dpt_vmatch with_dpt_vmatch "DPT_VMATCH" = 0x3;
        s2_nsw with_s2_nsw "S2NSW" = true; s2_nsa with_s2_nsa "S2NSA" = true;
        s2_sl0_2 with_s2_sl0_2 "S2SL0_2" = true; s2_ds with_s2_ds "S2DS" = true;
        s2_ttb with_s2_ttb "S2TTB" = 0x000d_a5a5_a5a5_a570; s2_skl with_s2_skl "S2SKL" = 0x3;
        part_id with_part_id "PARTID" = 0xbc39; s_s2_t0sz with_s_s2_t0sz "S_S2T0SZ" = 0x25;
        s_s2_sl0 with_s_s2_sl0 "S_S2SL0" = 0x3; s_s2_tg with_s_s2_tg "S_S2TG" = 0x3;
        mec_id with_mec_id "MECID" = 0xe967; pmg with_pmg "PMG" = 0xb1;
        mpam_ns with_mpam_ns "MPAM_NS" = true; assured_only with_assured_only "AssuredOnly" = true;
        tl0 with_tl0 "TL0" = true; tl1 with_tl1 "TL1" = true;
        vms_ptr with_vms_ptr "VMSPtr" = 0x00d2_d2d2_d2d2_b000; s2_sw with_s2_sw "S2SW" = true;
        s2_sa with_s2_sa "S2SA" = true; s_s2_sl0_2 with_s_s2_sl0_2 "S_S2SL0_2" = true;
        s_s2_ttb with_s_s2_ttb "S_S2TTB" = 0x00a5_a5a5_a5a5_a570;
        s_s2_skl with_s_s2_skl "S_S2SKL" = 0x3; s2_poi with_s2_poi "S2POI" = 0xf0f0f0f0f0f0f0ed;
    });
    golden!(Ste, [0x50bd_4e1b_d4e1_b3ea, 0x0006_60a5_95ab_5599, 0x5555_9995_0000_a0c9, 0x2002_3016_75ab_b59a, 0xe629_806a_2e95_0000, 0x00ab_89ef_cd24_35aa, 0x40a7_0dea_70de_b872, 0x0e50_e50e_50e5_0fe5], {
        v with_v "V" = false; config with_config "Config" = 0x5; s1_fmt with_s1_fmt "S1Fmt" = 0x2;
        s1_context_ptr with_s1_context_ptr "S1ContextPtr" = 0x00bd_4e1b_d4e1_b3c0;
        s1_cd_max with_s1_cd_max "S1CDMax" = 0xa; s1_dss with_s1_dss "S1DSS" = 0x1;
        s1_cir with_s1_cir "S1CIR" = 0x2; s1_cor with_s1_cor "S1COR" = 0x1;
        s1_csh with_s1_csh "S1CSH" = 0x2; s2_hwu59 with_s2_hwu59 "S2HWU59" = true;
        s2_hwu60 with_s2_hwu60 "S2HWU60" = false; s2_hwu61 with_s2_hwu61 "S2HWU61" = true;
        s2_hwu62 with_s2_hwu62 "S2HWU62" = false; dre with_dre "DRE" = true;
        cont with_cont "CONT" = 0xa; dcp with_dcp "DCP" = true; ppar with_ppar "PPAR" = false;
        mev with_mev "MEV" = true; sw_reserved with_sw_reserved "SW_RESERVED" = 0xa;
        s1_pie with_s1_pie "S1PIE" = true; s2_fwb with_s2_fwb "S2FWB" = false;
        s1_mpam with_s1_mpam "S1MPAM" = true; s1_stalld with_s1_stalld "S1STALLD" = false;
        eats with_eats "EATS" = 0x1; strw with_strw "STRW" = 0x2;
        mem_attr with_mem_attr "MemAttr" = 0x5; mt_cfg with_mt_cfg "MTCFG" = false;
        alloc_cfg with_alloc_cfg "ALLOCCFG" = 0x5; sh_cfg with_sh_cfg "SHCFG" = 0x2;
        ns_cfg with_ns_cfg "NSCFG" = 0x1; priv_cfg with_priv_cfg "PRIVCFG" = 0x2;
        inst_cfg with_inst_cfg "INSTCFG" = 0x1; s2_vmid with_s2_vmid "S2VMID" = 0xa0c9;
        s2_t0sz with_s2_t0sz "S2T0SZ" = 0x15; s2_sl0 with_s2_sl0 "S2SL0" = 0x2;
        s2_ir0 with_s2_ir0 "S2IR0" = 0x1; s2_or0 with_s2_or0 "S2OR0" = 0x2;
        s2_sh0 with_s2_sh0 "S2SH0" = 0x1; s2_tg with_s2_tg "S2TG" = 0x2;
        s2_ps with_s2_ps "S2PS" = 0x5; s2_aa64 with_s2_aa64 "S2AA64" = false;
        s2_endi with_s2_endi "S2ENDI" = true; s2_affd with_s2_affd "S2AFFD" = false;
        s2_ptw with_s2_ptw "S2PTW" = true; s2_hd with_s2_hd "S2HD" = false;
        s2_ha with_s2_ha "S2HA" = true; s2_s with_s2_s "S2S" = false; s2_r with_s2_r "S2R" = true;
        s2_haft with_s2_haft "S2HAFT" = false; s2_pie with_s2_pie "S2PIE" = true;
        s2_poe with_s2_poe "S2POE" = false; dpt_vmatch with_dpt_vmatch "DPT_VMATCH" = 0x1;
        s2_nsw with_s2_nsw "S2NSW" = false; s2_nsa with_s2_nsa "S2NSA" = true;
        s2_sl0_2 with_s2_sl0_2 "S2SL0_2" = false; s2_ds with_s2_ds "S2DS" = true;
        s2_ttb with_s2_ttb "S2TTB" = 0x0002_3016_75ab_b590; s2_skl with_s2_skl "S2SKL" = 0x1;
        part_id with_part_id "PARTID" = 0x2e95; s_s2_t0sz with_s_s2_t0sz "S_S2T0SZ" = 0x2a;
        s_s2_sl0 with_s_s2_sl0 "S_S2SL0" = 0x1; s_s2_tg with_s_s2_tg "S_S2TG" = 0x2;
        mec_id with_mec_id "MECID" = 0xe629; pmg with_pmg "PMG" = 0xaa;
        mpam_ns with_mpam_ns "MPAM_NS" = true; assured_only with_assured_only "AssuredOnly" = false;
        tl0 with_tl0 "TL0" = true; tl1 with_tl1 "TL1" = false;
        vms_ptr with_vms_ptr "VMSPtr" = 0x00ab_89ef_cd24_3000; s2_sw with_s2_sw "S2SW" = false;
        s2_sa with_s2_sa "S2SA" = true; s_s2_sl0_2 with_s_s2_sl0_2 "S_S2SL0_2" = false;
        s_s2_ttb with_s_s2_ttb "S_S2TTB" = 0x00a7_0dea_70de_b870;
        s_s2_skl with_s_s2_skl "S_S2SKL" = 0x2; s2_poi with_s2_poi "S2POI" = 0xe50e50e50e50fe5;
    });
}

/// §6.
#[test]
fn level_1_context_descriptors() {
    golden!(L1Cd, [0x00e9_6969_6969_7001], {
        v with_v "V" = true; l2_ptr with_l2_ptr "L2Ptr" = 0x00e9_6969_6969_7000;
    });
    golden!(L1Cd, [0x000c_b73f_a62e_9000], {
        v with_v "V" = false; l2_ptr with_l2_ptr "L2Ptr" = 0x000c_b73f_a62e_9000;
    });
}

/// §6.
#[test]
fn context_descriptors() {
    golden!(Cd, [0x8787_fffd_fffb_ffeb, 0xfc0f_ffff_ffff_ffff, 0xfc0b_c3c3_c3c3_c3bf, 0xcb4b_4b4b_4b4b_4b49, 0xd696_9696_9696_9695, 0x00f7_ad2b_0000_0000, 0x0000_c3c3_c3c3_c3c1, 0x0000_8f0f_0f0f_0f0d], {
        t0sz with_t0sz "T0SZ" = 0x2b; tg0 with_tg0 "TG0" = 0x3; ir0 with_ir0 "IR0" = 0x3;
        or0 with_or0 "OR0" = 0x3; sh0 with_sh0 "SH0" = 0x3; epd0 with_epd0 "EPD0" = true;
        endi with_endi "ENDI" = true; t1sz with_t1sz "T1SZ" = 0x3b; tg1 with_tg1 "TG1" = 0x3;
        ir1 with_ir1 "IR1" = 0x3; or1 with_or1 "OR1" = 0x3; sh1 with_sh1 "SH1" = 0x3;
        epd1 with_epd1 "EPD1" = true; v with_v "V" = true; ips with_ips "IPS" = 0x5;
        affd with_affd "AFFD" = true; wxn with_wxn "WXN" = true; uwxn with_uwxn "UWXN" = true;
        tbi0 with_tbi0 "TBI0" = true; tbi1 with_tbi1 "TBI1" = true; pan with_pan "PAN" = true;
        aa64 with_aa64 "AA64" = true; hd with_hd "HD" = true; ha with_ha "HA" = true;
        s with_s "S" = true; r with_r "R" = true; a with_a "A" = true; aset with_aset "ASET" = true;
        asid with_asid "ASID" = 0x8787; ns_cfg0 with_ns_cfg0 "NSCFG0" = true;
        had0 with_had0 "HAD0" = true; e0pd0 with_e0pd0 "E0PD0" = true; haft with_haft "HAFT" = true;
        ttb0 with_ttb0 "TTB0" = 0x000f_ffff_ffff_fff0; pnch with_pnch "PnCH" = true;
        epan with_epan "EPAN" = true; hwu059 with_hwu059 "HWU059" = true;
        hwu060 with_hwu060 "HWU060" = true; hwu061 with_hwu061 "HWU061" = true;
        hwu062 with_hwu062 "HWU062" = true; ns_cfg1 with_ns_cfg1 "NSCFG1" = true;
        had1 with_had1 "HAD1" = true; e0pd1 with_e0pd1 "E0PD1" = true; aie with_aie "AIE" = true;
        ttb1 with_ttb1 "TTB1" = 0x000b_c3c3_c3c3_c3b0; ds with_ds "DS" = true;
        pie with_pie "PIE" = true; hwu159 with_hwu159 "HWU159" = true;
        hwu160 with_hwu160 "HWU160" = true; hwu161 with_hwu161 "HWU161" = true;
        hwu162 with_hwu162 "HWU162" = true; mair with_mair "MAIR" = 0xcb4b4b4b4b4b4b49;
        amair with_amair "AMAIR" = 0xd696969696969695; part_id with_part_id "PARTID" = 0xad2b;
        pmg with_pmg "PMG" = 0xf7; piiu with_piiu "PIIU" = 0xc3c3c3c3c3c1;
        piip with_piip "PIIP" = 0x8f0f0f0f0f0d;
    });
    golden!(Cd, [0x455b_aaaa_9995_666a, 0xa809_7da0_97da_0c95, 0x5401_4a8e_c206_44ba, 0x6825_f682_5f68_253f, 0x9439_4394_3943_94f3, 0x0055_709d_0000_0000, 0x0000_5476_1032_dcbf, 0x0000_1111_1111_1151], {
        t0sz with_t0sz "T0SZ" = 0x2a; tg0 with_tg0 "TG0" = 0x1; ir0 with_ir0 "IR0" = 0x2;
        or0 with_or0 "OR0" = 0x1; sh0 with_sh0 "SH0" = 0x2; epd0 with_epd0 "EPD0" = true;
        endi with_endi "ENDI" = false; t1sz with_t1sz "T1SZ" = 0x15; tg1 with_tg1 "TG1" = 0x2;
        ir1 with_ir1 "IR1" = 0x1; or1 with_or1 "OR1" = 0x2; sh1 with_sh1 "SH1" = 0x1;
        epd1 with_epd1 "EPD1" = false; v with_v "V" = true; ips with_ips "IPS" = 0x2;
        affd with_affd "AFFD" = true; wxn with_wxn "WXN" = false; uwxn with_uwxn "UWXN" = true;
        tbi0 with_tbi0 "TBI0" = false; tbi1 with_tbi1 "TBI1" = true; pan with_pan "PAN" = false;
        aa64 with_aa64 "AA64" = true; hd with_hd "HD" = false; ha with_ha "HA" = true;
        s with_s "S" = false; r with_r "R" = true; a with_a "A" = false;
        aset with_aset "ASET" = true; asid with_asid "ASID" = 0x455b;
        ns_cfg0 with_ns_cfg0 "NSCFG0" = true; had0 with_had0 "HAD0" = false;
        e0pd0 with_e0pd0 "E0PD0" = true; haft with_haft "HAFT" = false;
        ttb0 with_ttb0 "TTB0" = 0x0009_7da0_97da_0c90; pnch with_pnch "PnCH" = false;
        epan with_epan "EPAN" = true; hwu059 with_hwu059 "HWU059" = false;
        hwu060 with_hwu060 "HWU060" = true; hwu061 with_hwu061 "HWU061" = false;
        hwu062 with_hwu062 "HWU062" = true; ns_cfg1 with_ns_cfg1 "NSCFG1" = false;
        had1 with_had1 "HAD1" = true; e0pd1 with_e0pd1 "E0PD1" = false; aie with_aie "AIE" = true;
        ttb1 with_ttb1 "TTB1" = 0x0001_4a8e_c206_44b0; ds with_ds "DS" = true;
        pie with_pie "PIE" = false; hwu159 with_hwu159 "HWU159" = true;
        hwu160 with_hwu160 "HWU160" = false; hwu161 with_hwu161 "HWU161" = true;
        hwu162 with_hwu162 "HWU162" = false; mair with_mair "MAIR" = 0x6825f6825f68253f;
        amair with_amair "AMAIR" = 0x94394394394394f3; part_id with_part_id "PARTID" = 0x709d;
        pmg with_pmg "PMG" = 0x55; piiu with_piiu "PIIU" = 0x54761032dcbf;
        piip with_piip "PIIP" = 0x111111111151;
    });
}

/// §13.
#[test]
fn page_requests() {
    golden!(PageRequest, [0xfc0e_9697_cb4b_4b4b, 0x8f0f_0f0f_0f0f_11a5], {
        sid with_sid "SID" = 0xcb4b4b4b; ssid with_ssid "SSID" = 0xe9697;
        privileged with_privileged "Priv" = true; execute with_execute "X" = true;
        read with_read "R" = true; write with_write "W" = true; last with_last "Last" = true;
        ssv with_ssv "SSV" = true; prg_index with_prg_index "PRGIndex" = 0x1a5;
        addr with_addr "Addr" = 0x8f0f_0f0f_0f0f_1000;
    });
    golden!(PageRequest, [0xa80a_62e9_37a9_c367, 0x2158_f215_8f26_11ef], {
        sid with_sid "SID" = 0x37a9c367; ssid with_ssid "SSID" = 0xa62e9;
        privileged with_privileged "Priv" = false; execute with_execute "X" = true;
        read with_read "R" = false; write with_write "W" = true; last with_last "Last" = false;
        ssv with_ssv "SSV" = true; prg_index with_prg_index "PRGIndex" = 0x1ef;
        addr with_addr "Addr" = 0x2158_f215_8f26_1000;
    });
}

/// §15.2.
#[test]
fn stage_1_table_descriptors() {
    golden!(Stage1Table, [0xf800_9e1e_1e1e_1403], {
        kind with_kind "Type" = 0x3; af with_af "AF" = true;
        next with_next "NextTable" = 0x0000_9e1e_1e1e_1000;
        pxn_table with_pxn_table "PXNTable" = true; uxn_table with_uxn_table "UXNTable" = true;
        ap_table with_ap_table "APTable" = 0x3; ns_table with_ns_table "NSTable" = true;
    });
    golden!(Stage1Table, [0x2800_f1af_1af0_1402], {
        kind with_kind "Type" = 0x2; af with_af "AF" = true;
        next with_next "NextTable" = 0x0000_f1af_1af0_1000;
        pxn_table with_pxn_table "PXNTable" = true; uxn_table with_uxn_table "UXNTable" = false;
        ap_table with_ap_table "APTable" = 0x1; ns_table with_ns_table "NSTable" = false;
    });
}

/// §15.2.
#[test]
fn stage_2_table_descriptors() {
    golden!(Stage2Table, [0x0000_e969_6969_7003], {
        kind with_kind "Type" = 0x3; next with_next "NextTable" = 0x0000_e969_6969_7000;
    });
    golden!(Stage2Table, [0x0000_b73f_a62e_9002], {
        kind with_kind "Type" = 0x2; next with_next "NextTable" = 0x0000_b73f_a62e_9000;
    });
}

/// §15.3.
#[test]
fn stage_1_page_descriptors() {
    golden!(Stage1Page, [0x4dfc_a5a5_a5a5_bfff], {
        kind with_kind "Type" = 0x3; attr_index with_attr_index "AttrIndx" = 0x7;
        ns with_ns "NS" = true; ap with_ap "AP" = 0x3; sh with_sh "SH" = 0x3;
        af with_af "AF" = true; ng with_ng "nG" = true; oa with_oa "OA" = 0x0000_a5a5_a5a5_b000;
        gp with_gp "GP" = true; dbm with_dbm "DBM" = true;
        contiguous with_contiguous "Contiguous" = true; pxn with_pxn "PXN" = true;
        uxn with_uxn "UXN" = true; software with_software "Software" = 0xb;
        pbha with_pbha "PBHA" = 0x9;
    });
    golden!(Stage1Page, [0x52a8_e35e_35e0_3656], {
        kind with_kind "Type" = 0x2; attr_index with_attr_index "AttrIndx" = 0x5;
        ns with_ns "NS" = false; ap with_ap "AP" = 0x1; sh with_sh "SH" = 0x2;
        af with_af "AF" = true; ng with_ng "nG" = false; oa with_oa "OA" = 0x0000_e35e_35e0_3000;
        gp with_gp "GP" = false; dbm with_dbm "DBM" = true;
        contiguous with_contiguous "Contiguous" = false; pxn with_pxn "PXN" = true;
        uxn with_uxn "UXN" = false; software with_software "Software" = 0x5;
        pbha with_pbha "PBHA" = 0xa;
    });
}

/// §15.3.
#[test]
fn stage_1_block_descriptors() {
    golden!(Stage1Block, [0x5cfc_b4b4_b4a1_0fff], {
        kind with_kind "Type" = 0x3; attr_index with_attr_index "AttrIndx" = 0x7;
        ns with_ns "NS" = true; ap with_ap "AP" = 0x3; sh with_sh "SH" = 0x3;
        af with_af "AF" = true; ng with_ng "nG" = true; nt with_nt "nT" = true;
        oa with_oa "OA" = 0x0000_b4b4_b4a0_0000; gp with_gp "GP" = true; dbm with_dbm "DBM" = true;
        contiguous with_contiguous "Contiguous" = true; pxn with_pxn "PXN" = true;
        uxn with_uxn "UXN" = true; software with_software "Software" = 0x9;
        pbha with_pbha "PBHA" = 0xb;
    });
    golden!(Stage1Block, [0x2d54_196e_7de1_0656], {
        kind with_kind "Type" = 0x2; attr_index with_attr_index "AttrIndx" = 0x5;
        ns with_ns "NS" = false; ap with_ap "AP" = 0x1; sh with_sh "SH" = 0x2;
        af with_af "AF" = true; ng with_ng "nG" = false; nt with_nt "nT" = true;
        oa with_oa "OA" = 0x0000_196e_7de0_0000; gp with_gp "GP" = true; dbm with_dbm "DBM" = false;
        contiguous with_contiguous "Contiguous" = true; pxn with_pxn "PXN" = false;
        uxn with_uxn "UXN" = true; software with_software "Software" = 0xa;
        pbha with_pbha "PBHA" = 0x5;
    });
}

/// §15.3.
#[test]
fn stage_2_page_descriptors() {
    golden!(Stage2Page, [0x4878_bc3c_3c3c_37ef], {
        kind with_kind "Type" = 0x3; mem_attr with_mem_attr "MemAttr" = 0xb;
        s2ap with_s2ap "S2AP" = 0x3; sh with_sh "SH" = 0x3; af with_af "AF" = true;
        oa with_oa "OA" = 0x0000_bc3c_3c3c_3000; dbm with_dbm "DBM" = true;
        contiguous with_contiguous "Contiguous" = true; xn with_xn "XN" = 0x3;
        pbha with_pbha "PBHA" = 0x9;
    });
    golden!(Stage2Page, [0x5050_9180_b3a2_d196], {
        kind with_kind "Type" = 0x2; mem_attr with_mem_attr "MemAttr" = 0x5;
        s2ap with_s2ap "S2AP" = 0x2; sh with_sh "SH" = 0x1; af with_af "AF" = false;
        oa with_oa "OA" = 0x0000_9180_b3a2_d000; dbm with_dbm "DBM" = false;
        contiguous with_contiguous "Contiguous" = true; xn with_xn "XN" = 0x2;
        pbha with_pbha "PBHA" = 0xa;
    });
}

/// §15.3.
#[test]
fn stage_2_block_descriptors() {
    golden!(Stage2Block, [0x5878_e1e1_e1e1_07ef], {
        kind with_kind "Type" = 0x3; mem_attr with_mem_attr "MemAttr" = 0xb;
        s2ap with_s2ap "S2AP" = 0x3; sh with_sh "SH" = 0x3; af with_af "AF" = true;
        nt with_nt "nT" = true; oa with_oa "OA" = 0x0000_e1e1_e1e0_0000; dbm with_dbm "DBM" = true;
        contiguous with_contiguous "Contiguous" = true; xn with_xn "XN" = 0x3;
        pbha with_pbha "PBHA" = 0xb;
    });
    golden!(Stage2Block, [0x2828_b412_f9a1_0196], {
        kind with_kind "Type" = 0x2; mem_attr with_mem_attr "MemAttr" = 0x5;
        s2ap with_s2ap "S2AP" = 0x2; sh with_sh "SH" = 0x1; af with_af "AF" = false;
        nt with_nt "nT" = true; oa with_oa "OA" = 0x0000_b412_f9a0_0000; dbm with_dbm "DBM" = true;
        contiguous with_contiguous "Contiguous" = false; xn with_xn "XN" = 0x1;
        pbha with_pbha "PBHA" = 0x5;
    });
}

/// §13: Last without R and W, of a substream. Without SSV it is an ordinary request.
#[test]
fn a_stop_marker_is_a_last_request_for_nothing_by_a_substream() {
    let [last, ssv, read, write] = [62, 63, 60, 61].map(|bit| 1_u64 << bit);
    let is_marker = |word| PageRequest([word, 0]).is_stop_marker();
    assert!(is_marker(last | ssv));
    assert!(!is_marker(last));
    assert!(!is_marker(ssv));
    assert!(!is_marker(last | ssv | read));
    assert!(!is_marker(last | ssv | write));
}
