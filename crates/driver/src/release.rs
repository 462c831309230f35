// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a process while devices may still use its PASID.

use smmuv3_formats::{Cd, SubstreamId};

use crate::attach::{DetachError, flush};
use crate::configuration::Configuration;
use crate::error::{Failure, Unconfirmed};
use crate::instance::Instance;
use crate::iommu::Core;
use crate::page_group::{self, Which};
use crate::page_request::Answer;
use crate::place::GHOST;
use crate::platform::Platform;
use crate::process::{Life, Registers};
use crate::space::{Installed, Space};
use crate::stall::{self, Ending};

use crate::trace::{Change, InstanceSet, Trace};

/// What is done with each of the targets before anything else is done with any.
type Step<'a, P> = &'a dyn Fn(&Configuration<P>, &Installed, &Instance<P>) -> Result<(), Failure>;

/// Makes all contexts of `space` quiet, then flushes its tags. Contexts stay valid, or devices that go on would fill
/// the event queue with C_BAD_CD.
pub(crate) fn release<P: Platform>(space: &Space<P>) -> Result<(), DetachError> {
    let core = &*space.core;
    let carry_out = |configuration: &mut Configuration<P>| {
        let Some(registers) = space.process() else { return Ok(()) };
        let life = registers.life(configuration);
        if life == Life::Gone {
            return Ok(());
        }
        core.quarantine.reserve(&core.platform)?;
        // From here on no bind succeeds.
        registers.set_life(configuration, Life::Leaving);
        let (mut failed, mut first) = (0u64, None);
        // All contexts first, then all tags, then what devices keep: a master that a failed call left behind may walk by
        // the context of one place and fill the tag of another, and devices that ask again are granted nothing then.
        let again = life == Life::Leaving;
        let steps: [Step<'_, P>; 3] = [
            &|configuration, target, _| quieten(core, configuration, target.place, again),
            &|_, target, instance| flush(core, instance, target.tag),
            &|configuration, target, _| forget_kept(core, configuration, target.place),
        ];
        for step in steps {
            let before = failed;
            for target in space.targets.for_writer().iter() {
                let instance = core.instances.get(target.instance);
                let Some(instance) = instance.filter(|_| before & target.instance.bit() == 0)
                else {
                    continue;
                };
                if let Err(what) = step(configuration, target, instance) {
                    first.get_or_insert(Unconfirmed::new(target.instance, what));
                    failed |= target.instance.bit();
                }
            }
        }
        let Some(unconfirmed) = first else {
            registers.set_life(configuration, Life::Gone);
            // Entries that an earlier, unconfirmed call left in the quarantine.
            core.quarantine.forget(&core.platform, space.id);
            return Ok(());
        };
        // Those instances may still reach the whole address space.
        core.quarantine.keep(&core.platform, failed, space.id, 0..u64::MAX, &[]);
        let waiting = InstanceSet(failed);
        Err(DetachError::Unconfirmed(Unconfirmed { waiting, ..unconfirmed }))
    };
    core.configuration.with(|configuration| {
        let change = Change::Release { space: space.id };
        core.platform.trace(&Trace::Begun(change));
        let result = carry_out(configuration);
        core.platform.trace(&Trace::Ended { change, done: result.is_ok() });
        result
    })
}

/// Makes the devices that use a place forget what they keep of it, and ends what they have asked for.
fn forget_kept<P: Platform>(
    core: &Core<P>,
    configuration: &Configuration<P>,
    place: usize,
) -> Result<(), Failure> {
    let users = configuration.places.get(place).map_or(&[][..], |place| &place.users);
    // A ghost has no substream, nor anything that a device could keep: its user is at another place by now.
    users.iter().filter(|user| user.substream != GHOST).try_for_each(|user| {
        let state = configuration.masters.get(user.master).filter(|state| state.is_on());
        let instance = state.and_then(|state| core.instances.get(state.instance));
        let (Some(state), Some(instance)) = (state, instance) else { return Ok(()) };
        state.forget_kept(core, instance, user.substream)?;
        let which = Which::Substream(user.substream);
        page_group::end(core, instance, state, which, Some(Answer::Invalid))
    })
}

/// Makes the contexts of one place quiet. What an instance did not confirm is in memory all the same: it counts
/// once the instance is reset, or when it is told `again`.
fn quieten<P: Platform>(
    core: &Core<P>,
    configuration: &Configuration<P>,
    place: usize,
    again: bool,
) -> Result<(), Failure> {
    let Some(place) = configuration.places.get(place) else { return Ok(()) };
    let mut result = Ok(());
    for user in &place.users {
        let Some(state) = configuration.masters.get(user.master) else { continue };
        let Some(instance) = core.instances.get(state.instance) else { continue };
        let substream = SubstreamId(user.substream);
        let Some(entry) = state.entry(&core.platform, substream) else { continue };
        let forced = instance.features().always_stalls();
        let quiet = Registers::quiet(Cd(entry.load(&core.platform)), forced);
        state.judge(&quiet.0, instance.features());
        let failed = instance.commands().has_failed();
        let written = if failed {
            Err(Failure::Failed)
        } else {
            // What an earlier call stored may not have been noticed by hardware: it is told of that before anything
            // else is stored. For a stuck master that includes where its contexts are, so its entries are invalidated.
            let told = if state.is_stuck() {
                instance.forget_streams(&core.platform, &state.streams)
            } else if again {
                instance.forget_contexts(&core.platform, &state.streams, substream)
            } else {
                Ok(())
            };
            let written =
                told.and_then(|()| state.write_context(core, instance, entry, substream, &quiet.0));
            let ending = Ending::Substream(user.substream);
            match written {
                Ok(()) if state.stalls() => stall::end(core, instance, &state.streams, ending),
                written => written,
            }
        };
        if written.is_err() {
            // Only word 0, which decides: the other words stay as long as hardware may have the old word 0.
            entry.write(&core.platform, 0, quiet.0[0]);
        }
        result = result.and(written);
    }
    result
}

#[cfg(all(test, loom))]
mod loom_tests;
