// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's answers to what it is shown: transactions that have stalled, and groups of page requests. Each is looked up among
//! those that wait ([`crate::pending`]), and by that alone it becomes a command, once; any other does nothing.

use smmuv3_formats::command::Resume;
use smmuv3_formats::{Command, Opcode, StreamId};

use super::handle::named;
use super::stall::response;
use crate::error::Failure;
#[cfg(feature = "ats")]
use crate::gather;
use crate::instance::Instance;
use crate::iommu::Core;
use crate::mutation::Mutation;
use crate::nest::Nest;
#[cfg(feature = "ats")]
use crate::page_group;
#[cfg(feature = "ats")]
use crate::page_request::{Answer, Group};
use crate::pending::{Handle, Key, Pending};
use crate::platform::Platform;
use crate::stall::{self, Response};

/// What a guest answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stalls,
    #[cfg(feature = "ats")]
    Pages,
}

impl Kind {
    const ALL: &[Self] = &[
        Self::Stalls,
        #[cfg(feature = "ats")]
        Self::Pages,
    ];

    /// Where they wait.
    fn pending<P: Platform>(self, instance: &Instance<P>) -> &Pending {
        match self {
            Self::Stalls => instance.pending(),
            #[cfg(feature = "ats")]
            Self::Pages => &instance.gather().pending,
        }
    }

    /// The answer for what a guest never answers.
    const fn denied(self) -> u8 {
        match self {
            Self::Stalls => Response::Abort as u8,
            #[cfg(feature = "ats")]
            Self::Pages => Answer::Invalid as u8,
        }
    }

    /// Gives the answer that was decided, and waits for room if need be.
    fn give<P: Platform>(
        self,
        core: &Core<P>,
        instance: &Instance<P>,
        handle: Handle,
    ) -> Result<(), Failure> {
        match self {
            Self::Stalls => stall::give(core, instance, handle),
            #[cfg(feature = "ats")]
            Self::Pages => page_group::give(core, instance, handle),
        }
    }

    /// Gives the answers that are owed, as many as there is room for.
    fn give_owed<P: Platform>(self, core: &Core<P>, instance: &Instance<P>) {
        let mut budget = usize::MAX;
        match self {
            Self::Stalls => stall::give_owed(core, instance, &mut budget),
            #[cfg(feature = "ats")]
            Self::Pages => page_group::give_owed(core, instance, &mut budget),
        };
    }
}

impl<P: Platform> Nest<P> {
    /// Carries out the guest's `command`, RESUME, STALL_TERM or PRI_RESP, which names the host's stream: answers what the
    /// guest was shown.
    pub(super) fn answer(&self, instance: &Instance<P>, command: Command) -> Result<(), Failure> {
        let Some(stream) = named(&command) else { return Ok(()) };
        let pending = instance.pending();
        let left_out = match command.opcode() {
            Some(Opcode::PriResp) => Mutation::GuestsPages,
            _ => Mutation::GuestsAnswer,
        };
        if !command.is(Opcode::StallTerm) && self.core.leaves_out(left_out) {
            let commands = core::iter::once(command);
            return instance.commands().carry_out_first(
                &self.core.platform,
                instance.mmio(),
                commands,
            );
        }
        match command.opcode() {
            Some(Opcode::Resume) => {
                let resume = Resume(command.0);
                // The field has 16 bits.
                let stag = resume.stag() as u16;
                let response = response(resume, &self.state.blank) as u8;
                let of = (Kind::Stalls, stream);
                self.answer_one(instance, of, pending.slot_of(stag), response, |_, name| {
                    stag == name
                })
            }
            Some(Opcode::StallTerm) => (0..pending.slots()).try_for_each(|at| {
                let of = (Kind::Stalls, stream);
                self.answer_one(instance, of, at, Response::Abort as u8, |_, _| true)
            }),
            #[cfg(feature = "ats")]
            Some(Opcode::PriResp) => {
                let Some((named, answer, _)) = Group::read(command) else { return Ok(()) };
                let slot = instance.gather().slot_of(&self.core.platform, named);
                let Some(at) = slot else { return Ok(()) };
                self.answer_one(instance, (Kind::Pages, stream), at, answer as u8, |key, _| {
                    gather::answered(key) == named
                })
            }
            _ => Ok(()),
        }
    }

    /// Answers by `code` what is in slot `at`, if the guest is shown it, and it is of its stream and `is_it`: by its key, and by the
    /// number that a guest names it by.
    fn answer_one(
        &self,
        instance: &Instance<P>,
        (kind, stream): (Kind, StreamId),
        at: usize,
        code: u8,
        is_it: impl Fn(Key, u16) -> bool,
    ) -> Result<(), Failure> {
        let core = &self.core;
        // Inside the reader's section the stream stays the guest's until the answer is decided, so that it cannot
        // answer what the next owner is shown by the same number. While a stream goes from one guest to another both have it, and
        // neither answers: what the former is shown is ended by that, before the next is shown anything.
        let decided = core.readers.read(core.platform.cpu(), &self.state.given, |given| {
            given.has_begun(stream).then_some(())?;
            let which = |key: Key, name| key.stream == stream && is_it(key, name);
            kind.pending(instance).decide_shown(at, which, code)
        });
        decided.map_or(Ok(()), |handle| kind.give(core, instance, handle))
    }

    /// Denies all that the guest is shown, since nobody is left who would forward its answers. Waits for nothing.
    pub(super) fn abandon(&self) {
        let (core, instance) = (&self.core, self.smmu.hardware());
        for kind in Kind::ALL {
            let pending = kind.pending(instance);
            let any = core.readers.read(core.platform.cpu(), &self.state.given, |given| {
                let own = |at| {
                    let of_guest = |key: Key, _| given.has_begun(key.stream);
                    pending.decide_shown(at, of_guest, kind.denied())
                };
                // `count`, not `any`: every slot has to be looked at.
                (0..pending.slots()).filter_map(own).count() != 0
            });
            if any {
                pending.set_owed();
                // As many as there were. What finds no room is given by whoever comes by.
                kind.give_owed(core, instance);
            }
        }
    }
}
