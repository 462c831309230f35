// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalled transactions of a guest's devices: shown to the guest, and answered by its commands (§11).
//!
//! A stall of the guest's stage 1 is handed out as any other, and [`Nest::show`] hands it on. It stays where all that wait
//! are ([`crate::pending`]), so that whatever ends those ends it: a detach, another entry, a suspend, a reset, a removal. What
//! the guest answers is looked up there (`answer`), and by that alone it becomes a command:
//!
//! | the guest's command | what becomes of it |
//! |---|---|
//! | RESUME of a stream and STAG that it is shown, and has not answered | RESUME of the host's stream and STAG, once |
//! | any other RESUME: of others' stalls, of the host's, of what is over or was answered | nothing, as of a STAG that an SMMU does not know (§4.2) |
//! | STALL_TERM of a stream of its own | RESUME, as aborted, of each that it is shown of that stream. The host's STALL_TERM would take an entry that terminates, and would end the host's stalls, too |

use smmuv3_formats::EventRecord;
use smmuv3_formats::command::Resume;

use crate::nest::{Cause, Guest, Nest, Owner, Streams, event};
use crate::pending::Showing;
use crate::platform::Platform;
use crate::refused::Refused;
use crate::stall::{Fault, Response};

impl<P: Platform> Nest<P> {
    /// Hands a stalled transaction on to the guest, if it is the guest's: what is to be put into its event queue. The
    /// guest answers it by its commands ([`Nest::forward`]), and nobody else does. If it never does, the transaction waits until
    /// its entry becomes another, its device is taken from it, the nest is dropped, or the instance is reset, suspended or removed;
    /// then it is aborted, and an answer that comes later does nothing.
    ///
    /// Its STAG is the guest's own, and another than that of [`Fault::record`]. Where as many as the guest is shown
    /// (IDR5.STALL_MAX) wait for its answer already, it is aborted, and what the guest is told is that (Stall = 0).
    ///
    /// Events of stalls are never lost (§3.3): to be called once there is room in the guest's queue.
    ///
    /// # Errors
    /// The fault, with [`Cause`]: it is the host's, and still to be answered: of stage 2 or another stream, from before the stream was the guest's
    /// ([`Cause::Before`], as of [`Nest::owner`]), or over ([`Cause::Over`]).
    pub fn show(&self, fault: Fault<P>) -> Result<EventRecord, Refused<Fault<P>, Cause>> {
        let (core, state) = (&self.core, &self.state);
        if !fault.is_of(core, state.instance) {
            return Err(Refused { value: fault, error: Cause::Stream });
        }
        let record = fault.record();
        // Inside the reader's section the stream stays the guest's until the stall is shown.
        let shown = core.readers.read(core.platform.cpu(), &state.given, |given| {
            let told = match event::owner(&record, &state.blank, given) {
                Owner::Guest(_) if !self.is_since(given, &fault.event()) => {
                    return Err(Cause::Before);
                }
                Owner::Guest(told) => told,
                Owner::Host(cause) => return Err(cause),
            };
            let most = state.blank.shown().idr5.stall_max();
            match fault.show(most, |stream| given.guest(stream).is_some()) {
                Showing::Shown(stag) => Ok(told.with_stag(stag.into())),
                Showing::Full => Ok(told.with_stall(false).with_stag(0)),
                Showing::Over => Err(Cause::Over),
            }
        });
        match shown {
            // Dropping it answers nothing if it was shown, and aborts it if there were too many.
            Ok(told) => {
                drop(fault);
                Ok(told)
            }
            Err(cause) => Err(Refused { value: fault, error: cause }),
        }
    }
}

/// What a guest's answer means (§4.2).
pub(super) fn response(resume: Resume, guest: &Guest) -> Response {
    match (resume.ac(), resume.ab()) {
        (true, _) => Response::Retry,
        // The guest may be shown TERM_MODEL = 1 on a host whose SMMU has TERM_MODEL = 0.
        (false, false) if !guest.shown().idr0.term_model() => Response::Terminate,
        (false, _) => Response::Abort,
    }
}
