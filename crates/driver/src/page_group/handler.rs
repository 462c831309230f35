// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of each request that is read: it begins a group or goes on with one, makes one complete, or is denied.

use smmuv3_formats::{PageRequest, StreamId, SubstreamId};

use super::{PageGroup, answers, command};
use crate::answer;
use crate::error::InstanceId;
use crate::fault::{OfGuest, Report, of_guest};
use crate::features::Features;
use crate::gather::{Added, Counted, Fate, Of};
use crate::instance::Instance;
use crate::iommu::{Core, Smmu};
use crate::page_request::{Answer, Denied, Group, Page, PagesLost, Request, Standing};
use crate::pending::Handle;
#[cfg(feature = "nested")]
use crate::pending::Sharer;
use crate::place::WITHOUT;
use crate::platform::Platform;
use crate::pri_queue::{Gap, Next, OVER, Reader};
use crate::shared::Shared;
use crate::trace::Trace;

/// Takes what is read of the queue.
pub(super) struct Handler<'a, P: Platform> {
    core: &'a Shared<Core<P>>,
    id: InstanceId,
    instance: &'a Instance<P>,
    sink: &'a mut dyn FnMut(Report<P>),
    /// The reports about the last record, until its slot is given back.
    reports: [Option<Report<P>>; 2],
}

impl<P: Platform> Reader for Handler<'_, P> {
    fn take(&mut self, record: PageRequest) -> Next {
        if record == OVER {
            return Next::Taken;
        }
        match Request::read(&record) {
            Request::Stop { stream, pasid } => {
                self.stop(stream, pasid);
                self.reports = [Some(Report::PasidStopped { stream, pasid }), None];
                Next::Answerable
            }
            Request::Page(page) => self.page(page),
        }
    }

    fn consumed(&mut self) {
        for report in &mut self.reports {
            if let Some(report) = report.take() {
                tell(&self.core.platform, self.instance, self.sink, report);
            }
        }
    }

    fn lost(&mut self, gap: Gap) {
        let lost = match gap {
            // All groups that have begun are forgotten: the last request of one may be among those lost, and its number
            // may be used again.
            Gap::Overflow => {
                let gather = self.instance.gather();
                PagesLost::Overflow { begun: gather.forget(&self.core.platform, Of::All) }
            }
            Gap::Reset { unread, overflow } => PagesLost::Reset { unread, overflow },
        };
        tell(&self.core.platform, self.instance, self.sink, Report::PagesLost(lost));
    }
}

impl<'a, P: Platform> Handler<'a, P> {
    pub(super) const fn new(
        core: &'a Shared<Core<P>>,
        id: InstanceId,
        instance: &'a Instance<P>,
        sink: &'a mut dyn FnMut(Report<P>),
    ) -> Self {
        Self { core, id, instance, sink, reports: [None, None] }
    }

    fn page(&mut self, page: Page) -> Next {
        let (core, instance, group) = (self.core, self.instance, page.group);
        let (platform, gather) = (&core.platform, instance.gather());
        let features = instance.features();
        let guest = of_guest(platform, instance, group.stream);
        let (with_pasid, known) = match Standing::find(platform, instance.streams(), group.stream) {
            Standing::Known { with_pasid } => {
                // Under a guest that is not shown page requests the device was told not to ask.
                let may = guest.is_none_or(|guest| guest.asks);
                (with_pasid, has_pasid(features, group, guest.is_some()) && may)
            }
            Standing::Unknown { with_pasid } => (with_pasid, false),
        };
        if page.last && gather.is_waiting(platform, group, with_pasid) {
            // The group is waiting already: with a second answer, the device could take that for the answer to a later
            // group of the same number.
            gather.forget(platform, Of::Group(group));
            self.reports = [Some(Report::PageDenied { page, why: Denied::Repeated }), None];
            return Next::Answerable;
        }
        // The slot is taken before the record is consumed: without room the record is to be read again.
        let handle = match page.last && group.is_answerable(features, with_pasid) {
            true => match self.wait(guest, group, with_pasid) {
                Some(handle) => Some(handle),
                None => return self.without_room(page, known, with_pasid),
            },
            false => None,
        };
        if !known {
            self.deny(handle, Answer::Invalid);
            self.reports = [Some(Report::PageDenied { page, why: Denied::Unknown }), None];
            return Next::Answerable;
        }
        let Added { fate, forgotten } = gather.add(platform, &page);
        let forgotten = forgotten.map(|group| Report::PagesLost(PagesLost::Begun(group)));
        let said = forgotten.is_some();
        let report = match (fate, handle) {
            (Fate::Complete(chain), Some(handle)) => {
                let smmu = Smmu::new(core.clone(), self.id);
                Some(Report::Pages(PageGroup { smmu, handle, group, chain }))
            }
            (Fate::Complete(chain), None) => {
                // Does not happen: a known stream's group is always answerable.
                gather.release(platform, chain);
                None
            }
            (Fate::Begun, _) => None,
            (Fate::Full, handle) => {
                self.deny(handle, Answer::Success);
                Some(Report::PageDenied { page, why: Denied::Full })
            }
        };
        let next = if said || report.is_some() { Next::Answerable } else { Next::Taken };
        self.reports = [forgotten, report];
        next
    }

    /// Puts a group that is complete among those that wait, if there is room: of a guest's device, as much as the guest has a
    /// share in.
    fn wait(&self, guest: Option<OfGuest>, group: Group, with_pasid: bool) -> Option<Handle> {
        let (platform, gather) = (&self.core.platform, self.instance.gather());
        #[cfg(feature = "nested")]
        if let Some(guest) = guest {
            return gather.wait_for(platform, Sharer::new(guest.vmid), group, with_pasid);
        }
        let _ = guest;
        gather.wait(platform, group, with_pasid)
    }

    /// Denies a group by `answer`, if it waits for one.
    fn deny(&self, handle: Option<Handle>, answer: Answer) {
        let (core, instance) = (&**self.core, self.instance);
        if let Some(handle) = handle {
            let answer = (handle, answer as u8);
            answer::decide(core, instance, &instance.gather().pending, answer, answers(core));
        }
    }

    /// Denies a complete group for which `pending` has no room, by a command of its own.
    fn without_room(&mut self, page: Page, known: bool, with_pasid: bool) -> Next {
        let answer = if known { Answer::Success } else { Answer::Invalid };
        let command = command(self.core, page.group, answer, with_pasid);
        let mut failed = None;
        let placed = answer::place(self.core, self.instance, command, &mut failed);
        if !placed && failed.is_none() && !self.instance.commands().is_asleep() {
            return Next::Later;
        }
        // If the SMMU takes no more commands, its reset ends the group.
        self.instance.gather().forget(&self.core.platform, Of::Group(page.group));
        let why = if known { Denied::Full } else { Denied::Unknown };
        self.reports = [Some(Report::PageDenied { page, why }), None];
        Next::Answerable
    }

    /// A device uses a PASID no more: it waits for no answer of those that are pending, but for what they free.
    fn stop(&self, stream: StreamId, pasid: SubstreamId) {
        let (platform, gather) = (&self.core.platform, self.instance.gather());
        gather.forget(platform, Of::Pasid(stream, Some(pasid)));
        while let Some(handle) = gather.next_waiting(platform, stream, pasid) {
            let (core, instance) = (&**self.core, self.instance);
            // Also what a guest was to answer, who is told by the same record.
            if gather.pending.decide_for(handle, Answer::Invalid as u8) {
                answer::give_now(core, instance, &gather.pending, handle, answers(core));
            }
        }
    }
}

/// Whether an instance has the PASID of a group; 0 is nobody's, but for guests.
fn has_pasid(features: &Features, group: Group, of_guest: bool) -> bool {
    let within =
        |pasid: SubstreamId| (pasid.0 != WITHOUT || of_guest) && pasid.0 >> features.ssid_bits == 0;
    group.pasid.is_none_or(within)
}

/// Hands a report about page requests to `sink`, after it was counted and traced.
pub(super) fn tell<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    sink: &mut dyn FnMut(Report<P>),
    report: Report<P>,
) {
    let (counts, name) = (&instance.gather().counts, &instance.config().name);
    match &report {
        Report::Pages(pages) => {
            counts.add(Counted::Groups);
            let (group, pages) = (pages.group(), pages.len());
            platform.trace(&Trace::Pages { instance: name, group, pages });
        }
        Report::PageDenied { page, why } => {
            counts.add(Counted::Denied);
            platform.trace(&Trace::PageDenied { instance: name, page: *page, why: *why });
        }
        Report::PasidStopped { stream, pasid } => {
            counts.add(Counted::Stops);
            let (stream, pasid) = (*stream, *pasid);
            platform.trace(&Trace::PasidStopped { instance: name, stream, pasid });
        }
        Report::PagesLost(lost) => {
            counts.add(Counted::Gaps);
            platform.trace(&Trace::PagesLost { instance: name, lost: *lost });
        }
        // No other report is about page requests.
        _ => {}
    }
    sink(report);
}
