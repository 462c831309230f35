// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching masters to address spaces: with [`crate::retag`] and [`crate::release`] the only code that changes
//! targets, stream table entries and contexts.
//!
//! *Prepare* does all that can fail without a trace; only where the policy changes tags of others, that comes first,
//! complete in itself. *Install* publishes the new space's targets, and only then lets hardware reach its tables: an
//! unmap that runs meanwhile either finds the new target, or has cleared its descriptors before hardware can walk
//! them (rule R5). *Commit* flushes the old space's tag if nobody uses it any more, takes it off the targets, and
//! waits until no unmap uses them.

mod error;
mod install;

use alloc::boxed::Box;
use alloc::vec::Vec;

use smmuv3_formats::SubstreamId;

use crate::compatibility::Stage;
use crate::configuration::{Configuration, spare, spare_for};
use crate::domain::Domain;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instance::Instance;
use crate::invalidate::{Scope, Tag};
use crate::iommu::{Core, Iommu};
use crate::master::Master;
use crate::mutation::Mutation;
use crate::nest::state::{Moves, Nesting};
use crate::place::{Bound, Place, Slot, User, WITHOUT};
use crate::platform::Platform;
use crate::seat::{self, Number, Seat};
use crate::shared::{NoMemory, Shared};
use crate::space::{Installed, Space, Targets};
use crate::targets::Retired;
use crate::trace::{Change, Trace};

pub use error::{AttachError, DetachError};
use install::install;
pub(crate) use install::{before_split, fill, write, write_all};

impl<P: Platform> Iommu<P> {
    /// Lets `master` use `domain`, instead of whatever it used before. When it has returned, DMA is
    /// translated by `domain`, and none reaches the memory of the old one. What it uses with PASIDs stays.
    ///
    /// Accesses with PASID 0 are nobody's. While a master that uses other PASIDs is attached or detached, they may be
    /// treated as those without for a moment.
    ///
    /// From blocked and from identity, no access is refused that `domain` allows; nor between two domains of stage 1 that
    /// both allow it. For that the driver keeps a copy of the master's contexts, or of one leaf of them. Without memory for
    /// it, and between two domains otherwise, the master's context, or if one is of stage 2 its stream table entry, is invalid for a moment: accesses at
    /// that moment are refused. Between the stages of EL1 the architecture leaves no other way: STE.Config and S2VMID are
    /// different words, and translations of the one would be taken for those of the other if they had its VMID for a moment
    /// (§8.2). Stage 1 of EL2 has none, and is left and entered by one word, unless faults stall: what stalled before is told
    /// from what stalls then by a moment in which nothing does.
    ///
    /// What had stalled ([`Fault`](crate::Fault)) when the change began is aborted. Between two domains of stage 1 a
    /// transaction may stall while the change is under way, by the one or by the other: it is handed out as any other, and if
    /// it is tried again when this has returned, it goes by `domain` (§11).
    ///
    /// A master uses a domain of stage 2 with all that it does: it cannot use PASIDs meanwhile.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, master: &Master<P>, domain: &Domain<P>) -> Result<(), AttachError> {
        if !master.core.is(&domain.space.core) {
            return Err(AttachError::Foreign);
        }
        change(&master.core, master.index, WITHOUT, Goal::Space(domain.space.clone())).map(drop)
    }

    /// Blocks `master`: when it has returned, all its DMA without a PASID is refused.
    ///
    /// # Errors
    /// [`DetachError::Unconfirmed`], [`DetachError::NoMemory`]. A device that does not answer is none: it is cut off
    /// ([`Master::is_quarantined`]).
    pub fn detach(&self, master: &Master<P>) -> Result<(), DetachError> {
        end(&master.core, master.index, WITHOUT, Goal::Blocked)
    }

    /// Lets `master` reach all memory, untranslated, where it gives no PASID.
    ///
    /// # Errors
    /// [`AttachError::Unconfirmed`], [`AttachError::NoMemory`], [`AttachError::Quarantined`].
    ///
    /// # Safety
    /// The device behind `master` only accesses memory that it was given.
    pub unsafe fn attach_identity(&self, master: &Master<P>) -> Result<(), AttachError> {
        change(&master.core, master.index, WITHOUT, Goal::Identity).map(drop)
    }

    /// As [`Iommu::attach`], for accesses of `master` with `pasid` ([`Iommu::allocate_pasid`]) alone.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach_pasid(
        &self,
        master: &Master<P>,
        pasid: SubstreamId,
        domain: &Domain<P>,
    ) -> Result<(), AttachError> {
        if !master.core.is(&domain.space.core) {
            return Err(AttachError::Foreign);
        }
        if pasid.0 == WITHOUT {
            return Err(AttachError::PasidUnknown { pasid });
        }
        change(&master.core, master.index, pasid.0, Goal::Space(domain.space.clone())).map(drop)
    }

    /// As [`Iommu::detach`], for accesses of `master` with `pasid` alone.
    ///
    /// # Errors
    /// See [`DetachError`].
    pub fn detach_pasid(&self, master: &Master<P>, pasid: SubstreamId) -> Result<(), DetachError> {
        if pasid.0 == WITHOUT {
            return Err(DetachError::PasidUnknown { pasid });
        }
        end(&master.core, master.index, pasid.0, Goal::Blocked)
    }
}

/// As [`change`], with a `goal` by which nothing is entered: `Blocked` or `Unbind`.
pub(crate) fn end<P: Platform>(
    core: &Core<P>,
    master: usize,
    substream: u32,
    goal: Goal<P>,
) -> Result<(), DetachError> {
    change(core, master, substream, goal).map(drop).map_err(DetachError::of)
}

/// What a master's accesses are to be subject to, or how that is to change.
pub(crate) enum Goal<P: Platform> {
    Blocked,
    Identity,
    Space(Shared<Space<P>>),
    /// As `Space`; if the master is bound to the space already, one bond more.
    Bind(Shared<Space<P>>),
    /// One bond less; with the last one as `Blocked`. Nothing if the master does not have the seat with this number any
    /// more.
    Unbind(u64),
    /// As `Space`, with the entry that a guest asks for.
    Nest(Nesting<P>),
}

/// The place that a master is about to enter, with the memory for that.
struct Entering {
    place: usize,
    /// The place was made for this.
    is_new: bool,
    /// Memory for the space's next targets, if the place is new or devices join it.
    targets: Option<Box<Targets>>,
}

/// Changes what the accesses of a master with `substream`, or without, are subject to. Returns the number of the seat
/// that it has then, if any.
pub(crate) fn change<P: Platform>(
    core: &Core<P>,
    master: usize,
    substream: u32,
    goal: Goal<P>,
) -> Result<Option<u64>, AttachError> {
    let carry_out = |configuration: &mut Configuration<P>| -> Result<Option<u64>, AttachError> {
        // Looked up under the mutex, or whoever is lent the PASID meanwhile would share it. A process's PASID is never
        // lent: it is bound and unbound alone.
        if substream != WITHOUT
            && matches!(goal, Goal::Space(_) | Goal::Blocked)
            && configuration.lent.binary_search(&substream).is_err()
        {
            return Err(AttachError::PasidUnknown { pasid: SubstreamId(substream) });
        }
        // From `add` to `close` this index is this master's.
        let state = configuration.masters.get_mut(master);
        // A reset may have ended the seat that the bond stands for; since then the master may be gone, and its index
        // another master's.
        if let Goal::Unbind(seat) = goal
            && !state.as_ref().is_some_and(|state| state.slot(substream).may_be(seat))
        {
            return Ok(None);
        }
        let Some(state) = state else { return Err(AttachError::Foreign) };
        let (id, bits) = (state.instance, state.bits);
        let Some(instance) = core.instances.get(id) else { return Err(AttachError::Foreign) };
        let unconfirmed = |what| AttachError::Unconfirmed(Unconfirmed::new(id, what));
        let pasid = SubstreamId(substream);
        if u64::from(substream) >> bits != 0 && substream != WITHOUT {
            return Err(AttachError::SubstreamRange { instance: id, pasid, bits });
        }
        if state.adopted && substream != WITHOUT && matches!(goal, Goal::Blocked) {
            return Err(AttachError::Adopted { instance: id });
        }
        let (adopted, identity_only) = (state.adopted, state.identity_only);
        let adopted = adopted && !core.leaves_out(Mutation::NoAdoptedEnd);
        let stuck = state.is_stuck() || instance.commands().has_failed();
        // Devices that keep output addresses of the tables are among the targets. Devices with split-stage ATS are not:
        // stage 2 is walked when they use what they keep, and a guest invalidates for its own stage 1.
        let devices = if state.ats.depends_on_tables() { state.streams.len() } else { 0 };
        let quarantined = |configuration: &Configuration<P>, changed| {
            let state = configuration.masters.get(master)?;
            let stream = state.quarantined(&core.platform, instance)?;
            Some(AttachError::Quarantined { instance: id, stream, changed })
        };
        // For a device that is found silent only by this change. A bind succeeds all the same, so that its bond can be
        // unbound; `Report::Quarantined` tells of the device.
        let binds = matches!(goal, Goal::Bind(_));
        let silent =
            |configuration: &Configuration<P>| quarantined(configuration, true).filter(|_| !binds);
        let slot = state.slot(substream);
        let nested = substream == WITHOUT && state.nested.is_some();
        // After a reset a guest may still have the master's streams.
        let given = state.nest.is_some() || state.former.is_some();
        let given = substream == WITHOUT && given;
        let space = match &goal {
            Goal::Space(space) | Goal::Bind(space) if space.is_released(configuration) => {
                return Err(AttachError::Released);
            }
            Goal::Space(space) | Goal::Bind(space) => Some(space.clone()),
            Goal::Nest(nesting) => Some(nesting.space.clone()),
            Goal::Blocked | Goal::Identity | Goal::Unbind(_) => None,
        };
        if identity_only && space.is_some() {
            return Err(AttachError::IdentityOnly { instance: id });
        }
        // Goals that change nothing in hardware.
        match (slot, &goal) {
            _ if stuck => return Err(unconfirmed(Failure::Failed)),
            (Slot::Blocked, Goal::Blocked) if adopted && substream == WITHOUT => {}
            (Slot::Blocked, Goal::Blocked) | (Slot::Identity, Goal::Identity) if !given => {
                return Ok(None);
            }
            (Slot::At(bound), Goal::Unbind(_)) if bound.bonds > 1 => {
                count(configuration, master, substream, bound, bound.bonds - 1);
                return Ok(Some(bound.seat));
            }
            (Slot::At(bound), Goal::Space(space) | Goal::Bind(space)) => {
                let place = configuration.places.get(bound.place);
                if place.is_some_and(|place| place.space.is(space)) && !nested {
                    if let Goal::Bind(_) = goal {
                        count(configuration, master, substream, bound, bound.bonds + 1);
                    }
                    return Ok(Some(bound.seat));
                }
            }
            _ => {}
        }

        // Prepare.
        if !matches!(goal, Goal::Blocked | Goal::Unbind(_))
            && let Some(error) = quarantined(configuration, false)
        {
            return Err(error);
        }
        if let Some(space) = &space {
            let state = configuration.masters.get(master);
            let clash = state.and_then(|state| state.clash(substream, space.stage()));
            if let Some(clash) = clash {
                let pasid = SubstreamId(clash);
                return Err(AttachError::SubstreamStage { instance: id, pasid });
            }
        }
        let mut moves = Moves::prepare(configuration, master, substream, &goal)?;
        // Faults so far are counted for what the master used until now.
        configuration.settle_faults(core, id);
        if let (Slot::At(bound), Some(space)) = (slot, &space)
            && configuration.places.get(bound.place).is_some_and(|place| place.space.is(space))
        {
            // The master keeps its seat; only its entries change (a guest's entry, or none).
            return match restate(core, configuration, instance, master, bound, &goal, &mut moves) {
                Ok(()) => silent(configuration).map_or(Ok(Some(bound.seat)), Err),
                Err(what) => Err(unconfirmed(what)),
            };
        }
        if !matches!(slot, Slot::At(_)) {
            // Hardware reads no guest's entry for this master now, so guests that still have its streams can lose them
            // first.
            part(core, configuration, instance, master, &mut moves).map_err(unconfirmed)?;
        }
        core.quarantine.reserve(&core.platform)?;
        configuration.held.try_reserve(1).map_err(|_| NoMemory)?;
        let leaving = slot.bound().map(|old| leaving(configuration, old)).transpose()?.flatten();
        let entering = match &space {
            Some(space) => {
                space
                    .fits(instance.features())
                    .map_err(|what| AttachError::Mismatch { instance: id, what })?;
                if let Some(state) = configuration.masters.get_mut(master) {
                    state.reserve(substream)?;
                    state.make_room(&core.platform, instance.features(), pasid)?;
                    if space.stage() == Stage::One {
                        state.make_copy(&core.platform, substream);
                    }
                }
                // All memory is taken before the search for a seat: that may change tags, and after it only hardware
                // may fail.
                let room = Room::new(configuration, id, space, devices)?;
                let seat = seat::find(core, configuration, master, space)?;
                let entering = enter(configuration, id, space, seat, room)?;
                // A place that exists is among the targets already: they change only if devices are added.
                let targets = entering.targets.filter(|_| entering.is_new || devices != 0);
                Some(Entering { targets, ..entering })
            }
            None => None,
        };
        // Read after the search, which may have moved the old seat to another place.
        let state = configuration.masters.get(master);
        let old = state.and_then(|state| state.slot(substream).bound());

        // Install.
        let new = entering.as_ref().map(|entering| {
            let user = User { master, substream };
            configuration.join(entering.place, user)
        });
        let user = (devices != 0).then_some(User { master, substream });
        // A driver without `ats` has no such devices, which the compiler does not see.
        let joins =
            cfg!(feature = "ats") && devices != 0 && entering.as_ref().is_some_and(|it| !it.is_new);
        let published = entering.and_then(|Entering { place, targets, .. }| {
            configuration.publish_for(place, targets?, user)
        });
        let tables = new.and_then(|new| {
            let place = configuration.places.get(new.place)?;
            place.space.stage_2(place.tag)
        });
        let (nested, entered) =
            moves.enter(configuration, master, instance.features(), tables, &goal);
        let nested = core.guests_entry(nested);
        moves.end(configuration, master);
        let caught_up = if joins { catch_up(core, instance) } else { Ok(()) };
        let installed = caught_up.and_then(|()| {
            install(core, configuration, instance, master, substream, &goal, (new, nested))
        });
        if entered.is_some() {
            Retired::free([entered], &core.readers, || core.platform.relax());
        }
        if installed.is_ok() {
            moves.begin(core, configuration, instance, master, &goal);
        }
        // If the install was not confirmed, guests that had the master's streams keep them until a reset: hardware may
        // still read their entries.
        let settled = match installed {
            Ok(()) => part(core, configuration, instance, master, &mut moves),
            Err(_) => Ok(()),
        };
        if let Err(what) = installed {
            if let Some(state) = configuration.masters.get_mut(master) {
                state.block_streams(&core.platform, instance);
                state.switch_off(core);
                state.set_slot(substream, Slot::Stuck([old, new]));
            }
            Retired::free([published], &core.readers, || core.platform.relax());
            return Err(unconfirmed(what));
        }

        // Commit.
        let emptied = old.filter(|old| configuration.quit(old.place, old.at)).map(|old| old.place);
        let seat = new.map(|new| new.seat);
        let answer = |configuration: &Configuration<P>| match silent(configuration) {
            Some(error) if seat.is_some() => Err(error),
            _ => settled.map(|()| seat).map_err(unconfirmed),
        };
        let place = old.map(|old| old.place).filter(|_| emptied.is_some() || devices != 0);
        let (Some(place), Some(targets)) = (place, leaving) else {
            Retired::free([published], &core.readers, || core.platform.relax());
            return answer(configuration);
        };
        if emptied.is_none() {
            // Other users keep the place; only this master's devices leave the targets.
            let withdrawn = configuration.withdraw_for(place, targets, false, user);
            Retired::free([published, withdrawn], &core.readers, || core.platform.relax());
            settle(core, instance).map_err(unconfirmed)?;
            return answer(configuration);
        }
        // The flush comes before the place leaves the targets: a tag that no target names is in no cache.
        let tag = configuration.places.get(place).map(|place| place.tag);
        let flushed = tag.map_or(Ok(()), |tag| flush(core, instance, tag));
        let withdrawn = match flushed {
            Ok(()) => configuration.withdraw_for(place, targets, true, user),
            Err(_) => {
                // Prepare reserved the room.
                configuration.held.push(place);
                user.and_then(|_| configuration.withdraw_for(place, targets, false, user))
            }
        };
        Retired::free([published, withdrawn], &core.readers, || core.platform.relax());
        if flushed.is_ok() {
            drop(configuration.forget(core, place));
        }
        let settled =
            flushed.and_then(|()| if devices == 0 { Ok(()) } else { settle(core, instance) });
        settled.map_err(unconfirmed)?;
        answer(configuration)
    };
    core.configuration.with(|configuration| {
        let change = described(configuration, master, substream, &goal);
        let Some(change) = change else { return carry_out(configuration) };
        core.platform.trace(&Trace::Begun(change));
        let result = carry_out(configuration);
        core.platform.trace(&Trace::Ended { change, done: result.is_ok() });
        result
    })
}

/// The change as traces describe it.
#[inline]
fn described<P: Platform>(
    configuration: &Configuration<P>,
    master: usize,
    substream: u32,
    goal: &Goal<P>,
) -> Option<Change> {
    let state = configuration.masters.get(master)?;
    let (instance, stream) = (state.instance, *state.streams.first()?);
    let substream = (substream != WITHOUT).then_some(SubstreamId(substream));
    Some(match goal {
        Goal::Blocked | Goal::Unbind(_) => Change::Detach { instance, stream, substream },
        Goal::Identity => Change::Attach { instance, stream, substream, space: None },
        Goal::Space(space) | Goal::Bind(space) => {
            Change::Attach { instance, stream, substream, space: Some(space.id) }
        }
        Goal::Nest(nesting) => {
            Change::Attach { instance, stream, substream, space: Some(nesting.space.id) }
        }
    })
}

/// Notes that the master at `bound` was bound to it so many times.
fn count<P: Platform>(
    configuration: &mut Configuration<P>,
    master: usize,
    substream: u32,
    bound: Bound,
    bonds: usize,
) {
    configuration.rebind(User { master, substream }, bound.place, |bound| bound.bonds = bonds);
}

/// Memory for the targets of `old`'s space without its place.
fn leaving<P: Platform>(
    configuration: &Configuration<P>,
    old: Bound,
) -> Result<Option<Box<Targets>>, NoMemory> {
    let place = configuration.places.get(old.place);
    place.map(|place| spare(&place.space, MORE)).transpose()
}

/// How many more targets a space may have once a master has entered it: the new one, and one in another bank.
const MORE: usize = 2;

/// Memory for a seat at a new place; there is room for one more user at those that exist.
struct Room {
    targets: Box<Targets>,
    users: Vec<User>,
}

impl Room {
    fn new<P: Platform>(
        configuration: &mut Configuration<P>,
        instance: InstanceId,
        space: &Space<P>,
        devices: usize,
    ) -> Result<Self, NoMemory> {
        configuration.places.reserve(1)?;
        let targets = spare_for(space, MORE, devices)?;
        let mut users = Vec::new();
        users.try_reserve(1).map_err(|_| NoMemory)?;
        let here = |target: &&Installed| target.instance == instance;
        for target in space.targets.for_writer().iter().filter(here) {
            if let Some(place) = configuration.places.get_mut(target.place) {
                place.users.try_reserve(1).map_err(|_| NoMemory)?;
            }
        }
        Ok(Self { targets, users })
    }
}

/// The place that `seat` names, made if it is new. Fails only if no ASID or VMID is free, and then the search for the
/// seat had changed no tag.
fn enter<P: Platform>(
    configuration: &mut Configuration<P>,
    instance: InstanceId,
    space: &Shared<Space<P>>,
    seat: Seat,
    room: Room,
) -> Result<Entering, AttachError> {
    let asids = &mut configuration.asids;
    let (tag, shared) = match seat {
        Seat::At(place) => {
            return Ok(Entering { place, is_new: false, targets: Some(room.targets) });
        }
        Seat::New { vmid, number: Number::Free } => {
            let bits = asids.bits_of_new(instance);
            let free = asids.allocate(instance, vmid);
            (asids.tag(instance, vmid, free.ok_or(AttachError::NoAsid { instance, bits })?), false)
        }
        Seat::New { vmid, number: Number::Same(asid) } => (asids.tag(instance, vmid, asid), false),
        Seat::New { vmid, number: Number::Pinned(asid) } => {
            let tag = asids.tag(instance, vmid, asid);
            // The number is free, or the space's own on another instance.
            asids.take(instance, tag);
            (tag, true)
        }
        Seat::Stage2(Some(vmid)) => (Tag::stage_2(vmid), false),
        Seat::Stage2(None) => {
            let bits = asids.vmid_bits(instance);
            let free = asids.allocate_vmid(instance)?;
            (Tag::stage_2(free.ok_or(AttachError::NoVmid { instance, bits })?), false)
        }
    };
    let place = Place { space: space.clone(), instance, tag, shared, users: room.users };
    let place = configuration.places.insert(place);
    Ok(Entering { place, is_new: true, targets: Some(room.targets) })
}

/// Takes the streams of a master, whose entries say something else now, from the guests that had them. A guest without
/// streams can invalidate nothing, so all that is cached under its VMID is invalidated first; and afterwards none of
/// its commands that name those streams is under way.
fn part<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    instance: &Instance<P>,
    master: usize,
    moves: &mut Moves,
) -> Result<(), Failure> {
    if moves.leaves_nobody() {
        return Ok(());
    }
    // Flushed before the guest loses its streams. Other masters may go on using the VMID.
    let tags = moves.emptied().into_iter().flatten();
    let tags = tags.map(|vmid| Tag::stage_2(vmid).guests());
    let mut result = Ok(());
    if tags.clone().next().is_some() {
        result = instance.carry_out(&core.platform, instance.invalidation(tags, Scope::All));
    }
    let left = moves.leave(configuration, master);
    if left.iter().any(Option::is_some) {
        Retired::free(left, &core.readers, || core.platform.relax());
        // Commands that the guests gave before may still be in the queue of any CPU.
        result = result.and(settle(core, instance));
    }
    result
}

/// Makes the entries of a master that is at `bound` say what `goal` asks for over the same tables.
fn restate<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    instance: &Instance<P>,
    master: usize,
    bound: Bound,
    goal: &Goal<P>,
    moves: &mut Moves,
) -> Result<(), Failure> {
    let place = configuration.places.get(bound.place);
    let tables = place.and_then(|place| place.space.stage_2(place.tag));
    let (nested, entered) = moves.enter(configuration, master, instance.features(), tables, goal);
    let nested = core.guests_entry(nested);
    moves.end(configuration, master);
    let mut written = Ok(());
    if let Some(state) = configuration.masters.get_mut(master) {
        let before = state.stream();
        state.nested = nested;
        written = install::restate(core, instance, state, before);
        if written.is_err() {
            state.block_streams(&core.platform, instance);
            state.switch_off(core);
            state.set_slot(WITHOUT, Slot::Stuck([Some(bound), None]));
        }
    }
    if entered.is_some() {
        Retired::free([entered], &core.readers, || core.platform.relax());
    }
    written?;
    moves.begin(core, configuration, instance, master, goal);
    part(core, configuration, instance, master, moves)
}

/// Waits until all commands in all queues of `instance` are complete: no command for a device that has left the targets
/// is under way after that (rule R7).
fn settle<P: Platform>(core: &Core<P>, instance: &Instance<P>) -> Result<(), Failure> {
    instance.commands().settle(&core.platform, instance.mmio())
}

/// Waits until whatever was unmapped by those who did not find a device among the targets is gone from `instance`: what
/// others with the same tag let it cache, it may grant a device that asks, and nobody would tell the device.
#[cold]
#[inline(never)]
pub(crate) fn catch_up<P: Platform>(core: &Core<P>, instance: &Instance<P>) -> Result<(), Failure> {
    core.readers.grace(|| core.platform.relax());
    settle(core, instance)
}

/// Makes `instance` forget `tag`, which no context carries any more.
pub(crate) fn flush<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    tag: Tag,
) -> Result<(), Failure> {
    let command = instance.invalidation(core::iter::once(tag), Scope::All).next();
    let command = command.filter(|_| !core.leaves_out_flush(tag));
    instance.carry_out(&core.platform, command)
}
