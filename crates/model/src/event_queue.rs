// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event queue, written by the SMMU (§3.3).

use std::iter;

use smmuv3_formats::register::{EventqBase, Gerror};
use smmuv3_formats::{EVENT_BYTES, EventId, EventRecord};

use crate::memory::{Abort, Memory};
use crate::model::Model;
use crate::observation::{Dropped, Misuse, Observation};
use crate::queue::Ring;

/// Events that may be merged whatever STE.MEV says (§10.1).
const ALWAYS: [EventId; 4] =
    [EventId::FUut, EventId::CBadStreamId, EventId::FSteFetch, EventId::CBadSte];
/// Records that an event may be merged into: the first ones that nobody has read.
const LOOKED_AT: u32 = 256;

/// What has to be the same of two events that are merged: all but where in a page the address lies (§10.1).
fn said(record: EventRecord) -> EventRecord {
    record.with_input_addr(record.input_addr() & !0xfff)
}

impl<M: Memory> Model<M> {
    /// The next `count` events do not arrive in the queue, which shows late, as an asynchronous abort does (§3.3): PROD has moved on
    /// by then, and what was in the slot before is there still. EVENTQ_ABT_ERR becomes active each time.
    pub fn lose_events(&mut self, count: u64) {
        self.faults.lost_events = count;
    }

    /// Records the event of a terminated transaction, if the queue is writable; true if it was. One that says the same as
    /// another that nobody has read yet may be one with that (§10.1).
    pub(crate) fn record(&mut self, event: EventRecord) -> bool {
        if self.says_the_same(event) {
            if self.may_merge(event) {
                self.observe(Observation::EventMerged(event));
                return true;
            }
            self.observe(Observation::EventRepeated(event));
        }
        match self.try_record(event) {
            Ok(()) => {
                self.observe(Observation::EventRecorded(event));
                true
            }
            Err(because) => {
                self.observe(Observation::EventDropped { event, because });
                false
            }
        }
    }

    pub(crate) fn try_record(&mut self, event: EventRecord) -> Result<(), Dropped> {
        let ring = self.registers.event_ring(&self.profile);
        if !self.registers.events_enabled() {
            return Err(Dropped::Disabled);
        }
        let abort = Gerror::default().with_eventq_abt_err(true);
        if self.is_event_error_active() {
            return Err(Dropped::Error);
        }
        let (prod, cons) = self.event_indices();
        // An inconsistent pair counts as full.
        let used = ring.used(prod, cons).unwrap_or(ring.entries());
        if used == ring.entries() {
            let (prod, cons) = (&mut self.registers.eventq_prod, self.registers.eventq_cons);
            if prod.ovflg() == cons.ovackflg() {
                *prod = prod.with_ovflg(!prod.ovflg());
                self.observe(Observation::EventsLost { aborted: false });
            }
            return Err(Dropped::Full);
        }
        let arrives = self.faults.lost_events == 0;
        self.faults.lost_events = self.faults.lost_events.saturating_sub(1);
        let slot = self.event_base(ring) + u64::from(ring.slot(prod)) * EVENT_BYTES as u64;
        for (index, word) in (0u64..).zip(event.0).take_while(|_| arrives) {
            if self.memory.write64(slot + 8 * index, word).is_err() {
                self.raise(abort);
                self.observe(Observation::EventsLost { aborted: true });
                return Err(Dropped::Abort);
            }
        }
        self.registers.eventq_prod = self.registers.eventq_prod.with_wr(u64::from(ring.next(prod)));
        if used == 0 && self.registers.irq_ctrl.ack & 0b100 != 0 {
            let msi = self.registers.eventq_msi;
            if self.signal(msi) {
                self.interrupts.eventq = true;
            } else {
                self.raise(Gerror::default().with_msi_eventq_abt_err(true));
            }
        }
        if arrives {
            return Ok(());
        }
        self.raise(abort);
        Err(Dropped::Late)
    }

    /// Whether the stream of `event`, or its kind, allows that it is merged into a record that says the same.
    fn may_merge(&self, event: EventRecord) -> bool {
        // The field has 32 bits.
        let ste = self.config.stes.get(&(event.sid() as u32));
        ste.is_some_and(|cached| cached.ste.mev())
            || event.event().is_some_and(|id| ALWAYS.contains(&id))
    }

    /// Whether a record in the queue, which nobody has read yet, says what `event` does.
    fn says_the_same(&self, event: EventRecord) -> bool {
        let registers = &self.registers;
        let merges = self.profile.adversary.merged_events && registers.events_enabled();
        if !merges || event.stall() || self.is_event_error_active() {
            return false;
        }
        let ring = registers.event_ring(&self.profile);
        let (prod, cons) = self.event_indices();
        let base = self.event_base(ring);
        let unread = ring.used(prod, cons).unwrap_or(0).min(LOOKED_AT);
        let slots = iter::successors(Some(cons), |index| Some(ring.next(*index)));
        slots.zip(0..unread).any(|(index, _)| {
            let at = base + u64::from(ring.slot(index)) * EVENT_BYTES as u64;
            let word = |index: u64| self.memory.read64(at + 8 * index);
            let record = || Ok::<_, Abort>(EventRecord([word(0)?, word(1)?, word(2)?, word(3)?]));
            record().is_ok_and(|record| said(record) == said(event))
        })
    }

    /// The queue could not be written, and nobody has acknowledged that yet.
    pub(crate) fn is_event_error_active(&self) -> bool {
        let abort = Gerror::default().with_eventq_abt_err(true);
        self.registers.active_errors() & abort.0 != 0
    }

    pub(crate) fn event_indices(&self) -> (u32, u32) {
        // Both fields have 20 bits.
        (self.registers.eventq_prod.wr() as u32, self.registers.eventq_cons.rd() as u32)
    }

    /// Where the ring is: aligned and cut to the output size (§2.5, §9).
    pub(crate) fn event_base(&self, ring: Ring) -> u64 {
        ring.base(self.registers.eventq_base.addr(), EVENT_BYTES as u64) & self.output_mask()
    }

    pub(crate) fn check_event_queue(&mut self) {
        let ring = self.registers.event_ring(&self.profile);
        let value = self.registers.eventq_base.addr();
        if value != self.event_base(ring) {
            self.misuse(Misuse::Misaligned { offset: EventqBase::OFFSET, value });
        }
        self.check_event_indices();
    }

    pub(crate) fn check_event_indices(&mut self) {
        let ring = self.registers.event_ring(&self.profile);
        let (prod, cons) = self.event_indices();
        if self.registers.events_enabled() && ring.used(prod, cons).is_none() {
            self.misuse(Misuse::InconsistentIndex { queue: "EVENTQ", prod, cons });
        }
    }
}
