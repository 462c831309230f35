// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages of which hardware marks that they were written (§14).

use std::ops::Range;

use smmuv3_formats::descriptor::Stage1Page;
use smmuv3_testbench::oracle::PAGE;

use super::{Hand, LAST};

/// `AP[2]`: it was not written.
const CLEAN: u64 = 1 << 7;

/// A page that may be written, and was not.
pub(super) fn clean(leaf: Stage1Page) -> Stage1Page {
    leaf.with_dbm(true).with_ap(0b11)
}

/// Starts and bytes of what was written.
type Written = Vec<(u64, u64)>;

impl Hand {
    /// Asks what was written in `range`; `steps` make it clean, and tell.
    pub fn harvest(
        &mut self,
        domain: usize,
        range: &Range<u64>,
        steps: impl FnOnce(&mut Self) -> Written,
    ) {
        self.watch().oracle.harvest_begins(domain, range);
        let written = steps(self);
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.harvest_ends(domain, range, &written);
    }

    /// Makes the pages of `range` clean, each in one piece with looking at it.
    pub fn take_marks(&mut self, domain: usize, range: &Range<u64>) -> Written {
        let mut written = Vec::new();
        for iova in range.clone().step_by(PAGE as usize) {
            let slot = self.descriptor(domain, iova, LAST);
            let mut word = self.load(slot);
            while word & CLEAN == 0 {
                let ram = self.world.machine().ram();
                let found = ram.compare_exchange64(slot, word, word | CLEAN).expect("it is RAM");
                if found == word {
                    written.push((iova, PAGE));
                    break;
                }
                word = found;
            }
        }
        written
    }

    /// Looks at the pages of `range`, and makes them clean when devices have gone on writing.
    pub fn overwrite_marks(&mut self, domain: usize, range: &Range<u64>) -> Written {
        let pages = range.clone().step_by(PAGE as usize);
        let slots = pages.map(|iova| (iova, self.descriptor(domain, iova, LAST)));
        let seen: Vec<_> = slots.map(|(iova, slot)| (iova, slot, self.load(slot))).collect();
        self.devices();
        let mut written = Vec::new();
        for (iova, slot, word) in seen {
            self.store(slot, word | CLEAN);
            if word & CLEAN == 0 {
                written.push((iova, PAGE));
            }
        }
        written
    }
}
