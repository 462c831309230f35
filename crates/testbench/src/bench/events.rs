// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver reports, and whether it had to.

use super::{Bench, Done};
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
        for (instance, smmu) in self.smmus.iter().enumerate() {
            let Some(smmu) = smmu.get() else { continue };
            let mut unreported = None;
            loop {
                let mut pending = self.pending(instance);
                pending.reverse();
                while let Some(which) = pending.last().copied() {
                    let mut reports = Vec::new();
                    let mut sink = |report| reports.push(report);
                    let name = self.scenario.instances.get(instance).map_or("?", |it| &*it.name);
                    let operands = || trace::args([("instance", name.into())]);
                    let more = self.traced("call", "handle_interrupt", operands, || {
                        self.iommu.handle_interrupt(&smmu, which, EVENT_BUDGET, &mut sink)
                    });
                    self.look(|watch| watch.collect(&self.world));
                    for report in reports {
                        match self.take_report(instance, report) {
                            Some((fault, true)) => stalls.push(fault),
                            Some((fault, false)) => done.faults.push(fault),
                            None => {}
                        }
                    }
                    if !more {
                        pending.pop();
                    }
                }
                self.look(|watch| watch.collect(&self.world));
                // What has stalled can be tried again, and recorded, at any time: that raises another interrupt.
                let left = self.oracle(|oracle| oracle.unreported(instance));
                if self.may_stall() && left.is_some() && left != unreported {
                    unreported = left;
                    continue;
                }
                self.look(|watch| watch.oracle.all_reported(instance));
                break;
            }
        }
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
}
