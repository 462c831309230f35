// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs of a scenario, by what their ID registers say, and what the driver is told about them.

use super::{Places, Queues, Quirks, Walks};

/// An SMMU, by what its ID registers say (§2.3).
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name, unique among instances.
    pub name: String,
    /// Bits of an ASID: 8 or 16 (IDR0.ASID16).
    pub asid_bits: u32,
    /// Bits of a VMID: 8 or 16 (IDR0.VMID16). 8 without stage 2.
    pub vmid_bits: u32,
    /// Whether it has stage 1 (IDR0.S1P).
    pub stage_1: bool,
    /// Whether it has stage 2 (IDR0.S2P).
    pub stage_2: bool,
    /// Granules of its walks (IDR5.GRAN*).
    pub granules: Granules,
    /// Output address bits: 32, 36, 40, 42, 44, 48 or 52 (IDR5.OAS).
    pub oas: u32,
    /// Bits of a StreamID (IDR1.SIDSIZE).
    pub sid_bits: u32,
    /// Bits of a SubstreamID (IDR1.SSIDSIZE).
    pub ssid_bits: u32,
    /// Whether it has 2-level context tables (IDR0.CD2L).
    pub two_level_contexts: bool,
    /// Whether it takes part in broadcast TLB maintenance (IDR0.BTM), and the driver lets it.
    pub btm: bool,
    /// It can send messages (IDR0.MSI).
    pub msi: bool,
    /// It can be asked what an address translates to (IDR0.ATOS).
    pub atos: bool,
    /// Counters in the group of performance monitors beside it, 64 at most; 0 where there is none.
    pub counters: u32,
    /// They have one filter for all of them (PMCG_CFGR.SID_FILTER_TYPE).
    pub one_filter: bool,
    /// It has streams of EL2 (IDR0.Hyp).
    pub hyp: bool,
    /// Transactions that can be stalled at the same time; 0 where faults terminate.
    pub stalls: u32,
    /// All faults of translation stall, whatever is configured.
    pub forced_stalls: bool,
    /// Command queues, completion and interrupts.
    pub queues: Queues,
    /// Whether it has 2-level stream tables (IDR0.ST_LEVEL).
    pub two_level_streams: bool,
    /// How the driver lays its stream table out.
    pub stream_table: StreamTableKind,
    /// log2 of the most entries of its command queue (IDR1.CMDQS), 1 to 19.
    pub command_queue_log2: u32,
    /// log2 of the most entries of its event queue (IDR1.EVENTQS), 1 to 19.
    pub event_queue_log2: u32,
    /// Whether devices can have translations of their own (IDR0.ATS).
    pub ats: bool,
    /// Whether devices can ask for pages (IDR0.PRI).
    pub pri: bool,
    /// log2 of the most entries of its queue of page requests (IDR1.PRIQS), 1 to 19.
    pub page_request_queue_log2: u32,
    /// Whether it has range invalidation (IDR3.RIL).
    pub range_invalidation: bool,
    /// Whether it has to be told twice of what it is to forget, which firmware says (§19).
    pub repeated_invalidation: bool,
    /// Whether its accesses to tables and queues are coherent with CPUs (IDR0.COHACC).
    pub coherent: bool,
    /// What it can walk.
    pub walks: Walks,
    /// What it does otherwise than most, and what firmware says of it.
    pub quirks: Quirks,
    /// Where it stands in the file.
    pub places: Places,
}

/// How the driver is told to lay a stream table out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamTableKind {
    /// As it does when nobody says.
    #[default]
    Automatic,
    /// In one piece.
    Linear,
    /// In two levels, however few streams there are.
    TwoLevel,
}

impl StreamTableKind {
    /// The most StreamID bits for which a linear table is small enough: 4 MiB.
    pub(crate) const LINEAR_BITS: u32 = 16;
}

/// A set of granules (§2.3, IDR5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granules {
    /// 4 KiB.
    pub kib_4: bool,
    /// 16 KiB.
    pub kib_16: bool,
    /// 64 KiB.
    pub kib_64: bool,
}

impl Granules {
    /// All three.
    pub const ALL: Self = Self { kib_4: true, kib_16: true, kib_64: true };
}
