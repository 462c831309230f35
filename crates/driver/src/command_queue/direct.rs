// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that are given and looked for by one call, in a straight line where that is possible: the same steps, without
//! those that only other queues need, and with one count of who is at the registers for the ticket and the look.

use smmuv3_formats::{Command, Opcode};

use super::given::{Give, Given};
use super::lane::{Known, Run};
use super::{CommandQueue, Ticket};
use crate::error::Failure;
use crate::platform::Platform;
use crate::state::{Inside, Moment};

/// A batch whose caller is counted as being at the registers, and is about to look whether it is complete.
#[must_use]
pub(crate) struct Begun<'a> {
    inside: Inside<'a>,
    ticket: Ticket,
    known: Known,
}

impl Begun<'_> {
    /// As [`Ticket::commands`].
    #[cfg(feature = "alloc")]
    pub(crate) const fn commands(&self) -> u64 {
        self.ticket.commands()
    }
}

impl CommandQueue {
    /// Lets the caller access registers, and look whether the SMMU works: `None` if not, or if so many commands are not placed
    /// in a straight line.
    #[inline(always)]
    fn arrive(&self, cpu: usize, commands: u64) -> Option<(Inside<'_>, Moment)> {
        if commands >= self.common.direct_below {
            return None;
        }
        let inside = self.common.state.arrive(cpu);
        let moment = self.common.state.now();
        moment.works().then_some((inside, moment))
    }

    /// Gives the SMMU `command`, for someone who looks next whether it is done: waits for nothing. `None` where it has to
    /// be given in another way, the SMMU does not work, or there is no room.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(crate) fn begin_one<P: Platform>(
        &self,
        platform: &P,
        cpu: usize,
        mmio: &P::Mmio,
        command: Command,
    ) -> Option<Begun<'_>> {
        let (inside, moment) = self.arrive(cpu, 1)?;
        let (ticket, known) = self.main.place_one::<P, true>(platform, mmio, moment, command)?;
        self.submitted(platform, &ticket);
        Some(Begun { inside, ticket, known })
    }

    /// As [`CommandQueue::begin_one`], for someone who looks later ([`CommandQueue::look_at`]), when it may not access registers
    /// any more.
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
        let (ticket, _) = self.main.place_one::<P, false>(platform, mmio, moment, command)?;
        self.submitted(platform, &ticket);
        Some(ticket)
    }

    /// Looks once whether what [`CommandQueue::place_one`] gave is done: if not, it is to be waited for.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(crate) fn look_at<P: Platform>(
        &self,
        platform: &P,
        cpu: usize,
        mmio: &P::Mmio,
        ticket: &Ticket,
    ) -> bool {
        let known = Known { consumed: self.main.consumed(), published: 0 };
        let Some(_inside) = self.common.state.enter(cpu) else { return false };
        let done = self.main.has_done_directly::<P>(&self.common, mmio, ticket, known);
        if done {
            self.completed(platform, ticket, Ok(()));
        }
        done
    }

    /// Looks once whether the batch is complete.
    ///
    /// # Errors
    /// The batch, if it is not complete: it is to be waited for ([`CommandQueue::wait_inside`]).
    #[inline(always)]
    pub(crate) fn look<'a, P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        begun: Begun<'a>,
    ) -> Result<(), Begun<'a>> {
        let Begun { ticket, known, .. } = &begun;
        if !self.main.has_done_directly::<P>(&self.common, mmio, ticket, *known) {
            return Err(begun);
        }
        let Begun { inside, ticket, .. } = begun;
        self.completed(platform, &ticket, Ok(()));
        // Last: from then on the queue may be gone.
        drop(inside);
        Ok(())
    }

    /// As [`CommandQueue::wait`], for a caller that is still counted as being at the registers.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait_inside<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        begun: Begun<'_>,
    ) -> Result<(), Failure> {
        let Begun { inside, ticket, known } = begun;
        let inside = Some((inside, known.published));
        let result = self.main.wait(&self.common, platform, mmio, &ticket, inside);
        self.completed(platform, &ticket, result);
        result
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
            // A clone is advanced: `commands` itself escapes to no call here, so it can stay in registers.
            let mut next = commands.clone();
            run.fill(&mut next, count);
            commands = next;
        };
        let begun = match self.arrive(platform.cpu(), count) {
            Some((inside, moment)) => {
                let placed = self.main.place_at_once(platform, mmio, count + 1, moment, fill);
                placed.map(|(ticket, known)| Begun { inside, ticket, known })
            }
            None => None,
        };
        let Some(begun) = begun else {
            return self.carry_out_later(platform, mmio, commands);
        };
        self.submitted(platform, &begun.ticket);
        match self.look(platform, mmio, begun) {
            // Only as many commands as one batch holds are placed in a straight line, so none are left.
            Ok(()) => Ok(()),
            Err(begun) => self.carry_on(platform, mmio, begun, commands),
        }
    }

    /// The rest of [`CommandQueue::carry_out`] when the first batch was not complete at the first look.
    #[cold]
    #[inline(never)]
    fn carry_on<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        begun: Begun<'_>,
        commands: impl ExactSizeIterator<Item = Command> + Clone,
    ) -> Result<(), Failure> {
        self.wait_inside(platform, mmio, begun)?;
        if commands.len() == 0 { Ok(()) } else { self.carry_out_later(platform, mmio, commands) }
    }

    /// As [`CommandQueue::carry_out`], compiled once, for those to whom a few instructions more for each command are nothing.
    pub(crate) fn carry_out_shared<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: impl ExactSizeIterator<Item = Command> + Clone,
    ) -> Result<(), Failure> {
        let mut commands = Rewound { mark: commands.clone(), next: commands };
        self.carry_out_source(platform, mmio, &mut commands)
    }

    #[inline(never)]
    fn carry_out_source<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut dyn Source,
    ) -> Result<(), Failure> {
        let count = commands.left() as u64;
        let fill = |run: &mut Run<'_, P, true>| run.fill(&mut Given(commands), count);
        let begun = self.arrive(platform.cpu(), count).and_then(|(inside, moment)| {
            let placed = self.main.place_at_once(platform, mmio, count + 1, moment, fill);
            placed.map(|(ticket, known)| Begun { inside, ticket, known })
        });
        let Some(begun) = begun else {
            return self.carry_out_any(platform, mmio, commands);
        };
        self.submitted(platform, &begun.ticket);
        // All of them were placed, as in `carry_out`.
        self.look(platform, mmio, begun).or_else(|begun| self.wait_inside(platform, mmio, begun))
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

    /// As [`CommandQueue::carry_out`], for any iterator of commands behind one pointer, so that this is compiled once.
    #[inline(never)]
    fn carry_out_any<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        commands: &mut dyn Source,
    ) -> Result<(), Failure> {
        loop {
            let before = commands.left();
            // An ATC_INV needs no repetition: `Firmware::repeated_invalidation` is about the SMMU's own caches.
            let mut again = self.repeats() && !commands.asks_device();
            if again {
                commands.mark();
            }
            loop {
                let ticket = self.submit(platform, mmio, &mut Given(commands))?;
                self.wait_calmly(platform, mmio, &ticket)?;
                if !core::mem::take(&mut again) {
                    break;
                }
                commands.rewind();
            }
            let left = commands.left();
            // `left == before`: an iterator whose `len()` does not shrink would keep this loop going for ever.
            if left == 0 || left == before {
                return Ok(());
            }
        }
    }
}

/// Commands that can be given once more.
trait Source: Give {
    /// Whether the next command is an ATC_INV. None of this driver's is without ATS.
    fn asks_device(&self) -> bool;

    /// Remembers the present position.
    fn mark(&mut self);

    /// Goes back to the position that [`Source::mark`] remembered.
    fn rewind(&mut self);
}

struct Rewound<I> {
    next: I,
    mark: I,
}

impl<I: ExactSizeIterator<Item = Command>> Iterator for Rewound<I> {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        self.next.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.next.size_hint()
    }
}

impl<I: ExactSizeIterator<Item = Command>> ExactSizeIterator for Rewound<I> {
    fn len(&self) -> usize {
        self.next.len()
    }
}

impl<I: ExactSizeIterator<Item = Command> + Clone> Source for Rewound<I> {
    fn asks_device(&self) -> bool {
        cfg!(feature = "ats")
            && self.next.clone().next().is_some_and(|command| command.is(Opcode::AtcInv))
    }

    fn mark(&mut self) {
        self.mark = self.next.clone();
    }

    fn rewind(&mut self) {
        self.next = self.mark.clone();
    }
}
