// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of EL2 with E2H: told apart by ASIDs, and by no VMID (§1). The commands of EL1 are not about them (§4.2).

use std::ops::Range;

use smmuv3_formats::command::{TlbiEl2All, TlbiEl2Asid, TlbiEl2Va};
use smmuv3_testbench::oracle::PAGE;

use super::Hand;

/// STE.STRW of EL2.
pub(super) const STRW: u64 = 2;

impl Hand {
    /// Tells `instance` to forget everything of EL2.
    pub fn tlbi_el2_all(&mut self, instance: usize) {
        self.send(instance, TlbiEl2All::new());
    }

    /// As [`Hand::tlbi_asid`], of EL2.
    pub fn tlbi_el2_asid(&mut self, instance: usize, asid: u16) {
        self.send(instance, TlbiEl2Asid::new().with_asid(asid.into()));
    }

    /// As [`Hand::tlbi`], of EL2.
    pub fn tlbi_el2(&mut self, instance: usize, asid: u16, range: &Range<u64>, leaf: bool) {
        let pages = (range.end - range.start) / PAGE;
        let command = TlbiEl2Va::new().with_asid(asid.into()).with_addr(range.start);
        let command = command.with_leaf(leaf);
        let command = match pages {
            1 => command,
            _ => command.with_tg(1).with_scale(pages.trailing_zeros().into()),
        };
        self.send(instance, command);
    }
}
