// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transfers that were translated but have not reached memory: only a CMD_SYNC after an invalidation of
//! what they used, or a broadcast one, ends them for sure (§4.2, §8.3).

use crate::memory::{Abort, Memory};
use crate::model::Model;
use crate::observation::Observation;
use crate::tlb::TlbEntry;
use crate::transaction::{Access, Reason, Refusal, Transfer, Translation};
use crate::translate::{Resolved, Way};

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its number; later ones have greater numbers.
    pub id: u64,
    /// The access.
    pub access: Access,
    /// Where it goes.
    pub pa: u64,
    /// What it moves.
    pub transfer: Transfer,
    /// The cached translation it used; `None` for bypass.
    pub entry: Option<TlbEntry>,
    /// The entry of its device's ATC that it used ([`AtcEntry::id`](crate::AtcEntry::id)).
    pub atc: Option<u64>,
    /// Age of the oldest configuration it used.
    pub(crate) configuration: Option<u64>,
    /// What it writes is still to be marked as written, before it reaches memory (§14).
    pub(crate) unmarked: bool,
}

/// A transfer that reached memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performed {
    /// Its number.
    pub id: u64,
    /// The access.
    pub access: Access,
    /// Where it went.
    pub pa: u64,
    /// What was read (empty for writes), or the abort.
    pub result: Result<Vec<u8>, Abort>,
    /// Whether a CMD_SYNC, or a broadcast invalidation, forced it.
    pub drained: bool,
}

impl<M: Memory> Model<M> {
    /// Translates a transfer, which then waits: for [`Self::perform`], [`Self::act`] or a CMD_SYNC or
    /// [`Self::broadcast`] that must wait for it. The direction is the payload's, and all its bytes lie in one mapping.
    ///
    /// # Errors
    /// [`Refusal`] as for [`Self::translate`], or when the payload crosses the end of the mapping.
    pub fn hold(&mut self, access: Access, payload: Transfer) -> Result<Translation, Refusal> {
        let write = matches!(payload, Transfer::Write(_));
        let access = Access { write, ..access };
        let resolved = match self.begin(access, Way::Late) {
            Ok(resolved) => resolved,
            Err(refusal) => {
                if let Reason::Stalled(id) = refusal.reason {
                    self.load(id, payload);
                }
                return Err(refusal);
            }
        };
        self.hold_resolved(access, payload, &resolved, None)
    }

    /// What was translated waits.
    pub(crate) fn hold_resolved(
        &mut self,
        access: Access,
        payload: Transfer,
        resolved: &Resolved,
        atc: Option<u64>,
    ) -> Result<Translation, Refusal> {
        let (translation, write) = (resolved.translation, access.write);
        let room = translation.size - (translation.pa & (translation.size - 1));
        if payload.len() as u64 > room {
            return Err(Refusal { event: None, recorded: false, reason: Reason::CrossesPage });
        }
        let entry = resolved.entry.and_then(|found| self.found(&found));
        let unmarked = write && entry.is_some_and(|entry| entry.is_clean());
        let id = self.tick();
        self.held.push(Held {
            id,
            access,
            pa: translation.pa,
            transfer: payload,
            entry,
            atc,
            configuration: resolved.configuration,
            unmarked,
        });
        if unmarked && !self.profile.adversary.late_dirty {
            self.mark_held(id);
        }
        Ok(translation)
    }

    /// The transfers under way, oldest first.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    /// Lets a held transfer reach memory; `None` when there is none of that number.
    pub fn perform(&mut self, id: u64) -> Option<Performed> {
        self.finish(id, false)
    }

    /// Transfers that [`Self::act`], a CMD_SYNC or a broadcast let reach memory since the last call.
    pub fn finished(&mut self) -> Vec<Performed> {
        std::mem::take(&mut self.finished)
    }

    pub(crate) fn drain(&mut self, id: u64) {
        if let Some(performed) = self.finish(id, true) {
            self.statistics.drained += 1;
            self.finished.push(performed);
        }
    }

    pub(crate) fn finish(&mut self, id: u64, drained: bool) -> Option<Performed> {
        self.mark_held(id);
        let at = self.held.iter().position(|held| held.id == id)?;
        let Held { access, pa, transfer, unmarked, .. } = self.held.remove(at);
        let bytes = transfer.len();
        let result = match transfer {
            // Nothing may be written to what is not marked: it has no translation any more.
            Transfer::Write(_) if unmarked => Err(Abort { pa }),
            Transfer::Write(bytes) => self.memory.write(pa, &bytes).map(|()| Vec::new()),
            Transfer::Read(bytes) => {
                let mut buffer = vec![0; bytes];
                self.memory.read(pa, &mut buffer).map(|()| buffer)
            }
        };
        let aborted = result.is_err();
        self.observe(Observation::Performed { id, access, pa, bytes, drained, aborted });
        Some(Performed { id, access, pa, result, drained })
    }

    /// Marks what a held transfer writes as written, if that is still due. A leaf that is another by now is
    /// walked again, and the transfer goes where that leads, or nowhere.
    fn mark_held(&mut self, id: u64) {
        let Some(at) = self.held.iter().position(|held| held.id == id) else { return };
        // The index was just found.
        let Held { access, entry, unmarked, .. } = self.held[at].clone();
        let Some(entry) = entry.filter(|_| unmarked) else { return };
        let over = self.stage_2_of(access.stream);
        let marked = self.mark(&entry, over.as_ref(), access.stream);
        if matches!(marked, Ok(Some(_))) {
            self.held[at].unmarked = false;
            return;
        }
        match self.resolve(access, Way::Now) {
            Ok(found) => {
                let entry = found.entry.and_then(|found| self.found(&found));
                let held = &mut self.held[at];
                held.pa = found.translation.pa;
                held.entry = entry;
                held.configuration = found.configuration;
                held.unmarked = false;
            }
            Err(stop) => {
                self.statistics.faults += 1;
                if let Some(event) = stop.event {
                    self.record(event);
                }
            }
        }
    }
}
