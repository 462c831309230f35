// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes of addresses and tables, on which the rules about STEs and CDs agree (§15).

use super::Implementation;
use crate::granule::{self, Granule};
use crate::register::{Idr3, Idr5};

/// Output size of AArch32 (LPAE) tables, which ignore IPS and S2PS.
pub(super) const LPAE_BITS: u32 = 40;

/// `granule` where the instance has it.
pub(super) fn implemented(granule: Option<Granule>, idr5: &Idr5) -> Option<Granule> {
    granule.filter(|granule| granule.is_implemented(idr5))
}

/// Output size that tables of `granule` can use under the size code `code` (§15.3).
pub(super) fn effective_output_bits(
    code: u64,
    implementation: &Implementation,
    granule: Granule,
    ds: bool,
) -> u32 {
    granule::output_bits(code, implementation.output_bits(), granule, ds)
}

/// The largest TxSZ: the smallest input size (§7.1(7g), §7.2(9)).
pub(super) fn largest_txsz(idr3: &Idr3, granule: Granule) -> u64 {
    match (idr3.stt(), granule) {
        (false, _) => 39,
        (true, Granule::K64) => 47,
        (true, _) => 48,
    }
}

/// Whether `address` has bits at or above `bits`.
pub(super) fn beyond(address: u64, bits: u32) -> bool {
    address.checked_shr(bits).unwrap_or(0) != 0
}
