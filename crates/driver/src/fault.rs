// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU reports: events of devices, and errors of its own (rule R9).

use smmuv3_formats::register::Gerror;
use smmuv3_formats::{Command, EventRecord};

use crate::error::Failure;
use crate::event_queue::{Delivery, Lost};
use crate::instance::Instance;
use crate::platform::Platform;

/// Which interrupt was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The event queue's.
    Events,
    /// The global error interrupt.
    Error,
    /// The one that tells of completed commands ([`Completion::Interrupt`](crate::Completion::Interrupt)): there is
    /// nothing to look at. That it was taken is what those who wait needed; see
    /// [`Platform::relax`](crate::Platform::relax) for how the handler passes it on to others.
    Sync,
    /// A combined one, or none: look at everything. It may be that commands were completed, too.
    Any,
}

/// Something that an SMMU reports.
///
/// Some come together, and no SMMU counts what it lost:
/// * The event queue was full, and the SMMU says so by its index: [`Report::EventsLost`] ([`Lost::Overflow`]) in its
///   place among the events, once for however many were lost there.
/// * It could not write the queue: [`Report::GlobalError`] with EVENTQ_ABT_ERR, then [`Report::EventsLost`]
///   ([`Lost::Aborted`]), once for however many; both from the error interrupt, before the events that are in the queue.
///   QEMU says that, too, where the queue was full, in place of the former.
/// * It is out of service: [`Report::GlobalError`] with SFM_ERR, then [`Report::Failed`].
///
/// So [`Report::EventsLost`] is what to count losses by, and it means that at least one event is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A transaction was refused. Events of unknown kind are handed on as they are.
    Event(EventRecord),
    /// Events were lost.
    EventsLost(Lost),
    /// The queue stopped at a command, and goes on. What became of it, the code says (§3.2): an illegal one is left out,
    /// one that could not be fetched (2) is tried again, and so is a CMD_SYNC before which devices did not answer
    /// (3). Whoever waits for the batch is told as well, unless it was carried out after all.
    CommandError {
        /// The command.
        command: Command,
        /// `CMDQ_CONS.ERR`.
        code: u8,
    },
    /// The queue stopped at so many more commands, before those just reported, which are not remembered.
    CommandErrors(u64),
    /// Global errors other than a refused command, acknowledged. What follows from them is reported as well: events
    /// that could not be written ([`Lost::Aborted`]), an SMMU that is out of service ([`Failure::Service`]). After
    /// an interrupt message that was lost the event queue is looked at all the same; the others
    /// concern what this driver does not use.
    GlobalError(Gerror),
    /// The SMMU does not work any more, until it is reset; or the index of its event queue makes no sense at present
    /// ([`Failure::Index`]).
    Failed(Failure),
}

/// Reports at most `budget` events and all errors of `instance`. Returns whether more events are waiting.
pub(crate) fn handle<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    which: Interrupt,
    budget: usize,
    sink: &mut dyn FnMut(Report),
) -> bool {
    if which == Interrupt::Sync {
        return false;
    }
    let mut look_at_events = which != Interrupt::Error;
    if which != Interrupt::Events {
        // Its message may have been lost.
        let active = errors(platform, instance, sink);
        look_at_events |= active.msi_eventq_abt_err() || active.eventq_abt_err();
    }
    if !look_at_events {
        return false;
    }
    let mut deliver = |delivery| {
        sink(match delivery {
            Delivery::Record(record) => Report::Event(record),
            Delivery::Lost(lost) => Report::EventsLost(lost),
        });
    };
    match instance.events().drain(platform, instance.mmio(), budget, &mut deliver) {
        Ok(more) => more,
        Err(inconsistent) => {
            sink(Report::Failed(Failure::Index { register: inconsistent.register }));
            false
        }
    }
}

/// Reports errors, each of which was acknowledged, and returns those other than a refused command.
fn errors<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    sink: &mut dyn FnMut(Report),
) -> Gerror {
    let mmio = instance.mmio();
    let recovered = instance.commands().recover(platform, mmio);
    // Also what waiters have recovered from.
    let mut error = |command, code| sink(Report::CommandError { command, code });
    let forgotten = instance.commands().report_errors(platform, &mut error);
    if forgotten != 0 {
        sink(Report::CommandErrors(forgotten));
    }
    if let Err(failure) = recovered {
        sink(Report::Failed(failure));
    }
    let active = instance.commands().acknowledge(platform, mmio);
    if active.0 != 0 {
        sink(Report::GlobalError(active));
    }
    if active.eventq_abt_err() {
        sink(Report::EventsLost(Lost::Aborted));
    }
    if active.sfm_err() {
        // It carries out nothing from here on.
        instance.commands().give_up();
        sink(Report::Failed(Failure::Service));
    }
    active
}
