// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access and dirty flags that hardware sets in leaves (§14).

use smmuv3_formats::descriptor::Stage;

use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Observation;
use crate::tlb::Slot;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) access: bool,
    pub(crate) dirty: bool,
}

impl Flags {
    pub(crate) const ACCESS: Self = Self { access: true, dirty: false };
    pub(crate) const DIRTY: Self = Self { access: true, dirty: true };
}

const AF: u64 = 1 << 10;
/// `AP[2]` of stage 1, which is 0 once written; `S2AP[1]` of stage 2, which is 1.
const WRITTEN: u64 = 1 << 7;
/// Bits for software, which hardware leaves alone.
const SOFTWARE: u64 = 0xf << 55;

/// What hardware or, without invalidation, software may change in a leaf.
pub(crate) const CHANGES: u64 = AF | WRITTEN | SOFTWARE;

/// `word` with the flags set.
const fn with(word: u64, stage: Stage, flags: Flags) -> u64 {
    let word = if flags.access { word | AF } else { word };
    match (flags.dirty, stage) {
        (false, _) => word,
        (true, Stage::One) => word & !WRITTEN,
        (true, Stage::Two) => word | WRITTEN,
    }
}

impl<M: Memory> Model<M> {
    /// Sets flags in the leaf that was read from `slot`, in one piece with making sure that it is still that
    /// leaf; `None` when it is another one, which must be walked to then.
    ///
    /// # Errors
    /// The descriptor's physical address, when memory refuses it.
    pub(crate) fn update(
        &mut self,
        stage: Stage,
        slot: &Slot,
        flags: Flags,
    ) -> Result<Option<Slot>, u64> {
        let mut now = self.memory.read64(slot.pa).map_err(|_| slot.pa)?;
        loop {
            if (now ^ slot.word) & !CHANGES != 0 {
                return Ok(None);
            }
            let new = with(now, stage, flags);
            if new == now {
                return Ok(Some(Slot { word: new, ..*slot }));
            }
            let seen = self.memory.compare_exchange64(slot.pa, now, new).map_err(|_| slot.pa)?;
            if seen == now {
                self.statistics.updates += 1;
                self.observe(Observation::Updated { stage, pa: slot.pa, from: now, to: new });
                return Ok(Some(Slot { word: new, ..*slot }));
            }
            now = seen;
        }
    }
}
