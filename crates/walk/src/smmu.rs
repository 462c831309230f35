// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the walk takes from registers.

use smmuv3_formats::legality::Implementation;
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5, StrtabBase, StrtabBaseCfg};

/// An enabled SMMU: what it implements, and where its stream table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smmu {
    /// ID registers, and CR2.E2H.
    pub implementation: Implementation,
    /// STRTAB_BASE.
    pub strtab_base: StrtabBase,
    /// STRTAB_BASE_CFG.
    pub strtab_base_cfg: StrtabBaseCfg,
    /// CR2.RECINVSID: C_BAD_STREAMID is recorded.
    pub recinvsid: bool,
}

impl Smmu {
    /// An SMMU with this stream table that has every feature, for images whose ID registers are not known:
    /// nothing that is legal on some SMMU is illegal on it. It records C_BAD_STREAMID.
    pub fn with_everything(strtab_base: StrtabBase, strtab_base_cfg: StrtabBaseCfg) -> Self {
        let implementation = Implementation {
            idr0: Idr0::default()
                .with_s1p(true)
                .with_s2p(true)
                .with_ttf(2)
                .with_cohacc(true)
                .with_httu(3)
                .with_hyp(true)
                .with_asid16(true)
                .with_vmid16(true)
                .with_cd2l(true)
                .with_st_level(1),
            idr1: Idr1::default()
                .with_sidsize(32)
                .with_ssidsize(20)
                .with_attr_perms_ovr(true)
                .with_attr_types_ovr(true),
            idr3: Idr3::default()
                .with_had(true)
                .with_pbha(true)
                .with_xnx(true)
                .with_fwb(true)
                .with_stt(true)
                .with_ril(true)
                .with_bbml(2)
                .with_e0pd(true)
                .with_epan(true)
                .with_s1pi(true)
                .with_s2pi(true),
            idr5: Idr5::default()
                .with_oas(6)
                .with_gran4k(true)
                .with_gran16k(true)
                .with_gran64k(true)
                .with_ds(true)
                .with_vax(1),
            aidr: Aidr::default().with_minor(4),
            e2h: false,
        };
        Self { implementation, strtab_base, strtab_base_cfg, recinvsid: true }
    }

    /// log2 of the number of streams that the table may have (§2.5).
    pub fn stream_bits(&self) -> u32 {
        let bits = self.strtab_base_cfg.log2size().min(self.implementation.idr1.sidsize()).min(32);
        // At most 32, so it fits.
        bits as u32
    }

    /// SPLIT of a 2-level stream table; `None` for a linear one (§2.5).
    pub fn split(&self) -> Option<u32> {
        let two_levels =
            self.strtab_base_cfg.fmt() == 1 && self.implementation.idr0.st_level() != 0;
        two_levels.then(|| match self.strtab_base_cfg.split() {
            8 => 8,
            10 => 10,
            _ => 6,
        })
    }

    /// Address of the stream table, or of its first level, with the low bits that hardware drops (§2.5).
    pub fn stream_table(&self) -> u64 {
        // Alignment uses LOG2SIZE as it is written, not the effective one.
        let size = self.strtab_base_cfg.log2size() as u32;
        let align = match self.split() {
            None => size + 6,
            Some(split) => (size.saturating_sub(split) + 3).max(6),
        };
        self.strtab_base.addr() & u64::MAX.checked_shl(align).unwrap_or(0)
    }

    /// Whether `address` is beyond what the SMMU can output.
    pub(crate) fn beyond_output(&self, address: u64) -> bool {
        beyond(address, self.implementation.output_bits())
    }

    /// Whether `address` is beyond the largest intermediate address.
    pub(crate) fn beyond_intermediate(&self, address: u64) -> bool {
        beyond(address, self.implementation.intermediate_bits())
    }
}

/// Whether `address` has bits at or above `bits`.
pub(crate) fn beyond(address: u64, bits: u32) -> bool {
    address.checked_shr(bits).unwrap_or(0) != 0
}

/// The `bits` lowest bits set.
pub(crate) fn low(bits: u32) -> u64 {
    u64::MAX.checked_shl(bits).map_or(u64::MAX, |high| !high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_as_hardware_does() {
        let base = StrtabBase(0x8000_0fc0);
        let cfg = StrtabBaseCfg::default().with_log2size(4);
        assert_eq!(Smmu::with_everything(base, cfg).stream_table(), 0x8000_0c00);
        let cfg = StrtabBaseCfg::default().with_log2size(16).with_split(8).with_fmt(1);
        assert_eq!(Smmu::with_everything(base, cfg).stream_table(), 0x8000_0800);
        // One descriptor still takes 64 bytes.
        let cfg = cfg.with_log2size(8);
        assert_eq!(Smmu::with_everything(base, cfg).stream_table(), 0x8000_0fc0);
        let cfg = StrtabBaseCfg(63);
        assert_eq!(Smmu::with_everything(base, cfg).stream_table(), 0);
    }

    #[test]
    fn masks_reach_every_width() {
        assert_eq!((low(0), low(12), low(64)), (0, 0xfff, u64::MAX));
        assert!(beyond(1 << 48, 48) && !beyond((1 << 48) - 1, 48) && !beyond(u64::MAX, 64));
    }
}
