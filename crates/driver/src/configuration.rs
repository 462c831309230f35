// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the configuration mutex guards: who is attached to what, and by which tags.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smmuv3_formats::StreamId;

use crate::adopt::Adoptions;
use crate::asid::Asids;
use crate::devices::Device;
use crate::error::InstanceId;
use crate::invalidate::Regime;
use crate::iommu::Core;
use crate::master::MasterState;
use crate::owners::Owners;
use crate::place::{Bound, GHOST, Place, User, is_without};
use crate::platform::Platform;
use crate::room::Room;
use crate::shared::{NoMemory, Shared, try_box};
use crate::slab::Slab;
use crate::space::{Installed, Space, Targets};
use crate::targets::Retired;

pub(crate) struct Configuration<P: Platform> {
    /// Masters, by the index that a [`Master`](crate::Master) holds.
    pub(crate) masters: Slab<MasterState>,
    pub(crate) owners: Owners,
    /// Where address spaces are attached; [`Installed`] has the index. Those without users are held
    /// ([`Place::is_held`]).
    pub(crate) places: Slab<Place<P>>,
    /// An empty list for the next place; with room for one, if [`Configuration::make_room`] was the last to use it.
    pub(crate) first_user: Vec<User>,
    pub(crate) asids: Asids,
    /// Streams and tags of adopted instances that still work as their predecessor left them.
    pub(crate) adopted: Adoptions,
    /// PASIDs that callers asked for, in order.
    #[cfg(feature = "pasids")]
    pub(crate) lent: Vec<u32>,
    pub(crate) domains: usize,
    /// How many seats were ever given out: each has its own number.
    seats: u64,
}

impl<P: Platform> Configuration<P> {
    pub(crate) fn new(asids: Asids) -> Self {
        Self {
            masters: Slab::new(),
            owners: Owners::new(),
            places: Slab::new(),
            first_user: Vec::new(),
            asids,
            adopted: Adoptions::new(),
            #[cfg(feature = "pasids")]
            lent: Vec::new(),
            domains: 0,
            seats: 0,
        }
    }

    /// Whether callers may name `substream`: it was lent, or there is none.
    pub(crate) fn may_use(&self, substream: u32) -> bool {
        #[cfg(feature = "pasids")]
        return is_without(substream) || self.lent.binary_search(&substream).is_ok();
        #[cfg(not(feature = "pasids"))]
        is_without(substream)
    }

    /// How many masters use a place.
    pub(crate) fn users(&self, place: usize) -> usize {
        self.places.get(place).map_or(0, |place| place.users.len())
    }

    /// Whether a place has users, and the last change of each of their masters was confirmed. Of a master whose change
    /// was not, it is not known which entries and contexts hardware reads, hence which tags; all its contexts may have
    /// been replaced by copies.
    pub(crate) fn is_settled(&self, place: &Place<P>) -> bool {
        let settled = |user: &User| {
            let state = self.masters.get(user.master);
            user.substream != GHOST && state.is_some_and(|state| !state.is_stuck())
        };
        !place.users.is_empty() && place.users.iter().all(settled)
    }

    /// Makes room for one more place, and for one more user at each of `space` on `instance`.
    pub(crate) fn make_room(
        &mut self,
        instance: InstanceId,
        space: &Space<P>,
    ) -> Result<(), NoMemory> {
        self.places.reserve(1)?;
        self.first_user.room(1)?;
        for target in space.targets.for_writer().iter() {
            if target.instance == instance
                && let Some(place) = self.places.get_mut(target.place)
            {
                place.users.room(1)?;
            }
        }
        Ok(())
    }

    /// Adds `user` to a place that has room for it, and returns its seat.
    pub(crate) fn join(&mut self, place: usize, user: User) -> Bound {
        let users = self.places.get_mut(place).map(|place| &mut place.users);
        let at = users.map_or(0, |users| {
            users.put(user);
            users.len() - 1
        });
        self.seats += 1;
        Bound { place, at, bonds: 1, seat: self.seats }
    }

    /// Takes the `at`th user off a place. Returns whether it was the last one.
    pub(crate) fn quit(&mut self, index: usize, at: usize) -> bool {
        let Some(place) = self.places.get_mut(index) else { return false };
        debug_assert!(at < place.users.len(), "a seat says where it is");
        if at >= place.users.len() {
            return false;
        }
        place.users.swap_remove(at);
        let empty = place.users.is_empty();
        // `swap_remove` moved the last user to index `at`: its `Bound` has to say so.
        if let Some(moved) = place.users.get(at).copied() {
            self.rebind(moved, index, |moved| moved.at = at);
        }
        empty
    }

    /// Moves the `at`th user of the place `from` to the place `to`, which has room. Unless the change was `confirmed`,
    /// a [`GHOST`] stays in its seat at `from`.
    pub(crate) fn change_seat(
        &mut self,
        user: User,
        from: usize,
        at: usize,
        to: usize,
        confirmed: bool,
    ) {
        let Some(seats) = self.places.get(to).map(|place| place.users.len()) else { return };
        self.rebind(user, from, |bound| (bound.place, bound.at) = (to, seats));
        let ghost = self.places.get_mut(from).and_then(|place| place.users.get_mut(at));
        match ghost {
            Some(ghost) if !confirmed => ghost.substream = GHOST,
            _ => {
                self.quit(from, at);
            }
        }
        if let Some(place) = self.places.get_mut(to) {
            place.users.put(user);
        }
    }

    /// Takes all ghosts off a place.
    pub(crate) fn exorcise(&mut self, place: usize) {
        let ghost = |place: &Place<P>| place.users.iter().position(|user| user.substream == GHOST);
        while let Some(at) = self.places.get(place).and_then(ghost) {
            self.quit(place, at);
        }
    }

    /// Changes the [`Bound`] that `user`'s master has for its seat at `place`. A ghost has none: its master sits elsewhere.
    pub(crate) fn rebind(&mut self, user: User, place: usize, change: impl FnOnce(&mut Bound)) {
        if user.substream == GHOST {
            return;
        }
        let master = self.masters.get_mut(user.master);
        let bound = master.and_then(|master| master.bound_mut(user.substream, place));
        if let Some(bound) = bound {
            change(bound);
        }
    }

    /// Puts a place into the targets of its space, in `spare`, which has room for one more than there are.
    pub(crate) fn publish(&self, index: usize, spare: Box<Targets>) -> Option<Retired<Targets>> {
        self.publish_for(index, spare, None)
    }

    /// As [`Configuration::publish`], unless the place is among them, with the devices of `user`, which keep
    /// translations. There is room for them.
    pub(crate) fn publish_for(
        &self,
        index: usize,
        spare: Box<Targets>,
        user: Option<User>,
    ) -> Option<Retired<Targets>> {
        self.replace_targets(index, spare, true, user, true)
    }

    /// Takes a place off the targets of its space, in `spare`, which has room for all that there are.
    pub(crate) fn withdraw(&self, index: usize, spare: Box<Targets>) -> Option<Retired<Targets>> {
        self.withdraw_for(index, spare, true, None)
    }

    /// As [`Configuration::withdraw`], but the place stays unless it is `empty`, with the devices of `user`.
    pub(crate) fn withdraw_for(
        &self,
        index: usize,
        spare: Box<Targets>,
        empty: bool,
        user: Option<User>,
    ) -> Option<Retired<Targets>> {
        self.replace_targets(index, spare, !empty, user, false)
    }

    /// Replaces the targets of a place's space by `spare`, which has room: all others, the place itself if it `stays`, and all
    /// devices, but those of `user` only if that `joins`.
    fn replace_targets(
        &self,
        index: usize,
        mut spare: Box<Targets>,
        stays: bool,
        user: Option<User>,
        joins: bool,
    ) -> Option<Retired<Targets>> {
        let place = self.places.get(index)?;
        let key = |target: &Installed| (target.instance, target.tag);
        let mut own = stays.then(|| Installed::new(place.instance, place.tag, place.shared, index));
        let current = place.space.targets.for_writer();
        // What stays was there: the memory has no room for it else.
        debug_assert!(joins || !stays || current.iter().any(|target| target.place == index));
        for target in current.iter().filter(|target| target.place != index) {
            if let Some(own) = own.take_if(|own| key(own) <= key(target)) {
                spare.put(own);
            }
            spare.put(*target);
        }
        if let Some(own) = own {
            spare.put(own);
        }
        if cfg!(feature = "ats") {
            let others = |device: &&Device| !user.is_some_and(|user| device.is_of(user));
            spare.devices.put_all(current.devices.iter().filter(others).copied());
            let joining = user.filter(|_| joins);
            let joining = joining.and_then(|user| Some((user, self.masters.get(user.master)?)));
            if let Some((user, state)) = joining {
                let device = |stream: &StreamId| Device::new(place.instance, *stream, user);
                spare.devices.put_all(state.streams.iter().map(device));
                spare.devices.sort_unstable_by_key(Device::key);
            }
        }
        spare.complete();
        Some(place.space.targets.replace(spare))
    }

    /// Forgets a place that no target names and whose tag is in no cache: the tag is free. The space is returned
    /// because it may end with this.
    pub(crate) fn forget(&mut self, core: &Core<P>, index: usize) -> Option<Shared<Space<P>>> {
        let Place { space, instance, tag, shared, .. } = self.places.remove(index)?;
        let left = space.targets.for_writer();
        let common = self.asids.policy().is_common() && tag.regime != Regime::Stage2;
        if !common || left.iter().all(|target| target.tag.asid != tag.asid) {
            self.asids.release(instance, tag);
        }
        if shared
            && let Some(registers) = space.process()
            && !left.iter().any(|target| target.shared)
        {
            core.platform.unpin_asid(registers.cookie, tag.asid);
        }
        Some(space)
    }

    /// The place of `space` on `instance` that `wanted` names.
    pub(crate) fn place_of(
        &self,
        space: &Space<P>,
        instance: InstanceId,
        wanted: impl Fn(&Installed) -> bool,
    ) -> Option<usize> {
        let mut held = None;
        for target in space.targets.for_writer().iter().rev() {
            if target.instance == instance && wanted(target) {
                // A place with users is preferred to one that only waits for a reset.
                if self.users(target.place) != 0 {
                    return Some(target.place);
                }
                held = held.or(Some(target.place));
            }
        }
        held
    }
}

/// Memory for the targets of `space` and `more` targets.
pub(crate) fn spare<P: Platform>(space: &Space<P>, more: usize) -> Result<Box<Targets>, NoMemory> {
    spare_for(space, more, 0)
}

/// Memory for the targets of `space` and `more` targets, and for its devices and `devices` more.
pub(crate) fn spare_for<P: Platform>(
    space: &Space<P>,
    more: usize,
    devices: usize,
) -> Result<Box<Targets>, NoMemory> {
    let mut spare = try_box(Targets::new())?;
    let current = space.targets.for_writer();
    spare.room_exact(current.len() + more)?;
    let devices = current.devices.len() + devices;
    if cfg!(feature = "ats") && devices != 0 {
        spare.devices.room_exact(devices)?;
    }
    Ok(spare)
}
