// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page requests: the queue that the SMMU writes them to, what it answers by itself, and the groups of a device that
//! wait for an answer (§13).

use std::collections::BTreeMap;

use smmuv3_formats::command::PriResp;
use smmuv3_formats::register::{Gerror, PriqBase};
use smmuv3_formats::{Command, EventId, PAGE_REQUEST_BYTES, PageRequest};

use crate::context::Route;
use crate::endpoint::Endpoint;
use crate::fault::Stop;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::queue::Ring;
use crate::registers::LO;
use crate::stream_table::NoSte;
use crate::transaction::Access;

/// A page that a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Any address within.
    pub address: u64,
    /// It is to be read.
    pub read: bool,
    /// It is to be written.
    pub write: bool,
}

/// What a device is told of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// The pages may be there now: it asks for translations again.
    Success,
    /// They are not, and never will be.
    Invalid,
    /// Something failed: it makes no requests any more.
    Failure,
}

/// What became of a page request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// It is in the queue.
    Queued,
    /// It is not, and the SMMU says nothing.
    Dropped,
    /// It is not, and the SMMU answered the group.
    Autonomous(Autonomous),
}

/// An answer of the SMMU's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autonomous {
    /// What it says.
    pub answer: Answered,
    /// PASID that it carries.
    pub substream: Option<u32>,
}

/// The groups of page requests of a device, by PRGIndex: what they wait for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    open: BTreeMap<u16, Group>,
    answered: Vec<(u16, Answered)>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    substream: Option<u32>,
    /// Its last request was sent: an answer is due.
    complete: bool,
}

impl Endpoint {
    /// PRGIndex of the groups that it waits for an answer to; whether all their requests were sent.
    pub fn waiting(&self) -> impl Iterator<Item = (u16, bool)> {
        self.groups.open.iter().map(|(index, group)| (*index, group.complete))
    }

    /// The answers that it got since the last call, oldest first: PRGIndex and what was said.
    pub fn take_answers(&mut self) -> Vec<(u16, Answered)> {
        std::mem::take(&mut self.groups.answered)
    }
}

impl<M: Memory> Model<M> {
    /// The device behind `stream` asks for `pages`, as one group, whose last request is the last of them; without
    /// `last` it never sends that. `None` when it has PRI off, every PRGIndex waits for an answer, or there are no
    /// pages; else the PRGIndex.
    pub fn ask_for_pages(
        &mut self,
        stream: u32,
        substream: Option<u32>,
        pages: &[Page],
        last: bool,
    ) -> Option<u16> {
        let groups = &mut self.endpoints.get_mut(&stream).filter(|it| it.pri)?.groups;
        let index = (0..512).find(|index| !groups.open.contains_key(index))?;
        let (end, others) = pages.split_last()?;
        groups.open.insert(index, Group { substream, complete: last });
        let ssid = u64::from(substream.unwrap_or(0)) & 0xf_ffff;
        let request = |page: &Page| {
            PageRequest::default()
                .with_sid(stream.into())
                .with_ssv(substream.is_some())
                .with_ssid(ssid)
                .with_read(page.read)
                .with_write(page.write)
                .with_prg_index(index.into())
                .with_addr(page.address & !0xfff)
        };
        for page in others {
            self.page_request(request(page));
        }
        self.page_request(request(end).with_last(last));
        Some(index)
    }

    /// The device behind `stream` breaks the rules: it asks for one more page of a group that it waits for an answer to, as
    /// the last of it once more. `None` when it has PRI off, or does not wait for that group.
    pub fn ask_again(&mut self, stream: u32, index: u16, page: Page) -> Option<Requested> {
        let endpoint = self.endpoints.get(&stream).filter(|it| it.pri)?;
        let group = endpoint.groups.open.get(&index).filter(|group| group.complete)?;
        let request = PageRequest::default()
            .with_sid(stream.into())
            .with_ssv(group.substream.is_some())
            .with_ssid(u64::from(group.substream.unwrap_or(0)) & 0xf_ffff)
            .with_read(page.read)
            .with_write(page.write)
            .with_prg_index(index.into())
            .with_addr(page.address & !0xfff)
            .with_last(true);
        Some(self.page_request(request))
    }

    /// The device behind `stream` uses a PASID no more, and says so: no requests for it come after this (§13).
    pub fn stop_pasid(&mut self, stream: u32, substream: u32) -> Requested {
        let marker = PageRequest::default().with_sid(stream.into()).with_ssv(true).with_last(true);
        self.page_request(marker.with_ssid(u64::from(substream) & 0xf_ffff))
    }

    /// A page request as it comes from some device; answers of the SMMU's own go back to it.
    pub fn page_request(&mut self, request: PageRequest) -> Requested {
        self.statistics.page_requests += 1;
        let queued = self.queue_request(&request);
        self.observe(Observation::PageRequested { request, queued: queued.is_ok() });
        let Err(why) = queued else { return Requested::Queued };
        // Stop markers are never answered, and groups once.
        if request.is_stop_marker() || !request.last() {
            return Requested::Dropped;
        }
        // SSID has 20 bits.
        let asked = request.ssv().then_some(request.ssid() as u32);
        let failure = Autonomous { answer: Answered::Failure, substream: None };
        let answer = match why {
            NotQueued::Off => failure,
            NotQueued::Overflow => self.overflow_answer(&request, asked).unwrap_or(failure),
            // Nobody answers it (§13).
            NotQueued::Late => return Requested::Dropped,
        };
        // SID has 32 and PRGIndex 9 bits.
        let (stream, index) = (request.sid() as u32, request.prg_index() as u16);
        self.deliver(stream, index, answer, true);
        Requested::Autonomous(answer)
    }

    /// What the SMMU answers while an overflow is not acknowledged; `None` where it cannot know.
    fn overflow_answer(&mut self, request: &PageRequest, asked: Option<u32>) -> Option<Autonomous> {
        let success = |substream| Some(Autonomous { answer: Answered::Success, substream });
        if asked.is_none() || self.profile.idr3.pps() {
            return success(asked);
        }
        let recorded = self.registers.cr2_in_effect.rec_cfg_ats();
        // SID has 32 bits.
        let access = Access { substream: asked, ..Access::read(request.sid() as u32, 0) };
        let stop = match self.route(access.stream, false) {
            Ok((Route::Illegal, _)) => Stop::recorded(EventId::CBadSte, &access),
            Ok(_) => {
                let ppar = self.config.stes.get(&access.stream).is_some_and(|it| it.ste.ppar());
                return success(asked.filter(|_| ppar));
            }
            Err(NoSte::BadStream) => {
                let id = EventId::CBadStreamId;
                let mut stop = Stop::recorded(id, &access);
                stop.event = stop.event.filter(|_| self.registers.cr2_in_effect.recinvsid());
                stop
            }
            Err(NoSte::Abort(pa)) => {
                let id = EventId::FSteFetch;
                Stop::fetch_abort(id, &access, pa)
            }
        };
        if let Some(event) = stop.event.filter(|_| recorded) {
            self.record(event);
        }
        None
    }

    /// The next `count` page requests do not arrive in the queue, as [`Model::lose_events`] says of events.
    pub fn lose_requests(&mut self, count: u64) {
        self.faults.lost_requests = count;
    }

    fn queue_request(&mut self, request: &PageRequest) -> Result<(), NotQueued> {
        let abort = Gerror::default().with_priq_abt_err(true);
        let on = self.registers.enabled() && self.registers.requests_enabled();
        if !self.profile.idr0.pri() || !on || self.registers.active_errors() & abort.0 != 0 {
            return Err(NotQueued::Off);
        }
        let ring = self.registers.request_ring(&self.profile);
        let (prod, cons) = self.request_indices();
        let used = ring.used(prod, cons).unwrap_or(ring.entries());
        let overflow = self.registers.priq_prod.ovflg() != self.registers.priq_cons.ovackflg();
        if !overflow && used == ring.entries() {
            let prod = self.registers.priq_prod;
            self.registers.priq_prod = prod.with_ovflg(!prod.ovflg());
            self.observe(Observation::RequestsLost { aborted: false });
        }
        let lo = self.registers.priq_msi.attributes & LO != 0;
        let result = if overflow || used == ring.entries() {
            Err(NotQueued::Overflow)
        } else {
            let slot =
                self.request_base(ring) + u64::from(ring.slot(prod)) * PAGE_REQUEST_BYTES as u64;
            let arrives = self.faults.lost_requests == 0;
            self.faults.lost_requests = self.faults.lost_requests.saturating_sub(1);
            for (index, word) in (0u64..).zip(request.0).take_while(|_| arrives) {
                if self.memory.write64(slot + 8 * index, word).is_err() {
                    self.raise(abort);
                    self.observe(Observation::RequestsLost { aborted: true });
                    return Err(NotQueued::Off);
                }
            }
            let next = u64::from(ring.next(prod));
            self.registers.priq_prod = self.registers.priq_prod.with_wr(next);
            if arrives {
                Ok(())
            } else {
                self.raise(abort);
                Err(NotQueued::Late)
            }
        };
        // With LO also for a request that did not fit. Of one that does not arrive nothing is known yet.
        let written = matches!(result, Ok(()) | Err(NotQueued::Late));
        let told = if lo { request.last() } else { written && used == 0 };
        if told && self.registers.irq_ctrl.ack & 0b10 != 0 {
            let msi = self.registers.priq_msi;
            if self.signal(msi) {
                self.interrupts.priq = true;
            } else {
                self.raise(Gerror::default().with_msi_priq_abt_err(true));
            }
        }
        result
    }

    /// CMD_PRI_RESP (§4.2).
    pub(crate) fn respond(&mut self, command: &Command) {
        if !self.registers.enabled() {
            return;
        }
        let command = PriResp(command.0);
        // SID has 32, SSID 20 and PRGIndex 9 bits.
        let (stream, index) = (command.sid() as u32, command.prg_index() as u16);
        let substream = command.ssid() as u32;
        let bits = if command.ssv() { self.profile.idr1.ssidsize().min(63) } else { 63 };
        if u64::from(stream) >> self.profile.idr1.sidsize().min(63) != 0
            || command.ssv() && (bits == 0 || u64::from(substream) >> bits != 0)
        {
            return self.misuse(Misuse::NoSuchStream { stream, substream });
        }
        let answer = match command.resp() {
            0 => Answered::Failure,
            1 => Answered::Invalid,
            // 3 is illegal.
            _ => Answered::Success,
        };
        let substream = command.ssv().then_some(substream);
        self.deliver(stream, index, Autonomous { answer, substream }, false);
    }

    /// A device gets a response.
    fn deliver(&mut self, stream: u32, index: u16, response: Autonomous, automatic: bool) {
        let Autonomous { answer, substream } = response;
        let mut expected = false;
        if let Some(endpoint) = self.endpoints.get_mut(&stream) {
            let needed = endpoint.response_pasid;
            let group = endpoint.groups.open.get(&index).filter(|group| group.complete);
            expected = group.is_some_and(|group| {
                substream == group.substream.filter(|_| needed)
                    // When it fails altogether, the SMMU knows of no PASIDs.
                    || automatic && answer == Answered::Failure
            });
            if expected {
                endpoint.groups.open.remove(&index);
                endpoint.groups.answered.push((index, answer));
                endpoint.pri &= answer != Answered::Failure;
            }
        }
        self.observe(Observation::PageResponse {
            stream,
            substream,
            index,
            answer,
            automatic,
            expected,
        });
    }

    fn request_indices(&self) -> (u32, u32) {
        // Both fields have 20 bits.
        (self.registers.priq_prod.wr() as u32, self.registers.priq_cons.rd() as u32)
    }

    /// Where the ring is: aligned and cut to the output size (§2.5, §9).
    pub(crate) fn request_base(&self, ring: Ring) -> u64 {
        ring.base(self.registers.priq_base.addr(), PAGE_REQUEST_BYTES as u64) & self.output_mask()
    }

    pub(crate) fn check_request_queue(&mut self) {
        let ring = self.registers.request_ring(&self.profile);
        let value = self.registers.priq_base.addr();
        if value != self.request_base(ring) {
            self.misuse(Misuse::Misaligned { offset: PriqBase::OFFSET, value });
        }
        self.check_request_indices();
    }

    pub(crate) fn check_request_indices(&mut self) {
        let ring = self.registers.request_ring(&self.profile);
        let (prod, cons) = self.request_indices();
        if self.registers.requests_enabled() && ring.used(prod, cons).is_none() {
            self.misuse(Misuse::InconsistentIndex { queue: "PRIQ", prod, cons });
        }
    }
}

/// Why a page request is not in the queue.
enum NotQueued {
    /// There is no queue, or it cannot be written.
    Off,
    /// It is full, or was, and nobody acknowledged that.
    Overflow,
    /// It did not arrive, and PROD has moved on: an asynchronous abort.
    Late,
}
