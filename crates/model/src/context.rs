// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stream table entry and a context descriptor mean, worked out once when they are cached.

use smmuv3_formats::legality::{self, Implementation};
use smmuv3_formats::register::address_bits;
use smmuv3_formats::ste::config;
use smmuv3_formats::{CD_BYTES, Cd, Ste};

use crate::config_cache::Refused;
use crate::granule::Granule;
use crate::tlb::Tag;

/// What becomes of a stream's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The entry is illegal: C_BAD_STE.
    Illegal,
    /// Terminated without a word.
    Abort,
    Bypass,
    Stage1(Contexts),
    Unsupported(&'static str),
}

/// Bytes of a level-1 context descriptor (§6).
pub(crate) const L1CD_BYTES: u64 = 8;

/// Where the CDs of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contexts {
    /// First CD, or L1CD, aligned.
    pub(crate) table: u64,
    /// log2 of the number of CDs; 0 without substreams.
    pub(crate) log2: u32,
    /// log2 of the CDs of a leaf; `None` for a linear table.
    pub(crate) split: Option<u32>,
    /// Treatment of transactions without substream.
    pub(crate) s1_dss: u64,
    /// VMID that entries are tagged with.
    pub(crate) vmid: Option<u16>,
}

impl Contexts {
    /// Bytes of the table, or of its first level.
    pub(crate) const fn bytes(&self) -> u64 {
        match self.split {
            None => (CD_BYTES as u64) << self.log2,
            Some(split) => L1CD_BYTES << self.log2.saturating_sub(split),
        }
    }

    /// CDs of a leaf that have a number.
    pub(crate) const fn leaf_count(&self, split: u32) -> u32 {
        1 << (if self.log2 < split { self.log2 } else { split })
    }
}

/// Reads an STE (§5.2, §5.3).
pub(crate) fn route(ste: &Ste, implementation: &Implementation) -> Route {
    let Implementation { idr0, idr1, .. } = implementation;
    if legality::ste(ste, implementation).is_err() {
        return Route::Illegal;
    }
    match ste.config() {
        config::ABORT..config::BYPASS => return Route::Abort,
        config::BYPASS => return Route::Bypass,
        config::STAGE_1 => {}
        _ => return Route::Unsupported("stage 2 (STE.Config)"),
    }
    if idr0.hyp() && ste.strw() != 0 {
        return Route::Unsupported("the EL2 StreamWorld (STE.STRW)");
    }
    // S1CDMax is at most SSIDSIZE in a legal entry, so it fits.
    let log2 = if idr1.ssidsize() == 0 { 0 } else { ste.s1_cd_max() as u32 };
    let split = match ste.s1_fmt() {
        _ if log2 == 0 => None,
        1 => Some(6),
        2 => Some(10),
        _ => None,
    };
    let mut contexts = Contexts {
        table: 0,
        log2,
        split,
        s1_dss: if ste.s1_dss() == 3 { 0 } else { ste.s1_dss() },
        // Tagged even if stage 2 is off (§1); the field has 16 bits.
        vmid: idr0.s2p().then_some(ste.s2_vmid() as u16),
    };
    contexts.table = ste.s1_context_ptr() & !(contexts.bytes().max(CD_BYTES as u64) - 1);
    Route::Stage1(contexts)
}

/// One half of the input addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) disabled: bool,
    pub(crate) e0pd: bool,
    pub(crate) had: bool,
    pub(crate) tbi: bool,
    /// Input address bits.
    pub(crate) input: u32,
    pub(crate) granule: Granule,
    /// Table base, aligned.
    pub(crate) ttb: u64,
}

/// A legal CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) tag: Tag,
    pub(crate) aset: bool,
    pub(crate) halves: [Half; 2],
    /// Output address bits.
    pub(crate) output: u32,
    /// Output address bits of the instance.
    pub(crate) oas: u32,
    pub(crate) mair: u64,
    pub(crate) affd: bool,
    pub(crate) wxn: bool,
    pub(crate) pan: bool,
    pub(crate) epan: bool,
    /// Translation faults abort, rather than RAZ/WI.
    pub(crate) abort: bool,
    /// Translation faults are recorded.
    pub(crate) record: bool,
}

impl Context {
    /// Output address bits of tables of `granule` (§15.3).
    pub(crate) const fn output_of(&self, granule: Granule) -> u32 {
        match granule {
            Granule::K64 => self.output,
            _ if self.output > 48 => 48,
            _ => self.output,
        }
    }
}

/// Reads a CD reached through `ste` (§6).
pub(crate) fn context(
    cd: &Cd,
    ste: &Ste,
    contexts: &Contexts,
    implementation: &Implementation,
) -> Result<Context, Refused> {
    let Implementation { idr3, idr5, .. } = implementation;
    if legality::cd(cd, ste, implementation).is_err() {
        return Err(Refused::Illegal);
    }
    let unsupported = [
        (!cd.aa64(), "AArch32 tables (CD.AA64)"),
        (cd.s(), "stalls (CD.S)"),
        (cd.endi() && !(cd.epd0() && cd.epd1()), "big-endian tables (CD.ENDI)"),
        (cd.ha(), "flag updates by hardware (CD.HA)"),
        (idr5.ds() && cd.ds(), "52-bit addresses of small granules (CD.DS)"),
        (idr5.d128(), "128-bit descriptors (IDR5.D128)"),
        (idr3.s1pi() && ste.s1_pie() && cd.pie(), "permission indirection (CD.PIE)"),
        (idr3.aie() && cd.aie(), "extended attributes (CD.AIE)"),
    ];
    if let Some((_, text)) = unsupported.into_iter().find(|(set, _)| *set) {
        return Err(Refused::Unsupported(text));
    }
    let oas = implementation.output_bits();
    let output = address_bits(cd.ips()).unwrap_or(oas).min(oas);
    let half = |disabled, e0pd, had, tbi, txsz: u64, granule: Option<Granule>, ttb: u64| {
        // A half that is in use is legal: TxSZ is between 12 and 48 and the granule exists. What the
        // other one says does not matter.
        let input = 64 - txsz.clamp(12, 48) as u32;
        let granule = granule.unwrap_or(Granule::K4);
        let least = if output > 48 { 64 } else { 16 };
        let ttb = ttb & !(granule.first_table_bytes(input).max(least) - 1);
        let (e0pd, had) = (e0pd && idr3.e0pd(), had && idr3.had());
        Half { disabled, e0pd, had, tbi, input, granule, ttb }
    };
    Ok(Context {
        // The field has 16 bits.
        tag: Tag { vmid: contexts.vmid, asid: cd.asid() as u16 },
        aset: cd.aset(),
        halves: [
            half(
                cd.epd0(),
                cd.e0pd0(),
                cd.had0(),
                cd.tbi0(),
                cd.t0sz(),
                Granule::from_tg0(cd.tg0()),
                cd.ttb0(),
            ),
            half(
                cd.epd1(),
                cd.e0pd1(),
                cd.had1(),
                cd.tbi1(),
                cd.t1sz(),
                Granule::from_tg1(cd.tg1()),
                cd.ttb1(),
            ),
        ],
        output,
        oas,
        mair: cd.mair(),
        affd: cd.affd(),
        wxn: cd.wxn(),
        pan: cd.pan(),
        epan: cd.epan() && idr3.epan(),
        abort: cd.a() || implementation.idr0.term_model(),
        record: cd.r(),
    })
}
