// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that a guest's devices ask for (PRI, §13): shown to the guest, and answered by its commands.
//!
//! A group of a guest's stream is handed out as any other, and [`Nest::show_pages`] hands it on. It stays where all that wait are
//! ([`crate::pending`]), so that whatever ends those ends it. What the guest answers is looked up there (`answer`), and by that
//! alone it becomes a command:
//!
//! | the guest's command | what becomes of it |
//! |---|---|
//! | PRI_RESP of a stream, PRGIndex and PASID that it is shown, and has not answered; with the PASID (SSV) where the device needs that in answers, and without where not | PRI_RESP of the host's stream, once |
//! | any other PRI_RESP: of others' groups, of the host's, of what is over or was answered | nothing: to a device it would be the answer to something else |
//!
//! The number of a group is its device's, by which that takes the answer: guests are given no numbers of their own.

use smmuv3_formats::{PageRequest, StreamId, SubstreamId};

use crate::nest::{Cause, Nest, Streams};
use crate::page_group::PageGroup;
use crate::page_request::{Answer, Page};
use crate::pending::Showing;
use crate::platform::Platform;
use crate::refused::Refused;

impl<P: Platform> Nest<P> {
    /// Hands a group of page requests on to the guest, if it is the guest's: `queue` is given the records that are to be put into
    /// its queue of page requests, in order, and how many there were is returned. The guest answers the group by CMD_PRI_RESP
    /// ([`Nest::forward`]), and nobody else does. If it never does, the device waits until its entry becomes another, it is taken
    /// from the guest, the nest is dropped, the device says that it uses the PASID no more, or the instance is reset, suspended or
    /// removed; then it is answered, and an answer that comes later does nothing.
    ///
    /// Where as many as the guest may have ([`NestConfig::page_requests`](crate::NestConfig::page_requests)) wait for its answer
    /// already, the device is told to try again, as by an SMMU whose queue is full, and the guest is told nothing: there are 0
    /// records.
    ///
    /// To be called once there is room for [`PageGroup::len`] records in the guest's queue. Where there is none, the device
    /// is answered by [`Answer::Success`], as the guest's SMMU would, which shows an overflow (§13).
    ///
    /// # Errors
    /// The group, with [`Cause`]: it is the host's, and still to be answered: of another stream, of a PASID that the guest's SMMU
    /// does not have ([`Cause::Unknown`]), handed out before the stream was the guest's ([`Cause::Before`]: a device that
    /// is told [`Answer::Success`] asks again, and then the guest), or over ([`Cause::Over`]).
    pub fn show_pages(
        &self,
        pages: PageGroup<P>,
        queue: &mut dyn FnMut(PageRequest),
    ) -> Result<usize, Refused<PageGroup<P>, Cause>> {
        let (core, state) = (&self.core, &self.state);
        if !pages.is_of(core, state.instance) {
            return Err(Refused { value: pages, error: Cause::Stream });
        }
        let group = pages.group();
        // Inside the reader's section the stream stays the guest's until the group is shown.
        let shown = core.readers.read(core.platform.cpu(), &state.given, |given| {
            let Some(stream) = given.guest(group.stream) else { return Err(Cause::Stream) };
            // Whatever was asked of what came before was ended before this begins.
            if !given.has_begun(group.stream) {
                return Err(Cause::Before);
            }
            let bits = state.blank.shown().idr1.ssidsize();
            let wide = |pasid: SubstreamId| u64::from(pasid.0) >> bits != 0;
            if !state.has_page_requests() || group.pasid.is_some_and(wide) {
                return Err(Cause::Unknown);
            }
            let own = |stream| given.guest(stream).is_some();
            match pages.show(state.page_requests.into(), own) {
                Showing::Shown(_) => Ok(Some(stream)),
                Showing::Full => Ok(None),
                Showing::Over => Err(Cause::Over),
            }
        });
        match shown {
            Ok(Some(stream)) => {
                let count = pages.len();
                pages.pages().for_each(|page| queue(record(stream, &page)));
                // Dropping it answers nothing.
                drop(pages);
                Ok(count)
            }
            Ok(None) => {
                pages.answer_now(Answer::Success);
                Ok(0)
            }
            Err(cause) => Err(Refused { value: pages, error: cause }),
        }
    }

    /// What the guest is to be told when the device behind `stream`, the host's number, uses `pasid` no more
    /// ([`Report::PasidStopped`](crate::Report::PasidStopped)): the record for its queue of page requests, which asks for no answer.
    /// What the device had asked for with it is over. `None` if the stream is not the guest's, or it is shown no such PASID.
    ///
    /// A device that changed hands just before may have said so while it was another's: the record then has a PASID of which the
    /// guest knows nothing, and asks for nothing.
    pub fn stopped(&self, stream: StreamId, pasid: SubstreamId) -> Option<PageRequest> {
        let (core, state) = (&self.core, &self.state);
        if !state.has_page_requests()
            || u64::from(pasid.0) >> state.blank.shown().idr1.ssidsize() != 0
        {
            return None;
        }
        core.readers.read(core.platform.cpu(), &state.given, |given| {
            let own = given.guest(stream).filter(|_| given.has_begun(stream))?;
            let record = PageRequest::default().with_sid(own.0.into());
            Some(record.with_ssv(true).with_ssid(pasid.0.into()).with_last(true))
        })
    }
}

/// The record of `page`, which a device asks for that the guest calls `stream`.
fn record(stream: StreamId, page: &Page) -> PageRequest {
    let record = PageRequest::default()
        .with_sid(stream.0.into())
        .with_prg_index(page.group.index.into())
        .with_addr(page.iova.0)
        .with_read(page.read)
        .with_write(page.write)
        .with_execute(page.execute)
        .with_privileged(page.privileged)
        .with_last(page.last);
    match page.group.pasid {
        Some(pasid) => record.with_ssv(true).with_ssid(pasid.0.into()),
        None => record,
    }
}
