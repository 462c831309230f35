// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue (§3, §4): many producers, completion by the consumer index.
//!
//! [`CommandQueue::submit`] places commands and a CMD_SYNC behind them and returns a [`Ticket`];
//! [`CommandQueue::wait`] waits for it, with interrupts on and nothing held. The slots are handed out under a
//! lock that is held for the stores of one batch only.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use smmuv3_formats::command::Sync;
use smmuv3_formats::register::{CmdqBase, CmdqCons, CmdqProd, Gerror, Gerrorn, cerror};
use smmuv3_formats::{COMMAND_BYTES, Command, PhysAddr};

use crate::error::Failure;
use crate::platform::{Mmio, Platform};
use crate::queue::Size;
use crate::spin::SpinLock;

/// Polls of the consumer index between two looks at the global error register.
const POLLS_PER_ERROR_CHECK: u32 = 16;
/// Aborted fetches of one command that are retried before the queue is given up.
const FETCH_RETRIES: u32 = 3;

/// The command queue of one SMMU.
pub struct CommandQueue {
    base: PhysAddr,
    size: Size,
    /// Largest number of commands before a CMD_SYNC.
    largest_batch: u64,
    /// Nanoseconds to wait for the SMMU.
    deadline: u64,
    /// Position of the next free slot. Changed under the lock.
    tail: SpinLock<u64>,
    /// An upper bound of what the SMMU was offered: the position that PROD shows, or is about to show.
    offered: AtomicU64,
    /// A lower bound of what the SMMU has consumed.
    consumed: AtomicU64,
    /// How many commands were refused, ever.
    refusals: AtomicU32,
    /// Position at which the queue was last made empty: nobody carries out what was given before.
    began: AtomicU64,
    /// Taken by the caller that acknowledges errors.
    recovery: SpinLock<Aborts>,
    /// Even while the SMMU works; odd while it does not answer, or is being reset. Each reset adds two, so that
    /// what was found out about the SMMU before it is not held against it afterwards.
    epoch: AtomicU32,
    /// What became of the command that was last in each slot: see [`Refusal`].
    refused: PhysAddr,
    #[cfg(feature = "mutation")]
    omit_sync: bool,
}

/// A batch of commands whose completion can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "commands have no effect that can be relied on before their ticket was waited for"]
pub struct Ticket {
    start: u64,
    /// Position after the CMD_SYNC.
    end: u64,
    refusals: u32,
}

/// How often in a row the SMMU could not fetch the command at one position.
#[derive(Clone, Copy, Default)]
struct Aborts {
    position: u64,
    count: u32,
}

/// Bytes of a slot's entry in the status array: a [`Refusal`], and the command.
const STATUS_BYTES: usize = 24;

/// A refused command's record in the status array: position + 1, and the error code in the top byte.
struct Refusal;

impl Refusal {
    const fn pack(position: u64, code: u8) -> u64 {
        (position + 1) & (u64::MAX >> 8) | (code as u64) << 56
    }

    /// The error code, if the record is about `position`, or about a later command in the same slot: that
    /// record may have taken the place of ours, so it counts as ours.
    const fn code_of(record: u64, position: u64) -> Option<u8> {
        if record & (u64::MAX >> 8) > position { Some((record >> 56) as u8) } else { None }
    }
}

impl CommandQueue {
    /// Takes memory for a queue of `size` from the platform. `largest_batch` commands may precede a CMD_SYNC;
    /// the SMMU has `deadline` nanoseconds to answer. `None` when there is no memory, or for a queue of one
    /// entry, which has no room for a command and its CMD_SYNC.
    pub fn new<P: Platform>(
        platform: &P,
        size: Size,
        largest_batch: u32,
        deadline: u64,
    ) -> Option<Self> {
        if size.entries() < 2 {
            return None;
        }
        let base = platform.allocate_coherent(queue_bytes(size), queue_bytes(size).max(32))?;
        let Some(refused) = platform.allocate(status_bytes(size), 8) else {
            // SAFETY: just allocated, and never shown to the SMMU.
            unsafe { platform.free_coherent(base, queue_bytes(size), queue_bytes(size).max(32)) };
            return None;
        };
        Some(Self {
            base,
            size,
            // At most half the queue, so that two producers fit; at least one command beside the SYNC.
            largest_batch: u64::from(largest_batch).min(size.entries() / 2).max(1),
            deadline,
            tail: SpinLock::new(0),
            offered: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            refusals: AtomicU32::new(0),
            began: AtomicU64::new(0),
            recovery: SpinLock::new(Aborts { position: 0, count: 0 }),
            epoch: AtomicU32::new(0),
            refused,
            #[cfg(feature = "mutation")]
            omit_sync: false,
        })
    }

    /// Leaves every CMD_SYNC out: for a driver that is wrong on purpose.
    #[cfg(feature = "mutation")]
    pub(crate) fn omit_sync(&mut self) {
        self.omit_sync = true;
    }

    const fn syncs(&self) -> bool {
        #[cfg(feature = "mutation")]
        return !self.omit_sync;
        #[cfg(not(feature = "mutation"))]
        true
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// The SMMU cannot access the queue: CMDQEN was seen 0, or the queue was never enabled.
    pub unsafe fn free<P: Platform>(self, platform: &P) {
        let bytes = queue_bytes(self.size);
        // SAFETY: allocated in `new` with these sizes; the caller says that the SMMU is done with it, and
        // `self` is consumed, so no CPU uses it.
        unsafe {
            platform.free_coherent(self.base, bytes, bytes.max(32));
            platform.free(self.refused, status_bytes(self.size), 8);
        }
    }

    /// What CMDQ_BASE is to hold.
    pub fn base_register(&self) -> CmdqBase {
        CmdqBase::default()
            .with_log2size(u64::from(self.size.log2()))
            .with_addr(self.base.0)
            .with_ra(true)
    }

    /// Makes the queue empty, for an SMMU whose PROD and CONS are about to be written as 0. The queue counts
    /// as failed until [`CommandQueue::resume`], so that nobody uses it meanwhile; whoever still waits for an
    /// earlier ticket is told that it failed.
    pub(crate) fn restart<P: Platform>(&self, platform: &P) {
        self.tail.with(platform, |tail| {
            // Under the lock: whoever has it now has written CMDQ_PROD before we do, and nobody will later.
            self.give_up();
            // A position at which both registers show 0.
            *tail = tail.next_multiple_of(2 * self.size.entries());
            self.offered.store(*tail, Ordering::Release);
            // Before `consumed`, by which a waiter learns that its ticket is done.
            self.began.store(*tail, Ordering::Release);
            self.consumed.store(*tail, Ordering::Release);
        });
    }

    /// Acknowledges every error, for an SMMU whose queue is off and given up: an active one would stop it.
    pub(crate) fn forget_errors<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        // Under the lock: whoever is recovering finishes before, and nobody begins while the queue is given up.
        self.recovery.with(platform, |aborts| {
            *aborts = Aborts::default();
            mmio.write32(Gerrorn::OFFSET, Gerror(mmio.read32(Gerror::OFFSET)).0);
        });
    }

    /// Lets the queue be used again: the SMMU reads it.
    pub(crate) fn resume(&self) {
        debug_assert!(self.has_failed());
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the SMMU stopped answering: every submission fails until it is reset.
    pub fn has_failed(&self) -> bool {
        is_failed(self.epoch.load(Ordering::Acquire))
    }

    /// Counts the SMMU as one that does not answer.
    pub(crate) fn give_up(&self) {
        self.epoch.fetch_or(1, Ordering::AcqRel);
    }

    /// As [`CommandQueue::give_up`], unless the SMMU was reset since `epoch`.
    fn give_up_since(&self, epoch: u32) {
        // Failing means that it is given up already, or was reset: both are as well.
        let _ = self.epoch.compare_exchange(epoch, epoch | 1, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Number of entries.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Gives the SMMU `commands` in order, and a CMD_SYNC after them. May be called in interrupt context.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the SMMU had failed before, [`Failure::Timeout`] when the queue stays full;
    /// commands that were already placed may still be carried out.
    pub fn submit<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<Ticket, Failure> {
        let refusals = self.refusals.load(Ordering::Acquire);
        let mut commands = commands.into_iter().peekable();
        let mut start = None;
        loop {
            let placed = self.place(platform, mmio, &mut commands)?;
            let start = *start.get_or_insert(placed.start);
            if commands.peek().is_none() {
                return Ok(Ticket { start, end: placed.end, refusals });
            }
        }
    }

    /// Waits until the commands of `ticket` are complete. May be called in interrupt context.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the SMMU refused one of them (the others were carried out),
    /// [`Failure::Timeout`] or [`Failure::Failed`] when it does not answer.
    pub fn wait<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: Ticket,
    ) -> Result<(), Failure> {
        self.until(platform, mmio, || self.consumed.load(Ordering::Acquire) >= ticket.end)?;
        if ticket.start < self.began.load(Ordering::Acquire) {
            // The queue was emptied by a reset before the SMMU had carried it out.
            return Err(Failure::Failed);
        }
        if self.refusals.load(Ordering::Acquire) == ticket.refusals {
            return Ok(());
        }
        for position in ticket.start..ticket.end {
            let [record, words @ ..] = self.status(platform, position);
            if let Some(code) = Refusal::code_of(record.load(Ordering::Acquire), position) {
                let command = Command(words.map(|word| word.load(Ordering::Relaxed)));
                return Err(Failure::Refused { command, code });
            }
        }
        Ok(())
    }

    /// Places as many commands as one batch takes, and a CMD_SYNC.
    fn place<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut impl Iterator<Item = Command>,
    ) -> Result<Ticket, Failure> {
        let needed = self.largest_batch.min(self.size.entries() - 1) + 1;
        loop {
            if self.has_failed() {
                return Err(Failure::Failed);
            }
            let placed = self.tail.with(platform, |tail| {
                // Looked at again under the lock: see `restart`.
                if self.has_failed()
                    || *tail + needed > self.consumed.load(Ordering::Acquire) + self.size.entries()
                {
                    return None;
                }
                let start = *tail;
                for command in commands.by_ref().take(needed as usize - 1) {
                    self.write(platform, *tail, command);
                    *tail += 1;
                }
                if self.syncs() {
                    self.write(platform, *tail, Sync::new().into());
                    *tail += 1;
                }
                // Never less than what the SMMU can have consumed.
                self.offered.store(*tail, Ordering::Release);
                // The SMMU sees the commands before the index that covers them: `Mmio`'s contract.
                mmio.write32(CmdqProd::OFFSET, self.size.register(*tail));
                Some(Ticket { start, end: *tail, refusals: 0 })
            });
            if let Some(ticket) = placed {
                return Ok(ticket);
            }
            let enough = || {
                let tail = self.tail.with(platform, |tail| *tail);
                tail + needed <= self.consumed.load(Ordering::Acquire) + self.size.entries()
            };
            self.until(platform, mmio, enough)?;
        }
    }

    /// Polls the SMMU until `done`, recovering from command errors on the way.
    fn until<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        done: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        if done() {
            return Ok(());
        }
        let begun = platform.now();
        let mut polls = 0u32;
        loop {
            let epoch = self.epoch.load(Ordering::Acquire);
            if is_failed(epoch) {
                return Err(Failure::Failed);
            }
            self.poll(mmio, epoch)?;
            if done() {
                return Ok(());
            }
            polls = polls.wrapping_add(1);
            if polls % POLLS_PER_ERROR_CHECK == 1 {
                self.recover(platform, mmio)?;
            }
            let waited = platform.now().saturating_sub(begun);
            if waited > self.deadline {
                self.give_up_since(epoch);
                return Err(Failure::Timeout { waited });
            }
            platform.relax();
        }
    }

    /// Learns what the SMMU has consumed.
    fn poll(&self, mmio: &impl Mmio, epoch: u32) -> Result<(), Failure> {
        // Loaded before the register is read: then what the register shows is not behind it. It may be more than
        // a queue ahead, when others were faster; the sum is still not more than what was consumed.
        let behind = self.consumed.load(Ordering::Acquire);
        let register = CmdqCons(mmio.read32(CmdqCons::OFFSET)).rd() as u32;
        let position = self.size.after(behind, register);
        if position > self.offered.load(Ordering::Acquire) {
            if self.epoch.load(Ordering::Acquire) != epoch {
                // It was read while a reset set both to a new beginning.
                return Ok(());
            }
            self.give_up_since(epoch);
            return Err(Failure::Index { register });
        }
        self.consumed.fetch_max(position, Ordering::AcqRel);
        Ok(())
    }

    /// If the queue stopped at an error: notes which command failed, makes it harmless, and lets the SMMU
    /// go on (§3.2). Returns the error's command and code when this call dealt with one.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the SMMU cannot read the queue, even when retried: it is then given up.
    pub fn recover<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
    ) -> Result<Option<(Command, u8)>, Failure> {
        if !command_error(mmio) {
            return Ok(None);
        }
        self.recovery.with(platform, |aborts| {
            // Somebody else may have dealt with it before we had the lock. What is left of a failed SMMU is
            // acknowledged by its reset.
            let epoch = self.epoch.load(Ordering::Acquire);
            if is_failed(epoch) || !command_error(mmio) {
                return Ok(None);
            }
            let cons = CmdqCons(mmio.read32(CmdqCons::OFFSET));
            let code = cons.err() as u8;
            let behind = self.consumed.load(Ordering::Acquire);
            let register = cons.rd() as u32 & (2 * self.size.entries() as u32 - 1);
            let position = self.size.position(behind, register).map_err(|_| {
                self.give_up_since(epoch);
                Failure::Index { register }
            })?;
            let command =
                Command(self.slot(platform, position).map(|word| word.load(Ordering::Relaxed)));
            if u64::from(code) == cerror::ABT {
                let count = if aborts.position == position { aborts.count } else { 0 };
                *aborts = Aborts { position, count: count + 1 };
                if aborts.count > FETCH_RETRIES {
                    self.give_up_since(epoch);
                    return Err(Failure::Refused { command, code });
                }
            } else {
                let [record, words @ ..] = self.status(platform, position);
                for (word, value) in words.iter().zip(command.0) {
                    word.store(value, Ordering::Relaxed);
                }
                record.store(Refusal::pack(position, code), Ordering::Release);
                self.refusals.fetch_add(1, Ordering::AcqRel);
                if u64::from(code) != cerror::ATC_INV_SYNC {
                    // The SMMU fetches this slot again: it must find something that it accepts.
                    self.write(platform, position, Sync::new().into());
                }
            }
            // Acknowledge this error alone; others are reported by their own handler.
            let acknowledged = Gerrorn(mmio.read32(Gerrorn::OFFSET));
            let acknowledged = acknowledged.with_cmdq_err(!acknowledged.cmdq_err());
            mmio.write32(Gerrorn::OFFSET, acknowledged.0);
            Ok(Some((command, code)))
        })
    }

    /// Acknowledges every active error other than a refused command, and returns them.
    pub fn acknowledge<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Gerror {
        // Under the lock: GERRORN holds the acknowledgement of refused commands too, which must not be undone.
        self.recovery.with(platform, |_| {
            let acknowledged = Gerrorn(mmio.read32(Gerrorn::OFFSET));
            let active = Gerror(mmio.read32(Gerror::OFFSET) ^ acknowledged.0).with_cmdq_err(false);
            if active.0 != 0 {
                mmio.write32(Gerrorn::OFFSET, acknowledged.0 ^ active.0);
            }
            active
        })
    }

    fn write<P: Platform>(&self, platform: &P, position: u64, command: Command) {
        let slot = self.slot(platform, position);
        for (word, value) in slot.iter().zip(command.0) {
            word.store(value.to_le(), Ordering::Relaxed);
        }
    }

    fn slot<'p, P: Platform>(&self, platform: &'p P, position: u64) -> [&'p AtomicU64; 2] {
        let offset = (self.size.slot(position) * COMMAND_BYTES) as u64;
        [0, 8].map(|byte| {
            let word = platform.pointer(PhysAddr(self.base.0 + offset + byte)).cast::<AtomicU64>();
            // SAFETY: `slot` is below the number of entries, so this lies in the memory allocated in `new`,
            // 8-byte aligned, and is only ever accessed as atomic words by CPUs.
            unsafe { &*word.as_ptr() }
        })
    }

    /// The record of the slot of `position`, and the two words of the command that it is about.
    fn status<'p, P: Platform>(&self, platform: &'p P, position: u64) -> [&'p AtomicU64; 3] {
        let offset = (self.size.slot(position) * STATUS_BYTES) as u64;
        [0, 8, 16].map(|byte| {
            let word = platform.pointer(PhysAddr(self.refused.0 + offset + byte));
            // SAFETY: as in `slot`: inside the array allocated in `new`, aligned, and always atomic.
            unsafe { &*word.cast::<AtomicU64>().as_ptr() }
        })
    }
}

const fn is_failed(epoch: u32) -> bool {
    epoch & 1 == 1
}

fn command_error(mmio: &impl Mmio) -> bool {
    let (error, acknowledged) =
        (Gerror(mmio.read32(Gerror::OFFSET)), Gerrorn(mmio.read32(Gerrorn::OFFSET)));
    error.cmdq_err() != acknowledged.cmdq_err()
}

const fn queue_bytes(size: Size) -> usize {
    size.entries() as usize * COMMAND_BYTES
}

const fn status_bytes(size: Size) -> usize {
    size.entries() as usize * STATUS_BYTES
}
