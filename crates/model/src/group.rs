// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contiguous groups: leaves that may be cached as one (§8.2).

use crate::flag::CHANGES;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Misuse;
use crate::tables::Tables;
use crate::tlb::Tag;
use crate::walk::Leaf;

impl<M: Memory> Model<M> {
    /// How many bytes a leaf for `input` is cached for: its own, those of its contiguous group, or some of these.
    pub(crate) fn cached_bytes(
        &mut self,
        tables: &Tables,
        tag: Tag,
        leaf: &Leaf,
        input: u64,
    ) -> u64 {
        let own = tables.granule().span(leaf.level);
        let spans = self.profile.adversary.contiguous_spans;
        let Some(group) = leaf.group_log2.filter(|_| spans) else { return 1 << own };
        if !self.is_sound(leaf, own, group, input) {
            self.misuse(Misuse::BrokenGroup { tag, va: input & !((1 << group) - 1) });
            return 1 << own;
        }
        match self.random.below(4) {
            0 | 1 => 1 << own,
            2 => 1 << group,
            // At most 7 more bits.
            _ => 1 << (own + self.random.below(u64::from(group - own) + 1) as u32),
        }
    }

    /// Whether all valid members of a group say the same of successive addresses. Flags that hardware sets may
    /// differ, and members may be invalid.
    fn is_sound(&self, leaf: &Leaf, own: u32, group: u32, input: u64) -> bool {
        let members = 1u64 << (group - own);
        let mine = input >> own & (members - 1);
        if leaf.address >> own & (members - 1) != mine {
            return false;
        }
        // A group's descriptors lie side by side, and its addresses differ where descriptors have them in place.
        let first = leaf.slot.pa - 8 * mine;
        let base = leaf.slot.word - (mine << own);
        (0..members).all(|member| {
            let Ok(word) = self.memory.read64(first + 8 * member) else { return true };
            word & 1 == 0 || (word ^ (base + (member << own))) & !CHANGES == 0
        })
    }
}
