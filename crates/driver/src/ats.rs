// SPDX-License-Identifier: MIT OR Apache-2.0
//! How devices may keep translations of their own (PCIe ATS, §12): what they are given, and what an instance needs for it.
//!
//! With *full* ATS a device is given physical addresses, and reaches whatever it says was translated: it is trusted. With
//! *split-stage* ATS (STE.EATS = 2) it is given what a guest's stage 1 leads to, intermediate addresses, and what it says
//! was translated goes through the host's stage 2 (§12.2). So
//! * it never learns a physical address, and reaches no more than the guest has;
//! * a change of the host's stage 2 needs no CMD_ATC_INV: the SMMU forgets its own translations, and whatever the device
//!   still keeps leads to what stage 2 says then, or is refused. The guest tells its device of changes of stage 1;
//! * where a stage 2 takes the place of another, the device is to have forgotten everything before: what it was given of
//!   the one would be taken for addresses of the other, which its guest may not have let it reach.
//!
//! Both stages take part, so that it is on while a guest's stage 1 translates, and off in all other uses.
//!
//! Some devices reach memory by translated addresses alone, as those of CXL.cache do, and need ATS even where nothing is
//! translated for them. With ATS that is *always on* they are attached to identity by an entry of stage 1 that skips it
//! (S1DSS), and asked-for addresses are granted as they are. Blocked they need nothing: ATS is off in them, what they kept is
//! forgotten, and the entry aborts what is translated already, too.

use core::fmt;

use crate::entry::Stream;

/// How the devices of a master may keep translations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtsMode {
    /// Not at all.
    #[default]
    Off,
    /// Those of all stages that there are: physical addresses.
    Full,
    /// Likewise, and under identity as well: they are given the addresses that they ask for. That takes an entry of stage 1 whose
    /// contexts are skipped (S1DSS), since one that bypasses both stages has no ATS (§12.1).
    Always,
    /// Those of a guest's stage 1, while that translates over the host's stage 2: intermediate addresses. Without a guest the
    /// devices have no ATS.
    Split,
}

impl AtsMode {
    /// STE.EATS where it is on (§5.2).
    #[must_use]
    pub const fn eats(self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Full | Self::Always => 1,
            Self::Split => SPLIT,
        }
    }

    /// It may be on at all.
    #[must_use]
    pub const fn is_some(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether devices have it on while the entry says `stream`: over a guest's stage 1 if the guest says so.
    #[must_use]
    pub const fn is_on(self, stream: Stream) -> bool {
        match self {
            Self::Off => false,
            Self::Full | Self::Always => stream.may_be_kept(),
            Self::Split => matches!(stream, Stream::Nested(_)) && stream.may_be_kept(),
        }
    }

    /// Whether what devices keep depends on the tables that the driver makes.
    #[cfg(feature = "alloc")]
    pub(crate) const fn depends_on_tables(self) -> bool {
        matches!(self, Self::Full | Self::Always)
    }

    /// Bits of a substream that the contexts of a master with PASIDs of `bits` bits have. Where there is one context alone, S1DSS,
    /// which lets accesses skip it, means nothing (§5.3): so there are two, of which nobody uses the second.
    #[cfg(feature = "alloc")]
    pub(crate) const fn context_bits(self, bits: u32) -> u32 {
        if matches!(self, Self::Always) && bits == 0 { 1 } else { bits }
    }
}

/// STE.EATS of split-stage ATS.
pub(crate) const SPLIT: u64 = 2;

/// Why an instance has no split-stage ATS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoSplitAts {
    /// It has no ATS at all (IDR0.ATS), or the driver was built without.
    NoAts,
    /// It cannot nest: it lacks a stage (IDR0.S1P, IDR0.S2P), has an erratum, or the driver was built without guests.
    NoNesting,
    /// It says so (IDR0.NS1ATS).
    Ns1ats,
}

impl fmt::Display for NoSplitAts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAts => "the instance has no ATS, and so no split-stage ATS",
            Self::NoNesting => "the instance cannot nest, and so has no split-stage ATS",
            Self::Ns1ats => "the instance has no split-stage ATS (IDR0.NS1ATS)",
        })
    }
}

impl core::error::Error for NoSplitAts {}

/// Why an instance has no ATS that is always on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoAtsAlwaysOn {
    /// It has no ATS at all (IDR0.ATS), or the driver was built without.
    NoAts,
    /// It has no stage 1 (IDR0.S1P).
    NoStage1,
    /// It has no substreams (IDR1.SSIDSIZE), and so no entry that skips stage 1.
    NoSubstreams,
    /// What firmware left working ([`Probe::keep`](crate::Probe::keep)) has no ATS: what its devices keep is not known.
    Kept,
}

impl fmt::Display for NoAtsAlwaysOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAts => "the instance has no ATS, and the device needs it",
            Self::NoStage1 => "the instance has no stage 1, and so no ATS under identity",
            Self::NoSubstreams => "the instance has no substreams, and so no ATS under identity",
            Self::Kept => "what firmware left working has no ATS, and the device needs it",
        })
    }
}

impl core::error::Error for NoAtsAlwaysOn {}

#[cfg(test)]
mod tests {
    use smmuv3_formats::ste::config;
    use smmuv3_formats::{PhysAddr, Ste};

    use super::*;
    use crate::context_table::ContextFormat;
    use crate::entry::{Stage2, WithoutSubstream};

    /// From §5.2 and §12: EATS of each, and in which uses it is on.
    #[test]
    fn split_stage_ats_is_on_over_a_guests_stage_1_alone() {
        let modes = [AtsMode::Off, AtsMode::Full, AtsMode::Always, AtsMode::Split];
        assert_eq!(modes.map(AtsMode::eats), [0, 1, 1, 2]);
        let stage_2 = Stage2 {
            root: PhysAddr(0x8000_0000),
            granule_shift: 12,
            input_bits: 40,
            output_bits: 44,
            start: 1,
            wide: false,
            forced_types: false,
            access_flag: false,
            dirty_state: false,
            merged: false,
            vmid: 1,
        };
        let stage_1 = Stream::Stage1 {
            contexts: PhysAddr(0x9000_0000),
            format: ContextFormat::Linear,
            bits: 0,
            without: WithoutSubstream::First,
            vmid: 0,
        };
        let nested = |eats| {
            Stream::Nested(Ste::default().with_v(true).with_config(config::NESTED).with_eats(eats))
        };
        for (stream, full, split) in [
            (Stream::Blocked, false, false),
            (Stream::Identity, false, false),
            (stage_1, true, false),
            (Stream::Stage2(stage_2), true, false),
            (nested(0), false, false),
            (nested(1), true, true),
            (nested(2), true, true),
        ] {
            assert!(!AtsMode::Off.is_on(stream), "{stream:?}");
            assert_eq!(AtsMode::Full.is_on(stream), full, "{stream:?}");
            assert_eq!(AtsMode::Always.is_on(stream), full, "{stream:?}");
            assert_eq!(AtsMode::Split.is_on(stream), split, "{stream:?}");
        }
    }
}
