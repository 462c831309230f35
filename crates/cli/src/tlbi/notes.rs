// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong with such commands, where it applies.

use serde::Serialize;

use super::plan::{Goal, Plan};
use crate::report::text::{count, number};

/// A trap, or something that is easily forgotten.
#[derive(Debug, Serialize)]
pub struct Note {
    /// For programs.
    pub id: &'static str,
    /// For people.
    pub text: String,
}

/// Those that apply. `rounded`: the range is more than what was asked for.
pub fn notes(plan: &Plan, goal: &Goal<'_>, rounded: bool) -> Vec<Note> {
    let Goal { tlbi, range } = goal;
    let mut notes = Vec::new();
    let mut note = |id, text: String| notes.push(Note { id, text });
    let page = crate::report::text::size(plan.granule);
    if rounded {
        note("rounded", format!("the range was widened to whole pages of {page}"));
    }
    if plan.with_ril.more_pages != 0 {
        note(
            "reserved-single",
            format!(
                "without TTL, {} mod 32 is 1: a first command with NUM = SCALE = TTL = 0 would be \
                 CERROR_ILL (§4.2), so one page more is named; with --leaf --ttl 3 it is not needed",
                number(plan.pages)
            ),
        );
    }
    if linux_cuts(plan.pages + plan.with_ril.more_pages) {
        note(
            "scale",
            "SCALE goes to 31 (to 39 with 52-bit addresses, IDR5.DS): larger parts are split here; \
             Linux, up to 7.3, cuts SCALE to 5 bits and invalidates too little"
                .to_owned(),
        );
    }
    if !tlbi.leaf {
        note(
            "tables",
            "without --leaf, entries for tables on the way are dropped, too: needed before an unlinked table \
             is freed"
                .to_owned(),
        );
    } else if tlbi.ttl.is_some() {
        note(
            "ttl",
            "TTL: leaves at other levels, and all tables, may stay; where a table was unlinked, leave \
             --leaf and --ttl out"
                .to_owned(),
        );
    } else {
        note(
            "leaf",
            "Leaf = 1: entries for tables may stay; do not free a table after it".to_owned(),
        );
    }
    if tlbi.ttl == Some(1) && range.granule_shift == 14 {
        note(
            "ttl-16k",
            "TTL = 1 with 16 KiB is reserved without IDR5.DS, and counts as 0".to_owned(),
        );
    }
    let singles = plan.without_ril.exact;
    let linux = 1u64 << (range.granule_shift - 3);
    if plan.without_ril.falls_back {
        note(
            "fall-back",
            format!(
                "without ranges, {} would be needed: above {} the driver names the whole address space, \
                 Linux from {} on",
                count(singles, "command"),
                number(super::plan::FALL_BACK),
                count(linux, "page"),
            ),
        );
    }
    if tlbi.stage == 2 {
        note(
            "nested",
            "CMD_TLBI_S2_IPA need not hit what is cached of both stages together: where stage 1 translates, \
             too, a CMD_TLBI_NH_ALL of the VMID has to follow"
                .to_owned(),
        );
    } else if tlbi.asid.is_some_and(|asid| asid > 0xff) {
        note(
            "wide-asid",
            "an SMMU with 8-bit ASIDs (IDR0.ASID16 = 0) need not invalidate anything for an ASID above 0xff"
                .to_owned(),
        );
    }
    if !tlbi.el2 && tlbi.vmid.is_some_and(|vmid| vmid != 0) {
        note(
            "vmid",
            "a VMID is matched only where stage 2 exists (IDR0.S2P); above 0xff only with IDR0.VMID16"
                .to_owned(),
        );
    }
    if !tlbi.any_asid && tlbi.stage == 1 && !plan.with_ril.falls_back {
        note(
            "globals",
            format!("global entries are hit by address, not by {}", plan.whole.command.name),
        );
    }
    note(
        "ats",
        "ATC_INV goes after the TLBIs and their CMD_SYNC, and needs a CMD_SYNC of its own: else the ATC may \
         be filled again from the TLB"
            .to_owned(),
    );
    notes
}

/// Whether the split by trailing zeros, five bits at a time, comes to a SCALE that 5 bits cannot hold.
const fn linux_cuts(mut pages: u64) -> bool {
    while pages != 0 {
        let scale = pages.trailing_zeros();
        if scale > 31 {
            return true;
        }
        pages -= (pages >> scale & 31) << scale;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_aligned_part_is_cut() {
        assert!(!linux_cuts(1) && !linux_cuts((1 << 32) - 1));
        assert!(linux_cuts(1 << 32) && linux_cuts(1 << 36) && linux_cuts((1 << 40) + 1));
        // 17 << 28.
        assert!(!linux_cuts((1 << 32) + (1 << 28)));
    }
}
