// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the architecture rejects (§7 and the last column of §4.1): one function an entry type, which
//! names the first rule that is broken.
//!
//! Only rules that an SMMU must apply are here. Reserved bits that are set are not among them: see
//! [`Command::reserved_bits`].

use core::fmt;

use crate::command::{Command, Opcode};
use crate::register::{Aidr, Idr0, Idr1, Idr3, Idr5, address_bits};
use crate::ste::config;
use crate::{Cd, Ste};

/// The ID registers and the settings that legality depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Implementation {
    /// IDR0.
    pub idr0: Idr0,
    /// IDR1.
    pub idr1: Idr1,
    /// IDR3.
    pub idr3: Idr3,
    /// IDR5.
    pub idr5: Idr5,
    /// AIDR.
    pub aidr: Aidr,
    /// CR2.E2H.
    pub e2h: bool,
}

impl Implementation {
    /// Bits of the largest physical address that the SMMU can output (§2.3); 48 for a reserved code.
    pub fn output_bits(&self) -> u32 {
        address_bits(self.idr5.oas()).unwrap_or(48)
    }

    /// Bits of the largest intermediate address (§2.3).
    pub fn intermediate_bits(&self) -> u32 {
        let lpae = if self.idr0.ttf() & 0b01 != 0 { 40 } else { 0 };
        let aarch64 = if self.idr0.ttf() & 0b10 != 0 { self.output_bits() } else { 0 };
        lpae.max(aarch64)
    }

    /// Whether a stream's ASIDs (and TTB1) exist: not so in StreamWorld EL2 without E2H (§1).
    fn world(&self, ste: &Ste) -> World {
        let used = ste.config() == config::STAGE_1 && self.idr0.s1p() && self.idr0.hyp();
        match (used, ste.strw(), self.e2h) {
            (true, 2, true) => World::El2E2h,
            (true, 2, false) => World::El2,
            _ => World::El1,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum World {
    El1,
    El2,
    El2E2h,
}

/// A rule of the architecture, named by the structure's field and the section that states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Section of the architecture reference, with the rule's number: `7.1(6b)`.
    pub section: &'static str,
    /// The field that is wrong.
    pub field: &'static str,
    /// What must hold.
    pub text: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (§{})", self.field, self.text, self.section)
    }
}

const fn rule(section: &'static str, field: &'static str, text: &'static str) -> Rule {
    Rule { section, field, text }
}

macro_rules! check {
    ($broken:expr, $section:literal, $field:literal, $text:literal) => {
        if $broken {
            return Err(rule($section, $field, $text));
        }
    };
}

/// Whether hardware accepts `ste`; a rejected one gives C_BAD_STE (§7.1).
///
/// # Errors
/// The first rule that is broken, in the reference's order.
pub fn ste(ste: &Ste, implementation: &Implementation) -> Result<(), Rule> {
    let Implementation { idr0, idr1, idr3, .. } = implementation;
    check!(!ste.v(), "7.1(1)", "V", "must be 1");
    let kind = ste.config();
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
            ste.eats() == 3 && idr3.dpt() && (stalls || strw_used(ste, idr0) && ste.strw() != 0),
            "7.1(4)",
            "EATS",
            "ATS with permission checks needs STRW = 0 and S2S = 0"
        );
    }
    check!(
        strw_used(ste, idr0) && matches!(ste.strw(), 1 | 3),
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

    let vmid_used = idr0.s2p() && (stage_2 || implementation.world(ste) == World::El1);
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

fn strw_used(ste: &Ste, idr0: &Idr0) -> bool {
    ste.config() == config::STAGE_1 && idr0.s1p() && idr0.hyp()
}

fn stage_2_rules(ste: &Ste, implementation: &Implementation) -> Result<(), Rule> {
    let Implementation { idr0, idr3, idr5, .. } = implementation;
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
        (ste.s2_ha() || ste.s2_hd()) && (lpae || idr0.httu() == 0),
        "7.1(7d)",
        "S2HA",
        "flag updates are not implemented"
    );
    check!(
        ste.s2_hd() && idr0.httu() == 1,
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
    if !lpae {
        let granule = match ste.s2_tg() {
            0 if idr5.gran4k() => Some(Granule::K4),
            1 if idr5.gran64k() => Some(Granule::K64),
            2 if idr5.gran16k() => Some(Granule::K16),
            _ => None,
        };
        let Some(granule) = granule else {
            return Err(rule("7.1(7e)", "S2TG", "the granule is not implemented"));
        };
        let output = effective_output_bits(ste.s2_ps(), implementation, granule, ste.s2_ds());
        check!(beyond(ste.s2_ttb(), output), "7.1(7f)", "S2TTB", "is beyond the address size");
        let input = implementation.intermediate_bits();
        let smallest = if granule == Granule::K64 || ste.s2_ds() { 12 } else { 16 };
        let smallest = smallest.max(64u32.saturating_sub(input));
        check!(
            !(u64::from(smallest)..=largest_txsz(idr3, granule)).contains(&ste.s2_t0sz()),
            "7.1(7g)",
            "S2T0SZ",
            "is out of range"
        );
        check!(
            !start_level_fits(ste, granule),
            "7.1(7h)",
            "S2SL0",
            "does not go with S2T0SZ and S2TG"
        );
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
        check!(
            idr3.pbha() && (ste.s2_hwu59() || ste.s2_hwu60() || ste.s2_hwu61() || ste.s2_hwu62()),
            "7.1(7j)",
            "S2HWU",
            "must be 0 with S2POE = 1"
        );
        check!(
            (0..16).any(|i| matches!(ste.s2_poi() >> (4 * i) & 0xf, 1 | 5)),
            "7.1(7j)",
            "S2POI",
            "holds a reserved overlay"
        );
    }
    Ok(())
}

/// Whether hardware accepts `cd` when it is reached through `ste`; a rejected one gives C_BAD_CD (§7.2).
///
/// # Errors
/// The first rule that is broken, in the reference's order.
pub fn cd(cd: &Cd, ste: &Ste, implementation: &Implementation) -> Result<(), Rule> {
    let Implementation { idr0, idr3, idr5, .. } = implementation;
    let world = implementation.world(ste);
    // EPD0 and EPD1 do not exist in a world with one table.
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
            (cd.ha() || cd.hd()) && idr0.httu() == 0,
            "7.2(7)",
            "HA",
            "flag updates are not implemented"
        );
        check!(
            cd.hd() && idr0.httu() == 1,
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
    if cd.aa64() {
        let ds = cd.ds() && idr5.ds();
        let granule_0 = match cd.tg0() {
            0 if idr5.gran4k() => Some(Granule::K4),
            1 if idr5.gran64k() => Some(Granule::K64),
            2 if idr5.gran16k() => Some(Granule::K16),
            _ => None,
        };
        let granule_1 = match cd.tg1() {
            1 if idr5.gran16k() => Some(Granule::K16),
            2 if idr5.gran4k() => Some(Granule::K4),
            3 if idr5.gran64k() => Some(Granule::K64),
            _ => None,
        };
        let halves = [
            (epd0, granule_0, cd.t0sz(), cd.ttb0(), ["TG0", "T0SZ", "TTB0"]),
            (epd1, granule_1, cd.t1sz(), cd.ttb1(), ["TG1", "T1SZ", "TTB1"]),
        ];
        for (disabled, granule, txsz, ttb, [tg_name, txsz_name, ttb_name]) in halves {
            if disabled {
                continue;
            }
            let Some(granule) = granule else {
                return Err(rule("7.2(9)", tg_name, "the granule is not implemented"));
            };
            let wide = idr5.vax() >= 1 && (granule == Granule::K64 || ds);
            let smallest = if wide { 12 } else { 16 };
            if !(smallest..=largest_txsz(idr3, granule)).contains(&txsz) {
                return Err(rule("7.2(9)", txsz_name, "is out of range"));
            }
            if beyond(ttb, effective_output_bits(cd.ips(), implementation, granule, ds)) {
                return Err(rule("7.2(9)", ttb_name, "is beyond the address size"));
            }
        }
        if idr3.s1pi() && ste.s1_pie() && cd.pie() {
            for i in 0..16 {
                let (privileged, unprivileged) =
                    (cd.piip() >> (3 * i) & 7, cd.piiu() >> (3 * i) & 7);
                check!(
                    matches!(privileged, 4 | 6) || matches!(unprivileged, 4 | 6),
                    "7.2(10)",
                    "PIIP",
                    "holds a reserved permission"
                );
            }
        }
    }
    Ok(())
}

/// Whether the Non-secure command queue accepts `command`; a rejected one stops it with CERROR_ILL
/// (§4.1).
///
/// # Errors
/// The first rule that is broken.
pub fn command(command: &Command, implementation: &Implementation) -> Result<(), Rule> {
    use Opcode as Op;
    let Implementation { idr0, idr3, idr5, .. } = implementation;
    let Some(opcode) = command.opcode() else {
        return Err(rule("4.1", "Opcode", "is reserved"));
    };
    check!(
        command.field("SSec") == Some(1),
        "4.1",
        "SSec",
        "must be 0 on the Non-secure command queue"
    );
    let available = match opcode {
        Op::PrefetchConfig | Op::PrefetchAddr | Op::CfgiSte | Op::CfgiSteRange => true,
        Op::TlbiNsnhAll | Op::Sync => true,
        Op::CfgiCd | Op::CfgiCdAll => idr0.s1p(),
        Op::TlbiNhAll | Op::TlbiNhAsid | Op::TlbiNhVa | Op::TlbiNhVaa => idr0.s1p(),
        Op::CfgiVmsPidm => idr3.mpam(),
        Op::TlbiEl2All | Op::TlbiEl2Asid | Op::TlbiEl2Va | Op::TlbiEl2Vaa => {
            idr0.hyp() && idr0.s1p()
        }
        Op::TlbiS12Vmall | Op::TlbiS2Ipa => idr0.s2p(),
        Op::AtcInv => idr0.ats(),
        Op::PriResp => idr0.pri(),
        Op::Resume | Op::StallTerm => idr0.stall_model() != 1,
        Op::DptiAll => idr3.dpt(),
        Op::TlbiEl3All | Op::TlbiEl3Va => false,
        Op::TlbiSEl2All | Op::TlbiSEl2Asid | Op::TlbiSEl2Va | Op::TlbiSEl2Vaa => false,
        Op::TlbiSS12Vmall | Op::TlbiSS2Ipa | Op::TlbiSnhAll => false,
    };
    check!(!available, "4.1", "Opcode", "the command is not available on this queue");
    let reserved_cs = opcode == Op::Sync && command.field("CS") == Some(3);
    check!(reserved_cs, "4.1", "CS", "3 is reserved");
    check!(command.field("Resp") == Some(3), "4.1", "Resp", "3 is reserved");
    // With a granule given, the range of one page without level hint is reserved (§4.2).
    if let (true, Some(tg)) = (idr3.ril(), command.field("TG")) {
        let ttl = match command.field("TTL") {
            // Level 1 of the 16 KiB granule has no leaves unless DS: reserved, treated as 0.
            Some(1) if tg == 2 && !idr5.ds() => Some(0),
            other => other,
        };
        check!(
            tg != 0
                && command.field("NUM") == Some(0)
                && command.field("SCALE") == Some(0)
                && ttl == Some(0),
            "4.2",
            "TG",
            "NUM = SCALE = TTL = 0 is reserved with TG set"
        );
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Granule {
    K4,
    K16,
    K64,
}

impl Granule {
    const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }
}

/// Output size that tables of `granule` can use under the size code `code` (§15.3).
fn effective_output_bits(
    code: u64,
    implementation: &Implementation,
    granule: Granule,
    ds: bool,
) -> u32 {
    let configured = address_bits(code).unwrap_or(u32::MAX).min(implementation.output_bits());
    if granule == Granule::K64 || ds { configured } else { configured.min(48) }
}

fn largest_txsz(idr3: &Idr3, granule: Granule) -> u64 {
    match (idr3.stt(), granule) {
        (false, _) => 39,
        (true, Granule::K64) => 47,
        (true, _) => 48,
    }
}

/// Whether S2SL0 names a start level from which S2T0SZ can be walked with at most 16 first tables (§15.4).
fn start_level_fits(ste: &Ste, granule: Granule) -> bool {
    let sl0 = ste.s2_sl0() | u64::from(ste.s2_sl0_2()) << 2;
    let level: i32 = match (granule, sl0) {
        (Granule::K4, 0b100) if ste.s2_ds() => -1,
        (Granule::K4, 2) => 0,
        (Granule::K4, 1) => 1,
        (Granule::K4, 0) => 2,
        (Granule::K4, 3) => 3,
        (Granule::K16, 3) if ste.s2_ds() => 0,
        (Granule::K16 | Granule::K64, 2) => 1,
        (Granule::K16 | Granule::K64, 1) => 2,
        (Granule::K16 | Granule::K64, 0) => 3,
        _ => return false,
    };
    let shift = granule.shift() as i32;
    let stride = shift - 3;
    // T0SZ is at most 48 here, so the input has 16 bits or more.
    let input = 64 - ste.s2_t0sz() as i32;
    // Bits that the first table (or up to 16 concatenated ones) must resolve.
    let first = input - (shift + (3 - level) * stride);
    if level == -1 {
        return (1..=4).contains(&first);
    }
    // Concatenation is never used where one table of a higher level is the only choice left.
    (1..=stride + 4).contains(&first)
}

/// Whether `address` has bits at or above `bits`.
fn beyond(address: u64, bits: u32) -> bool {
    address.checked_shr(bits).unwrap_or(0) != 0
}
