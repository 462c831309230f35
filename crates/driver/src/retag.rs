// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing a tag that is in use, while devices work and other CPUs unmap (rule R6).
//!
//! Both tags are among the targets from before the first translation can carry the new one until no cache holds one
//! with the old. An unmap that read the targets earlier had cleared its descriptors before that, so no walk under the
//! new tag finds them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smmuv3_formats::{Cd, SubstreamId};

use crate::attach::{AttachError, flush};
use crate::configuration::{Configuration, spare};
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::invalidate::Tag;
use crate::iommu::Core;
use crate::mutation::Mutation;
use crate::place::{GHOST, Place, User};
use crate::platform::Platform;
use crate::room::Room;
use crate::space::{Installed, Targets};
use crate::targets::Retired;
use crate::trace::{self, InstanceSet, Trace};

/// The steps of a change of tags.
pub(crate) trait Steps {
    /// Adds the new tag to the targets.
    fn publish(&mut self);
    /// Makes hardware use the new tag, and waits until it does not use the old one any more.
    fn rewrite(&mut self);
    /// Makes hardware forget the old tag.
    fn flush(&mut self);
    /// Takes the old tag off the targets, and waits until nobody uses targets that name it.
    fn withdraw(&mut self);
}

/// Takes the steps in the only order that leaves no gap.
pub(crate) fn in_order(steps: &mut impl Steps) {
    steps.publish();
    steps.rewrite();
    steps.flush();
    steps.withdraw();
}

/// Gives the space of a place another ASID, of at most `bits` bits if all instances are to have the same. Returns it.
/// Where a place only waits for a reset, it keeps the old one; where one of its masters does, nothing is changed.
pub(crate) fn change_asid<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    index: usize,
    bits: u32,
) -> Result<u16, AttachError> {
    let Some(place) = configuration.places.get(index) else { return Err(AttachError::Foreign) };
    let (space, id, vmid) = (place.space.clone(), place.instance, place.tag.vmid);
    let asids = &configuration.asids;
    let common = asids.policy().is_common();
    let moves = |target: &Installed| {
        let wanted = if common { !target.shared } else { target.place == index };
        wanted && configuration.users(target.place) != 0
    };
    let targets = space.targets.for_writer();
    let count = targets.iter().filter(|target| moves(target)).count();
    let mut froms = Vec::new();
    froms.room_exact(count)?;
    froms.put_all(targets.iter().filter(|target| moves(target)).map(|target| target.place));
    for from in &froms {
        let place = configuration.places.get(*from);
        if let Some(place) = place.filter(|place| !configuration.is_settled(place)) {
            let (instance, what) = (place.instance, Failure::Failed);
            return Err(AttachError::MakingRoom(Unconfirmed::new(instance, what)));
        }
    }
    let bits = if common {
        let installed = targets.iter().map(|target| asids.bits(target.instance));
        asids.policy().bits_of_moved(installed.fold(bits, u32::min))
    } else {
        asids.bits(id)
    };
    let prepared = Prepared::new(core, configuration, &froms, 0)?;
    let asid = configuration.asids.allocate_within(id, vmid, bits);
    let asid = asid.ok_or(AttachError::NoAsid { instance: id, bits })?;
    let new = |tag: Tag| Tag { asid, ..tag };
    prepared.run(core, configuration, new, What::Contexts)?;
    Ok(asid)
}

/// Moves `master` with all that it uses to another bank. Returns its VMID; `None` if there is none: then nothing
/// was changed.
pub(crate) fn change_bank<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    index: usize,
) -> Result<Option<u16>, AttachError> {
    let Some(state) = configuration.masters.get(index) else { return Err(AttachError::Foreign) };
    let (id, old) = (state.instance, state.vmid);
    let mut froms = Vec::new();
    froms.room_exact(state.bounds().count())?;
    froms.put_all(state.bounds().map(|bound| bound.place));
    // Substreams that use the same space share one place.
    froms.sort_unstable();
    froms.dedup();
    let places = || froms.iter().filter_map(|from| configuration.places.get(*from));
    // A place with the CPU's ASID has to stay in the CPU's VMID.
    if places().any(|place| place.shared) {
        return Ok(None);
    }
    // Hardware may still read a context as it was before an unconfirmed change of its ASID: the old ASID, which waits
    // for a reset in this bank, would then be used in the other bank.
    let waits = |place: &Place<P>| {
        let here = |target: &&Installed| target.instance == id && target.tag.vmid == old;
        let mut targets = place.space.targets.for_writer().iter().filter(here);
        targets.any(|target| configuration.users(target.place) == 0)
    };
    if places().any(waits) {
        let what = Failure::Failed;
        return Err(AttachError::MakingRoom(Unconfirmed::new(id, what)));
    }
    // The entry and the contexts cannot change at once, so the contexts stay: all their numbers must be free there.
    let mut numbers = Vec::new();
    numbers.room_exact(froms.len())?;
    numbers.put_all(places().map(|place| place.tag.asid));
    let vmid = configuration.asids.bank_for(id, old, numbers.iter().copied())?;
    let Some(vmid) = vmid else { return Ok(None) };
    let users = configuration.masters.get(index).map_or(0, |state| state.bounds().count());
    let prepared = Prepared::new(core, configuration, &froms, users)?;
    for asid in numbers {
        // `bank_for` has found them free in that bank.
        let tag = configuration.asids.tag(id, vmid, asid);
        configuration.asids.take(id, tag);
    }
    prepared.run(core, configuration, |tag| Tag { vmid, ..tag }, What::Bank { index, vmid })?;
    Ok(Some(vmid))
}

/// What holds the part of the tag that changes.
#[derive(Clone, Copy)]
enum What {
    /// The contexts of all users of the places.
    Contexts,
    /// The entries of this master's streams.
    Bank { index: usize, vmid: u16 },
}

/// The memory that a change of tags takes, so that only hardware can fail it.
struct Prepared {
    moves: Vec<Move>,
    /// Users of each new place, empty.
    users: Vec<Vec<User>>,
    retired: Vec<Option<Retired<Targets>>>,
}

struct Move {
    from: usize,
    to: usize,
    /// Targets with both tags, and with the new one only.
    spares: [Option<Box<Targets>>; 2],
    /// The old place has no users left.
    left: bool,
    /// The instance confirmed the flush of the old tag.
    flushed: bool,
}

impl Prepared {
    /// Makes ready for moves from the places `froms`: each new place has room for `users` users and one more.
    fn new<P: Platform>(
        core: &Core<P>,
        configuration: &mut Configuration<P>,
        froms: &[usize],
        users: usize,
    ) -> Result<Self, AttachError> {
        core.quarantine.reserve(&core.platform)?;
        // One more for the place that the attach which needs this change enters afterwards.
        configuration.places.reserve(froms.len() + 1)?;
        let mut prepared = Self { moves: Vec::new(), users: Vec::new(), retired: Vec::new() };
        prepared.moves.room_exact(froms.len())?;
        prepared.users.room_exact(froms.len())?;
        prepared.retired.room_exact(2 * froms.len())?;
        for from in froms {
            let Some(place) = configuration.places.get(*from) else { continue };
            // Room for `froms.len()` more targets, since all of them may be places of this one space.
            let spares =
                [Some(spare(&place.space, froms.len())?), Some(spare(&place.space, froms.len())?)];
            let mut list = Vec::new();
            list.room_exact(users + 1)?;
            prepared.users.put(list);
            prepared.moves.put(Move { from: *from, to: 0, spares, left: false, flushed: false });
        }
        Ok(prepared)
    }

    /// Changes the tags. The new ones were taken.
    fn run<P: Platform>(
        mut self,
        core: &Core<P>,
        configuration: &mut Configuration<P>,
        new: impl Fn(Tag) -> Tag,
        what: What,
    ) -> Result<(), AttachError> {
        for (step, users) in self.moves.iter_mut().zip(self.users) {
            let Some(Place { space, instance, tag, .. }) = configuration.places.get(step.from)
            else {
                continue;
            };
            let (space, instance, tag) = (space.clone(), *instance, new(*tag));
            let place = Place { space, instance, tag, shared: false, users };
            step.to = configuration.places.insert(place);
        }
        let (moves, retired) = (self.moves, self.retired);
        let told = |configuration: &Configuration<P>, step: &Move| {
            let places = &configuration.places;
            let (from, to) = (places.get(step.from)?, places.get(step.to)?);
            let (instance, space) = (from.instance, from.space.id);
            Some(trace::Change::Retag { instance, space, from: from.tag, to: to.tag })
        };
        for change in moves.iter().filter_map(|step| told(configuration, step)) {
            core.platform.trace(&Trace::Begun(change));
        }
        let mut change =
            Change { core, configuration, moves, retired, what, failed: 0, first: None };
        if core.leaves_out(Mutation::TagBeforeTarget) {
            change.rewrite();
        }
        in_order(&mut change);
        let (first, failed) = (change.first, change.failed);
        for step in change.moves {
            if let Some(change) = told(configuration, &step) {
                core.platform.trace(&Trace::Ended { change, done: first.is_none() });
            }
            if step.left && step.flushed {
                // The space that `forget` returns does not end here: the new place has it as well.
                drop(configuration.forget(core, step.from));
            }
        }
        match first {
            None => Ok(()),
            Some(first) => {
                let waiting = InstanceSet(failed);
                Err(AttachError::MakingRoom(Unconfirmed { waiting, ..first }))
            }
        }
    }
}

struct Change<'a, P: Platform> {
    core: &'a Core<P>,
    configuration: &'a mut Configuration<P>,
    moves: Vec<Move>,
    retired: Vec<Option<Retired<Targets>>>,
    what: What,
    /// Instances that did not confirm a step, and the first of them.
    failed: u64,
    first: Option<Unconfirmed>,
}

impl<P: Platform> Change<'_, P> {
    fn note(&mut self, instance: InstanceId, what: Failure) {
        self.first.get_or_insert(Unconfirmed::new(instance, what));
        self.failed |= instance.bit();
    }

    /// Changes the ASID in the contexts of all users of a place. Nothing else in them changes, so each is a change of
    /// one word (§8.2).
    fn rewrite_contexts(&mut self, from: usize, to: usize) {
        let Some(place) = self.configuration.places.get(to) else { return };
        let (instance, asid) = (place.instance, place.tag.asid);
        let users = self.configuration.users(from);
        if users == 0 {
            return;
        }
        for at in 0..users {
            let user = self.configuration.places.get(from).and_then(|place| place.users.get(at));
            let Some(user) = user.copied() else { continue };
            let Some(state) = self.configuration.masters.get(user.master) else { continue };
            let Some(smmu) = self.core.instances.get(instance) else { continue };
            let (platform, substream) = (&self.core.platform, SubstreamId(user.substream));
            let Some(entry) = state.entry(platform, substream) else { continue };
            // This is the context of the space for certain: only settled places are moved (`is_settled`).
            let target = Cd(entry.load(platform)).with_asid(u64::from(asid));
            state.judge(&target.0, smmu.features());
            let written = if self.failed & instance.bit() != 0 {
                Err(Failure::Failed)
            } else {
                state.write_context(self.core, smmu, entry, substream, &target.0)
            };
            if let Err(what) = written {
                // The new tag is stored although it is unconfirmed: after a reset hardware reads the context anew, and
                // has to find the new ASID.
                entry.write(platform, 0, target.0[0]);
                self.note(instance, what);
            }
        }
        // All users move to the new place, in the same order.
        let users = self.configuration.places.get_mut(from).map(|place| &mut place.users);
        let users = users.map(core::mem::take).unwrap_or_default();
        for user in &users {
            self.configuration.rebind(*user, from, |bound| bound.place = to);
        }
        if let Some(place) = self.configuration.places.get_mut(to) {
            place.users = users;
        }
    }

    /// Changes the VMID in the entries of a master's streams: one word as well.
    fn rewrite_entries(&mut self, index: usize, vmid: u16) {
        let Some(state) = self.configuration.masters.get_mut(index) else { return };
        state.vmid = vmid;
        let id = state.instance;
        if let Some(smmu) = self.core.instances.get(id)
            && let Err(what) = state.write_streams(self.core, smmu, state.stream())
        {
            state.store_streams(&self.core.platform, smmu, state.stream());
            state.adrift = true;
            self.note(id, what);
        }
    }
}

impl<P: Platform> Steps for Change<'_, P> {
    fn publish(&mut self) {
        for step in &mut self.moves {
            let Some(both) = step.spares[0].take() else { continue };
            // There is room: two for each move were reserved.
            self.retired.put(self.configuration.publish(step.to, both));
        }
    }

    fn rewrite(&mut self) {
        match self.what {
            What::Contexts => {
                for at in 0..self.moves.len() {
                    let Some(Move { from, to, .. }) = self.moves.get(at) else { continue };
                    self.rewrite_contexts(*from, *to);
                }
            }
            What::Bank { index, vmid } => {
                self.rewrite_entries(index, vmid);
                let confirmed = self.first.is_none();
                for step in &self.moves {
                    // Only this master's users are moved; the new place has room for them.
                    let mut at = 0;
                    while let Some(user) = self
                        .configuration
                        .places
                        .get(step.from)
                        .and_then(|place| place.users.get(at))
                        .copied()
                    {
                        let own = user.master == index && user.substream != GHOST;
                        if own {
                            let seats = &mut self.configuration;
                            seats.change_seat(user, step.from, at, step.to, confirmed);
                        }
                        // A confirmed move has put the last user at index `at`: it is looked at next.
                        at += usize::from(!own || !confirmed);
                    }
                }
            }
        }
    }

    fn flush(&mut self) {
        for at in 0..self.moves.len() {
            let Some(step) = self.moves.get(at) else { continue };
            let Some(place) = self.configuration.places.get(step.from) else { continue };
            let (instance, tag, left) = (place.instance, place.tag, place.users.is_empty());
            let flushed = match self.core.instances.get(instance) {
                Some(_) if !left => Ok(()),
                Some(_) if self.failed & instance.bit() != 0 => Err(Failure::Failed),
                Some(smmu) => flush(self.core, smmu, tag),
                None => Ok(()),
            };
            if let Some(step) = self.moves.get_mut(at) {
                (step.left, step.flushed) = (left, flushed.is_ok());
            }
            if let Err(what) = flushed {
                self.note(instance, what);
            }
        }
    }

    fn withdraw(&mut self) {
        for step in &mut self.moves {
            if step.left && step.flushed {
                let Some(one) = step.spares[1].take() else { continue };
                self.retired.put(self.configuration.withdraw(step.from, one));
            }
            // One that is left and not flushed is held: it keeps its tag until the instance is reset.
        }
        let retired = core::mem::take(&mut self.retired);
        Retired::free(retired, &self.core.readers, || self.core.platform.relax());
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
