// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's context descriptors (§6, §7.2). The SMMU reads them by itself, through stage 2, and judges them against what
//! it can do; this is for who wants to know why it refuses one, or keeps copies.

use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Layout, Ste, legality};

use crate::nest::{Contexts, Guest, Illegal, Limits, Request, no_reserved_bits, none_of};

/// Whether `cd`, reached through an entry that asks for `contexts` within `limits`, is legal: for the SMMU that
/// the guest is shown, which is what it may rely on, and for the host's, which reads it. A descriptor that uses
/// what the guest is not shown is refused here although the host's SMMU may have it.
///
/// Tables beyond the guest's memory are refused as well: the SMMU reports each walk of theirs as a fault of stage 2.
///
/// # Errors
/// The field for which it gives C_BAD_CD, or must not be used.
pub fn check(cd: &Cd, contexts: &Contexts, guest: &Guest, limits: Limits) -> Result<(), Illegal> {
    let illegal = |rule| Illegal::of(rule, Cd::FIELDS, &cd.0);
    let shown = guest.implementation();
    // Judged as by the SMMU that the guest is shown.
    let ste = Ste::default()
        .with_v(true)
        .with_config(config::STAGE_1)
        .with_s1_stalld(contexts.no_stalls && shown.idr0.stall_model() == 0)
        .with_s1_pie(contexts.indirect);
    legality::cd(cd, &ste, &shown).map_err(illegal)?;
    no_reserved_bits(Cd::NAME, &cd.0)?;
    unshown(cd, guest)?;

    for (disabled, ttb, field) in [(cd.epd0(), cd.ttb0(), "TTB0"), (cd.epd1(), cd.ttb1(), "TTB1")] {
        if !disabled && ttb.checked_shr(guest.output_bits()).unwrap_or(0) != 0 {
            let text = "is beyond the guest's memory";
            return Err(Illegal::new("7.2(9)", field, text, ttb));
        }
    }
    // Judged as by the host's SMMU, which reads the descriptor.
    let ste = Request::Stage1(*contexts).encode(guest, limits);
    legality::cd(cd, &ste, &guest.host().implementation()).map_err(illegal)
}

/// Refuses fields of features that the guest is not shown: they must be 0, and mean something to the host's SMMU.
fn unshown(cd: &Cd, guest: &Guest) -> Result<(), Illegal> {
    let shown = guest.implementation();
    let (idr0, idr3, idr5) = (shown.idr0, shown.idr3, shown.idr5);
    let unless = |has: bool, value: u64| if has { 0 } else { value };
    let flag = |has: bool, bit: bool| unless(has, u64::from(bit));
    none_of(
        "6",
        "must be 0: the guest's SMMU does not have it",
        &[
            (flag(idr0.httu() >= 1, cd.ha()), "HA"),
            (flag(idr0.httu() >= 2, cd.hd()), "HD"),
            (flag(idr0.httu() == 3, cd.haft()), "HAFT"),
            (flag(idr3.had(), cd.had0()), "HAD0"),
            (flag(idr3.had(), cd.had1()), "HAD1"),
            (flag(idr3.e0pd(), cd.e0pd0()), "E0PD0"),
            (flag(idr3.e0pd(), cd.e0pd1()), "E0PD1"),
            (flag(idr3.the(), cd.pnch()), "PnCH"),
            (flag(idr3.epan(), cd.epan()), "EPAN"),
            (flag(idr3.pbha(), cd.hwu059()), "HWU059"),
            (flag(idr3.pbha(), cd.hwu060()), "HWU060"),
            (flag(idr3.pbha(), cd.hwu061()), "HWU061"),
            (flag(idr3.pbha(), cd.hwu062()), "HWU062"),
            (flag(idr3.pbha(), cd.hwu159()), "HWU159"),
            (flag(idr3.pbha(), cd.hwu160()), "HWU160"),
            (flag(idr3.pbha(), cd.hwu161()), "HWU161"),
            (flag(idr3.pbha(), cd.hwu162()), "HWU162"),
            (flag(idr3.aie(), cd.aie()), "AIE"),
            (flag(idr5.ds(), cd.ds()), "DS"),
            (flag(idr3.s1pi(), cd.pie()), "PIE"),
            (unless(idr3.s1pi(), cd.piiu()), "PIIU"),
            (unless(idr3.s1pi(), cd.piip()), "PIIP"),
            (unless(idr3.aie(), cd.amair()), "AMAIR"),
            (cd.impdef_5(), "IMPDEF5"),
            (cd.part_id(), "PARTID"),
            (cd.pmg(), "PMG"),
        ],
    )
}
