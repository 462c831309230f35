// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which stream table entries are rejected (§7.1).

use super::sizes::{LPAE_BITS, beyond, effective_output_bits, implemented, largest_txsz};
use super::{Implementation, Rule, World, check, rule};
use crate::Ste;
use crate::granule::{Granule, Tables};
use crate::ste::config;

/// Whether hardware accepts `ste`; a rejected one gives C_BAD_STE (§7.1).
///
/// # Errors
/// The first rule that is broken, in the reference's order.
pub fn ste(ste: &Ste, implementation: &Implementation) -> Result<(), Rule> {
    let Implementation { idr0, idr1, idr3, .. } = implementation;
    check!(!ste.v(), "7.1(1)", "V", "must be 1");
    let kind = ste.config();
    let strw_used = implementation.strw_used(ste);
    if kind & 0b100 == 0 {
        return Ok(());
    }
    let (stage_1, stage_2) = (kind & 0b001 != 0, kind & 0b010 != 0);
    check!(stage_1 && !idr0.s1p(), "7.1(3)", "Config", "stage 1 is not implemented");
    check!(stage_2 && !idr0.s2p(), "7.1(3)", "Config", "stage 2 is not implemented");

    if idr0.ats() && kind != config::BYPASS {
        let stalls = stage_2 && ste.s2_s();
        check!(
            ste.eats() == 2 && (kind != config::NESTED || ste.s2_s() || idr0.ns1ats()),
            "7.1(4)",
            "EATS",
            "split-stage ATS needs both stages, S2S = 0 and NS1ATS = 0"
        );
        check!(ste.eats() == 1 && stalls, "7.1(4)", "EATS", "ATS excludes stage-2 stalls");
        check!(
            ste.eats() == 3 && idr3.dpt() && (stalls || strw_used && ste.strw() != 0),
            "7.1(4)",
            "EATS",
            "ATS with permission checks needs STRW = 0 and S2S = 0"
        );
    }
    check!(
        strw_used && matches!(ste.strw(), 1 | 3),
        "7.1(5)",
        "STRW",
        "must be 0 (EL1) or 2 (EL2)"
    );

    if stage_1 {
        check!(
            ste.s1_stalld() && idr0.stall_model() != 0,
            "7.1(6a)",
            "S1STALLD",
            "must be 0 unless stalls can be chosen (STALL_MODEL = 0)"
        );
        if idr1.ssidsize() != 0 {
            check!(
                ste.s1_cd_max() > idr1.ssidsize(),
                "7.1(6b)",
                "S1CDMax",
                "must not exceed SSIDSIZE"
            );
            check!(
                ste.s1_cd_max() != 0 && !idr0.cd2l() && matches!(ste.s1_fmt(), 1 | 2),
                "7.1(6c)",
                "S1Fmt",
                "2-level tables of contexts are not implemented"
            );
        }
        let limit =
            if stage_2 { implementation.intermediate_bits() } else { implementation.output_bits() };
        check!(
            beyond(ste.s1_context_ptr(), limit),
            "7.1(6d)",
            "S1ContextPtr",
            "is beyond the address size"
        );
    }
    if stage_2 {
        stage_2_rules(ste, implementation)?;
    }

    // Translations are tagged with it wherever there is a stage 2 and an EL1, stage-1-only streams included.
    let vmid_used = idr0.s2p() && kind != config::BYPASS && implementation.world(ste) == World::El1;
    check!(
        !idr0.vmid16() && vmid_used && ste.s2_vmid() > 0xff,
        "7.1(8)",
        "S2VMID",
        "must fit in 8 bits (VMID16 = 0)"
    );
    check!(
        kind == config::NESTED
            && ste.s1_mpam()
            && idr3.mpam()
            && beyond(ste.vms_ptr(), implementation.output_bits()),
        "7.1(9)",
        "VMSPtr",
        "is beyond the address size"
    );
    Ok(())
}

/// The rules about stage 2, whichever format its tables have (§7.1(7)).
fn stage_2_rules(ste: &Ste, implementation: &Implementation) -> Result<(), Rule> {
    let Implementation { idr0, idr3, .. } = implementation;
    let lpae = !ste.s2_aa64();
    check!(
        idr3.fwb() && ste.s2_fwb() && lpae,
        "7.1(7a)",
        "S2FWB",
        "must be 0 with the AArch32 format"
    );
    check!(
        idr0.stall_model() == 1 && ste.s2_s(),
        "7.1(7b)",
        "S2S",
        "stalls are not implemented (STALL_MODEL = 1)"
    );
    check!(
        idr0.stall_model() == 2 && !ste.s2_s(),
        "7.1(7b)",
        "S2S",
        "stalls are forced (STALL_MODEL = 2)"
    );
    check!(
        lpae && idr0.ttf() & 0b01 == 0,
        "7.1(7c)",
        "S2AA64",
        "the AArch32 format is not implemented"
    );
    check!(
        !lpae && idr0.ttf() & 0b10 == 0,
        "7.1(7c)",
        "S2AA64",
        "the AArch64 format is not implemented"
    );
    check!(
        ste.s2_ha() && (lpae || idr0.httu() == 0),
        "7.1(7d)",
        "S2HA",
        "access flag updates are not implemented"
    );
    check!(
        ste.s2_hd() && (lpae || idr0.httu() <= 1),
        "7.1(7d)",
        "S2HD",
        "dirty flag updates are not implemented"
    );
    check!(
        ste.s2_haft() && !ste.s2_ha() && idr0.httu() == 3,
        "7.1(7d)",
        "S2HAFT",
        "needs S2HA = 1"
    );
    if lpae {
        check!(beyond(ste.s2_ttb(), LPAE_BITS), "7.1(7f)", "S2TTB", "is beyond the address size");
    } else {
        stage_2_table_rules(ste, implementation)?;
    }
    check!(
        idr0.ttendian() == 2 && ste.s2_endi(),
        "7.1(7i)",
        "S2ENDI",
        "big-endian tables are not implemented"
    );
    check!(
        idr0.ttendian() == 3 && !ste.s2_endi(),
        "7.1(7i)",
        "S2ENDI",
        "little-endian tables are not implemented"
    );
    check!(
        idr3.s2pi() && ste.s2_pie() && lpae,
        "7.1(7j)",
        "S2PIE",
        "must be 0 with the AArch32 format"
    );
    if idr3.s2po() && ste.s2_poe() {
        check!(!ste.s2_pie(), "7.1(7j)", "S2POE", "needs S2PIE = 1");
        for (set, field) in [
            (ste.s2_hwu59(), "S2HWU59"),
            (ste.s2_hwu60(), "S2HWU60"),
            (ste.s2_hwu61(), "S2HWU61"),
            (ste.s2_hwu62(), "S2HWU62"),
        ] {
            check!(idr3.pbha() && set, "7.1(7j)", field, "must be 0 with S2POE = 1");
        }
        check!(
            (0..16).any(|i| matches!(ste.s2_poi() >> (4 * i) & 0xf, 1 | 5)),
            "7.1(7j)",
            "S2POI",
            "holds a reserved overlay"
        );
    }
    Ok(())
}

/// The rules about the place and size of VMSAv8-64 tables of stage 2 (§7.1(7e-7h)).
fn stage_2_table_rules(ste: &Ste, implementation: &Implementation) -> Result<(), Rule> {
    let Implementation { idr3, idr5, .. } = implementation;
    let ds = ste.s2_ds() && idr5.ds();
    let Some(granule) = implemented(Granule::from_tg0(ste.s2_tg()), idr5) else {
        return Err(rule("7.1(7e)", "S2TG", "the granule is not implemented"));
    };
    let output = effective_output_bits(ste.s2_ps(), implementation, granule, ds);
    check!(beyond(ste.s2_ttb(), output), "7.1(7f)", "S2TTB", "is beyond the address size");
    let smallest = if granule == Granule::K64 || ds { 12 } else { 16 };
    let smallest = smallest.max(64u32.saturating_sub(implementation.intermediate_bits()));
    check!(
        !(u64::from(smallest)..=largest_txsz(idr3, granule)).contains(&ste.s2_t0sz()),
        "7.1(7g)",
        "S2T0SZ",
        "is out of range"
    );
    let sl0 = ste.s2_sl0() | u64::from(ste.s2_sl0_2()) << 2;
    check!(
        Tables::stage_2(granule, sl0, ste.s2_t0sz(), ds, idr3.stt()).is_none(),
        "7.1(7h)",
        "S2SL0",
        "does not go with S2T0SZ and S2TG"
    );
    Ok(())
}
