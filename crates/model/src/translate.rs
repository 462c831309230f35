// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way of an access through the SMMU (§9).

use smmuv3_formats::event::class;
use smmuv3_formats::{EventId, EventRecord};

use crate::config_cache::Refused;
use crate::context::{Context, Contexts, Route};
use crate::context_table::NoCd;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Observation;
use crate::stream_table::NoSte;
use crate::tlb::TlbEntry;
use crate::transaction::{Access, Reason, Refusal, Translation};
use crate::walk::WalkFault;

/// A translation, and what it was made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolved {
    pub(crate) translation: Translation,
    pub(crate) entry: Option<TlbEntry>,
    /// Age of the oldest configuration used; `None` without configuration.
    pub(crate) configuration: Option<u64>,
}

/// Why there is none.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    pub(crate) event: Option<EventRecord>,
}

impl Stop {
    const fn silent(reason: Reason) -> Self {
        Self { reason, event: None }
    }
}

impl<M: Memory> Model<M> {
    /// Translates one access, using and filling the caches; events go to the event queue.
    ///
    /// # Errors
    /// [`Refusal`] when the access is terminated, with the event it causes.
    pub fn translate(&mut self, access: Access) -> Result<Translation, Refusal> {
        self.begin(access).map(|resolved| resolved.translation)
    }

    /// Fetches configuration and translation of an access as a hint: nothing is reported or recorded, and
    /// nothing happens while SMMUEN is 0 (§8.1).
    pub fn prefetch(&mut self, access: Access) {
        if self.registers.enabled() {
            // A hint that comes to nothing is no news.
            let _ = self.resolve(access, true);
        }
    }

    /// Translates for a transaction that is really there.
    pub(crate) fn begin(&mut self, access: Access) -> Result<Resolved, Refusal> {
        self.statistics.transactions += 1;
        self.remember(access);
        let Stop { reason, event } = match self.resolve(access, false) {
            Ok(resolved) => return Ok(resolved),
            Err(stop) => stop,
        };
        self.statistics.faults += 1;
        if let Reason::Unsupported(what) = reason {
            self.observe(Observation::Unsupported(what));
        }
        let recorded = event.is_some_and(|event| self.record(event));
        Err(Refusal { event, recorded, reason })
    }

    fn resolve(&mut self, access: Access, speculative: bool) -> Result<Resolved, Stop> {
        if !self.registers.enabled() {
            let beyond = access.address & !self.output_mask() != 0;
            if self.registers.gbpa.abort() || beyond {
                return Err(Stop::silent(Reason::Disabled));
            }
            return Ok(self.bypass(&access, None));
        }
        let (route, ste_basis) = self.route(access.stream, speculative).map_err(|no| match no {
            NoSte::BadStream => {
                let record = self.registers.cr2_in_effect.recinvsid();
                let event = record.then(|| event(EventId::CBadStreamId, &access));
                Stop { reason: Reason::Event(EventId::CBadStreamId), event }
            }
            NoSte::Abort(pa) => fetch_abort(EventId::FSteFetch, &access, pa),
        })?;
        match route {
            Route::Illegal => Err(stop(EventId::CBadSte, &access)),
            Route::Abort => Err(Stop::silent(Reason::Config)),
            Route::Unsupported(what) => Err(Stop::silent(Reason::Unsupported(what))),
            Route::Bypass => {
                if access.substream.is_some() {
                    return Err(stop(EventId::CBadSubstreamId, &access));
                }
                self.bypass_configured(&access, ste_basis)
            }
            Route::Stage1(contexts) => {
                let access = self.overridden(access);
                match substream(&access, &contexts) {
                    Ok(Some(index)) => {
                        self.stage_1(&access, index, &contexts, ste_basis, speculative)
                    }
                    Ok(None) => self.bypass_configured(&access, ste_basis),
                    Err(id) => Err(stop(id, &access)),
                }
            }
        }
    }

    /// Stage 1 is skipped by configuration.
    fn bypass_configured(&mut self, access: &Access, basis: u64) -> Result<Resolved, Stop> {
        if access.address & !self.output_mask() != 0 {
            return Err(stop(EventId::FAddrSize, access));
        }
        Ok(self.bypass(access, Some(basis)))
    }

    fn bypass(&self, access: &Access, configuration: Option<u64>) -> Resolved {
        let translation = Translation {
            pa: access.address,
            size: self.output_mask() + 1,
            tlb_hit: false,
            tag: None,
            entry: None,
        };
        Resolved { translation, entry: None, configuration }
    }

    fn stage_1(
        &mut self,
        access: &Access,
        substream: u32,
        contexts: &Contexts,
        ste_basis: u64,
        speculative: bool,
    ) -> Result<Resolved, Stop> {
        let stream = access.stream;
        let (context, basis) = self
            .context(stream, substream, contexts, ste_basis, speculative)
            .map_err(|no| match no {
                NoCd::BadSubstream => stop(EventId::CBadSubstreamId, access),
                NoCd::Abort(pa) => fetch_abort(EventId::FCdFetch, access, pa),
            })?;
        let context = context.map_err(|refused| match refused {
            Refused::Illegal => stop(EventId::CBadCd, access),
            Refused::Unsupported(what) => Stop::silent(Reason::Unsupported(what)),
        })?;
        let fault = |id| fault(id, access, &context);

        let half = context.halves[(access.address >> 55 & 1) as usize];
        // With TBI the top byte counts as if it repeated bit 55.
        let va = if half.tbi { ((access.address << 8) as i64 >> 8) as u64 } else { access.address };
        let top = va as i64 >> half.input;
        // A disabled half has no size: what is cached hits, and nothing is walked.
        let outside = !half.disabled && top != 0 && top != -1;
        if outside || (half.e0pd && !access.privileged) {
            return Err(fault(EventId::FTranslation));
        }
        let hit = self.tlb.lookup(context.tag, context.aset, va).copied();
        let (entry, tlb_hit) = match hit {
            Some(entry) => (entry, true),
            None if half.disabled => return Err(fault(EventId::FTranslation)),
            None => match self.walk(&context, &half, va, stream, speculative) {
                Ok(entry) => (entry, false),
                Err(found) => {
                    self.statistics.tlb_misses += u64::from(!speculative);
                    return Err(walk_stop(found, access, &context));
                }
            },
        };
        if !speculative {
            self.statistics.tlb_hits += u64::from(tlb_hit);
            self.statistics.tlb_misses += u64::from(!tlb_hit);
        }
        let permissions = &entry.permissions;
        let rights =
            if access.privileged { permissions.privileged } else { permissions.unprivileged };
        let permitted = match (access.write, access.instruction) {
            (true, _) => rights.write,
            (false, true) => rights.execute,
            (false, false) => rights.read,
        };
        if !permitted && !speculative {
            return Err(fault(EventId::FPermission));
        }
        let translation = Translation {
            pa: entry.pa | va & (entry.size - 1),
            size: entry.size,
            tlb_hit,
            tag: Some(entry.tag),
            entry: Some(entry.id),
        };
        Ok(Resolved { translation, entry: Some(entry), configuration: Some(basis) })
    }

    /// The access after the STE's overrides (§5.2, §16.4).
    fn overridden(&self, mut access: Access) -> Access {
        if self.profile.idr1.attr_perms_ovr()
            && let Some(cached) = self.config.stes.get(&access.stream)
        {
            match cached.ste.priv_cfg() {
                2 => access.privileged = false,
                3 => access.privileged = true,
                _ => {}
            }
            match cached.ste.inst_cfg() {
                2 => access.instruction = false,
                3 => access.instruction = true,
                _ => {}
            }
        }
        access.instruction &= !access.write;
        access
    }
}

/// Index of the CD that an access uses; `None` when it skips stage 1 (§5.3).
fn substream(access: &Access, contexts: &Contexts) -> Result<Option<u32>, EventId> {
    match (access.substream, contexts.log2) {
        (None, 0) => Ok(Some(0)),
        (Some(_), 0) => Err(EventId::CBadSubstreamId),
        (Some(index), log2) if u64::from(index) >> log2 != 0 => Err(EventId::CBadSubstreamId),
        (Some(0), _) if contexts.s1_dss == 2 => Err(EventId::FStreamDisabled),
        (Some(index), _) => Ok(Some(index)),
        (None, _) => match contexts.s1_dss {
            1 => Ok(None),
            2 => Ok(Some(0)),
            _ => Err(EventId::FStreamDisabled),
        },
    }
}

/// The record of an event with the fields that its kind has (§10.2); stage 1 only, so S2 is 0.
fn event(id: EventId, access: &Access) -> EventRecord {
    let substream = u64::from(access.substream.unwrap_or(0)) & 0xf_ffff;
    let mut record = EventRecord::default().with_id(id as u64).with_sid(access.stream.into());
    match id {
        EventId::CBadSubstreamId => record = record.with_ssid(substream),
        EventId::FStreamDisabled => {}
        _ if access.substream.is_some() => record = record.with_ssv(true).with_ssid(substream),
        _ => {}
    }
    if id.is_translation_fault() || id == EventId::FWalkEabt {
        let class = if id == EventId::FWalkEabt { class::TABLE } else { class::INPUT };
        record = record
            .with_rnw(!access.write)
            .with_ind(access.instruction && !access.write)
            .with_pnu(access.privileged)
            .with_class(class)
            .with_input_addr(access.address);
    }
    record
}

/// An error that is always recorded and aborts.
fn stop(id: EventId, access: &Access) -> Stop {
    Stop { reason: Reason::Event(id), event: Some(event(id, access)) }
}

/// An error with the address of what could not be read.
fn fetch_abort(id: EventId, access: &Access, pa: u64) -> Stop {
    const FETCH_ADDR: u64 = ((1 << 56) - 1) & !0b111;
    let record = event(id, access).with_fetch_addr(pa & FETCH_ADDR);
    Stop { reason: Reason::Event(id), event: Some(record) }
}

/// A translation fault, as CD.A and CD.R want it (§5.4).
fn fault(id: EventId, access: &Access, context: &Context) -> Stop {
    let reason = if context.abort { Reason::Event(id) } else { Reason::Ignored(id) };
    Stop { reason, event: context.record.then(|| event(id, access)) }
}

fn walk_stop(found: WalkFault, access: &Access, context: &Context) -> Stop {
    match found.event {
        EventId::FWalkEabt => fetch_abort(found.event, access, found.fetch),
        id => fault(id, access, context),
    }
}
