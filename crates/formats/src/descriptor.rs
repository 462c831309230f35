// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation table descriptors of VMSAv8-64 (§15). Bit 0 is valid; bit 1 tells a table (levels 0-2) or a
//! page (level 3) from a block. Address fields are those of the 4 KiB granule; coarser granules leave
//! the low bits zero.
//!
//! The layouts are those of addresses of at most 48 bits. Larger ones take bits that are fields here or are
//! reserved here, and depend on the granule (§15.2, §15.3): with 64 KiB granules, address bits 51:48 are
//! descriptor bits 15:12; with 4 and 16 KiB granules and DS = 1 (LPA2), bits 49:48 are in place and bits
//! 51:50 are descriptor bits 9:8, so that `SH` does not exist. Nor are the permission indices of CD.PIE and
//! STE.S2PIE listed, which take bits 54, 53, 51 and 6.

use crate::field::layout;

layout! {
    /// Table descriptor of stage 1 (§15.2).
    pub struct Stage1Table([u64; 1]) = "S1 table descriptor", "15.2" {
        0 bits (1:0)   kind     with_kind     "Type"
        0 bit  (10:10) af       with_af       "AF"
        0 addr (47:12) next     with_next     "NextTable"
        0 bit  (59:59) pxn_table with_pxn_table "PXNTable"
        0 bit  (60:60) uxn_table with_uxn_table "UXNTable"
        0 bits (62:61) ap_table with_ap_table "APTable"
        0 bit  (63:63) ns_table with_ns_table "NSTable"
    }
}

layout! {
    /// Table descriptor of stage 2 (§15.2).
    pub struct Stage2Table([u64; 1]) = "S2 table descriptor", "15.2" {
        0 bits (1:0)   kind with_kind "Type"
        0 bit  (10:10) af   with_af   "AF"
        0 addr (47:12) next with_next "NextTable"
    }
}

layout! {
    /// Page descriptor of stage 1: level 3 (§15.3).
    pub struct Stage1Page([u64; 1]) = "S1 page descriptor", "15.3" {
        0 bits (1:0)   kind       with_kind       "Type"
        0 bits (4:2)   attr_index with_attr_index "AttrIndx"
        0 bit  (5:5)   ns         with_ns         "NS"
        0 bits (7:6)   ap         with_ap         "AP"
        0 bits (9:8)   sh         with_sh         "SH"
        0 bit  (10:10) af         with_af         "AF"
        0 bit  (11:11) ng         with_ng         "nG"
        0 addr (47:12) oa         with_oa         "OA"
        0 bit  (50:50) gp         with_gp         "GP"
        0 bit  (51:51) dbm        with_dbm        "DBM"
        0 bit  (52:52) contiguous with_contiguous "Contiguous"
        0 bit  (53:53) pxn        with_pxn        "PXN"
        0 bit  (54:54) uxn        with_uxn        "UXN"
        0 bits (58:55) software   with_software   "Software"
        0 bits (62:59) pbha       with_pbha       "PBHA"
    }
}

layout! {
    /// Block descriptor of stage 1: levels 1 and 2 (§15.3). A level-1 block leaves bits 29:21 of OA zero.
    pub struct Stage1Block([u64; 1]) = "S1 block descriptor", "15.3" {
        0 bits (1:0)   kind       with_kind       "Type"
        0 bits (4:2)   attr_index with_attr_index "AttrIndx"
        0 bit  (5:5)   ns         with_ns         "NS"
        0 bits (7:6)   ap         with_ap         "AP"
        0 bits (9:8)   sh         with_sh         "SH"
        0 bit  (10:10) af         with_af         "AF"
        0 bit  (11:11) ng         with_ng         "nG"
        0 bit  (16:16) nt         with_nt         "nT"
        0 addr (47:21) oa         with_oa         "OA"
        0 bit  (50:50) gp         with_gp         "GP"
        0 bit  (51:51) dbm        with_dbm        "DBM"
        0 bit  (52:52) contiguous with_contiguous "Contiguous"
        0 bit  (53:53) pxn        with_pxn        "PXN"
        0 bit  (54:54) uxn        with_uxn        "UXN"
        0 bits (58:55) software   with_software   "Software"
        0 bits (62:59) pbha       with_pbha       "PBHA"
    }
}

layout! {
    /// Page descriptor of stage 2: level 3 (§15.3).
    pub struct Stage2Page([u64; 1]) = "S2 page descriptor", "15.3" {
        0 bits (1:0)   kind       with_kind       "Type"
        0 bits (5:2)   mem_attr   with_mem_attr   "MemAttr"
        0 bits (7:6)   s2ap       with_s2ap       "S2AP"
        0 bits (9:8)   sh         with_sh         "SH"
        0 bit  (10:10) af         with_af         "AF"
        0 addr (47:12) oa         with_oa         "OA"
        0 bit  (51:51) dbm        with_dbm        "DBM"
        0 bit  (52:52) contiguous with_contiguous "Contiguous"
        0 bits (54:53) xn         with_xn         "XN"
        0 bits (58:55) software   with_software   "Software"
        0 bits (62:59) pbha       with_pbha       "PBHA"
    }
}

layout! {
    /// Block descriptor of stage 2: levels 1 and 2 (§15.3). A level-1 block leaves bits 29:21 of OA zero.
    pub struct Stage2Block([u64; 1]) = "S2 block descriptor", "15.3" {
        0 bits (1:0)   kind       with_kind       "Type"
        0 bits (5:2)   mem_attr   with_mem_attr   "MemAttr"
        0 bits (7:6)   s2ap       with_s2ap       "S2AP"
        0 bits (9:8)   sh         with_sh         "SH"
        0 bit  (10:10) af         with_af         "AF"
        0 bit  (16:16) nt         with_nt         "nT"
        0 addr (47:21) oa         with_oa         "OA"
        0 bit  (51:51) dbm        with_dbm        "DBM"
        0 bit  (52:52) contiguous with_contiguous "Contiguous"
        0 bits (54:53) xn         with_xn         "XN"
        0 bits (58:55) software   with_software   "Software"
        0 bits (62:59) pbha       with_pbha       "PBHA"
    }
}

/// `Type` of a block at levels 0 to 2.
pub const BLOCK: u64 = 0b01;
/// `Type` of a table at levels -1 to 2, and of a page at level 3.
pub const TABLE_OR_PAGE: u64 = 0b11;
