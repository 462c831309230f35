// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver reports, and whether it had to.

use smmuv3::Interrupt;

use super::{Bench, Done, FaultKey};
use crate::trace;

/// Events taken from an instance at once.
const EVENT_BUDGET: usize = 64;

impl Bench {
    /// Lets the driver report all events, and compares them with what had to come.
    pub(super) fn take_events(&self, done: &mut Done) {
        // Whatever devices cause from here on would be reported with the next operation.
        let (interfering, script) = self.look(|watch| watch.quiet());
        let mut stalls = Vec::new();
        done.faults.append(&mut self.stalls().others);
        // While one instance is read, what has stalled behind another can be tried again, and be recorded; and what was on its
        // way may be refused only now, as its mapping cannot be marked any more.
        loop {
            let waited = self.is_unreported();
            let any = self.take_all(done, &mut stalls);
            if !self.is_unreported() || waited && !any {
                break;
            }
        }
        for instance in 0..self.smmus.len() {
            self.look(|watch| {
                watch.oracle.all_reported(instance);
                watch.oracle.all_groups_reported(instance);
            });
        }
        self.tell_again();
        done.faults.sort_unstable();
        done.faults.dedup();
        self.look(|watch| {
            watch.settle_faults(&mut done.faults);
            (watch.interfering, watch.script) = (interfering, script);
        });
        done.faults.append(&mut stalls);
        done.faults.sort_unstable();
        done.faults.dedup();
    }

    /// Whether an event waits that may have been recorded only after its queue was read.
    fn is_unreported(&self) -> bool {
        let mut instances = 0..self.smmus.len();
        self.oracle(|oracle| instances.any(|it| oracle.unread(it) > 0))
    }

    /// Lets the driver report what is pending behind each instance; whether there was anything.
    fn take_all(&self, done: &mut Done, stalls: &mut Vec<FaultKey>) -> bool {
        let mut any = false;
        for (instance, smmu) in self.smmus.iter().enumerate() {
            let Some(smmu) = smmu.get() else { continue };
            let mut pending = self.pending(instance).peekable();
            while let Some(which) = pending.peek().copied() {
                let mut reports = Vec::new();
                let mut sink = |report| reports.push(report);
                let name = self.scenario.instances.get(instance).map_or("?", |it| &*it.name);
                let operands = || trace::args([("instance", name.into())]);
                let untold = self.look(|watch| watch.untold(instance));
                let more = self.traced("call", "handle_interrupt", operands, || {
                    self.iommu.handle_interrupt(&smmu, which, EVENT_BUDGET, &mut sink)
                });
                self.look(|watch| watch.collect(&self.world));
                any |= !reports.is_empty();
                for report in reports {
                    match self.take_report(instance, report) {
                        Some((fault, true)) => stalls.push(fault),
                        Some((fault, false)) => done.faults.push(fault),
                        None => {}
                    }
                }
                if which != Interrupt::Sync {
                    self.look(|watch| watch.told_of_all(instance, &untold));
                }
                if !more {
                    pending.next();
                }
            }
            self.look(|watch| watch.collect(&self.world));
        }
        any
    }
}
