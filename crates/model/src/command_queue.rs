// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue: fetch, check, execute, and what can go wrong (§3.1, §3.2, §4).

use smmuv3_formats::command::{Resume, StallTerm, Sync, completion};
use smmuv3_formats::register::{CmdqBase, CmdqProd, Gerror, cerror};
use smmuv3_formats::{COMMAND_BYTES, Command, Opcode, legality};

use crate::ecmdq::{Enhanced, Lane};
use crate::invalidation::Pending;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::registers::Msi;
use crate::transaction::Access;

/// Faults that are injected into queues.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Commands that are still consumed before it stands still.
    wedge_after: Option<u64>,
    /// Turns that a CMD_SYNC stands still because of devices that do not answer, before it gives them up, and those so far.
    patience: u64,
    waited: u64,
    /// CMD_SYNCs until the one that does nothing: 1 is the next.
    drop_sync: u64,
    /// CMDQ_CONS.ERR that the next command gives, of this queue or of any.
    fail_next: Option<(Option<usize>, u64)>,
    /// Messages that memory refuses from now on.
    pub(crate) lost_messages: u64,
    /// Events that do not arrive in their queue from now on, and page requests: see [`Model::lose_events`].
    pub(crate) lost_events: u64,
    pub(crate) lost_requests: u64,
}

impl<M: Memory> Model<M> {
    /// Consumes up to `budget` commands, of any queues; how many it consumed.
    pub fn run(&mut self, budget: usize) -> usize {
        if !self.messages.is_empty() && self.random.one_in(2) {
            self.deliver_messages(None);
        }
        let mut consumed = 0;
        while consumed < budget && self.step_some() {
            consumed += 1;
        }
        consumed
    }

    /// Commands between CONS and PROD, as far as their queue is enabled and consistent.
    pub fn waiting_commands(&self) -> u32 {
        (0..self.queues()).map(|queue| self.waiting_in(queue)).sum()
    }

    /// Commands between CMDQ_CONS and CMDQ_PROD of one queue; 0 is the command queue, enhanced ones follow.
    pub fn waiting_in(&self, queue: usize) -> u32 {
        let lane = self.lane(queue);
        let (prod, cons) = lane.indices();
        let used = lane.ring(&self.profile).used(prod, cons).unwrap_or(0);
        if self.is_enabled(queue) { used } else { 0 }
    }

    /// How many command queues there are, with the enhanced ones.
    #[inline]
    pub fn queues(&self) -> usize {
        1 + self.enhanced.len()
    }

    /// After `commands` more commands, none is consumed any more; `None` ends that.
    pub fn wedge_after(&mut self, commands: Option<u64>) {
        self.faults.wedge_after = commands;
    }

    /// A CMD_SYNC stands still for so many turns because of devices that do not answer, before it gives them up (§3.2):
    /// there, too, that takes a while, by the time-out of the bus.
    pub fn wait_for_devices(&mut self, turns: u64) {
        self.faults.patience = turns;
    }

    /// The `nth` CMD_SYNC from now on (1 is the next) is consumed without waiting for anything: older
    /// invalidations stay as incomplete as they were. 0 ends that.
    pub fn drop_sync(&mut self, nth: u64) {
        self.faults.drop_sync = nth;
    }

    /// The next command stops the queue with this CMDQ_CONS.ERR (1 ILL, 2 ABT, 3 ATC_INV_SYNC; §3.2).
    pub fn fail_next_command(&mut self, error: u8) {
        self.faults.fail_next = Some((None, u64::from(error) & 0x7f));
    }

    /// The same of the next command of one queue: 0 is the command queue, enhanced ones follow.
    pub fn fail_next_command_of(&mut self, queue: usize, error: u8) {
        self.faults.fail_next = Some((Some(queue), u64::from(error) & 0x7));
    }

    /// Memory refuses the next `count` messages, of interrupts and of CMD_SYNCs: GERROR.MSI_*_ABT_ERR (§2.4).
    pub fn lose_messages(&mut self, count: u64) {
        self.faults.lost_messages = count;
    }

    #[inline]
    pub(crate) fn lane(&self, queue: usize) -> &Lane {
        let enhanced = queue.checked_sub(1).and_then(|at| self.enhanced.get(at));
        enhanced.map_or(&self.registers.cmdq, |queue| &queue.lane)
    }

    #[inline]
    pub(crate) fn lane_mut(&mut self, queue: usize) -> &mut Lane {
        let enhanced = queue.checked_sub(1).and_then(|at| self.enhanced.get_mut(at));
        enhanced.map_or(&mut self.registers.cmdq, |queue| &mut queue.lane)
    }

    #[inline]
    fn is_enabled(&self, queue: usize) -> bool {
        match queue.checked_sub(1) {
            None => self.registers.commands_enabled(),
            Some(at) => self.enhanced.get(at).is_some_and(Enhanced::is_enabled),
        }
    }

    /// Whether it is enabled, or on its way to or from that.
    pub(crate) fn queue_guards(&self, queue: usize) -> bool {
        match queue.checked_sub(1) {
            None => self.registers.cr0.guards(1 << 3),
            Some(at) => self.enhanced.get(at).is_some_and(Enhanced::guards),
        }
    }

    /// Whether it stopped at an error that is not acknowledged.
    #[inline]
    fn is_stopped(&self, queue: usize) -> bool {
        match queue.checked_sub(1) {
            None => self.registers.active_errors() & CMDQ_ERR != 0,
            Some(at) => self.enhanced.get(at).is_some_and(Enhanced::is_stopped),
        }
    }

    /// Where the ring is: aligned and cut to the output size (§2.5, §9).
    #[inline]
    pub(crate) fn command_base(&self, queue: usize) -> u64 {
        let lane = self.lane(queue);
        lane.ring(&self.profile).base(lane.base.addr(), COMMAND_BYTES as u64) & self.output_mask()
    }

    pub(crate) fn set_command_producer(&mut self, value: u32) {
        let stopped = self.is_stopped(0);
        self.set_lane_producer(0, value, stopped);
    }

    /// PROD.WR of a queue, which was stopped by an error when it was written, or not.
    pub(crate) fn set_lane_producer(&mut self, queue: usize, value: u32, stopped: bool) {
        let lane = self.lane_mut(queue);
        let (from, cons) = lane.indices();
        lane.prod = CmdqProd(value);
        let ring = self.lane(queue).ring(&self.profile);
        if !self.is_enabled(queue) {
            return;
        }
        match (ring.used(from, cons), ring.used(value, cons)) {
            (_, None) => {
                self.misuse(Misuse::InconsistentIndex { queue: name(queue), prod: value, cons });
            }
            (Some(before), Some(after)) if after < before && !stopped => {
                self.misuse(Misuse::ProducerMovedBack { from, to: value });
            }
            _ => {}
        }
        if self.profile.adversary.prefetch_commands && !stopped && self.random.one_in(2) {
            self.prefetch_commands(queue);
        }
        if self.profile.eager {
            self.run(usize::MAX);
        }
    }

    /// A queue was enabled: does what it was given make sense?
    pub(crate) fn check_lane(&mut self, queue: usize) {
        let lane = self.lane(queue);
        let (prod, cons) = lane.indices();
        let (ring, value) = (lane.ring(&self.profile), lane.base.addr());
        if value != self.command_base(queue) {
            self.misuse(Misuse::Misaligned { offset: CmdqBase::OFFSET, value });
        }
        if ring.used(prod, cons).is_none() {
            self.misuse(Misuse::InconsistentIndex { queue: name(queue), prod, cons });
        }
    }

    fn prefetch_commands(&mut self, queue: usize) {
        let lane = self.lane(queue);
        let (prod, cons) = lane.indices();
        let (ring, ahead) = (lane.ring(&self.profile), lane.prefetched.len());
        let Some(used) = ring.used(prod, cons) else { return };
        // The queue is never longer than the ring, so its length fits.
        let mut index = ring.index(cons + ahead as u32);
        for _ in ahead..used as usize {
            let Ok(command) = self.fetch_command(queue, index) else { return };
            self.lane_mut(queue).prefetched.push_back((index, command));
            index = ring.next(index);
        }
    }

    #[inline]
    fn fetch_command(&self, queue: usize, index: u32) -> Result<Command, ()> {
        let ring = self.lane(queue).ring(&self.profile);
        let slot = self.command_base(queue) + u64::from(ring.slot(index)) * COMMAND_BYTES as u64;
        let word = |offset| self.memory.read64(slot + offset).map_err(|_| ());
        Ok(Command([word(0)?, word(8)?]))
    }

    fn next_command(&mut self, queue: usize, index: u32) -> Result<Command, ()> {
        let in_memory = self.fetch_command(queue, index);
        match self.lane_mut(queue).prefetched.pop_front() {
            Some((theirs, command)) if theirs == index => {
                if in_memory != Ok(command) {
                    self.misuse(Misuse::CommandRewritten { index });
                }
                Ok(command)
            }
            _ => {
                self.lane_mut(queue).prefetched.clear();
                in_memory
            }
        }
    }

    /// Consumes one command of some queue, if there is one and nothing stands in the way.
    fn step_some(&mut self) -> bool {
        if self.enhanced.is_empty() {
            return self.step(0);
        }
        // No queue comes before another.
        let queues = self.queues();
        let first = self.random.below(queues as u64) as usize;
        (0..queues).any(|next| self.step((first + next) % queues))
    }

    /// Consumes one command of `queue`, if there is one and nothing stands in the way.
    fn step(&mut self, queue: usize) -> bool {
        let wedged = self.faults.wedge_after == Some(0);
        if !self.is_enabled(queue) || self.is_stopped(queue) || wedged {
            return false;
        }
        let lane = self.lane(queue);
        let (prod, cons) = lane.indices();
        let ring = lane.ring(&self.profile);
        if ring.used(prod, cons).unwrap_or(0) == 0 {
            return false;
        }
        let index = ring.index(cons);
        let Ok(command) = self.next_command(queue, index) else {
            self.command_error(queue, cerror::ABT);
            return false;
        };
        let here = |(of, _): &(Option<usize>, u64)| of.is_none_or(|of| of == queue);
        if let Some((_, error)) = self.faults.fail_next.take_if(|fault| here(fault)) {
            self.command_error(queue, error);
            return false;
        }
        if legality::command(&command, &self.implementation()).is_err() {
            self.command_error(queue, cerror::ILL);
            return false;
        }
        // A CMD_SYNC that is about to be dropped looks at nothing.
        if command.is(Opcode::Sync) && self.faults.drop_sync != 1 {
            if self.faults.waited < self.faults.patience && self.has_unanswered(queue) {
                self.faults.waited += 1;
                return false;
            }
            self.faults.waited = 0;
            if self.devices_time_out(queue) {
                self.command_error(queue, cerror::ATC_INV_SYNC);
                return false;
            }
        }
        if command.reserved_bits() != [0; 2] {
            self.misuse(Misuse::ReservedCommandBits { command });
        }
        if let Some(left) = &mut self.faults.wedge_after {
            *left -= 1;
        }
        let position = self.statistics.commands;
        self.statistics.commands += 1;
        self.observe(Observation::Command { position, queue, index, command });
        self.execute(queue, &command, position, ring.next(index));
        true
    }

    fn command_error(&mut self, queue: usize, error: u64) {
        let lane = self.lane_mut(queue);
        if queue == 0 {
            lane.cons = lane.cons.with_err(error);
        }
        lane.shown = lane.cons;
        lane.prefetched.clear();
        match queue.checked_sub(1) {
            None => self.raise(Gerror(CMDQ_ERR)),
            Some(at) => self.stop_enhanced(at, error),
        }
    }

    /// Executes a legal command and moves CONS of its queue to `next`.
    fn execute(&mut self, queue: usize, command: &Command, position: u64, next: u32) {
        use Opcode as Op;
        self.count_unsynced(queue, command.opcode());
        let synced = match command.opcode() {
            Some(Op::Sync) => {
                let dropped = self.faults.drop_sync == 1;
                self.faults.drop_sync = self.faults.drop_sync.saturating_sub(1);
                if !dropped {
                    self.complete(queue);
                }
                !dropped
            }
            Some(Op::PrefetchConfig | Op::PrefetchAddr) => {
                self.prefetch_command(command);
                if self.profile.broken_prefetch {
                    self.wedge_after(Some(0));
                }
                false
            }
            Some(Op::Resume) => {
                self.resume_stalled(Resume(command.0));
                false
            }
            Some(Op::StallTerm) => {
                self.stall_term(StallTerm(command.0));
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
                | Op::TlbiS2Ipa
                | Op::TlbiEl2All
                | Op::TlbiEl2Asid
                | Op::TlbiEl2Va
                | Op::TlbiEl2Vaa,
            ) => {
                self.invalidate(command, position, queue);
                false
            }
            // Maps of PARTIDs are not read, so none is cached.
            Some(Op::CfgiVmsPidm) => {
                self.observe(Observation::Applied { position, removed: 0 });
                false
            }
            Some(Op::AtcInv) => {
                self.invalidate_device(command, position, queue);
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
        let lane = self.lane(queue);
        let (prod, cons) = lane.indices();
        let ring = lane.ring(&self.profile);
        let full = ring.used(prod, cons) == Some(ring.entries());
        // The end of "full" is seen by whoever the event wakes.
        let room = full && self.sends_events();
        self.interrupts.event |= room;
        let shown = room || !self.profile.adversary.lazy_cons || self.random.one_in(2);
        let lane = self.lane_mut(queue);
        lane.cons = lane.cons.with_rd(next.into());
        if shown {
            lane.shown = lane.cons;
        }
        if synced {
            self.observe(Observation::SyncCompleted { queue, position });
            self.signal_completion(queue, &Sync(command.0));
        }
    }

    /// Everything that a CMD_SYNC guarantees (§4.2): invalidations take effect, and transfers that used
    /// what they hit are performed.
    /// Only of the commands of its own queue.
    fn complete(&mut self, queue: usize) {
        let own = |pending: &Pending| pending.queue == queue;
        let pending = || self.pending.iter().filter(|pending| own(pending));
        let reached: Vec<u64> = self
            .held
            .iter()
            .filter(|held| pending().any(|pending| pending.reaches(held)))
            .map(|held| held.id)
            .collect();
        self.apply_those(0, own);
        for id in reached {
            self.drain(id);
        }
        self.refresh_stalls();
        self.pending.retain(|pending| !own(pending));
        for once in self.once.iter_mut().filter(|once| once.queue == queue) {
            once.complete = true;
        }
        // Those of the CMD_SYNCs before are there (§4.2).
        self.deliver_messages(Some(queue));
        self.complete_devices(queue);
    }

    fn signal_completion(&mut self, queue: usize, sync: &Sync) {
        let event = sync.cs() == completion::SEV && self.sends_events();
        if sync.cs() != completion::IRQ && !event {
            return;
        }
        // Completion is visible in CMDQ_CONS no later than the signal.
        let lane = self.lane_mut(queue);
        lane.shown = lane.cons;
        if event {
            self.interrupts.event = true;
            return;
        }
        // The field has 32 bits.
        let msi = Msi { addr: sync.msi_addr(), data: sync.msi_data() as u32, ..Msi::default() };
        let sends = self.profile.idr0.msi() && msi.addr != 0;
        if sends && self.profile.adversary.late_messages && self.random.one_in(2) {
            self.messages.push_back((queue, msi));
            return;
        }
        self.send_message(msi);
    }

    fn send_message(&mut self, msi: Msi) {
        if self.signal(msi) {
            self.interrupts.cmd_sync = true;
        } else {
            self.raise(Gerror::default().with_msi_cmdq_abt_err(true));
        }
    }

    /// Lets messages arrive that are on their way: those of one queue, or of all.
    pub(crate) fn deliver_messages(&mut self, of: Option<usize>) {
        let mut left = std::mem::take(&mut self.messages);
        left.retain(|(queue, msi)| {
            let arrives = of.is_none_or(|of| of == *queue);
            if arrives {
                self.send_message(*msi);
            }
            !arrives
        });
        self.messages = left;
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

const fn name(queue: usize) -> &'static str {
    if queue == 0 { "CMDQ" } else { "ECMDQ" }
}
