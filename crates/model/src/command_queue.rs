// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue: fetch, check, execute, and what can go wrong (§3.1, §3.2, §4).

use smmuv3_formats::command::{Sync, completion};
use smmuv3_formats::register::{CmdqBase, CmdqProd, Gerror, cerror};
use smmuv3_formats::{COMMAND_BYTES, Command, Opcode, legality};

use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::queue::Ring;
use crate::registers::Msi;
use crate::transaction::Access;

/// Faults that are injected into the command queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Commands that are still consumed before it stands still.
    wedge_after: Option<u64>,
    /// CMD_SYNCs until the one that does nothing: 1 is the next.
    drop_sync: u64,
    /// CMDQ_CONS.ERR that the next command gives.
    fail_next: Option<u64>,
}

impl<M: Memory> Model<M> {
    /// Consumes up to `budget` commands; how many it consumed.
    pub fn run(&mut self, budget: usize) -> usize {
        let mut consumed = 0;
        while consumed < budget && self.step() {
            consumed += 1;
        }
        consumed
    }

    /// Commands between CMDQ_CONS and CMDQ_PROD, as far as the queue is enabled and consistent.
    pub fn waiting_commands(&self) -> u32 {
        let ring = self.registers.command_ring(&self.profile);
        let (prod, cons) = self.command_indices();
        let enabled = self.registers.commands_enabled();
        if enabled { ring.used(prod, cons).unwrap_or(0) } else { 0 }
    }

    /// After `commands` more commands, none is consumed any more; `None` ends that.
    pub fn wedge_after(&mut self, commands: Option<u64>) {
        self.faults.wedge_after = commands;
    }

    /// The `nth` CMD_SYNC from now on (1 is the next) is consumed without waiting for anything: older
    /// invalidations stay as incomplete as they were. 0 ends that.
    pub fn drop_sync(&mut self, nth: u64) {
        self.faults.drop_sync = nth;
    }

    /// The next command stops the queue with this CMDQ_CONS.ERR (1 ILL, 2 ABT, 3 ATC_INV_SYNC; §3.2).
    pub fn fail_next_command(&mut self, error: u8) {
        self.faults.fail_next = Some(u64::from(error) & 0x7f);
    }

    fn command_indices(&self) -> (u32, u32) {
        // Both fields have 20 bits.
        (self.registers.cmdq_prod.wr() as u32, self.registers.cmdq_cons.rd() as u32)
    }

    /// Where the ring is: aligned and cut to the output size (§2.5, §9).
    pub(crate) fn command_base(&self, ring: Ring) -> u64 {
        ring.base(self.registers.cmdq_base.addr(), COMMAND_BYTES as u64) & self.output_mask()
    }

    pub(crate) fn set_command_producer(&mut self, value: u32) {
        let ring = self.registers.command_ring(&self.profile);
        let (from, cons) = self.command_indices();
        self.registers.cmdq_prod = CmdqProd(value);
        if !self.registers.commands_enabled() {
            return;
        }
        let stopped = self.registers.active_errors() & CMDQ_ERR != 0;
        match (ring.used(from, cons), ring.used(value, cons)) {
            (_, None) => {
                self.misuse(Misuse::InconsistentIndex { queue: "CMDQ", prod: value, cons });
            }
            (Some(before), Some(after)) if after < before && !stopped => {
                self.misuse(Misuse::ProducerMovedBack { from, to: value });
            }
            _ => {}
        }
        if self.profile.adversary.prefetch_commands && !stopped && self.random.one_in(2) {
            self.prefetch_commands();
        }
        if self.profile.eager {
            self.run(usize::MAX);
        }
    }

    pub(crate) fn check_command_queue(&mut self) {
        let ring = self.registers.command_ring(&self.profile);
        let value = self.registers.cmdq_base.addr();
        if value != self.command_base(ring) {
            self.misuse(Misuse::Misaligned { offset: CmdqBase::OFFSET, value });
        }
        let (prod, cons) = self.command_indices();
        if ring.used(prod, cons).is_none() {
            self.misuse(Misuse::InconsistentIndex { queue: "CMDQ", prod, cons });
        }
    }

    pub(crate) fn drop_prefetched_commands(&mut self) {
        self.prefetched.clear();
    }

    fn prefetch_commands(&mut self) {
        let ring = self.registers.command_ring(&self.profile);
        let (prod, cons) = self.command_indices();
        let Some(used) = ring.used(prod, cons) else { return };
        // The queue is never longer than the ring, so its length fits.
        let mut index = ring.index(cons + self.prefetched.len() as u32);
        for _ in self.prefetched.len()..used as usize {
            let Ok(command) = self.fetch_command(ring, index) else { return };
            self.prefetched.push_back((index, command));
            index = ring.next(index);
        }
    }

    fn fetch_command(&self, ring: Ring, index: u32) -> Result<Command, ()> {
        let slot = self.command_base(ring) + u64::from(ring.slot(index)) * COMMAND_BYTES as u64;
        let word = |offset| self.memory.read64(slot + offset).map_err(|_| ());
        Ok(Command([word(0)?, word(8)?]))
    }

    fn next_command(&mut self, ring: Ring, index: u32) -> Result<Command, ()> {
        let in_memory = self.fetch_command(ring, index);
        match self.prefetched.pop_front() {
            Some((theirs, command)) if theirs == index => {
                if in_memory != Ok(command) {
                    self.misuse(Misuse::CommandRewritten { index });
                }
                Ok(command)
            }
            _ => {
                self.prefetched.clear();
                in_memory
            }
        }
    }

    /// Consumes one command, if there is one and nothing stands in the way.
    fn step(&mut self) -> bool {
        let ring = self.registers.command_ring(&self.profile);
        let (prod, cons) = self.command_indices();
        let stopped = self.registers.active_errors() & CMDQ_ERR != 0;
        let wedged = self.faults.wedge_after == Some(0);
        if !self.registers.commands_enabled() || stopped || wedged {
            return false;
        }
        if ring.used(prod, cons).unwrap_or(0) == 0 {
            return false;
        }
        let index = ring.index(cons);
        let Ok(command) = self.next_command(ring, index) else {
            self.command_error(cerror::ABT);
            return false;
        };
        if let Some(error) = self.faults.fail_next.take() {
            self.command_error(error);
            return false;
        }
        if legality::command(&command, &self.implementation()).is_err() {
            self.command_error(cerror::ILL);
            return false;
        }
        // A CMD_SYNC that is about to be dropped looks at nothing.
        if command.opcode() == Some(Opcode::Sync)
            && self.faults.drop_sync != 1
            && self.devices_time_out()
        {
            self.command_error(cerror::ATC_INV_SYNC);
            return false;
        }
        if command.reserved_bits() != [0; 2] {
            self.misuse(Misuse::ReservedCommandBits { command });
        }
        if let Some(left) = &mut self.faults.wedge_after {
            *left -= 1;
        }
        let position = self.statistics.commands;
        self.statistics.commands += 1;
        self.observe(Observation::Command { position, index, command });
        self.execute(&command, position, ring.next(index));
        true
    }

    fn command_error(&mut self, error: u64) {
        self.registers.cmdq_cons = self.registers.cmdq_cons.with_err(error);
        self.registers.cmdq_cons_shown = self.registers.cmdq_cons;
        self.drop_prefetched_commands();
        self.raise(Gerror(CMDQ_ERR));
    }

    /// Executes a legal command and moves CMDQ_CONS to `next`.
    fn execute(&mut self, command: &Command, position: u64, next: u32) {
        use Opcode as Op;
        let synced = match command.opcode() {
            Some(Op::Sync) => {
                let dropped = self.faults.drop_sync == 1;
                self.faults.drop_sync = self.faults.drop_sync.saturating_sub(1);
                if !dropped {
                    self.complete();
                }
                !dropped
            }
            Some(Op::PrefetchConfig | Op::PrefetchAddr) => {
                self.prefetch_command(command);
                false
            }
            Some(
                Op::CfgiSte
                | Op::CfgiSteRange
                | Op::CfgiCd
                | Op::CfgiCdAll
                | Op::TlbiNhAll
                | Op::TlbiNhAsid
                | Op::TlbiNhVa
                | Op::TlbiNhVaa
                | Op::TlbiNsnhAll
                | Op::TlbiS12Vmall
                | Op::TlbiS2Ipa,
            ) => {
                self.invalidate(command, position);
                false
            }
            Some(Op::AtcInv) => {
                self.invalidate_device(command, position);
                false
            }
            Some(Op::PriResp) => {
                self.respond(command);
                false
            }
            _ => {
                self.observe(Observation::Unsupported(command.name()));
                false
            }
        };
        let ring = self.registers.command_ring(&self.profile);
        let (prod, cons) = self.command_indices();
        let full = ring.used(prod, cons) == Some(ring.entries());
        self.registers.cmdq_cons = self.registers.cmdq_cons.with_rd(next.into());
        // The end of "full" is seen by whoever the event wakes.
        let room = full && self.profile.idr0.sev();
        self.interrupts.event |= room;
        if room || !self.profile.adversary.lazy_cons || self.random.one_in(2) {
            self.registers.cmdq_cons_shown = self.registers.cmdq_cons;
        }
        if synced {
            self.observe(Observation::SyncCompleted { position });
            self.signal_completion(&Sync(command.0));
        }
    }

    /// Everything that a CMD_SYNC guarantees (§4.2): invalidations take effect, and transfers that used
    /// what they hit are performed.
    fn complete(&mut self) {
        let reached: Vec<u64> = self
            .held
            .iter()
            .filter(|held| self.pending.iter().any(|pending| pending.reaches(held)))
            .map(|held| held.id)
            .collect();
        self.apply_pending(self.pending.len());
        for id in reached {
            self.drain(id);
        }
        self.pending.clear();
        self.complete_devices();
    }

    fn signal_completion(&mut self, sync: &Sync) {
        let event = sync.cs() == completion::SEV && self.profile.idr0.sev();
        if sync.cs() != completion::IRQ && !event {
            return;
        }
        // Completion is visible in CMDQ_CONS no later than the signal.
        self.registers.cmdq_cons_shown = self.registers.cmdq_cons;
        if event {
            self.interrupts.event = true;
            return;
        }
        // The field has 32 bits.
        let msi = Msi { addr: sync.msi_addr(), data: sync.msi_data() as u32, ..Msi::default() };
        if self.signal(msi) {
            self.interrupts.cmd_sync = true;
        } else {
            self.raise(Gerror::default().with_msi_cmdq_abt_err(true));
        }
    }

    fn prefetch_command(&mut self, command: &Command) {
        let field = |name| command.field(name).unwrap_or(0);
        // SSID has 20 and SID 32 bits.
        let substream = (field("SSV") == 1).then_some(field("SSID") as u32);
        let mut access = Access::read(field("SID") as u32, field("Addr"));
        access.substream = substream;
        self.prefetch(access);
    }
}

const CMDQ_ERR: u32 = 1;
