// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layouts of descriptors (§15.2, §15.3), put together from the fields that vary.

use crate::field::layout;

/// Declares a descriptor from the names of its parts, lowest bits first.
macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident = $title:literal, $section:literal: $($part:ident)*) => {
        descriptor! { @ [$(#[$doc])* $name $title $section] [0 bits (1:0) kind with_kind "Type"] $($part)* }
    };
    (@ [$(#[$doc:meta])* $name:ident $title:literal $section:literal] [$($rows:tt)*]) => {
        layout! {
            $(#[$doc])*
            pub struct $name([u64; 1]) = $title, $section { $($rows)* }
        }
    };

    // Memory type.
    (@ $head:tt [$($rows:tt)*] attr_1 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (4:2)   attr_index with_attr_index "AttrIndx"
        0 bit  (5:5)   ns         with_ns         "NS"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] attr_2 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (5:2)   mem_attr   with_mem_attr   "MemAttr"
    ] $($part)* } };
    // Permissions: low bits.
    (@ $head:tt [$($rows:tt)*] ap $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (7:6)   ap         with_ap         "AP"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] s2ap $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (7:6)   s2ap       with_s2ap       "S2AP"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] pi_1 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (6:6)   pi_index_0 with_pi_index_0 "PIIndex_0"
        0 bit  (7:7)   n_dirty    with_n_dirty    "nDirty"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] pi_2 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (6:6)   pi_index_0 with_pi_index_0 "PIIndex_0"
        0 bit  (7:7)   dirty      with_dirty      "Dirty"
    ] $($part)* } };
    // Shareability, or address bits in its place.
    (@ $head:tt [$($rows:tt)*] sh $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (9:8)   sh         with_sh         "SH"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] oa_51_50 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (9:8)   oa_51_50   with_oa_51_50   "OA_51_50"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] next_51_50 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (9:8)   next_51_50 with_next_51_50 "NextTable_51_50"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] af $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (10:10) af         with_af         "AF"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] ng $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (11:11) ng         with_ng         "nG"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] oa_51_48 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (15:12) oa_51_48   with_oa_51_48   "OA_51_48"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] next_51_48 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (15:12) next_51_48 with_next_51_48 "NextTable_51_48"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] nt $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (16:16) nt         with_nt         "nT"
    ] $($part)* } };
    // Addresses: of 48 bits, of LPA2, of 64 KiB.
    (@ $head:tt [$($rows:tt)*] page $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (47:12) oa         with_oa         "OA"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] page_lpa2 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (49:12) oa         with_oa         "OA"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] page_64k $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (47:16) oa         with_oa         "OA"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] block $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (47:21) oa         with_oa         "OA"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] block_lpa2 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (49:21) oa         with_oa         "OA"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] block_64k $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (47:29) oa         with_oa         "OA"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] next $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (47:12) next       with_next       "NextTable"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] next_lpa2 $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (49:12) next       with_next       "NextTable"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] next_64k $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 addr (47:16) next       with_next       "NextTable"
    ] $($part)* } };
    // High bits.
    (@ $head:tt [$($rows:tt)*] gp $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (50:50) gp         with_gp         "GP"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] dbm $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (51:51) dbm        with_dbm        "DBM"
        0 bit  (52:52) contiguous with_contiguous "Contiguous"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] pi $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (51:51) pi_index_1 with_pi_index_1 "PIIndex_1"
        0 bit  (52:52) contiguous with_contiguous "Contiguous"
        0 bit  (53:53) pi_index_2 with_pi_index_2 "PIIndex_2"
        0 bit  (54:54) pi_index_3 with_pi_index_3 "PIIndex_3"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] pxn_uxn $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (53:53) pxn        with_pxn        "PXN"
        0 bit  (54:54) uxn        with_uxn        "UXN"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] xn $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (54:53) xn         with_xn         "XN"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] soft $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bits (58:55) software   with_software   "Software"
        0 bits (62:59) pbha       with_pbha       "PBHA"
    ] $($part)* } };
    (@ $head:tt [$($rows:tt)*] limits $($part:ident)*) => { descriptor! { @ $head [$($rows)*
        0 bit  (59:59) pxn_table  with_pxn_table  "PXNTable"
        0 bit  (60:60) uxn_table  with_uxn_table  "UXNTable"
        0 bits (62:61) ap_table   with_ap_table   "APTable"
        0 bit  (63:63) ns_table   with_ns_table   "NSTable"
    ] $($part)* } };
}

descriptor! {
    /// Table descriptor of stage 1 (§15.2).
    Stage1Table = "S1 table descriptor", "15.2": af next limits
}
descriptor! {
    /// Table descriptor of stage 1 with LPA2 (§15.2).
    Stage1TableLpa2 = "S1 table descriptor (LPA2)", "15.2": next_51_50 af next_lpa2 limits
}
descriptor! {
    /// Table descriptor of stage 1 with 64 KiB granule and 52-bit addresses (§15.2).
    Stage1Table64k = "S1 table descriptor (64K, 52-bit)", "15.2": af next_51_48 next_64k limits
}
descriptor! {
    /// Table descriptor of stage 2 (§15.2).
    Stage2Table = "S2 table descriptor", "15.2": af next
}
descriptor! {
    /// Table descriptor of stage 2 with LPA2 (§15.2).
    Stage2TableLpa2 = "S2 table descriptor (LPA2)", "15.2": next_51_50 af next_lpa2
}
descriptor! {
    /// Table descriptor of stage 2 with 64 KiB granule and 52-bit addresses (§15.2).
    Stage2Table64k = "S2 table descriptor (64K, 52-bit)", "15.2": af next_51_48 next_64k
}

descriptor! {
    /// Block descriptor of stage 1: levels 1 and 2 (§15.3). A level-1 block leaves bits 29:21 of OA zero.
    Stage1Block = "S1 block descriptor", "15.3":
        attr_1 ap sh af ng nt block gp dbm pxn_uxn soft
}
descriptor! {
    /// Block descriptor of stage 1 with indirect permissions (§15.3).
    Stage1BlockIndirect = "S1 block descriptor (indirect)", "15.3":
        attr_1 pi_1 sh af ng nt block gp pi soft
}
descriptor! {
    /// Block descriptor of stage 1 with LPA2: levels 0 to 2 (§15.3).
    Stage1BlockLpa2 = "S1 block descriptor (LPA2)", "15.3":
        attr_1 ap oa_51_50 af ng nt block_lpa2 gp dbm pxn_uxn soft
}
descriptor! {
    /// Block descriptor of stage 1 with LPA2 and indirect permissions (§15.3).
    Stage1BlockLpa2Indirect = "S1 block descriptor (LPA2, indirect)", "15.3":
        attr_1 pi_1 oa_51_50 af ng nt block_lpa2 gp pi soft
}
descriptor! {
    /// Block descriptor of stage 1 with 64 KiB granule and 52-bit addresses: levels 1 and 2 (§15.3).
    Stage1Block64k = "S1 block descriptor (64K, 52-bit)", "15.3":
        attr_1 ap sh af ng oa_51_48 nt block_64k gp dbm pxn_uxn soft
}
descriptor! {
    /// Block descriptor of stage 1 with 64 KiB granule, 52-bit addresses and indirect permissions (§15.3).
    Stage1Block64kIndirect = "S1 block descriptor (64K, 52-bit, indirect)", "15.3":
        attr_1 pi_1 sh af ng oa_51_48 nt block_64k gp pi soft
}
descriptor! {
    /// Page descriptor of stage 1: level 3 (§15.3).
    Stage1Page = "S1 page descriptor", "15.3": attr_1 ap sh af ng page gp dbm pxn_uxn soft
}
descriptor! {
    /// Page descriptor of stage 1 with indirect permissions (§15.3).
    Stage1PageIndirect = "S1 page descriptor (indirect)", "15.3":
        attr_1 pi_1 sh af ng page gp pi soft
}
descriptor! {
    /// Page descriptor of stage 1 with LPA2 (§15.3).
    Stage1PageLpa2 = "S1 page descriptor (LPA2)", "15.3":
        attr_1 ap oa_51_50 af ng page_lpa2 gp dbm pxn_uxn soft
}
descriptor! {
    /// Page descriptor of stage 1 with LPA2 and indirect permissions (§15.3).
    Stage1PageLpa2Indirect = "S1 page descriptor (LPA2, indirect)", "15.3":
        attr_1 pi_1 oa_51_50 af ng page_lpa2 gp pi soft
}
descriptor! {
    /// Page descriptor of stage 1 with 64 KiB granule and 52-bit addresses (§15.3).
    Stage1Page64k = "S1 page descriptor (64K, 52-bit)", "15.3":
        attr_1 ap sh af ng oa_51_48 page_64k gp dbm pxn_uxn soft
}
descriptor! {
    /// Page descriptor of stage 1 with 64 KiB granule, 52-bit addresses and indirect permissions (§15.3).
    Stage1Page64kIndirect = "S1 page descriptor (64K, 52-bit, indirect)", "15.3":
        attr_1 pi_1 sh af ng oa_51_48 page_64k gp pi soft
}

descriptor! {
    /// Block descriptor of stage 2: levels 1 and 2 (§15.3). A level-1 block leaves bits 29:21 of OA zero.
    Stage2Block = "S2 block descriptor", "15.3": attr_2 s2ap sh af nt block dbm xn soft
}
descriptor! {
    /// Block descriptor of stage 2 with indirect permissions (§15.3).
    Stage2BlockIndirect = "S2 block descriptor (indirect)", "15.3":
        attr_2 pi_2 sh af nt block pi soft
}
descriptor! {
    /// Block descriptor of stage 2 with LPA2: levels 0 to 2 (§15.3).
    Stage2BlockLpa2 = "S2 block descriptor (LPA2)", "15.3":
        attr_2 s2ap oa_51_50 af nt block_lpa2 dbm xn soft
}
descriptor! {
    /// Block descriptor of stage 2 with LPA2 and indirect permissions (§15.3).
    Stage2BlockLpa2Indirect = "S2 block descriptor (LPA2, indirect)", "15.3":
        attr_2 pi_2 oa_51_50 af nt block_lpa2 pi soft
}
descriptor! {
    /// Block descriptor of stage 2 with 64 KiB granule and 52-bit addresses: levels 1 and 2 (§15.3).
    Stage2Block64k = "S2 block descriptor (64K, 52-bit)", "15.3":
        attr_2 s2ap sh af oa_51_48 nt block_64k dbm xn soft
}
descriptor! {
    /// Block descriptor of stage 2 with 64 KiB granule, 52-bit addresses and indirect permissions (§15.3).
    Stage2Block64kIndirect = "S2 block descriptor (64K, 52-bit, indirect)", "15.3":
        attr_2 pi_2 sh af oa_51_48 nt block_64k pi soft
}
descriptor! {
    /// Page descriptor of stage 2: level 3 (§15.3).
    Stage2Page = "S2 page descriptor", "15.3": attr_2 s2ap sh af page dbm xn soft
}
descriptor! {
    /// Page descriptor of stage 2 with indirect permissions (§15.3).
    Stage2PageIndirect = "S2 page descriptor (indirect)", "15.3": attr_2 pi_2 sh af page pi soft
}
descriptor! {
    /// Page descriptor of stage 2 with LPA2 (§15.3).
    Stage2PageLpa2 = "S2 page descriptor (LPA2)", "15.3":
        attr_2 s2ap oa_51_50 af page_lpa2 dbm xn soft
}
descriptor! {
    /// Page descriptor of stage 2 with LPA2 and indirect permissions (§15.3).
    Stage2PageLpa2Indirect = "S2 page descriptor (LPA2, indirect)", "15.3":
        attr_2 pi_2 oa_51_50 af page_lpa2 pi soft
}
descriptor! {
    /// Page descriptor of stage 2 with 64 KiB granule and 52-bit addresses (§15.3).
    Stage2Page64k = "S2 page descriptor (64K, 52-bit)", "15.3":
        attr_2 s2ap sh af oa_51_48 page_64k dbm xn soft
}
descriptor! {
    /// Page descriptor of stage 2 with 64 KiB granule, 52-bit addresses and indirect permissions (§15.3).
    Stage2Page64kIndirect = "S2 page descriptor (64K, 52-bit, indirect)", "15.3":
        attr_2 pi_2 sh af oa_51_48 page_64k pi soft
}
