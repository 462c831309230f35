// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of one of the queues that an SMMU takes commands from: the command queue's, or those of an
//! enhanced one (§2.6). Both have PROD and CONS; they differ in where these are, and in how errors are acknowledged.

use core::sync::atomic::{AtomicU32, Ordering};

use smmuv3_formats::PhysAddr;
use smmuv3_formats::register::{
    CmdqBase, CmdqCons, CmdqProd, EcmdqBase, EcmdqCons, EcmdqProd, Gerror, Gerrorn,
};

use crate::platform::Mmio;
use crate::queue::Size;

/// The registers of a queue.
pub(super) struct Port {
    /// Where the slot of an enhanced queue begins. Offsets of the command queue's registers are constants, which those
    /// who access registers may make use of.
    slot: Option<u32>,
    /// What PROD holds besides the index: EN and ERRACK of an enhanced queue. Changed only while nobody writes PROD.
    control: AtomicU32,
}

/// Why a queue stands still.
pub(super) struct Stop {
    /// CONS.RD: where the command is.
    pub(super) register: u32,
    /// `CMDQ_CONS.ERR`, or `ECMDQ_CONS.ERR_REASON` (§3.2).
    pub(super) code: u8,
}

impl Port {
    /// The registers of the command queue.
    pub(super) const fn main() -> Self {
        Self { slot: None, control: AtomicU32::new(0) }
    }

    /// The registers of the enhanced queue whose slot begins at byte `at`.
    pub(super) const fn enhanced(at: u32) -> Self {
        Self { slot: Some(at), control: AtomicU32::new(0) }
    }

    /// Where its slot begins: nowhere without enhanced queues, which is known when the driver is compiled.
    #[inline]
    const fn slot(&self) -> Option<u32> {
        if cfg!(feature = "ecmdq") { self.slot } else { None }
    }

    /// What BASE is to hold.
    pub(super) fn base_register(&self, size: Size, memory: PhysAddr) -> CmdqBase {
        CmdqBase::default().with_log2size(u64::from(size.log2())).with_addr(memory.0).with_ra(true)
    }

    /// Shows the queue, empty, to an SMMU that does not use it: BASE, and PROD and CONS as 0. An error that is left from
    /// before is acknowledged with it.
    pub(super) fn reset(&self, mmio: &impl Mmio, size: Size, memory: PhysAddr) {
        // CMDQ_BASE and ECMDQ_BASE have the same fields.
        let base = self.base_register(size, memory);
        let Some(slot) = self.slot() else {
            mmio.write64(CmdqBase::OFFSET, base.0);
            mmio.write32(CmdqProd::OFFSET, 0);
            mmio.write32(CmdqCons::OFFSET, 0);
            return;
        };
        mmio.write64(slot + EcmdqBase::OFFSET, base.0);
        let cons = EcmdqCons(mmio.read32(slot + EcmdqCons::OFFSET)).with_rd(0).with_enack(false);
        let prod = EcmdqProd::default().with_errack(cons.err());
        mmio.write32(slot + EcmdqProd::OFFSET, prod.0);
        mmio.write32(slot + EcmdqCons::OFFSET, cons.0);
        self.control.store(prod.with_en(true).0, Ordering::Relaxed);
    }

    /// Asks the SMMU to use an enhanced queue that was reset. CONS, whose offset is returned, shows when it does.
    pub(super) fn enable(&self, mmio: &impl Mmio) -> Option<u32> {
        let slot = self.slot()?;
        mmio.write32(slot + EcmdqProd::OFFSET, self.control.load(Ordering::Relaxed));
        Some(slot + EcmdqCons::OFFSET)
    }

    /// Tells the SMMU of the commands before the one that shows as `register`. One caller at a time.
    #[inline]
    pub(super) fn tell(&self, mmio: &impl Mmio, register: u32) {
        match self.slot() {
            None => Self::tell_main(mmio, register),
            Some(slot) => self.tell_enhanced(mmio, slot, register),
        }
    }

    /// As [`Port::tell`], of the command queue.
    #[inline(always)]
    pub(super) fn tell_main(mmio: &impl Mmio, register: u32) {
        mmio.write32(CmdqProd::OFFSET, register);
    }

    #[inline(never)]
    fn tell_enhanced(&self, mmio: &impl Mmio, slot: u32, register: u32) {
        let control = self.control.load(Ordering::Relaxed);
        mmio.write32(slot + EcmdqProd::OFFSET, register | control);
    }

    /// CONS.RD.
    #[inline]
    pub(super) fn consumed(&self, mmio: &impl Mmio) -> u32 {
        match self.slot() {
            None => Self::main_consumed(mmio),
            Some(slot) => Self::consumed_enhanced(mmio, slot),
        }
    }

    /// CONS.RD of the command queue.
    #[inline(always)]
    pub(super) fn main_consumed(mmio: &impl Mmio) -> u32 {
        // The field has 20 bits, here and below.
        CmdqCons(mmio.read32(CmdqCons::OFFSET)).rd() as u32
    }

    #[inline(never)]
    fn consumed_enhanced(mmio: &impl Mmio, slot: u32) -> u32 {
        EcmdqCons(mmio.read32(slot + EcmdqCons::OFFSET)).rd() as u32
    }

    /// Why the queue stands still, if it does.
    pub(super) fn stopped(&self, mmio: &impl Mmio) -> Option<Stop> {
        if let Some(slot) = self.slot() {
            let cons = EcmdqCons(mmio.read32(slot + EcmdqCons::OFFSET));
            let acknowledged = EcmdqProd(self.control.load(Ordering::Relaxed)).errack();
            let stop = Stop { register: cons.rd() as u32, code: cons.err_reason() as u8 };
            return (cons.err() != acknowledged).then_some(stop);
        }
        let errors = mmio.read32(Gerror::OFFSET) ^ mmio.read32(Gerrorn::OFFSET);
        if !Gerror(errors).cmdq_err() {
            return None;
        }
        let cons = CmdqCons(mmio.read32(CmdqCons::OFFSET));
        Some(Stop { register: cons.rd() as u32, code: cons.err() as u8 })
    }

    /// Lets the SMMU go on: the error that [`Port::stopped`] found is dealt with. One caller at a time; `tell_again` runs
    /// its argument while nobody writes PROD, and writes PROD then.
    pub(super) fn acknowledge(&self, mmio: &impl Mmio, tell_again: impl FnOnce(&dyn Fn())) {
        if self.slot().is_some() {
            let prod = || EcmdqProd(self.control.load(Ordering::Relaxed));
            let toggle = || {
                let errack = !prod().errack();
                self.control.store(prod().with_errack(errack).0, Ordering::Relaxed);
            };
            return tell_again(&toggle);
        }
        // Only CMDQ_ERR is acknowledged here; `handle_interrupt` reports and acknowledges the others.
        let acknowledged = Gerrorn(mmio.read32(Gerrorn::OFFSET));
        let acknowledged = acknowledged.with_cmdq_err(!acknowledged.cmdq_err());
        mmio.write32(Gerrorn::OFFSET, acknowledged.0);
    }
}
