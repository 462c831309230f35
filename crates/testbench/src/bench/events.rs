// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver reports, and whether it had to.

use smmuv3::{Interrupt, Report};

use super::{Bench, Done, FaultKey};
use crate::trace;

/// Events taken from an instance at once.
const EVENT_BUDGET: usize = 64;

impl Bench {
    /// Lets the driver report all events, and compares them with what had to come.
    pub(super) fn take_events(&self, done: &mut Done) {
        // Whatever devices cause from here on would be reported with the next operation.
        let (interfering, script) = self.look(|watch| watch.quiet());
        for (instance, smmu) in self.smmus.iter().enumerate() {
            let Some(smmu) = smmu.get() else { continue };
            loop {
                let mut reports = Vec::new();
                let mut sink = |report| reports.push(report);
                let name = self.scenario.instances.get(instance).map_or("?", |it| &*it.name);
                let operands = || trace::args([("instance", name.into())]);
                let more = self.traced("call", "handle_interrupt", operands, || {
                    self.iommu.handle_interrupt(&smmu, Interrupt::Any, EVENT_BUDGET, &mut sink)
                });
                self.look(|watch| {
                    watch.collect(&self.world);
                    for report in &reports {
                        self.world.trace(|trace| trace.report(instance, report));
                        watch.report(instance, report);
                        if let Report::Event(record) = report
                            && let Some(fault) = FaultKey::of(instance, record)
                        {
                            done.faults.push(fault);
                        }
                    }
                    if !more {
                        watch.oracle.all_reported(instance);
                    }
                });
                if !more {
                    break;
                }
            }
        }
        done.faults.sort_unstable();
        done.faults.dedup();
        self.look(|watch| {
            watch.settle_faults(&mut done.faults);
            (watch.interfering, watch.script) = (interfering, script);
        });
    }
}
