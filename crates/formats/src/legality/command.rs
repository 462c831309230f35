// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which commands are rejected (§4.1, last column, and §4.2).

use super::{Implementation, Rule, check, reserved_bits, rule};
use crate::command::{CfgiSte, Command, Opcode, PriResp, Sync, TlbiNhVa};
use crate::granule::Granule;

/// Whether the Non-secure command queue accepts `command`; a rejected one stops it with CERROR_ILL
/// (§4.1). Codes that are left to the implementation are rejected: this one has none.
///
/// # Errors
/// The first rule that is broken.
pub fn command(command: &Command, implementation: &Implementation) -> Result<(), Rule> {
    use Opcode as Op;
    let Implementation { idr0, idr3, idr5, .. } = implementation;
    let Some(opcode) = command.opcode() else {
        let reserved = rule("4.1", "Opcode", "is reserved");
        let own = rule("4.1", "Opcode", "is implementation defined");
        return Err(if command.is_implementation_defined() { own } else { reserved });
    };
    // At one place in all that have it.
    let secure = match opcode {
        Op::PrefetchConfig
        | Op::PrefetchAddr
        | Op::CfgiSte
        | Op::CfgiSteRange
        | Op::CfgiCd
        | Op::CfgiCdAll
        | Op::CfgiVmsPidm
        | Op::Resume
        | Op::StallTerm => CfgiSte(command.0).ssec(),
        _ => false,
    };
    check!(secure, "4.1", "SSec", "must be 0 on the Non-secure command queue");
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
        Op::DptiAll | Op::DptiPa => idr3.dpt(),
        Op::TlbiEl3All | Op::TlbiEl3Va => false,
        Op::TlbiSEl2All | Op::TlbiSEl2Asid | Op::TlbiSEl2Va | Op::TlbiSEl2Vaa => false,
        Op::TlbiSS12Vmall | Op::TlbiSS2Ipa | Op::TlbiSnhAll => false,
    };
    check!(!available, "4.1", "Opcode", "the command is not available on this queue");
    let reserved_cs = opcode == Op::Sync && Sync(command.0).cs() == 3;
    check!(reserved_cs, "4.1", "CS", "3 is reserved");
    let reserved_answer = opcode == Op::PriResp && PriResp(command.0).resp() == 3;
    check!(reserved_answer, "4.1", "Resp", "3 is reserved");
    // With a granule given, the range of one page without level hint is reserved (§4.2). At one place in all that are
    // available and have it.
    let range = match opcode {
        Op::TlbiNhVa | Op::TlbiNhVaa | Op::TlbiEl2Va | Op::TlbiEl2Vaa | Op::TlbiS2Ipa => {
            Some(TlbiNhVa(command.0)).filter(|_| idr3.ril())
        }
        _ => None,
    };
    if let Some(range) = range {
        let ttl = match range.ttl() {
            // Level 1 of the 16 KiB granule has no leaves unless DS: reserved, treated as 0.
            1 if range.tg() == 2 && !idr5.ds() => 0,
            other => other,
        };
        check!(
            range.tg() != 0 && range.num() == 0 && range.scale() == 0 && ttl == 0,
            "4.2",
            "TG",
            "NUM = SCALE = TTL = 0 is reserved with TG set"
        );
    }
    Ok(())
}

/// Tells `found` which reserved bits of `command` are set, and which operands are set that `implementation`, where it is known,
/// does not have or does not understand (§4.1, §4.2): hardware may reject the command, ignore the bits, or invalidate
/// something else than is meant. Nothing of a command whose code is reserved.
pub fn command_reserved(
    command: &Command,
    implementation: Option<&Implementation>,
    found: &mut dyn FnMut(Rule),
) {
    let Some(opcode) = command.opcode() else { return };
    reserved_bits(opcode.structure(), &command.0, found);
    let value = |name| command.field(name).unwrap_or(0);
    if command.field("TG") == Some(0) {
        for name in ["NUM", "SCALE", "TTL"] {
            if value(name) != 0 {
                found(rule("4.2", name, "must be 0 without a granule (TG = 0)"));
            }
        }
    }
    if opcode == Opcode::AtcInv && value("Size") > 52 {
        found(rule("4.2", "Size", "must not exceed 52"));
    }
    let Some(implementation) = implementation else { return };
    let Implementation { idr0, idr1, idr3, idr5, .. } = implementation;
    let mut none = |has: bool, names: &[&'static str], text| {
        for name in names.iter().filter(|name| !has && value(name) != 0) {
            found(rule("4.2", name, text));
        }
    };
    none(idr3.ril(), &["TG", "NUM", "SCALE", "TTL"], "must be 0 without ranges (RIL = 0)");
    none(idr5.d128(), &["TTL128"], "must be 0 without 128-bit tables (D128 = 0)");
    none(idr1.ssidsize() != 0, &["SSV", "SSID"], "must be 0 without substreams (SSIDSIZE = 0)");
    none(idr0.s2p(), &["VMID"], "must be 0 without stage 2 (S2P = 0)");
    // All of one byte fit.
    none(idr0.asid16() || value("ASID") <= 0xff, &["ASID"], "must fit in 8 bits (ASID16 = 0)");
    none(idr0.vmid16() || value("VMID") <= 0xff, &["VMID"], "must fit in 8 bits (VMID16 = 0)");
    none(idr5.ds() || value("SCALE") <= 31, &["SCALE"], "must fit in 5 bits (DS = 0)");
    let fits = |bits: u64, name| value(name) >> bits.min(63) == 0;
    none(fits(idr1.ssidsize(), "SSID"), &["SSID"], "must fit in SSIDSIZE bits");
    // CFGI_ALL has none.
    let all = *command == Command::cfgi_all();
    none(all || fits(idr1.sidsize(), "SID"), &["SID"], "must fit in SIDSIZE bits");
    // What leaves at the level of TTL are aligned to, with 64-bit descriptors.
    let granule = Granule::from_tlbi(value("TG")).filter(|_| value("TTL128") == 0);
    let shift = granule.map_or(0, |granule| match (granule, value("TTL")) {
        (Granule::K16, 1) if !idr5.ds() => granule.shift(),
        (_, 1) => granule.span(1),
        (_, 2) => granule.span(2),
        _ => granule.shift(),
    });
    if value("Addr") & ((1 << shift) - 1) != 0 {
        found(rule("4.2", "Addr", "must be aligned to the granule, and to the leaves of TTL"));
    }
}
