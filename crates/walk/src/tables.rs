// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of each stage, as STE and CD configure them (§5.2, §6, §15.4).

use smmuv3_formats::descriptor::{Form, Stage};
use smmuv3_formats::granule::{self, Granule};
use smmuv3_formats::permission::Regime;
use smmuv3_formats::register::address_bits;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Ste};

use crate::attributes::Shareability;
use crate::smmu::{Smmu, low};

/// What both stages have: the shape of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// How descriptors are read, but for their level.
    pub(crate) form: Form,
    /// Input address bits.
    pub(crate) input_bits: u32,
    /// Level of the first table, -1 to 3.
    pub(crate) start: i8,
    /// Address of the first table, or of the first of several that are concatenated, aligned.
    pub(crate) root: u64,
    /// Output address bits.
    pub(crate) output_bits: u32,
    pub(crate) big_endian: bool,
    /// A clear access flag faults (unless hardware sets it).
    pub(crate) access_flag_faults: bool,
    /// Hardware sets access flags.
    pub(crate) access: bool,
    /// Hardware marks what was written.
    pub(crate) dirty: bool,
}

impl Tables {
    pub(crate) fn stage(&self) -> Stage {
        self.form.stage
    }

    /// log2 of the bytes that a descriptor at `level` covers.
    pub(crate) fn span(&self, level: i8) -> u32 {
        self.form.granule.span(level)
    }

    /// How descriptors are read at `level`.
    pub(crate) fn form(&self, level: i8) -> Form {
        Form { level, ..self.form }
    }

    /// Whether leaves hold no shareability: LPA2 has put address bits there.
    pub(crate) fn sh_elsewhere(&self) -> bool {
        self.form.ds && self.form.granule != Granule::K64
    }

    /// Entries of the first table, of all that are concatenated.
    pub(crate) fn first_entries(&self) -> u64 {
        1 << self.input_bits.saturating_sub(self.span(self.start)).min(20)
    }

    /// Entries of a table at `level`.
    pub(crate) fn entries(&self, level: i8) -> u64 {
        if level == self.start {
            self.first_entries()
        } else {
            1 << (self.form.granule.bits_per_level())
        }
    }

    /// Which entry of the table at `level` is for `address`.
    pub(crate) fn index(&self, address: u64, level: i8) -> u64 {
        let above = if level == self.start { self.input_bits } else { self.span(level - 1) };
        (address & low(above)) >> self.span(level)
    }

    /// The address in `base` without the bits that hardware drops.
    fn aligned(&self, base: u64, output: u32) -> u64 {
        let least = if output > 48 { 64 } else { 16 };
        base & !((8 * self.first_entries()).max(least) - 1)
    }

    /// `word` as it is in memory, in the order of the tables.
    pub(crate) fn word(&self, word: u64) -> u64 {
        if self.big_endian { word.swap_bytes() } else { word }
    }
}

/// One half of the input addresses of stage 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    /// No walks: EPDx.
    pub(crate) disabled: bool,
    /// Unprivileged accesses fault: E0PDx.
    pub(crate) e0pd: bool,
    /// The top byte is ignored: TBIx.
    pub(crate) tbi: bool,
    /// Only where it is not disabled.
    pub(crate) stage: Stage1,
}

/// Tables of stage 1 and what their leaves depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage1 {
    pub(crate) tables: Tables,
    /// Attributes in table descriptors are ignored: HADx.
    pub(crate) had: bool,
    /// How permissions count.
    pub(crate) regime: Regime,
    /// Attribute indices have four bits: CD.AIE.
    pub(crate) aie: bool,
    pub(crate) mair: u64,
    /// What indices permit to privileged and unprivileged accesses, where permissions are indirect.
    pub(crate) piip: u64,
    pub(crate) piiu: u64,
    /// Shareability where leaves hold none.
    pub(crate) sh: Shareability,
}

/// Tables of stage 2 and what their leaves depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage2 {
    pub(crate) tables: Tables,
    /// Privileged and unprivileged execution differ.
    pub(crate) xnx: bool,
    /// Tables and CDs in Device memory fault: S2PTW.
    pub(crate) ptw: bool,
    /// Shareability where leaves hold none.
    pub(crate) sh: Shareability,
    /// S2S and S2R.
    pub(crate) stall: bool,
    pub(crate) record: bool,
}

/// The worlds of Non-secure streams (§1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    El1,
    /// One half and one privilege.
    El2,
    El2E2h,
}

impl World {
    pub(crate) fn of(ste: &Ste, smmu: &Smmu) -> Self {
        let idr0 = smmu.implementation.idr0;
        let used = ste.config() == config::STAGE_1 && idr0.hyp();
        match (used && ste.strw() == 2, smmu.implementation.e2h) {
            (false, _) => Self::El1,
            (true, false) => Self::El2,
            (true, true) => Self::El2E2h,
        }
    }
}

/// Output address bits by the code of a size field, at most the instance's (§15.3); `whole` is before the limit
/// of small granules without LPA2.
fn output(smmu: &Smmu, code: u64, granule: Granule, ds: bool) -> (u32, u32) {
    let oas = smmu.implementation.output_bits().min(52);
    let whole = address_bits(code).unwrap_or(oas).min(oas);
    (whole, if granule == Granule::K64 || ds { whole } else { whole.min(48) })
}

/// A legal CD, reached through a legal STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) world: World,
    /// The lower and the upper half; EL2 has only the lower.
    pub(crate) halves: [Half; 2],
    /// A, R and S.
    pub(crate) abort: bool,
    pub(crate) record: bool,
    pub(crate) stall: bool,
}

impl Context {
    /// The half that `address` is in.
    pub(crate) fn half(&self, address: u64) -> &Half {
        let upper = self.world != World::El2 && address >> 55 & 1 == 1;
        &self.halves[usize::from(upper)]
    }

    /// Reads `cd`; what its tables are that the reference does not describe, where it is so.
    pub(crate) fn of(cd: &Cd, ste: &Ste, smmu: &Smmu) -> Result<Self, &'static str> {
        let implementation = &smmu.implementation;
        let (idr0, idr3, idr5) = (implementation.idr0, implementation.idr3, implementation.idr5);
        if !cd.aa64() {
            let wide = if idr5.d128() { "128-bit" } else { "AArch32" };
            return Err(if wide == "128-bit" {
                "stage-1 tables of 128-bit descriptors (CD.AA64 = 0)"
            } else {
                "stage-1 tables in the AArch32 format (CD.AA64 = 0)"
            });
        }
        let world = World::of(ste, smmu);
        let access = cd.ha() && idr0.httu() != 0;
        let ds = cd.ds() && idr5.ds();
        let half = |upper: bool| {
            let (tg, txsz, ttb, sh) = if upper {
                (Granule::from_tg1(cd.tg1()), cd.t1sz(), cd.ttb1(), cd.sh1())
            } else {
                (Granule::from_tg0(cd.tg0()), cd.t0sz(), cd.ttb0(), cd.sh0())
            };
            // A half that is in use is legal; what the other one says does not matter.
            let granule = tg.unwrap_or(Granule::K4);
            let shape = granule::Tables::stage_1(granule, txsz.clamp(12, 47));
            let shape = if txsz == 48 { granule::Tables::stage_1(granule, 48) } else { shape };
            let (input_bits, start) =
                shape.map_or((17, 3), |shape| (shape.input_bits(), shape.start_level()));
            let dirty = access && cd.hd() && idr0.httu() >= 2;
            let pie = idr3.s1pi() && ste.s1_pie() && cd.pie();
            let (whole, output_bits) = output(smmu, cd.ips(), granule, ds);
            let mut tables = Tables {
                form: Form {
                    granule,
                    ds,
                    output_bits: implementation.output_bits(),
                    pie,
                    ..Form::new(Stage::One, start)
                },
                input_bits,
                start,
                root: 0,
                output_bits,
                big_endian: cd.endi(),
                access_flag_faults: !cd.affd(),
                access,
                dirty,
            };
            tables.root = tables.aligned(ttb, whole);
            let (epd, e0pd, had, tbi) = if upper {
                (cd.epd1(), cd.e0pd1(), cd.had1(), cd.tbi1())
            } else {
                (cd.epd0(), cd.e0pd0(), cd.had0(), cd.tbi0())
            };
            let two = world != World::El2;
            Half {
                // EL2 ignores EPD0 and has no upper half.
                disabled: if two { epd } else { upper },
                e0pd: two && e0pd && idr3.e0pd(),
                tbi,
                stage: Stage1 {
                    tables,
                    had: had && idr3.had(),
                    regime: Regime {
                        one_privilege: !two,
                        wxn: cd.wxn(),
                        pan: two && cd.pan(),
                        epan: cd.epan() && idr3.epan(),
                        dirty,
                    },
                    aie: idr3.aie() && cd.aie(),
                    mair: cd.mair(),
                    piip: cd.piip(),
                    piiu: cd.piiu(),
                    sh: Shareability::from_code(sh),
                },
            }
        };
        Ok(Self {
            world,
            halves: [half(false), half(true)],
            abort: cd.a() || idr0.term_model(),
            record: cd.r(),
            stall: cd.s(),
        })
    }
}

impl Stage2 {
    /// Stage 2 of a legal STE; what its tables are that the reference does not describe, where it is so.
    pub(crate) fn of(ste: &Ste, smmu: &Smmu) -> Result<Self, &'static str> {
        let implementation = &smmu.implementation;
        let (idr0, idr3, idr5) = (implementation.idr0, implementation.idr3, implementation.idr5);
        if !ste.s2_aa64() {
            return Err("stage-2 tables in the AArch32 format (STE.S2AA64 = 0)");
        }
        let ds = ste.s2_ds() && idr5.ds();
        // Legal entries name a granule and a level that goes with it.
        let granule = Granule::from_tg0(ste.s2_tg()).unwrap_or(Granule::K4);
        let sl0 = ste.s2_sl0() | u64::from(ste.s2_sl0_2()) << 2;
        let shape = granule::Tables::stage_2(granule, sl0, ste.s2_t0sz(), ds, idr3.stt());
        let (input_bits, start) =
            shape.map_or((17, 3), |shape| (shape.input_bits(), shape.start_level()));
        let (whole, output_bits) = output(smmu, ste.s2_ps(), granule, ds);
        let access = ste.s2_ha() && idr0.httu() != 0;
        let mut tables = Tables {
            form: Form {
                granule,
                ds,
                output_bits: implementation.output_bits(),
                pie: idr3.s2pi() && ste.s2_pie(),
                fwb: idr3.fwb() && ste.s2_fwb(),
                ..Form::new(Stage::Two, start)
            },
            input_bits: input_bits.min(implementation.intermediate_bits()),
            start,
            root: 0,
            output_bits,
            big_endian: ste.s2_endi(),
            access_flag_faults: !ste.s2_affd(),
            access,
            dirty: access && ste.s2_hd() && idr0.httu() >= 2,
        };
        tables.root = tables.aligned(ste.s2_ttb(), whole);
        Ok(Self {
            tables,
            xnx: idr3.xnx(),
            ptw: ste.s2_ptw(),
            sh: Shareability::from_code(ste.s2_sh0()),
            stall: ste.s2_s(),
            record: ste.s2_r(),
        })
    }
}

/// Where the CDs of a stream are (§5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contexts {
    /// First CD, or L1CD, aligned.
    pub(crate) table: u64,
    /// log2 of the number of CDs; 0 without substreams.
    pub(crate) log2: u32,
    /// log2 of the CDs of a leaf; `None` for a linear table.
    pub(crate) split: Option<u32>,
    /// Treatment of transactions without substream: 0, 1 or 2.
    pub(crate) s1_dss: u64,
}

impl Contexts {
    pub(crate) fn of(ste: &Ste, smmu: &Smmu) -> Self {
        // S1CDMax is at most SSIDSIZE in a legal entry, so it fits.
        let substreams = smmu.implementation.idr1.ssidsize() != 0;
        let log2 = if substreams { ste.s1_cd_max().min(20) as u32 } else { 0 };
        let split = match ste.s1_fmt() {
            1 if log2 != 0 => Some(6),
            2 if log2 != 0 => Some(10),
            _ => None,
        };
        let bytes: u64 = match split {
            None => 64 << log2,
            Some(split) => 8 << log2.saturating_sub(split),
        };
        Self {
            table: ste.s1_context_ptr() & !(bytes.max(64) - 1),
            log2,
            split,
            s1_dss: if ste.s1_dss() == 3 { 0 } else { ste.s1_dss() },
        }
    }
}
