// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stream table entries and contexts that this driver writes: legal states only, each made from
//! scratch.

use smmuv3_formats::register::address_size_code_for;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, PhysAddr, Ste};
use smmuv3_pagetable::MAIR;

use crate::context_table::ContextFormat;
use crate::features::Features;

/// What a stream is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Every transaction aborts, silently.
    Blocked,
    /// Every transaction passes untranslated.
    Identity,
    /// Stage 1 translates, by the contexts of a table.
    Stage1 {
        /// Address of the table: of its only context, of the first, or of its first level.
        contexts: PhysAddr,
        /// How it is laid out.
        format: ContextFormat,
        /// Bits of a SubstreamID; 0 for one context and no substreams.
        bits: u32,
        /// What becomes of accesses without a substream, where there are substreams.
        without: WithoutSubstream,
        /// VMID of the tag of its translations, where stage 2 exists.
        vmid: u16,
    },
    /// Stage 2 alone translates.
    Stage2(Stage2),
    /// What a guest asks for over its host's stage 2, made by [`Request::encode`](crate::nest::Request::encode).
    Nested(Ste),
}

/// A bit of STE.SW_RESERVED, which the SMMU ignores, of a guest's stream that stage 2 translates: where the guest bypasses its
/// stage 1 nothing else tells the entry from its host's. Whoever reads events and requests has no more of the guest than these bits.
#[cfg(feature = "alloc")]
pub(crate) const GUEST: u64 = 1;

/// Another one: its device may ask for pages, which the guest is shown.
#[cfg(feature = "alloc")]
pub(crate) const GUEST_ASKS: u64 = 2;

/// Tables of stage 2 as an SMMU sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage2 {
    /// Root of the tables.
    pub root: PhysAddr,
    /// log2 of the granule.
    pub granule_shift: u32,
    /// Bits of an input address.
    pub input_bits: u32,
    /// Bits of an output address.
    pub output_bits: u32,
    /// The code of the first table's level: S2SL0, and as bit 2 S2SL0_2 (§15.4).
    pub start: u8,
    /// Descriptors are those of 52-bit addresses.
    pub wide: bool,
    /// Types are forced (S2FWB).
    pub forced_types: bool,
    /// Whether hardware sets access flags.
    pub access_flag: bool,
    /// Whether hardware keeps dirty state.
    pub dirty_state: bool,
    /// Like events may be merged into one (MEV), so that a guest's device that faults without end does not fill the
    /// host's event queue.
    pub merged: bool,
    /// The tag of their translations.
    pub vmid: u16,
}

impl Stage2 {
    /// `ste` with all fields of stage 2 (words 2 and 3, §5.2), for an SMMU with `features`.
    pub fn encode(self, ste: Ste, features: &Features) -> Ste {
        let (cacheability, shareability) = walk_attributes(features.coherent);
        let lpa2 = self.wide && self.granule_shift != 16;
        ste.with_s2_vmid(u64::from(self.vmid))
            .with_s2_t0sz(u64::from(64 - self.input_bits.clamp(12, 64)))
            .with_s2_sl0(u64::from(self.start & 3))
            .with_s2_sl0_2(self.start & 4 != 0)
            .with_s2_ir0(cacheability)
            .with_s2_or0(cacheability)
            .with_s2_sh0(if lpa2 { INNER_SHAREABLE } else { shareability })
            .with_s2_tg(granule_code(self.granule_shift))
            // Domains have at most 52 bits of output. Between two sizes the larger one is taken: maps keep to the
            // domain's own bits.
            .with_s2_ps(address_size_code_for(self.output_bits).unwrap_or(0))
            .with_s2_aa64(true)
            // S2PTW: under a guest's stage 1, its tables may not be in device memory.
            .with_s2_ptw(true)
            .with_s2_r(true)
            .with_s2_s(features.always_stalls())
            .with_s2_ha(self.access_flag)
            .with_s2_hd(self.access_flag && self.dirty_state)
            .with_s2_fwb(self.forced_types)
            .with_mev(self.merged)
            .with_s2_ds(lpa2)
            .with_s2_ttb(self.root.0)
    }
}

/// What becomes of accesses without a substream (STE.S1DSS, §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutSubstream {
    /// They are terminated, which is reported (F_STREAM_DISABLED).
    Terminate = 0,
    /// They pass untranslated.
    Bypass = 1,
    /// They are translated by the first context.
    First = 2,
}

const INNER_SHAREABLE: u64 = 3;

/// TG0 and S2TG (§6, §5.2).
const fn granule_code(shift: u32) -> u64 {
    match shift {
        16 => 1,
        14 => 2,
        _ => 0,
    }
}

/// Non-cacheable, or write-back with read and write allocation: walks of tables (§5.2).
const fn walk_attributes(coherent: bool) -> (u64, u64) {
    const WRITE_BACK: u64 = 1;
    const OUTER_SHAREABLE: u64 = 2;
    if coherent { (WRITE_BACK, INNER_SHAREABLE) } else { (0, OUTER_SHAREABLE) }
}

impl Stream {
    /// Whether anything is translated.
    pub const fn is_translated(self) -> bool {
        match self {
            Self::Stage1 { .. } => true,
            _ => self.is_over_stage_2(),
        }
    }

    /// Whether stage 2 translates, alone or under a guest's stage 1.
    pub const fn is_over_stage_2(self) -> bool {
        match self {
            Self::Stage2(_) => true,
            Self::Nested(ste) => ste.config() & config::STAGE_2 == config::STAGE_2,
            Self::Blocked | Self::Identity | Self::Stage1 { .. } => false,
        }
    }

    /// Whether devices that can may keep what is translated: over a guest's stage 1 if the guest says so.
    pub const fn may_be_kept(self) -> bool {
        match self {
            Self::Nested(ste) => ste.eats() != 0,
            _ => self.is_translated(),
        }
    }

    /// The entry of blocked streams, for any SMMU (§5.2).
    pub(crate) const BLOCKED: Ste = Ste([0; 8]).with_v(true).with_config(config::ABORT);

    /// As far as a master can have it: what needs a part that is left out it has not, which is known when the driver is compiled.
    #[cfg(feature = "alloc")]
    const fn of_master(self) -> Self {
        match self {
            Self::Stage2(_) if !cfg!(feature = "stage-2") => Self::Blocked,
            Self::Nested(_) if !cfg!(feature = "nested") => Self::Blocked,
            Self::Stage1 { contexts, format, without, vmid, .. } if !cfg!(feature = "pasids") => {
                Self::Stage1 { contexts, format, bits: 0, without, vmid }
            }
            all => all,
        }
    }

    /// As [`Stream::encode`], for a master.
    #[cfg(feature = "alloc")]
    pub(crate) fn encode_for_master(self, features: &Features) -> Ste {
        self.of_master().encode(features)
    }

    /// The entry for an SMMU with `features` (§5.2).
    pub fn encode(self, features: &Features) -> Ste {
        const SHARE_AS_INCOMING: u64 = crate::overrides::AS_INCOMING;
        const EL2: u64 = 2;
        let valid = Ste::default().with_v(true);
        match self {
            Self::Blocked => Self::BLOCKED,
            Self::Identity => valid.with_config(config::BYPASS).with_sh_cfg(SHARE_AS_INCOMING),
            Self::Stage1 { contexts, format, bits, without, vmid } => {
                let (cacheability, shareability) = walk_attributes(features.coherent);
                let ste = valid
                    .with_config(config::STAGE_1)
                    .with_s1_context_ptr(contexts.0)
                    .with_s1_cir(cacheability)
                    .with_s1_cor(cacheability)
                    .with_s1_csh(shareability)
                    .with_s1_stalld(features.stalls_are_chosen());
                // With a single context S1Fmt and S1DSS are ignored, and left 0.
                let ste = if bits == 0 {
                    ste
                } else {
                    // SHCFG is for accesses that bypass stage 1: as incoming, as with identity. If none do, it is 0.
                    let shared =
                        if without == WithoutSubstream::Bypass { SHARE_AS_INCOMING } else { 0 };
                    ste.with_s1_cd_max(u64::from(bits))
                        .with_s1_fmt(format.code())
                        .with_s1_dss(without as u64)
                        .with_sh_cfg(shared)
                };
                match (features.in_el1(), features.has_vmids()) {
                    // In EL2 the ASID alone is the tag.
                    (false, _) => ste.with_strw(EL2),
                    (true, true) => ste.with_s2_vmid(u64::from(vmid)),
                    (true, false) => ste,
                }
            }
            Self::Stage2(tables) => {
                let ste = valid.with_config(config::STAGE_2).with_sh_cfg(SHARE_AS_INCOMING);
                tables.encode(ste, features)
            }
            Self::Nested(ste) => ste,
        }
    }
}

/// One address space as an SMMU sees it: stage-1 tables in one half, the other unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Root of the tables.
    pub root: PhysAddr,
    /// log2 of the granule.
    pub granule_shift: u32,
    /// Bits of an input address.
    pub input_bits: u32,
    /// Bits of an output address.
    pub output_bits: u32,
    /// The tag of its translations.
    pub asid: u16,
    /// The tables are those of the upper half (TTB1).
    pub upper: bool,
    /// Descriptors are those of 52-bit addresses.
    pub wide: bool,
    /// Whether hardware sets access flags.
    pub access_flag: bool,
    /// Whether hardware keeps dirty state.
    pub dirty_state: bool,
    /// Memory types of the indices in its leaves.
    pub mair: u64,
}

impl Context {
    /// Tables of the lower half for inputs and outputs of so many bits, at most 48, with nothing chosen.
    pub const fn new(
        root: PhysAddr,
        granule_shift: u32,
        [input_bits, output_bits]: [u32; 2],
        asid: u16,
    ) -> Self {
        let (upper, wide, access_flag, dirty_state) = (false, false, false, false);
        Self {
            root,
            granule_shift,
            input_bits,
            output_bits,
            asid,
            upper,
            wide,
            access_flag,
            dirty_state,
            mair: MAIR,
        }
    }

    /// The descriptor for an SMMU with `features` (§6).
    pub fn encode(self, features: &Features) -> Cd {
        let (cacheability, walked) = walk_attributes(features.coherent);
        let lpa2 = self.wide && self.granule_shift != 16;
        let shareability = if lpa2 { INNER_SHAREABLE } else { walked };
        let size = u64::from(64 - self.input_bits.clamp(12, 64));
        let half = if self.upper {
            // TG1 has other codes than TG0.
            let granule = match self.granule_shift {
                16 => 3,
                14 => 1,
                _ => 2,
            };
            Cd::default()
                .with_t1sz(size)
                .with_tg1(granule)
                .with_ir1(cacheability)
                .with_or1(cacheability)
                .with_sh1(shareability)
                .with_epd0(true)
                .with_ttb1(self.root.0)
        } else {
            Cd::default()
                .with_t0sz(size)
                .with_tg0(granule_code(self.granule_shift))
                .with_ir0(cacheability)
                .with_or0(cacheability)
                .with_sh0(shareability)
                .with_epd1(true)
                .with_ttb0(self.root.0)
        };
        half.with_v(true)
            // Between two sizes the larger one, as in `Stage2::encode`.
            .with_ips(address_size_code_for(self.output_bits).unwrap_or(0))
            .with_aa64(true)
            .with_s(features.always_stalls())
            .with_r(true)
            .with_a(true)
            .with_aset(true)
            .with_asid(u64::from(self.asid))
            .with_ha(self.access_flag)
            .with_hd(self.access_flag && self.dirty_state)
            .with_ds(lpa2)
            .with_mair(self.mair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::IdRegisters;
    use smmuv3_formats::legality;
    use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

    /// QEMU's, with IDR0 changed.
    fn features(change: impl FnOnce(Idr0) -> Idr0) -> Features {
        Features::decode(IdRegisters {
            idr0: change(Idr0(0x0d44_101b)),
            idr1: Idr1(0x0273_0010),
            idr3: Idr3(0x1414),
            idr5: Idr5(0x74),
            aidr: Aidr(1),
            ..IdRegisters::default()
        })
        .unwrap()
    }

    const STAGE_1: Stream = stage_1(0, WithoutSubstream::First, 0);

    const fn stage_1(bits: u32, without: WithoutSubstream, vmid: u16) -> Stream {
        let (contexts, format) = (PhysAddr(0x8002_0000), ContextFormat::Leaves4K);
        Stream::Stage1 { contexts, format, bits, without, vmid }
    }
    const CONTEXT: Context = Context::new(PhysAddr(0x8001_0000), 12, [48, 44], 5);

    #[test]
    fn entries_are_those_of_appendix_a1() {
        let features = features(|idr0| idr0);
        assert_eq!(STAGE_1.encode(&features).0, [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            CONTEXT.encode(&features).0,
            [0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0004_44ff, 0, 0, 0, 0]
        );
        assert_eq!(Stream::Blocked.encode(&features).0, [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Stream::Identity.encode(&features).0, [9, 1 << 44, 0, 0, 0, 0, 0, 0]);
    }

    /// The second vector of appendix A.
    const STAGE_2: Stage2 = Stage2 {
        root: PhysAddr(0x8004_0000),
        granule_shift: 12,
        input_bits: 40,
        output_bits: 44,
        start: 1,
        wide: false,
        forced_types: false,
        access_flag: false,
        dirty_state: false,
        merged: false,
        vmid: 7,
    };

    #[test]
    fn stage_2_is_that_of_appendix_a2_with_s2ptw() {
        let words = |tables, features: &Features| Stream::Stage2(tables).encode(features).0;
        let features = features(|idr0| idr0);
        let second = 0x040c_3558_0000_0007 | 1 << 54;
        let expected = [0xd, 1 << 44, second, 0x8004_0000, 0, 0, 0, 0];
        assert_eq!(words(STAGE_2, &features), expected);
        // §5.2: S2TG [47:46], S2SL0 [39:38], S2T0SZ [37:32]; S2HA 56, S2HD 55; S2FWB 25; S2DS 3, S2SL0_2 2.
        let chosen = Stage2 {
            granule_shift: 16,
            start: 2,
            access_flag: true,
            dirty_state: true,
            forced_types: true,
            ..STAGE_2
        };
        let expected = second ^ (1 ^ 2) << 38 | 1 << 46 | 1 << 56 | 1 << 55;
        assert_eq!(words(chosen, &features)[1..3], [1 << 44 | 1 << 25, expected]);
        let merged = Stage2 { merged: true, ..STAGE_2 };
        assert_eq!(words(merged, &features)[1], 1 << 44 | 1 << 19, "MEV");
        // S2PS [50:48]: the next size.
        for (bits, code) in [(33, 1), (39, 2), (41, 3), (43, 4), (45, 5), (49, 6)] {
            let [_, _, w2, ..] = words(Stage2 { output_bits: bits, ..STAGE_2 }, &features);
            assert_eq!(w2 >> 48 & 7, code, "{bits}");
            let context = Context { output_bits: bits, ..CONTEXT };
            assert_eq!(context.encode(&features).0[0] >> 32 & 7, code, "{bits}");
        }
        let wide = Stage2 { wide: true, input_bits: 52, start: 4, output_bits: 52, ..STAGE_2 };
        let [_, _, w2, w3, ..] = words(wide, &features);
        assert_eq!((w2 >> 32 & 0xff, w2 >> 48 & 7, w3), (12, 6, 0x8004_000c));
        let sixteen = Stage2 { granule_shift: 14, dirty_state: true, ..STAGE_2 };
        let [_, _, w2, ..] = words(sixteen, &features);
        assert_eq!((w2 >> 46 & 3, w2 >> 55 & 3), (2, 0), "S2HD without S2HA");
    }

    #[test]
    fn the_upper_half_has_its_own_fields_and_codes() {
        let features = features(|idr0| idr0);
        let words = |context: Context| context.encode(&features).0;
        let upper = Context { upper: true, ..CONTEXT };
        // T1SZ 16, TG1 4K = 2, IR1, OR1, SH1 as in the lower half; EPD0 14 instead of EPD1 30; TTB1.
        let half = 16 << 16 | 2 << 22 | 1 << 24 | 1 << 26 | 3 << 28 | 1 << 14;
        let [w0, w1, w2, ..] = words(upper);
        assert_eq!((w0 & 0x7fff_ffff, w1, w2), (half, 0, 0x8001_0000));
        assert_eq!(w0 >> 31, words(CONTEXT)[0] >> 31);
        for (shift, code) in [(14, 1), (16, 3)] {
            let [w0, ..] = words(Context { granule_shift: shift, ..upper });
            assert_eq!(w0 >> 22 & 3, code);
        }
        // DS is bit 58 of word 2; HA 43, HD 42.
        let wide = Context { wide: true, access_flag: true, dirty_state: true, ..upper };
        let [w0, _, w2, ..] = words(Context { input_bits: 52, output_bits: 52, ..wide });
        assert_eq!((w0 >> 16 & 0x3f, w0 >> 42 & 3, w0 >> 32 & 7), (12, 3, 6));
        assert_eq!(w2, 0x8001_0000 | 1 << 58);
    }

    #[test]
    fn streams_of_a_host_in_el2_have_no_vmid() {
        let features = Features { el2_host: true, ..features(|idr0| idr0.with_hyp(true)) };
        let Ste([_, w1, w2, ..]) = stage_1(0, WithoutSubstream::First, 7).encode(&features);
        assert_eq!((w1, w2), (0xd4 | 2 << 30, 0));
        let ste = STAGE_1.encode(&features);
        assert_eq!(legality::ste(&ste, &features.implementation()), Ok(()));
        let cd = CONTEXT.encode(&features);
        assert_eq!(legality::cd(&cd, &ste, &features.implementation()), Ok(()));
    }

    #[test]
    fn a_table_of_contexts_says_its_size_its_format_and_what_lacks_a_substream() {
        // §5.2: S1Fmt [5:4], S1CDMax [63:59]; S1DSS w1[1:0], SHCFG w1[45:44].
        let features = features(|idr0| idr0);
        let words = |without| {
            let Ste([first, second, ..]) = stage_1(10, without, 0).encode(&features);
            (first, second)
        };
        let first = 10 << 59 | 0x8002_0000 | 1 << 4 | 0b1011;
        assert_eq!(words(WithoutSubstream::Terminate), (first, 0xd4));
        assert_eq!(words(WithoutSubstream::Bypass), (first, 0xd5 | 1 << 44));
        assert_eq!(words(WithoutSubstream::First), (first, 0xd6));
    }

    #[test]
    fn entries_follow_the_features_of_the_instance() {
        // Stalls are refused where they could be chosen (§7.1, S1STALLD).
        let stalls = features(|idr0| idr0.with_stall_model(0));
        assert_eq!(STAGE_1.encode(&stalls).0[1], 0xd4 | 1 << 27);
        // Where they are forced, nobody can choose (§7.1, §7.2): S1STALLD = 0, CD.S = 1.
        let forced = features(|idr0| idr0.with_stall_model(2));
        assert_eq!(STAGE_1.encode(&forced).0[1], 0xd4);
        assert_eq!(CONTEXT.encode(&forced).0[0], 0x0005_e204_c000_3510 | 1 << 44);
        // Walks of an SMMU that does not snoop are non-cacheable, outer shareable.
        let incoherent = features(|idr0| idr0.with_cohacc(false));
        assert_eq!(STAGE_1.encode(&incoherent).0[1], 0b10 << 6);
        assert_eq!(CONTEXT.encode(&incoherent).0[0], 0x0005_e204_c000_2010);
        // The VMID is part of the tag where stage 2 exists, and means nothing elsewhere.
        let tagged = stage_1(0, WithoutSubstream::First, 7);
        assert_eq!(tagged.encode(&features(|idr0| idr0)).0[2], 7);
        let stage_1_only = features(|idr0| idr0.with_s2p(false).with_vmid16(false));
        assert_eq!(tagged.encode(&stage_1_only).0[2], 0);
    }

    #[test]
    fn entries_are_legal_for_their_instance() {
        let models = [0, 1, 2].map(|model| features(|idr0| idr0.with_stall_model(model)));
        for features in models {
            let implementation = features.implementation();
            for stream in [Stream::Blocked, Stream::Identity, STAGE_1, Stream::Stage2(STAGE_2)] {
                let ste = stream.encode(&features);
                assert_eq!(legality::ste(&ste, &implementation), Ok(()), "{stream:?}");
            }
            let (cd, ste) = (CONTEXT.encode(&features), STAGE_1.encode(&features));
            assert_eq!(legality::cd(&cd, &ste, &implementation), Ok(()));
        }
    }
}
