// SPDX-License-Identifier: MIT OR Apache-2.0
//! What parts do wrong that their ID registers do not say (§19): by IIDR, as driver writers know it.

use smmuv3_formats::Opcode;
use smmuv3_formats::register::Iidr;

use crate::invalidation::Scope;
use crate::memory::Memory;
use crate::model::Model;

/// Errata of a part. Each does now and then what the erratum lets it do, and not always: the seed decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errata {
    /// No event for processors is sent, whatever IDR0.SEV says (1076982).
    pub lost_events: bool,
    /// A broadcast invalidation may not reach it, although IDR0.BTM is 1 and CR2.PTM 0 (3878312, 3995052, and MMU-700).
    pub lost_broadcasts: bool,
    /// A CMD_TLBI_* may come to nothing while both stages are on for a stream (1209401, 2268618, 2812531).
    pub nested_invalidations: bool,
    /// A CMD_CFGI_* or CMD_TLBI_* may come to nothing when it comes after so many commands without a CMD_SYNC (2812531).
    pub largest_batch: Option<u32>,
}

impl Errata {
    /// Those of the part that `iidr` names.
    pub fn of(iidr: Iidr) -> Self {
        let (variant, revision) = (iidr.variant(), iidr.revision());
        if iidr.implementer() != 0x43b {
            return Self::default();
        }
        match iidr.product_id() {
            // MMU-600: until r0p2, and until r1.
            0x483 => Self {
                lost_events: variant == 0 && revision <= 2,
                nested_invalidations: variant < 2,
                ..Self::default()
            },
            // MMU-700: until r1p0, and all.
            0x487 => {
                let early = variant == 0 || revision == 0;
                Self {
                    lost_broadcasts: true,
                    nested_invalidations: early,
                    // Of a batch of 64 commands and their CMD_SYNC.
                    largest_batch: early.then_some(62),
                    ..Self::default()
                }
            }
            // MMU-L1, MMU-S3.
            0x48a | 0x498 => Self { lost_broadcasts: true, ..Self::default() },
            _ => Self::default(),
        }
    }
}

impl<M: Memory> Model<M> {
    /// A broadcast does not get here.
    pub(crate) fn loses_broadcast(&mut self) -> bool {
        self.errata.lost_broadcasts && self.random.one_in(2)
    }

    /// Processors that wait for an event are told.
    pub(crate) const fn sends_events(&self) -> bool {
        self.profile.idr0.sev() && !self.errata.lost_events
    }

    /// A command of `queue` is executed: counts it, for what bears only so many before a CMD_SYNC. Answers of software
    /// are in no batch.
    pub(crate) fn count_unsynced(&mut self, queue: usize, opcode: Option<Opcode>) {
        if self.errata.largest_batch.is_none() {
            return;
        }
        let lane = self.lane_mut(queue);
        match opcode {
            Some(Opcode::Sync) => lane.unsynced = 0,
            Some(Opcode::Resume | Opcode::PriResp) => {}
            _ => lane.unsynced = lane.unsynced.saturating_add(1),
        }
    }

    /// An invalidation of `queue` comes to nothing.
    pub(crate) fn loses_invalidation(&mut self, queue: usize, scope: &Scope) -> bool {
        let unsynced = self.lane(queue).unsynced;
        let beyond = self.errata.largest_batch.is_some_and(|most| unsynced > most);
        let nested = self.errata.nested_invalidations
            && matches!(scope, Scope::Tlb(_))
            && self.config.stes.iter().any(|(_, ste)| ste.is_nested());
        (beyond || nested) && self.random.one_in(2)
    }
}
