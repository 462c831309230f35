// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading what devices wrote, and what they accessed.

use smmuv3::Iova;

use super::{Bench, Done};
use crate::bytes::Bytes;
use crate::trace;

impl Bench {
    /// Reads what devices have written in a range of a domain, and makes it clean.
    pub(super) fn dirty(&self, domain: usize, iova: u64, bytes: u64) -> Done {
        let Some(handle) = self.domains.get(domain) else { return Done::default() };
        let range = iova..iova + bytes;
        self.flush_first(domain, &range);
        self.look(|watch| {
            watch.oracle.harvest_begins(domain, &range);
            watch.busy = Some((domain, range.clone()));
        });
        let mut reported: Vec<(u64, u64)> = Vec::new();
        let operands = || trace::range(("domain", self.scenario.space(domain)), iova, bytes);
        let result = self.traced("call", "read_and_clear_dirty", operands, || {
            let mut report = |start: Iova, bytes| reported.push((start.0, bytes));
            // SAFETY: nobody else uses the range: interruptions avoid the busy one.
            unsafe { handle.read_and_clear_dirty(Iova(iova), bytes, &mut report) }
        });
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = None;
            if result.is_ok() {
                watch.oracle.harvest_ends(domain, &range, &reported);
            }
        });
        let acted = result.is_ok();
        let outcome = match result {
            Ok(()) => {
                let bytes: u64 = reported.iter().map(|(_, bytes)| bytes).sum();
                format!("{} written", Bytes(bytes))
            }
            Err(error) => {
                let tracked = self.oracle(|oracle| oracle.shape(domain).dirty);
                if tracked {
                    self.look(|watch| watch.refuse(format_args!("dirty was refused: {error}")));
                }
                error.to_string()
            }
        };
        Done { outcome, acted, reported, ..Done::default() }
    }

    /// Reads what devices have accessed in a range of a domain, and forgets that they did.
    pub(super) fn accessed(&self, domain: usize, iova: u64, bytes: u64) -> Done {
        let Some(handle) = self.domains.get(domain) else { return Done::default() };
        let range = iova..iova + bytes;
        self.flush_first(domain, &range);
        self.look(|watch| {
            watch.oracle.accessed_begins(domain, &range);
            watch.busy = Some((domain, range.clone()));
        });
        let mut reported: Vec<(u64, u64)> = Vec::new();
        let operands = || trace::range(("domain", self.scenario.space(domain)), iova, bytes);
        let result = self.traced("call", "read_and_clear_accessed", operands, || {
            let mut report = |start: Iova, bytes| reported.push((start.0, bytes));
            // SAFETY: as in `dirty`.
            unsafe { handle.read_and_clear_accessed(Iova(iova), bytes, &mut report) }
        });
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = None;
            if result.is_ok() {
                watch.oracle.accessed_ends(domain, &range, &reported);
            }
        });
        let acted = result.is_ok();
        let outcome = match result {
            Ok(()) => {
                let bytes: u64 = reported.iter().map(|(_, bytes)| bytes).sum();
                format!("{} accessed", Bytes(bytes))
            }
            Err(error) => {
                if self.oracle(|oracle| oracle.shape(domain).accessed) {
                    self.look(|watch| watch.refuse(format_args!("accessed was refused: {error}")));
                }
                error.to_string()
            }
        };
        Done { outcome, acted, reported, ..Done::default() }
    }
}
