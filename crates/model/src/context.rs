// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stream table entry and a context descriptor mean, worked out once when they are cached.

use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::granule::{Granule, Tables as Shape, output_bits};
use smmuv3_formats::legality::{self, Implementation};
use smmuv3_formats::permission::Regime;
use smmuv3_formats::register::address_bits;
use smmuv3_formats::ste::config;
use smmuv3_formats::{CD_BYTES, Cd, Ste};

use crate::config_cache::Refused;
use crate::stage_2::{Stage2, stage_2};
use crate::tables::Tables;
use crate::tlb::Tag;
use crate::world::World;

/// What becomes of a stream's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The entry is illegal: C_BAD_STE.
    Illegal,
    /// Terminated without a word.
    Abort,
    Bypass,
    /// Stage 1 translates, and stage 2 below it where the contexts are nested.
    Stage1(Contexts),
    /// Stage 2 alone translates.
    Stage2,
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
    /// World that entries are tagged with.
    pub(crate) world: World,
    /// VMID that entries are tagged with.
    pub(crate) vmid: Option<u16>,
    /// They are at intermediate addresses: stage 2 is on.
    pub(crate) nested: bool,
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

/// Reads an STE, and its stage 2 where that is on (§5.2, §5.3).
pub(crate) fn route(ste: &Ste, implementation: &Implementation) -> (Route, Option<Stage2>) {
    if legality::ste(ste, implementation).is_err() {
        return (Route::Illegal, None);
    }
    let second = match ste.config() {
        config::STAGE_2 | config::NESTED => match stage_2(ste, implementation) {
            Ok(second) => Some(second),
            Err(what) => return (Route::Unsupported(what), None),
        },
        _ => None,
    };
    let route = match ste.config() {
        config::ABORT..config::BYPASS => Route::Abort,
        config::BYPASS => Route::Bypass,
        config::STAGE_2 => Route::Stage2,
        _ => contexts(ste, implementation),
    };
    (route, second)
}

/// Reads stage 1 of a legal STE that has it on.
fn contexts(ste: &Ste, implementation: &Implementation) -> Route {
    let Implementation { idr0, idr1, .. } = implementation;
    let nested = ste.config() == config::NESTED;
    // STRW means nothing with stage 2, and is 0 or 2 in a legal entry (§1).
    let world = match (idr0.hyp() && !nested && ste.strw() == 2, implementation.e2h) {
        (false, _) => World::El1,
        (true, false) => World::El2,
        (true, true) => World::El2E2h,
    };
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
        vmid: (idr0.s2p() && !world.is_el2()).then_some(ste.s2_vmid() as u16),
        world,
        nested,
    };
    contexts.table = ste.s1_context_ptr() & !(contexts.bytes().max(CD_BYTES as u64) - 1);
    Route::Stage1(contexts)
}

/// One half of the input addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    /// `None` where walks are disabled: EPDx.
    pub(crate) tables: Option<Tables>,
    pub(crate) e0pd: bool,
    pub(crate) had: bool,
    pub(crate) tbi: bool,
    /// Shareability of what LPA2 tables map: SHx.
    pub(crate) sh: u8,
    /// There is no such half: EL2 without E2H has one table.
    pub(crate) absent: bool,
}

impl Half {
    /// The sign-extended address that is translated for `address`; `None` where it is out of range (§9, step 9).
    pub(crate) const fn input(&self, address: u64) -> Option<u64> {
        if self.absent {
            return None;
        }
        // With TBI the top byte counts as if it repeated bit 55.
        let va = if self.tbi { ((address << 8) as i64 >> 8) as u64 } else { address };
        match &self.tables {
            Some(tables) => {
                let top = va as i64 >> tables.shape.input_bits();
                if top == 0 || top == -1 { Some(va) } else { None }
            }
            // A disabled half has no size: what is cached hits, and nothing is walked.
            None => Some(va),
        }
    }
}

/// A legal CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) tag: Tag,
    pub(crate) aset: bool,
    pub(crate) halves: [Half; 2],
    pub(crate) mair: u64,
    /// How permissions count.
    pub(crate) regime: Regime,
    /// Its tables, and their outputs, are at intermediate addresses.
    pub(crate) nested: bool,
    /// Translation faults abort, rather than RAZ/WI.
    pub(crate) abort: bool,
    /// Translation faults are recorded.
    pub(crate) record: bool,
    /// Translation faults stall.
    pub(crate) stall: bool,
}

/// Reads a CD reached through `ste` (§6).
pub(crate) fn context(
    cd: &Cd,
    ste: &Ste,
    contexts: &Contexts,
    implementation: &Implementation,
) -> Result<Context, Refused> {
    let Implementation { idr0, idr3, idr5, .. } = implementation;
    if legality::cd(cd, ste, implementation).is_err() {
        return Err(Refused::Illegal);
    }
    let unsupported = [
        (!cd.aa64(), "AArch32 tables (CD.AA64)"),
        (
            cd.endi() && !(cd.epd0() && cd.epd1() && contexts.world != World::El2),
            "big-endian tables (CD.ENDI)",
        ),
        (cd.haft() && idr0.httu() == 3 && cd.ha(), "access flags of tables (CD.HAFT)"),
        (idr5.d128(), "128-bit descriptors (IDR5.D128)"),
        (idr3.s1pi() && ste.s1_pie() && cd.pie(), "permission indirection (CD.PIE)"),
        (idr3.aie() && cd.aie(), "extended attributes (CD.AIE)"),
    ];
    if let Some((_, text)) = unsupported.into_iter().find(|(set, _)| *set) {
        return Err(Refused::Unsupported(text));
    }
    let oas = implementation.output_bits();
    let ds = idr5.ds() && cd.ds();
    let access = cd.ha();
    let one_table = contexts.world == World::El2;
    let half = |upper: bool| {
        let (disabled, e0pd, had, tbi, granule, txsz, ttb) = match upper {
            false => {
                let granule = Granule::from_tg0(cd.tg0());
                (
                    cd.epd0() && !one_table,
                    cd.e0pd0(),
                    cd.had0(),
                    cd.tbi0(),
                    granule,
                    cd.t0sz(),
                    cd.ttb0(),
                )
            }
            true => {
                let granule = Granule::from_tg1(cd.tg1());
                (cd.epd1(), cd.e0pd1(), cd.had1(), cd.tbi1(), granule, cd.t1sz(), cd.ttb1())
            }
        };
        // A half that is in use is legal: there is such a shape.
        let absent = upper && one_table;
        let shape =
            granule.filter(|_| !disabled && !absent).and_then(|it| Shape::stage_1(it, txsz));
        let tables = shape.map(|shape| Tables {
            stage: Stage::One,
            shape,
            ds,
            fwb: false,
            // At most 64 bits.
            oas: oas as u8,
            output: output_bits(cd.ips(), oas, shape.granule(), ds) as u8,
            // The least alignment depends on the size that is configured, whatever the granule (§6).
            base: shape.base(ttb, address_bits(cd.ips()).unwrap_or(oas).min(oas)),
            affd: cd.affd(),
            access,
            dirty: access && cd.hd(),
        });
        let e0pd = e0pd && idr3.e0pd() && !one_table;
        // The fields have 2 bits.
        let sh = if upper { cd.sh1() } else { cd.sh0() } as u8;
        Half { tables, e0pd, had: had && idr3.had(), tbi, sh, absent }
    };
    Ok(Context {
        tag: Tag {
            world: contexts.world,
            vmid: contexts.vmid,
            // The field has 16 bits.
            asid: if one_table { 0 } else { cd.asid() as u16 },
        },
        aset: cd.aset() && !one_table,
        halves: [half(false), half(true)],
        mair: cd.mair(),
        regime: Regime {
            one_privilege: one_table,
            wxn: cd.wxn(),
            pan: cd.pan(),
            epan: cd.epan() && idr3.epan(),
            dirty: access && cd.hd(),
        },
        nested: contexts.nested,
        abort: cd.a() || implementation.idr0.term_model(),
        record: cd.r(),
        stall: cd.s(),
    })
}
