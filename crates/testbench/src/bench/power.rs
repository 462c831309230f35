// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instances that are suspended, resumed, reset, or removed and taken into use again.

use std::sync::Arc;

use smmuv3::{InstanceId, Interrupt, Report, Smmu};
use smmuv3_model::Model;

use super::statistics::refused;
use super::{Bench, Done, Handle};
use crate::caches::SmmuMemory;
use crate::inside::Inside as _;
use crate::oracle::{Power, Use, User};
use crate::platform::TestPlatform;
use crate::scenario::{Answer, Change, Instance, Substream};
use crate::stream_table::StreamTable;
use crate::trace;
use crate::watch::Tally;

/// Larger stream tables are not made again and again.
const MOST_BITS: u32 = 18;

impl Bench {
    /// Changes an instance as a whole. One that is so already stays so.
    pub(super) fn change(&self, instance: usize, change: Change) -> Done {
        let power = self.oracle(|oracle| oracle.power(instance));
        let done = match (change, power) {
            (Change::Suspend, Power::On) => self.suspend(instance),
            (Change::Resume | Change::Reset, Power::Off) => self.wake(instance, change),
            (Change::Reset, _) => self.reset(instance),
            (Change::Replug, Power::On) => self.replug(instance),
            (Change::EndAdoption, _) => self.end_adoption(instance),
            (Change::Suspend | Change::Resume | Change::Replug, _) => Ok("nothing to do"),
        };
        let acted = matches!(done, Ok("done"));
        let outcome = match done {
            Ok(done) => done.to_owned(),
            Err(error) => {
                let what = change.name();
                self.look(|watch| watch.refuse(format_args!("{what} was refused: {error}")));
                error
            }
        };
        Done { outcome, acted, ..Done::default() }
    }

    fn set_power(&self, instance: usize, power: Power) {
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.set_power(instance, power);
        });
    }

    fn suspend(&self, instance: usize) -> Result<&'static str, String> {
        let Some(smmu) = self.smmu(instance) else { return Ok("nothing to do") };
        self.set_power(instance, Power::Changing);
        // In their order among those that are reported where this is interrupted.
        let mut sink = |report: Report<TestPlatform>| {
            self.look(|watch| {
                watch.collect(&self.world);
                watch.report(instance, &report);
            });
        };
        let result = self.traced(
            "call",
            "suspend",
            || self.named(instance),
            || self.iommu.suspend(&smmu, &mut sink),
        );
        self.look(|watch| watch.collect(&self.world));
        if let Err(error) = result {
            self.set_power(instance, Power::On);
            return Err(error.to_string());
        }
        self.look(|watch| watch.is_off(&self.world, instance));
        if let Some(mut model) = self.world.machine().model(instance) {
            arrive(&mut model);
            model.power_off();
        }
        self.set_power(instance, Power::Off);
        self.look(|watch| {
            watch.collect(&self.world);
            // It said all that it had to say.
            watch.oracle.all_reported(instance);
            watch.oracle.no_group_outlives(instance);
        });
        Ok("done")
    }

    /// Power, and either call that makes use of it.
    fn wake(&self, instance: usize, change: Change) -> Result<&'static str, String> {
        let Some(smmu) = self.smmu(instance) else { return Ok("nothing to do") };
        let off = |index| self.oracle(|oracle| oracle.power(index)) == Power::Off;
        let all_off = (0..self.smmus.len()).all(off);
        self.set_power(instance, Power::Changing);
        if let Some(mut model) = self.world.machine().model(instance) {
            model.power_on(true);
        }
        if all_off {
            self.world.machine().power_cycle(instance).map_err(|error| error.to_string())?;
        }
        let result = self.traced(
            "call",
            change.name(),
            || self.named(instance),
            || match change {
                Change::Reset => self.iommu.reset(&smmu),
                _ => self.iommu.resume(&smmu),
            },
        );
        self.set_power(instance, Power::On);
        result.map(|()| "done").map_err(|error| error.to_string())
    }

    fn reset(&self, instance: usize) -> Result<&'static str, String> {
        let Some(smmu) = self.smmu(instance) else { return Ok("nothing to do") };
        // Whatever unmaps meanwhile is told that it is not confirmed.
        let (interfering, script) = self.look(|watch| watch.quiet());
        self.set_power(instance, Power::Changing);
        let result =
            self.traced("call", "reset", || self.named(instance), || self.iommu.reset(&smmu));
        self.set_power(instance, Power::On);
        let commands = smmu.statistics().commands;
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.groups_were_reset(instance, result.is_ok());
            // All that came after it was waited for.
            if let Some(tally) = watch.tallies.get_mut(instance).filter(|_| result.is_ok()) {
                tally.thrown = self.world.given(instance).saturating_sub(tally.commands);
                // What memory refused is tried again.
                let refused = refused(&commands, tally);
                let syncs = (commands.syncs + refused).saturating_sub(tally.retried);
                tally.thrown_syncs = syncs.saturating_sub(tally.syncs).min(tally.thrown);
            }
        });
        // No interrupt tells of what is gone.
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        let _ = self.iommu.handle_interrupt(&smmu, Interrupt::Any, usize::MAX, &mut sink);
        self.look(|watch| watch.collect(&self.world));
        for report in reports {
            if let Some((fault, false)) = self.take_report(instance, report) {
                self.stalls().others.push(fault);
            }
        }
        self.look(|watch| (watch.interfering, watch.script) = (interfering, script));
        result.map(|()| "done").map_err(|error| error.to_string())
    }

    /// Its masters are closed, and it is removed while domains live on others; then all that comes back.
    fn replug(&self, instance: usize) -> Result<&'static str, String> {
        let large = |it: &Instance| it.sid_bits > MOST_BITS;
        if self.is_unclaimed(instance) || self.scenario.instances.get(instance).is_none_or(large) {
            return Ok("nothing to do");
        }
        let behind = |master: &usize| self.oracle(|oracle| oracle.streams(*master).0) == instance;
        let masters: Vec<usize> = (0..self.masters.len()).filter(behind).collect();
        for master in &masters {
            self.readmit(*master);
            self.leave(*master);
        }
        // Nothing that it says is lost with it.
        self.take_events(&mut Done::default());
        let (interfering, script) = self.look(|watch| watch.quiet());
        self.set_power(instance, Power::Changing);
        let done = self.traced(
            "call",
            "replug",
            || self.named(instance),
            || {
                self.pull(instance, &masters)?;
                self.look(|watch| watch.is_off(&self.world, instance));
                if let Some(mut model) = self.world.machine().model(instance) {
                    arrive(&mut model);
                    model.power_off();
                    model.power_on(true);
                }
                self.plug(instance, &masters)
            },
        );
        self.set_power(instance, Power::On);
        self.look(|watch| (watch.interfering, watch.script) = (interfering, script));
        done.map(|()| "done")
    }

    /// Takes everything from a master.
    fn leave(&self, master: usize) {
        let users: Vec<(User, Use)> = self.oracle(|oracle| oracle.users().collect());
        for (user, use_) in users.into_iter().filter(|(user, _)| user.master == master) {
            let name = self.oracle(|oracle| oracle.substream_name(user.substream));
            match (use_, name) {
                (Use::Process(process), _) => {
                    while self.oracle(|oracle| oracle.bonds(master, process)) > 0 {
                        self.unbind(process, master);
                    }
                }
                (_, Some(Substream::Pasid(pasid))) => {
                    self.attach(master, Some(pasid), Use::Blocked, Answer::Done);
                }
                _ => {}
            }
        }
        self.attach(master, None, Use::Blocked, Answer::Done);
    }

    fn pull(&self, instance: usize, masters: &[usize]) -> Result<(), String> {
        for master in masters {
            let master = self.masters.get(*master).and_then(Handle::take);
            let master = master.ok_or("a master is in use")?;
            master.close().map_err(|refused| format!("close a master: {refused}"))?;
        }
        let smmu = self.smmus.get(instance).and_then(Handle::take).ok_or("it is in use")?;
        self.hide_from_guests(smmu.id());
        // What waited of it is answered late, if at all; of those that were removed before, nobody keeps anything.
        let present: Vec<_> = (0..self.smmus.len()).filter_map(|index| self.smmu(index)).collect();
        let is_kept =
            |id: InstanceId| id == smmu.id() || present.iter().any(|present| present.id() == id);
        self.groups().retain(is_kept);
        self.forget_stalls(is_kept);
        self.iommu.remove(smmu).map_err(|refused| refused.to_string())?;
        self.world.forget_given(instance);
        self.look(|watch| {
            watch.remove_instance(instance);
            watch.collect(&self.world);
            watch.kept_tags.retain(|tag| tag.instance != instance);
            watch.forget_silent(instance);
            if let Some(tally) = watch.tallies.get_mut(instance) {
                *tally = Tally::default();
            }
        });
        Ok(())
    }

    fn plug(&self, instance: usize, masters: &[usize]) -> Result<(), String> {
        let smmu = self.bring_up(instance).map_err(|error| error.to_string())?;
        let streams = smmu.inside().streams();
        let (base, shape) = (streams.base_register(), streams.config_register());
        self.look(|watch| watch.replace_instance(instance, StreamTable { base, shape }));
        for index in masters {
            let added = self.new_master(*index, &smmu).map_err(|error| error.to_string())?;
            self.look(|watch| {
                watch.collect(&self.world);
                watch.oracle.renew_master(*index);
                for stream in
                    self.scenario.masters.get(*index).into_iter().flat_map(|it| &it.streams)
                {
                    watch.watch_stream(&self.world, instance, *stream);
                }
            });
            if let Some(handle) = self.masters.get(*index) {
                handle.put(added);
            }
        }
        self.show_to_guests(&smmu);
        if let Some(handle) = self.smmus.get(instance) {
            handle.put(smmu);
        }
        Ok(())
    }

    pub(super) fn smmu(&self, instance: usize) -> Option<Arc<Smmu<TestPlatform>>> {
        self.smmus.get(instance)?.get()
    }

    pub(super) fn named(&self, instance: usize) -> trace::Args {
        let name = self.scenario.instances.get(instance).map_or("?", |it| &*it.name);
        trace::args([("instance", name.into())])
    }
}

/// What passes while it is off has arrived before the power goes: that is for whoever turns it off to see to.
fn arrive(model: &mut Model<SmmuMemory>) {
    if !model.translates() {
        let held: Vec<u64> = model.held().map(|held| held.id).collect();
        for id in held {
            let _ = model.perform(id);
        }
    }
}
