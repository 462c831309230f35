// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of live descriptors that need break-before-make, seen when what was cached of them goes, or when SMMUEN becomes
//! 0 before that: memory holds another valid descriptor, so no invalidation was complete before that was written (§8.2).

use smmuv3_formats::descriptor::{BLOCK, TABLE_OR_PAGE};

use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Misuse;
use crate::tlb::{SecondStage, Slot, Stages, Tag, TlbEntry, WalkEntry};

/// Output address, whatever the granule; bits 15:12 of 64 KiB tables are part of it.
const OUTPUT: u64 = (1 << 50) - (1 << 12);
/// AttrIndx or MemAttr, and shareability.
const TYPE: u64 = 0b11_1100 | 0b11 << 8;
const CONTIGUOUS: u64 = 1 << 52;
/// nT of a block.
const NT: u64 = 1 << 16;

/// Whether `old`, a leaf of `level`, may not become `new` without a break, with this IDR3.BBML.
const fn needs_break(old: u64, new: u64, level: i8, bbml: u64) -> bool {
    if new & 1 == 0 {
        return false;
    }
    let block = level < 3;
    if block && new & 0b11 == TABLE_OR_PAGE {
        // A block became a table: a change of size, which may be no other (§8.2).
        return bbml == 0 || bbml == 1 && old & NT == 0;
    }
    let ignored = if block { NT } else { 0 };
    let group = if bbml == 0 { CONTIGUOUS } else { 0 };
    (old ^ new) & (OUTPUT & !ignored | TYPE | group) != 0
}

impl<M: Memory> Model<M> {
    /// Nothing is translated from here on, and what changes from here on needs no break. What has changed needed one,
    /// whenever the invalidation comes: looks at the descriptors of all that is cached.
    pub(crate) fn check_cached(&mut self) {
        let leaves: Vec<TlbEntry> = self.tlb.iter().chain(self.ipa_tlb.iter()).cloned().collect();
        let tables = self.walk_cache.iter().chain(self.ipa_walk_cache.iter());
        let tables: Vec<WalkEntry> = tables.cloned().collect();
        self.check_leaves(&leaves);
        self.check_tables(&tables);
    }

    /// Looks at the descriptors of leaves that were cached until now.
    pub(crate) fn check_leaves(&mut self, gone: &[TlbEntry]) {
        for entry in gone {
            let TlbEntry { tag, stages, va, level, ttb, slot, .. } = *entry;
            self.check_slot((tag, stages, ttb), va, &slot, level);
            if let Some(SecondStage { ipa, level, ttb, slot, .. }) = entry.second {
                self.check_slot((Tag { asid: 0, ..tag }, Stages::Two, ttb), ipa, &slot, level);
            }
        }
    }

    fn check_slot(&mut self, of: (Tag, Stages, u64), va: u64, slot: &Slot, level: i8) {
        let Ok(to) = self.memory.read64(slot.pa) else { return };
        let (tag, stages, ttb) = of;
        if needs_break(slot.word, to, level, self.profile.idr3.bbml())
            && self.is_live(&tag, stages, ttb)
        {
            self.misuse(Misuse::WithoutBreak { tag, va, from: slot.word, to });
        }
    }

    /// Looks at the descriptors of tables that were cached until now: a block in the place of a table is a change
    /// of size.
    pub(crate) fn check_tables(&mut self, gone: &[WalkEntry]) {
        let bbml = self.profile.idr3.bbml();
        for entry in gone.iter().filter(|_| bbml < 2) {
            let Ok(new) = self.memory.read64(entry.slot.pa) else { continue };
            let block = new & 0b11 == BLOCK && (bbml == 0 || new & NT == 0);
            if block && self.is_live(&entry.tag, entry.stages(), entry.ttb) {
                let (tag, va, from) = (entry.tag, entry.va, entry.slot.word);
                self.misuse(Misuse::WithoutBreak { tag, va, from, to: new });
            }
        }
    }

    /// Whether cached configuration leads to the tables at `ttb` under `tag`. What nobody uses any more may be
    /// changed at will, and its descriptors may be anything by now.
    fn is_live(&self, tag: &Tag, stages: Stages, ttb: u64) -> bool {
        if stages == Stages::Two {
            let leading = self.config.stes.leading();
            let mut seconds = leading.filter_map(|(_, cached)| cached.second.as_ref());
            return seconds.any(|it| it.tag == *tag && it.tables.base == ttb);
        }
        self.config.cds.values().filter_map(|cached| cached.context.as_ref().ok()).any(|it| {
            let mut tables = it.halves.iter().filter_map(|half| half.tables.as_ref());
            it.tag == *tag && tables.any(|tables| tables.base == ttb)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_and_types_always_need_a_break_and_permissions_never() {
        const PAGE: u64 = 0x0060_0000_9000_0f43;
        for bbml in 0..3 {
            let needs = |new| needs_break(PAGE, new, 3, bbml);
            assert!(needs(PAGE ^ 0x1000) && needs(PAGE ^ 1 << 47));
            assert!(needs(PAGE ^ 1 << 2) && needs(PAGE ^ 1 << 8));
            // AP, AF, XN, software.
            assert!(!needs(PAGE ^ 1 << 7) && !needs(PAGE ^ 1 << 10) && !needs(PAGE ^ 1 << 54));
            assert!(!needs(PAGE ^ 1 << 56) && !needs(0) && !needs(PAGE & !1));
            assert_eq!(needs(PAGE ^ 1 << 52), bbml == 0);
        }
    }

    #[test]
    fn sizes_may_change_as_bbml_says() {
        const BLOCK_2M: u64 = 0x0060_0000_9000_0f41;
        let table = 0x8001_3003;
        for (bbml, plain, with_nt) in [(0, true, true), (1, true, false), (2, false, false)] {
            assert_eq!(needs_break(BLOCK_2M, table, 2, bbml), plain);
            assert_eq!(needs_break(BLOCK_2M | NT, table, 2, bbml), with_nt);
            // nT itself comes and goes.
            assert!(!needs_break(BLOCK_2M, BLOCK_2M | NT, 2, bbml));
        }
    }
}
