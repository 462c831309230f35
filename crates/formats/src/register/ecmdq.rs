// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enhanced command queues (§2.6): the array of control pages in register page 0, and what each queue has in
//! its slot of a control page.

use crate::field::layout;

/// Bytes from one control page's description to the next, from `CMDQ_CONTROL_PAGE_BASE0` on (§2.2).
pub const CONTROL_PAGE_STRIDE: u32 = 32;

layout! {
    /// Where a control page of enhanced command queues is (§2.6); the first of an array, 32 bytes apart.
    pub register CmdqControlPageBase(u64) = "CMDQ_CONTROL_PAGE_BASE0" @ 0x4000, "2.6" {
        bit  (0:0)   preset with_preset "CMDQ_CONTROL_PAGE_PRESET"
        bits (2:1)   gs     with_gs     "CMDQGS"
        addr (55:16) addr   with_addr   "ADDR"
    }
}
layout! {
    /// Enable of a control page of enhanced command queues (§2.6).
    pub register CmdqControlPageCfg(u32) = "CMDQ_CONTROL_PAGE_CFG0" @ 0x4008, "2.6" {
        bit  (0:0) en with_en "EN"
    }
}
layout! {
    /// Whether a control page of enhanced command queues is enabled (§2.6).
    pub register CmdqControlPageStatus(u32) = "CMDQ_CONTROL_PAGE_STATUS0" @ 0x400c, "2.6" {
        bit  (0:0) enack with_enack "ENACK"
    }
}
layout! {
    /// Address and size of an enhanced command queue, with the fields of
    /// [`CmdqBase`](super::CmdqBase); offset within its slot of the control page (§2.6).
    pub register EcmdqBase(u64) = "ECMDQ_BASE" @ 0x000, "2.6" {
        bits (4:0)   log2size with_log2size "LOG2SIZE"
        addr (55:5)  addr     with_addr     "ADDR"
        bit  (62:62) ra       with_ra       "RA"
    }
}
layout! {
    /// Producer index of an enhanced command queue; offset within its slot of the control page (§2.6).
    pub register EcmdqProd(u32) = "ECMDQ_PROD" @ 0x008, "2.6" {
        bits (19:0)  wr     with_wr     "WR"
        bit  (23:23) errack with_errack "ERRACK"
        bit  (31:31) en     with_en     "EN"
    }
}
layout! {
    /// Consumer index of an enhanced command queue; offset within its slot of the control page (§2.6).
    pub register EcmdqCons(u32) = "ECMDQ_CONS" @ 0x00c, "2.6" {
        bits (19:0)  rd         with_rd         "RD"
        bit  (23:23) err        with_err        "ERR"
        bits (26:24) err_reason with_err_reason "ERR_REASON"
        bit  (31:31) enack      with_enack      "ENACK"
    }
}
