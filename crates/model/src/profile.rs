// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an instance is: its ID registers, and how nasty it behaves.

use smmuv3_formats::legality::Implementation;
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5, Idr6, Iidr, address_size_code};

/// ID registers and habits of a model.
///
/// ID registers may be set to anything, so that a driver can be shown nonsense; what the model does not
/// implement is reported when it is used. [`Profile::contradictions`] tells what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// IDR0 (§2.3).
    pub idr0: Idr0,
    /// IDR1 (§2.3).
    pub idr1: Idr1,
    /// IDR3 (§2.3).
    pub idr3: Idr3,
    /// IDR5 (§2.3).
    pub idr5: Idr5,
    /// IDR6 (§2.3).
    pub idr6: Idr6,
    /// IIDR (§2.3). The model has the errata of the part that it names ([`Errata`](crate::Errata)).
    pub iidr: Iidr,
    /// AIDR (§2.3).
    pub aidr: Aidr,
    /// GBPA.ABORT after reset (§2.4).
    pub gbpa_abort: bool,
    /// Registers that reset to an UNKNOWN value hold numbers drawn from the seed (§2.1).
    pub unknown_reset: bool,
    /// Commands are processed as soon as CMDQ_PROD or GERRORN is written.
    pub eager: bool,
    /// Register reads until a change of CR0, IRQ_CTRL or GBPA is acknowledged: 0 at once, otherwise
    /// between 1 and this number, drawn for each field (§2.4).
    pub ack_delay: u32,
    /// As many for a translation operation (§2.5), where these are more.
    pub operation_delay: u32,
    /// Changes of CR0, IRQ_CTRL and GBPA are never acknowledged.
    pub stuck: bool,
    /// The registers of page 1 are in page 0, and there is no page 1 (§19).
    pub page_0_only: bool,
    /// An erratum (§19): a CMD_CFGI_* or CMD_TLBI_* is sure to have done something only when it is given once more after
    /// it was complete. CMD_ATC_INV does not have it.
    pub repeated_invalidation: bool,
    /// A quirk (§19): the queue stands still after CMD_PREFETCH_*.
    pub broken_prefetch: bool,
    /// A quirk (§19): a message is 64 bits, the upper half of which is 0.
    pub wide_messages: bool,
    /// What it does of all that the architecture allows.
    pub adversary: Adversary,
}

/// Freedoms of the architecture that the model makes use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adversary {
    /// Configuration is fetched speculatively, some words now and the rest later (§8.1).
    pub split_fetches: bool,
    /// Translations of reachable addresses are fetched speculatively (§8.1).
    pub prefetch: bool,
    /// Invalidations may take effect as late as at the next CMD_SYNC (§4.2).
    pub late_invalidation: bool,
    /// CMDQ_CONS may lag by one read (§3.1).
    pub lazy_cons: bool,
    /// Commands may be fetched as soon as CMDQ_PROD passes them (§3.1).
    pub prefetch_commands: bool,
    /// [`Model::act`](crate::Model::act) processes commands.
    pub act_commands: bool,
    /// [`Model::act`](crate::Model::act) performs held transfers.
    pub act_transfers: bool,
    /// A leaf with the Contiguous bit may be cached for its whole group, or a part of it (§8.2).
    pub contiguous_spans: bool,
    /// A cached STE may stand for all streams of the span that it names (STE.CONT, §5.2).
    pub contiguous_entries: bool,
    /// What a held transfer writes is marked as written only when it reaches memory (§14).
    pub late_dirty: bool,
    /// SMMUEN = 0 may be in effect for some transactions before it is acknowledged (§2.4).
    pub early_disable: bool,
    /// SMMUEN = 1 may be in effect before it is acknowledged: transactions are translated, and caches filled (§2.4).
    pub early_enable: bool,
    /// Answers to stalled transactions take effect late, they go on by themselves once they can, and the same fault of
    /// another transaction stalls without an event (§11).
    pub stalls: bool,
    /// The message of a CMD_SYNC may be on its way until the next one of its queue completes (§4.2).
    pub late_messages: bool,
    /// Devices with ATS ask for translations without need, or do without them although they may ask (§12).
    pub device_requests: bool,
    /// An event that says the same as one that nobody has read is merged into that, where it may be: its stream allows it
    /// (STE.MEV), or its kind always does (§10.1).
    pub merged_events: bool,
}

impl Adversary {
    /// Everything that the architecture allows.
    pub const ALL: Self = Self {
        split_fetches: true,
        prefetch: true,
        late_invalidation: true,
        lazy_cons: true,
        prefetch_commands: true,
        act_commands: true,
        act_transfers: true,
        contiguous_spans: true,
        contiguous_entries: true,
        late_dirty: true,
        early_disable: true,
        early_enable: true,
        stalls: true,
        late_messages: true,
        device_requests: true,
        merged_events: true,
    };

    /// Nothing beyond what is asked for: commands take effect when they are consumed and nothing is
    /// fetched without need. Caches still forget nothing by themselves.
    pub const NONE: Self = Self {
        split_fetches: false,
        prefetch: false,
        late_invalidation: false,
        lazy_cons: false,
        prefetch_commands: false,
        act_commands: false,
        act_transfers: false,
        contiguous_spans: false,
        contiguous_entries: false,
        late_dirty: false,
        early_disable: false,
        early_enable: false,
        stalls: false,
        late_messages: false,
        device_requests: false,
        merged_events: false,
    };
}

/// SMMUv3.2 with stage 1, 4 KiB granule, 44-bit output, 16-bit ASIDs and StreamIDs, range invalidation,
/// coherent, no substreams, no stalls; fully adversarial.
impl Default for Profile {
    fn default() -> Self {
        Self {
            idr0: Idr0::default()
                .with_s1p(true)
                .with_ttf(2)
                .with_cohacc(true)
                .with_asid16(true)
                .with_ttendian(2)
                .with_stall_model(1)
                .with_term_model(true)
                .with_st_level(1),
            idr1: Idr1::default().with_sidsize(16).with_cmdqs(8).with_eventqs(7),
            idr3: Idr3::default().with_had(true).with_fwb(true).with_ril(true).with_bbml(2),
            idr5: Idr5::default().with_oas(4).with_gran4k(true),
            idr6: Idr6::default(),
            iidr: Iidr::default(),
            aidr: Aidr::default().with_minor(2),
            gbpa_abort: false,
            unknown_reset: true,
            eager: false,
            ack_delay: 0,
            operation_delay: 0,
            stuck: false,
            page_0_only: false,
            repeated_invalidation: false,
            broken_prefetch: false,
            wide_messages: false,
            adversary: Adversary::ALL,
        }
    }
}

impl Profile {
    /// The default with 8-bit ASIDs.
    pub fn small_asid() -> Self {
        Self::default().asid16(false)
    }

    /// With IDR0.ASID16: 16-bit ASIDs, else 8-bit.
    #[must_use]
    pub fn asid16(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_asid16(on);
        self
    }

    /// With IDR0.S2P: stage 2, alone and below stage 1; all entries carry STE.S2VMID (§1).
    #[must_use]
    pub fn s2p(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_s2p(on);
        self.idr3 = self.idr3.with_xnx(on);
        self
    }

    /// With IDR0.S1P: stage 1.
    #[must_use]
    pub fn s1p(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_s1p(on);
        self
    }

    /// With IDR0.HTTU: hardware sets access flags (1), and marks what is written (2); 0 for neither (§14).
    #[must_use]
    pub fn httu(mut self, level: u32) -> Self {
        self.idr0 = self.idr0.with_httu(u64::from(level.min(2)));
        self
    }

    /// With IDR5.DS: 52-bit addresses of the 4 KiB and 16 KiB granules (§15.2).
    #[must_use]
    pub fn lpa2(mut self, on: bool) -> Self {
        self.idr5 = self.idr5.with_ds(on);
        self
    }

    /// With IDR5.VAX: virtual addresses of 52 bits in each half, else 48 (§2.3).
    #[must_use]
    pub fn wide_addresses(mut self, on: bool) -> Self {
        self.idr5 = self.idr5.with_vax(u64::from(on));
        self
    }

    /// With IDR0.Hyp: streams of EL2, with E2H or without (§1).
    #[must_use]
    pub fn hyp(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_hyp(on);
        self
    }

    /// With IDR1.ATTR_TYPES_OVR: GBPA and STEs can replace types and shareability of what comes in (§16.4).
    #[must_use]
    pub fn attr_types_ovr(mut self, on: bool) -> Self {
        self.idr1 = self.idr1.with_attr_types_ovr(on);
        self
    }

    /// With IDR3.STT: small translation tables, TxSZ up to 48 (§15.4).
    #[must_use]
    pub fn small_tables(mut self, on: bool) -> Self {
        self.idr3 = self.idr3.with_stt(on);
        self
    }

    /// With IDR3.BBML: what may change size without a break (§8.2). 0 needs version 3.1.
    #[must_use]
    pub fn bbml(mut self, level: u32) -> Self {
        self.idr3 = self.idr3.with_bbml(u64::from(level.min(2)));
        self
    }

    /// With IDR0.VMID16: 16-bit VMIDs, else 8-bit.
    #[must_use]
    pub fn vmid16(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_vmid16(on);
        self
    }

    /// With IDR0.STALL_MODEL (0: software chooses, 1: never, 2: always), and IDR5.STALL_MAX; without stalls nobody
    /// looks at that.
    #[must_use]
    pub fn stalls(mut self, model: u32, most: u16) -> Self {
        self.idr0 = self.idr0.with_stall_model(model.into());
        self.idr5 = self.idr5.with_stall_max(most.into());
        self
    }

    /// With IDR0.COHACC.
    #[must_use]
    pub fn cohacc(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_cohacc(on);
        self
    }

    /// With IDR0.SEV: events for processors that wait for one.
    #[must_use]
    pub fn sev(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_sev(on);
        self
    }

    /// With IDR0.MSI: interrupts may be written to memory.
    #[must_use]
    pub fn msi(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_msi(on);
        self
    }

    /// With IDR0.ATOS: software can ask what an address translates to.
    #[must_use]
    pub fn atos(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_atos(on);
        self
    }

    /// With IDR0.ST_LEVEL: 2-level stream tables, else linear ones of at most 64 streams.
    #[must_use]
    pub fn two_level_stream_table(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_st_level(u64::from(on));
        if !on {
            self.idr1 = self.idr1.with_sidsize(self.idr1.sidsize().min(6));
        }
        self
    }

    /// With IDR3.RIL: range invalidation. Without it the version is 3.1, since 3.2 demands it.
    #[must_use]
    pub fn ril(mut self, on: bool) -> Self {
        let bbml = if on { 2 } else { 0 };
        self.idr3 = self.idr3.with_ril(on).with_fwb(on).with_bbml(bbml);
        self.aidr = self.aidr.with_minor(if on { 2 } else { 1 });
        self
    }

    /// With IDR5.OAS of at most `bits` bits (32 to 52; nearest size that exists below, at least 32).
    #[must_use]
    pub fn oas(mut self, bits: u32) -> Self {
        self.idr5 = self.idr5.with_oas(address_size_code(bits.min(52)).unwrap_or(0));
        self
    }

    /// With the granules of 4, 16 and 64 KiB.
    #[must_use]
    pub fn granules(mut self, k4: bool, k16: bool, k64: bool) -> Self {
        self.idr5 = self.idr5.with_gran4k(k4).with_gran16k(k16).with_gran64k(k64);
        self
    }

    /// With IDR1.SIDSIZE: StreamIDs of `bits` bits (0 to 32). More than 6 announce 2-level tables.
    #[must_use]
    pub fn sidsize(mut self, bits: u32) -> Self {
        self.idr1 = self.idr1.with_sidsize(u64::from(bits.min(32)));
        if bits > 6 {
            self.idr0 = self.idr0.with_st_level(1);
        }
        self
    }

    /// With IDR1.SSIDSIZE: SubstreamIDs of `bits` bits (0 to 20).
    #[must_use]
    pub fn ssidsize(mut self, bits: u32) -> Self {
        self.idr1 = self.idr1.with_ssidsize(u64::from(bits.min(20)));
        self
    }

    /// With IDR0.CD2L: 2-level context tables besides linear ones.
    #[must_use]
    pub fn two_level_contexts(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_cd2l(on);
        self
    }

    /// With IDR0.BTM: it takes part in broadcast TLB maintenance unless CR2.PTM is 1
    /// ([`Model::broadcast`](crate::Model::broadcast)).
    #[must_use]
    pub fn btm(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_btm(on);
        self
    }

    /// With IDR0.ATS: devices may ask for translations and keep them. Split-stage ATS (STE.EATS = 2) as well, where
    /// there are both stages (§12).
    #[must_use]
    pub fn ats(mut self, on: bool) -> Self {
        self.idr0 = self.idr0.with_ats(on).with_atsrecerr(on);
        self
    }

    /// With IDR0.PRI: devices may ask for pages, in a queue of at most 2^`requests` entries (0 to 19, §13). It needs
    /// [`Self::ats`].
    #[must_use]
    pub fn pri(mut self, requests: u32) -> Self {
        self.idr0 = self.idr0.with_pri(true);
        self.idr1 = self.idr1.with_priqs(u64::from(requests.min(19)));
        self
    }

    /// With command and event queues of at most 2^`commands` and 2^`events` entries (each 0 to 19).
    #[must_use]
    pub fn queues(mut self, commands: u32, events: u32) -> Self {
        self.idr1 = self
            .idr1
            .with_cmdqs(u64::from(commands.min(19)))
            .with_eventqs(u64::from(events.min(19)));
        self
    }

    /// With 2^`log2` enhanced command queues in one control page (0 to 12), or none.
    #[must_use]
    pub fn ecmdq(mut self, log2: Option<u32>) -> Self {
        self.idr1 = self.idr1.with_ecmdq(log2.is_some());
        self.idr6 = Idr6::default().with_log2_num_q(u64::from(log2.unwrap_or(0).min(12)));
        self
    }

    /// Commands are processed when CMDQ_PROD is written.
    #[must_use]
    pub fn eager(mut self, on: bool) -> Self {
        self.eager = on;
        self
    }

    /// With these habits.
    #[must_use]
    pub fn adversary(mut self, adversary: Adversary) -> Self {
        self.adversary = adversary;
        self
    }

    /// What legality rules depend on; `e2h` is CR2.E2H.
    pub(crate) fn implementation(&self, e2h: bool) -> Implementation {
        Implementation {
            idr0: self.idr0,
            idr1: self.idr1,
            idr3: self.idr3,
            idr5: self.idr5,
            aidr: self.aidr,
            e2h,
        }
    }

    /// Which rules among the ID registers are broken (§2.3), and which features are announced although
    /// the model lacks them; empty for a profile that can be trusted.
    pub fn contradictions(&self) -> Vec<&'static str> {
        let Self { idr0, idr1, idr3, idr5, idr6, aidr, .. } = self;
        let version = aidr.minor();
        let rules = [
            (!idr0.s1p() && !idr0.s2p(), "neither stage is implemented"),
            (idr0.ttf() == 0, "TTF 0 is reserved"),
            (idr0.ttf() & 1 != 0, "AArch32 tables are not modelled"),
            (idr0.ttendian() == 1, "TTENDIAN 1 is reserved"),
            (idr0.ttendian() == 3, "big-endian tables are not modelled"),
            (idr1.sidsize() > 32, "SIDSIZE exceeds 32"),
            (idr1.ssidsize() > 20, "SSIDSIZE exceeds 20"),
            (
                idr1.sidsize() > 6 && idr0.st_level() == 0,
                "more than 64 streams need 2-level tables",
            ),
            (idr1.cmdqs() > 19 || idr1.eventqs() > 19, "a queue exceeds 2^19 entries"),
            (idr1.tables_preset() || idr1.queues_preset(), "preset tables are not modelled"),
            (idr1.ecmdq() && !idr0.cohacc(), "enhanced command queues need coherent access"),
            (
                idr1.ecmdq() && idr6.log2_num_p() + idr6.log2_num_q() > 12,
                "more than 4096 queues are not modelled",
            ),
            (!(idr5.gran4k() || idr5.gran16k() || idr5.gran64k()), "no granule is implemented"),
            (idr5.oas() == 7 || idr5.d128(), "128-bit tables are not modelled"),
            (idr5.vax() > 1, "virtual addresses above 53 bits are not modelled"),
            (version >= 2 && !idr3.ril(), "RIL is mandatory from version 3.2"),
            (version >= 2 && !idr3.fwb(), "FWB is mandatory from version 3.2"),
            (version >= 2 && idr3.bbml() == 0, "BBML is mandatory from version 3.2"),
            (version >= 1 && !idr3.had(), "HAD is mandatory from version 3.1"),
            (version >= 1 && idr0.s2p() && !idr3.xnx(), "XNX is mandatory from version 3.1"),
            (idr0.httu() == 3, "access flags of tables are not modelled"),
            (idr0.stall_model() == 3, "STALL_MODEL 3 is reserved"),
            (
                idr0.stall_model() != 1 && idr5.stall_max() == 0,
                "where faults can stall, one can (STALL_MAX)",
            ),
            (idr0.pri() && !idr0.ats(), "PRI needs ATS"),
            (idr0.atsrecerr() && !idr0.ats(), "ATSRECERR needs ATS"),
            (idr0.pri() && idr1.priqs() > 19, "a queue exceeds 2^19 entries"),
            (idr0.atos() || idr0.vatos(), "address translation operations are not modelled"),
            (idr3.s1pi() || idr3.s2pi() || idr3.s2po(), "permission indirection is not modelled"),
            (idr3.mpam() || idr3.dpt(), "MPAM and DPT are not modelled"),
        ];
        rules.into_iter().filter(|(broken, _)| *broken).map(|(_, text)| text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_profile_is_consistent() {
        for profile in [
            Profile::default(),
            Profile::small_asid(),
            Profile::default().s2p(true).vmid16(true).ril(false).oas(48),
            Profile::default().two_level_stream_table(false).granules(true, true, true),
            Profile::default()
                .sidsize(6)
                .sidsize(32)
                .ssidsize(20)
                .two_level_contexts(true)
                .btm(true)
                .queues(19, 19)
                .msi(true),
            Profile::default()
                .s2p(true)
                .httu(2)
                .granules(true, true, true)
                .oas(52)
                .lpa2(true)
                .wide_addresses(true)
                .small_tables(true)
                .bbml(1),
            Profile::default().s1p(false).s2p(true).httu(1),
            Profile::default().ril(false).bbml(0),
            Profile::default().hyp(true).s2p(true),
            Profile::default().stalls(0, 1),
            Profile::default().stalls(2, 0xffff).s2p(true),
            Profile::default().s2p(true).ssidsize(4).ats(true).pri(19),
        ] {
            assert_eq!(profile.contradictions(), Vec::<&str>::new());
        }
    }
}
