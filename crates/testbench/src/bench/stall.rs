// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions that have stalled: they are kept, and answered later, also where the driver is at work.

use std::sync::{MutexGuard, PoisonError};

use smmuv3::{Fault, Interrupt, Report};

use super::{Bench, Done, FaultKey, Handle};
use crate::platform::TestPlatform;
use crate::scenario::Reply;
use crate::trace;

/// What waits for an answer.
#[derive(Default)]
pub(super) struct Stalls {
    /// Oldest first.
    faults: Vec<Fault<TestPlatform>>,
    /// Faults that did not stall, reported where the driver was interrupted.
    pub(super) others: Vec<FaultKey>,
}

/// Events that are looked at where the driver is interrupted.
const FEW: usize = 3;
/// What an answer comes to that was not too late, and one that was not given.
pub(super) const ANSWERED: &str = "answered";
pub(super) const DROPPED: &str = "dropped";

impl Bench {
    pub(super) fn stalls(&self) -> MutexGuard<'_, Stalls> {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report; the fault that it is of, and whether that stalled.
    pub(super) fn take_report(
        &self,
        instance: usize,
        report: Report<TestPlatform>,
    ) -> Option<(FaultKey, bool)> {
        let (caused, stalled) = self.look(|watch| {
            self.world.trace(|trace| trace.report(instance, &report));
            (watch.oracle.cause_of_next(instance), watch.report(instance, &report))
        });
        let record = match report {
            Report::Event(event) | Report::Aborted(event) => {
                if let Some(caused) = caused {
                    self.tell(event, caused);
                }
                event.record()
            }
            Report::Stalled(fault) => {
                let record = fault.record();
                self.stalls().faults.push(fault);
                record
            }
            Report::Pages(group) => {
                self.groups().push(group);
                return None;
            }
            _ => return None,
        };
        Some((FaultKey::of(instance, &record)?, stalled))
    }

    /// Answers the oldest that waits of a master.
    pub(super) fn answer(&self, master: usize, reply: Reply) -> Done {
        let (instance, streams) = self.oracle(|oracle| {
            let (instance, streams) = oracle.streams(master);
            (instance, streams.to_vec())
        });
        let fault = {
            let faults = &mut self.stalls().faults;
            let of_master = |fault: &Fault<TestPlatform>| {
                self.index_of(fault.instance()) == instance && streams.contains(&fault.stream().0)
            };
            faults.iter().position(of_master).map(|at| faults.remove(at))
        };
        let Some(fault) = fault else {
            return Done { outcome: "nothing waits".to_owned(), ..Done::default() };
        };
        let outcome = self.reply(fault, reply);
        self.settle_answer(instance);
        let acted = outcome == ANSWERED || outcome == DROPPED;
        Done { outcome, acted, ..Done::default() }
    }

    fn reply(&self, fault: Fault<TestPlatform>, reply: Reply) -> String {
        let operands = || trace::args([("reply", reply.name().into())]);
        self.traced("call", "respond", operands, || match reply.response() {
            None => {
                drop(fault);
                DROPPED.to_owned()
            }
            Some(response) => match fault.respond(response) {
                Ok(true) => ANSWERED.to_owned(),
                Ok(false) => "too late: it was over".to_owned(),
                Err(error) => {
                    self.look(|watch| watch.refuse(format_args!("an answer was refused: {error}")));
                    error.to_string()
                }
            },
        })
    }

    /// Where nothing is left to chance, the answer has its effect before the next step.
    fn settle_answer(&self, instance: usize) {
        let random = self.look(|watch| watch.interfering);
        let Some(mut model) = self.world.machine().model(instance).filter(|_| !random) else {
            return;
        };
        model.run(usize::MAX);
        model.settle_stalls();
        let held: Vec<u64> = model.held().map(|held| held.id).collect();
        for id in held {
            let _ = model.perform(id);
        }
    }

    /// Whether something may be done about stalls where the driver is interrupted.
    pub(crate) fn may_stall(&self) -> bool {
        self.habits.stalls
    }

    /// Interrupts the driver: takes some events of an instance, or answers one that waits, whichever `chosen` says.
    pub(crate) fn interrupt_for_stalls(&self, chosen: usize) {
        let waiting = self.stalls().faults.len();
        if waiting > 0 && chosen.is_multiple_of(2) {
            let fault = self.stalls().faults.remove(chosen / 8 % waiting);
            let reply = Reply::ALL[chosen / 2 % Reply::ALL.len()];
            self.reply(fault, reply);
            return;
        }
        let instance = chosen / 2 % self.smmus.len().max(1);
        let Some(smmu) = self.smmus.get(instance).and_then(Handle::get) else { return };
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        self.iommu.handle_interrupt(&smmu, Interrupt::Events, FEW, &mut sink);
        self.look(|watch| watch.collect(&self.world));
        for report in reports {
            if let Some((fault, false)) = self.take_report(instance, report) {
                self.stalls().others.push(fault);
            }
        }
    }

    /// Nobody answers any more: all that is left is over, and must be without a command.
    pub(super) fn answer_late(&self) {
        let left = std::mem::take(&mut self.stalls().faults);
        for (index, fault) in left.into_iter().enumerate() {
            let reply = Reply::ALL[index % Reply::ALL.len()];
            self.reply(fault, reply);
        }
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.no_stall_is_left();
        });
    }
}
