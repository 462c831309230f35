// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which context descriptors are rejected (§7.2).

use super::sizes::{LPAE_BITS, beyond, effective_output_bits, implemented, largest_txsz};
use super::{Implementation, Rule, World, check, rule};
use crate::granule::Granule;
use crate::permission;
use crate::ste::config;
use crate::{Cd, Ste};

/// Whether hardware accepts `cd` when it is reached through `ste`; a rejected one gives C_BAD_CD (§7.2).
///
/// # Errors
/// The first rule that is broken, in the reference's order.
pub fn cd(cd: &Cd, ste: &Ste, implementation: &Implementation) -> Result<(), Rule> {
    let Implementation { idr0, idr3, idr5, .. } = implementation;
    let world = implementation.world(ste);
    // A world with one table ignores EPD0 and EPD1 and has no second half.
    let (epd0, epd1) = if world == World::El2 { (false, true) } else { (cd.epd0(), cd.epd1()) };
    check!(!cd.v(), "7.2(1)", "V", "must be 1");
    check!(ste.s1_stalld() && cd.s(), "7.2(2)", "S", "the STE forbids stalls (S1STALLD = 1)");
    check!(
        idr0.term_model() && !cd.a(),
        "7.2(3)",
        "A",
        "must be 1: faults can only abort (TERM_MODEL = 1)"
    );
    check!(
        idr0.stall_model() == 1 && cd.s(),
        "7.2(4)",
        "S",
        "stalls are not implemented (STALL_MODEL = 1)"
    );
    check!(
        idr0.stall_model() == 2 && !cd.s(),
        "7.2(4)",
        "S",
        "stalls are forced (STALL_MODEL = 2)"
    );
    if !(epd0 && epd1) {
        check!(
            idr0.ttendian() == 2 && cd.endi(),
            "7.2(5)",
            "ENDI",
            "big-endian tables are not implemented"
        );
        check!(
            idr0.ttendian() == 3 && !cd.endi(),
            "7.2(5)",
            "ENDI",
            "little-endian tables are not implemented"
        );
    }
    check!(
        !cd.aa64() && (idr0.ttf() & 0b01 == 0 || world == World::El2E2h),
        "7.2(6)",
        "AA64",
        "the AArch32 format is not available here"
    );
    let stage_2_is_lpae = ste.config() == config::NESTED && !ste.s2_aa64();
    check!(
        cd.aa64() && (idr0.ttf() & 0b10 == 0 || stage_2_is_lpae),
        "7.2(6)",
        "AA64",
        "the AArch64 format is not available here"
    );
    if cd.aa64() {
        check!(
            cd.ha() && idr0.httu() == 0,
            "7.2(7)",
            "HA",
            "access flag updates are not implemented"
        );
        check!(
            cd.hd() && idr0.httu() <= 1,
            "7.2(7)",
            "HD",
            "dirty flag updates are not implemented"
        );
        check!(cd.haft() && !cd.ha() && idr0.httu() == 3, "7.2(7)", "HAFT", "needs HA = 1");
    }
    check!(
        !idr0.asid16() && world != World::El2 && cd.asid() > 0xff,
        "7.2(8)",
        "ASID",
        "must fit in 8 bits (ASID16 = 0)"
    );
    let halves = [
        Half {
            names: ["TG0", "T0SZ", "TTB0"],
            disabled: epd0,
            granule: implemented(Granule::from_tg0(cd.tg0()), idr5),
            txsz: cd.t0sz(),
            ttb: cd.ttb0(),
        },
        Half {
            names: ["TG1", "T1SZ", "TTB1"],
            disabled: epd1,
            granule: implemented(Granule::from_tg1(cd.tg1()), idr5),
            txsz: cd.t1sz(),
            ttb: cd.ttb1(),
        },
    ];
    for half in halves.iter().filter(|half| !half.disabled) {
        if cd.aa64() {
            half.rules(cd, implementation)?;
        } else {
            let [_, _, ttb] = half.names;
            check!(beyond(half.ttb, LPAE_BITS), "7.2(9)", ttb, "is beyond the address size");
        }
    }
    if cd.aa64() && idr3.s1pi() && ste.s1_pie() && cd.pie() {
        check!(
            (0..16).any(|i| permission::indirect(cd.piip(), i).is_none()),
            "7.2(10)",
            "PIIP",
            "holds a reserved permission"
        );
        // A world with one privilege has no unprivileged permissions.
        if world != World::El2 {
            check!(
                (0..16).any(|i| permission::indirect(cd.piiu(), i).is_none()),
                "7.2(10)",
                "PIIU",
                "holds a reserved permission"
            );
            let unsafe_to_run = |i| {
                let executable = permission::indirect(cd.piip(), i).is_some_and(|p| p.execute);
                executable && permission::indirect(cd.piiu(), i).is_some_and(|p| p.write)
            };
            check!(
                (0..16).any(unsafe_to_run),
                "7.2(10)",
                "PIIP",
                "lets privileged code execute what unprivileged code can write"
            );
        }
    }
    Ok(())
}

/// One half of the input addresses, as a CD describes it.
struct Half {
    /// TGx, TxSZ, TTBx.
    names: [&'static str; 3],
    disabled: bool,
    /// `None` where TGx is reserved or names a granule that is not implemented.
    granule: Option<Granule>,
    txsz: u64,
    ttb: u64,
}

impl Half {
    /// The rules about the place and size of VMSAv8-64 tables (§7.2(9)).
    fn rules(&self, cd: &Cd, implementation: &Implementation) -> Result<(), Rule> {
        let Implementation { idr3, idr5, .. } = implementation;
        let [tg, txsz, ttb] = self.names;
        let Some(granule) = self.granule else {
            return Err(rule("7.2(9)", tg, "the granule is not implemented"));
        };
        let ds = cd.ds() && idr5.ds();
        let wide = idr5.vax() >= 1 && (granule == Granule::K64 || ds);
        let smallest = if wide { 12 } else { 16 };
        check!(
            !(smallest..=largest_txsz(idr3, granule)).contains(&self.txsz),
            "7.2(9)",
            txsz,
            "is out of range"
        );
        let output = effective_output_bits(cd.ips(), implementation, granule, ds);
        check!(beyond(self.ttb, output), "7.2(9)", ttb, "is beyond the address size");
        Ok(())
    }
}
