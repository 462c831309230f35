// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's half of a nest: the stage 2 that all accesses of a guest's devices go through.

use smmuv3_formats::granule::Granule;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Layout, Ste, legality};

use crate::features::Features;
use crate::nest::Illegal;

/// A stage 2 that guests' stage 1 can be put over, on one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Config = stage 2, without what belongs to stage 1 or to a single master.
    ste: Ste,
    input_bits: u32,
}

impl Parent {
    /// That of `ste`, a legal entry of an SMMU with `features` by which stage 2 alone translates. What it says of shared
    /// attributes (SHCFG and the other overrides), PPAR, partitions and performance groups is the host's and stays;
    /// EATS is asked for with each entry ([`Limits`](crate::nest::Limits)).
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn new(ste: Ste, features: &Features) -> Result<Self, Illegal> {
        if !features.nesting {
            let text = "the SMMU cannot nest, by what it has or by errata";
            let iidr = features.registers.iidr.0;
            return Err(Illegal::new("19", "IIDR", text, iidr.into()));
        }
        let implementation = features.implementation();
        legality::ste(&ste, &implementation)
            .map_err(|rule| Illegal::of(rule, Ste::FIELDS, &ste.0))?;
        if ste.config() != config::STAGE_2 {
            let text = "must be stage 2 alone";
            return Err(Illegal::new("5.2", "Config", text, ste.config()));
        }
        if !ste.s2_aa64() {
            // A guest's tables are AArch64 (§7.2(6)).
            return Err(Illegal::new("7.2(6)", "S2AA64", "must be 1 below a guest's stage 1", 0));
        }
        // Config = 11x is capped so (§9).
        let wide = Granule::from_tg0(ste.s2_tg()) == Some(Granule::K64) || ste.s2_ds();
        let most = implementation.intermediate_bits().min(if wide { 52 } else { 48 });
        // A legal T0SZ is at most 48.
        let input_bits = 64u32.saturating_sub(ste.s2_t0sz() as u32).min(most);
        let ste = ste
            .with_s1_fmt(0)
            .with_s1_context_ptr(0)
            .with_s1_cd_max(0)
            .with_s1_dss(0)
            .with_s1_cir(0)
            .with_s1_cor(0)
            .with_s1_csh(0)
            .with_s1_pie(false)
            .with_s1_mpam(false)
            .with_s1_stalld(false)
            .with_eats(0)
            .with_strw(0)
            .with_cont(0)
            // A device that faults without end costs its guest events, not the host (§10.1).
            .with_mev(true);
        Ok(Self { ste, input_bits })
    }

    /// The entry of a stream that bypasses stage 1: stage 2 alone, MEV set, no ATS.
    pub const fn entry(&self) -> Ste {
        self.ste
    }

    /// The tag of all translations of its guests.
    pub const fn vmid(&self) -> u16 {
        // The field has 16 bits.
        self.ste.s2_vmid() as u16
    }

    /// Bits of an address that stage 2 translates.
    pub const fn input_bits(&self) -> u32 {
        self.input_bits
    }

    /// Faults of stage 2 stall.
    pub const fn stalls(&self) -> bool {
        self.ste.s2_s()
    }
}
