// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU reports: events of devices, and errors of its own (rule R9).

use smmuv3_formats::register::Gerror;
use smmuv3_formats::{Command, EventRecord};

use crate::error::Failure;
use crate::instance::Instance;
use crate::platform::Platform;

/// Which interrupt was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The event queue's.
    Events,
    /// The global error interrupt.
    Error,
    /// A combined one, or none: look at everything.
    Any,
}

/// Something that an SMMU reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A transaction was refused. Events of unknown kind are handed on as they are.
    Event(EventRecord),
    /// Events were lost because the queue was full.
    EventsLost,
    /// A command was refused; the queue goes on without it. Whoever waits for it is told as well.
    CommandRefused {
        /// The command.
        command: Command,
        /// `CMDQ_CONS.ERR` (§3.2).
        code: u8,
    },
    /// Global errors other than a refused command, acknowledged.
    GlobalError(Gerror),
    /// The SMMU does not work any more, until it is reset.
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
    if which != Interrupt::Events {
        errors(platform, instance, sink);
    }
    if which == Interrupt::Error {
        return false;
    }
    let mut record = |record| sink(Report::Event(record));
    match instance.events().drain(platform, instance.mmio(), budget, &mut record) {
        Ok(drained) => {
            if drained.overflow {
                sink(Report::EventsLost);
            }
            drained.more
        }
        Err(inconsistent) => {
            sink(Report::Failed(Failure::Index { register: inconsistent.register }));
            false
        }
    }
}

fn errors<P: Platform>(platform: &P, instance: &Instance<P>, sink: &mut dyn FnMut(Report)) {
    let mmio = instance.mmio();
    match instance.commands().recover(platform, mmio) {
        Ok(None) => {}
        Ok(Some((command, code))) => sink(Report::CommandRefused { command, code }),
        Err(failure) => sink(Report::Failed(failure)),
    }
    let active = instance.commands().acknowledge(platform, mmio);
    if active.0 != 0 {
        sink(Report::GlobalError(active));
    }
    if active.sfm_err() {
        // It carries out nothing from here on.
        instance.commands().give_up();
        sink(Report::Failed(Failure::Service));
    }
}
