// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers of the caller to what waits for one ([`Pending`]), as commands: each is given exactly once, on any CPU, and
//! also where the command queue is full just now. Where what waits is about to be ended ([`Pending::close`]), an answer is
//! kept for whoever ends it.

use smmuv3_formats::Command;

use crate::command_queue::Ticket;
use crate::devices::is_of_device;
use crate::error::Failure;
use crate::instance::Instance;
use crate::iommu::Core;
use crate::pending::{Given, Handle, Key, Left, Pending};
use crate::platform::Platform;

/// Answers the transaction or group that `handle` names, by the command that `command` makes of the answer's code, and
/// waits for room if need be. False if nothing waited for the answer any more.
///
/// # Errors
/// As [`CommandQueue::wait_for_room`](crate::command_queue::CommandQueue::wait_for_room).
pub(crate) fn respond<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    pending: &Pending,
    (handle, code): (Handle, u8),
    command: impl Fn(Key, u8) -> Command,
) -> Result<bool, Failure> {
    if !pending.decide(handle, code) {
        return Ok(false);
    }
    give(core, instance, pending, handle, command).map(|()| true)
}

/// Gives the answer that was decided for what `handle` names, and waits for room if need be.
///
/// # Errors
/// As [`respond`].
pub(crate) fn give<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    pending: &Pending,
    handle: Handle,
    command: impl Fn(Key, u8) -> Command,
) -> Result<(), Failure> {
    let platform = &core.platform;
    loop {
        let mut failed = None;
        let given = platform.mask_irqs(|| {
            pending.give(handle, |key, code| {
                !pending.is_closed() && place(core, instance, command(key, code), &mut failed)
            })
        });
        match (given, failed) {
            (_, Some(what)) => return Err(what),
            (Given::Placed | Given::Late, None) => return Ok(()),
            (Given::Full, None) => {}
        }
        // Noted as owed first: if this wait fails, whoever comes by later gives the answer.
        pending.set_owed();
        if instance.commands().is_asleep() || pending.is_closed() {
            return Ok(());
        }
        instance.commands().wait_for_first_room(platform, instance.mmio(), 1)?;
        platform.relax();
    }
}

/// As [`respond`], but waits for nothing: where there is no room, whoever comes by does it ([`give_owed`]).
pub(crate) fn decide<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    pending: &Pending,
    (handle, code): (Handle, u8),
    command: impl Fn(Key, u8) -> Command,
) {
    if pending.decide(handle, code) {
        give_now(core, instance, pending, handle, command);
    }
}

/// As [`give`], but waits for nothing: where there is no room, whoever comes by does it ([`give_owed`]).
pub(crate) fn give_now<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    pending: &Pending,
    handle: Handle,
    command: impl Fn(Key, u8) -> Command,
) {
    let given = core.platform.mask_irqs(|| {
        pending.give(handle, |key, code| {
            !pending.is_closed() && place(core, instance, command(key, code), &mut None)
        })
    });
    if given == Given::Full {
        pending.set_owed();
    }
}

/// Gives the answers that found no room before, at most `budget`; whether there is none left, or none that can be given: what an
/// SMMU does not take any more ends with its reset, and what one that is suspended does not take, when it wakes. Interrupts are
/// masked for a few at a time.
pub(crate) fn give_owed<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    pending: &Pending,
    budget: &mut usize,
    command: impl Fn(Key, u8) -> Command,
) -> bool {
    let commands = instance.commands();
    if !pending.is_owed() || commands.has_failed() || commands.is_asleep() || pending.is_closed() {
        return true;
    }
    let mut at = 0;
    loop {
        let left = core.platform.mask_irqs(|| {
            pending.give_some(&mut at, budget, |key, code| {
                !pending.is_closed() && place(core, instance, command(key, code), &mut None)
            })
        });
        match left {
            Left::Nothing => return true,
            Left::Slots => {}
            Left::Answers => return false,
        }
    }
}

/// Gives all that wait and that `which` says their answers, that which was decided or `code`, one after the other, each once
/// the SMMU has consumed the one before: so each is in a command queue, or owed, whatever the SMMU does.
///
/// # Errors
/// The first error. Where the SMMU takes no more commands, answers that it was not given stay owed, for its reset; one
/// that it refuses holds up no others.
pub(crate) fn give_all<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    pending: &Pending,
    which: impl Fn(Key) -> bool,
    code: u8,
    command: impl Fn(Key, u8) -> Command,
) -> Result<(), Failure> {
    let (commands, mmio) = (instance.commands(), instance.mmio());
    // Decided before anything is waited for, so that answers of others from here on come late.
    if pending.decide_all(&which, code) {
        pending.set_owed();
    }
    let (mut at, mut result) = (0, Ok(()));
    loop {
        let mut placed = Ok(None);
        let given = platform.mask_irqs(|| {
            pending.give_at(at, &which, code, |key, code| {
                placed = attempt(platform, instance, command(key, code));
                matches!(placed, Ok(Some(_)))
            })
        });
        match (given, placed) {
            (None, _) => return result,
            (_, Err(what)) => return Err(what),
            (Some(Given::Placed), Ok(ticket)) => {
                at += 1;
                match ticket.map_or(Ok(()), |ticket| instance.wait(platform, ticket)) {
                    Err(what) if commands.has_failed() => return Err(what),
                    // The answer counts once it is consumed (§4.2), whatever devices did before that CMD_SYNC.
                    Err(what) if is_of_device(&what) => {}
                    waited => result = result.and(waited),
                }
            }
            (Some(Given::Full), Ok(_)) => {
                // A suspended SMMU takes no command: what is left is given when it wakes.
                if commands.is_asleep() {
                    return result;
                }
                commands.wait_for_first_room(platform, mmio, 1)?;
                platform.relax();
            }
            (Some(Given::Late), Ok(_)) => platform.relax(),
        }
    }
}

/// Places a command; false when there is no room. An SMMU that does not answer has no room, nor has one that is suspended:
/// it would ignore it (§4.2).
pub(crate) fn place<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    command: Command,
    failed: &mut Option<Failure>,
) -> bool {
    match attempt(&core.platform, instance, command) {
        // An answer counts once it is consumed (§4.2), which nobody waits for.
        Ok(placed) => placed.is_some(),
        Err(what) => {
            *failed = Some(what);
            false
        }
    }
}

/// As [`place`]; its ticket, if there is room.
fn attempt<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    command: Command,
) -> Result<Option<Ticket>, Failure> {
    let (commands, mmio) = (instance.commands(), instance.mmio());
    if commands.is_asleep() {
        return Ok(None);
    }
    let attempt = || commands.try_submit_first(platform, mmio, &mut core::iter::once(command));
    match attempt()? {
        None => {
            commands.look_for_first_room(platform, mmio);
            attempt()
        }
        placed => Ok(placed),
    }
}

/// How many commands a [`Batch`] holds.
pub(crate) const BATCH: usize = 16;

/// Commands that are given to the SMMU together.
pub(crate) struct Batch {
    commands: [Command; BATCH],
    len: usize,
}

impl Batch {
    pub(crate) const fn new() -> Self {
        Self { commands: [Command([0; 2]); BATCH], len: 0 }
    }

    /// Adds a command. There is room: [`Batch::is_full`] was asked, or at most [`BATCH`] are added.
    pub(crate) fn push(&mut self, command: Command) {
        if let Some(slot) = self.commands.get_mut(self.len) {
            *slot = command;
            self.len += 1;
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len == BATCH
    }

    /// Takes the commands out of the batch.
    pub(crate) fn take(&mut self) -> impl ExactSizeIterator<Item = Command> + '_ {
        let count = core::mem::take(&mut self.len);
        self.commands.iter().take(count).copied()
    }

    /// Gives the commands, and waits until they, and all answers that any CPU had placed before, are complete.
    pub(crate) fn carry_out<P: Platform>(
        &mut self,
        platform: &P,
        instance: &Instance<P>,
    ) -> Result<(), Failure> {
        if self.len == 0 {
            return Ok(());
        }
        instance.commands().carry_out_first(platform, instance.mmio(), self.take())
    }
}
