// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performance monitor counter groups (§18): a page of registers each, or two, wherever firmware says. Offsets are from
//! the start of the group's page 0; where `PMCG_CFGR.RELOC_CTRS` is set, counters, overflow status and
//! `PMCG_CAPR` are at the same offsets in page 1 instead.
//!
//! The reference names the registers and their offsets. The bits of [`PmcgCfgr`] and [`PmcgEvtyper`] are those that
//! Linux's driver uses.

use crate::field::layout;

/// The first counter; the others follow, 4 bytes apart where they have 32 bits at most, else 8.
pub const PMCG_EVCNTR: u32 = 0x000;
/// Bytes from one counter's type or filter to the next.
pub const PMCG_STRIDE: u32 = 4;
/// Sets bits of the counters that count, 64 bits.
pub const PMCG_CNTENSET: u32 = 0xc00;
/// Clears bits of the counters that count, 64 bits.
pub const PMCG_CNTENCLR: u32 = 0xc20;
/// Sets bits of the counters whose overflow interrupts, 64 bits.
pub const PMCG_INTENSET: u32 = 0xc40;
/// Clears bits of the counters whose overflow interrupts, 64 bits.
pub const PMCG_INTENCLR: u32 = 0xc60;
/// Clears bits of the counters that have overflown, 64 bits.
pub const PMCG_OVSCLR: u32 = 0xc80;
/// Sets bits of the counters that have overflown, 64 bits.
pub const PMCG_OVSSET: u32 = 0xcc0;
/// Which of the events 0 to 63 are implemented, 64 bits.
pub const PMCG_CEID0: u32 = 0xe20;
/// Which of the events 64 to 127 are implemented, 64 bits.
pub const PMCG_CEID1: u32 = 0xe28;

layout! {
    /// What the first counter counts; the others' are [`PMCG_STRIDE`] bytes apart (§18).
    pub register PmcgEvtyper(u32) = "PMCG_EVTYPER0" @ 0x400, "18" {
        bits (15:0)  event    with_event    "EVENT"
        bit  (29:29) sid_span with_sid_span "FILTER_SID_SPAN"
    }
}
layout! {
    /// The first counter's stream filter; the others' are [`PMCG_STRIDE`] bytes apart. With FILTER_SID_SPAN the
    /// zero above the lowest ones ends a mask: `...0111` matches whatever its low four bits are (§18).
    pub register PmcgSmr(u32) = "PMCG_SMR0" @ 0xa00, "18" {
        bits (31:0) stream_id with_stream_id "STREAMID"
    }
}
layout! {
    /// What a group is like (§18).
    pub register PmcgCfgr(u32) = "PMCG_CFGR" @ 0xe00, "18" {
        bits (5:0)   nctr       with_nctr       "NCTR"
        bits (13:8)  size       with_size       "SIZE"
        bit  (20:20) reloc_ctrs with_reloc_ctrs "RELOC_CTRS"
        bit  (21:21) msi        with_msi        "MSI"
        bit  (22:22) capture    with_capture    "CAPTURE"
        bit  (23:23) sid_filter_type with_sid_filter_type "SID_FILTER_TYPE"
    }
}
layout! {
    /// Lets a group count (§18).
    pub register PmcgCr(u32) = "PMCG_CR" @ 0xe04, "18" {
        bit  (0:0) e with_e "E"
    }
}
layout! {
    /// Whether overflows interrupt (§18).
    pub register PmcgIrqCtrl(u32) = "PMCG_IRQ_CTRL" @ 0xe50, "18" {
        bit  (0:0) irqen with_irqen "IRQEN"
    }
}
layout! {
    /// [`PmcgIrqCtrl`] as it is in effect (§18).
    pub register PmcgIrqCtrlAck(u32) = "PMCG_IRQ_CTRLACK" @ 0xe54, "18" {
        bit  (0:0) irqen with_irqen "IRQEN"
    }
}
layout! {
    /// Where the message of an overflow goes; 0 for none (§18).
    pub register PmcgIrqCfg0(u64) = "PMCG_IRQ_CFG0" @ 0xe58, "18" {
        addr (55:2) addr with_addr "ADDR"
    }
}
