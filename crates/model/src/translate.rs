// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way of an access through the SMMU (§9).

use smmuv3_formats::EventId;

use crate::config_cache::{CachedSte, Refused};
use crate::context::{Context, Contexts, Route};
use crate::context_table::NoCd;
use crate::fault::{Second, Stop, WalkFault, event};
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Observation, Statistics};
use crate::stage_1::Asked;
use crate::stage_2::{Purpose, Stage2};
use crate::stream_table::NoSte;
use crate::tlb::{Stages, Tag, TlbEntry};
use crate::transaction::{Access, Reason, Refusal, Translation};

/// A translation, and what it was made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolved {
    pub(crate) translation: Translation,
    pub(crate) entry: Option<Found>,
    /// Age of the oldest configuration used; `None` without configuration.
    pub(crate) configuration: Option<u64>,
}

/// By what a cached translation is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    stages: Stages,
    aset: bool,
    tag: Tag,
    input: u64,
}

/// How an access is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// For a transaction that is there.
    Now,
    /// For one whose transfer waits: what it writes is marked as written when it reaches memory (§14).
    Late,
    /// Without need.
    Ahead,
}

impl<M: Memory> Model<M> {
    /// Translates one access, using and filling the caches; events go to the event queue.
    ///
    /// # Errors
    /// [`Refusal`] when the access is terminated, with the event it causes.
    pub fn translate(&mut self, access: Access) -> Result<Translation, Refusal> {
        if let Some(hit) = self.cached(&access) {
            let before = self.before();
            self.statistics.transactions += 1;
            self.statistics.tlb_hits += 1;
            self.monitored(access.stream, &before);
            self.remember(access);
            return Ok(hit);
        }
        self.begin(access, Way::Now).map(|resolved| resolved.translation)
    }

    /// The translation of an access of stage 1 for which everything is cached, and that has no other effect: the
    /// same that [`Self::begin`] finds, without copies of what is cached.
    fn cached(&self, access: &Access) -> Option<Translation> {
        let ste = self.config.stes.get(&access.stream)?;
        let Route::Stage1(contexts) = &ste.route else { return None };
        let registers = &self.registers;
        let off = !registers.enabled() || registers.is_switching();
        if off || self.profile.idr1.attr_perms_ovr() {
            return None;
        }
        let index = substream(access, contexts).ok()??;
        let context = self.config.cds.get(&(access.stream, index))?.context.as_ref().ok()?;
        let half = &context.halves[(access.address >> 55 & 1) as usize];
        let va = half.input(access.address)?;
        if half.e0pd && !access.privileged {
            return None;
        }
        let entry = self.tlb.lookup(context.tag, context.aset, va)?;
        let rights = entry.permissions.of(access.privileged);
        let permitted = match (access.write, access.instruction) {
            (true, _) => rights.write && !entry.is_clean(),
            (false, true) => rights.execute,
            (false, false) => rights.read,
        };
        permitted.then(|| translation(entry, va, true))
    }

    /// Fetches configuration and translation of an access as a hint: nothing is reported or recorded, and
    /// nothing happens while SMMUEN is 0 (§8.1).
    pub fn prefetch(&mut self, access: Access) {
        if self.registers.enabled() {
            // A hint that comes to nothing is no news.
            let _ = self.resolve(access, Way::Ahead);
        }
    }

    /// Translates for a transaction that is really there.
    pub(crate) fn begin(&mut self, access: Access, way: Way) -> Result<Resolved, Refusal> {
        let before = self.before();
        self.statistics.transactions += 1;
        self.remember(access);
        let resolved = self.resolve(access, way);
        self.monitored(access.stream, &before);
        let Stop { reason, event, stall } = match resolved {
            Ok(resolved) => return Ok(resolved),
            Err(stop) => stop,
        };
        if let Some(event) = event.filter(|_| stall)
            && let Some(stalled) = self.stall_or_refuse(access, event)
        {
            return Err(stalled);
        }
        self.statistics.faults += 1;
        if let Reason::Unsupported(what) = reason {
            self.observe(Observation::Unsupported(what));
        }
        let recorded = event.is_some_and(|event| self.record(event));
        Err(Refusal { event, recorded, reason })
    }

    pub(crate) fn resolve(&mut self, access: Access, way: Way) -> Result<Resolved, Stop> {
        if !self.powered {
            return Err(Stop::silent(Reason::Disabled));
        }
        if !self.sees_enabled() {
            let beyond = access.address & !self.output_mask() != 0;
            if self.registers.gbpa.abort() || beyond {
                return Err(Stop::silent(Reason::Disabled));
            }
            return Ok(self.bypass(&access, None));
        }
        let speculative = way == Way::Ahead;
        let (route, basis) = self.route(access.stream, speculative).map_err(|no| match no {
            NoSte::BadStream => {
                let record = self.registers.cr2_in_effect.recinvsid();
                let event = record.then(|| event(EventId::CBadStreamId, &access));
                Stop { reason: Reason::Event(EventId::CBadStreamId), event, stall: false }
            }
            NoSte::Abort(pa) => Stop::fetch_abort(EventId::FSteFetch, &access, pa),
        })?;
        let access = self.overridden(access);
        match route {
            Route::Illegal => Err(Stop::recorded(EventId::CBadSte, &access)),
            Route::Abort => Err(Stop::silent(Reason::Config)),
            Route::Unsupported(what) => Err(Stop::silent(Reason::Unsupported(what))),
            Route::Bypass | Route::Stage2 if access.substream.is_some() => {
                Err(Stop::recorded(EventId::CBadSubstreamId, &access))
            }
            Route::Bypass => self.bypass_configured(&access, basis),
            Route::Stage2 => self.stage_2_alone(&access, basis, way),
            Route::Stage1(contexts) => match substream(&access, &contexts) {
                Ok(Some(index)) => self.stage_1(&access, index, &contexts, basis, way),
                Ok(None) if contexts.nested => self.stage_2_alone(&access, basis, way),
                Ok(None) => self.bypass_configured(&access, basis),
                Err(id) => Err(Stop::recorded(id, &access)),
            },
        }
    }

    /// Whether a transaction finds SMMUEN = 1: while that becomes 0, the old value or the new one (§2.4). While it
    /// becomes 1 it is 0 up to some moment, with which CR2 comes into effect.
    fn sees_enabled(&mut self) -> bool {
        self.enable_early();
        let registers = &self.registers;
        let (enabled, falling) = (registers.enabled(), registers.is_falling());
        let either = enabled && falling && self.profile.adversary.early_disable;
        enabled && !(either && self.random.one_in(2))
    }

    /// Stage 1 is skipped by configuration, and there is no stage 2.
    pub(crate) fn bypass_configured(
        &mut self,
        access: &Access,
        basis: u64,
    ) -> Result<Resolved, Stop> {
        if access.address & !self.output_mask() != 0 {
            return Err(Stop::recorded(EventId::FAddrSize, access));
        }
        Ok(self.bypass(access, Some(basis)))
    }

    pub(crate) fn bypass(&self, access: &Access, configuration: Option<u64>) -> Resolved {
        let translation = Translation {
            pa: access.address,
            size: self.output_mask() + 1,
            tlb_hit: false,
            tag: None,
            entry: None,
        };
        Resolved { translation, entry: None, configuration }
    }

    /// Stage 2 of a stream whose STE is cached; `None` where it is off.
    pub(crate) fn stage_2_of(&self, stream: u32) -> Option<Stage2> {
        self.config.stes.get(&stream)?.second
    }

    /// Stage 1 is off, or skipped, and stage 2 on (§9, step 7).
    pub(crate) fn stage_2_alone(
        &mut self,
        access: &Access,
        basis: u64,
        way: Way,
    ) -> Result<Resolved, Stop> {
        let beyond = access.address >> self.implementation().intermediate_bits() != 0;
        let stage = self.stage_2_of(access.stream).filter(|_| !beyond);
        let Some(stage) = stage else {
            // A fault of stage 1, which is not there: always recorded.
            return Err(Stop::recorded(EventId::FAddrSize, access));
        };
        let purpose = Purpose::input(access, way == Way::Ahead, way == Way::Late);
        let ipa = access.address;
        let mut hit = true;
        let found = match self.ipa_tlb.lookup(stage.tag, false, ipa) {
            Some(_) => self.second(&stage, ipa, &purpose),
            None => {
                hit = false;
                self.walks(ipa, &purpose, |model| model.second(&stage, ipa, &purpose))
            }
        };
        self.statistics.looked_up(hit, way);
        let entry = found.map_err(|fault| stop(&fault, access, None, Some(&stage)))?;
        Ok(resolved(&entry, ipa, hit, basis))
    }

    /// A cached translation that was used just now.
    pub(crate) fn found(&self, found: &Found) -> Option<TlbEntry> {
        let tlb = match found.stages {
            Stages::Two => &self.ipa_tlb,
            Stages::One | Stages::Both => &self.tlb,
        };
        tlb.lookup(found.tag, found.aset, found.input).copied()
    }

    /// An intermediate address of a stream with stage 2, whatever its stage 1 is.
    pub(crate) fn second_alone(&mut self, access: Access, way: Way) -> Result<Translation, Stop> {
        // Whoever asks has looked at the configuration just now.
        let basis = self.config.stes.get(&access.stream).map_or(0, |ste| ste.basis);
        self.stage_2_alone(&access, basis, way).map(|it| it.translation)
    }

    pub(crate) fn stage_1(
        &mut self,
        access: &Access,
        substream: u32,
        contexts: &Contexts,
        ste_basis: u64,
        way: Way,
    ) -> Result<Resolved, Stop> {
        let stream = access.stream;
        let over = if contexts.nested { self.stage_2_of(stream) } else { None };
        let over = over.as_ref();
        let (context, basis) = self
            .context(stream, substream, contexts, ste_basis, way == Way::Ahead)
            .map_err(|no| match no {
                NoCd::BadSubstream => Stop::recorded(EventId::CBadSubstreamId, access),
                NoCd::Abort(pa) => Stop::fetch_abort(EventId::FCdFetch, access, pa),
                NoCd::Fault(fault) => stop(&fault, access, None, over),
            })?;
        let context = context.map_err(|refused| match refused {
            Refused::Illegal => Stop::recorded(EventId::CBadCd, access),
            Refused::Unsupported(what) => Stop::silent(Reason::Unsupported(what)),
        })?;
        let fault = |id| Stop::first(id, access, &context);

        let half = context.halves[(access.address >> 55 & 1) as usize];
        let Some(va) = half.input(access.address).filter(|_| !half.e0pd || access.privileged)
        else {
            return Err(fault(EventId::FTranslation));
        };
        let purpose = Purpose::input(access, way == Way::Ahead, way == Way::Late);
        // Whether the first look found it.
        let mut first = None;
        loop {
            // Entries are large: they stay where they are.
            let entry = self.tlb.lookup(context.tag, context.aset, va);
            if first.is_none() {
                first = Some(entry.is_some());
                self.statistics.looked_up(entry.is_some(), way);
            }
            let Some(entry) = entry else {
                first = Some(false);
                let Some(tables) = &half.tables else { return Err(fault(EventId::FTranslation)) };
                let asked = Asked { context: &context, half: &half, tables, over, va, purpose };
                self.walk(&asked).map_err(|found| stop(&found, access, Some(&context), over))?;
                continue;
            };
            let hit = first == Some(true);
            if !purpose.permitted(&entry.permissions) && !purpose.speculative {
                let refused = refused_by(entry, va, &purpose);
                return Err(stop(&refused, access, Some(&context), over));
            }
            if !(entry.is_clean() && purpose.marks()) {
                return Ok(resolved(entry, va, hit, basis));
            }
            let entry = *entry;
            let marked = self
                .mark(&entry, over, stream)
                .map_err(|found| stop(&found, access, Some(&context), over))?;
            // What could not be marked is gone, and looked for again.
            if let Some(entry) = marked {
                return Ok(resolved(&entry, va, hit, basis));
            }
        }
    }

    /// The access after the STE's overrides (§5.2, §16.4).
    pub(crate) fn overridden(&self, mut access: Access) -> Access {
        if self.profile.idr1.attr_perms_ovr()
            && let Some(CachedSte { ste, .. }) = self.config.stes.get(&access.stream)
        {
            match ste.priv_cfg() {
                2 => access.privileged = false,
                3 => access.privileged = true,
                _ => {}
            }
            match ste.inst_cfg() {
                2 => access.instruction = false,
                3 => access.instruction = true,
                _ => {}
            }
        }
        access.instruction &= !access.write;
        access
    }
}

impl Statistics {
    const fn looked_up(&mut self, hit: bool, way: Way) {
        match (way, hit) {
            (Way::Ahead, _) => {}
            (_, true) => self.tlb_hits += 1,
            (_, false) => self.tlb_misses += 1,
        }
    }
}

const fn translation(entry: &TlbEntry, input: u64, tlb_hit: bool) -> Translation {
    Translation {
        pa: entry.output(input),
        size: entry.size,
        tlb_hit,
        tag: Some(entry.tag),
        entry: Some(entry.id),
    }
}

const fn resolved(entry: &TlbEntry, input: u64, tlb_hit: bool, basis: u64) -> Resolved {
    let translation = translation(entry, input, tlb_hit);
    let entry = Some(Found { stages: entry.stages, aset: entry.aset, tag: entry.tag, input });
    Resolved { translation, entry, configuration: Some(basis) }
}

/// The stage of a cached translation that does not permit, and so has the fault.
fn refused_by(entry: &TlbEntry, va: u64, purpose: &Purpose) -> WalkFault {
    let second = entry.second.filter(|second| purpose.permitted(&second.first)).map(|second| {
        let ipa = second.ipa | va & (entry.size - 1);
        Second { class: purpose.class, ipa, update: false }
    });
    WalkFault { second, ..WalkFault::first(EventId::FPermission) }
}

/// What becomes of an access whose translation failed.
fn stop(
    fault: &WalkFault,
    access: &Access,
    context: Option<&Context>,
    over: Option<&Stage2>,
) -> Stop {
    match (&fault.second, context) {
        (Some(second), _) => {
            let how = over.map_or((true, false), |over| (over.record, over.stall));
            Stop::second(fault, second, access, how)
        }
        (None, Some(context)) if fault.event.is_translation_fault() => {
            Stop::first(fault.event, access, context)
        }
        (None, _) => Stop::fetch_abort(fault.event, access, fault.fetch),
    }
}

/// Index of the CD that an access uses; `None` when it skips stage 1 (§5.3).
pub(crate) fn substream(access: &Access, contexts: &Contexts) -> Result<Option<u32>, EventId> {
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
