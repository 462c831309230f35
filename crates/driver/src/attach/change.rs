// SPDX-License-Identifier: MIT OR Apache-2.0
//! One change of what a master's accesses are subject to: prepare, install, commit, as the module above tells it.

use alloc::boxed::Box;
use core::mem;

use smmuv3_formats::SubstreamId;

use super::error::AttachError;
use super::install::{self, install};
use super::{catch_up, flush, settle};
use crate::compatibility::Stage;
use crate::configuration::{Configuration, spare, spare_for};
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instance::Instance;
use crate::invalidate::{Scope, Tag};
use crate::iommu::Core;
use crate::mutation::Mutation;
use crate::nest::state::{Moves, Nesting};
use crate::place::{Bound, Place, Slot, User, WITHOUT, is_without};
use crate::platform::Platform;
use crate::process::{Binding, SeatNumber};
use crate::seat::{self, Number, Seat};
use crate::shared::Shared;
use crate::space::{Space, Targets};
use crate::targets::Retired;
use crate::trace::{Change, Trace};

/// What a master's accesses are to be subject to, or how that is to change.
pub(crate) enum Goal<'a, P: Platform> {
    Blocked,
    Identity,
    Space(&'a Shared<Space<P>>),
    /// As `Space`; if the master is bound to the space already, one bond more.
    Bind(&'a Shared<Space<P>>, Binding),
    /// One bond less; with the last one as `Blocked`. Nothing if the master does not have the seat with this number any
    /// more.
    Unbind(SeatNumber),
    /// As `Space`, with the entry that a guest asks for.
    Nest(&'a Nesting<P>),
}

/// Changes what the accesses of a master with `substream`, or without, are subject to. Returns the number of the seat
/// that it has then, if any.
pub(crate) fn change<P: Platform>(
    core: &Core<P>,
    master: usize,
    substream: u32,
    goal: &Goal<'_, P>,
) -> Result<Option<u64>, AttachError> {
    let substream = if is_without(substream) { WITHOUT } else { substream };
    core.configuration.with(|configuration| {
        let change = described(configuration, master, substream, goal);
        let Some(change) = change else {
            return carry_out(core, configuration, master, substream, goal);
        };
        core.platform.trace(&Trace::Begun(change));
        let result = carry_out(core, configuration, master, substream, goal);
        core.platform.trace(&Trace::Ended { change, done: result.is_ok() });
        result
    })
}

fn carry_out<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    master: usize,
    substream: u32,
    goal: &Goal<'_, P>,
) -> Result<Option<u64>, AttachError> {
    let call = Call::new(core, configuration, master, substream, goal);
    // By reference: it is large.
    let call = match &call {
        Ok(Some(call)) => call,
        Ok(None) => return Ok(None),
        Err(error) => return Err(*error),
    };
    if let Some(seat) = call.is_so_already(configuration) {
        return Ok(seat);
    }
    let mut moves = call.may_begin(configuration)?;
    // Without guests nothing is restated.
    if cfg!(feature = "nested")
        && let Some(bound) = call.stays(configuration)
    {
        let restated = call.restate(configuration, bound, &mut moves);
        restated.map_err(|what| call.unconfirmed(what))?;
        return call.silent(configuration).map_or(Ok(Some(bound.seat)), Err);
    }
    let mut ready = Ready::new(moves);
    call.prepare(configuration, &mut ready)?;
    let done = call.install(configuration, &mut ready);
    let done = done.and_then(|()| call.commit(configuration, &mut ready));
    done.map_err(|what| call.unconfirmed(what))?;
    let seat = ready.new.map(|new| new.seat);
    match call.silent(configuration) {
        Some(error) if seat.is_some() => Err(error),
        _ => Ok(seat),
    }
}

/// One call of [`change`], under the configuration mutex: whose accesses, and to what.
struct Call<'a, P: Platform> {
    core: &'a Core<P>,
    instance: &'a Instance<P>,
    /// Of the instance.
    id: InstanceId,
    master: usize,
    substream: u32,
    goal: &'a Goal<'a, P>,
    /// The space that the goal leads to.
    space: Option<&'a Shared<Space<P>>>,
    /// What the master is attached to at the beginning.
    slot: Slot,
    /// Devices that are among the targets: those that keep output addresses of the tables. Devices with split-stage ATS are not:
    /// stage 2 is walked when they use what they keep, and a guest invalidates for its own stage 1.
    devices: usize,
}

/// What a call has got, and has put in place so far. After [`Call::prepare`] only hardware can fail.
struct Ready {
    moves: Moves,
    /// The seat that the master has until now.
    old: Option<Bound>,
    entering: Option<Entering>,
    /// Memory for the old space's targets without the old place.
    leaving: Option<Box<Targets>>,
    /// The seat that [`Call::install`] gives it.
    new: Option<Bound>,
    /// The new space's targets of before.
    published: Option<Retired<Targets>>,
}

impl Ready {
    const fn new(moves: Moves) -> Self {
        Self { moves, old: None, entering: None, leaving: None, new: None, published: None }
    }
}

/// The place that a master is about to enter, with the memory for that.
struct Entering {
    place: usize,
    /// The place was made for this.
    is_new: bool,
    /// Memory for the space's next targets.
    targets: Box<Targets>,
}

impl<'a, P: Platform> Call<'a, P> {
    /// Looks at what is asked for; `None` if there is nobody of whom it is asked any more.
    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    fn new(
        core: &'a Core<P>,
        configuration: &Configuration<P>,
        master: usize,
        substream: u32,
        goal: &'a Goal<'a, P>,
    ) -> Result<Option<Self>, AttachError> {
        // Looked up under the mutex, or whoever is lent the PASID meanwhile would share it. A process's PASID is never
        // lent: it is bound and unbound alone.
        let lent = matches!(goal, Goal::Space(_) | Goal::Blocked);
        if lent && !configuration.may_use(substream) {
            return Err(AttachError::PasidUnknown { pasid: SubstreamId(substream) });
        }
        // From `add` to `close` this index is this master's.
        let state = configuration.masters.get(master);
        // A reset may have ended the seat that the bond stands for; since then the master may be gone, and its index
        // another master's.
        if let Goal::Unbind(seat) = *goal
            && !state.is_some_and(|state| state.slot(substream).may_be(seat.get()))
        {
            return Ok(None);
        }
        let Some(state) = state else { return Err(AttachError::Foreign) };
        let (id, bits) = (state.instance, state.bits);
        let Some(instance) = core.instances.get(id) else { return Err(AttachError::Foreign) };
        if u64::from(substream) >> bits != 0 && substream != WITHOUT {
            let pasid = SubstreamId(substream);
            return Err(AttachError::PasidRange { instance: id, pasid, bits });
        }
        if state.is_adopted() && substream != WITHOUT && matches!(goal, Goal::Blocked) {
            return Err(AttachError::Adopted { instance: id });
        }
        let space = match goal {
            Goal::Space(space) | Goal::Bind(space, _) if space.is_released(configuration) => {
                return Err(AttachError::Released);
            }
            Goal::Space(space) | Goal::Bind(space, _) => Some(*space),
            Goal::Nest(nesting) => Some(&nesting.space),
            Goal::Blocked | Goal::Identity | Goal::Unbind(_) => None,
        };
        if state.identity_only && space.is_some() {
            return Err(AttachError::IdentityOnly { instance: id });
        }
        if state.is_stuck() || instance.commands().has_failed() {
            return Err(AttachError::Unconfirmed(Unconfirmed::new(id, Failure::Failed)));
        }
        let slot = *state.slot(substream);
        let devices = if cfg!(feature = "ats") && state.ats().depends_on_tables() {
            state.streams.len()
        } else {
            0
        };
        Ok(Some(Self { core, instance, id, master, substream, goal, space, slot, devices }))
    }

    fn unconfirmed(&self, what: Failure) -> AttachError {
        AttachError::Unconfirmed(Unconfirmed::new(self.id, what))
    }

    /// Whether any devices are among the targets: none are without `ats`, which is known when the driver is compiled.
    const fn has_devices(&self) -> bool {
        cfg!(feature = "ats") && self.devices != 0
    }

    /// The substream; [`WITHOUT`] where there are no others, which is known when the driver is compiled.
    const fn substream(&self) -> u32 {
        if is_without(self.substream) { WITHOUT } else { self.substream }
    }

    fn user(&self) -> User {
        User { master: self.master, substream: self.substream() }
    }

    /// Whether the master is in quarantine, which is found before anything was `changed`, or after.
    fn quarantined(&self, configuration: &Configuration<P>, changed: bool) -> Option<AttachError> {
        let state = configuration.masters.get(self.master)?;
        let stream = state.quarantined(&self.core.platform, self.instance)?;
        Some(AttachError::Quarantined { instance: self.id, stream, changed })
    }

    /// For a device that is found silent only by this change. A bind succeeds all the same, so that its bond can be
    /// unbound; `Report::Quarantined` tells of the device.
    fn silent(&self, configuration: &Configuration<P>) -> Option<AttachError> {
        let binds = matches!(self.goal, Goal::Bind(..));
        self.quarantined(configuration, true).filter(|_| !binds)
    }

    /// The seat that the master has, if the goal changes nothing in hardware: only how often it is bound.
    fn is_so_already(&self, configuration: &mut Configuration<P>) -> Option<Option<u64>> {
        let state = configuration.masters.get(self.master)?;
        let alone = self.substream() == WITHOUT;
        let adopted = state.is_adopted() && !self.core.leaves_out(Mutation::NoAdoptedEnd);
        let nested = cfg!(feature = "nested") && alone && state.nested.is_some();
        // After a reset a guest may still have the master's streams.
        let given = alone && state.has_guest();
        match (self.slot, self.goal) {
            (Slot::Blocked, Goal::Blocked) if adopted && alone => None,
            (Slot::Blocked, Goal::Blocked) | (Slot::Identity, Goal::Identity) if !given => {
                Some(None)
            }
            (Slot::At(bound), Goal::Unbind(_)) if bound.bonds > 1 => {
                self.count(configuration, bound, bound.bonds - 1);
                Some(Some(bound.seat))
            }
            (Slot::At(bound), Goal::Space(_) | Goal::Bind(..)) => {
                if nested || self.stays(configuration).is_none() {
                    return None;
                }
                if let Goal::Bind(..) = self.goal {
                    self.count(configuration, bound, bound.bonds + 1);
                }
                Some(Some(bound.seat))
            }
            _ => None,
        }
    }

    /// The master's seat, if its place is one of the space that the goal leads to.
    fn stays(&self, configuration: &Configuration<P>) -> Option<Bound> {
        let (Slot::At(bound), Some(space)) = (self.slot, self.space) else { return None };
        configuration.places.get(bound.place)?.space.is(space).then_some(bound)
    }

    /// Notes that the master at `bound` was bound to it so many times.
    fn count(&self, configuration: &mut Configuration<P>, bound: Bound, bonds: usize) {
        configuration.rebind(self.user(), bound.place, |bound| bound.bonds = bonds);
    }

    /// What is to become of guests that have the master's streams, or are to have them, unless something forbids the change.
    fn may_begin(&self, configuration: &mut Configuration<P>) -> Result<Moves, AttachError> {
        if !matches!(self.goal, Goal::Blocked | Goal::Unbind(_))
            && let Some(error) = self.quarantined(configuration, false)
        {
            return Err(error);
        }
        if let Some(space) = self.space {
            let state = configuration.masters.get(self.master);
            let clash = state.and_then(|state| state.clash(self.substream(), space.stage()));
            if let Some(clash) = clash {
                let pasid = SubstreamId(clash);
                return Err(AttachError::PasidStage { instance: self.id, pasid });
            }
        }
        let moves = Moves::prepare(configuration, self.master, self.substream(), self.goal)?;
        // Faults so far are counted for what the master used until now.
        configuration.settle_faults(self.core, self.id);
        Ok(moves)
    }

    /// Takes all memory, and looks for a seat.
    fn prepare(
        &self,
        configuration: &mut Configuration<P>,
        ready: &mut Ready,
    ) -> Result<(), AttachError> {
        let (core, instance, master) = (self.core, self.instance, self.master);
        if !matches!(self.slot, Slot::At(_)) {
            // Hardware reads no guest's entry for this master now, so guests that still have its streams can lose them
            // first.
            part(core, configuration, instance, master, &mut ready.moves)
                .map_err(|what| self.unconfirmed(what))?;
        }
        core.quarantine.reserve(&core.platform)?;
        if let Slot::At(old) = self.slot
            && let Some(place) = configuration.places.get(old.place)
        {
            ready.leaving = Some(spare(&place.space, MORE)?);
        }
        if let Some(space) = self.space {
            ready.entering = Some(self.find(configuration, space)?);
        }
        // Read after the search, which may have moved the old seat to another place.
        if let Some(state) = configuration.masters.get(master) {
            ready.old = state.slot(self.substream()).bound();
        }
        Ok(())
    }

    /// The place that the master is about to enter, with the memory for that.
    fn find(
        &self,
        configuration: &mut Configuration<P>,
        space: &Shared<Space<P>>,
    ) -> Result<Entering, AttachError> {
        let (core, id) = (self.core, self.id);
        let features = self.instance.features();
        space.fits(features).map_err(|what| AttachError::Mismatch { instance: id, what })?;
        if let Some(state) = configuration.masters.get_mut(self.master) {
            state.reserve(self.substream())?;
            state.make_room(&core.platform, features, SubstreamId(self.substream()))?;
            if space.stage() == Stage::One {
                state.make_copy(&core.platform, self.substream());
            }
        }
        // All memory is taken before the search for a seat: that may change tags, and after it only hardware
        // may fail.
        configuration.make_room(id, space)?;
        let targets = spare_for(space, MORE, self.devices)?;
        let seat = seat::find(core, configuration, self.master, space)?;
        let (place, is_new) = enter(configuration, id, space, seat)?;
        Ok(Entering { place, is_new, targets })
    }

    /// Publishes the new targets, and then lets hardware reach the tables. Where that is not confirmed the master is blocked, until
    /// a reset.
    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    fn install(
        &self,
        configuration: &mut Configuration<P>,
        ready: &mut Ready,
    ) -> Result<(), Failure> {
        let (core, instance, master) = (self.core, self.instance, self.master);
        let mut joins = false;
        if let Some(Entering { place, is_new, targets }) = ready.entering.take() {
            ready.new = Some(configuration.join(place, self.user()));
            joins = self.has_devices() && !is_new;
            // A place that exists is among the targets already: they change only if devices are added.
            if is_new || joins {
                ready.published = configuration.publish_for(place, targets, self.among_targets());
            }
        }
        let (new, moves) = (ready.new, &mut ready.moves);
        let tables = new.and_then(|new| {
            let place = configuration.places.get(new.place)?;
            place.space.stage_2(place.tag)
        });
        let (nested, entered) =
            moves.enter(configuration, master, instance.features(), tables, self.goal);
        let nested = core.guests_entry(nested);
        moves.end(configuration, master);
        let caught_up = if joins { catch_up(core, instance) } else { Ok(()) };
        let installed = caught_up.and_then(|()| {
            let new = (new, nested);
            install(core, configuration, instance, master, self.substream(), self.goal, new)
        });
        if entered.is_some() {
            Retired::free([entered], &core.readers, || core.platform.relax());
        }
        let installed = installed.and_then(|()| {
            moves.begin(core, configuration, instance, master, self.goal);
            part(core, configuration, instance, master, moves)
        });
        if installed.is_err() {
            // Guests that had the master's streams keep them until a reset: hardware may still read their entries, or have
            // something of theirs cached.
            self.give_up(configuration, [ready.old, new]);
            Retired::free([ready.published.take()], &core.readers, || core.platform.relax());
        }
        installed
    }

    /// Makes the entries of the master, which is at `bound`, say what the goal asks for over the same tables.
    fn restate(
        &self,
        configuration: &mut Configuration<P>,
        bound: Bound,
        moves: &mut Moves,
    ) -> Result<(), Failure> {
        let (core, instance, master) = (self.core, self.instance, self.master);
        let place = configuration.places.get(bound.place);
        let tables = place.and_then(|place| place.space.stage_2(place.tag));
        let (nested, entered) =
            moves.enter(configuration, master, instance.features(), tables, self.goal);
        let nested = core.guests_entry(nested);
        moves.end(configuration, master);
        let mut done = Ok(());
        if let Some(state) = configuration.masters.get_mut(master) {
            let before = state.stream();
            state.nested = nested;
            done = install::restate(core, instance, state, before);
        }
        if entered.is_some() {
            Retired::free([entered], &core.readers, || core.platform.relax());
        }
        let done = done.and_then(|()| {
            moves.begin(core, configuration, instance, master, self.goal);
            part(core, configuration, instance, master, moves)
        });
        if done.is_err() {
            self.give_up(configuration, [Some(bound), None]);
        }
        done
    }

    /// The instance did not confirm a change between these seats: blocks the master in memory, and notes that it is stuck.
    #[cold]
    #[inline(never)]
    fn give_up(&self, configuration: &mut Configuration<P>, seats: [Option<Bound>; 2]) {
        if let Some(state) = configuration.masters.get_mut(self.master) {
            state.block_streams(&self.core.platform, self.instance);
            state.switch_off(self.core);
            state.set_slot(self.substream(), Slot::Stuck(seats));
        }
    }

    /// The master as a user whose devices are among the targets.
    fn among_targets(&self) -> Option<User> {
        self.has_devices().then(|| self.user())
    }

    /// Flushes the old space's tag if nobody uses it any more, takes it off the targets, and waits until no unmap uses those.
    fn commit(
        &self,
        configuration: &mut Configuration<P>,
        ready: &mut Ready,
    ) -> Result<(), Failure> {
        let (core, instance, user) = (self.core, self.instance, self.among_targets());
        let old = ready.old.map(|old| old.place);
        let emptied = ready.old.is_some_and(|old| configuration.quit(old.place, old.at));
        let mut settled = Ok(());
        if emptied && let Some(place) = old.and_then(|old| configuration.places.get(old)) {
            // The flush comes before the place leaves the targets: a tag that no target names is in no cache.
            settled = flush(core, instance, place.tag);
        }
        // Where others keep the place, or it is held from here on, only this master's devices leave the targets.
        let left = old.filter(|_| emptied && settled.is_ok() && ready.leaving.is_some());
        let mut withdrawn = None;
        if (left.is_some() || user.is_some())
            && let (Some(old), Some(targets)) = (old, ready.leaving.take())
        {
            withdrawn = configuration.withdraw_for(old, targets, left.is_some(), user);
        }
        let retired = [ready.published.take(), withdrawn];
        Retired::free(retired, &core.readers, || core.platform.relax());
        if let Some(place) = left {
            drop(configuration.forget(core, place));
        }
        if old.is_some() && self.has_devices() {
            settled = settled.and_then(|()| settle(core, instance));
        }
        settled
    }
}

/// The change as traces describe it.
#[inline]
fn described<P: Platform>(
    configuration: &Configuration<P>,
    master: usize,
    substream: u32,
    goal: &Goal<'_, P>,
) -> Option<Change> {
    let state = configuration.masters.get(master)?;
    let (instance, stream) = (state.instance, *state.streams.first()?);
    let substream = (substream != WITHOUT).then_some(SubstreamId(substream));
    Some(match goal {
        Goal::Blocked | Goal::Unbind(_) => Change::Detach { instance, stream, substream },
        Goal::Identity => Change::Attach { instance, stream, substream, space: None },
        Goal::Space(space) | Goal::Bind(space, _) => {
            Change::Attach { instance, stream, substream, space: Some(space.id) }
        }
        Goal::Nest(nesting) => {
            Change::Attach { instance, stream, substream, space: Some(nesting.space.id) }
        }
    })
}

/// How many more targets a space may have once a master has entered it: the new one, and one in another bank.
const MORE: usize = 2;

/// The place that `seat` names, and whether it was made for that. There is [room](Configuration::make_room) for it. Fails
/// only if no ASID or VMID is free, and then the search for the seat had changed no tag.
fn enter<P: Platform>(
    configuration: &mut Configuration<P>,
    instance: InstanceId,
    space: &Shared<Space<P>>,
    seat: Seat,
) -> Result<(usize, bool), AttachError> {
    let asids = &mut configuration.asids;
    let (tag, shared) = match seat {
        Seat::At(place) => return Ok((place, false)),
        Seat::New { vmid, number: Number::Free } => {
            let bits = asids.bits_of_new(instance);
            let free = asids.allocate(instance, vmid);
            (free.ok_or(AttachError::NoAsid { instance, bits })?, false)
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
    let users = mem::take(&mut configuration.first_user);
    let place = Place { space: space.clone(), instance, tag, shared, users };
    Ok((configuration.places.insert(place), true))
}

/// Takes the streams of a master, whose entries say something else now, from the guests that had them. A guest without
/// streams can invalidate nothing, so all that is cached under its VMID is invalidated first, and if that fails it keeps them; and
/// afterwards none of its commands that name those streams is under way.
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
    if tags.clone().next().is_some() {
        instance.carry_out_shared(&core.platform, instance.invalidation(tags, Scope::All))?;
    }
    let left = moves.leave(configuration, master);
    if left.iter().any(Option::is_some) {
        Retired::free(left, &core.readers, || core.platform.relax());
        // Commands that the guests gave before may still be in the queue of any CPU.
        settle(core, instance)?;
    }
    Ok(())
}
