// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address translation operations (§2.5): software asks what an address translates to. `GATOS_*` are
//! in register page 0; `VATOS_*`, for stage 1 of one VM, have a page of their own and the same fields.

use crate::field::layout;

/// Where the pages of optional registers begin, from the start of page 0 (§2.1).
pub const OPTIONAL_PAGES: u32 = 0x2_0000;

/// Offset of the VATOS page from the start of page 0, by `IDR2.BA_VATOS` (§2.2).
pub const fn vatos_page(ba_vatos: u64) -> u64 {
    // BA_VATOS has 10 bits: no overflow for a value that Idr2 gives.
    (OPTIONAL_PAGES as u64).wrapping_add(ba_vatos.wrapping_mul(super::PAGE as u64))
}

macro_rules! translation_operation {
    ($ctrl:ident $ctrl_title:literal $ctrl_offset:literal, $sid:ident $sid_title:literal $sid_offset:literal,
     $addr:ident $addr_title:literal $addr_offset:literal,
     $par:ident $par_title:literal, $par_fault:ident $par_fault_title:literal $par_offset:literal,
     $place:literal) => {
        layout! {
            /// Starts an address translation operation
            #[doc = $place]
            pub register $ctrl(u32) = $ctrl_title @ $ctrl_offset, "2.5" {
                bit  (0:0) run with_run "RUN"
            }
        }
        layout! {
            /// Stream of an address translation operation
            #[doc = $place]
            pub register $sid(u64) = $sid_title @ $sid_offset, "2.5" {
                bits (31:0)  stream_id    with_stream_id    "STREAMID"
                bits (51:32) substream_id with_substream_id "SUBSTREAMID"
                bit  (52:52) ssid_valid   with_ssid_valid   "SSID_VALID"
            }
        }
        layout! {
            /// Address and kind of an address translation operation
            #[doc = $place]
            pub register $addr(u64) = $addr_title @ $addr_offset, "2.5" {
                bit  (6:6)   httui with_httui "HTTUI"
                bit  (7:7)   ind   with_ind   "InD"
                bit  (8:8)   rnw   with_rnw   "RnW"
                bit  (9:9)   pnu   with_pnu   "PnU"
                bits (11:10) kind  with_kind  "TYPE"
                addr (63:12) addr  with_addr  "ADDR"
            }
        }
        layout! {
            /// Result of an address translation operation that succeeded
            #[doc = $place]
            pub register $par(u64) = $par_title @ $par_offset, "2.5" {
                bit  (0:0)   fault with_fault "FAULT"
                bits (9:8)   sh    with_sh    "SH"
                bit  (11:11) size  with_size  "Size"
                addr (55:12) addr  with_addr  "ADDR"
                bits (63:56) attr  with_attr  "ATTR"
            }
        }
        layout! {
            /// Result of an address translation operation that faulted (FAULT = 1)
            #[doc = $place]
            pub register $par_fault(u64) = $par_fault_title @ $par_offset, "2.5" {
                bit  (0:0)   fault      with_fault      "FAULT"
                bits (2:1)   reason     with_reason     "REASON"
                bits (11:4)  fault_code with_fault_code "FAULTCODE"
                addr (55:12) faddr      with_faddr      "FADDR"
            }
        }
    };
}

translation_operation!(GatosCtrl "GATOS_CTRL" 0x100, GatosSid "GATOS_SID" 0x108,
    GatosAddr "GATOS_ADDR" 0x110,
    GatosPar "GATOS_PAR", GatosParFault "GATOS_PAR (fault)" 0x118,
    "(§2.5).");
translation_operation!(VatosCtrl "VATOS_CTRL" 0xa00, VatosSid "VATOS_SID" 0xa08,
    VatosAddr "VATOS_ADDR" 0xa10,
    VatosPar "VATOS_PAR", VatosParFault "VATOS_PAR (fault)" 0xa18,
    "of a VM; offset within the VATOS page (§2.5).");

layout! {
    /// VMID that the VATOS page translates for (§2.5).
    pub register VatosSel(u32) = "VATOS_SEL" @ 0x180, "2.5" {
        bits (15:0)  vmid with_vmid "VMID"
    }
}
