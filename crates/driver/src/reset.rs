// SPDX-License-Identifier: MIT OR Apache-2.0
//! After an SMMU did not answer (rule R8): what it may still reach, and its reset, which lets go of that; and its removal.

use alloc::boxed::Box;
use core::fmt;

use smmuv3_formats::SubstreamId;

use crate::attach::fill;
use crate::configuration::{Configuration, spare};
use crate::error::InstanceId;
use crate::instance::EnableError;
use crate::iommu::{Core, Iommu, Smmu};
use crate::master::MasterState;
use crate::place::{GHOST, Place, Slot, User};
use crate::platform::Platform;
use crate::quarantine::{Mark, Quarantined};
use crate::shared::NoMemory;
use crate::space::Targets;
use crate::targets::Retired;

/// Why an instance was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoveError {
    /// It has masters.
    InUse {
        /// How many.
        masters: usize,
    },
    /// It did not confirm that it is off.
    Hardware(EnableError),
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { masters } => write!(f, "{masters} masters are still registered"),
            Self::Hardware(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RemoveError {}

impl<P: Platform> Iommu<P> {
    /// Shows what instances that did not answer may still reach. `visit` runs with locks held and interrupts masked: it
    /// calls nothing of the driver, and does not sleep.
    pub fn quarantined(&self, visit: &mut dyn FnMut(Quarantined)) {
        self.core.quarantine.list(&self.core.platform, visit);
        self.core.configuration.with(|configuration| {
            let mut asid = |place: usize| {
                if let Some(place) = configuration.places.get(place) {
                    visit(Quarantined::Asid { instance: place.instance, asid: place.tag.asid });
                }
            };
            configuration.held.iter().for_each(|held| asid(*held));
            for (index, place) in configuration.places.iter() {
                if place.users.iter().any(|user| user.substream == GHOST) {
                    asid(index);
                }
            }
            for (_, state) in configuration.masters.iter().filter(|(_, state)| state.is_stuck()) {
                state.stuck().for_each(|bound| asid(bound.place));
            }
            for (_, state) in configuration.masters.iter().filter(|(_, state)| state.is_stuck()) {
                for stream in &state.streams {
                    visit(Quarantined::Stream { instance: state.instance, stream: *stream });
                }
            }
        });
    }

    /// Resets `smmu`, which did not answer: empties its queues and caches, and lets go of what it could
    /// reach. Attached masters stay attached; those that a failed call was changing are blocked.
    ///
    /// # Errors
    /// See [`EnableError`]. The quarantine stays as it is then.
    pub fn reset(&self, smmu: &Smmu<P>) -> Result<(), EnableError> {
        let core = &smmu.core;
        let Some(instance) = core.instances.get(smmu.id) else { return Ok(()) };
        core.configuration.with(|configuration| {
            // What is put there from here on may come after the caches were emptied.
            let before = core.quarantine.mark(&core.platform);
            instance.start(&core.platform)?;
            core.quarantine.release(&core.platform, smmu.id, before);
            configuration.release(core, smmu.id);
            Ok(())
        })
    }

    /// Turns `smmu` off and forgets it; transactions abort from then on. Its memory is kept until the `Iommu`
    /// ends, because other CPUs may be looking at its queues.
    ///
    /// # Errors
    /// [`RemoveError::InUse`] while it has masters, [`RemoveError::Hardware`] when it does not confirm.
    pub fn remove(&self, smmu: Smmu<P>) -> Result<(), (Smmu<P>, RemoveError)> {
        let core = &smmu.core;
        let result = core.configuration.with(|configuration| {
            let of_it = |(_, state): &(usize, &MasterState)| state.instance == smmu.id;
            let masters = configuration.masters.iter().filter(of_it).count();
            if masters != 0 {
                return Err(RemoveError::InUse { masters });
            }
            if let Some(instance) = core.instances.get(smmu.id) {
                instance.stop(&core.platform).map_err(RemoveError::Hardware)?;
            }
            // Off for good: it reaches nothing.
            core.quarantine.release(&core.platform, smmu.id, Mark::NEVER);
            configuration.release(core, smmu.id);
            configuration.asids.remove(smmu.id);
            Ok(())
        });
        result.map_err(|error| (smmu, error))
    }
}

impl<P: Platform> Configuration<P> {
    /// Lets go of the tags that `instance` did not flush, and of the masters it did not let go of: its caches
    /// are empty now.
    fn release(&mut self, core: &Core<P>, instance: InstanceId) {
        let mut at = 0;
        while let Some(held) = self.held.get(at).copied() {
            let place = self.places.get(held).filter(|place| place.instance == instance);
            let space = place.map(|place| &place.space);
            // Without memory it stays until the next reset.
            if let Some(spare) = space.and_then(|space| spare(space, 0).ok()) {
                self.end(core, held, spare);
                self.held.swap_remove(at);
            } else {
                at += 1;
            }
        }
        for place in 0..self.places.end() {
            let Some(Place { space, users, .. }) =
                self.places.get(place).filter(|place| place.instance == instance)
            else {
                continue;
            };
            // Without memory they stay until the next reset.
            let ghosts = users.iter().any(|user| user.substream == GHOST);
            let Some(spare) = ghosts.then(|| spare(space, 0).ok()).flatten() else { continue };
            if self.exorcise(place) {
                self.end(core, place, spare);
            }
        }
        for master in 0..self.masters.end() {
            let state = self.masters.get_mut(master);
            let Some(state) = state.filter(|state| state.instance == instance) else { continue };
            state.adrift = false;
            if state.is_stuck() {
                self.unstick(core, master);
            }
        }
    }

    /// Forgets a place that nobody uses, whose tag is in no cache. `spare` is for the targets without it.
    fn end(&mut self, core: &Core<P>, place: usize, spare: Box<Targets>) {
        let retired = self.withdraw(place, spare);
        Retired::free([retired], &core.readers, || core.platform.relax());
        drop(self.forget(core, place));
    }

    /// After a reset of its instance: what a failed call was changing of `master` is blocked, and the rest works
    /// again.
    fn unstick(&mut self, core: &Core<P>, master: usize) {
        while let Some((substream, bounds)) =
            self.masters.get(master).and_then(MasterState::stuck_slot)
        {
            for (which, bound) in bounds.into_iter().enumerate() {
                let Some(bound) = bound else { continue };
                // Its seat may have changed with the one before.
                let user = User { master, substream };
                if self.leave(core, user, bound.place).is_err() {
                    // No memory: the rest stays as it is until the next reset.
                    return;
                }
                let Some(state) = self.masters.get_mut(master) else { return };
                if let Some(Slot::Stuck(bounds)) = state.slot_mut(substream)
                    && let Some(bound) = bounds.get_mut(which)
                {
                    *bound = None;
                }
            }
            let Some(state) = self.masters.get_mut(master) else { return };
            let (platform, pasid) = (&core.platform, SubstreamId(substream));
            // Its streams are blocked, and their caches are empty: hardware cannot see it.
            if let Some(entry) = state.entry(platform, pasid) {
                fill(platform, entry, &[0; 8]);
            }
            state.set_slot(substream, Slot::Blocked);
            if state.is_stuck() {
                continue;
            }
            let (stream, instance) = (state.stream(), core.instances.get(state.instance));
            let Some(instance) = instance else { return };
            // Also where they stay blocked: words that do not matter then still hold what did before.
            if state.write_streams(core, instance, stream).is_err() {
                // There is room: it was there just now.
                state.block_streams(platform, instance);
                state.set_slot(substream, Slot::Stuck([None, None]));
                return;
            }
        }
    }

    /// Takes a user off a place, and forgets that if it was the last.
    fn leave(&mut self, core: &Core<P>, user: User, place: usize) -> Result<(), NoMemory> {
        let Some(seats) = self.places.get(place) else { return Ok(()) };
        let spare = spare(&seats.space, 0)?;
        let bound = self.masters.get_mut(user.master);
        let bound = bound.and_then(|state| state.bound_mut(user.substream, place)).copied();
        let Some(bound) = bound else { return Ok(()) };
        if self.quit(place, bound.at) {
            self.end(core, place, spare);
        }
        Ok(())
    }
}
