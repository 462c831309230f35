// SPDX-License-Identifier: MIT OR Apache-2.0
//! Context descriptors: one address space of a stream, with its stage-1 tables (§6).

use crate::field::layout;

layout! {
    /// Level-1 context descriptor (§6): points to a 4 KiB or 64 KiB leaf of CDs.
    pub struct L1Cd([u64; 1]) = "L1CD", "6" {
        0 bit  (0:0)   v      with_v      "V"
        0 addr (55:12) l2_ptr with_l2_ptr "L2Ptr"
    }
}

layout! {
    /// Context descriptor (§6), with VMSAv8-64 tables (the names of D128 are not listed).
    pub struct Cd([u64; 8]) = "CD", "6" {
        0 bits (5:0)   t0sz  with_t0sz  "T0SZ"
        0 bits (7:6)   tg0   with_tg0   "TG0"
        0 bits (9:8)   ir0   with_ir0   "IR0"
        0 bits (11:10) or0   with_or0   "OR0"
        0 bits (13:12) sh0   with_sh0   "SH0"
        0 bit  (14:14) epd0  with_epd0  "EPD0"
        0 bit  (15:15) endi  with_endi  "ENDI"
        0 bits (21:16) t1sz  with_t1sz  "T1SZ"
        0 bits (23:22) tg1   with_tg1   "TG1"
        0 bits (25:24) ir1   with_ir1   "IR1"
        0 bits (27:26) or1   with_or1   "OR1"
        0 bits (29:28) sh1   with_sh1   "SH1"
        0 bit  (30:30) epd1  with_epd1  "EPD1"
        0 bit  (31:31) v     with_v     "V"
        0 bits (34:32) ips   with_ips   "IPS"
        0 bit  (35:35) affd  with_affd  "AFFD"
        0 bit  (36:36) wxn   with_wxn   "WXN"
        0 bit  (37:37) uwxn  with_uwxn  "UWXN"
        0 bit  (38:38) tbi0  with_tbi0  "TBI0"
        0 bit  (39:39) tbi1  with_tbi1  "TBI1"
        0 bit  (40:40) pan   with_pan   "PAN"
        0 bit  (41:41) aa64  with_aa64  "AA64"
        0 bit  (42:42) hd    with_hd    "HD"
        0 bit  (43:43) ha    with_ha    "HA"
        0 bit  (44:44) s     with_s     "S"
        0 bit  (45:45) r     with_r     "R"
        0 bit  (46:46) a     with_a     "A"
        0 bit  (47:47) aset  with_aset  "ASET"
        0 bits (63:48) asid  with_asid  "ASID"

        1 bit  (0:0)   ns_cfg0 with_ns_cfg0 "NSCFG0"
        1 bit  (1:1)   had0    with_had0    "HAD0"
        1 bit  (2:2)   e0pd0   with_e0pd0   "E0PD0"
        1 bit  (3:3)   haft    with_haft    "HAFT"
        1 addr (51:4)  ttb0    with_ttb0    "TTB0"
        1 bit  (58:58) pnch    with_pnch    "PnCH"
        1 bit  (59:59) epan    with_epan    "EPAN"
        1 bit  (60:60) hwu059  with_hwu059  "HWU059"
        1 bit  (61:61) hwu060  with_hwu060  "HWU060"
        1 bit  (62:62) hwu061  with_hwu061  "HWU061"
        1 bit  (63:63) hwu062  with_hwu062  "HWU062"

        2 bit  (0:0)   ns_cfg1 with_ns_cfg1 "NSCFG1"
        2 bit  (1:1)   had1    with_had1    "HAD1"
        2 bit  (2:2)   e0pd1   with_e0pd1   "E0PD1"
        2 bit  (3:3)   aie     with_aie     "AIE"
        2 addr (51:4)  ttb1    with_ttb1    "TTB1"
        2 bit  (58:58) ds      with_ds      "DS"
        2 bit  (59:59) pie     with_pie     "PIE"
        2 bit  (60:60) hwu159  with_hwu159  "HWU159"
        2 bit  (61:61) hwu160  with_hwu160  "HWU160"
        2 bit  (62:62) hwu161  with_hwu161  "HWU161"
        2 bit  (63:63) hwu162  with_hwu162  "HWU162"

        3 bits (63:0)  mair  with_mair  "MAIR"
        4 bits (63:0)  amair with_amair "AMAIR"

        5 bits (31:0)  impdef_5 with_impdef_5 "IMPDEF5"
        5 bits (47:32) part_id  with_part_id  "PARTID"
        5 bits (55:48) pmg      with_pmg      "PMG"

        6 bits (47:0)  piiu with_piiu "PIIU"
        7 bits (47:0)  piip with_piip "PIIP"
    }
}
