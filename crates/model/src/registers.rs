// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of the Non-secure programming interface as software sees them (§2).

mod access;
mod handshake;

use smmuv3_formats::register::{
    Cr0, Cr0Ack, Cr1, Cr2, EventqBase, EventqCons, EventqProd, Gbpa, Gerror, Gerrorn, PriqBase,
    PriqCons, PriqProd, StrtabBase, StrtabBaseCfg, address_bits,
};

use crate::atos::Atos;
use crate::ecmdq::Lane;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::profile::Profile;
use crate::queue::Ring;
use crate::random::Random;
pub(crate) use handshake::Handshake;
use handshake::{CR0_FIELDS, draw};

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
    /// SMMUEN = 1 is in effect, and not acknowledged yet.
    pub(crate) early: bool,
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
            early: false,
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
        self.cr0.ack & SMMUEN != 0 || self.early
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

    /// Whether SMMUEN is on its way to 0.
    pub(crate) fn is_falling(&self) -> bool {
        self.is_switching() && self.cr0.written & SMMUEN == 0
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
/// LO of PRIQ_IRQ_CFG2.
pub(crate) const LO: u32 = 1 << 31;

impl<M: Memory> Model<M> {
    /// From now on, changes of CR0, IRQ_CTRL and GBPA are (not) acknowledged.
    pub fn set_stuck(&mut self, stuck: bool) {
        self.registers.stuck = stuck;
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

    /// SMMUEN = 1 comes into effect.
    fn rise(&mut self) {
        self.registers.cr2_in_effect = self.registers.cr2;
        self.check_stream_table_base();
    }

    /// SMMUEN = 1 may come into effect at any moment before it is acknowledged, and CR2 with it (§2.4).
    pub(crate) fn enable_early(&mut self) {
        let pending = self.registers.is_switching() && !self.registers.enabled();
        if pending && self.profile.adversary.early_enable && self.random.one_in(2) {
            self.registers.early = true;
            self.rise();
        }
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
        if rose & SMMUEN != 0 && !std::mem::take(&mut self.registers.early) {
            self.rise();
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
            self.check_cached();
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
        let data = u64::from(msi.data).to_le_bytes();
        let bytes = if self.profile.wide_messages { 8 } else { 4 };
        // There are eight.
        let aborted = lost || self.memory.write(pa, &data[..bytes]).is_err();
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
