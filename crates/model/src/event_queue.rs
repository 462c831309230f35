// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event queue, written by the SMMU (§3.3).

use smmuv3_formats::register::{EventqBase, Gerror};
use smmuv3_formats::{EVENT_BYTES, EventRecord};

use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Dropped, Misuse, Observation};
use crate::queue::Ring;

impl<M: Memory> Model<M> {
    /// Records the event of a terminated transaction, if the queue is writable; true if it was.
    pub(crate) fn record(&mut self, event: EventRecord) -> bool {
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
            }
            return Err(Dropped::Full);
        }
        let slot = self.event_base(ring) + u64::from(ring.slot(prod)) * EVENT_BYTES as u64;
        for (index, word) in (0u64..).zip(event.0) {
            if self.memory.write64(slot + 8 * index, word).is_err() {
                self.raise(abort);
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
        Ok(())
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
