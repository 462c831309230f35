// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads and writes of registers, by their offsets (§2.1).

use smmuv3_formats::register::{Aidr, Cr0Ack, Idr0, Idr1, Idr3, Idr5, Idr6, Iidr, IrqCtrlAck};
use smmuv3_formats::register::{CmdqBase, CmdqCons, CmdqProd, EventqBase, EventqCons, Gerrorn};
use smmuv3_formats::register::{
    Cr0, Cr1, Cr2, EventqProd, Gbpa, Gerror, IrqCtrl, StrtabBase, StrtabBaseCfg,
};
use smmuv3_formats::register::{GatosAddr, GatosCtrl, GatosPar, GatosSid};
use smmuv3_formats::register::{PriqBase, PriqCons, PriqProd};

use super::{
    CMDQEN, CR1_BITS, CR1_QUEUE, EVENTQ_IRQ_CFG, EVENTQEN, GATOS_ADDR_BITS, GATOS_SID_BITS,
    GERROR_IRQ_CFG, INDEX, IRQ_BITS, LO, MSI_ADDR, PRIQ_IRQ_CFG, PRIQEN, QUEUE_BITS, QUEUES,
    SMMUEN, STRTAB_BITS, STRTAB_CFG_BITS, cr2_bits,
};
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Misuse;

/// What comes back where nobody answers.
const UNANSWERED: u32 = u32::MAX;

const REC_CFG_ATS: u32 = 1 << 3;

/// 64-bit registers, by the offset of their low half.
const WIDE: [u32; 11] =
    [0x068, 0x080, 0x090, 0x0a0, 0x0b0, 0x0c0, 0x0d0, 0x108, 0x110, 0x118, 0x200];

impl<M: Memory> Model<M> {
    /// Reads the 32-bit register, or half of a 64-bit one, at byte `offset` from page 0 (§2.1). Reads of
    /// nothing give zero.
    pub fn read32(&mut self, offset: u32) -> u32 {
        let Some(offset) = self.answering(offset, 4) else { return UNANSWERED };
        if offset & 3 != 0 {
            self.misuse(Misuse::BadAccess { offset, bytes: 4 });
            return 0;
        }
        self.pass_read();
        if WIDE.contains(&(offset & !4)) || self.is_wide_enhanced(offset & !4) {
            return (self.value64(offset & !4) >> (8 * (offset & 4))) as u32;
        }
        self.value32(offset)
    }

    /// Reads the 64-bit register at byte `offset` from page 0 (§2.1).
    pub fn read64(&mut self, offset: u32) -> u64 {
        let Some(offset) = self.answering(offset, 8) else { return UNANSWERED.into() };
        if !WIDE.contains(&offset) && !self.is_wide_enhanced(offset) {
            self.misuse(Misuse::BadAccess { offset, bytes: 8 });
            return 0;
        }
        self.pass_read();
        self.value64(offset)
    }

    /// Writes the 32-bit register, or half of a 64-bit one, at byte `offset` from page 0 (§2.1).
    pub fn write32(&mut self, offset: u32, value: u32) {
        let Some(offset) = self.answering(offset, 4) else { return };
        if offset & 3 != 0 {
            return self.misuse(Misuse::BadAccess { offset, bytes: 4 });
        }
        if WIDE.contains(&(offset & !4)) || self.is_wide_enhanced(offset & !4) {
            let shift = 8 * (offset & 4);
            let kept = self.value64(offset & !4) & !(0xffff_ffff << shift);
            return self.set64(offset & !4, kept | u64::from(value) << shift);
        }
        self.set32(offset, value);
    }

    /// Writes the 64-bit register at byte `offset` from page 0 (§2.1).
    pub fn write64(&mut self, offset: u32, value: u64) {
        let Some(offset) = self.answering(offset, 8) else { return };
        if !WIDE.contains(&offset) && !self.is_wide_enhanced(offset) {
            return self.misuse(Misuse::BadAccess { offset, bytes: 8 });
        }
        self.set64(offset, value);
    }

    /// Where the register at `offset` is that software meant; `None` where nobody answers.
    fn answering(&mut self, offset: u32, bytes: u32) -> Option<u32> {
        if !self.powered {
            self.misuse(Misuse::Unpowered { offset });
            return None;
        }
        match offset {
            _ if !self.profile.page_0_only => Some(offset),
            // EVENTQ_PROD and EVENTQ_CONS, PRIQ_PROD and PRIQ_CONS (§2.2).
            0x0a8 | 0x0ac | 0x0c8 | 0x0cc => Some(offset | 0x1_0000),
            0..0x1_0000 => Some(offset),
            _ => {
                self.misuse(Misuse::BadAccess { offset, bytes });
                None
            }
        }
    }

    fn value32(&mut self, offset: u32) -> u32 {
        let registers = &self.registers;
        match offset {
            Idr0::OFFSET => self.profile.idr0.0,
            Idr1::OFFSET => self.profile.idr1.0,
            Idr3::OFFSET => self.profile.idr3.0,
            Idr5::OFFSET => self.profile.idr5.0,
            Idr6::OFFSET => self.profile.idr6.0,
            Iidr::OFFSET => self.profile.iidr.0,
            Aidr::OFFSET => self.profile.aidr.0,
            Cr0::OFFSET => registers.cr0.written,
            Cr0Ack::OFFSET => registers.cr0.ack,
            Cr1::OFFSET => registers.cr1.0,
            Cr2::OFFSET => registers.cr2.0,
            Gbpa::OFFSET => registers.gbpa.0,
            IrqCtrl::OFFSET => registers.irq_ctrl.written,
            IrqCtrlAck::OFFSET => registers.irq_ctrl.ack,
            Gerror::OFFSET => registers.gerror.0,
            Gerrorn::OFFSET => registers.gerrorn.0,
            GatosCtrl::OFFSET => GatosCtrl::default().with_run(registers.atos.run).0,
            0x070 => registers.gerror_msi.data,
            0x074 => registers.gerror_msi.attributes,
            0x0b8 => registers.eventq_msi.data,
            0x0bc => registers.eventq_msi.attributes,
            StrtabBaseCfg::OFFSET => registers.strtab_base_cfg.0,
            CmdqProd::OFFSET => registers.cmdq.prod.0,
            CmdqCons::OFFSET => {
                let lane = &mut self.registers.cmdq;
                let shown = lane.shown;
                // Lazy, but in finite time.
                lane.shown = lane.cons;
                shown.0
            }
            EventqProd::OFFSET => registers.eventq_prod.0,
            EventqCons::OFFSET => registers.eventq_cons.0,
            PriqProd::OFFSET => registers.priq_prod.0,
            PriqCons::OFFSET => registers.priq_cons.0,
            0x0d8 => registers.priq_msi.data,
            0x0dc => registers.priq_msi.attributes,
            0xff0 => 0x0d,
            0xff4 => 0xf0,
            0xff8 => 0x05,
            0xffc => 0xb1,
            _ => self.enhanced_value32(offset).unwrap_or(0),
        }
    }

    fn value64(&self, offset: u32) -> u64 {
        match offset {
            GatosSid::OFFSET => self.registers.atos.sid.0,
            GatosAddr::OFFSET => self.registers.atos.addr.0,
            GatosPar::OFFSET => self.registers.atos.par,
            GERROR_IRQ_CFG => self.registers.gerror_msi.addr,
            StrtabBase::OFFSET => self.registers.strtab_base.0,
            CmdqBase::OFFSET => self.registers.cmdq.base.0,
            EventqBase::OFFSET => self.registers.eventq_base.0,
            EVENTQ_IRQ_CFG => self.registers.eventq_msi.addr,
            PriqBase::OFFSET => self.registers.priq_base.0,
            PRIQ_IRQ_CFG => self.registers.priq_msi.addr,
            _ => self.enhanced_value64(offset),
        }
    }

    fn set64(&mut self, offset: u32, value: u64) {
        let atos = self.profile.idr0.atos();
        let (msi, pri) = (self.profile.idr0.msi(), self.profile.idr0.pri());
        let registers = &mut self.registers;
        let running = registers.atos.run;
        let (cr0, irq) = (registers.cr0, registers.irq_ctrl);
        let (slot, mask, guarded) = match offset {
            StrtabBase::OFFSET => (&mut registers.strtab_base.0, STRTAB_BITS, cr0.guards(SMMUEN)),
            CmdqBase::OFFSET => (&mut registers.cmdq.base.0, QUEUE_BITS, cr0.guards(CMDQEN)),
            EventqBase::OFFSET => (&mut registers.eventq_base.0, QUEUE_BITS, cr0.guards(EVENTQEN)),
            GERROR_IRQ_CFG if msi => (&mut registers.gerror_msi.addr, MSI_ADDR, irq.guards(1)),
            EVENTQ_IRQ_CFG if msi => (&mut registers.eventq_msi.addr, MSI_ADDR, irq.guards(4)),
            GatosSid::OFFSET if atos => (&mut registers.atos.sid.0, GATOS_SID_BITS, running),
            GatosAddr::OFFSET if atos => (&mut registers.atos.addr.0, GATOS_ADDR_BITS, running),
            PriqBase::OFFSET if pri => (&mut registers.priq_base.0, QUEUE_BITS, cr0.guards(PRIQEN)),
            PRIQ_IRQ_CFG if msi && pri => (&mut registers.priq_msi.addr, MSI_ADDR, irq.guards(2)),
            // Without MSIs these read as zero, and zero is what init code writes.
            GERROR_IRQ_CFG | EVENTQ_IRQ_CFG | PRIQ_IRQ_CFG if value == 0 => return,
            _ if !WIDE.contains(&offset) => return self.set_enhanced64(offset, value),
            _ => return self.misuse(Misuse::NotWritable { offset }),
        };
        if guarded {
            if *slot != value & mask {
                self.misuse(Misuse::GuardedWrite { offset, value });
            }
            return;
        }
        *slot = value & mask;
    }

    fn set32(&mut self, offset: u32, value: u32) {
        let cr0 = self.registers.cr0;
        match offset {
            Cr0::OFFSET => self.set_cr0(value),
            Cr1::OFFSET => {
                let tables = if cr0.guards(SMMUEN) { CR1_BITS & !CR1_QUEUE } else { 0 };
                let used = cr0.guards(QUEUES) || self.enhanced_guards();
                let queues = if used { CR1_QUEUE } else { 0 };
                let old = self.registers.cr1.0;
                let kept = tables | queues;
                if (old ^ value) & kept != 0 {
                    self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
                }
                self.registers.cr1 = Cr1(old & kept | value & CR1_BITS & !kept);
            }
            Cr2::OFFSET => {
                let recorded = if self.profile.idr0.atsrecerr() { REC_CFG_ATS } else { 0 };
                let value =
                    self.without_reserved(offset, value, cr2_bits(&self.profile) | recorded);
                if !cr0.guards(SMMUEN) {
                    self.registers.cr2 = Cr2(value);
                } else if self.registers.cr2.0 != value {
                    self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
                }
            }
            Gbpa::OFFSET => self.set_gbpa(Gbpa(value)),
            GatosCtrl::OFFSET => self.start_operation(value),
            IrqCtrl::OFFSET => {
                let pri = if self.profile.idr0.pri() { 2 } else { 0 };
                let value = self.without_reserved(offset, value, IRQ_BITS | pri);
                let (mut handshake, delay) = (self.registers.irq_ctrl, self.profile.ack_delay);
                let fine = handshake.write(value, &[1, 2, 4], delay, &mut self.random);
                self.registers.irq_ctrl = handshake;
                if !fine {
                    self.misuse(Misuse::PendingUpdate { offset });
                }
                self.settle();
            }
            Gerrorn::OFFSET => self.acknowledge_errors(value),
            0x070 | 0x074 | 0x0b8 | 0x0bc | 0x0d8 | 0x0dc => self.set_msi(offset, value),
            StrtabBaseCfg::OFFSET => {
                let value = value & STRTAB_CFG_BITS;
                if !cr0.guards(SMMUEN) {
                    self.registers.strtab_base_cfg = StrtabBaseCfg(value);
                } else if self.registers.strtab_base_cfg.0 != value {
                    self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
                }
            }
            CmdqProd::OFFSET => self.set_command_producer(value & INDEX),
            CmdqCons::OFFSET => {
                if cr0.guards(CMDQEN) {
                    return self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
                }
                let lane = &mut self.registers.cmdq;
                lane.cons = CmdqCons(value & INDEX);
                lane.shown = lane.cons;
            }
            EventqProd::OFFSET => {
                if cr0.guards(EVENTQEN) {
                    return self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
                }
                self.registers.eventq_prod = EventqProd(value & (INDEX | 1 << 31));
            }
            EventqCons::OFFSET => {
                self.registers.eventq_cons = EventqCons(value & (INDEX | 1 << 31));
                self.check_event_indices();
                self.record_stalls();
            }
            PriqProd::OFFSET if self.profile.idr0.pri() => {
                if cr0.guards(PRIQEN) {
                    return self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
                }
                self.registers.priq_prod = PriqProd(value & (INDEX | 1 << 31));
            }
            PriqCons::OFFSET if self.profile.idr0.pri() => {
                self.registers.priq_cons = PriqCons(value & (INDEX | 1 << 31));
                self.check_request_indices();
            }
            _ if self.set_enhanced32(offset, value) => {}
            _ => self.misuse(Misuse::NotWritable { offset }),
        }
    }

    fn set_msi(&mut self, offset: u32, value: u32) {
        let irq = self.registers.irq_ctrl;
        let pri = self.profile.idr0.pri();
        // Also decides about the wired interrupt.
        let lo = pri && offset == 0x0dc && value & !LO == 0;
        if !self.profile.idr0.msi() && !lo {
            if value != 0 {
                self.misuse(Misuse::NotWritable { offset });
            }
            return;
        }
        let (msi, guarded) = match offset {
            0x070 | 0x074 => (&mut self.registers.gerror_msi, irq.guards(1)),
            0x0b8 | 0x0bc => (&mut self.registers.eventq_msi, irq.guards(4)),
            _ if pri => (&mut self.registers.priq_msi, irq.guards(2)),
            _ if value == 0 => return,
            _ => return self.misuse(Misuse::NotWritable { offset }),
        };
        let slot = if offset & 4 == 0 { &mut msi.data } else { &mut msi.attributes };
        if !guarded {
            *slot = value;
        } else if *slot != value {
            self.misuse(Misuse::GuardedWrite { offset, value: value.into() });
        }
    }
}
