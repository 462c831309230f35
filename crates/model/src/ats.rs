// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address translation services: what a device is told when it asks for a translation, and what becomes of what it
//! sends with one (§12).

use smmuv3_formats::{EventId, EventRecord};

use crate::context::Route;
use crate::fault::{Stop, event};
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Observation;
use crate::stream_table::NoSte;
use crate::transaction::{Access, Reason, Refusal, Translation};
use crate::translate::{Resolved, Way, substream};

/// An ATS translation request (TR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TranslationRequest {
    /// StreamID.
    pub stream: u32,
    /// SubstreamID (PASID), where the device gives one.
    pub substream: Option<u32>,
    /// Address that it asks for.
    pub address: u64,
    /// NW: it will not write, so nothing is marked as written.
    pub no_write: bool,
    /// It asks for privileged rights; means nothing without substream.
    pub privileged: bool,
    /// It asks for the right to execute; means nothing without substream.
    pub execute: bool,
}

impl TranslationRequest {
    /// For unprivileged data, without substream, to be read and written.
    pub const fn new(stream: u32, address: u64) -> Self {
        Self {
            stream,
            substream: None,
            address,
            no_write: false,
            privileged: false,
            execute: false,
        }
    }
}

/// The completion of a translation request (§12.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Unsupported Request: there is no ATS here.
    Unsupported,
    /// Completer Abort: the configuration is broken.
    Aborted,
    /// What there is, possibly nothing.
    Success(Granted),
}

/// What a device may do with a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// First translated address; 0 where nothing is granted.
    pub address: u64,
    /// Bytes, a power of two: the range is around the address that was asked for.
    pub size: u64,
    /// It may read.
    pub read: bool,
    /// It may write.
    pub write: bool,
    /// It may execute.
    pub execute: bool,
    /// For privileged accesses, as it was asked.
    pub privileged: bool,
}

impl Granted {
    /// Nothing, for `size` bytes.
    const fn nothing(size: u64, privileged: bool) -> Self {
        Self { address: 0, size, read: false, write: false, execute: false, privileged }
    }
}

/// What STE.EATS, with CR0.ATSCHK, comes to (§7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eats {
    Off,
    /// Translated addresses are physical.
    Full,
    /// They are intermediate.
    Split,
}

/// Why a request is not answered with Success.
struct No {
    completion: Completion,
    event: Option<EventRecord>,
}

impl<M: Memory> Model<M> {
    /// Answers a translation request, using and filling the caches; events go to the event queue.
    pub fn request(&mut self, request: TranslationRequest) -> Completion {
        let mut access = Access::read(request.stream, request.address);
        access.substream = request.substream;
        access.privileged = request.privileged && request.substream.is_some();
        access.instruction = request.execute && request.substream.is_some();
        self.statistics.requests += 1;
        let completion = match self.completion(access, request.no_write) {
            Ok(granted) => Completion::Success(granted),
            Err(No { completion, event }) => {
                if let Some(event) = event {
                    self.record(event);
                }
                completion
            }
        };
        self.observe(Observation::Requested { request, completion });
        completion
    }

    fn completion(&mut self, access: Access, no_write: bool) -> Result<Granted, No> {
        let unsupported = |event| No { completion: Completion::Unsupported, event };
        let bad = || {
            let record = event(EventId::FBadAtsTreq, &access);
            unsupported(Some(record.with_input_addr(access.address)))
        };
        if !self.registers.enabled() || !self.profile.idr0.ats() {
            return Err(bad());
        }
        let (route, basis) = self.route(access.stream, true).map_err(|no| match no {
            NoSte::BadStream => {
                let record = self.registers.cr2_in_effect.recinvsid();
                self.broken(record.then(|| event(EventId::CBadStreamId, &access)))
            }
            NoSte::Abort(pa) => self.stopped(Stop::fetch_abort(EventId::FSteFetch, &access, pa)),
        })?;
        match route {
            Route::Illegal => return Err(self.stopped(Stop::recorded(EventId::CBadSte, &access))),
            Route::Abort => return Err(unsupported(None)),
            Route::Unsupported(what) => return Err(self.lacking(what)),
            _ => {}
        }
        let eats = self.eats(access.stream);
        if route == Route::Bypass || eats == Eats::Off {
            return Err(bad());
        }
        let (executes, privileged) = (access.instruction, access.privileged);
        let access = self.overridden(access);
        let found = self.look(route, &access, basis, Way::Ahead);
        let size = self.smallest_unit();
        let resolved = match found {
            Ok(resolved) => resolved,
            Err(Stop { reason: Reason::Event(id) | Reason::Ignored(id), .. })
                if id.is_translation_fault() =>
            {
                return Ok(Granted::nothing(size, privileged));
            }
            Err(stop) => return Err(self.stopped(stop)),
        };
        Ok(self.granted(route, &access, resolved, eats, (no_write, executes, privileged)))
    }

    /// What a translation grants to who asked for it (§12.1).
    fn granted(
        &mut self,
        route: Route,
        access: &Access,
        mut resolved: Resolved,
        eats: Eats,
        (no_write, executes, privileged): (bool, bool, bool),
    ) -> Granted {
        let Some(entry) = resolved.entry.and_then(|found| self.found(&found)) else {
            // Stage 1 is skipped, and there is no stage 2.
            let size = resolved.translation.size;
            let address = resolved.translation.pa & !(size - 1);
            return Granted { address, size, read: true, write: true, execute: false, privileged };
        };
        let mut write = entry.permissions.of(access.privileged).write;
        if write && entry.is_clean() {
            // Who says that it will not write does not mark, and who may write must have (§14).
            let marking = Access { write: true, instruction: false, ..*access };
            let basis = resolved.configuration.unwrap_or(0);
            let marked = match no_write {
                true => None,
                false => self.look(route, &marking, basis, Way::Now).ok(),
            };
            write = marked.is_some();
            resolved = marked.unwrap_or(resolved);
        }
        let Some(entry) = resolved.entry.and_then(|found| self.found(&found)) else {
            return Granted::nothing(self.smallest_unit(), privileged);
        };
        let rights = entry.permissions.of(access.privileged);
        let inst = self.inst_cfg(access.stream);
        let read = if inst == 3 { rights.execute } else { rights.read };
        let execute = executes && read && (inst == 2 || rights.execute);
        let write = write && rights.write;
        if !read && !write {
            return Granted::nothing(entry.size, privileged);
        }
        let inside = entry.size - 1;
        let address = match (eats, entry.second) {
            (Eats::Split, Some(second)) => second.ipa,
            (Eats::Split, None) => access.address & !inside,
            _ => resolved.translation.pa & !inside,
        };
        Granted { address, size: entry.size, read, write, execute, privileged }
    }

    /// The stages that `route` has on.
    fn look(
        &mut self,
        route: Route,
        access: &Access,
        basis: u64,
        way: Way,
    ) -> Result<Resolved, Stop> {
        match route {
            Route::Stage2 if access.substream.is_some() => {
                Err(Stop::recorded(EventId::CBadSubstreamId, access))
            }
            Route::Stage1(contexts) => match substream(access, &contexts) {
                Ok(Some(index)) => self.stage_1(access, index, &contexts, basis, way),
                Ok(None) if contexts.nested => self.stage_2_alone(access, basis, way),
                Ok(None) => self.bypass_configured(access, basis),
                Err(id) => Err(Stop::recorded(id, access)),
            },
            _ => self.stage_2_alone(access, basis, way),
        }
    }

    /// Sends `access`, whose address is one that a translation request granted (§12.2).
    ///
    /// # Errors
    /// [`Refusal`] when it is terminated, with the event it causes.
    pub fn translated(&mut self, access: Access) -> Result<Translation, Refusal> {
        self.begin_translated(access, Way::Now).map(|resolved| resolved.translation)
    }

    pub(crate) fn begin_translated(
        &mut self,
        access: Access,
        way: Way,
    ) -> Result<Resolved, Refusal> {
        let before = self.before();
        self.statistics.transactions += 1;
        // Data, unprivileged and without substream, whatever was asked for.
        let access = Access { substream: None, privileged: false, instruction: false, ..access };
        // Translated traffic and requests never stall (§11).
        let passed = self.pass(&access, way);
        self.monitored(access.stream, &before);
        let Stop { reason, event, .. } = match passed {
            Ok(resolved) => return Ok(resolved),
            Err(stop) => stop,
        };
        self.statistics.faults += 1;
        let recorded = event.is_some_and(|event| self.record(event));
        Err(Refusal { event, recorded, reason })
    }

    fn pass(&mut self, access: &Access, way: Way) -> Result<Resolved, Stop> {
        let forbidden = || {
            let id = EventId::FTranslForbidden;
            let record = event(id, access).with_rnw(!access.write);
            let event = Some(record.with_input_addr(access.address));
            Stop { reason: Reason::Event(id), event, stall: false }
        };
        if !self.registers.enabled() {
            return Err(forbidden());
        }
        // Entries may be kept together with what ATSCHK said when they were read (§2.4).
        let cached = self.config.stes.get(&access.stream);
        if !self.registers.ats_checked() || cached.is_some_and(|cached| !cached.ats_checked) {
            return self.physical(access, None);
        }
        let (route, basis) = self.route(access.stream, false).map_err(|no| match no {
            NoSte::BadStream => self.quiet(Stop::recorded(EventId::CBadStreamId, access)),
            NoSte::Abort(pa) => self.quiet(Stop::fetch_abort(EventId::FSteFetch, access, pa)),
        })?;
        match route {
            Route::Illegal => return Err(self.quiet(Stop::recorded(EventId::CBadSte, access))),
            Route::Abort => return Err(Stop::silent(Reason::Config)),
            Route::Unsupported(what) => {
                self.observe(Observation::Unsupported(what));
                return Err(Stop::silent(Reason::Unsupported(what)));
            }
            _ => {}
        }
        match self.eats(access.stream) {
            _ if route == Route::Bypass => Err(forbidden()),
            Eats::Off => Err(forbidden()),
            Eats::Full => self.physical(access, Some(basis)),
            Eats::Split => self.stage_2_alone(access, basis, way),
        }
    }

    /// The address is physical.
    fn physical(&self, access: &Access, basis: Option<u64>) -> Result<Resolved, Stop> {
        if access.address & !self.output_mask() != 0 {
            return Err(Stop::silent(Reason::Disabled));
        }
        Ok(self.bypass(access, basis))
    }

    /// STE.EATS of a stream whose STE is cached, as it is in effect (§7.1).
    fn eats(&self, stream: u32) -> Eats {
        let Some(cached) = self.config.stes.get(&stream) else { return Eats::Off };
        match cached.ste.eats() {
            1 => Eats::Full,
            2 if cached.ats_checked => Eats::Split,
            // Without DPT, 3 means off.
            _ => Eats::Off,
        }
    }

    fn inst_cfg(&self, stream: u32) -> u64 {
        let cached = self.config.stes.get(&stream).filter(|_| self.profile.idr1.attr_perms_ovr());
        cached.map_or(0, |cached| cached.ste.inst_cfg())
    }

    /// Bytes of the smallest granule: the smallest translation unit (STU) of devices (§12.1).
    pub(crate) fn smallest_unit(&self) -> u64 {
        let idr5 = self.profile.idr5;
        match (idr5.gran4k(), idr5.gran16k()) {
            (true, _) => 1 << 12,
            (false, true) => 1 << 14,
            (false, false) => 1 << 16,
        }
    }

    /// The completion for a broken configuration, whose event is recorded only if that is wanted.
    fn broken(&self, event: Option<EventRecord>) -> No {
        let recorded = self.registers.cr2_in_effect.rec_cfg_ats();
        No { completion: Completion::Aborted, event: event.filter(|_| recorded) }
    }

    fn stopped(&mut self, stop: Stop) -> No {
        if let Reason::Unsupported(what) = stop.reason {
            return self.lacking(what);
        }
        self.broken(stop.event)
    }

    fn lacking(&mut self, what: &'static str) -> No {
        self.observe(Observation::Unsupported(what));
        No { completion: Completion::Aborted, event: None }
    }

    fn quiet(&self, mut stop: Stop) -> Stop {
        stop.event = stop.event.filter(|_| self.registers.cr2_in_effect.rec_cfg_ats());
        stop
    }
}
