// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which commands are rejected (§4.1, last column, and §4.2).

use super::{Implementation, Rule, check, rule};
use crate::command::{Command, Opcode};

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
        Op::DptiAll | Op::DptiPa => idr3.dpt(),
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
