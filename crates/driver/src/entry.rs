// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stream table entries and contexts that this driver writes: legal states only, each made from
//! scratch.

use smmuv3_formats::register::address_size_code;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, PhysAddr, Ste};
use smmuv3_pagetable::MAIR;

use crate::context_table::ContextFormat;
use crate::features::{Features, Stalls};

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

/// Non-cacheable, or write-back with read and write allocation: walks of tables (§5.2).
const fn walk_attributes(coherent: bool) -> (u64, u64) {
    const WRITE_BACK: u64 = 1;
    const INNER_SHAREABLE: u64 = 3;
    const OUTER_SHAREABLE: u64 = 2;
    if coherent { (WRITE_BACK, INNER_SHAREABLE) } else { (0, OUTER_SHAREABLE) }
}

impl Stream {
    /// The entry for an SMMU with `features` (§5.2).
    pub fn encode(self, features: &Features) -> Ste {
        const SHARE_AS_INCOMING: u64 = crate::overrides::AS_INCOMING;
        let valid = Ste::default().with_v(true);
        match self {
            Self::Blocked => valid.with_config(config::ABORT),
            Self::Identity => valid.with_config(config::BYPASS).with_sh_cfg(SHARE_AS_INCOMING),
            Self::Stage1 { contexts, format, bits, without, vmid } => {
                let (cacheability, shareability) = walk_attributes(features.coherent);
                let ste = valid
                    .with_config(config::STAGE_1)
                    .with_s1_context_ptr(contexts.0)
                    .with_s1_cir(cacheability)
                    .with_s1_cor(cacheability)
                    .with_s1_csh(shareability)
                    .with_s1_stalld(features.stalls == Stalls::Chosen);
                // Without substreams neither the format nor S1DSS means anything.
                let ste = if bits == 0 {
                    ste
                } else {
                    // What skips stage 1 is shared as it comes, as with identity; without it there is no such thing.
                    let shared =
                        if without == WithoutSubstream::Bypass { SHARE_AS_INCOMING } else { 0 };
                    ste.with_s1_cd_max(u64::from(bits))
                        .with_s1_fmt(format.code())
                        .with_s1_dss(without as u64)
                        .with_sh_cfg(shared)
                };
                if features.stage_2 { ste.with_s2_vmid(u64::from(vmid)) } else { ste }
            }
        }
    }
}

/// One address space as an SMMU sees it: stage-1 tables in the lower half, the upper half unused.
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
}

impl Context {
    /// The descriptor for an SMMU with `features` (§6).
    pub fn encode(self, features: &Features) -> Cd {
        let (cacheability, shareability) = walk_attributes(features.coherent);
        Cd::default()
            .with_t0sz(u64::from(64 - self.input_bits.clamp(16, 64)))
            .with_tg0(match self.granule_shift {
                16 => 1,
                14 => 2,
                _ => 0,
            })
            .with_ir0(cacheability)
            .with_or0(cacheability)
            .with_sh0(shareability)
            .with_epd1(true)
            .with_v(true)
            // Domains are not made for less than 32 bits of output.
            .with_ips(address_size_code(self.output_bits).unwrap_or(0))
            .with_aa64(true)
            .with_r(true)
            .with_a(true)
            .with_aset(true)
            .with_asid(u64::from(self.asid))
            .with_ttb0(self.root.0)
            .with_mair(MAIR)
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
    const CONTEXT: Context = Context {
        root: PhysAddr(0x8001_0000),
        granule_shift: 12,
        input_bits: 48,
        output_bits: 44,
        asid: 5,
    };

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
        for features in [features(|idr0| idr0), features(|idr0| idr0.with_stall_model(0))] {
            let implementation = features.implementation();
            for stream in [Stream::Blocked, Stream::Identity, STAGE_1] {
                let ste = stream.encode(&features);
                assert_eq!(legality::ste(&ste, &implementation), Ok(()), "{stream:?}");
            }
            let (cd, ste) = (CONTEXT.encode(&features), STAGE_1.encode(&features));
            assert_eq!(legality::cd(&cd, &ste, &implementation), Ok(()));
        }
    }
}
