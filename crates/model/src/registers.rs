// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of the Non-secure programming interface as software sees them (§2).

use smmuv3_formats::register::{Aidr, Cr0Ack, Idr0, Idr1, Idr3, Idr5, Idr6, Iidr, IrqCtrlAck};
use smmuv3_formats::register::{CmdqBase, CmdqCons, CmdqProd, EventqBase, EventqCons, Gerrorn};
use smmuv3_formats::register::{
    Cr0, Cr1, Cr2, EventqProd, Gbpa, Gerror, IrqCtrl, StrtabBase, StrtabBaseCfg, address_bits,
};
use smmuv3_formats::register::{GatosAddr, GatosCtrl, GatosPar, GatosSid};
use smmuv3_formats::register::{PriqBase, PriqCons, PriqProd};

use crate::atos::Atos;
use crate::ecmdq::Lane;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::profile::Profile;
use crate::queue::Ring;
use crate::random::Random;

const GERROR_IRQ_CFG: u32 = 0x068;
const EVENTQ_IRQ_CFG: u32 = 0x0b0;
const PRIQ_IRQ_CFG: u32 = 0x0d0;

/// Where an interrupt's message goes (§2.4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Msi {
    pub(crate) addr: u64,
    pub(crate) data: u32,
    pub(crate) attributes: u32,
}

/// A register whose fields take effect some time after they were written (§2.4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handshake {
    /// What software wrote.
    pub(crate) written: u32,
    /// What is in effect.
    pub(crate) ack: u32,
    /// Reads until each bit follows.
    wait: [u32; 32],
}

impl Handshake {
    /// Whether any of `bits` is set, or on its way to or from being set.
    pub(crate) const fn guards(&self, bits: u32) -> bool {
        (self.written | self.ack) & bits != 0
    }
}

/// Bits of CR0 that form one field.
const CR0_FIELDS: [u32; 6] = [1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 0b111 << 6];
const SMMUEN: u32 = 1 << 0;
const PRIQEN: u32 = 1 << 1;
const EVENTQEN: u32 = 1 << 2;
const CMDQEN: u32 = 1 << 3;
const ATSCHK: u32 = 1 << 4;
const QUEUES: u32 = 0b1110;

/// Values of the writable registers.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    pub(crate) cr0: Handshake,
    pub(crate) irq_ctrl: Handshake,
    pub(crate) cr1: Cr1,
    /// As written, and as it is in effect since SMMUEN last became 1.
    pub(crate) cr2: Cr2,
    pub(crate) cr2_in_effect: Cr2,
    pub(crate) gbpa: Gbpa,
    gbpa_next: Gbpa,
    gbpa_wait: u32,
    pub(crate) gerror: Gerror,
    pub(crate) gerrorn: Gerrorn,
    pub(crate) strtab_base: StrtabBase,
    pub(crate) strtab_base_cfg: StrtabBaseCfg,
    pub(crate) cmdq: Lane,
    pub(crate) eventq_base: EventqBase,
    pub(crate) eventq_prod: EventqProd,
    pub(crate) eventq_cons: EventqCons,
    pub(crate) gerror_msi: Msi,
    pub(crate) eventq_msi: Msi,
    pub(crate) atos: Atos,
    pub(crate) priq_base: PriqBase,
    pub(crate) priq_prod: PriqProd,
    pub(crate) priq_cons: PriqCons,
    /// With LO in the attributes, also without messages.
    pub(crate) priq_msi: Msi,
    pub(crate) stuck: bool,
}

impl Registers {
    pub(crate) fn new(profile: &Profile, random: &mut Random) -> Self {
        let mut unknown = || if profile.unknown_reset { random.next() } else { 0 };
        let mut msi = || {
            let (addr, data) = (unknown(), unknown());
            match profile.idr0.msi() {
                true => Msi { addr: addr & MSI_ADDR, data: data as u32, attributes: 0 },
                false => Msi::default(),
            }
        };
        let (gerror_msi, eventq_msi) = (msi(), msi());
        let mut value = Self {
            cr0: Handshake::default(),
            irq_ctrl: Handshake::default(),
            cr1: Cr1(unknown() as u32 & CR1_BITS),
            cr2: Cr2(unknown() as u32 & cr2_bits(profile)),
            cr2_in_effect: Cr2::default(),
            gbpa: Gbpa::default().with_sh_cfg(1).with_abort(profile.gbpa_abort),
            gbpa_next: Gbpa::default(),
            gbpa_wait: 0,
            gerror: Gerror::default(),
            gerrorn: Gerrorn::default(),
            strtab_base: StrtabBase(unknown() & STRTAB_BITS),
            strtab_base_cfg: StrtabBaseCfg(unknown() as u32 & STRTAB_CFG_BITS),
            cmdq: Lane::new(&mut unknown),
            eventq_base: EventqBase(unknown() & QUEUE_BITS),
            eventq_prod: EventqProd(unknown() as u32 & (INDEX | 1 << 31)),
            eventq_cons: EventqCons(unknown() as u32 & (INDEX | 1 << 31)),
            gerror_msi,
            eventq_msi,
            atos: Atos::default(),
            priq_base: PriqBase::default(),
            priq_prod: PriqProd::default(),
            priq_cons: PriqCons::default(),
            priq_msi: Msi::default(),
            stuck: profile.stuck,
        };
        if profile.idr0.pri() && profile.unknown_reset {
            value.priq_base = PriqBase(random.next() & QUEUE_BITS);
            value.priq_prod = PriqProd(random.next() as u32 & (INDEX | 1 << 31));
            value.priq_cons = PriqCons(random.next() as u32 & (INDEX | 1 << 31));
        }
        value
    }

    #[inline]
    pub(crate) fn enabled(&self) -> bool {
        self.cr0.ack & SMMUEN != 0
    }

    /// CR2.E2H as commands take it; `None` while a change of it is not in effect yet (§2.4).
    pub(crate) fn e2h(&self) -> Option<bool> {
        let e2h = self.cr2_in_effect.e2h();
        (e2h == self.cr2.e2h()).then_some(e2h)
    }

    pub(crate) fn commands_enabled(&self) -> bool {
        self.cr0.ack & CMDQEN != 0
    }

    #[inline]
    pub(crate) fn events_enabled(&self) -> bool {
        self.cr0.ack & EVENTQEN != 0
    }

    /// Whether SMMUEN is on its way from one value to the other.
    pub(crate) fn is_switching(&self) -> bool {
        (self.cr0.written ^ self.cr0.ack) & SMMUEN != 0
    }

    /// The actual PRIQEN.
    pub(crate) fn requests_enabled(&self) -> bool {
        self.cr0.ack & PRIQEN != 0
    }

    /// Translated traffic is checked: ATSCHK.
    pub(crate) fn ats_checked(&self) -> bool {
        self.cr0.ack & ATSCHK != 0
    }

    /// VMID bits that invalidations do not compare (§2.4, CR0.VMW).
    pub(crate) fn vmid_wildcard(&self) -> u16 {
        (1 << Cr0Ack(self.cr0.ack).vmw().min(4)) - 1
    }

    /// Errors that are active (§2.4).
    pub(crate) const fn active_errors(&self) -> u32 {
        self.gerror.0 ^ self.gerrorn.0
    }

    pub(crate) fn event_ring(&self, profile: &Profile) -> Ring {
        Ring::new(self.eventq_base.log2size(), profile.idr1.eventqs())
    }

    pub(crate) fn request_ring(&self, profile: &Profile) -> Ring {
        Ring::new(self.priq_base.log2size(), profile.idr1.priqs())
    }
}

/// What comes back where nobody answers.
const UNANSWERED: u32 = u32::MAX;

const INDEX: u32 = 0xf_ffff;
const CR1_BITS: u32 = 0xfff;
const CR1_QUEUE: u32 = 0x3f;
const GBPA_BITS: u32 = 0x001f_3f1f;
const STRTAB_BITS: u64 = (1 << 62) | (((1 << 56) - 1) & !0x3f);
const STRTAB_CFG_BITS: u32 = 0x3_07ff;
const QUEUE_BITS: u64 = (1 << 62) | ((1 << 56) - 1);
const MSI_ADDR: u64 = ((1 << 56) - 1) & !0b11;
const IRQ_BITS: u32 = 0b101;
const GATOS_SID_BITS: u64 = (1 << 53) - 1;
const GATOS_ADDR_BITS: u64 = !0x3f;

/// E2H where there is an EL2, RECINVSID, PTM.
fn cr2_bits(profile: &Profile) -> u32 {
    0b110 | u32::from(profile.idr0.hyp())
}
const REC_CFG_ATS: u32 = 1 << 3;
/// LO of PRIQ_IRQ_CFG2.
pub(crate) const LO: u32 = 1 << 31;

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

    /// From now on, changes of CR0, IRQ_CTRL and GBPA are (not) acknowledged.
    pub fn set_stuck(&mut self, stuck: bool) {
        self.registers.stuck = stuck;
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

    /// `value` with the bits outside `known` dropped, and reported.
    fn without_reserved(&mut self, offset: u32, value: u32, known: u32) -> u32 {
        if value & !known != 0 {
            self.misuse(Misuse::ReservedRegisterBits { offset, bits: value & !known });
        }
        value & known
    }

    fn set_cr0(&mut self, value: u32) {
        let idr0 = self.profile.idr0;
        let mut known = SMMUEN | EVENTQEN | CMDQEN;
        for (present, bits) in [(idr0.pri(), 1 << 1), (idr0.ats(), 1 << 4), (idr0.vmw(), 7 << 6)] {
            known |= if present { bits } else { 0 };
        }
        let value = self.without_reserved(Cr0::OFFSET, value, known);
        let (mut handshake, delay) = (self.registers.cr0, self.profile.ack_delay);
        let fine = handshake.write(value, &CR0_FIELDS, delay, &mut self.random);
        self.registers.cr0 = handshake;
        if !fine {
            self.misuse(Misuse::PendingUpdate { offset: Cr0::OFFSET });
        }
        self.settle();
    }

    fn set_gbpa(&mut self, value: Gbpa) {
        if !value.update() || self.registers.gbpa.update() {
            return self.misuse(Misuse::GbpaWithoutUpdate);
        }
        self.registers.gbpa_next = Gbpa(value.0 & GBPA_BITS);
        self.registers.gbpa = self.registers.gbpa.with_update(true);
        self.registers.gbpa_wait = draw(self.profile.ack_delay, &mut self.random);
        self.settle();
    }

    fn acknowledge_errors(&mut self, value: u32) {
        const KNOWN: u32 = 0x7fd;
        let value = self.without_reserved(Gerrorn::OFFSET, value, KNOWN);
        let toggled = value ^ self.registers.gerrorn.0;
        let inactive = toggled & !self.registers.active_errors();
        if inactive != 0 {
            self.misuse(Misuse::InactiveError { bits: inactive });
        }
        self.registers.gerrorn.0 ^= toggled & !inactive;
        self.record_stalls();
        if self.profile.eager {
            self.run(usize::MAX);
        }
    }

    /// Every register read brings pending updates nearer.
    fn pass_read(&mut self) {
        self.pass_read_enhanced();
        let registers = &mut self.registers;
        if registers.cr0.written == registers.cr0.ack
            && registers.irq_ctrl.written == registers.irq_ctrl.ack
            && !registers.gbpa.update()
            && !registers.atos.run
        {
            return;
        }
        for wait in registers.cr0.wait.iter_mut().chain(&mut registers.irq_ctrl.wait) {
            *wait = wait.saturating_sub(1);
        }
        registers.gbpa_wait = registers.gbpa_wait.saturating_sub(1);
        registers.atos.wait = registers.atos.wait.saturating_sub(1);
        self.settle();
    }

    /// Acknowledges the updates whose time has come.
    fn settle(&mut self) {
        if self.registers.stuck {
            return;
        }
        self.registers.irq_ctrl.settle();
        if self.registers.gbpa.update() && self.registers.gbpa_wait == 0 {
            self.registers.gbpa = self.registers.gbpa_next;
        }
        self.run_operation();
        let before = self.registers.cr0.ack;
        self.registers.cr0.settle();
        let after = self.registers.cr0.ack;
        let rose = after & !before;
        if rose & SMMUEN != 0 {
            self.registers.cr2_in_effect = self.registers.cr2;
            self.check_stream_table_base();
        }
        if rose & CMDQEN != 0 {
            self.check_lane(0);
        }
        if rose & EVENTQEN != 0 {
            self.check_event_queue();
            self.record_stalls();
        }
        if rose & PRIQEN != 0 {
            self.check_request_queue();
        }
        let fell = before & !after;
        if fell & SMMUEN != 0 {
            // The stream table is not accessed any more, and nothing is cached (§2.4): what was read of a
            // structure so far is never completed.
            self.config.fetches.clear();
            self.leave_residue();
            self.abandon_operation();
            self.disable_stalls();
        }
        if fell & EVENTQEN != 0 {
            self.observe(Observation::EventQueueOff);
        }
        if fell & CMDQEN != 0 {
            // CMDQ_CONS is final (§2.4).
            self.registers.cmdq.shown = self.registers.cmdq.cons;
            self.registers.cmdq.prefetched.clear();
        }
        if rose & CMDQEN != 0 && self.profile.eager {
            self.run(usize::MAX);
        }
    }

    /// Makes an error active unless it is (§2.4).
    pub(crate) fn raise(&mut self, error: Gerror) {
        let fresh = error.0 & !self.registers.active_errors();
        if fresh == 0 {
            return;
        }
        self.registers.gerror.0 ^= fresh;
        self.observe(Observation::Gerror(self.registers.gerror));
        if self.registers.irq_ctrl.ack & 1 != 0
            && fresh != Gerror::default().with_msi_gerror_abt_err(true).0
        {
            let msi = self.registers.gerror_msi;
            if self.signal(msi) {
                self.interrupts.gerror = true;
            } else {
                self.raise(Gerror::default().with_msi_gerror_abt_err(true));
            }
        }
    }

    /// Sends an interrupt: a message where there is one to send. False when memory refused it.
    pub(crate) fn signal(&mut self, msi: Msi) -> bool {
        if !self.profile.idr0.msi() || msi.addr == 0 {
            return true;
        }
        let pa = msi.addr & self.output_mask();
        let lost = self.faults.lost_messages != 0;
        self.faults.lost_messages = self.faults.lost_messages.saturating_sub(1);
        let aborted = lost || self.memory.write(pa, &msi.data.to_le_bytes()).is_err();
        self.observe(Observation::Message { pa, data: msi.data, aborted });
        !aborted
    }

    /// Reads until a new update is acknowledged.
    /// Register reads that an operation takes.
    pub(crate) fn draw_operation_delay(&mut self) -> u32 {
        draw(self.profile.operation_delay.max(self.profile.ack_delay), &mut self.random)
    }

    /// Bits of an address that the instance can output (§2.3).
    #[inline]
    pub(crate) fn output_mask(&self) -> u64 {
        (1 << address_bits(self.profile.idr5.oas()).unwrap_or(48)) - 1
    }
}

/// Reads until an update is acknowledged.
fn draw(delay: u32, random: &mut Random) -> u32 {
    // The result is at most `delay`, so it fits.
    if delay == 0 { 0 } else { 1 + random.below(delay.into()) as u32 }
}

impl Handshake {
    /// Takes a write, field by field. False when a field with a pending update was to change again: it
    /// keeps the earlier value.
    fn write(&mut self, value: u32, fields: &[u32], delay: u32, random: &mut Random) -> bool {
        let mut fine = true;
        for field in fields {
            let pending = (self.written ^ self.ack) & field != 0;
            if (self.written ^ value) & field == 0 {
                continue;
            }
            if pending {
                fine = false;
                continue;
            }
            self.written = self.written & !field | value & field;
            // A field mask is never zero and has at most 32 bits.
            self.wait[field.trailing_zeros() as usize & 31] = draw(delay, random);
        }
        fine
    }

    /// Lets every field follow whose wait is over; a field's wait is kept at its lowest bit.
    fn settle(&mut self) {
        for field in CR0_FIELDS {
            if self.wait[field.trailing_zeros() as usize & 31] == 0 {
                self.ack = self.ack & !field | self.written & field;
            }
        }
    }
}
