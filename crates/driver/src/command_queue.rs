// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue (§3, §4): many producers, nobody waits while holding anything, completion by the consumer index, or
//! by messages.
//!
//! [`CommandQueue::submit`] places a batch of commands and a CMD_SYNC behind them and returns a [`Ticket`];
//! [`CommandQueue::wait`] waits for it, with interrupts on. How producers share a queue is in
//! `tickets`, what becomes of refused commands in `refusals`.
//!
//! # Several queues
//! An SMMU may have enhanced command queues beside the one that each has (§2.6). They are *lanes* of one
//! [`CommandQueue`] then, and each CPU gives its commands to one of them: [`Platform::cpu`] chooses, and any lane will
//! do. A batch and its CMD_SYNC are in one lane, whose registers are in `port`; the lane is part of the ticket.
//!
//! Lanes are not ordered among each other, and a CMD_SYNC says nothing about the commands of another lane. That is enough
//! wherever the next step is taken after the one before was *waited for*, on whichever CPU: a command whose CMD_SYNC is
//! complete has had its effect, and nothing in any lane comes before it any more. So it is with
//! each step in this driver ([`CommandQueue::carry_out`]): an entry that is changed in several steps, a tag that
//! is flushed before it leaves the targets, configuration that is forgotten before translations at start.
//!
//! It is *not* enough to conclude from one's own CMD_SYNC that what *others* had placed before is complete, as one may
//! with a single queue. Invalidations that others placed for targets that are no more may still be on the way
//! when a detach has returned. TLBIs do no harm then: of a tag that somebody else has got they invalidate too much. Where it
//! matters, [`CommandQueue::settle`] waits for all lanes. Answers to stalled transactions, which nobody waits for, are in
//! the first lane, whoever gives them.

mod counts;
mod devices;
mod direct;
mod errors;
#[cfg(feature = "alloc")]
mod first;
mod given;
mod judge;
mod lane;
mod memory;
mod port;
mod reset;

use core::fmt;
use core::iter;
use core::sync::atomic::{AtomicBool, AtomicUsize};

use smmuv3_formats::register::CmdqBase;
use smmuv3_formats::{Command, PhysAddr};

use crate::counters::Counters;
use crate::error::Failure;
use crate::mutation::{LeftOut, Mutation};
use crate::name::Name;
use crate::platform::Platform;
use crate::queue::Size;
use crate::state::{Inside, Moment, State};
use crate::tickets::NoTicket;
use crate::trace::Trace;
use counts::FULL;
#[cfg(feature = "alloc")]
pub(crate) use direct::Begun;
pub(crate) use given::Given;
use lane::{Lane, Run};
pub(crate) use memory::Memory;

/// How an SMMU tells those who wait that their commands are complete (CMD_SYNC.CS, §4.1): each batch ends in a CMD_SYNC
/// that asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// The SMMU does not: those who wait read CMDQ_CONS again and again, those whose commands come next on behalf of
    /// those behind them.
    #[default]
    Poll,
    /// By its CMD_SYNC interrupt: the wired one, which is edge-triggered, or the message of
    /// [`Messages::sync`](crate::Messages::sync). Its handler has nothing to tell the
    /// driver: that it ran, or that it wakes others, is what matters. See [`Platform::relax`].
    Interrupt,
    /// By an event for WFE on all CPUs, where the SMMU can send them ([`Features::events`]). Elsewhere as [`Poll`].
    ///
    /// [`Features::events`]: crate::Features::events
    /// [`Poll`]: Self::Poll
    Event,
    /// By a message to a word of memory, one for each queue, which says how far the SMMU has come: those who wait look
    /// at memory, which their caches hold until it changes, and not at a register. Messages that are lost are made up for: the
    /// register is looked at now and then. Where the SMMU cannot send messages (IDR0.MSI), or is not coherent, as
    /// [`Poll`](Self::Poll).
    Message,
}

/// The command queue of one SMMU, with its enhanced ones if they are used.
pub struct CommandQueue {
    common: Common,
    main: Lane,
    /// The other lanes, so many of them, one behind the other.
    others: PhysAddr,
    count: u32,
    /// Memory of the words that CMD_SYNCs write to, a cache line for each lane; `None` if they send no messages.
    words: Option<PhysAddr>,
    /// No message is on its way to those words.
    silent: AtomicBool,
}

impl fmt::Debug for CommandQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandQueue").field("base", &self.base_register()).finish_non_exhaustive()
    }
}

/// What all lanes have in common.
struct Common {
    /// Largest number of commands before a CMD_SYNC.
    largest_batch: u64,
    /// Nanoseconds that the SMMU may stand still,
    deadline: u64,
    /// and because of devices that are to answer an ATC_INV.
    device_deadline: u64,
    /// How many have asked devices, and do not know yet that the SMMU has waited for their answers. Written seldom.
    asked: AtomicUsize,
    /// Invalidations have to be carried out twice.
    repeating: bool,
    /// Batches of fewer commands are placed in a straight line. None are, unless there is one lane, which is looked at, and
    /// each batch is carried out once and ends in a CMD_SYNC, as for most.
    direct_below: u64,
    /// Whether the SMMU works. Each reset begins a new epoch, so that a failure that was seen before it does not count
    /// afterwards.
    state: State,
    /// The instance's name, for traces.
    name: Name,
    counters: Counters,
    left_out: LeftOut,
}

/// A batch of commands whose completion can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "commands have no effect that can be relied on before their ticket was waited for"]
pub struct Ticket {
    start: u64,
    /// Position after the CMD_SYNC.
    end: u64,
    /// Number of the lane that the batch is in; a whole word, since that is cheapest to copy.
    lane: u64,
    /// A look at the state before that.
    moment: Moment,
}

impl Ticket {
    /// The ticket of commands that were left out, since the SMMU is suspended: there is nothing to wait for.
    const ELIDED: Self = Self { start: u64::MAX, end: 0, lane: 0, moment: Moment::NEVER };

    /// How many commands were placed, with the CMD_SYNC.
    #[cfg(feature = "alloc")]
    pub(crate) const fn commands(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

impl CommandQueue {
    /// The same queue, with the instance's name for traces.
    #[must_use]
    pub fn named(mut self, name: Name) -> Self {
        self.set_name(name);
        self
    }

    /// As [`CommandQueue::named`], where it is.
    pub(crate) fn set_name(&mut self, name: Name) {
        self.common.name = name;
    }

    /// Nanoseconds that the SMMU may stand still.
    pub(crate) const fn deadline(&self) -> u64 {
        self.common.deadline
    }

    /// Whether invalidations have to be given twice: once more after the first time is complete.
    #[inline]
    pub fn repeats(&self) -> bool {
        self.common.repeating
    }

    /// Leaves a step out, if that is one of its own.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        let common = &mut self.common;
        common.left_out = left_out;
        // Those in enhanced queues are all as they should be.
        self.main.left_out = left_out;
        if !self.syncs() {
            self.common.direct_below = 0;
        }
        if left_out.is(Mutation::NoRepeat) {
            self.common.repeating = false;
        }
    }

    /// Whether each batch ends with a CMD_SYNC of its own queue.
    #[inline]
    const fn syncs(&self) -> bool {
        let left_out = self.common.left_out;
        !left_out.is(Mutation::NoSync) && !left_out.is(Mutation::SyncElsewhere)
    }

    /// What CMDQ_BASE is to hold.
    pub fn base_register(&self) -> CmdqBase {
        self.main.base_register()
    }

    /// How many queues it has: the command queue, and enhanced ones.
    pub fn lanes(&self) -> usize {
        1 + self.count()
    }

    fn all<'a, P: Platform>(&'a self, platform: &'a P) -> impl Iterator<Item = &'a Lane> {
        iter::once(&self.main).chain(self.others(platform))
    }

    /// The lane of a number; the first for one that does not exist.
    #[inline]
    fn lane<'a, P: Platform>(&'a self, platform: &'a P, number: u32) -> &'a Lane {
        // Without enhanced queues there is one, which is known when the driver is compiled.
        if !cfg!(feature = "ecmdq") || number == 0 {
            &self.main
        } else {
            self.other(platform, number)
        }
    }

    #[inline(never)]
    fn other<'a, P: Platform>(&'a self, platform: &'a P, number: u32) -> &'a Lane {
        let index = (number as usize).wrapping_sub(1);
        self.others(platform).get(index).unwrap_or(&self.main)
    }

    /// Where this CPU places its commands.
    #[inline]
    fn own_lane<P: Platform>(&self, platform: &P) -> u32 {
        if self.count() == 0 { 0 } else { self.choose(platform.cpu()) }
    }

    #[inline(never)]
    fn choose(&self, cpu: usize) -> u32 {
        // Below the number of lanes.
        (cpu % self.lanes()) as u32
    }

    /// Whether the SMMU is suspended: whatever it is told counts as done.
    pub fn is_asleep(&self) -> bool {
        self.common.state.now().is_asleep()
    }

    /// Whether the SMMU is suspended, also if it counts as failed besides: it has no registers that could be counted on.
    pub(crate) fn is_off(&self) -> bool {
        self.common.state.now().is_off()
    }

    /// How it is now: whether the SMMU works, and since when.
    pub(crate) fn moment(&self) -> Moment {
        self.common.state.now()
    }

    /// Whether the SMMU has neither failed since, nor been suspended or reset.
    pub(crate) fn is_as_at(&self, moment: Moment) -> bool {
        self.common.state.is_as_at(moment)
    }

    /// Lets the caller access registers for as long as it holds the returned value; `None` if the SMMU is suspended.
    pub(crate) fn enter<P: Platform>(&self, platform: &P) -> Option<Inside<'_>> {
        self.common.state.enter(platform.cpu())
    }

    /// Runs `look`, which accesses registers, unless the SMMU is suspended.
    #[cfg(feature = "alloc")]
    pub(crate) fn awake<P: Platform, R>(
        &self,
        platform: &P,
        look: impl FnOnce() -> R,
    ) -> Option<R> {
        let _inside = self.enter(platform)?;
        Some(look())
    }

    /// Whether the SMMU stopped answering: every submission fails until it is reset.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.common.state.now().has_failed()
    }

    /// Notes that the SMMU has failed.
    #[cold]
    #[inline(never)]
    pub(crate) fn give_up(&self) {
        self.common.state.fail();
    }

    /// Notes that the SMMU has failed, and that it is not confirmed to be off: it was to be suspended.
    pub(crate) fn give_up_awake(&self) {
        self.common.state.fail_awake();
    }

    /// Number of entries, of each lane.
    #[inline]
    pub fn size(&self) -> Size {
        self.main.size()
    }

    /// Most commands of one batch, before its CMD_SYNC.
    #[inline]
    pub fn largest_batch(&self) -> usize {
        // Fits: at most a quarter of the queue.
        self.common.largest_batch as usize
    }

    /// Gives the SMMU a batch: `commands` in order, at most [`CommandQueue::largest_batch`] of them (the rest stays
    /// in the iterator), and a CMD_SYNC. Waits for nothing: `None` when there is no room just now. May be
    /// called in interrupt context; `commands` is asked with interrupts masked.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the SMMU had failed before. Nothing was placed.
    #[inline]
    pub fn try_submit<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut impl ExactSizeIterator<Item = Command>,
    ) -> Result<Option<Ticket>, Failure> {
        let count = (commands.len() as u64).min(self.common.largest_batch);
        match self.place(platform, mmio, self.slots_for(count), |run| run.fill(commands, count)) {
            Ok(ticket) => Ok(Some(ticket)),
            Err(NoTicket::Full) => Ok(None),
            Err(NoTicket::Closed) => self.elide(commands),
        }
    }

    /// Gives the SMMU what `fill` pushes into a run of so many slots, as [`Lane::place`] does, unless it does not work.
    #[inline(always)]
    fn place<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        slots: u64,
        fill: impl FnOnce(&mut Run<'_, P, false>),
    ) -> Result<Ticket, NoTicket> {
        if self.count() == 0 {
            return self.place_in(0, platform, mmio, slots, fill);
        }
        let mut fill = Some(fill);
        self.place_beside(self.own_lane(platform), platform, mmio, slots, &mut |run| {
            if let Some(fill) = fill.take() {
                fill(run);
            }
        })
    }

    /// As [`CommandQueue::place`], in the lane `number`, where there are several: by itself, so that it costs those nothing
    /// that have one.
    #[inline(never)]
    fn place_beside<P: Platform>(
        &self,
        number: u32,
        platform: &P,
        mmio: &P::Mmio,
        slots: u64,
        fill: &mut dyn FnMut(&mut Run<'_, P, false>),
    ) -> Result<Ticket, NoTicket> {
        self.place_in(number, platform, mmio, slots, fill)
    }

    #[inline(always)]
    fn place_in<P: Platform>(
        &self,
        number: u32,
        platform: &P,
        mmio: &P::Mmio,
        slots: u64,
        fill: impl FnOnce(&mut Run<'_, P, false>),
    ) -> Result<Ticket, NoTicket> {
        let moment = self.common.state.now();
        if !moment.works() {
            return Err(NoTicket::Closed);
        }
        let lane = self.lane(platform, number);
        let ticket = lane.place(platform, mmio, slots, (number, moment), fill)?;
        self.submitted(platform, &ticket);
        if self.common.left_out.is(Mutation::SyncElsewhere) {
            let number = (number + 1) % self.lanes() as u32;
            let lane = self.lane(platform, number);
            return lane.place(platform, mmio, 1, (number, moment), |_| {});
        }
        Ok(ticket)
    }

    #[inline(always)]
    fn submitted<P: Platform>(&self, platform: &P, ticket: &Ticket) {
        let Ticket { start: first, end, lane, .. } = *ticket;
        // A lane's number, which has 32 bits.
        let (instance, queue, count) = (&self.common.name, lane as u32, end - first);
        platform.trace(&Trace::Submitted { instance, queue, first, count });
    }

    #[inline(always)]
    fn completed<P: Platform>(&self, platform: &P, ticket: &Ticket, result: Result<(), Failure>) {
        let Ticket { start: first, end, lane, .. } = *ticket;
        // An elided ticket (`start > end`) was never submitted, so it is not traced.
        if let Some(count) = end.checked_sub(first) {
            // A lane's number, which has 32 bits.
            let (instance, queue) = (&self.common.name, lane as u32);
            platform.trace(&Trace::Completed { instance, queue, first, count, result });
        }
    }

    /// What becomes of commands for an SMMU that does not work.
    #[cold]
    fn elide(
        &self,
        commands: &mut impl Iterator<Item = Command>,
    ) -> Result<Option<Ticket>, Failure> {
        if self.common.state.elides() {
            commands.for_each(drop);
            return Ok(Some(Ticket::ELIDED));
        }
        // `works` by now: the SMMU was resumed meanwhile, and the caller tries again.
        if self.common.state.now().works() { Ok(None) } else { Err(Failure::Failed) }
    }

    /// As [`CommandQueue::try_submit`], of commands that are placed as they are: in builds with debug assertions those of all
    /// other ways in are judged before (§4.1, §4.2), and an illegal one is a panic. For tests of what becomes of
    /// commands that an SMMU refuses, or should.
    ///
    /// # Errors
    /// As [`CommandQueue::try_submit`].
    pub fn try_submit_unjudged<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut impl ExactSizeIterator<Item = Command>,
    ) -> Result<Option<Ticket>, Failure> {
        let count = (commands.len() as u64).min(self.common.largest_batch);
        let fill = |run: &mut Run<'_, P, false>| run.fill_unjudged(commands, count);
        match self.place(platform, mmio, self.slots_for(count), fill) {
            Ok(ticket) => Ok(Some(ticket)),
            Err(NoTicket::Full) => Ok(None),
            Err(NoTicket::Closed) => self.elide(commands),
        }
    }

    /// As [`CommandQueue::submit`], of commands that are placed as they are; see
    /// [`CommandQueue::try_submit_unjudged`].
    ///
    /// # Errors
    /// As [`CommandQueue::submit`].
    pub fn submit_unjudged<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut impl ExactSizeIterator<Item = Command>,
    ) -> Result<Ticket, Failure> {
        loop {
            if let Some(ticket) = self.try_submit_unjudged(platform, mmio, commands)? {
                return Ok(ticket);
            }
            self.wait_for_room(platform, mmio, commands.len())?;
            // Other producers may take the room first.
            platform.relax();
        }
    }

    /// As [`CommandQueue::try_submit`], but waits while there is no room.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the SMMU had failed before; as [`CommandQueue::wait`] when it takes nothing out of
    /// the full queue. Nothing was placed.
    #[inline]
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
            // Other producers may take the room first.
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
        let slots = self.slots_for((commands as u64).min(self.common.largest_batch));
        self.common.counters.add(platform, FULL, 1);
        let lane = self.lane(platform, self.own_lane(platform));
        lane.wait_for_room(&self.common, platform, mmio, slots)
    }

    /// Waits until all commands are complete that anybody had placed before this was called, in whichever lane.
    ///
    /// # Errors
    /// As [`CommandQueue::submit`] and [`CommandQueue::wait`].
    pub fn settle<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Result<(), Failure> {
        if self.count() == 0 {
            let ticket = self.submit(platform, mmio, &mut Given(&mut iter::empty()))?;
            return self.wait_calmly(platform, mmio, &ticket);
        }
        // Lane by lane, for simplicity: this is rare, and the commands in all lanes are under way anyway.
        for number in 0..self.lanes() as u32 {
            let ticket = loop {
                let slots = self.slots_for(0);
                let placed = match self.place_beside(number, platform, mmio, slots, &mut |_| {}) {
                    Ok(ticket) => Some(ticket),
                    Err(NoTicket::Full) => None,
                    Err(NoTicket::Closed) => self.elide(&mut iter::empty())?,
                };
                if let Some(ticket) = placed {
                    break ticket;
                }
                self.lane(platform, number).wait_for_room(&self.common, platform, mmio, 1)?;
                platform.relax();
            };
            self.wait_calmly(platform, mmio, &ticket)?;
        }
        Ok(())
    }

    /// Slots of a batch of `commands` commands with its CMD_SYNC; at least one.
    #[inline]
    fn slots_for(&self, commands: u64) -> u64 {
        if self.syncs() { commands + 1 } else { commands.max(1) }
    }

    /// Waits until the commands of `ticket`, which this queue gave, are complete. May be called in interrupt context.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the SMMU refused one of them, [`Failure::Forgotten`] when that is not known any more,
    /// [`Failure::Unreadable`] when it cannot fetch commands,
    /// [`Failure::Timeout`] or [`Failure::Failed`] when it does not answer.
    #[inline]
    pub fn wait<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: Ticket,
    ) -> Result<(), Failure> {
        self.wait_for(platform, mmio, &ticket)
    }

    /// As [`CommandQueue::wait`], compiled once, for those to whom a call more is nothing.
    #[inline(never)]
    fn wait_calmly<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: &Ticket,
    ) -> Result<(), Failure> {
        self.wait_for(platform, mmio, ticket)
    }

    /// As [`CommandQueue::wait`], of one ticket of many, which stays where it is.
    #[inline(always)]
    pub(crate) fn wait_for<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: &Ticket,
    ) -> Result<(), Failure> {
        if self.is_over(platform, mmio, ticket) {
            return Ok(());
        }
        self.wait_later(platform, mmio, ticket)
    }

    /// Whether the batch is complete at the first look.
    #[inline(always)]
    pub(crate) fn is_over<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: &Ticket,
    ) -> bool {
        // A lane's number, which has 32 bits.
        let lane = self.lane(platform, ticket.lane as u32);
        let over = lane.has_done(&self.common, platform, mmio, ticket);
        if over {
            self.completed(platform, ticket, Ok(()));
        }
        over
    }

    /// As [`CommandQueue::wait`], for those that are not complete at once.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait_later<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: &Ticket,
    ) -> Result<(), Failure> {
        let lane = self.lane(platform, ticket.lane as u32);
        let result = lane.wait(&self.common, platform, mmio, ticket, None);
        self.completed(platform, ticket, result);
        result
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
impl CommandQueue {
    /// Where what producers share of the first lane is, by addresses, each with a name.
    pub(crate) fn places<P: Platform>(
        &self,
        platform: &P,
    ) -> [(&'static str, core::ops::Range<usize>); 4] {
        self.main.places(platform)
    }
}
