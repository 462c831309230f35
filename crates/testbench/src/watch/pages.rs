// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is seen of devices that ask for pages.

use smmuv3::page_request::{Group, Page};
use smmuv3::{PageGroup, PagesLost};
use smmuv3_model::Observation;

use super::Watch;
use crate::oracle::{Granted, Rule};
use crate::platform::TestPlatform;

/// In the oracle's words.
fn name(group: Group) -> crate::oracle::Group {
    (group.stream.0, group.pasid.map(|pasid| pasid.0), group.index)
}

impl Watch {
    pub(super) fn observe_pages(&mut self, instance: usize, observation: &Observation) {
        match *observation {
            Observation::PageRequested { request, queued } => {
                self.oracle.asked(instance, request, queued);
            }
            Observation::RequestsLost { aborted } => self.oracle.lost_requests(instance, aborted),
            Observation::PageResponse { stream, index, automatic: false, expected, .. } => {
                let granted = self.oracle.granted(instance, stream, index);
                // Of a stream that nobody has, only the queue tells.
                let known = self.oracle.master_of(instance, stream).is_some();
                let rightly = match granted {
                    Granted::Waiting => expected || !known,
                    Granted::InVain => true,
                    Granted::Nobody => expected && known,
                };
                if !rightly {
                    let text = format!(
                        "instance {instance}: stream {stream:#x} got a response to group {index:#x} that \
                         it does not wait for"
                    );
                    self.oracle.accuse(Rule::R9, text);
                }
            }
            _ => {}
        }
    }

    /// The driver handed a group out.
    pub(crate) fn report_group(&mut self, instance: usize, group: &PageGroup<TestPlatform>) {
        let pages: Vec<_> = group.pages().map(|it| (it.iova.0, it.read, it.write)).collect();
        self.oracle.reported_group(instance, name(group.group()), &pages);
    }

    pub(super) fn report_denial(&mut self, instance: usize, page: &Page) {
        self.oracle.reported_denial(instance, name(page.group), page.iova.0, page.last);
    }

    pub(super) fn report_forgetting(&mut self, instance: usize, lost: PagesLost) {
        match lost {
            PagesLost::Begun(group) => self.oracle.reported_forgetting(instance, name(group)),
            PagesLost::Overflow { begun } => self.oracle.reported_overflow(instance, begun),
            PagesLost::Aborted { .. } => self.oracle.reported_requests_lost(instance, false, true),
            PagesLost::Reset { overflow, .. } => {
                self.oracle.reported_requests_lost(instance, true, overflow);
            }
            other => self.refuse(format_args!("instance {instance} reported {other:?}")),
        }
    }
}
