// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's stream table entry: what it asks for, and the host's entry that does that and no more (§5.2, §7.1).
//!
//! | fields | what becomes of them |
//! |---|---|
//! | V, Config | 0xx aborts; bypass is stage 2 alone; stage 1 is nested. Stage 2 is illegal |
//! | S1Fmt, S1ContextPtr, S1CDMax, S1DSS, S1CIR, S1COR, S1CSH | the guest's, with reserved codes as what hardware takes them for |
//! | S1STALLD | set where the guest sets it, is not shown stalls, or the host forbids them: contexts with CD.S = 1 are then illegal (C_BAD_CD) |
//! | S1PIE | the guest's, where it is shown IDR3.S1PI |
//! | EATS | ATS where the guest asks for full ATS, is shown ATS, and the host allows it; else none. It is full or split-stage ATS, as the host says: with that the device knows what the guest takes for physical addresses. Split-stage ATS of the guest's own, and permission tables, are illegal |
//! | MEV | set: the host decides |
//! | CONT, DRE, DCP, PPAR, SW_RESERVED | hints, or the host's: not taken over |
//! | STRW, S2*, S_S2*, AssuredOnly, TL0, TL1 | ignored by an SMMU with stage 1 alone, and not taken over |
//! | MTCFG, MemAttr, ALLOCCFG, SHCFG, PRIVCFG, INSTCFG | ignored as well: the host's, of the [`Parent`](crate::nest::Parent); under an [`Iommu`](crate::Iommu) the last two are those of [`MasterConfig::overrides`](crate::MasterConfig::overrides) |
//! | IMPDEF*, S1MPAM, PARTID, PMG, MPAM_NS, VMSPtr, MECID, DPT_VMATCH, other bits | must be 0 |
//!
//! As in hardware, nothing is looked at but V of an entry with V = 0, and nothing but Config of one that aborts.

use smmuv3_formats::ste::config;
use smmuv3_formats::{Layout, PhysAddr, Ste, legality};

use crate::ats::AtsMode;
use crate::context_table::ContextFormat;
use crate::entry::WithoutSubstream;
use crate::nest::{Guest, Illegal, no_reserved_bits, none_of};

/// What a guest asks of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The entry is invalid: accesses abort, and the guest expects C_BAD_STE.
    Invalid,
    /// Accesses abort, silently.
    Abort,
    /// The guest's stage 1 is bypassed.
    Bypass,
    /// The guest's stage 1 translates.
    Stage1(Contexts),
}

/// The contexts of a guest's stream, all in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts {
    /// Address of the table, as the guest knows it: an intermediate address.
    pub table: PhysAddr,
    /// How it is laid out; of one context alone, [`ContextFormat::Linear`].
    pub format: ContextFormat,
    /// Bits of a SubstreamID; 0 for one context and no substreams.
    pub bits: u32,
    /// What becomes of accesses without a substream, where there are substreams.
    pub without: WithoutSubstream,
    /// Codes of S1CIR, S1COR and S1CSH: how contexts are fetched.
    pub fetch: [u64; 3],
    /// Contexts must not stall (S1STALLD).
    pub no_stalls: bool,
    /// Contexts may use indirect permissions (S1PIE).
    pub indirect: bool,
    /// Its device may use ATS.
    pub ats: bool,
}

/// What the host allows a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// ATS, and which. [`AtsMode::Split`] where the host's SMMU has it.
    pub ats: AtsMode,
    /// Faults of stage 1 may stall, where the guest is shown that. Never for PCIe (§11).
    pub stalls: bool,
}

impl Request {
    /// What the guest's entry `ste` asks for.
    ///
    /// # Errors
    /// The field for which the SMMU that the guest is shown rejects it (C_BAD_STE).
    pub fn decode(ste: &Ste, guest: &Guest) -> Result<Self, Illegal> {
        if !ste.v() {
            return Ok(Self::Invalid);
        }
        if ste.config() & config::BYPASS == 0 {
            return Ok(Self::Abort);
        }
        let implementation = guest.implementation();
        legality::ste(ste, &implementation)
            .map_err(|rule| Illegal::of(rule, Ste::FIELDS, &ste.0))?;
        no_reserved_bits(Ste::NAME, &ste.0)?;
        let indirect = implementation.idr3.s1pi();
        none_of(
            "5.2",
            "must be 0: the guest's SMMU does not have it",
            &[
                (ste.impdef_1(), "IMPDEF1"),
                (ste.impdef_2(), "IMPDEF2"),
                (ste.impdef_4(), "IMPDEF4"),
                (u64::from(ste.s1_mpam()), "S1MPAM"),
                (ste.dpt_vmatch(), "DPT_VMATCH"),
                (ste.part_id(), "PARTID"),
                (ste.mec_id(), "MECID"),
                (ste.pmg(), "PMG"),
                (u64::from(ste.mpam_ns()), "MPAM_NS"),
                (ste.vms_ptr(), "VMSPtr"),
                (u64::from(ste.s1_pie() && !indirect), "S1PIE"),
            ],
        )?;
        if ste.config() == config::BYPASS {
            return Ok(Self::Bypass);
        }
        // Stage 1 alone: the guest's SMMU has no stage 2, so that any other code was refused.
        let table = ste.s1_context_ptr();
        if table.checked_shr(guest.output_bits()).unwrap_or(0) != 0 {
            let text = "is beyond the guest's memory";
            return Err(Illegal::new("7.1(6d)", "S1ContextPtr", text, table));
        }
        // If the guest is shown no substreams, S1CDMax is ignored; the host's SMMU would not ignore it, so it is 0.
        let substreams = implementation.idr1.ssidsize() != 0;
        let bits = if substreams { ste.s1_cd_max() as u32 } else { 0 };
        let has_ats = implementation.idr0.ats();
        if has_ats && ste.eats() == 3 {
            // This code of EATS needs DPT; without, it acts as no ATS, and is refused, as nobody writes it by intent
            // (§7.1).
            let text = "permission tables are not implemented";
            return Err(Illegal::new("5.2", "EATS", text, 3));
        }
        Ok(Self::Stage1(Contexts {
            table: PhysAddr(table),
            format: match ste.s1_fmt() {
                1 if bits != 0 => ContextFormat::Leaves4K,
                2 if bits != 0 => ContextFormat::Leaves64K,
                _ => ContextFormat::Linear,
            },
            bits,
            without: match ste.s1_dss() {
                1 if bits != 0 => WithoutSubstream::Bypass,
                2 if bits != 0 => WithoutSubstream::First,
                _ => WithoutSubstream::Terminate,
            },
            fetch: [ste.s1_cir(), ste.s1_cor(), if ste.s1_csh() == 1 { 0 } else { ste.s1_csh() }],
            no_stalls: ste.s1_stalld() || implementation.idr0.stall_model() == 1,
            indirect: ste.s1_pie(),
            ats: has_ats && ste.eats() == 1,
        }))
    }

    /// The entry for the host's SMMU: legal there, and with the host's stage 2, VMID, MEV and limits whatever was asked
    /// for. The guest's ATS goes on and off with it: see [`Request::has_ats`].
    pub fn encode(&self, guest: &Guest, limits: Limits) -> Ste {
        let parent = guest.parent().entry();
        let contexts = match self {
            Self::Invalid | Self::Abort => return Ste::default().with_v(true),
            Self::Bypass => return parent,
            Self::Stage1(contexts) => contexts,
        };
        let [cir, cor, csh] = contexts.fetch;
        let chosen = guest.host().stalls_are_chosen();
        let ste = parent
            .with_config(config::NESTED)
            .with_s1_context_ptr(contexts.table.0)
            .with_s1_cir(cir)
            .with_s1_cor(cor)
            .with_s1_csh(csh)
            .with_s1_stalld(chosen && (contexts.no_stalls || !limits.stalls))
            .with_s1_pie(contexts.indirect)
            .with_eats(if self.has_ats(guest, limits) { limits.ats.eats() } else { 0 });
        if contexts.bits == 0 {
            return ste;
        }
        ste.with_s1_cd_max(u64::from(contexts.bits))
            .with_s1_fmt(contexts.format.code())
            .with_s1_dss(contexts.without as u64)
    }

    /// Whether [`Request::encode`] lets the device use ATS. The caller turns it on in the device after the entry is in
    /// effect, and off before it is replaced (§8.2).
    pub fn has_ats(&self, guest: &Guest, limits: Limits) -> bool {
        // Either kind excludes stage-2 stalls (§7.1(4)).
        matches!(self, Self::Stage1(contexts) if contexts.ats)
            && guest.host().ats_if(limits.ats).is_ok_and(AtsMode::is_some)
            && !guest.parent().stalls()
    }
}
