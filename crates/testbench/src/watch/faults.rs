// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R9 for faults: those that had to come are reported, and no others.

use smmuv3_formats::{EventId, EventRecord};

use super::Watch;
use crate::bench::FaultKey;
use crate::oracle::{AccessKind, PAGE, Refused, Rule, User};

/// The faults of one operation.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Those that it must cause: of each, one of these.
    expected: Vec<Vec<FaultKey>>,
    /// Those that interruptions caused.
    caused: Vec<FaultKey>,
    /// Of those expected, the ones that QEMU may keep to itself.
    unsaid: Vec<FaultKey>,
}

impl Watch {
    /// The operation under way must cause `fault`.
    pub(crate) fn expect(&mut self, fault: FaultKey) {
        self.faults.expected.push(vec![fault]);
    }

    /// The access of `user` at `iova` was refused, as it had to be: it must cause the event that goes with it.
    pub(crate) fn expect_refused(&mut self, user: User, iova: u64, write: bool, how: Refused) {
        let (instance, streams) = self.oracle.streams(user.master);
        let Some(stream) = streams.first().copied() else { return };
        let fault = |event| fault(instance, stream, user.substream, event, iova, write);
        match how {
            Refused::Silently => {}
            // Perhaps, and with any event.
            Refused::Somehow => self.faults.caused.push(fault(EventId::FTranslation)),
            Refused::With(event) => {
                let mut any = vec![fault(event)];
                if self.oracle.is_split(user.master) {
                    // See `settle_faults`.
                    any.push(FaultKey { substream: None, ..fault(event) });
                }
                self.faults.expected.push(any);
                // See `SILENT_CACHED_WRITES` of QEMU's deviations.
                let silent = event == EventId::FPermission && write && !self.models;
                if silent && self.is_by_stage_2(user) {
                    self.faults.unsaid.push(fault(event));
                }
            }
            Refused::WithEither(one, other) => {
                self.faults.expected.push(vec![fault(one), fault(other)]);
            }
        }
    }

    fn is_by_stage_2(&self, user: User) -> bool {
        let space = self.oracle.space(self.oracle.using(user));
        space.is_some_and(|space| self.oracle.shape(space).stage_2)
    }

    /// An event was recorded although one that says the same waits. That a guest's device is refused again and again must not
    /// take the room of others' events (STE.MEV, §10.1).
    pub(super) fn repeated(&mut self, instance: usize, event: EventRecord) {
        // The field has 32 bits.
        let Some(master) = self.oracle.master_of(instance, event.sid() as u32) else { return };
        if self.is_of_guest(master.into()) && !self.oracle.is_changing(master) {
            let text = format_args!(
                "{event} was recorded again: without end, a guest's device fills its host's queue"
            );
            self.oracle.accuse(Rule::R9, text);
        }
    }

    /// Accesses of `user` are subject to a guest's stage 1.
    pub(crate) fn is_of_guest(&self, user: User) -> bool {
        let space = self.oracle.space(self.oracle.using(user));
        space.is_some_and(|space| self.oracle.over(space).is_some())
    }

    /// An interruption's access was refused.
    pub(super) fn caused(&mut self, stream: u32, user: User, iova: u64, write: bool) {
        let (instance, _) = self.oracle.streams(user.master);
        let event = EventId::FTranslation;
        let fault = fault(instance, stream, user.substream, event, iova, write);
        self.faults.caused.push(fault);
    }

    /// An access seems to have reached its memory, but what came of it looks the same if it was refused. Where it may have
    /// been, it may have been reported.
    pub(crate) fn may_be_refused(&mut self, user: User, iova: u64, kind: AccessKind) {
        let write = kind == AccessKind::Write;
        if self.oracle.expected(user, iova, kind).refused.is_some() {
            let (instance, streams) = self.oracle.streams(user.master);
            let event = EventId::FTranslation;
            let of = |stream: &u32| fault(instance, *stream, user.substream, event, iova, write);
            self.faults.caused.extend(streams.iter().map(of));
        }
    }

    /// Compares the faults that were reported with those that had to come, and leaves the latter.
    pub(crate) fn settle_faults(&mut self, reported: &mut Vec<FaultKey>) {
        let Faults { mut expected, caused, unsaid } = std::mem::take(&mut self.faults);
        expected.sort_unstable();
        expected.dedup();
        let missing = |any: &&Vec<FaultKey>| !any.iter().any(|fault| reported.contains(fault));
        let missing = expected.iter().filter(missing).filter_map(|any| any.first());
        for missing in missing.filter(|fault| !unsaid.contains(fault)) {
            let text = format!(
                "{} of stream {:#x} at {:#x} was not reported",
                missing.event.name(),
                missing.stream,
                missing.page
            );
            self.oracle.accuse(Rule::R9, text);
        }
        let expected = expected.concat();
        // A device that has intermediate addresses names no PASID with these: its event has none then.
        let oracle = &self.oracle;
        let is_split = |fault: &FaultKey| {
            let master = oracle.master_of(fault.instance, fault.stream);
            master.is_some_and(|master| oracle.is_split(master))
        };
        reported.retain(|fault| {
            expected.contains(fault)
                || !caused.iter().any(|other| {
                    (other.instance, other.stream) == (fault.instance, fault.stream)
                        && ((other.page, other.write) == (fault.page, fault.write)
                            && (other.substream == fault.substream
                                || fault.substream.is_none() && is_split(fault))
                            || !fault.event.is_translation_fault())
                })
        });
        if let Some(extra) = reported.iter().find(|fault| !expected.contains(fault)) {
            let text = format!(
                "{} of stream {:#x} at {:#x} was reported, but nothing was wrong",
                extra.event.name(),
                extra.stream,
                extra.page
            );
            self.oracle.accuse(Rule::R0, text);
        }
    }
}

/// The fault that an access causes: what its event says of it (§10.2).
fn fault(
    instance: usize,
    stream: u32,
    substream: Option<u32>,
    event: EventId,
    iova: u64,
    write: bool,
) -> FaultKey {
    if event.is_translation_fault() {
        return FaultKey { instance, stream, substream, event, page: iova & !(PAGE - 1), write };
    }
    // The event knows no address, and no direction, which reads as a write.
    let substream = substream.filter(|_| event != EventId::FStreamDisabled);
    FaultKey { instance, stream, substream, event, page: 0, write: true }
}
