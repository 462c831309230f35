// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the tag by which a master is to use an address space: an existing one, or a new one for which the policy
//! may first have to change others.

use crate::asid::AsidPolicy;
use crate::attach::AttachError;
use crate::compatibility::Stage;
use crate::configuration::Configuration;
use crate::error::InstanceId;
use crate::invalidate::Tag;
use crate::iommu::Core;
use crate::place::Place;
use crate::platform::Platform;
use crate::retag;
use crate::space::{Installed, Space};

/// Where a master is to use an address space.
#[derive(Clone, Copy)]
pub(crate) enum Seat {
    /// At this place, which exists.
    At(usize),
    /// At a new place of stage 1, with this VMID and ASID.
    New { vmid: u16, number: Number },
    /// At a new place of stage 2, with this VMID of the hypervisor's, or a free one.
    Stage2(Option<u16>),
}

/// The ASID of a new place.
#[derive(Clone, Copy)]
pub(crate) enum Number {
    /// A free one.
    Free,
    /// The one that the space has on other instances.
    Same(u16),
    /// The CPU's, which was pinned.
    Pinned(u16),
}

/// Finds a seat for `master` at `space`. May change tags of other spaces, or of this one elsewhere: each such
/// change is complete in itself.
pub(crate) fn find<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    master: usize,
    space: &Space<P>,
) -> Result<Seat, AttachError> {
    let Some(state) = configuration.masters.get(master) else { return Err(AttachError::Foreign) };
    // Whether the master is in a bank, where there are several. While it uses stage 2, its VMID names no bank of ASIDs.
    let banks = cfg!(feature = "policies");
    let occupied = banks && state.is_occupied() && !state.uses_stage_2();
    let (id, mut vmid) = (state.instance, state.vmid);
    if space.stage() == Stage::Two {
        return stage_2(configuration, id, space);
    }
    let home = configuration.asids.home(id);
    if space.process().is_some()
        && configuration.asids.shares(id)
        && (!occupied || vmid == home)
        && let Some(seat) = with_the_cpu(core, configuration, id, home, space)?
    {
        return Ok(seat);
    }

    let bits = configuration.asids.bits(id);
    let none = AttachError::NoAsid { instance: id, bits };
    let common = configuration.asids.policy().is_common();
    let current = if common { current(configuration, space) } else { None };
    // An existing place will do: in the master's bank, or in any if the master uses nothing yet and can join that bank.
    let place = configuration.place_of(space, id, |target| {
        !target.shared
            && (!occupied || target.tag.vmid == vmid)
            && current.is_none_or(|current| current.tag.asid == target.tag.asid)
    });
    if let Some(place) = place {
        return Ok(Seat::At(place));
    }
    if common {
        let number = match current {
            Some(current) => same(core, configuration, id, current)?,
            None => Number::Free,
        };
        return Ok(Seat::New { vmid: home, number });
    }
    if !banks {
        // The only one has room, or there is none.
        vmid = home;
    } else if !occupied {
        vmid = configuration.asids.bank_with_room(id)?.ok_or(none)?;
    } else if !configuration.asids.has_room(id, vmid) {
        vmid = retag::change_bank(core, configuration, master)?.ok_or(none)?;
        // The space may have a place in the bank that the master was just moved to.
        let there = |target: &Installed| !target.shared && target.tag.vmid == vmid;
        if let Some(place) = configuration.place_of(space, id, there) {
            return Ok(Seat::At(place));
        }
    }
    Ok(Seat::New { vmid, number: Number::Free })
}

/// A seat at a space of stage 2.
fn stage_2<P: Platform>(
    configuration: &Configuration<P>,
    id: InstanceId,
    space: &Space<P>,
) -> Result<Seat, AttachError> {
    if let Some(place) = configuration.place_of(space, id, |_| true) {
        return Ok(Seat::At(place));
    }
    let Some(vmid) = space.own().and_then(|own| own.vmid) else { return Ok(Seat::Stage2(None)) };
    let bits = configuration.asids.vmid_bits(id);
    if u64::from(vmid) >> bits != 0 {
        return Err(AttachError::VmidWidth { instance: id, bits, vmid });
    }
    let tag = Tag::stage_2(vmid);
    if configuration.places.iter().any(|(_, place)| place.instance == id && place.tag == tag) {
        return Err(AttachError::VmidTaken { instance: id, vmid });
    }
    Ok(Seat::Stage2(Some(vmid)))
}

/// A place in use of `space` with the number that it has on all instances. Places that only wait for a reset do not
/// count.
fn current<P: Platform>(configuration: &Configuration<P>, space: &Space<P>) -> Option<Installed> {
    let mut targets = space.targets.for_writer().iter();
    let in_use = |target: &&Installed| !target.shared && configuration.users(target.place) != 0;
    targets.find(in_use).copied()
}

/// The number of `target` for one more instance, changed if need be and if the policy does that.
fn same<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    id: InstanceId,
    target: Installed,
) -> Result<Number, AttachError> {
    let (asid, bits) = (target.tag.asid, configuration.asids.bits(id));
    if u64::from(asid) >> bits == 0 {
        return Ok(Number::Same(asid));
    }
    if configuration.asids.policy() != AsidPolicy::SharedMinMove {
        return Err(AttachError::AsidWidth { instance: id, bits, asid });
    }
    match retag::change_asid(core, configuration, target.place, bits) {
        Ok(moved) => Ok(Number::Same(moved)),
        // The error is to name the instance that is being attached, not the one whose tag was to move.
        Err(AttachError::NoAsid { bits, .. }) => Err(AttachError::NoAsid { instance: id, bits }),
        Err(error) => Err(error),
    }
}

/// A seat at a process's space by the CPU's ASID; `None` if it cannot be pinned.
fn with_the_cpu<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    id: InstanceId,
    vmid: u16,
    space: &Space<P>,
) -> Result<Option<Seat>, AttachError> {
    if let Some(place) = configuration.place_of(space, id, |target| target.shared) {
        return Ok(Some(Seat::At(place)));
    }
    let Some(cookie) = space.process().map(|registers| registers.cookie) else { return Ok(None) };
    let pinned = space.targets.for_writer().iter().find(|target| target.shared);
    let pinned = pinned.map(|target| target.tag.asid);
    let fresh = pinned.is_none();
    let Some(asid) = pinned.or_else(|| core.platform.pin_asid(cookie)) else { return Ok(None) };
    let unpin = || {
        if fresh {
            core.platform.unpin_asid(cookie, asid);
        }
    };
    // ASID 0 is never given out; an ASID wider than the instance's would be cut off, and would not be the CPU's any
    // more.
    if asid == 0 || u64::from(asid) >> configuration.asids.bits(id) != 0 {
        unpin();
        return Ok(None);
    }
    let tag = configuration.asids.tag(id, vmid, asid);
    match make_way(core, configuration, id, tag, space) {
        Ok(true) => Ok(Some(Seat::New { vmid, number: Number::Pinned(asid) })),
        // The caller then gives the process a private ASID.
        Ok(false) | Err(AttachError::NoAsid { .. }) => {
            unpin();
            Ok(None)
        }
        Err(error) => {
            unpin();
            Err(error)
        }
    }
}

/// Sees to it that nobody but `space` has `tag` on the instance. False if somebody must keep it until a reset.
///
/// Who has a number that is taken is looked for among all places, since nothing else needs to know: processes and
/// domains collide rarely, as wide instances give out high numbers first and CPUs low ones.
fn make_way<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    id: InstanceId,
    tag: Tag,
    space: &Space<P>,
) -> Result<bool, AttachError> {
    let common = configuration.asids.policy().is_common();
    if configuration.asids.is_free(id, tag) {
        return Ok(true);
    }
    let own = |place: &Place<P>| core::ptr::eq(&*place.space, space);
    // `owner`: a place that has to give the number up. `waits`: one of them cannot before a reset. `anybody`: a place
    // has the number.
    let (mut owner, mut waits, mut anybody) = (None, false, false);
    for (index, place) in configuration.places.iter() {
        let here = place.instance == id;
        // Places of stage 2 have ASID 0, which never equals the number wanted.
        let has_it = if common { place.tag.asid == tag.asid } else { here && place.tag == tag };
        if !has_it {
            continue;
        }
        anybody = true;
        if place.shared && !own(place) {
            // Numbers of live processes differ as long as they are pinned.
            return Err(AttachError::PinnedTwice { instance: id, asid: tag.asid });
        }
        // On another instance the space may have the same number as a private one; on this instance one tag would be
        // both private and the CPU's.
        if !place.shared && (here || !own(place)) {
            owner = Some(index);
        }
        waits |= !place.shared && !configuration.is_settled(place);
    }
    match owner {
        None if anybody => Ok(true),
        // Taken for an adopted context, which goes on until the adoption is ended.
        None if configuration.is_kept(id, tag) => Ok(false),
        // Taken, but by no place and no adopted context: the platform has pinned the number for something unknown.
        None => Err(AttachError::PinnedTwice { instance: id, asid: tag.asid }),
        Some(_) if waits => Ok(false),
        Some(owner) => {
            retag::change_asid(core, configuration, owner, configuration.asids.bits(id))?;
            Ok(true)
        }
    }
}
