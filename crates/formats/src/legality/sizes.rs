// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes of addresses and tables, on which the rules about STEs and CDs agree (§15).

use super::Implementation;
use crate::register::{Idr3, Idr5, address_bits};

/// Size of the smallest page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Granule {
    K4,
    K16,
    K64,
}

impl Granule {
    /// By `CD.TG0` (§6) and `STE.S2TG` (§5.2); `None` for a reserved code and a granule that is not
    /// implemented.
    pub(super) fn of_tg0(code: u64, idr5: &Idr5) -> Option<Self> {
        match code {
            0 => Self::K4.implemented(idr5),
            1 => Self::K64.implemented(idr5),
            2 => Self::K16.implemented(idr5),
            _ => None,
        }
    }

    /// By `CD.TG1` (§6), whose codes differ from TG0's; `None` as for that.
    pub(super) fn of_tg1(code: u64, idr5: &Idr5) -> Option<Self> {
        match code {
            1 => Self::K16.implemented(idr5),
            2 => Self::K4.implemented(idr5),
            3 => Self::K64.implemented(idr5),
            _ => None,
        }
    }

    fn implemented(self, idr5: &Idr5) -> Option<Self> {
        let implemented = match self {
            Self::K4 => idr5.gran4k(),
            Self::K16 => idr5.gran16k(),
            Self::K64 => idr5.gran64k(),
        };
        implemented.then_some(self)
    }
}

/// Output size that tables of `granule` can use under the size code `code` (§15.3).
pub(super) fn effective_output_bits(
    code: u64,
    implementation: &Implementation,
    granule: Granule,
    ds: bool,
) -> u32 {
    let configured = address_bits(code).unwrap_or(u32::MAX).min(implementation.output_bits());
    if granule == Granule::K64 || ds { configured } else { configured.min(48) }
}

/// The largest TxSZ: the smallest input size (§7.1(7g), §7.2(9)).
pub(super) fn largest_txsz(idr3: &Idr3, granule: Granule) -> u64 {
    match (idr3.stt(), granule) {
        (false, _) => 39,
        (true, Granule::K64) => 47,
        (true, _) => 48,
    }
}

/// Whether the start level that `sl0` (S2SL0, with S2SL0_2 as bit 2) names can begin a walk of `t0sz`: the
/// stage-2 table of §15.4, row by row, single and concatenated first tables together.
///
/// Rows for T0SZ below 16 need DS, which the range of T0SZ sees to: it starts at 16 without.
pub(super) fn start_level_fits(
    granule: Granule,
    sl0: u64,
    t0sz: u64,
    ds: bool,
    small_tables: bool,
) -> bool {
    let fitting = match (granule, sl0) {
        (Granule::K4, 0b100) if ds => 12..=15,
        (Granule::K4, 2) => 12..=24,
        (Granule::K4, 1) => 21..=33,
        (Granule::K4, 0) => 30..=42,
        (Granule::K4, 3) if small_tables => 39..=48,
        (Granule::K16, 3) if ds => 12..=16,
        (Granule::K16, 2) => 13..=27,
        (Granule::K16, 1) => 24..=38,
        (Granule::K16, 0) => 35..=48,
        (Granule::K64, 2) => 12..=21,
        (Granule::K64, 1) => 18..=34,
        (Granule::K64, 0) => 31..=47,
        _ => return false,
    };
    fitting.contains(&t0sz)
}

/// Whether `address` has bits at or above `bits`.
pub(super) fn beyond(address: u64, bits: u32) -> bool {
    address.checked_shr(bits).unwrap_or(0) != 0
}
