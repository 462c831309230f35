// SPDX-License-Identifier: MIT OR Apache-2.0
//! What first-level descriptors and reserved bits of entries break (§5.1, §6, §7).

use super::sizes::beyond;
use super::{Implementation, Rule, reserved_bits, rule};
use crate::granule::Granule;
use crate::ste::config;
use crate::{Cd, L1Cd, L1Std, Layout, Ste, structure};

/// Tells `found` what a level-1 stream table descriptor breaks (§5.1): `split` is STRTAB_BASE_CFG.SPLIT where
/// known. One that leads nowhere (Span = 0) breaks nothing.
pub fn l1_std(
    std: &L1Std,
    split: Option<u64>,
    implementation: Option<&Implementation>,
    found: &mut dyn FnMut(Rule),
) {
    let span = std.span();
    if span == 0 {
        return;
    }
    reserved(L1Std::NAME, &std.0, found);
    if span > 11 {
        found(rule("5.1", "Span", "12 to 31 are reserved: no stream is valid"));
        return;
    }
    // Other splits than 6, 8 and 10 behave as 6 (§2.5).
    let split = split.map(|split| if matches!(split, 8 | 10) { split } else { 6 });
    if split.is_some_and(|split| span > split + 1) {
        found(rule("5.1", "Span", "exceeds SPLIT + 1: no stream is valid"));
    }
    // 2^(Span-1) STEs of 2^6 bytes.
    let size = 64u64 << (span - 1);
    if std.l2_ptr() & (size - 1) != 0 {
        found(rule(
            "5.1",
            "L2Ptr",
            "is not aligned to the table's size: hardware drops the low bits",
        ));
    }
    if implementation.is_some_and(|i| beyond(std.l2_ptr(), i.output_bits())) {
        found(rule("5.1", "L2Ptr", "is beyond the address size"));
    }
}

/// Tells `found` what a level-1 context descriptor breaks (§6), reached through `ste` where that is known.
/// One that is not valid breaks nothing.
pub fn l1_cd(
    cd: &L1Cd,
    ste: Option<&Ste>,
    implementation: Option<&Implementation>,
    found: &mut dyn FnMut(Rule),
) {
    if !cd.v() {
        return;
    }
    reserved(L1Cd::NAME, &cd.0, found);
    // 64 KiB leaves.
    let large = ste.is_some_and(|ste| ste.s1_fmt() == 2);
    if large && cd.l2_ptr() & ((1 << Granule::K64.shift()) - 1) != 0 {
        found(rule("6", "L2Ptr", "must be aligned to leaves of 64 KiB (S1Fmt = 2)"));
    }
    let Some(implementation) = implementation else {
        return;
    };
    // It is an intermediate address where stage 2 translates; where that is unknown, the larger limit holds.
    let limit = match ste.map(Ste::config) {
        Some(config::NESTED) => implementation.intermediate_bits(),
        Some(_) => implementation.output_bits(),
        None => implementation.intermediate_bits().max(implementation.output_bits()),
    };
    if beyond(cd.l2_ptr(), limit) {
        found(rule("9", "L2Ptr", "is beyond the address size"));
    }
}

/// Tells `found` in which words of a valid STE reserved bits are set: hardware may reject or ignore them, and
/// software must not set them (§7). With 128-bit tables (IDR5.D128), bits 55:52 of S2TTB are not reserved.
pub fn ste_reserved(
    ste: &Ste,
    implementation: Option<&Implementation>,
    found: &mut dyn FnMut(Rule),
) {
    if ste.v() {
        let [w0, w1, w2, w3, w4, w5, w6, w7] = ste.0;
        let w3 = without_large_address(w3, implementation);
        reserved(Ste::NAME, &[w0, w1, w2, w3, w4, w5, w6, w7], found);
    }
}

/// Tells `found` in which words of a valid CD reserved bits are set, as for an STE; bits 55:52 of both TTBs
/// count with 128-bit tables.
pub fn cd_reserved(cd: &Cd, implementation: Option<&Implementation>, found: &mut dyn FnMut(Rule)) {
    if cd.v() {
        let [w0, w1, w2, w3, w4, w5, w6, w7] = cd.0;
        let [w1, w2] = [w1, w2].map(|word| without_large_address(word, implementation));
        reserved(Cd::NAME, &[w0, w1, w2, w3, w4, w5, w6, w7], found);
    }
}

fn without_large_address(word: u64, implementation: Option<&Implementation>) -> u64 {
    let large = implementation.is_some_and(|implementation| implementation.idr5.d128());
    if large { word & !(0xf << 52) } else { word }
}

fn reserved(name: &str, words: &[u64], found: &mut dyn FnMut(Rule)) {
    if let Some(structure) = structure::find(name) {
        reserved_bits(structure, words, found);
    }
}
