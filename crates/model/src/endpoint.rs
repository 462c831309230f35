// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices with ATS: what they ask for, keep, and send (§12, §13). They are plugged into the SMMU that translates for
//! them, a stream each, and obey nobody else than its commands and whoever holds their switches.

use crate::atc::{Answers, Atc, AtcEntry};
use crate::ats::{Completion, Granted, TranslationRequest};
use crate::memory::Memory;
use crate::model::Model;
use crate::pri::Groups;
use crate::transaction::{Access, Reason, Refusal, Transfer, Translation};
use crate::translate::Way;

/// One function of a PCIe device: a stream with an ATC of its own.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    /// ATS is on: it asks for translations, keeps them, and uses them. What it keeps stays when this is switched off.
    pub ats: bool,
    /// It reaches memory by translated addresses alone, as devices of CXL.cache do: where it is granted none, it sends nothing.
    pub needs_ats: bool,
    /// PRI is on: it may ask for pages.
    pub pri: bool,
    /// Responses to its page requests must carry the PASID of the request, if that had one ("PRG Response PASID
    /// Required"); else they must carry none (§13).
    pub response_pasid: bool,
    /// How it answers invalidations.
    pub answers: Answers,
    pub(crate) atc: Atc,
    pub(crate) groups: Groups,
}

impl Endpoint {
    /// With ATS on or off.
    #[must_use]
    pub fn ats(mut self, on: bool) -> Self {
        self.ats = on;
        self
    }

    /// One that sends nothing without a translation, or one that does.
    #[must_use]
    pub fn needs_ats(mut self, needs: bool) -> Self {
        self.needs_ats = needs;
        self
    }

    /// With PRI on or off.
    #[must_use]
    pub fn pri(mut self, on: bool) -> Self {
        self.pri = on;
        self
    }

    /// With or without PASIDs in responses.
    #[must_use]
    pub fn response_pasid(mut self, required: bool) -> Self {
        self.response_pasid = required;
        self
    }

    /// What it keeps.
    pub const fn atc(&self) -> &Atc {
        &self.atc
    }
}

/// How a device sends an access.
enum Sent {
    /// As it is.
    Untranslated,
    /// With the address that an entry gives.
    By(AtcEntry),
}

impl<M: Memory> Model<M> {
    /// Puts a device behind `stream`, in place of what was there. Without, a stream has a device without ATS.
    pub fn plug(&mut self, stream: u32, endpoint: Endpoint) {
        self.endpoints.insert(stream, endpoint);
    }

    /// The device behind `stream`.
    pub fn endpoint(&self, stream: u32) -> Option<&Endpoint> {
        self.endpoints.get(&stream)
    }

    /// As [`Self::endpoint`], for its switches.
    pub fn endpoint_mut(&mut self, stream: u32) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(&stream)
    }

    /// The devices, with their streams.
    pub fn endpoints(&self) -> impl Iterator<Item = (u32, &Endpoint)> {
        self.endpoints.iter().map(|(stream, endpoint)| (*stream, endpoint))
    }

    /// An access as the device behind its stream makes it: by what it keeps, or is granted; untranslated, where it has
    /// no ATS, or is told so.
    ///
    /// # Errors
    /// [`Refusal`] as for [`Self::translate`] and [`Self::translated`], or when the device was granted nothing
    /// ([`Reason::NotGranted`]).
    pub fn access(&mut self, access: Access) -> Result<Translation, Refusal> {
        match self.send(&access, false)? {
            Sent::Untranslated => self.translate(access),
            Sent::By(entry) => {
                self.translated(Access { address: entry.output(access.address), ..access })
            }
        }
    }

    /// As [`Self::hold`], for an access that the device makes as with [`Self::access`]; an adversarial one may send it
    /// untranslated all the same, when it has no entry for it.
    ///
    /// # Errors
    /// As both.
    pub fn hold_access(
        &mut self,
        access: Access,
        payload: Transfer,
    ) -> Result<Translation, Refusal> {
        let access = Access { write: matches!(payload, Transfer::Write(_)), ..access };
        // Whoever may ask for translations may do without.
        let without = self.profile.adversary.device_requests && self.random.one_in(8);
        match self.send(&access, without)? {
            Sent::Untranslated => self.hold(access, payload),
            Sent::By(entry) => {
                let sent = Access { address: entry.output(access.address), ..access };
                let mut resolved = self.begin_translated(sent, Way::Now)?;
                // Not beyond what it was granted.
                let size = resolved.translation.size.min(entry.granted.size);
                resolved.translation.size = size;
                self.hold_resolved(access, payload, &resolved, Some(entry.id))
            }
        }
    }

    fn send(&mut self, access: &Access, without: bool) -> Result<Sent, Refusal> {
        let no = || Refusal { event: None, recorded: false, reason: Reason::NotGranted };
        let Some(endpoint) = self.endpoints.get(&access.stream) else {
            return Ok(Sent::Untranslated);
        };
        let needs = endpoint.needs_ats;
        if !endpoint.ats {
            return if needs { Err(no()) } else { Ok(Sent::Untranslated) };
        }
        let entry = endpoint.atc.lookup(access).copied();
        self.remember(*access);
        if let Some(entry) = entry {
            return Ok(Sent::By(entry));
        }
        if without && !needs {
            return Ok(Sent::Untranslated);
        }
        match self.obtain(access) {
            Completion::Unsupported if needs => Err(no()),
            Completion::Unsupported => Ok(Sent::Untranslated),
            Completion::Aborted | Completion::Success(_) => {
                let endpoint = self.endpoints.get(&access.stream);
                let entry = endpoint.and_then(|it| it.atc.lookup(access)).copied();
                entry.map(Sent::By).ok_or_else(no)
            }
        }
    }

    /// Asks for the translation that an access needs, and keeps what it gets.
    pub(crate) fn obtain(&mut self, access: &Access) -> Completion {
        let completion = self.request(TranslationRequest {
            stream: access.stream,
            substream: access.substream,
            address: access.address,
            no_write: !access.write,
            privileged: access.privileged,
            execute: access.instruction,
        });
        let id = self.tick();
        if let Completion::Success(granted) = completion
            && (granted.read || granted.write)
            && let Some(endpoint) = self.endpoints.get_mut(&access.stream)
        {
            let Granted { size, .. } = granted;
            let first = access.address & !(size - 1);
            endpoint.atc.insert(AtcEntry { id, substream: access.substream, first, granted });
        }
        completion
    }

    /// A device asks for what nobody needs, or obeys an invalidation at last.
    pub(crate) fn act_on_devices(&mut self) {
        if !self.atc_late.is_empty() && self.random.one_in(4) {
            self.answer_too_late();
            return;
        }
        if self.random.one_in(3) {
            return self.apply_to_some_device();
        }
        let on = || self.endpoints.iter().filter(|(_, it)| it.ats).map(|(stream, _)| *stream);
        let at = self.random.below(on().count() as u64) as usize;
        let (Some(stream), Some(recent)) = (on().nth(at), self.recent_access()) else { return };
        let page = self.smallest_unit();
        let address = match self.random.below(4) {
            0 => recent.address.wrapping_add(page),
            1 => recent.address.wrapping_sub(page),
            _ => recent.address,
        };
        let access = Access { stream, address, ..recent };
        let endpoint = self.endpoints.get(&stream);
        if endpoint.is_some_and(|it| it.atc.lookup(&access).is_none()) {
            self.obtain(&access);
        }
    }
}
