// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instances that are suspended, resumed, reset, or removed and taken into use again.

use smmuv3::Report;

use super::{Bench, Done};
use crate::oracle::Power;
use crate::scenario::Change;
use crate::trace;

impl Bench {
    /// Changes an instance as a whole. One that is so already stays so.
    pub(super) fn change(&self, instance: usize, change: Change) -> Done {
        let power = self.oracle(|oracle| oracle.power(instance));
        let done = match (change, power) {
            (Change::Suspend, Power::On) => self.suspend(instance),
            (Change::Resume | Change::Reset, Power::Off) => self.wake(instance, change),
            (Change::Reset, _) => self.reset(instance),
            (Change::Replug, Power::On) => self.replug(instance),
            (Change::Suspend | Change::Resume | Change::Replug, _) => Ok("nothing to do"),
        };
        let outcome = match done {
            Ok(done) => done.to_owned(),
            Err(error) => {
                let what = change.name();
                self.look(|watch| watch.refuse(format_args!("{what} was refused: {error}")));
                error
            }
        };
        Done { outcome, ..Done::default() }
    }

    fn set_power(&self, instance: usize, power: Power) {
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.set_power(instance, power);
        });
    }

    fn suspend(&self, instance: usize) -> Result<&'static str, String> {
        let Some(smmu) = self.smmus.get(instance) else { return Ok("nothing to do") };
        self.set_power(instance, Power::Changing);
        let mut reports = Vec::new();
        let mut sink = |report: Report| reports.push(report);
        let result = self.traced(
            "call",
            "suspend",
            || self.named(instance),
            || self.iommu.suspend(smmu, &mut sink),
        );
        self.look(|watch| {
            watch.collect(&self.world);
            for report in &reports {
                watch.report(instance, report);
            }
        });
        if let Err(error) = result {
            self.set_power(instance, Power::On);
            return Err(error.to_string());
        }
        if let Some(mut model) = self.world.machine().model(instance) {
            model.power_off();
        }
        self.set_power(instance, Power::Off);
        self.look(|watch| {
            // It said all that it had to say.
            watch.oracle.all_reported(instance);
        });
        Ok("done")
    }

    /// Power, and either call that makes use of it.
    fn wake(&self, instance: usize, change: Change) -> Result<&'static str, String> {
        let Some(smmu) = self.smmus.get(instance) else { return Ok("nothing to do") };
        self.set_power(instance, Power::Changing);
        if let Some(mut model) = self.world.machine().model(instance) {
            model.power_on(true);
        }
        let result = self.traced(
            "call",
            change.name(),
            || self.named(instance),
            || match change {
                Change::Reset => self.iommu.reset(smmu),
                _ => self.iommu.resume(smmu),
            },
        );
        self.set_power(instance, Power::On);
        result.map(|()| "done").map_err(|error| error.to_string())
    }

    fn reset(&self, instance: usize) -> Result<&'static str, String> {
        let Some(smmu) = self.smmus.get(instance) else { return Ok("nothing to do") };
        // Whatever unmaps meanwhile is told that it is not confirmed.
        let (interfering, script) = self.look(|watch| watch.quiet());
        self.set_power(instance, Power::Changing);
        let result =
            self.traced("call", "reset", || self.named(instance), || self.iommu.reset(smmu));
        self.set_power(instance, Power::On);
        self.look(|watch| (watch.interfering, watch.script) = (interfering, script));
        result.map(|()| "done").map_err(|error| error.to_string())
    }

    fn replug(&self, _instance: usize) -> Result<&'static str, String> {
        Ok("nothing to do")
    }

    fn named(&self, instance: usize) -> trace::Args {
        let name = self.scenario.instances.get(instance).map_or("?", |it| &*it.name);
        trace::args([("instance", name.into())])
    }
}
