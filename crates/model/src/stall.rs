// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions that stall at a translation fault until software answers (§11).
//!
//! The event of a stalled transaction is neither merged nor lost: it waits while the event queue cannot be written
//! (§3.3). Until it is in the queue the transaction is like one that has not been looked at yet: an invalidation that
//! reaches it, once complete, makes it begin anew. After that only an answer, CMD_STALL_TERM or SMMUEN = 0 ends it.

use smmuv3_formats::EventRecord;
use smmuv3_formats::command::{Resume, StallTerm};

use crate::context::Route;
use crate::invalidation::{Pending, Scope};
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Dropped, Misuse, Observation};
use crate::transaction::{Access, Reason, Refusal, Transfer, Translation};
use crate::translate::Way;

/// A transaction that waits for an answer.
#[derive(Clone, Debug)]
pub struct Stalled {
    /// Its number; later ones have greater numbers.
    pub id: u64,
    /// The access.
    pub access: Access,
    /// Its event, with the STAG that the answer names.
    pub event: EventRecord,
    /// The event is in the queue.
    pub recorded: bool,
    /// It has no event, and waits for the answer to the one of this number: the same page, for the same purpose (§11).
    pub behind: Option<u64>,
    /// It went on by itself, and only the answer is missing (§11).
    pub gone: bool,
    payload: Option<Transfer>,
}

/// What ends a stalled transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// CMD_RESUME with Ac = 1: it begins anew.
    Retry,
    /// CMD_RESUME with Ac = 0 and Ab = 1, or CMD_STALL_TERM: it aborts.
    Abort,
    /// CMD_RESUME with Ac = 0 and Ab = 0: it ends as RAZ/WI.
    Ignore,
    /// SMMUEN became 0: it aborts.
    Disabled,
}

/// What became of a transaction that had stalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StallEnd {
    /// It was translated, by itself or after an answer.
    Translated(Translation),
    /// It began anew and was refused, or stalled again ([`Reason::Stalled`]).
    Refused(Refusal),
    /// It was terminated by this answer.
    Terminated(Answer),
}

/// All stalled transactions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalls {
    waiting: Vec<Stalled>,
    /// Answered, but nothing came of that yet: consumption of the command only guarantees that it will (§11).
    answered: Vec<(Stalled, Answer)>,
}

impl Stalls {
    /// Whether an invalidation matters to some whose events are not in the queue.
    pub(crate) fn reached_by(&self, pending: &Pending) -> bool {
        self.waiting.iter().any(|it| it.is_reached_by(pending))
    }
}

impl Stalled {
    fn is_reached_by(&self, pending: &Pending) -> bool {
        let Access { stream, substream, .. } = self.access;
        !self.recorded
            && !self.gone
            && self.id < pending.cutoff
            && match pending.scope {
                Scope::Stes { first, last, .. } => (first..=last).contains(&stream),
                Scope::Cds { stream: of, substream: one, .. } => {
                    of == stream && one.is_none_or(|index| substream.unwrap_or(0) == index)
                }
                // To begin anew is always allowed.
                Scope::Tlb(_) => true,
            }
    }

    const fn stag(&self) -> u16 {
        // The field has 16 bits.
        self.event.stag() as u16
    }

    /// Whether a fault of `access` is the same: page, purpose, and who asks (§11).
    const fn covers(&self, access: &Access) -> bool {
        let own = &self.access;
        let same_substream = match (own.substream, access.substream) {
            (None, None) => true,
            (Some(one), Some(other)) => one == other,
            _ => false,
        };
        own.stream == access.stream
            && same_substream
            && own.address >> 12 == access.address >> 12
            && own.write == access.write
            && own.privileged == access.privileged
            && own.instruction == access.instruction
    }
}

impl<M: Memory> Model<M> {
    /// The transactions that wait for an answer, oldest first.
    pub fn stalled(&self) -> impl Iterator<Item = &Stalled> {
        self.stalls.waiting.iter()
    }

    /// Says what the stalled transaction of this number moves: once translated, it is [held](Self::held). Without, it
    /// is translated only.
    pub fn load(&mut self, id: u64, payload: Transfer) {
        if let Some(stalled) = self.stalls.waiting.iter_mut().find(|it| it.id == id) {
            stalled.payload = Some(payload);
        }
    }

    /// Stalls a transaction whose fault is to, if another one can be; its number. Else it is terminated, with Stall = 0
    /// (§5.4).
    pub(crate) fn stall(&mut self, access: Access, event: EventRecord) -> Option<u64> {
        let most = self.profile.idr5.stall_max();
        let Stalls { waiting, answered } = &self.stalls;
        if !self.registers.events_enabled() || (waiting.len() + answered.len()) as u64 >= most {
            return None;
        }
        let leader =
            waiting.iter().find(|it| it.behind.is_none() && !it.gone && it.covers(&access));
        let leader = leader.map(|it| it.id);
        let behind = leader.filter(|_| self.profile.adversary.stalls && self.random.one_in(2));
        let stag = self.free_stag(access.stream);
        let event = event.with_stall(true).with_stag(stag.into());
        let id = self.tick();
        let stalled =
            Stalled { id, access, event, recorded: false, behind, gone: false, payload: None };
        self.statistics.stalls += 1;
        self.stalls.waiting.push(stalled);
        let stag = Some(stag).filter(|_| behind.is_none());
        self.observe(Observation::Stalled { id, access, stag });
        self.record_stalls();
        Some(id)
    }

    /// The lowest number that no other stalled transaction of the stream has: one whose answer came is soon
    /// another's (§11).
    fn free_stag(&self, stream: u32) -> u16 {
        let of_stream = |it: &&Stalled| it.access.stream == stream && it.behind.is_none();
        let taken: Vec<u16> =
            self.stalls.waiting.iter().filter(of_stream).map(Stalled::stag).collect();
        // There are at most 2^16 - 1, so that one of 2^16 is free.
        (0..=u16::MAX).find(|stag| !taken.contains(stag)).unwrap_or(0)
    }

    /// Whether an event can be written (§3.3).
    fn can_record(&self) -> bool {
        let ring = self.registers.event_ring(&self.profile);
        let (prod, cons) = self.event_indices();
        self.registers.events_enabled()
            && !self.is_event_error_active()
            && ring.used(prod, cons).is_some_and(|used| used < ring.entries())
    }

    /// Writes the events that wait for room, as far as there is any.
    pub(crate) fn record_stalls(&mut self) {
        while let Some(at) =
            self.stalls.waiting.iter().position(|it| !it.recorded && it.behind.is_none())
        {
            // The index was just found.
            let event = self.stalls.waiting[at].event;
            if !self.can_record() {
                return;
            }
            match self.try_record(event) {
                Ok(()) => self.observe(Observation::EventRecorded(event)),
                // For the SMMU it is in the queue, and will not be written again.
                Err(because @ Dropped::Late) => {
                    self.observe(Observation::EventDropped { event, because });
                }
                Err(_) => return,
            }
            self.stalls.waiting[at].recorded = true;
        }
    }

    /// What a CMD_SYNC does for stalled transactions: those that an invalidation reached, and whose events are not in
    /// the queue, begin anew (§4.2).
    pub(crate) fn refresh_stalls(&mut self) {
        self.record_stalls();
        let reached: Vec<u64> = self
            .stalls
            .waiting
            .iter()
            .filter(|it| self.pending.iter().any(|pending| it.is_reached_by(pending)))
            .map(|it| it.id)
            .collect();
        for id in reached {
            if let Some(stalled) = self.take_stalled(id) {
                self.begin_anew(stalled);
            }
        }
    }

    fn take_stalled(&mut self, id: u64) -> Option<Stalled> {
        let at = self.stalls.waiting.iter().position(|it| it.id == id)?;
        Some(self.stalls.waiting.remove(at))
    }

    /// CMD_RESUME (§4.2): STAG and stream must be right, else it does nothing.
    pub(crate) fn resume_stalled(&mut self, command: Resume) {
        // The fields have 32 and 16 bits.
        let (stream, stag) = (command.sid() as u32, command.stag() as u16);
        let answer = match (command.ac(), command.ab()) {
            (true, _) => Answer::Retry,
            (false, false) if !self.profile.idr0.term_model() => Answer::Ignore,
            (false, _) => Answer::Abort,
        };
        let named = self.stalls.waiting.iter().find(|it| {
            it.recorded && it.behind.is_none() && (it.access.stream, it.stag()) == (stream, stag)
        });
        match named.map(|it| it.id) {
            Some(id) => self.answer(id, answer),
            None => self.misuse(Misuse::UnknownStall { stream, stag }),
        }
    }

    /// CMD_STALL_TERM (§4.2).
    pub(crate) fn stall_term(&mut self, command: StallTerm) {
        // The field has 32 bits.
        let stream = command.sid() as u32;
        if !self.terminates(stream) {
            self.misuse(Misuse::StallTermEarly { stream });
        }
        self.end_stalls(|it| it.access.stream == stream, Answer::Abort);
    }

    /// SMMUEN became 0 (§2.4).
    pub(crate) fn disable_stalls(&mut self) {
        for (_, answer) in &mut self.stalls.answered {
            *answer = Answer::Disabled;
        }
        self.end_stalls(|_| true, Answer::Disabled);
    }

    /// Whether every transaction of a stream is terminated, whatever hardware looks at.
    fn terminates(&mut self, stream: u32) -> bool {
        match self.route(stream, true) {
            Ok((Route::Illegal, _)) => {
                self.config.stes.get(&stream).is_some_and(|cached| !cached.ste.v())
            }
            Ok((route, _)) => matches!(route, Route::Abort),
            Err(_) => true,
        }
    }

    fn end_stalls(&mut self, ends: impl Fn(&Stalled) -> bool, answer: Answer) {
        let ended: Vec<u64> =
            self.stalls.waiting.iter().filter(|it| ends(it)).map(|it| it.id).collect();
        for id in ended {
            self.answer_one(id, answer);
        }
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        self.answer_one(id, answer);
        let behind: Vec<u64> =
            self.stalls.waiting.iter().filter(|it| it.behind == Some(id)).map(|it| it.id).collect();
        // Whatever the answer was, the others only begin anew.
        for id in behind {
            self.answer_one(id, Answer::Retry);
        }
    }

    fn answer_one(&mut self, id: u64, answer: Answer) {
        let Some(stalled) = self.take_stalled(id) else { return };
        if stalled.recorded {
            let (stream, stag) = (stalled.access.stream, stalled.stag());
            self.observe(Observation::StallAnswered { stream, stag, answer });
        }
        if stalled.gone {
            return;
        }
        if self.profile.adversary.stalls && self.random.one_in(2) {
            self.stalls.answered.push((stalled, answer));
        } else {
            self.carry_out(stalled, answer);
        }
    }

    fn carry_out(&mut self, stalled: Stalled, answer: Answer) {
        if answer == Answer::Retry {
            return self.begin_anew(stalled);
        }
        let Stalled { id, access, .. } = stalled;
        self.observe(Observation::StallEnded { id, access, end: StallEnd::Terminated(answer) });
    }

    /// The transaction is translated as if it came now.
    fn begin_anew(&mut self, stalled: Stalled) {
        let Stalled { id, access, payload, .. } = stalled;
        let end = match payload {
            Some(payload) => self.hold(access, payload),
            None => self.translate(access),
        };
        let end = match end {
            Ok(translation) => StallEnd::Translated(translation),
            Err(refusal) => StallEnd::Refused(refusal),
        };
        self.observe(Observation::StallEnded { id, access, end });
    }

    /// Lets all answers that were consumed take effect.
    pub fn settle_stalls(&mut self) {
        while !self.stalls.answered.is_empty() {
            let (stalled, answer) = self.stalls.answered.remove(0);
            self.carry_out(stalled, answer);
        }
    }

    /// Something may happen to stalled transactions without anybody asking for it.
    pub(crate) fn has_stalls(&self) -> bool {
        !(self.stalls.waiting.is_empty() && self.stalls.answered.is_empty())
    }

    /// Lets one answer take effect, an event be written, or a transaction that would be translated by now go on by
    /// itself (§11).
    pub(crate) fn act_on_stalls(&mut self) {
        let Stalls { waiting, answered } = &self.stalls;
        let (waiting, answered) = (waiting.len() as u64, answered.len() as u64);
        if answered != 0 && self.random.one_in(2) {
            let at = self.random.below(answered) as usize;
            let (stalled, answer) = self.stalls.answered.swap_remove(at);
            return self.carry_out(stalled, answer);
        }
        self.record_stalls();
        if waiting == 0 || !self.profile.adversary.stalls {
            return;
        }
        let at = self.random.below(waiting) as usize;
        let Some(Stalled {
            id, access, payload, behind: None, recorded: true, gone: false, ..
        }) = self.stalls.waiting.get(at).cloned()
        else {
            return;
        };
        let Ok(resolved) = self.resolve(access, Way::Late) else { return };
        let translation = resolved.translation;
        if let Some(payload) = payload
            && self.hold_resolved(access, payload, &resolved, None).is_err()
        {
            return;
        }
        if let Some(stalled) = self.stalls.waiting.iter_mut().find(|it| it.id == id) {
            (stalled.gone, stalled.payload) = (true, None);
        }
        let end = StallEnd::Translated(translation);
        self.observe(Observation::StallEnded { id, access, end });
    }

    /// What becomes of a fault that its configuration lets stall.
    pub(crate) fn stall_or_refuse(
        &mut self,
        access: Access,
        event: EventRecord,
    ) -> Option<Refusal> {
        let id = self.stall(access, event)?;
        let stalled = self.stalls.waiting.iter().find(|it| it.id == id)?;
        let (event, recorded) = (Some(stalled.event), stalled.recorded);
        Some(Refusal { event, recorded, reason: Reason::Stalled(id) })
    }
}
