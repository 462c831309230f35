// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalled transactions that guests are shown, among those that wait.
//!
//! A guest names one by a number of its own (STAG): the slot, and above it as much of the generation as there is room for.
//! So a number comes again late, also where the SMMU's own comes again at once, as long as there are far fewer than 2^16 slots.
//! Slots are the instance's: by the numbers that it is given a guest may guess how many others wait, and nothing else of them.

use super::{CODES, Handle, Key, NEXT, OWED, Pending, SHOWN, WAITING};
use crate::sync::Ordering;

/// What became of one that a guest was to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Showing {
    /// It is the guest's to answer, by this STAG.
    Shown(u16),
    /// As many as the guest may have wait for its answer already. This one waits as before.
    Full,
    /// It waits no more.
    Over,
}

impl Pending {
    /// Hands one that waits on to a guest, of whose streams `own` are, and who may have `most` at once. From then on the
    /// handle's answers come late.
    pub(crate) fn show(&self, handle: Handle, most: u64, own: impl Fn(Key) -> bool) -> Showing {
        let Handle { slot, generation } = handle;
        let Some(one) = self.slots.get(slot) else { return Showing::Over };
        // Taken first, then counted, so that several that are shown at once cannot exceed `most` together.
        if !one.swap(generation | WAITING, generation | SHOWN) {
            return Showing::Over;
        }
        let shown = self.slots.iter().filter(|slot| {
            let state = slot.state.load(Ordering::Acquire);
            state & CODES == SHOWN && own(slot.key())
        });
        if shown.count() as u64 <= most {
            return Showing::Shown(self.stag(slot, generation));
        }
        match one.swap(generation | SHOWN, generation | WAITING) {
            true => Showing::Full,
            false => Showing::Over,
        }
    }

    /// Decides the answer to the one that a guest is shown in slot `at`, if there is one and `which` says so of it and its
    /// STAG. It is to be given by [`Pending::give`].
    pub(crate) fn decide_shown(
        &self,
        at: usize,
        which: impl FnOnce(Key, u16) -> bool,
        answer: u8,
    ) -> Option<Handle> {
        let slot = self.slots.get(at)?;
        let state = slot.state.load(Ordering::Acquire);
        let generation = state & !CODES;
        // The swap succeeds only if the generation is unchanged, so the key belongs to it.
        let decided = state & CODES == SHOWN
            && which(slot.key(), self.stag(at, generation))
            && slot.swap(state, generation | (OWED + u64::from(answer)));
        decided.then_some(Handle { slot: at, generation })
    }

    /// Whether guests are shown any of which `which` says so.
    pub(crate) fn shows(&self, which: impl Fn(Key) -> bool) -> bool {
        let shown = |slot: &super::Slot| {
            slot.state.load(Ordering::Acquire) & CODES == SHOWN && which(slot.key())
        };
        self.slots.iter().any(shown)
    }

    /// The slot of the transaction that a guest names `stag`.
    pub(crate) fn slot_of(&self, stag: u16) -> usize {
        usize::from(stag) & ((1 << self.slot_bits()) - 1)
    }

    /// How many slots anything was ever in: the first ones.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The STAG by which a guest names the transaction in slot `at` with this generation.
    fn stag(&self, at: usize, generation: u64) -> u16 {
        // The generation's upper bits are cut off. There are 2^16 - 1 slots at most (IDR5.STALL_MAX).
        ((generation / NEXT) << self.slot_bits()) as u16 | at as u16
    }

    /// Bits of a slot's index.
    const fn slot_bits(&self) -> u32 {
        usize::BITS - self.slots.most().saturating_sub(1).leading_zeros()
    }
}
