// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that are given and looked for by one call, in a straight line where that is possible: the same steps, without
//! those that only other queues need, and with one count of who is at the registers for the ticket and the look.

use smmuv3_formats::{Command, Opcode};

use super::lane::Run;
use super::{CommandQueue, Ticket};
use crate::error::Failure;
use crate::platform::Platform;
use crate::state::Inside;

/// A batch that was placed by someone who may look at registers, and is about to.
#[must_use]
pub(crate) struct Begun<'a> {
    inside: Inside<'a>,
    ticket: Ticket,
    /// What was known to be consumed.
    consumed: u64,
}

impl CommandQueue {
    /// As [`CommandQueue::place`] of so many commands, for someone who looks next whether it is done. `None` where that is
    /// not the way, the SMMU does not work, or there is no room.
    #[inline(always)]
    fn begin<'a, P: Platform>(
        &'a self,
        platform: &P,
        mmio: &P::Mmio,
        commands: u64,
        fill: impl FnOnce(&mut Run<'_, P, true>),
    ) -> Option<Begun<'a>> {
        if commands >= self.common.direct_below {
            return None;
        }
        let slots = commands + 1;
        let inside = self.common.state.arrive(platform.cpu());
        let moment = self.common.state.now();
        if !moment.works() {
            return None;
        }
        let (ticket, consumed) = self.main.place_at_once(platform, mmio, slots, moment, fill)?;
        self.submitted(platform, &ticket);
        Some(Begun { inside, ticket, consumed })
    }

    /// Gives the SMMU `command`, for someone who looks next whether it is done: waits for nothing. `None` where it has to
    /// be given in another way.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(crate) fn begin_one<'a, P: Platform>(
        &'a self,
        platform: &P,
        mmio: &P::Mmio,
        command: Command,
    ) -> Option<Begun<'a>> {
        self.begin(platform, mmio, 1, move |run| run.push(command))
    }

    /// As [`CommandQueue::begin_one`], for someone who waits for it later, whether it may look at registers now or not.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(crate) fn place_one<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        command: Command,
    ) -> Option<Ticket> {
        let moment = self.common.state.now();
        if self.common.direct_below <= 1 || !moment.works() {
            return None;
        }
        let push = move |run: &mut Run<'_, P, true>| run.push(command);
        let (ticket, _) = self.main.place_at_once(platform, mmio, 2, moment, push)?;
        self.submitted(platform, &ticket);
        Some(ticket)
    }

    /// Looks once.
    ///
    /// # Errors
    /// The ticket, which is to be waited for.
    #[inline(always)]
    pub(crate) fn look<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        begun: Begun<'_>,
    ) -> Result<(), Ticket> {
        let Begun { inside, ticket, consumed } = begun;
        let done = self.main.has_done_directly::<P>(&self.common, mmio, &ticket, consumed);
        drop(inside);
        if !done {
            return Err(ticket);
        }
        self.completed(platform, &ticket, Ok(()));
        Ok(())
    }

    /// Gives the SMMU `commands`, however many, batch by batch, and waits until they are complete; twice each, where
    /// [`CommandQueue::repeats`].
    ///
    /// # Errors
    /// As [`CommandQueue::submit`] and [`CommandQueue::wait`]. Commands after the batch that failed were not given.
    #[inline]
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
        let count = commands.len() as u64;
        let fill = |run: &mut Run<'_, P, true>| {
            // One of its own, so that nobody else knows where it is.
            let mut next = commands.clone();
            run.fill(&mut next, count);
            commands = next;
        };
        let Some(begun) = self.begin(platform, mmio, count, fill) else {
            return self.carry_out_later(platform, mmio, commands);
        };
        match self.look(platform, mmio, begun) {
            Ok(()) if commands.len() == 0 => Ok(()),
            Ok(()) => self.carry_out_later(platform, mmio, commands),
            Err(ticket) => self.carry_on(platform, mmio, ticket, commands),
        }
    }

    /// As [`CommandQueue::carry_out`], which has begun with a batch.
    #[cold]
    #[inline(never)]
    fn carry_on<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        ticket: Ticket,
        commands: impl ExactSizeIterator<Item = Command> + Clone,
    ) -> Result<(), Failure> {
        self.wait(platform, mmio, ticket)?;
        if commands.len() == 0 { Ok(()) } else { self.carry_out_later(platform, mmio, commands) }
    }

    /// As [`CommandQueue::carry_out`], step by step.
    pub(crate) fn carry_out_later<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: impl ExactSizeIterator<Item = Command> + Clone,
    ) -> Result<(), Failure> {
        let mut commands = Rewound { mark: commands.clone(), next: commands };
        self.carry_out_any(platform, mmio, &mut commands)
    }

    /// The same, of whatever kind they are: there is one copy of it.
    #[inline(never)]
    fn carry_out_any<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut dyn Source,
    ) -> Result<(), Failure> {
        loop {
            let before = commands.next().len();
            // ATC_INV is complete at once.
            let twice = self.repeats() && commands.mark() != Some(Opcode::AtcInv);
            let ticket = self.submit(platform, mmio, &mut commands.next())?;
            self.wait(platform, mmio, ticket)?;
            if twice {
                commands.rewind();
                let ticket = self.submit(platform, mmio, &mut commands.next())?;
                self.wait(platform, mmio, ticket)?;
            }
            let left = commands.next().len();
            // The second, should it promise what never comes.
            if left == 0 || left == before {
                return Ok(());
            }
        }
    }
}

/// Commands that can be given once more.
trait Source {
    /// Those that are left.
    fn next(&mut self) -> &mut dyn ExactSizeIterator<Item = Command>;

    /// Remembers where it is, and says what comes next.
    fn mark(&mut self) -> Option<Opcode>;

    /// Goes back to where that was.
    fn rewind(&mut self);
}

struct Rewound<I> {
    next: I,
    mark: I,
}

impl<I: ExactSizeIterator<Item = Command> + Clone> Source for Rewound<I> {
    fn next(&mut self) -> &mut dyn ExactSizeIterator<Item = Command> {
        &mut self.next
    }

    fn mark(&mut self) -> Option<Opcode> {
        self.mark = self.next.clone();
        self.next.clone().next()?.opcode()
    }

    fn rewind(&mut self) {
        self.next = self.mark.clone();
    }
}
