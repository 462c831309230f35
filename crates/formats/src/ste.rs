// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream table entries: what an SMMU does with the transactions of one stream (§5).

use crate::field::layout;

layout! {
    /// Level-1 stream table descriptor (§5.1): points to an array of 2^(Span-1) STEs.
    pub struct L1Std([u64; 1]) = "L1STD", "5.1" {
        0 bits (4:0)  span   with_span   "Span"
        0 addr (55:6) l2_ptr with_l2_ptr "L2Ptr"
    }
}

/// `STE.Config` (§5.2).
pub mod config {
    /// Abort every transaction, silently.
    pub const ABORT: u64 = 0b000;
    /// Both stages bypassed.
    pub const BYPASS: u64 = 0b100;
    /// Stage 1 translates.
    pub const STAGE_1: u64 = 0b101;
    /// Stage 2 translates.
    pub const STAGE_2: u64 = 0b110;
    /// Stage 1 translates, then stage 2.
    pub const NESTED: u64 = 0b111;
}

layout! {
    /// Stream table entry (§5.2), with VMSAv8-64 tables. The bits 55:52 that S2TTB has
    /// with 128-bit tables are not listed.
    pub struct Ste([u64; 8]) = "STE", "5.2" {
        0 bit  (0:0)   v              with_v              "V"
        0 bits (3:1)   config         with_config         "Config"
        0 bits (5:4)   s1_fmt         with_s1_fmt         "S1Fmt"
        0 addr (55:6)  s1_context_ptr with_s1_context_ptr "S1ContextPtr"
        0 bits (63:59) s1_cd_max      with_s1_cd_max      "S1CDMax"

        1 bits (1:0)   s1_dss    with_s1_dss    "S1DSS"
        1 bits (3:2)   s1_cir    with_s1_cir    "S1CIR"
        1 bits (5:4)   s1_cor    with_s1_cor    "S1COR"
        1 bits (7:6)   s1_csh    with_s1_csh    "S1CSH"
        1 bit  (8:8)   s2_hwu59  with_s2_hwu59  "S2HWU59"
        1 bit  (9:9)   s2_hwu60  with_s2_hwu60  "S2HWU60"
        1 bit  (10:10) s2_hwu61  with_s2_hwu61  "S2HWU61"
        1 bit  (11:11) s2_hwu62  with_s2_hwu62  "S2HWU62"
        1 bit  (12:12) dre       with_dre       "DRE"
        1 bits (16:13) cont      with_cont      "CONT"
        1 bit  (17:17) dcp       with_dcp       "DCP"
        1 bit  (18:18) ppar      with_ppar      "PPAR"
        1 bit  (19:19) mev       with_mev       "MEV"
        1 bits (23:20) sw_reserved with_sw_reserved "SW_RESERVED"
        1 bit  (24:24) s1_pie    with_s1_pie    "S1PIE"
        1 bit  (25:25) s2_fwb    with_s2_fwb    "S2FWB"
        1 bit  (26:26) s1_mpam   with_s1_mpam   "S1MPAM"
        1 bit  (27:27) s1_stalld with_s1_stalld "S1STALLD"
        1 bits (29:28) eats      with_eats      "EATS"
        1 bits (31:30) strw      with_strw      "STRW"
        1 bits (35:32) mem_attr  with_mem_attr  "MemAttr"
        1 bit  (36:36) mt_cfg    with_mt_cfg    "MTCFG"
        1 bits (40:37) alloc_cfg with_alloc_cfg "ALLOCCFG"
        1 bits (45:44) sh_cfg    with_sh_cfg    "SHCFG"
        1 bits (47:46) ns_cfg    with_ns_cfg    "NSCFG"
        1 bits (49:48) priv_cfg  with_priv_cfg  "PRIVCFG"
        1 bits (51:50) inst_cfg  with_inst_cfg  "INSTCFG"
        1 bits (63:52) impdef_1  with_impdef_1  "IMPDEF1"

        2 bits (15:0)  s2_vmid  with_s2_vmid  "S2VMID"
        2 bits (31:16) impdef_2 with_impdef_2 "IMPDEF2"
        2 bits (37:32) s2_t0sz  with_s2_t0sz  "S2T0SZ"
        2 bits (39:38) s2_sl0   with_s2_sl0   "S2SL0"
        2 bits (41:40) s2_ir0   with_s2_ir0   "S2IR0"
        2 bits (43:42) s2_or0   with_s2_or0   "S2OR0"
        2 bits (45:44) s2_sh0   with_s2_sh0   "S2SH0"
        2 bits (47:46) s2_tg    with_s2_tg    "S2TG"
        2 bits (50:48) s2_ps    with_s2_ps    "S2PS"
        2 bit  (51:51) s2_aa64  with_s2_aa64  "S2AA64"
        2 bit  (52:52) s2_endi  with_s2_endi  "S2ENDI"
        2 bit  (53:53) s2_affd  with_s2_affd  "S2AFFD"
        2 bit  (54:54) s2_ptw   with_s2_ptw   "S2PTW"
        2 bit  (55:55) s2_hd    with_s2_hd    "S2HD"
        2 bit  (56:56) s2_ha    with_s2_ha    "S2HA"
        2 bit  (57:57) s2_s     with_s2_s     "S2S"
        2 bit  (58:58) s2_r     with_s2_r     "S2R"
        2 bit  (59:59) s2_haft  with_s2_haft  "S2HAFT"
        2 bit  (60:60) s2_pie   with_s2_pie   "S2PIE"
        2 bit  (61:61) s2_poe   with_s2_poe   "S2POE"
        2 bits (63:62) dpt_vmatch with_dpt_vmatch "DPT_VMATCH"

        3 bit  (0:0)   s2_nsw   with_s2_nsw   "S2NSW"
        3 bit  (1:1)   s2_nsa   with_s2_nsa   "S2NSA"
        3 bit  (2:2)   s2_sl0_2 with_s2_sl0_2 "S2SL0_2"
        3 bit  (3:3)   s2_ds    with_s2_ds    "S2DS"
        3 addr (51:4)  s2_ttb   with_s2_ttb   "S2TTB"
        3 bits (62:61) s2_skl   with_s2_skl   "S2SKL"

        4 bits (15:0)  impdef_4  with_impdef_4  "IMPDEF4"
        4 bits (31:16) part_id   with_part_id   "PARTID"
        4 bits (37:32) s_s2_t0sz with_s_s2_t0sz "S_S2T0SZ"
        4 bits (39:38) s_s2_sl0  with_s_s2_sl0  "S_S2SL0"
        4 bits (47:46) s_s2_tg   with_s_s2_tg   "S_S2TG"
        4 bits (63:48) mec_id    with_mec_id    "MECID"

        5 bits (7:0)   pmg          with_pmg          "PMG"
        5 bit  (8:8)   mpam_ns      with_mpam_ns      "MPAM_NS"
        5 bit  (9:9)   assured_only with_assured_only "AssuredOnly"
        5 bit  (10:10) tl0          with_tl0          "TL0"
        5 bit  (11:11) tl1          with_tl1          "TL1"
        5 addr (55:12) vms_ptr      with_vms_ptr      "VMSPtr"

        6 bit  (0:0)   s2_sw      with_s2_sw      "S2SW"
        6 bit  (1:1)   s2_sa      with_s2_sa      "S2SA"
        6 bit  (2:2)   s_s2_sl0_2 with_s_s2_sl0_2 "S_S2SL0_2"
        6 addr (55:4)  s_s2_ttb   with_s_s2_ttb   "S_S2TTB"
        6 bits (62:61) s_s2_skl   with_s_s2_skl   "S_S2SKL"

        7 bits (63:0)  s2_poi with_s2_poi "S2POI"
    }
}
