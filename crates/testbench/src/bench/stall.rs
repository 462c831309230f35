// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions that have stalled: they are kept, and answered later, also where the driver is at work.

use std::sync::{Arc, MutexGuard, PoisonError};

use fastrand::Rng;
use smmuv3::{Fault, InstanceId, Interrupt, Nest, Report};
use smmuv3_formats::command::{Resume, StallTerm};
use smmuv3_formats::{Command, EventRecord};

use super::guest::carry_out;
use super::{Bench, Done, FaultKey, Handle};
use crate::oracle::Caused;
use crate::platform::TestPlatform;
use crate::scenario::Reply;
use crate::trace;

/// What waits for an answer.
#[derive(Default)]
pub(super) struct Stalls {
    /// Oldest first.
    faults: Vec<Fault<TestPlatform>>,
    /// Those that guests are to answer.
    shown: Vec<Shown>,
    /// What guests were to answer, and never will: behind which instance, and by which STAG. Some wait still.
    unanswered: Vec<(usize, u64)>,
    /// Faults that did not stall, reported where the driver was interrupted.
    pub(super) others: Vec<FaultKey>,
}

/// What a guest is to answer.
struct Shown {
    nest: Arc<Nest<TestPlatform>>,
    /// What the SMMU recorded, and what the guest was told.
    record: EventRecord,
    told: EventRecord,
}

/// Events that are looked at where the driver is interrupted.
const FEW: usize = 3;
/// What an answer comes to that was not too late, and one that was not given.
pub(super) const ANSWERED: &str = "answered";
pub(super) const DROPPED: &str = "dropped";

/// What a guest does wrong when it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    /// It answers a second time.
    Twice,
    /// It answers what is others', by guessing.
    Others,
    /// It ends all of the stream, which goes on. To page requests, for which there is no such command, it answers with a PASID where
    /// there is none to be in the answer, and without where there is.
    All,
}

impl Wrong {
    pub(super) const ALL: [Self; 4] = [Self::Nothing, Self::Twice, Self::Others, Self::All];
}

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
                match self.show(fault, caused) {
                    Ok(Some(shown)) => self.stalls().shown.push(shown),
                    Ok(None) => {}
                    Err(fault) => self.stalls().faults.push(fault),
                }
                record
            }
            Report::Pages(group) => {
                self.take_group(instance, group);
                return None;
            }
            Report::PasidStopped { stream, pasid } => {
                self.tell_stop(instance, stream, pasid);
                return None;
            }
            _ => return None,
        };
        Some((FaultKey::of(instance, &record)?, stalled))
    }

    /// Drops what has stalled of instances that are not kept.
    pub(super) fn forget_stalls(&self, is_kept: impl Fn(smmuv3::InstanceId) -> bool) {
        let mut stalls = self.stalls();
        stalls.faults.retain(|fault| is_kept(fault.instance()));
        stalls.shown.retain(|shown| is_kept(shown.nest.instance()));
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
        let shown = || {
            let shown = &mut self.stalls().shown;
            let of_master = |it: &Shown| {
                // The field has 32 bits.
                let stream = it.record.sid() as u32;
                self.index_of(it.nest.instance()) == instance && streams.contains(&stream)
            };
            shown.iter().position(of_master).map(|at| shown.remove(at))
        };
        let mut answered = None;
        let outcome = match fault {
            Some(fault) => self.reply(fault, reply),
            None => match shown() {
                Some(shown) => {
                    // A guest that does wrong does it where something is left to chance.
                    let random = self.look(|watch| watch.interfering);
                    let waiting = self.oracle(|oracle| oracle.waiting(instance, &shown.record));
                    answered = waiting.filter(|_| !random && reply != Reply::Drop);
                    self.reply_of_guest(
                        shown,
                        reply,
                        if random { Wrong::Twice } else { Wrong::Nothing },
                    )
                }
                None => return Done { outcome: "nothing waits".to_owned(), ..Done::default() },
            },
        };
        self.settle_answer(instance);
        if let Some(answered) = answered {
            self.look(|watch| {
                watch.collect(&self.world);
                watch.oracle.must_be_answered(instance, &answered);
            });
        }
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

    /// Hands what has stalled on to the guest whose it is, if it is a guest's. `None` where it was aborted.
    fn show(
        &self,
        fault: Fault<TestPlatform>,
        caused: Option<Caused>,
    ) -> Result<Option<Shown>, Fault<TestPlatform>> {
        let mut fault = fault;
        let record = fault.record();
        for guest in self.guests.iter().flatten() {
            // That of the first guest over a domain.
            let Some(nest) = guest.own_nest(fault.instance()) else { continue };
            match nest.show(fault) {
                Ok(told) => {
                    if let Some(caused) = caused {
                        self.look(|watch| watch.oracle.told(guest.under(), &record, &caused));
                    }
                    return Ok(told.stall().then_some(Shown { nest, record, told }));
                }
                Err(refused) => fault = refused.value,
            }
        }
        Err(fault)
    }

    /// A guest answers, and does what is `wrong`.
    fn reply_of_guest(&self, shown: Shown, reply: Reply, wrong: Wrong) -> String {
        let Shown { nest, record, told } = shown;
        let right = Resume::new().with_sid(told.sid()).with_stag(told.stag());
        let right = match reply {
            Reply::Retry => right.with_ac(true),
            Reply::Abort => right.with_ab(true),
            Reply::Terminate => right,
            // It never answers.
            Reply::Drop => {
                let instance = self.index_of(nest.instance());
                self.stalls().unanswered.push((instance, told.stag()));
                return DROPPED.to_owned();
            }
        };
        // By the numbers that the SMMU knows others by, and itself.
        let others = || {
            let stalls = self.stalls();
            let known = stalls.faults.iter().map(Fault::record);
            let known = known.chain(stalls.shown.iter().map(|it| it.record)).chain([record]);
            known.map(|it| right.with_sid(it.sid() ^ 1).with_stag(it.stag())).collect::<Vec<_>>()
        };
        let mut commands: Vec<Command> = match wrong {
            // An answer to another's comes before: what it answers itself may free that number.
            Wrong::Others => {
                others().into_iter().filter(|it| *it != right).map(Into::into).collect()
            }
            Wrong::Nothing | Wrong::Twice | Wrong::All => Vec::new(),
        };
        commands.push(right.into());
        match wrong {
            Wrong::Twice => commands.push(right.with_ac(true).into()),
            Wrong::All => commands.push(StallTerm::new().with_sid(told.sid()).into()),
            Wrong::Nothing | Wrong::Others => {}
        }
        let instance = self.index_of(nest.instance());
        let waited = self.oracle(|oracle| oracle.waiting(instance, &record).is_some());
        let operands = || trace::args([("reply", reply.name().into())]);
        let given = self.traced("call", "forward", operands, || carry_out(&nest, &commands));
        match given {
            Ok(()) if waited => ANSWERED.to_owned(),
            Ok(()) => "too late: it was over".to_owned(),
            Err(error) => {
                self.look(|watch| watch.refuse(format_args!("a guest's answer: {error}")));
                error
            }
        }
    }

    /// The guests' SMMUs on an instance are gone: what they were to answer has ended.
    pub(super) fn hide_stalls(&self, instance: InstanceId) {
        let gone = {
            let shown = &mut self.stalls().shown;
            shown.extract_if(.., |it| it.nest.instance() == instance).collect::<Vec<_>>()
        };
        drop(gone);
    }

    /// A STAG that no guest is shown behind `instance`, if possible one that the SMMU knows.
    pub(super) fn unshown_stag(&self, instance: usize, rng: &mut Rng) -> u16 {
        let stalls = self.stalls();
        let shown = stalls.shown.iter().filter(|it| self.index_of(it.nest.instance()) == instance);
        let mut told: Vec<u64> = shown.clone().map(|it| it.told.stag()).collect();
        let never = stalls.unanswered.iter().filter(|(of, _)| *of == instance);
        told.extend(never.map(|(_, stag)| *stag));
        let faults = stalls.faults.iter().map(|fault| fault.record().stag());
        let known = shown.map(|it| it.record.stag()).chain(faults);
        let known: Vec<u64> = known.filter(|stag| !told.contains(stag)).collect();
        let any = (0..=u16::MAX).cycle().skip(rng.u16(..).into()).take(1 << 16);
        // The field has 16 bits, and there are fewer than that many.
        let unknown = any.into_iter().find(|stag| !told.contains(&u64::from(*stag)));
        match rng.choice(known).filter(|_| rng.bool()) {
            Some(stag) => stag as u16,
            None => unknown.unwrap_or_default(),
        }
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
        let (faults, shown) = {
            let stalls = self.stalls();
            (stalls.faults.len(), stalls.shown.len())
        };
        let waiting = faults + shown;
        if waiting > 0 && chosen.is_multiple_of(2) {
            let at = chosen / 8 % waiting;
            let reply = Reply::ALL[chosen / 2 % Reply::ALL.len()];
            if at < faults {
                let fault = self.stalls().faults.remove(at);
                self.reply(fault, reply);
            } else {
                let shown = self.stalls().shown.remove(at - faults);
                self.reply_of_guest(shown, reply, Wrong::ALL[chosen / 8192 % Wrong::ALL.len()]);
            }
            return;
        }
        let instance = chosen / 2 % self.smmus.len().max(1);
        let Some(smmu) = self.smmus.get(instance).and_then(Handle::get) else { return };
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        let _ = self.iommu.handle_interrupt(&smmu, Interrupt::Events, FEW, &mut sink);
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
        let left = std::mem::take(&mut self.stalls().shown);
        for shown in left {
            self.reply_of_guest(shown, Reply::Retry, Wrong::Others);
        }
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.no_stall_is_left();
        });
    }
}
