// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue (§3, §4): many producers, nobody waits while holding anything, completion by the consumer index.
//!
//! [`CommandQueue::submit`] places a batch of commands and a CMD_SYNC behind them and returns a [`Ticket`];
//! [`CommandQueue::wait`] waits for it, with interrupts on. How producers share the queue is in
//! `tickets`, what becomes of refused commands in `refusals`.

use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::command::{Sync, completion};
use smmuv3_formats::register::{CmdqBase, CmdqCons, CmdqProd, Gerror, Gerrorn, cerror};
use smmuv3_formats::{COMMAND_BYTES, Command, Opcode, PhysAddr};

use crate::error::Failure;
use crate::platform::{Mmio, Platform};
use crate::queue::{Size, at};
use crate::refusals::{Finding, Refusals, is_retried};
use crate::spin::SpinLock;
use crate::state::{Moment, State};
use crate::sync;
use crate::tickets::{NoTicket, Poller, Tickets};

/// Aborted fetches of one command that are retried before the queue is given up.
const FETCH_RETRIES: u32 = 3;

/// How an SMMU tells those who wait that their commands are complete (CMD_SYNC.CS, §4.1): each batch ends in a CMD_SYNC
/// that asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// It does not: they look again and again, one for all.
    #[default]
    Poll,
    /// By its wired CMD_SYNC interrupt, which is edge-triggered; no message is sent. Its handler has nothing to tell the
    /// driver: that it ran, or that it wakes others, is what matters. See [`Platform::relax`].
    Interrupt,
    /// By an event for WFE on all CPUs, where the SMMU can send them ([`Features::events`]). Elsewhere as [`Poll`].
    ///
    /// [`Features::events`]: crate::Features::events
    /// [`Poll`]: Self::Poll
    Event,
}

/// The command queue of one SMMU.
pub struct CommandQueue {
    base: PhysAddr,
    /// The marks of `tickets`.
    marks: PhysAddr,
    /// Largest number of commands before a CMD_SYNC.
    largest_batch: u64,
    /// Nanoseconds that the SMMU may stand still.
    deadline: u64,
    /// What ends a batch.
    sync: Command,
    /// What invalidates has to be carried out twice.
    repeating: bool,
    tickets: Tickets,
    refusals: Refusals,
    /// Position at which the queue was last made empty: nobody carries out what was given before.
    began: AtomicU64,
    /// Taken by the caller that acknowledges errors.
    recovery: SpinLock<Aborts>,
    /// Each reset begins another one, so that what was found out about the SMMU before it is not held against it
    /// afterwards.
    state: State,
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
    /// How many commands had been refused before.
    refusals: u64,
}

impl Ticket {
    /// There is nothing to wait for.
    const ELIDED: Self = Self { start: u64::MAX, end: 0, refusals: u64::MAX - (1 << 16) };
}

/// How often in a row the SMMU could not fetch the command at one position.
#[derive(Clone, Copy, Default)]
struct Aborts {
    position: u64,
    count: u32,
}

impl CommandQueue {
    /// Takes memory for a queue of `size` from the platform. `largest_batch` commands may precede a CMD_SYNC;
    /// the SMMU may stand still for `deadline` nanoseconds. `None` when there is no memory, or for a queue of one
    /// entry, which has no room for a command and its CMD_SYNC.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub unsafe fn new<P: Platform>(
        platform: &P,
        size: Size,
        largest_batch: u32,
        deadline: u64,
    ) -> Option<Self> {
        if size.entries() < 2 {
            return None;
        }
        let base = platform.allocate_coherent(queue_bytes(size), queue_bytes(size).max(32))?;
        let Some(marks) = platform.allocate(marks_bytes(size), MARK_BYTES) else {
            // SAFETY: just allocated, and never shown to the SMMU.
            unsafe { platform.free_coherent(base, queue_bytes(size), queue_bytes(size).max(32)) };
            return None;
        };
        Some(Self {
            base,
            marks,
            // At most a quarter of the queue, so that it finds room beside others; at least one command.
            largest_batch: u64::from(largest_batch).min(size.entries() / 4).max(1),
            deadline,
            sync: Sync::new().into(),
            repeating: false,
            tickets: Tickets::new(size),
            refusals: Refusals::new(),
            began: AtomicU64::new(0),
            recovery: SpinLock::new(Aborts { position: 0, count: 0 }),
            state: State::new(),
            #[cfg(feature = "mutation")]
            omit_sync: false,
        })
    }

    /// The same queue, whose batches are to tell of their completion so. [`Completion::Event`] is for SMMUs that have it.
    #[must_use]
    pub fn telling(mut self, completion: Completion) -> Self {
        let how = match completion {
            Completion::Poll => completion::NONE,
            Completion::Interrupt => completion::IRQ,
            Completion::Event => completion::SEV,
        };
        // No address: no message.
        self.sync = Sync::new().with_cs(how).into();
        self.tickets.told = completion != Completion::Poll;
        self
    }

    /// The same queue, of an SMMU that has to be told twice of what it is to forget
    /// ([`Firmware::repeated_invalidation`](crate::Firmware::repeated_invalidation)): [`CommandQueue::carry_out`] gives each
    /// batch again once it was complete. Who submits and waits by itself does the same, where [`CommandQueue::repeats`].
    #[must_use]
    pub fn repeating(mut self) -> Self {
        self.repeating = true;
        self
    }

    /// Invalidations count only once they were complete, given again, and complete again.
    #[inline]
    pub fn repeats(&self) -> bool {
        self.repeating
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
        let bytes = queue_bytes(self.size());
        // SAFETY: allocated in `new` with these sizes; the caller says that the SMMU is done with it, and
        // `self` is consumed, so no CPU uses it.
        unsafe {
            platform.free_coherent(self.base, bytes, bytes.max(32));
            platform.free(self.marks, marks_bytes(self.size()), MARK_BYTES);
        }
    }

    /// What CMDQ_BASE is to hold.
    pub fn base_register(&self) -> CmdqBase {
        CmdqBase::default()
            .with_log2size(u64::from(self.size().log2()))
            .with_addr(self.base.0)
            .with_ra(true)
    }

    /// Makes the queue empty, for an SMMU whose PROD and CONS are about to be written as 0. The queue counts
    /// as failed until [`CommandQueue::resume`], so that nobody uses it meanwhile; whoever still waits for an
    /// earlier ticket is told that it failed. One caller at a time.
    pub(crate) fn restart<P: Platform>(&self, platform: &P) {
        // Who waits for one that sleeps waits for nothing.
        let asleep = self.state.now().is_asleep();
        if !asleep {
            self.give_up();
        }
        // A waiter learns by what is consumed that its ticket is done, and by this that it is not.
        let begins = |beginning| {
            if !asleep {
                self.began.store(beginning, Ordering::Release);
            }
        };
        self.tickets.close(self.marks(platform), || platform.relax(), begins);
    }

    /// Acknowledges every error, for an SMMU whose queue is off and given up: an active one would stop it. Returns
    /// those that were active.
    pub(crate) fn forget_errors<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Gerror {
        // Under the lock: whoever is recovering finishes before, and nobody begins while the queue is given up.
        self.recovery.with(platform, |aborts| {
            *aborts = Aborts::default();
            let errors = mmio.read32(Gerror::OFFSET);
            let active = Gerror(errors ^ mmio.read32(Gerrorn::OFFSET));
            mmio.write32(Gerrorn::OFFSET, errors);
            active
        })
    }

    /// Lets the queue be used again: the SMMU reads it.
    pub(crate) fn resume(&self) {
        debug_assert!(!self.state.now().works());
        self.tickets.open();
        self.state.work();
    }

    /// Lets nobody use the queue or its registers any more, for an SMMU whose SMMUEN is 0, and that has completed what it
    /// was given before that: what it is given now, and what is still on the way, counts as complete, since its
    /// caches are emptied before SMMUEN is 1 again. Until [`CommandQueue::resume`]; one caller at a time.
    pub(crate) fn sleep<P: Platform>(&self, platform: &P) {
        self.state.sleep();
        self.tickets.close(self.marks(platform), || platform.relax(), |_| ());
        self.state.wait_outside(|| platform.relax());
    }

    /// Whether the SMMU is suspended: whatever it is told counts as done.
    pub fn is_asleep(&self) -> bool {
        self.state.now().is_asleep()
    }

    /// Runs `look`, which accesses registers, unless the SMMU is suspended.
    #[cfg(feature = "alloc")]
    pub(crate) fn awake<P: Platform, R>(
        &self,
        platform: &P,
        look: impl FnOnce() -> R,
    ) -> Option<R> {
        let _inside = self.state.enter(platform.cpu())?;
        Some(look())
    }

    /// Whether the SMMU stopped answering: every submission fails until it is reset.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.state.now().has_failed()
    }

    /// Counts the SMMU as one that does not answer.
    pub(crate) fn give_up(&self) {
        self.state.fail();
    }

    /// Number of entries.
    #[inline]
    pub fn size(&self) -> Size {
        self.tickets.size()
    }

    /// Most commands of one batch, before its CMD_SYNC.
    #[inline]
    pub fn largest_batch(&self) -> usize {
        // Far below 2^32: a part of the queue.
        self.largest_batch as usize
    }

    /// Gives the SMMU a batch: `commands` in order, at most [`CommandQueue::largest_batch`] of them (the rest stays
    /// in the iterator), and a CMD_SYNC. Waits for nothing: `None` when there is no room just now. May be
    /// called in interrupt context; `commands` is asked with interrupts masked.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the SMMU had failed before. Nothing was placed.
    pub fn try_submit<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut impl ExactSizeIterator<Item = Command>,
    ) -> Result<Option<Ticket>, Failure> {
        if !self.state.now().works() {
            return self.elide(commands);
        }
        let refusals = self.refusals.count();
        let count = (commands.len() as u64).min(self.largest_batch);
        let slots = self.slots_for(count);
        // Between ticket and publication nothing may come, or those behind it would wait.
        let ticket = platform.mask_irqs(|| {
            let start = match self.tickets.draw(slots) {
                Ok(start) => start,
                Err(NoTicket::Full) => return Ok(None),
                Err(NoTicket::Closed) => return Err(Failure::Failed),
            };
            let end = start + slots;
            let slots = self.slots(platform);
            let mut run = Run { queue: self, platform, mmio, slots, start, next: start, end };
            while run.next != start + count
                && let Some(command) = commands.next()
            {
                run.push(command);
            }
            Ok(Some(Ticket { start, end, refusals }))
        });
        match ticket {
            // It may have been put to sleep just now.
            Err(_) => self.elide(commands),
            placed => placed,
        }
    }

    /// What becomes of commands for an SMMU that does not work.
    #[cold]
    fn elide(
        &self,
        commands: &mut impl ExactSizeIterator<Item = Command>,
    ) -> Result<Option<Ticket>, Failure> {
        if self.state.elides() {
            commands.for_each(drop);
            return Ok(Some(Ticket::ELIDED));
        }
        // It was woken just now: there is room in a moment.
        if self.state.now().works() { Ok(None) } else { Err(Failure::Failed) }
    }

    /// As [`CommandQueue::try_submit`], but waits while there is no room.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the SMMU had failed before; as [`CommandQueue::wait`] when it takes nothing out of
    /// the full queue. Nothing was placed.
    pub fn submit<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut impl ExactSizeIterator<Item = Command>,
    ) -> Result<Ticket, Failure> {
        loop {
            if let Some(ticket) = self.try_submit(platform, mmio, commands)? {
                return Ok(ticket);
            }
            self.wait_for_room(platform, mmio, commands.len())?;
            // Others may be about to take it.
            platform.relax();
        }
    }

    /// Waits until a batch of `commands` commands may find room. Others may be faster.
    ///
    /// # Errors
    /// As [`CommandQueue::wait`].
    pub fn wait_for_room<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: usize,
    ) -> Result<(), Failure> {
        let slots = self.slots_for((commands as u64).min(self.largest_batch));
        self.until(platform, mmio, || self.tickets.has_room(slots))
    }

    /// Gives the SMMU `commands`, however many, batch by batch, and waits until they are complete; twice each, where
    /// [`CommandQueue::repeats`].
    ///
    /// # Errors
    /// As [`CommandQueue::submit`] and [`CommandQueue::wait`]. Commands after the batch that failed were not given.
    pub fn carry_out<P: Platform, C>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: C,
    ) -> Result<(), Failure>
    where
        C: IntoIterator<Item = Command>,
        C::IntoIter: ExactSizeIterator + Clone,
    {
        let mut commands = commands.into_iter();
        loop {
            // ATC_INV is complete at once.
            let forgets = |commands: &C::IntoIter| {
                let first = commands.clone().next().and_then(|first| first.opcode());
                self.repeating && first != Some(Opcode::AtcInv)
            };
            let mut again = forgets(&commands).then(|| commands.clone());
            let before = commands.len();
            let ticket = self.submit(platform, mmio, &mut commands)?;
            self.wait(platform, mmio, ticket)?;
            if let Some(again) = &mut again {
                let ticket = self.submit(platform, mmio, again)?;
                self.wait(platform, mmio, ticket)?;
            }
            // The second, should it promise what never comes.
            if commands.len() == 0 || commands.len() == before {
                return Ok(());
            }
        }
    }

    /// Slots of a batch of `commands` commands; at least one, as a run has.
    #[inline]
    fn slots_for(&self, commands: u64) -> u64 {
        (commands + u64::from(self.syncs())).max(1)
    }

    /// Waits until the commands of `ticket`, which this queue gave, are complete. May be called in interrupt context.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the SMMU refused one of them, [`Failure::Forgotten`] when that is not known any more,
    /// [`Failure::Unreadable`] when it cannot fetch commands,
    /// [`Failure::Timeout`] or [`Failure::Failed`] when it does not answer.
    pub fn wait<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: Ticket,
    ) -> Result<(), Failure> {
        self.until(platform, mmio, || self.tickets.consumed() >= ticket.end)?;
        if ticket.start < self.began.load(Ordering::Acquire) {
            return Err(Failure::Failed);
        }
        match self.refusals.find(ticket.start, ticket.end, ticket.refusals) {
            Finding::None => Ok(()),
            Finding::Refused(command, code) => Err(Failure::Refused { command, code }),
            Finding::Forgotten => Err(Failure::Forgotten),
        }
    }

    /// Waits until `done`, recovering from command errors on the way.
    #[inline]
    fn until<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        done: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        // Most find it done at the first look.
        if done() {
            return Ok(());
        }
        // Whoever sleeps has nothing left to do.
        let Some(_inside) = self.state.enter(platform.cpu()) else { return Ok(()) };
        let epoch = self.state.now();
        let read = || CmdqCons(mmio.read32(CmdqCons::OFFSET)).rd() as u32;
        if epoch.works() && self.tickets.observe(read).is_ok() && done() {
            return Ok(());
        }
        self.until_later(platform, mmio, done)
    }

    /// As [`CommandQueue::until`], for whoever was not done at once.
    #[cold]
    #[inline(never)]
    fn until_later<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        done: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let mut poller = Poller::new(&self.tickets);
        // What was consumed while the SMMU had something to do, and since when it is no more.
        let mut still: Option<(u64, u64)> = None;
        loop {
            if done() {
                return Ok(());
            }
            let epoch = self.state.now();
            if epoch.is_asleep() {
                return Ok(());
            }
            if epoch.has_failed() {
                return Err(Failure::Failed);
            }
            let read = || CmdqCons(mmio.read32(CmdqCons::OFFSET)).rd() as u32;
            let check_errors = poller.turn(read).or_else(|register| self.ahead(epoch, register))?;
            if done() {
                return Ok(());
            }
            if check_errors {
                self.recover(platform, mmio)?;
            }
            let consumed = self.tickets.consumed();
            still = match still {
                // While it has nothing to do, others have: their commands are on the way.
                _ if consumed == self.tickets.published() => None,
                Some((before, since)) if before == consumed => {
                    let waited = platform.now().saturating_sub(since);
                    if waited > self.deadline {
                        // Perhaps it was this CPU that stood still: what counts is a look after that at the clock.
                        let looked = self.tickets.observe(read);
                        looked.or_else(|register| self.ahead(epoch, register).map(|_| ()))?;
                        if self.tickets.consumed() == consumed {
                            self.state.fail_since(epoch);
                            return Err(Failure::Timeout { waited });
                        }
                    }
                    still
                }
                _ => Some((consumed, platform.now())),
            };
            platform.relax();
        }
    }

    /// The consumer index showed `register`, which is ahead of what was published.
    fn ahead(&self, epoch: Moment, register: u32) -> Result<bool, Failure> {
        if self.state.now() != epoch {
            // It was read while a reset set both to a new beginning.
            return Ok(false);
        }
        self.state.fail_since(epoch);
        Err(Failure::Index { register })
    }

    /// If the queue stopped at an error: notes which command failed, makes it harmless, and lets the SMMU
    /// go on (§3.2). A command that could not be fetched is tried again; so is a CMD_SYNC before which devices did
    /// not answer.
    ///
    /// # Errors
    /// [`Failure::Unreadable`] when the SMMU cannot read the queue, even when retried, [`Failure::Index`] when it stopped
    /// where there is no command: it is then given up.
    pub fn recover<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Result<(), Failure> {
        if !command_error(mmio) {
            return Ok(());
        }
        self.recovery.with(platform, |aborts| {
            // Somebody else may have dealt with it before we had the lock. What is left of a failed SMMU is
            // acknowledged by its reset.
            let epoch = self.state.now();
            if !epoch.works() || !command_error(mmio) {
                return Ok(());
            }
            let cons = CmdqCons(mmio.read32(CmdqCons::OFFSET));
            let code = cons.err() as u8;
            let register = cons.rd() as u32 & (2 * self.size().entries() as u32 - 1);
            let position = self.size().after(self.tickets.consumed(), register);
            let slot = at(self.slots(platform), position);
            // Slots that are not published belong to whoever fills them.
            let (true, Some(slot)) = (position < self.tickets.published(), slot) else {
                self.state.fail_since(epoch);
                return Err(Failure::Index { register });
            };
            let words = slot.each_ref().map(|word| u64::from_le(word.load(Ordering::Relaxed)));
            let command = Command(words);
            if is_retried(code) {
                let count = if aborts.position == position { aborts.count } else { 0 };
                *aborts = Aborts { position, count: count + 1 };
                if aborts.count > FETCH_RETRIES {
                    self.state.fail_since(epoch);
                    return Err(Failure::Unreadable);
                }
            } else if u64::from(code) != cerror::ATC_INV_SYNC {
                // The SMMU fetches this slot again: it must find something that it accepts.
                let ends = command.opcode() == Some(Opcode::Sync);
                write(slot, if ends { self.sync } else { Sync::new().into() });
            }
            self.refusals.note(position, command, code);
            // Acknowledge this error alone; others are reported by their own handler.
            let acknowledged = Gerrorn(mmio.read32(Gerrorn::OFFSET));
            let acknowledged = acknowledged.with_cmdq_err(!acknowledged.cmdq_err());
            mmio.write32(Gerrorn::OFFSET, acknowledged.0);
            Ok(())
        })
    }

    /// Tells `sink` of all errors of commands that it was not told of yet, whoever recovered from them: the command, and
    /// `CMDQ_CONS.ERR` (§3.2). Returns how many more there were, which are not remembered.
    pub fn report_errors(&self, sink: &mut dyn FnMut(Command, u8)) -> u64 {
        self.refusals.report(sink)
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

    /// The memory that the SMMU reads.
    fn slots<'a, P: Platform>(&'a self, platform: &'a P) -> &'a [[AtomicU64; 2]] {
        let slots = platform.pointer(self.base).cast::<[AtomicU64; 2]>();
        // SAFETY: `new` allocated so many slots, aligned to 32 bytes, which live until `free` consumes the queue, and
        // CPUs access them as atomic words only.
        unsafe { slice::from_raw_parts(slots.as_ptr(), self.size().entries() as usize) }
    }

    /// The memory of the marks of `tickets`.
    fn marks<'a, P: Platform>(&'a self, platform: &'a P) -> &'a [sync::AtomicU64] {
        let marks = platform.pointer(self.marks).cast::<sync::AtomicU64>();
        // SAFETY: `new` allocated so many words, zeroed, aligned to 8 bytes, which live until `free` consumes the queue,
        // and are accessed as atomic words only.
        unsafe { slice::from_raw_parts(marks.as_ptr(), self.size().entries() as usize) }
    }
}

#[inline]
fn write(slot: &[AtomicU64; 2], command: Command) {
    for (word, value) in slot.iter().zip(command.0) {
        word.store(value.to_le(), Ordering::Relaxed);
    }
}

/// The slots of a ticket. However it ends, they are filled and published.
struct Run<'a, P: Platform> {
    queue: &'a CommandQueue,
    platform: &'a P,
    mmio: &'a P::Mmio,
    slots: &'a [[AtomicU64; 2]],
    start: u64,
    next: u64,
    end: u64,
}

impl<P: Platform> Run<'_, P> {
    /// The next command, for a slot before the end.
    fn push(&mut self, command: Command) {
        if let Some(slot) = at(self.slots, self.next) {
            write(slot, command);
        }
        self.next += 1;
    }
}

impl<P: Platform> Drop for Run<'_, P> {
    /// A CMD_SYNC ends the batch, and takes the place of commands that were promised and did not come.
    fn drop(&mut self) {
        while self.next != self.end {
            self.push(self.queue.sync);
        }
        let Self { queue, platform, mmio, start, end, .. } = *self;
        // The SMMU sees the commands before the index that covers them: `Mmio`'s contract.
        let tell = |position| mmio.write32(CmdqProd::OFFSET, queue.size().register(position));
        queue.tickets.publish(queue.marks(platform), start, end, tell);
    }
}

fn command_error(mmio: &impl Mmio) -> bool {
    let (error, acknowledged) =
        (Gerror(mmio.read32(Gerror::OFFSET)), Gerrorn(mmio.read32(Gerrorn::OFFSET)));
    error.cmdq_err() != acknowledged.cmdq_err()
}

const MARK_BYTES: usize = 8;

const fn queue_bytes(size: Size) -> usize {
    size.entries() as usize * COMMAND_BYTES
}

const fn marks_bytes(size: Size) -> usize {
    size.entries() as usize * MARK_BYTES
}
