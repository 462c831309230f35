// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unmaps of which instances are told later.

use std::ops::Range;

use smmuv3::Iova;

use super::mapping::cuts;
use super::{Bench, Done};
use crate::bytes::Bytes;
use crate::oracle::PAGE;
use crate::trace;

impl Bench {
    /// Unmaps, and tells nobody: until [`Bench::flush`] devices may go on, or not. What would cut a block is refused, and
    /// nothing has changed then.
    pub(super) fn defer(&self, domain: usize, iova: u64, bytes: u64) -> Done {
        let handle = self.domains.get(domain).filter(|_| self.guest(domain).is_none());
        let Some(handle) = handle else { return Done::default() };
        let range = iova..iova + bytes;
        self.flush_first(domain, &range);
        let mapped = self.look(|watch| {
            watch.busy = Some((domain, range.clone()));
            watch.oracle.pages(domain, range.clone()).count() as u64 * PAGE
        });
        // From now on, whatever becomes of it.
        self.look(|watch| watch.oracle.deferred(domain, range.clone()));
        let operands = || trace::range(("domain", self.scenario.space(domain)), iova, bytes);
        // SAFETY: nobody else uses the range: interruptions avoid what is changing, and nothing is mapped there before the
        // next flush. The memory lives as long as the run.
        let unmap = || unsafe { handle.unmap_deferred(Iova(iova), bytes) };
        let result = self.traced("call", "unmap_deferred", operands, unmap);
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = None;
            match &result {
                Ok(removed) if *removed == mapped => {}
                Err(error) if cuts(&watch.oracle, domain, &range, error) => {
                    watch.oracle.deferred_nothing(domain, &range);
                }
                Ok(removed) => watch.refuse(format_args!(
                    "unmap_deferred removed {removed:#x} of {mapped:#x} bytes"
                )),
                Err(error) => watch.refuse(format_args!("unmap_deferred was refused: {error}")),
            }
        });
        let acted = result.as_ref().is_ok_and(|removed| *removed > 0);
        let outcome = match result {
            Ok(removed) => format!("{} gone, once all were told", Bytes(removed)),
            Err(error) => error.to_string(),
        };
        Done { outcome, acted, ..Done::default() }
    }

    /// Tells all instances what was unmapped so.
    pub(super) fn flush(&self, domain: usize) -> Done {
        let Some(handle) = self.domains.get(domain) else { return Done::default() };
        let name = self.scenario.space(domain);
        let operands = || trace::args([("domain", name.into())]);
        let result = self.traced("call", "invalidate_all", operands, || handle.invalidate_all());
        let mut ranges = Vec::new();
        self.look(|watch| {
            watch.collect(&self.world);
            match &result {
                Ok(()) => {
                    ranges = watch.oracle.flushed(domain);
                    for range in &ranges {
                        watch.after_unmap(&self.world, domain, range);
                    }
                }
                Err(error) => watch.refuse(format_args!("invalidate_all was refused: {error}")),
            }
        });
        let outcome = match result {
            Ok(()) => format!("{} ranges gone", ranges.len()),
            Err(error) => error.to_string(),
        };
        Done { outcome, acted: !ranges.is_empty(), ..Done::default() }
    }

    /// Before something else is done in a range: all are told of what was unmapped there.
    pub(super) fn flush_first(&self, space: usize, range: &Range<u64>) {
        if self.oracle(|oracle| oracle.is_deferred(space, range)) {
            self.flush(space);
        }
    }
}
