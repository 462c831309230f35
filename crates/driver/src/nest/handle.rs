// SPDX-License-Identifier: MIT OR Apache-2.0
//! The SMMU of a guest, as its hypervisor holds it.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;

use smmuv3_formats::{Command, EventRecord, Opcode, Ste, StreamId};

use crate::attach::{AttachError, Goal, change};
use crate::compatibility::Mismatch;
use crate::devices::{entry_changed, is_of_device};
use crate::domain::Domain;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::event::Event;
use crate::features::IdRegisters;
use crate::instance::Instance;
use crate::iommu::{Core, Iommu, Smmu};
use crate::master::Master;
use crate::mutation::Mutation;
use crate::nest::state::{Given, NestState, Nesting};
use crate::nest::{
    Cause, Forwarded, Forwarder, Guest, Illegal, Owner, Request, Stop, Streams, event,
};
use crate::place::WITHOUT;
use crate::platform::Platform;
use crate::room::Room;
use crate::shared::{NoMemory, Shared};
use crate::space::Space;

/// Commands for the host's queue that one call makes of a guest's at most.
pub const LARGEST_FORWARD: usize = 32;

/// How a guest's SMMU is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NestConfig {
    /// What the guest reads of it; `None` for as much as there is ([`Guest::offer`]), with [`NestConfig::stalls`] and
    /// [`NestConfig::page_requests`]. Page requests (IDR0.PRI) may be among it if the latter says how many. Where a guest turns ATS
    /// on, it is on for masters that have it: full or split-stage ATS, as [`MasterConfig::ats`](crate::MasterConfig::ats) says.
    ///
    /// With stalls (IDR0.STALL_MODEL as the host's), IDR5.STALL_MAX is how many may wait for the guest's answer at once:
    /// not more than [`Features::most_stalls`](crate::features::Features::most_stalls), and less where others' devices stall
    /// behind the same instance.
    pub shown: Option<IdRegisters>,
    /// Where `shown` is `None`: how many stalled transactions may wait for the guest's answer at once, if the instance
    /// stalls, and at most as many as it has room for ([`InstanceConfig::stalls`](crate::InstanceConfig::stalls), of which one guest has
    /// half at most: what stalls beyond that is aborted); 0 to show it an
    /// SMMU without, which takes an instance that can do without (not IDR0.STALL_MODEL = 0b10). Each is handed on by
    /// [`Nest::show`].
    ///
    /// Contexts of the guest stall where their master does ([`MasterConfig::stalls`](crate::MasterConfig::stalls)); those
    /// of others may not say so (C_BAD_CD).
    pub stalls: u32,
    /// How many groups of page requests (PRI) may wait for the guest's answer at once, if the instance takes them, and at most as many
    /// as it has room for ([`InstanceConfig::page_request_queue_log2`](crate::InstanceConfig::page_request_queue_log2)), of which
    /// one guest has half at most: what is asked beyond that is to be asked again. 0 to show it an SMMU without. Each is handed
    /// on by [`Nest::show_pages`].
    ///
    /// Devices of the guest ask where its entry turns ATS on and their master has page requests
    /// ([`MasterConfig::page_requests`](crate::MasterConfig::page_requests)). Whether answers carry PASIDs is said there, and
    /// not by the guest's STE.PPAR.
    pub page_requests: u32,
    /// All devices that are given to the guest snoop CPUs' caches, whatever memory types the guest chooses. Where this is
    /// not known, the domain must have [`forced_types`](crate::DomainConfig::forced_types): else the guest
    /// could read what memory held before it was cleared.
    pub snooped: bool,
}

impl NestConfig {
    /// As much as there is, over a domain with forced types.
    pub const fn new() -> Self {
        Self { shown: None, stalls: 0, page_requests: 0, snooped: false }
    }

    /// With what the guest is shown.
    #[must_use]
    pub const fn with_shown(mut self, shown: IdRegisters) -> Self {
        self.shown = Some(shown);
        self
    }

    /// With stalls that the guest answers, so many at once.
    #[must_use]
    pub const fn with_stalls(mut self, most: u32) -> Self {
        self.stalls = most;
        self
    }

    /// With page requests that the guest answers, so many groups at once.
    #[must_use]
    pub const fn with_page_requests(mut self, most: u32) -> Self {
        self.page_requests = most;
        self
    }

    /// With devices that snoop.
    #[must_use]
    pub const fn with_snooped(mut self) -> Self {
        self.snooped = true;
        self
    }
}

impl Default for NestConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Why there is no SMMU for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NestError {
    /// The domain is not one of stage 2 for guests ([`DomainConfig::guests`](crate::DomainConfig::guests)).
    NotForGuests,
    /// The instance was removed, or instance and domain are not of one `Iommu`.
    Foreign,
    /// The instance cannot walk the domain's tables.
    Mismatch(Mismatch),
    /// The domain does not force memory types, and devices are not known to snoop ([`NestConfig::snooped`]).
    Types,
    /// The instance cannot nest, or what the guest is to be shown is more than it can be.
    Illegal(Illegal),
    /// A guest has one over this domain on this instance, or its masters still do: all that is over one domain has one
    /// VMID, in which ASIDs are one guest's.
    Taken,
    /// No memory.
    NoMemory,
}

impl From<NoMemory> for NestError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for NestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotForGuests => f.write_str("the domain is not one of stage 2 for guests"),
            Self::Foreign => f.write_str("instance and domain belong to different Iommus"),
            Self::Mismatch(what) => what.fmt(f),
            Self::Types => f.write_str("the guest could choose types that do not snoop"),
            Self::Illegal(illegal) => illegal.fmt(f),
            Self::Taken => f.write_str("there is a guest over this domain on this instance"),
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for NestError {}

impl<P: Platform> Iommu<P> {
    /// The SMMU of a guest whose memory `domain` is, a domain of stage 2 for guests, on the instance `smmu`. A guest with
    /// devices behind several instances has one for each, over the same domain.
    ///
    /// # Errors
    /// See [`NestError`].
    pub fn nest(
        &self,
        smmu: &Smmu<P>,
        domain: &Domain<P>,
        config: NestConfig,
    ) -> Result<Nest<P>, NestError> {
        let (core, space, id) = (&self.core, &domain.space, smmu.id);
        // Of another `Iommu` the handle keeps nothing here.
        let ours = smmu.core.is(core) && space.core.is(core);
        let instance = ours.then(|| core.instances.get(id)).flatten();
        let instance = instance.filter(|_| !core.instances.is_removed(id));
        let Some(instance) = instance else { return Err(NestError::Foreign) };
        // VMID 1 stands in: the real one is chosen when the first master is attached.
        let own = space.own().filter(|own| own.guests);
        let Some((own, tables)) = own.and_then(|own| Some((own, own.stage_2(1)?))) else {
            return Err(NestError::NotForGuests);
        };
        let features = instance.features();
        space.fits(features).map_err(NestError::Mismatch)?;
        if !own.forces_types() && !config.snooped {
            return Err(NestError::Types);
        }
        let shown = match config.shown {
            Some(shown) => shown,
            None => {
                let ste = crate::entry::Stream::Stage2(tables).encode(features);
                let parent = crate::nest::Parent::new(ste, features).map_err(NestError::Illegal)?;
                let mut shown = Guest::offer(features, &parent);
                if features.can_stall() {
                    let most = config.stalls.min(features.most_stalls);
                    let model = if most == 0 { 1 } else { features.stall_model() };
                    shown.idr0 = shown.idr0.with_stall_model(model);
                    shown.idr5 = shown.idr5.with_stall_max(most.into());
                }
                if let Some(queue) = instance.page_requests().filter(|_| config.page_requests != 0)
                {
                    shown.idr0 = shown.idr0.with_pri(true);
                    shown.idr1 = shown.idr1.with_priqs(queue.size().log2().into());
                }
                shown
            }
        };
        // The guest relies on what it is shown, so it must be true.
        let (stalls, most) = (shown.idr0.stall_model() != 1, shown.idr5.stall_max());
        let asked = config.page_requests != 0 && instance.page_requests().is_some();
        for (field, wrong, value) in [
            ("IDR0.ATS", shown.idr0.ats() && !features.ats, 1),
            ("IDR0.PRI", shown.idr0.pri() && !asked, 1),
            ("IDR5.STALL_MAX", stalls && most > features.most_stalls.into(), most),
            ("IDR5.STALL_MAX", stalls && most == 0 && features.can_stall(), 0),
        ] {
            if wrong {
                let text = "guests have ATS where the host has it, page requests if it says how many, and as \
                            many stalls as there are, or none";
                return Err(NestError::Illegal(Illegal::new("2.3", field, text, value)));
            }
        }
        let shown = (shown, config.page_requests);
        let state = NestState::new(space.id, id, features, tables, shown)?;
        let state = Shared::new(state.map_err(NestError::Illegal)?)?;
        core.configuration.with(|configuration| {
            let here = |nest: &NestState| nest.space == space.id && nest.instance == id;
            let masters = configuration.masters.iter();
            // `former` as well: where an instance did not confirm that a master left a guest, hardware may still read
            // that guest's entries.
            let mut nests = masters.flat_map(|(_, it)| it.nest.iter().chain(&it.former));
            let live = own.nests.load(Ordering::Relaxed) & id.bit() != 0;
            if live || nests.any(|nest| here(nest)) {
                return Err(NestError::Taken);
            }
            own.nests.fetch_or(id.bit(), Ordering::Relaxed);
            Ok(Nest { core: core.clone(), space: space.clone(), state, smmu: smmu.clone() })
        })
    }
}

/// An SMMU that a guest has for itself, over the stage 2 of its memory.
///
/// The hypervisor shows the guest [`Nest::guest`]'s registers, and keeps its queues and its table of streams for it:
/// * when the guest's entry of a stream becomes known, or changes ([`Stop::Entries`](crate::nest::Stop::Entries)),
///   [`Nest::attach`];
/// * when the guest moves CMDQ_PROD, [`Nest::forward`], until it says that there are no more;
/// * of each event that [`Iommu::handle_interrupt`] reports, [`Nest::owner`];
/// * where it is shown stalls, of each transaction that has stalled, [`Nest::show`];
/// * where it is shown page requests, of each group of them, [`Nest::show_pages`], and when a device uses a PASID no more,
///   [`Nest::stopped`].
///
/// Dropping it aborts what the guest was to answer, and leaves its masters as they are; each is taken from the guest by any
/// other attach, or a detach.
pub struct Nest<P: Platform> {
    pub(super) core: Shared<Core<P>>,
    space: Shared<Space<P>>,
    pub(super) state: Shared<NestState>,
    /// The instance stays, and its number is no other's.
    pub(super) smmu: Smmu<P>,
}

impl<P: Platform> Nest<P> {
    /// The instance that it is on.
    pub fn instance(&self) -> InstanceId {
        self.state.instance
    }

    /// Number of the domain that it is over.
    pub fn domain(&self) -> usize {
        self.space.id
    }

    /// What the guest is shown, and what its entries are judged by. The VMID in it may be another than that of the
    /// guest's translations.
    pub fn guest(&self) -> &Guest {
        &self.state.blank
    }

    /// Lets `master` do what the guest's entry `ste` asks for, over the domain: its stage 1 with contexts and tables in the
    /// guest's memory, nothing but the domain, or nothing at all. `streams` are the guest's numbers of the master's, in
    /// the same order. It may have been attached otherwise before, or by another entry.
    ///
    /// When it has returned, no access is subject to the former entry. From what aborts, and wherever one word of the
    /// entry decides, no access is refused that both allow; elsewhere the entry is invalid for a moment (§8.2), and wherever
    /// the master's faults stall it aborts in between, so that what stalled before is told from what stalls then.
    ///
    /// An illegal entry is refused, and changes nothing: the guest's SMMU would refuse all accesses by C_BAD_STE. An
    /// entry that is all zero does that.
    ///
    /// # Errors
    /// [`AttachError::Illegal`], with the field; else as [`Iommu::attach`].
    pub fn attach(
        &self,
        master: &Master<P>,
        streams: &[StreamId],
        ste: &Ste,
    ) -> Result<(), AttachError> {
        if !master.core.is(&self.core) {
            return Err(AttachError::Foreign);
        }
        let request = Request::decode(ste, &self.state.blank);
        #[cfg(feature = "mutation")]
        let request = match request {
            Err(_) if self.core.leaves_out(Mutation::GuestsEntry) => Ok(Request::Bypass),
            other => other,
        };
        let request = request.map_err(AttachError::Illegal)?;
        let mut own = Vec::new();
        own.room_exact(streams.len())?;
        own.put_all(streams.iter().copied());
        let (space, state) = (self.space.clone(), self.state.clone());
        let nesting = Nesting { space, state, request, streams: own };
        change(&self.core, master.index, WITHOUT, &Goal::Nest(&nesting)).map(drop)
    }

    /// Carries a piece of the guest's commands out: those of `commands`, which are in its queue from its CONS on, up to
    /// where [`Forwarder::forward`] stops, and until [`LARGEST_FORWARD`] commands for the host's queue are made of them or
    /// [`LARGEST_LOOK`](crate::nest::LARGEST_LOOK) were looked at.
    /// When it has returned, all `consumed` commands are complete, also the CMD_SYNC or the answer that it stopped behind; the
    /// caller lets the guest's CONS go on by that many. An answer ([`Stop::Answer`]) is given to what the guest is shown and has
    /// not answered, and any other does nothing.
    ///
    /// A device that does not answer when it is to forget what it keeps is put in quarantine
    /// ([`Master::is_quarantined`]), and the guest's commands count as complete: it reaches nothing any more.
    ///
    /// Several CPUs may carry out commands of several queues at once, each with a `Forwarder` of its own. Never waits for an
    /// attach. However many commands a guest gives, and whichever, this waits for one batch of them, or for room for the answers
    /// of one that answers stalls, as many at most as there may be; and keeps an attach waiting no longer than it takes to look
    /// at those.
    ///
    /// # Errors
    /// [`Unconfirmed`] when the instance did not carry them out; the forwarder has not moved.
    pub fn forward(
        &self,
        forwarder: &mut Forwarder,
        commands: &[Command],
    ) -> Result<Forwarded, Unconfirmed> {
        let (core, state) = (&self.core, &self.state);
        let (platform, id) = (&core.platform, state.instance);
        let unconfirmed = |what| Unconfirmed::new(id, what);
        let instance = self.smmu.hardware();
        let queue = instance.commands();
        let most = queue.largest_batch().min(LARGEST_FORWARD);
        let mut out = [Command([0; 2]); LARGEST_FORWARD];
        let room = out.get_mut(..most).unwrap_or_default();
        let mut second = false;
        loop {
            let mut next = *forwarder;
            // Inside a reader's section the streams that the commands name stay the guest's until the commands are in
            // the queue.
            let (done, ticket, _asked) = core.readers.read(platform.cpu(), &state.given, |given| {
                let guest = given.guest.as_ref().unwrap_or(&state.blank);
                let mut done = next.forward(guest, given, commands, room);
                self.wrongly(&mut done, commands, room);
                if given.guest.is_none() {
                    // A guest without streams has nothing cached, so none of its commands is needed.
                    done.produced = 0;
                }
                let (left, asks) = spare_silent(platform, instance, room, done.produced);
                done.produced = left;
                let asked = asks.then(|| queue.devices_are_asked());
                let made = room.iter().take(done.produced).copied();
                let made = made.map(|command| core.forwarded(command));
                let ticket = match done.produced {
                    0 => Ok(None),
                    _ => match queue.try_submit(platform, instance.mmio(), &mut { made }) {
                        Ok(Some(ticket)) => Ok(Some(ticket)),
                        Ok(None) => Err(None),
                        Err(failure) => Err(Some(failure)),
                    },
                };
                (done, ticket, asked)
            });
            match ticket {
                Ok(None) => {}
                Ok(Some(ticket)) => match instance.wait(platform, ticket) {
                    Err(failure) if is_of_device(&failure) => {
                        let commands = room.iter().take(done.produced);
                        for command in commands.copied() {
                            self.forward_one(instance, command).map_err(unconfirmed)?;
                        }
                    }
                    other => {
                        other.map_err(unconfirmed)?;
                        if queue.repeats() && !core::mem::replace(&mut second, true) {
                            continue;
                        }
                    }
                },
                Err(Some(failure)) => return Err(unconfirmed(failure)),
                Err(None) => {
                    let room = queue.wait_for_room(platform, instance.mmio(), done.produced);
                    room.map_err(unconfirmed)?;
                    platform.relax();
                    continue;
                }
            }
            // The answer is given only after all commands before it are complete.
            if let Stop::Answer(answer) = done.stop {
                self.answer(instance, answer).map_err(unconfirmed)?;
            }
            *forwarder = next;
            return Ok(done);
        }
    }

    /// What a wrong driver would do where a command is not accepted.
    fn wrongly(&self, done: &mut Forwarded, commands: &[Command], room: &mut [Command]) {
        let Stop::Refused { index, .. } = done.stop else { return };
        if self.core.leaves_out(Mutation::GuestsBatch) {
            done.produced = 0;
        }
        if self.core.leaves_out(Mutation::GuestsCommands)
            && let Some((slot, command)) = room.get_mut(done.produced).zip(commands.get(index))
        {
            *slot = *command;
            (done.consumed, done.produced, done.stop) = (index + 1, done.produced + 1, Stop::Full);
        }
    }

    /// Carries out one command of a batch in which a device did not answer an ATC_INV. Which one is not known, nor
    /// whether the other commands are complete (§3.2), so each is given by itself.
    #[cold]
    fn forward_one(&self, instance: &Instance<P>, command: Command) -> Result<(), Failure> {
        let core = &self.core;
        let (platform, queue) = (&core.platform, instance.commands());
        let stream = named(&command);
        let of_device = command.is(Opcode::AtcInv);
        let (mut again, mut silent) = (queue.repeats(), false);
        let _asked = of_device.then(|| queue.devices_are_asked());
        // A stream that this call has put in quarantine.
        let mut found = None;
        loop {
            let placed = core.readers.read(platform.cpu(), &self.state.given, |given| {
                // The stream may have been taken from the guest meanwhile.
                if stream.is_some_and(|stream| given.guest(stream).is_none()) {
                    return Ok(None);
                }
                let (mut one, mut cut_off) = (command, false);
                if let Some(stream) = stream.filter(|_| of_device) {
                    if silent
                        && !instance.is_quarantined(platform, stream)
                        && instance.quarantine(platform, stream)
                    {
                        found = Some(stream);
                    }
                    if instance.is_quarantined(platform, stream) {
                        // Even if another call put it there: that call may not have completed its CFGI yet.
                        (one, cut_off) = (entry_changed(stream), true);
                    }
                }
                let placed =
                    queue.try_submit(platform, instance.mmio(), &mut core::iter::once(one));
                placed.map(|ticket| Some((ticket, cut_off)))
            });
            if let Some(stream) = found.take() {
                instance.tell_of(platform, stream);
            }
            match placed? {
                None => return Ok(()),
                Some((None, _)) => {
                    queue.wait_for_room(platform, instance.mmio(), 1)?;
                    platform.relax();
                }
                Some((Some(ticket), cut_off)) => {
                    // An ATC_INV is never repeated.
                    let once = of_device && !cut_off;
                    match instance.wait(platform, ticket) {
                        Err(failure) if is_of_device(&failure) && once => silent = true,
                        // The error is another device's: this command is complete.
                        Err(failure) if !is_of_device(&failure) => return Err(failure),
                        _ if !once && core::mem::take(&mut again) => {}
                        _ => return Ok(()),
                    }
                }
            }
        }
    }

    /// Whose `event` is: the guest's own record of it, or why not. What an SMMU recorded before an attach gave the stream to the
    /// guest, and while it did so, is not ([`Cause::Before`]), whenever it is read. It says of a stall that it was aborted
    /// (Stall = 0), as it is by [`Report::Aborted`](crate::Report::Aborted): what waits is the guest's by [`Nest::show`] alone.
    pub fn owner(&self, event: &Event) -> Owner {
        if event.instance() != self.state.instance {
            return Owner::Host(Cause::Stream);
        }
        let cpu = self.core.platform.cpu();
        self.core.readers.read(cpu, &self.state.given, |given| {
            match event::owner(event, &self.state.blank, given) {
                Owner::Guest(_) if !self.is_since(given, event) => Owner::Host(Cause::Before),
                Owner::Guest(told) if told.stall() => {
                    Owner::Guest(told.with_stall(false).with_stag(0))
                }
                owner => owner,
            }
        })
    }

    /// What the guest is to be told of a fault of stage 2 that nothing can be done about: [`event::blamed`]. Nothing of what is
    /// not the guest's ([`Nest::owner`]).
    pub fn blamed(&self, event: &Event) -> Option<EventRecord> {
        if event.instance() != self.state.instance {
            return None;
        }
        let cpu = self.core.platform.cpu();
        self.core.readers.read(cpu, &self.state.given, |given| {
            event::blamed(event, &self.state.blank, given).filter(|_| self.is_since(given, event))
        })
    }

    /// Whether `event` was recorded since its stream is the guest's.
    pub(super) fn is_since(&self, given: &Given, event: &Event) -> bool {
        if self.core.leaves_out(Mutation::EventsBefore) {
            return true;
        }
        // The field has 32 bits.
        given.since(StreamId(event.sid() as u32)).is_some_and(|since| event.number() >= since)
    }
}

/// The host's stream that a command of its queue names.
pub(super) fn named(command: &Command) -> Option<StreamId> {
    // The field has 32 bits.
    command.field("SID").map(|sid| StreamId(sid as u32))
}

/// Has devices in quarantine told nothing by the first `count` of `commands`: they do not answer. Instead hardware is to
/// notice the quarantine, once, which whoever found out may not have waited for yet. Nor are those told that keep nothing,
/// and may be on their way to somebody else. How many commands are left, and
/// whether devices are asked by them.
///
/// A device whose ATS is off while its entry still allows it is told, by the driver as well: that is the order (§8.2), and it
/// says that it does not support the request, which is no error (§4.1).
fn spare_silent<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    commands: &mut [Command],
    count: usize,
) -> (usize, bool) {
    let (mut left, mut asked) = (0, false);
    for at in 0..count.min(commands.len()) {
        let Some(mut command) = commands.get(at).copied() else { break };
        if command.is(Opcode::AtcInv)
            && let Some(stream) = named(&command)
        {
            if instance.is_quarantined(platform, stream) {
                command = entry_changed(stream);
                if commands.iter().take(left).any(|before| *before == command) {
                    continue;
                }
            } else if !instance.may_keep(platform, stream) {
                continue;
            } else {
                asked = true;
            }
        }
        if let Some(slot) = commands.get_mut(left) {
            *slot = command;
            left += 1;
        }
    }
    (left, asked)
}

impl<P: Platform> Drop for Nest<P> {
    fn drop(&mut self) {
        self.abandon();
        if let Some(own) = self.space.own() {
            own.nests.fetch_and(!self.state.instance.bit(), Ordering::Relaxed);
        }
    }
}
