// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enhanced command queues (§2.6): several queues, each consumed by itself, in an order that nobody can rely on.

use std::collections::VecDeque;

use smmuv3_formats::Command;
use smmuv3_formats::register::{
    CONTROL_PAGE_STRIDE, CmdqBase, CmdqCons, CmdqControlPageBase, CmdqControlPageCfg,
    CmdqControlPageStatus, CmdqProd, EcmdqBase, EcmdqCons, EcmdqProd, Gerror, PAGE,
};

use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Misuse;
use crate::profile::Profile;
use crate::queue::Ring;
use crate::random::Random;

/// Where the first control page is: right behind the two pages that each SMMU has.
const FIRST_PAGE: u32 = 2 * PAGE;
/// `CMDQGS` of pages of 64 KiB.
const PAGES_OF_64_KIB: u64 = 1;
const INDEX: u32 = 0xf_ffff;
const BASE_BITS: u64 = (1 << 62) | ((1 << 56) - 1);
const ERRACK: u32 = 1 << 23;

/// What the command queue and each enhanced one have: where it is, how far it is, what was fetched ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) base: CmdqBase,
    pub(crate) prod: CmdqProd,
    /// The true consumer index; what a read shows may lag.
    pub(crate) cons: CmdqCons,
    pub(crate) shown: CmdqCons,
    /// Commands that were fetched ahead, with their indices.
    pub(crate) prefetched: VecDeque<(u32, Command)>,
    /// Commands since the last CMD_SYNC, where that matters ([`Errata::largest_batch`](crate::Errata::largest_batch)).
    pub(crate) unsynced: u32,
}

impl Lane {
    pub(crate) fn new(unknown: &mut impl FnMut() -> u64) -> Self {
        let base = CmdqBase(unknown() & BASE_BITS);
        let prod = CmdqProd(unknown() as u32 & INDEX);
        let cons = CmdqCons(unknown() as u32 & INDEX);
        Self { base, prod, cons, shown: cons, prefetched: VecDeque::new(), unsynced: 0 }
    }

    pub(crate) fn ring(&self, profile: &Profile) -> Ring {
        Ring::new(self.base.log2size(), profile.idr1.cmdqs())
    }

    pub(crate) fn indices(&self) -> (u32, u32) {
        // Both fields have 20 bits.
        (self.prod.wr() as u32, self.cons.rd() as u32)
    }
}

/// An enhanced queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enhanced {
    pub(crate) lane: Lane,
    /// ECMDQ_PROD.EN, and ECMDQ_CONS.ENACK, which follows after so many reads.
    en: bool,
    enack: bool,
    wait: u32,
    /// ECMDQ_CONS.ERR and ERR_REASON, and ECMDQ_PROD.ERRACK.
    err: bool,
    reason: u64,
    errack: bool,
}

impl Enhanced {
    pub(crate) const fn is_enabled(&self) -> bool {
        self.en && self.enack
    }

    pub(crate) const fn is_stopped(&self) -> bool {
        self.err != self.errack
    }

    /// Whether it is in use, or on its way to or from that.
    pub(crate) const fn guards(&self) -> bool {
        self.en || self.enack
    }

    const fn is_pending(&self) -> bool {
        self.en != self.enack
    }

    pub(crate) fn stop(&mut self, reason: u64) {
        (self.err, self.reason) = (!self.errack, reason);
    }
}

/// The queues of an instance after reset: none is enabled.
pub(crate) fn queues(profile: &Profile, random: &mut Random) -> Vec<Enhanced> {
    let idr6 = profile.idr6;
    let log2 = if profile.idr1.ecmdq() {
        idr6.log2_num_p() + idr6.log2_num_q()
    } else {
        return Vec::new();
    };
    let mut unknown = || if profile.unknown_reset { random.next() } else { 0 };
    (0..1u64 << log2.min(12))
        .map(|_| Enhanced { lane: Lane::new(&mut unknown), ..Enhanced::default() })
        .collect()
}

/// What is at an offset.
#[derive(Clone, Copy)]
enum Place {
    /// The description of a page, and the offset in it.
    Page(u32, u32),
    /// A queue, counted from 0, and the offset in its slot.
    Slot(usize, u32),
}

impl<M: Memory> Model<M> {
    fn place(&self, offset: u32) -> Option<Place> {
        if self.enhanced.is_empty() {
            return None;
        }
        // At most 12 each.
        let (pages, queues) = (self.profile.idr6.log2_num_p(), self.profile.idr6.log2_num_q());
        let description = offset.wrapping_sub(CmdqControlPageBase::OFFSET);
        if description < CONTROL_PAGE_STRIDE << pages {
            return Some(Place::Page(
                description / CONTROL_PAGE_STRIDE,
                description % CONTROL_PAGE_STRIDE,
            ));
        }
        let inside = offset.checked_sub(FIRST_PAGE)?;
        let slot = PAGE >> queues.min(12);
        let queue = (inside / slot) as usize;
        (queue < self.enhanced.len()).then_some(Place::Slot(queue, inside % slot))
    }

    /// Whether `offset` is a 64-bit register of an enhanced queue.
    pub(crate) fn is_wide_enhanced(&self, offset: u32) -> bool {
        matches!(self.place(offset), Some(Place::Page(_, 0) | Place::Slot(_, EcmdqBase::OFFSET)))
    }

    /// The 32-bit register of an enhanced queue at `offset`; `None` when there is none.
    pub(crate) fn enhanced_value32(&mut self, offset: u32) -> Option<u32> {
        const CFG: u32 = CmdqControlPageCfg::OFFSET - CmdqControlPageBase::OFFSET;
        const STATUS: u32 = CmdqControlPageStatus::OFFSET - CmdqControlPageBase::OFFSET;
        Some(match self.place(offset)? {
            Place::Page(_, CFG) => CmdqControlPageCfg::default().with_en(true).0,
            Place::Page(_, STATUS) => CmdqControlPageStatus::default().with_enack(true).0,
            Place::Slot(queue, EcmdqProd::OFFSET) => {
                let queue = self.enhanced.get(queue)?;
                let prod = EcmdqProd(queue.lane.prod.0);
                prod.with_en(queue.en).with_errack(queue.errack).0
            }
            Place::Slot(queue, EcmdqCons::OFFSET) => {
                let queue = self.enhanced.get_mut(queue)?;
                let cons = EcmdqCons::default().with_rd(queue.lane.shown.rd());
                let cons = cons.with_err(queue.err).with_err_reason(queue.reason);
                let value = cons.with_enack(queue.enack).0;
                // Lazy, but in finite time.
                queue.lane.shown = queue.lane.cons;
                value
            }
            _ => 0,
        })
    }

    /// The 64-bit register of an enhanced queue at `offset`.
    pub(crate) fn enhanced_value64(&self, offset: u32) -> u64 {
        match self.place(offset) {
            Some(Place::Page(page, 0)) => {
                CmdqControlPageBase::default()
                    .with_preset(true)
                    .with_gs(PAGES_OF_64_KIB)
                    .with_addr(u64::from(FIRST_PAGE) + u64::from(page) * u64::from(PAGE))
                    .0
            }
            Some(Place::Slot(queue, EcmdqBase::OFFSET)) => {
                self.enhanced.get(queue).map_or(0, |queue| queue.lane.base.0)
            }
            _ => 0,
        }
    }

    /// Writes a 64-bit register of an enhanced queue.
    pub(crate) fn set_enhanced64(&mut self, offset: u32, value: u64) {
        let queue = match self.place(offset) {
            Some(Place::Slot(queue, EcmdqBase::OFFSET)) => self.enhanced.get_mut(queue),
            _ => None,
        };
        let Some(queue) = queue else { return self.misuse(Misuse::NotWritable { offset }) };
        if !queue.guards() {
            queue.lane.base = CmdqBase(value & BASE_BITS);
        } else if queue.lane.base.0 != value & BASE_BITS {
            self.misuse(Misuse::GuardedWrite { offset, value });
        }
    }

    /// Writes a 32-bit register of an enhanced queue; false when there is none at `offset`.
    pub(crate) fn set_enhanced32(&mut self, offset: u32, value: u32) -> bool {
        const CFG: u32 = CmdqControlPageCfg::OFFSET - CmdqControlPageBase::OFFSET;
        match self.place(offset) {
            None => return false,
            // EN is RES1 here.
            Some(Place::Page(_, CFG)) if value == 1 => {}
            Some(Place::Slot(queue, EcmdqProd::OFFSET)) => {
                self.set_prod(queue, offset, EcmdqProd(value))
            }
            Some(Place::Slot(queue, EcmdqCons::OFFSET)) => {
                let Some(queue) = self.enhanced.get_mut(queue) else { return false };
                if queue.guards() {
                    self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
                } else {
                    queue.lane.cons = CmdqCons(value & INDEX);
                    queue.lane.shown = queue.lane.cons;
                }
            }
            Some(_) => self.misuse(Misuse::NotWritable { offset }),
        }
        true
    }

    fn set_prod(&mut self, at: usize, offset: u32, value: EcmdqProd) {
        let known = EcmdqProd(INDEX).with_errack(true).with_en(true).0;
        if value.0 & !known != 0 {
            self.misuse(Misuse::ReservedRegisterBits { offset, bits: value.0 & !known });
        }
        let delay = self.profile.ack_delay;
        // At most `delay`, so it fits.
        let wait = if delay == 0 { 0 } else { 1 + self.random.below(delay.into()) as u32 };
        let Some(queue) = self.enhanced.get_mut(at) else { return };
        let stopped = queue.is_enabled() && queue.is_stopped();
        let acknowledges = queue.errack != value.errack();
        let inactive = queue.is_enabled() && acknowledges && !stopped;
        if !inactive {
            queue.errack = value.errack();
        }
        let busy = queue.is_pending() && queue.en != value.en();
        if !busy && queue.en != value.en() {
            (queue.en, queue.wait) = (value.en(), wait);
        }
        if inactive {
            // It acknowledges nothing, and stops the queue for nothing.
            self.misuse(Misuse::InactiveError { bits: ERRACK });
        }
        if busy {
            self.misuse(Misuse::PendingUpdate { offset });
        }
        self.settle_enhanced();
        self.set_lane_producer(1 + at, value.0 & INDEX, stopped);
    }

    /// Every register read brings pending updates nearer.
    pub(crate) fn pass_read_enhanced(&mut self) {
        if self.enhanced.iter().any(Enhanced::is_pending) {
            for queue in &mut self.enhanced {
                queue.wait = queue.wait.saturating_sub(1);
            }
            self.settle_enhanced();
        }
    }

    fn settle_enhanced(&mut self) {
        if self.registers.stuck {
            return;
        }
        for at in 0..self.enhanced.len() {
            // Below the length.
            let queue = &mut self.enhanced[at];
            if !queue.is_pending() || queue.wait != 0 {
                continue;
            }
            queue.enack = queue.en;
            if !queue.enack {
                queue.lane.prefetched.clear();
                continue;
            }
            if queue.is_stopped() {
                self.misuse(Misuse::InactiveError { bits: ERRACK });
            }
            self.check_lane(1 + at);
        }
    }

    /// Whether an enhanced queue keeps CR1 from being changed (§2.4).
    pub(crate) fn enhanced_guards(&self) -> bool {
        self.enhanced.iter().any(Enhanced::guards)
    }

    /// An enhanced queue stops at an error.
    pub(crate) fn stop_enhanced(&mut self, at: usize, reason: u64) {
        if let Some(queue) = self.enhanced.get_mut(at) {
            queue.stop(reason);
            self.raise(Gerror::default().with_cmdqp_err(true));
        }
    }
}
