// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of the Non-secure programming interface (§2). Each type knows its offset; 64-bit
//! registers may be accessed as two 32-bit halves.
//!
//! Registers that the reference names without their fields are in [`offset`] as addresses alone.

use crate::field::layout;

mod ecmdq;
mod monitor;
pub mod offset;
mod translation;

pub use ecmdq::*;
pub use monitor::*;
pub use translation::*;

/// Bytes from one register page to the next: page 1 holds the event and PRI queue indices (§2.1).
pub const PAGE: u32 = 0x1_0000;

layout! {
    /// Feature identification 0 (§2.3).
    pub register Idr0(u32) = "IDR0" @ 0x000, "2.3" {
        bit  (0:0)   s2p       with_s2p       "S2P"
        bit  (1:1)   s1p       with_s1p       "S1P"
        bits (3:2)   ttf       with_ttf       "TTF"
        bit  (4:4)   cohacc    with_cohacc    "COHACC"
        bit  (5:5)   btm       with_btm       "BTM"
        bits (7:6)   httu      with_httu      "HTTU"
        bit  (8:8)   dormhint  with_dormhint  "DORMHINT"
        bit  (9:9)   hyp       with_hyp       "Hyp"
        bit  (10:10) ats       with_ats       "ATS"
        bit  (11:11) ns1ats    with_ns1ats    "NS1ATS"
        bit  (12:12) asid16    with_asid16    "ASID16"
        bit  (13:13) msi       with_msi       "MSI"
        bit  (14:14) sev       with_sev       "SEV"
        bit  (15:15) atos      with_atos      "ATOS"
        bit  (16:16) pri       with_pri       "PRI"
        bit  (17:17) vmw       with_vmw       "VMW"
        bit  (18:18) vmid16    with_vmid16    "VMID16"
        bit  (19:19) cd2l      with_cd2l      "CD2L"
        bit  (20:20) vatos     with_vatos     "VATOS"
        bits (22:21) ttendian  with_ttendian  "TTENDIAN"
        bit  (23:23) atsrecerr with_atsrecerr "ATSRECERR"
        bits (25:24) stall_model with_stall_model "STALL_MODEL"
        bit  (26:26) term_model with_term_model "TERM_MODEL"
        bits (28:27) st_level  with_st_level  "ST_LEVEL"
        bit  (30:30) rme_impl  with_rme_impl  "RME_IMPL"
    }
}
layout! {
    /// Feature identification 1: sizes, as powers of two (§2.3).
    pub register Idr1(u32) = "IDR1" @ 0x004, "2.3" {
        bits (5:0)   sidsize   with_sidsize   "SIDSIZE"
        bits (10:6)  ssidsize  with_ssidsize  "SSIDSIZE"
        bits (15:11) priqs     with_priqs     "PRIQS"
        bits (20:16) eventqs   with_eventqs   "EVENTQS"
        bits (25:21) cmdqs     with_cmdqs     "CMDQS"
        bit  (26:26) attr_perms_ovr with_attr_perms_ovr "ATTR_PERMS_OVR"
        bit  (27:27) attr_types_ovr with_attr_types_ovr "ATTR_TYPES_OVR"
        bit  (28:28) rel       with_rel       "REL"
        bit  (29:29) queues_preset with_queues_preset "QUEUES_PRESET"
        bit  (30:30) tables_preset with_tables_preset "TABLES_PRESET"
        bit  (31:31) ecmdq     with_ecmdq     "ECMDQ"
    }
}
layout! {
    /// Feature identification 2 (§2.3).
    pub register Idr2(u32) = "IDR2" @ 0x008, "2.3" {
        bits (9:0)   ba_vatos  with_ba_vatos  "BA_VATOS"
    }
}
layout! {
    /// Feature identification 3 (§2.3).
    pub register Idr3(u32) = "IDR3" @ 0x00c, "2.3" {
        bit  (2:2)   had       with_had       "HAD"
        bit  (3:3)   pbha      with_pbha      "PBHA"
        bit  (4:4)   xnx       with_xnx       "XNX"
        bit  (5:5)   pps       with_pps       "PPS"
        bit  (7:7)   mpam      with_mpam      "MPAM"
        bit  (8:8)   fwb       with_fwb       "FWB"
        bit  (9:9)   stt       with_stt       "STT"
        bit  (10:10) ril       with_ril       "RIL"
        bits (12:11) bbml      with_bbml      "BBML"
        bit  (13:13) e0pd      with_e0pd      "E0PD"
        bit  (14:14) ptwnnc    with_ptwnnc    "PTWNNC"
        bit  (15:15) dpt       with_dpt       "DPT"
        bit  (16:16) pasidtt   with_pasidtt   "PASIDTT"
        bit  (17:17) epan      with_epan      "EPAN"
        bit  (18:18) s1pi      with_s1pi      "S1PI"
        bit  (19:19) s2pi      with_s2pi      "S2PI"
        bit  (20:20) s2po      with_s2po      "S2PO"
        bit  (21:21) the       with_the       "THE"
        bit  (22:22) mteperm   with_mteperm   "MTEPERM"
        bit  (23:23) aie       with_aie       "AIE"
    }
}
layout! {
    /// Feature identification 4: implementation defined (§2.3).
    pub register Idr4(u32) = "IDR4" @ 0x010, "2.3" {
        bits (31:0)  impdef    with_impdef    "IMPDEF"
    }
}
layout! {
    /// Feature identification 5: address sizes and granules (§2.3).
    pub register Idr5(u32) = "IDR5" @ 0x014, "2.3" {
        bits (2:0)   oas       with_oas       "OAS"
        bit  (4:4)   gran4k    with_gran4k    "GRAN4K"
        bit  (5:5)   gran16k   with_gran16k   "GRAN16K"
        bit  (6:6)   gran64k   with_gran64k   "GRAN64K"
        bit  (7:7)   ds        with_ds        "DS"
        bit  (8:8)   d128      with_d128      "D128"
        bits (11:10) vax       with_vax       "VAX"
        bits (31:16) stall_max with_stall_max "STALL_MAX"
    }
}
layout! {
    /// Feature identification 6: enhanced command queues (§2.3).
    pub register Idr6(u32) = "IDR6" @ 0x190, "2.3" {
        bits (19:16) log2_num_q with_log2_num_q "CMDQ_CONTROL_PAGE_LOG2NUMQ"
        bits (27:24) log2_num_p with_log2_num_p "CMDQ_CONTROL_PAGE_LOG2NUMP"
    }
}
layout! {
    /// Implementation identification (§2.3).
    pub register Iidr(u32) = "IIDR" @ 0x018, "2.3" {
        bits (11:0)  implementer with_implementer "Implementer"
        bits (15:12) revision  with_revision  "Revision"
        bits (19:16) variant   with_variant   "Variant"
        bits (31:20) product_id with_product_id "ProductID"
    }
}
layout! {
    /// Architecture version: 0x00 is v3.0, 0x04 is v3.4 (§2.3).
    pub register Aidr(u32) = "AIDR" @ 0x01c, "2.3" {
        bits (3:0)   minor     with_minor     "ArchMinorRev"
        bits (7:4)   major     with_major     "ArchMajorRev"
    }
}
layout! {
    /// Control 0 (§2.4). Each field takes effect when [`Cr0Ack`] shows it.
    pub register Cr0(u32) = "CR0" @ 0x020, "2.4" {
        bit  (0:0)   smmuen    with_smmuen    "SMMUEN"
        bit  (1:1)   priqen    with_priqen    "PRIQEN"
        bit  (2:2)   eventqen  with_eventqen  "EVENTQEN"
        bit  (3:3)   cmdqen    with_cmdqen    "CMDQEN"
        bit  (4:4)   atschk    with_atschk    "ATSCHK"
        bits (8:6)   vmw       with_vmw       "VMW"
        bit  (10:10) dpt_walk_en with_dpt_walk_en "DPT_WALK_EN"
    }
}
layout! {
    /// What of [`Cr0`] is in effect (§2.4).
    pub register Cr0Ack(u32) = "CR0ACK" @ 0x024, "2.4" {
        bit  (0:0)   smmuen    with_smmuen    "SMMUEN"
        bit  (1:1)   priqen    with_priqen    "PRIQEN"
        bit  (2:2)   eventqen  with_eventqen  "EVENTQEN"
        bit  (3:3)   cmdqen    with_cmdqen    "CMDQEN"
        bit  (4:4)   atschk    with_atschk    "ATSCHK"
        bits (8:6)   vmw       with_vmw       "VMW"
        bit  (10:10) dpt_walk_en with_dpt_walk_en "DPT_WALK_EN"
    }
}
layout! {
    /// Control 1: attributes of table and queue accesses (§2.4).
    pub register Cr1(u32) = "CR1" @ 0x028, "2.4" {
        bits (1:0)   queue_ic  with_queue_ic  "QUEUE_IC"
        bits (3:2)   queue_oc  with_queue_oc  "QUEUE_OC"
        bits (5:4)   queue_sh  with_queue_sh  "QUEUE_SH"
        bits (7:6)   table_ic  with_table_ic  "TABLE_IC"
        bits (9:8)   table_oc  with_table_oc  "TABLE_OC"
        bits (11:10) table_sh  with_table_sh  "TABLE_SH"
    }
}
layout! {
    /// Control 2 (§2.4). Writable only while SMMUEN is 0.
    pub register Cr2(u32) = "CR2" @ 0x02c, "2.4" {
        bit  (0:0)   e2h       with_e2h       "E2H"
        bit  (1:1)   recinvsid with_recinvsid "RECINVSID"
        bit  (2:2)   ptm       with_ptm       "PTM"
        bit  (3:3)   rec_cfg_ats with_rec_cfg_ats "REC_CFG_ATS"
    }
}
layout! {
    /// Status (§2.2).
    pub register Statusr(u32) = "STATUSR" @ 0x040, "2.2" {
        bit  (0:0)   dormant   with_dormant   "DORMANT"
    }
}
layout! {
    /// What becomes of transactions while SMMUEN is 0 (§2.4).
    pub register Gbpa(u32) = "GBPA" @ 0x044, "2.4" {
        bits (3:0)   mem_attr  with_mem_attr  "MemAttr"
        bit  (4:4)   mt_cfg    with_mt_cfg    "MTCFG"
        bits (11:8)  alloc_cfg with_alloc_cfg "ALLOCCFG"
        bits (13:12) sh_cfg    with_sh_cfg    "SHCFG"
        bits (17:16) priv_cfg  with_priv_cfg  "PRIVCFG"
        bits (19:18) inst_cfg  with_inst_cfg  "INSTCFG"
        bit  (20:20) abort     with_abort     "ABORT"
        bit  (31:31) update    with_update    "Update"
    }
}
layout! {
    /// Attributes of transactions while SMMUEN is 0, implementation defined (§2.2).
    pub register Agbpa(u32) = "AGBPA" @ 0x048, "2.2" {
        bits (31:0)  impdef    with_impdef    "IMPDEF"
    }
}
layout! {
    /// Interrupt enables (§2.4).
    pub register IrqCtrl(u32) = "IRQ_CTRL" @ 0x050, "2.4" {
        bit  (0:0)   gerror    with_gerror    "GERROR_IRQEN"
        bit  (1:1)   priq      with_priq      "PRIQ_IRQEN"
        bit  (2:2)   eventq    with_eventq    "EVENTQ_IRQEN"
    }
}
layout! {
    /// What of [`IrqCtrl`] is in effect (§2.4).
    pub register IrqCtrlAck(u32) = "IRQ_CTRLACK" @ 0x054, "2.4" {
        bit  (0:0)   gerror    with_gerror    "GERROR_IRQEN"
        bit  (1:1)   priq      with_priq      "PRIQ_IRQEN"
        bit  (2:2)   eventq    with_eventq    "EVENTQ_IRQEN"
    }
}
layout! {
    /// Global errors: an error is active while its bit differs from [`Gerrorn`]'s (§2.4).
    pub register Gerror(u32) = "GERROR" @ 0x060, "2.4" {
        bit  (0:0)   cmdq_err            with_cmdq_err            "CMDQ_ERR"
        bit  (2:2)   eventq_abt_err      with_eventq_abt_err      "EVENTQ_ABT_ERR"
        bit  (3:3)   priq_abt_err        with_priq_abt_err        "PRIQ_ABT_ERR"
        bit  (4:4)   msi_cmdq_abt_err    with_msi_cmdq_abt_err    "MSI_CMDQ_ABT_ERR"
        bit  (5:5)   msi_eventq_abt_err  with_msi_eventq_abt_err  "MSI_EVENTQ_ABT_ERR"
        bit  (6:6)   msi_priq_abt_err    with_msi_priq_abt_err    "MSI_PRIQ_ABT_ERR"
        bit  (7:7)   msi_gerror_abt_err  with_msi_gerror_abt_err  "MSI_GERROR_ABT_ERR"
        bit  (8:8)   sfm_err             with_sfm_err             "SFM_ERR"
        bit  (9:9)   cmdqp_err           with_cmdqp_err           "CMDQP_ERR"
        bit  (10:10) dpt_err             with_dpt_err             "DPT_ERR"
    }
}
layout! {
    /// Acknowledgement of [`Gerror`], toggled by software (§2.4).
    pub register Gerrorn(u32) = "GERRORN" @ 0x064, "2.4" {
        bit  (0:0)   cmdq_err            with_cmdq_err            "CMDQ_ERR"
        bit  (2:2)   eventq_abt_err      with_eventq_abt_err      "EVENTQ_ABT_ERR"
        bit  (3:3)   priq_abt_err        with_priq_abt_err        "PRIQ_ABT_ERR"
        bit  (4:4)   msi_cmdq_abt_err    with_msi_cmdq_abt_err    "MSI_CMDQ_ABT_ERR"
        bit  (5:5)   msi_eventq_abt_err  with_msi_eventq_abt_err  "MSI_EVENTQ_ABT_ERR"
        bit  (6:6)   msi_priq_abt_err    with_msi_priq_abt_err    "MSI_PRIQ_ABT_ERR"
        bit  (7:7)   msi_gerror_abt_err  with_msi_gerror_abt_err  "MSI_GERROR_ABT_ERR"
        bit  (8:8)   sfm_err             with_sfm_err             "SFM_ERR"
        bit  (9:9)   cmdqp_err           with_cmdqp_err           "CMDQP_ERR"
        bit  (10:10) dpt_err             with_dpt_err             "DPT_ERR"
    }
}

macro_rules! irq_cfg {
    ($cfg0:ident $t0:literal $o0:literal, $cfg1:ident $t1:literal $o1:literal,
     $cfg2:ident $t2:literal $o2:literal { $($row:tt)* }) => {
        layout! {
            /// Address of an interrupt's MSI; 0 sends none (§2.4).
            pub register $cfg0(u64) = $t0 @ $o0, "2.4" {
                addr (55:2) addr with_addr "ADDR"
            }
        }
        layout! {
            /// Payload of an interrupt's MSI (§2.4).
            pub register $cfg1(u32) = $t1 @ $o1, "2.4" {
                bits (31:0) data with_data "DATA"
            }
        }
        layout! {
            /// Attributes of an interrupt's MSI (§2.4).
            pub register $cfg2(u32) = $t2 @ $o2, "2.4" {
                bits (3:0) mem_attr with_mem_attr "MemAttr"
                bits (5:4) sh with_sh "SH"
                $($row)*
            }
        }
    };
}
irq_cfg!(GerrorIrqCfg0 "GERROR_IRQ_CFG0" 0x068, GerrorIrqCfg1 "GERROR_IRQ_CFG1" 0x070,
         GerrorIrqCfg2 "GERROR_IRQ_CFG2" 0x074 {});
irq_cfg!(EventqIrqCfg0 "EVENTQ_IRQ_CFG0" 0x0b0, EventqIrqCfg1 "EVENTQ_IRQ_CFG1" 0x0b8,
         EventqIrqCfg2 "EVENTQ_IRQ_CFG2" 0x0bc {});
irq_cfg!(PriqIrqCfg0 "PRIQ_IRQ_CFG0" 0x0d0, PriqIrqCfg1 "PRIQ_IRQ_CFG1" 0x0d8,
         PriqIrqCfg2 "PRIQ_IRQ_CFG2" 0x0dc { bit (31:31) lo with_lo "LO" });

layout! {
    /// Address of the stream table (§2.5).
    pub register StrtabBase(u64) = "STRTAB_BASE" @ 0x080, "2.5" {
        addr (55:6)  addr with_addr "ADDR"
        bit  (62:62) ra   with_ra   "RA"
    }
}
layout! {
    /// Shape of the stream table (§2.5).
    pub register StrtabBaseCfg(u32) = "STRTAB_BASE_CFG" @ 0x088, "2.5" {
        bits (5:0)   log2size with_log2size "LOG2SIZE"
        bits (10:6)  split    with_split    "SPLIT"
        bits (17:16) fmt      with_fmt      "FMT"
    }
}
layout! {
    /// Address and size of the command queue (§2.5).
    pub register CmdqBase(u64) = "CMDQ_BASE" @ 0x090, "2.5" {
        bits (4:0)   log2size with_log2size "LOG2SIZE"
        addr (55:5)  addr     with_addr     "ADDR"
        bit  (62:62) ra       with_ra       "RA"
    }
}
layout! {
    /// Producer index of the command queue, written by software (§2.5).
    pub register CmdqProd(u32) = "CMDQ_PROD" @ 0x098, "2.5" {
        bits (19:0)  wr with_wr "WR"
    }
}
layout! {
    /// Consumer index of the command queue, and why it stopped (§2.5, §3.2).
    pub register CmdqCons(u32) = "CMDQ_CONS" @ 0x09c, "2.5" {
        bits (19:0)  rd  with_rd  "RD"
        bits (30:24) err with_err "ERR"
    }
}
layout! {
    /// Address and size of the event queue (§2.5).
    pub register EventqBase(u64) = "EVENTQ_BASE" @ 0x0a0, "2.5" {
        bits (4:0)   log2size with_log2size "LOG2SIZE"
        addr (55:5)  addr     with_addr     "ADDR"
        bit  (62:62) wa       with_wa       "WA"
    }
}
layout! {
    /// Producer index of the event queue, on register page 1 (§2.2).
    pub register EventqProd(u32) = "EVENTQ_PROD" @ 0x100a8, "2.5" {
        bits (19:0)  wr    with_wr    "WR"
        bit  (31:31) ovflg with_ovflg "OVFLG"
    }
}
layout! {
    /// Consumer index of the event queue, on register page 1 (§2.2).
    pub register EventqCons(u32) = "EVENTQ_CONS" @ 0x100ac, "2.5" {
        bits (19:0)  rd       with_rd       "RD"
        bit  (31:31) ovackflg with_ovackflg "OVACKFLG"
    }
}
layout! {
    /// Address and size of the PRI queue (§2.5).
    pub register PriqBase(u64) = "PRIQ_BASE" @ 0x0c0, "2.5" {
        bits (4:0)   log2size with_log2size "LOG2SIZE"
        addr (55:5)  addr     with_addr     "ADDR"
        bit  (62:62) wa       with_wa       "WA"
    }
}
layout! {
    /// Producer index of the PRI queue, on register page 1 (§2.2).
    pub register PriqProd(u32) = "PRIQ_PROD" @ 0x100c8, "2.5" {
        bits (19:0)  wr    with_wr    "WR"
        bit  (31:31) ovflg with_ovflg "OVFLG"
    }
}
layout! {
    /// Consumer index of the PRI queue, on register page 1 (§2.2).
    pub register PriqCons(u32) = "PRIQ_CONS" @ 0x100cc, "2.5" {
        bits (19:0)  rd       with_rd       "RD"
        bit  (31:31) ovackflg with_ovackflg "OVACKFLG"
    }
}
/// `CMDQ_CONS.ERR` (§3.2).
pub mod cerror {
    /// No error; never reported.
    pub const NONE: u64 = 0;
    /// Illegal command.
    pub const ILL: u64 = 1;
    /// External abort on the fetch of a command.
    pub const ABT: u64 = 2;
    /// A CMD_SYNC found ATC invalidations that timed out.
    pub const ATC_INV_SYNC: u64 = 3;

    /// The architecture's name of a code; `None` for one that it does not have.
    pub const fn name(code: u64) -> Option<&'static str> {
        Some(match code {
            NONE => "CERROR_NONE",
            ILL => "CERROR_ILL",
            ABT => "CERROR_ABT",
            ATC_INV_SYNC => "CERROR_ATC_INV_SYNC",
            _ => return None,
        })
    }
}

/// Bits of the output address sizes (§2.3), by their codes.
const ADDRESS_BITS: [u32; 8] = [32, 36, 40, 42, 44, 48, 52, 56];

/// Bits of an output address size as `IDR5.OAS`, `CD.IPS` and `STE.S2PS` encode it (§2.3); `None` for a
/// reserved code.
pub const fn address_bits(code: u64) -> Option<u32> {
    if code < 8 { Some(ADDRESS_BITS[code as usize]) } else { None }
}

/// The smallest address size code (§2.3) of at least `bits`; `None` above 56 bits.
pub const fn address_size_code_for(bits: u32) -> Option<u64> {
    let mut code = 0;
    while code < 8 {
        if bits <= ADDRESS_BITS[code] {
            return Some(code as u64);
        }
        code += 1;
    }
    None
}

/// The largest address size code (§2.3) of at most `bits`; `None` below 32 bits.
pub const fn address_size_code(bits: u32) -> Option<u64> {
    let mut code = 8;
    while code > 0 {
        code -= 1;
        if bits >= ADDRESS_BITS[code] {
            return Some(code as u64);
        }
    }
    None
}
