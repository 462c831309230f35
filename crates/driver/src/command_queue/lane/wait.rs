// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for commands to be complete, or for room: what a queue says of itself meanwhile, and when it is given up.

use super::super::counts::Waiting;
use super::super::{Common, Ticket};
use super::{Lane, message};
use crate::error::Failure;
use crate::platform::Platform;
use crate::refusals::Finding;
use crate::state::Inside;
use crate::sync::Ordering;
use crate::tickets::{Poller, give_way};

impl Lane {
    /// Waits until a run of so many slots may find room.
    #[cold]
    #[inline(never)]
    pub(in crate::command_queue) fn wait_for_room<P: Platform>(
        &self,
        common: &Common,
        platform: &P,
        mmio: &P::Mmio,
        slots: u64,
    ) -> Result<(), Failure> {
        let has_room = |consumed| {
            self.tickets.share(consumed);
            self.tickets.has_room(slots)
        };
        if self.is_soon(common, platform, mmio, has_room) {
            return Ok(());
        }
        let awaited = self.tickets.room_is_at(slots);
        self.until(common, platform, mmio, (awaited, 0), None, &has_room)
    }

    /// Waits until the commands of `ticket` are complete, and finds out what became of them; with `inside`, if the caller was when
    /// it drew the ticket, and is, and how far it knows of what is published.
    #[cold]
    #[inline(never)]
    pub(in crate::command_queue) fn wait<P: Platform>(
        &self,
        common: &Common,
        platform: &P,
        mmio: &P::Mmio,
        ticket: &Ticket,
        inside: Option<(Inside<'_>, u64)>,
    ) -> Result<(), Failure> {
        let is_done = |consumed| consumed >= ticket.end;
        if !is_done(self.tickets.consumed()) {
            let (inside, published) = inside.map_or((None, 0), |(inside, to)| (Some(inside), to));
            self.until(common, platform, mmio, (ticket.start, published), inside, &is_done)?;
        }
        self.outcome(common, ticket)
    }

    /// What became of the commands of `ticket`, which are complete.
    fn outcome(&self, common: &Common, ticket: &Ticket) -> Result<(), Failure> {
        let Ticket { start, end, moment, .. } = *ticket;
        if start > end {
            // `Ticket::ELIDED`: the SMMU was suspended, and nothing was submitted.
            return Ok(());
        }
        if start < self.began.load(Ordering::Acquire) {
            return Err(Failure::Failed);
        }
        let since = || moment.refusals_until(common.state.now());
        match self.refusals.find(start, end, since) {
            Finding::None => Ok(()),
            Finding::Refused(command, code) => Err(Failure::Refused { command, code }),
            Finding::Forgotten => Err(Failure::Forgotten),
        }
    }

    /// As [`Lane::observe`], but by the register, and only if messages do not do; and lets others know. What the register says
    /// is written to the word, if messages were lost: none that is older is ever taken for a newer one.
    fn observe_register<P: Platform>(&self, platform: &P, mmio: &P::Mmio) -> Result<(), u32> {
        self.tickets.share(self.tickets.observe(&mut 0, || self.port.consumed(mmio))?);
        if let Some(word) = self.word() {
            // A message that arrives in between is overwritten by this older position: the next read of the register
            // makes up for that. Messages hold the low half of a position.
            let low = self.tickets.consumed() as u32;
            message(platform, word).store(low.to_le(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether `done` holds of the position up to which commands are consumed, as it is known, or by one look at the
    /// SMMU.
    fn is_soon<P: Platform>(
        &self,
        common: &Common,
        platform: &P,
        mmio: &P::Mmio,
        done: impl Fn(u64) -> bool,
    ) -> bool {
        done(self.tickets.consumed()) || {
            // A suspended SMMU completed everything before it was suspended: the wait is over.
            let Some(_inside) = common.state.enter(platform.cpu()) else { return true };
            common.state.now().works() && self.observe(platform, mmio).is_ok_and(done)
        }
    }

    /// Waits until `done` holds of the position up to which commands are consumed, recovering from command errors
    /// meanwhile, on behalf of what begins at `start`; with `inside`, and so much known to be `published`, as [`Lane::wait`].
    #[cold]
    #[inline(never)]
    fn until<P: Platform>(
        &self,
        common: &Common,
        platform: &P,
        mmio: &P::Mmio,
        (start, published): (u64, u64),
        inside: Option<Inside<'_>>,
        done: &dyn Fn(u64) -> bool,
    ) -> Result<(), Failure> {
        if inside.is_some() && published <= start {
            // Others have it published.
            give_way();
        }
        let inside = inside.or_else(|| common.state.enter(platform.cpu()));
        let Some(_inside) = inside else { return Ok(()) };
        let mut waiting = Waiting::new(common, platform);
        let mut poller = Poller::new(&self.tickets, start, published);
        // While the SMMU has commands and makes no progress: the position that it stands at, and since when.
        let mut still: Option<(u64, u64)> = None;
        loop {
            if done(poller.consumed()) {
                return Ok(());
            }
            let epoch = common.state.now();
            if epoch.is_asleep() {
                return Ok(());
            }
            if epoch.has_failed() {
                return Err(Failure::Failed);
            }
            let looked = match self.word() {
                None => poller.turn(|| self.port.consumed(mmio)),
                Some(word) => {
                    let heard = || u32::from_le(message(platform, word).load(Ordering::Acquire));
                    let look = poller.turn_by_message(heard);
                    let looked = if look { self.observe_register(platform, mmio) } else { Ok(()) };
                    looked.map(|()| look)
                }
            };
            let check_errors = match looked {
                Ok(check_errors) => check_errors,
                Err(register) => {
                    common.ahead(epoch, register)?;
                    false
                }
            };
            let consumed = poller.consumed();
            if done(consumed) {
                return Ok(());
            }
            if !check_errors {
                waiting.turns += 1;
                platform.relax();
                continue;
            }
            self.recover(common, platform, mmio)?;
            still = match still {
                // The SMMU has consumed all that is published: what is waited for sits behind a run that another CPU
                // has not published yet, so the deadline does not run.
                _ if poller.is_idle() => None,
                Some((before, since)) if before == consumed => {
                    let waited = platform.now().saturating_sub(since);
                    if waited > common.deadline && !common.is_devices_turn(waited) {
                        // Perhaps it was this CPU that stood still, not the SMMU: only a look at CONS after the clock
                        // was read decides.
                        if let Err(register) = self.observe_register(platform, mmio) {
                            common.ahead(epoch, register)?;
                        }
                        if poller.consumed() == consumed {
                            common.state.fail_since(epoch);
                            return Err(Failure::timeout(waited));
                        }
                    }
                    still
                }
                _ => Some((consumed, platform.now())),
            };
            waiting.turns += 1;
            platform.relax();
        }
    }
}
