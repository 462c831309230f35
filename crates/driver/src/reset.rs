// SPDX-License-Identifier: MIT OR Apache-2.0
//! After an SMMU did not answer (rule R8): what it may still reach, and its reset, which lets go of that.

use alloc::boxed::Box;

use smmuv3_formats::SubstreamId;

use crate::attach::{Goal, fill, settle};
use crate::configuration::{Configuration, spare};
use crate::error::{Failure, InstanceId};
use crate::instance::{EnableError, Instance};
use crate::invalidate::{Regime, Tag};
use crate::iommu::{Core, Iommu, Smmu};
use crate::master::MasterState;
use crate::nest::state::Moves;
use crate::page_group::{self, Which};
use crate::page_request::Answer;
use crate::place::{Place, Slot, User, WITHOUT};
use crate::platform::Platform;
use crate::quarantine::Quarantined;
use crate::shared::NoMemory;
use crate::space::Targets;
use crate::targets::Retired;
use crate::trace::{Change, Trace};

impl<P: Platform> Iommu<P> {
    /// Shows what instances that did not answer may still reach. `visit` is called in two parts: for memory and tables
    /// with the quarantine's spin lock held and interrupts masked, for tags and streams with the configuration mutex
    /// held ([`RawMutex`](crate::RawMutex); so this is not to be called in interrupt context). In both it calls nothing
    /// of the driver, and does not sleep.
    pub fn quarantined(&self, visit: &mut dyn FnMut(Quarantined)) {
        self.core.quarantine.list(&self.core.platform, visit);
        self.core.configuration.with(|configuration| {
            let mut tag = |place: &Place<P>| {
                let (instance, Tag { regime, vmid, asid }) = (place.instance, place.tag);
                visit(match regime {
                    Regime::Stage2 | Regime::Guests => Quarantined::Vmid { instance, vmid },
                    Regime::El1 | Regime::El2 => Quarantined::Asid { instance, asid },
                });
            };
            let waits = |place: &Place<P>| place.is_held() || place.is_haunted();
            for (_, place) in configuration.places.iter().filter(|(_, place)| waits(place)) {
                tag(place);
            }
            for (_, state) in configuration.masters.iter().filter(|(_, state)| state.is_stuck()) {
                let places =
                    state.stuck().filter_map(|bound| configuration.places.get(bound.place));
                places.for_each(&mut tag);
            }
            for (_, state) in configuration.masters.iter().filter(|(_, state)| state.is_stuck()) {
                for stream in &state.streams {
                    visit(Quarantined::Stream { instance: state.instance, stream: *stream });
                }
            }
        });
    }

    /// Resets `smmu`, which did not answer: empties its queues and caches, and lets go of what it could
    /// reach. Attached masters stay attached; those that a failed call was changing are blocked. One that was removed
    /// stays off. One that is suspended works again, and has to have power.
    ///
    /// Interrupts are masked while it goes through the commands of a queue that `smmu` had not come to, at most as many as the
    /// queue has ([`InstanceConfig::command_queue_log2`](crate::InstanceConfig::command_queue_log2)).
    ///
    /// # Errors
    /// See [`EnableError`]. If it did not come up, the quarantine stays as it is. With [`EnableError::NoMemory`], or
    /// when it refused a command afterwards, it works, but some of what it had not confirmed is kept: to be called
    /// again.
    pub fn reset(&self, smmu: &Smmu<P>) -> Result<(), EnableError> {
        self.revive(smmu, |_| Ok(true))
    }

    /// Starts `smmu`, which empties its caches, and lets go of what it could reach, if it is `due`.
    pub(crate) fn revive(
        &self,
        smmu: &Smmu<P>,
        due: impl FnOnce(&Instance<P>) -> Result<bool, EnableError>,
    ) -> Result<(), EnableError> {
        let core = &smmu.core;
        let change = Change::Reset { instance: smmu.id };
        core.platform.trace(&Trace::Begun(change));
        let result = core.configuration.with(|configuration| {
            if configuration.asids.removed() & smmu.id.bit() != 0 {
                return Ok(());
            }
            let (instance, platform) = (smmu.hardware(), &core.platform);
            if !due(instance)? {
                return Ok(());
            }
            // Only what is in quarantine now is released below: what is added meanwhile may be younger than the
            // emptying of the caches.
            let before = core.quarantine.mark(&core.platform, smmu.id);
            configuration.switch_off(core, smmu.id);
            // A suspended SMMU is resumed instead: unmaps go on meanwhile, and leave it out.
            match instance.commands().is_off() {
                true => instance.resume(platform),
                false => instance.start(platform),
            }?;
            core.quarantine.release(&core.platform, smmu.id, before);
            let result = configuration.let_go(core, smmu.id);
            result.and(configuration.switch_on(core, smmu.id))
        });
        core.platform.trace(&Trace::Ended { change, done: result.is_ok() });
        result
    }
}

impl<P: Platform> Configuration<P> {
    /// Lets go of the tags that `instance` did not flush, and of the masters it did not let go of: its caches
    /// are empty now. What it could not let go of, for the reason returned, stays until it is called again.
    pub(crate) fn let_go(
        &mut self,
        core: &Core<P>,
        instance: InstanceId,
    ) -> Result<(), EnableError> {
        let mut result = Ok(());
        for index in 0..self.places.end() {
            let place = self.places.get(index).filter(|place| place.instance == instance);
            let Some(place) = place.filter(|place| place.is_held() || place.is_haunted()) else {
                continue;
            };
            match spare(&place.space, 0) {
                Ok(spare) => {
                    self.exorcise(index);
                    if self.users(index) == 0 {
                        self.end(core, index, spare, None);
                    }
                }
                Err(NoMemory) => result = Err(EnableError::NoMemory),
            }
        }
        let mut left = false;
        for master in 0..self.masters.end() {
            let state = self.masters.get_mut(master);
            let Some(state) = state.filter(|state| state.instance == instance) else { continue };
            state.adrift = false;
            if state.is_stuck() {
                left |= state.ats().is_some() || state.has_guest();
                result = result.and(self.unstick(core, master));
            }
        }
        if left && let Some(instance) = core.instances.get(instance) {
            // Commands for devices and guests' streams that others placed before those left may still be in any queue.
            result = result.and(settle(core, instance).map_err(EnableError::Commands));
        }
        result
    }

    /// Withdraws and forgets a place without users, whose tag is in no cache. `spare` becomes the targets without it.
    fn end(&mut self, core: &Core<P>, place: usize, spare: Box<Targets>, user: Option<User>) {
        let retired = self.withdraw_for(place, spare, true, user);
        Retired::free([retired], &core.readers, || core.platform.relax());
        drop(self.forget(core, place));
    }

    /// After a reset of its instance: what a failed call was changing of `master` is blocked, and the rest works
    /// again.
    fn unstick(&mut self, core: &Core<P>, master: usize) -> Result<(), EnableError> {
        while let Some((substream, bounds)) =
            self.masters.get(master).and_then(MasterState::stuck_slot)
        {
            // A guest's commands name the VMID that it had, which may be another's once the place is left. Nothing is cached.
            let moves = Moves::prepare(self, master, substream, &Goal::Blocked);
            let mut moves = moves.map_err(|_| EnableError::NoMemory)?;
            moves.end(self, master);
            let left = moves.leave(self, master);
            if left.iter().any(Option::is_some) {
                Retired::free(left, &core.readers, || core.platform.relax());
            }
            for (which, bound) in bounds.into_iter().enumerate() {
                let Some(bound) = bound else { continue };
                // Looked up anew: the seat's index may have changed when the other one left.
                let user = User { master, substream };
                self.leave(core, user, bound.place).map_err(|NoMemory| EnableError::NoMemory)?;
                let Some(state) = self.masters.get_mut(master) else { return Ok(()) };
                if let Some(Slot::Stuck(bounds)) = state.slot_mut(substream)
                    && let Some(bound) = bounds.get_mut(which)
                {
                    *bound = None;
                }
            }
            let Some(state) = self.masters.get_mut(master) else { return Ok(()) };
            let (platform, pasid) = (&core.platform, SubstreamId(substream));
            // The streams are blocked and the caches empty: hardware does not see the context.
            if let Some(entry) = state.entry(platform, pasid) {
                fill(platform, entry, &[0; 8]);
            }
            state.set_slot(substream, Slot::Blocked);
            if state.is_stuck() {
                continue;
            }
            let (stream, instance) = (state.stream(), core.instances.get(state.instance));
            let Some(instance) = instance else { return Ok(()) };
            // Even if the streams stay blocked: only word 0 was changed, and the other words still hold the former
            // entry.
            if let Err(failure) = state.write_streams(core, instance, stream) {
                // The slot was there just now, so there is room for it.
                state.block_streams(platform, instance);
                state.set_slot(substream, Slot::Stuck([None, None]));
                return Err(EnableError::Commands(failure));
            }
            if let Some(state) = self.masters.get_mut(master) {
                state.adopted = false;
            }
        }
        Ok(())
    }

    /// Takes a user off a place, and forgets that if it was the last.
    fn leave(&mut self, core: &Core<P>, user: User, place: usize) -> Result<(), NoMemory> {
        let Some(seats) = self.places.get(place) else { return Ok(()) };
        let spare = spare(&seats.space, 0)?;
        let bound = self.masters.get_mut(user.master);
        let bound = bound.and_then(|state| state.bound_mut(user.substream, place)).copied();
        let Some(bound) = bound else { return Ok(()) };
        if self.quit(place, bound.at) {
            self.end(core, place, spare, Some(user));
        } else {
            let retired = self.withdraw_for(place, spare, false, Some(user));
            Retired::free([retired], &core.readers, || core.platform.relax());
        }
        Ok(())
    }

    /// Switches ATS off in the devices behind `instance`, which is about to be off for a moment.
    fn switch_off(&mut self, core: &Core<P>, instance: InstanceId) {
        for master in 0..self.masters.end() {
            let state = self.masters.get_mut(master);
            if let Some(state) = state.filter(|state| state.instance == instance) {
                state.switch_off(core);
            }
        }
    }

    /// Switches ATS off in the devices behind `instance`, makes them forget all that they keep, and ends what they have
    /// asked for: `instance`, which still works, is about to be suspended.
    pub(crate) fn quiet(&mut self, core: &Core<P>, instance: InstanceId) -> Result<(), Failure> {
        let Some(smmu) = core.instances.get(instance) else { return Ok(()) };
        for master in 0..self.masters.end() {
            let state = self.masters.get_mut(master);
            let Some(state) = state.filter(|state| state.instance == instance) else { continue };
            if state.is_on() {
                state.switch_off(core);
                state.forget_kept(core, smmu, WITHOUT)?;
            } else if !state.keeps(state.stream()) {
                continue;
            }
            // `Success` makes devices try again once the SMMU works.
            page_group::end(core, smmu, state, Which::All, Some(Answer::Success))?;
        }
        Ok(())
    }

    /// Switches ATS on again in devices behind `instance`, as they are attached.
    pub(crate) fn switch_on(
        &mut self,
        core: &Core<P>,
        instance: InstanceId,
    ) -> Result<(), EnableError> {
        let Some(smmu) = core.instances.get(instance) else { return Ok(()) };
        for master in 0..self.masters.end() {
            let state = self.masters.get_mut(master);
            let Some(state) = state.filter(|state| state.instance == instance) else { continue };
            if !state.is_on() && !state.is_stuck() && state.keeps(state.stream()) {
                state.switch_on(core, smmu).map_err(EnableError::Commands)?;
            }
        }
        Ok(())
    }
}
