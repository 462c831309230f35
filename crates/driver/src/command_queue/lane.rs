// SPDX-License-Identifier: MIT OR Apache-2.0
//! One of the queues that an SMMU takes commands from, in memory and by its registers. The SMMU carries out the
//! commands of each by themselves: a CMD_SYNC completes those of its own queue (§2.6).

mod recover;
mod run;
mod wait;

use core::mem::ManuallyDrop;
use core::slice;

use smmuv3_formats::command::{Sync, completion};
use smmuv3_formats::register::CmdqBase;
use smmuv3_formats::{COMMAND_BYTES, Command, PhysAddr};

use super::judge::Judge;
use super::port::Port;
use super::{Common, Ticket};
use crate::mutation::LeftOut;
use crate::platform::Platform;
use crate::queue::{Size, at};
use crate::refusals::Refusals;
use crate::spin::SpinLock;
use crate::state::Moment;
use crate::sync::plain::{AtomicU32, AtomicU64};
use crate::sync::{self, Ordering};
use crate::tickets::{Drawn, NoTicket, Tickets};
use recover::Aborts;
pub(super) use run::Run;

/// Whether a reset shows what it finds in a queue. All that is given again are answers to page requests, which are not there
/// without ATS.
pub(super) const SHOWS: bool = cfg!(feature = "ats");

/// A queue of commands.
pub(super) struct Lane {
    port: Port,
    judge: Judge,
    /// What is left out of commands.
    pub(super) left_out: LeftOut,
    base: PhysAddr,
    /// The marks of `tickets`.
    marks: PhysAddr,
    /// The word that CMD_SYNCs write to, if they do.
    word: Option<PhysAddr>,
    /// The CMD_SYNC that ends each batch, without its message's data.
    sync: Command,
    /// Bits of a CMD_SYNC's first word that are its message's data: the low half of the position after it.
    stamp: u64,
    tickets: Tickets,
    refusals: Refusals,
    /// Position at which a reset last made the queue empty: commands from before it are never carried out.
    began: AtomicU64,
    /// Position up to which all messages have arrived: unless commands were placed since, none is on its way.
    silenced: AtomicU64,
    /// The position after the last command that a reset has to show, if it was not consumed; 0 if there is none.
    unshown: AtomicU64,
    /// How many positions resets have skipped: no command was ever in them.
    skipped: AtomicU64,
    /// Held while errors are acknowledged.
    pub(super) recovery: SpinLock<Aborts>,
}

/// The memory of a queue, whose slots the SMMU reads.
pub(super) struct Ring {
    size: Size,
    base: PhysAddr,
    marks: PhysAddr,
}

impl Ring {
    /// Takes memory for a queue of `size` from the platform; `None` when there is none.
    pub(super) fn new<P: Platform>(platform: &P, size: Size) -> Option<Self> {
        let base = platform.allocate_coherent(queue_bytes(size), queue_bytes(size).max(32))?;
        let Some(marks) = platform.allocate(marks_bytes(size), MARK_BYTES) else {
            // SAFETY: just allocated, and never shown to the SMMU.
            unsafe { platform.free_coherent(base, queue_bytes(size), queue_bytes(size).max(32)) };
            return None;
        };
        Some(Self { size, base, marks })
    }

    /// Gives it back.
    ///
    /// # Safety
    /// It is that of `new`, with this platform. The SMMU cannot access the queue, and no CPU does.
    pub(super) unsafe fn free<P: Platform>(self, platform: &P) {
        let bytes = queue_bytes(self.size);
        // SAFETY: allocated in `new` with these sizes; the caller says that nobody uses it.
        unsafe {
            platform.free_coherent(self.base, bytes, bytes.max(32));
            platform.free(self.marks, marks_bytes(self.size), MARK_BYTES);
        }
    }
}

/// What one who gave a batch knows when it looks for it.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// The position up to which commands were consumed before it was placed.
    pub(super) consumed: u64,
    /// Up to which they are published; 0 if others do it.
    pub(super) published: u64,
}

impl Lane {
    /// A queue in that memory.
    ///
    /// # Safety
    /// All other methods are given the platform of [`Ring::new`].
    pub(super) unsafe fn new(Ring { size, base, marks }: Ring, port: Port) -> Self {
        Self {
            port,
            judge: Judge::new(),
            left_out: LeftOut::default(),
            base,
            marks,
            word: None,
            sync: Sync::new().into(),
            stamp: 0,
            tickets: Tickets::new(size),
            refusals: Refusals::new(),
            began: AtomicU64::new(0),
            silenced: AtomicU64::new(0),
            unshown: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            recovery: SpinLock::new(Aborts::default()),
        }
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// The SMMU cannot access the queue.
    pub(super) unsafe fn free<P: Platform>(self, platform: &P) {
        let Self { base, marks, .. } = self;
        // SAFETY: it is the memory of `Ring::new`; the caller says that the SMMU is done with it, and `self` is consumed, so no
        // CPU uses it.
        unsafe { Ring { size: self.size(), base, marks }.free(platform) };
    }

    /// Judges all commands from now on, and at once the CMD_SYNC that ends batches.
    pub(super) fn judge_by(&mut self, judge: Judge) {
        self.judge = judge;
        judge.accept(&self.sync);
    }

    /// Makes `sync` what ends each batch; `told` where its completion wakes those who wait.
    pub(super) fn end_with(&mut self, sync: Sync, told: bool) {
        self.sync = sync.into();
        self.tickets.told = told;
    }

    /// Lets each CMD_SYNC write to `word`, 32 bits of coherent memory, how far the SMMU has come.
    pub(super) fn end_with_message(&mut self, word: PhysAddr) {
        const WRITE_BACK: u64 = 0xf;
        const INNER_SHAREABLE: u64 = 3;
        let sync = Sync::new().with_cs(completion::IRQ).with_msi_addr(word.0);
        self.sync = sync.with_msi_attr(WRITE_BACK).with_msh(INNER_SHAREABLE).into();
        self.stamp = u64::MAX << 32;
        self.word = Some(word);
    }

    /// The word that CMD_SYNCs write to, if they do: never where that was left out, which is known when it is compiled.
    #[inline]
    const fn word(&self) -> Option<PhysAddr> {
        if cfg!(feature = "sync-messages") { self.word } else { None }
    }

    pub(super) fn size(&self) -> Size {
        self.tickets.size()
    }

    /// What CMDQ_BASE is to hold.
    pub(super) fn base_register(&self) -> CmdqBase {
        self.port.base_register(self.size(), self.base)
    }

    /// How many commands the SMMU was told of, and in how many batches. Not while it is being reset.
    pub(super) fn counts(&self) -> (u64, u64) {
        let skipped = self.skipped.load(Ordering::Relaxed);
        (self.tickets.published().saturating_sub(skipped), self.tickets.runs())
    }

    pub(super) fn port(&self) -> &Port {
        &self.port
    }

    /// Lets no tickets be drawn, before an SMMU is told to use the queue no more, or when it sleeps: it does not count as working by
    /// now. Nobody writes PROD after that, neither who had drawn a ticket nor who deals with an error: of an enhanced queue that
    /// would turn it on again (§2.6). What was given before and is not consumed has `failed`, if it is not complete since the SMMU
    /// is asleep. Returns whether no message can be on its way that was not when the last one was waited for.
    pub(super) fn stop<P: Platform>(&self, platform: &P, failed: bool) -> bool {
        // Nobody begins to deal with an error behind this, since the SMMU does not count as working.
        self.recovery.with(platform, |_| ());
        let was_open = !self.tickets.is_closed();
        let end = self.close(platform, failed);
        // What an SMMU that sleeps has not come to counts as done: nothing of it is shown.
        if SHOWS && was_open && failed {
            self.unshown.store(end, Ordering::Relaxed);
        }
        !was_open || self.word().is_none() || end == self.silenced.load(Ordering::Relaxed)
    }

    /// Makes the queue empty after [`Lane::stop`], for an SMMU that does not use it, and shows it to that. What was given before
    /// and is not consumed is shown to `unheard`.
    pub(super) fn restart<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        unheard: Option<&mut dyn FnMut(Command)>,
    ) {
        debug_assert!(self.tickets.is_closed());
        // If nothing is left of it, an earlier reset has shown its unconsumed commands, or a suspend has let it
        // run empty; CONS does not refer to this epoch any more.
        let end = if SHOWS { self.unshown.swap(0, Ordering::Relaxed) } else { 0 };
        self.recovery.with(platform, |aborts| {
            if let Some(unheard) = unheard {
                // An index that makes no sense comes from an SMMU that is gone: then nothing is shown.
                let register = self.size().register(self.port.consumed(mmio).into());
                let consumed = self.size().position(self.tickets.consumed(), register);
                for position in consumed.unwrap_or(end)..end {
                    self.command(platform, position).into_iter().for_each(&mut *unheard);
                }
            }
            *aborts = Aborts::default();
            self.port.reset(mmio, self.size(), self.base);
        });
    }

    /// Lets no tickets be drawn, waits until those that were are published, and returns the position after the last.
    fn close<P: Platform>(&self, platform: &P, failed: bool) -> u64 {
        // A waiter takes its ticket for complete once `consumed` has passed it; `began` tells it that a reset discarded
        // the ticket instead.
        let begins = |beginning| {
            let skipped = beginning - self.tickets.published();
            self.skipped.fetch_add(skipped, Ordering::Relaxed);
            if failed {
                self.began.store(beginning, Ordering::Release);
            }
        };
        let marks = self.marks(platform, self.size());
        self.tickets.close(|| platform.relax());
        // Whoever acknowledges an error waits for this with interrupts masked.
        platform.mask_irqs(|| self.tickets.begin(marks, begins))
    }

    /// The messages of all before `ticket` have arrived.
    pub(super) fn silenced(&self, ticket: Ticket) {
        self.silenced.store(ticket.end, Ordering::Relaxed);
    }

    /// Lets tickets be drawn again.
    pub(super) fn open(&self) {
        self.tickets.open();
    }

    /// The CMD_SYNC of the batch that ends before position `end`.
    #[inline]
    fn sync(&self, end: u64) -> Command {
        let Command([low, high]) = self.sync;
        let stamp = if cfg!(feature = "sync-messages") { end << 32 & self.stamp } else { 0 };
        Command([low | stamp, high])
    }

    /// Gives the SMMU a batch of `slots` commands, at least one: what `fill` pushes, and a CMD_SYNC in each slot that
    /// is left. `moment` is the state as it was when the caller found the SMMU working.
    #[inline(always)]
    pub(super) fn place<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        slots: u64,
        (number, moment): (u32, Moment),
        fill: impl FnOnce(&mut Run<'_, P, false>),
    ) -> Result<Ticket, NoTicket> {
        let draw = move || self.tickets.draw(slots);
        let (start, _) = self.place_drawn(platform, mmio, slots, draw, fill)?;
        Ok(Ticket { start, end: start + slots, lane: number.into(), moment })
    }

    /// As [`Lane::place`], of the command queue itself, for someone who looks next, and will place it with more care if
    /// there is no room just now.
    #[inline(always)]
    pub(super) fn place_at_once<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        slots: u64,
        moment: Moment,
        fill: impl FnOnce(&mut Run<'_, P, true>),
    ) -> Option<(Ticket, Known)> {
        let consumed = self.tickets.consumed();
        let draw = move || self.tickets.draw_at_once(slots, consumed);
        let (start, published) = self.place_drawn(platform, mmio, slots, draw, fill).ok()?;
        let ticket = Ticket { start, end: start + slots, lane: 0, moment };
        Some((ticket, Known { consumed, published }))
    }

    /// As [`Lane::place_at_once`], for a batch of one command, the commonest. `LOOKS`: whether the caller looks at once
    /// for completion. It has no effect but that each of the two callers has its own inlined copy.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(super) fn place_one<P: Platform, const LOOKS: bool>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        moment: Moment,
        command: Command,
    ) -> Option<(Ticket, Known)> {
        const SLOTS: u64 = 2;
        let command = self.left_out.given(command);
        // Whatever may panic comes before the ticket is drawn, since nobody would publish its slots then.
        self.judge.accept(&command);
        let size = self.size();
        let (slots, marks) = (self.slots(platform, size), self.marks(platform, size));
        let consumed = self.tickets.consumed();
        let (start, published) = platform.mask_irqs(move || {
            let drawn = self.tickets.draw_at_once(SLOTS, consumed).ok()?;
            let start = drawn.start;
            if let Some(slot) = at(slots, start) {
                write(slot, command);
            }
            if let Some(slot) = at(slots, start + 1) {
                write(slot, self.sync);
            }
            let shown = size.shown();
            let tell = move |position| Port::tell_main(mmio, shown.at(position));
            Some((start, self.tickets.publish(marks, drawn, start + SLOTS, tell)))
        })?;
        let ticket = Ticket { start, end: start + SLOTS, lane: 0, moment };
        Some((ticket, Known { consumed, published }))
    }

    #[inline(always)]
    fn place_drawn<P: Platform, const DIRECT: bool>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        slots: u64,
        draw: impl FnOnce() -> Result<Drawn, NoTicket>,
        fill: impl FnOnce(&mut Run<'_, P, DIRECT>),
    ) -> Result<(u64, u64), NoTicket> {
        // Read once: the compiler does not know that the size never changes.
        let size = self.size();
        // No interrupt between drawing the ticket and publishing it: producers behind this one would wait for that
        // long.
        platform.mask_irqs(move || {
            let drawn = draw()?;
            let (start, end) = (drawn.start, drawn.start + slots);
            let slots = self.slots(platform, size);
            let run = Run { lane: self, platform, mmio, size, slots, drawn, next: start, end };
            let mut run = run;
            fill(&mut run);
            Ok((start, ManuallyDrop::new(run).close()))
        })
    }

    /// Whether the commands of `ticket` are complete, and nothing happened since they were given: at the first look, or the
    /// second, most find it so.
    #[inline]
    pub(super) fn has_done<P: Platform>(
        &self,
        common: &Common,
        platform: &P,
        mmio: &P::Mmio,
        ticket: &Ticket,
    ) -> bool {
        let (end, consumed) = (ticket.end, self.tickets.consumed());
        if consumed < end {
            let Some(_inside) = common.state.enter(platform.cpu()) else { return false };
            let complete = match self.word() {
                None => {
                    let known = (consumed, 0);
                    self.tickets.has_reached(end, known, || self.port.consumed(mmio))
                }
                Some(_) => self.observe(platform, mmio).is_ok_and(|consumed| {
                    self.tickets.share_if_much(consumed);
                    consumed >= end
                }),
            };
            if !complete {
                return false;
            }
        }
        common.state.is_undisturbed_since(ticket.moment)
    }

    /// The position up to which the SMMU is known to have consumed commands.
    #[cfg(feature = "alloc")]
    #[inline]
    pub(super) fn consumed(&self) -> u64 {
        self.tickets.consumed()
    }

    /// Lets others know up to which position commands are consumed.
    #[cfg(feature = "alloc")]
    pub(super) fn share(&self, consumed: u64) {
        self.tickets.share(consumed);
    }

    /// As [`Lane::has_done`], for a caller that has been counted as being at the registers since
    /// [`Lane::place_at_once`], which returned `known`.
    #[inline(always)]
    pub(super) fn has_done_directly<P: Platform>(
        &self,
        common: &Common,
        mmio: &P::Mmio,
        ticket: &Ticket,
        known: Known,
    ) -> bool {
        let known = (known.consumed, known.published);
        self.tickets.has_reached(ticket.end, known, || Port::main_consumed(mmio))
            && common.state.is_undisturbed_since(ticket.moment)
    }

    /// The position up to which the SMMU has consumed commands, by its register or by the last message.
    ///
    /// # Errors
    /// The register, when it is ahead of what was published.
    #[inline]
    pub(super) fn observe<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Result<u64, u32> {
        match self.word() {
            None => self.tickets.observe(&mut 0, || self.port.consumed(mmio)),
            Some(word) => {
                let heard = || u32::from_le(message(platform, word).load(Ordering::Acquire));
                Ok(self.tickets.hear(&mut 0, heard))
            }
        }
    }

    /// See [`CommandQueue::report_errors`](super::CommandQueue::report_errors).
    pub(super) fn report_errors(&self, sink: &mut dyn FnMut(Command, u8)) -> u64 {
        self.refusals.report(sink)
    }

    /// The memory that the SMMU reads, of the size that this has.
    fn slots<'a, P: Platform>(&'a self, platform: &'a P, size: Size) -> &'a [[AtomicU64; 2]] {
        let slots = platform.pointer(self.base).cast::<[AtomicU64; 2]>();
        // SAFETY: `Ring::new` allocated so many slots, aligned to 32 bytes, which live until `free` consumes the queue, and
        // CPUs access them as atomic words only.
        unsafe { slice::from_raw_parts(slots.as_ptr(), size.entries() as usize) }
    }

    /// The command in the slot of `position`.
    fn command<P: Platform>(&self, platform: &P, position: u64) -> Option<Command> {
        at(self.slots(platform, self.size()), position).map(read)
    }

    /// The memory of the marks of `tickets`, of the size that this has.
    fn marks<'a, P: Platform>(&'a self, platform: &'a P, size: Size) -> &'a [sync::AtomicU64] {
        let marks = platform.pointer(self.marks).cast::<sync::AtomicU64>();
        // SAFETY: `Ring::new` allocated so many words, zeroed, aligned to 8 bytes, which live until `free` consumes the queue,
        // and are accessed as atomic words only.
        unsafe { slice::from_raw_parts(marks.as_ptr(), size.entries() as usize) }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
impl Lane {
    /// See [`CommandQueue::places`](super::CommandQueue::places).
    pub(super) fn places<P: Platform>(
        &self,
        platform: &P,
    ) -> [(&'static str, core::ops::Range<usize>); 4] {
        let memory = |memory: PhysAddr, bytes| {
            let first = platform.pointer(memory).as_ptr() as usize;
            first..first + bytes
        };
        let [claims, consumed] = self.tickets.places();
        [
            ("claims of room, and tickets", claims),
            ("what is known to be consumed", consumed),
            ("slots", memory(self.base, queue_bytes(self.size()))),
            ("marks of runs", memory(self.marks, marks_bytes(self.size()))),
        ]
    }
}

/// The word that messages go to.
fn message<P: Platform>(platform: &P, word: PhysAddr) -> &AtomicU32 {
    // SAFETY: the owner of the lanes allocated it, aligned, for as long as they live; CPUs access it as this one word,
    // and the SMMU writes it in one piece, little-endian as the CPU is.
    unsafe { platform.pointer(word).cast::<AtomicU32>().as_ref() }
}

#[inline]
fn read([low, high]: &[AtomicU64; 2]) -> Command {
    let word = |word: &AtomicU64| u64::from_le(word.load(Ordering::Relaxed));
    Command([word(low), word(high)])
}

#[inline]
fn write(slot: &[AtomicU64; 2], command: Command) {
    let ([low, high], Command([first, second])) = (slot, command);
    low.store(first.to_le(), Ordering::Relaxed);
    high.store(second.to_le(), Ordering::Relaxed);
}

const MARK_BYTES: usize = 8;

const fn queue_bytes(size: Size) -> usize {
    size.entries() as usize * COMMAND_BYTES
}

const fn marks_bytes(size: Size) -> usize {
    size.entries() as usize * MARK_BYTES
}
