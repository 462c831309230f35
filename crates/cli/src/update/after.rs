// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to follow an update: CFGI drops no translations (§8.1, §8.2).

use serde::Serialize;
use smmuv3::update::Words;
use smmuv3_formats::command::{AtcInv, TlbiEl2All, TlbiNhAll, TlbiNhAsid, TlbiS12Vmall};
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Command, Ste};

use super::plan::changes;
use crate::args::EntryKind;
use crate::command::Shown;

/// A command that has to follow, with its CMD_SYNC.
#[derive(Debug, Serialize)]
pub struct After {
    /// The command. The VMID of a CD's translations is taken to be 0.
    #[serde(flatten)]
    pub command: Shown,
    /// Why.
    pub why: String,
}

/// Fields of an STE that are kept with translations, too (§8.1). S2DS and S2SL0_2 are not in its list; they are taken to
/// be.
const IN_TLB: &[&str] = &[
    "S2TTB",
    "S2PTW",
    "S2VMID",
    "S2T0SZ",
    "S2IR0",
    "S2OR0",
    "S2SH0",
    "S2SL0",
    "S2SL0_2",
    "S2TG",
    "S2PS",
    "S2AFFD",
    "S2HA",
    "S2HD",
    "S2HAFT",
    "S2ENDI",
    "S2AA64",
    "S2FWB",
    "S2PIE",
    "S2POE",
    "S2POI",
    "S2SKL",
    "S2DS",
    "AssuredOnly",
    "TL0",
    "TL1",
];

/// Fields of a CD that are not (§8.1): all others are.
const NOT_IN_TLB: &[&str] = &["V", "A", "R", "S", "PARTID", "PMG"];

/// What has to follow when an entry of the stream `sid` went from `from` to `to`.
pub fn after(kind: EntryKind, from: &Words, to: &Words, sid: u32) -> Vec<After> {
    match kind {
        EntryKind::Ste => after_ste(from, to, sid),
        EntryKind::Cd => after_cd(from, to),
    }
}

fn after_ste(from: &Words, to: &Words, sid: u32) -> Vec<After> {
    let (old, new) = (Ste(*from), Ste(*to));
    let mut list = Vec::new();
    // Nothing was translated.
    if !old.v() || old.config() <= config::BYPASS {
        return list;
    }
    let named = |list: &[&str]| {
        let all = changes(EntryKind::Ste, from, to, &[u64::MAX; 8]).into_iter();
        all.map(|change| change.name).filter(|name| list.contains(name)).collect::<Vec<_>>()
    };
    let (was_2, is_2) = (old.config() & 0b010 != 0, new.v() && new.config() & 0b010 != 0);
    let translates = new.v() && new.config() > config::BYPASS;
    // With stage 1 alone S2* mean nothing, but the tag does.
    let kept = named(if was_2 { IN_TLB } else { &["S2VMID"] });
    let why = if !translates {
        Some("the stream is not translated any more: before its VMID, or its contexts' ASIDs, are given to others".to_owned())
    } else if was_2 != is_2 {
        Some(
            "stage 2 came or went: translations of the other kind would hit under the same VMID"
                .to_owned(),
        )
    } else if old.strw() != new.strw() {
        Some("STRW changed: before the tags that are left behind are used again".to_owned())
    } else if !kept.is_empty() {
        Some(format!("kept with translations: {}; the VMID is the old one", kept.join(", ")))
    } else {
        None
    };
    if let Some(why) = why {
        let vmid = old.s2_vmid();
        list.push(match was_2 {
            true => entry(TlbiS12Vmall::new().with_vmid(vmid).into(), why),
            // Nor has it a VMID.
            false if old.strw() == 2 => entry(TlbiEl2All::new().into(), why),
            false => entry(TlbiNhAll::new().with_vmid(vmid).into(), why),
        });
    }
    if old.eats() != 0 {
        let why = "ATS was on: what the device's ATC holds of the old configuration".to_owned();
        list.push(entry(AtcInv::new().with_sid(sid.into()).with_size(52).into(), why));
    }
    list
}

fn after_cd(from: &Words, to: &Words) -> Vec<After> {
    let (old, new) = (Cd(*from), Cd(*to));
    if !old.v() {
        return Vec::new();
    }
    let all = changes(EntryKind::Cd, from, to, &[u64::MAX; 8]).into_iter();
    let kept: Vec<&str> =
        all.map(|change| change.name).filter(|name| !NOT_IN_TLB.contains(name)).collect();
    let why = if !new.v() {
        "it is invalid now: before the ASID is given to another".to_owned()
    } else if kept.is_empty() {
        return Vec::new();
    } else {
        format!(
            "kept with translations: {}; the ASID is the old one, the VMID its streams'",
            kept.join(", ")
        )
    };
    vec![entry(TlbiNhAsid::new().with_asid(old.asid()).into(), why)]
}

fn entry(command: Command, why: String) -> After {
    After { command: command.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE_1: Words = [0x8002_000b, 0xd4, 7, 0, 0, 0, 0, 0];
    const BYPASS: Words = [0b1001, 1 << 44, 0, 0, 0, 0, 0, 0];

    fn names(kind: EntryKind, from: &Words, to: &Words) -> Vec<(&'static str, u64)> {
        after(kind, from, to, 0x100)
            .iter()
            .map(|after| (after.command.name, after.command.words[0].0))
            .collect()
    }

    #[test]
    fn translations_of_the_old_vmid_go() {
        let ste = |from, to| names(EntryKind::Ste, &from, &to);
        assert_eq!(ste(BYPASS, STAGE_1), []);
        let all = ("CMD_TLBI_NH_ALL", 0x0000_0007_0000_0010);
        assert_eq!(ste(STAGE_1, BYPASS), [all]);
        // Another table of contexts, or S1DSS: CFGI_STE drops the contexts.
        assert_eq!(ste(STAGE_1, Ste(STAGE_1).with_s1_context_ptr(0x9000_0000).0), []);
        assert_eq!(ste(STAGE_1, Ste(STAGE_1).with_s2_vmid(8).0), [all]);
        let stage_2 = Ste(BYPASS).with_config(config::STAGE_2).with_s2_vmid(7);
        assert_eq!(ste(STAGE_1, stage_2.0), [all]);
        let both = ("CMD_TLBI_S12_VMALL", 0x0000_0007_0000_0028);
        assert_eq!(ste(stage_2.0, stage_2.with_s2_ttb(0x1000).0), [both]);
        // Of EL2, which has no VMID.
        let el2 = Ste(STAGE_1).with_strw(2).0;
        assert_eq!(ste(el2, BYPASS), [("CMD_TLBI_EL2_ALL", 0x20)]);
        let ats = Ste(STAGE_1).with_eats(1).0;
        assert_eq!(ste(ats, STAGE_1), [("CMD_ATC_INV", 0x0000_0100_0000_0040)]);
    }

    #[test]
    fn translations_of_the_old_asid_go() {
        let cd = |from: Cd, to: Cd| names(EntryKind::Cd, &from.0, &to.0);
        let old = Cd::default().with_v(true).with_asid(5).with_ttb0(0x1000);
        let all = ("CMD_TLBI_NH_ASID", 0x0005_0000_0000_0011);
        assert_eq!(cd(old, old.with_asid(6)), [all]);
        assert_eq!(cd(old, Cd::default()), [all]);
        // A, R and S are not kept.
        assert_eq!(cd(old, old.with_a(true).with_r(true).with_s(true)), []);
        assert_eq!(cd(Cd::default(), old), []);
    }
}
